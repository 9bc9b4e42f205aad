"""How fast okex_ws.py is, next to others and to the floor.

    pip install -r requirements.txt -r tests/requirements-bench.txt && python tests/bench.py
    python tests/bench.py --only none --script old/okex_ws.py --script okex_ws.py  # two versions, in turn

A sender replays generated messages over loopback as fast as the socket takes them; each client reads them in a
process of its own, one after the other, decodes each and calls a handler. What counts is CPU time per message, as
a ratio: machines differ, and share their time. The floor is decoding alone: json.loads, after zlib where the
generation compresses. Every figure is the best of --rounds runs.
"""

import argparse
import importlib.util
import json
import marshal
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from base64 import b64encode
from hashlib import sha1
from pathlib import Path

OKEX_WS = Path(__file__).resolve().parent.parent / "okex_ws.py"

KINDS = {  # what is sent: its channel, how many messages, whether they are compressed
    "v1 trades": ("ok_sub_futureusd_btc_trade_quarter", 40_000, True),
    "v1 depth": ("ok_sub_futureusd_btc_depth_quarter_20", 10_000, True),
    "v3 depth": ("spot/depth:BTC-USDT", 5_000, True),
    "v5 trades": ("trades:BTC-USDT", 60_000, False),
    "v5 books": ("books:BTC-USDT", 15_000, False),
}
SENT = b"1791369376364"  # in the place of each v5 trade's time


# -- Messages. What only these need is imported here: it would count as memory of the clients.


def messages(kind, count, channels=1):
    """The messages of one kind. Those of an order book follow from each other."""
    rng = random.Random(1)
    if kind == "v1 trades":
        for n in range(count):
            trade = [str(732916869 + n), f"{rng.uniform(6000, 7000):.2f}", f"{n % 50}.0", "15:25:03", "ask", "1.2006"]
            yield [{"binary": 0, "channel": KINDS[kind][0], "data": [trade]}]
    elif kind == "v1 depth":
        for n in range(count):
            middle = rng.randint(600000, 700000)
            data = {"timestamp": 1490337551299 + n}
            for side, sign in (("asks", 1), ("bids", -1)):
                prices = [(middle + sign * i) / 100 for i in range(1, 21)]
                data[side] = [[f"{p}", f"{rng.randint(1, 900)}.0", "2.0065", "85.654", "852.0"] for p in prices]
            yield [{"binary": 0, "channel": KINDS[kind][0], "data": data}]
    elif kind == "v3 depth":
        from exchange import Instrument, ServerV3

        instrument = Instrument("BTC-USDT", 1)
        feed = ServerV3().feed(KINDS[kind][0], False)
        for n in range(count):
            yield json.loads(feed.message(instrument, n == 0))
            instrument.step()
    elif kind == "v5 trades":
        for n in range(count):
            name = "BTC-USDT" if channels == 1 else f"C{n % channels}-USDT"
            id = 1067468269 + n // channels
            trade = {"instId": name, "tradeId": str(id), "px": f"{rng.uniform(80000, 90000):.1f}"}
            trade |= {"sz": "0.000011", "side": "sell", "ts": SENT.decode(), "count": "1", "source": "0"}
            yield {"arg": {"channel": "trades", "instId": name}, "data": [trade | {"seqId": 82083114838 + n}]}
    else:
        from bench_book import updates

        for n, text in enumerate(updates(levels=400, changed=50, number=count - 1)):
            arg, action = {"channel": "books", "instId": "BTC-USDT"}, "update" if n else "snapshot"
            yield {"arg": arg, "action": action, "data": [json.loads(text)]}


def payload(message, compressed):
    from exchange import compact, deflate

    return deflate(compact(message)) if compressed else compact(message).encode()


def frame(data, compressed):
    from websocket import ABNF

    return ABNF(1, 0, 0, 0, ABNF.OPCODE_BINARY if compressed else ABNF.OPCODE_TEXT, 0, data).format()


