/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users, rights and plugins. Listeners with the same password_file and acl_file share a section of auth-file. Where there is no
 * acl_file, Mosquitto lets everybody use every topic and read $SYS; a file of rules says so, for without one the topics that begin
 * with $ would be closed.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include "../plugins/common/read_file.h"
#include "mqtt/wire.h"
#include <stdlib.h>
#include <string.h>

#define RULES                                            \
	"# What Mosquitto allows without an acl_file.\n" \
	"allow all       #\n"                            \
	"allow subscribe $SYS/#\n"

/* Of what is asked before those of the kind. */
#define ORDER_IDENTITY    15u
#define ORDER_FILES       19u
#define ORDER_PLUGINS_OLD 59u
#define PLUGIN_MAX        (64u << 20)

struct group {
	struct import_directive *passwords, *acl;
	bool open; /* neither acl_file nor plugin: RULES */
};

/* ---- plugins ------------------------------------------------------------------------------------- */

static const char *
base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* "plugin_load NAME PATH"; the others have only a path. */
static const char *
plugin_path(const struct import_directive *d)
{
	const char *path = d->value;

	if (strcmp(d->name, "plugin_load") == 0) {
		path += strcspn(path, " \t");
		path += strspn(path, " \t");
	}
	return path;
}

static const char *
option_name(const struct import_directive *d)
{
	return d->name + (strncmp(d->name, "auth_opt_", 9) == 0 ? 9 : 11);
}

/* The last one of that name. */
static struct import_directive *
plugin_option(struct import *im, int plugin, const char *name)
{
	struct import_directive *found = NULL;

	for (size_t i = 0; i < im->count; i++) {
		struct import_directive *d = &im->directives[i];

		if (d->known != NULL && strcmp(d->known->name, "plugin_opt_*") == 0 &&
		    d->under == plugin && strcmp(option_name(d), name) == 0)
			found = d;
	}
	return found;
}

/* Is it asked about clients of that listener? One of plugin_load about those of the listeners with plugin_use alone. */
static bool
concerns(const struct import *im, size_t plugin, int listener)
{
	const struct import_plugin *p = &im->plugins[plugin];

	if (!import_is_loaded(im, plugin))
		return p->listener < 0 || p->listener == listener;
	for (size_t i = 0; i < im->count; i++) {
		const struct import_directive *d = &im->directives[i];

		if (d->known != NULL && strcmp(d->known->name, "plugin_use") == 0 &&
		    d->under == listener && listener >= 0 &&
		    import_plugin_named(im, d->value) == (int)plugin)
			return true;
	}
	return false;
}

/* Mosquitto 2.1 has its files as plugins, too: what auth-file reads. */
static struct import_directive *
plugin_file(struct import *im, const char *module, const char *option, int listener)
{
	for (size_t i = 0; i < im->plugin_count; i++) {
		struct import_directive *d = &im->directives[im->plugins[i].at], *file;

		if (strstr(base_name(plugin_path(d)), module) == NULL || !concerns(im, i, listener))
			continue;
		if ((file = plugin_option(im, (int)i, option)) != NULL) {
			import_converted(d);
			return file;
		}
	}
	return NULL;
}

static bool
is_file_plugin(const struct import_directive *d)
{
	const char *name = base_name(plugin_path(d));

	return strstr(name, "mosquitto_password_file") != NULL ||
	    strstr(name, "mosquitto_acl_file") != NULL;
}

/* It keeps things, and decides nothing. */
static bool
is_store(const struct import_directive *d)
{
	return strstr(base_name(plugin_path(d)), "persist_sqlite") != NULL;
}

