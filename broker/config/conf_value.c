/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of the configuration as types and back, and the known name nearest to a mistyped one.
 */
#include "conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	int64_t factor;
};
/* clang-format off */
static const struct unit byte_units[] = {
	{ "", 1 },
	{ "k", INT64_C(1) << 10 },
	{ "m", INT64_C(1) << 20 },
	{ "g", INT64_C(1) << 30 },
	{ "t", INT64_C(1) << 40 },
};
static const struct unit duration_units[] = {
	{ "", 1000 },
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60000 },
	{ "h", 3600000 },
	{ "d", 86400000 },
};
/* clang-format on */
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

bool
conf_to_bool(const char *s, bool *out)
{
	if (strcmp(s, "yes") == 0)
		*out = true;
	else if (strcmp(s, "no") == 0)
		*out = false;
	else
		return false;
	return true;
}

/* Digits at the start; NULL: none, or too many. */
static const char *
digits(const char *s, int64_t *out)
{
	const char *start = s;
	int64_t value = 0;

	for (; *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, *s - '0', &value))
			return NULL;
	}
	*out = value;
	return s == start ? NULL : s;
}

bool
conf_to_int(const char *s, int64_t *out)
{
	bool negative = s[0] == '-';
	int64_t value = 0;

	s = digits(negative || s[0] == '+' ? s + 1 : s, &value);
	if (s == NULL || *s != '\0')
		return false;
	*out = negative ? -value : value;
	return true;
}

static bool
to_units(const char *s, const struct unit *units, size_t count, int64_t *out)
{
	int64_t value = 0;

	if ((s = digits(s, &value)) == NULL)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (strcasecmp(s, units[i].name) == 0) {
			if (__builtin_mul_overflow(value, units[i].factor, &value))
				return false;
			*out = value;
			return true;
		}
	}
	return false;
}

bool
conf_to_bytes(const char *s, int64_t *out)
{
	return to_units(s, byte_units, COUNT_OF(byte_units), out);
}

bool
conf_to_duration_ms(const char *s, int64_t *out)
{
	return to_units(s, duration_units, COUNT_OF(duration_units), out);
}

/* The largest unit that divides the value. */
static const char *
from_units(char *out, int64_t value, const struct unit *units, size_t count)
{
	size_t i = count - 1;

	while (i > 1 && (value == 0 || value % units[i].factor != 0))
		i--;
	if (value == 0 || value % units[i].factor != 0)
		i = units[0].factor == 1 ? 0 : i;
	snprintf(
	    out, CONF_NUMBER_SIZE, "%lld%s", (long long)(value / units[i].factor), units[i].name);
	return out;
}

const char *
conf_from_bytes(char *out, int64_t value)
{
	return from_units(out, value, byte_units, COUNT_OF(byte_units));
}

const char *
conf_from_duration_ms(char *out, int64_t value)
{
	if (value == 0)
		return memcpy(out, "0", 2);
	return from_units(out, value, duration_units, COUNT_OF(duration_units));
}

/*
 * Optimal string alignment: insertions, deletions, changes, and swapped neighbours ("lsit") count one each.
 * Names longer than MAX_NAME are near to nothing.
 */
#define MAX_NAME 63

static unsigned
distance(const char *a, const char *b)
{
	unsigned rows[3][MAX_NAME + 1];
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];
	size_t la = strlen(a), lb = strlen(b);

	if (la > MAX_NAME || lb > MAX_NAME)
		return MAX_NAME + 1;
	for (unsigned j = 0; j <= lb; j++)
		above[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned *free_row = before;

		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
		before = above;
		above = row;
		row = free_row;
	}
	return above[lb];
}

const char *
conf_nearest(const char *name, const char *const *known, unsigned count)
{
	size_t len = strlen(name);
	unsigned best = len < 5 ? 1 : len < 9 ? 2 : 3; /* farther away is no typing error */
	const char *found = NULL;

	for (unsigned i = 0; i < count; i++) {
		unsigned d = distance(name, known[i]);

		if (d < best + (found == NULL) && d < strlen(known[i])) {
			best = d;
			found = known[i];
		}
	}
	return found;
}
