/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include "tls.h"

#include <dlfcn.h>
#include <ldap.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define MAX_LIST 1000u

/* ------------------------------------------------------------------------- pieces */

static bool
wrong(const struct settings *s, const char *option, const char *why)
{
	s->host->config_error(s->self, NULL, option, "%s", why);
	return false;
}

/* A C string of an option; NULL when it is not given. *good becomes false when it cannot be one. */
static char *
text_of(const struct settings *s, const char *option, bool *good)
{
	struct grapnel_str value = s->host->option_str(s->self, NULL, option);
	char *text;

	if (value.data == NULL)
		return NULL;
	if (value.len == 0 || memchr(value.data, '\0', value.len) != NULL ||
	    (text = text_copy(value)) == NULL) {
		*good = wrong(s, option, "this must not be empty");
		return NULL;
	}
	return text;
}

static struct template *
template_of(const struct settings *s, const char *option, bool *good)
{
	struct grapnel_str value = s->host->option_str(s->self, NULL, option);
	struct template *t;
	char error[160];

	if (value.data == NULL)
		return NULL;
	if (memchr(value.data, '\0', value.len) != NULL) {
		*good = wrong(s, option, "there is a NUL byte in it");
		return NULL;
	}
	if ((t = template_parse(value, TEMPLATE_CLIENT, error, sizeof(error))) == NULL)
		*good = wrong(s, option, error);
	return t;
}

static bool
read_server(struct settings *s, struct grapnel_str text)
{
	struct server *server = &s->servers[s->server_count];
	LDAPURLDesc *url = NULL;
	bool good;

	if (memchr(text.data, '\0', text.len) != NULL || (server->uri = text_copy(text)) == NULL)
		return false;
	s->server_count++;
	if (ldap_url_parse(server->uri, &url) != LDAP_URL_SUCCESS)
		return false;
	good = url->lud_host != NULL && url->lud_host[0] != '\0' &&
	    (url->lud_dn == NULL || url->lud_dn[0] == '\0') && url->lud_port > 0 &&
	    url->lud_port <= UINT16_MAX &&
	    (strcasecmp(url->lud_scheme, "ldap") == 0 || strcasecmp(url->lud_scheme, "ldaps") == 0);
	if (good) {
		server->ldaps = strcasecmp(url->lud_scheme, "ldaps") == 0;
		server->port = (uint16_t)url->lud_port;
		server->host = strdup(url->lud_host);
		good = server->host != NULL;
	}
	ldap_free_urldesc(url);
	return good;
}

static bool
read_servers(struct settings *s)
{
	struct grapnel_str text;
	bool good = true;

	for (size_t i = 0; (text = s->host->option_list(s->self, NULL, "servers", i)).data != NULL;
	     i++) {
		if (i == SETTINGS_MAX_SERVERS)
			return wrong(s, "servers", "there are more than 8 servers");
		if (!read_server(s, text)) {
			s->host->config_error(s->self, NULL, "servers",
			    "server %zu is not of the form ldaps://host[:port] or "
			    "ldap://host[:port]",
			    i + 1);
			good = false;
			continue;
		}
		s->uses_tls = s->uses_tls || s->starttls || s->servers[i].ldaps;
	}
	return s->server_count > 0 ? good : wrong(s, "servers", "there is no server");
}

/* ---------------------------------------------------------------------------- TLS */

/* Where the library's own configuration says that authorities are; option as of ldap_get_option. */
static char *
default_ca(int option)
{
	char *path = NULL, *copy;

	if (ldap_get_option(NULL, option, &path) != LDAP_OPT_SUCCESS || path == NULL)
		return NULL;
	copy = strdup(path);
	ldap_memfree(path);
	return copy;
}

