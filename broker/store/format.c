/* SPDX-License-Identifier: Apache-2.0 */
#include "store/format.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- bytes ---------------------------------------------------------------------------------- */

void
row_clear(struct row_out *o)
{
	o->len = 0;
	o->failed = false;
}

void
row_free(struct row_out *o)
{
	free(o->data);
	*o = (struct row_out){ 0 };
}

uint8_t *
row_room(struct row_out *o, size_t len)
{
	size_t capacity = o->capacity != 0 ? o->capacity : 256;
	uint8_t *data;

	if (o->failed)
		return NULL;
	while (capacity - o->len < len)
		capacity *= 2;
	if (capacity != o->capacity) {
		if ((data = realloc(o->data, capacity)) == NULL) {
			o->failed = true;
			return NULL;
		}
		o->data = data;
		o->capacity = capacity;
	}
	return o->data + o->len;
}

void
row_bytes(struct row_out *o, const void *data, size_t len)
{
	uint8_t *p = row_room(o, len);

	if (p == NULL || len == 0)
		return;
	memcpy(p, data, len);
	o->len += len;
}

static size_t
number_put(uint8_t *p, uint64_t n)
{
	size_t len = 0;

	while (n >= 0x80) {
		p[len++] = (uint8_t)(n | 0x80);
		n >>= 7;
	}
	p[len++] = (uint8_t)n;
	return len;
}

void
row_number(struct row_out *o, uint64_t n)
{
	uint8_t *p = row_room(o, 10);

	if (p != NULL)
		o->len += number_put(p, n);
}

void
row_string(struct row_out *o, struct grapnel_str s)
{
	row_number(o, s.len);
	row_bytes(o, s.data, s.len);
}

uint64_t
row_get_number(struct row_in *in)
{
	uint64_t n = 0;
	unsigned shift = 0;

	while (!in->bad) {
		uint8_t byte;

		if (in->at == in->end || shift > 63) {
			in->bad = true;
			break;
		}
		byte = *in->at++;
		if (shift == 63 && byte > 1) {
			in->bad = true;
			break;
		}
		n |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return n;
		shift += 7;
	}
	return 0;
}

struct grapnel_str
row_get_string(struct row_in *in)
{
	uint64_t len = row_get_number(in);
	struct grapnel_str s = { NULL, 0 };

	if (in->bad || len > (size_t)(in->end - in->at)) {
		in->bad = true;
		return s;
	}
	s = (struct grapnel_str){ (const char *)in->at, (size_t)len };
	in->at += len;
	return s;
}

static bool
row_get_flag(uint64_t flags, unsigned bit)
{
	return (flags >> bit & 1) != 0;
}

/* ---- keys and checksums ------------------------------------------------------------------------ */

static void
put64(uint8_t *p, uint64_t n)
{
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(n >> (8 * i));
}

struct row_key
row_key_number(uint64_t id)
{
	struct row_key k = { .len = 8 };

	put64(k.bytes, id);
	return k;
}

struct row_key
row_key_text(struct grapnel_str text)
{
	struct row_key k = { .len = 8, .text = text.data, .text_len = text.len };

	put64(k.bytes, text.len);
	return k;
}

struct row_key
row_key_number_text(uint64_t id, struct grapnel_str text)
{
	struct row_key k = { .len = 16, .text = text.data, .text_len = text.len };

	put64(k.bytes, id);
	put64(k.bytes + 8, text.len);
	return k;
}

struct row_key
row_key_text_text(struct grapnel_str a, struct grapnel_str b, struct row_out *scratch)
{
	struct row_key k = { .len = 16 };

	put64(k.bytes, a.len);
	put64(k.bytes + 8, b.len);
	row_clear(scratch);
	row_bytes(scratch, a.data, a.len);
	row_bytes(scratch, b.data, b.len);
	k.text = scratch->data;
	k.text_len = scratch->len;
	return k;
}

static uint64_t
sum(const void *data, size_t len, const char *table, const struct row_key *key)
{
	uint64_t seed = XXH3_64bits(table, strlen(table));

	seed = XXH3_64bits_withSeed(key->bytes, key->len, seed);
	if (key->text_len > 0)
		seed = XXH3_64bits_withSeed(key->text, key->text_len, seed);
	return XXH3_64bits_withSeed(data, len, seed);
}

