/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Mosquitto plugin of version 5, compiled against Mosquitto's own headers, with every callback that there is. What it does
 * hangs on names: of users, topics, methods. It says in the log what it is asked.
 *
 * Options: only = "basic_auth acl_check ..." (default: all but tick), hang = a path (whoever is called "hang", and topics below hang/,
 * wait until nothing stands there), init = a number that mosquitto_plugin_init returns, greeting = a text for the log,
 * quiet = anything: nothing is said of rights, slow_tick = anything: a tick takes longer than the time to the next one.
 */
#include "functions.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEEN           64
#define QUOTA_EXCEEDED (-6) /* MOSQ_ERR_QUOTA_EXCEEDED, in headers since 2.0.12 */

static mosquitto_plugin_id_t *self;
static const char *hang_path = "";
static bool quiet, slow_tick;
static struct {
	char id[64];
	struct mosquitto *client;
} seen[SEEN];

/* Nobody is in it while somebody is: it has no locks. */
static atomic_int inside;
static pthread_t thread_of_init;

static void
come_in(void)
{
	if (atomic_fetch_add(&inside, 1) != 0 || !pthread_equal(thread_of_init, pthread_self()))
		mosquitto_log_printf(MOSQ_LOG_ERR, "called at once, or on another thread");
}

static int
go(int rc)
{
	atomic_fetch_sub(&inside, 1);
	return rc;
}

static const char *
text(const char *s)
{
	return s != NULL ? s : "(null)";
}

static const char *
option(struct mosquitto_opt *options, int count, const char *key, const char *otherwise)
{
	for (int i = 0; i < count; i++)
		if (strcmp(options[i].key, key) == 0)
			return options[i].value;
	return otherwise;
}

static bool
begins(const char *s, const char *with)
{
	return s != NULL && strncmp(s, with, strlen(with)) == 0;
}

static void
hang(const char *why)
{
	mosquitto_log_printf(MOSQ_LOG_INFO, "hangs: %s", why);
	while (access(hang_path, F_OK) == 0)
		usleep(5000);
}

/* The address of a client says who it is, as plugins that keep something for each have it. */
static void
remember(struct mosquitto *client)
{
	const char *id = mosquitto_client_id(client);

	for (int i = 0; i < SEEN; i++) {
		if (seen[i].client != NULL)
			continue;
		snprintf(seen[i].id, sizeof(seen[i].id), "%s", id);
		seen[i].client = client;
		return;
	}
}

static bool
known(struct mosquitto *client, bool forget)
{
	for (int i = 0; i < SEEN; i++) {
		if (seen[i].client != client ||
		    strcmp(seen[i].id, mosquitto_client_id(client)) != 0)
			continue;
		if (forget)
			seen[i].client = NULL;
		return true;
	}
	return false;
}

/* ---- logins ------------------------------------------------------------------------------ */

static void *
name_it(void *client)
{
	mosquitto_log_printf(MOSQ_LOG_INFO, "named on a thread of its own, rc=%d",
	    mosquitto_set_username(client, "somebody-else"));
	return NULL;
}

