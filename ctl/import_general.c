/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grapnel.conf and the limits. Defaults of Mosquitto's are written where Grapnel's own would refuse what Mosquitto takes.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include "mqtt/wire.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PACKET_MAX   268435460
#define PACKET_EXTRA 65600 /* fixed header, Topic Name and Packet Identifier around a payload */

static struct import_directive *
find(struct import *im, const char *name)
{
	return import_find(im, name, -1);
}

/* ---- grapnel.conf -------------------------------------------------------------------------------- */

static void
put_user(struct import *im, struct import_file *f)
{
	struct import_directive *d = find(im, "user");

	if (d == NULL)
		return;
	if (!utf8_plain(d->value, strlen(d->value)) || d->value[0] == '\0') {
		import_fate(im, d, IMPORT_LOST, "this is no name");
	} else if (strcmp(d->value, "root") == 0) {
		import_fate(im, d, IMPORT_LOST,
		    "without user the broker stays root when root starts it; the package starts it "
		    "as a user of its "
		    "own");
	} else {
		import_string(f, d, "user", d->value);
		import_fate(im, d, IMPORT_OTHER,
		    "only when root starts the broker; all files that the configuration names must "
		    "be readable for the "
		    "user it runs as");
	}
}

static void
put_top(struct import *im, struct import_file *f)
{
	struct import_directive *d = find(im, "pid_file");
	int64_t n;
	char *path;

	put_user(im, f);
	if (d != NULL && utf8_plain(d->value, strlen(d->value)) && d->value[0] == '/') {
		import_string(f, d, "pid_file", d->value);
		import_converted(d);
	} else if (d != NULL && (path = import_path(im, d)) != NULL) {
		import_string(f, d, "pid_file", path);
		import_converted(d);
		free(path);
	}
	if (import_int(im, d = find(im, "sys_interval"), 0, 86400, &n)) {
		import_line(f, d, "sys_interval = %" PRId64 "s", n);
		import_converted(d);
	}
}

/* ---- the log ------------------------------------------------------------------------------------- */

static const char *const levels[] = { "error", "warning", "notice", "info", "debug" };

/* The index of a level that has messages of that type; -1: no such type. */
static int
level_of(const char *type)
{
	static const struct {
		const char *type;
		int level;
	} types[] = { { "none", 0 }, { "error", 0 }, { "warning", 1 }, { "notice", 2 },
		{ "information", 3 }, { "subscribe", 4 }, { "unsubscribe", 4 }, { "internal", 4 },
		{ "websockets", 4 }, { "debug", 4 }, { "all", 4 } };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i].type, type) == 0)
			return types[i].level;
	return -1;
}

static void
put_level(struct import *im, struct import_file *f)
{
	struct import_directive *at = NULL;
	char word[32];
	int most = 0, level;

	for (size_t i = 0; i < im->count; i++) {
		struct import_directive *d = &im->directives[i];

		if (d->known == NULL || strcmp(d->known->name, "log_type") != 0)
			continue;
		if ((level = level_of(import_word(d, word, sizeof(word)))) < 0) {
			import_fate(im, d, IMPORT_LOST, "there is no such type");
			continue;
		}
		import_converted(d);
		if (strcmp(word, "none") == 0)
			import_fate(im, d, IMPORT_OTHER, "errors are always logged");
		at = at == NULL || level > most ? d : at;
		most = level > most ? level : most;
	}
	if (at != NULL)
		import_line(f, at, "level = %s", levels[most]);
}

struct destination {
	struct import_directive *d;
	int rank; /* one is kept: a file, syslog, stdout, stderr; 0: none of these */
};

static struct destination
destination_of(struct import_directive *d)
{
	static const char *const kinds[] = { "none", "stderr", "stdout", "syslog", "file" };
	struct destination out = { d, -1 };
	char word[16];

	import_word(d, word, sizeof(word));
	for (int i = 0; i < 5; i++)
		if (strcmp(word, kinds[i]) == 0)
			out.rank = i;
	return out;
}

static void
put_destination(struct import *im, struct import_file *f, const struct destination *best)
{
	static const char *const kinds[] = { "stderr", "stderr", "stdout", "syslog" };
	struct import_directive *d = best->d;
	const char *path = d->value + strcspn(d->value, " \t");

	path += strspn(path, " \t");
	if (best->rank < 4) {
		import_line(f, d, "to = %s", kinds[best->rank]);
		import_converted(d);
		if (best->rank == 0)
			import_fate(
			    im, d, IMPORT_OTHER, "there is always a log: errors go to stderr");
	} else if (path[0] == '/' && utf8_plain(path, strlen(path))) {
		import_string(f, d, "to", path);
		import_fate(im, d, IMPORT_OTHER,
		    "after rotation SIGUSR1 opens it anew, not SIGHUP; the user of the broker must "
		    "be able to write it");
	} else {
		import_fate(im, d, IMPORT_LOST, "the path of the log must begin with /");
	}
}

