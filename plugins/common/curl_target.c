/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl_target - from options to what libcurl is told about a server
 *
 * All is checked, and all files are read, when the target is made: a bad certificate is an error of the configuration and
 * not of the first request, and files that only root can read need not be read again by a broker that has left it.
 */
#include "curl_private.h"
#include "read_file.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define URL_MAX      2048u
#define HEADER_MAX   8192u
#define PEM_MAX      (8u << 20)
#define BEARER       "Authorization: Bearer "
#define HTTP_DEFAULT "http"

struct why {
	char *text;
	size_t size;
};

static bool __attribute__((format(printf, 2, 3))) no(const struct why *why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(why->text, why->size, format, arguments);
	va_end(arguments);
	return false;
}

static char *
copy(struct grapnel_str s)
{
	char *text = malloc(s.len + 1);

	if (text == NULL)
		return NULL;
	if (s.len > 0)
		memcpy(text, s.data, s.len);
	text[s.len] = '\0';
	return text;
}

/* ---------------------------------------------------------------------------- URL */

static bool
part(CURLU *u, CURLUPart which, unsigned flags, char **out)
{
	char *text = NULL;

	if (curl_url_get(u, which, &text, flags) != CURLUE_OK)
		return false;
	*out = strdup(text);
	curl_free(text);
	return *out != NULL;
}

static bool
absent(CURLU *u, CURLUPart which)
{
	char *text = NULL;
	bool is = curl_url_get(u, which, &text, 0) != CURLUE_OK;

	curl_free(text);
	return is;
}

static bool
numeric(const char *host)
{
	struct in_addr v4;

	return host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1;
}

/* Names that libcurl would change before it looks them up would miss the address that it is given. */
static bool
check_host(const char *host, const struct why *why)
{
	size_t len = strlen(host);

	if (len == 0 || len > 253)
		return no(why, "the URL's host name is empty or too long");
	if (host[0] == '[')
		return true;
	for (size_t i = 0; i < len; i++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_",
			host[i]) == NULL)
			return no(why,
			    "the URL's host name may have letters of ASCII, digits, '.', '-' and "
			    "'_' only; write "
			    "other names as IDNA does (\"xn--...\")");
	if (host[len - 1] == '.')
		return no(why, "the URL's host name may not end with a dot");
	return true;
}

/* "%u" and the like would be taken for an escape, or not at all. */
static bool
check_escapes(const char *url, const struct why *why)
{
	for (const char *p = url; (p = strchr(p, '%')) != NULL; p++)
		if (strspn(p + 1, "0123456789abcdefABCDEF") < 2)
			return no(why,
			    "'%%' in a URL begins an escape like %%20; whom to ask never depends "
			    "on the client, so "
			    "that there are no places like %%u in it");
	return true;
}

static bool
set_url(struct curl_target *t, CURLU *u, const struct why *why)
{
	char *scheme = NULL, *path = NULL, *host = NULL;
	bool good = false;

	if (curl_url_set(u, CURLUPART_URL, t->url, 0) != CURLUE_OK)
		return no(why, "this is not a URL");
	if (!part(u, CURLUPART_SCHEME, 0, &scheme) || !part(u, CURLUPART_HOST, 0, &host) ||
	    !part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, &t->port) ||
	    !part(u, CURLUPART_PATH, 0, &path)) {
		no(why, "this is not a URL of http or https");
		goto out;
	}
	t->tls = strcmp(scheme, "https") == 0;
	if (!t->tls && strcmp(scheme, HTTP_DEFAULT) != 0) {
		no(why, "only http:// and https:// are possible");
		goto out;
	}
	if (!absent(u, CURLUPART_USER) || !absent(u, CURLUPART_PASSWORD)) {
		no(why,
		    "a URL is shown in the log: put credentials into a header, not into the URL");
		goto out;
	}
	if (!absent(u, CURLUPART_FRAGMENT)) {
		no(why, "'#' has no meaning in the URL of a request");
		goto out;
	}
	if (!check_host(host, why))
		goto out;
	t->has_query = !absent(u, CURLUPART_QUERY);
	if (asprintf(&t->name, "%s://%s:%s%s", scheme, host, t->port, path) < 0) {
		t->name = NULL;
		no(why, "no memory");
		goto out;
	}
	if (t->unix_socket == NULL && !numeric(host)) {
		t->host = host;
		host = NULL;
	}
	good = true;
out:
	free(scheme);
	free(path);
	free(host);
	return good;
}

