/* SPDX-License-Identifier: Apache-2.0 */
/* curl_loop - connections and time of libcurl on a worker's loop; the calls are in curl_call.c */
#include "curl_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct watched {
	struct watched *prev, *next;
	int fd;
	struct grapnel_watch *watch;
};

void
curl_loop_count(struct curl_loop *loop, int metric, int64_t delta)
{
	if (metric >= 0)
		loop->host->metric_add(loop->self, metric, delta);
}

/* ------------------------------------------------------- sockets and time for libcurl */

static void
on_done(struct curl_call *c, CURLcode result)
{
	char text[128];

	if (result == CURLE_OK) {
		if (!curl_redirect(c))
			curl_call_finish(c, GRAPNEL_OK, "");
	} else if (c->too_large || result == CURLE_FILESIZE_EXCEEDED) {
		/* Content-Length was enough for libcurl to see it. */
		c->status_known |= result == CURLE_FILESIZE_EXCEEDED;
		curl_call_finish(c, GRAPNEL_EQUOTA, "the answer is too large");
	} else if (c->no_memory) {
		curl_call_finish(c, GRAPNEL_ESYS, "no memory");
	} else if (c->guarded[0] != '\0') {
		(void)snprintf(text, sizeof(text),
		    "%s is a private address: not connected, since those are refused", c->guarded);
		curl_call_finish(c, GRAPNEL_ESYS, text);
	} else {
		curl_call_finish(c,
		    result == CURLE_OPERATION_TIMEDOUT ? GRAPNEL_ETIMEOUT : GRAPNEL_ESYS,
		    c->error[0] != '\0' ? c->error : curl_easy_strerror(result));
	}
}

/* What has ended; then what became possible. */
static void
collect(struct curl_loop *loop)
{
	CURLMsg *m;
	int left;

	while (loop->multi != NULL && !loop->broken &&
	    (m = curl_multi_info_read(loop->multi, &left)) != NULL) {
		struct curl_call *c = NULL;

		if (m->msg == CURLMSG_DONE &&
		    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c) == CURLE_OK)
			on_done(c, m->data.result);
	}
}

static void
unwatch(struct curl_loop *loop, struct watched *w)
{
	if (w->prev != NULL)
		w->prev->next = w->next;
	else
		loop->watched = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	loop->host->watch_remove(w->watch);
	free(w);
}

static void
close_multi(struct curl_loop *loop)
{
	loop->host->timer_disarm(loop->timer);
	loop->timer_armed = false;
	if (loop->multi != NULL)
		(void)curl_multi_cleanup(loop->multi); /* closes what is kept alive */
	loop->multi = NULL;
	loop->broken = false;
	while (loop->spare_count > 0)
		curl_easy_cleanup(loop->spare[--loop->spare_count]);
	while (loop->watched != NULL)
		unwatch(loop, loop->watched);
}

/* Memory was short in a callback, after which libcurl does nothing with a multi handle but free it. */
static void
start_over(struct curl_loop *loop)
{
	bool again = true;

	while (again) {
		again = false;
		for (struct curl_call *c = loop->active; c != NULL && !again; c = c->next)
			if (c->state == CALL_SENT) {
				curl_call_finish(c, GRAPNEL_ESYS, "no memory for a connection");
				again = true;
			}
	}
	close_multi(loop);
}

static void
act(struct curl_loop *loop, int fd, int events)
{
	int running;
	long next;

	if (loop->multi == NULL)
		return;
	if (curl_multi_socket_action(loop->multi, fd, events, &running) != CURLM_OK)
		loop->broken = true;
	collect(loop);
	if (loop->broken)
		start_over(loop);
	/* libcurl does not say again what it thinks we know; but a timer that was a bit early is gone. */
	if (loop->multi != NULL && !loop->timer_armed &&
	    curl_multi_timeout(loop->multi, &next) == CURLM_OK && next >= 0) {
		loop->timer_armed = true;
		(void)loop->host->timer_arm(loop->timer, (uint32_t)next + 1);
	}
	curl_loop_advance(loop);
}

static void
on_ready(void *arg, int fd, unsigned events)
{
	act(arg, fd,
	    ((events & (GRAPNEL_READABLE | GRAPNEL_HANGUP)) ? CURL_CSELECT_IN : 0) |
		((events & GRAPNEL_WRITABLE) ? CURL_CSELECT_OUT : 0));
}

static void
on_timer(void *arg)
{
	struct curl_loop *loop = arg;

	loop->timer_armed = false;
	act(loop, CURL_SOCKET_TIMEOUT, 0);
}

