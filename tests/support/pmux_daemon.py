# SPDX-License-Identifier: MIT
"""A private pmuxd for one test: its own socket and state directory, watched from start to end."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time

from pmux_client import Client, ConnectionLost, Deadline


def wait_until(predicate, timeout=30.0, what="a condition", interval=0.005):
    """Wait until predicate() is true; its value is returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Deadline("waited %.1f s for %s" % (timeout, what))
        time.sleep(interval)


def fd_count(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def fd_names(pid):
    names = []
    for number in os.listdir("/proc/%d/fd" % pid):
        try:
            names.append(os.readlink("/proc/%d/fd/%s" % (pid, number)))
        except OSError:
            pass
    return sorted(names)


def rss_bytes(pid):
    """Anonymous memory: pages of files that are mapped or shared do not count as the daemon's."""
    with open("/proc/%d/status" % pid) as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise ValueError("no RssAnon for %d" % pid)


def pss_bytes(pid):
    """All the memory that is its own, and its part of what it shares."""
    with open("/proc/%d/smaps_rollup" % pid) as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise ValueError("no Pss for %d" % pid)


def work_done(pid):
    """What a process that rests does not add to: nanoseconds on a processor, ticks, and how often it gave one up."""
    with open("/proc/%d/schedstat" % pid) as schedstat:
        on_cpu = int(schedstat.read().split()[0])
    with open("/proc/%d/stat" % pid) as stat:
        ticks = stat.read().rpartition(")")[2].split()[11:13]
    with open("/proc/%d/status" % pid) as status:
        switches = [int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches:")]
    return on_cpu, int(ticks[0]) + int(ticks[1]), switches[0]


def process_state(pid):
    """The letter of /proc/PID/stat, or None when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return None


def alive(pid):
    return process_state(pid) not in (None, "Z", "X")


def descendants(pid):
    """Pids of all living descendants, found through /proc/PID/task/*/children."""
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        try:
            tasks = os.listdir("/proc/%d/task" % parent)
        except OSError:
            continue
        for task in tasks:
            try:
                with open("/proc/%d/task/%s/children" % (parent, task)) as children:
                    kids = [int(c) for c in children.read().split()]
            except OSError:
                continue
            found += kids
            queue += kids
    return found


class Daemon:
    """pmuxd in the foreground as a child of the test."""

    def __init__(self, build, start=True, root=None, state_dir=None, socket=None, prefix=(), env=None,
                 preexec=None, args=()):
        self.bin = os.path.join(build, "bin")
        self.pmuxd = os.path.join(self.bin, "pmuxd")
        self.pmux = os.path.join(self.bin, "pmux")
        self.owns_root = root is None
        self.root = root or tempfile.mkdtemp(prefix="pmux-test-")
        self.state_dir = state_dir or os.path.join(self.root, "state")
        self.socket = socket or os.path.join(self.root, "socket")
        self.stderr_path = os.path.join(self.root, "stderr")
        self.prefix = list(prefix)
        self.args = list(args)
        self.env = env
        self.preexec = preexec
        self.process = None
        self.clients = []
        self.n_engine_kills = 0
        if start:
            self.start()

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PMUX", "XDG_", "NOTIFY", "LISTEN",
                "WATCHDOG"))}
        if self.env:
            env.update(self.env)
        return env

    def start(self, timeout=20.0):
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                self.prefix + [self.pmuxd, "--socket", self.socket, "--state-dir",
                               self.state_dir] + self.args,
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=self.environment(),
                preexec_fn=self.preexec, cwd="/")
        try:
            self.wait_serving(timeout)
        except Deadline:
            raise AssertionError("pmuxd does not serve within %g s; it said:\n%s" % (
                timeout, self.stderr_text())) from None
        return self

    def wait_serving(self, timeout=20.0):
        def answers():
            if self.process.poll() is not None:
                raise AssertionError("pmuxd ended with %d; it said:\n%s" % (self.process.returncode,
                                                                            self.stderr_text()))
            try:
                with Client(self.socket, timeout=5.0) as client:
                    return client.engine_pid
            except (OSError, ConnectionLost):
                return None
        return wait_until(answers, timeout, "pmuxd to serve", 0.01)

    def client(self, **kwargs):
        client = Client(self.socket, **kwargs)
        self.clients.append(client)
        return client

    def status(self):
        with Client(self.socket) as client:
            return client.status()

    def engine_pid(self):
        return self.status()["engine_pid"]

    def keeper_pid(self):
        return self.status()["keeper_pid"]

    def kill_engine(self, timeout=20.0, wait=True):
        """SIGKILL the engine, and wait until another one answers; returns the new one's pid."""
        def answered():
            try:
                with Client(self.socket, timeout=5.0) as client:
                    return client.engine_pid
            except (OSError, ConnectionLost):
                return None
        old = wait_until(answered, timeout, "an engine to kill", 0.001)
        os.kill(old, signal.SIGKILL)
        self.n_engine_kills += 1
        if not wait:
            return None
        return wait_until(lambda: (lambda pid: pid if pid != old else None)(answered()), timeout,
                          "a new engine", 0.001)

    def stderr_text(self, limit=20000):
        try:
            with open(self.stderr_path, "rb") as stderr:
                text = stderr.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return text if len(text) <= limit else "[…]" + text[-limit:]

    def cli_env(self, env=None):
        result = self.environment()
        result["PMUX_SOCKET"] = self.socket
        result["PMUX_STATE_DIR"] = self.state_dir
        result.update(env or {})
        return result

    def cli(self, *args, input=None, timeout=60.0, env=None, check=None, **kwargs):
        """Run the CLI to its end; check: the exit status it must have."""
        if input is None and "stdin" not in kwargs:
            kwargs["stdin"] = subprocess.DEVNULL
        done = subprocess.run([self.pmux] + list(args), input=input, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE,
                              timeout=timeout, env=self.cli_env(env), **kwargs)
        if check is not None and done.returncode != check:
            raise AssertionError("pmux %r ended with %d, not %d\nstdout: %r\nstderr: %s" % (
                list(args), done.returncode, check, done.stdout[-2000:], done.stderr.decode("utf-8",
                        "replace")[-4000:]))
        return done

    def cli_start(self, *args, env=None, **kwargs):
        """Start the CLI and return its Popen."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([self.pmux] + list(args), env=self.cli_env(env), **kwargs)

    def state_text(self):
        """What the daemon knows, for the report of a failure."""
        try:
            with Client(self.socket, timeout=3.0) as client:
                lines = ["daemon: %r" % client.status(timeout=3.0)]
                lines += ["process: %r" % p for p in client.list(timeout=3.0)[:20]]
                return "\n".join(lines)
        except Exception as error:  # a report must not fail
            return "the daemon does not answer: %s" % error

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout=20.0):
        """SIGTERM; the daemon must stop its processes and end with status 0."""
        for client in self.clients:
            client.close()
        self.clients = []
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("pmuxd did not end within %g s of SIGTERM" % timeout) from None

    def kill(self):
        """SIGKILL everything of the daemon at once: keeper and engine."""
        pids = [self.process.pid] + descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        return pids

    def remove(self):
        for client in self.clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.owns_root:
            shutil.rmtree(self.root, ignore_errors=True)


def raise_fd_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
