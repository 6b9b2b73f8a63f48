# SPDX-License-Identifier: MIT
"""The runner of these tests: what fails, dies or ends too soon is never reported as passed."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

from pmux_test import BUILD, PmuxTest

PLANTED = '''
import os
import subprocess
import sys
import unittest


class Good(unittest.TestCase):
    def test_passes(self):
        print("not shown")

    def test_is_skipped(self):
        self.skipTest("for a reason")


class Bad(unittest.TestCase):
    def test_fails(self):
        print("what it said")
        self.fail("why")

    def test_part_fails(self):
        with self.subTest(part=1):
            self.fail("why")

    @unittest.expectedFailure
    def test_passes_unexpectedly(self):
        pass

    def test_exits(self):
        sys.exit(0)

    def test_is_over_too_soon(self):
        os._exit(0)

    def test_dies(self):
        os.kill(os.getpid(), 9)

    def test_cannot_say(self):
        sys.stdout.close()

    def test_leaves_a_process(self):
        subprocess.Popen(["sleep", "1000"])


class BadClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no class")

    def test_class(self):
        pass
'''


class Runner(PmuxTest):
    seconds = 7

    def test_what_did_not_pass_is_not_reported_as_passed(self):
        directory = tempfile.mkdtemp(prefix="pmux-test-run-")
        self.addCleanup(shutil.rmtree, directory)
        os.mkdir(os.path.join(directory, "tmp"))
        os.mkdir(os.path.join(directory, "integration"))
        runner = os.path.join(directory, "integration", "run")
        shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "run"), runner)
        with open(os.path.join(directory, "integration", "test_planted.py"), "w") as planted:
            planted.write(PLANTED)
        with open(os.path.join(directory, "integration", "test_unsound.py"), "w") as unsound:
            unsound.write("raise ImportError('cannot be loaded')\n")
        run = subprocess.run([sys.executable, runner, "--build", BUILD], text=True, capture_output=True,
                             env={**os.environ, "TMPDIR": os.path.join(directory, "tmp")})
        words = {name: word for word, name in
                 re.findall(r"(?m)^(ok|FAILED|SKIPPED) .* test_planted\.\w+\.(\w+)$", run.stdout)}
        bad = ["test_fails", "test_part_fails", "test_passes_unexpectedly", "test_exits", "test_is_over_too_soon",
               "test_dies", "test_cannot_say", "test_leaves_a_process", "test_class"]
        self.assertEqual(words, {"test_passes": "ok", "test_is_skipped": "SKIPPED", **dict.fromkeys(bad, "FAILED")},
                         run.stdout)
        self.assertEqual(run.stdout.splitlines()[-1], "1 passed, %d failed, 1 skipped" % (len(bad) + 1))
        self.assertEqual(run.returncode, 1)
        for said in ("what it said", "for a reason", "died of signal 9", "expected to fail", "no class", "sleep 1000"):
            self.assertIn(said, run.stdout)
        self.assertNotIn("not shown", run.stdout)
        self.assertNotIn("in main", run.stdout, "a test's process that goes on as the runner")
