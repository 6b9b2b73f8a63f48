# SPDX-License-Identifier: MIT
"""write that waits: for room, until it is taken, until it is read; stdin for one client alone."""

import threading
import time

from pmux_client import K_DATA, ConnectionLost, RpcError, random_key
from pmux_daemon import wait_until
from pmux_test import ENV, PmuxTest, need

MIB = 1 << 20


def data_of(records):
    return b"".join(r.data for r in records if r.kind == K_DATA)


class Room(PmuxTest):
    def full(self, client, script="exec sleep 1000"):
        """A process that reads nothing before SIGCONT, and has all the input that it may have."""
        run, subscription = self.sh(client, "kill -STOP $$; " + script, subscribe=True)
        for _ in range(16):
            client.write(run["id"], b"x" * MIB)
        while True:
            try:
                client.write(run["id"], b"x" * 1024)
            except RpcError as error:
                self.assertEqual(error.name, "would-block")
                return run["id"], subscription

    def test_a_write_waits_for_room_in_its_turn(self):
        client = self.client()
        target, subscription = self.full(client, "cat | tail -c 6")
        first = client.submit("write", {"target": target, "data": "a" * MIB, "timeout_usec": 30_000_000})
        second = client.submit("write", {"target": target, "data": "first\n", "timeout_usec": 30_000_000})
        self.assertEqual(client.status()["limits"]["waiting-write-bytes"]["used"], MIB + 6)
        client.signal(target, 18)
        self.assertGreater(second.result()["accepted"], first.result()["accepted"])
        client.write(target, b"last!\n", eof=True, timeout_usec=30_000_000)
        self.assertEqual(data_of(subscription.collect()), b"last!\n")
        self.assertEqual(client.status()["limits"]["waiting-write-bytes"]["used"], 0)

    def test_no_room_in_time_accepts_nothing(self):
        client = self.client()
        target, _ = self.full(client)
        before = client.show(target)["stdin_log"]
        with self.assertRaises(RpcError) as caught:
            client.write(target, b"x" * MIB, timeout_usec=100_000)
        self.assertEqual((caught.exception.name, caught.exception.step), ("timeout", "room"))
        self.assert_error("would-block", client.write, target, b"x" * MIB, timeout_usec=0)
        after = client.show(target)["stdin_log"]
        self.assertEqual(before["accepted"], after["accepted"])
        self.assertEqual(after["queued"], after["accepted"] - after["taken"])
        client.stop(target, now=True)

    def test_who_waits_for_room_learns_what_becomes_of_it(self):
        client = self.client()
        target, _ = self.full(client)
        room = {"target": target, "data": "x" * MIB, "timeout_usec": 60_000_000}
        other = self.daemon.client()
        waiting = other.submit("write", room)
        wait_until(lambda: client.status()["limits"]["waiting-write-bytes"]["used"] == MIB, what="it to wait")
        other.close()
        wait_until(lambda: client.status()["limits"]["waiting-write-bytes"]["used"] == 0, what="it to go")
        with self.assertRaises(ConnectionLost):
            waiting.result()
        waiting = client.submit("write", room)
        last = client.submit("write", dict(room, data="behind"))
        client.cancel_input(target)
        waiting.result()
        last.result()
        for _ in range(14):
            client.write(target, b"x" * MIB)
        waiting = client.submit("write", room)
        client.stop(target, now=True)
        with self.assertRaises(RpcError) as caught:
            waiting.result()
        # The pipe may be seen to have lost its reader before the end is known.
        self.assertIn(caught.exception.name, ("not-running", "stdin-closed"))

    def test_writes_that_wait_and_busy_streams_take_turns(self):
        """As many streams as fill all the room, and always some writes that wait: each gets on."""
        client = self.client()
        reader = "import os, time\nwhile os.read(0, 65536): time.sleep(0.001)"
        run, _ = client.run([need("python3"), "-c", reader], env=ENV, subscribe=True)
        streams = [client.open_stdin(run["id"]) for _ in range(24)]
        over = threading.Event()

        def send(stream):
            while not over.is_set():
                stream.write(b"s" * (256 << 10))

        threads = [threading.Thread(target=send, args=(stream,), daemon=True) for stream in streams]
        for thread in threads:
            thread.start()
        wait_until(lambda: client.show(run["id"])["stdin_log"]["queued"] > 15 * MIB, what="the room to be full")
        room = {"target": run["id"], "data": "w" * MIB, "timeout_usec": 20_000_000}
        waiting = [client.submit("write", room) for _ in range(4)]
        before = [stream.accepted for stream in streams]
        for _ in range(4):
            waiting.pop(0).result()
            waiting.append(client.submit("write", room))
        wait_until(lambda: all(s.accepted > at for s, at in zip(streams, before)), what="all streams to get on")
        for write in waiting:
            write.result()
        over.set()
        for thread in threads:
            thread.join()
        client.stop(run["id"], now=True)

    def test_an_engine_that_is_killed_under_a_waiting_write(self):
        client = self.client(reconnect=True)
        target, subscription = self.full(client)
        before = client.show(target)["stdin_log"]["accepted"]
        waiting = client.submit("write", {"target": target, "data": "y" * MIB, "timeout_usec": 60_000_000,
                                          "key": random_key()})
        wait_until(lambda: client.status()["limits"]["waiting-write-bytes"]["used"] == MIB, what="it to wait")
        self.daemon.kill_engine()
        client.cancel_input(target)
        self.assertEqual(waiting.result()["accepted"], before + MIB)
        client.write(target, b"\n", eof=True, timeout_usec=60_000_000)
        self.assertEqual(client.show(target)["stdin_log"]["accepted"], before + MIB + 1)
        client.stop(target, now=True)


