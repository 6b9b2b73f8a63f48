# SPDX-License-Identifier: MIT
"""The feed: every change once, in order, over engine restarts."""

import signal

from pmux_test import PmuxTest


class Events(PmuxTest):
    def test_life_of_a_process(self):
        client = self.client()
        feed = client.events()
        run = self.sh(client, "exec sleep 1000", name="lively")
        client.call("pause", {"targets": [run["id"]]})
        client.call("resume", {"targets": [run["id"]]})
        client.stop(run["id"])
        client.start(run["id"])
        client.remove(run["id"], force=True)
        events = feed.wait_for("removed", run["id"])
        mine = [e for e in events if e.get("id") == run["id"]]
        self.assertEqual([e["type"] for e in mine if e["run"] == 1 and e["type"] in (
            "created", "started", "paused", "resumed", "stopping", "exited", "empty")],
            ["created", "started", "paused", "resumed", "stopping", "exited", "empty"], mine)
        self.assertEqual({e["name"] for e in mine}, {"lively"})
        second = [e["type"] for e in mine if e["run"] == 2]
        for kind in ("started", "exited", "removed"):
            self.assertEqual(second.count(kind), 1, mine)
        numbers = [e["seq"] for e in events]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        times = [e["time_usec"] for e in events]
        self.assertEqual(times, sorted(times))

    def test_since_over_engine_restarts(self):
        client = self.client(reconnect=True)
        live = client.events()
        ids = []
        for number in range(6):
            ids.append(self.sh(client, "exit %d" % number)["id"])
            self.ended(client, ids[-1], for_="empty")
            if number % 2:
                self.daemon.kill_engine()
        last = self.sh(client, "exit 0")
        self.ended(client, last["id"], for_="empty")
        seen = live.wait_for("empty", last["id"])
        stored = client.events(since=0, follow=False).rest()
        self.assertEqual([e["seq"] for e in stored], list(range(1, len(stored) + 1)))
        known = {e["seq"]: e for e in stored}

        def plain(event):
            return {k: v for k, v in event.items() if k != "stream"}
        for event in seen:
            self.assertEqual(plain(event), plain(known[event["seq"]]))
        for number in ids + [last["id"]]:
            kinds = [e["type"] for e in stored if e.get("id") == number]
            for kind in ("created", "started", "exited", "empty"):
                self.assertEqual(kinds.count(kind), 1, (number, kinds))
        self.assertGreaterEqual([e["type"] for e in stored].count("engine-started"), 3)
        middle = stored[len(stored) // 2]["seq"]
        self.assertEqual([e["seq"] for e in client.events(since=middle, follow=False).rest()],
                         [e["seq"] for e in stored if e["seq"] > middle])

    def test_list_says_where_to_go_on(self):
        client = self.client()
        self.ended(client, self.sh(client, "exit 0")["id"], for_="empty")
        listed = client.call("list")
        run = self.sh(client, "exit 0")
        feed = client.events(since=listed["seq"])
        events = feed.wait_for("exited", run["id"])
        self.assertEqual({e.get("id") for e in events}, {run["id"]})
        self.assertEqual(events[0]["seq"], listed["seq"] + 1)

    def test_two_feeds_and_the_end_of_one(self):
        client = self.client()
        one, two = client.events(), client.events()
        run = self.sh(client, "exec sleep 1000")
        one.wait_for("started", run["id"])
        two.wait_for("started", run["id"])
        client.call("unsubscribe", {"stream": one.stream})
        client.signal(run["id"], signal.SIGKILL)
        two.wait_for("exited", run["id"])
        with self.assertRaises(TimeoutError):
            one.next(0.1)

    def test_a_number_from_the_future(self):
        client = self.client()
        latest = client.call("list")["seq"]
        try:
            feed = client.events(since=latest + 1000, follow=False)
        except Exception as error:
            self.assertEqual(getattr(error, "name", None), "invalid-argument", error)
        else:
            self.assertIn([e["type"] for e in feed.rest()], ([], ["lost"]))
