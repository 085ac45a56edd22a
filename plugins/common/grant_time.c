/* SPDX-License-Identifier: Apache-2.0 */
#include "grant_time.h"

#include <string.h>

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Take n digits off the front. */
static bool
digits(struct grapnel_str *s, size_t n, int64_t *out)
{
	*out = 0;
	if (s->len < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!is_digit(s->data[i]))
			return false;
		*out = *out * 10 + (s->data[i] - '0');
	}
	s->data += n;
	s->len -= n;
	return true;
}

static bool
take(struct grapnel_str *s, const char *any_of)
{
	if (s->len == 0 || s->data[0] == '\0' || strchr(any_of, s->data[0]) == NULL)
		return false;
	s->data++;
	s->len--;
	return true;
}

/* Days since 1970 of a day in the Gregorian calendar; years of 1 March, so that a leap day is the last. */
static int64_t
days(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year, m = (month + 9) % 12;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 1 - 719468;
}

static bool
day_exists(int64_t year, int64_t month, int64_t day)
{
	static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return year >= 1 && month >= 1 && month <= 12 && day >= 1 &&
	    day <= lengths[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* "", "Z", "+01", "-0330", "+05:30": seconds east of UTC. */
static bool
zone(struct grapnel_str s, int64_t *east)
{
	int64_t hours, minutes = 0;
	bool west;

	*east = 0;
	if (s.len == 0)
		return true;
	if (take(&s, "Zz"))
		return s.len == 0;
	west = s.data[0] == '-';
	if (!take(&s, "+-") || !digits(&s, 2, &hours))
		return false;
	if (s.len > 0) {
		(void)take(&s, ":");
		if (!digits(&s, 2, &minutes))
			return false;
	}
	if (s.len > 0 || hours > 15 || minutes > 59)
		return false;
	*east = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
	return true;
}

static bool
calendar(struct grapnel_str s, int64_t *out)
{
	int64_t year, month, day, hour, minute, second, east;

	if (!digits(&s, 4, &year) || !take(&s, "-") || !digits(&s, 2, &month) || !take(&s, "-") ||
	    !digits(&s, 2, &day) || !take(&s, " Tt") || !digits(&s, 2, &hour) || !take(&s, ":") ||
	    !digits(&s, 2, &minute) || !take(&s, ":") || !digits(&s, 2, &second))
		return false;
	if (!day_exists(year, month, day) || hour > 23 || minute > 59 || second > 60)
		return false;
	if (take(&s, ".")) {
		if (s.len == 0 || !is_digit(s.data[0]))
			return false;
		while (take(&s, "0123456789"))
			;
	}
	if (!zone(s, &east))
		return false;
	*out = days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - east;
	if (*out < 1)
		*out = 1;
	return true;
}

bool
grant_time(struct grapnel_str text, int64_t *out)
{
	struct grapnel_str s = text;

	if (text.len == 8 && memcmp(text.data, "infinity", 8) == 0) {
		*out = 0;
		return true;
	}
	if (text.len >= 1 && text.len <= 15 && digits(&s, text.len, out))
		return true;
	return calendar(text, out);
}
