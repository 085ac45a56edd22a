/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

const struct metric_row metric_rows[METRIC_COUNT] = {
#define COUNTER(id, name, help) [METRIC_##id] = { name, 0, help },
#define GAUGE(id, name, help)   [METRIC_##id] = { name, 1, help },
#include "metrics.def"
#undef COUNTER
#undef GAUGE
};
