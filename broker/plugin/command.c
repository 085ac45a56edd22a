/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"
#include "base/log.h"
#include "core/broker.h"
#include "plugins.h"
#include <stdlib.h>
#include <string.h>

struct command {
	struct mail mail; /* first: mail and command are one address */
	struct worker *main;
	struct instance *in; /* gone when a reply has been posted before destroy() returned */
	command_done_fn done;
	void *arg;
	struct timer limit; /* main's wheel; armed once fn has returned GRAPNEL_COMMAND_LATER */
	int err;            /* what fn returned */
	/* under `lock` */
	struct command *next, **link; /* of `open`; link NULL: its answer is decided */
	uintptr_t number;
	bool running; /* fn has not returned */
	bool given;
	char *text; /* NULL though given: no memory */
	size_t len;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct command *open_commands;
static uintptr_t last_number;

static void
list_locked(struct command *c)
{
	c->number = ++last_number;
	c->next = open_commands;
	c->link = &open_commands;
	if (c->next != NULL)
		c->next->link = &c->next;
	open_commands = c;
}

static void
unlist_locked(struct command *c)
{
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	c->link = NULL;
}

static void
finish(struct command *c, enum command_end end)
{
	struct command_result result = { .end = end,
		.err = c->err == GRAPNEL_COMMAND_LATER ? GRAPNEL_OK : c->err,
		.given = c->given,
		.text = { c->text, c->len } };

	timer_disarm(c->main->wheel, &c->limit);
	c->done(c->arg, &result);
	free(c->text);
	free(c);
}

static void
on_reply_mail(struct worker *w, struct mail *m)
{
	(void)w;
	finish((struct command *)(void *)m, COMMAND_RAN);
}

/* The plugin's: any thread, at any time. */
static void
reply(void *ctx, struct grapnel_str json)
{
	struct command *c;

	pthread_mutex_lock(&lock);
	for (c = open_commands; c != NULL && c->number != (uintptr_t)ctx; c = c->next)
		;
	if (c != NULL && !c->given) { /* the first one counts */
		c->given = true;
		c->text = malloc(json.len + 1);
		if (c->text != NULL && json.len > 0)
			memcpy(c->text, json.data, json.len);
		c->len = c->text != NULL ? json.len : 0;
		if (!c->running) {
			unlist_locked(c);
			worker_post(c->main, &c->mail);
		}
	}
	pthread_mutex_unlock(&lock);
}

/* @return it is ours: nobody else ends it. */
static bool
take(struct command *c)
{
	bool ours;

	pthread_mutex_lock(&lock);
	ours = c->link != NULL;
	if (ours)
		unlist_locked(c);
	pthread_mutex_unlock(&lock);
	return ours;
}

static void
on_limit(struct timer *t, void *owner)
{
	struct command *c = (struct command *)(void *)((char *)t - offsetof(struct command, limit));

	(void)owner;
	if (take(c))
		finish(c, COMMAND_LATE);
}

void
commands_drop(struct instance *in)
{
	struct command *c;

	do {
		pthread_mutex_lock(&lock);
		for (c = open_commands; c != NULL && c->in != in; c = c->next)
			;
		if (c != NULL)
			unlist_locked(c);
		pthread_mutex_unlock(&lock);
		if (c != NULL) {
			log_warning(
			    "plugin \"%s\": it has gone without answering a command", in->name);
			finish(c, COMMAND_GONE);
		}
	} while (c != NULL);
}

static const struct instance_command *
find(const struct plugins *p, struct grapnel_str name, struct instance **in)
{
	for (unsigned i = 0; p != NULL && i < p->count; i++) {
		const struct instance_command *ic;

		*in = p->entries[i].in;
		for (ic = (*in)->commands; ic != NULL; ic = ic->next)
			if (strlen(ic->name) == name.len &&
			    memcmp(ic->name, name.data, name.len) == 0)
				return ic;
	}
	return NULL;
}

static int
call_plugin(const struct instance_command *ic, const struct grapnel_command *cmd, struct command *c)
{
	uint64_t entered = plugin_enter(), took;
	int err = ic->fn(ic->arg, cmd, reply, (void *)c->number);

	took = plugin_enter() - entered;
	if (took > PLUGIN_HOLD_US) {
		atomic_fetch_add_explicit(&c->in->main_holds, 1, memory_order_relaxed);
		log_warning("plugin \"%s\": command %s held the main thread for %llu ms",
		    c->in->name, ic->name, (unsigned long long)(took / 1000));
	}
	return err;
}

void
plugins_command(struct plugins *p, const struct grapnel_command *cmd, uint32_t limit_ms,
    command_done_fn done, void *arg)
{
	struct command_result unknown = { .end = COMMAND_UNKNOWN };
	struct instance *in = NULL;
	const struct instance_command *ic = find(p, cmd->name, &in);
	struct command *c;
	bool wait;

	if (ic == NULL || (c = calloc(1, sizeof(*c))) == NULL) {
		if (ic != NULL) {
			unknown.end = COMMAND_RAN;
			unknown.err = GRAPNEL_ENOMEM;
		}
		done(arg, &unknown);
		return;
	}
	c->mail.fn = on_reply_mail;
	c->main = in->broker->main;
	c->in = in;
	c->done = done;
	c->arg = arg;
	c->running = true;
	timer_init(&c->limit, on_limit);
	pthread_mutex_lock(&lock);
	list_locked(c);
	pthread_mutex_unlock(&lock);
	c->err = call_plugin(ic, cmd, c);
	pthread_mutex_lock(&lock);
	c->running = false;
	wait = c->err == GRAPNEL_COMMAND_LATER && !c->given;
	if (!wait)
		unlist_locked(c);
	pthread_mutex_unlock(&lock);
	/* A reply from now on comes as mail to this thread, so c is there until this function is left. */
	if (wait)
		worker_timer(c->main, &c->limit, limit_ms);
	else
		finish(c, COMMAND_RAN);
}
