/* SPDX-License-Identifier: Apache-2.0 */
/* The harness as a whole: made and freed, what it reports, and its interface for C. */
#include "inside.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CLOCK_START_MS 1000000u
#define WALL_START_US  (INT64_C(1767225600) * 1000000) /* 2026-01-01T00:00:00Z */

harness *the_harness;

char *
copy_text(const char *data, size_t len)
{
	char *text;

	if (data == NULL)
		return NULL;
	text = malloc(len + 1);
	if (text == NULL)
		return NULL;
	memcpy(text, data, len);
	text[len] = '\0';
	return text;
}

/* ---- reports ---------------------------------------------------------------------------------------- */

struct report {
	struct report *next;
	enum grapnel_harness_report kind;
	int line;
	char text[];
};

static void
to_stderr(void *arg, enum grapnel_harness_report kind, const char *where, const char *text)
{
	(void)arg;
	if (kind == GRAPNEL_HARNESS_FAILURE || kind == GRAPNEL_HARNESS_FINDING)
		fprintf(stderr, "%s%s%s%s\n", where, *where != '\0' ? ": " : "",
		    kind == GRAPNEL_HARNESS_FINDING ? "finding: " : "", text);
}

void
report_tell(harness *h, enum grapnel_harness_report kind, int line, const char *text)
{
	char where[512] = "";

	if (h->shown_as != NULL)
		snprintf(where, sizeof(where), "%s:%d", h->shown_as, line);
	h->report(h->report_arg, kind, where, text);
}

void
failure(harness *h, const char *format, ...)
{
	char text[TEXT_MAX * 4];
	va_list ap;

	reports_out(h);
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	h->failures++;
	report_tell(h, GRAPNEL_HARNESS_FAILURE, h->line, text);
}

void
finding(harness *h, const char *format, ...)
{
	const char *call = call_name();
	char text[TEXT_MAX];
	struct report *r;
	va_list ap;
	size_t size;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (call == NULL && worker_here() < 0 && !pthread_equal(pthread_self(), h->driver))
		call = "a thread of the plugin's";
	size = strlen(text) + (call != NULL ? strlen(call) : 0) + 16;
	if ((r = malloc(sizeof(*r) + size)) == NULL)
		return;
	snprintf(r->text, size, call != NULL ? "%s [in %s]" : "%s", text, call);
	r->next = NULL;
	r->kind = GRAPNEL_HARNESS_FINDING;
	r->line = h->line;
	pthread_mutex_lock(&h->lock);
	h->findings++;
	if (h->late == NULL)
		h->late_end = &h->late;
	*h->late_end = r;
	h->late_end = &r->next;
	pthread_mutex_unlock(&h->lock);
}

/* Log lines of the plugin, in the order they came. */
static void
logs_out(harness *h)
{
	static const char *const names[] = { "", "error", "warning", "notice", "info", "debug",
		"trace" };

	for (struct record *r = record_next(h, NULL); r != NULL; r = record_next(h, r)) {
		char text[TEXT_MAX * 2 + 64];

		if (r->kind != RECORD_LOG || r->told)
			continue;
		r->told = true;
		snprintf(text, sizeof(text), "%s: %s",
		    r->level <= GRAPNEL_LOG_TRACE ? names[r->level] : "?", r->text);
		report_tell(h, GRAPNEL_HARNESS_LOG, h->line, text);
	}
}

void
reports_out(harness *h)
{
	struct report *r;

	regions_report(h);
	logs_out(h);
	for (;;) {
		pthread_mutex_lock(&h->lock);
		r = h->late;
		if (r != NULL)
			h->late = r->next;
		pthread_mutex_unlock(&h->lock);
		if (r == NULL)
			return;
		report_tell(h, r->kind, r->line, r->text);
		free(r);
	}
}

/* ---- life ----------------------------------------------------------------------------------------------- */

static char *
name_of(const struct grapnel_harness_config *c)
{
	const char *slash, *base;
	char *name;
	size_t len;

	if (c->name != NULL)
		return strdup(c->name);
	if (c->path == NULL)
		return strdup(c->plugin->name != NULL ? c->plugin->name : "plugin");
	slash = strrchr(c->path, '/');
	base = slash != NULL ? slash + 1 : c->path;
	len = strlen(base);
	if (len > 3 && strcmp(base + len - 3, ".so") == 0)
		len -= 3;
	name = copy_text(base, len < CONF_TITLE_MAX ? len : CONF_TITLE_MAX);
	for (char *at = name; at != NULL && *(at += strspn(at, CONF_TITLE_CHARACTERS)) != '\0';)
		*at = '_'; /* a file's name can be what no title of a section can be */
	return name;
}

static bool
locks_new(harness *h)
{
	pthread_condattr_t attr;
	bool ok;

	if (pthread_mutex_init(&h->lock, NULL) != 0 || pthread_condattr_init(&attr) != 0)
		return false;
	ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
	    pthread_cond_init(&h->came_back, &attr) == 0;
	pthread_condattr_destroy(&attr);
	return ok;
}

