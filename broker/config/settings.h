/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings - the configuration as the broker uses it: typed, checked, immutable
 *
 * settings_load reads grapnel.conf and conf.d/ beside it, checks everything that can be checked
 * without running (all errors, not only the first) and yields one counted, constant object. A reload makes
 * a new one; threads hold references to the one they work with.
 *
 * Threads:   load on the main thread; reading and ref/unref anywhere.
 * Ownership: everything pointed to belongs to the settings object.
 */
#ifndef BROKER_CONFIG_SETTINGS_H
#define BROKER_CONFIG_SETTINGS_H

#include <grapnel/plugin.h>
#include <stdatomic.h>
#include <sys/types.h>

struct conf_node; /* config/conf.h: the located tree */
struct conf_errors;
struct cidr;	  /* config/cidr.h */
struct logins;	  /* config/logins.h */

enum profile { PROFILE_SERVER, PROFILE_EDGE };
enum client_certificate { CERTIFICATE_NONE, CERTIFICATE_OPTIONAL, CERTIFICATE_REQUIRED };
/* What becomes the user name of a Client. */
enum identity_from { IDENTITY_NONE, IDENTITY_CN, IDENTITY_SAN, IDENTITY_SUBJECT, IDENTITY_PEER };
enum websocket { WEBSOCKET_NO, WEBSOCKET_YES, WEBSOCKET_AUTO };
enum tls_minimum { TLS_1_2, TLS_1_3 };
enum share_strategy { SHARE_ROUND_ROBIN, SHARE_RANDOM, SHARE_STICKY, SHARE_BY_PUBLISHER };

struct string_list {
	char **items;
	unsigned count;
};

/* limits { }; a listener may set the same keys, which then count for its clients. */
struct limits {
	/* totals: only in the global block */
	uint64_t max_sessions, max_subscriptions, max_total_queued_bytes;
	uint64_t retained_max_messages, retained_max_bytes;
	uint64_t max_memory;	       /* 0: found out at the start */
	uint32_t handshake_budget_ms;  /* of a worker's turn */
	/* per listener or in total */
	uint32_t max_connections; /* 0: as many as descriptors allow */
	uint32_t max_connections_per_address, connection_rate_per_address; /* 0: no limit */
	/* per client */
	uint32_t max_packet_size, max_connect_size;
	uint32_t max_keep_alive;     /* seconds; a client that asks for more or for none gets this */
	uint32_t max_session_expiry; /* seconds */
	uint32_t connect_timeout_ms;
	uint32_t receive_maximum, max_inflight, topic_alias_maximum;
	uint32_t max_queued_messages;
	uint64_t max_queued_bytes;
	uint32_t max_topic_levels;
	uint64_t max_output_bytes;
	uint32_t publisher_pause_ms;
	uint32_t message_rate; /* PUBLISH per second and client; 0: no limit */
	uint64_t byte_rate;    /* bytes per second and client; 0: no limit */
	uint32_t max_subscriptions_per_client; /* 0: no limit but max_subscriptions */
	uint8_t max_qos;
	bool retain_available, wildcard_available, shared_available;
	uint8_t protocols;     /* bits 3, 4, 5: protocol_versions = [3.1, 3.1.1, 5.0] */
	enum share_strategy share_strategy;
	bool queue_qos0;       /* queue QoS 0 for offline sessions; default no */
	bool check_payload_format; /* default no: Payload Format Indicator 1 is validated on request only */
	bool takeover_any;     /* takeover = owner | any */
	uint32_t auth_timeout_ms; /* deadline of every deciding request: default 10s */
};

/* What a listener shows to those who ask for a host by this name (SNI). */
struct server_name_settings {
	char *name;  /* title: "broker.example.org", "*.example.org" */
	char *where;
	struct string_list certificate, private_key; /* in pairs */
	char *ocsp_response; /* NULL: none */
};

