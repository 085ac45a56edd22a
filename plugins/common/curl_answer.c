/* SPDX-License-Identifier: Apache-2.0 */
/* curl_answer - what is kept of an answer while it comes: curl_loop.h */
#include "curl_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX (64u << 10) /* bytes of all headers of an answer */
#define BODY_FIRST  1024u

size_t
curl_answer_on_body(char *data, size_t one, size_t len, void *arg)
{
	struct curl_call *c = arg;
	size_t wanted = c->answer_len + len * one + 1;

	len *= one;
	if (len > c->target->max_answer - c->answer_len) {
		c->too_large = true;
		return 0;
	}
	if (wanted > c->answer_capacity) {
		size_t capacity = c->answer_capacity > 0 ? c->answer_capacity * 2 : BODY_FIRST;
		char *more;

		if (capacity < wanted)
			capacity = wanted;
		more = realloc(c->answer, capacity);
		if (more == NULL) {
			c->no_memory = true;
			return 0;
		}
		c->answer = more;
		c->answer_capacity = capacity;
	}
	memcpy(c->answer + c->answer_len, data, len);
	c->answer_len += len;
	c->answer[c->answer_len] = '\0';
	return len;
}

static void
keep_cache_control(struct curl_call *c, struct grapnel_str value)
{
	size_t have = strlen(c->cache_control);

	/* More than is kept is more than anyone means: the strictest reading is the safe one. */
	if (have + value.len + 2 > sizeof(c->cache_control))
		(void)snprintf(c->cache_control, sizeof(c->cache_control), "no-store");
	else
		(void)snprintf(c->cache_control + have, sizeof(c->cache_control) - have, "%s%.*s",
		    have > 0 ? "," : "", (int)value.len, value.data);
}

static void
keep_retry_after(struct curl_call *c, struct grapnel_str value)
{
	int64_t now = c->loop->host->wall_us() / 1000000;

	if (c->retry_after_ms == UINT32_MAX)
		c->retry_after_ms = curl_retry_after(value, now);
}

/* It is for log lines too: what cannot be a URL is not kept. */
static void
keep_location(struct curl_call *c, struct grapnel_str value)
{
	char unused[8];
	const struct curl_why why = { unused, sizeof(unused) };

	if (c->location == NULL && curl_url_check(value, &why))
		c->location = text_copy(value);
}

static const struct {
	const char *name;
	size_t len;
	void (*keep)(struct curl_call *c, struct grapnel_str value);
} kept[] = {
#define KEPT(name, keep)                     \
	{                                    \
		name, sizeof(name) - 1, keep \
	}
	KEPT("Cache-Control", keep_cache_control),
	KEPT("Location", keep_location),
	KEPT("Retry-After", keep_retry_after),
};

static void
keep(struct curl_call *c, const char *line, size_t len)
{
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		size_t name = kept[i].len;

		if (len <= name || line[name] != ':' || strncasecmp(line, kept[i].name, name) != 0)
			continue;
		for (name++; name < len && (line[name] == ' ' || line[name] == '\t');)
			name++;
		while (len > name && strchr(" \t\r\n", line[len - 1]) != NULL)
			len--;
		kept[i].keep(c, (struct grapnel_str){ line + name, len - name });
		return;
	}
}

static void
forget_headers(struct curl_call *c)
{
	c->cache_control[0] = '\0';
	c->retry_after_ms = UINT32_MAX;
	free(c->location);
	c->location = NULL;
}

size_t
curl_answer_on_header(char *data, size_t one, size_t len, void *arg)
{
	struct curl_call *c = arg;

	len *= one;
	c->headers_len += len;
	if (c->headers_len > HEADERS_MAX) {
		c->too_large = true;
		return 0;
	}
	c->status_known = len > 0 && (data[0] == '\r' || data[0] == '\n');
	if (len > 5 && memcmp(data, "HTTP/", 5) == 0)
		forget_headers(c); /* those were of "100 Continue" or the like */
	else
		keep(c, data, len);
	return len;
}

void
curl_answer_reset(struct curl_call *c)
{
	forget_headers(c);
	if (c->answer != NULL)
		explicit_bzero(c->answer, c->answer_len);
	c->answer_len = 0;
	c->headers_len = 0;
}
