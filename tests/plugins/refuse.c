/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refuse - one module for each thing that the loader must not accept; which one is chosen when it
 * is compiled
 *
 *	REFUSE_MAGIC REFUSE_MAJOR REFUSE_MINOR REFUSE_SIZE REFUSE_TINY REFUSE_NO_DESCRIPTOR
 *	REFUSE_FUNCTION REFUSE_UNRESOLVED
 *	REFUSE_NO_CREATE REFUSE_CREATE REFUSE_WORKER_START
 * None of them: it loads, and has one option of each type; `needed` is required.
 */
#include <grapnel/plugin.h>

#if defined(REFUSE_TINY)
#ifdef __clang__ /* AddressSanitizer would make it larger than it is */
#define NOT_PADDED __attribute__((no_sanitize("address")))
#else
#define NOT_PADDED
#endif
extern GRAPNEL_EXPORT const uint64_t grapnel_plugin;
NOT_PADDED GRAPNEL_EXPORT const uint64_t grapnel_plugin = GRAPNEL_PLUGIN_MAGIC;
#elif defined(REFUSE_FUNCTION)
extern GRAPNEL_EXPORT int grapnel_plugin(void);
GRAPNEL_EXPORT int
grapnel_plugin(void)
{
	return 0;
}
#elif defined(REFUSE_NO_DESCRIPTOR)
extern GRAPNEL_EXPORT const int something_else;
GRAPNEL_EXPORT const int something_else = 1;
#else

#ifdef REFUSE_UNRESOLVED
int nobody_has_this_function(void);
#endif

#ifndef REFUSE_NO_CREATE
static int
refuse_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	(void)host;
	(void)self;
	*instance = NULL;
#if defined(REFUSE_UNRESOLVED)
	return nobody_has_this_function();
#elif defined(REFUSE_CREATE)
	return GRAPNEL_ESYS;
#else
	return GRAPNEL_OK;
#endif
}
#endif

#ifdef REFUSE_WORKER_START
static int
refuse_worker_start(void *instance, unsigned worker)
{
	(void)instance;
	(void)worker;
	return GRAPNEL_ESYS;
}
#endif

static const struct grapnel_option refuse_options[] = { { .name = "count",
							    .type = GRAPNEL_OPTION_INT,
							    .default_value = "1",
							    .min = 1,
							    .max = 9,
							    .help = "How many." },
#ifndef REFUSE_WORKER_START
	{ .name = "needed",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Something it cannot do without." },
#endif
	{ .name = "switch",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "On or off." },
	{ 0 } };

#ifndef REFUSE_MAGIC
#define REFUSE_MAGIC GRAPNEL_PLUGIN_MAGIC
#endif
#ifndef REFUSE_MAJOR
#define REFUSE_MAJOR GRAPNEL_ABI_MAJOR
#endif
#ifndef REFUSE_MINOR
#define REFUSE_MINOR 0
#endif
#ifndef REFUSE_SIZE
#define REFUSE_SIZE sizeof(struct grapnel_plugin)
#endif

/* By hand, because the macro does not allow such faults. */
extern GRAPNEL_EXPORT const struct grapnel_plugin grapnel_plugin;
GRAPNEL_EXPORT const struct grapnel_plugin grapnel_plugin = {
	.magic = REFUSE_MAGIC,
	.abi_major = REFUSE_MAJOR,
	.abi_minor = GRAPNEL_ABI_MINOR,
	.required_minor = REFUSE_MINOR,
	.size = REFUSE_SIZE,
	.name = "refuse",
	.version = "1.0",
	.license = "Apache-2.0",
	.options = refuse_options,
#ifndef REFUSE_NO_CREATE
	.create = refuse_create,
#endif
#ifdef REFUSE_WORKER_START
	.worker_start = refuse_worker_start,
#endif
};
#endif
