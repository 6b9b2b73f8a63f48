# SPDX-License-Identifier: MIT
"""run with the caller's own streams, and with a lease: what becomes of it when the client goes away."""

import os
import select
import signal
import subprocess
import time

from pmux_client import K_EMPTY
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

    def leased(self, name, text, n, *args):
        """A client with a lease on a tree that tells its n pids: the client, and a descriptor for each of these."""
        process = self.daemon.cli_start("run", "--lease", "client", "-n", name, *args, "--", "/bin/sh", "-c", text)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        pids = [int(pid) for pid in process.stdout.readline().split()]
        self.assertEqual(len(pids), n)
        fds = [os.pidfd_open(pid) for pid in pids]
        for fd in fds:
            self.addCleanup(os.close, fd)
        return process, fds

    def seconds_until_gone(self, begin, fds, timeout=20.0):
        """From begin until the kernel says that the last of them has ended."""
        for fd in fds:
            left = begin + timeout - time.monotonic()
            self.assertTrue(select.select([fd], [], [], max(left, 0))[0], "a part of the tree is left")
        return time.monotonic() - begin

    def assert_within_a_second(self, name, text, n, *args):
        """The tree is empty a second after SIGKILL of its client; or, where a plain kill takes as long, not much later."""
        twin, fds = self.leased("twin", text.replace('trap "" TERM', ":"), n)
        begin = time.monotonic()
        self.daemon.cli("kill", "--tree", "twin", check=0)
        plain = self.seconds_until_gone(begin, fds)
        twin.communicate(timeout=20)
        process, fds = self.leased(name, text, n, *args)
        client = self.client()
        begin, begin_usec = time.monotonic(), time.time_ns() // 1000
        process.send_signal(signal.SIGKILL)
        seconds = self.seconds_until_gone(begin, fds)
        process.wait()
        bound = max(1.0, 3 * plain)
        self.assertLess(seconds, bound, "a plain kill took %.3f s" % plain)
        self.assertEqual(self.ended(client, name, for_="empty")["cause"], "lease")
        empty, = [r for r in client.subscribe(name, until="forever", follow=False).collect() if r.kind == K_EMPTY]
        self.assertLess((empty.time - begin_usec) / 1e6, bound, "as the daemon saw it")
        self.assertGreaterEqual(empty.time, begin_usec)

    def test_a_lease_ends_with_a_client_that_is_killed(self):
        self.assert_within_a_second("leased", 'trap "" TERM; sleep 1000 & echo $! $$; wait; sleep 1000', 2,
                                    "--kill-after", "200ms")

    def test_a_lease_ends_within_a_second_for_who_heeds_term(self):
        self.assert_within_a_second("leased", "sleep 1000 & a=$!; sleep 1000 & b=$!; setsid sleep 1000 & "
                                    "echo $$ $a $b $!; wait", 4)

    def test_a_grandchild_in_a_session_of_its_own_goes_with_a_lease(self):
        """Neither parent nor session nor group leads to it, and it heeds no SIGTERM."""
        self.assert_within_a_second(
            "leased", 'setsid sh -c \'trap "" TERM; setsid sleep 1000 & echo $! $$; wait; sleep 1000\' & exec sleep 1000', 2,
            "--kill-after", "200ms")

    def test_a_lease_ends_within_a_second_for_who_heeds_nothing(self):
        self.assert_within_a_second("leased", 'trap "" TERM HUP INT; sleep 1000 & echo $! $$; wait; sleep 1000', 2)

    def test_a_lease_in_the_background_makes_no_sense(self):
        self.assertEqual(self.cli("run", "-d", "--lease", "client", "--", "sleep", "1000").returncode, 125)

    def test_a_lease_for_a_time_is_renewed(self):
        self.cli("run", "-d", "-n", "timed", "--lease", "2s", "--", "sleep", "1000", check=0)
        self.cli("renew", "timed", check=0)
        client = self.client()
        self.assertEqual(self.ended(client, "timed", for_="empty")["cause"], "lease")
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
