/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine - a foreign plugin, loaded, and the one thread that calls it
 *
 * An engine outlives the instances that use it: a reload makes a new instance, which takes over the engine of its section, and
 * the foreign plugin hears MOSQ_EVT_RELOAD. When its options, or its file, have changed, it is cleaned up, loaded and initialised
 * anew, since most such plugins keep their state in global variables and cannot be there twice; what is asked meanwhile waits.
 *
 *	create		engine_attach: load, call mosquitto_plugin_init, wait for it
 *	worker_start	engine_adopt (the first)
 *	hooks, events	engine_ask, engine_tell
 *	destroy		engine_detach: the last one ends it, with mosquitto_plugin_cleanup
 *
 * A call that hangs is said in the log by engine_watch, which workers call; what waits behind it is answered with UNAVAILABLE by
 * the host at its deadline, and never gets to the foreign plugin. A thread that does not end in time is left behind, with all
 * it has, and this code stays mapped for it.
 *
 * Threads:   create, destroy on main; engine_ask, engine_tell, engine_cancel, engine_watch on workers; the rest is said.
 *            engine->lock is a leaf but for the host's functions, which do not block.
 * Ownership: instances attach to an engine; it uses only the host's functions of one that is attached (`current`).
 * Bounded:   `queue` questions wait; what is told (an end of a connection) for clients that the foreign plugin has seen.
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_ENGINE_H
#define PLUGINS_MOSQUITTO_COMPAT_ENGINE_H

#include "client.h"
#include "foreign.h"

#include <grapnel/plugin.h>

/* Of struct engine's token: TOKEN_PREFIX, the section's title, "-", hexadecimal digits. */
#define TOKEN_PREFIX "grapnel-for-"
#define TOKEN_RANDOM 32u

enum metric {
	METRIC_CALLS,
	METRIC_CANCELLED,
	METRIC_FAILED,
	METRIC_REFUSED,
	METRIC_SLOW,
	METRIC_QUEUE,
	METRIC_HANGS,
	METRIC_LOADED,
	METRIC_COUNT,
};

/* One enabled section. Constant after create(), but for what is marked. */
struct instance {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct engine *engine;
	struct load *load;
	uint32_t start_timeout_ms, slow_after_ms, tick_ms;
	unsigned queue;
	bool direct, purge; /* purge: kept answers are forgotten when a command has changed something */
	uint32_t events;    /* bits of enum mosq_event that the host asks about: those that had callbacks; the engine's lock */
	int metrics[METRIC_COUNT];
	_Atomic unsigned workers; /* that run */
	struct grapnel_timer *watch; /* worker 0's */
	struct instance *next;       /* of the engine: its lock */
};

enum call_kind {
	CALL_BASIC_AUTH,
	CALL_EXT_AUTH,
	CALL_ACL,
	CALL_UNSUBSCRIBE,
	CALL_MESSAGE,
	CALL_CONTROL,
	CALL_PSK,
	CALL_DISCONNECT, /* told, not asked, like those below */
	CALL_USERNAME,
};

/* A question on its way. Its texts have a NUL behind them, and are wiped. */
struct call {
	struct call *next;
	enum call_kind kind;
	/* under the lock */
	bool running;
	struct grapnel_request *req; /* NULL: nobody waits any more, or nobody ever did */
	const struct grapnel_host *host;
	/* the engine's thread's, once it has been handed over */
	struct client *client;
	char *topic;	/* Topic Name, Topic Filter; identity of CALL_PSK */
	char *username, *password, *method; /* username: as the host has it now */
	char *data;	/* payload, Authentication Data; NULL: none */
	size_t data_len, password_len;
	struct mqtt5__property *properties;
	int access, reason;
	uint8_t qos;
	bool retain, first; /* first: EXT_AUTH_START */
	size_t size;
	char *end;	    /* of what is used of bytes */
	char bytes[];
};

enum engine_state { ENGINE_LOADING, ENGINE_UP, ENGINE_DOWN };

struct engine {
	struct engine_head head; /* stands first */
	struct claim claim;
	char *title;
	struct clients clients;
	char *token; /* name of the User Property that says for whom a message is: the same for this title, and what nobody knows */
	pthread_t thread;
	struct load *begin; /* what the thread begins with */
	_Atomic uint32_t events; /* bits of enum mosq_event that have callbacks */
	_Atomic int version;	 /* of the foreign plugin's interface */
	/* what it is in, for engine_watch */
	_Atomic uint64_t since_ms; /* 0: in nothing */
	_Atomic(const char *) what;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	/* under the lock */
	struct instance *instances, *current, *adopt;
	struct call *first, **last;
	unsigned waiting; /* questions among them */
	uint64_t said_slow_ms; /* since_ms of the call that was said to be slow */
	enum engine_state state;
	bool stopping, ended, abandoned;
	char error[512]; /* why it is ENGINE_DOWN */

	/* the thread's */
	struct foreign foreign;
	struct load *loaded;
	uint64_t next_tick_ms, said_failed_ms;
	struct call *in_login;	       /* mosquitto_set_username is possible */
	struct client *about;	       /* whom the call that is running is about; NULL: nobody */
	const char *said_unsupported[8];
	unsigned said_unsupported_count;
};

/* ---- main ---------------------------------------------------------------------------------- */

/* Load, or take over. false: config_error has been called. */
bool engine_attach(struct instance *in, const char *title);
void engine_detach(struct instance *in);

/* ---- workers ------------------------------------------------------------------------------- */

/* This instance is in force from now on. Any thread. */
void engine_adopt(struct instance *in);
/* A question that needs so many bytes of text; NULL: no memory. */
struct call *call_new(enum call_kind kind, const struct grapnel_host *host, size_t bytes);
/* Into the call: a copy with a NUL behind; NULL stays NULL. */
char *call_text(struct call *c, struct grapnel_str s);
void call_free(struct call *c); /* NULL is fine; wipes it */
/* Hand it over. @return PENDING; UNAVAILABLE: it is not taken, and freed. */
enum grapnel_verdict engine_ask(struct instance *in, struct grapnel_request *req, struct call *c);
/* About a client: no answer. Takes over c, and its client. */
void engine_tell(struct engine *e, struct call *c);
/* The host's request_cancelled. */
void engine_cancel(struct instance *in, struct grapnel_request *req);
void engine_watch(struct engine *e);

/* ---- the engine's thread -------------------------------------------------------------------- */

/* Nobody waits for c from now on. @return who did; NULL: it was cancelled. */
struct grapnel_request *engine_answer(struct engine *e, struct call *c);
/* c is done: answered with that verdict, whatever kind it is. Of requests that have not been answered. */
void call_resolve(enum call_kind kind, const struct grapnel_host *host, struct grapnel_request *req, enum grapnel_verdict verdict);
/* Under the lock. */
void engine_unlink(struct engine *e, struct call *c);
void engine_count_locked(struct engine *e, enum metric metric, int64_t delta);
/* calls.c: ask the foreign plugin, answer, free c. */
void calls_run(struct engine *e, struct call *c);
void calls_tick(struct engine *e);
void calls_reload(struct engine *e);

/* ---- any thread ------------------------------------------------------------------------------ */

bool engine_is_here(const struct engine *e); /* is this thread its own? */
uint64_t engine_now_ms(void); /* monotonic; needs no host */
void engine_log(struct engine *e, enum grapnel_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void engine_count(struct engine *e, enum metric metric, int64_t delta);
/* provide.c */
extern const struct engine_calls engine_calls;

#endif
