/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request - what a plugin holds while it decides; and the rest of a worker's plugin state
 *
 * struct ask       one question walking its chain; the asker's. hooks.c
 * struct request   one step of it: one instance that was asked. request.c
 *
 * A plugin's struct grapnel_request * is no address: it is table, instance, slot and generation
 * in one word. Slots keep being slots, so that a handle that is used twice, too late or with the
 * wrong function is found out and named instead of corrupting something. When the asker is gone
 * or the deadline has passed, the request stays (CANCELLED), with its question, until the plugin
 * resolves it; it counts against max_pending all the while.
 *
 * States (in `word`, together with generation and kind of answer; changed by compare-and-swap):
 *
 *	FREE -> IN_HOOK -> PENDING -> RESOLVED -> FREE
 *		   |	      '--> CANCELLED --> RESOLVED
 *		   '----------------------------^      (resolved before the hook returned)
 *
 * Whoever makes it RESOLVED, from whatever thread, owns verdict and answer of the slot and posts
 * its mail to the worker, which does the rest.
 *
 * Threads:   request_resolve and request_find on any; the rest on the worker.
 * Bounded:   REQUEST_SLOTS per worker; the instances' max_pending.
 */
#ifndef BROKER_PLUGIN_REQUEST_H
#define BROKER_PLUGIN_REQUEST_H

#include "answer.h"
#include "cache.h"
#include "copy.h"
#include "instance.h"
#include <string.h>

#define REQUEST_CHUNKS 15u /* of 64, 128, 256 ... slots */
#define REQUEST_SLOTS  (64u * ((1u << REQUEST_CHUNKS) - 1))

enum request_state {
	REQUEST_FREE,
	REQUEST_IN_HOOK,
	REQUEST_PENDING,
	REQUEST_CANCELLED,
	REQUEST_RESOLVED,
	REQUEST_ABANDONED, /* its worker is gone, at the end of the process */
};

struct ask;
struct hook_state;

struct request {
	struct mail mail;
	_Atomic uint64_t word; /* generation << 16 | enum answer_kind << 8 | enum request_state */
	_Atomic uint64_t deadline_ms;
	_Atomic(void *) data; /* the plugin's */
	uint32_t index;
	unsigned worker;
	struct hook_state *hs;
	struct request *next_free;
	struct instance_worker *iw;
	struct ask *ask; /* NULL: nobody waits for it any more */
	struct question *question;
	enum hook hook;
	uint64_t started_us;
	struct answer *attached; /* by an *_answer function, inside the hook */
	bool inline_resolved;    /* resolved on the worker's own thread, inside the hook: no mail */
	/* whoever resolves */
	enum grapnel_verdict verdict;
	struct answer *answer;
};

/* Several entries that stand together and decide as one: `require`. */
struct chain_group {
	char *name; /* "all", "any:devices" */
	bool all;
};
struct chain_entry {
	struct instance_worker *iw;
	const struct string_list *listeners; /* of its struct chain_member */
	uint32_t timeout_ms; /* 0: limits.auth_timeout */
	int on_error;        /* of struct plugin_settings */
	const struct chain_group *group; /* of the set; NULL: it decides alone */
	bool last;                       /* of its group */
};
struct chain {
	struct chain_entry *entries;
	unsigned length;
	struct chain_entry *shadows; /* asked when all is decided, and not heeded */
	unsigned shadow_count;
};
/* An instance of a set, whatever chains it is in. */
struct chain_member {
	struct instance *in;
	const struct string_list *listeners; /* of the set's settings: whose clients are its matter; NULL: all */
};
/*
 * What is in force on one worker, or was and still is walked by an ask. Its owner is the worker
 * once installed.
 */
struct chain_set {
	uint32_t refs;
	struct hook_state *hs; /* NULL: not installed yet */
	struct chain chains[HOOK_COUNT];
	unsigned group_count;
	struct chain_group *groups;
	unsigned member_count;
	struct chain_member *members;
	struct settings *settings; /* NULL: it has no members */
};

/* Is what is about this client a matter of who has these listeners? c NULL: about no client. */
static inline bool
listeners_concern(const struct string_list *listeners, const struct grapnel_client_info *c)
{
	if (listeners == NULL || c == NULL)
		return true;
	for (unsigned i = 0; i < listeners->count; i++) {
		const char *title = listeners->items[i];

		if (strlen(title) == c->listener.len && memcmp(title, c->listener.data, c->listener.len) == 0)
			return true;
	}
	return false;
}

/* A plugin's details of most answers fit here, so that an answer at once costs no allocation. */
#define ASK_SPACE 768u

/* How far a `require` group has got. */
struct required {
	bool allowed, denied, unavailable;
};

