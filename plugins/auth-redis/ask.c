/* SPDX-License-Identifier: Apache-2.0 */
#include "ask.h"

#include <stdlib.h>

struct ask *
ask_new(struct instance *a, struct grapnel_request *req, const struct grapnel_client_info *client)
{
	struct ask *ask = calloc(1, sizeof(*ask));

	if (ask == NULL)
		return NULL;
	ask->a = a;
	ask->w = &a->workers[a->host->request_worker(req)];
	ask->req = req;
	ask->client = client;
	ask->values.client = client;
	grant_init(&ask->grant, a->host);
	a->host->request_set_data(req, ask);
	return ask;
}

void
ask_free(struct ask *ask)
{
	grant_fini(&ask->grant);
	free(ask);
}

void
ask_unusable(struct ask *ask, const char *what)
{
	ask->unusable = true;
	count(ask->a, ask->a->metrics.answers_unusable);
	complain(ask->a, "what is under a key cannot be used: %s", what);
}

static void
on_reply(void *arg, const redisReply *reply)
{
	struct ask *ask = arg;

	ask->query = NULL;
	if (reply == NULL)
		ask->finish(ask, GRAPNEL_UNAVAILABLE);
	else
		ask->got(ask, reply);
}

enum ask_begun
ask_key(struct ask *ask, const struct key *key, enum verb verb,
    void (*got)(struct ask *ask, const redisReply *reply))
{
	struct grapnel_pair *pairs =
	    calloc(GRANT_MAX_ATTRIBUTES + ask->client->attribute_count, sizeof(*pairs));
	struct grapnel_client_info client;
	struct grapnel_str name;
	enum key_result result;

	if (pairs == NULL)
		return ASK_FAILED;
	client = grant_client(&ask->grant, ask->client, pairs);
	ask->values.client = &client;
	result = key_fill(key, &ask->values, &name);
	ask->values.client = ask->client;
	free(pairs);
	if (result != KEY_OK)
		return result == KEY_NONE ? ASK_NO_KEY : ASK_FAILED;
	ask->got = got;
	ask->query = pool_query(ask->w->pool, verb, name, on_reply, ask);
	free((void *)(uintptr_t)name.data);
	return ask->query != NULL ? ASK_BEGUN : ASK_FAILED;
}

static const enum verb verb_of[] = { [ACL_SET] = VERB_SMEMBERS,
	[ACL_LIST] = VERB_LRANGE,
	[ACL_HASH] = VERB_HGETALL,
	[ACL_STRING] = VERB_GET };

static void next_source(struct ask *ask);

static void
on_source(struct ask *ask, const redisReply *reply)
{
	const struct acl_source *source = &ask->a->settings.sources[ask->source++];

	if (!rules_take(&ask->grant, source, reply, &ask->rules)) {
		ask_unusable(ask, ask->grant.error);
		ask->finish(ask, GRAPNEL_UNAVAILABLE);
		return;
	}
	next_source(ask);
}

static void
next_source(struct ask *ask)
{
	const struct settings *s = &ask->a->settings;
	enum ask_begun begun = ASK_NO_KEY;

	for (; ask->source < s->source_count; ask->source++) {
		const struct acl_source *source = &s->sources[ask->source];

		begun = ask_key(ask, &source->key, verb_of[source->layout], on_source);
		if (begun != ASK_NO_KEY)
			break;
	}
	if (begun == ASK_FAILED)
		ask->finish(ask, GRAPNEL_UNAVAILABLE);
	else if (begun == ASK_NO_KEY)
		ask->rules_done(ask);
}

void
ask_rules(struct ask *ask, void (*done)(struct ask *ask))
{
	ask->rules_done = done;
	next_source(ask);
}

void
ask_cancel(struct instance *a, struct grapnel_request *req)
{
	struct ask *ask = a->host->request_data(req);

	if (ask == NULL)
		return;
	ask->cancelled = true;
	if (ask->verify != NULL) {
		verify_cancel(ask->verify); /* its end finishes */
		return;
	}
	if (ask->query != NULL)
		query_forget(ask->query);
	ask->query = NULL;
	ask->finish(ask, GRAPNEL_UNAVAILABLE);
}
