/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tree of the configuration into a struct settings, by the rows of option_tables.c. What a reload may change is in
 * settings_reload.c, printing in settings_print.c.
 */
#include "settings.h"

#include "address.h"
#include "cidr.h"
#include "conf.h"
#include "logins.h"
#include "machine.h"
#include "options.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCOPE_SIZE  128
#define PASSWD_FILE "/etc/passwd"
/* max_memory = auto: no less than an option may be, and the most where the system does not say what it has. */
#define MEMORY_LEAST   (UINT64_C(32) << 20)
#define MEMORY_UNKNOWN (UINT64_C(1) << 50)

/* ---- life ------------------------------------------------------------------------------------ */

static void
listener_fini(struct listener_settings *l)
{
	options_fini(listener_options, l);
	for (unsigned i = 0; i < l->server_name_count; i++) {
		options_fini(server_name_options, &l->server_names[i]);
		free(l->server_names[i].name);
		free(l->server_names[i].where);
	}
	free(l->server_names);
	free(l->trusted);
	free(l->name);
	free(l->where);
	free(l->host);
	free(l->port);
	free(l->path);
	free(l->systemd);
}

static void
plugin_fini(struct plugin_settings *p)
{
	options_fini(plugin_options_common, p);
	free(p->name);
	free(p->where);
}

static void
settings_free(struct settings *s)
{
	options_fini(top_options, s);
	options_fini(admin_options, s);
	options_fini(log_options, s);
	options_fini(store_options, s);
	options_fini(guard_options, s);
	free(s->guard.excepted);
	for (unsigned i = 0; i < s->listener_count; i++)
		listener_fini(&s->listeners[i]);
	for (unsigned i = 0; i < s->plugin_count; i++)
		plugin_fini(&s->plugins[i]);
	for (unsigned i = 0; i < s->require_count; i++) {
		options_fini(require_options, &s->requires[i]);
		free(s->requires[i].name);
		free(s->requires[i].where);
	}
	free(s->listeners);
	free(s->plugins);
	free(s->requires);
	free(s->path);
	logins_free(s->logins);
	conf_free(s->tree);
	free(s);
}

