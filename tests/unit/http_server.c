/* SPDX-License-Identifier: Apache-2.0 */
#include "http_server.h"

#include <arpa/inet.h>
#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX    (64u << 10)
#define CLIENTS_MAX 64u

struct http_server {
	int fd;
	unsigned port;
	SSL_CTX *tls;
	pthread_t thread, clients[CLIENTS_MAX];
	atomic_uint client_count;
};

struct client {
	int fd;
	SSL *tls;
	char head[HEAD_MAX + 1];
	size_t len; /* read so far; behind the head the body begins */
};

static int
receive(struct client *c, void *data, size_t len)
{
	return c->tls != NULL ? SSL_read(c->tls, data, (int)len) : (int)recv(c->fd, data, len, 0);
}

static void
send_text(struct client *c, const char *text)
{
	size_t len = strlen(text);

	if (c->tls != NULL)
		(void)SSL_write(c->tls, text, (int)len);
	else
		(void)send(c->fd, text, len, MSG_NOSIGNAL);
}

static void
answer(struct client *c, const char *status, const char *header, const char *body)
{
	size_t room = strlen(body) + strlen(header) + 200;
	char *text = malloc(room);

	ck_assert_ptr_nonnull(text);
	(void)snprintf(text, room,
	    "HTTP/1.1 %s x\r\n%sContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s", status,
	    header, strlen(body), body);
	send_text(c, text);
	free(text);
}

/* Up to the empty line; false: the client has gone. */
static bool
read_head(struct client *c, size_t *head_len)
{
	char *end;
	int got;

	c->head[c->len] = '\0';
	while ((end = strstr(c->head, "\r\n\r\n")) == NULL) {
		if (c->len == HEAD_MAX ||
		    (got = receive(c, c->head + c->len, HEAD_MAX - c->len)) <= 0)
			return false;
		c->len += (size_t)got;
		c->head[c->len] = '\0';
	}
	*head_len = (size_t)(end - c->head) + 4;
	return true;
}

static bool
read_body(struct client *c, size_t head_len, size_t *len, char *last)
{
	char *at = strcasestr(c->head, "\r\nContent-Length:"), rest[16384];
	size_t have = c->len - head_len;
	int got;

	*len = at != NULL && at < c->head + head_len ? strtoul(at + 17, NULL, 10) : 0;
	*last = have > 0 ? c->head[c->len - 1] : '-';
	while (have < *len) {
		if ((got = receive(c, rest, sizeof(rest))) <= 0)
			return false;
		have += (size_t)got;
		*last = rest[got - 1];
	}
	c->len = 0; /* nothing is pipelined */
	return true;
}

static void
replace(char *text, char from, char to)
{
	while ((text = strchr(text, from)) != NULL)
		*text = to;
}

static bool
respond(struct client *c, size_t body_len, char last)
{
	char path[4096], text[4200];
	char *whole;

	if (sscanf(c->head, "%*s /%4000s", path) != 1) // NOLINT
		return false;
	if (strcmp(path, "hang") == 0)
		return receive(c, text, 1) > 0;
	if (strcmp(path, "half") == 0) {
		send_text(c, "HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\nhalf");
		return false;
	}
	if (strcmp(path, "length") == 0) {
		(void)snprintf(text, sizeof(text), "%zu %c", body_len, last);
		answer(c, "200", "", text);
	} else if (strncmp(path, "retry/", 6) == 0) {
		replace(path, '_', ' ');
		(void)snprintf(text, sizeof(text), "Retry-After: %s\r\n", path + 6);
		answer(c, "503", text, "later");
	} else if (path[3] == '/') {
		path[3] = '\0';
		replace(path + 4, '~', '#');
		(void)snprintf(text, sizeof(text), "Location: %s\r\n", path + 4);
		answer(c, path, text, "elsewhere");
	} else {
		ck_assert_int_ge(
		    asprintf(&whole, "%sclient-cert: %s\n", c->head,
			c->tls != NULL && SSL_get0_peer_certificate(c->tls) != NULL ? "yes" : "no"),
		    0);
		answer(c, "200", "", whole);
		free(whole);
	}
	return true;
}

