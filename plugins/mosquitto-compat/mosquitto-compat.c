/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mosquitto-compat - runs plugins that were made for Mosquitto
 *
 * This file: options, and the life of an instance. engine.c has the thread that calls the foreign plugin, hooks.c what it is
 * asked, provide.c and libgrapnel-mosquitto.so (helper.c) what it may ask.
 */
#include "hooks.h"

#include "common/text_copy.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX  1024
#define WATCH_MIN_MS 100u

static const struct grapnel_option option_options[] = {
	{ .name = "value",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED | GRAPNEL_OPTION_SECRET,
	    .help = "What the Mosquitto plugin gets as the value of this option." },
	{ .name = NULL },
};

static const struct grapnel_option compat_options[] = {
	{ .name = "acl_depends",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "What answers about rights depend on, besides action, topic, QoS and retain: "
		    "some of "
		    "username, client_id, address, listener; then the broker keeps them for "
		    "cache_ttl." },
	{ .name = "deny_special_chars",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "yes",
	    .help = "Whether a plugin of version 3 or 4 is not asked about rights of clients with "
		    "+, # or / "
		    "in their names: they have none." },
	{ .name = "direct_messages",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "yes",
	    .help = "Whether the plugin may send messages to one client; each delivery is looked "
		    "at for it." },
	{ .name = "login_depends",
	    .type = GRAPNEL_OPTION_LIST,
	    .help =
		"What answers about logins depend on: some of username, password, client_id, "
		"address, "
		"listener, password always among them; then the broker keeps them for cache_ttl." },
	{ .name = "option",
	    .type = GRAPNEL_OPTION_BLOCK,
	    .options = option_options,
	    .help = "An option of the Mosquitto plugin: plugin_opt_NAME in mosquitto.conf." },
	{ .name = "path",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Path of the Mosquitto plugin's file." },
	{ .name = "queue",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "1000",
	    .min = 1,
	    .max = 1000000,
	    .help = "Questions that may wait for the Mosquitto plugin; others are answered with "
		    "\"unavailable\" at once." },
	{ .name = "slow_after",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "1s",
	    .min = 100,
	    .max = 3600000,
	    .help = "A call that takes longer is named in the log." },
	{ .name = "start_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "10s",
	    .min = 100,
	    .max = 600000,
	    .help = "Time for its initialisation when the broker starts, or the section is new." },
	{ .name = "tick_interval",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "100ms",
	    .min = 10,
	    .max = 3600000,
	    .help = "How often MOSQ_EVT_TICK comes." },
	{ .name = NULL },
};

/* ---- options ----------------------------------------------------------------------------- */

static bool
is(struct grapnel_str s, const char *word)
{
	return s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

/* false: a word is unknown, which was said. *mask 0: nothing is given. */
static bool
read_depends(struct instance *in, const char *option, bool password, uint64_t *mask)
{
	static const struct {
		const char *word;
		uint64_t bit;
	} words[] = { { "username", GRAPNEL_DEPENDS_USERNAME },
		{ "client_id", GRAPNEL_DEPENDS_CLIENT_ID }, { "address", GRAPNEL_DEPENDS_ADDRESS },
		{ "listener", GRAPNEL_DEPENDS_LISTENER },
		{ "password", GRAPNEL_DEPENDS_PASSWORD } };
	const size_t n = sizeof(words) / sizeof(words[0]) - (password ? 0 : 1);
	struct grapnel_str s;
	bool good = true;

	*mask = 0;
	for (size_t i = 0; (s = in->host->option_list(in->self, NULL, option, i)).data != NULL;
	     i++) {
		size_t w = 0;

		while (w < n && !is(s, words[w].word))
			w++;
		if (w < n) {
			*mask |= words[w].bit;
			continue;
		}
		in->host->config_error(in->self, NULL, option,
		    "\"%.*s\" is none of username, client_id, address, listener%s", (int)s.len,
		    s.data, password ? ", password" : "");
		good = false;
	}
	return good;
}

static bool
set_depends(struct instance *in)
{
	uint64_t login, acl;
	bool good = read_depends(in, "login_depends", true, &login);

	good = read_depends(in, "acl_depends", false, &acl) && good;
	if (good && login != 0 && !(login & GRAPNEL_DEPENDS_PASSWORD)) {
		/* For cache_ttl whoever knows the name would come in. */
		in->host->config_error(
		    in->self, NULL, "login_depends", "\"password\" has to be among them");
		good = false;
	}
	if (!good)
		return false;
	in->purge = login != 0 || acl != 0;
	return (login == 0 ||
		   in->host->depends_on(in->self, "client_authenticate", login) == GRAPNEL_OK) &&
	    (acl == 0 || in->host->depends_on(in->self, "acl_check", acl) == GRAPNEL_OK);
}

/* Those of mosquitto.conf, without plugin_opt_. */
static bool
read_options(struct instance *in, struct load *l)
{
	struct opt *options = calloc(OPTIONS_MAX, sizeof(*options));
	const struct grapnel_block *block;
	struct grapnel_str title;

	if ((l->options = options) == NULL)
		return false;
	while ((block = in->host->option_block(
		    in->self, NULL, "option", (size_t)l->count, &title)) != NULL) {
		struct opt *o = &options[l->count];

		if (l->count == OPTIONS_MAX) {
			in->host->config_error(
			    in->self, block, NULL, "there are more than %d options", OPTIONS_MAX);
			return false;
		}
		l->count++;
		o->key = text_copy(title);
		o->value = text_copy(in->host->option_str(in->self, block, "value"));
		if (o->key == NULL || o->value == NULL)
			return false;
	}
	return true;
}

static bool
read_path(struct instance *in, struct load *l)
{
	struct grapnel_str s = in->host->option_str(in->self, NULL, "path");
	char *given = text_copy(s);

	if (given == NULL)
		return false;
	if (*given != '/') {
		in->host->config_error(
		    in->self, NULL, "path", "it has to begin with \"/\"; write the whole path");
		free(given);
		return false;
	}
	/* One file is one file, by whatever name. */
	l->path = realpath(given, NULL);
	if (l->path == NULL)
		in->host->config_error(in->self, NULL, "path",
		    "there is no such file, or the broker's user may not see it");
	free(given);
	return l->path != NULL;
}

static struct load *
read_load(struct instance *in)
{
	struct load *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	atomic_init(&l->refs, 1);
	l->deny_special_chars = in->host->option_bool(in->self, NULL, "deny_special_chars");
	if (read_path(in, l) && read_options(in, l))
		return l;
	load_unref(l);
	return NULL;
}

static void
make_metrics(struct instance *in)
{
	static const struct {
		enum grapnel_metric_kind kind;
		const char *name, *help;
	} metrics[METRIC_COUNT] = {
		[METRIC_CALLS] = { GRAPNEL_COUNTER, "calls_total",
		    "Questions that the Mosquitto plugin answered in time." },
		[METRIC_CANCELLED] = { GRAPNEL_COUNTER, "cancelled_total",
		    "Questions that nobody waited for any more: the client left, or the deadline "
		    "passed." },
		[METRIC_FAILED] = { GRAPNEL_COUNTER, "failed_total", "Answers that were errors." },
		[METRIC_REFUSED] = { GRAPNEL_COUNTER, "refused_total",
		    "Questions that were not asked since too many waited." },
		[METRIC_SLOW] = { GRAPNEL_COUNTER, "slow_total",
		    "Calls that took longer than slow_after." },
		[METRIC_QUEUE] = { GRAPNEL_GAUGE, "queue",
		    "Questions that wait for the Mosquitto plugin." },
		[METRIC_HANGS] = { GRAPNEL_GAUGE, "hangs",
		    "1 while the Mosquitto plugin is in a call for longer than slow_after." },
		[METRIC_LOADED] = { GRAPNEL_GAUGE, "loaded",
		    "1 while the Mosquitto plugin is loaded and initialised." },
	};

	for (int i = 0; i < METRIC_COUNT; i++)
		in->metrics[i] = in->host->metric_new(
		    in->self, metrics[i].kind, metrics[i].name, metrics[i].help);
}

/* ---- life -------------------------------------------------------------------------------- */

/* What the foreign plugin has no callback for is not its matter. */
static bool
leave_chains(struct instance *in)
{
	uint32_t events = atomic_load(&in->engine->events);
	const struct {
		const char *hook;
		bool wanted;
	} hooks[] = {
		{ "client_authenticate", (events & (1u << EVT_BASIC_AUTH)) != 0 },
		{ "client_auth_exchange", (events & (1u << EVT_EXT_AUTH_START)) != 0 },
		{ "acl_check", (events & (1u << EVT_ACL_CHECK)) != 0 },
		{ "client_unsubscribe",
		    (events & (1u << EVT_ACL_CHECK)) != 0 &&
			atomic_load(&in->engine->version) >= 5 },
		{ "message_publish", (events & (1u << EVT_MESSAGE | 1u << EVT_CONTROL)) != 0 },
		{ "message_deliver", in->direct },
		{ "tls_psk_key", (events & (1u << EVT_PSK_KEY)) != 0 },
	};

	(void)pthread_mutex_lock(&in->engine->lock);
	in->events = events;
	(void)pthread_mutex_unlock(&in->engine->lock);
	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++)
		if (!hooks[i].wanted &&
		    in->host->hook_disable(in->self, hooks[i].hook) != GRAPNEL_OK)
			return false;
	return true;
}

/* The functions that a foreign plugin imports are found by everybody from now on. */
static bool
open_helper(struct instance *in)
{
	Dl_info info;

	if (grapnel_mosquitto_version() != HELPER_VERSION) {
		in->host->config_error(in->self, NULL, NULL,
		    "libgrapnel-mosquitto.so is of another version than the plugin; restart the "
		    "broker");
		return false;
	}
	if (dladdr((const void *)&grapnel_mosquitto_version, &info) != 0 &&
	    dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL | RTLD_NODELETE) != NULL)
		return true;
	in->host->config_error(
	    in->self, NULL, NULL, "libgrapnel-mosquitto.so cannot be opened: %s", dlerror());
	return false;
}

