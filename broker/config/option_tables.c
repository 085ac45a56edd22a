/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All options of the broker itself, one row each, in the order of the alphabet.
 */
#include "address.h"
#include "cidr.h"
#include "conf.h"
#include "mqtt/topic.h"
#include "options.h"
#include "settings.h"

#include <net/if.h>
#include <stddef.h>
#include <string.h>

#define AT(type, member) offsetof(struct type, member), sizeof(((struct type *)0)->member)
#define TOP(member)      AT(settings, member)
#define LIM(member)      AT(limits, member)
#define LIS(member)      AT(listener_settings, member)
#define SNI(member)      AT(server_name_settings, member)
#define PLU(member)      AT(plugin_settings, member)
#define REQ(member)      AT(require_settings, member)

#define KIB        INT64_C(1024)
#define MIB        (KIB * 1024)
#define GIB        (MIB * 1024)
#define TIB        (GIB * 1024)
#define HOUR_MS    INT64_C(3600000)
#define PACKET_MAX 268435460 /* 5 bytes of fixed header and the largest Remaining Length */

/* ---- rules that a type cannot say ------------------------------------------------------------ */

static bool
check_not_empty(const char *value, char *why, size_t size)
{
	if (value[0] != '\0')
		return true;
	snprintf(why, size, "must not be empty");
	return false;
}

static bool
check_log_to(const char *value, char *why, size_t size)
{
	if (value[0] == '/' || option_choice("stderr|stdout|syslog", value) >= 0)
		return true;
	snprintf(why, size, "must be stderr, stdout, syslog or the absolute path of a file");
	return false;
}

static bool
check_bind(const char *value, char *why, size_t size)
{
	struct address a;

	if (!address_parse(value, &a, why, size))
		return false;
	address_fini(&a);
	return true;
}

/* What the kernel takes for a name, which it cuts otherwise. */
static bool
check_interface(const char *value, char *why, size_t size)
{
	size_t len = strlen(value);

	if (len > 0 && len < IFNAMSIZ && strcspn(value, "/: \t\n") == len)
		return true;
	snprintf(why, size, "must be the name of a network interface, 1 to 15 characters");
	return false;
}

static bool
check_network(const char *value, char *why, size_t size)
{
	struct cidr network;

	return cidr_parse(value, &network, why, size);
}

static bool
check_websocket_path(const char *value, char *why, size_t size)
{
	if (value[0] == '/' && strpbrk(value, "?# ") == NULL)
		return true;
	snprintf(why, size, "must begin with / and have no query, or be none");
	return false;
}

/* A socket of the file system: its permissions are the only guard, and an abstract one has none. */
static bool
check_admin_socket(const char *value, char *why, size_t size)
{
	if (value[0] == '/')
		return address_check_path(value, why, size);
	snprintf(why, size, "must be an absolute path%s",
	    value[0] == '@' ? ": an abstract socket has no permissions" : "");
	return false;
}

/* It becomes a part of Topic Names [MQTT-4.7.1-1], before "$share" is looked at. */
static bool
check_mountpoint(const char *value, char *why, size_t size)
{
	if (strpbrk(value, "+#") != NULL) {
		snprintf(why, size, "must not hold + or #");
		return false;
	}
	if (value[0] == '$') {
		snprintf(why, size, "must not begin with $");
		return false;
	}
	if (strlen(value) > 1024) {
		snprintf(why, size, "must not be longer than 1024 bytes");
		return false;
	}
	return true;
}

/* It stands in event ids, metrics and $SYS topics. */
static bool
check_node_name(const char *value, char *why, size_t size)
{
	if (conf_is_title(value))
		return true;
	snprintf(why, size, "must be 1 to 64 letters, digits, \".\", \"_\" or \"-\"");
	return false;
}

static bool
check_filter(const char *value, char *why, size_t size)
{
	struct grapnel_str share, rest;

	if (topic_filter_valid((struct grapnel_str){ value, strlen(value) }, &share, &rest) &&
	    share.data == NULL)
		return true;
	snprintf(why, size, "must be a Topic Filter");
	return false;
}

/* ---- the top level and its small blocks ------------------------------------------------------ */

