# SPDX-License-Identifier: MIT
"""What the asyncio candidates run; latencies are printed in ns, one per line."""
import asyncio
import resource
import sys
import time

PIPE = asyncio.subprocess.PIPE


async def spawn(n):
    for _ in range(n):
        t = time.monotonic_ns()
        p = await asyncio.create_subprocess_exec("/bin/true", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await p.wait()
        print(time.monotonic_ns() - t)


async def echo(n):
    p = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    line = b"a" * 31 + b"\n"
    for _ in range(n):
        t = time.monotonic_ns()
        p.stdin.write(line)
        await p.stdin.drain()
        await p.stdout.readline()
        print(time.monotonic_ns() - t)
    p.stdin.close()
    await p.wait()


async def read(argv, lines):
    p = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    got = 0
    if lines:
        async for line in p.stdout:
            got += len(line)
    else:
        while data := await p.stdout.read(65536):
            got += len(data)
    print(time.monotonic_ns(), got, time.process_time_ns(), flush=True)
    await p.wait()


async def many(n, sleeper):
    keep = []
    for _ in range(n):
        keep.append(await asyncio.create_subprocess_exec(sleeper, "1000000", stdin=PIPE,
                                                         stdout=PIPE, stderr=PIPE))
    await asyncio.Event().wait()


async def keep(argvs):
    async def one(argv):
        p = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        while await p.stdout.read(65536):
            pass
    tasks = [asyncio.ensure_future(one(a.split("\t"))) for a in argvs]
    await asyncio.sleep(0.5)
    print("ready", flush=True)
    await asyncio.gather(*tasks)


async def serve(drain, path, argv):
    clients = set()
    p = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)

    async def client(r, w):
        clients.add(w)
        while data := await r.read(65536):
            p.stdin.write(data)
            await p.stdin.drain()
        clients.discard(w)

    server = await asyncio.start_unix_server(client, path)
    while data := await p.stdout.read(65536):
        for w in clients:
            w.write(data)
        if drain == "drain":
            for w in list(clients):
                await w.drain()
    for w in clients:
        w.close()
    server.close()
    await asyncio.sleep(60)


if __name__ == "__main__":
    cmd, args = sys.argv[1], sys.argv[2:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run({
        "spawn": lambda: spawn(int(args[0])),
        "echo": lambda: echo(int(args[0])),
        "read": lambda: read(args, False),
        "lines": lambda: read(args, True),
        "many": lambda: many(int(args[0]), args[1]),
        "keep": lambda: keep(args),
        "serve": lambda: serve(args[0], args[1], args[2:]),
    }[cmd]())
