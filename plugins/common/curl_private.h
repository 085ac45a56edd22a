/* SPDX-License-Identifier: Apache-2.0 */
/* What curl_loop.c, curl_call.c, curl_target.c and curl_names.c know of each other. */
#ifndef PLUGINS_COMMON_CURL_PRIVATE_H
#define PLUGINS_COMMON_CURL_PRIVATE_H

#include "curl_loop.h"

#include <curl/curl.h>

#define CACHE_CONTROL_MAX 1024u

struct curl_target {
	char *url, *name;
	char *host;	/* to be looked up; NULL: an address, or a Unix socket */
	char *port;
	char *unix_socket;
	bool has_query; /* in url */
	bool tls;
	struct curl_blob ca, cert, key; /* .data NULL: none */
	struct curl_slist *headers;
	char *user_agent;
	bool http2;
	uint32_t connect_timeout_ms, timeout_ms;
	size_t max_answer;
};

/* Everything about the target that a transfer must know. false: no memory, or libcurl lacks something. */
bool curl_target_apply(const struct curl_target *t, CURL *easy);

/*
 * names - addresses of the hosts of one loop's targets
 *
 * Kept for NAMES_FRESH_MS; then used once more while they are looked up again, so that only the first call waits for a
 * DNS server, and one that is mute later costs nothing.
 */
struct curl_names {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct curl_name *first;
};
/* Someone who waits for the first answer; embedded in a call. */
struct curl_waiter {
	struct curl_waiter *next;
	struct curl_name *name; /* NULL: does not wait */
	/* error "": addresses are there now. Runs from the loop. */
	void (*fn)(struct curl_waiter *w, int err, const char *error);
};
/*
 * @return 1: *entry is a new "host:port:addresses" for CURLOPT_RESOLVE; 0: w->fn will run; -1: no memory.
 */
int curl_names_get(struct curl_names *names, const struct curl_target *t, struct curl_waiter *w, struct curl_slist **entry);
void curl_names_leave(struct curl_waiter *w); /* fn will not run; fine for one who does not wait */
void curl_names_forget(struct curl_names *names); /* all of it; nobody may wait */

/* ------------------------------------------------------------------- loops and calls */

struct watched; /* curl_loop.c */

struct curl_loop {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct curl_loop_limits limits;
	CURLM *multi;                /* NULL: none yet, or nothing was asked for a while */
	struct grapnel_timer *timer; /* libcurl's */
	struct grapnel_timer *idle;
	bool timer_armed;
	bool broken; /* a callback has failed: this multi handle answers nothing any more */
	bool freeing;
	bool advancing;
	struct watched *watched;
	struct curl_names names;
	struct curl_call *active, *waiting, *waiting_last;
	unsigned active_count, waiting_count;
};

enum call_state {
	CALL_WAITING, /* in loop->waiting */
	CALL_NAMING,  /* in loop->active, no easy handle: its host is looked up */
	CALL_SENT,    /* in loop->active and in the multi handle */
	CALL_ENDING,  /* in neither: its answer is being given */
};

struct curl_call {
	struct curl_call *prev, *next;
	struct curl_loop *loop;
	const struct curl_target *target;
	enum call_state state;
	struct curl_waiter waiter;
	struct grapnel_timer *timer; /* timeout_ms, for all of it */
	uint32_t timeout_ms;
	CURL *easy;
	struct curl_slist *addresses;
	const char *method;
	char type[96];             /* "Content-Type: ..." */
	struct curl_slist headers; /* that line, then the target's */
	char *url;                 /* with the query; NULL: the target's */
	size_t url_len;
	struct grapnel_str body; /* own copy */
	char *answer;
	size_t answer_len, answer_capacity, headers_len;
	bool too_large, no_memory;
	char cache_control[CACHE_CONTROL_MAX];
	char error[CURL_ERROR_SIZE];
	curl_answer_fn fn;
	void *arg;
};

/* curl_loop.c */
void curl_loop_count(struct curl_loop *loop, int metric, int64_t delta);
bool curl_loop_open(struct curl_loop *loop); /* its multi handle; false: no memory */
curl_socket_t curl_loop_on_socket_open(void *loop, curlsocktype purpose, struct curl_sockaddr *address);
int curl_loop_on_socket_close(void *loop, curl_socket_t fd);

/* curl_call.c */
void curl_call_finish(struct curl_call *c, int err, const char *error); /* gives the answer; the call is gone */
void curl_loop_advance(struct curl_loop *loop);	/* starts those who wait, as far as there is room */

#endif
