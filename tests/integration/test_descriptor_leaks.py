# SPDX-License-Identifier: MIT
"""Neither connections nor processes leave descriptors, memory or files behind."""

import os

from pmux_client import K_DATA
from pmux_daemon import fd_count, fd_names, rss_bytes, wait_until
from pmux_test import SANITIZED, PmuxTest, scale


class DescriptorLeaks(PmuxTest):
    def assert_same(self, pids, before, client):
        def settled():
            return all(fd_count(pid) <= before[name][0] for name, pid in pids.items())
        try:
            wait_until(settled, 10, "the descriptors to be closed")
        except TimeoutError:
            for name, pid in pids.items():
                more = list(fd_names(pid))
                for known in before[name][1]:
                    if known in more:
                        more.remove(known)
                self.assertLessEqual(fd_count(pid), before[name][0], "%s has more: %r" % (name, more[:20]))

    def measure(self, client):
        """What is held while nothing goes on, with the place made ahead for the next process."""
        status = client.status()
        run = self.sh(client, "exit 0")
        self.ended(client, run["id"], for_="empty")
        client.remove(run["id"])
        if status["cgroup"]:
            ahead = "/%d.1" % (run["id"] + 1)
            wait_until(lambda: any(name.endswith(ahead) for name in fd_names(status["engine_pid"])), what=ahead)
        pids = {"engine": status["engine_pid"], "keeper": status["keeper_pid"]}
        return pids, {name: (fd_count(pid), fd_names(pid)) for name, pid in pids.items()}

    def test_connections(self):
        client = self.client()
        run, _ = self.sh(client, "echo hello; read line", subscribe=True)

        def once(number):
            with self.daemon.client() as other:
                if number % 3 == 0:
                    other.subscribe(run["id"]).read_until(lambda r: r.kind == K_DATA)
                elif number % 3 == 1:
                    other.open_stdin(run["id"])
                    other.events(since=0)
                else:
                    other.submit("wait", {"targets": [run["id"]]})
            self.daemon.clients.remove(other)
        for number in range(30):
            once(number)
        pids, before = self.measure(client)
        memory = {name: rss_bytes(pid) for name, pid in pids.items()}
        for number in range(scale(200, 1000, 10000)):
            once(number)
        self.assert_same(pids, before, client)
        if not SANITIZED:
            for name, pid in pids.items():
                self.assertLess(rss_bytes(pid) - memory[name], 2 << 20,
                                "%s holds memory of connections" % name)
        self.assertEqual(client.show(run["id"])["subscribers"][1:], [])

    test_connections.seconds = 10

    def test_processes(self):
        client = self.client()

        def once(number):
            text = ("exit 3", "echo out; echo err >&2", "cat")[number % 3]
            run, subscription = self.sh(client, text, data=b"input", eof=True, subscribe={"until": "closed"},
                                        rm=True)
            subscription.collect()
            client.forget_stream(subscription)
        for number in range(30):
            once(number)
        wait_until(lambda: not client.list(), what="rm to remove them")
        pids, before = self.measure(client)
        memory = {name: rss_bytes(pid) for name, pid in pids.items()}
        for number in range(scale(60, 300, 10000)):
            once(number)
        wait_until(lambda: not client.list(), what="rm to remove them")
        self.assert_same(pids, before, client)
        if not SANITIZED:
            for name, pid in pids.items():
                self.assertLess(rss_bytes(pid) - memory[name], 4 << 20, "%s holds memory of processes" % name)
        used = sum(len(files) for _, _, files in os.walk(self.daemon.state_dir))
        self.assertLess(used, 40, "files of processes that were removed")

    test_processes.seconds = 10

    def test_failed_starts(self):
        client = self.client()
        self.sh(client, "exit 0", rm=True)

        def once():
            self.assert_error("spawn-failed", client.run, ["/nowhere/at/all"])
            self.assert_error("spawn-failed", client.run, ["/bin/true"], stdin={"file": "/nowhere"})
        for _ in range(5):
            once()
        pids, before = self.measure(client)
        for _ in range(scale(20, 100, 1000)):
            once()
        self.assert_same(pids, before, client)

    def test_processes_that_ended_hold_no_descriptor(self):
        """Kept for their history, a hundred ended processes cost no descriptor in either process."""
        client = self.client()
        self.ended(client, self.sh(client, "echo x")["id"], for_="empty")
        pids, before = self.measure(client)
        for _ in range(scale(30, 100, 1000)):
            run = self.sh(client, "echo x; echo y >&2")
        for process in client.list():
            self.ended(client, process["id"], for_="empty")
        self.assertEqual(client.show(run["id"])["log"]["end"], 4)
        self.assert_same(pids, before, client)