static void
compat_destroy(void *instance)
{
	struct instance *in = instance;

	engine_detach(in);
	load_unref(in->load);
	free(in);
}

static int
compat_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct instance *in = calloc(1, sizeof(*in));
	char *title = text_copy(host->instance_name(self));
	int err = GRAPNEL_EINVAL;

	if (in == NULL || title == NULL) {
		free(in);
		free(title);
		return GRAPNEL_ENOMEM;
	}
	in->host = host;
	in->self = self;
	in->start_timeout_ms = (uint32_t)host->option_int(self, NULL, "start_timeout");
	in->slow_after_ms = (uint32_t)host->option_int(self, NULL, "slow_after");
	in->tick_ms = (uint32_t)host->option_int(self, NULL, "tick_interval");
	in->queue = (unsigned)host->option_int(self, NULL, "queue");
	in->direct = host->option_bool(self, NULL, "direct_messages");
	make_metrics(in);
	if (!set_depends(in) || !open_helper(in) || (in->load = read_load(in)) == NULL ||
	    !engine_attach(in, title) || !leave_chains(in)) {
		compat_destroy(in);
	} else {
		*instance = in;
		err = GRAPNEL_OK;
	}
	free(title);
	return err;
}

static void
on_watch(void *arg)
{
	struct instance *in = arg;
	uint32_t every = in->slow_after_ms / 4;

	engine_watch(in->engine);
	(void)in->host->timer_arm(in->watch, every > WATCH_MIN_MS ? every : WATCH_MIN_MS);
}

