/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commander - a command whose answer comes at once or later; its name is the instance's
 *
 *	now		"now", before it returns
 *	fail		error -2, with an answer that says why
 *	thread		"thread", later, from a thread of the plugin
 *	twice		"once", from a worker, and then once more
 *	before		"before": GRAPNEL_COMMAND_LATER after it has replied
 *	keep		"kept", when `release` is asked for, or destroy() comes
 *	release		how many were kept
 *	never		nothing at all
 */
#include "match.h"
#include <pthread.h>
#include <stdio.h>

#define KEPT_MAX 16u

typedef void (*reply_fn)(void *ctx, struct grapnel_str json);
struct owed {
	reply_fn reply;
	void *ctx;
};

struct commander {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct owed kept[KEPT_MAX];
	unsigned kept_count;
	pthread_t thread;
	bool has_thread;
	struct owed of_thread, of_worker;
};

static void
twice(void *arg)
{
	struct commander *c = arg;

	c->of_worker.reply(c->of_worker.ctx, GRAPNEL_STR("\"once\""));
	c->of_worker.reply(c->of_worker.ctx, GRAPNEL_STR("\"again\""));
}

static void *
thread_run(void *arg)
{
	struct commander *c = arg;

	c->of_thread.reply(c->of_thread.ctx, GRAPNEL_STR("\"thread\""));
	return NULL;
}

static void
thread_end(struct commander *c)
{
	if (c->has_thread)
		pthread_join(c->thread, NULL);
	c->has_thread = false;
}

static unsigned
release(struct commander *c)
{
	unsigned n = c->kept_count;

	for (unsigned i = 0; i < n; i++)
		c->kept[i].reply(c->kept[i].ctx, GRAPNEL_STR("\"kept\""));
	c->kept_count = 0;
	return n;
}

static bool
is(const struct grapnel_command *command, const char *word)
{
	return command->argument_count == 1 && command->arguments[0].len == strlen(word) &&
	    memcmp(command->arguments[0].data, word, strlen(word)) == 0;
}

static int
commander_run(void *arg, const struct grapnel_command *command, reply_fn reply, void *ctx)
{
	struct commander *c = arg;
	char number[16];

	if (is(command, "now")) {
		reply(ctx, GRAPNEL_STR("\"now\""));
		return GRAPNEL_OK;
	}
	if (is(command, "fail")) {
		reply(ctx, GRAPNEL_STR("{\"error\":\"not today\"}"));
		return GRAPNEL_EINVAL;
	}
	if (is(command, "before")) {
		reply(ctx, GRAPNEL_STR("\"before\""));
		return GRAPNEL_COMMAND_LATER;
	}
	if (is(command, "thread")) {
		thread_end(c);
		c->of_thread = (struct owed){ reply, ctx };
		c->has_thread = pthread_create(&c->thread, NULL, thread_run, c) == 0;
		return c->has_thread ? GRAPNEL_COMMAND_LATER : GRAPNEL_ESYS;
	}
	if (is(command, "twice")) {
		c->of_worker = (struct owed){ reply, ctx };
		return c->host->post(c->self, 0, twice, c) == GRAPNEL_OK ? GRAPNEL_COMMAND_LATER
									 : GRAPNEL_ESTATE;
	}
	if (is(command, "keep") && c->kept_count < KEPT_MAX) {
		c->kept[c->kept_count++] = (struct owed){ reply, ctx };
		return GRAPNEL_COMMAND_LATER;
	}
	if (is(command, "release")) {
		(void)snprintf(number, sizeof(number), "%u", release(c));
		reply(ctx, (struct grapnel_str){ number, strlen(number) });
		return GRAPNEL_OK;
	}
	return is(command, "never") ? GRAPNEL_COMMAND_LATER : GRAPNEL_EINVAL;
}

static void
commander_destroy(void *instance)
{
	struct commander *c = instance;

	thread_end(c);
	release(c);
	free(c);
}

static int
commander_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct commander *c = calloc(1, sizeof(*c));
	struct grapnel_str name = host->instance_name(self);
	char command[64];

	if (c == NULL)
		return GRAPNEL_ENOMEM;
	c->host = host;
	c->self = self;
	(void)snprintf(command, sizeof(command), "%.*s", (int)name.len, name.data);
	if (host->command_new(self, command, "Answers in many ways", commander_run, c) !=
	    GRAPNEL_OK) {
		free(c);
		return GRAPNEL_ENOMEM;
	}
	*instance = c;
	return GRAPNEL_OK;
}

static const struct grapnel_option commander_options[] = {
	{ .name = "tag",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Anything; another one makes a reload replace the instance." },
	{ 0 }
};

GRAPNEL_PLUGIN(commander, .version = "1.0", .license = "Apache-2.0",
    .description = "Answers commands at once or later", .options = commander_options,
    .create = commander_create, .destroy = commander_destroy, );
