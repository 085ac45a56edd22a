/* SPDX-License-Identifier: Apache-2.0 */
/* backup - a copy of a store while its broker runs */
#include "store/database.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STEP_PAGES 128      /* 1 MiB */
#define PAUSE_NS   2000000L /* between steps: the disk is the broker's */

static int
make_partial(const char *path, const char *to, char error[STORE_ERROR])
{
	struct stat st;
	int fd = -1;

	if (lstat(to, &st) == 0)
		return database_error(error, GRAPNEL_ESTATE,
		    "%s is there already; remove it, or choose another name", to);
	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fchmod(fd, 0600) != 0)
		(void)database_error(error, GRAPNEL_ESYS,
		    "%s cannot be made: %s; choose a directory that can be written", path,
		    strerror(errno));
	else
		error[0] = '\0';
	if (fd >= 0)
		(void)close(fd);
	return error[0] == '\0' ? GRAPNEL_OK : GRAPNEL_ESYS;
}

static int
copy_pages(sqlite3 *from, sqlite3 *to)
{
	const struct timespec pause = { 0, PAUSE_NS };
	sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
	int result;

	if (backup == NULL)
		return sqlite3_extended_errcode(to);
	while ((result = sqlite3_backup_step(backup, STEP_PAGES)) == SQLITE_OK)
		(void)nanosleep(&pause, NULL);
	(void)sqlite3_backup_finish(backup);
	return result == SQLITE_DONE ? SQLITE_OK : result;
}

static int
copy(sqlite3 *from, const char *path, char error[STORE_ERROR])
{
	sqlite3 *to = NULL;
	int err = database_connect(&to, path, SQLITE_OPEN_READWRITE, error);
	int result = SQLITE_OK;

	/* A transaction that reads: without it each commit of the broker would let the copy begin anew. */
	if (err == GRAPNEL_OK)
		result = sqlite3_exec(
		    to, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL);
	if (err == GRAPNEL_OK && result == SQLITE_OK)
		result = sqlite3_exec(from, "BEGIN; SELECT count(*) FROM meta", NULL, NULL, NULL);
	if (err == GRAPNEL_OK && result == SQLITE_OK)
		result = copy_pages(from, to);
	if (err == GRAPNEL_OK && result != SQLITE_OK)
		err = database_result(NULL, result, path, "cannot be written", error);
	if (!sqlite3_get_autocommit(from))
		(void)sqlite3_exec(from, "ROLLBACK", NULL, NULL, NULL);
	(void)sqlite3_close(to);
	return err;
}

static int
publish(const char *partial, const char *to, char error[STORE_ERROR])
{
	int fd = open(partial, O_RDWR | O_CLOEXEC);
	bool done = fd >= 0 && fsync(fd) == 0 &&
	    (renameat2(AT_FDCWD, partial, AT_FDCWD, to, RENAME_NOREPLACE) == 0 ||
		(errno == EINVAL && rename(partial, to) == 0));
	int number = errno;

	if (fd >= 0)
		(void)close(fd);
	if (done)
		return GRAPNEL_OK;
	return database_error(error, number == EEXIST ? GRAPNEL_ESTATE : GRAPNEL_ESYS,
	    "%s cannot be completed: %s", to, strerror(number));
}

int
store_file_backup(sqlite3 *db, const char *to, char error[STORE_ERROR])
{
	char *partial;
	int err;

	if (asprintf(&partial, "%s.partial", to) < 0)
		return database_error(error, GRAPNEL_ENOMEM, "%s: no memory", to);
	err = make_partial(partial, to, error);
	if (err == GRAPNEL_OK) {
		err = copy(db, partial, error);
		if (err == GRAPNEL_OK)
			err = publish(partial, to, error);
		if (err != GRAPNEL_OK)
			(void)unlink(partial);
	}
	free(partial);
	return err;
}
