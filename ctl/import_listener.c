/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners. One whose protection cannot be kept (a certificate that is asked for without an authority, say) is left out, never
 * opened without it.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include "config/address.h"
#include "mqtt/wire.h"
#include <arpa/inet.h>
#include <inttypes.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES_MAX 4

static bool
protocol_is(const struct import_one *x, const char *protocol)
{
	struct import_directive *d = import_own(x, "protocol");
	char word[32];

	return d != NULL && strcmp(import_word(d, word, sizeof(word)), protocol) == 0;
}

/* ---- where it listens ---------------------------------------------------------------------------- */

/* IPv6 is not on every machine, and without it the broker would not start. */
static bool
loopback_6(void)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool good;

	if (fd < 0)
		return false;
	good = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
	(void)close(fd);
	return good;
}

static bool
wants_family(const struct import_one *x, int family)
{
	struct import_directive *d = import_own(x, "socket_domain");
	char word[8];

	if (d == NULL)
		return true;
	import_word(d, word, sizeof(word));
	if (strcmp(word, "ipv4") != 0 && strcmp(word, "ipv6") != 0) {
		import_fate(x->im, d, IMPORT_LOST, "it must be ipv4 or ipv6");
		return true;
	}
	import_converted(d);
	return (family == AF_INET) == (strcmp(word, "ipv4") == 0);
}

static unsigned
look_up(const struct import_one *x, const char *host, char out[ADDRESSES_MAX][INET6_ADDRSTRLEN + 2])
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all, *ai;
	char text[INET6_ADDRSTRLEN];
	unsigned n = 0;

	if (!x->im->look_around || getaddrinfo(host, NULL, &hints, &all) != 0)
		return 0;
	for (ai = all; ai != NULL && n < ADDRESSES_MAX; ai = ai->ai_next) {
		bool six = ai->ai_family == AF_INET6;
		const void *raw = six
		    ? (const void *)&((const struct sockaddr_in6 *)(const void *)ai->ai_addr)
			  ->sin6_addr
		    : (const void *)&((const struct sockaddr_in *)(const void *)ai->ai_addr)
			  ->sin_addr;

		if (wants_family(x, ai->ai_family) &&
		    inet_ntop(ai->ai_family, raw, text, sizeof(text)) != NULL)
			snprintf(out[n++], sizeof(out[0]), six ? "[%s]" : "%s", text);
	}
	freeaddrinfo(all);
	return n;
}

/* Of localhost, both addresses as far as the machine has them. */
static unsigned
local_addresses(const struct import_one *x, char out[ADDRESSES_MAX][INET6_ADDRSTRLEN + 2])
{
	unsigned n = 0;

	if (wants_family(x, AF_INET))
		snprintf(out[n++], sizeof(out[0]), "127.0.0.1");
	if (wants_family(x, AF_INET6) && x->im->look_around && loopback_6())
		snprintf(out[n++], sizeof(out[0]), "[::1]");
	return n;
}

/* Hosts as `bind` has them. 0: none; it has been said. */
static unsigned
addresses(
    const struct import_one *x, const char *host, char out[ADDRESSES_MAX][INET6_ADDRSTRLEN + 2])
{
	unsigned char raw[sizeof(struct in6_addr)];
	unsigned n;

	if (host == NULL) {
		bool four = wants_family(x, AF_INET), six = wants_family(x, AF_INET6);

		snprintf(out[0], sizeof(out[0]), four && six ? "*" : four ? "0.0.0.0" : "[::]");
		return 1;
	}
	if (inet_pton(AF_INET, host, raw) == 1) {
		snprintf(out[0], sizeof(out[0]), "%.40s", host);
		return 1;
	}
	if (inet_pton(AF_INET6, host, raw) == 1) {
		snprintf(out[0], sizeof(out[0]), "[%.45s]", host);
		return 1;
	}
	if (strcmp(host, "localhost") == 0 && (n = local_addresses(x, out)) > 0)
		return n;
	if ((n = look_up(x, host, out)) > 0)
		import_fate(x->im, x->at, IMPORT_OTHER,
		    "bind takes no names: it has the addresses that the name has now");
	else
		import_fate(x->im, x->at, IMPORT_LOST,
		    "the host name has no address here; write bind = \"ADDRESS:PORT\" into a "
		    "listener of your own");
	return n;
}

