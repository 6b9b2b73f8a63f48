# SPDX-License-Identifier: MIT
"""follower.py SOCKET TARGET SEED [KEY=VALUE…]: a follower as a process of its own, to be stopped.

Writes "begun" once it has its first byte, and at the end one JSON object: bytes checked, gaps, reason.
"""

import json
import sys

from pmux_client import K_DATA, K_GAP, Client
from pmux_test import Sequence


def main():
    path, target, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    params = dict(p.split("=", 1) for p in sys.argv[4:])
    params = {k: json.loads(v) for k, v in params.items()}
    gaps, n_bytes, begun = [], 0, False
    sequence = Sequence(seed)
    blocks = b"".join(sequence.block(0) for _ in range((1 << 20) // 4096 + 2))
    with Client(path) as client:
        subscription = client.subscribe(target, **params)
        while True:
            record = subscription.next(600)
            if record is None:
                break
            if record.kind == K_GAP:
                gaps.append([record.offset, record.arg])
            elif record.kind == K_DATA:
                # Only stdout is written: the offset is the place in the sequence. Numbers are at 8 to 16.
                begin = record.offset % 4096
                want = bytearray(blocks[begin:begin + len(record.data)])
                for at in range(-begin, len(want), 4096):
                    number = ((record.offset + at) // 4096).to_bytes(8, "little")
                    for i in range(8):
                        if 0 <= at + 8 + i < len(want):
                            want[at + 8 + i] = number[i]
                if bytes(want) != record.data:
                    raise AssertionError("wrong bytes at %d" % record.offset)
                n_bytes += len(record.data)
            if not begun and record.kind == K_DATA:
                begun = True
                print("begun", flush=True)
        print(json.dumps({"bytes": n_bytes, "gaps": gaps, "reason": subscription.end_reason,
                          "violations": client.violations, "end": subscription.next_offset}), flush=True)


main()
