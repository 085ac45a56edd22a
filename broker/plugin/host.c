/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host - the table of functions that a plugin gets
 *
 * Here is what needs no more than a few lines: checks of arguments and thread, then the function
 * that does it.
 */
#include "base/log.h"
#include "config/conf.h"
#include "core/acl.h"
#include "core/broker.h"
#include "handler.h"
#include "mqtt/packet.h"
#include "mqtt/topic.h"
#include "plugins.h"
#include "request.h"
#include "services.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- answers and requests -------------------------------------------------------------------- */

#define ANSWER_FUNCTIONS(name, kind)                                                         \
	static int name##_answer(                                                            \
	    struct grapnel_request *req, const struct grapnel_##name##_answer *answer)       \
	{                                                                                    \
		return request_attach(req, kind, answer);                                    \
	}                                                                                    \
	static int name##_resolve(struct grapnel_request *req, enum grapnel_verdict verdict, \
	    const struct grapnel_##name##_answer *answer)                                    \
	{                                                                                    \
		return request_resolve(req, kind, verdict, answer);                          \
	}

ANSWER_FUNCTIONS(auth, ANSWER_AUTH)
ANSWER_FUNCTIONS(acl, ANSWER_ACL)
ANSWER_FUNCTIONS(publish, ANSWER_PUBLISH)
ANSWER_FUNCTIONS(subscribe, ANSWER_SUBSCRIBE)
ANSWER_FUNCTIONS(ack, ANSWER_ACK)
ANSWER_FUNCTIONS(psk, ANSWER_PSK)

static uint32_t
request_time_left(const struct grapnel_request *req)
{
	uint64_t word, deadline, now = clock_ms();
	const struct request *r = request_find(req, &word);

	if (r == NULL)
		return 0;
	deadline = atomic_load_explicit(&r->deadline_ms, memory_order_relaxed);
	return deadline > now ? (uint32_t)(deadline - now) : 0;
}

static unsigned
request_worker(const struct grapnel_request *req)
{
	uint64_t word;
	const struct request *r = request_find(req, &word);

	return r != NULL ? r->worker : 0;
}

static void
request_set_data(struct grapnel_request *req, void *data)
{
	uint64_t word;
	struct request *r = request_find(req, &word);

	if (r != NULL)
		atomic_store_explicit(&r->data, data, memory_order_release);
}

static void *
request_data(const struct grapnel_request *req)
{
	uint64_t word;
	struct request *r = request_find(req, &word);

	return r != NULL ? atomic_load_explicit(&r->data, memory_order_acquire) : NULL;
}

/* ---- options --------------------------------------------------------------------------------- */

static struct grapnel_str
option_str(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	return plugin_option_str(instance_of(self)->options, block, name);
}

static int64_t
option_int(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	return plugin_option_int(instance_of(self)->options, block, name);
}

static bool
option_bool(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	return plugin_option_bool(instance_of(self)->options, block, name);
}

static struct grapnel_str
option_list(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *name, size_t i)
{
	return plugin_option_list(instance_of(self)->options, block, name, i);
}

static bool
option_given(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	return plugin_option_given(instance_of(self)->options, block, name);
}

static const struct grapnel_block *
option_block(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *kind, size_t i, struct grapnel_str *title)
{
	struct grapnel_str ignored;

	return plugin_option_block(
	    instance_of(self)->options, block, kind, i, title != NULL ? title : &ignored);
}

static struct grapnel_str
option_where(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	return plugin_option_where(instance_of(self)->options, block, name);
}

static struct grapnel_str
instance_name(const struct grapnel_instance *self)
{
	const struct instance *in = instance_of(self);

	return (struct grapnel_str){ in->name, strlen(in->name) };
}

/* ---- log, metrics, clock, random ------------------------------------------------------------- */

