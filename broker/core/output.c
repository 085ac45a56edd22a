/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output - what is written to a Network Connection
 *
 * Bytes collect in chunks until the turn ends; then one writev takes them all. A connection without output holds
 * no chunk. Chunks come from small pools of the worker.
 */
#include "core/conn.h"
#include "core/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define IOV_MAX_HERE 64

/* A tiny one has room for what stands before a payload that is not copied. */
static const struct {
	uint32_t capacity;
	unsigned keep; /* so many in the pool */
} classes[OUT_CLASSES] = {
	[OUT_TINY] = { 256 - sizeof(struct out_chunk), 1024 },
	[OUT_SMALL] = { 2048 - sizeof(struct out_chunk), 512 },
	[OUT_LARGE] = { 32768 - sizeof(struct out_chunk), 64 },
};

/* last: the chunk that it will stand behind; NULL: it is the first. */
static __attribute__((noinline)) struct out_chunk *
chunk_new(struct worker *w, size_t len, const struct out_chunk *last)
{
	unsigned class = last == NULL ? OUT_SMALL : last->ref != NULL ? OUT_TINY : OUT_LARGE;
	struct out_pool *p = &w->core->pool;
	struct out_chunk *k;
	size_t capacity;

	while (class < OUT_CLASSES && len > classes[class].capacity)
		class ++;
	if (class < OUT_CLASSES && p->free[class] != NULL) {
		k = p->free[class];
		p->free[class] = k->next;
		p->count[class]--;
		capacity = classes[class].capacity;
	} else {
		capacity = class < OUT_CLASSES ? classes[class].capacity : len;
		if ((k = malloc(sizeof(*k) + capacity)) == NULL)
			return NULL;
	}
	if (capacity > classes[OUT_SMALL].capacity)
		overload_output(w);
	k->next = NULL;
	k->ref_data = NULL;
	k->ref = NULL;
	k->ref_len = 0;
	k->start = k->end = 0;
	k->capacity = (uint32_t)capacity;
	return k;
}

static void
chunk_free(struct out_pool *p, struct out_chunk *k)
{
	if (k->ref != NULL)
		message_unref(k->ref);
	for (unsigned class = 0; class < OUT_CLASSES; class ++) {
		if (k->capacity != classes[class].capacity ||
		    p->count[class] == classes[class].keep)
			continue;
		k->next = p->free[class];
		p->free[class] = k;
		p->count[class]++;
		return;
	}
	free(k);
}

void
out_pool_clear(struct out_pool *p)
{
	for (unsigned class = 0; class < OUT_CLASSES; class ++) {
		for (struct out_chunk *k = p->free[class], *next; k != NULL; k = next) {
			next = k->next;
			free(k);
		}
	}
	memset(p, 0, sizeof(*p));
}

void
conn_mark_dirty(struct conn *c)
{
	if (c->dirty || c->dead)
		return;
	c->dirty = true;
	c->next = c->w->dirty.first;
	c->w->dirty.first = c;
}

static void
out_append(struct conn *c, struct out_chunk *k)
{
	if (c->out_last == NULL)
		c->out_first = k;
	else
		c->out_last->next = k;
	c->out_last = k;
}

uint8_t *
conn_out(struct conn *c, size_t len)
{
	struct out_chunk *k = c->out_last;
	uint8_t *p;

	if (k == NULL || k->ref != NULL || k->capacity - k->end < len) {
		if ((k = chunk_new(c->w, len, k)) == NULL)
			return NULL;
		out_append(c, k);
	}
	p = k->data + k->end;
	k->end += (uint32_t)len;
	c->out_bytes += len;
	c->w->core->unwritten += len;
	metric_add(&c->w->metrics, METRIC_OUTPUT_BYTES, (int64_t)len);
	conn_mark_dirty(c);
	return p;
}

void
conn_fail(struct conn *c)
{
	c->no_memory = true;
	conn_mark_dirty(c);
}

/* Bytes that are not copied, part of msg (heap), behind those that conn_out has just given. */
static void
out_refer(struct conn *c, struct message *msg, const char *data, size_t len)
{
	struct out_chunk *k = c->out_last;

	k->ref = message_ref(msg);
	k->ref_data = data;
	k->ref_len = (uint32_t)len;
	c->out_bytes += len;
	c->w->core->unwritten += len;
	metric_add(&c->w->metrics, METRIC_OUTPUT_BYTES, (int64_t)len);
	overload_output(c->w);
}

