# SPDX-License-Identifier: MIT
"""What pmux is to reach: one row for each target, read from the rows of the workloads."""

LIMIT, RELAY, TRUE = "limit", "limit-relay", "true"


class Target:
    """One figure of one workload and its bound.

    of: the row of the workload that the bound is a multiple of; None: the bound is the figure's own.
    most: True: at most the bound; False: at least.
    bound: None: the figure is shown, with its ratio, and held to nothing.
    row: the workload's row for a candidate, where that is not its name.
    """

    def __init__(self, name, workload, column, bound, of=None, most=True, row=str, unit=""):
        self.name, self.workload, self.column, self.bound = name, workload, column, bound
        self.of, self.most, self.row, self.unit = of, most, row, unit

    def value(self, result, candidate):
        rows = result["workloads"].get(self.workload, {}).get("rows", {})
        row = self.row(candidate)
        if callable(row):
            row = row(rows)
        return rows.get(row, {}).get(self.column)

    def limit(self, result):
        if self.of is None:
            return None
        rows = result["workloads"].get(self.workload, {}).get("rows", {})
        return rows.get(self.row(self.of) if self.of == LIMIT and self.workload == 6 else self.of, {}).get(self.column)

    def ratio(self, result, candidate):
        """What is compared with the bound; None: not measured."""
        value, limit = self.value(result, candidate), self.limit(result)
        if value is None or self.of is None:
            return value
        return value / limit if limit else None

    def met(self, result, candidate="pmux"):
        ratio = self.ratio(result, candidate)
        if ratio is None or self.bound is None:
            return None
        return ratio <= self.bound if self.most else ratio >= self.bound

    def words(self):
        if self.bound is None:
            return f"beside {self.of}" if self.of else "shown"
        bound = f"{self.bound:g}"
        return f"{'≤' if self.most else '≥'} {bound}{' × ' + self.of if self.of else self.unit and ' ' + self.unit}"


def at(n):
    return lambda candidate: f"{candidate} @{n}"


def waits(what):
    return lambda candidate: f"{candidate} {what}"


def beside(n, kind):
    return lambda candidate: f"{candidate} +{n} {kind}"


def command(label):
    """A row of W2 is a command: for pmux this one, for a peer the quickest of its own."""
    def of(candidate):
        if candidate == "pmux":
            return label
        return lambda rows: min((r for r in rows if rows[r].get("by") == candidate), key=lambda r: rows[r]["med ms"],
                                default=None)
    return of


def one_of(**rows):
    """A row named for each candidate, where its name says nothing of the command."""
    return rows.get


def question(label):
    return lambda candidate: label if candidate == "pmux" else None


