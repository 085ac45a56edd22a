/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text - values inside of DNs and filters, and DNs that are compared.  RFC 4514, RFC 4515
 *
 * The rules of escaping are libldap's; here they are brought into the form that templates want.
 *
 * Threads: any; pure.
 */
#ifndef PLUGINS_AUTH_LDAP_TEXT_H
#define PLUGINS_AUTH_LDAP_TEXT_H

#include "common/template.h"
#include "common/text_copy.h"

#define TEXT_MAX_NAMES 8u

/* template_escape_fn: one attribute value of a DN; an assertion value of a filter. SIZE_MAX: not UTF-8, no memory. */
size_t text_escape_dn(char *out, size_t room, struct grapnel_str value);
size_t text_escape_filter(char *out, size_t room, struct grapnel_str value);

/*
 * A DN in the one form in which equal ones are equal bytes: spaces and escapes as RFC 4514 writes them, ASCII letters
 * small. Names that differ in case alone count as equal, as with nearly every attribute that DNs are made of; an OID is
 * not the same as the name it has. On the heap; NULL: not a DN, no memory.
 */
char *text_dn_key(struct grapnel_str dn);

/*
 * The attributes that the user name alone is compared with: "uid" in (uid=%u) and in uid=%u,ou=people, not in
 * (mail=%u@example.com). names: NUL-terminated, on the heap. @return how many; SIZE_MAX: no memory.
 */
size_t text_name_attributes(const struct template *t, bool is_dn, char *names[TEXT_MAX_NAMES]);

#endif
