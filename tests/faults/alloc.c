/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc - a grapneld whose workers can be made to get no memory
 *
 * Linked with --wrap for every function below, so that the calls of the broker's own code come here, whatever allocator or
 * sanitizer is behind it; libevent is told to come here, too. Only workers are counted: what they allocate
 * is what peers drive.
 *
 * GRAPNEL_FAULTS names a file that the test has mapped, too: when `countdown` reaches `row`, that many allocations in a row
 * fail. 0: none does.
 */
#include "core/broker.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
	_Atomic int64_t countdown, row;
	_Atomic int64_t counted, failed; /* ours */
};
static struct control *control;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *s);

static bool
fails(void)
{
	const struct worker *w = worker_self;
	int64_t left;

	if (control == NULL || w == NULL || w->index >= w->broker->worker_count)
		return false;
	atomic_fetch_add(&control->counted, 1);
	if (atomic_load(&control->countdown) <= 0)
		return false;
	left = atomic_fetch_sub(&control->countdown, 1);
	if (left <= 0 || left > atomic_load(&control->row))
		return false;
	atomic_fetch_add(&control->failed, 1);
	errno = ENOMEM;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

char *
__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

static __attribute__((constructor)) void
begin(void)
{
	const char *path = getenv("GRAPNEL_FAULTS");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		control = p;
	(void)close(fd);
}
