/* SPDX-License-Identifier: Apache-2.0 */
#include "select.h"

#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct strings {
	struct grapnel_str *at;
	size_t count; /* 0: whatever it is */
};

struct selection {
	uint64_t mask;
	uint64_t sample;
	bool sample_by_client;
	struct strings topics, clients, users;
};

#define ALL_EVENTS (GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_COUNT) - 1)
/* About the broker or the events themselves: these are rare, and a log without them would say wrong things. */
#define NEVER_LEFT_OUT                                         \
	(GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_BROKER_STARTING) |    \
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_BROKER_READY) |    \
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_BROKER_STOPPING) | \
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP))

static bool
starts_with(struct grapnel_str s, const char *prefix)
{
	size_t len = strlen(prefix);

	return s.len >= len && memcmp(s.data, prefix, len) == 0;
}

static bool
is(struct grapnel_str s, const char *word)
{
	return s.len == strlen(word) && starts_with(s, word);
}

/* ---- patterns and filters ---------------------------------------------------------------------- */

/* Of several ways to read the pattern only the last * is ever tried again. */
static bool
pattern_matches(struct grapnel_str pattern, struct grapnel_str s)
{
	size_t p = 0, i = 0, star = SIZE_MAX, retry = 0;

	while (i < s.len) {
		if (p < pattern.len && pattern.data[p] == '*') {
			star = p++;
			retry = i;
		} else if (p < pattern.len &&
		    (pattern.data[p] == '?' || pattern.data[p] == s.data[i])) {
			p++;
			i++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			i = ++retry;
		} else
			return false;
	}
	while (p < pattern.len && pattern.data[p] == '*')
		p++;
	return p == pattern.len;
}

/* The first level of *s, which then begins behind it. *more: there is another one. */
static struct grapnel_str
level_next(struct grapnel_str *s, bool *more)
{
	const char *slash = s->len > 0 ? memchr(s->data, '/', s->len) : NULL;
	struct grapnel_str level = { s->data, slash != NULL ? (size_t)(slash - s->data) : s->len };

	*more = slash != NULL;
	s->data += level.len + (*more ? 1 : 0);
	s->len -= level.len + (*more ? 1 : 0);
	return level;
}

/* Does filter match that Topic Name, or every Topic Name that the filter `topic` does? [MQTT-4.7.2-1] */
static bool
filter_covers(struct grapnel_str filter, struct grapnel_str topic)
{
	bool more_filter, more_topic;

	if (starts_with(topic, "$") && (starts_with(filter, "+") || starts_with(filter, "#")))
		return false;
	for (;;) {
		struct grapnel_str f = level_next(&filter, &more_filter),
				   t = level_next(&topic, &more_topic);

		if (is(f, "#"))
			return true;
		if (is(t, "#")) /* only of a filter */
			return false;
		if (!is(f, "+") && (f.len != t.len || memcmp(f.data, t.data, f.len) != 0))
			return false;
		if (!more_topic)
			return !more_filter || is(filter, "#"); /* it covers the level above it */
		if (!more_filter)
			return false;
	}
}

/* NULL: it is one. */
static const char *
filter_fault(struct grapnel_str filter)
{
	if (filter.len == 0)
		return "it is empty";
	if (starts_with(filter, "$share/"))
		return "an event has no Shared Subscription; leave out $share/ and the name behind "
		       "it";
	for (size_t i = 0; i < filter.len; i++) {
		char c = filter.data[i];

		if (c == '\0')
			return "it has a NUL byte";
		if (c != '+' && c != '#')
			continue;
		if ((i > 0 && filter.data[i - 1] != '/') ||
		    (i + 1 < filter.len && filter.data[i + 1] != '/'))
			return "+ and # must have a level of their own";
		if (c == '#' && i + 1 < filter.len)
			return "# must be its last level";
	}
	return NULL;
}

/* ---- options ------------------------------------------------------------------------------------ */

struct section {
	const struct grapnel_host *host;
	const struct grapnel_instance *self;
	const struct grapnel_block *block;
};

