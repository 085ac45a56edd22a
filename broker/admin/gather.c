/* SPDX-License-Identifier: Apache-2.0 */
#include "gather.h"
#include "api.h"
#include "core/broker.h"
#include <stdlib.h>
#include <string.h>

struct gather;
struct ask {
	struct mail mail; /* first: mail and ask are one address */
	struct gather *gather;
	json_t *clients; /* NULL: the worker had no memory */
};
struct gather {
	struct api_call *call;
	gather_fn done;
	struct client_query query;
	unsigned left; /* answers to come; only main counts */
	unsigned count;
	struct ask asks[];
};

static void
gather_free(struct gather *g)
{
	for (unsigned i = 0; i < g->count; i++)
		json_decref(g->asks[i].clients);
	free(g->query.after_id);
	free(g->query.after_mountpoint);
	free(g->query.username);
	free(g->query.client_id);
	free(g->query.mountpoint);
	free(g);
}

static int
client_compare(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	const char *x_id = json_string_value(json_object_get(x, "client_id"));
	const char *y_id = json_string_value(json_object_get(y, "client_id"));
	const char *x_mountpoint = json_string_value(json_object_get(x, "mountpoint"));
	const char *y_mountpoint = json_string_value(json_object_get(y, "mountpoint"));
	int order = strcmp(x_id != NULL ? x_id : "", y_id != NULL ? y_id : "");

	if (order != 0)
		return order;
	return strcmp(
	    x_mountpoint != NULL ? x_mountpoint : "", y_mountpoint != NULL ? y_mountpoint : "");
}

/* All answers in one array, in order. NULL: no memory, here or on a worker. */
static json_t *
gather_merge(struct gather *g)
{
	size_t total = 0, n = 0;
	json_t **all, *merged;

	for (unsigned i = 0; i < g->count; i++) {
		if (g->asks[i].clients == NULL)
			return NULL;
		total += json_array_size(g->asks[i].clients);
	}
	merged = json_array();
	all = calloc(total > 0 ? total : 1, sizeof(*all));
	if (merged == NULL || all == NULL)
		goto fail;
	for (unsigned i = 0; i < g->count; i++) {
		json_t *client;
		size_t k;

		json_array_foreach(g->asks[i].clients, k, client) all[n++] = client;
	}
	qsort(all, n, sizeof(*all), client_compare);
	for (size_t i = 0; i < n; i++)
		if (json_array_append(merged, all[i]) != 0)
			goto fail;
	free(all);
	return merged;
fail:
	free(all);
	json_decref(merged);
	return NULL;
}

static void
gather_on_answer(struct worker *w, struct mail *m)
{
	struct gather *g = ((struct ask *)m)->gather;
	json_t *merged;

	(void)w;
	if (--g->left > 0)
		return;
	merged = gather_merge(g);
	g->done(g->call, merged, &g->query);
	json_decref(merged);
	gather_free(g);
}

static void
gather_on_worker(struct worker *w, struct mail *m)
{
	struct ask *ask = (struct ask *)m;

	ask->clients = json_array();
	if (ask->clients != NULL && !core_describe_clients(w, &ask->gather->query, ask->clients)) {
		json_decref(ask->clients);
		ask->clients = NULL;
	}
	m->fn = gather_on_answer;
	worker_post(w->broker->main, m);
}

static bool
copy(char **to, const char *from)
{
	if (from == NULL)
		return true;
	return (*to = strdup(from)) != NULL;
}

bool
gather_clients(struct api_call *call, const struct client_query *q, gather_fn done)
{
	struct broker *b = call->broker;
	struct gather *g = calloc(1, sizeof(*g) + b->worker_count * sizeof(g->asks[0]));

	if (g == NULL)
		return false;
	g->call = call;
	g->done = done;
	g->query.limit = q->limit;
	g->query.online = q->online;
	if (!copy(&g->query.after_id, q->after_id) ||
	    !copy(&g->query.after_mountpoint, q->after_mountpoint) ||
	    !copy(&g->query.username, q->username) || !copy(&g->query.client_id, q->client_id) ||
	    !copy(&g->query.mountpoint, q->mountpoint)) {
		gather_free(g);
		return false;
	}
	g->count = g->left = b->worker_count;
	for (unsigned i = 0; i < g->count; i++) {
		g->asks[i].gather = g;
		g->asks[i].mail.fn = gather_on_worker;
	}
	for (unsigned i = 0; i < b->worker_count; i++)
		worker_post(b->workers[i], &g->asks[i].mail);
	return true;
}
