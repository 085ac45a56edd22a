/* SPDX-License-Identifier: Apache-2.0 */
#include "conf_files.h"

#include "config/options.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTENER "listener \"mqtt\" { bind = \"127.0.0.1:1883\" }\n"

/* ---- the tables ------------------------------------------------------------------------------ */

struct row {
	const struct section_def *section;
	const struct option_def *def;
};
static struct row rows[200];
static int row_count;

static void
rows_collect(void)
{
	for (const struct section_def *s = settings_sections; s->name != NULL; s++) {
		for (unsigned t = 0; t < 2; t++) {
			for (const struct option_def *def = s->tables[t];
			     def != NULL && def->name != NULL; def++)
				rows[row_count++] = (struct row){ s, def };
		}
	}
}

/* What a listener needs for each of its options to be of use, but for the option itself. */
static void
listener_with(char *out, size_t size, const char *name, const char *value)
{
	static const char *const needed[][2] = { { "bind", "\"unix:/x\"" }, { "tls", "yes" },
		{ "certificate", "c" }, { "private_key", "k" }, { "client_ca", "a" },
		{ "client_certificate", "optional" }, { "trusted_proxies", "unix" } };
	bool asks = strcmp(name, "client_certificate") != 0 || strcmp(value, "none") != 0;
	bool tls = strcmp(name, "tls") != 0 || strcmp(value, "no") != 0;
	bool tcp = strcmp(name, "interface") == 0 || strncmp(name, "tcp_", 4) == 0;
	int len = snprintf(out, size, "listener \"mqtt\" { %s = %s", name, value);

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		bool for_tls = i >= 2 && i <= 5;

		if (strcmp(name, needed[i][0]) != 0 &&
		    (asks || strcmp(needed[i][0], "client_ca") != 0) && (tls || !for_tls))
			len += snprintf(out + len, size - (size_t)len, " %s = %s", needed[i][0],
			    i == 0 && tcp ? "\"*:1\"" : needed[i][1]);
	}
	snprintf(out + len, size - (size_t)len, " }\n");
}

/* A configuration with this one option set. */
static const char *
with_option(const struct row *row, const char *value)
{
	static char text[4096];
	const char *name = row->section->name;

	if (name[0] == '\0')
		snprintf(text, sizeof(text), "%s = %s\n" LISTENER, row->def->name, value);
	else if (strcmp(name, "listener") == 0)
		listener_with(text, sizeof(text), row->def->name, value);
	else if (strcmp(name, "server_name") == 0)
		snprintf(text, sizeof(text),
		    "listener \"mqtt\" { bind = \"*:1\" tls = yes certificate = c private_key = k "
		    "server_name \"host\" { %s = %s%s%s } }\n",
		    row->def->name, value,
		    strcmp(row->def->name, "certificate") == 0 ? "" : " certificate = c",
		    strcmp(row->def->name, "private_key") == 0 ? "" : " private_key = k");
	else if (strcmp(name, "plugin") == 0)
		snprintf(text, sizeof(text), "plugin \"p\" { %s = %s }\n" LISTENER, row->def->name,
		    value);
	else
		snprintf(
		    text, sizeof(text), "%s { %s = %s }\n" LISTENER, name, row->def->name, value);
	return text;
}

START_TEST(every_row_is_complete)
{
	const struct row *row = &rows[_i];
	const struct option_def *def = row->def;
	size_t len = strlen(def->help);

	ck_assert_msg(len > 10 && len < 110 && def->help[len - 1] == '.',
	    "%s: one sentence, not \"%s\"", def->name, def->help);
	ck_assert_msg(
	    def->help[0] >= 'A' && def->help[0] <= 'Z', "%s: \"%s\"", def->name, def->help);
	for (const char *c = def->name; *c != '\0'; c++)
		ck_assert_msg((*c >= 'a' && *c <= 'z') || *c == '_' || (*c >= '0' && *c <= '9'),
		    "%s", def->name);
	ck_assert_msg(def->default_value != NULL || (def->flags & OPTION_REQUIRED) ||
		def->type == OPTION_ORDER,
	    "%s", def->name);
	if (def->type == OPTION_LIST)
		ck_assert_uint_eq(def->size, sizeof(struct string_list));
	else
		ck_assert_msg(def->size <= 8 && (def->type == OPTION_ORDER || def->size > 0), "%s",
		    def->name);
	if (def->type == OPTION_STRING)
		ck_assert_uint_eq(def->size, sizeof(char *));
	if (def->type == OPTION_BOOL)
		ck_assert_uint_eq(def->size, sizeof(bool));
	if (def->type == OPTION_ENUM || def->type == OPTION_PROTOCOLS)
		ck_assert_ptr_nonnull(def->choices);
	/* What the range allows fits the place. */
	if (def->size > 0 && def->size < 8)
		ck_assert_msg(def->max < INT64_C(1) << (8 * def->size), "%s", def->name);
}
END_TEST

START_TEST(rows_stand_in_alphabetical_order)
{
	for (const struct section_def *s = settings_sections; s->name != NULL; s++) {
		for (unsigned t = 0; t < 2; t++) {
			const struct option_def *def = s->tables[t];

			for (; def != NULL && def->name != NULL && def[1].name != NULL; def++)
				ck_assert_msg(strcmp(def->name, def[1].name) < 0, "%s %s",
				    def->name, def[1].name);
		}
	}
}
END_TEST

/* ---- defaults -------------------------------------------------------------------------------- */

static void
check_default_limits(const struct limits *l)
{
	ck_assert_uint_eq(l->max_sessions, 1000000);
	ck_assert_uint_eq(l->max_subscriptions, 1000000);
	ck_assert_uint_eq(l->max_total_queued_bytes, UINT64_C(2) << 30);
	ck_assert_uint_eq(l->retained_max_messages, 1000000);
	ck_assert_uint_eq(l->retained_max_bytes, UINT64_C(1) << 30);
	ck_assert_uint_eq(l->max_connections, 0);
	ck_assert_uint_eq(l->max_packet_size, 1048576);
	ck_assert_uint_eq(l->max_connect_size, 65536);
	ck_assert_uint_eq(l->max_keep_alive, 65535);
	ck_assert_uint_eq(l->max_session_expiry, 14 * 86400);
	ck_assert_uint_eq(l->connect_timeout_ms, 10000);
	ck_assert_uint_eq(l->receive_maximum, 512);
	ck_assert_uint_eq(l->max_inflight, 512);
	ck_assert_uint_eq(l->topic_alias_maximum, 16);
	ck_assert_uint_eq(l->max_queued_messages, 10000);
	ck_assert_uint_eq(l->max_queued_bytes, 64 << 20);
	ck_assert_uint_eq(l->max_topic_levels, 128);
	ck_assert_uint_eq(l->max_output_bytes, 16 << 20);
	ck_assert_uint_eq(l->publisher_pause_ms, 1000);
	ck_assert_uint_eq(l->message_rate, 0);
	ck_assert_uint_eq(l->byte_rate, 0);
	ck_assert_uint_eq(l->max_subscriptions_per_client, 0);
	ck_assert_uint_eq(l->max_qos, 2);
	ck_assert(l->retain_available && l->wildcard_available && l->shared_available);
	ck_assert_uint_eq(l->protocols, 1u << 3 | 1u << 4 | 1u << 5);
	ck_assert_int_eq(l->share_strategy, SHARE_ROUND_ROBIN);
	ck_assert(!l->queue_qos0 && !l->check_payload_format && !l->takeover_any);
	ck_assert_uint_eq(l->auth_timeout_ms, 10000);
}

