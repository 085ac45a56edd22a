/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer - the thread that makes lines of events, writes them and publishes them
 *
 * Threads:   writer_start, writer_stop on any; writer_end where destroy() runs. The thread itself takes no signals.
 * Ownership: the writer takes chunks from the backlog and frees them; its sink is its own.
 * Bounded:   a piece of WRITER_PIECE bytes and one line; all else is the backlog's.
 */
#ifndef PLUGINS_EVENT_LOG_WRITER_H
#define PLUGINS_EVENT_LOG_WRITER_H

#include <grapnel/plugin.h>

#include "../events/format.h"
#include "backlog.h"
#include "sink.h"

#define WRITER_PIECE 65536u

struct writer_metrics {
	int lines, lost, errors, published, backlog_bytes;
};

struct writer {
	/* set by the owner before the start */
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct backlog *backlog;
	struct sink sink;
	enum format_payload payload;
	bool publish;
	uint8_t publish_qos;
	struct writer_metrics metrics;
	/* Both on the thread. */
	void (*on_room)(void *owner);	   /* the backlog has room again */
	void (*on_abandoned)(void *owner); /* writer_end gave it up; its call returned after all: free everything */
	void *owner;

	pthread_t thread;
	bool started;
	/* the thread's */
	struct text text;
	struct record_view view;
	uint64_t lines; /* in text */
	bool failing;
	bool late; /* the time to end has come: the rest is lost */
	uint64_t late_lines;
	/* between it and writer_end, under lock */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	bool in_call, ended, abandoned;
};

bool writer_init(struct writer *w);
void writer_fini(struct writer *w);
/* @return GRAPNEL_OK; GRAPNEL_ESYS: there is no thread. */
int writer_start(struct writer *w);
/*
 * After backlog_stop: wait for the end, which comes soon after that deadline. false: it hangs in a call of the system that
 * does not return (a disk that is gone). Then the thread is the owner of all: should it ever come back, it calls
 * on_abandoned and nothing of the host. This code must stay mapped for it.
 */
bool writer_end(struct writer *w);

#endif
