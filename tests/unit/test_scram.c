/* SPDX-License-Identifier: Apache-2.0 */
#include "../../plugins/common/base64.h"
#include "../../plugins/common/password.h"
#include "../../plugins/common/scram_internal.h"

#include <check.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char secret[32] = "what the instance keeps";
static const unsigned char random_bytes[18] = "eighteen bytes....";
static struct scram *x;

static void
teardown(void)
{
	scram_free(x);
	x = NULL;
}

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

static bool
is(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static int
begin(enum scram_hash hash, const char *first)
{
	struct grapnel_str username;

	scram_free(x);
	x = NULL;
	return scram_begin(hash, str(first), random_bytes, sizeof(random_bytes), &x, &username);
}

/* ------------------------------------------------------------- the other side of it */

/* The client's computation, written apart from the code under test. */
static void
proof_of(enum scram_hash hash, const char *password, const char *auth_message,
    struct grapnel_str salt, unsigned iterations, char out[BASE64_SIZE(64)])
{
	const EVP_MD *md = hash == SCRAM_SHA_512 ? EVP_sha512() : EVP_sha256();
	int len = EVP_MD_get_size(md);
	unsigned char salted[64], key[64], stored[64], signature[64];
	size_t n;

	ck_assert_int_eq(
	    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), (const unsigned char *)salt.data,
		(int)salt.len, (int)iterations, md, len, salted),
	    1);
	ck_assert_ptr_nonnull(EVP_Q_mac(NULL, "HMAC", NULL, EVP_MD_get0_name(md), NULL, salted,
	    (size_t)len, (const unsigned char *)"Client Key", 10, key, sizeof(key), &n));
	ck_assert_int_eq(EVP_Digest(key, (size_t)len, stored, NULL, md, NULL), 1);
	ck_assert_ptr_nonnull(EVP_Q_mac(NULL, "HMAC", NULL, EVP_MD_get0_name(md), NULL, stored,
	    (size_t)len, (const unsigned char *)auth_message, strlen(auth_message), signature,
	    sizeof(signature), &n));
	for (int i = 0; i < len; i++)
		key[i] ^= signature[i];
	base64_encode(out, key, (size_t)len, true);
}

/* A whole exchange: first is "n,," or the like. */
static int
exchange(enum scram_hash hash, const char *header, const char *bare, const char *credential,
    const char *password)
{
	char first[SCRAM_MAX_MESSAGE + 1], without_proof[4400], auth_message[12000], final[8192],
	    channel[200], nonce[4096], salt64[200], proof[BASE64_SIZE(64)];
	unsigned char salt[64];
	struct grapnel_str challenge, message;
	unsigned iterations;
	size_t salt_len;
	int err;

	snprintf(first, sizeof(first), "%s%s", header, bare);
	if ((err = begin(hash, first)) != SCRAM_OK)
		return err;
	if ((err = scram_challenge(x, str(credential), secret, &challenge)) != SCRAM_OK)
		return err;
	ck_assert_int_eq(
	    sscanf(challenge.data, "r=%4000[^,],s=%190[^,],i=%u", nonce, salt64, &iterations), 3);
	ck_assert(base64_decode(salt64, strlen(salt64), salt, sizeof(salt), &salt_len));
	base64_encode(channel, (const uint8_t *)header, strlen(header), true);
	snprintf(without_proof, sizeof(without_proof), "c=%s,r=%s", channel, nonce);
	snprintf(auth_message, sizeof(auth_message), "%s,%.*s,%s", bare, (int)challenge.len,
	    challenge.data, without_proof);
	proof_of(hash, password, auth_message, (struct grapnel_str){ (const char *)salt, salt_len },
	    iterations, proof);
	snprintf(final, sizeof(final), "%s,p=%s", without_proof, proof);
	err = scram_finish(x, str(final), &message);
	if (err == SCRAM_OK)
		ck_assert(message.len > 2 && memcmp(message.data, "v=", 2) == 0);
	return err;
}

/* ------------------------------------------------------------------------ RFC 7677 */

