/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `grapnel-plugin new`: new.h */
#include "new.h"
#include "tool.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"

static const char usage_text[] =
    "usage: grapnel-plugin new NAME [--hooks LIST] [--async] [--events LIST] [--directory DIR]\n"
    "           [--author 'NAME <MAIL>'] [--license ID [--license-file FILE]] [--template DIR]\n"
    "\n"
    "Writes the project of a plugin: source, test, configuration, manual page, package.\n"
    "\n"
    "  --hooks LIST         the decisions that it takes part in, with commas between them\n"
    "  --async              they are made in the broker's pool of threads, where they may wait\n"
    "  --events LIST        what it observes\n"
    "  --directory DIR      the folder to make; default: NAME\n"
    "  --author TEXT        whose it is; default: from DEBFULLNAME and DEBEMAIL\n"
    "  --license ID         MIT-0 (default), MIT, BSD-2-Clause, or another with\n"
    "  --license-file FILE  its text\n"
    "  --template DIR       other templates; default: GRAPNEL_TEMPLATE_DIR, or those installed\n"
    "\n";

static void
print_names(FILE *out)
{
	fputs("hooks:\n", out);
	for (size_t i = 0; i < NEW_HOOK_COUNT; i++)
		fprintf(out, "  %-22s%s%s%s\n", new_hooks[i].name,
		    strcmp(new_hooks[i].name, new_hooks[i].short_name) != 0 ? "(" : "",
		    strcmp(new_hooks[i].name, new_hooks[i].short_name) != 0
			? new_hooks[i].short_name
			: "",
		    strcmp(new_hooks[i].name, new_hooks[i].short_name) != 0 ? ")" : "");
	fputs("events:\n", out);
	for (size_t i = 0; i < new_event_count; i++) {
		if (new_events[i].name != NULL)
			fprintf(out, "  %s\n", new_events[i].name);
	}
}

/* ------------------------------------------------------------------------ what is wanted */

/* -1: there is no such hook. */
static int
find_hook(const char *name)
{
	for (int i = 0; i < NEW_HOOK_COUNT; i++) {
		if (strcmp(name, new_hooks[i].name) == 0 ||
		    strcmp(name, new_hooks[i].short_name) == 0)
			return i;
	}
	return -1;
}

static int
find_event(const char *name)
{
	for (size_t i = 0; i < new_event_count; i++) {
		if (new_events[i].name != NULL && strcmp(name, new_events[i].name) == 0)
			return (int)i;
	}
	return -1;
}

/* list is cut into pieces. */
static bool
parse_list(char *list, const char *what, int (*find)(const char *name), uint64_t *mask)
{
	char *save = NULL;

	for (char *name = strtok_r(list, ", ", &save); name != NULL;
	     name = strtok_r(NULL, ", ", &save)) {
		int i = find(name);

		if (i < 0) {
			fprintf(stderr,
			    "grapnel-plugin: there is no %s \"%s\"; \"grapnel-plugin new --help\" "
			    "lists them\n",
			    what, name);
			return false;
		}
		*mask |= UINT64_C(1) << i;
	}
	return true;
}

static bool
name_valid(const char *name)
{
	/* They would be the tags of structs: "struct int", "struct grapnel_plugin"; some are macros, "linux" of the compiler. */
	static const char *const taken[] = { "asm", "auto", "bool", "break", "case", "char",
		"const", "continue", "default", "do", "double", "drand48-data", "else", "enum",
		"extern", "false", "float", "for", "goto", "if", "inline", "int", "linux", "long",
		"NULL", "pending", "random-data", "register", "restrict", "return", "short",
		"signed", "sizeof", "static", "struct", "switch", "timespec", "timeval", "true",
		"typedef", "typeof", "union", "unix", "unsigned", "void", "volatile", "while" };
	size_t len = strlen(name);

	if (len == 0 || len > NEW_NAME_MAX || strspn(name, LETTERS DIGITS "-") != len ||
	    strchr(LETTERS, name[0]) == NULL || name[len - 1] == '-') {
		fprintf(stderr,
		    "grapnel-plugin: \"%s\" cannot be the name of a plugin: it has letters, digits "
		    "and "
		    "'-', begins with a letter, does not end with '-', and is at most %d long\n",
		    name, NEW_NAME_MAX);
		return false;
	}
	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++) {
		if (strcmp(name, taken[i]) != 0)
			continue;
		fprintf(stderr,
		    "grapnel-plugin: \"%s\" is a word of C, and the name becomes one; try "
		    "\"my-%s\"\n",
		    name, name);
		return false;
	}
	if (strncmp(name, "grapnel", strlen("grapnel")) == 0) {
		fprintf(stderr,
		    "grapnel-plugin: names that begin with \"grapnel\" are the SDK's; choose "
		    "another "
		    "than \"%s\"\n",
		    name);
		return false;
	}
	return true;
}

/* It goes into files of one line each. */
static bool
author_valid(const char *author)
{
	const char *open = strchr(author, '<'), *end = author + strlen(author);

	if (strlen(author) <= NEW_TEXT_MAX && open != NULL && open > author + 1 &&
	    open[-1] == ' ' && end[-1] == '>' && end - open > 2 &&
	    strcspn(author, "\n\r\t") == strlen(author))
		return true;
	fprintf(stderr,
	    "grapnel-plugin: the author has to be written as 'NAME <MAIL>', in at most %d bytes, "
	    "not "
	    "\"%s\"; see --author\n",
	    NEW_TEXT_MAX, author);
	return false;
}

