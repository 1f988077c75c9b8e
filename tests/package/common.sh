# What the scripts that run inside the tree share: sourced, not run.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

fail() {
	echo "FAILED: $*" >&2
	[[ ! -e /run/debmarshald.log ]] || tail -n 30 /run/debmarshald.log >&2
	[[ ! -d /run/systemd/system ]] || journalctl --no-pager -u debmarshald | tail -n 30 >&2
	exit 1
}

# expect WHAT COMMAND...: it succeeds
expect() {
	local what=$1
	shift
	"$@" >/dev/null || fail "$what"
	echo "ok: $what"
}

as_user() {
	setpriv --reuid="${who-user}" --regid="${who-user}" --init-groups env -i PATH=/usr/bin:/bin HOME=/home/user "$@"
}

privops() {
	as_user busctl --system call com.googlecode.debmarshal /com/googlecode/debmarshal/Privops \
		com.googlecode.debmarshal.Privops "$@"
}

# The network's name out of (sssa{s(ss)}) "debmarshal-0" ...
network_name() {
	sed -n 's/^(sssa{s(ss)}) "\([^"]*\)".*/\1/p'
}

# start_guest NETWORK [WORDS FOR THE KERNEL]
start_guest() {
	as_user debmarshal --system domain create --network "$1" --host web --memory 128M --hypervisor qemu \
		--kernel /home/user/vmlinuz --initrd /home/user/initrd.gz --cmdline "console=ttyS0 quiet ${2-}"
}

# The pids of those who run a program of these names, installed or removed already.
running() {
	local exe
	for exe in /proc/[0-9]*/exe; do
		for name; do
			[[ $(readlink "$exe") != */"$name"* ]] || echo "${exe//[^0-9]/}"
		done
	done
}
