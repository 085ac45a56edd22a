/* SPDX-License-Identifier: Apache-2.0 */
#include "topic.h"

#include <string.h>

#include "wire.h"

/* ---- levels --------------------------------------------------------------------------- */
struct cursor { /* walks a topic level by level, without recursion or memory */
	struct grapnel_str level;
	const char *next, *end; /* next NULL: level is the last one */
	bool done;              /* no level any more */
};

static void
cursor_take(struct cursor *c, const char *start)
{
	const char *slash = start < c->end ? memchr(start, '/', (size_t)(c->end - start)) : NULL;

	c->level.data = start;
	c->level.len = (size_t)((slash != NULL ? slash : c->end) - start);
	c->next = slash != NULL ? slash + 1 : NULL;
}

static struct cursor
cursor_start(struct grapnel_str topic)
{
	struct cursor c = { .end = topic.data + topic.len };

	cursor_take(&c, topic.data);
	return c;
}

static void
cursor_step(struct cursor *c)
{
	if (c->next != NULL)
		cursor_take(c, c->next);
	else
		c->done = true;
}

static bool
level_is(const struct cursor *c, char wildcard)
{
	return !c->done && c->level.len == 1 && c->level.data[0] == wildcard;
}

static bool
level_equal(const struct cursor *a, const struct cursor *b)
{
	return a->level.len == b->level.len &&
	    memcmp(a->level.data, b->level.data, a->level.len) == 0;
}

static bool
starts_with(struct grapnel_str s, char c)
{
	return s.len > 0 && s.data[0] == c;
}

static bool
starts_with_wildcard(struct grapnel_str filter)
{
	return starts_with(filter, '+') || starts_with(filter, '#');
}

static bool
equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* ---- syntax ---------------------------------------------------------------------------- */
bool
topic_name_valid(struct grapnel_str topic_name)
{
	return topic_name.len > 0 &&
	    utf8_check_topic_name(topic_name.data, topic_name.len) == UTF8_TOPIC_OK;
}

/* '+' and '#' stand alone in their level, '#' in the last one [MQTT-4.7.1-1] [MQTT-4.7.1-2]. */
static bool
filter_syntax_valid(struct grapnel_str filter)
{
	if (filter.len == 0)
		return false;
	for (size_t i = 0; i < filter.len; i++) {
		char c = filter.data[i];

		if (c == '\0')
			return false;
		if (c != '+' && c != '#')
			continue;
		if (i > 0 && filter.data[i - 1] != '/')
			return false;
		if (i + 1 < filter.len && (c == '#' || filter.data[i + 1] != '/'))
			return false;
	}
	return true;
}

bool
topic_filter_valid(struct grapnel_str filter, struct grapnel_str *share, struct grapnel_str *rest)
{
	static const char prefix[] = "$share/";
	struct grapnel_str name = { NULL, 0 };

	if (filter.len >= sizeof(prefix) - 1 &&
	    memcmp(filter.data, prefix, sizeof(prefix) - 1) == 0) {
		const char *end = filter.data + filter.len, *slash;

		name.data = filter.data + sizeof(prefix) - 1;
		slash = name.data < end ? memchr(name.data, '/', (size_t)(end - name.data)) : NULL;
		if (slash == NULL) /* [MQTT-4.8.2-2] */
			return false;
		name.len = (size_t)(slash - name.data);
		if (!topic_name_valid(name)) /* [MQTT-4.8.2-1] */
			return false;
		filter.data = slash + 1;
		filter.len = (size_t)(end - filter.data);
	}
	if (!filter_syntax_valid(filter))
		return false;
	if (share != NULL)
		*share = name;
	if (rest != NULL)
		*rest = filter;
	return true;
}

bool
topic_has_wildcard(struct grapnel_str filter)
{
	return filter.len > 0 &&
	    (memchr(filter.data, '+', filter.len) != NULL ||
		memchr(filter.data, '#', filter.len) != NULL);
}

unsigned
topic_levels(struct grapnel_str topic)
{
	unsigned levels = 1;

	for (size_t i = 0; i < topic.len; i++)
		levels += topic.data[i] == '/';
	return levels;
}

/* ---- relations --------------------------------------------------------------------------- */
bool
topic_matches(struct grapnel_str filter, struct grapnel_str topic_name)
{
	struct cursor f = cursor_start(filter), t = cursor_start(topic_name);

	if (starts_with(topic_name, '$') && starts_with_wildcard(filter)) /* [MQTT-4.7.2-1] */
		return false;
	for (; !f.done; cursor_step(&f), cursor_step(&t)) {
		if (level_is(&f, '#')) /* the parent level too */
			return true;
		if (t.done || (!level_is(&f, '+') && !level_equal(&f, &t)))
			return false;
	}
	return t.done;
}

/*
 * No Topic Name is empty [MQTT-4.7.3-1], so the parent level of '#' and of '/#' does not exist,
 * and they mean what their longer forms say. Everywhere else "x/#" is more than "x/+/#".
 */
static struct grapnel_str
without_empty_parent(struct grapnel_str filter)
{
	if (equal(filter, GRAPNEL_STR("#")))
		return GRAPNEL_STR("+/#");
	if (equal(filter, GRAPNEL_STR("/#")))
		return GRAPNEL_STR("/+/#");
	return filter;
}

bool
topic_filter_covers(struct grapnel_str wide, struct grapnel_str narrow)
{
	struct cursor w = cursor_start(wide), n = cursor_start(without_empty_parent(narrow));

	if (starts_with(narrow, '$') && starts_with_wildcard(wide))
		return false;
	for (; !w.done; cursor_step(&w), cursor_step(&n)) {
		if (level_is(&w, '#'))
			return true;
		if (n.done || level_is(&n, '#'))
			return false;
		if (!level_is(&w, '+') && !level_equal(&w, &n))
			return false;
	}
	return n.done;
}

bool
topic_filters_intersect(struct grapnel_str a, struct grapnel_str b)
{
	struct cursor x = cursor_start(without_empty_parent(a));
	struct cursor y = cursor_start(without_empty_parent(b));

	if ((starts_with(a, '$') && starts_with_wildcard(b)) ||
	    (starts_with(b, '$') && starts_with_wildcard(a)))
		return false;
	for (; !x.done && !y.done; cursor_step(&x), cursor_step(&y)) {
		/* Both agree so far: '#' takes whatever the other one goes on with. */
		if (level_is(&x, '#') || level_is(&y, '#'))
			return true;
		if (!level_is(&x, '+') && !level_is(&y, '+') && !level_equal(&x, &y))
			return false;
	}
	/* The longer one may go on only with a '#' that means the parent level. */
	return x.done ? y.done || level_is(&y, '#') : level_is(&x, '#');
}
