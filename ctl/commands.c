/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum ctl_exit
no_memory(void)
{
	fprintf(stderr, "grapnelctl: no memory\n");
	return CTL_FAILED;
}

enum ctl_exit
print_json(json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT | JSON_ENCODE_ANY);

	json_decref(answer);
	if (text == NULL)
		return no_memory();
	puts(text);
	free(text);
	return CTL_OK;
}

static enum ctl_exit
no_arguments(int argc, char **argv)
{
	return argc == 1 ? CTL_OK
			 : usage_error("%s takes no argument, and \"%s\" is one", argv[0], argv[1]);
}

/* A path with one encoded value in it. */
static char *
path_with(const char *before, const char *value, const char *after, const char *value2)
{
	char *encoded = http_encode(value), *encoded2 = value2 != NULL ? http_encode(value2) : NULL,
	     *path = NULL;

	if (encoded == NULL || (value2 != NULL && encoded2 == NULL) ||
	    asprintf(&path, "%s%s%s%s", before, encoded, value2 != NULL ? after : "",
		value2 != NULL ? encoded2 : "") < 0)
		path = NULL;
	free(encoded);
	free(encoded2);
	return path;
}

/* ---- status ---------------------------------------------------------------------------------- */

static const struct column listener_columns[] = {
	{ "LISTENER", "name", false },
	{ "ADDRESS", "address", false },
	{ "CONNECTIONS", "connections", true },
	{ "ANONYMOUS", "anonymous", false },
	{ "MOUNTPOINT", "mountpoint", false },
};

enum ctl_exit
cmd_status(const struct ctl *ctl, int argc, char **argv)
{
	static const struct {
		const char *title, *key;
	} rows[] = {
		{ "node", "node" },
		{ "started", "started" },
		{ "configuration", "config" },
		{ "workers", "workers" },
		{ "connections", "connections" },
		{ "sessions", "sessions" },
		{ "  online", "sessions_online" },
		{ "subscriptions", "subscriptions" },
		{ "shared groups", "shared_groups" },
		{ "retained", "retained_messages" },
		{ "queued", "queued_messages" },
		{ "in flight", "inflight_messages" },
		{ "received", "messages_received" },
		{ "sent", "messages_sent" },
	};
	enum ctl_exit result = no_arguments(argc, argv);
	json_t *answer, *warning;
	char uptime[48], *text;
	size_t i;

	if (result != CTL_OK ||
	    (result = http_ask_json(ctl, "GET", "/v1/status", NULL, &answer)) != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	show_duration(
	    json_integer_value(json_object_get(answer, "uptime")), uptime, sizeof(uptime));
	printf("Grapnel %s, ABI %s, up %s\n\n",
	    json_string_value(json_object_get(answer, "version")),
	    json_string_value(json_object_get(answer, "abi")), uptime);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *value = json_object_get(answer, rows[i].key);

		printf("%-15s", rows[i].title);
		if (json_is_integer(value))
			printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
		else {
			text = show_escape(
			    json_is_string(value) ? json_string_value(value) : "-", NULL);
			printf("%s\n", text != NULL ? text : "?");
			free(text);
		}
	}
	putchar('\n');
	show_table(listener_columns, sizeof(listener_columns) / sizeof(listener_columns[0]),
	    json_object_get(answer, "listeners"));
	json_array_foreach(json_object_get(answer, "warnings"), i, warning)
	{
		text =
		    show_escape(json_is_string(warning) ? json_string_value(warning) : "?", NULL);
		printf("%swarning: %s\n", i == 0 ? "\n" : "", text != NULL ? text : "?");
		free(text);
	}
	json_decref(answer);
	return CTL_OK;
}

/* ---- clients --------------------------------------------------------------------------------- */

static const struct column client_columns[] = {
	{ "CLIENT", "client_id", false },
	{ "USER", "username", false },
	{ "ONLINE", "connected", false },
	{ "MQTT", "protocol", false },
	{ "PEER", "peer", false },
	{ "LISTENER", "listener", false },
	{ "SUBS", "subscriptions", true },
	{ "IN FLIGHT", "inflight", true },
	{ "QUEUED", "queued", true },
};

