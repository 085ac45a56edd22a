/* SPDX-License-Identifier: Apache-2.0 */
#include "keyring.h"

#include "../common/curl_loop.h"
#include "jwk.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOME         0u /* the worker that reads the URL */
#define RETRY_MIN_MS 1000u

struct keyring {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct key_limits limits;
	void (*woken)(void *arg, unsigned worker);
	void *arg;
	size_t max_keys;
	uint32_t refresh_ms, cooldown_ms;
	struct curl_target *target; /* NULL: no URL */
	struct keyset *files;
	int keys, reads, read_errors; /* metrics */
	struct wake *wakes;           /* one for each worker */

	pthread_mutex_t lock;
	struct keyset *set; /* files and URL */
	bool complete;      /* the URL was read once, or there is none */
	bool under_way;     /* or asked for */
	bool stopped;       /* nobody reads it any more */
	bool last_good;
	uint64_t last_ms; /* when reading ended, whichever way */

	/* of worker 0 */
	struct curl_loop *loop;
	struct curl_call *call;
	struct grapnel_timer *timer;
	struct parsing *parsing;
	uint32_t retry_ms;
	bool down; /* said so in the log */
};

struct wake {
	struct keyring *ring;
	unsigned worker;
};

/* What the URL answered, on its way through the offload pool. */
struct parsing {
	struct keyring *ring; /* NULL: the worker has stopped meanwhile */
	const struct grapnel_host *host;
	struct key_limits limits;
	struct keyset *files, *set; /* set: the result; NULL: error says why */
	size_t max_keys;
	struct grapnel_job *job;
	struct jwk_report report;
	char error[256];
	struct grapnel_str text;
	char data[];
};

static void begin(void *arg);

/* ----------------------------------------------------------------------- questions */

struct keyset *
keyring_get(struct keyring *ring)
{
	struct keyset *set;

	pthread_mutex_lock(&ring->lock);
	set = keyset_ref(ring->set);
	pthread_mutex_unlock(&ring->lock);
	return set;
}

bool
keyring_has_id(struct keyring *ring, struct grapnel_str id, bool *known)
{
	bool has;

	pthread_mutex_lock(&ring->lock);
	has = keyset_has_id(ring->set, id);
	*known = ring->complete;
	pthread_mutex_unlock(&ring->lock);
	return has;
}

/* Under the lock. */
static enum keyring_answer
answer(const struct keyring *ring, bool asked)
{
	bool fresh =
	    asked || ring->stopped || ring->host->now_ms() - ring->last_ms < ring->cooldown_ms;

	if (ring->target == NULL)
		return KEYRING_FINAL;
	if (ring->under_way && !ring->stopped)
		return KEYRING_WAIT;
	if (!fresh)
		return KEYRING_WAIT; /* and begin */
	return ring->last_good ? KEYRING_FINAL : KEYRING_UNAVAILABLE;
}

enum keyring_answer
keyring_ask(struct keyring *ring, bool asked)
{
	enum keyring_answer a;
	bool begins;

	pthread_mutex_lock(&ring->lock);
	a = answer(ring, asked);
	begins = a == KEYRING_WAIT && !ring->under_way;
	ring->under_way = ring->under_way || begins;
	pthread_mutex_unlock(&ring->lock);
	if (!begins || ring->host->post(ring->self, HOME, begin, ring) == GRAPNEL_OK)
		return a;
	pthread_mutex_lock(&ring->lock);
	ring->under_way = false;
	pthread_mutex_unlock(&ring->lock);
	return KEYRING_UNAVAILABLE;
}

/* ------------------------------------------------------------------------- reading */

static void
count(const struct keyring *ring, int metric, int64_t n)
{
	if (metric >= 0)
		ring->host->metric_add(ring->self, metric, n);
}

static void
wake(void *arg)
{
	const struct wake *w = arg;

	w->ring->woken(w->ring->arg, w->worker);
}

static void
wake_all(struct keyring *ring)
{
	/* A worker that has stopped has nobody who waits; without memory those who wait have their deadline. */
	for (unsigned i = 0; i < ring->host->workers; i++)
		(void)ring->host->post(ring->self, i, wake, &ring->wakes[i]);
}

/* Is a key gone that somebody may have logged in with? */
static bool
lost_any(const struct keyset *before, const struct keyset *now)
{
	for (size_t i = 0; i < before->count; i++)
		if (!keyset_has_id(
			now, (struct grapnel_str){ before->keys[i]->id, KEY_ID_SIZE - 1 }))
			return true;
	return false;
}

/* Up to a tenth more, so that many brokers do not ask at once. */
static uint32_t
with_jitter(const struct keyring *ring, uint32_t ms)
{
	uint32_t random = 0;

	(void)ring->host->random_bytes(&random, sizeof(random));
	return ms + random % (ms / 10 + 1);
}

