/* SPDX-License-Identifier: MIT-0 */
/*
 * tenant-mountpoints - each tenant has the topics for itself
 *
 * Which tenant a client belongs to is in its certificate, or at the end of its user name ("dev7@acme"), which then needs the
 * tenant's token as password. The answer puts the client below the mountpoint of the tenant, gives it the attribute `tenant`
 * for rules of others, and brings the tenant's own rules and limits.
 *
 * Threads:   the instance is immutable after create(); hooks run on all workers at once.
 * Ownership: compiled rules are counted: one reference is the tenant's, the host takes its own with each answer.
 * Bounded:   TENANTS_MAX.
 */
#include <grapnel/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TENANTS_MAX    256u
#define MOUNTPOINT_MAX 256u
#define RULES_MAX_LEN  16384u

enum { BAD_CREDENTIALS = 0x86 };

struct tenant {
	struct grapnel_str name, token, certificate_suffix; /* .data NULL: none. The options' own */
	char mountpoint[MOUNTPOINT_MAX];
	struct grapnel_rules *rules; /* NULL: others decide about rights */
	struct grapnel_client_limits limits;
};

struct mountpoints {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct grapnel_str separator, certificate_attribute;
	size_t count;
	struct tenant tenants[TENANTS_MAX];
};

static bool
str_equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool
ends_with(struct grapnel_str s, struct grapnel_str end)
{
	return end.len > 0 && s.len > end.len &&
	    memcmp(s.data + s.len - end.len, end.data, end.len) == 0;
}

static struct grapnel_str
mountpoint_of(const struct tenant *t)
{
	return (struct grapnel_str){ t->mountpoint, strlen(t->mountpoint) };
}

static const struct tenant *
tenant_named(const struct mountpoints *m, struct grapnel_str name)
{
	for (size_t i = 0; i < m->count; i++)
		if (str_equal(m->tenants[i].name, name))
			return &m->tenants[i];
	return NULL;
}

/* Behind the last separator. */
static const struct tenant *
tenant_of_username(const struct mountpoints *m, struct grapnel_str username)
{
	size_t sep = m->separator.len;

	for (size_t at = username.len; at >= sep; at--)
		if (memcmp(username.data + at - sep, m->separator.data, sep) == 0)
			return tenant_named(
			    m, (struct grapnel_str){ username.data + at, username.len - at });
	return NULL;
}

static struct grapnel_str
attribute(const struct grapnel_client_info *c, struct grapnel_str name)
{
	for (size_t i = 0; i < c->attribute_count; i++)
		if (str_equal(c->attributes[i].name, name))
			return c->attributes[i].value;
	return (struct grapnel_str){ NULL, 0 };
}

/* When it ends like those of two tenants it belongs to none. */
static const struct tenant *
tenant_of_certificate(const struct mountpoints *m, const struct grapnel_client_info *c)
{
	struct grapnel_str name = attribute(c, m->certificate_attribute);
	const struct tenant *found = NULL;

	for (size_t i = 0; i < m->count; i++) {
		if (!ends_with(name, m->tenants[i].certificate_suffix))
			continue;
		if (found != NULL)
			return NULL;
		found = &m->tenants[i];
	}
	return found;
}

/* Seconds since 1970; 0: not known. Digits of the broker's own making, but not NUL-terminated. */
static int64_t
certificate_end(const struct grapnel_client_info *c)
{
	struct grapnel_str s = attribute(c, GRAPNEL_STR("cert.not_after"));
	char text[24] = "";

	if (s.data == NULL || s.len >= sizeof(text))
		return 0;
	memcpy(text, s.data, s.len);
	return strtoll(text, NULL, 10);
}

