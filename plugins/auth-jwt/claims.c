/* SPDX-License-Identifier: Apache-2.0 */
#include "claims.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------ reading */

/* One step of a JSON Pointer: *p is behind its "/" and moves to the next one or the end. false: too long, or malformed. */
static bool
step(const char **p, char *out, size_t size)
{
	size_t n = 0;

	for (; **p != '\0' && **p != '/'; (*p)++) {
		char c = **p;

		if (c == '~') {
			(*p)++;
			if (**p != '0' && **p != '1')
				return false;
			c = **p == '0' ? '~' : '/';
		}
		if (n + 1 == size)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return true;
}

static const json_t *
element(const json_t *array, const char *index)
{
	char *end;
	unsigned long i;

	if (index[0] < '0' || index[0] > '9')
		return NULL;
	i = strtoul(index, &end, 10);
	return *end == '\0' ? json_array_get(array, i) : NULL;
}

const json_t *
claims_get(const json_t *claims, const char *name)
{
	const json_t *value = claims;
	char key[256];

	if (name[0] != '/')
		value = json_object_get(claims, name);
	while (name[0] == '/' && value != NULL) {
		name++;
		if (!step(&name, key, sizeof(key)))
			return NULL;
		value = json_is_array(value) ? element(value, key) : json_object_get(value, key);
	}
	return json_is_null(value) ? NULL : value;
}

struct grapnel_str
claims_text(const json_t *value, char room[CLAIMS_TEXT_SIZE])
{
	int n;

	if (json_is_string(value))
		return (struct grapnel_str){ json_string_value(value), json_string_length(value) };
	if (json_is_boolean(value))
		return json_is_true(value) ? GRAPNEL_STR("true") : GRAPNEL_STR("false");
	if (!json_is_integer(value))
		return (struct grapnel_str){ NULL, 0 };
	n = snprintf(room, CLAIMS_TEXT_SIZE, "%lld", (long long)json_integer_value(value));
	return (struct grapnel_str){ room, (size_t)n };
}

/* ------------------------------------------------------------------------- policy */

bool
claims_policy_add(struct claims_policy *p, struct grapnel_str text, unsigned allowed, char *error,
    size_t error_size)
{
	const char *equals = memchr(text.data, '=', text.len);
	struct claims_check *check = &p->checks[p->check_count];
	struct grapnel_str is;

	if (p->check_count == CLAIMS_MAX_CHECKS || equals == NULL || equals == text.data ||
	    memchr(text.data, '\0', text.len) != NULL) {
		(void)snprintf(error, error_size,
		    p->check_count == CLAIMS_MAX_CHECKS ? "there are more than %u claims"
							: "write claim=value, such as sub=%%u",
		    CLAIMS_MAX_CHECKS);
		return false;
	}
	is.data = equals + 1;
	is.len = text.len - (size_t)(is.data - text.data);
	check->claim = strndup(text.data, (size_t)(equals - text.data));
	check->is = template_parse(is, allowed, error, error_size);
	p->check_count++; /* also a half-made one: claims_policy_fini frees it */
	if (check->claim == NULL)
		(void)snprintf(error, error_size, "out of memory");
	return check->claim != NULL && check->is != NULL;
}

void
claims_policy_fini(struct claims_policy *p)
{
	for (size_t i = 0; i < p->check_count; i++) {
		free(p->checks[i].claim);
		template_free(p->checks[i].is);
	}
	p->check_count = 0;
}

/* ------------------------------------------------------------------------- checks */

static bool
equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.data != NULL && a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static bool
one_of(const json_t *value, const struct grapnel_str *names, size_t count)
{
	struct grapnel_str text = { json_string_value(value), json_string_length(value) };

	for (size_t i = 0; i < count; i++)
		if (equal(text, names[i]))
			return true;
	return false;
}

bool
claims_issuer_is_ours(const struct claims_policy *p, const json_t *claims)
{
	return one_of(json_object_get(claims, "iss"), p->issuers, p->issuer_count);
}

static bool
audience_is_right(const struct claims_policy *p, const json_t *aud)
{
	const json_t *one;
	size_t i;

	if (!json_is_array(aud))
		return one_of(aud, p->audiences, p->audience_count);
	json_array_foreach(
	    aud, i, one) if (one_of(one, p->audiences, p->audience_count)) return true;
	return false;
}

/* Seconds since 1970, whole or not, within what a time can be. Fractions go down, or up. */
static bool
time_of(const json_t *value, bool up, int64_t *out)
{
	if (json_is_integer(value)) {
		int64_t t = json_integer_value(value);

		*out = t > CLAIMS_LAST_TIME ? CLAIMS_LAST_TIME : t < 0 ? 0 : t;
		return true;
	}
	if (json_is_real(value)) {
		double t = json_real_value(value);

		t = up ? ceil(t) : floor(t);
		*out = t > (double)CLAIMS_LAST_TIME ? CLAIMS_LAST_TIME : t < 0 ? 0 : (int64_t)t;
		return true;
	}
	return false;
}

static const char *
check_times(const struct claims_policy *p, const json_t *claims, int64_t now, int64_t *valid_until)
{
	const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf"),
		     *iat = json_object_get(claims, "iat");
	int64_t at;

	*valid_until = 0;
	if (exp == NULL && p->require_exp)
		return "the token has no exp";
	if (exp != NULL) {
		if (!time_of(exp, false, &at))
			return "the exp of the token is no time";
		if (now >= at + p->leeway)
			return "the token has expired";
		*valid_until = at + p->leeway;
	}
	if (nbf != NULL) {
		if (!time_of(nbf, true, &at))
			return "the nbf of the token is no time";
		if (now < at - p->leeway)
			return "the token is not valid yet";
	}
	if (iat != NULL) {
		if (!time_of(iat, false, &at))
			return "the iat of the token is no time";
		if (at > now + p->leeway)
			return "the token was issued in the future";
	}
	return NULL;
}

static bool
matches(const json_t *value, struct grapnel_str is)
{
	char room[CLAIMS_TEXT_SIZE];
	const json_t *one;
	size_t i;

	if (!json_is_array(value))
		return equal(claims_text(value, room), is);
	json_array_foreach(value, i, one) if (equal(claims_text(one, room), is)) return true;
	return false;
}

static bool
check_holds(const struct claims_check *check, const json_t *claims,
    const struct grapnel_client_info *client)
{
	const struct template_values values = { .client = client };
	const json_t *value = claims_get(claims, check->claim);
	struct grapnel_str is;
	const char *why;
	bool same;
	char *text;

	if (value == NULL)
		return false;
	text = template_fill(check->is, &values, NULL, &is.len, &why);
	if (text == NULL)
		return false;
	is.data = text;
	same = matches(value, is);
	free(text);
	return same;
}

const char *
claims_check(const struct claims_policy *p, const json_t *claims, int64_t now,
    const struct grapnel_client_info *client, int64_t *valid_until)
{
	const char *why = check_times(p, claims, now, valid_until);

	if (why != NULL)
		return why;
	if (p->issuer_count > 0 && !claims_issuer_is_ours(p, claims))
		return "the token is of another issuer";
	if (p->audience_count > 0 && !audience_is_right(p, json_object_get(claims, "aud")))
		return "the token is for another audience";
	for (size_t i = 0; i < p->check_count; i++)
		if (!check_holds(&p->checks[i], claims, client))
			return "a claim of the token does not go with this client";
	return NULL;
}