static int
basic_auth(int event, struct mosquitto_evt_basic_auth *ed, const void *userdata)
{
	const char *name = text(ed->username);
	pthread_t other;

	if (event != MOSQ_EVT_BASIC_AUTH || userdata != &seen)
		return MOSQ_ERR_INVAL;
	mosquitto_log_printf(MOSQ_LOG_INFO,
	    "basic_auth id=%s user=%s client_user=%s password=%s address=%s keepalive=%d "
	    "version=%d "
	    "clean=%d protocol=%d",
	    mosquitto_client_id(ed->client), name, text(mosquitto_client_username(ed->client)),
	    ed->password != NULL ? "given" : "none", mosquitto_client_address(ed->client),
	    mosquitto_client_keepalive(ed->client), mosquitto_client_protocol_version(ed->client),
	    mosquitto_client_clean_session(ed->client), mosquitto_client_protocol(ed->client));
	remember(ed->client);
	if (begins(name, "defer") || ed->username == NULL)
		return MOSQ_ERR_PLUGIN_DEFER;
	if (begins(name, "hang"))
		hang(name);
	if (begins(name, "broken"))
		return MOSQ_ERR_UNKNOWN;
	if (begins(name, "renamed"))
		return mosquitto_set_username(ed->client, "somebody-else");
	if (begins(name, "junk"))
		return mosquitto_set_username(ed->client, "\xff\xfe");
	if (begins(name, "threaded"))
		return pthread_create(&other, NULL, name_it, ed->client) == 0 &&
			pthread_join(other, NULL) == 0
		    ? MOSQ_ERR_SUCCESS
		    : MOSQ_ERR_UNKNOWN;
	if (begins(name, "certificate") && mosquitto_client_certificate(ed->client) != NULL)
		return MOSQ_ERR_UNKNOWN;
	return ed->password != NULL && strcmp(ed->password, "secret") == 0 ? MOSQ_ERR_SUCCESS
									   : MOSQ_ERR_AUTH;
}

static int
on_basic_auth(int event, void *event_data, void *userdata)
{
	come_in();
	return go(basic_auth(event, event_data, userdata));
}

static int
give(struct mosquitto_evt_extended_auth *ed, const char *data, int rc)
{
	ed->data_out = malloc(strlen(data));
	memcpy(ed->data_out, data, strlen(data));
	ed->data_out_len = (uint16_t)strlen(data);
	return rc;
}

static int
on_ext_auth(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_extended_auth *ed = event_data;
	bool names_first = strcmp(ed->auth_method, "name-first") == 0;

	(void)userdata;
	mosquitto_log_printf(MOSQ_LOG_INFO, "ext_auth %s method=%s data=%.*s known=%d",
	    event == MOSQ_EVT_EXT_AUTH_START ? "start" : "continue", ed->auth_method,
	    (int)ed->data_in_len, ed->data_in != NULL ? (const char *)ed->data_in : "",
	    known(ed->client, false));
	if (strcmp(ed->auth_method, "two-steps") != 0 && !names_first)
		return MOSQ_ERR_NOT_SUPPORTED;
	if (event == MOSQ_EVT_EXT_AUTH_START) {
		remember(ed->client);
		if (names_first)
			(void)mosquitto_set_username(ed->client, "proved");
		return give(ed, "and then?", MOSQ_ERR_AUTH_CONTINUE);
	}
	if (ed->data_in_len != 6 || memcmp(ed->data_in, "second", 6) != 0)
		return MOSQ_ERR_AUTH;
	if (!names_first && mosquitto_set_username(ed->client, "proved") != MOSQ_ERR_SUCCESS)
		return MOSQ_ERR_UNKNOWN;
	return give(ed, "welcome", MOSQ_ERR_SUCCESS);
}

static int
on_psk_key(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_psk_key *ed = event_data;
	const char *key = "00112233445566778899AABBccddeeff";

	(void)event;
	(void)userdata;
	mosquitto_log_printf(MOSQ_LOG_INFO, "psk_key identity=%s hint=%s address=%s", ed->identity,
	    text(ed->hint), mosquitto_client_address(ed->client));
	if (strcmp(ed->identity, "short") == 0)
		key = "0011";
	else if (!begins(ed->identity, "psk-"))
		return MOSQ_ERR_AUTH;
	if (snprintf(ed->key, (size_t)ed->max_key_len, "%s", key) >= ed->max_key_len)
		return MOSQ_ERR_NOMEM;
	return MOSQ_ERR_SUCCESS;
}

/* ---- rights ------------------------------------------------------------------------------ */

