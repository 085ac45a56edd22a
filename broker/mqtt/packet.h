/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet - MQTT Control Packets of 3.1, 3.1.1 and 5.0: bytes <-> structs
 *
 * Pure: no I/O, no broker types, no allocation. Decoders take the bytes behind
 * the fixed header and borrow from them; each returns 0 or an MQTT 5 Reason Code
 * with wire.why set. They check everything that can be checked without knowing
 * a session: lengths, UTF-8, flags, duplicate and misplaced properties, ranges,
 * Topic Names. A Topic Filter with wrong syntax does not spoil its packet: the walk
 * over a SUBSCRIBE shows it, to be refused in its place of the SUBACK.
 *
 * Encoders come in pairs: x_size() says exactly how many bytes x_encode() writes,
 * fixed header included. Size 0: more than an MQTT packet can hold, do not encode.
 * A string to encode has at most 65,535 bytes.
 *
 * Every packet type has both directions, so that the tests, the benchmark
 * and later bridges use the same code.
 */
#ifndef BROKER_MQTT_PACKET_H
#define BROKER_MQTT_PACKET_H

#include "wire.h"

enum mqtt_type {
	MQTT_CONNECT = 1, MQTT_CONNACK, MQTT_PUBLISH, MQTT_PUBACK, MQTT_PUBREC, MQTT_PUBREL, MQTT_PUBCOMP,
	MQTT_SUBSCRIBE, MQTT_SUBACK, MQTT_UNSUBSCRIBE, MQTT_UNSUBACK, MQTT_PINGREQ, MQTT_PINGRESP,
	MQTT_DISCONNECT, MQTT_AUTH,
};

enum mqtt_reason { /* MQTT 5.0 section 2.4 */
	RC_SUCCESS = 0x00, RC_GRANTED_QOS_1 = 0x01, RC_GRANTED_QOS_2 = 0x02, RC_DISCONNECT_WITH_WILL = 0x04,
	RC_NO_MATCHING_SUBSCRIBERS = 0x10, RC_NO_SUBSCRIPTION_EXISTED = 0x11, RC_CONTINUE_AUTHENTICATION = 0x18,
	RC_REAUTHENTICATE = 0x19, RC_UNSPECIFIED = 0x80, RC_MALFORMED_PACKET = 0x81, RC_PROTOCOL_ERROR = 0x82,
	RC_IMPLEMENTATION_SPECIFIC = 0x83, RC_UNSUPPORTED_PROTOCOL_VERSION = 0x84, RC_CLIENT_ID_NOT_VALID = 0x85,
	RC_BAD_USER_NAME_OR_PASSWORD = 0x86, RC_NOT_AUTHORIZED = 0x87, RC_SERVER_UNAVAILABLE = 0x88,
	RC_SERVER_BUSY = 0x89, RC_BANNED = 0x8A, RC_SERVER_SHUTTING_DOWN = 0x8B, RC_BAD_AUTHENTICATION_METHOD = 0x8C,
	RC_KEEP_ALIVE_TIMEOUT = 0x8D, RC_SESSION_TAKEN_OVER = 0x8E, RC_TOPIC_FILTER_INVALID = 0x8F,
	RC_TOPIC_NAME_INVALID = 0x90, RC_PACKET_IDENTIFIER_IN_USE = 0x91, RC_PACKET_IDENTIFIER_NOT_FOUND = 0x92,
	RC_RECEIVE_MAXIMUM_EXCEEDED = 0x93, RC_TOPIC_ALIAS_INVALID = 0x94, RC_PACKET_TOO_LARGE = 0x95,
	RC_MESSAGE_RATE_TOO_HIGH = 0x96, RC_QUOTA_EXCEEDED = 0x97, RC_ADMINISTRATIVE_ACTION = 0x98,
	RC_PAYLOAD_FORMAT_INVALID = 0x99, RC_RETAIN_NOT_SUPPORTED = 0x9A, RC_QOS_NOT_SUPPORTED = 0x9B,
	RC_USE_ANOTHER_SERVER = 0x9C, RC_SERVER_MOVED = 0x9D, RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E,
	RC_CONNECTION_RATE_EXCEEDED = 0x9F, RC_MAXIMUM_CONNECT_TIME = 0xA0,
	RC_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1, RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2,
};

