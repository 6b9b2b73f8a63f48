# SPDX-License-Identifier: MIT
"""task-spooler: one queue server; every client is a process of its own."""
import os
import subprocess

from core import Candidate, Cmd, named, run_many, wait_for


class Tsp(Candidate):
    name = "tsp"
    why = {3: "no stdin"}
    max_managed = 990  # its server select()s: the 995th client waits for ever

    def missing(self): return self.need("tsp")

    def env(self):
        return dict(os.environ, TS_SOCKET=self.path("sock"), TMPDIR=self.dir,
                    TS_MAXCONN="20000", TS_MAXFINISHED="100000", TS_SAVELIST=self.path("list"))

    def start(self):
        self.sh("tsp", "-S", "8")
        self.server = next(p for p in named("tsp") if self.box.dir in self.environ(p))

    def environ(self, pid):
        with open(f"/proc/{pid}/environ") as f:
            return f.read()

    def pids(self): return [self.server]
    def spawn_wait(self, n): return run_many(self.box, n, ["tsp", "-nf", "true"], self.env())

    def oneshot(self):
        return [Cmd("tsp -nf", "exited", ["tsp", "-nf", "true"], self.env())]

    def stream(self, argv, clients):
        job = self.sh("tsp", *argv).strip()
        wait_for(lambda: os.path.exists(self.sh("tsp", "-o", job, check=False).strip()), 5)
        fds = []
        for _ in range(clients):
            p = self.box.popen(["tsp", "-c", job], stdout=subprocess.PIPE, env=self.env())
            fds.append(os.dup(p.stdout.fileno()))
            p.stdout.close()
        return fds

    def spawn_many(self, n):
        self.sh("tsp", "-S", str(n))
        for i in range(n):
            subprocess.run(["tsp", "-n", self.box.sleeper, "1000000"], env=self.env(),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)

    def batch(self, path):
        self.sh("tsp", "-S", "2")
        script = ("while read -r line; do tsp -n $line; done <\"$1\" >/dev/null; "
                  "while tsp | grep -qE '^[0-9]+ +(queued|running)'; do tsp -w; done; tsp -C")
        return [("tsp -S 2", ["sh", "-c", script, "sh", path], self.env())]

    def list_cmd(self): return ["tsp"], self.env()

    def keep(self, argvs):
        self.sh("tsp", "-S", "20")
        self.jobs = [self.sh("tsp", *a).strip() for a in argvs]
        self.files = [self.sh("tsp", "-o", j).strip() for j in self.jobs]

    def restart(self):
        if os.path.exists(self.path("sock")):
            os.unlink(self.path("sock"))
        self.start()

    def running(self):
        out = set()
        for j in self.jobs:
            s = self.sh("tsp", "-s", j, check=False)
            if "running" in s:
                out.add(int(self.sh("tsp", "-p", j)))
        return out

    def output(self, i):
        with open(self.files[i], "rb") as f:
            return f.read()

    def status(self, i):
        for line in self.sh("tsp").splitlines():
            f = line.split()
            if f[:1] == [self.jobs[i]] and f[1] == "finished":
                return int(f[3])