static int
acl_check(const struct mosquitto_evt_acl_check *ed)
{
	char *value = NULL;
	bool good;

	if (!quiet)
		mosquitto_log_printf(MOSQ_LOG_INFO,
		    "acl_check access=%d topic=%s payload=%.*s qos=%d retain=%d id=%s user=%s",
		    ed->access, ed->topic, (int)ed->payloadlen, text(ed->payload), ed->qos,
		    ed->retain, mosquitto_client_id(ed->client),
		    text(mosquitto_client_username(ed->client)));
	if (begins(ed->topic, "hang/"))
		hang(ed->topic);
	if (begins(ed->topic, "deny/"))
		return MOSQ_ERR_ACL_DENIED;
	if (begins(ed->topic, "broken/"))
		return MOSQ_ERR_NOMEM;
	if (begins(ed->topic, "defer/"))
		return MOSQ_ERR_PLUGIN_DEFER;
	if (begins(ed->topic, "unread/") && ed->access == MOSQ_ACL_READ)
		return MOSQ_ERR_ACL_DENIED;
	if (begins(ed->topic, "stay/") && ed->access == MOSQ_ACL_UNSUBSCRIBE)
		return MOSQ_ERR_ACL_DENIED;
	if (!begins(ed->topic, "typed/") || ed->access != MOSQ_ACL_WRITE)
		return MOSQ_ERR_SUCCESS;
	good = mosquitto_property_read_string(
		   ed->properties, MQTT_PROP_CONTENT_TYPE, &value, false) != NULL &&
	    strcmp(value, "text/plain") == 0;
	free(value);
	return good ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
}

static int
on_acl_check(int event, void *event_data, void *userdata)
{
	(void)event;
	(void)userdata;
	come_in();
	return go(acl_check(event_data));
}

/* ---- messages ---------------------------------------------------------------------------- */

static int
on_message(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_message *ed = event_data;
	mosquitto_property *kept = NULL;

	(void)event;
	(void)userdata;
	if (strcmp(ed->topic, "change/topic") == 0) {
		ed->topic = mosquitto_strdup("change/other");
	} else if (strcmp(ed->topic, "change/junk") == 0) {
		ed->topic = mosquitto_strdup("change/#");
	} else if (strcmp(ed->topic, "change/in-place") == 0) {
		for (uint32_t i = 0; i < ed->payloadlen; i++)
			if (((char *)ed->payload)[i] == 'a')
				((char *)ed->payload)[i] = 'A';
	} else if (strcmp(ed->topic, "change/payload") == 0) {
		ed->payload = mosquitto_strdup("another payload");
		ed->payloadlen = 15;
	} else if (strcmp(ed->topic, "change/nothing-left") == 0) {
		ed->payload = NULL;
		ed->payloadlen = 0;
	} else if (strcmp(ed->topic, "change/retain") == 0) {
		ed->retain = false;
	} else if (strcmp(ed->topic, "change/add") == 0) {
		return mosquitto_property_add_string_pair(
		    &ed->properties, MQTT_PROP_USER_PROPERTY, "added", "here");
	} else if (strcmp(ed->topic, "change/replace") == 0) { /* the old ones are left */
		ed->properties = NULL;
		return mosquitto_property_add_string(
		    &ed->properties, MQTT_PROP_CONTENT_TYPE, "replaced");
	} else if (strcmp(ed->topic, "change/free") == 0) { /* the old ones are freed */
		if (mosquitto_property_copy_all(&kept, ed->properties) != MOSQ_ERR_SUCCESS)
			return MOSQ_ERR_NOMEM;
		mosquitto_property_free_all(&ed->properties);
		ed->properties = kept;
		return mosquitto_property_add_byte(
		    &ed->properties, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, 1);
	} else if (strcmp(ed->topic, "refuse/denied") == 0) {
		ed->reason_string = mosquitto_strdup("nobody needs this");
		return MOSQ_ERR_ACL_DENIED;
	} else if (strcmp(ed->topic, "refuse/quota") == 0) {
		return QUOTA_EXCEEDED;
	} else if (strcmp(ed->topic, "refuse/broken") == 0) {
		return MOSQ_ERR_UNKNOWN;
	}
	return MOSQ_ERR_SUCCESS;
}

/* ---- what it can ask of the broker --------------------------------------------------------- */

