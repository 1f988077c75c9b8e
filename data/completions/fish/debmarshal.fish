# fish completion for debmarshal(1)
#
# Names are asked of the daemon that runs; none is started for it.

# The words before the cursor without options: "network create web" and so on.
function __debmarshal_words
    set -l words (commandline -opc)
    set -e words[1]
    string match -v -- '-*' $words
end

# Are we at the noun, at the verb of this noun, or behind this verb?
function __debmarshal_at
    set -l words (__debmarshal_words)
    test "$words" = "$argv"
end

function __debmarshal_in
    set -l words (__debmarshal_words)
    set -l n (count $argv)
    test (count $words) -ge $n; and test "$words[1..$n]" = "$argv"
end

function __debmarshal_in_any
    set -l noun $argv[1]
    for verb in $argv[2..-1]
        __debmarshal_in $noun $verb; and return 0
    end
    return 1
end

function __debmarshal_networks
    debmarshal network list --names 2>/dev/null
end

function __debmarshal_domains
    debmarshal domain list --names 2>/dev/null
end

function __debmarshal_hosts
    debmarshal network list --host-names 2>/dev/null
end

complete -c debmarshal -f

complete -c debmarshal -l address -r -F -d "The daemon's address"
complete -c debmarshal -l system -d "Ask the system's daemon only"
complete -c debmarshal -l session -d "Ask your own daemon only"
complete -c debmarshal -s h -l help -d "Show help"
complete -c debmarshal -l version -d "Print the version"

complete -c debmarshal -n "__debmarshal_at" -a network -d "Isolated networks"
complete -c debmarshal -n "__debmarshal_at" -a domain -d "Virtual machines"
complete -c debmarshal -n "__debmarshal_at" -a connect -d "Connect to a TCP port of a host"
complete -c debmarshal -n "__debmarshal_at" -a listen -d "Accept a TCP connection from a network"
complete -c debmarshal -n "__debmarshal_at" -a ssh -d "Run ssh to a host of a network"
complete -c debmarshal -n "__debmarshal_at" -a doctor -d "Check what works here"
complete -c debmarshal -n "__debmarshal_at" -a help -d "Show help"
complete -c debmarshal -n "__debmarshal_at help" -a "network domain connect listen ssh doctor"

complete -c debmarshal -n "__debmarshal_at network" -a create -d "Create a network for these hosts"
complete -c debmarshal -n "__debmarshal_at network" -a list -d "List networks"
complete -c debmarshal -n "__debmarshal_at network" -a show -d "Show a network and its hosts"
complete -c debmarshal -n "__debmarshal_at network" -a destroy -d "Destroy networks"
complete -c debmarshal -n "__debmarshal_at network" -a shell -d "Open a shell inside a network"
complete -c debmarshal -n "__debmarshal_at network" -a exec -d "Run a command inside a network"
complete -c debmarshal -n "__debmarshal_at network" -a capture -d "Capture packets as pcapng"
complete -c debmarshal -n "__debmarshal_in_any network show destroy shell exec capture" -a "(__debmarshal_networks)"
complete -c debmarshal -n "__debmarshal_in network create" -l subnet -x -d "Use this subnet"
complete -c debmarshal -n "__debmarshal_in network create" -l ipv6 -x -a "slaac dhcp none" -d "IPv6 mode"
complete -c debmarshal -n "__debmarshal_in network list" -s a -l all -d "Everybody's"
complete -c debmarshal -n "__debmarshal_in network destroy" -s d -l domains -d "Destroy the domains on it first"
complete -c debmarshal -n "__debmarshal_in network capture" -s d -l device -x -d "Only this device"
complete -c debmarshal -n "__debmarshal_in network capture" -s w -l write -r -F -d "Write to a file"
complete -c debmarshal -n "__debmarshal_in_any network create list show" -l json -d "Print as JSON"

