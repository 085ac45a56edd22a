/* SPDX-License-Identifier: Apache-2.0 */
#include "core/connecting.h"

#include "base/log.h"
#include "core/acl.h"
#include "core/session.h"
#include "net/guard.h"

#include <stdlib.h>
#include <string.h>

static void on_auth_decision(void *arg, const struct decision *d);

static char *
copy_str(struct grapnel_str s)
{
	char *p = malloc(s.len + 1);

	if (p != NULL) {
		if (s.len > 0)
			memcpy(p, s.data, s.len);
		p[s.len] = '\0';
	}
	return p;
}

/* Is that a name of something that the connection has, or that only listeners may set? */
static bool
of_connection(const struct identity *who, struct grapnel_str name)
{
	const struct grapnel_pair *own = identity_attributes(who);
	static const char *const prefixes[] = { "cert.", "proxy.", "tls.", "unix." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++) {
		size_t len = strlen(prefixes[i]);

		if (name.len > len && memcmp(name.data, prefixes[i], len) == 0)
			return true;
	}
	for (size_t i = 0; i < who->own_count; i++)
		if (name.len == own[i].name.len && name.len > 0 &&
		    memcmp(name.data, own[i].name.data, name.len) == 0)
			return true;
	return false;
}

struct grapnel_pair *
connect_attributes(const struct identity *who, const struct grapnel_pair *more, size_t *count)
{
	const struct grapnel_pair *own = identity_attributes(who);
	struct grapnel_pair *all = malloc((who->own_count + *count) * sizeof(*all) + 1);
	size_t n = 0;

	if (all == NULL)
		return NULL;
	for (size_t i = 0; i < who->own_count; i++)
		all[n++] = own[i];
	for (size_t i = 0; i < *count; i++)
		if (!of_connection(who, more[i].name))
			all[n++] = more[i];
	*count = n;
	return all;
}

static struct identity *
identity_for(const struct conn *c, struct grapnel_str username, struct grapnel_str mountpoint,
    const struct grapnel_pair *attributes, size_t attribute_count)
{
	const struct connecting *k = c->connecting;
	struct grapnel_pair *all = NULL;
	struct identity *id;
	struct grapnel_client_info values = {
		.client_id = k->p.client_id,
		.username = username,
		.peer = identity_peer(c->who),
		.attributes = attributes,
		.attribute_count = attribute_count,
		.protocol = c->version,
		.superuser = k->superuser,
		.anonymous = k->anonymous,
		.identity_source = c->who->source,
	};
	struct site *site = c->who->site; /* whose mountpoint authentication may have changed */

	if (mountpoint.data != site->mountpoint.data)
		site = session_site(c->w, mountpoint, site->listener);
	if (c->who->attribute_count + attribute_count > 0) {
		if ((all = connect_attributes(c->who, attributes, &attribute_count)) == NULL)
			return NULL;
		values.attributes = all;
		values.attribute_count = attribute_count;
	}
	id = site != NULL ? identity_new(&values, site) : NULL;
	if (id != NULL)
		id->own_count = c->who->own_count;
	free(all);
	return id;
}

static void
connecting_info(const struct conn *c, struct grapnel_client_info *info)
{
	struct connecting *k = c->connecting;

	identity_info(k->identity, info);
	info->client = &k->client;
	info->clean_start = k->p.clean_start;
	info->keep_alive = k->p.keep_alive;
	info->session_expiry = k->p.session_expiry;
}

void
connect_ask(struct conn *c, enum grapnel_exchange_phase phase, struct grapnel_str data)
{
	struct connecting *k = c->connecting;
	struct grapnel_client_info info;
	struct grapnel_message_info will;
	struct decision now;
	bool decided;

	connecting_info(c, &info);
	if (phase == 0) {
		struct grapnel_authenticate q = {
			.size = sizeof(q), .client = &info, .properties = k->p.props
		};

		if (k->p.has_password)
			q.password = k->p.password.data != NULL ? k->p.password
								: (struct grapnel_str){ "", 0 };
		if (k->p.has_will) {
			memset(&will, 0, sizeof(will));
			will.size = sizeof(will);
			will.topic_name = k->p.will.topic_name;
			will.payload = k->p.will.payload;
			will.properties = k->p.will.props.block;
			will.qos = k->p.will.qos;
			will.retain = k->p.will.retain;
			will.will = true;
			q.will = &will;
		}
		decided = hooks_ask(
		    c->w, HOOK_AUTHENTICATE, &q, NULL, on_auth_decision, c, &now, &k->pending);
	} else {
		struct grapnel_auth_exchange q = { .size = sizeof(q),
			.client = &info,
			.phase = phase,
			.method = k->p.auth_method,
			.data = data,
			.properties = k->p.props };

		if (k->p.has_password)
			q.password = k->p.password;
		decided = hooks_ask(c->w, HOOK_AUTH_EXCHANGE, &q,
		    phase == GRAPNEL_EXCHANGE_CONTINUE ? session_plugin_name(c->w, k->auth_plugin)
						       : NULL,
		    on_auth_decision, c, &now, &k->pending);
	}
	if (decided) {
		k->pending = NULL;
		on_auth_decision(c, &now);
		decision_release(&now);
	}
}

