/* SPDX-License-Identifier: Apache-2.0 */
#include "purge.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVERYBODY ((struct grapnel_str){ NULL, 0 })

struct purge {
	struct instance *a;
	struct keeper keeper;
	char prefix[32]; /* "__keyspace@0__:" */
	unsigned wanted; /* subscriptions that are not confirmed */
	bool listening;
};

static void
purge(struct purge *p, struct grapnel_str username, struct grapnel_str client_id)
{
	count(p->a, p->a->metrics.purges);
	if (p->a->host->cache_purge(p->a->self, username, client_id) != GRAPNEL_OK)
		p->a->host->log(p->a->self, GRAPNEL_LOG_ERROR,
		    "kept answers could not be purged: out of memory");
}

/* A key was changed: whose is it? */
static void
key_changed(struct purge *p, struct grapnel_str name)
{
	const struct settings *s = &p->a->settings;

	for (unsigned i = 0; i < s->key_count; i++) {
		struct grapnel_str value = EVERYBODY;
		unsigned field = key_owner(s->keys[i], name, &value);

		if (field == 0)
			continue;
		if (field == TEMPLATE_USERNAME)
			purge(p, value, EVERYBODY);
		else if (field == TEMPLATE_CLIENT_ID)
			purge(p, EVERYBODY, value);
		else
			purge(p, EVERYBODY, EVERYBODY);
		free((void *)(uintptr_t)value.data);
		return;
	}
}

static void
on_message(struct purge *p, struct grapnel_str name)
{
	bool everybody = name.len == 0 || (name.len == 1 && *name.data == '*');

	purge(p, everybody ? EVERYBODY : name, EVERYBODY);
}

static void
confirmed(struct purge *p)
{
	if (p->wanted == 0 || --p->wanted > 0)
		return;
	p->listening = true;
	p->a->host->metric_add(p->a->self, p->a->metrics.listening, 1);
	if (atomic_exchange(&p->a->listened, true))
		purge(p, EVERYBODY, EVERYBODY); /* what was said meanwhile is lost */
}

static bool
is(struct grapnel_str text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

static void
on_push(void *arg, const redisReply *reply)
{
	struct purge *p = arg;
	struct grapnel_str kind, name;
	size_t prefix = strlen(p->prefix);

	if (reply->type == REDIS_REPLY_ERROR) {
		conn_fail(&p->keeper.conn, "it refuses to be listened to: %.120s", reply->str);
		return;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) {
		conn_fail(&p->keeper.conn, "it says what is no message");
		return;
	}
	kind = reply_text(reply->element[0]);
	if (is(kind, "pong"))
		return;
	if (is(kind, "subscribe") || is(kind, "psubscribe")) {
		confirmed(p);
		return;
	}
	if (is(kind, "message") && reply->elements == 3) {
		name = reply_text(reply->element[2]);
		if (name.data != NULL)
			on_message(p, name);
	} else if (is(kind, "pmessage") && reply->elements == 4) {
		name = reply_text(reply->element[2]);
		if (name.len > prefix && memcmp(name.data, p->prefix, prefix) == 0)
			key_changed(
			    p, (struct grapnel_str){ name.data + prefix, name.len - prefix });
	}
}

/* ------------------------------------------------------------------------- subscribing */

/* Keyspace notifications need K and some of the classes of events. */
static void
on_config(void *arg, const redisReply *reply)
{
	struct purge *p = arg;
	struct grapnel_str flags = { NULL, 0 };

	if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
		return; /* CONFIG may be forbidden */
	if (reply_is_texts(reply) && reply->elements == 2)
		flags = reply_text(reply->element[1]);
	if (flags.len > 0 && memchr(flags.data, 'K', flags.len) != NULL)
		return;
	p->a->host->log(p->a->self, GRAPNEL_LOG_WARNING,
	    "keyspace_events = yes, but the server sends none; there: CONFIG SET "
	    "notify-keyspace-events "
	    "KA");
}

static bool
subscribe(struct purge *p, const char *word, const char *name, size_t len)
{
	struct grapnel_str argv[2] = { { word, strlen(word) }, { name, len } };

	p->wanted++;
	return conn_write_only(&p->keeper.conn, 2, argv);
}

static bool
subscribe_keys(struct purge *p)
{
	static const struct grapnel_str config[] = { { "CONFIG", 6 }, { "GET", 3 },
		{ "notify-keyspace-events", 22 } };
	const struct settings *s = &p->a->settings;
	bool good = conn_send(&p->keeper.conn, 3, config, on_config, p) != NULL;

	for (unsigned i = 0; good && i < s->key_count; i++) {
		char *pattern = key_pattern(s->keys[i], p->prefix);

		good = pattern != NULL && subscribe(p, "PSUBSCRIBE", pattern, strlen(pattern));
		free(pattern);
	}
	return good;
}

static void
on_up(void *arg)
{
	struct purge *p = arg;
	const struct settings *s = &p->a->settings;
	bool good = true;

	p->wanted = 0;
	if (s->keyspace_events)
		good = subscribe_keys(p);
	if (good && s->purge_channel.data != NULL)
		good = subscribe(p, "SUBSCRIBE", s->purge_channel.data, s->purge_channel.len);
	if (!good)
		conn_fail(&p->keeper.conn, "out of memory");
}

static bool
on_down(void *arg)
{
	struct purge *p = arg;

	if (p->listening)
		p->a->host->metric_add(p->a->self, p->a->metrics.listening, -1);
	p->listening = false;
	return true;
}

static const struct keeper_events purge_events = { .up = on_up, .down = on_down, .push = on_push };

struct purge *
purge_new(struct instance *a)
{
	struct purge *p = calloc(1, sizeof(*p));
	const struct settings *s = &a->settings;

	if (p == NULL)
		return NULL;
	p->a = a;
	snprintf(p->prefix, sizeof(p->prefix), "__keyspace@%u__:", s->database);
	if (!keeper_init(
		&p->keeper, a, CONN_LISTENER, s->servers, s->server_count, &purge_events, p)) {
		purge_free(p);
		return NULL;
	}
	keeper_start(&p->keeper);
	return p;
}

void
purge_free(struct purge *p)
{
	if (p == NULL)
		return;
	if (p->keeper.a != NULL)
		(void)on_down(p);
	keeper_fini(&p->keeper);
	free(p);
}
