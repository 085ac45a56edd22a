/* SPDX-License-Identifier: Apache-2.0 */
#include "store/file.h"
#include "store/database.h"
#include "store/salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- directory and lock ------------------------------------------------------------------------- */

static int
make_directory(const char *directory, char error[STORE_ERROR])
{
	if (mkdir(directory, 0700) == 0 || errno == EEXIST)
		return GRAPNEL_OK;
	return database_error(error, GRAPNEL_ESYS,
	    "the directory %s cannot be made: %s; make it, owned by the broker's user", directory,
	    strerror(errno));
}

static int
somebody_has_it(int fd, const char *directory, char error[STORE_ERROR])
{
	char pid[24] = "";
	ssize_t len = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[len > 0 ? strspn(pid, "0123456789") : 0] = '\0';
	return database_error(error, GRAPNEL_ESTATE,
	    "%s is in use by process %s; end that broker, or give this one another directory",
	    directory, pid[0] != '\0' ? pid : "(unknown)");
}

static int
lock_file(int fd, const char *directory, const char *path, char error[STORE_ERROR])
{
	char pid[24];
	int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());

	if (fd < 0 && (errno == EROFS || errno == EACCES || errno == EPERM))
		return database_error(error, GRAPNEL_ESYS,
		    "the directory %s cannot be written: %s; it must be writable for the "
		    "broker's user",
		    directory, strerror(errno));
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return somebody_has_it(fd, directory, error);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 || fchmod(fd, 0600) != 0 ||
	    ftruncate(fd, 0) != 0)
		return database_error(
		    error, GRAPNEL_ESYS, "%s cannot be locked: %s", path, strerror(errno));
	/* The number is for those who are refused: a full disk must not stop us. */
	(void)!pwrite(fd, pid, (size_t)len, 0);
	return GRAPNEL_OK;
}

static int
take_lock(struct store_file *f, char error[STORE_ERROR])
{
	char *path = database_path(f->directory, STORE_LOCK);
	int err;

	if (path == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "no memory");
	f->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	err = lock_file(f->lock_fd, f->directory, path, error);
	free(path);
	return err;
}

/* ---- the database --------------------------------------------------------------------------------- */

static int
make_fresh(struct store_file *f, char error[STORE_ERROR])
{
	sqlite3 *db;
	int err = database_create(&db, f->directory, f->program, error);

	if (err != GRAPNEL_OK) {
		(void)sqlite3_close(db);
		return err;
	}
	f->fresh = true;
	return database_finish(db, f->directory, error);
}

/* GRAPNEL_ENOENT: there is none; GRAPNEL_ESYS: it is there, and we may not write it. */
static int
find(const char *path, char error[STORE_ERROR])
{
	int fd;

	/* Before SQLite has it: closing a descriptor gives up the process's locks on that file. */
	if ((fd = open(path, O_RDWR | O_CLOEXEC)) >= 0)
		(void)close(fd);
	if (fd >= 0)
		return GRAPNEL_OK;
	if (errno == ENOENT)
		return GRAPNEL_ENOENT;
	return database_error(error, GRAPNEL_ESYS,
	    "%s cannot be opened for writing: %s; it must be the broker's user's", path,
	    strerror(errno));
}

static int
open_examined(struct store_file *f, const char *path, char error[STORE_ERROR])
{
	int err = database_connect(&f->db, path, SQLITE_OPEN_READWRITE, error);

	if (err == GRAPNEL_OK)
		err = database_examine(f->db, path, error);
	if (err == GRAPNEL_OK)
		err = database_take(f->db, path, f->program, &f->unclean, error);
	if (err != GRAPNEL_OK) {
		(void)sqlite3_close(f->db);
		f->db = NULL;
	}
	return err;
}

/* What was made a moment ago and cannot be read is the disk's fault. */
static int
salvage(struct store_file *f, const char *path, char error[STORE_ERROR])
{
	int err = salvage_run(f->directory, f->program, &f->damage, error);

	if (err == GRAPNEL_OK)
		err = open_examined(f, path, error);
	return err == GRAPNEL_EFAULT ? GRAPNEL_ESYS : err;
}

static int
open_database(struct store_file *f, const char *path, char error[STORE_ERROR])
{
	int err = salvage_resume(f->directory, f->program, &f->damage, error);

	if (err != GRAPNEL_OK)
		return err == GRAPNEL_EFAULT ? GRAPNEL_ESYS : err;
	err = find(path, error);
	if (err == GRAPNEL_ENOENT && salvage_orphan(f->directory))
		return salvage(f, path, error);
	if (err == GRAPNEL_ENOENT)
		err = make_fresh(f, error);
	if (err == GRAPNEL_OK)
		err = open_examined(f, path, error);
	return err == GRAPNEL_EFAULT ? salvage(f, path, error) : err;
}

int
store_file_salvage(struct store_file *f, char error[STORE_ERROR])
{
	char *path = database_path(f->directory, STORE_DATABASE);
	bool unclean = f->unclean;
	int err;

	if (path == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "no memory");
	if (sqlite3_close(f->db) != SQLITE_OK) {
		free(path);
		return database_error(
		    error, GRAPNEL_ESTATE, "%s is still being read", f->directory);
	}
	f->db = NULL;
	err = salvage(f, path, error);
	f->unclean = unclean;
	free(path);
	return err;
}

/* ---- beginning and end ------------------------------------------------------------------------------ */

static void
let_go(struct store_file *f)
{
	(void)sqlite3_close(f->db);
	if (f->lock_fd >= 0)
		(void)close(f->lock_fd);
	free(f->directory);
	free(f->program);
	*f = (struct store_file){ .lock_fd = -1 };
}

int
store_file_open(
    struct store_file *f, const char *directory, const char *program, char error[STORE_ERROR])
{
	char *path = database_path(directory, STORE_DATABASE);
	int err = GRAPNEL_ENOMEM;

	*f = (struct store_file){
		.lock_fd = -1, .directory = strdup(directory), .program = strdup(program)
	};
	if (path == NULL || f->directory == NULL || f->program == NULL)
		(void)database_error(error, err, "no memory");
	else
		err = make_directory(directory, error);
	if (err == GRAPNEL_OK)
		err = take_lock(f, error);
	if (err == GRAPNEL_OK)
		err = open_database(f, path, error);
	if (err != GRAPNEL_OK)
		let_go(f);
	free(path);
	return err;
}

void
store_file_close(struct store_file *f)
{
	if (f->db != NULL) {
		/* If one of them fails the next one who opens it finds it not closed: nothing else is to be done. */
		if (sqlite3_exec(f->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
		    database_set_meta(f->db, "alive", database_now_ms()) == SQLITE_OK &&
		    database_set_meta(f->db, "clean", 1) == SQLITE_OK)
			(void)sqlite3_exec(f->db, "COMMIT", NULL, NULL, NULL);
		(void)sqlite3_db_config(f->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
		(void)sqlite3_wal_checkpoint_v2(
		    f->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	}
	let_go(f);
}
