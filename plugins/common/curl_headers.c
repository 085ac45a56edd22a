/* SPDX-License-Identifier: Apache-2.0 */
/* curl_headers - the headers that are sent: curl_loop.h */
#include "curl_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADER_MAX 8192u

/* RFC 9110 section 5: a token, a colon, and no control characters: above all no CR and LF. */
bool
curl_header_check(struct grapnel_str h, const struct curl_why *why)
{
	size_t name = 0, value;

	if (h.len > HEADER_MAX)
		return curl_no(why, "a header has at most %u bytes", HEADER_MAX);
	while (name < h.len &&
	    (h.data[name] == '-' || h.data[name] == '_' ||
		(h.data[name] >= '0' && h.data[name] <= '9') ||
		(h.data[name] >= 'a' && h.data[name] <= 'z') ||
		(h.data[name] >= 'A' && h.data[name] <= 'Z')))
		name++;
	if (name == 0 || name == h.len || h.data[name] != ':')
		return curl_no(why, "a header is written \"Name: value\"");
	for (size_t i = 0; i < h.len; i++)
		if (((unsigned char)h.data[i] < ' ' && h.data[i] != '\t') || h.data[i] == 0x7F)
			return curl_no(
			    why, "a header has no line breaks and no other control characters");
	for (value = name + 1; value < h.len && (h.data[value] == ' ' || h.data[value] == '\t');)
		value++;
	if (value == h.len)
		return curl_no(why, "a header without a value");
	return true;
}

static bool
one_of(const char *header, const char *const *names)
{
	for (; *names != NULL; names++) {
		size_t len = strlen(*names);

		if (strncasecmp(header, *names, len) == 0 && header[len] == ':')
			return true;
	}
	return false;
}

/* How long the request is and where it ends is said by libcurl alone. */
static const char *const framing[] = { "Connection", "Content-Length", "Transfer-Encoding", NULL };
static const char *const credentials[] = { "Authorization", "Cookie", "Proxy-Authorization", NULL };

static bool
add(struct curl_call *c, size_t at, char *text, struct grapnel_str header,
    const struct curl_why *why)
{
	if (!curl_header_check(header, why))
		return false;
	memcpy(text, header.data, header.len);
	text[header.len] = '\0';
	if (one_of(text, framing))
		return curl_no(why, "\"%.20s\" is not for a request to say", text);
	c->headers[at].data = text;
	return true;
}

int
curl_headers_copy(struct curl_call *c, const struct curl_request *r, const struct curl_why *why)
{
	char type[CONTENT_TYPE_MAX];
	struct grapnel_str first = { type, 0 };
	bool body = r->body.data != NULL;
	size_t size, count = r->header_count;
	char *text;

	if (count > CURL_TARGET_MAX_HEADERS) {
		curl_no(why, "more than %u headers", CURL_TARGET_MAX_HEADERS);
		return 0;
	}
	if (body)
		first.len =
		    (size_t)snprintf(type, sizeof(type), "Content-Type: %s", r->content_type);
	if (first.len >= sizeof(type)) {
		curl_no(why, "the type of the content is longer than %u bytes", CONTENT_TYPE_MAX);
		return 0;
	}
	size = (count + body) * sizeof(*c->headers) + first.len + 1;
	for (size_t i = 0; i < count; i++)
		size += r->headers[i].len + 1;
	if (count + body == 0)
		return 1;
	if ((c->headers = malloc(size)) == NULL)
		return -1;
	text = (char *)(c->headers + count + body);
	if (body) {
		if (!add(c, 0, text, first, why))
			return 0;
		text += first.len + 1;
	}
	for (size_t i = 0; i < count; i++) {
		if (!add(c, i + body, text, r->headers[i], why))
			return 0;
		text += r->headers[i].len + 1;
	}
	c->header_count = count + body;
	c->own_headers = r->own_headers;
	return 1;
}

struct curl_slist *
curl_headers_chain(struct curl_call *c)
{
	/* The last one of the target's is no secret: "Expect:". */
	struct curl_slist *rest = c->foreign ? c->target->last_header : c->target->headers;

	for (size_t i = c->header_count; i-- > 0;) {
		if (c->foreign &&
		    (i + c->own_headers >= c->header_count ||
			one_of(c->headers[i].data, credentials)))
			continue;
		c->headers[i].next = rest;
		rest = &c->headers[i];
	}
	return rest;
}
