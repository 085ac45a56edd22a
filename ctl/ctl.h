/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl - grapnelctl: what the admin API can do, from a terminal
 *
 * main.c	options, the table of commands, help
 * commands.c	the commands
 * http.c	one request to the broker and its answer
 * show.c	tables and values for people; nothing a peer has chosen reaches the terminal unescaped
 * socket.c	where the broker's admin socket is
 * rights.c	who may what, and why: explain, cache, guard
 * secret.c	passwords from a terminal or a pipe
 * passwd.c	password files (with passwd_edit.c); needs no broker
 * import.c	from mosquitto.conf (with import_*.c, import.h); needs no broker
 * store.c	the store (with store_*.c, store.h); needs no broker
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,	     /* the broker refused, or something did not work */
	CTL_USAGE = 2,	     /* the command line is wrong */
	CTL_UNREACHABLE = 3, /* no broker answers */
};

struct ctl {
	const char *socket;
	bool json; /* print what the broker sends */
};

/* ---- http.c ---- */
struct reply {
	long status; /* of HTTP */
	char *body;  /* NUL-terminated */
	size_t len;
};
/*
 * Ask the broker. body NULL: none. CTL_OK: it answered 2xx; else everything has been said on stderr.
 * reply_clear is needed after CTL_OK only.
 */
enum ctl_exit http_ask(const struct ctl *ctl, const char *method, const char *path, const char *body, struct reply *reply);
void reply_clear(struct reply *reply);
/* The same for JSON; *answer is the caller's. */
enum ctl_exit http_ask_json(const struct ctl *ctl, const char *method, const char *path, const char *body, json_t **answer);
/* Text as one path segment or query value. Heap; NULL: no memory. */
char *http_encode(const char *text);

/* ---- show.c ---- */
/*
 * A copy of text for a terminal: control and format characters, what is not valid in the locale, and the backslash
 * are escaped. Heap; NULL: no memory. *width (may be NULL): columns it takes.
 */
char *show_escape(const char *text, size_t *width);
struct column {
	const char *title;
	const char *key; /* of the object in the row; dots lead into nested ones */
	bool right;
};
/* rows: an array of objects. A missing member shows as "-". */
void show_table(const struct column *columns, unsigned count, const json_t *rows);
/* Names and values, nested ones indented. */
void show_value(const json_t *value);
/* "3d 4h", "5m 2s". */
void show_duration(json_int_t seconds, char *out, size_t size);

/* ---- socket.c ---- */
/* From grapnel.conf if it can be read, else the built-in default. Heap; NULL: no memory; "none": switched off. */
char *socket_default(void);

/* Print an answer as it came, one line; takes it. */
enum ctl_exit print_json(json_t *answer);
enum ctl_exit no_memory(void);

/* ---- commands.c; argv[0] is the last word of the command ---- */
enum ctl_exit cmd_status(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_clients_list(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_clients_show(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_clients_kick(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_clients_trace(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_plugin_list(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_plugin_forget(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_plugin_show(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_metrics(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_config(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_reload(const struct ctl *ctl, int argc, char **argv);
/* A command that a plugin offers: argv[0] is its name. */
enum ctl_exit cmd_of_plugin(const struct ctl *ctl, int argc, char **argv);

/* ---- rights.c ---- */
enum ctl_exit cmd_explain(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_guard_list(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_guard_lift(const struct ctl *ctl, int argc, char **argv);
enum ctl_exit cmd_cache_purge(const struct ctl *ctl, int argc, char **argv);

/* ---- store.c ---- */
enum ctl_exit cmd_store(const struct ctl *ctl, int argc, char **argv); /* argv[0]: check, stats ... */

/* ---- import.c ---- */
enum ctl_exit cmd_import_mosquitto(const struct ctl *ctl, int argc, char **argv);

/* ---- secret.c ---- */
/* One line of stdin into *line (getline's buffer), without its end. -1: end, error or signal. */
ssize_t secret_line(char **line, size_t *size);
/* The same asked for on the terminal, without echo; a signal restores it and is raised again. */
ssize_t secret_prompt(const char *question, char **line, size_t *size);
void secret_wipe(char *line, size_t size); /* and free; NULL is fine */

/* ---- passwd.c ---- */
int ctl_passwd(int argc, char **argv); /* argv[0] is "passwd"; an exit code */

/* ---- main.c ---- */
/* "grapnelctl: ..." on stderr. @return CTL_USAGE. */
enum ctl_exit usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
