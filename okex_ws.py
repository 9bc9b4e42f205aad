#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["websocket-client>=1.8.0"]
# ///
"""Receive OKEx/OKX market data over WebSocket, and never be silently wrong.

    python okex_ws.py               # live trades of BTC-USDT from OKX (v5)
    python okex_ws.py --offline     # the same program against a stand-in exchange on this machine

As a library, or pasted into a trading script:

    from okex_ws import OkexWS

    def handler(channel, rows):
        for row in rows:
            print(row["px"], row["sz"], row["side"])

    OkexWS(["trades:BTC-USDT"], handler).run()

Threads: `run()` connects, reads and calls the handler on the thread that called it; `start()` does so
on a daemon thread of its own. One more daemon thread, `send_heartbeat`, sends the ping, and trusts no order
book while the handler blocks. `subscribe`, `unsubscribe` and `close` may be called from any thread, the
handler's included.
"""

import argparse
import base64
import hashlib
import hmac
import importlib
import ipaddress
import itertools
import logging
import marshal
import os
import re
import socket
import ssl
import sys
import threading
import zlib
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import islice, zip_longest
from json import JSONDecoder, JSONEncoder
from json import loads as json_loads
from math import inf, isfinite
from pathlib import Path
from queue import Empty, SimpleQueue
from random import uniform
from stat import S_ISREG
from time import localtime, monotonic, strftime
from time import sleep as pause
from time import time as wall_clock
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

try:
    import websocket
    from websocket import ABNF, WebSocketApp
except ImportError as error:  # PyPI has another package called websocket, which shadows the right one
    raise (SystemExit if __name__ == "__main__" else ImportError)(
        "okex_ws needs the package websocket-client: pip install websocket-client"
        f" (and, if it is there, pip uninstall websocket) [{error}]"
    ) from None

__all__ = [
    "OkexWS", "Credentials", "LoginError", "OrderError", "OrderBook", "BookOutOfSync", "RedisFeed", "Sink", "SINKS",
    "V1", "V3", "V5", "dialect_of", "endpoint", "fields", "inflate", "print_rows", "main",
]  # fmt: skip
__version__ = "1.0.0"

CONNECT_TIMEOUT = 10.0  # seconds, for each step of connecting: TCP, TLS, handshake
CONFIRM_TIMEOUT = 10.0  # seconds until a subscription, its end, or a login that nobody confirmed is reported
SILENCE_MARGIN = 10.0  # seconds beyond ping_every in which something, a pong at least, must arrive
MAX_RETRY = 30.0  # seconds between two tries to connect, at most
MAX_CHANNEL_RETRY = 60.0  # seconds between two tries to get a channel that is not confirmed, at most
CONNECT_SPACING = 0.34  # seconds; OKX accepts 3 connects a second per IP (docs-v5 overview, 2026)
REQUESTS_PER_HOUR = 480  # subscribe + unsubscribe + login on one connection (docs-v5 overview, 2026)
REQUESTS_PER_OPEN = 100  # up to so many channels are asked for one by one, so that refusals are told apart
MAX_PENDING = 10_000  # updates kept while a book's snapshot is fetched: 100 s of the fastest channel
MAX_QUEUE = 128 << 20  # bytes that wait for one sink before the reading threads wait for it
MAX_BATCH = 1000  # messages that a sink takes between two flushes
MAX_DRAIN = 30.0  # seconds at the end for a sink to write what is queued
MAX_DRAIN_FAILING = 3.0  # the same for a sink that fails
REDIS_TIMEOUT = 5  # seconds for Redis to answer
CHUNK = 1 << 16  # bytes to receive at once, at most
BUSY = 1 << 14  # bytes; so much at once means that more is waiting; a TLS record holds no more
MAX_MESSAGE = 16 << 20  # bytes of one inflated message; the largest real one, a full book, has about 0.1 MB
INFLATE_FREELY = MAX_MESSAGE // 1032  # bytes; DEFLATE expands 1032 times at most, so these need no bound
RAW = -zlib.MAX_WBITS  # DEFLATE without a zlib header

# OKX hosts by region: live, simulated trading, REST. Port 8443 closed on 2026-10-31; 443 is the default.
REGIONS = {
    "global": ("wss://ws.okx.com", "wss://wspap.okx.com", "https://openapi.okx.com"),
    "eea": ("wss://wseea.okx.com", "wss://wseeapap.okx.com", "https://eea.okx.com"),
    "us": ("wss://wsus.okx.com", "wss://wsuspap.okx.com", "https://us.okx.com"),
}

# What to do about the exchange's error and close codes (v1: 1xxxx and 2xxxx, v3: 3xxxx, v5: 6xxxx and 400x).
HINTS = {
    code: hint
    for hint, codes in {
        "check the spelling of the channel and its instrument": "10000 10001 10008 10015 20006 20007 20028 20103"
        " 20116 30040 60012 60013 60018 60027 60033",
        "check the API key, secret and passphrase": "10002 10005 10017 20020 20024 20026 30001 30002 30004 30006"
        " 30013 30015 30027 60005 60007 60009 60024 4001",
        "keys are made per region, and for live or simulated trading: check --region and --simulated": "60032",
        "this key is for another generation of the API": "30016",
        "the account is frozen, or has not opened this product": "10100 20001 20002 20003 20004 20005",
        "this connection belongs to another user": "10003 10004",
        "this API is not public": "10216",
        "this key may not be used from this IP address": "20019",
        "check the clock of this machine": "30005 30008 60004 60006",
        "this channel needs a login; books, books5 and bbo-tbt are public": "30041 60011",
        "already logged in on this connection": "30042 60031",
        "this channel needs a higher fee tier; books and books5 need none": "64003",
        "books-l2-tbt cannot be combined with books or books50-l2-tbt on one instrument": "64004",
        "this channel lives on another endpoint: public, private or business": "30000 60008 60028 64001 64002",
        "the argument uly is gone, use instFamily": "64000",
        "too many requests or channels: ask less often, or spread them over connections": "20049 30026 60014 4003"
        " 4008 4009 channel-conn-count-error",
        "the exchange did not understand the request": "30039 60019 4002",
        "the request was too large": "1009",
        "an error inside the exchange": "20014 30043 63999 64007 4006",
        "nothing was exchanged for 30 seconds": "4004",
        "this program or its network reads too slowly": "4005",
        "the API key was changed or deleted": "4007",
    }.items()
    for code in codes.split()
}
CLOCK = {"30005", "30008", "60004", "60006"}  # refusals because of a timestamp
ALREADY = {"30042", "60031"}  # "refusals" that say that we are logged in
TRANSIENT = {"20014", "20049", "30026", "30043", "60014", "63999", "64007"}  # refusals worth another try

okex_log = logging.getLogger("okex_ws")  # Ping, pong and subscriptions at INFO, trouble at WARNING, frames at DEBUG


# ---------------------------------------------------------------------------------------------------------------
# Secrets: known here, so that they can be kept out of everything that is printed.

known_secrets: set[str] = set()  # keys and passwords
recent_signatures: deque[str] = deque(maxlen=16)  # the latest; one is good for 30 s


def hide_secret(secret: str) -> None:
    """Keep a secret out of what is printed: as it is, as JSON writes it, and as JSON in JSON does."""
    if len(secret) >= 4:  # no key of the exchange is as short, and every "a" would become ***
        for _ in range(3):
            known_secrets.add(secret)
            secret = to_json(secret)[1:-1]


def mask_secrets(text: str) -> str:
    for secret in (*known_secrets, *recent_signatures):
        text = text.replace(secret, "***")
    return text


def mask_record(record: logging.LogRecord) -> bool:
    if known_secrets:
        record.msg, record.args = mask_secrets(record.getMessage()), None
        if record.exc_info:
            record.exc_text = mask_secrets(logging.Formatter().formatException(record.exc_info))
    return True


okex_log.addFilter(mask_record)


class Credentials:
    """An API key of the exchange. v1 needs no passphrase. Nothing of it shows in a repr, a log or an error."""

    VARIABLES = ("OKX_API_KEY", "OKX_SECRET_KEY", "OKX_PASSPHRASE")

    def __init__(self, api_key: str, secret_key: str, passphrase: str = "") -> None:
        self.api_key, self.secret_key, self.passphrase = api_key, secret_key, passphrase
        for secret in (api_key, secret_key, passphrase):
            hide_secret(secret)

    def __repr__(self) -> str:
        return "Credentials(***)"

    @classmethod
    def from_environment(cls) -> "Credentials":
        """From OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE; what is not set is empty."""
        return cls(*(os.environ.get(name, "") for name in cls.VARIABLES))

    def missing(self, passphrase: bool = True) -> list[str]:
        """The variables that would have to be set."""
        values = (self.api_key, self.secret_key, self.passphrase or not passphrase)
        return [name for name, value in zip(self.VARIABLES, values) if not value]


# ---------------------------------------------------------------------------------------------------------------
# Wire: text or bytes in, values out. No socket, thread, clock, file or print.


try:
    from orjson import loads as from_json  # three times as fast, if it is there
except ImportError:
    _scan = JSONDecoder().scan_once  # type: ignore[attr-defined]

    def from_json(text: str) -> Any:  # type: ignore[misc]
        """json.loads without what it does around its scanner, which is a third of its time on a small message."""
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        return value if end == len(text) else json_loads(text)


to_json = JSONEncoder(separators=(",", ":")).encode


def inflate(data: bytes) -> bytes:
    """Decompress one binary frame of v1 or v3: a complete raw DEFLATE stream, without a zlib header.

    Raises ValueError when the stream is damaged, cut short, or a bomb.
    """
    try:
        if len(data) < INFLATE_FREELY:
            return zlib.decompress(data, RAW)
        stream = zlib.decompressobj(RAW)
        inflated = stream.decompress(data, MAX_MESSAGE + 1)
    except zlib.error as error:
        raise ValueError(f"not raw DEFLATE: {error}") from None
    if len(inflated) > MAX_MESSAGE:
        raise ValueError(f"inflates to more than {MAX_MESSAGE} bytes")
    if not stream.eof:
        raise ValueError("not raw DEFLATE: cut short")
    return inflated


def printable_text(text: str | bytes, most: int = 200) -> str:
    """Text from outside made fit for a terminal or a log: without secrets, shortened, control characters escaped."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = mask_secrets(text)
    if len(text) > most:
        text = text[:most] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Ping(NamedTuple):
    """The exchange asks for a pong."""


class Pong(NamedTuple):
    """The exchange answers our ping."""


class Subscribed(NamedTuple):
    channel: str


class Unsubscribed(NamedTuple):
    channel: str


class LoggedIn(NamedTuple):
    """The exchange accepted the login."""


class Refused(NamedTuple):
    """A request failed. `channel` or `id` is "" where the exchange does not say which."""

    code: str
    message: str
    channel: str
    id: str


class Notice(NamedTuple):
    code: str
    message: str


class Reply(NamedTuple):
    """The answer to an order request; `data` has an object for each order in it."""

    id: str
    op: str
    code: str
    message: str
    data: list[Any]


class Push(NamedTuple):
    """Data of one channel. `action` is "snapshot", "update", or "" where the exchange sends none."""

    channel: str
    rows: list[Any]
    action: str


class Unknown(NamedTuple):
    """Well-formed, but of no kind that is known here."""

    kind: str


class Malformed(NamedTuple):
    reason: str


CONFIRMATIONS: dict[str, type[Subscribed | Unsubscribed]] = {"subscribe": Subscribed, "unsubscribe": Unsubscribed}
Event = Ping | Pong | Subscribed | Unsubscribed | LoggedIn | Refused | Notice | Reply | Push | Unknown | Malformed


class Dialect:
    """One generation of the exchange's protocol. Stateless: every method is a pure function."""

    name: str
    retired: str = ""  # when the exchange gave this generation up
    URL: str
    ping, pong = "ping", "pong"
    ping_every: float  # seconds; every generation drops a connection that was quiet for 30
    max_request = 4096  # bytes of arguments in one request
    passphrase = True  # whether its login takes one
    BOOKS: re.Pattern[str]  # channels that are order books
    PRIVATE: re.Pattern[str]  # channels, by name without argument, that need a login

    @classmethod
    def url(cls, channel: str, region: str = "global", simulated: bool = False) -> str:
        """The exchange's own URL for this channel."""
        return cls.URL

    @classmethod
    def subscribe(cls, channels: Sequence[str], id: str = "", credentials: Credentials | None = None) -> str:
        """The request for these channels. Only v1 looks at the credentials, and signs for private channels."""
        return cls._request("subscribe", channels, id)

    @classmethod
    def unsubscribe(cls, channels: Sequence[str], id: str = "") -> str:
        return cls._request("unsubscribe", channels, id)

    @classmethod
    def _request(cls, op: str, channels: Sequence[str], id: str) -> str:
        raise NotImplementedError

    @classmethod
    def order(cls, op: str, args: list[dict[str, Any]], id: str) -> str:
        raise ValueError(f"{cls.name} takes no orders over WebSocket")

    @classmethod
    def instrument(cls, id: str) -> str:
        raise ValueError(f"{cls.name} takes no orders over WebSocket")

    @classmethod
    def private(cls, channel: str) -> bool:
        return bool(cls.PRIVATE.fullmatch(channel.partition(":")[0]))

    @classmethod
    def login(cls, credentials: Credentials, now: float) -> str:
        """The login request, signed for this epoch second."""
        raise NotImplementedError

    @staticmethod
    def _sign(credentials: Credentials, timestamp: str) -> str:
        """v3 and v5: base64 of HMAC-SHA256 over the timestamp and a fixed request."""
        text = f"{timestamp}GET/users/self/verify".encode()
        return base64.b64encode(hmac.digest(credentials.secret_key.encode(), text, "sha256")).decode()

    @classmethod
    def key(cls, channel: str) -> str:
        """The name that `parse` gives to this channel's events, however its user spells it."""
        return channel

    @classmethod
    def book(cls, channel: str) -> str:
        """How a channel sends order books: "whole" each time, "changes" after a first whole one, or "" for none."""
        depth = cls.BOOKS.fullmatch(channel)
        return "" if not depth else "whole" if depth["whole"] else "changes"

    @classmethod
    def snapshot(cls, channel: str) -> str:
        """The REST path of a snapshot that fits the channel's changes; "" where there is none."""
        return ""

    @classmethod
    def parse(cls, text: str) -> list[Event]:
        """The events in one message. Never raises: what cannot be read becomes a `Malformed`."""
        try:
            return cls._read(from_json(text))
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            if text in ("ping", "pong"):
                return [Ping() if text == "ping" else Pong()]
            return [Malformed(f"{type(error).__name__}: {error}")]

    @classmethod
    def _read(cls, message: Any) -> list[Event]:
        raise NotImplementedError


