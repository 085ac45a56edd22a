/* SPDX-License-Identifier: Apache-2.0 */
#include "core_stubs.h"
#include "base/log.h"
#include "base/rcu.h"
#include "config/conf.h"
#include "net/stream.h"
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct broker stub_broker;
struct stub_counts stub_counts;
struct grapnel_client *stub_clients[8];

static pthread_t main_thread;
static char messages[16384];
static struct settings *reloaded;

/* ---- what plugins need of the core ----------------------------------------------------------- */

int
core_publish(struct broker *b, const struct grapnel_publication *pub)
{
	(void)b;
	(void)pub;
	atomic_fetch_add(&stub_counts.published, 1);
	return GRAPNEL_OK;
}

int
core_kick(struct broker *b, struct grapnel_str mountpoint, struct grapnel_str client_id,
    uint8_t reason_code)
{
	(void)b;
	(void)mountpoint;
	(void)client_id;
	(void)reason_code;
	atomic_fetch_add(&stub_counts.kicked, 1);
	return GRAPNEL_OK;
}

int
core_client_find(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id,
    void (*fn)(void *arg, const struct grapnel_client_info *info), void *arg)
{
	(void)w;
	(void)mountpoint;
	fn(arg, str_is(client_id, "c1") ? &stub_client : NULL);
	return GRAPNEL_OK;
}

struct grapnel_sub {
	grapnel_message_fn fn;
	void *arg;
};

struct grapnel_sub *
core_subscribe(struct worker *w, struct grapnel_str filter, grapnel_message_fn fn, void *arg)
{
	struct grapnel_sub *sub = malloc(sizeof(*sub));

	(void)w;
	(void)filter;
	sub->fn = fn;
	sub->arg = arg;
	atomic_fetch_add(&stub_counts.subscribed, 1);
	return sub;
}

void
core_unsubscribe(struct grapnel_sub *sub)
{
	atomic_fetch_add(&stub_counts.unsubscribed, 1);
	free(sub);
}

void
core_each_client(struct worker *w, void (*fn)(struct grapnel_client *c, void *arg), void *arg)
{
	if (w->index != 0)
		return;
	for (size_t i = 0; i < sizeof(stub_clients) / sizeof(*stub_clients); i++) {
		if (stub_clients[i] != NULL)
			fn(stub_clients[i], arg);
	}
}

void
core_rights_changed(struct broker *b)
{
	(void)b;
	atomic_fetch_add(&stub_counts.rights_changed, 1);
}

int
core_rights_ask(struct broker *b, struct grapnel_str username, struct grapnel_str client_id)
{
	(void)username;
	(void)client_id;
	core_rights_changed(b);
	return GRAPNEL_OK;
}

int
core_connection_open(
    struct worker *w, const char *handler, const struct grapnel_connection *c, struct stream *s)
{
	(void)w;
	(void)handler;
	(void)c;
	stream_close(s);
	return GRAPNEL_ENOENT;
}

void
core_handlers_changed(struct worker *w)
{
	(void)w;
}

void
core_resume_publishers(struct worker *w)
{
	(void)w;
	atomic_fetch_add(&stub_counts.resumed, 1);
}

unsigned
conn_poll(struct worker *w)
{
	(void)w;
	return 0;
}

void
conn_mail_handled(struct worker *w)
{
	(void)w;
}

void
conn_flush_dirty(struct worker *w)
{
	(void)w;
}

void
router_flush(struct worker *w)
{
	(void)w;
}

void
durable_flush(struct worker *w)
{
	(void)w;
}

void
overload_turn(struct worker *w)
{
	(void)w;
}

/* ---- questions ------------------------------------------------------------------------------- */

static const struct grapnel_pair attributes[] = { { { "tenant", 6 }, { "blue", 4 } } };
const struct grapnel_client_info stub_client = {
	.size = sizeof(stub_client),
	.client_id = { "c1", 2 },
	.username = { "u1", 2 },
	.mountpoint = { "", 0 },
	.peer = { "192.0.2.1:1000", 14 },
	.listener = { "mqtt", 4 },
	.attributes = attributes,
	.attribute_count = 1,
	.protocol = GRAPNEL_MQTT_5_0,
};
const struct grapnel_message_info stub_message = {
	.size = sizeof(stub_message),
	.topic_name = { "a/b", 3 },
	.payload = { "hello", 5 },
	.properties = { "", 0 },
	.author_client_id = { "c1", 2 },
	.qos = 1,
	.retain = true,
};
const struct grapnel_authenticate stub_authenticate = {
	.size = sizeof(stub_authenticate),
	.client = &stub_client,
	.password = { "secret", 6 },
	.properties = { "", 0 },
};
const struct grapnel_acl_check stub_acl = {
	.size = sizeof(stub_acl),
	.client = &stub_client,
	.action = GRAPNEL_PUBLISH,
	.topic = { "a/b", 3 },
	.message = &stub_message,
};
const struct grapnel_message_publish stub_publish = {
	.size = sizeof(stub_publish),
	.client = &stub_client,
	.message = &stub_message,
};
const struct grapnel_client_subscribe stub_subscribe = {
	.size = sizeof(stub_subscribe),
	.client = &stub_client,
	.filter = { "a/#", 3 },
	.properties = { "", 0 },
	.qos = 2,
};

