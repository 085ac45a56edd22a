/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls - between questions and callbacks
 *
 * Threads: the engine's, but for properties_read.
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_CALLS_H
#define PLUGINS_MOSQUITTO_COMPAT_CALLS_H

#include "engine.h"
#include "helper_functions.h"

#define REASON_ADMINISTRATIVE 0x98 /* Administrative action: who is to be disconnected */

/* Something that rights hang on may have changed: kept answers are forgotten, where some are kept. */
void calls_rights_changed(struct engine *e);

/* properties.c. An encoded block as a list. false: no memory. @threads any. */
bool properties_read(const struct grapnel_host *host, struct grapnel_str block, struct mqtt5__property **list);
bool properties_equal(const struct mqtt5__property *a, const struct mqtt5__property *b);
/* For an answer; strings are borrowed from the list. NULL with *count > 0: no memory. */
struct grapnel_property *properties_to_host(const struct mqtt5__property *list, size_t *count);

#endif
