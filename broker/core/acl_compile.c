/* SPDX-License-Identifier: Apache-2.0 */
#include "acl_build.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------- the builder */

bool
acl_fail(struct acl_builder *b, const char *format, ...)
{
	va_list args;
	int n;

	if (b->error_size == 0)
		return false;
	n = snprintf(
	    b->error, b->error_size, "%.*s:%zu: ", (int)b->source.len, b->source.data, b->line);
	if (n < 0 || (size_t)n >= b->error_size)
		return false;
	va_start(args, format);
	(void)vsnprintf(b->error + n, b->error_size - (size_t)n, format, args);
	va_end(args);
	return false;
}

const char *
acl_shown(char out[ACL_SHOWN], struct grapnel_str text)
{
	size_t n = text.len < ACL_SHOWN - 4 ? text.len : ACL_SHOWN - 4;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text.data[i];

		out[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	memcpy(out + n, n < text.len ? "..." : "", n < text.len ? 4 : 1);
	return out;
}

/* Room for one more element of an array that grows by half. */
static bool
grow(struct acl_builder *b, void **array, uint32_t *size, uint32_t used, size_t more, size_t each)
{
	size_t want = (size_t)used + more, next;
	void *p;

	if (want <= *size)
		return true;
	next = want + want / 2 + 16;
	if (next > UINT32_MAX)
		next = UINT32_MAX;
	if (next < want || (p = realloc(*array, next * each)) == NULL)
		return acl_fail(b, "out of memory");
	*array = p;
	*size = (uint32_t)next;
	return true;
}

/* Copy bytes into the pool; *at is where they are. */
static bool
pool_add(struct acl_builder *b, struct grapnel_str s, uint32_t *at)
{
	struct grapnel_rules *r = b->out;

	if (!grow(b, (void **)&r->pool, &r->pool_size, r->pool_len, s.len, 1))
		return false;
	if (s.len > 0)
		memcpy(r->pool + r->pool_len, s.data, s.len);
	*at = r->pool_len;
	r->pool_len += (uint32_t)s.len;
	return true;
}

static bool
op_add(struct acl_builder *b, enum acl_op_kind kind, uint32_t at, uint32_t len)
{
	struct grapnel_rules *r = b->out;

	if (!grow(b, (void **)&r->ops, &r->op_size, r->op_count, 1, sizeof(*r->ops)))
		return false;
	r->ops[r->op_count++] = (struct acl_op){ .kind = kind, .at = at, .len = len };
	return true;
}

/* FNV-1a: the names in the table are the operator's, so that no peer can make it slow. */
static uint32_t
name_hash(enum acl_subject_kind kind, struct grapnel_str name)
{
	uint32_t h = 2166136261u ^ (uint32_t)kind;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ (unsigned char)name.data[i]) * 16777619u;
	return h ^ h >> 15;
}

/* The slot of that name: its own, or the free one where it belongs. */
static uint32_t *
slot_of(const struct grapnel_rules *r, enum acl_subject_kind kind, struct grapnel_str name)
{
	for (uint32_t i = name_hash(kind, name) & r->slot_mask;; i = (i + 1) & r->slot_mask) {
		const struct acl_subject *s;

		if (r->slots[i] == 0)
			return &r->slots[i];
		s = &r->subjects[r->slots[i] - 1];
		if (s->kind == (uint32_t)kind && s->name_len == name.len &&
		    memcmp(r->pool + s->name, name.data, name.len) == 0)
			return &r->slots[i];
	}
}

const struct acl_subject *
acl_subject_find(
    const struct grapnel_rules *rules, enum acl_subject_kind kind, struct grapnel_str name)
{
	uint32_t slot;

	if (rules->slots == NULL || name.len == 0)
		return NULL;
	slot = *slot_of(rules, kind, name);
	return slot != 0 ? &rules->subjects[slot - 1] : NULL;
}

