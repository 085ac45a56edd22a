/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mosquitto's persistence file, versions 3 to 6 of its format.
 *
 *	15 bytes magic, 4 bytes that are 0, 4 bytes version; then chunks
 *	versions 5, 6: type (4 bytes), length (4); the fixed part of the type, padded as a C compiler does; then its strings
 *	versions 3, 4: type (2 bytes), length (4); numbers, and strings with 2 bytes of length in front, one after the other
 *
 * Numbers of 16 and 32 bits are big-endian; those of 64 bits are as the machine had them. Files of big-endian machines are found by
 * the first chunk, and refused.
 */
#include "store.h"

#include "mqtt/wire.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 23u
#define CHUNK_MAX   (300u << 20) /* the largest payload, and what is around it */
#define PAYLOAD_MAX 268435455u
/* Nobody has stored so many messages: the bytes are the other way round. */
#define LARGE (UINT64_C(1) << 48)

enum chunk {
	CHUNK_CONFIG = 1,
	CHUNK_MESSAGE,
	CHUNK_QUEUED,
	CHUNK_RETAINED,
	CHUNK_SUBSCRIPTION,
	CHUNK_CLIENT
};

struct reader {
	FILE *in;
	const struct mosquitto_handler *handler;
	uint8_t *data; /* of one chunk */
	size_t room;
	unsigned version;
	uint64_t offset; /* of the chunk, for messages */
	bool config;     /* its chunk was there */
};

static uint64_t
get64(struct wire *w)
{
	struct grapnel_str s = wire_get_block(w, 8);
	uint64_t n = 0;

	for (unsigned i = 8; s.data != NULL && i-- > 0;)
		n = n << 8 | (uint8_t)s.data[i];
	return n;
}

static void
skip(struct wire *w, size_t len)
{
	(void)wire_get_block(w, len);
}

static struct grapnel_str
present(struct grapnel_str s)
{
	return s.len > 0 ? s : (struct grapnel_str){ NULL, 0 };
}

static bool
new_format(const struct reader *r)
{
	return r->version >= 5;
}

/* ---- one chunk of each type -------------------------------------------------------------------- */

static bool
read_config(struct reader *r, struct wire *w)
{
	uint64_t last;
	uint8_t id_size;

	if (new_format(r)) {
		last = get64(w);
		skip(w, 1);
		id_size = wire_get_u8(w);
	} else {
		skip(w, 1);
		id_size = wire_get_u8(w);
		last = get64(w);
	}
	if (w->err == 0 && (id_size != 8 || last >= LARGE))
		wire_fail(w, 1,
		    "it was written on a machine with another order of bytes, which cannot be "
		    "read");
	r->config = true;
	return true;
}

static bool
read_client(struct reader *r, struct wire *w)
{
	struct mosquitto_client c = { .expiry = UINT32_MAX };
	size_t id_len, name_len = 0;

	if (new_format(r)) {
		c.expiry_time = (int64_t)get64(w);
		c.expiry = wire_get_u32(w);
		skip(w, 2); /* last Packet Identifier */
		id_len = wire_get_u16(w);
		if (r->version >= 6) {
			skip(w, 2); /* port */
			name_len = wire_get_u16(w);
			skip(w, 4);
		}
		c.id = wire_get_block(w, id_len);
		c.username = present(wire_get_block(w, name_len));
	} else {
		c.id = wire_get_binary(w); /* what is behind counts the time in other ways */
		skip(w, 2);
	}
	if (w->err == 0 && c.id.len == 0)
		wire_fail(w, 1, "a client without client id");
	return w->err == 0 && r->handler->client(&c, r->handler->arg);
}

