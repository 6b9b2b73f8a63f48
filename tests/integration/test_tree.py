# SPDX-License-Identifier: MIT
"""The three ends told apart, and a stop that leaves nobody."""

import os
import signal
import time

from pmux_client import K_CLOSED, K_EXIT, STDOUT
from pmux_daemon import alive, wait_until
from pmux_test import ENV, PmuxTest, need, split

# Prints its pids, one a line, when all are there; the main process ends when stdin says so.
FAMILY = r"""
import os, signal, sys, time

def child(ignore_term=False, new_session=False, double=False, keep_pipe=True):
    r, w = os.pipe()
    if os.fork() == 0:
        if new_session:
            os.setsid()
        if double and os.fork() != 0:
            os._exit(0)
        if ignore_term:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.close(r)
        if not keep_pipe:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
        os.write(w, b"%d" % os.getpid())
        os.close(w)
        while True:
            time.sleep(3600)
    os.close(w)
    pid = int(os.read(r, 20))
    os.close(r)
    return pid

pids = [child(**eval(a)) for a in sys.argv[1:]]
os.write(1, b"pids " + b" ".join(b"%d" % p for p in pids) + b"\n")
sys.stdin.readline()
os._exit(5)
"""
STUBBORN = "dict(ignore_term=True)"
DAEMONIZED = "dict(new_session=True, double=True, keep_pipe=False)"
STUBBORN_DAEMON = "dict(new_session=True, double=True, keep_pipe=False, ignore_term=True)"
HOLDS_PIPE = "dict()"


