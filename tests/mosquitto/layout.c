/* SPDX-License-Identifier: Apache-2.0 */
/* The layouts and numbers in plugins/mosquitto-compat/mosquitto_abi.h are those of Mosquitto's headers: it compiles, or not. */
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#include "mosquitto-compat/mosquitto_abi.h"

#define SAME(theirs, ours, member)                                                          \
	_Static_assert(offsetof(struct theirs, member) == offsetof(struct ours, member) &&  \
		sizeof(((struct theirs *)0)->member) == sizeof(((struct ours *)0)->member), \
	    #theirs "." #member)
#define SAME_SIZE(theirs, ours) \
	_Static_assert(sizeof(struct theirs) == sizeof(struct ours), #theirs)
#define IS(theirs, ours) _Static_assert((int)(theirs) == (int)(ours), #theirs)

SAME_SIZE(mosquitto_opt, opt);
SAME(mosquitto_opt, opt, key);
SAME(mosquitto_opt, opt, value);

SAME_SIZE(mosquitto_evt_reload, evt_reload);
SAME(mosquitto_evt_reload, evt_reload, options);
SAME(mosquitto_evt_reload, evt_reload, option_count);

SAME_SIZE(mosquitto_evt_acl_check, evt_acl_check);
SAME(mosquitto_evt_acl_check, evt_acl_check, client);
SAME(mosquitto_evt_acl_check, evt_acl_check, topic);
SAME(mosquitto_evt_acl_check, evt_acl_check, payload);
SAME(mosquitto_evt_acl_check, evt_acl_check, properties);
SAME(mosquitto_evt_acl_check, evt_acl_check, access);
SAME(mosquitto_evt_acl_check, evt_acl_check, payloadlen);
SAME(mosquitto_evt_acl_check, evt_acl_check, qos);
SAME(mosquitto_evt_acl_check, evt_acl_check, retain);

SAME_SIZE(mosquitto_evt_basic_auth, evt_basic_auth);
SAME(mosquitto_evt_basic_auth, evt_basic_auth, client);
SAME(mosquitto_evt_basic_auth, evt_basic_auth, username);
SAME(mosquitto_evt_basic_auth, evt_basic_auth, password);

SAME_SIZE(mosquitto_evt_psk_key, evt_psk_key);
SAME(mosquitto_evt_psk_key, evt_psk_key, client);
SAME(mosquitto_evt_psk_key, evt_psk_key, hint);
SAME(mosquitto_evt_psk_key, evt_psk_key, identity);
SAME(mosquitto_evt_psk_key, evt_psk_key, key);
SAME(mosquitto_evt_psk_key, evt_psk_key, max_key_len);

SAME_SIZE(mosquitto_evt_extended_auth, evt_extended_auth);
SAME(mosquitto_evt_extended_auth, evt_extended_auth, client);
SAME(mosquitto_evt_extended_auth, evt_extended_auth, data_in);
SAME(mosquitto_evt_extended_auth, evt_extended_auth, data_out);
SAME(mosquitto_evt_extended_auth, evt_extended_auth, data_in_len);
SAME(mosquitto_evt_extended_auth, evt_extended_auth, data_out_len);
SAME(mosquitto_evt_extended_auth, evt_extended_auth, auth_method);

SAME_SIZE(mosquitto_evt_control, evt_control);
SAME(mosquitto_evt_control, evt_control, client);
SAME(mosquitto_evt_control, evt_control, topic);
SAME(mosquitto_evt_control, evt_control, payload);
SAME(mosquitto_evt_control, evt_control, properties);
SAME(mosquitto_evt_control, evt_control, reason_string);
SAME(mosquitto_evt_control, evt_control, payloadlen);
SAME(mosquitto_evt_control, evt_control, qos);
SAME(mosquitto_evt_control, evt_control, reason_code);
SAME(mosquitto_evt_control, evt_control, retain);

SAME_SIZE(mosquitto_evt_message, evt_message);
SAME(mosquitto_evt_message, evt_message, client);
SAME(mosquitto_evt_message, evt_message, topic);
SAME(mosquitto_evt_message, evt_message, payload);
SAME(mosquitto_evt_message, evt_message, properties);
SAME(mosquitto_evt_message, evt_message, reason_string);
SAME(mosquitto_evt_message, evt_message, payloadlen);
SAME(mosquitto_evt_message, evt_message, qos);
SAME(mosquitto_evt_message, evt_message, reason_code);
SAME(mosquitto_evt_message, evt_message, retain);

SAME_SIZE(mosquitto_evt_tick, evt_tick);
SAME(mosquitto_evt_tick, evt_tick, now_ns);
SAME(mosquitto_evt_tick, evt_tick, next_ns);
SAME(mosquitto_evt_tick, evt_tick, now_s);
SAME(mosquitto_evt_tick, evt_tick, next_s);

SAME_SIZE(mosquitto_evt_disconnect, evt_disconnect);
SAME(mosquitto_evt_disconnect, evt_disconnect, client);
SAME(mosquitto_evt_disconnect, evt_disconnect, reason);

SAME_SIZE(mosquitto_acl_msg, acl_msg);
SAME(mosquitto_acl_msg, acl_msg, topic);
SAME(mosquitto_acl_msg, acl_msg, payload);
SAME(mosquitto_acl_msg, acl_msg, payloadlen);
SAME(mosquitto_acl_msg, acl_msg, qos);
SAME(mosquitto_acl_msg, acl_msg, retain);

IS(MOSQ_EVT_RELOAD, EVT_RELOAD);
IS(MOSQ_EVT_ACL_CHECK, EVT_ACL_CHECK);
IS(MOSQ_EVT_BASIC_AUTH, EVT_BASIC_AUTH);
IS(MOSQ_EVT_EXT_AUTH_START, EVT_EXT_AUTH_START);
IS(MOSQ_EVT_EXT_AUTH_CONTINUE, EVT_EXT_AUTH_CONTINUE);
IS(MOSQ_EVT_CONTROL, EVT_CONTROL);
IS(MOSQ_EVT_MESSAGE, EVT_MESSAGE);
IS(MOSQ_EVT_PSK_KEY, EVT_PSK_KEY);
IS(MOSQ_EVT_TICK, EVT_TICK);
IS(MOSQ_EVT_DISCONNECT, EVT_DISCONNECT);

IS(MOSQ_ACL_READ, ACCESS_READ);
IS(MOSQ_ACL_WRITE, ACCESS_WRITE);
IS(MOSQ_ACL_SUBSCRIBE, ACCESS_SUBSCRIBE);
IS(MOSQ_ACL_UNSUBSCRIBE, ACCESS_UNSUBSCRIBE);

IS(MOSQ_LOG_INFO, MOSQ_LOG_INFO_BIT);
IS(MOSQ_LOG_NOTICE, MOSQ_LOG_NOTICE_BIT);
IS(MOSQ_LOG_WARNING, MOSQ_LOG_WARNING_BIT);
IS(MOSQ_LOG_ERR, MOSQ_LOG_ERR_BIT);

IS(MOSQ_ERR_AUTH_CONTINUE, MOSQ_AUTH_CONTINUE);
IS(MOSQ_ERR_SUCCESS, MOSQ_SUCCESS);
IS(MOSQ_ERR_NOMEM, MOSQ_NOMEM);
IS(MOSQ_ERR_PROTOCOL, MOSQ_PROTOCOL);
IS(MOSQ_ERR_INVAL, MOSQ_INVAL);
IS(MOSQ_ERR_NOT_FOUND, MOSQ_NOT_FOUND);
IS(MOSQ_ERR_CONN_LOST, MOSQ_CONN_LOST);
IS(MOSQ_ERR_NOT_SUPPORTED, MOSQ_NOT_SUPPORTED);
IS(MOSQ_ERR_AUTH, MOSQ_AUTH);
IS(MOSQ_ERR_ACL_DENIED, MOSQ_ACL_DENIED);
IS(MOSQ_ERR_UNKNOWN, MOSQ_UNKNOWN);
IS(MOSQ_ERR_PLUGIN_DEFER, MOSQ_PLUGIN_DEFER);
IS(MOSQ_ERR_MALFORMED_UTF8, MOSQ_MALFORMED_UTF8);
IS(MOSQ_ERR_KEEPALIVE, MOSQ_KEEPALIVE);
IS(MOSQ_ERR_DUPLICATE_PROPERTY, MOSQ_DUPLICATE_PROPERTY);
IS(MOSQ_ERR_ALREADY_EXISTS, MOSQ_ALREADY_EXISTS);
