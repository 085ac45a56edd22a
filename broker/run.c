/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "admin/admin.h"
#include "base/log.h"
#include "base/rcu.h"
#include "cmdline.h"
#include "config.h"
#include "config/conf.h"
#include "core/broker.h"
#include "core/core.h"
#include "core/durable.h"
#include "core/memory.h"
#include "core/retain.h"
#include "core/topic_index.h"
#include "net/guard.h"
#include "net/listener.h"
#include "net/tls_context.h"
#include "notify.h"
#include "plugin/hooks.h"
#include "privileges.h"
#include "reload.h"
#include "signals.h"
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define STOP_MS      4500u /* from the signal to the end, whatever hangs */
#define JOIN_MS      60000u
#define WAIT_MS      20u
#define LET_GO_TURNS 3 /* each may bring what waits once more: core/hold.c */
#define DRAIN_TURNS  10000u

struct run {
	struct broker *b;
	struct signals *signals;
	int exit_code;
	bool test;          /* -t --connect: stop as soon as the plugins have started */
	bool plugins_ready; /* worker_start has returned everywhere, well or not */
	bool stop_wanted, stopping;
	bool core_up;
	bool pid_file_ours;
	struct timer wait;
	struct mail stop_mails[WORKER_MAX];
};

/* ---- the broker and its workers ---------------------------------------------------------------- */

static uint64_t
name_hash(const char *name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return h ^ h >> 32;
}

/* Takes over the reference to s, on failure too. */
static int
broker_new(struct settings *s, struct broker **out)
{
	struct broker *b = calloc(1, sizeof(*b));
	uint32_t boot;
	int err = GRAPNEL_ENOMEM;

	if (b == NULL) {
		settings_unref(s);
		return err;
	}
	*out = b; /* broker_free takes it half-built */
	b->settings = s;
	b->worker_count = s->workers < WORKER_MAX ? s->workers : WORKER_MAX;
	b->started_us = clock_wall_us();
	atomic_init(
	    &b->rights_generation, 1); /* what a store brings was asked about by none of us */
	b->node_id = name_hash(s->node_name);
	if (getrandom(b->hash_key, sizeof(b->hash_key), 0) != (ssize_t)sizeof(b->hash_key) ||
	    getrandom(&boot, sizeof(boot), 0) != (ssize_t)sizeof(boot))
		return GRAPNEL_ESYS;
	/* Seconds make it ascend, random bits keep it apart after a clock that went back. */
	b->boot_id = (uint64_t)(b->started_us / 1000000) << 32 | boot;
	if ((err = broker_limits_set(b, &s->limits)) != GRAPNEL_OK)
		return err;
	for (unsigned i = 0; i <= b->worker_count; i++)
		if ((err = worker_new(&b->workers[i], b, i)) != GRAPNEL_OK)
			return err;
	b->main = b->workers[b->worker_count];
	worker_self = b->main;
	if ((b->guard = guard_new(b)) == NULL || !guard_apply(b->guard, &b->settings->guard))
		return GRAPNEL_ENOMEM;
	if ((err = topic_index_new(&b->index, b->worker_count)) != GRAPNEL_OK)
		return err;
	return retain_new(&b->retain);
}

static void
broker_free(struct broker *b)
{
	if (b == NULL)
		return;
	retain_free(b->retain);
	rcu_wait(); /* nodes of the index on their way out */
	topic_index_free(b->index);
	listeners_free(b->listeners);
	guard_free(b->guard);
	worker_self = NULL;
	for (unsigned i = 0; i <= b->worker_count; i++)
		worker_free(b->workers[i]);
	broker_limits_free(b);
	settings_unref(b->settings);
	free(b);
}

static void
print_errors(struct conf_errors *errs)
{
	for (unsigned i = 0; i < errs->count; i++)
		(void)fprintf(stderr, "%s\n", errs->messages[i]);
	conf_errors_clear(errs);
}

static void
on_libevent_log(int severity, const char *text)
{
	static const int level[] = {
		[EVENT_LOG_DEBUG] = GRAPNEL_LOG_TRACE,
		[EVENT_LOG_MSG] = GRAPNEL_LOG_INFO,
		[EVENT_LOG_WARN] = GRAPNEL_LOG_WARNING,
		[EVENT_LOG_ERR] = GRAPNEL_LOG_ERROR,
	};

	log_at(level[severity & 3], NULL, "libevent: %s", text);
}