/* Which sections of ours do what mosquitto-go-auth did. */
static void
hint_go_auth(struct import *im, struct import_directive *d, int plugin)
{
	static const char *const ours[][2] = { { "files", "auth-file" },
		{ "postgres", "auth-postgres" }, { "mysql", "auth-mysql" },
		{ "sqlite", "auth-sqlite" }, { "redis", "auth-redis" }, { "jwt", "auth-jwt" },
		{ "http", "auth-http" }, { "ldap", "auth-ldap" } };
	struct import_directive *backends = plugin_option(im, plugin, "backends");
	char list[200] = "";

	for (size_t i = 0; backends != NULL && i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strstr(backends->value, ours[i][0]) != NULL)
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
			    list[0] != '\0' ? ", " : "", ours[i][1]);
	import_fate(im, d, IMPORT_OTHER,
	    "mosquitto-go-auth is not maintained any more; %s of Grapnel can take its place, and "
	    "each manual says "
	    "how",
	    list[0] != '\0' ? list : "auth-postgres, auth-redis, auth-jwt and others");
}

static void
hint(struct import *im, struct import_directive *d, int plugin)
{
	const char *name = base_name(plugin_path(d));

	if (strstr(name, "go-auth") != NULL || strstr(name, "go_auth") != NULL)
		hint_go_auth(im, d, plugin);
	else if (strcmp(name, "auth-plug.so") == 0)
		import_fate(im, d, IMPORT_OTHER,
		    "it speaks an older interface than 4: use auth-postgres, auth-mysql, "
		    "auth-redis, "
		    "auth-ldap or auth-http instead");
	else if (strstr(name, "dynamic_security") != NULL)
		import_fate(im, d, IMPORT_OTHER,
		    "clients, groups and roles are in a file of the plugin, which goes on to use "
		    "it");
	else if (is_store(d))
		import_fate(im, d, IMPORT_LOST, "the store is Grapnel's own (store { })");
}

static void
put_plugin_options(struct import *im, struct import_file *f, int plugin)
{
	for (size_t i = 0; i < im->count; i++) {
		struct import_directive *d = &im->directives[i];
		const char *name;

		if (d->known == NULL || strcmp(d->known->name, "plugin_opt_*") != 0 ||
		    d->under != plugin)
			continue;
		name = option_name(d);
		if (plugin_option(im, plugin, name) != d) {
			import_fate(im, d, IMPORT_LOST, "it is there again below, which counts");
			continue;
		}
		if (name[0] == '\0' || d->value[0] == '\0' || !utf8_plain(name, strlen(name)) ||
		    strpbrk(name, "\"\\$") != NULL || !utf8_plain(d->value, strlen(d->value))) {
			import_fate(im, d, IMPORT_LOST, "name or value is empty or no text");
			continue;
		}
		import_line(f, d, "option \"%s\" {", name);
		import_string(f, NULL, "value", d->value);
		import_end(f);
		import_converted(d);
	}
}

/* Version 5 is asked before Mosquitto's files, older ones after them. What cannot be read has the version that its name stands for. */
static bool
is_version_5(const struct import *im, const struct import_directive *d)
{
	static const char init[] = "mosquitto_plugin_init";
	char error[IMPORT_ERROR];
	struct file_text text;
	bool found;

	if (!im->look_around || !read_file(plugin_path(d), PLUGIN_MAX, &text, error, sizeof(error)))
		return strcmp(d->name, "auth_plugin") != 0;
	found = memmem(text.data, text.len, init, sizeof(init)) != NULL;
	file_text_free(&text);
	return found;
}

/* The sections of auth-file come behind it. */
static unsigned
files_order(const struct import *im)
{
	unsigned plugins = ORDER_IDENTITY + (unsigned)im->plugin_count;

	return plugins > ORDER_FILES ? plugins : ORDER_FILES;
}

static unsigned
order_of(const struct import *im, const struct import_directive *d, unsigned number)
{
	unsigned files = files_order(im) + (unsigned)im->listener_count;

	if (is_version_5(im, d))
		return ORDER_IDENTITY + number;
	return (files > ORDER_PLUGINS_OLD ? files : ORDER_PLUGINS_OLD) + number;
}