/* What section 3 of RFC 7677 leaves unsaid: the keys, made of its password "pencil" by others (Python's hashlib). */
#define RFC_CREDENTIAL                                                       \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7B" \
	"keZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define RFC_FIRST     "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
#define RFC_NONCE     "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_CHALLENGE "r=rOprNGfwEbeRWgbNEkqO" RFC_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_FINAL                                                       \
	"c=biws,r=rOprNGfwEbeRWgbNEkqO" RFC_NONCE ",p=dHzbZapWIk4jUhN+" \
	"Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SUCCESS "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

START_TEST(the_exchange_of_rfc_7677_byte_by_byte)
{
	struct grapnel_str username, message;

	ck_assert_int_eq(
	    scram_begin_with(SCRAM_SHA_256, str(RFC_FIRST), str(RFC_NONCE), &x, &username),
	    SCRAM_OK);
	ck_assert(is(username, "user"));
	ck_assert_int_eq(scram_challenge(x, str(RFC_CREDENTIAL), secret, &message), SCRAM_OK);
	ck_assert_str_eq(message.data, RFC_CHALLENGE);
	ck_assert_int_eq(scram_finish(x, str(RFC_FINAL), &message), SCRAM_OK);
	ck_assert_str_eq(message.data, RFC_SUCCESS);
	ck_assert_uint_eq(message.len, strlen(RFC_SUCCESS));
}
END_TEST

START_TEST(the_credential_of_rfc_7677_has_its_password)
{
	ck_assert_int_eq(scram_verify_password(str(RFC_CREDENTIAL), str("pencil")), 1);
	ck_assert_int_eq(scram_verify_password(str(RFC_CREDENTIAL), str("pencil ")), 0);
	ck_assert_int_eq(scram_verify_password(str(RFC_CREDENTIAL), str("")), 0);
	ck_assert_int_eq(scram_verify_password(str(RFC_CREDENTIAL), str(NULL)), 0);
	ck_assert_int_eq(scram_verify_password(str(RFC_CREDENTIAL), str("pencil\n")), 0);
	ck_assert_int_eq(
	    scram_verify_password(str("SCRAM-SHA-256$1:x"), str("pencil")), SCRAM_ECREDENTIAL);
}
END_TEST

/* Every byte of the last message counts. */
START_TEST(no_byte_of_the_final_message_can_be_another)
{
	char final[] = RFC_FINAL;
	struct grapnel_str username, message;
	int err;

	for (size_t i = 0; i < strlen(RFC_FINAL); i++) {
		scram_free(x);
		ck_assert_int_eq(
		    scram_begin_with(SCRAM_SHA_256, str(RFC_FIRST), str(RFC_NONCE), &x, &username),
		    SCRAM_OK);
		ck_assert_int_eq(
		    scram_challenge(x, str(RFC_CREDENTIAL), secret, &message), SCRAM_OK);
		final[i] ^= 1;
		err = scram_finish(x, str(final), &message);
		ck_assert_msg(
		    err == SCRAM_EMALFORMED || err == SCRAM_EWRONG, "byte %zu: %d", i, err);
		final[i] ^= 1;
	}
}
END_TEST

/* ------------------------------------------------------------------- whole exchanges */

static char sha_256[SCRAM_CREDENTIAL_SIZE], sha_512[SCRAM_CREDENTIAL_SIZE];

static void
make_credentials(void)
{
	ck_assert(scram_credential(SCRAM_SHA_256, str("pass wörd"), 10, sha_256));
	ck_assert(scram_credential(SCRAM_SHA_512, str("pass wörd"), 10, sha_512));
}