static void
put_log(struct import *im, struct import_file *f)
{
	struct destination best = { NULL, -1 };

	import_line(f, NULL, "log {");
	for (size_t i = 0; i < im->count; i++) {
		struct import_directive *d = &im->directives[i];
		struct destination next;

		if (d->known == NULL || strcmp(d->known->name, "log_dest") != 0)
			continue;
		next = destination_of(d);
		if (next.rank < 0)
			import_fate(im, d, IMPORT_LOST,
			    "the log goes to stderr, stdout, syslog or a file; plugin event-log "
			    "writes what "
			    "happens, and publishes it");
		else if (next.rank > best.rank) {
			import_fate(im, best.d, IMPORT_LOST, "the log has one place");
			best = next;
		} else {
			import_fate(im, d, IMPORT_LOST, "the log has one place");
		}
	}
	if (best.d != NULL)
		put_destination(im, f, &best);
	put_level(im, f);
	import_end(f);
}

/* ---- the store ----------------------------------------------------------------------------------- */

/* Where mosquitto.db is, for the command that takes it in. */
static void
note_database(struct import *im)
{
	struct import_directive *where = find(im, "persistence_location"),
				*name = find(im, "persistence_file");
	const char *file = name != NULL ? name->value : "mosquitto.db";

	import_converted(where);
	import_converted(name);
	if (where == NULL || !utf8_plain(where->value, strlen(where->value)) ||
	    !utf8_plain(file, strlen(file)))
		return;
	if (asprintf(&im->database, "%s%s%s", where->value,
		where->value[0] != '\0' && where->value[strlen(where->value) - 1] == '/' ? "" : "/",
		file) < 0) {
		im->database = NULL;
		im->no_memory = true;
	}
}

static void
put_store(struct import *im, struct import_file *f)
{
	struct import_directive *d = find(im, "persistence");
	bool keep = false;

	(void)import_bool(im, d, &keep);
	import_line(f, NULL, "store {");
	import_line(f, d, "durability = %s", keep ? "strict" : "off");
	import_end(f);
	import_converted(d);
	if (keep)
		note_database(im);
}

static void
put_switches(struct import *im)
{
	static const struct {
		const char *name;
		bool same;
		const char *words;
	} rows[] = {
		{ "check_retain_source", true,
		    "whether the author of a retained message still has the right is always "
		    "asked" },
		{ "connection_messages", true,
		    "connections are logged at info, with much else; log { level = notice } leaves "
		    "them out" },
		{ "log_timestamp", true, "each line has the time" },
		{ "upgrade_outgoing_qos", false,
		    "a message never gets a higher QoS than it was published with" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct import_directive *d = find(im, rows[i].name);
		bool value;

		if (import_bool(im, d, &value))
			import_fate(im, d, value == rows[i].same ? IMPORT_SAME : IMPORT_LOST, "%s",
			    rows[i].words);
	}
	import_converted(find(im, "per_listener_settings"));
}

/* ---- limits -------------------------------------------------------------------------------------- */

struct limit {
	const char *directive, *option;
	int64_t min, max;
	int64_t none;   /* what is written for `no limit` */
	bool zero_none; /* 0 means no limit; negative numbers always do */
};

static void
put_limit(struct import *im, struct import_file *f, const struct limit *l)
{
	struct import_directive *d = find(im, l->directive);
	int64_t n;

	if (!import_int(im, d, INT64_MIN, INT64_MAX, &n))
		return;
	if (n < 0 || (n == 0 && l->zero_none))
		n = l->none;
	else if (!import_int(im, d, l->min, l->max, &n))
		return;
	import_line(f, d, "%s = %" PRId64, l->option, n);
	import_converted(d);
}

static void
put_packet_size(struct import *im, struct import_file *f)
{
	struct import_directive *packet = find(im, "max_packet_size"),
				*message = find(im, "message_size_limit");
	int64_t size = PACKET_MAX, payload = 0, n = PACKET_MAX;

	if (import_int(im, packet, 128, PACKET_MAX, &n)) {
		import_converted(packet);
		size = n;
	}
	if (import_int(im, message, 0, PACKET_MAX, &payload)) {
		import_fate(im, message, IMPORT_OTHER,
		    "the whole packet is limited, with %d bytes for what is around the payload; "
		    "who sends a larger one "
		    "is disconnected (0x95)",
		    PACKET_EXTRA);
		if (payload > 0 && payload + PACKET_EXTRA < size) {
			size = payload + PACKET_EXTRA;
			import_fate(im, packet, IMPORT_OTHER, "message_size_limit allows less");
		}
	}
	if (packet == NULL && payload == 0)
		import_line(f, NULL,
		    "# No limit in Mosquitto 2.0, 2000000 in 2.1; less keeps memory for others.");
	import_line(
	    f, size == n && packet != NULL ? packet : message, "max_packet_size = %" PRId64, size);
}

/* "14d", "2m": of 30 days. -1: none. */
static int64_t
duration(const char *word)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = { { 's', 1 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 7 * 86400 },
		{ 'm', 30 * 86400 }, { 'y', 365 * 86400 } };
	char *end;
	long n = strtol(word, &end, 10);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (end != word && n > 0 && n < 1000000 && end[0] == units[i].unit &&
		    end[1] == '\0')
			return n * units[i].seconds;
	return -1;
}

