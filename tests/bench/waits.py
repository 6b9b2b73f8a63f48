# SPDX-License-Identifier: MIT
"""The workloads W14..W16: questions and their answers, waits beside a stream, batches."""
import os
import statistics
import subprocess

from core import MIB, Late, Skip, memory, now
from scale import sleepers_of
from work import LIMIT, latency, stream_once

PROCESSES, WAITS = 200, 2000


def w14(b):
    """a 32-byte line to a running cat by `ask`, and the answer up to its newline; also moving a cursor"""
    n = 50 if b.opts.quick else 300
    cpus = os.sched_getaffinity(0)
    rows, got, why = {}, {}, {}
    for r in range(b.rounds(6)):
        for place, mask, cursor in (("1cpu", {min(cpus)}, False), ("free", cpus, False), ("cursor", {min(cpus)}, True)):
            os.sched_setaffinity(0, mask)
            try:
                b.turn(14, lambda c, cursor=cursor: c.ask(n, cursor), 60, got.setdefault(place, {}),
                       why.setdefault(place, {}), f"{place} {r + 1}")
            finally:
                os.sched_setaffinity(0, cpus)
    for place, samples in got.items():
        for name, times in samples.items():
            for k, v in latency(times).items():
                rows.setdefault(name, {})[f"{place} {k}"] = v
    for name, row in rows.items():
        base = rows.get(LIMIT, {}).get("1cpu p50 us")
        row["1cpu x limit"] = row["1cpu p50 us"] / base if base else None
    return (["1cpu p50 us", "1cpu p99 us", "1cpu p50 lo", "1cpu p50 hi", "1cpu x limit", "free p50 us", "free p99 us",
             "cursor p50 us", "cursor p99 us", "1cpu n"], rows,
            {k: w for place in why.values() for k, w in place.items() if k not in rows and w != "-"})


def wait_cost(b, rows, why):
    """CPU of the daemon for a GB of output while so many waits look at it."""
    cases = [(tag, chunk, size, kind, n)
             for tag, chunk, size in (("blk", 65536, 256 * MIB), ("line", 100, 64 * MIB))
             for kind, n in (("none", 0), ("pattern", 1), ("pattern", 100), ("separator", 1), ("separator", 100))]
    got = {}
    for r in range(b.rounds(3)):
        for tag, chunk, size, kind, n in cases:
            def sample(c, chunk=chunk, size=size, kind=kind, n=n):
                if c.waits is None or (kind == "separator" and not c.framed):
                    raise Skip("no waits" if c.waits is None else "the same text")
                total = 8 * MIB if b.opts.quick else size
                c.waits, c.keeps = (kind, n) if n else (), 4 * total
                s = stream_once(c, total, chunk, 1)
                if s["lost"]:
                    raise Late("bytes were lost")
                return s["cpu_s_gb"]

            b.turn(15, sample, 90, got.setdefault((tag, kind, n), {}), why, f"{tag} {kind} {n} {r + 1}")
    for (tag, kind, n), samples in got.items():
        for name, values in samples.items():
            for k in ("pattern", "separator") if name == "pmux" else ("text",):
                if kind in ("none", k) or k == "text":
                    rows.setdefault(f"{name} {tag} {k}", {})[f"{n} s/GB"] = statistics.median(values)
    for row in rows.values():
        if "100 s/GB" in row and "0 s/GB" in row:
            row["each s/GB"] = (row["100 s/GB"] - row["0 s/GB"]) / 100


def wait_memory(b, rows, why):
    """Memory of the engine for each wait."""
    for kind in ("pattern", "separator"):
        def sample(c, kind=kind):
            if not c.framed:
                raise Skip("no waits")
            processes, waits = (20, 200) if b.opts.quick else (PROCESSES, WAITS)
            sleepers_of(c, processes)
            ids = [p["id"] for p in c.control.call("list")["processes"]]
            before = memory([c.daemon()])[1]
            c.wait_on(ids, kind, waits)
            return (memory([c.daemon()])[1] - before) / 1024 / waits

        got, w = b.each(15, min(3, b.rounds(3)), sample, 60)
        why.update(w)
        for name, values in got.items():
            rows[f"{name} memory {kind}"] = {"KiB/wait": statistics.median(values)}


def w15(b):
    """0, 1 and 100 waits for what never comes beside a stream to one client; memory of 2000 waits on 200 processes"""
    rows, why = {}, {}
    wait_cost(b, rows, why)
    wait_memory(b, rows, why)
    keep = {k: w for k, w in why.items() if w not in ("no waits", "the same text")}
    return ["0 s/GB", "1 s/GB", "100 s/GB", "each s/GB", "KiB/wait"], rows, keep


def w16(b):
    """a batch of 1000 `true`, two at a time; one whole command"""
    n = 50 if b.opts.quick else 1000
    times = {}

    def sample(c):
        path = c.path("commands")
        with open(path, "w") as f:
            f.write("true\n" * n)
        for label, argv, env in c.batch(path):
            t = now()
            subprocess.run(argv, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            times.setdefault(label, []).append((now() - t) / 1e9)
        return {}

    _, why = b.each(16, b.rounds(5), sample, 120)
    rows = {label: {"med s": statistics.median(t), "min": min(t), "max": max(t), "n": n, "rounds": len(t)}
            for label, t in times.items()}
    base = rows.get("xargs -P 2", {}).get("med s")
    for row in rows.values():
        row["x xargs"] = row["med s"] / base if base else None
    return ["med s", "min", "max", "x xargs", "n", "rounds"], rows, why


ALL = {14: w14, 15: w15, 16: w16}
