"""The fast reader: whatever arrives, however it is cut, the same events as with websocket-client's own reader."""

import base64
import hashlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from math import inf

import pytest
import websocket
from conftest import wait_for
from exchange import Exchange, ServerV5, deflate
from hypothesis import given, settings
from hypothesis import strategies as st

import okex_ws

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0
TRADE = '[{"channel":"trade","data":[["1","2","é"]]}]'


def frame(payload, opcode=TEXT, final=True, reserved=0, mask=None):
    data = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if final else 0) | reserved << 4 | opcode
    bit = 0x80 if mask else 0
    if len(data) < 126:
        head = struct.pack("!BB", first, bit | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(data))
    if mask:
        data = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
        head += mask
    return head + data


@contextmanager
def playing(stream):
    """A server that answers the handshake, sends a stream of bytes, and keeps what the client says to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve():
        peer, _ = listener.accept()
        request = b""
        while b"\r\n\r\n" not in request:
            request += peer.recv(4096)
        key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        )
        peer.sendall(head + accept + b"\r\n\r\n")
        peer.sendall(stream)
        with suppress(OSError):  # the client may have left
            peer.shutdown(socket.SHUT_WR)

        def receive(most):
            data = peer.recv(most)
            if not data:
                raise ConnectionError
            return data

        said = websocket.frame_buffer(receive, skip_utf8_validation=True)
        try:
            while True:
                answer = said.recv_frame()
                heard.append((answer.opcode, answer.data))
        except OSError:
            peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/v1", heard, thread
    listener.close()


def events(stream, fast, chunk=1 << 16):
    """What a client makes of a stream: messages, malformed ones, why it ended, and what it answered."""
    messages = []
    with pytest.MonkeyPatch.context() as patch, playing(stream) as (url, heard, thread):
        patch.setattr(okex_ws, "CHUNK", chunk)
        patch.setattr(okex_ws, "MAX_LAG", inf)  # a machine that stands still is no event of the stream
        patch.setattr(okex_ws.OkexWS, "receive", lambda ws, message: messages.append(message))
        if not fast:
            patch.setattr(okex_ws.Reader, "fits", staticmethod(lambda connection: False))
        client = okex_ws.OkexWS([], url=url, ping_every=600)
        ended = []
        client.on_status = lambda status, detail: (
            status == okex_ws.DISCONNECTED and (ended.append(detail), client.close())
        )
        client.run()
        thread.join(120)
    return {"messages": messages, "ended": ended, "heard": heard, "counts": client.counts}


def same(stream, chunk=1 << 16):
    fast, plain = events(stream, True, chunk), events(stream, False)
    assert fast == plain
    return fast


SAMPLE = (
    frame(TRADE)
    + frame(deflate(TRADE), BINARY)
    + frame("x" * 200)
    + frame(b"", PING)
    + frame("a", final=False)
    + frame(b"in between", PING)
    + frame("b", MORE, final=False)
    + frame("c", MORE)
    + frame(b"unasked for", PONG)
    + frame("masked", mask=b"\x01\x02\x03\x04")
    + frame("")
    + frame(b"\xff\xfe not UTF-8")
    + frame("last")
    + frame(struct.pack("!H", 4004) + b"No data received in 30s.", CLOSE)
    + frame("never read")
)


SAMPLE_MESSAGES = [TRADE, deflate(TRADE), "x" * 200, "abc", "masked", "", "last"]


@pytest.mark.parametrize("pieces", [2, 3, 7])
def test_a_compressed_message_in_several_fragments_is_read(pieces):
    data = deflate(TRADE)
    size = -(-len(data) // pieces)
    parts = [data[n : n + size] for n in range(0, len(data), size)]
    frames = [
        frame(part, BINARY if n == 0 else MORE, final=n == len(parts) - 1) + frame(b"", PING)
        for n, part in enumerate(parts)
    ]
    result = same(b"".join(frames) + frame(TRADE))
    assert result["messages"] == [data, TRADE]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x82\x7f" + struct.pack("!Q", 1 << 40) + b"x" * 1000,
        b"\x81\x7f" + struct.pack("!Q", okex_ws.MAX_MESSAGE + 1) + b"x" * 1000,
        frame(b"x" * 60_000, BINARY, final=False) + frame(b"x" * 60_000, MORE, final=False) * 80,
    ],
    ids=["2^40 bytes", "one byte too many", "endless fragments"],
)
def test_what_no_message_is_as_large_as_ends_the_connection_at_once(stream):
    result = events(frame(TRADE) + stream, True)
    assert result["messages"] == [TRADE]
    assert result["ended"] == [f"a message of more than {okex_ws.MAX_MESSAGE} bytes"]


def test_no_kind_of_frame_is_lost_or_read_in_another_way():
    result = same(SAMPLE)
    assert result["messages"] == SAMPLE_MESSAGES
    assert result["ended"] == ["closed by the exchange with code 4004 No data received in 30s."]
    assert [payload for opcode, payload in result["heard"] if opcode == PONG] == [b"", b"in between"]
    assert result["counts"]["malformed"] == 1 and result["counts"]["messages"] == 8


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 7, 11, 64, 129, 131])
def test_no_frame_is_lost_however_small_the_pieces_are_that_arrive(chunk):
    assert same(SAMPLE, chunk)["messages"] == SAMPLE_MESSAGES


def test_no_frame_is_lost_wherever_one_read_ends_and_the_next_begins():
    stream = frame(TRADE) + frame("y" * 130) + frame(b"", PING) + frame("z")
    messages = []

    class Pieces:
        def __init__(self, *pieces):
            self.pieces = [piece for piece in pieces if piece]

        def recv(self, most):
            return self.pieces.pop(0) if self.pieces else b""

        def gettimeout(self):
            return 1.0

        def send(self, data):
            return len(data)

        def close(self):
            pass

    for at in range(len(stream) + 1):
        messages.clear()
        ws = okex_ws.OkexWS([], url="ws://127.0.0.1:1")
        ws.sock = websocket.WebSocket(skip_utf8_validation=True)
        ws.keep_running = True
        ws.sock.sock, ws.sock.connected = Pieces(stream[:at], stream[at:]), True
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(okex_ws.OkexWS, "receive", lambda ws, message: messages.append(message))

            def read(ws=ws):
                opcode, theirs = ws.sock.recv_data_frame(True)
                if opcode in (TEXT, BINARY):
                    okex_ws.Reader.on_data(ws, theirs.data, opcode, True)
                return True

            reader = okex_ws.Reader(ws, read, okex_ws.Watchdog(20))
            with pytest.raises(websocket.WebSocketConnectionClosedException):
                while True:
                    reader.step()
        assert messages == [TRADE, "y" * 130, "z"], at


@pytest.mark.parametrize("length", [125, 126, 127, 65535, 65536, 70_000, 300_000])
def test_no_length_of_a_frame_is_misread(length):
    stream = frame("1") + frame("x" * length) + frame(b"y" * length, BINARY) + frame("2")
    for chunk in (1 << 16, 1000):
        assert [len(message) for message in same(stream, chunk)["messages"]] == [1, length, length, 1]


@pytest.mark.parametrize(
    "bad",
    [
        frame("x", reserved=4),
        frame("x", opcode=3),
        frame("x", MORE),
        frame("a", final=False) + frame("b"),
        frame(b"x", PING, final=False),
        frame(b"x" * 126, PING),
        frame(b"\x03", CLOSE),
        frame(struct.pack("!H", 999), CLOSE),
        frame(b"", CLOSE),
        frame(struct.pack("!H", 1000), CLOSE),
        b"\x81",
        b"\x81\x7e\x00",
        b"\x81\x05abc",
    ],
)
def test_what_breaks_the_protocol_ends_the_connection_in_the_same_way(bad):
    for stream in (bad, frame("before") + bad + frame("after")):
        result = same(stream)
        assert len(result["ended"]) == 1
        assert result["messages"][:1] == (["before"] if stream is not bad else [])


def test_pings_in_a_flood_are_all_answered():
    stream = b"".join(frame(TRADE) + (frame(str(n).encode(), PING) if n % 7 == 0 else b"") for n in range(5000))
    result = same(stream)
    assert len(result["messages"]) == 5000
    assert [payload for opcode, payload in result["heard"] if opcode == PONG] == [
        str(n).encode() for n in range(0, 5000, 7)
    ]


def pieces():
    payload = st.sampled_from(["", "a", TRADE, "x" * 126, "é" * 70, "y" * 66_000])
    plain = st.builds(frame, payload, st.sampled_from([TEXT, BINARY]))
    control = st.builds(frame, st.binary(max_size=125), st.sampled_from([PING, PONG]))
    masked = st.builds(frame, payload, mask=st.binary(min_size=4, max_size=4))
    parts = st.lists(payload, min_size=2, max_size=4)
    fragments = st.builds(
        lambda parts, ping: b"".join(
            frame(part, MORE if n else TEXT, final=n == len(parts) - 1) + (frame(ping, PING) if ping else b"")
            for n, part in enumerate(parts)
        ),
        parts,
        st.sampled_from([b"", b"p"]),
    )
    odd = st.builds(frame, payload, st.integers(0, 15), st.booleans(), st.integers(0, 7)) | st.binary(max_size=9)
    return st.lists(plain | plain | control | masked | fragments, max_size=8), st.just(b"") | odd


@settings(max_examples=60)
@given(*pieces(), st.sampled_from([1 << 16, 3000, 100, 13]))
def test_any_stream_gives_the_same_events(frames, end, chunk):
    same(b"".join(frames) + end, chunk)


def test_an_unknown_websocket_client_is_read_with_its_own_loop(exchange, connect, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws.Reader, "fits", staticmethod(lambda connection: False))
    client = connect("trades:BTC-USDT")
    wait_for(lambda: len(client.rows) > 20)
    exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(okex_ws.CONNECTED, 2))
    wait_for(client.more_rows())
    assert caplog.text.count("reading is slower") == 1


def test_a_websocket_client_that_is_built_otherwise_is_not_reached_into():
    connection = websocket.WebSocket()
    assert okex_ws.Reader.fits(connection)
    connection.frame_buffer.recv_buffer = bytearray()
    assert not okex_ws.Reader.fits(connection)
    assert not okex_ws.Reader.fits(object())


def test_a_flood_does_not_delay_the_deadline_of_a_subscription(exchange, connect, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.1)
    exchange.ignored = "tickers"
    connect("trades:BTC-USDT", "tickers:BTC-USDT")
    wait_for(lambda: exchange.sessions)
    stop = threading.Event()
    flood = b"".join(frame('{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[]}') for _ in range(2000))

    def pour():
        while not stop.is_set():
            exchange.sessions[-1].raw(flood)

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    wait_for(lambda: "tickers:BTC-USDT is not confirmed" in caplog.text)
    stop.set()
    thread.join(10)


# -- orjson

PARSE = """
import sys
if sys.argv[1] == "json":
    sys.modules["orjson"] = None
