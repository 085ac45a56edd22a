/* SPDX-License-Identifier: Apache-2.0 */
#include "net/guard.h"

#include "base/log.h"
#include "config/cidr.h"
#include "core/broker.h"
#include "net/addresses.h"
#include "store/store.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_FIRST 256u
#define KEY_TEXT      (INET6_ADDRSTRLEN + 4)
#define DOUBLINGS_MAX 20u

struct entry {
	struct entry *next;          /* of its bucket */
	struct entry *newer, *older; /* in the list of banned ones, or of the others */
	struct address_key key;
	uint64_t user;      /* keyed hash of a user name, never 0; 0: this is the address itself */
	uint64_t full_ms;   /* when all its failures are forgiven */
	uint64_t next_ms;   /* of a user: when the next login may be asked about */
	uint64_t banned_ms; /* until then; 0: not banned */
	int64_t ended_ms; /* when the last ban ended or will, perhaps before this machine's start */
	uint32_t bans;
};

struct list {
	struct entry *newest, *oldest;
};

struct guard {
	const struct broker *broker;
	pthread_mutex_t lock;
	struct guard_settings s; /* `except` is ours */
	struct entry **buckets;
	uint32_t bucket_count;
	struct list watched, banned;
	_Atomic uint32_t entries, bans_now; /* written with the lock, read without */
	uint64_t bans, delayed, failures;
};

struct guard *
guard_new(const struct broker *b)
{
	struct guard *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return NULL;
	g->buckets = calloc(BUCKETS_FIRST, sizeof(struct entry *));
	if (g->buckets == NULL || pthread_mutex_init(&g->lock, NULL) != 0) {
		free(g->buckets);
		free(g);
		return NULL;
	}
	g->bucket_count = BUCKETS_FIRST;
	g->broker = b;
	return g;
}

/* ---- who it is --------------------------------------------------------------------------------- */

/* "192.0.2.1:4711", "[2001:db8::1]:4711", or either without a port. */
static bool
address_parse_text(const char *peer, struct sockaddr_storage *out)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
	bool v6 = *peer == '[' || strchr(peer, ':') != strrchr(peer, ':');
	const char *start = *peer == '[' ? peer + 1 : peer;
	size_t len = v6 ? strcspn(start, "]") : strcspn(start, ":");
	char host[INET6_ADDRSTRLEN];

	memset(out, 0, sizeof(*out));
	if (len >= sizeof(host))
		return false;
	memcpy(host, start, len);
	host[len] = '\0';
	out->ss_family = v6 ? AF_INET6 : AF_INET;
	return v6 ? inet_pton(AF_INET6, host, &in6->sin6_addr) == 1
		  : inet_pton(AF_INET, host, &in->sin_addr) == 1;
}

/* With the lock. false: nobody to be watched. */
static bool
watched(struct guard *g, const struct sockaddr *sa, struct address_key *key)
{
	return g->s.enabled && address_key_of(sa, key) &&
	    !cidr_contains(g->s.excepted, g->s.excepted_count, sa);
}

static bool
watched_text(struct guard *g, const char *peer, struct address_key *key)
{
	struct sockaddr_storage ss;

	return address_parse_text(peer, &ss) && watched(g, (const struct sockaddr *)&ss, key);
}

static uint64_t
user_of(const struct guard *g, struct grapnel_str username)
{
	uint64_t h = username.data != NULL ? broker_hash(g->broker, username) : 0;

	return h != 0 ? h : 1;
}

/* "192.0.2.1", or "2001:db8::/64" for a network. */
static void
key_text(const struct address_key *key, char *out, size_t size)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = memcmp(key->bytes, mapped, sizeof(mapped)) == 0;

	if (inet_ntop(v4 ? AF_INET : AF_INET6, key->bytes + (v4 ? 12 : 0), out, (socklen_t)size) ==
	    NULL)
		out[0] = '\0';
	else if (!v4)
		strncat(out, "/64", size - strlen(out) - 1);
}

