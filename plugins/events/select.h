/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select - which events somebody wants: options, and the question about one event
 *
 *	events = [client_connected, message_published]	default: all
 *	topics = ["plant/#"]		events about a message, or a subscription, only with such a Topic Name or Filter
 *	clients = ["sensor-*"]		patterns with * and ? of the Client Identifier
 *	users = ["*"]			and of the user name
 *	sample = 100			one of so many
 *	sample_by = event | client	each by itself, or all or none of a client's
 *
 * An event without a client (broker_ready) passes clients and users, one without a topic passes topics. GAP passes all: it
 * says that others are missing. Nothing about a topic beginning with $SYS/ passes, unless a filter of `topics` names it.
 *
 * Threads:   a selection is immutable; use it on any. Sampling needs no state: it follows from the event's id or its client.
 * Ownership: select_new gives a heap object.
 */
#ifndef PLUGINS_EVENTS_SELECT_H
#define PLUGINS_EVENTS_SELECT_H

#include <grapnel/plugin.h>

struct selection; /* opaque: select.c */

/* Rows of the option table for a section (or block) that has a selection, in the order of their names: clients, events, ... */
extern const struct grapnel_option select_options[];
#define SELECT_OPTION_COUNT 6u

/*
 * Read it from the section, or the block of it. NULL: host->config_error was told, or there is no memory.
 * @param possible  Events that the writer knows how to write (GRAPNEL_EVENT_BITs); one that is asked for by name and is not
 *                  possible is an error. `why` is how the error says who cannot: "format = vernemq".
 * @threads create().
 */
struct selection *select_new(const struct grapnel_host *host, const struct grapnel_instance *self,
    const struct grapnel_block *block, uint64_t possible, const char *why);
void select_free(struct selection *s); /* NULL is fine */
uint64_t select_mask(const struct selection *s); /* GRAPNEL_EVENT_BITs, GAP's always */
bool select_wants(const struct selection *s, const struct grapnel_event *ev);
/* Might it want GRAPNEL_EVENT_MESSAGE_PUBLISHED for this message of this client? Sampling counts as yes. */
bool select_may_want_publish(
    const struct selection *s, const struct grapnel_client_info *client, const struct grapnel_message_info *message);

#endif
