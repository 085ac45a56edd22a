/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text - bytes that grow, and JSON written into them
 *
 * Events are written out by the hundred thousand each second: no tree is built, no piece allocated by itself. The writer
 * of a format puts "{", names and values in order; commas are its own business (json_name puts one where one is due).
 *
 * Threads:   of whoever has it.
 * Ownership: data is the text's, until text_free.
 */
#ifndef PLUGINS_EVENTS_TEXT_H
#define PLUGINS_EVENTS_TEXT_H

#include <grapnel/types.h>

struct text {
	char *data;
	size_t len, capacity;
	bool failed; /* memory was short: what is there is of no use; later puts do nothing */
};

void text_free(struct text *t);	 /* and ready to be used again */
void text_clear(struct text *t); /* keeps its memory; failed is false again */
void text_put(struct text *t, const char *data, size_t len);
void text_puts(struct text *t, const char *s);
void text_char(struct text *t, char c);
void text_uint(struct text *t, uint64_t n);
void text_int(struct text *t, int64_t n);
void text_base64(struct text *t, struct grapnel_str s); /* RFC 4648, padded */

/* "name": with a comma in front, unless a "{" or "[" is what stands there. Names are our own literals: not escaped. */
void json_name(struct text *t, const char *name);
/*
 * A JSON string: quoted and escaped. Each byte that is no UTF-8 is replaced by U+FFFD; control characters (C0, DEL, C1) are
 * \n or \u00XX, so that the text does nothing to a terminal either. .data NULL: null.
 */
void json_text(struct text *t, struct grapnel_str s);
/* Its inside alone, without the quotes: for texts that have their own. */
void json_escape(struct text *t, struct grapnel_str s);
void json_bool(struct text *t, bool value);
/* A string of base64. */
void json_base64(struct text *t, struct grapnel_str s);

/* Well-formed and without NUL, as UTF-8 strings of MQTT are [MQTT-1.5.4-2]. */
bool text_is_utf8(struct grapnel_str s);

#endif
