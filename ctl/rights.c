/* SPDX-License-Identifier: Apache-2.0 */
/* rights - who may what, and why: grapnelctl explain, cache purge, guard */
#include "ctl.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- explain --------------------------------------------------------------------------------- */

static const struct column step_columns[] = {
	{ "PLUGIN", "plugin", false },
	{ "ANSWER", "verdict", false },
	{ "RULE", "rule", false },
	{ "HOW", "how", false },
	{ "AGE MS", "age_ms", true },
	{ "US", "microseconds", true },
};

static void
show_member(const char *title, const json_t *value)
{
	char *text = show_escape(json_is_string(value) ? json_string_value(value) : "-", NULL);

	if (json_is_string(value))
		printf("  %-10s %s\n", title, text != NULL ? text : "?");
	free(text);
}

static void
show_decision(const char *title, const json_t *d)
{
	static const char *const members[] = { "plugin", "rule", "reason", "username",
		"mountpoint" };
	char *verdict;

	if (d == NULL)
		return;
	verdict = show_escape(json_string_value(json_object_get(d, "verdict")), NULL);
	printf("%s: %s\n", title, verdict != NULL ? verdict : "?");
	free(verdict);
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		show_member(members[i], json_object_get(d, members[i]));
	if (json_is_true(json_object_get(d, "superuser")))
		printf("  superuser\n");
	if (json_object_size(json_object_get(d, "attributes")) > 0)
		show_value(json_object_get(d, "attributes"));
	if (json_array_size(json_object_get(d, "steps")) > 0)
		show_table(step_columns, sizeof(step_columns) / sizeof(step_columns[0]),
		    json_object_get(d, "steps"));
}

/* Ask for it on a terminal, take a line of a pipe. false: there is none. */
static bool
put_password(json_t *body)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n = isatty(STDIN_FILENO) == 1 ? secret_prompt("Password: ", &line, &size)
					      : secret_line(&line, &size);
	bool good =
	    n >= 0 && json_object_set_new(body, "password", json_stringn(line, (size_t)n)) == 0;

	secret_wipe(line, size);
	if (!good)
		fprintf(stderr, "grapnelctl: explain --connect: no password, or it is not UTF-8\n");
	return good;
}

static const struct option explain_options[] = {
	{ "client", required_argument, NULL, 'c' },
	{ "username", required_argument, NULL, 'u' },
	{ "publish", required_argument, NULL, 'p' },
	{ "subscribe", required_argument, NULL, 's' },
	{ "read", required_argument, NULL, 'r' },
	{ "mountpoint", required_argument, NULL, 'm' },
	{ "listener", required_argument, NULL, 'l' },
	{ "qos", required_argument, NULL, 'q' },
	{ "retain", no_argument, NULL, 'R' },
	{ "connect", no_argument, NULL, 'C' },
	{ NULL, 0, NULL, 0 },
};

/* The command line as the body of the request. */
static enum ctl_exit
explain_body(int argc, char **argv, json_t *body)
{
	bool connect = false;
	int c, index;

	optind = 0;
	while ((c = getopt_long(argc, argv, "+:", explain_options, &index)) != -1) {
		json_t *value = NULL;

		if (c == ':' || c == '?')
			return usage_error("explain: %s \"%s\"",
			    c == ':' ? "a value is missing behind" : "unknown option",
			    argv[optind - 1]);
		if (c == 'C') {
			connect = true;
			continue;
		}
		if (c == 'q' && (strlen(optarg) != 1 || optarg[0] < '0' || optarg[0] > '2'))
			return usage_error("--qos takes 0, 1 or 2, not \"%s\"", optarg);
		value = c == 'q' ? json_integer(optarg[0] - '0')
		    : c == 'R'   ? json_true()
				 : json_string(optarg);
		if (value == NULL)
			return usage_error("--%s: this is not UTF-8", explain_options[index].name);
		if (json_object_set_new(body, explain_options[index].name, value) != 0)
			return no_memory();
	}
	if (optind < argc)
		return usage_error("explain: \"%s\" is too much", argv[optind]);
	if (json_object_get(body, "client") == NULL)
		return usage_error("explain: --client is missing");
	if (connect) {
		json_object_set_new(body, "login", json_true());
		return put_password(body) ? CTL_OK : CTL_FAILED;
	}
	return CTL_OK;
}

