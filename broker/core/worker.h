/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker - a thread with its event loop, its mailbox, and what lives on it
 *
 * Loop: mail (bounded portion) -> due timers -> I/O -> hand over the outgoing batches -> flush output of all connections
 * that have some -> hand over what came of that.
 *
 * Connections are watched by an epoll set of the worker's own (`poll_fd`), which libevent watches as
 * one descriptor: no struct event per connection, and a busy worker asks its connections directly.
 *
 * Threads:   everything here is the worker's own, except worker_post (any thread).
 * Ownership: a mail item belongs to the mailbox from worker_post until its fn runs, then to fn.
 * Bounded:   mail is drained in portions; publishers look at worker_mail_depth.
 */
#ifndef BROKER_CORE_WORKER_H
#define BROKER_CORE_WORKER_H

#include "base/clock.h"
#include "base/metrics.h"
#include "base/wheel.h"
#include <grapnel/types.h>
#include <pthread.h>
#include <stdatomic.h>

struct broker;
struct event_base;
struct event;
struct worker;
struct conn;
struct session_table;
struct topic_matcher;
struct hook_state; /* plugin/hooks.h: this worker's chains, requests, event queues */

struct mail {
	struct mail *next;
	void (*fn)(struct worker *w, struct mail *m);
};

#define WORKER_MAX 64

struct worker {
	struct broker *broker;
	unsigned index;		/* 0 … workers-1; the main thread's is `workers` */
	pthread_t thread;
	struct event_base *base; /* no lock: only this thread touches it */
	struct wheel *wheel;
	uint64_t now_ms;	/* monotonic, refreshed once a turn */
	struct metrics metrics;
	uint8_t *read_buffer;	/* shared by all connections */
	uint32_t read_size;	/* of it */

	/* mailbox: what other threads write, on a cache line of its own */
	_Alignas(64) _Atomic(struct mail *) mail_head; /* newest first */
	_Atomic uint32_t mail_depth;
	_Alignas(64) int wake_fd;
	struct event *wake_event;
	struct event *tick_event; /* wakes the loop for the wheel */
	int poll_fd;		  /* the epoll set of connections */
	struct event *poll_event; /* wakes the loop for it */
	int handshake_fd;	  /* the epoll set of those in CONN_HANDSHAKE, inside poll_fd */
	bool poll_ready;	  /* one of them may have something */
	struct mail *inbox;	  /* taken from mail_head, oldest first */
	struct { struct mail *first, *last; unsigned count; } outbox[WORKER_MAX + 1]; /* to each worker and main, until the turn ends */
	bool stopping;
	bool again;		  /* set by whoever left work for the next turn: the loop does not sleep before it */
	bool threaded;		  /* worker_start was called, worker_join not yet */
	uint64_t tick_due_ms;	  /* what tick_event is armed for; UINT64_MAX: not armed */

	/* owned by other files of core */
	struct conn_list { struct conn *first; } dirty; /* connections with output: conn.c */
	struct session_table *sessions;	/* session.c */
	struct arena *subs;		/* subs.c: struct sub of all sessions; NULL: none yet */
	struct topic_matcher *matcher;	/* router.c */
	struct core_worker *core;	/* conn.c: connections, output pool */
	struct router_state *router;	/* router.c: outgoing cross-worker publishes */
	struct shared_table *shared;	/* shared.c */
	struct durable_worker *durable;	/* durable.c; NULL: nothing is kept */
	struct hook_state *hooks;	/* plugin/hooks.c */
	unsigned flush_depth;
	bool flush_due; /* shared.c, conn.c, rights.c: conn_flush_dirty has something to do although no connection has output */
};

extern _Thread_local struct worker *worker_self; /* NULL off workers and main */

/* A worker with base, wheel, mailbox; not running. main: the main thread's (index == number of workers). */
int worker_new(struct worker **out, struct broker *b, unsigned index);
void worker_free(struct worker *w);
int worker_start(struct worker *w);  /* its thread begins to loop */
void worker_run(struct worker *w);   /* the loop itself, until worker_stop; main calls it directly */
void worker_stop(struct worker *w);  /* own thread: leave the loop after this turn */
int worker_join(struct worker *w, uint64_t timeout_ms); /* GRAPNEL_ETIMEOUT: its thread still runs. Not started: at once */
/* At the end, when no worker's thread runs any more: run what is still in its mailbox. @return there was something. */
bool worker_drain(struct worker *w);
/* Post from any thread. From a worker (or main) it leaves at the end of the turn, in order; never fails, never blocks. */
void worker_post(struct worker *w, struct mail *m);
bool worker_send(struct worker *w); /* own thread: it leaves now; @return something did */
uint32_t worker_mail_depth(const struct worker *w); /* any thread; approximate */
/* Arm on the worker's wheel, relative to its now. */
void worker_timer(struct worker *w, struct timer *t, uint64_t delay_ms);

/* Called by worker_run at the places named above; each in the file of its subject. */
unsigned conn_handshakes(struct worker *w); /* conn_poll: for handshake_budget at most; @return how many */
void conn_mail_handled(struct worker *w); /* between mails: write, if much waits for it */
unsigned conn_poll(struct worker *w); /* handle what connections have; @return how many had something */
void conn_flush_dirty(struct worker *w);
void router_flush(struct worker *w);
void durable_flush(struct worker *w);
void hooks_flush(struct worker *w);
void overload_turn(struct worker *w); /* has so much come in that memory is to be looked at? */

#endif
