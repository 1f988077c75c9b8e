# Fresh minimal Debian 12 trees, for tests that must not profit from what this machine has: sourced, not run. Needs root,
# and mmdebstrap.
# shellcheck shell=bash
shopt -s inherit_errexit

# fresh_tree_base NAME PACKAGES: the tar of a minimal tree with these packages (comma between two), made once; its path is
# printed.
fresh_tree_base() {
	local repository cache base sources
	repository=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
	cache=$repository/.cache/fresh
	base=$cache/$1.tar
	mkdir -p "$cache"
	if [[ ! -e $base ]]; then
		# The tree asks for packages where this machine does, which may be such a tree itself.
		for sources in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list /etc/apt/sources.list.d/*; do
			[[ ! -s $sources ]] || break
		done
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

# fresh_tree_boot TREE SCRIPT: boots it, with systemd as the init of a PID namespace and other namespaces of its own, runs
# the script (a path inside) as root once the system is up, and halts. The status is the script's; so is the output.
fresh_tree_boot() {
	local tree=$1 status=0
	cat >"$tree/etc/systemd/system/fresh-tree.target" <<-UNIT
		[Unit]
		Requires=multi-user.target
		Wants=fresh-tree.service
	UNIT
	cat >"$tree/etc/systemd/system/fresh-tree.service" <<-UNIT
		[Unit]
		After=multi-user.target
		[Service]
		Type=oneshot
		ExecStart=/bin/bash $2
		StandardOutput=file:/var/tmp/fresh-tree.log
		StandardError=file:/var/tmp/fresh-tree.log
		ExecStopPost=/bin/sh -c "exec systemctl --no-block exit \$\${EXIT_STATUS}"
	UNIT
	# shellcheck disable=SC2016
	unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child bash -c '
		set -e
		mount --bind "$1" "$1"
		cd "$1"
		mount -t proc proc proc
		mount -t sysfs sysfs sys
		mount -t tmpfs -o mode=755 tmpfs run
		mount -t tmpfs -o mode=755 tmpfs dev
		mkdir dev/pts dev/shm dev/net
		mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
		mount -t tmpfs -o mode=1777 tmpfs dev/shm
		ln -s pts/ptmx dev/ptmx
		ln -s /proc/self/fd dev/fd
		while read -r name major minor; do
			mknod -m 666 "dev/$name" c "$major" "$minor"
		done <<-NODES
			null 1 3
			zero 1 5
			full 1 7
			random 1 8
			urandom 1 9
			tty 5 0
			net/tun 10 200
		NODES
		mount -t tmpfs tmpfs sys/fs/cgroup
		mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
		mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd ||
			mount -t cgroup2 cgroup2 sys/fs/cgroup
		pivot_root . mnt
		exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . sh -c "
			umount -l /mnt
			exec /lib/systemd/systemd --log-target=null --show-status=0 --unit=fresh-tree.target"
	' - "$tree" || status=$?
	cat "$tree/var/tmp/fresh-tree.log"
	return "$status"
}
