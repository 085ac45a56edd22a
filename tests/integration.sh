#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the integration tests from make: tests/integration/run with the environment of AM_TESTS_ENVIRONMENT.
# Exit code 77 (skipped) where the runner or what it needs is not there.
if [ -n "${GRAPNEL_SKIP_INTEGRATION-}" ]; then
	echo "not asked for"
	exit 77
fi
run=${GRAPNEL_SRC:?run me through make check-integration}/tests/integration/run
if [ ! -e "$run" ]; then
	echo "no integration tests in this tree"
	exit 77
fi
# The first Python may be one that does not see the distribution's packages.
for python in python3 /usr/bin/python3; do
	if "$python" -c 'import paho.mqtt.client' 2>/dev/null; then
		exec "$python" "$run" "$@"
	fi
done
if ! command -v python3 >/dev/null 2>&1; then
	echo "the integration tests need python3"
	exit 77
fi
exec python3 "$run" "$@"
