/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDIS_PORT    6379u
#define SENTINEL_PORT 26379u
#define COMPLAIN_MS   10000u
#define LOGIN_PLACES  ((unsigned)TEMPLATE_CLIENT)

static const struct grapnel_option acl_options[] = {
	{ .name = "access",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "rules",
	    .choices = "rules|publish|subscribe|read|all",
	    .help =
		"What members are: rules, or Topic Filters that may be published to, subscribed "
		"to, read, or all of it." },
	{ .name = "key",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Template of the key." },
	{ .name = "layout",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "set",
	    .choices = "set|list|hash|string",
	    .help = "What is under the key: a set or a list with a rule each, a hash from Topic "
		    "Filters to access, or a text of rules." },
	{ .name = NULL },
};

const struct grapnel_option settings_options[] = {
	{ .name = "acl",
	    .type = GRAPNEL_OPTION_BLOCK,
	    .options = acl_options,
	    .help = "One more key with rules; asked in the order of the file, after acl_key." },
	{ .name = "acl_key",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Template of the key that has somebody's ACL rules." },
	{ .name = "acl_layout",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "set",
	    .choices = "set|list|hash|string",
	    .help = "What is under acl_key: a set or a list with a rule each, a hash from Topic "
		    "Filters to access, or a text of rules." },
	{ .name = "acl_mode",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "connect",
	    .choices = "connect|check",
	    .help = "When rules are read: after the login, or for every right that is asked for." },
	{ .name = "check_password",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "yes",
	    .help =
		"no: that login_key is there is enough; for require \"all\" beside a plugin that "
		"checks who it is." },
	{ .name = "cluster",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether the servers are nodes of a Redis Cluster, which say where a key is." },
	{ .name = "command_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "2s",
	    .min = 10,
	    .max = 60000,
	    .help =
		"How long a command may take; a connection that is mute for so long is closed." },
	{ .name = "connect_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 10,
	    .max = 60000,
	    .help = "For looking up the name, connecting, TLS and logging in together." },
	{ .name = "connections",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "1",
	    .min = 1,
	    .max = 16,
	    .help = "Connections of each worker (in a cluster: to each node). Commands do not wait "
		    "for the answers of others." },
	{ .name = "database",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .min = 0,
	    .max = 65535,
	    .help = "Number of the database." },
	{ .name = "key_names",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "encode",
	    .choices = "encode|refuse|raw",
	    .help =
		"What becomes of key_separators, %, white space and *?[]^\\{} in values of a "
		"template: %3A and the like; nobody has such a name; nothing, where keys cannot "
		"collide." },
	{ .name = "key_separators",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = ":",
	    .help = "Characters that separate the parts of keys." },
	{ .name = "keyspace_events",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help =
		"Whether a change of a key purges kept answers and asks again about those online; "
		"needs notify-keyspace-events on the server." },
	{ .name = "login_key",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Template of the key that a user who may log in has." },
	{ .name = "login_layout",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "hash",
	    .choices = "hash|string",
	    .help =
		"What is under login_key: a hash with the field password and others, or only the "
		"password hash." },
	{ .name = "max_answer",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "1m",
	    .min = 1024,
	    .max = 16 << 20,
	    .help = "Bytes of one answer." },
	{ .name = "max_commands",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "10000",
	    .min = 1,
	    .max = 1000000,
	    .help = "Commands under way on one connection; beyond them: unavailable." },
	{ .name = "max_key",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "1k",
	    .min = 16,
	    .max = 65536,
	    .help = "Bytes of a key; whoever would have a longer one is not known." },
	{ .name = "password",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "For AUTH." },
	{ .name = "purge_channel",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "A channel on which user names are published whose data has changed; an empty "
		    "message: everybody's." },
	{ .name = "reconnect_delay",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "100ms",
	    .min = 10,
	    .max = 60000,
	    .help =
		"Before the second attempt to connect; twice as long before each further one." },
	{ .name = "reconnect_delay_max",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 10,
	    .max = 600000,
	    .help = "The longest of these delays." },
	{ .name = "sentinel_master",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Name of the master that the sentinels are asked for." },
	{ .name = "sentinel_password",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "For AUTH at the sentinels." },
	{ .name = "sentinel_username",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "User of the sentinels' ACL." },
	{ .name = "sentinels",
	    .type = GRAPNEL_OPTION_LIST,
	    .help =
		"Sentinels that know where the master is, asked in turn at each connect; instead "
		"of servers." },
	{ .name = "servers",
	    .type = GRAPNEL_OPTION_LIST,
	    .default_value = "[\"127.0.0.1:6379\"]",
	    .help = "Servers, host:port or unix:/path, tried in turn; in a cluster: some of its "
		    "nodes." },
	{ .name = "superuser_key",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Template of a key whose text makes a superuser when it is true, yes or 1." },
	{ .name = "tls",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether to speak TLS, to the sentinels too." },
	{ .name = "tls_ca",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "File with the authorities that servers' certificates must come from; default: "
		    "the system's." },
	{ .name = "tls_certificate",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "File with our own certificate, and intermediates." },
	{ .name = "tls_private_key", .type = GRAPNEL_OPTION_STRING, .help = "File with its key." },
	{ .name = "tls_server_name",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Name that certificates must have; default: the host that was connected to." },
	{ .name = "tls_verify",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "full",
	    .choices = "full|ca",
	    .help =
		"What is checked of a certificate: authority and name, or the authority alone." },
	{ .name = "username",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "User of the server's ACL; without it AUTH is for the user \"default\"." },
	{ .name = NULL },
};

void
count(const struct instance *a, int metric)
{
	if (metric >= 0)
		a->host->metric_add(a->self, metric, 1);
}

void
complain(struct instance *a, const char *format, ...)
{
	uint64_t now = a->host->now_ms(), last = atomic_load(&a->said_ms);
	char text[256];
	va_list ap;

	if ((last != 0 && now - last < COMPLAIN_MS) ||
	    !atomic_compare_exchange_strong(&a->said_ms, &last, now))
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	a->host->log(
	    a->self, GRAPNEL_LOG_ERROR, "%s (such lines come every ten seconds at most)", text);
}

/* ------------------------------------------------------------------------ reading */

static struct grapnel_str
text_option(const struct instance *a, const char *name)
{
	struct grapnel_str text = a->host->option_str(a->self, NULL, name);

	return text.len > 0 ? text : (struct grapnel_str){ NULL, 0 };
}

static bool
is(struct grapnel_str text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

static bool
read_endpoints(const struct instance *a, const char *option, uint16_t port,
    struct endpoint out[MAX_SERVERS], unsigned *n)
{
	struct grapnel_str text;

	for (; (text = a->host->option_list(a->self, NULL, option, *n)).data != NULL; (*n)++) {
		if (*n == MAX_SERVERS) {
			a->host->config_error(
			    a->self, NULL, option, "there are more than %u", MAX_SERVERS);
			return false;
		}
		if (endpoint_parse(text, port, &out[*n]))
			continue;
		a->host->config_error(a->self, NULL, option,
		    "\"%.*s\" is no address; write host, host:port, [IPv6]:port or unix:/path",
		    (int)text.len, text.data);
		return false;
	}
	return true;
}

static bool
read_places(struct instance *a)
{
	struct settings *s = &a->settings;
	const struct grapnel_host *host = a->host;
	bool sentinel = host->option_given(a->self, NULL, "sentinels");

	if (!read_endpoints(a, "servers", REDIS_PORT, s->servers, &s->server_count) ||
	    !read_endpoints(a, "sentinels", SENTINEL_PORT, s->sentinels, &s->sentinel_count))
		return false;
	s->cluster = host->option_bool(a->self, NULL, "cluster");
	s->sentinel_master = text_option(a, "sentinel_master");
	if (sentinel && (s->cluster || host->option_given(a->self, NULL, "servers"))) {
		host->config_error(a->self, NULL, "sentinels",
		    "sentinels say where the server is; leave out servers and cluster, or them");
		return false;
	}
	if ((s->sentinel_count > 0) != (s->sentinel_master.data != NULL)) {
		host->config_error(a->self, NULL, sentinel ? "sentinels" : "sentinel_master",
		    "sentinels and sentinel_master need each other");
		return false;
	}
	if (s->server_count == 0 && s->sentinel_count == 0) {
		host->config_error(a->self, NULL, "servers", "there is no server in the list");
		return false;
	}
	s->database = (unsigned)host->option_int(a->self, NULL, "database");
	if (s->cluster && s->database != 0) {
		host->config_error(
		    a->self, NULL, "database", "a cluster has no database but number 0");
		return false;
	}
	return true;
}

static bool
read_account(const struct instance *a, const char *user, const char *password, struct account *out)
{
	out->username = text_option(a, user);
	out->password = text_option(a, password);
	if (out->username.data == NULL || out->password.data != NULL)
		return true;
	a->host->config_error(a->self, NULL, user, "%s needs %s", user, password);
	return false;
}

/* A template of the section or of a block in it. */
static bool
read_key(struct instance *a, const struct grapnel_block *block, const char *option, unsigned places,
    struct key *out)
{
	struct settings *s = &a->settings;
	struct grapnel_str text = a->host->option_str(a->self, block, option);
	char error[160];

	if (text.data == NULL || (block == NULL && !a->host->option_given(a->self, NULL, option)))
		return true;
	out->rules = &s->key_rules;
	out->template = template_parse(text, places, error, sizeof(error));
	if (out->template == NULL) {
		a->host->config_error(a->self, block, option, "%s", error);
		return false;
	}
	s->keys[s->key_count++] = out;
	if (template_count(out->template) > 0)
		return true;
	a->host->config_error(a->self, block, option, "the name of a key cannot be empty");
	return false;
}

static enum acl_layout
layout_of(struct grapnel_str word)
{
	return is(word, "list")  ? ACL_LIST
	    : is(word, "hash")   ? ACL_HASH
	    : is(word, "string") ? ACL_STRING
				 : ACL_SET;
}

static bool
read_sources(struct instance *a, unsigned places)
{
	struct settings *s = &a->settings;
	const struct grapnel_block *block;

	if (a->host->option_given(a->self, NULL, "acl_key")) {
		struct acl_source *source = &s->sources[s->source_count++];

		source->layout = layout_of(a->host->option_str(a->self, NULL, "acl_layout"));
		if (!read_key(a, NULL, "acl_key", places, &source->key))
			return false;
	}
	for (size_t i = 0; (block = a->host->option_block(a->self, NULL, "acl", i, NULL)) != NULL;
	     i++) {
		struct acl_source *source = &s->sources[s->source_count];
		struct grapnel_str access = a->host->option_str(a->self, block, "access");

		if (s->source_count == MAX_SOURCES) {
			a->host->config_error(
			    a->self, block, NULL, "there are more than %u", MAX_SOURCES);
			return false;
		}
		s->source_count++;
		source->layout = layout_of(a->host->option_str(a->self, block, "layout"));
		if (!is(access, "rules"))
			source->access = access;
		if (source->access.data != NULL && source->layout != ACL_SET &&
		    source->layout != ACL_LIST) {
			a->host->config_error(a->self, block, "access",
			    "only the members of a set or a list can be Topic Filters");
			return false;
		}
		if (!read_key(a, block, "key", places, &source->key))
			return false;
	}
	return true;
}

static bool
read_keys(struct instance *a)
{
	struct settings *s = &a->settings;
	const struct grapnel_host *host = a->host;
	struct grapnel_str names = host->option_str(a->self, NULL, "key_names");
	bool check = is(host->option_str(a->self, NULL, "acl_mode"), "check");

	s->key_rules.names = is(names, "raw") ? KEY_RAW
	    : is(names, "refuse")             ? KEY_REFUSE
					      : KEY_ENCODE;
	s->key_rules.separators = host->option_str(a->self, NULL, "key_separators");
	s->key_rules.max_key = (size_t)host->option_int(a->self, NULL, "max_key");
	s->login_layout = is(host->option_str(a->self, NULL, "login_layout"), "string")
	    ? LOGIN_STRING
	    : LOGIN_HASH;
	s->check_password = host->option_bool(a->self, NULL, "check_password");
	s->acl_on_connect = !check;
	if (!read_key(a, NULL, "login_key", LOGIN_PLACES, &s->login) ||
	    !read_key(a, NULL, "superuser_key", LOGIN_PLACES, &s->superuser) ||
	    !read_sources(a, check ? TEMPLATE_ACL : LOGIN_PLACES))
		return false;
	if (s->login.template == NULL && s->source_count == 0) {
		host->config_error(a->self, NULL, NULL,
		    "there is nothing to do; set login_key, or acl_key with acl_mode = check, or "
		    "both");
		return false;
	}
	if (s->login.template == NULL && (s->acl_on_connect || s->superuser.template != NULL)) {
		host->config_error(a->self, NULL, s->acl_on_connect ? "acl_mode" : "superuser_key",
		    "this is read after a login, and without login_key there is none here%s",
		    s->acl_on_connect ? "; for rights alone set acl_mode = check" : "");
		return false;
	}
	if (s->key_rules.names == KEY_RAW && !keys_cannot_collide(s->keys, s->key_count)) {
		host->config_error(a->self, NULL, "key_names",
		    "with raw, every key must end with its only place and none may begin like "
		    "another: "
		    "or one user's name could be another one's key");
		return false;
	}
	return true;
}

static bool
read_purge(struct instance *a)
{
	struct settings *s = &a->settings;

	s->purge_channel = text_option(a, "purge_channel");
	s->keyspace_events = a->host->option_bool(a->self, NULL, "keyspace_events");
	if (!s->keyspace_events || !s->cluster)
		return true;
	a->host->config_error(a->self, NULL, "keyspace_events",
	    "each node of a cluster tells only of its own keys; use purge_channel");
	return false;
}

static bool
read_tls(struct instance *a)
{
	const struct grapnel_host *host = a->host;
	struct tls_options o = {
		.ca = text_option(a, "tls_ca"),
		.certificate = text_option(a, "tls_certificate"),
		.private_key = text_option(a, "tls_private_key"),
		.server_name = text_option(a, "tls_server_name"),
		.check_name = is(host->option_str(a->self, NULL, "tls_verify"), "full"),
	};
	const char *option = NULL;
	char error[256];

	if (!host->option_bool(a->self, NULL, "tls")) {
		if (o.ca.data == NULL && o.certificate.data == NULL && o.private_key.data == NULL)
			return true;
		host->config_error(a->self, NULL, "tls", "there are files for TLS, but tls is no");
		return false;
	}
	a->settings.tls = tls_context_new(&o, &option, error, sizeof(error));
	if (a->settings.tls == NULL)
		host->config_error(a->self, NULL, option, "%s", error);
	return a->settings.tls != NULL;
}

bool
settings_read(struct instance *a)
{
	struct settings *s = &a->settings;
	const struct grapnel_host *host = a->host;
	bool good;

	s->connections = (unsigned)host->option_int(a->self, NULL, "connections");
	s->connect_timeout_ms = (uint32_t)host->option_int(a->self, NULL, "connect_timeout");
	s->command_timeout_ms = (uint32_t)host->option_int(a->self, NULL, "command_timeout");
	s->reconnect_min_ms = (uint32_t)host->option_int(a->self, NULL, "reconnect_delay");
	s->reconnect_max_ms = (uint32_t)host->option_int(a->self, NULL, "reconnect_delay_max");
	s->max_answer = (size_t)host->option_int(a->self, NULL, "max_answer");
	s->max_commands = (unsigned)host->option_int(a->self, NULL, "max_commands");
	/* Every fault is said, not only the first. */
	good = read_places(a);
	good = read_account(a, "username", "password", &s->account) && good;
	good =
	    read_account(a, "sentinel_username", "sentinel_password", &s->sentinel_account) && good;
	good = read_keys(a) && good;
	good = read_purge(a) && good;
	good = read_tls(a) && good;
	return good;
}

void
settings_free(struct settings *s)
{
	for (unsigned i = 0; i < s->key_count; i++)
		template_free(s->keys[i]->template);
	tls_context_free(s->tls);
}
