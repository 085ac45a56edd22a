/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel/host.h - what the broker offers to a plugin
 *
 * A plugin links to nothing of the broker: create() hands it this table. A member
 * may be called when it lies within host->size; members marked @since 1.0 always do.
 *
 * Every function that needs to know who calls takes the instance handle of create().
 * Each says, and tools/reference makes manuals of it (section 3) and fails where one of these is missing:
 *   @threads  who may call it. "Any": any thread of the process, the plugin's own included, from create() until destroy() returns.
 *             "Worker": a worker thread that the instance has started on, from worker_start to worker_stop; there the functions
 *             never block. "create()": the main thread, inside create().
 *   @owner    whose the memory is that goes in and comes out. "Borrowed": it is not copied or given away, and has to live or is
 *             good only for as long as is said. What an instance has not given back when it leaves a worker (watches, timers,
 *             look-ups, subscriptions), the host removes after worker_stop.
 *   @return   what comes back, errors included; after an error nothing has changed unless the text says what has.
 *   @since    the ABI that has it first.
 */
#ifndef GRAPNEL_HOST_H
#define GRAPNEL_HOST_H

#include <grapnel/events.h>
#include <grapnel/hooks.h>
#include <grapnel/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a descriptor is watched for, and what it is ready for. */
enum grapnel_watch_events {
	GRAPNEL_READABLE = 1u << 0,
	GRAPNEL_WRITABLE = 1u << 1,
	GRAPNEL_HANGUP = 1u << 2, /* reported only */
};
/**
 * A watched descriptor is ready: enum grapnel_watch_events. May change or remove its watch.
 * @owner arg is the plugin's.  @threads The worker of the watch. Must not block.  @since ABI 1.0
 */
typedef void (*grapnel_watch_fn)(void *arg, int fd, unsigned events);
/**
 * What timer_new, post, offload and value_sync call.
 * @owner arg is the plugin's.  @threads A worker, where it must not block; `work` of an offloaded job: a thread of the pool.
 * @since ABI 1.0
 */
typedef void (*grapnel_call_fn)(void *arg);
/**
 * Addresses of a name: numeric text ("192.0.2.1", "2001:db8::1"), 32 at most; count 0 and err < 0 on failure.
 * @owner addresses are borrowed until it returns.  @threads The worker of the look-up.  @since ABI 1.0
 */
typedef void (*grapnel_resolve_fn)(void *arg, int err, const struct grapnel_str *addresses, size_t count);
/**
 * A message that an internal subscription matched. May unsubscribe.
 * @owner message is borrowed until it returns.  @threads The worker of the subscription. Must not block.  @since ABI 1.0
 */
typedef void (*grapnel_message_fn)(void *arg, const struct grapnel_message_info *message);
/**
 * A value that the instance keeps: value_each.
 * @return true: go on; false: that is enough.
 * @owner key and value are borrowed until it returns.  @threads The one that called value_each.  @since ABI 1.0
 */
typedef bool (*grapnel_value_fn)(void *arg, struct grapnel_str key, struct grapnel_str value);

/** A counter only grows, a gauge goes both ways. */
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

/** The table of functions that create() is given. Good until destroy() returns. */
struct grapnel_host {
	size_t size;
	uint16_t abi_major;
	uint16_t abi_minor;
	uint32_t workers; /* how many; worker numbers are 0 … workers-1 */

