# SPDX-License-Identifier: MIT
"""pmux batch: every command once, results in order, whatever happens to engine, client and commands."""

import os
import pty
import resource
import signal
import subprocess
import threading

from pmux_daemon import alive, fd_count, wait_until
from pmux_test import SANITIZED, PmuxTest, scale


class Batch(PmuxTest):
    def batch(self, text, *args, check=None, **kwargs):
        if isinstance(text, str):
            text = text.encode()
        return self.daemon.cli("--json", "batch", *args, input=text, check=check, **kwargs)

    def results(self, done):
        return self.json_lines(done.stdout)

    def start_batch(self, text, *args):
        path = os.path.join(self.tmp, "commands")
        with open(path, "w") as file:
            file.write(text)
        process = self.daemon.cli_start("--json", "batch", *args, path)
        self.addCleanup(process.stdout.close)
        return process

    def marks(self, name="ran"):
        """What commands appended to a file: each line is one that ran."""
        path = os.path.join(self.tmp, name)
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return file.read().split()

    def test_results_come_in_order_with_what_was_written(self):
        lines = "sh -c 'sleep 0.3; echo one; echo uno >&2; exit 3'\n# not this\n\n" \
                "echo two\n[\"printf\", \"%s\", \"a  b\"]\nprintf \\\\377\n"
        done = self.batch(lines, "-j", "4", "--keep-going", check=1)
        results = self.results(done)
        self.assertEqual([r["number"] for r in results], [1, 2, 3, 4])
        self.assertEqual([r["line"] for r in results], [1, 4, 5, 6])
        self.assertEqual([r["status"] for r in results], [3, 0, 0, 0])
        self.assertEqual([r["stdout"] for r in results], ["one\n", "two\n", "a  b", {"base64": "/w=="}])
        self.assertEqual([r["stderr"] for r in results], ["uno\n", "", "", ""])
        self.assertEqual([r["to"] - r["from"] for r in results], [8, 4, 4, 1])
        self.assertGreaterEqual(results[0]["end_usec"] - results[0]["start_usec"], 250000)
        for result in results:
            self.assertEqual(self.client().show(result["id"])["exit"]["code"], result["status"])

    def test_text_has_a_line_for_each(self):
        done = self.daemon.cli("batch", "-k", input=b"true\nsh -c 'exit 9'\n", check=1)
        rows = [line.split() for line in done.stdout.decode().splitlines()]
        self.assertEqual(rows[0][:4], ["NUMBER", "STATUS", "SECONDS", "ID"])
        self.assertEqual([row[:2] for row in rows[1:]], [["1", "0"], ["2", "9"]])
        self.assertEqual(done.stderr, b"")

    def test_a_failure_ends_the_batch_but_not_what_runs(self):
        marks = os.path.join(self.tmp, "ran")
        # The first ends when the second was reaped: else it may be the first to end, and make room for the third.
        lines = "sh -c 'while ! test -e MARKS.go; do sleep 0.02; done; " \
                "while kill -0 $(cat MARKS.go) 2>/dev/null; do sleep 0.02; done; echo slow >> MARKS'\n" \
                "sh -c 'echo $$ > MARKS.new; mv MARKS.new MARKS.go; exit 5'\n" \
                "sh -c 'echo third >> MARKS'\ntrue\n".replace("MARKS", marks)
        done = self.batch(lines, "-j", "2", check=1)
        results = self.results(done)
        self.assertEqual([r["state"] for r in results], ["exited", "exited", "not-started", "not-started"])
        self.assertEqual([r["status"] for r in results], [0, 5, None, None])
        self.assertEqual(self.marks(), ["slow"])
        os.unlink(marks + ".go")
        done = self.batch(lines, "-j", "2", "-k", check=1)
        self.assertEqual([r["state"] for r in self.results(done)], ["exited"] * 4)
        self.assertEqual(sorted(self.marks()), ["slow", "slow", "third"])

    def test_exit_statuses(self):
        for text, status in (("sh -c 'exit 7'", 7), ("sh -c 'kill -9 $$'", 137), ("no-such-program", 127),
                             ("/etc/passwd", 126), ("true", 0), ("true\ntrue", 0), ("", 0),
                             ("true\nsh -c 'exit 7'", 1), ("no-such-program\ntrue", 1)):
            self.assertEqual(self.batch(text).returncode, status, text)
        done = self.batch("sleep 1000", "--timeout", "200ms", check=124)
        self.assertEqual(self.results(done)[0]["by"], "pmux")
        done = self.batch("sh -c 'exit 124'", "--timeout", "100s", check=124)
        self.assertEqual(self.results(done)[0]["by"], "process")
        done = self.batch("sh -c \"trap 'exit 0' TERM; sleep 1000 & wait\"", "--timeout", "300ms", check=124)
        self.assertEqual(self.results(done)[0]["status"], 124)

    def test_bad_input_is_named_before_anything_starts(self):
        mark = os.path.join(self.tmp, "ran")
        for line, where, why in ((b"echo 'a", b":2:6:", b"quote"), (b"  echo \"\xc3\xa4\" \"b", b":2:12:", b"quote"),
                                 (b"echo \\", b":2:6:", b"backslash"), (b"a\0b", b":2:2:", b"NUL"),
                                 (b"[\"a\", 1]", b":2:1:", b"word 2"), (b"[\"a\",", b":2:", b"JSON"),
                                 (b"[]", b":2:1:", b"without a command"), (b"[\"a\\u0000b\"]", b":2:1", b"NUL")):
            done = self.batch(b"touch %s\n%s\n" % (mark.encode(), line), check=2)
            self.assertIn(b"stdin" + where, done.stderr, line)
            self.assertIn(why, done.stderr, line)
        self.assertFalse(os.path.exists(mark))
        self.assertEqual(self.daemon.cli("batch", "/nowhere/at/all").returncode, 1)
        for args in (("-j", "0"), ("-j", "x"), ("-j", "1000"), ("--timeout", "soon"), ("--lease", "x"), ("a", "b")):
            self.assertEqual(self.batch("", *args).returncode, 2, args)

    def test_a_line_can_be_for_the_shell(self):
        done = self.batch("echo $((1 + 2)) | tr 3 4\n# nothing\n  echo 'x\n", "--shell", "-k", check=1)
        results = self.results(done)
        self.assertEqual([r["stdout"] for r in results], ["4\n", ""])
        self.assertEqual([r["status"] for r in results], [0, 2])

    def test_nothing_is_left_with_rm(self):
        self.batch("true\nsh -c 'echo x; exit 3'\nno-such-program\nsleep 0.1\n" * 5, "-k", "--rm", "-j", "7", check=1)
        client = self.client()
        wait_until(lambda: not client.list(), what="the processes to be forgotten")

    def test_long_output_is_cut_and_counted(self):
        done = self.batch("head -c 3000000 /dev/zero\n", check=0)
        result = self.results(done)[0]
        self.assertEqual((len(result["stdout"]), result["stdout_bytes"], result["truncated"]), (1 << 20, 3000000, True))
        self.assertEqual(result["to"] - result["from"], 3000000)

    def test_a_signal_stops_what_runs_with_its_trees(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            name = "ran%d" % number
            line = "sh -c 'sleep 1000 & echo $! $$ >> %s; trap : TERM; wait; wait'\n" % os.path.join(self.tmp, name)
            process = self.start_batch(line * 3, "-j", "2")
            wait_until(lambda name=name: len(self.marks(name)) == 4, what="both trees")
            pids = [int(pid) for pid in self.marks(name)]
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
            self.assertEqual([pid for pid in pids if alive(pid)], [], "trees are not empty")
            self.assertEqual([r["state"] for r in self.json_lines(out)], ["exited", "exited", "not-started"])
            self.assertEqual(process.returncode, 128 + number, err)

    def test_an_interrupt_tells_all_results_in_order(self):
        """What had ended behind one that still ran, what was stopped, and what was not begun."""
        for arguments, numbers in ((["-j", "2"], [1, 2, 3, 4, 5]), (["-j", "2", "--rm"], [1, 2, 3, 4, 5])):
            name = "order%d" % len(arguments)
            mark = "echo x >> %s" % os.path.join(self.tmp, name)
            process = self.start_batch("sh -c '%s; exec sleep 1000'\nprintf two\nprintf three\n"
                                       "sh -c 'echo four; %s; exec sleep 1000'\nprintf five\n" % (mark, mark),
                                       *arguments)
            wait_until(lambda name=name: len(self.marks(name)) == 2, what="the fourth")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            results = self.json_lines(out)
            self.assertEqual([r["number"] for r in results], numbers)
            self.assertEqual([r["state"] for r in results], ["exited"] * 4 + ["not-started"])
            self.assertEqual([r["status"] for r in results], [143, 0, 0, 143, None])
            self.assertEqual([r.get("stdout") for r in results], ["", "two", "three", "four\n", None])
            self.assertEqual(process.returncode, 130, err)

    def test_a_second_signal_kills(self):
        process = self.start_batch("sh -c 'trap \"\" TERM; echo $$ >> %s; while :; do sleep 0.05; done'\n" %
                                   os.path.join(self.tmp, "ran"))
        wait_until(self.marks, what="the command")
        process.send_signal(signal.SIGTERM)
        self.assertIn(b"stopping", process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=8)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, "that of the first signal")
        self.assertEqual(self.json_lines(out)[0]["exit"]["signal"], 9)

    def test_what_runs_does_not_outlive_the_client(self):
        process = self.start_batch("sh -c 'echo $$ >> %s; exec sleep 1000'\n" % os.path.join(self.tmp, "ran"))
        wait_until(self.marks, what="the command")
        process.kill()
        process.communicate()
        wait_until(lambda: not alive(int(self.marks()[0])), what="the lease to end it")

    def test_unless_asked_otherwise(self):
        process = self.start_batch("sh -c 'echo $$ >> %s; exec sleep 1000'\n" % os.path.join(self.tmp, "ran"),
                                   "--lease", "none")
        wait_until(self.marks, what="the command")
        process.kill()
        process.communicate()
        client = self.client()
        wait_until(lambda: not client.show(1)["subscribers"], what="the client to be gone")
        self.assertEqual(client.show(1)["state"], "running")
        client.stop(1, now=True)

    def test_commands_are_run_once_over_engine_kills(self):
        n = scale(60, 300, 2000)
        marks = os.path.join(self.tmp, "ran")
        text = "".join("sh -c 'echo %d >> %s; echo out%d; exit %d'\n" % (i, marks, i, i % 3) for i in range(n))
        for args in ((), ("--rm",)):
            process = self.start_batch(text, "-j", "3", "-k", "--timeout", "100s", *args)
            kills = 0
            output = []
            reader = threading.Thread(target=lambda: output.append(process.communicate()))
            reader.start()
            while process.poll() is None and kills < scale(4, 10, 60):
                before = len(self.marks())
                wait_until(lambda: len(self.marks()) >= before + n // 15 or process.poll() is not None,
                           timeout=60, what="some commands")
                if process.poll() is None:
                    self.daemon.kill_engine()
                    kills += 1
            reader.join(120)
            out, err = output[0]
            results = self.json_lines(out)
            self.assertGreater(kills, 1)
            self.assertEqual([r["number"] for r in results], list(range(1, n + 1)), err)
            self.assertEqual([r["status"] for r in results], [i % 3 for i in range(n)], err)
            self.assertEqual([r["stdout"] for r in results], ["out%d\n" % i for i in range(n)])
            self.assertEqual(sorted(map(int, self.marks())), list(range(n)), "each once")
            os.unlink(marks)

    def test_no_more_run_at_a_time_than_may_over_engine_kills(self):
        n, jobs = scale(40, 150, 1000), 3
        marks = os.path.join(self.tmp, "ran")
        line = "sh -c 'echo + >> %s; sleep 0.%%d; echo - >> %s'\n" % (marks, marks)
        process = self.start_batch("".join(line % (i % 3 + 1) for i in range(n)), "-j", str(jobs), "-k")
        for i in range(1, 4):
            wait_until(lambda i=i: len(self.marks()) > i * n // 2, timeout=60, what="some commands")
            self.daemon.kill_engine()
        out, err = process.communicate(timeout=60)
        self.assertEqual([r["status"] for r in self.json_lines(out)], [0] * n, err)
        running, most = 0, 0
        for mark in self.marks():
            running += 1 if mark == "+" else -1
            most = max(most, running)
        self.assertEqual((len(self.marks()), running), (2 * n, 0))
        self.assertLessEqual(most, jobs)
        self.assertGreater(most, 1)

    def test_nothing_that_waits_begins_after_a_failure(self):
        mark = "touch %s\n" % os.path.join(self.tmp, "ran")
        for first in ("sh -c 'exit 5'\n", "no-such-program\n", "sh -c 'kill -9 $$'\n", "/etc\n"):
            done = self.batch("true\n" * 3 + first + mark * 20, "-j", "1", check=1)
            self.assertEqual([r["state"] for r in self.results(done)][4:], ["not-started"] * 20, first)
            self.assertEqual(self.marks(), [])
        self.assertEqual(self.client().call("daemon-status")["limits"]["queued-run-bytes"]["used"], 0)

    def test_progress_is_for_terminals(self):
        master, slave = pty.openpty()
        try:
            process = subprocess.Popen([self.daemon.pmux, "batch"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                       stderr=slave, env=self.daemon.cli_env())
            process.communicate(b"true\ntrue\n", timeout=30)
            os.set_blocking(master, False)
            self.assertIn(b"of 2 done", os.read(master, 65536))
        finally:
            os.close(master)
            os.close(slave)
        self.assertEqual(self.daemon.cli("batch", input=b"true\n").stderr, b"")

    def test_many_commands_in_bounded_memory(self):
        """Memory and descriptors of client and engine do not grow with the number of commands."""
        n = scale(1000, 2000, 100000)
        path = os.path.join(self.tmp, "many")
        with open(path, "w") as file:
            file.write("true\n" * n)
        client = self.client()
        self.batch("true\n" * 200, "--rm", "-j", "2", check=0)
        fds = fd_count(self.daemon.engine_pid())
        process = self.daemon.cli_start("batch", "--rm", "-q", "-j", "2", path, stderr=subprocess.DEVNULL)
        n_lines, peak, peak_fds = 0, 0, 0
        for line in process.stdout:
            n_lines += 1
            if n_lines % 500 == 0:
                with open("/proc/%d/statm" % process.pid) as statm:
                    peak = max(peak, int(statm.read().split()[1]) * resource.getpagesize())
                peak_fds = max(peak_fds, fd_count(self.daemon.engine_pid()))
        process.stdout.close()
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(n_lines, n)
        if not SANITIZED:  # freed memory is kept for a while there
            self.assertLess(peak, (8 << 20) + 64 * n)
        self.assertLess(peak_fds, fds + 40)
        wait_until(lambda: not client.list(), what="all to be forgotten")

    def test_results_that_wait_are_bounded(self):
        """One that takes its time holds up those after it before their output fills the memory."""
        go = os.path.join(self.tmp, "go")
        path = os.path.join(self.tmp, "big")
        with open(path, "wb") as file:
            file.write(b"a" * 1000000)
        big = "cat %s\n" % path
        process = self.start_batch("sh -c 'while ! test -e %s; do sleep 0.05; done'\n" % go + big * 60, "-j", "2")
        client = self.client()

        def resting():
            return len(client.list()) > 30 and len(client.list(all=False)) == 1
        wait_until(resting, timeout=60, what="the others to be held up")
        n = len(client.list())
        self.assertLess(n, 45)
        with open(go, "w"):
            pass
        out, err = process.communicate(timeout=60)
        self.assertEqual(len(self.json_lines(out)), 61, err)
        self.assertEqual(process.returncode, 0)

    def test_more_than_the_daemon_can_keep_is_refused_at_once(self):
        done = self.batch("true\n" * 25000, check=2)
        self.assertIn(b"--rm", done.stderr)
        self.assertEqual(self.client().list(), [])

    def test_a_reader_that_leaves_ends_the_batch(self):
        process = self.start_batch("true\n" * 100000, "--rm")
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(30), -signal.SIGPIPE)
        process.stderr.close()
