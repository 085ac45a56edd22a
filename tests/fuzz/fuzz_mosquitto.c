/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as Mosquitto's file, taken into an empty store. What is in that afterwards is whole: each row is what it says, and
 * refers to sessions and messages that are there.
 */
#include "../../ctl/store_moved.h"
#include "store/schema.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

static void
on_fault(const char *text, void *arg)
{
	(void)arg;
	fprintf(stderr, "%s\n", text);
	abort();
}

static bool
on_message(uint64_t address, const struct row_message *m, const struct row_receiver *waiting,
    size_t count, void *arg)
{
	uint64_t *messages = arg;

	must(address > 0 && m->topic.len > 0 && count > 0 && waiting[0].session > 0);
	++*messages;
	return true;
}

static void
examine(sqlite3 *db, const struct write_counts *counts)
{
	char error[STORE_ERROR];
	uint64_t n, messages = 0;
	struct log_view v;

	must(store_file_check(db, true, on_fault, NULL) == 0);
	must(sql_number(db, "SELECT count(*) FROM session", &n, error));
	must(n == counts->sessions);
	must(sql_number(db,
		 "SELECT (SELECT count(*) FROM subscription WHERE session NOT IN (SELECT id FROM"
		 " session)) + (SELECT count(*) FROM exchange WHERE session NOT IN (SELECT id FROM"
		 " session))",
		 &n, error) &&
	    n == 0);
	must(log_open(&v, db, on_fault, NULL, error));
	must(log_each(&v, on_message, NULL, &messages, error));
	must(messages == counts->messages);
	log_close(&v);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FILE *in =
	    size > 0 ? fmemopen((void *)(uintptr_t)data, size, "r") : fopen("/dev/null", "r");
	struct store_write w = { 0 };
	char error[STORE_ERROR] = "";
	json_t *notes = json_object();
	sqlite3 *db;
	bool good;

	must(in != NULL && notes != NULL);
	must(sqlite3_open(":memory:", &db) == SQLITE_OK);
	must(sql_run(db, "PRAGMA temp_store = memory;" STORE_TABLES "BEGIN", error));
	must(write_begin(&w, db));
	good = store_moved(in, &w, notes, error) && write_end(&w);
	must(good || error[0] != '\0' || w.error[0] != '\0');
	if (good)
		examine(db, &w.counts);
	write_free(&w);
	must(sqlite3_close(db) == SQLITE_OK);
	json_decref(notes);
	(void)fclose(in);
	return 0;
}
