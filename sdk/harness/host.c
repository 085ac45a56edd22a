/* SPDX-License-Identifier: Apache-2.0 */
/* The table of functions: what needs no loop and no request. Each checks as the broker's does, and says what is wrong. */
#include "inside.h"
#include "mqtt/packet.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ------------------------------------------------------------------------------------- */

static const struct plugin_options *
options_of(const struct grapnel_instance *self, const char *function)
{
	const struct plug *p = plug_of(self, function);

	return p != NULL ? p->options : NULL;
}

static struct grapnel_str
option_str(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	const struct plugin_options *o = options_of(self, "option_str");

	return o != NULL ? plugin_option_str(o, block, name) : (struct grapnel_str){ NULL, 0 };
}

static int64_t
option_int(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	const struct plugin_options *o = options_of(self, "option_int");

	return o != NULL ? plugin_option_int(o, block, name) : 0;
}

static bool
option_bool(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	const struct plugin_options *o = options_of(self, "option_bool");

	return o != NULL && plugin_option_bool(o, block, name);
}

static struct grapnel_str
option_list(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *name, size_t i)
{
	const struct plugin_options *o = options_of(self, "option_list");

	return o != NULL ? plugin_option_list(o, block, name, i) : (struct grapnel_str){ NULL, 0 };
}

static bool
option_given(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	const struct plugin_options *o = options_of(self, "option_given");

	return o != NULL && plugin_option_given(o, block, name);
}

static const struct grapnel_block *
option_block(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *kind, size_t i, struct grapnel_str *title)
{
	const struct plugin_options *o = options_of(self, "option_block");

	return o != NULL ? plugin_option_block(o, block, kind, i, title) : NULL;
}

static struct grapnel_str
option_where(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	const struct plugin_options *o = options_of(self, "option_where");

	return o != NULL ? plugin_option_where(o, block, name) : (struct grapnel_str){ NULL, 0 };
}

static struct grapnel_str
instance_name(const struct grapnel_instance *self)
{
	const struct plug *p = plug_of(self, "instance_name");

	return p != NULL ? (struct grapnel_str){ p->name, strlen(p->name) }
			 : (struct grapnel_str){ NULL, 0 };
}

/* ---- log, metrics ------------------------------------------------------------------------------------ */

static void host_log(const struct grapnel_instance *self, enum grapnel_log_level level,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

static void
host_log(const struct grapnel_instance *self, enum grapnel_log_level level, const char *format, ...)
{
	struct plug *p = plug_of(self, "log");
	struct record *r;
	char text[2048];
	va_list ap;
	int n;

	if (p == NULL)
		return;
	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (level < GRAPNEL_LOG_ERROR || level > GRAPNEL_LOG_TRACE)
		finding(p->h, "contract: log with level %d", (int)level);
	if (n < 0 || (r = record_new(RECORD_LOG, text, strlen(text))) == NULL)
		return;
	r->level = level;
	record_add(p->h, r);
}

static void config_error(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *option, const char *format, ...) __attribute__((format(printf, 4, 5)));

static void
config_error(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *option, const char *format, ...)
{
	struct plug *p = plug_of(self, "config_error");
	struct grapnel_str where;
	char text[2048];
	va_list ap;

	if (p == NULL)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (p->state != PLUG_CREATING) {
		finding(p->h, "contract: config_error outside create(): %s", text);
		return;
	}
	where = plugin_option_where(p->options, block, option);
	p->complained = true;
	conf_errors_add(&p->errs, "%.*s: plugin \"%s\": %s", (int)where.len,
	    where.data != NULL ? where.data : "", p->name, text);
}

static bool
in_create(const struct plug *p, const char *function)
{
	if (p->state == PLUG_CREATING)
		return true;
	finding(p->h, "contract: %s outside create()", function);
	return false;
}

static int
metric_new(struct grapnel_instance *self, enum grapnel_metric_kind kind, const char *name,
    const char *help)
{
	struct plug *p = plug_of(self, "metric_new");
	unsigned n;

	if (p == NULL || !in_create(p, "metric_new"))
		return GRAPNEL_ESTATE;
	n = atomic_load(&p->metric_count);
	if (!metric_name_valid(name) || (kind != GRAPNEL_COUNTER && kind != GRAPNEL_GAUGE)) {
		finding(p->h,
		    "contract: metric_new of \"%s\": a name is a-z, 0-9 and _, and begins with a "
		    "letter",
		    name != NULL ? name : "");
		return GRAPNEL_EINVAL;
	}
	if (help == NULL || *help == '\0')
		finding(p->h, "contract: metric \"%s\" has no help text", name);
	if (n == METRICS_MAX)
		return GRAPNEL_EQUOTA;
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(p->metrics[i].name, name) == 0)
			return GRAPNEL_EINVAL;
	}
	p->metrics[n].name = copy_text(name, strlen(name));
	p->metrics[n].kind = kind;
	if (p->metrics[n].name == NULL)
		return GRAPNEL_ENOMEM;
	atomic_store(&p->metric_count, n + 1);
	return (int)n;
}