static void
put_title_list(const struct import_listener *l, FILE *out, bool first)
{
	fprintf(out, "%s\"%s\"", first ? "" : ", ", l->title);
	for (unsigned k = 2; k <= l->addresses; k++)
		fprintf(out, ", \"%s.%u\"", l->title, k);
}

/* listeners = [...]: those that fn wants. */
static void
put_listeners(struct import *im, struct import_file *f,
    bool (*fn)(struct import *im, int listener, const void *arg), const void *arg)
{
	char *list = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&list, &len);
	bool first = true;

	if (out == NULL) {
		im->no_memory = true;
		return;
	}
	for (size_t i = 0; i < im->listener_count; i++) {
		if (!fn(im, (int)i, arg))
			continue;
		put_title_list(&im->listeners[i], out, first);
		first = false;
	}
	if (fclose(out) != 0)
		im->no_memory = true;
	else
		import_line(f, NULL, "listeners = [%s]", list);
	free(list);
}

static bool
is_of_plugin(struct import *im, int listener, const void *arg)
{
	return im->listeners[listener].title[0] != '\0' &&
	    concerns(im, *(const size_t *)arg, listener);
}

static bool
is_for_all(const struct import *im, size_t plugin)
{
	return im->plugins[plugin].listener < 0 && !import_is_loaded(im, plugin);
}

/* Is any of those that it is for there? */
static bool
has_listener(struct import *im, size_t plugin)
{
	if (is_for_all(im, plugin))
		return true;
	for (size_t i = 0; i < im->listener_count; i++)
		if (is_of_plugin(im, (int)i, &plugin))
			return true;
	return false;
}

/* plugin_use is in what is written, or said. */
static void
take_uses(struct import *im, size_t plugin, bool put)
{
	for (size_t i = 0; i < im->count; i++) {
		struct import_directive *d = &im->directives[i];

		if (d->known == NULL || strcmp(d->known->name, "plugin_use") != 0 ||
		    import_plugin_named(im, d->value) != (int)plugin)
			continue;
		if (put)
			import_converted(d);
		else
			import_fate(im, d, IMPORT_LOST, "see its plugin_load");
	}
}

static void
put_plugin(struct import *im, struct import_file *f, int plugin, unsigned number)
{
	struct import_directive *d = &im->directives[im->plugins[plugin].at],
				*special =
				    import_find(im, "auth_plugin_deny_special_chars", plugin);
	const char *path = plugin_path(d);
	bool deny = true;

	if (number == 1) {
		import_line(f, NULL, "plugin \"mosquitto-compat\" {");
	} else {
		import_line(f, NULL, "plugin \"mosquitto-compat-%u\" {", number);
		import_line(f, NULL, "module = mosquitto-compat");
	}
	import_line(f, NULL, "order = %u", order_of(im, d, number));
	import_string(f, d, "path", path);
	if (!is_for_all(im, (size_t)plugin))
		put_listeners(im, f, is_of_plugin, &(size_t){ (size_t)plugin });
	put_plugin_options(im, f, plugin);
	if (import_bool(im, special, &deny)) {
		import_line(f, special, "deny_special_chars = %s", deny ? "yes" : "no");
		import_converted(special);
	}
	import_end(f);
	import_converted(d);
}