/* ---- the guard ------------------------------------------------------------------------------- */

/* Whom failures of this login are counted against, together with the address. */
static struct grapnel_str
login_name(const struct conn *c)
{
	return identity_username(c->connecting->identity);
}

static bool
has_credentials(const struct connecting *k)
{
	return k->p.has_username || k->p.has_password || k->p.auth_method.data != NULL;
}

static void
count_failed_login(struct conn *c, uint8_t reason_code)
{
	struct connecting *k = c->connecting;
	uint64_t banned_ms;

	if (!has_credentials(k) ||
	    (reason_code != RC_NOT_AUTHORIZED && reason_code != RC_BAD_USER_NAME_OR_PASSWORD))
		return;
	k->login_failed = true;
	banned_ms = guard_failed(c->w->broker->guard, conn_peer(c), login_name(c), c->w->now_ms);
	if (banned_ms > 0)
		log_at(GRAPNEL_LOG_WARNING, "address_banned",
		    "from %s: too many failed logins; this address is kept out for %llu s "
		    "(grapnelctl guard lift)",
		    conn_peer(c), (unsigned long long)(banned_ms / 1000));
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void
ask_first(struct conn *c)
{
	if (c->connecting->p.auth_method.data != NULL)
		connect_ask(c, GRAPNEL_EXCHANGE_CONNECT, c->connecting->p.auth_data);
	else
		connect_ask(c, 0, (struct grapnel_str){ 0 });
}

static void
on_guard_timer(struct timer *t, void *owner)
{
	struct connecting *k =
	    (struct connecting *)(void *)((char *)t - offsetof(struct connecting, guard_timer));

	(void)owner;
	ask_first(k->conn);
}

/* At once, or after a while when logins like this one have failed before. */
static void
ask_guarded(struct conn *c)
{
	struct connecting *k = c->connecting;
	uint32_t wait_ms = has_credentials(k)
	    ? guard_wait(c->w->broker->guard, conn_peer(c), login_name(c), c->w->now_ms)
	    : 0;

	if (wait_ms == UINT32_MAX) {
		connect_refuse(c, RC_CONNECTION_RATE_EXCEEDED,
		    "too many logins with this user name have failed from this address; try again "
		    "later");
	} else if (wait_ms > 0) {
		timer_init(&k->guard_timer, on_guard_timer);
		worker_timer(c->w, &k->guard_timer, wait_ms);
	} else {
		ask_first(c);
	}
}

void
connect_authenticate(struct conn *c)
{
	struct connecting *k = c->connecting;

	c->pause |=
	    PAUSE_DECISION; /* whoever called watches us then: most plugins answer at once */
	/* What the listener vouches for counts, whatever the Client calls itself. */
	k->identity = identity_for(c,
	    c->who->source != GRAPNEL_IDENTITY_NONE ? identity_username(c->who) : k->p.username,
	    c->who->site->mountpoint, NULL, 0);
	if (k->identity == NULL) {
		connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
		return;
	}
	if (k->p.auth_method.data != NULL) {
		struct conn_extra *x = conn_extra(c);

		if (!hook_used(c->w, HOOK_AUTH_EXCHANGE)) {
			connect_refuse(c, RC_BAD_AUTHENTICATION_METHOD,
			    "no plugin knows this authentication method");
			return;
		}
		if (x == NULL || (x->auth_method = copy_str(k->p.auth_method)) == NULL) {
			connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
		x->auth_method_len = k->p.auth_method.len;
	}
	ask_guarded(c);
}

/* Keep what the answer of an ALLOW says; the answer's memory is gone afterwards. */
static bool
take_answer(struct conn *c, const struct decision *d)
{
	struct connecting *k = c->connecting;
	const struct grapnel_auth_answer *a = d->auth;
	struct identity *id;

	k->superuser = a->superuser;
	k->valid_until = a->valid_until;
	if (a->rules != NULL)
		k->rules = acl_rules_ref(a->rules);
	if (a->limits != NULL) {
		k->asked_limits = *a->limits;
		k->has_limits = true;
	}
	if (a->response_information.data != NULL && k->p.request_response_info) {
		if ((k->response_info = copy_str(a->response_information)) == NULL)
			return false;
		k->response_info_len = a->response_information.len;
	}
	if (a->data.data != NULL) {
		if ((k->auth_data = copy_str(a->data)) == NULL)
			return false;
		k->auth_data_len = a->data.len;
	}
	if (k->auth_plugin == 0 && d->plugin != NULL &&
	    (k->auth_plugin = session_plugin_number(c->w, d->plugin)) == 0)
		return false;
	if (a->username.data == NULL && a->mountpoint.data == NULL && a->attribute_count == 0) {
		k->identity->superuser = k->superuser;
		k->identity->anonymous = k->anonymous;
		return true;
	}
	id =
	    identity_for(c, a->username.data != NULL ? a->username : identity_username(k->identity),
		a->mountpoint.data != NULL ? a->mountpoint : k->identity->site->mountpoint,
		a->attributes, a->attribute_count);
	if (id == NULL)
		return false;
	identity_unref(k->identity);
	k->identity = id;
	return true;
}

const char *
connect_plugin_reason(char *buffer, size_t size, const struct decision *d, const char *otherwise)
{
	struct grapnel_str s = d->auth->reason_string;

	if (s.data == NULL || s.len == 0)
		return otherwise;
	if (s.len >= size) {
		s.len = size - 1;
		while (s.len > 0 && ((unsigned char)s.data[s.len] & 0xc0) == 0x80)
			s.len--;
	}
	memcpy(buffer, s.data, s.len);
	buffer[s.len] = '\0';
	return buffer;
}

uint8_t
connect_plugin_code(unsigned packet, const struct decision *d)
{
	uint8_t code = d->auth->reason_code;

	return d->verdict == GRAPNEL_DENY && code >= 0x80 && mqtt_reason_valid(packet, code)
	    ? code
	    : RC_NOT_AUTHORIZED;
}

static void
on_auth_decision(void *arg, const struct decision *d)
{
	struct conn *c = arg;
	struct connecting *k = c->connecting;
	bool exchange = k->p.auth_method.data != NULL;
	char why[256];

	k->pending = NULL;
	switch (d->verdict) {
	case GRAPNEL_ALLOW:
		if (exchange && d->auth->more) {
			if (k->auth_plugin == 0 &&
			    (d->plugin == NULL ||
				(k->auth_plugin = session_plugin_number(c->w, d->plugin)) == 0)) {
				connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
				return;
			}
			connect_send_auth(c, RC_CONTINUE_AUTHENTICATION, d->auth->data);
			if (c->state != CONN_AUTHENTICATING)
				return;
			k->waiting_for_auth = true;
			conn_arm_deadline(c);
			conn_resume(c, PAUSE_DECISION);
			return;
		}
		if (d->auth->valid_until != 0 &&
		    clock_wall_us() / 1000000 >= d->auth->valid_until) {
			connect_refuse(c, RC_NOT_AUTHORIZED, "the login's time is over");
			return;
		}
		if (has_credentials(k))
			guard_passed(c->w->broker->guard, conn_peer(c), login_name(c));
		if (!take_answer(c, d)) {
			connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
		connect_will(c);
		return;
	case GRAPNEL_NEXT: /* nobody decided */
		if (exchange) {
			connect_refuse(c, RC_BAD_AUTHENTICATION_METHOD,
			    "no plugin knows this authentication method");
			return;
		}
		/* Anonymous never catches a CONNECT that brought credentials, and a verified name is one. */
		if (c->ls->anonymous && !k->p.has_username && !k->p.has_password &&
		    c->who->source == GRAPNEL_IDENTITY_NONE) {
			struct grapnel_auth_answer none = { .size = sizeof(none) };
			struct decision allowed = { .verdict = GRAPNEL_ALLOW, .auth = &none };

			k->anonymous = true;
			if (!take_answer(c, &allowed)) {
				connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
				return;
			}
			connect_will(c);
			return;
		}
		count_failed_login(c, RC_NOT_AUTHORIZED);
		connect_refuse(c, RC_NOT_AUTHORIZED, "not authorised");
		return;
	case GRAPNEL_UNAVAILABLE:
		connect_refuse_with(c, RC_SERVER_UNAVAILABLE, "authentication is unavailable",
		    (struct grapnel_str){ 0 }, d->plugin);
		return;
	case GRAPNEL_DENY:
	case GRAPNEL_PENDING:
		break;
	}
	count_failed_login(c, connect_plugin_code(MQTT_CONNACK, d));
	connect_refuse_with(c, connect_plugin_code(MQTT_CONNACK, d),
	    connect_plugin_reason(why, sizeof(why), d, "not authorised"), d->auth->server_reference,
	    d->plugin);
}