class V1(Dialect):
    """OKEx v1, 2017 to 2019: named channels, messages that are arrays of objects, raw DEFLATE since 2018.

    [{"binary":0,"channel":"ok_sub_spot_bch_btc_ticker","data":{"last":"111","buy":"115","sell":"115", …}}]
    """

    name = "v1"
    retired = "2019"
    ping = '{"event":"ping"}'
    pong = '{"event":"pong"}'
    URL = "wss://real.okex.com:10441/ws/v1"
    ping_every = 30.0
    passphrase = False
    BOOKS = re.compile(r"ok_sub_\w+?_depth(_(this|next)_week|_quarter)?(?P<whole>_\d+)?")
    PRIVATE = re.compile(r"ok_sub_futureusd_(trades|userinfo|positions)|ok_sub_spot_\w+_(order|balance)")

    @classmethod
    def _request(cls, op: str, channels: Sequence[str], id: str) -> str:
        event = {"subscribe": "addChannel", "unsubscribe": "removeChannel"}[op]
        return to_json([{"event": event, "channel": channel} for channel in channels])

    @classmethod
    def subscribe(cls, channels: Sequence[str], id: str = "", credentials: Credentials | None = None) -> str:
        def request(channel: str) -> dict[str, Any]:
            signed = {"parameters": cls._signed(credentials)} if credentials and cls.private(channel) else {}
            return {"event": "addChannel", "channel": channel, **signed}

        return to_json([request(channel) for channel in channels])

    @classmethod
    def sign(cls, parameters: dict[str, str], secret_key: str) -> str:
        """MD5 over the parameters in order and the secret, in upper case."""
        pairs = [f"{name}={parameters[name]}" for name in sorted(parameters)]
        return hashlib.md5("&".join([*pairs, f"secret_key={secret_key}"]).encode()).hexdigest().upper()

    @classmethod
    def login(cls, credentials: Credentials, now: float) -> str:
        return to_json({"event": "login", "parameters": cls._signed(credentials)})

    @classmethod
    def _signed(cls, credentials: Credentials) -> dict[str, str]:
        parameters = {"api_key": credentials.api_key}
        return parameters | {"sign": cls.sign(parameters, credentials.secret_key)}

    @classmethod
    def _read(cls, message: Any) -> list[Event]:
        if message.__class__ is not list:
            item = message
        elif len(message) == 1:
            item = message[0]
        else:  # each by itself, so that a bad one costs no other
            return [event for item in message for event in cls.parse(to_json([item]))]
        channel, data = item.get("channel", ""), item.get("data")
        if data.__class__ is list and channel and channel.__class__ is str:
            return [Push(channel, data, "")]
        if "data" not in item:
            events: dict[Any, Event] = {"pong": Pong(), "ping": Ping()}
            event = item.get("event")
            return [events.get(event, Unknown(f"event {event}" if event else f"object with {', '.join(item)}"))]
        if isinstance(data, dict) and str(data.get("result", True)).lower() == "false":
            # A refusal carries the *requested* channel, so that it looks like that channel's data.
            refused = data.get("channel", channel) if channel in ("addChannel", "removeChannel") else channel
            return [Refused(str(data.get("error_code", "")), str(data.get("error_msg", "")), str(refused), "")]
        if channel in ("addChannel", "removeChannel"):
            return [(Subscribed if channel == "addChannel" else Unsubscribed)(str(data["channel"]))]
        if channel == "login":
            return [LoggedIn()]
        if not channel or not isinstance(channel, str):
            raise ValueError("data without a channel")
        if isinstance(data, dict):
            return [Push(channel, [data], "")]
        # {"channel":"btc_forecast_price","timestamp":"1490341322021","data":"998.8"}: unasked for, before delivery
        return [Push(channel, [{k: v for k, v in item.items() if k not in ("channel", "binary")}], "")]


class V3(Dialect):
    """OKEx v3, 2018 to 2021: tables of rows, raw DEFLATE.

    {"table":"spot/trade","data":[{"instrument_id":"BCH-USDT","price":"328.74","side":"sell","size":"0.12", …}]}
    """

    name = "v3"
    retired = "2021"
    URL = "wss://real.okex.com:8443/ws/v3"
    ping_every = 25.0
    BOOKS = re.compile(r"\w+/depth(?P<whole>5)?(_l2_tbt)?:.+")
    PRIVATE = re.compile(r"(spot|margin|futures|swap|option)/((margin_)?account|position|order(_algo)?)")
    UNFILTERED = {"futures/instruments", "option/instruments", "system/status"}

    @classmethod
    def _request(cls, op: str, channels: Sequence[str], id: str) -> str:
        return to_json({"op": op, "args": list(channels)})

    @classmethod
    def login(cls, credentials: Credentials, now: float) -> str:
        timestamp = str(int(now))
        sign = cls._sign(credentials, timestamp)
        return to_json({"op": "login", "args": [credentials.api_key, credentials.passphrase, timestamp, sign]})

    @classmethod
    def _read(cls, item: Any) -> list[Event]:
        if "table" in item:
            action = {"partial": "snapshot", "update": "update"}.get(item.get("action", ""), "")
            pushes: dict[str, Push] = {}
            for row in item["data"]:
                channel = cls._channel(item["table"], row)
                pushes.setdefault(channel, Push(channel, [], action)).rows.append(row)
            return list(pushes.values())
        event = item.get("event")
        if event in CONFIRMATIONS:
            return [CONFIRMATIONS[event](str(item["channel"]))]
        if event == "error":
            # {"event":"error","message":"Channel : spot/tickr doesn't exist","errorCode":30040}
            named = re.search(r"Channel : (\S+)", item["message"])
            return [Refused(str(item["errorCode"]), item["message"], named[1] if named else "", "")]
        if event == "login" and str(item["success"]).lower() == "true":
            return [LoggedIn()]
        if event == "login":
            return [Refused(str(item.get("errorCode", "")), str(item.get("message", "")), "login", "")]
        return [Unknown(f"event {event}" if event else f"object with {', '.join(item)}")]

    @classmethod
    def _channel(cls, table: str, row: Any) -> str:
        """The channel that a row answers: the filter is in the row, under a name that depends on the table."""
        if table in cls.UNFILTERED:
            return table
        keys = ("underlying",) if table == "option/summary" else ("instrument_id", "currency", "underlying")
        found = next((row[key] for key in keys if key in row), None)
        # futures/account rows are keyed by their currency: {"BTC":{"equity":"997.4", …}}
        return f"{table}:{found or next(iter(row), '')}"


class V5(Dialect):
    """OKX v5, since 2021: what runs today. Channels and their arguments are objects; text frames, uncompressed.

    {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"px":"83753","sz":"0.000011","side":"sell", …}]}
    """

    name = "v5"
    ping_every = 20.0
    max_request = 64 << 10

    ACCOUNT = re.compile(r"account|account-greeks|positions|orders|balance_and_position|liquidation-warning")
    _PRIVATE_BUSINESS = "orders-algo|algo-.+|grid-.+|deposit-info|withdrawal-info|rfqs|quotes|struc-block-trades"
    BUSINESS = re.compile(
        rf"(mark-price-|index-)?candle\w+|trades-all|{_PRIVATE_BUSINESS}"
        r"|public-(struc-)?block-trades|block-tickers|sprd-.+"
    )
    PRIVATE = re.compile(rf"{ACCOUNT.pattern}|{_PRIVATE_BUSINESS}|sprd-(orders|trades)|books(50)?-l2-tbt")
    BOOKS = re.compile(r"(sprd-)?((books(50)?(-l2-tbt|-elp|-rpi)?(-all)?)|(?P<whole>books5|bbo-tbt)):.+")
    NOT_IDENTITY = ("channel", "uid", "extraParams")  # the exchange adds uid to a push, and may leave extraParams out

    @classmethod
    def url(cls, channel: str, region: str = "global", simulated: bool = False) -> str:
        if region not in REGIONS:
            raise ValueError(f"no region {region!r}: choose one of {', '.join(REGIONS)}")
        name = channel.partition(":")[0]
        path = "private" if cls.ACCOUNT.fullmatch(name) else "business" if cls.BUSINESS.fullmatch(name) else "public"
        return f"{REGIONS[region][simulated]}/ws/v5/{path}"

    @classmethod
    def argument(cls, channel: str) -> dict[str, str]:
        """`trades:BTC-USDT` and `orders:instType=ANY` as the object that the exchange takes."""
        name, _, rest = channel.partition(":")
        if "=" in rest:
            pairs = (pair.partition("=") for pair in re.split(r",(?=\w+=)", rest))
            return {"channel": name} | {key: value for key, _, value in pairs}
        return {"channel": name, "instId": rest} if rest else {"channel": name}

    @classmethod
    def channel(cls, arg: dict[str, str]) -> str:
        """The inverse of `argument`, the same for every order of the keys."""
        pairs = ",".join(f"{key}={arg[key]}" for key in sorted(arg) if key not in cls.NOT_IDENTITY)
        return f"{arg['channel']}:{pairs.removeprefix('instId=') if ',' not in pairs else pairs}".rstrip(":")

    @classmethod
    def key(cls, channel: str) -> str:
        return cls.channel(cls.argument(channel))

    @classmethod
    def snapshot(cls, channel: str) -> str:
        instrument = cls.argument(channel).get("instId")
        levels = 50 if channel.startswith("books50") else 400  # no more than the channel keeps up to date
        return f"/api/v5/market/books?instId={instrument}&sz={levels}" if instrument else ""

    @classmethod
    def _request(cls, op: str, channels: Sequence[str], id: str) -> str:
        request = {"op": op, "args": [cls.argument(channel) for channel in channels]}
        return to_json({"id": id, **request} if id else request)

    @classmethod
    def login(cls, credentials: Credentials, now: float) -> str:
        timestamp = str(int(now))
        arg = {"apiKey": credentials.api_key, "passphrase": credentials.passphrase, "timestamp": timestamp}
        return to_json({"op": "login", "args": [arg | {"sign": cls._sign(credentials, timestamp)}]})

    @classmethod
    def order(cls, op: str, args: list[dict[str, Any]], id: str) -> str:
        """An order operation: order, cancel-order, amend-order, or one of their batch- forms."""
        return to_json({"id": id, "op": op, "args": args})

    @classmethod
    def instrument(cls, id: str) -> str:
        """The REST path of what the exchange says about an instrument."""
        kinds = {1: "SPOT", 2: "SWAP" if id.endswith("-SWAP") else "FUTURES", 4: "OPTION"}
        return f"/api/v5/public/instruments?instType={kinds.get(id.count('-'), 'SPOT')}&instId={id}"

    @classmethod
    def _read(cls, item: Any) -> list[Event]:
        rows = item.get("data")
        if rows.__class__ is list and "arg" in item:
            arg = item["arg"]
            common = len(arg) == 2 and "instId" in arg
            channel = f"{arg['channel']}:{arg['instId']}" if common else cls.channel(arg)
            return [Push(channel, rows, item.get("action", ""))]
        event = item.get("event")
        if rows.__class__ is list and "op" in item:
            return [Reply(str(item["id"]), str(item["op"]), str(item["code"]), str(item["msg"]), rows)]
        if event in CONFIRMATIONS:
            return [CONFIRMATIONS[event](cls.channel(item["arg"]))]
        if event == "error":
            # {"id":"ob1","event":"error","code":"60018","msg":"… channel:books,instId:NOPE-USDT doesn't exist."}
            named = re.search(r"channel:([\w-]+)(?:,instId:([\w-]+))? doesn't exist", item["msg"])
            channel = ":".join(filter(None, named.groups())) if named else ""
            return [Refused(str(item["code"]), item["msg"], channel, str(item.get("id", "")))]
        if event == "login":
            return [LoggedIn()] if item["code"] == "0" else [Refused(str(item["code"]), str(item["msg"]), "login", "")]
        if event == "notice":
            return [Notice(str(item["code"]), str(item["msg"]))]
        if event == "channel-conn-count":
            return [Notice(event, f"{item['connCount']} connections are subscribed to {item['channel']}")]
        if event == "channel-conn-count-error":
            # The subscription had been confirmed; it is dead all the same (docs-v5 overview).
            return [Refused(event, f"{item['connCount']} connections are subscribed", str(item["channel"]), "")]
        return [Unknown(f"event {event}" if event else f"object with {', '.join(item)}")]


def dialect_of(channel: str) -> type[Dialect]:
    """The generation that a channel's name belongs to. Raises ValueError for what cannot be a channel."""
    if not channel.isprintable() or " " in channel:
        raise ValueError(f"{printable_text(channel)!r} is not a channel: it has a space or a control character")
    if re.match(r"ok_|\w+_forecast_price$", channel):
        return V1
    if re.match(r"[a-z]+/[a-z]", channel):
        return V3
    if re.match(r"[a-z][\w-]*(:.+)?$", channel):
        return V5
    raise ValueError(f"{channel!r} is not a channel: v5 channels look like trades:BTC-USDT")


def passwordless(url: str) -> str:
    """A URL without user and password."""
    return re.sub(r"//.*@", "//", url)


def port_of(url: str, default: int = 0) -> int:
    """The port in a URL. Raises ValueError, without the password that urlsplit would show."""
    try:
        number = urlsplit(url).port
    except ValueError:
        raise ValueError(
            f"{passwordless(url)} has no valid port; / ? # in a password are written %2F %3F %23"
        ) from None
    return default if number is None else number


def endpoint_of(channel: str, url: str | None = None, region: str = "global", simulated: bool = False) -> str:
    """The URL to connect to for a channel. A `url` without a path is a host, and gets the exchange's path."""
    own = dialect_of(channel).url(channel, region, simulated)
    if url is None:
        return own
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not port_of(url, 443):
        raise ValueError(
            f"{passwordless(url)} is not a WebSocket URL: it must start with ws:// or wss:// and name a host"
        )
    return url if parts.path.strip("/") else parts._replace(path=urlsplit(own).path).geturl()


# Rows that arrive as bare lists, with names: v1's in the words of its documentation, v5's as in its REST API.
# v1 futures count in contracts and add the amount in coins; times are ms but for the HH:MM:SS of v1 trades.
FIELDS = [
    (re.compile(r"ok_sub_\w+_kline_"), ("timestamp", "open", "high", "low", "close", "volume", "coin_volume")),
    (re.compile(r"ok_sub_\w+_(trade_|deals)"), ("tid", "price", "amount", "time", "type", "coin_amount")),
    (re.compile(r"(mark-price|index)-candle"), ("ts", "o", "h", "l", "c", "confirm")),
    (re.compile(r"candle"), ("ts", "o", "h", "l", "c", "vol", "volCcy", "volCcyQuote", "confirm")),
]


