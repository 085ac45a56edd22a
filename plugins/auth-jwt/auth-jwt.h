/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-jwt - the instance, between its two files: auth-jwt.c (options, life) and login.c (hooks)
 *
 * Threads:   what create() made is immutable, but for the keys (keyring.h); struct jwt_worker is its worker's.
 */
#ifndef PLUGINS_AUTH_JWT_AUTH_JWT_H
#define PLUGINS_AUTH_JWT_AUTH_JWT_H

#include "claims.h"
#include "keyring.h"
#include "rights.h"
#include "token.h"

#include <grapnel/plugin.h>
#include <stdatomic.h>

struct login; /* login.c */

struct jwt_worker {
	struct login *waiting; /* for keys from the URL */
};

struct auth_jwt {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct keyring *ring;
	struct jwt_worker *workers;
	size_t max_token;
	struct grapnel_str method; /* "": no enhanced authentication */
	bool from_username, pass_on, pass_on_issuer;
	struct token_algs algs;
	struct claims_policy policy;
	struct rights_map rights;
	atomic_bool told_unusable; /* in the log, since the last token that was usable */
	int accepted, refused, passed_on, unavailable, waiting; /* metrics */
};

enum grapnel_verdict jwt_client_authenticate(void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q);
enum grapnel_verdict jwt_client_auth_exchange(void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q);
enum grapnel_verdict jwt_client_revalidate(void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q);
void jwt_request_cancelled(void *instance, struct grapnel_request *req);
/* Keys have come, or not: look at those who wait on this worker again. */
void jwt_woken(void *instance, unsigned worker);

#endif
