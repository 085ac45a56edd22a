/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"
#include "core/describe.h"
#include "instance.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct trace {
	struct trace *next;
	uint64_t ends_ms; /* monotonic */
	int64_t until;    /* the same in seconds since 1970 */
	json_t *records[TRACE_KEPT];
	unsigned count, newest;
	size_t mountpoint_len, id_len;
	char text[]; /* mountpoint, client id */
};
struct traces {
	struct trace *first;
	unsigned count;
};

static const char *const actions[] = { "?", "publish", "subscribe", "read", "will" };

static const char *
action_name(enum grapnel_action action)
{
	return (unsigned)action < sizeof(actions) / sizeof(actions[0]) ? actions[action] : "?";
}

/* ---- which ones there are -------------------------------------------------------------------- */

static struct grapnel_str
trace_mountpoint(const struct trace *t)
{
	return (struct grapnel_str){ t->text, t->mountpoint_len };
}

static struct grapnel_str
trace_id(const struct trace *t)
{
	return (struct grapnel_str){ t->text + t->mountpoint_len, t->id_len };
}

static bool
equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static struct trace *
trace_find(const struct traces *ts, struct grapnel_str mountpoint, struct grapnel_str client_id)
{
	struct trace *t = ts != NULL ? ts->first : NULL;

	while (
	    t != NULL && !(equal(trace_id(t), client_id) && equal(trace_mountpoint(t), mountpoint)))
		t = t->next;
	return t;
}

static void
trace_free(struct trace *t)
{
	for (unsigned i = 0; i < TRACE_KEPT; i++)
		json_decref(t->records[i]);
	free(t);
}

static void
trace_unlink(struct traces *ts, struct trace **at)
{
	struct trace *t = *at;

	*at = t->next;
	ts->count--;
	trace_free(t);
}

/* Drop what ended this long ago; without any left, tracing costs nothing again. */
static void
traces_sweep(struct traces **ts, uint64_t now_ms, uint64_t ended_ms)
{
	if (*ts == NULL)
		return;
	for (struct trace **at = &(*ts)->first; *at != NULL;) {
		if (now_ms >= (*at)->ends_ms && now_ms - (*at)->ends_ms >= ended_ms)
			trace_unlink(*ts, at);
		else
			at = &(*at)->next;
	}
	if ((*ts)->count == 0)
		traces_free(ts);
}

void
traces_free(struct traces **ts)
{
	if (*ts == NULL)
		return;
	while ((*ts)->first != NULL)
		trace_unlink(*ts, &(*ts)->first);
	free(*ts);
	*ts = NULL;
}

int
trace_start(struct traces **ts, struct grapnel_str mountpoint, struct grapnel_str client_id,
    unsigned max, unsigned minutes, uint64_t now_ms, int64_t wall_us)
{
	struct trace *t = trace_find(*ts, mountpoint, client_id);

	if (t == NULL) {
		if (*ts != NULL && (*ts)->count >= max)
			traces_sweep(ts, now_ms, 0);
		if (*ts != NULL && (*ts)->count >= max)
			return GRAPNEL_EQUOTA;
		if (*ts == NULL && (*ts = calloc(1, sizeof(**ts))) == NULL)
			return GRAPNEL_ENOMEM;
		if ((t = calloc(1, sizeof(*t) + mountpoint.len + client_id.len)) == NULL) {
			if ((*ts)->count == 0)
				traces_free(ts);
			return GRAPNEL_ENOMEM;
		}
		t->mountpoint_len = mountpoint.len;
		t->id_len = client_id.len;
		if (mountpoint.len > 0)
			memcpy(t->text, mountpoint.data, mountpoint.len);
		if (client_id.len > 0)
			memcpy(t->text + mountpoint.len, client_id.data, client_id.len);
		t->next = (*ts)->first;
		(*ts)->first = t;
		(*ts)->count++;
	}
	t->ends_ms = now_ms + (uint64_t)minutes * 60000;
	t->until = wall_us / 1000000 + (int64_t)minutes * 60;
	return GRAPNEL_OK;
}

bool
trace_stop(struct traces **ts, struct grapnel_str mountpoint, struct grapnel_str client_id)
{
	bool found = false;

	if (*ts == NULL)
		return false;
	for (struct trace **at = &(*ts)->first; *at != NULL;) {
		if (equal(trace_id(*at), client_id) &&
		    (mountpoint.data == NULL || equal(trace_mountpoint(*at), mountpoint))) {
			trace_unlink(*ts, at);
			found = true;
		} else {
			at = &(*at)->next;
		}
	}
	if ((*ts)->count == 0)
		traces_free(ts);
	return found;
}

