/* SPDX-License-Identifier: Apache-2.0 */
/* provide - what a foreign plugin asks of its broker: struct engine_calls, helper.h */
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct engine *
engine_of(struct engine_head *head)
{
	return (struct engine *)(void *)head;
}

/* ---- callbacks --------------------------------------------------------------------------- */

/* Callbacks come and go where they are called. */
static int
check_callback(struct engine *e, int event, const void **topic, const char *what)
{
	if (event < 1 || event >= EVT_END) {
		engine_log(e, GRAPNEL_LOG_WARNING,
		    "the Mosquitto plugin wants event %d (%s), which there is not here; it is told "
		    "that it is not supported",
		    event, what);
		return MOSQ_NOT_SUPPORTED;
	}
	if (!engine_is_here(e)) {
		engine_log(e, GRAPNEL_LOG_WARNING,
		    "the Mosquitto plugin called %s on a thread of its own; it is refused", what);
		return MOSQ_INVAL;
	}
	if (event != EVT_CONTROL)
		*topic = NULL;
	else if (*topic == NULL || strncmp(*topic, "$CONTROL/", 9) != 0)
		return MOSQ_INVAL;
	return MOSQ_SUCCESS;
}

/* The instance in force has left the chains of what there was no callback for when it was made. */
static void
say_if_late(struct engine *e, int event)
{
	static const uint32_t asked = 1u << EVT_ACL_CHECK | 1u << EVT_BASIC_AUTH |
	    1u << EVT_EXT_AUTH_START | 1u << EVT_CONTROL | 1u << EVT_MESSAGE | 1u << EVT_PSK_KEY;
	uint32_t events;

	if (!e->foreign.ready || !(asked & (1u << event)))
		return;
	(void)pthread_mutex_lock(&e->lock);
	events = e->current != NULL ? e->current->events : 0;
	(void)pthread_mutex_unlock(&e->lock);
	if (!(events & (1u << event)))
		engine_log(e, GRAPNEL_LOG_WARNING,
		    "the Mosquitto plugin has registered a callback for %s after its start; "
		    "reload, "
		    "so that the broker asks it",
		    foreign_event_name(event));
}

static int
on_register(
    struct engine_head *head, int event, callback_fn fn, const void *event_data, void *userdata)
{
	struct engine *e = engine_of(head);
	int rc = check_callback(e, event, &event_data, "mosquitto_callback_register");

	if (rc == MOSQ_SUCCESS &&
	    (rc = foreign_register(e, event, fn, event_data, userdata)) == MOSQ_SUCCESS)
		say_if_late(e, event);
	return rc;
}

static int
on_unregister(struct engine_head *head, int event, callback_fn fn, const void *event_data)
{
	struct engine *e = engine_of(head);
	int rc = check_callback(e, event, &event_data, "mosquitto_callback_unregister");

	return rc == MOSQ_SUCCESS ? foreign_unregister(e, event, fn, event_data) : rc;
}

/* ---- log --------------------------------------------------------------------------------- */

static void
on_log(struct engine_head *head, int level, const char *format, va_list ap)
{
	enum grapnel_log_level to = level & MOSQ_LOG_ERR_BIT ? GRAPNEL_LOG_ERROR
	    : level & MOSQ_LOG_WARNING_BIT                   ? GRAPNEL_LOG_WARNING
	    : level & MOSQ_LOG_NOTICE_BIT                    ? GRAPNEL_LOG_NOTICE
	    : level & MOSQ_LOG_INFO_BIT                      ? GRAPNEL_LOG_INFO
							     : GRAPNEL_LOG_DEBUG;
	char text[1000];
	size_t len;

	(void)vsnprintf(text, sizeof(text), format, ap);
	len = strlen(text);
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	engine_log(engine_of(head), to, "%s", text);
}

static void
on_unsupported(struct engine_head *head, const char *function, const char *instead)
{
	struct engine *e = engine_of(head);
	unsigned i;

	(void)pthread_mutex_lock(&e->lock);
	for (i = 0; i < e->said_unsupported_count; i++)
		if (strcmp(e->said_unsupported[i], function) == 0)
			break;
	if (i == e->said_unsupported_count && i < 8) {
		e->said_unsupported[e->said_unsupported_count++] = function;
		if (e->current != NULL)
			e->current->host->log(e->current->self, GRAPNEL_LOG_WARNING,
			    "the Mosquitto plugin calls %s, which has no counterpart here; %s",
			    function, instead);
	}
	(void)pthread_mutex_unlock(&e->lock);
}

/* ---- clients ----------------------------------------------------------------------------- */

static int
on_set_username(struct mosquitto *client, const char *username)
{
	struct engine *e = engine_of(client->engine);
	struct client *c = (struct client *)(void *)client;
	char *copy, *named;

	if (!engine_is_here(e) || e->in_login == NULL || &e->in_login->client->seen != client) {
		on_unsupported(client->engine, "mosquitto_set_username outside of a login",
		    "MOSQ_ERR_NOT_SUPPORTED is returned");
		return MOSQ_NOT_SUPPORTED;
	}
	if (username == NULL) {
		if (client->username == NULL)
			return MOSQ_SUCCESS;
		on_unsupported(client->engine, "mosquitto_set_username with NULL",
		    "MOSQ_ERR_NOT_SUPPORTED is returned");
		return MOSQ_NOT_SUPPORTED;
	}
	copy = strdup(username);
	named = strdup(username);
	if (copy == NULL || named == NULL) {
		free(copy);
		free(named);
		return MOSQ_NOMEM;
	}
	free(client->username);
	client->username = copy;
	free(c->named);
	c->named = named;
	return MOSQ_SUCCESS;
}

