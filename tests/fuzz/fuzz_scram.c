/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any lines as client-first-message, client-final-message ("%" in it is the nonce of the challenge) and stored credential, and
 * all of it as a password file. Nobody gets in: the credential's keys are of no password.
 */
#include "../../plugins/common/passwd_file.h"
#include "../../plugins/common/scram_internal.h"
#include "../../plugins/common/utf8.h"

#include <stdlib.h>
#include <string.h>

#define KEY "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const unsigned char secret[32], nonce[18];

static void
must(bool condition)
{
	if (!condition)
		abort();
}

/* Of the exact size, so that ASan sees a read past it. */
static char *
exact(const char *data, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);

	must(copy != NULL);
	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

static struct grapnel_str
next_line(struct grapnel_str *rest)
{
	const char *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;
	struct grapnel_str line = { rest->data,
		end != NULL ? (size_t)(end - rest->data) : rest->len };

	rest->data += line.len + (end != NULL);
	rest->len -= line.len + (end != NULL);
	return line;
}

static void
finish(struct scram *x, struct grapnel_str last, struct grapnel_str challenge)
{
	const char *comma = memchr(challenge.data, ',', challenge.len), *percent;
	size_t len = last.len, at = last.len;
	struct grapnel_str message;
	char *text;
	int err;

	must(comma != NULL && memcmp(challenge.data, "r=", 2) == 0);
	percent = last.len > 0 ? memchr(last.data, '%', last.len) : NULL;
	if (percent != NULL) {
		at = (size_t)(percent - last.data);
		len += (size_t)(comma - challenge.data) - 3;
	}
	text = malloc(len > 0 ? len : 1);
	must(text != NULL);
	if (last.len > 0)
		memcpy(text, last.data, at);
	if (percent != NULL) {
		size_t n = (size_t)(comma - challenge.data) - 2;

		memcpy(text + at, challenge.data + 2, n);
		memcpy(text + at + n, percent + 1, last.len - at - 1);
	}
	err = scram_finish(x, (struct grapnel_str){ text, len }, &message);
	must(err == SCRAM_EMALFORMED || err == SCRAM_EWRONG);
	must(scram_finish(x, (struct grapnel_str){ text, len }, &message) == SCRAM_EMALFORMED);
	free(text);
}

static void
exchange(struct grapnel_str first, struct grapnel_str last)
{
	static const struct grapnel_str credential =
	    GRAPNEL_STR("SCRAM-SHA-256$4096:c2FsdA==$" KEY ":" KEY);
	char *copy = exact(first.data, first.len);

	for (unsigned known = 0; known < 2; known++) {
		struct grapnel_str username, challenge;
		struct scram *x;
		int err = scram_begin(SCRAM_SHA_256, (struct grapnel_str){ copy, first.len }, nonce,
		    sizeof(nonce), &x, &username);

		if (err != SCRAM_OK) {
			must(err == SCRAM_EMALFORMED);
			break;
		}
		must(first.len <= SCRAM_MAX_MESSAGE && username.len > 0);
		must(utf8_is_text(username, false));
		must(scram_challenge(x, known ? credential : (struct grapnel_str){ NULL, 0 },
			 secret, &challenge) == SCRAM_OK);
		finish(x, last, challenge);
		scram_free(x);
	}
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct grapnel_str rest = { (const char *)data, size }, first, last, stored;
	struct passwd_file *file;
	enum scram_hash hash;
	char error[200], *copy;

	if (size > 3 * SCRAM_MAX_MESSAGE)
		return 0;
	file =
	    passwd_file_parse(exact((const char *)data, size), size, "file", error, sizeof(error));
	must(file == NULL || passwd_file_users(file) <= passwd_file_count(file));
	passwd_file_free(file);
	first = next_line(&rest);
	last = next_line(&rest);
	stored = next_line(&rest);
	exchange(first, last);
	copy = exact(stored.data, stored.len);
	if (scram_is_credential((struct grapnel_str){ copy, stored.len }, &hash))
		must(hash == SCRAM_SHA_256 || hash == SCRAM_SHA_512);
	free(copy);
	return 0;
}
