/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory - how the heap is laid out, and how it shrinks again
 *
 * free(3) gives little back by itself: what a storm of connections or a long queue has left stays resident
 * for the next one. A watch on the main thread sees that more is resident than what the broker has in use
 * explains, waits until it is quiet, and has the C library return all free pages. Near max_memory it does not wait.
 * The same looks tell overload.h how much is in use: what is resident and private, since that is what counts when the
 * system runs out; pages of files (programs, libraries) the kernel drops by itself, and what was freed but
 * not given back is as good as used to everybody else.
 *
 * Threads:   memory_setup before there are any; the rest on main.
 * Bounded:   memory is given back at most once in MEMORY_PAUSE_MS (near max_memory MEMORY_PRESSED_MS): the C library
 *            locks the heap of a worker while it looks through it. memory_trims_total.
 */
#ifndef BROKER_CORE_MEMORY_H
#define BROKER_CORE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#define MEMORY_WATCH_MS  5000u
#define MEMORY_PAUSE_MS  30000u
#define MEMORY_PRESSED_MS 2000u
#define MEMORY_SLACK_MIN (1024 * 1024) /* not worth the trouble below */

struct broker;

/* Of the process, as the kernel has it; -1: not known. */
struct memory_usage {
	int64_t virtual_bytes, resident_bytes;
	int64_t private_bytes; /* resident and not backed by a file: heap, stacks, written data */
};
void memory_usage(struct memory_usage *out);

/* What the watch remembers. */
struct memory_watch {
	bool begun;
	int64_t private_bytes, used_bytes; /* when it began */
	uint64_t pause_until_ms, pressed_until_ms;
	int64_t cpu_us; /* processor time of the process, at the last look */
};
/*
 * A look, every MEMORY_WATCH_MS, the first one at the start. used_bytes is what the broker itself knows to be
 * in use. @return it is time to give memory back; the watch begins anew with the look after that.
 */
bool memory_watch_due(struct memory_watch *mw, int64_t private_bytes, int64_t used_bytes,
    int64_t cpu_us, uint64_t now_ms);

/* The same at any time, of a broker that is near its limit: a 32nd of that is worth it, however busy it is. */
bool memory_pressed_due(
    struct memory_watch *mw, int64_t private_bytes, int64_t used_bytes, uint64_t limit, uint64_t now_ms);

/* The C library's heaps, for so many workers. */
void memory_setup(unsigned workers);
/* The watch; GRAPNEL_ENOMEM. */
int memory_start(struct broker *b);
void memory_stop(struct broker *b);
void memory_look_now(struct broker *b); /* a worker has taken in much */

#endif
