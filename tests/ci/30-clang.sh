#!/bin/bash
# clang with every warning fatal, and each fuzz target for a few seconds beyond its corpus.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

export CC=clang
configure build-clang --buildtype=debugoptimized --werror -Dtests=enabled
ninja -C build-clang
bash tests/fuzz/long.sh build-fuzz "${FUZZ_SECONDS:-5}"
