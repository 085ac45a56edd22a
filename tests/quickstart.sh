#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tools/quickstart as its reader uses it: runs it, pastes what it prints, stops it. Run by tools/check.
# Ends with `N passed, N failed, N skipped`.
# Functions are run through check().
# shellcheck disable=SC2317
set -u

top=$(cd -- "$(dirname -- "$0")/.." && pwd)
tmp=$(mktemp -d)
pid=
cleanup() {
	if [ -n "$pid" ]; then
		kill "$pid" 2>/dev/null
	fi
	rm -rf "$tmp"
}
trap cleanup EXIT

passed=0 failed=0
check() { # check WHAT COMMAND...
	local what=$1
	shift
	if "$@" >"$tmp/check.out" 2>&1; then
		passed=$((passed + 1))
		printf 'ok      %s\n' "$what"
	else
		failed=$((failed + 1))
		printf 'FAILED  %s\n' "$what"
		sed 's/^/    /' "$tmp/check.out"
	fi
}
finish() {
	if [ "$failed" -gt 0 ]; then
		printf '%s\n' "--- output of tools/quickstart"
		cat "$tmp/out"
		printf '%s\n' "---"
	fi
	printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
	[ "$failed" -eq 0 ]
	exit
}

# A port that nobody listens on; the kernel would choose from above 32768.
port=
for try in $(seq 20000 20200); do
	if ! (exec 3<>"/dev/tcp/127.0.0.1/$try") 2>/dev/null; then
		port=$try
		break
	fi
done

refuses() { # refuses TEXT COMMAND...: fails and says TEXT
	local text=$1
	shift
	if "$@" >"$tmp/refused" 2>&1 </dev/null; then
		echo "it went through"
		return 1
	fi
	cat "$tmp/refused"
	grep -qi -- "$text" "$tmp/refused"
}
check "a port that is no number is refused" refuses "number from 1 to 65535" "$top/tools/quickstart" --port none

: >"$tmp/out"
"$top/tools/quickstart" --port "$port" >"$tmp/out" 2>&1 </dev/null &
pid=$!

listens() {
	(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}
starts() {
	local deadline=$((SECONDS + ${QUICKSTART_SECONDS:-900}))
	while [ "$SECONDS" -lt "$deadline" ]; do
		if listens && grep -q mosquitto_sub "$tmp/out"; then
			return 0
		fi
		if ! kill -0 "$pid" 2>/dev/null; then
			echo "it ended by itself"
			return 1
		fi
		sleep 0.2
	done
	echo "nothing listens on port $port"
	return 1
}
check "it builds and listens" starts
if [ "$failed" -gt 0 ]; then
	finish
fi

printed() { # printed REGEX: the first line of the output that has it
	grep -m 1 -E -- "$1" "$tmp/out"
}
sub=$(printed '^ *mosquitto_sub ')
pub=$(printed '^ *mosquitto_pub .*demo/')
denied=$(printed '^ *mosquitto_pub .*forbidden/')

pasted_lines_work() {
	local sub_pid tries=0
	sh -c "$sub -C 1 -W 30" >"$tmp/received" 2>&1 &
	sub_pid=$!
	# The subscriber tells nobody when it is there, so publish until it has a message.
	while kill -0 "$sub_pid" 2>/dev/null && [ "$tries" -lt 60 ]; do
		sh -c "$pub" || return 1
		sleep 0.3
		tries=$((tries + 1))
	done
	wait "$sub_pid"
	cat "$tmp/received"
	grep -q 'hello, world' "$tmp/received"
}
check "the printed lines work when pasted" pasted_lines_work

wrong=$(printf '%s\n' "$pub" | sed "s/-P '[^']*'/-P wrong/")
check "a wrong password is not authorised" refuses "not authori[sz]ed" sh -c "$wrong"
anonymous=$(printf '%s\n' "$pub" | sed "s/-u demo -P '[^']*'//")
check "no password is not authorised" refuses "not authori[sz]ed" sh -c "$anonymous"

denial_is_logged() {
	sh -c "$denied"
	local tries=0
	while [ "$tries" -lt 50 ]; do
		if grep -i 'demo' "$tmp/out" | grep -v mosquitto_pub | grep -q 'forbidden/hello'; then
			return 0
		fi
		sleep 0.1
		tries=$((tries + 1))
	done
	return 1
}
check "an ACL denial is logged with user and topic" denial_is_logged
check "a second one on the same port is refused" refuses "in use" "$top/tools/quickstart" --port "$port"
check "grapnelctl status answers" sh -c "$(sed -n 's/^A look inside: //p' "$tmp/out")"
stops() {
	kill -TERM "$pid"
	local tries=0
	while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	if [ "$tries" -ge 100 ]; then
		echo "it still runs 10 s after SIGTERM"
		return 1
	fi
	local rc=0
	wait "$pid" || rc=$?
	pid=
	echo "exit code $rc"
	[ "$rc" -eq 0 ]
}
check "SIGTERM ends it with exit code 0" stops
finish
