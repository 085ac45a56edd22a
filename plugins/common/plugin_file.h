/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plugin_file - files that options of a plugin name, read in create()
 *
 * Threads: the main thread, in create(). What is wrong is said by config_error, with the option; a file that others can read
 * or change is a warning.
 */
#ifndef PLUGINS_COMMON_PLUGIN_FILE_H
#define PLUGINS_COMMON_PLUGIN_FILE_H

#include "passwd_file.h"
#include "read_file.h"

#include <grapnel/plugin.h>
#include <limits.h>

/* A whole file; *name becomes the path as a C string. false: said why. */
bool plugin_file_read(const struct grapnel_host *host, struct grapnel_instance *self, const char *option,
    struct grapnel_str path, size_t max_bytes, char name[PATH_MAX], struct file_text *text);
/* A password file; NULL: said why. */
struct passwd_file *plugin_file_passwords(const struct grapnel_host *host, struct grapnel_instance *self,
    const char *option, struct grapnel_str path);

#endif
