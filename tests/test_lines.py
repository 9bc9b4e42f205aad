"""Several lines to one exchange: killed, silenced and slowed in turn."""

import itertools
import logging
import random
import re
import socket
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import inf
from unittest.mock import Mock

import pytest
from conftest import finish, wait_for

import okex_ws
from okex_ws import CONNECTED, DISCONNECTED, OkexWS, Route, clients, find_channels

TRADES = "trades:BTC-USDT"


class Relay:
    """A line to a stand-in: each way takes `delay` seconds, or for ever while it is silent."""

    def __init__(self, exchange):
        self.exchange, self.delay, self.silent, self.taken = exchange, 0.0, False, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"wss://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                self.taken.append(near)
                far = socket.create_connection(("127.0.0.1", self.exchange.port))
                for way in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=way, daemon=True).start()

    def carry(self, source, target):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self.delay)
                while self.silent:
                    time.sleep(0.01)
                target.sendall(data)
        self.end(source, target)

    def end(self, *sockets):
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def kill(self):
        self.end(self.listener, *self.taken)
        self.listener.close()


@pytest.fixture
def relays(tls_exchange, monkeypatch):
    """Three lines to one stand-in, over TLS: without it, the kernel would answer for a slow one."""
    monkeypatch.setattr(Route, "every", 60.0)
    yield (relays := [Relay(tls_exchange) for _ in range(3)])
    Route.every = 3600.0
    for relay in relays:
        relay.kill()


def without_a_hole(client):
    ids = {int(row["tradeId"]) for channel, row in client.rows if channel == TRADES}
    return len(ids) == max(ids) - min(ids) + 1 and not client.counts["missing"]


ALIKE, SLOW, FAST = (20, 20), (90, 20), (20, 90)  # ms here, and on the other line
HOURS = [  # minutes, and how many changes are right
    ([ALIKE] * 60, range(2)),
    ([(30, 20)] * 60, range(2)),
    ([(18, 8)] * 60, range(2)),  # twice as fast, and not 20 ms
    ([(20, inf)] * 60, [0]),
    ([(inf, 20)] * 60, [0]),  # but the connection lives
    (([SLOW] * 2 + [ALIKE]) * 20, range(2)),  # never three times in a row
    ([(50, 20)] * 60, [1]),
    ([ALIKE] * 30 + [SLOW] * 30, [1, 2]),
    (([SLOW] * 4 + [FAST] * 4) * 8, range(2, 7)),  # every ten minutes at most
]


def test_an_hour_of_noise_changes_the_line_seldom(monkeypatch):
    for (hour, right), seed in itertools.product(HOURS, range(20)):
        monkeypatch.setattr(Route, "times", times := defaultdict(lambda: (inf, inf, inf)))
        noise, changes = random.Random(seed), [-inf]
        route = Route(TRADES, None, ["wss://a/ws", "wss://b/ws"], "global", False)
        for minute, usual in enumerate(hour):
            # Now and then one of them hangs for a moment.
            measured = [ms * noise.uniform(0.95, 1.1) / 1000 + 0.3 * (noise.random() < 0.05) for ms in usual]
            for line, seconds in zip(["wss://a", "wss://b"], measured):
                times[line] = (seconds, *times[line][:2])
            if route.faster(minute * 60.0):
                route.use([*route.lines][::-1])
                route.moved = minute * 60.0
                changes.append(route.moved)
        seldom = all(b - a >= 600 for a, b in itertools.pairwise(changes))
        assert len(changes) - 1 in right and seldom, (hour, seed, changes)


def test_a_faster_line_that_is_slow_again_is_not_gone_to(monkeypatch):
    monkeypatch.setattr(Route, "times", {"wss://a": (0.1, 0.1, 0.1), "wss://b": (0.01, 0.01, 0.01)})
    route = Route(TRADES, None, ["wss://a/ws", "wss://b/ws"], "global", False)
    ws = Mock(**{"_orders._answers": {"o1": "an order waits"}})
    route.check(ws, 0.0)
    assert route.goal == "wss://b/ws"
    route.times["wss://b"] = (0.1, 0.01, 0.01)
    route.check(ws, 0.0)
    assert not route.goal


def test_what_cannot_be_a_line_is_refused_at_the_start():
    keys = okex_ws.Credentials("key", "secret", "phrase")
    safe = ["wss://a.example", "ws://127.0.0.1:1"]
    assert OkexWS(["account"], url=safe, credentials=keys).url == "wss://a.example/ws/v5/private"
    for line, why in [
        ("ws://b.example", "not sent over ws://b.example"),
        ("http://b.example", "not a WebSocket URL"),
        ("wss://b.example/ws/v5/public", "the same path on all hosts"),
    ]:
        for lines in ([*safe, line], [line, *safe]):
            with pytest.raises(ValueError, match=why):
                OkexWS(["account"], url=lines, credentials=keys)
    for make in (partial(OkexWS, [TRADES]), partial(clients, [TRADES]), partial(find_channels, TRADES)):
        with pytest.raises(ValueError, match="a URL"):
            make(url=[])


