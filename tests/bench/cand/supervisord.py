# SPDX-License-Identifier: MIT
"""supervisord: XML-RPC over its Unix socket; output by way of its log files."""
import os
import socket
import time
import xmlrpc.client

from core import MIB, Candidate, Cmd, Skip, cpu_ns, now, payload, wait_for

EXITED = 100


class Supervisord(Candidate):
    name = "supervisord"
    minfds = 1024
    max_stream = 32 * MIB  # tail -f costs more than in proportion to the backlog

    def missing(self): return self.need("supervisord", "supervisorctl")

    def start(self):
        self.programs, self.p, self.rpc_sock, self.conf = {}, None, None, self.path("conf")

    def up(self, **programs):
        """Start supervisord with these programs: name -> (command, extra lines)."""
        self.programs = programs
        with open(self.conf, "w") as f:
            f.write(f"""[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={self.path('pid')}
childlogdir={self.dir}
minfds={self.minfds}
minprocs=200
[unix_http_server]
file={self.path('s')}
[supervisorctl]
serverurl=unix://{self.path('s')}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
""")
            for name, (cmd, extra) in programs.items():
                f.write(f"[program:{name}]\ncommand={cmd}\nstartsecs=0\nautorestart=false\n"
                        f"stdout_logfile_maxbytes=0\nstderr_logfile=NONE\n{extra}\n")
        self.run()

    def run(self):
        if os.path.exists(self.path("s")):
            os.unlink(self.path("s"))
        self.p = self.box.popen(["supervisord", "-c", self.conf],
                                stdout=open(self.path("out"), "ab"))
        wait_for(lambda: os.path.exists(self.path("s")), 30, what="supervisord's socket")
        self.rpc_sock = self.connect()

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        wait_for(lambda: s.connect_ex(self.path("s")) == 0, 10, what="supervisord to listen")
        return s

    def stop(self):
        if self.rpc_sock:
            self.rpc_sock.close()

    def pids(self): return [self.p.pid]

    def rpc(self, method, *args):
        """One XML-RPC call on the kept-alive connection."""
        body = xmlrpc.client.dumps(args, "supervisor." + method).encode()
        self.rpc_sock.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
                              b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.recv()
        head, data = data.split(b"\r\n\r\n", 1)
        length = next(int(l.split(b":")[1]) for l in head.split(b"\r\n")
                      if l.lower().startswith(b"content-length"))
        while len(data) < length:
            data += self.recv()
        return xmlrpc.client.loads(data)[0][0]

    def recv(self):
        d = self.rpc_sock.recv(1 << 20)
        if not d:
            raise Skip("connection closed")
        return d

    def spawn_wait(self, n):
        self.up(job=("/bin/true", f"autostart=false\nstdout_logfile={self.path('log')}"))
        out = []
        for _ in range(n):
            t = now()
            self.rpc("startProcess", "job", False)
            while self.rpc("getProcessInfo", "job")["state"] != EXITED:
                pass
            out.append(now() - t)
        return out

    def oneshot(self):
        self.up(job=("/bin/true", f"autostart=false\nstdout_logfile={self.path('log')}"))
        return [Cmd("supervisorctl start", "started",
                    ["supervisorctl", "-c", self.conf, "start", "job"])]

    def echo(self, n):
        self.up(job=("cat", f"stdout_logfile={self.path('log')}"))
        line, at, out = "a" * 31 + "\n", 0, []
        time.sleep(0.3)
        for _ in range(n):
            t = now()
            self.rpc("sendProcessStdin", "job", line)
            while len(self.rpc("readProcessStdoutLog", "job", at, 32)) < 32:
                pass
            out.append(now() - t)
            at += 32
        return out

    def tail(self):
        """A connection that follows the log, as `supervisorctl tail -f` does."""
        s = self.connect()
        s.sendall(b"GET /logtail/job/stdout HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
        return s.detach()

    def stream(self, argv, clients):
        self.up(job=(" ".join(argv), f"stdout_logfile={self.path('log')}"))
        wait_for(lambda: os.path.exists(self.path("log")), 10)
        fds = [self.tail() for _ in range(clients)]
        time.sleep(0.5)
        return fds

    def spawn_many(self, n):
        self.minfds = max(1024, 4 * n)
        self.up(job=(f"{self.box.sleeper} 1000000",
                     f"numprocs={n}\nprocess_name=%(process_num)d\nstdout_logfile=NONE"))
        self.minfds = 1024

    def list_cmd(self):
        return ["supervisorctl", "-c", self.conf, "status"], None

    def keep(self, argvs):
        self.up(**{f"job{i}": (" ".join(a), f"stdout_logfile={self.path(f'log{i}')}")
                   for i, a in enumerate(argvs)})

    def restart(self): self.run()

    def running(self):
        return {i["pid"] for i in self.rpc("getAllProcessInfo") if i["pid"]}

    def output(self, i):
        with open(self.path(f"log{i}"), "rb") as f:
            return f.read()

    def status(self, i):
        r = self.rpc("getProcessInfo", f"job{i}")
        return r["exitstatus"] if r["state"] == EXITED else None


class SupervisordLog(Supervisord):
    """The same up to the log file only: complete when the file is."""
    name = "supervisord-log"
    why = {n: "as supervisord" for n in (1, 2, 3, 5, 6, 7, 8)}
    max_stream = Candidate.max_stream

    def stream(self, argv, clients): raise Skip("-")

    def pump(self, argv, gate, lines):
        self.up(job=(" ".join(argv), f"stdout_logfile={self.path('log')}"))
        cpu, total = cpu_ns(self.pids()), int(argv[-2])
        t = gate.open()
        wait_for(lambda: os.path.getsize(self.path("log")) >= total, 60, 0.002)
        return t, now(), payload(total, int(argv[-1])), cpu_ns(self.pids()) - cpu


class SupervisordTail(Supervisord):
    """The same, with the echo observed through a followed log."""
    name = "supervisord-tail-f"
    why = {n: "as supervisord" for n in (1, 2, 4, 5, 6, 7, 8)}

    def echo(self, n):
        self.up(job=("cat", f"stdout_logfile={self.path('log')}"))
        time.sleep(0.3)
        s = socket.socket(fileno=self.tail())
        s.settimeout(0.5)
        try:
            while s.recv(65536):
                pass
        except TimeoutError:
            pass
        s.settimeout(5)
        out = []
        for i in range(min(n, 8)):  # each takes a second
            mark = b"%031d" % i
            data = b""
            t = now()
            self.rpc("sendProcessStdin", "job", mark.decode() + "\n")
            while mark not in data:
                data += s.recv(65536)
            out.append(now() - t)
        s.close()
        return out
