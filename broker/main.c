/* SPDX-License-Identifier: Apache-2.0 */
#include "cmdline.h"
#include "run.h"

int
main(int argc, char **argv)
{
	struct cmdline cmd;

	if (!cmdline_parse(argc, argv, &cmd))
		return 1;
	switch (cmd.command) {
	case CMD_VERSION:
		cmdline_versions();
		return 0;
	case CMD_HELP:
		cmdline_help();
		return 0;
	case CMD_CHECK:
		return broker_test(&cmd);
	case CMD_RUN:
		return broker_run(&cmd);
	}
	return 1;
}
