/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grapnelctl - see grapnelctl(1)
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "ctl.h"
#include <curl/curl.h>
#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct command {
	const char *words[2]; /* "clients", "list" */
	const char *arguments;
	const char *help;
	enum ctl_exit (*run)(const struct ctl *ctl, int argc, char **argv);
	const char *more; /* of `grapnelctl help <command>`; NULL: nothing */
};

#define STORE_WHERE                                                                           \
	"  --directory DIR  where the store is; default: as the configuration says\n"         \
	"  -c, --config F   that configuration, instead of " GRAPNEL_SYSCONFDIR "/grapnel.conf\n"

static const struct command commands[] = {
	{ { "status", NULL }, "", "what runs, and how much of it", cmd_status, NULL },
	{ { "clients", "list" }, "[--limit N] [--username NAME] [--online|--offline]",
	    "the clients the broker knows", cmd_clients_list,
	    "  --limit N        at most N of them, in the order of their ids\n"
	    "  --username NAME  only those of this user\n"
	    "  --online         only those that are connected\n"
	    "  --offline        only sessions that wait for their client\n" },
	{ { "clients", "show" }, "[--mountpoint M] ID",
	    "all about one client, its subscriptions included", cmd_clients_show,
	    "  --mountpoint M   when the same id exists under several mountpoints\n" },
	{ { "clients", "kick" }, "[--mountpoint M] ID",
	    "disconnect a client (reason code 0x98); its session stays", cmd_clients_kick,
	    "  --mountpoint M   when the same id exists under several mountpoints\n" },
	{ { "clients", "trace" }, "[--mountpoint M] [--minutes N | --off] ID",
	    "keep and log each decision about a client", cmd_clients_trace,
	    "  --mountpoint M   when the same id exists under several mountpoints\n"
	    "  --minutes N      for so long, at most 1440; default: 10\n"
	    "  --off            end it now, and forget what was kept\n"
	    "\n\"grapnelctl clients show ID\" shows the last 64 decisions; the log has them as "
	    "\"decision\" at info.\n" },
	{ { "plugin", "list" }, "", "the plugins in force, in the order they are asked",
	    cmd_plugin_list, NULL },
	{ { "plugin", "show" }, "NAME", "one plugin: hooks, verdicts, times, options",
	    cmd_plugin_show, NULL },
	{ { "plugin", "forget" }, "NAME", "forget the values that a plugin which is not enabled has kept",
	    cmd_plugin_forget, NULL },
	{ { "explain", NULL }, "--client ID [--username NAME] [--connect] [--publish T | --subscribe F | --read T] ...",
	    "what would be decided, by whom and why: a dry run", cmd_explain,
	    "  --client ID      as this client; one that has a session is asked about with that session's rights\n"
	    "  --username NAME  as this user\n"
	    "  --connect        explain the login; asks for the password (or reads it from a pipe), and what follows\n"
	    "                   has the rights that this login gives\n"
	    "  --publish T      may it publish to the Topic Name T?\n"
	    "  --subscribe F    may it subscribe to the Topic Filter F?\n"
	    "  --read T         may a message of the Topic Name T be delivered to it?\n"
	    "  --qos N, --retain  of the PUBLISH or SUBSCRIBE; default: 0, no\n"
	    "  --mountpoint M, --listener L  where the client would come in\n"
	    "\nThe plugins are really asked; nothing is kept, counted or told to anybody.\n" },
	{ { "cache", "purge" }, "[user=NAME] [client=ID] [plugin=NAME]",
	    "forget kept answers, and ask again about the clients that are connected", cmd_cache_purge,
	    "Only answers about that user, that client, of that plugin; without any, all of them.\n"
	    "Connected clients keep their connection if their login still holds; their rights are asked anew.\n" },
	{ { "guard", "list" }, "", "the addresses that are kept out for failed logins", cmd_guard_list, NULL },
	{ { "guard", "lift" }, "ADDRESS | --all", "let an address in again, and forget its failed logins", cmd_guard_lift,
	    NULL },
	{ { "store", "check" }, "[--directory DIR | -c FILE]", "look for damage in the store", cmd_store,
	    STORE_WHERE
	    "\nEach fault is a line. Nothing is changed, and the broker may run.\n"
	    "Exit codes: 0 no fault, 1 faults, 2 it could not be read.\n" },
	{ { "store", "stats" }, "[--directory DIR | -c FILE]", "how much is in the store", cmd_store,
	    STORE_WHERE "\nNothing is changed, and the broker may run.\n" },
	{ { "store", "export" }, "[--directory DIR | -c FILE] [FILE]", "all of the store as lines of JSON", cmd_store,
	    STORE_WHERE
	    "\nFILE is made, with mode 0600, and must not exist; default: standard output.\n"
	    "Nothing is changed, and the broker may run. What is damaged is left out: exit code 1.\n" },
	{ { "store", "import" }, "[--directory DIR | -c FILE] [--merge [--replace]] [--mosquitto] FILE",
	    "take in an export, or Mosquitto's sessions and messages", cmd_store,
	    STORE_WHERE
	    "  --merge          into a store that is not empty: what is there stays\n"
	    "  --replace        sessions and retained messages of the file instead of those that are there\n"
	    "  --mosquitto      FILE is the mosquitto.db of a Mosquitto that does not run any more\n"
	    "  --max-line SIZE  of an export; default: 64m\n"
	    "\nFILE may be - for standard input. All of it is taken in, or nothing.\n"
	    "The broker must not run.\n" },
	{ { "store", "compact" }, "[--directory DIR | -c FILE]", "make the store as small as what is in it", cmd_store,
	    STORE_WHERE "\nThe broker must not run.\n" },
	{ { "store", "backup" }, "[--directory DIR | -c FILE] FILE", "copy the store while the broker runs", cmd_store,
	    STORE_WHERE
	    "\nFILE is made, with mode 0600, and must not exist. It is a database as the broker has it:\n"
	    "to use it, put it into an empty directory as grapnel.db.\n" },
	{ { "import-mosquitto", NULL }, "[--output DIR] [--dry-run] mosquitto.conf",
	    "write grapnel.conf and conf.d from Mosquitto's configuration", cmd_import_mosquitto,
	    "  --output DIR     where to, a folder that is not there or empty; default: grapnel\n"
	    "  --dry-run        show what would be written, and write nothing\n"
	    "\nFiles of include_dir are read, too. What has no counterpart, or is not quite the same, is listed.\n" },
	{ { "metrics", NULL }, "", "all metrics, in the text format of Prometheus", cmd_metrics,
	    NULL },
	{ { "config", NULL }, "", "the configuration in force, secrets as ***", cmd_config, NULL },
	{ { "reload", NULL }, "", "read the configuration again, all or nothing", cmd_reload,
	    "An error in the new configuration changes nothing: every error is shown, and the exit "
	    "code is 1.\n" },
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

enum ctl_exit
usage_error(const char *format, ...)
{
	va_list ap;

	fputs("grapnelctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputs("\n\"grapnelctl help\" shows all commands\n", stderr);
	return CTL_USAGE;
}

static void
print_usage(const struct command *c)
{
	printf("usage: grapnelctl [-S SOCKET] [--json] %s%s%s%s%s\n", c->words[0],
	    c->words[1] != NULL ? " " : "", c->words[1] != NULL ? c->words[1] : "",
	    c->arguments[0] != '\0' ? " " : "", c->arguments);
	printf("%s\n", c->help);
	if (c->more != NULL)
		printf("\n%s", c->more);
}

static void
print_help(void)
{
	char name[32];

	printf("usage: grapnelctl [-S SOCKET] [--json] COMMAND [ARGUMENT ...]\n\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const struct command *c = &commands[i];

		snprintf(name, sizeof(name), "%s%s%s", c->words[0], c->words[1] != NULL ? " " : "",
		    c->words[1] != NULL ? c->words[1] : "");
		printf("  %-14s %s\n", name, c->help);
	}
	printf("  %-14s %s\n", "passwd",
	    "set, delete and import users of a password file; needs no broker");
	printf("  %-14s %s\n", "help [COMMAND]", "this, or all about one command");
	printf("\nAny other word is a command of a plugin; \"grapnelctl plugin show NAME\" lists "
	       "what it offers.\n"
	       "\n  -S, --socket SOCKET  the broker's admin socket; default: as grapnel.conf says\n"
	       "  -j, --json           print the broker's answer as it is\n"
	       "  -V, --version        the version of this program\n"
	       "\nExit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no broker answers.\n");
}

/* The command that argv begins with, and how many words it takes. NULL: none; *group: its first word is known. */
static const struct command *
command_find(int argc, char **argv, int *words, bool *group)
{
	*group = false;
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const struct command *c = &commands[i];

		if (strcmp(c->words[0], argv[0]) != 0)
			continue;
		*group = true;
		*words = c->words[1] != NULL ? 2 : 1;
		if (c->words[1] == NULL || (argc > 1 && strcmp(c->words[1], argv[1]) == 0))
			return c;
	}
	return NULL;
}

