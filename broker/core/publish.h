/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish - handlers of single packet types, and the steps in which they wait for plugins
 *
 * publish.c	PUBLISH			subscribe.c	SUBSCRIBE, UNSUBSCRIBE
 * acks.c	PUBACK ... PUBCOMP, and acknowledgements that plugins hold
 * packets.c	everything else, and dispatch
 *
 * A step is one packet that is being decided. It runs as far as it can at once; where a plugin answers later it becomes
 * c->step, reading is paused, and the answer's callback goes on with it. So the packets of one Client keep their order.
 */
#ifndef BROKER_CORE_PUBLISH_H
#define BROKER_CORE_PUBLISH_H

#include "core/conn.h"

struct step { /* embedded first in the packet's own struct */
	struct conn *c;
	struct grapnel_request *pending;
	void (*free_fn)(struct step *st);
};
enum outcome { GO_ON, WAIT, DONE };

void step_wait(struct step *st);  /* it waits: becomes c->step, reading pauses */
void step_resumed(struct step *st); /* its answer is here: no longer c->step; pending is NULL */
void step_end(struct conn *c);	  /* a step that had waited is done: route, acknowledge, read on */

enum handled packet_malformed(struct conn *c, uint8_t reason_code, const char *why); /* ends the batch, closes */
enum handled on_publish(struct conn *c, const struct mqtt_frame *f, const uint8_t *body);
enum handled on_subscribe(struct conn *c, const struct mqtt_frame *f, const uint8_t *body);
enum handled on_unsubscribe(struct conn *c, const struct mqtt_frame *f, const uint8_t *body);
enum handled on_ack(struct conn *c, const struct mqtt_frame *f, const uint8_t *body);

/*
 * Send an acknowledgement, or hold it for message_acknowledge, behind those that are held. msg may be NULL.
 * The Reason String is copied; .data NULL: none.
 */
void ack_send(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code, struct grapnel_str reason_string,
    const struct message *msg);
/* Messages that only wait for a plugin or the store to be acknowledged; those in the session's `received` are not counted again. */
unsigned acks_unsent(const struct conn *c);
bool held_ack_has(const struct conn *c, uint8_t type, uint16_t packet_id);
/* PUBREC for a PUBLISH that came again: the message was taken in before. */
void ack_again(struct conn *c, uint16_t packet_id);
/* At once, whatever waits: gates.c. */
void ack_out_now(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code, struct grapnel_str reason_string);
/* The message is not taken in: when it comes again it is a new one. */
void ack_refused(struct conn *c, uint8_t type, uint16_t packet_id);
void acks_pause(struct conn *c);
void acks_resume(struct conn *c);

#endif
