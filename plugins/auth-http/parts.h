/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of auth-http share
 *
 *	auth-http.c	descriptor, options, hooks
 *	endpoint.c	a URL with its fields: from options, to a request
 *	answer.c	from an HTTP answer to a verdict; dialects
 *	answer_json.c	what a JSON body says
 *	ask.c		a question under way
 *
 * Threads:   struct auth_http is immutable after create(), but for `trouble`, which has a lock, and workers[n], which is
 *            worker n's alone.
 * Ownership: an ask belongs to the request it answers, from the hook to the resolve function.
 * Bounded:   per worker `connections` and `queue`; per answer max_answer, and what grant.h says.
 */
#ifndef PLUGINS_AUTH_HTTP_PARTS_H
#define PLUGINS_AUTH_HTTP_PARTS_H

#include "../common/curl_loop.h"
#include "../common/grant.h"
#include "../common/template.h"

#include <pthread.h>

enum dialect { DIALECT_GRAPNEL, DIALECT_GO_AUTH, DIALECT_EMQX };
enum answer_mode { ANSWER_STATUS, ANSWER_JSON, ANSWER_TEXT };
enum about { ABOUT_LOGIN, ABOUT_SUPERUSER, ABOUT_REVALIDATE, ABOUT_ACL, ABOUT_COUNT };

#define MAX_FIELDS 32u

struct field {
	char *name;
	struct template *value;
};

struct endpoint {
	const char *option; /* "login_url" */
	struct curl_target *target;
	struct field fields[MAX_FIELDS];
	size_t field_count;
	/* under auth_http.lock */
	bool trouble_said;
	uint64_t trouble_said_ms; /* 0: never */
};

struct auth_http {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	enum dialect dialect;
	enum answer_mode answer;
	enum grapnel_verdict no_content, not_found; /* of statuses 204 and 404 */
	bool get, form, check_read;
	struct endpoint *endpoints[ABOUT_COUNT]; /* NULL: not configured */
	struct curl_loop_limits limits;
	struct curl_loop **workers;
	pthread_mutex_t lock;
	int logins_accepted, logins_refused, logins_unknown, logins_unavailable; /* metrics */
	int rights_allowed, rights_denied, rights_unknown, rights_unavailable;
	int answers_unusable;
};

/* ---- endpoint.c ---- */

/* false: config_error says why. *out stays NULL when there is no such URL. */
bool endpoint_new(struct auth_http *a, enum about about, struct endpoint **out);
void endpoint_free(struct endpoint *e); /* NULL is fine */
uint64_t endpoint_depends(const struct endpoint *e); /* GRAPNEL_DEPENDS_ bits */

enum request_made {
	REQUEST_MADE,
	REQUEST_ABSENT,	    /* a user name or password is asked for that the client did not give */
	REQUEST_UNSENDABLE, /* a value that cannot be written: a password that is no text, in JSON */
	REQUEST_NO_MEMORY,
};
/* What curl_loop_start needs of a question; *text is wiped and freed with request_wipe. */
struct request_text {
	struct curl_request request;
	char *text;
	size_t len;
};
enum request_made request_make(
    const struct auth_http *a, const struct endpoint *e, const struct template_values *v, struct request_text *out);
void request_wipe(struct request_text *r);

/* Log it, when it begins and when it is over; "" is no trouble. */
void endpoint_trouble(struct auth_http *a, struct endpoint *e, const char *error);

/* ---- answer.c, answer_json.c ---- */

/* What an answer says, beside what went into the grant. */
struct outcome {
	enum grapnel_verdict verdict;
	bool details;	      /* the grant holds something */
	uint8_t max_qos_plus_one; /* ABOUT_ACL */
	char reason[256];     /* for the client; "" none */
	char error[256];      /* UNAVAILABLE: why */
};
/* g: for what is about a login; else NULL. */
void answer_read(const struct auth_http *a, enum about about, const struct curl_answer *answer, struct grant *g,
    struct outcome *out);
/* A body of the dialects grapnel and emqx. */
void answer_read_json(enum dialect dialect, enum about about, struct grapnel_str body, struct grant *g, struct outcome *out);
/* {"ok": true}. */
void answer_read_ok(struct grapnel_str body, struct outcome *out);
void outcome_fail(struct outcome *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- ask.c ---- */

enum grapnel_verdict ask_login(struct auth_http *a, struct grapnel_request *req, const struct grapnel_authenticate *q);
enum grapnel_verdict ask_revalidate(struct auth_http *a, struct grapnel_request *req, const struct grapnel_revalidate *q);
enum grapnel_verdict ask_acl(struct auth_http *a, struct grapnel_request *req, const struct grapnel_acl_check *q);
void ask_cancel(struct auth_http *a, struct grapnel_request *req);

#endif
