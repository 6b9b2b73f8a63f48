# SPDX-License-Identifier: MIT
"""The engine may be killed at any instant: no byte, no input and no exit status is lost, doubled or moved."""

import os
import random
import signal
import threading
import time

from pmux_client import K_CLOSED, K_DATA, K_EXIT, K_GAP, K_START, STDERR, STDOUT, exit_word, random_key
from pmux_daemon import process_state, wait_until
from pmux_test import PmuxTest, Sequence, program, scale


class Follower(threading.Thread):
    """Reads one process to its exit and checks each byte."""

    def __init__(self, client, target, seeds, **params):
        super().__init__(daemon=True)
        self.subscription = client.subscribe(target, **params)
        self.sequences = {source: Sequence(seed) for source, seed in seeds.items()}
        self.kinds = []
        self.exit = None
        self.error = None
        self.start()

    def run(self):
        try:
            while True:
                record = self.subscription.next(60)
                if record is None:
                    return
                if record.kind == K_DATA:
                    if self.exit is not None:
                        raise AssertionError("data after the exit record, at %d" % record.offset)
                    self.sequences[record.source].feed(record.data)
                elif record.kind == K_GAP:
                    raise AssertionError("a gap of %d bytes at %d" % (record.arg, record.offset))
                else:
                    self.kinds.append(record.kind)
                    if record.kind == K_EXIT:
                        self.exit = exit_word(record.arg)
        except BaseException as error:
            self.error = error

    def finish(self, timeout=90):
        self.join(timeout)
        if self.is_alive():
            raise AssertionError("the follower has not ended; it is at %s" % self.subscription.next_offset)
        if self.error is not None:
            raise self.error
        return {source: sequence.finish() for source, sequence in self.sequences.items()}


class Writer(threading.Thread):
    """Writes a known sequence to a process's stdin until told to end, then the end of file."""

    def __init__(self, client, target, seed):
        super().__init__(daemon=True)
        self.stream = client.open_stdin(target)
        self.sequence = Sequence(seed)
        self.ending = False
        self.error = None
        self.start()

    def run(self):
        try:
            number = 0
            while not self.ending:
                data = b"".join(self.sequence.block(number + i) for i in range(16))
                self.stream.write(data, timeout=60)
                number += 16
            self.stream.eof()
        except BaseException as error:
            self.error = error

    def finish(self, timeout=90):
        self.ending = True
        self.join(timeout)
        if self.is_alive():
            raise AssertionError("the writer has not ended; it sent %d, limit %d" % (
                self.stream.sent, self.stream.limit))
        if self.error is not None:
            raise self.error
        return self.stream.sent


