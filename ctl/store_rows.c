/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include "mqtt/packet.h"
#include <stdlib.h>
#include <string.h>

#define ATTRIBUTES_MAX 1024u

static json_t *
append_object(json_t *array)
{
	json_t *o = json_object();

	return json_array_append_new(array, o) == 0 ? o : NULL;
}

/* An array as a member of o. NULL: no memory. */
static json_t *
put_array(json_t *o, const char *name)
{
	json_t *array = json_array();

	return json_object_set_new(o, name, array) == 0 ? array : NULL;
}

/* ---- who ----------------------------------------------------------------------------------------- */

static bool
put_filled(json_t *o, const char *name, struct grapnel_str text)
{
	return text.len == 0 || json_put_text(o, name, text);
}

bool
rows_put_identity(json_t *o, const struct grapnel_client_info *who)
{
	json_t *array, *one;

	if (!json_put_text(o, "client_id", who->client_id) ||
	    !put_filled(o, "mountpoint", who->mountpoint) ||
	    !json_put_text(o, "username", who->username) ||
	    !put_filled(o, "listener", who->listener) || !put_filled(o, "peer", who->peer) ||
	    !json_put_number(o, "protocol", who->protocol) ||
	    (who->identity_source != 0 &&
		!json_put_number(o, "identity_source", who->identity_source)) ||
	    !json_put_flag(o, "superuser", who->superuser) ||
	    !json_put_flag(o, "anonymous", who->anonymous))
		return false;
	if (who->attribute_count == 0)
		return true;
	if ((array = put_array(o, "attributes")) == NULL)
		return false;
	for (size_t i = 0; i < who->attribute_count; i++)
		if ((one = append_object(array)) == NULL ||
		    !json_put_text(one, "name", who->attributes[i].name) ||
		    !json_put_text(one, "value", who->attributes[i].value))
			return false;
	return true;
}

static struct grapnel_str
take_or_empty(struct json_in *in, const char *name)
{
	struct grapnel_str text = json_take_text(in, name);

	return text.data != NULL ? text : GRAPNEL_STR("");
}

void
rows_take_identity(struct json_in *in, struct grapnel_client_info *who)
{
	const json_t *array, *value;
	struct grapnel_pair *pairs;
	size_t i, count;

	*who = (struct grapnel_client_info){ .size = sizeof(*who) };
	who->client_id = json_need_text(in, "client_id");
	who->mountpoint = take_or_empty(in, "mountpoint");
	who->username = json_take_text(in, "username");
	who->listener = take_or_empty(in, "listener");
	who->peer = take_or_empty(in, "peer");
	who->protocol = (uint8_t)json_take_number(in, "protocol", 0, GRAPNEL_MQTT_5_0);
	who->identity_source = (uint8_t)json_take_number(in, "identity_source", 0, 7);
	who->superuser = json_take_flag(in, "superuser");
	who->anonymous = json_take_flag(in, "anonymous");
	array = json_take_array(in, "attributes");
	if (who->client_id.len > UINT16_MAX || who->username.len > UINT16_MAX)
		json_line_error(in->line, "a client id or user name is longer than 65535 bytes");
	if ((count = json_array_size(array)) == 0)
		return;
	if (count > ATTRIBUTES_MAX) {
		json_line_error(
		    in->line, "%s has more than %u attributes", in->name, ATTRIBUTES_MAX);
		return;
	}
	if ((pairs = json_line_room(in->line, count * sizeof(*pairs))) == NULL)
		return;
	json_array_foreach(array, i, value)
	{
		struct json_in o = json_in_member(in, value, "attributes");

		pairs[i].name = json_need_text(&o, "name");
		pairs[i].value = json_need_text(&o, "value");
		if (!json_in_end(&o))
			return;
	}
	who->attributes = pairs;
	who->attribute_count = count;
}

/* ---- properties ------------------------------------------------------------------------------------ */

/* Those that are passed on with a message. */
static const struct {
	const char *name;
	uint32_t id;
} properties[] = {
	{ "payload_format", PROP_PAYLOAD_FORMAT },
	{ "content_type", PROP_CONTENT_TYPE },
	{ "response_topic", PROP_RESPONSE_TOPIC },
	{ "correlation_data", PROP_CORRELATION_DATA },
	{ "user_property", PROP_USER_PROPERTY },
};
#define PROPERTY_COUNT (sizeof(properties) / sizeof(properties[0]))