enum ctl_exit
cmd_explain(const struct ctl *ctl, int argc, char **argv)
{
	json_t *body = json_object(), *answer;
	enum ctl_exit result = body != NULL ? explain_body(argc, argv, body) : no_memory();
	char *text;

	if (result != CTL_OK) {
		json_decref(body);
		return result;
	}
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	if (text == NULL)
		return no_memory();
	result = http_ask_json(ctl, "POST", "/v1/explain", text, &answer);
	secret_wipe(text, strlen(text));
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	if (json_object_get(answer, "login") == NULL)
		printf("%s\n",
		    json_is_true(json_object_get(answer, "session"))
			? "as the session that this client has"
			: "this client has no session: as one without attributes and rules of its "
			  "own");
	show_decision("connect", json_object_get(answer, "login"));
	show_decision("right", json_object_get(answer, "right"));
	json_decref(answer);
	return CTL_OK;
}

/* ---- cache purge ----------------------------------------------------------------------------- */

/* "user=NAME" as "username=NAME" of the query. NULL: it is none of these. */
static const char *
purge_parameter(const char *argument, const char **value)
{
	static const struct {
		const char *word, *name;
	} words[] = { { "user=", "username" }, { "client=", "client" }, { "plugin=", "plugin" } };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i].word);

		if (strncmp(argument, words[i].word, n) == 0) {
			*value = argument + n;
			return words[i].name;
		}
	}
	return NULL;
}

enum ctl_exit
cmd_cache_purge(const struct ctl *ctl, int argc, char **argv)
{
	char *path = strdup("/v1/cache"), *longer, *encoded;
	enum ctl_exit result;
	json_t *answer;

	for (int i = 1; path != NULL && i < argc; i++) {
		const char *value, *name = purge_parameter(argv[i], &value);

		if (name == NULL) {
			free(path);
			return usage_error(
			    "cache purge takes user=NAME, client=ID and plugin=NAME, not \"%s\"",
			    argv[i]);
		}
		encoded = http_encode(value);
		if (encoded == NULL ||
		    asprintf(&longer, "%s%c%s=%s", path, i == 1 ? '?' : '&', name, encoded) < 0)
			longer = NULL;
		free(encoded);
		free(path);
		path = longer;
	}
	if (path == NULL)
		return no_memory();
	result = http_ask_json(ctl, "DELETE", path, NULL, &answer);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	printf("%" JSON_INTEGER_FORMAT
	       " kept answers are forgotten; rights are asked about again\n",
	    json_integer_value(json_object_get(answer, "forgotten")));
	json_decref(answer);
	return CTL_OK;
}

/* ---- guard ----------------------------------------------------------------------------------- */

static const struct column ban_columns[] = {
	{ "ADDRESS", "address", false },
	{ "SECONDS LEFT", "banned_for", true },
	{ "BANS", "bans", true },
};

enum ctl_exit
cmd_guard_list(const struct ctl *ctl, int argc, char **argv)
{
	enum ctl_exit result = argc == 1
	    ? CTL_OK
	    : usage_error("guard list takes no argument, and \"%s\" is one", argv[1]);
	json_t *answer;

	if (result != CTL_OK ||
	    (result = http_ask_json(ctl, "GET", "/v1/guard", NULL, &answer)) != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	show_table(ban_columns, sizeof(ban_columns) / sizeof(ban_columns[0]),
	    json_object_get(answer, "bans"));
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit
cmd_guard_lift(const struct ctl *ctl, int argc, char **argv)
{
	char *path = NULL, *encoded;
	enum ctl_exit result;
	json_t *answer;

	if (argc != 2)
		return usage_error("guard lift takes one address, or --all");
	if (strcmp(argv[1], "--all") == 0) {
		path = strdup("/v1/guard");
	} else if ((encoded = http_encode(argv[1])) != NULL) {
		if (asprintf(&path, "/v1/guard?address=%s", encoded) < 0)
			path = NULL;
		free(encoded);
	}
	if (path == NULL)
		return no_memory();
	result = http_ask_json(ctl, "DELETE", path, NULL, &answer);
	free(path);
	if (result != CTL_OK)
		return result;
	if (ctl->json)
		return print_json(answer);
	printf("%" JSON_INTEGER_FORMAT " lifted\n",
	    json_integer_value(json_object_get(answer, "lifted")));
	json_decref(answer);
	return CTL_OK;
}
