# SPDX-License-Identifier: MIT
"""The workloads W9..W13: what pmux promises of itself beside what can be compared."""
import os
import re
import resource
import shlex
import signal
import statistics
import subprocess
import time
from contextlib import contextmanager
from itertools import pairwise

from core import Late, Skip, alive, cpu_ns, hyperfine, named, now, wait_for
from work import stream_once

MIB = 1 << 20
IDLE_SECONDS, SETTLE_SECONDS = 10, 1
LOG_BYTES, LOG_RECORDS = 1 << 30, 10**7


def median_rows(got, keys):
    """Medians of the samples of each candidate; the spread of the first key."""
    rows = {}
    for name, samples in got.items():
        rows[name] = {k: statistics.median(s[k] for s in samples) if samples[0].get(k) is not None else None
                      for k in keys}
        values = [s[keys[0]] for s in samples]
        rows[name].update({"lo": min(values), "hi": max(values), "rounds": len(values)})
    return rows


def w9(b):
    """one whole command that asks: the status of one process, a list of ten; by hyperfine"""
    times = {}

    def sample(c):
        for label, argv, env in c.questions():
            times.setdefault(label, []).extend(hyperfine(c.path("h.json"), argv, env, 5 if b.opts.quick else 10)[0])
        return {}

    _, why = b.each(9, b.rounds(6), sample, 60)
    rows = {label: {"med ms": 1e3 * statistics.median(t), "min": 1e3 * min(t), "max": 1e3 * max(t), "n": len(t)}
            for label, t in times.items()}
    base = rows.get("true", {}).get("med ms")
    for r in rows.values():
        r["x true"] = r["med ms"] / base if base else None
    return ["med ms", "min", "max", "x true", "n"], rows, why


def no_limit(c):
    """The limits are nothing that stays: they have no daemon to look at."""
    if c.name.startswith("limit"):
        raise Skip("-")


def sleepers_of(c, n):
    """n processes at rest under the candidate, beside those that others have."""
    before = c.box.sleepers()
    c.spawn_many(n)
    wait_for(lambda: c.box.sleepers() >= before + n, 180, 0.01, f"{n} processes")


def w10(b):
    """1000 processes at rest: how often does the daemon wake up in 10 s (strace counts its calls)"""
    n = 100 if b.opts.quick else 1000

    def sample(c):
        no_limit(c)
        sleepers_of(c, min(n, c.max_managed))
        time.sleep(2)
        pids = c.pids()
        out = c.path("strace")
        tracer = c.box.popen(["strace", "-f", "-ttt", "-o", out, *[a for p in pids for a in ("-p", str(p))]],
                             stderr=subprocess.DEVNULL)
        time.sleep(SETTLE_SECONDS)
        begin = time.time()  # what strace itself interrupted has been begun again by now
        before = switches(pids)
        time.sleep(IDLE_SECONDS)
        end = time.time()
        woken = switches(pids) - before
        if tracer.poll() is not None:
            raise Late("strace ended early")
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        with open(out) as f:
            calls = sum(begin < float(line.split()[1]) < end for line in f)
        return {"calls": calls, "switches": woken, "n": len(named(os.path.basename(c.box.sleeper)))}

    got, why = b.each(10, 1, sample, 200)
    return ["calls", "switches", "n", "lo", "hi", "rounds"], median_rows(got, ["calls", "switches", "n"]), why


