/* SPDX-License-Identifier: Apache-2.0 */
#include "host_pure.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#define METRIC_NAME_MAX 100u

const char *
hook_name(enum hook h)
{
	static const char *const hook_names[HOOK_COUNT] = {
		[HOOK_AUTHENTICATE] = "client_authenticate",
		[HOOK_AUTH_EXCHANGE] = "client_auth_exchange",
		[HOOK_REVALIDATE] = "client_revalidate",
		[HOOK_ACL] = "acl_check",
		[HOOK_PUBLISH] = "message_publish",
		[HOOK_SUBSCRIBE] = "client_subscribe",
		[HOOK_UNSUBSCRIBE] = "client_unsubscribe",
		[HOOK_DELIVER] = "message_deliver",
		[HOOK_ACKNOWLEDGE] = "message_acknowledge",
		[HOOK_TLS_PSK] = "tls_psk_key",
	};

	return (unsigned)h < HOOK_COUNT ? hook_names[h] : "?";
}

bool
hook_find(const char *name, enum hook *out)
{
	for (unsigned h = 0; name != NULL && h < HOOK_COUNT; h++) {
		if (strcmp(hook_name((enum hook)h), name) == 0) {
			*out = (enum hook)h;
			return true;
		}
	}
	return false;
}

int
pure_random_bytes(void *buffer, size_t len)
{
	uint8_t *p = buffer;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno != EINTR)
			return GRAPNEL_ESYS;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return GRAPNEL_OK;
}

/* The length is no secret. */
bool
pure_secret_equal(struct grapnel_str a, struct grapnel_str b)
{
	volatile uint8_t differ = 0;

	if (a.len != b.len || ((a.data == NULL) != (b.data == NULL)))
		return false;
	for (size_t i = 0; i < a.len; i++)
		differ = differ | (uint8_t)(a.data[i] ^ b.data[i]);
	return differ == 0;
}

bool
plain_name(const char *name, const char *besides)
{
	if (!islower((unsigned char)*name))
		return false;
	for (; *name != '\0'; name++) {
		if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) &&
		    strchr(besides, *name) == NULL)
			return false;
	}
	return true;
}

bool
metric_name_valid(const char *name)
{
	return name != NULL && strlen(name) <= METRIC_NAME_MAX && plain_name(name, "_");
}
