/* SPDX-License-Identifier: Apache-2.0 */
/* curl_text - the small texts of HTTP that libcurl leaves to its user: curl_loop.h */
#include "curl_loop.h"

#include <curl/curl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#define RETRY_AFTER_MAX (24 * 60 * 60) /* seconds */

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

/* RFC 9110 section 10.2.3 */
uint32_t
curl_retry_after(struct grapnel_str field, int64_t now_s)
{
	int64_t seconds = 0;
	char text[64];
	size_t digits = 0;

	if (field.len == 0 || field.len >= sizeof(text) ||
	    memchr(field.data, '\0', field.len) != NULL)
		return UINT32_MAX;
	memcpy(text, field.data, field.len);
	text[field.len] = '\0';
	for (; text[digits] >= '0' && text[digits] <= '9'; digits++)
		if (seconds <= RETRY_AFTER_MAX)
			seconds = seconds * 10 + (text[digits] - '0');
	if (digits < field.len) {
		time_t date;

		/* It takes much for a date; those of HTTP begin with the day of the week. */
		if (strchr("MTWFS", text[0]) == NULL || (date = curl_getdate(text, NULL)) < 0)
			return UINT32_MAX;
		seconds = date > now_s ? date - now_s : 0;
	}
	if (seconds > RETRY_AFTER_MAX)
		seconds = RETRY_AFTER_MAX;
	return (uint32_t)seconds * 1000;
}
