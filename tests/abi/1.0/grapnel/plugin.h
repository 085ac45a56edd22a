/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel/plugin.h - the descriptor of a plugin; the one header a plugin includes
 *
 * A plugin is a shared object that exports one data symbol, `grapnel_plugin`:
 *
 *	#include <grapnel/plugin.h>
 *	GRAPNEL_PLUGIN(my_plugin,
 *		.version = "1.0", .license = "MIT",
 *		.create = my_create, .destroy = my_destroy,
 *		.acl_check = my_acl_check);
 *
 * Loading has no side effects. The broker checks magic, ABI and size before it calls anything.
 * It loads when abi_major is the broker's and required_minor is not newer than the broker's.
 *
 * Life of an instance (one enabled plugin { } section)
 *	create		main thread; checks options, reads files; may fail with config_error
 *	worker_start	on each worker; opens that worker's connections (never blocks)
 *	hooks, events	on the workers
 *	worker_stop	on each worker, when no request of it is pending any more
 *	destroy		main thread
 *
 * A reload makes a new instance when options or the file changed, or always when reload_always is set;
 * if any create() fails, the old instances stay. The new one is started on every worker
 * before the old one is stopped; the two may overlap.
 *
 * Listeners (handler = "instance" in a listener's section)
 *   The broker binds the socket, of every TCP and UDP listener one for each worker (SO_REUSEPORT), a Unix socket on one
 *   worker, and lends it to the instance instead of accepting on it itself: the plugin watches it (host->watch_fd),
 *   accepts or receives, and for each client opens a connection (host->connection_open), into which it writes MQTT and
 *   from which it reads MQTT. Sources of datagrams keep to their worker's socket as long as the workers are the same ones.
 *   A connection costs a pair of sockets, two descriptors of which one is the plugin's, and each way one more system call and
 *   copy than one that the broker accepted: about one and a half times the processor's time for a message.
 *   A reload that makes a new instance moves the sockets, worker by worker: listener_close of the old one, listener_open of the
 *   new one. What waits in them is the new one's, datagrams of clients of the old one included. The old one keeps its
 *   connections until they end, at most for the time of the option `drain`; then comes worker_stop, in which it closes
 *   what is left.
 *
 * ABI history
 *	1.0	first
 */
#ifndef GRAPNEL_PLUGIN_H
#define GRAPNEL_PLUGIN_H

#include <grapnel/events.h>
#include <grapnel/hooks.h>
#include <grapnel/host.h>
#include <grapnel/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRAPNEL_ABI_MAJOR 1
#define GRAPNEL_ABI_MINOR 0
#define GRAPNEL_PLUGIN_MAGIC UINT64_C(0x6c656e7061724721) /* "!Grapnel", as a number */

/** What an option is, and which function reads it. */
enum grapnel_option_type {
	GRAPNEL_OPTION_STRING = 1,
	GRAPNEL_OPTION_INT = 2,	      /* option_int */
	GRAPNEL_OPTION_BOOL = 3,      /* yes | no */
	GRAPNEL_OPTION_DURATION = 4,  /* 500ms, 10s, 14d; option_int in milliseconds */
	GRAPNEL_OPTION_BYTES = 5,     /* 64k, 1m; option_int */
	GRAPNEL_OPTION_LIST = 6,      /* of strings */
	GRAPNEL_OPTION_ENUM = 7,      /* one of `choices`, "a|b|c"; option_str */
	GRAPNEL_OPTION_BLOCK = 8,     /* nested: name "title" { `options` } */
};
/** What else there is to say about an option. */
enum grapnel_option_flags {
	GRAPNEL_OPTION_REQUIRED = 1u << 0,
	GRAPNEL_OPTION_SECRET = 1u << 1, /* never shown */
};
/** A row of the table of options, of which the last has no name. The table is as immutable as the descriptor. */
struct grapnel_option {
	const char *name; /* NULL ends the table */
	enum grapnel_option_type type;
	uint32_t flags;
	const char *default_value; /* as written in the file; NULL: none */
	int64_t min, max;	   /* INT, DURATION (ms), BYTES; both 0: no check */
	const char *choices;	   /* ENUM */
	const struct grapnel_option *options; /* BLOCK */
	const char *help;	   /* one sentence, shown in errors and in the manual */
	void *reserved[2];
};

/** The descriptor. Immutable; the host reads only what lies within its size. */
struct grapnel_plugin {
	/* these protect the rest and never move */
	uint64_t magic;
	uint16_t abi_major;
	uint16_t abi_minor;	 /* that it was compiled with */
	uint16_t required_minor; /* that it cannot do without */
	uint16_t reserved;
	size_t size;

	const char *name;
	const char *version;
	const char *license;
	const char *description;
	const struct grapnel_option *options; /* NULL: none */

	/**
	 * Make an instance: check its options, read its files, register metrics and commands. It may block for a moment, since it
	 * runs when the broker starts or at a reload, but other plugins wait for it.
	 * @param instance  Gets the plugin's own pointer, which is passed to everything below.
	 * @return GRAPNEL_OK; anything else: it does not start, nor does the broker, or the reload changes nothing. Say why with
	 *         config_error.
	 * @owner *instance is the plugin's, until destroy. host and self are the host's and good until destroy returns.
	 * @threads The main thread.  @since ABI 1.0
	 */
	int (*create)(const struct grapnel_host *host, struct grapnel_instance *self, void **instance);
	/**
	 * The end of an instance, after worker_stop on the last worker, or when another one of the same reload could not start.
	 * Threads of its own have to be gone when it returns: after it nothing of this instance is called, and the .so may go.
	 * @owner What create has made is freed here.  @threads The main thread.  @since ABI 1.0
	 */
	void (*destroy)(void *instance);
	/**
	 * The instance begins on a worker: make that worker's connections and timers. Nothing else of it runs there before.
	 * @return GRAPNEL_OK; anything else: the instance does not start, nor does the broker, or the reload changes nothing.
	 *         worker_stop is not called on this worker then.
	 * @owner instance is the plugin's; the number of the worker is below host->workers.
	 * @threads The worker. Must not block.  @since ABI 1.0
	 */
	int (*worker_start)(void *instance, unsigned worker);
	/**
	 * The instance leaves a worker: no request of it is pending there, no job under way, nothing posted waits. Close that
	 * worker's connections. Watches, timers and subscriptions that are left the host removes afterwards.
	 * @owner What worker_start has made is freed here.  @threads The worker. Must not block.  @since ABI 1.0
	 */
	void (*worker_stop)(void *instance, unsigned worker);
	bool reload_always;

	/**
	 * The client left or the deadline passed while a request was PENDING. Resolve it still, now or later.
	 * @owner req and its question stay good until it is resolved; client->client of the question is NULL now.
	 * @threads The request's worker. Must not block.  @since ABI 1.0
	 */
	void (*request_cancelled)(void *instance, struct grapnel_request *req);
	/**
	 * What was in a client's slot is the plugin's again: its session has ended, or the instance leaves the worker.
	 * @owner data is the plugin's, to free.  @threads The client's worker.  @since ABI 1.0
	 */
	void (*client_slot_free)(void *instance, void *data);

	/* deciding hooks; NULL: not registered, costs nothing */
	/**
	 * A deciding hook: what it is asked, and what it can say, is with its question in grapnel/hooks.h.
	 * @return ALLOW, DENY, NEXT, UNAVAILABLE, or PENDING and later the *_resolve function, exactly once. Another value is a
	 *         fault, is logged, and counts as UNAVAILABLE.
	 * @owner req and q, and all q points to, are the host's, and good for every thread until the request is resolved: with an
	 *        answer at once, until the hook returns.
	 * @threads The home worker of the client. Must not block.  @since ABI 1.0
	 */
	enum grapnel_verdict (*client_authenticate)(void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q);
	enum grapnel_verdict (*client_auth_exchange)(void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q);
	enum grapnel_verdict (*client_revalidate)(void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q);
	enum grapnel_verdict (*acl_check)(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q);
	enum grapnel_verdict (*message_publish)(void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q);
	enum grapnel_verdict (*client_subscribe)(void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q);
	enum grapnel_verdict (*client_unsubscribe)(void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q);
	enum grapnel_verdict (*message_deliver)(void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q);
	enum grapnel_verdict (*message_acknowledge)(void *instance, struct grapnel_request *req, const struct grapnel_message_acknowledge *q);

	/* observing */
	uint64_t events; /* GRAPNEL_EVENT_BITs wanted from the start */
	enum grapnel_event_mode event_mode;
	grapnel_events_fn on_events;

	/**
	 * A deciding hook like those above.
	 * @return ALLOW, DENY, NEXT, UNAVAILABLE, or PENDING and later psk_resolve, exactly once.
	 * @owner As for the others: req and q are good until the request is resolved.
	 * @threads The worker that accepted the connection. Must not block.  @since ABI 1.0
	 */
	enum grapnel_verdict (*tls_psk_key)(void *instance, struct grapnel_request *req, const struct grapnel_tls_psk *q);

	/**
	 * A socket of a listener whose handler this instance is, on each worker that has one, after worker_start; `l` is valid
	 * until listener_close has returned.
	 * @return GRAPNEL_OK; anything else is logged, and until the next reload nobody has that socket on that worker.
	 * @owner l and its descriptor are lent, until listener_close has returned.  @threads The worker. Must not block.  @since
	 *        ABI 1.0
	 */
	int (*listener_open)(void *instance, const struct grapnel_listener *l);
	/**
	 * A socket is lent no longer: remove watches of it before returning. Comes before worker_stop.
	 * @owner l and its descriptor are the host's again.  @threads The worker. Must not block.  @since ABI 1.0
	 */
	void (*listener_close)(void *instance, const struct grapnel_listener *l);
};

/** The smallest descriptor of ABI 1.0: up to and with on_events. Members behind it came later. */
#define GRAPNEL_PLUGIN_SIZE_1_0 (offsetof(struct grapnel_plugin, on_events) + sizeof(grapnel_events_fn))

#if defined(__GNUC__)
#define GRAPNEL_EXPORT __attribute__((visibility("default")))
#else
#define GRAPNEL_EXPORT
#endif

#ifdef __cplusplus
#define GRAPNEL_EXTERN_C extern "C"
#else
#define GRAPNEL_EXTERN_C
#endif

/** Define the descriptor. C only; in C++ fill a struct grapnel_plugin named grapnel_plugin by hand. */
#define GRAPNEL_PLUGIN(id, ...)                                                     \
	extern GRAPNEL_EXPORT const struct grapnel_plugin grapnel_plugin;           \
	GRAPNEL_EXPORT const struct grapnel_plugin grapnel_plugin = {               \
		.magic = GRAPNEL_PLUGIN_MAGIC, .abi_major = GRAPNEL_ABI_MAJOR,       \
		.abi_minor = GRAPNEL_ABI_MINOR, .required_minor = 0,                 \
		.size = sizeof(struct grapnel_plugin), .name = #id, __VA_ARGS__      \
	}

#ifdef __cplusplus
}
#endif
#endif
