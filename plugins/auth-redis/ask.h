/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask - one request of the broker: the keys it needs, one after the other, and the answer made of them
 *
 *	login.c		client_authenticate, client_revalidate: login_key, the password, superuser_key, rules
 *	rights.c	what is under a key with rules; acl_check with acl_mode = check
 *
 * Threads:   the worker of the request.
 * Ownership: made by a hook, gone when the request is resolved; at most one query or one verification is under way.
 */
#ifndef AUTH_REDIS_ASK_H
#define AUTH_REDIS_ASK_H

#include "common/grant.h"
#include "common/verify.h"
#include "pool.h"
#include "settings.h"

struct worker {
	struct pool *pool;
	struct purge *purge; /* NULL: another worker has it, or nobody */
	struct verifier verifier;
};

struct ask {
	struct instance *a;
	struct worker *w;
	struct grapnel_request *req;
	const struct grapnel_client_info *client;
	struct template_values values;
	struct grapnel_str password; /* the client's; borrowed from the question */
	bool again;		     /* client_revalidate */
	const struct grapnel_acl_check *check; /* acl_check; else NULL */
	struct grant grant;
	unsigned source, rules; /* next of settings.sources; how many rules there were */
	struct query *query;
	struct verify *verify;
	bool known, cancelled;
	bool unusable; /* what is under a key of this user */
	void (*got)(struct ask *ask, const redisReply *reply); /* for ask_key */
	void (*rules_done)(struct ask *ask);
	void (*finish)(struct ask *ask, enum grapnel_verdict verdict);
};

struct ask *ask_new(struct instance *a, struct grapnel_request *req, const struct grapnel_client_info *client);
void ask_free(struct ask *ask);

/* ASK_BEGUN: got runs later. */
enum ask_begun { ASK_BEGUN, ASK_NO_KEY, ASK_FAILED };
/* Look under a key, as the client will be with what is known so far. */
enum ask_begun ask_key(struct ask *ask, const struct key *key, enum verb verb,
    void (*got)(struct ask *ask, const redisReply *reply));

/* All rules of all sources, one after the other; then done, which may run before it returns. */
void ask_rules(struct ask *ask, void (*done)(struct ask *ask));

/* The answer cannot be used. */
void ask_unusable(struct ask *ask, const char *what);

/* One source's rules into the grant. false: grant.error says why. */
bool rules_take(struct grant *g, const struct acl_source *source, const redisReply *reply, unsigned *rules);

enum grapnel_verdict login_authenticate(struct instance *a, struct grapnel_request *req, const struct grapnel_authenticate *q);
enum grapnel_verdict login_revalidate(struct instance *a, struct grapnel_request *req, const struct grapnel_revalidate *q);
enum grapnel_verdict rights_check(struct instance *a, struct grapnel_request *req, const struct grapnel_acl_check *q);
void ask_cancel(struct instance *a, struct grapnel_request *req);

#endif
