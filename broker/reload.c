/* SPDX-License-Identifier: Apache-2.0 */
#include "reload.h"
#include "base/log.h"
#include "config/options.h"
#include "core/broker.h"
#include "core/core.h"
#include "net/guard.h"
#include "net/listener.h"
#include "net/tls_context.h"
#include "plugin/handler.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct limits_kept {
	struct limits_kept *next;
	struct limits limits;
};

static struct limits_kept *
limits_copy(const struct limits *limits)
{
	struct limits_kept *kept = malloc(sizeof(*kept));

	if (kept != NULL) {
		kept->next = NULL;
		kept->limits = *limits;
	}
	return kept;
}

static void
limits_use(struct broker *b, struct limits_kept *kept)
{
	kept->next = b->limits_kept;
	b->limits_kept = kept;
	atomic_store(&b->limits, &kept->limits);
}

int
broker_limits_set(struct broker *b, const struct limits *limits)
{
	struct limits_kept *kept = limits_copy(limits);

	if (kept == NULL)
		return GRAPNEL_ENOMEM;
	limits_use(b, kept);
	return GRAPNEL_OK;
}

void
broker_limits_free(struct broker *b)
{
	atomic_store(&b->limits, NULL);
	while (b->limits_kept != NULL) {
		struct limits_kept *next = b->limits_kept->next;

		free(b->limits_kept);
		b->limits_kept = next;
	}
}

/* ---- the configuration as a whole ------------------------------------------------------------- */

static const struct listener_settings *
anonymous_listener(const struct settings *s)
{
	for (unsigned i = 0; i < s->listener_count; i++)
		if (s->listeners[i].anonymous)
			return &s->listeners[i];
	return NULL;
}

/* What a listener needs of plugins. */
static bool
listeners_check(const struct settings *s, const struct plugins *p, struct conf_errors *errs)
{
	bool ok = handlers_check(s, p, errs);

	for (unsigned i = 0; i < s->listener_count; i++) {
		const struct listener_settings *l = &s->listeners[i];

		if (l->psk_hook && !plugins_have(p, HOOK_TLS_PSK)) {
			conf_errors_add(errs,
			    "%s: listener \"%s\": psk = yes, but no plugin that is enabled knows "
			    "pre-shared keys (hook tls_psk_key); keys of a file are psk_file = "
			    "\"/path\", without psk",
			    l->where, l->name);
			ok = false;
		}
	}
	return ok;
}

bool
broker_check(const struct settings *s, const struct plugins *p, struct conf_errors *errs)
{
	if (!listeners_check(s, p, errs))
		return false;
	if (plugins_have(p, HOOK_AUTHENTICATE) || plugins_have(p, HOOK_AUTH_EXCHANGE) ||
	    anonymous_listener(s) != NULL)
		return true;
	conf_errors_add(errs,
	    "%s: nobody could connect: no plugin that authenticates is enabled, and no listener "
	    "says anonymous = yes. "
	    "Write for example in conf.d/20-auth-file.conf: plugin \"auth-file\" { enabled = yes  "
	    "password_file = "
	    "\"/etc/grapnel/passwd\" }, or, to let in everybody without a password, anonymous = "
	    "yes in a listener",
	    s->path);
	return false;
}

void
broker_warn(const struct settings *s, const struct plugins *p)
{
	const struct listener_settings *open = anonymous_listener(s);

	if (open != NULL && !plugins_have(p, HOOK_ACL))
		log_warning("%s: listener \"%s\" has anonymous = yes and no plugin decides about "
			    "rights: everybody who reaches it may publish "
			    "and subscribe to everything but $-topics",
		    open->where, open->name);
}

/* ---- what changed ------------------------------------------------------------------------------- */

struct changes {
	size_t len;
	char text[512];
};

static void
changed(struct changes *c, const char *prefix, const char *name)
{
	int n = snprintf(c->text + c->len, sizeof(c->text) - c->len, "%s%s%s",
	    c->len > 0 ? ", " : "", prefix, name);

	if (n > 0 && (size_t)n < sizeof(c->text) - c->len)
		c->len += (size_t)n;
	else
		c->text[c->len] = '\0'; /* the list is long enough without it */
}

static void
changed_rows(struct changes *c, const char *prefix, const struct option_def *table, const void *was,
    const void *is)
{
	for (const struct option_def *row = table; row->name != NULL; row++)
		if (!option_equal(row, was, is))
			changed(c, prefix, row->name);
}

/* What a listener only inherits from limits { } has been said already. */
static void
changed_limits(struct changes *c, const char *prefix, const struct settings *was,
    const struct settings *is, const struct listener_settings *l_was,
    const struct listener_settings *l_is)
{
	for (const struct option_def *row = limits_options; row->name != NULL; row++)
		if (!option_equal(row, &l_was->limits, &l_is->limits) &&
		    !(option_equal(row, &l_was->limits, &was->limits) &&
			option_equal(row, &l_is->limits, &is->limits)))
			changed(c, prefix, row->name);
}

