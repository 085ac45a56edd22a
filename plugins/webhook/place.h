/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place - whose turn it is at an outbox
 *
 * At a reload the old and the new instance overlap; an outbox belongs to one of them at a time. The new one stands behind the
 * old one, and gets the open database from its hands: so one that is only in memory survives.
 *
 * Two sections with one outbox would stand behind each other for ever: an instance claims its key first.
 *
 * Threads:   any.
 * Ownership: a place is who entered it.
 */
#ifndef PLUGINS_WEBHOOK_PLACE_H
#define PLUGINS_WEBHOOK_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outbox;
struct place;

/* Instances of one name share a key. false: it is another's, whose name *whose gets; "": no memory. */
bool place_claim(const char *key, const char *name, char *whose, size_t whose_size);
void place_unclaim(const char *key);

/* Behind all who have entered with the same key. NULL: no memory. */
struct place *place_enter(const char *key);
/* Is it our turn? Waits for it for so long at most. *o: the outbox of the one before; NULL: it is to be opened. */
bool place_wait(struct place *p, uint32_t timeout_ms, struct outbox **o);
bool place_followed(struct place *p); /* somebody stands behind. Asked by one that is to leave soon */
bool place_is_near(struct place *p); /* who has its turn has asked that */
/* Gone. @return false: nobody is behind, the outbox is still the caller's to close. */
bool place_leave(struct place *p, struct outbox *o);

#endif
