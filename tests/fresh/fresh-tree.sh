#!/bin/bash
# Runs `make TARGET` where nobody has prepared anything: in a fresh clone of this repository's HEAD
# in a minimal Debian 12, in a chroot without an init, as root or as an ordinary user with sudo.
# Needs root, and mmdebstrap (scripts/install-deps.sh test).
#
# usage: fresh-tree.sh [--root|--user] [--keep] TARGET...
set -euo pipefail

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
cache=$repository/.cache/fresh
mkdir -p "$cache"

include=ca-certificates,git,make
[[ $who == root ]] || include+=,sudo
base=$cache/$who.tar
if [[ ! -e $base ]]; then
	# The tree asks for packages where this machine does.
	sources=/etc/apt/sources.list.d/debian.sources
	[[ -e $sources ]] || sources=/etc/apt/sources.list
	apt-config dump | grep -E '^Acquire::(Check|http|https)' >"$cache/apt.conf" || true
	mmdebstrap --quiet --format=tar --variant=minbase --include="$include" --aptopt="$cache/apt.conf" \
		bookworm "$base.new" "$sources"
	mv "$base.new" "$base"
fi

tree=$(mktemp -d -p "${TMPDIR:-/var/tmp}" debmarshal-fresh.XXXXXX)
[[ $keep ]] || trap 'rm -rf --one-file-system "$tree"' EXIT
chmod 755 "$tree"
tar -xf "$base" -C "$tree" --exclude='./dev/*'
cp /etc/resolv.conf /etc/hosts "$tree/etc/"

home=/root
if [[ $who == user ]]; then
	chroot "$tree" useradd --create-home --shell /bin/bash user
	echo 'user ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/user"
	home=/home/user
fi
git clone -q --no-hardlinks "$repository" "$tree$home/debmarshal"
chroot "$tree" chown -R "$who:$who" "$home/debmarshal"

# The mounts and whatever still runs go with the namespaces.
start=$SECONDS
status=0
# shellcheck disable=SC2016
unshare --mount --pid --fork --kill-child bash -c '
	set -e
	mount --rbind /dev "$1/dev"
	mount --rbind /sys "$1/sys"
	mount -t proc proc "$1/proc"
	exec chroot "$1" su --login "$2" -c "cd debmarshal && make $3"
' - "$tree" "$who" "$*" || status=$?
echo "${0##*/}: make $* as $who: exit status $status after $((SECONDS - start)) s${keep:+, in $tree}"
exit "$status"
