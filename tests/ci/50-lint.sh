#!/bin/bash
# clang-tidy and cppcheck, without a finding. What is switched off has its reason beside it: in .clang-tidy, and here.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

export CC=clang
configure build-clang --buildtype=debugoptimized --werror -Dtests=enabled
git ls-files 'src/*.c' ':!src/*/test-*.c' ':!src/*/*/test-*.c' |
	xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build-clang --warnings-as-errors='*'

# missingIncludeSystem: system headers are not its business. unusedFunction is left off: each program uses part of the libraries.
# The macros of lists it must see, or it would take them for functions.
cppcheck --quiet --std=c11 --enable=warning,performance,portability --error-exitcode=1 --inline-suppr \
	--suppress=missingIncludeSystem --include="/usr/include/$(gcc -print-multiarch)/sys/queue.h" \
	-D_GNU_SOURCE '-DVERSION=""' '-DLIBEXECDIR=""' '-DSYSCONFDIR=""' '-DSBINDIR=""' -I src -j "$(nproc)" src
