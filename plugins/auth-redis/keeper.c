/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper.h"

#include <stdio.h>
#include <string.h>

#define LASTED_MS 1000u /* a connection that was up for so long was a good one */
#define MAX_SHIFT 16u

static void attempt(void *arg);

/* ------------------------------------------------------------------------------ log */

/* One line when the first of all connections of the instance cannot be had, and one when the last one has come back. */
static void
say_failing(struct keeper *k, const struct endpoint *at, const char *why)
{
	enum grapnel_log_level level = GRAPNEL_LOG_DEBUG;
	char text[ENDPOINT_TEXT_SIZE] = "";

	if (!k->failing && atomic_fetch_add(&k->a->failing, 1) == 0)
		level = GRAPNEL_LOG_ERROR;
	k->failing = true;
	if (at != NULL)
		endpoint_text(at, text);
	k->a->host->log(k->a->self, level,
	    "no connection to Redis%s%s: %s; it is tried again until there is one",
	    at != NULL ? " at " : "", text, why);
}

/* true: it was the last one that failed. */
static bool
not_failing(struct keeper *k)
{
	if (!k->failing)
		return false;
	k->failing = false;
	return atomic_fetch_sub(&k->a->failing, 1) == 1;
}

static void
say_well(struct keeper *k)
{
	char text[ENDPOINT_TEXT_SIZE];

	if (!not_failing(k))
		return;
	endpoint_text(&k->conn.at, text);
	k->a->host->log(k->a->self, GRAPNEL_LOG_NOTICE, "connected to Redis at %s again", text);
}

/* ------------------------------------------------------------------------- attempts */

static uint32_t
random_below(struct keeper *k, uint32_t limit)
{
	uint32_t value = 0;

	if (limit == 0 || k->a->host->random_bytes(&value, sizeof(value)) != GRAPNEL_OK)
		return 0;
	return value % limit;
}

static void
try_later(struct keeper *k)
{
	const struct settings *s = &k->a->settings;
	unsigned shift = k->failures > MAX_SHIFT ? MAX_SHIFT : k->failures;
	uint64_t delay = 0;

	if (k->failures > 0) {
		delay = (uint64_t)s->reconnect_min_ms << (shift - 1);
		if (delay > s->reconnect_max_ms)
			delay = s->reconnect_max_ms;
		delay -= random_below(k, (uint32_t)delay / 2);
	}
	(void)k->a->host->timer_arm(k->timer, (uint32_t)delay + 1);
}

static void
on_up(void *arg)
{
	struct keeper *k = arg;

	k->up_at = k->a->host->now_ms();
	k->conn.may_wait = true;
	say_well(k);
	if (k->events->up != NULL)
		k->events->up(k->arg);
}

static void
on_down(void *arg, const char *why)
{
	struct keeper *k = arg;
	uint64_t now = k->a->host->now_ms();
	bool lasted = k->up_at != 0 && now - k->up_at >= LASTED_MS;
	char text[ENDPOINT_TEXT_SIZE];

	conn_stop(&k->sentinel);
	if (k->up_at != 0) {
		endpoint_text(&k->conn.at, text);
		k->a->host->log(k->a->self, GRAPNEL_LOG_INFO,
		    "the connection to Redis at %s is lost: %s", text, why);
	}
	/* One that never was, or ended at once: the next server of the list, after a while. */
	k->failures = lasted ? 0 : k->failures + 1;
	if (!lasted) {
		k->conn.may_wait = false;
		k->server++;
		count(k->a, k->a->metrics.connects_failed);
		say_failing(k, k->conn.at.host[0] != '\0' ? &k->conn.at : NULL, why);
	}
	k->up_at = 0;
	if (k->events->down == NULL || k->events->down(k->arg)) {
		try_later(k);
		return;
	}
	not_failing(k);
	endpoint_text(&k->conn.at, text);
	k->a->host->log(k->a->self, GRAPNEL_LOG_NOTICE, "Redis at %s is given up", text);
}

static void
on_push(void *arg, const redisReply *reply)
{
	struct keeper *k = arg;

	k->events->push(k->arg, reply);
}

