/* SPDX-License-Identifier: Apache-2.0 */
/*
 * every - a plugin that has every hook of ABI 1.0 and calls nearly every function of the host
 *
 * It is compiled with the frozen headers of 1.0 (tests/abi/1.0), never with newer ones, and run by today's broker. Each hook that
 * was asked and each function that did what it should is counted under its name; the command `every` shows the counts, and
 * `every kick ID` disconnects a client. What is newer than 1.0 gets a file of its own.
 *
 * Threads: counters are atomic; the rest belongs to worker 0, or is written in create() alone.
 */
#include <errno.h>
#include <grapnel/plugin.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* clang-format off */
#define COUNTERS(X) \
	X(client_authenticate) X(client_auth_exchange) X(client_revalidate) X(acl_check) \
	X(message_publish) X(client_subscribe) X(client_unsubscribe) X(message_deliver) \
	X(message_acknowledge) X(tls_psk_key) X(on_events) X(request_cancelled) \
	X(client_slot_free) X(worker_start) X(auth_answer) X(acl_answer) X(publish_answer) \
	X(subscribe_answer) X(ack_answer) X(psk_answer) X(auth_resolve) X(acl_resolve) \
	X(publish_resolve) X(subscribe_resolve) X(ack_resolve) X(psk_resolve) \
	X(request_data) X(request_time_left) X(option_str) X(option_int) X(option_bool) \
	X(option_list) X(option_given) X(option_block) X(option_where) X(instance_name) \
	X(metric_new) X(now_ms) X(wall_us) X(random_bytes) X(secret_equal) X(this_worker) \
	X(watch_fd) X(watch_change) X(timer) X(post) X(dns_lookup) X(offload) X(client_slot) \
	X(client_kick) X(client_find) X(publish) X(subscribe) X(property_next) \
	X(events_select) X(events_waiting) X(rights_changed) X(rules_compile) X(rules_check) \
	X(rules_scope) X(command_new) X(hook_disable) X(depends_on) X(cache_purge) \
	X(value_set) X(value_get) X(value_each) X(value_delete) X(value_sync)
/* clang-format on */

#define AS_ENUM(name) C_##name,
#define AS_TEXT(name) #name,
enum counter { COUNTERS(AS_ENUM) COUNTER_COUNT };
static const char *const counter_names[] = { COUNTERS(AS_TEXT) };

struct every {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct grapnel_rules *rules;
	_Atomic(unsigned) counters[COUNTER_COUNT];
	int metric, event_fd;
	struct grapnel_watch *watch;
	struct grapnel_timer *timer;
	struct grapnel_sub *sub;
};

static const struct grapnel_option block_options[] = {
	{ .name = "number",
	    .type = GRAPNEL_OPTION_INT,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .min = 1,
	    .max = 9 },
	{ .name = NULL },
};
static const struct grapnel_option options[] = {
	{ .name = "text",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "'as it is'",
	    .help = "A text." },
	{ .name = "time",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "2s",
	    .min = 1,
	    .max = 5000 },
	{ .name = "switch", .type = GRAPNEL_OPTION_BOOL, .default_value = "yes" },
	{ .name = "list", .type = GRAPNEL_OPTION_LIST },
	{ .name = "part", .type = GRAPNEL_OPTION_BLOCK, .options = block_options },
	{ .name = NULL },
};

static void
count(struct every *e, enum counter c, bool good)
{
	if (good)
		atomic_fetch_add(&e->counters[c], 1);
	else
		e->host->log(
		    e->self, GRAPNEL_LOG_ERROR, "%s did not do what it should", counter_names[c]);
}

