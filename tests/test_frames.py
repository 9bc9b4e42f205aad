"""Reading: whatever arrives, however it is cut into pieces, each message once; and the loop around it."""

import json
import os
import ssl
import struct
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from conftest import frame, playing, wait_for
from exchange import Exchange, ServerV5, deflate
from hypothesis import given, settings, strategies as st
from websocket import WebSocket

import okex_ws

MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TRADE = '[{"channel":"trade","data":[["1","2","é"]]}]'
SAMPLE = b"".join([
    frame(TRADE), frame(deflate(TRADE), BINARY), frame("x" * 200), frame(b"", PING), frame("a", final=False),
    frame(b"in between", PING), frame("b", MORE, final=False), frame("c", MORE), frame(b"unasked for", PONG),
    frame(""), frame("y" * 70_000), frame("last"),
])  # fmt: skip
MESSAGES = [
    (TEXT, TRADE.encode()), (BINARY, deflate(TRADE)), (TEXT, b"x" * 200), (PING, b""), (PING, b"in between"),
    (TEXT, b"abc"), (PONG, b"unasked for"), (TEXT, b""), (TEXT, b"y" * 70_000), (TEXT, b"last"),
]  # fmt: skip


def cut(stream, *at):
    """What is read of a stream that arrives in pieces, cut at these places."""
    frames, edges = okex_ws.Frames(), sorted({0, *at, len(stream)})
    return [message for begin, end in pairwise(edges) for message in frames.take(stream[begin:end])]


def test_no_message_is_lost_or_read_in_another_way_however_it_arrives_and_however_long_it_is():
    assert cut(SAMPLE) == MESSAGES
    for size in (1, 2, 3, 7, 64, 131, 4096):
        assert cut(SAMPLE, *range(0, len(SAMPLE), size)) == MESSAGES, size
    short = SAMPLE[:400]
    for at in range(len(short)):
        assert cut(short, at) == cut(short), at
    for length in (0, 1, 125, 126, 127, 65_535, 65_536, 300_000):
        stream = frame("1") + frame("x" * length) + frame(b"y" * length, BINARY) + frame("2")
        for size in (1 << 16, 1000):
            read = cut(stream, *range(0, len(stream), size))
            assert [len(payload) for _, payload in read] == [1, length, length, 1], (length, size)


def test_what_no_server_may_send_is_refused_after_what_came_before():
    wrong = {
        "a reserved bit": frame("x", reserved=4),
        "no such opcode": frame("x", opcode=3),
        "masked": b"\x81\x81abcdx",
        "a continuation of nothing": frame("x", MORE),
        "a message within another": frame("a", final=False) + frame("b"),
        "a binary one within a text": frame("a", final=False) + frame(b"b", BINARY, final=False),
        "a ping in fragments": frame(b"x", PING, final=False),
        "a ping that is too long": frame(b"x" * 126, PING),
        "one byte too many": b"\x81\x7f" + struct.pack("!Q", okex_ws.MAX_MESSAGE + 1),
        "endless fragments": frame(b"x" * 60_000, BINARY, final=False) + frame(b"x" * 60_000, MORE, final=False) * 80,
    }
    for name, stream in wrong.items():
        frames, read = okex_ws.Frames(), []
        with pytest.raises(ValueError):
            read.extend(frames.take(frame("before") + frame("early", final=False) + frame("er", MORE)))
            list(frames.take(stream))
            pytest.fail(name)
        assert read == [(TEXT, b"before"), (TEXT, b"earlyer")], name


def reference(stream):
    """What websocket-client makes of a stream."""
    ours = WebSocket(skip_utf8_validation=True)
    waiting = [stream]

    def receive(most):
        piece, waiting[0] = waiting[0][:most], waiting[0][most:]
        if not piece:
            raise EOFError
        return piece

    ours.frame_buffer.recv, ours.pong, read = receive, lambda data: None, []
    try:
        while True:
            opcode, theirs = ours.recv_data_frame(True)
            read.append((opcode, theirs.data))
    except EOFError:
        return read


def streams():
    payload = st.sampled_from([b"", b"a", TRADE.encode(), b"x" * 126, b"y" * 66_000])
    whole = st.builds(frame, payload, st.sampled_from([TEXT, BINARY]))
    control = st.builds(frame, st.binary(max_size=125), st.sampled_from([PING, PONG]))
    fragments = st.builds(
        lambda parts, opcode, between: b"".join(
            frame(part, MORE if n else opcode, final=n == len(parts) - 1) + between for n, part in enumerate(parts)
        ),
        st.lists(payload, min_size=2, max_size=4),
        st.sampled_from([TEXT, BINARY]),
        st.sampled_from([b"", frame(b"p", PING)]),
    )
    return st.lists(whole | whole | control | fragments, max_size=8).map(b"".join)


@settings(max_examples=100)
@given(streams(), st.integers(1, 3000))
def test_any_stream_is_read_as_websocket_client_reads_it(stream, size):
    assert cut(stream, *range(0, len(stream), size)) == reference(stream)


