/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client - what a foreign plugin has as struct mosquitto, and where they are found
 *
 * As in Mosquitto there is one for each Network Connection: made when its login is asked about, or when it is let in, and gone
 * after its MOSQ_EVT_DISCONNECT. The broker's slot of a client would not do, since there is none before the login, and a reload
 * brings a new one while the foreign plugin goes on. So they are found by listener, peer and Client Identifier. About
 * clients that are not there (a session that is offline, a TLS handshake) one is made for the question.
 *
 * Threads:   any, under the table's lock; the part that the foreign plugin sees, and `shown`, are the engine's thread's.
 * Ownership: counted: the table, and each call that is about it.
 * Bounded:   as connections are (max_connections); a login of which nothing more is heard is forgotten after CLIENT_STALE_MS.
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_CLIENT_H
#define PLUGINS_MOSQUITTO_COMPAT_CLIENT_H

#include "helper.h"

#include <grapnel/host.h>
#include <pthread.h>
#include <stdatomic.h>

#define CLIENT_STALE_MS 600000u

struct client {
	struct mosquitto seen; /* stands first */
	_Atomic unsigned refs;
	_Atomic bool shown;    /* the foreign plugin had it in a callback: it wants to hear of its end */
	char *named;	       /* the engine's thread's: what the foreign plugin called it in its last login; NULL: nothing */
	char *mountpoint;      /* constant from when it is connected; under the lock */
	/* constant */
	char *listener, *peer;
	uint64_t hash, since_ms;
	/* under the lock */
	struct client *next;	       /* of the bucket, youngest first */
	struct client *older, *newer;  /* of those that are not let in yet */
	bool connected, listed;
	bool unwanted; /* was to be disconnected while it was not let in yet */
};

struct clients {
	pthread_mutex_t lock;
	struct client **buckets;
	size_t bucket_count, count;
	struct client *oldest, *newest; /* login under way */
	uint64_t seed;
};

bool clients_init(struct clients *cs, const struct grapnel_host *host);
void clients_fini(struct clients *cs); /* drops what is in it */
size_t clients_count(struct clients *cs);

/* All that yield one add a reference for the caller; NULL: no memory, or where it is said. */
struct client *client_new(struct engine_head *engine, const struct grapnel_client_info *info);
/* The one of a login, new, in the table. */
struct client *clients_login(struct clients *cs, struct engine_head *engine, const struct grapnel_client_info *info, uint64_t now_ms);
/* The one of that connection; NULL: there is none. */
struct client *clients_find(struct clients *cs, const struct grapnel_client_info *info);
/* It is let in. *unwanted: clients_expel() has named it before. */
struct client *clients_connected(struct clients *cs, struct engine_head *engine, const struct grapnel_client_info *info, uint64_t now_ms,
    bool *unwanted);
/* Its connection, or its login, is over: out of the table. NULL: there is none. */
struct client *clients_gone(struct clients *cs, const struct grapnel_client_info *info, bool was_connected);
/* One whose login has been forgotten: out of the table. NULL: there is none. */
struct client *clients_stale(struct clients *cs, uint64_t now_ms);
void client_unref(struct client *c); /* NULL is fine */

/*
 * Whom the foreign plugin wants to be rid of: fn is called with each that wanted() names and that is let in; of one whose login is under
 * way clients_connected() says it. Both under the lock: they must not call what takes it. On the engine's thread.
 */
void clients_expel(struct clients *cs, bool (*wanted)(void *arg, const struct client *c),
    void (*fn)(void *arg, const struct client *c), void *arg);

/*
 * Into *out, heap, the mountpoint of whoever that Client Identifier is; "" if nobody is. about: who counts before all others,
 * if it is called so; NULL: nobody does. false: several have it (*out NULL then, without memory, too).
 */
bool clients_mountpoint(struct clients *cs, const char *client_id, const struct client *about, char **out);

#endif
