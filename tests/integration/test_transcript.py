# SPDX-License-Identifier: MIT
"""A log that holds what was written to stdin as well: who, what, once, in its place."""

import os
import threading

from pmux_client import K_DATA, K_GAP, K_START, K_WRITER, STDIN, STDOUT, random_key
from pmux_daemon import wait_until
from pmux_test import PmuxTest, Sequence, scale

MIB = 1 << 20
ALL = ["stdout", "stderr", "stdin"]


def data_of(records, source):
    return b"".join(r.data for r in records if r.kind == K_DATA and r.source == source)


class Transcript(PmuxTest):
    def test_question_stands_before_answer_with_who_asked(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], transcript=True, data=b"first\n",
                                       subscribe={"sources": ALL})
        subscription.read_until_bytes(b"first\nfirst\n")
        client.write(run["id"], b"second\n", eof=True)
        records = subscription.collect()
        records = client.subscribe(run["id"], run=1, sources=ALL).collect()
        text = [(r.source, r.data) for r in records if r.kind == K_DATA]
        self.assertEqual(text, [(STDIN, b"first\n"), (STDOUT, b"first\n"), (STDIN, b"second\n"),
                                (STDOUT, b"second\n")])
        writers = [r for r in records if r.kind == K_WRITER]
        self.assertEqual([(r.arg, r.source) for r in writers], [(os.getpid(), STDIN)] * 2)
        self.assertEqual([r.offset for r in writers], [0, 12])
        self.assertTrue(client.show(run["id"])["transcript"])

    def test_who_does_not_ask_for_it_gets_none_of_it(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], transcript=True, subscribe=True)
        client.write(run["id"], b"x" * 100_000, eof=True)
        records = subscription.collect()
        self.assertEqual({r.source for r in records if r.kind == K_DATA}, {STDOUT})
        self.assertEqual(len(data_of(records, STDOUT)), 100_000)
        self.assertEqual([r for r in records if r.kind == K_WRITER], [])
        alone = client.subscribe(run["id"], sources=["stdin"]).collect()
        self.assertEqual(data_of(alone, STDIN), b"x" * 100_000)
        lines = client.subscribe(run["id"], sources=["stdout"], last_lines=1).collect()
        self.assertEqual(len(data_of(lines, STDOUT)), 100_000)
        plain, subscription = client.run(["/bin/cat"], data=b"y", eof=True, subscribe={"sources": ALL})
        self.assertEqual(data_of(subscription.collect(), STDIN), b"")
        self.assertFalse(client.show(plain["id"])["transcript"])

    def test_it_is_read_like_output(self):
        client = self.client()
        p = client.run(["/bin/cat"], transcript=True)["id"]
        waiting = client.submit("wait", {"targets": [p], "conditions": [
            {"for": "pattern", "pattern": "t(w)o", "sources": ["stdin"]}]})
        client.write(p, b"one\ntwo\nrest")
        for text in (b"one\n", b"two\n"):
            got = client.read(p, cursor="in", sources=["stdin"], for_="line")
            self.assertEqual((got["reason"], got["data"]), ("satisfied", text))
        self.assertEqual(waiting.result()["satisfied"][0]["offset"], 7)
        client.read(p, cursor="out", sources=["stdout"], for_="separator", separator="rest")
        got = client.ask(p, b" it is\n", sources=ALL, for_="separator", separator="is\n it is\n")
        self.assertEqual(got["data"], b" it is\n it is\n")
        waiting = client.submit_read(p, cursor="in", sources=["stdin"], for_="exactly", n=100)
        client.close_stdin(p)
        got = waiting.result()
        self.assertEqual((got["reason"], got["data"]), ("eof", b"rest it is\n"))

    def test_its_end_is_that_of_stdin(self):
        """Neither before stdin is closed, though the output is, nor only when the process ends."""
        client = self.client()
        p = self.sh(client, "exec >&- 2>&-; read -r a; read -r b; exec sleep 1000", transcript=True)["id"]
        client.wait(p, for_="closed")
        self.assertEqual(client.read(p, sources=ALL, for_="eof", peek=True, timeout_usec=100_000)["reason"], "timeout")
        waiting = client.submit_read(p, sources=ALL, for_="eof")
        client.write(p, b"a\n")
        client.write(p, b"b\n", eof=True)
        got = waiting.result()
        self.assertEqual((got["reason"], got["data"]), ("satisfied", b"a\nb\n"))
        self.assertEqual(client.show(p)["state"], "running")
        q = self.sh(client, "read -r a", transcript=True)["id"]
        waiting = client.submit_read(q, sources=["stdin"], for_="eof")
        client.write(q, b"last\n")  # and left open
        self.assertEqual(waiting.result()["data"], b"last\n")
        client.stop(p, now=True)

    def test_what_is_not_kept_cannot_be_read(self):
        client = self.client()
        p = client.run(["/bin/cat"])["id"]
        for method, params in (("read", {"sources": ["stdin"]}), ("ask", {"sources": ALL, "data": "x\n"}),
                               ("wait", {"conditions": [{"for": "bytes", "n": 1, "sources": ["stdin"]}]})):
            params = dict(params, targets=[p]) if method == "wait" else dict(params, target=p)
            error = self.assert_error("unsupported", client.call, method, params)
            self.assertIn("transcript", error.message, method)
        self.assertEqual(client.show(p)["stdin_log"]["accepted"], 0, "nothing was asked")

    def test_a_retry_is_not_written_down_twice(self):
        client = self.client()
        run = client.run(["/bin/cat"], transcript=True)
        key, writer = random_key(), random_key()
        for _ in range(3):
            client.write(run["id"], b"once\n", key=key)
        for _ in range(2):
            stream = self.client().open_stdin(run["id"], writer=writer)
            stream.sent = stream.accepted
            if stream.accepted == 0:
                stream.write(b"stream\n")
                stream.wait_accepted()
        client.close_stdin(run["id"])
        self.ended(client, run["id"])
        self.assertEqual(data_of(client.subscribe(run["id"], sources=["stdin"]).collect(), STDIN),
                         b"once\nstream\n")

    def test_it_is_exact_when_engines_are_killed(self):
        """Nothing of what was accepted is missing, nothing stands twice, in the transcript as in the output."""
        client = self.client(reconnect=True)
        run = client.run(["/bin/cat"], transcript=True, retention_bytes=512 * MIB)
        sequence = Sequence(11)
        n, size = scale(60, 250, 1500), 16
        done = threading.Event()

        def kill():
            while not done.wait(0.02):
                self.daemon.kill_engine()
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        try:
            for number in range(n):
                client.write(run["id"], b"".join(sequence.block(number * size + i) for i in range(size)),
                             timeout_usec=60_000_000, timeout=60)
        finally:
            done.set()
            thread.join(60)
        self.assertGreater(self.daemon.n_engine_kills, 3)
        client.close_stdin(run["id"])
        self.ended(client, run["id"])
        for source in ("stdin", "stdout"):
            check = Sequence(11)
            for record in client.subscribe(run["id"], sources=[source]):
                if record.kind == K_DATA:
                    check.feed(record.data)
            self.assertEqual(check.finish(), n * size * Sequence.BLOCK, source)

    def test_more_than_the_log_keeps(self):
        client = self.client()
        run = self.sh(client, "cat >/dev/null; echo end", transcript=True, retention_bytes=64 << 10)
        for _ in range(4):
            client.write(run["id"], b"z" * MIB, drain=True)
        self.daemon.kill_engine()
        client = self.client()
        client.write(run["id"], b"the end", eof=True)
        self.ended(client, run["id"])
        records = client.subscribe(run["id"], sources=["stdin"]).collect()
        text = data_of(records, STDIN)
        self.assertTrue(text.endswith(b"zzthe end"))
        self.assertLess(len(text), 300_000)
        self.assertGreater(client.show(run["id"])["log"]["end"], 4 * MIB)

    def test_who_wrote_what_while_retention_drops_the_rest(self):
        """Of many writers and an engine that is killed among them: what is kept is the end of it, each piece its writer's."""
        client = self.client(reconnect=True)
        p = client.run(["/bin/cat"], transcript=True, retention_bytes=64 << 10)["id"]
        pids, whole = {}, b""
        for i in range(24):
            letter = bytes([65 + i])
            writer = self.daemon.cli_start("write", "-N", str(p), (letter * 8192).decode())
            _, said = writer.communicate(timeout=30)
            self.assertEqual(writer.returncode, 0, said)
            pids[letter] = writer.pid
            whole += letter * 8192
            if i % 8 == 5:
                self.daemon.kill_engine()
        client.close_stdin(p)
        self.ended(client, p, for_="empty")
        records = client.subscribe(p, from_=0, sources=ALL).collect()
        who, n_known, kept = None, 0, b""
        for record in records:
            if record.kind == K_WRITER:
                who = record.arg
            elif record.kind == K_DATA and record.source == STDIN:
                if who is not None:  # whose piece was cut by retention is not known
                    self.assertEqual({pids[bytes([byte])] for byte in set(record.data)}, {who})
                    n_known += 1
                kept += record.data
        self.assertTrue(whole.endswith(kept) and len(kept) >= 16384, len(kept))
        self.assertGreaterEqual(n_known, 2)
        gaps = [r for r in records if r.kind == K_GAP]
        self.assertEqual((gaps[0].offset, len(gaps)), (0, 1), "what is missing is said, and where")
        self.assertEqual(gaps[0].arg + sum(len(r.data) for r in records if r.kind == K_DATA), 2 * len(whole))

    def test_input_before_the_program_runs(self):
        """All that is written while a start is under way stands behind the record of the start."""
        client = self.client()
        started = client.submit("run", {"argv": ["/bin/cat"], "name": "early", "transcript": True, "data": "1"})
        waiting = [client.submit("write", {"target": "early", "data": str(i)}) for i in range(2, 10)]
        started.result()
        for pending in waiting:
            pending.result()
        client.close_stdin("early")
        self.ended(client, "early")
        records = client.subscribe("early", run=1, sources=ALL).collect()
        self.assertEqual(data_of(records, STDIN), b"123456789")
        kinds = [r.kind for r in records]
        self.assertEqual(kinds[:2], [K_START, K_WRITER])
        self.assertEqual({r.arg for r in records if r.kind == K_WRITER}, {os.getpid()})

    def test_a_lossless_reader_that_is_behind_makes_input_wait(self):
        client = self.client()
        run = self.sh(client, "exec cat >/dev/null", transcript=True, retention_bytes=64 << 10)
        reader = self.client()
        slow = reader.subscribe(run["id"], sources=ALL, lossless=True, credit=1000, auto_credit=False)
        client.write(run["id"], b"q" * MIB)
        wait_until(lambda: client.show(run["id"])["log"]["end"] > 0, what="a part of it in the log")
        shown = client.show(run["id"])
        self.assertLess(shown["log"]["end"], MIB)
        self.assertEqual(shown["stdin_log"]["taken"], 0)
        waiting = self.daemon.client().submit("write", {"target": run["id"], "data": "more", "drain": True})
        slow.grant(1 << 40)
        waiting.result()
        client.close_stdin(run["id"])
        self.assertEqual(data_of(slow.collect(), STDIN), b"q" * MIB + b"more")

    def test_an_engine_that_is_killed_in_the_middle_of_a_copy(self):
        """A reader that is behind stops the copy on its way; the next engine goes on where it stopped."""
        client = self.client()
        run = self.sh(client, "exec cat >/dev/null", transcript=True, retention_bytes=64 << 10)
        reader = self.daemon.client(reconnect=True)
        slow = reader.subscribe(run["id"], sources=ALL, lossless=True, credit=1000, auto_credit=False)
        sequence = Sequence(5)
        client.write(run["id"], b"".join(sequence.block(i) for i in range(256)))
        wait_until(lambda: client.show(run["id"])["log"]["end"] > 0, what="a part of it in the log")
        self.assertLess(client.show(run["id"])["log"]["end"], MIB)
        self.daemon.kill_engine()
        wait_until(lambda: slow.n_resumed == 1 and slow.opened, what="the reader to be back")
        client = self.client()
        slow.grant(1 << 40)
        client.write(run["id"], b"", eof=True)
        check = Sequence(5)
        for record in slow.collect():
            if record.kind == K_DATA:
                self.assertEqual(record.source, STDIN)
                check.feed(record.data)
        self.assertEqual(check.finish(), MIB)

    def test_by_the_command_line(self):
        cli = self.daemon.cli
        text = "while read l; do echo \"out $l\"; done; echo end >&2"
        done = cli("run", "--transcript", "-n", "t", "--", "/bin/sh", "-c", text, input=b"one\ntwo\n", check=0)
        self.assertEqual((done.stdout, done.stderr), (b"out one\nout two\n", b"end\n"))
        self.assertEqual(cli("logs", "--stdin", "t", check=0).stdout, b"one\ntwo\n")
        done = cli("logs", "t", check=0)
        self.assertEqual((done.stdout, done.stderr), (b"out one\nout two\n", b"end\n"))
        done = cli("logs", "--transcript", "t", check=0)
        lines = (done.stdout + done.stderr).decode().splitlines()
        self.assertEqual([line for line in lines if "stdin" in line], ["stdin | one", "stdin | two"], lines)
        self.assertEqual([line for line in lines if "out " in line and "stdout" in line],
                         ["stdout | out one", "stdout | out two"], lines)
        self.assertEqual([line for line in lines if "end" in line], ["stderr | end"], lines)
        cli("run", "-n", "plain", "--", "/bin/cat", input=b"kept nowhere\n", check=0)
        self.assertEqual(cli("logs", "--stdin", "plain", check=0).stdout, b"")
        self.assertEqual(cli("logs", "--transcript", "plain", check=0).stdout, b"stdout | kept nowhere\n")

    def test_json_by_the_command_line_tells_who_wrote(self):
        cli = self.daemon.cli
        cli("run", "-d", "--transcript", "-n", "j", "--", "/bin/cat", check=0)
        writer = self.daemon.cli_start("write", "--eof", "j", "said")
        writer.communicate(timeout=20)
        self.ended(self.client(), "j", for_="empty")
        lines = self.json_lines(cli("--json", "logs", "--transcript", "j", check=0).stdout)
        data = [(line["type"], line["data"]) for line in lines if "data" in line]
        self.assertEqual(data, [("stdin", "said\n"), ("stdout", "said\n")], lines)
        self.assertEqual([line["pid"] for line in lines if line["type"] == "writer"], [writer.pid], lines)
