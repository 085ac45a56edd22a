/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of curl_loop know of each other. */
#ifndef PLUGINS_COMMON_CURL_PRIVATE_H
#define PLUGINS_COMMON_CURL_PRIVATE_H

#include "curl_loop.h"
#include "text_copy.h"

#include <curl/curl.h>
#include <netinet/in.h>

#define CACHE_CONTROL_MAX 1024u
#define CONTENT_TYPE_MAX  160u /* with "Content-Type: " */
#define CURL_URL_MAX	  2048u
#define CURL_SPARE_MAX	  16u

/* Where an explanation goes. */
struct curl_why {
	char *text;
	size_t size;
};
bool curl_no(const struct curl_why *why, const char *format, ...) __attribute__((format(printf, 2, 3))); /* false */

/* ----------------------------------------------------------------- URLs: curl_url.c */

/* Where a request goes. */
struct curl_place {
	char *url;
	char *host; /* "[...]" for IPv6 */
	char *port;
	bool look_up; /* host is a name, and it is to be connected to */
	bool has_query;
	bool tls;
	bool passing; /* of one call, which another host has sent there */
};
/* Only its bytes and length. */
bool curl_url_check(struct grapnel_str url, const struct curl_why *why);
/* All but p->url. name: NULL, or gets it without the query, for log lines. On failure p is to be freed, too. */
bool curl_place_set(struct curl_place *p, CURLU *u, char **name, const struct curl_why *why);
bool curl_place_same(const struct curl_place *a, const struct curl_place *b); /* scheme, host and port */
void curl_place_free(struct curl_place *p);

/* ---------------------------------------------------------------------------- targets */

struct curl_target {
	struct curl_place place;
	char *name;
	char *unix_socket;
	struct curl_blob ca, cert, key; /* .data NULL: none */
	char *pin;
	struct curl_slist *headers, *last_header; /* that one is "Expect:" */
	char *user_agent;
	bool http2, no_private;
	enum curl_redirects redirects;
	uint32_t connect_timeout_ms, timeout_ms;
	size_t max_answer;
};

/*
 * What a transfer must know about the target, all but headers. place: its own, or one that it redirects to; foreign: the latter
 * is another host, which is told no secrets. false: no memory, or libcurl lacks something.
 */
bool curl_target_apply(const struct curl_target *t, const struct curl_place *place, bool foreign, CURL *easy);

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
	unsigned count;
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
int curl_names_get(struct curl_names *names, const struct curl_place *place, uint32_t timeout_ms, struct curl_waiter *w,
    struct curl_slist **entry);
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
	CURL *spare[CURL_SPARE_MAX]; /* reset, in no multi handle */
	unsigned spare_count;
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
	struct curl_slist *headers; /* an array, with its text behind it: Content-Type, then the call's own */
	size_t header_count, own_headers;
	char *url; /* with the query; NULL: the target's */
	size_t url_len;
	struct curl_place hop; /* where it was redirected to, if hops > 0 */
	unsigned hops;
	bool foreign;		 /* it has been at another host than the target's */
	bool refused;		 /* error says why it is not sent */
	struct grapnel_str body; /* the call's */
	bool wipe_body;
	char *answer;
	size_t answer_len, answer_capacity, headers_len;
	bool status_known; /* of the answer that counts: its headers are all there */
	bool too_large, no_memory;
	char *location;
	uint32_t retry_after_ms;
	char cache_control[CACHE_CONTROL_MAX];
	char guarded[INET6_ADDRSTRLEN]; /* an address that was not connected to */
	char error[CURL_ERROR_SIZE];
	curl_answer_fn fn;
	void *arg;
};

/* curl_loop.c */
void curl_loop_count(struct curl_loop *loop, int metric, int64_t delta);
bool curl_loop_open(struct curl_loop *loop); /* its multi handle; false: no memory */
curl_socket_t curl_loop_on_socket_open(void *call, curlsocktype purpose, struct curl_sockaddr *address);
int curl_loop_on_socket_close(void *loop, curl_socket_t fd);

/* curl_call.c */
void curl_call_finish(struct curl_call *c, int err, const char *error); /* gives the answer; the call is gone */
void curl_loop_advance(struct curl_loop *loop);	/* starts those who wait, as far as there is room */
void curl_call_again(struct curl_call *c);	/* c->hop is where, now */

/* curl_redirect.c */
const struct curl_place *curl_call_place(const struct curl_call *c);
bool curl_redirect(struct curl_call *c); /* it has an answer. true: it was sent on, or has ended */

/* curl_headers.c */
bool curl_header_check(struct grapnel_str header, const struct curl_why *why); /* one line, "Name: value" */
int curl_headers_copy(struct curl_call *c, const struct curl_request *r, const struct curl_why *why); /* 1; 0: a bad one; -1: no memory */
struct curl_slist *curl_headers_chain(struct curl_call *c); /* for CURLOPT_HTTPHEADER */

/* curl_answer.c */
size_t curl_answer_on_body(char *data, size_t one, size_t len, void *call);
size_t curl_answer_on_header(char *data, size_t one, size_t len, void *call);
void curl_answer_reset(struct curl_call *c); /* nothing was read */

/* curl_guard.c */
bool curl_address_is_private(const struct sockaddr *address);
bool curl_text_is_private(const char *address);
bool curl_guard_address(struct curl_call *c, const struct sockaddr *address); /* may it be connected to? */
int curl_guard_on_request(void *call, char *theirs, char *ours, int their_port, int our_port);

#endif
