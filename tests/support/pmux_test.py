# SPDX-License-Identifier: MIT
"""What every integration test stands on: a private daemon, compiled helpers, checks of byte sequences."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from pmux_client import K_DATA, K_EXIT, STDERR, STDOUT
from pmux_daemon import Daemon, raise_fd_limit, work_done

BUILD = os.environ.get("PMUX_BUILD", "build")
LEVEL = os.environ.get("PMUX_TEST_LEVEL", "normal")  # quick, normal or slow
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")
ENV = ["PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=/tmp"]
SANITIZED = bool(os.environ.get("ASAN_OPTIONS") or os.environ.get("UBSAN_OPTIONS"))


def scale(quick, normal, slow):
    """How much of it: by --quick, as usual, by --slow."""
    return {"quick": quick, "normal": normal, "slow": slow}[LEVEL]


def program(name):
    """The path of tests/support/programs/NAME.c, compiled once."""
    directory = os.environ.get("PMUX_TEST_PROGRAMS")
    if not directory:
        directory = os.environ["PMUX_TEST_PROGRAMS"] = tempfile.mkdtemp(prefix="pmux-programs-")
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        part = "%s.%d" % (path, os.getpid())
        kind = ["-shared", "-fPIC"] if name.endswith(".so") else []
        source = os.path.join(PROGRAMS, name.removesuffix(".so") + ".c")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-o", part,
                        source] + kind + ["-lpthread", "-ldl"],
                       check=True)
        os.rename(part, path)
    return path


def need(name):
    """The path of a program of the system; a test that cannot have it fails."""
    if name == "python3":  # a wrapper script that is found first would be a process of its own
        return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else os.path.realpath(sys.executable)
    path = shutil.which(name)
    if not path:
        raise AssertionError("%s is not installed" % name)
    return path


class Sequence:
    """What programs/sequence.c writes with a seed: blocks of 4096, each numbered, else all the same."""

    BLOCK = 4096

    def __init__(self, seed):
        self.seed = seed
        body = bytearray()
        x = seed & 0xffffffff
        for _ in range(self.BLOCK - 16):
            x = (x * 1664525 + 1013904223) & 0xffffffff
            body.append(x >> 24)
        self.body = bytes(body)
        self.prefix = b"SEQ%05d" % (seed % 100000)
        self.done = 0                # bytes verified
        self._rest = b""

    def block(self, number):
        return self.prefix + number.to_bytes(8, "little") + self.body

    def feed(self, data):
        """Check the next bytes; raises AssertionError at the first that is not what was written."""
        data = self._rest + bytes(data)
        size, at = self.BLOCK, 0
        number = self.done // size
        end = len(data) - len(data) % size
        prefix, body = self.prefix, self.body
        while at < end:
            if data[at:at + 8] != prefix or data[at + 16:at + size] != body or \
                    int.from_bytes(data[at + 8:at + 16], "little") != number:
                self._fail(data[at:at + size], number)
            number += 1
            at += size
        self.done = number * size
        self._rest = data[end:]

    def finish(self):
        """How many bytes came in all, after the unfinished block was checked."""
        number = self.done // self.BLOCK
        if self._rest != self.block(number)[:len(self._rest)]:
            self._fail(self._rest, number)
        return self.done + len(self._rest)

    def _fail(self, got, number):
        want = self.block(number)
        at = next((i for i in range(len(got)) if got[i] != want[i]), len(got))
        where = got.find(self.prefix)
        there = int.from_bytes(got[where + 8:where + 16], "little") if 0 <= where <= self.BLOCK - 16 else None
        raise AssertionError("seed %d: byte %d differs (block %d + %d); in the piece a block begins at %d, "
                             "number %s" % (
            self.seed, number * self.BLOCK + at, number, at, where, there))


def split(records):
    """Records' bytes as (stdout, stderr)."""
    return (b"".join(r.data for r in records if r.kind == K_DATA and r.source == STDOUT),
            b"".join(r.data for r in records if r.kind == K_DATA and r.source == STDERR))


def exits(records):
    return [r for r in records if r.kind == K_EXIT]