/* An identifier names a file, too. */
static bool
license_valid(const struct project *p)
{
	char path[4096];
	size_t len = strlen(p->license);

	if (len == 0 || len > 64 || strspn(p->license, LETTERS DIGITS ".+-") != len ||
	    p->license[0] == '.') {
		fprintf(stderr,
		    "grapnel-plugin: \"%s\" is no SPDX identifier of a licence, such as MIT-0 or "
		    "Apache-2.0\n",
		    p->license);
		return false;
	}
	snprintf(path, sizeof(path), "%s/license/%s.in", p->templates, p->license);
	if (p->license_file == NULL && access(path, R_OK) != 0) {
		fprintf(stderr,
		    "grapnel-plugin: there is no text for the licence %s; name a file that has it "
		    "with "
		    "--license-file, or take MIT-0, MIT or BSD-2-Clause\n",
		    p->license);
		return false;
	}
	return true;
}

static bool
project_valid(const struct project *p)
{
	char path[4096];
	struct stat st;

	if (!name_valid(p->name))
		return false;
	if (p->hooks == 0 && p->events == 0) {
		fputs("grapnel-plugin: what is it for? Say --hooks, --events or both:\n", stderr);
		print_names(stderr);
		return false;
	}
	if (p->async && p->hooks == 0) {
		fputs("grapnel-plugin: --async is about decisions: say which ones with --hooks\n",
		    stderr);
		return false;
	}
	snprintf(path, sizeof(path), "%s/plugin.c.in", p->templates);
	if (access(path, R_OK) != 0) {
		fprintf(stderr,
		    "grapnel-plugin: there are no templates in %s; install grapnel-dev, or name "
		    "their "
		    "folder with --template\n",
		    p->templates);
		return false;
	}
	if (lstat(p->directory, &st) == 0) {
		fprintf(stderr,
		    "grapnel-plugin: %s exists; choose another name or --directory, or remove it "
		    "first\n",
		    p->directory);
		return false;
	}
	return author_valid(p->author) && license_valid(p);
}

/* ----------------------------------------------------------------------------- subcommand */

/* As Debian's tools have it; else something that says who has to fill it in. */
static void
default_author(const char *name, char *buffer, size_t size)
{
	const char *who = getenv("DEBFULLNAME"), *mail = getenv("DEBEMAIL");

	if (who != NULL && mail != NULL && *who != '\0' && *mail != '\0')
		snprintf(buffer, size, "%s <%s>", who, mail);
	else
		snprintf(buffer, size, "The %s authors <%s@localhost>", name, name);
}

/* @return -1: go on; else the exit code. */
static int
parse(struct project *p, int argc, char **argv)
{
	static const struct option options[] = {
		{ "async", no_argument, NULL, 's' },
		{ "author", required_argument, NULL, 'a' },
		{ "directory", required_argument, NULL, 'd' },
		{ "events", required_argument, NULL, 'e' },
		{ "help", no_argument, NULL, 'h' },
		{ "hooks", required_argument, NULL, 'k' },
		{ "license", required_argument, NULL, 'l' },
		{ "license-file", required_argument, NULL, 'f' },
		{ "template", required_argument, NULL, 't' },
		{ 0 },
	};
	uint64_t hooks = 0;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'a':
			p->author = optarg;
			break;
		case 'd':
			p->directory = optarg;
			break;
		case 'e':
			if (!parse_list(optarg, "event", find_event, &p->events))
				return TOOL_USAGE;
			break;
		case 'f':
			p->license_file = optarg;
			break;
		case 'h':
			fputs(usage_text, stdout);
			print_names(stdout);
			return 0;
		case 'k':
			if (!parse_list(optarg, "hook", find_hook, &hooks))
				return TOOL_USAGE;
			break;
		case 'l':
			p->license = optarg;
			break;
		case 's':
			p->async = true;
			break;
		case 't':
			p->templates = optarg;
			break;
		default:
			fputs(usage_text, stderr);
			return TOOL_USAGE;
		}
	}
	p->hooks = (uint32_t)hooks;
	if (argc - optind != 1) {
		fprintf(stderr, "grapnel-plugin: new needs one NAME\n%s", usage_text);
		return TOOL_USAGE;
	}
	p->name = argv[optind];
	return -1;
}

int
tool_new(int argc, char **argv)
{
	struct project p = { .templates = getenv("GRAPNEL_TEMPLATE_DIR") };
	char author[NEW_TEXT_MAX + NEW_NAME_MAX];
	int code = parse(&p, argc, argv);

	if (code >= 0)
		return code;
	if (p.templates == NULL)
		p.templates = GRAPNEL_TEMPLATE_DIR;
	if (p.directory == NULL)
		p.directory = p.name;
	if (p.license == NULL && p.license_file != NULL) { /* a text under the name of another */
		fputs("grapnel-plugin: --license-file needs --license, which says what that text "
		      "is\n",
		    stderr);
		return TOOL_USAGE;
	}
	if (p.license == NULL)
		p.license = "MIT-0";
	if (p.author == NULL) {
		default_author(p.name, author, sizeof(author));
		p.author = author;
	}
	if (!project_valid(&p))
		return TOOL_USAGE;
	if (!project_write(&p))
		return TOOL_BAD;
	printf("%s is there; try:\n\n    cd %s && make check\n", p.directory, p.directory);
	return 0;
}