START_TEST(both_methods_know_right_from_wrong)
{
	enum scram_hash hash = _i == 0 ? SCRAM_SHA_256 : SCRAM_SHA_512;
	const char *credential = _i == 0 ? sha_256 : sha_512;

	ck_assert_int_eq(exchange(hash, "n,,", "n=u,r=abc", credential, "pass wörd"), SCRAM_OK);
	ck_assert_int_eq(exchange(hash, "n,,", "n=u,r=abc", credential, "pass word"), SCRAM_EWRONG);
	ck_assert_int_eq(exchange(hash, "y,,", "n=u,r=abc", credential, "pass wörd"), SCRAM_OK);
	ck_assert_int_eq(exchange(hash, "n,a=u,", "n=u,r=abc", credential, "pass wörd"), SCRAM_OK);
	ck_assert_int_eq(
	    exchange(hash, "n,a=v,", "n=u,r=abc", credential, "pass wörd"), SCRAM_EMALFORMED);
	ck_assert_int_eq(
	    exchange(hash, "n,,", "n=u,r=abc,x=ext,Y=\xc3\xb6", credential, "pass wörd"), SCRAM_OK);
	ck_assert_int_eq(exchange(hash, "n,,", "n=u,r=abc", NULL, "pass wörd"), SCRAM_EWRONG);
	/* stored for the other method */
	ck_assert_int_eq(
	    exchange(hash, "n,,", "n=u,r=abc", _i == 0 ? sha_512 : sha_256, "pass wörd"),
	    SCRAM_ECREDENTIAL);
	ck_assert_int_eq(
	    exchange(hash, "n,,", "n=u,r=abc", "$2b$04$x", "pass wörd"), SCRAM_ECREDENTIAL);
}
END_TEST

START_TEST(long_nonces_pass_too_long_ones_do_not)
{
	char bare[SCRAM_MAX_MESSAGE + 64];
	static const size_t lens[] = { 1, 100, 1000, 1900 };
	static char huge[70000];

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		int n = snprintf(bare, sizeof(bare), "n=u,r=");

		memset(bare + n, '~', lens[i]);
		bare[(size_t)n + lens[i]] = '\0';
		ck_assert_int_eq(
		    exchange(SCRAM_SHA_256, "n,,", bare, sha_256, "pass wörd"), SCRAM_OK);
	}
	memset(huge, 'a', sizeof(huge) - 1);
	memcpy(huge, "n,,n=u,r=", 9);
	ck_assert_int_eq(begin(SCRAM_SHA_256, huge), SCRAM_EMALFORMED);
	huge[SCRAM_MAX_MESSAGE] = '\0';
	ck_assert_int_eq(begin(SCRAM_SHA_256, huge), SCRAM_OK);
	huge[SCRAM_MAX_MESSAGE] = 'a';
	huge[SCRAM_MAX_MESSAGE + 1] = '\0';
	ck_assert_int_eq(begin(SCRAM_SHA_256, huge), SCRAM_EMALFORMED);
}
END_TEST

START_TEST(names_are_decoded)
{
	struct grapnel_str username;

	ck_assert_int_eq(scram_begin(SCRAM_SHA_256, str("n,,n==2Ca=3D=2Cb=3D=3D\xc3\xb6,r=x"),
			     random_bytes, 18, &x, &username),
	    SCRAM_OK);
	ck_assert(is(username, ",a=,b==\xc3\xb6"));
}
END_TEST

/* ---------------------------------------------------------------- malformed messages */

static const char *const malformed_first[] = {
	"",
	"n",
	"n,",
	"n,,",
	"n,,n=u",
	"n,,n=u,",
	"n,,n=u,r=",
	"n,,n=,r=x",
	"n,,r=x,n=u",
	",,n=u,r=x",
	"x,,n=u,r=x",
	"nn,,n=u,r=x",
	"N,,n=u,r=x",
	"n,n=u,r=x",
	"n,u,n=u,r=x",
	"n,a=,n=u,r=x",
	"n,b=u,n=u,r=x",
	"p=tls-unique,,n=u,r=x",
	"p=,,n=u,r=x",
	"p,,n=u,r=x",
	"n,,m=x,n=u,r=x",
	"n,,n=u,r=x,",
	"n,,n=u,r=x,y",
	"n,,n=u,r=x,1=y",
	"n,,n=u,r=x,y=",
	"n,,n=u,r=x y",
	"n,,n=u,r=x\x7f",
	"n,,n=u,r=\xc3\xb6",
	"n,,n=u=,r=x",
	"n,,n=u=2,r=x",
	"n,,n=u=2c,r=x",
	"n,,n=u=41,r=x",
	"n,,n=u\x01,r=x",
	"n,,n=u\xc2\x80,r=x",
	"n,,n=\xff,r=x",
	"n,,n=\xed\xa0\x80,r=x",
	"n,,n=u\n,r=x",
	"n,a=\xff,n=u,r=x",
	"n,,n=u,r=x,y=\xff",
};

