/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyring - the keys in force: those of the files, and those that a URL had when it was last read
 *
 * One worker, number 0, reads the URL: when it starts, every jwks_refresh, and when a token names a key that is not there, but
 * not sooner than jwks_cooldown after it was read the last time. When that fails the keys stay as they are, and it is tried
 * again, ever more rarely. A set is parsed in the offload pool, for checking a hundred keys takes longer than a worker may be held.
 *
 * Threads:   keyring_get, keyring_ask and keyring_has_id on any worker, under a lock that is held for a few instructions (a leaf);
 *            the rest belongs to worker 0.
 * Ownership: keyring_get gives a reference to an immutable set.
 * Bounded:   max_keys, jwks_max_bytes, jwks_timeout; one request at a time.
 */
#ifndef PLUGINS_AUTH_JWT_KEYRING_H
#define PLUGINS_AUTH_JWT_KEYRING_H

#include "keyset.h"

#include <grapnel/plugin.h>

struct keyring; /* opaque: keyring.c */

/*
 * Of the options (create). files: the reference is taken. woken(arg, worker): on each worker, after the URL was read or could not be.
 * NULL: config_error has said why, or memory is short.
 */
struct keyring *keyring_new(const struct grapnel_host *host, struct grapnel_instance *self, struct keyset *files,
    const struct key_limits *limits, void (*woken)(void *arg, unsigned worker), void *arg);
void keyring_free(struct keyring *ring); /* NULL is fine */
int keyring_worker_start(struct keyring *ring, unsigned worker);
void keyring_worker_stop(struct keyring *ring, unsigned worker);

struct keyset *keyring_get(struct keyring *ring);

enum keyring_answer {
	KEYRING_FINAL = 0,	 /* what the set has now is all there is */
	KEYRING_WAIT = 1,	 /* the URL is being read: woken() follows */
	KEYRING_UNAVAILABLE = 2, /* it could not be read: nobody knows */
};
/* A key is not there; is it worth while to wait? asked: this is after woken(), do not begin again. */
enum keyring_answer keyring_ask(struct keyring *ring, bool asked);
/* false with *known false: the URL was never read, so that nobody knows. */
bool keyring_has_id(struct keyring *ring, struct grapnel_str id, bool *known);

#endif