static bool
read_list(const struct section *sec, const char *name, struct strings *out)
{
	const struct grapnel_host *host = sec->host;
	size_t n = 0;

	if (!host->option_given(sec->self, sec->block, name))
		return true;
	while (host->option_list(sec->self, sec->block, name, n).data != NULL)
		n++;
	if (n == 0) {
		host->config_error(sec->self, sec->block, name,
		    "it is empty, so that nothing would pass; leave it out when all shall");
		return false;
	}
	if ((out->at = calloc(n, sizeof(*out->at))) == NULL)
		return false;
	out->count = n;
	for (size_t i = 0; i < n; i++)
		out->at[i] = host->option_list(sec->self, sec->block, name, i);
	return true;
}

static bool
check_filters(const struct section *sec, const struct strings *filters)
{
	bool good = true;

	for (size_t i = 0; i < filters->count; i++) {
		const char *fault = filter_fault(filters->at[i]);

		if (fault == NULL)
			continue;
		sec->host->config_error(sec->self, sec->block, "topics",
		    "\"%.*s\" is no Topic Filter: %s", (int)filters->at[i].len, filters->at[i].data,
		    fault);
		good = false;
	}
	return good;
}

#define NAME_MAX_LEN 31u

/* How many bytes must be changed, put in or left out to make the one the other. */
static size_t
distance(struct grapnel_str a, struct grapnel_str b)
{
	size_t row[NAME_MAX_LEN + 1];

	if (a.len > NAME_MAX_LEN || b.len > NAME_MAX_LEN)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t corner = row[0]++;

		for (size_t j = 1; j <= b.len; j++) {
			size_t best = corner + (a.data[i - 1] != b.data[j - 1]);

			corner = row[j];
			best = row[j] + 1 < best ? row[j] + 1 : best;
			row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
		}
	}
	return row[b.len];
}

static void
unknown_event(const struct section *sec, struct grapnel_str name, uint64_t possible)
{
	size_t best = 4; /* further away is another word */
	const char *closest = NULL;
	char list[800] = "";
	size_t len = 0;

	for (unsigned i = 0; i < GRAPNEL_EVENT_COUNT; i++) {
		const char *known = event_name((enum grapnel_event_type)i);
		size_t d = distance(name, (struct grapnel_str){ known, strlen(known) });

		if ((possible & GRAPNEL_EVENT_BIT(i)) == 0)
			continue;
		if (d < best) {
			best = d;
			closest = known;
		}
		if (len < sizeof(list))
			len += (size_t)snprintf(
			    list + len, sizeof(list) - len, "%s%s", len > 0 ? ", " : "", known);
	}
	if (closest != NULL)
		sec->host->config_error(sec->self, sec->block, "events",
		    "there is no event \"%.*s\"; \"%s\"?", (int)name.len, name.data, closest);
	else
		sec->host->config_error(sec->self, sec->block, "events",
		    "there is no event \"%.*s\"; there are %s", (int)name.len, name.data, list);
}

static bool
read_events(const struct section *sec, struct selection *s, uint64_t possible, const char *why)
{
	struct strings names = { 0 };
	bool good = read_list(sec, "events", &names);

	s->mask = good && names.count == 0 ? possible & ALL_EVENTS : 0;
	for (size_t i = 0; i < names.count; i++) {
		struct grapnel_str name = names.at[i];
		enum grapnel_event_type type = event_type_of(name);

		if (type == GRAPNEL_EVENT_COUNT) {
			unknown_event(sec, name, possible);
			good = false;
		} else if ((possible & GRAPNEL_EVENT_BIT(type)) == 0) {
			sec->host->config_error(sec->self, sec->block, "events",
			    "%s knows no event \"%.*s\"; leave it out", why, (int)name.len,
			    name.data);
			good = false;
		} else
			s->mask |= GRAPNEL_EVENT_BIT(type);
	}
	free(names.at);
	s->mask |= GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP);
	return good;
}