START_TEST(what_is_not_written_has_its_default)
{
	struct settings *s = conf_files_load_text(LISTENER "plugin \"auth-file\" { }");
	const struct listener_settings *l = &s->listeners[0];
	const struct plugin_settings *p = &s->plugins[0];
	char host[128] = "";

	ck_assert_str_eq(s->path, conf_files_main());
	ck_assert_uint_ge(s->workers, 1);
	ck_assert_uint_le(s->workers, 256);
	ck_assert_ptr_null(s->user);
	ck_assert_ptr_null(s->group);
	ck_assert_ptr_null(s->pid_file);
	ck_assert_str_eq(s->plugin_directory, GRAPNEL_PLUGIN_DIR);
	gethostname(host, sizeof(host) - 1);
	ck_assert_str_eq(s->node_name, host);
	ck_assert_str_eq(s->admin.socket, "/run/grapnel/admin.sock");
	ck_assert_uint_eq(s->admin.mode, 0660);
	ck_assert_ptr_null(s->admin.group);
	ck_assert_int_eq(s->log.level, GRAPNEL_LOG_INFO);
	ck_assert_int_eq(s->log.format, 0);
	ck_assert_str_eq(s->log.to, "stderr");
	ck_assert_str_eq(s->store.directory, "/var/lib/grapnel");
	ck_assert_int_eq(s->store.durability, 0);
	ck_assert_uint_eq(s->sys_interval_ms, 10000);
	ck_assert_int_eq(s->profile, PROFILE_SERVER);
	ck_assert_uint_eq(s->read_buffer, 65536);
	ck_assert_uint_eq(s->max_traces, 32);
	check_default_limits(&s->limits);

	ck_assert_uint_eq(s->listener_count, 1);
	ck_assert_str_eq(l->name, "mqtt");
	ck_assert_str_eq(l->where, "grapnel.conf:1");
	ck_assert_str_eq(l->bind, "127.0.0.1:1883");
	ck_assert(!l->is_unix);
	ck_assert_str_eq(l->host, "127.0.0.1");
	ck_assert_str_eq(l->port, "1883");
	ck_assert_uint_eq(l->unix_mode, 0660);
	ck_assert(!l->anonymous);
	ck_assert_str_eq(l->mountpoint, "");
	ck_assert_int_eq(l->backlog, 1024);
	check_default_limits(&l->limits);

	ck_assert_uint_eq(s->plugin_count, 1);
	ck_assert_str_eq(p->name, "auth-file");
	ck_assert_str_eq(p->module, "auth-file");
	ck_assert_str_eq(p->where, "grapnel.conf:2");
	ck_assert(p->enabled);
	ck_assert_int_eq(p->order, 100);
	ck_assert_uint_eq(p->hook_order_count, 0);
	ck_assert_int_eq(p->on_error, ON_ERROR_UNAVAILABLE);
	ck_assert_uint_eq(p->max_pending, 10000);
	ck_assert_uint_eq(p->timeout_ms, 0);
	ck_assert_uint_eq(p->offload_threads, 4);
	ck_assert_uint_eq(p->offload_queue, 1000);
	ck_assert_uint_eq(p->event_queue, 10000);
	ck_assert_uint_eq(p->max_values, 10000);
	ck_assert_uint_eq(p->max_values_bytes, 16 << 20);
	ck_assert_uint_eq(p->listeners.count, 0);
	settings_unref(s);
}
END_TEST

/* ---- profiles --------------------------------------------------------------------------------- */

START_TEST(the_edge_profile_changes_defaults)
{
	struct settings *s =
	    conf_files_load_text(LISTENER "plugin \"auth-file\" { }\nprofile = edge\n");
	const struct limits *l = &s->listeners[0].limits;
	const struct plugin_settings *p = &s->plugins[0];

	ck_assert_int_eq(s->profile, PROFILE_EDGE);
	ck_assert_uint_eq(s->workers, 1);
	ck_assert_uint_eq(s->read_buffer, 16384);
	ck_assert_uint_eq(s->max_traces, 4);
	ck_assert_uint_eq(s->limits.max_sessions, 10000);
	ck_assert_uint_eq(s->limits.max_total_queued_bytes, 16 << 20);
	ck_assert_uint_eq(s->limits.retained_max_bytes, 8 << 20);
	ck_assert_uint_eq(l->max_queued_messages, 1000);
	ck_assert_uint_eq(l->max_output_bytes, 1 << 20);
	ck_assert_int_eq(s->listeners[0].backlog, 128);
	ck_assert_uint_eq(p->offload_threads, 1);
	ck_assert_uint_eq(p->offload_queue, 100);
	ck_assert_uint_eq(p->event_queue, 500);
	ck_assert_uint_eq(p->max_values, 1000);
	ck_assert_uint_eq(p->max_values_bytes, 1 << 20);
	/* No feature less. */
	ck_assert_uint_eq(l->protocols, 1u << 3 | 1u << 4 | 1u << 5);
	ck_assert_uint_eq(l->max_qos, 2);
	ck_assert(l->retain_available && l->wildcard_available && l->shared_available);
	settings_unref(s);
}
END_TEST