static void
put_plugins(struct import *im, struct import_out *o)
{
	struct import_file *f = NULL;
	unsigned number = 0;

	for (size_t i = 0; i < im->plugin_count; i++) {
		struct import_directive *d = &im->directives[im->plugins[i].at];
		const char *path = plugin_path(d);

		if (d->fate == IMPORT_LOST || is_file_plugin(d))
			continue;
		if (!has_listener(im, i)) {
			import_fate(im, d, IMPORT_LOST,
			    import_is_loaded(im, i)
				? "no listener that is there uses it (plugin_use)"
				: "its listener is left out");
			continue;
		}
		hint(im, d, (int)i);
		if (d->fate == IMPORT_LOST)
			continue;
		if (path[0] == '\0' || !utf8_plain(path, strlen(path))) {
			import_fate(im, d, IMPORT_LOST, "this is not a path");
			continue;
		}
		if (f == NULL)
			f = import_out_file(im, o, "conf.d/60-mosquitto-compat.conf", 0640,
			    "Mosquitto's plugins, run by the plugin mosquitto-compat; see "
			    "grapnel-mosquitto-compat(5).\n");
		if (f == NULL)
			return;
		put_plugin(im, f, (int)i, ++number);
		im->plugins[i].put = true;
		take_uses(im, i, true);
	}
}

static bool
is_put(const struct import *im, int listener)
{
	for (size_t i = 0; i < im->plugin_count; i++)
		if (im->plugins[i].put && concerns(im, i, listener))
			return true;
	return false;
}

bool
import_has_plugin(struct import *im, int listener)
{
	for (size_t i = 0; i < im->plugin_count; i++) {
		const struct import_directive *d = &im->directives[im->plugins[i].at];

		if (concerns(im, i, listener) &&
		    strstr(base_name(plugin_path(d)), "mosquitto_password_file") == NULL)
			return true;
	}
	return false;
}

struct import_directive *
import_lacks_plugin(struct import *im, int listener)
{
	for (size_t i = 0; i < im->plugin_count; i++) {
		struct import_directive *d = &im->directives[im->plugins[i].at];
		const char *path = plugin_path(d);

		if (!concerns(im, i, listener) || is_file_plugin(d) || is_store(d) ||
		    (path[0] != '\0' && utf8_plain(path, strlen(path))))
			continue;
		import_fate(im, d, IMPORT_LOST, "this is not a path; its listeners are left out");
		return d;
	}
	return NULL;
}

/* Without its file it decides, too. */
static bool
has_acl_plugin(struct import *im, int listener)
{
	for (size_t i = 0; i < im->plugin_count; i++)
		if (concerns(im, i, listener) &&
		    strstr(base_name(plugin_path(&im->directives[im->plugins[i].at])),
			"mosquitto_acl_file") != NULL)
			return true;
	return false;
}

/* ---- auth-file ----------------------------------------------------------------------------------- */

static struct group
group_of(struct import *im, int listener)
{
	struct group g = { import_security(im, "password_file", listener),
		import_security(im, "acl_file", listener), false };

	if (g.passwords == NULL)
		g.passwords = plugin_file(im, "mosquitto_password_file", "password_file", listener);
	if (g.acl == NULL)
		g.acl = plugin_file(im, "mosquitto_acl_file", "acl_file", listener);
	g.open = g.acl == NULL && !is_put(im, listener) && !has_acl_plugin(im, listener) &&
	    import_lacks_plugin(im, listener) == NULL;
	return g;
}

static bool
same_value(const struct import_directive *a, const struct import_directive *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a->value, b->value) == 0);
}

static bool
same_group(const struct group *a, const struct group *b)
{
	return same_value(a->passwords, b->passwords) && same_value(a->acl, b->acl) &&
	    a->open == b->open;
}

static bool
is_of_group(struct import *im, int listener, const void *arg)
{
	struct group of = group_of(im, listener);

	return im->listeners[listener].title[0] != '\0' && same_group(&of, arg);
}

static void
put_file(struct import *im, struct import_file *f, struct import_directive *d, const char *option)
{
	char *path = d != NULL ? import_path(im, d) : NULL;

	if (path == NULL)
		return;
	import_string(f, d, option, path);
	import_converted(d);
	free(path);
}

