/* SPDX-License-Identifier: Apache-2.0 */
/* foreign - a plugin's shared object: foreign.h */
#include "engine.h"
#include "helper_functions.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- what to load ------------------------------------------------------------------------ */

struct load *
load_ref(struct load *l)
{
	atomic_fetch_add(&l->refs, 1);
	return l;
}

void
load_unref(struct load *l)
{
	if (l == NULL || atomic_fetch_sub(&l->refs, 1) > 1)
		return;
	for (int i = 0; i < l->count; i++) {
		if (l->options[i].value != NULL) /* passwords of data bases */
			explicit_bzero(l->options[i].value, strlen(l->options[i].value));
		free(l->options[i].key);
		free(l->options[i].value);
	}
	free(l->options);
	free(l->path);
	free(l);
}

bool
load_equal(const struct load *a, const struct load *b)
{
	if (strcmp(a->path, b->path) != 0 || a->count != b->count ||
	    a->deny_special_chars != b->deny_special_chars)
		return false;
	for (int i = 0; i < a->count; i++)
		if (strcmp(a->options[i].key, b->options[i].key) != 0 ||
		    strcmp(a->options[i].value, b->options[i].value) != 0)
			return false;
	return true;
}

/* ---- callbacks --------------------------------------------------------------------------- */

const char *
foreign_event_name(int event)
{
	static const char *const names[EVT_END] = {
		[EVT_RELOAD] = "MOSQ_EVT_RELOAD",
		[EVT_ACL_CHECK] = "MOSQ_EVT_ACL_CHECK",
		[EVT_BASIC_AUTH] = "MOSQ_EVT_BASIC_AUTH",
		[EVT_EXT_AUTH_START] = "MOSQ_EVT_EXT_AUTH_START",
		[EVT_EXT_AUTH_CONTINUE] = "MOSQ_EVT_EXT_AUTH_CONTINUE",
		[EVT_CONTROL] = "MOSQ_EVT_CONTROL",
		[EVT_MESSAGE] = "MOSQ_EVT_MESSAGE",
		[EVT_PSK_KEY] = "MOSQ_EVT_PSK_KEY",
		[EVT_TICK] = "MOSQ_EVT_TICK",
		[EVT_DISCONNECT] = "MOSQ_EVT_DISCONNECT",
	};

	return event > 0 && event < EVT_END ? names[event] : "?";
}

/* Not while there is nothing, or only a part: those who ask then wait, and do not go on to the next plugin. */
static void
events_changed(struct engine *e)
{
	const struct foreign *f = &e->foreign;
	uint32_t events = 0;

	if (!f->ready)
		return;
	for (unsigned i = 0; i < f->count; i++)
		if (f->callbacks[i].fn != NULL)
			events |= 1u << f->callbacks[i].event;
	atomic_store(&e->events, events);
}

static bool
same_topic(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

int
foreign_register(struct engine *e, int event, callback_fn fn, const char *topic, void *userdata)
{
	struct foreign *f = &e->foreign;
	char *copy = NULL;

	for (unsigned i = 0; i < f->count; i++) {
		const struct callback *c = &f->callbacks[i];

		/* A topic of $CONTROL has one callback. */
		if (c->fn != NULL && c->event == event && same_topic(c->topic, topic) &&
		    (c->fn == fn || topic != NULL))
			return MOSQ_ALREADY_EXISTS;
	}
	if (f->count == FOREIGN_CALLBACKS || (topic != NULL && (copy = strdup(topic)) == NULL))
		return MOSQ_NOMEM;
	f->callbacks[f->count++] =
	    (struct callback){ .event = event, .fn = fn, .userdata = userdata, .topic = copy };
	events_changed(e);
	return MOSQ_SUCCESS;
}

/* Those that were unregistered while callbacks were called. */
static void
sweep(struct foreign *f)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < f->count; i++) {
		if (f->callbacks[i].fn != NULL)
			f->callbacks[kept++] = f->callbacks[i];
		else
			free(f->callbacks[i].topic);
	}
	f->count = kept;
}