START_TEST(a_malformed_first_message_begins_nothing)
{
	ck_assert_msg(begin(SCRAM_SHA_256, malformed_first[_i]) == SCRAM_EMALFORMED, "%s",
	    malformed_first[_i]);
	ck_assert_ptr_null(x);
}
END_TEST

START_TEST(nul_is_in_no_message)
{
	static const char first[] = "n,,n=a\0b,r=x", other[] = "n,,n=u,r=x\0",
			  extension[] = "n,,n=u,r=x,y=a\0b";
	struct grapnel_str username;

	ck_assert_int_eq(scram_begin(SCRAM_SHA_256, (struct grapnel_str){ first, 12 }, random_bytes,
			     18, &x, &username),
	    SCRAM_EMALFORMED);
	ck_assert_int_eq(scram_begin(SCRAM_SHA_256, (struct grapnel_str){ other, 11 }, random_bytes,
			     18, &x, &username),
	    SCRAM_EMALFORMED);
	ck_assert_int_eq(scram_begin(SCRAM_SHA_256, (struct grapnel_str){ extension, 16 },
			     random_bytes, 18, &x, &username),
	    SCRAM_EMALFORMED);
	ck_assert_int_eq(scram_begin(SCRAM_SHA_256, str(NULL), random_bytes, 18, &x, &username),
	    SCRAM_EMALFORMED);
}
END_TEST