static enum grapnel_verdict
allow(const struct mountpoints *m, struct grapnel_request *req, const struct tenant *t,
    int64_t valid_until)
{
	const struct grapnel_pair tenant = { GRAPNEL_STR("tenant"), t->name };
	const struct grapnel_auth_answer answer = { .size = sizeof(answer),
		.mountpoint = mountpoint_of(t),
		.attributes = &tenant,
		.attribute_count = 1,
		.rules = t->rules,
		.limits = &t->limits,
		.valid_until = valid_until };

	return m->host->auth_answer(req, &answer) == GRAPNEL_OK ? GRAPNEL_ALLOW
								: GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
mountpoints_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	const struct mountpoints *m = instance;
	const struct grapnel_auth_answer wrong = { .size = sizeof(wrong),
		.reason_code = BAD_CREDENTIALS };
	const struct tenant *t;

	/* The listener has verified the certificate and made the user name of it. */
	if (q->client->identity_source == GRAPNEL_IDENTITY_CERTIFICATE) {
		t = tenant_of_certificate(m, q->client);
		return t != NULL ? allow(m, req, t, certificate_end(q->client)) : GRAPNEL_NEXT;
	}
	if (q->client->username.data == NULL || q->password.data == NULL)
		return GRAPNEL_NEXT;
	t = tenant_of_username(m, q->client->username);
	if (t == NULL || t->token.data == NULL)
		return GRAPNEL_NEXT;
	if (m->host->secret_equal(t->token, q->password))
		return allow(m, req, t, 0);
	return m->host->auth_answer(req, &wrong) == GRAPNEL_OK ? GRAPNEL_DENY : GRAPNEL_UNAVAILABLE;
}

/* After a reload: who is connected gets the tenant's new rules; a tenant that is gone, or elsewhere now, lets its clients go. */
static enum grapnel_verdict
mountpoints_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	const struct mountpoints *m = instance;
	const struct tenant *t = tenant_named(m, attribute(q->client, GRAPNEL_STR("tenant")));
	bool certificate = q->client->identity_source == GRAPNEL_IDENTITY_CERTIFICATE;

	if (t == NULL || !str_equal(mountpoint_of(t), q->client->mountpoint) ||
	    (certificate ? tenant_of_certificate(m, q->client) != t : t->token.data == NULL))
		return GRAPNEL_DENY;
	return allow(m, req, t, certificate ? certificate_end(q->client) : 0);
}

/* ------------------------------------------------------------------------ the instance */

/* One rule an element of the list: one line of the text that the host compiles. */
static bool
compile_rules(const struct mountpoints *m, const struct grapnel_block *block, struct tenant *t)
{
	const struct grapnel_host *host = m->host;
	char text[RULES_MAX_LEN], error[256];
	struct grapnel_str rule;
	size_t len = 0;

	for (size_t i = 0; (rule = host->option_list(m->self, block, "rules", i)).data != NULL;
	     i++) {
		if (rule.len + 1 > sizeof(text) - len) {
			host->config_error(
			    m->self, block, "rules", "more than %u bytes", RULES_MAX_LEN);
			return false;
		}
		memcpy(text + len, rule.data, rule.len);
		len += rule.len;
		text[len++] = '\n';
	}
	if (len == 0)
		return true;
	t->rules = host->rules_compile(
	    (struct grapnel_str){ text, len }, t->name, false, error, sizeof(error));
	if (t->rules == NULL)
		host->config_error(m->self, block, "rules", "%s", error);
	return t->rules != NULL;
}

/* Below the mountpoint of another tenant, or above it: one of them would have the topics of both. */
static const struct tenant *
overlapping(const struct mountpoints *m, const struct tenant *t)
{
	for (const struct tenant *o = m->tenants; o < t; o++)
		if (strncmp(o->mountpoint, t->mountpoint, strlen(o->mountpoint)) == 0 ||
		    strncmp(o->mountpoint, t->mountpoint, strlen(t->mountpoint)) == 0)
			return o;
	return NULL;
}