START_TEST(what_is_written_wins_over_the_profile)
{
	struct settings *s =
	    conf_files_load_text("workers = 3 max_traces = 7\nprofile = edge\n"
				 "limits { max_queued_messages = 5000 max_sessions = 44 }\n"
				 "listener \"a\" { bind = \"*:1\" backlog = 9 max_inflight = 99 }\n"
				 "listener \"b\" { bind = \"*:2\" }\n"
				 "plugin \"p\" { offload_threads = 6 }\n");

	ck_assert_uint_eq(s->workers, 3);
	ck_assert_uint_eq(s->max_traces, 7);
	ck_assert_uint_eq(s->limits.max_sessions, 44);
	ck_assert_int_eq(s->listeners[0].backlog, 9);
	ck_assert_uint_eq(s->listeners[0].limits.max_inflight, 99);
	ck_assert_uint_eq(s->listeners[0].limits.max_queued_messages, 5000);
	ck_assert_int_eq(s->listeners[1].backlog, 128);
	ck_assert_uint_eq(s->listeners[1].limits.max_inflight, 64);
	ck_assert_uint_eq(s->listeners[1].limits.max_queued_messages, 5000);
	ck_assert_uint_eq(s->plugins[0].offload_threads, 6);
	ck_assert_uint_eq(s->plugins[0].offload_queue, 100);
	settings_unref(s);
}
END_TEST

START_TEST(every_default_of_a_profile_is_one_of_an_option)
{
	for (const struct profile_default *d = edge_defaults; d->name != NULL; d++) {
		union {
			struct settings settings;
			struct limits limits;
			struct listener_settings listener;
			struct plugin_settings plugin;
		} place;
		const struct option_def *row = option_find(d->table, d->name);
		const struct profile_default only[2] = { *d, { 0 } };

		ck_assert_msg(row != NULL, "%s", d->name);
		memset(&place, 0, sizeof(place));
		ck_assert_msg(options_profile(d->table, only, &place), "%s = %s", d->name,
		    d->value); /* in its range, too */
	}
}
END_TEST

START_TEST(an_unknown_profile_is_told_once)
{
	ck_assert_str_eq(conf_files_refused_text("profile = egde\n" LISTENER),
	    "grapnel.conf:1: \"profile\" must be server or edge, not \"egde\"; did you mean "
	    "\"edge\"? (what the defaults of all options are for: edge is a machine with little "
	    "memory)");
}
END_TEST

/* ---- values ---------------------------------------------------------------------------------- */

START_TEST(the_documented_example_is_understood)
{
	struct settings *s;

	conf_files_write("grapnel.conf",
	    "workers          = 2\n"
	    "user             = grapnel\n"
	    "plugin_directory = \"/usr/lib/x86_64-linux-gnu/grapnel/plugins\"\n"
	    "admin { socket = \"/run/grapnel/admin.sock\" }\n"
	    "log   { level = info  format = text  to = stderr }\n"
	    "listener \"mqtt\"  { bind = \"127.0.0.1:1883\"  anonymous = no }\n"
	    "listener \"local\" { bind = \"unix:/run/grapnel/mqtt.sock\" }\n"
	    "store { directory = \"/var/lib/grapnel\"  durability = strict }\n"
	    "limits {            # per client or in total; the same keys inside a listener "
	    "override\n"
	    "    max_connections = 0            max_packet_size = 1m          max_connect_size = "
	    "64k\n"
	    "    max_keep_alive = 65535         max_session_expiry = 14d      connect_timeout = "
	    "10s\n"
	    "    receive_maximum = 512          max_inflight = 512            topic_alias_maximum "
	    "= 16\n"
	    "    max_queued_messages = 10000    max_queued_bytes = 64m        max_topic_levels = "
	    "128\n"
	    "    max_output_bytes = 16m         publisher_pause = 1s          max_subscriptions = "
	    "1000000\n"
	    "    max_sessions = 1000000         retained_max_messages = 1000000   "
	    "retained_max_bytes = 1g   "
	    "max_total_queued_bytes = 2g\n"
	    "}\n");
	conf_files_write("conf.d/20-auth-file.conf",
	    "plugin \"auth-file\" {                 # title = instance name\n"
	    "    enabled       = yes\n"
	    "    order         = 20\n"
	    "    password_file = \"/etc/grapnel/passwd\"\n"
	    "    acl_file      = \"/etc/grapnel/acl\"\n"
	    "}\n");
	s = conf_files_load();
	check_default_limits(&s->limits);
	ck_assert_uint_eq(s->workers, 2);
	ck_assert_str_eq(s->user, "grapnel");
	ck_assert_str_eq(s->plugin_directory, "/usr/lib/x86_64-linux-gnu/grapnel/plugins");
	ck_assert_uint_eq(s->listener_count, 2);
	ck_assert_str_eq(s->listeners[1].name, "local");
	ck_assert(s->listeners[1].is_unix);
	ck_assert_str_eq(s->listeners[1].path, "/run/grapnel/mqtt.sock");
	ck_assert_uint_eq(s->listeners[1].index, 1);
	ck_assert_int_eq(s->plugins[0].order, 20);
	ck_assert_str_eq(s->plugins[0].where, "conf.d/20-auth-file.conf:1");
	settings_unref(s);
}
END_TEST