#define PAGE 500

static bool
to_limit(const char *text, unsigned long *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	*out = strtoul(text, &end, 10);
	return *end == '\0' && *out > 0 && *out <= 1000000000;
}

/* Follow the pages until there is no more, or limit clients are there. */
static enum ctl_exit
clients_fetch(const struct ctl *ctl, char *path, unsigned long limit, json_t *all, bool *more)
{
	enum ctl_exit result = CTL_OK;

	*more = false;
	while (path != NULL) {
		json_t *page, *client;
		const char *next;
		size_t i;

		result = http_ask_json(ctl, "GET", path, NULL, &page);
		free(path);
		path = NULL;
		if (result != CTL_OK)
			return result;
		json_array_foreach(json_object_get(page, "clients"), i, client)
		{
			if (json_array_size(all) == limit) {
				*more = true;
				break;
			}
			if (json_array_append(all, client) != 0)
				result = no_memory();
		}
		next = json_string_value(json_object_get(page, "next"));
		if (next != NULL && json_array_size(all) >= limit)
			*more = true;
		if (next != NULL && !*more && result == CTL_OK && (path = strdup(next)) == NULL)
			result = no_memory();
		json_decref(page);
	}
	return result;
}

enum ctl_exit
cmd_clients_list(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "limit", required_argument, NULL, 'l' },
		{ "username", required_argument, NULL, 'u' },
		{ "online", no_argument, NULL, 'o' },
		{ "offline", no_argument, NULL, 'O' },
		{ NULL, 0, NULL, 0 },
	};
	const char *username = NULL, *online = "";
	unsigned long limit = 1000000000;
	char *path, *encoded = NULL;
	enum ctl_exit result;
	json_t *all;
	bool more;
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			if (!to_limit(optarg, &limit))
				return usage_error("--limit takes a number, not \"%s\"", optarg);
			break;
		case 'u':
			username = optarg;
			break;
		case 'o':
			online = "&online=yes";
			break;
		case 'O':
			online = "&online=no";
			break;
		default:
			return usage_error("clients list: %s \"%s\"",
			    c == ':' ? "a value is missing behind" : "unknown option",
			    argv[optind - 1]);
		}
	}
	if (optind < argc)
		return usage_error("clients list: \"%s\" is too much", argv[optind]);
	if (username != NULL && (encoded = http_encode(username)) == NULL)
		return no_memory();
	if (asprintf(&path, "/v1/clients?limit=%lu%s%s%s", limit < PAGE ? limit : PAGE, online,
		encoded != NULL ? "&username=" : "", encoded != NULL ? encoded : "") < 0)
		path = NULL;
	free(encoded);
	if (path == NULL || (all = json_array()) == NULL) {
		free(path);
		return no_memory();
	}
	if ((result = clients_fetch(ctl, path, limit, all, &more)) != CTL_OK) {
		json_decref(all);
		return result;
	}
	if (ctl->json)
		return print_json(json_pack("{s:o, s:b}", "clients", all, "more", more));
	show_table(client_columns, sizeof(client_columns) / sizeof(client_columns[0]), all);
	if (more)
		printf("(there are more)\n");
	json_decref(all);
	return CTL_OK;
}

/* The client id and --mountpoint of show and kick, as a path. NULL: *result says why. */
static char *
client_path(int argc, char **argv, enum ctl_exit *result)
{
	static const struct option options[] = {
		{ "mountpoint", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 },
	};
	const char *mountpoint = NULL;
	char *path;
	int c;

	*result = CTL_USAGE;
	optind = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c != 'm') {
			usage_error("clients %s: %s \"%s\"", argv[0],
			    c == ':' ? "a value is missing behind" : "unknown option",
			    argv[optind - 1]);
			return NULL;
		}
		mountpoint = optarg;
	}
	if (argc - optind != 1 || argv[optind][0] == '\0') {
		usage_error(
		    "clients %s takes one client id; one that begins with - stands behind --",
		    argv[0]);
		return NULL;
	}
	if ((path = path_with("/v1/clients/", argv[optind], "?mountpoint=", mountpoint)) == NULL)
		*result = no_memory();
	return path;
}