/* ---- the rest of a listener ---------------------------------------------------------------------- */

static void
put_int(
    const struct import_one *x, const char *directive, const char *option, int64_t min, int64_t max)
{
	struct import_directive *d = import_own(x, directive);
	int64_t n;

	if (!import_int(x->im, d, min, max, &n))
		return;
	import_line(x->f, d, "%s = %" PRId64, option, n);
	import_converted(d);
}

static void
put_connections(const struct import_one *x)
{
	struct import_directive *d = import_own(x, "max_connections");
	int64_t n;

	if (!import_int(x->im, d, -INT64_MAX, 100000000, &n))
		return;
	import_converted(d);
	if (n > 0)
		import_line(x->f, d, "max_connections = %" PRId64, n);
}

static void
put_versions(const struct import_one *x)
{
	static const char *const versions[] = { "3.1", "3.1.1", "5.0" };
	struct import_directive *d = import_own(x, "accept_protocol_versions");
	char list[32] = "";

	if (d == NULL)
		return;
	for (unsigned i = 0; i < 3; i++)
		if (strchr(d->value, (int)('3' + i)) != NULL)
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
			    list[0] != '\0' ? ", " : "", versions[i]);
	if (list[0] == '\0')
		return;
	import_line(x->f, d, "protocol_versions = [%s]", list);
	import_converted(d);
}

static void
put_origins(const struct import_one *x)
{
	struct import_directive *first = NULL;
	char *list = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&list, &len);

	if (out == NULL) {
		x->im->no_memory = true;
		return;
	}
	for (size_t i = 0; i < x->im->count; i++) {
		struct import_directive *d = &x->im->directives[i];

		if (d->known == NULL || strcmp(d->known->name, "websockets_origin") != 0 ||
		    d->under != x->number)
			continue;
		if (!utf8_plain(d->value, strlen(d->value)) || d->value[0] == '\0') {
			import_fate(x->im, d, IMPORT_LOST, "its value is no text");
			continue;
		}
		fputs(first != NULL ? ", " : "", out);
		import_quote(out, d->value);
		import_converted(d);
		first = first != NULL ? first : d;
	}
	if (fclose(out) != 0)
		x->im->no_memory = true;
	else if (first != NULL)
		import_line(x->f, first, "websocket_origins = [%s]", list);
	free(list);
}

static void
put_websocket(const struct import_one *x)
{
	struct import_directive *d = import_own(x, "protocol");

	if (protocol_is(x, "websockets")) {
		import_line(x->f, d, "websocket = yes");
		import_converted(d);
		put_origins(x);
	} else if (protocol_is(x, "mqtt")) {
		import_converted(d);
	} else {
		import_fate(x->im, d, IMPORT_LOST, "it must be mqtt or websockets");
	}
}

static void
put_mountpoint(const struct import_one *x)
{
	struct import_directive *d = import_own(x, "mount_point"); /* a good one: rights_possible */

	if (d == NULL)
		return;
	import_string(x->f, d, "mountpoint", d->value);
	import_converted(d);
}

static void
put_proxy(const struct import_one *x)
{
	struct import_directive *d = import_own(x, "enable_proxy_protocol"), *tls;
	bool require = false;

	x->l->proxied = d != NULL;
	if (d == NULL)
		return;
	import_line(x->f, d, "proxy_protocol = yes");
	import_line(x->f, d, "trusted_proxies = [\"0.0.0.0/0\", \"::/0\", unix]");
	import_fate(x->im, d, IMPORT_OTHER,
	    "everybody who connects is believed, as in Mosquitto: write the addresses of your "
	    "proxy "
	    "into trusted_proxies");
	tls = import_own(x, "proxy_protocol_v2_require_tls");
	if (import_bool(x->im, tls, &require))
		import_fate(x->im, tls, require ? IMPORT_LOST : IMPORT_SAME,
		    "whether a client came by TLS is for the proxy to see to");
}

