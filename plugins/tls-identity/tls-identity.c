/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls-identity - lets in whom the listener vouches for
 *
 * A certificate, a pre-shared key or the peer of a Unix socket has said who the client is before any plugin is asked; this one
 * says that this is enough. What an instance holds is immutable.
 */
#include <grapnel/plugin.h>
#include <stdlib.h>
#include <string.h>

struct tls_identity {
	const struct grapnel_host *host;
	unsigned sources; /* bits, by enum grapnel_identity_source */
	bool until_certificate_ends;
};

static const char *const source_names[] = {
	[GRAPNEL_IDENTITY_CERTIFICATE] = "certificate",
	[GRAPNEL_IDENTITY_PSK] = "psk",
	[GRAPNEL_IDENTITY_PEER] = "peer",
	[GRAPNEL_IDENTITY_PROXY] = "proxy",
	[GRAPNEL_IDENTITY_HANDLER] = "handler",
};
#define SOURCES (sizeof(source_names) / sizeof(*source_names))

static const struct grapnel_option tls_identity_options[] = {
	{ .name = "sources",
	    .type = GRAPNEL_OPTION_LIST,
	    .default_value = "[certificate, psk, peer]",
	    .help = "Whose word is enough: certificate, psk, peer, proxy, handler." },
	{ .name = "until_certificate_ends",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "yes",
	    .help = "Whether a login by certificate ends when the certificate does." },
	{ .name = NULL },
};

/* 0: there is none of that name. */
static unsigned
source_of(struct grapnel_str name)
{
	for (unsigned i = 1; i < SOURCES; i++)
		if (strlen(source_names[i]) == name.len &&
		    memcmp(source_names[i], name.data, name.len) == 0)
			return i;
	return 0;
}

static int
tls_identity_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct tls_identity *t = calloc(1, sizeof(*t));
	struct grapnel_str name;
	bool good = true;

	if (t == NULL)
		return GRAPNEL_ENOMEM;
	t->host = host;
	t->until_certificate_ends = host->option_bool(self, NULL, "until_certificate_ends");
	for (size_t i = 0; (name = host->option_list(self, NULL, "sources", i)).data != NULL; i++) {
		unsigned source = source_of(name);

		t->sources |= source > 0 ? 1u << source : 0;
		if (source > 0)
			continue;
		host->config_error(self, NULL, "sources",
		    "\"%.*s\" is no source; there are certificate, psk, peer, proxy, handler",
		    (int)name.len, name.data);
		good = false;
	}
	if (good && t->sources == 0) {
		host->config_error(self, NULL, "sources",
		    "there is nothing to do; name at least one of certificate, psk, peer, proxy, "
		    "handler");
		good = false;
	}
	if (!good) {
		free(t);
		return GRAPNEL_EINVAL;
	}
	*instance = t;
	return GRAPNEL_OK;
}

static bool
vouched_for(const struct tls_identity *t, const struct grapnel_client_info *client)
{
	return client->identity_source != GRAPNEL_IDENTITY_NONE &&
	    client->identity_source < SOURCES && (t->sources & 1u << client->identity_source) != 0;
}

/* Seconds since 1970; 0: no certificate, or nothing is known of its end. */
static int64_t
certificate_end(const struct grapnel_client_info *client)
{
	static const char name[] = "cert.not_after";

	for (size_t i = 0; i < client->attribute_count; i++) {
		const struct grapnel_pair *a = &client->attributes[i];
		char text[24];

		if (a->name.len != strlen(name) || memcmp(a->name.data, name, a->name.len) != 0 ||
		    a->value.len >= sizeof(text))
			continue;
		memcpy(text, a->value.data, a->value.len);
		text[a->value.len] = '\0';
		return strtoll(text, NULL, 10);
	}
	return 0;
}

static enum grapnel_verdict
tls_identity_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	const struct tls_identity *t = instance;
	struct grapnel_auth_answer answer = { .size = sizeof(answer) };

	if (!vouched_for(t, q->client))
		return GRAPNEL_NEXT;
	if (t->until_certificate_ends && q->client->identity_source == GRAPNEL_IDENTITY_CERTIFICATE)
		answer.valid_until = certificate_end(q->client);
	if (answer.valid_until > 0 && t->host->auth_answer(req, &answer) != GRAPNEL_OK)
		return GRAPNEL_UNAVAILABLE;
	return GRAPNEL_ALLOW;
}

/* A reload may have taken a source away. */
static enum grapnel_verdict
tls_identity_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	(void)req;
	return vouched_for(instance, q->client) ? GRAPNEL_ALLOW : GRAPNEL_DENY;
}

GRAPNEL_PLUGIN(tls_identity, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Lets in whom the listener vouches for.", .options = tls_identity_options,
    .create = tls_identity_create, .destroy = free,
    .client_authenticate = tls_identity_client_authenticate,
    .client_revalidate = tls_identity_client_revalidate);
