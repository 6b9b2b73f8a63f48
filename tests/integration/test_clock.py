# SPDX-License-Identifier: MIT
"""The real time may be set forth and back: a log's times never go backwards, and no deadline moves."""

import mmap
import os
import struct
import time

from pmux_client import K_DATA
from pmux_daemon import wait_until
from pmux_test import SANITIZED, PmuxTest, program, scale

HOUR = 3600


class Clock(PmuxTest):
    def setUp(self):
        super().setUp()
        path = os.path.join(self.tmp, "clock")
        with open(path, "wb") as file:
            file.write(bytes(8))
        file = open(path, "r+b")
        self.addCleanup(file.close)
        self.map = mmap.mmap(file.fileno(), 8)
        env = {"LD_PRELOAD": program("clock_shim.so"), "CLOCK_SHIM": path}
        if SANITIZED:
            env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        self.daemon_options = {"env": env}

    def step_to(self, seconds):
        self.map[:] = struct.pack("<q", int(seconds * 1e6))

    def test_the_instrument(self):
        client = self.client()
        run = self.sh(client, "exit 0")
        self.ended(client, run["id"])
        self.step_to(HOUR)
        second = self.sh(client, "exit 0")
        self.ended(client, second["id"])
        times = [client.show(r["id"])["start_usec"] / 1e6 - time.time() for r in (run, second)]
        self.assertAlmostEqual(times[0], 0, delta=30)
        self.assertAlmostEqual(times[1], HOUR, delta=30)

    def test_log_times_never_go_backwards(self):
        client = self.client(reconnect=True)
        run, subscription = self.sh(client, "while :; do echo x; echo y >&2; sleep 0.002; done",
                                    subscribe=True)
        steps = [HOUR, -HOUR, 10, 0, -24 * HOUR, 5, 2 * HOUR, -1] * scale(1, 2, 20)
        for number, seconds in enumerate(steps):
            self.step_to(seconds)
            end = subscription.next_offset or 0
            subscription.read_until(lambda r: r.kind == K_DATA and r.offset > end + 20)
            if number % 4 == 3:
                self.daemon.kill_engine()  # the next engine must know the last time, too
        client.stop(run["id"], now=True)
        records = client.subscribe(run["id"]).collect()
        times = [r.time for r in records]
        self.assertEqual(times, sorted(times))
        self.assertEqual(client.violations, [])
        since = times[len(times) // 2]
        later = client.subscribe(run["id"], since_usec=since).collect()
        self.assertEqual(later[0].time, since)
        events = [e["time_usec"] for e in client.events(since=0, follow=False).rest()]
        self.assertTrue(events)

    def test_deadlines_do_not_move(self):
        client = self.client()
        begin = time.monotonic()
        limited = self.sh(client, "exec sleep 1000", timeout_usec=1_200_000)
        leased = self.sh(client, "exec sleep 1000", lease=1_200_000)
        stubborn, subscription = self.sh(client, 'trap "" TERM; echo ready; while :; do sleep 0.05; done',
                                         kill_after_usec=1_200_000, subscribe=True)
        subscription.read_until_bytes(b"ready\n")
        stopping = time.monotonic()
        stop = client.submit("stop", {"targets": [stubborn["id"]]})
        waiting = client.submit("wait", {"targets": [self.sh(client, "exec sleep 1000")["id"]],
                                         "timeout_usec": 1_200_000})
        for seconds in (HOUR, -HOUR, 10 * HOUR, -1000 * HOUR, 0.5):
            self.step_to(seconds)
            time.sleep(0.1)  # the daemon lives at this hour for a while
        pending = [limited["id"], leased["id"]]
        statuses = {}
        while pending:
            for target in list(pending):
                shown = client.show(target)
                if shown["state"] == "exited":
                    pending.remove(target)
                    statuses[target] = (time.monotonic() - begin, shown["exit"])
            self.assertLess(time.monotonic() - begin, 10, "a deadline moved away")
            time.sleep(0.01)
        for target, cause in ((limited["id"], "timeout"), (leased["id"], "lease")):
            self.assertGreater(statuses[target][0], 1.15, "a deadline came too early")
            self.assertLess(statuses[target][0], 5)
            self.assertEqual(statuses[target][1]["cause"], cause)
            self.assertLess(abs(statuses[target][1]["usec"] - 1_200_000), 2_000_000, "how long it ran")
        self.assertEqual(waiting.result()["reason"], "timeout")
        self.assertEqual(stop.result()["processes"][0]["how"], "killed")
        self.assertGreater(time.monotonic() - stopping, 1.15)

    def test_deadline_over_an_engine_kill_and_a_step(self):
        client = self.client(reconnect=True)
        begin = time.monotonic()
        run = self.sh(client, "exec sleep 1000", timeout_usec=1_500_000)
        self.step_to(HOUR)
        self.daemon.kill_engine()
        self.step_to(-HOUR)
        wait_until(lambda: client.show(run["id"])["state"] == "exited", 10, "the time limit")
        self.assertGreater(time.monotonic() - begin, 1.4, "the step was taken for time that passed")
        self.assertEqual(client.show(run["id"])["exit"]["cause"], "timeout")
