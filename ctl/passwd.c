/* SPDX-License-Identifier: Apache-2.0 */
/* passwd - grapnelctl passwd: users and passwords of a password file, without a broker. */
#include "ctl.h"
#include "passwd_edit.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <termios.h>
#include <unistd.h>

#define PASSWORD_MAX 65535 /* what fits in CONNECT [MQTT-3.1.3-11] */

static int say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "grapnelctl: ..." on stderr. @return CTL_FAILED */
static int
say(const char *format, ...)
{
	va_list args;

	fputs("grapnelctl: passwd: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return CTL_FAILED;
}

static int
usage(FILE *to)
{
	fputs("usage: grapnelctl passwd [set] [--create] [--scheme SCHEME] FILE USER\n"
	      "       grapnelctl passwd delete FILE USER\n"
	      "       grapnelctl passwd batch [--create] [--scheme SCHEME] FILE\n"
	      "       grapnelctl passwd hash [--scheme SCHEME]\n"
	      "\n"
	      "  set     add a user or change the password; it is asked for twice, or read as one "
	      "line\n"
	      "          from standard input when that is no terminal\n"
	      "  delete  remove a user                              (or: -D, --delete)\n"
	      "  batch   set many: lines USER:PASSWORD on standard input  (or: -b, --batch)\n"
	      "  hash    print the hash of a password                (or: --hash-only)\n"
	      "\n"
	      "  -c, --create         make a new file; fails when FILE exists\n"
	      "  -s, --scheme SCHEME  argon2id (default), yescrypt, bcrypt, sha512 (crypt), pbkdf2 "
	      "(which\n"
	      "                       Mosquitto 2.0 understands too), scram-sha-256 or "
	      "scram-sha-512;\n"
	      "                       several with commas between them, for a user who comes "
	      "either way\n"
	      "\n"
	      "FILE is the password_file of the auth-file plugin. It is replaced as a whole; a new "
	      "one has\n"
	      "mode 0600 and must be readable for the broker's user. The broker reads it again on "
	      "reload\n"
	      "(grapnelctl reload).\n",
	    to);
	return to == stdout ? CTL_OK : CTL_USAGE;
}

/* ------------------------------------------------------------------ reading passwords */

/* The password for `set` and `hash`; heap, for wipe. NULL: said why. */
static char *
ask_password(size_t *len, size_t *size)
{
	bool terminal = isatty(STDIN_FILENO) == 1;
	char *line = NULL, *again = NULL;
	size_t again_size = 0;
	ssize_t n;

	*size = 0;
	n = terminal ? secret_prompt("Password: ", &line, size) : secret_line(&line, size);
	if (n > 0 && n <= PASSWORD_MAX) {
		*len = (size_t)n;
	} else {
		if (n < 0)
			say("no password was given");
		else if (n == 0)
			say("an empty password is not accepted");
		else
			say("a password has at most %d bytes", PASSWORD_MAX);
		n = -1;
	}
	if (n > 0 && terminal) {
		ssize_t m = secret_prompt("Again: ", &again, &again_size);

		if (m != n || memcmp(line, again, (size_t)n) != 0) {
			say("the two passwords differ; nothing was changed");
			n = -1;
		}
		secret_wipe(again, again_size);
	}
	if (n < 0) {
		secret_wipe(line, *size);
		return NULL;
	}
	return line;
}

/* ------------------------------------------------------------------------- commands */

#define MAX_SCHEMES 3 /* kinds of lines that a user may have: passwd_file.h */

struct request {
	enum password_scheme schemes[MAX_SCHEMES];
	size_t scheme_count;
	bool create;
	const char *file, *user;
};

/* The changes of one run as the text of a password file. */
struct changes {
	char *text;
	size_t len, size;
};

static bool
changes_add(struct changes *c, struct grapnel_str name, const char *hash)
{
	size_t hash_len = strlen(hash), need = c->len + name.len + hash_len + 2;

	if (need > c->size) {
		size_t size = need + need / 2;
		char *text = malloc(size);

		if (text == NULL) {
			say("out of memory");
			return false;
		}
		if (c->text != NULL)
			memcpy(text, c->text, c->len);
		secret_wipe(c->text, c->len);
		c->text = text;
		c->size = size;
	}
	memcpy(c->text + c->len, name.data, name.len);
	c->text[c->len + name.len] = ':';
	memcpy(c->text + c->len + name.len + 1, hash, hash_len);
	c->text[need - 1] = '\n';
	c->len = need;
	return true;
}

/* Consumes the changes. */
static int
apply(const struct request *r, enum passwd_edit_mode mode, struct changes *c)
{
	struct passwd_edit_result result;
	struct passwd_file *changes;
	char error[8192];
	bool good;

	changes = passwd_file_parse(c->text, c->len, "standard input", error, sizeof(error));
	c->text = NULL;
	if (changes == NULL)
		return say("%s", error);
	good = passwd_edit(r->file, mode, changes, &result, error, sizeof(error));
	passwd_file_free(changes);
	if (!good)
		return say("%s", error);
	printf("%s: %zu added, %zu changed, %zu deleted\n", r->file, result.added, result.changed,
	    result.deleted);
	if (result.created && geteuid() == 0)
		printf(
		    "%s is new, mode 0600, and root's; the broker's user must be able to read it: "
		    "chown grapnel %s\n",
		    r->file, r->file);
	return CTL_OK;
}

static bool
good_name(struct grapnel_str name)
{
	const char *problem = passwd_name_problem(name);

	if (problem != NULL)
		say("%s; choose another one", problem);
	return problem == NULL;
}

/* Hash and add, a line for each scheme. */
static bool
hash_one(const struct request *r, struct changes *c, struct grapnel_str name, const char *password,
    size_t len)
{
	char hash[PASSWORD_HASH_SIZE];
	bool good = true;

	for (size_t i = 0; good && i < r->scheme_count; i++) {
		int err = password_hash(r->schemes[i], password, len, hash);

		good = err == 0 && changes_add(c, name, hash);
		if (err != 0)
			say("user \"%.*s\": %s%s", (int)name.len, name.data, password_strerror(err),
			    err == PASSWORD_EINPUT ? "; use another password, or --scheme argon2id"
						   : "");
	}
	explicit_bzero(hash, sizeof(hash));
	return good;
}

static int
set_one(const struct request *r)
{
	struct grapnel_str name = { r->user, strlen(r->user) };
	struct changes c = { NULL, 0, 0 };
	size_t len, size;
	char *password;
	bool good;

	if (!good_name(name) || (password = ask_password(&len, &size)) == NULL)
		return CTL_FAILED;
	good = hash_one(r, &c, name, password, len);
	secret_wipe(password, size);
	return good ? apply(r, r->create ? PASSWD_CREATE : PASSWD_SET, &c) : CTL_FAILED;
}

static int
delete_one(const struct request *r)
{
	/* Any good hash; only the name counts. */
	static const char hash[] = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
	struct grapnel_str name = { r->user, strlen(r->user) };
	struct changes c = { NULL, 0, 0 };

	if (!good_name(name) || !changes_add(&c, name, hash))
		return CTL_FAILED;
	return apply(r, PASSWD_DELETE, &c);
}

/* USER:PASSWORD; the password is all behind the first ':'. */
static bool
batch_line(const struct request *r, struct changes *c, const char *line, size_t len, size_t number)
{
	const char *colon = memchr(line, ':', len);
	struct grapnel_str name = { line, colon != NULL ? (size_t)(colon - line) : 0 };
	size_t password_len = colon != NULL ? len - name.len - 1 : 0;
	const char *problem =
	    colon == NULL ? "there is no ':' between user and password" : passwd_name_problem(name);

	if (problem == NULL && password_len == 0)
		problem = "the password is empty";
	if (problem == NULL && password_len > PASSWORD_MAX)
		problem = "the password is longer than 65535 bytes";
	if (problem != NULL) {
		say("standard input:%zu: %s; nothing was changed", number, problem);
		return false;
	}
	return hash_one(r, c, name, colon + 1, password_len);
}

static int
set_batch(const struct request *r)
{
	struct changes c = { NULL, 0, 0 };
	char *line = NULL;
	size_t size = 0, number = 0;
	bool good = true;
	ssize_t n;

	while (good && (n = secret_line(&line, &size)) >= 0) {
		number++;
		if (n > 0)
			good = batch_line(r, &c, line, (size_t)n, number);
	}
	secret_wipe(line, size);
	if (good && ferror(stdin)) {
		say("standard input: %s", strerror(errno));
		good = false;
	}
	if (good && c.len == 0) {
		say("standard input has no lines USER:PASSWORD; nothing was changed");
		good = false;
	}
	if (good)
		return apply(r, r->create ? PASSWD_CREATE : PASSWD_SET, &c);
	secret_wipe(c.text, c.len);
	return CTL_FAILED;
}

static int
print_hash(const struct request *r)
{
	char hash[PASSWORD_HASH_SIZE];
	size_t len, size;
	char *password = ask_password(&len, &size);
	int err = 0;

	if (password == NULL)
		return CTL_FAILED;
	for (size_t i = 0; err == 0 && i < r->scheme_count; i++)
		if ((err = password_hash(r->schemes[i], password, len, hash)) == 0)
			printf("%s\n", hash);
	secret_wipe(password, size);
	explicit_bzero(hash, sizeof(hash));
	return err != 0 ? say("%s", password_strerror(err)) : CTL_OK;
}

static const struct verb {
	const char *name;
	int operands;
	int (*run)(const struct request *r);
} verbs[] = {
	{ "set", 2, set_one },
	{ "delete", 2, delete_one },
	{ "batch", 1, set_batch },
	{ "hash", 0, print_hash },
};

/* "scram-sha-256,argon2id" */
static bool
read_schemes(struct request *r, char *text)
{
	char *rest = NULL, *name = strtok_r(text, ",", &rest);

	r->scheme_count = 0;
	for (; name != NULL; name = strtok_r(NULL, ",", &rest)) {
		enum password_scheme scheme = password_scheme_by_name(name);

		if (scheme == 0) {
			say("there is no scheme \"%s\"", name);
			return false;
		}
		if (r->scheme_count == MAX_SCHEMES) {
			say("there can be %d schemes at most", MAX_SCHEMES);
			return false;
		}
		r->schemes[r->scheme_count++] = scheme;
	}
	if (r->scheme_count == 0)
		say("--scheme needs the name of one");
	return r->scheme_count > 0;
}

int
ctl_passwd(int argc, char **argv)
{
	static const struct option options[] = {
		{ "batch", no_argument, NULL, 'b' },
		{ "create", no_argument, NULL, 'c' },
		{ "delete", no_argument, NULL, 'D' },
		{ "hash-only", no_argument, NULL, 'H' },
		{ "help", no_argument, NULL, 'h' },
		{ "scheme", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	struct request r = { .schemes = { PASSWORD_ARGON2ID }, .scheme_count = 1 };
	const struct verb *verb = NULL;
	int c;

	optind = 0; /* main() may have used it */
	while ((c = getopt_long(argc, argv, "bcDhs:", options, NULL)) != -1) {
		switch (c) {
		case 'b':
			verb = &verbs[2];
			break;
		case 'c':
			r.create = true;
			break;
		case 'D':
			verb = &verbs[1];
			break;
		case 'H':
			verb = &verbs[3];
			break;
		case 'h':
			return usage(stdout);
		case 's':
			if (read_schemes(&r, optarg))
				break;
			return usage(stderr);
		default:
			return usage(stderr);
		}
	}
	/* A file with the name of a verb is written with its folder: ./set */
	for (size_t i = 0; verb == NULL && optind < argc && i < sizeof(verbs) / sizeof(*verbs); i++)
		if (strcmp(argv[optind], verbs[i].name) == 0) {
			verb = &verbs[i];
			optind++;
			break;
		}
	if (verb == NULL)
		verb = &verbs[0];
	if (argc - optind != verb->operands) {
		say("%s takes %d argument%s, not %d", verb->name, verb->operands,
		    verb->operands == 1 ? "" : "s", argc - optind);
		return usage(stderr);
	}
	r.file = verb->operands > 0 ? argv[optind] : NULL;
	r.user = verb->operands > 1 ? argv[optind + 1] : NULL;
	return verb->run(&r);
}
