/* SPDX-License-Identifier: Apache-2.0 */
/* The functions that Mosquitto has for its plugins, called in turn; the log says what is not as it has to be. Part of plain.c */
#include "functions.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                   \
	do {                                                                          \
		if (!(what)) {                                                        \
			mosquitto_log_printf(                                         \
			    MOSQ_LOG_ERR, "functions: line %d: %s", __LINE__, #what); \
			return;                                                       \
		}                                                                     \
	} while (0)

static void
check_topics(void)
{
	static const struct {
		const char *sub, *topic;
		bool matches;
	} rows[] = { { "a/#", "a", true }, { "a/#", "a/b/c", true }, { "a/+", "a", false },
		{ "a/+", "a/", true }, { "+/+", "/x", true }, { "#", "$SYS/x", false },
		{ "$SYS/#", "$SYS/x", true }, { "a/b", "a/b/c", false }, { "a/b/c", "a/b", false },
		{ "a/+/c", "a/b/c", true }, { "ab/#", "a", false }, { "+", "a/b", false } };
	bool result;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK(mosquitto_topic_matches_sub(rows[i].sub, rows[i].topic, &result) == 0);
		CHECK(result == rows[i].matches);
	}
	CHECK(mosquitto_topic_matches_sub("a/#b", "a", &result) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_topic_matches_sub("", "a", &result) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_topic_matches_sub("a", "a/#", &result) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_topic_matches_sub2("a/#xx", 3, "a/bxx", 3, &result) == 0 && result);
	CHECK(mosquitto_sub_topic_check("a/+/#") == 0);
	CHECK(mosquitto_sub_topic_check("a+") == MOSQ_ERR_INVAL);
	CHECK(mosquitto_sub_topic_check("a/#/b") == MOSQ_ERR_INVAL);
	CHECK(mosquitto_sub_topic_check2("a/#/b", 3) == 0);
	CHECK(mosquitto_pub_topic_check("a/b") == 0);
	CHECK(mosquitto_pub_topic_check("a/+") == MOSQ_ERR_INVAL);
	CHECK(mosquitto_pub_topic_check2("a/+", 2) == 0);
	CHECK(mosquitto_validate_utf8("gr\xc3\xbc\xc3\x9f", 6) == 0);
	CHECK(mosquitto_validate_utf8("\xc3", 1) == MOSQ_ERR_MALFORMED_UTF8);
	CHECK(mosquitto_validate_utf8("a\x01", 2) == MOSQ_ERR_MALFORMED_UTF8);
	CHECK(mosquitto_validate_utf8("\xef\xbf\xbf", 3) == MOSQ_ERR_MALFORMED_UTF8);
	CHECK(mosquitto_validate_utf8(NULL, 1) == MOSQ_ERR_INVAL);
	mosquitto_log_printf(MOSQ_LOG_INFO, "functions: topics are well");
}

static void
check_properties(void)
{
	mosquitto_property *list = NULL, *copy = NULL;
	char *name = NULL, *value = NULL;
	void *bytes = NULL;
	uint16_t len = 0, n16 = 0;
	uint32_t n32 = 0;
	uint8_t n8 = 0;
	int identifier, type;
	const mosquitto_property *p;

	CHECK(mosquitto_property_add_byte(&list, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, 1) == 0);
	CHECK(mosquitto_property_add_byte(&list, MQTT_PROP_CONTENT_TYPE, 1) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_property_add_int16(&list, MQTT_PROP_TOPIC_ALIAS, 300) == 0);
	CHECK(mosquitto_property_add_int32(&list, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, 70000) == 0);
	CHECK(mosquitto_property_add_varint(&list, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, 5) == 0);
	CHECK(mosquitto_property_add_varint(&list, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, 1u << 30) ==
	    MOSQ_ERR_INVAL);
	CHECK(mosquitto_property_add_binary(&list, MQTT_PROP_CORRELATION_DATA, "\0x", 2) == 0);
	CHECK(mosquitto_property_add_string(&list, MQTT_PROP_CONTENT_TYPE, "t") == 0);
	CHECK(mosquitto_property_add_string(&list, MQTT_PROP_CONTENT_TYPE, "\xff") ==
	    MOSQ_ERR_MALFORMED_UTF8);
	CHECK(mosquitto_property_add_string_pair(&list, MQTT_PROP_USER_PROPERTY, "n", "1") == 0);
	CHECK(mosquitto_property_add_string_pair(&list, MQTT_PROP_USER_PROPERTY, "m", "2") == 0);
	CHECK(mosquitto_property_copy_all(&copy, list) == 0);
	mosquitto_property_free_all(&list);
	CHECK(list == NULL);
	CHECK(mosquitto_property_check_all(CMD_PUBLISH, copy) == 0);
	CHECK(mosquitto_property_check_all(CMD_CONNECT, copy) == MOSQ_ERR_PROTOCOL);
	CHECK(mosquitto_property_check_command(CMD_CONNACK, MQTT_PROP_MAXIMUM_QOS) == 0);
	CHECK(mosquitto_property_check_command(CMD_CONNECT, MQTT_PROP_MAXIMUM_QOS) ==
	    MOSQ_ERR_PROTOCOL);
	CHECK(mosquitto_property_check_command(CMD_WILL, MQTT_PROP_WILL_DELAY_INTERVAL) == 0);
	CHECK(mosquitto_property_read_byte(copy, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, &n8, false) !=
	    NULL);
	CHECK(mosquitto_property_read_int16(copy, MQTT_PROP_TOPIC_ALIAS, &n16, false) != NULL);
	CHECK(mosquitto_property_read_int32(copy, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, &n32, false) !=
	    NULL);
	CHECK(n8 == 1 && n16 == 300 && n32 == 70000);
	CHECK(mosquitto_property_read_varint(
		  copy, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, &n32, false) != NULL);
	CHECK(n32 == 5);
	CHECK(mosquitto_property_read_binary(
		  copy, MQTT_PROP_CORRELATION_DATA, &bytes, &len, false) != NULL);
	CHECK(len == 2 && memcmp(bytes, "\0x", 2) == 0);
	free(bytes);
	p = mosquitto_property_read_string_pair(
	    copy, MQTT_PROP_USER_PROPERTY, &name, &value, false);
	CHECK(p != NULL && strcmp(name, "n") == 0 && strcmp(value, "1") == 0);
	free(name);
	free(value);
	p = mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &value, true);
	CHECK(p != NULL && strcmp(name, "m") == 0 && strcmp(value, "2") == 0);
	free(name);
	free(value);
	CHECK(mosquitto_property_identifier(p) == MQTT_PROP_USER_PROPERTY);
	CHECK(mosquitto_property_next(p) == NULL);
	CHECK(mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, NULL, NULL, true) ==
	    NULL);
	CHECK(mosquitto_property_add_string(&copy, MQTT_PROP_CONTENT_TYPE, "again") == 0);
	CHECK(mosquitto_property_check_all(CMD_PUBLISH, copy) == MOSQ_ERR_DUPLICATE_PROPERTY);
	mosquitto_property_free_all(&copy);
	CHECK(strcmp(mosquitto_property_identifier_to_string(MQTT_PROP_TOPIC_ALIAS),
		  "topic-alias") == 0);
	CHECK(mosquitto_string_to_property_info("user-property", &identifier, &type) == 0);
	CHECK(identifier == MQTT_PROP_USER_PROPERTY && type == MQTT_PROP_TYPE_STRING_PAIR);
	mosquitto_log_printf(MOSQ_LOG_INFO, "functions: properties are well");
}

