/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grapnel/host.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_context {
	SSL_CTX *ctx;
	bool check_name;
	char server_name[ENDPOINT_HOST_SIZE]; /* "": the host's */
};

static void
take_error(char *out, size_t size)
{
	unsigned long e = ERR_peek_error(); /* the first is the cause */
	const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;

	if (e != 0 && ERR_SYSTEM_ERROR(e))
		snprintf(out, size, "%s", strerror(ERR_GET_REASON(e)));
	else
		snprintf(out, size, "%s", reason != NULL ? reason : "TLS failed");
	ERR_clear_error();
}

static bool
path_of(struct grapnel_str text, char out[PATH_MAX])
{
	if (text.len >= PATH_MAX || memchr(text.data, '\0', text.len) != NULL)
		return false;
	memcpy(out, text.data, text.len);
	out[text.len] = '\0';
	return true;
}

/* 1: fine; else OpenSSL's queue has the reason, or the path is none. */
static bool
load_files(SSL_CTX *ctx, const struct tls_options *o, const char **option)
{
	char path[PATH_MAX];

	*option = "tls_ca";
	if (o->ca.data == NULL) {
		if (SSL_CTX_set_default_verify_paths(ctx) != 1)
			return false;
	} else if (!path_of(o->ca, path) || SSL_CTX_load_verify_file(ctx, path) != 1) {
		return false;
	}
	*option = "tls_certificate";
	if (o->certificate.data != NULL &&
	    (!path_of(o->certificate, path) || SSL_CTX_use_certificate_chain_file(ctx, path) != 1))
		return false;
	*option = "tls_private_key";
	return o->private_key.data == NULL ||
	    (path_of(o->private_key, path) &&
		SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) == 1 &&
		SSL_CTX_check_private_key(ctx) == 1);
}

struct tls_context *
tls_context_new(const struct tls_options *o, const char **option, char *error, size_t error_size)
{
	struct tls_context *t = calloc(1, sizeof(*t));

	*option = "tls";
	snprintf(error, error_size, "out of memory");
	if (t == NULL)
		return NULL;
	if ((t->ctx = SSL_CTX_new(TLS_client_method())) == NULL)
		goto fail;
	t->check_name = o->check_name;
	if ((o->certificate.data == NULL) != (o->private_key.data == NULL)) {
		*option = o->certificate.data != NULL ? "tls_certificate" : "tls_private_key";
		snprintf(error, error_size, "tls_certificate and tls_private_key need each other");
		goto fail;
	}
	if (o->server_name.len >= sizeof(t->server_name)) {
		*option = "tls_server_name";
		snprintf(error, error_size, "this is no host name");
		goto fail;
	}
	if (o->server_name.len > 0)
		memcpy(t->server_name, o->server_name.data, o->server_name.len);
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(t->ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
		SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	ERR_clear_error();
	if (!load_files(t->ctx, o, option)) {
		char why[160];

		take_error(why, sizeof(why));
		snprintf(error, error_size, "%s cannot be used: %s", *option, why);
		goto fail;
	}
	return t;
fail:
	tls_context_free(t);
	return NULL;
}

void
tls_context_free(struct tls_context *t)
{
	if (t == NULL)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

/* Of whom the certificate must be. */
static bool
expect_name(const struct tls_context *t, SSL *ssl, const struct endpoint *to)
{
	const char *name = t->server_name[0] != '\0' ? t->server_name : to->host;
	struct in6_addr address;
	bool numeric =
	    inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;

	if (to->is_path && t->server_name[0] == '\0')
		return !t->check_name; /* a path is no name */
	if (!numeric && SSL_set_tlsext_host_name(ssl, name) != 1)
		return false;
	if (!t->check_name)
		return true;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (numeric)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
	return SSL_set1_host(ssl, name) == 1;
}

SSL *
tls_open(const struct tls_context *t, int fd, const struct endpoint *to)
{
	SSL *ssl = SSL_new(t->ctx);

	if (ssl == NULL)
		return NULL;
	if (SSL_set_fd(ssl, fd) != 1 || !expect_name(t, ssl, to)) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_connect_state(ssl);
	return ssl;
}

void
tls_close(SSL *ssl)
{
	SSL_free(ssl);
}

static long
result_of(SSL *ssl, int rc, char *why, size_t why_size)
{
	long verified;

	switch (SSL_get_error(ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return TLS_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_END;
	default:
		break;
	}
	verified = SSL_get_verify_result(ssl);
	if (verified != X509_V_OK && !SSL_is_init_finished(ssl)) {
		snprintf(why, why_size, "its certificate is not accepted: %s",
		    X509_verify_cert_error_string(verified));
		ERR_clear_error();
	} else if (ERR_peek_error() == 0) {
		/* The socket failed, or ended without a word. */
		snprintf(
		    why, why_size, "%s", errno != 0 ? strerror(errno) : "it closed the connection");
	} else {
		take_error(why, why_size);
	}
	return TLS_FAILED;
}

long
tls_handshake(SSL *ssl, char *why, size_t why_size)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(ssl);
	return rc == 1 ? 1 : result_of(ssl, rc, why, why_size);
}

long
tls_read(SSL *ssl, char *buffer, size_t size, char *why, size_t why_size)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_read(ssl, buffer, size > INT_MAX ? INT_MAX : (int)size);
	return rc > 0 ? rc : result_of(ssl, rc, why, why_size);
}

long
tls_write(SSL *ssl, const char *data, size_t len, char *why, size_t why_size)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_write(ssl, data, len > INT_MAX ? INT_MAX : (int)len);
	return rc > 0 ? rc : result_of(ssl, rc, why, why_size);
}

unsigned
tls_wants(SSL *ssl)
{
	return SSL_want_write(ssl) ? GRAPNEL_READABLE | GRAPNEL_WRITABLE : GRAPNEL_READABLE;
}

bool
tls_pending(SSL *ssl)
{
	return SSL_pending(ssl) > 0;
}
