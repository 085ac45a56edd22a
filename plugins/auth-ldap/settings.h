/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings - the options of an instance, understood; and what all its workers share
 *
 * Threads:   made and freed on the main thread; in between immutable, but for the atomics.
 * Ownership: owns all its strings.
 * Bounded:   SETTINGS_MAX_SERVERS, SETTINGS_MAX_GROUPS, SETTINGS_MAX_ATTRIBUTES.
 */
#ifndef PLUGINS_AUTH_LDAP_SETTINGS_H
#define PLUGINS_AUTH_LDAP_SETTINGS_H

#include "common/template.h"
#include "text.h"

#include <stdatomic.h>

#define SETTINGS_MAX_SERVERS	8u
#define SETTINGS_MAX_GROUPS	256u
#define SETTINGS_MAX_CONNECTIONS 64u /* of a pool */
#define SETTINGS_MAX_ATTRIBUTES 64u /* asked of the directory */

struct server {
	char *uri, *host; /* host without brackets */
	uint16_t port;
	bool ldaps;
	atomic_bool down;	 /* said so in the log */
	atomic_uint came_back; /* how often; whatever a worker held against it before does not count */
};

struct pair {
	char *name, *value;
};

/* An attribute of the directory and what it is to a client: "departmentNumber=tenant". */
struct mapping {
	char *attribute;
	struct grapnel_str name; /* as of grant.h */
	bool acl;
};

struct group {
	char *key; /* text_dn_key */
	bool superuser;
	char *rules; /* one a line; NULL: none */
	struct pair *set;
	size_t set_count;
};

enum metric {
	METRIC_CONNECTIONS, /* gauges */
	METRIC_WAITING,
	METRIC_BINDS, /* counters */
	METRIC_SEARCHES,
	METRIC_ERRORS,
	METRIC_TIMEOUTS,
	METRIC_QUEUE_FULL,
	METRIC_ACCEPTED,
	METRIC_REFUSED,
	METRIC_UNKNOWN,
	METRIC_UNAVAILABLE,
	METRIC_COUNT,
};

/* Kinds of complaints; each is logged at most once in SETTINGS_QUIET_MS. */
enum complaint {
	COMPLAINT_AMBIGUOUS,
	COMPLAINT_ENTRY,
	COMPLAINT_GRANT,
	COMPLAINT_REFERRAL,
	COMPLAINT_RESULT,
	COMPLAINT_COUNT,
};
#define SETTINGS_QUIET_MS 60000u

struct settings {
	const struct grapnel_host *host;
	struct grapnel_instance *self;

	struct server servers[SETTINGS_MAX_SERVERS];
	size_t server_count;
	bool starttls, tls_verify, uses_tls;
	char *tls_ca, *tls_certificate, *tls_key;
	bool tls_ca_is_folder;
	void *tls_context; /* NULL: each connection makes its own; tls.h */

	struct template *bind_dn; /* NULL: service account and search */
	char *service_dn;	  /* NULL: searches are anonymous */
	struct grapnel_str service_password;
	struct template *search_base, *search_filter;
	int search_scope;
	bool check_password;

	char *names[TEXT_MAX_NAMES]; /* attributes that the user name must equal a value of */
	size_t name_count;
	struct mapping *mappings;
	size_t mapping_count;
	char *group_attribute;		       /* NULL: not used */
	struct template *group_base, *group_filter; /* NULL: not used */
	struct group *groups;
	size_t group_count;
	bool require_group, wants_rules;
	char *rules; /* for everybody, behind all others */
	char *wanted[SETTINGS_MAX_ATTRIBUTES + 1]; /* attributes to ask for, NULL-terminated; borrowed from above */
	char *no_attributes[2];

	unsigned connections, search_connections, queue;
	size_t max_groups, max_response;
	uint32_t network_timeout_ms, operation_timeout_ms, idle_timeout_ms, lifetime_ms, reconnect_max_ms;

	int metrics[METRIC_COUNT];
	_Atomic uint64_t complained_ms[COMPLAINT_COUNT];
};

extern const struct grapnel_option settings_options[];

/* In create(). NULL after config_error, or without memory. */
struct settings *settings_new(const struct grapnel_host *host, struct grapnel_instance *self);
void settings_free(struct settings *s); /* NULL is fine */

/* Is the entry of a user looked at in bind_dn mode? */
bool settings_want_entry(const struct settings *s);
void settings_count(const struct settings *s, enum metric metric, int64_t delta);
/* One line of a kind now and then. */
void settings_complain(struct settings *s, enum complaint kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
