/* SPDX-License-Identifier: Apache-2.0 */
/* Commands and their answers, in order; the first ones of a connection are its greeting. */
#include "conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGUMENTS 8
#define PING_MS       10000u /* of a listener: it would not hear that its server is gone */

struct command {
	struct command *next;
	command_fn fn; /* NULL: nobody wants the answer */
	void *arg;
	uint64_t deadline; /* once it is sent */
	char *bytes;       /* while it waits for the connection; hiredis's */
	size_t len;
};

static void
free_bytes(struct command *m)
{
	if (m->bytes == NULL)
		return;
	explicit_bzero(m->bytes, m->len);
	redisFreeCommand(m->bytes);
	m->bytes = NULL;
}

/* false: no memory. */
static bool
format(int argc, const struct grapnel_str *argv, char **bytes, size_t *len)
{
	const char *texts[MAX_ARGUMENTS];
	size_t lens[MAX_ARGUMENTS];
	long long size;

	for (int i = 0; i < argc; i++) {
		texts[i] = argv[i].data;
		lens[i] = argv[i].len;
	}
	size = redisFormatCommandArgv(bytes, argc, texts, lens);
	*len = size > 0 ? (size_t)size : 0;
	return size > 0;
}

static void
append(struct command **first, struct command **last, struct command *m)
{
	m->next = NULL;
	if (*last != NULL)
		(*last)->next = m;
	else
		*first = m;
	*last = m;
}

/* Into the output and among those that are sent. false: no memory. */
static bool
send_now(struct conn *c, struct command *m)
{
	if (!conn_put(c, m->bytes, m->len))
		return false;
	free_bytes(m);
	m->deadline = c->a->host->now_ms() + c->a->settings.command_timeout_ms;
	append(&c->first, &c->last, m);
	if (c->state == CONN_UP && !c->timer_armed)
		conn_arm(c, m->deadline);
	conn_rewatch(c);
	return true;
}

static struct command *
command_new(int argc, const struct grapnel_str *argv, command_fn fn, void *arg)
{
	struct command *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->fn = fn;
	m->arg = arg;
	if (format(argc, argv, &m->bytes, &m->len))
		return m;
	free(m);
	return NULL;
}

static void
command_free(struct command *m)
{
	free_bytes(m);
	free(m);
}

struct command *
conn_send(struct conn *c, int argc, const struct grapnel_str *argv, command_fn fn, void *arg)
{
	bool up = c->state == CONN_UP;
	struct command *m;

	if (c->state == CONN_DOWN || (!up && !c->may_wait) ||
	    c->commands >= c->a->settings.max_commands)
		return NULL;
	if ((m = command_new(argc, argv, fn, arg)) == NULL)
		return NULL;
	if (!up) {
		append(&c->waiting_first, &c->waiting_last, m);
	} else if (!send_now(c, m)) {
		command_free(m);
		return NULL;
	}
	c->commands++;
	count(c->a, c->a->metrics.commands);
	return m;
}

void
command_forget(struct command *command)
{
	command->fn = NULL;
}

bool
conn_write_only(struct conn *c, int argc, const struct grapnel_str *argv)
{
	char *bytes;
	size_t len;
	bool good;

	if (!format(argc, argv, &bytes, &len))
		return false;
	good = conn_put(c, bytes, len);
	redisFreeCommand(bytes);
	conn_rewatch(c);
	return good;
}

/* Those that waited for the connection go out. */
void
conn_release_waiting(struct conn *c)
{
	struct command *m = c->waiting_first, *next;

	c->waiting_first = c->waiting_last = NULL;
	for (; m != NULL; m = next) {
		next = m->next;
		if (m->fn != NULL && send_now(c, m))
			continue;
		c->commands--;
		if (m->fn != NULL)
			m->fn(m->arg, NULL);
		command_free(m);
	}
}

static void
lose(struct command *m)
{
	struct command *next;

	for (; m != NULL; m = next) {
		next = m->next;
		if (m->fn != NULL)
			m->fn(m->arg, NULL);
		command_free(m);
	}
}

void
conn_commands_lost(struct conn *c)
{
	struct command *sent = c->first, *waiting = c->waiting_first;

	c->first = c->last = c->waiting_first = c->waiting_last = NULL;
	c->commands = c->greetings = 0;
	lose(sent);
	lose(waiting);
}

void
conn_got_reply(struct conn *c, const redisReply *reply)
{
	struct command *m = c->first;

	c->last_heard = c->a->host->now_ms();
	if (m == NULL) {
		if (c->kind == CONN_LISTENER && c->state == CONN_UP)
			c->events->push(c->arg, reply);
		else if (reply->type == REDIS_REPLY_ERROR)
			conn_fail(c, "%.120s", reply->str);
		else
			conn_fail(c, "it answers what nobody asked");
		return;
	}
	c->first = m->next;
	if (c->first == NULL)
		c->last = NULL;
	if (c->state == CONN_UP)
		c->commands--;
	if (m->fn != NULL)
		m->fn(m->arg, reply);
	command_free(m);
}

/* ------------------------------------------------------------------------- deadlines */

static void
keep_alive(struct conn *c)
{
	static const struct grapnel_str ping[] = { { "PING", 4 } };
	uint64_t now = c->a->host->now_ms();

	if (now - c->last_heard > 2 * PING_MS + c->a->settings.command_timeout_ms)
		conn_fail(c, "it says nothing any more");
	else if (!conn_write_only(c, 1, ping))
		conn_fail(c, "out of memory");
	else
		conn_arm(c, now + PING_MS);
}

