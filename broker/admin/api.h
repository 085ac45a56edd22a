/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api - a request of the admin API, whatever carried it, and its one answer
 *
 * Threads:   main.
 * Ownership: a call belongs to its handler until the handler answers, exactly once, at once or later; answering
 *            consumes it. If the peer or the server has gone meanwhile, the answer goes nowhere.
 */
#ifndef BROKER_ADMIN_API_H
#define BROKER_ADMIN_API_H

#include <grapnel/types.h>
#include <jansson.h>

struct broker;
struct api_call;

#define API_MAX_SEGMENTS 8
#define API_MAX_PARAMS	 16

/* The path in decoded segments: "/v1/clients/a%2Fb" is v1, clients, a/b. */
struct api_path {
	char *segments[API_MAX_SEGMENTS];
	unsigned count;
};
struct api_query {
	struct { char *name, *value; } params[API_MAX_PARAMS];
	unsigned count;
};
/*
 * Both take the still encoded text. GRAPNEL_EINVAL: a broken or forbidden escape (U+0000, not UTF-8), too many parts, an
 * empty segment; GRAPNEL_ENOMEM. On failure nothing is held.
 */
int api_path_parse(struct api_path *p, const char *text);
void api_path_clear(struct api_path *p);
int api_query_parse(struct api_query *q, const char *text); /* NULL: no query */
void api_query_clear(struct api_query *q);
const char *api_query_get(const struct api_query *q, const char *name); /* NULL: not given */
/* Decimal number in min … max; absent: fallback. false: neither. */
bool api_query_number(const struct api_query *q, const char *name, unsigned fallback, unsigned min, unsigned max, unsigned *out);
/* yes|no, true|false, 1|0; absent: -1. false: neither. */
bool api_query_switch(const struct api_query *q, const char *name, int *out);
/* Text as one path segment or query value: everything but unreserved characters as %NN. Heap; NULL: no memory. */
char *api_encode(const char *text);

enum api_method { API_GET, API_POST, API_DELETE, API_OTHER };

/* How the carrier gets the answer; body is borrowed. allow: the Allow header of a 405, or NULL. */
typedef void (*api_send_fn)(void *carrier, int status, const char *content_type, const char *allow, struct grapnel_str body);

struct api_call {
	struct broker *broker;
	enum api_method method;
	struct api_path path;
	struct api_query query;
	json_t *body;	       /* NULL: none */
	char who[48];	       /* "uid 0": for the log */
	api_send_fn send;      /* NULL: nobody waits any more */
	void *carrier;
	void (*finished)(struct api_call *call); /* the carrier's: called once, right before the call is freed */
};

/* A call for this request, or an answer given at once through send (and NULL) if it is malformed. */
struct api_call *api_call_new(struct broker *b, enum api_method method, const char *path, const char *query,
    struct grapnel_str body, const char *who, api_send_fn send, void *carrier);
void api_dispatch(struct api_call *call);

void api_reply_json(struct api_call *call, int status, json_t *answer); /* takes answer; NULL: 500 no memory */
void api_reply_text(struct api_call *call, int status, const char *content_type, struct grapnel_str body);
void api_reply_error(struct api_call *call, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* {"error": ...} as text on the heap; for carriers that refuse before there is a call. NULL: no memory. */
char *api_error_text(const char *message);

/* ---- routes, by file ---- */
void route_status(struct api_call *call);	  /* status.c */
void route_config(struct api_call *call);
void route_reload(struct api_call *call);
void route_guard(struct api_call *call);	  /* guard_route.c */
void route_guard_lift(struct api_call *call);
void route_metrics(struct api_call *call);	  /* metrics_route.c */
void route_clients(struct api_call *call);	  /* clients.c */
void route_client(struct api_call *call);
void route_client_kick(struct api_call *call);
void route_client_trace(struct api_call *call);
void route_client_untrace(struct api_call *call);
void route_cache_purge(struct api_call *call);	  /* explain_route.c */
void route_explain(struct api_call *call);
void route_plugins(struct api_call *call);	  /* plugins_route.c */
void route_plugin(struct api_call *call);
void route_plugin_forget(struct api_call *call);
void route_plugin_command(struct api_call *call);

#endif
