/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "slots.h"

#include <stdlib.h>
#include <string.h>

#define NO_NODE       UINT8_MAX
#define GIVE_UP_AFTER 8u /* failures in a row of a node that is not configured */

struct node {
	struct pool *p;
	struct endpoint at;     /* in a cluster */
	struct keeper *keepers; /* NULL: this place is free */
	unsigned keeper_count, next;
	bool learned;
};

struct pool {
	struct instance *a;
	struct node nodes[POOL_MAX_NODES];
	unsigned next;
	uint8_t slots[SLOT_COUNT]; /* whose; NO_NODE: not known */
};

struct query {
	struct pool *p;
	struct node *node; /* that was asked last */
	enum verb verb;
	query_fn fn;
	void *arg;
	struct command *command;
	unsigned redirects;
	size_t key_len;
	char key[];
};

/* ------------------------------------------------------------------------------ nodes */

static void
node_close(struct node *n)
{
	for (unsigned i = 0; n->keepers != NULL && i < n->keeper_count; i++)
		keeper_fini(&n->keepers[i]);
	free(n->keepers);
	n->keepers = NULL;
}

static void
forget_slots(struct pool *p, const struct node *n)
{
	for (unsigned i = 0; i < SLOT_COUNT; i++)
		if (p->slots[i] == n - p->nodes)
			p->slots[i] = NO_NODE;
}

/* One of its connections is lost: others may have taken its slots over. */
static bool
on_node_down(void *arg)
{
	struct node *n = arg;
	bool hopeless = n->learned;

	if (!n->p->a->settings.cluster)
		return true;
	forget_slots(n->p, n);
	for (unsigned i = 0; i < n->keeper_count; i++)
		if (n->keepers[i].failures < GIVE_UP_AFTER)
			hopeless = false;
	return !hopeless; /* its place is taken when one is needed: a keeper cannot go in its own callback */
}

static const struct keeper_events node_events = { .down = on_node_down };

/* at NULL: whichever of the configured servers. false: no memory. */
static bool
node_open(struct pool *p, struct node *n, const struct endpoint *at, bool learned)
{
	const struct settings *s = &p->a->settings;
	bool good = true;

	n->p = p;
	n->learned = learned;
	n->next = 0;
	if (at != NULL)
		n->at = *at;
	n->keepers = calloc(s->connections, sizeof(*n->keepers));
	if (n->keepers == NULL)
		return false;
	n->keeper_count = s->connections;
	for (unsigned i = 0; i < n->keeper_count; i++)
		good = good &&
		    keeper_init(&n->keepers[i], p->a, CONN_DATA, at != NULL ? &n->at : s->servers,
			at != NULL ? 1 : s->server_count, &node_events, n);
	if (!good) {
		node_close(n);
		return false;
	}
	for (unsigned i = 0; i < n->keeper_count; i++)
		keeper_start(&n->keepers[i]);
	return true;
}

static bool
is_hopeless(const struct node *n)
{
	for (unsigned i = 0; i < n->keeper_count; i++)
		if (n->keepers[i].failures == 0)
			return false;
	return n->learned;
}

/* The node at that address, made if need be. NULL: there are too many, or no memory. */
static struct node *
node_at(struct pool *p, const struct endpoint *at)
{
	struct node *place = NULL;

	for (unsigned i = 0; i < POOL_MAX_NODES; i++) {
		struct node *n = &p->nodes[i];

		if (n->keepers != NULL && endpoint_equal(&n->at, at))
			return n;
		if (n->keepers == NULL && (place == NULL || place->keepers != NULL))
			place = n;
		else if (place == NULL && n->keepers != NULL && is_hopeless(n))
			place = n;
	}
	if (place == NULL)
		return NULL;
	forget_slots(p, place);
	node_close(place);
	return node_open(p, place, at, true) ? place : NULL;
}

struct pool *
pool_new(struct instance *a)
{
	struct pool *p = calloc(1, sizeof(*p));
	const struct settings *s = &a->settings;

	if (p == NULL)
		return NULL;
	p->a = a;
	memset(p->slots, s->cluster ? NO_NODE : 0, sizeof(p->slots));
	for (unsigned i = 0; i < (s->cluster ? s->server_count : 1); i++)
		if (!node_open(p, &p->nodes[i], s->cluster ? &s->servers[i] : NULL, false)) {
			pool_free(p);
			return NULL;
		}
	return p;
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	for (unsigned i = 0; i < POOL_MAX_NODES; i++)
		node_close(&p->nodes[i]);
	free(p);
}

/* ---------------------------------------------------------------------------- queries */

