/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <ldap.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static size_t
put(char *out, size_t room, const char *s, size_t len)
{
	if (len <= room && len > 0)
		memcpy(out, s, len);
	return len;
}

size_t
text_escape_dn(char *out, size_t room, struct grapnel_str value)
{
	/* An RDN of one attribute, of which only the value is wanted. */
	char attribute[] = "x", *text = NULL;
	LDAPAVA ava = {
		.la_attr = { 1, attribute },
		.la_value = { value.len, (char *)value.data },
		.la_flags = LDAP_AVA_STRING,
	};
	LDAPAVA *rdn[] = { &ava, NULL };
	size_t n;

	if (value.len == 0)
		return 0;
	if (ldap_rdn2str(rdn, &text, LDAP_DN_FORMAT_LDAPV3) != LDAP_SUCCESS || text == NULL)
		return SIZE_MAX;
	n = put(out, room, text + 2, strlen(text) - 2);
	ldap_memfree(text);
	return n;
}

size_t
text_escape_filter(char *out, size_t room, struct grapnel_str value)
{
	struct berval in = { value.len, (char *)value.data }, escaped = { 0, NULL };
	size_t n;

	if (value.len == 0)
		return 0;
	if (ldap_bv2escaped_filter_value(&in, &escaped) != 0 || escaped.bv_val == NULL)
		return SIZE_MAX;
	n = put(out, room, escaped.bv_val, escaped.bv_len);
	ldap_memfree(escaped.bv_val);
	return n;
}

char *
text_dn_key(struct grapnel_str dn)
{
	struct berval in = { dn.len, (char *)dn.data };
	LDAPDN parsed = NULL;
	char *text = NULL, *key;

	if (dn.len == 0 || memchr(dn.data, '\0', dn.len) != NULL ||
	    ldap_bv2dn(&in, &parsed, LDAP_DN_FORMAT_LDAPV3) != LDAP_SUCCESS || parsed == NULL)
		return NULL;
	if (ldap_dn2str(parsed, &text, LDAP_DN_FORMAT_LDAPV3) != LDAP_SUCCESS)
		text = NULL;
	ldap_dnfree(parsed);
	key = text != NULL ? strdup(text) : NULL;
	ldap_memfree(text);
	for (char *c = key; c != NULL && *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return key;
}

static bool
is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    c == '-' || c == '.' || c == ';' || c == '_';
}

/* The attribute at the end of the literal before a place: "...(uid=" or "...,uid=". .data NULL: none. */
static struct grapnel_str
name_before(struct grapnel_str literal, bool is_dn)
{
	size_t end = literal.len, at;

	if (end == 0 || literal.data[end - 1] != '=')
		return (struct grapnel_str){ NULL, 0 };
	for (at = --end; at > 0 && is_name_byte(literal.data[at - 1]); at--)
		;
	if (at == end || (at == 0 && !is_dn) ||
	    (at > 0 && strchr(is_dn ? ",+ " : "( ", literal.data[at - 1]) == NULL))
		return (struct grapnel_str){ NULL, 0 };
	return (struct grapnel_str){ literal.data + at, end - at };
}

/* Does the value end behind the place? */
static bool
ends_behind(const struct template *t, size_t i, bool is_dn)
{
	const struct template_part *next =
	    i + 1 < template_count(t) ? template_part(t, i + 1) : NULL;

	if (next == NULL)
		return is_dn;
	return next->field == 0 && next->text.len > 0 &&
	    strchr(is_dn ? ",+" : ")", next->text.data[0]) != NULL;
}

static bool
is_there(char *const names[], size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(names[i], name) == 0)
			return true;
	return false;
}

size_t
text_name_attributes(const struct template *t, bool is_dn, char *names[TEXT_MAX_NAMES])
{
	size_t n = 0;

	for (size_t i = 1; i < template_count(t) && n < TEXT_MAX_NAMES; i++) {
		struct grapnel_str name;

		if (template_part(t, i)->field != TEMPLATE_USERNAME ||
		    template_part(t, i - 1)->field != 0 || !ends_behind(t, i, is_dn))
			continue;
		name = name_before(template_part(t, i - 1)->text, is_dn);
		if (name.data == NULL)
			continue;
		if ((names[n] = text_copy(name)) == NULL) {
			while (n > 0)
				free(names[--n]);
			return SIZE_MAX;
		}
		if (is_there(names, n, names[n]))
			free(names[n]);
		else
			n++;
	}
	return n;
}