/* A file that goes with the configuration, and the option that names it. */
static void
put_own_file(struct import *im, struct import_file *f, struct import_out *o, const char *name,
    const char *text)
{
	bool rules = strcmp(name, "rules") == 0;
	struct import_file *own;
	char *path = NULL;

	for (unsigned i = 0; i < o->count && text != NULL; i++)
		if (strcmp(o->files[i].name, name) == 0)
			text = NULL; /* it is there */
	if (text != NULL && (own = import_out_file(im, o, name, rules ? 0640 : 0600, "")) != NULL)
		fputs(text, own->stream);
	if (asprintf(&path, "%s/%s", im->output, name) < 0) {
		im->no_memory = true;
		return;
	}
	import_string(f, NULL, rules ? "rules" : "password_file", path);
	free(path);
}

struct sections {
	struct import *im;
	struct import_out *o;
	struct import_file *f;
	bool nobody; /* nobody: there is no way in at all */
	unsigned number;
};

static void
put_section(struct sections *s, const struct group *g, bool all)
{
	struct import *im = s->im;

	if (g->passwords == NULL && g->acl == NULL && !g->open && !s->nobody)
		return;
	if (s->f == NULL)
		s->f = import_out_file(im, s->o, "conf.d/20-auth-file.conf", 0640,
		    "Users and rights from files; see grapnel-auth-file(5).\n");
	if (s->f == NULL)
		return;
	if (s->number++ == 0) {
		import_line(s->f, NULL, "plugin \"auth-file\" {");
	} else {
		import_line(s->f, NULL, "plugin \"auth-file-%u\" {", s->number);
		import_line(s->f, NULL, "module = auth-file");
	}
	import_line(s->f, NULL, "order = %u", files_order(im) + s->number);
	if (!all)
		put_listeners(im, s->f, is_of_group, g);
	put_file(im, s->f, g->passwords, "password_file");
	if (g->passwords == NULL && s->nobody) {
		import_line(s->f, NULL, "# Nobody can log in yet, as with Mosquitto:");
		import_line(s->f, NULL, "# grapnelctl passwd set %s/passwd USER", im->output);
		put_own_file(im, s->f, s->o, "passwd", "");
	}
	put_file(im, s->f, g->acl, "acl_file");
	if (g->open)
		put_own_file(im, s->f, s->o, "rules", RULES);
	import_end(s->f);
}

static bool
seen_before(struct import *im, size_t listener, const struct group *g)
{
	for (size_t i = 0; i < listener; i++) {
		struct group of = group_of(im, (int)i);

		if (im->listeners[i].title[0] != '\0' && same_group(&of, g))
			return true;
	}
	return false;
}

static void
put_auth_files(struct sections *s)
{
	struct import *im = s->im;
	struct group first = { NULL, NULL, false };
	bool any = false, all = true;

	for (size_t i = 0; i < im->listener_count; i++) {
		struct group g = group_of(im, (int)i);

		if (im->listeners[i].title[0] == '\0')
			continue;
		all = all && (!any || same_group(&g, &first));
		first = any ? first : g;
		any = true;
	}
	if (!any)
		first = group_of(im, -1);
	if (all) {
		put_section(s, &first, true);
		return;
	}
	for (size_t i = 0; i < im->listener_count; i++) {
		struct group g = group_of(im, (int)i);

		if (im->listeners[i].title[0] != '\0' && !seen_before(im, i, &g))
			put_section(s, &g, false);
	}
}

/* ---- whom the listener vouches for ----------------------------------------------------------------- */

/* A key alone is enough where Mosquitto asks for nothing besides, on each listener with keys. */
static bool
key_is_enough(struct import *im)
{
	bool enough = false;

	for (size_t i = 0; i < im->listener_count; i++) {
		struct import_listener *l = &im->listeners[i];
		struct import_directive *d = import_find(im, "use_identity_as_username", (int)i);
		bool identity = false;

		if (l->title[0] == '\0' || !l->psk)
			continue;
		(void)import_bool(im, d, &identity);
		/* Who needs no name there has one here, which may be somebody's. */
		if (!identity &&
		    (!l->anonymous || import_has_plugin(im, (int)i) ||
			group_of(im, (int)i).passwords != NULL))
			return false;
		enough = true;
	}
	return enough;
}

