# SPDX-License-Identifier: MIT
"""Python's asyncio: in process, and as a small server of its own (asyncio_child.py)."""
import os
import socket
import subprocess
import time

from core import PYTHON, Candidate, Skip, payload, ping, wait_for

ME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "asyncio_child.py")


class Asyncio(Candidate):
    """create_subprocess_exec with three pipes, in the program that uses it."""
    name = "asyncio"
    why = {5: "no clients", 7: "no clients"}

    def child(self, *args, **kw):
        self.p = self.box.popen([PYTHON, ME, *map(str, args)], stdout=subprocess.PIPE,
                                text=True, **kw)
        return self.p

    def numbers(self, *args):
        out, _ = self.child(*args).communicate()
        if self.p.returncode:
            raise Skip("driver failed")
        return [int(x) for x in out.split()]

    def pids(self): return [self.p.pid]
    def spawn_wait(self, n): return self.numbers("spawn", n)
    def echo(self, n): return self.numbers("echo", n)

    def pump(self, argv, gate, lines):
        p = self.child("lines" if lines else "read", *argv)
        t = gate.open()
        end, got, cpu = map(int, p.stdout.readline().split())
        return t, end, payload(got, int(argv[-1])), cpu

    def spawn_many(self, n):
        self.child("many", n, self.box.sleeper)

    def keep(self, argvs):
        p = self.child("keep", *["\t".join(a) for a in argvs])
        p.stdout.readline()

    def restart(self): pass


class AsyncioServer(Candidate):
    """What one writes by hand: a 30-line asyncio server that copies to all clients."""
    name = "asyncio-srv"
    drain = "drain"

    def serve(self, argv):
        path = self.path("sock")
        self.p = self.box.popen([PYTHON, ME, "serve", self.drain, path, *argv])
        wait_for(lambda: os.path.exists(path), 10)
        return path

    def pids(self): return [self.p.pid]

    def connect(self, path):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        return s.detach()

    def echo(self, n):
        fd = self.connect(self.serve(["cat"]))
        try:
            return ping(self.box, n, b"a" * 31 + b"\n", b"\n", fd, fd)
        finally:
            os.close(fd)

    def stream(self, argv, clients):
        path = self.serve(argv)
        fds = [self.connect(path) for _ in range(clients)]
        time.sleep(0.3)
        return fds


class AsyncioNoDrain(AsyncioServer):
    """The same without awaiting drain() for each client."""
    name = "asyncio-srv-nodrain"
    drain = "nodrain"
    def echo(self, n): raise Skip("-")
