/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deciding - deliveries that somebody is asked about before they leave: READ, message_deliver, READ of what that made of it
 *
 * The flow has them in the order they leave in, which is the order they were queued in; deliver.c sends or drops them once
 * they are decided.
 *
 * Threads: the session's worker.
 */
#ifndef BROKER_CORE_DECIDING_H
#define BROKER_CORE_DECIDING_H

#include "core/session.h"

enum pending_state { ASK_READ, ASK_HOOK, ASK_READ_AGAIN, WAITING, RETRY, SEND, DROP };

struct pending_delivery {
	struct pending_delivery *next;
	struct session *s;
	struct entry e;
	struct grapnel_request *request;
	const char *drop_why;
	enum metric drop_metric;
	uint16_t resend_id;   /* retransmission of that Packet Identifier; 0: a new message */
	uint8_t state, stage; /* enum pending_state; stage: what WAITING waits for */
};

/*
 * At the end of the session's list; takes over the references of e. resend_id: the Packet Identifier that it is in flight with;
 * 0: it is new. NULL: no memory.
 */
struct pending_delivery *pending_new(struct session *s, const struct entry *e, uint16_t resend_id);
/* Ask what is still to be asked; ends in SEND, DROP, RETRY or WAITING. */
void pending_go(struct pending_delivery *pd);
void pending_remove_first(struct session *s); /* the references of its entry are the caller's */

#endif
