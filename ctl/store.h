/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store - grapnelctl store: the store of a broker, looked into, moved, copied, made smaller
 *
 * store.c		options, where the store is, check, backup, compact
 * store_stats.c	stats
 * store_sql.c		a few words for SQLite
 * store_log.c		which messages of the log somebody still waits for
 * store_compact.c	what of the log can go
 * store_json.c		members of JSON objects: texts that need not be UTF-8, numbers with a range
 * store_rows.c		what export and import have in common: identities, messages, sessions as JSON
 * store_export.c	rows to lines
 * store_import.c	lines to rows
 * store_write.c	rows into a store, under new ids (with store_write_*.c)
 * store_mosquitto.c	the file of Mosquitto, chunk by chunk
 * store_moved.c, store_moved_rows.c	what is in it as sessions, subscriptions and messages
 *
 * A file that is read may say anything: every length is checked against what is there, and one line or chunk at a time is in memory.
 *
 * Threads: one.
 */
#ifndef CTL_STORE_H
#define CTL_STORE_H

#include "ctl.h"
#include "store/file.h"
#include "store/format.h"
#include <xxhash.h>

#define STORE_EXPORT_FORMAT 1
#define STORE_LINE_MAX	 (64u << 20) /* default of --max-line */

struct store_args {
	const char *command;   /* "check" ... for messages */
	char *directory;       /* heap */
	const char *file;      /* NULL: none given, or "-" */
	bool merge, replace;   /* import */
	bool mosquitto;	       /* import: FILE is Mosquitto's */
	size_t max_line;       /* import */
	bool json;
};