int
foreign_unregister(struct engine *e, int event, callback_fn fn, const char *topic)
{
	struct foreign *f = &e->foreign;

	for (unsigned i = 0; i < f->count; i++) {
		struct callback *c = &f->callbacks[i];

		if (c->fn != fn || c->event != event || !same_topic(c->topic, topic))
			continue;
		c->fn = NULL;
		if (f->walking == 0)
			sweep(f);
		events_changed(e);
		return MOSQ_SUCCESS;
	}
	return MOSQ_NOT_FOUND;
}

void
foreign_enter(struct engine *e, const char *what)
{
	atomic_store_explicit(&e->what, what, memory_order_relaxed);
	atomic_store(&e->since_ms, engine_now_ms());
}

void
foreign_leave(struct engine *e)
{
	atomic_store(&e->since_ms, 0);
}

static int
call(struct engine *e, const struct callback *c, void *event_data)
{
	callback_fn fn = c->fn;
	int event = c->event, said;

	foreign_enter(e, foreign_event_name(event));
	said = fn(event, event_data, c->userdata);
	foreign_leave(e);
	return said == MOSQ_PLUGIN_IGNORE ? MOSQ_PLUGIN_DEFER : said;
}

int
foreign_call(struct engine *e, int event, void *event_data, const char *topic, bool all)
{
	struct foreign *f = &e->foreign;
	int rc = all ? MOSQ_SUCCESS : MOSQ_PLUGIN_DEFER;

	f->walking++;
	for (unsigned i = 0; i < f->count; i++) {
		const struct callback *c = &f->callbacks[i];
		int said;

		if (c->fn == NULL || c->event != event ||
		    (topic != NULL && !same_topic(c->topic, topic)))
			continue;
		said = call(e, c, event_data);
		if (all ? said != MOSQ_SUCCESS : said != MOSQ_PLUGIN_DEFER) {
			rc = said;
			break;
		}
	}
	if (--f->walking == 0)
		sweep(f);
	return rc;
}

bool
foreign_commands(const struct engine *e, const char *topic)
{
	const struct foreign *f = &e->foreign;

	for (unsigned i = 0; i < f->count; i++)
		if (f->callbacks[i].fn != NULL && f->callbacks[i].event == EVT_CONTROL &&
		    same_topic(f->callbacks[i].topic, topic))
			return true;
	return false;
}

int
foreign_tell(struct engine *e, int event, void *event_data)
{
	struct foreign *f = &e->foreign;
	int rc = MOSQ_SUCCESS;

	f->walking++;
	for (unsigned i = 0; i < f->count; i++) {
		int said;

		if (f->callbacks[i].fn == NULL || f->callbacks[i].event != event)
			continue;
		said = call(e, &f->callbacks[i], event_data);
		if (rc == MOSQ_SUCCESS && said != MOSQ_PLUGIN_DEFER)
			rc = said;
	}
	if (--f->walking == 0)
		sweep(f);
	return rc;
}

/* ---- the file ---------------------------------------------------------------------------- */

bool
foreign_fail(struct engine *e, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(e->error, sizeof(e->error), format, ap);
	va_end(ap);
	return false;
}

bool
foreign_replaced(const struct engine *e, const char *path)
{
	const struct foreign *f = &e->foreign;
	struct stat st;

	return stat(path, &st) == 0 &&
	    (st.st_dev != f->device || st.st_ino != f->inode ||
		st.st_mtim.tv_sec != f->changed.tv_sec || st.st_mtim.tv_nsec != f->changed.tv_nsec);
}

static bool
open_file(struct engine *e, const char *path)
{
	struct foreign *f = &e->foreign;
	struct stat st;

	/* Else a name without slash is searched for, and a folder gives a strange message. */
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return foreign_fail(e, "%s: there is no such file", path);
	foreign_enter(e, "its start (dlopen)");
	f->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	foreign_leave(e);
	if (f->handle == NULL) {
		const char *text = dlerror();

		if (text != NULL && strstr(text, "undefined symbol: mosquitto_") != NULL)
			return foreign_fail(e,
			    "it cannot be loaded: %s; this function of Mosquitto has no "
			    "counterpart here (grapnel-mosquitto-compat(5))",
			    text);
		return foreign_fail(e, "it cannot be loaded: %s", text != NULL ? text : "?");
	}
	f->device = st.st_dev;
	f->inode = st.st_ino;
	f->changed = st.st_mtim;
	return true;
}

