/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - evhttp on a Unix socket
 *
 * evhttp stops reading a connection while its request is being worked on, and keeps the request valid until it is
 * answered, the peer having gone or not; only evhttp_free would take it away, so admin_stop answers everything first.
 */
#include "admin.h"
#include "api.h"
#include "base/log.h"
#include "core/broker.h"
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 64

struct admin;
/* One HTTP request between evhttp's callback and its answer; stays until the handler has let go of the call too. */
struct pending {
	struct admin *admin; /* NULL: stopped */
	struct pending *next, **link;
	struct evhttp_request *req; /* NULL: answered */
	struct event *deadline;
	struct api_call *call;
	bool head;
};
struct admin {
	struct broker *broker;
	struct evhttp *http;
	struct pending *first;
	unsigned count;
	char *path;
	dev_t dev;
	ino_t ino;
};

static struct admin *admin_self; /* main thread only */

static void
respond(struct evhttp_request *req, bool head, int status, const char *content_type,
    const char *allow, struct grapnel_str body)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	struct evbuffer *buffer = evbuffer_new();
	char length[24];

	evhttp_add_header(headers, "Content-Type", content_type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	if (allow != NULL)
		evhttp_add_header(headers, "Allow", allow);
	snprintf(length, sizeof(length), "%zu", body.len);
	evhttp_add_header(headers, "Content-Length", length);
	if (buffer == NULL || (!head && evbuffer_add(buffer, body.data, body.len) != 0)) {
		evhttp_remove_header(headers, "Content-Length");
		evhttp_send_reply(req, 500, "Internal Server Error", NULL);
	} else
		evhttp_send_reply(
		    req, status, NULL, buffer); /* the phrase that belongs to the status */
	if (buffer != NULL)
		evbuffer_free(buffer);
}

static void
respond_error(struct evhttp_request *req, int status, const char *message)
{
	char *text = api_error_text(message);

	respond(req, false, status, "application/json", NULL,
	    text != NULL ? (struct grapnel_str){ text, strlen(text) } : GRAPNEL_STR("{}"));
	free(text);
}

static void
pending_free(struct pending *p)
{
	if (p->link != NULL) {
		*p->link = p->next;
		if (p->next != NULL)
			p->next->link = p->link;
		p->admin->count--;
	}
	if (p->deadline != NULL)
		event_free(p->deadline);
	free(p);
}

static void
pending_on_answer(
    void *carrier, int status, const char *content_type, const char *allow, struct grapnel_str body)
{
	struct pending *p = carrier;

	if (p->req != NULL)
		respond(p->req, p->head, status, content_type, allow, body);
	p->req = NULL;
}

static void
pending_on_finished(struct api_call *call)
{
	pending_free(call->carrier);
}

/* Answer in the handler's place; what the handler says later goes nowhere. */
static void
pending_give_up(struct pending *p, int status, const char *message)
{
	struct evhttp_request *req = p->req;

	p->req = NULL;
	if (req != NULL)
		respond_error(req, status, message);
}

static void
pending_on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pending_give_up(arg, 503, "no answer in time; the log may say more");
}

