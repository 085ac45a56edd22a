/* SPDX-License-Identifier: MIT-0 */
/*
 * topic-rewriter - topics have one name for the clients and another one in the broker
 *
 * A mapping is a pair of prefixes. What a client publishes or subscribes to below the one is below the other in the broker, and
 * what is delivered comes back under the name the client knows. Both ways agree since a name has exactly one counterpart: no
 * prefix lies below another, a client cannot use a name of the broker's side, and a filter that would mix names that are mapped
 * and names that are not is refused; but "#", which is all there is.
 *
 * Threads:   the instance is immutable after create(); hooks run on all workers at once.
 * Ownership: what is attached to an answer is copied by the host, so the hook frees it.
 * Bounded:   MAPPINGS_MAX; a name by MQTT's own limit.
 */
#include <grapnel/plugin.h>
#include <stdlib.h>
#include <string.h>

#define MAPPINGS_MAX 64u
#define NAME_MAX_LEN 65535u

enum { FILTER_INVALID = 0x8F, NAME_INVALID = 0x90 };
enum property { MESSAGE_EXPIRY = 0x02, RESPONSE_TOPIC = 0x08, TOPIC_ALIAS = 0x23 };

struct mapping {
	struct grapnel_str client, broker; /* the options' own: they live as long as the instance */
};

struct rewriter {
	const struct grapnel_host *host;
	size_t count;
	struct mapping mappings[MAPPINGS_MAX];
};

enum outcome { SAME, CHANGED, REFUSED, NO_MEMORY };

/* A name on its way; text is the new one, of malloc(), when CHANGED. */
struct name {
	enum outcome outcome;
	struct grapnel_str text;
};

/* ---------------------------------------------------------------- names and filters */

/* Is it the prefix itself, or some levels below it? */
static bool
below(struct grapnel_str prefix, struct grapnel_str name)
{
	return name.len >= prefix.len && memcmp(name.data, prefix.data, prefix.len) == 0 &&
	    (name.len == prefix.len || name.data[prefix.len] == '/');
}

static struct name
replaced(struct grapnel_str name, size_t from, struct grapnel_str old, struct grapnel_str new)
{
	struct name out = { CHANGED, { NULL, name.len - old.len + new.len } };
	char *text;

	if (out.text.len > NAME_MAX_LEN)
		return (struct name){ .outcome = REFUSED };
	text = malloc(out.text.len + 1);
	if (text == NULL)
		return (struct name){ .outcome = NO_MEMORY };
	memcpy(text, name.data, from);
	memcpy(text + from, new.data, new.len);
	memcpy(text + from + new.len, name.data + from + old.len, name.len - from - old.len);
	out.text.data = text;
	return out;
}

static void
name_free(struct name *n)
{
	free((char *)(uintptr_t)n->text.data);
}

static struct name
to_broker(const struct rewriter *r, struct grapnel_str name)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct mapping *m = &r->mappings[i];

		if (below(m->client, name))
			return replaced(name, 0, m->client, m->broker);
		if (below(m->broker, name))
			return (struct name){ .outcome = REFUSED };
	}
	return (struct name){ .outcome = SAME };
}

static struct name
to_client(const struct rewriter *r, struct grapnel_str name)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct mapping *m = &r->mappings[i];

		if (below(m->broker, name))
			return replaced(name, 0, m->broker, m->client);
		/* From before the mapping, or from another plugin: a client would take it for what is below m->broker. */
		if (below(m->client, name))
			return (struct name){ .outcome = REFUSED };
	}
	return (struct name){ .outcome = SAME };
}

/* The level of s that begins at *pos, which moves behind it; false: there is none. */
static bool
next_level(struct grapnel_str s, size_t *pos, struct grapnel_str *level)
{
	const char *slash;

	if (*pos > s.len)
		return false;
	level->data = s.data + *pos;
	slash = memchr(level->data, '/', s.len - *pos);
	level->len = slash != NULL ? (size_t)(slash - level->data) : s.len - *pos;
	*pos += level->len + 1;
	return true;
}