static void
check_rest(void)
{
	char *memory = mosquitto_malloc(4), *zeros;
	int command;

	CHECK(memory != NULL && (memory = mosquitto_realloc(memory, 4000)) != NULL);
	mosquitto_free(memory);
	zeros = mosquitto_calloc(2, 3);
	CHECK(zeros != NULL && zeros[5] == 0);
	mosquitto_free(zeros);
	CHECK(mosquitto_string_to_command("Subscribe", &command) == 0 && command == CMD_SUBSCRIBE);
	CHECK(mosquitto_string_to_command("fly", &command) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_strerror(MOSQ_ERR_NOMEM) != mosquitto_strerror(MOSQ_ERR_SUCCESS));
	CHECK(mosquitto_reason_string(0x87) != mosquitto_reason_string(0x88));
	CHECK(mosquitto_connack_string(0) != mosquitto_connack_string(5));
	CHECK(mosquitto_client_id(NULL) == NULL && mosquitto_client_username(NULL) == NULL);
	CHECK(mosquitto_set_username(NULL, "x") == MOSQ_ERR_INVAL);
	CHECK(mosquitto_broker_publish_copy(NULL, NULL, 0, NULL, 0, false, NULL) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_broker_publish_copy(NULL, "a", 1, NULL, 0, false, NULL) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_broker_publish_copy(NULL, "a", 0, NULL, 3, false, NULL) == MOSQ_ERR_INVAL);
	mosquitto_log_printf(MOSQ_LOG_INFO, "functions: the rest is well");
}

int
functions_no_callback(int event, void *event_data, void *userdata)
{
	(void)event;
	(void)event_data;
	(void)userdata;
	return MOSQ_ERR_PLUGIN_DEFER;
}

static void
check_callbacks(mosquitto_plugin_id_t *self)
{
	int all[] = { MOSQ_EVT_RELOAD, MOSQ_EVT_ACL_CHECK, MOSQ_EVT_MESSAGE, MOSQ_EVT_DISCONNECT };

	for (int i = 0; i < 4; i++) {
		CHECK(mosquitto_callback_register(
			  self, all[i], functions_no_callback, NULL, NULL) == 0);
		CHECK(mosquitto_callback_register(self, all[i], functions_no_callback, NULL,
			  NULL) == MOSQ_ERR_ALREADY_EXISTS);
		CHECK(
		    mosquitto_callback_unregister(self, all[i], functions_no_callback, NULL) == 0);
		CHECK(mosquitto_callback_unregister(self, all[i], functions_no_callback, NULL) ==
		    MOSQ_ERR_NOT_FOUND);
	}
	CHECK(mosquitto_callback_register(self, MOSQ_EVT_CONTROL, functions_no_callback,
		  FUNCTIONS_CONTROL, NULL) == MOSQ_ERR_ALREADY_EXISTS);
	CHECK(mosquitto_callback_register(
		  self, MOSQ_EVT_CONTROL, functions_no_callback, "other", NULL) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_callback_register(self, MOSQ_EVT_TICK, NULL, NULL, NULL) == MOSQ_ERR_INVAL);
	CHECK(mosquitto_callback_register(self, 99, functions_no_callback, NULL, NULL) ==
	    MOSQ_ERR_NOT_SUPPORTED);
	mosquitto_log_printf(MOSQ_LOG_INFO, "functions: callbacks are well");
}

void
functions_check(mosquitto_plugin_id_t *self)
{
	check_topics();
	check_properties();
	check_rest();
	check_callbacks(self);
}
