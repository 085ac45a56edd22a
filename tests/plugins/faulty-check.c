/* SPDX-License-Identifier: Apache-2.0 */
/* faulty-check - what `grapnel-plugin check` has to refuse, as much of it as one object can have at once */
#include <grapnel/plugin.h>
#include <signal.h>

GRAPNEL_EXPORT int surplus(void);
int
surplus(void)
{
	return 1;
}

__attribute__((constructor)) static void
side_effect(void)
{
	(void)signal(SIGUSR2, SIG_IGN);
}

static int
faulty_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	(void)host;
	(void)self;
	*instance = NULL;
	return GRAPNEL_OK;
}

static int
faulty_listener_open(void *instance, const struct grapnel_listener *l)
{
	(void)instance;
	(void)l;
	return GRAPNEL_OK;
}

static const struct grapnel_option faulty_options[] = {
	{ .name = "Name", .type = GRAPNEL_OPTION_STRING, .help = "An upper-case letter." },
	{ .name = "timeout", .type = GRAPNEL_OPTION_STRING, .help = "The broker has one, too." },
	{ .name = "number",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "11",
	    .min = 1,
	    .max = 10,
	    .help = "The default is out of range." },
	{ .name = "number", .type = GRAPNEL_OPTION_INT, .min = 1, .max = 10, .help = "Twice." },
	{ .name = "backwards",
	    .type = GRAPNEL_OPTION_INT,
	    .min = 10,
	    .max = 1,
	    .help = "No number." },
	{ .name = "boundless", .type = GRAPNEL_OPTION_INT, .help = "Any number." },
	{ .name = "choice", .type = GRAPNEL_OPTION_ENUM, .help = "No choices." },
	{ .name = "flagged", .type = GRAPNEL_OPTION_STRING, .flags = 1u << 30, .help = "A flag." },
	{ .name = "silent", .type = GRAPNEL_OPTION_STRING },
	{ .name = "unknown", .type = (enum grapnel_option_type)77, .help = "A type." },
	{ .name = "password",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .default_value = "secret",
	    .help = "No secret." },
	{ .name = NULL },
};

GRAPNEL_PLUGIN(Faulty_check, .options = faulty_options, .create = faulty_create,
    .listener_open = faulty_listener_open, .events = 1);
