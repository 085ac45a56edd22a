/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic_level - cut a Topic Name or Topic Filter into levels and hash them, in one pass
 *
 * Eight bytes at a time: nearly every level of real life costs one or two rounds. The
 * hash is keyed with random numbers of this process, because a peer chooses the texts
 * and could otherwise choose ones that collide.
 */
#ifndef BROKER_CORE_TOPIC_LEVEL_H
#define BROKER_CORE_TOPIC_LEVEL_H

#include <endian.h>
#include <grapnel/types.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct topic_key {
	uint64_t seed, full, last;
};

struct topic_level {
	const char *text;
	uint32_t len;
	uint32_t mark; /* 31 bits of the hash, then a 1: never 0 */
	uint64_t word; /* the first eight bytes, zeros behind a shorter level */
};

/* What is left of the text; `all` is where it began. A level is there while rest is not NULL. */
struct topic_levels {
	const char *all, *rest, *end;
};

static inline void
topic_key_init(struct topic_key *key)
{
	/*
	 * Before the kernel's pool is ready (early boot) time and address must do: a weak key, but
	 * no failure.
	 */
	if (getrandom(key, sizeof(*key), GRND_NONBLOCK) != (ssize_t)sizeof(*key)) {
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		key->seed = (uint64_t)ts.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)(uintptr_t)key;
		key->full = key->seed * 0xbf58476d1ce4e5b9u ^ (uint64_t)ts.tv_sec;
		key->last = key->full * 0x94d049bb133111ebu;
	}
	key->full |= 1;
	key->last |= 1;
}

static inline uint64_t
topic_mix(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
#else
	uint64_t ah = a >> 32, al = (uint32_t)a, bh = b >> 32, bl = (uint32_t)b;
	uint64_t mid = ah * bl + (al * bl >> 32);
	uint64_t mid2 = al * bh + (uint32_t)mid;

	return (a * b) ^ (ah * bh + (mid >> 32) + (mid2 >> 32));
#endif
}

static inline uint64_t
topic_load(const char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return le64toh(word);
}

/* The last `left` < 8 bytes of a text, zeros behind them, without touching a byte outside of it. */
static inline uint64_t
topic_load_tail(const char *all, const char *end, size_t left)
{
	uint64_t word = 0;

	if (left == 0)
		return 0;
	if (end - all >= 8)
		return topic_load(end - 8) >> (64 - 8 * left);
	for (size_t i = 0; i < left; i++)
		word |= (uint64_t)(uint8_t)end[-(ptrdiff_t)left + (ptrdiff_t)i] << (8 * i);
	return word;
}

static inline struct topic_levels
topic_levels_of(struct grapnel_str text)
{
	return (struct topic_levels){ text.data, text.data, text.data + text.len };
}

/* The bits of a word from its first '/' on: the top bit of that byte, then nothing to rely on. 0: there is none. */
static inline uint64_t
topic_slash(uint64_t word)
{
	static const uint64_t ones = 0x0101010101010101u;
	uint64_t x = word ^ (ones * '/');

	return (x - ones) & ~x & (ones << 7);
}

static inline uint64_t
topic_word(const struct topic_levels *it, const char *p)
{
	size_t left = (size_t)(it->end - p);

	return left >= 8 ? topic_load(p) : topic_load_tail(it->all, it->end, left);
}

static inline void
topic_level_end(const struct topic_key *key, struct topic_levels *it, struct topic_level *out,
    const char *p, uint64_t word, uint64_t slash, uint64_t hash)
{
	size_t n = (size_t)(it->end - p);

	out->text = it->rest;
	it->rest = NULL;
	if (slash != 0) {
		n = (size_t)__builtin_ctzll(slash) / 8;
		it->rest = p + n + 1;
	}
	out->len = (uint32_t)(p + n - out->text);
	hash = topic_mix(hash ^ word, key->last ^ ((uint64_t)out->len << 1));
	out->mark = (uint32_t)(hash >> 32) | 1;
}

/* Of eight bytes, which are `word`, and more. Out of line: what is common stays in registers. */
static void __attribute__((noinline, unused))
topic_level_long(
    const struct topic_key *key, struct topic_levels *it, struct topic_level *out, uint64_t word)
{
	const char *p = it->rest;
	uint64_t hash = key->seed, slash;

	out->word = word;
	do {
		hash = topic_mix(hash ^ word, key->full);
		p += 8;
		word = topic_word(it, p);
	} while ((slash = topic_slash(word)) == 0 && it->end - p >= 8);
	if (slash != 0)
		word &= (slash ^ (slash - 1)) >> 8;
	topic_level_end(key, it, out, p, word, slash, hash);
}

/* The next level. [MQTT-4.7.3] an empty one is a level, too. @return there was one. */
static inline bool
topic_level_next(const struct topic_key *key, struct topic_levels *it, struct topic_level *out)
{
	const char *p = it->rest;
	uint64_t word, slash;

	if (p == NULL)
		return false;
	word = topic_word(it, p);
	if (__builtin_expect((slash = topic_slash(word)) != 0, 1)) {
		word &= (slash ^ (slash - 1)) >> 8;
	} else if (it->end - p >= 8) {
		topic_level_long(key, it, out, word);
		return true;
	}
	out->word = word;
	topic_level_end(key, it, out, p, word, slash, key->seed);
	return true;
}

/* A whole text, levels or not. */
static inline uint64_t
topic_hash(const struct topic_key *key, struct grapnel_str text)
{
	const char *p = text.data, *end = text.data + text.len;
	uint64_t hash = key->seed;

	for (; end - p >= 8; p += 8)
		hash = topic_mix(hash ^ topic_load(p), key->full);
	return topic_mix(hash ^ topic_load_tail(text.data, end, (size_t)(end - p)),
	    key->last ^ ((uint64_t)text.len << 1));
}

#endif
