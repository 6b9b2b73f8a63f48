# SPDX-License-Identifier: MIT
"""stdout and stderr stay apart, and in the order in which they came."""

from pmux_client import K_CLOSED, K_DATA, K_EMPTY, K_EXIT, K_START, STDERR, STDOUT
from pmux_test import ENV, PmuxTest, need, scale, split

TURNS = """
import os, sys, time
for i in range(int(sys.argv[1])):
    os.write(1 + i % 2, b"%d\\n" % i)
    time.sleep(float(sys.argv[2]))
"""


# What each line on stderr names has been written to stdout before it.
BEHIND = """
import os, sys, time
total = 0
for i in range(int(sys.argv[1])):
    for _ in range(100):
        total += os.write(1, b"o" * 4000)
    os.write(2, b"%d\\n" % total)
    time.sleep(0.02)
"""


class Order(PmuxTest):
    def turns(self, client, n, pause, **params):
        return client.run([need("python3"), "-c", TURNS, str(n), str(pause)], env=ENV, subscribe=True,
                          **params)[1]

    def test_turns_five_milliseconds_apart(self):
        """Two pipes can be told apart by arrival alone: a machine busy for 5 ms may join two turns; so
        one of several rounds has to come in perfect order; what each stream holds must be right in all."""
        client = self.client()
        n = 60
        for _ in range(6):
            records = self.turns(client, n, 0.005).collect()
            out, err = split(records)
            self.assertEqual(out, b"".join(b"%d\n" % i for i in range(0, n, 2)))
            self.assertEqual(err, b"".join(b"%d\n" % i for i in range(1, n, 2)))
            both = b"".join(r.data for r in records if r.kind == K_DATA)
            if both == b"".join(b"%d\n" % i for i in range(n)):
                return
        self.fail("in no round did the streams come in order")

    def test_a_line_behind_what_flows(self):
        """A program that says on stderr what it has done is not heard before it: what it had written to
        stdout, much and fast, stands before it in the log."""
        n = 200
        run, subscription = self.client().run([need("python3"), "-c", BEHIND, str(n)], env=ENV,
                                              subscribe=True)
        n_out, lines, early = 0, 0, []
        for record in subscription.collect():
            if record.kind == K_DATA and record.source == STDOUT:
                n_out += len(record.data)
            elif record.kind == K_DATA:
                for line in record.data.split():
                    lines += 1
                    if int(line) > n_out:
                        early.append((int(line), n_out))
        self.assertEqual(lines, n)
        self.assertEqual(early, [])

    def test_joined_streams_are_in_exact_order(self):
        client = self.client()
        n = scale(5000, 20000, 200000)
        records = self.turns(client, n, 0, stderr="stdout").collect()
        out, err = split(records)
        self.assertEqual(err, b"")
        self.assertEqual(out, b"".join(b"%d\n" % i for i in range(n)))

    def test_joined_by_the_command_line(self):
        n = 2000
        done = self.daemon.cli("run", "--stderr", "stdout", "--", need("python3"), "-c", TURNS, str(n), "0",
                               check=0)
        self.assertEqual(done.stdout, b"".join(b"%d\n" % i for i in range(n)))
        self.assertEqual(done.stderr, b"")

    def test_kept_apart_by_the_command_line(self):
        done = self.daemon.cli("run", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 5", check=5)
        self.assertEqual((done.stdout, done.stderr), (b"out\n", b"err\n"))

    def test_records_of_one_run(self):
        """start, the data, closed twice and exit, empty: each once, times in order, run 1."""
        client = self.client()
        run, subscription = self.sh(client, "echo hello; echo there >&2", subscribe={"until": "closed"})
        records = subscription.collect()
        self.ended(client, run["id"], for_="empty")
        kinds = [r.kind for r in records]
        self.assertEqual(kinds[0], K_START)
        self.assertEqual(records[0].arg, run["pid"])
        self.assertEqual(records[0].offset, run["offset"])
        self.assertEqual(kinds.count(K_EXIT), 1)
        self.assertEqual(sorted(r.source for r in records if r.kind == K_CLOSED), [STDOUT, STDERR])
        self.assertLess(max(i for i, k in enumerate(kinds) if k == K_DATA), kinds.index(K_EXIT))
        self.assertEqual({r.run for r in records}, {1})
        self.assertEqual(split(records), (b"hello\n", b"there\n"))
        again = client.subscribe(run["id"], until="closed").collect()
        self.assertEqual([r for r in again if r.kind != K_EMPTY][:len(records)],
                         [r for r in records if r.kind != K_EMPTY])

    def test_one_source_alone(self):
        client = self.client()
        run, subscription = self.sh(client, "for i in 1 2 3; do echo o$i; echo e$i >&2; done",
                                    subscribe={"sources": ["stderr"]})
        records = subscription.collect()
        self.assertEqual(split(records), (b"", b"e1\ne2\ne3\n"))
        self.assertEqual({r.source for r in records if r.kind == K_CLOSED} - {STDERR}, set())
        records = client.subscribe(run["id"], sources=["stdout"]).collect()
        self.assertEqual(split(records), (b"o1\no2\no3\n", b""))
