"""busctl, as a user: a client that nobody here wrote."""

import json
import subprocess


class Busctl:
    def __init__(self, user, address):
        self.user = user
        self.address = address

    def run(self, *arguments, timeout=60):
        """The finished process, with text output."""
        return subprocess.run(["busctl", f"--address={self.address}", "--no-pager", *arguments], capture_output=True,
                              text=True, timeout=timeout, check=False, env=self.user.environment(), cwd="/",
                              **self.user.popen_identity())

    def call(self, *arguments):
        """(signature, values) of the answer. Raises RuntimeError with what busctl prints."""
        result = self.run("--json=short", "call", "com.googlecode.debmarshal", *arguments)
        if result.returncode != 0:
            raise RuntimeError(result.stderr.strip())
        if not result.stdout.strip():
            return "", []
        answer = json.loads(result.stdout)
        return answer["type"], answer["data"]