/* ---- what is kept ---------------------------------------------------------------------------- */

/* Not in the middle of a character. */
static struct grapnel_str
cut(struct grapnel_str s)
{
	if (s.len > TRACE_TEXT) {
		s.len = TRACE_TEXT;
		while (s.len > 0 && ((unsigned char)s.data[s.len] & 0xc0) == 0x80)
			s.len--;
	}
	return s;
}

static void
set_str(json_t *o, const char *key, struct grapnel_str s)
{
	json_object_set_new(o, key, describe_str(cut(s)));
}

static void
set_text(json_t *o, const char *key, const char *text)
{
	set_str(o, key, (struct grapnel_str){ text, text != NULL ? strlen(text) : 0 });
}

static void
set_time(json_t *o, int64_t wall_us)
{
	time_t seconds = (time_t)(wall_us / 1000000);
	char text[64];
	struct tm tm;
	size_t len;

	if (gmtime_r(&seconds, &tm) == NULL ||
	    (len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm)) == 0)
		return;
	snprintf(text + len, sizeof(text) - len, ".%06uZ", (unsigned)(wall_us % 1000000));
	set_text(o, "time", text);
}

static const char *
how_name(uint8_t how)
{
	static const char *const names[] = {
		[STEP_ASKED] = "asked",
		[STEP_KEPT] = "kept",
		[STEP_SHARED] = "shared",
		[STEP_STALE] = "stale",
		[STEP_NOT_ASKED] = "not asked",
		[STEP_OTHER_LISTENER] = "other listener",
	};

	return how < sizeof(names) / sizeof(names[0]) ? names[how] : "?";
}

json_t *
decision_steps_json(const struct decision_step *first, unsigned count)
{
	json_t *steps = json_array();

	for (unsigned i = 0; steps != NULL && i < count; i++) {
		const struct decision_step *s = &first[i];
		json_t *o = json_object();

		set_text(o, "plugin", s->instance->name);
		set_text(o, "verdict", verdict_name((int)s->verdict));
		if (s->rule.data != NULL)
			set_str(o, "rule", s->rule);
		json_object_set_new(o, "microseconds", json_integer(s->microseconds));
		if (s->how != STEP_ASKED)
			set_text(o, "how", how_name(s->how));
		if (s->how == STEP_KEPT || s->how == STEP_STALE)
			json_object_set_new(o, "age_ms", json_integer(s->age_ms));
		json_array_append_new(steps, o);
	}
	return steps;
}

static bool
is_login(enum hook h)
{
	return h == HOOK_AUTHENTICATE || h == HOOK_AUTH_EXCHANGE;
}

/* NULL: no memory. For want of memory some of its members may be missing, too. */
static json_t *
record_json(const struct record *r, int64_t wall_us)
{
	json_t *o = json_object();

	if (o == NULL)
		return NULL;
	set_time(o, wall_us);
	set_text(o, "hook", hook_name(r->hook));
	if (is_login(r->hook)) { /* who it is, is what is being decided */
		set_str(o, "username", r->client->username);
		set_str(o, "peer", r->client->peer);
	}
	if (r->hook == HOOK_ACL) {
		set_text(o, "action", action_name(r->action));
		json_object_set_new(o, "qos", json_integer(r->qos));
	}
	if (r->topic.data != NULL)
		set_str(o, "topic", r->topic);
	set_text(o, "verdict", verdict_name((int)r->verdict));
	set_text(o, "plugin", r->plugin);
	if (r->rule.data != NULL)
		set_str(o, "rule", r->rule);
	json_object_set_new(o, "steps", decision_steps_json(r->steps, r->step_count));
	return o;
}

bool
trace_add(struct traces **ts, const struct record *r, uint64_t now_ms, int64_t wall_us)
{
	bool wanted = false;

	traces_sweep(ts, now_ms, TRACE_LOOK_MS);
	if (*ts == NULL)
		return false;
	for (struct trace *t = (*ts)->first; t != NULL; t = t->next) {
		if (now_ms >= t->ends_ms || !equal(trace_id(t), r->client->client_id))
			continue;
		/* Before the answer the mountpoint is the listener's, whatever it will be. */
		if (!is_login(r->hook) && !equal(trace_mountpoint(t), r->client->mountpoint))
			continue;
		wanted = true;
		t->newest = (t->newest + 1) % TRACE_KEPT;
		json_decref(t->records[t->newest]);
		t->records[t->newest] = record_json(r, wall_us);
		if (t->count < TRACE_KEPT)
			t->count++;
	}
	return wanted;
}

