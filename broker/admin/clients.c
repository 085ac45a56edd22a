/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clients - GET /v1/clients, GET and DELETE /v1/clients/<client id>, POST and DELETE /v1/clients/<client id>/trace
 */
#include "api.h"
#include "base/log.h"
#include "core/broker.h"
#include "gather.h"
#include "plugin/trace.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     1000

#define ADMINISTRATIVE_ACTION 0x98 /* MQTT 5.0 section 3.14.2.1 */

/* Where the next page is, as a path to ask for. NULL: no memory. */
static char *
next_path(const struct client_query *q, const json_t *last, unsigned limit)
{
	const char *mountpoint = json_string_value(json_object_get(last, "mountpoint"));
	char *after = api_encode(json_string_value(json_object_get(last, "client_id")));
	char *after_mountpoint = api_encode(mountpoint != NULL ? mountpoint : "");
	char *username = q->username != NULL ? api_encode(q->username) : NULL;
	char *path = NULL;

	if (after == NULL || after_mountpoint == NULL ||
	    (q->username != NULL && username == NULL) ||
	    asprintf(&path, "/v1/clients?limit=%u&after=%s&after_mountpoint=%s%s%s%s", limit, after,
		after_mountpoint, username != NULL ? "&username=" : "",
		username != NULL ? username : "",
		q->online < 0 ? "" : (q->online ? "&online=yes" : "&online=no")) < 0)
		path = NULL;
	free(after);
	free(after_mountpoint);
	free(username);
	return path;
}

static void
clients_done(struct api_call *call, json_t *clients, const struct client_query *q)
{
	unsigned limit =
	    q->limit - 1; /* one more was asked for, to know whether there is a next page */
	json_t *answer, *page;
	char *next = NULL;

	if (clients == NULL || (page = json_array()) == NULL) {
		api_reply_error(call, 500, "no memory");
		return;
	}
	for (size_t i = 0; i < limit && i < json_array_size(clients); i++)
		if (json_array_append(page, json_array_get(clients, i)) != 0)
			goto fail;
	if (json_array_size(clients) > limit &&
	    (next = next_path(q, json_array_get(clients, limit - 1), limit)) == NULL)
		goto fail;
	answer = json_pack("{s:o, s:s?}", "clients", page, "next", next);
	free(next);
	api_reply_json(call, 200, answer);
	return;
fail:
	json_decref(page);
	api_reply_error(call, 500, "no memory");
}

void
route_clients(struct api_call *call)
{
	struct client_query q = { .online = -1 };

	if (!api_query_number(&call->query, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX, &q.limit)) {
		api_reply_error(call, 400, "limit is a number from 1 to %d", LIMIT_MAX);
		return;
	}
	if (!api_query_switch(&call->query, "online", &q.online)) {
		api_reply_error(call, 400, "online is yes or no");
		return;
	}
	q.limit++;
	q.username = (char *)api_query_get(&call->query, "username");
	q.after_id = (char *)api_query_get(&call->query, "after");
	q.after_mountpoint = (char *)api_query_get(&call->query, "after_mountpoint");
	if (q.after_id != NULL && q.after_mountpoint == NULL)
		q.after_mountpoint = (char *)"";
	if (!gather_clients(call, &q, clients_done))
		api_reply_error(call, 500, "no memory");
}

/* The one client that was named, or an answer is given and NULL returned. */
static json_t *
one_client(struct api_call *call, json_t *clients)
{
	json_t *answer, *mountpoints, *client;
	size_t i;

	if (clients == NULL) {
		api_reply_error(call, 500, "no memory");
		return NULL;
	}
	if (json_array_size(clients) == 0) {
		api_reply_error(
		    call, 404, "no client with the id \"%s\" is known", call->path.segments[2]);
		return NULL;
	}
	if (json_array_size(clients) == 1)
		return json_array_get(clients, 0);
	mountpoints = json_array();
	json_array_foreach(clients, i, client)
	    json_array_append(mountpoints, json_object_get(client, "mountpoint"));
	answer = json_pack("{s:s, s:o}", "error",
	    "this client id exists under several mountpoints; name one with ?mountpoint=",
	    "mountpoints", mountpoints);
	api_reply_json(call, 409, answer);
	return NULL;
}