enum mqtt_property { /* MQTT 5.0 section 2.2.2.2 */
	PROP_PAYLOAD_FORMAT = 0x01, PROP_MESSAGE_EXPIRY = 0x02, PROP_CONTENT_TYPE = 0x03, PROP_RESPONSE_TOPIC = 0x08,
	PROP_CORRELATION_DATA = 0x09, PROP_SUBSCRIPTION_IDENTIFIER = 0x0B, PROP_SESSION_EXPIRY = 0x11,
	PROP_ASSIGNED_CLIENT_ID = 0x12, PROP_SERVER_KEEP_ALIVE = 0x13, PROP_AUTH_METHOD = 0x15, PROP_AUTH_DATA = 0x16,
	PROP_REQUEST_PROBLEM_INFO = 0x17, PROP_WILL_DELAY = 0x18, PROP_REQUEST_RESPONSE_INFO = 0x19,
	PROP_RESPONSE_INFO = 0x1A, PROP_SERVER_REFERENCE = 0x1C, PROP_REASON_STRING = 0x1F, PROP_RECEIVE_MAXIMUM = 0x21,
	PROP_TOPIC_ALIAS_MAXIMUM = 0x22, PROP_TOPIC_ALIAS = 0x23, PROP_MAXIMUM_QOS = 0x24, PROP_RETAIN_AVAILABLE = 0x25,
	PROP_USER_PROPERTY = 0x26, PROP_MAXIMUM_PACKET_SIZE = 0x27, PROP_WILDCARD_AVAILABLE = 0x28,
	PROP_SUBSCRIPTION_ID_AVAILABLE = 0x29, PROP_SHARED_AVAILABLE = 0x2A,
};

const char *mqtt_type_name(unsigned type);   /* "PUBLISH"; "?" */
const char *mqtt_reason_name(unsigned code); /* "Not authorized" ... */
bool mqtt_reason_valid(unsigned type, uint8_t code); /* does CONNACK, PUBACK ... have that Reason Code (MQTT 5.0)? */

/* ---- framing ---------------------------------------------------------------- */
struct mqtt_frame {
	uint8_t type, flags;	/* high and low half of the first byte */
	uint8_t header_len;	/* of the fixed header: 2-5 */
	uint32_t remaining;	/* bytes behind it */
};
/*
 * Read a fixed header. @return 1: *f filled; 0: more bytes are needed; -1: malformed
 * (reserved type 0, reserved flags [MQTT-2.1.3-1], fifth length byte, length not in its
 * shortest form [MQTT-1.5.5-1], PINGREQ and PINGRESP with a body). QoS 3 is
 * malformed too [MQTT-3.3.1-4]; AUTH (15) is left to the caller, who knows the version.
 */
int mqtt_frame_read(const uint8_t *p, size_t len, struct mqtt_frame *f);

/* ---- properties ------------------------------------------------------------- */
/* Properties with an unknown id are left out by size and put alike. */
size_t mqtt_properties_size(const struct grapnel_property *props, size_t count);
uint8_t *mqtt_properties_put(uint8_t *p, const struct grapnel_property *props, size_t count); /* without length */
/* Walk an encoded, already validated block. @return 1: *out filled; 0: end; -1: damaged. Start with *pos = 0. */
int mqtt_property_next(struct grapnel_str block, size_t *pos, struct grapnel_property *out);

/* ---- the properties of an Application Message (PUBLISH and Will) ------------- */
struct mqtt_message_props {
	struct grapnel_str block; /* as received, validated, without length; absent in 3.x */
	uint32_t message_expiry;  /* seconds, when has_message_expiry */
	uint32_t will_delay;	  /* seconds; Will only */
	uint16_t topic_alias;	  /* 0: none; PUBLISH only */
	bool has_message_expiry;
	bool payload_is_utf8;	  /* Payload Format Indicator 1 */
	bool plain;		  /* block can be forwarded as it is: no alias, expiry, delay, subscription id in it */
	struct grapnel_str response_topic; /* .data NULL: none */
};
/* Bytes that must be passed on (format, content type, response topic, correlation data, user properties, in order). */
size_t mqtt_forward_size(const struct mqtt_message_props *mp);
uint8_t *mqtt_forward_put(uint8_t *p, const struct mqtt_message_props *mp);

