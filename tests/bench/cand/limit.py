# SPDX-License-Identifier: MIT
"""The physical limits: the same work in C, with no manager and with the least one."""
import os
import socket
import subprocess

from core import Candidate, Cmd, Skip, now, payload, wait_for


class Limit(Candidate):
    """No manager: posix_spawn, pipes."""
    name = "limit"
    spawn_args = ("spawn", "posix")
    echo_args = ("echo", "pipe")

    def numbers(self, *args):
        return [int(x) for x in self.sh(self.box.bt, *map(str, args)).split()]

    def spawn_wait(self, n):
        return self.numbers(*self.spawn_args, n)

    def echo(self, n):
        return self.numbers(*self.echo_args, n)

    def oneshot(self):
        return [Cmd("true", "its exit", ["true"]),
                Cmd("sh -c true", "its exit", ["sh", "-c", "true"])]

    def ask(self, n, cursor):
        if cursor:
            raise Skip("-")
        return self.echo(n)

    def questions(self):
        return [("true", ["true"], None)]

    def batch(self, path):
        return [("xargs -P 2", ["xargs", "-a", path, "-P", "2", "-n", "1", "true"], None)]

    def stream(self, argv, clients):
        if clients != 1:
            raise Skip("-")
        p = self.box.popen(argv, stdout=subprocess.PIPE)
        return [os.dup(p.stdout.fileno())]

    def spawn_many(self, n):
        self.box.popen([self.box.bt, "many", str(n), self.box.sleeper, "1000000"])


class LimitVfork(Limit):
    """vfork in place of posix_spawn."""
    name = "limit-vfork"
    spawn_args = ("spawn", "vfork")
    def echo(self, n): raise Skip("-")
    def oneshot(self): raise Skip("-")
    def questions(self): raise Skip("-")
    def batch(self, path): raise Skip("-")
    def stream(self, argv, clients): raise Skip("-")
    def spawn_many(self, n): raise Skip("-")


class LimitSocketpair(LimitVfork):
    name = "limit-sockpair"
    def spawn_wait(self, n): raise Skip("-")
    def echo(self, n): return self.numbers("echo", "socketpair", n)


class LimitPipe(LimitVfork):
    """The bare pipe again, made 1 MiB large."""
    name = "limit-pipe1M"
    def spawn_wait(self, n): raise Skip("-")

    def stream(self, argv, clients):
        if clients != 1:
            raise Skip("-")
        p = self.box.popen(argv, stdout=subprocess.PIPE, pipesize=1 << 20)
        return [os.dup(p.stdout.fileno())]


class LimitCat(LimitVfork):
    """child | cat >/dev/null"""
    name = "limit-cat"
    def spawn_wait(self, n): raise Skip("-")

    def pump(self, argv, gate, lines):
        a = self.box.popen(argv, stdout=subprocess.PIPE)
        with open("/dev/null", "wb") as null:
            b = self.box.popen(["cat"], stdin=a.stdout, stdout=null)
        a.stdout.close()
        t = gate.open()
        usage = os.wait4(b.pid, 0)[2]
        b.returncode = 0
        return (t, now(), payload(int(argv[-2]), int(argv[-1])),
                int((usage.ru_utime + usage.ru_stime) * 1e9))


class LimitRelay(LimitVfork):
    """The least daemon: one read/write loop between child pipes and Unix sockets."""
    name = "limit-relay"
    flags = ()
    waits = ()

    def spawn_wait(self, n): return self.numbers("srv-spawn", n)
    def echo(self, n): return self.numbers("srv-echo", n)
    def pids(self): return [self.p.pid]

    def stream(self, argv, clients):
        path = self.path("sock")
        looks = ("-w", str(self.waits[1])) if self.waits else ()
        self.p = self.box.popen([self.box.bt, "relay", *self.flags, *looks, path, str(clients), *argv])
        wait_for(lambda: os.path.exists(path), 5)
        out = []
        for _ in range(clients):
            s = socket.socket(socket.AF_UNIX)
            wait_for(lambda: s.connect_ex(path) == 0, 5)
            out.append(s.detach())
        return out


class LimitSplice(LimitRelay):
    """The same with splice(2): no copy through the daemon's memory."""
    name = "limit-splice"
    flags = ("-s",)
    waits = None
    def spawn_wait(self, n): raise Skip("-")
    def echo(self, n): raise Skip("-")

    def stream(self, argv, clients):
        if clients != 1:
            raise Skip("-")
        return super().stream(argv, clients)
