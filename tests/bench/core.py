# SPDX-License-Identifier: MIT
"""What all candidates and workloads share: processes, measuring, cleaning up."""
import ctypes
import errno
import fcntl
import itertools
import json
import os
import pty
import shlex
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "python3"
LINE = 100
MIB = 1 << 20
now = time.monotonic_ns


class Skip(Exception):
    """A candidate cannot do this; the text says why."""


class Late(Exception):
    """A step ran past its time limit."""


class deadline:
    """with deadline(5): ... raises Late in the main thread after 5 s."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        def late(*_):
            raise Late(f"no result within {self.seconds} s")

        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)


# ---- the private directory and the processes of this run ----

class Box:
    """One run's temp directory, its helper binary and everything it started.

    The run is a subreaper, so whatever a peer daemonizes stays its descendant
    and is found, and killed, by pid; nothing else on the machine ever is.
    """

    def __init__(self, build=None):
        self.build = build and os.path.abspath(build)
        self.dir = tempfile.mkdtemp(prefix="peers-")
        self.owned = set()
        self.count = 0
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        self.bt = os.path.join(self.dir, "bt")
        subprocess.run(["gcc", "-O3", "-march=native", "-D_GNU_SOURCE", "-Wall", "-o", self.bt,
                        os.path.join(HERE, "bt.c")], check=True)
        # a sleep that can be counted: by its name, and by the file it adds a byte to
        self.sleeper = os.path.join(self.dir, f"zz{os.getpid()}")
        shutil.copy(self.bt, self.sleeper)

    def fresh(self):
        self.count += 1
        d = os.path.join(self.dir, str(self.count))
        os.mkdir(d, 0o700)
        open(os.path.join(self.dir, "started"), "w").close()
        return d

    def sleepers(self):
        return os.path.getsize(os.path.join(self.dir, "started"))

    def popen(self, argv, **kw):
        p = subprocess.Popen(argv, **kw)
        self.owned.add(p.pid)
        return p

    def clean(self, d=None):
        """Kill every process this run started, then give the room of d back.

        Its files are cut, not deleted: a file system without a journal (ext4) passes over what was deleted in the
        last minute whenever it makes a file, so that each sample would pay for the ones before it.
        """
        for _ in range(200):
            pids = descendants()
            if not pids:
                break
            for p in pids:
                try:
                    os.kill(p, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.01)
            while True:
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    break
        self.owned.clear()
        for where, _, names in os.walk(d) if d else ():
            for name in names:
                path = os.path.join(where, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    os.truncate(path, 0)

    def close(self):
        self.clean()
        shutil.rmtree(self.dir, ignore_errors=True)


def stat_fields(pid):
    """comm, state, ppid of a pid; None when gone."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            s = f.read()
    except OSError:
        return None
    l, r = s.index("("), s.rindex(")")
    rest = s[r + 2:].split()
    return s[l + 1:r], rest[0], int(rest[1])


def alive(pid):
    f = stat_fields(pid)
    return bool(f) and f[1] not in "ZX"


def descendants(root=None, zombies=True):
    root = root or os.getpid()
    kids = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            f = stat_fields(name)
            if f and (zombies or f[1] not in "ZX"):
                kids.setdefault(f[2], []).append(int(name))
    out, todo = [], [root]
    while todo:
        for k in kids.get(todo.pop(), ()):
            out.append(k)
            todo.append(k)
    return out


def named(comm):
    """Live pids below us whose command name is comm."""
    out = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            f = stat_fields(name)
            if f and f[0] == comm and f[1] not in "ZX":
                out.append(int(name))
    return out


def wait_for(cond, seconds, step=0.01, what="condition"):
    end = time.monotonic() + seconds
    while True:
        v = cond()
        if v:
            return v
        if time.monotonic() > end:
            raise Late(f"{what}: not within {seconds} s")
        time.sleep(step)


# ---- what processes cost ----

def cpu_ns(pids):
    """CPU time of the pids' live threads."""
    total = 0
    for pid in pids:
        try:
            for t in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{t}/schedstat") as f:
                    total += int(f.read().split()[0])
        except OSError:
            pass
    return total


def memory(pids):
    """(rss, pss) in bytes, summed."""
    rss = pss = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                for line in f:
                    if line.startswith("Rss:"):
                        rss += int(line.split()[1]) * 1024
                    elif line.startswith("Pss:"):
                        pss += int(line.split()[1]) * 1024
        except OSError:
            pass
    return rss, pss


