# SPDX-License-Identifier: MIT
"""Characters and JSON values by the command line: never cut, and what is invalid is told."""

import json
import os
import re

from pmux_daemon import wait_until
from pmux_test import PmuxTest, need

WRITER = """
import sys, os, time
for piece in eval(sys.argv[1]):
    os.write(1, piece)
"""


class Text(PmuxTest):
    def cli(self, *args, **kwargs):
        return self.daemon.cli(*args, **kwargs)

    def write_pieces(self, name, *pieces):
        client = self.client()
        client.run([need("python3"), "-c", WRITER, repr(list(pieces))], name=name, env=["PATH=/usr/bin:/bin"])
        self.ended(client, name, for_="empty")

    def test_encodings(self):
        self.write_pieces("latin", b"\xe9t\xe9\n")
        done = self.cli("logs", "--encoding", "latin-1", "latin", check=0)
        self.assertEqual(done.stdout.decode(), "été\n")
        done = self.cli("logs", "--invalid", "replace", "latin", check=0)
        self.assertEqual(done.stdout.decode(), "\ufffdt\ufffd\n")
        done = self.cli("logs", "--invalid", "refuse", "latin")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, b"")
        self.assertIn(b"offset 0 ", done.stderr)
        done = self.cli("logs", "latin", check=0)
        self.assertEqual(done.stdout, b"\xe9t\xe9\n")

    def test_a_character_in_two_writes(self):
        pieces = [bytes([b]) for b in "né€😀\n".encode()]
        self.write_pieces("cut", *pieces)
        done = self.cli("follow", "--encoding", "UTF-8", "--invalid", "refuse", "cut", check=0)
        self.assertEqual(done.stdout.decode(), "né€😀\n")

    def test_a_read_ends_with_a_whole_character(self):
        """Wherever the bytes that were asked for end, and those of an answer: in 1 MiB, one 'x' before all that is 'é'."""
        client = self.client()
        client.run([need("python3"), "-c", "import os, sys\nos.write(1, b'x'); sys.stdout.write('é' * 600_000)"],
                   name="whole", env=["PATH=/usr/bin:/bin", "PYTHONIOENCODING=UTF-8"])
        self.ended(client, "whole", for_="empty")
        for args, wanted in ((["--bytes", "2"], "xé"), (["--bytes", "1"], "é"), (["--bytes", "3", "--peek"], "éé"),
                             (["--from", "0"], "x" + "é" * (1 << 19)), (["--bytes", "1", "--timeout", "0"], "é"),
                             (["--eof", "--from", "1"], "é" * 600_000)):
            done = self.cli("read", "--encoding", "UTF-8", "--invalid", "refuse", *args, "whole", check=0)
            self.assertEqual(done.stdout.decode(), wanted, args)

    def test_a_character_that_is_still_to_come(self):
        """It is waited for, as the first byte is; at the deadline it is left for the next read."""
        client = self.client()
        client.run([need("cat")], name="half", env=["PATH=/usr/bin:/bin"])

        def read(*args):
            done = self.cli("read", "--invalid", "refuse", *args, "half")
            self.assertEqual(done.stderr, b"")
            return done.returncode, done.stdout

        for text, outcome in ((b"\xe2\x82", (124, b"")), (b"ab\xe2\x82", (0, b"ab"))):
            client.write("half", text)
            client.read("half", for_="exactly", n=len(text), peek=True)
            self.assertEqual(read("--timeout", "50ms", "--exactly", "9"), (124, outcome[1]))
            self.assertEqual(read("--timeout", "50ms", "--peek"), outcome)
            self.assertEqual(read("--timeout", "50ms"), outcome)
            process = self.daemon.cli_start("read", "--invalid", "refuse", "half")
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.stderr.close)
            client.write("half", b"\xac")
            self.assertEqual((process.communicate(timeout=20)[0].decode(), process.returncode), ("€", 0))
        client.write("half", b"\xe2")
        client.close_stdin("half")
        self.ended(client, "half", for_="empty")
        done = self.cli("read", "--encoding", "UTF-8", "half", check=0)
        self.assertEqual(done.stdout.decode(), "\ufffd")

    def test_every_way_of_reading_ends_with_a_whole_character(self):
        """Of an answer, too; what ends a portion may be the beginning of a character, or a part of one."""
        client = self.client()
        client.run([need("cat")], name="ways", env=["PATH=/usr/bin:/bin"])
        n = 0
        for encoding, text in (("UTF-8", "é€😀\n"), ("UTF-16LE", "né\n")):
            data = text.encode(encoding)
            for args, wanted in ((["--bytes", "1"], text[0]), (["--until", "\\x%02x" % data[0]], text[0]),
                                 (["--expect", "\\x%02x" % data[0]], text[0]), (["--line"], text)):
                args = ["--encoding", encoding, "--invalid", "refuse", "--timeout", "20s", *args, "ways"]
                for verb in ("read", "ask"):
                    if verb == "read":
                        client.write("ways", data)
                        client.read("ways", for_="exactly", n=len(data), peek=True)
                    done = self.cli(verb, *args, input=data if verb == "ask" else None, check=0)
                    self.assertEqual(done.stdout.decode(), wanted, (verb, args))
                    self.assertEqual(client.cursors("ways"), {b"default": n + len(wanted.encode(encoding))}, (verb, args))
                    n += len(data)
                    wait_until(lambda: client.show("ways")["log"]["end"] == n, what="all to come back")
                    client.set_cursor("ways", "default", n)

    def test_the_end_of_a_character_of_an_answer(self):
        """It is waited for; at the deadline the cursor is left before it."""
        client = self.client()
        client.run([need("cat")], name="later", env=["PATH=/usr/bin:/bin"])
        for text, outcome in ((b"ab\xe2", (0, b"ab")), (b"\xe2\x82", (124, b""))):
            done = self.cli("ask", "--invalid", "refuse", "--timeout", "200ms", "--bytes", "9", "-N", "later", input=text)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (*outcome, b""))
            client.write("later", "€".encode()[len(text) - len(outcome[1]):])
            done = self.cli("read", "--invalid", "refuse", "--bytes", "1", "later", check=0)
            self.assertEqual(done.stdout.decode(), "€")

    def test_exactly_takes_its_bytes_whatever_stands_in_them(self):
        """A character that they end within is invalid, in both halves; the cursor stands where it was counted to."""
        client = self.client()
        client.run([need("cat")], name="count", env=["PATH=/usr/bin:/bin"])
        for verb, args in (("read", ["--exactly", "3"]), ("ask", ["-N", "--exactly", "3"])):
            for invalid, status, texts in (("replace", 0, ("a\ufffd", "\ufffdb")), ("refuse", 125, ("a", ""))):
                begin, data = client.show("count")["log"]["end"], "a€b".encode()
                client.set_cursor("count", "default", begin)
                if verb == "read":
                    client.write("count", data)
                done = self.cli(verb, "--invalid", invalid, *args, "count", input=data if verb == "ask" else None)
                self.assertEqual((done.returncode, done.stdout.decode()), (status, texts[0]))
                self.assertEqual(client.cursors("count")[b"default"], begin + 3)
                done = self.cli("read", "--invalid", invalid, "--exactly", "2", "count")
                self.assertEqual((done.returncode, done.stdout.decode()), (status, texts[1]))
                self.assertEqual(client.cursors("count")[b"default"], begin + 5)

    def test_quiet_within_a_character(self):
        """It is left for the next read; with nothing before it its end is waited for; without an end it is told."""
        client = self.client()
        client.run([need("cat")], name="quiet", env=["PATH=/usr/bin:/bin"])

        def read(*args, verb="read", text=None, name="quiet"):
            done = self.cli(verb, "--invalid", "refuse", *args, name, input=text)
            self.assertEqual(done.stderr, b"", args)
            return done.returncode, done.stdout.decode()

        for args, left in ((["--quiet", "50ms"], "€"), ([], "€"), (["--quiet", "50ms", "--timeout", "10s"], "€")):
            self.assertEqual(read("-N", *args, verb="ask", text=b"ab\xe2\x82"), (0, "ab"))
            process = self.daemon.cli_start("read", "--invalid", "refuse", "--quiet", "100ms", "quiet")
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.stderr.close)
            self.assertEqual(read("--quiet", "20ms", "--timeout", "100ms"), (124, ""))
            client.write("quiet", b"\xac and so on")
            self.assertEqual(process.communicate(timeout=20)[0].decode(), left + " and so on")
        client.write("quiet", b"ab\xe2")
        client.read("quiet", for_="exactly", n=3, peek=True)
        for args in (["--peek"], []):
            self.assertEqual(read("--quiet", "20ms", *args), (0, "ab"))
        done = self.cli("read", "--invalid", "refuse", "--quiet", "20ms", "--no-cursor", "--from", "start", "quiet")
        self.assertEqual(done.returncode, 125, "nobody would find it")
        client.close_stdin("quiet")
        self.ended(client, "quiet", for_="empty")
        for args, status, text in ((["--peek"], 0, "\ufffd"), ([], 0, "\ufffd"), ([], 1, "")):
            done = self.cli("read", "--encoding", "UTF-8", "--quiet", "20ms", *args, "quiet")
            self.assertEqual((done.returncode, done.stdout.decode()), (status, text))

    def test_run(self):
        done = self.cli("run", "--encoding", "latin1", "--", "printf", r"\351\n", check=0)
        self.assertEqual(done.stdout.decode(), "é\n")
        done = self.cli("run", "--invalid", "refuse", "--", "printf", r"ab\377c")
        self.assertEqual((done.returncode, done.stdout), (125, b"ab"))
        self.assertIn(b"offset 2 ", done.stderr)

    def test_json_values(self):
        self.write_pieces("values", b'{"a": 1', b', "b": [1,\n 2.50]}{"c":', b' "\xc3', b'\xa9"} 7 "x"\n')
        done = self.cli("logs", "--format", "json", "values", check=0)
        self.assertEqual(done.stdout.decode(), '{"a":1,"b":[1,2.50]}\n{"c":"é"}\n7\n"x"\n')
        self.assertEqual([json.loads(line) for line in done.stdout.splitlines()][1], {"c": "é"})

    def test_what_is_not_json(self):
        self.write_pieces("mixed", b'{"a":1}\nhello\n{"b":2}\n')
        done = self.cli("logs", "--format", "json", "mixed")
        self.assertEqual((done.returncode, done.stdout), (1, b'{"a":1}\n'))
        self.assertIn(b"offset 8 ", done.stderr)

    def test_the_offset_of_a_fault_is_exact(self):
        """In bytes of the log, whatever characters stand before it, and wherever it is cut."""
        for name, encoding, text, fault in (
                ("u", None, '["é€😀"]\n{"é": tru}\n', "}"), ("l", "latin-1", '["éé"]\n["é", x]\n', "x"),
                ("w", "UTF-16LE", '["é€😀"] [x]', "x"), ("r", "UTF-8", '["\udcff\udce2\udc82"] [x]', "x")):
            data = text.encode(encoding or "UTF-8", "surrogateescape")
            fault = data.rindex(fault.encode(encoding or "UTF-8"))
            self.write_pieces(name, *[bytes([b]) for b in data])
            options = ["--format", "json"] + (["--encoding", encoding] if encoding else [])
            for verb in (["logs"], ["follow"], ["read", "--eof", "--from", "start"]):
                done = self.cli(*verb, *options, name)
                self.assertNotEqual(done.returncode, 0, (verb, name))
                self.assertIn(b"offset %d " % fault, done.stderr, (verb, name))
                self.assertEqual(len(done.stdout.splitlines()), 1, "the value before it")
            done = self.cli("run", *options, "--", need("python3"), "-c", WRITER, repr([data]))
            self.assertIn(b"offset %d " % fault, done.stderr, name)

    def test_the_offset_in_one_stream_beside_another(self):
        """What a read takes of one stream is not in a row in the log where the other was written between."""
        client = self.client()
        out, err = ['["\u00e9",', " 1]\n", "[2,", " x]"], ["error\n", "and more\n", "", ""]
        name = "both"
        run, subscription = client.run([need("python3"), "-c", "import os, sys\nfor a, b in eval(sys.argv[1]):\n"
                                        " for fd, text in ((1, a), (2, b)):\n"
                                        "  os.write(fd, text.encode('latin-1')); sys.stdin.readline()\n",
                                        repr(list(zip(out, err)))], name=name, subscribe=True)
        for text in (t for pair in zip(out, err) for t in pair):  # one after the other, so that their order is known
            if text:
                subscription.read_until_bytes(text.encode("latin-1"))
            client.write(name, b"\n")
        self.ended(client, name, for_="empty")
        fault = len("".join(out + err)) - 2
        for args in (["--eof"], ["--exactly", "9999"], ["--eof", "--peek", "--timeout", "5s"]):
            done = self.cli("read", "--stdout", "--from", "start", "--encoding", "latin-1", "--format", "json", *args, name)
            self.assertIn(b"offset %d " % fault, done.stderr, args)
            self.assertEqual(done.stdout.decode(), '["é",1]\n')

    def test_a_character_that_is_looked_at_beside_another_stream(self):
        """Its end is looked for behind what was read, not where that would end without the other stream."""
        client = self.client()
        subscription = client.run([need("sh"), "-c", r"""printf ab; read l; printf EE >&2; read l; printf '\303\251'"""],
                                  name="beside", subscribe=True)[1]
        for text in (b"ab", b"EE"):  # one after the other, so that their order is known
            subscription.read_until_bytes(text)
            client.write("beside", b"\n")
        self.ended(client, "beside", for_="empty")
        for args in ([], ["--peek"]):
            done = self.cli("read", "--stdout", "--from", "0", "--invalid", "refuse", "--bytes", "3", *args, "beside", check=0)
            self.assertEqual(done.stdout.decode(), "abé", args)

    def test_a_character_with_another_stream_inside(self):
        """Of both together it is two parts; of one, and of logs, it is whole."""
        client = self.client()
        subscription = client.run([need("sh"), "-c", r"""printf '\303'; read l; printf E >&2; read l; printf '\251'"""],
                                  name="inside", subscribe=True)[1]
        for text in (b"\xc3", b"E"):  # one after the other, so that their order is known
            subscription.read_until_bytes(text)
            client.write("inside", b"\n")
        self.ended(client, "inside", for_="empty")
        for args, wanted in ((["read"], "\ufffdE\ufffd"), (["read", "--stdout"], "é"), (["logs"], "é")):
            done = self.cli(*args, "--from", "0", "--encoding", "UTF-8", "inside", check=0)
            self.assertEqual(done.stdout.decode(), wanted, args)

    def test_what_an_encoding_remembers_ends_with_a_read(self):
        """As the man page says: a mark of the byte order, a shift state."""
        for name, encoding, data, first, rest, exact in (
                ("mark", "UTF-16", b"\xfe\xff\0a\0b", "a", "\u6200", "UTF-16BE"),
                ("shift", "UTF-7", b"+AOkA6Q-", "é", None, None)):
            self.write_pieces(name, data)
            self.assertEqual(self.cli("read", "--eof", "--peek", "--encoding", encoding, name, check=0).stdout.decode(),
                             data.decode(encoding))
            self.assertEqual(self.cli("read", "--bytes", "4", "--encoding", encoding, name, check=0).stdout.decode(), first)
            done = self.cli("read", "--peek", "--encoding", encoding, name, check=0)
            self.assertNotEqual(done.stdout.decode(), data.decode(encoding)[1:])
            if exact:
                self.assertEqual(done.stdout.decode(), rest)
                self.assertEqual(self.cli("read", "--encoding", exact, name, check=0).stdout.decode(), "b")

    def test_wrong_usage(self):
        self.write_pieces("x", b"")
        for args in (["--encoding", "klingon"], ["--invalid", "what"], ["--format", "xml"],
                     ["--json", "--format", "json"]):
            self.assertEqual(self.cli("logs", *args, "x").returncode, 2, args)