struct selection *
select_new(const struct grapnel_host *host, const struct grapnel_instance *self,
    const struct grapnel_block *block, uint64_t possible, const char *why)
{
	struct section sec = { host, self, block };
	struct selection *s = calloc(1, sizeof(*s));
	bool good;

	if (s == NULL)
		return NULL;
	s->sample = (uint64_t)host->option_int(self, block, "sample");
	s->sample_by_client = is(host->option_str(self, block, "sample_by"), "client");
	good = read_events(&sec, s, possible, why);
	good = read_list(&sec, "topics", &s->topics) && check_filters(&sec, &s->topics) && good;
	good = read_list(&sec, "clients", &s->clients) && good;
	good = read_list(&sec, "users", &s->users) && good;
	if (good)
		return s;
	select_free(s);
	return NULL;
}

void
select_free(struct selection *s)
{
	if (s == NULL)
		return;
	free(s->topics.at);
	free(s->clients.at);
	free(s->users.at);
	free(s);
}

/* ---- the question ------------------------------------------------------------------------------- */

static bool
any_pattern(const struct strings *patterns, struct grapnel_str s)
{
	if (patterns->count == 0)
		return true;
	if (s.data == NULL)
		return false;
	for (size_t i = 0; i < patterns->count; i++)
		if (pattern_matches(patterns->at[i], s))
			return true;
	return false;
}

static bool
any_filter(const struct strings *filters, struct grapnel_str topic)
{
	for (size_t i = 0; i < filters->count; i++)
		if (filter_covers(filters->at[i], topic))
			return true;
	return false;
}

static bool
topic_passes(const struct selection *s, struct grapnel_str topic_name)
{
	return s->topics.count > 0 ? any_filter(&s->topics, topic_name)
				   : !starts_with(topic_name, "$SYS/");
}

static bool
subscription_passes(const struct selection *s, struct grapnel_str filter)
{
	bool more;

	if (s->topics.count == 0)
		return true;
	if (starts_with(filter, "$share/")) {
		(void)level_next(&filter, &more);
		(void)level_next(&filter, &more);
	}
	return any_filter(&s->topics, filter);
}

/* Numbers that are near each other become ones that are not. */
static uint64_t
mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t
hash(struct grapnel_str s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.data[i]) * UINT64_C(0x100000001b3);
	return mix(h);
}

static bool
sampled(const struct selection *s, const struct grapnel_event *ev, struct grapnel_str client_id)
{
	if (s->sample <= 1)
		return true;
	if (s->sample_by_client)
		return client_id.data == NULL || hash(client_id) % s->sample == 0;
	return mix(ev->id.sequence) % s->sample == 0;
}

uint64_t
select_mask(const struct selection *s)
{
	return s->mask;
}

bool
select_wants(const struct selection *s, const struct grapnel_event *ev)
{
	const struct grapnel_message_info *m = ev->message;
	struct grapnel_str client_id = { NULL, 0 }, username = { NULL, 0 };

	if ((s->mask & GRAPNEL_EVENT_BIT(ev->type)) == 0)
		return false;
	if ((NEVER_LEFT_OUT & GRAPNEL_EVENT_BIT(ev->type)) != 0)
		return true;
	if (m != NULL && !topic_passes(s, m->topic_name))
		return false;
	if (ev->filter.data != NULL && !subscription_passes(s, ev->filter))
		return false;
	if (ev->client != NULL) {
		client_id = ev->client->client_id;
		username = ev->client->username;
	} else if (m != NULL) {
		client_id = m->author_client_id;
		username = m->author_username;
	}
	if (ev->client != NULL || client_id.data != NULL)
		if (!any_pattern(&s->clients, client_id) || !any_pattern(&s->users, username))
			return false;
	return sampled(s, ev, client_id);
}

bool
select_may_want_publish(const struct selection *s, const struct grapnel_client_info *client,
    const struct grapnel_message_info *message)
{
	return (s->mask & GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_MESSAGE_PUBLISHED)) != 0 &&
	    topic_passes(s, message->topic_name) && any_pattern(&s->clients, client->client_id) &&
	    any_pattern(&s->users, client->username);
}
