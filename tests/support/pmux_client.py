# SPDX-License-Identifier: MIT
"""A client of pmuxd in Python, written from docs/protocol.md and from nothing else.

It is the proof that the page is complete, and the instrument of the integration tests: it checks what the
page promises while it uses it (frame bounds, continuity of offsets, times that never go backwards, credit)
and keeps each breach in Client.violations. Standard library only.

One thread reads, one sends; callers wait on conditions, each with a deadline. With reconnect=True a broken
connection is made anew and everything goes on: requests are repeated (with keys), subscriptions resumed after
the last byte, stdin streams opened again under the same writer.
"""

import base64
import collections
import json
import os
import socket
import struct
import threading
import time

HELLO, CONTROL, DATA, INPUT, CREDIT, ACK, GOODBYE = range(1, 8)

HEADER = struct.Struct("<IBBHI")
HELLO_REQUEST = struct.Struct("<4sHHI")
HELLO_ANSWER = struct.Struct("<4sHHII16s")
RECORD = struct.Struct("<QQIBBH")
U64 = struct.Struct("<Q")
ACK_PAYLOAD = struct.Struct("<QQQ")

# The largest payload of what the daemon may send, by frame type.
DAEMON_BOUNDS = {HELLO: 64 << 10, CONTROL: 64 << 20, DATA: (1 << 20) + 24, ACK: 24, GOODBYE: 64 << 10}

K_DATA, K_GAP, K_START, K_INPUT, K_SIGNAL, K_RESIZE, K_CLOSED, K_EXIT, K_EMPTY, K_WRITER = range(1, 11)
K_END = 15
KIND_NAMES = {1: "data", 2: "gap", 3: "start", 4: "input", 5: "signal", 6: "resize", 7: "closed", 8: "exit",
              9: "empty", 10: "writer", 15: "end"}
STDOUT, STDERR, STDIN = 1, 2, 3
SOURCE_NAMES = {1: "stdout", 2: "stderr", 3: "stdin"}
END_REACHED, END_REMOVED, END_CANCELLED, END_UNREADABLE = range(4)
NO_LIMIT = (1 << 63) - 1
DEFAULT_CREDIT = 1 << 20
DEFAULT_TIMEOUT = 30.0

# What may be repeated on a new connection without a key, as the page says or as its meaning allows.
HARMLESS = {"stop", "pause", "resume", "list", "show", "subscribe", "unsubscribe", "open-stdin",
            "close-stream",
            "close-stdin", "wait", "events", "renew", "lock-stdin", "unlock-stdin", "daemon-status", "version", "remove", "cancel-input",
            "cursors", "set-cursor"}
KEYED = {"run", "start", "restart", "write", "read", "ask"}
NULL = object()  # a member of params that is JSON null; None leaves it out


class Deadline(TimeoutError):
    """Something that was waited for did not happen in time."""


class ConnectionLost(Exception):
    """The connection broke; goodbye holds the daemon's reason when it gave one."""

    def __init__(self, text, goodbye=None):
        super().__init__(text if goodbye is None else "%s: %r" % (text, goodbye))
        self.goodbye = goodbye


class Violation(Exception):
    """The daemon did what docs/protocol.md rules out."""


class RpcError(Exception):
    """An error answer."""

    def __init__(self, error):
        data = error.get("data") or {}
        super().__init__("%s (%s, errno %s %s, step %s)" % (error.get("message"), data.get("code"),
                         data.get("errno"), data.get("errno_name"), data.get("step")))
        self.rpc_code = error.get("code")
        self.message = error.get("message")
        self.name = data.get("code")
        self.errno = data.get("errno")
        self.errno_name = data.get("errno_name")
        self.step = data.get("step")
        self.error = error


Record = collections.namedtuple("Record", "offset time run kind source data arg")


def encode_bytes(value):
    """Bytes as JSON: a string when they are UTF-8, else {"base64": …}."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    value = bytes(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def decode_bytes(value):
    """The reverse of encode_bytes(); None stays None."""
    if value is None:
        return None
    if isinstance(value, dict):
        return base64.b64decode(value["base64"], validate=True)
    return value.encode("utf-8")


def exit_word(arg):
    """An exit record's argument as (code, signal, core, unknown)."""
    return arg & 0xff, (arg >> 8) & 0xff, bool(arg & 0x10000), bool(arg & 0x20000)


def frame(kind, payload=b"", stream=0, flags=0):
    return HEADER.pack(len(payload), kind, flags, 0, stream) + payload


