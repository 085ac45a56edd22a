/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges.h"
#include "base/log.h"
#include "config/conf.h"
#include "config/settings.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Where a setting of the top level was written, "grapnel.conf:4". */
static const char *
where(const struct settings *s, const char *name, char *buf, size_t size)
{
	const struct conf_node *root = s->tree;

	for (unsigned i = 0; root != NULL && i < root->item_count; i++) {
		const struct conf_node *n = &root->items[i];

		if (n->kind == CONF_VALUE && n->name != NULL && strcmp(n->name, name) == 0 &&
		    n->file != NULL) {
			(void)snprintf(buf, size, "%s:%d", n->file, n->line);
			return buf;
		}
	}
	return s->path;
}

/*
 * A thread that gives way to all others (SCHED_IDLE) may become an ordinary one again only where nice 0 is allowed. It gives no
 * process more than it has by default, so it is worth trying for every user; where it is refused nothing is lost.
 */
static void
allow_nice_0(void)
{
	const rlim_t nice_0 = 20;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NICE, &limit) != 0 || limit.rlim_cur >= nice_0)
		return;
	limit.rlim_cur = nice_0;
	if (limit.rlim_max < nice_0)
		limit.rlim_max = nice_0;
	(void)setrlimit(RLIMIT_NICE, &limit);
}

int
privileges_drop(const struct settings *s, struct conf_errors *errs)
{
	const struct passwd *pw;
	const struct group *gr;
	char at[512];
	gid_t gid;

	allow_nice_0();
	if (geteuid() != 0 || s->user == NULL)
		return GRAPNEL_OK;
	errno = 0;
	if ((pw = getpwnam(s->user)) == NULL) {
		if (errno != 0 && errno != ENOENT)
			conf_errors_add(errs, "%s: looking up user \"%s\": %s",
			    where(s, "user", at, sizeof(at)), s->user, strerror(errno));
		else
			conf_errors_add(errs,
			    "%s: there is no user \"%s\"; create it (useradd --system --shell "
			    "/usr/sbin/nologin %s) or change "
			    "\"user\"",
			    where(s, "user", at, sizeof(at)), s->user, s->user);
		return GRAPNEL_EINVAL;
	}
	gid = pw->pw_gid;
	if (s->group != NULL) {
		if ((gr = getgrnam(s->group)) == NULL) {
			conf_errors_add(errs,
			    "%s: there is no group \"%s\"; create it (groupadd --system %s) or "
			    "change \"group\"",
			    where(s, "group", at, sizeof(at)), s->group, s->group);
			return GRAPNEL_EINVAL;
		}
		gid = gr->gr_gid;
	}
	/* Groups first: afterwards we may not any more. */
	if (initgroups(s->user, gid) != 0 || setgid(gid) != 0 || setuid(pw->pw_uid) != 0) {
		conf_errors_add(errs, "%s: cannot become user \"%s\": %s",
		    where(s, "user", at, sizeof(at)), s->user, strerror(errno));
		return GRAPNEL_ESYS;
	}
	if (pw->pw_uid != 0 && setuid(0) == 0) {
		conf_errors_add(errs, "%s: root could be had back after becoming user \"%s\"",
		    where(s, "user", at, sizeof(at)), s->user);
		return GRAPNEL_ESYS;
	}
	return GRAPNEL_OK;
}

void
privileges_warn(const struct settings *s)
{
	if (geteuid() == 0 && s->user == NULL)
		log_warning("running as root: a fault in the broker or a plugin would give away "
			    "the machine; set \"user\" in %s",
		    s->path);
}