struct ask {
	struct ask *next_free;
	struct hook_state *hs;
	enum hook hook;
	struct chain_set *set;
	const struct chain_entry *entries;
	unsigned position, end; /* in the chain */
	decision_fn fn;         /* NULL: decided at once, or cancelled */
	void *arg;
	struct question *question;
	struct request *waiting;
	struct timer deadline;
	struct answer *answers; /* all that the decision may point to */
	struct answer *deciding;
	union { /* merged over the chain */
		struct grapnel_publish_answer publish;
		struct grapnel_subscribe_answer subscribe;
	} merged;
	bool changed;
	bool finished;
	bool space_used;
	bool single; /* one instance by itself, whatever group it is in */
	bool dry;    /* explain: leaves no trace */
	bool shadow; /* its decision is compared with shadow_of and forgotten */
	enum grapnel_verdict shadow_of;
	enum grapnel_verdict verdict;
	const char *plugin;
	struct required required;
	/* policy.c, about the entry at position - 1 */
	bool keyed;   /* key is that of its question */
	bool leading; /* others may wait for its answer */
	bool probe;   /* of the breaker */
	bool alone;   /* share nothing any more */
	struct cache_key key;
	struct landing *landing; /* it waits for the answer to an equal question */
	uint64_t asked_us;
	uint8_t how; /* enum step_how */
	uint32_t age_ms;
	unsigned step_count;
	struct decision_step steps[DECISION_STEPS];
	_Alignas(16) char space[ASK_SPACE];
};

struct request_table {
	_Atomic(struct request *) chunks[REQUEST_CHUNKS];
	_Atomic uint32_t slots; /* made so far */
};

struct evdns_base;

/* worker->hooks */
struct hook_state {
	struct hook_state_head head; /* first: hooks.h */
	struct worker *w;
	struct chain_set *set;
	struct instance_worker *by_number[INSTANCE_MAX];
	/* requests */
	unsigned table_number;
	struct request_table *table;
	struct request *free_requests;
	struct ask *free_asks;
	unsigned free_ask_count;
	struct question_pool questions;
	struct request *in_hook; /* the request whose hook runs now */
	/* events */
	uint64_t sequence;
	struct event_queue *ready;
	unsigned blocking_queues;
	struct cache_hasher *hasher; /* NULL: not needed yet */
	/* services */
	struct evdns_base *dns;
	/* leaving */
	struct instance_worker *retiring;
	struct timer retire_timer;
	bool stopping;
};

/* ---- request.c ------------------------------------------------------------------------------- */
int request_table_open(struct hook_state *hs); /* a number for it; GRAPNEL_ENOMEM, GRAPNEL_EQUOTA */
void request_table_close(struct hook_state *hs);
/* A slot IN_HOOK. NULL: no memory, or all are taken. */
struct request *request_new(struct hook_state *hs, struct instance_worker *iw, enum hook h,
    struct question *q, uint64_t deadline_ms);
struct grapnel_request *request_handle(const struct request *r);
/* From one state to another. false: it is not in the first any more (somebody resolved it). */
bool request_move(struct request *r, enum request_state from, enum request_state to);
void request_release(struct request *r); /* the slot is free again; what it still owns is freed */
/* On any thread, from a handle. NULL: stale. */
struct request *request_find(const struct grapnel_request *handle, uint64_t *word);
const char *request_plugin(const struct grapnel_request
	*handle); /* the name of its instance, for messages about a stale one */
int request_attach(struct grapnel_request *handle, enum answer_kind kind, const void *answer);
int request_resolve(struct grapnel_request *handle, enum answer_kind kind,
    enum grapnel_verdict verdict, const void *answer);
void names_set(unsigned number, const char *name); /* main: so that a stale handle can be named */

/* ---- hooks.c, state.c ------------------------------------------------------------------------ */
/* The mail of a request arrived. */
void ask_on_mail(struct worker *w, struct mail *m);
void *ask_space(struct ask *a); /* NULL: in use */
struct ask *ask_new(struct hook_state *hs, enum hook h); /* about the whole chain; NULL: no memory */
void ask_free(struct ask *a);
/* Walk on. true: decided; false: a plugin has it, or it waits for the answer to another question. */
bool ask_run(struct ask *a);
void ask_decision(struct ask *a, struct decision *d);
/* The entry has answered, or could not (asked false: it was not even asked). true: the ask is decided. */
bool ask_answered(struct ask *a, const struct chain_entry *e, bool asked, enum grapnel_verdict verdict, struct answer *answer,
    uint64_t microseconds);
/* Back from waiting: walk on if it is not decided; the asker learns what is. */
void ask_go_on(struct ask *a, bool decided);
/* ---- record.c */
void ask_step(struct ask *a, struct instance *in, enum grapnel_verdict verdict, uint64_t microseconds, const struct answer *answer);
void ask_record(const struct ask *a);
struct record;
void record_nobody(struct record *r); /* nobody decided: what that means */
/* ---- require.c */
/* A member of a group has answered; its answer is in a->answers. true: the ask is decided. */
bool require_take(struct ask *a, const struct chain_entry *e, enum grapnel_verdict verdict, struct answer *answer);
/* The client is no matter of this member: as if the group did not have it. */
bool require_pass_by(struct ask *a, const struct chain_entry *e);
/* ---- shadow.c */
void shadows_ask(const struct ask *decided);
/* Put in force on this worker; the old one is let go. Owner of set: hs. */
void chains_install(struct hook_state *hs, struct chain_set *set);
void chain_set_unref(struct chain_set *set); /* NULL is fine */
/* On its worker: nothing new reaches the instance; it is left when what it has is finished. */
void retire_begin(struct hook_state *hs, struct instance_worker *iw);

#endif
