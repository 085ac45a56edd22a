/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
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
	long page = sysconf(_SC_PAGESIZE);
	int64_t total, resident;
	struct rlimit limit;
	struct rusage usage;
	FILE *statm;

	*out = (struct process_stats){ .resident_bytes = -1, .virtual_bytes = -1, .max_fds = -1 };
	if ((statm = fopen("/proc/self/statm", "re")) != NULL) {
		if (fscanf(statm, "%" SCNd64 " %" SCNd64, &total, &resident) == 2) {
			out->virtual_bytes = total * page;
			out->resident_bytes = resident * page;
		}
		fclose(statm);
	}
	out->open_fds = count_fds();
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		out->max_fds = (int64_t)limit.rlim_cur;
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		out->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