void
row_seal(struct row_out *o, const char *table, const struct row_key *key)
{
	uint8_t *p = row_room(o, ROW_SUM);

	if (p == NULL)
		return;
	put64(p, sum(o->data, o->len, table, key));
	o->len += ROW_SUM;
}

bool
row_open(
    struct row_in *in, const void *data, size_t len, const char *table, const struct row_key *key)
{
	uint8_t want[ROW_SUM];

	*in = (struct row_in){ data, data, false };
	if (data == NULL || len < ROW_SUM) {
		in->bad = true;
		return false;
	}
	in->end = (const uint8_t *)data + len - ROW_SUM;
	put64(want, sum(data, len - ROW_SUM, table, key));
	in->bad = memcmp(want, in->end, ROW_SUM) != 0;
	return !in->bad;
}

/* ---- times ------------------------------------------------------------------------------------ */

uint64_t
row_left(const struct row_clock *c, const struct row_time *t)
{
	if (!t->set)
		return UINT64_MAX;
	/* Nobody can say how long it was off: nothing of that time counts. */
	if (c->now_wall_ms < c->alive_wall_ms)
		return t->left_ms;
	if (t->wall_ms <= c->now_wall_ms)
		return 0;
	/* A clock that stood wrong when it was written must not make it live longer than it was to. */
	return t->wall_ms - c->now_wall_ms < t->left_ms ? t->wall_ms - c->now_wall_ms : t->left_ms;
}

static void
put_time(struct row_out *o, const struct row_time *t)
{
	row_number(o, t->wall_ms);
	row_number(o, t->left_ms);
}

static struct row_time
get_time(struct row_in *in)
{
	struct row_time t = { .set = true };

	t.wall_ms = row_get_number(in);
	t.left_ms = row_get_number(in);
	return t;
}

/* ---- identities --------------------------------------------------------------------------------- */

enum { WHO_USERNAME, WHO_SUPERUSER, WHO_ANONYMOUS, WHO_ATTRIBUTES };

void
row_identity(struct row_out *o, const struct grapnel_client_info *who)
{
	uint64_t flags = (uint64_t)(who->username.data != NULL) << WHO_USERNAME |
	    (uint64_t)who->superuser << WHO_SUPERUSER | (uint64_t)who->anonymous << WHO_ANONYMOUS |
	    (uint64_t)(who->attribute_count > 0) << WHO_ATTRIBUTES;

	row_number(o, flags);
	row_string(o, who->client_id);
	row_string(o, who->mountpoint);
	row_string(o, who->listener);
	row_string(o, who->peer);
	row_number(o, (uint64_t)who->protocol);
	row_number(o, (uint64_t)who->identity_source);
	if (who->username.data != NULL)
		row_string(o, who->username);
	if (who->attribute_count == 0)
		return;
	row_number(o, who->attribute_count);
	for (size_t i = 0; i < who->attribute_count; i++) {
		row_string(o, who->attributes[i].name);
		row_string(o, who->attributes[i].value);
	}
}

bool
row_get_identity(struct row_in *in, struct grapnel_client_info *who,
    struct grapnel_pair *attributes, size_t room)
{
	uint64_t flags = row_get_number(in), count;

	memset(who, 0, sizeof(*who));
	who->size = sizeof(*who);
	who->client_id = row_get_string(in);
	who->mountpoint = row_get_string(in);
	who->listener = row_get_string(in);
	who->peer = row_get_string(in);
	who->protocol = (uint8_t)row_get_number(in);
	who->identity_source = row_get_number(in) & 7u;
	who->superuser = row_get_flag(flags, WHO_SUPERUSER);
	who->anonymous = row_get_flag(flags, WHO_ANONYMOUS);
	if (row_get_flag(flags, WHO_USERNAME))
		who->username = row_get_string(in);
	count = row_get_flag(flags, WHO_ATTRIBUTES) ? row_get_number(in) : 0;
	for (uint64_t i = 0; i < count && !in->bad; i++) {
		struct grapnel_pair p;

		p.name = row_get_string(in);
		p.value = row_get_string(in);
		if (i < room)
			attributes[i] = p;
	}
	who->attributes = count > 0 ? attributes : NULL;
	who->attribute_count = count < room ? (size_t)count : room;
	return !in->bad;
}

