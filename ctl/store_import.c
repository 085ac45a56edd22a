/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All or nothing: one transaction, which ends well only with the "end" of the file.
 */
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PACKETS_MAX 65535u

struct import {
	const struct store_args *args;
	struct store_write *write;
	struct row_receiver *receivers; /* of one message */
	uint32_t *ids;
	uint64_t line;
	bool begun, ended;
	char error[STORE_ERROR];
};

/* ---- lines ------------------------------------------------------------------------------------- */

static void
take_header(struct import *im, struct json_in *in)
{
	if (json_need_number(in, "format", INT64_MAX) > STORE_EXPORT_FORMAT ||
	    json_need_number(in, "schema", INT64_MAX) > STORE_SCHEMA)
		json_line_error(
		    in->line, "a newer program wrote this: use grapnelctl of that version");
	(void)json_take_text(in, "program");
	(void)json_take_number(in, "time_ms", 0, INT64_MAX);
	(void)json_take_number(in, "alive_ms", 0, INT64_MAX);
	im->begun = json_in_end(in);
}

static bool
take_session(struct import *im, struct json_in *in)
{
	uint64_t id = json_need_number(in, "id", INT64_MAX);
	struct row_session s;

	rows_take_session(in, &s);
	return json_in_end(in) && write_session(im->write, id, &s);
}

static bool
take_subscription(struct import *im, struct json_in *in)
{
	uint64_t id = json_need_number(in, "session", INT64_MAX);
	struct grapnel_str filter = json_need_text(in, "filter");
	struct row_subscription s = { .qos = (uint8_t)json_need_number(in, "qos", 2) };

	s.id = (uint32_t)json_take_number(in, "subscription_id", 0, 268435455);
	s.retain_handling = (uint8_t)json_take_number(in, "retain_handling", 0, 2);
	s.no_local = json_take_flag(in, "no_local");
	s.retain_as_published = json_take_flag(in, "retain_as_published");
	s.wild_first = json_take_flag(in, "wild_first");
	return json_in_end(in) && write_subscription(im->write, id, filter, &s);
}

/* An array of numbers, each from 1 on. NULL: none, or an error. */
static void *
take_numbers(struct json_in *in, const char *name, size_t most, uint64_t max, size_t *count)
{
	const json_t *array = json_take_array(in, name), *value;
	uint32_t *list;
	size_t i;

	if ((*count = json_array_size(array)) == 0)
		return NULL;
	if (*count > most) {
		json_line_error(in->line, "\"%s\" has more than %zu members", name, most);
		return NULL;
	}
	if ((list = json_line_room(in->line, *count * sizeof(*list))) == NULL)
		return NULL;
	json_array_foreach(array, i, value)
	{
		json_int_t n = json_integer_value(value); /* 0 of what is no number */

		if (n < 1 || (uint64_t)n > max) {
			json_line_error(in->line, "\"%s\": numbers from 1 to %" PRIu64, name, max);
			return NULL;
		}
		list[i] = (uint32_t)n;
	}
	return list;
}

static void
take_sent(struct json_in *in, struct write_sent *out)
{
	struct grapnel_str state = json_need_text(in, "state");

	out->packet_id = (uint16_t)json_need_number(in, "packet_id", UINT16_MAX);
	if (state.data != NULL && strcmp(state.data, "sent") == 0) {
		out->state = EXCHANGE_SENT;
		out->message = json_need_number(in, "message", INT64_MAX);
	} else if (state.data != NULL && strcmp(state.data, "released") == 0) {
		out->state = EXCHANGE_RELEASED;
		out->message = 0;
	} else {
		json_line_error(in->line, "\"state\" is \"sent\" or \"released\"");
	}
	if (out->packet_id == 0)
		json_line_error(in->line, "a Packet Identifier is not 0");
	json_in_end(in);
}