/* ---- CONNECT / CONNACK ------------------------------------------------------- */
struct mqtt_will {
	struct grapnel_str topic_name, payload;
	struct mqtt_message_props props;
	uint8_t qos;
	bool retain;
};
struct mqtt_connect {
	uint8_t version; /* 3, 4, 5; valid also when the rest failed, 0 when name and level were not readable or not ours */
	bool bridge;	 /* bit 7 of the level, as bridges set it in 3.x; version has it removed */
	bool clean_start;
	bool has_will, has_username, has_password;
	bool request_problem_info, request_response_info; /* defaults 1, 0 */
	uint16_t keep_alive;
	uint16_t receive_maximum;    /* default 65535 */
	uint16_t topic_alias_maximum; /* default 0 */
	uint32_t session_expiry;     /* default 0; 3.x: 0 or UINT32_MAX from Clean Session */
	uint32_t maximum_packet_size; /* 0: no limit given */
	struct grapnel_str client_id, username, password;
	struct grapnel_str auth_method, auth_data; /* .data NULL: absent */
	struct grapnel_str props; /* encoded block */
	struct mqtt_will will;
};
/* 3.1: a flagged User Name or Password may be missing at the end; has_* then say so. */
uint8_t mqtt_connect_decode(struct wire *w, struct mqtt_connect *c);
/* In v5 the properties come from props and will.props.block, not from the members read out of them. */
size_t mqtt_connect_size(const struct mqtt_connect *c);
uint8_t *mqtt_connect_encode(uint8_t *p, const struct mqtt_connect *c);

struct mqtt_connack {
	bool session_present;
	uint8_t reason_code; /* MQTT 5; encoded as the 3.x return code for 3.x (mqtt_connack_code_v3) */
	const struct grapnel_property *props; /* to encode, v5 only */
	size_t prop_count;
	struct grapnel_str prop_block; /* decoded */
};
uint8_t mqtt_connack_code_v3(uint8_t reason_code); /* 0x85->2, 0x86->4, 0x87->5, 0x88.. ->3, 0x84->1 ... */
uint8_t mqtt_connack_decode(struct wire *w, uint8_t version, struct mqtt_connack *c);
size_t mqtt_connack_size(uint8_t version, const struct mqtt_connack *c);
uint8_t *mqtt_connack_encode(uint8_t *p, uint8_t version, const struct mqtt_connack *c);

/* ---- PUBLISH ------------------------------------------------------------------ */
struct mqtt_publish {
	struct grapnel_str topic_name; /* empty only with an alias (v5) */
	struct grapnel_str payload;
	struct mqtt_message_props props;
	uint16_t packet_id; /* 0 for QoS 0 */
	uint8_t qos;
	bool retain, dup;
	bool again; /* the core's; the decoder leaves it alone */
};
/*
 * Decode the body of a PUBLISH; flags are the fixed header's. In the hot path: one pass,
 * no work for what is absent. A Topic Name is checked for UTF-8, U+0000, '+', '#' and (without alias) emptiness.
 */
uint8_t mqtt_publish_decode(struct wire *w, uint8_t version, uint8_t flags, struct mqtt_publish *p);
/* What a Client receives: Subscription Identifiers are allowed; they stay in props.block. */
uint8_t mqtt_publish_decode_from_server(struct wire *w, uint8_t version, uint8_t flags, struct mqtt_publish *p);

struct mqtt_publish_out { /* everything but the payload, which the caller appends */
	struct grapnel_str topic_name;	  /* may be empty with an alias */
	struct grapnel_str forward_props; /* as mqtt_forward_put wrote them; v5 only */
	const uint32_t *subscription_ids; /* v5 only */
	unsigned subscription_id_count;
	uint32_t message_expiry;	  /* seconds left */
	uint32_t payload_len;
	uint16_t packet_id, topic_alias;
	uint8_t qos;
	bool retain, dup, has_message_expiry;
};
size_t mqtt_publish_head_size(uint8_t version, const struct mqtt_publish_out *o); /* without payload */
uint8_t *mqtt_publish_head_encode(uint8_t *p, uint8_t version, const struct mqtt_publish_out *o);

