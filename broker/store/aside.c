/* SPDX-License-Identifier: Apache-2.0 */
#include "store/salvage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_LEN   64u
#define NAME_START STORE_DATABASE ".damaged-"
#define NAME_MOST  1000u /* of one second */

static bool
exists(const char *directory, const char *name, const char *suffix)
{
	char path[4096];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s%s", directory, name, suffix);
	return lstat(path, &st) == 0;
}

bool
salvage_orphan(const char *directory)
{
	char path[4096];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/" STORE_DATABASE "-wal", directory);
	return stat(path, &st) == 0 && st.st_size > 0;
}

/* A name that nobody has. */
static void
choose(const char *directory, char name[NAME_LEN])
{
	time_t now = (time_t)(database_now_ms() / 1000);
	struct tm tm = { 0 };
	size_t len;

	(void)gmtime_r(&now, &tm);
	len = strftime(name, NAME_LEN, NAME_START "%Y%m%dT%H%M%S", &tm);
	for (unsigned i = 2;
	     i < NAME_MOST && (exists(directory, name, "") || exists(directory, name, "-wal")); i++)
		(void)snprintf(name + len, NAME_LEN - len, "-%u", i);
}

/* The database itself comes last: while it is there under its old name the others are not all moved yet. */
static int
move(const char *directory, const char *name, char error[STORE_ERROR])
{
	static const char *const suffixes[] = { "-wal", "-shm", "" };
	char from[4096], to[4096];

	for (unsigned i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		(void)snprintf(
		    from, sizeof(from), "%s/" STORE_DATABASE "%s", directory, suffixes[i]);
		(void)snprintf(to, sizeof(to), "%s/%s%s", directory, name, suffixes[i]);
		if (rename(from, to) != 0 && errno != ENOENT)
			return database_error(error, GRAPNEL_ESYS,
			    "%s is damaged, and cannot be renamed to %s: %s", from, name,
			    strerror(errno));
	}
	return database_sync(directory, error);
}

static int
mark(const char *directory, const char *name, char error[STORE_ERROR])
{
	char *path = database_path(directory, SALVAGE_MARK);
	int err = GRAPNEL_OK;

	if (path == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "%s: no memory", directory);
	if (symlink(name, path) != 0)
		err = database_error(
		    error, GRAPNEL_ESYS, "%s cannot be made: %s", path, strerror(errno));
	free(path);
	return err == GRAPNEL_OK ? database_sync(directory, error) : err;
}

static void
unmark(const char *directory)
{
	char *path = database_path(directory, SALVAGE_MARK);

	if (path != NULL)
		(void)unlink(path);
	free(path);
}

static int
copy(const char *directory, const char *name, const char *program, struct store_damage *damage,
    char error[STORE_ERROR])
{
	int err;

	(void)snprintf(damage->aside, sizeof(damage->aside), "%s/%s", directory, name);
	err = salvage_copy(damage->aside, directory, program, damage, error);
	if (err == GRAPNEL_OK)
		unmark(directory);
	return err;
}

int
salvage_run(const char *directory, const char *program, struct store_damage *damage,
    char error[STORE_ERROR])
{
	char name[NAME_LEN];
	int err;

	choose(directory, name);
	err = mark(directory, name, error);
	if (err == GRAPNEL_OK)
		err = move(directory, name, error);
	return err == GRAPNEL_OK ? copy(directory, name, program, damage, error) : err;
}

int
salvage_resume(const char *directory, const char *program, struct store_damage *damage,
    char error[STORE_ERROR])
{
	char *path = database_path(directory, SALVAGE_MARK);
	char name[NAME_LEN];
	ssize_t len;
	int err = GRAPNEL_OK;

	if (path == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "%s: no memory", directory);
	len = readlink(path, name, sizeof(name) - 1);
	free(path);
	if (len < 0)
		return GRAPNEL_OK;
	name[len] = '\0';
	if (strncmp(name, NAME_START, strlen(NAME_START)) != 0 || strchr(name, '/') != NULL ||
	    (exists(directory, STORE_DATABASE, "") && exists(directory, name, ""))) {
		/* It was not ours, or the new database was in place already. */
		unmark(directory);
		return GRAPNEL_OK;
	}
	if (exists(directory, STORE_DATABASE, ""))
		err = move(directory, name, error);
	return err == GRAPNEL_OK ? copy(directory, name, program, damage, error) : err;
}
