#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs one unit test with a time limit, so that a test that hangs is a failure.
if command -v timeout >/dev/null 2>&1; then
	exec timeout -k 5 "${GRAPNEL_TEST_TIMEOUT:-300}" "$@"
fi
exec "$@"
