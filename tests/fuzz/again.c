/* SPDX-License-Identifier: Apache-2.0 */
#include "again.h"

#include <stdlib.h>

/* A test that runs out of memory has nothing to say. */
static void *
must_alloc(size_t size)
{
	void *p = malloc(size);

	if (p == NULL)
		abort();
	return p;
}

static void
must(bool condition)
{
	if (!condition)
		abort();
}

/* ---- digest: FNV-1a over lengths and bytes ----------------------------------------------- */
static void
mix_bytes(uint64_t *h, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		*h = (*h ^ p[i]) * UINT64_C(0x100000001b3);
}

static void
mix(uint64_t *h, uint64_t v)
{
	mix_bytes(h, &v, sizeof(v));
}

static void
mix_str(uint64_t *h, struct grapnel_str s)
{
	mix(h, s.data != NULL);
	mix(h, s.len);
	mix_bytes(h, s.data, s.len);
}

static void
mix_message_props(uint64_t *h, const struct mqtt_message_props *mp)
{
	size_t size = mqtt_forward_size(mp);
	uint8_t *forward = must_alloc(size);

	must(mqtt_forward_put(forward, mp) == forward + size);
	mix_str(h, (struct grapnel_str){ (const char *)forward, size });
	free(forward);
	mix(h, mp->has_message_expiry);
	mix(h, mp->message_expiry);
	mix(h, mp->will_delay);
	mix(h, mp->topic_alias);
	mix(h, mp->payload_is_utf8);
	mix_str(h, mp->response_topic);
}

static void
reserve(struct again *out, size_t size)
{
	out->len = size;
	if (size > 0)
		out->bytes = must_alloc(size);
}

static void
finish(const struct again *out, const uint8_t *end)
{
	must(out->bytes != NULL && end == out->bytes + out->len);
}

/* An encoded block as an array, to be freed. */
static struct grapnel_property *
list_props(struct grapnel_str block, size_t *count)
{
	struct grapnel_property prop, *list;
	size_t pos = 0, n = 0;
	int more;

	while ((more = mqtt_property_next(block, &pos, &prop)) > 0)
		n++;
	must(more == 0);
	list = must_alloc((n + 1) * sizeof(*list));
	for (pos = 0, *count = 0; *count < n; ++*count)
		must(mqtt_property_next(block, &pos, &list[*count]) == 1);
	must(mqtt_properties_size(list, n) == block.len);
	return list;
}

/* ---- one function per shape -------------------------------------------------------------- */
static void
again_connect(struct wire *w, struct again *out)
{
	struct mqtt_connect c;
	uint64_t *h = &out->digest;

	if (mqtt_connect_decode(w, &c) != 0)
		return;
	mix(h, c.version);
	mix(h, c.bridge);
	mix(h, c.clean_start);
	mix(h, c.has_will);
	mix(h, c.has_username);
	mix(h, c.has_password);
	mix(h, c.request_problem_info);
	mix(h, c.request_response_info);
	mix(h, c.keep_alive);
	mix(h, c.receive_maximum);
	mix(h, c.topic_alias_maximum);
	mix(h, c.session_expiry);
	mix(h, c.maximum_packet_size);
	mix_str(h, c.client_id);
	mix_str(h, c.username);
	mix_str(h, c.password);
	mix_str(h, c.auth_method);
	mix_str(h, c.auth_data);
	mix_str(h, c.props);
	mix_str(h, c.will.topic_name);
	mix_str(h, c.will.payload);
	mix(h, c.will.qos);
	mix(h, c.will.retain);
	mix_message_props(h, &c.will.props);
	reserve(out, mqtt_connect_size(&c));
	if (out->bytes != NULL)
		finish(out, mqtt_connect_encode(out->bytes, &c));
}

static void
again_connack(struct wire *w, uint8_t version, struct again *out)
{
	struct mqtt_connack c;
	struct grapnel_property *props;

	if (mqtt_connack_decode(w, version, &c) != 0)
		return;
	mix(&out->digest, c.session_present);
	mix(&out->digest, c.reason_code);
	mix_str(&out->digest, c.prop_block);
	c.props = props = list_props(c.prop_block, &c.prop_count);
	reserve(out, mqtt_connack_size(version, &c));
	if (out->bytes != NULL)
		finish(out, mqtt_connack_encode(out->bytes, version, &c));
	free(props);
}

static void
again_publish(struct wire *w, uint8_t version, uint8_t flags, bool from_server, struct again *out)
{
	struct mqtt_publish p;
	struct mqtt_publish_out o;
	struct grapnel_property prop;
	size_t pos = 0, head, forward_size;
	uint32_t *ids;
	uint8_t *forward;
	uint64_t *h = &out->digest;
	unsigned count = 0;

	if ((from_server ? mqtt_publish_decode_from_server : mqtt_publish_decode)(
		w, version, flags, &p) != 0)
		return;
	mix_str(h, p.topic_name);
	mix_str(h, p.payload);
	mix(h, p.packet_id);
	mix(h, p.qos);
	mix(h, p.retain);
	mix(h, p.dup);
	mix_message_props(h, &p.props);
	ids = must_alloc((p.props.block.len + 1) * sizeof(*ids));
	while (mqtt_property_next(p.props.block, &pos, &prop) > 0)
		if (prop.id == PROP_SUBSCRIPTION_IDENTIFIER) {
			mix(h, prop.u.number);
			ids[count++] = prop.u.number;
		}
	must(from_server || count == 0);

	forward_size = mqtt_forward_size(&p.props);
	forward = must_alloc(forward_size);
	must(mqtt_forward_put(forward, &p.props) == forward + forward_size);
	o = (struct mqtt_publish_out){
		.topic_name = p.topic_name,
		.forward_props = { (const char *)forward, forward_size },
		.subscription_ids = ids,
		.subscription_id_count = count,
		.message_expiry = p.props.message_expiry,
		.payload_len = (uint32_t)p.payload.len,
		.packet_id = p.packet_id,
		.topic_alias = p.props.topic_alias,
		.qos = p.qos,
		.retain = p.retain,
		.dup = p.dup,
		.has_message_expiry = p.props.has_message_expiry,
	};
	head = mqtt_publish_head_size(version, &o);
	reserve(out, head > 0 ? head + p.payload.len : 0);
	if (out->bytes != NULL)
		finish(out,
		    wire_put_bytes(mqtt_publish_head_encode(out->bytes, version, &o), p.payload));
	free(forward);
	free(ids);
}

