/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate - holds requests until the test says go, so that a test sees an order of events instead of measuring time
 *
 *	hooks = [client_authenticate, acl_check]	which ones are asked; default: all
 *	hold = "/tmp/hold"	as long as this file exists requests stay PENDING; so does the one with number N as long as
 *				/tmp/hold.N exists. Absent or no such file: answered at once
 *	verdict = allow | deny | next | unavailable	(default allow), with reason_code. While /tmp/hold.deny, .next, .unavailable or .unusable (unavailable,
 *				by this question alone) exists, that
 *	depends = [username, password ...]	what answers about logins and rights depend on; default: everything
 *	valid_for = 5s		of logins
 *	With /tmp/hold.rules a login and its revalidation bring the ACL rules in it.
 *	late = yes		a cancelled request is not given back before the files are gone
 *	only_user, only_topic	the others: NEXT. '*' at the end: beginnings
 *	block = 100ms		sleep on the worker in each hook, which no plugin may do
 *
 * Says in the log, with N counted from 0 per instance: "asked N HOOK CLIENT", "cancelled N", "resolved N: RESULT", and at its end
 * how many client slots it has filled and got back.
 */
#include "match.h"
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 5u

enum kind { AUTH, ACL, MESSAGE, SUBSCRIPTION, ACK };

struct gate {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	char *hold;
	enum grapnel_verdict verdict;
	uint8_t reason_code;
	bool late;
	int64_t block, valid_for;
	struct grapnel_str only_user, only_topic;
	_Atomic unsigned asked, slots_made, slots_freed, workers;
};

struct held {
	struct gate *g;
	struct grapnel_request *req;
	struct grapnel_timer *timer;
	enum kind kind;
	unsigned number;
};

static bool
is_held(const struct gate *g, unsigned number)
{
	char path[512];

	if (g->hold == NULL)
		return false;
	snprintf(path, sizeof(path), "%s.%u", g->hold, number);
	return access(g->hold, F_OK) == 0 || access(path, F_OK) == 0;
}

static bool
exists(const struct gate *g, const char *name)
{
	char path[512];

	if (g->hold == NULL)
		return false;
	snprintf(path, sizeof(path), "%s.%s", g->hold, name);
	return access(path, F_OK) == 0;
}

static enum grapnel_verdict
verdict_now(const struct gate *g)
{
	static const struct {
		const char *name;
		enum grapnel_verdict verdict;
	} files[] = { { "deny", GRAPNEL_DENY }, { "next", GRAPNEL_NEXT },
		{ "unavailable", GRAPNEL_UNAVAILABLE }, { "unusable", GRAPNEL_UNAVAILABLE } };

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		if (exists(g, files[i].name))
			return files[i].verdict;
	}
	return g->verdict;
}

static struct grapnel_rules *
rules_now(const struct gate *g)
{
	char path[512], text[1024], error[256];
	size_t n;
	FILE *f;

	if (g->hold == NULL)
		return NULL;
	snprintf(path, sizeof(path), "%s.rules", g->hold);
	if ((f = fopen(path, "re")) == NULL)
		return NULL;
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	return g->host->rules_compile(
	    (struct grapnel_str){ text, n }, GRAPNEL_STR("gate"), false, error, sizeof(error));
}

/* resolve false: attach to what the hook is about to return. */
static int
attach_or_resolve(const struct gate *g, struct grapnel_request *req, enum kind kind,
    enum grapnel_verdict verdict, bool resolve)
{
	const struct grapnel_host *host = g->host;
	struct grapnel_auth_answer auth = { .size = sizeof(auth), .reason_code = g->reason_code };
	struct grapnel_acl_answer acl = {
		.size = sizeof(acl), .reason_code = g->reason_code, .rule = GRAPNEL_STR("gate:1")
	};
	struct grapnel_publish_answer message = { .size = sizeof(message),
		.reason_code = g->reason_code };
	struct grapnel_subscribe_answer subscription = { .size = sizeof(subscription),
		.reason_code = g->reason_code };
	struct grapnel_ack_answer ack = { .size = sizeof(ack), .reason_code = g->reason_code };
	int err;

