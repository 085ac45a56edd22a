/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import - from mosquitto.conf to grapnel.conf and conf.d
 *
 * import.c		the command: what is read, written and said
 * import_read.c	files and include_dir to directives, each with the listener, plugin or bridge it stands under
 * import_table.c	every directive of mosquitto.conf(5), and what becomes of it
 * import_value.c	looking directives up, and their values: text, numbers, paths
 * import_out.c		lines of the new files, each with where it came from
 * import_listener.c	listeners
 * import_tls.c		their TLS
 * import_auth.c	users, rights, plugins
 * import_general.c	the rest
 *
 * A directive begins with the fate that the table knows, or none; whoever converts it says so. What nobody took is reported with the
 * words of the table, so that nothing is left out in silence.
 *
 * Threads:   one.
 * Bounded:   IMPORT_MAX_*; what is larger is an error. Values are checked before they are written: UTF-8 without control characters.
 */
#ifndef CTL_IMPORT_H
#define CTL_IMPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define IMPORT_MAX_LINE	      65536u
#define IMPORT_MAX_FILE	      (4u << 20)
#define IMPORT_MAX_FILES      1000u
#define IMPORT_MAX_DIRECTIVES 50000u
#define IMPORT_MAX_LISTENERS  200u
#define IMPORT_ERROR	      4600u /* a path, and what is wrong with it */

enum import_scope {
	IMPORT_GLOBAL,
	IMPORT_SECURITY, /* of all listeners; with per_listener_settings of the one it stands under */
	IMPORT_LISTENER,
	IMPORT_PLUGIN,
	IMPORT_BRIDGE,
};
enum import_fate {
	IMPORT_OPEN,	  /* nobody has taken it yet */
	IMPORT_CONVERTED, /* it is in the new files */
	IMPORT_SAME,	  /* so by default */
	IMPORT_OTHER,	  /* converted, but not quite the same */
	IMPORT_LOST,
};

struct import_known {
	const char *name;
	enum import_scope scope;
	enum import_fate fate; /* to begin with */
	const char *words;     /* why, and what to do instead */
	const char *same_as;   /* an older name of that one; NULL: none */
};

struct import_directive {
	const struct import_known *known; /* NULL: nobody knows it */
	char *name, *value;		  /* value without blanks around it, perhaps "" */
	const char *file;		  /* of import.files */
	unsigned line;
	int under; /* listener, plugin or bridge; -1: none */
	enum import_fate fate;
	char *note; /* what is said about it; NULL: the table's words */
};

struct import_listener {
	size_t at; /* its directive, or the first one of the standard listener */
	bool standard; /* the one of `port` and `bind_address` */
	char title[64];	    /* "": it was not converted */
	unsigned addresses; /* of more than one: title, title.2 ... */
	/* from its directives, by import_listeners */
	bool anonymous, identity, psk, proxied;
};

struct import_plugin {
	size_t at;
	int listener; /* with per_listener_settings; -1: all */
	bool put;     /* mosquitto-compat runs it */
};

struct import {
	char **files;
	size_t file_count;
	char *folder; /* of the first file: what relative paths may be relative to */
	struct import_directive *directives;
	size_t count, room;
	struct import_listener *listeners;
	size_t listener_count;
	struct import_plugin *plugins;
	size_t plugin_count;
	size_t bridge_count;
	bool per_listener, local_only, local_anonymous;
	bool ids_are_names; /* use_username_as_clientid */
	bool look_around; /* host names are looked up, files looked for */
	char **binds;	  /* addresses that a listener has */
	size_t bind_count;
	char *output;	  /* folder of the new files, absolute */
	char *database;	  /* mosquitto.db, as far as it is known */
	bool names;	  /* some listener lets in any user name */
	bool no_memory;
	char error[IMPORT_ERROR];
};

#define IMPORT_ANY_NAME                                                                               \
	"without password_file Mosquitto lets in any user name with any password; here a client that brings a name must be in a " \
	"password_file, and one that brings none is let in"