static bool
read_tls(struct settings *s)
{
	struct stat st;
	bool good = true;

	s->tls_verify = s->host->option_bool(s->self, NULL, "tls_verify");
	s->tls_ca = text_of(s, "tls_ca", &good);
	s->tls_certificate = text_of(s, "tls_certificate", &good);
	s->tls_key = text_of(s, "tls_key", &good);
	if ((s->tls_certificate == NULL) != (s->tls_key == NULL))
		good = wrong(s, s->tls_key == NULL ? "tls_certificate" : "tls_key",
		    "tls_certificate and tls_key belong together");
	if (!s->uses_tls)
		return good;
	if (s->tls_ca == NULL && (s->tls_ca = default_ca(LDAP_OPT_X_TLS_CACERTFILE)) == NULL)
		s->tls_ca = default_ca(LDAP_OPT_X_TLS_CACERTDIR);
	if (!s->tls_verify) {
		s->host->log(s->self, GRAPNEL_LOG_WARNING,
		    "tls_verify = no: passwords go to whoever says to be the server");
		return good;
	}
	if (s->tls_ca == NULL)
		return wrong(s, "tls_ca", "set it: ldap.conf(5) names no authorities either");
	if (stat(s->tls_ca, &st) != 0) {
		s->host->config_error(s->self, NULL, "tls_ca", "%s: %m", s->tls_ca);
		return false;
	}
	s->tls_ca_is_folder = S_ISDIR(st.st_mode);
	return good;
}

/* ------------------------------------------------------------------------- groups */

/* The strings of a list, one a line. false: no memory. *text NULL: the list is empty. */
static bool
join_lines(
    const struct settings *s, const struct grapnel_block *block, const char *option, char **text)
{
	struct grapnel_str line;
	size_t len = 0, used = 0;

	for (size_t i = 0; (line = s->host->option_list(s->self, block, option, i)).data != NULL;
	     i++)
		len += line.len + 1;
	if (len == 0)
		return true;
	if ((*text = malloc(len + 1)) == NULL)
		return false;
	for (size_t i = 0; (line = s->host->option_list(s->self, block, option, i)).data != NULL;
	     i++) {
		memcpy(*text + used, line.data, line.len);
		used += line.len;
		(*text)[used++] = '\n';
	}
	(*text)[used] = '\0';
	return true;
}

static bool
read_rules(struct settings *s, const struct grapnel_block *block, char **text)
{
	struct grapnel_rules *rules;
	char error[256];

	if (!join_lines(s, block, "rules", text)) {
		s->host->config_error(s->self, block, "rules", "out of memory");
		return false;
	}
	if (*text == NULL)
		return true;
	rules = s->host->rules_compile((struct grapnel_str){ *text, strlen(*text) },
	    GRAPNEL_STR("rules"), false, error, sizeof(error));
	if (rules == NULL) {
		s->host->config_error(s->self, block, "rules", "%s", error);
		return false;
	}
	s->host->rules_unref(rules);
	s->wants_rules = true;
	return true;
}

/* "name=value" at its first '='. */
static bool
split(struct grapnel_str text, struct pair *out)
{
	const char *sign = memchr(text.data, '=', text.len);
	size_t n = sign != NULL ? (size_t)(sign - text.data) : 0;

	if (n == 0 || n + 1 == text.len || memchr(text.data, '\0', text.len) != NULL)
		return false;
	out->name = text_copy((struct grapnel_str){ text.data, n });
	out->value = text_copy((struct grapnel_str){ sign + 1, text.len - n - 1 });
	return out->name != NULL && out->value != NULL;
}

/* A list of pairs. */
static bool
read_pairs(const struct settings *s, const struct grapnel_block *block, const char *option,
    struct pair **out, size_t *count)
{
	struct grapnel_str text;

