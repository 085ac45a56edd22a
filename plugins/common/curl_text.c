/* SPDX-License-Identifier: Apache-2.0 */
/* curl_text - the small texts of HTTP that libcurl leaves to its user: curl_loop.h */
#include "curl_loop.h"

#include <curl/curl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

size_t
curl_percent_encode(char *out, size_t room, struct grapnel_str value)
{
	char *text;
	size_t len;

	if (value.len == 0)
		return 0;
	if (value.len > INT_MAX / 4)
		return SIZE_MAX;
	text = curl_easy_escape(NULL, value.data, (int)value.len);
	if (text == NULL)
		return SIZE_MAX;
	len = strlen(text);
	if (len <= room)
		memcpy(out, text, len);
	explicit_bzero(text, len); /* it may be a password */
	curl_free(text);
	return len;
}

static bool
is(struct grapnel_str word, const char *name)
{
	return word.len == strlen(name) && strncasecmp(word.data, name, word.len) == 0;
}

/* delta-seconds: RFC 9111 section 1.2.2; what is no number counts as stale. */
static uint32_t
seconds_to_ms(struct grapnel_str number)
{
	uint64_t n = 0;

	if (number.len >= 2 && number.data[0] == '"' && number.data[number.len - 1] == '"') {
		number.data++;
		number.len -= 2;
	}
	for (size_t i = 0; i < number.len; i++) {
		if (number.data[i] < '0' || number.data[i] > '9')
			return 0;
		n = n * 10 + (uint64_t)(number.data[i] - '0');
		if (n > UINT32_MAX / 1000)
			return UINT32_MAX / 1000 * 1000;
	}
	return (uint32_t)n * 1000;
}

static void
one_directive(struct grapnel_str d, bool *no_store, uint32_t *max_age_ms)
{
	const char *equals = memchr(d.data, '=', d.len);
	struct grapnel_str value = { NULL, 0 };

	if (equals != NULL) {
		value.data = equals + 1;
		value.len = d.len - (size_t)(value.data - d.data);
		d.len = (size_t)(equals - d.data);
	}
	if (is(d, "no-store") || is(d, "no-cache"))
		*no_store = true;
	if (is(d, "max-age")) {
		*max_age_ms = value.data != NULL ? seconds_to_ms(value) : 0;
		if (*max_age_ms == 0)
			*no_store = true;
	}
}

void
curl_cache_control(struct grapnel_str field, bool *no_store, uint32_t *max_age_ms)
{
	const char *end;

	*no_store = false;
	*max_age_ms = 0;
	if (field.len == 0)
		return;
	end = field.data + field.len;
	for (const char *p = field.data; p < end;) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *next = comma != NULL ? comma : end, *last = next;

		while (p < last && (*p == ' ' || *p == '\t'))
			p++;
		while (last > p && (last[-1] == ' ' || last[-1] == '\t'))
			last--;
		if (last > p)
			one_directive(
			    (struct grapnel_str){ p, (size_t)(last - p) }, no_store, max_age_ms);
		p = next + 1;
	}
}