static void
put_anonymous(const struct import_one *x)
{
	struct import *im = x->im;
	struct import_directive *d = import_own(x, "listener_allow_anonymous");

	x->l->anonymous = im->local_only;
	if (d == NULL || !import_bool(im, d, &x->l->anonymous)) {
		d = import_security(im, "allow_anonymous", x->number);
		(void)import_bool(im, d, &x->l->anonymous);
	} else {
		import_converted(import_security(im, "allow_anonymous", x->number));
	}
	import_converted(d);
	import_line(x->f, d, "anonymous = %s", x->l->anonymous ? "yes" : "no");
}

static void
put_others(const struct import_one *x)
{
	struct import_directive *d = import_own(x, "use_username_as_clientid");
	bool value = false;

	if (import_bool(x->im, d, &value)) {
		x->im->ids_are_names = x->im->ids_are_names || value;
		import_fate(x->im, d, value ? IMPORT_LOST : IMPORT_SAME,
		    value ? "the client id stays the client's own; takeover = owner keeps others "
			    "from a session"
			  : "the client id stays the client's own");
	}
	d = import_security(x->im, "allow_zero_length_clientid", x->number);
	value = true;
	if (import_bool(x->im, d, &value))
		import_fate(x->im, d, value ? IMPORT_SAME : IMPORT_LOST,
		    "clients without a client id are given one");
}

/* ---- together ------------------------------------------------------------------------------------ */

static void
choose_title(const struct import_one *x, const char *port)
{
	bool tls = import_own(x, "psk_hint") != NULL ||
	    (import_own(x, "certfile") != NULL && import_own(x, "keyfile") != NULL);
	const char *kind =
	    protocol_is(x, "websockets") ? (tls ? "wss" : "ws") : (tls ? "mqtts" : "mqtt");
	char *title = x->l->title;
	size_t size = sizeof(x->l->title), n = 1;

	snprintf(title, size, "%s-%s", kind, port);
	for (int i = 0; i < x->number;)
		if (strcmp(x->im->listeners[i++].title, title) == 0) {
			snprintf(title, size, "%s-%s-%zu", kind, port, ++n);
			i = 0;
		}
}

/* Mosquitto does not start with two listeners in one place. */
static bool
place_is_free(const struct import_one *x, const char *bind)
{
	struct import *im = x->im;
	char **more;

	for (size_t i = 0; i < im->bind_count; i++)
		if (strcmp(im->binds[i], bind) == 0) {
			import_fate(im, x->at, IMPORT_LOST, "another listener has that address");
			return false;
		}
	if ((more = realloc(im->binds, (im->bind_count + 1) * sizeof(*more))) != NULL)
		im->binds = more;
	if (more == NULL || (more[im->bind_count] = strdup(bind)) == NULL) {
		im->no_memory = true;
		return false;
	}
	im->bind_count++;
	return true;
}

static void
put_listener(const struct import_one *x, const char *title, const char *bind)
{
	struct import_file *f = x->f;
	char first[sizeof(x->l->title) + 8];

	snprintf(first, sizeof(first), "%s", title);
	import_line(f, NULL, "listener \"%s\" {", first);
	import_string(f, x->at, "bind", bind);
	if (strncmp(bind, "unix:", 5) != 0)
		import_own_text(x, "bind_interface", "interface");
	put_websocket(x);
	put_proxy(x);
	import_tls(x);
	put_anonymous(x);
	put_mountpoint(x);
	put_connections(x);
	put_int(x, "max_qos", "max_qos", 0, 2);
	put_int(x, "max_topic_alias", "topic_alias_maximum", 0, 65535);
	put_versions(x);
	put_others(x);
	import_end(f);
}

