/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power - the platter: what of the folder a loss of power would leave
 *
 * The platter is a folder, too. fsync and fdatasync of a file copy there what was written to it since the last time, and its length;
 * a file that is new gets its name with its own fsync, as on ext4, or with that of the folder, which moves and removes names. To cut
 * the power the test kills the program and puts a copy of the platter in the folder's place. A kill amid a copy leaves some of it:
 * so does a disk.
 *
 * A failed fsync forgets what it should have written: Linux takes such pages for clean, and writes them never again.
 *
 * Bounded: RANGES per file, then they are one. A file of the platter that has no name yet is called .new-N.
 */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RANGES 256u
#define FILES  1024u

REAL_DECLARE(open)
REAL_DECLARE(pwrite)
REAL_DECLARE(pread)
REAL_DECLARE(ftruncate)

struct range {
	off_t from, to;
};
struct disk_file {
	ino_t inode;
	int live,
	    platter; /* our own descriptors, kept: closing one would drop the program's locks on the file */
	char name[NAME_MAX + 1];
	bool named; /* on the platter */
	struct range ranges[RANGES];
	unsigned range_count;
};
static struct {
	pthread_mutex_t lock; /* of all that is here */
	char folder[PATH_MAX];
	int platter; /* < 0: nothing is kept */
	struct disk_file *files[FILES];
	unsigned file_count, new_count;
} power = { .lock = PTHREAD_MUTEX_INITIALIZER, .platter = -1 };

static __attribute__((noreturn)) void
die(const char *what, const char *name)
{
	(void)fprintf(stderr, "disk: %s: %s: %s\n", what, name, strerror(errno));
	abort();
}