static void
put_expiry(struct import *im, struct import_file *f)
{
	struct import_directive *d = find(im, "persistent_client_expiration");
	char word[32];
	int64_t n;

	if (d != NULL && (n = duration(import_word(d, word, sizeof(word)))) > 0) {
		import_line(
		    f, d, "max_session_expiry = %" PRId64 "s", n < UINT32_MAX ? n : UINT32_MAX);
		import_converted(d);
		return;
	}
	import_fate(im, d, IMPORT_LOST, "it must be a number and one of s, h, d, w, m and y");
	import_line(f, NULL, "# Sessions never end in Mosquitto; Grapnel's default is 14d.");
	import_line(f, NULL, "max_session_expiry = %" PRIu32 "s", UINT32_MAX);
}

static void
put_flag(struct import *im, struct import_file *f, const char *name, const char *option)
{
	struct import_directive *d = find(im, name);
	bool value;

	if (!import_bool(im, d, &value))
		return;
	import_line(f, d, "%s = %s", option, value ? "yes" : "no");
	import_converted(d);
}

/* Names that were client ids kept one user from the sessions of another: owner does. */
static void
put_takeover(struct import *im, struct import_file *f)
{
	if (im->ids_are_names) {
		import_line(f, NULL, "takeover = owner");
		return;
	}
	import_line(f, NULL,
	    "# Whoever may log in may take over a session in Mosquitto; owner, the default, is "
	    "safer.");
	import_line(f, NULL, "takeover = any");
}

static void
put_limits(struct import *im, struct import_out *o)
{
	static const struct limit rows[] = {
		{ "global_max_clients", "max_sessions", 1, 1000000000, 1000000000, true },
		{ "global_max_connections", "max_connections", 0, 100000000, 0, true },
		{ "max_inflight_messages", "max_inflight", 1, 65535, 65535, true },
		{ "max_keepalive", "max_keep_alive", 1, 65535, 65535, true },
		{ "max_queued_bytes", "max_queued_bytes", 1024, INT64_C(1) << 40, INT64_C(1) << 40,
		    true },
		{ "max_queued_messages", "max_queued_messages", 1, 1000000000, 1000000000, true },
		{ "memory_limit", "max_memory", 32 << 20, INT64_C(1) << 50, INT64_C(1) << 50,
		    true },
	};
	struct import_file *f = import_out_file(im, o, "conf.d/90-limits.conf", 0640,
	    "Limits; see grapnel.conf(5), \"limits\". What is not here has Grapnel's default.\n");

	if (f == NULL)
		return;
	import_line(f, NULL, "limits {");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		put_limit(im, f, &rows[i]);
	put_packet_size(im, f);
	put_expiry(im, f);
	put_flag(im, f, "queue_qos0_messages", "queue_qos0");
	put_flag(im, f, "retain_available", "retain_available");
	put_takeover(im, f);
	import_end(f);
}

void
import_general(struct import *im, struct import_out *o)
{
	struct import_file *f = import_out_file(im, o, "grapnel.conf", 0640,
	    "Made from Mosquitto's configuration by \"grapnelctl import-mosquitto\"; see "
	    "grapnel.conf(5).\n"
	    "The files of conf.d beside it belong to it. A comment behind a setting says where it "
	    "comes from.\n");

	if (f == NULL)
		return;
	put_top(im, f);
	put_log(im, f);
	put_store(im, f);
	put_switches(im);
	put_limits(im, o);
}

bool
import_convert(struct import *im, struct import_out *o)
{
	import_listeners(im, o);
	import_auth(im, o);
	import_general(im, o);
	for (size_t i = 0; i < im->count; i++) {
		struct import_directive *d = &im->directives[i];

		if (d->known == NULL)
			import_fate(im, d, IMPORT_LOST, "no directive of Mosquitto that is known");
		else if (d->fate == IMPORT_OPEN)
			d->fate = IMPORT_LOST;
	}
	return import_out_end(im, o);
}