/* Reading has ended: set, whose reference is taken, or why not. */
static void
ended(struct keyring *ring, struct keyset *set, const char *why)
{
	struct keyset *before = NULL;
	bool first = false;

	pthread_mutex_lock(&ring->lock);
	ring->under_way = false;
	ring->last_good = set != NULL;
	ring->last_ms = ring->host->now_ms();
	if (set != NULL) {
		first = !ring->complete;
		ring->complete = true;
		before = ring->set;
		ring->set = keyset_ref(set);
	}
	pthread_mutex_unlock(&ring->lock);
	count(ring, ring->reads, 1);
	if (set == NULL) {
		count(ring, ring->read_errors, 1);
		if (!ring->down)
			ring->host->log(ring->self, GRAPNEL_LOG_ERROR, "%s: %s; %s",
			    curl_target_name(ring->target), why,
			    ring->complete ? "the keys stay as they were"
					   : "there are no keys yet, logins wait for them");
		ring->down = true;
		ring->retry_ms =
		    ring->retry_ms * 2 < ring->refresh_ms ? ring->retry_ms * 2 : ring->refresh_ms;
	} else {
		if (ring->down || first || !keyset_same(before, set))
			ring->host->log(ring->self, GRAPNEL_LOG_NOTICE, "%s: %zu keys in force",
			    curl_target_name(ring->target), set->count);
		ring->down = false;
		ring->retry_ms = RETRY_MIN_MS / 2;
		count(ring, ring->keys, (int64_t)set->count - (int64_t)before->count);
	}
	if (ring->timer != NULL)
		(void)ring->host->timer_arm(ring->timer,
		    with_jitter(ring, set != NULL ? ring->refresh_ms : ring->retry_ms));
	/* Who logged in before a reload, or with a key that is gone, is looked at again. */
	if (set != NULL && (first || lost_any(before, set)))
		(void)ring->host->cache_purge(
		    ring->self, (struct grapnel_str){ NULL, 0 }, (struct grapnel_str){ NULL, 0 });
	keyset_unref(before);
	keyset_unref(set);
	wake_all(ring);
}

/* In the offload pool. */
static void
parse(void *arg)
{
	struct parsing *p = arg;
	struct keyset *set = keyset_new(p->max_keys);

	if (set != NULL && keyset_add_all(set, p->files) &&
	    jwk_set_read(set, p->text, false, &p->limits, &p->report, p->error, sizeof(p->error)))
		p->set = set;
	else
		keyset_unref(set);
}

/* Back on worker 0. */
static void
parsed(void *arg)
{
	struct parsing *p = arg;
	struct keyring *ring = p->ring;

	if (ring != NULL) {
		ring->parsing = NULL;
		if (p->set != NULL && p->report.left_out > 0)
			p->host->log(ring->self, GRAPNEL_LOG_DEBUG,
			    "%u keys of the URL cannot be used here; the first: %s",
			    p->report.left_out, p->report.first);
		ended(ring, p->set,
		    p->host->job_ran(p->job) ? p->error : "the offload queue is full");
	} else {
		keyset_unref(p->set);
	}
	keyset_unref(p->files);
	free(p);
}

static void
got(struct keyring *ring, struct grapnel_str body)
{
	struct parsing *p = calloc(1, sizeof(*p) + body.len + 1);

	if (p == NULL) {
		ended(ring, NULL, "out of memory");
		return;
	}
	p->ring = ring;
	p->host = ring->host;
	p->limits = ring->limits;
	p->files = keyset_ref(ring->files);
	p->max_keys = ring->max_keys;
	(void)snprintf(p->error, sizeof(p->error), "out of memory");
	memcpy(p->data, body.data, body.len);
	p->text = (struct grapnel_str){ p->data, body.len };
	p->job = ring->host->offload(ring->self, 0, parse, parsed, p);
	if (p->job == NULL) {
		keyset_unref(p->files);
		free(p);
		ended(ring, NULL, "the offload queue is full");
		return;
	}
	ring->parsing = p;
}

static void
answered(void *arg, const struct curl_answer *a)
{
	struct keyring *ring = arg;
	char why[160];

	ring->call = NULL;
	if (a->err == GRAPNEL_ECANCELED)
		return;
	if (a->err == GRAPNEL_OK && a->status == 200) {
		got(ring, a->body);
		return;
	}
	(void)snprintf(why, sizeof(why), "%s", a->error);
	if (a->err == GRAPNEL_OK)
		(void)snprintf(why, sizeof(why), "the answer is %ld, not 200", a->status);
	ended(ring, NULL, why);
}

/* On worker 0. */
static void
begin(void *arg)
{
	struct keyring *ring = arg;
	const struct curl_request request = { .method = "GET" };

	if (ring->loop == NULL || ring->call != NULL || ring->parsing != NULL)
		return;
	pthread_mutex_lock(&ring->lock);
	ring->under_way = true;
	pthread_mutex_unlock(&ring->lock);
	ring->call = curl_loop_start(ring->loop, ring->target, &request, answered, ring);
	if (ring->call == NULL)
		ended(ring, NULL, "out of memory");
}

/* ---------------------------------------------------------------------------- life */

