/* SPDX-License-Identifier: Apache-2.0 */
#include "token.h"

#include "base64url.h"
#include "signature.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The next part of text, up to a point or the end; text moves behind it. */
static struct grapnel_str
part(struct grapnel_str *text)
{
	const char *point = memchr(text->data, '.', text->len);
	struct grapnel_str p = { text->data,
		point != NULL ? (size_t)(point - text->data) : text->len };
	size_t skip = p.len + (point != NULL ? 1 : 0);

	text->data += skip;
	text->len -= skip;
	return p;
}

static bool
split(struct grapnel_str text, struct grapnel_str parts[3])
{
	struct grapnel_str rest = text;

	if (text.data == NULL)
		return false;
	for (size_t i = 0; i < 3; i++) {
		parts[i] = part(&rest);
		if (parts[i].len == 0 || !base64url_is(parts[i].data, parts[i].len))
			return false;
	}
	/* Nothing behind the third, not even a point. */
	return rest.len == 0 && parts[2].data + parts[2].len == text.data + text.len;
}

bool
token_has_shape(struct grapnel_str text)
{
	struct grapnel_str parts[3];

	return split(text, parts);
}

/* The JSON object in one part; NULL: there is none. */
static json_t *
object(struct grapnel_str encoded)
{
	unsigned char *text = malloc(BASE64URL_ROOM(encoded.len));
	json_t *root = NULL;
	size_t len = 0;

	if (text == NULL)
		return NULL;
	if (base64url_decode(encoded.data, encoded.len, text, &len))
		root = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
	explicit_bzero(text, len);
	free(text);
	if (!json_is_object(root)) {
		json_decref(root);
		return NULL;
	}
	return root;
}

json_t *
token_claims(const struct token *t)
{
	return object(t->payload);
}

/*
 * What is signed with the same keys for another purpose (a logout token, a security event, a DPoP proof) is no login: RFC 8725
 * section 3.11.
 */
static bool
type_is_right(const json_t *typ)
{
	static const char *const types[] = { "JWT", "at+jwt", "application/jwt",
		"application/at+jwt" };

	if (typ == NULL)
		return true;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (json_is_string(typ) && strcasecmp(json_string_value(typ), types[i]) == 0)
			return true;
	return false;
}

static const char *
read_header(struct token *t, const json_t *header)
{
	const json_t *alg = json_object_get(header, "alg"), *kid = json_object_get(header, "kid");

	/* There are no extensions that we know: RFC 7515 section 4.1.11. b64 is one, RFC 7797. */
	if (json_object_get(header, "crit") != NULL || json_object_get(header, "b64") != NULL)
		return "the token needs extensions that are not known here";
	if (!type_is_right(json_object_get(header, "typ")))
		return "the token is of another type";
	if (!json_is_string(alg))
		return "the token names no algorithm";
	t->alg =
	    key_alg_find((struct grapnel_str){ json_string_value(alg), json_string_length(alg) });
	if (t->alg == NULL)
		return "the algorithm of the token is not known here";
	if (kid == NULL)
		return NULL;
	if (!json_is_string(kid) || json_string_length(kid) > KEY_MAX_KID)
		return "the kid of the token is no text, or too long";
	memcpy(t->kid, json_string_value(kid), json_string_length(kid) + 1);
	t->has_kid = true;
	return NULL;
}

const char *
token_read(struct token *t, struct grapnel_str text)
{
	struct grapnel_str parts[3];
	json_t *header;
	const char *why;

	memset(t, 0, sizeof(*t));
	if (!split(text, parts))
		return "this is no token";
	t->text = text;
	t->payload = parts[1];
	t->signature = parts[2];
	t->signed_part.data = text.data;
	t->signed_part.len = (size_t)(parts[2].data - text.data) - 1;
	header = object(parts[0]);
	if (header == NULL)
		return "the header of the token cannot be read";
	why = read_header(t, header);
	json_decref(header);
	return why;
}

static bool
is_allowed(const struct token_algs *allowed, const struct key_alg *alg)
{
	for (size_t i = 0; i < allowed->count; i++)
		if (allowed->algs[i] == alg)
			return true;
	return allowed->count == 0;
}

enum keyset_found
token_keys(const struct token *t, const struct keyset *set, const struct token_algs *allowed,
    const struct key *keys[KEYSET_MAX_TRIES], size_t *count, const char **why)
{
	struct grapnel_str kid = { t->has_kid ? t->kid : NULL, t->has_kid ? strlen(t->kid) : 0 };
	enum keyset_found found;

	*count = 0;
	*why = "the algorithm of the token is not allowed";
	if (!is_allowed(allowed, t->alg))
		return KEYSET_MISFIT;
	found = keyset_find(set, kid, t->alg, keys, count);
	*why = found == KEYSET_MISFIT  ? "the algorithm of the token does not go with the key"
	    : found == KEYSET_TOO_MANY ? "there are many keys, and the token does not say which"
				       : NULL;
	return found;
}

bool
token_is_quick(const struct token *t)
{
	return t->alg->kind == KEY_SECRET;
}

const struct key *
token_verify(const struct token *t, const struct key *const keys[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (key_fits(keys[i], t->alg) && signature_is_right(t, keys[i]))
			return keys[i];
	return NULL;
}
