/* SPDX-License-Identifier: Apache-2.0 */
/*
 * privileges - from root to the user of the configuration
 *
 * Threads: main, before any other runs.
 */
#ifndef BROKER_PRIVILEGES_H
#define BROKER_PRIVILEGES_H

struct conf_errors;
struct settings;

/*
 * Become settings->user and group for good when we are root and a user is set; otherwise nothing happens.
 * GRAPNEL_EINVAL, GRAPNEL_ESYS: one message says why.
 */
int privileges_drop(const struct settings *s, struct conf_errors *errs);
/* Staying root is allowed; when the log is open, say that it should not be. */
void privileges_warn(const struct settings *s);

#endif
