#!/bin/bash
# The unit tests, those that need root, the corpora and the command line against a daemon, under AddressSanitizer (leaks
# included) and UndefinedBehaviorSanitizer. Warnings are not fatal here: the instrumented code gives gcc false ones.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

export CC=gcc
configure build-sanitize -Db_sanitize=address,undefined -Db_lundef=false -Dtests=enabled
ninja -C build-sanitize
mkdir -p build-sanitize/results
# Ordinary users have to ask for root; what it writes into the build directory is given back.
sudo=()
[[ $EUID -eq 0 ]] || sudo=(sudo)
status=0
"${sudo[@]}" env PATH="$PATH" DEBMARSHAL_GUESTS="${DEBMARSHAL_GUESTS:-}" \
	DEBMARSHAL_BUILD="$PWD/build-sanitize" DEBMARSHAL_RESULTS="$PWD/build-sanitize/results" \
	ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	meson test -C build-sanitize --no-rebuild --print-errorlogs --timeout-multiplier 2 \
	--suite unit --suite root --suite fuzz --suite daemon || status=$?
[[ $EUID -eq 0 ]] || sudo chown -R "$(id -u):$(id -g)" build-sanitize
exit "$status"
