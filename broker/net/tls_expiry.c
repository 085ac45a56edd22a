/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_expiry.h"

#include "base/log.h"
#include "core/broker.h"
#include "net/acceptor.h"
#include "net/tls_context.h"
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define DAY_S   86400
#define AHEAD_S (30 * DAY_S)

void
tls_expiry_each(const struct listeners *l,
    void (*fn)(const char *listener, const struct tls_certificate *c, void *arg), void *arg)
{
	for (unsigned i = 0; i < l->count; i++) {
		const struct listener *li = &l->items[i];
		const struct tls_certificate *c;
		unsigned count;

		if (li->tls == NULL) /* only main exchanges it: no lock */
			continue;
		c = tls_context_certificates(li->tls, &count);
		for (unsigned k = 0; k < count; k++)
			fn(li->name, &c[k], arg);
	}
}

int
tls_expiry_text(
    const char *listener, const struct tls_certificate *c, int64_t now_s, char *out, size_t size)
{
	time_t end = (time_t)c->not_after;
	char when[64] = "?", host[300] = "";
	struct tm tm;

	if (c->not_after - now_s > AHEAD_S)
		return 0;
	if (gmtime_r(&end, &tm) != NULL)
		(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	if (c->server_name[0] != '\0')
		(void)snprintf(host, sizeof(host), "server_name \"%s\": ", c->server_name);
	if (c->not_after <= now_s) {
		(void)snprintf(out, size,
		    "listener \"%s\": %scertificate %s has ended on %s: clients refuse it. Put a "
		    "new "
		    "one there, then grapnelctl reload",
		    listener, host, c->file, when);
		return GRAPNEL_LOG_ERROR;
	}
	(void)snprintf(out, size,
	    "listener \"%s\": %scertificate %s ends on %s, in %" PRId64
	    " days. Put a new one there, then grapnelctl reload",
	    listener, host, c->file, when, (c->not_after - now_s) / DAY_S);
	return GRAPNEL_LOG_WARNING;
}

static void
tell(const char *listener, const struct tls_certificate *c, void *arg)
{
	char text[1024];
	int level = tls_expiry_text(listener, c, *(const int64_t *)arg, text, sizeof(text));

	if (level != 0)
		log_at(level,
		    level == GRAPNEL_LOG_ERROR ? "certificate_expired" : "certificate_expires",
		    "%s", text);
}

static void
look(struct listeners *l)
{
	int64_t now_s = (int64_t)time(NULL);

	tls_expiry_each(l, tell, &now_s);
	worker_timer(l->broker->main, &l->expiry, (uint64_t)DAY_S * 1000);
}

static void
on_day_over(struct timer *t, void *owner)
{
	(void)owner;
	look((struct listeners *)(void *)((char *)t - offsetof(struct listeners, expiry)));
}

void
tls_expiry_start(struct listeners *l)
{
	if (!timer_armed(&l->expiry))
		timer_init(&l->expiry, on_day_over);
	look(l);
}

void
tls_expiry_stop(struct listeners *l)
{
	if (timer_armed(&l->expiry))
		timer_disarm(l->broker->main->wheel, &l->expiry);
}