/* Who is at the other end, for the log: the kernel knows. */
static void
peer_name(struct evhttp_request *req, char *out, size_t size)
{
	struct bufferevent *bev =
	    evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (bev != NULL &&
	    getsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
		snprintf(out, size, "uid %u, pid %d", (unsigned)cred.uid, (int)cred.pid);
	else
		snprintf(out, size, "unknown");
}

static enum api_method
method_of(enum evhttp_cmd_type command)
{
	if (command == EVHTTP_REQ_GET || command == EVHTTP_REQ_HEAD)
		return API_GET;
	if (command == EVHTTP_REQ_POST)
		return API_POST;
	if (command == EVHTTP_REQ_DELETE)
		return API_DELETE;
	return API_OTHER;
}

static void
server_on_request(struct evhttp_request *req, void *arg)
{
	struct admin *a = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	struct evbuffer *input = evhttp_request_get_input_buffer(req);
	const struct timeval deadline = { ADMIN_CALL_TIMEOUT_S, 0 };
	struct grapnel_str body = { NULL, evbuffer_get_length(input) };
	struct pending *p;
	char who[48];

	if (a->count >= ADMIN_MAX_CALLS) {
		respond_error(req, 503, "too many calls are under way; try again");
		return;
	}
	if (body.len > 0 && (body.data = (const char *)evbuffer_pullup(input, -1)) == NULL) {
		respond_error(req, 500, "no memory");
		return;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL ||
	    (p->deadline = evtimer_new(a->broker->main->base, pending_on_deadline, p)) == NULL) {
		free(p);
		respond_error(req, 500, "no memory");
		return;
	}
	peer_name(req, who, sizeof(who));
	p->req = req;
	p->head = evhttp_request_get_command(req) == EVHTTP_REQ_HEAD;
	p->call = api_call_new(a->broker, method_of(evhttp_request_get_command(req)),
	    uri != NULL && evhttp_uri_get_path(uri) != NULL ? evhttp_uri_get_path(uri) : "",
	    uri != NULL ? evhttp_uri_get_query(uri) : NULL, body, who, pending_on_answer, p);
	if (p->call == NULL) { /* and answered */
		pending_free(p);
		return;
	}
	p->admin = a;
	p->next = a->first;
	p->link = &a->first;
	if (p->next != NULL)
		p->next->link = &p->next;
	a->first = p;
	a->count++;
	p->call->finished = pending_on_finished;
	event_add(p->deadline, &deadline);
	api_dispatch(p->call); /* may free p */
}

/* ---- the socket ------------------------------------------------------------------------------ */

/* Is a live server behind this path? Never waits. */
static bool
somebody_listens(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool alive;

	if (fd < 0)
		return true; /* not known: leave it alone */
	alive = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED;
	close(fd);
	return alive;
}

static int
socket_bind(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;

	if (strlen(path) >= sizeof(address.sun_path)) {
		log_error("admin socket %s: the path is too long, %zu characters are possible",
		    path, sizeof(address.sun_path) - 1);
		return GRAPNEL_EINVAL;
	}
	memcpy(address.sun_path, path, strlen(path));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return GRAPNEL_OK;
	if (errno == EADDRINUSE) {
		if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
			log_error("admin socket %s: this file exists and is not a socket; remove "
				  "it or set admin { socket }",
			    path);
			return GRAPNEL_EINVAL;
		}
		if (somebody_listens(&address)) {
			log_error("admin socket %s: another broker listens there; stop it or set "
				  "admin { socket }",
			    path);
			return GRAPNEL_ESYS;
		}
		log_notice("admin socket %s: left by a broker that is gone; replaced", path);
		if ((unlink(path) == 0 || errno == ENOENT) &&
		    bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return GRAPNEL_OK;
	}
	log_error("admin socket %s: %s%s", path, strerror(errno),
	    errno == ENOENT       ? "; make the folder or set admin { socket }"
		: errno == EACCES ? "; the broker's user needs write access to the folder"
				  : "");
	return GRAPNEL_ESYS;
}

/* Group and mode as set. The file was made with mode 0600, so nobody got in before. */
static int
socket_permit(const char *path, const char *group, mode_t mode)
{
	struct group entry, *found = NULL;
	char buffer[16384];
	int err;

	if (group != NULL) {
		err = getgrnam_r(group, &entry, buffer, sizeof(buffer), &found);
		if (found == NULL) {
			log_error("admin socket %s: group \"%s\": %s", path, group,
			    err != 0 ? strerror(err) : "there is no such group");
			return GRAPNEL_EINVAL;
		}
		if (lchown(path, (uid_t)-1, found->gr_gid) != 0) {
			log_error("admin socket %s: cannot give it to group \"%s\": %s; unless "
				  "the broker starts as root, its user has to be in that group",
			    path, group, strerror(errno));
			return GRAPNEL_ESYS;
		}
	}
	if (chmod(path, mode & 0777) != 0) {
		log_error("admin socket %s: cannot set mode %04o: %s", path,
		    (unsigned)(mode & 0777), strerror(errno));
		return GRAPNEL_ESYS;
	}
	return GRAPNEL_OK;
}

/* A listening socket, and its file's identity in *a. Below 0: an error, already logged. */
static int
socket_open(struct admin *a, const struct settings *s, int *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	*err = GRAPNEL_ESYS;
	/* On Linux the mode of the unbound socket is that of the file to come: no moment at which it is wider. */
	if (fd < 0 || fchmod(fd, 0600) != 0) {
		log_error("admin socket %s: %s", s->admin.socket, strerror(errno));
		goto fail;
	}
	if ((*err = socket_bind(fd, s->admin.socket)) != GRAPNEL_OK)
		goto fail;
	if ((*err = socket_permit(s->admin.socket, s->admin.group, s->admin.mode)) != GRAPNEL_OK) {
		unlink(s->admin.socket);
		goto fail;
	}
	if (listen(fd, LISTEN_BACKLOG) != 0 || lstat(s->admin.socket, &st) != 0) {
		log_error("admin socket %s: %s", s->admin.socket, strerror(errno));
		unlink(s->admin.socket);
		*err = GRAPNEL_ESYS;
		goto fail;
	}
	a->dev = st.st_dev;
	a->ino = st.st_ino;
	return fd;
fail:
	if (fd >= 0)
		close(fd);
	return -1;
}

int
admin_start(struct broker *b)
{
	struct admin *a;
	int fd, err = GRAPNEL_ENOMEM;

	if (admin_self != NULL || b->settings->admin.socket == NULL)
		return GRAPNEL_OK;
	json_object_seed(0); /* before workers build objects of their own */
	if ((a = calloc(1, sizeof(*a))) == NULL ||
	    (a->path = strdup(b->settings->admin.socket)) == NULL ||
	    (a->http = evhttp_new(b->main->base)) == NULL) {
		log_error("admin socket: no memory");
		goto fail;
	}
	a->broker = b;
	evhttp_set_max_headers_size(a->http, ADMIN_MAX_HEADERS);
	evhttp_set_max_body_size(a->http, ADMIN_MAX_BODY);
	evhttp_set_timeout(a->http, ADMIN_TIMEOUT_S);
	/* All that evhttp knows, so that a wrong one gets our 405 and not a page of HTML. */
	evhttp_set_allowed_methods(a->http,
	    EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
		EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(a->http, server_on_request, a);
	if ((fd = socket_open(a, b->settings, &err)) < 0)
		goto fail;
	if (evhttp_accept_socket(a->http, fd) != 0) {
		log_error("admin socket %s: no memory", a->path);
		close(fd);
		unlink(a->path);
		err = GRAPNEL_ENOMEM;
		goto fail;
	}
	admin_self = a;
	log_info("admin socket %s is ready", a->path);
	return GRAPNEL_OK;
fail:
	if (a != NULL) {
		if (a->http != NULL)
			evhttp_free(a->http);
		free(a->path);
	}
	free(a);
	return err;
}

void
admin_stop(struct broker *b)
{
	struct admin *a = admin_self;
	struct pending *p, *next;
	struct stat st;

	(void)b;
	if (a == NULL)
		return;
	admin_self = NULL;
	for (p = a->first; p != NULL; p = next) {
		next = p->next;
		p->link = NULL; /* from here on it belongs to its handler alone */
		p->next = NULL;
		event_free(p->deadline);
		p->deadline = NULL;
		pending_give_up(p, 503, "the broker is stopping");
		p->admin = NULL;
	}
	evhttp_free(a->http); /* closes the listening socket and all connections */
	/* Only our own file: a newer broker may have replaced it. */
	if (lstat(a->path, &st) == 0 && st.st_dev == a->dev && st.st_ino == a->ino)
		unlink(a->path);
	free(a->path);
	free(a);
}
