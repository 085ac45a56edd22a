/* SPDX-License-Identifier: Apache-2.0 */
/* The broker and the table; the clients are in bench_client.c. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_MS  10000
#define STOP_MS   30000
#define SETTLE_MS 5000 /* for a broker that never rests */
#define TICK_MS   10

uint16_t bench_port;
static pid_t pid;
static char dir[32];

static void
sleep_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

/* ---- failing --------------------------------------------------------------------------------- */

static void
path_of(char *buf, size_t size, const char *name)
{
	(void)snprintf(buf, size, "%s/%s", dir, name);
}

static void
clean_up(void)
{
	char path[64];

	path_of(path, sizeof(path), "log");
	(void)unlink(path);
	path_of(path, sizeof(path), "grapnel.conf");
	(void)unlink(path);
	(void)rmdir(dir);
}

static void
show_log(void)
{
	char path[64], line[512];
	FILE *f;

	path_of(path, sizeof(path), "log");
	if ((f = fopen(path, "r")) == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL)
		fprintf(stderr, "  %s", line);
	(void)fclose(f);
}

void
bench_fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fflush(stdout);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		show_log();
		clean_up();
	}
	exit(1);
}

unsigned
bench_number(const char *text, const char *what)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n == 0 || n > 100000000)
		bench_fail("%s: not a number between 1 and 100000000: %s", what, text);
	return (unsigned)n;
}

uint32_t
bench_random(uint32_t below)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)((x >> 32) * below >> 32);
}

/* ---- the broker ------------------------------------------------------------------------------ */

static void
write_conf(const char *path, unsigned workers, const char *limits)
{
	FILE *f = fopen(path, "w");

	if (f == NULL)
		bench_fail("%s: %s", path, strerror(errno));
	fprintf(f,
	    "workers = %u\n"
	    "admin { socket = none }\n"
	    "log { level = notice }\n"
	    "store { directory = \"%s\"  durability = off }\n"
	    "limits {\n%s}\n"
	    "listener \"bench\" { bind = \"127.0.0.1:0\"  anonymous = yes }\n",
	    workers, dir, limits);
	if (fclose(f) != 0)
		bench_fail("%s: %s", path, strerror(errno));
}

static void
be_broker(const char *program, const char *conf, const char *log)
{
	int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(127);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	execlp(program, program, "-c", conf, (char *)NULL);
	fprintf(stderr, "%s: %s\n", program, strerror(errno));
	_exit(127);
}

/* The port is in the log: listener "bench" on 127.0.0.1:12345 */
static uint16_t
port_from(const char *log)
{
	static const char before[] = "listener \"bench\" on 127.0.0.1:";
	unsigned long port = 0;
	char line[512], *at;
	FILE *f = fopen(log, "r");

	if (f == NULL)
		return 0;
	while (port == 0 && fgets(line, sizeof(line), f) != NULL)
		if ((at = strstr(line, before)) != NULL && strchr(at, '\n') != NULL)
			port = strtoul(at + sizeof(before) - 1, NULL, 10);
	(void)fclose(f);
	return port <= UINT16_MAX ? (uint16_t)port : 0;
}

void
bench_broker_start(const char *program, unsigned workers, const char *limits)
{
	char conf[64], log[64];

	if (program == NULL && (program = getenv("GRAPNELD")) == NULL)
		bench_fail("which broker? Name grapneld on the command line or in GRAPNELD");
	(void)snprintf(dir, sizeof(dir), "/tmp/grapnel-bench-XXXXXX");
	if (mkdtemp(dir) == NULL)
		bench_fail("%s: %s", dir, strerror(errno));
	path_of(conf, sizeof(conf), "grapnel.conf");
	path_of(log, sizeof(log), "log");
	write_conf(conf, workers, limits);
	fflush(stdout);
	if ((pid = fork()) < 0)
		bench_fail("fork: %s", strerror(errno));
	if (pid == 0)
		be_broker(program, conf, log);
	for (unsigned ms = 0; (bench_port = port_from(log)) == 0; ms += TICK_MS) {
		if (ms > START_MS || waitpid(pid, NULL, WNOHANG) != 0)
			bench_fail("the broker did not start");
		sleep_ms(TICK_MS);
	}
}

void
bench_broker_stop(void)
{
	int status = 0;

	(void)kill(pid, SIGTERM);
	for (unsigned ms = 0; waitpid(pid, &status, WNOHANG) == 0; ms += TICK_MS) {
		if (ms > STOP_MS)
			bench_fail("the broker does not stop");
		sleep_ms(TICK_MS);
	}
	pid = 0;
	if (status != 0) {
		show_log();
		clean_up();
		bench_fail("the broker ended with status %#x", (unsigned)status);
	}
	clean_up();
}

/* ---- what it uses ---------------------------------------------------------------------------- */

static double
seconds(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) != 0)
		bench_fail("the broker has died");
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double
kib_of(const char *line, const char *name)
{
	size_t len = strlen(name);

	return strncmp(line, name, len) == 0 ? strtod(line + len, NULL) : 0;
}

struct bench_use
bench_use(void)
{
	struct bench_use use = { .began = seconds(CLOCK_MONOTONIC) };
	char path[32], line[128];
	clockid_t clock;
	double before;
	FILE *f;

	if (clock_getcpuclockid(pid, &clock) != 0)
		bench_fail("the broker has died");
	use.cpu = seconds(clock);
	for (unsigned ms = 0; ms < SETTLE_MS; ms += 100) {
		before = use.cpu;
		sleep_ms(100);
		if ((use.cpu = seconds(clock)) - before < 0.001)
			break;
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if ((f = fopen(path, "r")) == NULL)
		bench_fail("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f) != NULL) {
		use.rss += kib_of(line, "VmRSS:") * 1024;
		use.anon += kib_of(line, "RssAnon:") * 1024;
	}
	(void)fclose(f);
	use.ended = seconds(CLOCK_MONOTONIC);
	return use;
}

/* ---- the table ------------------------------------------------------------------------------- */

void
bench_head(void)
{
	printf("%-44s %9s %11s %11s %9s %12s\n", "", "count", "RSS B each", "anon B each",
	    "seconds", "CPU us each");
}

void
bench_row(
    const char *what, unsigned count, const struct bench_use *from, const struct bench_use *to)
{
	printf("%-44s %9u %11.1f %11.1f %9.2f %12.2f\n", what, count, (to->rss - from->rss) / count,
	    (to->anon - from->anon) / count, to->began - from->ended,
	    (to->cpu - from->cpu) * 1e6 / count);
	fflush(stdout);
}

void
bench_row_back(const char *what, const struct bench_use *first, const struct bench_use *most,
    const struct bench_use *last)
{
	printf("%-44s RSS %.1f MiB at first, %.1f at most, now %.1f\n", what, first->rss / 1048576,
	    most->rss / 1048576, last->rss / 1048576);
	fflush(stdout);
}