def clock():
    return time.monotonic_ns() % 10**13


# -- The sender


def serve(kind, path, rate):
    """Accept one client on a free port, and send once it has asked for something."""
    frames = [frame(data, KINDS[kind][2]) for data in marshal.loads(Path(path).read_bytes())]
    if not rate:
        frames = [b"".join(frames)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(65536)
    key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    client.sendall(f"{head}{accept}\r\n\r\n".encode())
    client.recv(65536)
    time.sleep(0.2)
    begin = time.monotonic()
    for n, data in enumerate(frames):
        if rate:
            while time.monotonic() < begin + n / rate:
                pass
            data = data.replace(SENT, str(clock()).zfill(13).encode())
        client.sendall(data)
    threading.Timer(60, os._exit, [0]).start()
    while client.recv(65536):
        pass
    os._exit(0)


# -- The clients: each is called with (kind, url, tally, channels)


class Tally:
    """What a client's handler does: count, take times, and end the process after the last message."""

    def __init__(self, count, latency):
        self.left, self.count, self.latency = count, count, latency
        self.delays = []
        self.before = resident()

    def __call__(self, row=None):
        if self.left == self.count:
            self.began = time.process_time(), time.monotonic()
            self.memory = resident() - self.before
        if self.latency:
            self.delays.append((clock() - int(row["ts"])) / 1e6)
        self.left -= 1
        if not self.left:
            cpu, wall = time.process_time() - self.began[0], time.monotonic() - self.began[1]
            result = {"cpu": cpu / self.count * 1e6, "rate": self.count / wall, "memory": self.memory}
            if self.latency:
                self.delays.sort()
                result["latency"] = [self.delays[int(len(self.delays) * q)] for q in (0.5, 0.99, 0.999)]
            print(json.dumps(result), flush=True)
            os._exit(0)


def resident():
    """The memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def decoder(kind):
    if KINDS[kind][2]:
        return lambda data: json.loads(zlib.decompress(data, -zlib.MAX_WBITS))
    return json.loads


def row(message, tally):
    return message["data"][0] if tally.latency else None


def run_floor(kind, path, tally, channels):
    """Decoding alone, of messages that are there already."""
    waiting, decode = marshal.loads(Path(path).read_bytes()), decoder(kind)
    for data in waiting:
        decode(data)
        tally()


def run_okex_ws(kind, url, tally, channels, script, books=False, orjson=False):
    if not orjson:
        sys.modules["orjson"] = None
    spec = importlib.util.spec_from_file_location("okex_ws", script)
    okex_ws = sys.modules["okex_ws"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(okex_ws)
    for dialect in (okex_ws.Dialect, *okex_ws.Dialect.__subclasses__()):
        if not books and "book" in vars(dialect):
            dialect.book = classmethod(lambda cls, channel: "")
    wanted = [KINDS[kind][0]] if channels == 1 else [f"trades:C{n}-USDT" for n in range(channels)]
    handler = (lambda channel, rows: tally(rows[0])) if tally.latency else lambda channel, rows: tally()
    client = okex_ws.OkexWS(wanted, handler, url=url)
    assert bool(client.books) == books, "this okex_ws.py keeps books in a way that is not known here"
    client.run()


def run_websocketapp(kind, url, tally, channels):
    """websocket-client as the original demo uses it."""
    import websocket

    decode = decoder(kind)
    websocket.WebSocketApp(
        url, on_open=lambda ws: ws.send("go"), on_message=lambda ws, data: tally(row(decode(data), tally))
    ).run_forever()


async def run_python_okx(kind, url, tally, channels):
    """The official SDK, with the json.loads that its user has to add. Its own connect() insists on TLS."""
    import websockets
    from okx.websocket.WsPublicAsync import WsPublicAsync

    client = WsPublicAsync(url)
    client.websocket = await websockets.connect(url)
    await client.subscribe([{"channel": "trades"}], lambda text: tally(row(json.loads(text), tally)))
    await client.consume()


async def run_ccxt(kind, url, tally, channels):
    import ccxt.pro

    okx = ccxt.pro.okx({"newUpdates": True, "options": {"checksum": False}})
    okx.urls["api"]["ws"] = url
    names = {"id": "BTC-USDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT"}
    market = okx.safe_market_structure({**names, "spot": True})
    okx.set_markets([market | {"type": "spot", "active": True, "precision": {"amount": 1e-8, "price": 0.1}}])
    okx.get_url = lambda *_: url
    handle = okx.handle_message
    okx.handle_message = lambda *args: (handle(*args), tally(row(args[1], tally)))[0]
    while True:
        await (okx.watch_trades("BTC/USDT") if kind == "v5 trades" else okx.watch_order_book("BTC/USDT"))


async def run_aiohttp(kind, url, tally, channels):
    import aiohttp

    decode = decoder(kind)
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as ws:
        await ws.send_str("go")
        async for message in ws:
            tally(row(decode(message.data), tally))


async def run_picows(kind, url, tally, channels):
    import picows

    decode = decoder(kind)

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport):
            transport.send(picows.WSMsgType.TEXT, b"go")

        def on_ws_frame(self, transport, frame):
            tally(row(decode(frame.get_payload_as_bytes()), tally))

    transport, _ = await picows.ws_connect(Listener, url)
    await transport.wait_disconnected()


CLIENTS = {  # the function, the kinds that it is measured with, and what is imported for it
    "floor": (run_floor, ("v1", "v3", "v5"), ""),
    "okex_ws": (run_okex_ws, ("v1", "v3", "v5"), ""),
    "okex_ws, its order book kept": (run_okex_ws, ("v1 depth", "v3 depth", "v5 books"), ""),
    "okex_ws, with orjson": (run_okex_ws, ("v1", "v3", "v5"), ""),
    "picows": (run_picows, ("v1", "v3", "v5"), "asyncio, picows"),
    "aiohttp": (run_aiohttp, ("v1", "v3", "v5"), "asyncio, aiohttp"),
    "python-okx": (run_python_okx, ("v5",), "asyncio, okx.websocket.WsPublicAsync"),
    "ccxt.pro": (run_ccxt, ("v5",), "ccxt.pro"),
    "WebSocketApp": (run_websocketapp, ("v1", "v3", "v5"), "websocket"),
}


def run_client(client, script, kind, url, count, channels, rate):
    run, tally = CLIENTS[client][0], Tally(int(count), int(rate))
    if script:
        run(kind, url, tally, int(channels), script, books="book" in client, orjson="orjson" in client)
    elif running := run(kind, url, tally, int(channels)):
        import asyncio

        asyncio.run(running)


# -- The runs: a contestant is (client, script), its script "" unless it is okex_ws


def measure(client, script, kind, path, count, channels, rate):
    """One run of one contestant: what it reports."""
    me = [sys.executable, __file__]
    with subprocess.Popen([*me, "serve", kind, path, str(rate)], stdout=subprocess.PIPE, text=True) as sender:
        url = f"ws://127.0.0.1:{sender.stdout.readline().strip()}/ws"
        command = [*me, "client", client, script, kind, path if client == "floor" else url]
        command += map(str, (count, channels, rate))
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300)
        sender.kill()
    if done.returncode:
        raise SystemExit(f"{client} {script} failed on {kind}")
    return json.loads(done.stdout.splitlines()[-1])


def contest(contestants, kind, rounds, count=None, channels=1, rate=0):
    """Each one's best of several runs. They take turns, so that all have the same good and bad moments."""
    count = count or KINDS[kind][1]
    with tempfile.NamedTemporaryFile() as file:
        marshal.dump([payload(message, KINDS[kind][2]) for message in messages(kind, count, channels)], file)
        file.flush()
        run = (kind, file.name, count, channels, rate)
        runs = [{each: measure(*each, *run) for each in contestants} for _ in range(rounds)]
    return {each: min((run[each] for run in runs), key=lambda result: result["cpu"]) for each in contestants}


def table(title, columns, rows):
    print(f"\n{title}\n")
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows)]
    for cells in [columns, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(cells, widths)) + " |", flush=True)