void
out_clear(struct conn *c)
{
	for (struct out_chunk *k = c->out_first, *next; k != NULL; k = next) {
		next = k->next;
		chunk_free(&c->w->core->pool, k);
	}
	c->out_first = c->out_last = NULL;
	metric_add(&c->w->metrics, METRIC_OUTPUT_BYTES, -(int64_t)c->out_bytes);
	c->out_bytes = 0;
}

/* ---- packets -------------------------------------------------------------------------- */

void
conn_send_ack(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code,
    struct grapnel_str reason_string)
{
	struct mqtt_ack a = { .packet_id = packet_id, .reason_code = reason_code };
	size_t size;
	uint8_t *p;

	if (reason_code == 0 && reason_string.data == NULL) {
		if ((p = conn_out(c, MQTT_ACK_PLAIN_SIZE)) == NULL) {
			conn_fail(c); /* whoever acknowledges goes on with the Session */
			return;
		}
		mqtt_ack_encode_plain(p, type, packet_id);
		metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
		return;
	}
	/* A plugin may have chosen one that this packet does not have. */
	if (!mqtt_reason_valid(type, reason_code))
		a.reason_code = reason_code >= 0x80 ? RC_IMPLEMENTATION_SPECIFIC : RC_SUCCESS;
	/* Request Problem Information 0: no Reason String here [MQTT-3.1.2-29]. */
	if (c->problem_info)
		a.reason_string = reason_string;
	size = mqtt_ack_size(c->version, &a);
	if (c->client_max_packet != 0 && size > c->client_max_packet) {
		a.reason_string.data = NULL; /* [MQTT-3.4.2-2] */
		size = mqtt_ack_size(c->version, &a);
	}
	if ((p = conn_out(c, size)) == NULL) {
		conn_fail(c); /* whoever acknowledges goes on with the Session */
		return;
	}
	mqtt_ack_encode(p, c->version, type, &a);
	metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
}

void
conn_send_disconnect(
    struct conn *c, uint8_t reason_code, const char *why, struct grapnel_str server_reference)
{
	struct mqtt_disconnect d = { .reason_code = reason_code,
		.server_reference = server_reference };
	size_t size;
	uint8_t *p;

	if (c->version != 5)
		return;
	if (!mqtt_reason_valid(MQTT_DISCONNECT, reason_code))
		d.reason_code = RC_UNSPECIFIED;
	if (why != NULL)
		d.reason_string = (struct grapnel_str){ why, strlen(why) };
	size = mqtt_disconnect_size(5, MQTT_DISCONNECT, &d);
	if (c->client_max_packet != 0 && size > c->client_max_packet) {
		d.reason_string.data = NULL; /* [MQTT-3.14.2-3] */
		size = mqtt_disconnect_size(5, MQTT_DISCONNECT, &d);
	}
	if ((p = conn_out(c, size)) != NULL) {
		mqtt_disconnect_encode(p, 5, MQTT_DISCONNECT, &d);
		metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
	}
}

/* ---- topic aliases towards the Client --------------------------------------------------- */

struct alias_out {
	uint16_t count, max;
	struct {
		uint16_t len;
		char *topic;
	} t[];
};

void
alias_out_free(struct conn_extra *x)
{
	if (x->alias_out == NULL)
		return;
	for (unsigned i = 0; i < x->alias_out->count; i++)
		free(x->alias_out->t[i].topic);
	free(x->alias_out);
	x->alias_out = NULL;
}

/* The alias of a Topic Name, 0: none. *fresh: it was given just now, the name must be sent with it. */
static uint16_t
alias_out(struct conn *c, struct grapnel_str topic, bool *fresh)
{
	struct conn_extra *x;
	struct alias_out *a;
	char *copy;

	*fresh = false;
	if (topic.len < 4 || (x = conn_extra(c)) == NULL) /* shorter ones gain nothing */
		return 0;
	if ((a = x->alias_out) == NULL) {
		uint16_t max = c->alias_out_max < c->limits->topic_alias_maximum
		    ? c->alias_out_max
		    : (uint16_t)c->limits->topic_alias_maximum;

		if (max == 0 || (a = calloc(1, sizeof(*a) + max * sizeof(a->t[0]))) == NULL)
			return 0;
		a->max = max;
		x->alias_out = a;
	}
	for (unsigned i = 0; i < a->count; i++)
		if (a->t[i].len == topic.len && memcmp(a->t[i].topic, topic.data, topic.len) == 0)
			return (uint16_t)(i + 1);
	if (a->count == a->max || (copy = malloc(topic.len)) == NULL)
		return 0;
	memcpy(copy, topic.data, topic.len);
	a->t[a->count].topic = copy;
	a->t[a->count].len = (uint16_t)topic.len;
	*fresh = true;
	return ++a->count;
}

