/* SPDX-License-Identifier: Apache-2.0 */
#include "passwd_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	uint32_t name, hash; /* offsets in the text */
	uint32_t line;
	uint32_t next; /* index + 1 of the same user's next line; 0: none */
	uint16_t name_len, hash_len : 14, kind : 2; /* enum scram_hash */
};
#define KINDS 3u
_Static_assert(PASSWORD_HASH_SIZE <= 1 << 14 && SCRAM_SHA_512 < KINDS, "fit in struct entry");

struct passwd_file {
	char *text;
	size_t len;
	struct entry *entries;
	uint32_t *slots; /* open addressing: index of an entry + 1; 0: free */
	size_t count, users, slot_mask;
	struct grapnel_str typical[KINDS]; /* [SCRAM_NONE]: of first lines */
};

struct parser {
	struct passwd_file *f;
	const char *source;
	char *error;
	size_t error_size, line;
};

static bool fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(struct parser *p, const char *format, ...)
{
	va_list args;
	int n = snprintf(p->error, p->error_size, "%s:%zu: ", p->source, p->line);

	if (n < 0 || (size_t)n >= p->error_size)
		return false;
	va_start(args, format);
	(void)vsnprintf(p->error + n, p->error_size - (size_t)n, format, args);
	va_end(args);
	return false;
}

/* A name for a message: at most 64 bytes of it (control characters were refused before). */
#define SHOWN(name) (int)((name).len < 64 ? (name).len : 64), (name).data

/* FNV-1a: the names in the table are the operator's, so that no peer can make it slow. */
static uint32_t *
slot_of(const struct passwd_file *f, struct grapnel_str name)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ (unsigned char)name.data[i]) * 16777619u;
	for (size_t i = (h ^ h >> 15) & f->slot_mask;; i = (i + 1) & f->slot_mask) {
		const struct entry *e;

		if (f->slots[i] == 0)
			return &f->slots[i];
		e = &f->entries[f->slots[i] - 1];
		if (e->name_len == name.len && memcmp(f->text + e->name, name.data, name.len) == 0)
			return &f->slots[i];
	}
}

static struct grapnel_str
trim(struct grapnel_str s)
{
	while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
		s.data++;
		s.len--;
	}
	while (s.len > 0 &&
	    (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t' || s.data[s.len - 1] == '\r'))
		s.len--;
	return s;
}

const char *
passwd_name_problem(struct grapnel_str name)
{
	if (name.len == 0)
		return "the user name is empty";
	if (name.len > UINT16_MAX)
		return "the user name is longer than 65535 bytes";
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.data[i];

		if (c < 0x20 || c == 0x7f)
			return "the user name has a control character in it";
		if (c == ':')
			return "the user name has a ':' in it, which ends names in a password file";
	}
	if (name.data[0] == '#')
		return "the user name begins with '#', which begins comments in a password file";
	if (name.data[0] == ' ' || name.data[name.len - 1] == ' ')
		return "the user name begins or ends with a space, which a password file does not "
		       "keep";
	return NULL;
}

/* Another line of a user: behind the last one. */
static bool
chain(struct parser *p, struct entry *e, size_t first)
{
	struct passwd_file *f = p->f;
	struct entry *last = &f->entries[first];

	for (;; last = &f->entries[last->next - 1]) {
		if (last->kind == e->kind)
			return fail(p, "user \"%.*s\" is on line %u already%s",
			    SHOWN(((struct grapnel_str){ f->text + e->name, e->name_len })),
			    last->line, e->kind != SCRAM_NONE ? " with this SCRAM method" : "");
		if (last->next == 0)
			break;
	}
	last->next = (uint32_t)f->count + 1;
	return true;
}

static bool
parse_line(struct parser *p, struct grapnel_str line)
{
	struct passwd_file *f = p->f;
	const char *colon = memchr(line.data, ':', line.len), *problem;
	enum scram_hash kind = SCRAM_NONE;
	struct grapnel_str name, hash;
	struct entry e;
	uint32_t *slot;
	int err;

	if (colon == NULL)
		return fail(p, "the line has no ':' between user name and password hash");
	name = trim((struct grapnel_str){ line.data, (size_t)(colon - line.data) });
	hash = trim((struct grapnel_str){ colon + 1, line.len - (size_t)(colon - line.data) - 1 });
	if ((problem = passwd_name_problem(name)) != NULL)
		return fail(p, "%s", problem);
	if (hash.len == 0)
		return fail(p, "user \"%.*s\" has no password hash; set one with grapnelctl passwd",
		    SHOWN(name));
	if ((err = password_check_format(hash.data, hash.len, NULL)) != 0)
		return fail(p, "password of user \"%.*s\": %s; set it with grapnelctl passwd",
		    SHOWN(name), password_strerror(err));
	(void)scram_is_credential(hash, &kind);
	e = (struct entry){
		.name = (uint32_t)(name.data - f->text),
		.hash = (uint32_t)(hash.data - f->text),
		.line = (uint32_t)p->line,
		.name_len = (uint16_t)name.len,
		.hash_len = hash.len & 0x3fff,
		.kind = kind & 3,
	};
	slot = slot_of(f, name);
	if (*slot != 0 && !chain(p, &e, *slot - 1))
		return false;
	f->entries[f->count++] = e;
	if (*slot == 0) {
		*slot = (uint32_t)f->count;
		f->users++;
	}
	return true;
}

