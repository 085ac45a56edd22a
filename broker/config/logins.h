/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logins - the login names of this machine's users
 *
 * From /etc/passwd itself, as it was at the start and at each reload: getpwuid may ask a server, which a worker must not
 * wait for. Users that only such a server knows have no name here.
 *
 * Threads:   read on main; constant then.
 */
#ifndef BROKER_CONFIG_LOGINS_H
#define BROKER_CONFIG_LOGINS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct logins;

/* NULL: errno says why. Lines that make no sense are left out. */
struct logins *logins_read(const char *path);
void logins_free(struct logins *l); /* NULL is fine */
const char *logins_find(const struct logins *l, uid_t uid); /* the first of those with this uid; NULL: none */

#endif
