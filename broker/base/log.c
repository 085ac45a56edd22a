/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096u
#define CUT_MARK       " [cut]"

_Atomic int log_level = GRAPNEL_LOG_INFO;

/*
 * The descriptor's number never changes once it is set: another target is put in its place with
 * dup3, so that writers need no lock and never write to a descriptor that somebody else got meanwhile.
 */
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_json;
static _Atomic int log_syslog;
static char *log_path; /* NULL: not a file. Main thread only */

static const struct {
	const char *name;
	int priority;
} levels[] = {
	[GRAPNEL_LOG_ERROR] = { "error", LOG_ERR },
	[GRAPNEL_LOG_WARNING] = { "warning", LOG_WARNING },
	[GRAPNEL_LOG_NOTICE] = { "notice", LOG_NOTICE },
	[GRAPNEL_LOG_INFO] = { "info", LOG_INFO },
	[GRAPNEL_LOG_DEBUG] = { "debug", LOG_DEBUG },
	[GRAPNEL_LOG_TRACE] = { "trace", LOG_DEBUG },
};

/* ---- targets -------------------------------------------------------------------------------- */

static int
target_open(const char *to)
{
	if (strcmp(to, "stderr") == 0)
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (strcmp(to, "stdout") == 0)
		return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	return open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

static bool
is_file(const char *to)
{
	return strcmp(to, "stderr") != 0 && strcmp(to, "stdout") != 0 && strcmp(to, "syslog") != 0;
}

/* Writers use fd from now on. Takes it over. */
static int
target_use(int fd)
{
	int current = atomic_load(&log_fd), saved;

	if (current == STDERR_FILENO) {
		atomic_store(&log_fd, fd);
		return GRAPNEL_OK;
	}
	if (dup3(fd, current, O_CLOEXEC) < 0) {
		saved = errno;
		(void)close(fd);
		errno = saved;
		return GRAPNEL_ESYS;
	}
	(void)close(fd);
	return GRAPNEL_OK;
}

int
log_check(const char *to)
{
	int fd;

	if (!is_file(to))
		return GRAPNEL_OK;
	if ((fd = target_open(to)) < 0)
		return GRAPNEL_ESYS;
	(void)close(fd);
	return GRAPNEL_OK;
}

int
log_configure(int level, enum log_format format, const char *to)
{
	bool to_syslog = strcmp(to, "syslog") == 0;
	char *path = NULL;
	int fd;

	if (is_file(to) && (path = strdup(to)) == NULL)
		return GRAPNEL_ENOMEM;
	if (to_syslog) {
		openlog("grapneld", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	} else if ((fd = target_open(to)) < 0 || target_use(fd) != GRAPNEL_OK) {
		free(path);
		return GRAPNEL_ESYS;
	}
	free(log_path);
	log_path = path;
	atomic_store(&log_syslog, to_syslog);
	atomic_store(&log_json, format == LOG_JSON);
	atomic_store(&log_level, level);
	return GRAPNEL_OK;
}

int
log_reopen(void)
{
	int fd;

	if (log_path == NULL)
		return GRAPNEL_OK;
	if ((fd = target_open(log_path)) < 0)
		return GRAPNEL_ESYS;
	return target_use(fd);
}

void
log_close(void)
{
	int fd = atomic_exchange(&log_fd, STDERR_FILENO);

	if (fd != STDERR_FILENO)
		(void)close(fd);
	if (atomic_exchange(&log_syslog, 0))
		closelog();
	atomic_store(&log_json, 0);
	free(log_path);
	log_path = NULL;
}

bool
log_level_from_name(const char *name, int *level)
{
	for (int i = GRAPNEL_LOG_ERROR; i <= GRAPNEL_LOG_TRACE; i++) {
		if (strcmp(name, levels[i].name) == 0) {
			*level = i;
			return true;
		}
	}
	return false;
}

/* ---- lines ---------------------------------------------------------------------------------- */

struct line {
	size_t len, max;
	char text[LINE_MAX_BYTES];
};

static void
line_add(struct line *l, const char *s, size_t n)
{
	if (n > l->max - l->len)
		n = l->max - l->len;
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

/*
 * The length of the well-formed and printable character at s, 0 if it must be escaped byte by byte: malformed
 * UTF-8, controls (C0, DEL, C1), line and paragraph separators, and what makes a terminal show text in another order.
 */
static size_t
printable_len(const unsigned char *s, size_t left)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t cp;
	size_t n;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7F;
	if (s[0] >= 0xC2 && s[0] <= 0xDF)
		n = 2, cp = s[0] & 0x1Fu;
	else if (s[0] >= 0xE0 && s[0] <= 0xEF)
		n = 3, cp = s[0] & 0x0Fu;
	else if (s[0] >= 0xF0 && s[0] <= 0xF4)
		n = 4, cp = s[0] & 0x07u;
	else
		return 0;
	if (left < n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xC0) != 0x80)
			return 0;
		cp = cp << 6 | (s[i] & 0x3Fu);
	}
	if (cp < smallest[n] || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
		return 0;
	if (cp < 0xA0 || (cp >= 0x2028 && cp <= 0x202E) || (cp >= 0x2066 && cp <= 0x2069) ||
	    cp == 0xFEFF)
		return 0;
	return n;
}

/* @return all of it fitted. Never ends inside a character or an escape. */
static bool
line_add_escaped(struct line *l, const char *text, size_t len, bool json)
{
	const unsigned char *s = (const unsigned char *)text;
	char escape[8];

	for (size_t i = 0, n; i < len; i += n) {
		const char *piece = text + i;
		size_t piece_len;

		n = printable_len(s + i, len - i);
		piece_len = n;
		if (n == 0) {
			n = 1;
			piece_len = (size_t)snprintf(
			    escape, sizeof(escape), json ? "\\\\x%02X" : "\\x%02X", s[i]);
			piece = escape;
		} else if (json && (s[i] == '"' || s[i] == '\\')) {
			escape[0] = '\\';
			escape[1] = (char)s[i];
			piece_len = 2;
			piece = escape;
		}
		if (piece_len > l->max - l->len)
			return false;
		line_add(l, piece, piece_len);
	}
	return true;
}

#define STAMP_SIZE 32u

static size_t
time_text(char out[static STAMP_SIZE])
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	n = strftime(out, STAMP_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(
	    out + n, STAMP_SIZE - n, ".%03uZ", (unsigned)(ts.tv_nsec / 1000000) % 1000u);
	return n < STAMP_SIZE ? n : STAMP_SIZE - 1; /* any year fits; the compiler cannot know */
}

static void
line_build(struct line *l, int level, const char *event, const char *text, size_t len, bool cut)
{
	bool json = atomic_load_explicit(&log_json, memory_order_relaxed) != 0;
	bool for_syslog = atomic_load_explicit(&log_syslog, memory_order_relaxed) != 0;
	const char *end = json ? "\"}\n" : "\n";
	char stamp[STAMP_SIZE];
	size_t stamp_len = time_text(stamp);
	const char *name = levels[level].name;

	l->len = 0;
	l->max = LINE_MAX_BYTES - sizeof(CUT_MARK) - 4;
	if (json) {
		line_add(l, "{\"time\":\"", 9);
		line_add(l, stamp, stamp_len);
		line_add(l, "\",\"level\":\"", 11);
		line_add(l, name, strlen(name));
		if (event != NULL) {
			line_add(l, "\",\"event\":\"", 11);
			line_add(l, event, strlen(event));
		}
		line_add(l, "\",\"message\":\"", 13);
	} else {
		if (!for_syslog) { /* syslog has both */
			line_add(l, stamp, stamp_len);
			line_add(l, " ", 1);
			line_add(l, name, strlen(name));
			line_add(l, " ", 1);
		}
		if (event != NULL) {
			line_add(l, event, strlen(event));
			line_add(l, ": ", 2);
		}
	}
	if (!line_add_escaped(l, text, len, json))
		cut = true;
	l->max = LINE_MAX_BYTES - 1;
	if (cut)
		line_add(l, CUT_MARK, sizeof(CUT_MARK) - 1);
	line_add(l, end, strlen(end));
	l->text[l->len] = '\0';
}

void
log_vwrite(int level, const char *event, const char *format, va_list ap)
{
	char text[LINE_MAX_BYTES];
	struct line line;
	int saved = errno, n;
	size_t len;

	if (level < GRAPNEL_LOG_ERROR)
		level = GRAPNEL_LOG_ERROR;
	if (level > GRAPNEL_LOG_TRACE)
		level = GRAPNEL_LOG_TRACE;
	n = vsnprintf(text, sizeof(text), format, ap);
	if (n < 0)
		n = snprintf(
		    text, sizeof(text), "(a message that cannot be formatted: %s)", format);
	len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
	line_build(&line, level, event, text, len, (size_t)n > len);
	if (atomic_load_explicit(&log_syslog, memory_order_relaxed)) {
		syslog(levels[level].priority, "%s", line.text);
	} else {
		ssize_t written;

		/* A log that cannot be written has nowhere to say so. */
		do
			written = write(atomic_load_explicit(&log_fd, memory_order_relaxed),
			    line.text, line.len);
		while (written < 0 && errno == EINTR);
	}
	errno = saved;
}

void
log_write(int level, const char *event, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vwrite(level, event, format, ap);
	va_end(ap);
}