START_TEST(every_kind_of_value_reaches_its_place)
{
	struct settings *s =
	    conf_files_load_text("workers = 7 user = \"u\" group = g node_name = n-1 pid_file = "
				 "/run/p sys_interval = 0\n"
				 "plugin_directory = '/p q'\n"
				 "admin { socket = none mode = 0600 group = adm }\n"
				 "log { level = trace format = json to = /var/log/x }\n"
				 "store { directory = /s durability = off }\n"
				 "limits { takeover = any share_strategy = by-publisher queue_qos0 "
				 "= yes check_payload_format = yes\n"
				 "  retain_available = no wildcard_available = no shared_available "
				 "= no protocol_versions = [5.0, 3.1.1]\n"
				 "  max_keep_alive = 5m max_session_expiry = 4294967295 "
				 "auth_timeout = 500ms byte_rate = 1m max_qos = 1\n"
				 "  retained_max_bytes = 3g }\n"
				 "listener \"a\" { bind = \"[::1]:1\" anonymous = yes mountpoint = "
				 "\"m/\" backlog = 5 }\n"
				 "listener \"b\" { bind = \"unix:@abs\" unix_mode = 0777 "
				 "unix_owner = o unix_group = none }\n"
				 "plugin \"p\" { enabled = no module = \"/x/y.so\" order = 3 "
				 "order_acl_check = 5 order_message_publish = 0\n"
				 "  on_error = next max_pending = 1 timeout = 2s offload_threads = "
				 "9 offload_queue = 8 event_queue = 7 max_values = 6 "
				 "max_values_bytes = 5k listeners = [b, \"a\"] }\n");
	const struct plugin_settings *p = &s->plugins[0];

	ck_assert_uint_eq(s->workers, 7);
	ck_assert_str_eq(s->user, "u");
	ck_assert_str_eq(s->group, "g");
	ck_assert_str_eq(s->node_name, "n-1");
	ck_assert_str_eq(s->pid_file, "/run/p");
	ck_assert_uint_eq(s->sys_interval_ms, 0);
	ck_assert_str_eq(s->plugin_directory, "/p q");
	ck_assert_ptr_null(s->admin.socket);
	ck_assert_uint_eq(s->admin.mode, 0600);
	ck_assert_str_eq(s->admin.group, "adm");
	ck_assert_int_eq(s->log.level, GRAPNEL_LOG_TRACE);
	ck_assert_int_eq(s->log.format, 1);
	ck_assert_str_eq(s->log.to, "/var/log/x");
	ck_assert_int_eq(s->store.durability, 2);
	ck_assert(s->limits.takeover_any && s->limits.queue_qos0 && s->limits.check_payload_format);
	ck_assert(!s->limits.retain_available && !s->limits.wildcard_available &&
	    !s->limits.shared_available);
	ck_assert_int_eq(s->limits.share_strategy, SHARE_BY_PUBLISHER);
	ck_assert_uint_eq(s->limits.protocols, 1u << 4 | 1u << 5);
	ck_assert_uint_eq(s->limits.max_keep_alive, 300);
	ck_assert_uint_eq(s->limits.max_session_expiry, UINT32_MAX);
	ck_assert_uint_eq(s->limits.auth_timeout_ms, 500);
	ck_assert_uint_eq(s->limits.byte_rate, 1048576);
	ck_assert_uint_eq(s->limits.max_qos, 1);
	ck_assert_uint_eq(s->limits.retained_max_bytes, UINT64_C(3) << 30);
	ck_assert_str_eq(s->listeners[0].host, "::1");
	ck_assert(s->listeners[0].anonymous);
	ck_assert_str_eq(s->listeners[0].mountpoint, "m/");
	ck_assert_int_eq(s->listeners[0].backlog, 5);
	ck_assert_str_eq(s->listeners[1].path, "@abs");
	ck_assert_uint_eq(s->listeners[1].unix_mode, 0777);
	ck_assert_str_eq(s->listeners[1].unix_owner, "o");
	ck_assert_ptr_null(s->listeners[1].unix_group);
	ck_assert(!p->enabled);
	ck_assert_str_eq(p->module, "/x/y.so");
	ck_assert_int_eq(p->order, 3);
	ck_assert_uint_eq(p->hook_order_count, 2);
	ck_assert_str_eq(p->hook_orders[0].hook, "acl_check");
	ck_assert_int_eq(p->hook_orders[0].order, 5);
	ck_assert_str_eq(p->hook_orders[1].hook, "message_publish");
	ck_assert_int_eq(p->hook_orders[1].order, 0);
	ck_assert_int_eq(p->on_error, ON_ERROR_NEXT);
	ck_assert_uint_eq(p->max_pending, 1);
	ck_assert_uint_eq(p->timeout_ms, 2000);
	ck_assert_uint_eq(p->offload_threads, 9);
	ck_assert_uint_eq(p->offload_queue, 8);
	ck_assert_uint_eq(p->event_queue, 7);
	ck_assert_uint_eq(p->max_values, 6);
	ck_assert_uint_eq(p->max_values_bytes, 5120);
	ck_assert_uint_eq(p->listeners.count, 2);
	ck_assert_str_eq(p->listeners.items[0], "b");
	ck_assert_str_eq(p->listeners.items[1], "a");
	settings_unref(s);
}
END_TEST

START_TEST(a_quoted_none_is_a_name)
{
	struct settings *s =
	    conf_files_load_text("user = \"none\" group = none node_name = \"auto\"\n" LISTENER);

	ck_assert_str_eq(s->user, "none");
	ck_assert_ptr_null(s->group);
	ck_assert_str_eq(s->node_name, "auto");
	settings_unref(s);
}
END_TEST

START_TEST(a_listener_inherits_limits_wherever_they_stand)
{
	struct settings *s;

	conf_files_write("grapnel.conf",
	    "listener \"a\" { bind = \"*:1\" max_qos = 0 max_packet_size = 2k max_connections = 9 "
	    "}\n"
	    "listener \"b\" { bind = \"*:2\" }\n"
	    "limits { max_qos = 1 max_inflight = 7 max_sessions = 5 }\n");
	conf_files_write(
	    "conf.d/90-limits.conf", "limits { receive_maximum = 3 }\n"); /* added to the other */
	s = conf_files_load();
	ck_assert_uint_eq(s->limits.max_qos, 1);
	ck_assert_uint_eq(s->limits.receive_maximum, 3);
	ck_assert_uint_eq(s->limits.max_packet_size, 1048576);
	ck_assert_uint_eq(s->listeners[0].limits.max_qos, 0);
	ck_assert_uint_eq(s->listeners[0].limits.max_packet_size, 2048);
	ck_assert_uint_eq(s->listeners[0].limits.max_connections, 9);
	ck_assert_uint_eq(s->listeners[0].limits.max_inflight, 7);
	ck_assert_uint_eq(s->listeners[1].limits.max_qos, 1);
	ck_assert_uint_eq(s->listeners[1].limits.max_inflight, 7);
	ck_assert_uint_eq(s->listeners[1].limits.receive_maximum, 3);
	ck_assert_uint_eq(s->listeners[1].limits.max_sessions, 5);
	settings_unref(s);
}
END_TEST

/* ---- ranges: every row, both ends ------------------------------------------------------------ */

static bool
has_range(const struct option_def *def)
{
	return def->type == OPTION_INT || def->type == OPTION_BYTES || def->type == OPTION_MS ||
	    def->type == OPTION_SECONDS || def->type == OPTION_MODE || def->type == OPTION_ORDER;
}

static void
number_text(const struct option_def *def, int64_t value, char *out, size_t size)
{
	if (def->type == OPTION_MS)
		snprintf(out, size, "%" PRId64 "ms", value);
	else if (def->type == OPTION_MODE)
		snprintf(out, size, "0%" PRIo64, value);
	else
		snprintf(out, size, "%" PRId64, value);
}