struct listener_settings {
	char *name;	/* title */
	char *where;	/* "conf.d/10-listeners.conf:3" */
	char *bind;	/* as written: "127.0.0.1:1883", "[::1]:1883", "*:1883", "unix:/path", "systemd:NAME", "udp:*:1884" */
	bool is_unix, is_udp;
	char *host, *port; /* numeric or "*" ; TCP and UDP only */
	char *path;	/* Unix only; "@name": abstract */
	char *systemd;	/* the sockets of that name which systemd has opened; then neither of the above is known */
	mode_t unix_mode; /* default 0660 */
	char *unix_owner, *unix_group; /* NULL: as it is */
	bool anonymous;
	char *mountpoint; /* "" when none */
	int backlog;	/* default 1024 */
	char *interface; /* NULL: all */
	char *handler;	/* plugin that has the socket; NULL: the broker */
	uint32_t tcp_keep_alive; /* seconds; 0: off */
	uint32_t tcp_user_timeout_ms; /* 0: the system's */
	/* TLS */
	bool tls;
	enum tls_minimum tls_minimum;
	struct string_list certificate, private_key; /* files, in pairs */
	struct server_name_settings *server_names;
	unsigned server_name_count;
	char *ciphers, *cipher_suites, *groups; /* NULL: the modern defaults */
	char *client_ca;	/* file or folder; NULL: none */
	struct string_list crl;	/* files */
	char *ocsp_response;	/* file; NULL: none */
	char *psk_file;		/* NULL: none */
	bool psk_hook;		/* plugins are asked for keys */
	enum client_certificate client_certificate;
	enum identity_from identity;
	/* WebSocket */
	enum websocket websocket;
	char *websocket_path;	/* NULL: any */
	struct string_list websocket_origins; /* none: all */
	/* PROXY protocol, X-Forwarded-For */
	bool proxy_protocol;
	struct string_list trusted_proxies;
	struct cidr *trusted;	/* the same, parsed; trusted_proxies.count of them */
	struct limits limits;
	unsigned index; /* position in settings->listeners */
	struct settings *settings; /* that it is part of */
};
/* Whose limits these are. */
static inline const struct listener_settings *
listener_of_limits(const struct limits *l)
{
	return (const struct listener_settings *)(const void *)((const char *)l - offsetof(struct listener_settings, limits));
}

struct plugin_settings {
	char *name;	/* instance name: the title */
	char *module;	/* file name without .so, or a path when it has a '/' */
	char *where;
	bool enabled;
	int order;	/* default 100 */
	struct { const char *hook; int order; } hook_orders[16]; /* order_<hook> = N; hook "acl_check" ... */
	unsigned hook_order_count;
	enum { ON_ERROR_UNAVAILABLE, ON_ERROR_DENY, ON_ERROR_NEXT } on_error;
	uint32_t max_pending;	  /* requests; default 10000 */
	uint32_t timeout_ms;	  /* deadline of this instance's requests; 0: limits.auth_timeout */
	uint32_t offload_threads; /* default 4 */
	uint32_t offload_queue;	  /* default 1000 */
	uint32_t event_queue;	  /* events per worker; default 10000 */
	uint32_t drain_ms;	  /* connections it speaks for, after a reload; default 60s */
	uint32_t max_values;	  /* that it keeps; default 10000 */
	uint64_t max_values_bytes; /* default 16m */
	bool cache;		  /* answers are kept where the plugin says what they depend on; default yes */
	uint32_t cache_ttl_ms;	  /* of an ALLOW; default 30s */
	uint32_t cache_negative_ttl_ms; /* of DENY and NEXT; default 5s */
	uint32_t cache_jitter;	  /* per cent; default 10 */
	uint32_t cache_size;	  /* answers; default 10000 */
	uint32_t stale_for_ms;	  /* default 0 */
	uint32_t breaker_failures; /* in a row; 0: never; default 10 */
	uint32_t breaker_wait_ms, breaker_max_wait_ms; /* default 1s, 10s */
	bool shadow;		  /* asked but not heeded; default no */
	struct string_list listeners; /* titles; none: all */
	struct conf_node *section; /* plugin_options_new marks in it what it understood and what is secret */
};

/* guard { }: net/guard.h */
struct guard_settings {
	bool enabled;
	uint32_t failures;	/* of one address that fill its bucket; default 100 */
	uint32_t forgive_ms;	/* one of them; default 2s */
	uint32_t ban_ms, ban_max_ms; /* default 10m, 1d; 0: none */
	uint32_t delay_after;	/* failures of one user name from one address; default 5 */
	uint32_t delay_ms, delay_max_ms; /* default 500ms, 5s; 0: none */
	uint32_t addresses;	/* entries; default 100000 */
	struct string_list except; /* default loopback */
	struct cidr *excepted;	/* the same, parsed */
	unsigned excepted_count;
};

