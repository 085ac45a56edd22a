/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files into contexts: certificates with their keys, OCSP responses, authorities of clients, revocation lists. Main thread,
 * at the start and at every reload; nothing is read later.
 */
#include "net/tls_internal.h"

#include "config/conf_errors.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define OCSP_MAX (64 * 1024)

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

void
tls_refuse(struct tls_making *m, const char *format, ...)
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
readable(struct tls_making *m, const char *option, const char *path)
{
	FILE *f = fopen(path, "re");
	struct stat st;

	if (f != NULL) {
		bool folder = fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode);

		(void)fclose(f);
		if (folder)
			tls_refuse(m, "%s: %s: is a folder, not a file", option, path);
		return !folder;
	}
	tls_refuse(m, "%s: cannot read %s: %s%s", option, path, strerror(errno),
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

/* A context has room for one certificate of each kind of key; OpenSSL replaces and says nothing. */
static bool
kind_is_new(struct tls_making *m, SSL_CTX *ctx, const char *certificate)
{
	const X509 *x = SSL_CTX_get0_certificate(ctx);
	const EVP_PKEY *key = x != NULL ? X509_get0_pubkey(x) : NULL;
	int kind = key != NULL ? EVP_PKEY_get_base_id(key) : 0;

	for (unsigned i = 0; i < m->kind_count; i++) {
		if (m->kinds[i] == kind) {
			tls_refuse(m,
			    "certificate: %s is the second one with a key of the same kind (%s); a "
			    "host has one of each",
			    certificate, OBJ_nid2sn(kind));
			return false;
		}
	}
	if (m->kind_count < TLS_KINDS_MAX)
		m->kinds[m->kind_count++] = kind;
	return true;
}

void
tls_pair_use(struct tls_making *m, struct tls_context *t, SSL_CTX *ctx, const char *certificate,
    const char *private_key)
{
	bool encrypted = false, strange = false;
	char why[256];
	X509 *x;

	if (!readable(m, "certificate", certificate) || !readable(m, "private_key", private_key))
		return;
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1) {
		tls_refuse(m, "certificate: %s: %s", certificate, tls_error(why, sizeof(why)));
		return;
	}
	if (!kind_is_new(m, ctx, certificate))
		return;
	x = SSL_CTX_get0_certificate(
	    ctx); /* of this pair: the key may fit another one and go there */
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &encrypted);
	if (SSL_CTX_use_PrivateKey_file(ctx, private_key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1) {
		int reason = ERR_GET_REASON(ERR_peek_error());

		strange = reason == X509_R_KEY_VALUES_MISMATCH ||
		    reason == X509_R_KEY_TYPE_MISMATCH || reason == SSL_R_NO_CERTIFICATE_ASSIGNED;
		if (encrypted)
			tls_refuse(m,
			    "private_key: %s has a passphrase: write it without one (openssl "
			    "pkey), "
			    "readable by the broker's user only",
			    private_key);
		else if (!strange)
			tls_refuse(
			    m, "private_key: %s: %s", private_key, tls_error(why, sizeof(why)));
	} else {
		strange = X509_check_private_key(x, SSL_CTX_get0_privatekey(ctx)) != 1;
	}
	if (strange)
		tls_refuse(m, "private_key: %s is not the key of the certificate %s", private_key,
		    certificate);
	SSL_CTX_set_default_passwd_cb(ctx, NULL);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	ERR_clear_error();
	if (!certificate_note(t, m->name != NULL ? m->name : "", certificate))
		tls_refuse(m, "out of memory");
}

/* ---- OCSP stapling ------------------------------------------------------------------------------- */

struct stapled {
	size_t len;
	time_t next_update; /* 0: none */
	uint8_t der[];
};
static int stapled_index =
    -1; /* of ex_data of SSL_CTX; set on the main thread before there is one */

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
	/* A client refuses an old one, but may come in without any. */
	if (s == NULL || (s->next_update != 0 && time(NULL) > s->next_update) ||
	    (copy = OPENSSL_memdup(s->der, s->len)) == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)s->len);
	return SSL_TLSEXT_ERR_OK;
}

/* Is it a response that says something? And until when. */
static bool
ocsp_parse(struct stapled *s)
{
	const uint8_t *at = s->der;
	OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &at, (long)s->len);
	OCSP_BASICRESP *basic = NULL;
	ASN1_GENERALIZEDTIME *next = NULL;
	struct tm tm;

	s->next_update = 0;
	if (r != NULL && OCSP_response_status(r) == OCSP_RESPONSE_STATUS_SUCCESSFUL)
		basic = OCSP_response_get1_basic(r);
	if (basic != NULL && OCSP_resp_count(basic) > 0) {
		(void)OCSP_single_get0_status(OCSP_resp_get0(basic, 0), NULL, NULL, NULL, &next);
		if (next != NULL && ASN1_TIME_to_tm(next, &tm) == 1)
			s->next_update = timegm(&tm);
	}
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(r);
	ERR_clear_error();
	return basic != NULL;
}