static bool
take_exchange(struct import *im, struct json_in *in)
{
	uint64_t id = json_need_number(in, "session", INT64_MAX);
	uint64_t confirmed = json_take_number(in, "confirmed", 0, INT64_MAX);
	size_t received_count, sent_count, i;
	uint32_t *numbers = take_numbers(in, "received", PACKETS_MAX, UINT16_MAX, &received_count);
	const json_t *array = json_take_array(in, "sent"), *value;
	struct write_sent *sent;
	uint16_t *received;

	if ((sent_count = json_array_size(array)) > PACKETS_MAX)
		json_line_error(in->line, "\"sent\" has more than %u members", PACKETS_MAX);
	if (!json_in_end(in))
		return false;
	received = json_line_room(in->line, received_count * sizeof(*received) + 1);
	sent = json_line_room(in->line, sent_count * sizeof(*sent) + 1);
	if (received == NULL || sent == NULL)
		return false;
	for (i = 0; i < received_count; i++)
		received[i] = (uint16_t)numbers[i];
	json_array_foreach(array, i, value)
	{
		struct json_in o = json_in_member(in, value, "sent");

		take_sent(&o, &sent[i]);
	}
	return in->line->error[0] == '\0' &&
	    write_exchange(im->write, id, confirmed, received, received_count, sent, sent_count);
}

static bool
take_retained(struct import *im, struct json_in *in)
{
	uint64_t seq = json_need_number(in, "seq", INT64_MAX);
	struct row_message m;

	rows_take_message(in, &m, true);
	return json_in_end(in) && write_retained(im->write, seq, &m);
}

static void
take_receiver(struct json_in *in, struct row_receiver *r)
{
	size_t count;

	*r = (struct row_receiver){ .session = json_need_number(in, "session", INT64_MAX) };
	r->qos = (uint8_t)json_need_number(in, "qos", 2);
	r->retain = json_take_flag(in, "retain");
	r->ids = take_numbers(in, "subscription_ids", ROW_IDS_MAX, 268435455, &count);
	r->id_count = (uint32_t)count;
	json_in_end(in);
}

static bool
take_message(struct import *im, struct json_in *in)
{
	uint64_t id = json_need_number(in, "id", INT64_MAX);
	const json_t *array, *value;
	struct row_receiver *receivers;
	struct row_message m;
	size_t i, count;

	rows_take_message(in, &m, true);
	array = json_take_array(in, "receivers");
	if (!json_in_end(in))
		return false;
	if ((count = json_array_size(array)) == 0) {
		json_line_error(in->line, "a message has receivers");
		return false;
	}
	if ((receivers = json_line_room(in->line, count * sizeof(*receivers))) == NULL)
		return false;
	json_array_foreach(array, i, value)
	{
		struct json_in o = json_in_member(in, value, "receivers");

		take_receiver(&o, &receivers[i]);
	}
	return in->line->error[0] == '\0' && write_message(im->write, id, &m, receivers, count);
}

static bool
take_ban(struct import *im, struct json_in *in)
{
	struct grapnel_str address = json_need_text(in, "address");
	struct row_ban b = { .until = json_take_time(in, "until") };

	b.bans = (uint32_t)json_need_number(in, "bans", UINT32_MAX);
	if (!b.until.set)
		json_line_error(in->line, "the ban has no \"until\"");
	return json_in_end(in) && write_ban(im->write, address, &b);
}

static bool
take_value(struct import *im, struct json_in *in)
{
	struct grapnel_str plugin = json_need_text(in, "plugin"), key = json_need_text(in, "key"),
			   value = json_need_text(in, "value");

	return json_in_end(in) && write_value(im->write, plugin, key, value);
}

static void
take_end(struct import *im, struct json_in *in)
{
	if (json_need_number(in, "lines", INT64_MAX) != im->line - 1)
		json_line_error(in->line, "lines are missing above, or were added");
	im->ended = json_in_end(in);
}

static const struct {
	const char *type;
	bool (*take)(struct import *im, struct json_in *in);
} types[] = {
	{ "session", take_session },
	{ "subscription", take_subscription },
	{ "exchange", take_exchange },
	{ "retained", take_retained },
	{ "message", take_message },
	{ "ban", take_ban },
	{ "value", take_value },
};

