/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker under test uses, from /proc. */
#include "load.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

struct usage
usage_broker(void)
{
	struct usage u = { .at = now_ns() };
	char path[64], line[1024];
	FILE *f;

	if (cfg.pid <= 0)
		return u;
	snprintf(path, sizeof(path), "/proc/%d/stat", cfg.pid);
	if ((f = fopen(path, "r"))) {
		if (fgets(line, sizeof(line), f)) {
			char *p = strrchr(line, ')'); /* the name may hold spaces */
			unsigned long ut = 0, st = 0;
			if (p &&
			    sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				&ut, &st) == 2) {
				double hz = (double)sysconf(_SC_CLK_TCK);
				u.user = (double)ut / hz;
				u.sys = (double)st / hz;
				u.cpu = u.user + u.sys;
			}
		}
		fclose(f);
	}
	/* The same total (all threads) with nanosecond resolution, where it is to be had. */
	clockid_t clk;
	struct timespec ts;
	if (clock_getcpuclockid(cfg.pid, &clk) == 0 && clock_gettime(clk, &ts) == 0)
		u.cpu = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
	snprintf(path, sizeof(path), "/proc/%d/status", cfg.pid);
	if ((f = fopen(path, "r"))) {
		while (fgets(line, sizeof(line), f)) {
			sscanf(line, "VmRSS: %ld", &u.rss_kb);
			sscanf(line, "VmHWM: %ld", &u.hwm_kb);
		}
		fclose(f);
	}
	return u;
}

double
usage_own_cpu(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	    (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}