def columns_of(channel: str) -> tuple[str, ...]:
    """Names for the columns of a channel whose rows arrive as bare lists; () where rows name their values."""
    return next((names for pattern, names in FIELDS if pattern.match(channel)), ())


fields, endpoint = columns_of, endpoint_of  # the public names, which a script may well give to something else


def row_namer(names: tuple[str, ...]) -> Callable[..., list[Any]]:
    """A function that makes objects of list rows. A column beyond the known names is kept, as `column7`."""
    known = len(names)

    def name(rows: list[Any], _action: str = "") -> list[Any]:
        return [
            row if row.__class__ is not list else dict(zip(names if len(row) <= known else more(len(row)), row))
            for row in rows
        ]

    def more(length: int) -> tuple[str, ...]:
        return names + tuple(f"column{i}" for i in range(known, length))

    return name


# ---------------------------------------------------------------------------------------------------------------
# Order book: pure as well, apart from the lock that lets other threads read it.


class BookOutOfSync(Exception):
    """The book is not known to be the exchange's, and must not be used until it is ready again."""


class BookSide:
    """The bids or the asks: levels in order, best first, at a cost that depends on the changes and not on the book.

    Levels are found by their price as sent; only a price that is new is parsed and sorted in. A deleted level stays,
    with its size of 0, until enough of them have come together: prices come back often, and so nearly every change
    is one assignment. Prices are compared as numbers: 1E-8 is 0.00000001.
    """

    __slots__ = ("capacity", "levels", "order", "prices", "sign")

    def __init__(self, sign: int, levels: Iterable[list[Any]] = ()) -> None:
        self.sign = sign  # -1 for bids, so that the smallest key is the best
        self.levels: dict[str, list[Any]] = {level[0]: level for level in levels}  # price → level as sent
        self.prices = {sign * float(price): price for price in self.levels}  # key → price
        self.order = sorted(self.prices)  # keys
        if not all(map(isfinite, self.order)):
            raise ValueError(f"a price is not a number: {', '.join(self.levels)}")
        if len(self.prices) < len(self.levels):  # a price spelled in two ways
            self.levels = {price: self.levels[price] for price in self.prices.values()}
        self.capacity = self._capacity()

    def _capacity(self) -> int:
        """With more levels than this, the deleted ones are cleared away."""
        return 200 + len(self.order) * 3 // 2

    def change(self, changes: list[Any]) -> None:
        levels = self.levels
        known = len(levels)
        for level in changes:
            levels[level[0]] = level
        if len(levels) > known:  # what is new stands last in a dict
            for price in list(islice(reversed(levels), len(levels) - known)):
                self._insert(price)
            if len(levels) > self.capacity:
                self.order = [key for key in self.order if not is_deleted(levels[self.prices[key]])]
                self.prices = {key: self.prices[key] for key in self.order}
                self.levels = {price: levels[price] for price in self.prices.values()}
                self.capacity = self._capacity()

    def _insert(self, price: str) -> None:
        key = self.sign * float(price)
        if not isfinite(key):
            raise ValueError(price)
        if key in self.prices:
            del self.levels[self.prices[key]]  # the same price, spelled in another way until now
        else:
            insort(self.order, key)
        self.prices[key] = price

    def trim(self) -> bool:
        """Remove the deleted levels that come before the best one. Returns whether there were any."""
        gone = 0
        for key in self.order:
            if not is_deleted(self.levels[self.prices[key]]):
                break
            del self.levels[self.prices.pop(key)]
            gone += 1
        del self.order[:gone]
        return gone > 0

    def top(self, n: int) -> list[list[str]]:
        levels, prices = self.levels, self.prices
        best: list[list[str]] = []
        for key in self.order:
            if len(best) == n:
                break
            level = levels[prices[key]]
            if not is_deleted(level):
                best.append(level[:2])
        return best


def is_deleted(level: list[Any]) -> bool:
    """Whether a level's size is 0. Raises ValueError or TypeError if it is no number.

    A size as sent by the exchange begins with a digit, and then that digit is trusted: float() is slow.
    """
    size = level[1]
    if size == "0" or (size.__class__ is str and "1" <= size < ":"):
        return bool(size == "0")
    amount = float(size)
    if not 0 <= amount < inf:
        raise ValueError(size)
    return amount == 0


class OrderBook:
    """One instrument's order book, kept from snapshots and updates. Any thread may read it.

    Reading a book that is not `ready` raises BookOutOfSync, and so does `apply` when a message does not follow
    from the one before: by v5's sequence numbers, by the checksum where there is one, or because bid and ask cross.
    `whole` is for channels of which every message is the whole book.
    """

    def __init__(self, whole: bool = False) -> None:
        self.whole = whole
        self._lock = threading.RLock()
        self._reason = "no snapshot yet"  # why the book is not ready; "" when it is
        self._first = True  # no snapshot since the subscription: in v1 the next row is one, in v5 it may come by REST
        self._last: dict[str, Any] = {}  # the last row
        self._sequence: int | None = None
        self._bridging = False  # the snapshot came by REST: the first update may begin before it and end after it
        self._pending: list[Any] = []  # updates that wait for a snapshot
        self._bids, self._asks = BookSide(-1), BookSide(1)

    def apply(self, row: Any, action: str = "") -> None:
        """Take one row of a book channel; `action` is "snapshot", "update", or "" for v1 and whole-book channels.

        {"asks":[["83725.9","1712.41","0","92"]],"bids":[],"ts":"1791369351001","seqId":10,"prevSeqId":-1}

        A level starts with price and size; size 0 deletes it. In v1 the first row since subscribing is the book.
        """
        with self._lock:
            try:
                if action == "snapshot" or self.whole or (self._first and action == ""):
                    self._replace(row)
                    self._bridging = False
                elif self._reason:
                    self._await_snapshot(row)
                    return
                elif "seqId" in row and not self._follows(row):
                    return
                else:
                    self._bids.change(row["bids"])
                    self._asks.change(row["asks"])
                self._check(row)
            except BookOutOfSync as error:
                self._invalidate(str(error))
                raise
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                self._invalidate(f"unreadable row: {error!r}")
                raise BookOutOfSync(self._reason) from None

    def bridge(self, row: Any, waiting: list[Any]) -> bool:
        """Take a snapshot that was fetched by REST, then the updates that waited for it (change log, 2026-02-12).

        `waiting` is what the property was before the snapshot was asked for. False if other updates wait by now, or
        if it is older than the first of them.
        """
        with self._lock:
            if not waiting or waiting is not self._pending or row["seqId"] < waiting[0]["prevSeqId"]:
                return False
            self.apply(row, "snapshot")
            self._bridging = True
            for update in waiting:
                self.apply(update, "update")
            return True

    def invalidate(self, reason: str) -> None:
        """Distrust the book until its next snapshot."""
        with self._lock:
            self._invalidate(reason)

    def renew(self, reason: str) -> None:
        """The same for a new subscription: in v1, the next row will be the whole book."""
        with self._lock:
            self._invalidate(reason)
            self._first = True

    @property
    def ready(self) -> bool:
        return not self._reason

    @property
    def waiting(self) -> list[Any]:
        """The updates that have come without a snapshot; another list after each subscription or gap."""
        return self._pending

    @property
    def timestamp(self) -> str | int:
        """The exchange's time of the last message: ms in v1 and v5, ISO 8601 in v3."""
        with self._lock:
            self._demand_ready()
            return self._last.get("ts") or self._last.get("timestamp") or ""

    @property
    def best_bid(self) -> tuple[str, str] | None:
        """(price, size) of the highest bid, in the exchange's own strings; None if nobody bids."""
        bids, _ = self.top(1)
        return (bids[0][0], bids[0][1]) if bids else None

    @property
    def best_ask(self) -> tuple[str, str] | None:
        """(price, size) of the lowest ask, in the exchange's own strings; None if nobody asks."""
        _, asks = self.top(1)
        return (asks[0][0], asks[0][1]) if asks else None

    @property
    def mid(self) -> float | None:
        """The middle between best bid and best ask; None for a one-sided book."""
        bids, asks = self.top(1)
        return float((Decimal(bids[0][0]) + Decimal(asks[0][0])) / 2) if bids and asks else None

    @property
    def spread(self) -> float | None:
        """Best ask less best bid; None for a one-sided book."""
        bids, asks = self.top(1)
        return float(Decimal(asks[0][0]) - Decimal(bids[0][0])) if bids and asks else None

    def top(self, n: int) -> tuple[list[list[str]], list[list[str]]]:
        """The best n bids and the best n asks, each [price, size], best first, in the exchange's own strings."""
        with self._lock:
            self._demand_ready()
            try:
                return self._bids.top(n), self._asks.top(n)
            except (IndexError, TypeError, ValueError) as error:  # a level without a size, or of no number
                self._invalidate(f"unreadable level: {error!r}")
                raise BookOutOfSync(self._reason) from None

    # Under the lock.

    def _demand_ready(self) -> None:
        if self._reason:
            raise BookOutOfSync(self._reason)

    def _invalidate(self, reason: str) -> None:
        self._reason, self._pending = reason, []

    def _replace(self, row: Any) -> None:
        self._bids, self._asks = BookSide(-1, row["bids"]), BookSide(1, row["asks"])
        self._pending, self._reason, self._sequence, self._first = [], "", row.get("seqId"), False

    def _follows(self, row: Any) -> bool:
        """Whether an update is to be applied, by its sequence numbers; out of sync if it leaves a gap.

        A documented run of (prevSeqId, seqId): (-1,10) (10,15) (15,15) (15,3) (3,5). The third is a keep-alive,
        without levels; the fourth a reset for maintenance.
        """
        previous, sequence, last = row["prevSeqId"], row["seqId"], self._sequence
        if self._bridging and last is not None:
            if previous <= sequence <= last:
                return False
            if previous <= last < sequence:
                last = previous
        self._bridging = False
        if previous != last:
            raise BookOutOfSync(f"sequence gap: an update follows {previous}, the book is at {last}")
        if sequence == previous and (row["bids"] or row["asks"]):
            raise BookOutOfSync(f"sequence {sequence} came twice, with levels")
        self._sequence = sequence
        return True

    def _await_snapshot(self, row: Any) -> None:
        if not self._first or "seqId" not in row or len(self._pending) >= MAX_PENDING:
            raise BookOutOfSync("updates, but no snapshot")
        if row["seqId"] < row["prevSeqId"]:  # a snapshot could be from before or after it
            raise BookOutOfSync("the sequence was reset before there was a snapshot")
        self._pending.append(row)

    def _check(self, row: Any) -> None:
        """v3's checksum, and v5's before June 2026: CRC32 of the best 25 a side, bid and ask in turn, as sent.

        OKX v5 has sent 0 since 2026-06-23, which says nothing.
        """
        checksum = row.get("checksum")
        if checksum:
            pairs = zip_longest(self._bids.top(25), self._asks.top(25), fillvalue=())
            text = ":".join([":".join((*bid, *ask)) for bid, ask in pairs])
            if zlib.crc32(text.encode()) != checksum & 0xFFFFFFFF:
                raise BookOutOfSync("checksum mismatch")
        bids, asks = self._bids, self._asks
        while bids.order and asks.order and -bids.order[0] >= asks.order[0]:  # by deleted levels, perhaps
            if not bids.trim() and not asks.trim():
                raise BookOutOfSync(f"crossed: bid {bids.top(1)[0][0]}, ask {asks.top(1)[0][0]}")
        self._last = row


# ---------------------------------------------------------------------------------------------------------------
# Client: one WebSocketApp, its callbacks, and the heartbeat's thread.

UPGRADE = "the exchange announced a service upgrade"
CONNECTED, SUBSCRIBED, DISCONNECTED = "CONNECTED", "SUBSCRIBED", "DISCONNECTED"
GAP, REFUSED, EXIT = "GAP", "REFUSED", "EXIT"

Handler = Callable[[str, list[Any]], None]


@dataclass(slots=True)
class Subscription:
    """One channel's life: wanted → sent → confirmed or refused; leaving from an unsubscribe until it is confirmed."""

    channel: str  # as the user wrote it
    prepare: Callable[[list[Any], str], list[Any]] | None = None  # makes of (rows, action) what the handler gets
    book: OrderBook | None = None
    state: str = "wanted"
    due: float = 0.0  # monotonic: when the next request may leave, or the last should be confirmed; inf: never mind
    request: str = ""  # id of the request that it was last sent in; "" if none was
    alone: bool = False  # to be sent in a request of its own, because a shared one was refused
    again: bool = False  # to be wanted again after it has left
    fetching: bool = False  # a thread is fetching the book's snapshot
    failures: int = 0  # of late; each makes the wait for the next try longer
    failed: float = -inf  # monotonic: when the last one was

    @property
    def asked(self) -> bool:
        """Whether the exchange was asked for it, and may send it at any time."""
        return self.state in ("sent", "confirmed", "leaving") or (self.state == "wanted" and self.failed > -inf)

    def retry(self) -> float:
        """Want it again after 0, 1, 3, 7, … seconds, at most a minute; from the start after two without a failure."""
        now = monotonic()
        self.failures = self.failures + 1 if now - self.failed < 2 * MAX_CHANNEL_RETRY else 0
        self.failed = now
        wait = min(MAX_CHANNEL_RETRY, 2.0 ** min(self.failures, 10) - 1)
        self.state, self.due, self.request, self.again = "wanted", now + wait, "", False
        return wait

    def leave(self, again: bool) -> None:
        """Have it unsubscribed. What is still on its way is not delivered any more."""
        self.state, self.due, self.request, self.again = "leaving", 0.0, "", again


class LoginError(Exception):
    """The exchange refused the login. Trying again would not help, and could lock the key out."""


class OrderError(Exception):
    """An order request failed, wholly or in part.

    `code` and `message` are the exchange's, `data` its answer for each order (see sCode and sMsg in them). `unknown`
    is true where nobody knows what became of the order: ask the exchange before you send it again.
    """

    def __init__(self, code: str, message: str, data: Sequence[Any] = (), unknown: bool = False) -> None:
        self.code, self.message, self.data, self.unknown = code, message, list(data), unknown
        legs = (f"{leg.get('sCode')} {leg.get('sMsg')}" for leg in self.data if isinstance(leg, dict))
        super().__init__(mask_secrets("; ".join(filter(None, [f"{code} {message}".strip(), *legs]))))


