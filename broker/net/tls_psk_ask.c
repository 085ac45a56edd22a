/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-shared keys that plugins know: the hook tls_psk_key.
 *
 * OpenSSL wants a key when its callback returns; a plugin may take its time. So a handshake that may have to ask runs as a
 * job of OpenSSL's, on a stack of its own: the callback says what is to be asked and pauses the job, SSL_accept returns
 * SSL_ERROR_WANT_ASYNC, and the plugin is asked from here, on the worker's own stack (a job's has 32 KiB, which is no place for
 * code of others). When the answer is there SSL_accept goes on inside the callback.
 *
 * A paused job is nobody's but its SSL's, which does not free it: whatever ends a handshake has to let the job run to its
 * end first (psk_ask_end), so that stack and references go back.
 *
 * Threads:   the worker that accepted; jobs never change threads.
 * Bounded:   ASKS_MAX identities of one handshake; WAITING_MAX paused jobs of one worker, each with its stack: then the key
 *            counts as unavailable (METRIC_TLS_PSK_REFUSED). Stacks of more than STACKS_KEPT are given back when nobody waits.
 */
#include "net/tls_internal.h"

#include "base/log.h"
#include "core/broker.h"
#include "mqtt/wire.h"
#include "net/listener.h"
#include "plugin/hooks.h"

#include <openssl/async.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASKS_MAX    4u
#define WAITING_MAX 1000u
#define STACKS_KEPT 64u

enum ask_state { ASK_IDLE, ASK_WANTED, ASK_PENDING, ASK_ANSWERED, ASK_GIVEN_UP };

struct psk_ask {
	enum ask_state state;
	bool paused;  /* the callback is inside ASYNC_pause_job */
	bool counted; /* in `waiting`, from the question to plugins until the job goes on */
	unsigned count;
	char identity[PSK_IDENTITY_MAX + 1];
	struct grapnel_request *pending;
	enum psk_result result;
	struct psk_found found;
};

/* Of this thread. */
static _Thread_local bool jobs_ready;
static _Thread_local unsigned waiting, most;

bool
psk_ask_possible(void)
{
	return ASYNC_is_capable() == 1;
}

bool
psk_ask_begin(struct handshake *h, SSL *ssl)
{
	if (!h->ls->psk_hook || !hook_used(h->worker, HOOK_TLS_PSK))
		return true;
	/* One more than may be paused: whoever runs has a job, too. */
	if (!jobs_ready && ASYNC_init_thread(WAITING_MAX + 1, 0) != 1)
		return false;
	jobs_ready = true;
	if ((h->psk = calloc(1, sizeof(*h->psk))) == NULL)
		return false;
	SSL_set_mode(ssl, SSL_MODE_ASYNC);
	return true;
}

static void
waits(struct handshake *h, bool on)
{
	if (h->psk->counted == on)
		return;
	h->psk->counted = on;
	waiting += on ? 1u : -1u;
	most = waiting > most ? waiting : most;
	metric_add(&h->worker->metrics, METRIC_TLS_PSK_WAITING, on ? 1 : -1);
}

/* ---- on the job's stack ------------------------------------------------------------------------ */

enum psk_result
psk_ask(struct handshake *h, const char *identity, size_t len, struct psk_found *out)
{
	struct psk_ask *a = h->psk;

	if (a == NULL || a->count == ASKS_MAX || len == 0 || len > PSK_IDENTITY_MAX ||
	    !utf8_plain(identity, len))
		return PSK_UNKNOWN;
	if (ASYNC_get_current_job() == NULL) /* pausing would do nothing */
		return PSK_UNAVAILABLE;
	a->count++;
	memcpy(a->identity, identity, len);
	a->identity[len] = '\0';
	a->state = ASK_WANTED;
	a->paused = true;
	while (a->state == ASK_WANTED || a->state == ASK_PENDING)
		if (ASYNC_pause_job() != 1)
			a->state = ASK_GIVEN_UP;
	a->paused = false;
	waits(h, false);
	if (a->state == ASK_GIVEN_UP)
		return PSK_UNAVAILABLE;
	a->state = ASK_IDLE;
	*out = a->found;
	OPENSSL_cleanse(&a->found, sizeof(a->found));
	return a->result;
}