static void
psk_needs_password(struct import *im)
{
	for (size_t i = 0; i < im->listener_count; i++)
		if (im->listeners[i].title[0] != '\0' && im->listeners[i].psk)
			import_fate(im, import_find(im, "psk_hint", (int)i), IMPORT_OTHER,
			    "its clients need a password for their identity, see password_file, "
			    "or identity_login in grapnel-auth-file(5)");
}

/* @return whether there is such a client. */
static bool
put_identity(struct import *im, struct import_out *o)
{
	bool certificate = false, proxy = false, psk = key_is_enough(im), any_psk = false;
	struct import_file *f;

	for (size_t i = 0; i < im->listener_count; i++) {
		const struct import_listener *l = &im->listeners[i];

		if (l->title[0] == '\0')
			continue;
		certificate = certificate || (l->identity && !l->proxied);
		proxy = proxy || (l->identity && l->proxied);
		any_psk = any_psk || l->psk;
	}
	if (any_psk && !psk)
		psk_needs_password(im);
	if (!certificate && !proxy && !psk)
		return false;
	f = import_out_file(im, o, "conf.d/15-tls-identity.conf", 0640,
	    "Clients that a listener knows (use_identity_as_username, use_subject_as_username, "
	    "psk_file)\n"
	    "need no password; see grapnel-tls-identity(5).\n");
	import_line(f, NULL, "plugin \"tls-identity\" {");
	import_line(f, NULL, "order = %u", ORDER_IDENTITY);
	import_line(f, NULL, "sources = [%s%s%s%s%s]", certificate ? "certificate" : "",
	    certificate && (proxy || psk) ? ", " : "", proxy ? "proxy" : "",
	    proxy && psk ? ", " : "", psk ? "psk" : "");
	import_end(f);
	return true;
}

/* Mosquitto without password_file lets in whoever brings a name, whatever password comes with it. */
static void
hint_names(struct import *im)
{
	for (size_t i = 0; i < im->listener_count; i++) {
		const struct import_listener *l = &im->listeners[i];
		struct group g = group_of(im, (int)i);
		struct import_directive *d;

		if (l->title[0] == '\0' || !l->anonymous || g.passwords != NULL ||
		    is_put(im, (int)i) || l->identity || l->psk)
			continue;
		if ((d = import_find(im, "listener_allow_anonymous", (int)i)) == NULL)
			d = import_security(im, "allow_anonymous", (int)i);
		import_fate(im, d, IMPORT_OTHER, "%s", IMPORT_ANY_NAME);
	}
	if (im->local_only && im->local_anonymous && !is_put(im, -1) &&
	    group_of(im, -1).passwords == NULL) {
		struct import_directive *d = import_find(im, "allow_anonymous", -1);

		im->names = d == NULL;
		import_fate(im, d, IMPORT_OTHER, "%s", IMPORT_ANY_NAME);
	}
}

void
import_auth(struct import *im, struct import_out *o)
{
	struct sections s = { .im = im, .o = o };
	bool anonymous = im->local_only && im->local_anonymous, identity = put_identity(im, o),
	     users = false, plugins = false;

	put_plugins(im, o);
	for (size_t i = 0; i < im->plugin_count; i++)
		plugins = plugins || im->plugins[i].put;
	for (size_t i = 0; i < im->listener_count; i++) {
		struct group g = group_of(im, (int)i);

		if (im->listeners[i].title[0] == '\0')
			continue;
		anonymous = anonymous || im->listeners[i].anonymous;
		users = users || g.passwords != NULL;
	}
	if (im->listener_count == 0)
		users = group_of(im, -1).passwords != NULL;
	s.nobody = !anonymous && !identity && !users && !plugins;
	put_auth_files(&s);
	hint_names(im);
}
