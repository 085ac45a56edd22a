/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks - asking the plugins: chains, requests, deadlines, events
 *
 * Threads:   everything on the worker that asks; resolving is the host table's matter.
 * Ownership: a struct decision and what it points to is valid inside the callback, or until
 *            decision_release for an answer that came at once.
 * Bounded:   max_pending per instance (then UNAVAILABLE), deadline per request.
 */
#ifndef BROKER_PLUGIN_HOOKS_H
#define BROKER_PLUGIN_HOOKS_H

#include "core/worker.h"
#include "plugin/host_pure.h"
#include <grapnel/plugin.h>

struct instance; /* plugin/instance.h */

/* What the embedded handle of a client is. In each session and, until it is attached, each connection. */
struct event_copy;
struct client_kept {
	struct event_copy *events; /* queued events that name this client */
	uint32_t slot_count;
	void *slots[];	/* by instance number */
};
struct grapnel_client {
	struct client_kept *kept; /* NULL: nothing yet, as for most clients */
};
/* With at least that many slots; NULL: no memory. */
struct client_kept *client_kept(struct grapnel_client *c, uint32_t slot_count);
/* Every handle ends here, before its memory goes: runs the slots' destructors, queued events forget the client. */
void client_slots_free(struct worker *w, struct grapnel_client *c);
/* A connection attaches: what `from` has goes to `to` (a slot that both have: the newer one, from's, stays); from is empty after. */
void client_slots_move(struct worker *w, struct grapnel_client *to, struct grapnel_client *from);

/* The start of struct hook_state, for the branch in the hot path. */
struct hook_state_head {
	uint16_t chain_length[HOOK_COUNT];
	uint64_t event_mask; /* events that at least one instance wants */
	bool events_blocked; /* a lossless queue is full: do not read from publishers */
	struct traces *traces; /* plugin/trace.h; NULL: nobody is traced */
};
static inline bool
hook_used(const struct worker *w, enum hook h)
{
	return ((const struct hook_state_head *)(const void *)w->hooks)->chain_length[h] != 0;
}
static inline bool
event_wanted(const struct worker *w, enum grapnel_event_type type)
{
	return (((const struct hook_state_head *)(const void *)w->hooks)->event_mask & GRAPNEL_EVENT_BIT(type)) != 0;
}
static inline bool
events_blocked(const struct worker *w)
{
	return ((const struct hook_state_head *)(const void *)w->hooks)->events_blocked;
}

enum step_how {
	STEP_ASKED,
	STEP_KEPT,	/* an earlier answer, age_ms old */
	STEP_SHARED,	/* the answer to an equal question that was under way */
	STEP_STALE,	/* an older answer, since its backend is in trouble */
	STEP_NOT_ASKED, /* its breaker is open */
	STEP_OTHER_LISTENER, /* it is for the clients of others */
};
/* One line of the record of a decision: kept when asked, for explain and traces. */
struct decision_step {
	const struct instance *instance;
	enum grapnel_verdict verdict;
	uint8_t how; /* enum step_how */
	uint32_t age_ms;
	uint32_t microseconds;
	struct grapnel_str rule; /* acl_check: what the plugin named; .data NULL: nothing */
};
#define DECISION_STEPS 16

struct decision {
	enum grapnel_verdict verdict; /* ALLOW, DENY, UNAVAILABLE; NEXT: nobody decided (end of chain) */
	const char *plugin;	      /* name of the instance that decided; NULL: nobody */
	bool answered;		      /* it attached details */
	/* the answer's details, by kind of hook; never NULL, zeroed when the plugin attached none */
	const struct grapnel_auth_answer *auth;
	const struct grapnel_acl_answer *acl;
	const struct grapnel_publish_answer *publish; /* merged over the chain; valid with ALLOW */
	const struct grapnel_subscribe_answer *subscribe; /* merged over the chain */
	const struct grapnel_ack_answer *ack;
	const struct grapnel_psk_answer *psk; /* whoever copies the key wipes the copy */
	const struct decision_step *steps; /* who was asked, in order; the first DECISION_STEPS of them */
	unsigned step_count;
	struct grapnel_request *request; /* internal */
};
typedef void (*decision_fn)(void *arg, const struct decision *d);

/*
 * Ask the chain of hook h. `question` is the SDK's struct for that hook; all it points to must stay valid until
 * the call returns (it is copied if a plugin answers PENDING).
 *
 * @param only  NULL, or the name of the one instance to ask (client_revalidate; AUTH after the first exchange).
 * @return true: decided now, *now is filled and must be given to decision_release;
 *         false: fn(arg, d) runs later on this worker, exactly once, unless hooks_cancel comes first; *pending is the handle.
 * UNAVAILABLE is also the answer when max_pending is reached or memory is short.
 */
bool hooks_ask(struct worker *w, enum hook h, const void *question, const char *only, decision_fn fn, void *arg,
    struct decision *now, struct grapnel_request **pending);
/* The same as a dry run: kept answers are looked at, but nothing is kept, counted against a breaker or recorded. */
bool hooks_explain(struct worker *w, enum hook h, const void *question, decision_fn fn, void *arg, struct decision *now,
    struct grapnel_request **pending);
void decision_release(struct decision *d);
/* The asker no longer wants the answer: fn will not run; the plugin is told. NULL is fine. */
void hooks_cancel(struct worker *w, struct grapnel_request *pending);
/* Every decision is logged at debug with each of its steps, and kept for a client under trace: plugin/trace.h. */

/* The part of a worker that belongs to plugins; plugins_start makes it where it is missing, the last plugins_free frees it. */
int hooks_new(struct worker *w); /* chains empty, no events wanted. GRAPNEL_ENOMEM */
void hooks_free(struct worker *w); /* NULL hooks are fine */

