/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file with a path: opened, looked at again before each piece, rotated. A FIFO or a device will do as well; those are not
 * rotated, and one that takes nothing does not hold the thread.
 */
#include "backlog.h"
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE       0640
#define ROTATE_RETRY_MS 60000u
/* A pipe that poll calls ready takes that much at once, so that the write of a blocking one does not wait. */
#define PIECE 4096u

/* Where the line that is half written begins. */
static size_t
line_start(const char *lines, size_t done)
{
	while (done > 0 && lines[done - 1] != '\n')
		done--;
	return done;
}

static const char *
advice(int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
		return "make room, or lower max_size and keep";
	case EFBIG:
		return "raise the limit of a file's size, or lower max_size";
	case EACCES:
	case EPERM:
		return "let the user that the broker runs as write there";
	case ENOENT:
	case ENOTDIR:
		return "make its folder";
	case EROFS:
	case EIO:
		return "look after the disk";
	case ENXIO:
	case EPIPE:
		return "start what reads from it";
	default:
		return "see that the path is right";
	}
}

static enum sink_result
trouble(struct sink *s, const char *what, int err)
{
	return sink_trouble(s, "%s: %s: %s; %s", s->path != NULL ? s->path : "stdout", what,
	    err == ENXIO ? "nobody reads from it" : strerror(err), advice(err));
}

bool
file_check(struct sink *s)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(s->path, '/');
	struct stat st;

	if (slash == NULL || s->path[0] != '/' || slash[1] == '\0') {
		(void)sink_trouble(s, "\"%s\" must be the absolute path of a file", s->path);
		return false;
	}
	/* The longest name of an old one is ".1000". */
	if (strlen(s->path) + 6 >= sizeof(folder)) {
		(void)sink_trouble(
		    s, "it is too long for a path; the most is %d bytes", PATH_MAX - 7);
		return false;
	}
	if (stat(s->path, &st) == 0) {
		if (S_ISDIR(st.st_mode)) {
			(void)sink_trouble(s, "\"%s\" is a folder; name a file in it", s->path);
			return false;
		}
		if (faccessat(AT_FDCWD, s->path, W_OK, AT_EACCESS) == 0)
			return true;
		(void)trouble(s, "cannot be written", errno);
		return false;
	}
	if (errno != ENOENT) {
		(void)trouble(s, "cannot be opened", errno);
		return false;
	}
	/* It is made when the first line comes: a check of the configuration leaves nothing behind. */
	(void)snprintf(folder, sizeof(folder), "%.*s", (int)(slash - s->path + 1), s->path);
	if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0)
		return true;
	(void)trouble(s, "cannot be made", errno);
	return false;
}

/* ---- opening -------------------------------------------------------------------------------------- */

/* The last one who wrote may have been stopped in the middle of a line. */
static bool
ends_within_line(const char *path, off_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char last = '\n';

	if (fd < 0)
		return false;
	if (pread(fd, &last, 1, size - 1) != 1)
		last = '\n';
	(void)close(fd);
	return last != '\n';
}

static enum sink_result
file_open(struct sink *s, const char *lines, size_t *done)
{
	struct stat st;
	int fd = open(
	    s->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, FILE_MODE);

	if (fd < 0)
		return trouble(s, "cannot be opened", errno);
	if (fstat(fd, &st) != 0) {
		enum sink_result r = trouble(s, "cannot be looked at", errno);

		(void)close(fd);
		return r;
	}
	sink_close(s);
	s->fd = fd;
	s->regular = S_ISREG(st.st_mode);
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->size = s->regular ? (uint64_t)st.st_size : 0;
	s->newline_due = s->size > 0 && ends_within_line(s->path, st.st_size);
	*done = line_start(lines, *done); /* the rest of a line means nothing there */
	return SINK_DONE;
}

/* ---- rotation ------------------------------------------------------------------------------------- */

