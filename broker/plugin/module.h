/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module - a plugin's shared object, loaded and checked
 *
 * What is loaded is a private copy of the file: dlopen of a path whose file was replaced by an
 * upgrade would hand out the old object again, and a file that is overwritten in place would
 * change under the running code. Instances of one file share one module; "one file" is device,
 * inode, size and time of change.
 *
 * Threads:   main.
 * Ownership: counted; the last module_unref unloads it.
 */
#ifndef BROKER_PLUGIN_MODULE_H
#define BROKER_PLUGIN_MODULE_H

#include <grapnel/plugin.h>
#include <sys/types.h>
#include <time.h>

struct module {
	struct module *next;
	unsigned refs;
	char *path;
	dev_t device;
	ino_t inode;
	off_t file_size;
	struct timespec changed;
	int fd; /* of the copy: kept open, so that its name stays ours alone */
	void *handle;
	struct grapnel_plugin descriptor; /* as much as the plugin has; the rest is zero */
};

#define MODULE_ERROR_SIZE 512
/*
 * @param loaded  List of what is loaded already; a new module is added.
 * @return NULL with the reason in error, without the name of the file.
 */
struct module *module_load(struct module **loaded, const char *path, char error[MODULE_ERROR_SIZE]);
/* Has its file been replaced since? One that is not there any more, or cannot be looked at, has not. */
bool module_replaced(const struct module *m);
/* unload false: code of it may still run; what is mapped stays. NULL is fine. */
void module_unref(struct module **loaded, struct module *m, bool unload);

#endif
