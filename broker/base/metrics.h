/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics - what the broker counts; one row per metric in metrics.def
 *
 * Each worker counts in its own block (written by its owner only); readers add them up.
 *	ROW(enum name, "prometheus_name", kind, "help")
 */
#ifndef BROKER_BASE_METRICS_H
#define BROKER_BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

enum metric {
#define COUNTER(id, name, help) METRIC_##id,
#define GAUGE(id, name, help) METRIC_##id,
#include "metrics.def"
#undef COUNTER
#undef GAUGE
	METRIC_COUNT
};
struct metrics {
	_Atomic int64_t v[METRIC_COUNT];
};
struct metric_row {
	const char *name; /* without the grapnel_ prefix */
	int is_gauge;
	const char *help;
};
extern const struct metric_row metric_rows[METRIC_COUNT];

/* Only the owner of the block writes: no locked instruction is needed. */
static inline void
metric_add(struct metrics *m, enum metric id, int64_t delta)
{
	atomic_store_explicit(&m->v[id], atomic_load_explicit(&m->v[id], memory_order_relaxed) + delta, memory_order_relaxed);
}
static inline int64_t
metric_get(const struct metrics *m, enum metric id)
{
	return atomic_load_explicit(&m->v[id], memory_order_relaxed);
}

#endif
