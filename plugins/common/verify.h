/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify - hold a password against a stored hash without blocking a worker
 *
 * Cheap hashes are checked at once, the others in the instance's offload lane. An unknown user costs what the last known
 * one did, so that time does not tell who exists.
 *
 * Time that the answer takes is not the answer: a plugin that answers NEXT for an unknown user waits for `done` all the same.
 *
 * Threads:   a struct verifier belongs to one worker of one instance; all functions on that worker.
 * Ownership: verify_start copies hash and password; both are wiped.
 * Bounded:   by offload_threads, offload_queue and the deadline.
 */
#ifndef PLUGINS_COMMON_VERIFY_H
#define PLUGINS_COMMON_VERIFY_H

#include "password.h"

#include <grapnel/plugin.h>

struct verifier {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	uint64_t quiet_until_ms;	    /* when the next hash that cannot be checked is logged */
	char last_hash[PASSWORD_HASH_SIZE]; /* of the last user who exists; at first one as grapnelctl makes them */
};
void verifier_init(struct verifier *v, const struct grapnel_host *host, struct grapnel_instance *self);
void verifier_fini(struct verifier *v); /* wipes; after the last `done` */

enum verify_result {
	VERIFY_RIGHT = 1,
	VERIFY_WRONG = 0,
	VERIFY_UNAVAILABLE = -1, /* queue full, deadline passed, no memory, a hash that cannot be checked (logged) */
};
typedef void (*verify_fn)(void *arg, enum verify_result result);
struct verify; /* one that is under way */

/*
 * @param hash      Of the user; .data NULL or empty: never right (an unknown user, an empty column), at the usual cost.
 * @param password  .data NULL: never right.
 * @param done      Runs exactly once: before verify_start returns, or later on this worker. After it the handle is gone.
 * @return NULL when done has run; else a handle for verify_cancel.
 */
struct verify *verify_start(struct verifier *v, uint32_t deadline_ms, struct grapnel_str hash, struct grapnel_str password,
    verify_fn done, void *arg);
/* Not needed any more: done still runs, soon, with VERIFY_UNAVAILABLE. */
void verify_cancel(struct verify *handle);

#endif