static void *
own_thread(void *arg)
{
	(void)arg;
	mosquitto_log_printf(MOSQ_LOG_WARNING, "a thread of its own, rc=%d",
	    mosquitto_callback_register(self, MOSQ_EVT_RELOAD, functions_no_callback, NULL, NULL));
	(void)mosquitto_broker_publish_copy(NULL, "own/thread", 2, "hi", 0, false, NULL);
	return NULL;
}

/* "topic payload", to that client; NULL: to all */
static int
control_publish(const char *client_id, const char *rest)
{
	char topic[64], payload[64];
	mosquitto_property *properties = NULL;
	char *heap;
	int rc;

	if (sscanf(rest, "%63s %63s", topic, payload) != 2)
		return MOSQ_ERR_INVAL;
	(void)mosquitto_property_add_string(&properties, MQTT_PROP_CONTENT_TYPE, "sent");
	heap = mosquitto_strdup(payload);
	rc = mosquitto_broker_publish(client_id, topic, (int)strlen(payload), heap, 1,
	    client_id == NULL && begins(topic, "kept/"), properties);
	if (rc != MOSQ_ERR_SUCCESS) {
		mosquitto_property_free_all(&properties);
		free(heap);
	}
	mosquitto_log_printf(MOSQ_LOG_INFO, "published rc=%d", rc);
	return MOSQ_ERR_SUCCESS;
}

static int
on_control(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_control *ed = event_data;
	char command[256];
	pthread_t thread;

	(void)event;
	(void)userdata;
	snprintf(command, sizeof(command), "%.*s", (int)ed->payloadlen, (const char *)ed->payload);
	mosquitto_log_printf(MOSQ_LOG_INFO, "control topic=%s command=%s", ed->topic, command);
	if (begins(command, "publish "))
		return control_publish(NULL, command + 8);
	if (begins(command, "direct "))
		return control_publish(mosquitto_client_id(ed->client), command + 7);
	if (begins(command, "send same "))
		return control_publish("same", command + 10);
	if (begins(command, "kick-user "))
		return mosquitto_kick_client_by_username(command + 10, false);
	if (begins(command, "kick-nobody"))
		return mosquitto_kick_client_by_username(NULL, false);
	if (begins(command, "kick ")) {
		mosquitto_log_printf(MOSQ_LOG_INFO, "kicked rc=%d",
		    mosquitto_kick_client_by_clientid(command + 5, true));
		return MOSQ_ERR_SUCCESS;
	}
	if (begins(command, "defer"))
		return MOSQ_ERR_PLUGIN_DEFER;
	if (begins(command, "register"))
		return mosquitto_callback_register(
		    self, MOSQ_EVT_ACL_CHECK, on_acl_check, NULL, NULL);
	if (begins(command, "rename")) {
		mosquitto_log_printf(MOSQ_LOG_INFO, "renamed rc=%d subscriptions=%d",
		    mosquitto_set_username(ed->client, "x"),
		    mosquitto_client_sub_count(ed->client));
		return MOSQ_ERR_SUCCESS;
	}
	if (begins(command, "functions")) {
		functions_check(self);
		return MOSQ_ERR_SUCCESS;
	}
	if (begins(command, "thread"))
		return pthread_create(&thread, NULL, own_thread, NULL) == 0 &&
			pthread_join(thread, NULL) == 0
		    ? MOSQ_ERR_SUCCESS
		    : MOSQ_ERR_UNKNOWN;
	ed->reason_string = mosquitto_strdup("no such command");
	ed->reason_code = 0x83;
	return MOSQ_ERR_ACL_DENIED;
}

/* ---- what it hears ------------------------------------------------------------------------- */

static int
on_tick(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_tick *ed = event_data;
	static int ticks;

	(void)event;
	(void)userdata;
	if (slow_tick)
		usleep(30000);
	if (++ticks <= 3)
		mosquitto_log_printf(
		    MOSQ_LOG_INFO, "tick %d now=%d", ticks, ed->now_s > 1600000000);
	return MOSQ_ERR_SUCCESS;
}

