/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chains - who is asked about what, and in which order
 *
 * By `order`, then by place in the files. The members of a `require` group stand together, at the place of the first of
 * them. A plugin with shadow = yes stands in no chain.
 *
 * Threads: main; what is made for a worker is installed there (state.c).
 */
#include "base/log.h"
#include "config/conf.h"
#include "core/broker.h"
#include "plugins.h"
#include "request.h"

#include <stdlib.h>
#include <string.h>

/* ---- groups ---------------------------------------------------------------------------------- */

static struct plugin_entry *
entry_named(const struct plugins *p, const char *name)
{
	for (unsigned i = 0; i < p->count; i++) {
		if (strcmp(p->entries[i].in->name, name) == 0)
			return &p->entries[i];
	}
	return NULL;
}

/* The group that has an entry for that hook; -1: none. */
static int
group_of(const struct plugins *p, enum hook h, const struct plugin_entry *e)
{
	for (unsigned i = 0; i < p->group_count; i++) {
		const struct plugin_group *g = &p->groups[i];

		for (unsigned j = 0; j < g->count && (g->hooks & 1u << h); j++) {
			if (g->members[j] == e)
				return (int)i;
		}
	}
	return -1;
}

static void
member_add(struct plugins *p, struct plugin_group *g, const struct require_settings *rs,
    const char *name, struct conf_errors *errs)
{
	struct plugin_entry *e = entry_named(p, name);

	if (e == NULL) {
		conf_errors_add(errs, "%s: require \"%s\": no plugin \"%s\" is enabled", rs->where,
		    rs->name, name);
		return;
	}
	if (e->shadow) {
		conf_errors_add(errs,
		    "%s: require \"%s\": plugin \"%s\" has shadow = yes, so it decides nothing",
		    rs->where, rs->name, name);
		return;
	}
	for (unsigned h = 0; h < HOOK_COUNT; h++) {
		if (!(g->hooks & 1u << h))
			continue;
		if (h != HOOK_REVALIDATE && !instance_has_hook(e->in, (enum hook)h))
			conf_errors_add(errs,
			    "%s: require \"%s\": plugin \"%s\" does not answer %s, with the "
			    "options it has",
			    rs->where, rs->name, name, hook_name((enum hook)h));
		else if (group_of(p, (enum hook)h, e) >= 0)
			conf_errors_add(errs,
			    "%s: require \"%s\": plugin \"%s\" is in this or another group already",
			    rs->where, rs->name, name);
		else
			continue;
		return;
	}
	g->members[g->count++] = e;
}

static uint16_t
hooks_of(const struct require_settings *rs)
{
	uint16_t hooks = 0;

	for (unsigned i = 0; i < rs->hooks.count; i++) {
		if (strcmp(rs->hooks.items[i], hook_name(HOOK_ACL)) == 0)
			hooks |= 1u << HOOK_ACL;
		else /* who decided on the login is asked whether it is still good */
			hooks |= 1u << HOOK_AUTHENTICATE | 1u << HOOK_REVALIDATE;
	}
	return hooks;
}

static bool
groups_make(struct plugins *p, const struct settings *s, struct conf_errors *errs)
{
	p->groups = calloc(s->require_count + 1, sizeof(*p->groups));
	if (p->groups == NULL)
		return false;
	for (unsigned i = 0; i < s->require_count; i++) {
		const struct require_settings *rs = &s->requires[i];
		struct plugin_group *g = &p->groups[p->group_count];

		g->all = rs->all;
		g->hooks = hooks_of(rs);
		g->name = strdup(rs->name);
		g->members = calloc(rs->plugins.count + 1, sizeof(struct plugin_entry *));
		p->group_count++;
		if (g->name == NULL || g->members == NULL)
			return false;
		for (unsigned j = 0; j < rs->plugins.count; j++)
			member_add(p, g, rs, rs->plugins.items[j], errs);
	}
	return true;
}

/* ---- chains ---------------------------------------------------------------------------------- */

/* Where a place belongs: first by order, then by the files, then by the group's own list. */
struct sorted {
	int order;
	unsigned unit, member;
	struct plugin_place place;
};

static int
compare(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;

	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	if (x->unit != y->unit)
		return x->unit < y->unit ? -1 : 1;
	return x->member < y->member ? -1 : x->member > y->member;
}

static struct sorted
place_of(const struct plugins *p, enum hook h, struct plugin_entry *e)
{
	struct sorted s = { .order = e->order[h],
		.unit = (unsigned)(e - p->entries),
		.place = { .entry = e, .group = group_of(p, h, e) } };
	const struct plugin_group *g;

	if (s.place.group < 0)
		return s;
	g = &p->groups[s.place.group];
	for (unsigned i = 0; i < g->count; i++) {
		const struct plugin_entry *m = g->members[i];

		if (m == e)
			s.member = i;
		if (m->order[h] < s.order)
			s.order = m->order[h];
		if ((unsigned)(m - p->entries) < s.unit)
			s.unit = (unsigned)(m - p->entries);
	}
	return s;
}

/* Enhanced authentication asks one plugin alone, which must not be a way around the others of its group. */
static bool
bypasses(const struct plugins *p, enum hook h, const struct plugin_entry *e)
{
	int group = h == HOOK_AUTH_EXCHANGE ? group_of(p, HOOK_AUTHENTICATE, e) : -1;

	if (group < 0 || !p->groups[group].all)
		return false;
	log_warning("plugin \"%s\" is in require \"%s\", so it takes no part in enhanced "
		    "authentication (AUTH), which "
		    "asks one plugin alone",
	    e->in->name, p->groups[group].name);
	return true;
}

