"""A stand-in for the exchange: v1, v3 and v5 on one loopback port, made-up prices, and faults on request.

    python tests/exchange.py            # runs until Ctrl-C and prints its URLs and its API key

It needs nothing but websocket-client, whose framing it borrows, so that `okex_ws.py --offline` runs wherever
okex_ws.py does. It is strict: it refuses what the exchange refuses, in the exchange's words, and holds a client to
its limits (64 KB a request, 480 requests an hour). Each instrument is a random walk of its own, seeded with its name,
that steps only while somebody has subscribed to it.

v5  the coins of PRICES, each against USDT, USD, USDC or BTC as spot (BTC-USDT), and against the first three as swap
    (BTC-USDT-SWAP) and future (BTC-USD-261225: of this week, the next, this month, the next, the quarter and the next,
    by today's date); a few options (BTC-USD-261225-80000-C) and event contracts; two spreads (BTC-USDT_BTC-USDT-SWAP).
    HALT-USDT is suspended, SOON-USDT-SWAP not open yet. CHANNELS has the channels; nothing happens on the quiet ones.
v3  spot BTC-USDT, swap BTC-USD-SWAP, future BTC-USD-191227, index BTC-USD: trade, ticker, candle60s and so on, depth,
    depth5, depth_l2_tbt; account, order and position.
v1  futures of this_week, next_week and quarter, spot against btc or usdt: trade or deals, ticker, depth, kline, index,
    and what futures push after a login.
REST  instruments, the time, trades (history-trades) and candles (those of REST_CANDLES), by the exchange's pages, those
      from before the walk began, too: three hours of trades, three days of minutes, and ten months of longer bars.

There is one account with one API key, of 10,000 USDT and 1 BTC, that keeps its books: see Account.

To try a script of your own against faults:

    with Exchange() as exchange:  # then connect to exchange.url, with Credentials(*exchange.keys)
        exchange.silent = True    # a connection that is open but dead; more switches are in Exchange's docstring
        exchange.sessions[-1].drop()
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import random
import re
import shlex
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, takewhile
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from websocket import ABNF, WebSocketProtocolException, frame_buffer

Row = dict[str, Any]

PRICES = {"BTC": 83_000.0, "ETH": 3_100.0, "LTC": 96.0, "BCH": 540.0, "ETC": 21.0, "EOS": 0.78, "XRP": 2.2}
PRICES |= {"SOL": 142.0, "DOGE": 0.16, "ADA": 0.47, "AVAX": 15.5, "LINK": 13.8, "DOT": 2.7, "TRX": 0.28, "UNI": 7.4}
PRICES |= {"ATOM": 2.9, "FIL": 2.1, "NEAR": 2.4, "SUI": 1.7, "OKB": 118.0}
LEVELS = 100  # a side
KEPT_TRADES, KEPT_BARS = 50_000, 5_000  # of each instrument, for REST
MOVES = 100  # markets in one step; where more are watched, they take turns, so that a thousand cost no more


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def deflate(text: str) -> bytes:
    """Raw DEFLATE, one complete stream, as v1 and v3 sent it."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(text.encode()) + stream.flush()


# -- What is listed ------------------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """An instrument of v5 as the exchange's list has it."""

    name: str
    kind: str  # its instType
    family: str = ""  # instFamily; of an event contract its series
    expires: int = 0  # in ms; 0: never
    state: str = "live"

    @property
    def code(self) -> int:
        return zlib.crc32(self.name.encode()) >> 1

    def row(self) -> Row:
        """What REST and the channel `instruments` say about it."""
        expires = str(self.expires or "")
        since = now_ms() if self.state == "preopen" else "1606468572000"
        row = {"instType": self.kind, "instId": self.name, "instIdCode": self.code, "state": self.state}
        row |= {
            "listTime": since,
            "expTime": expires,
            "tickSz": f"{10 ** -digits_of(self.name):.{digits_of(self.name)}f}",
        }
        row |= {"instFamily": "", "uly": "", "ruleType": "normal", "optType": "", "stk": "", "upcChg": []}
        if self.kind == "EVENTS":
            return row | {"seriesId": self.family, "lotSz": "1", "minSz": "1", "settleCcy": "USDT"}
        base, quote = self.name.split("-")[:2]
        if self.kind == "SPOT":
            return row | {"baseCcy": base, "quoteCcy": quote, "lotSz": "0.00000001", "minSz": "0.00001", "ctVal": ""}
        row |= {
            "instFamily": self.family,
            "uly": self.family.removesuffix("_UM"),
            "ruleType": "xperp" if "_XPERP-" in self.name else "normal",
            "baseCcy": "",
            "quoteCcy": "",
            "lotSz": "1",
            "minSz": "1",
        }
        if self.kind == "OPTION":
            _, _, _, strike, side = self.name.split("-")
            return row | {
                "optType": side,
                "stk": strike,
                "settleCcy": base,
                "ctVal": "1",
                "ctValCcy": base,
                "ctMult": "0.01",
            }
        if quote == "USD":
            return row | {"ctType": "inverse", "settleCcy": base, "ctVal": "100", "ctValCcy": "USD", "ctMult": "1"}
        return row | {"ctType": "linear", "settleCcy": quote, "ctVal": "0.01", "ctValCcy": base, "ctMult": "1"}


def kind_of(name: str) -> str:
    """The instType of an instrument, by the form of its name."""
    parts = name.split("-")
    if re.search("_(?!UM|XPERP)", name):
        return "SPREAD"
    if parts[-1] == "SWAP":
        return "SWAP"
    if len(parts) == 5 and parts[-1] in ("C", "P"):
        return "OPTION"
    return {2: "SPOT", 3: "FUTURES"}.get(len(parts), "EVENTS")


def first_price(name: str) -> float:
    """Where the walk of an instrument begins; options have prices in coins, event contracts from 0 to 1.

    What a spread costs is the difference between the prices of its two legs.
    """
    coin, kind = name.split("-")[0], kind_of(name)
    made_up = 1.0 + zlib.crc32(coin.encode()) % 500
    return {"OPTION": 0.05, "EVENTS": 0.5, "SPREAD": 12.5}.get(kind) or PRICES.get(coin, made_up)


def digits_of(name: str) -> int:
    """The digits after the point of an instrument's prices."""
    price = first_price(name)
    return 1 if price > 1000 else 2 if price > 10 else 4


def expiries(today: date) -> list[date]:
    """Fridays after today: this week's and the next, the last of this month and the next, and of two quarters."""
    first = today + timedelta(days=(4 - today.weekday() - 1) % 7 + 1)
    fridays = [first + timedelta(weeks=n) for n in range(40)]
    last = [friday for friday in fridays if (friday + timedelta(weeks=1)).month != friday.month]
    quarters = [friday for friday in last if friday.month % 3 == 0 and friday not in fridays[:2]]
    return sorted({*fridays[:2], *last[:2], *quarters[:2]})


@lru_cache(maxsize=4)
def listing(today: date, more_coins: int) -> dict[str, Listed]:
    """All instruments of a day, which begins at 08:00 UTC, when what expires is delivered."""
    spot = [f"{coin}-{quote}" for coin in PRICES for quote in ("USDT", "USD", "USDC", "BTC") if coin != quote]
    more = [f"C{n:04}-USDT" for n in range(1, more_coins + 1)]
    contracts = [pair for pair in spot if not pair.endswith("-BTC")]
    dates = [(f"{day:%y%m%d}", in_ms(day)) for day in expiries(today)]
    tomorrow = today + timedelta(days=1)
    event = f"BTC-ABOVE-DAILY-{tomorrow:%y%m%d}-1600"
    listed = [
        *(Listed(pair, "SPOT") for pair in [*spot, *more]),
        *(Listed(f"{pair}-SWAP", "SWAP", pair) for pair in [*contracts, *more]),
        *(Listed(f"{pair}-{day}", "FUTURES", pair, ms) for pair in contracts for day, ms in dates),
        *(Listed(f"{coin}-USD_UM_XPERP-310404", "FUTURES", f"{coin}-USD_UM") for coin in ("BTC", "ETH")),
        *(
            Listed(f"BTC-USD-{day}-{strike}-{side}", "OPTION", "BTC-USD", ms)
            for day, ms in dates[-2:]
            for strike in (70_000, 80_000, 90_000)
            for side in "CP"
        ),
        *(Listed(f"{event}-{strike}", "EVENTS", "BTC-ABOVE-DAILY", in_ms(tomorrow)) for strike in (80_000, 85_000)),
        *(Listed(f"{pair}_{pair}-SWAP", "SPREAD", pair) for pair in ("BTC-USDT", "ETH-USDT")),
        Listed("HALT-USDT", "SPOT", state="suspend"),
        Listed("HALT-USDT-SWAP", "SWAP", "HALT-USDT", state="suspend"),
        Listed("SOON-USDT-SWAP", "SWAP", "SOON-USDT", state="preopen"),
    ]
    return {instrument.name: instrument for instrument in listed}


def in_ms(day: date) -> int:
    """When what expires on a day does."""
    return int(datetime(day.year, day.month, day.day, 8, tzinfo=timezone.utc).timestamp() * 1000)


# -- The market ----------------------------------------------------------------------------------------------------


