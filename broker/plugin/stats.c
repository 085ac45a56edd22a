/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"
#include "instance.h"
#include "plugins.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

const uint32_t latency_bounds_us[LATENCY_BUCKETS - 1] = {
	10,
	50,
	100,
	500,
	1000,
	5000,
	10000,
	50000,
	100000,
	500000,
	2000000,
};
/* The same as Prometheus writes them. */
static const char *const latency_bounds[LATENCY_BUCKETS] = {
	"0.00001",
	"0.00005",
	"0.0001",
	"0.0005",
	"0.001",
	"0.005",
	"0.01",
	"0.05",
	"0.1",
	"0.5",
	"2",
	"+Inf",
};

void
stats_answer(struct hook_stats *s, enum grapnel_verdict verdict, uint64_t microseconds)
{
	unsigned i = 0;

	while (i < LATENCY_BUCKETS - 1 && microseconds > latency_bounds_us[i])
		i++;
	stats_add(&s->buckets[i], 1);
	stats_add(&s->sum_us, microseconds);
	stats_add(&s->answers[verdict], 1);
}

const char *
verdict_name(int verdict)
{
	static const char *const verdict_names[] = { "fault", "allow", "deny", "next", "pending",
		"unavailable" };

	return verdict >= 0 && verdict <= GRAPNEL_UNAVAILABLE ? verdict_names[verdict] : "invalid";
}

/* ---- adding up the workers ------------------------------------------------------------------- */

struct hook_sum {
	uint64_t answers[6], buckets[LATENCY_BUCKETS], sum_us, timeouts, refused;
	uint64_t count; /* final answers that were timed */
};

static uint64_t
get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void
hook_sum(const struct instance *in, enum hook h, struct hook_sum *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned w = 0; w < in->worker_count; w++) {
		const struct hook_stats *s = &in->workers[w].stats.hooks[h];

		for (unsigned i = 0; i < 6; i++)
			out->answers[i] += get(&s->answers[i]);
		for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
			out->buckets[i] += get(&s->buckets[i]);
			out->count += get(&s->buckets[i]);
		}
		out->sum_us += get(&s->sum_us);
		out->timeouts += get(&s->timeouts);
		out->refused += get(&s->refused);
	}
}

struct instance_sum {
	uint64_t holds, events_taken, events_lost;
	uint64_t cache_hits, cache_misses, cache_shared, cache_stale, breaker_refused;
	uint64_t shadow_agreed, shadow_differed;
};

static void
instance_sum(const struct instance *in, struct instance_sum *out)
{
	memset(out, 0, sizeof(*out));
	out->holds = get(&in->main_holds);
	for (unsigned w = 0; w < in->worker_count; w++) {
		const struct instance_stats *s = &in->workers[w].stats;

		out->holds += get(&s->holds);
		out->events_taken += get(&s->events_taken);
		out->events_lost += get(&s->events_lost);
		out->cache_hits += get(&s->cache_hits);
		out->cache_misses += get(&s->cache_misses);
		out->cache_shared += get(&s->cache_shared);
		out->cache_stale += get(&s->cache_stale);
		out->breaker_refused += get(&s->breaker_refused);
		out->shadow_agreed += get(&s->shadow_agreed);
		out->shadow_differed += get(&s->shadow_differed);
	}
}

/* ---- Prometheus ------------------------------------------------------------------------------ */

struct output {
	int (*line)(void *ctx, const char *text);
	void *ctx;
	int err;
};

