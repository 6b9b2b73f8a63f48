# SPDX-License-Identifier: MIT
"""stdin: ordered, acknowledged, bounded, exactly once."""

import os
import signal
import threading

from pmux_client import INPUT, K_DATA, K_INPUT, U64, Deadline, RpcError, frame, random_key
from pmux_daemon import wait_until
from pmux_test import ENV, PmuxTest, Sequence, need, scale

MIB = 1 << 20


def data_of(records):
    return b"".join(r.data for r in records if r.kind == K_DATA)


class Input(PmuxTest):
    def test_one_call_runs_subscribes_writes_and_closes(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], data=b"all in one call\n", eof=True, subscribe=True)
        self.assertEqual(data_of(subscription.collect()), b"all in one call\n")
        self.assert_code(self.ended(client, run["id"]), 0)
        self.assertFalse(run["existing"])
        self.assertEqual((run["run"], run["offset"]), (1, 0))

    def test_files_made_ahead_for_the_next_input(self):
        """After a run with input the next one's place lies ready; a new engine takes it up, the end clears it."""
        def place(run, *name):
            return os.path.join(self.daemon.state_dir, "processes", str(run["id"] + 1), *name)

        client = self.client()
        for number in range(6):
            data = b"run %d\n" % number
            run, subscription = client.run(["/bin/cat"], data=data, eof=True, subscribe=True)
            self.assertEqual(data_of(subscription.collect()), data)
            wait_until(lambda: os.path.exists(place(run, "stdin.idx")), what="a place for input")
            if number % 2:
                self.daemon.kill_engine()
                client = self.client()
        for _ in range(2):  # the first takes the place, and has no input: the next one gets none
            run = self.sh(client, "exit 5")
            self.assert_code(self.ended(client, run["id"]), 5)
            wait_until(lambda: os.path.exists(place(run, "0" * 20 + ".idx")), what="a place")
        self.assertEqual(os.listdir(place(run)), ["0" * 20 + ".idx"])
        self.daemon.stop()
        self.assertFalse(os.path.exists(place(run)))

    def test_a_lot_through_a_stream(self):
        client = self.client()
        total = scale(4, 32, 512) * MIB
        run = client.run(["/bin/cat"], retention_bytes=64 * MIB)
        reader = self.client()
        subscription = reader.subscribe(run["id"], lossless=True)
        stream = client.open_stdin(run["id"])
        sequence = Sequence(3)
        failures = []

        def write():
            try:
                number = 0
                for _ in range(total // (64 * 4096)):
                    stream.write(b"".join(sequence.block(number + i) for i in range(64)), timeout=60)
                    number += 64
                stream.eof()
            except BaseException as error:
                failures.append(error)
        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        check = Sequence(3)
        while True:
            record = subscription.next(60)
            if record is None:
                break
            if record.kind == K_DATA:
                check.feed(record.data)
        thread.join(30)
        self.assertEqual(failures, [])
        self.assertEqual(check.finish(), total)
        stream.wait_taken(total)  # what was read may have come before the last ACK
        self.assertEqual((stream.accepted, stream.taken), (total, total))

    def test_the_limit_of_what_is_not_taken(self):
        """A child that does not read: the limit stands at 1 MiB, and moves when it reads."""
        client = self.client()
        run = self.sh(client, "read line; cat >/dev/null")
        stream = client.open_stdin(run["id"])
        self.assertEqual(stream.limit, MIB)
        stream.write(b"x" * MIB)
        stream.wait_accepted()
        self.assertLess(stream.taken, MIB)
        self.assertLessEqual(stream.limit, stream.taken + MIB)
        with self.assertRaises(Deadline):
            stream.write(b"y" * MIB, timeout=0.2)
        shown = client.show(run["id"])["stdin_log"]
        self.assertLessEqual(shown["accepted"] - shown["taken"], 16 * MIB)
        client.stop(run["id"], now=True)

    def test_data_beyond_the_limit_is_refused(self):
        """A client that does not keep to the limit harms itself alone."""
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        bad = self.daemon.client()
        stream = bad.open_stdin(run["id"])
        stream.sent = 40 * MIB
        for number in range(40):
            bad._send_locked(frame(INPUT, U64.pack(number * MIB) + bytes(MIB), stream.stream))
        wait_until(lambda: bad.lost is not None, what="the connection to be closed")
        self.assertEqual(bad.goodbye["data"]["code"], "protocol-error")
        shown = client.show(run["id"])["stdin_log"]
        self.assertLessEqual(shown["accepted"] - shown["taken"], 16 * MIB)
        client.call("version")
        client.stop(run["id"], now=True)

    def test_the_bound_of_a_process(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        written = 0
        with self.assertRaises(RpcError) as caught:
            for _ in range(64):
                client.write(run["id"], b"x" * MIB)
                written += MIB
        self.assertEqual(caught.exception.name, "would-block")
        self.assertLessEqual(written, 17 * MIB)
        self.assertGreaterEqual(written, 15 * MIB)
        dropped = client.call("cancel-input", {"target": run["id"]})["dropped"]
        self.assertGreater(dropped, written - MIB)
        client.write(run["id"], b"room again")
        self.assert_error("too-large", client.call, "write", {"target": run["id"], "data": "x" * (MIB + 1)})
        client.stop(run["id"], now=True)

    def test_many_streams_share_the_bound_of_a_process(self):
        """None of them is refused what it was told that it may send, though together it is more than the bound."""
        n = 20
        client = self.client()
        run, subscription = self.sh(client, "kill -STOP $$; cat | wc -c", subscribe=True)
        streams = [self.client().open_stdin(run["id"]) for _ in range(n)]
        for stream in streams:
            stream.write(b"x" * MIB)
        for stream in streams:
            stream.wait_accepted()
        self.assertEqual(client.show(run["id"])["stdin_log"]["accepted"], n * MIB)
        self.assert_error("would-block", client.write, run["id"], b"y")
        late = client.open_stdin(run["id"])
        self.assertEqual(late.limit, 0)
        client.signal(run["id"], signal.SIGCONT)
        for stream in streams + [late]:
            stream.write(b"z" * MIB, timeout=60)
            stream.wait_accepted(timeout=60)
        client.close_stdin(run["id"])
        self.assertEqual(int(data_of(subscription.collect())), (2 * n + 1) * MIB)

    def test_a_writer_may_repeat_what_is_accepted(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], subscribe=True)
        writer = random_key()
        stream = client.open_stdin(run["id"], writer=writer)
        stream.write(b"0123456789")
        stream.wait_accepted()
        again = self.client().open_stdin(run["id"], writer=writer)
        self.assertEqual(again.accepted, 10)
        # From 5: five bytes are known, three are new.
        again.sent = 13
        with again.client._cond:
            again.client._send_locked(frame(INPUT, U64.pack(5) + b"56789abc", again.stream))
        again.wait_accepted(13)
        other = self.client().open_stdin(run["id"])
        self.assertEqual(other.accepted, 0, "another writer counts for itself")
        other.write(b"XYZ")
        other.wait_taken()
        client.close_stdin(run["id"])
        self.assertEqual(data_of(subscription.collect()), b"0123456789abcXYZ")

    def test_a_write_is_atomic_beside_other_writers(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], subscribe={"credit": 64 * MIB})
        n, size = scale(50, 200, 1000), 30_000

        def write(letter):
            with self.daemon.client() as other:
                stream = other.open_stdin(run["id"])
                for _ in range(n):
                    stream.write(letter * (size - 1) + b"\n", timeout=60)
                stream.wait_accepted(timeout=60)
        threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
        for thread in threads:
            thread.start()
        lines = []
        rest = b""
        while len(lines) < 3 * n:
            record = subscription.next(60)
            if record.kind == K_DATA:
                *more, rest = (rest + record.data).split(b"\n")
                lines += more
        for thread in threads:
            thread.join(30)
        for line in lines:
            self.assertEqual(len(line), size - 1)
            self.assertEqual(len(set(line)), 1, "two writers' bytes are mixed")
        client.close_stdin(run["id"])
        self.assert_code(self.ended(client, run["id"]), 0)

    def test_drain(self):
        client = self.client()
        run = self.sh(client, "read line; cat >/dev/null")
        done = client.write(run["id"], b"x" * 1000, drain=True)
        self.assertEqual((done["accepted"], done["taken"], done["bytes"]), (1000, 1000, 1000))
        run = self.sh(client, "exec sleep 1000")
        self.assert_error("timeout", client.write, run["id"], bytes(MIB), drain=True, timeout_usec=200_000)
        self.assertEqual(client.show(run["id"])["stdin_log"]["accepted"], MIB, "it stays accepted")
        client.stop(run["id"], now=True)

    def test_end_of_file_is_in_order_and_final(self):
        client = self.client()
        run, subscription = self.sh(client, "cat; echo end; exec sleep 1000", subscribe=True)
        client.write(run["id"], b"a" * 500_000, eof=True)
        self.assert_error("stdin-closed", client.write, run["id"], b"late")
        client.close_stdin(run["id"])  # harmless to repeat
        self.assertEqual(subscription.read_until_bytes(b"end\n"), b"a" * 500_000 + b"end\n")
        client.stop(run["id"], now=True)
        self.assert_error("not-running", client.write, run["id"], b"later")

    def test_stdin_that_the_process_closed(self):
        client = self.client()
        run, subscription = self.sh(client, "exec <&-; echo closed; exec sleep 1000", subscribe=True)
        subscription.read_until_bytes(b"closed\n")
        stream = client.open_stdin(run["id"])
        stream.write(b"x" * 100)
        wait_until(lambda: stream.error is not None, what="the notification stdin-closed")
        self.assertEqual(stream.error.name, "stdin-closed")
        self.assertEqual(client.show(run["id"])["state"], "running")
        client.stop(run["id"], now=True)

    def test_the_end_of_the_process_ends_its_streams(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        stream = client.open_stdin(run["id"])
        stream.write(b"x" * 500_000)
        client.stop(run["id"], now=True)
        wait_until(lambda: stream.error is not None, what="the notification stdin-closed")
        self.assertIn(stream.error.name, ("not-running", "stdin-closed"))
        self.assert_error("not-running", client.write, run["id"], b"x")
        self.assert_error("not-running", client.open_stdin, run["id"])

    def test_cancel_keeps_what_was_taken(self):
        client = self.client()
        run, subscription = self.sh(client, "read line; cat | wc -c", subscribe=True)
        client.write(run["id"], b"x" * 800_000)
        wait_until(lambda: client.show(run["id"])["stdin_log"]["taken"] > 0, what="the pipe to be filled")
        dropped = client.call("cancel-input", {"target": run["id"]})["dropped"]
        self.assertGreater(dropped, 0)
        client.write(run["id"], b"\n" + b"y" * 10, eof=True)
        rest = int(data_of(subscription.collect()))
        self.assertEqual(rest, 10)
        shown = client.show(run["id"])["stdin_log"]
        self.assertTrue(shown["closed"])
        self.assertEqual(shown["accepted"], 800_011)

    def test_stdin_null_and_from_a_file(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], stdin="null", subscribe=True)
        self.assertEqual(data_of(subscription.collect()), b"")
        self.assert_error("not-running", client.write, run["id"], b"x")
        run = self.sh(client, "exec sleep 1000", stdin="null")
        self.assert_error("stdin-closed", client.write, run["id"], b"x")
        self.assert_error("stdin-closed", client.open_stdin, run["id"])
        client.stop(run["id"], now=True)

    def test_input_records_stand_in_the_log(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], subscribe=True)
        client.write(run["id"], b"12345")
        subscription.read_until_bytes(b"12345")
        client.write(run["id"], b"678", eof=True)
        subscription.collect()
        marks = [r.arg for r in client.subscribe(run["id"]).collect() if r.kind == K_INPUT]
        self.assertEqual(marks, sorted(marks))
        self.assertEqual(marks[-1], 8)

    def test_leaving_keeps_stdin_open(self):
        with self.daemon.client() as other:
            run = other.run(["/bin/cat"], name="kept")
            stream = other.open_stdin(run["id"])
            stream.write(b"one ")
            stream.wait_accepted()
            stream.close()
        self.daemon.clients.remove(other)
        client = self.client()
        self.assertEqual(client.show("kept")["state"], "running")
        client.write("kept", b"two", eof=True)
        self.assertEqual(data_of(client.subscribe("kept").collect()), b"one two")

    def test_a_reader_slower_than_the_writer(self):
        """cat | slow: input waits in the log, nothing is lost on the way through."""
        client = self.client()
        script = ("import os, time\nn = 0\nwhile True:\n    d = os.read(0, 5000)\n    if not d: break\n"
                  "    n += len(d); time.sleep(0.001)\nprint(n)")
        run, subscription = client.run([need("python3"), "-c", script], env=ENV, subscribe=True)
        stream = client.open_stdin(run["id"])
        stream.write(bytes(3 * MIB), eof=True, timeout=60)
        self.assertEqual(int(data_of(subscription.collect(60))), 3 * MIB)