struct settings *
settings_ref(struct settings *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void
settings_unref(struct settings *s)
{
	if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
		settings_free(s);
}

/* ---- a block by its rows --------------------------------------------------------------------- */

/* Read ahead of all else, for it says what the defaults are; a word that is no profile is told with the rest. */
static bool
is_edge(const struct settings *s)
{
	const struct conf_node *node = conf_find(s->tree, "profile");

	return node != NULL && node->kind == CONF_VALUE &&
	    option_choice(option_find(top_options, "profile")->choices, node->value) ==
	    PROFILE_EDGE;
}

/* The defaults of a table. */
static bool
defaults(const struct settings *s, const struct option_def *table, void *place)
{
	return options_defaults(table, place) &&
	    (!is_edge(s) || options_profile(table, edge_defaults, place));
}

static void
scope_of(const struct conf_node *block, char *out)
{
	char title[OPTION_SHOWN];

	if (block->name[0] == '\0')
		out[0] = '\0';
	else if (block->title == NULL)
		snprintf(out, SCOPE_SIZE, "%s: ", block->name);
	else
		snprintf(out, SCOPE_SIZE, "%s \"%s\": ", block->name,
		    conf_shown(title, sizeof(title), block->title));
}

/* Limits lie inside a listener, all other rows in the struct itself. */
static void *
place_of(const struct option_def *table, void *place, struct limits *limits)
{
	return table == limits_options || table == limits_total_options ? (void *)limits : place;
}

static void
name_unknown(const struct conf_node *node, const struct section_def *section, const char *scope,
    struct conf_errors *errs)
{
	const char *known[100], *helps[100];
	unsigned count = 0;

	for (unsigned t = 0; t < 2; t++) {
		for (const struct option_def *row = section->tables[t];
		     row != NULL && row->name != NULL && count < 90; row++) {
			known[count] = row->name;
			helps[count++] = row->help;
		}
	}
	for (const struct section_def *s = settings_sections + 1; s->name != NULL; s++) {
		if (strcmp(s->inside, section->name) != 0 || count >= 100)
			continue;
		known[count] = s->name;
		helps[count++] = s->help;
	}
	option_unknown(node, scope, known, helps, count, errs);
}

/* The section of that name, if it may stand in this one. */
static const struct section_def *
section_inside(const struct section_def *outer, const char *name)
{
	const struct section_def *s = section_find(name);

	return s != NULL && s != settings_sections && strcmp(s->inside, outer->name) == 0 ? s
											  : NULL;
}

/*
 * Every value of a block into its place. Names that no row has are errors, unless `open`: then they are left
 * to whoever knows more (a plugin's own table).
 */
static bool
block_apply(struct conf_node *block, const struct section_def *section, void *place,
    struct limits *limits, bool open, struct conf_errors *errs)
{
	char scope[SCOPE_SIZE];
	bool ok = true;

	scope_of(block, scope);
	for (unsigned i = 0; i < block->item_count; i++) {
		struct conf_node *node = &block->items[i];
		const struct option_def *row = NULL, *table = NULL;

		for (unsigned t = 0; t < 2 && row == NULL; t++) {
			table = section->tables[t];
			row = option_find(table, node->name);
		}
		if (row != NULL) {
			node->used = true;
			node->secret = (row->flags & OPTION_SECRET) != 0;
			ok = option_set(row, place_of(table, place, limits), node, scope, errs) &&
			    ok;
		} else if (section_inside(section, node->name) != NULL) {
			if (node->kind != CONF_BLOCK)
				ok = option_wrong_kind(node, scope, CONF_BLOCK, errs);
			node->used = true;
		} else if (section->titled_as != NULL && strcmp(section->name, "listener") == 0 &&
		    option_find(limits_total_options, node->name) != NULL) {
			conf_errors_add(errs,
			    "%s:%d: %s\"%s\" counts for the whole broker: write it in limits { }",
			    node->file, node->line, scope, node->name);
			ok = false;
		} else if (!open) {
			name_unknown(node, section, scope, errs);
			ok = false;
		}
	}
	for (unsigned t = 0; t < 2; t++) {
		for (const struct option_def *row = section->tables[t];
		     row != NULL && row->name != NULL; row++) {
			char help[400];

			if ((row->flags & OPTION_REQUIRED) == 0 ||
			    conf_find(block, row->name) != NULL)
				continue;
			conf_errors_add(errs, "%s:%d: %srequired option \"%s\" is missing (%s)",
			    block->file, block->line, scope, row->name,
			    option_help(help, sizeof(help), row->help));
			ok = false;
		}
	}
	return ok;
}

/* admin, limits, log, store: may be written in several files, and not at all. */
static bool
section_apply(struct settings *s, const char *name, struct conf_errors *errs)
{
	struct conf_node *block = conf_find(s->tree, name);

	if (block == NULL || block->kind != CONF_BLOCK)
		return true; /* said already, at the top level */
	if (block->title != NULL) {
		conf_errors_add(errs, "%s:%d: %s takes no title: write %s { ... }", block->file,
		    block->line, name, name);
		return false;
	}
	return block_apply(block, section_find(name), s, &s->limits, false, errs);
}

/* Titles become names in logs, metrics and commands. */
static bool
title_check(
    const struct conf_node *block, const struct section_def *section, struct conf_errors *errs)
{
	char shown[OPTION_SHOWN];

	if (block->title == NULL) {
		conf_errors_add(errs, "%s:%d: a %s needs a title: write %s \"name\" { ... }",
		    block->file, block->line, section->titled_as, section->name);
		return false;
	}
	if (!conf_is_title(block->title)) {
		conf_errors_add(errs,
		    "%s:%d: the title of %s \"%s\" must be 1 to 64 letters, digits, \".\", \"_\" "
		    "or \"-\"",
		    block->file, block->line, section->name,
		    conf_shown(shown, sizeof(shown), block->title));
		return false;
	}
	return true;
}

static char *
where_of(const struct conf_node *node)
{
	char *where = NULL;

	return asprintf(&where, "%s:%d", node->file, node->line) < 0 ? NULL : where;
}

static bool
no_memory(const struct conf_node *node, struct conf_errors *errs)
{
	conf_errors_add(errs, "%s:%d: out of memory", node->file, node->line);
	return false;
}

/* ---- listeners ------------------------------------------------------------------------------- */

/* A line about an option of a block, or about the block if it does not have the option. Always false. */
static bool __attribute__((format(printf, 5, 6))) say(struct conf_errors *errs,
    const struct conf_node *block, const char *scope, const char *option, const char *format, ...)
{
	const struct conf_node *node = conf_find(block, option);
	char text[400];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (node == NULL)
		node = block;
	conf_errors_add(errs, "%s:%d: %s%s", node->file, node->line, scope, text);
	return false;
}

/* Certificates and keys belong together one by one. */
static bool
pairs_check(const struct string_list *certificate, const struct string_list *private_key,
    const struct conf_node *block, const char *scope, struct conf_errors *errs)
{
	if (certificate->count == private_key->count)
		return true;
	return say(errs, block, scope, certificate->count > 0 ? "certificate" : "private_key",
	    "%u \"certificate\" and %u \"private_key\": each certificate needs its key, in the "
	    "same order",
	    certificate->count, private_key->count);
}

/*
 * Is an option of the block something else than its default? What settings_print writes shows every option, and must be
 * accepted.
 */
static bool
is_given(const struct listener_settings *l, const char *option)
{
	struct option_def row[2] = { *option_find(listener_options, option), { 0 } };
	struct listener_settings untouched = { 0 };
	bool same = options_defaults(row, &untouched) && option_equal(row, l, &untouched);

	options_fini(row, &untouched);
	return !same;
}

static bool
tls_check(const struct listener_settings *l, const struct conf_node *block, const char *scope,
    struct conf_errors *errs)
{
	static const char *const tls_only[] = { "certificate", "private_key", "client_ca",
		"client_certificate", "crl", "ocsp_response", "psk", "psk_file", "ciphers",
		"cipher_suites", "groups", "tls_minimum" };
	bool ok = pairs_check(&l->certificate, &l->private_key, block, scope, errs);

	for (unsigned i = 0; !l->tls && i < sizeof(tls_only) / sizeof(*tls_only); i++)
		if (is_given(l, tls_only[i]))
			ok = say(errs, block, scope, tls_only[i], "\"%s\" is only for tls = yes",
			    tls_only[i]);
	if (!l->tls && l->server_name_count > 0)
		ok =
		    say(errs, block, scope, "server_name", "\"server_name\" is only for tls = yes");
	if (!l->tls)
		return ok;
	if (l->certificate.count == 0 && l->psk_file == NULL && !l->psk_hook)
		ok = say(errs, block, scope, "tls",
		    "tls = yes needs a \"certificate\" with its \"private_key\", or pre-shared "
		    "keys "
		    "(\"psk_file\", or psk = yes for those of a plugin)");
	if (l->client_certificate != CERTIFICATE_NONE && l->client_ca == NULL)
		ok = say(errs, block, scope, "client_certificate",
		    "\"client_certificate\" needs \"client_ca\": who signs the certificates of "
		    "clients?");
	if (l->client_ca != NULL && l->client_certificate == CERTIFICATE_NONE)
		ok = say(errs, block, scope, "client_ca",
		    "\"client_ca\" needs client_certificate = optional or required, else no client "
		    "is asked for a certificate");
	if (l->client_certificate == CERTIFICATE_REQUIRED && (l->psk_file != NULL || l->psk_hook))
		ok = say(errs, block, scope, "client_certificate",
		    "client_certificate = required excludes pre-shared keys, since who comes with "
		    "a "
		    "key shows no certificate: write optional, or make two listeners");
	if (l->crl.count > 0 && l->client_certificate == CERTIFICATE_NONE)
		ok = say(errs, block, scope, "crl",
		    "\"crl\" needs client_certificate = optional or required");
	return ok;
}

static bool
identity_check(const struct listener_settings *l, const struct conf_node *block, const char *scope,
    struct conf_errors *errs)
{
	switch (l->identity) {
	case IDENTITY_NONE:
		return true;
	case IDENTITY_PEER:
		if (l->proxy_protocol)
			return say(errs, block, scope, "identity",
			    "identity = peer would be the proxy itself where proxy_protocol = yes");
		return l->is_unix || l->systemd != NULL ||
		    say(errs, block, scope, "identity",
			"identity = peer is only for a Unix socket (bind = \"unix:/path\")");
	case IDENTITY_CN: /* a trusted proxy may tell it */
		if (l->proxy_protocol)
			return true;
		break;
	case IDENTITY_SAN:
	case IDENTITY_SUBJECT:
		break;
	}
	return (l->tls && l->client_certificate != CERTIFICATE_NONE) ||
	    say(errs, block, scope, "identity",
		"\"identity\" needs tls = yes and client_certificate = optional or required");
}

static bool
proxy_check(struct listener_settings *l, const struct conf_node *block, const char *scope,
    struct conf_errors *errs)
{
	char why[300];

	l->trusted = calloc(l->trusted_proxies.count + 1, sizeof(*l->trusted));
	if (l->trusted == NULL)
		return say(errs, block, scope, "trusted_proxies", "out of memory");
	for (unsigned i = 0; i < l->trusted_proxies.count; i++)
		(void)cidr_parse(l->trusted_proxies.items[i], &l->trusted[i], why, sizeof(why));
	if (l->proxy_protocol && l->trusted_proxies.count == 0)
		return say(errs, block, scope, "proxy_protocol",
		    "proxy_protocol = yes needs \"trusted_proxies\": whose word about addresses is "
		    "to "
		    "be believed?");
	return true;
}

/* Options that have no place in a listener with such a bind. */
static bool
bind_check(const struct listener_settings *l, const struct conf_node *block, const char *scope,
    struct conf_errors *errs)
{
	static const char *const of_unix[] = { "unix_group", "unix_mode", "unix_owner" };
	static const char *const of_tcp[] = { "interface", "tcp_keep_alive", "tcp_user_timeout" };
	static const char *const of_unit[] = { "backlog", "interface" };
	bool ok = true;

	for (unsigned i = 0; i < 3 && !l->is_unix; i++)
		if (conf_find(block, of_unix[i]) != NULL)
			ok = say(errs, block, scope, of_unix[i],
			    "\"%s\" is only for a Unix socket (bind = \"unix:/path\")", of_unix[i]);
	for (unsigned i = l->is_udp ? 1 : 0; i < 3 && (l->is_unix || l->is_udp); i++)
		if (is_given(l, of_tcp[i]))
			ok =
			    say(errs, block, scope, of_tcp[i], "\"%s\" is only for TCP", of_tcp[i]);
	for (unsigned i = 0; i < 2 && l->systemd != NULL; i++)
		if (is_given(l, of_unit[i]))
			ok = say(errs, block, scope, of_unit[i],
			    "\"%s\" is for the socket unit to say where bind = \"systemd:...\"",
			    of_unit[i]);
	return ok;
}

/* Who has the socket sees to all that comes before MQTT. */
static bool
handler_check(const struct listener_settings *l, const struct conf_node *block, const char *scope,
    struct conf_errors *errs)
{
	static const char *const ours[] = { "tls", "websocket", "proxy_protocol", "identity" };
	const bool on[] = { l->tls, l->websocket != WEBSOCKET_NO, l->proxy_protocol,
		l->identity != IDENTITY_NONE };
	bool ok = true;

	if (l->handler == NULL)
		return !l->is_udp ||
		    say(errs, block, scope, "bind",
			"MQTT is not spoken over datagrams: \"udp:\" needs handler = \"name\", a "
			"plugin "
			"that speaks for the clients");
	for (unsigned i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		if (on[i])
			ok = say(errs, block, scope, ours[i],
			    "\"%s\" and \"handler\" exclude each other: the plugin has the socket",
			    ours[i]);
	return ok;
}

/* What rows alone cannot say. */
static bool
listener_check(struct settings *s, struct listener_settings *l, const struct conf_node *block,
    const char *scope, struct conf_errors *errs)
{
	struct address a;
	char why[300];
	bool ok;

	if (l->bind == NULL || !address_parse(l->bind, &a, why, sizeof(why)))
		return l->bind == NULL; /* both were said before, when the value was set */
	l->is_unix = a.is_unix;
	l->is_udp = a.is_udp;
	l->host = a.host;
	l->port = a.port;
	l->path = a.path;
	l->systemd = a.systemd;
	ok = bind_check(l, block, scope, errs);
	for (unsigned i = 0; i < l->index; i++) {
		const struct listener_settings *other = &s->listeners[i];
		bool any_port = l->port != NULL && strcmp(l->port, "0") == 0;

		if (!any_port && other->bind != NULL && strcmp(other->bind, l->bind) == 0) {
			const struct conf_node *node = conf_find(block, "bind");

			conf_errors_add(errs,
			    "%s:%d: %slistener \"%s\" at %s is bound to %s already", node->file,
			    node->line, scope, other->name, other->where, l->bind);
			ok = false;
		}
	}
	ok = handler_check(l, block, scope, errs) && ok;
	ok = tls_check(l, block, scope, errs) && ok;
	ok = identity_check(l, block, scope, errs) && ok;
	return proxy_check(l, block, scope, errs) && ok;
}

/* server_name "host" { … } inside a listener. */
static bool
server_name_apply(struct listener_settings *l, struct conf_node *block, struct conf_errors *errs)
{
	const struct section_def *section = section_find("server_name");
	struct server_name_settings *n = &l->server_names[l->server_name_count];
	char scope[SCOPE_SIZE];
	bool ok;

	l->server_name_count++;
	scope_of(block, scope);
	if (block->title == NULL || block->title[0] == '\0' || strlen(block->title) > 253 ||
	    strcmp(block->title, "*.") == 0 ||
	    strpbrk(block->title + (strncmp(block->title, "*.", 2) == 0), "* /:") != NULL)
		return say(errs, block, "", "",
		    "a server_name needs the name of a host as its title: write server_name "
		    "\"broker.example.org\" or \"*.example.org\" { ... }");
	n->name = strdup(block->title);
	n->where = where_of(block);
	if (n->name == NULL || n->where == NULL || !options_defaults(server_name_options, n))
		return no_memory(block, errs);
	for (char *c = n->name; *c != '\0'; c++) /* names of hosts know no case */
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	ok = block_apply(block, section, n, NULL, false, errs);
	for (unsigned i = 0; i + 1 < l->server_name_count; i++)
		if (l->server_names[i].name != NULL &&
		    strcmp(l->server_names[i].name, n->name) == 0)
			ok =
			    say(errs, block, scope, "", "server_name \"%s\" at %s is the same host",
				l->server_names[i].name, l->server_names[i].where);
	return pairs_check(&n->certificate, &n->private_key, block, scope, errs) && ok;
}

static bool
server_names_apply(struct listener_settings *l, struct conf_node *block, struct conf_errors *errs)
{
	bool ok = true;

	l->server_names = calloc(block->item_count + 1, sizeof(*l->server_names));
	if (l->server_names == NULL)
		return no_memory(block, errs);
	for (unsigned i = 0; i < block->item_count; i++) {
		struct conf_node *node = &block->items[i];

		if (node->kind == CONF_BLOCK && strcmp(node->name, "server_name") == 0)
			ok = server_name_apply(l, node, errs) && ok;
	}
	return ok;
}

static bool
listener_apply(struct settings *s, struct conf_node *block, struct conf_errors *errs)
{
	const struct section_def *section = section_find("listener");
	struct listener_settings *l = &s->listeners[s->listener_count];
	char scope[SCOPE_SIZE];
	bool ok = title_check(block, section, errs);

	scope_of(block, scope);
	*l = (struct listener_settings){
		.index = s->listener_count, .limits = s->limits, .settings = s
	};
	s->listener_count++;
	l->name = strdup(block->title == NULL ? "" : block->title);
	l->where = where_of(block);
	if (l->name == NULL || l->where == NULL || !defaults(s, listener_options, l))
		return no_memory(block, errs);
	ok = block_apply(block, section, l, &l->limits, false, errs) && ok;
	ok = server_names_apply(l, block, errs) && ok;
	return listener_check(s, l, block, scope, errs) && ok;
}

/* ---- plugins --------------------------------------------------------------------------------- */

static bool
plugin_apply(struct settings *s, struct conf_node *block, struct conf_errors *errs)
{
	const struct section_def *section = section_find("plugin");
	struct plugin_settings *p = &s->plugins[s->plugin_count];
	bool ok = title_check(block, section, errs);

	*p = (struct plugin_settings){ .section = block };
	s->plugin_count++;
	p->name = strdup(block->title == NULL ? "" : block->title);
	p->where = where_of(block);
	if (p->name == NULL || p->where == NULL || !defaults(s, plugin_options_common, p))
		return no_memory(block, errs);
	ok = block_apply(block, section, p, NULL, true, errs) && ok;
	if (p->module == NULL && (p->module = strdup(p->name)) == NULL)
		return no_memory(block, errs);
	return ok;
}

/* A title that no listener has would leave out clients that somebody wanted it to see. */
static bool
listeners_check(const struct settings *s, const struct plugin_settings *p, struct conf_errors *errs)
{
	bool ok = true;

	for (unsigned i = 0; i < p->listeners.count && p->enabled; i++) {
		const char *title = p->listeners.items[i];
		char shown[OPTION_SHOWN];
		unsigned k = 0;

		while (k < s->listener_count && strcmp(s->listeners[k].name, title) != 0)
			k++;
		if (k < s->listener_count)
			continue;
		conf_errors_add(errs,
		    "%s: plugin \"%s\": listeners: no listener \"%s\" is configured; name "
		    "those whose clients the plugin is for, or all",
		    p->where, p->name, conf_shown(shown, sizeof(shown), title));
		ok = false;
	}
	return ok;
}

/* "all" or "any", and perhaps a colon and a name. */
static bool
title_begins(const char *title, const char *word)
{
	size_t n = strlen(word);

	return strncmp(title, word, n) == 0 && (title[n] == '\0' || title[n] == ':');
}

static bool
require_apply(struct settings *s, struct conf_node *block, struct conf_errors *errs)
{
	const struct section_def *section = section_find("require");
	struct require_settings *r = &s->requires[s->require_count++];
	bool ok = title_check(block, section, errs);
	char shown[OPTION_SHOWN];

	r->name = strdup(block->title == NULL ? "" : block->title);
	r->where = where_of(block);
	if (r->name == NULL || r->where == NULL || !defaults(s, require_options, r))
		return no_memory(block, errs);
	r->all = title_begins(r->name, "all");
	if (ok && !r->all && !title_begins(r->name, "any")) {
		conf_errors_add(errs,
		    "%s: require \"%s\": the title must be \"all\" or \"any\"; several of a kind "
		    "have a "
		    "name behind a colon, as in \"all:devices\"",
		    r->where, conf_shown(shown, sizeof(shown), r->name));
		ok = false;
	}
	return block_apply(block, section, r, NULL, false, errs) && ok;
}

/* ---- the guard ------------------------------------------------------------------------------- */

static bool
guard_finish(struct settings *s, struct conf_errors *errs)
{
	struct guard_settings *g = &s->guard;
	char why[128];

	if ((g->excepted = calloc(2 * g->except.count + 1, sizeof(*g->excepted))) == NULL)
		return no_memory(s->tree, errs);
	for (unsigned i = 0; i < g->except.count; i++) {
		const char *item = g->except.items[i];
		bool loopback = strcmp(item, "loopback") == 0;

		if (loopback)
			(void)cidr_parse(
			    "::1", &g->excepted[g->excepted_count++], why, sizeof(why));
		(void)cidr_parse(loopback ? "127.0.0.0/8" : item, &g->excepted[g->excepted_count++],
		    why, sizeof(why));
	}
	return true;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* The processors this process may use: less than the machine has in a container or under taskset. */
static unsigned
cpu_count(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
							     : (int)sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > 256 ? 256 : (unsigned)n;
}

/* Not all of it: the kernel, what it caches for us, and others need some. */
static uint64_t
memory_share(void)
{
	uint64_t bytes = machine_memory() / 4 * 3;

	return bytes == 0 ? MEMORY_UNKNOWN : bytes < MEMORY_LEAST ? MEMORY_LEAST : bytes;
}

/* What "auto" stands for. */
static bool
fill_in(struct settings *s)
{
	char host[65] = "";

	if (s->workers == 0)
		s->workers = cpu_count();
	if (s->node_name != NULL)
		return true;
	if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
		snprintf(host, sizeof(host), "grapnel");
	for (char *c = host; *c != '\0'; c++) {
		bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
		    (*c >= '0' && *c <= '9') || *c == '.' || *c == '_' || *c == '-';

		if (!plain)
			*c = '-';
	}
	return (s->node_name = strdup(host)) != NULL;
}

static bool
tree_apply(struct settings *s, struct conf_errors *errs)
{
	struct conf_node *root = s->tree;
	unsigned listeners = 0;
	bool ok;

	for (const struct section_def *section = settings_sections + 1; section->name != NULL;
	     section++) {
		if (section->inside[0] == '\0' && section->titled_as == NULL &&
		    !conf_merge(root, section->name))
			return no_memory(root, errs);
	}
	ok = conf_check_unique(root, errs);
	ok = block_apply(root, section_find(""), s, &s->limits, false, errs) && ok;
	ok = section_apply(s, "admin", errs) && ok;
	ok = section_apply(s, "log", errs) && ok;
	ok = section_apply(s, "store", errs) && ok;
	ok = section_apply(s, "guard", errs) && guard_finish(s, errs) && ok;
	ok = section_apply(s, "limits", errs) && ok; /* before listeners, which inherit them */
	if (s->limits.max_memory == 0)
		s->limits.max_memory = memory_share();

	s->listeners = calloc(root->item_count + 1, sizeof(*s->listeners));
	s->plugins = calloc(root->item_count + 1, sizeof(*s->plugins));
	s->requires = calloc(root->item_count + 1, sizeof(*s->requires));
	if (s->listeners == NULL || s->plugins == NULL || s->requires == NULL)
		return no_memory(root, errs);
	for (unsigned i = 0; i < root->item_count; i++) {
		struct conf_node *node = &root->items[i];

		if (node->kind == CONF_BLOCK && strcmp(node->name, "listener") == 0) {
			ok = listener_apply(s, node, errs) && ok;
			listeners++;
		}
		if (node->kind == CONF_BLOCK && strcmp(node->name, "plugin") == 0)
			ok = plugin_apply(s, node, errs) && ok;
		if (node->kind == CONF_BLOCK && strcmp(node->name, "require") == 0)
			ok = require_apply(s, node, errs) && ok;
	}
	for (unsigned i = 0; i < s->plugin_count; i++)
		ok = listeners_check(s, &s->plugins[i], errs) && ok;
	if (listeners == 0) {
		conf_errors_add(errs,
		    "%s: no listener is configured, so no client could connect: write for example "
		    "listener \"mqtt\" { bind = \"127.0.0.1:1883\" }",
		    root->file);
		ok = false;
	}
	return ok;
}

int
settings_from_tree(
    struct conf_node *tree, const char *path, struct conf_errors *errs, struct settings **out)
{
	struct settings *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->path = strdup(path)) == NULL) {
		free(s);
		no_memory(tree, errs);
		conf_free(tree);
		return GRAPNEL_ENOMEM;
	}
	atomic_init(&s->refs, 1);
	s->tree = tree;
	if (!defaults(s, top_options, s) || !defaults(s, admin_options, s) ||
	    !defaults(s, log_options, s) || !defaults(s, store_options, s) ||
	    !defaults(s, guard_options, s) || !defaults(s, limits_options, &s->limits) ||
	    !defaults(s, limits_total_options, &s->limits)) {
		no_memory(tree, errs);
	} else if (tree_apply(s, errs)) {
		if (fill_in(s)) {
			*out = s;
			return GRAPNEL_OK;
		}
		no_memory(tree, errs);
	}
	settings_unref(s);
	return GRAPNEL_EINVAL;
}

/* Who has which uid, if anybody asks for it. */
static bool
logins_load(struct settings *s, struct conf_errors *errs)
{
	for (unsigned i = 0; i < s->listener_count && s->logins == NULL; i++) {
		const struct listener_settings *l = &s->listeners[i];

		if (l->identity != IDENTITY_PEER || (s->logins = logins_read(PASSWD_FILE)) != NULL)
			continue;
		conf_errors_add(errs,
		    "%s: listener \"%s\": cannot read %s, which identity = peer needs for login "
		    "names: %s",
		    l->where, l->name, PASSWD_FILE, strerror(errno));
		return false;
	}
	return true;
}

int
settings_load(const char *path, struct conf_errors *errs, struct settings **out)
{
	struct conf_node *tree = conf_read(path, true, errs);
	struct settings *s;
	int err = tree == NULL ? GRAPNEL_EINVAL : settings_from_tree(tree, path, errs, &s);

	if (err != GRAPNEL_OK)
		return err;
	if (!logins_load(s, errs)) {
		settings_unref(s);
		return GRAPNEL_EINVAL;
	}
	*out = s;
	return GRAPNEL_OK;
}
