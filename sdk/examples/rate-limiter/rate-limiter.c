/* SPDX-License-Identifier: MIT-0 */
/*
 * rate-limiter - a token bucket for each client
 *
 * Threads:   a client is always on one worker, and so are its hooks and its slot: a bucket needs no lock. The instance is
 *            immutable after create().
 * Ownership: a bucket hangs in the client's slot; the host gives it to slot_free when the session ends or the instance goes.
 * Bounded:   one bucket a session, nothing else grows.
 */
#include <grapnel/plugin.h>
#include <stdlib.h>
#include <string.h>

enum over { OVER_DENY, OVER_DROP, OVER_DISCONNECT };
enum { QUOTA_EXCEEDED = 0x97 }; /* MQTT 5.0 section 2.4 */

struct limiter {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	uint64_t message_rate, message_burst; /* per second; at once */
	uint64_t byte_rate, byte_burst;       /* byte_rate 0: no limit */
	uint64_t log_every_ms;
	enum over over;
	int metric_limited, metric_buckets;
};

/* In thousandths, so that a millisecond's share of a rate is a whole number. */
struct bucket {
	uint64_t filled_at_ms, logged_at_ms;
	int64_t messages, bytes;
};

static bool
str_equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool
is_exempt(const struct limiter *l, struct grapnel_str username)
{
	struct grapnel_str name;

	if (username.data == NULL)
		return false;
	for (size_t i = 0; (name = l->host->option_list(l->self, NULL, "exempt", i)).data != NULL;
	     i++)
		if (str_equal(name, username))
			return true;
	return false;
}

/* rate and burst are bounded by the option table and the elapsed time here, so nothing overflows. */
static int64_t
filled(int64_t tokens, uint64_t elapsed_ms, uint64_t rate, uint64_t burst)
{
	uint64_t full_after_ms =
	    rate > 0 ? (uint64_t)((int64_t)(burst * 1000) - tokens) / rate + 1 : 0;

	if (elapsed_ms >= full_after_ms)
		return (int64_t)(burst * 1000);
	return tokens + (int64_t)(elapsed_ms * rate);
}

static struct bucket *
bucket_of(const struct limiter *l, struct grapnel_client *client, uint64_t now_ms)
{
	struct bucket *b = l->host->client_slot(l->self, client);

	if (b != NULL)
		return b;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return NULL;
	b->filled_at_ms = now_ms;
	b->messages = (int64_t)(l->message_burst * 1000);
	b->bytes = (int64_t)(l->byte_burst * 1000);
	if (l->host->client_set_slot(l->self, client, b) != GRAPNEL_OK) {
		free(b);
		return NULL;
	}
	l->host->metric_add(l->self, l->metric_buckets, 1);
	return b;
}

static void
limiter_slot_free(void *instance, void *data)
{
	const struct limiter *l = instance;

	l->host->metric_add(l->self, l->metric_buckets, -1);
	free(data);
}

/* Bytes go into debt: else a message longer than the burst could never pass. */
static bool
take(const struct limiter *l, struct bucket *b, uint64_t now_ms, size_t bytes)
{
	uint64_t elapsed_ms = now_ms - b->filled_at_ms;

	b->filled_at_ms = now_ms;
	b->messages = filled(b->messages, elapsed_ms, l->message_rate, l->message_burst);
	if (l->byte_rate > 0)
		b->bytes = filled(b->bytes, elapsed_ms, l->byte_rate, l->byte_burst);
	if (b->messages < 1000 || (l->byte_rate > 0 && b->bytes <= 0))
		return false;
	b->messages -= 1000;
	if (l->byte_rate > 0)
		b->bytes -= (int64_t)bytes * 1000;
	return true;
}

/* A client that floods must not flood the log, too. */
static void
log_now_and_then(
    const struct limiter *l, struct bucket *b, uint64_t now_ms, const struct grapnel_client_info *c)
{
	if (b->logged_at_ms != 0 && now_ms - b->logged_at_ms < l->log_every_ms)
		return;
	b->logged_at_ms = now_ms;
	l->host->log(l->self, GRAPNEL_LOG_WARNING, "client \"%.*s\" publishes more than it may",
	    (int)c->client_id.len, c->client_id.data);
}

