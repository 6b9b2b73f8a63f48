# SPDX-License-Identifier: MIT
"""conmon: one monitor per process, with a seqpacket attach socket.

It needs an OCI runtime; a shell script of ten lines plays one.
"""
import os
import shlex
import socket
import subprocess
import time

from core import Candidate, Skip, descendants, ping, stat_fields, wait_for

RUNTIME = """#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in --bundle) b=$2; shift;; --pid-file) p=$2; shift;; esac
  shift
done
exec 3<&0
. "$b/cmd" <&3 3<&- &
echo $! >"$p"
"""


class Conmon(Candidate):
    name = "conmon"
    why = {1: "no persistent interface", 2: "needs a runtime"}
    log = "k8s-file:"

    def missing(self): return self.need("conmon")

    def start(self):
        with open(self.path("rt"), "w") as f:
            f.write(RUNTIME)
        os.chmod(self.path("rt"), 0o700)
        os.mkdir(self.path("exit"))

    def create(self, i, argv):
        b = self.path(f"b{i}")
        os.mkdir(b)
        with open(b + "/cmd", "w") as f:
            f.write("exec " + " ".join(map(shlex.quote, argv)))
        # conmon's own standard descriptors stay open in its daemon
        subprocess.run(["conmon", "--api-version", "1", "-c", f"c{i}", "-u", f"c{i}",
                        "-r", self.path("rt"), "-b", b, "-p", b + "/pid", "-l",
                        self.log + b + "/log", "--exit-dir", self.path("exit"), "--full-attach",
                        "-i", "--no-sync-log"], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def pids(self):
        return [p for p in descendants(zombies=False) if stat_fields(p)[0] == "conmon"]

    def daemon(self): return self.pids()

    def client(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wait_for(lambda: s.connect_ex(self.path("b0/attach")) == 0, 5)
        return s.detach()

    def echo(self, n):
        self.create(0, ["cat"])
        fd = self.client()
        time.sleep(0.2)
        try:
            return ping(self.box, n, b"a" * 29 + b"zz\n", b"zz\n", fd, fd)
        finally:
            os.close(fd)

    def stream(self, argv, clients):
        self.create(0, argv)
        fds = [self.client() for _ in range(clients)]
        time.sleep(0.3)
        return fds

    def spawn_many(self, n):
        for i in range(n):
            self.create(i, [self.box.sleeper, "1000000"])

    def keep(self, argvs):
        for i, a in enumerate(argvs):
            self.create(i, a)

    def restart(self): raise Skip("a daemon per process; nothing takes over")
