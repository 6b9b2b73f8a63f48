# SPDX-License-Identifier: MIT
"""The tests' own client against a daemon made up in Python: it goes on over breaks, and sees each breach."""

import os

from fake_daemon import FakeDaemon
from pmux_client import K_DATA, K_EXIT, K_START, Client, Violation, decode_bytes, encode_bytes
from pmux_test import PmuxTest, Sequence


class ClientItself(PmuxTest):
    expect_violations = True

    def fake(self, size=200_000, **options):
        sequence = Sequence(1)
        output = b"".join(sequence.block(i) for i in range(size // 4096))
        path = os.path.join(self.tmp, "fake")
        fake = FakeDaemon(path, output, **options)
        self.addCleanup(fake.close)
        return path, fake

    def test_subscription_over_breaks(self):
        n_connections = 0
        for seed in range(5):
            with self.subTest(seed=seed):
                self._tmp = None
                path, fake = self.fake(cut=0.02, seed=seed)
                with Client(path, reconnect=True) as client:
                    subscription = client.subscribe(1, credit=20_000)
                    records = subscription.collect()
                    self.assertEqual(client.violations, [])
                self.assertEqual(b"".join(r.data for r in records if r.kind == K_DATA), fake.output)
                kinds = [r.kind for r in records]
                self.assertEqual((kinds.count(K_START), kinds.count(K_EXIT)), (1, 1))
                n_connections += fake.n_connections
        self.assertGreater(n_connections, 5)

    def test_stdin_over_breaks(self):
        path, fake = self.fake(cut=0.05)
        with Client(path, reconnect=True) as client:
            stream = client.open_stdin(1)
            data = fake.output * 3
            stream.write(data, piece=5000, eof=True)
            stream.wait_accepted()
        self.assertEqual(fake.input, data)
        self.assertGreater(fake.n_connections, 1)

    def test_run_over_breaks(self):
        path, fake = self.fake(cut=0.3, size=20_000)
        with Client(path, reconnect=True) as client:
            ids = []
            for _ in range(20):
                result, subscription = client.run(["x"], subscribe=True)
                ids.append(result["id"])
                self.assertEqual(b"".join(r.data for r in subscription.collect() if r.kind == K_DATA),
                                 fake.output)
        self.assertEqual(ids, list(range(1, 21)))

    def test_each_breach_is_seen(self):
        for tamper in ("credit", "offset", "time", "flags"):
            with self.subTest(tamper):
                self._tmp = None
                path, _ = self.fake(tamper=tamper)
                with Client(path) as client:
                    subscription = client.subscribe(1, credit=10_000)
                    with self.assertRaises(Violation):
                        subscription.auto_credit = tamper != "credit"
                        subscription.collect()

    def test_bytes_in_json(self):
        for value in (b"", b"plain", "é😀".encode(), b"\xff", b"a\0b", b"\xed\xa0\x80"):
            self.assertEqual(decode_bytes(encode_bytes(value)), value)
        self.assertEqual(encode_bytes(b"\xff"), {"base64": "/w=="})

    def test_a_wrong_byte_is_seen(self):
        sequence = Sequence(1)
        block = bytearray(sequence.block(0) + sequence.block(1))
        sequence.feed(block)
        block[5000] ^= 1
        for wrong in (bytes(block), Sequence(1).block(1), sequence.block(0) * 2,
                      sequence.block(0)[1:] + bytes(4097)):
            with self.assertRaises(AssertionError):
                Sequence(1).feed(wrong)
        short = Sequence(1)
        short.feed(sequence.block(0)[:4000])
        self.assertEqual(short.finish(), 4000)
