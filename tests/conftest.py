"""Fixtures: a stand-in exchange, and clients that are closed when their test ends."""

import base64
import fcntl
import hashlib
import os
import pty
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from exchange import Exchange
from hypothesis import settings
from websocket import frame_buffer

import okex_ws

settings.register_profile("default", deadline=None, max_examples=200, derandomize=True, database=None)
settings.load_profile("default")

SCRIPT = Path(okex_ws.__file__)


def wait_for(condition, within=30.0, case=""):
    """Wait until `condition()` is true and return what it gave; fail after `within` seconds, and name the case."""
    end = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"the condition did not come true in time: {case or condition}"
        time.sleep(0.005)


class Client(okex_ws.OkexWS):
    """A client on a thread of its own that remembers what it was told."""

    def __init__(self, channels, **options):
        self.rows, self.statuses = [], []
        super().__init__(channels, self.remember, **options)

    def remember(self, channel, rows):
        self.rows += [(channel, row) for row in rows]

    def on_status(self, status, detail):
        self.statuses.append((status, detail))

    def start(self):
        """run() on a thread; unlike the real start(), what it raises is kept."""
        self.error = None
        self.thread = threading.Thread(target=self._keep_error, daemon=True)
        self.thread.start()
        return self

    def _keep_error(self):
        try:
            self.run()
        except BaseException as error:
            self.error = error

    def saw(self, status, times=1):
        return sum(1 for s, _ in self.statuses if s == status) >= times

    def more_rows(self, many=1):
        """A condition: so many rows have arrived since this call."""
        seen = len(self.rows)
        return lambda: len(self.rows) >= seen + many


def frame(payload, opcode=1, final=True, reserved=0):
    """A frame as a server sends it."""
    data = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if final else 0) | reserved << 4 | opcode
    if len(data) < 126:
        return struct.pack("!BB", first, len(data)) + data
    if len(data) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(data)) + data
    return struct.pack("!BBQ", first, 127, len(data)) + data


@contextmanager
def playing(stream, dribble=0.0):
    """A server that answers the handshake, sends a stream of bytes, and keeps what the client says to it.

    With `dribble`, a byte every so many seconds. `heard` has (opcode, payload), and (None, b"") when the client left.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    heard, stop = [], threading.Event()

    def receive(peer, most):
        data = peer.recv(most)
        if not data:
            raise ConnectionError
        return data

    def serve():
        peer, _ = listener.accept()
        with peer:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += receive(peer, 4096)
                key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
                accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                peer.sendall(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                for at in range(len(stream) if dribble else 0):
                    if stop.wait(dribble):
                        return
                    peer.sendall(stream[at : at + 1])
                peer.sendall(b"" if dribble else stream)
                peer.shutdown(socket.SHUT_WR)
                said = frame_buffer(lambda most: receive(peer, most), skip_utf8_validation=True)
                while True:
                    answer = said.recv_frame()
                    heard.append((answer.opcode, answer.data))
            except OSError:
                heard.append((None, b""))

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/v1", heard
    finally:
        stop.set()
        listener.close()


def program(*arguments, code=None, **options):
    """Start okex_ws.py as a user does, or code that does; stdout and stderr are pipes unless the options differ."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | options.pop("env", {})
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = ["-c", code] if code else [SCRIPT]
    where = SCRIPT.parent if code else None
    return subprocess.Popen([sys.executable, *command, *arguments], env=environment, text=True, cwd=where, **streams)


def finish(*arguments, **options):
    """Run okex_ws.py to its end: (exit status, stdout, stderr)."""
    process = program(*arguments, **options)
    try:
        out, err = process.communicate(timeout=50)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def finish_all(commands, **options):
    """Run okex_ws.py with each of these arguments, all at once: pairs of the arguments and what finish() returns."""
    processes = [(arguments, program(*arguments, **options)) for arguments in commands]
    for arguments, process in processes:
        out, err = process.communicate(timeout=50)
        yield arguments, process.returncode, out, err


def until(stream, *texts, within=30.0):
    """Read what has been printed until it holds all these texts, in any order; return it."""
    end, read = time.monotonic() + within, ""
    while not all(text in read for text in texts):
        assert time.monotonic() < end and select.select([stream], [], [], within)[0], f"not all {texts} in {read!r}"
        data = os.read(stream.fileno(), 65536)  # not readline, whose buffer select knows nothing of
        assert data, f"the stream ended without all of {texts}: {read!r}"
        read += data.decode()
    return read


