/* SPDX-License-Identifier: Apache-2.0 */
/* The wall clock jumps, the monotonic one does not: see disk.h. */
#include "disk.h"

#include <pthread.h>
#include <sys/time.h>
#include <time.h>

REAL_DECLARE(clock_gettime)
REAL_DECLARE(pthread_timedjoin_np)

SEEN int clock_gettime(clockid_t id, struct timespec *ts);
SEEN int gettimeofday(struct timeval *restrict tv, void *restrict zone);
SEEN time_t time(time_t *at);
SEEN int pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until);

static void
add(struct timespec *ts, int64_t ms)
{
	int64_t ns = ts->tv_nsec + ms % 1000 * 1000000;

	ts->tv_sec += (time_t)(ms / 1000);
	if (ns < 0)
		ns += 1000000000, ts->tv_sec--;
	if (ns >= 1000000000)
		ns -= 1000000000, ts->tv_sec++;
	ts->tv_nsec = (long)ns;
}

static int64_t
shift(void)
{
	return disk_control != NULL ? atomic_load(&disk_control->clock_ms) : 0;
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = REAL(clock_gettime)(id, ts);

	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		add(ts, shift());
	return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	(void)zone;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	*tv = (struct timeval){ ts.tv_sec, ts.tv_nsec / 1000 };
	return 0;
}

time_t
time(time_t *at)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	if (at != NULL)
		*at = ts.tv_sec;
	return ts.tv_sec;
}

/* The kernel knows nothing of the shift. */
int
pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until)
{
	struct timespec ts = *until;

	add(&ts, -shift());
	return REAL(pthread_timedjoin_np)(thread, result, &ts);
}
