/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A datagram for each line to the system's log, over a socket of our own: the C library's connection belongs to the broker,
 * and its syslog() waits for a logger that does not read. The form is that of the C library, which every logger knows.
 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define TRIES 100u /* for one line, with a socket that says it is ready and is not */

bool
syslog_check(struct sink *s)
{
	struct sockaddr_un to;

	if (s->path[0] == '/' && strlen(s->path) < sizeof(to.sun_path))
		return true; /* a logger may come later */
	(void)sink_trouble(s, "\"%s\" must be the absolute path of a socket, at most %zu bytes",
	    s->path, sizeof(to.sun_path) - 1);
	return false;
}

static enum sink_result
trouble(struct sink *s, const char *what, int err)
{
	sink_close(s);
	return sink_trouble(s, "%s: %s: %s; %s", s->path, what, strerror(err),
	    err == EPROTOTYPE ? "only datagram sockets will do"
			      : "see that the system's logger runs and listens there");
}

static enum sink_result
syslog_open(struct sink *s)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return trouble(s, "no socket", errno);
	memcpy(to.sun_path, s->path, strlen(s->path));
	if (connect(s->fd, (const struct sockaddr *)&to, sizeof(to)) != 0)
		return trouble(s, "cannot connect", errno);
	return SINK_DONE;
}

static ssize_t
send_line(const struct sink *s, const char *line, size_t len)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
		"Sep", "Oct", "Nov", "Dec" };
	time_t now = time(NULL);
	struct tm tm;
	char head[128];
	struct iovec parts[2];
	struct msghdr m = { .msg_iov = parts, .msg_iovlen = 2 };
	int n;

	(void)localtime_r(&now, &tm);
	n = snprintf(head, sizeof(head),
	    "<%d>%s %2d %02d:%02d:%02d %.48s[%ld]: ", LOG_DAEMON | LOG_INFO, months[tm.tm_mon],
	    tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, s->ident, (long)getpid());
	parts[0] = (struct iovec){ head, (size_t)n };
	parts[1] = (struct iovec){ (void *)(uintptr_t)line, len };
	return sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

enum sink_result
syslog_write(struct sink *s, const char *lines, size_t len, size_t *done)
{
	enum sink_result r;
	unsigned tries = 0;

	if (s->fd < 0 && (r = syslog_open(s)) != SINK_DONE)
		return r;
	while (*done < len) {
		const char *line = lines + *done, *end = memchr(line, '\n', len - *done);
		size_t line_len = end != NULL ? (size_t)(end - line) : len - *done;

		if (send_line(s, line, line_len) < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN || errno == ENOBUFS) {
				if (!sink_ready(s) || ++tries > TRIES)
					return SINK_LATER;
				continue;
			}
			if (errno != EMSGSIZE)
				return trouble(s, "cannot send", errno);
			s->skipped++;
			(void)snprintf(s->warning, sizeof(s->warning),
			    "%s: a line of %zu bytes is longer than the socket takes, and is lost; "
			    "lower payload_max",
			    s->path, line_len);
		}
		tries = 0;
		*done += line_len + 1 < len - *done ? line_len + 1 : len - *done;
	}
	return SINK_DONE;
}
