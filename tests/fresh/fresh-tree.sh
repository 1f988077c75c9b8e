#!/bin/bash
# Runs `make TARGET` where nobody has prepared anything: in a fresh clone of this repository's HEAD
# in a minimal Debian 12, in a chroot without an init, as root or as an ordinary user with sudo.
# Needs root, and mmdebstrap (scripts/install-deps.sh test).
#
# usage: fresh-tree.sh [--root|--user] [--keep] TARGET...
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/tree.sh"

usage() {
	echo "usage: ${0##*/} [--root|--user] [--keep] TARGET..." >&2
	exit 2
}

who=root
keep=
while [[ ${1-} == -* ]]; do
	case $1 in
	--root | --user) who=${1#--} ;;
	--keep) keep=1 ;;
	*) usage ;;
	esac
	shift
done
[[ $# -gt 0 ]] || usage
[[ $EUID -eq 0 ]] || { echo "${0##*/}: must be root" >&2 && exit 1; }

repository=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
include=ca-certificates,git,make
[[ $who == root ]] || include+=,sudo
base=$(fresh_tree_base "$who" "$include")
tree=$(fresh_tree "$base")
[[ $keep ]] || trap 'rm -rf --one-file-system "$tree"' EXIT

home=/root
if [[ $who == user ]]; then
	chroot "$tree" useradd --create-home --shell /bin/bash user
	echo 'user ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/user"
	home=/home/user
fi
git clone -q --no-hardlinks "$repository" "$tree$home/debmarshal"
chroot "$tree" chown -R "$who:$who" "$home/debmarshal"

start=$SECONDS
status=0
fresh_tree_run "$tree" chroot su --login "$who" -c "cd debmarshal && make $*" || status=$?
echo "${0##*/}: make $* as $who: exit status $status after $((SECONDS - start)) s${keep:+, in $tree}"
exit "$status"
