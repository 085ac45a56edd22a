/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_internal.h"

#include "config/conf_errors.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define OCSP_MAX (64 * 1024)
/* Forward secrecy and authenticated encryption; OpenSSL's security level takes care of key lengths. */
#define CIPHERS     "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
#define CIPHERS_PSK ":kECDHEPSK+CHACHA20:kECDHEPSK+AES:kDHEPSK+AESGCM:kPSK+AESGCM:kPSK+AES"
/*
 * Those with SHA-256 first: a handshake is cheaper with it; and a pre-shared key goes with that hash, but OpenSSL chooses the suite before it
 * looks at the key, which it would ignore with another.
 */
#define SUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"

struct tls_set {
	unsigned count;
	struct tls_context *contexts[]; /* by position in the settings; NULL: no TLS */
};

/* While a context is made: where messages belong. */
struct making {
	const struct listener_settings *ls;
	const char *where, *name; /* of the server_name; NULL: the listener itself */
	struct conf_errors *errs;
	bool failed;
};

const char *
tls_error(char *out, size_t size)
{
	unsigned long e = ERR_get_error();
	const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;

	if (reason != NULL)
		snprintf(out, size, "%s", reason);
	else if (e != 0 && ERR_SYSTEM_ERROR(e))
		snprintf(out, size, "%s", strerror(ERR_GET_REASON(e)));
	else
		snprintf(out, size, "%s", "no reason given");
	ERR_clear_error();
	return out;
}

static void __attribute__((format(printf, 2, 3))) refuse(struct making *m, const char *format, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (m->name != NULL)
		conf_errors_add(m->errs, "%s: listener \"%s\": server_name \"%s\": %s", m->where,
		    m->ls->name, m->name, text);
	else
		conf_errors_add(m->errs, "%s: listener \"%s\": %s", m->where, m->ls->name, text);
	m->failed = true;
}

/* OpenSSL says "no such file" in words of its own. */
static bool
readable(struct making *m, const char *option, const char *path)
{
	FILE *f = fopen(path, "re");

	if (f != NULL) {
		(void)fclose(f);
		return true;
	}
	refuse(m, "%s: cannot read %s: %s%s", option, path, strerror(errno),
	    errno == EACCES ? " (the broker reads it as the user it runs as, at every reload)"
			    : "");
	return false;
}

/* ---- certificates and keys ----------------------------------------------------------------------- */

static int
no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	*(bool *)arg = true;
	return 0;
}

/* The earliest end in a chain file, and the context's entry about it. */
static bool
certificate_note(struct tls_context *t, const char *server_name, const char *path)
{
	struct tls_certificate *c;
	FILE *f = fopen(path, "re");
	int64_t end = INT64_MAX;
	X509 *x;

	while (f != NULL && (x = PEM_read_X509(f, NULL, NULL, NULL)) != NULL) {
		struct tm tm;

		if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1) {
			int64_t at = (int64_t)timegm(&tm);

			end = at < end ? at : end;
		}
		X509_free(x);
	}
	ERR_clear_error();
	if (f != NULL)
		(void)fclose(f);
	c = realloc(t->certificates, (t->certificate_count + 1) * sizeof(*c));
	if (c == NULL)
		return false;
	t->certificates = c;
	c = &c[t->certificate_count];
	c->server_name = strdup(server_name);
	c->file = strdup(path);
	c->not_after = end;
	t->certificate_count++;
	return c->server_name != NULL && c->file != NULL;
}

