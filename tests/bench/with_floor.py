"""The floor: what the kernel, dnsmasq and the emulator cost that nobody can do without. The programs are floor-network.c
and floor-guest.c, which say what they do; here they serve, so that their rounds take turns with the others'."""

import os
import signal
import threading
import time

from measure import Asked, Failed, pss


class Floor:
    name = "floor"

    def __init__(self, build, guest):
        self.programs = f"{build}/tests/bench"
        kernel, initrd = guest
        self.network = Asked([f"{self.programs}/floor-network", "-s"])
        self.guest = Asked([f"{self.programs}/floor-guest", "-s", "-t", "-m", "128", "-k", kernel, "-i", initrd])

    @staticmethod
    def timed(server, what):
        return int(server.ask(what)[0]) / 1000

    def network_create(self):
        return self.timed(self.network, "create")

    def network_destroy(self):
        return self.timed(self.network, "destroy")

    def guest_create(self):
        return self.timed(self.guest, "create")

    def guest_destroy(self):
        return self.timed(self.guest, "destroy")

    def storm(self, count):
        """As many bare emulators, small and paused, started by as many at once as there are processors."""
        command = [f"{self.programs}/floor-guest", "-s", "-t", "-p", "-m", "16"]
        servers = [Asked(command) for _ in range(os.cpu_count())]
        shares = [count // len(servers) + (number < count % len(servers)) for number in range(len(servers))]
        pids = []

        def all_at_once(what):
            def work(server, share):
                for _ in range(share):
                    pids.append(int(server.ask(what)[1]))

            start = time.perf_counter()
            threads = [threading.Thread(target=work, args=pair) for pair in zip(servers, shares)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return (time.perf_counter() - start) * 1000

        create = all_at_once("create")
        if len(pids) != count:
            raise Failed(f"of {count} bare emulators {len(pids)} started")
        emulator = pss(pids) / count
        all_killed = time.perf_counter()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        destroy = (time.perf_counter() - all_killed) * 1000 + all_at_once("destroy")
        for server in servers:
            server.stop()
        return {"create_ms": create, "destroy_ms": destroy, "emulator_pss_kib": emulator}
