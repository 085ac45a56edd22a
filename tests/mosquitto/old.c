/* SPDX-License-Identifier: Apache-2.0 */
/* A Mosquitto plugin of version 4 (OLD_VERSION), with every function that there is. Compiled against Mosquitto's own headers. */
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#include <stdlib.h>
#include <string.h>

static int here;

int
mosquitto_auth_plugin_version(void)
{
	return OLD_VERSION;
}

int
mosquitto_auth_plugin_init(void **user_data, struct mosquitto_opt *opts, int opt_count)
{
	*user_data = &here;
	mosquitto_log_printf(MOSQ_LOG_NOTICE, "old init options=%d %s=%s", opt_count,
	    opt_count > 0 ? opts[0].key : "", opt_count > 0 ? opts[0].value : "");
	return MOSQ_ERR_SUCCESS;
}

int
mosquitto_auth_plugin_cleanup(void *user_data, struct mosquitto_opt *opts, int opt_count)
{
	(void)opts;
	(void)opt_count;
	mosquitto_log_printf(MOSQ_LOG_NOTICE, "old cleanup userdata=%d", user_data == &here);
	return MOSQ_ERR_SUCCESS;
}

int
mosquitto_auth_security_init(
    void *user_data, struct mosquitto_opt *opts, int opt_count, bool reload)
{
	(void)user_data;
	(void)opts;
	mosquitto_log_printf(
	    MOSQ_LOG_NOTICE, "old security_init reload=%d options=%d", reload, opt_count);
	return MOSQ_ERR_SUCCESS;
}

int
mosquitto_auth_security_cleanup(
    void *user_data, struct mosquitto_opt *opts, int opt_count, bool reload)
{
	(void)user_data;
	(void)opts;
	(void)opt_count;
	mosquitto_log_printf(MOSQ_LOG_NOTICE, "old security_cleanup reload=%d", reload);
	return MOSQ_ERR_SUCCESS;
}

int
mosquitto_auth_acl_check(
    void *user_data, int access, struct mosquitto *client, const struct mosquitto_acl_msg *msg)
{
	(void)user_data;
	mosquitto_log_printf(MOSQ_LOG_INFO, "old acl_check access=%d topic=%s payloadlen=%ld id=%s",
	    access, msg->topic, msg->payloadlen, mosquitto_client_id(client));
	return strncmp(msg->topic, "deny/", 5) == 0 ? MOSQ_ERR_ACL_DENIED : MOSQ_ERR_SUCCESS;
}

int
mosquitto_auth_unpwd_check(
    void *user_data, struct mosquitto *client, const char *username, const char *password)
{
	(void)user_data;
	(void)client;
	if (username == NULL || password == NULL)
		return MOSQ_ERR_PLUGIN_DEFER;
	return strcmp(password, "secret") == 0 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
}

int
mosquitto_auth_psk_key_get(void *user_data, struct mosquitto *client, const char *hint,
    const char *identity, char *key, int max_key_len)
{
	static const char hex[] = "00112233445566778899aabbccddeeff";

	(void)user_data;
	(void)client;
	(void)hint;
	if (strncmp(identity, "psk-", 4) != 0 || max_key_len < (int)sizeof(hex))
		return MOSQ_ERR_AUTH;
	memcpy(key, hex, sizeof(hex));
	return MOSQ_ERR_SUCCESS;
}

static int
give(const char *text, void **data_out, uint16_t *data_out_len, int rc)
{
	*data_out = strdup(text);
	*data_out_len = (uint16_t)strlen(text);
	return rc;
}

int
mosquitto_auth_start(void *user_data, struct mosquitto *client, const char *method, bool reauth,
    const void *data_in, uint16_t data_in_len, void **data_out, uint16_t *data_out_len)
{
	(void)user_data;
	(void)client;
	(void)reauth;
	(void)data_in;
	(void)data_in_len;
	return strcmp(method, "two-steps") == 0
	    ? give("and then?", data_out, data_out_len, MOSQ_ERR_AUTH_CONTINUE)
	    : MOSQ_ERR_NOT_SUPPORTED;
}

int
mosquitto_auth_continue(void *user_data, struct mosquitto *client, const char *method,
    const void *data_in, uint16_t data_in_len, void **data_out, uint16_t *data_out_len)
{
	(void)user_data;
	(void)client;
	(void)method;
	return data_in_len == 6 && memcmp(data_in, "second", 6) == 0
	    ? give("welcome", data_out, data_out_len, MOSQ_ERR_SUCCESS)
	    : MOSQ_ERR_AUTH;
}
