/* SPDX-License-Identifier: Apache-2.0 */
#include "net/listener_bind.h"
#include "base/log.h"
#include "config/conf.h"
#include "net/activation.h"
#include "net/listener.h"
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define KEEP_ALIVE_PROBES 3 /* a third of tcp_keep_alive apart: gone after twice that time */

static void
refuse(struct conf_errors *errs, const struct listener_settings *ls, const char *what,
    const char *advice)
{
	conf_errors_add(errs, "%s: listener \"%s\": cannot listen on %s: %s%s%s", ls->where,
	    ls->name, ls->bind, what, advice != NULL ? "; " : "", advice != NULL ? advice : "");
}

static int
make_socket(int family, int type)
{
	return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* ---- TCP, and UDP for handlers ------------------------------------------------------------------------------------- */

static const char *
tcp_advice(int err, const struct listener_settings *ls, char *buf, size_t size)
{
	switch (err) {
	case EADDRINUSE:
		(void)snprintf(buf, size,
		    "another program listens there (\"ss -l%cnp sport = :%s\" names it): stop it "
		    "or "
		    "choose another port in bind",
		    ls->is_udp ? 'u' : 't', ls->port);
		return buf;
	case EACCES:
		return "ports below 1024 need root or CAP_NET_BIND_SERVICE: start as root with "
		       "\"user\" set, let systemd open it (bind = \"systemd:NAME\"), or choose "
		       "another port";
	case EADDRNOTAVAIL:
		return "no interface of this machine has that address (\"ip address\" lists them)";
	case ENODEV: /* of SO_BINDTODEVICE alone */
		(void)snprintf(buf, size,
		    "no network interface of this machine is called \"%s\" (\"ip link\" lists "
		    "them): change \"interface\"",
		    ls->interface);
		return buf;
	case EPERM:
		return ls->interface != NULL ? "\"interface\" needs root or CAP_NET_RAW" : NULL;
	case EAFNOSUPPORT:
		return "this machine does not have that address family";
	default:
		return NULL;
	}
}

/*
 * On Linux an accepted socket is a copy of the one that listens, as far as these, TCP_NODELAY and SO_BINDTODEVICE are
 * concerned: none of them costs a system call per connection. Not inherited are O_NONBLOCK and
 * close-on-exec, which accept4 sets. A reload changes the listening sockets, so it counts for whoever connects from then on.
 */
bool
bound_tcp_options(int fd, const struct listener_settings *ls)
{
	int on = 1, alive = ls->tcp_keep_alive > 0, idle = (int)ls->tcp_keep_alive;
	int interval = idle / KEEP_ALIVE_PROBES > 0 ? idle / KEEP_ALIVE_PROBES : 1;
	int probes = KEEP_ALIVE_PROBES;
	unsigned user_timeout = ls->tcp_user_timeout_ms;

	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &alive, sizeof(alive)) == 0 &&
	    (!alive ||
		(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) == 0 &&
		    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval)) == 0 &&
		    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes)) == 0)) &&
	    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout)) == 0;
}

static bool
tcp_interface(int fd, const struct listener_settings *ls)
{
	return ls->interface == NULL ||
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ls->interface,
		(socklen_t)strlen(ls->interface) + 1) == 0;
}