static void
changes_between(struct changes *c, const struct settings *was, const struct settings *is)
{
	char prefix[80];

	changed_rows(c, "", top_options, was, is);
	changed_rows(c, "log ", log_options, was, is);
	changed_rows(c, "store ", store_options, was, is);
	changed_rows(c, "limits ", limits_total_options, &was->limits, &is->limits);
	changed_rows(c, "limits ", limits_options, &was->limits, &is->limits);
	for (unsigned i = 0; i < is->listener_count; i++) {
		for (unsigned j = 0; j < was->listener_count; j++) {
			if (strcmp(is->listeners[i].name, was->listeners[j].name) != 0)
				continue;
			(void)snprintf(
			    prefix, sizeof(prefix), "listener \"%.40s\" ", is->listeners[i].name);
			changed_rows(
			    c, prefix, listener_options, &was->listeners[j], &is->listeners[i]);
			changed_limits(c, prefix, was, is, &was->listeners[j], &is->listeners[i]);
		}
	}
}

/* ---- reload --------------------------------------------------------------------------------------- */

struct reload {
	struct broker *broker;
	struct settings *settings;  /* the new ones, one reference */
	struct plugins *plugins;    /* prepared from them */
	struct tls_set *tls;        /* likewise */
	struct limits_kept *limits; /* a copy of theirs: what may fail comes before the switch */
	void (*done)(void *arg, int err);
	void *arg;
};

static void
reload_free(struct reload *r)
{
	if (r == NULL)
		return;
	plugins_free(r->plugins);
	tls_set_free(r->tls);
	settings_unref(r->settings);
	free(r->limits);
	free(r);
}

static int
refuse(const struct conf_errors *errs, struct reload *r, int err)
{
	for (unsigned i = 0; i < errs->count; i++)
		log_error("%s", errs->messages[i]);
	log_at(GRAPNEL_LOG_ERROR, "reload_refused",
	    "nothing was changed: %u error%s in the new configuration", errs->count,
	    errs->count == 1 ? "" : "s");
	reload_free(r);
	return err;
}

/* All workers use the new plugins: now the rest, of which nothing can fail. */
static void
apply(struct reload *r)
{
	struct broker *b = r->broker;
	struct settings *old = b->settings, *s = r->settings;
	struct changes changes = { 0 };

	changes_between(&changes, old, s);
	if (log_configure(s->log.level, s->log.format == 0 ? LOG_TEXT : LOG_JSON, s->log.to) !=
	    GRAPNEL_OK)
		log_error("log: cannot write to %s: %s; going on with the old target", s->log.to,
		    strerror(errno));
	limits_use(b, r->limits);
	r->limits = NULL;
	b->settings = s;
	r->settings = NULL;
	listeners_apply(b->listeners, r->tls);
	r->tls = NULL;
	core_apply_settings(b, s);
	if (!guard_apply(b->guard, &s->guard))
		log_error("out of memory: the guard keeps its old settings");
	settings_unref(old);
	/* Who is connected was let in by what may be gone: ask again. */
	core_rights_changed(b);
	log_at(GRAPNEL_LOG_NOTICE, "reloaded",
	    "the new configuration is in force; options of the broker that changed: %s",
	    changes.len > 0 ? changes.text : "none");
	broker_warn(s, b->plugins);
}

static void
on_switched(void *arg, int err)
{
	struct reload *r = arg;
	struct broker *b = r->broker;

	if (err == GRAPNEL_OK) {
		b->plugins = r->plugins;
		apply(r);
	} else {
		log_at(GRAPNEL_LOG_ERROR, "reload_refused",
		    "nothing was changed: a plugin did not start (see above)");
	}
	r->plugins = NULL; /* plugins_switch has taken over the set that lost */
	b->reloading = false;
	if (r->done != NULL)
		r->done(r->arg, err);
	reload_free(r);
}

int
broker_reload(
    struct broker *b, struct conf_errors *errs, void (*done)(void *arg, int err), void *arg)
{
	struct reload *r;
	int err;

	if (b->reloading || atomic_load(&b->shutting_down))
		return GRAPNEL_ESTATE;
	if ((r = calloc(1, sizeof(*r))) == NULL)
		goto no_memory;
	r->broker = b;
	r->done = done;
	r->arg = arg;
	if ((err = settings_load(b->settings->path, errs, &r->settings)) != GRAPNEL_OK)
		return refuse(errs, r, err);
	if (!settings_reloadable(b->settings, r->settings, errs))
		return refuse(errs, r, GRAPNEL_EINVAL);
	if ((err = log_check(r->settings->log.to)) != GRAPNEL_OK) {
		conf_errors_add(
		    errs, "log: cannot write to %s: %s", r->settings->log.to, strerror(errno));
		return refuse(errs, r, err);
	}
	if ((err = tls_set_new(r->settings, errs, &r->tls)) != GRAPNEL_OK)
		return refuse(errs, r, err);
	if ((r->limits = limits_copy(&r->settings->limits)) == NULL)
		goto no_memory;
	if ((err = plugins_prepare(b->plugins, r->settings, errs, &r->plugins)) != GRAPNEL_OK)
		return refuse(errs, r, err);
	if (!broker_check(r->settings, r->plugins, errs))
		return refuse(errs, r, GRAPNEL_EINVAL);
	b->reloading = true;
	plugins_switch(b->plugins, r->plugins, on_switched, r);
	return GRAPNEL_OK;
no_memory:
	conf_errors_add(errs, "out of memory");
	return refuse(errs, r, GRAPNEL_ENOMEM);
}