static bool
is(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static bool
begins(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len >= strlen(text) && memcmp(s.data, text, strlen(text)) == 0;
}

/* ---- create ------------------------------------------------------------------------------------------ */

static void
try_options(struct every *e)
{
	const struct grapnel_host *h = e->host;
	struct grapnel_str title = { NULL, 0 };
	const struct grapnel_block *part = h->option_block(e->self, NULL, "part", 0, &title);

	count(e, C_option_str, is(h->option_str(e->self, NULL, "text"), "as it is"));
	count(e, C_option_int, h->option_int(e->self, NULL, "time") == 2000);
	count(e, C_option_bool, h->option_bool(e->self, NULL, "switch"));
	count(e, C_option_list,
	    is(h->option_list(e->self, NULL, "list", 1), "two") &&
		h->option_list(e->self, NULL, "list", 2).data == NULL);
	count(e, C_option_given,
	    h->option_given(e->self, NULL, "list") && !h->option_given(e->self, NULL, "text"));
	count(e, C_option_block,
	    part != NULL && is(title, "one") && h->option_int(e->self, part, "number") == 7);
	count(e, C_option_where, h->option_where(e->self, NULL, "list").len > 0);
	count(e, C_instance_name, is(h->instance_name(e->self), "every"));
}

static void
try_rules(struct every *e)
{
	const struct grapnel_host *h = e->host;
	struct grapnel_rules_question q = { .size = sizeof(q),
		.action = GRAPNEL_PUBLISH,
		.topic = GRAPNEL_STR("a/x/b"),
		.client_id = GRAPNEL_STR("x") };
	char error[200], scope[64];
	struct grapnel_str rule = { NULL, 0 };

	e->rules = h->rules_compile(GRAPNEL_STR("allow all a/%c/#\nallow all every/#\n"),
	    GRAPNEL_STR("every"), false, error, sizeof(error));
	count(e, C_rules_compile, e->rules != NULL && h->rules_ref(e->rules) == e->rules);
	h->rules_unref(e->rules); /* one is left */
	count(e, C_rules_check,
	    h->rules_check(e->rules, &q, NULL, &rule) == GRAPNEL_ALLOW && is(rule, "every:1"));
	count(e, C_rules_scope, h->rules_scope(e->rules, &q, scope, sizeof(scope)) > 0);
}

static bool
on_value(void *arg, struct grapnel_str key, struct grapnel_str value)
{
	count(arg, C_value_each, is(key, "k/1") && is(value, "one"));
	return true;
}

static void
try_values(struct every *e)
{
	const struct grapnel_host *h = e->host;
	char buffer[8];
	size_t len = 0;

	count(e, C_value_set,
	    h->value_set(e->self, GRAPNEL_STR("k/1"), GRAPNEL_STR("one")) == GRAPNEL_OK);
	count(e, C_value_get,
	    h->value_get(e->self, GRAPNEL_STR("k/1"), buffer, sizeof(buffer), &len) == GRAPNEL_OK &&
		len == 3);
	(void)h->value_each(e->self, GRAPNEL_STR("k/"), on_value, e);
	count(e, C_value_delete, h->value_delete(e->self, GRAPNEL_STR("k/1")) == GRAPNEL_OK);
}

static int
on_command(void *arg, const struct grapnel_command *command,
    void (*reply)(void *ctx, struct grapnel_str json), void *ctx)
{
	struct every *e = arg;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return GRAPNEL_ENOMEM;
	if (command->argument_count == 2 && is(command->arguments[0], "kick"))
		count(e, C_client_kick,
		    e->host->client_kick(e->self, GRAPNEL_STR(""), command->arguments[1], 0x98) ==
			GRAPNEL_OK);
	fputc('{', out);
	for (unsigned i = 0; i < COUNTER_COUNT; i++)
		fprintf(out, "%s\"%s\": %u", i > 0 ? ", " : "", counter_names[i],
		    atomic_load(&e->counters[i]));
	fputc('}', out);
	if (fclose(out) == 0)
		reply(ctx, (struct grapnel_str){ text, len });
	free(text);
	return GRAPNEL_OK;
}

static void
every_destroy(void *instance)
{
	struct every *e = instance;

	e->host->rules_unref(e->rules);
	free(e);
}

static int
every_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct every *e = calloc(1, sizeof(*e));
	unsigned char random[16] = { 0 }, zero[16] = { 0 };

	if (e == NULL)
		return GRAPNEL_ENOMEM;
	e->host = host;
	e->self = self;
	e->event_fd = -1;
	if (host->size < sizeof(*host))
		host->config_error(
		    self, NULL, NULL, "a host of %zu bytes is too small", host->size);
	try_options(e);
	try_rules(e);
	try_values(e);
	e->metric = host->metric_new(self, GRAPNEL_COUNTER, "every_total", "Messages.");
	count(e, C_metric_new, e->metric >= 0);
	count(e, C_command_new,
	    host->command_new(self, "every", "counts", on_command, e) == GRAPNEL_OK);
	count(e, C_hook_disable, host->hook_disable(self, "no_such_hook") == GRAPNEL_ENOENT);
	count(e, C_depends_on,
	    host->depends_on(self, "acl_check",
		GRAPNEL_DEPENDS_USERNAME | GRAPNEL_DEPENDS_CLIENT_ID) == GRAPNEL_OK);
	count(e, C_random_bytes,
	    host->random_bytes(random, sizeof(random)) == GRAPNEL_OK &&
		memcmp(random, zero, sizeof(zero)) != 0);
	count(e, C_secret_equal,
	    host->secret_equal(GRAPNEL_STR("a"), GRAPNEL_STR("a")) &&
		!host->secret_equal(GRAPNEL_STR("a"), GRAPNEL_STR("b")));
	count(e, C_wall_us, host->wall_us() > INT64_C(1700000000000000));
	*instance = e;
	return GRAPNEL_OK;
}

