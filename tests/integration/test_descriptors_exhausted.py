# SPDX-License-Identifier: MIT
"""No descriptors left in engine or keeper: requests are refused, nothing dies, it works again afterwards."""

import os
import resource
import signal

from pmux_client import Client, ConnectionLost, Deadline, RpcError
from pmux_daemon import fd_names, wait_until
from pmux_test import ENV, PmuxTest

REFUSALS = ("limit", "system", "spawn-failed", "no-memory")


class DescriptorsExhausted(PmuxTest):
    seconds = 5

    def pids(self, client):
        status = client.status()
        return status["engine_pid"], status["keeper_pid"]

    def limit(self, pid, n):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (n, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))

    def check(self, which, room):
        client = self.client()
        keep = self.sh(client, "read line; exit 9")
        pids = self.pids(client)
        pid = pids[which]
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
        highest = max(int(f) for f in os.listdir("/proc/%d/fd" % pid))
        self.limit(pid, highest + 1 + room)
        runs, refused = [], 0
        for _ in range(40):
            try:
                runs.append(self.sh(client, "read line"))
            except RpcError as error:
                self.assertIn(error.name, REFUSALS, error)
                refused += 1
        self.assertGreater(refused, 0, "nothing was refused: the test does not test")
        self.assertEqual(self.pids(client), pids, "something died")
        self.limit(pid, before)
        run = self.sh(client, "exit 4")
        self.assert_code(self.ended(client, run["id"]), 4)
        client.write(keep["id"], b"\n")
        self.assert_code(self.ended(client, keep["id"]), 9)
        for run in runs:
            client.stop(run["id"], now=True)
        self.assertEqual(self.pids(client), pids)

    def test_of_the_engine(self):
        self.check(0, 12)
        self.check(0, 150)

    def test_what_runs_goes_on_when_nothing_more_can_begin(self):
        """Processes leave descriptors for their input, their logs and for clients, also of the next engine."""
        client = self.client()
        for pid in self.pids(client):
            self.limit(pid, 256)
        runs = []

        def expect(size):
            for run in runs:
                wait_until(lambda: client.show(run)["log_end"] == size, what="the answer of %d" % run)
        with self.assertRaises(RpcError) as caught:
            while len(runs) < 100:
                runs.append(self.sh(client, 'while read -r l; do echo "got $l"; done')["id"])
        self.assertEqual(caught.exception.name, "limit")
        self.assertIn("RLIMIT_NOFILE", caught.exception.message)
        self.assertGreater(len(runs), 20)
        for run in runs:
            client.write(run, b"hi\n")
        expect(7)
        others = [Client(self.daemon.socket) for _ in range(10)]
        for other in others:
            self.assertEqual(other.status()["running"], len(runs))
            other.close()
        self.daemon.kill_engine()
        client = self.client()
        for run in runs:
            client.write(run, b"hi\n")
        expect(14)
        self.assertEqual(self.daemon.cli("logs", str(runs[0])).stdout, b"got hi\n" * 2)
        half = len(runs) // 2
        client.stop(*runs[half:], now=True)
        del runs[half:]
        runs.append(self.sh(client, 'echo "got hi"; read -r l; echo "got $l"; exec sleep 1000')["id"])
        client.write(runs[-1], b"hi\n")
        expect(14)
        client.stop(*runs, now=True)

    def test_of_the_keeper(self):
        self.check(1, 80)

    def leave(self, pid, room):
        """So many descriptors may still be opened, and no more."""
        used = {int(f) for f in os.listdir("/proc/%d/fd" % pid)}
        free = [f for f in range(len(used) + room + 1) if f not in used]
        self.limit(pid, free[room])

    def test_input_that_an_engine_accepted_without_them_waits(self):
        client = self.client()
        engine = self.pids(client)[0]
        before = resource.prlimit(engine, resource.RLIMIT_NOFILE)[0]
        for room in range(6):  # too few to accept it, or to deliver it, and enough
            run = client.run(["/bin/cat"], env=ENV)
            expected = b""
            self.leave(engine, room)
            try:
                client.write(run["id"], b"first\n")
                expected = b"first\n"
            except RpcError as error:
                self.assertIn(error.name, REFUSALS, error)
            self.limit(engine, before)
            client.write(run["id"], b"last\n")
            client.close_stdin(run["id"])
            self.assert_code(self.ended(client, run["id"], for_="empty"), 0)
            self.assertEqual(self.daemon.cli("logs", "--stdout", str(run["id"])).stdout, expected + b"last\n")

    def test_input_that_is_repeated_to_what_has_ended_holds_none(self):
        client = self.client()
        engine = self.pids(client)[0]
        self.limit(engine, 256)
        runs = [client.run(["/bin/cat"], env=ENV)["id"] for _ in range(20)]
        for run in runs:
            client.write(run, b"once\n", key="key", eof=True)
        for run in runs:
            self.ended(client, run, for_="empty")
        for run in runs:
            self.assertEqual(client.write(run, b"once\n", key="key", eof=True)["accepted"], 5)
        held = [name for name in fd_names(engine) if name.endswith("/stdin.idx")]
        self.assertLessEqual(len(held), client.status()["limits"]["open-logs"]["max"], held)

    def test_input_is_not_delivered_twice_for_want_of_them_in_the_keeper(self):
        client = self.client()
        run = client.run(["/bin/cat"], env=ENV)
        keeper = self.pids(client)[1]
        before = resource.prlimit(keeper, resource.RLIMIT_NOFILE)[0]
        self.leave(keeper, 0)
        client.write(run["id"], b"once\n")
        client.signal(run["id"], signal.SIGCONT)  # answered behind what the keeper was given before
        self.limit(keeper, before)
        self.daemon.kill_engine()
        client = self.client()
        client.write(run["id"], b"last\n")
        client.close_stdin(run["id"])
        self.assert_code(self.ended(client, run["id"], for_="empty"), 0)
        self.assertEqual(self.daemon.cli("logs", "--stdout", str(run["id"])).stdout, b"once\nlast\n")

    def test_a_keeper_that_is_full_has_them_for_another_engine(self):
        client = self.client()
        keeper = self.pids(client)[1]
        before = resource.prlimit(keeper, resource.RLIMIT_NOFILE)[0]
        self.leave(keeper, 80)
        runs = []
        with self.assertRaises(RpcError) as caught:
            while len(runs) < 80:
                runs.append(client.run(["/bin/cat"], env=ENV, stdout="null", stderr="null")["id"])  # one for each
        self.assertIn(caught.exception.name, REFUSALS, caught.exception)
        self.assertGreater(len(runs), 4, "next to nothing was held")
        self.daemon.kill_engine()
        client = self.client()
        self.assertEqual(client.status()["running"], len(runs))
        client.stop(*runs, now=True)
        self.assert_code(self.ended(client, self.sh(client, "exit 4")["id"]), 4)
        self.limit(keeper, before)

    def test_of_the_engine_by_connections(self):
        client = self.client()
        pids = self.pids(client)
        before = resource.prlimit(pids[0], resource.RLIMIT_NOFILE)[0]
        highest = max(int(f) for f in os.listdir("/proc/%d/fd" % pids[0]))
        self.limit(pids[0], highest + 20)
        others = []
        try:
            for _ in range(60):
                try:
                    others.append(Client(self.daemon.socket, timeout=0.3))
                except (ConnectionLost, Deadline, OSError):
                    break
            self.assertLess(len(others), 60, "nothing was refused: the test does not test")
            client.call("version")
            self.assertEqual(self.pids(client), pids)
        finally:
            for other in others:
                other.close()
        self.limit(pids[0], before)

        def connects():
            try:
                Client(self.daemon.socket, timeout=2).close()
                return True
            except (ConnectionLost, Deadline, OSError):
                return False
        wait_until(connects, what="connections to be taken again")
        self.assertEqual(self.pids(client), pids)
