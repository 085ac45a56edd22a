/* SPDX-License-Identifier: Apache-2.0 */
#include "verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPLAIN_MS 60000u /* hashes that cannot be checked are logged this often at most */

struct verify {
	struct verifier *v;
	struct grapnel_job *job;
	verify_fn done;
	void *arg;
	int outcome; /* of password_verify, in the pool */
	bool may_match;
	size_t hash_len, password_len;
	char text[]; /* hash and password, one behind the other: the pool may start at once */
};

void
verifier_init(struct verifier *v, const struct grapnel_host *host, struct grapnel_instance *self)
{
	memset(v, 0, sizeof(*v));
	v->host = host;
	v->self = self;
	/*
	 * Until somebody who exists has come, a user who does not costs what grapnelctl's own hashes do. The digest
	 * is of nothing.
	 */
	(void)snprintf(v->last_hash, sizeof(v->last_hash), "%s",
	    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$"
	    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
}

void
verifier_fini(struct verifier *v)
{
	explicit_bzero(v, sizeof(*v));
}

/* outcome: of password_verify. */
static enum verify_result
result_of(struct verifier *v, bool may_match, int outcome)
{
	uint64_t now;

	if (outcome >= 0)
		return outcome == 1 && may_match ? VERIFY_RIGHT : VERIFY_WRONG;
	now = v->host->now_ms();
	if (now >= v->quiet_until_ms) {
		v->quiet_until_ms = now + COMPLAIN_MS;
		v->host->log(v->self, GRAPNEL_LOG_ERROR,
		    "a stored password hash could not be checked: %s; set that password anew (this "
		    "is said once a minute at most)",
		    password_strerror(outcome));
	}
	return VERIFY_UNAVAILABLE;
}

/* In the offload pool. */
static void
work(void *arg)
{
	struct verify *x = arg;

	x->outcome = password_verify(x->text, x->hash_len, x->text + x->hash_len, x->password_len);
}

/* Back on the worker. */
static void
work_done(void *arg)
{
	struct verify *x = arg;
	enum verify_result result = VERIFY_UNAVAILABLE;
	verify_fn done = x->done;
	void *done_arg = x->arg;

	if (x->v->host->job_ran(x->job))
		result = result_of(x->v, x->may_match, x->outcome);
	explicit_bzero(x->text, x->hash_len + x->password_len);
	free(x);
	done(done_arg, result);
}

/* Into the pool; NULL: refused. */
static struct verify *
hand_over(struct verifier *v, uint32_t deadline_ms, struct grapnel_str hash,
    struct grapnel_str password, bool may_match, verify_fn done, void *arg)
{
	struct verify *x = deadline_ms > 0 ? calloc(1, sizeof(*x) + hash.len + password.len) : NULL;

	if (x == NULL)
		return NULL;
	*x = (struct verify){ .v = v,
		.done = done,
		.arg = arg,
		.may_match = may_match,
		.hash_len = hash.len,
		.password_len = password.len };
	memcpy(x->text, hash.data, hash.len);
	if (password.len > 0)
		memcpy(x->text + hash.len, password.data, password.len);
	x->job = v->host->offload(v->self, deadline_ms, work, work_done, x);
	if (x->job == NULL) {
		explicit_bzero(x->text, hash.len + password.len);
		free(x);
		return NULL;
	}
	return x;
}

struct verify *
verify_start(struct verifier *v, uint32_t deadline_ms, struct grapnel_str hash,
    struct grapnel_str password, verify_fn done, void *arg)
{
	bool exists = hash.len > 0, may_match = exists && password.data != NULL;
	struct verify *x;
	int err;

	if (!exists) {
		hash = (struct grapnel_str){ v->last_hash, strlen(v->last_hash) };
	} else if ((err = password_check_format(hash.data, hash.len, NULL)) != 0) {
		done(arg, result_of(v, false, err));
		return NULL;
	} else {
		/* A hash that can be checked fits: password_parse has looked at its length. */
		memcpy(v->last_hash, hash.data, hash.len);
		v->last_hash[hash.len] = '\0';
	}
	if (password_quick(hash.data, hash.len, password.len)) {
		done(arg,
		    result_of(v, may_match,
			password_verify(hash.data, hash.len, password.data, password.len)));
		return NULL;
	}
	x = hand_over(v, deadline_ms, hash, password, may_match, done, arg);
	if (x == NULL)
		done(arg, VERIFY_UNAVAILABLE);
	return x;
}

void
verify_cancel(struct verify *handle)
{
	/* work_done runs all the same */
	handle->v->host->offload_cancel(handle->job);
}
