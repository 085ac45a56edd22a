/* SPDX-License-Identifier: Apache-2.0 */
/*
 * threads - a plugin with a thread of its own, which resolves every request
 *
 *	delay = 0ms	how long it thinks about each
 *	hooks = [client_authenticate, acl_check]	which ones are asked; default: all
 *
 * Each request is handed over inside its hook, so that it may well be resolved before the hook
 * has returned. What is asked about is read on the thread: the topic "forbidden" is denied, all
 * else allowed.
 */
#include "match.h"
#include <pthread.h>
#include <time.h>

enum kind { AUTH, ACL, MESSAGE, SUBSCRIPTION, ACK };

struct work {
	struct work *next;
	struct grapnel_request *req;
	enum kind kind;
	const struct grapnel_client_info *client;
	struct grapnel_str topic;
};

struct threads {
	const struct grapnel_host *host;
	int64_t delay;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct work *first, **last;
	bool stop;
	size_t seen; /* of the questions' bytes: read on the thread */
};

static void
resolve(struct threads *t, const struct work *w)
{
	const struct grapnel_host *host = t->host;
	enum grapnel_verdict verdict =
	    str_equal(w->topic, GRAPNEL_STR("forbidden")) ? GRAPNEL_DENY : GRAPNEL_ALLOW;

	for (size_t i = 0; i < w->client->client_id.len; i++)
		t->seen += (unsigned char)w->client->client_id.data[i];
	switch (w->kind) {
	case AUTH:
		host->auth_resolve(w->req, verdict, NULL);
		break;
	case ACL: {
		struct grapnel_acl_answer answer = { .size = sizeof(answer),
			.rule = GRAPNEL_STR("threads:1") };

		host->acl_resolve(w->req, verdict, &answer);
		break;
	}
	case MESSAGE:
		host->publish_resolve(w->req, verdict, NULL);
		break;
	case SUBSCRIPTION:
		host->subscribe_resolve(w->req, verdict, NULL);
		break;
	case ACK:
		host->ack_resolve(w->req, verdict, NULL);
		break;
	}
}

static void *
threads_main(void *arg)
{
	struct threads *t = arg;
	struct work *w;

	pthread_mutex_lock(&t->lock);
	for (;;) {
		while (t->first == NULL && !t->stop)
			pthread_cond_wait(&t->wake, &t->lock);
		w = t->first;
		if (w == NULL)
			break;
		t->first = w->next;
		if (t->first == NULL)
			t->last = &t->first;
		pthread_mutex_unlock(&t->lock);
		if (t->delay > 0) {
			struct timespec ts = { .tv_sec = (time_t)(t->delay / 1000),
				.tv_nsec = (long)(t->delay % 1000) * 1000000 };

			nanosleep(&ts, NULL);
		}
		resolve(t, w);
		free(w);
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static enum grapnel_verdict
hand_over(struct threads *t, struct grapnel_request *req, enum kind kind,
    const struct grapnel_client_info *client, struct grapnel_str topic)
{
	struct work *w = malloc(sizeof(*w));

	if (w == NULL)
		return GRAPNEL_UNAVAILABLE;
	w->next = NULL;
	w->req = req;
	w->kind = kind;
	w->client = client; /* the host's own copy: valid until we resolve */
	w->topic = topic;
	pthread_mutex_lock(&t->lock);
	*t->last = w;
	t->last = &w->next;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	return GRAPNEL_PENDING;
}

static enum grapnel_verdict
threads_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	return hand_over(instance, req, AUTH, q->client, q->client->username);
}

static enum grapnel_verdict
threads_acl(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	return hand_over(instance, req, ACL, q->client, q->topic);
}

static enum grapnel_verdict
threads_publish(
    void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	return hand_over(instance, req, MESSAGE, q->client, q->message->topic_name);
}

static enum grapnel_verdict
threads_deliver(
    void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	return hand_over(instance, req, MESSAGE, q->client, q->message->topic_name);
}

static enum grapnel_verdict
threads_subscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	return hand_over(instance, req, SUBSCRIPTION, q->client, q->filter);
}

static enum grapnel_verdict
threads_acknowledge(
    void *instance, struct grapnel_request *req, const struct grapnel_message_acknowledge *q)
{
	static const struct grapnel_str none;

	return hand_over(
	    instance, req, ACK, q->client, q->message != NULL ? q->message->topic_name : none);
}

static void
threads_destroy(void *instance)
{
	struct threads *t = instance;

	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->wake);
	free(t);
}

static void
only_wanted(const struct grapnel_host *host, struct grapnel_instance *self)
{
	static const char *const all[] = {
		"client_authenticate",
		"acl_check",
		"message_publish",
		"client_subscribe",
		"client_unsubscribe",
		"message_deliver",
		"message_acknowledge",
	};
	struct grapnel_str s;

	if (!host->option_given(self, NULL, "hooks"))
		return;
	for (size_t h = 0; h < sizeof(all) / sizeof(*all); h++) {
		bool wanted = false;

		for (size_t i = 0; (s = host->option_list(self, NULL, "hooks", i)).data != NULL;
		     i++)
			wanted = wanted ||
			    (s.len == strlen(all[h]) && memcmp(s.data, all[h], s.len) == 0);
		if (!wanted)
			host->hook_disable(self, all[h]);
	}
}

static int
threads_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct threads *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return GRAPNEL_ENOMEM;
	t->host = host;
	t->delay = host->option_int(self, NULL, "delay");
	t->last = &t->first;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	only_wanted(host, self);
	if (pthread_create(&t->thread, NULL, threads_main, t) != 0) {
		host->config_error(self, NULL, NULL, "no thread");
		free(t);
		return GRAPNEL_ESYS;
	}
	*instance = t;
	return GRAPNEL_OK;
}

static const struct grapnel_option threads_options[] = {
	{ .name = "delay",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "0ms",
	    .help = "How long the thread thinks about each request." },
	{ .name = "hooks",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Names of the hooks that are asked." },
	{ 0 }
};

GRAPNEL_PLUGIN(threads, .version = "1.0", .license = "Apache-2.0",
    .description = "Resolves from a thread of its own", .options = threads_options,
    .create = threads_create, .destroy = threads_destroy,
    .client_authenticate = threads_authenticate, .acl_check = threads_acl,
    .message_publish = threads_publish, .client_subscribe = threads_subscribe,
    .client_unsubscribe = threads_subscribe, .message_deliver = threads_deliver,
    .message_acknowledge = threads_acknowledge, );
