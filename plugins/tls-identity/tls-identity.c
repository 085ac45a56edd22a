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
	unsigned sources; /* bits, by enum grapnel_identity_source */
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

static enum grapnel_verdict
tls_identity_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	(void)req;
	return vouched_for(instance, q->client) ? GRAPNEL_ALLOW : GRAPNEL_NEXT;
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
