# SPDX-License-Identifier: MIT
# What the sessions share: each talks to one interpreter by `pmux ask` alone, and waits for nothing but answers.
# shellcheck shell=bash
set -eu

# answer QUESTION PATTERN: what the session NAME answers, without the prompt behind it
# shellcheck disable=SC2154
answer() {
        pmux ask --timeout 60s --expect "$2" "$name" "$1"
}

# same WHAT GOT WANTED
same() {
        [ "$2" = "$3" ] || { printf '%s: got %q, wanted %q\n' "$1" "$2" "$3" >&2; exit 1; }
}
