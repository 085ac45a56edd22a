/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state - a worker's part of the plugins: its chains, the slots of its clients, instances that
 * leave it
 */
#include "base/log.h"
#include "core/broker.h"
#include "request.h"
#include "services.h"
#include "trace.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RETIRE_LOOK_MS 100u
#define RETIRE_WARN_MS 60000u

static void retire_on_timer(struct timer *t, void *owner);

int
hooks_new(struct worker *w)
{
	struct hook_state *hs = calloc(1, sizeof(*hs));
	int err = GRAPNEL_ENOMEM;

	if (hs == NULL)
		return err;
	hs->w = w;
	timer_init(&hs->retire_timer, retire_on_timer);
	hs->set = calloc(1, sizeof(*hs->set));
	if (hs->set == NULL)
		goto fail;
	hs->set->refs = 1;
	hs->set->hs = hs;
	if ((err = request_table_open(hs)) != GRAPNEL_OK)
		goto fail;
	w->hooks = hs;
	return GRAPNEL_OK;
fail:
	free(hs->set);
	free(hs);
	return err;
}

void
hooks_free(struct worker *w)
{
	struct hook_state *hs = w->hooks;
	struct ask *a;

	if (hs == NULL)
		return;
	timer_disarm(w->wheel, &hs->retire_timer);
	dns_close(hs);
	cache_hasher_free(hs->hasher);
	chain_set_unref(hs->set);
	traces_free(&hs->head.traces);
	while ((a = hs->free_asks) != NULL) {
		hs->free_asks = a->next_free;
		free(a);
	}
	question_pool_clear(&hs->questions);
	w->hooks = NULL;
	request_table_close(hs);
	if (hs->table == NULL)
		free(hs); /* else a plugin still holds a request, and its slot points here */
}

/* ---- chains ---------------------------------------------------------------------------------- */

void
chain_set_unref(struct chain_set *set)
{
	if (set == NULL || --set->refs > 0)
		return;
	for (unsigned i = 0; i < set->member_count; i++) {
		if (set->hs != NULL)
			set->members[i].in->workers[set->hs->w->index].sets--;
	}
	for (unsigned h = 0; h < HOOK_COUNT; h++) {
		free(set->chains[h].entries);
		free(set->chains[h].shadows);
	}
	for (unsigned i = 0; i < set->group_count; i++)
		free(set->groups[i].name);
	free(set->groups);
	free(set->members);
	settings_unref(set->settings);
	free(set);
}

void
chains_install(struct hook_state *hs, struct chain_set *set)
{
	struct chain_set *old = hs->set;

	set->hs = hs;
	for (unsigned i = 0; i < set->member_count; i++)
		set->members[i].in->workers[hs->w->index].sets++;
	hs->set = set;
	for (unsigned h = 0; h < HOOK_COUNT; h++)
		hs->head.chain_length[h] = (uint16_t)set->chains[h].length;
	chain_set_unref(old);
	events_update_mask(hs);
}

/* ---- slots of clients ------------------------------------------------------------------------ */

struct client_kept *
client_kept(struct grapnel_client *c, uint32_t slot_count)
{
	struct client_kept *k = c->kept;
	uint32_t had = k != NULL ? k->slot_count : 0;

	if (k != NULL && had >= slot_count)
		return k;
	if ((k = realloc(k, sizeof(*k) + slot_count * sizeof(k->slots[0]))) == NULL)
		return NULL;
	if (c->kept == NULL)
		k->events = NULL;
	memset(k->slots + had, 0, (slot_count - had) * sizeof(k->slots[0]));
	k->slot_count = slot_count;
	c->kept = k;
	events_kept_moved(k);
	return k;
}