static bool
is(struct grapnel_str s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* May it match the prefix, or something below it? */
static bool
meets(struct grapnel_str filter, struct grapnel_str prefix)
{
	struct grapnel_str f, p;
	size_t at = 0, prefix_at = 0;

	while (next_level(prefix, &prefix_at, &p)) {
		if (!next_level(filter, &at, &f))
			return false;
		if (is(f, "#"))
			return true;
		if (!is(f, "+") && (f.len != p.len || memcmp(f.data, p.data, f.len) != 0))
			return false;
	}
	return true;
}

/* Behind "$share/group/". */
static size_t
share_len(struct grapnel_str filter)
{
	static const char share[] = "$share/";
	const char *slash;

	if (filter.len < sizeof(share) || memcmp(filter.data, share, sizeof(share) - 1) != 0)
		return 0;
	slash = memchr(filter.data + sizeof(share) - 1, '/', filter.len - (sizeof(share) - 1));
	return slash != NULL ? (size_t)(slash - filter.data) + 1 : 0;
}

static struct name
filter_to_broker(const struct rewriter *r, struct grapnel_str filter)
{
	size_t skip = share_len(filter);
	struct grapnel_str rest = { filter.data + skip, filter.len - skip };

	for (size_t i = 0; i < r->count; i++)
		if (below(r->mappings[i].client, rest))
			return replaced(filter, skip, r->mappings[i].client, r->mappings[i].broker);
	if (is(rest, "#"))
		return (struct name){ .outcome = SAME };
	for (size_t i = 0; i < r->count; i++)
		if (meets(rest, r->mappings[i].client) || meets(rest, r->mappings[i].broker))
			return (struct name){ .outcome = REFUSED };
	return (struct name){ .outcome = SAME };
}

/* ------------------------------------------------------------------------- messages */

typedef struct name (*map_fn)(const struct rewriter *r, struct grapnel_str name);

/* Changed properties replace all of them, so the others have to be copied. */
struct properties {
	struct grapnel_property *all; /* NULL: they stay as they are */
	size_t count;
	struct name response;
};

static enum outcome
map_properties(const struct rewriter *r, const struct grapnel_message_info *m, map_fn map,
    struct properties *out)
{
	struct grapnel_property p;
	size_t pos = 0, count = 0, response = 0;

	memset(out, 0, sizeof(*out));
	while (r->host->property_next(m->properties, &pos, &p) == 1) {
		count++;
		if (p.id == RESPONSE_TOPIC) {
			out->response = map(r, p.u.str);
			response = count;
		}
	}
	if (response == 0 || out->response.outcome != CHANGED)
		return response == 0 ? SAME : out->response.outcome;
	out->all = calloc(count + 1, sizeof(*out->all));
	if (out->all == NULL)
		return NO_MEMORY;
	for (pos = 0; r->host->property_next(m->properties, &pos, &p) == 1;) {
		if (p.id == RESPONSE_TOPIC)
			p.u.str = out->response.text;
		if (p.id != MESSAGE_EXPIRY &&
		    p.id != TOPIC_ALIAS) /* the latter is of the connection */
			out->all[out->count++] = p;
	}
	/* What is left of it now; without it, the message would never expire. */
	if (m->has_message_expiry) {
		out->all[out->count] = (struct grapnel_property){ .id = MESSAGE_EXPIRY };
		out->all[out->count++].u.number = m->message_expiry;
	}
	return CHANGED;
}

static enum grapnel_verdict
map_message(const struct rewriter *r, struct grapnel_request *req,
    const struct grapnel_message_info *m, map_fn map)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer) };
	struct name topic = map(r, m->topic_name);
	struct properties props;
	enum outcome response = map_properties(r, m, map, &props);
	enum grapnel_verdict verdict = GRAPNEL_UNAVAILABLE;

	if (topic.outcome == REFUSED || response == REFUSED) {
		answer.reason_code = NAME_INVALID;
		answer.reason_string = GRAPNEL_STR("a topic of that name is not for clients");
		if (r->host->publish_answer(req, &answer) == GRAPNEL_OK)
			verdict = GRAPNEL_DENY;
	} else if (topic.outcome == SAME && response == SAME) {
		verdict = GRAPNEL_NEXT;
	} else if (topic.outcome != NO_MEMORY && response != NO_MEMORY) {
		answer.topic_name = topic.text;
		answer.has_properties = props.all != NULL;
		answer.properties = props.all;
		answer.property_count = props.count;
		if (r->host->publish_answer(req, &answer) == GRAPNEL_OK)
			verdict = GRAPNEL_ALLOW;
	}
	name_free(&topic);
	name_free(&props.response);
	free(props.all);
	return verdict;
}

static enum grapnel_verdict
rewriter_message_publish(
    void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	return map_message(instance, req, q->message, to_broker);
}

static enum grapnel_verdict
rewriter_message_deliver(
    void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	return map_message(instance, req, q->message, to_client);
}

/* ---------------------------------------------------------------------- subscriptions */