/* ---- events about ourselves ---------------------------------------------------------------------- */

struct life_event {
	struct mail mail;
	enum grapnel_event_type type;
};

static void
life_event_mail(struct worker *w, struct mail *m)
{
	struct life_event *le = (struct life_event *)(void *)m;
	struct grapnel_event ev = { .type = le->type };

	if (event_wanted(w, le->type))
		event_emit(w, &ev);
	free(le);
}

/* Once, not once per worker: the first one emits it. */
static void
emit(struct broker *b, enum grapnel_event_type type)
{
	struct life_event *le = malloc(sizeof(*le));

	if (le == NULL) {
		log_error("no memory for an event about the broker");
		return;
	}
	le->mail.fn = life_event_mail;
	le->type = type;
	worker_post(b->workers[0], &le->mail);
}

/* ---- stopping ------------------------------------------------------------------------------------- */

static void
stop_mail(struct worker *w, struct mail *m)
{
	(void)m; /* part of struct run */
	worker_stop(w);
}

static void
on_plugins_stopped(void *arg)
{
	struct run *run = arg;

	for (unsigned i = 0; i < run->b->worker_count; i++) {
		run->stop_mails[i].fn = stop_mail;
		worker_post(run->b->workers[i], &run->stop_mails[i]);
	}
	worker_stop(run->b->main);
}

static void
stop_plugins(struct run *run)
{
	if (run->b->reloading) { /* plugins are being switched: both sets are on the workers */
		worker_timer(run->b->main, &run->wait, WAIT_MS);
		return;
	}
	admin_stop(run->b);
	plugins_stop(run->b->plugins, on_plugins_stopped, run);
}

static void
on_wait_over(struct timer *t, void *owner)
{
	(void)owner;
	stop_plugins((struct run *)(void *)((char *)t - offsetof(struct run, wait)));
}

static void
on_connections_gone(void *arg)
{
	stop_plugins(arg);
}

static void
stop(struct run *run)
{
	struct broker *b = run->b;

	if (run->stopping || !run->plugins_ready) /* on_plugins_ready comes back to it */
		return;
	run->stopping = true;
	if (b->listeners != NULL) /* -t has none */
		listeners_stop(b->listeners);
	atomic_store(&b->shutting_down, true);
	emit(b, GRAPNEL_EVENT_BROKER_STOPPING);
	core_shutdown(b, on_connections_gone, run);
}

static void
want_stop(struct run *run, int exit_code)
{
	run->stop_wanted = true;
	run->exit_code = exit_code;
	signals_stopping(run->signals, STOP_MS, exit_code);
	notify_service("STOPPING=1");
	stop(run);
}

static void
on_signal(int signum, void *arg)
{
	struct run *run = arg;
	struct conf_errors errs = { 0 };

	switch (signum) {
	case SIGTERM:
	case SIGINT:
		log_at(GRAPNEL_LOG_NOTICE, "stopping", "%s: stopping",
		    signum == SIGTERM ? "SIGTERM" : "SIGINT");
		want_stop(run, 0);
		break;
	case SIGHUP:
		log_info("SIGHUP: reloading %s", run->b->settings->path);
		/* Errors are logged there. */
		if (!run->plugins_ready ||
		    broker_reload(run->b, &errs, NULL, NULL) == GRAPNEL_ESTATE)
			log_warning("SIGHUP: not now: starting, or another reload is under way");
		conf_errors_clear(&errs);
		break;
	case SIGUSR1:
		if (log_reopen() != GRAPNEL_OK)
			log_error("SIGUSR1: cannot open the log file again: %s; going on with the "
				  "old one",
			    strerror(errno));
		else
			log_info("SIGUSR1: the log file was opened again");
		break;
	default:
		break;
	}
}

/* ---- starting ------------------------------------------------------------------------------------- */

static bool
pid_file_write(struct run *run, struct conf_errors *errs)
{
	const char *path = run->b->settings->pid_file;
	char text[16];
	int fd, n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (path == NULL)
		return true;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || write(fd, text, (size_t)n) != n) {
		conf_errors_add(errs, "%s: pid_file: cannot write %s: %s", run->b->settings->path,
		    path, strerror(errno));
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	(void)close(fd);
	run->pid_file_ours = true;
	return true;
}