enum ctl_exit
cmd_clients_show(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result;
	char *path = client_path(argc, argv, &result);
	json_t *answer;

	if (path == NULL)
		return result;
	result = http_ask_json(ctl, "GET", path, NULL, &answer);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	show_value(answer);
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit
cmd_clients_kick(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result;
	char *path = client_path(argc, argv, &result), *text;
	json_t *answer;

	if (path == NULL)
		return result;
	result = http_ask_json(ctl, "DELETE", path, NULL, &answer);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	text = show_escape(json_is_string(json_object_get(answer, "client_id"))
		? json_string_value(json_object_get(answer, "client_id"))
		: "?",
	    NULL);
	printf("%s is disconnected\n", text != NULL ? text : "?");
	free(text);
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit
cmd_clients_trace(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "mountpoint", required_argument, NULL, 'm' },
		{ "minutes", required_argument, NULL, 'n' },
		{ "off", no_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	const char *mountpoint = NULL;
	char *id, *where, *path, *shown, body[64];
	unsigned long minutes = 0;
	enum ctl_exit result;
	bool off = false;
	json_t *answer;
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (c) {
		case 'm':
			mountpoint = optarg;
			break;
		case 'n':
			if (!to_limit(optarg, &minutes) || minutes > 1440)
				return usage_error(
				    "--minutes takes a number from 1 to 1440, not \"%s\"", optarg);
			break;
		case 'o':
			off = true;
			break;
		default:
			return usage_error("clients trace: %s \"%s\"",
			    c == ':' ? "a value is missing behind" : "unknown option",
			    argv[optind - 1]);
		}
	}
	if (argc - optind != 1 || argv[optind][0] == '\0')
		return usage_error(
		    "clients trace takes one client id; one that begins with - stands behind --");
	if (off && minutes != 0)
		return usage_error("clients trace: --minutes and --off exclude each other");
	id = http_encode(argv[optind]);
	where = http_encode(mountpoint != NULL ? mountpoint : "");
	if (id == NULL || where == NULL ||
	    asprintf(&path, "/v1/clients/%s/trace%s%s", id,
		mountpoint != NULL ? "?mountpoint=" : "", where) < 0)
		path = NULL;
	free(id);
	free(where);
	if (path == NULL)
		return no_memory();
	snprintf(body, sizeof(body), minutes != 0 ? "{\"minutes\": %lu}" : "{}", minutes);
	result = http_ask_json(ctl, off ? "DELETE" : "POST", path, off ? NULL : body, &answer);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	shown = show_escape(argv[optind], NULL);
	printf("%s is %s trace%s\n", shown != NULL ? shown : "?", off ? "no longer under" : "under",
	    off || json_is_true(json_object_get(answer, "session")) ? ""
								    : "; it has no session now");
	free(shown);
	json_decref(answer);
	return CTL_OK;
}

/* ---- plugins --------------------------------------------------------------------------------- */

static const struct column plugin_columns[] = {
	{ "PLUGIN", "name", false },
	{ "MODULE", "plugin", false },
	{ "VERSION", "version", false },
	{ "ON ERROR", "on_error", false },
	{ "PENDING", "pending", true },
};

static const struct column kept_columns[] = {
	{ "KEPT FOR", "name", false },
	{ "VALUES", "count", true },
	{ "BYTES", "bytes", true },
};

/* {"acl_check": ["a", "b"]}: who is asked, and in which order. */
static void
show_chains(const json_t *chains)
{
	const char *hook;
	json_t *names, *name;
	bool any = false;
	size_t i;

	json_object_foreach((json_t *)chains, hook, names)
	{
		if (json_array_size(names) == 0)
			continue;
		printf("%s%-22s", any ? "" : "\n", hook);
		any = true;
		json_array_foreach(names, i, name)
		{
			char *text =
			    show_escape(json_is_string(name) ? json_string_value(name) : "?", NULL);

			printf("%s%s", i == 0 ? "" : ", ", text != NULL ? text : "?");
			free(text);
		}
		putchar('\n');
	}
}

enum ctl_exit
cmd_plugin_list(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result = no_arguments(argc, argv);
	json_t *answer;

	if (result != CTL_OK ||
	    (result = http_ask_json(ctl, "GET", "/v1/plugins", NULL, &answer)) != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	show_table(plugin_columns, sizeof(plugin_columns) / sizeof(plugin_columns[0]),
	    json_object_get(answer, "plugins"));
	show_chains(json_object_get(answer, "chains"));
	if (json_array_size(json_object_get(answer, "values_of_others")) > 0) {
		putchar('\n');
		show_table(kept_columns, sizeof(kept_columns) / sizeof(kept_columns[0]),
		    json_object_get(answer, "values_of_others"));
	}
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit
cmd_plugin_show(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result;
	json_t *answer;
	char *path;

	if (argc != 2)
		return usage_error("plugin show takes the name of one plugin");
	if ((path = path_with("/v1/plugins/", argv[1], NULL, NULL)) == NULL)
		return no_memory();
	result = http_ask_json(ctl, "GET", path, NULL, &answer);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	show_value(answer);
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit
cmd_plugin_forget(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result;
	json_t *answer;
	char *path;

	if (argc != 2)
		return usage_error("plugin forget takes the name of one plugin");
	if ((path = path_with("/v1/plugins/", argv[1], "/values", "")) == NULL)
		return no_memory();
	result = http_ask_json(ctl, "DELETE", path, NULL, &answer);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	printf("%" JSON_INTEGER_FORMAT " values are forgotten\n",
	    json_integer_value(json_object_get(answer, "forgotten")));
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit
cmd_of_plugin(const struct ctl *ctl, int argc, char **argv)
{
	json_t *arguments = json_array(), *answer;
	enum ctl_exit result;
	char *path, *body;

	for (int i = 1; i < argc; i++)
		if (json_array_append_new(arguments, json_string(argv[i])) != 0) {
			json_decref(arguments);
			return usage_error("%s: argument %d is not UTF-8", argv[0], i);
		}
	answer = json_pack("{s:o}", "arguments", arguments);
	body = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
	json_decref(answer);
	path = path_with("/v1/plugins/command/", argv[0], NULL, NULL);
	if (body == NULL || path == NULL) {
		free(body);
		free(path);
		return no_memory();
	}
	result = http_ask_json(ctl, "POST", path, body, &answer);
	free(body);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	show_value(json_object_get(answer, "answer"));
	json_decref(answer);
	return CTL_OK;
}

/* ---- the broker as a whole ------------------------------------------------------------------- */

static enum ctl_exit
print_text(const struct ctl *ctl, const char *path)
{
	struct reply reply;
	enum ctl_exit result = http_ask(ctl, "GET", path, NULL, &reply);

	if (result != CTL_OK)
		return result;
	fwrite(reply.body, 1, reply.len, stdout); /* written for programs, as it is */
	reply_clear(&reply);
	return CTL_OK;
}

enum ctl_exit
cmd_metrics(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result = no_arguments(argc, argv);

	return result != CTL_OK ? result : print_text(ctl, "/metrics");
}

enum ctl_exit
cmd_config(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result = no_arguments(argc, argv);

	return result != CTL_OK ? result : print_text(ctl, "/v1/config");
}

enum ctl_exit
cmd_reload(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result = no_arguments(argc, argv);
	json_t *answer, *warning;
	size_t i;

	if (result != CTL_OK ||
	    (result = http_ask_json(ctl, "POST", "/v1/reload", NULL, &answer)) != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	printf("reloaded\n");
	json_array_foreach(json_object_get(answer, "warnings"), i, warning)
	{
		char *text =
		    show_escape(json_is_string(warning) ? json_string_value(warning) : "?", NULL);

		printf("warning: %s\n", text != NULL ? text : "?");
		free(text);
	}
	json_decref(answer);
	return CTL_OK;
}
