"""How fast okex_ws.py is, next to others and to the floor: python tests/bench.py

    pip install -r requirements.txt -r tests/requirements-bench.txt && python tests/bench.py

A sender replays generated messages over loopback as fast as the socket takes them; each client reads them in a
process of its own, one after the other, decodes each and calls a handler. What counts is CPU time per message, as
a ratio: machines differ, and share their time. The floor is decoding alone: json.loads, after zlib where the
generation compresses. Every figure is the best of --rounds runs.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

KINDS = {  # what is sent: its channel, how many messages, whether they are compressed
    "v1 trades": ("ok_sub_futureusd_btc_trade_quarter", 40_000, True),
    "v1 depth": ("ok_sub_futureusd_btc_depth_quarter_20", 10_000, True),
    "v3 depth": ("spot/depth:BTC-USDT", 5_000, True),
    "v5 trades": ("trades:BTC-USDT", 60_000, False),
    "v5 books": ("books:BTC-USDT", 15_000, False),
}


# -- Messages


def messages(kind, count, channels=1):
    """The messages of one kind, as text. Those of an order book follow from each other."""
    rng = random.Random(1)
    if kind == "v1 trades":
        for n in range(count):
            trade = [str(732916869 + n), f"{rng.uniform(6000, 7000):.2f}", f"{n % 50}.0", "15:25:03", "ask", "1.2006"]
            yield [{"binary": 0, "channel": KINDS[kind][0], "data": [trade]}]
    elif kind == "v1 depth":
        for n in range(count):
            middle = rng.randint(600000, 700000)
            sides = {
                side: [
                    [f"{(middle + sign * i) / 100}", f"{rng.randint(1, 900)}.0", "2.0065", "85.654", "852.0"]
                    for i in range(1, 21)
                ]
                for side, sign in (("asks", 1), ("bids", -1))
            }
            yield [{"binary": 0, "channel": KINDS[kind][0], "data": {"timestamp": 1490337551299 + n, **sides}}]
    elif kind == "v3 depth":
        import exchange

        instrument = exchange.Instrument("BTC-USDT", 1)
        feed = exchange.V3().feed(KINDS[kind][0], False)
        for n in range(count):
            yield json.loads(feed.message(instrument, n == 0))
            instrument.step()
    elif kind == "v5 trades":
        for n in range(count):
            name = "BTC-USDT" if channels == 1 else f"C{n % channels}-USDT"
            trade = {
                "instId": name,
                "tradeId": str(1067468269 + n),
                "px": f"{rng.uniform(80000, 90000):.1f}",
                "sz": "0.000011",
            }
            trade |= {"side": "sell", "ts": "1791369376364", "count": "1", "source": "0", "seqId": 82083114838 + n}
            yield {"arg": {"channel": "trades", "instId": name}, "data": [trade]}
    else:
        import bench_book

        for n, text in enumerate(bench_book.updates(levels=400, changed=50, number=count - 1)):
            action = "update" if n else "snapshot"
            yield {"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [json.loads(text)]}


def payload(message, compressed):
    data = json.dumps(message, separators=(",", ":")).encode()
    if compressed:
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = stream.compress(data) + stream.flush()
    return data


def frame(data, compressed):
    import struct

    first = 0x82 if compressed else 0x81
    length = len(data)
    if length < 126:
        return bytes([first, length]) + data
    if length < 65536:
        return struct.pack("!BBH", first, 126, length) + data
    return struct.pack("!BBQ", first, 127, length) + data


def stored(path):
    import marshal

    with open(path, "rb") as file:
        return marshal.load(file)


# -- The sender


def serve(kind, path, rate):
    """Accept one client on a free port, and send once it has asked for something."""
    import socket
    import threading
    from base64 import b64encode
    from hashlib import sha1

    blob = [frame(data, KINDS[kind][2]) for data in stored(path)]
    if not rate:
        blob = [b"".join(blob)]
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
    for n, data in enumerate(blob):
        if rate:
            while time.monotonic() < begin + n / rate:
                pass
            data = data.replace(b"1791369376364", str(time.monotonic_ns() % 10**13).zfill(13).encode())
        client.sendall(data)
    threading.Timer(60, os._exit, [0]).start()
    while client.recv(65536):
        pass
    os._exit(0)


# -- The clients


class Tally:
    """What a client's handler does: count, take times, and end the process after the last message."""

    def __init__(self, count, latency):
        self.left, self.count, self.latency = count, count, latency
        self.delays = []
        self.before = resident()

    def __call__(self, message=None):
        if self.left == self.count:
            self.began = time.process_time(), time.monotonic()
            self.memory = resident() - self.before
        if self.latency:
            self.delays.append((time.monotonic_ns() % 10**13 - int(message["ts"])) / 1e6)
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
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def decoder(kind):
    if KINDS[kind][2]:
        return lambda data: json.loads(zlib.decompress(data, -zlib.MAX_WBITS))
    return json.loads