class EngineKill(PmuxTest):
    seconds = 40

    def test_full_load_over_many_kills(self):
        n_kills = scale(15, 50, 500)
        seed = random.SystemRandom().randrange(1 << 32)
        chance = random.Random(seed)
        print("seed %d" % seed)
        totals = os.path.join(self.tmp, "totals")
        client = self.client(reconnect=True)
        busy = client.run([program("sequence"), "-o", "inf", "-e", "inf", "-s", "11", "-c", "30000", "-p",
                           totals],
                          retention_bytes=256 << 20)
        echo = client.run(["/bin/cat"], retention_bytes=256 << 20)
        followers = [Follower(self.client(reconnect=True), busy["id"], {STDOUT: 11, STDERR: 12},
                              lossless=True)
                     for _ in range(2)]
        echoed = Follower(self.client(reconnect=True), echo["id"], {STDOUT: 21, STDERR: 22}, lossless=True)
        writer = Writer(self.client(reconnect=True), echo["id"], 21)

        def broken():
            return [t.error for t in followers + [echoed, writer] if t.error is not None]

        for _ in range(n_kills):
            time.sleep(chance.random() * 0.1)  # the instant is what chance decides
            if broken():
                break
            self.daemon.kill_engine()
        print("killed %d times" % self.daemon.n_engine_kills)
        self.assertEqual(broken(), [])
        os.kill(busy["pid"], signal.SIGUSR1)
        sent = writer.finish()
        self.assertEqual(echoed.finish(), {STDOUT: sent, STDERR: 0})
        self.assertEqual(echoed.exit, (0, 0, False, False))
        results = [f.finish() for f in followers]
        with open(totals) as file:
            out, err = (int(n) for n in file.read().split())
        print("%d + %d bytes of output, %d of input" % (out, err, sent))
        for follower, result in zip(followers, results):
            self.assertEqual(result, {STDOUT: out, STDERR: err})
            self.assertEqual(follower.exit, (0, 0, False, False))
            self.assertEqual(follower.kinds.count(K_START), 1, follower.kinds)
            self.assertEqual(follower.kinds.count(K_EXIT), 1, follower.kinds)
            self.assertLessEqual(follower.kinds.count(K_CLOSED), 2, follower.kinds)
        self.assertEqual(self.daemon.status()["engine_restarts"], self.daemon.n_engine_kills)

    test_full_load_over_many_kills.seconds = 60

    def test_exits_that_no_engine_saw(self):
        """The engine is stopped, so that nothing of it can see the ends; then it is killed."""
        client = self.client(reconnect=True)
        for _ in range(scale(3, 10, 100)):
            codes = [0, 1, 42, 255]
            runs = [self.sh(client, "read line; exit $1", str(code)) for code in codes]
            victims = [self.sh(client, "exec sleep 1000") for _ in range(2)]
            engine = self.daemon.engine_pid()
            for run in runs:
                client.write(run["id"], b"go\n", drain=False)
            os.kill(engine, signal.SIGSTOP)
            try:
                os.kill(victims[0]["pid"], signal.SIGKILL)
                os.kill(victims[1]["pid"], signal.SIGSEGV)
                # Reaped by the keeper: the pid is gone, or a zombie until it is.
                for victim in victims:
                    wait_until(lambda: process_state(victim["pid"]) in (None, "Z"), what="the child's end")
            finally:
                os.kill(engine, signal.SIGKILL)
            for run, code in zip(runs, codes):
                self.assert_code(self.ended(client, run["id"]), code)
            self.assert_signal(self.ended(client, victims[0]["id"]), signal.SIGKILL)
            self.assert_signal(self.ended(client, victims[1]["id"]), signal.SIGSEGV)
            client.remove(*[r["id"] for r in runs + victims], force=True)

    def test_output_written_while_no_engine_lives(self):
        """A child writes what a pipe holds and exits while the engine is stopped; the next finds it all."""
        client = self.client(reconnect=True)
        for number in range(scale(3, 10, 100)):
            run = self.sh(client, 'read line; exec "$1" -o 60000 -e 30000 -s 5 -x 9', program("sequence"))
            engine = self.daemon.engine_pid()
            client.write(run["id"], b"go\n", drain=True)
            os.kill(engine, signal.SIGSTOP)
            try:
                wait_until(lambda: process_state(run["pid"]) in (None, "Z"), what="the child's end")
            finally:
                os.kill(engine, signal.SIGKILL)
            subscription = client.subscribe(run["id"], until="closed")
            sequences = {STDOUT: Sequence(5), STDERR: Sequence(6)}
            records = subscription.collect()
            for record in records:
                if record.kind == K_DATA:
                    sequences[record.source].feed(record.data)
            self.assertEqual((sequences[STDOUT].finish(), sequences[STDERR].finish()), (60000, 30000))
            last_data = max(i for i, r in enumerate(records) if r.kind == K_DATA)
            the_exit = [i for i, r in enumerate(records) if r.kind == K_EXIT]
            self.assertEqual(len(the_exit), 1)
            self.assertGreater(the_exit[0], last_data,
                               "output stands behind the exit record (round %d)" % number)
            self.assert_code(self.ended(client, run["id"]), 9)

    def test_runs_are_started_once(self):
        """Requests to run with keys, repeated over kills, start one process each."""
        n_runs = scale(20, 80, 500)
        trace = os.path.join(self.tmp, "trace")
        client = self.client(reconnect=True)
        stop = threading.Event()

        def kill():
            while not stop.is_set():
                self.daemon.kill_engine()
                stop.wait(random.random() * 0.05)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        results = []
        try:
            for number in range(n_runs):
                results.append(self.sh(client, 'echo "$1" >>"$2"; exit 3', str(number), trace, timeout=60))
        finally:
            stop.set()
            killer.join(30)
        self.assertEqual(len({r["id"] for r in results}), n_runs)
        for result in results:
            self.assert_code(self.ended(client, result["id"], timeout=60), 3)
        with open(trace) as file:
            lines = file.read().split()
        self.assertEqual(sorted(int(n) for n in lines), list(range(n_runs)))
        self.assertEqual(len(client.list()), n_runs, "processes that nobody asked for")

    test_runs_are_started_once.seconds = 15

    def test_writes_are_accepted_once(self):
        """write with keys, repeated over kills: each piece once, in order."""
        n_writes = scale(50, 300, 3000)
        client = self.client(reconnect=True)
        run = client.run(["/bin/cat"])
        subscription = self.client(reconnect=True).subscribe(run["id"])
        stop = threading.Event()

        def kill():
            while not stop.is_set():
                self.daemon.kill_engine()
                stop.wait(random.random() * 0.05)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        try:
            for number in range(n_writes):
                client.write(run["id"], b"%d\n" % number, key=random_key(), timeout=60)
        finally:
            stop.set()
            killer.join(30)
        client.close_stdin(run["id"])
        data = b"".join(r.data for r in subscription.collect() if r.kind == K_DATA)
        self.assertEqual([int(n) for n in data.split()], list(range(n_writes)))
        self.assert_code(self.ended(client, run["id"]), 0)

    test_writes_are_accepted_once.seconds = 15

    def test_stop_goes_on_over_a_kill(self):
        """A stop that has begun is carried to its end by the next engine."""
        client = self.client(reconnect=True)
        run = self.sh(client, 'trap "" TERM; echo ready; while :; do sleep 1; done',
                      kill_after_usec=1_500_000)
        client.subscribe(run["id"]).read_until_bytes(b"ready\n")
        begin = time.monotonic()
        pending = client.submit("stop", {"targets": [run["id"]]})
        wait_until(lambda: self.client().show(run["id"])["state"] == "stopping", what="the stop to begin")
        self.daemon.kill_engine()
        result = pending.result(30)["processes"][0]
        self.assertEqual(result["how"], "killed", result)
        self.assertEqual(result["survivors"], [])
        self.assert_signal(result["exit"], signal.SIGKILL)
        self.assertGreater(time.monotonic() - begin, 1.3, "the grace was cut short")
        self.assertEqual(client.show(run["id"])["tree"], [])

    def test_lossless_reader_keeps_its_claim_over_a_kill(self):
        """While a lossless reader connects anew, retention must not pass it by."""
        client = self.client(reconnect=True)
        run = client.run([program("sequence"), "-o", str(scale(16, 48, 256) << 20), "-s", "3"],
                         retention_bytes=1 << 20, subscribe={"lossless": True})
        run, subscription = run
        sequence = Sequence(3)
        n_kills = 0
        begin = subscription.next_offset
        while True:
            record = subscription.next(60)
            if record is None:
                break
            self.assertNotEqual(record.kind, K_GAP, "gap of %d bytes at %d after %d kills" % (
                record.arg, record.offset, n_kills))
            if record.kind == K_DATA:
                sequence.feed(record.data)
                if record.offset - begin > (n_kills + 1) * (2 << 20) and n_kills < scale(3, 10, 50):
                    self.daemon.kill_engine()
                    n_kills += 1
        self.assertEqual(sequence.finish(), scale(16, 48, 256) << 20)

    def test_lossless_reader_keeps_its_claim_over_a_restart(self):
        """One that is behind since the run before, and has not read on, is awaited as well."""
        client = self.client(reconnect=True)
        total = 16 << 20
        for is_early in (False, True):
            with self.subTest(killed_between_the_runs=is_early):
                run = self.sh(client, 'read size; exec "$1" -o "$size" -s 3', program("sequence"),
                              retention_bytes=1 << 20)
                slow = self.client().subscribe(run["id"], lossless=True, until="forever", credit=1 << 16,
                                               auto_credit=False)
                client.write(run["id"], b"300000\n")
                client.wait(run["id"])
                if is_early:
                    self.daemon.kill_engine()
                client.restart(run["id"])
                client.write(run["id"], b"%d\n" % total)
                self.await_full_log(client, run["id"])
                if not is_early:
                    self.daemon.kill_engine()
                    self.await_full_log(client, run["id"])
                while slow.queued():
                    slow.next()
                n_bytes = 0
                for record in self.client().subscribe(run["id"], lossless=True, from_=slow.next_offset,
                                                      until="closed"):
                    self.assertNotEqual(record.kind, K_GAP, "gap of %d bytes at %d" % (record.arg, record.offset))
                    if record.kind == K_DATA:
                        n_bytes += len(record.data)
                self.assertEqual(slow.next_offset + n_bytes, 300000 + total)

    def await_full_log(self, client, process):
        wait_until(lambda: client.show(process)["log"]["state"] == "waiting", what="the child to wait for a reader")

    def test_each_lossless_reader_keeps_its_claim(self):
        """The first that is back must not let the log pass by the second, which is back a moment later."""
        client = self.client(reconnect=True)
        total = 16 << 20
        run = self.sh(client, 'read line; exec "$1" -o "$2" -s 3', program("sequence"), str(total),
                      retention_bytes=1 << 20)
        fast = Follower(self.client(reconnect=True), run["id"], {STDOUT: 3}, lossless=True)
        slow = self.client().subscribe(run["id"], lossless=True, credit=1 << 16, auto_credit=False)
        client.write(run["id"], b"go\n")
        self.await_full_log(client, run["id"])
        sequence = Sequence(3)
        while slow.queued():
            record = slow.next()
            if record.kind == K_DATA:
                sequence.feed(record.data)
        self.daemon.kill_engine()
        wait_until(lambda: fast.subscription.n_resumed == 1 and fast.subscription.opened,
                   what="the fast to be back")
        client.call("version")
        at = slow.next_offset
        again = self.client().subscribe(run["id"], lossless=True, from_=at)
        for record in again:
            self.assertNotEqual(record.kind, K_GAP, "gap of %d bytes at %d" % (record.arg, record.offset))
            if record.kind == K_DATA:
                sequence.feed(record.data)
        self.assertEqual(sequence.finish(), total)
        self.assertEqual(fast.finish(), {STDOUT: total})