/* ---- on the worker's --------------------------------------------------------------------------- */

static void
take(struct handshake *h, const struct decision *d)
{
	struct psk_ask *a = h->psk;
	const struct grapnel_psk_answer *p = d->psk;

	a->state = ASK_ANSWERED;
	a->result = PSK_UNKNOWN;
	if (d->verdict == GRAPNEL_UNAVAILABLE) {
		a->result = PSK_UNAVAILABLE;
	} else if (d->verdict == GRAPNEL_ALLOW && p->key.len == 0) {
		log_error("plugin \"%s\": tls_psk_key: allow without a key; taken as unavailable",
		    d->plugin);
		a->result = PSK_UNAVAILABLE;
	} else if (d->verdict == GRAPNEL_ALLOW) {
		struct grapnel_str name = p->username;

		if (name.data == NULL)
			name = (struct grapnel_str){ a->identity, strlen(a->identity) };
		a->result = PSK_FOUND;
		a->found.len = p->key.len;
		memcpy(a->found.key, p->key.data, p->key.len);
		a->found.username_len = name.len;
		memcpy(a->found.username, name.data, name.len);
	}
	if (a->result == PSK_UNAVAILABLE)
		(void)snprintf(h->why, sizeof(h->why),
		    "plugin \"%s\" could not say the key of \"%s\"",
		    d->plugin != NULL ? d->plugin : "?", a->identity);
}

static void
on_decision(void *arg, const struct decision *d)
{
	struct handshake *h = arg;

	h->psk->pending = NULL;
	take(h, d);
	h->wake(h);
}

bool
psk_ask_wanted(const struct handshake *h)
{
	return h->psk != NULL && h->psk->paused;
}

bool
psk_ask_now(struct handshake *h)
{
	struct psk_ask *a = h->psk;
	char peer[PEER_TEXT_MAX];
	struct grapnel_client_info info = { .size = sizeof(info) };
	struct grapnel_tls_psk q = { .size = sizeof(q), .client = &info };
	struct decision now;

	if (a->state != ASK_WANTED)
		return a->state != ASK_PENDING;
	if (waiting >= WAITING_MAX) {
		a->state = ASK_ANSWERED;
		a->result = PSK_UNAVAILABLE;
		metric_add(&h->worker->metrics, METRIC_TLS_PSK_REFUSED, 1);
		(void)snprintf(h->why, sizeof(h->why),
		    "%u handshakes of this worker wait for a plugin to say a key", waiting);
		return true;
	}
	peer_text(
	    peer, h->stream->fd, (const struct sockaddr *)&h->facts.address, h->facts.address_len);
	info.client_id = info.mountpoint = GRAPNEL_STR("");
	info.peer = (struct grapnel_str){ peer, strlen(peer) };
	info.listener = (struct grapnel_str){ h->ls->name, strlen(h->ls->name) };
	info.username = h->facts.username;
	info.identity_source = h->facts.source;
	info.attributes = h->facts.attributes;
	info.attribute_count = h->facts.count;
	q.identity = (struct grapnel_str){ a->identity, strlen(a->identity) };
	a->state = ASK_PENDING;
	if (!hooks_ask(h->worker, HOOK_TLS_PSK, &q, NULL, on_decision, h, &now, &a->pending)) {
		waits(h, true);
		return false;
	}
	a->pending = NULL;
	take(h, &now);
	decision_release(&now);
	return true;
}

void
psk_ask_end(struct handshake *h, SSL *ssl)
{
	struct psk_ask *a = h->psk;

	if (a == NULL)
		return;
	if (a->pending != NULL) {
		hooks_cancel(h->worker, a->pending);
		a->pending = NULL;
	}
	if (a->paused) {
		a->state = ASK_GIVEN_UP;
		(void)SSL_accept(ssl); /* the callback fails, and the job ends */
	}
	SSL_clear_mode(ssl, SSL_MODE_ASYNC);
	OPENSSL_cleanse(a, sizeof(*a));
	free(a);
	h->psk = NULL;
	if (waiting == 0 && most > STACKS_KEPT) {
		ASYNC_cleanup_thread();
		jobs_ready = false;
		most = 0;
	}
}