class OkexWS(WebSocketApp):
    """A connection to the exchange that comes back by itself, with its subscriptions, until `close()`.

    channels    names of one generation and one endpoint, e.g. ["trades:BTC-USDT", "tickers:ETH-USDT"]
    handler     called as handler(channel, rows) for each message, in order, on the reading thread; a row is
                an object with the exchange's own names (see `fields` for rows that the exchange sends as lists)
    url         another host, or another URL altogether, see `endpoint`
    credentials for private channels, if not those of the environment, see Credentials; with credentials and no
                channels, it connects to where orders go, see `request`
    region, simulated   which of OKX's hosts, see REGIONS
    proxy       http://, socks5:// or socks5h://[user:password@]host:port
    depth       for order books, give the handler this many levels a side after each change, as one row
                {"bids": [[price, size], …], "asks": […], "ts": …}, instead of the change
    ping_every  seconds between pings, if not the generation's own

    `books[channel]` is the live OrderBook of a book channel.
    Assign or override `on_status(status, detail)` to hear CONNECTED, SUBSCRIBED, DISCONNECTED, GAP, REFUSED and EXIT.
    `latency` is the last ping's round trip in milliseconds; `counts` counts messages, connects and what went wrong.
    """

    _next_connect = 0.0  # monotonic; shared by all clients in the process, since the limit is per IP address
    _turn = threading.Lock()  # guards _next_connect

    def __init__(
        self,
        channels: str | Iterable[str],
        handler: Handler | None = None,
        *,
        url: str | None = None,
        credentials: Credentials | None = None,
        region: str = "global",
        simulated: bool = False,
        proxy: str | None = None,
        depth: int | None = None,
        ping_every: float | None = None,
    ) -> None:
        wanted = [channels] if isinstance(channels, str) else list(channels)
        first = wanted[0] if wanted else "account" if credentials else "status"
        self._where = (url, region, simulated)
        self.dialect = dialect_of(first)
        self.ping_every = ping_every or self.dialect.ping_every
        self.handler = handler or print_rows
        self.depth = depth
        self.books: dict[str, OrderBook] = {}
        self.latency: float | None = None
        self.busy = False  # more arrives than is read at leisure
        self.counts: Counter[str] = Counter()

        self._credentials = credentials or Credentials.from_environment()
        self._trades = credentials is not None and not wanted  # logs in, though no channel needs it
        self._login_due = 0.0  # monotonic: when the login under way should have been answered; 0 if none is
        self._logged_in = threading.Event()
        self._answers: dict[str, SimpleQueue[Reply | Refused | str]] = {}  # by id of an order request under way
        self._codes: dict[str, int] = {}  # instIdCode by instId
        self._clocks = ("", 0.0)  # when the connection was made: by the server's handshake, and here
        self._reader = 0  # ident of the thread that runs run()
        self._subscriptions: dict[str, Subscription] = {}  # by Dialect.key
        self._lock = threading.RLock()  # guards _subscriptions and what is sent about them
        self._requests: list[float] = []  # monotonic times of this connection's requests
        self._ids = itertools.count(1)
        self._stop = threading.Event()  # set by close(): run() ends
        self._open = False  # between on_open and the end of the connection
        self._heard = 0.0  # monotonic: when something last arrived and was handled
        self._pinged = 0.0  # monotonic: when the last ping left
        self._tries = 0  # connections since data or a pong last arrived
        self._reason = ""  # why the connection ended, in words
        self._fatal: BaseException | None = None  # what no retry can mend; run() raises it
        self._said: set[str] = set()  # what is said only once
        self._parse = self.dialect.parse
        self._trace = okex_log.isEnabledFor(logging.DEBUG)
        server = endpoint_of(first, *self._where)
        hide_secret(urlsplit(server).password or "")
        self._proxy = proxy_options(proxy, server)
        self._local = proxy is None and is_loopback(urlsplit(server).hostname or "")  # nobody else is on the way
        callbacks: dict[str, Any] = {"on_open": on_open, "on_data": on_data, "on_error": on_error, "on_close": on_close}
        super().__init__(server, header=self._before_connect, **callbacks)
        self._dispatch: dict[type, Callable[[Any], None]] = {
            Ping: lambda _: self.send(self.dialect.pong),
            Pong: self._ponged,
            Subscribed: self._confirmed,
            Unsubscribed: self._unsubscribed,
            Refused: self._refused,
            Notice: self._notice,
            LoggedIn: self._login_accepted,
            Reply: self._answered,
            Unknown: lambda event: self._once(f"Ignored a message of an unknown kind: {printable_text(event.kind)}."),
        }
        self.subscribe(*wanted)
        if self.dialect.retired and url is None:
            okex_log.warning(
                "The exchange retired %s in %s: pass --url for a server that still speaks it, --offline for the"
                " stand-in, or a v5 channel such as trades:BTC-USDT.",
                self.dialect.name,
                self.dialect.retired,
            )

    @property
    def channels(self) -> dict[str, str]:
        """Each channel and how its subscription stands: wanted, sent, confirmed, refused or leaving."""
        with self._lock:
            return {s.channel: s.state for s in self._subscriptions.values()}

    def run(self) -> None:
        """Connect, read, and reconnect until `close()`. Call it on the main thread, or use `start()`.

        Raises ssl.SSLCertVerificationError if the very first connection meets a certificate that is not valid,
        LoginError, and KeyboardInterrupt on Ctrl-C. Everything else is retried.
        """
        if self._reader:
            raise RuntimeError("this client ran before: make another one")
        self._reader = threading.get_ident()
        okex_log.info("Connecting to %s.", self.url)
        threading.Thread(target=send_heartbeat, args=(self,), name="okex_ws heartbeat", daemon=True).start()
        try:
            while not self._wait_for_turn():
                self._reason, connects = "", self.counts["connects"]
                # Their check of UTF-8 is pure Python, a hundred times as slow as the one decode() of on_data.
                try:
                    self.run_forever(skip_utf8_validation=True, **self._proxy)
                except Exception as error:  # 1.8.0 stumbles over a close frame that is not UTF-8
                    on_error(self, error)
                    self.sock = None
                if self._fatal:
                    raise self._fatal
                if not self._stop.is_set():
                    self._disconnected(self.counts["connects"] > connects)
        finally:
            self._stop.set()
            self._tell(EXIT, explain(self._fatal, self.url) if self._fatal else "closed")

    def start(self) -> None:
        """`run()` on a daemon thread: for scripts whose main thread is busy with a strategy."""
        threading.Thread(target=self._run_in_background, name="okex_ws reader", daemon=True).start()

    def close(self, **_: Any) -> None:
        """End `run()`: at once if it reads or waits, after the attempt if it is connecting. From any thread."""
        self._stop.set()
        self._hang_up()

    def subscribe(self, *channels: str) -> None:
        """Want these channels, now and after every reconnect. One that was refused is asked for again.

        Raises ValueError for a channel of another generation or endpoint, which takes an OkexWS of its own, and
        for a private channel without keys.
        """
        for channel in channels:
            where = endpoint_of(channel, *self._where)
            if where != self.url or dialect_of(channel) is not self.dialect:
                raise ValueError(
                    f"{channel} is served at {passwordless(where)}, this client connects to {passwordless(self.url)}"
                )
            if self.dialect.private(channel):
                self._demand_keys(channel)
        with self._lock:
            for channel in channels:
                subscription = self._subscriptions.get(self.dialect.key(channel))
                if subscription and subscription.state == "leaving":
                    subscription.again = True
                    subscription.due = min(subscription.due, monotonic() + CONFIRM_TIMEOUT)
                elif subscription is None or subscription.state == "refused":
                    subscription = self._subscriptions[self.dialect.key(channel)] = Subscription(channel)
                    kind, names = self.dialect.book(channel), columns_of(channel)
                    if kind:
                        subscription.book = OrderBook(kind == "whole")
                        subscription.prepare = partial(self._keep_book, subscription, subscription.book)
                    elif names:
                        subscription.prepare = row_namer(names)
                if subscription.book:
                    self.books[subscription.channel] = subscription.book
        self._flush()

    def unsubscribe(self, *channels: str) -> None:
        """Want these channels no more. Their rows stop at once, whatever is still on its way."""
        with self._lock:
            for channel in channels:
                key = self.dialect.key(channel)
                subscription = self._subscriptions.get(key)
                if subscription and self._open and subscription.state == "leaving":
                    subscription.again = False
                elif subscription and self._open and subscription.asked:
                    subscription.leave(again=False)
                else:
                    self._subscriptions.pop(key, None)
                if subscription and subscription.book:  # after leave(): see the end of _keep_book
                    self.books.pop(subscription.channel, None)
                    subscription.book.renew("unsubscribed")
        self._flush()

    def request(self, op: str, args: dict[str, Any] | list[dict[str, Any]], timeout: float = 10.0) -> list[Any]:
        """Send an order request of v5 and return the exchange's answer, an object for each order.

        ws.request("order", {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "market", "sz": "1"})

        `op` is order, cancel-order, amend-order, batch-orders, batch-cancel-orders or batch-amend-orders.
        For `instId` the exchange wants `instIdCode` since 2026; it is looked up once. Nothing is ever sent twice.
        Raises OrderError if the exchange refuses it, even in part, or if nobody knows what became of it. Call it
        from any thread but the handler's, which has to read the answer, on a client that logs in: one that has
        private channels, or OkexWS([], credentials=…).
        """
        if threading.get_ident() == self._reader:
            raise RuntimeError("request() would wait for itself: call it from another thread than the handler's")
        self._demand_keys(op)
        orders = [self._with_code(order, timeout) for order in ([args] if isinstance(args, dict) else args)]
        id = f"o{next(self._ids)}"
        text = self.dialect.order(op, orders, id)
        if not self._logs_in:
            raise ValueError("this client does not log in: orders take one with private channels, or none at all")
        if not self._logged_in.wait(timeout):
            raise OrderError("", "not logged in: nothing was sent")
        answer = self._answers[id] = SimpleQueue()
        try:
            self.send(text)
            reply = answer.get(timeout=timeout)
        except Empty:
            raise OrderError("", f"no answer within {timeout:g} s: its fate is unknown", unknown=True) from None
        except websocket.WebSocketConnectionClosedException as error:
            raise OrderError("", f"{error}: nothing was sent") from None
        except Exception as error:
            raise OrderError("", f"{explain(error, self.url)}: its fate is unknown", unknown=True) from None
        finally:
            del self._answers[id]
        if isinstance(reply, str):
            raise OrderError("", f"{reply}: its fate is unknown", unknown=True)
        if isinstance(reply, Refused):
            raise OrderError(reply.code, reply.message)
        failed = (leg for leg in reply.data if isinstance(leg, dict) and str(leg.get("sCode", "0")) != "0")
        if reply.code != "0" or any(failed):
            raise OrderError(reply.code, reply.message, reply.data)
        return reply.data

    def on_status(self, status: str, detail: str) -> None:
        """Hear what happens to the connection, from any thread. Override it, or assign a function of both."""

    def send(self, data: bytes | str, opcode: int = ABNF.OPCODE_TEXT) -> None:
        """Send one message. Raises WebSocketConnectionClosedException while there is no connection."""
        if not (self.sock and self.sock.connected):  # websocket-client would write into the handshake
            raise websocket.WebSocketConnectionClosedException("not connected")
        okex_log.debug("> %s", data)
        try:
            super().send(data, opcode)
        except Exception:
            self._hang_up("sending failed")  # half a frame may have left: nothing can follow it
            raise

    # The life of a connection.

    @property
    def _logs_in(self) -> bool:
        return self._trades or any(map(self.dialect.private, self.channels))

    def _demand_keys(self, what: str) -> None:
        missing = self._credentials.missing(self.dialect.passphrase)
        if missing:
            raise ValueError(f"{what} needs an API key: set {', '.join(missing)}")
        if self.url.startswith("ws:") and not self._local:
            raise ValueError(f"{what} needs an API key, which is not sent over {passwordless(self.url)}: use wss://")

    def _run_in_background(self) -> None:
        try:
            self.run()
        except Exception as error:
            okex_log.error("Stopped for good: %s.", explain(error, self.url))

    def _wait_for_turn(self) -> bool:
        """Space the connects of all clients. True if it is time to stop."""
        with OkexWS._turn:
            now = monotonic()
            at = max(now, OkexWS._next_connect)
            OkexWS._next_connect = at + CONNECT_SPACING
        return self._stop.wait(at - now)

    def _before_connect(self) -> list[str]:
        # websocket-client asks for the headers right before it connects: the one place to set a timeout for
        # this connection. setdefaulttimeout() would change every other WebSocket in the user's script.
        assert self.sock is not None
        self.sock.settimeout(CONNECT_TIMEOUT)
        return []

    def create_dispatcher(self, *args: Any, **options: Any) -> Any:
        dispatcher = super().create_dispatcher(*args, **options)
        dispatcher.read = self._read  # type: ignore[method-assign, assignment]
        return dispatcher

    def _read(self, _sock: Any, read: Callable[[], bool], _check: Any) -> None:
        """Read until the connection ends, waking every second; `read` is websocket-client's, for one message."""
        sock = self.sock
        assert sock is not None
        sock.settimeout(1.0)
        reader = Reader(self, read)
        if not reader.fast:
            self._once("This version of websocket-client is built in a way that is not known here: reading is slower.")
        ticked = 0.0
        try:
            while self.keep_running and not self._stop.is_set():
                try:
                    if not reader.step():
                        break
                    self._heard = monotonic()
                except (TimeoutError, websocket.WebSocketTimeoutException):
                    self.busy = False
                if monotonic() - ticked >= 1.0:
                    ticked = monotonic()
                    self._tick(ticked)
        finally:
            self._open = self.busy = False
            self._logged_in.clear()
            for answer in list(self._answers.values()):
                answer.put("the connection was lost before the answer came")
            for book in list(self.books.values()):
                book.renew("disconnected")
            if sock.connected:  # say goodbye, but do not wait for the answer as websocket-client would
                with suppress(Exception):
                    sock.send_close()
            sock.shutdown()  # type: ignore[no-untyped-call]

    def _hang_up(self, reason: str = "") -> None:
        """Make the reading thread leave the connection, from any thread: a read under way returns at once."""
        self._reason = self._reason or reason
        self.keep_running = False
        sock = self.sock and self.sock.sock
        if sock:
            with suppress(OSError):  # not sock.shutdown(): SSLSocket's own would go on in plain text
                socket.socket.shutdown(sock, socket.SHUT_RD)

    def _tick(self, now: float) -> None:
        """What is due on the reading thread once a second."""
        if now - self._heard > self.ping_every + SILENCE_MARGIN:
            self._hang_up(f"nothing arrived for {self.ping_every + SILENCE_MARGIN:.0f} s")
        if self._login_due and now > self._login_due:
            self._hang_up(f"the login was not answered within {CONFIRM_TIMEOUT:.0f} s")
        with self._lock:
            for key, subscription in list(self._subscriptions.items()):
                if now < subscription.due or not subscription.request:
                    continue
                if subscription.state == "sent":
                    wait = subscription.retry()
                    message = "%s is not confirmed after %.0f s. Asking again in %.0f s."
                    okex_log.warning(message, subscription.channel, CONFIRM_TIMEOUT, wait)
                elif subscription.state == "leaving" and subscription.again and subscription.book:
                    # What still comes of the old subscription could be taken for the new book.
                    self._hang_up(f"{subscription.channel} was not unsubscribed within {CONFIRM_TIMEOUT:.0f} s")
                elif subscription.state == "leaving" and subscription.again:
                    self._left(key, subscription)
                elif subscription.state == "leaving":
                    subscription.due = inf  # and what still comes is dropped
                    okex_log.warning("%s: not confirmed to be unsubscribed.", subscription.channel)
        self._flush()

    def _disconnected(self, connected: bool) -> None:
        delay = uniform(0, min(MAX_RETRY, 2.0 ** min(self._tries, 5)))
        if self._reason == UPGRADE and self._tries == 0:
            delay = 0.0
        self._tries += 1
        reason = self._reason or "connection lost"
        if not connected and port_of(self.url) == 8443:
            reason += " (OKX closed port 8443 on 2026-10-31: leave the port out)"
        what = "Disconnected from" if connected else "Cannot connect to"
        okex_log.warning("%s %s: %s. Next try in %.1f s.", what, self.url, reason, delay)
        self._tell(DISCONNECTED, reason)
        self._stop.wait(delay)

    def _watch_reader(self) -> None:
        """What is due on the heartbeat's thread: no book is to be trusted while the handler keeps the reader busy."""
        quiet = monotonic() - self._heard
        if self._open and quiet > self.ping_every + 1.5 * SILENCE_MARGIN:  # _tick would have come earlier
            for channel, book in list(self.books.items()):
                if book.ready:
                    why = f"nothing was read for {quiet:.0f} s: does the handler block?"
                    book.invalidate(why)
                    self.counts["gaps"] += 1
                    okex_log.warning("%s: %s", channel, why)
                    # on_status may want what the handler holds, and pings must go on.
                    threading.Thread(target=self._tell, args=(GAP, f"{channel}: {why}"), daemon=True).start()

    def _tell(self, status: str, detail: str) -> None:
        try:
            self.on_status(status, mask_secrets(detail))
        except Exception:
            okex_log.exception("on_status failed on %s.", status)

    # Login and orders.

    def _log_in(self, now: float) -> None:
        sock = self.sock and self.sock.sock
        try:
            peer = sock and sock.getpeername()[0]  # after a redirect, not that of the URL
        except OSError:
            peer = None
        if not peer:
            return  # the connection is gone; on_open of the next one starts afresh
        if not isinstance(sock, ssl.SSLSocket) and not (self._local and is_loopback(peer)):
            self._fatal = LoginError("the connection is not encrypted: no keys were sent")
            self._hang_up(str(self._fatal))
            return
        text = self.dialect.login(self._credentials, wall_clock())
        recent_signatures.extend(re.findall(r'"([^"]{20,})"', text))
        self._login_due = now + CONFIRM_TIMEOUT
        with suppress(Exception):  # the connection is gone; on_open of the next one starts afresh
            self.send(text)

    def _login_accepted(self, _: LoggedIn) -> None:
        with self._lock:
            again = self._logged_in.is_set()
            for subscription in self._subscriptions.values():  # v1 answers a signed addChannel like this
                if again and subscription.state == "sent" and self.dialect.private(subscription.channel):
                    subscription.state = "confirmed"
            self._logged_in.set()
            self._login_due = 0.0
        okex_log.info("Logged in.")
        self._flush()

    def _login_refused(self, event: Refused, why: str) -> None:
        if event.code in ALREADY:
            self._login_accepted(LoggedIn())
            return
        if event.code not in TRANSIENT:
            checks = "check the region, and live or simulated trading"
            if event.code in CLOCK:
                checks = clock_difference(*self._clocks)
            key = f"…{self._credentials.api_key[-4:]}"
            self._fatal = LoginError(
                mask_secrets(f"the exchange refused the login with the key {key}: {why}; {checks}")
            )
        self._hang_up(f"the login failed: {why}")

    def _answered(self, event: Reply) -> None:
        answer = self._answers.get(event.id)
        if answer:
            answer.put(event)
        else:
            okex_log.warning("An answer to %s that nobody waits for any more: %s %s", event.op, event.code, event.data)

    def _with_code(self, order: dict[str, Any], timeout: float) -> dict[str, Any]:
        """An order with the integer that the exchange wants since 2026 in the place of instId."""
        if "instId" not in order:
            return order
        instrument = order["instId"]
        if instrument not in self._codes:
            try:
                (found,) = self._rest(self.dialect.instrument(instrument), timeout)
                self._codes[instrument] = int(found["instIdCode"])
            except Exception as error:
                why = f"no instIdCode for {instrument}: {explain(error, self.url)}: nothing was sent"
                raise OrderError("", why) from None
        rest = {name: value for name, value in order.items() if name != "instId"}
        return {"instIdCode": self._codes[instrument], **rest}

    # Subscriptions.

    def _flush(self) -> None:
        """Send what is due: channels no longer wanted, then channels wanted."""
        with self._lock:
            if not self._open:
                return
            now = monotonic()
            if self._logs_in and not self._logged_in.is_set():
                if not self._login_due and self._may_request(now):
                    self._log_in(now)
                return
            subscribe = partial(self.dialect.subscribe, credentials=self._credentials)
            for state, request in (("leaving", self.dialect.unsubscribe), ("wanted", subscribe)):
                due = [s for s in self._subscriptions.values() if s.state == state and not s.request and s.due <= now]
                for batch in self._batches(due):
                    if not self._may_request(now):
                        return
                    id = f"r{next(self._ids)}"
                    for subscription in batch:
                        subscription.request, subscription.due = id, now + CONFIRM_TIMEOUT
                        subscription.state = "sent" if state == "wanted" else state
                    try:
                        self.send(request([s.channel for s in batch], id))
                    except Exception:
                        return  # the connection is gone; on_open of the next one starts afresh

    def _batches(self, subscriptions: list[Subscription]) -> Iterable[list[Subscription]]:
        """One channel a request while they are few, so that each refusal has its own id; more where they are many."""
        size = -(-len(subscriptions) // REQUESTS_PER_OPEN)
        batch: list[Subscription] = []
        length = 0
        for subscription in subscriptions:
            cost = len(self.dialect.subscribe([subscription.channel]).encode())
            apart = subscription.alone or (batch and batch[-1].alone)
            if batch and (len(batch) == size or length + cost > self.dialect.max_request or apart):
                yield batch
                batch, length = [], 0
            batch.append(subscription)
            length += cost
        if batch:
            yield batch

    def _may_request(self, now: float) -> bool:
        self._requests = [at for at in self._requests if now - at < 3600]
        if len(self._requests) >= REQUESTS_PER_HOUR:
            self._once("The exchange takes 480 requests an hour on one connection: the rest waits.")
            return False
        self._requests.append(now)
        return True

    def _confirmed(self, event: Subscribed) -> None:
        with self._lock:
            subscription = self._subscriptions.get(event.channel)
            if subscription and subscription.state == "sent":
                subscription.state = "confirmed"
        okex_log.info("%s subscribed.", printable_text(subscription.channel if subscription else event.channel))
        self._tell(SUBSCRIBED, subscription.channel if subscription else event.channel)

    def _unsubscribed(self, event: Unsubscribed) -> None:
        with self._lock:
            subscription = self._subscriptions.get(event.channel)
            if subscription and subscription.state == "leaving":
                self._left(event.channel, subscription)
            elif subscription and subscription.state in ("sent", "confirmed"):
                subscription.retry()
                if subscription.book:
                    subscription.book.renew("unsubscribed by the exchange")
                okex_log.warning("%s: unsubscribed by the exchange. Asking for it again.", subscription.channel)
                return
        okex_log.info("%s unsubscribed.", printable_text(event.channel))

    def _left(self, key: str, subscription: Subscription) -> None:
        if subscription.again:
            subscription.retry()
            self._flush()
        else:
            del self._subscriptions[key]

    def _refused(self, event: Refused) -> None:
        hint = HINTS.get(event.code, "")
        why = f"{event.code} {printable_text(event.message)}" + (f" ({hint})" if hint else "")
        if answer := self._answers.get(event.id):
            answer.put(event)
            return
        if self._login_due and event.channel in ("", "login") and not event.id:
            self._login_refused(event, why)
            return
        with self._lock:
            refused = self._meant(event)
            shared = len(refused) > 1 and not event.channel
            for subscription in refused:
                if shared:  # one of these is at fault, and nothing says which: ask for each by itself
                    subscription.alone = True
                    subscription.retry()
                elif event.code in TRANSIENT:
                    subscription.retry()
                else:
                    subscription.state = "refused"
                if subscription.book:
                    subscription.book.renew(f"refused: {why}")
        names = ", ".join(s.channel for s in refused) or printable_text(event.channel) or "a request"
        if shared:
            okex_log.warning(
                "The exchange refused one of %d channels: %s. Asking for each by itself.", len(refused), why
            )
            return
        self.counts["refused"] += 1
        okex_log.warning("The exchange refused %s: %s.", names, why)
        self._tell(REFUSED, f"{names}: {why}")

    def _meant(self, event: Refused) -> list[Subscription]:
        """The subscriptions that a refusal is about: by name, by the request's id, or the only one that waits."""
        asked = {key: s for key, s in self._subscriptions.items() if s.state in ("sent", "confirmed")}
        if event.channel in asked:
            return [asked[event.channel]]
        if event.channel:  # v3 and channel-conn-count-error name the channel without its argument
            return [s for key, s in asked.items() if key.partition(":")[0] == event.channel]
        waiting = [s for s in asked.values() if s.state == "sent"]
        if event.id:
            return [s for s in waiting if s.request == event.id]
        return waiting if len(waiting) == 1 else []

    # Everything else that arrives.

    def _deliver(self, event: Push) -> None:
        channel, rows, action = event
        subscription = self._subscriptions.get(channel)
        if subscription is not None:
            if subscription.state != "confirmed":
                if subscription.state == "leaving":
                    return
                if subscription.state == "sent":  # data says as much as a confirmation
                    subscription.state = "confirmed"
            channel = subscription.channel
            if subscription.prepare is not None:
                rows = subscription.prepare(rows, action)
        else:  # nobody asked for it, and its name is not known to be one
            channel = printable_text(channel)
        self._tries = 0
        try:
            self.handler(channel, rows)
        except Exception as error:
            self.counts["handler errors"] += 1
            kind = f"The handler failed with {type(error).__name__}"
            if kind not in self._said:
                self._said.add(kind)
                okex_log.exception("%s on a message of %s. Said once, counted each time.", kind, channel)

    def _keep_book(self, subscription: Subscription, book: OrderBook, rows: list[Any], action: str) -> list[Any]:
        """Apply rows to a book. Returns what the handler gets: the rows, or a view of the book after each change."""
        views = []
        for n, row in enumerate(rows):
            try:
                book.apply(row, action)
                if self.depth and book.ready and (action != "update" or row.get("bids") or row.get("asks")):
                    bids, asks = book.top(self.depth)
                    views.append({"bids": bids, "asks": asks, "ts": book.timestamp})
            except BookOutOfSync as error:
                self._resync(subscription, book, str(error))
                rows = rows[:n]
                break
        if book.waiting and not subscription.fetching and self.dialect.snapshot(subscription.channel):
            subscription.fetching = True
            threading.Thread(target=self._fetch_snapshot, args=(subscription, book), daemon=True).start()
        if subscription.state == "leaving":  # since a moment ago, by another thread
            book.renew("unsubscribed")
        return views if self.depth else rows

    def _resync(self, subscription: Subscription, book: OrderBook, why: str) -> None:
        """A book is out of sync: subscribe to that one channel anew."""
        with self._lock:
            book.renew(why)
            wanted = self._subscriptions.get(self.dialect.key(subscription.channel)) is subscription
            if not wanted or subscription.state == "leaving":
                return
            subscription.leave(again=True)
        self.counts["gaps"] += 1
        okex_log.warning("%s: %s. The book is not valid until it is subscribed to anew.", subscription.channel, why)
        self._tell(GAP, f"{subscription.channel}: {why}")
        self._flush()

    def _fetch_snapshot(self, subscription: Subscription, book: OrderBook) -> None:
        """Get by REST what a book begins with where v5 sends no snapshot, as OKX announced (change log, 2026-02-12)."""
        path, wait = self.dialect.snapshot(subscription.channel), 1.0
        try:
            while path and (waiting := book.waiting) and not self._stop.is_set():
                try:
                    if book.bridge(self._rest(path)[0], waiting):
                        okex_log.info("%s: the snapshot came by REST.", subscription.channel)
                        return
                    if book.waiting is not waiting:
                        continue
                    why = "it is older than the first update"
                except BookOutOfSync:
                    raise
                except Exception as error:
                    why = explain(error, self.url)
                okex_log.warning("%s: no snapshot by REST: %s. Next try in %.0f s.", subscription.channel, why, wait)
                self._stop.wait(wait)
                wait = min(MAX_RETRY, 2 * wait)
        except BookOutOfSync as error:
            self._resync(subscription, book, str(error))
        finally:
            subscription.fetching = False

    def _rest(self, path: str, timeout: float = CONNECT_TIMEOUT) -> Any:
        """GET a public resource of v5's REST API: its data."""
        parts = urlsplit(self.url)
        host, simulated = f"{parts.scheme}://{parts.netloc}", self._where[2]
        server = next((rest for *hosts, rest in REGIONS.values() if host in hosts), f"http{host[2:]}")
        headers = {"x-simulated-trading": "1"} if simulated else {}
        answer = fetch_json(server + path, headers, self._proxy, min(timeout, CONNECT_TIMEOUT))
        if answer["code"] != "0":
            raise ValueError(f"{answer['code']} {answer['msg']}")
        return answer["data"]

    def _ponged(self, _: Pong) -> None:
        self._tries = 0
        self.latency = (monotonic() - self._pinged) * 1000
        okex_log.info("Pong received. %.1f ms", self.latency)

    def _notice(self, event: Notice) -> None:
        okex_log.warning("Notice from the exchange: %s %s", event.code, printable_text(event.message))
        if event.code == "64008":  # the connection closes within 60 s (docs-v5 overview)
            self._hang_up(UPGRADE)

    def _once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            okex_log.warning(message)

    def _malformed(self, reason: str, message: str | bytes) -> None:
        self.counts["malformed"] += 1
        okex_log.warning("Malformed message, dropped: %s: %s", printable_text(reason), printable_text(message))


# ---------------------------------------------------------------------------------------------------------------
# Reading: what makes this as fast as clients that are compiled.


class Reader:
    """Cuts messages out of large chunks of what arrives.

    websocket-client waits in a selector, reads each frame in three pieces, and makes objects of them: several times
    the cost of what is in the message. Nearly all that the exchange sends are whole, plain text or binary frames
    below 64 KB, which take a slice here. Anything else (control frames, fragments, masks, reserved bits, longer
    frames) is left to websocket-client's own reader, with the bytes that follow; what it does not use comes back.
    Handshake, sending and closing are its business altogether.
    """

    def __init__(self, ws: OkexWS, read: Callable[[], bool]) -> None:
        self.ws, self.read = ws, read
        self.connection: Any = ws.sock
        self.buffer = b""
        self.fast = self.fits(self.connection)
        self.delegated = not self.fast  # whether websocket-client is to read next

    @staticmethod
    def fits(connection: Any) -> bool:
        """Whether this version of websocket-client has what is borrowed from it here (1.8.0 to 1.9.2 do)."""
        frames, parts = getattr(connection, "frame_buffer", None), getattr(connection, "cont_frame", None)
        return isinstance(getattr(frames, "recv_buffer", None), list) and hasattr(parts, "recving_frames")

    def step(self) -> bool:
        """Receive something and pass it on; False at the end. Raises a timeout if nothing comes."""
        if not self.delegated:
            chunk = self.connection.sock.recv(CHUNK)
            self.ws.busy = len(chunk) >= BUSY
            if chunk:
                self.buffer = self.buffer + chunk if self.buffer else chunk
                self.cut()
            else:  # the end, which is theirs to notice
                self.hand_over()
        elif not self.read():
            return False
        elif self.fast and not self.connection.cont_frame.recving_frames:  # not between two fragments
            self.delegated = False
            frames = self.connection.frame_buffer
            self.buffer, frames.recv_buffer = b"".join(frames.recv_buffer), []
            self.cut()
        return True

    def cut(self) -> None:
        """Deliver the messages that are whole; keep the rest, or hand it over."""
        ws, buffer, at = self.ws, self.buffer, 0
        end, messages, kind = len(buffer), 0, 0x81
        while end - at >= 2 and ws.keep_running:
            kind, length, begin = buffer[at], buffer[at + 1], at + 2
            if length == 126:
                if end - at < 4:
                    break
                length, begin = buffer[at + 2] << 8 | buffer[at + 3], at + 4
            elif length > 126:
                kind = 0
            if kind == 0x81 or kind == 0x82:  # final and text, final and binary
                if begin + length > end:
                    break
                at = begin + length
                messages += 1
                try:
                    on_message(ws, buffer[begin:at].decode() if kind == 0x81 else buffer[begin:at])
                except UnicodeDecodeError as error:
                    ws._malformed(str(error), buffer[begin:at])
            else:
                break
        self.buffer = buffer[at:]
        ws.counts["messages"] += messages
        if kind != 0x81 and kind != 0x82:
            self.hand_over()

    def hand_over(self) -> None:
        self.delegated, self.connection.frame_buffer.recv_buffer, self.buffer = True, [self.buffer], b""


def on_open(ws: OkexWS) -> None:
    """Connected: subscribe to everything that is wanted."""
    with ws._lock:
        ws._open = True
        ws._heard = monotonic()
        ws._requests.clear()
        ws._login_due = 0.0
        assert ws.sock is not None
        ws._clocks = ((ws.sock.getheaders() or {}).get("date", ""), wall_clock())
        for key, subscription in list(ws._subscriptions.items()):
            if subscription.state == "leaving" and not subscription.again:
                del ws._subscriptions[key]
            elif subscription.state != "refused":
                subscription.state, subscription.due = "wanted", 0.0
                subscription.request, subscription.again = "", False
    ws.counts["connects"] += 1
    okex_log.info("Connected to %s.", ws.url)
    ws._tell(CONNECTED, ws.url)
    ws._flush()


def on_data(ws: OkexWS, data: bytes, opcode: int, _final: bool) -> None:
    """What websocket-client itself read: text becomes str, so that on_message can tell it from compressed bytes."""
    ws.counts["messages"] += 1
    try:
        message = data if opcode == ABNF.OPCODE_BINARY else data.decode()
    except UnicodeDecodeError as error:
        ws._malformed(str(error), data)
    else:
        on_message(ws, message)


def on_message(ws: OkexWS, message: str | bytes) -> None:
    """One message: inflate it, tell what it is (pong, confirmation, data, …), and act on each event in it."""
    try:
        text = inflate(message).decode() if isinstance(message, bytes) else message
    except ValueError as error:
        ws._malformed(str(error), message)
        return
    if ws._trace:
        okex_log.debug("< %s", text)
    for event in ws._parse(text):
        if event.__class__ is Push:
            ws._deliver(event)
        elif event.__class__ is Malformed:
            ws._malformed(event.reason, text)
        else:
            ws._dispatch[event.__class__](event)


def on_error(ws: OkexWS, error: BaseException) -> None:
    """The connection failed, or could not be made."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        ws._fatal = error  # websocket-client swallows it; run() raises it again
    elif isinstance(error, ssl.SSLCertVerificationError) and not ws.counts["connects"]:
        ws._fatal = error
    ws._hang_up(explain(error, ws.url, ws._proxy))


def on_close(ws: OkexWS, code: int | None, reason: str | None) -> None:
    """The connection is closed; `code` and `reason` if the exchange said why."""
    if code == 4001 and ws._login_due and not ws._fatal:
        ws._fatal = LoginError(f"the exchange closed the connection instead of logging in: {HINTS['4001']}")
    if code:
        hint = HINTS.get(str(code), "")
        ws._reason = f"closed by the exchange with code {code}" + f" {printable_text(reason or hint)}".rstrip()


def send_heartbeat(ws: OkexWS) -> None:
    """Send the ping every `ws.ping_every` seconds for the life of the client, and retry until the send succeeds."""
    while not ws._stop.wait(ws.ping_every):
        ws._watch_reader()
        failed = False
        while not ws._stop.is_set():
            try:
                ws._pinged = monotonic()
                ws.send(ws.dialect.ping)
                okex_log.info("Ping sent.")
                break
            except Exception as error:
                if not failed:
                    okex_log.warning("Ping not sent, trying again every second: %s.", explain(error, ws.url))
                failed = True
                ws._stop.wait(1.0)


def explain(error: BaseException, url: str, proxy: dict[str, Any] | None = None) -> str:
    """Why a connection could not be made, or ended, in words that tell DNS, TCP, TLS, proxy and HTTP apart."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    next_hop = host
    if proxy and proxy is not DIRECT:
        next_hop = f"the proxy {proxy['http_proxy_host']}:{proxy['http_proxy_port']}"
    detail = printable_text(str(error)).rstrip(".") or type(error).__name__
    if isinstance(error, websocket.WebSocketAddressException):
        return f"DNS cannot resolve {next_hop}: {detail}"
    if isinstance(error, websocket.WebSocketBadStatusException):
        hint = {403: ", this address or region may be blocked: try a proxy, or another region", 404: ", wrong path"}
        return f"{host} answered HTTP {error.status_code}{hint.get(error.status_code, '')}"
    if isinstance(error, websocket.WebSocketProxyException) or type(error).__module__.startswith("python_socks"):
        return f"the proxy failed: {detail}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate of {host} is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS with {host} failed: {detail}"
    if isinstance(error, ConnectionRefusedError):
        return f"{next_hop} refused the connection"
    if isinstance(error, websocket.WebSocketTimeoutException | TimeoutError):
        return f"{next_hop} did not answer in time"
    return detail


def clock_difference(date: str, now: float) -> str:
    """How far this machine's clock is from the date that a server's handshake gave at the same time."""
    from email.utils import parsedate_to_datetime

    try:
        ahead = now - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return "the server's clock is not known"
    return f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# websocket-client would ask the environment once more; and no_proxy=* does not count unless a proxy is named.
DIRECT = {"http_proxy_host": "none", "http_proxy_port": 0, "http_no_proxy": ["*"], "proxy_type": "http"}


def proxy_options(proxy: str | None, url: str) -> dict[str, Any]:
    """What run_forever wants to hear about a proxy: the one asked for, or that of the environment."""
    parts = urlsplit(url)
    host, without = parts.hostname or "", os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    exceptions = [name.strip().lstrip(".") for name in without.split(",") if name.strip()]
    if proxy is None and (is_loopback(host) or any(e == "*" or f".{host}".endswith(f".{e}") for e in exceptions)):
        return DIRECT
    if proxy is None:
        names = ("https_proxy" if parts.scheme == "wss" else "http_proxy", "all_proxy")
        values = (os.environ.get(spelling) for name in names for spelling in (name, name.upper()))
        proxy = next(filter(None, values), None)
    if not proxy:
        return {}
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    schemes = ("http", "socks4", "socks4a", "socks5", "socks5h")
    if parts.scheme not in schemes or not parts.hostname or not port_of(parts.geturl()):
        raise ValueError("a proxy is written http://host:port, socks5://host:port or socks5h://host:port")
    if parts.scheme != "http":
        try:
            import python_socks  # noqa: F401
        except ImportError:
            raise ImportError("SOCKS proxies need the package python-socks: pip install python-socks") from None
    return {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": port_of(parts.geturl()),
        "http_proxy_auth": (unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
        "http_proxy_timeout": CONNECT_TIMEOUT,
        "http_no_proxy": ["-"],  # its own idea of no_proxy, and what 1.8.0 has for loopback, do not count
        "proxy_type": parts.scheme,
    }


def fetch_json(url: str, headers: dict[str, str], proxy: dict[str, Any], timeout: float) -> Any:
    """GET a JSON document. The connection is made as the WebSocket's is: same proxy, same certificates."""
    from http.client import HTTPConnection  # slow to import, and most runs never need it

    from websocket._http import connect, proxy_info

    options = websocket.sock_opt([], {})
    options.timeout = timeout  # for each step
    sock, (host, port, path) = connect(f"ws{url[4:]}", options, proxy_info(**proxy), None)  # type: ignore[no-untyped-call]
    with closing(HTTPConnection(host, port)) as connection:
        connection.sock = sock
        connection.request("GET", path, headers={"User-Agent": f"okex_ws/{__version__}", **headers})
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"{host} answered HTTP {response.status}")
        return from_json(response.read().decode())


# ---------------------------------------------------------------------------------------------------------------
# Sinks: where the rows go.

# What a line shows of a trade, a ticker and a candle: for each value, its names in v5, v3 and v1.
TRADE = re.compile(r"(.*[/_-])?(trades?|deals)\b|.*_trade_")
TICKER = re.compile(r".*ticker")
PRICE, SIZE, SIDE = ("px", "price"), ("sz", "size", "qty", "amount"), ("side", "type")
LAST, BID, ASK = ("last",), ("bidPx", "best_bid", "buy"), ("askPx", "best_ask", "sell")
OPEN, HIGH, LOW, CLOSE, VOLUME = ("o", "open"), ("h", "high"), ("l", "low"), ("c", "close"), ("vol", "volume")
SIDES = {"buy": "buy", "bid": "buy", "sell": "sell", "ask": "sell"}
GREEN, RED, PLAIN = "\033[32m", "\033[31m", "\033[0m"


def describe_row(channel: str, row: Any) -> tuple[str, str]:
    """A row in a few words for a person, and the colour that they deserve."""

    def pick(names: tuple[str, ...]) -> Any:
        return next((row[name] for name in names if name in row), "")

    if isinstance(row, dict):
        if isinstance(row.get("candle"), list):  # v3: {"candle":["2019-04-16T10:49:00.000Z","162.03", …]}
            row = dict(zip(("time", "open", "high", "low", "close", "volume"), row["candle"]))
        side = SIDES.get(str(pick(SIDE)), "")
        if side and pick(PRICE) != "" and TRADE.match(channel):
            return f"{pick(PRICE)!s:>12} {pick(SIZE)!s:>14} {side}", GREEN if side == "buy" else RED
        if row.keys() == {"bids", "asks", "ts"}:  # see OkexWS.depth
            bid, ask = (" x ".join(map(str, side[0])) if side else "none" for side in (row["bids"], row["asks"]))
            both = row["bids"] and row["asks"]
            spread = f"  spread {Decimal(row['asks'][0][0]) - Decimal(row['bids'][0][0])}" if both else ""
            return f"bid {bid}  ask {ask}{spread}", ""
        if "last" in row and TICKER.match(channel):
            return f"last {pick(LAST)}  bid {pick(BID)}  ask {pick(ASK)}", ""
        if pick(OPEN) != "" and pick(CLOSE) != "":
            volume = f"  volume {pick(VOLUME)}" if pick(VOLUME) != "" else ""
            return f"open {pick(OPEN)}  high {pick(HIGH)}  low {pick(LOW)}  close {pick(CLOSE)}{volume}", ""
    return to_json(row), ""


def print_rows(channel: str, rows: list[Any]) -> None:
    """Print a line per row: local time, channel, and what matters in it. In colour on a terminal that wants it."""
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    now = wall_clock()
    clock = f"{strftime('%H:%M:%S', localtime(now))}.{int(now % 1 * 1000):03d}"
    lines = []
    for row in rows:
        text, colour = describe_row(channel, row)
        line = printable_text(f"{clock}  {channel}  {text}", sys.maxsize)
        lines.append(f"{colour}{line}{PLAIN}\n" if colours and colour else f"{line}\n")
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


def json_rows(channel: str, rows: list[Any]) -> None:
    """Print a JSON line per row: {"received": epoch seconds, "channel": …, "row": …}."""
    received = wall_clock()
    sys.stdout.write("".join(json_line(received, channel, row) for row in rows))
    sys.stdout.flush()


def json_line(received: float, channel: str, row: Any) -> str:
    return to_json({"received": received, "channel": channel, "row": row}) + "\n"


class Sink:
    """Where rows go. Derive from it, or give any class these methods; they are called on a thread of the sink's own.

    A sink is made with what its option was given, and with the keywords name, history and command (see RedisSink).
    """

    linger = 0.25  # seconds that rows may wait for more, to be written together

    def __init__(self, target: str, **_: Any) -> None: ...

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        """Take the rows of one message, received at this epoch second.

        If it raises, it is called again after a pause; but what looks like a bug (TypeError, KeyError, …) costs the
        message.
        """
        raise NotImplementedError

    def status(self, received: float, status: str, detail: str) -> None:
        """Take a change of the connection's state, in its place between the rows."""

    def flush(self) -> None:
        """Persist what was taken, all or nothing. Called after each batch, and at least once a second."""

    def close(self) -> None: ...


def was_moved(path: str, was: os.stat_result) -> bool:
    """Whether a path leads to another file by now, or to none, as it does after a log was rotated."""
    try:
        if os.path.samestat(os.stat(path), was):
            return False
    except FileNotFoundError:
        pass
    okex_log.warning("%s was moved or removed: going on with a new file.", path)
    return True


class JsonLines(Sink):
    """append a JSON line per row to FILE; - prints them"""

    def __init__(self, target: str, **_: Any) -> None:
        self.target, self.lines = target, list[str]()
        self._open()

    def _open(self) -> None:
        self.file = open(self.target, "ab+", buffering=0)  # noqa: SIM115
        self.stat = os.fstat(self.file.fileno())
        self.regular = S_ISREG(self.stat.st_mode)
        if self.regular:
            self._repair()

    def _repair(self) -> None:
        """Cut off a line that an earlier run did not live to finish."""
        end = at = self.file.seek(0, os.SEEK_END)
        while at:
            begin = max(0, at - 65536)
            self.file.seek(begin)
            newline = self.file.read(at - begin).rfind(b"\n")
            if newline >= 0:
                at = begin + newline + 1
                break
            at = begin
        if at < end:
            okex_log.warning("%s: cut off %d bytes of an unfinished line.", self.target, end - at)
            self.file.truncate(at)

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        self.lines += [json_line(received, channel, row) for row in rows]

    def flush(self) -> None:
        if not self.lines:
            return
        if self.regular and was_moved(self.target, self.stat):
            old = self.file
            self._open()
            old.close()
        data = memoryview("".join(self.lines).encode())
        end = self.file.seek(0, os.SEEK_END) if self.regular else 0
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError:
            if self.regular:
                self.file.truncate(end)
            raise
        self.lines.clear()

    def close(self) -> None:
        self.file.close()


class SQLite(Sink):
    """insert rows into the table `rows` (received, channel, row) of an SQLite FILE"""

    def __init__(self, target: str, **_: Any) -> None:
        self.target, self.rows = target, list[tuple[float, str, str]]()
        self._open()

    def _open(self) -> None:
        import sqlite3

        try:
            db = sqlite3.connect(self.target, timeout=5, check_same_thread=False)
            db.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                "PRAGMA wal_autocheckpoint=1;"  # so that the file holds nearly everything, wherever it is moved
                "CREATE TABLE IF NOT EXISTS rows (received REAL, channel TEXT, row TEXT);"
                "CREATE INDEX IF NOT EXISTS rows_by_channel ON rows (channel, received);"
            )
            self.db, self.stat = db, os.stat(self.target)
        except sqlite3.Error as error:
            raise OSError(f"{self.target}: {error}") from None

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        self.rows += [(received, channel, to_json(row)) for row in rows]

    def flush(self) -> None:
        if self.rows:
            if was_moved(self.target, self.stat):
                old = self.db
                self._open()
                old.close()
            with self.db:  # one transaction
                self.db.executemany("INSERT INTO rows VALUES (?, ?, ?)", self.rows)
            self.rows.clear()

    def close(self) -> None:
        self.db.close()


