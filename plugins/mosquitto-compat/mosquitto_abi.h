/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mosquitto_abi - what crosses the border between Mosquitto and its plugins, API versions 3 to 5
 *
 * The layouts and numbers of Mosquitto 2.0, written down anew under other names, so that nothing of Mosquitto is needed to build
 * this; tests/mosquitto/layout.c holds them against mosquitto_broker.h and mosquitto_plugin.h.
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_ABI_H
#define PLUGINS_MOSQUITTO_COMPAT_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct mosquitto;	 /* a client: helper.h */
struct mqtt5__property;	 /* helper.h */

enum mosq_err {
	MOSQ_QUOTA_EXCEEDED = -6,
	MOSQ_AUTH_CONTINUE = -4,
	MOSQ_SUCCESS = 0,
	MOSQ_NOMEM = 1,
	MOSQ_PROTOCOL = 2,
	MOSQ_INVAL = 3,
	MOSQ_NOT_FOUND = 6,
	MOSQ_CONN_LOST = 7,
	MOSQ_PAYLOAD_SIZE = 9,
	MOSQ_NOT_SUPPORTED = 10,
	MOSQ_AUTH = 11,
	MOSQ_ACL_DENIED = 12,
	MOSQ_UNKNOWN = 13,
	MOSQ_PLUGIN_DEFER = 17,
	MOSQ_MALFORMED_UTF8 = 18,
	MOSQ_KEEPALIVE = 19,
	MOSQ_DUPLICATE_PROPERTY = 22,
	MOSQ_ALREADY_EXISTS = 31,
	MOSQ_PLUGIN_IGNORE = 32, /* 2.1: as if there were no callback */
};

enum mosq_log {
	MOSQ_LOG_INFO_BIT = 1 << 0,
	MOSQ_LOG_NOTICE_BIT = 1 << 1,
	MOSQ_LOG_WARNING_BIT = 1 << 2,
	MOSQ_LOG_ERR_BIT = 1 << 3,
};

enum mosq_access {
	ACCESS_READ = 1,
	ACCESS_WRITE = 2,
	ACCESS_SUBSCRIBE = 4,
	ACCESS_UNSUBSCRIBE = 8,
};

enum mosq_event {
	EVT_RELOAD = 1,
	EVT_ACL_CHECK = 2,
	EVT_BASIC_AUTH = 3,
	EVT_EXT_AUTH_START = 4,
	EVT_EXT_AUTH_CONTINUE = 5,
	EVT_CONTROL = 6,
	EVT_MESSAGE = 7,
	EVT_PSK_KEY = 8,
	EVT_TICK = 9,
	EVT_DISCONNECT = 10,
	EVT_END = 11,
};

struct opt {
	char *key, *value;
};

struct evt_reload {
	void *future;
	struct opt *options;
	int option_count;
	void *future2[4];
};

struct evt_acl_check {
	void *future;
	struct mosquitto *client;
	const char *topic;
	const void *payload;
	struct mqtt5__property *properties;
	int access;
	uint32_t payloadlen;
	uint8_t qos;
	bool retain;
	void *future2[4];
};

struct evt_basic_auth {
	void *future;
	struct mosquitto *client;
	char *username, *password;
	union {
		void *future2[4];
		uint16_t password_len; /* 2.1 */
	} more;
};

struct evt_psk_key {
	void *future;
	struct mosquitto *client;
	const char *hint, *identity;
	char *key;
	int max_key_len;
	void *future2[4];
};

struct evt_extended_auth {
	void *future;
	struct mosquitto *client;
	const void *data_in;
	void *data_out;
	uint16_t data_in_len, data_out_len;
	const char *auth_method;
	void *future2[3];
};

struct evt_control {
	void *future;
	struct mosquitto *client;
	const char *topic;
	const void *payload;
	const struct mqtt5__property *properties;
	char *reason_string;
	uint32_t payloadlen;
	uint8_t qos, reason_code;
	bool retain;
	void *future2[4];
};

struct evt_message {
	void *future;
	struct mosquitto *client;
	char *topic;
	void *payload;
	struct mqtt5__property *properties;
	char *reason_string;
	uint32_t payloadlen;
	uint8_t qos, reason_code;
	bool retain;
	void *future2[4];
};

struct evt_tick {
	void *future;
	long now_ns, next_ns;
	time_t now_s, next_s;
	void *future2[4];
};

struct evt_disconnect {
	void *future;
	struct mosquitto *client;
	int reason;
	void *future2[4];
};

typedef int (*callback_fn)(int event, void *event_data, void *userdata);

/* version 5 */
typedef int (*plugin_version_fn)(int count, const int *versions);
typedef int (*plugin_init_fn)(void *identifier, void **userdata, struct opt *options, int count);
typedef int (*plugin_cleanup_fn)(void *userdata, struct opt *options, int count);

/* versions 3 and 4 */
struct acl_msg {
	const char *topic;
	const void *payload;
	long payloadlen;
	int qos;
	bool retain;
};
typedef int (*auth_version_fn)(void);
typedef int (*auth_init_fn)(void **userdata, struct opt *options, int count);
typedef int (*auth_cleanup_fn)(void *userdata, struct opt *options, int count);
typedef int (*auth_security_fn)(void *userdata, struct opt *options, int count, bool reload);
typedef int (*auth_acl_check_fn)(void *userdata, int access, struct mosquitto *client, const struct acl_msg *msg);
typedef int (*auth_unpwd_check_fn)(void *userdata, struct mosquitto *client, const char *username, const char *password);
typedef int (*auth_psk_key_get_fn)(void *userdata, struct mosquitto *client, const char *hint, const char *identity, char *key, int max_key_len);
typedef int (*auth_start_fn)(void *userdata, struct mosquitto *client, const char *method, bool reauth, const void *data_in,
    uint16_t data_in_len, void **data_out, uint16_t *data_out_len);
typedef int (*auth_continue_fn)(void *userdata, struct mosquitto *client, const char *method, const void *data_in,
    uint16_t data_in_len, void **data_out, uint16_t *data_out_len);

#endif