class Tree(PmuxTest):
    def family(self, client, *members, **params):
        run, subscription = client.run([need("python3"), "-c", FAMILY, *members], env=ENV, subscribe=True,
                                       **params)
        line = subscription.read_until_bytes(b"\n")
        pids = [int(p) for p in line.split()[1:]]
        self.assertEqual(len(pids), len(members))
        self.addCleanup(self.assert_dead, pids)
        return run, subscription, pids

    def assert_dead(self, pids):
        left = [p for p in pids if alive(p)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(left, [], "descendants that were left alive")

    def test_stop_empties_a_tree_that_ignores_sigterm(self):
        client = self.client()
        run, _, pids = self.family(client, STUBBORN, STUBBORN, kill_after_usec=300_000)
        result = client.stop(run["id"])[0]
        self.assertEqual((result["how"], result["survivors"]), ("killed", []), result)
        self.assertEqual([p for p in pids if alive(p)], [])
        self.assert_signal(result["exit"], signal.SIGTERM)

    def test_stop_reaches_daemonized_descendants(self):
        client = self.client()
        run, _, pids = self.family(client, DAEMONIZED, DAEMONIZED)
        begin = time.monotonic()
        result = client.stop(run["id"])[0]
        self.assertEqual((result["how"], result["survivors"]), ("exited", []), result)
        self.assertEqual([p for p in pids if alive(p)], [])
        self.assertLess(time.monotonic() - begin, 5, "SIGTERM did not reach them: the grace had to pass")

    def test_stop_kills_daemonized_descendants_that_ignore_sigterm(self):
        client = self.client()
        run, _, pids = self.family(client, STUBBORN_DAEMON, HOLDS_PIPE, kill_after_usec=300_000)
        result = client.stop(run["id"])[0]
        self.assertEqual((result["how"], result["survivors"]), ("killed", []), result)
        self.assertEqual([p for p in pids if alive(p)], [])

    def test_stop_now_kills_at_once(self):
        client = self.client()
        run, _, pids = self.family(client, STUBBORN_DAEMON, STUBBORN)
        begin = time.monotonic()
        result = client.stop(run["id"], now=True)[0]
        self.assertEqual((result["how"], result["survivors"]), ("killed", []), result)
        self.assertEqual([p for p in pids if alive(p)], [])
        self.assertLess(time.monotonic() - begin, 5)
        self.assert_signal(result["exit"], signal.SIGKILL)
        self.assertEqual(result["exit"]["cause"], "stop")

    def test_stop_now_escalates_a_stop_under_way(self):
        client = self.client()
        run, _, _ = self.family(client, STUBBORN, kill_after_usec=60_000_000)
        slow = client.submit("stop", {"targets": [run["id"]]})
        # stopping, or exited already: the leader does not ignore SIGTERM
        wait_until(lambda: client.show(run["id"])["state"] != "running", what="the stop to begin")
        fast = client.stop(run["id"], now=True, timeout=10)[0]
        self.assertEqual((fast["how"], fast["survivors"]), ("killed", []))
        self.assertEqual(slow.result(10)["processes"][0]["how"], "killed")

    def test_stop_of_the_tree_after_the_leader_ended(self):
        client = self.client()
        run, _, pids = self.family(client, STUBBORN_DAEMON, kill_after_usec=300_000)
        client.write(run["id"], b"\n")
        self.assert_code(self.ended(client, run["id"]), 5)
        self.assertTrue(alive(pids[0]))
        result = client.stop(run["id"])[0]
        self.assertEqual((result["how"], result["survivors"]), ("killed", []), result)
        self.assert_code(result["exit"], 5)
        self.assertEqual([p for p in pids if alive(p)], [])

    def test_exited_closed_and_empty_are_told_apart(self):
        client = self.client()
        run, subscription, (holder, daemon) = self.family(client, HOLDS_PIPE, DAEMONIZED)
        waits = {what: client.submit("wait", {"targets": [run["id"]], "for": what})
                 for what in ("exited", "closed", "empty")}
        client.write(run["id"], b"\n")
        status = waits["exited"].result()["processes"][0]
        self.assert_code(status["exit"], 5)
        self.assertEqual((status["state"], status["stdout_closed"], status["stderr_closed"],
                          status["tree_empty"]),
                         ("exited", False, False, False), status)
        self.assertEqual(self.client().call("wait", {"targets": [run["id"]], "for": "closed",
                                                     "timeout_usec": 200_000})["reason"], "timeout")
        self.assertFalse(waits["closed"].done)
        os.kill(holder, signal.SIGKILL)
        status = waits["closed"].result()["processes"][0]
        self.assertEqual((status["stdout_closed"], status["stderr_closed"], status["tree_empty"]),
                         (True, True, False))
        self.assertEqual(self.client().call("wait", {"targets": [run["id"]], "for": "empty",
                                                     "timeout_usec": 200_000})["reason"], "timeout")
        self.assertFalse(waits["empty"].done)
        os.kill(daemon, signal.SIGKILL)
        self.assertTrue(waits["empty"].result()["processes"][0]["tree_empty"])
        self.assertEqual(client.show(run["id"])["tree"], [])

    def test_a_subscription_ends_with_the_exit_or_with_the_close(self):
        client = self.client()
        run, until_exit, (holder,) = self.family(client, HOLDS_PIPE)
        until_closed = client.subscribe(run["id"], until="closed")
        client.write(run["id"], b"\n")
        records = until_exit.collect()
        self.assertEqual(records[-1].kind, K_EXIT)
        self.assertEqual(until_exit.end_reason, 0)
        until_closed.read_until(lambda r: r.kind == K_EXIT)
        with self.assertRaises(TimeoutError):
            until_closed.next(0.2)
        os.kill(holder, signal.SIGKILL)
        kinds = [r.kind for r in until_closed.collect()]
        self.assertEqual(kinds.count(K_CLOSED), 2, kinds)

    def test_run_and_logs_end_though_a_grandchild_holds_the_pipe(self):
        text = "sleep 1000 & echo $!; exit 6"
        done = self.daemon.cli("run", "-n", "parent", "--", "/bin/sh", "-c", text, timeout=20, check=6)
        pid = int(done.stdout)
        self.assertTrue(alive(pid))
        logs = self.daemon.cli("logs", "-f", "parent", timeout=20, check=0)
        self.assertEqual(logs.stdout, done.stdout)
        self.assertEqual(self.daemon.cli("wait", "--for", "closed", "--timeout", "200ms",
                                         "parent").returncode, 124)
        self.daemon.cli("stop", "parent", check=0)
        self.assertFalse(alive(pid))

    def test_what_a_grandchild_writes_later_is_in_the_log(self):
        client = self.client()
        fifo = os.path.join(self.tmp, "fifo")
        os.mkfifo(fifo)
        run, subscription = self.sh(client, '(read line <"$1"; echo late) & exit 3', fifo, subscribe={
            "until": "closed"})
        self.assert_code(self.ended(client, run["id"]), 3)
        with open(fifo, "w") as file:
            file.write("go\n")
        records = subscription.collect()
        self.assertEqual(split(records)[0], b"late\n")
        self.assertEqual([r.source for r in records if r.kind == K_CLOSED].count(STDOUT), 1)

    def test_the_tree_lists_descendants(self):
        client = self.client()
        run, _, pids = self.family(client, HOLDS_PIPE, DAEMONIZED)
        tree = client.show(run["id"])["tree"]
        self.assertLessEqual({run["pid"], *pids}, set(tree))
        client.stop(run["id"], now=True)

    def test_signal_scopes(self):
        client = self.client()
        run, _, (same_group, daemon) = self.family(client, HOLDS_PIPE, DAEMONIZED)
        self.assertEqual(client.signal(run["id"], signal.SIGCONT, scope="main")[0]["n_signalled"], 1)
        client.signal(run["id"], signal.SIGUSR1, scope="group")  # deadly to those who do not handle it
        wait_until(lambda: not alive(same_group) and not alive(run["pid"]), what="the group to be gone")
        self.assertTrue(alive(daemon), "a signal to the group reached another session")
        self.assert_signal(self.ended(client, run["id"]), signal.SIGUSR1)
        client.signal(run["id"], signal.SIGTERM, scope="tree")
        wait_until(lambda: not alive(daemon), what="the rest of the tree to be gone")
        self.ended(client, run["id"], for_="empty")
        self.assert_error("not-running", client.signal, run["id"], signal.SIGTERM, scope="tree")

    def test_signal_to_the_main_process_alone(self):
        client = self.client()
        run, _, (other,) = self.family(client, HOLDS_PIPE)
        client.signal(run["id"], signal.SIGTERM)
        exit_record = self.ended(client, run["id"])
        self.assert_signal(exit_record, signal.SIGTERM)
        self.assertEqual(exit_record["cause"], "signal")
        self.assertTrue(alive(other))
        client.stop(run["id"], now=True)

    def test_pause_and_resume_take_the_whole_tree(self):
        client = self.client()
        run, subscription = self.sh(client, "(while :; do echo a; sleep 0.01; done) & wait", subscribe=True)
        subscription.read_until_bytes(b"a\na\n")
        client.call("pause", {"targets": [run["id"]]})
        self.assertEqual(client.show(run["id"])["state"], "paused")
        end = client.show(run["id"])["log_end"]
        time.sleep(0.3)  # a thing that does not happen can only be waited for
        self.assertLessEqual(client.show(run["id"])["log_end"] - end, 2)
        client.call("resume", {"targets": [run["id"]]})
        self.assertEqual(client.show(run["id"])["state"], "running")
        wait_until(lambda: client.show(run["id"])["log_end"] > end + 10, what="the tree to go on")
        client.call("pause", {"targets": [run["id"]]})
        result = client.stop(run["id"])[0]  # a frozen tree can be stopped
        self.assertEqual(result["survivors"], [])
        self.assertIn(result["how"], ("exited", "killed"))

    def test_stop_of_many_with_their_outcomes(self):
        client = self.client()
        done = self.sh(client, "exit 0")
        self.ended(client, done["id"], for_="empty")
        lives = self.sh(client, "exec sleep 1000")
        stubborn, _, _ = self.family(client, STUBBORN, kill_after_usec=200_000)
        results = {p["id"]: p for p in client.stop(done["id"], lives["id"], stubborn["id"])}
        self.assertEqual({i: p["how"] for i, p in results.items()},
                         {done["id"]: "not-running", lives["id"]: "exited", stubborn["id"]: "killed"})
        self.assert_signal(results[lives["id"]]["exit"], signal.SIGTERM)
        self.assertEqual(results[lives["id"]]["exit"]["cause"], "stop")

    def test_stop_signal_and_grace_are_chosen(self):
        client = self.client()
        run, subscription = self.sh(client,
                                    'trap "echo int; exit 4" INT; echo ready; while :; do sleep 0.05; done',
                                    stop_signal=int(signal.SIGINT), subscribe=True)
        subscription.read_until_bytes(b"ready\n")
        result = client.stop(run["id"])[0]
        self.assertEqual(result["how"], "exited")
        self.assert_code(result["exit"], 4)
        run, subscription = self.sh(client, 'trap "" TERM; echo ready; while :; do sleep 0.05; done',
                                    subscribe=True)
        subscription.read_until_bytes(b"ready\n")
        result = client.stop(run["id"], grace_usec=100_000)[0]
        self.assertEqual(result["how"], "killed")
