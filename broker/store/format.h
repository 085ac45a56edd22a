/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format - the bytes of the store's rows
 *
 * Tables (store.sql, schema version STORE_SCHEMA):
 *
 *	meta(name, value)		 schema, program, alive (wall clock, ms), clean, next_id
 *	session(id, row)		 struct row_session
 *	subscription(session, filter, row)  struct row_subscription; session may be a shared group's id
 *	exchange(session, row)		 struct row_exchange: what QoS 2 needs to be exactly once
 *	retained(topic, seq, row)	 a message; without payload it says "none" until it is swept
 *	log(segment, finished, messages) what a worker collected for one commit, in pieces of about 64 KiB
 *	ban(address, row)		 struct row_ban
 *	kv(plugin, key, row)		 what plugins keep: the row is the value
 *
 * A message is in one place, however many Sessions wait for it: in a segment, with its receivers. It is named by (segment, index),
 * its address. `finished` says which receivers are done with which messages of this or other segments; a segment goes when nobody
 * waits for one of its messages, and its `finished` does not name a segment that is still there.
 *
 * Each row ends with 8 bytes, XXH3 of its key and of what is before: bytes that rot, or stand under another key, are noticed.
 * Numbers are LEB128 (at most 10 bytes), strings have their length in front.
 *
 * Times: a deadline is stored as wall clock and as the time that was left when it was written; store_left() says which one counts.
 *
 * Threads: any; pure.
 */
#ifndef BROKER_STORE_FORMAT_H
#define BROKER_STORE_FORMAT_H

#include <grapnel/hooks.h>

#define STORE_SCHEMA 1

/* ---- bytes ---------------------------------------------------------------------------------- */
struct row_out {
	uint8_t *data; /* heap: the caller frees it */
	size_t len, capacity;
	bool failed; /* no memory: what follows does nothing */
};
void row_clear(struct row_out *o); /* empty, and keeps its memory */
void row_free(struct row_out *o);
void row_bytes(struct row_out *o, const void *data, size_t len);
void row_number(struct row_out *o, uint64_t n);
void row_string(struct row_out *o, struct grapnel_str s);
uint8_t *row_room(struct row_out *o, size_t len); /* behind what is there, not yet part of it; NULL: no memory */

struct row_in {
	const uint8_t *at, *end;
	bool bad; /* something did not fit: everything read since is 0 */
};
uint64_t row_get_number(struct row_in *in);
struct grapnel_str row_get_string(struct row_in *in); /* borrowed from the row */

/*
 * The checksum of a row: `table` is its name, key its primary key (numbers as 8 bytes, little endian; several parts one after the
 * other, each text or blob with its length as 8 bytes in front).
 */
struct row_key {
	uint8_t bytes[24];
	size_t len;
	const void *text;
	size_t text_len;
};
struct row_key row_key_number(uint64_t id);
struct row_key row_key_text(struct grapnel_str text);
struct row_key row_key_number_text(uint64_t id, struct grapnel_str text);
struct row_key row_key_text_text(struct grapnel_str a, struct grapnel_str b, struct row_out *scratch); /* kv: both in scratch */
#define ROW_SUM 8u
void row_seal(struct row_out *o, const char *table, const struct row_key *key);
/* *in: what is before the checksum. false: it is wrong. */
bool row_open(struct row_in *in, const void *data, size_t len, const char *table, const struct row_key *key);

/* ---- times ---------------------------------------------------------------------------------- */
struct row_time {
	bool set;
	uint64_t wall_ms; /* since 1970 */
	uint64_t left_ms; /* when it was written */
};
struct row_clock { /* of the moment of loading */
	uint64_t now_wall_ms;
	uint64_t alive_wall_ms; /* when the broker that wrote was last known to run */
};
/* How long there is still left; 0: it is over. A clock that is before `alive` is not believed. */
uint64_t row_left(const struct row_clock *c, const struct row_time *t);

/* ---- messages ------------------------------------------------------------------------------- */
struct row_message {
	uint8_t qos;
	bool retain, will, utf8;
	struct grapnel_str topic; /* with mountpoint */
	struct grapnel_str props; /* forwardable ones, encoded as in a packet */
	struct grapnel_str payload;
	struct row_time expires; /* of a Will that is not published yet: left_ms is its interval */
	bool has_author;
	struct grapnel_client_info author; /* as of row_identity */
};
/* Client id, user name, mountpoint, listener, peer, attributes, protocol, superuser, anonymous, identity_source. */
void row_identity(struct row_out *o, const struct grapnel_client_info *who);
/* attributes: `room` of them, filled; more in the row are left out, *left_out (may be NULL) says how many. */
bool row_get_identity(struct row_in *in, struct grapnel_client_info *who, struct grapnel_pair *attributes, size_t room);
size_t row_count_attributes(const struct row_in *in); /* of the identity that begins here: so much room it needs */
/* same_author: it is the one of the message before in this segment, and not written again. */
void row_message(struct row_out *o, const struct row_message *m, bool same_author);
struct row_author { /* of the last message read; attributes are in it */
	struct grapnel_client_info who;
	struct grapnel_pair *attributes; /* heap */
	size_t room;
	bool set;
};
void row_author_free(struct row_author *a);
bool row_get_message(struct row_in *in, struct row_message *m, struct row_author *last);

