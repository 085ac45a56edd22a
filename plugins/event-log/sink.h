/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink - where lines go: a file that is rotated, the broker's stdout, or a syslog socket
 *
 * What is written is whole lines; one that was cut by a full disk is completed before anything else is written, or begun
 * again in the next file. A file is looked at by its path before each piece, so that one that was moved away or deleted is
 * made anew without anybody having to tell.
 *
 * Threads:   the writer's; sink_init and sink_check in create().
 * Ownership: a sink has its descriptors; the strings of its options are the caller's.
 * Blocks:    sink_write on a regular file as long as the disk does; on all else at most SINK_WAIT_MS.
 */
#ifndef PLUGINS_EVENT_LOG_SINK_H
#define PLUGINS_EVENT_LOG_SINK_H

#include <grapnel/types.h>
#include <sys/types.h>

#define SINK_WAIT_MS 100u

enum sink_kind { SINK_NONE, SINK_FILE, SINK_STDOUT, SINK_SYSLOG };
enum sink_result {
	SINK_DONE,
	SINK_LATER,   /* it takes no more just now */
	SINK_TROUBLE, /* sink->trouble says what and what to do; try again after a while */
};

struct sink {
	enum sink_kind kind;
	const char *path; /* of the file, or of syslog's socket */
	const char *ident;
	uint64_t max_size; /* 0: never rotated */
	unsigned keep;

	int fd; /* -1: not open */
	bool regular, newline_due;
	dev_t dev;
	ino_t ino;
	uint64_t size, rotate_after_ms;
	uint64_t skipped;   /* lines that syslog does not take, ever */
	char trouble[512];  /* of SINK_TROUBLE */
	char warning[512];  /* "": none; what did not keep it from writing. The caller clears it */
};

void sink_init(struct sink *s, enum sink_kind kind);
/* Can it be written to, as far as one can see without touching it? false: trouble says why not. */
bool sink_check(struct sink *s);
/* Write on from *done, which stands behind the last byte that is written or given up. */
enum sink_result sink_write(struct sink *s, const char *lines, size_t len, size_t *done);
/* Nothing to write: see that the file is there. */
enum sink_result sink_idle(struct sink *s);
void sink_close(struct sink *s);

/* ---- between file.c, syslog.c and sink.c -------------------------------------------------------- */
enum sink_result sink_trouble(struct sink *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Wait until the descriptor takes something. */
bool sink_ready(const struct sink *s);
bool file_check(struct sink *s);
enum sink_result file_ready(struct sink *s, const char *lines, size_t *done); /* open, and the one of that path */
enum sink_result file_write(struct sink *s, const char *lines, size_t len, size_t *done);
enum sink_result stream_write(struct sink *s, const char *lines, size_t len, size_t *done); /* to fd, whatever it is */
enum sink_result syslog_write(struct sink *s, const char *lines, size_t len, size_t *done);
bool syslog_check(struct sink *s);

#endif
