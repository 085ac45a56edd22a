/* SPDX-License-Identifier: Apache-2.0 */
#include "entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
entry_init(struct entry *e, struct settings *s)
{
	memset(e, 0, sizeof(*e));
	e->settings = s;
	e->exact = s->name_count == 0;
}

void
entry_restart(struct entry *e)
{
	struct entry_value *v;

	while ((v = e->values) != NULL) {
		e->values = v->next;
		free(v);
	}
	memset(e->member, 0, sizeof(e->member));
	e->exact = e->settings->name_count == 0;
	e->error[0] = '\0';
}

void
entry_fini(struct entry *e)
{
	entry_restart(e);
	free(e->dn);
	e->dn = NULL;
}

/* ------------------------------------------------------------------------- reading */

/* Another value; behind the others, but rules that deny stand before those that allow: values have no order. */
static bool
keep_value(struct entry *e, const struct mapping *m, const struct berval *value)
{
	struct entry_value *v = malloc(sizeof(*v) + value->bv_len + 1), **at = &e->values;
	bool deny = m->acl && value->bv_len >= 4 && memcmp(value->bv_val, "deny", 4) == 0;

	if (v == NULL)
		return false;
	v->mapping = m;
	v->len = value->bv_len;
	if (value->bv_len > 0)
		memcpy(v->data, value->bv_val, value->bv_len);
	v->data[v->len] = '\0';
	while (!deny && *at != NULL)
		at = &(*at)->next;
	v->next = *at;
	*at = v;
	return true;
}

static void
read_mapping(struct entry *e, LDAP *ld, LDAPMessage *message, const struct mapping *m)
{
	struct berval **values = ldap_get_values_len(ld, message, m->attribute);
	int n = ldap_count_values_len(values);

	if (n > 1 && !m->acl)
		(void)snprintf(e->error, sizeof(e->error),
		    "attribute %.60s has %d values, and which of them is meant cannot be known",
		    m->attribute, n);
	for (int i = 0; i < n && e->error[0] == '\0'; i++)
		if (!keep_value(e, m, values[i]))
			(void)snprintf(e->error, sizeof(e->error), "out of memory");
	ldap_value_free_len(values);
}

static void
read_name(struct entry *e, LDAP *ld, LDAPMessage *message, const char *attribute,
    struct grapnel_str username)
{
	struct berval **values = ldap_get_values_len(ld, message, attribute);

	for (int i = 0; values != NULL && values[i] != NULL; i++)
		if (values[i]->bv_len == username.len &&
		    memcmp(values[i]->bv_val, username.data, username.len) == 0)
			e->exact = true;
	ldap_value_free_len(values);
}

static void
add_group(struct entry *e, struct grapnel_str dn)
{
	char *key = text_dn_key(dn);

	for (size_t i = 0; key != NULL && i < e->settings->group_count; i++)
		if (strcmp(e->settings->groups[i].key, key) == 0)
			e->member[i] = true;
	free(key);
}

static void
read_groups(struct entry *e, LDAP *ld, LDAPMessage *message)
{
	struct berval **values = ldap_get_values_len(ld, message, e->settings->group_attribute);
	int n = ldap_count_values_len(values);

	if ((size_t)n > e->settings->max_groups)
		(void)snprintf(e->error, sizeof(e->error), "it is in %d groups (max_groups)", n);
	for (int i = 0; i < n && e->error[0] == '\0'; i++)
		add_group(e, (struct grapnel_str){ values[i]->bv_val, values[i]->bv_len });
	ldap_value_free_len(values);
}

static char *
dn_of(LDAP *ld, LDAPMessage *message)
{
	char *dn = ldap_get_dn(ld, message), *copy = dn != NULL ? strdup(dn) : NULL;

	ldap_memfree(dn);
	return copy;
}

void
entry_read(struct entry *e, LDAP *ld, LDAPMessage *message, struct grapnel_str username)
{
	const struct settings *s = e->settings;

	free(e->dn);
	if ((e->dn = dn_of(ld, message)) == NULL || e->dn[0] == '\0') {
		(void)snprintf(e->error, sizeof(e->error), "it has no DN");
		return;
	}
	for (size_t i = 0; i < s->name_count; i++)
		read_name(e, ld, message, s->names[i], username);
	for (size_t i = 0; i < s->mapping_count; i++)
		read_mapping(e, ld, message, &s->mappings[i]);
	if (s->group_attribute != NULL)
		read_groups(e, ld, message);
}

void
entry_add_group(struct entry *e, LDAP *ld, LDAPMessage *message)
{
	char *dn = dn_of(ld, message);

	if (dn != NULL)
		add_group(e, (struct grapnel_str){ dn, strlen(dn) });
	free(dn);
}

bool
entry_in_any_group(const struct entry *e)
{
	for (size_t i = 0; i < e->settings->group_count; i++)
		if (e->member[i])
			return true;
	return false;
}

/* ---------------------------------------------------------------------- the answer */

static struct grapnel_str
str(const char *text)
{
	return (struct grapnel_str){ text, text != NULL ? strlen(text) : 0 };
}

static bool
set_group(struct grant *g, const struct group *group)
{
	for (size_t i = 0; i < group->set_count; i++)
		if (!grant_set(g, str(group->set[i].name), str(group->set[i].value)))
			return false;
	return !group->superuser || grant_set(g, GRAPNEL_STR("superuser"), GRAPNEL_STR("yes"));
}

/* What comes later counts: the last group of the configuration first, the entry last. */
static bool
set_all(const struct entry *e, struct grant *g)
{
	for (size_t i = e->settings->group_count; i-- > 0;)
		if (e->member[i] && !set_group(g, &e->settings->groups[i]))
			return false;
	for (const struct entry_value *v = e->values; v != NULL; v = v->next)
		if (!v->mapping->acl &&
		    !grant_set(g, v->mapping->name, (struct grapnel_str){ v->data, v->len }))
			return false;
	return true;
}

/* The first rule that matches counts: those of the entry, those of its groups in the order of the configuration, the others. */
static bool
add_rules(const struct entry *e, struct grant *g)
{
	for (const struct entry_value *v = e->values; v != NULL; v = v->next)
		if (v->mapping->acl && !grant_add_rules(g, (struct grapnel_str){ v->data, v->len }))
			return false;
	for (size_t i = 0; i < e->settings->group_count; i++)
		if (e->member[i] && !grant_add_rules(g, str(e->settings->groups[i].rules)))
			return false;
	return grant_add_rules(g, str(e->settings->rules));
}

const struct grapnel_auth_answer *
entry_answer(const struct entry *e, struct grant *g, struct grapnel_str source)
{
	if (e->settings->wants_rules)
		grant_want_rules(g);
	if (!set_all(e, g) || !add_rules(e, g))
		return NULL;
	return grant_answer(g, source);
}