def hello_frame(lowest=1, highest=1, features=0):
    return frame(HELLO, HELLO_REQUEST.pack(b"PMUX", lowest, highest, features))


def random_key():
    return base64.b16encode(os.urandom(16)).decode("ascii").lower()


class Pending:
    """One request in flight."""

    def __init__(self, client, request_id, method, params, on_done=None, fds=()):
        self.client = client
        self.id = request_id
        self.method = method
        self.params = params
        self.fds = fds
        self.on_done = on_done  # called by the reading thread, client's lock held
        self.done = False
        self.value = None
        self.error = None
        self.n_sent = 0
        self.convert = None  # of the result, for whoever asks for it

    def result(self, timeout=DEFAULT_TIMEOUT):
        self.client._wait(lambda: self.done, timeout, "the answer to %s" % self.method)
        if self.error is not None:
            raise self.error
        return self.convert(self.value) if self.convert else self.value

    def _finish(self, value=None, error=None):
        self.value, self.error = value, error
        if self.on_done:
            self.on_done(self)
        self.done = True


class Subscription:
    """A cursor on one process's log."""

    def __init__(self, client, stream, params, auto_credit=True):
        self.client = client
        self.stream = stream
        self.params = params
        self.window = params.get("credit", DEFAULT_CREDIT)
        self.auto_credit = auto_credit
        self.sources = params.get("sources", ["stdout", "stderr"])
        # Of a process with a transcript the default leaves bytes out, too.
        self.filtered = "sources" in params and len(params["sources"]) < 3
        self.target = params.get("target")
        self.opened = False
        self.begin = None            # the offset it began at
        self.next_offset = None      # after the last byte or record
        self.last_time = 0
        self.end_reason = None       # argument of the end record
        self.end_offset = None
        self.error = None
        self.n_resumed = 0
        self.n_data_bytes = 0        # data bytes received
        self._queue = collections.deque()
        self._received = 0           # payload bytes on this connection, end records not counted
        self._consumed = 0
        self._granted = self.window
        self._seen_here = []         # records without bytes at next_offset
        self._skip = []

    # The reading thread, with the client's lock held.
    def _on_open(self, pending):
        if pending.error is not None:
            self.error = pending.error
            return
        result = pending.value
        self.opened = True
        # The answer of run, start and restart is their own: the subscription begins where the run does.
        begin = result.get("from", result.get("offset"))
        if self.begin is None:
            self.begin = begin
            self.next_offset = begin
        if self.target is None:
            self.target = result["id"]

    def _resume_params(self):
        params = {k: v for k, v in self.params.items() if k not in ("from", "since_usec", "last_lines")}
        params["target"] = self.target
        params["stream"] = self.stream
        params["from"] = self.next_offset
        if "head_bytes" in params:
            params["head_bytes"] = max(params["head_bytes"] - self.n_data_bytes, 0)
        return params

    def _on_resume(self):
        self._received = 0
        self._consumed = -sum(24 + len(r.data) if r.kind == K_DATA else 32 for r in self._queue)
        self._granted = self.window
        self._skip = list(self._seen_here)
        self.n_resumed += 1

    def _on_frame(self, payload):
        if len(payload) < 24:
            raise Violation("DATA frame of %d bytes" % len(payload))
        offset, when, run, kind, source, zero = RECORD.unpack_from(payload)
        if zero:
            raise Violation("DATA header is not zero where it must be")
        if kind not in KIND_NAMES:
            raise Violation("DATA record of kind %d" % kind)
        if self.end_reason is not None:
            raise Violation("a frame after the end of stream %d" % self.stream)
        if kind == K_DATA:
            data = payload[24:]
            arg = 0
            if not data:
                raise Violation("data record without bytes")
            if source not in (STDOUT, STDERR, STDIN) or SOURCE_NAMES[source] not in self.sources:
                raise Violation("data record of source %d" % source)
        else:
            data = b""
            if len(payload) != 32:
                raise Violation("record of kind %s with %d bytes" % (KIND_NAMES[kind], len(payload)))
            arg = U64.unpack_from(payload, 24)[0]
        if kind == K_END:
            self.end_reason = arg
            self.end_offset = offset
            return
        self._received += len(payload)
        if self._received > self._granted:
            raise Violation("stream %d: %d bytes of payload, credit is %d" % (self.stream, self._received,
                                                                              self._granted))
        if self.next_offset is not None:
            if offset < self.next_offset:
                raise Violation("offset goes back from %d to %d" % (self.next_offset, offset))
            if offset > self.next_offset and not self.filtered:
                raise Violation("offset jumps from %d to %d without a gap record" % (self.next_offset,
                        offset))
        length = len(data) if kind == K_DATA else arg if kind == K_GAP else 0
        if length == 0:
            mark = (offset, kind, source, run, when, arg)
            if mark in self._skip:
                self._skip.remove(mark)
                self._consumed += len(payload)
                return
            if offset != self.next_offset:
                self._seen_here = []
            self._seen_here.append(mark)
        else:
            self._seen_here = []
            self._skip = []
        if when < self.last_time and kind != K_GAP:
            raise Violation("time goes back from %d to %d at offset %d" % (self.last_time, when, offset))
        self.last_time = max(self.last_time, when)
        self.next_offset = offset + length
        if kind == K_DATA:
            self.n_data_bytes += length
        self._queue.append(Record(offset, when, run, kind, source, data, arg))

    # The caller's thread.
    def next(self, timeout=DEFAULT_TIMEOUT):
        """The next record, or None when the subscription has ended."""
        client = self.client
        with client._cond:
            client._wait_locked(lambda: self._queue or self.end_reason is not None or self.error is not None,
                                timeout, "a record of stream %d (at offset %s)" % (self.stream,
                                        self.next_offset))
            if not self._queue:
                if self.error is not None:
                    raise self.error
                return None
            record = self._queue.popleft()
            self._consumed += 24 + len(record.data) if record.kind == K_DATA else 32
            left = self._granted - self._consumed
            if self.auto_credit and self._granted < NO_LIMIT and left <= self.window // 2:
                self._grant_locked(self._consumed + self.window)
        return record

    def _grant_locked(self, limit):
        self._granted = max(self._granted, limit)
        self.client._send_locked(frame(CREDIT, U64.pack(limit), self.stream))

    def grant(self, limit):
        """Raise the limit by hand (auto_credit=False)."""
        with self.client._cond:
            self._grant_locked(limit)

    def queued(self):
        """Payload bytes that have arrived and were not asked for yet."""
        with self.client._cond:
            return sum(24 + len(r.data) if r.kind == K_DATA else 32 for r in self._queue)

    def received(self):
        """Payload bytes that came on this connection."""
        with self.client._cond:
            return self._received

    def __iter__(self):
        while True:
            record = self.next()
            if record is None:
                return
            yield record

    def collect(self, timeout=DEFAULT_TIMEOUT):
        """All records up to the end."""
        deadline = time.monotonic() + timeout
        records = []
        while True:
            record = self.next(max(0.0, deadline - time.monotonic()))
            if record is None:
                return records
            records.append(record)

    def read_until(self, predicate, timeout=DEFAULT_TIMEOUT):
        """Records up to and including the first for which predicate(record) holds."""
        deadline = time.monotonic() + timeout
        records = []
        while True:
            record = self.next(max(0.0, deadline - time.monotonic()))
            if record is None:
                raise AssertionError("the subscription ended (reason %s) after %r" % (self.end_reason,
                        records[-5:]))
            records.append(record)
            if predicate(record):
                return records

    def read_until_bytes(self, wanted, timeout=DEFAULT_TIMEOUT, source=None):
        """Bytes up to and including the record that completes 'wanted'."""
        deadline = time.monotonic() + timeout
        got = bytearray()
        while wanted not in got:
            try:
                record = self.next(max(0.0, deadline - time.monotonic()))
            except Deadline:
                raise Deadline("no %r in what came: %r" % (wanted, bytes(got[-2000:]))) from None
            if record is None:
                raise AssertionError("the subscription ended (reason %s); got %r" % (self.end_reason,
                                                                                     bytes(got[-2000:])))
            if record.kind == K_DATA and source in (None, record.source):
                got += record.data
        return bytes(got)

    def cancel(self, timeout=DEFAULT_TIMEOUT):
        self.client.call("unsubscribe", {"stream": self.stream}, timeout)