START_TEST(every_number_has_a_range_with_both_ends_in_it)
{
	const struct row *row = &rows[_i];
	const struct option_def *def = row->def;
	char value[40], name[80], min[CONF_NUMBER_SIZE], max[CONF_NUMBER_SIZE], range[100];
	const char *messages;

	if (!has_range(def))
		return;
	ck_assert_msg(def->min >= 0 && def->min < def->max, "%s", def->name);
	number_text(def, def->min, value, sizeof(value));
	settings_unref(conf_files_load_text(with_option(row, value)));
	number_text(def, def->max, value, sizeof(value));
	settings_unref(conf_files_load_text(with_option(row, value)));

	snprintf(name, sizeof(name), "\"%s\" must be ", def->name);
	snprintf(range, sizeof(range), "between %s and %s, not \"",
	    option_number(def->type, def->min, min), option_number(def->type, def->max, max));
	number_text(def, def->max + 1, value, sizeof(value));
	messages = conf_files_refused_text(with_option(row, value));
	ck_assert_msg(
	    strstr(messages, name) != NULL && strstr(messages, range) != NULL, "%s", messages);
	if (def->min > 0) {
		number_text(def, def->min - 1, value, sizeof(value));
		messages = conf_files_refused_text(with_option(row, value));
		ck_assert_msg(strstr(messages, name) != NULL && strstr(messages, range) != NULL,
		    "%s", messages);
	}
}
END_TEST

/* Something that no type but a free string is. */
START_TEST(every_row_refuses_what_is_not_its_type)
{
	const struct row *row = &rows[_i];
	const struct option_def *def = row->def;
	char name[80];
	const char *messages;

	snprintf(name, sizeof(name), "\"%s\" ", def->name);
	if (def->type == OPTION_LIST) { /* of strings; which, its check knows */
		messages = conf_files_refused_text(with_option(row, "[a, '']"));
		ck_assert_msg(strstr(messages, name) != NULL && strstr(messages, " must ") != NULL,
		    "%s", messages);
		return;
	}
	if (def->type != OPTION_STRING) {
		messages = conf_files_refused_text(with_option(row, "'w\xc3\xb6rd'"));
		ck_assert_msg(
		    strstr(messages, name) != NULL && strstr(messages, " must be ") != NULL, "%s",
		    messages);
		messages = conf_files_refused_text(with_option(row, "''"));
		ck_assert_msg(
		    strstr(messages, name) != NULL && strstr(messages, " must be ") != NULL, "%s",
		    messages);
	}
	if (def->type != OPTION_PROTOCOLS) {
		messages = conf_files_refused_text(with_option(row, "[1, 2]"));
		ck_assert_msg(strstr(messages, name) != NULL &&
			strstr(messages, "takes one value, not a list") != NULL,
		    "%s", messages);
	}
	if (def->type == OPTION_ENUM) {
		/* Each of the choices is one. */
		char choices[200], *save = NULL;

		snprintf(choices, sizeof(choices), "%s", def->choices);
		for (char *word = strtok_r(choices, "|", &save); word != NULL;
		     word = strtok_r(NULL, "|", &save))
			settings_unref(conf_files_load_text(with_option(row, word)));
	}
}
END_TEST

/* ---- messages -------------------------------------------------------------------------------- */

