"""What was measured, against the targets of the design, as tables in Markdown and as JSON."""

import platform
import os

# Of the design, section 4.
TIMES_FLOOR = 1.5  # a network, at the most
TIMES_FASTER = 20  # than libvirt, a network, at the least
GUEST_CREATE_ABOVE = 10  # ms above the bare emulator
GUEST_DESTROY = 50  # ms
FLAT = 1.25  # a network with the most there already may take so many times longer than the floor does then
DAEMON_MIB = 10
NETWORK_MIB = 3


def ms(value):
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def mib(kib):
    return f"{kib / 1024:.1f}"


def ratio(a, b):
    return None if a is None or not b else a / b


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


class Report:
    def __init__(self):
        self.data = {"clients": {}, "levels": [], "targets": []}
        self.failures = {}
        self.sections = []

    def missing(self, what, why):
        self.failures[what] = str(why)

    def machine(self, load_before, load_after):
        with open("/proc/cpuinfo") as cpuinfo:
            model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
        self.data["machine"] = {
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "cpu": model,
            "load_before": load_before,
            "load_after": load_after,
        }

    def client(self, name, samples):
        self.data["clients"][name] = samples.summary()

    def daemon_empty(self, resident):
        self.data["daemon_empty_kib"] = resident

    def target(self, what, target, measured, met):
        self.data["targets"].append({"what": what, "target": target, "measured": measured, "met": met})

    def medians(self, samples, index):
        return {name: pair[index].median for name, pair in samples.items()}

    def keep(self, name, samples):
        self.data[name] = {who: {"create": c.summary(), "destroy": d.summary()} for who, (c, d) in samples.items()}

    def row(self, what, m):
        floor, ours, libvirt = m.get("floor"), m.get("debmarshal"), m.get("libvirt")
        times, faster = ratio(ours, floor), ratio(libvirt, ours)
        return [what, ms(floor), ms(ours), ms(libvirt), f"{times:.2f}" if times else "-", f"{faster:.0f}" if faster else "-"]

    def compared(self, title, samples):
        header = [title, "floor, ms", "debmarshal, ms", "libvirt, ms", "times the floor", "times faster than libvirt"]
        rows = []
        for i, what in enumerate(("create", "destroy")):
            m = self.medians(samples, i)
            rows.append(self.row(what, m))
            if what == "create" and "newcomer" in m:
                rows.append(self.row("create, the user's first", {**m, "debmarshal": m["newcomer"]}))
        self.sections.append(table(header, rows))

    def network(self, samples):
        self.keep("network", samples)
        self.compared("network", samples)
        for i, what in enumerate(("create", "destroy")):
            m = self.medians(samples, i)
            times, faster = ratio(m.get("debmarshal"), m.get("floor")), ratio(m.get("libvirt"), m.get("debmarshal"))
            if times:
                self.target(f"network {what}", f"at most {TIMES_FLOOR} times the floor", f"{times:.2f}", times <= TIMES_FLOOR)
            if faster:
                self.target(
                    f"network {what}", f"at least {TIMES_FASTER} times faster than libvirt", f"{faster:.1f}", faster >= TIMES_FASTER
                )

    def row_of_networks(self, count, samples):
        self.data["row_of_networks"] = {who: taken.summary() for who, taken in samples.items()}
        header = [f"{count} networks in a row", *(f"{who}, ms" for who in samples)]
        self.sections.append(table(header, [["create", *(ms(taken.median) for taken in samples.values())]]))

    def guest(self, samples):
        self.keep("guest", samples)
        self.compared("guest", samples)
        create, destroy = self.medians(samples, 0), self.medians(samples, 1)
        if create.get("debmarshal") and create.get("floor"):
            above = create["debmarshal"] - create["floor"]
            self.target(
                "guest create", f"at most {GUEST_CREATE_ABOVE} ms above the bare emulator", f"{above:.1f} ms", above <= GUEST_CREATE_ABOVE
            )
        if destroy.get("debmarshal"):
            took = destroy["debmarshal"]
            self.target("guest destroy", f"under {GUEST_DESTROY} ms", f"{took:.1f} ms", took < GUEST_DESTROY)

    def level(self, level, samples, resident, network, available):
        self.data["levels"].append(
            {
                "networks": level,
                "daemon_kib": resident,
                "network_pss_kib": network,
                "available_kib": available,
                **{who: {"create": c.summary(), "destroy": d.summary()} for who, (c, d) in samples.items()},
            }
        )

    def storm(self, count, create, destroy, bare, emulator, resident):
        self.data["storm"] = {
            "guests": count,
            "create_ms": create,
            "destroy_ms": destroy,
            "bare": bare,
            "emulator_pss_kib": emulator,
            "daemon_kib": resident,
        }

    def scale_section(self):
        levels = self.data["levels"]
        if not levels:
            return
        header = ["networks there already", "create, ms", "its floor", "libvirt", "destroy, ms", "its floor", "libvirt"]
        rows = []
        for level in levels:
            row = [level["networks"]]
            for what in ("create", "destroy"):
                row += [ms(level.get(who, {}).get(what, {}).get("median")) for who in ("debmarshal", "floor", "libvirt")]
            rows.append([*row, mib(level["daemon_kib"]), mib(level["network_pss_kib"])])
        self.sections.append(table([*header, "daemon resident, MiB", "one network, MiB (PSS)"], rows))
        first, last = levels[0], levels[-1]
        for what in ("create", "destroy"):
            grown = {who: self.grown(first, last, who, what) for who in ("debmarshal", "floor")}
            if grown["debmarshal"] and grown["floor"]:
                beyond = grown["debmarshal"] / grown["floor"]
                measured = f"{grown['debmarshal']:.2f} times, the floor {grown['floor']:.2f}"
                self.target(f"network {what} with {last['networks']} there", "as with one, or as the floor grows", measured, beyond <= FLAT)
        resident = last["daemon_kib"] / 1024
        self.target(f"daemon with {last['networks']} networks", f"under {DAEMON_MIB} MiB resident", f"{resident:.1f}", resident < DAEMON_MIB)
        network = last["network_pss_kib"] / 1024
        self.target("one network, its processes", f"under {NETWORK_MIB} MiB", f"{network:.1f}", network < NETWORK_MIB)
        if len(levels) > 1:
            taken = (levels[-2]["available_kib"] - last["available_kib"]) / (last["networks"] - levels[-2]["networks"]) / 1024
            self.target("one network, with what the kernel has for it", f"under {NETWORK_MIB} MiB", f"{taken:.1f}", taken < NETWORK_MIB)

    @staticmethod
    def grown(first, last, who, what):
        """How many times longer it takes with the most networks than with the fewest."""
        if who in first and who in last:
            return ratio(last[who][what]["median"], first[who][what]["median"])

    def storm_section(self):
        storm = self.data.get("storm")
        if not storm:
            return
        bare = storm["bare"] or {}
        count, empty, full = storm["guests"], *storm["daemon_kib"]
        rows = [
            ["all created and confirmed, ms", ms(bare.get("create_ms")), ms(storm["create_ms"])],
            ["all destroyed, ms", ms(bare.get("destroy_ms")), ms(storm["destroy_ms"])],
            ["one emulator, MiB (PSS)", mib(bare["emulator_pss_kib"]) if bare else "-", mib(storm["emulator_pss_kib"])],
            ["the daemon's part of one guest, KiB", "-", f"{(full - empty) / count:.1f}"],
        ]
        self.sections.append(table([f"{count} guests at once", "bare emulators", "debmarshal"], rows))
        resident = full / 1024
        self.target(f"daemon with {count} guests", f"under {DAEMON_MIB} MiB resident", f"{resident:.1f}", resident < DAEMON_MIB)

    def target_section(self):
        rows = [[t["what"], t["target"], t["measured"], "met" if t["met"] else "**missed**"] for t in self.data["targets"]]
        self.sections.append(table(["target", "", "measured", ""], rows))

    def footer(self):
        m = self.data["machine"]
        clients = ", ".join(f"{who} {c['median']:.3f} ms" for who, c in self.data["clients"].items())
        lines = [
            f"{m['cpus']} processors ({m['cpu']}), Linux {m['kernel']}; load {m['load_before']:.1f} before, {m['load_after']:.1f} after.",
            f"Of each number the client and the way there and back are: {clients}.",
        ]
        if "daemon_empty_kib" in self.data:
            lines.append(f"The daemon, empty: {mib(self.data['daemon_empty_kib'])} MiB resident.")
        lines += [f"Not measured: {what}: {why}" for what, why in self.failures.items()]
        return "\n".join(lines)

    def markdown(self):
        self.storm_section()
        self.scale_section()
        self.target_section()
        return "\n\n".join([*self.sections, self.footer()])

    def everything(self):
        return {**self.data, "not_measured": self.failures}