	switch (kind) {
	case AUTH:
		auth.no_store = verdict == GRAPNEL_UNAVAILABLE && exists(g, "unusable");
		if (verdict == GRAPNEL_ALLOW) {
			auth.rules = rules_now(g);
			if (g->valid_for > 0)
				auth.valid_until = (host->wall_us() / 1000 + g->valid_for) / 1000;
		}
		err = resolve ? host->auth_resolve(req, verdict, &auth)
			      : host->auth_answer(req, &auth);
		host->rules_unref(auth.rules);
		return err;
	case ACL:
		return resolve ? host->acl_resolve(req, verdict, &acl)
			       : host->acl_answer(req, &acl);
	case MESSAGE:
		return resolve ? host->publish_resolve(req, verdict, &message)
			       : host->publish_answer(req, &message);
	case SUBSCRIPTION:
		return resolve ? host->subscribe_resolve(req, verdict, &subscription)
			       : host->subscribe_answer(req, &subscription);
	case ACK:
		break;
	}
	return resolve ? host->ack_resolve(req, verdict, &ack) : host->ack_answer(req, &ack);
}

static void
finish(struct held *h)
{
	const struct grapnel_host *host = h->g->host;
	int err = attach_or_resolve(h->g, h->req, h->kind, verdict_now(h->g), true);

	host->log(h->g->self, GRAPNEL_LOG_INFO, "resolved %u: %s", h->number,
	    err == GRAPNEL_OK              ? "ok"
		: err == GRAPNEL_ECANCELED ? "cancelled"
					   : "failed");
	host->timer_free(h->timer);
	free(h);
}

static void
on_time(void *arg)
{
	struct held *h = arg;

	if (is_held(h->g, h->number))
		h->g->host->timer_arm(h->timer, LOOK_MS);
	else
		finish(h);
}

static void
gate_cancelled(void *instance, struct grapnel_request *req)
{
	struct gate *g = instance;
	struct held *h = g->host->request_data(req);

	g->host->log(g->self, GRAPNEL_LOG_INFO, "cancelled %u, %u ms left", h->number,
	    g->host->request_time_left(req));
	if (!g->late)
		finish(h);
}

/* Each client that is asked about gets a slot: something to be freed exactly once. */
static void
fill_slot(struct gate *g, struct grapnel_client *client)
{
	char *slot;

	if (client == NULL || g->host->client_slot(g->self, client) != NULL ||
	    (slot = malloc(1)) == NULL)
		return;
	if (g->host->client_set_slot(g->self, client, slot) == GRAPNEL_OK)
		atomic_fetch_add(&g->slots_made, 1);
	else
		free(slot);
}

static enum grapnel_verdict
ask(struct gate *g, struct grapnel_request *req, enum kind kind, const char *hook,
    const struct grapnel_client_info *client, struct grapnel_str topic)
{
	struct timespec ts = { .tv_sec = (time_t)(g->block / 1000),
		.tv_nsec = (long)(g->block % 1000) * 1000000 };
	struct held *h;
	unsigned number;

	if (g->only_user.data != NULL && !str_matches(g->only_user, client->username))
		return GRAPNEL_NEXT;
	if (g->only_topic.data != NULL && topic.data != NULL && !str_matches(g->only_topic, topic))
		return GRAPNEL_NEXT;
	if (g->block > 0)
		nanosleep(&ts, NULL);
	fill_slot(g, client->client);
	number = atomic_fetch_add(&g->asked, 1);
	g->host->log(g->self, GRAPNEL_LOG_INFO, "asked %u %s %.*s", number, hook,
	    (int)client->client_id.len, client->client_id.data);
	if (!is_held(g, number)) {
		enum grapnel_verdict verdict = verdict_now(g);

		return attach_or_resolve(g, req, kind, verdict, false) == GRAPNEL_OK
		    ? verdict
		    : GRAPNEL_UNAVAILABLE;
	}
	h = malloc(sizeof(*h));
	if (h == NULL)
		return GRAPNEL_UNAVAILABLE;
	*h = (struct held){ .g = g, .req = req, .kind = kind, .number = number };
	h->timer = g->host->timer_new(g->self, on_time, h);
	if (h->timer == NULL) {
		free(h);
		return GRAPNEL_UNAVAILABLE;
	}
	g->host->request_set_data(req, h);
	g->host->timer_arm(h->timer, LOOK_MS);
	return GRAPNEL_PENDING;
}

