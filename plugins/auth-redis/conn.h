/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn - one connection to a server: name, TCP, TLS, logging in, then commands one behind the other and their answers
 *
 * It is used again and again: conn_start, until `down` says that it is over, conn_start ... All attempts have connect_timeout,
 * every command has command_timeout: a server that is mute for so long is given up, one that only is slow is not.
 * hiredis writes commands and parses answers; the socket is ours, for none of its versions both resolves and connects without
 * blocking.
 *
 * Threads:   one worker.
 * Ownership: embedded in what uses it, which must outlive it: conn_stop closes, and runs no callback of conn_events.
 * Bounded:   max_commands, max_answer, max_key; with these what waits to be written, too.
 */
#ifndef AUTH_REDIS_CONN_H
#define AUTH_REDIS_CONN_H

#include "reply.h"
#include "settings.h"

#define CONN_ADDRESSES 4u /* of a name that are tried */
#define CONN_WHY_SIZE  240u

enum conn_kind {
	CONN_DATA,
	CONN_SENTINEL, /* another account, no database */
	CONN_LISTENER, /* once subscribed, what comes is pushed; alive by its own PING */
};

enum conn_state {
	CONN_DOWN,
	CONN_HELD, /* somebody looks up where to connect to */
	CONN_RESOLVING,
	CONN_CONNECTING,
	CONN_HANDSHAKE, /* TLS */
	CONN_GREETING,	/* AUTH, SELECT, ROLE, PING */
	CONN_UP,
};

/* reply NULL: there is none and will be none; else borrowed, and may be an error. Runs once, never inside conn_send. */
typedef void (*command_fn)(void *arg, const redisReply *reply);
struct command;

struct conn_events {
	void (*up)(void *arg);
	void (*down)(void *arg, const char *why); /* all commands have had their NULL */
	void (*push)(void *arg, const redisReply *reply); /* CONN_LISTENER */
};

struct conn {
	struct instance *a;
	enum conn_kind kind;
	const struct conn_events *events;
	void *arg;
	bool expect_master; /* by ROLE: a sentinel may be behind */
	bool may_wait;	    /* commands are taken before it is up */

	enum conn_state state;
	unsigned generation; /* grows with each end: what a callback has done is seen by it */
	struct endpoint at;
	struct grapnel_resolve *resolve;
	char addresses[CONN_ADDRESSES][48];
	unsigned address_count, address; /* that is tried */
	int fd;
	unsigned watched; /* enum grapnel_watch_events */
	struct grapnel_watch *watch;
	struct grapnel_timer *timer;
	bool timer_armed;
	uint64_t deadline;   /* of getting up */
	uint64_t last_heard; /* the last whole reply */
	SSL *ssl;
	struct reply_reader *reader;
	struct command *first, *last;		  /* sent, not answered */
	struct command *waiting_first, *waiting_last; /* for CONN_UP */
	unsigned commands, greetings;
	char *out;
	size_t out_at, out_len, out_capacity;
};

bool conn_init(struct conn *c, struct instance *a, enum conn_kind kind, const struct conn_events *events,
    void *arg); /* false: no memory */
void conn_fini(struct conn *c);

void conn_hold(struct conn *c);				      /* CONN_DOWN -> CONN_HELD */
void conn_start(struct conn *c, const struct endpoint *to);   /* from CONN_DOWN or CONN_HELD; `down` may run before it returns */
void conn_fail(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3))); /* runs `down` */
void conn_stop(struct conn *c);				      /* like conn_fail, but for `down` */

/* NULL: not now. */
struct command *conn_send(struct conn *c, int argc, const struct grapnel_str *argv, command_fn fn, void *arg);
void command_forget(struct command *command); /* fn will not run; the handle is of no more use */
/* Without an answer of its own: (P)SUBSCRIBE, PING of a listener. */
bool conn_write_only(struct conn *c, int argc, const struct grapnel_str *argv);

/* ---- between conn.c and conn_commands.c */
void conn_greet(struct conn *c);
void conn_got_reply(struct conn *c, const redisReply *reply);
void conn_commands_lost(struct conn *c);
void conn_timer_up(struct conn *c);
void conn_release_waiting(struct conn *c);
bool conn_put(struct conn *c, const char *bytes, size_t len); /* into the output; false: no memory */
void conn_rewatch(struct conn *c);
void conn_arm(struct conn *c, uint64_t when_ms);

#endif