size_t
row_count_attributes(const struct row_in *in)
{
	struct row_in copy = *in;
	uint64_t flags = row_get_number(&copy), count;

	if (!row_get_flag(flags, WHO_ATTRIBUTES))
		return 0;
	for (unsigned i = 0; i < 4; i++)
		(void)row_get_string(&copy);
	(void)row_get_number(&copy);
	(void)row_get_number(&copy);
	if (row_get_flag(flags, WHO_USERNAME))
		(void)row_get_string(&copy);
	count = row_get_number(&copy);
	/* Each needs two bytes at least: what a rotten row claims costs no more memory than it has bytes. */
	return copy.bad || count > (size_t)(copy.end - copy.at) / 2 ? 0 : (size_t)count;
}

void
row_author_free(struct row_author *a)
{
	free(a->attributes);
	*a = (struct row_author){ 0 };
}

static bool
get_author(struct row_in *in, struct row_author *a)
{
	size_t count = row_count_attributes(in);

	if (count > a->room) {
		struct grapnel_pair *p = realloc(a->attributes, count * sizeof(*p));

		if (p == NULL)
			return false;
		a->attributes = p;
		a->room = count;
	}
	a->set = row_get_identity(in, &a->who, a->attributes, a->room);
	return a->set;
}

/* ---- messages ------------------------------------------------------------------------------------- */

enum {
	MSG_RETAIN_BIT = 2,
	MSG_WILL_BIT,
	MSG_UTF8_BIT,
	MSG_PROPS_BIT,
	MSG_EXPIRES_BIT,
	MSG_AUTHOR_BIT,
	MSG_SAME_BIT
};

void
row_message(struct row_out *o, const struct row_message *m, bool same_author)
{
	uint64_t flags = (uint64_t)(m->qos & 3u) | (uint64_t)m->retain << MSG_RETAIN_BIT |
	    (uint64_t)m->will << MSG_WILL_BIT | (uint64_t)m->utf8 << MSG_UTF8_BIT |
	    (uint64_t)(m->props.len > 0) << MSG_PROPS_BIT |
	    (uint64_t)m->expires.set << MSG_EXPIRES_BIT |
	    (uint64_t)m->has_author << MSG_AUTHOR_BIT |
	    (uint64_t)(m->has_author && same_author) << MSG_SAME_BIT;

	row_number(o, flags);
	row_string(o, m->topic);
	if (m->props.len > 0)
		row_string(o, m->props);
	row_string(o, m->payload);
	if (m->expires.set)
		put_time(o, &m->expires);
	if (m->has_author && !same_author)
		row_identity(o, &m->author);
}

bool
row_get_message(struct row_in *in, struct row_message *m, struct row_author *last)
{
	uint64_t flags = row_get_number(in);

	*m = (struct row_message){ .qos = flags & 3u,
		.retain = row_get_flag(flags, MSG_RETAIN_BIT),
		.will = row_get_flag(flags, MSG_WILL_BIT),
		.utf8 = row_get_flag(flags, MSG_UTF8_BIT),
		.has_author = row_get_flag(flags, MSG_AUTHOR_BIT) };
	m->topic = row_get_string(in);
	if (row_get_flag(flags, MSG_PROPS_BIT))
		m->props = row_get_string(in);
	m->payload = row_get_string(in);
	if (row_get_flag(flags, MSG_EXPIRES_BIT))
		m->expires = get_time(in);
	if (m->has_author) {
		if (!row_get_flag(flags, MSG_SAME_BIT) && !get_author(in, last))
			in->bad = true;
		if (!last->set)
			in->bad = true;
		m->author = last->who;
	}
	if (m->qos > 2 || m->topic.len > 65535 || m->payload.len > 268435455)
		in->bad = true;
	return !in->bad;
}

/* ---- segments --------------------------------------------------------------------------------------- */

