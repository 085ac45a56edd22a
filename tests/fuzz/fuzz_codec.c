/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes, read as packets of all three versions and of both directions. What is accepted
 * is encoded and read again: it must mean the same, and a second encoding must be identical.
 * The bytes are also tried as text: Topic Name, Topic Filter, UTF-8, property block.
 */
#include <stdlib.h>

#include "again.h"
#include "mqtt/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

/* What a decoder accepted must come back the same from what the encoder makes of it. */
static void
check_packet(uint8_t version, bool from_server, const struct mqtt_frame *f, const uint8_t *packet)
{
	struct again first, second;
	struct mqtt_frame g;

	again(version, from_server, f, packet, &first);
	if (first.err != 0) {
		must(first.bytes == NULL);
		return;
	}
	if (first.bytes == NULL) /* longer in canonical form: no packet */
		return;
	must(mqtt_frame_read(first.bytes, first.len, &g) == 1);
	must(g.type == f->type && g.flags == f->flags && g.header_len + g.remaining == first.len);
	again(version, from_server, &g, first.bytes, &second);
	must(second.err == 0 && second.digest == first.digest);
	must(second.len == first.len && memcmp(second.bytes, first.bytes, first.len) == 0);
	free(first.bytes);
	free(second.bytes);
}

static void
check_text(const uint8_t *data, size_t size)
{
	struct grapnel_str text = { (const char *)data, size }, a, b, share, rest;
	struct grapnel_property prop;
	const char *newline;
	size_t pos = 0;

	while (mqtt_property_next(text, &pos, &prop) > 0)
		must(pos <= size);
	must(topic_name_valid(text) ==
	    (size > 0 && utf8_check_topic_name(text.data, size) == UTF8_TOPIC_OK));
	if (!utf8_valid(text.data, size)) {
		must(utf8_check_topic_name(text.data, size) == UTF8_TOPIC_ILL_FORMED);
		return;
	}
	must(utf8_check_topic_name(text.data, size) ==
	    (topic_has_wildcard(text) ? UTF8_TOPIC_WILDCARD : UTF8_TOPIC_OK));
	if (topic_filter_valid(text, &share, &rest))
		must(rest.len > 0 && topic_levels(rest) <= rest.len + 1);

	/* Two filters, one on each side of a newline: what the relations must have in common. */
	if ((newline = memchr(text.data, '\n', size)) == NULL)
		return;
	a = (struct grapnel_str){ text.data, (size_t)(newline - text.data) };
	b = (struct grapnel_str){ newline + 1, size - a.len - 1 };
	if (!topic_filter_valid(a, NULL, &a) || !topic_filter_valid(b, NULL, &b))
		return;
	must(topic_filter_covers(a, a) && topic_filters_intersect(a, a));
	must(topic_filters_intersect(a, b) == topic_filters_intersect(b, a));
	must(!topic_filter_covers(a, b) || topic_filters_intersect(a, b));
	if (!topic_has_wildcard(b))
		must(topic_matches(a, b) == topic_filter_covers(a, b) &&
		    topic_matches(a, b) == topic_filters_intersect(a, b));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of exact size, so that reading one byte too many is seen. */
	uint8_t *copy = malloc(size), *p = copy;
	size_t left = size;
	struct mqtt_frame f;

	must(copy != NULL || size == 0);
	if (size > 0) {
		memcpy(copy, data, size);
		check_text(copy, size);
	}
	while (mqtt_frame_read(p, left, &f) == 1) {
		size_t len = f.header_len + (size_t)f.remaining;

		must(f.header_len >= 2 && f.header_len <= 5 && f.header_len <= left);
		if (len > left)
			break;
		/* AUTH is of MQTT 5 alone; the caller of its decoder knows. */
		for (uint8_t version = f.type == MQTT_AUTH ? 5 : 3; version <= 5; version++) {
			check_packet(version, false, &f, p);
			if (f.type == MQTT_PUBLISH)
				check_packet(version, true, &f, p);
		}
		p += len;
		left -= len;
	}
	free(copy);
	return 0;
}