static bool
read_message(struct reader *r, struct wire *w)
{
	struct mosquitto_message m = { 0 };
	size_t len, source, name, topic;

	m.id = get64(w);
	if (new_format(r)) {
		m.expiry_time = (int64_t)get64(w);
		len = wire_get_u32(w);
		skip(w, 2); /* Packet Identifier */
		source = wire_get_u16(w);
		name = wire_get_u16(w);
		topic = wire_get_u16(w);
		skip(w, 2); /* port */
		m.qos = wire_get_u8(w);
		m.retain = wire_get_u8(w) != 0;
		m.source_id = present(wire_get_block(w, source));
		m.source_username = present(wire_get_block(w, name));
		m.topic = wire_get_block(w, topic);
		m.payload = wire_get_block(w, len);
		m.props = wire_get_rest(w);
	} else {
		m.source_id = present(wire_get_binary(w));
		if (r->version >= 4) {
			m.source_username = present(wire_get_binary(w));
			skip(w, 2);
		}
		skip(w, 4); /* two Packet Identifiers */
		m.topic = wire_get_binary(w);
		m.qos = wire_get_u8(w);
		m.retain = wire_get_u8(w) != 0;
		len = wire_get_u32(w);
		m.payload = wire_get_block(w, len);
	}
	if (w->err == 0 && (m.qos > 2 || len > PAYLOAD_MAX))
		wire_fail(w, 1, "a message with a QoS or a size that there is not");
	return w->err == 0 && r->handler->message(&m, r->handler->arg);
}

static bool
read_queued(struct reader *r, struct wire *w)
{
	struct mosquitto_queued q = { 0 };
	size_t id_len;
	uint8_t bits;

	if (new_format(r)) {
		q.message = get64(w);
		q.packet_id = wire_get_u16(w);
		id_len = wire_get_u16(w);
		q.qos = wire_get_u8(w);
		q.state = wire_get_u8(w);
		bits = wire_get_u8(w);
		q.retain = bits >> 4 != 0;
		q.out = wire_get_u8(w) != 0;
		q.client = wire_get_block(w, id_len);
		q.props = wire_get_rest(w);
	} else {
		q.client = wire_get_binary(w);
		q.message = get64(w);
		q.packet_id = wire_get_u16(w);
		q.qos = wire_get_u8(w);
		q.retain = wire_get_u8(w) != 0;
		q.out = wire_get_u8(w) != 0;
		q.state = wire_get_u8(w);
		skip(w, 1); /* DUP */
	}
	if (w->err == 0 && (q.qos > 2 || q.client.len == 0))
		wire_fail(w, 1, "a queued message without client, or with a QoS that there is not");
	if (w->err == 0 && (q.state == 0 || q.state > MOSQUITTO_QUEUED))
		wire_fail(w, 1, "a queued message in a state that there is not");
	return w->err == 0 && r->handler->queued(&q, r->handler->arg);
}

static bool
read_subscription(struct reader *r, struct wire *w)
{
	struct mosquitto_subscription s = { 0 };
	size_t id_len, filter_len;
	uint8_t options;

	if (new_format(r)) {
		s.id = wire_get_u32(w);
		id_len = wire_get_u16(w);
		filter_len = wire_get_u16(w);
		s.qos = wire_get_u8(w);
		options = wire_get_u8(w);
		skip(w, 2);
		s.no_local = (options & 4) != 0;
		s.retain_as_published = (options & 8) != 0;
		s.client = wire_get_block(w, id_len);
		s.filter = wire_get_block(w, filter_len);
	} else {
		s.client = wire_get_binary(w);
		s.filter = wire_get_binary(w);
		s.qos = wire_get_u8(w);
	}
	if (w->err == 0 && (s.client.len == 0 || s.filter.len == 0 || s.qos > 2))
		wire_fail(w, 1,
		    "a subscription without client or filter, or with a QoS that there is not");
	return w->err == 0 && r->handler->subscription(&s, r->handler->arg);
}

static bool
read_retained(struct reader *r, struct wire *w)
{
	uint64_t id = get64(w);

	return w->err == 0 && r->handler->retained(id, r->handler->arg);
}

/* Types that are not known are left out, as Mosquitto does. */
static bool
read_chunk(struct reader *r, uint32_t type, struct wire *w)
{
	switch ((enum chunk)type) {
	case CHUNK_CONFIG:
		return read_config(r, w);
	case CHUNK_MESSAGE:
		return read_message(r, w);
	case CHUNK_QUEUED:
		return read_queued(r, w);
	case CHUNK_RETAINED:
		return read_retained(r, w);
	case CHUNK_SUBSCRIPTION:
		return read_subscription(r, w);
	case CHUNK_CLIENT:
		return read_client(r, w);
	}
	return true;
}