static bool
put_property(json_t *array, const char *name, const struct grapnel_property *p)
{
	json_t *o = append_object(array);

	if (o == NULL || json_object_set_new(o, "property", json_string(name)) != 0)
		return false;
	if (p->id == PROP_PAYLOAD_FORMAT)
		return json_put_number(o, "value", p->u.number);
	if (p->id == PROP_USER_PROPERTY)
		return json_put_text(o, "name", p->u.pair.name) &&
		    json_put_text(o, "value", p->u.pair.value);
	return json_put_text(o, "value", p->u.str);
}

static const char *
property_name(uint32_t id)
{
	for (size_t i = 0; i < PROPERTY_COUNT; i++)
		if (properties[i].id == id)
			return properties[i].name;
	return NULL;
}

/* A block that is not what it should be is shown as it is. */
static bool
put_properties(json_t *o, struct grapnel_str block)
{
	json_t *array = json_array();
	struct grapnel_property p;
	size_t pos = 0;
	int rc;

	while (array != NULL && (rc = mqtt_property_next(block, &pos, &p)) != 0) {
		const char *name = rc > 0 ? property_name(p.id) : NULL;

		if (name == NULL) {
			json_decref(array);
			return json_put_text(
			    o, "properties", (struct grapnel_str){ block.data, block.len });
		}
		if (!put_property(array, name, &p)) {
			json_decref(array);
			return false;
		}
	}
	return json_object_set_new(o, "properties", array) == 0;
}

static void
take_property(struct json_in *in, const json_t *value, struct grapnel_property *p)
{
	struct json_in o = json_in_member(in, value, "properties");
	struct grapnel_str name = json_need_text(&o, "property");

	*p = (struct grapnel_property){ 0 };
	for (size_t i = 0; i < PROPERTY_COUNT && name.data != NULL; i++)
		if (strcmp(properties[i].name, name.data) == 0)
			p->id = properties[i].id;
	if (p->id == PROP_PAYLOAD_FORMAT) {
		p->u.number = (uint32_t)json_need_number(&o, "value", 1);
	} else if (p->id == PROP_USER_PROPERTY) {
		p->u.pair.name = json_need_text(&o, "name");
		p->u.pair.value = json_need_text(&o, "value");
		if (p->u.pair.name.len > UINT16_MAX || p->u.pair.value.len > UINT16_MAX)
			json_line_error(in->line, "a property is longer than 65535 bytes");
	} else if (p->id != 0) {
		p->u.str = json_need_text(&o, "value");
		if (p->u.str.len > UINT16_MAX)
			json_line_error(in->line, "a property is longer than 65535 bytes");
	} else {
		json_line_error(in->line, "there is no property \"%.40s\" of a message",
		    name.data != NULL ? name.data : "");
	}
	json_in_end(&o);
}

static struct grapnel_str
take_properties(struct json_in *in)
{
	struct grapnel_str block = { NULL, 0 };
	const json_t *array = json_object_get(in->object, "properties"), *value;
	struct grapnel_property *list;
	size_t i, count;
	uint8_t *room;

	if (!json_is_array(array))
		return json_take_text(in, "properties");
	array = json_take_array(in, "properties");
	if ((count = json_array_size(array)) == 0 ||
	    (list = json_line_room(in->line, count * sizeof(*list))) == NULL)
		return block;
	json_array_foreach(array, i, value)
	{
		take_property(in, value, &list[i]);
		if (in->line->error[0] != '\0')
			return block;
	}
	block.len = mqtt_properties_size(list, count);
	if ((room = json_line_room(in->line, block.len)) == NULL)
		return (struct grapnel_str){ NULL, 0 };
	mqtt_properties_put(room, list, count);
	block.data = (char *)room;
	return block;
}

/* ---- messages ---------------------------------------------------------------------------------------- */

bool
rows_put_message(json_t *o, const struct row_message *m, bool author)
{
	json_t *who;

	if (!json_put_text(o, "topic", m->topic) || !json_put_text(o, "payload", m->payload) ||
	    !json_put_number(o, "qos", m->qos) || !json_put_flag(o, "retain", m->retain) ||
	    !json_put_flag(o, "will", m->will) || !json_put_time(o, "expires", &m->expires) ||
	    (m->props.len > 0 && !put_properties(o, m->props)))
		return false;
	if (!author || !m->has_author)
		return true;
	who = json_object();
	return json_object_set_new(o, "author", who) == 0 && rows_put_identity(who, &m->author);
}

