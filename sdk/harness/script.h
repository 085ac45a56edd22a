/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script - the steps of a script: words, their values, and what is expected of an answer
 *
 * Threads:   driver.
 * Ownership: a step owns its words; facts own their text.
 * Bounded:   WORDS_MAX words a line; here-documents by the script's size.
 */
#ifndef SDK_HARNESS_SCRIPT_H
#define SDK_HARNESS_SCRIPT_H

#include "inside.h"

#define WORDS_MAX 128u
#define FACTS_MAX 96u

struct word {
	char *text; /* with a NUL behind it */
	size_t len;
	size_t plain; /* so many of its first bytes were written without quotes */
};
enum outcome { STEP_OK, STEP_FAILED /* go on */, STEP_BROKEN /* no use in going on */ };
struct step {
	harness *h;
	struct word words[WORDS_MAX]; /* the name first */
	unsigned count;
	struct word *expected; /* behind "->", of words; NULL: nothing is expected */
	unsigned expected_count;
	char *here; /* here-document; NULL: none */
	int here_line;
	bool used[WORDS_MAX];
};
struct step_def {
	const char *name;
	unsigned min_words; /* behind the name */
	enum outcome (*run)(struct step *s);
	const char *usage;
};
extern const struct step_def steps_life[], steps_ask[], steps_tell[], steps_expect[]; /* end with name NULL */

/* Says what is wrong, as a failure of the harness. */
enum outcome broken(struct step *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
enum outcome failed(struct step *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- words (words.c) ---- */
/* Cuts a line. false: error says why. */
bool words_cut(const char *line, size_t len, struct step *s, char *error, size_t size);
void words_free(struct step *s);
struct grapnel_str word_str(const struct word *w);
bool word_is(const struct word *w, const char *text);
/* "key=value": the key's length; 0: it is none. */
size_t word_key(const struct word *w);
/*
 * The value of key among words (options of a step): hex:, file: are read. It stays valid as long as the step.
 * false: not given, or it cannot be read (said already).
 */
bool arg_get(struct step *s, const char *key, struct grapnel_str *out);
bool arg_number(struct step *s, const char *key, uint64_t max, uint64_t *out, enum outcome *bad);
bool arg_yes(struct step *s, const char *key, bool *out);
/* The first word behind `from` that nobody has used. NULL: none. */
const struct word *arg_unused(const struct step *s, unsigned from);
/* Value of a word from byte `at` on: hex:, file: read in place. false: error. */
bool word_value(struct word *w, size_t at, struct grapnel_str *out, char *error, size_t size);
bool duration_of(struct grapnel_str text, uint64_t *ms);
bool matches(const struct word *w, size_t at, struct grapnel_str got); /* equal, or /regex/ */

/* ---- what several steps understand (steps_ask.c) ---- */
/* What the words of a step say about a message. */
struct message_words {
	struct grapnel_message_info info;
	uint8_t *properties;
};
/* The client that word i names, with what its logins have made of it. NULL: none; said. */
struct sim_client *client_word(struct step *s, unsigned i);
/* payload=, qos=, retain=, dup=, property.NAME=, author=, author_username=; properties are the caller's to free. */
enum outcome message_read(struct step *s, struct message_words *m, struct grapnel_str topic, const struct sim_client *author);
/* Every word is understood, or the step is mistyped. */
enum outcome words_done(struct step *s);

/* ---- facts (facts.c) ---- */
struct fact {
	char name[72];
	struct grapnel_str value;
	char *heap;
};
struct facts {
	struct fact list[FACTS_MAX];
	unsigned count;
};
void fact_add(struct facts *f, const char *name, struct grapnel_str value);
void fact_number(struct facts *f, const char *name, int64_t value);
void fact_yes(struct facts *f, const char *name, bool value); /* only when it is true */
void facts_message(struct facts *f, struct grapnel_str properties);
void facts_of(struct facts *f, const struct asked *a);
void facts_free(struct facts *f);
const char *verdict_text(int verdict);
/* "allow username=bob rule=..." for messages. Returns out. */
const char *facts_show(const struct facts *f, char *out, size_t size);
/* Does every word hold? false: error names the first that does not. */
bool facts_hold(const struct facts *f, struct word *words, unsigned count, char *error, size_t size);
/* The same for an answer: the first word is a verdict. */
bool answer_holds(struct step *s, struct asked *a, struct word *words, unsigned count);
/* false: it looks like /regex/ (behind its key, if it has one), and cannot be understood. */
bool regex_valid(const struct word *w);
bool regex_matches(const char *pattern, size_t len, struct grapnel_str text); /* extended; without its slashes */
uint32_t property_id(const char *name); /* 0: no such */

#endif
