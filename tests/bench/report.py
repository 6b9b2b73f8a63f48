# SPDX-License-Identifier: MIT
"""Tables: of a workload, and of all targets at the end; the latter into a page, too."""
from targets import TARGETS

SHOWN = ("supervisord", "tmux", "s6", "conmon", "tsp", "pm2", "asyncio")
BEGIN, END = "<!-- the last run: begin -->", "<!-- the last run: end -->"


def cell(v):
    if v is None:
        return ""
    if isinstance(v, float):
        return f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}"
    return str(v)


def table(cols, rows):
    lines = [["", *cols]] + [[k, *[cell(r.get(c)) for c in cols]] for k, r in rows.items()]
    width = [max(len(line[i]) for line in lines) for i in range(len(cols) + 1)]
    lines.insert(1, ["-" * w for w in width])
    return "\n".join("| " + " | ".join(x.ljust(w) for x, w in zip(line, width)) + " |" for line in lines)


def verdict(target, result):
    met = target.met(result)
    if target.value(result, "pmux") is None:
        return "not measured"
    return "no bound" if target.bound is None else "not measured" if met is None else "met" if met else "MISSED"


def targets(result, candidates):
    """Every target, whether or not its workload was run."""
    peers = [p for p in SHOWN if p in candidates]
    rows = {}
    for t in TARGETS:
        rows[t.name] = {"target": t.words(), "pmux": t.value(result, "pmux"), "limit": t.limit(result), "unit": t.unit,
                        "ratio": t.ratio(result, "pmux") if t.of else None, "": verdict(t, result),
                        **{p: t.value(result, p) for p in peers}}
    said = [rows[t.name][""] for t in TARGETS]
    return (table(["target", "pmux", "limit", "ratio", "", "unit", *peers], rows)
            + f"\n\n{said.count('met')} met, {said.count('MISSED')} missed, {said.count('not measured')} not measured\n")


def into_page(path, result, candidates):
    """Replace what stands between the two marks of a page by this run."""
    with open(path) as f:
        page = f.read()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    m = result["machine"]
    lines = [f"Measured {m['time']} by `{m['command']}`, version {m['revision']}, on {m['cpus']} CPUs ({m['cpu']}), "
             f"{m['memory_kb'] // 1024} MiB, Linux {m['kernel']}.",
             "Peers: " + ", ".join(v for v in m["versions"].values() if v != "-") + ".", "",
             targets(result, candidates)]
    for number, w in result["workloads"].items():
        lines += [f"### W{number}: {w['what']}", "", table(w["columns"], w["rows"]), ""]
        lines += [f"- {k}: {x}" for k, x in w["left_out"].items()]
        lines += [f"- load before {w['load_before']:.2f}, {w['seconds']:.0f} s, {w['steal_s']:.1f} s of CPU stolen", ""]
    with open(path, "w") as f:
        f.write(before + BEGIN + "\n\n" + "\n".join(lines).rstrip() + "\n\n" + END + after)