static const struct grapnel_str no_topic;

static enum grapnel_verdict
gate_authenticate(void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	return ask(instance, req, AUTH, "client_authenticate", q->client, no_topic);
}

static enum grapnel_verdict
gate_exchange(void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	return ask(instance, req, AUTH, "client_auth_exchange", q->client, no_topic);
}

static enum grapnel_verdict
gate_revalidate(void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	return ask(instance, req, AUTH, "client_revalidate", q->client, no_topic);
}

static enum grapnel_verdict
gate_acl(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	static const char *const names[] = { "acl_check", "acl_check-publish",
		"acl_check-subscribe", "acl_check-read", "acl_check-will" };

	return ask(instance, req, ACL, (unsigned)q->action < 5 ? names[q->action] : names[0],
	    q->client, q->topic);
}

static enum grapnel_verdict
gate_publish(void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	return ask(instance, req, MESSAGE, "message_publish", q->client, q->message->topic_name);
}

static enum grapnel_verdict
gate_deliver(void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	return ask(instance, req, MESSAGE, "message_deliver", q->client, q->message->topic_name);
}

static enum grapnel_verdict
gate_subscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	return ask(instance, req, SUBSCRIPTION, "client_subscribe", q->client, q->filter);
}

static enum grapnel_verdict
gate_unsubscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	return ask(instance, req, SUBSCRIPTION, "client_unsubscribe", q->client, q->filter);
}

static enum grapnel_verdict
gate_acknowledge(
    void *instance, struct grapnel_request *req, const struct grapnel_message_acknowledge *q)
{
	return ask(instance, req, ACK,
	    q->packet_type == 4       ? "message_acknowledge-puback"
		: q->packet_type == 5 ? "message_acknowledge-pubrec"
				      : "message_acknowledge-pubcomp",
	    q->client, no_topic);
}

static void
gate_slot_free(void *instance, void *data)
{
	struct gate *g = instance;

	atomic_fetch_add(&g->slots_freed, 1);
	free(data);
}

static int
gate_worker_start(void *instance, unsigned worker)
{
	struct gate *g = instance;

	(void)worker;
	atomic_fetch_add(&g->workers, 1);
	return GRAPNEL_OK;
}

static void
gate_worker_stop(void *instance, unsigned worker)
{
	struct gate *g = instance;

	(void)worker;
	atomic_fetch_sub(&g->workers, 1);
}

static void
gate_destroy(void *instance)
{
	struct gate *g = instance;

	g->host->log(g->self, GRAPNEL_LOG_INFO, "destroyed: %u workers, slots made %u freed %u",
	    atomic_load(&g->workers), atomic_load(&g->slots_made), atomic_load(&g->slots_freed));
	free(g->hold);
	free(g);
}