/* What key_text() made, or an address. */
static bool
key_of_text(struct grapnel_str s, struct address_key *out)
{
	const char *slash = memchr(s.data, '/', s.len);
	size_t len = slash != NULL ? (size_t)(slash - s.data) : s.len;
	struct sockaddr_storage ss;
	char text[KEY_TEXT];

	if (len >= sizeof(text))
		return false;
	memcpy(text, s.data, len);
	text[len] = '\0';
	return address_parse_text(text, &ss) && address_key_of((const struct sockaddr *)&ss, out);
}

/* ---- the table, with the lock ------------------------------------------------------------------ */

static struct entry **
place_of(struct guard *g, const struct address_key *key, uint64_t user)
{
	struct grapnel_str s = { (const char *)key->bytes, sizeof(key->bytes) };
	struct entry **at = &g->buckets[(broker_hash(g->broker, s) + user) & (g->bucket_count - 1)];

	while (*at != NULL &&
	    ((*at)->user != user || memcmp((*at)->key.bytes, key->bytes, sizeof(key->bytes)) != 0))
		at = &(*at)->next;
	return at;
}

static struct list *
list_of(struct guard *g, const struct entry *e)
{
	return e->banned_ms != 0 ? &g->banned : &g->watched;
}

static void
list_remove(struct list *l, struct entry *e)
{
	*(e->newer != NULL ? &e->newer->older : &l->newest) = e->older;
	*(e->older != NULL ? &e->older->newer : &l->oldest) = e->newer;
}

static void
list_add(struct list *l, struct entry *e)
{
	e->newer = NULL;
	e->older = l->newest;
	*(l->newest != NULL ? &l->newest->newer : &l->oldest) = e;
	l->newest = e;
}

static void
entry_free(struct guard *g, struct entry **at)
{
	struct entry *e = *at;

	*at = e->next;
	list_remove(list_of(g, e), e);
	if (e->banned_ms != 0)
		atomic_fetch_sub(&g->bans_now, 1);
	atomic_fetch_sub(&g->entries, 1);
	free(e);
}

/* Until when it is banned, and how often it was. Nothing is written when that time comes: the row says it. */
static void
remember(const struct guard *g, const struct entry *e, uint64_t for_ms)
{
	struct row_ban ban = { .until = { .set = true,
				   .wall_ms = (uint64_t)clock_wall_us() / 1000 + for_ms,
				   .left_ms = for_ms },
		.bans = e->bans };
	struct store *st = g->broker->store;
	struct row_out row = { 0 };
	char text[KEY_TEXT];
	int err;

	if (st == NULL)
		return;
	row_ban(&row, &ban);
	key_text(&e->key, text, sizeof(text));
	err = row.failed ? GRAPNEL_ENOMEM
			 : store_put_ban(st, (struct grapnel_str){ text, strlen(text) },
			       (struct grapnel_str){ (const char *)row.data, row.len });
	if (err != GRAPNEL_OK)
		log_warning("guard: the ban of %s will not outlive a restart: it cannot be kept "
			    "(error %d)",
		    text, err);
	row_free(&row);
}

/* It and what the store knows of it. */
static void
drop(struct guard *g, struct entry **at)
{
	const struct grapnel_str none = { NULL, 0 };
	char text[KEY_TEXT];

	if ((*at)->bans > 0 && g->broker->store != NULL) {
		key_text(&(*at)->key, text, sizeof(text));
		/* Without memory it stays there until it is old, or the address is banned again. */
		(void)store_put_ban(
		    g->broker->store, (struct grapnel_str){ text, strlen(text) }, none);
	}
	entry_free(g, at);
}

static void
unban(struct guard *g, struct entry *e)
{
	list_remove(&g->banned, e);
	e->banned_ms = 0;
	list_add(&g->watched, e);
	atomic_fetch_sub(&g->bans_now, 1);
}

static void
grow(struct guard *g)
{
	uint32_t count = g->bucket_count * 2;
	struct entry **old = g->buckets, **more;

	if (atomic_load(&g->entries) < g->bucket_count ||
	    (more = calloc(count, sizeof(struct entry *))) == NULL)
		return;
	g->buckets = more;
	g->bucket_count = count;
	for (uint32_t i = 0; i < count / 2; i++) {
		struct entry *e, *next;

		for (e = old[i]; e != NULL; e = next) {
			struct entry **at = place_of(g, &e->key, e->user);

			next = e->next;
			e->next = NULL;
			*at = e;
		}
	}
	free(old);
}

