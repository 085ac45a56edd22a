/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that are watched: see disk.h. All variants that glibc has for one, since SQLite uses those with 64 in their names.
 *
 * A descriptor's entry in the table is set at open and cleared at close; sockets and files elsewhere cost one look at it.
 */
#include "disk.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 65536

struct entry {
	_Atomic bool watched, folder;
	struct disk_file *_Atomic file; /* NULL: power.c keeps nothing of it */
};
static struct entry table[DESCRIPTORS];
static char folder[PATH_MAX];
static size_t folder_len;

REAL_DECLARE(open)
REAL_DECLARE(openat)
REAL_DECLARE(close)
REAL_DECLARE(read)
REAL_DECLARE(pread)
REAL_DECLARE(write)
REAL_DECLARE(pwrite)
REAL_DECLARE(writev)
REAL_DECLARE(pwritev)
REAL_DECLARE(ftruncate)
REAL_DECLARE(fallocate)
REAL_DECLARE(posix_fallocate)
REAL_DECLARE(fsync)
REAL_DECLARE(fdatasync)

void *
disk_real(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (p == NULL)
		abort();
	return p;
}

static __attribute__((constructor)) void
begin(void)
{
	const char *where = getenv("GRAPNEL_DISK"), *platter = getenv("GRAPNEL_DISK_PLATTER");
	const char *control = getenv("GRAPNEL_DISK_CONTROL");
	int fd;

	if (control != NULL && (fd = REAL(open)(control, O_RDWR | O_CLOEXEC)) >= 0) {
		void *p =
		    mmap(NULL, sizeof(*disk_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (p != MAP_FAILED)
			disk_control = p;
		(void)REAL(close)(fd);
	}
	if (where == NULL)
		return;
	if (platter != NULL)
		power_begin(where, platter);
	(void)snprintf(folder, sizeof(folder), "%s", where);
	folder_len = strlen(folder);
}

static struct entry *
watched(int fd)
{
	if (fd < 0 || fd >= DESCRIPTORS ||
	    !atomic_load_explicit(&table[fd].watched, memory_order_acquire))
		return NULL;
	return &table[fd];
}

/* ---- open and close ------------------------------------------------------------------------------ */

static bool
refused(const char *path, int flags)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	int saved = errno;

	if (folder_len == 0 || strncmp(path, folder, folder_len) != 0 || path[folder_len] != '/')
		return false;
	if (writes && disk_fails(DISK_OPEN))
		return true;
	if ((flags & O_CREAT) && access(path, F_OK) != 0 && disk_fails(DISK_GROW))
		return true;
	errno = saved;
	return false;
}

static int
opened(int fd, int flags)
{
	char link[64], path[PATH_MAX];
	int saved = errno;
	ssize_t n;

	if (fd < 0 || fd >= DESCRIPTORS || folder_len == 0)
		return fd;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	errno = saved;
	if (n < (ssize_t)folder_len || strncmp(path, folder, folder_len) != 0)
		return fd;
	path[n] = '\0';
	if ((size_t)n > folder_len &&
	    (path[folder_len] != '/' || strchr(path + folder_len + 1, '/') != NULL))
		return fd;
	table[fd].folder = (size_t)n == folder_len;
	table[fd].file = table[fd].folder ? NULL : power_file(fd, path + folder_len + 1);
	if (table[fd].file != NULL && (flags & O_TRUNC))
		power_written(table[fd].file, INT64_MAX, 0);
	atomic_store_explicit(&table[fd].watched, true, memory_order_release);
	errno = saved;
	return fd;
}

#define OPEN_MODE(flags)                                        \
	mode_t mode = 0;                                        \
	if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
		va_list ap;                                     \
		va_start(ap, flags);                            \
		mode = va_arg(ap, mode_t);                      \
		va_end(ap);                                     \
	}

SEEN int open(const char *path, int flags, ...);
SEEN int open64(const char *path, int flags, ...);
SEEN int openat(int dir, const char *path, int flags, ...);
SEEN int openat64(int dir, const char *path, int flags, ...);
SEEN int __open_2(const char *path, int flags);
SEEN int __open64_2(const char *path, int flags);
SEEN int close(int fd);