void *
foreign_find(const struct engine *e, const char *name, void *fn)
{
	void *symbol = dlsym(e->foreign.handle, name);

	memcpy(fn, &symbol, sizeof(symbol)); /* ISO C knows no other way from one to the other */
	return symbol;
}

static bool
find_version(struct engine *e)
{
	static const int versions[] = { 5, 4, 3 };
	struct foreign *f = &e->foreign;
	plugin_version_fn version = NULL;
	auth_version_fn auth_version = NULL;
	void *symbol = foreign_find(e, "mosquitto_plugin_version", &version);
	Dl_info info;

	if (symbol == NULL)
		symbol = foreign_find(e, "mosquitto_auth_plugin_version", &auth_version);
	if (symbol == NULL)
		return foreign_fail(e,
		    "it is no plugin of Mosquitto: it has neither mosquitto_plugin_version nor "
		    "mosquitto_auth_plugin_version");
	if (dladdr(symbol, &info) != 0)
		grapnel_mosquitto_mapped(&e->claim, info.dli_fbase);
	foreign_enter(e, "mosquitto_plugin_version");
	f->version = version != NULL
	    ? version((int)(sizeof(versions) / sizeof(versions[0])), versions)
	    : auth_version();
	foreign_leave(e);
	if (f->version >= 3 && f->version <= 5)
		return true;
	return foreign_fail(e,
	    "it wants version %d of Mosquitto's plugin interface; there are 5, 4 and 3 here",
	    f->version);
}

static int
init_5(struct engine *e)
{
	struct foreign *f = &e->foreign;
	plugin_init_fn init;
	int rc;

	(void)foreign_find(e, "mosquitto_plugin_cleanup", &f->cleanup);
	if (foreign_find(e, "mosquitto_plugin_init", &init) == NULL) {
		(void)foreign_fail(e, "it has no function mosquitto_plugin_init");
		return MOSQ_UNKNOWN;
	}
	foreign_enter(e, "mosquitto_plugin_init");
	rc = init(&e->head, &f->userdata, e->loaded->options, e->loaded->count);
	foreign_leave(e);
	return rc;
}

bool
foreign_load(struct engine *e, struct load *l)
{
	struct foreign *f = &e->foreign;
	int rc;

	memset(f, 0, sizeof(*f));
	e->error[0] = '\0';
	e->loaded = load_ref(l);
	if (!open_file(e, l->path) || !find_version(e))
		goto fail;
	rc = f->version == 5 ? init_5(e) : foreign_old_init(e);
	if (rc == MOSQ_SUCCESS) {
		f->ready = true;
		atomic_store(&e->version, f->version);
		events_changed(e);
		return true;
	}
	if (e->error[0] == '\0')
		(void)foreign_fail(e,
		    "it does not start: its initialisation returned %d (%s); what it has logged "
		    "may say why",
		    rc, mosquitto_strerror(rc));
	f->cleanup = NULL; /* as in Mosquitto: what did not begin has no end */
	f->auth_cleanup = NULL;
fail:
	foreign_unload(e);
	return false;
}

void
foreign_unload(struct engine *e)
{
	struct foreign *f = &e->foreign;

	if (f->cleanup != NULL) {
		foreign_enter(e, "mosquitto_plugin_cleanup");
		(void)f->cleanup(f->userdata, e->loaded->options, e->loaded->count);
		foreign_leave(e);
	}
	if (f->auth_cleanup != NULL)
		foreign_old_cleanup(e);
	for (unsigned i = 0; i < f->count; i++)
		free(f->callbacks[i].topic);
	grapnel_mosquitto_mapped(&e->claim, NULL);
	if (f->handle != NULL) {
		foreign_enter(e, "its end (dlclose)");
		(void)dlclose(f->handle);
		foreign_leave(e);
	}
	memset(f, 0, sizeof(*f));
	load_unref(e->loaded);
	e->loaded = NULL;
}
