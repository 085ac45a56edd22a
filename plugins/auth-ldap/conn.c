/* SPDX-License-Identifier: Apache-2.0 */
#include "conn_setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES_AT_ONCE 32u   /* before others have their turn */
#define MAX_OTHERS       1000u /* references and the like in one answer */
#define WRITING_MS       20u

static const struct grapnel_host *
host_of(const struct conn *c)
{
	return c->owner->settings->host;
}

/* ---------------------------------------------------------------------------- end */

/* All but the memory. */
static void
teardown(struct conn *c)
{
	const struct grapnel_host *host = host_of(c);

	if (c->counted)
		settings_count(c->owner->settings, METRIC_CONNECTIONS, -1);
	if (c->look_up != NULL)
		host->dns_cancel(c->look_up);
	if (c->watch != NULL)
		host->watch_remove(c->watch);
	if (c->timer != NULL)
		host->timer_free(c->timer);
	if (c->again != NULL)
		host->timer_free(c->again);
	/* The socket does not block: what is not taken at once of the farewell is dropped. */
	if (c->ld != NULL)
		(void)ldap_unbind_ext(c->ld, NULL, NULL);
	else if (c->fd >= 0)
		(void)close(c->fd);
	if (c->watch_fd >= 0)
		(void)close(c->watch_fd);
}

void
conn_close(struct conn *c)
{
	if (c->job != NULL) {
		c->state = CONN_CLOSING;
		host_of(c)->offload_cancel(c->job);
		(void)shutdown(c->watch_fd, SHUT_RDWR);
		return;
	}
	teardown(c);
	free(c);
}

/* code: for the operation, if there is one. */
static void
lose(struct conn *c, int code, const char *why)
{
	struct conn_op op = { 0 };
	char text[CONN_WHY] = "";

	if (c->state == CONN_BUSY && !c->detached)
		op = c->op;
	if (why != NULL) {
		(void)snprintf(text, sizeof(text), "%s", why);
		settings_count(c->owner->settings, METRIC_ERRORS, 1);
	}
	teardown(c);
	c->owner->on_lost(c->owner->arg, c, why != NULL ? text : NULL);
	free(c);
	if (op.done != NULL)
		op.done(op.arg, code, text);
}

void
conn_fail(struct conn *c, const char *why)
{
	lose(c, CONN_LOST, why);
}

/* ------------------------------------------------------------------------- answers */

static void
op_end(struct conn *c, int code, const char *text)
{
	struct conn_op op = c->op;

	host_of(c)->timer_disarm(c->timer);
	c->state = CONN_READY;
	c->used = true;
	memset(&c->op, 0, sizeof(c->op));
	if (c->detached) {
		c->detached = false;
		c->owner->on_free(c->owner->arg, c);
		return;
	}
	op.done(op.arg, code, text);
}

static void
on_result(struct conn *c, LDAPMessage *message)
{
	char *text = NULL, short_text[128];
	int code = LDAP_OTHER;

	if (ldap_parse_result(c->ld, message, &code, NULL, &text, NULL, NULL, 1) != LDAP_SUCCESS ||
	    code < 0) {
		ldap_memfree(text);
		lose(c, CONN_LOST, "what it says is no LDAP");
		return;
	}
	(void)snprintf(short_text, sizeof(short_text), "%s", text != NULL ? text : "");
	ldap_memfree(text);
	c->msgid = -1;
	c->writing = false;
	if (c->state == CONN_BUSY)
		op_end(c, code, short_text);
	else
		setup_on_result(c, code, short_text);
}

/* false: touch the connection no more. */
static bool
on_message(struct conn *c, LDAPMessage *message)
{
	int type = ldap_msgtype(message), id = ldap_msgid(message);

	if (id == LDAP_RES_UNSOLICITED) { /* in practice always the notice that it disconnects */
		(void)ldap_msgfree(message);
		lose(c, CONN_LOST, c->used ? NULL : "it ends the connection");
		return false;
	}
	if (id == c->msgid && type == c->expected) {
		on_result(c, message);
		return false;
	}
	if (id == c->msgid && type == LDAP_RES_SEARCH_ENTRY && c->state == CONN_BUSY &&
	    c->op.on_entry != NULL) {
		if (++c->entries <= c->op.max_entries && !c->detached)
			c->op.on_entry(c->op.arg, c->ld, message);
	} else {
		c->others++;
	}
	(void)ldap_msgfree(message);
	if (c->entries > c->op.max_entries || c->others > MAX_OTHERS) {
		lose(c, CONN_TOO_MANY, c->others > MAX_OTHERS ? "it says too much" : NULL);
		return false;
	}
	return true;
}

static bool
data_ready(const struct conn *c)
{
	Sockbuf *sb = NULL;

	return ldap_get_option(c->ld, LDAP_OPT_SOCKBUF, &sb) == LDAP_OPT_SUCCESS && sb != NULL &&
	    ber_sockbuf_ctrl(sb, LBER_SB_OPT_DATA_READY, NULL) > 0;
}