static bool
is_unix(const struct import_one *x, const char *port, const char *path)
{
	struct address a;
	char *bind = NULL, why[200];

	if (strcmp(port, "0") != 0)
		return false;
	if (asprintf(&bind, "unix:%s", path != NULL ? path : "") < 0) {
		x->im->no_memory = true;
		return true;
	}
	if (address_parse(bind, &a, why, sizeof(why))) {
		address_fini(&a);
		if (place_is_free(x, bind)) {
			choose_title(x, "unix");
			put_listener(x, x->l->title, bind);
			import_converted(x->at);
		}
	} else {
		import_fate(x->im, x->at, IMPORT_LOST, "its path %s", why);
	}
	free(bind);
	return true;
}

static void
put_all(const struct import_one *x, const char *port, const char *host)
{
	char hosts[ADDRESSES_MAX][INET6_ADDRSTRLEN + 2];
	char bind[sizeof(hosts[0]) + 16], title[sizeof(x->l->title) + 8];
	unsigned n, put = 0;

	if (is_unix(x, port, host) || (n = addresses(x, host, hosts)) == 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		snprintf(bind, sizeof(bind), "%.*s:%.8s", (int)sizeof(hosts[0]), hosts[i], port);
		if (!place_is_free(x, bind))
			continue;
		if (put++ == 0)
			choose_title(x, port);
		snprintf(title, sizeof(title), put == 1 ? "%s" : "%s.%u", x->l->title, put);
		put_listener(x, title, bind);
	}
	x->l->addresses = put;
	import_converted(x->at);
}

/* Without it, the listener would be open to more than it was. */
static bool
interface_possible(const struct import_one *x)
{
	struct import_directive *d = import_own(x, "bind_interface");

	if (d == NULL ||
	    (d->value[0] != '\0' && strlen(d->value) < IFNAMSIZ &&
		strpbrk(d->value, "/: \t") == NULL && utf8_plain(d->value, strlen(d->value))))
		return true;
	import_fate(x->im, d, IMPORT_LOST,
	    "this is no name of a network interface; the listener is left out");
	import_fate(x->im, x->at, IMPORT_LOST, "left out, see bind_interface");
	return false;
}

static bool
is_text(const struct import_directive *d)
{
	return d == NULL || (d->value[0] != '\0' && utf8_plain(d->value, strlen(d->value)));
}

/*
 * What keeps its clients apart has to be there. Mosquitto's rules, and its plugins, are about topics with the mountpoint in
 * front; here they are about those that clients know.
 */
static bool
rights_possible(const struct import_one *x)
{
	struct import_directive *const need[] = { import_own(x, "mount_point"),
		import_security(x->im, "acl_file", x->number),
		import_security(x->im, "password_file", x->number) };
	const struct import_directive *plugin;

	for (size_t i = 0; i < sizeof(need) / sizeof(need[0]); i++) {
		if (is_text(need[i]))
			continue;
		import_fate(
		    x->im, need[i], IMPORT_LOST, "its value is no text; the listener is left out");
		import_fate(x->im, x->at, IMPORT_LOST, "left out, see %s", need[i]->name);
		return false;
	}
	for (size_t i = 0; i < x->im->count; i++) {
		struct import_directive *d = &x->im->directives[i];

		if (d->known == NULL || strcmp(d->known->name, "websockets_origin") != 0 ||
		    d->under != x->number || is_text(d))
			continue;
		import_fate(
		    x->im, d, IMPORT_LOST, "its value is no text; the listener is left out");
		import_fate(x->im, x->at, IMPORT_LOST, "left out, see %s", d->name);
		return false;
	}
	if ((plugin = import_lacks_plugin(x->im, x->number)) != NULL) {
		import_fate(x->im, x->at, IMPORT_LOST, "left out, see %s", plugin->name);
		return false;
	}
	if (need[0] != NULL &&
	    (strlen(need[0]->value) > 1024 || need[0]->value[0] == '$' ||
		strpbrk(need[0]->value, "+#") != NULL)) {
		import_fate(x->im, need[0], IMPORT_LOST,
		    "a mountpoint has no +, no #, does not begin with $ and has 1024 bytes at "
		    "most; the listener is left out");
		import_fate(x->im, x->at, IMPORT_LOST, "left out, see mount_point");
		return false;
	}
	if (need[0] == NULL || (need[1] == NULL && !import_has_plugin(x->im, x->number)))
		return true;
	import_fate(x->im, need[0], IMPORT_LOST,
	    "in Mosquitto rules and plugins are about topics with the mountpoint, here about "
	    "topics without it; change them, "
	    "then write the listener with mountpoint = yourself");
	import_fate(x->im, x->at, IMPORT_LOST, "left out, see mount_point");
	return false;
}

