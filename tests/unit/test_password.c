/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors come from mosquitto_passwd 2.0.11, Python's crypt and hashlib, and libargon2's own tests. */
#include "../../plugins/common/password.h"

#include <argon2.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SALT12 "c2FsdHNhbHRzYWx0"
#define CH     "correct horse"

static const struct {
	const char *hash, *password;
	uint32_t scheme, rounds, kib;
} vectors[] = {
	{ "$7$101$9Huhl+0cJcusFb3n$Cq+QeWzICi2zY8XZK8tmRkqvAS7DmN3PqoGFyL+"
	  "7Z2m3hQUzia13emQEkYgwZXj19+"
	  "AfkBuDiG6EN69VYoJOJw==",
	    CH, PASSWORD_PBKDF2, 101, 0 },
	{ "$6$ESzI3UOdwg2l6JZC$y8Okne+gZKdNMlz8OHIrliz5mUBwQxqf75XwDClV25IlVfomIrNzg+"
	  "u8Gov4DIn3M5cBhdk7U4Y2NzP7A6pPlQ==",
	    CH, PASSWORD_MOSQUITTO_SHA512, 1, 0 },
	{ "$6$c2FsdHNhbHRzYWx0$"
	  "wubETsBLUkdA8YhllItOiVnq5vju3IomjkYfpjX2ElbiG8Z0MqfqXCSOtEODPK1eih3eRPQR"
	  "JvZ/u5TFhojR6Q==",
	    CH, PASSWORD_MOSQUITTO_SHA512, 1, 0 },
	{ "$6$R2RNSqRpcTINqgER$bnpoPf9tVjbsF3who.q2aXeAreI9gaP/"
	  "eBJTuNj176ZmtGvgUWXfC7WwWz5tg.Z.tBlvpZXt"
	  "IDzderdpXsG/k1",
	    CH, PASSWORD_SHA512_CRYPT, 5000, 0 },
	{ "$6$rounds=5000$saltstring$."
	  "r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFc"
	  "R9z3z7oBNdsyYBbtm/",
	    CH, PASSWORD_SHA512_CRYPT, 5000, 0 },
	{ "$5$uED4Z4Yv3bg9nMU2$WV4swMX0FpbOP6Y0so8I0skCoSTFCCKPxCa4kXE8UrC", CH,
	    PASSWORD_SHA256_CRYPT, 5000, 0 },
	{ "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", CH, PASSWORD_BCRYPT, 4,
	    0 },
	{ "$2a$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", CH, PASSWORD_BCRYPT, 4,
	    0 },
	{ "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", CH, PASSWORD_BCRYPT, 4,
	    0 },
	{ "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$zwtVrjrUCmXcyLTs6oxLTQlzifSUkF8RHJ./tK5KU79", CH,
	    PASSWORD_YESCRYPT, 12, 16384 },
	{ "$y$j75$F5Jx5fExrKuPp53xLKQ..1$aEFV0VcEI5Jx.rzUhLbfRgipTKSbuNF0ldHPkDpnco3", CH,
	    PASSWORD_YESCRYPT, 10, 1024 },
	{ "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
	    "password", PASSWORD_ARGON2ID, 2, 65536 },
	{ "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    "password", PASSWORD_ARGON2ID, 2, 256 },
	{ "PBKDF2$sha512$1000$c2FsdHNhbHRzYWx0$"
	  "oSKce4SGrSKsJabCWZfpe2MmVOPtl4paOjoD1njLdjo3le9sMBwq0q7ivJFc"
	  "rXSTMQ0HjlOn/J48J9WZe4uR0g==",
	    CH, PASSWORD_GO_AUTH_PBKDF2, 1000, 0 },
	{ "PBKDF2$sha256$1000$c2FsdHNhbHRzYWx0$F7o7+5VTVzFAO998X6s3AHrDsJVdMiIlgndIMe19NvY=", CH,
	    PASSWORD_GO_AUTH_PBKDF2, 1000, 0 },
	/* mosquitto-go-auth's own: of its tests, with its default key length, and as ChirpStack writes it */
	{ "PBKDF2$sha512$100000$os24lcPr9cJt2QDVWssblQ==$"
	  "BK1BQ2wbwU1zNxv3Ml3wLuu5//hPop3/"
	  "LvaPYjjCwdBvnpwusnukJPpcXQzyyjOlZdieXTx6sXAcX4WnZRZZnw==",
	    "testpw", PASSWORD_GO_AUTH_PBKDF2, 100000, 0 },
	{ "PBKDF2$sha512$1000$c2FsdHNhbHRzYWx0c2FsdA==$EHLBej+"
	  "uEvxlmr0QnHnceg1vM6h1wbwSP5XErh3Smiw=",
	    CH, PASSWORD_GO_AUTH_PBKDF2, 1000, 0 },
	{ "$pbkdf2-sha512$i=100000,l=64$HqJwOCHweNk1pLryiu3RsA$"
	  "KVSvxKYcibIG5S5n55RvxKRTdAAfCUtBJoy5IuFzdSZyzkwvUcU+FPawEWFPn+06JyZsndfRTfpiEh+2eSJLkg",
	    "password", PASSWORD_GO_AUTH_PBKDF2, 100000, 0 },
	/* and its bcrypt (Go writes $2a$) and Argon2id, with its default costs */
	{ "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga", "allmine",
	    PASSWORD_BCRYPT, 10, 0 },
	{ "$argon2id$v=19$m=4096,t=3,p=2$c2FsdHNhbHRzYWx0c2FsdA$BPLyWyvnAcpmA7B4Brd/"
	  "0YfLNtAXIiKNyEMWc7UqNQw",
	    CH, PASSWORD_ARGON2ID, 3, 4096 },
	/* RFC 7677's */
	{ "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
	  ":"
	  "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
	    "pencil", PASSWORD_SCRAM_SHA256, 4096, 0 },
};

/* In a buffer of exactly that size, so that a read behind the end is found. */
static int
verify(const char *hash, const char *password, size_t len)
{
	size_t hash_len = strlen(hash);
	char *h = malloc(hash_len > 0 ? hash_len : 1), *p = malloc(len > 0 ? len : 1);
	int result;

	ck_assert(h != NULL && p != NULL);
	memcpy(h, hash, hash_len);
	memcpy(p, password, len);
	result = password_verify(h, hash_len, p, len);
	free(h);
	free(p);
	return result;
}

START_TEST(hashes_of_other_tools_are_verified)
{
	const char *hash = vectors[_i].hash, *password = vectors[_i].password;
	struct password_cost cost;
	char other[64];

	ck_assert_int_eq(password_check_format(hash, strlen(hash), &cost), 0);
	ck_assert_uint_eq(cost.scheme, vectors[_i].scheme);
	ck_assert_uint_eq(cost.rounds, vectors[_i].rounds);
	ck_assert_uint_eq(cost.kib, vectors[_i].kib);
	ck_assert_int_eq(verify(hash, password, strlen(password)), 1);
	ck_assert_int_eq(verify(hash, password, strlen(password) - 1), 0);
	ck_assert_int_eq(verify(hash, "", 0), 0);
	ck_assert_int_eq(password_verify(hash, strlen(hash), NULL, 0), 0);
	snprintf(other, sizeof(other), "%s ", password);
	ck_assert_int_eq(verify(hash, other, strlen(other)), 0);
	/* A NUL does not end the password. */
	memcpy(other + strlen(password), "\0x", 2);
	ck_assert_int_eq(verify(hash, other, strlen(password) + 2), 0);
	memcpy(other + strlen(password), "", 1); /* nor is one at its end nothing */
	ck_assert_int_eq(verify(hash, other, strlen(password) + 1), 0);
}
END_TEST

START_TEST(a_changed_digest_never_matches)
{
	const char *password = vectors[_i].password;
	char hash[PASSWORD_HASH_SIZE];
	size_t n = strlen(vectors[_i].hash), at = n - 20;

	memcpy(hash, vectors[_i].hash, n + 1);
	hash[at] = hash[at] == 'A' ? 'B' : 'A';
	ck_assert_int_eq(verify(hash, password, strlen(password)), 0);
}
END_TEST

START_TEST(a_cut_hash_is_malformed_at_every_length)
{
	const char *hash = vectors[_i].hash;

	for (size_t n = 0; n < strlen(hash); n++) {
		char *cut = malloc(n + 1);
		int err;

		ck_assert_ptr_nonnull(cut);
		memcpy(cut, hash, n);
		err = password_check_format(cut, n, NULL);
		/*
		 * Cut padding is tolerated in base64; then it is the same hash still. Argon2 makes
		 * digests of many lengths, and the length goes into them; mosquitto-go-auth makes
		 * PBKDF2's as long as it is asked for.
		 */
		if (err == 0 && vectors[_i].scheme == PASSWORD_GO_AUTH_PBKDF2)
			ck_assert_int_eq(hash[0], 'P'); /* the other form says its length */
		else if (err == 0 && vectors[_i].scheme != PASSWORD_ARGON2ID)
			ck_assert_int_eq(hash[n], '=');
		else if (err == 0 && vectors[_i].kib < 1024)
			ck_assert_int_eq(password_verify(cut, n, vectors[_i].password,
					     strlen(vectors[_i].password)),
			    0);
		free(cut);
	}
}
END_TEST

START_TEST(a_nul_inside_a_password_counts_where_the_scheme_can_hold_it)
{
	static const char hash[] =
	    "$7$100$c2FsdHNhbHRzYWx0$MwtdSBtUonaUU9BL8/icSzVd4gcKwjNf0s5nbfHPQOU/g0Oayl"
	    "be7O7VAnUC4xXeTeiKcRvG1eM3Sr2WL6fXdA==";

	ck_assert_int_eq(verify(hash, "a\0b", 3), 1);
	ck_assert_int_eq(verify(hash, "a", 1), 0);
	ck_assert_int_eq(verify(hash, "a\0c", 3), 0);
}
END_TEST

START_TEST(a_password_too_long_for_crypt_does_not_match_its_beginning)
{
	char password[600], hash[PASSWORD_HASH_SIZE];

	memset(password, 'x', sizeof(password));
	ck_assert_int_eq(password_hash(PASSWORD_YESCRYPT, password, 511, hash), 0);
	ck_assert_int_eq(verify(hash, password, 511), 1);
	ck_assert_int_eq(verify(hash, password, 512), 0);
	ck_assert_int_eq(verify(hash, password, 600), 0);
}
END_TEST

static const struct {
	const char *hash;
	int error;
} bad[] = {
	{ "", PASSWORD_EMALFORMED },
	{ "secret", PASSWORD_EUNSUPPORTED },
	{ "$", PASSWORD_EUNSUPPORTED },
	{ "$$", PASSWORD_EUNSUPPORTED },
	{ "$1$salt$hash", PASSWORD_EUNSUPPORTED },
	{ "$2x$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", PASSWORD_EUNSUPPORTED },
	{ "x$7$101$" SALT12 "$AAAA", PASSWORD_EUNSUPPORTED },
	{ "*", PASSWORD_EUNSUPPORTED },
	{ "!", PASSWORD_EUNSUPPORTED },
	{ "$7$", PASSWORD_EMALFORMED },
	{ "$7$101", PASSWORD_EMALFORMED },
	{ "$7$101$" SALT12, PASSWORD_EMALFORMED },
	{ "$7$101$" SALT12 "$", PASSWORD_EMALFORMED },
	{ "$7$101$" SALT12 "$AAAA",
	    PASSWORD_EMALFORMED }, /* a short digest would be easy to meet */
	{ "$7$101$$"
	  "Cq+QeWzICi2zY8XZK8tmRkqvAS7DmN3PqoGFyL+7Z2m3hQUzia13emQEkYgwZXj19+AfkBuDiG6EN69VYoJOJw="
	  "=",
	    PASSWORD_EMALFORMED },
	{ "$7$0$" SALT12 "$Cq+QeWzICi2zY8XZK8tmRkqvAS7DmN3PqoGFyL+7Z2m3hQUzia13emQEkYgwZXj19+"
	  "AfkBuDiG6EN69VYoJOJw==",
	    PASSWORD_EMALFORMED },
	{ "$7$-1$" SALT12 "$AAAA", PASSWORD_EMALFORMED },
	{ "$7$99999999999$" SALT12 "$AAAA", PASSWORD_EMALFORMED },
	{ "$7$4294967295$" SALT12 "$AAAA", PASSWORD_ECOST },
	{ "$7$5000001$" SALT12 "$AAAA", PASSWORD_ECOST },
	{ "$7$101$" SALT12 "$Cq+QeWzICi2zY8XZK8tmRkqvAS7DmN3PqoGFyL+7Z2m3hQUzia13emQEkYgwZXj19+"
	  "AfkBuDiG6EN69VYoJOJw==$",
	    PASSWORD_EMALFORMED },
	{ "$7$101$salt "
	  "salt$Cq+QeWzICi2zY8XZK8tmRkqvAS7DmN3PqoGFyL+7Z2m3hQUzia13emQEkYgwZXj19+"
	  "AfkBuDiG6EN69VYoJOJw==",
	    PASSWORD_EMALFORMED },
	{ "$7$CU..../....2Q9obwLhin8qvQl6sisAO/$sCgUdbuLtGLVmTsNvGwGmZC9GmBI0B1AEqPRA1Ckwe6",
	    PASSWORD_EMALFORMED },
	{ "$6$", PASSWORD_EMALFORMED },
	{ "$6$salt", PASSWORD_EMALFORMED },
	{ "$6$salt$", PASSWORD_EMALFORMED },
	{ "$6$salt$short", PASSWORD_EMALFORMED },
	{ "$6$rounds=999$saltstring$."
	  "r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
	    PASSWORD_EMALFORMED },
	{ "$6$rounds=999999999$saltstring$."
	  "r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
	    PASSWORD_ECOST },
	{ "$2b$31$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", PASSWORD_ECOST },
	{ "$2b$03$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", PASSWORD_EMALFORMED },
	{ "$2b$4$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", PASSWORD_EMALFORMED },
	{ "$y$jFT$F5Jx5fExrKuPp53xLKQ..1$zwtVrjrUCmXcyLTs6oxLTQlzifSUkF8RHJ./tK5KU79",
	    PASSWORD_ECOST },
	{ "$y$jzz$F5Jx5fExrKuPp53xLKQ..1$zwtVrjrUCmXcyLTs6oxLTQlzifSUkF8RHJ./tK5KU79",
	    PASSWORD_EUNSUPPORTED },
	{ "$y$j9T$$zwtVrjrUCmXcyLTs6oxLTQlzifSUkF8RHJ./tK5KU79", PASSWORD_EMALFORMED },
	{ "$argon2id$v=16$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_EUNSUPPORTED },
	{ "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_EUNSUPPORTED },
	{ "$argon2id$v=19$m=4194304,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/"
	  "5U52iv1cDc",
	    PASSWORD_ECOST },
	{ "$argon2id$v=19$m=256,t=1000,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_ECOST },
	{ "$argon2id$v=19$m=256,t=2,p=99$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_ECOST },
	{ "$argon2id$v=19$m=8,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_EMALFORMED },
	{ "$argon2id$v=19$t=2,m=256,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_EMALFORMED },
	{ "$argon2id$v=19$m=256,t=2,p=$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_EMALFORMED },
	{ "$argon2id$v=19$m=256,t=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_EMALFORMED },
	{ "$argon2id$v=19$m=256,t=2,p=2$c2FsdA$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	    PASSWORD_EMALFORMED },
	{ "PBKDF2$sha1$1000$" SALT12 "$AAAA", PASSWORD_EUNSUPPORTED },
	{ "PBKDF2$sha512$1000$" SALT12, PASSWORD_EMALFORMED },
	{ "PBKDF2", PASSWORD_EUNSUPPORTED },
};

START_TEST(a_malformed_or_hostile_hash_is_refused_before_anything_is_computed)
{
	ck_assert_msg(
	    password_check_format(bad[_i].hash, strlen(bad[_i].hash), NULL) == bad[_i].error,
	    "row %d: %s: %s", _i, bad[_i].hash,
	    password_strerror(password_check_format(bad[_i].hash, strlen(bad[_i].hash), NULL)));
	ck_assert_int_eq(verify(bad[_i].hash, "", 0), bad[_i].error);
	ck_assert_int_eq(verify(bad[_i].hash, "x", 1), bad[_i].error);
}
END_TEST

START_TEST(a_hash_with_a_nul_or_without_end_is_refused)
{
	char hash[2000];

	memset(hash, 'A', sizeof(hash));
	memcpy(hash, "$7$101$", 7);
	ck_assert_int_eq(password_check_format(hash, sizeof(hash), NULL), PASSWORD_EUNSUPPORTED);
	ck_assert_int_eq(password_check_format("$7$101\0x", 8, NULL), PASSWORD_EUNSUPPORTED);
	ck_assert_int_eq(password_check_format(NULL, 0, NULL), PASSWORD_EMALFORMED);
}
END_TEST

static const struct {
	const char *name, *prefix;
} schemes[] = {
	{ "argon2id", "$argon2id$v=19$m=19456,t=2,p=1$" },
	{ "yescrypt", "$y$j9T$" },
	{ "bcrypt", "$2b$11$" },
	{ "sha512", "$6$rounds=100000$" },
	{ "pbkdf2", "$7$210000$" },
	{ "scram-sha-256", "SCRAM-SHA-256$16384:" },
	{ "scram-sha-512", "SCRAM-SHA-512$16384:" },
};

START_TEST(what_is_made_is_verified)
{
	enum password_scheme scheme = password_scheme_by_name(schemes[_i].name);
	char first[PASSWORD_HASH_SIZE], second[PASSWORD_HASH_SIZE];

	ck_assert_int_ne(scheme, 0);
	ck_assert_int_eq(password_hash(scheme, "p\xc3\xa4ss", 5, first), 0);
	ck_assert_int_eq(password_hash(scheme, "p\xc3\xa4ss", 5, second), 0);
	ck_assert_str_ne(first, second);
	ck_assert_int_eq(strncmp(first, schemes[_i].prefix, strlen(schemes[_i].prefix)), 0);
	ck_assert_int_eq(verify(first, "p\xc3\xa4ss", 5), 1);
	ck_assert_int_eq(verify(first, "pass", 4), 0);
}
END_TEST

START_TEST(a_password_that_the_scheme_cannot_hold_is_not_hashed)
{
	char hash[PASSWORD_HASH_SIZE], password[600];

	memset(password, 'x', sizeof(password));
	ck_assert_int_eq(password_hash(PASSWORD_BCRYPT, password, 73, hash), PASSWORD_EINPUT);
	ck_assert_int_eq(password_hash(PASSWORD_YESCRYPT, password, 512, hash), PASSWORD_EINPUT);
	ck_assert_int_eq(password_hash(PASSWORD_SHA512_CRYPT, "a\0b", 3, hash), PASSWORD_EINPUT);
	ck_assert_int_eq(password_hash(PASSWORD_SCRAM_SHA256, "a\nb", 3, hash), PASSWORD_EINPUT);
	ck_assert_int_eq(password_hash(PASSWORD_SCRAM_SHA512, "a\xff", 2, hash), PASSWORD_EINPUT);
	ck_assert_int_eq(password_hash(PASSWORD_ARGON2ID, "a\0b", 3, hash), 0);
	ck_assert_int_eq(verify(hash, "a\0b", 3), 1);
	ck_assert_int_eq(verify(hash, "a", 1), 0);
	ck_assert_int_eq(
	    password_hash(PASSWORD_MOSQUITTO_SHA512, "a", 1, hash), PASSWORD_EUNSUPPORTED);
	ck_assert_int_eq(password_scheme_by_name("plain"), 0);
}
END_TEST

START_TEST(argon2id_agrees_with_the_reference_encoder)
{
	char hash[PASSWORD_HASH_SIZE];

	ck_assert_int_eq(argon2id_hash_encoded(
			     3, 128, 4, "pw", 2, "0123456789abcdef", 16, 24, hash, sizeof(hash)),
	    ARGON2_OK);
	ck_assert_int_eq(verify(hash, "pw", 2), 1);
	ck_assert_int_eq(verify(hash, "pW", 2), 0);
	ck_assert_int_eq(password_hash(PASSWORD_ARGON2ID, "pw", 2, hash), 0);
	ck_assert_int_eq(argon2id_verify(hash, "pw", 2), ARGON2_OK);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof(*(table))))

int
main(void)
{
	Suite *s = suite_create("password");
	TCase *tc = tcase_create("password");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, hashes_of_other_tools_are_verified, 0, ROWS(vectors));
	tcase_add_loop_test(tc, a_changed_digest_never_matches, 0, ROWS(vectors));
	tcase_add_loop_test(tc, a_cut_hash_is_malformed_at_every_length, 0, ROWS(vectors));
	tcase_add_test(tc, a_nul_inside_a_password_counts_where_the_scheme_can_hold_it);
	tcase_add_test(tc, a_password_too_long_for_crypt_does_not_match_its_beginning);
	tcase_add_loop_test(
	    tc, a_malformed_or_hostile_hash_is_refused_before_anything_is_computed, 0, ROWS(bad));
	tcase_add_test(tc, a_hash_with_a_nul_or_without_end_is_refused);
	tcase_add_loop_test(tc, what_is_made_is_verified, 0, ROWS(schemes));
	tcase_add_test(tc, a_password_that_the_scheme_cannot_hold_is_not_hashed);
	tcase_add_test(tc, argon2id_agrees_with_the_reference_encoder);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
