/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"
#include "core/memory.h"
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t
count_fds(void)
{
	struct stat st;
	struct dirent *entry;
	int64_t count = 0;
	DIR *dir;

	/* Since Linux 6.2 the kernel tells the number as the folder's size; before, it is 0. */
	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return st.st_size;
	if ((dir = opendir("/proc/self/fd")) == NULL)
		return -1;
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count - 1; /* not the one that read the folder */
}

void
process_stats(struct process_stats *out)
{
	struct memory_usage memory;
	struct rlimit limit;
	struct rusage usage;

	memory_usage(&memory);
	*out = (struct process_stats){ .resident_bytes = memory.resident_bytes,
		.virtual_bytes = memory.virtual_bytes,
		.max_fds = -1 };
	out->open_fds = count_fds();
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		out->max_fds = (int64_t)limit.rlim_cur;
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		out->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
