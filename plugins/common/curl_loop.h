/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl_loop - HTTP requests of a plugin on a worker's loop, with libcurl
 *
 * A target says whom to ask and how (URL, TLS, headers); it is made of options in create(). A loop has the connections of
 * one worker, to any number of targets; a call is one request and its answer:
 *
 *	create		target = curl_target_new(&options, error, sizeof(error))
 *	worker_start	loop = curl_loop_new(host, self, &limits)
 *	a hook		call = curl_loop_start(loop, target, &request, on_answer, arg)
 *	request_cancelled	curl_call_cancel(call)
 *	worker_stop	curl_loop_free(loop)
 *	destroy		curl_target_free(target)
 *
 * Nothing blocks: names are looked up by the host (curl_names.c), never by libcurl, whose resolver is a thread that it may
 * join. Only http and https; redirects are followed if the target says so; no proxy, cookies, .netrc or compression;
 * certificates and names in them are always verified.
 *
 * Threads:   a target is immutable, use it on any; a loop and its calls belong to the worker, or the thread with an own_loop,
 *            that made it.
 * Ownership: curl_loop_start copies what it needs, but not the target, which must live until its calls have ended and the
 *            loops that used it are free. A call is the loop's, until its answer has been given or it was cancelled.
 * Bounded:   limits of the loop; max_answer and timeouts of the target; a kilobyte for each header kept, 64 KiB for all read.
 */
#ifndef PLUGINS_COMMON_CURL_LOOP_H
#define PLUGINS_COMMON_CURL_LOOP_H

#include <grapnel/plugin.h>

struct curl_target; /* opaque: curl_target.c */
struct curl_loop;   /* opaque: curl_loop.c */
struct curl_call;

#define CURL_TARGET_MAX_HEADERS 32u

/* ------------------------------------------------------------------------ targets */

/*
 * Only answers of 307 and 308 are followed, with the same method and body, three times at most, and never from https to http;
 * else they are given as answers. The call's time limit is for all of it.
 */
enum curl_redirects {
	CURL_REDIRECTS_NONE,
	CURL_REDIRECTS_SAME_HOST, /* scheme, host and port as in the target's URL */
	/*
	 * Elsewhere, and from there on, only Content-Type and the call's own headers are sent, without Authorization,
	 * Cookie and its own_headers, and no client certificate is shown; tls_ca and tls_pin hold there, too.
	 */
	CURL_REDIRECTS_ANY,
};

/* Members with .data NULL (or 0) are absent. All copied; secrets wiped at the end. */
struct curl_target_options {
	struct grapnel_str url; /* http:// or https://; no user or password in it, no fragment */
	struct grapnel_str unix_socket; /* path: connect there; the URL still says what is asked */
	struct grapnel_str tls_ca;	/* path of a PEM file; absent: the system's authorities */
	struct grapnel_str tls_cert, tls_key; /* paths of PEM files: who we are, if the server asks */
	struct grapnel_str bearer_token;      /* "Authorization: Bearer ..." */
	const struct grapnel_str *headers;    /* "Name: value" */
	size_t header_count;
	const char *user_agent;
	bool http2;		     /* over TLS, when the server offers it */
	uint32_t connect_timeout_ms; /* look-up, connection and TLS handshake; at least 1 */
	uint32_t timeout_ms;	     /* all of it; at least 1. A call can ask for less */
	size_t max_answer;	     /* bytes of the body */
	struct grapnel_str tls_pin;  /* "sha256//BASE64[;sha256//...]": one of them is the server's public key */
	enum curl_redirects redirects;
	/*
	 * Connect to no address that is not of the public Internet (curl_guard.c), whatever name led there. Not with
	 * unix_socket.
	 */
	bool no_private_addresses;
};

/* NULL: error (NUL-terminated, cut) says why; never with a secret. Reads the files: for create(). */
struct curl_target *curl_target_new(const struct curl_target_options *options, char *error, size_t error_size);
void curl_target_free(struct curl_target *t); /* NULL is fine */
/* "https://auth.example.org:8443/login": for log lines, without a query. */
const char *curl_target_name(const struct curl_target *t);

/* -------------------------------------------------------------------------- loops */

