/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_internal.h"

#include "config/conf_errors.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/*
 * Forward secrecy and authenticated encryption; OpenSSL's security level takes care of key lengths. No DHE: it costs us
 * much, and a peer that only wants to cost us something nothing.
 */
#define CIPHERS     "ECDHE+AESGCM:ECDHE+CHACHA20"
#define CIPHERS_PSK ":kECDHEPSK+CHACHA20:kECDHEPSK+AES:kPSK+AESGCM:kPSK+AES"
/*
 * Those with SHA-256 first: a handshake is cheaper with it; and a pre-shared key goes with that hash, but OpenSSL chooses
 * the suite before it looks at the key, which it would ignore with another.
 */
#define SUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"

struct tls_set {
	unsigned count;
	struct tls_context *contexts[]; /* by position in the settings; NULL: no TLS */
};

/* ---- names -------------------------------------------------------------------------------------------- */

static int
on_server_name(SSL *ssl, int *alert, void *arg)
{
	const struct tls_context *t = arg;
	const struct tls_name *found = NULL;
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name), *dot;

	(void)alert;
	if (asked == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	dot = strchr(asked, '.');
	for (unsigned i = 0; i < t->name_count && found == NULL; i++)
		if (strcasecmp(asked, t->names[i].name) == 0)
			found = &t->names[i];
	for (unsigned i = 0; i < t->name_count && found == NULL && dot != NULL && dot != asked; i++)
		if (t->names[i].name[0] == '*' && strcasecmp(dot, t->names[i].name + 1) == 0)
			found = &t->names[i];
	if (found != NULL && SSL_set_SSL_CTX(ssl, found->ctx) != NULL)
		return SSL_TLSEXT_ERR_OK;
	return SSL_TLSEXT_ERR_NOACK; /* the listener's own certificate; whether it will do is for the client to say */
}

static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
    unsigned in_len, void *arg)
{
	static const unsigned char mqtt[] = "\4mqtt", both[] = "\4mqtt\10http/1.1",
				   http[] = "\10http/1.1";
	const struct listener_settings *ls = tls_handshake_of(ssl)->ls;
	const unsigned char *ours = mqtt;
	unsigned len = sizeof(mqtt) - 1;

	(void)arg;
	if (ls->websocket == WEBSOCKET_AUTO) {
		ours = both;
		len = sizeof(both) - 1;
	} else if (ls->websocket == WEBSOCKET_YES) {
		ours = http;
		len = sizeof(http) - 1;
	}
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours, len, in,
		   in_len) == OPENSSL_NPN_NEGOTIATED
	    ? SSL_TLSEXT_ERR_OK
	    : SSL_TLSEXT_ERR_NOACK; /* whoever has another name for MQTT is welcome, too */
}

/* ---- contexts -------------------------------------------------------------------------------------------- */

/*
 * A ticket is good on the listener that gave it only. Where certificates are asked for, also with this context only: what it
 * stands for may have been revoked since.
 */
static bool
session_id_use(SSL_CTX *ctx, const struct listener_settings *ls, const uint8_t *generation)
{
	uint8_t id[SHA256_DIGEST_LENGTH], text[16 + 64];
	size_t len = strlen(ls->name);

	memset(text, 0, sizeof(text));
	if (ls->client_certificate != CERTIFICATE_NONE)
		memcpy(text, generation, 16);
	memcpy(text + 16, ls->name, len < 64 ? len : 64);
	return EVP_Digest(text, sizeof(text), id, NULL, EVP_sha256(), NULL) == 1 &&
	    SSL_CTX_set_session_id_context(ctx, id, sizeof(id)) == 1;
}

static SSL_CTX *
ctx_new(struct tls_making *m, struct tls_context *t, const struct string_list *certificate,
    const struct string_list *private_key, const char *ocsp_response, const uint8_t *generation)
{
	const struct listener_settings *ls = m->ls;
	bool psk = ls->psk_file != NULL || ls->psk_hook;
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int verify = ls->client_certificate == CERTIFICATE_NONE ? SSL_VERIFY_NONE
	    : ls->client_certificate == CERTIFICATE_OPTIONAL
	    ? SSL_VERIFY_PEER
	    : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	const char *suites;
	char why[256];

	if (ctx == NULL) {
		tls_refuse(m, "out of memory");
		return NULL;
	}
	m->kind_count = 0;
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
		SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
	/* Else one read goes on for as long as a peer sends KeyUpdates. */
	SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_security_level(ctx, 2);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_verify(ctx, verify, NULL);
	if (SSL_CTX_set_min_proto_version(
		ctx, ls->tls_minimum == TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) != 1 ||
	    !session_id_use(ctx, ls, generation) || !tls_tickets_use(ctx) ||
	    SSL_CTX_set_cipher_list(ctx,
		ls->ciphers != NULL ? ls->ciphers
		    : psk           ? CIPHERS CIPHERS_PSK
				    : CIPHERS) != 1)
		tls_refuse(m, "%s: %s", ls->ciphers != NULL ? "ciphers" : "TLS",
		    tls_error(why, sizeof(why)));
	suites = ls->cipher_suites != NULL ? ls->cipher_suites : SUITES;
	if (SSL_CTX_set_ciphersuites(ctx, suites) != 1)
		tls_refuse(m, "cipher_suites: \"%s\": %s", suites, tls_error(why, sizeof(why)));
	if (ls->groups != NULL && SSL_CTX_set1_groups_list(ctx, ls->groups) != 1)
		tls_refuse(m, "groups: \"%s\": %s", ls->groups, tls_error(why, sizeof(why)));
	(void)SSL_CTX_set_dh_auto(ctx, 1);
	if (psk) {
		tls_psk_use(ctx);
		/* A ticket does not say whose key it was got with, and outlives a key that was taken away. */
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		(void)SSL_CTX_set_num_tickets(ctx, 0);
	}
	if (ls->psk_hook && !psk_ask_possible())
		tls_refuse(m,
		    "psk = yes: this OpenSSL is built without what lets a handshake wait for a "
		    "plugin (ASYNC_is_capable)");
	for (unsigned i = 0; i < certificate->count; i++)
		tls_pair_use(m, t, ctx, certificate->items[i], private_key->items[i]);
	tls_staple(m, ctx, ocsp_response);
	if (ls->client_ca != NULL)
		tls_authorities_use(m, ctx);
	tls_revocations_use(m, ctx);
	return ctx;
}