static void
pair_use(struct making *m, struct tls_context *t, SSL_CTX *ctx, const char *certificate,
    const char *private_key)
{
	bool encrypted = false;
	char why[256];

	if (!readable(m, "certificate", certificate) || !readable(m, "private_key", private_key))
		return;
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1) {
		refuse(m, "certificate: %s: %s", certificate, tls_error(why, sizeof(why)));
		return;
	}
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &encrypted);
	if (SSL_CTX_use_PrivateKey_file(ctx, private_key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1) {
		unsigned long e = ERR_peek_error();

		if (encrypted)
			refuse(m,
			    "private_key: %s has a passphrase: write it without one (openssl "
			    "pkey), "
			    "readable by the broker's user only",
			    private_key);
		else if (ERR_GET_REASON(e) == X509_R_KEY_VALUES_MISMATCH ||
		    ERR_GET_REASON(e) == X509_R_KEY_TYPE_MISMATCH)
			refuse(m, "private_key: %s is not the key of the certificate %s",
			    private_key, certificate);
		else
			refuse(m, "private_key: %s: %s", private_key, tls_error(why, sizeof(why)));
	}
	SSL_CTX_set_default_passwd_cb(ctx, NULL);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	ERR_clear_error();
	if (!certificate_note(t, m->name != NULL ? m->name : "", certificate))
		refuse(m, "out of memory");
}

/* ---- OCSP stapling ------------------------------------------------------------------------------- */

struct stapled {
	size_t len;
	uint8_t der[];
};
static int stapled_index = -1; /* of ex_data of SSL_CTX */

static void
stapled_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	free(ptr);
}

static int
on_status_asked(SSL *ssl, void *arg)
{
	/* Of the context that SNI chose. */
	const struct stapled *s = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), stapled_index);
	uint8_t *copy;

	(void)arg;
	if (s == NULL || (copy = OPENSSL_memdup(s->der, s->len)) == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)s->len);
	return SSL_TLSEXT_ERR_OK;
}

static void
staple(struct making *m, SSL_CTX *ctx, const char *path)
{
	struct stapled *s;
	FILE *f;

	if (path == NULL)
		return;
	if (!readable(m, "ocsp_response", path) || (f = fopen(path, "re")) == NULL)
		return;
	if ((s = malloc(sizeof(*s) + OCSP_MAX)) != NULL)
		s->len = fread(s->der, 1, OCSP_MAX, f);
	(void)fclose(f);
	if (s == NULL || s->len == 0 || s->len == OCSP_MAX) {
		refuse(m, "ocsp_response: %s is empty or too large for an OCSP response", path);
		free(s);
		return;
	}
	if (SSL_CTX_set_ex_data(ctx, stapled_index, s) != 1) {
		free(s);
		refuse(m, "out of memory");
	}
}

/* ---- who may come in ------------------------------------------------------------------------------ */

static void
authorities_use(struct making *m, SSL_CTX *ctx)
{
	const struct listener_settings *ls = m->ls;
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
	struct stat st;
	char why[256];
	int ok;

	if (stat(ls->client_ca, &st) != 0) {
		refuse(m, "client_ca: %s: %s", ls->client_ca, strerror(errno));
		sk_X509_NAME_free(names);
		return;
	}
	ERR_clear_error();
	/* A folder needs the links of "openssl rehash"; one without any would let nobody in, and nobody would know why. */
	if (S_ISDIR(st.st_mode))
		ok = SSL_CTX_load_verify_dir(ctx, ls->client_ca) == 1 &&
		    SSL_add_dir_cert_subjects_to_stack(names, ls->client_ca) == 1 &&
		    sk_X509_NAME_num(names) > 0;
	else
		ok = readable(m, "client_ca", ls->client_ca) &&
		    SSL_CTX_load_verify_file(ctx, ls->client_ca) == 1 &&
		    SSL_add_file_cert_subjects_to_stack(names, ls->client_ca) == 1;
	if (!ok) {
		if (!m->failed)
			refuse(m, "client_ca: %s: %s", ls->client_ca,
			    ERR_peek_error() != 0
				? tls_error(why, sizeof(why))
				: "no certificate in it (a folder needs \"openssl "
				  "rehash\")");
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return;
	}
	SSL_CTX_set_client_CA_list(ctx, names);
}

static void
revocations_use(struct making *m, SSL_CTX *ctx)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509_LOOKUP *lookup;
	char why[256];

	for (unsigned i = 0; i < m->ls->crl.count; i++) {
		const char *path = m->ls->crl.items[i];

		if (!readable(m, "crl", path))
			continue;
		ERR_clear_error();
		lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
		if (lookup == NULL || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1)
			refuse(m, "crl: %s: %s", path, tls_error(why, sizeof(why)));
	}
	if (m->ls->crl.count > 0)
		(void)X509_STORE_set_flags(
		    store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
}