def test_what_rest_is_asked_for_comes_by_the_next_line_if_one_is_dead(exchange, kept_port, connect):
    lines = [f"ws://127.0.0.1:{kept_port}", exchange.url]
    assert okex_ws.instrument("BTC-USDT", url=lines)["minSz"]
    assert "tickers:BTC-USDT" in find_channels("tickers:BTC-*", url=lines)
    assert "books:BTC-USDT" in clients("books:BTC-*", url=lines)[0].channels
    assert finish("--url", lines[0], "--url", lines[1], "--list", "btc-usdt")[0] == 0
    client = connect("tickers:BTC-*", url=lines)
    wait_for(lambda: client.rows)
    assert not client.saw(DISCONNECTED)


def test_the_fastest_line_is_used_and_one_that_fails_goes_to_the_end(relays, connect, monkeypatch):
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 60.0)  # no such wait where a line is left
    monkeypatch.setattr(okex_ws, "SILENCE_MARGIN", 0.5)
    relays[1].delay, relays[2].delay = 0.02, 0.05
    urls = [relay.url for relay in relays[::-1]]
    client = connect(TRADES, "books:BTC-USDT", url=urls, ping_every=0.2)
    other = connect("candle1m:BTC-USDT", url=urls)
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: client.rows and other.rows and book.ready)
    assert [len(relay.taken) for relay in relays] == [3, 1, 1]  # measured once for both clients
    for number, fail in enumerate([relays[0].kill, lambda: setattr(relays[1], "silent", True)], 1):
        fail()
        began = time.monotonic()
        wait_for(lambda: client.saw(CONNECTED, number + 1) and book.ready, case=number)  # noqa: B023
        assert time.monotonic() - began < 5 and client.url.startswith(relays[number].url)
        client.subscribe(f"tickers:{['ETH', 'LTC'][number - 1]}-USDT")
    wait_for(lambda: set(client.channels.values()) == {"confirmed"} and without_a_hole(client))
    assert client.counts["rows restored"]
    relays[1].silent = False
    relays[2].kill()
    wait_for(lambda: client.saw(CONNECTED, 4) and client.url.startswith(relays[1].url))
    assert okex_ws.Board([client], [], []).status()[0].startswith(f"{relays[1].url[6:]}  up")
    assert any("refused the connection" in why for status, why in client.statuses if status == DISCONNECTED)


def test_clients_change_to_a_faster_line_one_after_another_when_no_order_waits(relays, connect, caplog):
    caplog.set_level(logging.INFO, "okex_ws")
    Route.every = 0.1
    slow, fast, _ = relays
    fast.delay, exchange, urls = 0.1, slow.exchange, [slow.url, fast.url]
    clients = [connect(TRADES, f"books:{coin}-USDT", url=urls) for coin in ("BTC", "ETH", "LTC")]
    trader = connect("account", url=urls, credentials=okex_ws.Credentials(*exchange.keys))
    books = [book for client in clients for book in client.books.values()]
    wait_for(lambda: all(book.ready for book in books) and trader.channels == {"account": "confirmed"})
    exchange.order_answer = lambda answer: None
    order = ThreadPoolExecutor().submit(trader.request, "cancel-order", {"instIdCode": 1, "ordId": "1"}, 5.0)
    wait_for(lambda: "cancel-order" in exchange.requests[-1][1])
    slow.delay, fast.delay, ready = 0.1, 0.0, []

    def moved():
        ready.append(sum(book.ready for book in books))
        return all(client.url.startswith(fast.url) and client.saw(CONNECTED, 2) for client in clients)

    wait_for(moved)
    assert min(ready) >= 1 and trader.url.startswith(slow.url)
    assert "no answer within 5 s" in str(order.exception(10))  # and not that the connection was lost
    wait_for(lambda: trader.saw(CONNECTED, 2) and all(map(without_a_hole, clients)))
    said = re.findall(rf"Changing to {fast.url} \((\d+) ms, here (\d+) ms\)\.", caplog.text)
    assert len(said) == 4 and all(int(there) * 2 <= int(here) for there, here in said)
    slow.delay, fast.delay = 0.0, 0.1
    wait_for(lambda: min(Route.times[fast.url]) > 2 * max(Route.times[slow.url]))
    Route.every = 3600.0
    taken, asked = len(slow.taken), len(exchange.fetched)
    exchange.lost[TRADES] = len(clients)
    wait_for(lambda: len(exchange.fetched) >= asked + len(clients))
    assert len(slow.taken) <= taken + 1  # measured once more: REST is asked by the new line
    assert not any(client.saw(CONNECTED, 3) for client in clients)  # nor back within ten minutes


def test_the_command_line_takes_several_and_says_which_one_it_was(relays):
    arguments = [argument for relay in relays[:2] for argument in ("--url", relay.url)]
    relays[0].kill()
    status, _, err = finish(TRADES, "candle1m:BTC-USDT", *arguments, "--count", "5")
    assert status == 0 and err.splitlines()[-1].endswith(f", 0 reconnects, line {relays[1].url}.")
