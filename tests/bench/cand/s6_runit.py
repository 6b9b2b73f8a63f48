# SPDX-License-Identifier: MIT
"""s6 and runit: a supervisor process per service under one scanner; loggers in a pipe."""
import os
import subprocess
import time

from core import Candidate, Cmd, named, now, wait_for


class Tree(Candidate):
    """Service directories under one scan directory."""
    why = {3: "no stdin", 5: "no clients", 7: "no clients"}
    scanner = None   # argv prefix; the scan directory is added
    helper = None    # comm of the per-service process

    def start(self):
        self.scan = self.path("scan")
        os.mkdir(self.scan)
        self.p = None

    def service(self, i, argv, down, log=False):
        d = os.path.join(self.scan, f"s{i}")
        os.makedirs(d)
        self.script(os.path.join(d, "run"), "exec " + " ".join(argv))
        if down:
            open(os.path.join(d, "down"), "w").close()
        if log:
            os.mkdir(d + "/log")
            self.script(d + "/log/run", self.logger.format(dir=d + "/log/main"))
            os.mkdir(d + "/log/main")

    def script(self, path, text):
        with open(path, "w") as f:
            f.write("#!/bin/sh\n" + text + "\n")
        os.chmod(path, 0o755)

    def up(self, n):
        self.p = self.box.popen([*self.scanner, self.scan], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, cwd=self.dir)
        wait_for(lambda: all(os.path.exists(f"{self.scan}/s{i}/supervise/control")
                             for i in range(n)), 30, what="services")

    def pids(self): return [self.p.pid] + named(self.helper)

    def spawn_many(self, n):
        for i in range(n):
            self.service(i, [self.box.sleeper, "1000000"], down=False)
        self.t0 = now()  # making the directories is not what is measured
        self.p = self.box.popen([*self.scanner, self.scan], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, cwd=self.dir)

    def keep(self, argvs):
        for i, a in enumerate(argvs):
            self.service(i, a, down=False, log=True)
        self.n = len(argvs)
        self.up(self.n)

    def restart(self):
        self.p = self.box.popen([*self.scanner, self.scan], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, cwd=self.dir)

    def daemon(self): return self.p.pid

    def output(self, i):
        out = b""
        d = f"{self.scan}/s{i}/log/main"
        for f in os.listdir(d):
            if os.path.isfile(f"{d}/{f}"):
                with open(f"{d}/{f}", "rb") as g:
                    out += g.read()
        return out

    def pump(self, argv, gate, lines):
        """child | logger; what counts is what reached the log's files."""
        d = self.path("log")
        os.mkdir(d)
        self.log_setup(d)
        a = self.box.popen(argv, stdout=subprocess.PIPE)
        b = self.box.popen([*self.pump_logger, d], stdin=a.stdout, stderr=subprocess.DEVNULL)
        a.stdout.close()
        t = gate.open()
        usage = os.wait4(b.pid, 0)[2]
        end = now()
        b.returncode = got = 0
        for f in os.listdir(d):
            with open(f"{d}/{f}", "rb") as g:
                while block := g.read(1 << 20):
                    got += len(block) - len(block.translate(None, b"Q"))
        return t, end, got, int((usage.ru_utime + usage.ru_stime) * 1e9)

    def log_setup(self, d):
        pass


class S6(Tree):
    name = "s6"
    scanner = ["s6-svscan", "-c", "6000"]
    helper = "s6-supervise"
    logger = "exec s6-log n5 s1000000 {dir}"
    pump_logger = ["s6-log", "n200", "s16777215"]
    slots = 40

    def missing(self): return self.need("s6-svscan", "s6-svc", "s6-log", "s6-svstat")

    def down_services(self):
        for i in range(self.slots):
            d = f"{self.scan}/s{i}"
            os.makedirs(d)
            os.symlink("/bin/true", d + "/run")
            open(d + "/down", "w").close()
        self.up(self.slots)

    def spawn_wait(self, n):
        # s6-supervise lets a second pass between two starts of a service: use each in turn
        self.down_services()
        last, out = [0.0] * self.slots, []
        for k in range(n):
            i = k % self.slots
            time.sleep(max(0, last[i] + 1.05 - time.monotonic()))
            t = now()
            pid = os.posix_spawnp("s6-svc", ["s6-svc", "-wD", "-o", f"{self.scan}/s{i}"],
                                  os.environ)
            os.waitpid(pid, 0)
            out.append(now() - t)
            last[i] = time.monotonic()
        return out

    def oneshot(self):
        self.down_services()
        return [Cmd("s6-svc -wD -o", "exited", ["s6-svc", "-wD", "-o", f"{self.scan}/s0"],
                    prepare="sleep 1.05")]

    def list_cmd(self):
        return ["sh", "-c", f'for d in {self.scan}/s*; do s6-svstat "$d"; done'], None

    def running(self):
        out = set()
        for i in range(self.n):
            s = self.sh("s6-svstat", "-o", "up,pid", f"{self.scan}/s{i}", check=False).split()
            if s[:1] == ["true"]:
                out.add(int(s[1]))
        return out

    def status(self, i):
        time.sleep(0.2)
        for _ in range(2):
            s = self.sh("s6-svdt", f"{self.scan}/s{i}", check=False)
            if "exitcode" in s:
                return int(s.split("exitcode")[-1].split()[0])


class S6Supervise(S6):
    name = "s6 (s6-supervise killed)"
    why = {n: "as s6" for n in range(1, 8)}
    def daemon(self): return named(self.helper)


class Runit(Tree):
    name = "runit"
    scanner = ["runsvdir"]
    helper = "runsv"
    max_managed = 990  # runsvdir's own limit is 1000
    logger = "exec svlogd {dir}"
    pump_logger = ["svlogd"]
    why = {**Tree.why, 1: "sv polls at 420 ms"}

    def missing(self): return self.need("runsvdir", "sv", "svlogd")

    def oneshot(self):
        d = f"{self.scan}/s0"
        os.makedirs(d)
        os.symlink("/bin/true", d + "/run")
        open(d + "/down", "w").close()
        self.up(1)
        return [Cmd("sv once", "told to start", ["sv", "once", d], prepare="sleep 1.05")]

    def log_setup(self, d):
        with open(d + "/config", "w") as f:
            f.write("s16777215\nn200\n")

    def list_cmd(self):
        return ["sh", "-c", f"sv status {self.scan}/s*"], None

    def running(self):
        out = set()
        for i in range(self.n):
            s = self.sh("sv", "status", f"{self.scan}/s{i}", check=False)
            if s.startswith("run:"):
                out.add(int(s.split("pid ")[1].split(")")[0]))
        return out


class RunitRunsv(Runit):
    name = "runit (runsv killed)"
    why = {n: "as runit" for n in range(1, 8)}
    def daemon(self): return named(self.helper)
