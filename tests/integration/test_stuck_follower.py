# SPDX-License-Identifier: MIT
"""A client that stops reading costs no memory and delays nobody; what it missed it is told exactly."""

import json
import os
import signal
import subprocess
import sys
import threading

from pmux_client import K_DATA, K_GAP, STDOUT
from pmux_daemon import rss_bytes, wait_until
from pmux_test import SANITIZED, PmuxTest, Sequence, program, scale

FOLLOWER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support", "follower.py")
MIB = 1 << 20


class StuckFollower(PmuxTest):
    seconds = 30

    def follow(self, target, seed, **params):
        process = subprocess.Popen([sys.executable, FOLLOWER, self.daemon.socket, str(target), str(seed)] +
                                   ["%s=%s" % (k, json.dumps(v)) for k, v in params.items()],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def pass_by(self, total, retention, **params):
        """A process writes 'total' bytes past a stopped follower. Returns what that one reports."""
        client = self.client()
        # A bit at first, so that the follower is in the middle; the rest when told.
        run = self.sh(client, '"$1" -o 65536 -s 4; read line; exec "$1" -b 65536 -o "$2" -s 4',
                      program("sequence"), str(total), retention_bytes=retention)
        stuck = self.follow(run["id"], 4, **params)
        self.assertEqual(stuck.stdout.readline(), b"begun\n")
        logs = self.daemon.cli_start("logs", "-f", str(run["id"]))
        self.addCleanup(logs.stderr.close)
        self.addCleanup(logs.stdout.close)
        self.addCleanup(logs.wait)
        self.addCleanup(logs.kill)
        first = os.read(logs.stdout.fileno(), 1)
        self.assertEqual(first, b"S")
        stuck.send_signal(signal.SIGSTOP)
        logs.send_signal(signal.SIGSTOP)
        status = client.status()
        pids = {"engine": status["engine_pid"], "keeper": status["keeper_pid"]}
        reader = self.client().subscribe(run["id"], lossless=True)
        sequence = Sequence(4)
        while reader.next_offset < 65536 or not sequence.done:  # what is allocated once is there by then
            record = reader.next()
            if record.kind == K_DATA:
                sequence.feed(record.data)
        before = {name: rss_bytes(pid) for name, pid in pids.items()}
        most = dict(before)
        client.write(run["id"], b"go\n")
        seen = 0
        while True:
            record = reader.next(60)
            if record is None:
                break
            self.assertNotEqual(record.kind, K_GAP)
            if record.kind == K_DATA:
                sequence.feed(record.data)
                seen += 1
                if seen % 200 == 0:
                    for name, pid in pids.items():
                        most[name] = max(most[name], rss_bytes(pid))
        self.assertEqual(sequence.finish(), total)
        for name, pid in pids.items():
            most[name] = max(most[name], rss_bytes(pid))
            grown = most[name] - before[name]
            print("%s: %d KiB more" % (name, grown >> 10))
            if not SANITIZED:  # freed memory is kept for a while there
                self.assertLess(grown, 2 * MIB, "%s grew from %d by %d bytes" % (name, before[name], grown))
        self.assert_code(self.ended(client, run["id"]), 0)
        logs.send_signal(signal.SIGCONT)
        drain = threading.Thread(target=lambda: first + logs.stdout.read(), daemon=True)
        drain.start()
        stuck.send_signal(signal.SIGCONT)
        out, err = stuck.communicate(timeout=120)
        self.assertEqual(stuck.returncode, 0, err.decode())
        drain.join(60)
        self.assertFalse(drain.is_alive(), "logs -f did not end")
        self.assertEqual(logs.wait(30), 0)
        return json.loads(out), client.show(run["id"])

    def test_retention_passes_it_by(self):
        total = scale(64, 256, 2048) * MIB
        result, shown = self.pass_by(total, 32 * MIB)
        self.assertEqual(result["violations"], [])
        self.assertEqual(result["bytes"] + sum(n for _, n in result["gaps"]), total)
        self.assertEqual(len(result["gaps"]), 1, result)
        begin, n = result["gaps"][0]
        self.assertGreater(n, 0)
        self.assertEqual(begin + n, shown["log"]["begin"], "it goes on where the log begins")
        self.assertEqual(result["end"], shown["log"]["end"])

    def test_retention_keeps_all(self):
        total = scale(32, 96, 512) * MIB
        result, shown = self.pass_by(total, 2 * total)
        self.assertEqual((result["bytes"], result["gaps"], result["violations"]), (total, [], []))

    def test_stopped_lossless_follower_makes_the_child_wait(self):
        """And show says who it is; when the follower is gone, the child goes on."""
        total = 64 * MIB
        client = self.client()
        run = self.sh(client, 'read line; exec "$1" -o "$2" -s 4', program("sequence"), str(total),
                      retention_bytes=4 * MIB)
        stuck = self.follow(run["id"], 4, lossless=True)
        wait_until(lambda: client.show(run["id"])["subscribers"], what="the follower")
        stuck.send_signal(signal.SIGSTOP)
        client.write(run["id"], b"go\n")
        wait_until(lambda: client.show(run["id"])["waiting_for"] == stuck.pid,
                   what="the child to wait for the follower")
        shown = client.show(run["id"])
        self.assertEqual(shown["log"]["state"], "waiting")
        self.assertEqual([s["lossless"] for s in shown["subscribers"] if s["pid"] == stuck.pid], [True])
        self.assertLess(shown["log"]["end"], 16 * MIB)
        self.assertEqual(shown["log"]["begin"], 0)
        stuck.send_signal(signal.SIGCONT)
        out, err = stuck.communicate(timeout=60)
        self.assertEqual(json.loads(out.splitlines()[-1])["bytes"], total, err.decode())
        self.assert_code(self.ended(client, run["id"]), 0)

    def test_killed_lossless_follower_lets_go(self):
        total = 32 * MIB
        client = self.client()
        run = self.sh(client, 'read line; exec "$1" -o "$2" -s 4', program("sequence"), str(total),
                      retention_bytes=4 * MIB)
        stuck = self.follow(run["id"], 4, lossless=True)
        wait_until(lambda: client.show(run["id"])["subscribers"], what="the follower")
        stuck.send_signal(signal.SIGSTOP)
        client.write(run["id"], b"go\n")
        wait_until(lambda: client.show(run["id"])["waiting_for"] == stuck.pid,
                   what="the child to wait for the follower")
        stuck.kill()
        self.assert_code(self.ended(client, run["id"]), 0)
        self.assertEqual(client.show(run["id"])["log"]["end"], total)
        self.assertEqual(client.show(run["id"])["waiting_for"], None)

    def test_a_stopped_follower_delays_no_other(self):
        """A follower of one process is stopped: calls, and a follower of another, as if it were not there."""
        client = self.client()
        flood = client.run([program("sequence"), "-o", "inf", "-s", "4"], retention_bytes=4 * MIB)
        stuck = self.follow(flood["id"], 4)
        self.assertEqual(stuck.stdout.readline(), b"begun\n")
        stuck.send_signal(signal.SIGSTOP)
        for _ in range(50):
            client.call("version", timeout=5)
        run, subscription = self.sh(client, "echo alive", subscribe=True)
        records = subscription.collect(10)
        self.assertEqual(b"".join(r.data for r in records if r.source == STDOUT and r.kind == K_DATA),
                         b"alive\n")
        end = client.show(flood["id"])["log"]["end"]
        wait_until(lambda: client.show(flood["id"])["log"]["end"] > end + MIB, what="the flood to go on")
        client.stop(flood["id"], now=True)