/* "grapnelctl: store COMMAND: ..." on stderr. @return CTL_FAILED. */
enum ctl_exit store_error(const struct store_args *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

void store_damaged(const char *text, void *arg); /* says it on stderr; arg: the store_args */
/* Of DIRECTORY/grapnel.db and what is behind that; a file that is not there has none. */
uint64_t store_bytes(const struct store_args *a, const char *suffix);
/* Opens the store to write, and locks it. false: everything has been said. */
bool store_take(const struct store_args *a, struct store_file *f);

/* ---- store_sql.c ---- */
/* NULL: error is filled. */
sqlite3_stmt *sql_prepare(sqlite3 *db, const char *sql, char error[STORE_ERROR]);
bool sql_run(sqlite3 *db, const char *sql, char error[STORE_ERROR]);
struct grapnel_str sql_bytes(sqlite3_stmt *s, int column); /* valid until the next step; NULL: .data NULL */
void sql_bind_bytes(sqlite3_stmt *s, int index, struct grapnel_str bytes); /* borrowed until the reset; "" is not NULL */
/* Runs a statement that answers nothing, and resets it. */
bool sql_done(sqlite3_stmt *s, char error[STORE_ERROR]);
/* One number of a query; nothing: 0. */
bool sql_number(sqlite3 *db, const char *sql, uint64_t *out, char error[STORE_ERROR]);

/* ---- store_log.c ---- */
/*
 * Everything that is finished, and all sessions, in memory: 16 and about 80 bytes each. A receiver waits for a message when it exists, is not
 * finished with it, and the message counts (format.h, origin).
 */
struct log_view {
	sqlite3 *db;
	struct row_finished *finished; /* sorted */
	size_t finished_count, finished_room;
	struct log_session { uint64_t id, confirmed; } *sessions; /* sorted */
	size_t session_count, session_room;
	struct log_name { XXH128_hash_t hash; bool used; } *names; /* of clients: open addressing */
	size_t name_count, name_capacity;
	store_fault_fn fault;
	void *arg;
	uint64_t damaged; /* rows that were left out, each told to `fault` */
	struct row_receiver *waiting; /* of one message */
	uint32_t *ids;
	size_t waiting_room, id_room;
};
bool log_open(struct log_view *v, sqlite3 *db, store_fault_fn fault, void *arg, char error[STORE_ERROR]);
void log_close(struct log_view *v);
bool log_has_session(const struct log_view *v, uint64_t id); /* one that counts */
/* Each message somebody waits for, in order. All is borrowed. false: stop. */
typedef bool (*log_message_fn)(uint64_t address, const struct row_message *m, const struct row_receiver *waiting, size_t count,
    void *arg);
/* After each segment; messages: how many of its messages somebody waits for. May be NULL. */
typedef bool (*log_segment_fn)(uint64_t segment, uint64_t messages, void *arg);
bool log_each(struct log_view *v, log_message_fn message, log_segment_fn segment, void *arg, char error[STORE_ERROR]);

/* ---- store_compact.c ---- */
/* Drops what nobody waits for, and what is finished with nothing that is still there. In the caller's transaction. */
bool log_compact(sqlite3 *db, store_fault_fn fault, void *arg, char error[STORE_ERROR]);

/* ---- store_json.c ---- */
/* A text as "name", or what is not UTF-8 as "name_base64". data NULL: nothing is put. false: no memory. */
bool json_put_text(json_t *o, const char *name, struct grapnel_str text);
bool json_put_number(json_t *o, const char *name, uint64_t n); /* above 2^63-1: that */
bool json_put_flag(json_t *o, const char *name, bool flag);    /* false is not put */
bool json_put_time(json_t *o, const char *name, const struct row_time *t); /* as { at_ms, left_ms }; not set: not put */

/* Reading: each member is taken once, and what nobody took is an error. The first error stays. */
struct json_line {
	char error[STORE_ERROR]; /* "": none */
	struct json_bytes *bytes; /* what was decoded; lives as long as the line */
	json_t *root;
};
struct json_in {
	struct json_line *line;
	const json_t *object;
	const char *name; /* for messages */
	size_t used;
};
bool json_line_parse(struct json_line *l, const char *text, size_t len);
void json_line_clear(struct json_line *l);
void json_line_error(struct json_line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct json_in json_in_root(struct json_line *l);
/* Bytes that live as long as the line. NULL: no memory, and the line says so. */
void *json_line_room(struct json_line *l, size_t size);
/* A missing text has .data NULL; json_need_text makes that an error. */
struct grapnel_str json_take_text(struct json_in *in, const char *name);
struct grapnel_str json_need_text(struct json_in *in, const char *name);
uint64_t json_take_number(struct json_in *in, const char *name, uint64_t missing, uint64_t max);
uint64_t json_need_number(struct json_in *in, const char *name, uint64_t max);
bool json_take_flag(struct json_in *in, const char *name);
struct row_time json_take_time(struct json_in *in, const char *name);
const json_t *json_take_array(struct json_in *in, const char *name);	      /* NULL: missing */
struct json_in json_take_object(struct json_in *in, const char *name);	      /* .object NULL: missing */
struct json_in json_in_member(struct json_in *in, const json_t *value, const char *name); /* of an array */
bool json_in_end(struct json_in *in); /* false: there is an error */

/* ---- store_rows.c ---- */
bool rows_put_identity(json_t *o, const struct grapnel_client_info *who);
bool rows_put_message(json_t *o, const struct row_message *m, bool author);
json_t *rows_session(uint64_t id, const struct row_session *s); /* NULL: no memory */
void rows_take_identity(struct json_in *in, struct grapnel_client_info *who);
void rows_take_message(struct json_in *in, struct row_message *m, bool author);
void rows_take_session(struct json_in *in, struct row_session *s);
/*
 * Topic Name and properties as of a PUBLISH; props become those that are forwarded, in `scratch`, and *ids (may be NULL: there must
 * be none) the Subscription Identifiers. @return NULL, or what is wrong.
 */
struct rows_ids {
	uint32_t ids[ROW_IDS_MAX];
	uint32_t count;
};
const char *rows_check_message(struct row_message *m, struct row_out *scratch, struct rows_ids *ids);

/* ---- store_write.c ---- */
/*
 * Writes into a store, in one transaction that the caller begins and ends. Sessions are known by the numbers of the file they come from,
 * messages too; in the store they get new ones. Errors: false, and `error` says it.
 */
struct store_write {
	sqlite3 *db;
	bool merge, replace;
	char error[STORE_ERROR];
	sqlite3_stmt *statements[16];
	uint64_t next_id, segment, seq_base;
	uint32_t index;
	struct row_out log, row, author, last_author, scratch;
	struct row_receiver *mapped; /* of one message */
	uint64_t *seen;
	size_t mapped_room;
	uint64_t awaited; /* messages that are in flight */
	struct write_counts {
		uint64_t sessions, groups, subscriptions, retained, messages, bans, values;
		uint64_t replaced, kept, retained_kept; /* what was there */
		uint64_t lost; /* in flight, but their message was not there */
	} counts;
	/* A session that was there stays, and what the file has of it is left out. */
	void (*kept)(struct grapnel_str mountpoint, struct grapnel_str client_id, void *arg);
	void *arg;
};
bool write_begin(struct store_write *w, sqlite3 *db);
void write_free(struct store_write *w);
bool write_session(struct store_write *w, uint64_t old, const struct row_session *s);
bool write_subscription(struct store_write *w, uint64_t old, struct grapnel_str filter, const struct row_subscription *s);
struct write_sent {
	uint16_t packet_id;
	uint8_t state;
	uint64_t message; /* its old number */
};
bool write_exchange(struct store_write *w, uint64_t old, uint64_t confirmed, const uint16_t *received, size_t received_count,
    const struct write_sent *sent, size_t sent_count);
bool write_retained(struct store_write *w, uint64_t seq, const struct row_message *m);
bool write_message(struct store_write *w, uint64_t old, const struct row_message *m, const struct row_receiver *receivers,
    size_t count);
bool write_ban(struct store_write *w, struct grapnel_str address, const struct row_ban *b);
bool write_value(struct store_write *w, struct grapnel_str plugin, struct grapnel_str key, struct grapnel_str value);
bool write_end(struct store_write *w); /* what is left: the last segment, exchanges, meta */

/* ---- store_mosquitto.c ---- */
enum mosquitto_state { /* of a client's message, as the file has it */
	MOSQUITTO_PUBLISH_QOS0 = 1, MOSQUITTO_PUBLISH_QOS1 = 2, MOSQUITTO_WAIT_PUBACK = 3, MOSQUITTO_PUBLISH_QOS2 = 4,
	MOSQUITTO_WAIT_PUBREC = 5, MOSQUITTO_RESEND_PUBREL = 6, MOSQUITTO_WAIT_PUBREL = 7, MOSQUITTO_RESEND_PUBCOMP = 8,
	MOSQUITTO_WAIT_PUBCOMP = 9, MOSQUITTO_SEND_PUBREC = 10, MOSQUITTO_QUEUED = 11,
};
struct mosquitto_client {
	struct grapnel_str id, username; /* username.data NULL: none, or the version has none */
	int64_t expiry_time;		 /* seconds since 1970; 0: none */
	uint32_t expiry;		 /* seconds; UINT32_MAX: never */
};
struct mosquitto_message {
	uint64_t id;
	int64_t expiry_time;
	struct grapnel_str source_id, source_username, topic, payload, props; /* props: encoded, with their length in front; or empty */
	uint8_t qos;
	bool retain;
};
struct mosquitto_queued {
	uint64_t message;
	struct grapnel_str client, props;
	uint16_t packet_id;
	uint8_t qos, state;
	bool retain, out;
};
struct mosquitto_subscription {
	struct grapnel_str client, filter;
	uint32_t id;
	uint8_t qos;
	bool no_local, retain_as_published;
};
struct mosquitto_handler { /* each: false stops, with the reader's error filled */
	bool (*client)(const struct mosquitto_client *c, void *arg);
	bool (*message)(const struct mosquitto_message *m, void *arg);
	bool (*queued)(const struct mosquitto_queued *q, void *arg);
	bool (*subscription)(const struct mosquitto_subscription *s, void *arg);
	bool (*retained)(uint64_t message, void *arg);
	void *arg;
};
/*
 * Reads all of it. Strings are borrowed for one call; client ids and filters are not empty, nothing else about them is checked.
 * @return the version of the format; 0: error says what and where.
 */
unsigned mosquitto_read(FILE *in, const struct mosquitto_handler *h, char error[STORE_ERROR]);

/* ---- what store.c runs ---- */
enum ctl_exit store_stats(const struct store_args *a);
enum ctl_exit store_export(const struct store_args *a);
enum ctl_exit store_import(const struct store_args *a);
/* What is in Mosquitto's file, through w. *notes: what did not come over, an object with numbers. */
bool store_moved(FILE *in, struct store_write *w, json_t *notes, char error[STORE_ERROR]);

#endif
