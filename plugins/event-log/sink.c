/* SPDX-License-Identifier: Apache-2.0 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum sink_result
sink_trouble(struct sink *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(s->trouble, sizeof(s->trouble), format, args);
	va_end(args);
	return SINK_TROUBLE;
}

bool
sink_ready(const struct sink *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };

	return poll(&p, 1, SINK_WAIT_MS) > 0; /* errors, too: write says which */
}

void
sink_init(struct sink *s, enum sink_kind kind)
{
	*s = (struct sink){ .kind = kind, .fd = -1 };
}

/* The broker keeps its own; a copy stays open whatever becomes of that. */
static bool
stdout_open(struct sink *s)
{
	struct stat st;

	s->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (s->fd < 0 || fstat(s->fd, &st) != 0) {
		(void)sink_trouble(s,
		    "there is no stdout to write to: %s; start the broker with one, or set another "
		    "target",
		    strerror(errno));
		return false;
	}
	s->regular = S_ISREG(st.st_mode);
	return true;
}

bool
sink_check(struct sink *s)
{
	switch (s->kind) {
	case SINK_NONE:
		return true;
	case SINK_FILE:
		return file_check(s);
	case SINK_STDOUT:
		return stdout_open(s);
	case SINK_SYSLOG:
		return syslog_check(s);
	}
	return false;
}

enum sink_result
sink_write(struct sink *s, const char *lines, size_t len, size_t *done)
{
	switch (s->kind) {
	case SINK_NONE:
		*done = len;
		return SINK_DONE;
	case SINK_FILE:
		return file_write(s, lines, len, done);
	case SINK_STDOUT:
		return stream_write(s, lines, len, done);
	case SINK_SYSLOG:
		return syslog_write(s, lines, len, done);
	}
	return SINK_DONE;
}

enum sink_result
sink_idle(struct sink *s)
{
	size_t done = 0;

	return s->kind == SINK_FILE ? file_ready(s, "", &done) : SINK_DONE;
}

void
sink_close(struct sink *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}