/* ---- PUBLISH -------------------------------------------------------------------------------- */

static void
delivered_event(struct conn *c, const struct message *msg, uint8_t qos, bool retain, bool dup)
{
	struct grapnel_client_info info;
	struct grapnel_message_info mi;
	struct grapnel_event ev = {
		.type = GRAPNEL_EVENT_MESSAGE_DELIVERED, .client = &info, .message = &mi, .qos = qos
	};

	session_info(c->session, &info);
	message_info_of(msg, session_mountpoint(c->session), &mi);
	mi.qos = qos;
	mi.retain = retain;
	mi.dup = dup;
	event_emit(c->w, &ev);
}

/* Encode it. cacheable: others may copy what is written here while the message is routed. */
static __attribute__((noinline)) int
send_new(struct conn *c, struct message *msg, subids ids, uint8_t qos, bool retain, bool dup,
    uint16_t packet_id, uint32_t skip, bool cacheable)
{
	struct encoded *enc = &c->w->core->encoded;
	uint32_t id_list[SUBIDS_MAX];
	struct mqtt_publish_out o = { 0 };
	struct message *kept;
	bool fresh = false;
	size_t head, total;
	uint8_t *p;

	o.topic_name = (struct grapnel_str){ msg->topic + skip, msg->topic_len - skip };
	o.payload_len = msg->payload_len;
	o.packet_id = packet_id;
	o.qos = qos;
	o.retain = retain;
	o.dup = dup;
	if (c->version == 5) {
		o.forward_props = (struct grapnel_str){ msg->props, msg->props_len };
		if (msg->flags & MSG_EXPIRES) {
			o.has_message_expiry = true;
			o.message_expiry = message_seconds_left(msg);
		}
		o.subscription_id_count = subids_get(ids, id_list, SUBIDS_MAX);
		o.subscription_ids = id_list;
		if (c->client_max_packet !=
		    0) { /* sized without an alias first: one that is not sent must not be given */
			head = mqtt_publish_head_size(5, &o);
			if (head == 0 || head + 3 + msg->payload_len > c->client_max_packet)
				return GRAPNEL_EQUOTA;
		}
		if (c->alias_out_max != 0) {
			o.topic_alias = alias_out(c, o.topic_name, &fresh);
			if (o.topic_alias != 0 && !fresh)
				o.topic_name.len = 0;
		}
	}
	head = mqtt_publish_head_size(c->version, &o);
	if (head == 0)
		return GRAPNEL_EQUOTA; /* with what we add it would be longer than MQTT allows */
	total = head + msg->payload_len;
	if (c->client_max_packet != 0 && total > c->client_max_packet)
		return GRAPNEL_EQUOTA; /* [MQTT-3.1.2-25] */
	if (msg->payload_len <= OUT_COPY_MAX) {
		if ((p = conn_out(c, total)) == NULL)
			return GRAPNEL_ENOMEM;
		memcpy(mqtt_publish_head_encode(p, c->version, &o), msg->payload, msg->payload_len);
		if (cacheable && enc->candidate == msg) {
			enc->bytes = p;
			enc->msg = msg;
			enc->len = (uint32_t)total;
			enc->version = c->version;
			enc->retain = retain;
			enc->topic_skip = skip;
		}
	} else {
		if ((kept = message_keep(msg)) == NULL)
			return GRAPNEL_ENOMEM;
		if ((p = conn_out(c, head)) != NULL) {
			mqtt_publish_head_encode(p, c->version, &o);
			out_refer(c, kept, kept->payload, kept->payload_len);
		}
		message_unref(kept);
		if (p == NULL)
			return GRAPNEL_ENOMEM;
	}
	return GRAPNEL_OK;
}

int
conn_send_publish(struct conn *c, struct message *msg, subids ids, uint8_t qos, bool retain,
    bool dup, uint16_t packet_id)
{
	const struct encoded *enc = &c->w->core->encoded;
	uint32_t skip =
	    c->session->mountpoint_len <= msg->topic_len ? c->session->mountpoint_len : 0;
	bool cacheable =
	    qos == 0 && (c->version < 5 || (ids == SUBIDS_NONE && c->alias_out_max == 0));
	uint8_t *p;
	int err;

	if (cacheable && enc->msg == msg && enc->version == c->version && enc->retain == retain &&
	    enc->topic_skip == skip) {
		if (c->client_max_packet != 0 && enc->len > c->client_max_packet)
			return GRAPNEL_EQUOTA;
		if ((p = conn_out(c, enc->len)) == NULL)
			return GRAPNEL_ENOMEM;
		/* From another connection's output: nothing is written while a message is routed. */
		memcpy(p, enc->bytes, enc->len);
	} else if ((err = send_new(c, msg, ids, qos, retain, dup, packet_id, skip, cacheable)) !=
	    GRAPNEL_OK) {
		return err;
	}
	c->session->messages_out++;
	metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
	metric_add(&c->w->metrics, METRIC_MESSAGES_SENT, 1);
	if (event_wanted(c->w, GRAPNEL_EVENT_MESSAGE_DELIVERED))
		delivered_event(c, msg, qos, retain, dup);
	return GRAPNEL_OK;
}

