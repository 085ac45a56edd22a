/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper_functions - the functions that Mosquitto exports to its plugins: mosquitto_broker.h and, of mosquitto.h, what its broker has
 *
 * What they do is in Mosquitto's headers. All may be called on any thread; clients only as long as they are there (README.md).
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_HELPER_FUNCTIONS_H
#define PLUGINS_MOSQUITTO_COMPAT_HELPER_FUNCTIONS_H

#include "helper.h"

HELPER_EXPORT int mosquitto_callback_register(struct engine_head *identifier, int event, callback_fn cb_func, const void *event_data, void *userdata);
HELPER_EXPORT int mosquitto_callback_unregister(struct engine_head *identifier, int event, callback_fn cb_func, const void *event_data);

HELPER_EXPORT void *mosquitto_calloc(size_t nmemb, size_t size);
HELPER_EXPORT void mosquitto_free(void *mem);
HELPER_EXPORT void *mosquitto_malloc(size_t size);
HELPER_EXPORT void *mosquitto_realloc(void *ptr, size_t size);
HELPER_EXPORT char *mosquitto_strdup(const char *s);

HELPER_EXPORT void mosquitto_log_printf(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
HELPER_EXPORT void mosquitto_log_vprintf(int level, const char *fmt, va_list va) __attribute__((format(printf, 2, 0)));

HELPER_EXPORT const char *mosquitto_client_address(const struct mosquitto *client);
HELPER_EXPORT bool mosquitto_client_clean_session(const struct mosquitto *client);
HELPER_EXPORT const char *mosquitto_client_id(const struct mosquitto *client);
HELPER_EXPORT int mosquitto_client_keepalive(const struct mosquitto *client);
HELPER_EXPORT void *mosquitto_client_certificate(const struct mosquitto *client);
HELPER_EXPORT int mosquitto_client_protocol(const struct mosquitto *client);
HELPER_EXPORT int mosquitto_client_protocol_version(const struct mosquitto *client);
HELPER_EXPORT int mosquitto_client_sub_count(const struct mosquitto *client);
HELPER_EXPORT const char *mosquitto_client_username(const struct mosquitto *client);
HELPER_EXPORT int mosquitto_set_username(struct mosquitto *client, const char *username);
HELPER_EXPORT int mosquitto_kick_client_by_clientid(const char *clientid, bool with_will);
HELPER_EXPORT int mosquitto_kick_client_by_username(const char *username, bool with_will);

HELPER_EXPORT int mosquitto_broker_publish(const char *clientid, const char *topic, int payloadlen, void *payload, int qos, bool retain,
    struct mqtt5__property *properties);
HELPER_EXPORT int mosquitto_broker_publish_copy(const char *clientid, const char *topic, int payloadlen, const void *payload, int qos,
    bool retain, struct mqtt5__property *properties);

HELPER_EXPORT int mosquitto_property_add_byte(struct mqtt5__property **proplist, int identifier, uint8_t value);
HELPER_EXPORT int mosquitto_property_add_int16(struct mqtt5__property **proplist, int identifier, uint16_t value);
HELPER_EXPORT int mosquitto_property_add_int32(struct mqtt5__property **proplist, int identifier, uint32_t value);
HELPER_EXPORT int mosquitto_property_add_varint(struct mqtt5__property **proplist, int identifier, uint32_t value);
HELPER_EXPORT int mosquitto_property_add_binary(struct mqtt5__property **proplist, int identifier, const void *value, uint16_t len);
HELPER_EXPORT int mosquitto_property_add_string(struct mqtt5__property **proplist, int identifier, const char *value);
HELPER_EXPORT int mosquitto_property_add_string_pair(struct mqtt5__property **proplist, int identifier, const char *name, const char *value);
HELPER_EXPORT int mosquitto_property_check_all(int command, const struct mqtt5__property *properties);
HELPER_EXPORT int mosquitto_property_check_command(int command, int identifier);
HELPER_EXPORT int mosquitto_property_copy_all(struct mqtt5__property **dest, const struct mqtt5__property *src);
HELPER_EXPORT int mosquitto_property_identifier(const struct mqtt5__property *property);
HELPER_EXPORT const char *mosquitto_property_identifier_to_string(int identifier);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_next(const struct mqtt5__property *proplist);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_read_byte(const struct mqtt5__property *proplist, int identifier, uint8_t *value, bool skip_first);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_read_int16(const struct mqtt5__property *proplist, int identifier, uint16_t *value, bool skip_first);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_read_int32(const struct mqtt5__property *proplist, int identifier, uint32_t *value, bool skip_first);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_read_varint(const struct mqtt5__property *proplist, int identifier, uint32_t *value, bool skip_first);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_read_binary(const struct mqtt5__property *proplist, int identifier, void **value, uint16_t *len, bool skip_first);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_read_string(const struct mqtt5__property *proplist, int identifier, char **value, bool skip_first);
HELPER_EXPORT const struct mqtt5__property *mosquitto_property_read_string_pair(const struct mqtt5__property *proplist, int identifier, char **name, char **value, bool skip_first);
HELPER_EXPORT int mosquitto_string_to_property_info(const char *propname, int *identifier, int *type);

HELPER_EXPORT int mosquitto_pub_topic_check(const char *topic);
HELPER_EXPORT int mosquitto_pub_topic_check2(const char *topic, size_t topiclen);
HELPER_EXPORT int mosquitto_sub_topic_check(const char *topic);
HELPER_EXPORT int mosquitto_sub_topic_check2(const char *topic, size_t topiclen);
HELPER_EXPORT int mosquitto_topic_matches_sub(const char *sub, const char *topic, bool *result);
HELPER_EXPORT int mosquitto_topic_matches_sub2(const char *sub, size_t sublen, const char *topic, size_t topiclen, bool *result);
HELPER_EXPORT int mosquitto_validate_utf8(const char *str, int len);

HELPER_EXPORT const char *mosquitto_connack_string(int connack_code);
HELPER_EXPORT const char *mosquitto_reason_string(int reason_code);
HELPER_EXPORT const char *mosquitto_strerror(int mosq_errno);
HELPER_EXPORT int mosquitto_string_to_command(const char *str, int *cmd);

#endif
