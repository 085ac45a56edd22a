/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry - what the directory says about a user, collected, and the answer that becomes of it
 *
 * Threads:   one login's, on its worker.
 * Ownership: copies all it is given.
 * Bounded:   what max_response and max_groups let through.
 */
#ifndef PLUGINS_AUTH_LDAP_ENTRY_H
#define PLUGINS_AUTH_LDAP_ENTRY_H

#include "common/grant.h"
#include "settings.h"

#include <ldap.h>

struct entry_value {
	struct entry_value *next;
	const struct mapping *mapping;
	size_t len;
	char data[];
};

struct entry {
	struct settings *settings;
	char *dn;
	bool exact;		  /* the user name is written as it is there */
	bool member[SETTINGS_MAX_GROUPS];
	struct entry_value *values; /* in the order of the mappings */
	char error[160];	  /* it cannot be used; "" */
};

void entry_init(struct entry *e, struct settings *s);
void entry_fini(struct entry *e);
void entry_restart(struct entry *e); /* forget what entry_read has read, but for the DN */
/* The entry of a user called that; once. e->error says what is wrong with it. */
void entry_read(struct entry *e, LDAP *ld, LDAPMessage *message, struct grapnel_str username);
/* The entry of a group that the user is in. */
void entry_add_group(struct entry *e, LDAP *ld, LDAPMessage *message);
bool entry_in_any_group(const struct entry *e);
/* g is initialised; NULL: g->error says why. */
const struct grapnel_auth_answer *entry_answer(const struct entry *e, struct grant *g, struct grapnel_str source);

#endif