/* Bound, not listening yet. With `shared` others that are, and are the same user's, may have the address too. */
static int
tcp_bind(const struct sockaddr *sa, socklen_t len, bool dual_stack,
    const struct listener_settings *ls, bool shared)
{
	bool stream = !ls->is_udp;
	int fd = make_socket(sa->sa_family, stream ? SOCK_STREAM : SOCK_DGRAM), on = 1;
	int v6only = !dual_stack, saved;

	if (fd < 0)
		return -1;
	/* Connections of an earlier run that linger in TIME_WAIT must not keep us from starting. */
	if ((!stream || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0) &&
	    (!shared || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
	    (sa->sa_family != AF_INET6 ||
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) == 0) &&
	    (!stream || bound_tcp_options(fd, ls)) && tcp_interface(fd, ls) &&
	    bind(fd, sa, len) == 0)
		return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

/*
 * The first socket is bound as the only one, so that a port that another program has, even a second broker of the same
 * user, is an error; only then it may be shared. @return false: errno.
 */
static bool
tcp_listen(const struct addrinfo *ai, bool dual_stack, const struct listener_settings *ls,
    unsigned sockets, struct bound *out)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int on = 1;

	if ((out->fds[0] = tcp_bind(ai->ai_addr, ai->ai_addrlen, dual_stack, ls, false)) < 0)
		return false;
	out->count = 1;
	/* With port 0 the system has chosen one. */
	if (getsockname(out->fds[0], (struct sockaddr *)&sa, &len) != 0)
		return false;
	if (sockets > 1 && setsockopt(out->fds[0], SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)
		return false;
	for (; out->count < sockets; out->count++)
		if ((out->fds[out->count] =
			    tcp_bind((struct sockaddr *)&sa, len, dual_stack, ls, true)) < 0)
			return false;
	for (unsigned i = 0; i < out->count && !ls->is_udp; i++)
		if (listen(out->fds[i], ls->backlog) != 0)
			return false;
	return true;
}

static int
tcp_open(const struct listener_settings *ls, unsigned sockets, struct conf_errors *errs,
    struct bound *out)
{
	bool any = strcmp(ls->host, "*") == 0, done;
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = ls->is_udp ? SOCK_DGRAM : SOCK_STREAM };
	struct addrinfo *ai;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char buf[256], *text;
	int err;

	err = getaddrinfo(any ? "::" : ls->host, ls->port, &hints, &ai);
	if (err != 0) {
		refuse(errs, ls, gai_strerror(err),
		    "write a numeric address or * and a port, e.g. \"127.0.0.1:1883\"");
		return GRAPNEL_EINVAL;
	}
	done = tcp_listen(ai, any, ls, sockets, out);
	err = errno;
	freeaddrinfo(ai);
	if (!done && any && out->count == 0 && (err == EAFNOSUPPORT || err == EADDRNOTAVAIL)) {
		/* A machine without IPv6: every address is every IPv4 address. */
		if (getaddrinfo("0.0.0.0", ls->port, &hints, &ai) == 0) {
			done = tcp_listen(ai, false, ls, sockets, out);
			err = errno;
			freeaddrinfo(ai);
		}
	}
	if (!done) {
		refuse(errs, ls, strerror(err), tcp_advice(err, ls, buf, sizeof(buf)));
		return GRAPNEL_ESYS;
	}
	memcpy(buf, "udp:", 5);
	text = buf + (ls->is_udp ? 4 : 0);
	*text = '\0';
	if (getsockname(out->fds[0], (struct sockaddr *)&sa, &len) == 0)
		peer_text(text, out->fds[0], (struct sockaddr *)&sa, len);
	out->address = strdup(buf);
	return out->address != NULL ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

/* ---- Unix ------------------------------------------------------------------------------------ */

/* Remove the file that a broker which crashed left behind. @return NULL: the place is free; else what is wrong. */
static const char *
unix_clear(const struct sockaddr_un *sun, socklen_t len, const char **advice)
{
	struct stat st;
	int fd, err;

	if (lstat(sun->sun_path, &st) != 0) {
		*advice = errno == ENOENT ? NULL : "look at the permissions of its folder";
		return errno == ENOENT ? NULL : strerror(errno);
	}
	*advice = "choose another path, or remove it if nobody needs it";
	if (!S_ISSOCK(st.st_mode))
		return "something that is no socket is there";
	if ((fd = make_socket(AF_UNIX, SOCK_STREAM)) < 0)
		return strerror(errno);
	err = connect(fd, (const struct sockaddr *)sun, len) == 0 ? 0 : errno;
	(void)close(fd);
	if (err == ECONNREFUSED) { /* nobody listens */
		if (unlink(sun->sun_path) == 0)
			return NULL;
		*advice = "look at the permissions of its folder";
		return strerror(errno);
	}
	if (err == 0 || err == EAGAIN) {
		*advice = "stop the program that listens there or choose another path";
		return "another program listens there";
	}
	*advice = "look at the permissions of the socket";
	return strerror(err);
}

static bool
unix_ids(const struct listener_settings *ls, struct conf_errors *errs, uid_t *uid, gid_t *gid)
{
	char what[256];

	*uid = (uid_t)-1;
	*gid = (gid_t)-1;
	if (ls->unix_owner != NULL) {
		const struct passwd *pw = getpwnam(ls->unix_owner);

		if (pw == NULL) {
			(void)snprintf(
			    what, sizeof(what), "there is no user \"%s\"", ls->unix_owner);
			refuse(errs, ls, what, "create the user or change \"unix_owner\"");
			return false;
		}
		*uid = pw->pw_uid;
	}
	if (ls->unix_group != NULL) {
		const struct group *gr = getgrnam(ls->unix_group);

		if (gr == NULL) {
			(void)snprintf(
			    what, sizeof(what), "there is no group \"%s\"", ls->unix_group);
			refuse(errs, ls, what, "create the group or change \"unix_group\"");
			return false;
		}
		*gid = gr->gr_gid;
	}
	return true;
}

static int
unix_open(const struct listener_settings *ls, struct conf_errors *errs, struct bound *out)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t n = strlen(ls->path);
	bool abstract = ls->path[0] == '@';
	const char *what, *advice;
	struct stat st;
	socklen_t len;
	mode_t mask;
	uid_t uid;
	gid_t gid;
	int err;

	if (n >= sizeof(sun.sun_path)) {
		refuse(errs, ls, "the path is too long for a Unix socket (107 bytes at most)",
		    "choose a shorter one");
		return GRAPNEL_EINVAL;
	}
	if (!unix_ids(ls, errs, &uid, &gid))
		return GRAPNEL_EINVAL;
	memcpy(sun.sun_path, ls->path, n);
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	if (abstract) {
		sun.sun_path[0] = '\0';
		len--;
	} else if ((what = unix_clear(&sun, len, &advice)) != NULL) {
		refuse(errs, ls, what, advice);
		return GRAPNEL_ESYS;
	}
	if ((out->address = malloc(n + sizeof("unix:"))) == NULL ||
	    (out->fds[0] = make_socket(AF_UNIX, SOCK_STREAM)) < 0) {
		refuse(errs, ls, strerror(errno), NULL);
		return GRAPNEL_ESYS;
	}
	out->count = 1;
	(void)snprintf(out->address, n + sizeof("unix:"), "unix:%s", ls->path);
	mask = umask(0777); /* nobody gets in before owner and mode are right */
	err = bind(out->fds[0], (struct sockaddr *)&sun, len) == 0 ? 0 : errno;
	(void)umask(mask);
	if (err != 0) {
		refuse(errs, ls, strerror(err),
		    err == EADDRINUSE   ? "another program has that name"
			: err == ENOENT ? "its folder does not exist"
					: "look at the permissions of its folder");
		return GRAPNEL_ESYS;
	}
	if (!abstract) {
		if ((out->path = strdup(ls->path)) == NULL)
			return GRAPNEL_ENOMEM;
		if (lstat(out->path, &st) == 0) {
			out->dev = st.st_dev;
			out->ino = st.st_ino;
		}
		if ((uid != (uid_t)-1 || gid != (gid_t)-1) && lchown(out->path, uid, gid) != 0) {
			refuse(errs, ls, strerror(errno),
			    "owner and group can be given away by root only, or to a group one is "
			    "in");
			return GRAPNEL_ESYS;
		}
		if (chmod(out->path, ls->unix_mode) != 0) {
			refuse(errs, ls, strerror(errno), NULL);
			return GRAPNEL_ESYS;
		}
	}
	if (listen(out->fds[0], ls->backlog) != 0) {
		refuse(errs, ls, strerror(errno), NULL);
		return GRAPNEL_ESYS;
	}
	return GRAPNEL_OK;
}

