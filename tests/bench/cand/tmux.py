# SPDX-License-Identifier: MIT
"""tmux: one server, control-mode clients (tmux -C) over pipes."""
import os
import subprocess
import time

from core import Candidate, Cmd, drain, ping

RAW = "stty raw -echo; exec "


class Tmux(Candidate):
    name = "tmux -C"
    max_managed = 1000  # kernel.pty.max is 4096

    def missing(self): return self.need("tmux")

    def env(self):
        e = dict(os.environ, TERM="xterm", TMUX_TMPDIR=self.dir)
        e.pop("TMUX", None)
        return e

    def start(self):
        self.sock, self.open_fds, self.cwd = self.path("t"), [], None
        self.server = None

    def stop(self):
        for fd in self.open_fds:
            os.close(fd)

    def tmux(self, *args): return ["tmux", "-f", "/dev/null", "-S", self.sock, *args]

    def client(self, *args):
        """A control client; its (read, write) descriptors."""
        p = self.box.popen(self.tmux("-C", *args), stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, env=self.env())
        r, w = os.dup(p.stdout.fileno()), os.dup(p.stdin.fileno())
        p.stdin.close()
        p.stdout.close()
        self.open_fds.append(w)
        return r, w

    def up(self, *command):
        """A session whose first window runs command."""
        self.sh(*self.tmux("new-session", "-d", "-s", "s", "-x", "120", "-y", "24", *command))
        self.server = int(self.sh(*self.tmux("display-message", "-p", "#{pid}")))
        self.sh(*self.tmux("set-option", "-g", "exit-empty", "off"))

    def pids(self): return [self.server]

    def spawn_wait(self, n):
        self.up("sleep", "1000")
        r, w = self.client("attach", "-t", "s")
        drain(r)
        out = ping(self.box, n, b"new-window -d /bin/true x\n", b"window-close", r, w)
        os.close(r)
        return out

    def oneshot(self):
        self.up("sleep", "1000")
        self.sh(*self.tmux("set-hook", "-g", "pane-exited", "wait-for -S done"))
        return [Cmd("tmux new-window -d", "started",
                    self.tmux("new-window", "-d", "true", "x"), self.env()),
                Cmd("tmux new-window; wait-for", "exited",
                    self.tmux("new-window", "-d", "true", "x", ";", "wait-for", "done"),
                    self.env())]

    def echo(self, n):
        self.up("sh", "-c", RAW + "cat")
        r, w = self.client("attach", "-t", "s")
        time.sleep(0.3)
        drain(r)
        keys = " ".join("%x" % c for c in b"a" * 29 + b"zz\n")
        out = ping(self.box, n, f"send-keys -t %0 -H {keys}\n".encode(), rb"zz\012", r, w)
        os.close(r)
        return out

    def stream(self, argv, clients):
        self.up(*argv)
        # the default (2000 lines) kept: it is what a user gets
        fds = [self.client("attach", "-t", "s")[0] for _ in range(clients)]
        time.sleep(0.5 + 0.02 * clients)
        return fds

    def spawn_many(self, n):
        self.up(self.box.sleeper, "1000000")
        r, w = self.client("attach", "-t", "s")
        for _ in range(n - 1):
            os.write(w, f"new-window -d {self.box.sleeper} 1000000\n".encode())
            answer = b""
            while b"%end" not in answer and b"%error" not in answer:
                answer += os.read(r, 65536)
        self.open_fds.remove(w)
        os.close(w)  # ends the control client
        os.close(r)

    def list_cmd(self):
        return self.tmux("list-panes", "-a", "-F", "#{pane_pid} #{pane_dead} #{window_id}"), \
            self.env()

    def keep(self, argvs):
        self.up("sleep", "1000")
        self.sh(*self.tmux("set-option", "-g", "remain-on-exit", "on"))
        for i, a in enumerate(argvs):
            self.sh(*self.tmux("new-window", "-d", "-n", f"job{i}", *a))

    def restart(self): self.up("sleep", "1000")

    def running(self):
        s = self.sh(*self.tmux("list-panes", "-a", "-F", "#{pane_pid}"), check=False)
        return {int(x) for x in s.split()}

    def output(self, i):
        return self.sh(*self.tmux("capture-pane", "-p", "-t", f"s:job{i}"), check=False).encode()

    def status(self, i):
        s = self.sh(*self.tmux("display-message", "-p", "-t", f"s:job{i}",
                               "#{pane_dead_status}"), check=False).strip()
        return int(s) if s else None
