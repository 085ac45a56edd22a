/* SPDX-License-Identifier: Apache-2.0 */
/* client - clients as a foreign plugin sees them: client.h */
#include "client.h"

#include "common/text_copy.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS_FIRST 256u

static bool
is(struct grapnel_str s, const char *text)
{
	return strlen(text) == s.len && (s.len == 0 || memcmp(s.data, text, s.len) == 0);
}

/* "192.0.2.7:51234" -> "192.0.2.7", "[2001:db8::1]:4" -> "2001:db8::1"; of a Unix socket: "", as in Mosquitto. */
static char *
address_of(struct grapnel_str peer)
{
	size_t end = peer.len;

	if (peer.data == NULL || (peer.len >= 5 && memcmp(peer.data, "unix:", 5) == 0))
		return text_copy(GRAPNEL_STR(""));
	while (end > 0 && peer.data[end - 1] >= '0' && peer.data[end - 1] <= '9')
		end--;
	if (end == 0 || end == peer.len || peer.data[end - 1] != ':')
		return text_copy(peer);
	end--;
	if (end >= 2 && peer.data[0] == '[' && peer.data[end - 1] == ']')
		return text_copy((struct grapnel_str){ peer.data + 1, end - 2 });
	return text_copy((struct grapnel_str){ peer.data, end });
}

struct client *
client_new(struct engine_head *engine, const struct grapnel_client_info *info)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	atomic_init(&c->refs, 1);
	c->seen.engine = engine;
	c->seen.id = text_copy(info->client_id);
	c->seen.username = info->username.data != NULL ? text_copy(info->username) : NULL;
	c->seen.address = address_of(info->peer);
	c->seen.keepalive = info->keep_alive;
	c->seen.protocol_version = info->protocol;
	c->seen.clean_session = info->clean_start;
	c->mountpoint = text_copy(info->mountpoint);
	c->listener = text_copy(info->listener);
	c->peer = text_copy(info->peer);
	if (c->seen.id != NULL && (c->seen.username != NULL || info->username.data == NULL) &&
	    c->seen.address != NULL && c->mountpoint != NULL && c->listener != NULL &&
	    c->peer != NULL)
		return c;
	client_unref(c);
	return NULL;
}

void
client_unref(struct client *c)
{
	if (c == NULL || atomic_fetch_sub(&c->refs, 1) > 1)
		return;
	free(c->seen.id);
	free(c->seen.username);
	free(c->named);
	free(c->seen.address);
	free(c->mountpoint);
	free(c->listener);
	free(c->peer);
	free(c);
}

