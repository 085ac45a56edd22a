/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint - where a server is: host and port, or the path of a Unix socket
 *
 * Threads:   pure.
 */
#ifndef AUTH_REDIS_ENDPOINT_H
#define AUTH_REDIS_ENDPOINT_H

#include <grapnel/types.h>

#define ENDPOINT_HOST_SIZE 256u
#define ENDPOINT_PATH_MAX  107u /* of sun_path, without its NUL */
#define ENDPOINT_TEXT_SIZE (ENDPOINT_HOST_SIZE + 16u)

struct endpoint {
	char host[ENDPOINT_HOST_SIZE]; /* name, numeric address without brackets, or path */
	uint16_t port;
	bool is_path;
};

/* "host", "host:port", "[2001:db8::1]:port", "2001:db8::1", "unix:/path". false: none of these. */
bool endpoint_parse(struct grapnel_str text, uint16_t default_port, struct endpoint *out);
/* Of two parts, as servers send them. false: not usable. */
bool endpoint_set(struct endpoint *out, struct grapnel_str host, struct grapnel_str port);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
void endpoint_text(const struct endpoint *e, char out[ENDPOINT_TEXT_SIZE]);

#endif
