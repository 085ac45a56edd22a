/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings - the options of an instance, checked; and what all its workers share
 *
 * Threads:   made in create(), immutable afterwards but for the counters of struct instance, which are atomic.
 * Ownership: strings are the host's and live as long as the instance.
 */
#ifndef AUTH_REDIS_SETTINGS_H
#define AUTH_REDIS_SETTINGS_H

#include "endpoint.h"
#include "key.h"
#include "tls.h"

#include <stdatomic.h>

#define MAX_SERVERS 16u
#define MAX_SOURCES 16u
#define MAX_KEYS    (MAX_SOURCES + 2u)

enum login_layout { LOGIN_HASH, LOGIN_STRING };
enum acl_layout { ACL_SET, ACL_LIST, ACL_HASH, ACL_STRING };

/* A key with rules. */
struct acl_source {
	struct key key;
	enum acl_layout layout;
	struct grapnel_str access; /* "publish" ...: members are Topic Filters; .data NULL: they are rules */
};

struct account {
	struct grapnel_str username, password; /* .data NULL: none */
};

struct settings {
	struct endpoint servers[MAX_SERVERS], sentinels[MAX_SERVERS];
	unsigned server_count, sentinel_count;
	struct grapnel_str sentinel_master;
	struct account account, sentinel_account;
	unsigned database;
	bool cluster;
	struct tls_context *tls; /* NULL: none */

	unsigned connections;
	uint32_t connect_timeout_ms, command_timeout_ms, reconnect_min_ms, reconnect_max_ms;
	size_t max_answer;
	unsigned max_commands;

	struct key_rules key_rules;
	struct key login, superuser; /* .template NULL: none */
	enum login_layout login_layout;
	bool check_password, acl_on_connect;
	struct acl_source sources[MAX_SOURCES];
	unsigned source_count;
	const struct key *keys[MAX_KEYS]; /* all of them */
	unsigned key_count;

	struct grapnel_str purge_channel; /* .data NULL: none */
	bool keyspace_events;
};

struct metrics {
	int connections, connects_failed, commands, commands_failed, commands_timed_out, redirects;
	int answers_unusable, purges, listening;
	int logins_accepted, logins_refused, logins_unknown, logins_unavailable;
};

/* One plugin { } section. */
struct instance {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct settings settings;
	struct metrics metrics;
	/* What the log was told: places that cannot connect; when a line about answers was written last. */
	atomic_uint failing;
	_Atomic uint64_t said_ms;
	struct worker *workers; /* host->workers */
	atomic_bool listened;	/* to the purge channel, once */
};

extern const struct grapnel_option settings_options[];
/* false: config_error was told. */
bool settings_read(struct instance *a);
void settings_free(struct settings *s);

void count(const struct instance *a, int metric);
/* Something about the answers of the server, not oftener than every ten seconds. Never with a value. */
void complain(struct instance *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
