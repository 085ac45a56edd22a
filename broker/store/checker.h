/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checker - the whole store is read once in the background, after it was not closed
 *
 * Reads with a connection of its own, at the lowest priority for processor and disk; the broker serves meanwhile. SQLite cannot
 * begin its WAL anew while a check of one table reads it.
 *
 * Threads: start and stop: one, any. done: the checker's own thread.
 */
#ifndef BROKER_STORE_CHECKER_H
#define BROKER_STORE_CHECKER_H

#include "store/file.h"

struct store_checker;
/*
 * The end: how many faults; < 0: it could not be read to its end. first: the first fault, one line; "": there is none. Called once,
 * or never if it was stopped before. Must not call store_checker_stop.
 */
typedef void (*store_checked_fn)(long faults, const char *first, void *arg);
/* GRAPNEL_ENOMEM; GRAPNEL_ESYS: no thread. */
int store_checker_start(struct store_checker **out, const char *directory, store_checked_fn done, void *arg);
void store_checker_stop(struct store_checker *c); /* within 100 ms wherever it is; frees it. NULL is fine. */

#endif