def run_floor(kind, path, tally, channels):
    """Decoding alone, of messages that are there already."""
    waiting, decode = stored(path), decoder(kind)
    for data in waiting:
        decode(data)
        tally()


def names(kind, channels):
    return [KINDS[kind][0]] if channels == 1 else [f"trades:C{n}-USDT" for n in range(channels)]


def run_okex_ws(kind, url, tally, channels, books=False, orjson=False):
    if not orjson:
        sys.modules["orjson"] = None
    import okex_ws

    if not books:
        okex_ws.Dialect.book = classmethod(lambda cls, channel: "")
    handlers = {False: lambda channel, rows: tally(), True: lambda channel, rows: tally(rows[0])}
    okex_ws.OkexWS(names(kind, channels), handlers[bool(tally.latency)], url=url).run()


def run_okex_ws_book(*args):
    run_okex_ws(*args, books=True)


def run_okex_ws_orjson(*args):
    run_okex_ws(*args, orjson=True)


def run_nothing(kind, url, tally, channels):
    """websocket-client alone, imported: what its memory is compared with."""
    import websocket  # noqa: F401

    tally()


def run_websocketapp(kind, url, tally, channels):
    """websocket-client as the original demo uses it."""
    import websocket

    decode = decoder(kind)
    app = websocket.WebSocketApp(
        url, on_open=lambda ws: ws.send("go"), on_message=lambda ws, data: tally(row(decode(data), tally))
    )
    app.run_forever()


def row(message, tally):
    return message["data"][0] if tally.latency else None


def run_python_okx(kind, url, tally, channels):
    """The official SDK, with the json.loads that its user has to add. Its own connect() insists on TLS."""
    import asyncio

    import websockets
    from okx.websocket.WsPublicAsync import WsPublicAsync

    async def main():
        client = WsPublicAsync(url)
        client.websocket = await websockets.connect(url)
        await client.subscribe([{"channel": "trades"}], lambda text: tally(row(json.loads(text), tally)))
        await client.consume()

    asyncio.run(main())


def run_ccxt(kind, url, tally, channels):
    import asyncio

    import ccxt.pro

    async def main():
        okx = ccxt.pro.okx({"newUpdates": True, "options": {"checksum": False}})
        okx.urls["api"]["ws"] = url
        market = okx.safe_market_structure(
            {"id": "BTC-USDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "spot": True}
        )
        okx.set_markets([market | {"type": "spot", "active": True, "precision": {"amount": 1e-8, "price": 0.1}}])
        okx.get_url = lambda *_: url
        handle = okx.handle_message
        okx.handle_message = lambda *args: (handle(*args), tally(row(args[1], tally)))[0]
        while True:
            await (okx.watch_trades("BTC/USDT") if kind == "v5 trades" else okx.watch_order_book("BTC/USDT"))

    asyncio.run(main())


def run_aiohttp(kind, url, tally, channels):
    import asyncio

    import aiohttp

    decode = decoder(kind)

    async def main():
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as ws:
            await ws.send_str("go")
            async for message in ws:
                tally(row(decode(message.data), tally))

    asyncio.run(main())


def run_picows(kind, url, tally, channels):
    import asyncio

    import picows

    decode = decoder(kind)

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport):
            transport.send(picows.WSMsgType.TEXT, b"go")

        def on_ws_frame(self, transport, frame):
            tally(row(decode(frame.get_payload_as_bytes()), tally))

    async def main():
        transport, _ = await picows.ws_connect(Listener, url)
        await transport.wait_disconnected()

    asyncio.run(main())


CLIENTS = {
    "floor": (run_floor, ("v1", "v3", "v5")),
    "okex_ws": (run_okex_ws, ("v1", "v3", "v5")),
    "okex_ws, book": (run_okex_ws_book, ("v1 depth", "v3 depth", "v5 books")),
    "okex_ws, orjson": (run_okex_ws_orjson, ("v1", "v3", "v5")),
    "picows": (run_picows, ("v1", "v3", "v5")),
    "aiohttp": (run_aiohttp, ("v1", "v3", "v5")),
    "python-okx": (run_python_okx, ("v5",)),
    "ccxt.pro": (run_ccxt, ("v5",)),
    "WebSocketApp": (run_websocketapp, ("v1", "v3", "v5")),
    "import websocket": (run_nothing, ()),
}


# -- The runs