/* Emit an event: copied into the queues of those that want it. Call only if event_wanted. size, id and time are filled here. */
void event_emit(struct worker *w, struct grapnel_event *ev);

/* ---- the set of plugins: main thread ------------------------------------------------------- */
struct conf_errors;
struct settings;
struct plugins;
/* Load and create every enabled plugin of settings (all errors are collected); no worker knows them yet. */
int plugins_new(struct broker *b, struct settings *s, struct conf_errors *errs, struct plugins **out);
void plugins_free(struct plugins *p); /* never started, or stopped. The last one also frees the workers' hooks: their threads have ended */
/*
 * At start, before the workers' threads run: each worker's hook_state with its chains, and a mail to each worker, the
 * first it gets, that runs worker_start of every instance there.
 */
int plugins_start(struct plugins *p);
/* ready runs on main when worker_start has returned everywhere; err != GRAPNEL_OK: one failed (it is logged), call plugins_stop. */
void plugins_ready(struct plugins *p, void (*ready)(void *arg, int err), void *arg);
/*
 * Reload: create what changed (and what is reload_always), check all, keep the rest. GRAPNEL_OK: *out is a set that
 * plugins_switch can put in force; it shares unchanged instances with the old one.
 */
int plugins_prepare(struct plugins *old, struct settings *s, struct conf_errors *errs, struct plugins **out);
/*
 * Start the new instances on every worker, switch the chains, stop and destroy what is gone once its requests are
 * resolved. done runs on main: with GRAPNEL_OK when all workers have switched (neu is in force), else a worker_start failed
 * (it is logged) and old goes on. Takes over the set that loses; it is freed when nothing of it is left. One at a time.
 */
void plugins_switch(struct plugins *old, struct plugins *neu, void (*done)(void *arg, int err), void *arg);
/* Shutdown, after the workers' connections are gone and while their loops still run: worker_stop everywhere, then done on main. */
void plugins_stop(struct plugins *p, void (*done)(void *arg), void *arg);

bool plugins_have(const struct plugins *p, enum hook h); /* is anybody in that chain? */

/* ---- for the admin API (main thread) -------------------------------------------------------- */
struct json_t;
struct json_t *plugins_json(const struct plugins *p, const char *name /* NULL: all */); /* order per hook, verdict counters, latency, pending, options (secrets hidden) */
/* One line per call, without its newline; stops when line returns non-zero, and returns that. */
int plugins_metrics(const struct plugins *p, int (*line)(void *ctx, const char *text), void *ctx); 
/* Forget kept answers, of one instance or (plugin NULL) of all, about that user and client (.data NULL: any). GRAPNEL_ENOENT: no such plugin. */
int plugins_cache_purge(struct plugins *p, const char *plugin, struct grapnel_str username, struct grapnel_str client_id,
    uint64_t *forgotten);
/*
 * Forget what instances of that name have kept. GRAPNEL_ENOENT: nothing; GRAPNEL_ESTATE: one runs; else *forgotten says how many
 * went, perhaps not all (GRAPNEL_ENOMEM).
 */
int plugins_values_forget(struct plugins *p, const char *name, uint32_t *forgotten);
enum command_end {
	COMMAND_RAN,	 /* err: what it returned; given, text: what it replied (.data NULL: no memory for it) */
	COMMAND_UNKNOWN, /* no plugin offers it */
	COMMAND_LATE,	 /* the plugin took longer than limit_ms */
	COMMAND_GONE,	 /* the plugin has gone without an answer */
};
struct command_result {
	enum command_end end;
	int err;
	bool given;
	struct grapnel_str text; /* borrowed */
};
typedef void (*command_done_fn)(void *arg, const struct command_result *result);
/* Run an admin command of a plugin; done is called exactly once, on main, at once or later. plugin/command.c */
void plugins_command(struct plugins *p, const struct grapnel_command *cmd, uint32_t limit_ms, command_done_fn done, void *arg);

/* ---- what hooks needs from the core; core/hostcalls.c ------------------------------------------ */
int core_publish(struct broker *b, const struct grapnel_publication *pub);	/* any thread */
int core_kick(struct broker *b, struct grapnel_str mountpoint, struct grapnel_str client_id, uint8_t reason_code); /* any thread */
int core_client_find(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id,
    void (*fn)(void *arg, const struct grapnel_client_info *info), void *arg); /* fn on w; does not outlive cancel: see .c */
struct grapnel_sub *core_subscribe(struct worker *w, struct grapnel_str filter, grapnel_message_fn fn, void *arg);
void core_unsubscribe(struct grapnel_sub *sub);
/* Walk all clients of this worker to destroy the slots of an instance that goes. */
void core_each_client(struct worker *w, void (*fn)(struct grapnel_client *c, void *arg), void *arg);
void core_rights_changed(struct broker *b); /* any thread */
/* The same for those of that user name and client id alone; .data NULL: whatever it is. GRAPNEL_ENOMEM. Any thread. */
int core_rights_ask(struct broker *b, struct grapnel_str username, struct grapnel_str client_id);
struct stream;
/* Takes s in any case. As grapnel/host.h says of connection_open. */
int core_connection_open(struct worker *w, const char *handler, const struct grapnel_connection *c, struct stream *s);
/* Other instances are in force on this worker: sockets of listeners with a handler go to them. core/conn_handled.c */
void core_handlers_changed(struct worker *w);
/* A lossless event queue has room again: read from publishers again. */
void core_resume_publishers(struct worker *w);

#endif