/* ---- a worker ---------------------------------------------------------------------------------------- */

static void
on_readable(void *arg, int fd, unsigned events)
{
	struct every *e = arg;
	uint64_t n;

	if ((events & GRAPNEL_READABLE) != 0 && read(fd, &n, sizeof(n)) == sizeof(n)) {
		count(e, C_watch_fd, n == 5);
		count(e, C_watch_change, e->host->watch_change(e->watch, 0) == GRAPNEL_OK);
	}
}

static void
on_timer(void *arg)
{
	struct every *e = arg;

	count(e, C_timer, true);
	count(e, C_now_ms, e->host->now_ms() > 0);
}

static void
on_post(void *arg)
{
	struct every *e = arg;

	count(e, C_post, e->host->this_worker() == 0);
}

static void
on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t n)
{
	count(arg, C_dns_lookup, err == GRAPNEL_OK && n == 1 && is(addresses[0], "192.0.2.1"));
}

static void
nothing(void *arg)
{
	(void)arg;
}

static void
on_done(void *arg)
{
	count(arg, C_offload, true);
}

static void
on_synced(void *arg)
{
	count(arg, C_value_sync, true);
}

static void
on_found(void *arg, const struct grapnel_client_info *info)
{
	count(arg, C_client_find, info == NULL);
}

static void
on_message(void *arg, const struct grapnel_message_info *message)
{
	count(arg, C_subscribe, is(message->payload, "from inside") || message->payload.len > 0);
}