static void
read_messages(struct conn *c)
{
	for (unsigned n = 0; n < MESSAGES_AT_ONCE; n++) {
		struct timeval now = { 0, 0 };
		LDAPMessage *message = NULL;
		int rc = ldap_result(c->ld, LDAP_RES_ANY, LDAP_MSG_ONE, &now, &message);

		if (rc < 0) {
			lose(c, CONN_LOST,
			    c->used ? NULL : "it closes the connection without an answer");
			return;
		}
		if (rc > 0 && message != NULL && !on_message(c, message))
			return;
		if (rc == 0 && !data_ready(c))
			break;
	}
	/* Of what is inside of TLS the descriptor does not tell; nor when the rest of a request can be written. */
	if (data_ready(c))
		(void)host_of(c)->timer_arm(c->again, 0);
	else if (c->writing)
		(void)host_of(c)->timer_arm(c->again, WRITING_MS);
}

/* -------------------------------------------------------------------------- events */

static void
on_fd(void *arg, int fd, unsigned events)
{
	struct conn *c = arg;

	(void)fd;
	(void)events;
	if (c->state == CONN_TCP)
		setup_on_connected(c);
	else
		read_messages(c);
}

static void
on_timer(void *arg)
{
	struct conn *c = arg;

	if (c->state != CONN_BUSY) {
		setup_on_timer(c);
		return;
	}
	settings_count(c->owner->settings, METRIC_TIMEOUTS, 1);
	lose(c, CONN_TIMEOUT, "it does not answer in time (operation_timeout)");
}

static void
on_again(void *arg)
{
	read_messages(arg);
}

bool
conn_watch(struct conn *c, unsigned events)
{
	c->watch = host_of(c)->watch_fd(c->owner->settings->self, c->watch_fd, events, on_fd, c);
	return c->watch != NULL;
}

/* ----------------------------------------------------------------------- operations */

bool
conn_sent(struct conn *c, int rc)
{
	int busy = LDAP_SUCCESS;

	c->entries = c->others = 0;
	c->expected = c->state == CONN_STARTTLS ? LDAP_RES_EXTENDED : LDAP_RES_BIND;
	if (rc != LDAP_SUCCESS)
		return false;
	(void)ldap_get_option(c->ld, LDAP_OPT_RESULT_CODE, &busy);
	c->writing = busy == LDAP_BUSY;
	if (c->writing)
		(void)host_of(c)->timer_arm(c->again, WRITING_MS);
	return true;
}

static bool
begin(struct conn *c, int rc, int expected, const struct conn_op *op)
{
	if (!conn_sent(c, rc))
		return false;
	c->state = CONN_BUSY;
	c->expected = expected;
	c->op = *op;
	c->detached = false;
	return host_of(c)->timer_arm(c->timer, c->owner->settings->operation_timeout_ms) ==
	    GRAPNEL_OK;
}

bool
conn_bind(struct conn *c, const char *dn, struct grapnel_str password, const struct conn_op *op)
{
	struct berval secret = { password.len, (char *)password.data };

	settings_count(c->owner->settings, METRIC_BINDS, 1);
	return begin(c, ldap_sasl_bind(c->ld, dn, LDAP_SASL_SIMPLE, &secret, NULL, NULL, &c->msgid),
	    LDAP_RES_BIND, op);
}

bool
conn_search(struct conn *c, const struct conn_search *search, const struct conn_op *op)
{
	uint32_t seconds = (c->owner->settings->operation_timeout_ms + 999) / 1000;
	struct timeval limit = { (time_t)seconds, 0 };

	settings_count(c->owner->settings, METRIC_SEARCHES, 1);
	return begin(c,
	    ldap_search_ext(c->ld, search->base, search->scope, search->filter, search->attributes,
		0, NULL, NULL, &limit, (int)search->size_limit, &c->msgid),
	    LDAP_RES_SEARCH_RESULT, op);
}

void
conn_detach(struct conn *c)
{
	c->detached = true;
}

/* ------------------------------------------------------------------------ beginning */

void
conn_ready(struct conn *c)
{
	host_of(c)->timer_disarm(c->timer);
	c->state = CONN_READY;
	c->counted = true;
	settings_count(c->owner->settings, METRIC_CONNECTIONS, 1);
	c->owner->on_ready(c->owner->arg, c);
}

struct conn *
conn_open(const struct conn_owner *owner, struct server *server)
{
	const struct settings *s = owner->settings;
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->owner = owner;
	c->server = server;
	c->fd = c->watch_fd = -1;
	c->msgid = -1;
	c->since_ms = s->host->now_ms();
	c->timer = s->host->timer_new(s->self, on_timer, c);
	c->again = s->host->timer_new(s->self, on_again, c);
	if (c->timer == NULL || c->again == NULL) {
		conn_close(c);
		return NULL;
	}
	setup_begin(c);
	return c;
}

struct server *
conn_server(const struct conn *c)
{
	return c->server;
}

bool
conn_used(const struct conn *c)
{
	return c->used;
}

uint64_t
conn_since(const struct conn *c)
{
	return c->since_ms;
}