class RedisServer:
    """A Redis of the test's own, which keeps what it was given while it is stopped."""

    def __init__(self, folder, port, start=True):
        self.port = port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        if start:
            self.start()

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            ["redis-server", *options, "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL
        )
        import redis

        def answers():
            assert self.process.poll() is None, "redis-server ended: has something else its port?"
            try:
                return redis.Redis.from_url(self.url).ping()
            except redis.ConnectionError:
                return False

        wait_for(answers)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


ENTER, LEAVE = "\033[?1049h", "\033[?1049l"  # the alternate screen


class Terminal:
    """okex_ws.py on a pseudo-terminal of 80 by 24."""

    def __init__(self, *arguments, code=None, cwd=SCRIPT.parent, **environment):
        self.ours, self.theirs = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.theirs)
        self.data = b""
        inherited = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", code] if code else [SCRIPT]), *arguments],
            env=inherited | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | environment,
            cwd=cwd,
            **dict.fromkeys(("stdin", "stdout", "stderr"), self.theirs),
            start_new_session=True,
        )

    def resize(self, columns, rows):
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.ours], [], [], 0.01)[0]:
            self.data += os.read(self.ours, 65536)
        return self.data.decode("utf-8", "replace")  # it may end inside a character

    def until(self, text):
        wait_for(lambda: text in self.read())

    def end(self, number=None):
        """Send a signal, wait for the end, and return what was left on the normal screen."""
        if number:
            self.process.send_signal(number)
        wait_for(lambda: self.read() is not None and self.process.poll() is not None)
        text = self.read()
        assert text.count(ENTER) == text.count(LEAVE) == 1 and text.index(ENTER) < text.index(LEAVE), text[-500:]
        for hidden, shown in (("\033[?25l", "\033[?25h"), ("\033[?7l", "\033[?7h")):  # the cursor, wrapping
            assert text.count(hidden) == text.count(shown) == 1
        assert termios.tcgetattr(self.theirs) == self.before
        return text.partition(LEAVE)[2]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Tests are no storm: let each connect at once. And none masks or holds back the words of another."""
    monkeypatch.setattr(okex_ws.CONNECT_PACE, "spacing", 0.0)
    monkeypatch.setattr(okex_ws, "CHORUS", okex_ws.Chorus())
    monkeypatch.setattr(okex_ws.okex_log, "handlers", [])
    monkeypatch.setattr(okex_ws.okex_log, "propagate", True)
    okex_ws.okex_log.setLevel("NOTSET")
    okex_ws.known_secrets.clear()
    okex_ws.recent_signatures.clear()


@pytest.fixture
def exchange():
    with Exchange(every=0.02) as exchange:
        yield exchange


@pytest.fixture
def tls_exchange(tmp_path, monkeypatch):
    """A stand-in over TLS, whose certificate is trusted here."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Exchange(every=0.02, tls=context) as exchange:
        yield exchange


@pytest.fixture
def connect(exchange, monkeypatch):
    """Start a client of the stand-in; `connect("trades:BTC-USDT", ping_every=1)`."""
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 60.0)  # or what is lost would be asked for again, and not missed
    clients = []

    def start(*channels, url=None, **options):
        client = Client(channels, url=url or exchange.url, **options)
        clients.append(client)
        return client.start()

    yield start
    for client in clients:
        client.close()
    for client in clients:
        client.thread.join(30)
        assert not client.thread.is_alive(), "close() did not end run()"


@pytest.fixture
def streaming(connect):
    """Start a client of the stand-in as `connect` does, and wait for its first row."""

    def start(*channels, **options):
        client = connect(*channels, **options)
        wait_for(lambda: client.rows)
        return client

    return start


@pytest.fixture
def kept_port():
    """A port that nobody listens at unless the test does: nobody else is given it, on Linux, while this holds it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the stand-in has it: it may listen there
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        if sys.platform != "linux":  # elsewhere the stand-in may not
            holder.close()
        yield port


@pytest.fixture
def impatient(monkeypatch):
    """Reconnect at once, whatever the dice say."""
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: min(0.01, high))


@pytest.fixture
def redis_server(tmp_path, kept_port):
    if not shutil.which("redis-server") and not os.environ.get("CI"):
        pytest.skip("needs redis-server")
    server = RedisServer(tmp_path, kept_port)
    yield server
    server.stop()


@pytest.fixture
def terminal():
    started = []

    def start(*arguments, **options):
        started.append(Terminal(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        os.close(one.ours)
        os.close(one.theirs)
