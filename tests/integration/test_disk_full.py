# SPDX-License-Identifier: MIT
"""A full disk: discarded with an exact gap, or the child waits; the daemon lives, exits are recorded."""

import os
import re
import resource
import signal
import subprocess
import time

from pmux_client import K_DATA, K_EXIT, K_GAP, K_WRITER, NULL, STDIN, STDOUT, RpcError
from pmux_daemon import fd_names, wait_until
from pmux_test import PmuxTest, program

MIB = 1 << 20


class DiskFull(PmuxTest):
    seconds = 5

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            self.fail("this test needs root: it mounts a file system of its own")
        self.disk = os.path.join(self.tmp, "disk")
        os.mkdir(self.disk)
        self.mount(32)
        self.addCleanup(subprocess.run, ["umount", "-l", self.disk], check=True)
        self.daemon_options = {"state_dir": os.path.join(self.disk, "state")}
        self.ballast = os.path.join(self.disk, "ballast")

    def mount(self, mebibytes):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=0755" % mebibytes, "pmux-test",
                        self.disk],
                       check=True)

    def fill(self):
        """Leave nothing free."""
        with open(self.ballast, "ab", buffering=0) as file:
            for size in (65536, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def leave(self, size):
        """Leave so much free. What the daemon reserves for itself it has by then."""
        self.daemon.status()
        with open(self.ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(self.disk).f_bavail * 4096 - size)

    def assert_right_bytes(self, records, total):
        """Each byte that came stands at its place; with the gaps there are 'total'. All is stdout."""
        block = self.sequence()
        n = 0
        for record in records:
            if record.kind == K_DATA:
                for at in range(0, len(record.data), 512):
                    piece = record.data[at:at + 512]
                    self.assertEqual(piece, block(record.offset + at, len(piece)),
                                     "at %d" % (record.offset + at))
                n += len(record.data)
            elif record.kind == K_GAP:
                n += record.arg
        self.assertEqual(n, total)

    @staticmethod
    def sequence():
        from pmux_test import Sequence
        sequence = Sequence(8)

        def piece(offset, size):
            first = offset // Sequence.BLOCK
            data = b"".join(sequence.block(i) for i in range(first, (offset + size) // Sequence.BLOCK + 1))
            begin = offset - first * Sequence.BLOCK
            return data[begin:begin + size]
        return piece

    def test_discard_with_a_gap(self):
        client = self.client()
        self.leave(4 * MIB)
        events = client.events()
        other = self.sh(client, "echo before; read line; exit 3", name="other")
        total = 16 * MIB
        run = client.run([program("sequence"), "-o", str(total), "-s", "8", "-x", "4"],
                         retention_bytes=64 * MIB)
        self.assert_code(self.ended(client, run["id"]), 4)
        shown = client.show(run["id"])
        self.assertEqual(shown["log"]["end"], total)
        records = client.subscribe(run["id"], from_=0).collect()
        self.assert_right_bytes(records, total)
        gaps = [r for r in records if r.kind == K_GAP]
        self.assertTrue(gaps, "16 MiB do not fit where 4 MiB are free")
        self.assertEqual(len([r for r in records if r.kind == K_EXIT]), 1)
        self.assertGreater(shown["log"]["lost_bytes"] + shown["log"]["begin"], 0)
        kinds = [e["type"] for e in events.wait_for("exited", run["id"])]
        self.assertIn("full-disk", kinds)
        client.remove(run["id"])
        wait_until(lambda: os.statvfs(self.disk).f_bavail * 4096 > 2 * MIB, what="the space to be free again")
        client.write(other["id"], b"\n")
        self.assert_code(self.ended(client, other["id"]), 3)
        run, subscription = self.sh(client, "echo works again", subscribe=True)
        self.assertEqual(b"".join(r.data for r in subscription.collect() if r.kind == K_DATA),
                         b"works again\n")

    def test_wait_until_there_is_space(self):
        client = self.client()
        events = client.events()
        total = 2 * MIB
        fifo = os.path.join(self.tmp, "fifo")
        os.mkfifo(fifo)
        run = self.sh(client, 'read line <"$3"; exec "$1" -o "$2" -s 8', program("sequence"), str(total),
                      fifo,
                      full_disk="wait", retention_bytes=64 * MIB)
        self.fill()
        with open(fifo, "w") as file:
            file.write("go\n")
        wait_until(lambda: client.show(run["id"])["log"]["state"] == "waiting",
                   what="the child to wait for the disk")
        self.assertEqual(client.show(run["id"])["state"], "running")
        until = time.monotonic() + 2
        while time.monotonic() < until:  # it is tried again all the while
            self.assertEqual(client.show(run["id"])["log"]["state"], "waiting")
        os.unlink(self.ballast)
        self.assert_code(self.ended(client, run["id"]), 0)
        kinds = [e["type"] for e in events.wait_for("exited", run["id"])]
        self.assertEqual([k for k in kinds if "disk" in k], ["full-disk", "full-disk-over"])
        records = client.subscribe(run["id"], from_=0).collect()
        self.assert_right_bytes(records, total)
        self.assertEqual([r for r in records if r.kind == K_GAP], [])
        self.assertEqual(client.show(run["id"])["log"]["state"], "ok")

    def test_engine_kill_while_discarding(self):
        client = self.client(reconnect=True)
        self.leave(4 * MIB)
        total = 64 * MIB
        run = client.run([program("sequence"), "-o", str(total), "-s", "8", "-c", "4096"],
                         retention_bytes=256 * MIB)
        for _ in range(3):
            self.daemon.kill_engine()
        self.assert_code(self.ended(client, run["id"], timeout=60), 0)
        self.assertEqual(client.show(run["id"])["log"]["end"], total)
        self.assert_right_bytes(client.subscribe(run["id"], from_=0).collect(), total)

    def test_what_is_removed_while_it_discards_leaves_nothing_in_the_keeper(self):
        client = self.client()
        fifo = os.path.join(self.tmp, "fifo")
        os.mkfifo(fifo)
        run = self.sh(client, 'read line <"$1"; head -c 2097152 /dev/zero; read line <"$1"', fifo,
                      retention_bytes=64 * MIB)
        self.fill()
        with open(fifo, "w") as file:
            file.write("go\n")
        wait_until(lambda: client.show(run["id"])["log"]["state"] == "discarding", what="the disk to be found full")
        client.remove(run["id"], force=True)
        keeper = self.daemon.keeper_pid()
        wait_until(lambda: not [n for n in fd_names(keeper) if "pmux-discard" in n], timeout=5,
                   what="the keeper to let go of what counts")

    def test_another_engine_tells_that_the_full_disk_is_over(self):
        client = self.client(reconnect=True)
        for mode in ("discard", "wait"):
            fifo = os.path.join(self.tmp, mode)
            os.mkfifo(fifo)
            run = self.sh(client, 'read line <"$3"; exec "$1" -o "$2" -s 8', program("sequence"), str(2 * MIB),
                          fifo, full_disk=mode, retention_bytes=64 * MIB)
            self.fill()
            with open(fifo, "w") as file:
                file.write("go\n")
            wait_until(lambda run=run: client.show(run["id"])["log"]["state"] != "ok",
                       what="the disk to be found full")
            keeper, engine = self.daemon.keeper_pid(), self.daemon.engine_pid()
            os.kill(keeper, signal.SIGSTOP)
            os.kill(engine, signal.SIGKILL)
            os.unlink(self.ballast)
            os.kill(keeper, signal.SIGCONT)
            self.assert_code(self.ended(client, run["id"]), 0)
            wait_until(lambda run=run: client.show(run["id"])["log"]["state"] == "ok", what="room")
            kinds = [e["type"] for e in client.events(since=0, follow=False).rest() if e.get("id") == run["id"]]
            self.assertEqual([k for k in kinds if "disk" in k], ["full-disk", "full-disk-over"], mode)
            self.assert_right_bytes(client.subscribe(run["id"], from_=0).collect(), 2 * MIB)

    def test_what_is_discarded_is_not_forgotten_for_want_of_a_descriptor(self):
        client = self.client(reconnect=True)
        total = 2 * MIB
        fifo = os.path.join(self.tmp, "fifo")
        os.mkfifo(fifo)
        run = self.sh(client, 'read line <"$3"; exec "$1" -o "$2" -s 8', program("sequence"), str(total),
                      fifo, retention_bytes=64 * MIB)
        keeper = self.daemon.keeper_pid()
        soft, hard = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (3, hard))
        self.fill()
        with open(fifo, "w") as file:
            file.write("go\n")
        wait_until(lambda: client.show(run["id"])["log"]["state"] != "ok", what="the disk to be found full")
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (soft, hard))
        self.daemon.kill_engine()
        self.assert_code(self.ended(client, run["id"]), 0)
        self.assertEqual(client.show(run["id"])["log"]["end"], total)
        os.unlink(self.ballast)
        self.assert_right_bytes(client.subscribe(run["id"], from_=0).collect(), total)

    def test_what_was_discarded_is_not_forgotten_over_a_log_that_cannot_be_opened(self):
        self.log_that_cannot_be_opened(still_full=False)

    def test_discarding_goes_on_after_a_log_that_could_not_be_opened(self):
        self.log_that_cannot_be_opened(still_full=True)

    def log_that_cannot_be_opened(self, still_full):
        client = self.client(reconnect=True)
        fifo = os.path.join(self.tmp, "fifo")
        os.mkfifo(fifo)
        self.leave(4 * MIB)
        run = self.sh(client, 'head -c 8388608 /dev/zero; read line <"$1"; head -c 3000000 /dev/zero', fifo,
                      retention_bytes=64 * MIB)
        wait_until(lambda: client.show(run["id"])["log"]["end"] == 8 * MIB, what="the first part")
        self.assertEqual(client.show(run["id"])["log"]["state"], "discarding")
        directory = os.path.join(self.daemon.state_dir, "processes", str(run["id"]))
        index = os.path.join(directory, max(n for n in os.listdir(directory) if re.fullmatch(r"\d{20}\.idx", n)))
        keeper, engine = self.daemon.keeper_pid(), self.daemon.engine_pid()
        os.kill(keeper, signal.SIGSTOP)
        os.kill(engine, signal.SIGKILL)
        os.rename(index, index + ".away")
        os.kill(keeper, signal.SIGCONT)
        wait_until(lambda: client.show(run["id"])["log"] is None, what="an engine that cannot open it")
        if still_full:
            self.fill()
        else:
            os.unlink(self.ballast)
        with open(fifo, "w") as file:
            file.write("go\n")
        wait_until(lambda: "cannot log its output" in self.daemon.stderr_text(), what="output that waits")
        os.rename(index + ".away", index)
        self.assert_code(self.ended(client, run["id"], timeout=10), 0)
        if still_full:
            self.assertEqual(client.show(run["id"])["log"]["state"], "discarding")
            os.unlink(self.ballast)
            wait_until(lambda: client.show(run["id"])["log"]["state"] == "ok", what="room")
        records = client.subscribe(run["id"], from_=0).collect()
        self.assertEqual(sum(len(r.data) for r in records if r.kind == K_DATA) +
                         sum(r.arg for r in records if r.kind == K_GAP), 8 * MIB + 3000000)
        self.assertEqual([r.offset for r in records if r.kind == K_EXIT], [8 * MIB + 3000000])

    def test_statuses_and_calls_while_the_disk_is_full(self):
        client = self.client()
        runs = [self.sh(client, "read line; exit %d" % code) for code in (0, 1, 7)]
        self.fill()
        client.call("version")
        self.assertEqual(len(client.list()), 3)
        for run in runs:
            os.kill(run["pid"], 15)
        for run in runs:
            result = client.wait(run["id"], timeout_usec=15_000_000)
            self.assertEqual(result["reason"], "satisfied")
            self.assertEqual(result["processes"][0]["exit"]["signal"], 15)
        try:
            self.sh(client, "exit 0")  # may be refused, must be answered
        except RpcError as error:
            self.assertIn(error.name, ("no-space", "system", "spawn-failed"), error)
        engine = client.engine_pid
        self.assertEqual(client.status()["engine_pid"], engine)
        os.unlink(self.ballast)
        run = self.sh(client, "exit 6")
        self.assert_code(self.ended(client, run["id"]), 6)

    def test_oldest_segments_go_first(self):
        """A full disk takes the process's own oldest output before it takes the new."""
        client = self.client()
        self.leave(4 * MIB)
        run, subscription = client.run([program("sequence"), "-o", str(12 * MIB), "-s", "8"],
                                       retention_bytes=8 * MIB,
                                       subscribe=True)
        subscription.collect()
        self.ended(client, run["id"])
        shown = client.show(run["id"])["log"]
        self.assertGreater(shown["begin"], 0, "nothing old was given up: %r" % shown)
        records = client.subscribe(run["id"], from_=0).collect()
        self.assert_right_bytes(records, 12 * MIB)
        last = [r for r in records if r.kind in (K_DATA, K_GAP)][-1]
        self.assertEqual(last.kind, K_DATA, "the newest output was discarded though older was kept")

    # ---- with a transcript ----

    def write_by_command(self, p, text):
        """What a client of its own writes; its pid, and whether it was accepted: else it says why."""
        process = self.daemon.cli_start("write", "-N", "--timeout", "2s", str(p), text)
        _, said = process.communicate(timeout=30)
        if process.returncode != 0:
            self.assertIn(process.returncode, (1, 124), said)
            self.assertRegex(said.decode(), "space|room|disk", "a reason is given")
        return process.pid, process.returncode == 0

    def assert_transcript(self, records, written):
        """Whose bytes they are is right or not known; each accepted byte stands there once, in order."""
        who, whole = None, b""
        for record in records:
            if record.kind == K_WRITER:
                who = record.arg
            elif record.kind == K_DATA and record.source == STDIN:
                for at in range(len(record.data)):
                    pid = next(pid for pid, begin, end in written if begin <= len(whole) + at < end)
                    self.assertIn(who, (pid, 0), "byte %d" % (len(whole) + at))
                whole += record.data
        return whole

    def transcript_on_a_full_disk(self, mode, room):
        client = self.client(reconnect=True)
        p = client.run(["/bin/cat"], transcript=True, full_disk=mode, retention_bytes=64 * MIB)["id"]
        written, text, n_refused = [], b"", 0

        def write(letter, n=3000):
            nonlocal text, n_refused
            pid, accepted = self.write_by_command(p, letter * n)
            if accepted:
                written.append((pid, len(text), len(text) + n))
                text += letter.encode() * n
            n_refused += not accepted
            return accepted
        for letter in "ab":
            self.assertTrue(write(letter))
        client.read(p, cursor=NULL, from_=0, for_="exactly", n=6000)
        self.leave(room)
        for letter in "cdefg":
            write(letter, 100_000)
            client.call("version")  # nobody hangs
            if letter == "e":
                self.fill()
                self.daemon.kill_engine()
        os.unlink(self.ballast)
        wait_until(lambda: client.show(p)["stdin_log"]["queued"] == 0, what="the input to go on by itself")
        for letter in "hi":
            wait_until(lambda letter=letter: write(letter), what="room again")
        client.close_stdin(p)
        self.ended(client, p, timeout=60, for_="empty")
        records = client.subscribe(p, from_=0, sources=["stdout", "stderr", "stdin"]).collect()
        self.assertEqual(self.assert_transcript(records, written), text)
        known = len([r for r in records if r.kind == K_WRITER and r.arg != 0])
        self.assertGreaterEqual(known, 3, "those with room were told apart")
        self.assertGreater(n_refused, 0, "there was no room for all of it")
        output = b"".join(r.data for r in records if r.kind == K_DATA and r.source == STDOUT)
        lost = sum(r.arg for r in records if r.kind == K_GAP)
        self.assertEqual(len(output) + lost, len(text))
        if lost == 0:
            self.assertEqual(output, text)

    def test_a_transcript_on_a_full_disk_that_waits(self):
        for room in (0, 150_000, 250_000, 400_000):  # for nothing; for the input, its copy, and what comes of it
            self.transcript_on_a_full_disk("wait", room)

    def test_a_transcript_on_a_full_disk_that_discards(self):
        for room in (0, 150_000, 250_000, 400_000):
            self.transcript_on_a_full_disk("discard", room)
