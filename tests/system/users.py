"""Users of this machine, made for a test run and removed after it."""

import os
import pwd
import shutil
import subprocess
import time


class User:
    """Somebody with a uid, a home of her own and a runtime directory, as a login would give her."""

    def __init__(self, nick, name, home, runtime_dir):
        entry = pwd.getpwnam(name)
        self.nick = nick
        self.name = name
        self.uid = entry.pw_uid
        self.gid = entry.pw_gid
        self.home = home
        self.runtime_dir = runtime_dir

    def __repr__(self):
        return f"{self.name}({self.uid})"

    def popen_identity(self):
        """Arguments of subprocess.Popen that make it run as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def environment(self):
        return {
            "HOME": self.home,
            "USER": self.name,
            "XDG_RUNTIME_DIR": self.runtime_dir,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }

    def file(self, name, data=b"", mode=0o600):
        """A file of this user's in her home; returns its path."""
        path = os.path.join(self.home, name)
        with open(path, "wb") as f:
            f.write(data)
        os.chown(path, self.uid, self.gid)
        os.chmod(path, mode)
        return path

    def disk(self, name="disk.img", size=1 << 20, mode=0o600):
        """An empty raw disk."""
        path = self.file(name, mode=mode)
        os.truncate(path, size)
        return path


def root(base):
    home = os.path.join(base, "home-root")
    os.makedirs(home, mode=0o700, exist_ok=True)
    return User("root", "root", home, home)


class Users:
    """Makes users, and takes them away again."""

    def __init__(self, base):
        self.base = base
        self.names = []

    def make(self, nick):
        name = f"dm{os.getpid()}{nick}"
        home = os.path.join(self.base, f"home-{nick}")
        _shadow("useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/bash", "--user-group", name)
        self.names.append(name)
        runtime_dir = os.path.join(self.base, f"run-{nick}")
        user = User(nick, name, home, runtime_dir)
        for directory in (home, runtime_dir):
            os.mkdir(directory, mode=0o700)
            os.chown(directory, user.uid, user.gid)
        return user

    def remove_all(self):
        while self.names:
            _shadow("userdel", "--force", self.names.pop())


def _shadow(*command):
    """The user database has one lock, and its tools do not wait for it."""
    program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin")
    for attempt in range(50):
        result = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        if "lock" not in result.stderr:
            break
        time.sleep(0.1)
    raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
