/* SPDX-License-Identifier: Apache-2.0 */
/* cache_key - the key of a kept answer: a keyed hash of all that the answer depends on */
#include "cache.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct cache_hasher {
	EVP_MAC *mac;
	EVP_MAC_CTX *ctx;
	uint8_t secret[CACHE_KEY_SIZE];
};

void
cache_hasher_free(struct cache_hasher *h)
{
	if (h == NULL)
		return;
	EVP_MAC_CTX_free(h->ctx);
	EVP_MAC_free(h->mac);
	explicit_bzero(h->secret, sizeof(h->secret));
	free(h);
}

struct cache_hasher *
cache_hasher_new(const uint8_t secret[CACHE_KEY_SIZE])
{
	struct cache_hasher *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	memcpy(h->secret, secret, sizeof(h->secret));
	h->mac = EVP_MAC_fetch(NULL, "BLAKE2SMAC", NULL);
	h->ctx = h->mac != NULL ? EVP_MAC_CTX_new(h->mac) : NULL;
	if (h->ctx == NULL) {
		cache_hasher_free(h);
		return NULL;
	}
	return h;
}

/* ---- fields: a tag, a length, the bytes ------------------------------------------------------ */

struct fields {
	EVP_MAC_CTX *ctx;
	bool failed;
};

static void
put(struct fields *f, const void *bytes, size_t len)
{
	if (len > 0 && EVP_MAC_update(f->ctx, bytes, len) != 1)
		f->failed = true;
}

static void
put_number(struct fields *f, uint8_t tag, uint64_t number)
{
	uint8_t b[9] = { tag };

	for (unsigned i = 0; i < 8; i++)
		b[i + 1] = (uint8_t)(number >> (8 * i));
	put(f, b, sizeof(b));
}

/* An absent string differs from an empty one. */
static void
put_str(struct fields *f, uint8_t tag, struct grapnel_str s)
{
	put_number(f, tag, s.data != NULL ? s.len : UINT64_MAX);
	if (s.data != NULL)
		put(f, s.data, s.len);
}

/* Without the port, which is another one each time. */
static struct grapnel_str
address_of(struct grapnel_str peer)
{
	size_t at = peer.len;

	if (peer.data == NULL || (peer.len >= 5 && memcmp(peer.data, "unix:", 5) == 0))
		return peer;
	while (at > 0 && peer.data[at - 1] != ':' && peer.data[at - 1] != ']')
		at--;
	if (at > 0 && peer.data[at - 1] == ':')
		peer.len = at - 1;
	return peer;
}

static void
put_client(struct fields *f, uint64_t depends, const struct grapnel_client_info *c)
{
	if (depends & GRAPNEL_DEPENDS_USERNAME)
		put_str(f, 'u', c->username);
	if (depends & GRAPNEL_DEPENDS_CLIENT_ID)
		put_str(f, 'c', c->client_id);
	if (depends & GRAPNEL_DEPENDS_ADDRESS)
		put_str(f, 'a', address_of(c->peer));
	if (depends & GRAPNEL_DEPENDS_LISTENER)
		put_str(f, 'l', c->listener);
	if (depends & GRAPNEL_DEPENDS_IDENTITY) {
		put_number(f, 'i', c->identity_source);
		put_str(f, 's', c->certificate_subject);
	}
	if (depends & GRAPNEL_DEPENDS_ATTRIBUTES) {
		put_number(f, 'n', c->attribute_count);
		for (size_t i = 0; i < c->attribute_count; i++) {
			put_str(f, 'k', c->attributes[i].name);
			put_str(f, 'v', c->attributes[i].value);
		}
	}
	if (depends & GRAPNEL_DEPENDS_MOUNTPOINT)
		put_str(f, 'm', c->mountpoint);
	if (depends & GRAPNEL_DEPENDS_PROTOCOL)
		put_number(f, 'p', c->protocol);
}

bool
cache_key_make(struct cache_hasher *h, enum hook hook, uint64_t depends, const struct question *q,
    struct cache_key *key)
{
	struct fields f = { h->ctx, false };
	size_t len = 0;

	if (depends & GRAPNEL_DEPENDS_REST)
		return false;
	if (EVP_MAC_init(h->ctx, h->secret, sizeof(h->secret), NULL) != 1)
		return false;
	put_number(&f, 'h', (uint64_t)hook);
	put_client(&f, depends, &q->client);
	if (hook == HOOK_AUTHENTICATE && depends & GRAPNEL_DEPENDS_PASSWORD)
		put_str(&f, 'w', q->u.authenticate.password);
	if (hook == HOOK_ACL) {
		put_number(&f, 'x', q->u.acl.action);
		put_number(&f, 'q', q->u.acl.qos);
		put_number(&f, 'r', q->u.acl.retain);
		put_str(&f, 't', q->u.acl.topic);
		put_str(&f, 'g', q->u.acl.share);
	}
	return !f.failed && EVP_MAC_final(h->ctx, key->bytes, &len, sizeof(key->bytes)) == 1 &&
	    len == sizeof(key->bytes);
}