/* ---- names -------------------------------------------------------------------------------------------- */

static int
on_server_name(SSL *ssl, int *alert, void *arg)
{
	struct tls_context *t = arg;
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name), *dot;

	(void)alert;
	if (asked == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	dot = strchr(asked, '.');
	for (unsigned i = 0; i < t->name_count; i++) {
		const char *name = t->names[i].name;
		bool same = name[0] == '*' ? dot != NULL && strcasecmp(dot, name + 1) == 0
					   : strcasecmp(asked, name) == 0;

		if (same) {
			SSL_set_SSL_CTX(ssl, t->names[i].ctx);
			return SSL_TLSEXT_ERR_OK;
		}
	}
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
ctx_new(struct making *m, struct tls_context *t, const struct string_list *certificate,
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
		refuse(m, "out of memory");
		return NULL;
	}
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
		SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_security_level(ctx, 2);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_tlsext_status_cb(ctx, on_status_asked);
	SSL_CTX_set_verify(ctx, verify, NULL);
	if (SSL_CTX_set_min_proto_version(
		ctx, ls->tls_minimum == TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) != 1 ||
	    !session_id_use(ctx, ls, generation) || !tls_tickets_use(ctx) ||
	    SSL_CTX_set_cipher_list(ctx,
		ls->ciphers != NULL ? ls->ciphers
		    : psk           ? CIPHERS CIPHERS_PSK
				    : CIPHERS) != 1)
		refuse(m, "%s: %s", ls->ciphers != NULL ? "ciphers" : "TLS",
		    tls_error(why, sizeof(why)));
	suites = ls->cipher_suites != NULL ? ls->cipher_suites : SUITES;
	if (SSL_CTX_set_ciphersuites(ctx, suites) != 1)
		refuse(m, "cipher_suites: \"%s\": %s", suites, tls_error(why, sizeof(why)));
	if (ls->groups != NULL && SSL_CTX_set1_groups_list(ctx, ls->groups) != 1)
		refuse(m, "groups: \"%s\": %s", ls->groups, tls_error(why, sizeof(why)));
	(void)SSL_CTX_set_dh_auto(ctx, 1);
	if (psk)
		tls_psk_use(ctx);
	if (ls->psk_hook && !psk_ask_possible())
		refuse(m, "psk = yes: this OpenSSL is built without what lets a handshake wait for a "
			  "plugin (ASYNC_is_capable)");
	for (unsigned i = 0; i < certificate->count; i++)
		pair_use(m, t, ctx, certificate->items[i], private_key->items[i]);
	staple(m, ctx, ocsp_response);
	if (ls->client_ca != NULL)
		authorities_use(m, ctx);
	revocations_use(m, ctx);
	return ctx;
}

static void
names_make(struct making *m, struct tls_context *t, const uint8_t *generation)
{
	const struct listener_settings *ls = m->ls;

	if (ls->server_name_count == 0)
		return;
	if ((t->names = calloc(ls->server_name_count, sizeof(*t->names))) == NULL) {
		refuse(m, "out of memory");
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
			refuse(m, "out of memory");
	}
	m->name = NULL;
	m->where = ls->where;
	SSL_CTX_set_tlsext_servername_callback(t->ctx, on_server_name);
	SSL_CTX_set_tlsext_servername_arg(t->ctx, t);
}

static struct tls_context *
context_new(const struct listener_settings *ls, struct conf_errors *errs)
{
	struct making m = { .ls = ls, .where = ls->where, .errs = errs };
	struct tls_context *t = calloc(1, sizeof(*t));
	uint8_t generation[16];
	char why[400];

	if (stapled_index < 0)
		stapled_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, stapled_free);
	if (t == NULL || stapled_index < 0 || RAND_bytes(generation, sizeof(generation)) != 1) {
		refuse(&m, "out of memory");
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
		refuse(&m, "psk_file: %s", why);
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
