# SPDX-License-Identifier: MIT
"""What asyncio's streams and processes promise (docs/streams.md), wherever the pieces are cut."""

import os
import re
import select
import signal
import time

from pmux_client import K_DATA, NULL, STDERR, STDOUT
from pmux_test import PmuxTest, scale

MIB = 1 << 20
CHARACTERS = "aé€😀\u0301\uffff\U0010ffffz"


def separators():
    """Of each length up to 64, and such as look like themselves when they have begun."""
    lengths = scale((1, 2, 3, 9, 64), range(1, 65), range(1, 65))
    for n in lengths:
        yield bytes(33 + i % 90 for i in range(n))
    for n in (2, 5, 17, 64):
        yield b"a" * (n - 1) + b"b"
        yield (b"aab" * n)[:n - 1] + b"\xff"
        yield (b"\0\r\n" * n)[:n]
    yield "—é€😀\U0010ffff".encode()


class Streams(PmuxTest):
    def setUp(self):
        super().setUp()
        self.at = 0

    def cat(self, client):
        return client.run(["/bin/cat"])["id"]

    def feed(self, client, p, *pieces):
        """Write pieces, each when the one before stands in the log."""
        for piece in pieces:
            if piece:
                client.write(p, piece)
                got = client.read(p, for_="exactly", n=len(piece), from_=self.at, cursor=NULL)
                self.assertEqual(got["data"], piece)
                self.at += len(piece)

    def feed_to(self, client, p, pieces, **params):
        """A read that waits while pieces come; what it gave."""
        pending = client.submit_read(p, **params)
        self.feed(client, p, *pieces)
        return pending.result()

    def written(self, client, text, tail=""):
        run, subscription = self.sh(client, "printf '%s' \"$1\"; " + tail, text, subscribe={"until": "closed"})
        if not tail:
            subscription.collect()
        elif text:
            subscription.read_until_bytes(text.encode())
        return run["id"]

    # ---- every place at which a piece may end ----

    def test_separators_at_every_split(self):
        client = self.client()
        p = self.cat(client)
        for separator in separators():
            before = separator[:-1] + b"." + separator[:len(separator) // 2]
            whole = before + separator
            whole = whole[:whole.index(separator) + len(separator)]
            for cut in range(len(whole) - len(separator), len(whole)):
                got = self.feed_to(client, p, (whole[:cut], whole[cut:]), for_="separator", separator=separator)
                self.assertEqual((got["reason"], got["data"]), ("satisfied", whole), (separator, cut))

    def test_patterns_at_every_split(self):
        client = self.client()
        p = self.cat(client)
        for pattern, whole, groups in (
                (rb"(\d{3})-(?<word>[a-z]{2,60});", b"x12-ab;123-" + b"q" * 52 + b";", (b"123", b"q" * 52)),
                (rb"(?:ab){4}c(d)?\n", b"abababcabababab-ababababcd\n", (b"d",)),
                (rb"^>>> ", b"no>>> \n>>> ", ()),
                (rb"end of (\S+) at \d\d:\d\d:\d\d\.\d{6}Z!", b"end of all at 12:34:56.123456Z?"
                 b"end of it at 12:34:56.123456Z!", (b"it",)),
                ("(é€)(😀)".encode(), "é😀é€é€😀".encode(), ("é€".encode(), "😀".encode())),
                (rb"(?<=k)\x00(\xff+)\x00", b"\0\xff\0k\0\xff\xff\0", (b"\xff\xff",))):
            flags = re.M
            python = re.search(pattern.replace(b"(?<word>", b"(?P<word>"), whole, flags)
            self.assertEqual(python.end(), len(whole), "a wrong example")
            for cut in range(1, len(whole)):
                got = self.feed_to(client, p, (whole[:cut], whole[cut:]), for_="pattern", pattern=pattern)
                self.assertEqual((got["reason"], got["data"]), ("satisfied", whole), (pattern, cut))
                match = got["match"]
                self.assertEqual((match["from"], match["to"]), python.span(), (pattern, cut))
                self.assertEqual(tuple(whole[g["from"]:g["to"]] for g in match["groups"][1:]), groups, cut)

    def test_every_byte_by_itself(self):
        client = self.client()
        p = self.cat(client)
        text = CHARACTERS.encode()
        for whole, params in ((text + b"\n", {"for_": "line"}), (b"\r" + text + b"\r\n", {"for_": "line"}),
                              (text * 3, {"for_": "exactly", "n": 3 * len(text)}),
                              (b"aaab" * 7 + b"aaaab", {"for_": "separator", "separator": b"aaaab"}),
                              (b"(" * 20 + b")", {"for_": "pattern", "pattern": r"\(+\)"})):
            got = self.feed_to(client, p, [whole[i:i + 1] for i in range(len(whole))], **params)
            self.assertEqual((got["reason"], got["data"]), ("satisfied", whole), params)

    def test_characters_at_every_split(self):
        """Bytes of a character in two pieces: as a separator, and decoded by the command."""
        client = self.client()
        for encoding, text in (("UTF-8", CHARACTERS), ("latin-1", "aé\xff\x80z")):
            p, self.at = self.cat(client), 0
            process = self.daemon.cli_start("follow", "--encoding", encoding, "--invalid", "refuse", str(p))
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.stderr.close)
            data, wanted, seen = text.encode(encoding), b"", b""
            for cut in range(1, len(data)):
                for piece in (data[:cut], data[cut:]):
                    self.feed(client, p, piece)
                    wanted += piece if encoding == "UTF-8" else piece.decode(encoding).encode()
                    whole = wanted.decode("utf-8", "ignore").encode()
                    seen = self.seen(process, seen, len(whole))
                    self.assertEqual(seen, whole, "cut at %d, before the rest has come" % cut)
            client.close_stdin(p)
            rest, complaint = process.communicate(timeout=20)
            self.assertEqual((rest, complaint, process.returncode), (b"", b"", 0))
            self.assertEqual(seen.decode(), text * (len(data) - 1))

    def seen(self, process, so_far, size):
        deadline = time.monotonic() + 20
        while len(so_far) < size and select.select([process.stdout], [], [], deadline - time.monotonic())[0]:
            piece = os.read(process.stdout.fileno(), 4096)
            self.assertNotEqual(piece, b"", "the command has ended")
            so_far += piece
        return so_far

    # ---- StreamReader ----

    def test_read_n_is_what_there_is(self):
        client = self.client()
        p = self.cat(client)
        pending = client.submit_read(p, n=100)
        self.feed(client, p, b"ab")
        self.assertEqual(pending.result()["data"], b"ab")
        self.feed(client, p, b"cdefg")
        self.assertEqual([client.read(p, n=n)["data"] for n in (1, 3, 100)], [b"c", b"def", b"g"])

    def test_read_all_is_all_of_it(self):
        client = self.client()
        p = self.cat(client)
        pending = client.submit_read(p, for_="eof")
        self.feed(client, p, b"one", b"\n", b"\0\xff")
        client.close_stdin(p)
        self.assertEqual((pending.result()["reason"], pending.result()["data"]), ("satisfied", b"one\n\0\xff"))
        for params in ({}, {"for_": "eof"}, {"for_": "line"}):
            self.assertEqual(client.read(p, **params)["data"], b"", "the end stays the end")

    def test_an_end_in_the_middle_gives_the_part(self):
        client = self.client()
        for n_there in range(6):
            p = self.written(client, "abcde"[:n_there])
            got = client.read(p, for_="exactly", n=6)
            self.assertEqual((got["reason"], got["data"], got["missing"]), ("eof", b"abcde"[:n_there], 6 - n_there))
            self.assertEqual(client.read(p, for_="exactly", n=1)["missing"], 1, "the part is taken")
        p = self.written(client, "one--tw-")
        self.assertEqual(client.read(p, for_="separator", separator="--")["data"], b"one--")
        got = client.read(p, for_="separator", separator="--")
        self.assertEqual((got["reason"], got["data"]), ("eof", b"tw-"))

    def test_the_first_of_several_separators(self):
        client = self.client()
        p = self.written(client, "a,b;c--d,e")
        parts = [client.read(p, for_="pattern", pattern="--|[,;]") for _ in range(5)]
        self.assertEqual([part["data"] for part in parts], [b"a,", b"b;", b"c--", b"d,", b"e"])
        self.assertEqual([part["reason"] for part in parts], ["satisfied"] * 4 + ["eof"])

    def test_an_overrun_takes_nothing_at_every_size(self):
        client = self.client()
        p = self.written(client, "12345678\nrest", "exec sleep 1000")
        for limit in range(1, 9):
            self.assert_error("too-large", client.read, p, for_="line", max_bytes=limit)
            self.assert_error("too-large", client.read, p, for_="separator", separator="8\n", max_bytes=limit)
            self.assert_error("too-large", client.read, p, for_="pattern", pattern="8\n", max_bytes=limit)
        self.assertEqual(client.cursors(p), {})
        self.assertEqual(client.read(p, for_="line", max_bytes=9)["data"], b"12345678\n")
        client.stop(p, now=True)

    def test_at_eof(self):
        client = self.client()
        p = self.cat(client)
        self.feed(client, p, b"x")

        def at_eof():
            got = client.read(p, peek=True, timeout_usec=0)
            return got["reason"] == "eof" and not got["data"]
        self.assertFalse(at_eof(), "there is something")
        self.assertEqual(client.read(p)["data"], b"x")
        self.assertFalse(at_eof(), "more may come")
        client.close_stdin(p)
        self.ended(client, p, for_="empty")
        self.assertTrue(at_eof())
        client.set_cursor(p, "default", "start")
        self.assertFalse(at_eof(), "there is something again")

    def test_iteration_over_lines(self):
        client = self.client()
        lines = [b"one\n", b"\n", b"\r\n", b" \0x\n", "é€\n".encode(), b"x" * 70000 + b"\n", b"no newline"]
        whole = b"".join(lines)
        for cut in (0, 1, 4, 5, 6, 13, len(whole) - 1):
            p, self.at = self.cat(client), 0
            self.feed(client, p, whole[:cut], whole[cut:])
            client.close_stdin(p)
            got = []
            while line := client.read(p, for_="line")["data"]:
                got.append(line)
            self.assertEqual(got, lines, cut)

    def test_a_deadline_or_a_cancel_at_every_byte_loses_nothing(self):
        client = self.client()
        p = self.cat(client)
        text = "né€ 😀\n".encode() * 2
        for i, byte in enumerate(text[:-1]):
            if byte == 10:
                self.feed(client, p, b"\n")
                self.assertEqual(client.read(p, for_="separator", separator="\n")["data"], text[:i + 1])
                continue
            pending = client.submit_read(p, for_="line")
            self.feed(client, p, bytes([byte]))
            client.call("cancel", {"request": pending.id})
            self.assert_error("cancelled", pending.result)
            got = client.read(p, for_="exactly", n=100, timeout_usec=0)
            begun = text[:i + 1].split(b"\n")[-1]
            self.assertEqual((got["reason"], got["data"]), ("timeout", begun))
        self.feed(client, p, b"\n")
        self.assertEqual(client.read(p, for_="line")["data"], text[len(text) // 2:])

    # ---- StreamWriter ----

    def test_writes_in_a_row_are_one_stream(self):
        client = self.client()
        p = self.cat(client)
        pieces = [bytes([65 + i % 26]) * (i % 7) for i in range(500)]
        pending = [client.submit("write", {"target": p, "data": piece.decode()}) for piece in pieces if piece]
        self.assertEqual(pending[-1].result()["accepted"], sum(map(len, pieces)))
        client.close_stdin(p)
        self.assertEqual(client.read(p, for_="eof")["data"], b"".join(pieces))

    def test_after_write_eof_nothing_can_be_written(self):
        client = self.client()
        p = self.sh(client, "cat; exec sleep 1000")["id"]
        client.write(p, b"last", eof=True)
        self.assert_error("stdin-closed", client.write, p, b"more")
        self.assert_error("stdin-closed", client.open_stdin, p)
        self.assertEqual(client.read(p, for_="exactly", n=4)["data"], b"last")
        client.stop(p, now=True)

    # ---- Process ----

    def test_communicate(self):
        client = self.client()
        size = scale(1, 3, 30) * MIB // 2
        text = "tee /dev/stderr"
        run, subscription = self.sh(client, text, subscribe={"until": "closed", "lossless": True})
        stream = client.open_stdin(run["id"])
        data = os.urandom(4096) * (size // 4096)
        stream.write(data, eof=True, timeout=60)
        records = subscription.collect(60)
        for source in (STDOUT, STDERR):
            self.assertTrue(b"".join(r.data for r in records if r.kind == K_DATA and r.source == source) == data)
        self.assert_code(self.ended(client, run["id"]), 0)

    def test_signals_pid_and_returncode(self):
        client = self.client()
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
            p = self.cat(client)
            status = client.show(p)
            os.kill(status["pid"], 0)
            self.assertIsNone(status["exit"], "no returncode yet")
            result = client.wait(p, timeout_usec=10_000)
            self.assertEqual(result["reason"], "timeout")
            client.signal(p, number, scope="main")
            self.assert_signal(self.ended(client, p), number)
            self.assert_signal(self.ended(client, p), number)
            self.assert_error("not-running", client.signal, p, number, scope="main")
        p = self.sh(client, "exit 77")["id"]
        self.assert_code(self.ended(client, p), 77)

    def test_choices_for_the_three_streams(self):
        client = self.client()
        path = os.path.join(self.tmp, "file")
        with open(path, "wb") as file:
            file.write(b"from a file\n")
        out = os.path.join(self.tmp, "out")
        script = "cat; echo out; echo err >&2"
        for params, stdout, stderr in (
                ({"stdin": "null"}, b"out\n", b"err\n"),
                ({"stdin": {"file": path}}, b"from a file\nout\n", b"err\n"),
                ({"stdin": "null", "stdout": "null"}, b"", b"err\n"),
                ({"stdin": "null", "stderr": "null"}, b"out\n", b""),
                ({"stdin": "null", "stderr": "stdout"}, b"out\nerr\n", b""),
                ({"stdin": "null", "stdout": {"file": out}}, b"", b"err\n")):
            run, subscription = self.sh(client, script, subscribe={"until": "closed"}, **params)
            records = subscription.collect()
            self.assertEqual(tuple(b"".join(r.data for r in records if r.kind == K_DATA and r.source == source)
                                   for source in (STDOUT, STDERR)), (stdout, stderr), params)
        with open(out, "rb") as file:
            self.assertEqual(file.read(), b"out\n")

    def test_directory_environment_and_what_is_not_there(self):
        client = self.client()
        run, subscription = client.run(["/bin/sh", "-c", 'pwd; echo "$X"'], cwd=self.tmp, env=["X=é"], subscribe=True)
        data = b"".join(r.data for r in subscription.collect() if r.kind == K_DATA)
        self.assertEqual(data.decode(), "%s\né\n" % self.tmp)
        self.assert_error("spawn-failed", client.run, ["/nowhere/at/all"])
        self.assert_error("spawn-failed", client.run, ["/bin/true"], cwd="/nowhere")