/* Keep the table at most half full. */
static bool
slots_grow(struct acl_builder *b)
{
	struct grapnel_rules *r = b->out;
	uint32_t size = r->slots == NULL ? 16 : r->slot_mask + 1;

	if (r->slots != NULL && r->subject_count < size / 2)
		return true;
	if (r->slots != NULL)
		size *= 2;
	free(r->slots);
	if ((r->slots = calloc(size, sizeof(*r->slots))) == NULL)
		return acl_fail(b, "out of memory");
	r->slot_mask = size - 1;
	for (uint32_t i = 0; i < r->subject_count; i++) {
		const struct acl_subject *s = &r->subjects[i];

		if (s->kind == ACL_USER || s->kind == ACL_CLIENT)
			*slot_of(r, (enum acl_subject_kind)s->kind,
			    (struct grapnel_str){ r->pool + s->name, s->name_len }) = i + 1;
	}
	return true;
}

static bool
subject_add(struct acl_builder *b, enum acl_subject_kind kind, struct grapnel_str name)
{
	struct grapnel_rules *r = b->out;
	uint32_t at = 0;

	if (!grow(b, (void **)&r->subjects, &r->subject_size, r->subject_count, 1,
		sizeof(*r->subjects)) ||
	    !pool_add(b, name, &at))
		return false;
	r->subjects[r->subject_count++] =
	    (struct acl_subject){ .kind = kind, .name = at, .name_len = (uint32_t)name.len };
	return true;
}

bool
acl_build_subject(
    struct acl_builder *b, enum acl_subject_kind kind, struct grapnel_str name, uint32_t *index)
{
	struct grapnel_rules *r = b->out;
	uint32_t *slot;

	if (kind == ACL_EVERYONE || kind == ACL_ANONYMOUS) {
		*index = kind == ACL_EVERYONE ? ACL_SUBJECT_EVERYONE : ACL_SUBJECT_ANONYMOUS;
		return true;
	}
	if (!slots_grow(b))
		return false;
	slot = slot_of(r, kind, name);
	if (*slot == 0) {
		if (!subject_add(b, kind, name))
			return false;
		*slot = r->subject_count;
	}
	*index = *slot - 1;
	return true;
}

/*
 * Split a filter into ops. Literal bytes gather at the end of the pool; flush makes an op of them.
 */
struct filter_parser {
	struct acl_builder *b;
	uint32_t text; /* where the literal bytes under way begin */
};

static bool
flush(struct filter_parser *p)
{
	struct grapnel_rules *r = p->b->out;
	uint32_t len = r->pool_len - p->text;

	if (len > 0 && !op_add(p->b, ACL_OP_TEXT, p->text, len))
		return false;
	p->text = r->pool_len;
	return true;
}

static bool
literal(struct filter_parser *p, const char *c)
{
	uint32_t at;

	return pool_add(p->b, (struct grapnel_str){ c, 1 }, &at);
}

/* Read what follows a '%' at f[*i]; *i is left on its last character. */
static bool
substitution(struct filter_parser *p, struct grapnel_str f, size_t *i, enum acl_substitution mode)
{
	struct acl_builder *b = p->b;
	char next = *i + 1 < f.len ? f.data[*i + 1] : '\0';
	struct grapnel_str name;
	const char *close;
	uint32_t at;

	if (mode == ACL_SUBST_NONE || (mode == ACL_SUBST_MOSQUITTO && next != 'u' && next != 'c'))
		return literal(p, "%");
	if (mode == ACL_SUBST_GRAPNEL && next == '%') {
		++*i;
		return literal(p, "%");
	}
	if (next == 'u' || next == 'c') {
		++*i;
		return flush(p) &&
		    op_add(b, next == 'u' ? ACL_OP_USERNAME : ACL_OP_CLIENT_ID, 0, 0);
	}
	if (next != '{')
		return acl_fail(
		    b, "a '%%' in a topic filter must be followed by u, c, {name} or %%");
	name.data = f.data + *i + 2;
	close = memchr(name.data, '}', f.len - *i - 2);
	if (close == NULL || close == name.data)
		return acl_fail(b, "\"%%{\" needs the name of an attribute and a '}'");
	name.len = (size_t)(close - name.data);
	*i += name.len + 2;
	if (!flush(p) || !pool_add(b, name, &at))
		return false;
	p->text = b->out->pool_len;
	return op_add(b, ACL_OP_ATTRIBUTE, at, (uint32_t)name.len);
}

