/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl_target - from options to what libcurl is told about a server
 *
 * All is checked, and all files are read, when the target is made: a bad certificate is an error of the configuration and
 * not of the first request, and files that only root can read need not be read again by a broker that has left it.
 */
#include "curl_private.h"
#include "read_file.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define PEM_MAX (8u << 20)
#define PIN_MAX 1024u
#define PIN     "sha256//"
#define BEARER  "Authorization: Bearer "

/* ---------------------------------------------------------------------------- URL */

/* "%u" and the like would be taken for an escape, or not at all. */
static bool
check_escapes(const char *url, const struct curl_why *why)
{
	for (const char *p = url; (p = strchr(p, '%')) != NULL; p++)
		if (strspn(p + 1, "0123456789abcdefABCDEF") < 2)
			return curl_no(why,
			    "'%%' in a URL begins an escape like %%20; whom to ask never depends "
			    "on the client, so that there are no places like %%u in it");
	return true;
}

/* A name shows only when it is asked what it means. */
static bool
check_guard(const struct curl_target *t, const struct curl_why *why)
{
	char text[64];
	size_t len;

	if (!t->no_private)
		return true;
	if (t->unix_socket != NULL)
		return curl_no(why, "a Unix socket is a private address, and those are refused");
	if (t->place.look_up)
		return true;
	(void)snprintf(
	    text, sizeof(text), "%s", t->place.host[0] == '[' ? t->place.host + 1 : t->place.host);
	len = strlen(text);
	if (len > 0 && text[len - 1] == ']')
		text[len - 1] = '\0';
	return !curl_text_is_private(text) ||
	    curl_no(why, "%s is a private address, and those are refused", text);
}

static bool
load_url(struct curl_target *t, struct grapnel_str url, const struct curl_why *why)
{
	CURLU *u;
	bool good;

	if (!curl_url_check(url, why))
		return false;
	t->place.url = text_copy(url);
	if (t->place.url == NULL)
		return curl_no(why, "no memory");
	if (!check_escapes(t->place.url, why))
		return false;
	u = curl_url();
	if (u == NULL)
		return curl_no(why, "no memory");
	good = curl_url_set(u, CURLUPART_URL, t->place.url, 0) == CURLUE_OK
	    ? curl_place_set(&t->place, u, &t->name, why)
	    : curl_no(why, "this is not a URL");
	curl_url_cleanup(u);
	if (t->unix_socket != NULL)
		t->place.look_up = false;
	return good && check_guard(t, why);
}

/* ------------------------------------------------------------------------ headers */

static bool
add_header(struct curl_target *t, const char *text)
{
	struct curl_slist *more = curl_slist_append(t->headers, text);

	if (more == NULL)
		return false;
	t->headers = more;
	t->last_header = t->last_header != NULL ? t->last_header->next : more;
	return true;
}

static bool
load_header(struct curl_target *t, struct grapnel_str header, const struct curl_why *why)
{
	char *text;
	bool good;

	text = text_copy(header);
	if (text == NULL)
		return curl_no(why, "no memory");
	good = curl_header_check((struct grapnel_str){ text, header.len }, why);
	if (good && !add_header(t, text))
		good = curl_no(why, "no memory");
	explicit_bzero(text, header.len);
	free(text);
	return good;
}

static bool
load_headers(struct curl_target *t, const struct curl_target_options *o, const struct curl_why *why)
{
	if (o->header_count > CURL_TARGET_MAX_HEADERS)
		return curl_no(why, "more than %u headers", CURL_TARGET_MAX_HEADERS);
	for (size_t i = 0; i < o->header_count; i++)
		if (!load_header(t, o->headers[i], why))
			return false;
	if (o->bearer_token.data != NULL) {
		size_t len = strlen(BEARER) + o->bearer_token.len;
		char *text = malloc(len + 1);
		bool good;

		if (text == NULL)
			return curl_no(why, "no memory");
		(void)snprintf(text, len + 1, BEARER);
		if (o->bearer_token.len > 0)
			memcpy(text + strlen(BEARER), o->bearer_token.data, o->bearer_token.len);
		good = load_header(t, (struct grapnel_str){ text, len }, why);
		explicit_bzero(text, len);
		free(text);
		if (!good)
			return false;
	}
	/* Waiting for "100 Continue" would cost a second with servers that do not know it. The last: curl_headers_chain. */
	return add_header(t, "Expect:") ? true : curl_no(why, "no memory");
}