bool
str_is(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* ---- settings -------------------------------------------------------------------------------- */

const char *
stub_modules(void)
{
	const char *folder = getenv("GRAPNEL_PLUGINS");

	return folder != NULL ? folder : "modules";
}

static void
keep_messages(struct conf_errors *errs)
{
	size_t len = 0;

	messages[0] = '\0';
	for (unsigned i = 0; i < errs->count && len < sizeof(messages); i++)
		len += (size_t)snprintf(
		    messages + len, sizeof(messages) - len, "%s\n", errs->messages[i]);
	conf_errors_clear(errs);
}

const char *
stub_messages(void)
{
	return messages;
}

static struct settings *
load(const char *sections)
{
	struct conf_errors errs = { 0 };
	struct settings *s = NULL;
	char folder[] = "/tmp/grapnel-unit-XXXXXX", path[64];
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/grapnel.conf", folder);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fprintf(f,
	    "workers = %u\nplugin_directory = \"%s\"\nlistener \"mqtt\" { bind = "
	    "\"127.0.0.1:1883\" }\n%s",
	    STUB_WORKERS, stub_modules(), sections);
	fclose(f);
	if (settings_load(path, &errs, &s) != GRAPNEL_OK)
		s = NULL;
	keep_messages(&errs);
	unlink(path);
	rmdir(folder);
	return s;
}

static void
broker_make(struct settings *s)
{
	memset(&stub_counts, 0, sizeof(stub_counts));
	memset(stub_clients, 0, sizeof(stub_clients));
	memset(&stub_broker, 0, sizeof(stub_broker));
	stub_broker.settings = s;
	stub_broker.worker_count = STUB_WORKERS;
	stub_broker.node_id = 7;
	stub_broker.boot_id = 8;
	atomic_store(&stub_broker.limits, &s->limits);
	for (unsigned i = 0; i <= STUB_WORKERS; i++)
		ck_assert_int_eq(worker_new(&stub_broker.workers[i], &stub_broker, i), GRAPNEL_OK);
	stub_broker.main = stub_broker.workers[STUB_WORKERS];
}

static void
broker_free_all(void)
{
	for (unsigned i = 0; i <= STUB_WORKERS; i++)
		worker_free(stub_broker.workers[i]);
	settings_unref(stub_broker.settings);
	memset(&stub_broker, 0, sizeof(stub_broker));
}

void
stub_settings(const char *plugin_sections)
{
	struct settings *s;

	atomic_store(&log_level, getenv("STUB_LOG") != NULL ? GRAPNEL_LOG_DEBUG : 0);
	s = load(plugin_sections);
	ck_assert_msg(s != NULL, "%s", messages);
	broker_make(s);
}

const char *
stub_refused(const char *plugin_sections)
{
	struct conf_errors errs = { 0 };
	struct plugins *p = NULL;
	struct settings *s = load(plugin_sections);

	if (s == NULL)
		return messages;
	broker_make(s);
	if (plugins_new(&stub_broker, s, &errs, &p) == GRAPNEL_OK) {
		plugins_free(p);
		broker_free_all();
		return NULL;
	}
	keep_messages(&errs);
	broker_free_all();
	return messages;
}

static char *
probe_section(const char *name, const struct probe *p, const char *more)
{
	char *text;

	if (asprintf(&text, "plugin \"%s\" { enabled = yes module = \"%s\" table = \"%p\" %s }\n",
		name, strstr(name, "lossless") != NULL ? "probe-lossless" : "probe",
		(const void *)p, more != NULL ? more : "") < 0)
		abort();
	return text;
}