static enum grapnel_verdict
over_the_limit(
    const struct limiter *l, struct grapnel_request *req, const struct grapnel_client_info *c)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer),
		.drop = l->over == OVER_DROP,
		.reason_code = l->over == OVER_DROP ? 0 : QUOTA_EXCEEDED,
		.reason_string = GRAPNEL_STR("too many messages") };

	l->host->metric_add(l->self, l->metric_limited, 1);
	if (l->over == OVER_DISCONNECT)
		(void)l->host->client_kick(l->self, c->mountpoint, c->client_id, QUOTA_EXCEEDED);
	if (l->host->publish_answer(req, &answer) != GRAPNEL_OK)
		return GRAPNEL_UNAVAILABLE;
	return l->over == OVER_DROP ? GRAPNEL_ALLOW : GRAPNEL_DENY;
}

static enum grapnel_verdict
limiter_message_publish(
    void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	const struct limiter *l = instance;
	uint64_t now_ms = l->host->now_ms();
	struct bucket *b;

	/* A Will Message may come when the client has gone: there is no slot then, and there is one of it at most. */
	if (q->client->client == NULL || is_exempt(l, q->client->username))
		return GRAPNEL_NEXT;
	b = bucket_of(l, q->client->client, now_ms);
	if (b == NULL)
		return GRAPNEL_UNAVAILABLE;
	if (take(l, b, now_ms, q->message->topic_name.len + q->message->payload.len))
		return GRAPNEL_NEXT;
	log_now_and_then(l, b, now_ms, q->client);
	return over_the_limit(l, req, q->client);
}

static const struct grapnel_option limiter_options[] = {
	{ .name = "byte_burst",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "0",
	    .max = 1 << 30,
	    .help = "Bytes of topic and payload at once; 0: as many as byte_rate." },
	{ .name = "byte_rate",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "0",
	    .max = 1 << 30,
	    .help = "Bytes of topic and payload a second; 0: no limit." },
	{ .name = "exempt",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "User names that are not limited." },
	{ .name = "log_every",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "1m",
	    .max = 86400000,
	    .help = "A client over its limit is in the log once in that time." },
	{ .name = "message_burst",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .max = 1000000,
	    .help = "Messages at once; 0: as many as message_rate." },
	{ .name = "message_rate",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "10",
	    .min = 1,
	    .max = 1000000,
	    .help = "Messages a second." },
	{ .name = "over",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "deny|drop|disconnect",
	    .default_value = "deny",
	    .help = "What becomes of a message that is over the limit." },
	{ .name = NULL },
};

static int
limiter_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct limiter *l = calloc(1, sizeof(*l));
	struct grapnel_str over = host->option_str(self, NULL, "over");

	if (l == NULL)
		return GRAPNEL_ENOMEM;
	l->host = host;
	l->self = self;
	l->message_rate = (uint64_t)host->option_int(self, NULL, "message_rate");
	l->message_burst = (uint64_t)host->option_int(self, NULL, "message_burst");
	l->byte_rate = (uint64_t)host->option_int(self, NULL, "byte_rate");
	l->byte_burst = (uint64_t)host->option_int(self, NULL, "byte_burst");
	l->log_every_ms = (uint64_t)host->option_int(self, NULL, "log_every");
	if (l->message_burst == 0)
		l->message_burst = l->message_rate;
	if (l->byte_burst == 0)
		l->byte_burst = l->byte_rate;
	l->over = str_equal(over, GRAPNEL_STR("drop"))   ? OVER_DROP
	    : str_equal(over, GRAPNEL_STR("disconnect")) ? OVER_DISCONNECT
							 : OVER_DENY;
	l->metric_limited = host->metric_new(
	    self, GRAPNEL_COUNTER, "limited_total", "Messages that were over a client's limit.");
	l->metric_buckets =
	    host->metric_new(self, GRAPNEL_GAUGE, "buckets", "Clients that have published.");
	if (l->metric_limited < 0 || l->metric_buckets < 0) {
		free(l);
		return GRAPNEL_ENOMEM;
	}
	*instance = l;
	return GRAPNEL_OK;
}

GRAPNEL_PLUGIN(rate_limiter, .version = "1.0", .license = "MIT-0",
    .description = "Limits what each client may publish", .options = limiter_options,
    .create = limiter_create, .destroy = free, .client_slot_free = limiter_slot_free,
    .message_publish = limiter_message_publish);
