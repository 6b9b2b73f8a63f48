# SPDX-License-Identifier: MIT
"""The command line over a real daemon: data on stdout, statuses as promised."""

import os
import select
import re
import signal
import subprocess
import time

from pmux_client import K_DATA, decode_bytes
from pmux_daemon import alive, wait_until
from pmux_test import PmuxTest, Sequence, need, program, scale


class CommandLine(PmuxTest):
    def cli(self, *args, **kwargs):
        return self.daemon.cli(*args, **kwargs)

    def test_exit_statuses_of_run(self):
        for args, status in ((["/bin/sh", "-c", "exit 0"], 0), (["/bin/sh", "-c", "exit 42"], 42),
                             (["/bin/sh", "-c", "kill -TERM $$"], 143), (["/bin/sh", "-c", "kill -KILL $$"],
                                     137),
                             (["/nowhere"], 127), (["no-such-program"], 127), (["/etc/passwd"], 126),
                             (["/bin/sh", "-c", "exit 125"], 125)):
            done = self.cli("run", "--", *args)
            self.assertEqual(done.returncode, status, (args, done))
            self.assertEqual(done.stdout, b"")
        done = self.cli("run", "--timeout", "200ms", "--", "sleep", "1000")
        self.assertEqual(done.returncode, 124, done)

    def test_a_childs_124_and_ours_are_told_apart(self):
        ours = self.json_lines(self.cli("--json", "run", "--timeout", "200ms", "--", "sleep", "1000").stdout)
        theirs = self.json_lines(self.cli("--json", "run", "--", "/bin/sh", "-c", "exit 124").stdout)
        self.assertNotEqual([{k: v for k, v in o.items() if "id" not in k and "usec" not in k} for o in ours],
                            [{k: v for k, v in o.items() if "id" not in k and "usec" not in k}
                             for o in theirs])

    def test_run_forwards_stdin(self):
        sequence = Sequence(5)
        data = b"".join(sequence.block(i) for i in range(scale(256, 2048, 20000)))
        done = self.cli("run", "--", "cat", input=data, check=0)
        self.assertEqual(done.stdout, data)
        self.assertEqual(done.stderr, b"")

    def test_run_of_what_does_not_read_it_all(self):
        """What is left of the input is nobody's fault: the outcome is the process's own, and nothing is complained of."""
        data = b"x" * (20 << 20)
        for command, out, status in ((["true"], b"", 0), (["head", "-c", "3"], b"xxx", 0),
                                     (["sh", "-c", "exec <&-; echo closed; exit 7"], b"closed\n", 7)):
            done = self.cli("run", "--", *command, input=data, check=status)
            self.assertEqual((done.stdout, done.stderr), (out, b""), command)

    def test_run_forwards_signals(self):
        process = self.daemon.cli_start("run", "-n", "s", "--", "/bin/sh", "-c",
                                        'trap "echo got; exit 9" INT; echo ready; '
                                        'while :; do sleep 0.05; done')
        self.assertEqual(process.stdout.readline(), b"ready\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        self.assertEqual((out, process.returncode), (b"got\n", 9), err)

    def interrupted(self, process):
        """Ctrl-C again and again, as somebody does who wants to leave; what was said on the way out."""
        def listens():
            with open("/proc/%d/status" % process.pid) as status:
                blocked = next(line for line in status if line.startswith("SigBlk:"))
            return int(blocked.split()[1], 16) & 1 << signal.SIGINT - 1

        def left():
            process.send_signal(signal.SIGINT)
            return process.poll() is not None
        wait_until(listens, what="run to take signals")
        wait_until(left, what="run to leave", interval=0.1)
        return process.communicate(timeout=20)[1], process.returncode

    def test_an_interrupt_leaves_a_daemon_that_does_not_answer(self):
        process = self.daemon.cli_start("run", "-n", "s", "--", "/bin/sh", "-c", "echo ready; exec sleep 1000")
        self.assertEqual(process.stdout.readline(), b"ready\n")
        daemon = [self.daemon.keeper_pid(), self.daemon.engine_pid()]
        for pid in daemon:
            os.kill(pid, signal.SIGSTOP)
        try:
            early = self.daemon.cli_start("run", "--", "true")
            err, status = self.interrupted(process)
            self.assertEqual((status, b"is left to the daemon" in err), (125, True), err)
            err, status = self.interrupted(early)
            self.assertEqual((status, b"may start the process yet" in err), (125, True), err)
            os.kill(daemon[1], signal.SIGKILL)  # the socket is there, but nobody accepts
            early = self.daemon.cli_start("run", "--", "true")
            err, status = self.interrupted(early)
            self.assertEqual((status, b"may start the process yet" in err), (125, True), err)
        finally:
            for pid in daemon[:1]:
                os.kill(pid, signal.SIGCONT)
        self.assertEqual(self.client().show("s")["state"], "running")

    def test_a_daemon_that_is_only_slow_is_not_left(self):
        process = self.daemon.cli_start("run", "--", "/bin/sh", "-c",
                                        'trap "echo got; exit 9" INT; echo ready; while :; do sleep 0.05; done')
        self.assertEqual(process.stdout.readline(), b"ready\n")
        daemon = [self.daemon.keeper_pid(), self.daemon.engine_pid()]
        for pid in daemon:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(10):
                process.send_signal(signal.SIGINT)
                if select.select([process.stderr], [], [], 3)[0]:
                    break  # it says that a second one leaves
        finally:
            for pid in daemon:
                os.kill(pid, signal.SIGCONT)
        out, err = process.communicate(timeout=20)
        self.assertEqual((out, process.returncode, err.count(b"does not answer")), (b"got\n", 9, 1), err)

    def test_run_survives_engine_kills(self):
        total = scale(8, 32, 256) << 20
        process = self.daemon.cli_start("run", "--", program("sequence"), "-o", str(total), "-s", "6", "-x",
                                        "5",
                                        stderr=subprocess.DEVNULL)
        self.addCleanup(process.stdout.close)
        sequence = Sequence(6)
        n = n_kills = 0
        while True:
            data = process.stdout.read(1 << 20)
            if not data:
                break
            sequence.feed(data)
            n += len(data)
            if n > (n_kills + 1) * total // 8 and n_kills < 6:
                self.daemon.kill_engine()
                n_kills += 1
        self.assertEqual(sequence.finish(), total)
        self.assertEqual(process.wait(20), 5)

    def test_stdin_survives_engine_kills(self):
        """A pipe in front and a pipe behind: `pmux run -- cat` and `pmux write` carry each byte once."""
        n_blocks = scale(1000, 6000, 50000)
        path = os.path.join(self.tmp, "in")
        sequence = Sequence(15)
        with open(path, "wb") as file:
            for number in range(n_blocks):
                file.write(sequence.block(number))
        out = self.client(reconnect=True)
        copied = out.run(["/bin/cat"], name="copied", retention_bytes=n_blocks * 4096 * 2)
        with open(path, "rb") as one, open(path, "rb") as two:
            run = self.daemon.cli_start("run", "--", "cat", stdin=one, stderr=subprocess.DEVNULL)
            write = self.daemon.cli_start("write", "--eof", "copied", stdin=two, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL)
        self.addCleanup(run.stdout.close)
        n = n_kills = 0
        while True:
            data = run.stdout.read(1 << 18)
            if not data:
                break
            sequence.feed(data)
            n += len(data)
            if n > (n_kills + 1) * n_blocks * 4096 // 10 and n_kills < 8:
                self.daemon.kill_engine()
                n_kills += 1
        self.assertEqual(sequence.finish(), n_blocks * 4096)
        self.assertEqual(run.wait(20), 0)
        self.assertEqual(write.wait(60), 0)
        self.assert_code(self.ended(out, copied["id"]), 0)
        sequence = Sequence(15)
        for record in out.subscribe("copied"):
            if record.kind == K_DATA:
                sequence.feed(record.data)
        self.assertEqual(sequence.finish(), n_blocks * 4096)

    def test_a_slow_reader_of_run_makes_the_child_wait(self):
        """As a pipe would, beyond what retention keeps; `show` says who it is."""
        total = 160 << 20
        client = self.client()
        process = self.daemon.cli_start("run", "-n", "slow", "--", program("sequence"), "-o", str(total),
                                        "-s", "16")
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        wait_until(lambda: client.list() and client.show("slow")["waiting_for"] == process.pid,
                   what="the child to wait")
        self.assertLess(client.show("slow")["log"]["end"], 128 << 20)
        sequence = Sequence(16)
        while data := process.stdout.read(1 << 20):
            sequence.feed(data)
        self.assertEqual(sequence.finish(), total)
        self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.wait(20), 0)

    def test_a_slow_reader_without_lossless_is_told_what_it_missed(self):
        total = 160 << 20
        client = self.client()
        process = self.daemon.cli_start("run", "-n", "fast", "--no-lossless", "--", program("sequence"), "-o",
                                        str(total),
                                        "-s", "16")
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        wait_until(lambda: client.list() and client.show("fast")["state"] == "exited", what="the child's end")
        n = 0
        while data := process.stdout.read(1 << 20):
            n += len(data)
        self.assertLess(n, total)
        lost = re.findall(rb"(?m)^pmux: ([0-9]+) bytes of output are lost at offset", process.stderr.read())
        self.assertEqual(sum(map(int, lost)), total - n, "the number of bytes that are missing")
        self.assertEqual(process.wait(20), 0)

    def test_logs_follow_survives_engine_kills(self):
        client = self.client(reconnect=True)
        run = self.sh(client, "i=0; while read line; do i=$((i+1)); echo $i; done; exit 3", name="counter")
        follow = self.daemon.cli_start("logs", "-f", "counter", stderr=subprocess.DEVNULL)
        self.addCleanup(follow.stdout.close)
        for number in range(1, 11):
            client.write(run["id"], b"\n")
            self.assertEqual(follow.stdout.readline(), b"%d\n" % number)
            if number % 3 == 0:
                self.daemon.kill_engine()
        client.close_stdin(run["id"])
        self.assertEqual(follow.stdout.read(), b"")
        self.assertEqual(follow.wait(20), 0)

    def test_run_detached(self):
        done = self.cli("run", "-d", "-n", "bg", "--", "cat", check=0)
        self.assertRegex(done.stdout, rb"^\d+\n$")
        number = int(done.stdout)
        client = self.client()
        self.assertEqual(client.show("bg")["id"], number)
        self.cli("write", "bg", "its stdin", "stays open", check=0)
        self.cli("close-stdin", "bg", check=0)
        self.assert_code(self.ended(client, "bg"), 0)
        self.assertEqual(self.cli("logs", str(number), check=0).stdout, b"its stdin stays open\n")
        failed = self.cli("run", "-d", "--", "/nowhere")
        self.assertEqual((failed.returncode, failed.stdout), (127, b""))
        self.assertTrue(failed.stderr)

    def test_environment_and_directory(self):
        done = self.cli("run", "-w", "/usr", "-e", "A=1", "-e", "B=x y", "--", "/bin/sh", "-c",
                        'pwd; echo "$A $B $C"',
                        env={"C": "inherited"}, check=0)
        self.assertEqual(done.stdout, b"/usr\n1 x y inherited\n")
        done = self.cli("run", "--clean-env", "-e", "A=1", "--", "/usr/bin/env", env={"C": "not this"},
                        check=0)
        names = {line.split(b"=")[0] for line in done.stdout.splitlines()}
        self.assertEqual({n for n in names if not n.startswith(b"PMUX_")} - {b"PATH"}, {b"A"})
        done = self.cli("run", "--", "/bin/pwd", cwd=self.tmp, check=0)
        self.assertEqual(done.stdout.decode(), os.path.realpath(self.tmp) + "\n")

    def test_files_for_streams(self):
        out, err = os.path.join(self.tmp, "out"), os.path.join(self.tmp, "err")
        with open(os.path.join(self.tmp, "in"), "w") as file:
            file.write("from a file\n")
        done = self.cli("run", "--stdin", os.path.join(self.tmp, "in"), "--stdout", out, "--stderr", err,
                        "--", "/bin/sh", "-c",
                        "cat; echo e >&2", check=0)
        self.assertEqual(done.stdout + done.stderr, b"")
        with open(out) as file:
            self.assertEqual(file.read(), "from a file\n")
        with open(err) as file:
            self.assertEqual(file.read(), "e\n")
        done = self.cli("run", "--stdin", "null", "--stdout", "null", "--", "/bin/sh", "-c",
                        "cat; echo e >&2", check=0)
        self.assertEqual((done.stdout, done.stderr), (b"", b"e\n"))

    def test_logs(self):
        client = self.client()
        run = self.sh(client, "for i in 1 2 3 4 5; do echo line$i; done; echo err >&2; printf end", name="l")
        self.ended(client, run["id"], for_="empty")
        whole = self.cli("logs", "l", check=0)
        self.assertEqual((whole.stdout, whole.stderr), (b"line1\nline2\nline3\nline4\nline5\nend", b"err\n"))
        self.assertEqual(self.cli("logs", "--stdout", "l", check=0).stdout,
                         b"line1\nline2\nline3\nline4\nline5\nend")
        only = self.cli("logs", "--stderr", "l", check=0)
        self.assertEqual(only.stdout + only.stderr, b"err\n")
        self.assertEqual(self.cli("logs", "--stdout", "-n", "2", "l", check=0).stdout, b"line5\nend")
        self.assertEqual(self.cli("logs", "--head", "9", "l", check=0).stdout, b"line1\nlin")
        self.assertEqual(self.cli("logs", "--stdout", "--from", "6", "--head", "5", "l", check=0).stdout,
                         b"line2")
        self.assertEqual(self.cli("logs", "--since", "1h", "--stdout", "l", check=0).stdout, whole.stdout)
        time.sleep(1.2)
        self.assertEqual(self.cli("logs", "--since", "1s", "l", check=0).stdout, b"")
        stamped = self.cli("logs", "-t", "--stdout", "-n", "3", "l", check=0).stdout.splitlines()
        self.assertEqual(len(stamped), 3)
        self.assertTrue(stamped[0].endswith(b"line4"), stamped)
        self.assertEqual(self.cli("logs", "nobody").returncode, 4)

    def test_logs_of_one_run(self):
        client = self.client()
        count = os.path.join(self.tmp, "count")
        run = self.sh(client, 'echo x >>"$1"; echo run $(wc -l <"$1")', count, name="r")
        self.ended(client, "r", for_="empty")
        for _ in range(2):
            self.cli("start", "r", check=0)
            self.ended(client, run["id"], for_="empty")
        self.assertEqual(self.cli("logs", "r", check=0).stdout, b"run 1\nrun 2\nrun 3\n")
        self.assertEqual(self.cli("logs", "--run", "2", "r", check=0).stdout, b"run 2\n")

    def test_logs_of_what_retention_took(self):
        """The gap is told, on stderr, with its size."""
        client = self.client()
        total = 4 << 20
        run = client.run([program("sequence"), "-o", str(total), "-s", "1"], retention_bytes=1 << 20)
        self.ended(client, run["id"], for_="empty")
        begin = client.show(run["id"])["log"]["begin"]
        done = self.cli("logs", "--from", "0", str(run["id"]))
        self.assertEqual(len(done.stdout), total - begin)
        self.assertIn(str(begin).encode(), done.stderr)
        quiet = self.json_lines(self.cli("--json", "logs", "--from", "0", str(run["id"])).stdout)
        self.assertIn(begin, [v for o in quiet for v in o.values() if isinstance(v, int)])

    def test_status_and_its_exit(self):
        client = self.client()
        self.sh(client, "exec sleep 1000", name="a")
        self.assertEqual(self.cli("status", "a").returncode, 0)
        client.stop("a", now=True)
        self.assertEqual(self.cli("status", "a").returncode, 3)
        self.assertEqual(self.cli("status", "b").returncode, 4)

    def test_wait(self):
        client = self.client()
        self.sh(client, "read line; exit 9", name="w")
        self.assertEqual(self.cli("wait", "--timeout", "100ms", "w").returncode, 124)
        self.cli("wait", "--for", "running", "w", check=0)
        waiting = self.daemon.cli_start("wait", "w")
        client.write("w", b"\n")
        waiting.communicate(timeout=20)
        self.assertEqual(waiting.returncode, 9)
        self.assertEqual(self.cli("wait", "w").returncode, 9)
        self.assertEqual(self.cli("wait", "nobody").returncode, 125, "4 would be a child's")
        self.sh(client, "kill -9 $$", name="k")
        self.assertEqual(self.cli("wait", "k").returncode, 137)

    def test_stop_start_restart_signal_pause_rm(self):
        client = self.client()
        self.cli("run", "-d", "-n", "p", "--", "sleep", "1000", check=0)
        pid = client.show("p")["pid"]
        self.cli("pause", "p", check=0)
        self.assertEqual(client.show("p")["state"], "paused")
        self.cli("resume", "p", check=0)
        self.cli("restart", "p", check=0)
        self.assertEqual(client.show("p")["run"], 2)
        self.assertFalse(alive(pid))
        self.cli("signal", "-s", "USR1", "p", check=0)
        self.assert_signal(self.ended(client, "p"), signal.SIGUSR1)
        self.assertEqual(self.cli("signal", "p").returncode, 7)
        self.ended(client, "p", for_="empty")
        self.cli("start", "p", check=0)
        self.assertEqual(self.cli("rm", "p").returncode, 1)
        self.cli("stop", "p", check=0)
        self.assertEqual(client.show("p")["state"], "exited")
        self.cli("rm", "p", check=0)
        self.assertEqual(client.list(), [])
        self.assertEqual(self.cli("stop", "p").returncode, 4)

    def test_globs_must_match_and_all_is_explicit(self):
        client = self.client()
        for name in ("web-1", "web-2", "db"):
            self.sh(client, "exec sleep 1000", name=name)
        self.assertEqual(self.cli("stop", "nothing-*").returncode, 4)
        self.assertEqual(self.cli("stop").returncode, 2)
        self.cli("stop", "--now", "web-*", check=0)
        self.assertEqual({decode_bytes(p["name"]): p["state"] for p in client.list()},
                         {b"web-1": "exited", b"web-2": "exited", b"db": "running"})
        self.cli("stop", "--now", "--all", check=0)
        self.assertEqual({p["state"] for p in client.list()}, {"exited"})

    def test_usage_errors(self):
        for args in (["nonsense"], ["run"], ["run", "--nonsense", "--", "true"], ["stop", "-T", "soon", "x"],
                     ["logs"], []):
            done = self.cli(*args)
            self.assertEqual(done.returncode, 2 if args[:1] != ["run"] else done.returncode, (args, done))
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stdout, b"")
            self.assertTrue(done.stderr)
        for verb in ("run", "stop", "logs", "ps", "write", "wait", "events", "daemon"):
            done = self.cli(verb, "--help")
            self.assertEqual(done.returncode, 0, (verb, done))
            self.assertTrue(done.stdout)

    def test_no_daemon(self):
        done = subprocess.run([self.daemon.pmux, "--socket", os.path.join(self.tmp, "none"), "--no-autostart",
                               "ps"],
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
        self.assertEqual(done.returncode, 125, done)
        self.assertEqual(done.stdout, b"")

    def test_ps_and_show_for_people(self):
        client = self.client()
        self.sh(client, "exec sleep 1000", name="shown")
        self.assertIn(b"shown", self.cli("ps", check=0).stdout)
        self.assertIn(b"shown", self.cli("show", "shown", check=0).stdout)
        client.stop("shown", now=True)
        self.assertNotIn(b"shown", self.cli("ps", check=0).stdout)
        self.assertIn(b"shown", self.cli("ps", "-a", check=0).stdout)

    def test_events(self):
        client = self.client()
        run = self.sh(client, "exit 0", name="ev")
        self.ended(client, "ev", for_="empty")
        objects = self.json_lines(self.cli("--json", "events", "--since", "0", check=0).stdout)
        kinds = [o["type"] for o in objects if o.get("id") == run["id"]]
        for kind in ("created", "started", "exited", "empty"):
            self.assertIn(kind, kinds)
        follow = self.daemon.cli_start("--json", "events", "-f", "--since", str(objects[-1]["seq"]))
        self.addCleanup(follow.stdout.close)
        self.addCleanup(follow.stderr.close)
        run = self.sh(client, "exit 0")
        line = follow.stdout.readline()
        self.assertEqual([o.get("id") for o in self.json_lines(line)], [run["id"]])
        follow.terminate()
        follow.wait(10)

    def test_run_that_loses_its_client(self):
        """Killed in the foreground with a client's lease: the process ends too; without: it lives."""
        client = self.client()
        for args, lives in ((["--lease", "client"], False), (["--lease", "none"], True)):
            name = "lives" if lives else "dies"
            process = self.daemon.cli_start("run", "-n", name, *args, "--", "/bin/sh", "-c",
                                            "echo here; exec sleep 1000")
            self.assertEqual(process.stdout.readline(), b"here\n")
            process.kill()
            process.communicate(timeout=10)
        self.assertEqual(self.ended(client, "dies")["cause"], "lease")
        self.assertEqual(client.show("lives")["state"], "running")

    def test_output_to_a_closed_pipe(self):
        process = self.daemon.cli_start("run", "--", program("sequence"), "-o", "inf")
        process.stdout.read(100_000)
        process.stdout.close()
        process.stderr.close()
        self.assertNotEqual(process.wait(20), 0)
        self.client().stop(self.client().list()[0]["id"], now=True)


class Autostart(PmuxTest):
    def setUp(self):
        super().setUp()
        self.environment()  # made first, removed last

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PMUX", "XDG_"))}
        for name in ("runtime", "state", "home"):
            os.makedirs(os.path.join(self.tmp, name), mode=0o700, exist_ok=True)
        env.update(XDG_RUNTIME_DIR=os.path.join(self.tmp, "runtime"), XDG_STATE_HOME=os.path.join(self.tmp,
                "state"),
                   HOME=os.path.join(self.tmp, "home"))
        return env

    def pmux(self, *args, env=None, timeout=30):
        from pmux_test import BUILD
        return subprocess.run([os.path.join(BUILD, "bin", "pmux"), *args], env=env or self.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)

    def stop(self):
        done = self.pmux("--no-autostart", "daemon", "stop")
        return done

    def test_the_first_call_starts_a_daemon(self):
        refused = self.pmux("--no-autostart", "ps")
        self.assertEqual(refused.returncode, 125, refused)
        self.addCleanup(self.stop)
        done = self.pmux("run", "--", "/bin/echo", "hello")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"hello\n", b""))
        socket = os.path.join(self.tmp, "runtime", "pmux", "socket")
        self.assertTrue(os.path.exists(socket))
        self.assertTrue(os.path.isdir(os.path.join(self.tmp, "state", "pmux")))
        from pmux_client import Client
        with Client(socket) as client:
            status = client.status()
        again = self.pmux("--json", "daemon", "status")
        self.assertEqual(again.returncode, 0)
        self.assertEqual(self.json_lines(again.stdout)[0]["keeper_pid"], status["keeper_pid"])
        # It is nobody's child and holds nothing of the one who started it.
        for number in (0, 1, 2):
            self.assertNotIn("pipe:", os.readlink("/proc/%d/fd/%d" % (status["keeper_pid"], number)))
        self.assertEqual(self.stop().returncode, 0)
        wait_until(lambda: not alive(status["keeper_pid"]) and not alive(status["engine_pid"]),
                   what="the daemon's end")
        self.assertFalse(os.path.exists(socket))

    def test_many_first_calls_at_once(self):
        self.addCleanup(self.stop)
        from pmux_test import BUILD
        processes = [subprocess.Popen([os.path.join(BUILD, "bin", "pmux"), "run", "--", "/bin/echo", str(i)],
                                      env=self.environment(), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE) for i in range(8)]
        for number, process in enumerate(processes):
            out, err = process.communicate(timeout=30)
            self.assertEqual((process.returncode, out, err), (0, b"%d\n" % number, b""))
        listed = self.json_lines(self.pmux("--json", "ps", "-a").stdout)
        self.assertTrue(listed)
        self.assertEqual(self.stop().returncode, 0)

    def test_stop_without_a_daemon(self):
        self.assertNotEqual(self.stop().returncode, 0)
        self.assertFalse(os.path.exists(os.path.join(self.tmp, "runtime", "pmux", "socket")),
                         "it started one to stop it")

    def test_two_directories_two_daemons(self):
        self.addCleanup(self.stop)
        first = self.pmux("run", "-d", "-n", "one", "--", "sleep", "1000")
        self.assertEqual(first.returncode, 0, first)
        env = self.environment()
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            env[name] += "2"
            os.mkdir(env[name], 0o700)
        other = self.pmux("ps", "-a", env=env)
        self.addCleanup(self.pmux, "--no-autostart", "daemon", "stop", env=env)
        self.assertEqual(other.returncode, 0)
        self.assertNotIn(b"one", other.stdout)
        self.assertIn(b"one", self.pmux("ps", "-a").stdout)
        self.assertTrue(need("sleep"))