static void out(struct output *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
out(struct output *o, const char *format, ...)
{
	char text[1024];
	va_list ap;

	if (o->err != 0)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	o->err = o->line(o->ctx, text);
}

/* Names come from the configuration: quotes and line ends must not leave the label. */
static const char *
label(const char *name, char *buffer, size_t size)
{
	size_t n = 0;

	for (; *name != '\0' && n + 3 < size; name++) {
		if (*name == '"' || *name == '\\' || *name == '\n')
			buffer[n++] = '\\';
		buffer[n++] = *name == '\n' ? 'n' : *name;
	}
	buffer[n] = '\0';
	return buffer;
}

static void
metrics_hooks(const struct plugins *p, struct output *o)
{
	char name[512];

	out(o, "# HELP grapnel_hook_seconds Time from asking a plugin to its answer");
	out(o, "# TYPE grapnel_hook_seconds histogram");
	for (unsigned i = 0; i < p->count; i++) {
		const struct instance *in = p->entries[i].in;

		label(in->name, name, sizeof(name));
		for (unsigned h = 0; h < HOOK_COUNT; h++) {
			struct hook_sum s;
			uint64_t total = 0;

			if (!instance_has_hook(in, (enum hook)h))
				continue;
			hook_sum(in, (enum hook)h, &s);
			for (unsigned b = 0; b < LATENCY_BUCKETS; b++) {
				total += s.buckets[b];
				out(o,
				    "grapnel_hook_seconds_bucket{plugin=\"%s\",hook=\"%s\",le=\"%"
				    "s\"} %" PRIu64,
				    name, hook_name((enum hook)h), latency_bounds[b], total);
			}
			out(o, "grapnel_hook_seconds_sum{plugin=\"%s\",hook=\"%s\"} %.6f", name,
			    hook_name((enum hook)h), (double)s.sum_us / 1e6);
			out(o, "grapnel_hook_seconds_count{plugin=\"%s\",hook=\"%s\"} %" PRIu64,
			    name, hook_name((enum hook)h), s.count);
		}
	}
}

enum hook_counter { HOOK_ANSWERS, HOOK_TIMEOUTS, HOOK_REFUSED };

static void
metrics_hook_counter(const struct plugins *p, struct output *o, enum hook_counter which,
    const char *family, const char *help)
{
	char name[512];

	out(o, "# HELP grapnel_%s %s", family, help);
	out(o, "# TYPE grapnel_%s counter", family);
	for (unsigned i = 0; i < p->count; i++) {
		const struct instance *in = p->entries[i].in;

		label(in->name, name, sizeof(name));
		for (unsigned h = 0; h < HOOK_COUNT; h++) {
			struct hook_sum s;

			if (!instance_has_hook(in, (enum hook)h))
				continue;
			hook_sum(in, (enum hook)h, &s);
			if (which != HOOK_ANSWERS) {
				out(o, "grapnel_%s{plugin=\"%s\",hook=\"%s\"} %" PRIu64, family,
				    name, hook_name((enum hook)h),
				    which == HOOK_TIMEOUTS ? s.timeouts : s.refused);
				continue;
			}
			for (int v = 0; v < 6; v++)
				out(o,
				    "grapnel_%s{plugin=\"%s\",hook=\"%s\",answer=\"%s\"} %" PRIu64,
				    family, name, hook_name((enum hook)h), verdict_name(v),
				    s.answers[v]);
		}
	}
}

enum instance_number {
	NUMBER_PENDING,
	NUMBER_HOLDS,
	NUMBER_EVENTS,
	NUMBER_EVENTS_LOST,
	NUMBER_JOBS_RUNNING,
	NUMBER_JOBS_WAITING,
	NUMBER_JOBS_REFUSED,
	NUMBER_CACHE_ENTRIES,
	NUMBER_CACHE_HITS,
	NUMBER_CACHE_MISSES,
	NUMBER_CACHE_SHARED,
	NUMBER_CACHE_STALE,
	NUMBER_CACHE_EVICTED,
	NUMBER_BREAKER_OPEN,
	NUMBER_BREAKER_REFUSED,
	NUMBER_SHADOW_AGREED,
	NUMBER_SHADOW_DIFFERED,
	NUMBER_VALUES,
	NUMBER_VALUES_BYTES,
	NUMBER_VALUES_REFUSED
};

static const struct {
	enum instance_number which;
	const char *family, *type, *help;
} instance_families[] = {
	{ NUMBER_PENDING, "plugin_pending_requests", "gauge",
	    "Requests that a plugin has not resolved" },
	{ NUMBER_HOLDS, "plugin_loop_holds_total", "counter",
	    "Calls of a plugin that held a loop longer than 50 ms" },
	{ NUMBER_EVENTS, "plugin_events_total", "counter", "Events that a plugin has taken" },
	{ NUMBER_EVENTS_LOST, "plugin_events_lost_total", "counter",
	    "Events that a full queue has lost" },
	{ NUMBER_JOBS_RUNNING, "plugin_offload_running", "gauge",
	    "Jobs of a plugin that run in the offload pool" },
	{ NUMBER_JOBS_WAITING, "plugin_offload_waiting", "gauge",
	    "Jobs of a plugin that wait for the offload pool" },
	{ NUMBER_JOBS_REFUSED, "plugin_offload_refused_total", "counter",
	    "Jobs that the offload pool refused" },
	{ NUMBER_CACHE_ENTRIES, "plugin_cache_entries", "gauge",
	    "Answers of a plugin that are kept" },
	{ NUMBER_CACHE_HITS, "plugin_cache_hits_total", "counter",
	    "Questions answered by a kept answer" },
	{ NUMBER_CACHE_MISSES, "plugin_cache_misses_total", "counter",
	    "Questions for which there was no kept answer" },
	{ NUMBER_CACHE_SHARED, "plugin_cache_shared_total", "counter",
	    "Questions that waited for the answer to an equal one" },
	{ NUMBER_CACHE_STALE, "plugin_cache_stale_total", "counter",
	    "Kept answers used beyond their time, since the plugin was unavailable" },
	{ NUMBER_CACHE_EVICTED, "plugin_cache_evicted_total", "counter",
	    "Kept answers that went because of cache_size" },
	{ NUMBER_BREAKER_OPEN, "plugin_breaker_open", "gauge",
	    "Whether a plugin is left alone because its backend is in trouble" },
	{ NUMBER_BREAKER_REFUSED, "plugin_breaker_refused_total", "counter",
	    "Questions not asked because the breaker was open" },
	{ NUMBER_SHADOW_AGREED, "plugin_shadow_agreed_total", "counter",
	    "Decisions that a shadow plugin would have made, too" },
	{ NUMBER_SHADOW_DIFFERED, "plugin_shadow_differed_total", "counter",
	    "Decisions that a shadow plugin would have made otherwise" },
	{ NUMBER_VALUES, "plugin_values", "gauge", "Values that a plugin keeps" },
	{ NUMBER_VALUES_BYTES, "plugin_values_bytes", "gauge",
	    "Bytes of the values that a plugin keeps, with their keys" },
	{ NUMBER_VALUES_REFUSED, "plugin_values_refused_total", "counter",
	    "Values not kept because a limit was reached" },
};

static uint64_t
instance_number(const struct instance *in, enum instance_number which)
{
	struct offload_counts jobs;
	struct cache_counts kept = { 0 };
	struct value_counts values;
	struct instance_sum s;

	instance_sum(in, &s);
	offload_counts(in->registry->pool, &in->lane, &jobs);
	values_counts(in->values, &values);
	if (in->cache != NULL)
		cache_counts(in->cache, &kept);
	switch (which) {
	case NUMBER_PENDING:
		return atomic_load_explicit(&in->pending, memory_order_relaxed);
	case NUMBER_HOLDS:
		return s.holds;
	case NUMBER_EVENTS:
		return s.events_taken;
	case NUMBER_EVENTS_LOST:
		return s.events_lost;
	case NUMBER_JOBS_RUNNING:
		return jobs.running;
	case NUMBER_JOBS_WAITING:
		return jobs.waiting;
	case NUMBER_JOBS_REFUSED:
		return jobs.refused;
	case NUMBER_CACHE_ENTRIES:
		return kept.entries;
	case NUMBER_CACHE_HITS:
		return s.cache_hits;
	case NUMBER_CACHE_MISSES:
		return s.cache_misses;
	case NUMBER_CACHE_SHARED:
		return s.cache_shared;
	case NUMBER_CACHE_STALE:
		return s.cache_stale;
	case NUMBER_CACHE_EVICTED:
		return kept.evicted;
	case NUMBER_BREAKER_OPEN:
		return breaker_open(&in->breaker);
	case NUMBER_BREAKER_REFUSED:
		return s.breaker_refused;
	case NUMBER_SHADOW_AGREED:
		return s.shadow_agreed;
	case NUMBER_SHADOW_DIFFERED:
		return s.shadow_differed;
	case NUMBER_VALUES:
		return values.count;
	case NUMBER_VALUES_BYTES:
		return values.bytes;
	case NUMBER_VALUES_REFUSED:
		break;
	}
	return values.refused;
}

/*
 * Metrics that plugins made; one family may come from several instances, its lines stand
 * together.
 */
static void
metrics_own(const struct plugins *p, struct output *o)
{
	char name[512];

	for (unsigned i = 0; i < p->count; i++) {
		const struct instance *in = p->entries[i].in;

		for (unsigned m = 0; m < atomic_load(&in->metric_count); m++) {
			const struct instance_metric *metric = &in->metrics[m];
			bool first = true;

			for (unsigned j = 0; j < p->count; j++) {
				const struct instance *other = p->entries[j].in;

				for (unsigned k = 0; k < atomic_load(&other->metric_count); k++) {
					if (strcmp(other->metrics[k].name, metric->name) != 0)
						continue;
					if (first && (j < i || (j == i && k < m)))
						goto done; /* written with the earlier one */
					if (first) {
						out(o, "# HELP grapnel_plugin_%s %s", metric->name,
						    metric->help);
						out(o, "# TYPE grapnel_plugin_%s %s", metric->name,
						    metric->kind == GRAPNEL_COUNTER ? "counter"
										    : "gauge");
					}
					first = false;
					out(o, "grapnel_plugin_%s{plugin=\"%s\"} %" PRId64,
					    metric->name, label(other->name, name, sizeof(name)),
					    atomic_load_explicit(
						&other->metrics[k].value, memory_order_relaxed));
				}
			}
		done:;
		}
	}
}

int
plugins_metrics(const struct plugins *p, int (*line)(void *ctx, const char *text), void *ctx)
{
	struct output o = { line, ctx, 0 };
	char name[512];

	if (p == NULL || p->count == 0)
		return 0;
	metrics_hooks(p, &o);
	metrics_hook_counter(
	    p, &o, HOOK_ANSWERS, "hook_answers_total", "Answers of a plugin to a hook");
	metrics_hook_counter(p, &o, HOOK_TIMEOUTS, "hook_timeouts_total",
	    "Requests that a plugin did not resolve in time");
	metrics_hook_counter(p, &o, HOOK_REFUSED, "hook_refused_total",
	    "Questions not asked because max_pending was reached");
	for (unsigned f = 0; f < sizeof(instance_families) / sizeof(*instance_families); f++) {
		out(&o, "# HELP grapnel_%s %s", instance_families[f].family,
		    instance_families[f].help);
		out(&o, "# TYPE grapnel_%s %s", instance_families[f].family,
		    instance_families[f].type);
		for (unsigned i = 0; i < p->count; i++)
			out(&o, "grapnel_%s{plugin=\"%s\"} %" PRIu64, instance_families[f].family,
			    label(p->entries[i].in->name, name, sizeof(name)),
			    instance_number(p->entries[i].in, instance_families[f].which));
	}
	metrics_own(p, &o);
	return o.err;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *
text(const char *s)
{
	json_t *j = json_string(s != NULL ? s : "");

	return j != NULL ? j : json_string("?"); /* not UTF-8 */
}

static json_t *
text_n(struct grapnel_str s)
{
	json_t *j = json_stringn(s.data != NULL ? s.data : "", s.len);

	return j != NULL ? j : json_string("?");
}

static json_t *options_json(const struct plugin_options *o, const struct grapnel_block *block,
    const struct grapnel_option *table);

static json_t *
option_json(const struct plugin_options *o, const struct grapnel_block *block,
    const struct grapnel_option *opt)
{
	json_t *list;

	if (opt->flags & GRAPNEL_OPTION_SECRET)
		return plugin_option_given(o, block, opt->name) ? json_string("***") : json_null();
	switch (opt->type) {
	case GRAPNEL_OPTION_INT:
	case GRAPNEL_OPTION_DURATION:
	case GRAPNEL_OPTION_BYTES:
		return opt->default_value == NULL && !plugin_option_given(o, block, opt->name)
		    ? json_null()
		    : json_integer(plugin_option_int(o, block, opt->name));
	case GRAPNEL_OPTION_BOOL:
		return json_boolean(plugin_option_bool(o, block, opt->name));
	case GRAPNEL_OPTION_LIST:
		list = json_array();
		for (size_t i = 0;; i++) {
			struct grapnel_str s = plugin_option_list(o, block, opt->name, i);

			if (s.data == NULL)
				break;
			json_array_append_new(list, text_n(s));
		}
		return list;
	case GRAPNEL_OPTION_BLOCK:
		list = json_array();
		for (size_t i = 0;; i++) {
			struct grapnel_str title = { NULL, 0 };
			const struct grapnel_block *b =
			    plugin_option_block(o, block, opt->name, i, &title);
			json_t *inner;

			if (b == NULL)
				break;
			inner = options_json(o, b, opt->options);
			if (title.data != NULL)
				json_object_set_new(inner, "title", text_n(title));
			json_array_append_new(list, inner);
		}
		return list;
	case GRAPNEL_OPTION_STRING:
	case GRAPNEL_OPTION_ENUM:
		break;
	}
	{
		struct grapnel_str s = plugin_option_str(o, block, opt->name);

		return s.data == NULL ? json_null() : text_n(s);
	}
}

/* The depth is that of the plugin's own table. */
static json_t *
options_json(const struct plugin_options *o, const struct grapnel_block *block,
    const struct grapnel_option *table)
{
	json_t *j = json_object();

	for (const struct grapnel_option *opt = table; opt != NULL && opt->name != NULL; opt++)
		json_object_set_new(j, opt->name, option_json(o, block, opt));
	return j;
}

static json_t *
hook_json(const struct instance *in, const struct plugin_entry *e, enum hook h)
{
	json_t *answers = json_object(), *latency = json_object();
	struct hook_sum s;

	hook_sum(in, h, &s);
	for (int v = 0; v < 6; v++)
		json_object_set_new(
		    answers, verdict_name(v), json_integer((json_int_t)s.answers[v]));
	for (unsigned b = 0; b < LATENCY_BUCKETS; b++)
		json_object_set_new(
		    latency, latency_bounds[b], json_integer((json_int_t)s.buckets[b]));
	return json_pack("{s:i, s:o, s:o, s:I, s:I, s:f}", "order", e->order[h], "answers", answers,
	    "latency_seconds", latency, "timeouts", (json_int_t)s.timeouts, "refused",
	    (json_int_t)s.refused, "mean_seconds",
	    s.count > 0 ? (double)s.sum_us / 1e6 / (double)s.count : 0.0);
}

/* NULL: none of its answers can be kept. */
static json_t *
cache_json(const struct instance *in, const struct instance_sum *s)
{
	struct cache_counts kept;

	if (in->cache == NULL)
		return NULL;
	cache_counts(in->cache, &kept);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "entries",
	    (json_int_t)kept.entries, "waiting", (json_int_t)kept.waiting, "hits",
	    (json_int_t)s->cache_hits, "misses", (json_int_t)s->cache_misses, "shared",
	    (json_int_t)s->cache_shared, "stale", (json_int_t)s->cache_stale, "evicted",
	    (json_int_t)kept.evicted, "purged", (json_int_t)kept.purged);
}

static json_t *
values_json(struct instance *in)
{
	struct value_counts values;

	values_counts(in->values, &values);
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)values.count, "bytes",
	    (json_int_t)values.bytes, "refused", (json_int_t)values.refused, "max_values",
	    (json_int_t)atomic_load(&in->max_values), "max_values_bytes",
	    (json_int_t)atomic_load(&in->max_values_bytes));
}

