/* SPDX-License-Identifier: Apache-2.0 */
#include "passwd_edit.h"

#include "../plugins/common/read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct edit {
	char path[PATH_MAX]; /* links followed: the file itself is replaced, not a link to it */
	char folder[PATH_MAX], temporary[2 * PATH_MAX + 16];
	int folder_fd, fd;
	bool exists;
	struct stat st;
	struct file_text old;      /* as read */
	struct passwd_file *users; /* of the old text; its own copy */
	char *text;                /* the new one */
	size_t len;
	char *error;
	size_t error_size;
};

static bool fail(struct edit *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(struct edit *e, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(e->error, e->error_size, format, args);
	va_end(args);
	return false;
}

static bool
fail_errno(struct edit *e, const char *what)
{
	int err = errno;
	char buffer[128];

	return fail(e, "%s: %s", what, strerror_r(err, buffer, sizeof(buffer)));
}

/* Where the file is, and its folder, locked. */
static bool
find(struct edit *e, const char *path)
{
	char resolved[PATH_MAX];
	const char *slash;

	if (realpath(path, resolved) != NULL) {
		e->exists = true;
		path = resolved;
	} else if (errno != ENOENT) {
		return fail_errno(e, path);
	}
	if (path[0] == '\0' || strlen(path) + sizeof("./..XXXXXX") > PATH_MAX)
		return fail(e, "\"%s\" is not the path of a file", path);
	memcpy(e->path, path, strlen(path) + 1);
	slash = strrchr(path, '/');
	if (slash == NULL)
		memcpy(e->folder, ".", 2);
	else if (slash == path)
		memcpy(e->folder, "/", 2);
	else
		snprintf(e->folder, sizeof(e->folder), "%.*s", (int)(slash - path), path);
	if (slash != NULL && slash[1] == '\0')
		return fail(e, "\"%s\" is not the path of a file", path);
	e->folder_fd = open(e->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->folder_fd < 0 || flock(e->folder_fd, LOCK_EX) != 0)
		return fail_errno(e, e->folder);
	/* Another one may have made the file while this one waited. */
	if (stat(e->path, &e->st) == 0)
		e->exists = true;
	else if (errno != ENOENT || e->exists)
		return fail_errno(e, e->path);
	return true;
}

static bool
load(struct edit *e)
{
	char *copy;

	if (!e->exists)
		return true;
	if (!read_file(e->path, PASSWD_FILE_MAX_BYTES, &e->old, e->error, e->error_size))
		return false;
	if ((copy = malloc(e->old.len + 1)) == NULL)
		return fail(e, "out of memory");
	memcpy(copy, e->old.data, e->old.len);
	e->users = passwd_file_parse(copy, e->old.len, e->path, e->error, e->error_size);
	return e->users != NULL;
}

static void
append(struct edit *e, const char *data, size_t len)
{
	if (len > 0) /* compose made room */
		memcpy(e->text + e->len, data, len);
	e->len += len;
}

static void
append_entry(struct edit *e, const struct passwd_entry *entry)
{
	append(e, entry->name.data, entry->name.len);
	append(e, ":", 1);
	append(e, entry->hash.data, entry->hash.len);
	append(e, "\n", 1);
}

/* Is this the first line of its user in that file? */
static bool
is_first(const struct passwd_file *f, const struct passwd_entry *entry)
{
	struct passwd_entry first;

	return passwd_file_find(f, entry->name, &first) && first.line == entry->line;
}

/* All lines that a user has now; they take the place of the first one. */
static void
append_user(struct edit *e, const struct passwd_file *changes, struct passwd_entry entry)
{
	append_entry(e, &entry);
	while (entry.next != 0) {
		entry = passwd_file_at(changes, entry.next - 1);
		append_entry(e, &entry);
	}
}

/* An old line with a user of the changes: every old line of such a user goes. */
static void
change_line(struct edit *e, enum passwd_edit_mode mode, const struct passwd_entry *old,
    const struct passwd_file *changes, struct passwd_entry change,
    struct passwd_edit_result *result)
{
	if (!is_first(e->users, old))
		return;
	if (mode == PASSWD_DELETE) {
		result->deleted++;
		return;
	}
	append_user(e, changes, change);
	result->changed++;
}

/* The old lines, each kept, changed or left out. */
static void
compose_old(struct edit *e, enum passwd_edit_mode mode, const struct passwd_file *changes,
    struct passwd_edit_result *result)
{
	const char *at = e->old.data, *end = at + e->old.len;
	size_t line = 0, next = 0, users = passwd_file_count(e->users);

	while (at < end) {
		const char *eol = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((eol != NULL ? eol : end) - at);
		struct passwd_entry user, change;
		bool keep = true;

		line++;
		if (next < users && (user = passwd_file_at(e->users, next)).line == line) {
			next++;
			if (passwd_file_find(changes, user.name, &change)) {
				change_line(e, mode, &user, changes, change, result);
				keep = false;
			}
		}
		if (keep) {
			append(e, at, len);
			append(e, "\n", 1);
		}
		at += len + (eol != NULL);
	}
}

static bool
compose(struct edit *e, enum passwd_edit_mode mode, const struct passwd_file *changes,
    struct passwd_edit_result *result)
{
	size_t size = e->old.len + 1, count = passwd_file_count(changes);
	struct passwd_entry entry, there;

	for (size_t i = 0; i < count; i++) {
		entry = passwd_file_at(changes, i);
		size += entry.name.len + entry.hash.len + 2;
		if (mode == PASSWD_DELETE &&
		    (e->users == NULL || !passwd_file_find(e->users, entry.name, &there)))
			return fail(e, "%s: there is no user \"%.*s\"", e->path,
			    (int)entry.name.len, entry.name.data);
	}
	if ((e->text = malloc(size)) == NULL)
		return fail(e, "out of memory");
	if (e->users != NULL)
		compose_old(e, mode, changes, result);
	for (size_t i = 0; mode != PASSWD_DELETE && i < count; i++) {
		entry = passwd_file_at(changes, i);
		if (!is_first(changes, &entry) ||
		    (e->users != NULL && passwd_file_find(e->users, entry.name, &there)))
			continue;
		append_user(e, changes, entry);
		result->added++;
	}
	return true;
}

/* The rights of the new file: those of the old one, but nobody else's. */
static bool
take_over_rights(struct edit *e)
{
	if (!e->exists)
		return fchmod(e->fd, 0600) == 0 || fail_errno(e, e->temporary);
	if ((e->st.st_uid != geteuid() || e->st.st_gid != getegid()) &&
	    fchown(e->fd, e->st.st_uid, e->st.st_gid) != 0)
		return fail(e,
		    "%s belongs to another user or group, which only root can keep as it is; "
		    "run this as root or as its owner",
		    e->path);
	return fchmod(e->fd, (e->st.st_mode & 0040) | 0600) == 0 || fail_errno(e, e->temporary);
}

static bool
replace(struct edit *e)
{
	const char *name = strrchr(e->path, '/');
	size_t done = 0;

	name = name != NULL ? name + 1 : e->path;
	snprintf(e->temporary, sizeof(e->temporary), "%s/.%s.XXXXXX", e->folder, name);
	if ((e->fd = mkostemp(e->temporary, O_CLOEXEC)) < 0) {
		(void)fail_errno(e, e->temporary);
		e->temporary[0] = '\0';
		return false;
	}
	if (!take_over_rights(e))
		return false;
	while (done < e->len) {
		ssize_t n = write(e->fd, e->text + done, e->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(e, e->temporary);
		done += (size_t)n;
	}
	if (fsync(e->fd) != 0)
		return fail_errno(e, e->temporary);
	if (rename(e->temporary, e->path) != 0)
		return fail_errno(e, e->path);
	e->temporary[0] = '\0';
	return fsync(e->folder_fd) == 0 || fail_errno(e, e->folder);
}

bool
passwd_edit(const char *path, enum passwd_edit_mode mode, const struct passwd_file *changes,
    struct passwd_edit_result *result, char *error, size_t error_size)
{
	struct edit *e = calloc(1, sizeof(*e));
	bool good;

	*result = (struct passwd_edit_result){ 0 };
	if (e == NULL) {
		(void)snprintf(error, error_size, "out of memory");
		return false;
	}
	e->fd = e->folder_fd = -1;
	e->error = error;
	e->error_size = error_size;
	good = find(e, path);
	if (good && e->exists && mode == PASSWD_CREATE)
		good = fail(e, "%s exists already; leave --create out to change it", e->path);
	if (good && !e->exists && mode == PASSWD_DELETE)
		good = fail(e, "%s does not exist", e->path);
	good = good && load(e) && compose(e, mode, changes, result) && replace(e);
	result->created = good && !e->exists;
	if (e->temporary[0] != '\0')
		(void)unlink(e->temporary);
	if (e->fd >= 0)
		close(e->fd);
	if (e->folder_fd >= 0)
		close(e->folder_fd); /* and the lock with it */
	passwd_file_free(e->users);
	file_text_free(&e->old);
	if (e->text != NULL)
		explicit_bzero(e->text, e->len);
	free(e->text);
	free(e);
	return good;
}
