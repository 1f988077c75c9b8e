#!/bin/bash
# What `make install` puts where, and that the programs look for it there.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

DESTDIR=$(mktemp -d)
export DESTDIR
trap 'rm -rf "$DESTDIR"' EXIT
make --no-print-directory install
for file in etc/dbus-1/system.d/com.googlecode.debmarshal.conf etc/debmarshal/debmarshald.conf \
	usr/local/bin/debmarshal usr/local/lib/systemd/system/debmarshald.service \
	usr/local/lib/systemd/system/debmarshald.socket usr/local/sbin/debmarshald \
	usr/local/share/dbus-1/system-services/com.googlecode.debmarshal.service usr/local/share/man/man1/debmarshal.1; do
	[[ -e $DESTDIR/$file ]] || { echo "$file was not installed" >&2 && exit 1; }
done
grep -q '^ExecStart=/usr/local/sbin/debmarshald ' "$DESTDIR/usr/local/lib/systemd/system/debmarshald.service"
grep -qF ' /etc/debmarshal/debmarshald.conf' "$DESTDIR/usr/local/sbin/debmarshald"
