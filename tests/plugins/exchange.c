/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange - enhanced authentication in two steps (MQTT 5.0 section 4.12), as a demonstration
 *
 *	method = "demo"		Authentication Method; another one is not ours
 *	secret = "open"		what the second step must carry
 *
 *	broken = "fail"		a first step that carries this finds the backend down
 *
 *	rules = "allow all %{login}/#"	session ACL rules of who is in; the attribute "login" counts the times
 *	rate = 0		from the second time on: message_rate
 *	valid = 0		from the second time on: seconds for which the login is valid
 *
 * CONNECT or AUTH 0x19 with the user name as Authentication Data -> AUTH 0x18 "challenge" -> AUTH
 * 0x18 with the secret -> in, with that user name and "welcome" as Authentication Data. A wrong
 * secret: 0x87. Nothing here is secure.
 */
#include "match.h"
#include <time.h>

struct exchange {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct grapnel_str method, secret, broken;
	struct grapnel_rules *rules;
	uint32_t rate;
	int64_t valid;
};

/* In the client's slot between the steps. */
struct step {
	size_t len;
	char username[64];
	char logins; /* '1', '2', ... */
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
		step = calloc(1, sizeof(*step));
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
	struct grapnel_client_limits limits = { .size = sizeof(limits), .message_rate = x->rate };
	struct grapnel_pair login = { .name = GRAPNEL_STR("login") };
	struct step *step;

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
	step->logins = step->logins == 0 ? '1' : (char)(step->logins + 1);
	login.value = (struct grapnel_str){ &step->logins, 1 };
	answer.attributes = &login;
	answer.attribute_count = 1;
	answer.rules = x->rules;
	if (step->logins > '1') {
		if (x->rate != 0)
			answer.limits = &limits;
		if (x->valid != 0)
			answer.valid_until = (int64_t)time(NULL) + x->valid;
	}
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
	struct grapnel_str rules;
	char error[256];

	if (x == NULL)
		return GRAPNEL_ENOMEM;
	x->host = host;
	x->self = self;
	x->method = host->option_str(self, NULL, "method");
	x->broken = host->option_str(self, NULL, "broken");
	x->secret = host->option_str(self, NULL, "secret");
	x->rate = (uint32_t)host->option_int(self, NULL, "rate");
	x->valid = host->option_int(self, NULL, "valid");
	rules = host->option_str(self, NULL, "rules");
	if (rules.data != NULL &&
	    (x->rules = host->rules_compile(
		 rules, GRAPNEL_STR("rules"), false, error, sizeof(error))) == NULL) {
		host->config_error(self, NULL, "rules", "%s", error);
		free(x);
		return GRAPNEL_EINVAL;
	}
	*instance = x;
	return GRAPNEL_OK;
}

static void
exchange_destroy(void *instance)
{
	struct exchange *x = instance;

	x->host->rules_unref(x->rules);
	free(x);
}

static const struct grapnel_option exchange_options[] = {
	{ .name = "broken",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "A first step with this finds the backend down." },
	{ .name = "method",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "demo",
	    .help = "Authentication Method." },
	{ .name = "rate",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .help = "message_rate from the second login on." },
	{ .name = "rules",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "ACL rules for who is let in; %{login} counts the logins." },
	{ .name = "secret",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .default_value = "open",
	    .help = "What the second step must carry." },
	{ .name = "valid",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .help = "Seconds, from the second login on." },
	{ 0 }
};

GRAPNEL_PLUGIN(exchange, .version = "1.0", .license = "Apache-2.0",
    .description = "Enhanced authentication in two steps", .options = exchange_options,
    .create = exchange_create, .destroy = exchange_destroy, .client_slot_free = exchange_slot_free,
    .client_auth_exchange = exchange_step, );