/* That entry, made if need be, as the one used last. NULL: no memory. */
static struct entry *
use(struct guard *g, const struct address_key *key, uint64_t user)
{
	struct entry **at = place_of(g, key, user), *e = *at;

	if (e == NULL) {
		while (atomic_load(&g->entries) >= g->s.addresses) {
			struct entry *goes =
			    g->watched.oldest != NULL ? g->watched.oldest : g->banned.oldest;

			drop(g, place_of(g, &goes->key, goes->user));
		}
		if ((e = calloc(1, sizeof(*e))) == NULL)
			return NULL;
		e->key = *key;
		e->user = user;
		grow(g);
		*place_of(g, key, user) = e;
		list_add(&g->watched, e);
		atomic_fetch_add(&g->entries, 1);
	} else if (e->banned_ms == 0) {
		list_remove(&g->watched, e);
		list_add(&g->watched, e);
	}
	return e;
}

/* One failure more. @return how many are not forgiven yet. */
static uint64_t
count_failure(const struct guard *g, struct entry *e, uint64_t now_ms)
{
	if (e->full_ms < now_ms)
		e->full_ms = now_ms;
	e->full_ms += g->s.forgive_ms;
	return (e->full_ms - now_ms + g->s.forgive_ms - 1) / g->s.forgive_ms;
}

/* first, doubled so many times, at most most. */
static uint64_t
doubled(uint64_t first, uint64_t times, uint64_t most)
{
	uint64_t value = first << (times < DOUBLINGS_MAX ? times : DOUBLINGS_MAX);

	return value < most ? value : most;
}

/* ---- settings ---------------------------------------------------------------------------------- */

static void
except_free(struct guard_settings *s)
{
	free(s->excepted);
	s->excepted = NULL;
	s->excepted_count = 0;
}

bool
guard_apply(struct guard *g, const struct guard_settings *s)
{
	struct cidr *copy = calloc(s->excepted_count + 1, sizeof(*copy));

	if (copy == NULL)
		return false;
	if (s->excepted_count > 0)
		memcpy(copy, s->excepted, s->excepted_count * sizeof(*copy));
	pthread_mutex_lock(&g->lock);
	except_free(&g->s);
	g->s = *s;
	g->s.except = (struct string_list){ 0 }; /* its text is not ours */
	g->s.excepted = copy;
	while (atomic_load(&g->entries) > (s->enabled ? s->addresses : 0)) {
		struct entry *goes =
		    g->watched.oldest != NULL ? g->watched.oldest : g->banned.oldest;

		drop(g, place_of(g, &goes->key, goes->user));
	}
	pthread_mutex_unlock(&g->lock);
	return true;
}