static void *
serve(void *arg)
{
	struct client *c = arg;
	size_t head_len, body_len;
	char last;

	if (c->tls == NULL || SSL_accept(c->tls) == 1)
		while (read_head(c, &head_len) && read_body(c, head_len, &body_len, &last)) {
			c->head[head_len] = '\0';
			if (!respond(c, body_len, last))
				break;
		}
	if (c->tls != NULL)
		(void)SSL_shutdown(c->tls);
	SSL_free(c->tls);
	close(c->fd);
	free(c);
	return NULL;
}

static void *
accept_clients(void *arg)
{
	struct http_server *s = arg;
	int fd;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
		struct client *c = calloc(1, sizeof(*c));
		unsigned n = atomic_load(&s->client_count);

		ck_assert(c != NULL && n < CLIENTS_MAX);
		c->fd = fd;
		if (s->tls != NULL) {
			c->tls = SSL_new(s->tls);
			ck_assert_int_eq(SSL_set_fd(c->tls, fd), 1);
		}
		ck_assert_int_eq(pthread_create(&s->clients[n], NULL, serve, c), 0);
		atomic_fetch_add(&s->client_count, 1);
	}
	return NULL;
}

static int
take_any_certificate(int good, X509_STORE_CTX *context)
{
	(void)good;
	(void)context;
	return 1;
}

struct http_server *
http_server_new(const char *pem)
{
	struct http_server *s = calloc(1, sizeof(*s));
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	ck_assert_ptr_nonnull(s);
	(void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	if (pem != NULL) {
		s->tls = SSL_CTX_new(TLS_server_method());
		ck_assert_int_eq(SSL_CTX_use_certificate_file(s->tls, pem, SSL_FILETYPE_PEM), 1);
		ck_assert_int_eq(SSL_CTX_use_PrivateKey_file(s->tls, pem, SSL_FILETYPE_PEM), 1);
		SSL_CTX_set_verify(s->tls, SSL_VERIFY_PEER, take_any_certificate);
		(void)SSL_CTX_set_session_id_context(s->tls, (const unsigned char *)"test", 4);
	}
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(s->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(s->fd, 64), 0);
	ck_assert_int_eq(getsockname(s->fd, (struct sockaddr *)&address, &len), 0);
	s->port = ntohs(address.sin_port);
	ck_assert_int_eq(pthread_create(&s->thread, NULL, accept_clients, s), 0);
	return s;
}

unsigned
http_server_port(const struct http_server *s)
{
	return s->port;
}

unsigned
http_server_connections(struct http_server *s)
{
	return atomic_load(&s->client_count);
}

void
http_server_free(struct http_server *s)
{
	if (s == NULL)
		return;
	(void)shutdown(s->fd, SHUT_RDWR); /* accept() returns */
	pthread_join(s->thread, NULL);
	for (unsigned i = 0; i < atomic_load(&s->client_count); i++)
		pthread_join(s->clients[i], NULL);
	close(s->fd);
	SSL_CTX_free(s->tls);
	free(s);
}

static void
pin_of(EVP_PKEY *key, char pin[64])
{
	unsigned char *der = NULL, hash[SHA256_DIGEST_LENGTH];
	int len = i2d_PUBKEY(key, &der);

	ck_assert_int_gt(len, 0);
	ck_assert_ptr_nonnull(SHA256(der, (size_t)len, hash));
	(void)strcpy(pin, "sha256//"); // NOLINT
	ck_assert_int_eq(EVP_EncodeBlock((unsigned char *)pin + 8, hash, sizeof(hash)), 44);
	OPENSSL_free(der);
}

void
http_server_certificate(const char *path, char pin[64])
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
	FILE *f = fopen(path, "w");

	ck_assert(key != NULL && x != NULL && san != NULL && f != NULL);
	ck_assert_int_eq(X509_set_version(x, 2), 1);
	(void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	(void)X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	(void)X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	(void)X509_NAME_add_entry_by_txt(
	    name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
	(void)X509_set_issuer_name(x, name);
	(void)X509_set_pubkey(x, key);
	(void)X509_add_ext(x, san, -1);
	ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
	ck_assert_int_eq(PEM_write_X509(f, x), 1);
	ck_assert_int_eq(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
	ck_assert_int_eq(fclose(f), 0);
	pin_of(key, pin);
	X509_EXTENSION_free(san);
	X509_free(x);
	EVP_PKEY_free(key);
}