static const struct {
	const char *text, *messages;
} refused_cases[] = {
	{ "",
	    "grapnel.conf: no listener is configured, so no client could connect: write for "
	    "example "
	    "listener \"mqtt\" { bind = \"127.0.0.1:1883\" }" },
	{ "workres = 2\n" LISTENER,
	    "grapnel.conf:1: unknown option \"workres\"; did you mean \"workers\"? "
	    "(threads that serve clients; auto: one per CPU)" },
	{ "limit { }\n" LISTENER,
	    "grapnel.conf:1: unknown section \"limit\"; did you mean \"limits\"? "
	    "(per client or in total; a listener may differ)" },
	{ "log { colour = red }\n" LISTENER,
	    "grapnel.conf:1: log: unknown option \"colour\"; known here: format, level, to" },
	{ "log { x { } }\n" LISTENER,
	    "grapnel.conf:1: log: unknown section \"x\"; known here: format, level, to" },
	{ "log = 3\n" LISTENER,
	    "grapnel.conf:1: \"log\" is a section, not an option: write log { ... }" },
	{ "listener = 3\n" LISTENER,
	    "grapnel.conf:1: \"listener\" is a section, not an option: write listener { ... }" },
	{ "workers { }\n" LISTENER,
	    "grapnel.conf:1: \"workers\" is an option, not a section: write workers = ..." },
	{ "log \"x\" { }\n" LISTENER, "grapnel.conf:1: log takes no title: write log { ... }" },
	{ "listener { bind = \"*:1\" }",
	    "grapnel.conf:1: a listener needs a title: write listener \"name\" { ... }" },
	{ "plugin { }\n" LISTENER,
	    "grapnel.conf:1: a plugin needs a title: write plugin \"name\" { ... }" },
	{ "plugin \"a b\" { }\n" LISTENER,
	    "grapnel.conf:1: the title of plugin \"a b\" must be 1 to 64 letters, digits, \".\", "
	    "\"_\" or \"-\"" },
	{ "plugin \"\" { }\n" LISTENER,
	    "grapnel.conf:1: the title of plugin \"\" must be 1 to 64 letters, digits, \".\", "
	    "\"_\" or \"-\"" },
	{ "plugin 'a\nb' { }\n" LISTENER,
	    "grapnel.conf:1: the title of plugin \"a?b\" must be 1 to 64 letters, digits, \".\", "
	    "\"_\" or \"-\"" },
	{ LISTENER "plugin \"p\" { listeners = [mqtt, mqt] }",
	    "grapnel.conf:2: plugin \"p\": listeners: no listener \"mqt\" is configured; name "
	    "those whose clients the plugin is for, or all" },
	{ LISTENER "plugin \"p\" { listeners = [] }",
	    "grapnel.conf:2: plugin \"p\": \"listeners\" must be all, or have at least one "
	    "value (titles of the listeners whose clients it is asked about and told of)" },
	{ LISTENER "plugin \"p\" { listeners = \"all\" }",
	    "grapnel.conf:2: plugin \"p\": listeners: no listener \"all\" is configured; name "
	    "those whose clients the plugin is for, or all" },
	{ LISTENER LISTENER,
	    "grapnel.conf:2: listener \"mqtt\" is there already, at grapnel.conf:1; titles are "
	    "unique\n"
	    "grapnel.conf:2: listener \"mqtt\": listener \"mqtt\" at grapnel.conf:1 is bound to "
	    "127.0.0.1:1883 already" },
	{ LISTENER "listener \"b\" { bind = \"127.0.0.1:1883\" }",
	    "grapnel.conf:2: listener \"b\": listener \"mqtt\" at grapnel.conf:1 is bound to "
	    "127.0.0.1:1883 already" },
	{ "plugin \"a\" { }\nplugin \"a\" { }\n" LISTENER,
	    "grapnel.conf:2: plugin \"a\" is there already, at grapnel.conf:1; titles are unique" },
	{ "listener \"a\" { }",
	    "grapnel.conf:1: listener \"a\": required option \"bind\" is missing (where to listen: "
	    "ADDRESS:PORT, *:PORT, unix:/path, unix:@name, systemd:NAME, or udp:ADDRESS:PORT)" },
	{ "workers = 2\nworkers = 2\n" LISTENER,
	    "grapnel.conf:2: \"workers\" is already set at grapnel.conf:1" },
	{ "limits { max_qos = 1 }\nlimits { max_qos = 1 }\n" LISTENER,
	    "grapnel.conf:2: \"max_qos\" is already set at grapnel.conf:1" },
	{ "listener \"a\" { bind = \"*:1\"\nmax_sessions = 4 }",
	    "grapnel.conf:2: listener \"a\": \"max_sessions\" counts for the whole broker: write "
	    "it in limits { }" },
	{ "listener \"a\" { bind = \"*:1\"\nunix_mode = 0600 }",
	    "grapnel.conf:2: listener \"a\": \"unix_mode\" is only for a Unix socket (bind = "
	    "\"unix:/path\")" },
	{ "listener \"a\" { bind = \"*:1\" anonymus = yes }",
	    "grapnel.conf:1: listener \"a\": unknown option \"anonymus\"; did you mean "
	    "\"anonymous\"? "
	    "(let clients in that bring no credentials at all)" },
	{ "listener \"a\" { bind = \"*:1\" max_packet_siz = 1m }",
	    "grapnel.conf:1: listener \"a\": unknown option \"max_packet_siz\"; did you mean "
	    "\"max_packet_size\"? "
	    "(largest packet accepted from a client; MQTT 5 clients are told)" },
	{ "limits { max_packet_size = 127 }\n" LISTENER,
	    "grapnel.conf:1: limits: \"max_packet_size\" must be between 128 and 268435460, not "
	    "\"127\" "
	    "(largest packet accepted from a client; MQTT 5 clients are told)" },
	{ "limits { max_packet_size = 1mb }\n" LISTENER,
	    "grapnel.conf:1: limits: \"max_packet_size\" must be a size such as 512, 64k, 1m or "
	    "2g, not \"1mb\" "
	    "(largest packet accepted from a client; MQTT 5 clients are told)" },
	{ "limits { max_keep_alive = 1500ms }\n" LISTENER,
	    "grapnel.conf:1: limits: \"max_keep_alive\" must be a duration in whole seconds such "
	    "as 10s, 5m, 2h or 14d, "
	    "not \"1500ms\" (longest Keep Alive; a client that asks for more, or for none, gets "
	    "this)" },
	{ "log { level = inf }\n" LISTENER,
	    "grapnel.conf:1: log: \"level\" must be error, warning, notice, info, debug or trace, "
	    "not \"inf\"; "
	    "did you mean \"info\"? (the least important messages that are logged)" },
	{ "log { to = file }\n" LISTENER,
	    "grapnel.conf:1: log: \"to\" must be stderr, stdout, syslog or the absolute path of a "
	    "file "
	    "(where the log goes: stderr, stdout, syslog or the path of a file)" },
	{ "limits { protocol_versions = [] }\n" LISTENER,
	    "grapnel.conf:1: limits: \"protocol_versions\" must name at least one version of "
	    "3.1|3.1.1|5.0" },
	{ "limits { protocol_versions = [5.0, 4] }\n" LISTENER,
	    "grapnel.conf:1: limits: \"protocol_versions\" must be 3.1, 3.1.1 or 5.0, not \"4\" "
	    "(MQTT versions that are spoken)" },
	{ "store { durability = stict }\n" LISTENER,
	    "grapnel.conf:1: store: \"durability\" must be strict, relaxed or off, not \"stict\"; "
	    "did you mean \"strict\"? "
	    "(when an acknowledgement is sent: after the disk has it, before, or nothing is "
	    "kept)" },
	{ "admin { socket = relative }\n" LISTENER,
	    "grapnel.conf:1: admin: \"socket\" must be an absolute path "
	    "(unix socket that grapnelctl talks to; none: off)" },
	{ "admin { socket = @name }\n" LISTENER,
	    "grapnel.conf:1: admin: \"socket\" must be an absolute path: an abstract socket has no "
	    "permissions (unix socket that grapnelctl talks to; none: off)" },
	{ "node_name = \"a/b\"\n" LISTENER,
	    "grapnel.conf:1: \"node_name\" must be 1 to 64 letters, digits, \".\", \"_\" or \"-\" "
	    "(name of this broker in event ids; auto: the host name)" },
	{ "user = \"\"\n" LISTENER,
	    "grapnel.conf:1: \"user\" must not be empty (user to run as when started as root)" },
	{ "listener \"a\" { bind = \"*:1\" mountpoint = \"a/#\" }",
	    "grapnel.conf:1: listener \"a\": \"mountpoint\" must not hold + or # "
	    "(prefix of all topics of this listener's clients, which never see it)" },
	{ "listener \"a\" { bind = \"*:1\" mountpoint = \"$SYS/\" }",
	    "grapnel.conf:1: listener \"a\": \"mountpoint\" must not begin with $ "
	    "(prefix of all topics of this listener's clients, which never see it)" },
	{ "plugin \"p\" { order_acl_check = 5 order_acl_check = 6 }\n" LISTENER,
	    "grapnel.conf:1: \"order_acl_check\" is already set at grapnel.conf:1" },
	{ "plugin \"p\" { order_acl_check = first }\n" LISTENER,
	    "grapnel.conf:1: plugin \"p\": \"order_acl_check\" must be a number between 0 and "
	    "65535, not \"first\" "
	    "(place among the plugins for acl_check alone)" },
	{ "plugin \"p\" { on_error = allow }\n" LISTENER,
	    "grapnel.conf:1: plugin \"p\": \"on_error\" must be unavailable, deny or next, not "
	    "\"allow\" "
	    "(what counts when the plugin's backend is in trouble)" }, /* clang-format off */
	{ "listener \"a\" { bind = \"*:1\"\ncertificate = c private_key = k }",
	    "grapnel.conf:2: listener \"a\": \"certificate\" is only for tls = yes\n"
	    "grapnel.conf:2: listener \"a\": \"private_key\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\nclient_ca = a }",
	    "grapnel.conf:2: listener \"a\": \"client_ca\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\nclient_certificate = optional }",
	    "grapnel.conf:2: listener \"a\": \"client_certificate\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\ncrl = c }",
	    "grapnel.conf:2: listener \"a\": \"crl\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\nocsp_response = o }",
	    "grapnel.conf:2: listener \"a\": \"ocsp_response\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\npsk = yes }",
	    "grapnel.conf:2: listener \"a\": \"psk\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\npsk_file = p }",
	    "grapnel.conf:2: listener \"a\": \"psk_file\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\nciphers = c }",
	    "grapnel.conf:2: listener \"a\": \"ciphers\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\ncipher_suites = c }",
	    "grapnel.conf:2: listener \"a\": \"cipher_suites\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\ngroups = g }",
	    "grapnel.conf:2: listener \"a\": \"groups\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\ntls_minimum = 1.3 }",
	    "grapnel.conf:2: listener \"a\": \"tls_minimum\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"*:1\"\nserver_name \"h\" { certificate = c private_key = k } }",
	    "grapnel.conf:2: listener \"a\": \"server_name\" is only for tls = yes" },
	{ "listener \"a\" { bind = \"unix:/x\"\ninterface = eth0\ntcp_keep_alive = 60\ntcp_user_timeout = 30s }",
	    "grapnel.conf:2: listener \"a\": \"interface\" is only for TCP\n"
	    "grapnel.conf:3: listener \"a\": \"tcp_keep_alive\" is only for TCP\n"
	    "grapnel.conf:4: listener \"a\": \"tcp_user_timeout\" is only for TCP" },
	{ "listener \"a\" { bind = \"systemd:x\"\nbacklog = 7\ninterface = eth0\nunix_mode = 0600 }",
	    "grapnel.conf:4: listener \"a\": \"unix_mode\" is only for a Unix socket (bind = \"unix:/path\")\n"
	    "grapnel.conf:2: listener \"a\": \"backlog\" is for the socket unit to say where bind = \"systemd:...\"\n"
	    "grapnel.conf:3: listener \"a\": \"interface\" is for the socket unit to say where bind = \"systemd:...\"" },
	{ "listener \"a\" { bind = \"systemd:x\" }\nlistener \"b\" {\nbind = \"systemd:x\" }",
	    "grapnel.conf:3: listener \"b\": listener \"a\" at grapnel.conf:1 is bound to systemd:x already" },
	{ "listener \"a\" { bind = \"systemd:a:b\" }",
	    "grapnel.conf:1: listener \"a\": \"bind\" must have a name of 1 to 255 printable characters without \":\" after \"systemd:\", as FileDescriptorName= of the socket unit has it (where to listen: ADDRESS:PORT, *:PORT, unix:/path, unix:@name, systemd:NAME, or udp:ADDRESS:PORT)" },
	{ "listener \"a\" { bind = \"*:1\"\ninterface = sixteencharacter }",
	    "grapnel.conf:2: listener \"a\": \"interface\" must be the name of a network interface, 1 to 15 characters (network interface to listen on; none: all)" },
	{ "listener \"a\" { bind = \"unix:/x\" proxy_protocol = yes trusted_proxies = unix\nidentity = peer }",
	    "grapnel.conf:2: listener \"a\": identity = peer would be the proxy itself where proxy_protocol = yes" },
	{ "listener \"a\" { bind = \"*:1\"\nproxy_protocol = yes }",
	    "grapnel.conf:2: listener \"a\": proxy_protocol = yes needs \"trusted_proxies\": whose word about addresses is to be believed?" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes }",
	    "grapnel.conf:2: listener \"a\": tls = yes needs a \"certificate\" with its \"private_key\", or pre-shared keys (\"psk_file\", or psk = yes for those of a plugin)" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = [c, d] private_key = k }",
	    "grapnel.conf:2: listener \"a\": 2 \"certificate\" and 1 \"private_key\": each certificate needs its key, in the same order" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes psk = yes private_key = k }",
	    "grapnel.conf:2: listener \"a\": 0 \"certificate\" and 1 \"private_key\": each certificate needs its key, in the same order" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nclient_certificate = required }",
	    "grapnel.conf:3: listener \"a\": \"client_certificate\" needs \"client_ca\": who signs the certificates of clients?" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes psk_file = p client_ca = c\nclient_certificate = required }",
	    "grapnel.conf:3: listener \"a\": client_certificate = required excludes pre-shared keys, since who comes with a key shows no certificate: write optional, or make two listeners" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nclient_ca = a }",
	    "grapnel.conf:3: listener \"a\": \"client_ca\" needs client_certificate = optional or required, else no client is asked for a certificate" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\ncrl = l }",
	    "grapnel.conf:3: listener \"a\": \"crl\" needs client_certificate = optional or required" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nidentity = cn }",
	    "grapnel.conf:3: listener \"a\": \"identity\" needs tls = yes and client_certificate = optional or required" },
	{ "listener \"a\" { bind = \"*:1\"\nidentity = subject }",
	    "grapnel.conf:2: listener \"a\": \"identity\" needs tls = yes and client_certificate = optional or required" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nidentity = peer }",
	    "grapnel.conf:3: listener \"a\": identity = peer is only for a Unix socket (bind = \"unix:/path\")" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"\" { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"*\" { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"a b\" { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"a/b\" { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"a:1\" { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"*.\" { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"a*.b\" { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name { certificate = c private_key = k } }",
	    "grapnel.conf:3: a server_name needs the name of a host as its title: write server_name \"broker.example.org\" or \"*.example.org\" { ... }" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"h\" { certificate = c } }",
	    "grapnel.conf:3: server_name \"h\": required option \"private_key\" is missing (PEM file of the certificate's key; several in brackets)\n"
	    "grapnel.conf:3: server_name \"h\": 1 \"certificate\" and 0 \"private_key\": each certificate needs its key, in the same order" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"h.X\" { certificate = c private_key = k }\nserver_name \"H.x\" { certificate = c private_key = k } }",
	    "grapnel.conf:4: server_name \"H.x\": server_name \"h.x\" at grapnel.conf:3 is the same host" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"h\" { certificate = c private_key = k }\nserver_name \"h\" { certificate = c private_key = k } }",
	    "grapnel.conf:4: server_name \"h\" is there already, at grapnel.conf:3; titles are unique\n"
	    "grapnel.conf:4: server_name \"h\": server_name \"h\" at grapnel.conf:3 is the same host" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nserver_name \"h\" { certificate = c private_key = k client_ca = a } }",
	    "grapnel.conf:3: server_name \"h\": unknown option \"client_ca\"; known here: certificate, ocsp_response, private_key" },
	{ "server_name \"h\" { certificate = c private_key = k }\n" LISTENER "",
	    "grapnel.conf:1: unknown section \"server_name\"; known here: group, max_traces, node_name, pid_file, plugin_directory, profile, read_buffer, sys_interval, user, workers, admin, guard, limits, listener, log, plugin, require, store" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\ntls_minimum = 1.1 }",
	    "grapnel.conf:3: listener \"a\": \"tls_minimum\" must be 1.2 or 1.3, not \"1.1\"; did you mean \"1.2\"? (oldest version of TLS)" },
	{ "listener \"a\" { bind = \"*:1\"\ntls = yes certificate = c private_key = k\nclient_certificate = maybe }",
	    "grapnel.conf:3: listener \"a\": \"client_certificate\" must be none, optional or required, not \"maybe\" (whether clients are asked for a certificate, and whether they must have one)" },
								       /* clang-format on */
};