int
open(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return refused(path, flags) ? -1 : opened(REAL(open)(path, flags, mode), flags);
}

int
open64(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return refused(path, flags) ? -1
				    : opened(REAL(open)(path, flags | O_LARGEFILE, mode), flags);
}

int
openat(int dir, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return refused(path, flags) ? -1 : opened(REAL(openat)(dir, path, flags, mode), flags);
}

int
openat64(int dir, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return refused(path, flags)
	    ? -1
	    : opened(REAL(openat)(dir, path, flags | O_LARGEFILE, mode), flags);
}

int
__open_2(const char *path, int flags)
{
	return open(path, flags);
}

int
__open64_2(const char *path, int flags)
{
	return open64(path, flags);
}

int
close(int fd)
{
	if (fd >= 0 && fd < DESCRIPTORS)
		atomic_store(&table[fd].watched, false);
	return REAL(close)(fd);
}

/* ---- reading and writing ------------------------------------------------------------------------- */

SEEN ssize_t read(int fd, void *data, size_t len);
SEEN ssize_t pread(int fd, void *data, size_t len, off_t at);
SEEN ssize_t pread64(int fd, void *data, size_t len, off64_t at);
SEEN ssize_t write(int fd, const void *data, size_t len);
SEEN ssize_t pwrite(int fd, const void *data, size_t len, off_t at);
SEEN ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at);
SEEN ssize_t writev(int fd, const struct iovec *v, int n);
SEEN ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at);
SEEN ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at);

ssize_t
read(int fd, void *data, size_t len)
{
	return watched(fd) != NULL && disk_fails(DISK_READ) ? -1 : REAL(read)(fd, data, len);
}

ssize_t
pread(int fd, void *data, size_t len, off_t at)
{
	return watched(fd) != NULL && disk_fails(DISK_READ) ? -1 : REAL(pread)(fd, data, len, at);
}

ssize_t
pread64(int fd, void *data, size_t len, off64_t at)
{
	return pread(fd, data, len, at);
}

/* Is this write to fail? *len may become shorter. at < 0: where the descriptor is. */
static bool
write_fails(int fd, off_t at, size_t *len)
{
	struct stat st;

	while (disk_control != NULL && (disk_control->operations & DISK_HANG) != 0)
		(void)usleep(1000);
	if (disk_fails(DISK_WRITE))
		return true;
	if (disk_control != NULL && (disk_control->operations & DISK_GROW) && fstat(fd, &st) == 0 &&
	    (at < 0 ? lseek(fd, 0, SEEK_CUR) : at) + (off_t)*len > st.st_size &&
	    disk_fails(DISK_GROW))
		return true;
	if (*len > 1 && disk_is_short())
		*len /= 2;
	return false;
}

static ssize_t
wrote(struct entry *e, int fd, ssize_t n, off_t at)
{
	struct disk_file *f = e->file;

	if (n <= 0 || f == NULL)
		return n;
	if (at < 0) /* written where the descriptor was */
		at = lseek(fd, 0, SEEK_CUR) - n;
	power_written(f, at, at + n);
	return n;
}

ssize_t
write(int fd, const void *data, size_t len)
{
	struct entry *e = watched(fd);

	if (e == NULL)
		return REAL(write)(fd, data, len);
	return write_fails(fd, -1, &len) ? -1 : wrote(e, fd, REAL(write)(fd, data, len), -1);
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t at)
{
	struct entry *e = watched(fd);

	if (e == NULL)
		return REAL(pwrite)(fd, data, len, at);
	return write_fails(fd, at, &len) ? -1 : wrote(e, fd, REAL(pwrite)(fd, data, len, at), at);
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off64_t at)
{
	return pwrite(fd, data, len, at);
}

static size_t
total(const struct iovec *v, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += v[i].iov_len;
	return len;
}

ssize_t
writev(int fd, const struct iovec *v, int n)
{
	struct entry *e = watched(fd);
	size_t len;

	if (e == NULL)
		return REAL(writev)(fd, v, n);
	len = total(v, n);
	return write_fails(fd, -1, &len) ? -1 : wrote(e, fd, REAL(writev)(fd, v, n), -1);
}

