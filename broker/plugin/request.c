/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"
#include "base/log.h"
#include "core/broker.h"
#include <stdlib.h>
#include <string.h>

/* A handle, from the top: generation, slot, instance, table. */
#define TABLE_BITS      7u
#define INSTANCE_BITS   10u
#define SLOT_BITS       21u
#define GENERATION_BITS 26u
#define TABLES          (1u << TABLE_BITS)

_Static_assert(
    TABLE_BITS + INSTANCE_BITS + SLOT_BITS + GENERATION_BITS == 64, "a handle is one word");
_Static_assert(
    sizeof(struct grapnel_request *) == sizeof(uint64_t), "handles need 64 bit pointers");
_Static_assert(REQUEST_SLOTS <= (1u << SLOT_BITS), "a slot's number fits");
_Static_assert(INSTANCE_MAX <= (1u << INSTANCE_BITS), "an instance's number fits");
_Static_assert(WORKER_MAX + 1 <= TABLES, "each worker has a table");

static _Atomic(struct request_table *) tables[TABLES];
static _Atomic(const char *)
    names[INSTANCE_MAX]; /* by instance number; strings live as long as the process */

static uint64_t
word_make(uint64_t generation, enum answer_kind kind, enum request_state state)
{
	return generation << 16 | (uint64_t)kind << 8 | (uint64_t)state;
}

static enum request_state
word_state(uint64_t word)
{
	return (enum request_state)(word & 0xff);
}

static enum answer_kind
word_kind(uint64_t word)
{
	return (enum answer_kind)(word >> 8 & 0xff);
}