class StdinStream:
    """A stream of input to one process."""

    def __init__(self, client, stream, target, writer, lock=None):
        self.client = client
        self.stream = stream
        self.target = target
        self.writer = writer
        self.lock = lock
        self.accepted = 0
        self.taken = 0
        self.limit = 0
        self.sent = 0               # position after the last byte given to write()
        self.eof_sent = False
        self.error = None
        self.opened = False
        self.n_resumed = 0
        self._unacked = collections.deque()  # (position, bytes, eof)

    def _on_open(self, pending):
        if pending.error is not None:
            self.error = pending.error
            return
        result = pending.value
        self.opened = True
        self.accepted = max(self.accepted, result["accepted"])
        self.taken = max(self.taken, result["taken"])
        self.limit = max(self.limit, result["limit"])
        self._forget_acked()
        for position, data, eof in self._unacked:
            self._send_locked(position, data, eof)

    def _on_reopen_start(self):
        self.opened = False
        self.n_resumed += 1

    def _on_ack(self, payload):
        if len(payload) != 24:
            raise Violation("ACK of %d bytes" % len(payload))
        accepted, taken, limit = ACK_PAYLOAD.unpack(payload)
        if accepted < self.accepted or taken < self.taken or limit < self.limit:
            raise Violation("ACK goes back: accepted %d -> %d, taken %d -> %d, limit %d -> %d" % (
                self.accepted, accepted, self.taken, taken, self.limit, limit))
        if accepted > self.sent or taken > accepted or limit < accepted:
            raise Violation("ACK accepted %d, taken %d, limit %d; sent were %d" % (accepted, taken, limit,
                    self.sent))
        self.accepted, self.taken, self.limit = accepted, taken, limit
        self._forget_acked()

    def _forget_acked(self):
        unacked = self._unacked
        # A frame that carries the end of file stays: no ACK says that the end was accepted.
        while unacked and not unacked[0][2] and unacked[0][0] + len(unacked[0][1]) <= self.accepted:
            unacked.popleft()

    def _send_locked(self, position, data, eof):
        self.client._send_locked(frame(INPUT, U64.pack(position) + data, self.stream, 1 if eof else 0))

    def write(self, data, eof=False, timeout=DEFAULT_TIMEOUT, piece=256 << 10):
        """Send data in pieces, each when the limit allows it."""
        client = self.client
        deadline = time.monotonic() + timeout
        view = memoryview(bytes(data))
        with client._cond:
            while True:
                part = bytes(view[:piece])
                view = view[piece:]
                last = not view
                if part:
                    client._wait_locked(lambda: self.error is not None or (self.opened and
                                        self.sent + len(part) <= self.limit),
                                        max(0.0, deadline - time.monotonic()),
                                        "room for input (sent %d, limit %d)" % (self.sent, self.limit))
                if self.error is not None:
                    raise self.error
                if part or eof:
                    self._unacked.append((self.sent, part, eof and last))
                    self._send_locked(self.sent, part, eof and last)
                    self.sent += len(part)
                if last:
                    self.eof_sent = self.eof_sent or eof
                    return

    def eof(self):
        self.write(b"", eof=True)

    def wait_accepted(self, position=None, timeout=DEFAULT_TIMEOUT):
        self._wait_for("accepted", position, timeout)

    def wait_taken(self, position=None, timeout=DEFAULT_TIMEOUT):
        self._wait_for("taken", position, timeout)

    def _wait_for(self, what, position, timeout):
        position = self.sent if position is None else position
        self.client._wait(lambda: getattr(self, what) >= position or self.error is not None, timeout,
                          "%s >= %d" % (what, position))
        if getattr(self, what) < position:
            raise self.error

    def close(self, timeout=DEFAULT_TIMEOUT):
        result = self.client.call("close-stream", {"stream": self.stream}, timeout)
        with self.client._cond:
            self.client._streams.pop(self.stream, None)
        return result


