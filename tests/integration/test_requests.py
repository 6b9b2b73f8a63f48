# SPDX-License-Identifier: MIT
"""Requests: many on one connection, keys, cancel, wait, bounds."""

import os
import threading
import time

from pmux_client import K_DATA, RpcError, encode_bytes, random_key
from pmux_daemon import wait_until
from pmux_test import ENV, PmuxTest, scale


class Requests(PmuxTest):
    def test_many_calls_on_one_connection(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        begin = time.monotonic()
        n = scale(500, 3000, 50000)
        for start in range(0, n, 100):
            pending = [client.submit("show",
                                     {"target": run["id"]}) if i % 10 == 0 else client.submit("version")
                       for i in range(100)]
            for one in pending:
                one.result()
        print("%d calls in %.2f s" % (n, time.monotonic() - begin))
        client.stop(run["id"], now=True)

    def test_a_string_as_id(self):
        client = self.client()
        client._next_id = "an id – 😀"
        with client._cond:
            from pmux_client import Pending
            pending = Pending(client, "an id – 😀", "version", {})
            client._pending[pending.id] = pending
            client._transmit(pending)
        self.assertEqual(pending.result()["protocol"], 1)

    def test_run_with_the_same_key_runs_once(self):
        client = self.client()
        trace = os.path.join(self.tmp, "trace")
        key = random_key()
        first = self.sh(client, 'echo x >>"$1"; exec sleep 1000', trace, key=key)
        second = self.sh(client, 'echo x >>"$1"; exec sleep 1000', trace, key=key)
        self.assertEqual((first["existing"], second["existing"]), (False, True))
        self.assertEqual([first[k] for k in ("id", "run", "pid")], [second[k] for k in ("id", "run", "pid")])
        self.daemon.kill_engine()
        client = self.client()
        third, subscription = self.sh(client, 'echo x >>"$1"; exec sleep 1000', trace, key=key,
                                      subscribe=True)
        self.assertEqual((third["id"], third["existing"]), (first["id"], True))
        self.assertEqual(len(client.list()), 1)
        # What the key brought back can be read from its first byte.
        client.stop(first["id"], now=True)
        subscription.collect()
        with open(trace) as file:
            self.assertEqual(file.read(), "x\n")

    def test_runs_that_wait_for_their_turn(self):
        client = self.client()
        go = os.path.join(self.tmp, "go")

        def submit(name, key=None, by=client, command='while ! test -e "$1"; do sleep 0.02; done', jobs=2):
            params = {"argv": ["sh", "-c", command, "sh", go], "env": ENV, "stdin": "null",
                      "queue": {"name": name, "jobs": jobs}}
            return by.submit("run", dict(params, key=key) if key else params)
        first = [submit("q").result(), submit("q").result()]
        key = random_key()
        third, fourth, other = submit("q", key), submit("q"), submit("another")
        other.result()
        self.assertEqual(len(client.list()), 3)
        self.assertEqual(client.show(first[0]["id"])["queue"],
                         {"name": "q", "jobs": 2, "stop_on_failure": False})
        # Its key may come on another connection, and counts once.
        second_client = self.client()
        again = submit("q", key, second_client)
        client.call("cancel", {"request": fourth.id})
        with self.assertRaises(RpcError) as caught:
            fourth.result()
        self.assertEqual(caught.exception.name, "cancelled")
        with open(go, "w"):
            pass
        result = third.result()
        self.assertEqual((again.result()["id"], again.result()["existing"]), (result["id"], True))
        for one in first + [result]:
            client.call("wait", {"targets": [one["id"]], "for": "empty"})
        os.unlink(go)
        # Who cancels a queue ends all that waits in it.
        runs = [submit("q", jobs=1) for _ in range(3)]
        runs[0].result()
        client.call("cancel", {"queue": "q"})
        for one in runs[1:]:
            with self.assertRaises(RpcError) as caught:
                one.result()
            self.assertEqual(caught.exception.name, "cancelled")
        self.assertEqual(len(client.list()), 5)
        # What waits goes with its connection.
        second_client = self.client()
        for _ in range(3):
            submit("r", by=second_client, jobs=1)
        wait_until(lambda: len(client.list()) == 6, what="the first of them")
        second_client.close()
        wait_until(lambda: client.call("daemon-status")["limits"]["queued-run-bytes"]["used"] == 0,
                   what="the others to be forgotten")
        for bad in ({}, {"name": ""}, {"name": "x" * 65}, {"name": "x", "jobs": 0}, {"name": "x", "more": 1}, "x"):
            with self.assertRaises(RpcError) as caught:
                client.call("run", {"argv": ["true"], "env": ENV, "queue": bad})
            self.assertEqual(caught.exception.name, "invalid-argument", bad)
        for one in client.list(all=False):
            client.stop(one["id"], now=True)

    def test_simultaneous_runs_with_one_key(self):
        clients = [self.client() for _ in range(4)]
        key = random_key()
        pending = [c.submit("run", {"argv": ["/bin/sleep", "1000"],
                                    "key": key}) for c in clients for _ in range(4)]
        self.assertEqual(len({p.result()["id"] for p in pending}), 1)
        self.assertEqual(len(clients[0].list()), 1)
        clients[0].stop(clients[0].list()[0]["id"], now=True)

    def test_write_with_the_same_key_writes_once(self):
        client = self.client()
        run, subscription = client.run(["/bin/cat"], subscribe=True)
        key, other = random_key(), random_key()
        first = client.write(run["id"], b"once ", key=key)
        second = client.write(run["id"], b"once ", key=key)
        self.assertEqual(first["accepted"], second["accepted"])
        client.write(run["id"], b"twice ", key=other)
        self.daemon.kill_engine()
        client = self.client()
        client.write(run["id"], b"once ", key=key)
        client.write(run["id"], b"twice ", key=other)
        client.write(run["id"], b"end", key=random_key(), eof=True)
        self.assertEqual(b"".join(r.data for r in client.subscribe(run["id"]).collect() if r.kind == K_DATA),
                         b"once twice end")

    def test_the_key_of_the_write_that_closed_stdin(self):
        client = self.client()
        run = client.run(["/bin/cat"])
        key = random_key()
        first = client.write(run["id"], b"x", key=key, eof=True)
        self.assertEqual(client.write(run["id"], b"x", key=key, eof=True)["accepted"], first["accepted"])

    def test_start_with_the_same_key_starts_once(self):
        client = self.client()
        run = self.sh(client, "exit 0")
        self.ended(client, run["id"], for_="empty")
        key = random_key()
        first = client.start(run["id"], key=key)
        self.ended(client, run["id"], for_="empty")
        second = client.start(run["id"], key=key)
        self.assertEqual((first["run"], second["run"], second["existing"]), (2, 2, True))
        key = random_key()
        first = client.restart(run["id"], key=key)
        self.ended(client, run["id"], for_="empty")
        second = client.restart(run["id"], key=key)
        self.assertEqual((first["run"], second["run"]), (3, 3))

    def test_a_key_is_for_one_request(self):
        """The same key with anything else is refused by its name, also by another engine; what may differ may."""
        client = self.client()
        cat = client.run(["/bin/cat"])["id"]
        over = self.sh(client, "exit 0")["id"]
        self.ended(client, over, for_="empty")
        run, start = {"argv": ["/bin/true"]}, {"target": over}
        write, ask = {"target": cat, "data": "abc\n"}, {"target": cat, "data": "def\n", "for": "line"}
        read = {"target": cat, "for": "exactly", "n": 4, "from": 0}
        cases = (("run", run, {"argv": ["/bin/false"]}, {}), ("run", run, {"name": "other"}, {}),
                 ("start", start, None, {}),
                 ("write", write, {"data": "abd\n"}, {"timeout_usec": 5, "drain": True}),
                 ("write", write, {"eof": True}, {"data": {"base64": "YWJjCg=="}}),
                 ("ask", ask, {"data": "deg\n"}, {"timeout_usec": 5 * 10**6}),
                 ("ask", ask, {"for": "exactly", "n": 4}, {}), ("ask", ask, {"max_bytes": 99}, {}),
                 ("read", read, {"n": 3}, {"timeout_usec": 10**6}), ("read", read, {"cursor": "c"}, {}),
                 ("read", read, {"peek": True}, {}))
        done = []
        for method, params, change, _ in cases:
            key = random_key()
            first = client.call(method, dict(params, key=key))
            done.append((key, first))
            if method in ("run", "start"):
                self.ended(client, first["id"], for_="empty")
        for engine in range(2):
            for (method, params, change, same), (key, first) in zip(cases, done):
                if change:
                    error = self.assert_error("invalid-argument", client.call, method, dict(params, **{"key": key, **change}))
                    self.assertIn(key, error.message, method)
                again = client.call(method, dict(params, **{"key": key, **same}))
                for member in ("id", "run", "accepted", "data", "next"):
                    self.assertEqual(first.get(member), again.get(member), (method, member))
            key = done[2][0]
            self.assert_error("invalid-argument", client.call, "restart", dict(start, key=key))
            self.assert_error("invalid-argument", client.write, cat, b"def\n", key=done[5][0])
            if engine == 0:
                self.daemon.kill_engine()
                client = self.client()
        client.stop(cat, now=True)

    def test_cancel_a_wait(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        pending = client.submit("wait", {"targets": [run["id"]]})
        client.call("version")
        self.assertEqual(client.call("cancel", {"request": pending.id}), {})
        with self.assertRaises(RpcError) as caught:
            pending.result()
        self.assertEqual(caught.exception.name, "cancelled")
        client.stop(run["id"], now=True)

    def test_cancel_a_stop_and_it_goes_on(self):
        client = self.client()
        run, subscription = self.sh(client, 'trap "" TERM; echo ready; while :; do sleep 0.1; done',
                                    kill_after_usec=500_000, subscribe=True)
        subscription.read_until_bytes(b"ready\n")
        pending = client.submit("stop", {"targets": [run["id"]]})
        client.call("cancel", {"request": pending.id})
        with self.assertRaises(RpcError) as caught:
            pending.result()
        self.assertEqual(caught.exception.name, "cancelled")
        self.assert_signal(self.ended(client, run["id"]), 9)

    def test_wait_for_any_and_for_all(self):
        client = self.client()
        short = self.sh(client, "read line; exit 1")
        long = self.sh(client, "exec sleep 1000")
        both = client.submit("wait", {"targets": [short["id"], long["id"]]})
        one = client.submit("wait", {"targets": [short["id"], long["id"]], "any": True})
        client.write(short["id"], b"\n")
        result = one.result()
        self.assertEqual(result["reason"], "satisfied")
        states = {p["id"]: p["state"] for p in result["processes"]}
        self.assertEqual(states, {short["id"]: "exited", long["id"]: "running"})
        client.call("version")
        self.assertFalse(both.done)
        client.stop(long["id"], now=True)
        result = both.result()
        self.assertEqual([p["id"] for p in result["processes"]], [short["id"], long["id"]])
        timed = client.wait(short["id"], timeout_usec=0)
        self.assertEqual(timed["reason"], "satisfied", "what is already so needs no time")

    def test_wait_times_out(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        begin = time.monotonic()
        self.assertEqual(client.wait(run["id"], timeout_usec=300_000)["reason"], "timeout")
        self.assertTrue(0.29 <= time.monotonic() - begin < 5)
        self.assertEqual(client.wait(run["id"], for_="running", timeout_usec=1)["reason"], "satisfied")
        self.assertEqual(client.wait(run["id"], for_="ready")["reason"], "satisfied")
        removed = client.submit("wait", {"targets": [run["id"]]})
        client.call("version")
        client.remove(run["id"], force=True)
        self.assertEqual(removed.result()["reason"], "satisfied",
                         "a process removed while waited for counts as ended")

    def test_targets_that_are_not_there(self):
        client = self.client()
        for method, params in (("show", {"target": 7}), ("show", {"target": "nobody"}),
                               ("stop", {"targets": [7]}),
                               ("wait", {"targets": ["nobody"]}), ("write", {"target": 7, "data": "x"}),
                               ("subscribe", {"target": 7, "stream": 1}),
                               ("open-stdin", {"target": 7, "stream": 1}),
                               ("remove", {"targets": [7]}), ("signal", {"targets": [7], "signal": 1}),
                               ("pause", {"targets": [7]}), ("start", {"target": 7}),
                               ("restart", {"target": 7}),
                               ("close-stdin", {"target": 7}), ("cancel-input", {"target": 7}),
                               ("renew", {"target": 7}),
                               ("show", {"target": encode_bytes(b"\xff")})):
            self.assert_error("not-found", client.call, method, params)

    def test_unknown_members_are_named(self):
        client = self.client()
        target = self.sh(client, "exec sleep 1000")["id"]
        one, many, none = {"target": target}, {"targets": [target]}, {}
        for method, params in (("run", {"argv": ["/bin/true"]}), ("start", one), ("restart", one),
                               ("stop", many),
                               ("signal", dict(many, signal=9)), ("pause", many), ("resume", many),
                               ("remove", dict(many, force=True)), ("list", none), ("show", one),
                               ("subscribe", dict(one, stream=9)), ("unsubscribe", {"stream": 9}),
                               ("open-stdin", dict(one, stream=9)), ("close-stream", {"stream": 9}),
                               ("write", dict(one, data="x")), ("close-stdin", one), ("cancel-input", one),
                               ("wait", many), ("events", {"stream": 9}), ("renew", one),
                               ("cancel", {"request": 1}),
                               ("daemon-status", none), ("daemon-stop", none), ("daemon-upgrade", none),
                               ("version", none)):
            error = self.assert_error("invalid-argument", client.call, method, dict(params, nonsense=1))
            self.assertIn("nonsense", error.message, method)
            self.assertEqual(error.rpc_code, -32602)
        self.assertEqual(len(client.list()), 1)
        self.assertEqual(client.show(target)["state"], "running", "something was done all the same")
        error = self.assert_error("unknown-method", client.call, "nonsense")
        self.assertEqual(error.rpc_code, -32601)

    def test_wrong_states(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        self.assert_error("wrong-state", client.start, run["id"])
        self.assert_error("wrong-state", client.remove, run["id"])
        client.stop(run["id"], now=True)
        self.assert_error("not-running", client.signal, run["id"], 15)
        client.remove(run["id"])
        self.assert_error("not-found", client.show, run["id"])

    def test_the_bound_of_waiting_requests(self):
        """256 may wait on one connection; the next is refused, the connection and others are as before."""
        client, other = self.client(), self.client()
        run = self.sh(other, "exec sleep 1000")
        waits = [client.submit("wait", {"targets": [run["id"]]}) for _ in range(300)]
        wait_until(lambda: sum(p.done for p in waits) >= 44, 10, "the refusals")
        refused = [p for p in waits if p.done]
        self.assertEqual({p.error.name for p in refused}, {"limit"})
        self.assertEqual(len(refused), 44)
        other.call("version")
        other.stop(run["id"], now=True)
        for pending in waits:
            if pending not in refused:
                self.assertEqual(pending.result()["reason"], "satisfied")
        client.call("version")

    def test_the_bound_of_streams(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        streams = []
        with self.assertRaises(RpcError) as caught:
            for _ in range(300):
                streams.append(client.subscribe(run["id"], until="forever"))
        self.assertEqual((caught.exception.name, len(streams)), ("limit", 256))
        streams[0].cancel()
        client.forget_stream(streams[0])
        client.subscribe(run["id"])
        client.stop(run["id"], now=True)

    def test_the_size_of_a_request(self):
        client = self.client()
        error = self.assert_error("spawn-failed", client.run, ["/bin/true", "x" * (7 << 20)])
        self.assertEqual(error.errno_name, "E2BIG")
        client.call("version")

    def test_bounds_and_their_use_are_visible(self):
        client = self.client()
        limits = client.status()["limits"]
        self.assertTrue(limits)
        for name, limit in limits.items():
            self.assertLessEqual(limit["used"] or 0, limit["max"], name)  # null: each time anew
            self.assertGreater(limit["max"], 0, name)
        used = {name: limit["used"] or 0 for name, limit in limits.items()}
        run = self.sh(client, "exec sleep 1000")
        others = [self.client() for _ in range(3)]
        for other in others:
            other.subscribe(run["id"])
        more = {name: limit["used"] or 0 for name, limit in client.status()["limits"].items()}
        self.assertIn(3, [more[n] - used[n] for n in used],
                      "three connections more are not seen: %r %r" % (used, more))
        self.assertIn(1, [more[n] - used[n] for n in used], "one process more is not seen: %r %r" % (used,
                more))
        client.stop(run["id"], now=True)

    def test_the_use_of_cursors_and_keys_of_reads_is_counted(self):
        client = self.client()
        few, many = (self.sh(client, "exec sleep 1000")["id"] for _ in range(2))
        for p, n in ((few, 3), (many, 5)):
            for i in range(n):
                client.set_cursor(p, "c%d" % i, 0)
        for _ in range(7):
            client.read(few, timeout_usec=0, key=random_key())
        limits = client.status()["limits"]
        self.assertEqual(limits["cursors"], {"used": 5, "max": 64}, "of the process that has the most")
        self.assertEqual(limits["keys"]["used"], 7)
        client.stop(few, many, now=True)

    def test_a_client_that_does_not_read_its_replies(self):
        """Its requests are no longer taken; others do not notice; when it reads on, all answers come."""
        client = self.client()
        for _ in range(5):
            self.sh(client, "exec sleep 1000", "x" * 20000)
        import json
        from test_fuzz import Raw, request
        from pmux_client import hello_frame
        raw = Raw(self.daemon.socket)
        raw.send(hello_frame())
        n = 0
        raw.socket.settimeout(0.5)
        try:
            for n in range(20000):
                raw.socket.sendall(request("list", number=n))
        except TimeoutError:
            pass
        self.assertLess(n, 19999, "the daemon takes requests without end")
        for _ in range(50):
            client.call("version", timeout=5)
        engine = client.engine_pid
        with open("/proc/%d/status" % engine) as status:
            rss = int([line for line in status if line.startswith("RssAnon")][0].split()[1])
        self.assertLess(rss, 100_000, "the engine keeps the replies in memory")
        raw.socket.settimeout(10)
        seen = 0
        data = b""
        while seen < n:
            data += raw.socket.recv(1 << 20)
            while len(data) >= 12 and len(data) >= 12 + int.from_bytes(data[:4], "little"):
                size = int.from_bytes(data[:4], "little")
                if data[4] == 2:
                    self.assertEqual(json.loads(data[12:12 + size])["id"], seen)
                    seen += 1
                data = data[12 + size:]
        raw.close()
        for process in client.list():
            client.stop(process["id"], now=True)

    def test_only_the_members_that_are_asked_for(self):
        client = self.client()
        odd = client.run([b"/bin/sh", b"-c", b"exec sleep 1000", b'\xff "\\', "ä\n"], name=b"\xfe")
        over = self.sh(client, "exit 3")
        client.wait(over["id"], for_="empty")
        whole = client.list()
        # What is there: the same in short as at length, and nothing that is null.
        for fields in (["id"], ["exit", "id", "pid", "name", "argv"], sorted(whole[0]), []):
            self.assertEqual(client.call("list", {"fields": fields})["processes"],
                             [{k: one[k] for k in fields if one[k] is not None} for one in whole])
            for one in whole:
                self.assertEqual(client.call("show", {"target": one["id"], "fields": fields}),
                                 {k: one[k] for k in fields if one[k] is not None})
        self.assertEqual(client.call("list", {"fields": None})["processes"], whole)
        self.assertEqual(client.call("list", {"all": False, "fields": ["id"]})["processes"], [{"id": odd["id"]}])
        for wrong in ("id", ["id", "ids"], [1], ["id", "id"], {}):
            with self.assertRaises(RpcError) as caught:
                client.call("list", {"fields": wrong})
            self.assertEqual(caught.exception.name, "invalid-argument")
        client.stop(odd["id"], now=True)

    def test_statuses_of_processes(self):
        client = self.client()
        run = self.sh(client, "echo x; exec sleep 1000", name="sleeper", cwd="/tmp", timeout_usec=10**9,
                      kill_after_usec=5_000_000)
        wait_until(lambda: client.show(run["id"])["log_end"] == 2, what="the output")
        shown = client.show("sleeper")
        self.assertEqual((shown["id"], shown["name"], shown["state"], shown["run"], shown["pid"]),
                         (run["id"], "sleeper", "running", 1, run["pid"]))
        self.assertEqual(shown["argv"][:2], ["/bin/sh", "-c"])
        self.assertEqual((shown["cwd"], shown["timeout_usec"], shown["kill_after_usec"]),
                         ("/tmp", 10**9, 5_000_000))
        self.assertEqual((shown["stdin"], shown["stdout"], shown["stderr"], shown["rm"]),
                         ("open", "log", "log", False))
        self.assertEqual((shown["retention_bytes"], shown["full_disk"], shown["lease"]),
                         (64 << 20, "discard", "none"))
        self.assertEqual(shown["env"], ENV)
        self.assertEqual((shown["exit"], shown["end_usec"]), (None, shown["end_usec"]))
        self.assertEqual([(r["run"], r["pid"], r["start_offset"], r["exit"]) for r in shown["runs"]],
                         [(1, run["pid"], 0, None)])
        self.assertEqual(shown["log"]["end"], 2)
        self.assertEqual((shown["waiting_for"], shown["subscribers"]), (None, []))
        self.assertAlmostEqual(shown["start_usec"] / 1e6, time.time(), delta=30)
        client.stop("sleeper")
        shown = client.show("sleeper")
        self.assertEqual((shown["state"], shown["tree_empty"], shown["stdout_closed"],
                          shown["stderr_closed"]),
                         ("exited", True, True, True))
        self.assertGreaterEqual(shown["end_usec"], shown["start_usec"])
        usage = shown["exit"]["rusage"]
        self.assertGreater(usage["max_rss_bytes"], 10_000)
        self.assertEqual(set(usage), {"user_usec", "system_usec", "max_rss_bytes", "minor_faults",
                                      "major_faults",
                                      "in_blocks", "out_blocks", "voluntary_switches",
                                      "involuntary_switches"})
        self.assertAlmostEqual(shown["exit"]["usec"], shown["end_usec"] - shown["start_usec"], delta=100_000)
        self.assertEqual(client.list(all=False), [])
        self.assertEqual(len(client.list()), 1)

    def test_core_and_usage(self):
        client = self.client()
        run = self.sh(client, "kill -SEGV $$")
        exit_record = self.ended(client, run["id"])
        self.assert_signal(exit_record, 11)
        self.assertEqual((exit_record["signal_name"], exit_record["cause"]), ("SIGSEGV", "self"))
        self.assertIsInstance(exit_record["core"], bool)
        run = self.sh(client, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
        self.assertGreater(self.ended(client, run["id"])["rusage"]["user_usec"], 10_000)

    def test_pipelined_before_hello_is_answered(self):
        from test_fuzz import Raw, request
        from pmux_client import CONTROL, HELLO, hello_frame
        raw = Raw(self.daemon.socket)
        raw.send(hello_frame() + b"".join(request("version", number=i) for i in range(20)))
        raw.end_input()
        self.assertEqual([f[0] for f in raw.frames()], [HELLO] + [CONTROL] * 20)
        raw.close()

    def test_many_clients_at_once(self):
        self.daemon.status()
        errors = []

        def work(number):
            try:
                with self.daemon.client() as client:
                    for _ in range(scale(3, 10, 100)):
                        run, subscription = self.sh(client, 'echo "$1"; exit 3', str(number), subscribe=True)
                        data = b"".join(r.data for r in subscription.collect() if r.kind == K_DATA)
                        self.assertEqual(data, b"%d\n" % number)
                        self.assert_code(self.ended(client, run["id"]), 3)
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(errors, [])