	for (size_t i = 0; (text = s->host->option_list(s->self, block, option, i)).data != NULL;
	     i++) {
		struct pair *more = i < MAX_LIST ? realloc(*out, (i + 1) * sizeof(*more)) : NULL;

		if (more == NULL) {
			s->host->config_error(s->self, block, option, "these are too many");
			return false;
		}
		*out = more;
		more[i] = (struct pair){ NULL, NULL };
		*count = i + 1;
		if (!split(text, &more[i])) {
			s->host->config_error(s->self, block, option,
			    "element %zu is not of the form \"name=value\"", i + 1);
			return false;
		}
	}
	return true;
}

static bool
read_group(struct settings *s, const struct grapnel_block *block, struct grapnel_str title)
{
	struct group *g = &s->groups[s->group_count];

	*g = (struct group){ .superuser = s->host->option_bool(s->self, block, "superuser") };
	s->group_count++;
	if ((g->key = text_dn_key(title)) == NULL) {
		s->host->config_error(s->self, block, NULL,
		    "the title of a group is its DN, such as cn=staff,ou=groups,dc=example,dc=com");
		return false;
	}
	for (size_t i = 0; i + 1 < s->group_count; i++)
		if (s->groups[i].key != NULL && strcmp(s->groups[i].key, g->key) == 0) {
			s->host->config_error(s->self, block, NULL, "this group is there twice");
			return false;
		}
	return read_rules(s, block, &g->rules) &&
	    read_pairs(s, block, "set", &g->set, &g->set_count);
}

static bool
read_groups(struct settings *s)
{
	const struct grapnel_block *block;
	struct grapnel_str title;
	bool good = true;
	size_t n = 0;

	while (s->host->option_block(s->self, NULL, "group", n, &title) != NULL)
		n++;
	if (n > SETTINGS_MAX_GROUPS)
		return wrong(s, "group", "there are more than 256 groups");
	if (n > 0 && (s->groups = calloc(n, sizeof(*s->groups))) == NULL)
		return wrong(s, "group", "out of memory");
	for (size_t i = 0;
	     (block = s->host->option_block(s->self, NULL, "group", i, &title)) != NULL; i++)
		good = read_group(s, block, title) && good;
	s->require_group = s->host->option_bool(s->self, NULL, "require_group");
	if (s->require_group && n == 0)
		return wrong(s, "require_group", "there is no group { } in this section");
	s->group_base = template_of(s, "group_base", &good);
	s->group_filter = template_of(s, "group_filter", &good);
	if ((s->group_base == NULL) != (s->group_filter == NULL))
		return wrong(s, s->group_base == NULL ? "group_filter" : "group_base",
		    "group_base and group_filter belong together");
	if (n > 0 && s->group_filter == NULL)
		s->group_attribute = text_of(s, "group_attribute", &good);
	return good;
}

/* ------------------------------------------------------------- entries of users */

static bool
read_mappings(struct settings *s)
{
	struct pair *pairs = NULL;
	size_t n = 0;
	bool good = read_pairs(s, NULL, "attributes", &pairs, &n);

	if (n > 0 && (s->mappings = calloc(n, sizeof(*s->mappings))) == NULL)
		good = wrong(s, "attributes", "out of memory");
	for (size_t i = 0; i < n; i++) {
		if (s->mappings == NULL) {
			free(pairs[i].name);
			free(pairs[i].value);
			continue;
		}
		s->mappings[i].attribute = pairs[i].name;
		s->mappings[i].name.data = pairs[i].value;
		s->mappings[i].name.len = pairs[i].value != NULL ? strlen(pairs[i].value) : 0;
		s->mappings[i].acl = good && strcmp(pairs[i].value, "acl") == 0;
		s->wants_rules = s->wants_rules || s->mappings[i].acl;
		s->mapping_count++;
	}
	free(pairs);
	return good;
}

static bool
want(struct settings *s, char *attribute)
{
	size_t n = 0;

	for (; s->wanted[n] != NULL; n++)
		if (strcasecmp(s->wanted[n], attribute) == 0)
			return true;
	if (n == SETTINGS_MAX_ATTRIBUTES)
		return wrong(s, "attributes", "there are more than 64 attributes");
	s->wanted[n] = attribute;
	return true;
}