static bool
chain_make(struct plugins *p, enum hook h)
{
	struct sorted *all = calloc(p->count + 1, sizeof(*all));
	unsigned n = 0;

	p->chains[h] = calloc(p->count + 1, sizeof(*p->chains[h]));
	p->shadows[h] = calloc(p->count + 1, sizeof(struct plugin_entry *));
	if (all == NULL || p->chains[h] == NULL || p->shadows[h] == NULL) {
		free(all);
		return false;
	}
	for (unsigned i = 0; i < p->count; i++) {
		struct plugin_entry *e = &p->entries[i];

		if (!instance_has_hook(e->in, h) || bypasses(p, h, e))
			continue;
		if (!e->shadow)
			all[n++] = place_of(p, h, e);
		else if (h == HOOK_AUTHENTICATE || h == HOOK_ACL)
			p->shadows[h][p->shadow_count[h]++] = e;
	}
	qsort(all, n, sizeof(*all), compare);
	for (unsigned i = 0; i < n; i++) {
		p->chains[h][i] = all[i].place;
		p->chains[h][i].last = all[i].place.group >= 0 &&
		    (i + 1 == n || all[i + 1].place.group != all[i].place.group);
	}
	p->chain_length[h] = n;
	free(all);
	return true;
}

/* ---- for each worker -------------------------------------------------------------------------- */

/*
 * message_deliver is asked about every receiver: a plugin that marks what it lets through, or sends to one client, has
 * to see all that goes out.
 */
static struct chain_entry
entry_of(const struct plugins *p, const struct plugin_entry *e, const struct chain_set *set,
    enum hook h, unsigned worker)
{
	return (struct chain_entry){
		.iw = &e->in->workers[worker],
		.listeners = h == HOOK_DELIVER ? NULL : set->members[e - p->entries].listeners,
		.timeout_ms = e->timeout_ms,
		.on_error = e->on_error,
	};
}

static struct chain_set *
chain_set_new(const struct plugins *p, unsigned worker)
{
	struct chain_set *set = calloc(1, sizeof(*set));
	bool main = worker == p->registry->broker->worker_count;

	if (set == NULL)
		return NULL;
	set->refs = 1;
	set->members = calloc(p->count > 0 ? p->count : 1, sizeof(*set->members));
	set->groups = calloc(p->group_count + 1, sizeof(*set->groups));
	if (set->members == NULL || set->groups == NULL)
		goto fail;
	for (unsigned i = 0; i < p->count; i++) {
		const struct plugin_entry *e = &p->entries[i];

		set->members[i] = (struct chain_member){ .in = e->in,
			.listeners = e->listeners->count > 0 ? e->listeners : NULL };
	}
	set->member_count = p->count;
	set->settings = settings_ref(p->settings);
	for (unsigned i = 0; i < p->group_count; i++) {
		set->groups[i].all = p->groups[i].all;
		if ((set->groups[i].name = strdup(p->groups[i].name)) == NULL)
			goto fail;
		set->group_count++;
	}
	for (unsigned h = 0; h < HOOK_COUNT && !main; h++) {
		struct chain *chain = &set->chains[h];

		chain->entries = calloc(p->chain_length[h] + 1, sizeof(*chain->entries));
		chain->shadows = calloc(p->shadow_count[h] + 1, sizeof(*chain->shadows));
		if (chain->entries == NULL || chain->shadows == NULL)
			goto fail;
		for (unsigned i = 0; i < p->chain_length[h]; i++) {
			const struct plugin_place *at = &p->chains[h][i];

			chain->entries[i] = entry_of(p, at->entry, set, (enum hook)h, worker);
			chain->entries[i].group = at->group >= 0 ? &set->groups[at->group] : NULL;
			chain->entries[i].last = at->last;
		}
		chain->length = p->chain_length[h];
		for (unsigned i = 0; i < p->shadow_count[h]; i++)
			chain->shadows[i] =
			    entry_of(p, p->shadows[h][i], set, (enum hook)h, worker);
		chain->shadow_count = p->shadow_count[h];
	}
	return set;
fail:
	chain_set_unref(set); /* not installed: it touches no instance */
	return NULL;
}

static int
chain_sets_new(struct plugins *p)
{
	for (unsigned i = 0; i <= p->registry->broker->worker_count; i++) {
		if (p->sets[i] == NULL && (p->sets[i] = chain_set_new(p, i)) == NULL)
			return GRAPNEL_ENOMEM;
	}
	return GRAPNEL_OK;
}

bool
chains_make(struct plugins *p, const struct settings *s, struct conf_errors *errs)
{
	unsigned before = errs->count;
	bool memory = groups_make(p, s, errs);

	for (unsigned h = 0; memory && h < HOOK_COUNT; h++)
		memory = chain_make(p, (enum hook)h);
	if (!memory || chain_sets_new(p) != GRAPNEL_OK)
		conf_errors_add(errs, "plugins: out of memory");
	return errs->count == before;
}

void
chains_free(struct plugins *p)
{
	for (unsigned h = 0; h < HOOK_COUNT; h++) {
		free(p->chains[h]);
		free(p->shadows[h]);
	}
	for (unsigned i = 0; i < p->group_count; i++) {
		free(p->groups[i].name);
		free(p->groups[i].members);
	}
	free(p->groups);
}