static void host_log(const struct grapnel_instance *self, enum grapnel_log_level level,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

static void
host_log(const struct grapnel_instance *self, enum grapnel_log_level level, const char *format, ...)
{
	char text[2048];
	va_list ap;

	if (atomic_load_explicit(&log_level, memory_order_relaxed) < (int)level)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_write((int)level, NULL, "plugin \"%s\": %s", instance_of(self)->name, text);
}

static void config_error(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *option, const char *format, ...) __attribute__((format(printf, 4, 5)));

static void
config_error(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *option, const char *format, ...)
{
	struct instance *in = instance_of(self);
	struct grapnel_str where;
	char text[2048];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (in->errs == NULL) { /* not in create(): say it all the same */
		log_error("plugin \"%s\": %s", in->name, text);
		return;
	}
	where = plugin_option_where(in->options, block, option);
	in->complained = true;
	if (where.data != NULL && where.len > 0)
		conf_errors_add(in->errs, "%.*s: plugin \"%s\": %s", (int)where.len, where.data,
		    in->name, text);
	else
		conf_errors_add(in->errs, "%s: plugin \"%s\": %s", in->where, in->name, text);
}

static int
metric_new(struct grapnel_instance *self, enum grapnel_metric_kind kind, const char *name,
    const char *help)
{
	struct instance *in = instance_of(self);
	unsigned n = atomic_load(&in->metric_count);
	struct instance_metric *m = &in->metrics[n];

	if (in->errs == NULL)
		return GRAPNEL_ESTATE;
	if (!metric_name_valid(name) || (kind != GRAPNEL_COUNTER && kind != GRAPNEL_GAUGE))
		return GRAPNEL_EINVAL;
	if (n == INSTANCE_METRICS)
		return GRAPNEL_EQUOTA;
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(in->metrics[i].name, name) == 0)
			return GRAPNEL_EINVAL;
	}
	m->name = strdup(name);
	m->help = strdup(help != NULL ? help : name);
	if (m->name == NULL || m->help == NULL) {
		free(m->name);
		free(m->help);
		return GRAPNEL_ENOMEM;
	}
	for (char *c = m->help; *c != '\0'; c++) { /* one line in the metrics' text */
		if (*c == '\n' || *c == '\r' || *c == '\\')
			*c = ' ';
	}
	m->kind = kind;
	atomic_store(&in->metric_count, n + 1);
	return (int)n;
}

static void
host_metric_add(struct grapnel_instance *self, int metric, int64_t delta)
{
	struct instance *in = instance_of(self);

	if (metric >= 0 &&
	    (unsigned)metric < atomic_load_explicit(&in->metric_count, memory_order_acquire))
		atomic_fetch_add_explicit(&in->metrics[metric].value, delta, memory_order_relaxed);
}

/* ---- the worker's loop ----------------------------------------------------------------------- */

static int
this_worker(void)
{
	const struct worker *w = worker_self;

	return w == NULL || w == w->broker->main ? -1 : (int)w->index;
}

/* The instance's part of this worker, when it may have services there. */
static struct instance_worker *
here(const struct grapnel_instance *self)
{
	struct instance_worker *iw = instance_here(instance_of(self));

	return iw != NULL && instance_callable(iw) ? iw : NULL;
}

static struct grapnel_watch *
watch_fd(struct grapnel_instance *self, int fd, unsigned events, grapnel_watch_fn fn, void *arg)
{
	struct instance_worker *iw = here(self);

	return iw != NULL ? service_watch_fd(iw, fd, events, fn, arg) : NULL;
}

static struct grapnel_timer *
timer_new(struct grapnel_instance *self, grapnel_call_fn fn, void *arg)
{
	struct instance_worker *iw = here(self);

	return iw != NULL ? service_timer_new(iw, fn, arg) : NULL;
}

static int
post(struct grapnel_instance *self, unsigned worker, grapnel_call_fn fn, void *arg)
{
	return service_post(instance_of(self), worker, fn, arg);
}