static json_t *
entry_json(const struct plugin_entry *e)
{
	static const char *const on_error[] = { "unavailable", "deny", "next" };
	struct instance *in = e->in;
	json_t *hooks, *metrics, *commands, *j;
	struct instance_sum s;
	struct offload_counts jobs;

	if (in->plugin == NULL) /* stopped: the broker is about to end */
		return json_pack("{s:o}", "name", text(in->name));
	hooks = json_object();
	metrics = json_object();
	commands = json_object();
	instance_sum(in, &s);
	offload_counts(in->registry->pool, &in->lane, &jobs);
	for (unsigned h = 0; h < HOOK_COUNT; h++) {
		if (instance_has_hook(in, (enum hook)h))
			json_object_set_new(
			    hooks, hook_name((enum hook)h), hook_json(in, e, (enum hook)h));
	}
	for (unsigned m = 0; m < atomic_load(&in->metric_count); m++)
		json_object_set_new(metrics, in->metrics[m].name,
		    json_integer(
			atomic_load_explicit(&in->metrics[m].value, memory_order_relaxed)));
	for (const struct instance_command *c = in->commands; c != NULL; c = c->next)
		json_object_set_new(commands, c->name, text(c->help));
	j = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", text(in->name), "plugin",
	    text(in->plugin->name), "version", text(in->plugin->version), "license",
	    text(in->plugin->license), "description", text(in->plugin->description), "file",
	    text(in->module->path), "where", text(in->where));
	if (j == NULL)
		return NULL;
	json_object_set_new(
	    j, "abi", json_sprintf("%u.%u", in->plugin->abi_major, in->plugin->abi_minor));
	json_object_set_new(j, "on_error", json_string(on_error[e->on_error]));
	json_object_set_new(j, "hooks", hooks);
	json_object_set_new(
	    j, "pending", json_integer(atomic_load_explicit(&in->pending, memory_order_relaxed)));
	json_object_set_new(j, "max_pending",
	    json_integer(atomic_load_explicit(&in->max_pending, memory_order_relaxed)));
	json_object_set_new(j, "loop_holds", json_integer((json_int_t)s.holds));
	json_object_set_new(j, "offload",
	    json_pack("{s:i, s:i, s:I, s:I, s:I}", "running", (int)jobs.running, "waiting",
		(int)jobs.waiting, "ran", (json_int_t)jobs.ran, "refused", (json_int_t)jobs.refused,
		"expired", (json_int_t)jobs.expired));
	if (in->plugin->on_events != NULL)
		json_object_set_new(j, "events",
		    json_pack("{s:s, s:I, s:I}", "mode",
			in->plugin->event_mode == GRAPNEL_EVENTS_LOSSLESS ? "lossless" : "lossy",
			"taken", (json_int_t)s.events_taken, "lost", (json_int_t)s.events_lost));
	json_object_set_new(j, "cache", cache_json(in, &s));
	json_object_set_new(j, "breaker",
	    json_pack("{s:b, s:I}", "open", breaker_open(&in->breaker), "refused",
		(json_int_t)s.breaker_refused));
	json_object_set_new(j, "values", values_json(in));
	if (e->shadow)
		json_object_set_new(j, "shadow",
		    json_pack("{s:I, s:I}", "agreed", (json_int_t)s.shadow_agreed, "differed",
			(json_int_t)s.shadow_differed));
	json_object_set_new(j, "metrics", metrics);
	json_object_set_new(j, "commands", commands);
	json_object_set_new(j, "options", options_json(in->options, NULL, in->plugin->options));
	return j;
}