static bool
parse_lines(struct parser *p)
{
	const char *at = p->f->text, *end = at + p->f->len;

	while (at < end) {
		const char *eol = memchr(at, '\n', (size_t)(end - at));
		struct grapnel_str line = { at, (size_t)((eol != NULL ? eol : end) - at) };

		p->line++;
		at = eol != NULL ? eol + 1 : end;
		if (trim(line).len == 0 || line.data[0] == '#')
			continue;
		if (!parse_line(p, line))
			return false;
	}
	return true;
}

/* The cost that most hashes of that kind have, or most users' first lines, among the first few costs met. */
static struct grapnel_str
find_typical(const struct passwd_file *f, enum scram_hash kind)
{
	struct {
		struct password_cost cost;
		size_t count, entry;
	} costs[16];
	size_t n = 0, best = 0;

	for (size_t i = 0; i < f->count; i++) {
		struct passwd_entry e = passwd_file_at(f, i);
		struct password_cost cost;
		size_t k = 0;

		if (kind != SCRAM_NONE ? f->entries[i].kind != kind : *slot_of(f, e.name) != i + 1)
			continue;
		if (password_check_format(e.hash.data, e.hash.len, &cost) != 0)
			continue;
		while (k < n && memcmp(&costs[k].cost, &cost, sizeof(cost)) != 0)
			k++;
		if (k == sizeof(costs) / sizeof(*costs))
			continue;
		if (k == n) {
			costs[n].cost = cost;
			costs[n].entry = i;
			costs[n++].count = 0;
		}
		if (++costs[k].count > costs[best].count)
			best = k;
	}
	return n > 0 ? passwd_file_at(f, costs[best].entry).hash : (struct grapnel_str){ NULL, 0 };
}

static size_t
count_lines(const char *text, size_t len)
{
	size_t n = 1;
	const char *end = text + len;

	while (text < end && (text = memchr(text, '\n', (size_t)(end - text))) != NULL) {
		n++;
		text++;
	}
	return n;
}

struct passwd_file *
passwd_file_parse(char *text, size_t len, const char *source, char *error, size_t error_size)
{
	struct passwd_file *f = calloc(1, sizeof(*f));
	struct parser p = { f, source, error, error_size, 0 };
	size_t lines, slots = 4;
	void *smaller;

	if (f == NULL) {
		(void)fail(&p, "out of memory");
		explicit_bzero(text, len);
		free(text);
		return NULL;
	}
	f->text = text;
	f->len = len;
	if (len > PASSWD_FILE_MAX_BYTES) {
		(void)fail(&p, "more than %u MiB", PASSWD_FILE_MAX_BYTES >> 20);
		goto fail;
	}
	lines = count_lines(text, len);
	while (slots < lines + lines / 2)
		slots *= 2;
	f->slot_mask = slots - 1;
	if ((f->slots = calloc(slots, sizeof(*f->slots))) == NULL ||
	    (f->entries = malloc(lines * sizeof(*f->entries))) == NULL) {
		(void)fail(&p, "out of memory");
		goto fail;
	}
	if (!parse_lines(&p))
		goto fail;
	if (f->count > 0 && (smaller = realloc(f->entries, f->count * sizeof(*f->entries))) != NULL)
		f->entries = smaller;
	for (unsigned kind = 0; kind < KINDS; kind++)
		f->typical[kind] = find_typical(f, (enum scram_hash)kind);
	return f;
fail:
	passwd_file_free(f);
	return NULL;
}

void
passwd_file_free(struct passwd_file *f)
{
	if (f == NULL)
		return;
	explicit_bzero(f->text, f->len);
	free(f->text);
	free(f->entries);
	free(f->slots);
	free(f);
}

bool
passwd_file_find(const struct passwd_file *f, struct grapnel_str name, struct passwd_entry *out)
{
	uint32_t slot = name.len > 0 ? *slot_of(f, name) : 0;

	if (slot == 0)
		return false;
	*out = passwd_file_at(f, slot - 1);
	return true;
}

bool
passwd_file_find_scram(const struct passwd_file *f, struct grapnel_str name, enum scram_hash hash,
    struct passwd_entry *out)
{
	uint32_t number = name.len > 0 ? *slot_of(f, name) : 0;

	while (number != 0 && f->entries[number - 1].kind != hash)
		number = f->entries[number - 1].next;
	if (number == 0)
		return false;
	*out = passwd_file_at(f, number - 1);
	return true;
}

size_t
passwd_file_users(const struct passwd_file *f)
{
	return f->users;
}

size_t
passwd_file_count(const struct passwd_file *f)
{
	return f->count;
}

struct passwd_entry
passwd_file_at(const struct passwd_file *f, size_t i)
{
	const struct entry *e = &f->entries[i];

	return (struct passwd_entry){
		.name = { f->text + e->name, e->name_len },
		.hash = { f->text + e->hash, e->hash_len },
		.line = e->line,
		.next = e->next,
	};
}

struct grapnel_str
passwd_file_typical(const struct passwd_file *f, enum scram_hash hash)
{
	return f->typical[hash];
}
