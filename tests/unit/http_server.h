/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_server - a server for tests of what asks over HTTP/1.1, on a port of 127.0.0.1
 *
 * It has no state; the path says what is answered:
 *	/echo		200, with the request's head as the body, and a last line "client-cert: yes|no"
 *	/length		200, with the length of the request's body and its last byte
 *	/307/URL	that status (any of three digits) with "Location: URL", the rest of the path; '~' is a '#'
 *	/retry/TEXT	503 with "Retry-After: TEXT", where '_' is a space
 *	/hang		nothing, until the client goes
 *	/half		the beginning of an answer, then the end of the connection
 *
 * Threads:   one for each connection; they end when the clients are gone.
 */
#ifndef TESTS_UNIT_HTTP_SERVER_H
#define TESTS_UNIT_HTTP_SERVER_H

#include <stdbool.h>

struct http_server;

/* pem: NULL, or the path of a file with certificate and key: TLS, and the client is asked for a certificate. */
struct http_server *http_server_new(const char *pem);
unsigned http_server_port(const struct http_server *s);
unsigned http_server_connections(struct http_server *s); /* accepted so far */
void http_server_free(struct http_server *s);		 /* waits for its clients to go */

/* Writes a new key and a certificate of itself, for 127.0.0.1, to path; pin gets "sha256//..." of it. */
void http_server_certificate(const char *path, char pin[64]);

#endif
