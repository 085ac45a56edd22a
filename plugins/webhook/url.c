/* SPDX-License-Identifier: Apache-2.0 */
/* url - which of an endpoint's URLs is up, and when the others are tried again */
#include "parts.h"

#include <stdio.h>
#include <string.h>

#define RETRY_AFTER_MAX_MS 3600000u

static bool
usable(const struct url *u, uint64_t now_ms)
{
	return u->failures == 0 || (!u->probing && now_ms >= u->down_until_ms);
}

struct url *
url_pick(struct endpoint *e, uint64_t now_ms)
{
	for (unsigned i = 0; i < e->url_count; i++) {
		struct url *u = &e->urls[(e->next_url + i) % e->url_count];

		if (!usable(u, now_ms))
			continue;
		u->probing = u->failures > 0; /* one request finds out for all */
		if (e->spread)
			e->next_url = (unsigned)(u - e->urls) + 1;
		return u;
	}
	return NULL;
}

uint64_t
url_next_ms(const struct endpoint *e)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < e->url_count; i++)
		if (!e->urls[i].probing && e->urls[i].down_until_ms < next)
			next = e->urls[i].down_until_ms;
	return next;
}

static void
note(struct endpoint *e, struct url *u, long status, const char *error)
{
	(void)pthread_mutex_lock(&e->w->lock);
	u->status = status;
	(void)snprintf(u->error, sizeof(u->error), "%s", error);
	if (error[0] != '\0')
		(void)snprintf(e->error, sizeof(e->error), "%s", error);
	(void)pthread_mutex_unlock(&e->w->lock);
}

/* Between half and all of it, so that many who fail at once do not come back at once. */
static uint64_t
with_jitter(struct endpoint *e, uint64_t ms)
{
	uint32_t random = 0;

	(void)e->w->host->random_bytes(&random, sizeof(random));
	return ms / 2 + random % (ms / 2 + 1);
}

void
url_failed(
    struct endpoint *e, struct url *u, uint32_t retry_after_ms, long status, const char *error)
{
	struct webhook *w = e->w;
	unsigned shift = u->failures < 16 ? u->failures : 16;
	uint64_t wait = (uint64_t)e->retry_min_ms << shift, now = w->host->now_ms();

	/* Those that were sent before it went down say the same; they make it no worse. */
	if (u->failures == 0 || u->probing || now >= u->down_until_ms) {
		if (wait > e->retry_max_ms)
			wait = e->retry_max_ms;
		u->failures++;
		u->down_until_ms = now + with_jitter(e, wait);
	}
	if (retry_after_ms != UINT32_MAX) {
		if (retry_after_ms > RETRY_AFTER_MAX_MS)
			retry_after_ms = RETRY_AFTER_MAX_MS;
		if (retry_after_ms < e->retry_min_ms) /* 0 is no invitation to hurry */
			retry_after_ms = e->retry_min_ms;
		u->down_until_ms = now + retry_after_ms;
	}
	u->probing = false;
	note(e, u, status, error);
	if (!e->complained)
		w->host->log(w->self, GRAPNEL_LOG_WARNING,
		    "endpoint \"%s\": %s: %s; events wait in the outbox, it is tried again in %llu "
		    "ms",
		    e->name, curl_target_name(u->target), error,
		    (unsigned long long)(u->down_until_ms - now));
	e->complained = true;
	(void)pthread_mutex_lock(&w->lock);
	e->failures++;
	(void)pthread_mutex_unlock(&w->lock);
	w->host->metric_add(w->self, w->m.failures, 1);
}

void
url_answered(struct endpoint *e, struct url *u, long status, const char *error)
{
	u->failures = 0;
	u->probing = false;
	u->down_until_ms = 0;
	note(e, u, status, error);
}