TARGETS = (
    Target("W1 start and see the end", 1, "p50 us", 1.2, LIMIT, unit="µs"),
    Target("W2 `pmux run -- true`", 2, "med ms", 2.3, TRUE, row=command("pmux run"), unit="ms"),
    Target("W3 a line there and back, one CPU", 3, "1cpu p50 us", 1.4, RELAY, unit="µs"),
    Target("W4 blocks to one client", 4, "blk MB/s", 1.0, LIMIT, most=False, unit="MB/s"),
    Target("W4 blocks: CPU", 4, "blk cpu s/GB", 0.7, unit="s/GB"),
    Target("W4 blocks: lost", 4, "blk lost %", 0, unit="%"),
    Target("W4 lines to one client", 4, "line MB/s", 0.9, LIMIT, most=False, unit="MB/s"),
    Target("W4 lines: lost", 4, "line lost %", 0, unit="%"),
    Target("W5 64 clients", 5, "64 MB/s", 0.8, RELAY, most=False, unit="MB/s"),
    Target("W5 64 clients: short of bytes", 5, "64 short", 0),
    Target("W6 start 1,000", 6, "start s", 1.5, LIMIT, row=at(1000), unit="s"),
    Target("W6 memory of each of 1,000", 6, "pss kB/proc", 6, row=at(1000), unit="KiB"),
    Target("W6 memory of each of 4,000", 6, "pss kB/proc", 6, row=at(4000), unit="KiB"),
    Target("W6 list 1,000", 6, "list ms", 10, row=at(1000), unit="ms"),
    Target("W7 the child writes all", 7, "child wrote %", 100, most=False, unit="%"),
    Target("W7 the other client gets all", 7, "other got %", 100, most=False, unit="%"),
    Target("W7 memory grows", 7, "rss + MB", 2.1, unit="MB"),
    Target("W8 alive of 10", 8, "alive", 10, most=False),
    Target("W8 controlled", 8, "controlled", 10, most=False),
    Target("W8 captured of 5", 8, "captured", 5, most=False),
    Target("W9 `pmux status X`", 9, "med ms", 2.5, TRUE, row=question("pmux status"), unit="ms"),
    Target("W9 `pmux ps`", 9, "med ms", 2.5, TRUE, row=question("pmux ps"), unit="ms"),
    Target("W10 wakings in 10 s, 1,000 at rest", 10, "calls", 0),
    Target("W11 first byte of `logs --since`", 11, "--since first ms", 5, unit="ms"),
    Target("W11 first byte of `logs --from`", 11, "--from first ms", 5, unit="ms"),
    Target("W12 CPU of a start, 4,000 : 100 at rest", 12, "x start us", 1.15, row=beside(4000, "processes")),
    Target("W12 CPU of an echo, 4,000 : 100 at rest", 12, "x echo us", 1.15, row=beside(4000, "processes")),
    Target("W12 CPU of a byte, 4,000 : 100 at rest", 12, "x s/GB", 1.15, row=beside(4000, "processes")),
    Target("W12 CPU of a start, 1,000 : 10 idle clients", 12, "x start us", 1.15, row=beside(1000, "clients")),
    Target("W12 CPU of an echo, 1,000 : 10 idle clients", 12, "x echo us", 1.15, row=beside(1000, "clients")),
    Target("W12 CPU of a byte, 1,000 : 10 idle clients", 12, "x s/GB", 1.15, row=beside(1000, "clients")),
    Target("W13 back after a kill among 1,000", 13, "back ms", 100, unit="ms"),
    Target("W13 alive", 13, "alive", 1000, most=False),
    Target("W13 controlled", 13, "controlled", 1000, most=False),
    Target("W13 captured of 5", 13, "captured", 5, most=False),
    Target("W13 exits known of 5", 13, "exits known", 5, most=False),
    Target("W14 `ask` and its answer, one CPU", 14, "1cpu p50 us", None, RELAY, unit="µs"),
    Target("W14 the same, moving a cursor", 14, "cursor p50 us", None, unit="µs"),
    Target("W15 blocks, beside each pattern waited for: CPU", 15, "each s/GB", None, "limit-relay blk text",
           row=waits("blk pattern"), unit="s/GB"),
    Target("W15 blocks, beside each separator: CPU", 15, "each s/GB", None, "limit-relay blk text",
           row=waits("blk separator"), unit="s/GB"),
    Target("W15 lines, beside each pattern: CPU", 15, "each s/GB", None, "limit-relay line text",
           row=waits("line pattern"), unit="s/GB"),
    Target("W15 lines, beside each separator: CPU", 15, "each s/GB", None, "limit-relay line text",
           row=waits("line separator"), unit="s/GB"),
    Target("W15 memory of a wait for a pattern", 15, "KiB/wait", None, row=waits("memory pattern"), unit="KiB"),
    Target("W15 memory of a wait for a separator", 15, "KiB/wait", None, row=waits("memory separator"), unit="KiB"),
    Target("W16 batch of 1,000 `true`, 2 at a time", 16, "med s", None, "xargs -P 2",
           row=one_of(pmux="pmux batch -j 2", tsp="tsp -S 2"), unit="s"),
)