void
power_begin(const char *folder, const char *platter)
{
	(void)snprintf(power.folder, sizeof(power.folder), "%s", folder);
	power.platter = REAL(open)(platter, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (power.platter < 0)
		die("GRAPNEL_DISK_PLATTER", platter);
}

bool
power_kept(void)
{
	return power.platter >= 0;
}

static struct disk_file *
find_locked(ino_t inode)
{
	for (unsigned i = 0; i < power.file_count; i++)
		if (power.files[i]->inode == inode)
			return power.files[i];
	return NULL;
}

static int
platter_new_locked(char name[NAME_MAX + 1])
{
	int fd;

	(void)snprintf(name, NAME_MAX + 1, ".new-%d-%u", (int)getpid(), power.new_count++);
	fd = openat(power.platter, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		die("cannot make a file on the platter", name);
	return fd;
}

static void
changed_locked(struct disk_file *f, off_t from, off_t to)
{
	struct range *r = f->ranges;

	for (unsigned i = f->range_count; i-- > 0;)
		if (from <= r[i].to && to >= r[i].from) {
			r[i].from = from < r[i].from ? from : r[i].from;
			r[i].to = to > r[i].to ? to : r[i].to;
			return;
		}
	if (f->range_count < RANGES) {
		r[f->range_count++] = (struct range){ from, to };
		return;
	}
	r[0] = (struct range){ 0, INT64_MAX };
	f->range_count = 1;
}

static struct disk_file *
named_locked(const char *name)
{
	for (unsigned i = 0; i < power.file_count; i++)
		if (power.files[i]->named && strcmp(power.files[i]->name, name) == 0)
			return power.files[i];
	return NULL;
}

static struct disk_file *
add_locked(int fd, ino_t inode, const char *name)
{
	struct disk_file *f;
	char path[64];

	if (power.file_count == FILES || (f = calloc(1, sizeof(*f))) == NULL)
		die("too many files", name);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	f->inode = inode;
	f->live = REAL(open)(path, O_RDONLY | O_CLOEXEC);
	if (f->live < 0)
		die("cannot open it to read", name);
	/* Of before this program; but a name that was given to another file belongs to that one until it is synced. */
	f->platter = named_locked(name) == NULL ? openat(power.platter, name, O_RDWR | O_CLOEXEC) : -1;
	f->named = f->platter >= 0;
	if (f->named) {
		(void)snprintf(f->name, sizeof(f->name), "%s", name);
	} else {
		f->platter = platter_new_locked(f->name);
		changed_locked(f, 0, INT64_MAX); /* whatever is in it now */
	}
	power.files[power.file_count++] = f;
	return f;
}

struct disk_file *
power_file(int fd, const char *name)
{
	size_t len = strlen(name);
	struct disk_file *f;
	struct stat st;

	/* SQLite's shared memory is made anew after a crash. */
	if (power.platter < 0 || (len >= 4 && strcmp(name + len - 4, "-shm") == 0))
		return NULL;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return NULL;
	pthread_mutex_lock(&power.lock);
	f = find_locked(st.st_ino);
	if (f == NULL)
		f = add_locked(fd, st.st_ino, name);
	pthread_mutex_unlock(&power.lock);
	return f;
}

void
power_written(struct disk_file *f, off_t from, off_t to)
{
	pthread_mutex_lock(&power.lock);
	if (from < to)
		changed_locked(f, from, to);
	else if (to < from)
		changed_locked(f, to, from); /* what comes there later begins with zeros */
	pthread_mutex_unlock(&power.lock);
}

static void
copy_locked(struct disk_file *f, struct range r, off_t size)
{
	static char buffer[65536];

	for (off_t at = r.from; at < r.to && at < size;) {
		off_t left = (r.to < size ? r.to : size) - at;
		size_t want = left < (off_t)sizeof(buffer) ? (size_t)left : sizeof(buffer);
		ssize_t got = REAL(pread)(f->live, buffer, want, at);

		if (got < 0 ||
		    (got > 0 && REAL(pwrite)(f->platter, buffer, (size_t)got, at) != got))
			die("cannot copy to the platter", f->name);
		if (got == 0)
			return;
		at += got;
	}
}

static void
rename_locked(struct disk_file *f, const char *to)
{
	struct disk_file *before = named_locked(to);

	if (before != NULL)
		before->named = false; /* it is overwritten */
	if (renameat(power.platter, f->name, power.platter, to) != 0)
		die("cannot rename on the platter", f->name);
	(void)snprintf(f->name, sizeof(f->name), "%s", to);
}

/* The name that a file of the folder has now. */
static bool
live_name(ino_t inode, char name[NAME_MAX + 1])
{
	DIR *d = opendir(power.folder);
	struct dirent *e;
	bool found = false;

	if (d == NULL)
		die("cannot read the folder", power.folder);
	while (!found && (e = readdir(d)) != NULL) {
		found = e->d_ino == inode;
		if (found)
			(void)snprintf(name, NAME_MAX + 1, "%s", e->d_name);
	}
	(void)closedir(d);
	return found;
}

void
power_sync(struct disk_file *f, bool good)
{
	char name[NAME_MAX + 1];
	struct stat st;

	pthread_mutex_lock(&power.lock);
	if (good) {
		if (fstat(f->live, &st) != 0)
			die("fstat", f->name);
		for (unsigned i = 0; i < f->range_count; i++)
			copy_locked(f, f->ranges[i], st.st_size);
		if (REAL(ftruncate)(f->platter, st.st_size) != 0)
			die("cannot set the length on the platter", f->name);
		if (!f->named && live_name(f->inode, name)) {
			rename_locked(f, name);
			f->named = true;
		}
	}
	f->range_count = 0;
	pthread_mutex_unlock(&power.lock);
}

/* Names of the platter that the folder has not. */
static void
remove_names_locked(void)
{
	int fd = openat(power.platter, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	char path[PATH_MAX + NAME_MAX + 2];
	struct dirent *e;
	struct stat st;

	if (d == NULL)
		die("cannot read the platter", "");
	while ((e = readdir(d)) != NULL) {
		(void)snprintf(path, sizeof(path), "%s/%s", power.folder, e->d_name);
		if (e->d_name[0] != '.' && lstat(path, &st) != 0 && errno == ENOENT)
			(void)unlinkat(power.platter, e->d_name, 0);
	}
	(void)closedir(d);
}

void
power_sync_names(void)
{
	char name[NAME_MAX + 1], aside[NAME_MAX + 1];

	pthread_mutex_lock(&power.lock);
	for (unsigned i = 0; i < power.file_count; i++) { /* those that move make room first */
		struct disk_file *f = power.files[i];

		if (f->named && (!live_name(f->inode, name) || strcmp(name, f->name) != 0)) {
			(void)snprintf(
			    aside, sizeof(aside), ".new-%d-%u", (int)getpid(), power.new_count++);
			rename_locked(f, aside);
			f->named = false;
		}
	}
	for (unsigned i = 0; i < power.file_count; i++) {
		struct disk_file *f = power.files[i];

		if (!f->named && live_name(f->inode, name)) {
			rename_locked(f, name);
			f->named = true;
		}
	}
	remove_names_locked();
	pthread_mutex_unlock(&power.lock);
}