/* file -> file.1 -> file.2 ... -> file.keep, which goes. */
static int
file_shift(const struct sink *s)
{
	char from[PATH_MAX], to[PATH_MAX];

	for (unsigned i = s->keep; i > 0; i--) {
		(void)snprintf(to, sizeof(to), "%s.%u", s->path, i);
		if (i > 1)
			(void)snprintf(from, sizeof(from), "%s.%u", s->path, i - 1);
		else
			(void)snprintf(from, sizeof(from), "%s", s->path);
		if (rename(from, to) != 0 && errno != ENOENT)
			return errno;
	}
	return 0;
}

/* How far it may be written before the next rotation; done: not at all. */
static size_t
file_end(const struct sink *s, const char *lines, size_t len, size_t done)
{
	uint64_t room = s->max_size > s->size ? s->max_size - s->size : 0;
	const char *newline;
	size_t fits;

	if (!s->regular || s->max_size == 0 || len - done <= room ||
	    backlog_clock_ms() < s->rotate_after_ms)
		return len;
	fits = line_start(lines, done + (size_t)room);
	if (fits > done)
		return fits;
	if (s->size > 0 && line_start(lines, done) == done)
		return done;
	/* A line that is longer than a file may be has one of its own. */
	newline = memchr(lines + done, '\n', len - done);
	return newline != NULL ? (size_t)(newline - lines) + 1 : len;
}

static enum sink_result
file_rotate(struct sink *s)
{
	int err = file_shift(s);
	size_t none = 0;

	if (err == 0)
		return file_open(s, "", &none);
	s->rotate_after_ms = backlog_clock_ms() + ROTATE_RETRY_MS;
	(void)snprintf(s->warning, sizeof(s->warning),
	    "%s: cannot be rotated: %s; it grows over max_size meanwhile; let the user that the "
	    "broker runs as rename files in that folder",
	    s->path, strerror(err));
	return SINK_DONE;
}

enum sink_result
file_ready(struct sink *s, const char *lines, size_t *done)
{
	struct stat st;

	if (s->fd < 0 || stat(s->path, &st) != 0 || st.st_dev != s->dev || st.st_ino != s->ino)
		return file_open(s, lines, done);
	if (s->regular)
		s->size = (uint64_t)st.st_size; /* somebody may have cut it */
	return SINK_DONE;
}

/* ---- writing -------------------------------------------------------------------------------------- */

/* Into a pipe whole lines, when one fits: others may write to it, too. */
static size_t
piece(const struct sink *s, const char *at, size_t left)
{
	size_t len = left < PIECE ? left : PIECE, whole;

	if (s->regular || len == left)
		return s->regular ? left : len;
	whole = line_start(at, len);
	return whole > 0 ? whole : len;
}

/* What a reader left behind is of no use; the next try opens it again. */
static enum sink_result
write_failed(struct sink *s, int err)
{
	if (err == EAGAIN)
		return SINK_LATER;
	if (err == EPIPE && s->kind == SINK_FILE)
		sink_close(s);
	return trouble(s, "cannot be written", err);
}

enum sink_result
stream_write(struct sink *s, const char *lines, size_t len, size_t *done)
{
	while (s->newline_due || *done < len) {
		ssize_t n;

		if (!s->regular && !sink_ready(s))
			return SINK_LATER;
		n = s->newline_due
		    ? write(s->fd, "\n", 1)
		    : write(s->fd, lines + *done, piece(s, lines + *done, len - *done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return write_failed(s, n < 0 ? errno : ENOSPC);
		s->size += (uint64_t)n;
		if (s->newline_due)
			s->newline_due = false;
		else
			*done += (size_t)n;
	}
	return SINK_DONE;
}

enum sink_result
file_write(struct sink *s, const char *lines, size_t len, size_t *done)
{
	enum sink_result r = file_ready(s, lines, done);

	while (r == SINK_DONE && *done < len) {
		size_t end = file_end(s, lines, len, *done);

		r = end > *done ? stream_write(s, lines, end, done) : file_rotate(s);
	}
	return r;
}