/* What is kept under names that no instance has now. */
struct others {
	const struct plugins *p;
	json_t *list;
};

static void
other_json(void *arg, const char *name, const struct value_counts *n)
{
	const struct others *o = arg;

	for (unsigned i = 0; i < o->p->count; i++)
		if (strcmp(o->p->entries[i].in->name, name) == 0)
			return;
	if (n->count > 0)
		json_array_append_new(o->list,
		    json_pack("{s:o, s:I, s:I}", "name", text(name), "count", (json_int_t)n->count,
			"bytes", (json_int_t)n->bytes));
}

json_t *
plugins_json(const struct plugins *p, const char *name)
{
	json_t *list, *chains;
	struct others others;

	if (name != NULL) {
		for (unsigned i = 0; p != NULL && i < p->count; i++) {
			if (strcmp(p->entries[i].in->name, name) == 0)
				return entry_json(&p->entries[i]);
		}
		return NULL;
	}
	list = json_array();
	chains = json_object();
	others = (struct others){ p, json_array() };
	for (unsigned i = 0; p != NULL && i < p->count; i++)
		json_array_append_new(list, entry_json(&p->entries[i]));
	for (unsigned h = 0; p != NULL && h < HOOK_COUNT; h++) {
		json_t *names = json_array();

		for (unsigned i = 0; i < p->chain_length[h]; i++)
			json_array_append_new(names, text(p->chains[h][i].entry->in->name));
		json_object_set_new(chains, hook_name((enum hook)h), names);
	}
	if (p != NULL)
		values_each_name(p->registry->values, other_json, &others);
	return json_pack(
	    "{s:o, s:o, s:o}", "plugins", list, "chains", chains, "values_of_others", others.list);
}
