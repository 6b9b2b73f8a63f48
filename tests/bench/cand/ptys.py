# SPDX-License-Identifier: MIT
"""dtach and screen: a small daemon per process, clients on terminals."""
import os
import socket
import struct
import subprocess
import time

from core import Candidate, Cmd, Skip, attach_pty, descendants, drain, ping, stat_fields

RAW = "stty raw -echo; exec "


class PtyCandidate(Candidate):
    """Detached sessions that one attaches to from a terminal."""
    max_managed = 1000
    tool = None

    def create(self, i, argv): """argv of: make session i, detached."""
    def attach(self, i): """argv of: attach to session i."""

    def start(self):
        self.fds = []
        self.before = set(descendants())

    def stop(self):
        for fd in self.fds:
            os.close(fd)

    def env(self): return dict(os.environ, TERM="xterm")

    def daemons(self):
        return [p for p in descendants(zombies=False)
                if stat_fields(p)[0] == self.tool and p not in self.clients()]

    def clients(self): return self.box.owned
    def pids(self): return self.daemons()
    def daemon(self): return self.daemons()

    def client(self):
        m = attach_pty(self.box, self.attach(0), self.env(), settle=0.05)
        return m

    def echo(self, n):
        self.sh(*self.create(0, ["sh", "-c", RAW + "cat"]))
        time.sleep(0.3)
        fd = self.client()
        time.sleep(0.3)
        drain(fd)
        try:
            return ping(self.box, n, b"a" * 29 + b"zz\n", b"zz", fd, fd)
        finally:
            os.close(fd)

    def stream(self, argv, clients):
        self.sh(*self.create(0, ["sh", "-c", RAW + " ".join(argv)]))
        time.sleep(0.2)
        fds = [self.client() for _ in range(clients)]
        time.sleep(0.5)
        return fds

    def spawn_many(self, n):
        for i in range(n):
            subprocess.run(self.create(i, [self.box.sleeper, "1000000"]), env=self.env(),
                           check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def keep(self, argvs):
        for i, a in enumerate(argvs):
            self.sh(*self.create(i, a))
        time.sleep(0.3)

    def restart(self): raise Skip("a daemon per process; nothing takes over")


class Dtach(PtyCandidate):
    name = "dtach -a"
    tool = "dtach"
    why = {1: "no persistent interface"}

    def missing(self): return self.need("dtach")
    def sock(self, i): return self.path(f"s{i}")
    def create(self, i, argv): return ["dtach", "-n", self.sock(i), *argv]
    def attach(self, i): return ["dtach", "-a", self.sock(i), "-E", "-z", "-r", "none"]

    def oneshot(self):
        return [Cmd(f"dtach {f}", until, ["dtach", f, self.path("n"), "true"], self.env(),
                    pause)
                for f, until, pause in (("-N", "exited", None), ("-n", "started", "sleep 0.03"))]

    def list_cmd(self): return ["ls", self.dir], None


class DtachSocket(Dtach):
    """dtach's daemon without its client: its socket protocol spoken directly."""
    name = "dtach-sock"
    why = {1: "as dtach", 2: "as dtach", 6: "as dtach", 8: "as dtach"}
    PUSH, ATTACH = 0, 1  # packets: type, length, 8 bytes

    def client(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.sock(0))
        s.sendall(struct.pack("BB8x", self.ATTACH, 0))
        return s.detach()

    def echo(self, n):
        self.sh(*self.create(0, ["sh", "-c", RAW + "cat"]))
        time.sleep(0.3)
        fd = self.client()
        drain(fd)
        text = b"a" * 29 + b"zz\n"
        req = b"".join(struct.pack("BB8s", self.PUSH, 8, text[i:i + 8]) for i in range(0, 32, 8))
        try:
            return ping(self.box, n, req, b"zz\n", fd, fd)
        finally:
            os.close(fd)


class Screen(PtyCandidate):
    """A terminal emulator: what it sends is a picture, not the bytes."""
    name = "screen -x"
    tool = "screen"
    why = {1: "no persistent interface", 5: "sends a picture, not the bytes",
           7: "sends a picture, not the bytes"}

    def missing(self): return self.need("screen")
    def env(self): return dict(os.environ, TERM="xterm", SCREENDIR=self.dir)
    def create(self, i, argv): return ["screen", "-c", "/dev/null", "-dmS", f"s{i}", *argv]
    def attach(self, i): return ["screen", "-c", "/dev/null", "-x", f"s{i}"]
    def list_cmd(self): return ["screen", "-ls"], self.env()

    def oneshot(self):
        return [Cmd("screen -dm", "started",
                    ["screen", "-c", "/dev/null", "-dmS", "one", "true"], self.env())]