class PmuxTest(unittest.TestCase):
    """One private daemon a test, started on first use of self.daemon."""

    maxDiff = 4000
    daemon_options = {}
    expect_violations = False

    def setUp(self):
        raise_fd_limit()
        self._daemon = None
        self._daemons = []
        self._tmp = None

    @property
    def daemon(self):
        if self._daemon is None:
            self._daemon = self.new_daemon(**self.daemon_options)
        return self._daemon

    def new_daemon(self, **options):
        daemon = Daemon(BUILD, start=False, **options)
        self._daemons.append(daemon)
        daemon.start()
        return daemon

    @property
    def tmp(self):
        if self._tmp is None:
            self._tmp = tempfile.mkdtemp(prefix="pmux-tmp-")
            os.chmod(self._tmp, 0o755)
            self.addCleanup(shutil.rmtree, self._tmp, ignore_errors=True)
        return self._tmp

    def client(self, **kwargs):
        return self.daemon.client(**kwargs)

    def run(self, result):
        self._failed_before = (len(result.failures), len(result.errors))
        self._result = result
        return super().run(result)

    def tearDown(self):
        failed = (len(self._result.failures), len(self._result.errors)) != self._failed_before
        violations = [v for d in self._daemons for c in d.clients for v in c.violations]
        try:
            if failed:
                for daemon in self._daemons:
                    self._report(daemon)
            for daemon in self._daemons:
                if daemon.running():
                    try:
                        status = daemon.stop()
                    except AssertionError:
                        if not failed:
                            self._report(daemon)
                            raise
                    else:
                        if not failed:
                            self.assertEqual(status, 0, "pmuxd's exit status after SIGTERM; it said:\n" +
                                             daemon.stderr_text())
            if not failed and not self.expect_violations:
                self.assertEqual(violations, [], "the daemon breaks docs/protocol.md")
            if not failed and SANITIZED:
                for daemon in self._daemons:
                    text = daemon.stderr_text(1 << 20)
                    self.assertNotIn("AddressSanitizer", text)
                    self.assertNotIn("runtime error:", text)
                    self.assertNotIn("LeakSanitizer", text)
        finally:
            for daemon in self._daemons:
                daemon.remove()

    def _report(self, daemon):
        print("--- state of %s\n%s\n--- stderr of pmuxd\n%s\n---" % (
            daemon.root, daemon.state_text() if daemon.running() else "pmuxd does not run",
            daemon.stderr_text()), file=sys.stderr, flush=True)

    # What many tests say

    def sh(self, client, text, *args, env=ENV, **params):
        """run a line of sh."""
        return client.run(["/bin/sh", "-c", text, "sh", *args], env=env, **params)

    def ended(self, client, target, timeout=30.0, for_="exited"):
        """Wait for the end, with "empty" for all three; returns the EXIT of the only target."""
        if for_ == "empty":
            self.ended(client, target, timeout, "closed")
        result = client.wait(target, for_=for_, timeout_usec=int(timeout * 1e6), timeout=timeout + 10)
        self.assertEqual(result["reason"], "satisfied", result)
        return result["processes"][0]["exit"]

    def assert_rests(self, pid, seconds=2.0):
        """It comes to rest, and then uses no processor at all for so long: not once is it woken."""
        seen = []
        for _ in range(4):  # what it does after the last answer is not waiting
            before = work_done(pid)
            time.sleep(seconds)
            seen.append(tuple(b - a for a, b in zip(before, work_done(pid))))
            if seen[-1] == (0, 0, 0):
                return
        self.fail("ns on a processor, ticks, switches within %g s each: %r" % (seconds, seen))

    def assert_code(self, exit_record, code):
        self.assertIsNotNone(exit_record)
        self.assertEqual((exit_record["known"], exit_record["code"], exit_record["signal"]),
                         (True, code, None),
                         exit_record)

    def assert_signal(self, exit_record, number):
        self.assertIsNotNone(exit_record)
        self.assertEqual((exit_record["known"], exit_record["code"], exit_record["signal"]),
                         (True, None, int(number)),
                         exit_record)

    def assert_error(self, error_name, function, /, *args, **kwargs):
        """function(*args) must be refused with the error of that name, which is returned."""
        from pmux_client import RpcError
        with self.assertRaises(RpcError) as caught:
            function(*args, **kwargs)
        self.assertEqual(caught.exception.name, error_name, caught.exception)
        return caught.exception

    def json_lines(self, data):
        """The objects of a --json output: one a line, each with schema 1."""
        objects = [json.loads(line) for line in data.decode("utf-8").splitlines()]
        for item in objects:
            self.assertIsInstance(item, dict)
            self.assertEqual(item.get("schema"), 1, item)
        return objects
