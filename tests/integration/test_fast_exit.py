# SPDX-License-Identifier: MIT
"""A child that writes a lot and exits at once: nothing of it is missing, under load."""

import os
import subprocess
import sys

from pmux_test import PmuxTest, Sequence, program, scale


class FastExit(PmuxTest):
    seconds = 20

    def setUp(self):
        super().setUp()
        self.load = [subprocess.Popen([sys.executable, "-c",
                                       "while True: pass"]) for _ in range(os.cpu_count())]

    def tearDown(self):
        for process in self.load:
            process.kill()
            process.wait()
        super().tearDown()

    def check(self, n, *args, out=0, err=0):
        for number in range(n):
            done = self.daemon.cli("run", "--rm", "--", program("sequence"), "-o", str(out), "-e", str(err),
                                   "-x", "3",
                                   "-s", "9", *args)
            for name, data, size, seed in (("stdout", done.stdout, out, 9), ("stderr", done.stderr, err, 10)):
                sequence = Sequence(seed)
                sequence.feed(data)
                self.assertEqual(sequence.finish(), size, "%s, round %d" % (name, number))
            self.assertEqual(done.returncode, 3, "round %d: %r" % (number, done.stderr[-500:]))

    def test_one_mebibyte_of_stdout(self):
        self.check(scale(10, 40, 2000), out=1 << 20)

    def test_half_a_mebibyte_each(self):
        self.check(scale(5, 20, 500), out=512 << 10, err=512 << 10)

    def test_a_status_without_output(self):
        for number in range(scale(10, 40, 1000)):
            done = self.daemon.cli("run", "--rm", "--", "/bin/sh", "-c", "exit 7")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (7, b"", b""), "round %d" % number)
