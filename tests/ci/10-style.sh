#!/bin/bash
# The formatter is the single truth about layout; shell scripts are shellcheck-clean.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs clang-format --dry-run -Werror
git ls-files 'scripts/*' 'tests/*.sh' '.ci/run' | xargs grep -lE '^#!.*\bbash|^# .*sourced' | xargs shellcheck -x
