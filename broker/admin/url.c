/* SPDX-License-Identifier: Apache-2.0 */
/*
 * url - paths and queries of the admin API, decoded
 *
 * evhttp decodes the escapes. What is added here: a path is split before it is decoded, so that a client id
 * with a '/' in it stays one segment, and what would be cut or misread (U+0000, a half escape, bytes that are not
 * UTF-8) is refused, so that a request never reaches another client than the one it names.
 */
#include "api.h"
#include "mqtt/wire.h"
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Every '%' is followed by two digits, and none of them makes U+0000. */
static bool
escapes_valid(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '%')
			continue;
		if (len - i < 3 || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
			return false;
		if (text[i + 1] == '0' && text[i + 2] == '0')
			return false;
		i += 2;
	}
	return true;
}

static int
segment_decode(const char *text, size_t len, char **out)
{
	char *raw, *decoded;
	size_t decoded_len = 0;

	if (len == 0 || !escapes_valid(text, len))
		return GRAPNEL_EINVAL;
	if ((raw = strndup(text, len)) == NULL)
		return GRAPNEL_ENOMEM;
	decoded = evhttp_uridecode(raw, 0, &decoded_len);
	free(raw);
	if (decoded == NULL)
		return GRAPNEL_ENOMEM;
	if (!utf8_valid(decoded, decoded_len)) {
		free(decoded);
		return GRAPNEL_EINVAL;
	}
	*out = decoded;
	return GRAPNEL_OK;
}

int
api_path_parse(struct api_path *p, const char *text)
{
	int err;

	memset(p, 0, sizeof(*p));
	if (text == NULL || text[0] != '/')
		return GRAPNEL_EINVAL;
	while (*text == '/' && text[1] != '\0') {
		size_t len = strcspn(text + 1, "/");

		err = p->count < API_MAX_SEGMENTS
		    ? segment_decode(text + 1, len, &p->segments[p->count])
		    : GRAPNEL_EINVAL;
		if (err != GRAPNEL_OK) {
			api_path_clear(p);
			return err;
		}
		p->count++;
		text += 1 + len;
	}
	if (*text == '/' && p->count > 0) { /* a '/' at the end is an empty segment */
		api_path_clear(p);
		return GRAPNEL_EINVAL;
	}
	return GRAPNEL_OK;
}

void
api_path_clear(struct api_path *p)
{
	for (unsigned i = 0; i < p->count; i++)
		free(p->segments[i]);
	memset(p, 0, sizeof(*p));
}

int
api_query_parse(struct api_query *q, const char *text)
{
	struct evkeyvalq pairs;
	struct evkeyval *pair;
	int err = GRAPNEL_EINVAL;

	memset(q, 0, sizeof(*q));
	if (text == NULL || text[0] == '\0')
		return GRAPNEL_OK;
	if (!escapes_valid(text, strlen(text)) || evhttp_parse_query_str(text, &pairs) != 0)
		return GRAPNEL_EINVAL;
	for (pair = pairs.tqh_first; pair != NULL; pair = pair->next.tqe_next) {
		if (q->count == API_MAX_PARAMS || !utf8_valid(pair->value, strlen(pair->value)))
			goto fail;
		if (api_query_get(q, pair->key) != NULL) /* which of the two is meant? */
			goto fail;
		q->params[q->count].name = strdup(pair->key);
		q->params[q->count].value = strdup(pair->value);
		q->count++;
		if (q->params[q->count - 1].name == NULL || q->params[q->count - 1].value == NULL) {
			err = GRAPNEL_ENOMEM;
			goto fail;
		}
	}
	evhttp_clear_headers(&pairs);
	return GRAPNEL_OK;
fail:
	evhttp_clear_headers(&pairs);
	api_query_clear(q);
	return err;
}

void
api_query_clear(struct api_query *q)
{
	for (unsigned i = 0; i < q->count; i++) {
		free(q->params[i].name);
		free(q->params[i].value);
	}
	memset(q, 0, sizeof(*q));
}

const char *
api_query_get(const struct api_query *q, const char *name)
{
	for (unsigned i = 0; i < q->count; i++)
		if (strcmp(q->params[i].name, name) == 0)
			return q->params[i].value;
	return NULL;
}

bool
api_query_number(const struct api_query *q, const char *name, unsigned fallback, unsigned min,
    unsigned max, unsigned *out)
{
	const char *text = api_query_get(q, name);
	unsigned long value = 0;

	if (text == NULL) {
		*out = fallback;
		return true;
	}
	if (text[0] == '\0' || strlen(text) > 9)
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (unsigned long)(*text - '0');
	}
	if (value < min || value > max)
		return false;
	*out = (unsigned)value;
	return true;
}

bool
api_query_switch(const struct api_query *q, const char *name, int *out)
{
	static const struct {
		const char *text;
		int value;
	} words[] = {
		{ "yes", 1 },
		{ "no", 0 },
		{ "true", 1 },
		{ "false", 0 },
		{ "1", 1 },
		{ "0", 0 },
	};
	const char *text = api_query_get(q, name);

	if (text == NULL) {
		*out = -1;
		return true;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i].text) == 0) {
			*out = words[i].value;
			return true;
		}
	return false;
}

char *
api_encode(const char *text)
{
	/* evhttp leaves exactly RFC 3986's unreserved characters as they are. */
	return evhttp_uriencode(text, -1, 0);
}
