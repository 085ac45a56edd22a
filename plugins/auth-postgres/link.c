/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

#define BACK_OFF_MS    200u /* after the first vain attempt */
#define AGAIN_MS       50u /* after a connection was lost, at most: not all of them in the same moment */
#define ROUNDS_AT_ONCE 16u /* of reading, before others have their turn */

static void link_next(struct pg_link *l);
static void link_on_event(void *arg, int fd, unsigned events);

static void
link_note(struct pg_link *l, const char *what, const char *message)
{
	size_t len = strlen(what) < sizeof(l->why) / 2 ? strlen(what) : 0;

	memcpy(l->why, what, len);
	pg_message(l->why + len, sizeof(l->why) - len, message, false);
}

/* Let go of what belongs to a state. */
static void
link_clear(struct pg_link *l)
{
	const struct grapnel_host *host = l->config->host;

	host->watch_remove(l->watch);
	l->watch = NULL;
	host->dns_cancel(l->look_up);
	l->look_up = NULL;
	PQfinish(l->conn);
	l->conn = NULL;
	l->generation++;
	host->timer_disarm(l->timer);
}

/* Removes the watch before the descriptor may be closed, by PQconnectPoll too. */
static bool
link_watch(struct pg_link *l, unsigned events)
{
	const struct grapnel_host *host = l->config->host;

	host->watch_remove(l->watch);
	l->watch = host->watch_fd(l->config->self, PQsocket(l->conn), events, link_on_event, l);
	return l->watch != NULL;
}

static void
link_wait(struct pg_link *l, uint32_t ms)
{
	uint32_t random = 0;

	l->state = LINK_WAITING;
	(void)l->config->host->random_bytes(&random, sizeof(random));
	(void)l->config->host->timer_arm(l->timer, ms / 2 + random % (ms + 1));
}

static void
link_back_off(struct pg_link *l)
{
	uint32_t ms = BACK_OFF_MS,
		 most = l->config->reconnect_max_ms * 2 / 3; /* and a half of that */

	for (unsigned i = 0; i < l->failures && ms < most; i++)
		ms *= 2;
	l->failures++;
	link_wait(l, ms < most ? ms : most);
}

/* ------------------------------------------------------------------------------ one attempt */

static void
link_begin(struct pg_link *l)
{
	l->host = l->address = l->address_count = 0;
	link_next(l);
}

static void
link_on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	struct pg_link *l = arg;
	const char *name = l->config->params->hosts[l->host - 1].name;

	l->look_up = NULL;
	for (size_t i = 0; i < count && l->address_count < LINK_MAX_ADDRESSES; i++) {
		if (addresses[i].len < LINK_ADDRESS_SIZE) {
			memcpy(l->addresses[l->address_count], addresses[i].data, addresses[i].len);
			l->addresses[l->address_count++][addresses[i].len] = '\0';
		}
	}
	if (l->address_count == 0)
		snprintf(l->why, sizeof(l->why), "host %.200s: %s", name,
		    err == GRAPNEL_ENOENT         ? "there is no such name"
			: err == GRAPNEL_ETIMEOUT ? "no answer from the DNS in time"
						  : "the DNS could not look it up");
	link_next(l);
}

/* Find the addresses of the next host. true: they come later. */
static bool
link_look_up(struct pg_link *l)
{
	const struct pg_host *h = &l->config->params->hosts[l->host++];

	l->address = 0;
	l->address_count = 0;
	if (h->address != NULL || pg_host_is_local(h)) {
		snprintf(
		    l->addresses[0], LINK_ADDRESS_SIZE, "%s", h->address != NULL ? h->address : "");
		l->address_count = 1;
		return false;
	}
	l->look_up = l->config->host->dns_lookup(l->config->self,
	    (struct grapnel_str){ h->name, strlen(h->name) }, l->config->connect_timeout_ms,
	    link_on_addresses, l);
	if (l->look_up != NULL)
		l->state = LINK_LOOKING_UP;
	else
		snprintf(l->why, sizeof(l->why), "out of memory");
	return l->look_up != NULL;
}