static void
only_wanted(const struct grapnel_host *host, struct grapnel_instance *self)
{
	static const char *const all[] = {
		"client_authenticate",
		"client_auth_exchange",
		"client_revalidate",
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

static void
say_depends(const struct grapnel_host *host, struct grapnel_instance *self)
{
	static const struct {
		const char *name;
		uint64_t bit;
	} names[] = { { "username", GRAPNEL_DEPENDS_USERNAME },
		{ "password", GRAPNEL_DEPENDS_PASSWORD },
		{ "client_id", GRAPNEL_DEPENDS_CLIENT_ID },
		{ "address", GRAPNEL_DEPENDS_ADDRESS } };
	struct grapnel_str s;
	uint64_t mask = 0;

	if (!host->option_given(self, NULL, "depends"))
		return;
	for (size_t i = 0; (s = host->option_list(self, NULL, "depends", i)).data != NULL; i++) {
		for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++) {
			if (s.len == strlen(names[n].name) &&
			    memcmp(s.data, names[n].name, s.len) == 0)
				mask |= names[n].bit;
		}
	}
	host->depends_on(self, "client_authenticate", mask);
	host->depends_on(self, "client_revalidate", mask);
	host->depends_on(self, "acl_check", mask);
}

static int
gate_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	static const char *const verdicts[] = { "", "allow", "deny", "next", "", "unavailable" };
	struct grapnel_str hold = host->option_str(self, NULL, "hold"),
			   s = host->option_str(self, NULL, "verdict");
	struct gate *g = calloc(1, sizeof(*g));

	if (g == NULL || (hold.data != NULL && (g->hold = strndup(hold.data, hold.len)) == NULL)) {
		free(g);
		return GRAPNEL_ENOMEM;
	}
	g->host = host;
	g->self = self;
	for (int i = 1; i < 6; i++) {
		if (s.len == strlen(verdicts[i]) && memcmp(s.data, verdicts[i], s.len) == 0)
			g->verdict = (enum grapnel_verdict)i;
	}
	g->reason_code = (uint8_t)host->option_int(self, NULL, "reason_code");
	g->late = host->option_bool(self, NULL, "late");
	g->block = host->option_int(self, NULL, "block");
	g->valid_for = host->option_int(self, NULL, "valid_for");
	g->only_user = host->option_str(self, NULL, "only_user");
	g->only_topic = host->option_str(self, NULL, "only_topic");
	only_wanted(host, self);
	say_depends(host, self);
	*instance = g;
	return GRAPNEL_OK;
}

static const struct grapnel_option gate_options[] = {
	{ .name = "block",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "0ms",
	    .min = 0,
	    .max = 60000,
	    .help = "How long each hook holds its worker." },
	{ .name = "depends",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "What answers about logins and rights depend on." },
	{ .name = "hold",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "While this file exists nothing is answered." },
	{ .name = "hooks",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Names of the hooks that are asked." },
	{ .name = "late",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Cancelled requests are kept, too." },
	{ .name = "only_topic",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "The Topic Names and Topic Filters that are answered." },
	{ .name = "only_user",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "The users that are answered." },
	{ .name = "reason_code",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .min = 0,
	    .max = 255,
	    .help = "Goes with deny." },
	{ .name = "valid_for",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "0ms",
	    .help = "How long a login holds; 0: for ever." },
	{ .name = "verdict",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "allow|deny|next|unavailable",
	    .default_value = "allow",
	    .help = "What is answered in the end." },
	{ 0 }
};

GRAPNEL_PLUGIN(gate, .version = "1.0", .license = "Apache-2.0",
    .description = "Holds requests until it is told to go on", .options = gate_options,
    .create = gate_create, .destroy = gate_destroy, .worker_start = gate_worker_start,
    .worker_stop = gate_worker_stop, .request_cancelled = gate_cancelled,
    .client_slot_free = gate_slot_free, .client_authenticate = gate_authenticate,
    .client_auth_exchange = gate_exchange, .client_revalidate = gate_revalidate,
    .acl_check = gate_acl, .message_publish = gate_publish, .client_subscribe = gate_subscribe,
    .client_unsubscribe = gate_unsubscribe, .message_deliver = gate_deliver,
    .message_acknowledge = gate_acknowledge, );