/* ---- import_table.c ---- */
const struct import_known *import_known(const char *name); /* NULL: none */
/* All of them, for tests; NULL behind the last. */
const struct import_known *import_known_at(size_t i);

/* ---- import_read.c ---- */
/* false: im->error. */
bool import_read(struct import *im, const char *path);
/* One text; level 0 is the main file, whose include_dir is followed. */
bool import_text(struct import *im, const char *name, const char *text, size_t len, unsigned level);
void import_free(struct import *im);

/* ---- import_value.c ---- */
/* The last one of that name (of the table) that counts there; NULL: none. under: -1 for what is global. */
struct import_directive *import_find(struct import *im, const char *name, int under);
/* Of a listener: its own or everybody's, as per_listener_settings says. */
struct import_directive *import_security(struct import *im, const char *name, int listener);
void import_fate(struct import *im, struct import_directive *d, enum import_fate fate, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void import_converted(struct import_directive *d);
/* d NULL, or a value that is none (it is lost then): what was in *out stays, and false. */
bool import_bool(struct import *im, struct import_directive *d, bool *out);
bool import_int(struct import *im, struct import_directive *d, int64_t min, int64_t max, int64_t *out);
/* Is it one of plugin_load, which is for those with plugin_use alone? */
bool import_is_loaded(const struct import *im, size_t plugin);
/* The last one of plugin_load that has that name; -1: there is none. */
int import_plugin_named(const struct import *im, const char *name);
/* The first word of the value, cut to the size. */
const char *import_word(const struct import_directive *d, char *out, size_t size);
/* An absolute path, heap. NULL: it is lost, or no memory. What cannot be read here gets a note. */
char *import_path(struct import *im, struct import_directive *d);

/* ---- import_out.c ---- */
#define IMPORT_FILES 8
struct import_file {
	const char *name; /* below the output folder */
	char *text;
	size_t len;
	FILE *stream;	  /* until import_out_end */
	unsigned mode;
	unsigned blocks;  /* open ones: the indentation */
	bool failed;	  /* no memory */
};
struct import_out {
	struct import_file files[IMPORT_FILES];
	unsigned count;
};
/* A file that begins with these lines of comment. NULL: no memory. */
struct import_file *import_out_file(struct import *im, struct import_out *o, const char *name, unsigned mode, const char *about);
/* One line, with where it came from; d NULL: a line that no directive asked for. A line that ends with { opens a block. */
void import_line(struct import_file *f, const struct import_directive *d, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void import_string(struct import_file *f, const struct import_directive *d, const char *name, const char *value);
void import_end(struct import_file *f); /* of a block */
void import_quote(FILE *out, const char *text);
bool import_out_end(struct import *im, struct import_out *o); /* false: no memory */
void import_out_free(struct import_out *o);

/* ---- one listener (import_value.c), and its TLS (import_tls.c) ---- */
struct import_one {
	struct import *im;
	struct import_file *f;
	struct import_listener *l;
	int number; /* of the listener */
	struct import_directive *at;
};
struct import_directive *import_own(const struct import_one *x, const char *name);
bool import_own_flag(const struct import_one *x, const char *name);
void import_own_text(const struct import_one *x, const char *directive, const char *option);
/* May clients come in as Mosquitto lets them, and nobody else? Asked before a line is written; if not, it has been said. */
bool import_tls_possible(const struct import_one *x);
void import_tls(const struct import_one *x);

/* ---- import_listener.c, import_auth.c, import_general.c: from the directives to files ---- */
void import_listeners(struct import *im, struct import_out *o);
void import_auth(struct import *im, struct import_out *o);
/* Is there a plugin, or an ACL file that is one, that decides about clients of that listener? */
bool import_has_plugin(struct import *im, int listener);
/* One of these that cannot be written; NULL: there is none. It has been said. */
struct import_directive *import_lacks_plugin(struct import *im, int listener);
void import_general(struct import *im, struct import_out *o);
/* All of it, in the right order; then every directive has its fate. false: no memory. */
bool import_convert(struct import *im, struct import_out *o);

#endif
