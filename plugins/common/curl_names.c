/* SPDX-License-Identifier: Apache-2.0 */
/* curl_names - host names to addresses for a curl_loop: curl_private.h, "names" */
#include "curl_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_FRESH_MS 60000u
#define NAMES_MAX      256u /* a server may redirect to any number of them */
#define ADDRESSES_MAX  8u
#define ADDRESSES_SIZE (ADDRESSES_MAX * 50u)   /* "[IPv6]," each */
#define ENTRY_SIZE     (ADDRESSES_SIZE + 300u) /* "host:port:" before them */

struct curl_name {
	struct curl_name *next;
	struct curl_names *names;
	struct grapnel_resolve *look_up; /* under way */
	struct curl_waiter *waiting;
	struct curl_waiter *served; /* of those: the answer is being given to them */
	bool serving;
	uint64_t looked_up_at;
	char addresses[ADDRESSES_SIZE]; /* "192.0.2.7,[2001:db8::1]"; "" none */
	char host[];
};

static const char *
error_text(int err)
{
	switch (err) {
	case GRAPNEL_ENOENT:
		return "the host name does not exist";
	case GRAPNEL_ETIMEOUT:
		return "no DNS server has answered in time";
	default:
		return "the DNS server has failed";
	}
}

static void
name_free(struct curl_name *n)
{
	n->names->host->dns_cancel(n->look_up);
	n->names->count--;
	free(n);
}

static void
set_addresses(struct curl_name *n, const struct grapnel_str *addresses, size_t count)
{
	size_t len = 0;

	n->addresses[0] = '\0';
	for (size_t i = 0; i < count && i < ADDRESSES_MAX; i++) {
		bool v6 = memchr(addresses[i].data, ':', addresses[i].len) != NULL;
		size_t room = sizeof(n->addresses) - len;
		int more = snprintf(n->addresses + len, room, v6 ? "%s[%.*s]" : "%s%.*s",
		    len > 0 ? "," : "", (int)addresses[i].len, addresses[i].data);

		if (more < 0 || (size_t)more >= room) { /* cannot be: ADDRESSES_SIZE */
			n->addresses[len] = '\0';
			return;
		}
		len += (size_t)more;
	}
}

static void
on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	struct curl_name *n = arg;
	struct curl_waiter *w;

	n->look_up = NULL;
	n->looked_up_at = n->names->host->now_ms();
	/* The old ones are kept while no server answers; a name that is gone is gone. */
	if (err == GRAPNEL_OK || err == GRAPNEL_ENOENT)
		set_addresses(n, addresses, count);
	/* One who asks again is not served with this answer. */
	n->served = n->waiting;
	n->waiting = NULL;
	n->serving = true;
	while ((w = n->served) != NULL) {
		n->served = w->next;
		w->name = NULL;
		if (n->addresses[0] != '\0')
			w->fn(w, GRAPNEL_OK, "");
		else
			w->fn(w, err, error_text(err));
	}
	n->serving = false;
}

/* The oldest one that nobody waits for; those are as many as there are calls. */
static void
forget_one(struct curl_names *names)
{
	struct curl_name **oldest = NULL, *n;

	for (struct curl_name **at = &names->first; *at != NULL; at = &(*at)->next)
		if ((*at)->waiting == NULL && !(*at)->serving)
			oldest = at;
	if (oldest == NULL)
		return;
	n = *oldest;
	*oldest = n->next;
	name_free(n);
}

static struct curl_name *
find(struct curl_names *names, const char *host)
{
	struct curl_name *n;
	size_t len = strlen(host);

	for (n = names->first; n != NULL; n = n->next)
		if (strcmp(n->host, host) == 0)
			return n;
	if (names->count >= NAMES_MAX)
		forget_one(names);
	n = calloc(1, sizeof(*n) + len + 1);
	if (n == NULL)
		return NULL;
	names->count++;
	memcpy(n->host, host, len);
	n->names = names;
	n->next = names->first;
	names->first = n;
	return n;
}

static bool
look_up(struct curl_name *n, uint32_t timeout_ms)
{
	struct grapnel_str host = { n->host, strlen(n->host) };

	if (n->look_up == NULL)
		n->look_up =
		    n->names->host->dns_lookup(n->names->self, host, timeout_ms, on_addresses, n);
	return n->look_up != NULL;
}

int
curl_names_get(struct curl_names *names, const struct curl_place *place, uint32_t timeout_ms,
    struct curl_waiter *w, struct curl_slist **entry)
{
	struct curl_name *n = find(names, place->host);
	char text[ENTRY_SIZE];

	if (n == NULL)
		return -1;
	if (n->addresses[0] == '\0') {
		if (!look_up(n, timeout_ms))
			return -1;
		w->name = n;
		w->next = n->waiting;
		n->waiting = w;
		return 0;
	}
	if (names->host->now_ms() - n->looked_up_at > NAMES_FRESH_MS)
		(void)look_up(
		    n, timeout_ms); /* for later; if it cannot be now, then the next time */
	/* With "+" libcurl forgets it after a while. */
	(void)snprintf(text, sizeof(text), "%s%s:%s:%s", place->passing ? "+" : "", n->host,
	    place->port, n->addresses);
	*entry = curl_slist_append(NULL, text);
	return *entry != NULL ? 1 : -1;
}

static bool
take_out(struct curl_waiter **list, struct curl_waiter *w)
{
	for (; *list != NULL; list = &(*list)->next)
		if (*list == w) {
			*list = w->next;
			return true;
		}
	return false;
}

void
curl_names_leave(struct curl_waiter *w)
{
	if (w->name == NULL)
		return;
	if (!take_out(&w->name->waiting, w))
		(void)take_out(&w->name->served, w);
	w->name = NULL;
}

void
curl_names_forget(struct curl_names *names)
{
	struct curl_name *n;

	while ((n = names->first) != NULL) {
		names->first = n->next;
		name_free(n);
	}
}