def connect_redis(url: str) -> Any:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ImportError("Redis needs the package redis: pip install redis") from None
    port_of(url)
    # Its own retries could write a batch twice.
    timeouts = {"socket_connect_timeout": 3, "socket_timeout": REDIS_TIMEOUT, "retry": Retry(NoBackoff(), 0)}
    return redis.Redis.from_url(url, decode_responses=True, encoding_errors="backslashreplace", **timeouts)


class RedisSink(Sink):
    """keep rows in Redis (redis://host:6379/0) for other programs, see RedisFeed

    okex/NAME/CHANNEL            hash: the latest row; where a channel has many instruments, one for each
                                 publishes every row as JSON, but candles only when they are final
    okex/NAME/CHANNEL/history    stream of {received, row, n}, trimmed; a candle that still forms is replaced
    okex/NAME/status             the last change of the connection's state; gone if the process dies; published, too
    okex/NAME/commands           list, and channel: {"id": …, "op": "subscribe", "channels": […]}; other ops are
                                 unsubscribe, channels and quit
    okex/NAME/answers/ID         list, and channel: {"id": …, "ok": true, "result": …}
    """

    linger = 0.005
    ALIVE = 10  # seconds that the status outlives the process

    def __init__(self, target: str, *, name: str, history: int, command: Callable[[str, list[str]], Any]) -> None:
        self.redis = connect_redis(target)
        self.prefix, self.history, self.command = f"okex/{name}/", history, command
        self.batch: list[tuple[float, str, list[Any]]] = []
        self.number, self.process = 0, os.urandom(8).hex()
        self.uncertain = False  # whether the batch may have been applied though its answer was lost
        self.rows: Counter[str] = Counter()  # how many, by key
        self.candles: dict[str, tuple[int, int, str]] = {}  # by key, the one that forms: begin in ms, version, row
        self.state, self.told = "", 0.0  # the status, and when (monotonic) it was last set
        self.closed = threading.Event()
        if self.redis.delete(f"{self.prefix}commands"):
            okex_log.warning("Commands by Redis that were given before this start are dropped.")
        threading.Thread(target=self._serve_commands, name="okex_ws commands", daemon=True).start()

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        self.batch.append((received, channel, [row if isinstance(row, dict) else {"value": row} for row in rows]))

    def status(self, received: float, status: str, detail: str) -> None:
        self.state, self.told = to_json({"received": received, "status": status, "detail": detail}), 0.0
        self.redis.publish(f"{self.prefix}status", self.state)

    def flush(self) -> None:
        if self.batch:
            pipeline = self.redis.pipeline(transaction=True)
            rows, candles = self._fill(pipeline)
            mark = f"{self.prefix}batch/{self.process}"
            pipeline.set(mark, self.number, ex=3600)
            if not self.uncertain or self.redis.get(mark) != str(self.number):
                self.uncertain = True
                self.candles = {}  # unless it succeeds, they are not known
                pipeline.execute()
            else:
                candles = {}  # what was computed came on top of what had been applied
            self.uncertain, self.rows, self.candles = False, rows, candles
            self.number += 1
            self.batch.clear()
        if self.state and monotonic() - self.told > self.ALIVE / 3:
            self.redis.set(f"{self.prefix}status", self.state, ex=self.ALIVE)
            self.told = monotonic()

    def _fill(self, pipeline: Any) -> tuple[Counter[str], dict[str, tuple[int, int, str]]]:
        """The batch as commands; returns what `rows` and `candles` are once they are applied."""
        numbers, candles = self.rows.copy(), self.candles.copy()
        latest: dict[str, Any] = {}
        for received, channel, rows in self.batch:
            for row in rows:
                key, text, begin = self._key(channel, row), to_json(row), candle_begin(channel, row)
                latest[key] = row
                entry = {"received": received, "row": text}
                if begin is None:
                    numbers[key] += 1
                    pipeline.xadd(f"{key}/history", entry | {"n": numbers[key]})
                if not begin:
                    pipeline.publish(key, text)
                    continue
                if key not in candles:
                    self.candles[key] = candles[key] = self._last_candle(key)
                formed, version, last = candles[key]
                if begin > formed and last and "confirm" not in row:
                    pipeline.publish(key, last)  # v1 and v3 do not say that a candle is final: the next one does
                elif row.get("confirm") == "1":
                    pipeline.publish(key, text)
                if begin >= formed:
                    version = version + 1 if begin == formed else 0
                    pipeline.xdel(f"{key}/history", f"{begin}-{version - 1}") if version else None
                    pipeline.xadd(f"{key}/history", entry, id=f"{begin}-{version}")
                    candles[key] = (begin, version, text)
        for key, row in latest.items():
            pipeline.delete(key)
            if row:
                values = {name: value if isinstance(value, str) else to_json(value) for name, value in row.items()}
                pipeline.hset(key, mapping=values)
            pipeline.xtrim(f"{key}/history", maxlen=self.history, approximate=False)
        return numbers, candles

    def _key(self, channel: str, row: Any) -> str:
        """Where a row belongs: its channel, or its instrument where the channel has several."""
        instrument = str(row.get("instId") or row.get("instrument_id") or "")
        several = instrument and ("=" in channel or ":" not in channel) and instrument not in channel
        return self.prefix + (f"{channel.partition(':')[0]}:{instrument}" if several else channel)

    def _last_candle(self, key: str) -> tuple[int, int, str]:
        """The candle that an earlier run left."""
        for entry, values in self.redis.xrevrange(f"{key}/history", count=1):
            begin, _, version = entry.partition("-")
            return int(begin), int(version), values["row"]
        return 0, 0, ""

    def _serve_commands(self) -> None:
        mailbox = f"{self.prefix}commands"
        while not self.closed.is_set():
            try:
                with self.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    pubsub.subscribe(mailbox)
                    while not self.closed.is_set():
                        published = pubsub.get_message(timeout=0.1)
                        for text in filter(None, (published and published["data"], self.redis.lpop(mailbox))):
                            self._execute(text)
            except Exception as error:  # Redis is gone: the writer says so, and this waits for it to come back
                okex_log.debug("Commands by Redis: %s", error)
                self.closed.wait(1.0)

    def _execute(self, text: str) -> None:
        answer: dict[str, Any] = {"id": None, "ok": False}
        try:
            request = from_json(text)
            answer["id"] = request.get("id")
            quit = request["op"] == "quit"  # obeyed after the answer
            channels = request.get("channels", [])
            if not isinstance(channels, list):
                raise TypeError("channels must be a list")
            answer |= {"ok": True, "result": None if quit else self.command(request["op"], channels)}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            answer["error"] = str(error) or repr(error)
        okex_log.info("Command by Redis: %s: %s", printable_text(text), "done" if answer["ok"] else answer["error"])
        key = f"{self.prefix}answers/{answer['id']}"
        pipeline = self.redis.pipeline()
        pipeline.rpush(key, to_json(answer)).expire(key, 60).publish(key, to_json(answer)).execute()
        if answer["ok"] and quit:
            self.command("quit", [])

    def close(self) -> None:
        self.closed.set()
        self.redis.close()


