# SPDX-License-Identifier: MIT
"""Real programs, driven as a person or a tool drives them: written to, and followed."""

import json
import os

from pmux_client import K_DATA, STDOUT
from pmux_test import ENV, PmuxTest, need


class Programs(PmuxTest):
    def start(self, argv, **params):
        client = self.client()
        params.setdefault("stderr", "stdout")
        run, subscription = client.run([need(argv[0]), *argv[1:]], env=ENV + ["TERM=dumb"], subscribe=True,
                                       **params)
        return client, run, subscription

    def say(self, client, run, subscription, text, wanted, timeout=60):
        client.write(run["id"], text.encode() + b"\n")
        return subscription.read_until_bytes(wanted, timeout)

    def test_python(self):
        client, run, out = self.start(["python3", "-i", "-q"])
        out.read_until_bytes(b">>> ")
        self.assertIn(b"42", self.say(client, run, out, "6 * 7", b">>> "))
        self.assertIn(b"ZeroDivisionError", self.say(client, run, out, "1 / 0", b">>> "))
        self.say(client, run, out, "x = 'ü' * 3", b">>> ")
        self.assertIn("üüü".encode(), self.say(client, run, out, "print(x)", b">>> "))
        client.close_stdin(run["id"])
        self.assert_code(self.ended(client, run["id"]), 0)

    def test_sqlite(self):
        client, run, out = self.start(["sqlite3", "-batch"])
        client.write(run["id"], b"create table t(a, b);\ninsert into t values (1, 'one'), (2, 'two');\n")
        self.say(client, run, out, "select b, a from t order by a desc;", b"two|2\none|1\n")
        self.assertIn(b"syntax error", self.say(client, run, out, "selekt;\nselect 'done';", b"done\n"))
        client.close_stdin(run["id"])
        exit_record = self.ended(client, run["id"])
        self.assertTrue(exit_record["known"])

    def test_bc(self):
        client, run, out = self.start(["bc", "-q"])
        self.say(client, run, out, "2^100", b"1267650600228229401496703205376\n")
        self.say(client, run, out, "scale=10; 1/3", b".3333333333\n")
        client.write(run["id"], b"quit\n")
        self.assert_code(self.ended(client, run["id"]), 0)

    def test_gdb(self):
        client, run, out = self.start(["gdb", "-q", "-nx", "-interpreter=mi2", "/bin/true"])
        out.read_until_bytes(b"(gdb)", 60)
        answer = self.say(client, run, out, '1-data-evaluate-expression "6*7"', b"1^done", 60)
        self.assertIn(b"1^done", answer)
        self.say(client, run, out, "2-gdb-exit", b"2^exit")
        self.assert_code(self.ended(client, run["id"]), 0)

    test_gdb.seconds = 5

    def test_node(self):
        client, run, out = self.start(["node", "-i"])
        out.read_until_bytes(b"> ", 60)
        self.assertIn(b"42", self.say(client, run, out, "6 * 7", b"> "))
        self.say(client, run, out, "'pm' + 'ux'", b"'pmux'")
        client.write(run["id"], b".exit\n")
        self.assert_code(self.ended(client, run["id"], timeout=60), 0)

    test_node.seconds = 5

    def test_clangd(self):
        """The language server protocol: frames over stdio, stderr apart."""
        source = os.path.join(self.tmp, "a.c")
        with open(source, "w") as file:
            file.write("int main(void) { return unknown; }\n")
        client, run, out = self.start(["clangd", "--log=error"], stderr="log", cwd=self.tmp)
        stream = client.open_stdin(run["id"])
        buffer = bytearray()

        def send(message):
            text = json.dumps(dict(message, jsonrpc="2.0")).encode()
            stream.write(b"Content-Length: %d\r\n\r\n" % len(text) + text)

        def receive():
            while True:
                head, found, rest = bytes(buffer).partition(b"\r\n\r\n")
                if found:
                    size = int(head.split(b"Content-Length:")[1].split(b"\r\n")[0])
                    if len(rest) >= size:
                        del buffer[:len(head) + 4 + size]
                        return json.loads(rest[:size])
                record = out.next(60)
                self.assertIsNotNone(record, "clangd ended")
                if record.kind == K_DATA and record.source == STDOUT:
                    buffer.extend(record.data)

        def until(predicate):
            while True:
                message = receive()
                if predicate(message):
                    return message

        send({"id": 1, "method": "initialize", "params": {"processId": None, "rootUri": "file://" + self.tmp,
                                                          "capabilities": {}}})
        answer = until(lambda m: m.get("id") == 1)
        self.assertIn("capabilities", answer["result"])
        send({"method": "initialized", "params": {}})
        uri = "file://" + source
        with open(source) as file:
            send({"method": "textDocument/didOpen", "params": {"textDocument": {
                "uri": uri, "languageId": "c", "version": 1, "text": file.read()}}})
        message = until(lambda m: m.get("method") == "textDocument/publishDiagnostics" and
                        m["params"]["diagnostics"])
        self.assertIn("unknown", message["params"]["diagnostics"][0]["message"])
        send({"id": 2, "method": "shutdown"})
        until(lambda m: m.get("id") == 2)
        send({"method": "exit"})
        self.assert_code(self.ended(client, run["id"]), 0)

    test_clangd.seconds = 8

    def test_bc_by_the_command_line(self):
        self.daemon.cli("run", "-d", "-n", "calc", "--", need("bc"), "-q", check=0)
        follow = self.daemon.cli_start("follow", "calc")
        self.addCleanup(follow.stdout.close)
        self.addCleanup(follow.stderr.close)
        self.addCleanup(follow.wait)
        self.daemon.cli("write", "calc", "3*4", check=0)
        self.assertEqual(follow.stdout.readline(), b"12\n")
        self.daemon.cli("send", "calc", "5*5", check=0)
        self.assertEqual(follow.stdout.readline(), b"25\n")
        self.daemon.cli("write", "--eof", "calc", "7*7", check=0)
        self.assertEqual(follow.stdout.readline(), b"49\n")
        self.assertEqual(follow.wait(20), 0)
        self.daemon.cli("wait", "calc", check=0)