MIB = 1 << 20


class Gaps(PmuxTest):
    """Bytes are lost in the middle of what is decoded: those on both sides are never joined, and it is told."""

    # At an even offset, as every piece of a log ends at, these stand within a character and within a value.
    CHARACTERS = b"x" + "😀".encode() * (24 * MIB // 4)
    VALUES = b"  " + b'["aaa"]\n' * (24 * MIB // 8)

    def overtaken(self, text, first, retention, *args):
        """The process writes 'first' bytes and then, while nobody takes what the command prints, the rest.
        The command's status, what it printed and complained, and the gaps that it told."""
        path = os.path.join(self.tmp, "text")
        with open(path, "wb") as file:
            file.write(text)
        client = self.client()
        run = self.sh(client, 'head -c $2 "$1"; read l; tail -c +$(($2 + 1)) "$1"', path, str(first), name="p",
                      retention_bytes=retention)
        wait_until(lambda: client.show("p")["log"]["end"] == first, what="the first bytes")
        process = self.daemon.cli_start(*args, "p")
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        head = os.read(process.stdout.fileno(), 1)  # it has begun, and soon finds no room
        client.write("p", b"\n")
        self.ended(client, run["id"], for_="empty", timeout=60)
        out, err = process.communicate(timeout=60)
        gaps = [(int(at), int(n)) for n, at in re.findall(rb"(\d+) bytes lost at offset (\d+)", err)]
        self.assertTrue(gaps, err)
        return process.returncode, head + out, err, gaps

    @staticmethod
    def pieces(text, gaps):
        """What is between the gaps."""
        at, pieces = 0, []
        for begin, n in gaps:
            pieces.append(text[at:begin])
            at = begin + n
        return pieces + [text[at:]]

    def test_follow_with_a_gap_in_a_character(self):
        text = self.CHARACTERS
        status, out, err, gaps = self.overtaken(text, 2 * MIB, 4 * MIB, "follow", "--encoding", "UTF-8")
        self.assertEqual(status, 0, err)
        self.assertTrue(any(at % 4 != 1 for at, _ in gaps), "within a character")
        wanted = "".join(piece.decode(errors="replace") for piece in self.pieces(text, gaps))
        self.assertTrue(out.decode() == wanted, (gaps, len(out)))

    def test_follow_with_a_gap_in_a_value(self):
        status, out, err, gaps = self.overtaken(self.VALUES, 2 * MIB, 4 * MIB, "logs", "-f", "--format", "json")
        piece = self.VALUES[:gaps[0][0]]
        self.assertNotEqual(piece.strip()[-1:], b"]", "within a value")
        self.assertNotEqual(status, 0)
        self.assertEqual(len(out), 8 * piece.count(b"]"), err)
        self.assertIn(b"bytes of it are lost", err)

    def test_read_with_a_gap_in_a_character(self):
        """Between the first piece and the second, of which the command takes the one before it asks for the other."""
        text = self.CHARACTERS
        status, out, err, gaps = self.overtaken(text, 8 * MIB, 9 * MIB, "read", "--exactly", str(9 * MIB),
                                                "--encoding", "UTF-8")
        self.assertEqual((status, gaps[0][0]), (0, 8 * MIB), err)
        first, second = self.pieces(text, gaps)
        wanted = first.decode(errors="replace") + second[:MIB].decode(errors="replace")
        self.assertTrue(out.decode() == wanted, (gaps, len(out)))

    def test_read_with_a_gap_in_a_value(self):
        status, out, err, gaps = self.overtaken(self.VALUES, 8 * MIB, 9 * MIB, "read", "--exactly", str(9 * MIB),
                                                "--format", "json")
        self.assertEqual((status, gaps[0][0]), (125, 8 * MIB), err)
        self.assertEqual(len(out), 8 * self.VALUES[:8 * MIB].count(b"]"))
        self.assertIn(b"bytes of it are lost", err)