static struct grapnel_resolve *
host_dns_lookup(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms,
    grapnel_resolve_fn fn, void *arg)
{
	struct instance_worker *iw = here(self);

	return iw != NULL ? dns_lookup(iw, name, timeout_ms, fn, arg) : NULL;
}

static struct grapnel_job *
offload(struct grapnel_instance *self, uint32_t deadline_ms, grapnel_call_fn work,
    grapnel_call_fn done, void *arg)
{
	struct instance_worker *iw = here(self);

	return iw != NULL ? offload_run(iw->in->registry->pool, iw, deadline_ms, work, done, arg)
			  : NULL;
}

/* ---- clients and messages -------------------------------------------------------------------- */

static void *
client_slot(struct grapnel_instance *self, const struct grapnel_client *client)
{
	const struct client_kept *k = client != NULL ? client->kept : NULL;
	unsigned number = instance_of(self)->number;

	return k != NULL && number < k->slot_count ? k->slots[number] : NULL;
}

static int
client_set_slot(struct grapnel_instance *self, struct grapnel_client *client, void *data)
{
	struct instance_worker *iw = here(self);
	unsigned number = instance_of(self)->number;
	struct client_kept *k;

	if (iw == NULL)
		return GRAPNEL_ESTATE;
	if (client == NULL)
		return GRAPNEL_EINVAL;
	if (data == NULL && (client->kept == NULL || number >= client->kept->slot_count))
		return GRAPNEL_OK;
	if ((k = client_kept(client, number + 1)) == NULL)
		return GRAPNEL_ENOMEM;
	k->slots[number] = data;
	return GRAPNEL_OK;
}

static int
client_kick(struct grapnel_instance *self, struct grapnel_str mountpoint,
    struct grapnel_str client_id, uint8_t reason_code)
{
	if ((client_id.data == NULL && client_id.len > 0) || reason_code < 0x80)
		return GRAPNEL_EINVAL;
	if (mountpoint.data == NULL)
		mountpoint = GRAPNEL_STR("");
	return core_kick(instance_of(self)->broker, mountpoint, client_id, reason_code);
}

static int
client_find(struct grapnel_instance *self, struct grapnel_str mountpoint,
    struct grapnel_str client_id, void (*fn)(void *arg, const struct grapnel_client_info *info),
    void *arg)
{
	struct instance_worker *iw = here(self);

	if (mountpoint.data == NULL)
		mountpoint = GRAPNEL_STR("");
	return iw != NULL ? service_find(iw, mountpoint, client_id, fn, arg) : GRAPNEL_ESTATE;
}

static int
publish(struct grapnel_instance *self, const struct grapnel_publication *p)
{
	if (p == NULL || p->size < sizeof(*p) || p->qos > 2 || !topic_name_valid(p->topic_name) ||
	    p->topic_name.len > 65535 || !utf8_valid(p->topic_name.data, p->topic_name.len) ||
	    (p->payload.data == NULL && p->payload.len > 0) ||
	    (p->properties == NULL && p->property_count > 0))
		return GRAPNEL_EINVAL;
	return core_publish(instance_of(self)->broker, p);
}

static struct grapnel_sub *
subscribe(
    struct grapnel_instance *self, struct grapnel_str filter, grapnel_message_fn fn, void *arg)
{
	struct instance_worker *iw = here(self);

	if (iw == NULL || filter.data == NULL || filter.len > 65535 ||
	    !utf8_valid(filter.data, filter.len) || !topic_filter_valid(filter, NULL, NULL))
		return NULL;
	return service_subscribe(iw, filter, fn, arg);
}

static int
property_next(struct grapnel_str block, size_t *pos, struct grapnel_property *out)
{
	int n = mqtt_property_next(block, pos, out);

	return n < 0 ? GRAPNEL_EFAULT : n;
}

static int
connection_open(struct grapnel_instance *self, const struct grapnel_connection *connection, int *fd)
{
	struct instance_worker *iw = here(self);

	return iw != NULL ? handler_connection_open(iw, connection, fd) : GRAPNEL_ESTATE;
}

