/* SPDX-License-Identifier: Apache-2.0 */
#include "net/activation.h"
#include "base/log.h"
#include "config/conf.h"
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define FDS_MAX  1024u

struct passed {
	int fd; /* -1: taken */
	const char *name;
};
struct activation {
	const char *why; /* there are none; NULL: there are some */
	char *names;     /* what passed[].name points into */
	unsigned count;
	struct passed passed[FDS_MAX];
};

/* Decimal, and nothing else. @return -1: it is not. */
static long
number(const char *text)
{
	size_t len = text != NULL ? strlen(text) : 0;

	return len > 0 && len <= 9 && strspn(text, "0123456789") == len ? strtol(text, NULL, 10)
									: -1;
}

static void
read_names(struct activation *a)
{
	char *at = a->names;

	for (unsigned i = 0; i < a->count; i++) {
		char *end = at != NULL ? strchr(at, ':') : NULL;

		a->passed[i].name = at != NULL ? at : "unknown"; /* as systemd calls them */
		if (end != NULL)
			*end = '\0';
		at = end != NULL ? end + 1 : NULL;
	}
}

struct activation *
activation_new(void)
{
	struct activation *a = calloc(1, sizeof(*a));
	const char *names = getenv("LISTEN_FDNAMES");
	long pid = number(getenv("LISTEN_PID")), fds = number(getenv("LISTEN_FDS"));

	if (a == NULL)
		return NULL;
	if (pid != getpid()) {
		a->why = "systemd has not passed any sockets";
	} else if (fds < 1 || fds > (long)FDS_MAX) {
		a->why = "systemd has passed no sockets (LISTEN_FDS is not from 1 to 1024)";
	} else {
		if (names != NULL && (a->names = strdup(names)) == NULL) {
			free(a);
			return NULL;
		}
		for (; a->count < (unsigned)fds; a->count++) {
			a->passed[a->count].fd = FIRST_FD + (int)a->count;
			(void)fcntl(a->passed[a->count].fd, F_SETFD, FD_CLOEXEC);
		}
		read_names(a);
	}
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return a;
}

void
activation_free(struct activation *a)
{
	if (a == NULL)
		return;
	for (unsigned i = 0; i < a->count; i++) {
		if (a->passed[i].fd < 0)
			continue;
		if (close(a->passed[i].fd) == 0)
			log_warning("systemd has passed a socket called \"%s\" (descriptor %d), "
				    "but no listener has bind = \"systemd:%s\": it is closed",
			    a->passed[i].name, a->passed[i].fd, a->passed[i].name);
	}
	free(a->names);
	free(a);
}

static int
refuse(struct conf_errors *errs, const struct listener_settings *ls, const char *what,
    const char *advice)
{
	conf_errors_add(errs, "%s: listener \"%s\": cannot listen on %s: %s; %s", ls->where,
	    ls->name, ls->bind, what, advice);
	return GRAPNEL_ESYS;
}

static int
option_of(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

/* @return NULL: one that the listener can use; else what is wrong. */
static const char *
unfit(int fd, const struct listener_settings *ls, const char **advice)
{
	int domain = option_of(fd, SO_DOMAIN), flags;

	*advice = "its socket unit needs ListenStream=";
	if (domain < 0)
		return errno == EBADF ? "it is not open" : "it is not a socket";
	if (option_of(fd, SO_TYPE) != SOCK_STREAM)
		return "it is not a stream socket";
	if (option_of(fd, SO_ACCEPTCONN) != 1) {
		*advice = "its socket unit needs Accept=no";
		return "it is a socket that does not listen";
	}
	if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
		return "it is neither a TCP nor a Unix socket";
	if (domain != AF_UNIX && ls->identity == IDENTITY_PEER) {
		*advice = "choose another identity, or a path for ListenStream=";
		return "identity = peer is only for Unix sockets";
	}
	flags = fcntl(fd, F_GETFL);
	*advice = "look at its socket unit";
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return strerror(errno);
	if (domain != AF_UNIX && !bound_tcp_options(fd, ls))
		return strerror(errno);
	return NULL;
}

/* "systemd:mqtt, 127.0.0.1:1883" would be no address: those of the sockets, each once. */
static bool
add_address(struct bound *out, int fd)
{
	struct sockaddr_storage sa = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(sa);
	char text[PEER_TEXT_MAX + sizeof(sa)] = "unix:", *all;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
		return false;
	if (sa.ss_family == AF_UNIX) {
		const char *path = (const char *)&sa + sizeof(sa_family_t);
		size_t n = len > sizeof(sa_family_t) ? len - sizeof(sa_family_t) : 0;

		if (n > 0 && path[0] == '\0') /* abstract */
			(void)snprintf(text, sizeof(text), "unix:@%.*s", (int)n - 1, path + 1);
		else
			(void)snprintf(text, sizeof(text), "unix:%.*s", (int)n, path);
	} else {
		peer_text(text, fd, (struct sockaddr *)&sa, len);
	}
	if (out->address == NULL)
		return (out->address = strdup(text)) != NULL;
	if (strstr(out->address, text) != NULL)
		return true;
	if (asprintf(&all, "%s, %s", out->address, text) < 0)
		return false;
	free(out->address);
	out->address = all;
	return true;
}

int
activation_take(struct activation *a, const struct listener_settings *ls, struct conf_errors *errs,
    struct bound *out)
{
	char what[200];

	if (a->why != NULL)
		return refuse(
		    errs, ls, a->why, "start the service by its socket unit, or choose an address");
	for (unsigned i = 0; i < a->count; i++) {
		const char *why, *advice;

		if (a->passed[i].fd < 0 || strcmp(a->passed[i].name, ls->systemd) != 0)
			continue;
		if (out->count == WORKER_MAX)
			return refuse(errs, ls, "systemd has passed more than 64 of that name",
			    "use several names and listeners");
		if ((why = unfit(a->passed[i].fd, ls, &advice)) != NULL) {
			(void)snprintf(
			    what, sizeof(what), "descriptor %d: %s", a->passed[i].fd, why);
			return refuse(errs, ls, what, advice);
		}
		if (!add_address(out, a->passed[i].fd))
			return GRAPNEL_ENOMEM;
		out->fds[out->count++] = a->passed[i].fd;
		a->passed[i].fd = -1;
	}
	if (out->count > 0)
		return GRAPNEL_OK;
	(void)snprintf(what, sizeof(what),
	    "of the %u socket%s that systemd has passed none has that name", a->count,
	    a->count == 1 ? "" : "s");
	return refuse(errs, ls, what, "see FileDescriptorName= of the socket unit");
}
