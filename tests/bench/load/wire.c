/* SPDX-License-Identifier: Apache-2.0 */
/* What goes out, but for PUBLISH: publish.c. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILTERS_PER_SUBSCRIBE 200u

uint8_t *
put_varint(uint8_t *p, uint32_t v)
{
	do {
		uint8_t b = v & 0x7f;
		v >>= 7;
		*p++ = b | (v ? 0x80 : 0);
	} while (v);
	return p;
}

uint8_t *
put_str(uint8_t *p, const char *s)
{
	size_t n = strlen(s);

	p = put16(p, (unsigned)n);
	memcpy(p, s, n);
	return p + n;
}

uint8_t *
out_grow(struct conn *c, uint32_t n)
{
	if (c->out_head > 0) {
		memmove(c->out, c->out + c->out_head, c->out_len);
		c->out_head = 0;
	}
	if (c->out_len + n > c->out_cap) {
		c->out_cap = (c->out_len + n) * 2;
		c->out = xrealloc(c->out, c->out_cap);
	}
	return c->out + c->out_len;
}

/* Fixed header, then the body that was built from `body` to `end`. */
static void
out_packet(struct conn *c, uint8_t type, const uint8_t *body, const uint8_t *end)
{
	uint32_t n = (uint32_t)(end - body);
	uint8_t *start = out_room(c, n + 5), *p = start;

	*p++ = type;
	p = put_varint(p, n);
	memcpy(p, body, n);
	c->out_len += (uint32_t)(p + n - start);
}

void
out_connect(struct conn *c)
{
	uint8_t body[1024], *p = body;
	char id[64], user[256];
	bool persistent = !c->clean;

	/* A session that has to survive keeps one id; everyone else gets a fresh one. */
	if (c->sub && (cfg.leave || cfg.resume))
		snprintf(id, sizeof(id), "ml-s%u", c->id);
	else if (c->sub && cfg.sc == SC_OFFLINE)
		snprintf(id, sizeof(id), "ml-%d-s%u", (int)getpid(), c->id);
	else
		snprintf(id, sizeof(id), "ml-%d-%u-%u", (int)getpid(), stage_no, c->id);
	p = put_str(p, "MQTT");
	*p++ = (uint8_t)cfg.proto;
	*p++ = (uint8_t)((persistent ? 0 : 2) | (cfg.user ? 0x80 : 0) |
	    (cfg.user && cfg.pass ? 0x40 : 0));
	p = put16(p, (unsigned)cfg.keepalive);
	if (cfg.proto == 5) {
		if (persistent) { /* session expiry: one hour */
			*p++ = 5;
			*p++ = 0x11;
			p = put16(p, 0);
			p = put16(p, 3600);
		} else {
			*p++ = 0;
		}
	}
	p = put_str(p, id);
	if (cfg.user) {
		snprintf(user, sizeof(user), "%.200s", cfg.user);
		if (cfg.user_each)
			snprintf(user, sizeof(user), "%.200s%u", cfg.user, c->id);
		p = put_str(p, user);
		if (cfg.pass)
			p = put_str(p, cfg.pass);
	}
	out_packet(c, 0x10, body, p);
}

void
out_subscribe(struct conn *c)
{
	struct subscriber *s = c->sub;
	char filter[128];
	uint32_t last = s->next_filter + FILTERS_PER_SUBSCRIBE;

	if (last > s->nfilters)
		last = s->nfilters;
	uint8_t *body = xcalloc(last - s->next_filter + 1, 140), *p = put16(body, 1);
	if (cfg.proto == 5)
		*p++ = 0;
	for (; s->next_filter < last; s->next_filter++) {
		subscriber_filter(s, s->next_filter, filter, sizeof(filter));
		p = put_str(p, filter);
		*p++ = (uint8_t)cfg.sub_qos;
	}
	out_packet(c, 0x82, body, p);
	free(body);
	if (!s->t_subscribe)
		s->t_subscribe = now_ns();
}
