/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

static bool
set_verify(const struct settings *s, LDAP *ld)
{
	const int verify = s->tls_verify ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER;

	return ldap_set_option(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &verify) == LDAP_OPT_SUCCESS;
}

static bool
make_context(const struct settings *s, LDAP *ld)
{
	const int oldest = LDAP_OPT_X_TLS_PROTOCOL_TLS1_2, client = 0;
	const int ca = s->tls_ca_is_folder ? LDAP_OPT_X_TLS_CACERTDIR : LDAP_OPT_X_TLS_CACERTFILE;

	(void)ldap_set_option(ld, LDAP_OPT_X_TLS_PROTOCOL_MIN, &oldest);
	if (!set_verify(s, ld) ||
	    (s->tls_ca != NULL && ldap_set_option(ld, ca, s->tls_ca) != LDAP_OPT_SUCCESS))
		return false;
	if (s->tls_certificate != NULL &&
	    (ldap_set_option(ld, LDAP_OPT_X_TLS_CERTFILE, s->tls_certificate) != LDAP_OPT_SUCCESS ||
		ldap_set_option(ld, LDAP_OPT_X_TLS_KEYFILE, s->tls_key) != LDAP_OPT_SUCCESS))
		return false;
	/* Last: it reads the files. */
	return ldap_set_option(ld, LDAP_OPT_X_TLS_NEWCTX, &client) == LDAP_OPT_SUCCESS;
}

bool
tls_prepare(struct settings *s)
{
	LDAP *ld = NULL;
	bool good;

	if (ldap_initialize(&ld, s->servers[0].uri) != LDAP_SUCCESS)
		return false;
	good = make_context(s, ld);
	/* This reference is never given back; libldap has no way to. */
	if (good && s->tls_certificate != NULL)
		good = ldap_get_option(ld, LDAP_OPT_X_TLS_CTX, &s->tls_context) == LDAP_OPT_SUCCESS;
	(void)ldap_unbind_ext(ld, NULL, NULL);
	if (!good)
		s->host->config_error(s->self, NULL,
		    s->tls_certificate != NULL ? "tls_certificate" : "tls_ca",
		    "libldap cannot use the files of tls_ca, tls_certificate and tls_key");
	return good;
}

bool
tls_apply(const struct settings *s, LDAP *ld)
{
	if (s->tls_context == NULL)
		return make_context(s, ld);
	return set_verify(s, ld) &&
	    ldap_set_option(ld, LDAP_OPT_X_TLS_CTX, s->tls_context) == LDAP_OPT_SUCCESS;
}