static void
client_done(struct api_call *call, json_t *clients, const struct client_query *q)
{
	json_t *client = one_client(call, clients);

	(void)q;
	if (client != NULL)
		api_reply_json(call, 200, json_incref(client));
}

static void
kick_done(struct api_call *call, json_t *clients, const struct client_query *q)
{
	json_t *client = one_client(call, clients);
	const char *mountpoint;
	struct grapnel_str id, where;
	int err;

	if (client == NULL)
		return;
	if (!json_is_true(json_object_get(client, "connected"))) {
		api_reply_error(call, 409, "this client is not connected");
		return;
	}
	mountpoint = json_string_value(json_object_get(client, "mountpoint"));
	if (mountpoint == NULL)
		mountpoint = "";
	id = (struct grapnel_str){ q->client_id, strlen(q->client_id) };
	where = (struct grapnel_str){ mountpoint, strlen(mountpoint) };
	err = core_kick(call->broker, where, id, ADMINISTRATIVE_ACTION);
	if (err != GRAPNEL_OK) {
		api_reply_error(call, err == GRAPNEL_ENOENT ? 404 : 500,
		    "the client could not be disconnected (error %d)", err);
		return;
	}
	log_at(GRAPNEL_LOG_NOTICE, "client_kicked", "admin (%s) disconnects client \"%.*s\"",
	    call->who, STR(id));
	api_reply_json(call, 200,
	    json_pack(
		"{s:b, s:O}", "kicked", 1, "client_id", json_object_get(client, "client_id")));
}

static void
ask_for_one(struct api_call *call, gather_fn done)
{
	struct client_query q = { .online = -1,
		.limit = 100 }; /* mountpoints with the same client id */

	q.client_id = call->path.segments[2];
	q.mountpoint = (char *)api_query_get(&call->query, "mountpoint");
	if (!gather_clients(call, &q, done))
		api_reply_error(call, 500, "no memory");
}

void
route_client(struct api_call *call)
{
	ask_for_one(call, client_done);
}

void
route_client_kick(struct api_call *call)
{
	ask_for_one(call, kick_done);
}

/* ---- traces ---------------------------------------------------------------------------------- */

/* To the home worker of the client id, and back. */
struct trace_mail {
	struct mail mail; /* first: both are one address */
	struct api_call *call;
	unsigned minutes; /* 0: end it */
	unsigned max;     /* traces of one worker */
	bool session;
	int err;
	int64_t until;
	size_t mountpoint_len;
	bool any_mountpoint;
	char mountpoint[];
};

static void
trace_on_answer(struct worker *w, struct mail *mail)
{
	struct trace_mail *m = (struct trace_mail *)mail;
	struct api_call *call = m->call;
	const char *id = call->path.segments[2];

	(void)w;
	if (m->err == GRAPNEL_ENOENT) {
		api_reply_error(call, 404, "client \"%s\" is not under trace", id);
	} else if (m->err == GRAPNEL_EQUOTA) {
		api_reply_error(call, 409,
		    "%u clients of the same worker are under trace, which is the most", m->max);
	} else if (m->err != GRAPNEL_OK) {
		api_reply_error(call, 500, "no memory");
	} else if (m->minutes == 0) {
		log_at(GRAPNEL_LOG_NOTICE, "trace_ended",
		    "admin (%s) ends the trace of client \"%s\"", call->who, id);
		api_reply_json(call, 200, json_pack("{s:b, s:s}", "traced", 0, "client_id", id));
	} else {
		log_at(GRAPNEL_LOG_NOTICE, "trace_started",
		    "admin (%s) puts client \"%s\" under trace for %u minutes", call->who, id,
		    m->minutes);
		api_reply_json(call, 200,
		    json_pack("{s:b, s:s, s:s%, s:I, s:b}", "traced", 1, "client_id", id,
			"mountpoint", m->mountpoint, m->mountpoint_len, "traced_until",
			(json_int_t)m->until, "session", m->session));
	}
	free(m);
}

