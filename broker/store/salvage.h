/* SPDX-License-Identifier: Apache-2.0 */
/*
 * salvage - a damaged database is set aside, and what can be read of it is put into a new one
 *
 * Its pages are read one after the other, and each row says by its checksum that it is right and of which table it is; so neither
 * the first page, nor the tables' list, nor the inside of a tree has to be intact for the rows that are in other pages.
 *
 * aside.c	names and order on the disk, so that it can be interrupted at any time
 * salvage.c	from page to page
 *
 * Threads: the one that opens the store, which holds its lock. Results as in database.h.
 */
#ifndef BROKER_STORE_SALVAGE_H
#define BROKER_STORE_SALVAGE_H

#include "store/database.h"

#define SALVAGE_MARK STORE_DATABASE ".salvage"

/* Sets DIRECTORY/grapnel.db aside and makes a new one. *damage grows by what is lost. */
int salvage_run(const char *directory, const char *program, struct store_damage *damage, char error[STORE_ERROR]);
/* One that did not come to its end before is done now. */
int salvage_resume(const char *directory, const char *program, struct store_damage *damage, char error[STORE_ERROR]);
/* A WAL with content whose database is gone. */
bool salvage_orphan(const char *directory);

/* What can be read of the file at `from` into a new database of the directory. */
int salvage_copy(const char *from, const char *directory, const char *program, struct store_damage *damage, char error[STORE_ERROR]);

#endif
