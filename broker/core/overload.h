/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overload - what the broker does when it comes near max_memory
 *
 * Main measures (memory.c) and publishes a level; workers act on it:
 *	all		what waits to be written to Clients may take a quarter of max_memory; the fuller that is, the
 *			less may wait for each of those that do not read
 *	pressed		nothing more is kept for Sessions that are offline, and no new retained message; output has a
 *			sixteenth; as long as memory grows all the same, publishers that send much are read less and less,
 *			down to one read in OVERLOAD_INTERVAL_MS
 *	full		who publishes is read once in OVERLOAD_FULL_MS; no Client without a Session here is let in, and few
 *			handshakes are begun; no new subscription; output has what no Client can do without
 * What only acknowledges, pings or subscribes is read all the time: that is how memory becomes free again.
 *
 * Threads:   overload_look on main; what stands under "on a worker" there; the level is for any.
 * Bounded:   by the time between two looks: OVERLOAD_LOOK_MS, or a 64th of max_memory that workers took in. No allocation.
 *            memory_bytes, memory_limit_bytes, overload_level, publishers_paused_memory_total,
 *            messages_dropped_memory_limit_total, connections_refused_memory_total.
 */
#ifndef BROKER_CORE_OVERLOAD_H
#define BROKER_CORE_OVERLOAD_H

#include "base/wheel.h"
#include "core/worker.h"

#define OVERLOAD_LOOK_MS     1000u /* between two looks when little is in use, */
#define OVERLOAD_NEAR_MS     100u  /* and when much is */
#define OVERLOAD_AGAIN_MS    5u    /* not before, however much a worker takes in */
#define OVERLOAD_INTERVAL_MS 200u
#define OVERLOAD_FULL_MS     1000u
#define OVERLOAD_FIRST	     (256u * 1024u) /* bytes of a publisher in the first interval */
#define OVERLOAD_LEAST	     (16u * 1024u)  /* nobody who sends no more than this in an interval waits */
#define OVERLOAD_OUTPUT	     (64u * 1024u)  /* may wait for each Client, come what may */
#define OVERLOAD_QUEUE	     (64u * 1024u)  /* may wait in the queue of one that is online */
#define OVERLOAD_ALL	     UINT32_MAX	    /* an allowance: as much as comes */

enum overload_level { OVERLOAD_NONE, OVERLOAD_PRESSED, OVERLOAD_FULL };

/* Part of struct broker. */
struct overload {
	_Atomic unsigned level;		    /* enum overload_level */
	_Atomic int64_t used;		    /* bytes, at the last look; -1: not known */
	_Atomic uint64_t limit;		    /* max_memory as the last look had it */
	int64_t before;			    /* main: what the look before that found */
	uint64_t looked_ms;		    /* main */
	struct overload_mail {
		struct mail mail;
		_Atomic bool posted;
	} tell[WORKER_MAX];		    /* main -> worker: the level or the limit has changed */
};
/* Part of struct core_worker. */
struct overload_worker {
	uint32_t *received;	 /* by slot: bytes read in this interval */
	uint32_t allowance;	 /* bytes of each publisher in this interval; OVERLOAD_ALL */
	unsigned level;		 /* what has been acted upon */
	int64_t used_before;	 /* in use when the last interval ended */
	uint64_t output_share;	 /* bytes that may wait to be written, of this worker's Clients together */
	uint64_t output_max;	 /* and of each that does not read, as of now */
	int64_t volume_due;	 /* when so much has been taken in, main is to look */
	struct timer timer;	 /* the end of the interval */
	struct overload_mail look; /* worker -> main */
};

/* ---- pure: time and figures are passed in ---------------------------------------------------- */
/* With hysteresis: pressed from 85 % on until below 80 %, full from 100 % on until below 95 %. */
enum overload_level overload_next(enum overload_level now, int64_t used, uint64_t limit);
/* When to look again. */
unsigned overload_wait_ms(int64_t used, int64_t before, uint64_t limit);
/* What may wait to be written by one worker in total; and for each Client that does not read, when so much is taken. */
uint64_t overload_output_share(enum overload_level level, uint64_t limit, unsigned workers);
uint64_t overload_output_max(uint64_t share, int64_t waiting);
/*
 * Bytes that each publisher may send in the next interval. While memory grows: three quarters of what those that sent
 * something have sent on average, and never more than the last time, so that the heaviest are slowed down first and
 * all of them more and more; not below OVERLOAD_LEAST. When it has stopped growing: a quarter more than the last time.
 */
uint32_t overload_allowance(uint32_t last, uint64_t total, uint32_t senders, bool grows);

/* ---- the level ---------------------------------------------------------------------------- */
static inline enum overload_level
overload_level(const struct overload *o)
{
	return (enum overload_level)atomic_load_explicit(&o->level, memory_order_relaxed);
}
void overload_init(struct broker *b); /* after core_init, before the workers run */
/* So much is in use (-1: not known): publish, tell the workers, log a change. @return milliseconds until the next look. */
unsigned overload_look(struct broker *b, int64_t used);

/* ---- on a worker -------------------------------------------------------------------------- */
void overload_worker_fini(struct worker *w);
/* The table by slot has grown from `from` to `to`. false: no memory, nothing changed. */
bool overload_room(struct overload_worker *o, uint32_t from, uint32_t to);
void overload_output(struct worker *w); /* output was written: what may wait now? */

#endif