static uint64_t
word_generation(uint64_t word)
{
	return word >> 16;
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* Chunk k has 64 << k slots. */
static struct request *
slot_at(struct request_table *t, uint32_t index)
{
	unsigned chunk = 31u - (unsigned)__builtin_clz(index + 64) - 6u;
	struct request *slots = atomic_load_explicit(&t->chunks[chunk], memory_order_acquire);

	return slots != NULL ? &slots[index + 64 - (64u << chunk)] : NULL;
}

int
request_table_open(struct hook_state *hs)
{
	struct request_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return GRAPNEL_ENOMEM;
	for (unsigned i = 0; i < TABLES; i++) {
		struct request_table *none = NULL;

		if (atomic_compare_exchange_strong_explicit(
			&tables[i], &none, t, memory_order_acq_rel, memory_order_relaxed)) {
			hs->table = t;
			hs->table_number = i;
			return GRAPNEL_OK;
		}
	}
	free(t);
	return GRAPNEL_EQUOTA;
}

void
request_table_close(struct hook_state *hs)
{
	struct request_table *t = hs->table;
	bool held = false;
	uint32_t slots;

	if (t == NULL)
		return;
	slots = atomic_load_explicit(&t->slots, memory_order_relaxed);
	/*
	 * A plugin that never resolved something may do so yet: its slots stay readable then, to
	 * the end of the process.
	 */
	for (uint32_t i = 0; i < slots; i++) {
		struct request *r = slot_at(t, i);
		uint64_t word = atomic_load_explicit(&r->word, memory_order_acquire);

		if (word_state(word) == REQUEST_FREE)
			continue;
		while (!atomic_compare_exchange_weak_explicit(&r->word, &word,
		    word_make(word_generation(word), word_kind(word), REQUEST_ABANDONED),
		    memory_order_acq_rel, memory_order_acquire))
			continue;
		held = true;
	}
	if (held)
		return;
	atomic_store_explicit(&tables[hs->table_number], NULL, memory_order_release);
	for (unsigned i = 0; i < REQUEST_CHUNKS; i++)
		free(atomic_load_explicit(&t->chunks[i], memory_order_relaxed));
	free(t);
	hs->table = NULL;
}

/* The next chunk of slots onto the free list. */
static bool
slots_grow(struct hook_state *hs)
{
	struct request_table *t = hs->table;
	uint32_t made = atomic_load_explicit(&t->slots, memory_order_relaxed);
	struct request *slots;
	unsigned chunk = 0, count;

	while (chunk < REQUEST_CHUNKS &&
	    atomic_load_explicit(&t->chunks[chunk], memory_order_relaxed) != NULL)
		chunk++;
	if (chunk == REQUEST_CHUNKS)
		return false;
	count = 64u << chunk;
	slots = calloc(count, sizeof(*slots));
	if (slots == NULL)
		return false;
	for (unsigned i = count; i-- > 0;) {
		slots[i].index = made + i;
		slots[i].hs = hs;
		slots[i].worker = hs->w->index;
		slots[i].next_free = hs->free_requests;
		hs->free_requests = &slots[i];
	}
	atomic_store_explicit(&t->chunks[chunk], slots, memory_order_release);
	atomic_store_explicit(&t->slots, made + count, memory_order_release);
	return true;
}

struct request *
request_new(struct hook_state *hs, struct instance_worker *iw, enum hook h, struct question *q,
    uint64_t deadline_ms)
{
	struct request *r;
	uint64_t generation;

	if (hs->free_requests == NULL && !slots_grow(hs))
		return NULL;
	r = hs->free_requests;
	hs->free_requests = r->next_free;
	generation = (word_generation(atomic_load_explicit(&r->word, memory_order_relaxed)) + 1) &
	    ((1u << GENERATION_BITS) - 1);
	if (generation == 0)
		generation = 1; /* so that no handle is a null pointer */
	r->iw = iw;
	r->ask = NULL;
	r->question = q;
	q->refs++;
	r->hook = h;
	r->attached = r->answer = NULL;
	r->inline_resolved = false;
	atomic_store_explicit(&r->deadline_ms, deadline_ms, memory_order_relaxed);
	atomic_store_explicit(&r->data, NULL, memory_order_relaxed);
	atomic_store_explicit(
	    &r->word, word_make(generation, answer_kind(h), REQUEST_IN_HOOK), memory_order_release);
	return r;
}

void
request_release(struct request *r)
{
	struct hook_state *hs = r->hs;
	uint64_t word = atomic_load_explicit(&r->word, memory_order_relaxed);

	/*
	 * Only the worker gets here, and nobody changes a word that is RESOLVED or taken out of
	 * IN_HOOK by it.
	 */
	atomic_store_explicit(&r->word,
	    word_make(word_generation(word), word_kind(word), REQUEST_FREE), memory_order_release);
	answer_free(r->attached);
	answer_free(r->answer);
	question_unref(&hs->questions, r->question);
	r->attached = r->answer = NULL;
	r->question = NULL;
	r->ask = NULL;
	r->next_free = hs->free_requests;
	hs->free_requests = r;
}

bool
request_move(struct request *r, enum request_state from, enum request_state to)
{
	uint64_t word = atomic_load_explicit(&r->word, memory_order_relaxed);
	uint64_t expected = word_make(word_generation(word), word_kind(word), from);

	return atomic_compare_exchange_strong_explicit(&r->word, &expected,
	    word_make(word_generation(word), word_kind(word), to), memory_order_acq_rel,
	    memory_order_acquire);
}

/* ---- handles --------------------------------------------------------------------------------- */

struct grapnel_request *
request_handle(const struct request *r)
{
	uint64_t generation = word_generation(atomic_load_explicit(&r->word, memory_order_relaxed));
	uint64_t handle = generation;

	handle = handle << SLOT_BITS | r->index;
	handle = handle << INSTANCE_BITS | r->iw->in->number;
	handle = handle << TABLE_BITS | r->hs->table_number;
	return (struct grapnel_request *)(uintptr_t)handle;
}

struct request *
request_find(const struct grapnel_request *handle, uint64_t *word)
{
	uint64_t bits = (uint64_t)(uintptr_t)handle;
	uint64_t generation = bits >> (64 - GENERATION_BITS);
	uint32_t index = (uint32_t)(bits >> (TABLE_BITS + INSTANCE_BITS)) & ((1u << SLOT_BITS) - 1);
	struct request_table *t =
	    atomic_load_explicit(&tables[bits & (TABLES - 1)], memory_order_acquire);
	struct request *r;

	if (t == NULL || index >= atomic_load_explicit(&t->slots, memory_order_acquire))
		return NULL;
	r = slot_at(t, index);
	if (r == NULL)
		return NULL;
	*word = atomic_load_explicit(&r->word, memory_order_acquire);
	return generation != 0 && word_generation(*word) == generation &&
		word_state(*word) != REQUEST_FREE
	    ? r
	    : NULL;
}

const char *
request_plugin(const struct grapnel_request *handle)
{
	uint64_t bits = (uint64_t)(uintptr_t)handle;
	const char *name = atomic_load_explicit(
	    &names[bits >> TABLE_BITS & (INSTANCE_MAX - 1)], memory_order_acquire);

	return name != NULL ? name : "unknown";
}

void
names_set(unsigned number, const char *name)
{
	/*
	 * One copy of each name that was ever used, for good: whoever reads one may do so at any
	 * time.
	 */
	static struct kept_name {
		struct kept_name *next;
		char text[];
	} * kept;
	struct kept_name *k;

	for (k = kept; k != NULL; k = k->next) {
		if (strcmp(k->text, name) == 0)
			break;
	}
	if (k == NULL) {
		size_t len = strlen(name) + 1;

		k = malloc(sizeof(*k) + len);
		if (k == NULL)
			return;
		memcpy(k->text, name, len);
		k->next = kept;
		kept = k;
	}
	atomic_store_explicit(&names[number], k->text, memory_order_release);
}

/* ---- what plugins do with them --------------------------------------------------------------- */

static int
fault(const struct grapnel_request *handle, enum answer_kind kind, const char *function,
    const char *what)
{
	log_error("plugin \"%s\": %s_%s: %s", request_plugin(handle), answer_kind_name(kind),
	    function, what);
	return GRAPNEL_EINVAL;
}

int
request_attach(struct grapnel_request *handle, enum answer_kind kind, const void *answer)
{
	struct answer *copy;
	const char *why;
	uint64_t word;
	struct request *r = request_find(handle, &word);
	int err;

	if (r == NULL || word_state(word) != REQUEST_IN_HOOK || r->hs->w != worker_self ||
	    r->hs->in_hook != r)
		return GRAPNEL_ESTATE;
	if (word_kind(word) != kind || answer == NULL)
		return fault(handle, kind, "answer",
		    answer == NULL ? "answer is NULL" : "the hook is of another kind");
	err = answer_new(&copy, kind, answer, ask_space(r->ask), ASK_SPACE, &why);
	if (err == GRAPNEL_EINVAL)
		return fault(handle, kind, "answer", why);
	if (err != GRAPNEL_OK)
		return err;
	if (r->attached != NULL) { /* a second one replaces the first */
		if (!r->attached->heap)
			r->ask->space_used = false;
		answer_free(r->attached);
	}
	if (!copy->heap)
		r->ask->space_used = true;
	r->attached = copy;
	return GRAPNEL_OK;
}

int
request_resolve(struct grapnel_request *handle, enum answer_kind kind, enum grapnel_verdict verdict,
    const void *answer)
{
	struct answer *copy = NULL;
	const char *why;
	uint64_t word;
	struct request *r = request_find(handle, &word);
	int err = GRAPNEL_OK;

	if (r == NULL)
		return fault(handle, kind, "resolve",
		    "this request has been resolved before, or its hook answered at once");
	if (word_kind(word) != kind)
		return fault(handle, kind, "resolve", "the request is of another hook");
	if (verdict != GRAPNEL_ALLOW && verdict != GRAPNEL_DENY && verdict != GRAPNEL_NEXT &&
	    verdict != GRAPNEL_UNAVAILABLE)
		return fault(handle, kind, "resolve",
		    "the verdict must be ALLOW, DENY, NEXT or UNAVAILABLE");
	if (answer != NULL && word_state(word) != REQUEST_CANCELLED) {
		err = answer_new(&copy, kind, answer, NULL, 0, &why);
		if (err == GRAPNEL_EINVAL)
			return fault(handle, kind, "resolve", why);
		if (err == GRAPNEL_ENOMEM)
			verdict = GRAPNEL_UNAVAILABLE;
	}
	for (;;) {
		enum request_state state = word_state(word);

		if (state == REQUEST_ABANDONED) {
			answer_free(copy);
			return GRAPNEL_ECANCELED;
		}
		if (state == REQUEST_FREE || state == REQUEST_RESOLVED) {
			answer_free(copy);
			return fault(
			    handle, kind, "resolve", "this request has been resolved before");
		}
		if (atomic_compare_exchange_weak_explicit(&r->word, &word,
			word_make(word_generation(word), kind, REQUEST_RESOLVED),
			memory_order_acq_rel, memory_order_acquire)) {
			if (state == REQUEST_CANCELLED)
				err = GRAPNEL_ECANCELED;
			break;
		}
		if (word_generation(word) != (uint64_t)(uintptr_t)handle >> (64 - GENERATION_BITS))
			word = word_make(
			    0, kind, REQUEST_FREE); /* the slot is somebody else's by now */
	}
	/* From here the slot is ours until the mail is posted. */
	r->verdict = verdict;
	r->answer = copy;
	if (worker_self == r->hs->w && r->hs->in_hook == r) {
		r->inline_resolved = true; /* hooks.c looks when the hook returns */
		return err;
	}
	r->mail.fn = ask_on_mail;
	worker_post(r->hs->w, &r->mail);
	return err;
}
