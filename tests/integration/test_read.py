# SPDX-License-Identifier: MIT
"""read, ask, cursors: what is taken is taken once, why a read is over is said, and kills change nothing."""

import os
import random
import signal
import sys
import threading
import time

from pmux_client import NULL, RpcError, random_key
from pmux_daemon import pss_bytes, rss_bytes, wait_until
from pmux_test import SANITIZED, PmuxTest, scale

MIB = 1 << 20
ECHO = "while read -r l; do echo \"got $l\"; done"


def comm(pid):
    with open("/proc/%d/comm" % pid) as f:
        return f.read().strip()


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Reading(PmuxTest):
    def one(self, client, text, **params):
        """A process that has written text and goes on."""
        run, subscription = self.sh(client, "printf '%s' \"$1\"; exec sleep 1000", text, subscribe=True, **params)
        if text:
            subscription.read_until_bytes(text.encode())
        return run["id"]

    def test_every_kind_takes_what_it_says(self):
        client = self.client()
        p = self.one(client, "one\ntwo--three--4567 >>> ")
        for params, data in (({"for_": "line"}, b"one\n"), ({"for_": "separator", "separator": "--"}, b"two--"),
                             ({"for_": "exactly", "n": 3}, b"thr"), ({"n": 2}, b"ee"),
                             ({"for_": "pattern", "pattern": r"\d(\d)(?<last>\d)"}, b"--456"),
                             ({"for_": "pattern", "pattern": ">>> $"}, b"7 >>> ")):
            got = client.read(p, **params)
            self.assertEqual((got["reason"], got["data"], got["bytes"]), ("satisfied", data, len(data)), params)
            self.assertEqual(got["next"] - got["from"], len(data))
            if "456" in str(data):
                self.assertEqual(got["match"], {"from": 2, "to": 5, "groups": [
                    {"n": 0, "name": None, "from": 2, "to": 5}, {"n": 1, "name": None, "from": 3, "to": 4},
                    {"n": 2, "name": "last", "from": 4, "to": 5}]})
        self.assertEqual(client.cursors(p), {b"default": 25})

    def test_the_deadline_consumes_nothing(self):
        client = self.client()
        p = self.one(client, "partial")
        begin = time.monotonic()
        got = client.read(p, for_="line", timeout_usec=200_000)
        self.assertGreaterEqual(time.monotonic() - begin, 0.2)
        self.assertEqual((got["reason"], got["data"], got["next"]), ("timeout", b"partial", 0))
        self.assertEqual(client.cursors(p), {})
        got = client.read(p, for_="exactly", n=10, timeout_usec=0)
        self.assertEqual((got["reason"], got["data"], got["missing"], got["next"]), ("timeout", b"partial", 3, 0))
        self.assertEqual(client.read(p)["data"], b"partial")
        self.assertEqual(client.read(p, timeout_usec=0)["data"], b"")

    def test_a_read_that_waits_is_answered_when_it_comes(self):
        client, writer = self.client(), self.client()
        p = self.sh(client, ECHO)["id"]
        waiting = [client.submit_read(p, cursor=name, for_="line") for name in ("a", "b")]
        pattern = client.submit_read(p, cursor="c", for_="pattern", pattern="tw(o)\n")
        for text in (b"o", b"ne\nt", b"wo\n"):
            writer.write(p, text)
        for pending in waiting:
            self.assertEqual(pending.result()["data"], b"got one\n")
        got = pattern.result()
        self.assertEqual((got["data"], got["match"]["from"]), (b"got one\ngot two\n", 12))
        self.assertEqual(client.cursors(p), {b"a": 8, b"b": 8, b"c": 16})

    def test_one_cursor_gives_each_line_to_one_reader(self):
        clients = [self.client() for _ in range(4)]
        writer = self.client()
        n = scale(100, 400, 4000)
        p = self.sh(writer, "cat")["id"]
        got, failures = [], []

        def take(client):
            try:
                while True:
                    answer = client.read(p, for_="line", timeout=60)
                    if answer["reason"] == "eof":
                        return
                    got.append(answer["data"])
            except BaseException as error:
                failures.append(error)
        threads = [threading.Thread(target=take, args=(client,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        for i in range(n):
            writer.write(p, b"%d\n" % i)
        writer.close_stdin(p)
        for thread in threads:
            thread.join(60)
        self.assertEqual(failures, [])
        self.assertEqual(sorted(map(int, got)), list(range(n)))

    def test_a_cursor_outlasts_client_and_engine_and_is_bounded(self):
        client = self.client()
        p = self.one(client, "one\ntwo\n")
        client.read(p, cursor=b"\xff odd", for_="line")
        self.assertEqual(client.set_cursor(p, "far", "end"), 8)
        self.daemon.kill_engine()
        client = self.client()
        self.assertEqual(client.cursors(p), {b"\xff odd": 4, b"far": 8})
        self.assertEqual(client.read(p, cursor=b"\xff odd")["data"], b"two\n")
        self.assertIsNone(client.set_cursor(p, "far", NULL))
        for i in range(63):
            client.set_cursor(p, "c%d" % i, i % 9)
        self.assert_error("limit", client.set_cursor, p, "one more", 0)
        self.assert_error("limit", client.read, p, cursor="one more", for_="line")
        for name in ("", "a\nb", "x" * 65):
            self.assert_error("invalid-argument", client.set_cursor, p, name, 0)
        self.assert_error("invalid-argument", client.set_cursor, p, "c1", 9)
        client.stop(p, now=True)
        client.remove(p)
        self.assert_error("not-found", client.cursors, p)

    def test_the_end_of_a_run(self):
        client = self.client()
        p = self.sh(client, "printf 'a\nlast'; printf err >&2")["id"]
        self.ended(client, p, for_="empty")
        self.assertEqual(client.read(p, cursor="x", sources=["stdout"], for_="exactly", n=100)["missing"], 94)
        got = client.read(p, for_="line", sources=["stdout"])
        self.assertEqual((got["reason"], got["data"]), ("satisfied", b"a\n"))
        got = client.read(p, for_="line", sources=["stdout"])
        self.assertEqual((got["reason"], got["data"], got["run"]), ("eof", b"last", 1))
        got = client.read(p, for_="line", sources=["stdout"])
        self.assertEqual((got["reason"], got["data"]), ("eof", b""))
        waiting = client.submit_read(p, cursor="w", from_="end", for_="line", run=None)
        self.assertEqual(waiting.result()["reason"], "eof")
        client.start(p)
        got = client.read(p, for_="line", sources=["stdout"])
        self.assertEqual((got["reason"], got["data"], got["run"]), ("satisfied", b"a\n", 2), "it goes on in the next run")
        self.ended(client, p, for_="empty")
        got = client.read(p, run=1, for_="eof", cursor=NULL, sources=["stderr"])
        self.assertEqual((got["reason"], got["data"]), ("satisfied", b"err"))
        got = client.read(p, from_="start", cursor="r", for_="exactly", n=12, sources=["stdout"])
        self.assertEqual((got["reason"], got["data"]), ("eof", b"a\nlast"), "nothing of the next run is added")

    def test_a_run_begins_where_it_began(self):
        """Nothing of the runs before it is given, wherever the read is to begin."""
        client = self.client()
        p = self.sh(client, "echo abcde")["id"]
        self.ended(client, p, for_="empty")
        client.start(p)
        self.ended(client, p, for_="empty")
        for run, from_, data in ((2, 0, b"abcde\n"), (2, "start", b"abcde\n"), (2, 5, b"abcde\n"), (2, 6, b"abcde\n"),
                                 (2, 8, b"cde\n"), (2, 12, b""), (1, 2, b"cde\n"), (1, 6, b""), (1, 8, b"")):
            got = client.read(p, run=run, from_=from_, for_="eof", cursor=NULL)
            self.assertEqual((got["reason"], got["data"], got["run"]), ("satisfied", data, run), (run, from_))

    def test_quiet(self):
        client = self.client()
        p = self.sh(client, "for i in 1 2 3 4 5; do printf $i; sleep 0.1; done; exec sleep 1000")["id"]
        got = client.read(p, for_="quiet", quiet_usec=500_000)
        self.assertEqual((got["reason"], got["data"]), ("satisfied", b"12345"))
        begin = time.monotonic()
        got = client.read(p, from_="start", for_="quiet", quiet_usec=100_000)
        self.assertLess(time.monotonic() - begin, 0.09, "it has been quiet for long")
        got = client.read(p, for_="quiet", quiet_usec=10_000, timeout_usec=200_000)
        self.assertEqual((got["reason"], got["data"]), ("timeout", b""), "nothing has come")

    def test_quiet_counts_from_a_byte_that_came_with_the_request(self):
        client = self.client()
        fifo = os.path.join(self.tmp, "fifo")
        os.mkfifo(fifo)
        run = self.sh(client, "read -r l < \"$1\"; printf a; exec sleep 1000", fifo)
        silent = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > silent, what="half a second of silence")
        engine = self.daemon.engine_pid()
        os.kill(engine, signal.SIGSTOP)
        try:
            pending = client.submit_read(run["id"], for_="quiet", quiet_usec=400_000)
            with open(fifo, "w") as f:
                f.write("go\n")
            wait_until(lambda: comm(run["pid"]) == "sleep", what="the byte to be written")
            begin = time.monotonic()
        finally:
            os.kill(engine, signal.SIGCONT)
        got = pending.result()
        self.assertEqual((got["reason"], got["data"]), ("satisfied", b"a"))
        self.assertGreater(time.monotonic() - begin, 0.35)

    def test_too_much_without_what_was_read_for(self):
        client = self.client()
        p = self.sh(client, "head -c 100000 /dev/zero | tr '\\0' x; echo; exec sleep 1000")["id"]
        self.assert_error("too-large", client.read, p, for_="line", max_bytes=65536)
        self.assert_error("too-large", client.read, p, for_="separator", separator="no", max_bytes=100_000)
        self.assert_error("too-large", client.read, p, for_="eof", max_bytes=1000)
        self.assertEqual(client.cursors(p), {})
        self.assertEqual(client.read(p, for_="line", max_bytes=100_001)["bytes"], 100_001)

    def test_peek_and_sources_and_cancel(self):
        client = self.client()
        p = self.sh(client, "printf a; sleep 0.1; printf b >&2; sleep 0.1; printf 'c\n'; exec sleep 1000")["id"]
        got = client.read(p, for_="line", sources=["stdout"], peek=True)
        self.assertEqual((got["data"], got["next"]), (b"ac\n", 4))
        self.assertEqual(client.read(p, sources=["stderr"], cursor="e")["data"], b"b")
        waiting = client.submit_read(p, for_="line", from_="end")
        client.call("cancel", {"request": waiting.id})
        self.assert_error("cancelled", waiting.result)
        self.assertEqual(client.cursors(p), {b"e": 2})

    def test_what_is_wrong_is_refused(self):
        client = self.client()
        p = self.one(client, "x")
        for params in ({"for_": "exactly"}, {"for_": "exactly", "n": 0}, {"for_": "line", "n": 5},
                       {"for_": "separator"}, {"for_": "separator", "separator": ""}, {"max_bytes": 8 * MIB + 1},
                       {"for_": "pattern", "pattern": "("}, {"for_": "quiet"}, {"for_": "nothing"}, {"from_": 2},
                       {"cursor": NULL}, {"sources": []}, {"for_": "exactly", "n": 2 * MIB}, {"cursor": "a\0b"}):
            self.assert_error("invalid-argument", client.read, p, **params)
        with self.assertRaises(RpcError) as caught:
            client.read(p, for_="pattern", pattern="a(b")
        self.assertIn("at byte 3", str(caught.exception))
        self.assert_error("not-found", client.read, p, run=2)

    def test_a_log_that_cannot_be_read_consumes_nothing(self):
        """What is only counted is read when it is answered: that fails before anything is moved or kept."""
        client = self.client()
        p = self.one(client, "0123456789")
        directory = os.path.join(self.daemon.state_dir, "processes", str(p))
        path, = [os.path.join(directory, n) for n in os.listdir(directory) if n.endswith(".log") and n[0].isdigit()]
        key = random_key()
        os.truncate(path, 0)
        for params in ({"for_": "exactly", "n": 5}, {"n": 5}, {"for_": "exactly", "n": 5, "key": key}):
            self.assert_error("system", client.read, p, **params)
            self.assertEqual(client.cursors(p), {}, params)
        with open(path, "r+b") as f:
            f.write(b"0123456789")
        self.assertEqual(client.read(p, for_="exactly", n=5, key=key)["data"], b"01234")
        self.assertEqual(client.read(p, n=5)["data"], b"56789")

    def test_an_answer_that_cannot_be_kept_consumes_nothing(self):
        client = self.client()
        p = self.one(client, "text")
        for i in range(64):
            client.set_cursor(p, "c%d" % i, 0)
        key = random_key()
        for _ in range(2):  # nothing of the first is kept under the key, either
            self.assert_error("limit", client.read, p, cursor="one more", key=key)
        client.set_cursor(p, "c0", NULL)
        self.assertEqual(client.read(p, cursor="one more", key=key)["data"], b"text")

    def test_a_client_that_leaves_consumes_nothing(self):
        """Not what it had gathered by then either."""
        client = self.client()
        p = client.run(["/bin/cat"])["id"]
        for begun in ("", "half "):
            other = self.daemon.client()
            other.submit_read(p, for_="line")
            wait_until(lambda: client.show(p)["subscribers"], what="the read to wait")
            if begun:
                client.write(p, begun)
                client.read(p, cursor=NULL, from_="start", for_="exactly", n=len(begun))  # and so had the other
            other.close()
            self.daemon.clients.remove(other)
            wait_until(lambda: not client.show(p)["subscribers"], what="the read to be gone")
            self.assertEqual(client.cursors(p), {})
        client.write(p, b"a line\n")
        self.assertEqual(client.read(p, for_="line")["data"], b"half a line\n")

    def test_large_answers_at_the_same_time_all_come(self):
        """One waits until those before it have been sent, and no longer, whatever else happens or not."""
        client, other = self.client(), self.client()
        for turn in range(3):
            p = self.sh(client, "read l; yes | head -c 2000000; exec sleep 1000")["id"]
            waiting = [other.submit_read(p, cursor=NULL, from_=0, for_="exactly", n=270000) for _ in range(12)]
            wait_until(lambda: len(client.show(p)["subscribers"]) == 12, what="the reads to wait")
            client.write(p, b"\n")
            for pending in waiting:
                self.assertEqual(len(pending.result(20)["data"]), 270000)
            client.remove(p, force=True)

    def test_removal_while_a_read_waits(self):
        client, other = self.client(), self.client()
        p = self.one(client, "")
        waiting = other.submit_read(p, for_="line")
        wait_until(lambda: client.show(p)["subscribers"], what="the read to wait")
        client.remove(p, force=True)
        try:
            self.assertEqual(waiting.result()["reason"], "eof", "the run ends first")
        except RpcError as error:
            self.assertEqual(error.name, "not-found")
        self.assert_error("not-found", client.read, p)

    def test_retention_under_a_read_that_waits(self):
        """What it had gathered goes, and it says so; it goes on with what is kept."""
        client, other = self.client(), self.client()
        p = self.sh(client, "printf begin; read l; head -c 1000000 /dev/zero; printf 'end\n'; exec sleep 1000",
                    retention_bytes=64 << 10)["id"]
        waiting = other.submit_read(p, for_="line", max_bytes=4 * MIB)
        wait_until(lambda: client.show(p)["log"]["end"] == 5 and client.show(p)["subscribers"], what="the read to wait")
        client.write(p, b"\n")
        got = waiting.result()
        self.assertEqual(got["reason"], "satisfied")
        self.assertEqual(got["lost"], {"from": 0, "to": got["from"]})
        self.assertEqual(got["data"], bytes(1000005 - got["from"]) + b"end\n")
        got = client.read(p, cursor="late", for_="line", max_bytes=4 * MIB)
        self.assertEqual(got["lost"], {"from": 0, "to": got["from"]})
        self.assertEqual(got["next"], 1000009)

    def test_a_key_gives_the_same_answer_once(self):
        client = self.client()
        p = self.one(client, "one\ntwo\n")
        key = random_key()
        first = client.read(p, for_="pattern", pattern="(n)e\n", key=key)
        self.assertEqual(client.read(p, for_="pattern", pattern="(n)e\n", key=key), first)
        self.daemon.kill_engine()
        client = self.client()
        self.assertEqual(client.read(p, for_="pattern", pattern="(n)e\n", key=key), first)
        self.assertEqual(client.cursors(p), {b"default": 4})
        self.assert_error("invalid-argument", client.read, self.one(client, "x"), key=key)

    def test_a_request_that_is_repeated_while_the_first_waits_is_done_once(self):
        """As when the daemon does not know yet that a connection is lost."""
        client = self.client()
        p = self.sh(client, "cat")["id"]
        clients = [self.client() for _ in range(3)]
        for method, params in (("read", {}), ("ask", {"data": "question\n"})):
            key = random_key()
            waiting = [each.submit_read(p, method=method, for_="separator", separator="end\n", key=key, **params)
                       for each in clients]
            wait_until(lambda: len(client.show(p)["subscribers"]) == 3, what="the reads to wait")
            client.write(p, b"one end\n")
            answers = [pending.result() for pending in waiting]
            self.assertEqual(answers[0]["data"], params.get("data", "").encode() + b"one end\n")
            self.assertEqual(answers, answers[:1] * 3)
            self.assertEqual(client.cursors(p), {b"default": answers[0]["next"]})
            self.assertEqual(client.show(p)["log"]["end"], answers[0]["next"])
        client.stop(p, now=True)

    def test_ask(self):
        client = self.client()
        p = self.sh(client, "printf 'before\n'; " + ECHO)["id"]
        wait_until(lambda: client.show(p)["log"]["end"] == 7, what="the first line")
        got = client.ask(p, "a\n", for_="line")
        self.assertEqual((got["data"], got["from"], got["accepted"]), (b"got a\n", 7, 2))
        self.assertEqual(client.ask(p, "b\nc\n")["data"], b"got b\ngot c\n", "until it is quiet")
        self.assertEqual(client.cursors(p), {b"default": 25})
        self.assertEqual(client.ask(p, "d\n", cursor=NULL, for_="pattern", pattern="t d")["data"], b"got d")
        self.assertEqual(client.cursors(p), {b"default": 25})
        got = client.ask(p, "e\n", for_="line", eof=True)
        self.assertEqual(got["data"], b"got e\n")
        self.assert_error("not-running" if client.wait(p, for_="exited") else "", client.ask, p, "f\n")

    def test_what_a_pipe_holds_before_the_question_is_no_answer(self):
        """The engine hears of the question first, and then of what was written before it took that."""
        client = self.client()
        engine = self.daemon.engine_pid()
        go, gone = os.path.join(self.tmp, "go"), os.path.join(self.tmp, "gone")
        os.mkfifo(go)
        p = self.sh(client, 'while read -r l; do echo stale; touch "$2$l"; done < "$1" & ' + ECHO, go, gone)["id"]
        with open(go, "w", buffering=1) as stale:
            for i in range(5):
                client.call("version")
                os.kill(engine, signal.SIGSTOP)
                try:
                    asked = client.submit_read(p, method="ask", data="%d\n" % i, for_="line")
                    stale.write("%d\n" % i)
                    wait_until(lambda: os.path.exists(gone + str(i)), what="what comes before the answer")
                finally:
                    os.kill(engine, signal.SIGCONT)
                self.assertEqual(asked.result()["data"], b"got %d\n" % i)
        client.stop(p, now=True)

    def test_the_key_of_ask_covers_both_halves(self):
        """The engine is killed after the input was accepted and before there is an answer."""
        client = self.client()
        run, subscription = self.sh(client, "while read -r l; do echo $l >&2; sleep 0.3; echo \"got $l\"; done",
                                    subscribe={"sources": ["stderr"]})
        p, key = run["id"], random_key()
        other = self.client(reconnect=True)
        waiting = other.submit_read(p, method="ask", data="x\n", for_="line", sources=["stdout"], key=key)
        subscription.read_until_bytes(b"x\n")
        self.daemon.kill_engine()
        first = waiting.result()
        self.assertEqual((first["data"], first["accepted"]), (b"got x\n", 2))
        client = self.client()
        self.assertEqual(client.ask(p, "x\n", for_="line", sources=["stdout"], key=key), first)
        self.assertEqual(client.show(p)["stdin_log"]["accepted"], 2, "it was written once")
        self.assert_error("invalid-argument", client.ask, self.one(client, ""), "x\n", key=key)

    def test_catastrophic_patterns_hold_up_nobody(self):
        client, other = self.client(), self.client()
        p = self.sh(client, "head -c 500000 /dev/zero | tr '\\0' a; exec sleep 1000")["id"]
        wait_until(lambda: client.show(p)["log"]["end"] == 500000, what="the output")
        patterns = ["(a+)+$b", "(a|a)*c", "(.*)(.*)(.*)(.*)(.*)b", "(?:a?){40}a{40}c", "((?:a*)*)*b", "a[ab]{0,300}?c"]
        waiting = [other.submit_read(p, cursor=NULL, from_="start", for_="pattern", pattern=pattern, timeout_usec=3_000_000)
                   for pattern in patterns]
        longest = 0.0
        while not all(w.done for w in waiting):
            begin = time.monotonic()
            client.call("version")
            longest = max(longest, time.monotonic() - begin)
        for pattern, pending in zip(patterns, waiting):
            try:
                self.assertEqual(pending.result(60)["reason"], "timeout", pattern)
            except RpcError as error:
                self.assertEqual(error.name, "limit", pattern)
                self.assertIn("too many steps", str(error))
        self.assertLess(longest, 2.0)

    def test_a_long_match_in_small_pieces(self):
        """What a pattern matches in part is not looked at anew for each piece, and what ends it is seen soon."""
        client = self.client()
        n = scale(5000, 8000, 20000)
        text = ("import os, time\nos.write(1, b'a')\nfor _ in range(%d):\n"
                " os.write(1, b'x' * 200)\n time.sleep(0.0001)\n" % n)  # so that they come one by one
        p = client.run([sys.executable, "-c", text + "os.write(1, b'y')\ninput()\nos.write(1, b'b')\ninput()\n"])["id"]
        engine = self.daemon.engine_pid()
        waiting = client.submit_read(p, for_="pattern", pattern="a[^b]*b", max_bytes=8 * MIB)
        got = client.read(p, cursor="end", for_="separator", separator="y", max_bytes=8 * MIB, timeout=120)
        self.assertEqual(got["reason"], "satisfied")
        used = cpu_seconds(engine)
        begin = time.monotonic()
        client.write(p, b"\n")
        got = waiting.result(60)
        self.assertEqual((got["reason"], got["bytes"]), ("satisfied", got["match"]["to"]))
        self.assertLess(time.monotonic() - begin, 2, "it waits for no other piece")
        self.assertLess(cpu_seconds(engine) - used, 1)
        client.write(p, b"\n")

    def test_kills_during_reads_and_asks(self):
        """Each ask is written once, each line taken once and in order, whatever happens to the engine."""
        client = self.client(reconnect=True)
        p = self.sh(client, ECHO)["id"]
        q = self.sh(client, "cat")["id"]
        n = scale(60, 200, 2000)
        stop = threading.Event()
        chance = random.Random(5)

        def kill():
            while not stop.wait(chance.uniform(0.05, 0.3)):
                self.daemon.kill_engine()
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        try:
            for i in range(n):
                got = client.ask(p, "%d\n" % i, for_="line", timeout=60)
                self.assertEqual(got["data"], b"got %d\n" % i)
                client.write(q, b"%d\n" % i, timeout=60)
                got = client.read(q, for_="line", timeout=60)
                self.assertEqual(got["data"], b"%d\n" % i)
        finally:
            stop.set()
            thread.join(30)
        log = client.subscribe(p, follow=False).collect()
        self.assertEqual(b"".join(r.data for r in log if r.data), b"".join(b"got %d\n" % i for i in range(n)))
        self.assertEqual(client.show(q)["log"]["end"], sum(len("%d\n" % i) for i in range(n)))

    def test_thousands_of_reads_wait_at_no_cost(self):
        n_processes, per_client = 200, 200
        n = scale(400, 2000, 2000)
        client = self.client()
        runs = [self.sh(client, ECHO)["id"] for _ in range(n_processes)]
        engine = self.daemon.engine_pid()
        clients = [self.client() for _ in range(n // per_client)]
        for c in clients:
            c.call("version")
        before = rss_bytes(engine)
        kinds = ({"for_": "line"}, {"for_": "separator", "separator": b"\n"}, {"for_": "pattern", "pattern": "got (\\d+)\n"},
                 {"for_": "exactly", "n": 8}, {"for_": "quiet", "quiet_usec": 50_000})
        waiting = [clients[i % len(clients)].submit_read(runs[i % n_processes], cursor="c%d" % (i // n_processes),
                                                         **kinds[i // n_processes % len(kinds)]) for i in range(n)]
        for c in clients:
            c.call("version")
        per_wait = (rss_bytes(engine) - before) / n
        print("memory of a read that waits: %d bytes" % per_wait)
        self.assertLess(per_wait, 8192)
        self.assertFalse(any(w.done for w in waiting))
        self.assert_rests(engine)
        for i, run in enumerate(runs):
            client.write(run, b"%03d\n" % i)
        for i, pending in enumerate(waiting):
            got = pending.result(60)
            self.assertEqual((got["reason"], got["data"]), ("satisfied", b"got %03d\n" % (i % n_processes)))

    def test_a_line_that_does_not_end(self):
        """Whatever is read for that never comes is over in time, for a reason that is said, in bounded memory."""
        size = scale(64, 1024, 1024) * MIB
        client, other = self.client(), self.client()
        go = os.path.join(self.tmp, "go")
        p = self.sh(client, "head -c %d /dev/zero; touch $1; exec sleep 1000" % size, go,
                    retention_bytes=2 * size)["id"]
        engine = self.daemon.engine_pid()
        base, peak = pss_bytes(engine), 0
        for when in ("while it comes", "when all has come"):
            for what, error, params in (
                    ("line", "too-large", {}), ("line", "too-large", {"max_bytes": 8 * MIB}),
                    ("separator", "too-large", {"separator": bytes(100) + b"x", "max_bytes": 8 * MIB}),
                    ("separator", "too-large", {"separator": "x" * 4096, "max_bytes": 1}),
                    ("pattern", "too-large", {"pattern": "\\x00{10}x", "max_bytes": MIB // 4}),
                    ("pattern", "limit", {"pattern": "(\\x00+)+x", "max_bytes": 2 * MIB}),
                    ("eof", "too-large", {"max_bytes": 8 * MIB})):
                begin = time.monotonic()
                said = self.assert_error(error, other.read, p, for_=what, cursor=NULL, from_="start", **params)
                if error == "too-large":
                    self.assertIn("%d bytes have come without" % params.get("max_bytes", MIB), said.message)
                self.assertLess(time.monotonic() - begin, 5 * self.patience, (when, what))
                peak = max(peak, pss_bytes(engine))
            begin = time.monotonic()
            got = other.read(p, for_="pattern", pattern="\\x00{500}x", cursor=NULL, from_="start", max_bytes=8 * MIB,
                             timeout_usec=300_000)
            self.assertEqual(got["reason"], "timeout")
            self.assertLess(time.monotonic() - begin, 0.3 + self.patience, when)
            begin = time.monotonic()
            met = other.call("wait", {"targets": [p], "timeout_usec": 500_000, "conditions": [
                {"for": "pattern", "pattern": "\\x00(a|b)\\x00"}, {"for": "bytes", "n": size + 1}]})
            self.assertEqual((met["reason"], met["satisfied"]), ("timeout", []), when)
            self.assertLess(time.monotonic() - begin, 0.5 + self.patience, when)
            peak = max(peak, pss_bytes(engine))
            wait_until(lambda: os.path.exists(go) and client.show(p)["log"]["end"] == size, 600, "all of it", 0.05)
        self.the_rest_of_a_line(other, p, size)
        print("PSS of the engine: %d KiB before, %d KiB at most" % (base >> 10, peak >> 10))
        self.assertLess(peak - base, 12 * MIB * self.patience)  # measured: less than 1
        client.stop(p, now=True)

    def the_rest_of_a_line(self, client, p, size):
        """At its end: a deadline gives what there is; and by the command line."""
        begin = time.monotonic()
        got = client.read(p, cursor=NULL, from_=size - 1000, for_="line", timeout_usec=200_000)
        self.assertEqual((got["reason"], got["data"]), ("timeout", bytes(1000)))
        self.assertLess(time.monotonic() - begin, 0.2 + self.patience)
        for args in (("--line",), ("--until", "x"), ("--expect", "a.b")):
            done = self.daemon.cli("read", "--max", "64K", "--timeout", "20s", *args, str(p), check=125)
            self.assertEqual(done.stdout, b"", "nothing is taken")
            self.assertIn(b"65536 bytes have come without what was read for", done.stderr)
        self.assertEqual(client.cursors(p), {})

    patience = 10 if SANITIZED else 1

    test_a_line_that_does_not_end.seconds = 4
    test_kills_during_reads_and_asks.seconds = 20