/* %s is the nonce. */
#define PROOF "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
static const struct {
	const char *format;
	int error;
} finals[] = {
	{ "c=biws,r=%s," PROOF, SCRAM_EWRONG }, /* of the right form */
	{ "c=biws,r=%s,x=y," PROOF, SCRAM_EWRONG },
	{ "", SCRAM_EMALFORMED },
	{ "c=biws", SCRAM_EMALFORMED },
	{ "c=biws,r=%s", SCRAM_EMALFORMED },
	{ "c=biws,r=%s,", SCRAM_EMALFORMED },
	{ "c=biws,r=%s,p=", SCRAM_EMALFORMED },
	{ "c=biws,r=%s,p=AAAA", SCRAM_EMALFORMED },        /* too short */
	{ "c=biws,r=%s," PROOF ",x=y", SCRAM_EMALFORMED }, /* not the last */
	{ "c=biws,r=%s,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ",
	    SCRAM_EMALFORMED }, /* padding */
	{ "c=biws,r=%s,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR=",
	    SCRAM_EMALFORMED }, /* bits left over */
	{ "c=biws,r=%s,p=dHzbZapWIk4jUhN Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_EMALFORMED },
	{ "c=biws,r=%sx," PROOF, SCRAM_EMALFORMED }, /* another nonce */
	{ "c=biws,r=abc," PROOF, SCRAM_EMALFORMED },
	{ "c=eSws,r=%s," PROOF, SCRAM_EMALFORMED }, /* "y,,": the header was another one */
	{ "c=biwsYQ==,r=%s," PROOF, SCRAM_EMALFORMED },
	{ "c=,r=%s," PROOF, SCRAM_EMALFORMED },
	{ "r=%s,c=biws," PROOF, SCRAM_EMALFORMED },
	{ "c=biws,r=%s,x," PROOF, SCRAM_EMALFORMED },
	{ "c=biws,r=%s,p="
	  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	  "AAAAAAAAAAAAAAAA",
	    SCRAM_EMALFORMED },
};

START_TEST(a_malformed_final_message_ends_it)
{
	char final[1000], nonce[200];
	struct grapnel_str message;

	ck_assert_int_eq(begin(SCRAM_SHA_256, "n,,n=u,r=abc"), SCRAM_OK);
	ck_assert_int_eq(scram_challenge(x, str(sha_256), secret, &message), SCRAM_OK);
	ck_assert_int_eq(sscanf(message.data, "r=%190[^,]", nonce), 1);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(final, sizeof(final), finals[_i].format, nonce);
#pragma GCC diagnostic pop
	ck_assert_int_eq(scram_finish(x, str(final), &message), finals[_i].error);
	/* one try */
	ck_assert_int_eq(scram_finish(x, str(final), &message), SCRAM_EMALFORMED);
}
END_TEST

START_TEST(messages_out_of_turn_are_refused)
{
	struct grapnel_str message;

	ck_assert_int_eq(begin(SCRAM_SHA_256, "n,,n=u,r=abc"), SCRAM_OK);
	ck_assert_int_eq(scram_finish(x, str("c=biws,r=abc," PROOF), &message), SCRAM_EMALFORMED);
	ck_assert_int_eq(scram_challenge(x, str(sha_256), secret, &message), SCRAM_OK);
	ck_assert_int_eq(scram_challenge(x, str(sha_256), secret, &message), SCRAM_EMALFORMED);
}
END_TEST

/* --------------------------------------------------------------- users who do not exist */

static char *
challenge_for(enum scram_hash hash, const char *name, const char *like, const unsigned char *key)
{
	char first[200];
	struct grapnel_str message;

	snprintf(first, sizeof(first), "n,,n=%s,r=abc", name);
	ck_assert_int_eq(begin(hash, first), SCRAM_OK);
	scram_unknown_like(x, str(like)); /* perhaps there is none */
	ck_assert_int_eq(scram_challenge(x, str(NULL), key, &message), SCRAM_OK);
	return strdup(message.data);
}

START_TEST(nobody_has_a_challenge_of_his_own_that_stays)
{
	static const unsigned char other_secret[32] = "another instance";
	char *nobody = challenge_for(SCRAM_SHA_256, "nobody", NULL, secret),
	     *again = challenge_for(SCRAM_SHA_256, "nobody", NULL, secret),
	     *noone = challenge_for(SCRAM_SHA_256, "noone", NULL, secret),
	     *elsewhere = challenge_for(SCRAM_SHA_256, "nobody", NULL, other_secret),
	     *longer = challenge_for(SCRAM_SHA_512, "nobody", NULL, secret);
	char *like = challenge_for(SCRAM_SHA_256, "nobody", sha_256, secret);

	ck_assert_str_eq(nobody, again);
	ck_assert_str_ne(nobody, noone);
	ck_assert_str_ne(nobody, elsewhere);
	ck_assert_str_ne(nobody, longer); /* nor does one salt for two methods give him away */
	ck_assert_ptr_nonnull(strstr(nobody, "==,i=16384"));
	ck_assert_ptr_nonnull(strstr(like, "==,i=10"));
	ck_assert_uint_eq(strlen(nobody), strlen(like) + 3);
	free(nobody);
	free(again);
	free(noone);
	free(elsewhere);
	free(longer);
	free(like);
}
END_TEST

/* ------------------------------------------------------------------------- credentials */

#define KEY32 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
static const char *const no_credentials[] = {
	"",
	"SCRAM-SHA-256",
	"SCRAM-SHA-256$4096:c2FsdA==$" KEY32,
	"SCRAM-SHA-256$4096:c2FsdA==$" KEY32 ":",
	"SCRAM-SHA-256$4096:c2FsdA==$:" KEY32,
	"SCRAM-SHA-256$4096:$" KEY32 ":" KEY32,
	"SCRAM-SHA-256$0:c2FsdA==$" KEY32 ":" KEY32,
	"SCRAM-SHA-256$04096:c2FsdA==$" KEY32 ":" KEY32,
	"SCRAM-SHA-256$1000001:c2FsdA==$" KEY32 ":" KEY32,
	"SCRAM-SHA-256$99999999:c2FsdA==$" KEY32 ":" KEY32,
	"SCRAM-SHA-256$-1:c2FsdA==$" KEY32 ":" KEY32,
	"SCRAM-SHA-256$4096:c2FsdA$" KEY32 ":" KEY32,
	"SCRAM-SHA-256$4096:c2FsdA==$" KEY32 ":" KEY32 "x",
	"SCRAM-SHA-256$4096:c2FsdA==$" KEY32 ":AAAA",
	"SCRAM-SHA-512$4096:c2FsdA==$" KEY32 ":" KEY32,
	"SCRAM-SHA-1$4096:c2FsdA==$" KEY32 ":" KEY32,
	"scram-sha-256$4096:c2FsdA==$" KEY32 ":" KEY32,
};

START_TEST(what_is_no_credential_is_refused)
{
	enum scram_hash hash;

	ck_assert_msg(
	    !scram_is_credential(str(no_credentials[_i]), &hash), "%s", no_credentials[_i]);
	ck_assert_int_lt(
	    password_check_format(no_credentials[_i], strlen(no_credentials[_i]), NULL), 0);
}
END_TEST

START_TEST(credentials_are_made_with_salt_of_their_own)
{
	char other[SCRAM_CREDENTIAL_SIZE];
	enum scram_hash hash;

	ck_assert(scram_is_credential(str("SCRAM-SHA-256$4096:c2FsdA==$" KEY32 ":" KEY32), &hash));
	ck_assert_int_eq(hash, SCRAM_SHA_256);
	ck_assert(scram_is_credential(str(sha_512), &hash));
	ck_assert_int_eq(hash, SCRAM_SHA_512);
	ck_assert(scram_credential(SCRAM_SHA_256, str("pass wörd"), 10, other));
	ck_assert_str_ne(sha_256, other);
	ck_assert(!scram_credential(SCRAM_SHA_256, str("a\nb"), 10, other));
	ck_assert(!scram_credential(SCRAM_SHA_256, str("a\xff"), 10, other));
	ck_assert(!scram_credential(SCRAM_SHA_256, str("a"), SCRAM_MAX_ITERATIONS + 1, other));
	ck_assert(!scram_credential(SCRAM_SHA_256, str("a"), 0, other));
	ck_assert_int_eq(scram_by_method(str("SCRAM-SHA-512")), SCRAM_SHA_512);
	ck_assert_int_eq(scram_by_method(str("SCRAM-SHA-256-PLUS")), SCRAM_NONE);
	ck_assert_int_eq(scram_by_method(str(NULL)), SCRAM_NONE);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

int
main(void)
{
	Suite *s = suite_create("scram");
	TCase *tc = tcase_create("scram");
	SRunner *sr;
	int failed;

	tcase_add_unchecked_fixture(tc, make_credentials, NULL);
	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_add_test(tc, the_exchange_of_rfc_7677_byte_by_byte);
	tcase_add_test(tc, the_credential_of_rfc_7677_has_its_password);
	tcase_add_test(tc, no_byte_of_the_final_message_can_be_another);
	tcase_add_loop_test(tc, both_methods_know_right_from_wrong, 0, 2);
	tcase_add_test(tc, long_nonces_pass_too_long_ones_do_not);
	tcase_add_test(tc, names_are_decoded);
	tcase_add_loop_test(tc, a_malformed_first_message_begins_nothing, 0, ROWS(malformed_first));
	tcase_add_test(tc, nul_is_in_no_message);
	tcase_add_loop_test(tc, a_malformed_final_message_ends_it, 0, ROWS(finals));
	tcase_add_test(tc, messages_out_of_turn_are_refused);
	tcase_add_test(tc, nobody_has_a_challenge_of_his_own_that_stays);
	tcase_add_loop_test(tc, what_is_no_credential_is_refused, 0, ROWS(no_credentials));
	tcase_add_test(tc, credentials_are_made_with_salt_of_their_own);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