/* clang-format off */
const struct option_def top_options[] = {
	{ "group", OPTION_STRING, TOP(group), "none", 0, 0, RELOAD_RESTART, OPTION_NONE, NULL,
	    check_not_empty, "Group to run as when started as root; none: the group of user." },
	{ "max_traces", OPTION_INT, TOP(max_traces), "32", 1, 1024, RELOAD_LIVE, 0, NULL, NULL,
	    "Clients under trace at once, per worker." },
	{ "node_name", OPTION_STRING, TOP(node_name), "auto", 0, 0, RELOAD_RESTART, OPTION_AUTO,
	    NULL, check_node_name, "Name of this broker in event ids; auto: the host name." },
	{ "pid_file", OPTION_STRING, TOP(pid_file), "none", 0, 0, RELOAD_RESTART, OPTION_NONE, NULL,
	    check_not_empty, "File that gets the process id." },
	{ "plugin_directory", OPTION_STRING, TOP(plugin_directory), GRAPNEL_PLUGIN_DIR, 0, 0,
	    RELOAD_RESTART, 0, NULL, check_not_empty, "Where the .so files of plugins are." },
	{ "profile", OPTION_ENUM, TOP(profile), "server", PROFILE_SERVER, 0, RELOAD_RESTART, 0,
	    "server|edge", NULL,
	    "What the defaults of all options are for: edge is a machine with little memory." },
	{ "read_buffer", OPTION_BYTES, TOP(read_buffer), "64k", 4 * KIB, 16 * MIB, RELOAD_RESTART,
	    0, NULL, NULL, "Most bytes that a worker reads from a client at once." },
	{ "sys_interval", OPTION_MS, TOP(sys_interval_ms), "10s", 0, 24 * HOUR_MS, RELOAD_LIVE, 0,
	    NULL, NULL, "Time between two updates of the $SYS topics; 0: none." },
	{ "user", OPTION_STRING, TOP(user), "none", 0, 0, RELOAD_RESTART, OPTION_NONE, NULL,
	    check_not_empty, "User to run as when started as root." },
	{ "workers", OPTION_INT, TOP(workers), "auto", 1, 256, RELOAD_RESTART, OPTION_AUTO, NULL,
	    NULL, "Threads that serve clients; auto: one per CPU." },
	{ 0 }
};

const struct option_def admin_options[] = {
	{ "group", OPTION_STRING, TOP(admin.group), "none", 0, 0, RELOAD_RESTART, OPTION_NONE, NULL,
	    check_not_empty, "Group of the admin socket; none: that of the process." },
	{ "mode", OPTION_MODE, TOP(admin.mode), "0660", 0, 0777, RELOAD_RESTART, 0, NULL, NULL,
	    "Permissions of the admin socket, octal." },
	{ "socket", OPTION_STRING, TOP(admin.socket), "/run/grapnel/admin.sock", 0, 0,
	    RELOAD_RESTART, OPTION_NONE, NULL, check_admin_socket,
	    "Unix socket that grapnelctl talks to; none: off." },
	{ 0 }
};

const struct option_def log_options[] = {
	{ "format", OPTION_ENUM, TOP(log.format), "text", 0, 0, RELOAD_LIVE, 0, "text|json", NULL,
	    "How a line of the log looks." },
	{ "level", OPTION_ENUM, TOP(log.level), "info", GRAPNEL_LOG_ERROR, 0, RELOAD_LIVE, 0,
	    "error|warning|notice|info|debug|trace", NULL,
	    "The least important messages that are logged." },
	{ "to", OPTION_STRING, TOP(log.to), "stderr", 0, 0, RELOAD_LIVE, 0, NULL, check_log_to,
	    "Where the log goes: stderr, stdout, syslog or the path of a file." },
	{ 0 }
};

const struct option_def store_options[] = {
	{ "directory", OPTION_STRING, TOP(store.directory), "/var/lib/grapnel", 0, 0,
	    RELOAD_RESTART, 0, NULL, check_not_empty,
	    "Where sessions and retained messages are kept." },
	{ "durability", OPTION_ENUM, TOP(store.durability), "strict", 0, 0, RELOAD_RESTART, 0,
	    "strict|relaxed|off", NULL,
	    "When an acknowledgement is sent: after the disk has it, before, or nothing is kept." },
	{ "max_bytes", OPTION_BYTES, TOP(store.max_bytes), "16g", MIB, 1024 * TIB, RELOAD_RESTART, 0,
	    NULL, NULL, "Size of the store from which on no new messages are taken in." },
	{ "memory_for_queues", OPTION_BYTES, TOP(store.memory_for_queues), "256m", MIB, 1024 * TIB,
	    RELOAD_RESTART, 0, NULL, NULL,
	    "Memory for queued messages; what is more is left on the disk." },
	{ "off_topics", OPTION_LIST, TOP(store.not_kept), "none", 0, 0, RELOAD_RESTART, OPTION_NONE,
	    NULL, check_filter, "Topic Filters of messages that are kept in memory only." },
	{ "relaxed_delay", OPTION_MS, TOP(store.delay_ms), "10ms", 1, 60000, RELOAD_RESTART, 0, NULL,
	    NULL, "Longest time until the disk has what nobody waits for." },
	{ "strict_topics", OPTION_LIST, TOP(store.strict), "none", 0, 0, RELOAD_RESTART, OPTION_NONE,
	    NULL, check_filter, "Topic Filters of messages that are kept as durability = strict says." },
	{ 0 }
};

