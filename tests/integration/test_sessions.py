# SPDX-License-Identifier: MIT
"""Whole sessions with interpreters, from shell scripts that ask and never sleep (tests/sessions)."""

import os
import re
import subprocess

from pmux_test import BUILD, PmuxTest, need

SESSIONS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sessions")


class Sessions(PmuxTest):
    def session(self, name, program):
        need(program)
        path = os.path.join(SESSIONS, name)
        with open(path) as file:
            self.assertIsNone(re.search(r"\bsleep\b|\busleep\b|read -t", file.read()))
        env = self.daemon.cli_env(None)
        env["PATH"] = os.path.join(os.path.abspath(BUILD), "bin") + ":" + env.get("PATH", "/usr/bin:/bin")
        done = subprocess.run([path], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout.decode("utf-8", "replace"))

    def test_python(self):
        self.session("python", "python3")

    def test_sqlite(self):
        self.session("sqlite", "sqlite3")

    def test_gdb(self):
        self.session("gdb", "gdb")

    def test_node(self):
        self.session("node", "node")

    def test_bc(self):
        self.session("bc", "bc")

    def test_bash(self):
        self.session("bash", "bash")
