/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

static const char *const type_names[] = {
	[MQTT_CONNECT] = "CONNECT",
	[MQTT_CONNACK] = "CONNACK",
	[MQTT_PUBLISH] = "PUBLISH",
	[MQTT_PUBACK] = "PUBACK",
	[MQTT_PUBREC] = "PUBREC",
	[MQTT_PUBREL] = "PUBREL",
	[MQTT_PUBCOMP] = "PUBCOMP",
	[MQTT_SUBSCRIBE] = "SUBSCRIBE",
	[MQTT_SUBACK] = "SUBACK",
	[MQTT_UNSUBSCRIBE] = "UNSUBSCRIBE",
	[MQTT_UNSUBACK] = "UNSUBACK",
	[MQTT_PINGREQ] = "PINGREQ",
	[MQTT_PINGRESP] = "PINGRESP",
	[MQTT_DISCONNECT] = "DISCONNECT",
	[MQTT_AUTH] = "AUTH",
};

static const char *const reason_names[] = {
	[RC_SUCCESS] = "Success",
	[RC_GRANTED_QOS_1] = "Granted QoS 1",
	[RC_GRANTED_QOS_2] = "Granted QoS 2",
	[RC_DISCONNECT_WITH_WILL] = "Disconnect with Will Message",
	[RC_NO_MATCHING_SUBSCRIBERS] = "No matching subscribers",
	[RC_NO_SUBSCRIPTION_EXISTED] = "No subscription existed",
	[RC_CONTINUE_AUTHENTICATION] = "Continue authentication",
	[RC_REAUTHENTICATE] = "Re-authenticate",
	[RC_UNSPECIFIED] = "Unspecified error",
	[RC_MALFORMED_PACKET] = "Malformed Packet",
	[RC_PROTOCOL_ERROR] = "Protocol Error",
	[RC_IMPLEMENTATION_SPECIFIC] = "Implementation specific error",
	[RC_UNSUPPORTED_PROTOCOL_VERSION] = "Unsupported Protocol Version",
	[RC_CLIENT_ID_NOT_VALID] = "Client Identifier not valid",
	[RC_BAD_USER_NAME_OR_PASSWORD] = "Bad User Name or Password",
	[RC_NOT_AUTHORIZED] = "Not authorized",
	[RC_SERVER_UNAVAILABLE] = "Server unavailable",
	[RC_SERVER_BUSY] = "Server busy",
	[RC_BANNED] = "Banned",
	[RC_SERVER_SHUTTING_DOWN] = "Server shutting down",
	[RC_BAD_AUTHENTICATION_METHOD] = "Bad authentication method",
	[RC_KEEP_ALIVE_TIMEOUT] = "Keep Alive timeout",
	[RC_SESSION_TAKEN_OVER] = "Session taken over",
	[RC_TOPIC_FILTER_INVALID] = "Topic Filter invalid",
	[RC_TOPIC_NAME_INVALID] = "Topic Name invalid",
	[RC_PACKET_IDENTIFIER_IN_USE] = "Packet Identifier in use",
	[RC_PACKET_IDENTIFIER_NOT_FOUND] = "Packet Identifier not found",
	[RC_RECEIVE_MAXIMUM_EXCEEDED] = "Receive Maximum exceeded",
	[RC_TOPIC_ALIAS_INVALID] = "Topic Alias invalid",
	[RC_PACKET_TOO_LARGE] = "Packet too large",
	[RC_MESSAGE_RATE_TOO_HIGH] = "Message rate too high",
	[RC_QUOTA_EXCEEDED] = "Quota exceeded",
	[RC_ADMINISTRATIVE_ACTION] = "Administrative action",
	[RC_PAYLOAD_FORMAT_INVALID] = "Payload format invalid",
	[RC_RETAIN_NOT_SUPPORTED] = "Retain not supported",
	[RC_QOS_NOT_SUPPORTED] = "QoS not supported",
	[RC_USE_ANOTHER_SERVER] = "Use another server",
	[RC_SERVER_MOVED] = "Server moved",
	[RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED] = "Shared Subscriptions not supported",
	[RC_CONNECTION_RATE_EXCEEDED] = "Connection rate exceeded",
	[RC_MAXIMUM_CONNECT_TIME] = "Maximum connect time",
	[RC_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED] = "Subscription Identifiers not supported",
	[RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED] = "Wildcard Subscriptions not supported",
};

static const char *
name_at(const char *const *names, size_t count, unsigned i)
{
	return i < count && names[i] != NULL ? names[i] : "?";
}

const char *
mqtt_type_name(unsigned type)
{
	return name_at(type_names, sizeof(type_names) / sizeof(type_names[0]), type);
}

const char *
mqtt_reason_name(unsigned code)
{
	return name_at(reason_names, sizeof(reason_names) / sizeof(reason_names[0]), code);
}

bool
mqtt_reason_valid(unsigned type, uint8_t code)
{
	switch (type) {
	case MQTT_CONNACK:
		return connack_code_valid(code);
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		return ack_code_valid((uint8_t)type, code);
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		return suback_code_valid(5, (uint8_t)type, code);
	case MQTT_DISCONNECT:
		return disconnect_code_valid(code);
	default:
		return false;
	}
}