int
grapnel_harness_new(const struct grapnel_harness_config *config, struct grapnel_harness **out)
{
	harness *h;

	if (config == NULL || config->size < sizeof(*config) ||
	    (config->path == NULL) == (config->plugin == NULL))
		return GRAPNEL_EINVAL;
	if (the_harness != NULL)
		return GRAPNEL_ESTATE;
	if ((h = calloc(1, sizeof(*h))) == NULL)
		return GRAPNEL_ENOMEM;
	h->driver = pthread_self();
	h->linked = config->plugin;
	h->hold_ms = config->hold_ms != 0 ? config->hold_ms : HOLD_MS;
	h->patience_ms = config->patience_ms != 0 ? config->patience_ms : PATIENCE_MS;
	h->report = config->report != NULL ? config->report : to_stderr;
	h->report_arg = config->report_arg;
	h->worker_count = 1;
	atomic_store(&h->now_ms, CLOCK_START_MS);
	atomic_store(&h->wall_us, WALL_START_US - (int64_t)CLOCK_START_MS * 1000);
	h->name = name_of(config);
	h->path = config->path != NULL ? strdup(config->path) : NULL;
	h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (h->wake_fd < 0 || h->name == NULL || (h->path == NULL) != (config->path == NULL) ||
	    !locks_new(h)) {
		if (h->wake_fd >= 0)
			close(h->wake_fd);
		free(h->name);
		free(h->path);
		free(h);
		return GRAPNEL_ENOMEM;
	}
	the_harness = h;
	(void)regions_catch(h);
	*out = h;
	return GRAPNEL_OK;
}

static void
replies_free(harness *h)
{
	struct reply *r;

	while ((r = h->replies) != NULL) {
		h->replies = r->next;
		free(r->text);
		free(r);
	}
}

void
harness_stop(harness *h)
{
	if (h->stopped)
		return;
	h->stopped = true;
	plugs_stop(h);
	if (!h->stuck && !jobs_join(h, JOIN_MS))
		h->stuck = true; /* a look-up that does not end would come back to what is freed */
	if (!h->stuck) {
		posts_end(h);
		rules_leaked(h);
	}
	reports_out(h);
}

unsigned
grapnel_harness_free(struct grapnel_harness *h)
{
	unsigned bad;

	if (h == NULL)
		return 0;
	harness_stop(h);
	bad = h->failures + h->findings;
	workers_stop(h);
	regions_uncatch();
	if (h->stuck)
		return bad; /* something of it runs yet, and may use all of this */
	plugs_free(h);
	things_free(h);
	asks_free(h);
	clients_free(h);
	listeners_free(h);
	records_free(h);
	replies_free(h);
	values_free(h);
	rules_free(h);
	dns_free(h);
	regions_free(h);
	close(h->wake_fd);
	pthread_cond_destroy(&h->came_back);
	pthread_mutex_destroy(&h->lock);
	free(h->section);
	free(h->name);
	free(h->path);
	free(h);
	the_harness = NULL;
	return bad;
}

/* ---- for C -------------------------------------------------------------------------------------------------- */

int
grapnel_harness_step(struct grapnel_harness *h, const char *format, ...)
{
	va_list ap;
	char *text;
	int err;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text == NULL)
		return GRAPNEL_ENOMEM;
	err = script_run(h, text, strlen(text), NULL, false);
	free(text);
	return err;
}

int
grapnel_harness_script(
    struct grapnel_harness *h, const char *text, size_t len, const char *shown_as)
{
	return script_run(h, text, len, shown_as, true);
}

int
grapnel_harness_ask(struct grapnel_harness *h, const char *hook, unsigned worker,
    const void *question, unsigned *number)
{
	struct asked *a;
	enum hook which;

	if (h->running == NULL || h->stuck)
		return GRAPNEL_ESTATE;
	if (!hook_find(hook, &which) || !plug_has(h->running, which))
		return GRAPNEL_ENOENT;
	if (worker >= h->worker_count || question == NULL)
		return GRAPNEL_EINVAL;
	a = ask_hook(h, NULL, which, worker, question);
	reports_out(h);
	if (a == NULL)
		return GRAPNEL_ENOMEM;
	*number = a->number;
	return GRAPNEL_OK;
}

int
grapnel_harness_answer(struct grapnel_harness *h, unsigned number, uint32_t wait_ms,
    struct grapnel_harness_answer *out)
{
	struct asked *a;

	for (a = h->asks; a != NULL && a->number != number; a = a->next)
		continue;
	if (a == NULL)
		return GRAPNEL_ENOENT;
	*out = (struct grapnel_harness_answer){ .size = sizeof(*out), .verdict = GRAPNEL_PENDING };
	if (!ask_decided(h, a) && !wait_until(h, wait_ms, ask_decided, a))
		return GRAPNEL_ETIMEOUT;
	out->verdict = (enum grapnel_verdict)a->verdict;
	out->at_once = a->at_once;
	out->cancelled = a->cancelled;
	if (a->answer == NULL)
		return GRAPNEL_OK;
	switch (a->answer->kind) {
	case ANSWER_AUTH:
		out->auth = &a->answer->u.auth;
		break;
	case ANSWER_ACL:
		out->acl = &a->answer->u.acl;
		break;
	case ANSWER_PUBLISH:
		out->publish = &a->answer->u.publish;
		break;
	case ANSWER_SUBSCRIBE:
		out->subscribe = &a->answer->u.subscribe;
		break;
	case ANSWER_ACK:
		out->ack = &a->answer->u.ack;
		break;
	case ANSWER_PSK:
		out->psk = &a->answer->u.psk;
		break;
	}
	return GRAPNEL_OK;
}

const struct grapnel_host *
grapnel_harness_host(const struct grapnel_harness *h)
{
	return &h->host;
}

struct grapnel_instance *
grapnel_harness_instance(const struct grapnel_harness *h)
{
	return (struct grapnel_instance *)(void *)h->running;
}

void *
grapnel_harness_state(const struct grapnel_harness *h)
{
	return h->running != NULL ? h->running->instance : NULL;
}

const struct grapnel_plugin *
grapnel_harness_plugin(const struct grapnel_harness *h)
{
	return h->running != NULL ? &h->running->plugin : NULL;
}

unsigned
grapnel_harness_failures(const struct grapnel_harness *h)
{
	return h->failures;
}

unsigned
grapnel_harness_findings(const struct grapnel_harness *h)
{
	return h->findings;
}
