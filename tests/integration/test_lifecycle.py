# SPDX-License-Identifier: MIT
"""Runs, limits of time, leases, and what outlives engine and daemon."""

import json
import os
import signal
import socket
import time

from pmux_client import CONTROL, K_DATA, K_EXIT, K_SIGNAL, K_START, RpcError, frame, hello_frame
from pmux_daemon import alive, wait_until
from pmux_test import PmuxTest


class Lifecycle(PmuxTest):
    def test_start_and_restart_make_runs(self):
        client = self.client()
        run, subscription = self.sh(client, "echo hello; read line; exit 2", subscribe=True)
        subscription.read_until_bytes(b"hello\n")
        client.close_stdin(run["id"])
        self.ended(client, run["id"], for_="empty")
        second, subscription = client.start(run["id"], subscribe=True)
        self.assertEqual((second["id"], second["run"], second["existing"]), (run["id"], 2, False))
        self.assertEqual(second["offset"], 6)
        records = subscription.read_until(lambda r: r.kind == K_DATA)
        self.assertEqual([r.kind for r in records], [K_START, K_DATA], "it begins with the run's start")
        self.assertEqual(records[0].offset, 6)
        third = client.restart(run["id"])
        self.assertEqual(third["run"], 3)
        self.assertFalse(alive(second["pid"]))
        wait_until(lambda: client.show(run["id"])["log_end"] == 18, what="the third run's output")
        runs = client.show(run["id"])["runs"]
        self.assertEqual(sorted((r["run"], r["start_offset"]) for r in runs), [(1, 0), (2, 6), (3, 12)])
        by_run = {r["run"]: r for r in runs}
        self.assert_code(by_run[1]["exit"], 2)
        self.assert_signal(by_run[2]["exit"], 15)
        self.assertIsNone(by_run[3]["exit"])
        client.stop(run["id"], now=True)
        for number in (1, 2, 3):
            subscription = client.subscribe(run["id"], run=number)
            records = subscription.collect()
            self.assertEqual({r.run for r in records}, {number})
            self.assertEqual(records[0].kind, K_START)
            self.assertEqual(len([r for r in records if r.kind == K_EXIT]), 1)
        self.assert_error("not-found", client.subscribe, run["id"], run=9)

    def test_stdin_begins_anew_with_a_run(self):
        client = self.client()
        run = self.sh(client, "read line; echo got $line")
        client.write(run["id"], b"one\nleft over\n")
        self.ended(client, run["id"], for_="empty")
        _, subscription = client.start(run["id"], subscribe=True)
        client.write(run["id"], b"two\n")
        self.assertEqual(b"".join(r.data for r in subscription.collect() if r.kind == K_DATA), b"got two\n")

    def test_timeout(self):
        client = self.client()
        begin = time.monotonic()
        run = self.sh(client, "exec sleep 1000", timeout_usec=300_000)
        exit_record = self.ended(client, run["id"])
        self.assert_signal(exit_record, signal.SIGTERM)
        self.assertEqual(exit_record["cause"], "timeout")
        self.assertTrue(0.29 <= time.monotonic() - begin < 5)

    def test_timeout_with_kill_after(self):
        client = self.client()
        run, subscription = self.sh(client, 'trap "echo term" TERM; echo ready; while :; do sleep 0.05; done',
                                    timeout_usec=300_000, kill_after_usec=400_000, subscribe=True)
        begin = time.monotonic()
        records = subscription.collect()
        self.assertIn(b"term\n", b"".join(r.data for r in records if r.kind == K_DATA))
        exit_record = self.ended(client, run["id"])
        self.assert_signal(exit_record, signal.SIGKILL)
        self.assertEqual(exit_record["cause"], "timeout")
        self.assertGreater(time.monotonic() - begin, 0.5)

    def test_timeout_over_an_engine_kill(self):
        client = self.client(reconnect=True)
        begin = time.monotonic()
        run = self.sh(client, "exec sleep 1000", timeout_usec=1_500_000)
        self.daemon.kill_engine()
        exit_record = self.ended(client, run["id"])
        self.assertEqual(exit_record["cause"], "timeout")
        self.assertTrue(1.4 <= time.monotonic() - begin < 6, time.monotonic() - begin)

    def test_lease_of_a_client(self):
        keeper = self.client()
        with self.daemon.client() as other:
            run = self.sh(other, "exec sleep 1000", lease="client")
            free = self.sh(other, "exec sleep 1000")
            self.assertEqual(keeper.show(run["id"])["state"], "running")
        self.daemon.clients.remove(other)
        exit_record = self.ended(keeper, run["id"])
        self.assertEqual(exit_record["cause"], "lease")
        self.assertEqual(keeper.show(free["id"])["state"], "running")
        keeper.stop(free["id"], now=True)

    def test_lease_of_a_client_that_leaves_before_the_answer(self):
        client = self.client()
        run = self.sh(client, "trap '' TERM; echo x; exec sleep 1000", lease="client")
        for method, stop in ("restart", False), ("start", True):
            if stop:
                client.stop(run["id"], now=True)
                self.ended(client, run["id"], for_="empty")
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"target": run["id"]}}
            if method == "restart":
                request["params"]["grace_usec"] = 300_000
            before = client.show(run["id"])["run"]
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(self.daemon.socket)
                sock.sendall(hello_frame() + frame(CONTROL, json.dumps(request).encode()))
            wait_until(lambda: client.show(run["id"])["run"] == before + 1, what="the next run")
            self.assertEqual(self.ended(client, run["id"], for_="empty")["cause"], "lease", method)

    def test_lease_of_a_client_that_is_taken_over(self):
        keeper = self.client()
        with self.daemon.client() as other:
            run = self.sh(other, "exec sleep 1000", lease="client")
            keeper.call("renew", {"target": run["id"]})
        self.daemon.clients.remove(other)
        time.sleep(0.3)  # that nothing happens takes time to see
        self.assertEqual(keeper.show(run["id"])["state"], "running")
        keeper.close()
        self.daemon.clients.remove(keeper)
        self.assertEqual(self.ended(self.client(), run["id"])["cause"], "lease")

    def test_lease_of_a_client_over_an_engine_kill(self):
        client = self.client(reconnect=True)
        run = self.sh(client, "exec sleep 1000", lease="client")
        lost = self.sh(client, "exec sleep 1000", lease="client")
        begin = time.monotonic()
        self.daemon.kill_engine()
        client.call("renew", {"target": run["id"]})
        exit_record = self.ended(client, lost["id"], timeout=20)
        self.assertEqual(exit_record["cause"], "lease")
        self.assertGreater(time.monotonic() - begin, 3, "5 s are given to come back")
        self.assertEqual(client.show(run["id"])["state"], "running")
        client.stop(run["id"], now=True)

    test_lease_of_a_client_over_an_engine_kill.seconds = 7

    def test_lease_of_a_time(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000", lease=600_000)
        begin = time.monotonic()
        while time.monotonic() - begin < 1.5:
            client.call("renew", {"target": run["id"]})
            time.sleep(0.1)
        self.assertEqual(client.show(run["id"])["state"], "running")
        exit_record = self.ended(client, run["id"])
        self.assertEqual(exit_record["cause"], "lease")

    def test_leases_are_on_what_a_process_leaves_behind(self):
        keeper = self.client()
        leave = "setsid sleep 1000 >/dev/null 2>&1 & exit 3"
        other = self.client()
        run = self.sh(other, leave, lease="client")
        timed = self.sh(other, leave, lease=1_500_000)
        begin = time.monotonic()
        for id_ in run["id"], timed["id"]:
            self.assertEqual(self.ended(other, id_)["code"], 3)
            self.assertEqual(len(keeper.show(id_)["tree"]), 1)
        self.daemon.kill_engine()
        other.close()
        self.daemon.clients.remove(other)
        keeper = self.client(reconnect=True)
        keeper.call("renew", {"target": run["id"]})
        self.ended(keeper, timed["id"], for_="empty")
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(len(keeper.show(run["id"])["tree"]), 1)
        keeper.close()
        self.daemon.clients.remove(keeper)
        client = self.client()
        begin = time.monotonic()
        self.assertEqual(self.ended(client, run["id"], for_="empty")["cause"], "self")
        self.assertLess(time.monotonic() - begin, 4, "not only when nobody came back to renew it")
        with self.assertRaises(RpcError) as caught:
            client.call("renew", {"target": run["id"]})
        self.assertEqual(caught.exception.name, "not-running")

    def test_a_client_that_leaves_after_the_end_stops_nothing(self):
        client = self.client()
        for _ in range(20):
            with self.daemon.client() as other:
                run = self.sh(other, "exit 0", lease="client")
                self.ended(other, run["id"])
            self.daemon.clients.remove(other)
            self.ended(client, run["id"], for_="empty")
            kinds = [r.kind for r in client.subscribe(run["id"], until="forever", follow=False).collect()]
            self.assertNotIn(K_SIGNAL, kinds)

    def test_rm(self):
        client = self.client()
        run, subscription = self.sh(client, "echo x; exit 3", rm=True, subscribe=True)
        records = subscription.collect()
        self.assertEqual(len([r for r in records if r.kind == K_EXIT]), 1)
        wait_until(lambda: not client.list(), what="it to be removed")
        reader = self.client()
        run, subscription = self.sh(client, "echo x; read line", rm=True, subscribe={"credit": 0},
                                    auto_credit=False)
        client.write(run["id"], b"\n")
        try:
            self.ended(client, run["id"])
        except RpcError as error:
            self.assertEqual(error.name, "not-found")
        self.assertEqual([p["id"] for p in reader.list()], [run["id"]],
                         "it was removed while somebody reads it")
        subscription.grant(1 << 20)
        self.assertEqual(b"".join(r.data for r in subscription.collect() if r.kind == K_DATA), b"x\n")
        wait_until(lambda: not client.list(), what="it to be removed")

    def test_remove(self):
        client = self.client()
        run = self.sh(client, "echo x", name="gone")
        self.ended(client, run["id"], for_="empty")
        client.remove("gone")
        self.assertEqual(client.list(), [])
        again = self.sh(client, "echo y", name="gone")
        self.assertGreater(again["id"], run["id"], "an id is never used again")
        live = self.sh(client, "exec sleep 1000")
        self.assert_error("wrong-state", client.remove, live["id"])
        client.remove(live["id"], force=True)
        self.assertFalse(alive(live["pid"]))

    def test_the_registry_outlives_the_daemon(self):
        client = self.client()
        ended = self.sh(client, "echo out; echo err >&2; exit 7", name="ended")
        self.ended(client, ended["id"], for_="empty")
        killed = self.sh(client, "kill -9 $$", name="killed")
        self.ended(client, killed["id"], for_="empty")
        lives = self.sh(client, "exec sleep 1000", name="lives")
        before = {p["id"]: p for p in client.list()}
        log = [(r.offset, r.time, r.kind, r.source, r.data) for r in client.subscribe("ended").collect()]
        events = client.events(since=0, follow=False).rest()
        self.assertEqual(self.daemon.stop(), 0)
        self.assertFalse(alive(lives["pid"]))
        self.daemon.start()
        client = self.client()
        after = {p["id"]: p for p in client.list()}
        self.assertEqual(set(before), set(after))
        for number in (ended["id"], killed["id"]):
            self.assertEqual(before[number], after[number])
        self.assertEqual(after[lives["id"]]["state"], "exited")
        self.assert_signal(after[lives["id"]]["exit"], signal.SIGTERM)
        self.assertEqual(after[lives["id"]]["exit"]["cause"], "shutdown")
        self.assertEqual([(r.offset, r.time, r.kind, r.source,
                           r.data) for r in client.subscribe("ended").collect()], log)
        self.assertEqual(client.events(since=0, follow=False).rest()[:len(events)], events)
        self.assert_error("exists", client.run, ["/bin/true"], name="ended")
        new = self.sh(client, "exit 0")
        self.assertGreater(new["id"], lives["id"])
        second = client.start("lives")
        self.assertEqual(second["run"], 2)
        client.stop("lives", now=True)

    def test_a_daemon_that_was_killed_as_a_whole(self):
        """What nobody saw is unknown, and is never made up."""
        client = self.client()
        done = self.sh(client, "exit 7", name="done")
        self.ended(client, done["id"], for_="empty")
        lives = self.sh(client, "echo before; exec sleep 1000", name="lives")
        client.subscribe("lives").read_until_bytes(b"before\n")
        status = self.daemon.status()
        client.close()
        self.daemon.clients.clear()
        os.kill(status["keeper_pid"], signal.SIGSTOP)
        os.kill(status["engine_pid"], signal.SIGKILL)
        os.kill(status["keeper_pid"], signal.SIGKILL)
        self.daemon.process.wait()
        wait_until(lambda: not alive(status["engine_pid"]), what="the engine to be gone")
        self.daemon.start()
        client = self.client()
        self.assert_code(client.show("done")["exit"], 7)
        wait_until(lambda: client.show("lives")["state"] != "running", what="the process to be given up")
        exit_record = client.show("lives")["exit"]
        self.assertEqual((exit_record["known"], exit_record["code"], exit_record["signal"],
                          exit_record["cause"],
                          exit_record["rusage"]), (False, None, None, "unknown", None))
        self.assertEqual(b"".join(r.data for r in client.subscribe("lives").collect() if r.kind == K_DATA),
                         b"before\n")
        word = [r.arg for r in client.subscribe("lives").collect() if r.kind == K_EXIT]
        self.assertEqual(word, [1 << 17])
        wait_until(lambda: not alive(lives["pid"]), what="what the killed daemon left to be ended")
        done = self.daemon.cli("wait", "lives")
        self.assertEqual(done.returncode, 125, done)
        second = client.start("lives")
        self.assertEqual(second["run"], 2)
        client.stop("lives", now=True)

    def test_daemon_stop_by_request(self):
        client = self.client()
        runs = [self.sh(client, "exec sleep 1000") for _ in range(3)]
        stubborn, subscription = self.sh(client, 'trap "" TERM; echo ready; while :; do sleep 0.1; done',
                                         kill_after_usec=300_000, subscribe=True)
        subscription.read_until_bytes(b"ready\n")
        self.assertEqual(client.call("daemon-stop"), {})
        self.assertEqual(self.daemon.process.wait(20), 0)
        self.assertEqual([r["pid"] for r in runs + [stubborn] if alive(r["pid"])], [])
        self.assertFalse(os.path.exists(self.daemon.socket), "the socket is left behind")

    def test_instance_stays_over_an_engine_kill(self):
        client = self.client()
        status = client.status()
        self.assertEqual(status["instance"].replace("-", ""), client.instance.hex())
        self.daemon.kill_engine()
        after = self.client()
        self.assertEqual(after.instance, client.instance)
        self.assertEqual(after.status()["keeper_pid"], status["keeper_pid"])
        self.assertEqual(after.status()["engine_restarts"], 1)
        self.assertEqual(after.status()["engine_pid"], after.engine_pid)
        self.daemon.stop()
        self.daemon.start()
        self.assertNotEqual(self.client().instance, client.instance)

    def test_upgrade_in_place(self):
        client = self.client()
        run, subscription = self.sh(client, "while read line; do echo $line; done; exit 3", subscribe=True)
        status = client.status()
        before = self.daemon.client()
        self.assertEqual(before.call("daemon-upgrade"), {})
        wait_until(lambda: before.lost is not None, what="the connection to break")
        self.daemon.wait_serving()
        client = self.client()
        after = client.status()
        self.assertEqual(after["keeper_pid"], status["keeper_pid"])
        self.assertNotEqual(after["engine_pid"], status["engine_pid"])
        self.assertEqual(after["instance"], status["instance"])
        self.assertTrue(alive(run["pid"]))
        client.write(run["id"], b"after the upgrade\n", eof=True)
        self.assertEqual(b"".join(r.data for r in client.subscribe(run["id"]).collect() if r.kind == K_DATA),
                         b"after the upgrade\n")
        self.assert_code(self.ended(client, run["id"]), 3)

    def test_pause_over_an_engine_kill(self):
        client = self.client(reconnect=True)
        run = self.sh(client, "exec sleep 1000")
        client.call("pause", {"targets": [run["id"]]})
        self.daemon.kill_engine()
        self.assertEqual(client.show(run["id"])["state"], "paused")
        client.call("resume", {"targets": [run["id"]]})
        self.assertEqual(client.show(run["id"])["state"], "running")
        client.stop(run["id"], now=True)

    def test_oom_and_cause_of_a_signal_from_outside(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        os.kill(run["pid"], signal.SIGKILL)
        exit_record = self.ended(client, run["id"])
        self.assert_signal(exit_record, signal.SIGKILL)
        self.assertEqual(exit_record["cause"], "self")
        self.assertIn(exit_record["oom"], (False, None))
