#!/bin/sh
# Fuzz each target for a while: long.sh BUILD SECONDS [NAME...]
#
# Builds with clang, AddressSanitizer and UndefinedBehaviorSanitizer in the directory BUILD. Starts from the corpora in the
# tree; what is found to be interesting is kept in BUILD/corpus, and what breaks a target in BUILD/NAME-crash-*.
set -eu

if [ $# -lt 2 ]; then
        echo "usage: long.sh BUILD SECONDS [NAME...]" >&2
        exit 2
fi
build=$1
seconds=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)

if [ ! -e "$build/build.ninja" ]; then
        CC=clang meson setup "$build" "$here/../.." -Dfuzz=enabled -Dtests=disabled -Db_sanitize=address,undefined \
                -Db_lundef=false
fi
ninja -C "$build" fuzzers

if [ $# -eq 0 ]; then
        for source in "$here"/fuzz-*.c; do
                name=${source##*/fuzz-}
                set -- "$@" "${name%.c}"
        done
fi

failed=
for name; do
        binary=$build/tests/fuzz/fuzz-$name
        [ -x "$binary" ] || continue
        mkdir -p "$build/corpus/$name"
        echo "== $name, $seconds s"
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
                "$binary" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
                -artifact_prefix="$build/$name-" "$build/corpus/$name" "$here/corpus/$name" >"$build/fuzz-$name.log" 2>&1 || {
                failed="$failed $name"
                tail -n 30 "$build/fuzz-$name.log"
        }
        grep -E '^(stat::(number_of_executed_units|new_units_added)|SUMMARY)' "$build/fuzz-$name.log" || true
done

if [ -n "$failed" ]; then
        echo "failed:$failed; see $build/fuzz-NAME.log" >&2
        exit 1
fi
