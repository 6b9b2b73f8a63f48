# SPDX-License-Identifier: MIT
"""What one client waits for while another changes it, and what ends while somebody stands in the way."""

import os
import signal
import stat
import subprocess

from pmux_client import K_DATA, K_EXIT
from pmux_daemon import wait_until
from pmux_test import PmuxTest, program

MIB = 1 << 20
SLOW_END = 'trap "sleep 0.3; exit 3" TERM; echo ready; while :; do sleep 0.05; done'


class Meanwhile(PmuxTest):
    def slow_to_end(self, client):
        run, subscription = self.sh(client, SLOW_END, subscribe=True)
        subscription.read_until_bytes(b"ready\n")
        return run

    def test_two_restarts_at_once_are_both_answered(self):
        client = self.client()
        run = self.slow_to_end(client)
        pending = [client.submit("restart", {"target": run["id"]}) for _ in range(2)]
        self.assertEqual([p.result(20)["run"] for p in pending], [2, 2])
        client.stop(run["id"], now=True)
        self.assertEqual(client.show(run["id"])["run"], 2)

    def test_stop_and_wait_are_answered_though_it_is_restarted(self):
        client = self.client()
        run = self.slow_to_end(client)
        wait = client.submit("wait", {"targets": [run["id"]], "for": "empty"})
        restart = client.submit("restart", {"target": run["id"]})
        stop = client.submit("stop", {"targets": [run["id"]]})
        waited = wait.result(20)["processes"][0]
        self.assertEqual((waited["run"], waited["state"]), (1, "exited"))
        self.assert_code(waited["exit"], 3)
        stopped = stop.result(20)["processes"][0]
        self.assert_code(stopped["exit"], 3)
        restart.result(20)
        client.stop(run["id"], now=True)

    def test_a_restart_goes_on_without_its_client(self):
        client, other = self.client(), self.client()
        run = self.slow_to_end(client)
        other.submit("restart", {"target": run["id"]})
        wait_until(lambda: client.show(run["id"])["state"] == "stopping" or client.show(run["id"])["run"] == 2,
                   what="the stop")
        other.close()
        wait_until(lambda: client.show(run["id"])["run"] == 2, what="the second run")
        client.stop(run["id"], now=True)

    def test_stop_and_remove_do_not_wait_for_a_lossless_reader(self):
        client = self.client()
        for remove in (False, True):
            run, _ = client.run([program("sequence"), "-o", "inf", "-s", "1"], retention_bytes=1 << 16,
                                subscribe={"lossless": True, "credit": 4096}, auto_credit=False)
            wait_until(lambda: client.show(run["id"])["waiting_for"], what="the process to wait")
            if remove:
                client.call("remove", {"targets": [run["id"]], "force": True}, 10)
            else:
                done = client.call("stop", {"targets": [run["id"]]}, 10)["processes"][0]
                self.assert_signal(done["exit"], signal.SIGTERM)

    def test_what_was_paused_can_be_stopped_after_its_leader_was_killed(self):
        client = self.client()
        run, subscription = self.sh(
            client, "(trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done) & wait", subscribe=True)
        subscription.read_until_bytes(b"ready\n")
        client.call("pause", {"targets": [run["id"]]})
        client.signal(run["id"], signal.SIGKILL)
        self.ended(client, run["id"])
        done = client.call("stop", {"targets": [run["id"]], "grace_usec": 20_000_000}, 15)["processes"][0]
        self.assertEqual(done["how"], "exited")

    def test_a_recorded_status_outlives_the_keeper(self):
        client = self.client()
        run = self.sh(client, "sleep 1000 & exit 3")
        self.assert_code(self.ended(client, run["id"]), 3)
        self.daemon.kill()
        self.daemon.start()
        self.assert_code(self.client().show(run["id"])["exit"], 3)

    def test_a_reader_whose_reading_lets_the_end_be_logged(self):
        """The log is full and the process has ended with bytes in its pipe: they are logged while the reader that
        makes room is being sent what there is. The engine lives, and the reader gets all."""
        client = self.client()
        size = (4 << 20) + (1 << 19)  # what the log holds for a reader that is behind
        _, wide = client.run(["head", "-c", str(16 << 20), "/dev/zero"], subscribe={"until": "closed"})
        wide.collect(20)  # a client that has read much has a large socket, and may be sent more in a turn
        engine = self.daemon.engine_pid()
        run, slow = client.run(["head", "-c", str(size + 48 * 1024), "/dev/zero"], retention_bytes=4 << 20,
                               subscribe={"lossless": True, "until": "closed", "credit": 1 << 16}, auto_credit=False)
        wait_until(lambda: client.show(run["id"])["state"] == "exited" and
                   client.show(run["id"])["log"]["state"] == "waiting", what="the end, behind a full log")
        slow.grant(1 << 30)
        data = sum(len(r.data) for r in slow.collect(20) if r.kind == K_DATA)
        self.assertEqual(data, size + 48 * 1024)
        self.assertEqual(self.daemon.engine_pid(), engine)

    def test_output_stands_before_the_exit_though_descriptors_ran_out(self):
        """The log cannot be opened when the process ends: the exit record waits for the bytes before it. Neither
        could it be seen that the tree was empty: that is told as soon as there are descriptors again."""
        client = self.client()
        fifo = os.path.join(self.tmp, "fifo")
        os.mkfifo(fifo)
        run, subscription = self.sh(client, 'head -c 60000 /dev/zero; read line <"$1"; head -c 60000 /dev/zero', fifo,
                                    retention_bytes=1 << 16, subscribe={"lossless": True})
        subscription.read_until(lambda r: r.kind == K_DATA and r.offset + len(r.data) == 60000)
        engine = str(self.daemon.engine_pid())
        subprocess.run(["prlimit", "--pid", engine, "--nofile=8:20000"], check=True)
        with open(fifo, "w", encoding="ascii") as stream:
            stream.write("\n")
        self.ended(client, run["id"])
        subprocess.run(["prlimit", "--pid", engine, "--nofile=20000:20000"], check=True)
        records = subscription.collect(20)
        self.assertEqual(records[-1].kind, K_EXIT)
        self.assertEqual(records[-1].offset, 120000)
        self.ended(client, run["id"], for_="empty")

    def test_output_files_have_the_mode_that_the_umask_leaves(self):
        client = self.client()
        path = os.path.join(self.tmp, "out")
        run = self.sh(client, "echo x", stdout={"file": path}, umask=0o027)
        self.ended(client, run["id"])
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)

    def test_keys_are_for_one_request(self):
        client = self.client()
        first, second = self.sh(client, "cat", key="k1"), self.sh(client, "cat")
        self.assert_error("invalid-argument", client.call, "restart", {"target": second["id"], "key": "k1"})
        client.call("write", {"target": first["id"], "data": "one\n", "key": "w"})
        self.assert_error("invalid-argument", client.call, "write",
                          {"target": first["id"], "data": "two, longer\n", "key": "w"})
        restarted = client.call("restart", {"target": first["id"], "key": "k2"})
        client.call("restart", {"target": first["id"], "key": "k3"})
        again = client.call("restart", {"target": first["id"], "key": "k2"})
        self.assertEqual((again["run"], again["pid"], again["existing"]), (2, restarted["pid"], True))

    def test_small_refusals(self):
        client = self.client()
        self.assert_error("stdin-closed", client.call, "run", {"argv": ["cat"], "stdin": "null", "data": "x"})
        error = self.assert_error("spawn-failed", client.call, "run", {"argv": ["/bin/true"], "cwd": "/nowhere"})
        self.assertIn("/nowhere", error.message)
        run = self.sh(client, "exit 0")
        self.ended(client, run["id"], for_="empty")
        wait = client.submit("wait", {"targets": [run["id"]], "for": "running"})
        client.remove(run["id"])
        self.assert_error("not-found", wait.result, 10)