static bool
watch(struct curl_loop *loop, int fd, unsigned events)
{
	struct watched *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return false;
	w->fd = fd;
	w->watch = loop->host->watch_fd(loop->self, fd, events, on_ready, loop);
	if (w->watch == NULL) {
		free(w);
		return false;
	}
	w->next = loop->watched;
	if (w->next != NULL)
		w->next->prev = w;
	loop->watched = w;
	/* Then libcurl gives it to on_socket. */
	if (curl_multi_assign(loop->multi, fd, w) == CURLM_OK)
		return true;
	unwatch(loop, w);
	return false;
}

/* CURLMOPT_SOCKETFUNCTION */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *mine)
{
	struct curl_loop *loop = arg;
	struct watched *w = mine;
	unsigned events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w != NULL)
			unwatch(loop, w);
		return 0;
	}
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= GRAPNEL_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= GRAPNEL_WRITABLE;
	if (w != NULL ? loop->host->watch_change(w->watch, events) == GRAPNEL_OK
		      : watch(loop, fd, events))
		return 0;
	loop->broken = true;
	return -1;
}

/* CURLMOPT_TIMERFUNCTION */
static int
on_timeout_set(CURLM *multi, long timeout_ms, void *arg)
{
	struct curl_loop *loop = arg;

	(void)multi;
	if (timeout_ms < 0) {
		loop->host->timer_disarm(loop->timer);
		loop->timer_armed = false;
		return 0;
	}
	loop->timer_armed = true;
	(void)loop->host->timer_arm(loop->timer, timeout_ms > 0 ? (uint32_t)timeout_ms + 1 : 0);
	return 0;
}

curl_socket_t
curl_loop_on_socket_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct curl_call *c = arg;
	int fd;

	(void)purpose;
	if (!curl_guard_address(c, &address->addr))
		return CURL_SOCKET_BAD;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	curl_loop_count(c->loop, c->loop->limits.metrics.connections, 1);
	return fd;
}

int
curl_loop_on_socket_close(void *arg, curl_socket_t fd)
{
	struct curl_loop *loop = arg;

	/* libcurl has told on_socket before; one that did not would leave us with a watch of a closed descriptor. */
	for (struct watched *w = loop->watched; w != NULL; w = w->next)
		if (w->fd == fd) {
			(void)curl_multi_assign(loop->multi, fd, NULL);
			unwatch(loop, w);
			break;
		}
	curl_loop_count(loop, loop->limits.metrics.connections, -1);
	return close(fd);
}

bool
curl_loop_open(struct curl_loop *loop)
{
	long connections = (long)loop->limits.connections;

	if (loop->multi != NULL)
		return true;
	loop->multi = curl_multi_init();
	if (loop->multi == NULL)
		return false;
	if (curl_multi_setopt(loop->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
	    curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop) == CURLM_OK &&
	    curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, on_timeout_set) == CURLM_OK &&
	    curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop) == CURLM_OK &&
	    curl_multi_setopt(loop->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections) ==
		CURLM_OK &&
	    curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS, connections) == CURLM_OK)
		return true;
	close_multi(loop);
	return false;
}

/* ----------------------------------------------------------------------------- loop */

static void
on_idle(void *arg)
{
	struct curl_loop *loop = arg;

	close_multi(loop);
	curl_names_forget(&loop->names);
}

struct curl_loop *
curl_loop_new(const struct grapnel_host *host, struct grapnel_instance *self,
    const struct curl_loop_limits *limits)
{
	struct curl_loop *loop = calloc(1, sizeof(*loop));

	if (loop == NULL)
		return NULL;
	loop->host = host;
	loop->self = self;
	loop->limits = *limits;
	if (loop->limits.active == 0)
		loop->limits.active = limits->connections;
	loop->names = (struct curl_names){ .host = host, .self = self };
	loop->timer = host->timer_new(self, on_timer, loop);
	loop->idle = host->timer_new(self, on_idle, loop);
	if (loop->timer != NULL && loop->idle != NULL)
		return loop;
	curl_loop_free(loop);
	return NULL;
}

void
curl_loop_free(struct curl_loop *loop)
{
	if (loop == NULL)
		return;
	loop->freeing = true;
	while (loop->active != NULL)
		curl_call_finish(loop->active, GRAPNEL_ECANCELED, "the plugin stops");
	while (loop->waiting != NULL)
		curl_call_finish(loop->waiting, GRAPNEL_ECANCELED, "the plugin stops");
	close_multi(loop);
	curl_names_forget(&loop->names);
	loop->host->timer_free(loop->timer);
	loop->host->timer_free(loop->idle);
	free(loop);
}