/* require "all" { plugins = [...] }: they decide as one */
struct require_settings {
	char *name;	/* title: "all" or "any", and perhaps ":" and a name of its own */
	char *where;
	bool all;
	struct string_list plugins; /* instance names, in the order they are asked */
	struct string_list hooks;   /* "client_authenticate", "acl_check" */
};

struct settings {
	_Atomic uint32_t refs;
	char *path;		/* of grapnel.conf */
	enum profile profile;
	unsigned workers;
	uint32_t read_buffer;	/* bytes of each worker's, default 64k */
	uint32_t max_traces;	/* per worker; default 32 */
	char *user, *group;	/* NULL: stay */
	char *plugin_directory;
	char *pid_file;		/* NULL: none */
	char *node_name;	/* default: host name */
	struct { char *socket; mode_t mode; char *group; } admin; /* socket NULL: off */
	struct { int level; int format; /* 0 text, 1 json */ char *to; /* "stderr", "stdout", "syslog", path */ } log;
	struct {
		char *directory;
		int durability; /* 0 strict, 1 relaxed, 2 off */
		struct string_list strict, not_kept; /* Topic Filters, with mountpoint */
		uint64_t memory_for_queues, max_bytes;
		uint32_t delay_ms; /* relaxed: until the disk has it */
	} store;
	struct guard_settings guard;
	uint32_t sys_interval_ms; /* $SYS topics; 0: off; default 10s */
	struct limits limits;
	struct listener_settings *listeners;
	unsigned listener_count;
	struct plugin_settings *plugins;
	unsigned plugin_count;
	struct require_settings *requires;
	unsigned require_count;
	struct logins *logins; /* NULL: no listener has identity = peer */
	struct conf_node *tree;
};

/*
 * @param path  grapnel.conf. Relative paths inside conf.d errors are shown as "conf.d/20-x.conf:7".
 * @return GRAPNEL_OK and *out with one reference; GRAPNEL_EINVAL or GRAPNEL_ENOMEM with messages in errs.
 */
int settings_load(const char *path, struct conf_errors *errs, struct settings **out);
/* The same from a tree, which is taken in any case; path is what settings->path becomes. */
int settings_from_tree(struct conf_node *tree, const char *path, struct conf_errors *errs, struct settings **out);
struct settings *settings_ref(struct settings *s);
void settings_unref(struct settings *s);
/* Can `neu` replace `old` without a restart? Adds one message for each setting that cannot (workers, user, listeners' bind ...). */
bool settings_reloadable(const struct settings *old, const struct settings *neu, struct conf_errors *errs);
/* The configuration in force as text in the file's own grammar, secrets as "***". Heap; caller frees. NULL: no memory. */
char *settings_print(const struct settings *s);

/* ---- a plugin's section against its own table ------------------------------------------------ */
struct plugin_options; /* immutable; owned by the instance */
/*
 * Check and convert; every error is added with file:line, the closest known name and the help text. NULL on any error.
 * The table must outlive the options. A default_value is taken as it is; written as "[a, b]" or in quotes it is parsed
 * as in the file. Main thread, before the settings are shared.
 */
struct plugin_options *plugin_options_new(const struct plugin_settings *ps, const struct grapnel_option *table, struct conf_errors *errs);
void plugin_options_free(struct plugin_options *o);
bool plugin_options_equal(const struct plugin_options *a, const struct plugin_options *b); /* did a reload change anything? */
/* As grapnel/host.h says of option_*. */
struct grapnel_str plugin_option_str(const struct plugin_options *o, const struct grapnel_block *b, const char *name);
int64_t plugin_option_int(const struct plugin_options *o, const struct grapnel_block *b, const char *name);
bool plugin_option_bool(const struct plugin_options *o, const struct grapnel_block *b, const char *name);
struct grapnel_str plugin_option_list(const struct plugin_options *o, const struct grapnel_block *b, const char *name, size_t i);
bool plugin_option_given(const struct plugin_options *o, const struct grapnel_block *b, const char *name);
const struct grapnel_block *plugin_option_block(const struct plugin_options *o, const struct grapnel_block *b, const char *kind,
    size_t i, struct grapnel_str *title);
struct grapnel_str plugin_option_where(const struct plugin_options *o, const struct grapnel_block *b, const char *name);

#endif