struct kick {
	struct engine *e;
	const char *text; /* Client Identifier (NULL: any), or User Name (NULL: none) */
	unsigned found;
};

static void
kick(struct kick *k, const char *mountpoint, const char *client_id)
{
	const struct instance *in;

	(void)pthread_mutex_lock(&k->e->lock);
	in = k->e->current;
	if (in != NULL &&
	    in->host->client_kick(in->self, (struct grapnel_str){ mountpoint, strlen(mountpoint) },
		(struct grapnel_str){ client_id, strlen(client_id) },
		REASON_ADMINISTRATIVE) == GRAPNEL_OK)
		k->found++;
	(void)pthread_mutex_unlock(&k->e->lock);
}

static bool
has_id(void *arg, const struct client *c)
{
	const struct kick *k = arg;

	return k->text == NULL || strcmp(c->seen.id, k->text) == 0;
}

static bool
has_name(void *arg, const struct client *c)
{
	const struct kick *k = arg;
	const char *name = c->seen.username;

	return k->text == NULL || name == NULL ? k->text == name : strcmp(name, k->text) == 0;
}

static void
kick_one(void *arg, const struct client *c)
{
	kick(arg, c->mountpoint, c->seen.id);
}

static int
on_kick_client_id(struct engine_head *head, const char *client_id)
{
	struct kick k = { .e = engine_of(head), .text = client_id };

	clients_expel(&k.e->clients, has_id, kick_one, &k);
	/* It may have been there before this plugin was. */
	if (k.found == 0 && client_id != NULL)
		kick(&k, "", client_id);
	return k.found > 0 || client_id == NULL ? MOSQ_SUCCESS : MOSQ_NOT_FOUND;
}

static int
on_kick_username(struct engine_head *head, const char *username)
{
	struct kick k = { .e = engine_of(head), .text = username };

	if (!engine_is_here(k.e)) { /* names are that thread's */
		on_unsupported(head, "mosquitto_kick_client_by_username on a thread of its own",
		    "MOSQ_ERR_NOT_SUPPORTED is returned");
		return MOSQ_NOT_SUPPORTED;
	}
	clients_expel(&k.e->clients, has_name, kick_one, &k);
	return MOSQ_SUCCESS;
}

/* ---- messages ---------------------------------------------------------------------------- */

/* The topic as the broker has it. NULL: no memory (MOSQ_NOMEM), or it is not known whose is meant. */
static char *
whole_topic(struct engine *e, const char *client_id, const char *topic, int *rc)
{
	char *mountpoint, *whole = NULL;

	*rc = MOSQ_NOMEM;
	if (!clients_mountpoint(
		&e->clients, client_id, engine_is_here(e) ? e->about : NULL, &mountpoint)) {
		on_unsupported(&e->head,
		    "mosquitto_broker_publish for a Client Identifier that several mountpoints "
		    "have",
		    "MOSQ_ERR_NOT_SUPPORTED is returned");
		*rc = MOSQ_NOT_SUPPORTED;
	} else if (mountpoint != NULL && asprintf(&whole, "%s%s", mountpoint, topic) < 0) {
		whole = NULL;
	}
	free(mountpoint);
	return whole;
}

static int
send_message(struct engine *e, const struct grapnel_publication *p, bool direct)
{
	const struct instance *in;
	int err = GRAPNEL_ESTATE;
	bool can;

	(void)pthread_mutex_lock(&e->lock);
	in = e->current;
	can = in != NULL && (in->direct || !direct);
	if (can)
		err = in->host->publish(in->self, p);
	(void)pthread_mutex_unlock(&e->lock);
	if (in != NULL && !can)
		on_unsupported(&e->head, "mosquitto_broker_publish for one client",
		    "direct_messages = no; MOSQ_ERR_NOT_SUPPORTED is returned");
	return err == GRAPNEL_OK    ? MOSQ_SUCCESS
	    : err == GRAPNEL_ENOMEM ? MOSQ_NOMEM
	    : err == GRAPNEL_ESTATE ? MOSQ_NOT_SUPPORTED
				    : MOSQ_INVAL;
}

static int
on_publish(struct engine_head *head, const char *client_id, const char *topic, int len,
    const void *payload, int qos, bool retain, const struct mqtt5__property *properties)
{
	struct engine *e = engine_of(head);
	struct grapnel_publication p = { .size = sizeof(p),
		.topic_name = { topic, strlen(topic) },
		.payload = { len > 0 ? payload : "", (size_t)len },
		.qos = (uint8_t)qos,
		.retain = retain };
	struct grapnel_property *all;
	char *whole = NULL;
	size_t count;
	int rc = MOSQ_NOMEM;

	all = properties_to_host(properties, &count);
	if (all == NULL && count > 0)
		return MOSQ_NOMEM;
	if (client_id != NULL) {
		struct grapnel_property *more = realloc(all, (count + 1) * sizeof(*all));

		if (more == NULL)
			goto out;
		all = more;
		if ((whole = whole_topic(e, client_id, topic, &rc)) == NULL)
			goto out;
		all[count++] = (struct grapnel_property){ .id = 0x26,
			.u.pair = {
			    { e->token, strlen(e->token) }, { client_id, strlen(client_id) } } };
		p.topic_name = (struct grapnel_str){ whole, strlen(whole) };
		p.retain = false;
	}
	p.properties = all;
	p.property_count = count;
	rc = send_message(e, &p, client_id != NULL);
out:
	free(whole);
	free(all);
	return rc;
}

const struct engine_calls engine_calls = {
	.callback_register = on_register,
	.callback_unregister = on_unregister,
	.log = on_log,
	.set_username = on_set_username,
	.kick_client_id = on_kick_client_id,
	.kick_username = on_kick_username,
	.publish = on_publish,
	.unsupported = on_unsupported,
};