/* ---- limits ---------------------------------------------------------------------------------- */

const struct option_def limits_total_options[] = {
	{ "handshake_budget", OPTION_MS, LIM(handshake_budget_ms), "2ms", 1, 1000, RELOAD_LIVE, 0,
	    NULL, NULL,
	    "Time of a worker's turn that TLS handshakes may take while other clients wait." },
	{ "max_memory", OPTION_BYTES, LIM(max_memory), "auto", 32 * MIB, 1024 * TIB, RELOAD_LIVE,
	    OPTION_AUTO, NULL, NULL,
	    "Memory of the broker; auto: three quarters of what the machine, or its control "
	    "group, has." },
	{ "max_sessions", OPTION_INT, LIM(max_sessions), "1000000", 1, INT64_C(1000000000),
	    RELOAD_LIVE, 0, NULL, NULL, "Sessions, connected or not." },
	{ "max_subscriptions", OPTION_INT, LIM(max_subscriptions), "1000000", 1,
	    INT64_C(1000000000), RELOAD_LIVE, 0, NULL, NULL, "Subscriptions of all sessions." },
	{ "max_total_queued_bytes", OPTION_BYTES, LIM(max_total_queued_bytes), "2g", MIB,
	    1024 * TIB, RELOAD_LIVE, 0, NULL, NULL, "Bytes of messages that wait in all queues." },
	{ "retained_max_bytes", OPTION_BYTES, LIM(retained_max_bytes), "1g", 0, 1024 * TIB,
	    RELOAD_LIVE, 0, NULL, NULL, "Bytes of all retained messages." },
	{ "retained_max_messages", OPTION_INT, LIM(retained_max_messages), "1000000", 0,
	    INT64_C(1000000000), RELOAD_LIVE, 0, NULL, NULL, "Retained messages." },
	{ 0 }
};

