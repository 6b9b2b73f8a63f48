# SPDX-License-Identifier: MIT
"""The workloads W1..W8. Each takes a Bench and returns (columns, {candidate: row})."""
import json
import os
import signal
import statistics
import subprocess
import threading
import time

from core import (MIB, Gate, Late, Sink, Skip, alive, cpu_ns, deadline, descendants, hyperfine, memory,
                  named, now, payload, pct, rss_now, spread, wait_for)

LIMIT = "limit"


class Bench:
    def __init__(self, box, classes, opts, log):
        self.box, self.classes, self.opts, self.log = box, classes, opts, log

    def rounds(self, full):
        return self.opts.rounds or (1 if self.opts.quick else full)

    def each(self, work, rounds, sample, seconds):
        """sample(candidate) for every candidate in turn, round after round (A B A B).

        Gives {name: [samples]} and {name: why not}. A failed sample is left out
        and tried again in the next round; Skip("-") means that it never works.
        """
        got, why = {}, {}
        for r in range(rounds):
            self.turn(work, sample, seconds, got, why, f"round {r + 1}/{rounds}")
        return got, {n: w for n, w in why.items() if w != "-" and n not in got}

    def turn(self, work, sample, seconds, got, why, tag):
        for cls in self.classes:
            c = cls(self.box)
            if work in c.why or why.get(c.name) == "-":
                continue
            if c.missing():
                why[c.name] = c.missing()
                continue
            try:
                with deadline(seconds):
                    c.begin()
                    s = sample(c)
                got.setdefault(c.name, []).append(s)
                self.log(f"W{work} {tag} {c.name}: {short(s)}")
            except Skip as e:
                why[c.name] = str(e)
                self.log(f"W{work} {tag} {c.name}: {e}")
            except (Late, OSError, subprocess.SubprocessError, ValueError, KeyError,
                    IndexError, StopIteration) as e:
                why[c.name] = f"{type(e).__name__}: {e}"[:160]
                self.log(f"W{work} {tag} {c.name}: {why[c.name]}")
            finally:
                c.end()


def short(x):
    s = json.dumps(x, default=str)
    return s if len(s) < 150 else s[:150] + "..."


def ratio(rows, key):
    """Adds each row's ratio to the limit row of the same run."""
    base = rows.get(LIMIT, {}).get(key)
    for r in rows.values():
        if base and r.get(key):
            r["x limit"] = r[key] / base


# ---- latencies ----

