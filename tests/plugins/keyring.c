/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyring - pre-shared keys for tls_psk_key; the identity says how it answers
 *
 *	key = "hex"	the key of all identities, of 16 to 64 bytes
 *	hold = "/path"	as long as this file exists, held-... stays pending
 *
 *	now-...		at once
 *	named-...	at once, with the user name "user-of-" and the identity
 *	late-...	20 ms later, by a timer
 *	pool-...	from a thread of the offload pool
 *	held-...	when the file is gone
 *	never-...	not at all, until the request is cancelled
 *	deny-...	DENY
 *	down-...	UNAVAILABLE
 *	nokey-...	ALLOW without a key, which is a fault
 *	short-...	a key of 8 bytes, which is a fault
 *	others		NEXT
 *
 * Says in the log "asked IDENTITY by PEER on LISTENER", "cancelled IDENTITY", "resolved IDENTITY: ok | cancelled | failed".
 */
#include "match.h"
#include <stdio.h>
#include <unistd.h>

#define LOOK_MS 5u
#define LATE_MS 20u

struct keyring {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	uint8_t key[64];
	size_t key_len;
	char *hold;
};

struct asked {
	struct keyring *k;
	struct grapnel_request *req;
	struct grapnel_timer *timer;
	char *identity;
};

static bool
begins(struct grapnel_str s, const char *with)
{
	return s.len >= strlen(with) && memcmp(s.data, with, strlen(with)) == 0;
}

/* Not strndup: what it is given need not end in NUL, which strict checks want of it. */
static char *
text_of(struct grapnel_str s)
{
	char *text = calloc(1, s.len + 1);

	if (text != NULL)
		memcpy(text, s.data, s.len);
	return text;
}

static struct grapnel_psk_answer
answer_of(const struct keyring *k)
{
	return (struct grapnel_psk_answer){ .size = sizeof(struct grapnel_psk_answer),
		.key = { (const char *)k->key, k->key_len } };
}

static void
resolve(struct asked *a, enum grapnel_verdict verdict)
{
	const struct grapnel_host *host = a->k->host;
	struct grapnel_psk_answer answer = answer_of(a->k);
	int err = host->psk_resolve(a->req, verdict, verdict == GRAPNEL_ALLOW ? &answer : NULL);

	host->log(a->k->self, GRAPNEL_LOG_INFO, "resolved %s: %s", a->identity,
	    err == GRAPNEL_OK              ? "ok"
		: err == GRAPNEL_ECANCELED ? "cancelled"
					   : "failed");
	host->timer_free(a->timer);
	free(a->identity);
	free(a);
}

static void
on_time(void *arg)
{
	struct asked *a = arg;

	if (strncmp(a->identity, "held-", 5) == 0 && access(a->k->hold, F_OK) == 0)
		a->k->host->timer_arm(a->timer, LOOK_MS);
	else
		resolve(a, GRAPNEL_ALLOW);
}

/* In the pool. */
static void
on_pool(void *arg)
{
	resolve(arg, GRAPNEL_ALLOW);
}

static void
on_pool_done(void *arg)
{
	(void)arg; /* long gone */
}

static void
keyring_cancelled(void *instance, struct grapnel_request *req)
{
	struct keyring *k = instance;
	struct asked *a = k->host->request_data(req);

	if (a == NULL)
		return;
	k->host->log(k->self, GRAPNEL_LOG_INFO, "cancelled %s", a->identity);
	if (strncmp(a->identity, "never-", 6) == 0)
		resolve(a, GRAPNEL_NEXT);
}

static enum grapnel_verdict
later(struct keyring *k, struct grapnel_request *req, struct grapnel_str identity)
{
	struct asked *a = calloc(1, sizeof(*a));

	if (a == NULL || (a->identity = text_of(identity)) == NULL ||
	    (a->timer = k->host->timer_new(k->self, on_time, a)) == NULL)
		abort();
	a->k = k;
	a->req = req;
	if (begins(identity, "pool-")) {
		k->host->timer_free(a->timer); /* it is for the worker alone */
		a->timer = NULL;
		if (k->host->offload(k->self, 0, on_pool, on_pool_done, a) == NULL)
			abort();
		return GRAPNEL_PENDING;
	}
	k->host->request_set_data(req, a);
	if (begins(identity, "late-"))
		k->host->timer_arm(a->timer, LATE_MS);
	else if (begins(identity, "held-"))
		k->host->timer_arm(a->timer, LOOK_MS);
	return GRAPNEL_PENDING;
}

static enum grapnel_verdict
keyring_tls_psk_key(void *instance, struct grapnel_request *req, const struct grapnel_tls_psk *q)
{
	struct keyring *k = instance;
	struct grapnel_psk_answer answer = answer_of(k);
	char name[256];

	k->host->log(k->self, GRAPNEL_LOG_INFO, "asked %.*s by %.*s on %.*s", (int)q->identity.len,
	    q->identity.data, (int)q->client->peer.len, q->client->peer.data,
	    (int)q->client->listener.len, q->client->listener.data);
	if (begins(q->identity, "late-") || begins(q->identity, "held-") ||
	    begins(q->identity, "never-") || begins(q->identity, "pool-"))
		return later(k, req, q->identity);
	if (begins(q->identity, "deny-"))
		return GRAPNEL_DENY;
	if (begins(q->identity, "down-"))
		return GRAPNEL_UNAVAILABLE;
	if (begins(q->identity, "nokey-"))
		return GRAPNEL_ALLOW;
	if (begins(q->identity, "short-"))
		answer.key.len = 8;
	else if (begins(q->identity, "named-")) {
		snprintf(
		    name, sizeof(name), "user-of-%.*s", (int)q->identity.len, q->identity.data);
		answer.username = (struct grapnel_str){ name, strlen(name) };
	} else if (!begins(q->identity, "now-")) {
		return GRAPNEL_NEXT;
	}
	return k->host->psk_answer(req, &answer) == GRAPNEL_OK ? GRAPNEL_ALLOW
							       : GRAPNEL_UNAVAILABLE;
}

static void
keyring_destroy(void *instance)
{
	struct keyring *k = instance;

	free(k->hold);
	free(k);
}

static int
keyring_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct keyring *k = calloc(1, sizeof(*k));
	struct grapnel_str hex = host->option_str(self, NULL, "key");
	struct grapnel_str hold = host->option_str(self, NULL, "hold");

	if (k == NULL)
		return GRAPNEL_ENOMEM;
	k->host = host;
	k->self = self;
	for (; 2 * k->key_len + 1 < hex.len && k->key_len < sizeof(k->key); k->key_len++) {
		const char digits[] = { hex.data[2 * k->key_len], hex.data[2 * k->key_len + 1],
			'\0' };

		k->key[k->key_len] = (uint8_t)strtoul(digits, NULL, 16);
	}
	if ((k->hold = text_of(hold)) == NULL) {
		keyring_destroy(k);
		return GRAPNEL_ENOMEM;
	}
	*instance = k;
	return GRAPNEL_OK;
}

static const struct grapnel_option keyring_options[] = {
	{ .name = "hold",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "/nonexistent",
	    .help = "File that keeps held-... pending." },
	{ .name = "key",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .default_value = "00112233445566778899aabbccddeeff",
	    .help = "The key, in hexadecimal digits." },
	{ 0 },
};

GRAPNEL_PLUGIN(keyring, .version = "1.0", .license = "Apache-2.0",
    .description = "Pre-shared keys, at once, later or never", .options = keyring_options,
    .create = keyring_create, .destroy = keyring_destroy, .request_cancelled = keyring_cancelled,
    .tls_psk_key = keyring_tls_psk_key, );
