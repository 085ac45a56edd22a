/* SPDX-License-Identifier: Apache-2.0 */
#include "config/address.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *text, *host, *port, *path, *systemd; /* all NULL: refused */
} address_cases[] = {
	{ "127.0.0.1:1883", "127.0.0.1", "1883", NULL, NULL },
	{ "0.0.0.0:0", "0.0.0.0", "0", NULL, NULL },
	{ "*:1883", "*", "1883", NULL, NULL },
	{ "[::1]:1883", "::1", "1883", NULL, NULL },
	{ "[::]:65535", "::", "65535", NULL, NULL },
	{ "[2001:db8::1]:8", "2001:db8::1", "8", NULL, NULL },
	{ "[fe80::1%eth0]:1", "fe80::1%eth0", "1", NULL, NULL },
	{ "unix:/run/x.sock", NULL, NULL, "/run/x.sock", NULL },
	{ "unix:@name", NULL, NULL, "@name", NULL },
	{ "", NULL, NULL, NULL, NULL },
	{ ":", NULL, NULL, NULL, NULL },
	{ "1883", NULL, NULL, NULL, NULL },
	{ ":1883", NULL, NULL, NULL, NULL },
	{ "localhost:1883", NULL, NULL, NULL, NULL },
	{ "127.0.0.1", NULL, NULL, NULL, NULL },
	{ "127.0.0.1:", NULL, NULL, NULL, NULL },
	{ "127.0.0.1:65536", NULL, NULL, NULL, NULL },
	{ "127.0.0.1:-1", NULL, NULL, NULL, NULL },
	{ "127.0.0.1:+1", NULL, NULL, NULL, NULL },
	{ "127.0.0.1:1x", NULL, NULL, NULL, NULL },
	{ "127.0.0.1:000001", NULL, NULL, NULL, NULL },
	{ "127.0.0.256:1", NULL, NULL, NULL, NULL },
	{ "127.1:1", NULL, NULL, NULL, NULL },
	{ "127.0.0.1%lo:1", NULL, NULL, NULL, NULL },
	{ "::1:1883", NULL, NULL, NULL, NULL },
	{ "::1", NULL, NULL, NULL, NULL },
	{ "[::1]", NULL, NULL, NULL, NULL },
	{ "[::1]1883", NULL, NULL, NULL, NULL },
	{ "[::1:1883", NULL, NULL, NULL, NULL },
	{ "[]:1", NULL, NULL, NULL, NULL },
	{ "[*]:1", NULL, NULL, NULL, NULL },
	{ "[127.0.0.1]:1", NULL, NULL, NULL, NULL },
	{ "[::1%]:1", NULL, NULL, NULL, NULL },
	{ "[", NULL, NULL, NULL, NULL },
	{ "[:", NULL, NULL, NULL, NULL },
	{ "unix:", NULL, NULL, NULL, NULL },
	{ "unix:relative", NULL, NULL, NULL, NULL },
	{ "unix:/", NULL, NULL, NULL, NULL },
	{ "unix:@", NULL, NULL, NULL, NULL },
	{ "tcp:1883", NULL, NULL, NULL, NULL },
	{ "systemd:grapnel.socket", NULL, NULL, NULL, "grapnel.socket" },
	{ "systemd:with blanks", NULL, NULL, NULL, "with blanks" },
	{ "systemd:x", NULL, NULL, NULL, "x" },
	{ "systemd:", NULL, NULL, NULL, NULL },
	{ "systemd", NULL, NULL, NULL, NULL },
	{ "systemd:a:b", NULL, NULL, NULL, NULL },
	{ "systemd:a\nb", NULL, NULL, NULL, NULL },
	{ "systemd:\xc3\xa9", NULL, NULL, NULL, NULL },
	{ "udp:127.0.0.1:1884", "127.0.0.1", "1884", NULL, NULL },
	{ "udp:[::1]:0", "::1", "0", NULL, NULL },
	{ "udp:*:1884", "*", "1884", NULL, NULL },
	{ "udp:", NULL, NULL, NULL, NULL },
	{ "udp:1884", NULL, NULL, NULL, NULL },
	{ "udp:localhost:1884", NULL, NULL, NULL, NULL },
	{ "udp:unix:/run/x.sock", NULL, NULL, NULL, NULL },
	{ "udp:udp:127.0.0.1:1884", NULL, NULL, NULL, NULL },
	{ "UDP:127.0.0.1:1884", NULL, NULL, NULL, NULL },
};

static void
same_text(const char *got, const char *expected)
{
	ck_assert_str_eq(got == NULL ? "(none)" : got, expected == NULL ? "(none)" : expected);
}

START_TEST(addresses_are_numeric_or_paths)
{
	char why[200] = "";
	struct address a;
	bool good = address_cases[_i].host != NULL || address_cases[_i].path != NULL ||
	    address_cases[_i].systemd != NULL;

	ck_assert_msg(address_parse(address_cases[_i].text, &a, why, sizeof(why)) == good, "%s: %s",
	    address_cases[_i].text, why);
	ck_assert_int_eq(a.is_unix, address_cases[_i].path != NULL);
	ck_assert_int_eq(a.is_udp, good && strncmp(address_cases[_i].text, "udp:", 4) == 0);
	same_text(a.host, address_cases[_i].host);
	same_text(a.port, address_cases[_i].port);
	same_text(a.path, address_cases[_i].path);
	same_text(a.systemd, address_cases[_i].systemd);
	ck_assert_int_eq(strncmp(why, "must ", 5) == 0, !good);
	address_fini(&a);
}
END_TEST

START_TEST(a_unix_path_fits_its_address)
{
	char path[200] = "unix:/", why[200];
	struct address a;

	memset(path + 6, 'x', 106); /* 107 in all, and the NUL */
	ck_assert(address_parse(path, &a, why, sizeof(why)));
	address_fini(&a);
	strcat(path, "y");
	ck_assert(!address_parse(path, &a, why, sizeof(why)));
	ck_assert_str_eq(why, "must not be longer than 107 bytes, a limit of Unix sockets");
}
END_TEST

#define LOOP(tcase, test, cases) \
	tcase_add_loop_test(tcase, test, 0, (int)(sizeof(cases) / sizeof((cases)[0])))

int
main(void)
{
	Suite *s = suite_create("address");
	TCase *tc = tcase_create("addresses");
	SRunner *runner;
	int failed;

	LOOP(tc, addresses_are_numeric_or_paths, address_cases);
	tcase_add_test(tc, a_unix_path_fits_its_address);
	suite_add_tcase(s, tc);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
