/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace - the record of a decision: a line of the log, and the last ones of a client under trace
 *
 * A trace is about a Client Identifier, not about a session: it outlives reconnects, clean starts
 * and refused logins. It ends when its time is over; what it kept can be looked at for an hour
 * more. No record holds a password or a payload.
 *
 * Threads:   the home worker of the Client Identifier.
 * Ownership: strings of a record are copied.
 * Bounded:   max_traces per worker, TRACE_KEPT records each, TRACE_TEXT bytes of each
 *            string, DECISION_STEPS steps.
 */
#ifndef BROKER_PLUGIN_TRACE_H
#define BROKER_PLUGIN_TRACE_H

#include "base/log.h"
#include "hooks.h"
#include <jansson.h>

#define TRACE_KEPT        64u
#define TRACE_TEXT        256u
#define TRACE_MINUTES     10u
#define TRACE_MINUTES_MAX 1440u
#define TRACE_LOOK_MS     3600000u /* after its end */

struct record {
	enum hook hook;
	const struct grapnel_client_info *client;
	enum grapnel_action action; /* of acl_check */
	uint8_t qos;                /* of acl_check */
	struct grapnel_str topic;   /* Topic Name or Topic Filter; .data NULL: none */
	enum grapnel_verdict verdict;
	const char *plugin;      /* that decided; NULL: none did */
	struct grapnel_str rule; /* why, when it was no plugin; .data NULL: not known */
	const struct decision_step *steps;
	unsigned step_count;
};

/*
 * Begin, or go on with what it has for so many minutes from now. now_ms is monotonic, wall_us its
 * wall time. GRAPNEL_ENOMEM; GRAPNEL_EQUOTA: `max` are running.
 */
int trace_start(struct traces **ts, struct grapnel_str mountpoint, struct grapnel_str client_id,
    unsigned max, unsigned minutes, uint64_t now_ms, int64_t wall_us);
/* With what it kept. mountpoint.data NULL: under each. false: there was none. */
bool trace_stop(
    struct traces **ts, struct grapnel_str mountpoint, struct grapnel_str client_id);
/* Keep it where it belongs. true: a running trace wanted it. What is over for long is dropped. */
bool trace_add(struct traces **ts, const struct record *r, uint64_t now_ms, int64_t wall_us);
/* Set "traced_until" (seconds since 1970) and "decisions" in client; nothing without a trace. */
void trace_describe(const struct traces *ts, struct grapnel_str mountpoint,
    struct grapnel_str client_id, json_t *client);
/* Append an object per trace of this client id: for one that has no session. false: no memory. */
bool trace_describe_absent(const struct traces *ts, const char *mountpoint /* NULL: any */,
    const char *client_id, json_t *out_array);
void traces_free(struct traces **ts);
/* Who was asked, in order: [{"plugin", "verdict", "rule", "microseconds", "how", "age_ms"}]. NULL: no memory. */
json_t *decision_steps_json(const struct decision_step *first, unsigned count);

/* ---- on a worker ----------------------------------------------------------------------------- */

static inline struct traces **
worker_traces(struct worker *w)
{
	return &((struct hook_state_head *)(void *)w->hooks)->traces;
}
/* Is anybody traced here? */
static inline bool
traces_used(struct worker *w)
{
	return *worker_traces(w) != NULL;
}
/* Does anybody want records of decisions? */
static inline bool
records_used(struct worker *w)
{
	return traces_used(w) ||
	    atomic_load_explicit(&log_level, memory_order_relaxed) >= GRAPNEL_LOG_DEBUG;
}
/* Keep it, and log it: at info as "decision" when the client is under trace, else at debug. */
void record_decision(struct worker *w, const struct record *r);

#endif