/* Time is over for a command, or there is none. */
void
conn_timer_up(struct conn *c)
{
	uint64_t now = c->a->host->now_ms(), timeout = c->a->settings.command_timeout_ms, mute_at;
	unsigned generation = c->generation;
	struct command *m = c->first;

	if (m == NULL) {
		if (c->kind == CONN_LISTENER)
			keep_alive(c);
		return;
	}
	/* Nothing has come since the oldest was sent, or since another was answered: not slow, but mute. */
	mute_at = m->deadline > c->last_heard + timeout ? m->deadline : c->last_heard + timeout;
	if (mute_at <= now) {
		count(c->a, c->a->metrics.commands_timed_out);
		conn_fail(c, "no answer within %u ms (command_timeout)",
		    c->a->settings.command_timeout_ms);
		return;
	}
	for (; m != NULL && m->deadline <= now; m = m->next) {
		command_fn fn = m->fn;

		m->fn = NULL; /* its answer will come, for nobody */
		if (fn == NULL)
			continue;
		count(c->a, c->a->metrics.commands_timed_out);
		fn(m->arg, NULL);
		if (c->generation != generation)
			return;
	}
	conn_arm(c, m != NULL && m->deadline < mute_at ? m->deadline : mute_at);
}

/* -------------------------------------------------------------------------- greeting */

static void
greeted(struct conn *c)
{
	const struct grapnel_host *host = c->a->host;

	if (--c->greetings > 0)
		return;
	c->state = CONN_UP;
	if (c->kind != CONN_SENTINEL)
		host->metric_add(c->a->self, c->a->metrics.connections, 1);
	host->timer_disarm(c->timer);
	c->timer_armed = false;
	c->events->up(c->arg);
	if (c->state != CONN_UP)
		return;
	conn_release_waiting(c);
	if (c->kind == CONN_LISTENER && !c->timer_armed)
		conn_arm(c, host->now_ms() + PING_MS);
}

static void
refused(struct conn *c, const char *what, const redisReply *reply)
{
	count(c->a, c->a->metrics.commands_failed);
	if (reply->type == REDIS_REPLY_ERROR)
		conn_fail(c, "%s: %.120s", what, reply->str);
	else
		conn_fail(c, "%s: an answer that makes no sense", what);
}

static void
on_auth(void *arg, const redisReply *reply)
{
	struct conn *c = arg;

	if (reply == NULL)
		return;
	if (reply_is_ok(reply))
		greeted(c);
	else
		refused(c, "AUTH", reply);
}

static void
on_select(void *arg, const redisReply *reply)
{
	struct conn *c = arg;

	if (reply == NULL)
		return;
	if (reply_is_ok(reply))
		greeted(c);
	else
		refused(c, "SELECT", reply);
}

static void
on_role(void *arg, const redisReply *reply)
{
	struct conn *c = arg;
	struct grapnel_str role;

	if (reply == NULL)
		return;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) {
		refused(c, "ROLE", reply);
		return;
	}
	role = reply_text(reply->element[0]);
	if (role.len == 6 && memcmp(role.data, "master", 6) == 0)
		greeted(c);
	else
		conn_fail(c, "the sentinels call it master, but it is none (yet)");
}

/* Whoever may not PING is logged in all the same. */
static void
on_ping(void *arg, const redisReply *reply)
{
	struct conn *c = arg;

	if (reply == NULL)
		return;
	if (reply_is_ok(reply) || reply_is_error(reply, "NOPERM"))
		greeted(c);
	else
		refused(c, "PING", reply);
}

static bool
greet_with(struct conn *c, int argc, const struct grapnel_str *argv, command_fn fn)
{
	struct command *m = command_new(argc, argv, fn, c);

	if (m == NULL)
		return false;
	if (!send_now(c, m)) {
		command_free(m);
		return false;
	}
	c->greetings++;
	return true;
}

void
conn_greet(struct conn *c)
{
	const struct settings *s = &c->a->settings;
	const struct account *account =
	    c->kind == CONN_SENTINEL ? &s->sentinel_account : &s->account;
	struct grapnel_str auth[3] = { GRAPNEL_STR("AUTH"), account->username, account->password };
	struct grapnel_str select[2] = { GRAPNEL_STR("SELECT"), { NULL, 0 } };
	struct grapnel_str role = GRAPNEL_STR("ROLE"), ping = GRAPNEL_STR("PING");
	char number[8];
	bool good = true;

	c->state = CONN_GREETING;
	conn_arm(c, c->deadline);
	if (account->password.data != NULL && account->username.data != NULL) {
		good = greet_with(c, 3, auth, on_auth);
	} else if (account->password.data != NULL) {
		auth[1] = account->password;
		good = greet_with(c, 2, auth, on_auth);
	}
	if (s->database != 0 && c->kind != CONN_SENTINEL) {
		select[1].data = number;
		select[1].len = (size_t)snprintf(number, sizeof(number), "%u", s->database);
		good = good && greet_with(c, 2, select, on_select);
	}
	if (c->expect_master)
		good = good && greet_with(c, 1, &role, on_role);
	good = good && greet_with(c, 1, &ping, on_ping);
	if (!good)
		conn_fail(c, "out of memory");
}