void
tls_staple(struct tls_making *m, SSL_CTX *ctx, const char *path)
{
	struct stapled *s;
	FILE *f;

	if (stapled_index < 0) /* with the first context of all: workers read it */
		stapled_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, stapled_free);
	SSL_CTX_set_tlsext_status_cb(ctx, on_status_asked);
	if (path == NULL)
		return;
	if (!readable(m, "ocsp_response", path) || (f = fopen(path, "re")) == NULL)
		return;
	if ((s = malloc(sizeof(*s) + OCSP_MAX)) != NULL)
		s->len = fread(s->der, 1, OCSP_MAX, f);
	(void)fclose(f);
	if (s == NULL) {
		tls_refuse(m, "out of memory");
		return;
	}
	if (s->len == OCSP_MAX || !ocsp_parse(s)) {
		tls_refuse(m,
		    "ocsp_response: %s is not a successful OCSP response in DER (openssl ocsp "
		    "-respout)",
		    path);
		free(s);
		return;
	}
	if (SSL_CTX_set_ex_data(ctx, stapled_index, s) != 1) {
		free(s);
		tls_refuse(m, "out of memory");
	}
}

/* ---- who may come in ------------------------------------------------------------------------------ */

static void
authority_file(struct tls_making *m, SSL_CTX *ctx, const char *path, STACK_OF(X509_NAME) * names)
{
	int before = sk_X509_NAME_num(names);
	char why[256];

	if (!readable(m, "client_ca", path))
		return;
	ERR_clear_error();
	if (SSL_CTX_load_verify_file(ctx, path) != 1 ||
	    SSL_add_file_cert_subjects_to_stack(names, path) != 1)
		tls_refuse(m, "client_ca: %s: %s", path, tls_error(why, sizeof(why)));
	else if (sk_X509_NAME_num(names) == 0 && before == 0)
		tls_refuse(m, "client_ca: %s: no certificate in it", path);
}

static bool
is_certificate_file(const char *name)
{
	static const char *const ends[] = { ".pem", ".crt", ".cer" };
	size_t len = strlen(name);

	for (size_t i = 0; name[0] != '.' && i < sizeof(ends) / sizeof(*ends); i++)
		if (len > 4 && strcmp(name + len - 4, ends[i]) == 0)
			return true;
	return false;
}

/*
 * All files at once. OpenSSL's own way with folders would look for names made by "openssl rehash", in the middle of
 * handshakes; without these names nobody would be let in, and nobody would know why.
 */
static void
authority_folder(struct tls_making *m, SSL_CTX *ctx, const char *path, STACK_OF(X509_NAME) * names)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort);

	if (n < 0) {
		tls_refuse(m, "client_ca: %s: %s", path, strerror(errno));
		return;
	}
	for (int i = 0; i < n; i++) {
		char *file = NULL;

		if (is_certificate_file(entries[i]->d_name)) {
			if (asprintf(&file, "%s/%s", path, entries[i]->d_name) >= 0) {
				authority_file(m, ctx, file, names);
				free(file);
			} else {
				tls_refuse(m, "out of memory");
			}
		}
		free(entries[i]);
	}
	free(entries);
	if (!m->failed && sk_X509_NAME_num(names) == 0)
		tls_refuse(m,
		    "client_ca: %s: no certificate in it (of a folder, the files that end in .pem, "
		    ".crt or .cer are read)",
		    path);
}

void
tls_authorities_use(struct tls_making *m, SSL_CTX *ctx)
{
	const char *path = m->ls->client_ca;
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
	struct stat st;

	if (names == NULL)
		tls_refuse(m, "out of memory");
	else if (stat(path, &st) != 0)
		tls_refuse(m, "client_ca: %s: %s", path, strerror(errno));
	else if (S_ISDIR(st.st_mode))
		authority_folder(m, ctx, path, names);
	else
		authority_file(m, ctx, path, names);
	SSL_CTX_set_client_CA_list(ctx, names); /* takes it */
}

void
tls_revocations_use(struct tls_making *m, SSL_CTX *ctx)
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
			tls_refuse(m, "crl: %s: %s", path, tls_error(why, sizeof(why)));
	}
	if (m->ls->crl.count > 0)
		(void)X509_STORE_set_flags(
		    store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
}
