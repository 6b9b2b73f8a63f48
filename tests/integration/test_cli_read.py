# SPDX-License-Identifier: MIT
"""read, ask, cursor, lock, write --consumed by the command line: what they print, how they exit."""

import json
import subprocess
import time

from pmux_client import RpcError
from pmux_daemon import wait_until
from pmux_test import PmuxTest, Sequence, program


class CliRead(PmuxTest):
    def cli(self, *args, **kwargs):
        return self.daemon.cli(*args, **kwargs)

    def printed(self, name, text):
        client = self.client()
        client.run(["/usr/bin/printf", "%s", text], name=name)
        self.ended(client, name, for_="empty")

    def read(self, *args):
        done = self.cli("read", *args)
        return done.returncode, done.stdout

    def test_portions_and_their_statuses(self):
        self.printed("p", "one\ntwo\n12345a;b;status: 7\nrest")
        self.assertEqual(self.read("--line", "p"), (0, b"one\n"))
        self.assertEqual(self.read("--line", "--peek", "p"), (0, b"two\n"))
        self.assertEqual(self.read("--bytes", "4", "p"), (0, b"two\n"))
        self.assertEqual(self.read("--exactly", "5", "p"), (0, b"12345"))
        self.assertEqual(self.read("--until", r"\x3b", "p"), (0, b"a;"))
        self.assertEqual(self.read("--expect", r"status: \d", "p"), (0, b"b;status: 7"))
        self.assertEqual(self.read("--exactly", "100", "p"), (1, b"\nrest"))
        self.assertEqual(self.read("--line", "p"), (1, b""))
        self.assertEqual(self.read("--from", "4", "--line", "--cursor", "mine", "p"), (0, b"two\n"))
        self.assertEqual(self.read("--eof", "--from", "start", "--no-cursor", "p"),
                         (0, b"one\ntwo\n12345a;b;status: 7\nrest"))

    def test_a_stream_that_ended_first_is_no_success(self):
        """Every way of reading at the end of an output: nothing printed, 1, and the reason in JSON."""
        self.printed("over", "text")
        self.assertEqual(self.read("--quiet", "10ms", "over"), (0, b"text"), "something came, and the end after it")
        for args in (["--quiet", "10ms"], ["--line"], ["--bytes", "1"], ["--exactly", "1"], ["--until", "x"],
                     ["--expect", "x"], []):
            self.assertEqual(self.read(*args, "over"), (1, b""), args)
            done = self.cli("--json", "read", *args, "over")
            self.assertEqual((done.returncode, self.json_lines(done.stdout)[0]["reason"]), (1, "eof"), args)
        self.assertEqual(self.read("--eof", "over"), (0, b""), "the end is what was asked for")
        self.cli("run", "-d", "-n", "ends", "--", "sh", "-c", "read line", check=0)
        self.assertEqual(self.cli("ask", "ends", "bye").returncode, 1)
        self.cli("run", "-d", "-n", "partly", "--", "sh", "-c", "read line; printf part", check=0)
        done = self.cli("ask", "--line", "partly", "bye")
        self.assertEqual((done.returncode, done.stdout), (1, b"part"))

    def test_errors_of_reading_exit_with_125(self):
        self.printed("e", "a" * 100_000 + "!")
        for args in (["--expect", r"(a+)+$\b\B"], ["--max", "10", "--line"], ["--expect", "("]):
            done = self.cli("read", *args, "e", timeout=60)
            self.assertEqual((done.returncode, done.stdout), (125, b""), (args, done.stderr))

    def test_cursors(self):
        self.printed("c", "one\ntwo\n")
        self.cli("read", "--line", "c", check=0)
        self.assertEqual(self.cli("cursor", "c", check=0).stdout, b"4\tdefault\n")
        self.cli("cursor", "set", "c", "default", "0", check=0)
        self.assertEqual(self.read("--line", "c"), (0, b"one\n"))
        self.cli("cursor", "set", "c", "mine", "end", check=0)
        self.assertEqual(self.json_lines(self.cli("--json", "cursor", "ls", "c", check=0).stdout),
                         [{"schema": 1, "name": "default", "offset": 4}, {"schema": 1, "name": "mine", "offset": 8}])
        self.cli("cursor", "rm", "c", "mine", check=0)
        self.assertEqual(self.cli("cursor", "c", check=0).stdout, b"4\tdefault\n")
        for args in (["set", "c", "x"], ["set", "c", "x", "here"], ["rm", "c"], []):
            self.assertEqual(self.cli("cursor", *args).returncode, 2, args)

    def test_a_deadline_consumes_nothing(self):
        self.client().run(["/bin/sh", "-c", "printf abc; exec cat"], name="d")
        self.cli("read", "--exactly", "3", "--peek", "d", check=0)
        self.assertEqual(self.read("--line", "--timeout", "50ms", "d"), (124, b"abc"))
        self.assertEqual(self.read("--exactly", "3", "d"), (0, b"abc"))
        self.assertEqual(self.read("--timeout", "0", "d"), (124, b""))

    def test_what_fits_into_no_answer(self):
        total = 20 << 20
        client = self.client()
        client.run([program("sequence"), "-o", str(total), "-s", "3"], name="large")
        for args in (["--eof"], ["--exactly", str(total)]):
            process = self.daemon.cli_start("read", *args, "--from", "start", "large", stderr=subprocess.DEVNULL)
            self.addCleanup(process.stdout.close)
            sequence = Sequence(3)
            while data := process.stdout.read(1 << 20):
                sequence.feed(data)
            self.assertEqual((sequence.finish(), process.wait(20)), (total, 0), args)
        self.assertEqual(self.cli("cursor", "large", check=0).stdout, b"%d\tdefault\n" % total)

    def test_a_deadline_behind_a_piece_consumes_nothing(self):
        client = self.client()
        client.run(["/bin/sh", "-c", "head -c 9000000 /dev/zero | tr '\\0' x; exec sleep 1000"], name="large")
        wait_until(lambda: client.show("large")["log"]["end"] == 9000000, what="the output")
        client.set_cursor("large", "c", 7)
        for cursor, before, args, place, n in (("c", 7, ["--eof"], ["--from", "5"], 9000000 - 5),
                                               ("new", None, ["--exactly", "10M"], [], 9000000)):
            done = self.cli("read", "--cursor", cursor, "--timeout", "1s", *args, *place, "large")
            self.assertEqual((done.returncode, len(done.stdout)), (124, n), (args, place))
            self.assertEqual(client.cursors("large").get(cursor.encode()), before, (args, place))
        self.assertEqual(self.cli("read", "--exactly", "9M", "--timeout", "1s", "--no-cursor", "--from", "0",
                                  "large").returncode, 124)

    def test_more_than_the_size_limit_without_what_was_read_for(self):
        client = self.client()
        client.run([program("sequence"), "-o", str(3 << 20), "-s", "3"], name="much")
        self.ended(client, "much", for_="empty")
        separator = "no such separator in it"
        for args in (["--until", separator], ["--until", separator, "--max", "2M"], ["--expect", separator]):
            done = self.cli("read", *args, "much", timeout=20)
            self.assertEqual((done.returncode, done.stdout), (125, b""), args)
            self.assertIn(b"bytes have come without what was read for", done.stderr, args)
        self.assertEqual(self.cli("cursor", "much", check=0).stdout, b"", "nothing is consumed")

    def test_ask(self):
        self.cli("run", "-d", "-n", "cat", "--", "cat", check=0)
        self.assertEqual(self.cli("ask", "--line", "cat", "before", check=0).stdout, b"before\n")
        self.assertEqual(self.cli("ask", "--line", "cat", "hello", "there", check=0).stdout, b"hello there\n")
        self.assertEqual(self.cli("ask", "--exactly", "3", "cat", input=b"\0\xff\n", check=0).stdout, b"\0\xff\n")
        self.assertEqual(self.cli("ask", "--line", "--timeout", "50ms", "-N", "cat", "x").returncode, 124)
        self.assertEqual(self.cli("ask", "cat", "--eof", "y", check=0).stdout, b"y\n")
        self.assertEqual(self.cli("ask", "nobody", "x").returncode, 125)

    def test_json_by_portions(self):
        self.cli("run", "-d", "-n", "cat", "--", "cat", check=0)
        done = self.cli("ask", "--format", "json", "--line", "cat", '{"a": [1,  2]}', check=0)
        self.assertEqual(done.stdout, b'{"a":[1,2]}\n')
        answer, = self.json_lines(self.cli("--json", "ask", "--expect", "(?<word>b+)", "cat", "abbc", check=0).stdout)
        self.assertEqual(answer["reason"], "satisfied")
        self.assertEqual(answer["match"]["groups"][1]["name"], "word")

    def test_what_was_written_to_stdin(self):
        self.cli("run", "-d", "--transcript", "-n", "kept", "--", "cat", check=0)
        self.cli("write", "kept", "question", check=0)
        self.assertEqual(self.read("--stdin", "--line", "kept"), (0, b"question\n"))
        self.assertEqual(self.read("--stdin", "--line", "--timeout", "0", "kept"), (124, b""))
        self.cli("run", "-d", "-n", "plain", "--", "cat", check=0)
        done = self.cli("read", "--stdin", "--line", "plain")
        self.assertEqual((done.returncode, b"transcript" in done.stderr), (125, True), done)

    def test_for_ever_is_a_time(self):
        self.cli("run", "-d", "-n", "cat", "--", "cat", check=0)
        self.assertEqual(self.cli("ask", "--quiet", "infinity", "--timeout", "1s", "cat", "text").returncode, 124)
        for t in ("infinity", "9223372036854775807us"):
            self.assertEqual(self.cli("read", "--peek", "--quiet", t, "--timeout", "50ms", "cat").returncode, 124, t)
            self.assertEqual(self.cli("read", "--peek", "--line", "--timeout", t, "cat").returncode, 0, t)
            self.assertEqual(self.cli("wait", "--for", "running", "--timeout", t, "cat").returncode, 0, t)

    def test_time_goes_on_over_a_kill_of_the_engine(self):
        """What is left of the time counts, not the whole of it anew."""
        self.client().run(["/bin/sleep", "1000"], name="sleeper")
        for args in (["wait"], ["wait", "--for", "pattern=x"], ["read", "--line"]):
            began = time.monotonic()
            command = self.daemon.cli_start(*args, "--timeout", "2s", "sleeper", stderr=subprocess.DEVNULL)
            self.addCleanup(command.stdout.close)
            while time.monotonic() < began + 1.5:
                time.sleep(0.01)
            self.assertIsNone(command.poll())
            self.daemon.kill_engine()
            self.assertEqual(command.wait(20), 124, args)
            self.assertLess(time.monotonic() - began, 3.2, args)
            self.assertGreaterEqual(time.monotonic() - began, 2, args)

    def test_what_is_not_read_in_time(self):
        self.client().run(["/bin/sleep", "1000"], name="deaf")
        for args, text in ((["deaf", "text"], None), (["deaf"], b"from stdin\n")):
            done = self.cli("write", "--consumed", "--timeout", "300ms", *args, input=text)
            self.assertEqual(done.returncode, 124, (args, done.stderr))

    def test_how_much_was_accepted_when_time_is_up(self):
        client = self.client()
        target = client.run(["/bin/sleep", "1000"])["id"]
        done = self.cli("write", "--timeout", "300ms", str(target), input=bytes(4_000_000))
        self.assertEqual(done.returncode, 124)
        accepted = client.show(target)["stdin_log"]["accepted"]
        self.assertGreater(accepted, 0)
        self.assertIn(b"%d bytes were accepted before that" % accepted, done.stderr)
        done = self.cli("--json", "write", "--timeout", "300ms", str(target), input=bytes(4_000_000))
        self.assertEqual(done.returncode, 124)
        positions, error = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(positions["accepted"], client.show(target)["stdin_log"]["accepted"] - accepted)
        self.assertEqual((error["type"], error["error"]["code"]), ("error", "timeout"))

    def test_text_that_waits_for_room_stays_in_one_piece(self):
        client = self.client()
        run, subscription = self.sh(client, "kill -STOP $$; cat | tr -d x", subscribe=True)
        while True:
            try:
                client.write(run["id"], b"x" * (1 << 20))
            except RpcError as error:
                self.assertEqual(error.name, "would-block")
                break
        client.open_stdin(run["id"]).write(b"x" * (client.open_stdin(run["id"]).limit - 50_000))
        full = client.show(run["id"])["stdin_log"]["accepted"]
        done = self.cli("write", "--timeout", "0", str(run["id"]), "c" * 100_000)
        self.assertEqual(done.returncode, 124, done.stderr)
        self.assertEqual(client.show(run["id"])["stdin_log"]["accepted"], full, "a part of it was accepted")
        writers = [self.daemon.cli_start("write", str(run["id"]), letter * 100_000) for letter in "ab"]
        wait_until(lambda: client.status()["limits"]["waiting-write-bytes"]["used"] == 200_002, what="both to wait")
        self.assertEqual(client.show(run["id"])["stdin_log"]["accepted"], full, "a part of it was accepted")
        client.signal(run["id"], 18)
        for writer in writers:
            self.assertEqual(writer.communicate(timeout=60)[1], b"")
            self.assertEqual(writer.returncode, 0)
        client.close_stdin(run["id"])
        self.assertEqual(sorted(b"".join(r.data for r in subscription.collect() if r.data).split()),
                         [b"a" * 100_000, b"b" * 100_000])

    def test_a_lock(self):
        self.cli("run", "-d", "-n", "held", "--", "cat", check=0)
        for time_ in "99ms", "61m":
            done = self.cli("lock", "--for", time_, "held", check=2)
            self.assertIn(b"--for takes 100ms to 1h, not '%s'" % time_.encode(), done.stderr)
        token = self.cli("lock", "--for", "1m", "--holder", "a test", "held", check=0).stdout.decode().strip()
        self.assertRegex(self.cli("show", "held", check=0).stdout, rb"\n +expires: 20[0-9]{2}-[0-9]{2}-[0-9]{2} ")
        done = self.cli("write", "held", "no")
        self.assertEqual((done.returncode, b"a test" in done.stderr), (1, True), done)
        self.assertEqual(self.cli("write", "--eof", "held", input=b"no").returncode, 1)
        self.cli("write", "--lock", token, "held", "text", check=0)
        self.cli("write", "--lock", token, "--consumed", "held", input=b"stream\n", check=0)
        self.assertEqual(self.cli("ask", "--lock", token, "--line", "held", "mine", check=0).stdout, b"mine\n")
        self.cli("unlock", "held", token, check=0)
        self.cli("write", "held", "yes", check=0)
        token = self.cli("lock", "--for", "1m", "--holder", "a test", "held", check=0).stdout.decode().strip()
        with self.daemon.cli_start("write", "--lock", token, "held", stdin=subprocess.PIPE) as writing:
            writing.stdin.write(b"part\n")
            writing.stdin.flush()
            self.cli("read", "--until", "part\\n", "--from", "start", "--no-cursor", "held", check=0)
            self.cli("lock", "--lock", token, "--for", "100ms", "--holder", "a test", "held", check=0)
            with self.client() as client:
                wait_until(lambda: not client.show("held")["stdin_lock"], what="the end of the lock")
            _, err = writing.communicate(b"late\n")
        self.assertEqual(writing.returncode, 1)
        self.assertIn(b"lock of 'a test'", err)
        self.assertIn(b"5 bytes were accepted before that", err)
        self.cli("write", "--consumed", "--timeout", "20s", "--eof", "held", "last", check=0)
        self.assertEqual(self.cli("read", "--eof", "--from", "start", "held", check=0).stdout,
                         b"text\nstream\nmine\nyes\npart\nlast\n")