class Consumed(PmuxTest):
    def reader(self, client, script):
        return self.sh(client, script, subscribe=True)

    def test_consumed_is_answered_when_it_was_read(self):
        client = self.client()
        run, subscription = self.reader(client, "kill -STOP $$; read a; echo $a; exec sleep 1000")
        wait_until(lambda: self.stopped(run["pid"]), what="it to stop itself")
        waiting = client.submit("write", {"target": run["id"], "data": "hello\n", "consumed": True})
        drained = client.write(run["id"], b"", drain=True)
        self.assertEqual(drained["taken"], 6)
        with self.assertRaises(RpcError) as caught:
            client.write(run["id"], b"more", consumed=True, timeout_usec=50_000)
        self.assertEqual((caught.exception.name, caught.exception.step), ("timeout", "consumed"))
        self.assertFalse(waiting.done)
        client.signal(run["id"], 18)
        self.assertEqual(waiting.result()["accepted"], 6)
        subscription.read_until_bytes(b"hello\n")
        client.stop(run["id"], now=True)

    def stopped(self, pid):
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"

    def test_consumed_beside_later_input(self):
        """What is behind it in the pipe does not hide that it was read."""
        client = self.client()
        script = ("import os, sys, time\nos.read(0, 4)\nprint('read', flush=True)\ntime.sleep(1000)")
        run, subscription = client.run([need("python3"), "-c", script], env=ENV, subscribe=True)
        waiting = client.submit("write", {"target": run["id"], "data": "1234", "consumed": True})
        client.write(run["id"], b"this is never read")
        subscription.read_until_bytes(b"read\n")
        waiting.result()
        client.stop(run["id"], now=True)

    def test_consumed_with_the_end_of_file(self):
        client = self.client()
        for script in ("sleep 0.1; cat >/dev/null; exec sleep 1000", "cat >/dev/null"):
            run = self.sh(client, script)
            done = client.write(run["id"], b"x" * 1000, eof=True, consumed=True)
            self.assertEqual(done["taken"], 1000)
            client.stop(run["id"], now=True)
        run = self.sh(client, "sleep 0.1; wc -c; exec sleep 1000")  # more than a pipe holds: the rest comes first
        done = client.write(run["id"], b"x" * 500_000, eof=True, drain=True)
        self.assertEqual(done["taken"], 500_000)
        self.assertEqual(client.read(run["id"], for_="line")["data"], b"500000\n")
        client.stop(run["id"], now=True)

    def test_consumed_that_never_comes(self):
        client = self.client()
        run, subscription = self.reader(client, "exec <&-; echo closed; exec sleep 1000")
        subscription.read_until_bytes(b"closed")
        self.assert_error("stdin-closed", client.write, run["id"], b"x", consumed=True)
        client.stop(run["id"], now=True)
        run = self.sh(client, "exec sleep 1000")
        waiting = client.submit("write", {"target": run["id"], "data": "x", "consumed": True})
        wait_until(lambda: client.show(run["id"])["stdin_log"]["taken"] == 1, what="the pipe to take it")
        client.stop(run["id"], now=True)
        with self.assertRaises(RpcError) as caught:
            waiting.result()
        # The pipe may be seen to have lost its reader before the end is known.
        self.assertIn(caught.exception.name, ("not-running", "stdin-closed"))

    def test_cancelled_input_is_not_called_taken(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        client.write(run["id"], bytes(MIB))
        wait_until(lambda: client.show(run["id"])["stdin_log"]["taken"] > 0, what="the pipe to be full")
        kept = client.submit("write", {"target": run["id"], "data": "x" * 1000, "drain": True})
        also = client.submit("write", {"target": run["id"], "data": "x" * 1000, "consumed": True})
        shown = client.show(run["id"])["stdin_log"]
        cancelled = client.cancel_input(run["id"])
        self.assertEqual(cancelled["accepted"], MIB + 2000)
        self.assertEqual(cancelled["taken"], shown["taken"])
        self.assertEqual(cancelled["dropped"], cancelled["accepted"] - cancelled["taken"])
        self.assert_error("cancelled", kept.result)
        self.assert_error("cancelled", also.result)
        # The pipe is full of bytes from before: what comes now was not read because of them.
        with self.assertRaises(RpcError) as caught:
            client.write(run["id"], b"", consumed=True, timeout_usec=50_000)
        self.assertEqual(caught.exception.step, "consumed")
        client.stop(run["id"], now=True)


class Lock(PmuxTest):
    def assert_locked(self, function, *args, **kwargs):
        with self.assertRaises(RpcError) as caught:
            function(*args, **kwargs)
        self.assertEqual((caught.exception.name, caught.exception.errno_name), ("locked", "EBUSY"))
        return caught.exception.message

    def test_one_holds_it_and_the_others_are_told_who(self):
        client, other = self.client(), self.client()
        run, subscription = client.run(["/bin/cat"], subscribe=True)
        before = other.open_stdin(run["id"])
        before.write(b"a")
        before.wait_accepted()
        key = random_key()
        other.write(run["id"], b"b", key=key)
        lock = client.lock_stdin(run["id"], "alice's shell", 60_000_000)
        message = self.assert_locked(other.write, run["id"], b"x")
        self.assertIn("alice's shell", message)
        self.assertIn(str(__import__("os").getpid()), message)
        self.assertRegex(message, r"5[0-9]\.[0-9]{3} s")
        self.assert_locked(other.write, run["id"], b"x", lock="another")
        self.assert_locked(other.write, run["id"], b"x", timeout_usec=10_000)
        self.assert_locked(other.open_stdin, run["id"])
        self.assert_locked(other.close_stdin, run["id"])
        self.assert_locked(other.cancel_input, run["id"])
        self.assert_locked(other.lock_stdin, run["id"], "bob", 1_000_000)
        self.assert_locked(other.unlock_stdin, run["id"], "another")
        self.assertEqual(other.write(run["id"], b"b", key=key)["accepted"], 2, "it had been accepted")
        before.write(b"late")
        wait_until(lambda: before.error is not None, what="the stream to be refused")
        self.assertEqual(before.error.name, "locked")
        shown = other.show(run["id"])["stdin_lock"]
        self.assertEqual(shown["holder"], "alice's shell")
        self.assertGreater(shown["left_usec"], 50_000_000)
        mine = client.open_stdin(run["id"], lock=lock)
        mine.write(b"c")
        mine.wait_accepted()
        client.write(run["id"], b"d", lock=lock)
        client.unlock_stdin(run["id"], lock)
        client.unlock_stdin(run["id"], lock)
        self.assertIsNone(other.show(run["id"])["stdin_lock"])
        message = self.assert_locked(client.write, run["id"], b"x", lock=lock)
        self.assertIn("nobody", message)
        other.write(run["id"], b"e", eof=True)
        self.assertEqual(data_of(subscription.collect()), b"abcde")

    def test_it_is_over_when_its_time_is(self):
        client, other = self.client(), self.client()
        run = client.run(["/bin/cat"])
        token = client.lock_stdin(run["id"], "short", 300_000)
        begun = time.monotonic()
        self.assert_locked(other.write, run["id"], b"x")
        renewed = client.call("lock-stdin", {"target": run["id"], "holder": "short", "ttl_usec": 700_000,
                                             "lock": token})
        self.assertTrue(renewed["renewed"])
        self.assertEqual(renewed["lock"], token)

        def accepted():
            try:
                return other.write(run["id"], b"x")
            except RpcError as error:
                self.assertEqual(error.name, "locked")
                return None
        wait_until(accepted, what="the lock to expire")
        self.assertGreater(time.monotonic() - begun, 0.65)
        self.assert_locked(client.write, run["id"], b"x", lock=token)
        again = client.call("lock-stdin", {"target": run["id"], "holder": "short", "ttl_usec": 700_000,
                                           "lock": token})
        self.assertFalse(again["renewed"])
        client.stop(run["id"], now=True)

    def test_a_stream_whose_lock_expires_on_the_way(self):
        """What came before stays, the rest is refused with the reason, no frame is torn, and one can go on."""
        client, other = self.client(), self.client()
        run, subscription = client.run(["/bin/cat"], subscribe=True)
        target, writer, piece = run["id"], random_key(), b"m" * 9_999 + b"\n"
        token = client.lock_stdin(target, "slow typist", 60_000_000)
        stream = client.open_stdin(target, writer=writer, lock=token)
        stream.write(piece)
        stream.wait_accepted()
        client.lock_stdin(target, "slow typist", 200_000, lock=token)

        def write_until_refused():
            try:
                stream.write(piece)
                stream.wait_accepted()
            except RpcError as error:
                return error
            return None
        error = wait_until(write_until_refused, what="the lock to expire", interval=0.02)
        self.assertEqual(error.name, "locked")
        self.assertRegex(error.message, r"'slow typist'.* expired [0-9]+\.[0-9]{3} s ago")
        self.assertGreater(stream.accepted, 0)
        self.assertEqual(stream.accepted, stream.sent - len(piece), "all but the frame that was refused")
        self.assert_locked(client.open_stdin, target, writer=writer, lock=token)
        other.write(target, b"other\n")
        self.daemon.kill_engine()
        client = self.client()
        message = self.assert_locked(client.open_stdin, target, writer=writer, lock=token)
        self.assertIn("'slow typist'", message)
        token = client.lock_stdin(target, "slow typist", 60_000_000)
        again = client.open_stdin(target, writer=writer, lock=token)
        self.assertEqual(again.accepted, stream.accepted)
        again.sent = again.accepted
        again.write(piece, eof=True)
        data = data_of(client.subscribe(target).collect())
        self.assertEqual(data, piece * (stream.accepted // len(piece)) + b"other\n" + piece)

    def test_it_outlasts_the_engine_and_the_daemon(self):
        client = self.client()
        run = client.run(["/bin/cat"], name="held")
        lock = client.lock_stdin("held", "for long", 3_600_000_000)
        self.daemon.kill_engine()
        client = self.client()
        self.assert_locked(client.write, "held", b"x")
        client.write("held", b"x", lock=lock)
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon.start()
        client = self.client()
        client.start("held")
        message = self.assert_locked(client.write, "held", b"x")
        self.assertIn("for long", message)
        self.assertGreater(client.show("held")["stdin_lock"]["left_usec"], 3_500_000_000)
        client.write("held", b"x", lock=lock)
        client.stop("held", now=True)
        client.remove("held")
        run = client.run(["/bin/cat"], name="held")
        client.write(run["id"], b"nobody holds the new one")
        client.stop("held", now=True)

    def test_what_a_lock_may_be(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000", stdin="null")
        self.assert_error("stdin-closed", client.lock_stdin, run["id"], "me", 1_000_000)
        client.stop(run["id"], now=True)
        run = client.run(["/bin/cat"])
        for params in ({}, {"holder": "x"}, {"holder": "x", "ttl_usec": 99_999}, {"ttl_usec": 1_000_000},
                       {"holder": "x", "ttl_usec": 3_600_000_001}, {"holder": "", "ttl_usec": 1_000_000},
                       {"holder": "x" * 65, "ttl_usec": 1_000_000}, {"holder": "a\nb", "ttl_usec": 1_000_000},
                       {"holder": "x", "ttl_usec": 1_000_000, "lock": "y" * 65}):
            self.assert_error("invalid-argument", client.call, "lock-stdin", dict(params, target=run["id"]))
        self.assert_error("invalid-argument", client.call, "unlock-stdin", {"target": run["id"]})
        made = client.call("lock-stdin", {"target": run["id"], "holder": "x", "ttl_usec": 1_000_000})
        self.assertEqual(len(made["lock"]), 32)
        client.write(run["id"], b"x", lock=made["lock"])
        client.stop(run["id"], now=True)

    def test_writers_that_take_turns(self):
        """Each takes the lock, writes two pieces and gives it back: no two are ever mixed."""
        client = self.client()
        run, subscription = client.run(["/bin/cat"], subscribe={"credit": 64 * MIB})

        def work(letter):
            with self.daemon.client() as mine:
                for _ in range(20):
                    def taken():
                        try:
                            return mine.lock_stdin(run["id"], "worker", 60_000_000)
                        except RpcError as error:
                            self.assertEqual(error.name, "locked")
                            return None
                    lock = wait_until(taken, what="the lock", interval=0.001)
                    mine.write(run["id"], letter * 10, lock=lock)
                    mine.write(run["id"], letter * 10 + b"\n", lock=lock)
                    mine.unlock_stdin(run["id"], lock)
        threads = [threading.Thread(target=work, args=(letter,)) for letter in (b"a", b"b", b"c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        client.close_stdin(run["id"])
        lines = data_of(subscription.collect()).split(b"\n")
        self.assertEqual(len(lines), 61)
        for line in lines[:-1]:
            self.assertEqual((len(line), len(set(line))), (20, 1))