/* "1883 [host]", or port and bind_address of the standard listener. */
static void
one_listener(const struct import_one *x)
{
	struct import_directive *port = x->l->standard ? import_own(x, "port") : x->at,
				*bind = NULL;
	int64_t number = 1883;
	char host[300] = "", text[16];

	if (port != NULL && !import_int(x->im, port, x->l->standard ? 1 : 0, 65535, &number))
		return;
	if (x->l->standard) {
		if ((bind = import_own(x, "bind_address")) != NULL)
			import_word(bind, host, sizeof(host));
		if (bind != NULL && host[0] == '\0') {
			import_fate(
			    x->im, x->at, IMPORT_LOST, "left out: bind_address has no value");
			return;
		}
	} else {
		const char *rest = x->at->value + strcspn(x->at->value, " \t");
		size_t n;

		rest += strspn(rest, " \t");
		n = rest[0] == '#' ? 0 : strcspn(rest, " \t");
		if (n >= sizeof(host)) {
			import_fate(x->im, x->at, IMPORT_LOST, "left out: that is no address");
			return;
		}
		snprintf(host, sizeof(host), "%.*s", (int)n, rest);
	}
	if (!utf8_plain(host, strlen(host))) {
		import_fate(x->im, x->at, IMPORT_LOST, "the address is no text");
		return;
	}
	if (protocol_is(x, "http_api")) {
		import_fate(x->im, x->at, IMPORT_LOST,
		    "left out: the admin socket speaks HTTP (grapnelctl; curl --unix-socket)");
		import_fate(x->im, import_own(x, "protocol"), IMPORT_LOST, "see the listener");
		return;
	}
	if (!import_tls_possible(x) || !interface_possible(x) || !rights_possible(x))
		return;
	snprintf(text, sizeof(text), "%" PRId64, number);
	put_all(x, text, host[0] != '\0' ? host : NULL);
	import_converted(port);
	import_converted(bind);
}

static const char *
same_bool(const char *word)
{
	return strcmp(word, "0") == 0 ? "false" : strcmp(word, "1") == 0 ? "true" : word;
}

/*
 * Does it make the standard listener by itself? In 2.0 only what is another value than the default does; 2.1 takes every setting
 * that belongs to a listener. What only 2.1 opens is not opened: it may be open to more than anybody wanted.
 */