static void
again_ack(struct wire *w, uint8_t version, uint8_t type, struct again *out)
{
	struct mqtt_ack a;

	if (mqtt_ack_decode(w, version, type, &a) != 0)
		return;
	mix(&out->digest, a.packet_id);
	mix(&out->digest, a.reason_code);
	mix_str(&out->digest, a.reason_string);
	reserve(out, mqtt_ack_size(version, &a));
	if (out->bytes != NULL)
		finish(out, mqtt_ack_encode(out->bytes, version, type, &a));
}

static void
again_subscribe(struct wire *w, uint8_t version, uint8_t type, struct again *out)
{
	bool subscribe = type == MQTT_SUBSCRIBE;
	struct mqtt_subscribe s;
	struct mqtt_subscription *items;
	struct wire walk;
	unsigned n = 0;
	uint64_t *h = &out->digest;

	if ((subscribe ? mqtt_subscribe_decode : mqtt_unsubscribe_decode)(w, version, &s) != 0)
		return;
	mix(h, s.packet_id);
	mix(h, s.subscription_id);
	mix(h, s.count);
	items = must_alloc((s.count + 1) * sizeof(*items));
	walk = s.items;
	while (
	    (subscribe ? mqtt_subscribe_next : mqtt_unsubscribe_next)(&walk, version, &items[n])) {
		mix_str(h, items[n].filter);
		mix_str(h, items[n].share);
		mix_str(h, items[n].rest);
		mix(h, items[n].qos);
		mix(h, items[n].retain_handling);
		mix(h, items[n].no_local);
		mix(h, items[n].retain_as_published);
		must(++n <= s.count);
	}
	must(n == s.count && walk.err == 0);
	reserve(out, mqtt_subscribe_size(version, type, s.subscription_id, items, n));
	if (out->bytes != NULL)
		finish(out,
		    mqtt_subscribe_encode(
			out->bytes, version, type, s.packet_id, s.subscription_id, items, n));
	free(items);
}

static void
again_suback(struct wire *w, uint8_t version, uint8_t type, struct again *out)
{
	struct mqtt_suback s;

	if (mqtt_suback_decode(w, version, type, &s) != 0)
		return;
	mix(&out->digest, s.packet_id);
	mix(&out->digest, s.count);
	mix_bytes(&out->digest, s.codes, s.count);
	mix_str(&out->digest, s.reason_string);
	reserve(out, mqtt_suback_size(version, type, &s));
	if (out->bytes != NULL)
		finish(out, mqtt_suback_encode(out->bytes, version, type, &s));
}

static void
again_disconnect(struct wire *w, uint8_t version, uint8_t type, struct again *out)
{
	struct mqtt_disconnect d;
	uint64_t *h = &out->digest;

	if ((type == MQTT_AUTH ? mqtt_auth_decode(w, &d)
			       : mqtt_disconnect_decode(w, version, &d)) != 0)
		return;
	mix(h, d.reason_code);
	mix(h, d.has_session_expiry);
	mix(h, d.session_expiry);
	mix_str(h, d.reason_string);
	mix_str(h, d.server_reference);
	mix_str(h, d.auth_method);
	mix_str(h, d.auth_data);
	reserve(out, mqtt_disconnect_size(version, type, &d));
	if (out->bytes != NULL)
		finish(out, mqtt_disconnect_encode(out->bytes, version, type, &d));
}

void
again(uint8_t version, bool from_server, const struct mqtt_frame *f, const uint8_t *packet,
    struct again *out)
{
	uint8_t *body = must_alloc(f->remaining);
	struct wire w;

	*out = (struct again){ .digest = UINT64_C(0xcbf29ce484222325) };
	if (f->remaining > 0)
		memcpy(body, packet + f->header_len, f->remaining);
	wire_init(&w, body, f->remaining);
	switch ((enum mqtt_type)f->type) {
	case MQTT_CONNECT:
		again_connect(&w, out);
		break;
	case MQTT_CONNACK:
		again_connack(&w, version, out);
		break;
	case MQTT_PUBLISH:
		again_publish(&w, version, f->flags, from_server, out);
		break;
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		again_ack(&w, version, f->type, out);
		break;
	case MQTT_SUBSCRIBE:
	case MQTT_UNSUBSCRIBE:
		again_subscribe(&w, version, f->type, out);
		break;
	case MQTT_SUBACK:
	case MQTT_UNSUBACK:
		again_suback(&w, version, f->type, out);
		break;
	case MQTT_PINGREQ:
	case MQTT_PINGRESP:
		reserve(out, 2);
		finish(out, mqtt_ping_encode(out->bytes, f->type));
		break;
	case MQTT_DISCONNECT:
	case MQTT_AUTH:
		again_disconnect(&w, version, f->type, out);
		break;
	}
	out->err = w.err;
	out->why = w.why;
	/* Whoever refuses has a Reason Code and says why; nothing is left to read. */
	must(w.err == 0 ? w.why == NULL : w.err >= 0x80 && w.why != NULL && wire_left(&w) == 0);
	free(body);
}