/* ---------------------------------------------------------------------------- TLS */

static bool
load_pem(
    struct grapnel_str path, struct curl_blob *out, const char *what, const struct curl_why *why)
{
	struct file_text text;
	char *name = text_copy(path), error[512];
	bool good;

	if (name == NULL)
		return curl_no(why, "no memory");
	if (path.len == 0 || strlen(name) != path.len) {
		free(name);
		return curl_no(why, "%s: this is not a path", what);
	}
	good = read_file(name, PEM_MAX, &text, error, sizeof(error));
	free(name);
	if (!good)
		return curl_no(why, "%s: %s", what, error);
	out->data = text.data;
	out->len = text.len;
	out->flags = CURL_BLOB_NOCOPY;
	return true;
}

static BIO *
pem(const struct curl_blob *blob)
{
	return BIO_new_mem_buf(blob->data, (int)blob->len); /* at most PEM_MAX */
}

/* Nobody is there to type a passphrase, and OpenSSL would ask on the terminal. */
static int
no_passphrase(char *buffer, int size, int writing, void *arg)
{
	(void)buffer;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static X509 *
first_certificate(const struct curl_blob *blob)
{
	BIO *bio = pem(blob);
	X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;

	BIO_free(bio);
	return certificate;
}

static bool
check_pair(const struct curl_target *t, const struct curl_why *why)
{
	X509 *certificate = first_certificate(&t->cert);
	BIO *bio = pem(&t->key);
	EVP_PKEY *key =
	    bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	bool good = true;

	if (certificate == NULL)
		good = curl_no(why, "tls_cert: there is no certificate in PEM format in it");
	else if (key == NULL)
		good = curl_no(why,
		    "tls_key: there is no private key in PEM format without a passphrase in it");
	else if (X509_check_private_key(certificate, key) != 1)
		good = curl_no(why, "tls_key: it is not the key of tls_cert");
	BIO_free(bio);
	EVP_PKEY_free(key);
	X509_free(certificate);
	ERR_clear_error();
	return good;
}

/* "sha256//" and 32 bytes in base64, or several of those with ';' between them. */
static bool
load_pin(struct curl_target *t, struct grapnel_str pin, const struct curl_why *why)
{
	static const char alphabet[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const size_t prefix = sizeof(PIN) - 1, digits = 43;

	if (pin.len > PIN_MAX)
		return curl_no(why, "tls_pin: more than %u bytes", PIN_MAX);
	if ((t->pin = text_copy(pin)) == NULL)
		return curl_no(why, "no memory");
	for (const char *p = t->pin;; p++) {
		bool good = strncmp(p, PIN, prefix) == 0;

		if (good && strspn(p + prefix, alphabet) == digits && p[prefix + digits] == '=') {
			p += prefix + digits + 1;
			if (*p == '\0' && p == t->pin + pin.len)
				return true;
			if (*p == ';')
				continue;
		}
		return curl_no(why,
		    "tls_pin: a key is pinned by \"sha256//\" and 44 characters of base64; "
		    "several are separated by ';'");
	}
}

static bool
load_tls(struct curl_target *t, const struct curl_target_options *o, const struct curl_why *why)
{
	X509 *authority;

	if (!t->place.tls &&
	    (o->tls_ca.data != NULL || o->tls_cert.data != NULL || o->tls_key.data != NULL ||
		o->tls_pin.data != NULL))
		return curl_no(why, "certificates are of no use with http://; write https://");
	if (o->tls_pin.data != NULL && !load_pin(t, o->tls_pin, why))
		return false;
	if (o->tls_ca.data != NULL) {
		if (!load_pem(o->tls_ca, &t->ca, "tls_ca", why))
			return false;
		authority = first_certificate(&t->ca);
		X509_free(authority);
		ERR_clear_error();
		if (authority == NULL) /* else libcurl would trust nobody, or the system's */
			return curl_no(why, "tls_ca: there is no certificate in PEM format in it");
	}
	if ((o->tls_cert.data != NULL) != (o->tls_key.data != NULL))
		return curl_no(why, "tls_cert and tls_key belong together");
	if (o->tls_cert.data == NULL)
		return true;
	return load_pem(o->tls_cert, &t->cert, "tls_cert", why) &&
	    load_pem(o->tls_key, &t->key, "tls_key", why) && check_pair(t, why);
}

/* ------------------------------------------------------------------------- target */

static bool
load(struct curl_target *t, const struct curl_target_options *o, const struct curl_why *why)
{
	if (o->unix_socket.data != NULL) {
		if (o->unix_socket.len == 0 ||
		    o->unix_socket.len >= sizeof(((struct sockaddr_un *)0)->sun_path) ||
		    memchr(o->unix_socket.data, '\0', o->unix_socket.len) != NULL)
			return curl_no(why, "this is not the path of a Unix socket");
		if ((t->unix_socket = text_copy(o->unix_socket)) == NULL)
			return curl_no(why, "no memory");
	}
	t->http2 = o->http2;
	t->redirects = o->redirects;
	t->no_private = o->no_private_addresses;
	t->connect_timeout_ms = o->connect_timeout_ms;
	t->timeout_ms = o->timeout_ms;
	t->max_answer = o->max_answer;
	t->user_agent = strdup(o->user_agent);
	if (t->user_agent == NULL)
		return curl_no(why, "no memory");
	return load_url(t, o->url, why) && load_headers(t, o, why) && load_tls(t, o, why);
}

struct curl_target *
curl_target_new(const struct curl_target_options *options, char *error, size_t error_size)
{
	struct curl_target *t = calloc(1, sizeof(*t));
	struct curl_why why = { error, error_size };

	/* Counted by libcurl: here, and not in every plugin that has targets. */
	if (t == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(t);
		curl_no(&why, "no memory");
		return NULL;
	}
	if (load(t, options, &why))
		return t;
	curl_target_free(t);
	return NULL;
}

static void
blob_free(struct curl_blob *blob)
{
	if (blob->data != NULL)
		explicit_bzero(blob->data, blob->len);
	free(blob->data);
}

void
curl_target_free(struct curl_target *t)
{
	if (t == NULL)
		return;
	for (struct curl_slist *h = t->headers; h != NULL; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
	curl_slist_free_all(t->headers);
	blob_free(&t->ca);
	blob_free(&t->cert);
	blob_free(&t->key);
	curl_place_free(&t->place);
	free(t->name);
	free(t->pin);
	free(t->unix_socket);
	free(t->user_agent);
	free(t);
	curl_global_cleanup();
}

const char *
curl_target_name(const struct curl_target *t)
{
	return t->name;
}

/* For names; an address never gets here. libcurl would start a thread, and may have to wait for it. */
static int
refuse_to_resolve(void *resolver, void *reserved, void *arg)
{
	(void)resolver;
	(void)reserved;
	(void)arg;
	return 1;
}

static bool
apply_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
#else
	return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS) ==
	    CURLE_OK;
#endif
}

static bool
apply_tls(const struct curl_target *t, bool foreign, CURL *easy)
{
	struct curl_blob blob;

	if (curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) != CURLE_OK)
		return false;
	if (t->pin != NULL && curl_easy_setopt(easy, CURLOPT_PINNEDPUBLICKEY, t->pin) != CURLE_OK)
		return false;
	if (t->ca.data != NULL) {
		blob = t->ca;
		/* The folder that libcurl was built with would be trusted beside the file. */
		if (curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob) != CURLE_OK ||
		    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) != CURLE_OK)
			return false;
	}
	if (t->cert.data == NULL || foreign)
		return true;
	blob = t->cert;
	if (curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &blob) != CURLE_OK)
		return false;
	blob = t->key;
	return curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &blob) == CURLE_OK;
}

bool
curl_target_apply(
    const struct curl_target *t, const struct curl_place *place, bool foreign, CURL *easy)
{
	if (!apply_protocols(easy) || (place->tls && !apply_tls(t, foreign, easy)) ||
	    curl_easy_setopt(easy, CURLOPT_URL, place->url) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_USERAGENT, t->user_agent) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_PROXY, "") !=
		CURLE_OK || /* nor one of the environment */
	    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)t->connect_timeout_ms) !=
		CURLE_OK)
		return false;
	if (place->look_up &&
	    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, refuse_to_resolve) != CURLE_OK)
		return false;
	if (t->unix_socket != NULL && !foreign &&
	    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, t->unix_socket) != CURLE_OK)
		return false;
	/* Where libcurl has no HTTP/2, it goes without. */
	if (curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
		t->http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1) != CURLE_OK)
		return !t->http2;
	return !t->http2 || !place->tls || curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L) == CURLE_OK;
}
