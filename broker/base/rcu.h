/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rcu - the one place that knows which RCU we use
 *
 * Outside ThreadSanitizer: liburcu's memb flavour. Under ThreadSanitizer, which
 * does not understand liburcu 0.13, a simple and slow substitute with C11 atomics:
 * same interface, visible to the tool. Every thread that reads calls rcu_thread_start
 * first and rcu_thread_stop last. Never call rcu_wait on a worker.
 */
#ifndef BROKER_BASE_RCU_H
#define BROKER_BASE_RCU_H

#include <stdatomic.h>

struct rcu_item { /* embed in what is freed later */
	struct rcu_item *next;
	void (*free_fn)(struct rcu_item *item);
};

void rcu_thread_start(void);
void rcu_thread_stop(void);
void rcu_read_begin(void);
void rcu_read_end(void);
/*
 * Run free_fn(item) after all read sections that may see it have ended. Any thread, registered or
 * not, also from a free_fn; never waits for readers. free_fn runs on a thread of its own, which
 * starts with the first item: it may take leaf locks.
 */
void rcu_defer(struct rcu_item *item, void (*free_fn)(struct rcu_item *item));
/*
 * Wait until everything deferred so far has run, then end that thread (the next rcu_defer starts
 * another). Main thread, at the end; not from a free_fn, not inside a read section.
 */
void rcu_wait(void);

#define rcu_load(ptr)         atomic_load_explicit((ptr), memory_order_acquire)
#define rcu_store(ptr, value) atomic_store_explicit((ptr), (value), memory_order_release)

#endif