static void
host_metric_add(struct grapnel_instance *self, int metric, int64_t delta)
{
	struct plug *p = plug_of(self, "metric_add");

	if (p == NULL || metric < 0)
		return; /* one that could not be made: harmless in the broker, too */
	if ((unsigned)metric >= atomic_load(&p->metric_count)) {
		finding(p->h, "contract: metric_add of metric %d, which there is not", metric);
		return;
	}
	if (delta < 0 && p->metrics[metric].kind == GRAPNEL_COUNTER)
		finding(p->h, "contract: counter \"%s\" goes down; make it a gauge",
		    p->metrics[metric].name);
	atomic_fetch_add(&p->metrics[metric].value, delta);
}

/* ---- clock, random ------------------------------------------------------------------------------------- */

static uint64_t
now_ms(void)
{
	return clock_now(the_harness);
}

static int64_t
wall_us(void)
{
	return atomic_load(&the_harness->wall_us) + (int64_t)clock_now(the_harness) * 1000;
}

/* ---- clients and rights ---------------------------------------------------------------------------------- */

static int
client_kick(struct grapnel_instance *self, struct grapnel_str mountpoint,
    struct grapnel_str client_id, uint8_t reason_code)
{
	struct plug *p = plug_of(self, "client_kick");
	struct record *r;

	if (p == NULL || (client_id.data == NULL && client_id.len > 0) || reason_code < 0x80)
		return GRAPNEL_EINVAL;
	if ((r = record_new(RECORD_KICK, client_id.data, client_id.len)) == NULL)
		return GRAPNEL_ENOMEM;
	r->more =
	    (struct grapnel_str){ copy_text(mountpoint.data, mountpoint.len), mountpoint.len };
	r->reason_code = reason_code;
	record_add(p->h, r);
	return GRAPNEL_OK;
}

static void
rights_changed(struct grapnel_instance *self)
{
	struct plug *p = plug_of(self, "rights_changed");
	struct record *r = p != NULL ? record_new(RECORD_RIGHTS, "", 0) : NULL;

	if (r != NULL)
		record_add(p->h, r);
}

static int
cache_purge(
    struct grapnel_instance *self, struct grapnel_str username, struct grapnel_str client_id)
{
	struct plug *p = plug_of(self, "cache_purge");
	struct record *r;

	if (p == NULL)
		return GRAPNEL_EINVAL;
	r = record_new(RECORD_PURGE, username.data != NULL ? username.data : "*",
	    username.data != NULL ? username.len : 1);
	if (r == NULL)
		return GRAPNEL_ENOMEM;
	r->more = (struct grapnel_str){ copy_text(client_id.data, client_id.len), client_id.len };
	record_add(p->h, r);
	return GRAPNEL_OK;
}

static int
property_next(struct grapnel_str block, size_t *pos, struct grapnel_property *out)
{
	int n = mqtt_property_next(block, pos, out);

	return n < 0 ? GRAPNEL_EFAULT : n;
}

/* ---- events ------------------------------------------------------------------------------------------------ */

static int
events_select(struct grapnel_instance *self, uint64_t mask)
{
	struct plug *p = plug_of(self, "events_select");

	if (p == NULL || p->plugin.on_events == NULL)
		return GRAPNEL_EINVAL;
	atomic_store(&p->events, mask);
	return GRAPNEL_OK;
}

static void
events_resume(struct grapnel_instance *self)
{
	struct plug *p = plug_here(self, "events_resume");

	if (p == NULL)
		return;
	p->workers[worker_here()].stalled = false; /* offered again in the next turn */
	wake(p->h);
}

static uint32_t
events_waiting(const struct grapnel_instance *self)
{
	const struct plug *p = plug_of(self, "events_waiting");

	return p != NULL && worker_here() >= 0 ? p->workers[worker_here()].event_count : 0;
}

/* ---- in create() --------------------------------------------------------------------------------------------- */

static int
command_new(struct grapnel_instance *self, const char *name, const char *help,
    int (*fn)(void *arg, const struct grapnel_command *command,
	void (*reply)(void *ctx, struct grapnel_str json), void *ctx),
    void *arg)
{
	struct plug *p = plug_of(self, "command_new");
	struct command *c;

	if (p == NULL || !in_create(p, "command_new"))
		return GRAPNEL_ESTATE;
	if (name == NULL || *name == '\0' || fn == NULL)
		return GRAPNEL_EINVAL;
	if (help == NULL || *help == '\0')
		finding(p->h, "contract: command \"%s\" has no help text", name);
	if ((c = calloc(1, sizeof(*c))) == NULL ||
	    (c->name = copy_text(name, strlen(name))) == NULL) {
		free(c);
		return GRAPNEL_ENOMEM;
	}
	c->fn = fn;
	c->arg = arg;
	c->next = p->commands;
	p->commands = c;
	return GRAPNEL_OK;
}