/* Line by line: check does not take long messages. */
static void
same_lines(const char *got, const char *expected)
{
	while (*got != '\0' || *expected != '\0') {
		size_t len = strcspn(got, "\n"), expected_len = strcspn(expected, "\n");

		ck_assert_msg(len == expected_len && strncmp(got, expected, len) == 0,
		    "%.*s\ninstead of %.*s", (int)len, got, (int)expected_len, expected);
		got += len + (got[len] == '\n');
		expected += expected_len + (expected[expected_len] == '\n');
	}
}

START_TEST(what_is_wrong_is_named_with_file_line_and_what_to_do)
{
	same_lines(conf_files_refused_text(refused_cases[_i].text), refused_cases[_i].messages);
}
END_TEST

START_TEST(all_semantic_errors_of_all_files_are_reported)
{
	conf_files_write("grapnel.conf", "workers = 0\nfoo = 1\n");
	conf_files_write(
	    "conf.d/10-a.conf", "listener \"a\" {\n bind = \"nowhere\"\n max_qos = 3\n}\n");
	conf_files_write("conf.d/20-b.conf",
	    "plugin \"b\" {\n order = x\n enabled = maybe\n own = 1\n}\nlog { level = loud }\n");
	same_lines(conf_files_refused(),
	    "grapnel.conf:1: \"workers\" must be between 1 and 256, not \"0\" (threads that serve "
	    "clients; auto: one per CPU)\n"
	    "grapnel.conf:2: unknown option \"foo\"; known here: group, max_traces, node_name, "
	    "pid_file, plugin_directory, profile, read_buffer, sys_interval, "
	    "user, workers, admin, guard, limits, listener, log, plugin, require, store\n"
	    "conf.d/20-b.conf:6: log: \"level\" must be error, warning, notice, info, debug or "
	    "trace, not \"loud\" "
	    "(the least important messages that are logged)\n"
	    "conf.d/10-a.conf:2: listener \"a\": \"bind\" must be ADDRESS:PORT, such as "
	    "127.0.0.1:1883, [::1]:1883 or "
	    "*:1883, or unix:/path, unix:@name or systemd:NAME, or udp:ADDRESS:PORT for a plugin "
	    "(where to listen: ADDRESS:PORT, *:PORT, unix:/path, unix:@name, systemd:NAME, or "
	    "udp:ADDRESS:PORT)\n"
	    "conf.d/10-a.conf:3: listener \"a\": \"max_qos\" must be between 0 and 2, not \"3\" "
	    "(highest QoS a client may "
	    "publish with or gets)\n"
	    "conf.d/20-b.conf:2: plugin \"b\": \"order\" must be a whole number, not \"x\" (place "
	    "among the plugins; the lowest "
	    "is asked first)\n"
	    "conf.d/20-b.conf:3: plugin \"b\": \"enabled\" must be yes or no, not \"maybe\" "
	    "(whether the plugin is loaded)");
}
END_TEST

