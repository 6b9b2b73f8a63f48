# SPDX-License-Identifier: MIT
"""pmux itself: pmux-bench and raw frames (docs/protocol.md) for what is fast, the CLI for whole commands."""
import base64
import json
import os
import signal
import socket
import struct
import threading
import time

from core import Candidate, Cmd, cpu_ns, now, wait_for

HELLO, CONTROL, DATA = 1, 2, 3
NO_LIMIT = 2**63 - 1
RECORD_DATA = 1
DEBUG = os.environ.get("PMUX_BENCH_LOG")


class Connection:
    """One connection, one request at a time; what it does not read stays in the socket."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.n = 0
        self.send(HELLO, struct.pack("<4sHHI", b"PMUX", 1, 1, 0))
        kind, _, hello = self.receive()
        assert kind == HELLO
        self.engine = struct.unpack_from("<I", hello, 12)[0]

    def send(self, kind, payload, stream=0):
        self.s.sendall(struct.pack("<IBBHI", len(payload), kind, 0, 0, stream) + payload)

    def exactly(self, n):
        out = b""
        while len(out) < n:
            got = self.s.recv(n - len(out))
            if not got:
                raise OSError("the daemon closed the connection")
            out += got
        return out

    def receive(self):
        size, kind, _, _, stream = struct.unpack("<IBBHI", self.exactly(12))
        return kind, stream, self.exactly(size)

    def call(self, method, **params):
        self.n += 1
        self.send(CONTROL, json.dumps({"jsonrpc": "2.0", "id": self.n, "method": method,
                                       "params": params}).encode())
        while True:
            kind, _, payload = self.receive()
            if kind == CONTROL:
                reply = json.loads(payload)
                if reply.get("id") == self.n:
                    break
        if "error" in reply:
            raise OSError(f"{method}: {reply['error']}")
        return reply["result"]


class Waits:
    """Requests that wait for what does not come. A read gathers some MiB at most, then the next goes on there."""

    READ_BYTES, EACH = 8 << 20, 200

    def __init__(self, path, ids, kind, n):
        self.kind, self.failed, self.connections = kind, None, []
        while n > 0:
            c = Connection(path)
            c.asked = {}
            for i in range(min(n, self.EACH)):
                self.ask(c, ids[(n - i) % len(ids)], 0)
            c.call("daemon-status")  # all of them have arrived
            n -= min(n, self.EACH)
            self.connections.append(c)
            threading.Thread(target=self.follow, args=(c,), daemon=True).start()

    def ask(self, c, target, offset):
        c.n += 1
        c.asked[c.n] = target, offset
        if self.kind == "pattern":
            method, params = "wait", {"targets": [target], "conditions": [
                {"for": "pattern", "pattern": "ready on port ([0-9]+)"}]}
        else:
            method, params = "read", {"target": target, "for": "separator", "separator": "\n>>> ", "from": offset,
                                      "cursor": None, "max_bytes": self.READ_BYTES}
        c.send(CONTROL, json.dumps({"jsonrpc": "2.0", "id": c.n, "method": method, "params": params}).encode())

    def follow(self, c):
        try:
            while True:
                reply = json.loads(c.receive()[2])
                target, offset = c.asked.pop(reply["id"])
                if reply.get("result", {}).get("reason") == "eof":
                    continue
                if "error" not in reply or reply["error"]["data"]["code"] != "too-large":
                    raise OSError(f"a wait ended: {reply}")
                self.ask(c, target, offset + self.READ_BYTES)
        except (OSError, ValueError, KeyError) as e:
            self.failed = self.failed or str(e)

    def end(self):
        for c in self.connections:
            c.s.shutdown(socket.SHUT_RDWR)


def as_json(argv):
    out = []
    for a in argv:
        try:
            out.append(a if isinstance(a, str) else a.decode())
        except UnicodeDecodeError:
            out.append({"base64": base64.b64encode(a).decode()})
    return out


class Pmux(Candidate):
    name = "pmux"
    framed = True
    waits = ()

    def missing(self):
        for tool in ("pmux", "pmuxd", "pmux-bench", "make-log"):
            if not os.path.exists(self.tool(tool)):
                return f"{self.tool(tool)}: not built"

    def tool(self, name): return os.path.join(self.box.build or "build", "bin", name)
    def sock(self): return self.path("s")

    def env(self):
        return dict(os.environ, PMUX_SOCKET=self.sock(), PMUX_STATE_DIR=self.path("state"))

    def start(self):
        self.fds = []
        self.waiting = None
        self.up()

    def up(self):
        log = open(DEBUG, "ab") if DEBUG else open(os.devnull, "wb")
        with log:
            self.p = self.box.popen([self.tool("pmuxd"), "--socket", self.sock(), "--state-dir",
                                     self.path("state")], env=self.env(), stdout=log, stderr=log)

        def answers():
            try:
                self.control = Connection(self.sock())
                return True
            except OSError:
                return False
        wait_for(answers, 10, 0.005, "the daemon")
        status = self.control.call("daemon-status")
        self.keeper, self.engine = status["keeper_pid"], status["engine_pid"]

    def stop(self):
        self.control = None
        if self.waiting:
            self.waiting.end()
        self.waiting = None

    def pids(self): return [self.keeper, self.engine]

    def numbers(self, *args):
        return [int(x) for x in self.sh(self.tool("pmux-bench"), self.sock(), *map(str, args)).split()]

    def spawn_wait(self, n): return self.numbers("spawn", n)
    def echo(self, n): return self.numbers("echo", n)

    def oneshot(self):
        pmux = self.tool("pmux")
        return [Cmd("pmux run", "its exit", [pmux, "run", "--", "true"], self.env()),
                Cmd("pmux run -d", "started", [pmux, "run", "-d", "--", "true"], self.env())]

    def ask(self, n, cursor): return self.numbers("ask-cursor" if cursor else "ask", n)

    def stream(self, argv, clients):
        keep = {}
        if self.waits:
            keep["retention_bytes"] = self.keeps  # what is looked at late is still there
            # The end of the run would answer each read with all that it gathered.
            argv = ["sh", "-c", '"$@"; sleep 1000', "sh", *argv]
        made = self.control.call("run", argv=argv, **keep)
        self.streamed = made["id"]
        if self.waits:
            self.wait_on([made["id"]], *self.waits)
        fds = []
        for i in range(clients):
            c = Connection(self.sock())
            # A reader that never reads is not lossless, or the child would wait for it, as asked.
            c.call("subscribe", target=made["id"], stream=1, credit=NO_LIMIT, lossless=i < clients - self.slow)
            fds.append(c.s.detach())
        return fds

    def forget_stream(self):
        self.control.call("remove", targets=[self.streamed], force=True)

    def wait_on(self, ids, kind, n):
        self.waiting = Waits(self.sock(), ids, kind, n)

    def settle(self):
        """Until the engine has looked at all that the stream brought."""
        if not self.waiting:
            return
        last, since = cpu_ns([self.engine]), now()
        end = since + 60 * 10**9
        while now() - since < 3 * 10**8 and now() < end:
            time.sleep(0.02)
            cpu = cpu_ns([self.engine])
            if cpu - last > 10**6:
                last, since = cpu, now()
        if self.waiting.failed:
            raise OSError(self.waiting.failed)

    def spawn_many(self, n):
        self.numbers("many", n, self.box.sleeper, "1000000")

    def list_cmd(self):
        return [self.tool("pmux"), "ps"], self.env()

    def batch(self, path):
        pmux = self.tool("pmux")
        return [("pmux batch -j 2", [pmux, "-q", "batch", "-j", "2", path], self.env()),
                ("pmux batch -j 2 --rm", [pmux, "-q", "batch", "--rm", "-j", "2", path], self.env())]

    def questions(self):
        ids = [self.control.call("run", argv=[self.box.sleeper, "1000000"])["id"] for _ in range(10)]
        return [("pmux status", [self.tool("pmux"), "status", str(ids[0])], self.env()),
                ("pmux ps", *self.list_cmd())]

    def make_log(self, size, records):
        made = self.control.call("run", argv=["/bin/true"], retention_bytes=2 * size)
        self.control.call("wait", targets=[made["id"]], **{"for": "empty"})
        self.target = str(made["id"])
        self.forget_log()
        times = self.sh(self.tool("make-log"), self.path("state", "processes", self.target), str(size), str(records))
        return [int(x) for x in times.split()]

    def forget_log(self):
        os.kill(self.engine, signal.SIGKILL)
        self.restart()

    def logs_cmd(self, args):
        return [self.tool("pmux"), "logs", *args, self.target], self.env()

    def idle_clients(self, n):
        self.idle = [Connection(self.sock()) for _ in range(n)]

    def keep(self, argvs):
        self.ids = [self.control.call("run", argv=as_json(a))["id"] for a in argvs]

    def daemon(self): return self.engine

    def restart(self):
        def answers():
            try:
                self.control = Connection(self.sock())
                return True
            except OSError:
                return False
        wait_for(answers, 10, 0.001, "the next engine")
        self.engine = self.control.engine

    def running(self):
        return {p["pid"] for p in self.control.call("list")["processes"] if p["state"] == "running"}

    def output(self, i):
        c = Connection(self.sock())
        c.call("subscribe", target=self.ids[i], stream=1, credit=NO_LIMIT, follow=False)
        out = b""
        while True:
            kind, _, payload = c.receive()
            if kind == DATA and payload[20] == RECORD_DATA:
                out += payload[24:]
            elif kind == DATA and payload[20] == 15:
                c.s.close()
                return out

    def status(self, i):
        r = self.control.call("show", target=self.ids[i])
        return r["exit"] and r["exit"]["code"]


class PmuxKeeper(Pmux):
    """The whole daemon gone: keeper and engine."""
    name = "pmux (keeper killed)"
    why = {n: "as pmux" for n in (*range(1, 8), *range(9, 17))}

    def daemon(self): return [self.keeper, self.engine]
    def restart(self): self.up()