/* Try the next address of this host. true: it is under way. */
static bool
link_connect(struct pg_link *l)
{
	const struct pg_host *h = &l->config->params->hosts[l->host - 1];

	l->conn = pg_params_connect(
	    l->config->params, h, l->addresses[l->address++], l->why, sizeof(l->why));
	if (l->conn == NULL)
		return false;
	if (PQstatus(l->conn) == CONNECTION_BAD) {
		link_note(l, "", PQerrorMessage(l->conn));
	} else if (!link_watch(l, GRAPNEL_WRITABLE)) {
		link_note(l, "", "the socket cannot be watched");
	} else {
		l->state = LINK_CONNECTING;
		(void)l->config->host->timer_arm(l->timer, l->config->connect_timeout_ms);
		return true;
	}
	link_clear(l);
	return false;
}

/* Go on with the next address, host, or after a while from the beginning. */
static void
link_next(struct pg_link *l)
{
	link_clear(l);
	for (;;) {
		while (l->address < l->address_count) {
			if (link_connect(l))
				return;
		}
		if (l->host == l->config->params->host_count)
			break;
		if (link_look_up(l))
			return;
	}
	link_back_off(l);
	l->user->failed(l->arg, l->why);
}

static void
link_set_up(struct pg_link *l)
{
	l->set_up_done = 0;
	l->answered = false;
	if (PQsetnonblocking(l->conn, 1) != 0 || PQenterPipelineMode(l->conn) != 1 ||
	    (l->set_up_count = l->user->set_up(l->arg, l->conn)) == 0 ||
	    !link_watch(l, GRAPNEL_READABLE | GRAPNEL_WRITABLE)) {
		link_note(l, "", PQerrorMessage(l->conn));
		link_next(l);
		return;
	}
	l->state = LINK_SETTING_UP; /* under the same timer */
}

static void
link_poll(struct pg_link *l)
{
	bool watched = true;

	l->config->host->watch_remove(l->watch);
	l->watch = NULL;
	switch (PQconnectPoll(l->conn)) {
	case PGRES_POLLING_READING:
		watched = link_watch(l, GRAPNEL_READABLE);
		break;
	case PGRES_POLLING_WRITING:
		watched = link_watch(l, GRAPNEL_WRITABLE);
		break;
	case PGRES_POLLING_OK:
		link_set_up(l);
		return;
	case PGRES_POLLING_FAILED:
	case PGRES_POLLING_ACTIVE:
		link_note(l, "", PQerrorMessage(l->conn));
		link_next(l);
		return;
	}
	if (!watched) {
		link_note(l, "", "the socket cannot be watched");
		link_next(l);
	}
}

/* ---------------------------------------------------------------------------------- reading */

/* What came is of no use, or nothing comes any more. */
static void
link_give_up(struct pg_link *l, const char *what, const char *message)
{
	link_note(l, what, message);
	if (l->state != LINK_READY) {
		link_next(l);
		return;
	}
	link_clear(l);
	if (l->useful) {
		l->failures = 0;
		link_wait(l, AGAIN_MS);
	} else {
		link_back_off(l);
	}
	l->user->lost(l->arg, l->why);
}

static void
link_set_up_result(struct pg_link *l, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	char what[64];

	if (status == PGRES_PIPELINE_SYNC) {
		if (!l->answered) {
			link_give_up(l, l->user->step(l->arg, l->set_up_done), ": no answer");
			return;
		}
		l->answered = false;
		if (++l->set_up_done < l->set_up_count)
			return;
		l->config->host->timer_disarm(l->timer);
		l->state = LINK_READY;
		l->useful = false;
		l->user->ready(l->arg);
	} else if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
		l->answered = true;
	} else {
		snprintf(what, sizeof(what), "%s: ", l->user->step(l->arg, l->set_up_done));
		link_give_up(l, what, PQresultErrorMessage(result));
	}
}