complete -c debmarshal -n "__debmarshal_at domain" -a create -d "Create a virtual machine"
complete -c debmarshal -n "__debmarshal_at domain" -a list -d "List virtual machines"
complete -c debmarshal -n "__debmarshal_at domain" -a show -d "Show a virtual machine"
complete -c debmarshal -n "__debmarshal_at domain" -a destroy -d "Destroy virtual machines"
complete -c debmarshal -n "__debmarshal_at domain" -a console -d "Attach to the serial console"
complete -c debmarshal -n "__debmarshal_at domain" -a log -d "Print what the console printed"
complete -c debmarshal -n "__debmarshal_at domain" -a screenshot -d "Save the screen as PNG"
complete -c debmarshal -n "__debmarshal_at domain" -a vnc -d "Serve the screen on a local port"
complete -c debmarshal -n "__debmarshal_at domain" -a pause -d "Stop the processors"
complete -c debmarshal -n "__debmarshal_at domain" -a resume -d "Let the processors go on"
complete -c debmarshal -n "__debmarshal_at domain" -a reset -d "Press the reset button"
complete -c debmarshal -n "__debmarshal_at domain" -a shutdown -d "Press the power button"
complete -c debmarshal -n "__debmarshal_at domain" -a wait -d "Wait for the end and print why"
complete -c debmarshal -n "__debmarshal_at domain" -a agent -d "Talk to the guest agent"
complete -c debmarshal -n "__debmarshal_in_any domain show destroy console log screenshot vnc pause resume reset shutdown wait agent" -a "(__debmarshal_domains)"
complete -c debmarshal -n "__debmarshal_in domain screenshot" -F
complete -c debmarshal -n "__debmarshal_in domain create" -s n -l network -x -a "(__debmarshal_networks)" -d "An interface on this network"
complete -c debmarshal -n "__debmarshal_in domain create" -l host -x -a "(__debmarshal_hosts)" -d "Be this host"
complete -c debmarshal -n "__debmarshal_in domain create" -l mac -x -d "The first interface's address"
complete -c debmarshal -n "__debmarshal_in domain create" -s m -l memory -x -d "Such as 512M"
complete -c debmarshal -n "__debmarshal_in domain create" -s c -l vcpus -x -d "How many processors"
complete -c debmarshal -n "__debmarshal_in domain create" -s d -l disk -r -F -d "A disk"
complete -c debmarshal -n "__debmarshal_in domain create" -s k -l kernel -r -F -d "Boot this kernel"
complete -c debmarshal -n "__debmarshal_in domain create" -s i -l initrd -r -F -d "With this initrd"
complete -c debmarshal -n "__debmarshal_in domain create" -s a -l cmdline -x -d "And this command line"
complete -c debmarshal -n "__debmarshal_in domain create" -l bootloader -x -a "pygrub" -d "What finds the kernel in the first disk"
complete -c debmarshal -n "__debmarshal_in domain create" -l hypervisor -x -a "kvm qemu xen" -d "What runs it"
complete -c debmarshal -n "__debmarshal_in domain create" -l arch -x -a "x86_64 aarch64" -d "Architecture"
complete -c debmarshal -n "__debmarshal_in domain create" -l firmware -x -a "bios uefi" -d "What boots it"
complete -c debmarshal -n "__debmarshal_in domain create" -l type -x -a "pvh pv hvm" -d "Kind of Xen guest"
complete -c debmarshal -n "__debmarshal_in domain create" -l stubdomain -d "Emulate its devices in a domain of their own"
complete -c debmarshal -n "__debmarshal_in domain create" -l on-poweroff -x -a "destroy restart" -d "When it powers off"
complete -c debmarshal -n "__debmarshal_in domain create" -l on-reboot -x -a "destroy restart" -d "When it reboots"
complete -c debmarshal -n "__debmarshal_in domain create" -l paused -d "Do not run yet"
complete -c debmarshal -n "__debmarshal_in domain create" -l vnc-password-file -r -F -d "Password for viewers"
complete -c debmarshal -n "__debmarshal_in domain create" -l extra -x -d "KEY=VALUE"
complete -c debmarshal -n "__debmarshal_in domain create" -l console -d "Attach at once"
complete -c debmarshal -n "__debmarshal_in domain list" -s a -l all -d "Everybody's"
complete -c debmarshal -n "__debmarshal_in domain list" -l ended -d "Those that are no more"
complete -c debmarshal -n "__debmarshal_in domain log" -s f -l follow -d "And what follows"
complete -c debmarshal -n "__debmarshal_in domain vnc" -s l -l listen -x -d "Where to listen"
complete -c debmarshal -n "__debmarshal_in domain vnc" -s x -l exec -r -d "Run this viewer"
complete -c debmarshal -n "__debmarshal_in domain wait" -s t -l timeout -x -d "Give up after this"
complete -c debmarshal -n "__debmarshal_in_any domain create list show wait" -l json -d "Print as JSON"

complete -c debmarshal -n "__debmarshal_in connect" -l fdpass -d "Hand the socket to ssh"
complete -c debmarshal -n "__debmarshal_at connect; or __debmarshal_at listen" -a "(__debmarshal_networks)"
complete -c debmarshal -n "__debmarshal_at ssh" -a "(__debmarshal_hosts)"
complete -c debmarshal -n "__debmarshal_in doctor" -l json -d "Print as JSON"