/* ---- writing ------------------------------------------------------------------------------------ */

static void
out_consume(struct conn *c, size_t n)
{
	c->out_bytes -= n;
	metric_add(&c->w->metrics, METRIC_OUTPUT_BYTES, -(int64_t)n);
	while (n > 0) {
		struct out_chunk *k = c->out_first;
		size_t own = k->end - k->start;

		if (n < own + k->ref_len) {
			if (n < own) {
				k->start += (uint32_t)n;
			} else {
				k->start = k->end;
				k->ref_data += n - own;
				k->ref_len -= (uint32_t)(n - own);
			}
			return;
		}
		n -= own + k->ref_len;
		c->out_first = k->next;
		if (c->out_first == NULL)
			c->out_last = NULL;
		chunk_free(&c->w->core->pool, k);
	}
}

void
conn_lost(struct conn *c)
{
	if (c->state != CONN_CLOSING) {
		conn_close(c, 0, "connection lost while writing");
		return;
	}
	c->last_words = false; /* nobody is there to read them */
	out_clear(c);
	conn_finish(c);
}

/* @return how many pieces; *want: bytes of them. */
static int
out_pieces(const struct conn *c, struct iovec *iov, size_t *want)
{
	int n = 0;

	*want = 0;
	for (const struct out_chunk *k = c->out_first; k != NULL && n < IOV_MAX_HERE - 1;
	     k = k->next) {
		if (k->end > k->start)
			iov[n++] = (struct iovec){ (void *)(uintptr_t)(k->data + k->start),
				k->end - k->start };
		if (k->ref_len > 0)
			iov[n++] = (struct iovec){ (void *)(uintptr_t)k->ref_data, k->ref_len };
		*want += k->end - k->start + k->ref_len;
	}
	return n;
}

void
conn_flush(struct conn *c)
{
	if (c->dead)
		return;
	if (c->no_memory && c->state != CONN_CLOSING) {
		conn_close(c, 0, "out of memory");
		return;
	}
	if (c->corked)
		return;
	while (c->out_first != NULL) {
		struct iovec iov[IOV_MAX_HERE];
		size_t want;
		int n = out_pieces(c, iov, &want);
		ssize_t got;

		got = c->stream.ops->writev(&c->stream, iov, n);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN && errno != EWOULDBLOCK) {
				conn_lost(c);
				return;
			}
			got = 0;
		}
		metric_add(&c->w->metrics, METRIC_BYTES_SENT, got);
		out_consume(c, (size_t)got);
		if ((size_t)got < want) {
			c->write_wait = true;
			conn_watch(c);
			break;
		}
	}
	if (c->dead)
		return;
	if (c->state == CONN_CLOSING) {
		if (c->out_first == NULL && !c->lingering)
			conn_finish(c);
		return;
	}
	if ((c->pause & PAUSE_OUTPUT) && c->out_bytes < conn_output_max(c, c->limits) / 4)
		conn_resume(c, PAUSE_OUTPUT);
	if (c->dead || c->session == NULL)
		return;
	if (c->session->congested || c->session->shared_held)
		congestion_eased(c->session);
	if (c->drain_waiting && c->out_bytes < conn_output_max(c, c->limits) / 4) {
		c->drain_waiting = false;
		deliver_pump(c->session);
	}
}

void
conn_flush_output(struct worker *w)
{
	struct conn *c, *next;

	shared_flush(w); /* makes output */
	w->core->unwritten = w->core->handled = 0;
	c = w->dirty.first;
	w->dirty.first = NULL;
	for (; c != NULL; c = next) {
		next = c->next;
		c->dirty = false;
		if (c->dead)
			conn_bury(c);
		else if (c->no_memory || !c->write_wait)
			conn_flush(c);
	}
	overload_output(w);
}

void
conn_flush_dirty(struct worker *w)
{
	if (w->core == NULL) /* main has no connections */
		return;
	conn_flush_output(w);
	decision_release(&w->core->last_decision); /* rights.c */
	conn_reap(w);
}