def measure(client, kind, path, count, channels, rate):
    """One run of one client: what it reports."""
    import subprocess

    me = [sys.executable, __file__]
    with subprocess.Popen([*me, "serve", kind, path, str(rate)], stdout=subprocess.PIPE, text=True) as sender:
        url = f"ws://127.0.0.1:{sender.stdout.readline().strip()}/ws"
        where = path if client == "floor" else url
        command = [*me, "client", client, kind, where, str(count), str(channels), str(rate)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300)
        sender.kill()
    if done.returncode:
        raise SystemExit(f"{client} failed on {kind}")
    return json.loads(done.stdout.splitlines()[-1])


def contest(clients, kind, rounds, count=None, channels=1, rate=0):
    """Each client's best of several runs. They take turns, so that all have the same good and bad moments."""
    import marshal
    import tempfile

    count = count or KINDS[kind][1]
    with tempfile.NamedTemporaryFile() as file:
        marshal.dump([payload(message, KINDS[kind][2]) for message in messages(kind, count, channels)], file)
        file.flush()
        run = (kind, file.name, count, channels, rate)
        runs = [{client: measure(client, *run) for client in clients} for _ in range(rounds)]
    return {client: min((run[client] for run in runs), key=lambda result: result["cpu"]) for client in clients}


def table(title, columns, rows):
    print(f"\n{title}\n")
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows)]
    for cells in [columns, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(cells, widths)) + " |", flush=True)


def importing(code):
    """Milliseconds to run a line of Python."""
    import subprocess

    results = []
    for _ in range(9):
        begin = time.monotonic()
        subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(HERE), check=True)
        results.append((time.monotonic() - begin) * 1000)
    return min(results)


def main():
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="a part of the names of the clients to run, besides the floor and okex_ws")
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installed is compiled, so let okex_ws.py be
    clients = [c for c in CLIENTS if args.only is None or c == "floor" or c.startswith("okex_ws") or args.only in c]
    taking_part = {kind: [c for c in clients if kind.startswith(CLIENTS[c][1])] for kind in KINDS}
    results = {kind: contest(taking_part[kind], kind, args.rounds) for kind in KINDS}

    def rows(value):
        found = [
            [client, *(value(kind, client) if client in results[kind] else "" for kind in KINDS)] for client in clients
        ]
        return [row for row in found if any(row[1:])]

    def ratio(kind, client):
        return f"{results[kind][client]['cpu'] / results[kind]['floor']['cpu']:.2f}"

    table("CPU time per message, as a multiple of the floor", ["", *KINDS], rows(ratio))
    table("CPU time per message, µs", ["", *KINDS], rows(lambda k, c: f"{results[k][c]['cpu']:.2f}"))
    table("Messages per second, in thousands", ["", *KINDS], rows(lambda k, c: f"{results[k][c]['rate'] / 1000:.0f}"))

    many = {n: contest(["okex_ws"], "v5 trades", args.rounds, channels=n)["okex_ws"]["cpu"] for n in (1, 100, 2000)}
    table(
        "CPU time per v5 trade, by channels subscribed",
        ["channels", "okex_ws"],
        [[n, f"{many[n] / many[1]:.2f}"] for n in many],
    )

    others = [c for c in taking_part["v5 trades"] if c not in ("floor", "okex_ws, orjson")]
    slow = contest(others, "v5 trades", 1, count=5000, rate=1000)
    fast = contest(others, "v5 trades", 1, count=60_000, rate=20_000)
    delays = [[c, *(" / ".join(f"{ms:.2f}" for ms in run[c]["latency"]) for run in (slow, fast))] for c in others]
    table("Latency from send to handler, ms: p50 / p99 / p99.9", ["", "1,000 a second", "20,000 a second"], delays)

    imports = {
        "okex_ws": "import okex_ws",
        "picows": "import asyncio, picows",
        "aiohttp": "import asyncio, aiohttp",
        "python-okx": "import asyncio, okx.websocket.WsPublicAsync",
        "ccxt.pro": "import ccxt.pro",
    }
    base = importing("import websocket")
    memory = contest(["import websocket"], "v5 trades", 3, count=1)["import websocket"]["memory"]
    starts = [
        [c, f"{importing(imports[c]) - base:+.0f} ms", f"{results['v5 trades'][c]['memory'] - memory:+.1f} MB"]
        for c in others
        if c in imports
    ]
    table(
        "Import time and memory at the first message, beyond importing websocket-client",
        ["", "import", "memory"],
        starts,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:4], int(sys.argv[4]))
    elif sys.argv[1:2] == ["client"]:
        client, kind, url, count, channels, rate = sys.argv[2:]
        CLIENTS[client][0](kind, url, Tally(int(count), int(rate)), int(channels))
    else:
        main()
