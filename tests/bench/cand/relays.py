# SPDX-License-Identifier: MIT
"""socat and script: plain relays, no registry. What they cost is a yardstick."""
import os
import shlex
import socket
import subprocess
import time

from core import Candidate, descendants, now, ping, stat_fields, wait_for


class Socat(Candidate):
    """A listener that forks one process per connection."""
    name = "socat"
    why = {5: "a child per client", 7: "a child per client", 6: "no registry", 8: "no registry"}

    def missing(self): return self.need("socat")

    def listen(self, command, *flags):
        path = self.path("s")
        self.p = self.box.popen(["socat", "-b65536", *flags, f"UNIX-LISTEN:{path},fork",
                                 f"EXEC:{command}"])
        wait_for(lambda: os.path.exists(path), 5)
        time.sleep(0.05)

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.path("s"))
        return s

    def pids(self):
        return [p for p in descendants(zombies=False) if stat_fields(p)[0] == "socat"]

    def spawn_wait(self, n):
        self.listen("/bin/true")
        out = []
        for _ in range(n):
            t = now()
            s = self.connect()
            s.recv(1)
            out.append(now() - t)
            s.close()
        return out

    def echo(self, n):
        self.listen("cat")
        s = self.connect()
        try:
            return ping(self.box, n, b"a" * 31 + b"\n", b"\n", s.fileno(), s.fileno())
        finally:
            s.close()

    def stream(self, argv, clients):
        self.listen(" ".join(argv), "-U")
        fds = [self.connect().detach()]
        time.sleep(0.2)
        return fds


class Script(Candidate):
    """script(1): a child on a terminal, its output copied to stdout."""
    name = "script"
    why = {n: "one child, no daemon" for n in (1, 2, 3, 5, 6, 7, 8)}

    def missing(self): return self.need("script")
    def pids(self): return [self.p.pid]

    def stream(self, argv, clients):
        self.p = self.box.popen(["script", "-qefc", " ".join(map(shlex.quote, argv)),
                                 "/dev/null"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        fd = os.dup(self.p.stdout.fileno())
        self.p.stdout.close()
        time.sleep(0.2)
        return [fd]
