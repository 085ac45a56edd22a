/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include "../common/base64.h"
#include "../common/utf8.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 1024u
#define EVERY_BYTE     UINT64_C(0x0101010101010101)

void
text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

void
text_clear(struct text *t)
{
	t->len = 0;
	t->failed = false;
}

static bool
grow(struct text *t, size_t more)
{
	size_t capacity = t->capacity > 0 ? t->capacity : FIRST_CAPACITY;
	char *data;

	while (capacity - t->len < more && capacity <= SIZE_MAX / 4)
		capacity *= 2;
	if (capacity - t->len < more || (data = realloc(t->data, capacity)) == NULL) {
		t->failed = true;
		return false;
	}
	t->data = data;
	t->capacity = capacity;
	return true;
}

/* Where `more` bytes can be written; NULL: memory is short, now or earlier. */
static inline char *
room(struct text *t, size_t more)
{
	if (t->failed || (t->capacity - t->len < more && !grow(t, more)))
		return NULL;
	return t->data + t->len;
}

void
text_put(struct text *t, const char *data, size_t len)
{
	char *to;

	if (len == 0 || (to = room(t, len)) == NULL)
		return;
	memcpy(to, data, len);
	t->len += len;
}

void
text_puts(struct text *t, const char *s)
{
	text_put(t, s, strlen(s));
}

void
text_char(struct text *t, char c)
{
	char *to = room(t, 1);

	if (to == NULL)
		return;
	*to = c;
	t->len++;
}

void
text_uint(struct text *t, uint64_t n)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	text_put(t, digits + at, sizeof(digits) - at);
}

void
text_int(struct text *t, int64_t n)
{
	if (n < 0)
		text_char(t, '-');
	text_uint(t, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

void
json_name(struct text *t, const char *name)
{
	size_t len = strlen(name);
	char *to = room(t, len + 4);

	if (to == NULL)
		return;
	if (t->len > 0 && to[-1] != '{' && to[-1] != '[')
		*to++ = ',';
	*to++ = '"';
	memcpy(to, name, len);
	to += len;
	*to++ = '"';
	*to++ = ':';
	t->len = (size_t)(to - t->data);
}

/* A byte of v is below 0x20, above 0x7e, '"' or '\'. May say yes wrongly, behind such a byte; never no. */
static inline bool
any_special(uint64_t v)
{
	uint64_t quote = v ^ EVERY_BYTE * '"', backslash = v ^ EVERY_BYTE * '\\';
	uint64_t low = v - EVERY_BYTE * 0x20, high = v | (v + EVERY_BYTE);

	return ((low | high | (quote - EVERY_BYTE) | (backslash - EVERY_BYTE)) &
		   EVERY_BYTE * 0x80) != 0;
}

/* Bytes from p that stand in a JSON string as they are. */
static size_t
plain_run(const char *p, size_t len)
{
	size_t n = 0;
	uint64_t v;

	for (;;) {
		for (; len - n >= sizeof(v); n += sizeof(v)) {
			memcpy(&v, p + n, sizeof(v));
			if (any_special(v))
				break;
		}
		while (n < len && (unsigned char)p[n] >= 0x20 && (unsigned char)p[n] < 0x7f &&
		    p[n] != '"' && p[n] != '\\')
			n++;
		if (n == len || (unsigned char)p[n] < 0x80)
			return n;
		size_t sequence = utf8_sequence((struct grapnel_str){ p + n, len - n });
		/* C1 controls move a terminal's cursor as those of ASCII do: escaped. */
		if (sequence == 0 ||
		    (sequence == 2 && p[n] == '\xc2' && (unsigned char)p[n + 1] < 0xa0))
			return n;
		n += sequence;
	}
}

/* c is below 0x80. */
static void
put_escape(struct text *t, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[] = "btn\0fr"; /* from 8 on */
	char escape[] = "\\u00XX";
	size_t len = 2;

	if (c == '"' || c == '\\') {
		escape[1] = (char)c;
	} else if (c >= 8 && c <= 13 && letters[c - 8] != '\0') {
		escape[1] = letters[c - 8];
	} else {
		escape[4] = hex[c >> 4];
		escape[5] = hex[c & 15];
		len = 6;
	}
	text_put(t, escape, len);
}

void
json_escape(struct text *t, struct grapnel_str s)
{
	for (size_t n; s.len > 0; s.data += n, s.len -= n) {
		if ((n = plain_run(s.data, s.len)) > 0) {
			text_put(t, s.data, n);
		} else if ((unsigned char)s.data[0] < 0x80) {
			put_escape(t, (unsigned char)s.data[0]);
			n = 1;
		} else if ((n = utf8_sequence(s)) > 0) {
			text_puts(t, "\\u00");
			text_char(t, s.data[1] & 0x10 ? '9' : '8');
			text_char(t, "0123456789abcdef"[s.data[1] & 15]);
		} else {
			text_puts(t, "\xef\xbf\xbd");
			n = 1;
		}
	}
}

void
json_text(struct text *t, struct grapnel_str s)
{
	if (s.data == NULL) {
		text_puts(t, "null");
		return;
	}
	text_char(t, '"');
	json_escape(t, s);
	text_char(t, '"');
}

void
json_bool(struct text *t, bool value)
{
	text_puts(t, value ? "true" : "false");
}

void
text_base64(struct text *t, struct grapnel_str s)
{
	char *to;

	if (s.len > SIZE_MAX / 2) {
		t->failed = true;
		return;
	}
	if ((to = room(t, BASE64_SIZE(s.len))) == NULL)
		return;
	base64_encode(to, (const uint8_t *)s.data, s.len, true);
	t->len += BASE64_SIZE(s.len) - 1; /* without its NUL */
}

void
json_base64(struct text *t, struct grapnel_str s)
{
	text_char(t, '"');
	text_base64(t, s);
	text_char(t, '"');
}

bool
text_is_utf8(struct grapnel_str s)
{
	uint64_t v;
	size_t n;

	while (s.len > 0) {
		if (s.len >= sizeof(v)) {
			memcpy(&v, s.data, sizeof(v));
			/* none above 0x7f, and none is NUL: there is no borrow to mislead */
			if (((v | (v - EVERY_BYTE)) & EVERY_BYTE * 0x80) == 0) {
				s.data += sizeof(v);
				s.len -= sizeof(v);
				continue;
			}
		}
		if (s.data[0] == '\0' || (n = utf8_sequence(s)) == 0)
			return false;
		s.data += n;
		s.len -= n;
	}
	return true;
}
