/* SPDX-License-Identifier: Apache-2.0 */
/* helper_text - tables and texts: properties, packets, codes; what MQTT 5.0 sections 2.1.2, 2.2.2.2 and 2.4 call them */
#include "helper_functions.h"

#include <strings.h>

enum packet {
	CONNECT = 0x10,
	CONNACK = 0x20,
	PUBLISH = 0x30,
	PUBACK = 0x40,
	PUBREC = 0x50,
	PUBREL = 0x60,
	PUBCOMP = 0x70,
	SUBSCRIBE = 0x80,
	SUBACK = 0x90,
	UNSUBSCRIBE = 0xa0,
	UNSUBACK = 0xb0,
	DISCONNECT = 0xe0,
	AUTH = 0xf0,
};
/* A bit for each packet, by the number of its type; of a Will: bit 16. */
#define IN(packet) (1u << ((packet) >> 4))
#define ACKNOWLEDGEMENTS \
	(IN(PUBACK) | IN(PUBREC) | IN(PUBREL) | IN(PUBCOMP) | IN(SUBACK) | IN(UNSUBACK))

static const struct {
	int identifier;
	enum property_type type;
	unsigned packets;
	const char *name;
} properties[] = {
	{ 1, PROPERTY_BYTE, IN(PUBLISH) | IN(COMMAND_WILL), "payload-format-indicator" },
	{ 2, PROPERTY_INT32, IN(PUBLISH) | IN(COMMAND_WILL), "message-expiry-interval" },
	{ 3, PROPERTY_STRING, IN(PUBLISH) | IN(COMMAND_WILL), "content-type" },
	{ 8, PROPERTY_STRING, IN(PUBLISH) | IN(COMMAND_WILL), "response-topic" },
	{ 9, PROPERTY_BINARY, IN(PUBLISH) | IN(COMMAND_WILL), "correlation-data" },
	{ 11, PROPERTY_VARINT, IN(PUBLISH) | IN(SUBSCRIBE), "subscription-identifier" },
	{ 17, PROPERTY_INT32, IN(CONNECT) | IN(CONNACK) | IN(DISCONNECT),
	    "session-expiry-interval" },
	{ 18, PROPERTY_STRING, IN(CONNACK), "assigned-client-identifier" },
	{ 19, PROPERTY_INT16, IN(CONNACK), "server-keep-alive" },
	{ 21, PROPERTY_STRING, IN(CONNECT) | IN(CONNACK) | IN(AUTH), "authentication-method" },
	{ 22, PROPERTY_BINARY, IN(CONNECT) | IN(CONNACK) | IN(AUTH), "authentication-data" },
	{ 23, PROPERTY_BYTE, IN(CONNECT), "request-problem-information" },
	{ 24, PROPERTY_INT32, IN(COMMAND_WILL), "will-delay-interval" },
	{ 25, PROPERTY_BYTE, IN(CONNECT), "request-response-information" },
	{ 26, PROPERTY_STRING, IN(CONNACK), "response-information" },
	{ 28, PROPERTY_STRING, IN(CONNACK) | IN(DISCONNECT), "server-reference" },
	{ 31, PROPERTY_STRING, IN(CONNACK) | ACKNOWLEDGEMENTS | IN(DISCONNECT) | IN(AUTH),
	    "reason-string" },
	{ 33, PROPERTY_INT16, IN(CONNECT) | IN(CONNACK), "receive-maximum" },
	{ 34, PROPERTY_INT16, IN(CONNECT) | IN(CONNACK), "topic-alias-maximum" },
	{ 35, PROPERTY_INT16, IN(PUBLISH), "topic-alias" },
	{ 36, PROPERTY_BYTE, IN(CONNACK), "maximum-qos" },
	{ 37, PROPERTY_BYTE, IN(CONNACK), "retain-available" },
	{ 38, PROPERTY_PAIR,
	    IN(CONNECT) | IN(CONNACK) | IN(PUBLISH) | IN(COMMAND_WILL) | ACKNOWLEDGEMENTS |
		IN(SUBSCRIBE) | IN(UNSUBSCRIBE) | IN(DISCONNECT) | IN(AUTH),
	    "user-property" },
	{ 39, PROPERTY_INT32, IN(CONNECT) | IN(CONNACK), "maximum-packet-size" },
	{ 40, PROPERTY_BYTE, IN(CONNACK), "wildcard-subscription-available" },
	{ 41, PROPERTY_BYTE, IN(CONNACK), "subscription-identifier-available" },
	{ 42, PROPERTY_BYTE, IN(CONNACK), "shared-subscription-available" },
};
#define PROPERTIES ((int)(sizeof(properties) / sizeof(properties[0])))