static bool
log_start(const struct settings *s, struct conf_errors *errs)
{
	if (log_configure(s->log.level, s->log.format == 0 ? LOG_TEXT : LOG_JSON, s->log.to) ==
	    GRAPNEL_OK)
		return true;
	conf_errors_add(errs, "%s: log: cannot write to %s: %s; create its folder or change \"to\"",
	    s->path, s->log.to, strerror(errno));
	return false;
}

/* All workers have the plugins: open for business. */
static void
on_plugins_ready(void *arg, int err)
{
	struct run *run = arg;
	struct broker *b = run->b;

	run->plugins_ready = true;
	if (run->test) {
		want_stop(run, err == GRAPNEL_OK ? 0 : 1);
		return;
	}
	if (err != GRAPNEL_OK) {
		log_error("not starting: a plugin did not start");
		want_stop(run, 1);
		return;
	}
	if (run->stop_wanted) {
		stop(run);
		return;
	}
	if (admin_start(b) != GRAPNEL_OK) {
		log_error("not starting: the admin socket is not available; admin { socket = none "
			  "} does without it");
		want_stop(run, 1);
		return;
	}
	listeners_start(b->listeners);
	emit(b, GRAPNEL_EVENT_BROKER_READY);
	notify_service("READY=1");
	log_at(GRAPNEL_LOG_NOTICE, "ready", "grapneld %s is ready: %u worker%s", PACKAGE_VERSION,
	    b->worker_count, b->worker_count == 1 ? "" : "s");
}

/* Somebody may miss the sessions in it. */
static void
say_left_alone(const struct settings *s)
{
	char path[4200];

	(void)snprintf(path, sizeof(path), "%s/%s", s->store.directory, STORE_DATABASE);
	if (access(path, F_OK) == 0)
		log_at(GRAPNEL_LOG_WARNING, "store_off",
		    "store: durability = off: %s is left alone; its sessions and messages are not "
		    "there",
		    path);
}

static bool
open_store(struct run *run, struct conf_errors *errs)
{
	struct settings *s = run->b->settings;
	char error[STORE_ERROR];

	if (s->store.durability == DURABLE_OFF && s->store.strict.count == 0) {
		say_left_alone(s);
		return true;
	}
	if (store_open(&run->b->store, run->b, PACKAGE_NAME " " PACKAGE_VERSION, error) ==
	    GRAPNEL_OK)
		return true;
	conf_errors_add(
	    errs, "%s: store: %s; durability = off keeps everything in memory", s->path, error);
	return false;
}

static bool
restore(struct run *run, struct conf_errors *errs)
{
	struct broker *b = run->b;
	char error[STORE_ERROR];

	if (b->store == NULL)
		return true;
	if (durable_restore(b, error) != GRAPNEL_OK) {
		conf_errors_add(errs, "%s: store: %s", b->settings->path, error);
		return false;
	}
	if (store_start(b->store, durable_asked) == GRAPNEL_OK)
		return true;
	conf_errors_add(errs, "%s: store: its threads cannot be started: %s", b->settings->path,
	    strerror(errno));
	return false;
}

/* Up to the point where only threads are missing. Messages say what is wrong. */
static bool
prepare(struct run *run, struct conf_errors *errs)
{
	struct broker *b = run->b;
	struct settings *s = b->settings;
	struct tls_set *tls;

	if (!run->test && listeners_open(b, errs, &b->listeners) != GRAPNEL_OK)
		return false;
	if (privileges_drop(s, errs) != GRAPNEL_OK)
		return false;
	if (!run->test &&
	    (!pid_file_write(run, errs) || !log_start(s, errs) || !open_store(run, errs)))
		return false;
	if (b->store != NULL)
		guard_load(b->guard);
	/* As the user who will have to read them again at a reload. */
	if (tls_set_new(s, errs, &tls) != GRAPNEL_OK)
		return false;
	if (b->listeners != NULL)
		listeners_apply(b->listeners, tls);
	else
		tls_set_free(tls);
	if (plugins_new(b, s, errs, &b->plugins) != GRAPNEL_OK)
		return false;
	return broker_check(s, b->plugins, errs);
}

