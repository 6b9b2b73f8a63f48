# SPDX-License-Identifier: MIT
"""pm2: a daemon on node, driven through its own API; its output comes as JSON over a bus of events.

It is no Debian package: `npm install --prefix DIR pm2@7`, and DIR in PEERS_PM2 (default: the user's cache, where
tests/support/setup puts it)."""
import json
import os
import socket
import subprocess
import time

from core import Candidate, Cmd, Skip, descendants, stat_fields, wait_for

PREFIX = os.environ.get("PEERS_PM2") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "pmux-bench-pm2")
PM2 = PREFIX + "/node_modules/.bin/pm2"
DRIVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pm2_child.js")


class Pm2(Candidate):
    name = "pm2"

    def missing(self):
        if not os.path.exists(PM2):
            return f"{PM2}: not installed (PEERS_PM2)"
        return self.need("node")

    def env(self):
        return dict(os.environ, PM2_HOME=self.path("h"), PM2_DISABLE_VERSION_CHECK="true",
                    NODE_PATH=PREFIX + "/node_modules", PM2_DISCRETE_MODE="true")

    def start(self):
        self.sh(PM2, "ping", timeout=60)
        self.daemon_pid()

    def daemon_pid(self):
        def find():
            for p in descendants(zombies=False):
                if stat_fields(p)[0].startswith("PM2"):
                    return p
        self.server = wait_for(find, 10, what="pm2's daemon")

    def pids(self): return [self.server]

    def node(self, *args, **kw):
        return self.box.popen(["node", DRIVER, *map(str, args)], env=self.env(),
                              stdout=subprocess.PIPE, text=True, **kw)

    def numbers(self, *args):
        out, _ = self.node(*args).communicate()
        v = [int(x) for x in out.split()]
        if not v:
            raise Skip("driver failed")
        return v

    def run(self, name, argv):
        self.sh(PM2, "start", argv[0], "--name", name, "--interpreter", "none",
                "--no-autorestart", *(["--", *argv[1:]] if argv[1:] else []))

    def spawn_wait(self, n): return self.numbers("spawn", n)

    def oneshot(self):
        return [Cmd("pm2 start", "started", [PM2, "start", "/bin/true", "-f", "--interpreter",
                                             "none", "--no-autorestart"], self.env())]

    def echo(self, n):
        self.run("job", ["/bin/cat"])
        return self.numbers("echo", n)

    def stream(self, argv, clients):
        """Raw connections to the event bus; the payload is inside its JSON."""
        self.run("job", argv)
        fds = []
        for _ in range(clients):
            s = socket.socket(socket.AF_UNIX)
            s.connect(self.path("h", "pub.sock"))
            fds.append(s.detach())
        time.sleep(0.5)
        return fds

    def spawn_many(self, n):
        apps = [{"name": f"job{i}", "script": self.box.sleeper, "args": "1000000",
                 "interpreter": "none", "autorestart": False} for i in range(n)]
        with open(self.path("eco.json"), "w") as f:
            json.dump({"apps": apps}, f)
        self.p = self.box.popen([PM2, "start", self.path("eco.json")], env=self.env(),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def list_cmd(self): return [PM2, "jlist"], self.env()

    def keep(self, argvs):
        for i, a in enumerate(argvs):
            self.run(f"job{i}", a)
        self.sh(PM2, "save")

    def restart(self):
        self.sh(PM2, "resurrect", timeout=60)  # as `pm2 startup` does at boot
        self.daemon_pid()

    def list(self):
        s = self.sh(PM2, "jlist")
        return json.loads(s[s.index("["):])

    def running(self):
        return {a["pid"] for a in self.list() if a["pm2_env"]["status"] == "online"}

    def output(self, i):
        with open(self.path("h", "logs", f"job{i}-out.log"), "rb") as f:
            return f.read()

    def status(self, i):
        for a in self.list():
            if a["name"] == f"job{i}" and a["pm2_env"]["status"] == "stopped":
                return a["pm2_env"].get("exit_code")
