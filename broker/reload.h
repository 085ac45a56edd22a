/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reload - a new configuration while clients stay connected: all of it or nothing
 *
 * Threads: main.
 */
#ifndef BROKER_RELOAD_H
#define BROKER_RELOAD_H

#include "config/conf.h"
#include "config/settings.h"

struct broker;
struct plugins;

/*
 * Read the configuration again, check all of it, prepare the plugins; only then switch: log, limits, listeners'
 * sections, plugins, rights. What changed, or every error, is logged.
 *
 * @param done  NULL, or called on main exactly once if this returns GRAPNEL_OK (perhaps before it returns): with
 *              GRAPNEL_OK, or an error when a plugin did not start and the old configuration goes on.
 * @return GRAPNEL_OK: under way; GRAPNEL_ESTATE: another one is, or the broker is stopping; else nothing was
 *         changed and errs says why.
 */
int broker_reload(struct broker *b, struct conf_errors *errs, void (*done)(void *arg, int err), void *arg);

/* At start and at reload: does this configuration with these plugins make sense as a whole? Messages say what to write. */
bool broker_check(const struct settings *s, const struct plugins *p, struct conf_errors *errs);
/* What is allowed but should be known. */
void broker_warn(const struct settings *s, const struct plugins *p);

/* Put a copy of `limits` in force. Copies live as long as the broker: workers read them without asking. */
int broker_limits_set(struct broker *b, const struct limits *limits);
void broker_limits_free(struct broker *b);

#endif