def latency(samples):
    """p50 and p99 over all rounds, and how far the rounds' own p50s lie apart."""
    samples = [s[len(s) // 20:] for s in samples]  # the first of each round are cold
    every = [x / 1000 for s in samples for x in s]
    mids = [statistics.median(s) / 1000 for s in samples]
    return {"p50 us": pct(every, .5), "p99 us": pct(every, .99), "p50 lo": min(mids),
            "p50 hi": max(mids), "n": len(every)}


def w1(b):
    """spawn /bin/true and see its exit, by the lowest-overhead persistent interface"""
    n = 20 if b.opts.quick else 50
    got, why = b.each(1, b.rounds(8), lambda c: c.spawn_wait(n), 90)
    rows = {k: latency(v) for k, v in got.items()}
    ratio(rows, "p50 us")
    return ["p50 us", "p99 us", "p50 lo", "p50 hi", "x limit", "n"], rows, why


def w2(b):
    """one whole command: start or run `true`, by hyperfine"""
    runs = 5 if b.opts.quick else 10
    waits = {}

    def sample(c):
        out = {}
        for cmd in c.oneshot():
            out[cmd.label], failed = hyperfine(c.path("hyperfine.json"), cmd.argv, cmd.env, runs, cmd.prepare)
            waits[cmd.label] = (cmd.waits + (", exits not 0" if failed else "")
                                + (", after a pause" if cmd.prepare else ""))
        return out

    got, why = b.each(2, b.rounds(6), sample, 120)
    rows = {}
    for name, samples in got.items():
        for label in samples[0]:
            t = [x * 1000 for s in samples for x in s.get(label, [])]
            rows[label] = {"by": name, "med ms": statistics.median(t), "min": min(t), "max": max(t),
                           "n": len(t), "until": waits[label]}
    base = rows.get("true", {}).get("med ms")
    for r in rows.values():
        r["x limit"] = r["med ms"] / base if base else None
    return ["med ms", "min", "max", "x limit", "n", "until"], rows, why


def w3(b):
    """a 32-byte line to a running cat and back, seen by the client"""
    n = 50 if b.opts.quick else 300
    cpus = os.sched_getaffinity(0)
    rows, why, got = {}, {}, {"1cpu": {}, "free": {}}
    # Where the scheduler puts the processes decides most of a short round
    # trip, so that each is taken both on one CPU and wherever they land.
    for r in range(b.rounds(6)):
        for place, mask in (("1cpu", {min(cpus)}), ("free", cpus)):
            os.sched_setaffinity(0, mask)
            try:
                b.turn(3, lambda c: c.echo(n), 60, got[place], why, f"{place} {r + 1}")
            finally:
                os.sched_setaffinity(0, cpus)
    for place in got:
        for k, samples in got[place].items():
            for m, x in latency(samples).items():
                rows.setdefault(k, {})[f"{place} {m}"] = x
    base = rows.get(LIMIT, {}).get("1cpu p50 us")
    for r in rows.values():
        if base and r.get("1cpu p50 us"):
            r["1cpu x limit"] = r["1cpu p50 us"] / base
    return ([f"{p} {m}" for p in ("1cpu", "free") for m in
             ("p50 us", "p99 us", "p50 lo", "p50 hi", "x limit", "n")
             if (p, m) != ("free", "x limit")], rows,
            {k: w for k, w in why.items() if k not in rows and w != "-"})


# ---- streams ----

class Watch(threading.Thread):
    """Follows the CPU time and the memory of processes that may end any moment."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.halt = pids, threading.Event()
        self.cpu0 = {p: cpu_ns([p]) for p in pids}
        self.cpu = dict(self.cpu0)
        self.rss0 = self.rss = rss_now(pids)
        self.start()

    def look(self):
        for p in self.pids:
            self.cpu[p] = max(self.cpu[p], cpu_ns([p]))
        self.rss = max(self.rss, rss_now(self.pids))

    def run(self):
        while not self.halt.wait(0.025):
            self.look()

    def end(self):
        self.halt.set()
        self.join()
        self.look()
        return sum(self.cpu[p] - self.cpu0[p] for p in self.pids), self.rss - self.rss0


def stream_once(c, total, chunk, clients, slow=0, limit=60, idle=4):
    """One child's output to some clients, of which the last `slow` never read."""
    gate = Gate(c.dir)
    argv = gate.argv(c.box, total, chunk)
    want = payload(total, chunk)
    c.slow = slow
    try:
        fds = c.stream(argv, clients)
    except Skip:
        if clients != 1 or slow:
            raise
        t0, t1, q, cpu = c.pump(argv, gate, chunk == 100)
        return {"mb_s": total / 1e6 / ((t1 - t0) / 1e9), "lost": max(0, 1 - q / want), "seconds":
                (t1 - t0) / 1e9, "cpu_s_gb": cpu / total if cpu is not None else None,
                "total": total}
    try:
        watch = Watch(c.pids())
        sink = Sink(c.box, fds[:clients - slow], want, idle=idle, limit=limit,
                    framed=c.framed)
        time.sleep(0.05)
        t0 = gate.open()
        res = sink.result()
        c.settle()
        cpu, rss = watch.end()
        sent = gate.sent()
    finally:
        for fd in fds:
            os.close(fd)
    t1 = max([r[2] for r in res] + [t0 + 1])
    q = [r[1] for r in res]
    return {"mb_s": sum(q) / want * total / 1e6 / ((t1 - t0) / 1e9), "lost": max(0, 1 - min(q) / want),
            "short": sum(x < want for x in q), "seconds": (t1 - t0) / 1e9,
            "cpu_s_gb": cpu / (total * 1.0), "rss": rss, "sent": sent, "total": total}


def scaled(c, rate_mb_s, seconds, low, high):
    """A total in bytes that takes about so many seconds at this rate."""
    return int(min(max(low, min(high, rate_mb_s * 1e6 * seconds)), c.max_stream) // MIB * MIB)


def w4(b):
    """one child's output to one client: 64 KiB writes, and 100-byte line writes"""
    rows, why = {}, {}
    for tag, chunk, cap in (("blk", 65536, 1024 * MIB), ("line", 100, 200 * MIB)):
        size = {}

        def sample(c):
            if c.name not in size:
                r = stream_once(c, 8 * MIB, chunk, 1, limit=30)
                size[c.name] = scaled(c, r["mb_s"], 2 if b.opts.quick else 3, 64 * MIB, cap)
                c.end()
                c.begin()
            return stream_once(c, size[c.name], chunk, 1)

        got, w = b.each(4, b.rounds(5), sample, 90)
        why.update(w)
        for k, v in got.items():
            s = spread([x["mb_s"] for x in v])
            cpu = [x["cpu_s_gb"] for x in v if x.get("cpu_s_gb") is not None]
            rows.setdefault(k, {}).update({
                f"{tag} MB/s": s["med"], f"{tag} lo": s["min"], f"{tag} hi": s["max"],
                f"{tag} cpu s/GB": statistics.median(cpu) if cpu else None,
                f"{tag} lost %": 100 * max(x["lost"] for x in v),
                f"{tag} MiB": v[0]["total"] // MIB})
        base = rows.get(LIMIT, {}).get(f"{tag} MB/s")
        for r in rows.values():
            if base and r.get(f"{tag} MB/s"):
                r[f"{tag} x limit"] = r[f"{tag} MB/s"] / base
    cols = [f"{t} {m}" for t in ("blk", "line")
            for m in ("MB/s", "lo", "hi", "x limit", "cpu s/GB", "lost %", "MiB")]
    return cols, rows, why


def w5(b):
    """the same output to 8 and to 64 clients at once"""
    rows, why = {}, {}
    for n in (8, 64):
        size = {}

        def sample(c):
            if c.name not in size:
                r = stream_once(c, 2 * MIB, 65536, n, limit=40)
                size[c.name] = scaled(c, r["mb_s"] / n, 2 if b.opts.quick else 6, 2 * MIB, 256 * MIB)
                c.end()
                c.begin()
            return stream_once(c, size[c.name], 65536, n)

        got, w = b.each(5, b.rounds(4), sample, 120)
        why.update(w)
        for k, v in got.items():
            s = spread([x["mb_s"] for x in v])
            rows.setdefault(k, {}).update({
                f"{n} MB/s": s["med"], f"{n} lo": s["min"], f"{n} hi": s["max"],
                f"{n} short": max(x["short"] for x in v),
                f"{n} lost %": 100 * max(x["lost"] for x in v),
                f"{n} rss MB": max(x["rss"] for x in v) / 1e6,
                f"{n} MiB": v[0]["total"] // MIB})
        base = rows.get("limit-relay", {}).get(f"{n} MB/s")
        for r in rows.values():
            if base and r.get(f"{n} MB/s"):
                r[f"{n} x relay"] = r[f"{n} MB/s"] / base
    cols = [f"{n} {m}" for n in (8, 64)
            for m in ("MB/s", "lo", "hi", "x relay", "short", "lost %", "rss MB", "MiB")]
    return cols, rows, why


def w7(b):
    """a second client that never reads, while the child writes"""
    size = {}

    def sample(c):
        if c.name not in size:
            r = stream_once(c, 8 * MIB, 65536, 1, limit=30)
            size[c.name] = scaled(c, r["mb_s"], 2 if b.opts.quick else 6, 8 * MIB, 256 * MIB)
            c.end()
            c.begin()
        alone = stream_once(c, size[c.name], 65536, 1)
        c.end()
        c.begin()
        return alone, stream_once(c, size[c.name], 65536, 2, slow=1, limit=50)

    got, why = b.each(7, b.rounds(3), sample, 150)
    rows = {}
    for k, v in got.items():
        got_all = min(100 - 100 * s["lost"] for _, s in v)
        rows[k] = {
            "child wrote %": min(100 * s["sent"] / s["total"] for _, s in v),
            "other got %": got_all,
            "other MB/s": statistics.median(s["mb_s"] for _, s in v) if got_all > 90 else None,
            "alone MB/s": statistics.median(a["mb_s"] for a, _ in v),
            "rss + MB": max(s["rss"] for _, s in v) / 1e6,
            "alone rss + MB": max(a["rss"] for a, _ in v) / 1e6,
            "MiB": v[0][0]["total"] // MIB}
    return ["child wrote %", "other got %", "other MB/s", "alone MB/s", "rss + MB",
            "alone rss + MB", "MiB"], rows, why


# ---- scale ----

def w6(b):
    """1000 and 4000 managed `sleep 1000000`"""
    rows, why = {}, {}
    for n, rounds in ((1000, 3), (4000, 1)):
        if b.opts.quick and n > 1000:
            continue

        def sample(c):
            if n > max(1000, c.max_managed):
                raise Skip("-")
            m = min(n, c.max_managed)
            comm = os.path.basename(b.box.sleeper)
            c.t0 = now()
            c.spawn_many(m)
            try:
                wait_for(lambda: b.box.sleepers() >= m, 180, 0.002)
            except Late:
                raise Late(f"{b.box.sleepers()} of {m} processes after 180 s")
            started = (now() - c.t0) / 1e9
            time.sleep(2)
            sleepers = set(named(comm))
            help_ = [p for p in descendants(zombies=False) if p not in sleepers]
            rss, pss = memory(help_)
            try:
                argv, env = c.list_cmd()
            except Skip:
                argv = None
            lists = [1e3 * t for t in hyperfine(c.path("h.json"), argv, env, 5)[0]] if argv else []
            help_ = [p for p in descendants(zombies=False) if p not in sleepers]
            cpu, t = cpu_ns(help_), now()
            time.sleep(5)
            idle = 100 * (cpu_ns(help_) - cpu) / (now() - t)
            return {"start s": started, "rss kB/proc": rss / 1024 / m, "pss kB/proc": pss / 1024 / m,
                    "helpers": len(help_), "list ms": statistics.median(lists) if lists else None,
                    "idle cpu %": idle, "n": m}

        got, w = b.each(6, min(rounds, b.rounds(rounds)), sample, 260)
        for k, x in w.items():
            why[f"{k} at {n}"] = x
        for k, v in got.items():
            rows[f"{k} @{v[0]['n']}"] = {m: statistics.median(x[m] for x in v)
                                         if v[0][m] is not None else None for m in v[0]}
            rows[f"{k} @{v[0]['n']}"]["start hi"] = max(x["start s"] for x in v)
    return (["start s", "start hi", "rss kB/proc", "pss kB/proc", "helpers", "list ms",
             "idle cpu %"], rows, why)


# ---- the daemon killed ----

def w8(b):
    """kill -9 of the daemon with five writing and five quiet children, then a restart"""
    def sample(c):
        files = [c.path(f"tick{i}") for i in range(5)]
        c.keep([[b.box.bt, "tick", f] for f in files] + [[b.box.sleeper, "1000000"]] * 5)
        comm = os.path.basename(b.box.sleeper)
        wait_for(lambda: all(os.path.exists(f) and os.path.getsize(f) for f in files)
                 and len(named(comm)) == 5, 20, what="children")
        writers = [int(open(f).read()) for f in files]
        quiet = named(comm)
        time.sleep(1)
        victims = c.daemon()
        for v in [victims] if isinstance(victims, int) else victims:
            os.kill(v, signal.SIGKILL)
        time.sleep(1.5)
        w, q = [p for p in writers if alive(p)], [p for p in quiet if alive(p)]
        row = {"writers alive": len(w), "quiet alive": len(q), "controlled": None,
               "captured": None, "exit known": None, "second copies": None}
        try:
            c.restart()
        except Skip as e:
            row["note"] = str(e)
            return row
        back = now() // 1000000
        time.sleep(4)
        mine = set(w) | set(q)
        w = [p for p in w if alive(p)]
        row["controlled"] = len(c.running() & mine)
        row["second copies"] = len([p for p in named(comm) if p not in quiet])
        row["captured"] = 0
        for i, p in enumerate(writers):
            if p not in w:
                continue
            stamps = [int(l.split()[2]) for l in c.output(i).decode(errors="replace").splitlines()
                      if l.startswith("tick ") and len(l.split()) == 3 and l.split()[2].isdigit()]
            row["captured"] += bool(stamps) and max(stamps) > back + 1000
        if w:
            i = writers.index(w[0])
            os.kill(w[0], signal.SIGUSR1)
            time.sleep(1.5)
            s = c.status(i)
            row["exit known"] = "yes" if s == 7 else f"no ({s})"
        else:
            row["exit known"] = "none left"
        return row

    got, why = b.each(8, min(2, b.rounds(2)), sample, 120)
    rows = {k: v[-1] for k, v in got.items()}
    for row in rows.values():
        row["alive"] = row["writers alive"] + row["quiet alive"]
    for k, v in got.items():
        if any(x != v[0] for x in v):
            rows[k]["note"] = "rounds differ: " + json.dumps(v[0])
    return ["writers alive", "quiet alive", "controlled", "captured", "exit known",
            "second copies", "note"], rows, why


ALL = {1: w1, 2: w2, 3: w3, 4: w4, 5: w5, 6: w6, 7: w7, 8: w8}