static bool
filter_add(struct acl_builder *b, struct grapnel_str f, enum acl_substitution mode)
{
	struct filter_parser p = { .b = b, .text = b->out->pool_len };
	char shown[ACL_SHOWN];

	if (f.len == 0)
		return acl_fail(b, "the topic filter is empty");
	if (f.len > UINT16_MAX)
		return acl_fail(b, "the topic filter is longer than 65535 bytes");
	if (mode == ACL_SUBST_GRAPNEL && f.len >= 7 && memcmp(f.data, "$share/", 7) == 0)
		return acl_fail(b,
		    "rules see a shared subscription without \"$share/<name>/\"; write \"%s\"",
		    acl_shown(shown, (struct grapnel_str){ f.data + 7, f.len - 7 }));
	for (size_t i = 0; i < f.len; i++) {
		bool first = i == 0 || f.data[i - 1] == '/', last = i + 1 == f.len;

		switch (f.data[i]) {
		case '+':
			if (!first || (!last && f.data[i + 1] != '/'))
				return acl_fail(b,
				    "\"%s\": '+' must be a whole level of a topic filter",
				    acl_shown(shown, f));
			if (!flush(&p) || !op_add(b, ACL_OP_PLUS, 0, 0))
				return false;
			break;
		case '#':
			if (!first || !last)
				return acl_fail(b,
				    "\"%s\": '#' must be the last level of a topic filter",
				    acl_shown(shown, f));
			if (i > 0)
				b->out->pool_len--; /* its '/' belongs to ACL_OP_REST */
			if (!flush(&p) || !op_add(b, i > 0 ? ACL_OP_REST : ACL_OP_ALL, 0, 0))
				return false;
			break;
		case '%':
			if (!substitution(&p, f, &i, mode))
				return false;
			break;
		default:
			if (!literal(&p, f.data + i))
				return false;
		}
	}
	return flush(&p);
}

bool
acl_build_rule(struct acl_builder *b, struct acl_rule rule, struct grapnel_str filter,
    enum acl_substitution mode)
{
	struct grapnel_rules *r = b->out;
	char number[24];
	int n = snprintf(number, sizeof(number), ":%zu", b->line);
	uint32_t at;

	rule.first_op = r->op_count;
	if (!filter_add(b, filter, mode))
		return false;
	rule.op_count = r->op_count - rule.first_op;
	if (!pool_add(b, b->source, &rule.label) ||
	    !pool_add(b, (struct grapnel_str){ number, (size_t)n }, &at))
		return false;
	rule.label_len = r->pool_len - rule.label;
	if (!grow(b, (void **)&r->rules, &r->rule_size, r->rule_count, 1, sizeof(*r->rules)))
		return false;
	r->rules[r->rule_count++] = rule;
	return true;
}

bool
acl_next_line(struct acl_builder *b, struct grapnel_str *rest, struct grapnel_str *line)
{
	const char *end;

	if (rest->len == 0)
		return false;
	b->line++;
	end = memchr(rest->data, '\n', rest->len);
	line->data = rest->data;
	line->len = end != NULL ? (size_t)(end - rest->data) : rest->len;
	rest->data += line->len + (end != NULL);
	rest->len -= line->len + (end != NULL);
	if (line->len > 0 && line->data[line->len - 1] == '\r')
		line->len--;
	return true;
}

/* Sort by rank, keeping the order of the text within one: a counting sort, ranks are few. */
static bool
sort_rules(struct acl_builder *b)
{
	struct grapnel_rules *r = b->out;
	struct acl_rule *sorted;
	uint32_t n = 0;

	if (r->rule_count == 0)
		return true;
	if ((sorted = malloc(r->rule_count * sizeof(*sorted))) == NULL)
		return acl_fail(b, "out of memory");
	for (unsigned rank = 0; rank <= UINT8_MAX && n < r->rule_count; rank++)
		for (uint32_t i = 0; i < r->rule_count; i++)
			if (r->rules[i].rank == rank)
				sorted[n++] = r->rules[i];
	free(r->rules);
	r->rules = sorted;
	r->rule_size = r->rule_count;
	return true;
}

