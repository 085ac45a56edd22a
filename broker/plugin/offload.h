/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload - threads for work that blocks
 *
 * Each instance has a lane: so many jobs at once, so many waiting. The pool has as many threads
 * as the lanes' running jobs need, made when needed, gone when idle for a while; so an instance
 * whose backend hangs ties up its own threads and nobody else's.
 *
 * Threads:   offload_run, offload_cancel and done on the worker; work on a thread of the pool.
 * Ownership: a job belongs to the pool until done has returned.
 * Bounded:   lane limits. A job whose turn is not expected before its deadline is refused at
 *            once; one whose deadline passes while it waits is not started.
 */
#ifndef BROKER_PLUGIN_OFFLOAD_H
#define BROKER_PLUGIN_OFFLOAD_H

#include "core/worker.h"
#include <grapnel/host.h>

struct instance_worker;
struct offload_pool;

struct offload_lane {              /* under the pool's lock, but for name */
	struct offload_lane *next; /* in the ring of lanes that have work */
	bool listed;
	struct grapnel_job *first, *last; /* waiting, oldest first */
	uint32_t waiting, running;
	uint32_t max_waiting, max_running;
	uint64_t typical_us; /* running average of what a job takes */
	uint64_t ran, refused, expired;
};
struct offload_counts {
	uint32_t waiting, running;
	uint64_t ran, refused, expired;
};

struct offload_pool *offload_pool_new(void); /* NULL: no memory */
/*
 * Waits up to timeout_ms for jobs that run. false: some still do, and the pool stays in memory
 * for them.
 */
bool offload_pool_free(struct offload_pool *pool, uint64_t timeout_ms);
void offload_limits(struct offload_pool *pool, struct offload_lane *lane, uint32_t max_running,
    uint32_t max_waiting);
void offload_lane_close(struct offload_pool *pool,
    struct offload_lane *lane); /* nothing waits in it; before its memory goes */
void offload_counts(
    struct offload_pool *pool, const struct offload_lane *lane, struct offload_counts *out);

/* As grapnel/host.h says. */
struct grapnel_job *offload_run(struct offload_pool *pool, struct instance_worker *iw,
    uint32_t deadline_ms, grapnel_call_fn work, grapnel_call_fn done, void *arg);
void offload_cancel(struct grapnel_job *job);
bool offload_ran(const struct grapnel_job *job);
/* The instance leaves: none of its waiting jobs starts any more. */
void offload_cancel_all(struct offload_pool *pool, struct instance_worker *iw);

#endif
