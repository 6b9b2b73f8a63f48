# SPDX-License-Identifier: MIT
"""Bytes are bytes: arguments, environment, paths, names and streams carry any of them."""

import base64
import json
import os

from pmux_client import decode_bytes
from pmux_test import ENV, PmuxTest, need, scale, split

ALL_BUT_NUL = bytes(range(1, 256))
ALL = bytes(range(256))
SHOW_ARGS = """import os, sys
for a in map(os.fsencode, sys.argv[1:]):
    os.write(1, b'%d:' % len(a) + a)"""
SHOW_ENV = "import os\nfor k in sorted(os.environb): os.write(1, k + b'=' + os.environb[k] + b'\\0')"


def netstrings(items):
    return b"".join(b"%d:" % len(i) + i for i in items)


class Bytes(PmuxTest):
    def python(self, client, text, *args, env=ENV, **params):
        run, subscription = client.run([need("python3"), "-c", text, *args], env=env, subscribe=True,
                                       **params)
        records = subscription.collect()
        self.assert_code(self.ended(client, run["id"]), 0)
        return split(records)[0], run

    def test_arguments(self):
        client = self.client()
        args = [b"", ALL_BUT_NUL, b"\xff\xfe", "é – 😀".encode(), b"", b"\n", b" ", b"--", b"-n",
                b'"quoted" \\', b"\x80", b""]
        out, run = self.python(client, SHOW_ARGS, *args)
        self.assertEqual(out, netstrings(args))
        shown = client.show(run["id"])["argv"]
        self.assertEqual([decode_bytes(a) for a in shown[3:]], args)

    def test_environment_is_what_was_asked_for(self):
        client = self.client()
        env = [b"A=", b"B=" + ALL_BUT_NUL, b"\xff\xfe=x", "Ü=😀".encode(), b"LC_ALL=C.UTF-8",
               b"PATH=/usr/bin:/bin"]
        run, subscription = client.run(["/usr/bin/env", "-0"], env=env, subscribe=True)
        out = split(subscription.collect())[0]
        got = out.split(b"\0")[:-1]
        self.assertEqual(sorted(e for e in got if not e.startswith(b"PMUX_")), sorted(env))
        self.assertEqual([decode_bytes(e) for e in client.show(run["id"])["env"]], env)

    def test_the_daemon_environment_does_not_leak(self):
        daemon = self.new_daemon(env={"SECRET_OF_THE_DAEMON": "x"})
        client = daemon.client()
        run, subscription = client.run(["/usr/bin/env", "-0"], env=["A=1"], subscribe=True)
        names = sorted(e.split(b"=")[0] for e in split(subscription.collect())[0].split(b"\0")[:-1])
        self.assertEqual([n for n in names if not n.startswith(b"PMUX_")], [b"A"])
        run, subscription = client.run(["/usr/bin/env", "-0"], subscribe=True)
        names = sorted(e.split(b"=")[0] for e in split(subscription.collect())[0].split(b"\0")[:-1])
        self.assertEqual([n for n in names if not n.startswith(b"PMUX_")], [])

    def test_descriptors_signals_and_umask_do_not_leak(self):
        client = self.client()
        text = ("import os, signal\n"
                "print(sorted(int(f) for f in os.listdir('/proc/self/fd'))[:-1])\n"
                "status = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
                "ignored = int(status['SigIgn'], 16) & ~(1 << 12 | 1 << 24)\n"
                "print(int(status['SigBlk'], 16), ignored, status['Umask'].strip())\n")
        out, _ = self.python(client, text)
        self.assertEqual(out.decode().splitlines()[0], "[0, 1, 2]")
        # Python itself ignores SIGPIPE (13) and SIGXFSZ (25); a shell tells about those.
        self.assertEqual(out.decode().splitlines()[1], "0 0 0022")
        run, subscription = self.sh(client, "grep -E 'SigIgn|SigBlk|Umask' /proc/self/status", umask=0o27,
                                    subscribe=True)
        values = [line.split()[1] for line in split(subscription.collect())[0].decode().splitlines()]
        self.assertEqual([int(values[0], 8), int(values[1], 16), int(values[2], 16)], [0o27, 0, 0])

    def test_a_mebibyte_of_arguments(self):
        client = self.client()
        args = [bytes([65 + i]) * (128 * 1024 - 16) for i in range(8)]
        out, _ = self.python(client, SHOW_ARGS, *args)
        self.assertEqual(out, netstrings(args))
        many = [b"%d" % i for i in range(30000)]
        out, _ = self.python(client, SHOW_ARGS, *many)
        self.assertEqual(out, netstrings(many))

    def test_a_larger_argument_is_refused_with_its_errno(self):
        client = self.client()
        for args in ([b"x" * (128 * 1024)], [b"x" * 120_000] * 40):
            error = self.assert_error("spawn-failed", client.run, ["/bin/true", *args])
            self.assertEqual((error.errno_name, error.step), ("E2BIG", "exec"), error)
        self.assertEqual(client.list(), [], "the process of a failed run is removed again")
        done = self.daemon.cli("run", "--", "/bin/true", "x" * 100)
        self.assertEqual(done.returncode, 0)

    def test_nul_is_refused(self):
        client = self.client()
        for params in ({"argv": ["/bin/echo", "a\0b"]}, {"argv": ["/bin/true"], "env": ["A=\0"]},
                       {"argv": ["/bin/true"], "cwd": "/\0"}, {"argv": ["/bin/true"], "name": "a\0b"},
                       {"argv": [{"base64": base64.b64encode(b"/bin/true\0").decode()}]}):
            self.assert_error("invalid-argument", client.call, "run", params)

    def test_names(self):
        client = self.client()
        for name in (b"plain", "prénom 😀".encode(), b"\xff\xfe", b"with space", b"x" * 128, b"-n", b"1a"):
            run = client.run(["/bin/true"], name=name)
            self.assertEqual(decode_bytes(run["name"]), name)
            self.assertEqual(client.show(name)["id"], run["id"])
        for name in (b"", b"x" * 129, b"a/b", b"123", b"a\nb", b"\x7f", b"a*", b"a?", b"a[", b"\x1b"):
            self.assert_error("invalid-argument", client.run, ["/bin/true"], name=name)
        self.assert_error("exists", client.run, ["/bin/true"], name="plain")

    def test_paths(self):
        client = self.client()
        base = os.fsencode(self.tmp)
        directory = os.path.join(base, b"d\xff \n\xfe")
        os.mkdir(directory)
        with open(os.path.join(directory, b"in"), "wb") as file:
            file.write(ALL)
        run = self.sh(client, "pwd >&2; cat", cwd=directory, stdin={"file": os.path.join(directory, b"in")},
                      stdout={"file": os.path.join(directory, b"out\x80")},
                      stderr={"file": os.path.join(directory, b"err\x80")})
        self.assert_code(self.ended(client, run["id"]), 0)
        with open(os.path.join(directory, b"out\x80"), "rb") as file:
            self.assertEqual(file.read(), ALL)
        with open(os.path.join(directory, b"err\x80"), "rb") as file:
            self.assertEqual(file.read(), directory + b"\n")
        self.assertEqual(decode_bytes(client.show(run["id"])["cwd"]), directory)
        for params in ({"cwd": "relative"}, {"stdin": {"file": "relative"}},
                       {"stdout": {"file": "relative"}}):
            self.assert_error("invalid-argument", client.run, ["/bin/true"], **params)
        self.assertEqual(self.assert_error("spawn-failed", client.run, ["/bin/true"], cwd="/nowhere").step,
                         "chdir")
        error = self.assert_error("spawn-failed", client.run, ["/bin/true"], stdin={"file": "/nowhere"})
        self.assertEqual((error.step, error.errno_name), ("stdin", "ENOENT"))
        self.assertEqual(self.assert_error("spawn-failed", client.run, ["nowhere-to-be-found"]).errno_name,
                         "ENOENT")
        self.assertEqual(self.assert_error("spawn-failed", client.run, ["/etc/passwd"]).errno_name, "EACCES")

    def test_output_files_are_appended_to(self):
        client = self.client()
        path = os.path.join(self.tmp, "out")
        for _ in range(2):
            run = self.sh(client, "echo x", stdout={"file": path})
            self.ended(client, run["id"])
        with open(path) as file:
            self.assertEqual(file.read(), "x\nx\n")

    def test_streams(self):
        client = self.client()
        data = ALL * scale(16, 256, 4096) + b"\xf0\x9f\x98"  # ends in the middle of a character
        run, subscription = client.run(["/bin/cat"], subscribe=True)
        stream = client.open_stdin(run["id"])
        stream.write(data, eof=True)
        self.assertEqual(split(subscription.collect())[0], data)
        run, subscription = client.run(["/bin/cat"], data=ALL, eof=True, subscribe=True)
        self.assertEqual(split(subscription.collect())[0], ALL)

    def test_cli_carries_any_byte(self):
        script = "import os, sys\nos.write(1, os.fsencode(sys.argv[1])); os.write(1, sys.stdin.buffer.read())"
        done = self.daemon.cli("run", "--", need("python3"), "-c", script, ALL_BUT_NUL, input=ALL * 100,
                               check=0)
        self.assertEqual(done.stdout, ALL_BUT_NUL + ALL * 100)
        client = self.client()
        run = client.run(["/bin/cat"], name=b"n\xff")
        self.daemon.cli("write", b"n\xff", input=ALL, check=0)
        self.daemon.cli("write", "-N", "--eof", b"n\xff", b"\xfe", check=0)
        self.assert_code(self.ended(client, run["id"]), 0)
        self.assertEqual(self.daemon.cli("logs", b"n\xff", check=0).stdout, ALL + b"\xfe")

    def test_json_of_every_verb_is_valid(self):
        name = b"j\xff"
        target = name
        cli = self.daemon.cli
        run = cli("--json", "run", "-d", "-n", name, "-e", b"X=\xfe", "--", "/bin/sh", "-c",
                  b"printf 'a\\377b\\nc\\360\\237\\230\\200\\n'; printf '\\376' >&2; cat; : \xfd", check=0)
        objects = self.json_lines(run.stdout)
        self.assertEqual(decode_bytes(objects[0]["name"]), name)
        number = str(objects[0]["id"])
        self.json_lines(cli("--json", "write", target, b"\xfc", check=0).stdout)
        for verb in (["ps", "-a"], ["status", target], ["show", target], ["list", "-a"], ["version"],
                     ["daemon", "status"],
                     ["events", "--since", "0"], ["pause", target], ["resume", target]):
            with self.subTest(verb=verb):
                done = cli("--json", *verb, timeout=20)
                self.assertEqual(done.returncode, 0, (verb, done.stderr))
                self.assertTrue(self.json_lines(done.stdout), verb)
        self.json_lines(cli("--json", "close-stdin", target, check=0).stdout)
        waited = self.json_lines(cli("--json", "wait", target, check=0).stdout)
        self.assertTrue(waited)
        logs = self.json_lines(cli("--json", "logs", target, check=0).stdout)
        self.assertTrue(logs)
        text = json.dumps(logs)
        self.assertIn("base64", text)
        for verb in (["start", target], ["stop", target], ["restart", target], ["signal", "-s", "TERM",
                target],
                     ["stop", "--now", number], ["logs", target], ["rm", target]):
            with self.subTest(verb=verb):
                done = cli("--json", *verb, timeout=30)
                self.assertEqual(done.returncode, 0, (verb, done.stderr))
                self.json_lines(done.stdout)
        for verb in (["show", "nobody"], ["logs", "nobody"], ["stop", "nobody"], ["write", "nobody", "x"]):
            with self.subTest(verb=verb):
                done = cli("--json", *verb)
                self.assertEqual(done.returncode, 4, (verb, done.stdout, done.stderr))
                self.json_lines(done.stdout)

    def test_json_of_a_run_with_its_output(self):
        done = self.daemon.cli("--json", "run", "--", "/bin/sh", "-c",
                               "printf 'x\\377'; printf 'é' >&2; exit 126")
        objects = self.json_lines(done.stdout)
        self.assertEqual(done.returncode, 126)
        self.assertTrue(objects)

    def test_json_never_cuts_a_character(self):
        """Text that comes in many pieces is text in every piece, whatever the pieces are."""
        client = self.client()
        text = "🙂é" * scale(2000, 20000, 200000)
        run = client.run(["/bin/cat"])
        stream = client.open_stdin(run["id"])
        stream.write(text.encode(), eof=True, piece=1001)
        self.assert_code(self.ended(client, run["id"]), 0)
        logs = self.daemon.cli("--json", "logs", str(run["id"]), check=0)
        self.assertNotIn(b"base64", logs.stdout)
        raw = self.daemon.cli("logs", str(run["id"]), check=0)
        self.assertEqual(raw.stdout.decode(), text)
