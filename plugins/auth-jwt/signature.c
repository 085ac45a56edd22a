/* SPDX-License-Identifier: Apache-2.0 */
#include "signature.h"

#include "base64url.h"
#include "token.h"

#include <jwt.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static bool
hmac_is_right(const struct token *t, const struct key *key)
{
	unsigned char ours[EVP_MAX_MD_SIZE], theirs[BASE64URL_ROOM(EVP_MAX_MD_SIZE / 3 * 4 + 4)];
	size_t len = 0, sent = 0;
	bool right;

	if (BASE64URL_ROOM(t->signature.len) > sizeof(theirs) ||
	    !base64url_decode(t->signature.data, t->signature.len, theirs, &sent))
		return false;
	right = EVP_Q_mac(NULL, "HMAC", NULL, t->alg->digest, NULL, key->data, key->len,
		    (const unsigned char *)t->signed_part.data, t->signed_part.len, ours,
		    sizeof(ours), &len) != NULL &&
	    sent == len && CRYPTO_memcmp(ours, theirs, len) == 0;
	OPENSSL_cleanse(ours, sizeof(ours));
	return right;
}

static bool
libjwt_says_so(const struct token *t, const struct key *key)
{
	const unsigned char *pem = t->alg->pss ? key->pss : key->data;
	size_t pem_len = t->alg->pss ? key->pss_len : key->len;
	char *text = pem != NULL ? malloc(t->text.len + 1) : NULL;
	jwt_t *jwt = NULL;
	bool right;

	if (text == NULL)
		return false;
	memcpy(text, t->text.data, t->text.len);
	text[t->text.len] = '\0';
	right = jwt_decode(&jwt, text, pem, (int)pem_len) == 0 &&
	    jwt_get_alg(jwt) == jwt_str_alg(t->alg->name);
	jwt_free(jwt);
	explicit_bzero(text, t->text.len);
	free(text);
	ERR_clear_error(); /* of this thread, which is not ours */
	return right;
}

bool
signature_is_right(const struct token *t, const struct key *key)
{
	unsigned char *room;
	size_t len;
	bool strict;

	if (!key_fits(key, t->alg))
		return false;
	if (key->kind == KEY_SECRET)
		return hmac_is_right(t, key);
	room = malloc(BASE64URL_ROOM(t->signature.len));
	strict = room != NULL && base64url_decode(t->signature.data, t->signature.len, room, &len);
	free(room);
	return strict && libjwt_says_so(t, key);
}
