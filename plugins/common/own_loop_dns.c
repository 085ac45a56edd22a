/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own_loop_dns - look-ups of an own_loop, made by a worker
 *
 * A look-up goes to the first worker that takes it, and its answer comes back as a post. One that is cancelled goes on there;
 * its answer is then of no use. A worker that stops meanwhile forgets it without a word, so the loop keeps the time itself,
 * and has all of them in a list, which a look-up leaves when the worker is known to be done with it.
 */
#include "own_loop_private.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESSES_MAX   16u
#define NAME_MAX_LEN    255u
#define TIMEOUT_DEFAULT 10000u /* the host's */
#define TIMEOUT_SLACK   1000u  /* the worker's answer says more than ours */

struct own_look_up {
	struct own_look_up *prev, *next;
	struct own_loop *loop;
	struct grapnel_timer *timer;
	grapnel_resolve_fn fn; /* NULL: answered, or cancelled */
	void *arg;

	/* The worker's until it has posted back. */
	struct own_loop_call back;
	uint32_t timeout_ms;
	int err;
	size_t count;
	char addresses[ADDRESSES_MAX][INET6_ADDRSTRLEN];
	size_t name_len;
	char name[NAME_MAX_LEN];
};

static void
look_up_free(struct own_look_up *l)
{
	if (l->prev != NULL)
		l->prev->next = l->next;
	else
		l->loop->look_ups = l->next;
	if (l->next != NULL)
		l->next->prev = l->prev;
	free(l);
}

static void
answer(struct own_look_up *l, int err, const struct grapnel_str *addresses, size_t count)
{
	grapnel_resolve_fn fn = l->fn;

	l->loop->table.timer_free(l->timer);
	l->timer = NULL;
	l->fn = NULL;
	fn(l->arg, err, addresses, count);
}

static void
on_back(void *arg)
{
	struct own_look_up *l = arg;
	struct grapnel_str addresses[ADDRESSES_MAX];

	for (size_t i = 0; i < l->count; i++)
		addresses[i] = (struct grapnel_str){ l->addresses[i], strlen(l->addresses[i]) };
	if (l->fn != NULL)
		answer(l, l->err, l->count > 0 ? addresses : NULL, l->count);
	look_up_free(l);
}

static void
on_timeout(void *arg)
{
	answer(arg, GRAPNEL_ETIMEOUT, NULL, 0);
}

/* ---- on the worker ----------------------------------------------------------------- */

static void
post_back(struct own_look_up *l)
{
	/* A loop that was stopped meanwhile still has it in its list. */
	(void)own_loop_call(l->loop, &l->back);
}

static void
on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	struct own_look_up *l = arg;

	for (size_t i = 0; i < count && l->count < ADDRESSES_MAX; i++) {
		if (addresses[i].len >= sizeof(l->addresses[0]))
			continue;
		memcpy(l->addresses[l->count], addresses[i].data, addresses[i].len);
		l->addresses[l->count++][addresses[i].len] = '\0';
	}
	l->err = l->count > 0 ? GRAPNEL_OK : err != GRAPNEL_OK ? err : GRAPNEL_ENOENT;
	post_back(l);
}

static void
on_worker(void *arg)
{
	struct own_look_up *l = arg;
	struct own_loop *loop = l->loop;

	if (loop->host->dns_lookup(loop->self, (struct grapnel_str){ l->name, l->name_len },
		l->timeout_ms, on_addresses, l) != NULL)
		return;
	l->err = GRAPNEL_EFAULT;
	post_back(l);
}

/* ---- on the loop ------------------------------------------------------------------- */

static struct own_look_up *
look_up_new(struct own_loop *loop, struct grapnel_str name)
{
	struct own_look_up *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->loop = loop;
	l->back = (struct own_loop_call){ .fn = on_back, .arg = l };
	memcpy(l->name, name.data, name.len);
	l->name_len = name.len;
	l->next = loop->look_ups;
	if (l->next != NULL)
		l->next->prev = l;
	loop->look_ups = l;
	return l;
}

static bool
give_to_worker(struct own_look_up *l)
{
	const struct grapnel_host *host = l->loop->host;

	for (unsigned i = 0; i < host->workers; i++)
		if (host->post(l->loop->self, i, on_worker, l) == GRAPNEL_OK)
			return true;
	return false;
}

struct grapnel_resolve *
own_loop_dns_lookup(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms,
    grapnel_resolve_fn fn, void *arg)
{
	struct own_loop *loop = own_loop_here;
	struct own_look_up *l;

	if (loop == NULL || fn == NULL || name.len > NAME_MAX_LEN ||
	    (l = look_up_new(loop, name)) == NULL)
		return NULL;
	l->timeout_ms = timeout_ms > 0 ? timeout_ms : TIMEOUT_DEFAULT;
	if (l->timeout_ms > UINT32_MAX - TIMEOUT_SLACK)
		l->timeout_ms = UINT32_MAX - TIMEOUT_SLACK;
	l->timer = loop->table.timer_new(self, on_timeout, l);
	if (l->timer == NULL ||
	    loop->table.timer_arm(l->timer, l->timeout_ms + TIMEOUT_SLACK) != GRAPNEL_OK) {
		loop->table.timer_free(l->timer);
		look_up_free(l);
		return NULL;
	}
	l->fn = fn;
	l->arg = arg;
	if (!give_to_worker(l)) {
		l->err = GRAPNEL_EFAULT;
		post_back(l);
	}
	return (struct grapnel_resolve *)(void *)l;
}

void
own_loop_dns_cancel(struct grapnel_resolve *look_up)
{
	struct own_look_up *l = (struct own_look_up *)(void *)look_up;

	if (l == NULL)
		return;
	l->loop->table.timer_free(l->timer);
	l->timer = NULL;
	l->fn = NULL;
}

void
own_loop_dns_forget(struct own_loop *loop)
{
	while (loop->look_ups != NULL)
		look_up_free(loop->look_ups);
}
