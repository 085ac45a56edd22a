/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include <stdio.h>
#include <string.h>

/* Letters, digits and what addresses and names have besides; nothing that a log or a resolver could misread. */
static bool
is_host(struct grapnel_str host)
{
	if (host.len == 0 || host.len >= ENDPOINT_HOST_SIZE)
		return false;
	for (size_t i = 0; i < host.len; i++) {
		char c = host.data[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '.' || c == '-' || c == '_' || c == ':' || c == '%'))
			return false;
	}
	return true;
}

static bool
parse_port(struct grapnel_str text, uint16_t *out)
{
	unsigned value = 0;

	if (text.len == 0 || text.len > 5)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		value = value * 10 + (unsigned)(text.data[i] - '0');
	}
	if (value == 0 || value > UINT16_MAX)
		return false;
	*out = (uint16_t)value;
	return true;
}

bool
endpoint_set(struct endpoint *out, struct grapnel_str host, struct grapnel_str port)
{
	struct endpoint e = { .is_path = false };

	if (!is_host(host) || !parse_port(port, &e.port))
		return false;
	memcpy(e.host, host.data, host.len);
	*out = e;
	return true;
}

static bool
parse_path(struct grapnel_str path, struct endpoint *out)
{
	struct endpoint e = { .is_path = true };

	if (path.len == 0 || path.len > ENDPOINT_PATH_MAX || path.data[0] != '/' ||
	    memchr(path.data, '\0', path.len) != NULL)
		return false;
	memcpy(e.host, path.data, path.len);
	*out = e;
	return true;
}

bool
endpoint_parse(struct grapnel_str text, uint16_t default_port, struct endpoint *out)
{
	struct grapnel_str host = text, port;
	const char *colon, *end;
	char number[8];

	if (text.data == NULL)
		return false;
	if (text.len > 5 && memcmp(text.data, "unix:", 5) == 0)
		return parse_path((struct grapnel_str){ text.data + 5, text.len - 5 }, out);
	port.data = number;
	port.len = (size_t)snprintf(number, sizeof(number), "%u", default_port);
	end = text.data + text.len;
	if (text.len > 0 && text.data[0] == '[') {
		const char *close = memchr(text.data, ']', text.len);

		if (close == NULL || (close + 1 < end && close[1] != ':'))
			return false;
		host = (struct grapnel_str){ text.data + 1, (size_t)(close - text.data) - 1 };
		if (close + 1 < end)
			port = (struct grapnel_str){ close + 2, (size_t)(end - close) - 2 };
		return endpoint_set(out, host, port);
	}
	colon = memchr(text.data, ':', text.len);
	/* More than one is an IPv6 address without a port. */
	if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon) - 1) == NULL) {
		host.len = (size_t)(colon - text.data);
		port = (struct grapnel_str){ colon + 1, (size_t)(end - colon) - 1 };
	}
	return endpoint_set(out, host, port);
}

bool
endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->is_path == b->is_path && a->port == b->port && strcmp(a->host, b->host) == 0;
}

void
endpoint_text(const struct endpoint *e, char out[ENDPOINT_TEXT_SIZE])
{
	if (e->is_path)
		snprintf(out, ENDPOINT_TEXT_SIZE, "unix:%s", e->host);
	else if (strchr(e->host, ':') != NULL)
		snprintf(out, ENDPOINT_TEXT_SIZE, "[%s]:%u", e->host, e->port);
	else
		snprintf(out, ENDPOINT_TEXT_SIZE, "%s:%u", e->host, e->port);
}
