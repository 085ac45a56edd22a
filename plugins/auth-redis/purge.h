/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purge - hears from the server whose data has changed, and tells the broker
 *
 * By a channel on which user names are published (purge_channel; "" or "*" for everybody), by keyspace notifications of the keys
 * that templates make, or both. What was said while the connection was lost nobody heard: when it is back, everybody is
 * asked about again.
 *
 * Threads:   one worker; one of the instance has it.
 */
#ifndef AUTH_REDIS_PURGE_H
#define AUTH_REDIS_PURGE_H

#include "keeper.h"

struct purge;
struct purge *purge_new(struct instance *a); /* NULL: no memory */
void purge_free(struct purge *p);	     /* NULL is fine */

#endif