/* ---- PUBACK, PUBREC, PUBREL, PUBCOMP ------------------------------------------- */
struct mqtt_ack {
	uint16_t packet_id;
	uint8_t reason_code;
	struct grapnel_str reason_string; /* .data NULL: none */
	struct grapnel_str props;	  /* decoded block */
};
uint8_t mqtt_ack_decode(struct wire *w, uint8_t version, uint8_t type, struct mqtt_ack *a); /* refuses reason codes this type does not have */
size_t mqtt_ack_size(uint8_t version, const struct mqtt_ack *a);
uint8_t *mqtt_ack_encode(uint8_t *p, uint8_t version, uint8_t type, const struct mqtt_ack *a);
/* The same for Reason Code 0 without Reason String: four bytes, in all versions. */
#define MQTT_ACK_PLAIN_SIZE 4
static inline void
mqtt_ack_encode_plain(uint8_t *p, uint8_t type, uint16_t packet_id)
{
	p[0] = (uint8_t)(type << 4 | (type == MQTT_PUBREL ? 2 : 0));
	p[1] = 2;
	p[2] = (uint8_t)(packet_id >> 8);
	p[3] = (uint8_t)packet_id;
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ------------------------------------------------------ */
struct mqtt_subscription {
	struct grapnel_str filter; /* as sent, $share/ included; well-formed UTF-8 */
	struct grapnel_str share;  /* ShareName; .data NULL: not shared */
	struct grapnel_str rest;   /* filter without $share/name/; .data NULL: the syntax is wrong, answer 0x8F (3.x: 0x80) */
	uint8_t qos, retain_handling;
	bool no_local, retain_as_published;
};
struct mqtt_subscribe { /* also UNSUBSCRIBE */
	uint16_t packet_id;
	uint32_t subscription_id; /* 0: none */
	struct grapnel_str props;
	struct wire items;	/* validated; walk a copy with mqtt_subscribe_next */
	unsigned count;		/* >= 1 [MQTT-3.8.3-2] */
};
uint8_t mqtt_subscribe_decode(struct wire *w, uint8_t version, struct mqtt_subscribe *s);
uint8_t mqtt_unsubscribe_decode(struct wire *w, uint8_t version, struct mqtt_subscribe *s);
bool mqtt_subscribe_next(struct wire *items, uint8_t version, struct mqtt_subscription *out);   /* false: end */
bool mqtt_unsubscribe_next(struct wire *items, uint8_t version, struct mqtt_subscription *out);
size_t mqtt_subscribe_size(uint8_t version, uint8_t type, uint32_t subscription_id, const struct mqtt_subscription *items, unsigned count);
uint8_t *mqtt_subscribe_encode(uint8_t *p, uint8_t version, uint8_t type, uint16_t packet_id, uint32_t subscription_id,
    const struct mqtt_subscription *items, unsigned count);

struct mqtt_suback { /* also UNSUBACK */
	uint16_t packet_id;
	const uint8_t *codes; /* MQTT 5 codes; encoded as 0x80 for every failure in 3.x; a 3.x UNSUBACK has none */
	unsigned count;
	struct grapnel_str reason_string;
	struct grapnel_str props; /* decoded block */
};
uint8_t mqtt_suback_decode(struct wire *w, uint8_t version, uint8_t type, struct mqtt_suback *s);
size_t mqtt_suback_size(uint8_t version, uint8_t type, const struct mqtt_suback *s);
uint8_t *mqtt_suback_encode(uint8_t *p, uint8_t version, uint8_t type, const struct mqtt_suback *s);

/* ---- DISCONNECT, AUTH ------------------------------------------------------------- */
struct mqtt_disconnect { /* also AUTH */
	uint8_t reason_code;
	bool has_session_expiry;
	uint32_t session_expiry;
	struct grapnel_str reason_string, server_reference, auth_method, auth_data; /* .data NULL: none */
	struct grapnel_str props; /* decoded block */
};
uint8_t mqtt_disconnect_decode(struct wire *w, uint8_t version, struct mqtt_disconnect *d); /* as sent by a client or a server */
uint8_t mqtt_auth_decode(struct wire *w, struct mqtt_disconnect *d);
size_t mqtt_disconnect_size(uint8_t version, uint8_t type, const struct mqtt_disconnect *d);
uint8_t *mqtt_disconnect_encode(uint8_t *p, uint8_t version, uint8_t type, const struct mqtt_disconnect *d);

/* PINGREQ, PINGRESP: two bytes. */
uint8_t *mqtt_ping_encode(uint8_t *p, uint8_t type);

#endif