def importing(code, folder=None):
    """Milliseconds to run a line of Python."""
    results = []
    for _ in range(9):
        begin = time.monotonic()
        subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
        results.append((time.monotonic() - begin) * 1000)
    return min(results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="a part of the names of the clients to run, besides the floor and okex_ws")
    parser.add_argument(
        "--script", action="append", help="the okex_ws.py to measure; several take turns (default: the one beside)"
    )
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installed is compiled, so let okex_ws.py be
    scripts = [str(Path(script).resolve(strict=True)) for script in args.script or [OKEX_WS]]
    wanted = [c for c in CLIENTS if args.only is None or c == "floor" or c.startswith("okex_ws") or args.only in c]
    contestants = [(c, script) for c in wanted for script in (scripts if c.startswith("okex_ws") else [""])]

    def name(client, script):
        number = f"{scripts.index(script) + 1}, " if script and len(scripts) > 1 else ""
        return number + client

    for n, script in enumerate(args.script or [], start=1):
        print(f"{n}: {script}")
    taking_part = {kind: [c for c in contestants if kind.startswith(CLIENTS[c[0]][1])] for kind in KINDS}
    results = {kind: contest(taking_part[kind], kind, args.rounds) for kind in KINDS}

    def rows(value):
        return [
            [name(*c), *(value(results[kind], c) if c in results[kind] else "" for kind in KINDS)] for c in contestants
        ]

    def ratio(result, contestant):
        return f"{result[contestant]['cpu'] / result['floor', '']['cpu']:.2f}"

    table("CPU time per message, as a multiple of the floor", ["", *KINDS], rows(ratio))
    table("Messages per second, in thousands", ["", *KINDS], rows(lambda r, c: f"{r[c]['rate'] / 1000:.0f}"))

    plain = [c for c in contestants if c[0] == "okex_ws"]
    many = {n: contest(plain, "v5 trades", args.rounds, channels=n) for n in (1, 100, 2000)}
    table(
        "CPU time per v5 trade, by channels subscribed, as a multiple of what it is with one",
        ["", *many],
        [[name(*c), *(f"{many[n][c]['cpu'] / many[1][c]['cpu']:.2f}" for n in many)] for c in plain],
    )

    others = [c for c in taking_part["v5 trades"] if c[0] != "floor" and "orjson" not in c[0]]
    slow = contest(others, "v5 trades", 1, count=5000, rate=1000)
    fast = contest(others, "v5 trades", 1, count=60_000, rate=20_000)
    delays = [
        [name(*c), *(" / ".join(f"{ms:.2f}" for ms in run[c]["latency"]) for run in (slow, fast))] for c in others
    ]
    table("Latency from send to handler, ms: p50 / p99 / p99.9", ["", "1,000 a second", "20,000 a second"], delays)

    python = importing("pass")
    starts = []
    for contestant in others:
        client, script = contestant
        names, folder = (Path(script).stem, Path(script).parent) if script else (CLIENTS[client][2], None)
        milliseconds = importing(f"import {names}", folder) - python
        memory = results["v5 trades"][contestant]["memory"]
        starts.append([name(*contestant), f"{milliseconds:.0f} ms", f"{memory:.1f} MB"])
    table("Import time and memory at the first message, beyond those of Python", ["", "import", "memory"], starts)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:4], int(sys.argv[4]))
    elif sys.argv[1:2] == ["client"]:
        run_client(*sys.argv[2:])
    else:
        main()