	/* ---- answers: attach details to a verdict that the hook is about to return ----------- */
	/**
	 * Attach details to the verdict that this hook returns: a user name, a reason, a new payload ... The last one attached
	 * counts.
	 *
	 * @param req     From the hook that is running.
	 * @param answer  Begins with its size.
	 * @return GRAPNEL_OK; GRAPNEL_ESTATE outside the hook that got req; GRAPNEL_EINVAL for
	 *         values out of range; GRAPNEL_ENOMEM.
	 * @owner answer and all it points to are copied; of rules the host takes a reference of its own.
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
	 * @param answer   Begins with its size; NULL: no details.
	 * @return GRAPNEL_OK; GRAPNEL_ECANCELED if the client left or the deadline passed:
	 *         nothing to undo, go on; GRAPNEL_ENOMEM: resolved as UNAVAILABLE; GRAPNEL_EINVAL: resolved before, of another
	 *         hook, or a fault of verdict or answer (then it is still to be resolved).
	 * @owner answer is copied; of rules the host takes a reference of its own. The question of the hook is gone with this call.
	 * @threads Any. Never blocks; the home worker acts on it.  @since ABI 1.0
	 */
	int (*auth_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_auth_answer *answer);
	int (*acl_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_acl_answer *answer);
	int (*publish_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_publish_answer *answer);
	int (*subscribe_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_subscribe_answer *answer);
	int (*ack_resolve)(struct grapnel_request *req, enum grapnel_verdict verdict, const struct grapnel_ack_answer *answer);
	/**
	 * How long the plugin has for this request.
	 * @return Milliseconds until its deadline; 0 when that has passed, or it is resolved.
	 * @owner req is the host's, good until it is resolved.  @threads Any.  @since ABI 1.0
	 */
	uint32_t (*request_time_left)(const struct grapnel_request *req);
	/**
	 * The worker on whose thread the hook ran: where its answer is wanted, and where post can go on with it.
	 * @return Its number; 0 when the request is resolved.
	 * @owner req is the host's, good until it is resolved.  @threads Any.  @since ABI 1.0
	 */
	unsigned (*request_worker)(const struct grapnel_request *req);
	/**
	 * Keep a pointer with a request, for whoever has only the request: request_cancelled.
	 * @owner data stays the plugin's; the host never looks at it. After the request is resolved this does nothing.
	 * @threads Any, one at a time.  @since ABI 1.0
	 */
	void (*request_set_data)(struct grapnel_request *req, void *data);
	/**
	 * The pointer of request_set_data.
	 * @return NULL: there is none, or the request is resolved.
	 * @owner It is the plugin's.  @threads Any, one at a time.  @since ABI 1.0
	 */
	void *(*request_data)(const struct grapnel_request *req);

	/* ---- options: the instance's section, checked against the descriptor's table ---------- */
	/**
	 * Value of a string or enum, the one in force: given or default.
	 * @param block  NULL: the section itself; else one of option_block, for all of these functions.
	 * @return .data NULL: it has none; or the table lacks the name, or has it with another type.
	 * @owner The text lives as long as the instance.  @threads Any.  @since ABI 1.0
	 */
	struct grapnel_str (*option_str)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/**
	 * Value of an int, a size (bytes) or a duration (milliseconds).
	 * @return 0 also when it has none, and for a name the table lacks or has with another type.
	 * @owner name is borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	int64_t (*option_int)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/**
	 * Value of a yes or no.
	 * @return false also when it has none, and for a name the table lacks or has with another type.
	 * @owner name is borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	bool (*option_bool)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/**
	 * Element i of a list.
	 * @return .data NULL behind its end, and for a name the table lacks or has with another type.
	 * @owner The text lives as long as the instance.  @threads Any.  @since ABI 1.0
	 */
	struct grapnel_str (*option_list)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name, size_t i);
	/**
	 * Does the section say it, be it with the default's value?
	 * @return false also for a name the table lacks.
	 * @owner name is borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	bool (*option_given)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/**
	 * Nested block number i of that kind ("endpoint").
	 * @param title  Gets its title, .data NULL when it has none; NULL: not wanted.
	 * @return NULL behind the last one.
	 * @owner Block and title live as long as the instance.  @threads Any.  @since ABI 1.0
	 */
	const struct grapnel_block *(*option_block)(const struct grapnel_instance *self, const struct grapnel_block *block,
	    const char *kind, size_t i, struct grapnel_str *title);
	/**
	 * Where an option stands, for messages about it.
	 * @param name  NULL: the section, or the block.
	 * @return "conf.d/20-x.conf:7"; the section's place when the option was not given.
	 * @owner The text lives as long as the instance.  @threads Any.  @since ABI 1.0
	 */
	struct grapnel_str (*option_where)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name);
	/**
	 * What the instance is called.
	 * @return The title of its section.
	 * @owner The text lives as long as the instance.  @threads Any.  @since ABI 1.0
	 */
	struct grapnel_str (*instance_name)(const struct grapnel_instance *self);

	/* ---- log, metrics, clock, random ------------------------------------------------------- */
	/**
	 * Log one line; the broker adds time and instance name, escapes and shortens (2047 bytes). Never log secrets.
	 * @owner All arguments are borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	void (*log)(const struct grapnel_instance *self, enum grapnel_log_level level, const char *format, ...)
#ifdef __GNUC__
	    __attribute__((format(printf, 3, 4)))
#endif
	    ;
	/**
	 * Say why create() fails; collected and shown with the file and line that `option_where` names for `option` (NULL: the
	 * section). Say all that is wrong, not only the first. An instance about which this was called does not start, whatever
	 * create() returns. Outside create() it is an error in the log.
	 * @owner All arguments are borrowed for the call.  @threads create().  @since ABI 1.0
	 */
	void (*config_error)(const struct grapnel_instance *self, const struct grapnel_block *block, const char *option, const char *format, ...)