static void
on_asking(void *arg, const redisReply *reply)
{
	/* What follows it tells all. */
	(void)arg;
	(void)reply;
}

static struct command *
send_on(struct node *n, struct query *q, command_fn fn, bool asking)
{
	static const struct grapnel_str words[] = { [VERB_GET] = { "GET", 3 },
		[VERB_HGETALL] = { "HGETALL", 7 },
		[VERB_SMEMBERS] = { "SMEMBERS", 8 },
		[VERB_LRANGE] = { "LRANGE", 6 } };
	struct grapnel_str argv[4] = { words[q->verb], { q->key, q->key_len }, GRAPNEL_STR("0"),
		GRAPNEL_STR("-1") };
	struct grapnel_str word = GRAPNEL_STR("ASKING");
	struct command *command = NULL;

	/* Those that are up first, then those that soon will be. */
	for (unsigned pass = 0; pass < 2 && command == NULL; pass++) {
		for (unsigned i = 0; i < n->keeper_count && command == NULL; i++) {
			struct conn *c = &n->keepers[n->next++ % n->keeper_count].conn;

			if ((c->state == CONN_UP) != (pass == 0))
				continue;
			if (asking && conn_send(c, 1, &word, on_asking, NULL) == NULL)
				continue;
			command = conn_send(c, q->verb == VERB_LRANGE ? 4 : 2, argv, fn, q);
		}
	}
	if (command != NULL)
		q->node = n;
	return command;
}

static void
query_free(struct query *q)
{
	explicit_bzero(q->key, q->key_len);
	free(q);
}

static void on_reply(void *arg, const redisReply *reply);

/* Where its slot is; while that is not known, any node will say. */
static bool
send_query(struct query *q)
{
	struct pool *p = q->p;
	uint8_t owner = p->slots[slot_of((struct grapnel_str){ q->key, q->key_len })];

	q->command = NULL;
	if (owner != NO_NODE && p->nodes[owner].keepers != NULL)
		q->command = send_on(&p->nodes[owner], q, on_reply, false);
	for (unsigned i = 0; i < POOL_MAX_NODES && q->command == NULL; i++) {
		struct node *n = &p->nodes[p->next++ % POOL_MAX_NODES];

		if (n->keepers != NULL)
			q->command = send_on(n, q, on_reply, false);
	}
	return q->command != NULL;
}

/* false: the answer is none, and there is none elsewhere. */
static bool
follow(struct query *q, const redisReply *reply)
{
	struct pool *p = q->p;
	struct redirect r;
	struct node *n;

	if (!redirect_parse((struct grapnel_str){ reply->str, reply->len }, &q->node->at, &r))
		return false;
	if (!p->a->settings.cluster) {
		complain(p->a, "the server is a node of a cluster; set cluster = yes");
		return false;
	}
	if (q->redirects++ == POOL_MAX_REDIRECTS || (n = node_at(p, &r.to)) == NULL)
		return false;
	count(p->a, p->a->metrics.redirects);
	if (!r.ask)
		p->slots[r.slot] = (uint8_t)(n - p->nodes);
	q->command = send_on(n, q, on_reply, r.ask);
	return q->command != NULL;
}

static void
on_error(struct query *q, const redisReply *reply)
{
	static const char *const words[] = { [VERB_GET] = "GET",
		[VERB_HGETALL] = "HGETALL",
		[VERB_SMEMBERS] = "SMEMBERS",
		[VERB_LRANGE] = "LRANGE" };
	struct instance *a = q->p->a;

	count(a, a->metrics.commands_failed);
	if (reply_is_error(reply, "WRONGTYPE"))
		complain(a, "%s: a key has another type than its layout says", words[q->verb]);
	else
		complain(a, "%s: %.120s", words[q->verb], reply->str);
}

static void
on_reply(void *arg, const redisReply *reply)
{
	struct query *q = arg;

	if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
		if (follow(q, reply))
			return;
		on_error(q, reply);
		reply = NULL;
	}
	q->fn(q->arg, reply);
	query_free(q);
}

struct query *
pool_query(struct pool *p, enum verb verb, struct grapnel_str key, query_fn fn, void *arg)
{
	struct query *q = calloc(1, sizeof(*q) + key.len);

	if (q == NULL)
		return NULL;
	q->p = p;
	q->verb = verb;
	q->fn = fn;
	q->arg = arg;
	q->key_len = key.len;
	memcpy(q->key, key.data, key.len);
	if (send_query(q))
		return q;
	query_free(q);
	return NULL;
}

void
query_forget(struct query *q)
{
	command_forget(q->command);
	query_free(q);
}
