# Fresh minimal Debian 12 trees, for tests that must not profit from what this machine has: sourced, not run. Needs root,
# and mmdebstrap.
# shellcheck shell=bash

# fresh_tree_base NAME PACKAGES: the tar of a minimal tree with these packages (comma between two), made once; its path is
# printed.
fresh_tree_base() {
	local repository cache base sources
	repository=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
	cache=$repository/.cache/fresh
	base=$cache/$1.tar
	mkdir -p "$cache"
	if [[ ! -e $base ]]; then
		# The tree asks for packages where this machine does.
		sources=/etc/apt/sources.list.d/debian.sources
		[[ -e $sources ]] || sources=/etc/apt/sources.list
		apt-config dump | grep -E '^Acquire::(Check|http|https)' >"$cache/apt.conf" || true
		mmdebstrap --quiet --format=tar --variant=minbase --include="$2" --aptopt="$cache/apt.conf" \
			bookworm "$base.new" "$sources" >&2
		mv "$base.new" "$base"
	fi
	echo "$base"
}

# fresh_tree BASE: unpacks it into a new directory, whose path is printed. Removing it is the caller's.
fresh_tree() {
	local tree
	tree=$(mktemp -d -p "${TMPDIR:-/var/tmp}" debmarshal-fresh.XXXXXX)
	chmod 755 "$tree"
	tar -xf "$1" -C "$tree" --exclude='./dev/*'
	cp /etc/resolv.conf /etc/hosts "$tree/etc/"
	echo "$tree"
}

# fresh_tree_run TREE chroot|root COMMAND...: runs it in there, in mount and PID namespaces of its own, with which the mounts
# and whatever still runs go. With "root" the tree is not a chroot but the root of its mount namespace, where user namespaces
# can be made.
fresh_tree_run() {
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child bash -c '
		set -e
		tree=$1 how=$2
		shift 2
		mount --bind "$tree" "$tree"
		cd "$tree"
		mount --rbind /dev dev
		mount --rbind /sys sys
		mount -t proc proc proc
		[[ $how == root ]] || exec chroot . "$@"
		mount -t tmpfs -o mode=755 run run
		pivot_root . mnt
		exec chroot . sh -c "umount -l /mnt && exec \"\$@\"" - "$@"
	' - "$@"
}