static bool
list_attributes(struct settings *s)
{
	static char none[] = LDAP_NO_ATTRS;
	bool good = true;

	for (size_t i = 0; i < s->mapping_count; i++)
		good = good && want(s, s->mappings[i].attribute);
	for (size_t i = 0; i < s->name_count; i++)
		good = good && want(s, s->names[i]);
	if (s->group_attribute != NULL)
		good = good && want(s, s->group_attribute);
	if (s->wanted[0] == NULL)
		s->wanted[0] = none;
	s->no_attributes[0] = none;
	return good;
}

static bool
read_names(struct settings *s)
{
	const struct template *t = s->bind_dn != NULL ? s->bind_dn : s->search_filter;
	size_t n;

	if (t == NULL || !s->host->option_bool(s->self, NULL, "exact_username"))
		return true;
	n = text_name_attributes(t, s->bind_dn != NULL, s->names);
	if (n == SIZE_MAX)
		return wrong(s, "exact_username", "out of memory");
	s->name_count = n;
	if (n == 0)
		return wrong(s, "exact_username",
		    "no attribute is compared with %u alone, so that it cannot be seen how the "
		    "directory writes a user name; set exact_username = no");
	return true;
}

static int
scope_of(struct grapnel_str name)
{
	if (name.len == 3)
		return LDAP_SCOPE_ONELEVEL;
	return name.len == 4 ? LDAP_SCOPE_BASE : LDAP_SCOPE_SUBTREE;
}

/* Who is bound as, and how a user is found. */
static bool
read_mode(struct settings *s)
{
	bool good = true;

	s->bind_dn = template_of(s, "bind_dn", &good);
	s->check_password = s->host->option_bool(s->self, NULL, "check_password");
	if (s->bind_dn != NULL) {
		static const char *const others[] = { "search_base", "search_filter",
			"search_scope", "service_dn", "service_password", "search_connections" };

		for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
			if (s->host->option_given(s->self, NULL, others[i]))
				good = wrong(s, others[i],
				    "with bind_dn nothing is searched; have one or the other");
		if (!s->check_password)
			good =
			    wrong(s, "check_password", "bind_dn is for passwords; search instead");
		return good;
	}
	s->service_dn = text_of(s, "service_dn", &good);
	s->service_password = s->host->option_str(s->self, NULL, "service_password");
	if ((s->service_dn == NULL) != (s->service_password.len == 0))
		good = wrong(s, s->service_dn == NULL ? "service_password" : "service_dn",
		    "service_dn and service_password belong together; a bind without a password "
		    "is an anonymous one");
	s->search_base = template_of(s, "search_base", &good);
	s->search_filter = template_of(s, "search_filter", &good);
	s->search_scope = scope_of(s->host->option_str(s->self, NULL, "search_scope"));
	if (s->search_base == NULL && good)
		good = wrong(s, NULL, "set search_base, or bind_dn");
	if (good && !(template_fields(s->search_filter) & TEMPLATE_USERNAME) &&
	    !(template_fields(s->search_base) & TEMPLATE_USERNAME))
		good =
		    wrong(s, "search_filter", "without %u it finds the same entry for everybody");
	return good;
}

static void
read_limits(struct settings *s)
{
	const struct grapnel_host *h = s->host;

	s->connections = (unsigned)h->option_int(s->self, NULL, "connections");
	s->search_connections = (unsigned)h->option_int(s->self, NULL, "search_connections");
	s->queue = (unsigned)h->option_int(s->self, NULL, "queue");
	s->max_groups = (size_t)h->option_int(s->self, NULL, "max_groups");
	s->max_response = (size_t)h->option_int(s->self, NULL, "max_response");
	s->network_timeout_ms = (uint32_t)h->option_int(s->self, NULL, "network_timeout");
	s->operation_timeout_ms = (uint32_t)h->option_int(s->self, NULL, "operation_timeout");
	s->idle_timeout_ms = (uint32_t)h->option_int(s->self, NULL, "idle_timeout");
	s->lifetime_ms = (uint32_t)h->option_int(s->self, NULL, "connection_lifetime");
	s->reconnect_max_ms = (uint32_t)h->option_int(s->self, NULL, "reconnect_max");
}