static enum ctl_exit
help(int argc, char **argv)
{
	const struct command *c;
	bool group;
	int words;

	if (argc == 0) {
		print_help();
		return CTL_OK;
	}
	if (strcmp(argv[0], "passwd") == 0) {
		char *arguments[] = { (char *)"passwd", (char *)"--help", NULL };

		return (enum ctl_exit)ctl_passwd(2, arguments);
	}
	if ((c = command_find(argc, argv, &words, &group)) != NULL) {
		print_usage(c);
		return CTL_OK;
	}
	if (!group)
		return usage_error("there is no command \"%s\"; a plugin may offer one", argv[0]);
	for (size_t i = 0, n = 0; i < COMMAND_COUNT; i++)
		if (strcmp(commands[i].words[0], argv[0]) == 0) {
			if (n++ > 0)
				putchar('\n');
			print_usage(&commands[i]);
		}
	return CTL_OK;
}

/* --json may stand behind the command, too. @return the new argc. */
static int
take_json(struct ctl *ctl, int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--json") != 0)
			continue;
		ctl->json = true;
		memmove(&argv[i], &argv[i + 1],
		    (size_t)(argc - i) * sizeof(argv[0])); /* with the NULL at its end */
		argc--;
		i--;
	}
	return argc;
}

static enum ctl_exit
run(struct ctl *ctl, int argc, char **argv)
{
	const struct command *c;
	enum ctl_exit result;
	char *socket = NULL;
	bool group;
	int words;

	c = command_find(argc, argv, &words, &group);
	if (c == NULL && group)
		return argc > 1 ? usage_error("%s has no command \"%s\"", argv[0], argv[1])
				: usage_error("%s takes one more word: see \"grapnelctl help %s\"",
				      argv[0], argv[0]);
	if (c != NULL && (c->run == cmd_store || c->run == cmd_import_mosquitto)) /* need no broker */
		return c->run(ctl, take_json(ctl, argc, argv) - words + 1, argv + words - 1);
	if (ctl->socket == NULL) {
		if ((socket = socket_default()) == NULL) {
			fprintf(stderr, "grapnelctl: no memory\n");
			return CTL_FAILED;
		}
		if (strcmp(socket, "none") == 0) {
			fprintf(stderr,
			    "grapnelctl: grapnel.conf switches the admin socket off (admin { "
			    "socket = none })\n");
			free(socket);
			return CTL_UNREACHABLE;
		}
		ctl->socket = socket;
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		fprintf(stderr, "grapnelctl: libcurl does not start\n");
		free(socket);
		return CTL_FAILED;
	}
	if (c != NULL)
		result = c->run(ctl, take_json(ctl, argc, argv) - words + 1, argv + words - 1);
	else
		result = cmd_of_plugin(ctl, argc, argv);
	curl_global_cleanup();
	free(socket);
	return result;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 'S' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct ctl ctl = { 0 };
	enum ctl_exit result;
	int c;

	setlocale(LC_CTYPE, "");
	while ((c = getopt_long(argc, argv, "+:S:jhV", options, NULL)) != -1) {
		switch (c) {
		case 'S':
			ctl.socket = optarg;
			break;
		case 'j':
			ctl.json = true;
			break;
		case 'h':
			print_help();
			return CTL_OK;
		case 'V':
			printf("grapnelctl %s\n", PACKAGE_VERSION);
			return CTL_OK;
		default:
			return usage_error("%s \"%s\"",
			    c == ':' ? "a value is missing behind" : "unknown option",
			    argv[optind - 1]);
		}
	}
	argc -= optind;
	argv += optind;
	if (argc == 0) {
		print_help();
		return CTL_USAGE;
	}
	if (strcmp(argv[0], "help") == 0)
		result = help(argc - 1, argv + 1);
	else if (strcmp(argv[0], "passwd") == 0)
		result = (enum ctl_exit)ctl_passwd(argc, argv);
	else
		result = run(&ctl, argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "grapnelctl: the output could not be written\n");
		if (result == CTL_OK)
			result = CTL_FAILED;
	}
	return result;
}
