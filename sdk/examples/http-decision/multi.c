/* SPDX-License-Identifier: MIT-0 */
/*
 * multi - see multi.h
 *
 * libcurl tells on_socket which descriptors it waits for, and for what, and on_timeout how long at most. What becomes ready is told
 * to curl_multi_socket_action, which does all the work and never waits.
 */
#include "multi.h"

#include <stdlib.h>

struct multi {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	CURLM *curl;
	struct grapnel_timer *timer;
	multi_done_fn done;
};

static void
collect(struct multi *m)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(m->curl, &left)) != NULL) {
		CURL *easy = message->easy_handle;
		CURLcode result = message->data.result; /* message is gone with the next call */
		void *arg = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &arg);
		(void)curl_multi_remove_handle(m->curl, easy);
		m->done(arg, result);
	}
}

static void
on_ready(void *arg, int fd, unsigned events)
{
	struct multi *m = arg;
	int running, what = 0;

	/* A hang-up is found out by reading. */
	if ((events & (GRAPNEL_READABLE | GRAPNEL_HANGUP)) != 0)
		what |= CURL_CSELECT_IN;
	if ((events & GRAPNEL_WRITABLE) != 0)
		what |= CURL_CSELECT_OUT;
	(void)curl_multi_socket_action(m->curl, fd, what, &running);
	collect(m);
}

static void
on_timer(void *arg)
{
	struct multi *m = arg;
	int running;

	(void)curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(m);
}

/* CURLMOPT_SOCKETFUNCTION. A watch that cannot be had is not an error for libcurl: that transfer ends by its time limit. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *watch)
{
	struct multi *m = arg;
	unsigned events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (watch != NULL)
			m->host->watch_remove(watch);
		return 0;
	}
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= GRAPNEL_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= GRAPNEL_WRITABLE;
	if (watch != NULL) {
		(void)m->host->watch_change(watch, events);
		return 0;
	}
	watch = m->host->watch_fd(m->self, fd, events, on_ready, m);
	if (watch != NULL && curl_multi_assign(m->curl, fd, watch) != CURLM_OK)
		m->host->watch_remove(watch);
	return 0;
}

/* CURLMOPT_TIMERFUNCTION: it must not call libcurl, so that even 0 goes by way of the loop. */
static int
on_timeout(CURLM *curl, long timeout_ms, void *arg)
{
	struct multi *m = arg;

	(void)curl;
	if (timeout_ms < 0)
		m->host->timer_disarm(m->timer);
	else
		(void)m->host->timer_arm(
		    m->timer, timeout_ms < INT32_MAX ? (uint32_t)timeout_ms : INT32_MAX);
	return 0;
}

struct multi *
multi_new(const struct grapnel_host *host, struct grapnel_instance *self, long connections,
    multi_done_fn done)
{
	struct multi *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->host = host;
	m->self = self;
	m->done = done;
	m->timer = host->timer_new(self, on_timer, m);
	m->curl = curl_multi_init();
	if (m->timer == NULL || m->curl == NULL) {
		multi_free(m);
		return NULL;
	}
	(void)curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
	(void)curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, on_timeout);
	(void)curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);
	(void)curl_multi_setopt(m->curl, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
	(void)curl_multi_setopt(m->curl, CURLMOPT_MAXCONNECTS, connections);
	return m;
}

void
multi_free(struct multi *m)
{
	if (m == NULL)
		return;
	/* Closes what was kept alive, and calls on_socket and on_timeout once more. */
	if (m->curl != NULL)
		(void)curl_multi_cleanup(m->curl);
	if (m->timer != NULL)
		m->host->timer_free(m->timer);
	free(m);
}

bool
multi_add(struct multi *m, CURL *easy)
{
	return curl_multi_add_handle(m->curl, easy) == CURLM_OK;
}

void
multi_remove(struct multi *m, CURL *easy)
{
	(void)curl_multi_remove_handle(m->curl, easy);
}