int
keyring_worker_start(struct keyring *ring, unsigned worker)
{
	const struct curl_loop_limits limits = { .connections = 1,
		.active = 1,
		.waiting = 1,
		.idle_ms = 1000,
		.metrics = CURL_LOOP_NO_METRICS };

	if (ring->target == NULL || worker != HOME)
		return GRAPNEL_OK;
	ring->timer = ring->host->timer_new(ring->self, begin, ring);
	ring->loop = curl_loop_new(ring->host, ring->self, &limits);
	if (ring->timer == NULL || ring->loop == NULL) {
		keyring_worker_stop(ring, worker);
		return GRAPNEL_ENOMEM;
	}
	begin(ring);
	return GRAPNEL_OK;
}

void
keyring_worker_stop(struct keyring *ring, unsigned worker)
{
	if (ring->target == NULL || worker != HOME)
		return;
	pthread_mutex_lock(&ring->lock);
	ring->stopped = true;
	pthread_mutex_unlock(&ring->lock);
	if (ring->timer != NULL)
		ring->host->timer_free(ring->timer);
	ring->timer = NULL;
	curl_loop_free(ring->loop);
	ring->loop = NULL;
	if (ring->parsing != NULL)
		ring->parsing->ring = NULL;
	ring->parsing = NULL;
	wake_all(ring);
}

void
keyring_free(struct keyring *ring)
{
	if (ring == NULL)
		return;
	curl_target_free(ring->target);
	keyset_unref(ring->set);
	keyset_unref(ring->files);
	free(ring->wakes);
	pthread_mutex_destroy(&ring->lock);
	free(ring);
}

static bool
url_is_safe(const struct keyring *ring, struct grapnel_str url)
{
	if (url.len >= 8 && strncasecmp(url.data, "https://", 8) == 0)
		return true;
	if (ring->host->option_bool(ring->self, NULL, "jwks_plain_http"))
		return true;
	ring->host->config_error(ring->self, NULL, "jwks_url",
	    "whoever is on the way of plain HTTP decides who may log in; use https://, or say "
	    "jwks_plain_http = yes");
	return false;
}

static bool
target(struct keyring *ring)
{
	const struct grapnel_host *host = ring->host;
	struct curl_target_options o = { .url = host->option_str(ring->self, NULL, "jwks_url"),
		.user_agent = "grapnel" };
	uint32_t timeout = (uint32_t)host->option_int(ring->self, NULL, "jwks_timeout");
	char error[256];

	if (!url_is_safe(ring, o.url))
		return false;
	if (host->option_given(ring->self, NULL, "jwks_ca"))
		o.tls_ca = host->option_str(ring->self, NULL, "jwks_ca");
	o.connect_timeout_ms = o.timeout_ms = timeout;
	o.max_answer = (size_t)host->option_int(ring->self, NULL, "jwks_max_bytes");
	ring->target = curl_target_new(&o, error, sizeof(error));
	if (ring->target == NULL)
		host->config_error(ring->self, NULL, "jwks_url", "%s", error);
	return ring->target != NULL;
}

struct keyring *
keyring_new(const struct grapnel_host *host, struct grapnel_instance *self, struct keyset *files,
    const struct key_limits *limits, void (*woken)(void *arg, unsigned worker), void *arg)
{
	struct keyring *ring = calloc(1, sizeof(*ring));

	if (ring == NULL) {
		keyset_unref(files);
		return NULL;
	}
	pthread_mutex_init(&ring->lock, NULL);
	ring->host = host;
	ring->self = self;
	ring->limits = *limits;
	ring->woken = woken;
	ring->arg = arg;
	ring->files = files;
	ring->set = keyset_ref(files);
	ring->max_keys = files->capacity;
	ring->retry_ms = RETRY_MIN_MS / 2;
	ring->refresh_ms = (uint32_t)host->option_int(self, NULL, "jwks_refresh");
	ring->cooldown_ms = (uint32_t)host->option_int(self, NULL, "jwks_cooldown");
	ring->wakes = calloc(host->workers, sizeof(*ring->wakes));
	if (ring->wakes == NULL)
		goto fail;
	for (unsigned i = 0; i < host->workers; i++)
		ring->wakes[i] = (struct wake){ ring, i };
	if (host->option_given(self, NULL, "jwks_url") && !target(ring))
		goto fail;
	ring->complete = ring->target == NULL;
	ring->under_way = ring->target != NULL; /* by worker 0, when it starts */
	ring->keys = host->metric_new(self, GRAPNEL_GAUGE, "keys", "Keys in force.");
	ring->reads = host->metric_new(self, GRAPNEL_COUNTER, "jwks_reads_total",
	    "Times that jwks_url was read, or could not be.");
	ring->read_errors = host->metric_new(self, GRAPNEL_COUNTER, "jwks_read_errors_total",
	    "Times that jwks_url could not be read, or had nothing of use.");
	count(ring, ring->keys, (int64_t)files->count);
	return ring;
fail:
	keyring_free(ring);
	return NULL;
}