/* ---- events and rights ----------------------------------------------------------------------- */

static void
mask_on_mail(struct worker *w, struct mail *m)
{
	if (w->hooks != NULL)
		events_update_mask(w->hooks);
	free(m);
}

static int
events_select(struct grapnel_instance *self, uint64_t mask)
{
	struct instance *in = instance_of(self);
	struct mail *mails[WORKER_MAX + 1];
	unsigned n = in->worker_count + 1; /* and main, whose events go to worker 0 */

	if (in->plugin->on_events == NULL)
		return GRAPNEL_EINVAL;
	if (in->errs != NULL) { /* in create(): nobody knows it yet */
		atomic_store(&in->event_mask, mask);
		return GRAPNEL_OK;
	}
	for (unsigned i = 0; i < n; i++) {
		mails[i] = malloc(sizeof(*mails[i]));
		if (mails[i] == NULL) {
			while (i-- > 0)
				free(mails[i]);
			return GRAPNEL_ENOMEM;
		}
		mails[i]->fn = mask_on_mail;
	}
	atomic_store(&in->event_mask, mask);
	for (unsigned i = 0; i < n; i++)
		worker_post(
		    i < in->worker_count ? in->broker->workers[i] : in->broker->main, mails[i]);
	return GRAPNEL_OK;
}

static void
host_events_resume(struct grapnel_instance *self)
{
	struct instance_worker *iw = here(self);

	if (iw != NULL)
		events_resume(iw);
}

static uint32_t
host_events_waiting(const struct grapnel_instance *self)
{
	const struct instance_worker *iw = here(self);

	return iw != NULL ? events_waiting(&iw->events) : 0;
}

static void
rights_changed(struct grapnel_instance *self)
{
	core_rights_changed(instance_of(self)->broker);
}

/* ---- in create() ----------------------------------------------------------------------------- */

static int
command_new(struct grapnel_instance *self, const char *name, const char *help,
    int (*fn)(void *arg, const struct grapnel_command *command,
	void (*reply)(void *ctx, struct grapnel_str json), void *ctx),
    void *arg)
{
	struct instance *in = instance_of(self);
	struct instance_command *c;

	if (in->errs == NULL)
		return GRAPNEL_ESTATE;
	if (name == NULL || *name == '\0' || fn == NULL)
		return GRAPNEL_EINVAL;
	c = calloc(1, sizeof(*c));
	if (c == NULL || (c->name = strdup(name)) == NULL ||
	    (c->help = strdup(help != NULL ? help : "")) == NULL) {
		if (c != NULL)
			free(c->name);
		free(c);
		return GRAPNEL_ENOMEM;
	}
	c->fn = fn;
	c->arg = arg;
	c->next = in->commands;
	in->commands = c;
	return GRAPNEL_OK;
}

static int
hook_disable(struct grapnel_instance *self, const char *hook)
{
	struct instance *in = instance_of(self);
	enum hook h;

	if (in->errs == NULL)
		return GRAPNEL_ESTATE;
	if (!hook_find(hook, &h))
		return GRAPNEL_ENOENT;
	in->disabled_hooks = (uint16_t)(in->disabled_hooks | 1u << h);
	return GRAPNEL_OK;
}

static int
depends_on(struct grapnel_instance *self, const char *hook, uint64_t mask)
{
	struct instance *in = instance_of(self);
	enum hook h;

	if (in->errs == NULL)
		return GRAPNEL_ESTATE;
	if (!hook_find(hook, &h) ||
	    (h != HOOK_AUTHENTICATE && h != HOOK_REVALIDATE && h != HOOK_ACL))
		return GRAPNEL_ENOENT;
	in->depends[h] = mask & GRAPNEL_DEPENDS_ALL;
	return GRAPNEL_OK;
}

static int
host_cache_purge(
    struct grapnel_instance *self, struct grapnel_str username, struct grapnel_str client_id)
{
	struct instance *in = instance_of(self);

