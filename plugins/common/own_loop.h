/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own_loop - a thread of a plugin's own, with an event loop on it
 *
 * For work that is too much for a worker's loop and does not block: what is written against the host's watches, timers and
 * look-ups (curl_loop) runs on it unchanged, when it is given own_loop_host() for the host.
 *
 *	create		loop = own_loop_new(host, self)
 *	worker_start	(the first) own_loop_start(loop, "webhook"); own_loop_post(loop, begin, w)
 *	worker_stop	(the last) own_loop_post(loop, end, w); own_loop_stop(loop)
 *	destroy		own_loop_free(loop)
 *
 * The thread's name is cut to 15 bytes; it takes no signals.
 *
 * A look-up is made by a worker of the instance, since the host's resolver is there; while none of them runs it fails.
 *
 * Threads:   own_loop_post and own_loop_call on any; own_loop_stop on any but the loop's own; the host's functions that work
 *            on the loop on its thread only (elsewhere watch_fd, timer_new and dns_lookup yield NULL, watch_change and
 *            timer_arm GRAPNEL_ESTATE), those that end something also after own_loop_stop has returned, on one thread.
 * Ownership: what is left of watches, timers and look-ups is freed by own_loop_free; their functions do not run.
 * Bounded:   as those who post are; a look-up has at most 16 addresses.
 */
#ifndef PLUGINS_COMMON_OWN_LOOP_H
#define PLUGINS_COMMON_OWN_LOOP_H

#include <grapnel/host.h>

struct own_loop;

/* A posted call that needs no memory: embedded in what it is about, free again when fn runs. */
struct own_loop_call {
	struct own_loop_call *next;
	grapnel_call_fn fn;
	void *arg;
};

/* Not running. NULL: no memory or no descriptor. @threads any. */
struct own_loop *own_loop_new(const struct grapnel_host *host, struct grapnel_instance *self);
/* The host's table, with watch_fd ... dns_cancel on this loop; lives as long as it. */
const struct grapnel_host *own_loop_host(struct own_loop *loop);
/* @return GRAPNEL_OK; GRAPNEL_ESYS: no thread; GRAPNEL_ESTATE: it was started before. */
int own_loop_start(struct own_loop *loop, const char *thread_name);
/*
 * Run fn(arg) on the loop, in the order of one thread's posts; before the start: then.
 * @return GRAPNEL_OK; GRAPNEL_ENOMEM; GRAPNEL_ESTATE: it was stopped. In both cases fn will not run.
 */
int own_loop_post(struct own_loop *loop, grapnel_call_fn fn, void *arg);
/* The same with call->fn and call->arg set by the caller. false: it was stopped, and fn will not run. */
bool own_loop_call(struct own_loop *loop, struct own_loop_call *call);
/* Runs what was posted before; then the thread is gone. Fine when it was not started, or twice. */
void own_loop_stop(struct own_loop *loop);
/*
 * Stops it first. For destroy(), or a create() that fails: a worker may still have a look-up of it until its worker_stop.
 * NULL is fine.
 */
void own_loop_free(struct own_loop *loop);

#endif