static bool
start(struct run *run, struct conf_errors *errs)
{
	struct broker *b = run->b;

	run->core_up = true;
	if (core_init(b) != GRAPNEL_OK)
		goto no_memory;
	if (!restore(run, errs))
		return false;
	if (memory_start(b) != GRAPNEL_OK || plugins_start(b->plugins) != GRAPNEL_OK ||
	    signals_new(b->main->base, on_signal, run, &run->signals) != GRAPNEL_OK)
		goto no_memory;
	for (unsigned i = 0; i < b->worker_count; i++) {
		if (worker_start(b->workers[i]) == GRAPNEL_OK)
			continue;
		conf_errors_add(errs,
		    "cannot start worker %u of %u: %s; the limit of threads is too low for "
		    "\"workers\"",
		    i, b->worker_count, strerror(errno));
		return false;
	}
	emit(b, GRAPNEL_EVENT_BROKER_STARTING);
	plugins_ready(b->plugins, on_plugins_ready, run);
	return true;
no_memory:
	conf_errors_add(errs, "not starting: out of memory");
	return false;
}

/* What is still in mailboxes. */
static void
drain(struct broker *b)
{
	bool more = b != NULL && b->main != NULL;

	for (unsigned turn = 0; more && turn < DRAIN_TURNS; turn++) {
		more = false;
		for (unsigned i = 0; i <= b->worker_count; i++)
			more |= worker_drain(b->workers[i]);
	}
}

/* Everything is over, or was never begun. */
static void
finish(struct run *run)
{
	struct broker *b = run->b;

	for (unsigned i = 0; b != NULL && i < b->worker_count; i++)
		if (b->workers[i] != NULL && worker_join(b->workers[i], JOIN_MS) != GRAPNEL_OK)
			_exit(run->exit_code); /* cannot be: signals_stopping comes long before */
	drain(b);
	if (b != NULL && b->store != NULL && run->core_up) {
		for (unsigned i = 0; i < b->worker_count; i++)
			durable_submit_last(b->workers[i]);
		(void)store_stop(b->store);
		drain(b); /* what it gave back */
		for (unsigned turn = 0; turn < LET_GO_TURNS; turn++) {
			for (unsigned i = 0; i < b->worker_count; i++)
				durable_let_go(b->workers[i]);
			drain(b);
		}
	}
	if (run->core_up) {
		memory_stop(b);
		core_fini(b);
	}
	for (unsigned i = 0; b != NULL && i <= b->worker_count; i++)
		if (b->workers[i] != NULL)
			hooks_free(b->workers[i]);
	if (b != NULL && b->plugins != NULL)
		plugins_free(b->plugins);
	if (b != NULL)
		store_free(b->store);
	if (run->pid_file_ours)
		(void)unlink(b->settings->pid_file);
	signals_free(run->signals);
	broker_free(b);
}

static int
run_all(const struct cmdline *cmd, bool test)
{
	struct run run = { .test = test, .exit_code = 1 };
	struct conf_errors errs = { 0 };
	struct settings *s;
	bool ok = false;
	int err;

	signals_ignore_pipe();
	event_set_log_callback(on_libevent_log);
	rcu_thread_start();
	timer_init(&run.wait, on_wait_over);
	if (settings_load(cmd->config, &errs, &s) != GRAPNEL_OK)
		goto out;
	memory_setup(s->workers);
	if ((err = broker_new(s, &run.b)) != GRAPNEL_OK) {
		conf_errors_add(&errs, "not starting: %s",
		    err == GRAPNEL_ESYS ? strerror(errno) : "out of memory");
		goto out;
	}
	if (!prepare(&run, &errs))
		goto out;
	privileges_warn(run.b->settings);
	broker_warn(run.b->settings, run.b->plugins);
	if (test && !cmd->connect) {
		ok = true;
		goto out;
	}
	if (!start(&run, &errs)) {
		/* Threads that run may be anywhere in the broker: leave it to the system to take it all back. */
		print_errors(&errs);
		if (run.b->listeners != NULL)
			listeners_stop(run.b->listeners);
		if (run.pid_file_ours)
			(void)unlink(run.b->settings->pid_file);
		_exit(1);
	}
	worker_run(run.b->main);
	ok = run.exit_code == 0;
out:
	if (!ok && run.signals == NULL && errs.count == 0)
		conf_errors_add(&errs, "not starting: out of memory");
	print_errors(&errs);
	finish(&run);
	rcu_thread_stop();
	if (!test && ok)
		log_at(GRAPNEL_LOG_NOTICE, "stopped", "grapneld has stopped");
	log_close();
	libevent_global_shutdown();
	return ok ? 0 : 1;
}

int
broker_run(const struct cmdline *cmd)
{
	return run_all(cmd, false);
}

int
broker_test(const struct cmdline *cmd)
{
	int status = run_all(cmd, true);

	if (status == 0)
		(void)puts("configuration OK");
	return status;
}
