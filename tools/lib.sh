# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What tools/quickstart and tools/check share. Sourced; they set $top (the source tree) and $log_dir.
: "${top:?}" "${log_dir:?}"

say() {
	printf '%s: %s\n' "${0##*/}" "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# packages_missing LIST...: the packages named in tools/packages/LIST that dpkg does not have.
packages_missing() {
	for list in "$@"; do
		sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$top/tools/packages/$list"
	done | sort -u | while read -r package; do
		status=$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null) || status=
		case $status in
		ii*) ;;
		*) printf '%s\n' "$package" ;;
		esac
	done
}

# packages_install LIST...: install with apt what is missing; nothing is touched when all is there.
packages_install() {
	if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
		say "no apt here; going on with what is installed (tools/packages names what is needed on Debian)"
		return 0
	fi
	# Word splitting is meant: one argument per package.
	missing=$(packages_missing "$@" | tr '\n' ' ')
	if [ -z "$missing" ]; then
		return 0
	fi
	as_root=
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null 2>&1 ||
			die "needs root or sudo to install: $missing
or ask your administrator for: apt-get install $missing"
		as_root=sudo
	fi
	say "installing $missing"
	# shellcheck disable=SC2086
	if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		$missing </dev/null >"$log_dir/apt.log" 2>&1; then
		# A fresh machine has no package lists yet, an old one has stale ones.
		$as_root apt-get update </dev/null >>"$log_dir/apt.log" 2>&1 || {
			tail -n 20 "$log_dir/apt.log" >&2
			die "apt-get update failed"
		}
		# shellcheck disable=SC2086
		$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
			$missing </dev/null >>"$log_dir/apt.log" 2>&1 || {
			tail -n 20 "$log_dir/apt.log" >&2
			die "apt-get install failed for: $missing"
		}
	fi
}

# Makefiles and libtool, which is a shell script, take the shell of configure: dash needs half the time that bash does for them.
if [ -x /bin/dash ]; then
	export CONFIG_SHELL="${CONFIG_SHELL:-/bin/dash}"
fi

cpus() {
	nproc 2>/dev/null || echo 2
}
