/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-scram - MQTT 5 enhanced authentication with SCRAM-SHA-256 and SCRAM-SHA-512, users from a password file
 *
 * The client proves that it has the password, which it does not send; nothing is iterated here, so that every answer is given
 * at once. Between the two steps the exchange is kept in the client's slot.
 *
 * Threads:   what an instance holds is immutable after create(), so that its hooks need no lock; an exchange belongs to its
 *            client's worker.
 * Bounded:   one exchange a client, of a few KiB (SCRAM_MAX_MESSAGE); the broker bounds clients that have not logged in.
 */
#include "../common/plugin_file.h"

#include <grapnel/plugin.h>
#include <stdlib.h>
#include <string.h>

#define NONCE_BYTES 24

struct auth_scram {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct passwd_file *users;
	bool pass_unknown; /* who is not in the file is the next plugin's */
	/* Of which challenges for users who do not exist are made. */
	unsigned char secret[32];
	int accepted, refused, unknown, malformed, unavailable, exchanges; /* metrics */
};

static const struct grapnel_option auth_scram_options[] = {
	{ .name = "decoy_secret",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Text of which challenges for users who do not exist are made; default: the "
		    "credentials in password_file." },
	{ .name = "pass_unknown",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help =
		"Whether users without a SCRAM credential in password_file are passed on to the "
		"next plugin." },
	{ .name = "password_file",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Path of the password file, as grapnelctl passwd --scheme scram-sha-256 writes "
		    "it." },
	{ .name = NULL },
};

/* -------------------------------------------------------------------------- starting */

static void
auth_scram_destroy(void *instance)
{
	struct auth_scram *a = instance;

	passwd_file_free(a->users);
	explicit_bzero(a->secret, sizeof(a->secret));
	free(a);
}

/* The same after a restart, or a challenge that changes would tell who does not exist. */
static bool
make_secret(struct auth_scram *a)
{
	struct grapnel_str given = a->host->option_str(a->self, NULL, "decoy_secret");

	if (given.data != NULL)
		return scram_stir_secret(a->secret, given);
	for (size_t i = 0; i < passwd_file_count(a->users); i++)
		if (!scram_stir_secret(a->secret, passwd_file_at(a->users, i).hash))
			return false;
	return true;
}

static void
count_users(struct auth_scram *a)
{
	size_t counts[SCRAM_SHA_512 + 1] = { 0 };
	enum scram_hash hash;

	for (size_t i = 0; i < passwd_file_count(a->users); i++)
		if (scram_is_credential(passwd_file_at(a->users, i).hash, &hash))
			counts[hash]++;
	a->host->log(a->self, GRAPNEL_LOG_INFO,
	    "%zu users with SCRAM-SHA-256, %zu with SCRAM-SHA-512", counts[SCRAM_SHA_256],
	    counts[SCRAM_SHA_512]);
	if (counts[SCRAM_SHA_256] + counts[SCRAM_SHA_512] == 0)
		a->host->log(a->self, GRAPNEL_LOG_WARNING,
		    "password_file has no SCRAM credential, so that nobody can log in here; set "
		    "passwords with grapnelctl passwd set --scheme scram-sha-256");
}

static void
make_metrics(struct auth_scram *a)
{
	const struct grapnel_host *host = a->host;

	a->accepted = host->metric_new(
	    a->self, GRAPNEL_COUNTER, "logins_accepted_total", "Exchanges with the right proof.");
	a->refused = host->metric_new(a->self, GRAPNEL_COUNTER, "logins_refused_total",
	    "Exchanges of known users with a wrong proof, or for another user than CONNECT named.");
	a->unknown = host->metric_new(a->self, GRAPNEL_COUNTER, "logins_unknown_total",
	    "Exchanges of users that have no such credential in the password file.");
	a->malformed = host->metric_new(a->self, GRAPNEL_COUNTER, "malformed_total",
	    "Messages that are not SCRAM, or ask for what is not offered.");
	a->unavailable = host->metric_new(a->self, GRAPNEL_COUNTER, "logins_unavailable_total",
	    "Exchanges that could not go on: no memory, or begun before a reload.");
	a->exchanges = host->metric_new(
	    a->self, GRAPNEL_GAUGE, "exchanges", "Exchanges that wait for the client's proof.");
}

static int
auth_scram_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_scram *a = calloc(1, sizeof(*a));
	int err;

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->host = host;
	a->self = self;
	a->pass_unknown = host->option_bool(self, NULL, "pass_unknown");
	a->users = plugin_file_passwords(
	    host, self, "password_file", host->option_str(self, NULL, "password_file"));
	if (a->users == NULL || !make_secret(a)) {
		auth_scram_destroy(a);
		return GRAPNEL_EINVAL;
	}
	err = host->depends_on(self, "client_revalidate", GRAPNEL_DEPENDS_USERNAME);
	if (err != GRAPNEL_OK) {
		auth_scram_destroy(a);
		return err;
	}
	make_metrics(a);
	count_users(a);
	*instance = a;
	return GRAPNEL_OK;
}

/* ------------------------------------------------------------------------- exchanging */

/* In the client's slot from the challenge to the proof. */
struct exchange {
	struct scram *scram;
	struct grapnel_str username; /* scram's */
	bool known;
};

static void
count(const struct auth_scram *a, int metric, int64_t delta)
{
	if (metric >= 0)
		a->host->metric_add(a->self, metric, delta);
}

static void
exchange_free(const struct auth_scram *a, struct exchange *x)
{
	if (x == NULL)
		return;
	scram_free(x->scram);
	free(x);
	count(a, a->exchanges, -1);
}

