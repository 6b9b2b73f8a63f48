# SPDX-License-Identifier: MIT
"""Malformed frames: an error or a closed connection, never a harmed daemon."""

import json
import os
import random
import socket
import struct

from pmux_client import (CONTROL, CREDIT, DATA, GOODBYE, HEADER, HELLO, INPUT, U64, RpcError, frame,
                         hello_frame)
from pmux_daemon import wait_until
from pmux_test import ENV, PmuxTest, scale


def request(method, params=None, number=1):
    return frame(CONTROL, json.dumps({"jsonrpc": "2.0", "id": number, "method": method,
                                      "params": params or {}}).encode())


class Raw:
    """A connection without manners."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(path)

    def send(self, data):
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def end_input(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def frames(self):
        """All frames up to the end of the connection."""
        data = b""
        while True:
            try:
                piece = self.socket.recv(1 << 16)
            except ConnectionResetError:
                piece = b""
            if not piece:
                break
            data += piece
        found = []
        while len(data) >= 12:
            size, kind, flags, zero, stream = HEADER.unpack_from(data)
            if len(data) < 12 + size:
                break
            found.append((kind, stream, data[12:12 + size]))
            data = data[12 + size:]
        return found

    def close(self):
        self.socket.close()


H = hello_frame()
# Each ends in GOODBYE with protocol-error and a closed connection.
BAD_FRAMES = {
    "unknown type": H + frame(99),
    "type 0": H + frame(0),
    "type of the daemon": H + frame(DATA, bytes(32), 1),
    "goodbye from a client": H + frame(GOODBYE, b"{}"),
    "flags that mean nothing": H + frame(CONTROL, b"{}", flags=1),
    "flags of credit": H + frame(CREDIT, U64.pack(1), 1, flags=1),
    "reserved field": H + struct.pack("<IBBHI", 2, CONTROL, 0, 1, 0) + b"{}",
    "control larger than its bound": H + struct.pack("<IBBHI", (8 << 20) + 1, CONTROL, 0, 0, 0),
    "control of 4 GiB": H + struct.pack("<IBBHI", 0xffffffff, CONTROL, 0, 0, 0),
    "input larger than its bound": H + struct.pack("<IBBHI", (1 << 20) + 9, INPUT, 0, 0, 1),
    "hello larger than its bound": struct.pack("<IBBHI", (64 << 10) + 1, HELLO, 0, 0, 0),
    "not hello first": request("version"),
    "hello of 3 bytes": frame(HELLO, b"PMU"),
    "hello without bytes": frame(HELLO),
    "another magic": frame(HELLO, b"XMUX" + bytes(8)),
    "hello on a stream": struct.pack("<IBBHI", 12, HELLO, 0, 0, 7) + b"PMUX\1\0\1\0\0\0\0\0",
    "control on a stream": H + frame(CONTROL, b"{}", stream=3),
    "a second hello": H + H,
    "text": b"GET / HTTP/1.0\r\n\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "input of 3 bytes": H + frame(INPUT, b"abc", 1),
    "input flags": H + frame(INPUT, bytes(8), 1, flags=2),
    "credit of 3 bytes": H + frame(CREDIT, b"abc", 1),
    "credit of 16 bytes": H + frame(CREDIT, bytes(16), 1),
}
# Each is answered with an error; the connection lives.
BAD_REQUESTS = [
    (b"", -32700), (b"{", -32700), (b"\xff\xfe", -32700), (b"nonsense", -32700), (b'{"a":"\xff"}', -32700),
    (b"[" * 100_000, -32700), (b'{"a":' * 50_000, -32700),
    (b"[]", None), (b"1", None), (b"null", None), (b'"x"', None), (b"{}", None),
    (b'{"jsonrpc":"2.0","id":1}', None), (b'{"jsonrpc":"1.0","id":1,"method":"version"}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":5}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"version","params":[1]}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"version","params":5}', None),
    (b'{"jsonrpc":"2.0","id":{},"method":"version"}', None),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"version"}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":""}', -32601), (b'{"jsonrpc":"2.0","id":1,"method":"nonsense"}',
                                                        -32601),
    (b'{"jsonrpc":"2.0","id":1,"method":"list","params":{"nonsense":1}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"show","params":{}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"show","params":{"target":[]}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"show","params":{"target":1.5}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"show","params":{"target":-1}}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"show","params":{"target":{"base64":"!"}}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"show","params":{"target":{"base64":5}}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":[]}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":"x"}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":[1]}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":["/bin/true"],"env":["NOEQUALS"]}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":["/bin/true"],"timeout_usec":-1}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":["/bin/true"],"stop_signal":999}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":["/bin/true"],"retention_bytes":1}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"argv":["/bin/true"],"key":""}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"target":"keep","stream":0}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"target":"keep","stream":4294967296}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"target":"keep","stream":1,"from":9999999999}}',
     -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"target":"keep","stream":1,"from":"start",'
     b'"last_lines":1}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"unsubscribe","params":{"stream":77}}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"signal","params":{"targets":["keep"],"signal":1000}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"wait","params":{"targets":[]}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"stop","params":{"targets":["keep",{}]}}', -32602),
    (b'{"jsonrpc":"2.0","id":1,"method":"cancel","params":{"request":99}}', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"write","params":{"target":"keep","data":7}}', -32602),
]


class Fuzz(PmuxTest):
    def setUp(self):
        super().setUp()
        self.good = self.client()
        # What mutated sessions may hit, by its name or its id, 1: an INPUT with another flag ends its input.
        self.bait = self.sh(self.good, "exec cat", name="bait")
        self.keep = self.sh(self.good, "while read line; do echo \"$line\"; done", name="keep",
                            stderr="stdout")
        self.subscription = self.good.subscribe("keep", lossless=True)
        self.engine = self.good.engine_pid
        self.n = 0

    def assert_unharmed(self):
        """The same engine, and the connection that was there before still works, streams and all."""
        self.n += 1
        self.good.write("keep", b"token %d\n" % self.n)
        self.subscription.read_until_bytes(b"token %d\n" % self.n)
        status = self.good.status()
        self.assertEqual((status["engine_pid"], status["engine_restarts"]), (self.engine, 0),
                         "the engine was replaced")

    def test_bad_frames(self):
        for name, data in BAD_FRAMES.items():
            with self.subTest(name):
                raw = Raw(self.daemon.socket)
                raw.send(data)
                frames = raw.frames()  # the daemon closes, without our closing first
                raw.close()
                self.assertTrue(frames, "no GOODBYE")
                self.assertEqual(frames[-1][0], GOODBYE, frames)
                self.assertEqual(json.loads(frames[-1][2])["data"]["code"], "protocol-error")
        self.assert_unharmed()

    def test_other_versions_are_told_both_ranges(self):
        for low, high in ((2, 9), (0, 0), (1000, 65535)):
            raw = Raw(self.daemon.socket)
            raw.send(hello_frame(low, high))
            frames = raw.frames()
            raw.close()
            self.assertEqual([f[0] for f in frames], [GOODBYE])
            error = json.loads(frames[0][2])
            self.assertEqual(error["data"]["code"], "version-mismatch")
            for number in (low, high, 1):
                self.assertIn(str(number), error["message"])
        raw = Raw(self.daemon.socket)
        raw.send(hello_frame(1, 9) + request("version"))
        raw.end_input()
        frames = raw.frames()
        self.assertEqual([f[0] for f in frames], [HELLO, CONTROL])
        self.assertEqual(struct.unpack_from("<4sH", frames[0][2]), (b"PMUX", 1))
        raw.close()
        self.assert_unharmed()

    def test_bad_requests(self):
        for text, code in BAD_REQUESTS:
            with self.subTest(text[:120]):
                raw = Raw(self.daemon.socket)
                raw.send(H + frame(CONTROL, text) + request("version", number="after"))
                raw.end_input()
                answers = [json.loads(f[2]) for f in raw.frames() if f[0] == CONTROL]
                raw.close()
                self.assertEqual(len(answers), 2, answers)
                bad = [a for a in answers if a.get("id") != "after"]
                self.assertEqual(len(bad), 1, answers)
                self.assertIn("error", bad[0])
                if code is not None:
                    self.assertEqual(bad[0]["error"]["code"], code, bad[0])
                self.assertIsInstance(bad[0]["error"]["message"], str)
                self.assertIsInstance(bad[0]["error"]["data"]["code"], str)
        self.assert_unharmed()

    def test_a_frame_that_never_ends_holds_nobody(self):
        raws = []
        for data in (b"", H[:5], H, H + request("version")[:-3], H + struct.pack("<IBBHI", 8 << 20, CONTROL,
                0, 0, 0)):
            raw = Raw(self.daemon.socket)
            raw.send(data)
            raws.append(raw)
        self.assert_unharmed()
        for raw in raws:
            raw.close()
        self.assert_unharmed()

    def test_input_and_credit_for_streams_that_are_not_there(self):
        """Frames that were under way when a stream ended are dropped."""
        raw = Raw(self.daemon.socket)
        raw.send(H + frame(INPUT, bytes(8) + b"x", 9) + frame(CREDIT, U64.pack(1 << 40),
                                                              9) + request("version"))
        raw.end_input()
        answers = [f for f in raw.frames() if f[0] == CONTROL]
        raw.close()
        self.assertEqual(len(answers), 1, "the connection was closed")
        self.assert_unharmed()

    def session(self, chance):
        """The frames of a real client, as a list."""
        number = chance.randrange(1 << 30)
        frames = [H, request("version", number=number), request("list", number="a"),
                  request("subscribe", {"target": "bait", "stream": 1, "credit": 1000, "follow": False}, 3),
                  frame(CREDIT, U64.pack(100000), 1),
                  request("run", {"argv": ["/bin/cat"], "env": ENV, "rm": True, "data": "hello", "eof": False,
                                  "lease": "client",
                                  "key": "fuzz%d" % number, "subscribe": {"stream": 2},
                                  "kill_after_usec": 100000}, 4),
                  request("open-stdin", {"target": "bait", "stream": 5, "writer": "w%d" % number}, 5),
                  frame(INPUT, U64.pack(0) + b"fuzz\n", 5), frame(INPUT, U64.pack(5), 5),
                  request("wait", {"targets": ["bait"], "timeout_usec": 1000}, 6),
                  request("show", {"target": "bait"}, 7),
                  request("events", {"stream": 8, "follow": False, "since": 0}, 8),
                  request("close-stream", {"stream": 5}, 9), request("unsubscribe", {"stream": 1}, 10),
                  request("cancel", {"request": 6}, 11), request("daemon-status", number=12)]
        return frames

    def mutate(self, chance, frames):
        frames = list(frames)
        for _ in range(chance.randint(1, 3)):
            kind = chance.randrange(10)
            at = chance.randrange(len(frames))
            victim = bytearray(frames[at])
            if kind == 0 and victim:
                for _ in range(chance.randint(1, 8)):
                    victim[chance.randrange(len(victim))] = chance.randrange(256)
            elif kind == 1 and victim:
                victim[chance.randrange(min(12, len(victim)))] ^= 1 << chance.randrange(8)
            elif kind == 2:
                del victim[chance.randrange(len(victim) + 1):]
            elif kind == 3:
                victim[12:12] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 40)))
            elif kind == 4:
                other = chance.randrange(len(frames))
                frames[at], frames[other] = frames[other], frames[at]
                continue
            elif kind == 5:
                frames.insert(at, bytes(victim))
                continue
            elif kind == 6 and len(victim) >= 12:
                victim[0:4] = struct.pack("<I", chance.choice([0, 1, 7, 8, 9, 11, 12, 1 << 20, (1 << 20) + 9,
                                                               1 << 23, 1 << 31,
                                                               0xffffffff]))
            elif kind == 7:
                # A value of the JSON replaced, the frame's size right
                payload = bytes(victim[12:])
                try:
                    message = json.loads(payload)
                    params = message["params"]
                    name = chance.choice(list(params))
                except (ValueError, KeyError, TypeError, IndexError):
                    continue
                params[name] = chance.choice([None, True, -1, 0, 1 << 62, 1 << 63, 1.5, "", "x" * 3000, [],
                                              [[]], {}, {"base64": "/w=="},
                                              {"base64": 1}, "bait", ["bait"], 1, "\0", "\ud800", [None]])
                try:
                    text = json.dumps(message).encode()
                except ValueError:
                    continue
                frames[at] = frame(CONTROL, text)
                continue
            elif kind == 8:
                frames[at] = bytes(chance.randrange(256) for _ in range(chance.randrange(64)))
                continue
            elif kind == 9 and len(victim) >= 12:
                victim[8:12] = struct.pack("<I", chance.choice([0, 1, 2, 5, 8, 0xffffffff]))
            frames[at] = bytes(victim)
        return b"".join(frames)

    def test_mutated_sessions(self):
        seed = int(os.environ.get("PMUX_FUZZ_SEED", random.SystemRandom().randrange(1 << 32)))
        print("seed %d (PMUX_FUZZ_SEED repeats it)" % seed)
        chance = random.Random(seed)
        for number in range(scale(200, 700, 20000)):
            data = self.mutate(chance, self.session(chance))
            raw = Raw(self.daemon.socket)
            at = 0
            while at < len(data):  # in pieces of any size
                size = chance.choice([1, 7, 100, 1000, 10000])
                if not raw.send(data[at:at + size]):
                    break
                at += size
            if chance.random() < 0.8:
                raw.end_input()
                raw.frames()  # must end: the daemon closes when we have
            raw.close()
            if number % 20 == 0:
                self.assert_unharmed()
                if self.good.show(self.bait["id"])["state"] == "exited":
                    self.good.start(self.bait["id"])
        self.assert_unharmed()
        # Nothing of it may live on but what was asked for: leases of the client end with it.
        def leased():
            found = []
            for process in self.good.list(all=False):
                try:
                    if self.good.show(process["id"])["lease"] == "client":
                        found.append(process["id"])
                except RpcError as error:
                    self.assertEqual(error.name, "not-found")  # it ended in between
            return found
        wait_until(lambda: not leased(), what="processes with a client's lease to end", interval=0.1)

    test_mutated_sessions.seconds = 20