def candle_begin(channel: str, row: Any) -> int | None:
    """When the candle in a row begins, in ms; 0 if that makes no sense; None if the channel is none of candles."""
    if "candle" not in channel and "_kline_" not in channel:
        return None
    try:
        text = str(row.get("ts") or row.get("timestamp") or row["candle"][0])
        if text.isdecimal():
            begin = int(text)
        else:
            from datetime import datetime  # here, since a script may have another datetime

            begin = int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)
    except (LookupError, TypeError, ValueError):
        return 0
    return begin if begin < (wall_clock() + 86400) * 1000 else 0  # one of the far future would shut out all others


class RedisFeed:
    """What `--redis` keeps, for other programs: `RedisFeed("redis://localhost").get("tickers:BTC-USDT")`."""

    def __init__(self, url: str = "redis://localhost", name: str = "default") -> None:
        self.redis = connect_redis(url)
        self.prefix = f"okex/{name}/"

    def get(self, channel: str, n: int | None = None) -> Any:
        """The latest row, its values as strings, None if there is none; or a list of the last n rows, oldest first."""
        if n is None:
            return self.redis.hgetall(self.prefix + channel) or None
        entries = self.redis.xrevrange(f"{self.prefix}{channel}/history", count=n)
        return [from_json(values["row"]) for _, values in reversed(entries)]

    def listen(self, channel: str) -> Iterator[Any]:
        """Every row from now on. Raises LookupError when rows were trimmed away before they could be read."""
        history = f"{self.prefix}{channel}/history"
        exists = self.redis.exists(history)
        last = self.redis.xinfo_stream(history)["last-generated-id"] if exists else "0-0"
        return self._follow(history, last)

    def _follow(self, history: str, last: str) -> Iterator[Any]:
        number = 0
        while True:
            for _, entries in self.redis.xread({history: last}, count=1000, block=2000) or []:
                for entry, values in entries:
                    last, n = entry, int(values.get("n", 0))
                    if number and n > number + 1:
                        raise LookupError(f"{n - number - 1} rows were trimmed away unread: use a larger --history")
                    number = n
                    yield from_json(values["row"])

    def subscribe(self, channel: str) -> None:
        self._command("subscribe", channel)

    def unsubscribe(self, channel: str) -> None:
        self._command("unsubscribe", channel)

    def channels(self) -> Any:
        """Each channel and how its subscription stands, see OkexWS.channels."""
        return self._command("channels")

    def quit(self) -> None:
        """End the program that fills Redis."""
        self._command("quit")

    def status(self) -> Any:
        """The last change of the connection's state: {"received", "status", "detail"}; None if nothing runs."""
        status = self.redis.get(f"{self.prefix}status")
        return status and from_json(status)

    def clear(self) -> None:
        """Forget everything that is kept under this name."""
        for key in self.redis.scan_iter(f"{self.prefix}*"):
            self.redis.unlink(key)

    def _command(self, op: str, *channels: str, timeout: int = REDIS_TIMEOUT - 1) -> Any:
        id = os.urandom(8).hex()
        self.redis.rpush(f"{self.prefix}commands", to_json({"id": id, "op": op, "channels": channels}))
        answer = self.redis.blpop([f"{self.prefix}answers/{id}"], timeout=timeout)
        if answer is None:
            raise TimeoutError(f"nothing answered to {op} within {timeout} s: is okex_ws.py --redis running?")
        answer = from_json(answer[1])
        if not answer["ok"]:
            raise ValueError(answer["error"])
        return answer["result"]


