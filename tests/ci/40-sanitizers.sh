#!/bin/bash
# The unit tests, the corpora and the daemon's tests under AddressSanitizer (leaks included) and UndefinedBehaviorSanitizer.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

export CC=gcc
configure build-sanitize -Db_sanitize=address,undefined -Db_lundef=false --werror -Dtests=enabled
ninja -C build-sanitize
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
DEBMARSHAL_BUILD=$PWD/build-sanitize DEBMARSHAL_RESULTS=$PWD/build-sanitize/results \
	meson test -C build-sanitize --no-rebuild --print-errorlogs --suite unit --suite fuzz --suite daemon
