#!/bin/bash
# The Debian package: built in a fresh minimal tree, installed in another, used there with systemd and without.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

as=()
[[ $EUID -eq 0 ]] || as=(sudo)
"${as[@]}" bash tests/package/package-tree.sh
