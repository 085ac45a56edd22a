/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for people, and the one line of JSON. */
#include "load.h"

#include <stdarg.h>
#include <stdio.h>

static char json[8192];
static size_t json_len;

void
json_add(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (json_len < sizeof(json))
		json_len += (size_t)vsnprintf(json + json_len, sizeof(json) - json_len, fmt, ap);
	va_end(ap);
}

void
json_num(const char *key, double v)
{
	json_add(",\"%s\":%.10g", key, v);
}

void
say(const char *fmt, ...)
{
	va_list ap;

	if (cfg.quiet)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
}

void
report_broker(const char *unit, double units, const struct usage *a, const struct usage *b)
{
	if (cfg.pid <= 0)
		return;
	double cpu = b->cpu - a->cpu, wall = (double)(b->at - a->at) / 1e9;
	say("  broker: %.2f s CPU (%.0f %% of one core; user %.2f, system %.2f), %.3f us per %s; "
	    "RSS %ld -> %ld KiB, peak %ld\n",
	    cpu, wall > 0 ? 100 * cpu / wall : 0, b->user - a->user, b->sys - a->sys,
	    units > 0 ? cpu * 1e6 / units : 0, unit, a->rss_kb, b->rss_kb, b->hwm_kb);
	json_num("broker_cpu_s", cpu);
	json_num("broker_cpu_pct", wall > 0 ? 100 * cpu / wall : 0);
	json_num("cpu_us_per_unit", units > 0 ? cpu * 1e6 / units : 0);
	json_num("broker_user_s", b->user - a->user);
	json_num("broker_sys_s", b->sys - a->sys);
	json_num("rss_before_kb", (double)a->rss_kb);
	json_num("rss_after_kb", (double)b->rss_kb);
	json_num("hwm_kb", (double)b->hwm_kb);
}

void
report_histogram(const char *name, const struct histogram *h)
{
	char key[32];

	static const struct {
		const char *n;
		double q;
	} qs[] = { { "p50", .5 }, { "p99", .99 }, { "p999", .999 }, { "max", 1 } };
	if (!h->n)
		return;
	say("  %s: p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", name,
	    histogram_us(h, .5), histogram_us(h, .99), histogram_us(h, .999), (double)h->max / 1e3);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(key, sizeof(key), "%s_%s_us", name, qs[i].n);
		json_num(key, qs[i].q < 1 ? histogram_us(h, qs[i].q) : (double)h->max / 1e3);
	}
}

int
report_verdict(const struct result *r, uint64_t lost, uint32_t qos)
{
	json_num("lost", (double)lost);
	json_num("dup", (double)r->dup);
	json_num("reordered", (double)r->late);
	json_num("misrouted", (double)r->misrouted);
	json_num("corrupt", (double)r->corrupt);
	json_num("nacks", (double)r->nacks);
	json_num("disconnects", (double)r->dead);
	json_num("gen_cpu_pct", r->gen_cpu);
	say("  checks: lost %llu, duplicated %llu, reordered %llu, misrouted %llu, corrupt %llu, "
	    "refused %llu, disconnected %llu%s\n",
	    (unsigned long long)lost, (unsigned long long)r->dup, (unsigned long long)r->late,
	    (unsigned long long)r->misrouted, (unsigned long long)r->corrupt,
	    (unsigned long long)r->nacks, (unsigned long long)r->dead,
	    r->timed_out ? "; TIMED OUT" : "");
	say("  generator: %.0f %% of one core in %u thread(s)%s\n", r->gen_cpu, cfg.threads,
	    r->gen_cpu > 95.0 * cfg.threads ? "  <- it may be the bottleneck" : "");
	if (r->timed_out || r->dead)
		return 3;
	if ((lost && qos > 0) || r->misrouted || r->corrupt)
		return 2;
	return 0;
}

void
json_print(void)
{
	if (!cfg.json)
		return;
	if (json_len + 2 > sizeof(json))
		die("too much to print");
	puts(strcat(json, "}"));
}