static bool
add_tenant(struct mountpoints *m, const struct grapnel_block *block, struct grapnel_str name)
{
	const struct grapnel_host *host = m->host;
	struct tenant *t = &m->tenants[m->count++];
	const struct tenant *other;
	struct grapnel_str given = host->option_str(m->self, block, "mountpoint");
	int n = given.data != NULL
	    ? snprintf(t->mountpoint, sizeof(t->mountpoint), "%.*s", (int)given.len, given.data)
	    : snprintf(t->mountpoint, sizeof(t->mountpoint), "%.*s/", (int)name.len, name.data);

	t->name = name;
	t->token = host->option_str(m->self, block, "token");
	t->certificate_suffix = host->option_str(m->self, block, "certificate_suffix");
	t->limits.size = sizeof(t->limits);
	t->limits.message_rate = (uint32_t)host->option_int(m->self, block, "message_rate");
	t->limits.max_qos_plus_one = (uint8_t)(host->option_int(m->self, block, "max_qos") + 1);
	/* Without a slash at its end the first level of all topics would become another one, perhaps that of somebody else. */
	if (n < 2 || (size_t)n >= sizeof(t->mountpoint) || t->mountpoint[n - 1] != '/' ||
	    strpbrk(t->mountpoint, "+#") != NULL || t->mountpoint[0] == '$') {
		host->config_error(m->self, block, given.data != NULL ? "mountpoint" : NULL,
		    "a mountpoint is up to %u bytes, ends with a slash, and has no wildcards",
		    MOUNTPOINT_MAX - 1);
		return false;
	}
	if ((other = overlapping(m, t)) != NULL) {
		host->config_error(m->self, block, given.data != NULL ? "mountpoint" : NULL,
		    "\"%s\" and \"%s\" of tenant \"%.*s\" overlap", t->mountpoint,
		    other->mountpoint, (int)other->name.len, other->name.data);
		return false;
	}
	if (t->token.data == NULL && t->certificate_suffix.data == NULL) {
		host->config_error(m->self, block, NULL,
		    "it needs a token or a certificate_suffix: else nobody belongs to it");
		return false;
	}
	if (t->token.data != NULL && t->token.len < 16) {
		host->config_error(m->self, block, "token", "a token has 16 bytes at least");
		return false;
	}
	return compile_rules(m, block, t);
}

static bool
add_tenants(struct mountpoints *m)
{
	const struct grapnel_block *block;
	struct grapnel_str name;
	bool good = true;

	for (size_t i = 0;
	     (block = m->host->option_block(m->self, NULL, "tenant", i, &name)) != NULL; i++) {
		if (i == TENANTS_MAX) {
			m->host->config_error(
			    m->self, block, NULL, "more than %u tenants", TENANTS_MAX);
			return false;
		}
		good &= add_tenant(m, block, name);
	}
	return good;
}

static void
mountpoints_destroy(void *instance)
{
	struct mountpoints *m = instance;

	for (size_t i = 0; i < m->count; i++)
		m->host->rules_unref(m->tenants[i].rules);
	free(m);
}

static int
mountpoints_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct mountpoints *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return GRAPNEL_ENOMEM;
	m->host = host;
	m->self = self;
	m->separator = host->option_str(self, NULL, "separator");
	m->certificate_attribute = host->option_str(self, NULL, "certificate_attribute");
	if (m->separator.len == 0)
		host->config_error(self, NULL, "separator", "it must not be empty");
	if (m->separator.len == 0 || !add_tenants(m)) {
		mountpoints_destroy(m);
		return GRAPNEL_EINVAL;
	}
	*instance = m;
	return GRAPNEL_OK;
}

static const struct grapnel_option tenant_options[] = {
	{ .name = "certificate_suffix",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "End of certificate_attribute in certificates of this tenant." },
	{ .name = "max_qos",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "2",
	    .max = 2,
	    .help = "Highest QoS of its clients." },
	{ .name = "message_rate",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .max = 1000000,
	    .help = "Messages a second from each of its clients; 0: what the listener says." },
	{ .name = "mountpoint",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Put before all its topics; by default its name and a slash." },
	{ .name = "rules",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "ACL rules of its clients, asked first; topics as they know them." },
	{ .name = "token",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Password of those who come by user name." },
	{ .name = NULL },
};

static const struct grapnel_option mountpoints_options[] = {
	{ .name = "certificate_attribute",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "cert.dns",
	    .help = "Attribute of certificates that names the tenant." },
	{ .name = "separator",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "\"@\"",
	    .help = "What stands between user and tenant in a user name." },
	{ .name = "tenant",
	    .type = GRAPNEL_OPTION_BLOCK,
	    .options = tenant_options,
	    .help = "A tenant; its title is the name." },
	{ .name = NULL },
};

GRAPNEL_PLUGIN(tenant_mountpoints, .version = "1.0", .license = "MIT-0",
    .description = "Gives each tenant topics of its own", .options = mountpoints_options,
    .create = mountpoints_create, .destroy = mountpoints_destroy,
    .client_authenticate = mountpoints_client_authenticate,
    .client_revalidate = mountpoints_client_revalidate);