const char *
rows_check_message(struct row_message *m, struct row_out *scratch, struct rows_ids *ids)
{
	uint8_t *head = NULL, *p;
	struct mqtt_publish publish;
	struct grapnel_property prop;
	const char *why = NULL;
	size_t size, pos = 0;
	struct wire w;

	if (m->topic.len > UINT16_MAX || m->props.len > WIRE_VARINT_MAX ||
	    m->payload.len > WIRE_VARINT_MAX)
		return "it is larger than a message can be";
	size = 2 + m->topic.len + 4 + m->props.len;
	if ((head = malloc(size)) == NULL)
		return "no memory";
	p = wire_put_str(head, m->topic);
	p = wire_put_varint(p, (uint32_t)m->props.len);
	p = wire_put_bytes(p, m->props);
	wire_init(&w, head, (size_t)(p - head));
	if (mqtt_publish_decode_from_server(&w, GRAPNEL_MQTT_5_0, 0, &publish) != 0) {
		why = w.why;
	} else {
		row_clear(scratch);
		m->utf8 = publish.props.payload_is_utf8;
		size = mqtt_forward_size(&publish.props);
		if (size > 0 && (p = row_room(scratch, size)) == NULL)
			why = "no memory";
		else if (size > 0)
			mqtt_forward_put(p, &publish.props);
		m->props = (struct grapnel_str){ (char *)scratch->data, size };
	}
	while (why == NULL && mqtt_property_next(publish.props.block, &pos, &prop) > 0) {
		if (prop.id != PROP_SUBSCRIPTION_IDENTIFIER)
			continue;
		if (ids == NULL || ids->count == ROW_IDS_MAX)
			why = "it has Subscription Identifiers where none can be, or too many";
		else
			ids->ids[ids->count++] = prop.u.number;
	}
	free(head);
	return why;
}

void
rows_take_message(struct json_in *in, struct row_message *m, bool author)
{
	struct json_in who;

	*m = (struct row_message){ 0 };
	m->topic = json_need_text(in, "topic");
	m->payload = json_need_text(in, "payload");
	m->qos = (uint8_t)json_need_number(in, "qos", 2);
	m->retain = json_take_flag(in, "retain");
	m->will = json_take_flag(in, "will");
	m->expires = json_take_time(in, "expires");
	m->props = take_properties(in);
	if (!author)
		return;
	who = json_take_object(in, "author");
	if (who.object == NULL)
		return;
	m->has_author = true;
	rows_take_identity(&who, &m->author);
	json_in_end(&who);
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

static bool
put_will(json_t *o, const struct row_session *s)
{
	json_t *will;

	if (!s->has_will)
		return true;
	will = json_object();
	return json_object_set_new(o, "will_message", will) == 0 &&
	    rows_put_message(will, &s->will, false) &&
	    json_put_number(will, "delay", s->will_delay) &&
	    json_put_time(will, "due", &s->will_due);
}

json_t *
rows_session(uint64_t id, const struct row_session *s)
{
	json_t *o = json_object();

	if (o == NULL || json_object_set_new(o, "type", json_string("session")) != 0 ||
	    !json_put_number(o, "id", id) || !json_put_flag(o, "group", s->group) ||
	    !rows_put_identity(o, &s->who) || !put_filled(o, "auth_plugin", s->auth_plugin) ||
	    !json_put_number(o, "expiry", s->expiry) ||
	    !json_put_number(o, "connected", s->connected_s) ||
	    !json_put_flag(o, "online", s->online) || !json_put_time(o, "expires", &s->expires) ||
	    !put_will(o, s)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

void
rows_take_session(struct json_in *in, struct row_session *s)
{
	struct json_in will;

	*s = (struct row_session){ 0 };
	s->group = json_take_flag(in, "group");
	rows_take_identity(in, &s->who);
	s->auth_plugin = take_or_empty(in, "auth_plugin");
	s->expiry = (uint32_t)json_take_number(in, "expiry", UINT32_MAX, UINT32_MAX);
	s->connected_s = json_take_number(in, "connected", 0, INT64_MAX);
	s->online = json_take_flag(in, "online");
	s->expires = json_take_time(in, "expires");
	will = json_take_object(in, "will_message");
	if (will.object == NULL)
		return;
	s->has_will = true;
	rows_take_message(&will, &s->will, false);
	s->will.has_author = true;
	s->will_delay = (uint32_t)json_take_number(&will, "delay", 0, UINT32_MAX);
	s->will_due = json_take_time(&will, "due");
	json_in_end(&will);
}
