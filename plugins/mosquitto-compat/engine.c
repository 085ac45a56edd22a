/* SPDX-License-Identifier: Apache-2.0 */
/* engine - a foreign plugin and its thread: engine.h. What is asked of it is in queue.c and calls.c */
#include "engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define END_MS 2000u /* the broker itself ends 4.5 s after its signal */

bool
engine_is_here(const struct engine *e)
{
	return pthread_equal(e->claim.thread, pthread_self()) != 0;
}

uint64_t
engine_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct timespec
time_of(uint64_t ms)
{
	return (struct timespec){ .tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000) * 1000000 };
}

void
engine_log(struct engine *e, enum grapnel_log_level level, const char *format, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	(void)pthread_mutex_lock(&e->lock);
	if (e->current != NULL)
		e->current->host->log(e->current->self, level, "%s", text);
	(void)pthread_mutex_unlock(&e->lock);
}

void
engine_count(struct engine *e, enum metric metric, int64_t delta)
{
	(void)pthread_mutex_lock(&e->lock);
	engine_count_locked(e, metric, delta);
	(void)pthread_mutex_unlock(&e->lock);
}

void
engine_count_locked(struct engine *e, enum metric metric, int64_t delta)
{
	const struct instance *in = e->current;

	if (in != NULL && in->metrics[metric] >= 0)
		in->host->metric_add(in->self, in->metrics[metric], delta);
}

/* ---- the thread -------------------------------------------------------------------------- */

static void
engine_free(struct engine *e)
{
	if (e->claim.path != NULL)
		grapnel_mosquitto_release(&e->claim);
	free((char *)(uintptr_t)e->claim.path);
	clients_fini(&e->clients);
	free(e->title);
	free(e->token);
	(void)pthread_cond_destroy(&e->changed);
	(void)pthread_mutex_destroy(&e->lock);
	free(e);
}

/* Under the lock: gauges of the instance that reports from now on. */
static void
become_current(struct engine *e, struct instance *in)
{
	e->current = in;
	engine_count_locked(e, METRIC_QUEUE, e->waiting);
	engine_count_locked(e, METRIC_LOADED, e->state == ENGINE_UP);
}

/* Under the lock. */
static void
set_state(struct engine *e, enum engine_state state)
{
	int up = e->state == ENGINE_UP;

	e->state = state;
	engine_count_locked(e, METRIC_LOADED, (state == ENGINE_UP) - up);
	(void)pthread_cond_broadcast(&e->changed);
}

static void
load(struct engine *e, struct load *l)
{
	bool good = foreign_load(e, l);

	(void)pthread_mutex_lock(&e->lock);
	set_state(e, good ? ENGINE_UP : ENGINE_DOWN);
	(void)pthread_mutex_unlock(&e->lock);
}

/* Some objects stay for good: those written in Go, those that others hold. */
static void
say_unless_unloaded(struct engine *e, const char *path)
{
	void *still = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);

	if (still == NULL)
		return;
	(void)dlclose(still);
	engine_log(e, GRAPNEL_LOG_WARNING,
	    "the Mosquitto plugin cannot be unloaded: what it keeps in global variables stays, and "
	    "a "
	    "new file is not used; restart the broker if that matters");
}

/* The instance in force left the chains of what there was no callback for when it was made. */
static void
say_if_others(struct engine *e, uint32_t before)
{
	if (atomic_load(&e->events) != before)
		engine_log(e, GRAPNEL_LOG_WARNING,
		    "the Mosquitto plugin has registered other callbacks than before; reload once "
		    "more, so that the broker asks it about them");
}

