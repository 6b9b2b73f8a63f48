# SPDX-License-Identifier: MIT
"""Subscriptions: credit, offsets, lines, times, runs, retention, bounds of one reader."""

import time

from pmux_client import (END_CANCELLED, END_REACHED, END_REMOVED, K_CLOSED, K_DATA, K_EXIT, K_GAP, K_START,
                         NO_LIMIT,
                         STDOUT, Deadline)
from pmux_daemon import wait_until
from pmux_test import ENV, PmuxTest, Sequence, program, scale, split

MIB = 1 << 20


def data_of(records):
    return b"".join(r.data for r in records if r.kind == K_DATA)


class Subscribe(PmuxTest):
    def finished(self, client, text, *args, **params):
        run = self.sh(client, text, *args, **params)
        self.ended(client, run["id"], for_="empty")
        return run["id"]

    def test_resume_at_every_offset(self):
        client = self.client()
        target = self.finished(client, "printf 0123456789; printf abc >&2; printf xyz")
        whole = client.subscribe(target).collect()
        text = data_of(whole)
        self.assertEqual(len(text), 16)
        for offset in range(17):
            subscription = client.subscribe(target, from_=offset)
            self.assertEqual(subscription.begin, offset)
            records = subscription.collect()
            self.assertEqual(data_of(records), text[offset:], "from %d" % offset)
            self.assertEqual(records[-1].kind, K_EXIT)
            client.forget_stream(subscription)
        self.assert_error("invalid-argument", client.subscribe, target, from_=17)

    def test_resume_after_a_break_is_exact(self):
        client = self.client()
        total = scale(4, 16, 64) * MIB
        run = client.run([program("sequence"), "-o", str(total), "-s", "31"], retention_bytes=2 * total)
        reader = self.daemon.client(reconnect=True)
        subscription = reader.subscribe(run["id"])
        sequence = Sequence(31)
        n, next_break = 0, total // 16
        kinds = []
        while True:
            record = subscription.next()
            if record is None:
                break
            if record.kind == K_DATA:
                sequence.feed(record.data)
                n += len(record.data)
                if n >= next_break:  # by bytes: how many records they come in is a matter of speed
                    reader.break_connection()
                    next_break = n + total // 16
            else:
                kinds.append(record.kind)
        self.assertEqual(sequence.finish(), total)
        self.assertGreater(subscription.n_resumed, 2)
        self.assertEqual((kinds.count(K_START), kinds.count(K_EXIT), kinds.count(K_GAP)), (1, 1, 0))

    def test_credit_is_respected(self):
        """Nothing beyond the limit, and all up to it; the daemon's other streams go on."""
        client = self.client()
        run = client.run([program("sequence"), "-o", str(MIB), "-s", "1"])
        self.ended(client, run["id"])
        subscription = client.subscribe(run["id"], credit=1000, auto_credit=False)
        sequence = Sequence(1)
        limit = 1000
        n_data = 0
        while n_data < 50_000:
            wait_until(lambda: subscription.received() >= limit - 64,
                       what="the credit to be used (%d of %d)" % (
                subscription.received(), limit))
            while subscription.queued():
                record = subscription.next()
                if record.kind == K_DATA:
                    sequence.feed(record.data)
                    n_data += len(record.data)
            with self.assertRaises(Deadline):
                subscription.next(0.02)
            self.assertLessEqual(subscription.received(), limit)
            client.call("version")
            limit += 7777
            subscription.grant(limit)
            subscription.grant(limit - 5000)  # a lower value is ignored
        subscription.grant(NO_LIMIT)
        for record in subscription:
            if record.kind == K_DATA:
                sequence.feed(record.data)
        self.assertEqual(sequence.finish(), MIB)
        self.assertEqual(subscription.end_reason, END_REACHED)

    def test_no_credit_and_the_end_of_a_stream(self):
        client = self.client()
        target = self.finished(client, "echo hello")
        subscription = client.subscribe(target, credit=0, auto_credit=False)
        with self.assertRaises(Deadline):
            subscription.next(0.1)
        subscription.cancel()
        self.assertIsNone(subscription.next())  # the end needs no credit
        self.assertEqual(subscription.end_reason, END_CANCELLED)

    def test_one_stream_without_credit_starves_no_other(self):
        client = self.client()
        run = client.run([program("sequence"), "-o", str(4 * MIB), "-s", "2"])
        stuck = client.subscribe(run["id"], credit=100, auto_credit=False)
        records = client.subscribe(run["id"]).collect()
        sequence = Sequence(2)
        sequence.feed(data_of(records))
        self.assertEqual(sequence.finish(), 4 * MIB)
        self.assertLessEqual(stuck.received(), 100)

    def test_no_limit(self):
        client = self.client()
        run, subscription = client.run([program("sequence"), "-o", str(8 * MIB), "-s", "2"],
                                       subscribe={"credit": NO_LIMIT})
        sequence = Sequence(2)
        sequence.feed(data_of(subscription.collect()))
        self.assertEqual(sequence.finish(), 8 * MIB)

    def test_follow_false_ends_at_the_end(self):
        client = self.client()
        run = self.sh(client, "echo one; read line; echo two")
        client.subscribe(run["id"]).read_until_bytes(b"one\n")
        subscription = client.subscribe(run["id"], follow=False)
        self.assertEqual(data_of(subscription.collect()), b"one\n")
        self.assertEqual((subscription.end_reason, subscription.end_offset), (END_REACHED, 4))

    def test_from_end(self):
        client = self.client()
        run = self.sh(client, "echo one; read line; echo two")
        client.subscribe(run["id"]).read_until_bytes(b"one\n")
        subscription = client.subscribe(run["id"], from_="end")
        self.assertEqual(subscription.begin, 4)
        client.write(run["id"], b"\n")
        records = subscription.collect()
        self.assertEqual(data_of(records), b"two\n")

    def test_last_lines(self):
        client = self.client()
        target = self.finished(client, "for i in $(seq 1000); do echo line $i; done; printf unfinished")
        for n, wanted in ((0, b""), (1, b"unfinished"), (2, b"line 1000\nunfinished"),
                          (101, b"".join(b"line %d\n" % i for i in range(901, 1001)) + b"unfinished")):
            self.assertEqual(data_of(client.subscribe(target, last_lines=n).collect()), wanted, n)
        everything = data_of(client.subscribe(target, last_lines=5000).collect())
        self.assertEqual(everything.count(b"\n"), 1000)
        target = self.finished(client, "for i in 1 2 3; do echo o$i; echo e$i >&2; sleep 0.02; done")
        self.assertEqual(data_of(client.subscribe(target, last_lines=2, sources=["stderr"]).collect()),
                         b"e2\ne3\n")

    def test_since(self):
        client = self.client()
        run, subscription = self.sh(client, "echo one; read line; echo two; read line", subscribe=True)
        subscription.read_until_bytes(b"one\n")
        time.sleep(0.01)  # so that the clock's microseconds tell the two apart
        since = int(time.time() * 1e6)
        client.write(run["id"], b"\n")
        subscription.read_until_bytes(b"two\n")
        client.write(run["id"], b"\n")
        subscription.collect()
        records = client.subscribe(run["id"], since_usec=since).collect()
        self.assertEqual(data_of(records), b"two\n")
        self.assertTrue(all(r.time >= since for r in records))
        self.assertEqual(data_of(client.subscribe(run["id"], since_usec=since + 10**12).collect()), b"")
        self.assertEqual(data_of(client.subscribe(run["id"], since_usec=0).collect()), b"one\ntwo\n")

    def test_head_bytes(self):
        client = self.client()
        target = self.finished(client, "printf 0123456789")
        for n in (1, 5, 10):
            subscription = client.subscribe(target, head_bytes=n)
            self.assertEqual(data_of(subscription.collect()), b"0123456789"[:n])
            self.assertEqual(subscription.end_reason, END_REACHED)
            self.assertEqual(subscription.end_offset, n)
        self.assertEqual(data_of(client.subscribe(target, from_=3, head_bytes=4).collect()), b"3456")
        self.assertEqual(data_of(client.subscribe(target, head_bytes=100).collect()), b"0123456789")

    def test_without_sources_there_are_records_but_no_bytes(self):
        client = self.client()
        target = self.finished(client, "echo out; echo err >&2; exit 4")
        records = client.subscribe(target, sources=[]).collect()
        self.assertNotIn(K_DATA, [r.kind for r in records])
        self.assertEqual([r.arg & 255 for r in records if r.kind == K_EXIT], [4])
        self.assertEqual([r.offset for r in records if r.kind == K_EXIT], [8])

    def test_contradictions_are_refused(self):
        client = self.client()
        target = self.finished(client, "echo x")
        for params in ({"from_": 0, "last_lines": 1}, {"from_": "end", "since_usec": 1},
                       {"since_usec": 1, "last_lines": 1},
                       {"sources": [], "last_lines": 1}, {"sources": ["none"]}, {"from_": "middle"}, {"until": "never"},
                       {"from_": -1},
                       {"credit": -1}):
            self.assert_error("invalid-argument", client.subscribe, target, **params)
        subscription = client.subscribe(target, until="forever")
        self.assert_error("invalid-argument", client.call, "subscribe",
                          {"target": target, "stream": subscription.stream})

    def test_gap_by_retention(self):
        client = self.client()
        total = 8 * MIB
        run = client.run([program("sequence"), "-o", str(total), "-s", "1"], retention_bytes=MIB)
        self.ended(client, run["id"])
        shown = client.show(run["id"])["log"]
        self.assertGreaterEqual(shown["end"] - shown["begin"], MIB)
        self.assertLess(shown["end"] - shown["begin"], 3 * MIB)
        self.assertEqual((shown["end"], shown["lost_bytes"]), (total, 0))
        records = client.subscribe(run["id"], from_=0).collect()
        gaps = [r for r in records if r.kind == K_GAP]
        self.assertEqual([(g.offset, g.arg) for g in gaps], [(0, shown["begin"])])
        self.assertEqual(records[0].kind, K_GAP, "the gap is the first frame")
        self.assertEqual(len(data_of(records)), total - shown["begin"])
        middle = shown["begin"] - 1000
        records = client.subscribe(run["id"], from_=middle).collect()
        self.assertEqual((records[0].kind, records[0].offset, records[0].arg), (K_GAP, middle, 1000))
        listed = client.list()[0]
        self.assertEqual((listed["log_begin"], listed["log_end"]), (shown["begin"], shown["end"]))

    def test_removed_while_followed(self):
        client = self.client()
        run = self.sh(client, "echo x; exec sleep 1000")
        subscription = client.subscribe(run["id"], until="forever")
        subscription.read_until_bytes(b"x\n")
        client.remove(run["id"], force=True)
        subscription.collect()
        self.assertEqual(subscription.end_reason, END_REMOVED)
        self.assert_error("not-found", client.show, run["id"])

    def test_until_forever_sees_later_runs(self):
        client = self.client()
        run = self.sh(client, "echo run")
        subscription = client.subscribe(run["id"], until="forever")
        subscription.read_until(lambda r: r.kind == K_EXIT)
        self.ended(client, run["id"], for_="empty")
        client.start(run["id"])
        records = subscription.read_until(lambda r: r.kind == K_EXIT)
        self.assertEqual({r.run for r in records if r.kind in (K_START, K_DATA)}, {2})
        self.assertEqual(data_of(records), b"run\n")

    def test_until_closed_has_both_closes(self):
        client = self.client()
        _, subscription = self.sh(client, "echo x", subscribe={"until": "closed"})
        records = subscription.collect()
        self.assertEqual(len([r for r in records if r.kind == K_CLOSED]), 2)
        self.assertIn(K_EXIT, [r.kind for r in records])

    def test_small_retention_and_a_slow_lossless_reader(self):
        """The child waits as on a pipe: at most what is kept is ahead of the reader; then it all comes."""
        client = self.client()
        total = scale(2, 8, 64) * MIB
        run, subscription = client.run([program("sequence"), "-o", str(total), "-s", "1"],
                                       retention_bytes=64 << 10,
                                       subscribe={"lossless": True, "credit": 20_000})
        sequence = Sequence(1)
        most = 0
        n = 0
        while True:
            record = subscription.next()
            if record is None:
                break
            self.assertNotEqual(record.kind, K_GAP)
            if record.kind == K_DATA:
                sequence.feed(record.data)
                n += 1
                if n % 50 == 0:
                    log = client.show(run["id"])["log"]
                    most = max(most, log["end"] - record.offset)
        self.assertEqual(sequence.finish(), total)
        self.assertLess(most, MIB, "the child ran ahead of a lossless reader")

    def test_many_subscriptions_on_one_connection(self):
        client = self.client()
        run, first = client.run(["/bin/cat"], env=ENV, subscribe=True)
        subscriptions = [first] + [client.subscribe(run["id"]) for _ in range(scale(30, 200, 200))]
        stream = client.open_stdin(run["id"])
        text = b"".join(b"%d\n" % i for i in range(5000))
        stream.write(text, eof=True)
        for subscription in subscriptions:
            self.assertEqual(data_of(subscription.collect()), text)

    def test_stdout_null_has_nothing_in_the_log(self):
        client = self.client()
        _, subscription = self.sh(client, "echo x; echo y >&2", stdout="null", subscribe={"until": "closed"})
        self.assertEqual(split(subscription.collect()), (b"", b"y\n"))

    def test_log_time_is_the_time_of_arrival(self):
        client = self.client()
        before = int(time.time() * 1e6)
        _, subscription = self.sh(client, "echo x", subscribe=True)
        records = subscription.collect()
        after = int(time.time() * 1e6)
        for record in records:
            self.assertTrue(before <= record.time <= after, (before, record, after))
        self.assertEqual([r.source for r in records if r.kind == K_DATA], [STDOUT])