ssize_t
pwritev(int fd, const struct iovec *v, int n, off_t at)
{
	struct entry *e = watched(fd);
	size_t len;

	if (e == NULL)
		return REAL(pwritev)(fd, v, n, at);
	len = total(v, n);
	return write_fails(fd, at, &len) ? -1 : wrote(e, fd, REAL(pwritev)(fd, v, n, at), at);
}

ssize_t
pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
	return pwritev(fd, v, n, at);
}

/* ---- length -------------------------------------------------------------------------------------- */

SEEN int ftruncate(int fd, off_t size);
SEEN int ftruncate64(int fd, off64_t size);
SEEN int fallocate(int fd, int mode, off_t at, off_t len);
SEEN int fallocate64(int fd, int mode, off64_t at, off64_t len);
SEEN int posix_fallocate(int fd, off_t at, off_t len);
SEEN int posix_fallocate64(int fd, off64_t at, off64_t len);

int
ftruncate(int fd, off_t size)
{
	struct entry *e = watched(fd);
	struct stat st;
	int rc;

	if (e == NULL)
		return REAL(ftruncate)(fd, size);
	if (disk_fails(DISK_WRITE) || fstat(fd, &st) != 0)
		return -1;
	rc = REAL(ftruncate)(fd, size);
	if (rc == 0 && e->file != NULL)
		power_written(e->file, st.st_size, size);
	return rc;
}

int
ftruncate64(int fd, off64_t size)
{
	return ftruncate(fd, size);
}

int
fallocate(int fd, int mode, off_t at, off_t len)
{
	struct entry *e = watched(fd);
	int rc;

	if (e != NULL && (disk_fails(DISK_WRITE) || disk_fails(DISK_GROW)))
		return -1;
	rc = REAL(fallocate)(fd, mode, at, len);
	if (rc == 0 && e != NULL && e->file != NULL)
		power_written(e->file, at, at + len);
	return rc;
}

int
fallocate64(int fd, int mode, off64_t at, off64_t len)
{
	return fallocate(fd, mode, at, len);
}

int
posix_fallocate(int fd, off_t at, off_t len)
{
	struct entry *e = watched(fd);
	int rc, saved = errno;

	if (e != NULL && (disk_fails(DISK_WRITE) || disk_fails(DISK_GROW))) {
		rc = errno;
		errno = saved;
		return rc;
	}
	rc = REAL(posix_fallocate)(fd, at, len);
	if (rc == 0 && e != NULL && e->file != NULL)
		power_written(e->file, at, at + len);
	return rc;
}

int
posix_fallocate64(int fd, off64_t at, off64_t len)
{
	return posix_fallocate(fd, at, len);
}

/* ---- sync ---------------------------------------------------------------------------------------- */

SEEN int fsync(int fd);
SEEN int fdatasync(int fd);

/* Until the time is over, or the test makes it shorter. */
static void
take_time(void)
{
	for (int64_t us = 0; disk_control != NULL && us < disk_control->sync_us; us += 1000)
		(void)usleep(1000);
}

/* Where a platter is kept nothing depends on the real one. */
static int
sync_with(int (*real)(int), int fd, struct entry *e)
{
	int rc = 0, saved;

	if (disk_fails(DISK_SYNC))
		rc = -1;
	else if (!power_kept())
		rc = real(fd);
	else
		take_time();
	saved = errno;
	if (e->folder && rc == 0 && power_kept())
		power_sync_names();
	else if (e->file != NULL)
		power_sync(e->file, rc == 0);
	errno = saved;
	return rc;
}

int
fsync(int fd)
{
	struct entry *e = watched(fd);

	return e == NULL ? REAL(fsync)(fd) : sync_with(REAL(fsync), fd, e);
}

int
fdatasync(int fd)
{
	struct entry *e = watched(fd);

	return e == NULL ? REAL(fdatasync)(fd) : sync_with(REAL(fdatasync), fd, e);
}
