/* SPDX-License-Identifier: Apache-2.0 */
#include "cmdline.h"
#include "config.h"
#include <event2/event.h>
#include <getopt.h>
#include <grapnel/plugin.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#ifndef URCU_VERSION /* liburcu does not tell; configure asks pkg-config */
#define URCU_VERSION "(version not known)"
#endif

#define DEFAULT_CONFIG GRAPNEL_SYSCONFDIR "/grapnel.conf"
enum { OPT_CONNECT = 256 };

void
cmdline_help(void)
{
	(void)printf(
	    "grapneld - an MQTT broker\n"
	    "\n"
	    "usage: grapneld [-c FILE] [-t [--connect]] | -V | -h\n"
	    "\n"
	    "  -c, --config FILE  the configuration; conf.d/*.conf beside it is read too\n"
	    "                     (default: %s)\n"
	    "  -t, --test         check the configuration and the plugins' options and files, say\n"
	    "                     every error, exit 0 or 1; nothing is opened\n"
	    "      --connect      with -t: start the plugins and stop them again, so that they\n"
	    "                     reach for their backends\n"
	    "  -V, --version      versions of grapneld, the plugin ABI and the libraries\n"
	    "  -h, --help         this text\n"
	    "\n"
	    "It stays in the foreground. Signals: TERM and INT stop it, HUP reloads the\n"
	    "configuration, USR1 opens the log file again.\n",
	    DEFAULT_CONFIG);
}

void
cmdline_versions(void)
{
	(void)printf("grapneld %s\nplugin ABI %d.%d\nlibevent %s\n%s\nliburcu %s\njansson %s\n",
	    PACKAGE_VERSION, GRAPNEL_ABI_MAJOR, GRAPNEL_ABI_MINOR, event_get_version(),
	    OpenSSL_version(OPENSSL_VERSION), URCU_VERSION, jansson_version_str());
}

bool
cmdline_parse(int argc, char **argv, struct cmdline *out)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "connect", no_argument, NULL, OPT_CONNECT },
		{ "help", no_argument, NULL, 'h' },
		{ "test", no_argument, NULL, 't' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*out = (struct cmdline){ .config = DEFAULT_CONFIG, .command = CMD_RUN };
	optind = 1;
	while ((c = getopt_long(argc, argv, "c:htV", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			out->config = optarg;
			break;
		case 'h':
			out->command = CMD_HELP;
			return true;
		case 't':
			out->command = CMD_CHECK;
			break;
		case 'V':
			out->command = CMD_VERSION;
			return true;
		case OPT_CONNECT:
			out->connect = true;
			break;
		default: /* getopt has said what */
			(void)fputs("grapneld -h lists the options\n", stderr);
			return false;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr,
		    "grapneld: \"%s\" is not understood; the configuration file is given with -c "
		    "FILE\n",
		    argv[optind]);
		return false;
	}
	if (out->connect && out->command != CMD_CHECK) {
		(void)fputs("grapneld: --connect goes with -t\n", stderr);
		return false;
	}
	return true;
}