/* ---------------------------------------------------------------------------------------------- */

int
bound_open(const struct listener_settings *ls, unsigned sockets, struct activation *passed,
    struct conf_errors *errs, struct bound *out)
{
	int err;

	*out = (struct bound){ 0 };
	err = ls->systemd != NULL ? activation_take(passed, ls, errs, out)
	    : ls->is_unix         ? unix_open(ls, errs, out)
				  : tcp_open(ls, sockets, errs, out);
	if (err == GRAPNEL_OK)
		return err;
	if (err == GRAPNEL_ENOMEM)
		refuse(errs, ls, "out of memory", NULL);
	bound_close(out);
	free(out->address);
	out->address = NULL;
	return err;
}

void
bound_apply(int fd, const struct listener_settings *ls)
{
	int domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);

	if (ls->is_udp) /* nothing of that is for datagrams */
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 ||
	    (domain != AF_UNIX && !bound_tcp_options(fd, ls)) ||
	    (ls->systemd == NULL && listen(fd, ls->backlog) != 0))
		log_error("listener \"%s\": cannot change its sockets: %s; they stay as they were",
		    ls->name, strerror(errno));
}

void
bound_close(struct bound *b)
{
	struct stat st;

	/* Somebody may have put another socket there: that one is not ours to remove. */
	if (b->path != NULL && lstat(b->path, &st) == 0 && st.st_dev == b->dev &&
	    st.st_ino == b->ino && unlink(b->path) != 0)
		log_info("cannot remove the socket file %s: %s; the next start will", b->path,
		    strerror(errno));
	free(b->path);
	b->path = NULL;
	while (b->count > 0)
		(void)close(b->fds[--b->count]);
}
