# SPDX-License-Identifier: MIT
"""Streams that the caller hands over: past the log, to the child, and nowhere else."""

import array
import json
import os
import pty
import signal
import socket
import struct

from pmux_client import CONTROL, K_DATA, frame, hello_frame, random_key
from pmux_daemon import fd_count, wait_until
from pmux_test import ENV, PmuxTest


def read_all(fd):
    data = b""
    while True:
        piece = os.read(fd, 65536)
        if not piece:
            return data
        data += piece


class Caller(PmuxTest):
    def pipe(self):
        ends = os.pipe()
        for fd in ends:
            self.addCleanup(self.shut, fd)
        return ends

    @staticmethod
    def shut(fd):
        try:
            os.close(fd)
        except OSError:
            pass

    def test_all_three_pass_by_the_log(self):
        client = self.client()
        in_read, in_write = self.pipe()
        out_read, out_write = self.pipe()
        err_read, err_write = self.pipe()
        run = client.run(["/bin/sh", "-c", "cat; echo error >&2"], env=ENV, fds=(in_read, out_write, err_write),
                         stdin={"fd": 0}, stdout={"fd": 1}, stderr={"fd": 2})
        for fd in (in_read, out_write, err_write):
            os.close(fd)
        shown = client.show(run["id"])
        self.assertEqual([shown[s] for s in ("stdin", "stdout", "stderr")], [{"caller": "pipe"}] * 3)
        self.assertTrue(shown["stdout_closed"] and shown["stderr_closed"])
        client.wait(run["id"], for_="closed")
        self.assert_error("stdin-closed", client.write, run["id"], b"x")
        self.assert_error("stdin-closed", client.open_stdin, run["id"])
        os.write(in_write, b"to the child")
        os.close(in_write)
        self.assertEqual(read_all(out_read), b"to the child")
        self.assertEqual(read_all(err_read), b"error\n")
        self.assert_code(self.ended(client, run["id"]), 0)
        self.assertEqual([r for r in client.subscribe(run["id"]).collect() if r.kind == K_DATA], [])

    def test_one_beside_the_log_and_one_for_both(self):
        client = self.client()
        out_read, out_write = self.pipe()
        run, subscription = client.run(["/bin/sh", "-c", "echo out; echo err >&2"], env=ENV, fds=(out_write,),
                                       stderr={"fd": 0}, subscribe=True)
        self.assertEqual(b"".join(r.data for r in subscription.collect()), b"out\n")
        run = client.run(["/bin/sh", "-c", "echo out; echo err >&2"], env=ENV, fds=(out_write,),
                         stdout={"fd": 0}, stderr={"fd": 0})
        joined = client.run(["/bin/sh", "-c", "echo both; echo both >&2"], env=ENV, fds=(out_write,),
                            stdout={"fd": 0}, stderr="stdout")
        self.ended(client, run["id"])
        self.ended(client, joined["id"])
        os.close(out_write)
        text = read_all(out_read)
        self.assertEqual((text.count(b"err\n"), text.count(b"out\n"), text.count(b"both\n")), (2, 1, 2))

    def test_what_it_is_is_told(self):
        client = self.client()
        master, slave = pty.openpty()
        ours, theirs = socket.socketpair()
        path = os.path.join(self.tmp, "file")
        with open(path, "wb") as file:
            run = client.run(["/bin/sh", "-c", "echo x; read a"], env=ENV,
                             fds=(theirs.fileno(), file.fileno(), slave),
                             stdin={"fd": 0}, stdout={"fd": 1}, stderr={"fd": 2})
        shown = client.show(run["id"])
        self.assertEqual([shown[s]["caller"] for s in ("stdin", "stdout", "stderr")], ["socket", "file", "tty"])
        ours.sendall(b"\n")
        self.ended(client, run["id"])
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"x\n")
        for fd in (master, slave):
            os.close(fd)
        ours.close()
        theirs.close()

    def test_it_cannot_be_started_again(self):
        client = self.client()
        _, out_write = self.pipe()
        run = client.run(["/bin/sleep", "1000"], fds=(out_write,), stdout={"fd": 0})
        self.assert_error("wrong-state", client.restart, run["id"])
        self.assertEqual(client.show(run["id"])["state"], "running")
        client.stop(run["id"], now=True)
        self.assert_error("wrong-state", client.start, run["id"])

    def test_the_run_survives_the_engine(self):
        client = self.client(reconnect=True)
        in_read, in_write = self.pipe()
        out_read, out_write = self.pipe()
        key = random_key()
        wanted = {"fds": (in_read, out_write), "stdin": {"fd": 0}, "stdout": {"fd": 1}, "key": key}
        run = client.run(["/bin/cat"], **wanted)
        self.daemon.kill_engine()
        again = client.run(["/bin/cat"], **wanted)
        self.assertEqual((again["id"], again["existing"]), (run["id"], True))
        os.close(in_read)
        os.close(out_write)
        os.write(in_write, b"still there")
        os.close(in_write)
        self.assertEqual(read_all(out_read), b"still there")
        self.assertEqual(client.show(run["id"])["stdout"], {"caller": "pipe"})
        self.assert_code(self.ended(client, run["id"]), 0)

    def test_what_is_refused(self):
        client = self.client()
        _, write = self.pipe()
        argv = ["/bin/true"]
        self.assert_error("invalid-argument", client.run, argv, stdout={"fd": 0})
        self.assert_error("invalid-argument", client.run, argv, fds=(write,), stdout={"fd": 1})
        self.assert_error("invalid-argument", client.run, argv, fds=(write,), stdout={"fd": 3})
        self.assert_error("invalid-argument", client.run, argv, fds=(write,), stdout={"fd": -1})
        self.assert_error("invalid-argument", client.run, argv, fds=(write,), stdout={"caller": "pipe"})
        self.assert_error("invalid-argument", client.submit("run", {"argv": argv, "stdout": {"fd": 0, "file": "/x"}},
                                                             (write,)).result)
        self.assert_error("limit", client.run, argv, fds=(write,) * 4, stdout={"fd": 0})
        self.assert_error("stdin-closed", client.run, argv, fds=(write,), stdin={"fd": 0}, data=b"x")
        self.assertEqual(client.list(), [])

    def test_unclaimed_ones_are_closed(self):
        client = self.client()
        _, write = self.pipe()
        client.call("version")
        pid = self.daemon.engine_pid()
        before = fd_count(pid)
        request = frame(CONTROL, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "version"}).encode())
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [write] * 3))]
        many = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [write] * 200))]
        pieces = [
            [(hello_frame(), rights), (request, rights), (request, rights), (request, many)],
            [(hello_frame() + request, rights)],
            [(hello_frame(), []), (b"\xff" * 12, rights), (request, rights)],         # malformed
            [(hello_frame(), []), (request[:10], rights), (request[10:20], rights)],  # never complete
            [(hello_frame(), [])] + [(b"\0", rights)] * 50,
        ]
        for sent in pieces:
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(self.daemon.socket)
                for data, ancillary in sent:
                    try:
                        raw.sendmsg([data], ancillary)
                    except BrokenPipeError:
                        break
                client.call("version")
            wait_until(lambda: fd_count(pid) <= before, what="the descriptors to be closed")
        with socket.socket(socket.AF_UNIX) as raw:  # also while the connection stays
            raw.connect(self.daemon.socket)
            raw.sendmsg([hello_frame() + request], rights)
            wait_until(lambda: fd_count(pid) <= before + 1, what="the descriptors to be closed")

    def raw(self):
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.connect(self.daemon.socket)
        sock.sendall(hello_frame())
        return sock

    @staticmethod
    def request(number, stdout=None):
        params = {"argv": ["/bin/echo", str(number)], **({"stdout": stdout} if stdout else {})}
        return frame(CONTROL, json.dumps({"jsonrpc": "2.0", "id": number, "method": "run",
                                          "params": params}).encode())

    @staticmethod
    def answers(sock, n):
        """The answers to requests by number: None, or the name of the error."""
        answers, stream = {}, sock.makefile("rb")
        while len(answers) < n:
            size, kind = struct.unpack("<IB7x", stream.read(12))
            payload = stream.read(size)
            if kind == CONTROL:
                message = json.loads(payload)
                answers[message["id"]] = message["error"]["data"]["code"] if "error" in message else None
        return answers

    def test_descriptors_belong_to_the_frame_that_they_came_with(self):
        """Who forgot to send some is refused, and does not take those of a request that comes in the same read."""
        client = self.client()
        engine = self.daemon.engine_pid()
        forgetful, plain = self.request(1, {"fd": 0}), self.request(2)
        for before in ([forgetful], [plain, forgetful, plain], [forgetful * 2]):
            read, write = self.pipe()
            sock = self.raw()
            client.call("version")
            os.kill(engine, signal.SIGSTOP)  # so that all of it comes in one read
            try:
                for data in before:
                    sock.sendall(data)
                socket.send_fds(sock, [self.request(3, {"fd": 0})], [write])
                sock.sendall(self.request(4, {"fd": 0}))
            finally:
                os.kill(engine, signal.SIGCONT)
            answers = self.answers(sock, 4 if plain in before else 3)
            self.assertEqual((answers[1], answers[3], answers[4]), ("invalid-argument", None, "invalid-argument"))
            os.close(write)
            self.assertEqual(read_all(read), b"3\n")

    def test_with_descriptors_one_frame_is_sent(self):
        read, write = self.pipe()
        sock = self.raw()
        socket.send_fds(sock, [self.request(1, {"fd": 0}) + self.request(2)], [write])
        self.assertEqual(self.answers(sock, 2), {1: "invalid-argument", 2: None})
        os.close(write)
        self.assertEqual(read_all(read), b"")

    def test_descriptors_of_requests_in_a_row(self):
        """Each request gets its own, also where several come in one read and one is large."""
        client = self.client()
        pipes = [self.pipe() for _ in range(12)]
        waiting = []
        for number, (_, write) in enumerate(pipes):
            params = {"argv": ["/bin/echo", str(number)], "env": ["X=" + "y" * (number % 3 * 50_000)],
                      "stdout": {"fd": 0}}
            waiting.append(client.submit("run", params, (write,)))
            client.submit("version")
        for pending in waiting:
            pending.result()
        for number, (read, write) in enumerate(pipes):
            os.close(write)
            self.assertEqual(read_all(read), b"%d\n" % number)