/* An UNSUBSCRIBE has to name what the SUBSCRIBE became: the same function for both. */
static enum grapnel_verdict
rewriter_client_subscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	const struct rewriter *r = instance;
	struct grapnel_subscribe_answer answer = { .size = sizeof(answer) };
	struct name filter = filter_to_broker(r, q->filter);
	enum grapnel_verdict verdict = GRAPNEL_UNAVAILABLE;

	switch (filter.outcome) {
	case SAME:
		return GRAPNEL_NEXT;
	case NO_MEMORY:
		return GRAPNEL_UNAVAILABLE;
	case REFUSED:
		answer.reason_code = FILTER_INVALID;
		answer.reason_string =
		    GRAPNEL_STR("the filter mixes topics with other names in the broker");
		verdict = GRAPNEL_DENY;
		break;
	case CHANGED:
		answer.filter = filter.text;
		verdict = GRAPNEL_ALLOW;
		break;
	}
	if (r->host->subscribe_answer(req, &answer) != GRAPNEL_OK)
		verdict = GRAPNEL_UNAVAILABLE;
	name_free(&filter);
	return verdict;
}

/* ------------------------------------------------------------------------ the instance */

static const char *
why_not_a_prefix(struct grapnel_str s)
{
	if (s.len == 0 || s.data[s.len - 1] == '/')
		return "a prefix is some levels without a slash at the end";
	if (memchr(s.data, '+', s.len) != NULL || memchr(s.data, '#', s.len) != NULL)
		return "a prefix has no wildcards";
	return s.data[0] == '$' ? "topics that begin with $ are the broker's" : NULL;
}

static bool
collide(struct grapnel_str a, struct grapnel_str b)
{
	return below(a, b) || below(b, a);
}

static bool
add_mapping(struct rewriter *r, struct grapnel_instance *self, const struct grapnel_block *block)
{
	const struct grapnel_host *host = r->host;
	struct mapping m = { host->option_str(self, block, "client"),
		host->option_str(self, block, "broker") };
	const char *client_why = why_not_a_prefix(m.client),
		   *broker_why = why_not_a_prefix(m.broker);
	bool good = client_why == NULL && broker_why == NULL && !collide(m.client, m.broker);

	if (client_why != NULL)
		host->config_error(self, block, "client", "%s", client_why);
	if (broker_why != NULL)
		host->config_error(self, block, "broker", "%s", broker_why);
	if (client_why == NULL && broker_why == NULL && !good)
		host->config_error(self, block, NULL, "one of its prefixes lies below the other");
	for (size_t i = 0; good && i < r->count; i++) {
		const struct mapping *o = &r->mappings[i];

		good = !collide(m.client, o->client) && !collide(m.client, o->broker) &&
		    !collide(m.broker, o->client) && !collide(m.broker, o->broker);
		if (!good)
			host->config_error(self, block, NULL,
			    "one of its prefixes lies below one of another mapping, or is equal to "
			    "it");
	}
	if (good)
		r->mappings[r->count++] = m;
	return good;
}

static int
rewriter_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct rewriter *r = calloc(1, sizeof(*r));
	const struct grapnel_block *block;
	bool good = true;

	if (r == NULL)
		return GRAPNEL_ENOMEM;
	r->host = host;
	/* All errors are told, not the first one alone. */
	for (size_t i = 0; (block = host->option_block(self, NULL, "mapping", i, NULL)) != NULL;
	     i++) {
		if (i == MAPPINGS_MAX) {
			host->config_error(
			    self, block, NULL, "more than %u mappings", MAPPINGS_MAX);
			good = false;
			break;
		}
		good &= add_mapping(r, self, block);
	}
	if (good && r->count == 0) {
		host->config_error(self, NULL, NULL, "there is no mapping");
		good = false;
	}
	if (!good) {
		free(r);
		return GRAPNEL_EINVAL;
	}
	*instance = r;
	return GRAPNEL_OK;
}

static const struct grapnel_option mapping_options[] = {
	{ .name = "broker",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "First levels of the topics in the broker." },
	{ .name = "client",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "First levels of the same topics for the clients." },
	{ .name = NULL },
};

static const struct grapnel_option rewriter_options[] = {
	{ .name = "mapping",
	    .type = GRAPNEL_OPTION_BLOCK,
	    .options = mapping_options,
	    .help = "Two prefixes for the same topics." },
	{ .name = NULL },
};

GRAPNEL_PLUGIN(topic_rewriter, .version = "1.0", .license = "MIT-0",
    .description = "Other names for topics, in both directions", .options = rewriter_options,
    .create = rewriter_create, .destroy = free, .message_publish = rewriter_message_publish,
    .client_subscribe = rewriter_client_subscribe, .client_unsubscribe = rewriter_client_subscribe,
    .message_deliver = rewriter_message_deliver);