/* A new instance is in force. */
static void
adopt(struct engine *e, struct load *l)
{
	uint32_t before = atomic_load(&e->events);

	if (e->loaded != NULL && load_equal(e->loaded, l) && !foreign_replaced(e, l->path)) {
		calls_reload(e);
		return;
	}
	if (e->loaded != NULL) {
		engine_log(e, GRAPNEL_LOG_NOTICE,
		    "its options or its file have changed: the Mosquitto plugin is loaded again");
		(void)pthread_mutex_lock(&e->lock);
		set_state(e, ENGINE_LOADING);
		(void)pthread_mutex_unlock(&e->lock);
		foreign_unload(e);
		say_unless_unloaded(e, l->path);
	}
	load(e, l);
	if (e->loaded == NULL)
		engine_log(e, GRAPNEL_LOG_ERROR,
		    "%s; what it is asked is answered with \"unavailable\" until a reload finds it "
		    "well",
		    e->error);
	else
		say_if_others(e, before);
}

/* Under the lock, which is let go meanwhile. false: nothing to do. */
static bool
work(struct engine *e)
{
	struct call *c;

	if (e->adopt != NULL) {
		struct load *l = load_ref(e->adopt->load);

		e->adopt = NULL;
		(void)pthread_mutex_unlock(&e->lock);
		adopt(e, l);
		load_unref(l);
		(void)pthread_mutex_lock(&e->lock);
		return true;
	}
	if ((c = e->first) == NULL)
		return false;
	engine_unlink(e, c);
	c->running = true;
	(void)pthread_mutex_unlock(&e->lock);
	calls_run(e, c);
	(void)pthread_mutex_lock(&e->lock);
	return true;
}

/* Under the lock. Milliseconds until the next tick; calls it when it is due. */
static uint64_t
tick(struct engine *e)
{
	uint64_t now = engine_now_ms();
	uint32_t every = e->current != NULL ? e->current->tick_ms : 1000;

	if (!(atomic_load(&e->events) & (1u << EVT_TICK)) || e->state != ENGINE_UP)
		return UINT64_MAX;
	if (now < e->next_tick_ms)
		return e->next_tick_ms - now;
	e->next_tick_ms = now + every;
	(void)pthread_mutex_unlock(&e->lock);
	calls_tick(e);
	(void)pthread_mutex_lock(&e->lock);
	return 0;
}

static void
run(struct engine *e)
{
	(void)pthread_mutex_lock(&e->lock);
	for (;;) {
		uint64_t left = e->stopping ? UINT64_MAX : tick(e);

		if (work(e) || left == 0)
			continue;
		if (e->stopping)
			break;
		if (left == UINT64_MAX) {
			(void)pthread_cond_wait(&e->changed, &e->lock);
		} else {
			struct timespec until = time_of(engine_now_ms() + left);

			(void)pthread_cond_timedwait(&e->changed, &e->lock, &until);
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
}

static void *
thread_main(void *arg)
{
	struct engine *e = arg;
	struct load *l = e->begin;
	bool abandoned;

	grapnel_mosquitto_thread(&e->claim);
	load(e, l);
	load_unref(l);
	run(e);
	foreign_unload(e);
	(void)pthread_mutex_lock(&e->lock);
	e->ended = true;
	abandoned = e->abandoned;
	(void)pthread_cond_broadcast(&e->changed);
	(void)pthread_mutex_unlock(&e->lock);
	if (abandoned) /* nobody waits any more */
		engine_free(e);
	return NULL;
}

static int
start_thread(struct engine *e)
{
	sigset_t all, before;
	int err;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&e->thread, NULL, thread_main, e);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err == 0)
		(void)pthread_setname_np(e->thread, "mosq-compat");
	return err;
}

/* ---- its life ---------------------------------------------------------------------------- */

