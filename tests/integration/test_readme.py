# SPDX-License-Identifier: MIT
"""The session of README.md: each of its lines, one after the other without a pause, says what stands below it."""

import os
import re
import subprocess

from pmux_test import BUILD, PmuxTest, need

README = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "README.md")
MARK = "-- next --"


class Readme(PmuxTest):
    def test_the_session(self):
        need("jq"), need("python3")
        with open(README) as file:
            page = re.search(r"```console\n(.*?)```", file.read(), re.S).group(1)
        steps = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", page, re.M)
        self.assertEqual("".join("$ %s\n%s" % step for step in steps), page)
        script = "".join("%s\necho '%s'\n" % (command, MARK) for command, _ in steps) + "wait; cat seen\n"
        env = self.daemon.cli_env(None)
        env["PATH"] = os.path.join(os.path.abspath(BUILD), "bin") + ":" + env.get("PATH", "/usr/bin:/bin")
        done = subprocess.run(["bash", "-c", script], env=env, cwd=self.tmp, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        said = done.stdout.decode().split(MARK + "\n")
        for (command, wanted), got in zip(steps, said):
            self.assertEqual(got, wanted, command)
        self.assertEqual(said[len(steps):], ["42\n18446744073709551616\n"], "what the follower saw")
