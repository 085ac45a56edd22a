/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard - who guesses passwords is slowed down, then kept out
 *
 * An address (IPv6: its /64) has a bucket of failed logins, of which one is forgiven every `forgive`; when it is full the address
 * is banned: its connections are closed at accept, for `ban`, each further time for twice as long, up to `ban_max`. A ban that
 * ended more than `ban_max` ago does not count. Bans and their number outlive the process, failures do not.
 * After `delay_after` failures of one user name from one address, logins with that name from there wait before they are
 * asked about. Nothing is ever done by user name or Client Identifier alone: a stranger could lock a device out. Peers of Unix
 * sockets, and addresses in `except`, are not watched.
 *
 * Threads:   any; one mutex, under which that of the store's small rows may be taken. What is asked at accept and at each login
 *            costs one load while nobody has failed.
 * Bounded:   `addresses` entries of 96 bytes; when they are all used, the one that was quiet for longest goes, banned ones last.
 *            Slots are chosen by a keyed hash.
 */
#ifndef BROKER_NET_GUARD_H
#define BROKER_NET_GUARD_H

#include "config/settings.h"

#include <jansson.h>
#include <sys/socket.h>

struct broker;
struct guard;
struct row_ban;
struct row_clock;

struct guard *guard_new(const struct broker *b); /* NULL: no memory */
void guard_free(struct guard *g);		 /* NULL is fine */
/* At start and at a reload. false: no memory, the old settings stay. */
bool guard_apply(struct guard *g, const struct guard_settings *s);

/* What the store of the broker knows, before anybody asks. What cannot be read is logged. */
void guard_load(struct guard *g);
/* One row of it. false: it is of no use any more. */
bool guard_restore(struct guard *g, struct grapnel_str address, const struct row_ban *ban, const struct row_clock *clock,
    uint64_t now_ms);

/* May it come in? */
bool guard_admits(struct guard *g, const struct sockaddr *peer, uint64_t now_ms);
/*
 * Before a login is asked about; peer as conn_peer() has it. @return milliseconds to wait; UINT32_MAX: too many wait already,
 * refuse it.
 */
uint32_t guard_wait(struct guard *g, const char *peer, struct grapnel_str username, uint64_t now_ms);
/* It was refused for its credentials. @return for how long its address is banned by that, in milliseconds; 0: it is not. */
uint64_t guard_failed(struct guard *g, const char *peer, struct grapnel_str username, uint64_t now_ms);
/* It was let in: what that name from there did before is forgiven. */
void guard_passed(struct guard *g, const char *peer, struct grapnel_str username);

struct guard_counts {
	uint32_t watched, banned;
	uint64_t bans, delayed, failures;
};
void guard_counts(struct guard *g, uint64_t now_ms, struct guard_counts *out);
/* [{"address", "banned_for" (seconds left), "bans"}], at most `most`. NULL: no memory. */
json_t *guard_list(struct guard *g, uint64_t now_ms, unsigned most);
/* Lift the ban of an address, as text without port, or of all (NULL). @return how many. */
unsigned guard_lift(struct guard *g, const char *address);

#endif
