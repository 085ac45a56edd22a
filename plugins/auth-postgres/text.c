/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include <string.h>

bool
pg_payload_parse(const char *payload, struct grapnel_str *username, struct grapnel_str *client_id)
{
	const struct {
		struct grapnel_str prefix;
		struct grapnel_str *to;
	} forms[] = {
		{ GRAPNEL_STR("user="), username },
		{ GRAPNEL_STR("client="), client_id },
	};

	*username = *client_id = (struct grapnel_str){ NULL, 0 };
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (strncmp(payload, forms[i].prefix.data, forms[i].prefix.len) != 0)
			continue;
		forms[i].to->data = payload + forms[i].prefix.len;
		forms[i].to->len = strlen(forms[i].to->data);
		return true;
	}
	return payload[0] == '\0';
}

void
pg_message(char *out, size_t out_size, const char *message, bool hide)
{
	bool quoted = false;
	size_t n = 0;

	for (const char *c = message; *c != '\0' && n + 1 < out_size; c++) {
		if (*c == '"')
			quoted = !quoted;
		else if (quoted && hide)
			continue;
		if (*c != '\n')
			out[n++] = *c;
		else if (c[1] != '\0')
			out[n++] = ' ';
	}
	out[n] = '\0';
}