static void
trace_on_worker(struct worker *w, struct mail *mail)
{
	struct trace_mail *m = (struct trace_mail *)mail;
	const char *text = m->call->path.segments[2];
	struct grapnel_str id = { text, strlen(text) },
			   where = { m->mountpoint, m->mountpoint_len };
	int64_t now = clock_wall_us();

	if (w->hooks == NULL) { /* at the very end */
		m->err = GRAPNEL_ENOENT;
	} else if (m->minutes == 0) {
		where.data = m->any_mountpoint ? NULL : where.data;
		m->err = trace_stop(worker_traces(w), where, id) ? GRAPNEL_OK : GRAPNEL_ENOENT;
	} else {
		m->err =
		    trace_start(worker_traces(w), where, id, m->max, m->minutes, clock_ms(), now);
		m->until = now / 1000000 + (int64_t)m->minutes * 60;
	}
	m->mail.fn = trace_on_answer;
	worker_post(w->broker->main, mail);
}

/* mountpoint NULL: under each, to end it. */
static void
trace_ask(struct api_call *call, const char *mountpoint, unsigned minutes, bool session)
{
	const char *id = call->path.segments[2];
	size_t len = mountpoint != NULL ? strlen(mountpoint) : 0;
	struct trace_mail *m = calloc(1, sizeof(*m) + len + 1);

	if (m == NULL) {
		api_reply_error(call, 500, "no memory");
		return;
	}
	m->call = call;
	m->minutes = minutes;
	m->max = call->broker->settings->max_traces;
	m->session = session;
	m->any_mountpoint = mountpoint == NULL;
	m->mountpoint_len = len;
	memcpy(m->mountpoint, mountpoint != NULL ? mountpoint : "", len + 1);
	m->mail.fn = trace_on_worker;
	worker_post(
	    call->broker
		->workers[broker_home(call->broker, (struct grapnel_str){ id, strlen(id) })],
	    &m->mail);
}

/* {"minutes": N} -> N; no body: the default; 0: anything else. */
static unsigned
trace_minutes(const json_t *body)
{
	const json_t *minutes = json_object_get(body, "minutes");
	json_int_t n = json_integer_value(minutes);

	if (body == NULL)
		return TRACE_MINUTES;
	if (!json_is_object(body) || json_object_size(body) > (minutes != NULL ? 1 : 0))
		return 0;
	if (minutes == NULL)
		return TRACE_MINUTES;
	return n >= 1 && n <= (json_int_t)TRACE_MINUTES_MAX ? (unsigned)n : 0;
}

/* The mountpoint is that of the client; one that is not known may come yet, or never be let in. */
static void
trace_found(struct api_call *call, json_t *clients, const struct client_query *q)
{
	const char *mountpoint = q->mountpoint != NULL ? q->mountpoint : "";
	json_t *client = NULL;

	if (clients == NULL || json_array_size(clients) > 0) {
		if ((client = one_client(call, clients)) == NULL)
			return;
		mountpoint = json_string_value(json_object_get(client, "mountpoint"));
	}
	trace_ask(call, mountpoint != NULL ? mountpoint : "", trace_minutes(call->body),
	    client != NULL && json_object_get(client, "session") == NULL);
}

void
route_client_trace(struct api_call *call)
{
	if (trace_minutes(call->body) == 0)
		api_reply_error(call, 400, "the body is {\"minutes\": N}, with N from 1 to %u",
		    TRACE_MINUTES_MAX);
	else
		ask_for_one(call, trace_found);
}

void
route_client_untrace(struct api_call *call)
{
	trace_ask(call, api_query_get(&call->query, "mountpoint"), 0, false);
}
