/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command - admin commands that plugins offer, and their answers, which may come later
 *
 * What a plugin gets as `ctx` is a number and no address: a reply that comes twice, too late or after its instance has gone finds
 * nothing and does nothing.
 *
 * Threads:   main, but for the plugin's reply, which any thread may call. One lock, a leaf but for the mailbox of main.
 * Bounded:   as many as the admin API has calls; each has a time limit.
 */
#ifndef BROKER_PLUGIN_COMMAND_H
#define BROKER_PLUGIN_COMMAND_H

#include "instance.h"

/* The instance goes, destroy() has returned: whatever it still owes is answered with COMMAND_GONE. */
void commands_drop(struct instance *in);

#endif