/* Give each subject its rules, and hand back memory that growing left over. */
static bool
finish(struct acl_builder *b)
{
	struct grapnel_rules *r = b->out;
	uint32_t first = 0;
	void *p;

	if (!sort_rules(b))
		return false;
	if ((r->order = malloc(((size_t)r->rule_count + 1) * sizeof(*r->order))) == NULL)
		return acl_fail(b, "out of memory");
	for (uint32_t i = 0; i < r->rule_count; i++)
		r->subjects[r->rules[i].subject].count++;
	for (uint32_t i = 0; i < r->subject_count; i++) {
		r->subjects[i].first = first;
		first += r->subjects[i].count;
		r->subjects[i].count = 0;
	}
	for (uint32_t i = 0; i < r->rule_count; i++) {
		struct acl_subject *s = &r->subjects[r->rules[i].subject];

		r->order[s->first + s->count++] = i;
	}
	/* A smaller realloc that fails leaves the larger block, which is as good. */
	if (r->pool_len > 0 && (p = realloc(r->pool, r->pool_len)) != NULL)
		r->pool = p;
	if (r->op_count > 0 && (p = realloc(r->ops, r->op_count * sizeof(*r->ops))) != NULL)
		r->ops = p;
	return true;
}

/* An empty set with the two nameless subjects. */
static bool
begin(struct acl_builder *b, bool mosquitto)
{
	static const struct grapnel_str nobody = { "", 0 };

	if ((b->out = calloc(1, sizeof(*b->out))) == NULL)
		return acl_fail(b, "out of memory");
	atomic_init(&b->out->refs, 1);
	b->out->mosquitto = mosquitto;
	return subject_add(b, ACL_EVERYONE, nobody) && subject_add(b, ACL_ANONYMOUS, nobody);
}

/* All rules of another set, behind those that are there. */
static bool
append(struct acl_builder *b, const struct grapnel_rules *from)
{
	struct grapnel_rules *r = b->out;
	uint32_t *subjects = malloc(from->subject_count * sizeof(*subjects)), pool,
		 ops = r->op_count;
	bool good = subjects != NULL &&
	    pool_add(b, (struct grapnel_str){ from->pool, from->pool_len }, &pool);

	for (uint32_t i = 0; good && i < from->subject_count; i++) {
		const struct acl_subject *s = &from->subjects[i];

		if (s->kind == ACL_EVERYONE || s->kind == ACL_ANONYMOUS)
			subjects[i] = i;
		else
			good = acl_build_subject(b, (enum acl_subject_kind)s->kind,
			    (struct grapnel_str){ from->pool + s->name, s->name_len },
			    &subjects[i]);
	}
	for (uint32_t i = 0; good && i < from->op_count; i++) {
		struct acl_op op = from->ops[i];

		if (op.kind == ACL_OP_TEXT || op.kind == ACL_OP_ATTRIBUTE)
			op.at += pool;
		good = op_add(b, (enum acl_op_kind)op.kind, op.at, op.len);
	}
	for (uint32_t i = 0; good && i < from->rule_count; i++) {
		struct acl_rule rule = from->rules[i];

		rule.first_op += ops;
		rule.label += pool;
		rule.subject = subjects[rule.subject];
		good =
		    grow(b, (void **)&r->rules, &r->rule_size, r->rule_count, 1, sizeof(*r->rules));
		if (good)
			r->rules[r->rule_count++] = rule;
	}
	free(subjects);
	return good;
}

struct grapnel_rules *
acl_rules_join(const struct grapnel_rules *first, const struct grapnel_rules *then)
{
	struct acl_builder b = { 0 };

	if (first->mosquitto || then->mosquitto || !begin(&b, false) || !append(&b, first) ||
	    !append(&b, then) || !finish(&b)) {
		acl_rules_unref(b.out);
		return NULL;
	}
	return b.out;
}

struct grapnel_rules *
acl_rules_compile(struct grapnel_str text, struct grapnel_str source, bool mosquitto, char *error,
    size_t error_size)
{
	struct acl_builder b = { .source = source, .error = error, .error_size = error_size };

	if (error_size > 0)
		error[0] = '\0';
	/* A label per rule must fit the pool's 32-bit offsets. */
	if (text.len > ACL_TEXT_MAX || source.len > UINT16_MAX) {
		(void)acl_fail(&b, "more than %u MiB of rules", ACL_TEXT_MAX >> 20);
		return NULL;
	}
	if (!begin(&b, mosquitto))
		goto fail;
	if (!(mosquitto ? acl_parse_mosquitto(&b, text) : acl_parse_grapnel(&b, text)))
		goto fail;
	if (!finish(&b))
		goto fail;
	return b.out;
fail:
	acl_rules_unref(b.out);
	return NULL;
}