static bool
load_url(struct curl_target *t, struct grapnel_str url, const struct why *why)
{
	CURLU *u;
	bool good;

	if (url.len == 0 || url.len > URL_MAX)
		return no(why, "a URL has 1 to %u bytes", URL_MAX);
	for (size_t i = 0; i < url.len; i++)
		if ((unsigned char)url.data[i] <= ' ' || (unsigned char)url.data[i] >= 0x7F)
			return no(why,
			    "a URL has no spaces, no control characters and only ASCII; write %%20 "
			    "and the like");
	t->url = copy(url);
	if (t->url == NULL)
		return no(why, "no memory");
	if (!check_escapes(t->url, why))
		return false;
	u = curl_url();
	if (u == NULL)
		return no(why, "no memory");
	good = set_url(t, u, why);
	curl_url_cleanup(u);
	return good;
}

/* ------------------------------------------------------------------------ headers */

/* RFC 9110 section 5: a token, a colon, and no control characters: above all no CR and LF. */
static bool
check_header(struct grapnel_str h, const struct why *why)
{
	size_t name = 0;

	if (h.len > HEADER_MAX)
		return no(why, "a header has at most %u bytes", HEADER_MAX);
	while (name < h.len &&
	    (h.data[name] == '-' || h.data[name] == '_' ||
		(h.data[name] >= '0' && h.data[name] <= '9') ||
		(h.data[name] >= 'a' && h.data[name] <= 'z') ||
		(h.data[name] >= 'A' && h.data[name] <= 'Z')))
		name++;
	if (name == 0 || name == h.len || h.data[name] != ':')
		return no(why, "a header is written \"Name: value\"");
	for (size_t i = 0; i < h.len; i++)
		if (((unsigned char)h.data[i] < ' ' && h.data[i] != '\t') || h.data[i] == 0x7F)
			return no(
			    why, "a header has no line breaks and no other control characters");
	if (strspn(h.data + name + 1, " \t") >= h.len - name - 1)
		return no(why, "a header without a value");
	return true;
}

static bool
add_header(struct curl_target *t, const char *text)
{
	struct curl_slist *more = curl_slist_append(t->headers, text);

	if (more != NULL)
		t->headers = more;
	return more != NULL;
}

static bool
load_header(struct curl_target *t, struct grapnel_str header, const struct why *why)
{
	char *text;
	bool good;

	text = copy(header);
	if (text == NULL)
		return no(why, "no memory");
	good = check_header((struct grapnel_str){ text, header.len }, why);
	if (good && !add_header(t, text))
		good = no(why, "no memory");
	explicit_bzero(text, header.len);
	free(text);
	return good;
}

static bool
load_headers(struct curl_target *t, const struct curl_target_options *o, const struct why *why)
{
	if (o->header_count > CURL_TARGET_MAX_HEADERS)
		return no(why, "more than %u headers", CURL_TARGET_MAX_HEADERS);
	for (size_t i = 0; i < o->header_count; i++)
		if (!load_header(t, o->headers[i], why))
			return false;
	if (o->bearer_token.data != NULL) {
		size_t len = strlen(BEARER) + o->bearer_token.len;
		char *text = malloc(len + 1);
		bool good;

		if (text == NULL)
			return no(why, "no memory");
		(void)snprintf(text, len + 1, BEARER);
		if (o->bearer_token.len > 0)
			memcpy(text + strlen(BEARER), o->bearer_token.data, o->bearer_token.len);
		good = load_header(t, (struct grapnel_str){ text, len }, why);
		explicit_bzero(text, len);
		free(text);
		if (!good)
			return false;
	}
	/* A question is small; waiting for "100 Continue" would cost a second with servers that do not know it. */
	return add_header(t, "Expect:") ? true : no(why, "no memory");
}

/* ---------------------------------------------------------------------------- TLS */

