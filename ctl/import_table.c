/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every directive of mosquitto.conf(5) of 2.0 and 2.1, and the older names that these still take. Where a row's fate is OPEN,
 * somebody converts it; its words say why nobody did.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include <string.h>

#define BRIDGE(name)                                         \
	{                                                    \
		name, IMPORT_BRIDGE, IMPORT_LOST, NULL, NULL \
	} /* reported with its connection */
#define OLD(name, now)                                      \
	{                                                   \
		name, IMPORT_GLOBAL, IMPORT_OPEN, NULL, now \
	}
#define NO_TLS "it has no effect without certfile and keyfile, or psk_hint"

/* clang-format off */
static const struct import_known table[] = {
	{ "accept_protocol_versions", IMPORT_LISTENER, IMPORT_OPEN, "none of 3, 4 and 5 is in it", NULL },
	{ "acl_file", IMPORT_SECURITY, IMPORT_OPEN, NULL, NULL },
	BRIDGE("address"),
	OLD("addresses", "address"),
	{ "allow_anonymous", IMPORT_SECURITY, IMPORT_OPEN, NULL, NULL },
	{ "allow_duplicate_messages", IMPORT_GLOBAL, IMPORT_SAME, "a client whose subscriptions overlap gets each message once", NULL },
	{ "allow_zero_length_clientid", IMPORT_SECURITY, IMPORT_OPEN, NULL, NULL },
	OLD("auth_plugin", "plugin"),
	{ "auth_plugin_deny_special_chars", IMPORT_PLUGIN, IMPORT_OPEN, "it stands under no plugin", NULL },
	{ "auto_id_prefix", IMPORT_SECURITY, IMPORT_LOST, "ids that the broker chooses begin with \"auto\"", NULL },
	{ "autosave_interval", IMPORT_GLOBAL, IMPORT_SAME, "what is to be kept is written before it is acknowledged (store { durability })", NULL },
	{ "autosave_on_changes", IMPORT_GLOBAL, IMPORT_SAME, "what is to be kept is written before it is acknowledged (store { durability })", NULL },
	{ "bind_address", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "bind_interface", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	BRIDGE("bridge_alpn"),
	BRIDGE("bridge_attempt_unsubscribe"),
	BRIDGE("bridge_bind_address"),
	BRIDGE("bridge_cafile"),
	BRIDGE("bridge_capath"),
	BRIDGE("bridge_certfile"),
	BRIDGE("bridge_ciphers"),
	BRIDGE("bridge_ciphers_tls1.3"),
	BRIDGE("bridge_identity"),
	BRIDGE("bridge_insecure"),
	BRIDGE("bridge_keyfile"),
	BRIDGE("bridge_max_packet_size"),
	BRIDGE("bridge_max_topic_alias"),
	BRIDGE("bridge_outgoing_retain"),
	BRIDGE("bridge_protocol_version"),
	BRIDGE("bridge_psk"),
	BRIDGE("bridge_receive_maximum"),
	BRIDGE("bridge_reload_type"),
	BRIDGE("bridge_require_ocsp"),
	BRIDGE("bridge_session_expiry_interval"),
	BRIDGE("bridge_tcp_keepalive"),
	BRIDGE("bridge_tcp_user_timeout"),
	BRIDGE("bridge_tls_use_os_certs"),
	BRIDGE("bridge_tls_version"),
	{ "cafile", IMPORT_LISTENER, IMPORT_OPEN, "without require_certificate nobody is asked for a certificate; authorities between certfile's certificate and its root belong into that file", NULL },
	{ "capath", IMPORT_LISTENER, IMPORT_OPEN, "without require_certificate nobody is asked for a certificate; authorities between certfile's certificate and its root belong into that file", NULL },
	{ "certfile", IMPORT_LISTENER, IMPORT_OPEN, "it needs keyfile, too", NULL },
	{ "check_retain_source", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "ciphers", IMPORT_LISTENER, IMPORT_OPEN, NO_TLS, NULL },
	{ "ciphers_tls1.3", IMPORT_LISTENER, IMPORT_OPEN, NO_TLS, NULL },
	BRIDGE("cleansession"),
	OLD("clientid", "remote_clientid"),
	{ "clientid_prefixes", IMPORT_GLOBAL, IMPORT_LOST, "clients are known by their user names; rights can hang on the client id (%c in ACL rules)", NULL },
	BRIDGE("connection"),
	{ "connection_messages", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "crlfile", IMPORT_LISTENER, IMPORT_OPEN, "it has no effect without require_certificate", NULL },
	{ "dhparamfile", IMPORT_LISTENER, IMPORT_SAME, "keys are exchanged by elliptic curves, which need no such file (groups)", NULL },
	{ "disable_client_cert_date_checks", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "enable_control_api", IMPORT_GLOBAL, IMPORT_LOST, "grapnelctl says it: \"grapnelctl plugin list\", \"grapnelctl status\"", NULL },
	{ "enable_proxy_protocol", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "global_max_clients", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "global_max_connections", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	OLD("global_plugin", "plugin"),
	{ "http_dir", IMPORT_LISTENER, IMPORT_LOST, "the broker serves no files: let a web server do it", NULL },
	BRIDGE("idle_timeout"),
	{ "include_dir", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	BRIDGE("keepalive_interval"),
	{ "keyfile", IMPORT_LISTENER, IMPORT_OPEN, "it needs certfile, too", NULL },
	{ "listener", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "listener_allow_anonymous", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "listener_auto_id_prefix", IMPORT_LISTENER, IMPORT_LOST, "ids that the broker chooses begin with \"auto\"", NULL },
	BRIDGE("local_cleansession"),
	BRIDGE("local_clientid"),
	BRIDGE("local_password"),
	BRIDGE("local_username"),
	{ "log_dest", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "log_facility", IMPORT_GLOBAL, IMPORT_LOST, "syslog gets the facility \"daemon\"", NULL },
	{ "log_timestamp", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "log_timestamp_format", IMPORT_GLOBAL, IMPORT_LOST, "the time stands in each line as in 2026-01-31T12:00:00", NULL },
	{ "log_type", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "max_connections", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "max_inflight_bytes", IMPORT_GLOBAL, IMPORT_LOST, "messages under way are counted (max_inflight), not measured", NULL },
	{ "max_inflight_messages", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "max_keepalive", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "max_packet_size", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "max_qos", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "max_queued_bytes", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "max_queued_messages", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "max_topic_alias", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "max_topic_alias_broker", IMPORT_LISTENER, IMPORT_LOST, "topic_alias_maximum is for both ways", NULL },
	OLD("maximum_qos", "max_qos"),
	{ "memory_limit", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "message_size_limit", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "mount_point", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	BRIDGE("notification_topic"),
	BRIDGE("notifications"),
	BRIDGE("notifications_local_only"),
	{ "packet_buffer_size", IMPORT_GLOBAL, IMPORT_SAME, "buffers are as large as they need to be (read_buffer); a WebSocket request may have 8 KiB", NULL },
	OLD("password", "remote_password"),
	{ "password_file", IMPORT_SECURITY, IMPORT_OPEN, NULL, NULL },
	{ "per_listener_settings", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "persistence", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "persistence_file", IMPORT_GLOBAL, IMPORT_OPEN, "nothing is kept without persistence", NULL },
	{ "persistence_location", IMPORT_GLOBAL, IMPORT_OPEN, "nothing is kept without persistence", NULL },
	{ "persistent_client_expiration", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "pid_file", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "plugin", IMPORT_SECURITY, IMPORT_OPEN, NULL, NULL },
	OLD("plugin_load", "plugin"),
	{ "plugin_use", IMPORT_LISTENER, IMPORT_OPEN, "there is no plugin_load of that name", NULL },
	{ "port", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "protocol", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "proxy_protocol_v2_require_tls", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "psk_file", IMPORT_SECURITY, IMPORT_OPEN, "it has no effect without psk_hint", NULL },
	{ "psk_hint", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "queue_qos0_messages", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	BRIDGE("remote_clientid"),
	BRIDGE("remote_password"),
	BRIDGE("remote_username"),
	{ "require_certificate", IMPORT_LISTENER, IMPORT_OPEN, NO_TLS, NULL },
	BRIDGE("restart_timeout"),
	{ "retain_available", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "retain_expiry_interval", IMPORT_GLOBAL, IMPORT_SAME, "retained messages that have expired are removed without it", NULL },
	OLD("retained_persistence", "persistence"),
	{ "retry_interval", IMPORT_GLOBAL, IMPORT_SAME, "Mosquitto does not heed it any more: MQTT sends again only when a client comes back", NULL },
	BRIDGE("round_robin"),
	{ "set_tcp_nodelay", IMPORT_GLOBAL, IMPORT_SAME, "TCP_NODELAY is always set", NULL },
	{ "socket_domain", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	BRIDGE("start_type"),
	{ "store_clean_interval", IMPORT_GLOBAL, IMPORT_SAME, "Mosquitto does not heed it any more", NULL },
	{ "sys_interval", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	BRIDGE("threshold"),
	{ "tls_engine", IMPORT_LISTENER, IMPORT_LOST, "keys are in files; a proxy with TLS in front can use an engine (proxy_protocol)", NULL },
	{ "tls_engine_kpass_sha1", IMPORT_LISTENER, IMPORT_LOST, "keys are in files, without a passphrase", NULL },
	{ "tls_keyform", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "tls_version", IMPORT_LISTENER, IMPORT_OPEN, NO_TLS, NULL },
	BRIDGE("topic"),
	BRIDGE("try_private"),
	{ "upgrade_outgoing_qos", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	{ "use_identity_as_username", IMPORT_LISTENER, IMPORT_OPEN, NO_TLS, NULL },
	{ "use_subject_as_username", IMPORT_LISTENER, IMPORT_OPEN, NO_TLS, NULL },
	{ "use_username_as_clientid", IMPORT_LISTENER, IMPORT_OPEN, NULL, NULL },
	{ "user", IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
	OLD("username", "remote_username"),
	OLD("websockets_headers_size", "packet_buffer_size"),
	{ "websockets_log_level", IMPORT_GLOBAL, IMPORT_LOST, "log { level = debug } has it all", NULL },
	{ "websockets_origin", IMPORT_LISTENER, IMPORT_OPEN, "it has no effect without protocol websockets", NULL },
	{ NULL, IMPORT_GLOBAL, IMPORT_OPEN, NULL, NULL },
};
static const struct import_known plugin_option = { "plugin_opt_*", IMPORT_PLUGIN, IMPORT_OPEN, "it stands under no plugin", NULL };
/* clang-format on */

static const struct import_known *
row(const char *name)
{
	for (const struct import_known *k = table; k->name != NULL; k++)
		if (strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

const struct import_known *
import_known(const char *name)
{
	const struct import_known *k;

	if (strncmp(name, "plugin_opt_", 11) == 0 || strncmp(name, "auth_opt_", 9) == 0)
		return &plugin_option;
	k = row(name);
	return k != NULL && k->same_as != NULL ? row(k->same_as) : k;
}

const struct import_known *
import_known_at(size_t i)
{
	return i < sizeof(table) / sizeof(table[0]) - 1 ? &table[i] : NULL;
}
