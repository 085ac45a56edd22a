/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns - host names to addresses on a worker's loop, with evdns
 *
 * The resolver is made with the first look-up. Numeric names and /etc/hosts are answered by
 * libevent inside the call; a plugin gets those answers from the loop too, so that its callback
 * never runs before it has the handle.
 */
#include "base/log.h"
#include "request.h"
#include "services.h"
#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESSES_MAX 32u
#define NAME_MAX_LEN  255u

struct grapnel_resolve {
	struct service service;
	struct evdns_getaddrinfo_request *request; /* NULL: answered, or answered inside the call */
	struct timer timer;    /* its time is up, or its answer is to be given */
	grapnel_resolve_fn fn; /* NULL: nobody wants it any more */
	void *arg;
	int err;
	unsigned count;
	bool answered;
	char addresses[ADDRESSES_MAX][INET6_ADDRSTRLEN];
};

static struct evdns_base *
resolver(struct hook_state *hs)
{
	if (hs->dns != NULL)
		return hs->dns;
	hs->dns = evdns_base_new(hs->w->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (hs->dns == NULL)
		return NULL;
	/*
	 * Not EVDNS_BASE_INITIALIZE_NAMESERVERS: it fails as a whole where resolv.conf is missing
	 * or empty, and numeric names and /etc/hosts work without one.
	 */
	if (evdns_base_resolv_conf_parse(
		hs->dns, DNS_OPTIONS_ALL & ~DNS_OPTION_HOSTSFILE, "/etc/resolv.conf") != 0)
		log_debug("dns: /etc/resolv.conf names no server");
	(void)evdns_base_load_hosts(hs->dns, "/etc/hosts");
	return hs->dns;
}

void
dns_close(struct hook_state *hs)
{
	if (hs->dns != NULL)
		evdns_base_free(hs->dns, 1);
	hs->dns = NULL;
}

/* Give the answer and end. */
static void
resolve_finish(struct grapnel_resolve *l)
{
	struct grapnel_str addresses[ADDRESSES_MAX];
	struct instance_worker *iw = l->service.iw;
	grapnel_resolve_fn fn = l->fn;
	uint64_t entered;

	for (unsigned i = 0; i < l->count; i++) {
		addresses[i].data = l->addresses[i];
		addresses[i].len = strlen(l->addresses[i]);
	}
	service_remove(&l->service);
	l->fn = NULL;
	entered = plugin_enter();
	fn(l->arg, l->count > 0 ? GRAPNEL_OK : l->err, l->count > 0 ? addresses : NULL, l->count);
	plugin_leave(iw, entered, "dns_lookup callback");
	if (l->answered)
		free(l);
	else if (l->request != NULL)
		evdns_getaddrinfo_cancel(l->request); /* its callback frees it */
}

static void
resolve_on_timer(struct timer *t, void *owner)
{
	struct grapnel_resolve *l =
	    (struct grapnel_resolve *)(void *)((char *)t - offsetof(struct grapnel_resolve, timer));

	(void)owner;
	if (!l->answered)
		l->err = GRAPNEL_ETIMEOUT;
	resolve_finish(l);
}

static int
resolve_error(int gai)
{
	switch (gai) {
	case EVUTIL_EAI_NONAME:
	case EVUTIL_EAI_ADDRFAMILY:
#ifdef EVUTIL_EAI_NODATA
	case EVUTIL_EAI_NODATA:
#endif
		return GRAPNEL_ENOENT;
	case EVUTIL_EAI_MEMORY:
		return GRAPNEL_ENOMEM;
	case EVUTIL_EAI_AGAIN:
		return GRAPNEL_ETIMEOUT;
	default:
		return GRAPNEL_EFAULT;
	}
}

static void
resolve_on_answer(int result, struct evutil_addrinfo *list, void *arg)
{
	struct grapnel_resolve *l = arg;

	for (struct evutil_addrinfo *ai = list; ai != NULL && l->count < ADDRESSES_MAX;
	     ai = ai->ai_next) {
		const void *address = NULL;

		if (ai->ai_family == AF_INET)
			address =
			    &((const struct sockaddr_in *)(const void *)ai->ai_addr)->sin_addr;
		else if (ai->ai_family == AF_INET6)
			address =
			    &((const struct sockaddr_in6 *)(const void *)ai->ai_addr)->sin6_addr;
		if (address != NULL &&
		    inet_ntop(ai->ai_family, address, l->addresses[l->count], INET6_ADDRSTRLEN) !=
			NULL)
			l->count++;
	}
	if (list != NULL)
		evutil_freeaddrinfo(list);
	l->answered = true;
	l->request = NULL;
	if (l->fn == NULL) { /* cancelled, or timed out and told so */
		free(l);
		return;
	}
	l->err = result == 0 ? GRAPNEL_ENOENT : resolve_error(result);
	/* From the wheel: also when we are still inside dns_lookup. */
	timer_arm(l->service.iw->w->wheel, &l->timer, 0);
	l->service.iw->w->again = true;
}

static void
resolve_drop(struct service *s)
{
	dns_cancel((struct grapnel_resolve *)(void *)s);
}

struct grapnel_resolve *
dns_lookup(struct instance_worker *iw, struct grapnel_str name, uint32_t timeout_ms,
    grapnel_resolve_fn fn, void *arg)
{
	struct evutil_addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP
	};
	struct evdns_base *base = resolver(iw->w->hooks);
	struct evdns_getaddrinfo_request *request;
	struct grapnel_resolve *l;
	char text[NAME_MAX_LEN + 1];

	if (base == NULL || fn == NULL || (l = calloc(1, sizeof(*l))) == NULL)
		return NULL;
	l->fn = fn;
	l->arg = arg;
	timer_init(&l->timer, resolve_on_timer);
	service_add(&l->service, iw, resolve_drop);
	if (name.len == 0 || name.len > NAME_MAX_LEN || memchr(name.data, '\0', name.len) != NULL) {
		resolve_on_answer(EVUTIL_EAI_NONAME, NULL, l);
		return l;
	}
	memcpy(text, name.data, name.len);
	text[name.len] = '\0';
	timer_arm(iw->w->wheel, &l->timer, clock_ms() + (timeout_ms > 0 ? timeout_ms : 10000));
	request = evdns_getaddrinfo(base, text, NULL, &hints, resolve_on_answer, l);
	if (!l->answered)
		l->request = request;
	return l;
}

void
dns_cancel(struct grapnel_resolve *l)
{
	if (l == NULL)
		return;
	timer_disarm(l->service.iw->w->wheel, &l->timer);
	service_remove(&l->service);
	l->fn = NULL;
	if (l->answered)
		free(l);
	else if (l->request != NULL)
		evdns_getaddrinfo_cancel(l->request); /* its callback comes later, and frees */
}
