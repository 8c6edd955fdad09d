#!/bin/bash
# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
# at.sh 'YYYY-MM-DD HH:MM' COMMAND...: runs the command, and all that it starts, as if it were that
# minute (UTC) now. Nothing else has that clock. Needs Linux, a C compiler, and root or user namespaces.
set -euo pipefail

fail() { echo "clock: $*" >&2; exit 2; }

[[ $1 =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}\ [0-9]{2}:[0-9]{2}$ ]] && at=$(date -u -d "$1" +%s) ||
	fail "'$1' isn't a minute: AT='2026-12-31 23:58' is"
shift
command -v cc > /dev/null || fail 'no C compiler: install gcc (Debian: apt-get install gcc libc6-dev)'
private=(unshare --mount)
[ "$(id -u)" = 0 ] || private+=(--map-root-user)
"${private[@]}" true || fail 'no mount namespace: run it as root, or where users may make namespaces'

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
cc -shared -fPIC -O1 -DSHIFT="($((at - $(date +%s))))" -o "$made/shifted.so" \
	"$(dirname "$0")/shifted.c" -ldl
# By a copy of /etc, since the tests give their processes an environment of their own, which
# LD_PRELOAD doesn't reach. What only root may read is missing there.
cp -a /etc "$made" 2> /dev/null || true
echo "$made/shifted.so" > "$made/etc/ld.so.preload"
"${private[@]}" sh -c 'mount --bind "$0" /etc && exec "$@"' "$made/etc" "$@"
