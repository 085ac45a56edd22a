/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

void
histogram_add(struct histogram *h, uint64_t v)
{
	unsigned i = (unsigned)v;

	if (v >= (1u << HISTOGRAM_SUB)) {
		unsigned e = 63u - (unsigned)__builtin_clzll(v); /* top bit */
		i = ((e - HISTOGRAM_SUB + 1) << HISTOGRAM_SUB) +
		    (unsigned)((v >> (e - HISTOGRAM_SUB)) & ((1u << HISTOGRAM_SUB) - 1));
	}
	h->bucket[i < HISTOGRAM_SIZE ? i : HISTOGRAM_SIZE - 1]++;
	h->n++;
	if (v > h->max)
		h->max = v;
}

void
histogram_merge(struct histogram *to, const struct histogram *from)
{
	for (unsigned i = 0; i < HISTOGRAM_SIZE; i++)
		to->bucket[i] += from->bucket[i];
	to->n += from->n;
	if (from->max > to->max)
		to->max = from->max;
}

/* Value at quantile q, in microseconds (upper edge of its bucket). */
double
histogram_us(const struct histogram *h, double q)
{
	uint64_t want = (uint64_t)(q * (double)h->n), seen = 0;

	if (!h->n)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_SIZE; i++) {
		seen += h->bucket[i];
		if (seen > want || seen == h->n) {
			uint64_t v = i;
			if (i >= (1u << HISTOGRAM_SUB)) {
				unsigned e = (i >> HISTOGRAM_SUB) + HISTOGRAM_SUB - 1;
				v = ((uint64_t)((i & ((1u << HISTOGRAM_SUB) - 1)) +
					 (1u << HISTOGRAM_SUB) + 1)
					<< (e - HISTOGRAM_SUB)) -
				    1;
			}
			return (double)(v < h->max ? v : h->max) / 1e3;
		}
	}
	return (double)h->max / 1e3;
}