static void
auth_scram_slot_free(void *instance, void *data)
{
	exchange_free(instance, data);
}

/* The same words whatever was wrong: who exists is nobody's business. */
static enum grapnel_verdict
deny(const struct auth_scram *a, struct grapnel_request *req, int metric)
{
	struct grapnel_auth_answer answer = { .size = sizeof(answer),
		.reason_string = GRAPNEL_STR("authentication failed") };

	count(a, metric, 1);
	(void)a->host->auth_answer(req, &answer);
	return GRAPNEL_DENY;
}

static enum grapnel_verdict
unavailable(const struct auth_scram *a)
{
	count(a, a->unavailable, 1);
	return GRAPNEL_UNAVAILABLE;
}

static bool
equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Answer with the challenge; x is the slot's afterwards, or freed. */
static enum grapnel_verdict
challenge(const struct auth_scram *a, struct grapnel_request *req,
    const struct grapnel_client_info *client, struct exchange *x, struct grapnel_str credential)
{
	struct grapnel_auth_answer answer = { .size = sizeof(answer), .more = true };

	if (scram_challenge(x->scram, credential, a->secret, &answer.data) != SCRAM_OK ||
	    a->host->auth_answer(req, &answer) != GRAPNEL_OK ||
	    a->host->client_set_slot(a->self, client->client, x) != GRAPNEL_OK) {
		exchange_free(a, x);
		return unavailable(a);
	}
	return GRAPNEL_ALLOW;
}

/* CONNECT or AUTH 0x19: client-first-message. */
static enum grapnel_verdict
first_step(const struct auth_scram *a, struct grapnel_request *req,
    const struct grapnel_auth_exchange *q, enum scram_hash hash)
{
	const struct grapnel_client_info *client = q->client;
	struct passwd_entry user = { .hash = { NULL, 0 } };
	unsigned char nonce[NONCE_BYTES];
	struct exchange *x;
	int err;

	/* One that was begun and not ended goes. */
	exchange_free(a, a->host->client_slot(a->self, client->client));
	(void)a->host->client_set_slot(a->self, client->client, NULL);
	if (a->host->random_bytes(nonce, sizeof(nonce)) != GRAPNEL_OK ||
	    (x = calloc(1, sizeof(*x))) == NULL)
		return unavailable(a);
	count(a, a->exchanges, 1);
	err = scram_begin(hash, q->data, nonce, sizeof(nonce), &x->scram, &x->username);
	if (err != SCRAM_OK) {
		exchange_free(a, x);
		return err == SCRAM_EMALFORMED ? deny(a, req, a->malformed) : unavailable(a);
	}
	/* Also where a certificate or a pre-shared key says who it is. */
	if (client->username.data != NULL && !equal(client->username, x->username)) {
		exchange_free(a, x);
		return deny(a, req, a->refused);
	}
	x->known = passwd_file_find_scram(a->users, x->username, hash, &user);
	if (!x->known && a->pass_unknown) {
		exchange_free(a, x);
		count(a, a->unknown, 1);
		return GRAPNEL_NEXT;
	}
	scram_unknown_like(x->scram, passwd_file_typical(a->users, hash));
	return challenge(a, req, client, x, user.hash);
}

/* AUTH 0x18: client-final-message. */
static enum grapnel_verdict
last_step(
    const struct auth_scram *a, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct grapnel_auth_answer answer = { .size = sizeof(answer) };
	struct exchange *x = a->host->client_slot(a->self, q->client->client);
	enum grapnel_verdict verdict;
	int err;

	if (x == NULL) /* begun with the instance before this one */
		return unavailable(a);
	(void)a->host->client_set_slot(a->self, q->client->client, NULL);
	err = scram_finish(x->scram, q->data, &answer.data);
	switch (err) {
	case SCRAM_OK:
		answer.username = x->username;
		verdict = GRAPNEL_ALLOW;
		if (a->host->auth_answer(req, &answer) != GRAPNEL_OK)
			verdict = unavailable(a);
		else
			count(a, a->accepted, 1);
		break;
	case SCRAM_EMALFORMED:
		verdict = deny(a, req, a->malformed);
		break;
	case SCRAM_EWRONG:
		verdict = deny(a, req, x->known ? a->refused : a->unknown);
		break;
	default:
		verdict = unavailable(a);
	}
	exchange_free(a, x);
	return verdict;
}

static enum grapnel_verdict
auth_scram_exchange(
    void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	enum scram_hash hash = scram_by_method(q->method);

	if (hash == SCRAM_NONE)
		return GRAPNEL_NEXT;
	return q->phase == GRAPNEL_EXCHANGE_CONTINUE ? last_step(instance, req, q)
						     : first_step(instance, req, q, hash);
}

static enum grapnel_verdict
auth_scram_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	const struct auth_scram *a = instance;
	struct passwd_entry user;

	(void)req;
	if (q->client->username.data == NULL)
		return GRAPNEL_NEXT;
	return passwd_file_find_scram(a->users, q->client->username, SCRAM_SHA_256, &user) ||
		passwd_file_find_scram(a->users, q->client->username, SCRAM_SHA_512, &user)
	    ? GRAPNEL_ALLOW
	    : GRAPNEL_DENY;
}

GRAPNEL_PLUGIN(auth_scram, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "SCRAM-SHA-256 and SCRAM-SHA-512 with users from a password file.",
    .options = auth_scram_options, .create = auth_scram_create, .destroy = auth_scram_destroy,
    .reload_always = true, .client_slot_free = auth_scram_slot_free,
    .client_auth_exchange = auth_scram_exchange, .client_revalidate = auth_scram_revalidate);