static bool
read_all(struct settings *s)
{
	bool good;

	read_limits(s);
	s->starttls = s->host->option_bool(s->self, NULL, "starttls");
	good = read_servers(s);
	good = read_tls(s) && good;
	good = read_mode(s) && good;
	good = read_rules(s, NULL, &s->rules) && good;
	good = read_groups(s) && good;
	good = read_mappings(s) && good;
	return good && read_names(s) && list_attributes(s) && (!s->uses_tls || tls_prepare(s));
}

/* ------------------------------------------------------------------------- whole */

/*
 * libldap, and what it brings, stays in memory when the plugin goes: it keeps what it has read, and data of threads of the
 * offload pool, and gives neither back when it is unmapped.
 */
static void
keep_library(void)
{
	Dl_info library;
	void *handle;
	int version;

	if (dladdr((void *)(uintptr_t)ldap_get_option, &library) != 0 &&
	    library.dli_fname != NULL) {
		handle = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
		if (handle != NULL)
			(void)dlclose(handle);
	}
	/* Its beginning reads files and looks the machine's name up: here rather than on a worker. */
	(void)ldap_get_option(NULL, LDAP_OPT_PROTOCOL_VERSION, &version);
}

struct settings *
settings_new(const struct grapnel_host *host, struct grapnel_instance *self)
{
	struct settings *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	keep_library();
	s->host = host;
	s->self = self;
	if (read_all(s))
		return s;
	settings_free(s);
	return NULL;
}

static void
group_free(struct group *g)
{
	for (size_t i = 0; i < g->set_count; i++) {
		free(g->set[i].name);
		free(g->set[i].value);
	}
	free(g->set);
	free(g->rules);
	free(g->key);
}

void
settings_free(struct settings *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->server_count; i++) {
		free(s->servers[i].uri);
		free(s->servers[i].host);
	}
	for (size_t i = 0; i < s->mapping_count; i++) {
		free(s->mappings[i].attribute);
		free((char *)s->mappings[i].name.data);
	}
	for (size_t i = 0; i < s->group_count; i++)
		group_free(&s->groups[i]);
	for (size_t i = 0; i < s->name_count; i++)
		free(s->names[i]);
	free(s->mappings);
	free(s->groups);
	free(s->group_attribute);
	free(s->rules);
	free(s->service_dn);
	free(s->tls_ca);
	free(s->tls_certificate);
	free(s->tls_key);
	template_free(s->bind_dn);
	template_free(s->search_base);
	template_free(s->search_filter);
	template_free(s->group_base);
	template_free(s->group_filter);
	free(s);
}

bool
settings_want_entry(const struct settings *s)
{
	return s->name_count > 0 || s->mapping_count > 0 || s->group_attribute != NULL;
}

void
settings_count(const struct settings *s, enum metric metric, int64_t delta)
{
	if (s->metrics[metric] >= 0)
		s->host->metric_add(s->self, s->metrics[metric], delta);
}

void
settings_complain(struct settings *s, enum complaint kind, const char *format, ...)
{
	uint64_t now = s->host->now_ms(), last = atomic_load(&s->complained_ms[kind]);
	char text[512];
	va_list args;

	if ((last != 0 && now - last < SETTINGS_QUIET_MS) ||
	    !atomic_compare_exchange_strong(&s->complained_ms[kind], &last, now > 0 ? now : 1))
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	s->host->log(s->self, GRAPNEL_LOG_ERROR, "%s (said at most once a minute)", text);
}