/* Everything libpq has in its buffer. false: the connection is gone. */
static bool
link_take(struct pg_link *l, PGconn *conn)
{
	bool ended = false; /* one query's results: NULL; two of them: there is nothing more */
	uint64_t generation = l->generation;
	PGnotify *note;
	PGresult *result;

	while (!PQisBusy(conn)) {
		result = PQgetResult(conn);
		if (result == NULL) {
			if (ended)
				break;
			ended = true;
			continue;
		}
		ended = false;
		if (l->state == LINK_READY)
			l->user->result(l->arg, result);
		else
			link_set_up_result(l, result);
		PQclear(result);
		if (l->generation != generation)
			return false;
	}
	while ((note = PQnotifies(conn)) != NULL) {
		if (l->user->notify != NULL)
			l->user->notify(l->arg, note->extra);
		PQfreemem(note);
	}
	return true;
}

/* What OpenSSL has decrypted and libpq had no room for: no event of the descriptor tells of it. */
static bool
link_has_more(PGconn *conn)
{
	SSL *ssl = PQsslStruct(conn, "OpenSSL");

	return ssl != NULL && SSL_pending(ssl) > 0;
}

static void
link_read(struct pg_link *l)
{
	PGconn *conn = l->conn;

	for (unsigned round = 0;; round++) {
		if (PQconsumeInput(conn) != 1) {
			link_give_up(l, "", PQerrorMessage(conn));
			return;
		}
		if (!link_take(l, conn))
			return;
		if (PQstatus(conn) == CONNECTION_BAD) {
			link_give_up(l, "", PQerrorMessage(conn));
			return;
		}
		if (!link_has_more(conn))
			break;
		if (round == ROUNDS_AT_ONCE && l->state == LINK_READY) {
			(void)l->config->host->timer_arm(l->timer, 0);
			break;
		}
	}
	pg_link_flush(l);
}

void
pg_link_flush(struct pg_link *l)
{
	int left = PQflush(l->conn);

	if (left < 0)
		link_give_up(l, "", PQerrorMessage(l->conn));
	else if (l->config->host->watch_change(l->watch,
		     GRAPNEL_READABLE | (left > 0 ? (unsigned)GRAPNEL_WRITABLE : 0u)) != GRAPNEL_OK)
		link_give_up(l, "", "the socket cannot be watched");
}

static void
link_on_event(void *arg, int fd, unsigned events)
{
	struct pg_link *l = arg;

	(void)fd;
	(void)events;
	if (l->state == LINK_CONNECTING)
		link_poll(l);
	else
		link_read(l);
}

static void
link_on_timer(void *arg)
{
	struct pg_link *l = arg;

	switch (l->state) {
	case LINK_WAITING:
		link_begin(l);
		break;
	case LINK_CONNECTING:
	case LINK_SETTING_UP:
		snprintf(l->why, sizeof(l->why), "%s did not answer within %u ms",
		    PQhost(l->conn) != NULL ? PQhost(l->conn) : "the server",
		    (unsigned)l->config->connect_timeout_ms);
		link_next(l);
		break;
	case LINK_READY:
		link_read(l);
		break;
	case LINK_LOOKING_UP:
		break; /* dns_lookup has a timer of its own */
	}
}

/* ------------------------------------------------------------------------------------- life */

int
pg_link_start(struct pg_link *l, const struct pg_link_config *config,
    const struct pg_link_user *user, void *arg)
{
	l->config = config;
	l->user = user;
	l->arg = arg;
	l->timer = config->host->timer_new(config->self, link_on_timer, l);
	if (l->timer == NULL)
		return GRAPNEL_ENOMEM;
	l->state = LINK_WAITING;
	return config->host->timer_arm(l->timer, 0);
}

void
pg_link_stop(struct pg_link *l)
{
	if (l->timer == NULL)
		return;
	link_clear(l);
	l->config->host->timer_free(l->timer);
	l->timer = NULL;
}

void
pg_link_break(struct pg_link *l, const char *why)
{
	link_give_up(l, "", why);
}

void
pg_link_hurry(struct pg_link *l)
{
	if (l->state == LINK_WAITING)
		(void)l->config->host->timer_arm(l->timer, 0);
}
