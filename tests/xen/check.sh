#!/bin/bash
# Runs tests/xen in real Xen, on two machines at a time ($XEN_MACHINES), each with one processor and half of the
# tests. Writes RESULTS/1 and RESULTS/2, and their junit files as one into $DEBMARSHAL_RESULTS.
#
# usage: check.sh DOM0 GUESTS BUILD RESULTS [PYTEST-ARGUMENT]...
#        DOM0 is made if it is not there, by dom0.sh; the rest is as in run.sh.
set -euo pipefail

[[ $# -ge 4 ]] || {
	echo "usage: ${0##*/} DOM0 GUESTS BUILD RESULTS [PYTEST-ARGUMENT]..." >&2
	exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
dom0=$1 guests=$2 build=$3 results=$4
shift 4
machines=${XEN_MACHINES:-2}

"$here/dom0.sh" "$dom0"

running=()
trap '[[ ${#running[@]} -eq 0 ]] || kill "${running[@]}" 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM
for ((n = 1; n <= machines; n++)); do
	"$here/run.sh" --seconds "${XEN_SECONDS:-2700}" "$dom0" "$guests" "$build" "$results/$n" --share="$n/$machines" "$@" \
		> >(sed -u "s|^|xen $n: |") 2>&1 &
	running+=($!)
done
status=0
for pid in "${running[@]}"; do
	wait "$pid" || status=1
done
running=()

# One file, as for any other suite.
[[ -z ${DEBMARSHAL_RESULTS-} ]] || /usr/bin/python3 - "$DEBMARSHAL_RESULTS/xen.xml" "$results"/*/xen.xml <<'PYTHON'
import os
import sys
import xml.etree.ElementTree as xml

whole = xml.Element("testsuites")
for path in filter(os.path.exists, sys.argv[2:]):
    whole.extend(xml.parse(path).iter("testsuite"))
xml.ElementTree(whole).write(sys.argv[1])
PYTHON
exit "$status"