const char *
stub_probe(const char *name, const struct probe *p, const char *more)
{
	static char *kept[16];
	static unsigned next;
	unsigned i = next++ % 16;

	free(kept[i]);
	return kept[i] = probe_section(name, p, more);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct call {
	struct mail mail;
	void (*fn)(struct worker *w, void *arg);
	void (*main_fn)(void *arg);
	void *arg;
	_Atomic unsigned done;
};

static void
call_on_mail(struct worker *w, struct mail *m)
{
	struct call *c = (struct call *)(void *)m;

	if (c->fn != NULL)
		c->fn(w, c->arg);
	else
		c->main_fn(c->arg);
	atomic_store(&c->done, 1);
}

void
pause_ms(unsigned ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

void
wait_for(_Atomic unsigned *counter, unsigned n)
{
	for (unsigned i = 0; i < 20000 && atomic_load(counter) < n; i++) {
		struct timespec ts = { .tv_nsec = 500000 };

		nanosleep(&ts, NULL);
	}
	ck_assert_uint_ge(atomic_load(counter), n);
}

static void
call_at(struct worker *w, struct call *c)
{
	c->mail.fn = call_on_mail;
	worker_post(w, &c->mail);
	wait_for(&c->done, 1);
}

void
on_worker(unsigned worker, void (*fn)(struct worker *w, void *arg), void *arg)
{
	struct call c = { .fn = fn, .arg = arg };

	call_at(stub_broker.workers[worker], &c);
}

void
on_main(void (*fn)(void *arg), void *arg)
{
	struct call c = { .main_fn = fn, .arg = arg };

	call_at(stub_broker.main, &c);
}

static void *
main_loop(void *arg)
{
	rcu_thread_start();
	worker_run(arg);
	rcu_thread_stop();
	return NULL;
}

static _Atomic unsigned answered;
static int answer;

static void
on_answer(void *arg, int err)
{
	(void)arg;
	answer = err;
	atomic_store(&answered, 1);
}

static void
start_on_main(void *arg)
{
	(void)arg;
	plugins_ready(stub_broker.plugins, on_answer, NULL);
}

int
stub_start(void)
{
	struct conf_errors errs = { 0 };
	int err = plugins_new(&stub_broker, stub_broker.settings, &errs, &stub_broker.plugins);

	keep_messages(&errs);
	ck_assert_msg(err == GRAPNEL_OK, "%s", messages);
	ck_assert_int_eq(plugins_start(stub_broker.plugins), GRAPNEL_OK);
	for (unsigned i = 0; i < STUB_WORKERS; i++)
		ck_assert_int_eq(worker_start(stub_broker.workers[i]), GRAPNEL_OK);
	ck_assert_int_eq(pthread_create(&main_thread, NULL, main_loop, stub_broker.main), 0);
	atomic_store(&answered, 0);
	on_main(start_on_main, NULL);
	wait_for(&answered, 1);
	return answer;
}

struct reload {
	struct settings *settings;
	struct conf_errors errs;
	struct plugins *neu;
	int err;
};

static void
reload_on_main(void *arg)
{
	struct reload *r = arg;

	r->err = plugins_prepare(stub_broker.plugins, r->settings, &r->errs, &r->neu);
	if (r->err == GRAPNEL_OK)
		plugins_switch(stub_broker.plugins, r->neu, on_answer, NULL);
}

static void
reload_take(void *arg)
{
	stub_broker.plugins = arg;
}

int
stub_reload(const char *plugin_sections)
{
	struct reload r = { .settings = load(plugin_sections) };

	ck_assert_msg(r.settings != NULL, "%s", messages);
	atomic_store(&answered, 0);
	on_main(reload_on_main, &r);
	keep_messages(&r.errs);
	if (r.err == GRAPNEL_OK) {
		wait_for(&answered, 1);
		r.err = answer;
		if (r.err == GRAPNEL_OK)
			on_main(reload_take, r.neu);
	}
	settings_unref(reloaded);
	reloaded = r.settings;
	return r.err;
}

static void
on_stopped(void *arg)
{
	(void)arg;
	atomic_store(&answered, 1);
}

static void
stop_on_main(void *arg)
{
	(void)arg;
	plugins_stop(stub_broker.plugins, on_stopped, NULL);
}

static void
stop_loop(struct worker *w, void *arg)
{
	(void)arg;
	worker_stop(w);
}

void
stub_stop(void)
{
	bool more = true;

	atomic_store(&answered, 0);
	on_main(stop_on_main, NULL);
	wait_for(&answered, 1);
	for (unsigned i = 0; i < STUB_WORKERS; i++) {
		on_worker(i, stop_loop, NULL);
		ck_assert_int_eq(worker_join(stub_broker.workers[i], 10000), GRAPNEL_OK);
	}
	on_worker(STUB_WORKERS, stop_loop, NULL);
	pthread_join(main_thread, NULL);
	while (more) {
		more = false;
		for (unsigned i = 0; i <= STUB_WORKERS; i++)
			more |= worker_drain(stub_broker.workers[i]);
	}
	plugins_free(stub_broker.plugins);
	broker_free_all();
	settings_unref(reloaded);
	reloaded = NULL;
}
