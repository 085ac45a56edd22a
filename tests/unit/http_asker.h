/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_asker - a curl_loop on a thread of its own, for tests of what is sent
 *
 * asker_setup and asker_teardown are a checked fixture: `a` asks, `server` answers, and so do `other` (with TLS, the certificate
 * in `pem`) and `third` where a test starts them. The host knows the name "name.test".
 */
#ifndef TESTS_UNIT_HTTP_ASKER_H
#define TESTS_UNIT_HTTP_ASKER_H

#include "../../plugins/common/curl_loop.h"
#include "../../plugins/common/own_loop.h"
#include "http_server.h"

#include <semaphore.h>

#define ASKER_MAX_TARGETS 6u

struct asker {
	struct own_loop *thread;
	struct curl_loop *loop;
	struct curl_target *target, *targets[ASKER_MAX_TARGETS]; /* the last one, and all of them */
	struct curl_request request;
	bool cancel; /* at once */
	sem_t done;
	/* the answer: */
	unsigned answers;
	int err;
	long status;
	uint32_t retry_after_ms;
	char error[300], body[8000], location[300];
};

extern struct asker a;
extern struct http_server *server, *other, *third;
extern char pem[], pin[64];

void asker_setup(void);
void asker_teardown(void);
void asker_start(struct asker *x); /* one more */
void asker_stop(struct asker *x);
void asker_wait(struct asker *x); /* until done is posted */
void start_tls(void);		  /* pem, pin, other */

struct grapnel_str str(const char *text);
struct curl_target_options plain(void); /* options of a target, without a URL */
struct curl_target_options with_tls(void);
/* What x asks from now on: the path on that server, or o.url. */
void target_of(struct asker *x, struct curl_target_options o, const struct http_server *s, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define target(...) target_of(&a, __VA_ARGS__)
void post_body(const char *body); /* a.request */
void ask(void);			  /* a; there is an answer afterwards */
void has(const char *what);	  /* the body of the answer */
void has_no(const char *what);

#endif