SINKS: dict[str, Any] = {"jsonl": JsonLines, "sqlite": SQLite, "redis": RedisSink}  # by option


class Writer:
    """A sink behind a bounded queue, on a thread of its own, so that no reading thread waits for a disk or a server."""

    def __init__(self, option: str, sink: Any, busy: Callable[[], bool] = lambda: False) -> None:
        self.option, self.sink, self.busy = option, sink, busy  # busy: the reading threads need the processor
        self.queue: deque[bytes] = deque()  # marshalled: a fifth of the memory of objects, and nothing for the GC
        self.put_bytes = self.taken_bytes = 0
        self.wake = threading.Event()  # there is something to do
        self.closing = threading.Event()
        self.failing = False
        self.refused = 0  # messages that the sink cannot take
        self.thread = threading.Thread(target=self._run, name=f"okex_ws {option}", daemon=True)
        self.thread.start()

    @property
    def backlog(self) -> int:
        """Bytes that are not written yet."""
        return self.put_bytes - self.taken_bytes

    def put(self, item: bytes) -> None:
        """Queue what marshal made of (received, channel, rows), or (received, "", (status, detail))."""
        self.queue.append(item)
        self.put_bytes += len(item)
        if not self.wake.is_set():
            self.wake.set()

    def _run(self) -> None:
        linger, flush = getattr(self.sink, "linger", Sink.linger), getattr(self.sink, "flush", lambda: None)
        last = False
        while not last:
            self.wake.wait(1.0)
            self.closing.wait(linger)
            self.wake.clear()
            last = self.closing.is_set()
            while self.queue:
                begin, batch = monotonic(), min(len(self.queue), MAX_BATCH)
                for i in range(batch):
                    received, channel, rows = marshal.loads(self.queue[i])
                    self._insist(self._pass_on, received, channel, rows)
                self._insist(flush)
                for _ in range(batch):
                    self.taken_bytes += len(self.queue.popleft())
                now = monotonic()
                rest = now + 6 * (now - begin)  # threads of Python take turns, and the exchange does not wait
                while self.busy() and (self._young() or monotonic() < rest) and not self.closing.wait(0.05):
                    pass
            self._insist(flush)
        self._insist(self.sink.close)

    def _young(self) -> bool:
        """Whether what waits may wait a little longer."""
        return not self.queue or wall_clock() - float(marshal.loads(self.queue[0])[0]) < 0.7

    def _pass_on(self, received: float, channel: str, rows: Any) -> None:
        try:
            if channel:
                self.sink.write(received, channel, rows)
            elif hasattr(self.sink, "status"):
                self.sink.status(received, *rows)
        except OSError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # it would be so for ever
            if not self.refused:
                okex_log.exception("--%s cannot take a message: dropped. Said once, counted each time.", self.option)
            self.refused += 1

    def _insist(self, call: Callable[..., Any], *args: Any) -> None:
        """Call until it succeeds."""
        wait = 0.1
        while True:
            try:
                call(*args)
            except Exception as error:
                if not self.failing:
                    why = str(error).rstrip(".") or type(error).__name__
                    okex_log.warning(
                        "--%s: %s. Trying again; meanwhile rows wait in memory.", self.option, printable_text(why)
                    )
                self.failing = True
                pause(wait)
                wait = min(2 * wait, 1.0)
            else:
                if self.failing:
                    okex_log.warning("--%s works again.", self.option)
                self.failing = False
                return

    def end(self) -> None:
        """Have what is queued written, and the sink closed."""
        self.closing.set()
        self.wake.set()

    def close(self, begin: float = inf) -> bool:
        """`end()`, and wait for it until a deadline that is shorter while the sink fails. Whether all was written."""
        self.end()
        begin, said = min(begin, monotonic()), False
        while self.thread.is_alive() and monotonic() - begin < (MAX_DRAIN_FAILING if self.failing else MAX_DRAIN):
            self.thread.join(0.05)
            if not said and monotonic() - begin > 0.5:
                said = True
                message = "Writing %d more messages to --%s, for at most %.0f s. Ctrl-C again gives up."
                okex_log.warning(
                    message, len(self.queue), self.option, MAX_DRAIN_FAILING if self.failing else MAX_DRAIN
                )
        if self.thread.is_alive():
            okex_log.error(
                "--%s: %d messages could not be written in time, and are lost.", self.option, len(self.queue)
            )
        return not self.thread.is_alive()