#ifdef __GNUC__
	    __attribute__((format(printf, 4, 5)))
#endif
	    ;
	/**
	 * Register a metric, `grapnel_plugin_<name>{plugin="instance"}`. An instance can have 64 of them.
	 * @param name  Of a-z, 0-9 and _, at most 100 bytes; that of a counter ends with _total.
	 * @return Its number, >= 0; GRAPNEL_ESTATE outside create(); GRAPNEL_EINVAL: a bad name, or one that is there already;
	 *         GRAPNEL_EQUOTA: too many; GRAPNEL_ENOMEM.
	 * @owner name and help are copied.  @threads create().  @since ABI 1.0
	 */
	int (*metric_new)(struct grapnel_instance *self, enum grapnel_metric_kind kind, const char *name, const char *help);
	/**
	 * Add to a metric; a gauge also goes down. A number that is none does nothing.
	 * @threads Any; one relaxed atomic.  @since ABI 1.0
	 */
	void (*metric_add)(struct grapnel_instance *self, int metric, int64_t delta);
	/**
	 * Monotonic time, for deadlines and distances.
	 * @return Milliseconds since some time in the past.
	 * @threads Any.  @since ABI 1.0
	 */
	uint64_t (*now_ms)(void);
	/**
	 * The time of day; it may jump.
	 * @return Microseconds since 1970.
	 * @threads Any.  @since ABI 1.0
	 */
	int64_t (*wall_us)(void);
	/**
	 * Cryptographically strong bytes.
	 * @return GRAPNEL_OK; GRAPNEL_ESYS: the system has none, what is in the buffer is not to be used.
	 * @owner buffer is the caller's.  @threads Any.  @since ABI 1.0
	 */
	int (*random_bytes)(void *buffer, size_t len);
	/**
	 * Compare secrets in a time that does not tell where they differ.
	 * @return Whether they are the same bytes.
	 * @owner Both are borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	bool (*secret_equal)(struct grapnel_str a, struct grapnel_str b);

	/* ---- the worker's loop ------------------------------------------------------------------- */
	/**
	 * The number of the worker whose thread this is.
	 * @return -1: this thread is no worker.
	 * @threads Any.  @since ABI 1.0
	 */
	int (*this_worker)(void);
	/**
	 * Watch a descriptor on this worker, level-triggered.
	 * @param events  enum grapnel_watch_events; GRAPNEL_HANGUP comes with GRAPNEL_READABLE and need not be asked for.
	 * @return NULL: no memory, a bad descriptor, or not on a worker.
	 * @owner The plugin owns the descriptor and removes the watch before closing it. The watch is the plugin's until
	 *        watch_remove.
	 * @threads Worker.  @since ABI 1.0
	 */
	struct grapnel_watch *(*watch_fd)(struct grapnel_instance *self, int fd, unsigned events, grapnel_watch_fn fn, void *arg);
	/**
	 * Watch for other events from now on.
	 * @param events  0: pause.
	 * @return GRAPNEL_OK; GRAPNEL_ESTATE on another thread; GRAPNEL_EINVAL; GRAPNEL_ESYS: the system refuses the descriptor.
	 * @owner The watch is borrowed.  @threads The same worker.  @since ABI 1.0
	 */
	int (*watch_change)(struct grapnel_watch *watch, unsigned events);
	/**
	 * End a watch; fn is not called any more. NULL is fine. Allowed in its own callback.
	 * @owner The watch is gone; the descriptor is the plugin's to close.  @threads The same worker.  @since ABI 1.0
	 */
	void (*watch_remove)(struct grapnel_watch *watch);
	/**
	 * A timer of this worker, not armed. Once armed it calls fn once; then it rests until it is armed again.
	 * @return NULL: no memory, or not on a worker.
	 * @owner The timer is the plugin's until timer_free.  @threads Worker.  @since ABI 1.0
	 */
	struct grapnel_timer *(*timer_new)(struct grapnel_instance *self, grapnel_call_fn fn, void *arg);
	/**
	 * Have fn called in delay_ms from now, never earlier. Armed already: the new time replaces the old one.
	 * @return GRAPNEL_OK; GRAPNEL_ESTATE on another thread.
	 * @owner The timer is borrowed.  @threads The same worker.  @since ABI 1.0
	 */
	int (*timer_arm)(struct grapnel_timer *timer, uint32_t delay_ms);
	/**
	 * Have it not called. NULL, and one that is not armed, are fine.
	 * @owner The timer is borrowed.  @threads The same worker.  @since ABI 1.0
	 */
	void (*timer_disarm)(struct grapnel_timer *timer);
	/**
	 * End a timer, armed or not. NULL is fine. Allowed in its own callback.
	 * @owner The timer is gone.  @threads The same worker.  @since ABI 1.0
	 */
	void (*timer_free)(struct grapnel_timer *timer);
	/**
	 * Run fn(arg) on a worker soon, in the order posted by one thread. The way back from threads of the plugin's own.
	 * @return GRAPNEL_OK; GRAPNEL_EINVAL: no such worker; GRAPNEL_ENOMEM; GRAPNEL_ESTATE before worker_start and after
	 *         worker_stop there: fn will not run.
	 * @owner arg is the plugin's; after GRAPNEL_OK it has to live until fn has run, which it does before worker_stop there.
	 * @threads Any. Never blocks.  @since ABI 1.0
	 */
	int (*post)(struct grapnel_instance *self, unsigned worker, grapnel_call_fn fn, void *arg);
	/**
	 * Look a host name up without blocking; numeric names and /etc/hosts need no server. fn runs on this worker, never before
	 * the call returns, with GRAPNEL_ENOENT no such name, GRAPNEL_ETIMEOUT, or GRAPNEL_EFAULT the server failed.
	 * @param timeout_ms  0: ten seconds.
	 * @return NULL: no memory, or not on a worker; fn will not run.
	 * @owner name is copied. The handle is good until fn is called, or dns_cancel.  @threads Worker.  @since ABI 1.0
	 */
	struct grapnel_resolve *(*dns_lookup)(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms, grapnel_resolve_fn fn, void *arg);
	/**
	 * Give a look-up up: fn will not run.
	 * @owner The handle is gone.  @threads The same worker, before fn was called.  @since ABI 1.0
	 */
	void (*dns_cancel)(struct grapnel_resolve *look_up);

	/* ---- blocking work ------------------------------------------------------------------------ */
	/**
	 * Run work(arg) on a thread of the offload pool, then done(arg) on this worker. Limits per instance:
	 * offload_threads at once, offload_queue waiting.
	 * @param deadline_ms From now; a job that cannot start before it is not started. 0: none.
	 * @return NULL when refused (queue full, no memory, not on a worker): done will not run; answer UNAVAILABLE.
	 * @owner arg is the plugin's, for both functions; the job is the host's and good until done returns. An instance leaves its
	 *        worker only when done has run.
	 * @threads Worker; work runs on a thread of the pool, where it may block.  @since ABI 1.0
	 */
	struct grapnel_job *(*offload)(struct grapnel_instance *self, uint32_t deadline_ms, grapnel_call_fn work, grapnel_call_fn done, void *arg);
	/**
	 * A job that has not started never will; one that runs goes on. done runs in both cases, exactly once.
	 * Ask job_ran in done to learn which.
	 * @owner The job is the host's, as before.  @threads The same worker, before done.  @since ABI 1.0
	 */
	void (*offload_cancel)(struct grapnel_job *job);
	/**
	 * In done: did work run?
	 * @return false: the job was cancelled, or could not start before its deadline.
	 * @owner The job is the host's.  @threads The same worker, in done.  @since ABI 1.0
	 */
	bool (*job_ran)(const struct grapnel_job *job);

	/* ---- clients and messages ------------------------------------------------------------------ */
	/**
	 * What client_set_slot has put into the instance's one slot of this client.
	 * @return NULL: nothing, or client is NULL (the client has left).
	 * @owner It is the plugin's; the slot is there as long as the session.
	 * @threads The client's worker, in hooks and event callbacks.  @since ABI 1.0
	 */
	void *(*client_slot)(struct grapnel_instance *self, const struct grapnel_client *client);
	/**
	 * Put something into the instance's slot of this client; NULL empties it.
	 * @return GRAPNEL_OK; GRAPNEL_EINVAL: client is NULL (the client has left); GRAPNEL_ENOMEM; GRAPNEL_ESTATE off a worker.
	 * @owner data is lent to the host: when the session ends, or the instance leaves the worker, it is given to
	 *        client_slot_free of the descriptor. What was in the slot before stays the caller's.
	 * @threads The client's worker, in hooks and event callbacks.  @since ABI 1.0
	 */
	int (*client_set_slot)(struct grapnel_instance *self, struct grapnel_client *client, void *data);
	/**
	 * Disconnect a client, MQTT 5 with that Reason Code.
	 * @param mountpoint   May be "".
	 * @param reason_code  0x80 or higher.
	 * @return GRAPNEL_OK: asked, it happens soon, if there is such a client; GRAPNEL_EINVAL; GRAPNEL_ENOMEM.
	 * @owner The texts are copied.  @threads Any.  @since ABI 1.0
	 */
	int (*client_kick)(struct grapnel_instance *self, struct grapnel_str mountpoint, struct grapnel_str client_id, uint8_t reason_code);
	/**
	 * Find a client and call fn on this worker with its info, or with NULL when there is no such session.
	 * @return GRAPNEL_OK: fn will be called; GRAPNEL_EINVAL; GRAPNEL_ENOMEM; GRAPNEL_ESTATE off a worker.
	 * @owner The texts are copied; info is borrowed until fn returns.  @threads Worker.  @since ABI 1.0
	 */
	int (*client_find)(struct grapnel_instance *self, struct grapnel_str mountpoint, struct grapnel_str client_id,
	    void (*fn)(void *arg, const struct grapnel_client_info *info), void *arg);
	/**
	 * Publish as the broker: no ACL, no message_publish hook.
	 * @return GRAPNEL_OK: it is under way; GRAPNEL_EINVAL; GRAPNEL_ENOMEM.
	 * @owner publication and all it points to are copied.  @threads Any. Never blocks.  @since ABI 1.0
	 */
	int (*publish)(struct grapnel_instance *self, const struct grapnel_publication *publication);
	/**
	 * Subscribe internally, on this worker: fn gets every message that matches.
	 * @return NULL: no memory, no Topic Filter, or not on a worker.
	 * @owner filter is copied. The subscription is the plugin's until unsubscribe.  @threads Worker.  @since ABI 1.0
	 */
	struct grapnel_sub *(*subscribe)(struct grapnel_instance *self, struct grapnel_str filter, grapnel_message_fn fn, void *arg);
	/**
	 * End an internal subscription; fn is not called any more. NULL is fine. Allowed in its own callback.
	 * @owner The subscription is gone.  @threads The same worker.  @since ABI 1.0
	 */
	void (*unsubscribe)(struct grapnel_sub *sub);
	/**
	 * Walk an encoded block of properties; start with *pos = 0.
	 * @return 1: *out is filled; 0: that was the last; GRAPNEL_EFAULT: the block is malformed.
	 * @owner What *out points to is in the block.  @threads Any.  @since ABI 1.0
	 */
	int (*property_next)(struct grapnel_str block, size_t *pos, struct grapnel_property *out);

	/* ---- events ---------------------------------------------------------------------------------- */
	/**
	 * Change which events the instance gets.
	 * @param mask  Of GRAPNEL_EVENT_BIT.
	 * @return GRAPNEL_OK; GRAPNEL_EINVAL: the descriptor has no on_events; GRAPNEL_ENOMEM.
	 * @threads Any; takes effect on each worker soon.  @since ABI 1.0
	 */
	int (*events_select)(struct grapnel_instance *self, uint64_t mask);
	/**
	 * After a batch was not taken whole: offer the rest again now.
	 * @threads The worker of that batch; elsewhere it does nothing.  @since ABI 1.0
	 */
	void (*events_resume)(struct grapnel_instance *self);
	/**
	 * A client has no more rights than before but perhaps fewer: cached rights of all clients are asked again.
	 * @threads Any.  @since ABI 1.0
	 */
	void (*rights_changed)(struct grapnel_instance *self);

	/* ---- rules: the ACL language, so that every source speaks the same one ------------------------- */
	/**
	 * Compile rules, one a line (grapnel.conf(5), "ACL rules"), or Mosquitto's acl_file when mosquitto is true.
	 * @param source Name for messages ("acl", a path).
	 * @param error  On failure filled with "source:line: what"; NUL-terminated, cut to error_size.
	 * @return NULL on any error.
	 * @owner text and source are copied. The rules are the caller's: one reference, for rules_unref.  @threads Any.  @since ABI
	 *        1.0
	 */
	struct grapnel_rules *(*rules_compile)(struct grapnel_str text, struct grapnel_str source, bool mosquitto, char *error, size_t error_size);
	/**
	 * One more reference.
	 * @return rules.
	 * @owner The reference is the caller's, for rules_unref.  @threads Any.  @since ABI 1.0
	 */
	struct grapnel_rules *(*rules_ref)(struct grapnel_rules *rules);
	/**
	 * One reference less; the last one frees them. NULL is fine.
	 * @owner The caller's reference is gone.  @threads Any.  @since ABI 1.0
	 */
	void (*rules_unref)(struct grapnel_rules *rules);
	/**
	 * What the rules say; the first that matches wins.
	 * @param flags NULL, or gets GRAPNEL_ACL_COVERED for SUBSCRIBE when these rules refuse READ for no message that
	 *              the filter matches: with ALLOW they allow all of them, with NEXT they deny none (so that of several
	 *              rule sets asked in turn the answer is covered when all of those asked were).
	 * @param rule  NULL, or gets "source:line"; .data NULL when no line decided.
	 * @return ALLOW, DENY or NEXT (no rule matched).
	 * @owner *rule is good as long as the rules; the rest is borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	enum grapnel_verdict (*rules_check)(const struct grapnel_rules *rules, const struct grapnel_rules_question *question,
	    uint32_t *flags, struct grapnel_str *rule);

	/**
	 * After rules_check said ALLOW or DENY to a PUBLISH or READ question: the Topic Filter of Topic Names for which it says
	 * the same (acl_answer.same_for).
	 * @return Bytes written to filter; 0: for that Topic Name alone, or capacity is too small.
	 * @owner filter is the caller's; the rest is borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	size_t (*rules_scope)(const struct grapnel_rules *rules, const struct grapnel_rules_question *question, char *filter,
	    size_t capacity);

	/* ---- admin commands ---------------------------------------------------------------------------- */
	/**
	 * Offer `grapnelctl <name>`. fn runs on the main thread, must not block for long, and answers with
	 * reply(ctx, json): JSON text; the first answer counts.
	 * To answer now, call reply and return GRAPNEL_OK, or an error (with a reply that explains it: {"error": "..."}, or
	 * without). To answer later, return GRAPNEL_COMMAND_LATER: reply is called exactly once, from any thread, perhaps before fn
	 * has returned. Who asked may have gone meanwhile, and after ten seconds is told (504) that it takes too long: a reply that
	 * comes then is ignored. All replies are made before destroy() returns; what is owed then the host answers (503).
	 * @return GRAPNEL_OK; GRAPNEL_ESTATE outside create(); GRAPNEL_EINVAL: no name or no fn; GRAPNEL_ENOMEM.
	 * @owner name, help and the JSON are copied. `command` is borrowed until fn returns, ctx until the reply.
	 * @threads create(); fn: the main thread; reply: any.  @since ABI 1.0
	 */
	int (*command_new)(struct grapnel_instance *self, const char *name, const char *help,
	    int (*fn)(void *arg, const struct grapnel_command *command, void (*reply)(void *ctx, struct grapnel_str json), void *ctx), void *arg);

	/**
	 * This instance leaves the chain of that hook ("acl_check"), because its options leave nothing to ask it.
	 * The host then behaves as if the descriptor lacked the hook: for acl_check the instance is no ACL source either.
	 * @return GRAPNEL_OK; GRAPNEL_ENOENT: no such hook; GRAPNEL_ESTATE outside create().
	 * @owner hook is borrowed for the call.  @threads create().  @since ABI 1.0
	 */
	int (*hook_disable)(struct grapnel_instance *self, const char *hook);

	/* ---- answers to tls_psk_key: as those at the top ------------------------------------------------- */
	/**
	 * Attach the key, and the user name, to the ALLOW that tls_psk_key returns. As auth_answer.
	 * @return GRAPNEL_OK; GRAPNEL_ESTATE outside the hook that got req; GRAPNEL_EINVAL: a key or name that cannot be;
	 *         GRAPNEL_ENOMEM.
	 * @owner answer and all it points to are copied; the copy of the key is wiped after use.
	 * @threads The worker, inside the hook.  @since ABI 1.0
	 */
	int (*psk_answer)(struct grapnel_request *req, const struct grapnel_psk_answer *answer);
	/**
	 * Resolve a request of tls_psk_key. As auth_resolve.
	 * @return As auth_resolve.
	 * @owner answer and all it points to are copied; the copy of the key is wiped after use.
	 * @threads Any. Never blocks; the worker of the handshake acts on it.  @since ABI 1.0
	 */
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
	 *         GRAPNEL_ESTATE not on a worker, or the broker stops.
	 * @owner *fd is the plugin's to close; connection and all it points to are copied.
	 * @threads Worker; the connection may move to another one.  @since ABI 1.0
	 */
	int (*connection_open)(struct grapnel_instance *self, const struct grapnel_connection *connection, int *fd);

	/* ---- kept answers ------------------------------------------------------------------------------------ */
	/**
	 * What the answers of a hook ("client_authenticate", "client_revalidate", "acl_check") depend on.
	 * @param mask  enum grapnel_depends.
	 * @return GRAPNEL_OK; GRAPNEL_ENOENT: no such hook, or answers of it are not kept; GRAPNEL_ESTATE outside create().
	 * @owner hook is borrowed for the call.  @threads create().  @since ABI 1.0
	 */
	int (*depends_on)(struct grapnel_instance *self, const char *hook, uint64_t mask);
	/**
	 * The backend has changed: forget kept answers of this instance, and ask again about the clients that are online
	 * (client_revalidate, then their subscriptions; what they publish follows at once).
	 * @param username, client_id  Only answers about those; .data NULL: whatever it is.
	 * @return GRAPNEL_OK; GRAPNEL_ENOMEM: kept answers are forgotten, but not everybody is asked about.
	 * @owner The texts are copied.  @threads Any.  @since ABI 1.0
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
	 * Keep a value; one that the key had is replaced.
	 * @return GRAPNEL_OK; GRAPNEL_EQUOTA: a limit of the operator is reached, the store is full (not for values that are no
	 *         longer than the one before), or changes come faster than the disk takes them: what the key had before is still
	 *         there; GRAPNEL_EINVAL; GRAPNEL_ENOMEM.
	 * @owner key and value are copied.  @threads Any.  @since ABI 1.0
	 */
	int (*value_set)(struct grapnel_instance *self, struct grapnel_str key, struct grapnel_str value);
	/**
	 * What is kept under a key.
	 * @param buffer  Gets the first `capacity` bytes of the value; NULL with capacity 0.
	 * @param len     Gets the length of the whole value, so that one larger than capacity can be asked for again.
	 * @return GRAPNEL_OK; GRAPNEL_ENOENT: the key has none, *len is unchanged; GRAPNEL_EINVAL.
	 * @owner The buffer is the caller's; key is borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	int (*value_get)(const struct grapnel_instance *self, struct grapnel_str key, void *buffer, size_t capacity, size_t *len);
	/**
	 * Keep nothing under this key any more.
	 * @return GRAPNEL_OK; GRAPNEL_ENOENT: the key had none; GRAPNEL_EINVAL; GRAPNEL_ENOMEM, GRAPNEL_EQUOTA: it is still there.
	 * @owner key is borrowed for the call.  @threads Any.  @since ABI 1.0
	 */
	int (*value_delete)(struct grapnel_instance *self, struct grapnel_str key);
	/**
	 * Call fn for each value whose key begins with `prefix` (len 0: for all), in the order of the keys' bytes, before the call
	 * returns. It is as they were when the call began: fn may set and delete values, and is not told of what changes meanwhile.
	 * Looks at every key of the instance: not for each message.
	 * @return GRAPNEL_OK, also when there is none or fn wanted no more; GRAPNEL_EINVAL; GRAPNEL_ENOMEM.
	 * @owner What fn gets is borrowed until it returns.  @threads Any.  @since ABI 1.0
	 */
	int (*value_each)(const struct grapnel_instance *self, struct grapnel_str prefix, grapnel_value_fn fn, void *arg);
	/**
	 * Call fn once on this worker when what was set and deleted before this call, by any thread, survives kill -9 and loss of
	 * power; never before the call returns. Not after worker_stop. While the disk is full or fails it waits. With
	 * durability = off: soon.
	 * @return GRAPNEL_OK; GRAPNEL_EINVAL; GRAPNEL_ENOMEM; GRAPNEL_ESTATE off a worker: fn will not run.
	 * @owner arg is the plugin's, and has to live until fn has run or worker_stop was called.  @threads Worker.  @since ABI 1.0
	 */
	int (*value_sync)(struct grapnel_instance *self, grapnel_call_fn fn, void *arg);

	/* ---- events, once more ------------------------------------------------------------------------------- */
	/**
	 * How many events of this worker wait for on_events of this instance. While on_events runs those that it has been offered
	 * count too, all of them: what it takes is taken when it returns. Events that did not go into the queue (full, no memory)
	 * count as one, the GAP that will stand at their place.
	 *
	 * Events get into the queue one after another and are taken in that order, none is left out. So a plugin that adds up what
	 * its on_events has returned on a worker (`taken`) knows their numbers: what waits now has the numbers from taken + 1 to
	 * taken + events_waiting(), and when message_acknowledge asks about a message, its MESSAGE_PUBLISHED has the number
	 * taken + events_waiting() or a lower one (grapnel/hooks.h); it has been seen when `taken` has become that large.
	 * @return Their number; 0 also off a worker, and on one that the instance has left.
	 * @threads Worker.  @since ABI 1.0
	 */
	uint32_t (*events_waiting)(const struct grapnel_instance *self);
};

#ifdef __cplusplus
}
#endif
#endif