def switches(pids):
    """Voluntary context switches of processes so far: each is a waking."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as f:
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M)[1])
    return total


def first_byte(c, argv, env):
    """Milliseconds from the start of a command to the first byte that it prints."""
    t = now()
    p = c.box.popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    got = os.read(p.stdout.fileno(), 1)
    t = (now() - t) / 1e6
    p.kill()
    p.wait()
    p.stdout.close()
    if got not in (b"Q", b"\n"):
        raise Late(f"{shlex.join(argv)} printed nothing of the log")
    return t


def w11(b):
    """a log of 1 GiB in 10^7 records: from the start of a command to the first byte"""
    size, records = (LOG_BYTES // 64, LOG_RECORDS // 64) if b.opts.quick else (LOG_BYTES, LOG_RECORDS)

    def sample(c):
        begin, end = c.make_log(size, records)
        rows = {}
        for name, how in (("--since", lambda i: ["--since", f"@{begin // 10**6 + (end - begin) * (2 * i + 1) // (22 * 10**6)}"]),
                          ("--from", lambda i: ["--from", str(size * (2 * i + 1) // 22)]),
                          ("-n", lambda i: ["--stdout", "-n", str(10 * i + 1)])):
            for cold in (True, False):
                times = []
                for i in range(11):
                    if cold:
                        c.forget_log()  # so that it must be opened anew
                    argv, env = c.logs_cmd(how(i))
                    times.append(first_byte(c, argv, env))
                rows[f"{name} {'first' if cold else 'again'} ms"] = statistics.median(times)
                rows[f"{name} {'first' if cold else 'again'} hi"] = max(times)
        rows.update({"MiB": size // MIB, "records": records})
        return rows

    got, why = b.each(11, 1, sample, 280)
    return list(next(iter(got.values()))[0]) if got else [], {k: v[0] for k, v in got.items()}, why


def in_turns(beside, count, work, repeats):
    """CPU in us for each of `count` that work(candidate) does, so often after once to warm up: {size: [us]}.

    What a daemon does from one turn of its own to its next is counted, and so is what it puts off.
    """
    seen = {n: [] for n in beside}
    for _ in range(1 + repeats):
        for n, c in beside.items():
            seen[n].append(cpu_ns(c.pids()))
            if len(work(c)) != count:
                raise Late(f"not all of {count} were done")
    time.sleep(SETTLE_SECONDS)
    for n, c in beside.items():
        seen[n].append(cpu_ns(c.pids()))
    costs = {n: [(z - a) / 1000 / count for a, z in pairwise(cpu)][1:] for n, cpu in seen.items()}
    if min(min(us) for us in costs.values()) <= 0:
        raise Skip("its CPU is not known")
    return costs


def streams_in_turns(beside, total, repeats):
    """CPU in s for each GB of output to one client, likewise."""
    costs = {n: [] for n in beside}
    for _ in range(1 + repeats):
        for n, c in beside.items():
            s = stream_once(c, total, 65536, 1)
            if s["lost"]:
                raise Late("bytes were lost")
            if not s["cpu_s_gb"]:
                raise Skip("its CPU is not known")
            c.forget_stream()
            costs[n].append(s["cpu_s_gb"])
    return {n: cpu[1:] for n, cpu in costs.items()}


def beside_many(c, kind, sizes, quick):
    """What each work costs beside idle processes or clients: {work: {size: [cost]}}, of daemons that are up at once."""
    starts, echoes, total, repeats = (20, 50, 8 * MIB, 1) if quick else (100, 1000, 256 * MIB, 7)
    beside = {}
    try:
        for n in sizes:
            beside[n] = type(c)(c.box) if beside else c
            if beside[n] is not c:
                beside[n].begin()
        for n, x in beside.items():
            if kind == "processes":
                sleepers_of(x, n)
            else:
                x.idle_clients(n)
        return {"start us": in_turns(beside, starts, lambda x: x.spawn_wait(starts), repeats),
                "echo us": in_turns(beside, echoes, lambda x: x.echo(echoes), repeats),
                "s/GB": streams_in_turns(beside, total, repeats)}
    finally:
        for x in beside.values():
            if x is not c:
                x.stop()
                c.box.clean(x.dir)


@contextmanager
def one_cpu():
    """What is started runs on one CPU, where its costs depend least on the scheduler; descriptors are not short."""
    cpus, (soft, hard) = os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_NOFILE)
    os.sched_setaffinity(0, {min(cpus)})
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.sched_setaffinity(0, cpus)


def w12_rows(name, kind, sizes, samples):
    """Medians of each size; of most to least the median of the ratios of all turns, and the lowest and highest round."""
    rows = {n: {k: statistics.median(v for s in samples for v in s[k][n]) for k in samples[0]} for n in sizes}
    for k in samples[0]:
        turns = [[most / least for least, most in zip(s[k][sizes[0]], s[k][sizes[-1]])] for s in samples]
        rounds = [statistics.median(ratios) for ratios in turns]
        rows[sizes[-1]].update({f"x {k}": statistics.median(r for ratios in turns for r in ratios),
                                f"{k} lo": min(rounds), f"{k} hi": max(rounds)})
    return {f"{name} +{n} {kind}": row for n, row in rows.items()}


def w12(b):
    """CPU of the daemon for a GB of output, for one start with its end, for one echo: beside idle processes, clients"""
    rows, why = {}, {}
    for kind, sizes in (("processes", (10, 40) if b.opts.quick else (100, 1000, 4000)),
                        ("clients", (10, 40) if b.opts.quick else (10, 100, 1000))):
        got, missed = {}, {}

        def sample(c, kind=kind, sizes=sizes):
            no_limit(c)
            if kind == "processes" and c.max_managed < sizes[-1]:
                raise Skip("-")
            return beside_many(c, kind, sizes, b.opts.quick)

        with one_cpu():
            for r in range(min(2, b.rounds(2))):
                b.turn(12, sample, 200, got, missed, f"{kind} {r + 1}")
        why.update({f"{name} {kind}": x for name, x in missed.items() if x != "-"})
        for name, samples in got.items():
            rows.update(w12_rows(name, kind, sizes, samples))
    keys = ("start us", "echo us", "s/GB")
    return [*keys, *[column for k in keys for column in (f"x {k}", f"{k} lo", f"{k} hi")]], rows, why


def w13(b):
    """kill -9 of the engine among 1000 processes: until a client is answered again, and what of them is left"""
    n = 50 if b.opts.quick else 1000

    def sample(c):
        no_limit(c)
        m = n - 5
        sleepers_of(c, m)
        files = [c.path(f"tick{i}") for i in range(5)]
        c.keep([[b.box.bt, "tick", f] for f in files])
        wait_for(lambda: all(os.path.exists(f) and os.path.getsize(f) for f in files), 20, what="children")
        writers = [int(open(f).read()) for f in files]
        quiet = set(named(os.path.basename(b.box.sleeper)))
        time.sleep(1)
        t = now()
        os.kill(c.daemon(), signal.SIGKILL)
        c.restart()
        back = (now() - t) / 1e6
        stamp = now() // 1000000
        time.sleep(1.5)
        controlled = len(c.running() & (quiet | set(writers)))
        captured = 0
        for i in range(5):
            stamps = [int(line.split()[2]) for line in c.output(i).decode(errors="replace").splitlines()
                      if line.startswith("tick ") and len(line.split()) == 3]
            captured += bool(stamps) and max(stamps) > stamp + 1000
        for p in writers:
            os.kill(p, signal.SIGUSR1)
        wait_for(lambda: not any(map(alive, writers)), 10, what="the ends")
        time.sleep(0.5)
        return {"back ms": back, "alive": sum(map(alive, quiet)) + 5, "controlled": controlled, "captured": captured,
                "exits known": sum(c.status(i) == 7 for i in range(5)), "n": n}

    got, why = b.each(13, b.rounds(5), sample, 120)
    keys = ["back ms", "alive", "controlled", "captured", "exits known", "n"]
    rows = median_rows(got, keys)
    for name, samples in got.items():
        for k in keys[1:]:
            rows[name][k] = min(s[k] for s in samples)  # one miss is a miss
    return ["back ms", "lo", "hi", "alive", "controlled", "captured", "exits known", "n", "rounds"], rows, why


ALL = {9: w9, 10: w10, 11: w11, 12: w12, 13: w13}
