/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange - enhanced authentication in two steps (MQTT 5.0 section 4.12), as a demonstration
 *
 *	method = "demo"		Authentication Method; another one is not ours
 *	secret = "open"		what the second step must carry
 *
 *	broken = "fail"		a first step that carries this finds the backend down
 *
 * CONNECT or AUTH 0x19 with the user name as Authentication Data -> AUTH 0x18 "challenge" -> AUTH
 * 0x18 with the secret -> in, with that user name and "welcome" as Authentication Data. A wrong
 * secret: 0x87. Nothing here is secure.
 */
#include "match.h"

struct exchange {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct grapnel_str method, secret, broken;
};

/* In the client's slot between the steps. */
struct step {
	size_t len;
	char username[64];
};

static enum grapnel_verdict
deny(const struct exchange *x, struct grapnel_request *req, const char *reason)
{
	struct grapnel_auth_answer answer = { .size = sizeof(answer), .reason_code = 0x87 };

	answer.reason_string.data = reason;
	answer.reason_string.len = strlen(reason);
	x->host->auth_answer(req, &answer);
	return GRAPNEL_DENY;
}

static enum grapnel_verdict
first_step(
    const struct exchange *x, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct grapnel_auth_answer answer = {
		.size = sizeof(answer), .more = true, .data = GRAPNEL_STR("challenge")
	};
	struct step *step = x->host->client_slot(x->self, q->client->client);

	if (str_matches(x->broken, q->data))
		return GRAPNEL_UNAVAILABLE;
	if (q->data.len == 0 || q->data.len > sizeof(step->username))
		return deny(x, req, "the first step carries a user name");
	if (step == NULL) {
		step = malloc(sizeof(*step));
		if (step == NULL ||
		    x->host->client_set_slot(x->self, q->client->client, step) != GRAPNEL_OK) {
			free(step);
			return GRAPNEL_UNAVAILABLE;
		}
	}
	step->len = q->data.len;
	memcpy(step->username, q->data.data, q->data.len);
	return x->host->auth_answer(req, &answer) == GRAPNEL_OK ? GRAPNEL_ALLOW
								: GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
exchange_step(void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	const struct exchange *x = instance;
	struct grapnel_auth_answer answer = { .size = sizeof(answer),
		.data = GRAPNEL_STR("welcome") };
	const struct step *step;

	if (!str_equal(q->method, x->method))
		return GRAPNEL_NEXT;
	if (q->phase != GRAPNEL_EXCHANGE_CONTINUE)
		return first_step(x, req, q);
	step = x->host->client_slot(x->self, q->client->client);
	if (step == NULL)
		return deny(x, req, "there was no first step");
	if (!x->host->secret_equal(q->data, x->secret))
		return deny(x, req, "wrong response");
	answer.username.data = step->username;
	answer.username.len = step->len;
	return x->host->auth_answer(req, &answer) == GRAPNEL_OK ? GRAPNEL_ALLOW
								: GRAPNEL_UNAVAILABLE;
}

static void
exchange_slot_free(void *instance, void *data)
{
	(void)instance;
	free(data);
}

static int
exchange_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct exchange *x = calloc(1, sizeof(*x));

	if (x == NULL)
		return GRAPNEL_ENOMEM;
	x->host = host;
	x->self = self;
	x->method = host->option_str(self, NULL, "method");
	x->broken = host->option_str(self, NULL, "broken");
	x->secret = host->option_str(self, NULL, "secret");
	*instance = x;
	return GRAPNEL_OK;
}

static const struct grapnel_option exchange_options[] = {
	{ .name = "broken",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "A first step with this finds the backend down." },
	{ .name = "method",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "demo",
	    .help = "Authentication Method." },
	{ .name = "secret",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .default_value = "open",
	    .help = "What the second step must carry." },
	{ 0 }
};

GRAPNEL_PLUGIN(exchange, .version = "1.0", .license = "Apache-2.0",
    .description = "Enhanced authentication in two steps", .options = exchange_options,
    .create = exchange_create, .destroy = free, .client_slot_free = exchange_slot_free,
    .client_auth_exchange = exchange_step, );