static int
every_worker_start(void *instance, unsigned worker)
{
	struct every *e = instance;
	const struct grapnel_host *h = e->host;
	struct grapnel_publication p = { .size = sizeof(p),
		.topic_name = GRAPNEL_STR("every/inside"),
		.payload = GRAPNEL_STR("from inside"),
		.qos = 1 };

	count(e, C_worker_start, true);
	if (worker != 0)
		return GRAPNEL_OK;
	count(e, C_this_worker, h->this_worker() == 0);
	if ((e->event_fd = eventfd(5, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
		return GRAPNEL_ESYS;
	e->watch = h->watch_fd(e->self, e->event_fd, GRAPNEL_READABLE, on_readable, e);
	e->timer = h->timer_new(e->self, on_timer, e);
	if (e->timer != NULL)
		(void)h->timer_arm(e->timer, 1);
	(void)h->post(e->self, 0, on_post, e);
	(void)h->dns_lookup(e->self, GRAPNEL_STR("192.0.2.1"), 0, on_addresses, e);
	(void)h->offload(e->self, 0, nothing, on_done, e);
	(void)h->value_sync(e->self, on_synced, e);
	(void)h->client_find(e->self, GRAPNEL_STR(""), GRAPNEL_STR("nobody"), on_found, e);
	e->sub = h->subscribe(e->self, GRAPNEL_STR("every/#"), on_message, e);
	count(e, C_publish, h->publish(e->self, &p) == GRAPNEL_OK);
	count(e, C_events_select,
	    h->events_select(e->self,
		GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED) |
		    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_MESSAGE_PUBLISHED)) == GRAPNEL_OK);
	return GRAPNEL_OK;
}

static void
every_worker_stop(void *instance, unsigned worker)
{
	struct every *e = instance;

	if (worker != 0)
		return;
	e->host->unsubscribe(e->sub);
	e->host->timer_disarm(e->timer);
	e->host->timer_free(e->timer);
	e->host->watch_remove(e->watch);
	if (e->event_fd >= 0)
		(void)close(e->event_fd);
}

/* ---- hooks: who has "later" in the name, or the topic, is answered later ------------------------------- */

enum later { LATER_AUTH, LATER_ACL, LATER_PUBLISH, LATER_SUBSCRIBE, LATER_ACK, LATER_PSK };
struct request {
	struct every *e;
	struct grapnel_request *req;
	enum later kind;
};
static const char key[] = "0123456789abcdef";

static void
resolve(void *arg)
{
	struct request *r = arg;
	const struct grapnel_host *h = r->e->host;
	struct grapnel_psk_answer k = { .size = sizeof(k), .key = { key, 16 } };

	count(r->e, C_request_data, h->request_data(r->req) == r);
	count(r->e, C_request_time_left, h->request_time_left(r->req) > 0);
	switch (r->kind) {
	case LATER_AUTH:
		count(r->e, C_auth_resolve,
		    h->auth_resolve(r->req, GRAPNEL_ALLOW, NULL) == GRAPNEL_OK);
		break;
	case LATER_ACL:
		count(
		    r->e, C_acl_resolve, h->acl_resolve(r->req, GRAPNEL_ALLOW, NULL) == GRAPNEL_OK);
		break;
	case LATER_PUBLISH:
		count(r->e, C_publish_resolve,
		    h->publish_resolve(r->req, GRAPNEL_ALLOW, NULL) == GRAPNEL_OK);
		break;
	case LATER_SUBSCRIBE:
		count(r->e, C_subscribe_resolve,
		    h->subscribe_resolve(r->req, GRAPNEL_ALLOW, NULL) == GRAPNEL_OK);
		break;
	case LATER_ACK:
		count(
		    r->e, C_ack_resolve, h->ack_resolve(r->req, GRAPNEL_ALLOW, NULL) == GRAPNEL_OK);
		break;
	case LATER_PSK:
		count(r->e, C_psk_resolve, h->psk_resolve(r->req, GRAPNEL_ALLOW, &k) == GRAPNEL_OK);
		break;
	}
	free(r);
}

static enum grapnel_verdict
later(struct every *e, struct grapnel_request *req, enum later kind)
{
	struct request *r = malloc(sizeof(*r));

	if (r == NULL)
		return GRAPNEL_UNAVAILABLE;
	*r = (struct request){ e, req, kind };
	e->host->request_set_data(req, r);
	if (e->host->post(e->self, e->host->request_worker(req), resolve, r) != GRAPNEL_OK) {
		free(r);
		return GRAPNEL_UNAVAILABLE;
	}
	return GRAPNEL_PENDING;
}

static enum grapnel_verdict
every_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct every *e = instance;
	struct grapnel_pair tenant = { GRAPNEL_STR("tenant"), GRAPNEL_STR("t1") };
	struct grapnel_auth_answer a = {
		.size = sizeof(a), .attributes = &tenant, .attribute_count = 1
	};

	count(e, C_client_authenticate, q->client->peer.len > 0 && q->client->listener.len > 0);
	if (is(q->client->username, "never")) {
		e->host->request_set_data(req, NULL);
		return GRAPNEL_PENDING;
	}
	if (is(q->client->username, "later"))
		return later(e, req, LATER_AUTH);
	if (!is(q->password, "secret") && q->client->identity_source != GRAPNEL_IDENTITY_PSK)
		return GRAPNEL_DENY;
	count(e, C_auth_answer, e->host->auth_answer(req, &a) == GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

static void
every_request_cancelled(void *instance, struct grapnel_request *req)
{
	struct every *e = instance;

	count(e, C_request_cancelled,
	    e->host->auth_resolve(req, GRAPNEL_ALLOW, NULL) == GRAPNEL_ECANCELED);
}

static enum grapnel_verdict
every_client_auth_exchange(
    void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct every *e = instance;
	struct grapnel_auth_answer a = { .size = sizeof(a), .username = GRAPNEL_STR("exchanged") };

	if (!is(q->method, "X-EVERY"))
		return GRAPNEL_NEXT;
	a.more = q->phase == GRAPNEL_EXCHANGE_CONNECT;
	a.data = a.more ? GRAPNEL_STR("who?") : (struct grapnel_str){ NULL, 0 };
	count(e, C_client_auth_exchange, e->host->auth_answer(req, &a) == GRAPNEL_OK);
	return a.more || is(q->data, "me") ? GRAPNEL_ALLOW : GRAPNEL_DENY;
}

static enum grapnel_verdict
every_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	(void)req;
	count(instance, C_client_revalidate, q->client->client_id.len > 0);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
every_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct every *e = instance;
	struct grapnel_acl_answer a = {
		.size = sizeof(a), .rule = GRAPNEL_STR("every:acl"), .cache_ttl_ms = 1000
	};

	count(e, C_acl_check,
	    q->client->attribute_count == 0 ||
		is(q->client->attributes[q->client->attribute_count - 1].name, "tenant") ||
		q->client->identity_source != GRAPNEL_IDENTITY_NONE);
	if (q->action == GRAPNEL_PUBLISH && is(q->topic, "every/later"))
		return later(e, req, LATER_ACL);
	count(e, C_acl_answer, e->host->acl_answer(req, &a) == GRAPNEL_OK);
	return begins(q->topic, "every/") ? GRAPNEL_ALLOW : GRAPNEL_DENY;
}

static bool
has_user_property(struct every *e, struct grapnel_str block)
{
	struct grapnel_property p;
	bool found = false;
	size_t pos = 0;

	while (e->host->property_next(block, &pos, &p) == 1)
		found =
		    found || (p.id == 0x26 && is(p.u.pair.name, "n") && is(p.u.pair.value, "v"));
	return found;
}

static enum grapnel_verdict
every_message_publish(
    void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct every *e = instance;
	struct grapnel_property p = { .id = 0x26,
		.u.pair = { GRAPNEL_STR("by"), GRAPNEL_STR("every") } };
	struct grapnel_publish_answer a = { .size = sizeof(a),
		.payload = GRAPNEL_STR("changed"),
		.has_properties = true,
		.properties = &p,
		.property_count = 1 };

	count(e, C_message_publish, q->message->topic_name.len > 0);
	e->host->metric_add(e->self, e->metric, 1);
	if (q->message->properties.len > 0)
		count(e, C_property_next, has_user_property(e, q->message->properties));
	if (is(q->message->topic_name, "every/later"))
		return later(e, req, LATER_PUBLISH);
	if (!is(q->message->topic_name, "every/change"))
		return GRAPNEL_NEXT;
	count(e, C_publish_answer, e->host->publish_answer(req, &a) == GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
every_client_subscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	struct every *e = instance;
	struct grapnel_subscribe_answer a = { .size = sizeof(a), .has_qos = true, .qos = 1 };

	count(e, C_client_subscribe, q->filter.len > 0);
	if (is(q->filter, "every/later"))
		return later(e, req, LATER_SUBSCRIBE);
	count(e, C_subscribe_answer, e->host->subscribe_answer(req, &a) == GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
every_client_unsubscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	(void)req;
	count(instance, C_client_unsubscribe, q->filter.len > 0);
	return GRAPNEL_NEXT;
}

static enum grapnel_verdict
every_message_deliver(
    void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	(void)req;
	count(instance, C_message_deliver,
	    q->client->client_id.len > 0 && q->message->topic_name.len > 0);
	return GRAPNEL_NEXT;
}

static enum grapnel_verdict
every_message_acknowledge(
    void *instance, struct grapnel_request *req, const struct grapnel_message_acknowledge *q)
{
	struct every *e = instance;
	struct grapnel_ack_answer a = {
		.size = sizeof(a), .reason_code = 0x97, .reason_string = GRAPNEL_STR("not this one")
	};

	count(e, C_message_acknowledge, q->packet_type == 4 && q->packet_identifier > 0);
	count(e, C_events_waiting, e->host->events_waiting(e->self) < 10000);
	if (is(q->message->topic_name, "every/later"))
		return later(e, req, LATER_ACK);
	if (!is(q->message->topic_name, "every/refused"))
		return GRAPNEL_NEXT;
	count(e, C_ack_answer, e->host->ack_answer(req, &a) == GRAPNEL_OK);
	return GRAPNEL_DENY;
}

static enum grapnel_verdict
every_tls_psk_key(void *instance, struct grapnel_request *req, const struct grapnel_tls_psk *q)
{
	struct every *e = instance;
	struct grapnel_psk_answer a = { .size = sizeof(a), .key = { key, 16 } };

	count(e, C_tls_psk_key, q->identity.len > 0);
	if (is(q->identity, "later"))
		return later(e, req, LATER_PSK);
	count(e, C_psk_answer, e->host->psk_answer(req, &a) == GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

/* ---- events ------------------------------------------------------------------------------------------ */

static size_t
every_events(void *instance, const struct grapnel_event *const *events, size_t n)
{
	struct every *e = instance;

	for (size_t i = 0; i < n; i++) {
		struct grapnel_client *client =
		    events[i]->client != NULL ? events[i]->client->client : NULL;
		char *slot;

		count(e, C_on_events, events[i]->size > 0);
		if (events[i]->type != GRAPNEL_EVENT_CLIENT_CONNECTED || client == NULL ||
		    e->host->client_slot(e->self, client) != NULL ||
		    (slot = strdup("slot")) == NULL)
			continue;
		if (e->host->client_set_slot(e->self, client, slot) != GRAPNEL_OK) {
			free(slot);
			continue;
		}
		count(e, C_client_slot, e->host->client_slot(e->self, client) == slot);
		e->host->rights_changed(e->self);
		count(e, C_rights_changed, true);
		count(e, C_cache_purge,
		    e->host->cache_purge(e->self, GRAPNEL_STR("alice"),
			(struct grapnel_str){ NULL, 0 }) == GRAPNEL_OK);
	}
	return n;
}

static void
every_client_slot_free(void *instance, void *data)
{
	count(instance, C_client_slot_free, strcmp(data, "slot") == 0);
	free(data);
}

GRAPNEL_PLUGIN(every, .version = "1.0", .license = "Apache-2.0", .options = options,
    .create = every_create, .destroy = every_destroy, .worker_start = every_worker_start,
    .worker_stop = every_worker_stop, .request_cancelled = every_request_cancelled,
    .client_slot_free = every_client_slot_free, .client_authenticate = every_client_authenticate,
    .client_auth_exchange = every_client_auth_exchange,
    .client_revalidate = every_client_revalidate, .acl_check = every_acl_check,
    .message_publish = every_message_publish, .client_subscribe = every_client_subscribe,
    .client_unsubscribe = every_client_unsubscribe, .message_deliver = every_message_deliver,
    .message_acknowledge = every_message_acknowledge, .on_events = every_events,
    .events = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED), .tls_psk_key = every_tls_psk_key);