static const struct conn_events conn_events = { .up = on_up, .down = on_down, .push = on_push };

/* ------------------------------------------------------------------------- sentinels */

static void
ask_sentinel(struct keeper *k)
{
	const struct settings *s = &k->a->settings;

	if (k->sentinels_left == 0) {
		conn_fail(&k->conn, "no sentinel says where the master \"%.*s\" is",
		    (int)s->sentinel_master.len, s->sentinel_master.data);
		return;
	}
	k->sentinels_left--;
	k->sentinel_index = (k->sentinel_index + 1) % s->sentinel_count;
	conn_start(&k->sentinel, &s->sentinels[k->sentinel_index]);
}

static void
on_master(void *arg, const redisReply *reply)
{
	struct keeper *k = arg;
	struct endpoint master;

	if (reply == NULL)
		return; /* its end says on_sentinel_down */
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    !endpoint_set(&master, reply_text(reply->element[0]), reply_text(reply->element[1]))) {
		conn_fail(&k->sentinel, "%s",
		    reply->type == REDIS_REPLY_ERROR     ? "it refuses to say where the master is"
			: reply->type == REDIS_REPLY_NIL ? "it does not know that master"
							 : "it says nonsense about the master");
		return;
	}
	conn_stop(&k->sentinel);
	if (k->conn.state == CONN_HELD)
		conn_start(&k->conn, &master);
}

static void
on_sentinel_up(void *arg)
{
	struct keeper *k = arg;
	struct grapnel_str argv[3] = { GRAPNEL_STR("SENTINEL"),
		GRAPNEL_STR("get-master-addr-by-name"), k->a->settings.sentinel_master };

	if (conn_send(&k->sentinel, 3, argv, on_master, k) == NULL)
		conn_fail(&k->sentinel, "out of memory");
}

static void
on_sentinel_down(void *arg, const char *why)
{
	struct keeper *k = arg;
	char text[ENDPOINT_TEXT_SIZE];

	endpoint_text(&k->sentinel.at, text);
	k->a->host->log(k->a->self, GRAPNEL_LOG_DEBUG, "sentinel %s: %s", text, why);
	if (k->conn.state == CONN_HELD)
		ask_sentinel(k);
}

static const struct conn_events sentinel_events = { .up = on_sentinel_up,
	.down = on_sentinel_down };

/* ------------------------------------------------------------------------------ life */

static void
attempt(void *arg)
{
	struct keeper *k = arg;

	if (k->sentinel.timer == NULL) {
		conn_start(&k->conn, &k->servers[k->server % k->server_count]);
		return;
	}
	conn_hold(&k->conn);
	k->sentinels_left = k->a->settings.sentinel_count;
	ask_sentinel(k);
}

bool
keeper_init(struct keeper *k, struct instance *a, enum conn_kind kind,
    const struct endpoint *servers, unsigned server_count, const struct keeper_events *events,
    void *arg)
{
	memset(k, 0, sizeof(*k));
	k->a = a;
	k->servers = servers;
	k->server_count = server_count;
	k->events = events;
	k->arg = arg;
	k->conn.a = k->sentinel.a = a;
	k->timer = a->host->timer_new(a->self, attempt, k);
	if (k->timer == NULL || !conn_init(&k->conn, a, kind, &conn_events, k))
		return false;
	k->conn.may_wait = true;
	if (a->settings.sentinel_count == 0)
		return true;
	k->conn.expect_master = true;
	k->sentinel_index = random_below(k, a->settings.sentinel_count);
	return conn_init(&k->sentinel, a, CONN_SENTINEL, &sentinel_events, k);
}

void
keeper_start(struct keeper *k)
{
	attempt(k);
}

void
keeper_fini(struct keeper *k)
{
	if (k->a == NULL)
		return;
	(void)not_failing(k); /* without a word: it is not back */
	conn_fini(&k->conn);
	conn_fini(&k->sentinel);
	if (k->timer != NULL)
		k->a->host->timer_free(k->timer);
	k->timer = NULL;
}
