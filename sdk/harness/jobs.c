/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Offloaded work and look-ups of names, each on a thread of its own: as many at once as the instance's section allows.
 */
#include "inside.h"
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LOOKUP_MS 10000u

struct dns_entry {
	struct dns_entry *next;
	char *name;
	unsigned count;
	char **addresses;
};

/* A look-up under way: outlives a struct thing that was cancelled, so it has what it needs itself. */
struct finder {
	harness *h;
	struct thing *thing; /* lock; NULL: cancelled or too late */
	char *name;
	int err;
	struct grapnel_str *addresses;
	size_t count;
};

/* ---- jobs -------------------------------------------------------------------------------------------- */

static void
job_finish(void *arg)
{
	struct thing *t = arg;
	struct call c;

	if (t->plug->workers[t->worker].started) {
		call_begin(&c, t->plug, "done of offload");
		t->fn(t->arg);
		call_end(&c);
	}
	thing_end(t);
}

static void
job_end(struct thing *t)
{
	harness *h = t->h;

	if (posted_add(h, t->worker, t->plug, NULL, job_finish, t, true) != GRAPNEL_OK)
		abort(); /* its done must run exactly once */
}

static void *
job_thread(void *arg)
{
	struct thing *t = arg;
	harness *h = t->h;

	t->work(t->arg);
	pthread_mutex_lock(&h->lock);
	t->job = JOB_DONE;
	t->plug->jobs_running--;
	pthread_mutex_unlock(&h->lock);
	job_end(t);
	(void)jobs_next(h);
	pthread_mutex_lock(&h->lock);
	h->pool_threads--;
	pthread_cond_broadcast(&h->came_back);
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static bool
thread_new(harness *h, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	bool ok;

	if (pthread_attr_init(&attr) != 0)
		return false;
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_mutex_lock(&h->lock);
	h->pool_threads++;
	pthread_mutex_unlock(&h->lock);
	ok = pthread_create(&thread, &attr, fn, arg) == 0;
	if (!ok) {
		pthread_mutex_lock(&h->lock);
		h->pool_threads--;
		pthread_mutex_unlock(&h->lock);
	}
	pthread_attr_destroy(&attr);
	return ok;
}

/* With the lock: the oldest that waits and may go on; its done comes at its deadline even while all threads are taken. */
static struct thing *
job_pick(harness *h)
{
	struct thing *oldest = NULL;

	for (struct thing *t = h->things; t != NULL; t = t->next) {
		if (t->kind == THING_JOB && t->job == JOB_WAITS &&
		    (t->cancelled || (t->has_deadline && t->deadline_ms <= clock_now(h)) ||
			t->plug->jobs_running < t->plug->section->offload_threads))
			oldest = t;
	}
	return oldest;
}

bool
jobs_next(harness *h)
{
	bool any = false;

	for (;;) {
		struct thing *t;
		bool runs;

		pthread_mutex_lock(&h->lock);
		t = job_pick(h);
		if (t != NULL) {
			t->plug->jobs_waiting--;
			runs = !t->cancelled && (!t->has_deadline || t->deadline_ms > clock_now(h));
			t->job = runs ? JOB_RUNS : JOB_DONE;
			t->ran = runs;
			t->plug->jobs_running += runs;
		}
		pthread_mutex_unlock(&h->lock);
		if (t == NULL)
			return any;
		any = true;
		if (!runs) {
			job_end(t);
			continue;
		}
		if (!thread_new(h, job_thread, t)) {
			pthread_mutex_lock(&h->lock);
			t->job = JOB_DONE;
			t->ran = false;
			t->plug->jobs_running--;
			pthread_mutex_unlock(&h->lock);
			job_end(t);
		}
	}
}

static struct grapnel_job *
offload(struct grapnel_instance *self, uint32_t deadline_ms, grapnel_call_fn work,
    grapnel_call_fn done, void *arg)
{
	struct plug *p = plug_here(self, "offload");
	struct thing *t;
	bool full;

	if (p == NULL || work == NULL || done == NULL)
		return NULL;
	pthread_mutex_lock(&p->h->lock);
	full = p->jobs_running >= p->section->offload_threads &&
	    p->jobs_waiting >= p->section->offload_queue;
	pthread_mutex_unlock(&p->h->lock);
	if (full || (t = thing_new(p, THING_JOB, arg)) == NULL)
		return NULL;
	pthread_mutex_lock(&p->h->lock);
	t->work = work;
	t->fn = done;
	t->has_deadline = deadline_ms > 0;
	t->deadline_ms = clock_now(p->h) + deadline_ms;
	t->job = JOB_WAITS;
	p->jobs_waiting++;
	pthread_mutex_unlock(&p->h->lock);
	(void)jobs_next(p->h);
	return (struct grapnel_job *)(void *)t;
}

static void
offload_cancel(struct grapnel_job *job)
{
	struct thing *t =
	    job != NULL ? thing_of(the_harness, job, THING_JOB, "offload_cancel") : NULL;

	if (t == NULL)
		return;
	pthread_mutex_lock(&t->h->lock);
	t->cancelled = true;
	pthread_mutex_unlock(&t->h->lock);
	(void)jobs_next(t->h);
}

static bool
job_ran(const struct grapnel_job *job)
{
	const struct thing *t = thing_of(the_harness, job, THING_JOB, "job_ran");
	bool ran;

	if (t == NULL)
		return false;
	pthread_mutex_lock(&t->h->lock);
	ran = t->ran;
	pthread_mutex_unlock(&t->h->lock);
	return ran;
}

bool
jobs_join(harness *h, unsigned ms)
{
	struct timespec until;
	bool ended;
	int err = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	pthread_mutex_lock(&h->lock);
	while (h->pool_threads > 0 && err == 0)
		err = pthread_cond_timedwait(&h->came_back, &h->lock, &until);
	ended = h->pool_threads == 0;
	pthread_mutex_unlock(&h->lock);
	return ended;
}

/* ---- names -------------------------------------------------------------------------------------------- */

void
dns_name(harness *h, const char *name, char *const *addresses, unsigned count)
{
	struct dns_entry *e = calloc(1, sizeof(*e));

	if (e == NULL || (e->addresses = calloc(count + 1, sizeof(char *))) == NULL) {
		free(e);
		return;
	}
	e->name = copy_text(name, strlen(name));
	for (; e->count < count; e->count++)
		e->addresses[e->count] =
		    copy_text(addresses[e->count], strlen(addresses[e->count]));
	e->next = h->dns;
	h->dns = e;
}

static void
addresses_set(struct finder *f, const char *const *texts, size_t count)
{
	size_t bytes = 0;
	char *at;

	for (size_t i = 0; i < count; i++)
		bytes += strlen(texts[i]);
	f->addresses = malloc(count * sizeof(*f->addresses) + bytes + 1);
	if (f->addresses == NULL) {
		f->err = GRAPNEL_ENOMEM;
		return;
	}
	at = (char *)(f->addresses + count);
	for (size_t i = 0; i < count; i++) {
		f->addresses[i] = (struct grapnel_str){ at, strlen(texts[i]) };
		memcpy(at, texts[i], f->addresses[i].len);
		at += f->addresses[i].len;
	}
	f->count = count;
	f->err = count > 0 ? GRAPNEL_OK : GRAPNEL_ENOENT;
}

static bool
known_name(struct finder *f)
{
	for (const struct dns_entry *e = f->h->dns; e != NULL; e = e->next) {
		if (e->name != NULL && strcmp(e->name, f->name) == 0) {
			addresses_set(f, (const char *const *)e->addresses, e->count);
			return true;
		}
	}
	return false;
}

static void
lookup_tell(struct thing *t)
{
	struct region *r;
	struct grapnel_str *list;
	struct call c;
	size_t bytes = 0;
	char *at;

	if (t->gone || !t->plug->workers[t->worker].started) {
		thing_end(t);
		return;
	}
	for (size_t i = 0; i < t->address_count; i++)
		bytes += t->addresses[i].len;
	r = region_new(
	    t->h, t->address_count * sizeof(*list) + bytes + 1, "the addresses of a look-up");
	if (r == NULL)
		abort();
	list = r->at;
	at = (char *)(list + t->address_count);
	for (size_t i = 0; i < t->address_count; i++) {
		list[i] = (struct grapnel_str){ at, t->addresses[i].len };
		memcpy(at, t->addresses[i].data, list[i].len);
		at += list[i].len;
	}
	thing_end(t);
	call_begin(&c, t->plug, "dns_lookup callback");
	t->resolve_fn(t->arg, t->err, list, t->address_count);
	call_end(&c);
	region_take(r);
}

/* On the worker: the finder is back. */
static void
finder_back(void *arg)
{
	struct finder *f = arg;
	struct thing *t;

	pthread_mutex_lock(&f->h->lock);
	t = f->thing;
	pthread_mutex_unlock(&f->h->lock);
	if (t != NULL && !t->gone) {
		t->err = f->err;
		t->addresses = f->addresses;
		t->address_count = f->count;
		f->addresses = NULL;
		lookup_tell(t);
	}
	free(f->addresses);
	free(f->name);
	free(f);
}

void
lookup_due(struct thing *t)
{
	t->err = GRAPNEL_ETIMEOUT;
	lookup_tell(t);
}

static void *
finder_thread(void *arg)
{
	struct finder *f = arg;
	harness *h = f->h;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	char texts[32][NI_MAXHOST];
	const char *list[32];
	size_t n = 0;
	int err = getaddrinfo(f->name, NULL, &hints, &found);

	for (const struct addrinfo *a = found; err == 0 && a != NULL && n < 32; a = a->ai_next) {
		if (getnameinfo(a->ai_addr, a->ai_addrlen, texts[n], sizeof(texts[n]), NULL, 0,
			NI_NUMERICHOST) == 0) {
			list[n] = texts[n];
			n++;
		}
	}
	if (err == 0) {
		freeaddrinfo(found);
		addresses_set(f, list, n);
	} else {
		f->err = err == EAI_NONAME ? GRAPNEL_ENOENT : GRAPNEL_EFAULT;
	}
	if (posted_add(h, f->thing->worker, f->thing->plug, NULL, finder_back, f, true) !=
	    GRAPNEL_OK)
		abort();
	pthread_mutex_lock(&h->lock);
	h->pool_threads--;
	pthread_cond_broadcast(&h->came_back);
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static struct grapnel_resolve *
dns_lookup(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms,
    grapnel_resolve_fn fn, void *arg)
{
	struct plug *p = plug_here(self, "dns_lookup");
	struct finder *f;
	struct thing *t;

	if (p == NULL || fn == NULL || name.data == NULL || (f = calloc(1, sizeof(*f))) == NULL)
		return NULL;
	f->h = p->h;
	f->name = copy_text(name.data, name.len);
	t = f->name != NULL ? thing_new(p, THING_LOOKUP, arg) : NULL;
	if (t == NULL) {
		free(f->name);
		free(f);
		return NULL;
	}
	t->resolve_fn = fn;
	t->due_ms = clock_now(p->h) + (timeout_ms != 0 ? timeout_ms : LOOKUP_MS);
	t->armed = true;
	f->thing = t;
	if (known_name(f)) {
		if (posted_add(p->h, t->worker, p, NULL, finder_back, f, true) != GRAPNEL_OK)
			abort();
	} else if (!thread_new(p->h, finder_thread, f)) {
		thing_end(t);
		free(f->name);
		free(f);
		return NULL;
	}
	return (struct grapnel_resolve *)(void *)t;
}

static void
dns_cancel(struct grapnel_resolve *look_up)
{
	struct thing *t =
	    look_up != NULL ? thing_of(the_harness, look_up, THING_LOOKUP, "dns_cancel") : NULL;

	if (t != NULL)
		thing_end(t);
}

void
host_jobs(struct grapnel_host *host)
{
	host->offload = offload;
	host->offload_cancel = offload_cancel;
	host->job_ran = job_ran;
	host->dns_lookup = dns_lookup;
	host->dns_cancel = dns_cancel;
}

void
dns_free(harness *h)
{
	struct dns_entry *e;

	while ((e = h->dns) != NULL) {
		h->dns = e->next;
		for (unsigned i = 0; i < e->count; i++)
			free(e->addresses[i]);
		free(e->addresses);
		free(e->name);
		free(e);
	}
}
