/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel/host.h - what the broker offers to a plugin
 *
 * A plugin links to nothing of the broker: create() hands it this table. A member
 * may be called when it lies within host->size; members marked @since 1.0 always do.
 *
 * Every function that needs to know who calls takes the instance handle of create().
 * "Any thread" means any thread of the process, the plugin's own included. "Worker"
 * means the worker thread on which the plugin was called; there the functions never block.
 */
#ifndef GRAPNEL_HOST_H
#define GRAPNEL_HOST_H

#include <grapnel/events.h>
#include <grapnel/hooks.h>
#include <grapnel/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum grapnel_watch_events {
	GRAPNEL_READABLE = 1u << 0,
	GRAPNEL_WRITABLE = 1u << 1,
	GRAPNEL_HANGUP = 1u << 2, /* reported only */
};
typedef void (*grapnel_watch_fn)(void *arg, int fd, unsigned events);
typedef void (*grapnel_call_fn)(void *arg);
/** addresses: numeric text ("192.0.2.1", "2001:db8::1"); count 0 and err < 0 on failure. */
typedef void (*grapnel_resolve_fn)(void *arg, int err, const struct grapnel_str *addresses, size_t count);
/** A message that an internal subscription matched; borrowed. */
typedef void (*grapnel_message_fn)(void *arg, const struct grapnel_message_info *message);
/** A value that the instance keeps; borrowed. @return false: that is enough. */
typedef bool (*grapnel_value_fn)(void *arg, struct grapnel_str key, struct grapnel_str value);

enum grapnel_metric_kind {
	GRAPNEL_COUNTER = 1,
	GRAPNEL_GAUGE = 2,
};

/** A message to publish on behalf of the broker. */
struct grapnel_publication {
	size_t size;
	struct grapnel_str topic_name; /* with mountpoint, if any */
	struct grapnel_str payload;
	const struct grapnel_property *properties; /* those of a PUBLISH that are passed on, and Message Expiry Interval */
	size_t property_count;
	uint8_t qos;
	bool retain;
};

/** A request of grapnelctl or the admin API to a plugin's command. */
struct grapnel_command {
	size_t size;
	struct grapnel_str name;
	const struct grapnel_str *arguments;
	size_t argument_count;
};

/** What a command's function returns when its answer comes later: command_new. */
#define GRAPNEL_COMMAND_LATER 1

struct grapnel_rules_question {
	size_t size;
	enum grapnel_action action;
	uint8_t qos;
	bool retain;
	struct grapnel_str topic;     /* SUBSCRIBE: filter; else Topic Name */
	struct grapnel_str client_id; /* %c */
	struct grapnel_str username;  /* %u; .data NULL: absent */
	const struct grapnel_pair *attributes; /* %{name} */
	size_t attribute_count;
};

struct grapnel_host {
	size_t size;
	uint16_t abi_major;
	uint16_t abi_minor;
	uint32_t workers; /* how many; worker numbers are 0 … workers-1 */

	/* ---- answers: attach details to a verdict that the hook is about to return ----------- */
	/**
	 * @return GRAPNEL_OK; GRAPNEL_ESTATE outside the hook that got req; GRAPNEL_EINVAL for
	 *         values out of range; GRAPNEL_ENOMEM. The answer is copied.
	 * @threads The worker, inside the hook.  @since ABI 1.0
	 */
	int (*auth_answer)(struct grapnel_request *req, const struct grapnel_auth_answer *answer);
	int (*acl_answer)(struct grapnel_request *req, const struct grapnel_acl_answer *answer);
	int (*publish_answer)(struct grapnel_request *req, const struct grapnel_publish_answer *answer);
	int (*subscribe_answer)(struct grapnel_request *req, const struct grapnel_subscribe_answer *answer);
	int (*ack_answer)(struct grapnel_request *req, const struct grapnel_ack_answer *answer);