START_TEST(a_value_from_outside_is_not_shown_in_messages)
{
	conf_files_write("secret", "hunter2\n");
	ck_assert_str_eq(conf_files_refused_text("workers = ${file:secret}\n" LISTENER),
	    "grapnel.conf:1: \"workers\" must be a whole number, not \"...\" (threads that serve "
	    "clients; auto: one per CPU)");
}
END_TEST

START_TEST(several_listeners_may_take_any_free_port)
{
	struct settings *s = conf_files_load_text(
	    "listener \"a\" { bind = \"127.0.0.1:0\" } listener \"b\" { bind = \"127.0.0.1:0\" }");

	ck_assert_uint_eq(s->listener_count, 2);
	settings_unref(s);
}
END_TEST

START_TEST(settings_live_as_long_as_somebody_holds_them)
{
	struct settings *s = conf_files_load_text(LISTENER);

	ck_assert_ptr_eq(settings_ref(s), s);
	settings_unref(s);
	ck_assert_str_eq(s->listeners[0].name, "mqtt");
	settings_unref(s);
	settings_unref(NULL);
}
END_TEST

#define LOOP(tcase, test, cases) \
	tcase_add_loop_test(tcase, test, 0, (int)(sizeof(cases) / sizeof((cases)[0])))

int
main(void)
{
	Suite *s = suite_create("settings");
	TCase *tables = tcase_create("tables"), *loading = tcase_create("loading");
	SRunner *runner;
	int failed;

	rows_collect();
	tcase_add_loop_test(tables, every_row_is_complete, 0, row_count);
	tcase_add_test(tables, rows_stand_in_alphabetical_order);
	suite_add_tcase(s, tables);

	tcase_add_checked_fixture(loading, conf_files_begin, conf_files_end);
	tcase_add_test(loading, what_is_not_written_has_its_default);
	tcase_add_test(loading, the_edge_profile_changes_defaults);
	tcase_add_test(loading, what_is_written_wins_over_the_profile);
	tcase_add_test(loading, every_default_of_a_profile_is_one_of_an_option);
	tcase_add_test(loading, an_unknown_profile_is_told_once);
	tcase_add_test(loading, the_documented_example_is_understood);
	tcase_add_test(loading, every_kind_of_value_reaches_its_place);
	tcase_add_test(loading, a_quoted_none_is_a_name);
	tcase_add_test(loading, a_listener_inherits_limits_wherever_they_stand);
	tcase_add_loop_test(loading, every_number_has_a_range_with_both_ends_in_it, 0, row_count);
	tcase_add_loop_test(loading, every_row_refuses_what_is_not_its_type, 0, row_count);
	LOOP(loading, what_is_wrong_is_named_with_file_line_and_what_to_do, refused_cases);
	tcase_add_test(loading, all_semantic_errors_of_all_files_are_reported);
	tcase_add_test(loading, a_value_from_outside_is_not_shown_in_messages);
	tcase_add_test(loading, several_listeners_may_take_any_free_port);
	tcase_add_test(loading, settings_live_as_long_as_somebody_holds_them);
	suite_add_tcase(s, loading);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