static void
names_make(struct tls_making *m, struct tls_context *t, const uint8_t *generation)
{
	const struct listener_settings *ls = m->ls;

	if (ls->server_name_count == 0)
		return;
	if ((t->names = calloc(ls->server_name_count, sizeof(*t->names))) == NULL) {
		tls_refuse(m, "out of memory");
		return;
	}
	for (unsigned i = 0; i < ls->server_name_count; i++) {
		const struct server_name_settings *n = &ls->server_names[i];
		struct tls_name *out = &t->names[t->name_count++];

		m->name = n->name;
		m->where = n->where;
		out->name = strdup(n->name);
		out->ctx =
		    ctx_new(m, t, &n->certificate, &n->private_key, n->ocsp_response, generation);
		if (out->name == NULL)
			tls_refuse(m, "out of memory");
	}
	m->name = NULL;
	m->where = ls->where;
	SSL_CTX_set_tlsext_servername_callback(t->ctx, on_server_name);
	SSL_CTX_set_tlsext_servername_arg(t->ctx, t);
}

static struct tls_context *
context_new(const struct listener_settings *ls, struct conf_errors *errs)
{
	struct tls_making m = { .ls = ls, .where = ls->where, .errs = errs };
	struct tls_context *t = calloc(1, sizeof(*t));
	uint8_t generation[16];
	char why[400];

	if (t == NULL || RAND_bytes(generation, sizeof(generation)) != 1) {
		tls_refuse(&m, "out of memory");
		free(t);
		return NULL;
	}
	atomic_init(&t->refs, 1);
	t->psk_hook = ls->psk_hook;
	t->ctx = ctx_new(&m, t, &ls->certificate, &ls->private_key, ls->ocsp_response, generation);
	if (t->ctx != NULL)
		names_make(&m, t, generation);
	if (ls->psk_file != NULL &&
	    (t->psk = psk_keys_read(ls->psk_file, why, sizeof(why))) == NULL)
		tls_refuse(&m, "psk_file: %s", why);
	ERR_clear_error();
	if (!m.failed)
		return t;
	tls_context_unref(t);
	return NULL;
}

struct tls_context *
tls_context_ref(struct tls_context *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void
tls_context_unref(struct tls_context *t)
{
	if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < t->name_count; i++) {
		SSL_CTX_free(t->names[i].ctx);
		free(t->names[i].name);
	}
	free(t->names);
	for (unsigned i = 0; i < t->certificate_count; i++) {
		free((char *)(uintptr_t)t->certificates[i].server_name);
		free((char *)(uintptr_t)t->certificates[i].file);
	}
	free(t->certificates);
	psk_keys_free(t->psk);
	SSL_CTX_free(t->ctx);
	free(t);
}

const struct tls_certificate *
tls_context_certificates(const struct tls_context *t, unsigned *count)
{
	*count = t->certificate_count;
	return t->certificates;
}

/* ---- one for each listener --------------------------------------------------------------------------------- */

int
tls_set_new(const struct settings *s, struct conf_errors *errs, struct tls_set **out)
{
	struct tls_set *set = calloc(1, sizeof(*set) + s->listener_count * sizeof(*set->contexts));
	bool failed = false;

	if (set == NULL) {
		conf_errors_add(errs, "out of memory");
		return GRAPNEL_ENOMEM;
	}
	for (; set->count < s->listener_count; set->count++) {
		const struct listener_settings *ls = &s->listeners[set->count];

		if (ls->tls && (set->contexts[set->count] = context_new(ls, errs)) == NULL)
			failed = true;
	}
	if (failed) {
		tls_set_free(set);
		return GRAPNEL_EINVAL;
	}
	*out = set;
	return GRAPNEL_OK;
}

void
tls_set_free(struct tls_set *set)
{
	for (unsigned i = 0; set != NULL && i < set->count; i++)
		tls_context_unref(set->contexts[i]);
	free(set);
}

void
tls_set_swap(struct tls_set *set, unsigned listener, struct tls_context **context)
{
	struct tls_context *old = *context;

	*context = set->contexts[listener];
	set->contexts[listener] = old;
}