/* ---- looking at it --------------------------------------------------------------------------- */

static void
trace_put(const struct trace *t, json_t *client)
{
	json_t *decisions = json_array();

	/* Copied: the records stay here, and the copy goes to another thread. */
	for (unsigned i = t->count; i-- > 0;) {
		const json_t *o = t->records[(t->newest + TRACE_KEPT - i) % TRACE_KEPT];

		if (o != NULL)
			json_array_append_new(decisions, json_deep_copy(o));
	}
	json_object_set_new(client, "traced_until", json_integer(t->until));
	json_object_set_new(client, "decisions", decisions);
}

void
trace_describe(const struct traces *ts, struct grapnel_str mountpoint, struct grapnel_str client_id,
    json_t *client)
{
	const struct trace *t = trace_find(ts, mountpoint, client_id);

	if (t != NULL)
		trace_put(t, client);
}

bool
trace_describe_absent(
    const struct traces *ts, const char *mountpoint, const char *client_id, json_t *out_array)
{
	const struct grapnel_str id = { client_id, strlen(client_id) };

	for (const struct trace *t = ts != NULL ? ts->first : NULL; t != NULL; t = t->next) {
		struct grapnel_str where = trace_mountpoint(t);
		json_t *o;

		if (!equal(trace_id(t), id) ||
		    (mountpoint != NULL &&
			!equal(where, (struct grapnel_str){ mountpoint, strlen(mountpoint) })))
			continue;
		o = json_pack("{s:o, s:o, s:b, s:b}", "client_id", describe_str(id), "mountpoint",
		    describe_str(where), "connected", 0, "session", 0);
		if (o != NULL)
			trace_put(t, o);
		if (json_array_append_new(out_array, o) != 0)
			return false;
	}
	return true;
}

/* ---- the log --------------------------------------------------------------------------------- */

static void
put_subject(const struct record *r, char *out, size_t size)
{
	if (r->hook == HOOK_ACL)
		snprintf(out, size, "%s \"%.*s\" qos %u: ", action_name(r->action), STR(r->topic),
		    r->qos);
	else if (r->topic.data != NULL)
		snprintf(out, size, "\"%.*s\": ", STR(r->topic));
	else
		out[0] = '\0';
}

static void
put_steps(const struct record *r, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < r->step_count && len < size; i++) {
		const struct decision_step *s = &r->steps[i];
		int n = snprintf(out + len, size - len, "%s%s: %s%s%.*s in %u us%s%s",
		    i > 0 ? ", " : " (", s->instance->name, verdict_name((int)s->verdict),
		    s->rule.len > 0 ? " by " : "", (int)(s->rule.len > 128 ? 128 : s->rule.len),
		    s->rule.data != NULL ? s->rule.data : "", s->microseconds,
		    s->how != STEP_ASKED ? ", " : "", s->how != STEP_ASKED ? how_name(s->how) : "");

		if (n < 0)
			break;
		len += (size_t)n;
	}
}

void
record_decision(struct worker *w, const struct record *r)
{
	bool traced = trace_add(worker_traces(w), r, clock_ms(), clock_wall_us());
	int level = traced ? GRAPNEL_LOG_INFO : GRAPNEL_LOG_DEBUG;
	const struct grapnel_client_info *c = r->client;
	char subject[1200], steps[1024];

	if (atomic_load_explicit(&log_level, memory_order_relaxed) < level)
		return;
	put_subject(r, subject, sizeof(subject));
	put_steps(r, steps, sizeof(steps));
	log_at(level, "decision", "%s for client \"%.*s\" user \"%.*s\": %s%s%s%.*s%s%s",
	    hook_name(r->hook), STR(c->client_id), STR(c->username), subject,
	    verdict_name((int)r->verdict), r->rule.len > 0 ? " by " : "",
	    (int)(r->rule.len > 128 ? 128 : r->rule.len), r->rule.data != NULL ? r->rule.data : "",
	    steps, r->step_count > 0 ? ")" : "");
}
