/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void
base64_encode(char *out, const uint8_t *bytes, size_t len, bool padded)
{
	uint32_t v = 0;
	unsigned bits = 0;
	size_t i = 0, n = 0;

	for (; len - i >= 3; i += 3) {
		v = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
		out[n++] = alphabet[v >> 18];
		out[n++] = alphabet[v >> 12 & 63];
		out[n++] = alphabet[v >> 6 & 63];
		out[n++] = alphabet[v & 63];
	}
	for (; i < len; i++) {
		v = v << 8 | bytes[i];
		for (bits += 8; bits >= 6; bits -= 6)
			out[n++] = alphabet[v >> (bits - 6) & 63];
	}
	if (bits > 0)
		out[n++] = alphabet[v << (6 - bits) & 63];
	while (padded && n % 4 != 0)
		out[n++] = '=';
	out[n] = '\0';
}

static int
value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool
base64_decode(const char *text, size_t len, uint8_t *out, size_t size, size_t *out_len)
{
	uint32_t v = 0;
	unsigned bits = 0;
	size_t n = 0, pad = 0;

	while (len > 0 && pad < 2 && text[len - 1] == '=') {
		len--;
		pad++;
	}
	if (len % 4 == 1 || (pad > 0 && (len + pad) % 4 != 0))
		return false;
	for (size_t i = 0; i < len; i++) {
		int value = value_of(text[i]);

		if (value < 0)
			return false;
		v = v << 6 | (uint32_t)value;
		bits += 6;
		if (bits >= 8) {
			if (n == size)
				return false;
			bits -= 8;
			out[n++] = (uint8_t)(v >> bits);
		}
	}
	if ((v & ((1u << bits) - 1)) != 0)
		return false;
	*out_len = n;
	return true;
}