static bool
opens(const struct import_directive *d)
{
	/* What it is when it says nothing new; NULL: it opens nothing, whatever it is. */
	static const struct {
		const char *name, *nothing;
	} rows[] = { { "accept_protocol_versions", NULL }, { "acl_file", NULL },
		{ "allow_anonymous", NULL }, { "allow_zero_length_clientid", "true" },
		{ "auto_id_prefix", NULL }, { "disable_client_cert_date_checks", NULL },
		{ "enable_proxy_protocol", NULL }, { "http_dir", NULL },
		{ "listener_allow_anonymous", NULL }, { "listener_auto_id_prefix", NULL },
		{ "max_connections", "-1" }, { "max_qos", "2" }, { "max_topic_alias", NULL },
		{ "max_topic_alias_broker", NULL }, { "plugin_use", NULL }, { "protocol", "mqtt" },
		{ "proxy_protocol_v2_require_tls", NULL }, { "require_certificate", "false" },
		{ "tls_version", NULL }, { "use_identity_as_username", "false" },
		{ "use_subject_as_username", "false" }, { "use_username_as_clientid", "false" },
		{ "websockets_origin", NULL } };
	char word[16];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, d->known->name) == 0)
			return rows[i].nothing != NULL &&
			    strcmp(same_bool(import_word(d, word, sizeof(word))),
				rows[i].nothing) != 0;
	return true;
}

/* The standard listener that nothing has opened. */
static bool
not_opened(struct import *im, const struct import_listener *l, int number)
{
	if (!l->standard)
		return false;
	for (size_t i = 0; i < im->count; i++)
		if (im->directives[i].known != NULL && im->directives[i].under == number &&
		    (im->directives[i].known->scope == IMPORT_LISTENER ||
			im->directives[i].known->scope == IMPORT_SECURITY) &&
		    opens(&im->directives[i]))
			return false;
	for (size_t i = 0; i < im->count; i++)
		if (im->directives[i].known != NULL && im->directives[i].under == number &&
		    (im->directives[i].known->scope == IMPORT_LISTENER ||
			im->directives[i].known->scope == IMPORT_SECURITY))
			import_fate(im, &im->directives[i], IMPORT_LOST,
			    "it stands before the first listener, and Mosquitto 2.0 opens none for "
			    "it; 2.1 opens port 1883 to "
			    "everybody");
	return true;
}

/* Mosquitto 2 without listener, port and bind_address. */
static void
local_only(struct import *im, struct import_file *f)
{
	struct import_directive *d = import_find(im, "allow_anonymous", -1), *lacks;
	bool anonymous = true;

	for (size_t i = 0; i < im->count; i++)
		if (im->directives[i].known != NULL && im->directives[i].under >= 0 &&
		    (im->directives[i].known->scope == IMPORT_LISTENER ||
			im->directives[i].known->scope == IMPORT_SECURITY) &&
		    im->directives[i].fate != IMPORT_SAME)
			import_fate(im, &im->directives[i], IMPORT_LOST,
			    "there is no listener: Mosquitto listens on this machine alone, and "
			    "does not heed it either");
	im->listener_count = 0;
	if (import_bool(im, d, &anonymous))
		import_converted(d);
	if ((lacks = import_lacks_plugin(im, -1)) != NULL) {
		import_fate(im, lacks, IMPORT_LOST, "all is left out, see %s", lacks->name);
		return;
	}
	import_line(
	    f, NULL, "# Without a listener, Mosquitto 2 can be reached from this machine alone.");
	for (int i = 0; i < (im->look_around && loopback_6() ? 2 : 1); i++) {
		import_line(f, NULL, "listener \"%s\" {", i == 0 ? "mqtt" : "mqtt-ipv6");
		import_line(f, NULL, "bind = \"%s:1883\"", i == 0 ? "127.0.0.1" : "[::1]");
		import_line(f, d, "anonymous = %s", anonymous ? "yes" : "no");
		import_end(f);
	}
	im->local_anonymous = anonymous;
}

void
import_listeners(struct import *im, struct import_out *o)
{
	struct import_file *f = import_out_file(im, o, "conf.d/10-listeners.conf", 0640,
	    "Where clients connect; see grapnel.conf(5), \"listener\".\n");

	if (f == NULL)
		return;
	if (im->local_only) {
		local_only(im, f);
		return;
	}
	for (size_t i = 0; i < im->listener_count; i++) {
		struct import_listener *l = &im->listeners[i];
		struct import_one x = { im, f, l, (int)i, &im->directives[l->at] };

		if (!not_opened(im, l, (int)i))
			one_listener(&x);
	}
}