static int
compat_worker_start(void *instance, unsigned worker)
{
	struct instance *in = instance;

	if (worker == 0) {
		in->watch = in->host->timer_new(in->self, on_watch, in);
		if (in->watch == NULL || in->host->timer_arm(in->watch, WATCH_MIN_MS) != GRAPNEL_OK)
			return GRAPNEL_ENOMEM;
	}
	if (atomic_fetch_add(&in->workers, 1) == 0)
		engine_adopt(in);
	return GRAPNEL_OK;
}

static void
compat_worker_stop(void *instance, unsigned worker)
{
	struct instance *in = instance;

	if (worker == 0)
		in->host->timer_free(in->watch);
}

GRAPNEL_PLUGIN(mosquitto_compat, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Runs plugins that were made for Mosquitto.", .options = compat_options,
    .create = compat_create, .destroy = compat_destroy, .worker_start = compat_worker_start,
    .worker_stop = compat_worker_stop, .reload_always = true, .request_cancelled = hook_cancelled,
    .client_authenticate = hook_authenticate, .client_auth_exchange = hook_exchange,
    .acl_check = hook_acl_check, .client_unsubscribe = hook_unsubscribe,
    .message_publish = hook_publish, .message_deliver = hook_deliver, .tls_psk_key = hook_psk_key,
    .events = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED) |
	GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_REFUSED) |
	GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_DISCONNECTED),
    .event_mode = GRAPNEL_EVENTS_LOSSLESS, .on_events = hook_events);
