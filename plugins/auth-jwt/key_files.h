/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key_files - the keys that the options name: key, secret, key_directory, jwks_file
 *
 * Blocks: for create().
 */
#ifndef PLUGINS_AUTH_JWT_KEY_FILES_H
#define PLUGINS_AUTH_JWT_KEY_FILES_H

#include "keyset.h"

#include <grapnel/plugin.h>

/* All of them, into set; every fault is said (config_error), not only the first. */
bool key_files_read(const struct grapnel_host *host, struct grapnel_instance *self, const struct key_limits *limits,
    struct keyset *set);

#endif