# -- The loop
def played(stream, ping_every=600, **options):
    """What a client makes of a stream over a socket: messages, why it ended, and what it answered."""
    messages, ended = [], []
    with playing(stream, **options) as (url, heard):
        client = okex_ws.OkexWS([], url=url, ping_every=ping_every)
        client.receive = messages.append
        client.on_status = lambda status, why: status == okex_ws.DISCONNECTED and (ended.append(why), client.close())
        client.run()
        wait_for(lambda: heard and heard[-1][0] in (CLOSE, None))
    return messages, ended, heard, client.counts


def test_every_ping_is_answered_and_every_message_counted_until_the_exchange_closes():
    flood = b"".join(frame(TRADE) + (frame(str(n).encode(), PING) if n % 7 == 0 else b"") for n in range(5000))
    odd = frame(b"\xff\xfe not UTF-8") + frame("last")
    close = frame(struct.pack("!H", 4004) + b"No data received in 30s", CLOSE)
    messages, ended, heard, counts = played(flood + odd + close + frame("never read"))
    assert messages == [TRADE] * 5000 + ["last"]
    assert ended == ["closed by the exchange with code 4004 No data received in 30s"]
    assert [data for opcode, data in heard if opcode == PONG] == [str(n).encode() for n in range(0, 5000, 7)]
    assert counts["messages"] == 5002 and counts["malformed"] == 1


def test_however_a_connection_ends_what_came_before_is_delivered_and_the_reason_told():
    for end, reason in (
        (b"", "the connection was lost"),
        (b"\x81\x05abc", "the connection was lost"),
        (frame(b"", CLOSE), "closed by the exchange"),
        (frame(b"\x03\xe8\xff", CLOSE), "closed by the exchange with code 1000 \ufffd"),
        (frame("x", opcode=3), "the server broke the protocol: a frame that begins with 0x83"),
        (b"\x81\x7f" + struct.pack("!Q", 1 << 40), f"a message of more than {okex_ws.MAX_MESSAGE} bytes"),
    ):
        messages, ended, _, _ = played(frame("before") + end)
        assert messages == ["before"] and ended == [reason], end


@pytest.mark.parametrize("error", [BlockingIOError(11, "EAGAIN"), ssl.SSLWantReadError(), ssl.SSLWantWriteError()])
def test_a_socket_that_is_not_ready_after_all_is_no_lost_connection(error, monkeypatch):
    class Hesitant:
        """A socket that now and then has nothing after all, as TLS on Python 3.13 under load."""

        calls = 0

        def __init__(self, sock):
            self.sock, self.fileno = sock, sock.fileno

        def recv(self, most):
            Hesitant.calls += 1
            if Hesitant.calls % 3 == 1:
                raise error
            return self.sock.recv(64)

    receive = okex_ws.receive_chunk
    monkeypatch.setattr(okex_ws, "receive_chunk", lambda ws, sock: receive(ws, Hesitant(sock)))
    texts = [json.dumps([n]) for n in range(300)]
    messages, _, _, counts = played(b"".join(map(frame, texts)) + frame(struct.pack("!H", 1000), CLOSE))
    assert messages == texts and counts["connects"] == 1


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


def test_close_ends_a_flood_at_once(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    rest = []
    client.handler = lambda channel, rows: (client.close(), rest.append(threading.current_thread()))
    message = '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"tradeId":"x"}]}'
    exchange.sessions[-1].raw(frame(message) * 500)
    wait_for(lambda: not client.thread.is_alive())
    assert rest == [client.thread]


def test_a_message_that_dribbles_is_noticed_though_its_bytes_arrive(monkeypatch):
    monkeypatch.setattr(okex_ws, "SILENCE_MARGIN", 1.0)
    assert played(frame("x" * 70_000), ping_every=0.2, dribble=0.1)[1] == ["nothing arrived for 1 s"]


# -- orjson
PARSE = """
import sys
if sys.argv[1] == "json":
    sys.modules["orjson"] = None
import okex_ws
assert (okex_ws.from_json.__module__ == "okex_ws") == (sys.argv[1] == "json")
for line in sys.stdin.read().split("\\n"):
    for dialect in (okex_ws.V1, okex_ws.V3, okex_ws.V5):
        print([e.kind if e.kind == "malformed" else e for e in dialect.parse(line)])
"""


def test_reads_the_same_with_and_without_orjson():
    pytest.importorskip("orjson")
    book = ServerV5().books(Exchange(every=None).instrument("BTC-USDT"), True)
    lines = [TRADE, "pong", "ping", " [1] ", "", "{", "nul", '{"a":1}x', "\x00", "[" * 3000, "1", '"text"']
    lines.append('{"arg":{"channel":"a"},"data":[1e-8,"\\ud83d\\ude00",-1,0.1,12345678901234567,null,true]}')
    lines.append(json.dumps({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": "snapshot", "data": book}))
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(okex_ws.__file__)}
    options = {"input": "\n".join(lines), "env": environment, "capture_output": True, "text": True, "timeout": 30}
    runs = [subprocess.run([sys.executable, "-c", PARSE, name], check=True, **options) for name in ("orjson", "json")]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.splitlines()) == 3 * len(lines) and "kind='data'" in runs[0].stdout