def rss_now(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as f:
                total += int(f.read().split()[1]) * 4096
        except OSError:
            pass
    return total


# ---- numbers ----

def pct(values, q):
    v = sorted(values)
    return v[min(len(v) - 1, int(len(v) * q))] if v else float("nan")


def spread(values):
    """median, min, max."""
    return {"med": statistics.median(values), "min": min(values), "max": max(values)}


def payload(total, chunk):
    """How many 'Q' bytes `bt gen total chunk` writes."""
    full, rest = divmod(total, chunk)
    return full * (chunk - chunk // LINE) + rest - rest // LINE


# ---- clients ----

def ping(box, n, req, needle, rfd, wfd):
    """n round trips by a C client over open descriptors, in ns."""
    r = subprocess.run([box.bt, "ping", str(n), req.hex(), needle.hex(), str(rfd), str(wfd)],
                       pass_fds={rfd, wfd}, capture_output=True, text=True)
    if r.returncode:
        raise Skip(r.stderr.strip()[:120])
    return [int(x) for x in r.stdout.split()]


def run_many(box, n, argv, env=None):
    """n times spawn and wait for a command, by a C parent, in ns."""
    r, w = os.pipe()
    p = subprocess.Popen(["sh", "-c", 'exec 3>&"$0"; exec "$@" >/dev/null 2>&1 </dev/null',
                          str(w), box.bt, "run", str(n), *argv], pass_fds={w}, env=env)
    os.close(w)
    with os.fdopen(r) as f:
        out = [int(x) for x in f.read().split()]
    if p.wait() or len(out) != n:
        raise Skip("command failed")
    return out


def attach_pty(box, argv, env=None, settle=0.3):
    """Run an attach command on a new terminal; its master side."""
    m, s = pty.openpty()
    fcntl.ioctl(s, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    a = termios.tcgetattr(s)
    a[1] &= ~termios.OPOST
    a[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    termios.tcsetattr(s, termios.TCSANOW, a)

    def own_tty():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    box.popen(argv, stdin=s, stdout=s, stderr=s, env=env, preexec_fn=own_tty)
    os.close(s)
    time.sleep(settle)
    return m


def drain(fd, quiet=0.15):
    """Throw away what an attach printed so far."""
    os.set_blocking(fd, False)
    last = time.monotonic()
    while time.monotonic() - last < quiet:
        try:
            if os.read(fd, 65536):
                last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            break
    os.set_blocking(fd, True)


def hyperfine(result, argv, env, runs, prepare=None):
    """A whole command, so many times: its times in s, and whether any of them failed."""
    subprocess.run(["hyperfine", "-N", "-i", "--warmup", "2", "--runs", str(runs), "--export-json", result,
                    *(["--prepare", prepare] if prepare else []), shlex.join(argv)], env=env, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    with open(result) as f:
        r = json.load(f)["results"][0]
    return r["times"], any(r["exit_codes"])


class Gate:
    """A FIFO that holds `bt gen` back until open(); one for each stream, with files of its own in the directory."""

    count = itertools.count(1)

    def __init__(self, d):
        n = next(self.count)
        self.path = os.path.join(d, f"gate{n}")
        self.progress = os.path.join(d, f"progress{n}")
        os.mkfifo(self.path)

    def argv(self, box, total, chunk):
        return [box.bt, "gen", "-g", self.path, "-p", self.progress, str(total), str(chunk)]

    def open(self):
        def writer():
            try:
                return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
        fd = wait_for(writer, 20, what="the child to start")
        t = now()
        os.write(fd, b"x")
        os.close(fd)
        return t

    def sent(self):
        try:
            with open(self.progress, "rb") as f:
                b = f.read(8)
        except OSError:
            return 0
        return struct.unpack("Q", b)[0] if len(b) == 8 else 0


class Sink:
    """Counts what arrives on the descriptors, in a C process."""

    def __init__(self, box, fds, expect, idle=5, limit=60, framed=False):
        self.p = subprocess.Popen([box.bt, "sink", *["-f"] * framed, "-n", str(expect), "-i", str(idle), "-t",
                                   str(limit), *map(str, fds)], pass_fds=set(fds),
                                  stdout=subprocess.PIPE, text=True)

    def done(self):
        return self.p.poll() is not None

    def result(self):
        """A list of (bytes, payload, time of the last byte in ns, end of file)."""
        out, _ = self.p.communicate()
        return [tuple(map(int, l.split())) for l in out.splitlines()]


class Cmd:
    """A W2 command: what it waits for before it returns, and what to run before each."""

    def __init__(self, label, waits, argv, env=None, prepare=None):
        self.label, self.waits, self.argv = label, waits, argv
        self.env, self.prepare = env, prepare


class Candidate:
    """A peer. One subclass per way of using it; see README.md."""

    name = "?"
    max_managed = 100000    # W6: how many at most
    max_stream = 1024 * MIB  # W4 W5 W7: bytes at most
    framed = False  # W4 W5 W7: the streams are frames of pmux's protocol
    slow = 0        # W7: how many of the clients, the last, will not read
    waits = None    # W15: (kind, n): what waits beside the stream; a class that can has ()
    why = {}        # workload -> why it is left out

    def __init__(self, box):
        self.box = box
        self.dir = None

    def missing(self):
        """Text when it cannot run on this machine."""

    def need(self, *tools):
        for t in tools:
            if not shutil.which(t):
                return f"{t}: not installed"

    def begin(self):
        self.dir = self.box.fresh()
        self.start()

    def end(self):
        try:
            self.stop()
        finally:
            self.box.clean(self.dir)
            self.dir = None

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def sh(self, *argv, check=True, env=None, **kw):
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           env=env or self.env(), **kw)
        if check and r.returncode:
            raise Skip(f"{argv[0]}: {(r.stderr or r.stdout).strip()[:100]}")
        return r.stdout

    def env(self):
        return None

    def start(self):
        """Bring up the daemon, if there is one, with its state under self.dir."""

    def stop(self):
        """Let go of what end() cannot find by itself (open descriptors)."""

    def pids(self):
        """The daemon's processes, helpers included, clients not."""
        return []

    # A method left as it is here means that the candidate cannot do the work.
    def spawn_wait(self, n): raise Skip("-")            # W1: [ns]
    def oneshot(self): raise Skip("-")                  # W2: [Cmd]
    def echo(self, n): raise Skip("-")                  # W3: [ns]
    def stream(self, argv, clients): raise Skip("-")    # W4 W5 W7: [fd]
    def pump(self, argv, gate, lines): raise Skip("-")  # W4 without a client fd
    def spawn_many(self, n): raise Skip("-")            # W6
    def list_cmd(self): raise Skip("-")                 # W6: (argv, env)
    def questions(self): raise Skip("-")                # W9: [(label, argv, env)]
    def make_log(self, size, records): raise Skip("-")  # W11: its first and last time, us
    def logs_cmd(self, args): raise Skip("-")           # W11: (argv, env)
    def forget_log(self): pass                          # W11: the next command opens it anew
    def forget_stream(self): pass                       # W12: what the latest stream left is removed
    def idle_clients(self, n): raise Skip("-")          # W12: connect so many, who ask nothing
    def keep(self, argvs): raise Skip("-")              # W8 W13: start these
    def restart(self): raise Skip("-")                  # W8: after kill -9 of daemon()
    def ask(self, n, cursor): raise Skip("-")           # W14: [ns]; cursor: one is moved, too
    def settle(self): pass                              # W15: what the stream gave the daemon to do is done
    def wait_on(self, ids, kind, n): raise Skip("-")    # W15: n waits, spread over these processes
    def batch(self, path): raise Skip("-")              # W16: [(label, argv, env)]: `true` for each line, 2 at a time
    def daemon(self): return self.pids()[0]
    def running(self): return set()                     # W8: pids it says it runs
    def output(self, i): return b""                     # W8: output it gives of child i
    def status(self, i): return None                    # W8: exit status it reports


def load():
    """Every Candidate subclass in cand/*.py that has a name."""
    import importlib.util
    out = []
    d = os.path.join(HERE, "cand")
    for f in sorted(os.listdir(d)):
        if f.endswith(".py") and not f.endswith("_child.py"):
            spec = importlib.util.spec_from_file_location("cand_" + f[:-3], os.path.join(d, f))
            m = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(m)
            out += [v for v in vars(m).values() if isinstance(v, type)
                    and issubclass(v, Candidate) and v.__module__ == m.__name__
                    and "name" in vars(v)]
    return out