/* ---- the file ---------------------------------------------------------------------------------- */

static bool
wrong(const struct reader *r, char error[STORE_ERROR], const char *what)
{
	snprintf(error, STORE_ERROR, "byte %" PRIu64 ": %s", r->offset, what);
	return false;
}

/* Grows with what is really there: a length alone costs nothing. */
static bool
read_body(struct reader *r, size_t len, char error[STORE_ERROR])
{
	size_t have = 0;

	while (have < len) {
		size_t step = len - have < 65536 ? len - have : 65536, n;

		if (r->room < have + step) {
			size_t wanted = r->room == 0 ? 65536 : r->room * 2;
			uint8_t *p = realloc(r->data, wanted);

			if (p == NULL)
				return wrong(r, error, "no memory");
			r->data = p;
			r->room = wanted;
		}
		if ((n = fread(r->data + have, 1, step, r->in)) == 0)
			return wrong(r, error,
			    ferror(r->in) ? strerror(errno) : "the file ends in this chunk");
		have += n;
	}
	return true;
}

/* 1: *type and *len; 0: the end of the file. */
static int
next_chunk(struct reader *r, uint32_t *type, uint32_t *len, char error[STORE_ERROR])
{
	uint8_t head[8];
	size_t size = new_format(r) ? 8 : 6, n = fread(head, 1, size, r->in);
	struct wire w;

	if (n == 0 && !ferror(r->in))
		return 0;
	if (n < size) {
		(void)wrong(r, error,
		    ferror(r->in) ? strerror(errno) : "the file ends in the head of a chunk");
		return -1;
	}
	wire_init(&w, head, size);
	*type = new_format(r) ? wire_get_u32(&w) : wire_get_u16(&w);
	*len = wire_get_u32(&w);
	if (*len <= CHUNK_MAX)
		return 1;
	(void)wrong(r, error, "a chunk that is larger than any can be");
	return -1;
}

static bool
read_chunks(struct reader *r, char error[STORE_ERROR])
{
	uint32_t type, len;
	struct wire w;
	int rc;

	for (r->offset = HEADER_SIZE; (rc = next_chunk(r, &type, &len, error)) > 0;) {
		if (!read_body(r, len, error))
			return false;
		wire_init(&w, r->data, len);
		if (!r->config && type != CHUNK_CONFIG)
			return wrong(
			    r, error, "the first chunk is not the one with the configuration");
		if (!read_chunk(r, type, &w) && w.err == 0)
			return false;
		if (w.err != 0)
			return wrong(r, error, w.err == 1 ? w.why : "a chunk that ends too early");
		r->offset += (new_format(r) ? 8u : 6u) + len;
	}
	if (rc == 0 && !r->config)
		return wrong(r, error, "the file ends before its first chunk");
	return rc == 0;
}

unsigned
mosquitto_read(FILE *in, const struct mosquitto_handler *h, char error[STORE_ERROR])
{
	static const uint8_t magic[15] = "\0\xb5\0mosquitto db";
	struct reader r = { .in = in, .handler = h };
	uint8_t head[HEADER_SIZE];
	bool good;

	if (fread(head, 1, sizeof(head), in) != sizeof(head) ||
	    memcmp(head, magic, sizeof(magic)) != 0) {
		(void)wrong(&r, error, "this is no persistence file of Mosquitto (mosquitto.db)");
		return 0;
	}
	r.version = (unsigned)head[19] << 24 | (unsigned)head[20] << 16 | (unsigned)head[21] << 8 |
	    head[22];
	if (r.version < 3 || r.version > 6) {
		snprintf(error, STORE_ERROR,
		    "version %u of Mosquitto's file is not known; 3 to 6 are", r.version);
		return 0;
	}
	good = read_chunks(&r, error);
	free(r.data);
	return good ? r.version : 0;
}
