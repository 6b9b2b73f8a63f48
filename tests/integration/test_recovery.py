# SPDX-License-Identifier: MIT
"""Kills at chosen places: before each kind of system call, during recovery, among many changes."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time

from pmux_client import (K_CLOSED, K_DATA, K_EMPTY, K_EXIT, K_GAP, K_START, STDERR, STDIN, STDOUT, RpcError,
                         exit_word)
from pmux_daemon import alive, descendants, wait_until
from pmux_test import PmuxTest, Sequence, need, program, scale

# What the engine does on its way; a kill falls before the N-th of a kind.
SYSCALLS = ("pwrite64", "splice", "sendfile", "sendmsg", "recvmsg", "openat", "close", "unlinkat", "unlink",
            "writev", "write", "mkdir", "rmdir", "pipe2", "fallocate", "accept4", "epoll_wait", "fcntl",
            "pread64",
            "mkdirat", "lseek", "ftruncate")


def brief(records):
    """The records without bytes, and where the last bytes ended."""
    end = max((r.offset + len(r.data) for r in records if r.kind == K_DATA), default=0)
    return "\n".join([repr(r) for r in records if r.kind != K_DATA] + ["data ends at %d" % end])


class Recovery(PmuxTest):
    seconds = 20

    def cgroups(self, keeper_pid):
        """The cgroups of runs that a daemon has."""
        return [os.path.join(top, name) for top, names, _ in os.walk("/sys/fs/cgroup") for name in names
                if ".%d." % keeper_pid in os.path.basename(top)]

    def check_directories(self, client, processes):
        """Each process has one; and what was made ahead for the next one, perhaps by an engine before, it gets."""
        found = set(map(int, os.listdir(os.path.join(self.daemon.state_dir, "processes"))))
        ids = {p["id"] for p in processes}
        self.assertLessEqual(ids, found)
        if found != ids:
            run = client.run(["/bin/true"])
            self.assertEqual(found - ids, {run["id"]})
            self.assert_code(self.ended(client, run["id"], for_="empty"), 0)

    def live(self, client, number):
        """A bit of everything, each answer and byte checked."""
        data = b"".join(Sequence(77).block(i) for i in range(20))
        echo, subscription = client.run(["/bin/cat"], subscribe={"until": "closed", "lossless": True})
        stream = client.open_stdin(echo["id"])
        stream.write(data, eof=True, piece=9000)
        both = self.sh(client, "echo out; echo err >&2; exit 7", subscribe={"until": "closed"})
        sleeper = self.sh(client, "exec sleep 1000", name="sleeper%d" % number)
        for run, reader, wanted, code in ((echo, subscription, {STDOUT: data, STDERR: b""}, 0),
                                          (both[0], both[1], {STDOUT: b"out\n", STDERR: b"err\n"}, 7)):
            records = reader.collect()
            for source, text in wanted.items():
                self.assertEqual(b"".join(r.data for r in records if r.source == source), text)
            once = sorted((r.kind, r.source) for r in records if r.kind in (K_START, K_CLOSED, K_EXIT,
                    K_EMPTY, K_GAP)
                          and (r.kind, r.source) not in ((K_CLOSED, STDIN), (K_EMPTY, 0)))
            self.assertEqual(once, [(K_START, 0), (K_CLOSED, STDOUT), (K_CLOSED, STDERR), (K_EXIT, 0)],
                             "received:\n%s\nin the log:\n%s" % (
                                 brief(records), brief(client.subscribe(run["id"],
                                         until="closed").collect())))
            self.assertEqual([exit_word(r.arg) for r in records if r.kind == K_EXIT],
                             [(code, 0, False, False)])
        stopped = client.stop(sleeper["id"])[0]
        self.assertEqual(stopped["survivors"], [])
        self.assertFalse(alive(sleeper["pid"]))
        self.assert_signal(client.show(sleeper["id"])["exit"], signal.SIGTERM)
        self.assert_code(self.ended(client, echo["id"], for_="empty"), 0)
        self.assert_code(self.ended(client, both[0]["id"], for_="empty"), 7)
        for target in (echo["id"], both[0]["id"], sleeper["id"]):
            try:
                client.remove(target)
            except RpcError as error:
                self.assertEqual(error.name, "not-found")  # removed before the kill, asked again after it
        for closed in (subscription, stream, both[1]):
            client.forget_stream(closed)

    def test_before_each_kind_of_system_call(self):
        rounds = [(name, n) for n in scale((1, 4), (1, 3, 9), range(1, 31)) for name in SYSCALLS]
        chance = random.Random(1)
        chance.shuffle(rounds)
        n_killed = 0
        for number, (name, n) in enumerate(rounds):
            engine = self.daemon.engine_pid()
            print("round %d: %s, %d" % (number, name, n))
            strace = subprocess.Popen([need("strace"), "-e", "trace=" + name, "-e",
                                       "inject=%s:signal=KILL:when=%d" % (name, n), "-p", str(engine)],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE)
            try:
                self.assertIn(b"attached", strace.stderr.readline())
                with self.subTest(syscall=name, n=n), self.daemon.client(reconnect=True) as client:
                    self.live(client, number)
            finally:
                strace.terminate()
                strace.stderr.close()
                strace.wait()
            n_killed += not alive(engine)
        print("%d rounds, %d kills" % (len(rounds), n_killed))
        self.assertGreater(n_killed, len(rounds) // 3)
        client = self.client()
        self.assertEqual(client.list(), [])
        status = client.status()
        self.assertEqual(set(descendants(status["keeper_pid"])), {status["engine_pid"]})
        self.check_directories(client, [])

    test_before_each_kind_of_system_call.seconds = 40

    def test_what_lies_where_a_new_process_goes(self):
        """An engine that was killed before it stored a process leaves a directory, perhaps with input in it:
        the next process gets the same number, and nothing of what is there."""
        client = self.client(reconnect=True)
        first = client.run(["/bin/cat"])
        stream = client.open_stdin(first["id"])
        stream.write(b"of another\n", eof=True)
        self.assert_code(self.ended(client, first["id"], for_="empty"), 0)
        directory = os.path.join(self.daemon.state_dir, "processes")
        shutil.copytree(os.path.join(directory, str(first["id"])),
                        os.path.join(directory, str(first["id"] + 1)), dirs_exist_ok=True)
        self.daemon.kill_engine()
        second, subscription = client.run(["/bin/cat"], subscribe={"until": "closed"})
        self.assertEqual(second["id"], first["id"] + 1)
        stream = client.open_stdin(second["id"])
        stream.write(b"its own\n", eof=True)
        records = subscription.collect()
        self.assertEqual([(r.offset, r.data) for r in records if r.kind == K_DATA], [(0, b"its own\n")])
        self.assertEqual(len([r for r in records if r.kind == K_START]), 1)

    def test_nothing_is_started_whose_log_is_damaged(self):
        """The engine looks at an old segment when it comes to it: a start comes to all of them before there is a
        program whose output and end could not be recorded."""
        client = self.client(reconnect=True)
        run = client.run([program("sequence"), "-o", "600000", "-s", "3"], retention_bytes=1 << 20)
        self.assert_code(self.ended(client, run["id"], for_="empty"), 0)
        directory = os.path.join(self.daemon.state_dir, "processes", str(run["id"]))
        segments = sorted(n for n in os.listdir(directory) if n.endswith(".log") and n[0].isdigit())
        self.assertGreater(len(segments), 3)
        damaged = os.path.join(directory, segments[1])
        size = os.path.getsize(damaged)
        self.daemon.kill_engine()
        os.truncate(damaged, size + 1)
        with self.assertRaises(RpcError) as caught:
            client.restart(run["id"])
        self.assertEqual(caught.exception.name, "system")
        self.assertIn(segments[1], str(caught.exception))
        shown = client.show(run["id"])
        self.assertEqual((shown["state"], shown["run"], shown["log"]), ("exited", 1, None))
        os.truncate(damaged, size)
        client.restart(run["id"])
        self.assert_code(self.ended(client, run["id"], for_="empty"), 0)
        shown = client.show(run["id"])
        self.assertEqual((shown["run"], shown["log"]["end"]), (2, 1200000))
        client.remove(run["id"])
        self.assertFalse(os.path.exists(directory))

    def test_killed_again_while_it_recovers(self):
        client = self.client(reconnect=True)
        run, subscription = client.run([program("sequence"), "-o", "inf", "-s", "5", "-c", "5000"],
                                       retention_bytes=64 << 20, subscribe={"lossless": True})
        sequence = Sequence(5)
        keeper = self.daemon.keeper_pid()
        chance = random.Random()

        def engine():
            for pid in descendants(keeper):
                try:
                    with open("/proc/%d/cmdline" % pid, "rb") as file:
                        if b"--engine" in file.read().split(b"\0"):
                            return pid
                except OSError:
                    pass
            return None
        for _ in range(scale(3, 8, 60)):
            for _ in range(3):
                pid = wait_until(engine, what="an engine", interval=0)
                time.sleep(chance.random() * 0.02)  # the instant is what chance decides
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                wait_until(lambda: not alive(pid), what="its end", interval=0)
            at = subscription.next_offset
            while subscription.next_offset < at + 100_000:
                record = subscription.next()
                self.assertNotEqual(record.kind, K_GAP)
                if record.kind == K_DATA:
                    sequence.feed(record.data)
        os.kill(run["pid"], signal.SIGUSR1)
        for record in subscription:
            if record.kind == K_DATA:
                sequence.feed(record.data)
        self.assertEqual(sequence.finish(), client.show(run["id"])["log"]["end"])
        self.assert_code(self.ended(client, run["id"]), 0)

    def stage_of(self, engine):
        """Whether the engine has both ends of a pipe, as it has of one behind that of a program whose output flows."""
        ends = {}
        try:
            for name in os.listdir("/proc/%d/fd" % engine):
                try:
                    target = os.readlink("/proc/%d/fd/%s" % (engine, name))
                except FileNotFoundError:
                    continue
                if target.startswith("pipe:"):
                    ends[target] = ends.get(target, 0) + 1
        except FileNotFoundError:
            return False
        return 2 in ends.values()

    def test_killed_between_two_pipes(self):
        """What flows goes from pipe to pipe and then into the log: killed before either, the engine loses nothing.
        Nobody reads meanwhile; what is kept at the end shows by its numbers whether anything before it is missing."""
        client = self.client(reconnect=True)
        run = client.run([program("sequence"), "-o", "inf", "-s", "9", "-c", "65536"], retention_bytes=8 << 20)
        for n in scale((1, 2, 3), range(1, 9), range(1, 41)):
            engine = self.daemon.engine_pid()
            wait_until(lambda: self.stage_of(engine), what="a second pipe")
            strace = subprocess.Popen([need("strace"), "-e", "trace=splice", "-e",
                                       "inject=splice:signal=KILL:when=%d" % n, "-p", str(engine)],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE)
            try:
                self.assertIn(b"attached", strace.stderr.readline())
                wait_until(lambda: not alive(engine), what="the engine's end")
            finally:
                strace.terminate()
                strace.stderr.close()
                strace.wait()
        os.kill(run["pid"], signal.SIGUSR1)
        self.assert_code(self.ended(client, run["id"], for_="empty"), 0)
        log = client.show(run["id"])["log"]
        sequence = Sequence(9)
        sequence.done = -(-log["begin"] // Sequence.BLOCK) * Sequence.BLOCK
        data = b"".join(r.data for r in client.subscribe(run["id"], until="closed").collect() if r.kind == K_DATA)
        sequence.feed(data[sequence.done - log["begin"]:])
        self.assertEqual(sequence.finish(), log["end"])

    def test_many_processes(self):
        """The next engine finds all of them: those that live, that ended before, that end meanwhile."""
        n = scale(60, 200, 2000)
        client = self.client(reconnect=True)
        runs = [self.sh(client, 'echo "$1"; read line; exit "$1"', str(i % 100)) for i in range(n)]
        for number in range(0, n, 4):
            client.close_stdin(runs[number]["id"])
        for number in range(0, n, 4):
            self.ended(client, runs[number]["id"], for_="empty")
        begin = time.monotonic()
        self.daemon.kill_engine()
        print("%d processes: %.3f s until it answers" % (n, time.monotonic() - begin))
        states = [p["state"] for p in sorted(client.list(), key=lambda p: p["id"])]
        self.assertEqual(states, ["exited" if i % 4 == 0 else "running" for i in range(n)])
        pending = []
        for number in range(n):
            if number % 4:
                pending.append(client.submit("close-stdin", {"target": runs[number]["id"]}))
        for one in pending:
            one.result()
        self.daemon.kill_engine()
        for number, run in enumerate(runs):
            self.assert_code(self.ended(client, run["id"]), number % 100)
        for process in client.list():
            self.assertEqual(process["log_end"], len("%d\n" % ((process["id"] - runs[0]["id"]) % 100)))

    def test_retention_over_kills(self):
        """Segments come and go while the engine is killed: what is kept is right, what is gone is told."""
        client = self.client(reconnect=True)
        run, subscription = client.run([program("sequence"), "-o", "inf", "-s", "6", "-c", "7000"],
                                       retention_bytes=1 << 20,
                                       subscribe={"credit": 20_000})
        whole = [Sequence(6).block(0)]
        chance = random.Random()
        stop = threading.Event()

        def kill():
            while not stop.is_set():
                self.daemon.kill_engine()
                stop.wait(chance.random() * 0.1)
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        n_gaps = n_bytes = n_lost = 0
        block = bytearray(whole[0])
        try:
            deadline = time.monotonic() + scale(2, 6, 60)
            while time.monotonic() < deadline:
                record = subscription.next()
                if record.kind == K_GAP:
                    n_gaps += 1
                    n_lost += record.arg
                elif record.kind == K_DATA:
                    n_bytes += len(record.data)
                    at = 0
                    while at < len(record.data):
                        number, skip = divmod(record.offset + at, 4096)
                        block[8:16] = number.to_bytes(8, "little")
                        piece = record.data[at:at + 4096 - skip]
                        self.assertEqual(bytes(block[skip:skip + len(piece)]), piece,
                                         "at %d" % (record.offset + at))
                        at += len(piece)
        finally:
            stop.set()
            thread.join(30)
        print("%d kills, %d bytes, %d gaps of %d bytes" % (self.daemon.n_engine_kills, n_bytes, n_gaps,
                                                           n_lost))
        self.assertGreater(n_gaps, 0)
        os.kill(run["pid"], signal.SIGUSR1)
        self.assert_code(self.ended(client, run["id"]), 0)
        files = os.listdir(os.path.join(self.daemon.state_dir, "processes", str(run["id"])))
        self.assertLess(len(files), 60, "segments that nobody removes: %r" % files[:10])

    def test_many_changes_among_kills(self):
        """Clients start, restart, stop, pause and remove while engines are killed: in the end all agrees."""
        self.daemon.status()
        stop = threading.Event()
        errors = []

        def work(number):
            chance = random.Random(number)
            try:
                client = self.daemon.client(reconnect=True)
                while not stop.is_set():
                    run = self.sh(client, chance.choice(["exit 3", "echo x; exec sleep 1000",
                                                         "read line; exit 2"]), timeout=60)
                    for _ in range(chance.randrange(4)):
                        verb = chance.choice(["restart", "stop", "pause", "resume", "close-stdin", "now"])
                        try:
                            if verb == "restart":
                                client.restart(run["id"], timeout=60)
                            elif verb in ("stop", "now"):
                                result = client.stop(run["id"], now=verb == "now", timeout=60)[0]
                                self.assertEqual(result["survivors"], [])
                            elif verb == "close-stdin":
                                client.close_stdin(run["id"], timeout=60)
                            else:
                                client.call(verb, {"targets": [run["id"]]}, 60)
                        except RpcError as error:
                            self.assertIn(error.name, ("not-running", "wrong-state", "stdin-closed",
                                                       "not-found"), verb)
                    if chance.random() < 0.7:
                        try:
                            client.remove(run["id"], force=True, timeout=60)
                        except RpcError as error:
                            self.assertEqual(error.name, "not-found")
                client.close()
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + scale(3, 8, 120)
        while time.monotonic() < deadline and not errors:
            time.sleep(random.random() * 0.1)  # the instant is what chance decides
            self.daemon.kill_engine()
        stop.set()
        for thread in threads:
            thread.join(90)
        self.assertEqual(errors, [])
        client = self.client()
        for process in client.list():
            client.stop(process["id"], now=True)
        processes = client.list()
        for process in processes:
            self.assertIn(process["state"], ("exited", "failed"), process)
            self.assertTrue(process["exit"]["known"], process)
            self.assertTrue(process["tree_empty"], process)
        status = client.status()
        wait_until(lambda: set(descendants(status["keeper_pid"])) == {status["engine_pid"]}, 5,
                   "the daemon's children to be the engine alone: %r" % descendants(status["keeper_pid"]))
        self.check_directories(client, processes)
        processes = client.list()
        client.remove(*[p["id"] for p in processes])
        self.assertEqual(client.list(), [])
        self.daemon.kill_engine()
        wait_until(lambda: not self.cgroups(status["keeper_pid"]), 5, "the cgroups of runs that are over to go")
        print("%d kills, %d processes kept" % (self.daemon.n_engine_kills, len(processes)))
