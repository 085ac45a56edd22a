/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gather - ask every worker for its clients and put the answers together
 *
 * One piece of mail goes to each worker and comes back to the main thread with a JSON array.
 *
 * Threads: main.
 */
#ifndef BROKER_ADMIN_GATHER_H
#define BROKER_ADMIN_GATHER_H

#include "core/describe.h"

struct api_call;

/* clients: all workers' answers in one array, ordered by client id and mountpoint; borrowed. NULL: out of memory. */
typedef void (*gather_fn)(struct api_call *call, json_t *clients, const struct client_query *q);

/* The query is copied. done runs later on main, exactly once; false: no memory, it will not run. */
bool gather_clients(struct api_call *call, const struct client_query *q, gather_fn done);

#endif
