/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select - which events somebody wants: options, and the question about one event
 *
 *	events = [client_connected, message_published]	default: all
 *	topics = ["plant/#"]		events about a message, or a subscription, only with such a Topic Name or Filter
 *	clients = ["sensor-*"]		patterns with * and ? of the Client Identifier
 *	users = ["*"]			and of the user name; a client that gave none matches no pattern
 *	sample = 100			one of so many
 *	sample_by = event | client	each by itself, or all or none of a client's
 *
 * Who an event is about: its client, else the author of its message. One about nobody (broker_ready) passes clients and users,
 * one without a topic passes topics. What says how the broker is (broker_starting, broker_ready, broker_stopping) and GAP pass
 * all of them and sampling: GAP says that others are missing. No message with a Topic Name beginning with $SYS/ passes, unless
 * a filter of `topics` names it. A subscription passes when one of `topics` covers its Topic Filter ($share/NAME/ aside).
 *
 * Threads:   a selection is immutable; use it on any. Sampling needs no state: it follows from the event's id or its client.
 * Ownership: select_new gives a heap object, which borrows the instance's options.
 * Bounded:   by the options. A pattern or filter costs at most (its length) x (that of the name), without recursion.
 */
#ifndef PLUGINS_EVENTS_SELECT_H
#define PLUGINS_EVENTS_SELECT_H

#include <grapnel/plugin.h>

struct selection; /* opaque: select.c */

/*
 * Rows for the option table of a section (or block) that has a selection, each to be put where its name belongs: tables are
 * in the order of the names. All six are needed.
 */
/* clang-format off */
#define SELECT_ROW_CLIENTS \
	{ .name = "clients", .type = GRAPNEL_OPTION_LIST, \
	  .help = "Patterns of Client Identifiers, with * and ?: only events about such clients; default: all." }
#define SELECT_ROW_EVENTS \
	{ .name = "events", .type = GRAPNEL_OPTION_LIST, \
	  .help = "Names of the events that are wanted, as in grapnel-events(7); default: all." }
#define SELECT_ROW_SAMPLE \
	{ .name = "sample", .type = GRAPNEL_OPTION_INT, .default_value = "1", .min = 1, .max = 1000000000, \
	  .help = "One of so many events, or clients, is taken." }
#define SELECT_ROW_SAMPLE_BY \
	{ .name = "sample_by", .type = GRAPNEL_OPTION_ENUM, .default_value = "event", .choices = "event|client", \
	  .help = "What is counted: events, or clients, of which then all or none are taken." }
#define SELECT_ROW_TOPICS \
	{ .name = "topics", .type = GRAPNEL_OPTION_LIST, \
	  .help = "Topic Filters: events about messages and subscriptions only with such a topic; default: all but $SYS/." }
#define SELECT_ROW_USERS \
	{ .name = "users", .type = GRAPNEL_OPTION_LIST, \
	  .help = "Patterns of user names, with * and ?: only events about clients with such a name; default: all." }
/* clang-format on */

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
