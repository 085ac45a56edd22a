/* SPDX-License-Identifier: Apache-2.0 */
/*
 * foreign - a plugin's shared object: loaded, initialised, its callbacks
 *
 * Versions 3 and 4 have functions instead of callbacks: they are registered as callbacks here, too (foreign_old.c).
 *
 * Threads:   the engine's thread, but for load_*.
 * Bounded:   FOREIGN_CALLBACKS.
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_FOREIGN_H
#define PLUGINS_MOSQUITTO_COMPAT_FOREIGN_H

#include "mosquitto_abi.h"

#include <grapnel/types.h>
#include <stdatomic.h>
#include <sys/types.h>

#define FOREIGN_CALLBACKS 128u

struct engine;

/* What to load, and with which options; what an instance is configured with. Constant, counted. */
struct load {
	_Atomic unsigned refs;
	char *path;
	struct opt *options;
	int count;
	bool deny_special_chars;
};
void load_unref(struct load *l); /* NULL is fine */
struct load *load_ref(struct load *l);
bool load_equal(const struct load *a, const struct load *b);

struct callback {
	int event;
	callback_fn fn; /* NULL: unregistered while callbacks were called */
	void *userdata;
	char *topic; /* EVT_CONTROL */
};

struct foreign {
	void *handle; /* NULL: nothing is loaded */
	int version;
	bool ready; /* initialised */
	void *userdata;
	/* which file */
	dev_t device;
	ino_t inode;
	struct timespec changed;
	struct callback callbacks[FOREIGN_CALLBACKS];
	unsigned count;
	unsigned walking; /* callbacks are being called */
	plugin_cleanup_fn cleanup;
	/* versions 3 and 4 */
	auth_cleanup_fn auth_cleanup;
	auth_security_fn security_init, security_cleanup;
	auth_acl_check_fn acl_check;
	auth_unpwd_check_fn unpwd_check;
	auth_psk_key_get_fn psk_key_get;
	auth_start_fn start;
	auth_continue_fn go_on;
	bool secured; /* security_init was called */
};

/* false: e->error says why, and nothing is loaded. Takes a reference to l. */
bool foreign_load(struct engine *e, struct load *l);
/* With its cleanup. Fine when nothing is loaded. */
void foreign_unload(struct engine *e);
/* Is what stands at that path now another file than the one that is loaded? */
bool foreign_replaced(const struct engine *e, const char *path);

/* MOSQ_* */
int foreign_register(struct engine *e, int event, callback_fn fn, const char *topic, void *userdata);
int foreign_unregister(struct engine *e, int event, callback_fn fn, const char *topic);
/*
 * Call those of an event, in order, as long as they say MOSQ_PLUGIN_DEFER (MOSQ_SUCCESS with all: true). topic: only that of
 * this topic.
 * @return what the last one said; MOSQ_PLUGIN_DEFER: none decided.
 */
int foreign_call(struct engine *e, int event, void *event_data, const char *topic, bool all);
/* Is there a callback for commands to that topic? */
bool foreign_commands(const struct engine *e, const char *topic);
/* Call all of an event, whatever they say. @return the first thing said that is neither MOSQ_SUCCESS nor MOSQ_PLUGIN_DEFER. */
int foreign_tell(struct engine *e, int event, void *event_data);
const char *foreign_event_name(int event);

/* Into *fn, a pointer to a function; NULL: there is none. */
void *foreign_find(const struct engine *e, const char *name, void *fn);
/* Around each call into it. */
void foreign_enter(struct engine *e, const char *what);
void foreign_leave(struct engine *e);
/* Is false: why it cannot be loaded. */
bool foreign_fail(struct engine *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* foreign_old.c: versions 3 and 4. @return what their functions say. */
int foreign_old_init(struct engine *e);
void foreign_old_cleanup(struct engine *e);

#endif