static int
hook_disable(struct grapnel_instance *self, const char *hook)
{
	struct plug *p = plug_of(self, "hook_disable");
	enum hook which;

	if (p == NULL || !in_create(p, "hook_disable"))
		return GRAPNEL_ESTATE;
	if (!hook_find(hook, &which)) {
		finding(p->h, "contract: hook_disable of \"%s\", which is no hook",
		    hook != NULL ? hook : "");
		return GRAPNEL_ENOENT;
	}
	p->disabled = (uint16_t)(p->disabled | 1u << which);
	return GRAPNEL_OK;
}

static int
depends_on(struct grapnel_instance *self, const char *hook, uint64_t mask)
{
	struct plug *p = plug_of(self, "depends_on");
	enum hook which;

	if (p == NULL || !in_create(p, "depends_on"))
		return GRAPNEL_ESTATE;
	if (!hook_find(hook, &which) ||
	    (which != HOOK_AUTHENTICATE && which != HOOK_REVALIDATE && which != HOOK_ACL)) {
		finding(p->h, "contract: depends_on of \"%s\", whose answers are not kept",
		    hook != NULL ? hook : "");
		return GRAPNEL_ENOENT;
	}
	p->depends[which] = mask & GRAPNEL_DEPENDS_ALL;
	return GRAPNEL_OK;
}

/* ---- commands -------------------------------------------------------------------------------------------------- */

static void
command_reply(void *ctx, struct grapnel_str json)
{
	struct reply *r = ctx, *known;
	harness *h = the_harness;
	bool twice;

	pthread_mutex_lock(&h->lock);
	for (known = h->replies; known != NULL && known != r; known = known->next)
		continue;
	twice = known != NULL && known->text != NULL;
	if (known != NULL && !twice) {
		known->text = copy_text(json.data != NULL ? json.data : "", json.len);
		known->owed = false;
	}
	pthread_mutex_unlock(&h->lock);
	if (known == NULL)
		finding(h, "bad handle: reply of a command with %p, which is no context", ctx);
	else if (twice)
		finding(h, "contract: a second reply to one command; the first counts");
	wake(h);
}

struct reply *
command_run(harness *h, const struct grapnel_command *question, int *err)
{
	char name[128];
	struct command *c = NULL;
	struct reply *r;
	struct call call;

	snprintf(name, sizeof(name), "%.*s", (int)question->name.len, question->name.data);
	for (c = h->running->commands; c != NULL && strcmp(c->name, name) != 0; c = c->next)
		continue;
	if (c == NULL || (r = calloc(1, sizeof(*r))) == NULL)
		return NULL;
	r->h = h;
	pthread_mutex_lock(&h->lock);
	r->owed = true;
	r->next = h->replies;
	h->replies = r;
	pthread_mutex_unlock(&h->lock);
	call_begin(&call, h->running, "a command");
	*err = c->fn(c->arg, question, command_reply, r);
	call_end(&call);
	pthread_mutex_lock(&h->lock);
	if (*err != GRAPNEL_COMMAND_LATER)
		r->owed = false;
	pthread_mutex_unlock(&h->lock);
	return r;
}

void
commands_drop(struct plug *p)
{
	struct command *c;

	while ((c = p->commands) != NULL) {
		p->commands = c->next;
		free(c->name);
		free(c);
	}
}

void
host_fill(struct grapnel_host *host, unsigned workers)
{
	*host = (struct grapnel_host){
		.size = sizeof(*host),
		.abi_major = GRAPNEL_ABI_MAJOR,
		.abi_minor = GRAPNEL_ABI_MINOR,
		.workers = workers,
		.option_str = option_str,
		.option_int = option_int,
		.option_bool = option_bool,
		.option_list = option_list,
		.option_given = option_given,
		.option_block = option_block,
		.option_where = option_where,
		.instance_name = instance_name,
		.log = host_log,
		.config_error = config_error,
		.metric_new = metric_new,
		.metric_add = host_metric_add,
		.now_ms = now_ms,
		.wall_us = wall_us,
		.random_bytes = pure_random_bytes,
		.secret_equal = pure_secret_equal,
		.client_slot = slot_get,
		.client_set_slot = slot_set,
		.client_kick = client_kick,
		.client_find = client_look,
		.property_next = property_next,
		.events_select = events_select,
		.events_resume = events_resume,
		.rights_changed = rights_changed,
		.command_new = command_new,
		.hook_disable = hook_disable,
		.connection_open = connection_open,
		.depends_on = depends_on,
		.cache_purge = cache_purge,
		.events_waiting = events_waiting,
	};
	host_requests(host);
	host_services(host);
	host_jobs(host);
	host_rules(host);
	host_values(host);
}