class Instrument:
    """A random walk in ticks, with a book around it, trades at its touch and a candle a minute.

    Sizes are many small and few large; the spread opens and closes; now and then a burst of trades goes one way.
    """

    def __init__(self, name: str, seed: int, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self.clock = clock  # epoch seconds
        self.aggregates = False
        self.random = random.Random(f"{seed} {name}")
        self.digits = digits_of(name)
        self.middle = round(first_price(name) * 10**self.digits)
        self.sequence = self.random.randrange(10**9)
        self.trade_id = self.random.randrange(10**9)
        self.gap = 1  # ticks from the middle to either best price
        self.open = round(self.middle * self.random.gauss(1, 0.02))  # 24 hours ago
        self.highest, self.lowest = max(self.middle, self.open), min(self.middle, self.open)
        self.volume = self.random.uniform(1000, 9000)  # of 24 hours, in coins
        self.bids = self.side(-1, {})  # in ticks, best first
        self.asks = self.side(1, {})
        self.minutes: deque[list[Any]] = deque(maxlen=KEPT_BARS)  # since the walk began, the last one forms
        self.bars: dict[str, deque[list[Any]]] = {}  # those of each length that was asked for, the past included
        self.past: tuple[list[list[Any]], list[list[Any]]] = [], []  # hours and minutes before the walk, if asked for
        self.history: deque[Row] = deque(maxlen=KEPT_TRADES)
        self.changes: dict[str, dict[int, str]] = {"bids": {}, "asks": {}}
        self.trades: list[Row] = []
        self.previous = -1  # the sequence number before the last step
        self.dice = random.Random(f"{seed} {name} past")  # not the walk's own: that goes on as it would without a past
        self.step()
        self.first = self.trades[0]

    def size(self, dice: random.Random | None = None) -> str:
        return f"{max(0.0001, (dice or self.random).lognormvariate(-0.5, 1.2)):.4f}"

    def side(self, sign: int, old: dict[int, str]) -> dict[int, str]:
        """One side of the book around the middle, its sizes as they were where there were any."""
        best = self.middle + sign * self.gap
        return {price: old.get(price) or self.size() for price in range(best, best + sign * LEVELS, sign)}

    def price(self, ticks: int) -> str:
        return f"{ticks / 10**self.digits:.{self.digits}f}"

    def step(self) -> None:
        """One event in this market: the middle and the spread move, some levels change, trades happen."""
        self.middle = max(self.middle + self.random.randint(-3, 3), 2 * LEVELS)  # no price is below nothing
        if self.random.random() < 0.2:
            self.gap = self.random.choice((1, 1, 1, 2, 3, 5))
        sides = {"bids": self.bids, "asks": self.asks}
        for side, sign in (("bids", -1), ("asks", 1)):
            old = sides[side]
            new = self.side(sign, old)
            for price in self.random.sample(list(new), 3):
                new[price] = self.size()
            gone: dict[int, str] = {price: "0" for price in old if price not in new}
            self.changes[side] = gone | {price: size for price, size in new.items() if old.get(price) != size}
            sides[side] = new
        self.bids, self.asks = sides["bids"], sides["asks"]
        self.previous, self.sequence = self.sequence, self.sequence + self.random.randint(1, 9)
        burst = self.random.random() < 0.05
        side = self.random.choice(("buy", "sell"))
        self.trades = [self.trade(side if burst else "") for _ in range(self.random.randint(1, 12 if burst else 3))]
        self.history.extend(self.trades)
        for bar, kept in (("1m", self.minutes), *self.bars.items()):
            for trade in self.trades:
                add_to_bars(kept, bar, *as_bar(trade))
        for trade in self.trades:
            self.highest, self.lowest = max(self.highest, trade["ticks"]), min(self.lowest, trade["ticks"])
            self.volume += float(trade["size"])

    @property
    def candle(self) -> list[Any]:
        """The minute that forms: [ms, open, high, low, close, volume], prices in ticks."""
        return self.minutes[-1]

    def candles(self, bar: str) -> deque[list[Any]]:
        """The bars of one length, oldest first; those of seconds reach back as far as trades do. The last one forms."""
        if bar not in self.bars:
            self.recall()
            hours, minutes = self.past
            whole = [*(hours if bar_parts(bar)[1] >= 3_600_000 or "M" in bar else ()), *minutes, *self.minutes]
            kept = self.bars[bar] = deque(maxlen=KEPT_BARS)
            for part in map(as_bar, self.history) if bar == "1s" else whole:
                add_to_bars(kept, bar, *part)
        return self.bars[bar]

    def recall(self) -> None:
        """Make up what was before the first trade, from there backwards: 3 hours of trades, 3 days, most of a year."""
        if self.past[0]:
            return
        trades, (id, ms, at) = [], (self.first[field] for field in ("id", "ts", "ticks"))
        swing = min(35.0, 0.0004 * at)  # in a minute, in ticks
        for n in range(1, 5401):
            at = max(at + self.dice.gauss(0, swing / 30**0.5), 2 * LEVELS)
            side, ticks = ("buy", round(at) + 1) if self.dice.random() < 0.5 else ("sell", round(at) - 1)
            row = {"id": id - n, "ticks": ticks, "price": self.price(ticks), "size": self.size(self.dice), "side": side}
            trades.append(row | {"ts": ms - 2000 * n})
        self.history.extendleft(trades[: KEPT_TRADES - len(self.history)])
        begin = bar_begin("1m", trades[-1]["ts"])
        minutes = self.backwards(60_000, begin, at, swing, 4400 + begin // 60_000 % 60)  # from a full hour on
        hours = self.backwards(3_600_000, minutes[0][0], minutes[0][1], swing * 60**0.5, 7500)
        recent = deque(minutes)
        for trade in reversed(trades):
            add_to_bars(recent, "1m", *as_bar(trade))
        self.past = hours, list(recent)

    def backwards(self, length: int, end: int, at: float, swing: float, many: int) -> list[list[Any]]:
        """So many bars of so many ms before a time, of which the last one closes at a price; oldest first."""
        bars: list[list[Any]] = []
        for begin in range(end - length, end - (many + 1) * length, -length):
            close, at = at, max(at + self.dice.gauss(0, swing), 2 * LEVELS)
            up, down, share = (self.dice.random() for _ in range(3))
            high, low = max(at, close) + swing * up / 2, min(at, close) - swing * down / 2
            bars.append([begin, *map(round, (at, high, low, close)), length / 1600 * (share + 0.5)])
        return bars[::-1]

    def aggregated(self) -> list[tuple[Row, int]]:
        """The last step's trades as those of one order at one price: the last of them, with the sum, and how many."""
        merged: list[tuple[Row, int]] = []
        for trade in self.trades:
            last, count = merged[-1] if merged else ({}, 0)
            if self.aggregates and last and (last["side"], last["price"]) == (trade["side"], trade["price"]):
                merged[-1] = (trade | {"size": f"{float(last['size']) + float(trade['size']):.4f}"}, count + 1)
            else:
                merged.append((trade, 1))
        return merged

    def trade(self, side: str = "") -> Row:
        self.trade_id += 1
        side = side or self.random.choice(("buy", "sell"))
        ticks = self.middle + self.gap if side == "buy" else self.middle - self.gap
        row = {"id": self.trade_id, "ticks": ticks, "price": self.price(ticks), "size": self.size(), "side": side}
        return row | {"ts": int(self.clock() * 1000)}

    def levels(self, side: str, most: int = LEVELS) -> list[tuple[str, str]]:
        return [(self.price(p), size) for p, size in list(getattr(self, side).items())[:most]]

    def day(self) -> tuple[str, str, str, str]:
        """The price 24 hours ago, the highest, the lowest, and the volume."""
        return self.price(self.open), self.price(self.highest), self.price(self.lowest), f"{self.volume:.4f}"

    def changed(self, side: str) -> list[tuple[str, str]]:
        return [(self.price(p), size) for p, size in self.changes[side].items()]


@lru_cache(maxsize=100)
def bar_parts(bar: str) -> tuple[int, int, int]:
    """Of a length of bars: how many units, or months, it has, its ms (0: months), and by how much it begins earlier."""
    number, unit, utc = re.fullmatch(r"(\d+)([smHDWM])(utc)?", bar).groups()  # type: ignore[union-attr]
    seconds = {"s": 1, "m": 60, "H": 3600, "D": 86_400, "W": 604_800}.get(unit, 0)
    return int(number), int(number) * seconds * 1000, 0 if utc or unit in "sm" else 8 * 3600 * 1000


def bar_begin(bar: str, ms: int) -> int:
    """When the bar of this length that a time belongs to begins; days, weeks and months at midnight in Hong Kong."""
    number, step, shift = bar_parts(bar)
    if step:
        return (ms + shift) // step * step - shift
    at = datetime.fromtimestamp((ms + shift) / 1000, timezone.utc)
    month = (at.month - 1) // number * number + 1
    return int(datetime(at.year, month, 1, tzinfo=timezone.utc).timestamp()) * 1000 - shift


def bar_end(bar: str, begin: int) -> int:
    """When the next bar begins."""
    number, step, _ = bar_parts(bar)
    return bar_begin(bar, begin + (step or number * 31 * 86_400_000))


def as_bar(trade: Row) -> list[Any]:
    return [trade["ts"], *[trade["ticks"]] * 4, float(trade["size"])]


def add_to_bars(
    kept: deque[list[Any]], bar: str, ms: int, first: int, high: int, low: int, close: int, volume: float
) -> None:
    """Add a trade, or a shorter bar, to the bar that forms. Bars without trades are flat."""
    begin = bar_begin(bar, ms)
    for _ in range(KEPT_BARS):
        if not kept or kept[-1][0] >= begin:
            break
        flat = kept[-1][4]
        kept.append([bar_end(bar, kept[-1][0]), flat, flat, flat, flat, 0.0])
    else:
        kept.clear()
    if not kept:
        kept.append([begin, first, high, low, close, 0.0])
    last = kept[-1]
    if not last[5]:
        last[1:4] = first, high, low
    last[2:] = [max(last[2], high), min(last[3], low), close, last[5] + volume]


def now_ms() -> str:
    return str(int(time.time() * 1000))


def now_iso() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


# -- The three generations -----------------------------------------------------------------------------------------


class Refusal(Exception):
    """A request that the exchange does not accept: its error code, and what it says."""

    def __init__(self, code: int | str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class Feed:
    """One subscription: `message(first)` renders the instrument's last step as the exchange would push it."""

    def __init__(self, instrument: str, message: Callable[[Instrument, bool], str]) -> None:
        self.instrument = instrument
        self.channel = ""  # as the client's user writes it
        self.message = message
        self.repeat: Callable[[Instrument], str] | None = None  # what is pushed when nothing was for a while
        self.pushed = time.monotonic()  # when something last was


class Generation:
    compressed = False
    idle_limit: float | None = None

    def check_signature(self, exchange: Exchange, key: str, passphrase: str, timestamp: str, sign: str) -> int:
        """v3's and v5's login: 0, or which of its parts is wrong, 1 to 5."""
        api_key, secret, right_passphrase = exchange.keys
        if not re.fullmatch(r"\d{10}(\.\d+)?", str(timestamp)):
            return 1
        if key != api_key:
            return 2
        if abs(exchange.now() - float(timestamp)) > 30:
            return 3
        digest = hmac.new(secret.encode(), f"{timestamp}GET/users/self/verify".encode(), "sha256").digest()
        if sign != b64encode(digest).decode():
            return 4
        return 0 if passphrase == right_passphrase else 5

    def receive(self, session: Session, text: str) -> None:
        """Act on what a client sent."""
        raise NotImplementedError


class ServerV1(Generation):
    compressed = True

    def receive(self, session: Session, text: str) -> None:
        try:
            requests = json.loads(text)
        except ValueError:
            return session.send(self.refusal("", Refusal(10001, "Illegal parameter")))
        for request in requests if isinstance(requests, list) else [requests]:
            event, channel = request.get("event"), request.get("channel", "")
            if event == "ping":
                session.send('{"event":"pong"}')
            elif event == "login" or (event == "addChannel" and "parameters" in request):
                self.login(session, request.get("parameters", {}))
            elif event == "addChannel":
                try:
                    feed = self.feed(channel)
                except Refusal as refusal:
                    session.send(self.refusal(channel, refusal))
                else:
                    session.send(self.data("addChannel", {"result": True, "channel": channel}))
                    session.add(channel, feed)
            elif event == "removeChannel":
                session.feeds.pop(channel, None)
                session.send(self.data("removeChannel", {"result": True, "channel": channel}))
            else:
                session.send(self.refusal(channel, Refusal(10001, "Illegal parameter")))

    def login(self, session: Session, parameters: Row) -> None:
        """Futures push the account's state without being asked after a login, and so after a signed addChannel."""
        key, secret, _ = session.exchange.keys
        right = hashlib.md5(f"api_key={key}&secret_key={secret}".encode()).hexdigest().upper()
        if parameters != {"api_key": key, "sign": right}:
            return session.send(self.refusal("login", Refusal(10005, "api_key or sign invalid")))
        session.logged_in = True
        session.send(self.data("login", {"result": True}))
        user = {"balance": 0.2567, "symbol": "btc_usd", "keep_deposit": 0.0025, "profit_real": -0.0013}
        session.send(self.data("ok_sub_futureusd_userinfo", user))

    def data(self, channel: str, data: Any) -> str:
        return compact([{"binary": 0, "channel": channel, "data": data}])

    def refusal(self, channel: str, refusal: Refusal) -> str:
        return self.data(channel, {"result": False, "error_msg": refusal.message, "error_code": refusal.code})

    def feed(self, channel: str) -> Feed:
        futures = re.fullmatch(
            r"ok_sub_futureusd_([a-z]+)_(ticker|trade|depth|kline)_(this_week|next_week|quarter)(?:_(\w+))?", channel
        )
        spot = re.fullmatch(r"ok_sub_spot_([a-z]+)_(btc|usdt)_(ticker|deals|depth|kline)(?:_(\w+))?", channel)
        index = re.fullmatch(r"ok_sub_futureusd_([a-z]+)_index", channel)
        if futures:
            coin, kind, quote, detail = futures.groups()
        elif spot:
            coin, quote, kind, detail = spot.groups()
        elif index:
            coin, kind, quote, detail = index[1], "index", "usd", None
        else:
            raise Refusal(20103, "The subscription event type is invalid.")
        known = {"depth": (None, "5", "10", "20"), "kline": KLINES}.get(kind, (None,))
        if coin.upper() not in PRICES or coin == quote or detail not in known:
            raise Refusal(20103, "The subscription event type is invalid.")
        make = getattr(self, kind if kind != "deals" else "trade")
        extra = ["2.0065"] if futures else []  # futures count in contracts, and add the amount in coins

        def message(instrument: Instrument, first: bool) -> str:
            return self.data(channel, make(instrument, first, detail, extra))

        return Feed(f"{coin}-{quote}".upper(), message)

    def trade(self, i: Instrument, first: bool, detail: str | None, extra: list[str]) -> Any:
        clock = time.strftime("%H:%M:%S", time.gmtime(time.time() + 8 * 3600))
        sides = {"buy": "bid", "sell": "ask"}
        return [[str(t["id"]), t["price"], t["size"], clock, sides[t["side"]], *extra] for t in i.trades]

    def ticker(self, i: Instrument, first: bool, detail: str | None, extra: list[str]) -> Any:
        bid, ask, last = i.levels("bids", 1)[0][0], i.levels("asks", 1)[0][0], i.trades[-1]["price"]
        if extra:  # futures send numbers, and no time
            return {"last": float(last), "buy": float(bid), "sell": float(ask), "vol": 276406, "hold_amount": 180178}
        _, high, low, volume = i.day()
        return {
            "last": last,
            "buy": bid,
            "sell": ask,
            "high": high,
            "low": low,
            "vol": volume,
            "timestamp": int(now_ms()),
        }

    def depth(self, i: Instrument, first: bool, detail: str | None, extra: list[str]) -> Any:
        whole = first or detail
        sides = {
            side: [[*level, *extra] for level in (i.levels(side, int(detail or LEVELS)) if whole else i.changed(side))]
            for side in ("asks", "bids")
        }
        return {**sides, "timestamp": int(now_ms())}

    def kline(self, i: Instrument, first: bool, detail: str | None, extra: list[str]) -> Any:
        minute, *prices, volume = i.candle
        return [[str(minute), *map(i.price, prices), f"{volume:.4f}", *extra]]

    def index(self, i: Instrument, first: bool, detail: str | None, extra: list[str]) -> Any:
        return {"timestamp": now_ms(), "futureIndex": i.price(i.middle)}


KLINES = "1min 3min 5min 15min 30min 1hour 2hour 4hour 6hour 12hour day 3day week".split()
CANDLES = "60 180 300 900 1800 3600 7200 14400 21600 43200 86400 604800".split()


class ServerV3(Generation):
    compressed = True

    def receive(self, session: Session, text: str) -> None:
        if text == "ping":
            return session.send("pong")
        try:
            request = json.loads(text)
            op, channels = request["op"], request["args"]
        except (ValueError, KeyError, TypeError):
            return session.send(self.error(Refusal(30039, f"Unrecognized request: {text}")))
        if op == "login" and isinstance(channels, list) and len(channels) == 4:
            return self.login(session, *channels)
        if op not in ("subscribe", "unsubscribe") or not isinstance(channels, list):
            return session.send(self.error(Refusal(30039, f"Unrecognized request: {text}")))
        for channel in channels:
            try:
                feed = self.feed(channel, session.logged_in)
            except Refusal as refusal:
                session.send(self.error(refusal))
                continue
            session.send(compact({"event": op, "channel": channel}))
            if op == "subscribe":
                session.add(channel, feed)
            else:
                session.feeds.pop(channel, None)

    def login(self, session: Session, key: str, passphrase: str, timestamp: str, sign: str) -> None:
        wrong = self.check_signature(session.exchange, key, passphrase, timestamp, sign)
        if session.logged_in or wrong:
            codes = (30042, 30005, 30006, 30008, 30013, 30015)
            return session.send(self.error(Refusal(codes[wrong], "Login failed")))
        session.logged_in = True
        session.send(compact({"event": "login", "success": True}))

    def error(self, refusal: Refusal) -> str:
        return compact({"event": "error", "message": refusal.message, "errorCode": refusal.code})

    def feed(self, channel: str, logged_in: bool) -> Feed:
        table, _, name = channel.partition(":")
        unknown = Refusal(30040, f"Channel : {channel} doesn't exist")
        market, _, kind = table.partition("/")
        if kind in ("account", "order", "position"):
            if not logged_in:
                raise Refusal(30041, f"Channel : {channel} user not logged in")
            row = {"currency": name, "balance": "2.21"} if kind == "account" else {"instrument_id": name, "state": "0"}
            return Feed("", lambda *_: compact({"table": table, "data": [row]}))
        shapes = {"spot": "-USDT", "swap": "-USD-SWAP", "futures": "-USD-" + r"\d{6}", "index": "-USD"}
        candle = re.fullmatch(r"candle(\d+)s", kind)
        if market not in shapes or not re.fullmatch(f"({'|'.join(PRICES)}){shapes[market]}", name):
            raise unknown
        if candle and candle[1] in CANDLES:
            kind = "candle"
        elif kind not in ("trade", "ticker", "depth", "depth5", "depth_l2_tbt"):
            raise unknown
        make = getattr(self, kind.removesuffix("_l2_tbt"))
        size = "size" if market == "spot" else "qty"

        def message(instrument: Instrument, first: bool) -> str:
            rows = [{"instrument_id": name, **row} for row in make(instrument, first, size)]
            action = {"action": "partial" if first else "update"} if kind in ("depth", "depth_l2_tbt") else {}
            return compact({"table": table, **action, "data": rows})

        return Feed(name, message)

    def trade(self, i: Instrument, first: bool, size: str) -> list[Row]:
        return [
            {"price": t["price"], "side": t["side"], size: t["size"], "timestamp": now_iso(), "trade_id": str(t["id"])}
            for t in i.trades
        ]

    def ticker(self, i: Instrument, first: bool, size: str) -> list[Row]:
        (bid, bid_size), (ask, ask_size), last = i.levels("bids", 1)[0], i.levels("asks", 1)[0], i.trades[-1]["price"]
        row = {"last": last, "best_bid": bid, "best_ask": ask, "best_bid_size": bid_size, "best_ask_size": ask_size}
        day = dict(zip(("open_24h", "high_24h", "low_24h", "base_volume_24h"), i.day()))
        return [row | day | {"timestamp": now_iso()}]

    def candle(self, i: Instrument, first: bool, size: str) -> list[Row]:
        minute, *prices, volume = i.candle
        begin = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(minute / 1000))
        return [{"candle": [begin, *map(i.price, prices), f"{volume:.4f}"]}]

    def depth5(self, i: Instrument, first: bool, size: str) -> list[Row]:
        return [{**self.sides(size, i.levels("asks", 5), i.levels("bids", 5)), "timestamp": now_iso()}]

    def depth(self, i: Instrument, first: bool, size: str) -> list[Row]:
        asks, bids = (i.levels("asks"), i.levels("bids")) if first else (i.changed("asks"), i.changed("bids"))
        return [{**self.sides(size, asks, bids), "timestamp": now_iso(), "checksum": checksum(i)}]

    def sides(self, size: str, asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> Row:
        extra = [3] if size == "size" else ["0", "3"]  # spot: orders; derivatives: liquidated, orders
        return {"asks": [[*level, *extra] for level in asks], "bids": [[*level, *extra] for level in bids]}


def checksum(i: Instrument) -> int:
    """Signed CRC32 of the best 25 a side, bid and ask in turn. Both sides always have more than 25 here."""
    pairs = zip(i.levels("bids", 25), i.levels("asks", 25))
    crc = zlib.crc32(":".join(text for bid, ask in pairs for text in (*bid, *ask)).encode())
    return crc - (1 << 32) if crc >= 1 << 31 else crc


BARS = r"1s|[135]m|15m|30m|[1246]H|12H|[1235]D|1W|[13]M|(6H|12H|[1235]D|1W|[13]M)utc"

UNLISTED = {"": "5D", "mark-price-": "1s 2D 3D 5D", "index-": "1s 2D 3D 5D", "sprd-": "1s 5D"}  # bars, over REST


def instrument_of(arg: Row) -> str:
    """The instrument, or the spread, that an argument names; "" if it names none."""
    return str(arg.get("instId") or arg.get("sprdId") or "")


def written(arg: Row) -> str:
    """A channel by its instrument, or else its type, or its family: trades:BTC-USDT, orders:ANY, account."""
    return ":".join(filter(None, (arg["channel"], instrument_of(arg) or arg.get("instType") or arg.get("instFamily"))))


class Channel(NamedTuple):
    """A row of the table of v5's channels."""

    names: str  # a pattern
    endpoint: str
    login: bool
    arguments: str  # those that it needs, a|b for one of them, and those that it may have, with ?
    kinds: str  # the instType's of its instruments, or of what it is filtered by
    feed: str = "market"  # the method of ServerV5 that makes the feed, without _feed

    def takes(self, arg: Row, listed: dict[str, Listed]) -> bool:
        """Whether an argument is complete, knows nothing else, and names what there is."""
        given = set(arg) - {"channel"}
        groups = [set(group.split("|")) for group in self.arguments.split() if not group.endswith("?")]
        if not given <= set(re.findall(r"\w+", self.arguments)) or not all(given & group for group in groups):
            return False
        kinds = self.kinds.split()
        name, kind, family = instrument_of(arg), arg.get("instType"), arg.get("instFamily")
        if name and (name not in listed or not any(listed[name].kind == k or f"_{k}-" in name for k in kinds)):
            return False
        if kind is not None and kind not in kinds:
            return False
        return family is None or any(i.family == family and i.kind in kinds for i in listed.values())


REPEATED = ("books", "books-l2-tbt", "books50-l2-tbt", "books5", "bbo-tbt")
SPOT_TO_EVENTS = "SPOT SWAP FUTURES OPTION EVENTS"
DERIVATIVES = "SWAP FUTURES OPTION"
ANY = "ANY MARGIN SPOT SWAP FUTURES OPTION EVENTS"
FILTER_KEYS = ("instId", "sprdId", "instType", "instFamily")
FILTERS = "instType instFamily? instId?"
CHANNELS = (
    Channel("trades|tickers|books5?|books-rpi|bbo-tbt", "public", False, "instId", SPOT_TO_EVENTS),
    Channel("mark-price|price-limit", "public", False, "instId", SPOT_TO_EVENTS),
    Channel("books(50)?-l2-tbt", "public", True, "instId", SPOT_TO_EVENTS),
    Channel("open-interest", "public", False, "instId", DERIVATIVES),
    Channel("funding-rate", "public", False, "instId", "SWAP XPERP"),
    Channel("index-tickers", "public", False, "instId", "SPOT"),  # an index has the name of its pair
    Channel("option-trades", "public", False, "instType instFamily|instId", "OPTION"),
    Channel("opt-summary", "public", False, "instFamily", "OPTION", "summary"),
    Channel("liquidation-orders", "public", False, "instType instFamily?", DERIVATIVES + " MARGIN"),
    Channel("adl-warning", "public", False, "instType instFamily?", DERIVATIVES, "quiet"),
    Channel("estimated-price", "public", False, "instType instFamily|instId", DERIVATIVES + " EVENTS", "quiet"),
    Channel("instruments", "public", False, "instType", SPOT_TO_EVENTS + " MARGIN", "instruments"),
    Channel("event-contract-markets", "public", False, "", "", "quiet"),
    Channel("status", "public", False, "", "", "quiet"),  # no maintenance is planned
    Channel(f"(mark-price-)?candle({BARS})", "business", False, "instId", SPOT_TO_EVENTS, "candle"),
    Channel(f"index-candle({BARS})", "business", False, "instId", "SPOT", "candle"),
    Channel("trades-all", "business", False, "instId", SPOT_TO_EVENTS),
    Channel("public-block-trades|block-tickers", "business", False, "instId", SPOT_TO_EVENTS, "quiet"),
    Channel("public-struc-block-trades", "business", False, "", "", "quiet"),
    Channel("call-auction-details", "public", False, "instId", SPOT_TO_EVENTS, "quiet"),  # none is held
    Channel("sprd-(public-trades|tickers|bbo-tbt|books5|books-l2-tbt)", "business", False, "sprdId", "SPREAD"),
    Channel(f"sprd-candle({BARS})", "business", False, "sprdId", "SPREAD", "candle"),
    Channel("orders|liquidation-warning", "private", True, FILTERS, ANY, "account"),
    Channel("positions", "private", True, FILTERS + " extraParams?", ANY, "account"),
    Channel("account", "private", True, "ccy? extraParams?", "", "account"),
    Channel("balance_and_position", "private", True, "", "", "account"),
    Channel("account-greeks", "private", True, "ccy?", "", "quiet"),
    Channel("fills", "private", True, "instId?", SPOT_TO_EVENTS, "quiet"),
    Channel("orders-algo", "business", True, FILTERS, ANY, "quiet"),
    Channel("algo-advance|grid-orders-(spot|contract)", "business", True, "instType instId? algoId?", ANY, "quiet"),
    Channel("grid-(positions|sub-orders)", "business", True, "algoId", "", "quiet"),
    Channel("algo-recurring-buy", "business", True, "instType algoId?", ANY, "quiet"),
    Channel("copytrading-(lead-)?notification", "business", True, "instType instId?", "SWAP", "quiet"),
    Channel("deposit-info|withdrawal-info", "business", True, "ccy?", "", "quiet"),
    Channel("sprd-(orders|trades)", "business", True, "sprdId?", "SPREAD", "quiet"),
    Channel("rfqs|quotes|struc-block-trades|economic-calendar", "business", True, "", "", "quiet"),
)


@lru_cache(maxsize=1000)
def channel_of(name: str) -> Channel | None:
    return next((channel for channel in CHANNELS if re.fullmatch(channel.names, name)), None)


class ServerV5(Generation):
    idle_limit = 30.0  # seconds without a push to a client that is silent itself

    ORDERS = re.compile(r"(batch-)?(order|cancel-order|amend-order)s?")

    def receive(self, session: Session, text: str) -> None:
        if text == "ping":
            return session.send("pong")
        try:
            request = json.loads(text)
            op, args, id = request["op"], request["args"], request.get("id")
            if not isinstance(args, list) or not args:
                raise TypeError
        except (ValueError, KeyError, TypeError):
            return session.send(self.error(Refusal("60012", f"Invalid request: {text}")))
        if len(compact(args)) > 65_536:
            session.feeds.clear()
            return session.close(1009, "Request message exceeds the maximum frame length")
        if id is not None and not re.fullmatch(r"[A-Za-z0-9]{1,32}", str(id)):
            return session.send(self.error(Refusal("60033", "Parameter id error")))
        if op in ("login", "subscribe", "unsubscribe") and not session.may_ask():
            return session.send(self.error(Refusal("60014", "Requests too frequent"), id))
        if op == "login":
            return self.login(session, args[0])
        if self.ORDERS.fullmatch(op):
            return self.order(session, id, op, args)
        if op not in ("subscribe", "unsubscribe"):
            return session.send(self.error(Refusal("60012", f"Invalid request: {text}"), id))
        for arg in args:
            if session.exchange.drops_filters:
                arg = {name: value for name, value in arg.items() if name != "instFamily"}
            try:
                feed = self.feed(session, op, arg)
            except Refusal as refusal:
                session.send(self.error(refusal, id))
                continue
            session.send(compact({**({"id": id} if id else {}), "event": op, "arg": arg, "connId": "a4d3ae55"}))
            if op == "subscribe":
                session.add(compact(arg), feed)
            else:
                session.feeds.pop(compact(arg), None)

    def login(self, session: Session, arg: Any) -> None:
        if session.exchange.login_refusal:
            return session.send(self.error(Refusal(*session.exchange.login_refusal)))
        try:
            values = (arg["apiKey"], arg["passphrase"], arg["timestamp"], arg["sign"])
        except (KeyError, TypeError):
            return session.send(self.error(Refusal("60027", "Parameter can not be empty")))
        wrong = self.check_signature(session.exchange, *values)
        if session.logged_in or wrong:
            codes = ("60031", "60004", "60005", "60006", "60007", "60024")
            return session.send(self.error(Refusal(codes[wrong], "Login failed.")))
        session.logged_in = True
        session.send(compact({"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"}))

    def order(self, session: Session, id: str | None, op: str, args: list[Any]) -> None:
        if not session.logged_in:
            return session.send(self.error(Refusal("60011", "Please log in"), id))
        if session.endpoint != "private" or not id:
            return session.send(self.error(Refusal("60012", "Invalid request"), id))
        account = session.exchange.account
        data = [account.operate(op.removeprefix("batch-").removesuffix("s"), arg) for arg in args]
        failed = sum(leg["sCode"] != "0" for leg in data)
        code = "0" if not failed else "1" if failed == len(data) else "2"
        times = {"inTime": f"{now_ms()}000", "outTime": f"{now_ms()}900"}
        answer = {"id": id, "op": op, "code": code, "msg": "", "data": data, **times}
        change = session.exchange.order_answer
        sent = change(answer) if change else answer
        session.send(compact(sent) if sent else "")
        account.tell()

    def error(self, refusal: Refusal, id: str | None = None) -> str:
        reply = {"event": "error", "msg": refusal.message, "code": refusal.code, "connId": "a4d3ae55"}
        return compact({"id": id, **reply} if id else reply)

    def feed(self, session: Session, op: str, arg: Any) -> Feed:
        if not isinstance(arg, dict) or "channel" not in arg or any(type(value) is not str for value in arg.values()):
            raise Refusal("60013", "Invalid args")
        if op == "subscribe" and written(arg) in session.exchange.refusals:
            raise Refusal(*session.exchange.refusals[written(arg)])
        name, filter = arg["channel"], next((key for key in FILTER_KEYS if key in arg), "")
        if f"{name}:{instrument_of(arg)}" == session.exchange.unnamed:
            raise Refusal("60003", "No")
        if "uly" in arg:
            raise Refusal(
                "64000", "Subscription parameter uly is unavailable anymore, please replace uly with instFamily."
            )
        channel = channel_of(name)
        if channel and channel.login and not session.logged_in:
            raise Refusal("60011", "Please log in")
        if channel and channel.endpoint == "business" != session.endpoint:
            raise Refusal("64001", "This channel has been migrated to the '/business' URL.")
        if not channel or channel.endpoint != session.endpoint or not channel.takes(arg, session.exchange.listed):
            where = f"channel:{name},{filter}:{arg[filter]}" if filter else f"channel:{name}"
            raise Refusal("60018", f"Subscribe failed, wrong URL or {where} doesn't exist.")
        feed: Feed = getattr(self, f"{channel.feed}_feed")(session.exchange, arg)
        return feed

    def quiet_feed(self, exchange: Exchange, arg: Row) -> Feed:
        """A channel on which nothing happens here."""
        return Feed("", lambda *_: "")

    def account_feed(self, exchange: Exchange, arg: Row) -> Feed:
        return Feed("", lambda *_: exchange.account.state(arg))

    def market_feed(self, exchange: Exchange, arg: Row) -> Feed:
        """One instrument: the one that is named, or the first of the type and the family that are asked for."""
        make = getattr(self, arg["channel"].replace("-", "_").replace("50", ""))
        incremental = make in (self.books, self.books_rpi, self.sprd_books_l2_tbt)
        wanted = {field: arg[key] for field, key in (("kind", "instType"), ("family", "instFamily")) if key in arg}
        matching = (i.name for i in exchange.listed.values() if wanted.items() <= i._asdict().items())
        name = instrument_of(arg) or next(matching, "")

        def message(i: Instrument, first: bool) -> str:
            action = {"action": "snapshot" if first else "update"} if incremental else {}
            return compact({"arg": arg, **action, "data": make(i, first)})

        def repeat(i: Instrument) -> str:
            empty = self.book(i, [], []) | {"prevSeqId": i.sequence}
            return compact({"arg": arg, "action": "update", "data": [empty]}) if incremental else message(i, False)

        feed = Feed(name, message)
        feed.repeat = repeat if arg["channel"] in REPEATED else None
        return feed if name else self.quiet_feed(exchange, arg)

    def summary_feed(self, exchange: Exchange, arg: Row) -> Feed:
        """All options of a family at once, whenever its index moves."""
        family = arg["instFamily"]

        def message(i: Instrument, first: bool) -> str:
            options = [o.name for o in exchange.listed.values() if (o.kind, o.family) == ("OPTION", family)]
            return compact({"arg": arg, "data": [self.greeks(name, i) for name in options]})

        return Feed(family, message)

    def instruments_feed(self, exchange: Exchange, arg: Row) -> Feed:
        """Only what changes: instruments that are listed later on."""
        known = [exchange.listed]

        def message(*_: Any) -> str:
            before, known[0] = known[0], exchange.listed
            if known[0] is before:
                return ""
            rows = [i.row() for i in known[0].values() if i.kind == arg["instType"] and i.name not in before]
            return compact({"arg": arg, "data": rows}) if rows else ""

        return Feed("BTC-USDT", message)

    def trades(self, i: Instrument, first: bool) -> list[Any]:
        """Trades of one order at one price are one row, with the last of their ids."""
        row = {"instId": i.name, "source": "0", "seqId": i.sequence}
        return [row | self.match(t) | {"count": str(count)} for t, count in i.aggregated()]

    def trades_all(self, i: Instrument, first: bool) -> list[Any]:
        return [{"instId": i.name, "source": "0"} | self.match(t) for t in i.trades]

    def match(self, t: Row) -> Row:
        return {"tradeId": str(t["id"]), "px": t["price"], "sz": t["size"], "side": t["side"], "ts": str(t["ts"])}

    def liquidation_orders(self, i: Instrument, first: bool) -> list[Any]:
        details = [
            {"bkLoss": "0", "bkPx": t["price"], "ccy": "", "posSide": "short", "side": t["side"], "sz": t["size"]}
            | {"ts": now_ms()}
            for t in i.trades
        ]
        family = "-".join(i.name.split("-")[:2])
        kind = {"instFamily": family, "instId": i.name, "instType": kind_of(i.name), "uly": family}
        return [{"details": details, **kind}]

    def option_trades(self, i: Instrument, first: bool) -> list[Any]:
        base, quote, _, strike, side = i.name.split("-")
        row = {"instFamily": f"{base}-{quote}", "instId": i.name, "optType": side, "markPx": i.price(i.middle)}
        row |= {"fillVol": "0.55", "fwdPx": strike, "idxPx": strike}
        return [row | self.match(t) for t in i.trades]

    def greeks(self, name: str, index: Instrument) -> Row:
        """A row of opt-summary, by a rough guess: delta from how far the price is from the strike."""
        *_, strike, side = name.split("-")
        price = float(index.price(index.middle))
        call = 1 / (1 + (float(strike) / price) ** 8)
        delta = f"{call if side == 'C' else call - 1:.4f}"
        row = {
            "instType": "OPTION",
            "instId": name,
            "uly": "-".join(name.split("-")[:2]),
            "delta": delta,
            "deltaBS": delta,
            "lever": "8.4",
        }
        row |= {"gamma": "0.9", "vega": "0.0007", "theta": "-0.0008"}
        row |= {"gammaBS": "0.00001", "vegaBS": "60.1", "thetaBS": "-70.2", "realVol": "", "volLv": "0.52"}
        return row | {"markVol": "0.55", "bidVol": "0.53", "askVol": "0.57", "fwdPx": str(price), "ts": now_ms()}

    def price_limit(self, i: Instrument, first: bool) -> list[Any]:
        limits = {"buyLmt": i.price(round(i.middle * 1.05)), "sellLmt": i.price(round(i.middle * 0.95))}
        return [{"instType": kind_of(i.name), "instId": i.name, **limits, "ts": now_ms(), "enabled": True}]

    def tickers(self, i: Instrument, first: bool) -> list[Any]:
        (bid, bid_size), (ask, ask_size), last = i.levels("bids", 1)[0], i.levels("asks", 1)[0], i.trades[-1]
        row = {"instId": i.name, "last": last["price"], "lastSz": last["size"], "ts": now_ms()}
        day = dict(zip(("open24h", "high24h", "low24h", "vol24h"), i.day()))
        return [row | day | {"bidPx": bid, "bidSz": bid_size, "askPx": ask, "askSz": ask_size}]

    def candle_feed(self, exchange: Exchange, arg: Row) -> Feed:
        """A channel of candles: what has become final since the last push, and the one that forms."""
        market, bar = re.fullmatch(r"(.*)candle(\w+)", arg["channel"]).groups()  # type: ignore[union-attr]
        pushed = [0]  # when the candle began that formed at the last push

        def message(i: Instrument, first: bool) -> str:
            newest = reversed(i.candles(bar))
            bars = [next(newest), *takewhile(lambda b: 0 < pushed[0] <= b[0], newest)][::-1]
            pushed[0] = bars[-1][0]
            return compact({"arg": arg, "data": [self.bar(i, b, market) for b in bars]})

        return Feed(instrument_of(arg), message)

    def bar(self, i: Instrument, bar: list[Any], market: str = "") -> list[str]:
        begin, *prices, volume = bar
        forms = any(bar is kept[-1] for kept in i.bars.values())
        volumes = [f"{volume:.4f}"] * {"": 3, "sprd-": 1}.get(market, 0)
        return [str(begin), *map(i.price, prices), *volumes, "0" if forms else "1"]

    def books(self, i: Instrument, first: bool) -> list[Any]:
        asks, bids = (i.levels("asks"), i.levels("bids")) if first else (i.changed("asks"), i.changed("bids"))
        return [self.book(i, asks, bids) | {"prevSeqId": -1 if first else i.previous}]

    books_l2_tbt = books

    def books_rpi(self, i: Instrument, first: bool) -> list[Any]:
        """A level says how much of it is not RPI, too: here all."""
        (row,) = self.books(i, first)
        sides = {
            side: [[price, size, size, orders] for price, size, _, orders in row[side]] for side in ("asks", "bids")
        }
        return [row | sides]

    def books5(self, i: Instrument, first: bool) -> list[Any]:
        return [self.book(i, i.levels("asks", 5), i.levels("bids", 5)) | {"instId": i.name}]

    def bbo_tbt(self, i: Instrument, first: bool) -> list[Any]:
        return [self.book(i, i.levels("asks", 1), i.levels("bids", 1))]

    def sprd_public_trades(self, i: Instrument, first: bool) -> list[Any]:
        """The exchange pushes each by itself; here, those of one step are in one message."""
        return [{"sprdId": i.name} | self.match(t) for t in i.trades]

    def sprd_tickers(self, i: Instrument, first: bool) -> list[Any]:
        (ticker,) = self.tickers(i, first)
        return [{"sprdId": ticker.pop("instId"), **ticker}]

    def sprd_books_l2_tbt(self, i: Instrument, first: bool) -> list[Any]:
        (row,) = self.books(i, first)
        return [self.spread_levels(row) | {"checksum": checksum(i)}]

    def sprd_books5(self, i: Instrument, first: bool) -> list[Any]:
        return [self.spread_levels(self.book(i, i.levels("asks", 5), i.levels("bids", 5)))]

    def sprd_bbo_tbt(self, i: Instrument, first: bool) -> list[Any]:
        return [self.spread_levels(row) for row in self.bbo_tbt(i, first)]

    def spread_levels(self, row: Row) -> Row:
        """A level of a spread's book has no third value of old: price, size, orders."""
        return row | {
            side: [[price, size, orders] for price, size, _, orders in row[side]] for side in ("asks", "bids")
        }

    def book(self, i: Instrument, asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> Row:
        sides = {"asks": [[*level, "0", "1"] for level in asks], "bids": [[*level, "0", "1"] for level in bids]}
        return sides | {"ts": now_ms(), "seqId": i.sequence}

    def index_tickers(self, i: Instrument, first: bool) -> list[Any]:
        day = dict(zip(("open24h", "high24h", "low24h"), i.day()))
        return [{"instId": i.name, "idxPx": i.price(i.middle), "ts": now_ms()} | day]

    def mark_price(self, i: Instrument, first: bool) -> list[Any]:
        return [{"instType": kind_of(i.name), "instId": i.name, "markPx": i.price(i.middle), "ts": now_ms()}]

    def funding_rate(self, i: Instrument, first: bool) -> list[Any]:
        hours = int(time.time() // 28_800 + 1) * 28_800_000
        row = {"instType": kind_of(i.name), "instId": i.name, "fundingRate": "0.0001", "nextFundingRate": ""}
        row |= {"ts": now_ms()}
        return [row | {"fundingTime": str(hours), "nextFundingTime": str(hours + 28_800_000)}]

    def open_interest(self, i: Instrument, first: bool) -> list[Any]:
        contracts = i.volume * 100  # of a hundredth of a coin
        row = {"instType": kind_of(i.name), "instId": i.name, "oi": f"{contracts:.0f}", "oiCcy": f"{i.volume:.2f}"}
        return [row | {"oiUsd": f"{i.volume * i.middle / 10**i.digits:.0f}", "ts": now_ms()}]


def plain(value: Decimal) -> str:
    """A number as the exchange writes it: no exponent, and no zeros at its end."""
    return f"{value.normalize():f}" if value else "0"


ZERO = Decimal(0)


def coins(value: Decimal) -> Decimal:
    return value.quantize(Decimal("1e-12"))


class Terms:
    """How an instrument is traded: in which sizes, for what, and what so many of it are worth."""

    def __init__(self, listed: Listed) -> None:
        row = listed.row()
        self.kind, self.spot, self.inverse = listed.kind, listed.kind == "SPOT", row.get("ctType") == "inverse"
        self.lot, self.least = Decimal(row["lotSz"]), Decimal(row["minSz"])
        self.factor = Decimal(row.get("ctVal") or 1) * Decimal(row.get("ctMult") or 1)
        self.base, self.quote = listed.name.split("-")[:2]
        self.settle = self.quote if self.spot else row["settleCcy"]
        self.fee = Decimal("0.001" if self.spot else "0.0005")

    def value(self, size: Decimal, price: Decimal) -> Decimal:
        """What so many coins or contracts are worth, in the quote or the settle currency."""
        amount = size * self.factor
        return coins(amount / price if self.inverse and size else amount * price)

    def profit(self, size: Decimal, entry: Decimal, price: Decimal) -> Decimal:
        """What a position, which is negative if it is short, has earned since it was opened at a price."""
        gained = self.value(size, price) - self.value(size, entry)
        return -gained if self.inverse else gained

    def mean(self, size: Decimal, price: Decimal, more: Decimal, at: Decimal) -> Decimal:
        """The average price of a position and of what is added to it."""
        if self.inverse:
            return coins((size + more) / (size / price + more / at))
        return coins((size * price + more * at) / (size + more))


@dataclass
class Position:
    """What is held of a contract; short if its size is negative, on either side of a hedge, too."""

    size: Decimal = ZERO
    entry: Decimal = ZERO
    mode: str = "cross"


class Account:
    """The one account that there is: it begins with START, and trades with all of it and nothing else.

    A marketable order fills at once and whole, at the best price, a limit order rests until it can. What that takes is
    frozen until then; a tenth of what a position was worth when it was opened is held while it stands. Nobody is
    liquidated, nobody pays for borrowing. An order that can only reduce a position is as large as that, at most.
    """

    START = {"USDT": "10000", "BTC": "1"}

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.known: dict[str, Terms] = {}  # of what has been traded, though it expires
        self.orders: dict[str, Row] = {}
        self.cash = {ccy: Decimal(amount) for ccy, amount in self.START.items()}
        self.frozen: dict[str, tuple[str, Decimal]] = {}  # by ordId, while an order rests
        self.positions: dict[tuple[str, str], Position] = {}  # by instrument and posSide
        self.news: list[Row] = []  # orders as they were when they changed, not told yet

    def terms(self, name: str) -> Terms:
        if name not in self.known:
            self.known[name] = Terms(self.exchange.listed[name])
        return self.known[name]

    def operate(self, op: str, arg: Any) -> Row:
        """Place, cancel or amend one order: the exchange's answer for it."""
        order: Row = {"ordId": "", "clOrdId": ""}
        try:
            order = self.place(arg) if op == "order" else self.find(arg, op)
            if op == "cancel-order":
                self.change(order, state="canceled", cancelSource="1")
            elif op == "amend-order":
                self.amend(order, arg)
            self.match(order)
            refusal = Refusal("0", "")
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            refusal = Refusal("51000", f"Parameter {error} error")
        except Refusal as error:
            refusal = error
        ids = {
            "ordId": order["ordId"],
            "clOrdId": order["clOrdId"] or (arg.get("clOrdId", "") if isinstance(arg, dict) else ""),
        }
        said = {"sCode": str(refusal.code), "sMsg": refusal.message}
        return {**ids, "ts": now_ms(), **said, "subCode": "1000" if refusal.code == "51008" else ""}

    def name_of(self, arg: Row) -> str:
        """The instrument of a request."""
        if "instIdCode" not in arg:
            raise Refusal("50014", "Parameter instIdCode can not be empty.")
        name = self.exchange.codes.get(arg["instIdCode"])
        if name not in self.exchange.listed:
            raise Refusal("51001", "Instrument ID does not exist.")
        return str(name)

    def place(self, arg: Row) -> Row:
        name, id, kind = self.name_of(arg), arg.get("clOrdId", ""), arg["ordType"]
        terms, side = self.terms(name), arg.get("posSide") or "net"
        if arg["side"] not in ("buy", "sell"):
            raise ValueError("side or sz")
        if kind not in ("limit", "market", "post_only", "ioc", "fok"):
            raise ValueError("ordType")
        if terms.kind in ("SWAP", "FUTURES") and arg["tdMode"] not in ("cross", "isolated"):
            raise ValueError("tdMode")
        if side not in ("net", "long", "short"):
            raise ValueError("posSide")
        if id and any(order["clOrdId"] == id for order in self.orders.values()):
            raise Refusal("51016", "Client order ID already exists.")
        order = {"instId": name, "instType": terms.kind, "ordId": str(1000 + len(self.orders)), "clOrdId": id}
        order |= {"side": arg["side"], "ordType": kind, "tdMode": arg["tdMode"], "sz": self.number(arg, "sz")}
        order |= {"px": "" if kind == "market" else self.number(arg, "px"), "cTime": now_ms(), "tgtCcy": ""}
        if terms.spot and kind == "market":
            order["tgtCcy"] = arg.get("tgtCcy") or ("quote_ccy" if arg["side"] == "buy" else "base_ccy")
        order |= {"posSide": "" if terms.spot else side}
        order |= {"reduceOnly": "true" if str(arg.get("reduceOnly")).lower() == "true" else "false"}
        order |= {"accFillSz": "0", "avgPx": "", "fillPx": "", "fillSz": "0", "fee": "0", "feeCcy": "", "pnl": "0"}
        order |= {"lever": "" if terms.spot else "10", "code": "0", "msg": ""}
        self.cover(order)
        self.orders[order["ordId"]] = order
        takes = order["ordType"] == "post_only" and self.reached(order)  # such an order is never live
        self.change(order, state="canceled" if takes else "live", cancelSource="31" if takes else "")
        return order

    def number(self, arg: Row, name: str) -> str:
        value = Decimal(str(arg[name]))
        if not value > 0:
            raise ValueError(name)
        return plain(value)

    def amend(self, order: Row, arg: Row) -> None:
        renamed = {"newPx": "px", "newSz": "sz"}
        changes = {renamed[name]: self.number(arg, name) for name in renamed if name in arg}
        self.cover(order | changes)
        self.change(order, **changes, amendResult="0")

    def find(self, arg: Row, op: str) -> Row:
        name = self.name_of(arg)
        for order in self.orders.values():
            named = arg.get("ordId", arg.get("clOrdId")) in (order["ordId"], order["clOrdId"])
            if named and order["state"] == "live" and order["instId"] == name:
                return order
        what, code = ("Order modification", "51503") if op == "amend-order" else ("Cancellation", "51400")
        raise Refusal(code, f"{what} failed as the order has been filled, canceled or does not exist.")

    # -- What an order takes

    def price(self, order: Row) -> Decimal:
        """What it would be filled at now."""
        side = "asks" if order["side"] == "buy" else "bids"
        return Decimal(self.exchange.instrument(order["instId"]).levels(side, 1)[0][0])

    def reached(self, order: Row) -> bool:
        """Whether it can be filled now."""
        if order["ordType"] == "market":
            return True
        limit, price = Decimal(order["px"]), self.price(order)
        return price <= limit if order["side"] == "buy" else price >= limit

    def size(self, order: Row, price: Decimal) -> Decimal:
        """What it trades at a price, in coins or contracts; of an order that only reduces no more than there is."""
        terms, size = self.terms(order["instId"]), Decimal(order["sz"])
        if order["tgtCcy"] == "quote_ccy":
            size = size / price // terms.lot * terms.lot
        if size < terms.least:
            raise Refusal("51020", "Your order should meet or exceed the minimum order amount.")
        if size % terms.lot:
            raise Refusal("51121", "Order quantity must be a multiple of the lot size.")
        return min(size, self.against(order)) if self.reduces(order) else size

    def reduces(self, order: Row) -> bool:
        """Whether it must not open a position: it says so, or sells a long one, or buys a short one back."""
        closing = (order["side"], order["posSide"]) in (("sell", "long"), ("buy", "short"))
        return closing or (order["reduceOnly"] == "true" and order["posSide"] != "")

    def against(self, order: Row) -> Decimal:
        """How much of what is held it would close."""
        held = self.positions.get((order["instId"], order["posSide"]), Position()).size
        return max(-held if order["side"] == "buy" else held, ZERO)

    def need(self, order: Row, price: Decimal) -> tuple[str, Decimal]:
        """What it takes: what is paid, or a tenth of what it opens, and the fee."""
        terms, size = self.terms(order["instId"]), self.size(order, price)
        if terms.spot:
            return (terms.quote, terms.value(size, price)) if order["side"] == "buy" else (terms.base, size)
        opened = max(size - self.against(order), ZERO)
        return terms.settle, coins(terms.value(opened, price) * (Decimal("0.1") + terms.fee))

    def available(self, ccy: str, besides: str = "") -> Decimal:
        """What is neither frozen, but for one order, nor held as margin."""
        frozen = [amount for id, (other, amount) in self.frozen.items() if other == ccy and id != besides]
        return self.cash.get(ccy, ZERO) - sum(frozen, ZERO) - self.margins(ccy)

    def margins(self, ccy: str) -> Decimal:
        return sum((self.margin(*position) for position in self.settled(ccy)), ZERO)

    def margin(self, name: str, held: Position) -> Decimal:
        return self.terms(name).value(abs(held.size), held.entry) / 10

    def settled(self, ccy: str) -> list[tuple[str, Position]]:
        """The positions that are settled in a currency."""
        return [(name, held) for (name, _), held in self.positions.items() if self.terms(name).settle == ccy]

    def cover(self, order: Row) -> None:
        """Freeze what an order takes, or refuse it."""
        price = self.price(order) if self.reached(order) else Decimal(order["px"])
        ccy, amount = self.need(order, price)
        if amount > self.available(ccy, order["ordId"]):
            raise Refusal("51008", f"Order failed. Insufficient {ccy} balance in account.")
        self.frozen[order["ordId"]] = ccy, amount

    # -- What becomes of it

    def match(self, order: Row) -> None:
        """Fill an order that can be filled; end one that may not rest."""
        if order["state"] != "live":
            return
        if self.reached(order):
            self.fill(order, self.price(order))
        elif order["ordType"] in ("ioc", "fok"):
            self.change(order, state="canceled", cancelSource={"ioc": "14", "fok": "13"}[order["ordType"]])

    def fill(self, order: Row, price: Decimal) -> None:
        terms, size, buys = self.terms(order["instId"]), self.size(order, price), order["side"] == "buy"
        needed, amount = self.need(order, price)
        if not size or amount > self.available(needed, order["ordId"]):  # what it was to close is gone
            return self.change(order, state="canceled", cancelSource="0" if size else "17")
        value, pnl = terms.value(size, price), ZERO
        if terms.spot:
            self.move(*((terms.quote, -value) if buys else (terms.base, -size)))
            ccy, got = (terms.base, size) if buys else (terms.quote, value)
            fee = coins(got * terms.fee)
            self.move(ccy, got - fee)
        else:
            ccy, fee, pnl = terms.settle, coins(value * terms.fee), self.turn(order, size if buys else -size, price)
            self.move(ccy, pnl - fee)
            order["sz"] = plain(size)
        fill = {"fillPx": plain(price), "avgPx": plain(price), "fillSz": plain(size), "accFillSz": plain(size)}
        self.change(order, state="filled", **fill, fee=plain(-fee), feeCcy=ccy, pnl=plain(pnl))

    def move(self, ccy: str, amount: Decimal) -> None:
        self.cash[ccy] = self.cash.get(ccy, ZERO) + amount

    def turn(self, order: Row, size: Decimal, price: Decimal) -> Decimal:
        """Open, enlarge, reduce or flip a position: the profit of what is closed."""
        terms = self.terms(order["instId"])
        held = self.positions.setdefault((order["instId"], order["posSide"]), Position())
        closed = min(abs(size), self.against(order))
        pnl = terms.profit(closed.copy_sign(held.size), held.entry, price)
        if held.size * size > 0:
            held.entry = terms.mean(held.size, held.entry, size, price)
        elif abs(size) > closed:
            held.entry = price
        held.size, held.mode = held.size + size, order["tdMode"]
        return pnl

    def change(self, order: Row, **values: Any) -> None:
        order |= {**values, "uTime": now_ms()}
        if order["state"] != "live":
            self.frozen.pop(order["ordId"], None)
        self.news.append(dict(order))

    def tell(self) -> None:
        """Push what has changed to whoever has subscribed to it."""
        news, self.news = self.news, []
        for session in self.exchange.sessions if news else ():
            for name, feed in session.feeds.items():
                arg = {} if feed.instrument or "{" not in name else json.loads(name)
                if arg.get("channel") != "orders":
                    session.send(self.state(arg, news) if arg else "")
                elif orders := [order for order in news if self.wanted(arg, order)]:
                    session.send(compact({"arg": {**arg, "uid": "7"}, "data": orders}))
        self.positions = {key: position for key, position in self.positions.items() if position.size}

    def wanted(self, arg: Row, row: Row) -> bool:
        family = "-".join(row["instId"].split("-")[:2])
        named = arg.get("instId", row["instId"]) == row["instId"] and arg.get("instFamily", family) == family
        return named and arg.get("instType", "ANY") in ("ANY", row["instType"])

    def state(self, arg: Row, news: Sequence[Row] = ()) -> str:
        """What a private channel holds now, or has of the orders that have changed; `orders` has no such thing."""
        filled = {(order["instId"], order["posSide"]) for order in news if order["state"] == "filled"}
        positions = [self.position_row(*key) for key in self.positions if not news or key in filled]
        positions = [row for row in positions if self.wanted(arg, row)]
        balances = [self.balance(ccy) for ccy in sorted(self.cash) if arg.get("ccy", ccy) == ccy]
        both = {"pTime": now_ms(), "eventType": "filled" if news else "snapshot"}
        data: dict[str, list[Row]] = {
            "account": [{"totalEq": plain(self.total()), "details": balances, "uTime": now_ms()}],
            "positions": positions,
            "balance_and_position": [both | {"balData": balances, "posData": positions}] if filled or not news else [],
        }
        rows = data.get(arg.get("channel", ""))
        if rows is None or (news and not rows):
            return ""
        page = {"eventType": "event_update"} if news else {"eventType": "snapshot", "curPage": 1, "lastPage": True}
        return compact({"arg": {**arg, "uid": "7"}, **page, "data": rows})

    def mark(self, name: str) -> Decimal:
        i = self.exchange.instrument(name)
        return Decimal(i.price(i.middle))

    def upl(self, name: str, held: Position) -> Decimal:
        return self.terms(name).profit(held.size, held.entry, self.mark(name))

    def equity(self, ccy: str) -> Decimal:
        return self.cash[ccy] + sum((self.upl(*position) for position in self.settled(ccy)), ZERO)

    def total(self) -> Decimal:
        """The equity in all currencies, in USD."""
        worth = (self.equity(ccy) * (1 if "USD" in ccy else self.mark(f"{ccy}-USDT")) for ccy in self.cash)
        return coins(sum(worth, ZERO))

    def balance(self, ccy: str) -> Row:
        available = self.available(ccy)
        row = {"cashBal": self.cash[ccy], "availBal": available, "frozenBal": self.cash[ccy] - available}
        row |= {"eq": self.equity(ccy), "ordFrozen": self.cash[ccy] - available - self.margins(ccy)}
        return {"ccy": ccy, **{name: plain(amount) for name, amount in row.items()}, "uTime": now_ms()}

    def position_row(self, name: str, side: str) -> Row:
        held = self.positions[name, side]
        row = {"instId": name, "instType": kind_of(name), "posSide": side, "mgnMode": held.mode}
        row |= {"pos": plain(held.size if side == "net" else abs(held.size)), "avgPx": plain(held.entry)}
        row |= {"markPx": plain(self.mark(name)), "upl": plain(self.upl(name, held))}
        row |= {"imr": plain(self.margin(name, held)), "lever": "10", "liqPx": "", "ccy": self.terms(name).settle}
        return row | {"posId": str(zlib.crc32(f"{name} {side}".encode())), "uTime": now_ms()}


PATHS: dict[str, tuple[Generation, str]] = {
    "/websocket": (ServerV1(), ""),
    "/websocket/okexapi": (ServerV1(), ""),
    "/ws/v1": (ServerV1(), ""),
    "/ws/v3": (ServerV3(), ""),
    "/ws/v5/public": (ServerV5(), "public"),
    "/ws/v5/private": (ServerV5(), "private"),
    "/ws/v5/business": (ServerV5(), "business"),
}


# -- The server ----------------------------------------------------------------------------------------------------


@dataclass
class Usage:
    """What one connection has asked for, for tests of what a client may."""

    endpoint: str
    requests: int = 0  # of v5: subscribe, unsubscribe and login
    channels: int = 0  # at once, at most
    books: int = 0  # the incremental ones among them


class Session:
    """One WebSocket connection, as the exchange sees it."""

    def __init__(self, exchange: Exchange, path: str, handler: BaseHTTPRequestHandler) -> None:
        self.exchange = exchange
        self.path = path
        self.generation, self.endpoint = PATHS[path]
        self.number = next(exchange.numbers)
        self.feeds: dict[str, Feed] = {}
        self.socket = handler.connection
        self.file = handler.rfile
        self.frames = frame_buffer(self.receive, skip_utf8_validation=True)
        self.sending = threading.Lock()
        self.logged_in = False
        self.active = time.monotonic()  # when something last went either way
        self.asked: deque[float] = deque()  # when, within the last hour
        self.usage = exchange.usage[self.number] = Usage(self.endpoint)

    def run(self) -> None:
        """Read until the client leaves."""
        while True:
            frame = self.frames.recv_frame()
            if not frame.mask_value:
                return self.close(1002, "a client must mask its frames")
            if frame.opcode == ABNF.OPCODE_CLOSE:
                return self.frame(frame.data, ABNF.OPCODE_CLOSE)
            if self.exchange.silent:
                continue
            if frame.opcode == ABNF.OPCODE_PING:
                self.frame(frame.data, ABNF.OPCODE_PONG)
            elif frame.opcode == ABNF.OPCODE_TEXT:
                text = frame.data.decode()
                self.active = time.monotonic()
                with self.exchange.lock:
                    # Decided first: who sees the request in the list may turn the switch.
                    ignored = self.exchange.ignored and self.exchange.ignored in text
                    self.exchange.requests.append((self.number, text))
                    if not ignored:
                        self.generation.receive(self, text)

    def receive(self, most: int) -> bytes:
        data: bytes = self.file.read1(most)  # type: ignore[attr-defined]
        if not data:
            raise ConnectionError("the client left")
        return data

    def may_ask(self) -> bool:
        """Whether one more request is within the hour's limit."""
        now = time.monotonic()
        while self.asked and self.asked[0] < now - 3600:
            self.asked.popleft()
        self.asked.append(now)
        self.usage.requests += 1
        return len(self.asked) <= self.exchange.requests_an_hour

    def add(self, name: str, feed: Feed) -> None:
        """Subscribe: what the channel holds now follows at once, a whole book where it has one."""
        first = feed.message(self.exchange.instrument(feed.instrument or "BTC-USDT"), True)
        arg = json.loads(name) if name.startswith("{") else {}
        feed.channel = written(arg) if arg else name
        if self.exchange.lost.get(feed.channel, 0) > 0 and '"action"' not in first:
            self.exchange.lost[feed.channel] -= 1
        elif self.exchange.snapshots or '"action":"snapshot"' not in first:
            self.send(first)
        books = sum('"channel":"books' in other and '"channel":"books5"' not in other for other in {*self.feeds, name})
        self.usage.channels = max(self.usage.channels, len({*self.feeds, name}))
        self.usage.books = max(self.usage.books, books)
        self.feeds[name] = feed  # last: who sees it listed knows that what it held is sent

    def send(self, text: str) -> None:
        """Push one message the way that this generation does."""
        if self.exchange.silent or not text:
            return
        self.active = time.monotonic()
        if self.generation.compressed:
            self.frame(deflate(text), ABNF.OPCODE_BINARY)
        else:
            self.frame(text.encode(), ABNF.OPCODE_TEXT)

    def frame(self, data: bytes, opcode: int) -> None:
        self.raw(ABNF(1, 0, 0, 0, opcode, 0, data).format())

    def raw(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        with self.sending, suppress(OSError):
            self.socket.sendall(data)

    def close(self, code: int, reason: str = "") -> None:
        self.frame(struct.pack("!H", code) + reason.encode(), ABNF.OPCODE_CLOSE)

    def drop(self, reset: bool = False) -> None:
        """End the TCP connection without a word; with `reset`, by a RST."""
        with suppress(OSError):
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.shutdown(self.socket, socket.SHUT_RD if reset else socket.SHUT_RDWR)
            if reset:
                self.socket.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a row waits 40 ms for the client's acknowledgement, once that has sent a ping
    server: Server

    def do_GET(self) -> None:
        exchange = self.server.exchange
        self.close_connection = True
        if self.path.startswith("/api/v5/"):
            return self.rest(exchange)
        exchange.handshakes += 1
        if not exchange.may_connect():
            self.send_error(429)
        elif exchange.mute:
            exchange.stopping.wait()
        elif exchange.http_status:
            self.send_error(exchange.http_status)
        elif exchange.redirect:
            self.send_response(302)
            self.send_header("Location", exchange.redirect)
            self.end_headers()
        elif self.path.partition("?")[0] not in PATHS or "Sec-WebSocket-Key" not in self.headers:
            self.send_error(404)
        else:
            self.upgrade(exchange)

    def rest(self, exchange: Exchange) -> None:
        """The public REST resources that a client of the WebSocket needs, or OKX's error for others."""
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        exchange.fetched.append(self.path)
        exchange.stopping.wait(exchange.rest_delay)
        if exchange.rest_status:
            return self.send_error(exchange.rest_status)
        if exchange.rest_body:
            return self.answer(200, "text/html", exchange.rest_body)
        try:
            with exchange.lock:
                rows = exchange.rest(url.path, query)
                if exchange.rest_rows:
                    rows = exchange.rest_rows(url.path, query, rows)
            answer = {"code": "0", "msg": "", "data": rows}
        except (KeyError, ValueError):
            answer = {"code": "51000", "msg": "Parameter error", "data": []}
        except Refusal as refusal:
            answer = {"code": str(refusal.code), "msg": refusal.message, "data": []}
        status = 400 if answer["code"] in ("50014", "50015") else 200
        self.answer(status, "application/json", compact(answer).encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def upgrade(self, exchange: Exchange) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        (self.send_response_only if exchange.dateless else self.send_response)(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", b64encode(sha1(key.encode()).digest()).decode())
        session = Session(exchange, self.path.partition("?")[0], self)
        with session.sending:  # listed before the client knows that it is connected, and silent until then
            with exchange.lock:
                exchange.sessions.append(session)
            self.end_headers()
        try:
            session.run()
        except (OSError, ValueError, WebSocketProtocolException):
            pass
        finally:
            with exchange.lock:
                exchange.sessions.remove(session)

    def log_message(self, *_: Any) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(int(timestamp or self.server.exchange.now()))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    exchange: Exchange

    def handle_error(self, *_: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*_)


REST_CANDLES = {  # the market of a resource, and its rows at most
    "candles": ("", 300),
    "history-candles": ("", 300),
    "mark-price-candles": ("mark-price-", 100),
    "history-mark-price-candles": ("mark-price-", 100),
    "index-candles": ("index-", 100),
    "history-index-candles": ("index-", 100),
    "sprd-candles": ("sprd-", 300),
    "sprd-history-candles": ("sprd-", 100),
}


class Exchange:
    """The stand-in as a whole. Its switches may be turned at any time, from any thread.

    every       seconds between two steps of the market; None: it steps only when `step` is called
    more_coins  how many more to list, C0001 and so on, each as spot and as swap against USDT
    requests_an_hour  to subscribe, unsubscribe or log in on one connection of v5; more are refused with 60014
    connects_a_second  more get HTTP 429; None: as many as come
    silent      neither push nor answer, as a connection does that is dead without being closed
    ignored     do nothing about requests that hold this text
    mute        accept connections but never answer the handshake
    http_status answer this instead of the handshake
    redirect    a URL to send clients to, instead of the handshake
    dateless    answer the handshake without the header Date
    unnamed     a v5 channel to refuse without saying which
    refusals    v5 channels to refuse, with code and message: {"trades:BTC-USDT": ("60029", "No")}; see `written`
    login_refusal  the code and message to refuse v5's logins with
    order_answer  a function of the answer to a request for orders that gives what is sent instead; None: nothing is
    drops_filters  leave the filter out of what is echoed, as the exchange does with instFamily
    snapshots   False: v5's incremental books begin without a snapshot
    lost        how many of the next messages never leave, by channel: {"trades:BTC-USDT": 1}
    repeats     seconds without a push until v5 repeats a book, unless its messages get lost; None: it never does
    aggregates  v5's `trades` have one row for all trades of an order at one price, with their count
    hurry       seconds of the market's clock from one step to the next; None: it goes as ours does
    rest_status answer this to REST requests
    rest_body   answer this to REST requests, as a web page
    rest_delay  seconds until REST answers
    rest_rows   a function of (path, query, rows) that gives what REST answers instead of these rows
    fetched     the paths of all REST requests
    keys        the API key, secret key and passphrase that it knows; every stand-in has the same
    skew        seconds that its clock is ahead
    requests    (connection number, text) of everything that clients sent
    sessions    the open connections, oldest first
    usage       how much each connection has asked for, by number, the closed ones, too
    """

    keys = ("a0f3c1d2-5b77-4f0e-9d3c-0123456789ab", "5TANDIN5ECRET0123456789ABCDEF012", "stand-in passphrase")

    def __init__(
        self, *, seed: int = 20181114, every: float | None = 0.2, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.seed, self.every = seed, every
        self.more_coins = 0
        self.requests_an_hour = 480
        self.connects_a_second: int | None = None
        self.connects: deque[float] = deque()  # when, within the last second
        self.usage: dict[int, Usage] = {}
        self.silent = self.mute = False
        self.ignored = self.unnamed = self.redirect = ""
        self.dateless = False
        self.refusals: dict[str, tuple[str, str]] = {}
        self.login_refusal: tuple[str, str] | None = None
        self.order_answer: Callable[[Row], Row | None] | None = None
        self.repeats: float | None = 60.0
        self.snapshots = True
        self.drops_filters = False
        self.lost: dict[str, int] = {}
        self.aggregates = False
        self.hurry: float | None = None
        self.ahead = 0.0  # seconds that the market's clock is ahead, by hurrying
        self.rest_status = 0
        self.rest_body = b""
        self.rest_delay = 0.0
        self.rest_rows: Callable[[str, Row, list[Any]], list[Any]] | None = None
        self.fetched: list[str] = []
        self.skew = 0.0
        self.codes: dict[int, str] = {}  # instruments by instIdCode, once they were looked up
        self.account = Account(self)
        self.http_status = 0
        self.handshakes = 0
        self.numbers = iter(range(1, sys.maxsize))
        self.requests: list[tuple[int, str]] = []
        self.sessions: list[Session] = []
        self.instruments: dict[str, Instrument] = {}  # those that somebody has asked for
        self.turn = 0  # of the next markets to move
        self.lock = threading.RLock()  # guards the market, the sessions and their feeds
        self.stopping = threading.Event()
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.exchange = self
        self.port = self.server.server_address[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)

    def start(self) -> Exchange:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), name="exchange", daemon=True).start()
        threading.Thread(target=self.run_market, name="market", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            for session in list(self.sessions):
                session.drop()

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> float:
        return time.time() + self.skew

    def market_time(self) -> float:
        return self.now() + self.ahead

    def may_connect(self) -> bool:
        with self.lock:
            now = time.monotonic()
            while self.connects and self.connects[0] < now - 1:
                self.connects.popleft()
            if self.connects_a_second is not None and len(self.connects) >= self.connects_a_second:
                return False
            self.connects.append(now)
            return True

    @property
    def listed(self) -> dict[str, Listed]:
        """What v5 lists now, by name."""
        return listing(datetime.fromtimestamp(self.now() - 8 * 3600, timezone.utc).date(), self.more_coins)

    def instrument(self, name: str) -> Instrument:
        if name not in self.instruments:
            self.instruments[name] = Instrument(name, self.seed, self.market_time)
        self.instruments[name].aggregates = self.aggregates
        return self.instruments[name]

    def rest(self, path: str, query: dict[str, str]) -> list[Any]:
        """The data of a REST resource. Raises Refusal for what there is not."""
        name = instrument_of(query)
        kind = path.removeprefix("/api/v5/market/")
        if path == "/api/v5/public/time":
            return [{"ts": str(int(self.now() * 1000))}]
        if path == "/api/v5/public/instruments":
            return self.list_instruments(query)
        if kind == "history-trades" or kind in REST_CANDLES:
            spread = kind.startswith("sprd-")
            if name not in self.listed or not spread == ("sprdId" in query) == (kind_of(name) == "SPREAD"):
                raise Refusal("51001", "Instrument ID does not exist.")
            i = self.instrument(name)
            return self.list_trades(i, query) if kind == "history-trades" else self.list_candles(i, kind, query)
        raise Refusal("51001", "Parameter error")

    def list_instruments(self, query: dict[str, str]) -> list[Any]:
        """What is listed of one instType, all of it or what the query narrows it to."""
        kind, family = query.get("instType", ""), query.get("instFamily") or query.get("uly")
        if not kind:
            raise Refusal("50014", "Parameter instType can not be empty.")
        if kind not in ("SPOT", "SWAP", "FUTURES", "OPTION", "EVENTS"):
            raise Refusal("51000", "Parameter instType error")
        if kind == "OPTION" and not family:
            raise Refusal("50015", "Either parameter uly or instFamily is required")
        wanted = {"kind": kind, "family": family or query.get("seriesId"), "name": query.get("instId")}
        wanted = {field: value for field, value in wanted.items() if value}
        found = [i for i in self.listed.values() if wanted.items() <= i._asdict().items()]
        if not found:
            raise Refusal("51001", "Instrument ID does not exist.")
        self.codes |= {i.code: i.name for i in found}
        return [i.row() for i in found]

    def list_trades(self, i: Instrument, query: dict[str, str]) -> list[Any]:
        """Newest first: those before an id (type 1), or before a time (type 2)."""
        key = {"1": "id", "2": "ts"}[query.get("type", "1")]
        if key == "ts" and "before" in query:
            raise Refusal("50039", "The parameter before is not supported")
        after, before = int(query.get("after", 10**18)), int(query.get("before", -1))
        most = min(int(query.get("limit", 100)), 100)
        i.recall()
        listed = islice((t for t in reversed(i.history) if before < t[key] < after), most)
        return [{"instId": i.name, "source": "0"} | ServerV5().match(t) for t in listed]

    def list_candles(self, i: Instrument, kind: str, query: dict[str, str]) -> list[Any]:
        """Newest first. The histories have final ones alone, the others of marks and indices the latest 1,440."""
        market, limit = REST_CANDLES[kind]
        bar, most = query.get("bar", "1m"), min(int(query.get("limit", 100)), limit)
        if not re.fullmatch(BARS, bar) or bar.removesuffix("utc") in UNLISTED[market].split():
            raise Refusal("51000", "Parameter bar error")
        after, before = int(query.get("after", 10**18)), int(query.get("before", -1))
        kept = list(reversed(i.candles(bar)))
        kept = kept[1:] if "history" in kind else kept[:1440] if market in ("mark-price-", "index-") else kept
        return [ServerV5().bar(i, b, market) for b in islice((b for b in kept if before < b[0] < after), most)]

    def run_market(self) -> None:
        while not self.stopping.wait(self.every or 0.2):
            if self.every:
                self.step()
            with self.lock:
                for session in list(self.sessions):
                    limit = session.generation.idle_limit
                    if limit and time.monotonic() - session.active > limit:
                        session.close(4004, "No data received in 30s")
                        session.drop()
                    self.repeat(session)

    def repeat(self, session: Session) -> None:
        """Push the books again on which nothing happened for a while."""
        now = time.monotonic()
        for feed in session.feeds.values() if self.repeats is not None else ():
            if feed.repeat and now - feed.pushed >= (self.repeats or 0.0) and not self.lost.get(feed.channel):
                session.send(feed.repeat(self.instrument(feed.instrument)))
                feed.pushed = now

    def step(self) -> None:
        """Let something happen in every market that is watched, and push it."""
        with self.lock:
            if self.hurry is not None:
                self.ahead += self.hurry
            watched = {feed.instrument for session in self.sessions for feed in session.feeds.values()}
            resting = [order for order in self.account.orders.values() if order["state"] == "live"]
            moving = self.taking_turns(sorted((watched | {order["instId"] for order in resting}) - {""}))
            for name in moving:
                self.instrument(name).step()
            for order in resting:
                self.account.match(order)
            self.account.tell()
            for session in list(self.sessions):
                for feed in list(session.feeds.values()):
                    if feed.instrument in moving:
                        message = feed.message(self.instrument(feed.instrument), False)
                        feed.pushed = time.monotonic()
                        if self.lost.get(feed.channel, 0) > 0:
                            self.lost[feed.channel] -= 1
                        else:
                            session.send(message)

    def taking_turns(self, names: list[str]) -> set[str]:
        """Those whose markets move in this step."""
        if len(names) <= MOVES:
            return set(names)
        self.turn = (self.turn + MOVES) % len(names)
        return set((names * 2)[self.turn : self.turn + MOVES])


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for the exchange. Prints URLs and key; Ctrl-C ends it.")
    parser.add_argument("--port", type=int, default=0, help="to listen at on 127.0.0.1 (default: a free one)")
    parser.add_argument("--more-coins", type=int, default=0, metavar="N", help="to list besides those that it knows")
    options = parser.parse_args()
    try:
        exchange = Exchange(port=options.port)
    except OSError as error:
        raise SystemExit(f"cannot listen at port {options.port}: {error.strerror}") from None
    with exchange, suppress(KeyboardInterrupt):
        exchange.more_coins = options.more_coins
        for path in PATHS:
            print(exchange.url + path)
        names = ("OKX_API_KEY", "OKX_SECRET_KEY", "OKX_PASSPHRASE")
        print("export", *(f"{name}={shlex.quote(key)}" for name, key in zip(names, exchange.keys)), flush=True)
        exchange.stopping.wait()


if __name__ == "__main__":
    main()