class EventStream:
    """The feed of events."""

    def __init__(self, client, stream, params):
        self.client = client
        self.stream = stream
        self.params = params
        self.seq = params.get("since")
        self.latest = None
        self.oldest = None
        self.ended = False
        self.error = None
        self._queue = collections.deque()

    def _on_open(self, pending):
        if pending.error is not None:
            self.error = pending.error
            return
        self.latest = pending.value["seq"]
        self.oldest = pending.value["oldest"]
        if self.seq is None:
            self.seq = self.latest

    def _resume_params(self):
        params = dict(self.params, stream=self.stream)
        if self.seq is not None:
            params["since"] = self.seq
        return params

    def _on_event(self, params):
        kind = params.get("type")
        if kind == "end":
            self.ended = True
            return
        if kind == "lost":
            self.seq = params["to"]
        else:
            if self.seq is not None and params["seq"] <= self.seq:
                raise Violation("event %r after event %d" % (params, self.seq))
            self.seq = params["seq"]
        self._queue.append(params)

    def next(self, timeout=DEFAULT_TIMEOUT):
        """The next event, or None at the end (follow false)."""
        with self.client._cond:
            self.client._wait_locked(lambda: self._queue or self.ended or self.error is not None, timeout,
                                     "an event")
            if self._queue:
                return self._queue.popleft()
            if self.error is not None:
                raise self.error
            return None

    def wait_for(self, kind, process=None, timeout=DEFAULT_TIMEOUT):
        """Events up to and including one of the type (and process)."""
        deadline = time.monotonic() + timeout
        events = []
        while True:
            try:
                event = self.next(max(0.0, deadline - time.monotonic()))
            except Deadline:
                raise Deadline("no event %s of %s; came: %r" % (kind, process, events)) from None
            if event is None:
                raise AssertionError("the feed ended after %r" % events)
            events.append(event)
            if event["type"] == kind and process in (None, event.get("id")):
                return events

    def rest(self, timeout=DEFAULT_TIMEOUT):
        """All events up to the end."""
        events = []
        while True:
            event = self.next(timeout)
            if event is None:
                return events
            events.append(event)