import okex_ws
assert (okex_ws.from_json.__module__ == "okex_ws") == (sys.argv[1] == "json")
for line in sys.stdin.read().split("\\n"):
    for dialect in (okex_ws.V1, okex_ws.V3, okex_ws.V5):
        print([type(e).__name__ if isinstance(e, okex_ws.Malformed) else e for e in dialect.parse(line)])
"""


def test_reads_the_same_with_and_without_orjson():
    pytest.importorskip("orjson")
    book = ServerV5().books(Exchange(every=None).instrument("BTC-USDT"), True)
    lines = [
        json.dumps({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": "snapshot", "data": book}),
        '{"arg":{"channel":"a"},"data":[1e-8,"\\ud83d\\ude00",-1,0.1,12345678901234567,null,true]}',
        *(TRADE, "pong", "ping", " [1] ", "", "{", "nul", '{"a":1}x', "\x00", "[" * 3000, "1", '"text"'),
    ]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(okex_ws.__file__)}
    options = {"input": "\n".join(lines), "env": environment, "capture_output": True, "text": True, "timeout": 30}
    runs = [subprocess.run([sys.executable, "-c", PARSE, name], check=True, **options) for name in ("orjson", "json")]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.splitlines()) == 3 * len(lines) and "Push" in runs[0].stdout


def test_the_handler_runs_on_the_reading_thread_alone(exchange, connect):
    seen = set()
    client = connect("trades:BTC-USDT")
    client.handler = lambda channel, rows: seen.add(threading.current_thread())
    wait_for(lambda: seen)
    wait_for(lambda: client.counts["messages"] > 20)
    assert seen == {client.thread}


def test_a_message_that_dribbles_is_noticed_though_its_bytes_arrive(monkeypatch):
    monkeypatch.setattr(okex_ws, "SILENCE_MARGIN", 1.0)
    stop = threading.Event()
    for length in (70_000, 30_000):  # read by websocket-client, and by us
        message, ended = frame("x" * length), []
        listener = socket.create_server(("127.0.0.1", 0))

        def serve(listener=listener, message=message):
            peer, _ = listener.accept()
            key = peer.recv(4096).split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            peer.sendall(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + message[:100])
            with suppress(OSError):
                for at in range(100, len(message)):
                    if stop.wait(0.1):
                        break
                    peer.sendall(message[at : at + 1])

        threading.Thread(target=serve, daemon=True).start()
        client = okex_ws.OkexWS([], url=f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/v1", ping_every=0.2)
        client.on_status = lambda status, detail, client=client, ended=ended: (
            status == okex_ws.DISCONNECTED and (ended.append(detail), client.close())
        )
        client.run()
        listener.close()
        assert ended == ["nothing arrived for 1 s"]
    stop.set()


@pytest.mark.parametrize("error", [BlockingIOError(11, "EAGAIN"), ssl.SSLWantReadError(), ssl.SSLWantWriteError()])
def test_a_socket_that_is_not_ready_after_all_is_no_lost_connection(error, monkeypatch):
    messages = []

    class Hesitant:
        """A socket that now and then has nothing after all, as TLS on Python 3.13 under load."""

        def __init__(self, sock):
            self.sock = sock
            self.calls = 0

        def __getattr__(self, name):
            return getattr(self.sock, name)

        def recv(self, most):
            self.calls += 1
            if self.calls % 3 == 1:
                raise error
            return self.sock.recv(most)

    real = okex_ws.Reader.__init__

    def hesitate(self, ws, read, watchdog):
        ws.sock.sock = Hesitant(ws.sock.sock)
        real(self, ws, read, watchdog)

    monkeypatch.setattr(okex_ws.Reader, "__init__", hesitate)
    monkeypatch.setattr(okex_ws.OkexWS, "receive", lambda ws, message: messages.append(message))
    texts = [json.dumps([n]) for n in range(300)]
    with playing(b"".join(map(frame, texts)) + frame(struct.pack("!H", 1000), CLOSE)) as (url, _, _):
        client = okex_ws.OkexWS([], url=url, ping_every=600)
        client.on_status = lambda status, detail: status == okex_ws.DISCONNECTED and client.close()
        monkeypatch.setattr(okex_ws, "CHUNK", 64)
        client.run()
    assert messages == texts and client.counts["connects"] == 1


def test_a_busy_reader_is_as_late_as_the_oldest_of_what_waits_and_not_more(monkeypatch):
    """The socket is never found empty, but all that waits is read within 0.3 s."""
    watchdog, waiting = okex_ws.Watchdog(20.0), []
    reader = object.__new__(okex_ws.Reader)
    reader.connection = type("Connection", (), {"sock": None})
    reader.watchdog, reader.received, reader.noted, reader.noted_bytes = watchdog, 0, 0.0, 0
    monkeypatch.setattr(okex_ws, "bytes_waiting", lambda sock: waiting[-1])
    watchdog.start(0.0)
    for step in range(1, 200):
        now = step / 10
        waiting.append(3000)
        reader.follow_arrivals(now)
        assert watchdog.lag(now) <= 0.6
        reader.received += 1000
    for step in range(200, 300):  # now more arrives than is read
        waiting.append(waiting[-1] + 500)
        reader.follow_arrivals(step / 10)
        reader.received += 1000
    assert watchdog.lag(30.0) > 3
    waiting.append(0)
    reader.follow_arrivals(30.0)
    assert watchdog.lag(30.0) == 0


def test_the_bytes_that_wait_are_counted():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert okex_ws.bytes_waiting(ours) == 0
        theirs.sendall(b"x" * 1234)
        assert okex_ws.bytes_waiting(ours) == 1234