	/* ---- resolving what returned PENDING ------------------------------------------------- */
	/**
	 * Resolve a request whose hook returned PENDING (or is about to). The handle is no address: never look into it.
	 *
	 * @param req      From the hook; consumed on every path but GRAPNEL_EINVAL.
	 * @param verdict  ALLOW, DENY, NEXT or UNAVAILABLE; PENDING is a fault (GRAPNEL_EINVAL).
	 * @param answer   Begins with its size; NULL: no details. Copied.
	 * @return GRAPNEL_OK; GRAPNEL_ECANCELED if the client left or the deadline passed:
	 *         nothing to undo, go on; GRAPNEL_ENOMEM: resolved as UNAVAILABLE.
	 * @threads Any. Never blocks; the home worker acts on it.  @since ABI 1.0
	 */
	int (*auth_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_auth_answer *answer);
	int (*acl_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_acl_answer *answer);
	int (*publish_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_publish_answer *answer);
	int (*subscribe_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_subscribe_answer *answer);
	int (*ack_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_ack_answer *answer);
	/** Milliseconds until the deadline of a request; 0 when it passed. @threads Any, before it is resolved. */
	uint32_t (*request_time_left)(const struct grapnel_request *req);
	/** The worker on whose thread the hook ran. @threads Any. */
	unsigned (*request_worker)(const struct grapnel_request *req);
	/** Where the plugin keeps its own pointer with a request. @threads Any, one at a time. */
	void (*request_set_data)(struct grapnel_request *req, void *data);
	void *(*request_data)(const struct grapnel_request *req);

	/* ---- options: the instance's section, checked against the descriptor's table ---------- */
	/**
	 * The value in force (given or default). Strings live as long as the instance. A name that
	 * the table lacks, or of another type, yields absent / 0 / false.
	 * @param block NULL for the section itself.  @threads Any.  @since ABI 1.0
	 */
	struct grapnel_str (*option_str)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	int64_t (*option_int)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name); /* int, bytes; durations in ms */
	bool (*option_bool)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/** Element i of a list; .data NULL behind its end. */
	struct grapnel_str (*option_list)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name, size_t i);
	bool (*option_given)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/** Nested block number i of that kind ("endpoint"); NULL behind the last. *title may be NULL. */
	const struct grapnel_block *(*option_block)(const struct grapnel_instance *self, const struct grapnel_block *block,
	    const char *kind, size_t i, struct grapnel_str *title);
	/** "conf.d/20-x.conf:7" of an option, for error messages; the section's when the option was not given. */
	struct grapnel_str (*option_where)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/** The instance's name (the section's title). @threads Any. */
	struct grapnel_str (*instance_name)(const struct grapnel_instance *self);

	/* ---- log, metrics, clock, random ------------------------------------------------------- */
	/** Log one line; the broker adds time and instance name, escapes and shortens. Never log secrets. @threads Any. */
	void (*log)(const struct grapnel_instance *self, enum grapnel_log_level level, const char *format, ...)
#ifdef __GNUC__
	    __attribute__((format(printf, 3, 4)))
#endif
	    ;
	/**
	 * In create() only: say why it fails; collected and shown with the file and line that
	 * `option_where` names for `option` (NULL: the section).
	 */
	void (*config_error)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *option, const char *format, ...)
#ifdef __GNUC__
	    __attribute__((format(printf, 4, 5)))