/* A thread that hangs in a foreign plugin may come back at any time: what it returns to must stay. */
static void
stay_for_good(void)
{
	Dl_info here;

	if (dladdr((const void *)&engine_calls, &here) != 0)
		(void)dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

/* false: it hangs, and is left behind. `in` still attached: for the log. */
static bool
engine_end(struct engine *e, const struct instance *in)
{
	struct timespec until = time_of(engine_now_ms() + END_MS);
	pthread_t thread = e->thread;
	const char *what;
	bool ended;
	int err = 0;

	grapnel_mosquitto_leave(&e->claim);
	(void)pthread_mutex_lock(&e->lock);
	e->stopping = true;
	(void)pthread_cond_broadcast(&e->changed);
	while (!e->ended && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&e->changed, &e->lock, &until);
	ended = e->ended;
	e->abandoned = !ended;
	e->current = NULL;
	e->instances = NULL;
	what = atomic_load(&e->what);
	(void)pthread_mutex_unlock(&e->lock);
	if (ended) {
		(void)pthread_join(thread, NULL);
		engine_free(e);
		return true;
	}
	in->host->log(in->self, GRAPNEL_LOG_ERROR,
	    "the Mosquitto plugin hangs in %s; its thread is left as it is, with what it has in "
	    "memory",
	    what);
	stay_for_good();
	(void)pthread_detach(thread);
	return false;
}

static struct engine *
engine_new(const struct grapnel_host *host, const char *title, const char *path)
{
	struct engine *e = calloc(1, sizeof(*e));
	pthread_condattr_t monotonic;
	uint64_t random[2];

	if (e == NULL)
		return NULL;
	e->head.calls = &engine_calls;
	e->last = &e->first;
	atomic_init(&e->what, "nothing");
	if (pthread_mutex_init(&e->lock, NULL) != 0) {
		free(e);
		return NULL;
	}
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	if (pthread_cond_init(&e->changed, &monotonic) != 0) {
		(void)pthread_condattr_destroy(&monotonic);
		(void)pthread_mutex_destroy(&e->lock);
		free(e);
		return NULL;
	}
	(void)pthread_condattr_destroy(&monotonic);
	e->title = strdup(title);
	if (e->title == NULL || !clients_init(&e->clients, host) ||
	    host->random_bytes(random, sizeof(random)) != GRAPNEL_OK) {
		engine_free(e);
		return NULL;
	}
	if (asprintf(&e->token, TOKEN_PREFIX "%s-%016" PRIx64 "%016" PRIx64, title, random[0],
		random[1]) < 0) {
		e->token = NULL;
		engine_free(e);
		return NULL;
	}
	e->claim.engine = &e->head;
	e->claim.title = e->title;
	e->claim.path = strdup(path);
	if (e->claim.path != NULL)
		return e;
	engine_free(e);
	return NULL;
}

static void
attach(struct engine *e, struct instance *in)
{
	(void)pthread_mutex_lock(&e->lock);
	in->engine = e;
	in->next = e->instances;
	e->instances = in;
	if (e->current == NULL)
		become_current(e, in);
	(void)pthread_mutex_unlock(&e->lock);
}

/* Wait for the first load. */
static bool
wait_loaded(struct engine *e, struct instance *in)
{
	struct timespec until = time_of(engine_now_ms() + in->start_timeout_ms);
	enum engine_state state;
	int err = 0;

	(void)pthread_mutex_lock(&e->lock);
	while (e->state == ENGINE_LOADING && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&e->changed, &e->lock, &until);
	state = e->state;
	(void)pthread_mutex_unlock(&e->lock);
	if (state == ENGINE_LOADING)
		in->host->config_error(in->self, NULL, "path",
		    "the Mosquitto plugin has not returned from %s within start_timeout",
		    atomic_load(&e->what));
	else if (state == ENGINE_DOWN)
		in->host->config_error(in->self, NULL, "path", "%s", e->error);
	return state == ENGINE_UP;
}

/* Somebody has that file already. left: it is nobody's engine, and goes at any time. */
static bool
take_over(struct instance *in, const struct claim *other, bool left, const char *title)
{
	struct engine *e;

	if (left) {
		in->host->config_error(in->self, NULL, "path",
		    "it was loaded before, and still hangs in a call; try again when that has "
		    "ended, or restart the broker");
		return false;
	}
	e = (struct engine *)other->engine;
	if (other->engine->calls != &engine_calls) {
		in->host->config_error(in->self, NULL, "path",
		    "the file of mosquitto-compat itself was replaced, and a Mosquitto plugin "
		    "cannot be handed over to the new one; restart the broker");
		return false;
	}
	if (strcmp(e->title, title) == 0) {
		attach(e, in);
		return true;
	}
	in->host->config_error(in->self, NULL, "path",
	    "plugin \"%s\" has loaded it already, and a Mosquitto plugin keeps its state in "
	    "itself; "
	    "give this section a copy of the file, or, when it was renamed, restart the broker",
	    e->title);
	return false;
}

bool
engine_attach(struct instance *in, const char *title)
{
	struct engine *e = engine_new(in->host, title, in->load->path);
	const struct claim *other;
	bool left;
	int err;

	if (e == NULL) {
		in->host->config_error(in->self, NULL, NULL, "out of memory");
		return false;
	}
	if ((other = grapnel_mosquitto_claim(&e->claim, &left)) != NULL) {
		free((char *)(uintptr_t)e->claim.path);
		e->claim.path = NULL; /* it is not ours to release */
		engine_free(e);
		return take_over(in, other, left, title);
	}
	attach(e, in);
	e->begin = load_ref(in->load);
	if ((err = start_thread(e)) != 0) {
		in->host->config_error(in->self, NULL, NULL,
		    "no thread for the Mosquitto plugin: %s; raise the limit of threads",
		    strerror(err));
		in->engine = NULL;
		load_unref(e->begin);
		engine_free(e);
		return false;
	}
	if (wait_loaded(e, in))
		return true;
	in->engine = NULL;
	(void)engine_end(e, in);
	return false;
}

void
engine_adopt(struct instance *in)
{
	struct engine *e = in->engine;

	(void)pthread_mutex_lock(&e->lock);
	if (e->current != in) { /* else it is the one that has loaded it */
		become_current(e, in);
		e->adopt = in;
		(void)pthread_cond_broadcast(&e->changed);
	}
	(void)pthread_mutex_unlock(&e->lock);
}

void
engine_detach(struct instance *in)
{
	struct engine *e = in->engine;
	struct instance **at;
	bool last;

	if (e == NULL)
		return;
	(void)pthread_mutex_lock(&e->lock);
	for (at = &e->instances; *at != in; at = &(*at)->next)
		;
	last = e->instances->next == NULL;
	if (!last) {
		*at = in->next;
		if (e->adopt == in)
			e->adopt = NULL;
		/* A reload that came to nothing: the one before is in force again. */
		if (e->current == in) {
			become_current(e, e->instances);
			e->adopt = e->instances;
			(void)pthread_cond_broadcast(&e->changed);
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (last)
		(void)engine_end(e, in);
}

/* ---- what hangs -------------------------------------------------------------------------- */

void
engine_watch(struct engine *e)
{
	uint64_t since = atomic_load(&e->since_ms), now = engine_now_ms();

	(void)pthread_mutex_lock(&e->lock);
	if (e->said_slow_ms != 0 && since != e->said_slow_ms) {
		e->said_slow_ms = 0;
		engine_count_locked(e, METRIC_HANGS, -1);
		if (e->current != NULL)
			e->current->host->log(e->current->self, GRAPNEL_LOG_NOTICE,
			    "the Mosquitto plugin answers again");
	}
	if (since != 0 && e->said_slow_ms == 0 && e->current != NULL &&
	    now - since >= e->current->slow_after_ms) {
		e->said_slow_ms = since;
		engine_count_locked(e, METRIC_SLOW, 1);
		engine_count_locked(e, METRIC_HANGS, 1);
		e->current->host->log(e->current->self, GRAPNEL_LOG_WARNING,
		    "the Mosquitto plugin has been in %s for %" PRIu64
		    " ms; %u questions wait, and are answered with \"unavailable\" at their "
		    "deadlines",
		    atomic_load(&e->what), now - since, e->waiting);
	}
	(void)pthread_mutex_unlock(&e->lock);
}