static int
on_disconnect(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_disconnect *ed = event_data;

	(void)event;
	(void)userdata;
	mosquitto_log_printf(MOSQ_LOG_INFO, "disconnect id=%s user=%s reason=%d known=%d",
	    mosquitto_client_id(ed->client), text(mosquitto_client_username(ed->client)),
	    ed->reason, known(ed->client, true));
	return MOSQ_ERR_SUCCESS;
}

static int
on_disconnect_too(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_disconnect *ed = event_data;

	(void)event;
	(void)userdata;
	mosquitto_log_printf(
	    MOSQ_LOG_INFO, "second to hear of the end of %s", mosquitto_client_id(ed->client));
	return MOSQ_ERR_UNKNOWN;
}

static int
on_reload(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_reload *ed = event_data;

	(void)event;
	(void)userdata;
	mosquitto_log_printf(MOSQ_LOG_INFO, "reload options=%d greeting=%s", ed->option_count,
	    option(ed->options, ed->option_count, "greeting", "(none)"));
	return MOSQ_ERR_SUCCESS;
}

/* ---- its life ------------------------------------------------------------------------------ */

int
mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
	for (int i = 0; i < supported_version_count; i++)
		if (supported_versions[i] == 5)
			return 5;
	return -1;
}

int
mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata,
    struct mosquitto_opt *options, int option_count)
{
	static const struct {
		const char *name;
		int event;
		MOSQ_FUNC_generic_callback fn;
		const char *data;
	} callbacks[] = {
		{ "acl_check", MOSQ_EVT_ACL_CHECK, on_acl_check, NULL },
		{ "basic_auth", MOSQ_EVT_BASIC_AUTH, on_basic_auth, NULL },
		{ "control", MOSQ_EVT_CONTROL, on_control, FUNCTIONS_CONTROL },
		{ "disconnect", MOSQ_EVT_DISCONNECT, on_disconnect, NULL },
		{ "disconnect", MOSQ_EVT_DISCONNECT, on_disconnect_too, NULL },
		{ "ext_auth", MOSQ_EVT_EXT_AUTH_START, on_ext_auth, NULL },
		{ "ext_auth", MOSQ_EVT_EXT_AUTH_CONTINUE, on_ext_auth, NULL },
		{ "message", MOSQ_EVT_MESSAGE, on_message, NULL },
		{ "psk_key", MOSQ_EVT_PSK_KEY, on_psk_key, NULL },
		{ "reload", MOSQ_EVT_RELOAD, on_reload, NULL },
		{ "tick", MOSQ_EVT_TICK, on_tick, NULL },
	};
	const char *only = option(options, option_count, "only",
	    "acl_check basic_auth control disconnect ext_auth message psk_key reload");
	int rc = (int)strtol(option(options, option_count, "init", "0"), NULL, 10);

	self = identifier;
	thread_of_init = pthread_self();
	*userdata = &seen;
	hang_path = option(options, option_count, "hang", "");
	quiet = option(options, option_count, "quiet", NULL) != NULL;
	slow_tick = option(options, option_count, "slow_tick", NULL) != NULL;
	mosquitto_log_printf(MOSQ_LOG_NOTICE, "init options=%d greeting=%s", option_count,
	    option(options, option_count, "greeting", "(none)"));
	if (begins(option(options, option_count, "greeting", ""), "hang"))
		hang("init");
	for (size_t i = 0; i < sizeof(callbacks) / sizeof(callbacks[0]); i++)
		if (strstr(only, callbacks[i].name) != NULL && rc == MOSQ_ERR_SUCCESS)
			rc = mosquitto_callback_register(
			    self, callbacks[i].event, callbacks[i].fn, callbacks[i].data, &seen);
	return rc;
}

int
mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
	mosquitto_log_printf(MOSQ_LOG_NOTICE, "cleanup options=%d userdata=%d greeting=%s",
	    option_count, userdata == &seen, option(options, option_count, "greeting", "(none)"));
	return MOSQ_ERR_SUCCESS;
}
