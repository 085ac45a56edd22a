/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check - the conformance kit: is this shared object a plugin that a broker should load?
 *
 * Each part looks at one side of it and says a line for each thing: in order, a warning, or a fault with what to do.
 */
#ifndef SDK_TOOL_CHECK_H
#define SDK_TOOL_CHECK_H

#include <grapnel/plugin.h>

enum checked { CHECK_OK, CHECK_WARNING, CHECK_FAIL };
struct check {
	const char *path;
	bool quiet; /* only what is not in order */
	unsigned count[3];
	bool sanitized; /* built with a sanitizer: some of it says nothing then */
	const char *runtime; /* a function of that sanitizer's library, if it cannot be loaded late; NULL: it can */
};
void check_say(struct check *c, enum checked how, const char *what, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* check_elf.c; false: it is no shared object, and nothing else can be looked at. */
bool check_elf(struct check *c);
/* check_descriptor.c; as many bytes of it as the object has, the rest zero. */
bool check_descriptor(struct check *c, const struct grapnel_plugin *d, size_t symbol_size);
/* check_options.c; false: it has a required option, so that it cannot be created without a section. */
bool check_options(struct check *c, const struct grapnel_option *table);

#endif
