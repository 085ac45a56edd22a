/* SPDX-License-Identifier: Apache-2.0 */
/* Which messages belong to whom, and which of them came. */
#include "load.h"

#include <stdio.h>

void
subscriber_filter(const struct subscriber *s, uint32_t i, char *buf, size_t cap)
{
	const char *name = scenario_names[cfg.sc];

	switch (cfg.sc) {
	case SC_WILD:
		snprintf(buf, cap, cfg.exact ? "site/0000/dev/%06u/temp" : "site/+/dev/%06u/#",
		    s->id + i * cfg.subs);
		break;
	case SC_PAIRS:
		if (cfg.topics > 1)
			snprintf(buf, cap, "ml/pairs/%06u/+", s->id);
		else
			snprintf(buf, cap, "ml/pairs/%06u/000000", s->id);
		break;
	case SC_FANOUT:
		if (cfg.topics > 1)
			snprintf(buf, cap, "ml/fanout/000000/+");
		else
			snprintf(buf, cap, "ml/fanout/000000/000000");
		break;
	default:
		snprintf(buf, cap, "ml/%s/#", name);
		break;
	}
}

/* Which of this subscriber's flows a flow number is; -1 if it should not be here. */
int32_t
flow_slot(const struct subscriber *s, uint32_t flow)
{
	switch (cfg.sc) {
	case SC_PAIRS:
		return flow == s->id ? 0 : -1;
	case SC_WILD:
		return flow < nflows_total && flow % cfg.subs == s->id ? (int32_t)(flow / cfg.subs)
								       : -1;
	default:
		return flow < s->nflows ? (int32_t)flow : -1;
	}
}

static inline uint32_t
flow_of_slot(const struct subscriber *s, uint32_t slot)
{
	return cfg.sc == SC_PAIRS ? s->id : cfg.sc == SC_WILD ? slot * cfg.subs + s->id : slot;
}

/* True if the message is new, false if it is a duplicate. */
bool
flow_seen(struct worker *w, struct flow *f, uint32_t seq)
{
	if (seq == f->next) {
		f->next++;
		f->got++;
		return true;
	}
	if (seq > f->next) { /* a hole opens */
		if (f->nmiss == f->cap) {
			f->cap = f->cap ? f->cap * 2 : 8;
			f->miss = xrealloc(f->miss, f->cap * sizeof(*f->miss));
		}
		f->miss[f->nmiss++] = (struct range){ f->next, seq };
		f->next = seq + 1;
		f->got++;
		return true;
	}
	for (uint32_t i = f->nmiss; i-- > 0;) { /* late, or seen before? */
		struct range *r = &f->miss[i];
		if (seq < r->lo || seq >= r->hi)
			continue;
		struct range tail = { seq + 1, r->hi };
		r->hi = seq;
		if (r->lo == r->hi)
			*r = f->miss[--f->nmiss];
		if (tail.lo < tail.hi) {
			if (f->nmiss == f->cap) {
				f->cap *= 2;
				f->miss = xrealloc(f->miss, f->cap * sizeof(*f->miss));
			}
			f->miss[f->nmiss++] = tail;
		}
		f->got++;
		ADD(w->late, 1);
		return true;
	}
	ADD(w->dup, 1);
	return false;
}

/* Messages sent and never seen, over all flows of all subscribers. */
uint64_t
flows_lost(const struct subscriber *subs, uint32_t n)
{
	uint64_t lost = 0;

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < subs[i].nflows; k++) {
			uint32_t sent = sent_in_flow[flow_of_slot(&subs[i], k)];
			if (sent > subs[i].flows[k].got)
				lost += sent - subs[i].flows[k].got;
		}
	return lost;
}
