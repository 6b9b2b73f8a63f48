# SPDX-License-Identifier: MIT
"""read, ask, write and batch, all at a time, while the engine is killed at random: each thing happens once."""

import os
import random
import re
import signal
import threading
import time

from pmux_client import NULL, random_key
from pmux_test import PmuxTest, scale

LINES = scale(400_000, 400_000, 8_000_000)
COUNT = "import sys, time\n" \
        "for i in range(%d):\n sys.stdout.write('%%d\\n' %% i)\n" \
        " if i %% 64 == 63: sys.stdout.flush(); time.sleep(0.004)\n" \
        "sys.stdout.flush(); time.sleep(1000)" % LINES
ECHO = "while read -r l; do echo \"got $l\"; done"


class KillsUnderCalls(PmuxTest):
    seconds = 8

    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get("PMUX_TEST_SEED") or random.randrange(1 << 30))
        print("PMUX_TEST_SEED=%d" % self.seed)
        self.over = threading.Event()
        self.failed = []
        self.n_done = {}

    def engine_of_status(self):
        """The engine's pid as the command tells it; None while there is none."""
        done = self.daemon.cli("--json", "daemon", "status", timeout=60)
        return self.json_lines(done.stdout)[0]["engine_pid"] if done.returncode == 0 else None

    def kill_for(self, seconds):
        """Kills whatever engine there is, now and then at once the next, until the time is over."""
        chance = random.Random(self.seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.failed:
            pid = self.engine_of_status()
            if pid:
                time.sleep(chance.choice((0, 0.001, 0.01)) * chance.random())  # at any instant
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.daemon.n_engine_kills += 1
                self.over.wait(chance.choice((0, 0.02, 0.1, 0.3)) * chance.random())

    def work(self, fn, *args):
        """fn(client, chance, *args) again and again in a thread, until it is enough."""
        chance = random.Random(self.seed * 31 + len(self.n_done))
        name = "%s %d" % (fn.__name__, len(self.n_done))
        client = self.client(reconnect=True, reconnect_timeout=60)
        self.n_done[name] = 0

        def run():
            try:
                while not self.over.is_set() and not self.failed:
                    fn(client, chance, *args)
                    self.n_done[name] += 1
            except BaseException as error:  # told by the test
                self.failed.append((name, error))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def call_twice(self, chance, client, method, *args, **params):
        """A call with a key; now and then it is made again, which must change nothing."""
        key = random_key()
        result = method(client, *args, key=key, timeout=60, **params)
        if chance.random() < 0.3:
            again = method(client, *args, key=key, timeout=60, **params)
            again = dict(again, taken=0, queued=0) if "taken" in again else again  # go on as the pipe takes it
            result = dict(result, taken=0, queued=0) if "taken" in result else result
            self.assertEqual(again, result, "the same key, the same answer")
        return result

    # ---- reading ----

    def read_on(self, client, chance, place):
        """Reads with one cursor: what was not yet read, up to what was asked for, and no more."""
        p, text, at = place["process"], self.text, place["at"]
        kind = chance.choice(("line", "exactly", "separator", "pattern", "bytes", "timeout"))
        n = chance.randint(1, 3000)
        wanted = {"line": lambda: text.index(b"\n", at) + 1, "exactly": lambda: at + n,
                  "separator": lambda: text.index(b"7\n1", at) + 3,
                  "pattern": lambda: re.compile(rb"(\d)\1\n").search(text, at).end(),
                  "bytes": lambda: None, "timeout": lambda: None}[kind]()
        params = {"line": {}, "exactly": {"n": n}, "separator": {"separator": "7\n1"},
                  "pattern": {"pattern": r"(\d)\1\n"}, "bytes": {"n": n},
                  "timeout": {"for_": "exactly", "n": 8 << 20, "max_bytes": 8 << 20,
                              "timeout_usec": chance.randint(0, 2000)}}[kind]
        got = self.call_twice(chance, client, type(client).read, p, cursor=place["cursor"],
                              **dict({"for_": kind}, **params))
        self.assertEqual(got["from"], at, kind)
        self.assertEqual(got["data"], text[at:at + len(got["data"])], kind)
        self.assertNotIn("lost", got)
        if kind == "timeout" and got["reason"] == "satisfied":  # of so much that it has all been written by now
            wanted = at + (8 << 20)
        elif kind == "timeout":
            self.assertEqual((got["reason"], got["next"]), ("timeout", at))
            return
        self.assertEqual(got["reason"], "satisfied")
        if wanted is None:
            self.assertTrue(1 <= len(got["data"]) <= n, got["bytes"])
            wanted = at + len(got["data"])
        self.assertEqual(got["next"], wanted, kind)
        place["at"] = wanted

    # ---- asking, writing ----

    def ask_once(self, client, chance, state):
        i = state["n"]
        state["n"] += 1
        got = self.call_twice(chance, client, type(client).ask, state["process"], "%d\n" % i, for_="line",
                              cursor=NULL)
        self.assertEqual((got["reason"], got["data"]), ("satisfied", b"got %d\n" % i))

    def write_once(self, client, chance, state):
        piece = b"%d %d\n" % (state["who"], state["n"]) + b"." * chance.choice((0, 10, 5000)) + b"\n"
        how = chance.choice(({}, {"drain": True}, {"timeout_usec": 60_000_000}))
        got = self.call_twice(chance, client, type(client).write, state["process"], piece, **how)
        self.assertEqual(got["bytes"], len(piece))
        state["n"] += 1
        state["pieces"].append(piece)

    # ---- a batch ----

    def batch_once(self, client, chance):
        number = chance.randrange(1 << 60)
        marks = os.path.join(self.tmp, "ran%d" % number)
        n = 12
        text = "".join("sh -c 'echo %d >> %s; echo out%d; exit %d'\n" % (i, marks, i, i % 3) for i in range(n))
        done = self.daemon.cli("--json", "batch", "-j", "3", "-k", *chance.choice(((), ("--rm",))),
                               input=text.encode(), timeout=120)
        results = self.json_lines(done.stdout)
        self.assertEqual([r["number"] for r in results], list(range(1, n + 1)), done.stderr)
        self.assertEqual([r["status"] for r in results], [i % 3 for i in range(n)], done.stderr)
        self.assertEqual([r["stdout"] for r in results], ["out%d\n" % i for i in range(n)])
        with open(marks) as file:
            self.assertEqual(sorted(map(int, file.read().split())), list(range(n)), "each once")

    def test_all_of_them_at_a_time(self):
        client = self.client(reconnect=True, reconnect_timeout=60)
        self.text = b"".join(b"%d\n" % i for i in range(LINES))
        counting = client.run(["/usr/bin/python3", "-c", COUNT], retention_bytes=256 << 20)["id"]
        places = [{"process": counting, "cursor": "c%d" % i, "at": 0} for i in range(2)]
        asked = {"process": self.sh(client, ECHO)["id"], "n": 0}
        cat = client.run(["/bin/cat"])["id"]
        writers = [{"process": cat, "who": i, "n": 0, "pieces": []} for i in range(2)]
        threads = [self.work(self.read_on, place) for place in places] + [self.work(self.ask_once, asked)]
        threads += [self.work(self.write_once, writer) for writer in writers] + [self.work(self.batch_once)]
        self.kill_for(scale(2, 3, 110))
        self.over.set()
        for thread in threads:
            thread.join(120)
            self.assertFalse(thread.is_alive(), "a call hangs")
        for name, error in self.failed:
            raise AssertionError("%s (seed %d)" % (name, self.seed)) from error
        print("%d kills, %r" % (self.daemon.n_engine_kills, self.n_done))
        self.assertGreater(self.daemon.n_engine_kills, scale(2, 4, 100))
        self.assertTrue(all(self.n_done.values()), self.n_done)
        self.ck_logs(self.client(), places, asked, cat, writers)

    def ck_logs(self, client, places, asked, cat, writers):
        """What is left behind is what was told."""
        cursors = client.cursors(places[0]["process"])
        self.assertEqual(cursors, {place["cursor"].encode(): place["at"] for place in places})
        log = client.subscribe(asked["process"], follow=False).collect()
        self.assertEqual(b"".join(r.data for r in log if r.data), b"".join(b"got %d\n" % i for i in range(asked["n"])))
        client.close_stdin(cat)
        self.ended(client, cat, for_="empty")
        whole = b"".join(r.data for r in client.subscribe(cat, run=1).collect() if r.data)
        self.assertEqual(len(whole), sum(len(piece) for writer in writers for piece in writer["pieces"]))
        for writer in writers:
            heads = [line for line in whole.split(b"\n") if line.startswith(b"%d " % writer["who"])]
            self.assertEqual(heads, [b"%d %d" % (writer["who"], i) for i in range(writer["n"])])
        client.stop(places[0]["process"], asked["process"], now=True)