static void
take_line(struct import *im, struct json_in *in)
{
	struct grapnel_str type = json_need_text(in, "type");

	if (type.data == NULL)
		return;
	if (im->ended) {
		json_line_error(in->line, "there is something behind the end");
		return;
	}
	if (!im->begun) {
		if (strcmp(type.data, "grapnel-store") == 0)
			take_header(im, in);
		else
			json_line_error(
			    in->line, "this is no export of \"grapnelctl store export\"");
		return;
	}
	if (strcmp(type.data, "end") == 0) {
		take_end(im, in);
		return;
	}
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(type.data, types[i].type) == 0) {
			if (!types[i].take(im, in) && in->line->error[0] == '\0')
				json_line_error(in->line, "%s", im->write->error);
			return;
		}
	json_line_error(in->line, "there is no type \"%.40s\"", type.data);
}

/* ---- the file ---------------------------------------------------------------------------------- */

/* A line without its end. < 0: end or error; else im->error is empty, or says that it is too long. */
static ssize_t
read_line(struct import *im, FILE *in, char **text, size_t *room)
{
	size_t len = 0;
	int c;

	while ((c = getc_unlocked(in)) != EOF && c != '\n') {
		if (len == im->args->max_line) {
			snprintf(im->error, sizeof(im->error),
			    "line %" PRIu64
			    " is longer than %zu bytes; if that is right, give --max-line",
			    im->line + 1, im->args->max_line);
			return (ssize_t)len;
		}
		if (len == *room) {
			size_t wanted = *room == 0 ? 4096 : *room * 2;
			char *p = realloc(*text, wanted);

			if (p == NULL) {
				snprintf(im->error, sizeof(im->error), "no memory");
				return (ssize_t)len;
			}
			*text = p;
			*room = wanted;
		}
		(*text)[len++] = (char)c;
	}
	return c == EOF && len == 0 ? -1 : (ssize_t)len;
}

static bool
read_lines(struct import *im, FILE *in)
{
	struct json_line line = { 0 };
	char *text = NULL;
	size_t room = 0;
	ssize_t len;

	while (im->error[0] == '\0' && (len = read_line(im, in, &text, &room)) >= 0) {
		struct json_in root;

		if (im->error[0] != '\0')
			break;
		im->line++;
		if (json_line_parse(&line, len > 0 ? text : "", (size_t)len)) {
			root = json_in_root(&line);
			take_line(im, &root);
		}
		if (line.error[0] != '\0')
			snprintf(im->error, sizeof(im->error), "line %" PRIu64 ": %.400s", im->line,
			    line.error);
		json_line_clear(&line);
	}
	free(text);
	if (im->error[0] == '\0' && ferror(in))
		snprintf(im->error, sizeof(im->error), "it cannot be read: %s", strerror(errno));
	else if (im->error[0] == '\0' && !im->ended)
		snprintf(im->error, sizeof(im->error),
		    "it ends behind line %" PRIu64 ", without its \"end\": it is not whole",
		    im->line);
	return im->error[0] == '\0';
}

/* ---- the store --------------------------------------------------------------------------------- */

static bool
is_empty(sqlite3 *db, bool *empty, char error[STORE_ERROR])
{
	uint64_t rows;

	if (!sql_number(db,
		"SELECT (SELECT count(*) FROM (SELECT 1 FROM session LIMIT 1)) +"
		" (SELECT count(*) FROM (SELECT 1 FROM retained LIMIT 1)) +"
		" (SELECT count(*) FROM (SELECT 1 FROM log LIMIT 1)) +"
		" (SELECT count(*) FROM (SELECT 1 FROM ban LIMIT 1)) +"
		" (SELECT count(*) FROM (SELECT 1 FROM kv LIMIT 1))",
		&rows, error))
		return false;
	*empty = rows == 0;
	return true;
}

static void
on_kept(struct grapnel_str mountpoint, struct grapnel_str client_id, void *arg)
{
	const struct store_args *a = arg;
	char text[400], *shown;

	snprintf(text, sizeof(text), "%.*s%s%.*s", mountpoint.len < 128 ? (int)mountpoint.len : 128,
	    mountpoint.len > 0 ? mountpoint.data : "", mountpoint.len > 0 ? " " : "",
	    client_id.len < 256 ? (int)client_id.len : 256, client_id.data);
	shown = show_escape(text, NULL);
	fprintf(stderr,
	    "grapnelctl: store %s: the session of %s is there already, and stays; --replace takes "
	    "the file's\n",
	    a->command, shown != NULL ? shown : "?");
	free(shown);
}