#endif
	    ;
	/** Register a metric `grapnel_plugin_<name>{plugin="instance"}`. In create(). @return number >= 0, or an error. */
	int (*metric_new)(struct grapnel_instance *self, enum grapnel_metric_kind kind, const char *name, const char *help);
	/** Add to it (a gauge also goes down). @threads Any; one relaxed atomic. */
	void (*metric_add)(struct grapnel_instance *self, int metric, int64_t delta);
	/** Monotonic and wall-clock time. @threads Any. */
	uint64_t (*now_ms)(void);
	int64_t (*wall_us)(void);
	/** Cryptographically strong bytes. @threads Any. */
	int (*random_bytes)(void *buffer, size_t len);
	/** Constant-time comparison, for secrets. @threads Any. */
	bool (*secret_equal)(struct grapnel_str a, struct grapnel_str b);

	/* ---- the worker's loop ------------------------------------------------------------------- */
	/** The number of the worker whose thread this is; -1: none. @threads Any. */
	int (*this_worker)(void);
	/**
	 * Watch a descriptor on this worker, level-triggered. The plugin owns the descriptor and removes the watch
	 * before closing it. @return NULL: no memory, or not on a worker.  @threads Worker.
	 */
	struct grapnel_watch *(*watch_fd)(struct grapnel_instance *self, int fd, unsigned events, grapnel_watch_fn fn, void *arg);
	int (*watch_change)(struct grapnel_watch *watch, unsigned events); /* events 0: pause. @threads the same worker */
	void (*watch_remove)(struct grapnel_watch *watch);		   /* allowed in its own callback */
	/** Call fn once after delay_ms on this worker; then it is gone, unless armed again. @threads Worker. */
	struct grapnel_timer *(*timer_new)(struct grapnel_instance *self, grapnel_call_fn fn, void *arg); /* not armed */
	int (*timer_arm)(struct grapnel_timer *timer, uint32_t delay_ms); /* again: replaces. @threads the same worker */
	void (*timer_disarm)(struct grapnel_timer *timer);
	void (*timer_free)(struct grapnel_timer *timer); /* allowed in its own callback */
	/**
	 * Run fn(arg) on a worker soon, in the order posted by one thread.
	 * @return GRAPNEL_OK; GRAPNEL_EINVAL; GRAPNEL_ENOMEM; GRAPNEL_ESTATE before worker_start and after worker_stop there: fn will
	 *         not run.  @threads Any.
	 */
	int (*post)(struct grapnel_instance *self, unsigned worker, grapnel_call_fn fn, void *arg);
	/**
	 * Look a host name up without blocking; numeric names and /etc/hosts need no server. fn runs on this worker, never before the call
	 * returns. timeout_ms 0: ten seconds. Errors: GRAPNEL_ENOENT no such name, GRAPNEL_ETIMEOUT, GRAPNEL_EFAULT the server failed.
	 * NULL: no memory. @threads Worker.
	 */
	struct grapnel_resolve *(*dns_lookup)(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms, grapnel_resolve_fn fn, void *arg);
	void (*dns_cancel)(struct grapnel_resolve *look_up); /* fn will not run. @threads the same worker */

	/* ---- blocking work ------------------------------------------------------------------------ */
	/**
	 * Run work(arg) on a thread of the offload pool, then done(arg) on this worker. Limits per instance:
	 * offload_threads at once, offload_queue waiting.
	 * @param deadline_ms From now; a job that cannot start before it is not started. 0: none.
	 * @return NULL when refused (queue full, no memory): done will not run; answer UNAVAILABLE.
	 * @threads Worker.
	 */
	struct grapnel_job *(*offload)(struct grapnel_instance *self, uint32_t deadline_ms, grapnel_call_fn work, grapnel_call_fn done, void *arg);
	/**
	 * A job that has not started never will; one that runs goes on. done runs in both cases, exactly once.
	 * Ask job_ran in done to learn which. @threads The same worker, before done.
	 */
	void (*offload_cancel)(struct grapnel_job *job);
	/** In done: did work run? */
	bool (*job_ran)(const struct grapnel_job *job);

	/* ---- clients and messages ------------------------------------------------------------------ */
	/**
	 * The instance's one slot per client; when the session ends, or the instance goes, what is in it is given to client_slot_free of
	 * the descriptor. A value that client_set_slot replaces stays the caller's. client NULL (the client has left): NULL, GRAPNEL_EINVAL.
	 * @return GRAPNEL_OK; GRAPNEL_EINVAL; GRAPNEL_ENOMEM; GRAPNEL_ESTATE off a worker.
	 * @threads The client's worker, in hooks and event callbacks.
	 */
	void *(*client_slot)(struct grapnel_instance *self, const struct grapnel_client *client);
	int (*client_set_slot)(struct grapnel_instance *self, struct grapnel_client *client, void *data);
	/** Disconnect a client (MQTT 5: with that Reason Code). mountpoint may be "". @return GRAPNEL_OK: asked; it happens soon. @threads Any. */
	int (*client_kick)(struct grapnel_instance *self, struct grapnel_str mountpoint, struct grapnel_str client_id, uint8_t reason_code);
	/**
	 * Find a client and call fn on this worker with its info, or with NULL when there is no such session.
	 * @return GRAPNEL_OK; GRAPNEL_ENOMEM; GRAPNEL_ESTATE off a worker.  @threads Worker.
	 */
	int (*client_find)(struct grapnel_instance *self, struct grapnel_str mountpoint, struct grapnel_str client_id,
	    void (*fn)(void *arg, const struct grapnel_client_info *info), void *arg);
	/** Publish as the broker: no ACL, no message_publish hook. Copied. @return GRAPNEL_OK; GRAPNEL_EINVAL; GRAPNEL_ENOMEM. @threads Any. */
	int (*publish)(struct grapnel_instance *self, const struct grapnel_publication *publication);
	/** Subscribe internally, on this worker: fn gets every message that matches. @threads Worker. */
	struct grapnel_sub *(*subscribe)(struct grapnel_instance *self, struct grapnel_str filter, grapnel_message_fn fn, void *arg);
	void (*unsubscribe)(struct grapnel_sub *sub); /* @threads the same worker */
	/** Walk an encoded block of properties; start with *pos = 0. @return 1: *out filled; 0: end; GRAPNEL_EFAULT. @threads Any. */
	int (*property_next)(struct grapnel_str block, size_t *pos, struct grapnel_property *out);

	/* ---- events ---------------------------------------------------------------------------------- */
	/** Change which events the instance gets (mask of GRAPNEL_EVENT_BIT). @threads Any; takes effect on each worker soon. */
	int (*events_select)(struct grapnel_instance *self, uint64_t mask);
	/** After a batch was not taken whole: offer the rest again now. @threads The worker of that batch. */
	void (*events_resume)(struct grapnel_instance *self);
	/** A client has no more rights than before but perhaps fewer: cached rights of all clients are asked again. @threads Any. */
	void (*rights_changed)(struct grapnel_instance *self);

	/* ---- rules: the ACL language, so that every source speaks the same one ------------------------- */
	/**
	 * Compile rules, one a line (grapnel.conf(5), "ACL rules"), or Mosquitto's acl_file when mosquitto is true.
	 * @param source Name for messages ("acl", a path).
	 * @param error  On failure filled with "source:line: what"; NUL-terminated, cut to error_size.
	 * @return NULL on any error. One reference.  @threads Any.
	 */
	struct grapnel_rules *(*rules_compile)(struct grapnel_str text, struct grapnel_str source, bool mosquitto, char *error, size_t error_size);
	struct grapnel_rules *(*rules_ref)(struct grapnel_rules *rules);   /* @threads Any */
	void (*rules_unref)(struct grapnel_rules *rules);		   /* @threads Any; NULL is fine */
	/**
	 * First match wins. @return ALLOW, DENY or NEXT (no rule matched).
	 * @param flags NULL, or gets GRAPNEL_ACL_COVERED for SUBSCRIBE when these rules refuse READ for no message that
	 *              the filter matches: with ALLOW they allow all of them, with NEXT they deny none (so that of several
	 *              rule sets asked in turn the answer is covered when all of those asked were).
	 * @param rule  NULL, or gets "source:line", valid as long as the rules; .data NULL when no line decided.  @threads Any.
	 */
	enum grapnel_verdict (*rules_check)(const struct grapnel_rules *rules, const struct grapnel_rules_question *question,
	    uint32_t *flags, struct grapnel_str *rule);

	/**
	 * After rules_check said ALLOW or DENY to a PUBLISH or READ question: the Topic Filter of Topic Names for which it says
	 * the same (acl_answer.same_for).
	 * @return bytes written to filter; 0: for that Topic Name alone, or capacity is too small.  @threads Any.
	 */
	size_t (*rules_scope)(const struct grapnel_rules *rules, const struct grapnel_rules_question *question, char *filter,
	    size_t capacity);

	/* ---- admin commands ---------------------------------------------------------------------------- */
	/**
	 * In create(): offer `grapnelctl <name>`. fn runs on the main thread, must not block for long, and answers with
	 * reply(ctx, json): JSON text, copied; the first answer counts. `command` is borrowed until fn returns.
	 * To answer now, call reply and return GRAPNEL_OK, or an error (with a reply that explains it: {"error": "..."}, or without).
	 * To answer later, return GRAPNEL_COMMAND_LATER: reply is called exactly once, from any thread, perhaps before fn has
	 * returned. Who asked may have gone meanwhile, and after ten seconds is told (504) that it takes too long: a reply that
	 * comes then is ignored. All replies are made before destroy() returns; what is owed then the host answers (503).
	 */
	int (*command_new)(struct grapnel_instance *self, const char *name, const char *help,
	    int (*fn)(void *arg, const struct grapnel_command *command, void (*reply)(void *ctx, struct grapnel_str json), void *ctx), void *arg);

	/**
	 * In create(): this instance leaves the chain of that hook ("acl_check"), because its options leave nothing to ask it.
	 * The host then behaves as if the descriptor lacked the hook: for acl_check the instance is no ACL source either.
	 * @return GRAPNEL_OK; GRAPNEL_ENOENT: no such hook; GRAPNEL_ESTATE outside create().
	 */
	int (*hook_disable)(struct grapnel_instance *self, const char *hook);

	/* ---- answers to tls_psk_key: as those at the top ------------------------------------------------- */
	int (*psk_answer)(struct grapnel_request *req, const struct grapnel_psk_answer *answer);
	int (*psk_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_psk_answer *answer);

	/* ---- clients that the plugin speaks for: grapnel/plugin.h, "Listeners" ------------------------------ */
	/**
	 * A Network Connection whose bytes come from this plugin and go to it. It counts, is limited and is logged like one
	 * that the listener accepted; what is written to *fd is what the client sends, beginning with CONNECT.
	 * @param fd  Filled with a non-blocking stream socket, the plugin's to close. It ends like a socket of a client: reading
	 *            0 or ECONNRESET when the broker has closed; closing it is a client that goes without DISCONNECT. One that
	 *            does not read is slow: the broker keeps max_output_bytes for it at most.
	 * @return GRAPNEL_OK; GRAPNEL_EQUOTA a limit of connections is reached (logged, counted); GRAPNEL_EINVAL; GRAPNEL_ENOENT no
	 *         listener of that name has this plugin as its handler; GRAPNEL_ESYS no descriptor; GRAPNEL_ENOMEM;
	 *         GRAPNEL_ESTATE not on a worker, or the broker stops.  @threads Worker; the connection may move to another one.
	 */
	int (*connection_open)(struct grapnel_instance *self, const struct grapnel_connection *connection, int *fd);

	/* ---- kept answers ------------------------------------------------------------------------------------ */
	/**
	 * In create(): what the answers of a hook ("client_authenticate", "client_revalidate", "acl_check") depend on.
	 * @param mask enum grapnel_depends.  @return GRAPNEL_OK; GRAPNEL_ENOENT: no such hook, or answers of it are not kept;
	 * GRAPNEL_ESTATE outside create().
	 */
	int (*depends_on)(struct grapnel_instance *self, const char *hook, uint64_t mask);
	/**
	 * The backend has changed: forget kept answers of this instance, and ask again about the clients that are online
	 * (client_revalidate, then their subscriptions; what they publish follows at once).
	 * @param username, client_id  Only answers about those; .data NULL: whatever it is.
	 * @return GRAPNEL_OK; GRAPNEL_ENOMEM.  @threads Any.
	 */
	int (*cache_purge)(struct grapnel_instance *self, struct grapnel_str username, struct grapnel_str client_id);

	/* ---- values that the instance keeps under keys ------------------------------------------------------- */
	/*
	 * They belong to the instance's name. A reload's new instance of that name has them, and shares them with the old one as
	 * long as both run; instances of other names never see them, even of the same plugin. Whatever plugin has that name next
	 * finds them: a value that cannot be understood is best ignored.
	 * They outlive the process, too: a change is written with the next group of what sessions and messages have to be written,
	 * value_sync says when that is done, and the ones of a section that is switched off stay. With durability = off they are
	 * gone with the process, unless strict_topics of the store makes it have one; grapneld -t has none.
	 * All of them are in memory. Keys are 1 to 1024 bytes, values 0 to 65536, any bytes. The operator's limits are
	 * max_values and max_values_bytes of the instance's section.
	 * Threads: any, from create() to destroy(); never the disk, only a lock that is held for a look-up and a copy.
	 */
	/**
	 * Keep a value; one that the key had is replaced. Copied.
	 * @return GRAPNEL_OK; GRAPNEL_EQUOTA: a limit of the operator is reached, the store is full (not for values that are no
	 *         longer than the one before), or changes come faster than the disk takes them: what the key had before is still
	 *         there; GRAPNEL_EINVAL; GRAPNEL_ENOMEM.  @threads Any.  @since ABI 1.0
	 */
	int (*value_set)(struct grapnel_instance *self, struct grapnel_str key, struct grapnel_str value);
	/**
	 * @param buffer  Gets the first `capacity` bytes of the value; NULL with capacity 0.
	 * @param len     Gets the length of the whole value, so that one larger than capacity can be asked for again.
	 * @return GRAPNEL_OK; GRAPNEL_ENOENT: the key has none, *len is unchanged; GRAPNEL_EINVAL.  @threads Any.  @since ABI 1.0
	 */
	int (*value_get)(const struct grapnel_instance *self, struct grapnel_str key, void *buffer, size_t capacity, size_t *len);
	/** @return GRAPNEL_OK; GRAPNEL_ENOENT: the key had none; GRAPNEL_EINVAL; GRAPNEL_ENOMEM, GRAPNEL_EQUOTA: it is still there.  @threads Any.  @since ABI 1.0 */
	int (*value_delete)(struct grapnel_instance *self, struct grapnel_str key);
	/**
	 * Call fn for each value whose key begins with `prefix` (len 0: for all), in the order of the keys' bytes, before the call
	 * returns. It is as they were when the call began: fn may set and delete values, and is not told of what changes meanwhile.
	 * Looks at every key of the instance: not for each message.
	 * @return GRAPNEL_OK, also when there is none or fn wanted no more; GRAPNEL_EINVAL; GRAPNEL_ENOMEM.  @threads Any.  @since ABI 1.0
	 */
	int (*value_each)(const struct grapnel_instance *self, struct grapnel_str prefix, grapnel_value_fn fn, void *arg);
	/**
	 * Call fn once on this worker when what was set and deleted before this call, by any thread, survives kill -9 and loss of
	 * power; never before the call returns. Not after worker_stop. While the disk is full or fails it waits. With
	 * durability = off: soon.
	 * @return GRAPNEL_OK; GRAPNEL_EINVAL; GRAPNEL_ENOMEM; GRAPNEL_ESTATE off a worker: fn will not run.
	 * @threads Worker.  @since ABI 1.0
	 */
	int (*value_sync)(struct grapnel_instance *self, grapnel_call_fn fn, void *arg);

	/* ---- events, once more ------------------------------------------------------------------------------- */
	/**
	 * How many events of this worker wait for on_events of this instance. While on_events runs those that it has been offered
	 * count too, all of them: what it takes is taken when it returns. Events that did not go into the queue (full, no memory) count
	 * as one, the GAP that will stand at their place.
	 *
	 * Events get into the queue one after another and are taken in that order, none is left out. So a plugin that adds up what its
	 * on_events has returned on a worker (`taken`) knows their numbers: what waits now has the numbers from taken + 1 to
	 * taken + events_waiting(), and when message_acknowledge asks about a message, its MESSAGE_PUBLISHED has the number
	 * taken + events_waiting() or a lower one (grapnel/hooks.h); it has been seen when `taken` has become that large.
	 * @return 0 also off a worker, and on one that the instance has left.
	 * @threads Worker.  @since ABI 1.0
	 */
	uint32_t (*events_waiting)(const struct grapnel_instance *self);
};

#ifdef __cplusplus
}
#endif
#endif