static int
row_of(int identifier)
{
	for (int i = 0; i < PROPERTIES; i++)
		if (properties[i].identifier == identifier)
			return i;
	return -1;
}

enum property_type
grapnel_mosquitto_type(int identifier)
{
	int i = row_of(identifier);

	return i >= 0 ? properties[i].type : PROPERTY_NONE;
}

bool
property_fits(int command, int identifier)
{
	int i = row_of(identifier);

	return i >= 0 && command >= 0 && command <= COMMAND_WILL &&
	    (properties[i].packets & IN((unsigned)command)) != 0;
}

const char *
mosquitto_property_identifier_to_string(int identifier)
{
	int i = row_of(identifier);

	return i >= 0 ? properties[i].name : NULL;
}

int
mosquitto_string_to_property_info(const char *propname, int *identifier, int *type)
{
	if (propname == NULL || identifier == NULL || type == NULL)
		return MOSQ_INVAL;
	for (int i = 0; i < PROPERTIES; i++) {
		if (strcasecmp(properties[i].name, propname) != 0)
			continue;
		*identifier = properties[i].identifier;
		*type = (int)properties[i].type;
		return MOSQ_SUCCESS;
	}
	return MOSQ_INVAL;
}

struct text_row {
	int code;
	const char *text;
};
#define FIND(rows, code, otherwise) find(rows, sizeof(rows) / sizeof((rows)[0]), code, otherwise)

static const char *
find(const struct text_row *rows, size_t n, int code, const char *otherwise)
{
	for (size_t i = 0; i < n; i++)
		if (rows[i].code == code)
			return rows[i].text;
	return otherwise;
}

int
mosquitto_string_to_command(const char *str, int *cmd)
{
	static const struct text_row packets[] = { { CONNECT, "connect" }, { CONNACK, "connack" },
		{ PUBLISH, "publish" }, { PUBACK, "puback" }, { PUBREC, "pubrec" },
		{ PUBREL, "pubrel" }, { PUBCOMP, "pubcomp" }, { SUBSCRIBE, "subscribe" },
		{ SUBACK, "suback" }, { UNSUBSCRIBE, "unsubscribe" }, { UNSUBACK, "unsuback" },
		{ DISCONNECT, "disconnect" }, { AUTH, "auth" }, { COMMAND_WILL, "will" } };

	if (str == NULL || cmd == NULL)
		return MOSQ_INVAL;
	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		if (strcasecmp(packets[i].text, str) == 0) {
			*cmd = packets[i].code;
			return MOSQ_SUCCESS;
		}
	}
	*cmd = 0;
	return MOSQ_INVAL;
}

