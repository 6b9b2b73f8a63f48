# SPDX-License-Identifier: MIT
"""nq: no daemon; each job holds a lock on its log file. fq follows the log."""
import os
import subprocess

from core import Candidate, Cmd, run_many


class Nq(Candidate):
    name = "nq"
    why = {3: "no stdin", 6: "one job at a time", 8: "no daemon"}

    def missing(self): return self.need("nq", "fq")
    def env(self): return dict(os.environ, NQDIR=self.path("q"))
    def start(self): os.mkdir(self.path("q"))

    # -c: take the job out of the queue directory when it ends well
    def cmd(self): return ["sh", "-c", "nq -c true >/dev/null && nq -w"]
    def spawn_wait(self, n): return run_many(self.box, n, self.cmd(), self.env())
    def oneshot(self): return [Cmd("nq true; nq -w", "exited", self.cmd(), self.env())]

    def stream(self, argv, clients):
        job = self.sh("nq", *argv).strip()
        fds = []
        for _ in range(clients):
            p = self.box.popen(["fq", job], stdout=subprocess.PIPE,
                               env=self.env())
            fds.append(os.dup(p.stdout.fileno()))
            p.stdout.close()
        return fds
