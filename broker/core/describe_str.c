/* SPDX-License-Identifier: Apache-2.0 */
#include "core/describe.h"

#include <stdlib.h>

json_t *
describe_str(struct grapnel_str s)
{
	static const char digits[] = "0123456789abcdef";
	json_t *made;
	char *text;
	size_t len = 0;

	if (s.data == NULL)
		return json_null();
	if ((made = json_stringn(s.data, s.len)) != NULL) /* checks the encoding */
		return made;
	if (s.len > (SIZE_MAX - 1) / 4 || (text = malloc(s.len * 4 + 1)) == NULL)
		return NULL;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];

		if (c >= 0x20 && c < 0x7f && c != '\\') {
			text[len++] = (char)c;
			continue;
		}
		text[len++] = '\\';
		text[len++] = 'x';
		text[len++] = digits[c >> 4];
		text[len++] = digits[c & 15];
	}
	made = json_stringn_nocheck(text, len);
	free(text);
	return made;
}
