# SPDX-License-Identifier: MIT
"""run with the caller's own streams, and with a lease: what becomes of it when the client goes away."""

import os
import signal
import subprocess
import time

from pmux_daemon import alive, wait_until
from pmux_test import PmuxTest


class OwnStreams(PmuxTest):
    def cli(self, *args, **kwargs):
        return self.daemon.cli(*args, **kwargs)

    def test_all_three_are_the_callers(self):
        done = self.cli("run", "--stdin=inherit", "--stdout=inherit", "--stderr=inherit", "--", "/bin/sh", "-c",
                        "cat; echo to stderr >&2; exit 7", input=b"through\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, b"through\n", b"to stderr\n"))
        self.assertEqual(self.cli("logs", "1", check=0).stdout, b"")

    def test_a_file_and_its_place(self):
        path = os.path.join(self.tmp, "out")
        with open(path, "wb") as file:
            file.write(b"before\n")
            file.flush()
            process = self.daemon.cli_start("run", "--stdout=inherit", "--", "/bin/echo", "in it", stdout=file,
                                            stderr=subprocess.DEVNULL)
            self.assertEqual(process.wait(20), 0)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"before\nin it\n")

    def test_another_descriptor(self):
        read_fd, write_fd = os.pipe()
        self.addCleanup(os.close, read_fd)
        done = self.cli("run", "--stdout", "fd:%d" % write_fd, "--", "/bin/echo", "there", pass_fds=[write_fd])
        os.close(write_fd)
        self.assertEqual((done.returncode, done.stdout), (0, b""))
        self.assertEqual(os.read(read_fd, 100), b"there\n")
        self.assertEqual(os.read(read_fd, 100), b"", "nobody else holds the pipe open")

    def test_what_is_not_open_is_refused(self):
        self.assertEqual(self.cli("run", "--stdout", "fd:99", "--", "true").returncode, 125)
        self.assertEqual(self.cli("run", "--stdout", "fd:x", "--", "true").returncode, 125)

    def test_a_lease_ends_with_a_client_that_is_killed(self):
        process = self.daemon.cli_start("run", "--lease", "client", "--kill-after", "200ms", "-n", "leased", "--",
                                        "/bin/sh", "-c", 'trap "" TERM; sleep 1000 & echo $! $$; wait; sleep 1000')
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        pids = [int(pid) for pid in process.stdout.readline().split()]
        self.assertEqual(len(pids), 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not any(alive(pid) for pid in pids), timeout=1.0 * self.patience,
                   what="the end of the tree")
        client = self.client()
        self.assertEqual(self.ended(client, "leased", for_="empty")["cause"], "lease")

    def test_a_lease_ends_within_a_second_for_who_heeds_term(self):
        process = self.daemon.cli_start("run", "--lease", "client", "-n", "leased", "--", "/bin/sh", "-c",
                                        "sleep 1000 & a=$!; sleep 1000 & b=$!; setsid sleep 1000 & "
                                        "echo $$ $a $b $!; wait")
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        pids = [int(pid) for pid in process.stdout.readline().split()]
        self.assertEqual(len(pids), 4)
        client = self.client()
        begin = time.monotonic()
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.ended(client, "leased", for_="empty")
        self.assertLess(time.monotonic() - begin, 1.0 * self.patience)
        self.assertEqual(client.show("leased")["exit"]["cause"], "lease")
        self.assertFalse(any(alive(pid) for pid in pids))

    patience = 10 if os.environ.get("ASAN_OPTIONS") else 2  # the machine may be busy with other tests

    def test_a_lease_in_the_background_makes_no_sense(self):
        self.assertEqual(self.cli("run", "-d", "--lease", "client", "--", "sleep", "1000").returncode, 125)

    def test_a_lease_for_a_time_is_renewed(self):
        self.cli("run", "-d", "-n", "timed", "--lease", "2s", "--", "sleep", "1000", check=0)
        self.cli("renew", "timed", check=0)
        client = self.client()
        self.assertEqual(self.ended(client, "timed")["cause"], "lease")
        self.assertEqual(self.cli("renew", "timed").returncode, 7)

    def test_a_client_lease_is_not_taken_over(self):
        process = self.daemon.cli_start("run", "--lease", "client", "-n", "held", "--", "/bin/sh", "-c",
                                        "echo ready; exec cat", stdin=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        done = self.cli("renew", "held")
        self.assertEqual(done.returncode, 1, done)
        self.assertTrue(self.client().list()[0]["tree_empty"] is False)
        out, err = process.communicate(b"", timeout=20)
        self.assertEqual((process.returncode, out, err), (0, b"", b""))
