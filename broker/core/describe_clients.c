/* SPDX-License-Identifier: Apache-2.0 */
/*
 * describe_clients - the clients of one worker as JSON, for the admin API
 */
#include "core/describe.h"
#include "core/session.h"
#include "plugin/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pick { /* the q->limit smallest seen so far: a heap with the largest on top */
	const struct client_query *q;
	struct session **found;
	unsigned count;
};

static int
compare_str(struct grapnel_str a, struct grapnel_str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n > 0 ? memcmp(a.data, b.data, n) : 0;

	return c != 0 ? c : a.len < b.len ? -1 : a.len > b.len;
}

static int
compare(const struct session *a, const struct session *b)
{
	int c = compare_str(identity_client_id(a->identity), identity_client_id(b->identity));

	return c != 0 ? c : compare_str(session_mountpoint(a), session_mountpoint(b));
}

static bool
equals(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static bool
asked_for(const struct client_query *q, const struct session *s)
{
	struct grapnel_str client_id = identity_client_id(s->identity);
	int c;

	if (q->client_id != NULL && !equals(client_id, q->client_id))
		return false;
	if (q->mountpoint != NULL && !equals(session_mountpoint(s), q->mountpoint))
		return false;
	if (q->username != NULL && !equals(identity_username(s->identity), q->username))
		return false;
	if (q->online >= 0 && (s->conn != NULL) != (q->online != 0))
		return false;
	if (q->after_id == NULL)
		return true;
	c = compare_str(client_id, (struct grapnel_str){ q->after_id, strlen(q->after_id) });
	return c > 0 ||
	    (c == 0 &&
		compare_str(session_mountpoint(s),
		    (struct grapnel_str){ q->after_mountpoint, strlen(q->after_mountpoint) }) > 0);
}

static void
sift_down(struct session **heap, unsigned n, unsigned i)
{
	for (;;) {
		unsigned largest = i, left = 2 * i + 1;

		for (unsigned k = left; k <= left + 1 && k < n; k++)
			if (compare(heap[k], heap[largest]) > 0)
				largest = k;
		if (largest == i)
			return;
		struct session *t = heap[i];
		heap[i] = heap[largest];
		heap[largest] = t;
		i = largest;
	}
}

static void
pick(struct session *s, void *arg)
{
	struct pick *p = arg;

	if (!asked_for(p->q, s))
		return;
	if (p->count < p->q->limit) {
		unsigned i = p->count++;

		p->found[i] = s;
		while (i > 0 && compare(p->found[i], p->found[(i - 1) / 2]) > 0) {
			struct session *t = p->found[i];

			p->found[i] = p->found[(i - 1) / 2];
			p->found[(i - 1) / 2] = t;
			i = (i - 1) / 2;
		}
	} else if (compare(s, p->found[0]) < 0) {
		p->found[0] = s;
		sift_down(p->found, p->count, 0);
	}
}

static json_t *
subscription_list(const struct session *s)
{
	const struct members *members = s->flow->members;
	json_t *list = json_array();
	char filter[65536];

	for (uint32_t i = 0; list != NULL && i < s->sub_capacity; i++) {
		const struct sub *sub = s->subs[i];
		size_t len, skip = s->mountpoint_len;

		if (sub == NULL)
			continue;
		len = topic_index_filter(s->w->broker->index, sub->node, filter, sizeof(filter));
		if (len < skip || len > sizeof(filter))
			continue;
		json_array_append_new(list,
		    json_pack("{s:o, s:i, s:b, s:b, s:i, s:I}", "filter",
			describe_str((struct grapnel_str){ filter + skip, len - skip }), "qos",
			sub->qos, "no_local", (sub->flags & SUB_NO_LOCAL) != 0,
			"retain_as_published", (sub->flags & SUB_RETAIN_AS_PUBLISHED) != 0,
			"retain_handling", sub->retain_handling, "subscription_identifier",
			(json_int_t)sub->id));
	}
	for (uint32_t i = 0; list != NULL && members != NULL && i < members->count; i++) {
		const struct member *m = members->at[i];
		size_t skip;
		int n;

		if (m == NULL || !m->joined)
			continue;
		/* "group/mountpoint filter" as "$share/group/filter" */
		skip = m->share_len + 1 + s->mountpoint_len;
		if (skip > m->key_len)
			continue;
		n = snprintf(filter, sizeof(filter), "$share/%.*s/%.*s", (int)m->share_len, m->key,
		    (int)(m->key_len - skip), m->key + skip);
		if (n < 0 || (size_t)n >= sizeof(filter))
			continue;
		json_array_append_new(list,
		    json_pack("{s:o, s:i, s:I}", "filter",
			describe_str((struct grapnel_str){ filter, (size_t)n }), "qos", m->qos,
			"subscription_identifier", (json_int_t)m->id));
	}
	return list;
}

/* "tcp", "unix", "tcp, TLSv1.3 TLS_AES_256_GCM_SHA384"; null without a Network Connection. */
static json_t *
transport(const struct conn *c)
{
	char text[200];

	if (c == NULL)
		return json_null();
	(void)snprintf(text, sizeof(text), "%s%s",
	    c->ls->handler != NULL                       ? "handler"
		: strncmp(conn_peer(c), "unix:", 5) == 0 ? "unix"
							 : "tcp",
	    c->stream.ops->describe != NULL ? ", " : "");
	if (c->stream.ops->describe != NULL)
		c->stream.ops->describe(&c->stream, text, sizeof(text));
	return json_string(text);
}

static json_t *
describe(const struct session *s, bool with_subscriptions)
{
	const struct identity *id = s->identity;
	json_t *attributes = json_object(), *o;
	const struct grapnel_pair *pairs = identity_attributes(id);
	const struct flow *f = s->flow;

	for (size_t i = 0; attributes != NULL && i < id->attribute_count; i++)
		json_object_setn_new(attributes, pairs[i].name.data, pairs[i].name.len,
		    describe_str(pairs[i].value));
	o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:b, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I, "
		      "s:I, s:I, s:I, s:o}",
	    "client_id", describe_str(identity_client_id(id)), "username",
	    describe_str(identity_username(id)), "mountpoint", describe_str(id->site->mountpoint),
	    "peer", describe_str(identity_peer(id)), "listener", describe_str(id->site->listener),
	    "protocol",
	    id->protocol == 5       ? "5.0"
		: id->protocol == 4 ? "3.1.1"
				    : "3.1",
	    "connected", s->conn != NULL, "clean_start", s->clean_start, "keep_alive",
	    s->conn != NULL ? s->conn->keep_alive : 0, "session_expiry",
	    (json_int_t)session_expiry_effective(s), "connected_since", (json_int_t)s->connected_s,
	    "subscriptions",
	    (json_int_t)(s->sub_count + (f->members != NULL ? f->members->live : 0)), "inflight",
	    (json_int_t)f->inflight.count, "queued", (json_int_t)f->queue.count, "queued_bytes",
	    (json_int_t)f->queue.bytes, "output_bytes",
	    (json_int_t)(s->conn != NULL ? s->conn->out_bytes : 0), "messages_received",
	    (json_int_t)s->messages_in, "messages_sent", (json_int_t)s->messages_out, "attributes",
	    attributes);
	if (o != NULL && with_subscriptions) {
		json_object_set_new(o, "transport", transport(s->conn));
		json_object_set_new(o, "subscription_list", subscription_list(s));
		if (s->w->hooks != NULL)
			trace_describe(
			    *worker_traces(s->w), id->site->mountpoint, identity_client_id(id), o);
	}
	return o;
}

bool
core_describe_clients(struct worker *w, const struct client_query *q, json_t *out_array)
{
	struct pick p = { .q = q };
	bool good = true;

	if (q->limit == 0)
		return true;
	if ((p.found = malloc(q->limit * sizeof(struct session *))) == NULL)
		return false;
	if (w->sessions != NULL)
		session_each(w, pick, &p);
	for (unsigned i = 0; i < p.count && good; i++)
		good = json_array_append_new(
			   out_array, describe(p.found[i], q->client_id != NULL)) == 0;
	free(p.found);
	if (good && p.count == 0 && q->client_id != NULL && w->hooks != NULL)
		good = trace_describe_absent(
		    *worker_traces(w), q->mountpoint, q->client_id, out_array);
	return good;
}
