/* SPDX-License-Identifier: Apache-2.0 */
/* grant_time - a moment as backends write it. Pure; private to grant.c and its test. */
#ifndef PLUGINS_COMMON_GRANT_TIME_H
#define PLUGINS_COMMON_GRANT_TIME_H

#include <grapnel/types.h>

/*
 * Seconds since 1970 as the ABI's valid_until has them: 0 for no end ("0", "infinity"), and 1 for any moment before 1970-01-01
 * 00:00:01, which is over all the same. Fractions of a second are cut. false: not a time.
 */
bool grant_time(struct grapnel_str text, int64_t *out);

#endif