#define LENGTH_ROOM 5u /* of a record: padded, since it is known at its end only */

void
row_record_begin(struct row_out *o, const struct row_record *r, bool same_author, size_t *at)
{
	uint8_t *p;

	row_number(o, r->index);
	*at = o->len;
	if ((p = row_room(o, LENGTH_ROOM)) == NULL)
		return;
	o->len += LENGTH_ROOM;
	row_number(o, r->origin);
	if (r->origin != 0)
		row_number(o, r->origin_number);
	row_message(o, &r->message, same_author);
	row_number(o, r->receiver_count);
}

void
row_receiver(struct row_out *o, const struct row_receiver *r)
{
	row_number(o, r->session);
	row_number(
	    o, (uint64_t)(r->qos & 3u) | (uint64_t)r->retain << 2 | (uint64_t)r->id_count << 3);
	for (uint32_t i = 0; i < r->id_count; i++)
		row_number(o, r->ids[i]);
}

void
row_record_end(struct row_out *o, size_t at)
{
	size_t len;

	if (o->failed)
		return;
	len = o->len - at - LENGTH_ROOM;
	for (unsigned i = 0; i < LENGTH_ROOM; i++) {
		o->data[at + i] = (uint8_t)((len & 0x7f) | (i + 1 < LENGTH_ROOM ? 0x80 : 0));
		len >>= 7;
	}
}

bool
row_get_record(
    struct row_in *in, struct row_record *r, struct row_author *last, struct row_in *receivers)
{
	uint64_t index, len;

	if (in->bad || in->at == in->end)
		return false;
	*r = (struct row_record){ 0 };
	index = row_get_number(in);
	len = row_get_number(in);
	if (in->bad || index > STORE_INDEX_MAX || len > (size_t)(in->end - in->at)) {
		in->bad = true;
		return false;
	}
	*receivers = (struct row_in){ in->at, in->at + len, false };
	in->at += len;
	r->index = (uint32_t)index;
	r->origin = row_get_number(receivers);
	if (r->origin != 0)
		r->origin_number = row_get_number(receivers);
	if (!row_get_message(receivers, &r->message, last)) {
		in->bad = true;
		return false;
	}
	r->receiver_count = row_get_number(receivers);
	if (receivers->bad || r->receiver_count > (size_t)(receivers->end - receivers->at)) {
		in->bad = true;
		return false;
	}
	return true;
}

bool
row_get_receiver(struct row_in *receivers, struct row_receiver *r, uint32_t ids[ROW_IDS_MAX])
{
	uint64_t flags;

	if (receivers->bad || receivers->at == receivers->end)
		return false;
	*r = (struct row_receiver){ .session = row_get_number(receivers) };
	flags = row_get_number(receivers);
	r->qos = flags & 3u;
	r->retain = row_get_flag(flags, 2);
	if (flags >> 3 > ROW_IDS_MAX || r->qos > 2)
		receivers->bad = true;
	else
		r->id_count = (uint32_t)(flags >> 3);
	for (uint32_t i = 0; i < r->id_count; i++)
		ids[i] = (uint32_t)row_get_number(receivers);
	r->ids = ids;
	return !receivers->bad;
}

static uint64_t
zigzag(uint64_t now, uint64_t before)
{
	uint64_t d = now - before;

	return d << 1 ^ (uint64_t) - (int64_t)(d >> 63);
}

static uint64_t
unzigzag(uint64_t n, uint64_t before)
{
	return before + (n >> 1 ^ (uint64_t) - (int64_t)(n & 1));
}

void
row_finished(struct row_out *o, const struct row_finished *f, struct row_finished *before)
{
	row_number(o, zigzag(f->receiver, before->receiver));
	row_number(o, zigzag(f->address, before->address));
	*before = *f;
}

bool
row_get_finished(struct row_in *in, struct row_finished *f, struct row_finished *before)
{
	if (in->bad || in->at == in->end)
		return false;
	f->receiver = unzigzag(row_get_number(in), before->receiver);
	f->address = unzigzag(row_get_number(in), before->address);
	*before = *f;
	return !in->bad;
}

/* ---- the others ---------------------------------------------------------------------------------------- */