	if (in->cache != NULL)
		(void)cache_purge(in->cache, username, client_id);
	return core_rights_ask(in->broker, username, client_id);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int
value_set(struct grapnel_instance *self, struct grapnel_str key, struct grapnel_str value)
{
	struct instance *in = instance_of(self);
	struct value_limits limits = { atomic_load(&in->max_values_bytes),
		atomic_load(&in->max_values) };

	return values_set(in->values, &limits, key, value);
}

static int
value_get(const struct grapnel_instance *self, struct grapnel_str key, void *buffer,
    size_t capacity, size_t *len)
{
	return values_get(instance_of(self)->values, key, buffer, capacity, len);
}

static int
value_delete(struct grapnel_instance *self, struct grapnel_str key)
{
	return values_delete(instance_of(self)->values, key);
}

static int
value_each(
    const struct grapnel_instance *self, struct grapnel_str prefix, grapnel_value_fn fn, void *arg)
{
	return values_each(instance_of(self)->values, prefix, fn, arg);
}

static int
value_sync(struct grapnel_instance *self, grapnel_call_fn fn, void *arg)
{
	struct instance_worker *iw = here(self);

	return iw != NULL ? service_value_sync(iw, fn, arg) : GRAPNEL_ESTATE;
}

void
host_fill(struct grapnel_host *host, unsigned workers)
{
	*host = (struct grapnel_host){
		.size = sizeof(*host),
		.abi_major = GRAPNEL_ABI_MAJOR,
		.abi_minor = GRAPNEL_ABI_MINOR,
		.workers = workers,
		.auth_answer = auth_answer,
		.acl_answer = acl_answer,
		.publish_answer = publish_answer,
		.subscribe_answer = subscribe_answer,
		.ack_answer = ack_answer,
		.auth_resolve = auth_resolve,
		.acl_resolve = acl_resolve,
		.publish_resolve = publish_resolve,
		.subscribe_resolve = subscribe_resolve,
		.ack_resolve = ack_resolve,
		.request_time_left = request_time_left,
		.request_worker = request_worker,
		.request_set_data = request_set_data,
		.request_data = request_data,
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
		.now_ms = clock_ms,
		.wall_us = clock_wall_us,
		.random_bytes = pure_random_bytes,
		.secret_equal = pure_secret_equal,
		.this_worker = this_worker,
		.watch_fd = watch_fd,
		.watch_change = service_watch_change,
		.watch_remove = service_watch_remove,
		.timer_new = timer_new,
		.timer_arm = service_timer_arm,
		.timer_disarm = service_timer_disarm,
		.timer_free = service_timer_free,
		.post = post,
		.dns_lookup = host_dns_lookup,
		.dns_cancel = dns_cancel,
		.offload = offload,
		.offload_cancel = offload_cancel,
		.job_ran = offload_ran,
		.client_slot = client_slot,
		.client_set_slot = client_set_slot,
		.client_kick = client_kick,
		.client_find = client_find,
		.publish = publish,
		.subscribe = subscribe,
		.unsubscribe = service_unsubscribe,
		.property_next = property_next,
		.events_select = events_select,
		.events_resume = host_events_resume,
		.rights_changed = rights_changed,
		.rules_compile = acl_rules_compile,
		.rules_ref = acl_rules_ref,
		.rules_unref = acl_rules_unref,
		.rules_check = acl_rules_check,
		.rules_scope = acl_rules_scope,
		.command_new = command_new,
		.hook_disable = hook_disable,
		.psk_answer = psk_answer,
		.psk_resolve = psk_resolve,
		.connection_open = connection_open,
		.depends_on = depends_on,
		.cache_purge = host_cache_purge,
		.value_set = value_set,
		.value_get = value_get,
		.value_delete = value_delete,
		.value_each = value_each,
		.value_sync = value_sync,
		.events_waiting = host_events_waiting,
	};
}