static json_t *
summary(const struct store_write *w, json_t *notes)
{
	const struct write_counts *c = &w->counts;
	const struct {
		const char *name;
		uint64_t n;
		bool always;
	} rows[] = {
		{ "sessions", c->sessions, true },
		{ "shared_groups", c->groups, false },
		{ "subscriptions", c->subscriptions, true },
		{ "retained", c->retained, true },
		{ "messages", c->messages, true },
		{ "bans", c->bans, false },
		{ "values", c->values, false },
		{ "sessions_replaced", c->replaced, false },
		{ "sessions_kept", c->kept, false },
		{ "retained_kept", c->retained_kept, false },
		{ "in_flight_without_message", c->lost, false },
	};
	json_t *o = json_object();
	bool good = o != NULL;

	for (size_t i = 0; good && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].always || rows[i].n > 0)
			good = json_put_number(o, rows[i].name, rows[i].n);
	if (good && json_object_size(notes) > 0)
		good = json_object_set(o, "not_moved", notes) == 0;
	if (good)
		return o;
	json_decref(o);
	return NULL;
}

static bool
fill(const struct store_args *a, FILE *in, struct store_write *w, json_t *notes, sqlite3 *db,
    char error[STORE_ERROR])
{
	struct import im = { .args = a, .write = w };
	bool empty;

	if (!is_empty(db, &empty, error))
		return false;
	if (!empty && !a->merge) {
		snprintf(error, STORE_ERROR,
		    "the store in %.300s is not empty; --merge adds to what is there",
		    a->directory);
		return false;
	}
	if (!sql_run(db, "BEGIN IMMEDIATE", error))
		return false;
	if (!write_begin(w, db)) {
		memcpy(error, w->error, STORE_ERROR);
		return false;
	}
	if (a->mosquitto) {
		if (!store_moved(in, w, notes, error))
			return false;
	} else if (!read_lines(&im, in)) {
		memcpy(error, im.error, STORE_ERROR);
		return false;
	}
	if (!write_end(w)) {
		memcpy(error, w->error, STORE_ERROR);
		return false;
	}
	return true;
}

static enum ctl_exit
import_from(const struct store_args *a, FILE *in, json_t *notes)
{
	struct store_write w = { .merge = a->merge,
		.replace = a->replace,
		.kept = on_kept,
		.arg = (void *)(uintptr_t)a };
	char error[STORE_ERROR] = "";
	struct store_file file;
	json_t *answer;
	bool good;

	if (!store_take(a, &file))
		return CTL_FAILED;
	good = fill(a, in, &w, notes, file.db, error);
	write_free(&w); /* statements end before their transaction */
	if (good)
		good = sql_run(file.db, "COMMIT", error);
	else
		(void)sqlite3_exec(file.db, "ROLLBACK", NULL, NULL, NULL);
	store_file_close(&file);
	if (!good) {
		char *shown = show_escape(error, NULL);
		enum ctl_exit result = store_error(
		    a, "%s: %s; nothing is imported", a->file, shown != NULL ? shown : "?");

		free(shown);
		return result;
	}
	if ((answer = summary(&w, notes)) == NULL)
		return no_memory();
	if (a->json)
		return print_json(answer);
	show_value(answer);
	json_decref(answer);
	return CTL_OK;
}

enum ctl_exit
store_import(const struct store_args *a)
{
	bool standard = strcmp(a->file, "-") == 0;
	FILE *in = standard ? stdin : fopen(a->file, "re");
	json_t *notes = json_object();
	enum ctl_exit result;

	if (in == NULL || notes == NULL) {
		result = in == NULL
		    ? store_error(a, "%s cannot be opened: %s", a->file, strerror(errno))
		    : no_memory();
	} else {
		result = import_from(a, in, notes);
	}
	if (in != NULL && !standard)
		(void)fclose(in);
	json_decref(notes);
	return result;
}
