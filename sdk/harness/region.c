/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that a plugin may look at for a while: pages of its own for each question, message and event. When it is taken back
 * the pages are closed. A touch then is caught, named, and let through, so that the run goes on.
 */
#include "inside.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static harness *_Atomic catching;
static struct sigaction before_segv, before_bus;

struct region *
region_new(harness *h, size_t len, const char *what)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct region *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->len = (len + page - 1) / page * page;
	r->at = mmap(NULL, r->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->at == MAP_FAILED) {
		free(r);
		return NULL;
	}
	r->what = what;
	r->given = origin_now(h);
	pthread_mutex_lock(&h->lock);
	r->next = h->regions;
	h->regions = r;
	pthread_mutex_unlock(&h->lock);
	return r;
}

void
region_take(struct region *r)
{
	if (r == NULL || atomic_exchange(&r->taken, true))
		return;
	(void)mprotect(r->at, r->len, PROT_NONE);
}

void
regions_report(harness *h)
{
	for (;;) {
		struct region *r;

		pthread_mutex_lock(&h->lock);
		for (r = h->regions; r != NULL; r = r->next) {
			if (atomic_load(&r->touched) && !r->reported)
				break;
		}
		if (r != NULL)
			r->reported = true;
		pthread_mutex_unlock(&h->lock);
		if (r == NULL)
			return;
		finding(h,
		    "use after it was taken back: %s touched %s (of line %d), which is only valid "
		    "until it is resolved or the call returns; copy what is needed later",
		    r->touched_by, r->what, r->given.line);
	}
}

void
regions_free(harness *h)
{
	struct region *r;

	while ((r = h->regions) != NULL) {
		h->regions = r->next;
		(void)munmap(r->at, r->len);
		free(r);
	}
}

/* ---- the handler ---------------------------------------------------------------------------------- */

/* Only what a handler may do: the list is only ever added to at its head while plugins run. */
static bool
let_through(const void *address)
{
	harness *h = atomic_load(&catching);
	const char *at = address, *call;

	for (struct region *r = h != NULL ? h->regions : NULL; r != NULL; r = r->next) {
		if (at < (const char *)r->at || at >= (const char *)r->at + r->len ||
		    !atomic_load(&r->taken))
			continue;
		call = call_name();
		r->touched_by = call != NULL ? call : "a thread of the plugin's";
		atomic_store(&r->touched, true);
		return mprotect(r->at, r->len, PROT_READ | PROT_WRITE) == 0;
	}
	return false;
}

static void
on_fault(int number, siginfo_t *info, void *context)
{
	const struct sigaction *before = number == SIGSEGV ? &before_segv : &before_bus;
	int saved = errno;

	if (info->si_code > 0 && let_through(info->si_addr)) {
		errno = saved;
		return;
	}
	if (before->sa_flags & SA_SIGINFO) {
		before->sa_sigaction(number, info, context);
		return;
	}
	if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
		before->sa_handler(number);
		return;
	}
	(void)signal(number, SIG_DFL); /* it happens again, and ends the process as ever */
}

int
regions_catch(harness *h)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO | SA_ONSTACK };

	act.sa_sigaction = on_fault;
	sigemptyset(&act.sa_mask);
	atomic_store(&catching, h);
	if (sigaction(SIGSEGV, &act, &before_segv) != 0 ||
	    sigaction(SIGBUS, &act, &before_bus) != 0)
		return GRAPNEL_ESYS;
	return GRAPNEL_OK;
}

void
regions_uncatch(void)
{
	(void)sigaction(SIGSEGV, &before_segv, NULL);
	(void)sigaction(SIGBUS, &before_bus, NULL);
	atomic_store(&catching, NULL);
}