# ---------------------------------------------------------------------------------------------------------------
# Command line.

OFFLINE_CHANNEL = "ok_sub_futureusd_btc_trade_quarter"  # that of the original demo
EXIT_GRACE = 0.7  # seconds for the threads to end by themselves after a signal

EXAMPLES = """\
channels:
  v5    trades:BTC-USDT  tickers:BTC-USDT  candle1m:BTC-USDT  books5:BTC-USDT-SWAP  liquidation-orders:instType=SWAP
  v3    spot/trade:BTC-USDT  swap/ticker:BTC-USD-SWAP  spot/candle60s:BTC-USDT     (retired by the exchange)
  v1    ok_sub_futureusd_btc_trade_quarter  ok_sub_spot_btc_usdt_ticker            (retired by the exchange)

examples:
  python okex_ws.py                                     live trades of BTC-USDT
  python okex_ws.py --offline                           no network needed: a stand-in exchange on this machine
  python okex_ws.py tickers:ETH-USDT candle1m:ETH-USDT  several channels, each from its own endpoint
  python okex_ws.py --jsonl - --count 100 > rows.jsonl  a hundred rows as JSON lines
  python okex_ws.py --proxy socks5h://127.0.0.1:1080    through a proxy (pip install python-socks)
"""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def positive(text: str) -> float:
        value = float(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    def whole(text: str) -> int:
        if int(text) < 1:
            raise argparse.ArgumentTypeError("must be 1 or more")
        return int(text)

    parser = argparse.ArgumentParser(
        prog="okex_ws.py",
        description="Print OKEx/OKX market data as it happens. Data goes to stdout, everything else to stderr.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("channels", nargs="*", metavar="CHANNEL", help="what to receive (default: trades:BTC-USDT)")
    add("--offline", action="store_true", help="use the stand-in exchange of the tests folder (default channel: v1)")
    add("--url", help="connect here; a host alone (wss://host) gets the exchange's own path")
    add("--region", choices=REGIONS, default="global", help="the account's: my.okx.com is eea, app.okx.com is us")
    add("--simulated", action="store_true", help="the exchange's hosts for simulated trading")
    add("--proxy", metavar="URL", help="http://, socks5:// or socks5h://[user:password@]host:port")
    add(
        "--depth",
        type=whole,
        metavar="N",
        help="order books as rows of their best N levels a side; printed, the best one",
    )
    add("--ping-every", type=positive, metavar="SECONDS", help="default: 30 for v1, 25 for v3, 20 for v5")
    add("--seconds", type=positive, metavar="N", help="stop by itself after so long")
    add("--count", type=whole, metavar="N", help="stop by itself after so many rows")
    for option, sink in SINKS.items():
        help = (sink.__doc__ or option).splitlines()[0]
        add(f"--{option}", metavar="URL" if "://" in help else "FILE", help=help)
    add("--name", default="default", help="with --redis: the NAME in its keys")
    add(
        "--history",
        type=whole,
        default=1000,
        metavar="N",
        help="with --redis: rows kept of each channel (default: 1000)",
    )
    add("--quiet", action="store_true", help="on stderr only what goes wrong")
    add("--trace", action="store_true", help="on stderr every message both ways")
    add("--version", action="version", version=f"okex_ws {__version__}")
    args = parser.parse_args(argv)
    args.channels = list(dict.fromkeys(args.channels)) or [OFFLINE_CHANNEL if args.offline else "trades:BTC-USDT"]
    if args.offline and args.url:
        parser.error("--offline brings its own server: leave --url out")
    return args


class Run:
    """One run of the command line: its clients, the first on the main thread, and the ways it can end."""

    def __init__(self, args: argparse.Namespace, url: str | None, credentials: Credentials | None = None) -> None:
        self.args, self.url, self.credentials = args, url, credentials
        self.lock = threading.Lock()  # one message after another, from all reading threads
        self.status: int | None = None  # the exit status, once something has ended the run
        self.running = False
        self.rows = 0
        self.ended = threading.Event()  # finish() has begun
        self.finishing = threading.Lock()
        self.began = monotonic()
        self.waits: Counter[str] = Counter()  # how often a sink's queue was full
        self.clients: dict[tuple[str, type[Dialect]], OkexWS] = {}
        self.subscribe(args.channels)
        targets = {option: getattr(args, option) for option in SINKS}
        self.output: Handler | None = (
            json_rows if targets["jsonl"] == "-" else None if any(targets.values()) else print_rows
        )
        if self.output and not sys.stdout:
            raise ValueError("stdout is closed: there is nothing to print to")
        options = {"name": args.name, "history": args.history, "command": self.command}
        self.writers = [
            Writer(option, SINKS[option](target, **options), self.busy)
            for option, target in targets.items()
            if target not in (None, "-")
        ]

    def subscribe(self, channels: Iterable[str]) -> None:
        for channel in channels:
            where = endpoint_of(channel, self.url, self.args.region, self.args.simulated), dialect_of(channel)
            if where in self.clients:
                self.clients[where].subscribe(channel)
                continue
            names = ("region", "simulated", "proxy", "depth", "ping_every")
            options = {name: getattr(self.args, name) for name in names}
            client = OkexWS(channel, self.handle, url=self.url, credentials=self.credentials, **options)
            client.on_status = self.hear  # type: ignore[method-assign]
            self.clients[where] = client
            if self.running:
                client.start()

    def command(self, op: str, channels: list[str]) -> Any:
        """What other programs may ask for, see RedisSink."""
        if op == "subscribe":
            self.subscribe(channels)
        elif op == "unsubscribe":
            for client in self.clients.values():
                client.unsubscribe(*(channel for channel in channels if channel in client.channels))
        elif op == "channels":
            return {
                channel: state for client in list(self.clients.values()) for channel, state in client.channels.items()
            }
        elif op == "quit":
            self.end(0)
        else:
            raise ValueError(f"no op {op!r}: there are subscribe, unsubscribe, channels and quit")
        return None

    def run(self) -> int:
        if threading.current_thread() is threading.main_thread():
            self.catch_signals()
        if self.args.seconds:
            timer = threading.Timer(self.args.seconds, self.end, [0])
            timer.daemon = True
            timer.start()
        first, *others = self.clients.values()
        self.running = True
        for client in others:
            client.start()
        try:
            first.run()
        except Exception as error:
            okex_log.error("Stopped: %s.", explain(error, first.url))
        self.stop(1)
        self.finish()
        return self.status or 0

    def stop(self, status: int) -> None:
        """End the run with this exit status, unless another one came first. From any thread, at once."""
        if self.status is None:
            self.status = status
        for client in list(self.clients.values()):
            client.close()

    def end(self, status: int) -> None:
        """The same, even if the main thread is stuck in a write that nobody reads."""
        self.stop(status)
        if not self.ended.wait(EXIT_GRACE):
            self.finish()
            os._exit(self.status or 0)

    def catch_signals(self) -> None:
        """Let a thread of its own act on SIGINT and SIGTERM.

        The main thread may be where no Python code runs, in getaddrinfo or in a write to a paused terminal, so
        that neither a handler nor KeyboardInterrupt would come through.
        """
        import signal

        inbox, self.outbox = socket.socketpair()  # kept: the signal module holds on to the number alone
        self.outbox.setblocking(False)
        signal.set_wakeup_fd(self.outbox.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

        def watch() -> None:
            status = 130 if inbox.recv(1)[0] == signal.SIGINT else 0
            first = monotonic()
            threading.Thread(target=self.end, args=(status,), daemon=True).start()
            inbox.settimeout(EXIT_GRACE + (MAX_DRAIN + 1 if self.writers else 0.2))  # stderr may be blocked, too
            with suppress(TimeoutError):
                while inbox.recv(1) and monotonic() - first < EXIT_GRACE:
                    pass  # a double press
            os._exit(status)

        threading.Thread(target=watch, name="okex_ws signals", daemon=True).start()

    def handle(self, channel: str, rows: list[Any]) -> None:
        with self.lock:
            if self.status is not None:
                return
            rows = rows[: self.args.count and self.args.count - self.rows]
            self.rows += len(rows)
            if self.output:
                self.show(self.output, channel, rows)
            if self.writers:
                self.enqueue(channel, rows)
            if self.rows == self.args.count:
                self.stop(0)

    def enqueue(self, channel: str, rows: Any) -> None:
        """Queue for every sink, waiting for one whose queue is full. Under the lock."""
        item = marshal.dumps((wall_clock(), channel, rows))
        for writer in self.writers:
            if writer.backlog > MAX_QUEUE:
                self.wait_for(writer)
            writer.put(item)

    def busy(self) -> bool:
        return any(client.busy for client in list(self.clients.values()))

    def show(self, output: Handler, channel: str, rows: list[Any]) -> None:
        try:
            output(channel, rows)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                okex_log.error("Cannot write to stdout: %s.", error)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            self.stop(0 if isinstance(error, BrokenPipeError) else 1)

    def wait_for(self, writer: Writer) -> None:
        if not self.waits[writer.option]:
            okex_log.warning(
                "--%s is too slow, and its queue is full: receiving waits for it. Said once, counted each time.",
                writer.option,
            )
        self.waits[writer.option] += 1
        while writer.backlog > MAX_QUEUE and self.status is None:
            pause(0.01)

    def hear(self, status: str, detail: str) -> None:
        with self.lock:
            self.enqueue("", (status, detail))
        if status == REFUSED and set(self.command("channels", []).values()) == {"refused"} and not self.args.redis:
            okex_log.error("Every channel was refused: nothing to wait for.")
            self.stop(1)
        if status == EXIT and detail != "closed":
            self.stop(1)

    def finish(self) -> None:
        """Once: write what is queued, and sum up."""
        with self.finishing:  # so that the main thread does not leave while another one is at it
            if self.ended.is_set():
                return
            self.ended.set()
            if self.lock.acquire(timeout=0.1):  # a message that is being handled is still queued
                self.lock.release()
            begin = monotonic()
            for writer in self.writers:
                writer.end()
            lost = [writer for writer in self.writers if not writer.close(begin)]
            if lost and not self.status:
                self.status = 1
            self.sum_up()

    def sum_up(self) -> None:
        clients = list(self.clients.values())
        counts = sum((client.counts for client in clients), Counter[str]())
        reconnects = counts["connects"] - sum(1 for client in clients if client.counts["connects"])
        trouble = [f"{n} {what}" for what, n in counts.items() if what not in ("messages", "connects")]
        trouble += [f"{n} waits for --{option}" for option, n in self.waits.items()]
        trouble += [
            f"{writer.refused} messages refused by --{writer.option}" for writer in self.writers if writer.refused
        ]
        okex_log.info(
            "%d rows in %d messages over %.1f s, %d reconnects%s.",
            self.rows,
            counts["messages"],
            monotonic() - self.began,
            reconnects,
            "".join(f", {what}" for what in trouble),
        )


def start_stand_in() -> tuple[str, Credentials]:
    """Start the stand-in exchange of the tests folder on a free port of this machine; its URL and its key."""
    folder = Path(__file__).resolve().parent / "tests"
    if not (folder / "exchange.py").exists():
        raise ValueError("--offline needs tests/exchange.py from the repository beside okex_ws.py")
    sys.path.insert(0, str(folder))
    exchange = importlib.import_module("exchange").Exchange().start()
    okex_log.info("Offline: a stand-in exchange at %s. Its prices are made up.", exchange.url)
    return exchange.url, Credentials(*exchange.keys)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    okex_log.handlers, okex_log.propagate, logging.raiseExceptions = [console], False, False
    okex_log.setLevel(logging.DEBUG if args.trace else logging.WARNING if args.quiet else logging.INFO)
    with suppress(AttributeError):  # a console without UTF-8 gets escapes, not an exception
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        run = Run(args, *start_stand_in()) if args.offline else Run(args, args.url)
    except (ImportError, OSError, ValueError) as error:
        print(f"okex_ws.py: {mask_secrets(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return run.run()


if __name__ == "__main__":  # leave this out where you paste the file into a script of your own
    sys.exit(main())
