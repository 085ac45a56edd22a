/* SPDX-License-Identifier: Apache-2.0 */
/*
 * login - one question about a user, from the hook to its answer
 *
 *	service account		SEARCH -> BIND as what was found -> [GROUPS]
 *	bind_dn			BIND -> [ENTRY] -> [GROUPS], all on one connection
 *	client_revalidate	SEARCH -> [GROUPS]
 *
 * A step whose connection breaks is tried again, once or twice, on another one: binds and searches change nothing.
 *
 * Threads:   the worker's of the request.
 * Ownership: a login frees itself when it resolves its request, which it does exactly once. The question is the host's and
 *            valid until then, its password included, of which there is no copy here.
 * Bounded:   by max_pending, the queue of the pools and the deadline of the request, which the host watches.
 */
#ifndef PLUGINS_AUTH_LDAP_LOGIN_H
#define PLUGINS_AUTH_LDAP_LOGIN_H

#include "pool.h"

struct worker {
	struct settings *settings;
	struct pool_servers servers;
	struct pool *search; /* NULL in bind_dn mode */
	struct pool *bind;   /* NULL when no password is checked */
};

/* password .data NULL: none is checked. The hook returns what this returns: PENDING, though it may be resolved already. */
enum grapnel_verdict login_begin(struct worker *w, struct grapnel_request *req,
    const struct grapnel_client_info *client, struct grapnel_str password, bool revalidate);
/* Nobody waits any more. */
void login_cancel(struct worker *w, struct grapnel_request *req);

#endif