enum { SESSION_ONLINE, SESSION_GROUP, SESSION_EXPIRES, SESSION_WILL, SESSION_WILL_DUE };

void
row_session(struct row_out *o, const struct row_session *s)
{
	row_number(o,
	    (uint64_t)s->online << SESSION_ONLINE | (uint64_t)s->group << SESSION_GROUP |
		(uint64_t)s->expires.set << SESSION_EXPIRES |
		(uint64_t)s->has_will << SESSION_WILL |
		(uint64_t)s->will_due.set << SESSION_WILL_DUE);
	row_identity(o, &s->who);
	row_string(o, s->auth_plugin);
	row_number(o, s->expiry);
	row_number(o, s->connected_s);
	if (s->expires.set)
		put_time(o, &s->expires);
	if (!s->has_will)
		return;
	row_number(o, s->will_delay);
	if (s->will_due.set)
		put_time(o, &s->will_due);
	row_message(o, &s->will, true);
}

bool
row_get_session(struct row_in *in, struct row_session *s, struct row_author *who)
{
	uint64_t flags = row_get_number(in);

	*s = (struct row_session){ .online = row_get_flag(flags, SESSION_ONLINE),
		.group = row_get_flag(flags, SESSION_GROUP),
		.has_will = row_get_flag(flags, SESSION_WILL) };
	if (!get_author(in, who))
		in->bad = true;
	s->who = who->who;
	s->auth_plugin = row_get_string(in);
	s->expiry = (uint32_t)row_get_number(in);
	s->connected_s = row_get_number(in);
	if (row_get_flag(flags, SESSION_EXPIRES))
		s->expires = get_time(in);
	if (s->has_will) {
		s->will_delay = (uint32_t)row_get_number(in);
		if (row_get_flag(flags, SESSION_WILL_DUE))
			s->will_due = get_time(in);
		(void)row_get_message(in, &s->will, who);
	}
	return !in->bad;
}

enum { SUB_NO_LOCAL_BIT = 4, SUB_AS_PUBLISHED_BIT, SUB_WILD_FIRST_BIT };

void
row_subscription(struct row_out *o, const struct row_subscription *s)
{
	row_number(o,
	    (uint64_t)(s->qos & 3u) | (uint64_t)(s->retain_handling & 3u) << 2 |
		(uint64_t)s->no_local << SUB_NO_LOCAL_BIT |
		(uint64_t)s->retain_as_published << SUB_AS_PUBLISHED_BIT |
		(uint64_t)s->wild_first << SUB_WILD_FIRST_BIT);
	row_number(o, s->id);
}

bool
row_get_subscription(struct row_in *in, struct row_subscription *s)
{
	uint64_t flags = row_get_number(in);

	*s = (struct row_subscription){ .qos = flags & 3u,
		.retain_handling = flags >> 2 & 3u,
		.no_local = row_get_flag(flags, SUB_NO_LOCAL_BIT),
		.retain_as_published = row_get_flag(flags, SUB_AS_PUBLISHED_BIT),
		.wild_first = row_get_flag(flags, SUB_WILD_FIRST_BIT),
		.id = (uint32_t)row_get_number(in) };
	if (s->qos > 2 || s->retain_handling > 2)
		in->bad = true;
	return !in->bad;
}

void
row_exchange(struct row_out *o, const struct row_exchange *x)
{
	row_number(o, x->confirmed);
	row_number(o, x->received_count);
	row_number(o, x->sent_count);
}

bool
row_get_exchange(struct row_in *in, struct row_exchange *x)
{
	*x = (struct row_exchange){ .confirmed = row_get_number(in) };
	x->received_count = (uint32_t)row_get_number(in);
	x->sent_count = (uint32_t)row_get_number(in);
	if (x->received_count > 65535 || x->sent_count > 65535)
		in->bad = true;
	return !in->bad;
}

void
row_ban(struct row_out *o, const struct row_ban *b)
{
	put_time(o, &b->until);
	row_number(o, b->bans);
}

bool
row_get_ban(struct row_in *in, struct row_ban *b)
{
	b->until = get_time(in);
	b->bans = (uint32_t)row_get_number(in);
	return !in->bad;
}