/* ---- segments ------------------------------------------------------------------------------- */
#define STORE_INDEX_BITS 16u
#define STORE_INDEX_MAX	 ((1u << STORE_INDEX_BITS) - 1)
static inline uint64_t
store_address(uint64_t segment, uint32_t index)
{
	return segment << STORE_INDEX_BITS | index;
}
static inline uint64_t
store_segment(uint64_t address)
{
	return address >> STORE_INDEX_BITS;
}
static inline uint32_t
store_index(uint64_t address)
{
	return (uint32_t)address & STORE_INDEX_MAX;
}

struct row_receiver {
	uint64_t session; /* or shared group */
	uint8_t qos;	  /* of this delivery */
	bool retain;
	uint32_t id_count;
	const uint32_t *ids; /* Subscription Identifiers */
};
#define ROW_IDS_MAX 64u
/*
 * One message of a segment. Layout of `messages`: { index, length of the rest, origin session, origin number, message, receivers }.
 * origin: a QoS 2 message of that Session which counts only if exchange.confirmed is not below the number (0, 0: none).
 */
struct row_record {
	uint32_t index;
	uint64_t origin, origin_number;
	struct row_message message;
	uint64_t receiver_count;
};
/* begin, then each receiver, then end */
void row_record_begin(struct row_out *o, const struct row_record *r, bool same_author, size_t *at);
void row_receiver(struct row_out *o, const struct row_receiver *r);
void row_record_end(struct row_out *o, size_t at);
/* @return false: at the end, or bad (in->bad). Then its receivers are to be read from *receivers. */
bool row_get_record(struct row_in *in, struct row_record *r, struct row_author *last, struct row_in *receivers);
/* The next record's index and length, skipping it; for those who only look for one. last must be kept up by row_get_record. */
bool row_get_receiver(struct row_in *receivers, struct row_receiver *r, uint32_t ids[ROW_IDS_MAX]);

/* `finished`: who is done with what. Begin with zeros. */
struct row_finished {
	uint64_t receiver, address;
};
void row_finished(struct row_out *o, const struct row_finished *f, struct row_finished *before);
bool row_get_finished(struct row_in *in, struct row_finished *f, struct row_finished *before);

/* ---- the others ------------------------------------------------------------------------------ */
struct row_session {
	struct grapnel_client_info who; /* row_identity; mountpoint and client_id are its key for Clients */
	struct grapnel_str auth_plugin; /* who let it in; len 0: none */
	uint32_t expiry;		/* as the Client asked for it */
	uint64_t connected_s;		/* since 1970 */
	bool online;
	bool group;		 /* no Session: a shared group; who.client_id is "group/filter" */
	struct row_time expires; /* when it is not online; not set: never */
	bool has_will;
	uint32_t will_delay;
	struct row_time will_due; /* set: the connection is gone and the will waits */
	struct row_message will;  /* its author is `who`, and not written again */
};
void row_session(struct row_out *o, const struct row_session *s);
bool row_get_session(struct row_in *in, struct row_session *s, struct row_author *who);

struct row_subscription { /* filter is the key: with mountpoint; "$share/group/" in front stays in front */
	uint32_t id;
	uint8_t qos, retain_handling;
	bool no_local, retain_as_published, wild_first;
};
void row_subscription(struct row_out *o, const struct row_subscription *s);
bool row_get_subscription(struct row_in *in, struct row_subscription *s);

enum row_exchange_state {
	EXCHANGE_SENT = 1,     /* PUBLISH went out, or may have: PUBREC (PUBACK) is awaited */
	EXCHANGE_RELEASED = 2, /* PUBREC came: PUBCOMP is awaited */
};
struct row_exchange {
	uint64_t confirmed; /* number of the last QoS 2 message from it that is complete */
	uint32_t received_count, sent_count;
};
/* Then received_count Packet Identifiers with row_number, then sent_count times identifier, state, address (0 when released). */
void row_exchange(struct row_out *o, const struct row_exchange *x);
bool row_get_exchange(struct row_in *in, struct row_exchange *x);

struct row_ban {
	struct row_time until;
	uint32_t bans; /* how many there were */
};
void row_ban(struct row_out *o, const struct row_ban *b);
bool row_get_ban(struct row_in *in, struct row_ban *b);

#endif