static void
slot_free(struct hook_state *hs, struct client_kept *k, uint32_t i)
{
	struct instance_worker *iw = hs != NULL && i < INSTANCE_MAX ? hs->by_number[i] : NULL;
	void *data = k->slots[i];

	k->slots[i] = NULL;
	if (data != NULL && iw != NULL && iw->in->plugin->client_slot_free != NULL) {
		uint64_t entered = plugin_enter();

		iw->in->plugin->client_slot_free(iw->in->state, data);
		plugin_leave(iw, entered, "client_slot_free");
	}
}

void
client_slots_free(struct worker *w, struct grapnel_client *c)
{
	struct client_kept *k = c->kept;

	if (k == NULL)
		return;
	for (uint32_t i = 0; i < k->slot_count; i++)
		slot_free(w->hooks, k, i);
	events_forget_client(k);
	free(k);
	c->kept = NULL;
}

void
client_slots_move(struct worker *w, struct grapnel_client *to, struct grapnel_client *from)
{
	struct client_kept *neu = from->kept, *old = to->kept;

	if (neu == NULL)
		return;
	events_move_client(to, from);
	from->kept = NULL;
	if (old == NULL) {
		to->kept = neu;
		return;
	}
	/* Into the longer of the two arrays, so that nothing can fail. */
	if (neu->slot_count > old->slot_count) {
		for (uint32_t i = 0; i < old->slot_count; i++) {
			if (neu->slots[i] != NULL)
				slot_free(w->hooks, old, i);
			else
				neu->slots[i] = old->slots[i];
		}
		neu->events = old->events;
		events_kept_moved(neu);
		to->kept = neu;
		free(old);
	} else {
		for (uint32_t i = 0; i < neu->slot_count; i++) {
			if (neu->slots[i] == NULL)
				continue;
			slot_free(w->hooks, old, i);
			old->slots[i] = neu->slots[i];
		}
		free(neu);
	}
}

/* ---- leaving --------------------------------------------------------------------------------- */

static void
retire_on_timer(struct timer *t, void *owner)
{
	(void)t;
	(void)owner; /* a turn of the loop is all that was wanted: hooks_flush looks */
}

void
retire_begin(struct hook_state *hs, struct instance_worker *iw)
{
	if (iw->leaving)
		return;
	iw->leaving = true;
	/* One that never started here has nothing to finish; it is reported all the same. */
	if (iw->state == INSTANCE_STARTED)
		iw->state = INSTANCE_RETIRING;
	if (hs->stopping)
		offload_cancel_all(iw->in->registry->pool, iw);
	iw->retiring_since_ms = clock_ms();
	iw->next_retiring = hs->retiring;
	hs->retiring = iw;
	hs->w->again = true;
}

static void
retire_look(struct hook_state *hs)
{
	struct instance_worker **at = &hs->retiring, *iw;
	uint64_t now = clock_ms();

	while ((iw = *at) != NULL) {
		uint64_t since = now - iw->retiring_since_ms;

		if (instance_try_stop(
			iw, hs->stopping, hs->stopping && since >= INSTANCE_GRACE_MS)) {
			*at = iw->next_retiring;
			worker_post(hs->w->broker->main, &iw->report);
			continue;
		}
		if (since >= RETIRE_WARN_MS && !iw->warned) {
			iw->warned = true;
			log_warning("plugin \"%s\": the old instance cannot leave worker %u after "
				    "a reload: %u requests are not resolved, "
				    "%u offload jobs not done",
			    iw->in->name, hs->w->index, iw->requests, iw->jobs);
		}
		at = &iw->next_retiring;
	}
	if (hs->retiring != NULL)
		timer_arm(hs->w->wheel, &hs->retire_timer, now + RETIRE_LOOK_MS);
	else if (hs->stopping)
		dns_close(hs);
}

void
hooks_flush(struct worker *w)
{
	struct hook_state *hs = w->hooks;

	if (hs == NULL)
		return;
	if (hs->ready != NULL && events_flush(hs))
		w->again = true;
	if (hs->retiring != NULL)
		retire_look(hs);
}