/* Numbers of host->metric_new, negative: not counted. */
struct curl_loop_metrics {
	int connections;     /* gauge: open now */
	int calls_active;    /* gauge: sent, or being connected */
	int calls_waiting;   /* gauge: behind `active` others */
	int calls_total;     /* counters: */
	int failures_total;  /* no HTTP answer: connection, TLS, DNS, malformed, too large, timeout */
	int timeouts_total;  /* of those, the timeouts */
	int refused_total;   /* `waiting` was full */
};
struct curl_loop_limits {
	unsigned connections; /* open at once, to all targets; also kept alive */
	unsigned active;      /* calls at once; 0: as many as connections. More make sense with HTTP/2 */
	unsigned waiting;     /* calls that wait for one of the active to end */
	uint32_t idle_ms;     /* connections are closed when nothing was asked for that long */
	struct curl_loop_metrics metrics;
};
#define CURL_LOOP_NO_METRICS ((struct curl_loop_metrics){ -1, -1, -1, -1, -1, -1, -1 })

/* NULL: no memory. @threads worker_start. */
struct curl_loop *curl_loop_new(
    const struct grapnel_host *host, struct grapnel_instance *self, const struct curl_loop_limits *limits);
/*
 * Ends what is left, with GRAPNEL_ECANCELED, and closes all connections. Not from within an answer. NULL is fine.
 * @threads worker_stop.
 */
void curl_loop_free(struct curl_loop *loop);

/* -------------------------------------------------------------------------- calls */

struct curl_request {
	const char *method;	  /* "GET", "POST", "PUT" ...; with a body anything but GET. Must outlive the call */
	struct grapnel_str query; /* encoded, behind "?" or what the URL has already; absent: none. Wiped */
	struct grapnel_str body;  /* absent: none. Copied and wiped */
	const char *content_type; /* of the body */
	uint32_t timeout_ms;	  /* 0: the target's; never more than that */
	/*
	 * Of this call, "Name: value", before the target's. Copied. With one that is not a single line with a value, or
	 * says what libcurl does (Connection, Content-Length, Transfer-Encoding), nothing is sent: GRAPNEL_EINVAL.
	 */
	const struct grapnel_str *headers;
	size_t header_count; /* at most CURL_TARGET_MAX_HEADERS */
	size_t own_headers;  /* so many of them, the last ones, are for the target's host alone: no redirect takes them elsewhere */
	bool take_body;	     /* body.data is of malloc(), and the call frees it, unwiped; not when none was started */
};

struct curl_answer {
	/*
	 * GRAPNEL_OK: there is a whole answer. GRAPNEL_ETIMEOUT. GRAPNEL_EQUOTA: body over max_answer, or headers over theirs.
	 * GRAPNEL_EINVAL: the request has a bad header, and was not sent. GRAPNEL_ECANCELED: the loop is being freed.
	 * GRAPNEL_ESYS: everything else; error says what.
	 */
	int err;
	const char *error; /* "" when GRAPNEL_OK. Never holds what was asked */
	long status;	   /* 200 ...; also with GRAPNEL_EQUOTA when it was the body; else 0 */
	struct grapnel_str body; /* NUL behind its end */
	struct grapnel_str content_type;  /* .data NULL: none */
	struct grapnel_str cache_control; /* fields of that name, joined by commas; .data NULL: none */
	struct grapnel_str location;	  /* printable ASCII, at most 2048 bytes; .data NULL: none */
	uint32_t retry_after_ms;	  /* from Retry-After; at most a day. UINT32_MAX: none that makes sense */
};
/* Runs exactly once for a call that was not cancelled, never before curl_loop_start has returned. */
typedef void (*curl_answer_fn)(void *arg, const struct curl_answer *answer);

/* NULL: no memory, or too many are waiting; fn will not run. */
struct curl_call *curl_loop_start(struct curl_loop *loop, const struct curl_target *target,
    const struct curl_request *request, curl_answer_fn fn, void *arg);
/* fn will not run, the call is gone; its connection is closed unless HTTP/2. */
void curl_call_cancel(struct curl_call *call);

/* What Cache-Control says: no_store for no-store, no-cache and max-age=0; *max_age_ms 0: it does not say. */
void curl_cache_control(struct grapnel_str field, bool *no_store, uint32_t *max_age_ms);

/* What Retry-After says, seconds or a date, at now_s (of 1970): as in curl_answer. */
uint32_t curl_retry_after(struct grapnel_str field, int64_t now_s);

/* value percent-encoded (RFC 3986: all but unreserved) into out, if there is room; its length, SIZE_MAX: no memory. */
size_t curl_percent_encode(char *out, size_t room, struct grapnel_str value);

#endif