const char *
mosquitto_strerror(int mosq_errno)
{
	static const struct text_row errors[] = {
		{ -6, "Quota exceeded" },
		{ -5, "Authentication delayed" },
		{ -4, "Continue with authentication" },
		{ -3, "No subscribers" },
		{ -2, "Subscription already exists" },
		{ -1, "Connection pending" },
		{ 0, "No error" },
		{ 1, "Out of memory" },
		{ 2, "Protocol error" },
		{ 3, "Invalid argument" },
		{ 4, "Not connected" },
		{ 5, "Connection refused" },
		{ 6, "Not found" },
		{ 7, "Connection lost" },
		{ 8, "TLS error" },
		{ 9, "Payload too large" },
		{ 10, "Not supported" },
		{ 11, "Authorisation failed" },
		{ 12, "Access denied by ACL" },
		{ 13, "Unknown error" },
		{ 14, "Error of a system call" },
		{ 15, "Name lookup failed" },
		{ 16, "Proxy error" },
		{ 17, "Deferred by plugin" },
		{ 18, "Malformed UTF-8" },
		{ 19, "Keep alive exceeded" },
		{ 20, "Lookup error" },
		{ 21, "Malformed packet" },
		{ 22, "Duplicate property" },
		{ 23, "TLS handshake failed" },
		{ 24, "QoS not supported" },
		{ 25, "Packet too large" },
		{ 26, "OCSP error" },
		{ 27, "Timeout" },
		{ 28, "Retain not supported" },
		{ 29, "Topic alias invalid" },
		{ 30, "Administrative action" },
		{ 31, "Already exists" },
	};

	return FIND(errors, mosq_errno, "Unknown error");
}

const char *
mosquitto_connack_string(int connack_code)
{
	static const struct text_row codes[] = {
		{ 0, "Connection accepted" },
		{ 1, "Connection refused: unacceptable protocol version" },
		{ 2, "Connection refused: identifier rejected" },
		{ 3, "Connection refused: server unavailable" },
		{ 4, "Connection refused: bad user name or password" },
		{ 5, "Connection refused: not authorised" },
	};

	return FIND(codes, connack_code, "Connection refused: unknown reason");
}

const char *
mosquitto_reason_string(int reason_code)
{
	static const struct text_row codes[] = {
		{ 0x00, "Success" },
		{ 0x01, "Granted QoS 1" },
		{ 0x02, "Granted QoS 2" },
		{ 0x04, "Disconnect with Will Message" },
		{ 0x10, "No matching subscribers" },
		{ 0x11, "No subscription existed" },
		{ 0x18, "Continue authentication" },
		{ 0x19, "Re-authenticate" },
		{ 0x80, "Unspecified error" },
		{ 0x81, "Malformed Packet" },
		{ 0x82, "Protocol Error" },
		{ 0x83, "Implementation specific error" },
		{ 0x84, "Unsupported Protocol Version" },
		{ 0x85, "Client Identifier not valid" },
		{ 0x86, "Bad User Name or Password" },
		{ 0x87, "Not authorized" },
		{ 0x88, "Server unavailable" },
		{ 0x89, "Server busy" },
		{ 0x8a, "Banned" },
		{ 0x8b, "Server shutting down" },
		{ 0x8c, "Bad authentication method" },
		{ 0x8d, "Keep Alive timeout" },
		{ 0x8e, "Session taken over" },
		{ 0x8f, "Topic Filter invalid" },
		{ 0x90, "Topic Name invalid" },
		{ 0x91, "Packet Identifier in use" },
		{ 0x92, "Packet Identifier not found" },
		{ 0x93, "Receive Maximum exceeded" },
		{ 0x94, "Topic Alias invalid" },
		{ 0x95, "Packet too large" },
		{ 0x96, "Message rate too high" },
		{ 0x97, "Quota exceeded" },
		{ 0x98, "Administrative action" },
		{ 0x99, "Payload format invalid" },
		{ 0x9a, "Retain not supported" },
		{ 0x9b, "QoS not supported" },
		{ 0x9c, "Use another server" },
		{ 0x9d, "Server moved" },
		{ 0x9e, "Shared Subscriptions not supported" },
		{ 0x9f, "Connection rate exceeded" },
		{ 0xa0, "Maximum connect time" },
		{ 0xa1, "Subscription Identifiers not supported" },
		{ 0xa2, "Wildcard Subscriptions not supported" },
	};

	return FIND(codes, reason_code, "Unknown reason");
}