const struct option_def limits_options[] = {
	{ "auth_timeout", OPTION_MS, LIM(auth_timeout_ms), "10s", 100, HOUR_MS, RELOAD_NEW_CONNS, 0,
	    NULL, NULL, "Time a plugin has for a decision; then it counts as unavailable." },
	{ "byte_rate", OPTION_BYTES, LIM(byte_rate), "0", 0, TIB, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Bytes per second read from one client; 0: no limit." },
	{ "check_payload_format", OPTION_BOOL, LIM(check_payload_format), "no", 0, 0,
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Refuse a payload that says it is UTF-8 text but is not." },
	{ "connect_timeout", OPTION_MS, LIM(connect_timeout_ms), "10s", 100, HOUR_MS,
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Time a client has, from accept, to send its whole CONNECT." },
	{ "connection_rate_per_address", OPTION_INT, LIM(connection_rate_per_address), "0", 0,
	    1000000, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Network connections per second from one address (IPv6: one /64); 0: no limit." },
	{ "max_connect_size", OPTION_BYTES, LIM(max_connect_size), "64k", 128, PACKET_MAX,
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Largest packet accepted before a client is authenticated." },
	{ "max_connections", OPTION_INT, LIM(max_connections), "0", 0, 100000000, RELOAD_LIVE, 0,
	    NULL, NULL, "Network connections at once; 0: as many as there are descriptors for." },
	{ "max_connections_per_address", OPTION_INT, LIM(max_connections_per_address), "0", 0,
	    100000000, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Network connections at once from one address (IPv6: one /64); 0: no limit." },
	{ "max_inflight", OPTION_INT, LIM(max_inflight), "512", 1, 65535, RELOAD_NEW_CONNS, 0, NULL,
	    NULL, "QoS 1 and 2 messages sent to a client that it has not acknowledged yet." },
	{ "max_keep_alive", OPTION_SECONDS, LIM(max_keep_alive), "65535", 1, 65535,
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Longest Keep Alive; a client that asks for more, or for none, gets this." },
	{ "max_output_bytes", OPTION_BYTES, LIM(max_output_bytes), "16m", 64 * KIB, 64 * GIB,
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Bytes that wait to be written to a connected client." },
	{ "max_packet_size", OPTION_BYTES, LIM(max_packet_size), "1m", 128, PACKET_MAX,
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Largest packet accepted from a client; MQTT 5 clients are told." },
	{ "max_qos", OPTION_INT, LIM(max_qos), "2", 0, 2, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Highest QoS a client may publish with or gets." },
	{ "max_queued_bytes", OPTION_BYTES, LIM(max_queued_bytes), "64m", KIB, TIB,
	    RELOAD_NEW_CONNS, 0, NULL, NULL, "Bytes of the messages that wait for one session." },
	{ "max_queued_messages", OPTION_INT, LIM(max_queued_messages), "10000", 1,
	    INT64_C(1000000000), RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Messages that wait for one session, because it is offline or has no room in flight." },
	{ "max_session_expiry", OPTION_SECONDS, LIM(max_session_expiry), "14d", 0,
	    INT64_C(4294967295), RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Longest time a session outlives its connection." },
	{ "max_subscriptions_per_client", OPTION_INT, LIM(max_subscriptions_per_client), "0", 0,
	    INT64_C(1000000000), RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Subscriptions of one session; 0: only max_subscriptions counts." },
	{ "max_topic_levels", OPTION_INT, LIM(max_topic_levels), "128", 1, 65536, RELOAD_NEW_CONNS,
	    0, NULL, NULL, "Levels of a Topic Name or Topic Filter." },
	{ "message_rate", OPTION_INT, LIM(message_rate), "0", 0, INT64_C(1000000000),
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "PUBLISH packets per second read from one client; 0: no limit." },
	{ "protocol_versions", OPTION_PROTOCOLS, LIM(protocols), "[3.1, 3.1.1, 5.0]", 0, 0,
	    RELOAD_NEW_CONNS, 0, "3.1|3.1.1|5.0", NULL, "MQTT versions that are spoken." },
	{ "publisher_pause", OPTION_MS, LIM(publisher_pause_ms), "1s", 0, HOUR_MS, RELOAD_NEW_CONNS,
	    0, NULL, NULL,
	    "Longest time that publishers wait for a slow receiver before messages to it are "
	    "queued or dropped." },
	{ "queue_qos0", OPTION_BOOL, LIM(queue_qos0), "no", 0, 0, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Keep QoS 0 messages, too, for sessions that are offline." },
	{ "receive_maximum", OPTION_INT, LIM(receive_maximum), "512", 1, 65535, RELOAD_NEW_CONNS, 0,
	    NULL, NULL, "QoS 1 and 2 messages of one client that are under way to the broker." },
	{ "retain_available", OPTION_BOOL, LIM(retain_available), "yes", 0, 0, RELOAD_NEW_CONNS, 0,
	    NULL, NULL, "Whether clients may publish retained messages." },
	{ "share_strategy", OPTION_ENUM, LIM(share_strategy), "round-robin", 0, 0, RELOAD_LIVE, 0,
	    "round-robin|random|sticky|by-publisher", NULL,
	    "Which member of a Shared Subscription gets a message." },
	{ "shared_available", OPTION_BOOL, LIM(shared_available), "yes", 0, 0, RELOAD_NEW_CONNS, 0,
	    NULL, NULL, "Whether clients may use Shared Subscriptions." },
	{ "takeover", OPTION_ENUM, LIM(takeover_any), "owner", 0, 0, RELOAD_NEW_CONNS, 0,
	    "owner|any", NULL, "Who may take over a session: only the user who made it, or any." },
	{ "topic_alias_maximum", OPTION_INT, LIM(topic_alias_maximum), "16", 0, 65535,
	    RELOAD_NEW_CONNS, 0, NULL, NULL, "Topic Aliases of one connection, each way." },
	{ "wildcard_available", OPTION_BOOL, LIM(wildcard_available), "yes", 0, 0, RELOAD_NEW_CONNS,
	    0, NULL, NULL, "Whether clients may subscribe with + and #." },
	{ 0 }
};

/* ---- blocks with a title --------------------------------------------------------------------- */

const struct option_def listener_options[] = {
	{ "anonymous", OPTION_BOOL, LIS(anonymous), "no", 0, 0, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Let clients in that bring no credentials at all." },
	{ "backlog", OPTION_INT, LIS(backlog), "1024", 1, 65535, RELOAD_LIVE, 0, NULL, NULL,
	    "Connections the kernel holds until they are accepted." },
	{ "bind", OPTION_STRING, LIS(bind), NULL, 0, 0, RELOAD_RESTART, OPTION_REQUIRED, NULL,
	    check_bind,
	    "Where to listen: ADDRESS:PORT, *:PORT, unix:/path, unix:@name, systemd:NAME, or "
	    "udp:ADDRESS:PORT." },
	{ "certificate", OPTION_LIST, LIS(certificate), "none", 0, 0, RELOAD_NEW_CONNS, OPTION_NONE,
	    NULL, check_not_empty,
	    "PEM file of the certificate and its chain; several, of different kinds of keys, "
	    "in brackets." },
	{ "cipher_suites", OPTION_STRING, LIS(cipher_suites), "auto", 0, 0, RELOAD_NEW_CONNS,
	    OPTION_AUTO, NULL, check_not_empty,
	    "Cipher suites of TLS 1.3 in OpenSSL's syntax; auto: the three that all have." },
	{ "ciphers", OPTION_STRING, LIS(ciphers), "auto", 0, 0, RELOAD_NEW_CONNS, OPTION_AUTO, NULL,
	    check_not_empty,
	    "Ciphers of TLS 1.2 in OpenSSL's syntax; auto: those with forward secrecy and "
	    "authenticated encryption." },
	{ "client_ca", OPTION_STRING, LIS(client_ca), "none", 0, 0, RELOAD_NEW_CONNS, OPTION_NONE,
	    NULL, check_not_empty,
	    "PEM file, or folder of such files, of the authorities that sign client certificates." },
	{ "client_certificate", OPTION_ENUM, LIS(client_certificate), "none", 0, 0,
	    RELOAD_NEW_CONNS, 0, "none|optional|required", NULL,
	    "Whether clients are asked for a certificate, and whether they must have one." },
	{ "crl", OPTION_LIST, LIS(crl), "none", 0, 0, RELOAD_NEW_CONNS, OPTION_NONE, NULL,
	    check_not_empty,
	    "PEM files of revocation lists; with one, each authority of client_ca needs one." },
	{ "groups", OPTION_STRING, LIS(groups), "auto", 0, 0, RELOAD_NEW_CONNS, OPTION_AUTO, NULL,
	    check_not_empty, "Groups of the key exchange in OpenSSL's syntax; auto: OpenSSL's own." },
	{ "handler", OPTION_STRING, LIS(handler), "none", 0, 0, RELOAD_RESTART, OPTION_NONE, NULL,
	    check_not_empty,
	    "Plugin that gets the socket and speaks for its clients; none: the broker itself." },
	{ "identity", OPTION_ENUM, LIS(identity), "none", 0, 0, RELOAD_NEW_CONNS, 0,
	    "none|cn|san|subject|peer", NULL,
	    "What becomes the user name: a part of the client's certificate, or the peer of a Unix "
	    "socket." },
	{ "interface", OPTION_STRING, LIS(interface), "none", 0, 0, RELOAD_RESTART, OPTION_NONE,
	    NULL, check_interface, "Network interface to listen on; none: all." },
	{ "mountpoint", OPTION_STRING, LIS(mountpoint), "", 0, 0, RELOAD_NEW_CONNS, 0, NULL,
	    check_mountpoint,
	    "Prefix of all topics of this listener's clients, which never see it." },
	{ "ocsp_response", OPTION_STRING, LIS(ocsp_response), "none", 0, 0, RELOAD_NEW_CONNS,
	    OPTION_NONE, NULL, check_not_empty,
	    "DER file of the OCSP response that is sent with the certificate." },
	{ "private_key", OPTION_LIST, LIS(private_key), "none", 0, 0, RELOAD_NEW_CONNS, OPTION_NONE,
	    NULL, check_not_empty, "PEM file of the certificate's key; several in brackets." },
	{ "proxy_protocol", OPTION_BOOL, LIS(proxy_protocol), "no", 0, 0, RELOAD_NEW_CONNS, 0, NULL,
	    NULL, "Whether connections begin with a PROXY header, version 1 or 2." },
	{ "psk", OPTION_BOOL, LIS(psk_hook), "no", 0, 0, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Whether plugins are asked for TLS pre-shared keys." },
	{ "psk_file", OPTION_STRING, LIS(psk_file), "none", 0, 0, RELOAD_NEW_CONNS, OPTION_NONE,
	    NULL, check_not_empty, "File of TLS pre-shared keys, \"identity:hex key\" a line." },
	{ "tcp_keep_alive", OPTION_SECONDS, LIS(tcp_keep_alive), "0", 0, 32767, RELOAD_NEW_CONNS, 0,
	    NULL, NULL, "Silence after which the system asks whether a peer is there; 0: never." },
	{ "tcp_user_timeout", OPTION_MS, LIS(tcp_user_timeout_ms), "0", 0, 24 * HOUR_MS,
	    RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Time that sent data may stay unacknowledged; 0: what the system does." },
	{ "tls", OPTION_BOOL, LIS(tls), "no", 0, 0, RELOAD_NEW_CONNS, 0, NULL, NULL,
	    "Whether clients have to speak TLS." },
	{ "tls_minimum", OPTION_ENUM, LIS(tls_minimum), "1.2", 0, 0, RELOAD_NEW_CONNS, 0, "1.2|1.3",
	    NULL, "Oldest version of TLS." },
	{ "trusted_proxies", OPTION_LIST, LIS(trusted_proxies), "none", 0, 0, RELOAD_NEW_CONNS,
	    OPTION_NONE, NULL, check_network,
	    "Addresses whose PROXY header or X-Forwarded-For is believed: networks, or unix." },
	{ "unix_group", OPTION_STRING, LIS(unix_group), "none", 0, 0, RELOAD_RESTART, OPTION_NONE,
	    NULL, check_not_empty, "Group of the Unix socket." },
	{ "unix_mode", OPTION_MODE, LIS(unix_mode), "0660", 0, 0777, RELOAD_RESTART, 0, NULL, NULL,
	    "Permissions of the Unix socket, octal." },
	{ "unix_owner", OPTION_STRING, LIS(unix_owner), "none", 0, 0, RELOAD_RESTART, OPTION_NONE,
	    NULL, check_not_empty, "Owner of the Unix socket." },
	{ "websocket", OPTION_ENUM, LIS(websocket), "no", 0, 0, RELOAD_NEW_CONNS, 0, "no|yes|auto",
	    NULL, "Whether clients speak MQTT in WebSocket; auto: each as it likes." },
	{ "websocket_origins", OPTION_LIST, LIS(websocket_origins), "none", 0, 0, RELOAD_NEW_CONNS,
	    OPTION_NONE, NULL, check_not_empty,
	    "Origins of web pages that may connect, such as \"https://example.org\"; none: all." },
	{ "websocket_path", OPTION_STRING, LIS(websocket_path), "none", 0, 0, RELOAD_NEW_CONNS,
	    OPTION_NONE, NULL, check_websocket_path, "Path of the upgrade request; none: any." },
	{ 0 }
};

const struct option_def server_name_options[] = {
	{ "certificate", OPTION_LIST, SNI(certificate), NULL, 0, 0, RELOAD_NEW_CONNS,
	    OPTION_REQUIRED, NULL, check_not_empty,
	    "PEM file of the certificate for this name and its chain; several in brackets." },
	{ "ocsp_response", OPTION_STRING, SNI(ocsp_response), "none", 0, 0, RELOAD_NEW_CONNS,
	    OPTION_NONE, NULL, check_not_empty,
	    "DER file of the OCSP response that is sent with the certificate." },
	{ "private_key", OPTION_LIST, SNI(private_key), NULL, 0, 0, RELOAD_NEW_CONNS,
	    OPTION_REQUIRED, NULL, check_not_empty,
	    "PEM file of the certificate's key; several in brackets." },
	{ 0 }
};

#define ORDER_OF(hook)                                                                         \
	{                                                                                      \
		"order_" hook, OPTION_ORDER, 0, 0, NULL, 0, 65535, RELOAD_LIVE, 0, NULL, NULL, \
		    "Place among the plugins for " hook " alone."                              \
	}

const struct option_def plugin_options_common[] = {
	{ "breaker_failures", OPTION_INT, PLU(breaker_failures), "10", 0, 1000000, RELOAD_LIVE, 0, NULL, NULL,
	    "Questions in a row that end unavailable before the plugin is not asked for a while; 0: it always is." },
	{ "breaker_max_wait", OPTION_MS, PLU(breaker_max_wait_ms), "10s", 1, HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Longest time for which a plugin in trouble is not asked." },
	{ "breaker_wait", OPTION_MS, PLU(breaker_wait_ms), "1s", 1, HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "First time for which a plugin in trouble is not asked; it doubles while the trouble lasts." },
	{ "cache", OPTION_BOOL, PLU(cache), "yes", 0, 0, RELOAD_LIVE, 0, NULL, NULL,
	    "Whether answers are kept, for plugins that say what their answers depend on." },
	{ "cache_jitter", OPTION_INT, PLU(cache_jitter), "10", 0, 90, RELOAD_LIVE, 0, NULL, NULL,
	    "Per cent by which the time of an answer may be shorter, so that not all end at once." },
	{ "cache_negative_ttl", OPTION_MS, PLU(cache_negative_ttl_ms), "5s", 0, 24 * HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Time for which a refusal, or that a user is not known, is kept; 0: not." },
	{ "cache_size", OPTION_INT, PLU(cache_size), "10000", 0, 10000000, RELOAD_LIVE, 0, NULL, NULL,
	    "Answers kept; the one not used for longest goes first." },
	{ "cache_ttl", OPTION_MS, PLU(cache_ttl_ms), "30s", 0, 24 * HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Time for which an answer that allows is kept, unless the plugin says another; 0: not." },
	{ "drain", OPTION_MS, PLU(drain_ms), "60s", 0, HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Time that connections a plugin speaks for have to end after a reload replaced it." },
	{ "enabled", OPTION_BOOL, PLU(enabled), "yes", 0, 0, RELOAD_LIVE, 0, NULL, NULL,
	    "Whether the plugin is loaded." },
	{ "event_queue", OPTION_INT, PLU(event_queue), "10000", 1, 10000000, RELOAD_LIVE, 0, NULL,
	    NULL, "Events that wait for the plugin, per worker." },
	{ "listeners", OPTION_LIST, PLU(listeners), "all", 0, 0, RELOAD_LIVE, OPTION_ALL, NULL, check_not_empty,
	    "Titles of the listeners whose clients it is asked about and told of." },
	{ "max_pending", OPTION_INT, PLU(max_pending), "10000", 1, 10000000, RELOAD_LIVE, 0, NULL,
	    NULL, "Requests the plugin may have under way." },
	{ "max_values", OPTION_INT, PLU(max_values), "10000", 0, 100000, RELOAD_LIVE, 0, NULL, NULL,
	    "Values the plugin may keep in the store." },
	{ "max_values_bytes", OPTION_BYTES, PLU(max_values_bytes), "16m", 0, INT64_C(1) << 30, RELOAD_LIVE, 0, NULL, NULL,
	    "Bytes of the values the plugin may keep, with their keys." },
	{ "module", OPTION_STRING, PLU(module), "auto", 0, 0, RELOAD_LIVE, OPTION_AUTO, NULL,
	    check_not_empty,
	    "File in plugin_directory without .so, or a path; auto: the section's title." },
	{ "offload_queue", OPTION_INT, PLU(offload_queue), "1000", 1, 10000000, RELOAD_LIVE, 0,
	    NULL, NULL, "Blocking jobs of the plugin that wait for a thread." },
	{ "offload_threads", OPTION_INT, PLU(offload_threads), "4", 1, 1024, RELOAD_LIVE, 0, NULL,
	    NULL, "Blocking jobs of the plugin that run at once." },
	{ "on_error", OPTION_ENUM, PLU(on_error), "unavailable", 0, 0, RELOAD_LIVE, 0,
	    "unavailable|deny|next", NULL,
	    "What counts when the plugin's backend is in trouble." },
	{ "order", OPTION_INT, PLU(order), "100", 0, 65535, RELOAD_LIVE, 0, NULL, NULL,
	    "Place among the plugins; the lowest is asked first." },
	ORDER_OF("acl_check"),
	ORDER_OF("client_auth_exchange"),
	ORDER_OF("client_authenticate"),
	ORDER_OF("client_revalidate"),
	ORDER_OF("client_subscribe"),
	ORDER_OF("client_unsubscribe"),
	ORDER_OF("message_acknowledge"),
	ORDER_OF("message_deliver"),
	ORDER_OF("message_publish"),
	ORDER_OF("tls_psk_key"),
	{ "shadow", OPTION_BOOL, PLU(shadow), "no", 0, 0, RELOAD_LIVE, 0, NULL, NULL,
	    "Whether the plugin is asked about logins and rights only to log where it would decide otherwise." },
	{ "stale_for", OPTION_MS, PLU(stale_for_ms), "0", 0, 24 * HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Time for which a kept answer that allows may be used beyond its end while the plugin is unavailable." },
	{ "timeout", OPTION_MS, PLU(timeout_ms), "0", 0, HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Time the plugin has for a decision; 0: limits.auth_timeout." },
	{ 0 }
};

static bool
check_except(const char *value, char *why, size_t size)
{
	struct cidr network;

	return strcmp(value, "loopback") == 0 || cidr_parse(value, &network, why, size);
}

const struct option_def guard_options[] = {
	{ "addresses", OPTION_INT, TOP(guard.addresses), "100000", 1, 10000000, RELOAD_LIVE, 0, NULL, NULL,
	    "Addresses, and user names of addresses, that are remembered; the one quiet for longest goes first." },
	{ "ban", OPTION_MS, TOP(guard.ban_ms), "10m", 0, 24 * HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Time for which an address with too many failures is kept out; it doubles each time. 0: none is." },
	{ "ban_max", OPTION_MS, TOP(guard.ban_max_ms), "1d", 1, 24 * HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Longest ban." },
	{ "delay", OPTION_MS, TOP(guard.delay_ms), "500ms", 0, 60000, RELOAD_LIVE, 0, NULL, NULL,
	    "Time that a login waits after delay_after failures of its user name from its address; it doubles. 0: none." },
	{ "delay_after", OPTION_INT, TOP(guard.delay_after), "5", 1, 1000000, RELOAD_LIVE, 0, NULL, NULL,
	    "Failures of one user name from one address before logins have to wait." },
	{ "delay_max", OPTION_MS, TOP(guard.delay_max_ms), "5s", 1, 60000, RELOAD_LIVE, 0, NULL, NULL,
	    "Longest wait; logins that would wait longer, behind others, are refused." },
	{ "enabled", OPTION_BOOL, TOP(guard.enabled), "yes", 0, 0, RELOAD_LIVE, 0, NULL, NULL,
	    "Whether failed logins are watched at all." },
	{ "except", OPTION_LIST, TOP(guard.except), "loopback", 0, 0, RELOAD_LIVE, OPTION_NONE, NULL, check_except,
	    "Networks that are not watched; loopback: 127.0.0.0/8 and ::1." },
	{ "failures", OPTION_INT, TOP(guard.failures), "100", 1, 1000000, RELOAD_LIVE, 0, NULL, NULL,
	    "Failed logins of one address, not yet forgiven, after which it is banned." },
	{ "forgive", OPTION_MS, TOP(guard.forgive_ms), "2s", 1, HOUR_MS, RELOAD_LIVE, 0, NULL, NULL,
	    "Time after which one failure is forgiven." },
	{ 0 }
};

static bool
check_required_hook(const char *value, char *why, size_t size)
{
	if (option_choice("acl_check|client_authenticate", value) >= 0)
		return true;
	snprintf(why, size, "must be client_authenticate or acl_check");
	return false;
}

const struct option_def require_options[] = {
	{ "hooks", OPTION_LIST, REQ(hooks), "client_authenticate", 0, 0, RELOAD_LIVE, 0, NULL, check_required_hook,
	    "For which questions: client_authenticate, acl_check." },
	{ "plugins", OPTION_LIST, REQ(plugins), NULL, 0, 0, RELOAD_LIVE, OPTION_REQUIRED, NULL, check_not_empty,
	    "The plugins, by the titles of their sections, in the order they are asked." },
	{ 0 }
};

const struct section_def settings_sections[] = {
	{ "", NULL, { top_options, NULL }, "The top level.", "" },
	{ "admin", NULL, { admin_options, NULL }, "The door for grapnelctl.", "" },
	{ "guard", NULL, { guard_options, NULL }, "Against guessing of passwords.", "" },
	{ "limits", NULL, { limits_options, limits_total_options },
	    "Per client or in total; a listener may differ.", "" },
	{ "listener", "listener", { listener_options, limits_options }, "Where clients connect.", "" },
	{ "log", NULL, { log_options, NULL }, "What is logged, how and where.", "" },
	{ "plugin", "plugin", { plugin_options_common, NULL },
	    "A plugin; its own options stand beside these.", "" },
	{ "require", "require", { require_options, NULL },
	    "Plugins that decide as one: all of them, or any; the title says which.", "" },
	{ "server_name", "server_name", { server_name_options, NULL },
	    "Certificates for those who ask for a host by this name (SNI).", "listener" },
	{ "store", NULL, { store_options, NULL }, "What survives a restart.", "" },
	{ 0 }
};

/* What profile = edge changes; the list in grapnel.conf(5) is made from it. */
const struct profile_default edge_defaults[] = {
	{ top_options, "max_traces", "4" },
	{ top_options, "read_buffer", "16k" },
	{ top_options, "workers", "1" },
	{ limits_options, "max_inflight", "64" },
	{ limits_options, "max_output_bytes", "1m" },
	{ limits_options, "max_packet_size", "256k" },
	{ limits_options, "max_queued_bytes", "1m" },
	{ limits_options, "max_queued_messages", "1000" },
	{ limits_options, "receive_maximum", "64" },
	{ limits_total_options, "max_sessions", "10000" },
	{ limits_total_options, "max_subscriptions", "50000" },
	{ limits_total_options, "max_total_queued_bytes", "16m" },
	{ limits_total_options, "retained_max_bytes", "8m" },
	{ limits_total_options, "retained_max_messages", "10000" },
	{ listener_options, "backlog", "128" },
	{ plugin_options_common, "cache_size", "1000" },
	{ plugin_options_common, "event_queue", "500" },
	{ plugin_options_common, "max_pending", "500" },
	{ plugin_options_common, "max_values", "1000" },
	{ plugin_options_common, "max_values_bytes", "1m" },
	{ plugin_options_common, "offload_queue", "100" },
	{ plugin_options_common, "offload_threads", "1" },
	{ 0 }
};
/* clang-format on */

const struct section_def *
section_find(const char *name)
{
	for (const struct section_def *s = settings_sections; s->name != NULL; s++) {
		if (strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

const struct option_def *
option_find(const struct option_def *table, const char *name)
{
	for (const struct option_def *row = table; row != NULL && row->name != NULL; row++) {
		if (strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}
