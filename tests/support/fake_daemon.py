# SPDX-License-Identifier: MIT
"""Enough of a pmuxd in Python to test the client: one process, its output given, its input collected.

It cuts connections at random places, and misbehaves where it is told to.
"""

import json
import os
import random
import socket
import struct
import threading

from pmux_client import (ACK, CONTROL, CREDIT, DATA, HEADER, HELLO, INPUT, K_DATA, K_END, K_EXIT, K_START,
                         RECORD,
                         STDOUT, U64, frame)


class FakeDaemon:
    def __init__(self, path, output, cut=0.0, tamper=None, seed=1):
        self.output = output
        self.cut = cut
        self.tamper = tamper
        self.chance = random.Random(seed)
        self.input = b""            # accepted from the one writer
        self.n_connections = 0
        self.keys = {}
        self.n_runs = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        self.closing = False
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.closing = True
        self.listener.close()

    def accept(self):
        while not self.closing:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.n_connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        stream = connection.makefile("rb")
        subscriptions = {}
        try:
            while True:
                header = stream.read(12)
                if len(header) < 12:
                    return
                size, kind, flags, _, number = HEADER.unpack(header)
                payload = stream.read(size)
                if self.chance.random() < self.cut:
                    return
                if kind == HELLO:
                    connection.sendall(frame(HELLO, struct.pack("<4sHHII16s", b"PMUX", 1, 1, 0, os.getpid(),
                                                                b"i" * 16)))
                elif kind == CREDIT and number in subscriptions:
                    subscriptions[number][1] = max(subscriptions[number][1], U64.unpack(payload)[0])
                elif kind == INPUT:
                    position = U64.unpack_from(payload)[0]
                    assert position <= len(self.input), "a hole in the input"
                    self.input += payload[8 + len(self.input) - position:]
                    n = len(self.input)
                    if self.chance.random() < self.cut:
                        return
                    connection.sendall(frame(ACK, struct.pack("<QQQ", n, n, n + (1 << 20)), number))
                elif kind == CONTROL:
                    self.request(connection, json.loads(payload), subscriptions)
                for number in list(subscriptions):
                    self.pump(connection, number, subscriptions)
        except OSError:
            pass
        finally:
            stream.close()
            connection.close()

    def request(self, connection, message, subscriptions):
        params, method = message["params"], message["method"]
        result = {}
        opened = None
        if method == "run":
            result = self.keys.get(params.get("key"))
            if result is None:
                self.n_runs += 1
                result = {"id": self.n_runs, "name": None, "run": 1, "pid": 2, "offset": 0, "existing": False}
                self.keys[params.get("key")] = dict(result, existing=True)
            opened = params.get("subscribe")
            if self.chance.random() < self.cut:
                raise OSError("cut before the answer")
        elif method == "subscribe":
            result = {"stream": params["stream"], "id": 1, "from": params.get("from", 0),
                      "end": len(self.output)}
            opened = params
        elif method == "open-stdin":
            n = len(self.input)
            result = {"stream": params["stream"], "accepted": n, "taken": n, "limit": n + (1 << 20), "run": 1}
        connection.sendall(frame(CONTROL, json.dumps({"jsonrpc": "2.0", "id": message["id"],
                                                      "result": result}).encode()))
        if opened is not None:
            subscriptions[opened["stream"]] = [opened.get("from", 0), opened.get("credit", 1 << 20), 0,
                                               opened.get("from", 0) == 0]

    def pump(self, connection, number, subscriptions):
        while True:
            at, limit, sent, start = subscriptions[number]
            if start:
                payload = RECORD.pack(0, 1000, 1, K_START, 0, 0) + U64.pack(2)
            elif at < len(self.output):
                data = self.output[at:at + self.chance.randint(1, 3000)]
                payload = RECORD.pack(at, 2000 + at, 1, K_DATA, STDOUT, 0) + data
            else:
                payload = RECORD.pack(at, 2000 + at, 1, K_EXIT, 0, 0) + U64.pack(0)
            if sent + len(payload) > limit and self.tamper != "credit":
                return
            if self.chance.random() < self.cut:
                raise OSError("cut")
            if self.tamper == "offset" and at > 1000 and not start:
                payload = U64.pack(at + 1) + payload[8:]
            if self.tamper == "time" and at > 1000 and not start:
                payload = payload[:8] + U64.pack(5) + payload[16:]
            if self.tamper == "flags" and at > 1000:
                connection.sendall(frame(DATA, payload, number, flags=1))
            connection.sendall(frame(DATA, payload, number))
            if start:
                subscriptions[number][3] = False
            elif at < len(self.output):
                subscriptions[number][0] += len(payload) - 24
            else:
                connection.sendall(frame(DATA, RECORD.pack(at, 0, 1, K_END, 0, 0) + U64.pack(0), number))
                del subscriptions[number]
                return
            subscriptions[number][2] += len(payload)