static struct client *
client_ref(struct client *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

/* ---- the table --------------------------------------------------------------------------- */

bool
clients_init(struct clients *cs, const struct grapnel_host *host)
{
	memset(cs, 0, sizeof(*cs));
	if (host->random_bytes(&cs->seed, sizeof(cs->seed)) != GRAPNEL_OK)
		return false;
	cs->buckets = calloc(BUCKETS_FIRST, sizeof(struct client *));
	if (cs->buckets == NULL)
		return false;
	cs->bucket_count = BUCKETS_FIRST;
	if (pthread_mutex_init(&cs->lock, NULL) == 0)
		return true;
	free(cs->buckets);
	cs->buckets = NULL;
	return false;
}

void
clients_fini(struct clients *cs)
{
	struct client *c;

	if (cs->buckets == NULL)
		return;
	for (size_t i = 0; i < cs->bucket_count; i++) {
		while ((c = cs->buckets[i]) != NULL) {
			cs->buckets[i] = c->next;
			client_unref(c);
		}
	}
	free(cs->buckets);
	cs->buckets = NULL;
	pthread_mutex_destroy(&cs->lock);
}

size_t
clients_count(struct clients *cs)
{
	size_t n;

	pthread_mutex_lock(&cs->lock);
	n = cs->count;
	pthread_mutex_unlock(&cs->lock);
	return n;
}

static uint64_t
mix(uint64_t h, struct grapnel_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		h = (h ^ (unsigned char)s.data[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return h;
}

static uint64_t
hash_of(const struct clients *cs, const struct grapnel_client_info *info)
{
	return mix(mix(cs->seed, info->peer), info->client_id);
}

static bool
is_of(const struct client *c, uint64_t hash, const struct grapnel_client_info *info)
{
	return c->hash == hash && is(info->client_id, c->seen.id) && is(info->peer, c->peer) &&
	    is(info->listener, c->listener);
}

/* Twice the buckets; when there is no memory they get longer. */
static void
grow(struct clients *cs)
{
	size_t n = cs->bucket_count * 2;
	struct client **buckets = calloc(n, sizeof(struct client *));

	if (buckets == NULL)
		return;
	for (size_t i = 0; i < cs->bucket_count; i++) {
		struct client *c, *turned = NULL;

		/* Twice turned round: the order, youngest first, stays. */
		while ((c = cs->buckets[i]) != NULL) {
			cs->buckets[i] = c->next;
			c->next = turned;
			turned = c;
		}
		while ((c = turned) != NULL) {
			turned = c->next;
			c->next = buckets[c->hash % n];
			buckets[c->hash % n] = c;
		}
	}
	free(cs->buckets);
	cs->buckets = buckets;
	cs->bucket_count = n;
}

static void
listed(struct clients *cs, struct client *c)
{
	c->older = cs->newest;
	if (c->older != NULL)
		c->older->newer = c;
	else
		cs->oldest = c;
	cs->newest = c;
	c->listed = true;
}

static void
unlisted(struct clients *cs, struct client *c)
{
	if (!c->listed)
		return;
	if (c->older != NULL)
		c->older->newer = c->newer;
	else
		cs->oldest = c->newer;
	if (c->newer != NULL)
		c->newer->older = c->older;
	else
		cs->newest = c->older;
	c->older = c->newer = NULL;
	c->listed = false;
}

/* Under the lock. The table has a reference of its own. */
static void
add(struct clients *cs, struct client *c, uint64_t hash, uint64_t now_ms)
{
	if (cs->count >= cs->bucket_count)
		grow(cs);
	c->hash = hash;
	c->since_ms = now_ms;
	c->next = cs->buckets[hash % cs->bucket_count];
	cs->buckets[hash % cs->bucket_count] = client_ref(c);
	cs->count++;
}

/* Under the lock: out of the table, whose reference is the caller's now. */
static struct client *
take(struct clients *cs, struct client *c)
{
	struct client **at = &cs->buckets[c->hash % cs->bucket_count];

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->next = NULL;
	unlisted(cs, c);
	cs->count--;
	return c;
}

struct client *
clients_login(struct clients *cs, struct engine_head *engine,
    const struct grapnel_client_info *info, uint64_t now_ms)
{
	struct client *c = client_new(engine, info);

	if (c == NULL)
		return NULL;
	pthread_mutex_lock(&cs->lock);
	add(cs, c, hash_of(cs, info), now_ms);
	listed(cs, c);
	pthread_mutex_unlock(&cs->lock);
	return c;
}

struct client *
clients_find(struct clients *cs, const struct grapnel_client_info *info)
{
	uint64_t hash = hash_of(cs, info);
	struct client *c;

	pthread_mutex_lock(&cs->lock);
	for (c = cs->buckets[hash % cs->bucket_count]; c != NULL; c = c->next)
		if (is_of(c, hash, info))
			break;
	if (c != NULL)
		(void)client_ref(c);
	pthread_mutex_unlock(&cs->lock);
	return c;
}

struct client *
clients_connected(struct clients *cs, struct engine_head *engine,
    const struct grapnel_client_info *info, uint64_t now_ms, bool *unwanted)
{
	uint64_t hash = hash_of(cs, info);
	char *mountpoint = text_copy(info->mountpoint);
	struct client *c, *fresh = NULL;

	pthread_mutex_lock(&cs->lock);
	for (c = cs->buckets[hash % cs->bucket_count]; c != NULL; c = c->next)
		if (!c->connected && is_of(c, hash, info))
			break;
	if (c != NULL)
		(void)client_ref(c);
	else if ((c = fresh = client_new(engine, info)) != NULL)
		add(cs, c, hash, now_ms);
	*unwanted = c != NULL && c->unwanted;
	if (c != NULL) {
		c->connected = true;
		unlisted(cs, c);
		if (mountpoint != NULL) { /* the login's may be another one than the listener's */
			free(c->mountpoint);
			c->mountpoint = mountpoint;
			mountpoint = NULL;
		}
	}
	pthread_mutex_unlock(&cs->lock);
	free(mountpoint);
	return c;
}

struct client *
clients_gone(struct clients *cs, const struct grapnel_client_info *info, bool was_connected)
{
	uint64_t hash = hash_of(cs, info);
	struct client *found = NULL;

	pthread_mutex_lock(&cs->lock);
	/* On a Unix socket several may look alike: the oldest is the one that goes first. */
	for (struct client *c = cs->buckets[hash % cs->bucket_count]; c != NULL; c = c->next)
		if (c->connected == was_connected && is_of(c, hash, info))
			found = c;
	if (found != NULL)
		found = take(cs, found);
	pthread_mutex_unlock(&cs->lock);
	return found;
}

struct client *
clients_stale(struct clients *cs, uint64_t now_ms)
{
	struct client *c;

	pthread_mutex_lock(&cs->lock);
	c = cs->oldest;
	if (c != NULL && now_ms - c->since_ms > CLIENT_STALE_MS)
		c = take(cs, c);
	else
		c = NULL;
	pthread_mutex_unlock(&cs->lock);
	return c;
}

void
clients_expel(struct clients *cs, bool (*wanted)(void *arg, const struct client *c),
    void (*fn)(void *arg, const struct client *c), void *arg)
{
	pthread_mutex_lock(&cs->lock);
	for (size_t i = 0; i < cs->bucket_count; i++) {
		for (struct client *c = cs->buckets[i]; c != NULL; c = c->next) {
			if (!wanted(arg, c))
				continue;
			if (c->connected)
				fn(arg, c);
			else
				c->unwanted = true;
		}
	}
	pthread_mutex_unlock(&cs->lock);
}

bool
clients_mountpoint(
    struct clients *cs, const char *client_id, const struct client *about, char **out)
{
	bool first = about != NULL && strcmp(about->seen.id, client_id) == 0, several = false;
	const struct client *found = first ? about : NULL;

	pthread_mutex_lock(&cs->lock);
	for (size_t i = 0; i < cs->bucket_count && !first; i++) {
		for (const struct client *c = cs->buckets[i]; c != NULL; c = c->next) {
			if (!c->connected || strcmp(c->seen.id, client_id) != 0)
				continue;
			several = several ||
			    (found != NULL && strcmp(found->mountpoint, c->mountpoint) != 0);
			found = c;
		}
	}
	*out = several ? NULL : strdup(found != NULL ? found->mountpoint : "");
	pthread_mutex_unlock(&cs->lock);
	return !several;
}
