#!/bin/bash
# gcc, optimised, with assertions off and every warning fatal.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

export CC=gcc
configure build-gcc --buildtype=release -Db_ndebug=true --werror -Dtests=enabled
ninja -C build-gcc
