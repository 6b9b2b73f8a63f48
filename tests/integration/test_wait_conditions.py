# SPDX-License-Identifier: MIT
"""wait with conditions: on output and on states, over several processes, many at a time, at rest without work."""

import time

from pmux_client import RpcError
from pmux_daemon import rss_bytes, wait_until
from pmux_test import SANITIZED, PmuxTest, scale

SECOND = 1000000


class WaitConditions(PmuxTest):
    def wait(self, client, targets, *conditions, timeout=30, **params):
        return client.call("wait", {"targets": targets, "conditions": list(conditions),
                                    "timeout_usec": int(timeout * SECOND), **params}, timeout + 10)

    def cat(self, client):
        return client.run(["cat"], env=["PATH=/bin:/usr/bin"])["id"]

    def test_a_pattern_is_met_where_it_stands(self):
        client = self.client()
        target = self.sh(client, "printf 'one two'; printf ' three>>> '; sleep 1000")["id"]
        result = self.wait(client, [target], {"for": "pattern", "pattern": "t(wo|hree)>>> $"})
        self.assertEqual(result["reason"], "satisfied")
        row = result["satisfied"][0]
        self.assertEqual((row["id"], row["condition"], row["offset"]), (target, 0, 17), row)
        self.assertEqual((row["match"]["from"], row["match"]["to"]), (8, 17))
        self.assertEqual((row["match"]["groups"][1]["from"], row["match"]["groups"][1]["to"]), (9, 13))
        client.stop(target, now=True)

    def test_quiet_bytes_and_state(self):
        client = self.client()
        target = self.cat(client)
        result = self.wait(client, [target], {"for": "quiet", "quiet_usec": 100000}, {"for": "state",
                                                                                    "state": "running"})
        self.assertEqual(result["reason"], "satisfied")
        self.assertEqual(sorted(r["condition"] for r in result["satisfied"]), [0, 1])
        result = self.wait(client, [target], {"for": "bytes", "n": 6}, timeout=0.1)
        self.assertEqual((result["reason"], result["satisfied"]), ("timeout", []))
        client.write(target, b"abcdefgh")
        result = self.wait(client, [target], {"for": "bytes", "n": 6})
        self.assertEqual(result["satisfied"][0]["offset"], 6)
        client.close_stdin(target)
        result = self.wait(client, [target], {"for": "exited"}, {"for": "closed"}, {"for": "empty"})
        self.assertEqual(len(result["satisfied"]), 3)

    def test_bytes_and_patterns_of_more_than_is_kept(self):
        """What has gone by counts, though retention has removed it."""
        client, other = self.client(), self.client()
        target = self.sh(client, "while read l; do head -c 50000 /dev/zero; done; echo end; exec sleep 1000",
                         retention_bytes=64 << 10)["id"]
        waiting = other.submit("wait", {"targets": [target], "timeout_usec": 60 * SECOND, "conditions": [
            {"for": "bytes", "n": 950000}, {"for": "pattern", "pattern": "end$"}]})
        for n in range(1, 21):
            client.write(target, b"\n", eof=n == 20)
            wait_until(lambda: client.show(target)["log"]["end"] >= 50000 * n, what="the process to write")
        result = waiting.result(70)
        self.assertGreater(client.show(target)["log"]["begin"], 800000)
        self.assertEqual(result["reason"], "satisfied")
        rows = {row["condition"]: row for row in result["satisfied"]}
        self.assertEqual((rows[0]["offset"], rows[1]["offset"]), (950000, 1000003))
        self.assertEqual((rows[1]["match"]["from"], rows[1]["match"]["to"]), (1000000, 1000003))

    def test_any_and_all_over_several(self):
        client = self.client()
        a, b = self.cat(client), self.cat(client)
        client.write(b, b"go\n")
        conditions = [{"for": "pattern", "pattern": "^go$"}, {"for": "exited", "targets": [a]}]
        result = self.wait(client, [a, b], *conditions, any=True)
        self.assertEqual([(r["id"], r["condition"]) for r in result["satisfied"]], [(b, 0)])
        self.assertEqual(self.wait(client, [a, b], *conditions, timeout=0.1)["reason"], "timeout")
        client.write(a, b"go\n", eof=True)
        result = self.wait(client, [a, b], *conditions)
        self.assertEqual(len(result["satisfied"]), 3)
        client.stop(b, now=True)

    def test_what_is_wrong_is_refused(self):
        client = self.client()
        target = self.cat(client)
        for condition in ({"for": "pattern"}, {"for": "pattern", "pattern": "("}, {"for": "quiet"}, {"for": "bytes"},
                          {"for": "pattern", "pattern": ""}, {"for": "pattern", "pattern": "x" * 4097},
                          {"for": "bytes", "n": 0}, {"for": "state"}, {"for": "state", "state": "asleep"},
                          {"for": "never"}, {"other": 1}, {"for": "bytes", "n": 1, "from": 99},
                          {"for": "bytes", "n": 1, "sources": []}, 7):
            self.assert_error("invalid-argument", self.wait, client, [target], condition)
        self.assert_error("invalid-argument", self.wait, client, [target])
        self.assert_error("invalid-argument", self.wait, client, [target], {"for": "exited"}, **{"for": "exited"})
        self.assert_error("invalid-argument", client.call, "wait", {"targets": [target], "for": "quiet"})
        self.assert_error("not-found", self.wait, client, [target], {"for": "exited", "targets": [99]})

    def test_what_is_wrong_is_named_with_its_place(self):
        client = self.client()
        target = self.cat(client)
        good = {"for": "exited"}
        for condition, what in (({}, "for"), ({"for": None}, "for"), ({"form": "exited"}, "form"),
                                ({"for": "exited", "time": 1}, "time"), ({"for": "exited", "pattern": "x"}, "pattern"),
                                ({"for": "quiet", "quiet_usec": 9, "from": "end"}, "from"),
                                ({"for": "state", "state": "running", "sources": ["stdout"]}, "sources"),
                                ({"for": "pattern", "pattern": "x", "n": 1}, "n"),
                                ({"for": "pattern", "pattern": "("}, "pattern"),
                                ({"for": "bytes", "n": 1, "from": 99}, "from"), (7, "object")):
            for position in (0, 2):
                conditions = [good] * position + [condition]
                error = self.assert_error("invalid-argument", self.wait, client, [target], *conditions)
                self.assertTrue(error.message.startswith("conditions[%d]: " % position), error.message)
                self.assertIn(what, error.message, condition)
        error = self.assert_error("not-found", self.wait, client, [target], good, dict(good, targets=[99]))
        self.assertIn("conditions[1]: ", error.message)
        client.stop(target, now=True)

    def test_one_that_needs_too_many_steps_does_not_keep_another_from_winning(self):
        """With `any` a search that was given up is one that cannot be met; only if all are it is an error."""
        client = self.client()
        target = self.sh(client, "head -c 100000 /dev/zero | tr '\\0' a; echo; cat")["id"]
        self.wait(client, [target], {"for": "bytes", "n": 100001})
        hopeless = {"for": "pattern", "pattern": r"(a+)+(b|c)\1"}
        self.assert_error("limit", self.wait, client, [target], hopeless)
        call = client.submit("wait", {"targets": [target], "any": True, "conditions": [
            hopeless, {"for": "pattern", "pattern": "the other"}, hopeless]})
        self.assert_error("limit", self.wait, self.client(), [target], hopeless, hopeless, any=True)
        self.assert_error("limit", self.wait, self.client(), [target], hopeless, {"for": "exited"})
        client.write(target, b"the other\n")
        result = call.result(30)
        self.assertEqual((result["reason"], [row["condition"] for row in result["satisfied"]]), ("satisfied", [1]))
        result = self.wait(client, [target], hopeless, {"for": "exited"}, any=True, timeout=3)
        self.assertEqual(result["reason"], "timeout", "the process could have ended")
        client.stop(target, now=True)

    def test_a_catastrophic_pattern_hurts_nobody_else(self):
        client = self.client()
        target = self.sh(client, "head -c 200000 /dev/zero | tr '\\\\0' a; echo; sleep 1000")["id"]
        self.wait(client, [target], {"for": "bytes", "n": 200001})
        call = self.client().submit("wait", {"targets": [target], "timeout_usec": 3 * SECOND, "conditions": [
            {"for": "pattern", "pattern": "(a+)+(b|c)\\\\1"}]})
        for _ in range(20):
            began = time.monotonic()
            client.call("version")
            self.assertLess(time.monotonic() - began, 2)
        try:
            self.assertEqual(call.result(30)["reason"], "timeout")
        except RpcError as error:  # or given up before
            self.assertEqual(error.name, "limit")
        client.stop(target, now=True)

    def test_thousands_of_waits_are_answered_right_and_rest(self):
        n_processes, n_each = scale((20, 10), (200, 10), (200, 50))
        client = self.client()
        targets = [self.cat(client) for _ in range(n_processes)]
        clients = [self.client() for _ in range((n_processes * n_each + 199) // 200)]
        engine = self.daemon.engine_pid()
        before = rss_bytes(engine)
        waits = []
        for i in range(n_processes * n_each):
            target = targets[i % n_processes]
            waits.append((i, target, clients[i // 200].submit("wait", {
                "targets": [target], "conditions": [{"for": "pattern", "pattern": "mark%dx" % (i // n_processes)}]})))
        for each in clients:
            each.call("version")
        per_wait = (rss_bytes(engine) - before) / len(waits)
        self.assert_rests(engine)
        if not SANITIZED:  # which allocates more for each
            self.assertLess(per_wait, 6 << 10)  # measured: 1.9 KiB
        for k in range(n_each):
            for target in targets:
                client.write(target, b"mark%dx\n" % k)
        for i, target, call in waits:
            row = call.result(60)["satisfied"][0]
            k = i // n_processes
            self.assertEqual(row["id"], target)
            self.assertEqual(row["offset"], sum(len("mark%dx\n" % j) for j in range(k + 1)) - 1)
        client.stop(*targets, now=True)

    def test_over_an_engine_kill_it_is_asked_again(self):
        client = self.client()
        target = self.cat(client)
        client.write(target, b"here\n")
        self.daemon.kill_engine()
        client = self.client()
        self.assertEqual(self.wait(client, [target], {"for": "pattern", "pattern": "here"})["satisfied"][0]["offset"], 4)
        wait_until(lambda: client.show(target)["state"] == "running")
        client.stop(target, now=True)

    # ---- by the command line ----

    def cli_wait(self, *args):
        done = self.daemon.cli("wait", *args)
        return done.returncode, done.stdout

    def test_each_condition_by_the_command_line(self):
        client = self.client()
        self.sh(client, "printf 'one\ntwo>>> '; read l; echo $l; exit 9", name="w")
        for what in ("pattern=t(wo)>>> $", "quiet=50ms", "bytes=11", "state=running", "running", "ready"):
            self.assertEqual(self.cli_wait("--timeout", "20s", "--for", what, "w"), (0, b""), what)
        for what in ("pattern=three", "quiet=1h", "bytes=12", "state=exited", "exited", "closed", "empty"):
            self.assertEqual(self.cli_wait("--timeout", "0", "--for", what, "w")[0], 124, what)
        for what in ("pattern=(", "state=nothing"):
            self.assertEqual(self.cli_wait("--for", what, "w")[0], 125, what)
        for what in ("quiet=x", "bytes=", "sometime", ""):
            self.assertEqual(self.cli_wait("--for", what, "w")[0], 125, what)
        waiting = self.daemon.cli_start("wait", "--for", "pattern=three", "--for", "state=exited", "w")
        both = self.daemon.cli_start("wait", "--any", "--for", "pattern=no", "--for", "exited", "w")
        client.write("w", b"three\n")
        self.assertEqual([p.communicate(timeout=20) for p in (waiting, both)], [(b"", b"")] * 2)
        self.assertEqual(waiting.returncode, 0, "no end was waited for")
        self.assertEqual(both.returncode, 9, "the end was")

    def test_several_by_the_command_line(self):
        client = self.client()
        for name in ("a", "b"):
            client.run(["/bin/cat"], name=name)
        client.write("b", b"go\n")
        line, = self.json_lines(self.daemon.cli("--json", "wait", "--any", "--for", "pattern=^(g)o$", "a", "b",
                                                check=0).stdout)
        row, = line["satisfied"]
        self.assertEqual((line["reason"], row["id"], row["condition"], row["offset"]), ("satisfied", 2, 0, 2))
        self.assertEqual(self.cli_wait("--timeout", "50ms", "--for", "pattern=^go$", "a", "b")[0], 124)
        waiting = self.daemon.cli_start("wait", "--for", "pattern=^go$", "--for", "bytes=3", "a", "b")
        client.write("a", b"go\n")
        waiting.communicate(timeout=20)
        self.assertEqual(waiting.returncode, 0)
