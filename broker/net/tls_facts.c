/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a verified certificate says about a peer: attributes of the Client, and its user name where `identity` says so.
 *
 * Names in certificates are whatever their authority let through: only UTF-8 without control characters is taken, and a
 * name that was asked for and cannot be taken refuses the peer.
 */
#include "net/tls_internal.h"
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TEXT_MAX 1024

static size_t
bio_take(BIO *bio, char *out, size_t size)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	if (len <= 0 || (size_t)len >= size)
		return 0;
	memcpy(out, data, (size_t)len);
	return (size_t)len;
}

/* RFC 2253, in UTF-8. @return its length; 0: none, or too long. */
static size_t
name_text(X509_NAME *name, char *out, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	size_t len = 0;

	if (bio != NULL &&
	    X509_NAME_print_ex(
		bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0)
		len = bio_take(bio, out, size);
	BIO_free(bio);
	return len;
}

/* The last, most specific CN. false: none, or not to be used. */
static bool
common_name(X509 *x, const char **out, size_t *len, unsigned char **owned)
{
	X509_NAME *name = X509_get_subject_name(x);
	int at = -1, last = -1, n;

	while ((at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0)
		last = at;
	if (last < 0 ||
	    (n = ASN1_STRING_to_UTF8(
		 owned, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)))) <= 0)
		return false;
	*out = (const char *)*owned;
	*len = (size_t)n;
	return true;
}

static const char *
san_attribute(int type)
{
	switch (type) {
	case GEN_DNS:
		return "cert.dns";
	case GEN_EMAIL:
		return "cert.email";
	case GEN_URI:
		return "cert.uri";
	default:
		return NULL;
	}
}

/* Alternative names: the first of each kind becomes an attribute; the first of all is the identity "san". */
static bool
alternative_names(struct facts *f, X509 *x, bool as_username)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	bool chosen = false, tried = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		const char *attribute = san_attribute(g->type);
		const ASN1_IA5STRING *text = g->d.ia5;

		if (attribute == NULL)
			continue;
		if (facts_find(f, attribute) == NULL)
			(void)facts_add(f, attribute, ASN1_STRING_get0_data(text),
			    (size_t)ASN1_STRING_length(text));
		if (as_username && !tried)
			chosen = facts_set_username(f, GRAPNEL_IDENTITY_CERTIFICATE,
			    ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
		tried = true;
	}
	GENERAL_NAMES_free(names);
	return chosen;
}

static void
hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
}

static void
number_and_fingerprint(struct facts *f, X509 *x)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
	size_t len = (size_t)ASN1_STRING_length(serial);
	uint8_t digest[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE];
	unsigned digest_len;

	if (len > 0 && len <= EVP_MAX_MD_SIZE) {
		hex(ASN1_STRING_get0_data(serial), len, text);
		(void)facts_add(f, "cert.serial", text, 2 * len);
	}
	if (X509_digest(x, EVP_sha256(), digest, &digest_len) == 1) {
		hex(digest, digest_len, text);
		(void)facts_add(f, "cert.fingerprint", text, 2 * (size_t)digest_len);
	}
}

/* When it ends, in seconds since 1970: a login by it can end then, too. */
static void
end_of(struct facts *f, X509 *x)
{
	char text[24];
	struct tm tm;
	int len;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1)
		return;
	len = snprintf(text, sizeof(text), "%lld", (long long)timegm(&tm));
	(void)facts_add(f, "cert.not_after", text, (size_t)len);
}

static bool
of_certificate(struct handshake *h, X509 *x)
{
	struct facts *f = &h->facts;
	enum identity_from identity = h->ls->identity;
	unsigned char *owned = NULL;
	const char *cn = NULL;
	char text[TEXT_MAX];
	size_t cn_len = 0, len;
	bool have_cn = common_name(x, &cn, &cn_len, &owned), named = true;

	if ((len = name_text(X509_get_subject_name(x), text, sizeof(text))) > 0)
		(void)facts_add(f, "cert.subject", text, len);
	if (identity == IDENTITY_SUBJECT)
		named = len > 0 && facts_set_username(f, GRAPNEL_IDENTITY_CERTIFICATE, text, len);
	if ((len = name_text(X509_get_issuer_name(x), text, sizeof(text))) > 0)
		(void)facts_add(f, "cert.issuer", text, len);
	if (have_cn)
		(void)facts_add(f, "cert.cn", cn, cn_len);
	if (identity == IDENTITY_CN)
		named = have_cn && facts_set_username(f, GRAPNEL_IDENTITY_CERTIFICATE, cn, cn_len);
	OPENSSL_free(owned);
	if (!alternative_names(f, x, identity == IDENTITY_SAN) && identity == IDENTITY_SAN)
		named = false;
	number_and_fingerprint(f, x);
	end_of(f, x);
	ERR_clear_error();
	if (!named)
		(void)handshake_fail(h,
		    "its certificate is good, but has no %s that can be a user name (UTF-8 without "
		    "control characters)",
		    identity == IDENTITY_CN        ? "CN"
			: identity == IDENTITY_SAN ? "alternative name (DNS, e-mail, URI)"
						   : "subject");
	return named;
}

bool
tls_facts(struct handshake *h, SSL *ssl)
{
	const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	X509 *x = SSL_get0_peer_certificate(ssl);

	if (sni != NULL)
		(void)facts_add(&h->facts, "tls.sni", sni, strlen(sni));
	if (x == NULL || SSL_get_verify_result(ssl) != X509_V_OK)
		return true;
	return of_certificate(h, x);
}
