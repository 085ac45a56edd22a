/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper - keeps values for whoever publishes to it
 *
 * A PUBLISH to NAME/OPERATION/KEY, where NAME is the instance's, is refused, and the Reason String is what came of the operation:
 *
 *	set	the payload becomes the value of KEY: "ok" or the error's number
 *	get	its value, or the error's number
 *	keep	the same, but the answer comes when it is on the disk
 *	delete	"ok" or the error's number
 *	each	"KEY=VALUE KEY=VALUE ..." of the keys that begin with KEY
 *	fill	as many values as the payload says, under KEY0, KEY1 ...: how many were kept
 *
 * When an instance is made it logs "found N values".
 */
#include "match.h"
#include <stdio.h>

struct keeper {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
};

struct text {
	char data[1024];
	size_t len;
};

static void
add(struct text *t, struct grapnel_str s)
{
	size_t room = sizeof(t->data) - t->len, len = s.len < room ? s.len : room;

	if (len > 0)
		memcpy(t->data + t->len, s.data, len);
	t->len += len;
}

static void
add_number(struct text *t, long n)
{
	char digits[24];

	add(t, (struct grapnel_str){ digits, (size_t)snprintf(digits, sizeof(digits), "%ld", n) });
}

static void
add_result(struct text *t, int err)
{
	if (err == GRAPNEL_OK)
		add(t, GRAPNEL_STR("ok"));
	else
		add_number(t, err);
}

static bool
add_value(void *arg, struct grapnel_str key, struct grapnel_str value)
{
	struct text *t = arg;

	add(t, key);
	add(t, GRAPNEL_STR("="));
	add(t, value);
	add(t, GRAPNEL_STR(" "));
	return t->len < sizeof(t->data);
}

static void
get(struct keeper *k, struct grapnel_str key, struct text *t)
{
	size_t len = 0;
	int err = k->host->value_get(k->self, key, t->data, sizeof(t->data), &len);

	if (err == GRAPNEL_OK)
		t->len = len < sizeof(t->data) ? len : sizeof(t->data);
	else
		add_result(t, err);
}

static void
fill(struct keeper *k, struct grapnel_str prefix, struct grapnel_str payload, struct text *t)
{
	char number[16], key[64];
	long count, kept = 0;

	snprintf(number, sizeof(number), "%.*s", (int)payload.len, payload.data);
	count = strtol(number, NULL, 10);
	for (long i = 0; i < count; i++) {
		int len = snprintf(key, sizeof(key), "%.*s%ld", (int)prefix.len, prefix.data, i);

		if (k->host->value_set(k->self, (struct grapnel_str){ key, (size_t)len },
			GRAPNEL_STR("filled")) == GRAPNEL_OK)
			kept++;
	}
	add_number(t, kept);
}

struct kept {
	struct keeper *k;
	struct grapnel_request *req;
};

static void
on_disk(void *arg)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer),
		.reason_string = GRAPNEL_STR("ok") };
	struct kept *kept = arg;

	kept->k->host->publish_resolve(kept->req, GRAPNEL_DENY, &answer);
	free(kept);
}

/* false: it could not be; *t says why. */
static bool
keep(struct keeper *k, struct grapnel_request *req, struct grapnel_str key,
    struct grapnel_str value, struct text *t)
{
	struct kept *kept = malloc(sizeof(*kept));
	int err = GRAPNEL_ENOMEM;

	if (kept != NULL && (err = k->host->value_set(k->self, key, value)) == GRAPNEL_OK) {
		*kept = (struct kept){ k, req };
		err = k->host->value_sync(k->self, on_disk, kept);
	}
	if (err == GRAPNEL_OK)
		return true;
	free(kept);
	add_result(t, err);
	return false;
}

static bool
skip(struct grapnel_str *s, struct grapnel_str word)
{
	if (s->len <= word.len || memcmp(s->data, word.data, word.len) != 0 ||
	    s->data[word.len] != '/')
		return false;
	s->data += word.len + 1;
	s->len -= word.len + 1;
	return true;
}

static enum grapnel_verdict
keeper_publish(void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct keeper *k = instance;
	struct grapnel_str s = q->message->topic_name;
	struct grapnel_publish_answer answer = { .size = sizeof(answer) };
	struct text t = { .len = 0 };

	if (!skip(&s, k->host->instance_name(k->self)))
		return GRAPNEL_NEXT;
	if (skip(&s, GRAPNEL_STR("set")))
		add_result(&t, k->host->value_set(k->self, s, q->message->payload));
	else if (skip(&s, GRAPNEL_STR("get")))
		get(k, s, &t);
	else if (skip(&s, GRAPNEL_STR("delete")))
		add_result(&t, k->host->value_delete(k->self, s));
	else if (skip(&s, GRAPNEL_STR("each")))
		add_result(&t, k->host->value_each(k->self, s, add_value, &t));
	else if (skip(&s, GRAPNEL_STR("keep")) && keep(k, req, s, q->message->payload, &t))
		return GRAPNEL_PENDING;
	else if (skip(&s, GRAPNEL_STR("fill")))
		fill(k, s, q->message->payload, &t);
	answer.reason_string = (struct grapnel_str){ t.data, t.len };
	return k->host->publish_answer(req, &answer) == GRAPNEL_OK ? GRAPNEL_DENY
								   : GRAPNEL_UNAVAILABLE;
}

static bool
count_value(void *arg, struct grapnel_str key, struct grapnel_str value)
{
	(void)key;
	(void)value;
	++*(unsigned *)arg;
	return true;
}

static int
keeper_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct keeper *k = calloc(1, sizeof(*k));
	unsigned found = 0;

	if (k == NULL)
		return GRAPNEL_ENOMEM;
	k->host = host;
	k->self = self;
	host->value_each(self, GRAPNEL_STR(""), count_value, &found);
	host->log(self, GRAPNEL_LOG_INFO, "found %u values", found);
	*instance = k;
	return GRAPNEL_OK;
}

static void
keeper_destroy(void *instance)
{
	free(instance);
}

static const struct grapnel_option keeper_options[] = {
	{ .name = "note",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Nothing; to have options that differ." },
	{ 0 }
};

GRAPNEL_PLUGIN(keeper, .version = "1.0", .license = "Apache-2.0",
    .description = "Keeps values for whoever publishes to it", .options = keeper_options,
    .create = keeper_create, .destroy = keeper_destroy, .message_publish = keeper_publish, );