class Client:
    """One connection, or with reconnect=True the appearance of one."""

    def __init__(self, path, reconnect=False, timeout=DEFAULT_TIMEOUT, reconnect_timeout=DEFAULT_TIMEOUT):
        self.path = path
        self.reconnect = reconnect
        self.reconnect_timeout = reconnect_timeout
        self.engine_pid = None
        self.instance = None
        self.version = None
        self.n_connections = 0
        self.goodbye = None
        self.violations = []
        self.lost = None                     # ConnectionLost or Violation: nothing comes any more
        self._cond = threading.Condition()
        self._streams = {}
        self._pending = {}
        self._next_id = 1
        self._next_stream = 1
        self._socket = None
        self._out = collections.deque()
        self._out_cond = threading.Condition()
        self._closing = False
        self._hello = False
        sock = self._connect(time.monotonic() + timeout, retry=False)
        self._use(sock)
        self._reader = threading.Thread(target=self._read, daemon=True, name="pmux-read")
        self._sender = threading.Thread(target=self._send, daemon=True, name="pmux-send")
        self._reader.start()
        self._sender.start()
        try:
            self._wait(lambda: self._hello, timeout, "the daemon's HELLO")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Waiting

    def _wait_locked(self, predicate, timeout, what):
        deadline = time.monotonic() + timeout
        while not predicate():
            if self.lost is not None:
                raise self.lost
            left = deadline - time.monotonic()
            if left <= 0:
                raise Deadline("waited %.1f s for %s" % (timeout, what))
            self._cond.wait(left)

    def _wait(self, predicate, timeout, what):
        with self._cond:
            self._wait_locked(predicate, timeout, what)

    # Connection

    def _connect(self, deadline, retry):
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.connect(self.path)
                return sock
            except OSError:
                sock.close()
                if not retry or self._closing or time.monotonic() >= deadline:
                    raise
            time.sleep(0.002)

    def _use(self, sock):
        with self._out_cond:
            self._out.clear()
            self._socket = sock
            self._out.append(hello_frame())
            self._out_cond.notify_all()
        self.n_connections += 1

    def _send_locked(self, data):
        with self._out_cond:
            self._out.append(data)
            self._out_cond.notify_all()

    def _send(self):
        while True:
            with self._out_cond:
                while not self._out and not self._closing:
                    self._out_cond.wait()
                if self._closing:
                    return
                sock = self._socket
                data = self._out.popleft()
            try:
                if isinstance(data, tuple):  # bytes and the descriptors that go with the first of them
                    data = data[0][socket.send_fds(sock, [data[0]], data[1]):]
                sock.sendall(data)
            except OSError:
                pass  # the reading thread sees the end of the connection

    def _read(self):
        while True:
            sock = self._socket
            reason = "the connection was closed"
            try:
                with sock.makefile("rb", buffering=256 << 10) as stream:
                    while self._read_frame(stream):
                        pass
            except OSError as error:
                reason = "the connection broke: %s" % error
            except Violation as error:
                with self._cond:
                    self.violations.append(str(error))
                    self._give_up(error)
                sock.close()
                return
            sock.close()
            with self._cond:
                if self._closing or not self.reconnect:
                    self._give_up(ConnectionLost(reason, self.goodbye))
                    return
                if self.goodbye is not None and self.goodbye.get("data", {}).get("code") in (
                        "denied", "version-mismatch", "protocol-error"):
                    self._give_up(ConnectionLost(reason, self.goodbye))
                    return
            try:
                sock = self._connect(time.monotonic() + self.reconnect_timeout, retry=True)
            except OSError as error:
                with self._cond:
                    self._give_up(ConnectionLost("no new connection: %s" % error, self.goodbye))
                return
            with self._cond:
                self._resume(sock)

    def _give_up(self, error):
        self.lost = error
        self._cond.notify_all()

    def _resume(self, sock):
        self.goodbye = None
        self._hello = False
        self._use(sock)
        waiting = [self._pending[i] for i in sorted(self._pending)]
        self._pending.clear()
        carried = set()
        again = []
        for pending in waiting:
            stream = getattr(pending, "opens", None)
            if stream is not None and not stream.opened:
                carried.add(stream)
            elif stream is not None:
                continue  # a re-opening that was under way
            if pending.method in HARMLESS or "key" in pending.params:
                again.append(pending)
            else:
                pending._finish(error=ConnectionLost("%s may have been done or not" % pending.method))
        for stream in list(self._streams.values()):
            if stream in carried or stream.error is not None:
                continue
            if isinstance(stream, Subscription):
                if stream.end_reason is not None:
                    continue
                stream._on_resume()
                self._submit_locked("subscribe", stream._resume_params(), stream)
            elif isinstance(stream, StdinStream):
                stream._on_reopen_start()
                self._submit_locked("open-stdin", {"target": stream.target, "stream": stream.stream,
                                                   "writer": stream.writer, "lock": stream.lock}, stream)
            elif not stream.ended:
                self._submit_locked("events", stream._resume_params(), stream)
        for pending in again:
            self._pending[pending.id] = pending
            self._transmit(pending)
        self._cond.notify_all()

    def _read_frame(self, stream):
        header = stream.read(12)
        if len(header) < 12:
            if header and not self.reconnect:
                raise Violation("the connection ended within a frame's header")
            return False
        size, kind, flags, zero, number = HEADER.unpack(header)
        if kind not in DAEMON_BOUNDS:
            raise Violation("frame of type %d" % kind)
        if flags or zero:
            raise Violation("frame of type %d with flags %d, reserved %d" % (kind, flags, zero))
        if size > DAEMON_BOUNDS[kind]:
            raise Violation("frame of type %d with %d bytes" % (kind, size))
        payload = stream.read(size)
        if len(payload) < size:
            return False
        with self._cond:
            self._on_frame(kind, number, payload)
            self._cond.notify_all()
        return True

    def _on_frame(self, kind, number, payload):
        if kind in (HELLO, CONTROL, GOODBYE) and number:
            raise Violation("frame of type %d on stream %d" % (kind, number))
        if kind == GOODBYE:
            self.goodbye = json.loads(payload.decode("utf-8"))
        elif not self._hello:
            if kind != HELLO:
                raise Violation("the first frame is of type %d" % kind)
            self._on_hello(payload)
        elif kind == HELLO:
            raise Violation("a second HELLO")
        elif kind == CONTROL:
            self._on_control(payload)
        else:
            stream = self._streams.get(number)
            if kind == DATA and isinstance(stream, Subscription):
                if not stream.opened:
                    raise Violation("DATA on stream %d before the answer that opens it" % number)
                stream._on_frame(payload)
            elif kind == ACK and isinstance(stream, StdinStream):
                stream._on_ack(payload)
            elif kind == ACK:
                pass  # on its way while close-stream was answered
            else:
                raise Violation("frame of type %d on unknown stream %d" % (kind, number))

    def _on_hello(self, payload):
        if len(payload) < HELLO_ANSWER.size:
            raise Violation("HELLO of %d bytes" % len(payload))
        magic, version, highest, features, pid, instance = HELLO_ANSWER.unpack_from(payload)
        if magic != b"PMUX" or version != 1 or highest < version or features:
            raise Violation("HELLO %r" % payload)
        if self.instance is not None and self.instance != instance and not self.reconnect:
            raise Violation("another instance")
        self.version, self.engine_pid, self.instance = version, pid, instance
        self._hello = True

    def _on_control(self, payload):
        message = json.loads(payload.decode("utf-8"))
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            raise Violation("not JSON-RPC 2.0: %r" % message)
        if "method" in message:
            if "id" in message:
                raise Violation("the daemon asks: %r" % message)
            self._on_notification(message["method"], message.get("params", {}))
            return
        if ("result" in message) == ("error" in message):
            raise Violation("neither result nor error, or both: %r" % message)
        pending = self._pending.pop(message.get("id"), None)
        if pending is None:
            raise Violation("an answer that nobody asked for: %r" % message)
        if "error" in message:
            pending._finish(error=RpcError(message["error"]))
        else:
            pending._finish(value=message["result"])

    def _on_notification(self, method, params):
        stream = self._streams.get(params.get("stream"))
        if method == "event":
            if not isinstance(stream, EventStream):
                raise Violation("event on stream %r" % params.get("stream"))
            stream._on_event(params)
        elif method == "stdin-closed":
            if isinstance(stream, StdinStream):
                stream.accepted, stream.taken = params["accepted"], params["taken"]
                stream.error = RpcError(params["error"])

    # Requests

    def _transmit(self, pending):
        request = {"jsonrpc": "2.0", "id": pending.id, "method": pending.method, "params": pending.params}
        pending.n_sent += 1
        data = frame(CONTROL, json.dumps(request, ensure_ascii=False).encode("utf-8"))
        self._send_locked((data, pending.fds) if pending.fds else data)

    def _submit_locked(self, method, params, stream=None, fds=()):
        if self.lost is not None:
            raise self.lost
        params = {k: None if v is NULL else v for k, v in (params or {}).items() if v is not None}
        if self.reconnect and method in KEYED:
            params.setdefault("key", random_key())
        pending = Pending(self, self._next_id, method, params, stream._on_open if stream else None, fds)
        if stream is not None:
            pending.opens = stream
        self._next_id += 1
        self._pending[pending.id] = pending
        self._transmit(pending)
        return pending

    def submit(self, method, params=None, fds=()):
        """Send a request (with descriptors); its answer is pending.result()."""
        with self._cond:
            return self._submit_locked(method, params, fds=fds)

    def call(self, method, params=None, timeout=DEFAULT_TIMEOUT):
        """Send a request and wait for its answer."""
        return self.submit(method, params).result(timeout)

    def _new_stream(self, number=None):
        if number is None:
            number = self._next_stream
        self._next_stream = max(self._next_stream, number) + 1
        return number

    def _open(self, method, params, make, timeout, number=None):
        with self._cond:
            number = self._new_stream(number)
            params = dict(params, stream=number)
            stream = make(number, params)
            self._streams[number] = stream
            pending = self._submit_locked(method, params, stream)
        try:
            pending.result(timeout)
        except RpcError:
            with self._cond:
                self._streams.pop(number, None)
            raise
        return stream

    def subscribe(self, target, timeout=DEFAULT_TIMEOUT, auto_credit=True, stream=None, **params):
        """Keyword arguments are the page's; from_ is "from"."""
        params = _params(dict(params, target=_target(target)))
        return self._open("subscribe", params, lambda n, p: Subscription(self, n, p, auto_credit), timeout,
                          stream)

    def open_stdin(self, target, writer=None, timeout=DEFAULT_TIMEOUT, lock=None):
        writer = writer or random_key()
        target = _target(target)
        return self._open("open-stdin", {"target": target, "writer": writer, "lock": lock},
                          lambda n, p: StdinStream(self, n, target, writer, lock), timeout)

    def events(self, since=None, follow=None, timeout=DEFAULT_TIMEOUT):
        params = {k: v for k, v in {"since": since, "follow": follow}.items() if v is not None}
        return self._open("events", params, lambda n, p: EventStream(self, n, p), timeout)

    def run(self, argv, env=None, subscribe=None, timeout=DEFAULT_TIMEOUT, auto_credit=True, method="run",
            fds=(), **params):
        """Start a process. Returns its result; with subscribe (True or params) also the subscription.

        fds: descriptors to send with the request, for stdin, stdout and stderr to name as {"fd": i}."""
        params = _params(params)
        if method == "run":
            params["argv"] = [encode_bytes(a) for a in argv]
            if env is not None:
                params["env"] = [encode_bytes(e) for e in env]
        for name in ("cwd", "name", "data"):
            if params.get(name) is not None:
                params[name] = encode_bytes(params[name])
        for name in ("stdin", "stdout", "stderr"):
            if isinstance(params.get(name), dict) and "file" in params[name]:
                params[name] = {"file": encode_bytes(params[name]["file"])}
        if subscribe is None or subscribe is False:
            return self.submit(method, params, fds).result(timeout)
        wanted = _params({} if subscribe is True else subscribe)
        with self._cond:
            number = self._new_stream(wanted.get("stream"))
            wanted["stream"] = number
            stream = Subscription(self, number, wanted, auto_credit)
            stream.filtered = stream.filtered or bool(params.get("transcript"))
            self._streams[number] = stream
            pending = self._submit_locked(method, dict(params, subscribe=wanted), stream, fds)
        try:
            result = pending.result(timeout)
        except RpcError:
            with self._cond:
                self._streams.pop(number, None)
            raise
        return result, stream

    def start(self, target, subscribe=None, timeout=DEFAULT_TIMEOUT, **params):
        return self.run(None, subscribe=subscribe, timeout=timeout, method="start", target=_target(target),
                        **params)

    def restart(self, target, subscribe=None, timeout=DEFAULT_TIMEOUT, **params):
        return self.run(None, subscribe=subscribe, timeout=timeout, method="restart", target=_target(target),
                        **params)

    def write(self, target, data=b"", timeout=DEFAULT_TIMEOUT, **params):
        return self.call("write", dict(params, target=_target(target), data=encode_bytes(data)), timeout)

    def read(self, target, timeout=DEFAULT_TIMEOUT, **params):
        """params as `read` has them (from_, for_); result: the page's, with data as bytes."""
        return self.submit_read(target, **params).result(timeout)

    def submit_read(self, target, method="read", **params):
        for name in ("separator", "pattern", "cursor", "data"):
            if isinstance(params.get(name), bytes):
                params[name] = encode_bytes(params[name])
        pending = self.submit(method, {"target": _target(target), **_params(params)})
        pending.convert = _read_result
        return pending

    def ask(self, target, data, timeout=DEFAULT_TIMEOUT, **params):
        return self.submit_read(target, method="ask", data=data, **params).result(timeout)

    def cursors(self, target, timeout=DEFAULT_TIMEOUT):
        """{name as bytes: offset}."""
        found = self.call("cursors", {"target": _target(target)}, timeout)["cursors"]
        return {decode_bytes(c["name"]): c["offset"] for c in found}

    def set_cursor(self, target, name, to, timeout=DEFAULT_TIMEOUT):
        return self.call("set-cursor", {"target": _target(target), "name": encode_bytes(name), "to": to}, timeout)["offset"]

    def close_stdin(self, target, timeout=DEFAULT_TIMEOUT, **params):
        return self.call("close-stdin", dict(params, target=_target(target)), timeout)

    def cancel_input(self, target, timeout=DEFAULT_TIMEOUT, **params):
        return self.call("cancel-input", dict(params, target=_target(target)), timeout)

    def lock_stdin(self, target, holder, ttl_usec, timeout=DEFAULT_TIMEOUT, **params):
        """The token of the lock, which a repeated request does not take twice."""
        params.setdefault("lock", random_key())
        return self.call("lock-stdin", dict(params, target=_target(target), holder=holder, ttl_usec=ttl_usec),
                         timeout)["lock"]

    def unlock_stdin(self, target, lock, timeout=DEFAULT_TIMEOUT):
        return self.call("unlock-stdin", {"target": _target(target), "lock": lock}, timeout)

    def stop(self, *targets, timeout=DEFAULT_TIMEOUT, **params):
        return self.call("stop", dict(params, targets=[_target(t) for t in targets]), timeout)["processes"]

    def signal(self, target, signal, timeout=DEFAULT_TIMEOUT, **params):
        return self.call("signal", dict(params, targets=[_target(target)], signal=int(signal)),
                         timeout)["processes"]

    def remove(self, *targets, timeout=DEFAULT_TIMEOUT, **params):
        return self.call("remove", dict(params, targets=[_target(t) for t in targets]), timeout)

    def list(self, timeout=DEFAULT_TIMEOUT, **params):
        return self.call("list", params, timeout)["processes"]

    def show(self, target, timeout=DEFAULT_TIMEOUT):
        return self.call("show", {"target": _target(target)}, timeout)

    def wait(self, *targets, timeout=DEFAULT_TIMEOUT, **params):
        """The method wait; the keyword for_ is "for"."""
        return self.call("wait", dict(_params(params), targets=[_target(t) for t in targets]), timeout)

    def status(self, timeout=DEFAULT_TIMEOUT):
        return self.call("daemon-status", {}, timeout)

    def n_live_streams(self):
        with self._cond:
            return len(self._streams)

    def forget_stream(self, stream):
        """Free the number of a stream that has ended."""
        with self._cond:
            self._streams.pop(stream.stream, None)

    def break_connection(self):
        """Cut the connection as a network would."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self):
        with self._cond:
            self._closing = True
        with self._out_cond:
            self._out_cond.notify_all()
        self.break_connection()
        for thread in (getattr(self, "_reader", None), getattr(self, "_sender", None)):
            if thread is not None and thread is not threading.current_thread():
                thread.join(10)
        self._socket.close()


def _target(target):
    return target if isinstance(target, int) else encode_bytes(target)


def _read_result(result):
    return {**result, "data": decode_bytes(result["data"])}


def _params(params):
    """Python names to the page's: from_ -> from, for_ -> for; None is left out."""
    return {k.rstrip("_"): v for k, v in params.items() if v is not None}
