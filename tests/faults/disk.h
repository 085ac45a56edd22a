/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk - a disk that forgets, fails, and a clock that jumps: a library to preload into the program under test
 *
 * disk_calls.c	the calls of the C library that are watched, and whose descriptors are meant
 * power.c	what would be left after a loss of power: the platter
 * broken_disk.c	calls that fail on demand
 * clock.c	wall clock time, shifted
 *
 *	GRAPNEL_DISK		the folder that is watched; only files directly in it. Not set: none of this happens
 *	GRAPNEL_DISK_PLATTER	an existing folder that holds what a loss of power leaves of it; not set: not kept
 *	GRAPNEL_DISK_CONTROL	a file of 4096 bytes that the test has mapped, too: struct disk_control
 *
 * Not seen: writing through mmap, stdio and dup()ed descriptors. SQLite, and whoever writes with descriptors, is.
 *
 * Threads: any.
 */
#ifndef TESTS_FAULTS_DISK_H
#define TESTS_FAULTS_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SEEN __attribute__((visibility("default"))) /* instead of the C library's */

enum disk_operation {
	DISK_WRITE = 1,
	DISK_SYNC = 2,
	DISK_READ = 4,
	DISK_OPEN = 8,	 /* to write, or a new file */
	DISK_SHORT = 16, /* half of it is written, and that is said */
	DISK_GROW = 32,	 /* writes behind the end of a file, and files that are new: what a full disk refuses */
	DISK_HANG = 64,	 /* writes do not return until the test says otherwise */
};
struct disk_control { /* written by the test, but for `failed` */
	_Atomic int64_t error;	    /* errno of what fails; 0: nothing does */
	_Atomic int64_t operations; /* which ones */
	_Atomic int64_t after;	    /* so many of them still work */
	_Atomic int64_t failed;	    /* how many did not */
	_Atomic int64_t clock_ms;   /* added to the wall clock */
	_Atomic int64_t sync_us;    /* how long fsync takes, where a platter is kept (the real one is left out there) */
};
extern struct disk_control *disk_control; /* NULL: there is none */

/* A file of the folder, or the folder itself. */
struct disk_file;

/* ---- disk_calls.c: the real ones --------------------------------------------------------------- */
void *disk_real(const char *name); /* what the C library has under this name */
#define REAL(name) ((__typeof__(&name))disk_real_##name())
#define REAL_DECLARE(name)                                       \
	static inline void *disk_real_##name(void)               \
	{                                                        \
		static void *_Atomic at;                         \
		void *p = atomic_load(&at);                      \
                                                                 \
		if (p == NULL) {                                 \
			p = disk_real(#name);                    \
			atomic_store(&at, p);                    \
		}                                                \
		return p;                                        \
	}

/* ---- broken_disk.c ------------------------------------------------------------------------------ */
bool disk_fails(enum disk_operation what); /* with errno */
bool disk_is_short(void);		   /* of this write only half shall happen */

/* ---- power.c ------------------------------------------------------------------------------------ */
void power_begin(const char *folder, const char *platter);
/* The file behind a descriptor just opened; NULL: nothing is kept of it. The same one for the same inode. */
struct disk_file *power_file(int fd, const char *name);
void power_written(struct disk_file *f, off_t from, off_t to); /* to < from: the file ends at `to` now */
void power_sync(struct disk_file *f, bool good);		       /* fsync; not good: what it should have written is gone */
bool power_kept(void);
void power_sync_names(void); /* fsync of the folder */

#endif