void
guard_free(struct guard *g)
{
	if (g == NULL)
		return;
	while (g->watched.oldest != NULL || g->banned.oldest != NULL) {
		struct entry *e = g->watched.oldest != NULL ? g->watched.oldest : g->banned.oldest;

		entry_free(g, place_of(g, &e->key, e->user));
	}
	except_free(&g->s);
	free(g->buckets);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* ---- the four questions -------------------------------------------------------------------------- */

bool
guard_admits(struct guard *g, const struct sockaddr *peer, uint64_t now_ms)
{
	struct address_key key;
	struct entry *e;
	bool admits = true;

	if (g == NULL || atomic_load_explicit(&g->bans_now, memory_order_relaxed) == 0)
		return true;
	pthread_mutex_lock(&g->lock);
	if (watched(g, peer, &key) && (e = *place_of(g, &key, 0)) != NULL && e->banned_ms != 0) {
		if (now_ms < e->banned_ms)
			admits = false;
		else
			unban(g, e);
	}
	pthread_mutex_unlock(&g->lock);
	return admits;
}

uint32_t
guard_wait(struct guard *g, const char *peer, struct grapnel_str username, uint64_t now_ms)
{
	struct address_key key;
	struct entry *e;
	uint64_t wait_ms = 0;

	if (g == NULL || atomic_load_explicit(&g->entries, memory_order_relaxed) == 0)
		return 0;
	pthread_mutex_lock(&g->lock);
	if (watched_text(g, peer, &key) && (e = *place_of(g, &key, user_of(g, username))) != NULL &&
	    e->next_ms > now_ms) {
		wait_ms = e->next_ms - now_ms;
		if (wait_ms > g->s.delay_max_ms) {
			wait_ms = UINT32_MAX; /* a queue is no way to keep its connections busy */
		} else {
			e->next_ms += g->s.delay_ms; /* others line up behind it */
			g->delayed++;
		}
	}
	pthread_mutex_unlock(&g->lock);
	return (uint32_t)wait_ms;
}

/* The bucket is full. @return for how long. */
static uint64_t
ban(struct guard *g, struct entry *e, uint64_t now_ms)
{
	uint64_t for_ms;

	if (g->s.ban_ms == 0)
		return 0;
	if ((int64_t)now_ms - e->ended_ms > (int64_t)g->s.ban_max_ms)
		e->bans = 0; /* long ago: perhaps it is somebody else's by now */
	for_ms = doubled(g->s.ban_ms, e->bans, g->s.ban_max_ms);
	list_remove(list_of(g, e), e);
	if (e->banned_ms == 0)
		atomic_fetch_add(&g->bans_now, 1);
	e->banned_ms = now_ms + for_ms;
	e->ended_ms = (int64_t)e->banned_ms;
	e->bans++;
	e->full_ms = 0; /* afterwards it begins anew */
	list_add(&g->banned, e);
	g->bans++;
	remember(g, e, for_ms);
	return for_ms;
}

uint64_t
guard_failed(struct guard *g, const char *peer, struct grapnel_str username, uint64_t now_ms)
{
	struct address_key key;
	struct entry *e;
	uint64_t failures, banned_ms = 0;

	pthread_mutex_lock(&g->lock);
	if (watched_text(g, peer, &key)) {
		g->failures++;
		if ((e = use(g, &key, user_of(g, username))) != NULL) {
			failures = count_failure(g, e, now_ms);
			if (failures >= g->s.delay_after && g->s.delay_ms > 0)
				e->next_ms = now_ms +
				    doubled(g->s.delay_ms, failures - g->s.delay_after,
					g->s.delay_max_ms);
		}
		if ((e = use(g, &key, 0)) != NULL && e->banned_ms <= now_ms &&
		    count_failure(g, e, now_ms) >= g->s.failures)
			banned_ms = ban(g, e, now_ms);
	}
	pthread_mutex_unlock(&g->lock);
	return banned_ms;
}

void
guard_passed(struct guard *g, const char *peer, struct grapnel_str username)
{
	struct address_key key;
	struct entry **at;

	if (g == NULL || atomic_load_explicit(&g->entries, memory_order_relaxed) == 0)
		return;
	pthread_mutex_lock(&g->lock);
	if (watched_text(g, peer, &key) && *(at = place_of(g, &key, user_of(g, username))) != NULL)
		drop(g, at);
	pthread_mutex_unlock(&g->lock);
}

/* ---- across a restart ------------------------------------------------------------------------------ */

/* For how long a time has been over; 0: it is not, or the clock cannot tell. */
static uint64_t
over_for(const struct row_clock *clock, const struct row_time *t)
{
	return clock->now_wall_ms > t->wall_ms && clock->now_wall_ms >= clock->alive_wall_ms
	    ? clock->now_wall_ms - t->wall_ms
	    : 0;
}

/* With the lock. */
static void
restore(struct guard *g, struct entry *e, const struct row_ban *ban, uint64_t left_ms,
    uint64_t over_ms, uint64_t now_ms)
{
	if (left_ms > g->s.ban_max_ms) /* it was longer then */
		left_ms = g->s.ban_max_ms;
	e->bans = ban->bans;
	e->ended_ms = (int64_t)(now_ms + left_ms) - (int64_t)over_ms;
	if (left_ms == 0 || g->s.ban_ms == 0 || e->banned_ms != 0)
		return;
	list_remove(&g->watched, e);
	e->banned_ms = now_ms + left_ms;
	list_add(&g->banned, e);
	atomic_fetch_add(&g->bans_now, 1);
}

bool
guard_restore(struct guard *g, struct grapnel_str address, const struct row_ban *ban,
    const struct row_clock *clock, uint64_t now_ms)
{
	uint64_t left_ms = row_left(clock, &ban->until);
	uint64_t over_ms = left_ms == 0 ? over_for(clock, &ban->until) : 0;
	struct address_key key;
	struct entry *e = NULL;

	if (ban->bans == 0 || !key_of_text(address, &key))
		return false;
	pthread_mutex_lock(&g->lock);
	if (over_ms <= g->s.ban_max_ms && g->s.enabled &&
	    atomic_load(&g->entries) < g->s.addresses && (e = use(g, &key, 0)) != NULL)
		restore(g, e, ban, left_ms, over_ms, now_ms);
	pthread_mutex_unlock(&g->lock);
	return e != NULL || over_ms <= g->s.ban_max_ms;
}

static void
on_stored(
    struct grapnel_str address, const struct row_ban *ban, const struct row_clock *clock, void *arg)
{
	const struct grapnel_str none = { NULL, 0 };
	struct guard *g = arg;

	if (!guard_restore(g, address, ban, clock, clock_ms()))
		(void)store_put_ban(g->broker->store, address, none);
}

void
guard_load(struct guard *g)
{
	int err = store_each_ban(g->broker->store, on_stored, g);
	unsigned n = atomic_load(&g->bans_now);

	if (err != GRAPNEL_OK)
		log_error("guard: not all bans can be read from the store (error %d)", err);
	if (n > 0)
		log_info("guard: %u address%s still banned", n, n == 1 ? " is" : "es are");
}

/* ---- for the admin API --------------------------------------------------------------------------- */

static void
forget_over(struct guard *g, uint64_t now_ms)
{
	struct entry *e, *newer;

	for (e = g->banned.oldest; e != NULL; e = newer) {
		newer = e->newer;
		if (e->banned_ms <= now_ms)
			unban(g, e);
	}
}

void
guard_counts(struct guard *g, uint64_t now_ms, struct guard_counts *out)
{
	pthread_mutex_lock(&g->lock);
	forget_over(g, now_ms);
	*out = (struct guard_counts){ .watched = atomic_load(&g->entries),
		.banned = atomic_load(&g->bans_now),
		.bans = g->bans,
		.delayed = g->delayed,
		.failures = g->failures };
	pthread_mutex_unlock(&g->lock);
}

json_t *
guard_list(struct guard *g, uint64_t now_ms, unsigned most)
{
	json_t *list = json_array();

	pthread_mutex_lock(&g->lock);
	forget_over(g, now_ms);
	for (const struct entry *e = g->banned.newest; e != NULL && most > 0;
	     e = e->older, most--) {
		char text[KEY_TEXT];

		key_text(&e->key, text, sizeof(text));
		json_array_append_new(list,
		    json_pack("{s:s, s:I, s:i}", "address", text, "banned_for",
			(json_int_t)((e->banned_ms - now_ms + 999) / 1000), "bans", (int)e->bans));
	}
	pthread_mutex_unlock(&g->lock);
	return list;
}

unsigned
guard_lift(struct guard *g, const char *address)
{
	struct address_key key;
	unsigned lifted = 0;

	if (address != NULL && !key_of_text((struct grapnel_str){ address, strlen(address) }, &key))
		return 0;
	pthread_mutex_lock(&g->lock);
	for (struct entry *e = g->banned.oldest, *newer; e != NULL; e = newer) {
		newer = e->newer;
		if (address == NULL || memcmp(e->key.bytes, key.bytes, sizeof(key.bytes)) == 0) {
			drop(g, place_of(g, &e->key, 0)); /* with what it did before */
			lifted++;
		}
	}
	pthread_mutex_unlock(&g->lock);
	return lifted;
}
