/* SPDX-License-Identifier: Apache-2.0 */
#include "left.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS 4096 /* that are looked at */
#define THREADS_MS  1000 /* until one that was joined has left the list of the system */

static bool open_before[DESCRIPTORS];
static unsigned threads_before;

static unsigned
threads_now(void)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *e;
	unsigned n = 0;

	if (dir == NULL)
		return 0;
	while ((e = readdir(dir)) != NULL)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* Devices are the libraries' business: many keep one open for good. */
static bool
counts(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && !S_ISCHR(st.st_mode);
}

void
left_remember(harness *h, bool first)
{
	(void)h;
	if (!first)
		return;
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		open_before[fd] = fcntl(fd, F_GETFD) >= 0;
	threads_before = threads_now();
}

static bool
threads_left(const harness *h)
{
	const struct timespec pause = { 0, 5000000 };

	for (unsigned ms = 0; ms < THREADS_MS; ms += 5) {
		if (threads_now() <= threads_before + h->pool_threads)
			return false;
		(void)nanosleep(&pause, NULL);
	}
	return true;
}

static bool
ours(harness *h, int fd)
{
	for (const struct module *m = h->modules; m != NULL; m = m->next) {
		if (m->fd == fd)
			return true;
	}
	return fd == h->wake_fd || listener_has(h, fd);
}

bool
left_report(harness *h, bool last)
{
	bool runs;

	if (!last || h->stuck)
		return false;
	if (!jobs_join(h, JOIN_MS))
		return true; /* a look-up takes its time: what is open may be its own */
	runs = threads_left(h);
	if (runs)
		finding(h,
		    "leak: %u thread(s) that the plugin started still run after destroy; the "
		    "broker would unmap the code under them",
		    threads_now() - threads_before);
	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		char link[64], name[256];
		ssize_t n;

		if (open_before[fd] || !counts(fd) || ours(h, fd))
			continue;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, name, sizeof(name) - 1);
		name[n > 0 ? n : 0] = '\0';
		finding(h, "leak: descriptor %d (%s) is still open after destroy", fd, name);
	}
	return runs;
}