static bool
load_pem(struct grapnel_str path, struct curl_blob *out, const char *what, const struct why *why)
{
	struct file_text text;
	char *name = copy(path), error[512];
	bool good;

	if (name == NULL)
		return no(why, "no memory");
	if (path.len == 0 || strlen(name) != path.len) {
		free(name);
		return no(why, "%s: this is not a path", what);
	}
	good = read_file(name, PEM_MAX, &text, error, sizeof(error));
	free(name);
	if (!good)
		return no(why, "%s: %s", what, error);
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
check_pair(const struct curl_target *t, const struct why *why)
{
	X509 *certificate = first_certificate(&t->cert);
	BIO *bio = pem(&t->key);
	EVP_PKEY *key =
	    bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	bool good = true;

	if (certificate == NULL)
		good = no(why, "tls_cert: there is no certificate in PEM format in it");
	else if (key == NULL)
		good = no(why,
		    "tls_key: there is no private key in PEM format without a passphrase in it");
	else if (X509_check_private_key(certificate, key) != 1)
		good = no(why, "tls_key: it is not the key of tls_cert");
	BIO_free(bio);
	EVP_PKEY_free(key);
	X509_free(certificate);
	ERR_clear_error();
	return good;
}

static bool
load_tls(struct curl_target *t, const struct curl_target_options *o, const struct why *why)
{
	X509 *authority;

	if (!t->tls &&
	    (o->tls_ca.data != NULL || o->tls_cert.data != NULL || o->tls_key.data != NULL))
		return no(why, "certificates are of no use with http://; write https://");
	if (o->tls_ca.data != NULL) {
		if (!load_pem(o->tls_ca, &t->ca, "tls_ca", why))
			return false;
		authority = first_certificate(&t->ca);
		X509_free(authority);
		ERR_clear_error();
		if (authority == NULL) /* else libcurl would trust nobody, or the system's */
			return no(why, "tls_ca: there is no certificate in PEM format in it");
	}
	if ((o->tls_cert.data != NULL) != (o->tls_key.data != NULL))
		return no(why, "tls_cert and tls_key belong together");
	if (o->tls_cert.data == NULL)
		return true;
	return load_pem(o->tls_cert, &t->cert, "tls_cert", why) &&
	    load_pem(o->tls_key, &t->key, "tls_key", why) && check_pair(t, why);
}

/* ------------------------------------------------------------------------- target */

static bool
load(struct curl_target *t, const struct curl_target_options *o, const struct why *why)
{
	if (o->unix_socket.data != NULL) {
		if (o->unix_socket.len == 0 ||
		    o->unix_socket.len >= sizeof(((struct sockaddr_un *)0)->sun_path) ||
		    memchr(o->unix_socket.data, '\0', o->unix_socket.len) != NULL)
			return no(why, "this is not the path of a Unix socket");
		if ((t->unix_socket = copy(o->unix_socket)) == NULL)
			return no(why, "no memory");
	}
	t->http2 = o->http2;
	t->connect_timeout_ms = o->connect_timeout_ms;
	t->timeout_ms = o->timeout_ms;
	t->max_answer = o->max_answer;
	t->user_agent = strdup(o->user_agent);
	if (t->user_agent == NULL)
		return no(why, "no memory");
	return load_url(t, o->url, why) && load_headers(t, o, why) && load_tls(t, o, why);
}

struct curl_target *
curl_target_new(const struct curl_target_options *options, char *error, size_t error_size)
{
	struct curl_target *t = calloc(1, sizeof(*t));
	struct why why = { error, error_size };

	/* Counted by libcurl: here, and not in every plugin that has targets. */
	if (t == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(t);
		no(&why, "no memory");
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
	free(t->url);
	free(t->name);
	free(t->host);
	free(t->port);
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
apply_tls(const struct curl_target *t, CURL *easy)
{
	struct curl_blob blob;

	if (curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) != CURLE_OK)
		return false;
	if (t->ca.data != NULL) {
		blob = t->ca;
		/* The folder that libcurl was built with would be trusted beside the file. */
		if (curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob) != CURLE_OK ||
		    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) != CURLE_OK)
			return false;
	}
	if (t->cert.data == NULL)
		return true;
	blob = t->cert;
	if (curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &blob) != CURLE_OK)
		return false;
	blob = t->key;
	return curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &blob) == CURLE_OK;
}

bool
curl_target_apply(const struct curl_target *t, CURL *easy)
{
	if (!apply_protocols(easy) || (t->tls && !apply_tls(t, easy)) ||
	    curl_easy_setopt(easy, CURLOPT_URL, t->url) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_USERAGENT, t->user_agent) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_PROXY, "") !=
		CURLE_OK || /* nor one of the environment */
	    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)t->connect_timeout_ms) !=
		CURLE_OK)
		return false;
	if (t->host != NULL &&
	    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, refuse_to_resolve) != CURLE_OK)
		return false;
	if (t->unix_socket != NULL &&
	    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, t->unix_socket) != CURLE_OK)
		return false;
	/* Where libcurl has no HTTP/2, it goes without. */
	if (curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
		t->http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1) != CURLE_OK)
		return !t->http2;
	return !t->http2 || !t->tls || curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L) == CURLE_OK;
}
