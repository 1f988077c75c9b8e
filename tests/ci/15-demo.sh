#!/bin/bash
# The README's first command: two guests, one of which reaches the other by its name.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

scripts/demo.sh "$DEBMARSHAL_BUILD" "$DEBMARSHAL_GUESTS"
