#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["websocket-client>=1.8.0"]
# ///
"""Receive OKEx/OKX market data over WebSocket, and never be silently wrong.

    python okex_ws.py            # live trades of BTC-USDT from OKX (v5)
    python okex_ws.py --offline  # from a stand-in exchange on this machine; --board shows a live screen

As a library, beside your script, or pasted into it:

    from okex_ws import OkexWS

    def handler(channel, rows):
        for row in rows:
            print(row["px"], row["sz"], row["side"])

    OkexWS(["trades:BTC-USDT"], handler).run()

`run()` connects, reads and calls the handler on its caller's thread, `start()` on a daemon thread; another pings.
Any thread, the handler's too, may use `subscribe`, `unsubscribe`, `close` and order books. Each section of the file
begins below a line of dashes; the first one shows the whole at a glance.
"""

from signal import SIG_DFL, SIGINT, signal as set_signal

if __name__ == "__main__":  # Ctrl-C while the rest is imported: no traceback
    handler_of_ctrl_c = set_signal(SIGINT, SIG_DFL)

import base64
import functools
import hashlib
import hmac
import itertools
import logging
import os
import re
import socket
import ssl
import sys
import threading
import zlib
from bisect import insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing as closed_after, contextmanager, suppress
from datetime import datetime as date_and_time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from fnmatch import fnmatchcase
from io import FileIO
from itertools import islice, zip_longest
from json import JSONDecoder, JSONEncoder, loads as json_loads
from math import ceil, inf, isfinite
from queue import Empty, Queue as LogQueue, SimpleQueue
from random import uniform  # no modules here and below, nor names that scripts use
from select import select
from shutil import get_terminal_size
from textwrap import wrap
from time import gmtime, localtime, monotonic, sleep as pause, strftime, time as wall_clock
from typing import Any, NamedTuple
from urllib.parse import quote as quote_url, unquote, urlsplit

try:
    import websocket
    from websocket import ABNF, WebSocketApp
except ImportError as error:  # PyPI has another package called websocket
    raise (SystemExit if __name__ == "__main__" else ImportError)(
        "okex_ws needs the package websocket-client: pip install websocket-client"
        f" (and, if it is there, pip uninstall websocket) [{error}]"
    ) from None

__all__ = [
    "OkexWS", "Credentials", "LoginError", "OrderError", "OrderBook", "BookOutOfSync", "RedisFeed", "Sink", "SINKS",
    "V1", "V3", "V5", "clients", "dialect_of", "endpoint", "fields", "find_channels", "instrument", "inflate",
    "print_rows", "replay", "main",
]  # fmt: skip
__version__ = "1.2.0"

MAX_MESSAGE = 4 << 20  # bytes, inflated; the largest, a full book, has 0.1 MB

CONNECTED, SUBSCRIBED, DISCONNECTED = "CONNECTED", "SUBSCRIBED", "DISCONNECTED"
GAP, REFUSED, EXIT = "GAP", "REFUSED", "EXIT"  # all six: what on_status hears

Row = dict[str, Any]  # a JSON object
Rows = list[Any]  # of one message: nearly always objects
Options = dict[str, Any]
Urls = str | Sequence[str] | None  # the exchange's own, or others

okex_log = logging.getLogger("okex_ws")  # trouble at WARNING, frames at DEBUG


# ---------------------------------------------------------------------------------------------------------------
# At a glance: the callbacks of the WebSocketApp, and the heartbeat's thread.


def on_open(ws: "OkexWS") -> None:
    """Connected: log in, if a channel needs it, and subscribe to everything that is wanted."""
    connection: Any = ws.sock
    if connection.getstatus() != 101:  # websocket-client 1.8.0 takes a redirect for success
        raise websocket.WebSocketException("Redirect limit exhausted")
    ws._login.learn_time(connection.getheaders().get("date", ""))
    ws._freshness.start(monotonic())
    ws.counts["connects"] += 1
    told = f"Connected to {passwordless(ws.url)}."
    CHORUS.log(told, f"{told} {ws.counts['connects']}", logging.INFO)
    ws._notify(CONNECTED, ws.url)
    doubt_orders(ws)
    ws._send_due()


def on_message(ws: "OkexWS", message: str | bytes) -> None:
    """One message: inflate it, and tell pong, confirmation and channel data apart."""
    try:
        text = ws._inflate(message).decode() if isinstance(message, bytes) else message
    except ValueError as error:
        ws._malformed(str(error), message)
        return
    if ws.tracing:
        okex_log.debug("< %s", text)
    for event in ws.dialect.parse(text):
        if event.kind == "data":
            ws._deliver(event.channel, event.rows, event.action)
        elif event.kind == "pong":
            level = ws.pong_level if ws.latency else logging.INFO
            ws._freshness.ponged(monotonic())
            ws._tries = 0
            okex_log.log(level, f"Pong received. {ws.latency or 0.0:.1f} ms")
        elif event.kind == "confirmed":
            channel = ws._subscriptions.confirmed(event.channel, event.id)
            ws._tries = 0
            ws._notify(SUBSCRIBED, channel)
        else:
            heed(ws, event, text)


def inflate(data: bytes) -> bytes:
    """Decompress a frame of v1 or v3, raw DEFLATE. Raises ValueError if damaged, cut short or a bomb."""
    try:
        if len(data) < MAX_MESSAGE // 1032:  # it expands 1032 times at most
            return zlib.decompress(data, -zlib.MAX_WBITS)
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = stream.decompress(data, MAX_MESSAGE + 1)
    except zlib.error as error:
        raise ValueError(f"not raw DEFLATE: {error}") from None
    if not stream.eof or len(inflated) > MAX_MESSAGE:
        raise ValueError(f"raw DEFLATE that is cut short, or inflates to more than {MAX_MESSAGE} bytes")
    return inflated


def send_heartbeat(ws: "OkexWS") -> None:
    """Send the ping every `ws.ping_every` seconds, and when books fall silent; or try again each second."""
    due, failed = monotonic() + ws.ping_every, False
    while not ws._stop.wait(min(0.5, due - monotonic())):
        tell_lag(ws)
        CHORUS.sum_up()
        regular = monotonic() >= due
        if not regular and not ws._freshness.suspects():
            continue
        ws.pong_level = level = ws.ping_level if regular else logging.DEBUG
        try:
            ws._freshness.pinging(monotonic())
            ws.send(ws.dialect.ping)
            okex_log.log(level, "Ping sent.")
            due, failed = monotonic() + ws.ping_every, False
        except Exception as error:
            if not failed:
                okex_log.warning(f"Ping not sent, trying again every second: {explain(error, ws.url)}.")
            due, failed = monotonic() + 1.0, True


def on_error(ws: "OkexWS", error: BaseException) -> None:
    """The connection failed, or could not be made. `run()` raises what no retry can mend."""
    untrusted = isinstance(error, ssl.SSLCertVerificationError) and not ws.counts["connects"]
    ended = isinstance(error, LoginError | KeyboardInterrupt | SystemExit)
    if ended or untrusted or ws._subscriptions.hopeless:
        ws._fatal = error  # or websocket-client would swallow it
    ws._hang_up(explain(error, ws.url, ws._route.proxy))


def on_close(ws: "OkexWS", code: int | None, reason: str | None) -> None:
    """The exchange closes the connection, and says why; without a code, it is closed already."""
    if code == 4001 and ws._login.pending:
        raise ws._login.refused(WireEvent("refused", code="4001", message=reason or ""))
    if code:
        words = printable_text(reason or HINTS.get(str(code), ""))
        raise Reconnect(f"closed by the exchange with code {code} {words}".rstrip())


# ---------------------------------------------------------------------------------------------------------------
# The client: one WebSocketApp that comes back by itself, and passes what arrives to its parts.

CONNECT_TIMEOUT = 10.0  # seconds, for each of TCP, TLS, handshake
SILENCE_MARGIN = 10.0  # seconds beyond ping_every until something must arrive
MAX_LAG = 3.0  # seconds that reading may be late while books answer
MAX_RETRY = 30.0  # seconds between two tries to connect, at most
MAX_DEEP_BOOKS = 30  # incremental, on a connection (docs-v5, 2026)

Handler = Callable[[str, Rows], None]


class Reconnect(Exception):
    """Ends a connection, with the reason, on the reading thread; another follows."""


class Connection(WebSocketApp):
    """A WebSocketApp that connects within limits, ends at once, and knows no channels."""

    _reason = ""  # why the connection ended: the first reason that was given
    _sending: Any  # a lock: OpenSSL cannot read meanwhile

    def send(self, data: bytes | str, opcode: int = ABNF.OPCODE_TEXT) -> None:
        """Send one message, or raise WebSocketConnectionClosedException."""
        connection = self.sock  # once: the reading thread sets it to None at any moment
        if connection is None or not connection.connected:  # in the handshake
            raise websocket.WebSocketConnectionClosedException("not connected")
        okex_log.debug("> %s", data)
        try:
            with self._sending:
                connection.send(data, opcode)
        except Exception:
            self._hang_up("sending failed")  # half a frame may have left
            raise

    def _before_connect(self) -> list[str]:
        """No headers: called before connecting, to set limits. No login follows a redirect."""
        connection: Any = self.sock
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect = functools.partial(connection.connect, redirect_limit=0)
        return []

    def _hang_up(self, reason: str = "") -> None:
        """Make the reading thread leave the connection, from any thread: its read returns."""
        self._reason = self._reason or reason
        self.keep_running = False
        sock = getattr(self.sock, "sock", None)
        if sock:
            with suppress(OSError):  # SSLSocket's own would go on in plain text
                socket.socket.shutdown(sock, socket.SHUT_RD)


def heed(ws: "OkexWS", event: "WireEvent", text: str) -> None:
    """Act on what is neither data, nor a pong, nor a confirmation."""
    login, table = ws._login, ws._subscriptions
    match event.kind:  # a SyntaxError here? okex_ws needs Python 3.10 or later
        case "refused" | "reply" if ws._orders.answered(event):
            return
        case "refused" if login.pending and not event.channel and not event.id:
            raise login.refused(event)
        case "refused":
            heed_refusal(ws, event)
        case "reply":
            answer = printable_text(f"{event.action}: {event.code} {event.rows}")
            okex_log.warning(f"An answer that nobody waits for any more, to {answer}")
        case "ended":
            if unasked := table.ended(event.channel, event.id):
                CHORUS.log(f"{unasked.channel}: unsubscribed by the exchange. Asking again.", "ended")
            else:
                okex_log.info(f"{printable_text(event.channel)} unsubscribed.")
            ws._send_due()
        case "login":
            for entry in table:
                if login.done and entry.private:  # v1 confirms addChannel like this
                    table.confirmed(entry.key)
            login.done, login.pending, login.wait = True, 0.0, 0.0
            login.why = "not connected"  # from when this connection ends
            okex_log.info("Logged in.")
            ws._send_due()
            login.complete.set()
        case "notice":
            level = logging.INFO if event.code == "channel-conn-count" else logging.WARNING
            okex_log.log(level, f"The exchange says: {event.code} {printable_text(event.message)}")
            if event.code == "64008":  # it closes within 60 s (docs-v5)
                ws._route.goal = ws.url
        case "ping":
            ws.send(ws.dialect.pong)
        case "malformed":
            ws._malformed(event.message, text)
        case _:
            ws._say_once(f"Ignored a message of an unknown kind: {ws._quote(event.message)}.")


def heed_refusal(ws: "OkexWS", event: "WireEvent") -> None:
    """Say what the exchange refuses, and have what was meant looked up."""
    why = reason_of(event.code, ws._quote(event.message))
    refused = ws._subscriptions.refused(event, why)
    if len(refused) > 1 and not event.channel:
        okex_log.warning(f"One of {len(refused)} channels is refused: {why}. Asking one by one.")
        return
    ws.counts["refused"] += 1
    channels = [entry.channel for entry in refused]
    names = ", ".join(channels) or printable_text(event.channel) or "a request"
    what = f"{names}: {why}"
    if channels and event.code in MISNAMED:
        ws._finder.suggest(channels[0], f"The exchange refused {what}")
    else:
        okex_log.warning(f"The exchange refused {what}.")
    ws._notify(REFUSED, what)
    if ws._subscriptions.hopeless:
        ws._finder.finish()
        raise LookupError("every channel was refused: nothing to wait for")


def doubt_orders(ws: "OkexWS") -> None:
    """After a reconnect, say of which channels nobody tells what was missed."""
    orders = f"{V5.ORDERS.pattern}|fills|sprd-trades"
    told = [entry.channel for entry in ws._subscriptions if re.match(orders, entry.key)]
    if told and ws.counts["connects"] > 1:
        gap = f"{', '.join(told)}: what happened meanwhile is not known: ask the exchange"
        okex_log.warning(f"{gap}.")
        ws._notify(GAP, gap)


def tell_lag(ws: "OkexWS") -> None:
    """Say once that reading falls behind, or has caught up. On the heartbeat's thread."""
    behind = ws._freshness.lag(monotonic()) > MAX_LAG
    if behind == ws.behind or not ws._connected:
        return
    ws.behind = behind
    why = f"over {MAX_LAG:.0f} s late: a slow handler, or a slow or dead line; no book answers"
    okex_log.warning("Reading is %s.", why if behind else "in time again")
    if behind:
        ws.counts["times behind"] += 1
        daemon_thread("gap", ws._notify, GAP, why).start()  # a handler may block


def daemon_thread(name: str, target: Any, *args: Any) -> threading.Thread:
    return threading.Thread(target=target, args=args, name=f"okex_ws {name}", daemon=True)


class OkexWS(Connection):
    """A connection that comes back by itself, with its subscriptions, until `close()`.

    channels    of one generation and one endpoint: ["trades:BTC-USDT", "tickers:ETH-USDT"]
    handler     called as handler(channel, rows) for each message, in order, on the reading thread;
                rows have the exchange's names, or those of `fields` where they are lists there
    url         another host or URL, see `endpoint`; of several, the fastest
    credentials if not those of the environment; without channels, for orders alone, see `request`
    region, simulated   which of OKX's hosts, see REGIONS
    proxy       http://, socks5:// or socks5h://[user:password@]host:port
    depth       levels a side that the handler gets for each change of a book, as one row:
                {"bids": [[price, size], …], "asks": […], "ts": …}
    ping_every  seconds between pings, if not the generation's own
    fill        seconds back, at most, to fetch missing trades and candles of v5 by REST (0: not);
                they come late, with "restored": true
    since       of v5's trades and candles, history first: "2h" or 7200.0 (seconds), or an int (rows)
    final       whether the handler gets v5's final candles alone
    sinks       what stores rows, too, {"sqlite": "rows.db", "redis": "redis://localhost"}, or a Sink
                of your own, written to the end by `close()`. Without a handler nothing is printed

    `books[channel]` is the live OrderBook of a channel, `counts` counts what came and went wrong.
    Override `on_status(status, detail)` to hear CONNECTED, SUBSCRIBED, DISCONNECTED, GAP, REFUSED, EXIT.
    """

    # Bound here: a script that this is pasted into may have functions of the same names.
    receive, _send_heartbeat, _inflate = on_message, send_heartbeat, staticmethod(inflate)
    _callbacks: Any = {"on_open": on_open, "on_error": on_error, "on_close": on_close}
    _on_close = on_close

    tracing = False  # whether messages are logged
    behind = False  # whether it is said that reading is late
    ping_level = pong_level = logging.INFO  # of log lines, but for the first pong's
    ways = ("proxy=.", 'region="eea".', "url= of tests/exchange.py.")  # if nothing connects
    _fatal: BaseException | None = None  # what no retry can mend; run() raises it
    _reader: threading.Thread | None = None  # which runs run()
    _tries = 0  # to connect, since a confirmation or a pong last came
    replayed_at = 0.0  # epoch seconds of what is replayed; 0 while live

    def __init__(
        self,
        channels: Iterable[str],
        handler: Handler | None = None,
        *,
        url: Urls = None,
        credentials: "Credentials | None" = None,
        region: str = "global",
        simulated: bool = False,
        proxy: str | None = None,
        depth: int | None = None,
        ping_every: float | None = None,
        fill: float = 3600.0,
        final: bool = False,
        sinks: Options | None = None,
        since: str | float = 0.0,
    ):
        wanted = [channels] if isinstance(channels, str) else list(channels)
        first = (*wanted, "account" if credentials else "status")[0]  # it tells the endpoint
        self.dialect = dialect = dialect_of(first)
        if not handler and sinks is None:
            handler, depth = print_rows, depth or 1  # no changes of a book
        self.handler, self.depth = handler or (lambda *_: None), depth
        self.ping_every = ping_every or dialect.ping_every
        self.final, self.since = final, since
        demand_history(wanted, since)
        self.counts = Counter[str]()  # by the reading thread
        self._say_once = functools.cache(CHORUS.log)  # each line once
        self._route = route = Route(first, proxy, url, region, simulated)
        self._stop = threading.Event()  # set by close(): run() ends
        self.ended = threading.Event()  # run() is over, and what is missing is told
        self._subscriptions = Subscriptions(dialect, functools.partial(make_keeper, self))
        self.books = self._subscriptions.books  # by channel, as its user wrote it
        self._freshness = Freshness(self.ping_every, self.books if dialect is V5 else {})
        self._login = Login(dialect, credentials, route.lines, for_orders=bool(credentials) and not wanted)
        self._orders = Orders(self)
        self._finder = Finder(route)
        self._filler = Filler(self, fill)
        self._sending = threading.RLock()
        super().__init__(route.url, header=self._before_connect, **self._callbacks)
        self.subscribe(*wanted)
        self._recorder = Recorder([self], sinks)
        if dialect.retired and url is None:
            okex_log.warning(f"The exchange gave up {dialect.name} in {dialect.retired}: use v5.")

    def __repr__(self) -> str:
        """<OkexWS wss://ws.okx.com/ws/v5/public connected, trades:BTC-USDT confirmed>"""
        state = "connected" if self._connected else "not connected"
        if self._stop.is_set():
            state = "closed"
        told = [f", {channel} {how}" for channel, how in self.channels.items()]
        if len(told) > 10:
            told[9:] = [f" and {len(told) - 9} more"]
        return f"<OkexWS {passwordless(self.url)} {state}{''.join(told)}>"

    @property
    def _connected(self) -> bool:
        return self._freshness.drained < inf

    @property
    def latency(self) -> float | None:
        """The last ping's round trip in milliseconds; None before the first pong."""
        return self._freshness.latency

    @property
    def channels(self) -> dict[str, str]:
        """How each channel's subscription stands: wanted, sent, confirmed, refused or leaving."""
        return self._finder.patterns | {entry.channel: entry.state for entry in self._subscriptions}

    def run(self) -> None:
        """Connect, read, and reconnect until `close()`. Call it on the main thread, or use `start()`.

        Raises ssl.SSLCertVerificationError at the very first connection, LoginError, LookupError for a
        pattern without a match, or if every channel is refused and none ever was confirmed, and
        KeyboardInterrupt on Ctrl-C. Everything else is retried.
        """
        if self._reader:
            raise RuntimeError("this client ran before: make another one")
        self._reader, why = threading.current_thread(), "closed"
        try:
            if len(self._route.lines) > 1:
                self._route.begin(self._stop)
            self._recorder.recall(self._filler.fill, [entry.keeper for entry in self._subscriptions])
            for trouble in self._finder.look_up(self.found):
                if self._wait_to_reconnect("No list yet", trouble):
                    return
            okex_log.info(f"Connecting to {passwordless(self._route.url)}.")
            daemon_thread("heartbeat", self._send_heartbeat).start()
            while not self._stop.wait(0.0 if self._route.connect_at < inf else CONNECT_PACE.turn()):
                self._route.connect_at = inf
                self.url, self._reason = self._route.url, ""
                connects = self.counts["connects"]
                self.run_forever(**self._route.proxy)
                if self._fatal:
                    raise self._fatal
                if not self._stop.is_set():
                    connected = self.counts["connects"] > connects
                    self._wait_to_reconnect("Disconnected" if connected else "No connection", self._reason)
        except BaseException as error:  # asyncio.CancelledError, say, from the handler
            why = explain(error, self.url)
            if not isinstance(error, KeyboardInterrupt):
                okex_log.error(f"Stopped for good: {why}.")
            raise
        finally:
            self._stop.set()
            self._finder.finish()
            self._filler.end()
            CHORUS.sum_up(0.0)
            self.ended.set()
            self._login.complete.set()  # no order waits any longer
            self._notify(EXIT, why)
            self._recorder.leave()

    def start(self) -> None:
        """`run()` on a daemon thread, for scripts that use their main thread."""

        def run() -> None:
            with suppress(BaseException):  # it is logged
                self.run()

        daemon_thread("reader", run).start()

    def replay(self, path: str, speed: float = 1.0) -> None:
        """Instead of `run()`, take the rows of a recording, see play_recording."""
        play_recording([self], path, speed)

    def close(self, **_: Any) -> None:
        """End `run()`, from any thread: at once, or after the attempt if it connects."""
        self._stop.set()
        self._hang_up()
        self._recorder.leave()

    def subscribe(self, *channels: str) -> None:
        """Want these channels, now and after every reconnect, even one that was refused.

        ValueError for one of another endpoint, a private one without keys, a pattern once the client runs.
        """
        for channel in channels:
            if not self.serves(channel):
                here, there = passwordless(self.url), endpoint_of(channel, *self._route.where)
                raise ValueError(f"{channel} is served at {passwordless(there)}, not at {here}: use clients()")
            if self.dialect.private(channel):
                self._login.demand(channel)
            wrong = misnomer(channel)
            if is_pattern(channel) and (wrong or self._reader):
                raise ValueError(wrong or f"{channel}: patterns are for the start; see find_channels()")
            if wrong:  # the exchange is asked all the same
                self._say_once(wrong)
        for channel in channels:
            if is_pattern(channel):
                self._finder.patterns[channel] = "wanted"  # until it is looked up
            else:
                self._subscriptions.want(channel)
        self._send_due()

    def serves(self, channel: str) -> bool:
        line = endpoint_of(channel, *self._route.where)
        return line in self._route.lines and dialect_of(channel) is self.dialect

    def found(self, channels: list[str]) -> None:
        """Subscribe to what the patterns stand for, before connecting. Override it to choose."""
        self.subscribe(*channels)

    def unsubscribe(self, *channels: str) -> None:
        """Want these channels, or what matches a pattern, no more. Their rows stop at once."""
        known = self.channels
        for channel in channels:
            self._finder.patterns.pop(channel, None)
            for name in [channel, *(each for each in known if fnmatchcase(each, channel))]:
                self._subscriptions.drop(name)
        self._send_due()

    def request(self, op: str, args: Any, timeout: float = 10.0, *, expires: float | None = None) -> Rows:
        """Send an order, or a list of them, to v5. Returns the exchange's answer, an object for each.

        ws.request("order", {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "market",
                             "sz": "0.001", "tgtCcy": "base_ccy"})  # without tgtCcy, it buys for 0.001 USDT

        `op` is order, cancel-order, amend-order, batch-orders, batch-cancel-orders, batch-amend-orders or
        mass-cancel; on /business, sprd-order, sprd-amend-order, sprd-cancel-order or sprd-mass-cancel.
        `instId` becomes the `instIdCode` that the exchange wants since 2026. What reaches it more than
        `expires` seconds from now (2 or more) is refused. After the first login, nothing is sent late, or
        twice. ValueError for what cannot be sent, OrderError if it is refused, even in part, or its fate
        is unknown. For any thread but the handler's, with private channels or OkexWS([], credentials=…).
        """
        if threading.current_thread() is self._reader:
            raise RuntimeError("request() would wait for itself: call it from another thread")
        self._login.demand(op)
        if self.dialect is not V5:
            raise ValueError(f"{self.dialect.name} takes no orders over WebSocket")
        if not self._login.for_orders and not self._subscriptions.private:
            raise ValueError("this client does not log in: it takes private channels, or none at all")
        return self._orders.request(op, args, timeout, expires)

    def recall(self, channel: str, rows: Iterable[Any]) -> None:
        """Before `run()`, give what was kept, oldest first: what it lacks is fetched."""
        entry = self._subscriptions.by_key.get(self.dialect.key(channel))
        if entry and isinstance(entry.keeper, TradeSeries):
            entry.keeper.recall(rows)

    def on_status(self, status: str, detail: str) -> None:
        """Hear what happens, on any thread. Override it, or assign a function."""

    def create_dispatcher(self, *args: Any, **options: Any) -> Any:
        dispatcher: Any = super().create_dispatcher(*args, **options)
        dispatcher.read = self._read
        return dispatcher

    def exchange_time(self) -> float:
        """Seconds since 1970 by the exchange's clock, as the latest handshake gave it."""
        return wall_clock() + self._login.ahead

    def _read(self, *_: Any) -> None:
        """Read until the connection ends; nobody waits for the answer to the close frame."""
        connection: Any = self.sock
        if self._stop.is_set():  # since before run_forever() set keep_running
            self._hang_up()
        try:
            read_messages(self)
        finally:
            with self._sending:  # or what is taken meanwhile would count as sent
                self._freshness.drained = inf
                self._subscriptions.restart()
            self._login.reset()
            self._orders.lost()
            with suppress(Exception):
                connection.send_close()
            connection.shutdown()

    def _tick(self, now: float) -> None:
        """Once a second: raises Reconnect if the connection is not to be trusted."""
        self._freshness.check()
        if 0.0 < self._login.pending < now:
            raise Reconnect(f"the login was not answered within {CONFIRM_TIMEOUT:.0f} s")
        for entry, why in self._subscriptions.check(now):
            self._resubscribe(entry, why, late=True)
        self._filler.check()
        self._route.check(self, now)
        self._send_due()

    def _wait_to_reconnect(self, what: str, reason: str) -> bool:
        """Whether the client is closed before the next try."""
        rounds, untried = divmod(self._tries + 1, len(self._route.lines))
        delay = uniform(0, min(MAX_RETRY, 2 ** (rounds - 1)))  # 1, 2, 4, … 30
        if untried or (self._route.goal and not self._tries):
            delay = 0.0
        if what == "Disconnected":
            delay = self._login.wait or delay
        self._tries += 1
        CHORUS.log(f"{what}: {reason}. Next try in {delay:.1f} s.", f"{self.url} {self._tries} {reason}")
        if self._tries == 3 and not self.counts["connects"]:
            okex_log.warning("Blocked? %s Account of my.okx.com? %s Just looking? %s", *self.ways)
        self._notify(DISCONNECTED, reason)
        self._route.change()
        return self._stop.wait(delay)

    def _notify(self, status: str, detail: str) -> None:
        """Tell the sinks, and on_status, with no lock held: it may call anything here."""
        detail = mask_secrets(detail)
        if status != EXIT:
            self._recorder.record(wall_clock(), "", (status, detail))
        try:
            self.on_status(status, detail)
        except Exception:
            okex_log.exception(f"on_status failed on {status}.")

    def _send_due(self) -> None:
        """Send what is due: the login, where one is needed, then requests for channels."""
        now, login, table = monotonic(), self._login, self._subscriptions
        with self._sending, suppress(OSError, websocket.WebSocketException):  # the connection is gone
            if not self._connected:
                return
            if (login.for_orders or table.private) and not login.done:
                if not login.pending and table.spend_request(now):
                    self.send(login.request(now, self.exchange_time()))
                return
            for op, channels, id in table.take_due(now):
                self.send(self.dialect.subscribe(channels, id, login.credentials, op))

    def _deliver(self, channel: str, rows: Rows, action: str) -> None:
        """Rows arrived: the handler gets what the channel's keeper makes of them."""
        table = self._subscriptions
        entry = table.by_key.get(channel) or table.find(channel)
        if entry is None:
            if channel not in table.dropped:  # nobody asked for it
                give_rows(self, printable_text(channel), rows)
            return
        if entry.state != "confirmed" and not table.admit(entry):
            return
        if entry.keeper is not None:
            try:
                rows = entry.keeper.take(rows, action)
            except BookOutOfSync as error:
                self._resubscribe(entry, str(error))
                return
        give_rows(self, entry.channel, rows)

    def _resubscribe(self, entry: "Subscription", why: str, late: bool = False) -> None:
        if not self._subscriptions.resubscribe(entry, why, late):
            return
        self.counts["gaps"] += 1
        gap = f"{entry.channel}: {why}"
        CHORUS.log(f"{gap}. Subscribing anew; a book is not valid until then.", "gap")
        self._notify(GAP, gap)
        if not self.dialect.snapshots:  # old rows would be the new book
            raise Reconnect(f"{entry.channel} is out of sync")
        self._send_due()

    def _malformed(self, reason: str, message: str | bytes) -> None:
        self.counts["malformed"] += 1
        okex_log.warning(f"Malformed message, dropped: {printable_text(reason)}: {self._quote(message)}")

    def _quote(self, text: str | bytes) -> str:
        """What the exchange says, for the log: no mask knows every echo of a login."""
        return "(not quoted during a login)" if self._login.pending else printable_text(text)


def clients(
    channels: Iterable[str], handler: Handler | None = None, *, sinks: Any = None, **options: Any
) -> list[OkexWS]:
    """As many clients as the channels take: by endpoint, and for 30 incremental books each.

        for ws in clients(["trades:BTC-USDT", "candle1m:BTC-USDT"], handler):
            ws.start()

    Each calls the handler on its own thread; they share options and sinks. Patterns of such books are
    looked up at once, which may raise OSError.
    """
    made, since = list[OkexWS](), options.pop("since", 0.0)
    for wanted in [channels] if isinstance(channels, str) else channels:
        many = is_pattern(wanted) and dialect_of(wanted).book(wanted) == "changes"
        for channel in OkexWS(wanted, **options)._finder.matching(wanted) if many else [wanted]:
            place_channel(channel, made, since, handler=handler, sinks=sinks and {}, **options)
    demand_history([channel for ws in made for channel in ws.channels], since)
    recorder = Recorder([*made], sinks)
    for ws in made:
        ws._recorder = recorder
    return made


def place_channel(channel: str, among: list[OkexWS], since: Any, **options: Any) -> OkexWS | None:
    """Give a channel to a client that has it, or serves it and has room; else add one, and return it."""
    most = MAX_DEEP_BOOKS if dialect_of(channel).book(channel) == "changes" else inf
    for ws in sorted(among, key=lambda each: channel not in each.books):
        room = channel in ws.books or len(ws.books) < most
        if room and ws.serves(channel) and not ws._subscriptions.hopeless:
            ws.subscribe(channel)
            return None
    ws = OkexWS(channel, since=history_of(channel, since), **options)
    ws.since = since
    among.append(ws)
    return ws


def demand_history(channels: Iterable[str], since: Any) -> None:
    """Raise ValueError if there is no history to fetch."""
    if since and not any(history_of(channel, since) for channel in channels):
        raise ValueError("since has no effect without trades or candles of v5")


def make_keeper(ws: OkexWS, channel: str) -> "Keeper | None":
    """What looks after a channel's rows; None if they stay as they are."""
    if kind := ws.dialect.book(channel):
        signed = channel.startswith("sprd-")  # a spread's price may be negative
        return OrderBook(kind == "whole", signed, ws._freshness.doubt, ws.depth)
    if series := series_of(channel):
        keeper = series(channel, ws._filler)
        keeper.final, keeper.history = ws.final, history_of(channel, ws.since)
        if keeper.history:
            keeper.held, vars(keeper)["take"] = [], keeper.hold
        if ws._reader and not ws.replayed_at:  # what sinks have is not fetched again
            ws._recorder.recall(ws._filler.fill, [keeper])
        return keeper
    names = columns_of(channel)
    return Keeper(names) if names else None


class Chorus:
    """Log lines of many channels at once: the first of a kind, and the last with a count.

    trades:XRP-USDT: missing trades 2 to 3 (2). Asking REST. (and 98 more like it)
    """

    def __init__(self) -> None:
        self._said = defaultdict[str, Rows](list)  # by kind: when, level, line
        self._lock = threading.Lock()  # guards _said

    def log(self, line: str, kind: str = "", level: int = logging.WARNING, traceback: bool = False) -> None:
        """Log a line, or hold it back if one of its kind, or the same, was just said."""
        with self._lock:
            said = self._said[kind or line]
            said.append((monotonic(), level, line))
            first = len(said) == 1
        if first:
            okex_log.log(level, line, exc_info=traceback)

    def sum_up(self, patience: float = 2.0) -> None:
        """Log the last of what is held back, after so many seconds without more, or a minute."""
        with self._lock:
            kinds, now = self._said.items(), monotonic()
            over = [kind for kind, said in kinds if now >= min(said[-1][0] + patience, said[0][0] + 60.0)]
            ended = [self._said.pop(kind) for kind in over]
        for said in ended:
            _, level, line = said[-1]
            if len(said) > 1:
                more = f" (and {len(said) - 2} more like it)" if len(said) > 2 else ""
                okex_log.log(level, f"{line}{more}")


CHORUS = Chorus()  # of all clients of the process


class Freshness:
    """Whether what was read still holds: the line alive, reading in time, the machine awake."""

    heard = 0.0  # monotonic: when a whole message last arrived and was handled
    drained = inf  # all was read until then; inf without a connection
    latency: float | None = None  # milliseconds
    _pinged = inf  # when the oldest ping left that waits for a pong
    _late = 0.0  # seconds that the last pong took; 0 before the first
    _clock_offset = 0.0  # seconds by which time.time() is ahead of monotonic()

    def __init__(self, ping_every: float, books: dict[str, "OrderBook"]):
        self.ping_every = ping_every
        self.books = books  # that the connection keeps, of v5

    def start(self, now: float) -> None:
        self.heard = self.drained = now
        self._late, self._pinged = 0.0, inf
        self._clock_offset = wall_clock() - monotonic()

    def suspects(self) -> bool:
        """Whether to ping at once: with books, 2 s of silence, not counting the handler's time."""
        return bool(self.books) and self._pinged == inf and self.heard + 2.0 <= self.drained < inf

    def pinging(self, now: float) -> None:
        self._pinged = min(self._pinged, now)

    def ponged(self, now: float) -> None:
        if self._pinged < inf:
            self._late, self._pinged = now - self._pinged, inf
            self.latency = 1000 * self._late

    def check(self) -> None:
        """Raise Reconnect if the machine slept, or the connection is dead."""
        if slept := self._slept():
            raise Reconnect(slept)
        self._clock_offset = wall_clock() - monotonic()  # the clocks drift
        limit = SILENCE_MARGIN + (not self.books) * self.ping_every
        if self._pinged < inf and self.heard + limit <= self.drained:
            raise Reconnect(f"nothing arrived for {limit:.0f} s")
        if self._late > max(self.ping_every, SILENCE_MARGIN):
            raise Reconnect(f"a ping was answered after {self.latency:.0f} ms")

    def lag(self, now: float) -> float:
        """Seconds that reading may be late, by what waits in the socket, and by pings."""
        since = self._pinged
        if not self._late:  # until the first pong, whatever arrives will do
            since = max(since, self.heard) if self.books else inf
        return max(0.0, now - self.drained, now - since, self._late)

    def doubt(self) -> str:
        """Why no order book is to be trusted now, or "". From any thread."""
        lag = self.lag(monotonic())
        if lag > MAX_LAG:
            return f"what may have arrived in the last {lag:.0f} s is not read, or the line is dead"
        return self._slept()

    def _slept(self) -> str:
        """How one clock jumped against the other, or ""."""
        jump = wall_clock() - monotonic() - self._clock_offset
        if self.heard and abs(jump) > 3.0:  # in a replay nothing ages
            return f"the clock jumped by {jump:+.0f} s: was this machine asleep?"
        return ""


# ---------------------------------------------------------------------------------------------------------------
# Subscriptions: what is wanted of one connection, and how far it has come. No socket, no thread.

CONFIRM_TIMEOUT = 10.0  # seconds, for a login and a snapshot, too
REQUESTS_PER_HOUR = 480  # of one connection, with logins (docs-v5, 2026)
REQUESTS_PER_OPEN = 100  # so many are asked for one by one: refusals are told apart


class Keeper:
    """Looks after a channel's rows. This one names the values of bare lists."""

    dropped = False  # the user wants the channel no more

    def __init__(self, names: tuple[str, ...]):
        self.names = names + tuple(f"column{n}" for n in range(len(names), 30))  # new ones

    def open(self) -> None:
        """The channel is confirmed: what comes from now on counts."""

    def close(self, reason: str) -> None:
        """What comes from now on does not count."""

    def take(self, rows: Rows, action: str) -> Rows:
        """Rows for the handler. `action` is "snapshot", "update" or ""; may raise BookOutOfSync."""
        return [dict(zip(self.names, row)) if row.__class__ is list else row for row in rows]


class Subscription:
    """One channel; times are monotonic. Only `Subscriptions` changes it, under its lock."""

    keeper: Keeper | None = None  # another one each time that the user begins anew
    state = "wanted"
    due = 0.0  # when to ask, or when what was asked for is late
    request = ""  # id of the request that asked for it
    reason = ""  # why it does not flow
    dropped = False  # it is not wanted again once it has left
    failed = -inf  # when it last failed; -inf if the user wants it since
    wait = 0.0  # seconds until it is asked for again
    pause = 0.0  # the next wait if it is late, or refused; 0 once its book changes
    rows = 0  # of its book, when it was last looked at
    sequence: Any = None
    broken = False  # its book had a gap, and is not in sync yet

    def __init__(self, channel: str, table: "Subscriptions"):
        self.channel = channel  # as its user wrote it
        self.key = table.dialect.key(channel)  # as messages name it
        self.private = table.dialect.private(channel)
        self.proven = table.proven
        # The exchange repeats these after some 60 s without a change.
        repeated = re.match("(books(5|-l2-tbt|50-l2-tbt)?|bbo-tbt):", self.key)
        self.limit = 75.0 if repeated else inf  # seconds without a row until it is late

    @property
    def flows(self) -> bool:
        return self.state in ("sent", "confirmed")

    @property
    def pace(self) -> float:
        """Seconds between requests of its kind: hundreds of late books leave together."""
        if self.failed == -inf:
            return 0.0
        return 20.0 if self.pause else 1.0

    def enter(self, state: str, reason: str = "") -> None:
        """Change the state. The keeper is open while it is confirmed; a reason closes it."""
        self.state, self.reason, self.due = state, reason, 0.0
        if state == "confirmed":
            self.due, self.rows = monotonic() + CONFIRM_TIMEOUT, 0  # for a snapshot
            self.proven.add(self.key)
            if self.keeper:
                self.keeper.open()
        else:
            self.request = ""
        if state in ("wanted", "refused") and self.failed > -inf:
            self.due = monotonic() + self.wait
        if self.keeper and reason:
            self.keeper.close(reason)

    def fail(self, state: str, reason: str, late: bool = False) -> None:
        """Count a failure. It waits 0, 1, 3, 7, … 60 s, and anew after two minutes.

        If late, 0, 1, 2, 4, … 10 minutes, if refused 1, 2, …, and anew after a change, or half an hour.
        """
        ago, self.failed = monotonic() - self.failed, monotonic()
        self.wait = min(60.0, 2 * self.wait + 1) if ago < 120 else 0.0
        if ago >= 1800:
            self.pause = 0.0
        if late or state == "refused":
            self.wait, self.pause = self.pause, min(600.0, 2 * self.pause or 60.0)
        if state == "refused":
            self.wait = self.pause if self.key in self.proven else inf
        self.enter(state, reason)

    def look(self, book: "OrderBook", now: float) -> None:
        if book.rows == self.rows:
            return
        if self.broken and book.ready:
            self.broken = False
            CHORUS.log(f"{self.channel} is in sync again.", "in sync")
        changed = book.sequence != self.sequence
        if self.rows and changed:
            self.pause = 0.0
        elif self.pause and not (self.rows or changed):  # it was only quiet
            self.limit = min(600.0, 2 * self.limit)
        self.rows, self.sequence, self.due = book.rows, book.sequence, now + self.limit


class Subscriptions:
    """The table of a client's channels. What changes a channel's state is a method here.

    state       means                      goes to     when
    wanted      to be asked for at `due`   sent        take_due()
    sent        asked for                  confirmed   confirmed(), or a row: admit()
                                           wanted      check(): late; refused(): for now
                                           refused     refused()
    confirmed   its rows flow              leaving     drop(), resubscribe(); from sent, too
                                           wanted      ended(): by the exchange itself
                                           refused     refused(): by too many connections
    leaving     to be ended                wanted      ended(), check(): if it is wanted again
                                           gone        ended()
    refused     the exchange said no       wanted      want()
                                           sent        take_due(): if it was confirmed before

    With a lost connection all become wanted, or gone; what never was confirmed stays refused.
    """

    hopeless = False  # all were refused, and none ever was confirmed

    def __init__(self, dialect: "Dialect", make_keeper: Any):
        self.dialect, self.make_keeper = dialect, make_keeper
        self.by_key: dict[str, Subscription] = {}  # one look-up needs no lock
        self.books: dict[str, OrderBook] = {}  # by channel; nor does one here
        self.proven = set[str]()  # keys of all that ever were confirmed
        self._ids = itertools.count(1)
        self._lock = threading.RLock()  # before keepers' locks
        self.restart()

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self.by_key.values()))

    @property
    def private(self) -> bool:
        return any(entry.private for entry in self)

    def want(self, channel: str) -> None:
        key = self.dialect.key(channel)
        with self._lock:
            self.hopeless = False
            entry = self.by_key.get(key) or Subscription(channel, self)
            entry.failed = -inf
            if entry.state == "refused":
                entry.enter("wanted", "no snapshot yet")
            elif entry.dropped or key not in self.by_key:
                entry.dropped = False
                entry.due = min(entry.due, monotonic() + CONFIRM_TIMEOUT)
                entry.keeper = keeper = self.make_keeper(channel)
                if isinstance(keeper, OrderBook):
                    keeper.close("no snapshot yet")
                    self.books[entry.channel] = keeper
                self.by_key[key] = entry
                self.dropped.discard(key)

    def drop(self, channel: str) -> None:
        with self._lock:
            entry = self.by_key.get(self.dialect.key(channel))
            if entry is None:
                return
            self.books.pop(entry.channel, None)
            if entry.keeper:
                entry.keeper.dropped = True
            entry.dropped = True
            if entry.flows:
                entry.enter("leaving", "unsubscribed")
            elif entry.state != "leaving":
                self._left(entry)

    def take_due(self, now: float) -> Rows:
        """What to send now, (op, channels, id): ends first, what failed in one request."""
        requests = []
        ops = ("unsubscribe", ("leaving",)), ("subscribe", ("wanted", "refused"))
        with self._lock:
            for (op, states), pace in itertools.product(ops, (0.0, 1.0, 20.0)):
                due = [s for s in self if s.state in states and s.pace == pace and s.due <= now and not s.request]
                if not due or now < self._paced[op, pace]:
                    continue
                most = len(due) if pace else ceil(len(due) / REQUESTS_PER_OPEN)
                longest = max(len(self.dialect.subscribe([entry.channel])) for entry in due)
                size = max(1, min(most, self.dialect.max_request // longest))
                while due and self.spend_request(now):
                    batch, due = due[:size], due[size:]
                    id = f"r{next(self._ids)}"
                    requests.append((op, [entry.channel for entry in batch], id))
                    self._paced[op, pace] = now + pace
                    for entry in batch:
                        if op == "subscribe":
                            entry.enter("sent")
                        entry.due, entry.request = now + CONFIRM_TIMEOUT, id
        return requests

    def spend_request(self, now: float) -> bool:
        """Count one more request; False if it must not be sent: the 480 before it are of one hour."""
        self._requests.append(now)
        return now - self._requests[0] >= 3600

    def admit(self, entry: Subscription) -> bool:
        """Confirm a channel by its first row. False if the row is not to be taken."""
        with self._lock:
            if entry.state == "sent":
                entry.enter("confirmed")
            # v1 pushes the account unasked.
            return entry.state == "confirmed" or (entry.private and entry.state == "wanted")

    def find(self, key: str, id: str = "") -> Subscription | None:
        """The subscription that a message is about, if that is clear."""
        meant = self._all_meant(key, id)
        return meant[0] if len(meant) == 1 and key not in self.dropped else None

    def _all_meant(self, key: str, id: str) -> list[Subscription]:
        """What a message may be about, by its id, or a name that may lack filters."""
        asked = [entry for entry in self if id and entry.request == id]
        if len(asked) == 1 or not key:
            return asked
        among = asked or self
        exact = [entry for entry in among if entry.key == key]
        return exact or [entry for entry in among if self.dialect.covers(key, entry.key)]

    def confirmed(self, key: str, id: str = "") -> str:
        """The exchange confirmed a channel: its name. Of many, the last is logged."""
        with self._lock:
            entry = self.find(key, id)
            if entry and entry.state in ("wanted", "sent"):
                entry.enter("confirmed")
            states = [each.state for each in self]
        channel, many = entry.channel if entry else printable_text(key), len(states) > 20
        okex_log.log(logging.DEBUG if many else logging.INFO, f"{channel} subscribed.")
        if many and not {"wanted", "sent"} & {*states}:
            okex_log.info(f"{states.count('confirmed')} of {len(states)} channels subscribed.")
        return channel

    def ended(self, key: str, id: str = "") -> Subscription | None:
        """The exchange ended a channel: it is returned if nobody asked for that."""
        with self._lock:
            entry = self.find(key, id)
            if entry and entry.flows:
                entry.fail("wanted", "unsubscribed by the exchange")
                return entry
            if entry and entry.state == "leaving":
                self._left(entry)
            return None

    def refused(self, event: "WireEvent", why: str) -> list[Subscription]:
        passes = event.code in TRANSIENT
        with self._lock:
            meant = self._all_meant(event.channel, event.id)
            shared = len(meant) > 1 and not event.channel
            refused = [s for s in meant if s.state == "sent" or (s.flows and not shared)]
            for entry in refused:
                entry.fail("wanted" if passes or shared else "refused", f"refused: {why}")
                if shared and not passes:  # each is asked for by itself
                    entry.failed, entry.due = -inf, 0.0
            self.hopeless = not self.proven and {entry.state for entry in self} == {"refused"}
            return refused

    def resubscribe(self, entry: Subscription, reason: str, late: bool = False) -> bool:
        """End and begin a channel that is out of sync, or late; False if it does not flow."""
        with self._lock:
            if flows := entry.flows:
                entry.broken = True
                entry.fail("leaving", reason, late)
            return flows

    def restart(self) -> None:
        """Begin a connection: all that is wanted is asked for anew."""
        with self._lock:
            self.dropped = set[str]()  # keys of which rows may still come, unwanted
            self._paced = defaultdict[Any, float](float)  # when more may leave
            self._requests = deque([-inf], REQUESTS_PER_HOUR + 1)  # when
            for entry in self:
                # A book of v1 that went wrong, and cost the connection, has to wait.
                if entry.dropped or (entry.state == "leaving" and not self.dialect.snapshots):
                    self._left(entry)
                elif entry.state != "refused" or entry.key in self.proven:
                    entry.failed = -inf
                    entry.enter("wanted", "disconnected")

    def check(self, now: float) -> Rows:
        """Ask again for what is late, or raise Reconnect. Returns late books' (entry, why)."""
        late, limit = list[Any](), f"{CONFIRM_TIMEOUT:.0f} s"
        with self._lock:
            if now - self._requests[0] < 3600:
                raise Reconnect(f"all {REQUESTS_PER_HOUR} requests an hour are spent")
            for entry in [s for s in self if s.request]:
                channel, book = entry.channel, self.books.get(entry.channel)
                if book and entry.state == "confirmed":
                    entry.look(book, now)
                if now < entry.due:
                    continue
                entry.due = inf
                if entry.state == "sent":
                    entry.fail("wanted", "not confirmed yet")
                    line = f"{channel} is not confirmed after {limit}. Asking again in {entry.wait:.0f} s."
                    CHORUS.log(line, f"late at {now}")
                elif entry.dropped:
                    okex_log.warning(f"{channel}: not confirmed to be unsubscribed. What still comes is dropped.")
                elif entry.state == "leaving":
                    if book and not self.dialect.snapshots:  # old rows would be the new book
                        raise Reconnect(f"{channel} was not unsubscribed within {limit}")
                    self._left(entry)
                elif book:
                    quiet = f"nothing came on the channel for {entry.limit:.0f} s"
                    late.append((entry, quiet if book.rows else f"no snapshot within {limit}"))
        return late

    def _left(self, entry: Subscription) -> None:
        if entry.dropped:
            entry.enter("gone", "unsubscribed")
            del self.by_key[entry.key]
            self.dropped.add(entry.key)
        else:
            entry.enter("wanted")


# ---------------------------------------------------------------------------------------------------------------
# Frames: bytes in, messages out (RFC 6455), and the loop that reads.

CHUNK = 1 << 16  # bytes to receive at once, at most


class Frames:
    """Cuts messages out of the bytes that a server sends.

    >>> frames = Frames()
    >>> [*frames.take(b"\\x81\\x05hel"), *frames.take(b"lo\\x89\\x00")]  # a text, in two pieces, and a ping
    [(1, b'hello'), (9, b'')]
    """

    def __init__(self) -> None:
        self._rest = b""  # a frame that has not arrived whole
        self._opcode = 0  # of the message whose fragments arrive, or 0
        self._fragments = b""

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The opcode and payload of each message. ValueError for what no server may send."""
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        while end - at >= 2:
            head, length, begin = buffer[at], buffer[at + 1], at + 2
            if length == 126:
                begin += 2
                if begin > end:
                    break
                length = buffer[at + 2] << 8 | buffer[at + 3]
            elif length == 127:  # if cut short, it is less, but ends beyond the buffer
                begin += 8
                length = int.from_bytes(buffer[at + 2 : begin], "big")
            elif length > 127:
                raise ValueError("the server sent a masked frame")
            stop = begin + length
            if stop > end:
                if length > MAX_MESSAGE:
                    raise ValueError(f"a message of more than {MAX_MESSAGE} bytes")
                break
            at = stop
            if head in (0x81, 0x82) and not self._opcode:  # whole, as nearly always
                yield head & 0x0F, buffer[begin:stop]
            elif message := self._other(head, buffer[begin:stop]):
                yield message
        self._rest = buffer[at:]

    def _other(self, head: int, payload: bytes) -> tuple[int, bytes] | None:
        """A control frame, or the message that a fragment completes, or None."""
        final, opcode = head & 0x80, head & 0x7F
        if 8 <= opcode <= 10 and final and len(payload) < 126:  # close, ping or pong
            return opcode, payload
        allowed = (0,) if self._opcode else (1, 2)  # text or binary
        if opcode not in allowed or len(self._fragments) > MAX_MESSAGE:
            raise ValueError(f"the server broke the protocol: a frame that begins with {head:#x}")
        self._opcode = self._opcode or opcode
        self._fragments += payload
        if not final:
            return None
        message = self._opcode, self._fragments
        self._opcode, self._fragments = 0, b""
        return message


def read_messages(ws: OkexWS) -> None:
    """Read until an exception ends the connection, with a tick every second."""
    sock: Any = ws.sock and ws.sock.sock
    sock.settimeout(1.0)
    freshness, frames, ticked = ws._freshness, Frames(), 0.0
    noted, unread = monotonic(), 0  # when bytes were counted; how many of them wait yet
    while ws.keep_running:
        ws.tracing = okex_log.isEnabledFor(logging.DEBUG)
        now = monotonic()
        if now - freshness.drained > 0.25:
            waiting = bytes_waiting(sock)
            if not waiting or unread <= 0:  # in time, though more may wait
                freshness.drained = noted if waiting else now
                noted, unread = now, waiting
        chunk = receive_chunk(ws, sock)
        unread -= len(chunk)
        messages = 0
        for opcode, payload in frames.take(chunk):
            if not ws.keep_running:
                break
            if opcode <= 2:  # text or binary
                messages += 1
                try:
                    ws.receive(payload.decode() if opcode == 1 else payload)
                except UnicodeDecodeError as error:
                    ws._malformed(str(error), payload)
            elif opcode == ABNF.OPCODE_PING:
                ws.send(payload, ABNF.OPCODE_PONG)
            elif opcode == ABNF.OPCODE_CLOSE:
                ws.counts["messages"] += messages
                ws._on_close(int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace"))
                raise Reconnect("closed by the exchange")
        ws.counts["messages"] += messages
        if messages:  # control frames alone do not count
            freshness.heard = monotonic()
        if now - ticked >= 1.0 or now >= ws._route.leave_at:
            ticked = now
            ws._tick(monotonic())
    raise Reconnect("the connection was lost")


def receive_chunk(ws: OkexWS, sock: Any) -> bytes:
    """What has arrived, or arrives within a second; b"" if nothing does."""
    decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending()
    patience = 0.0 if ws._filler.hand_over() else 1.0  # what is live comes first
    if not decrypted and not select([sock], [], [], patience)[0]:
        return b""
    try:
        with ws._sending:
            chunk: bytes = sock.recv(CHUNK)
    except (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pause(0.001)  # TLS on Python 3.13 says so under load
        return b""
    if not chunk:
        raise Reconnect("the connection was lost")
    return chunk


def bytes_waiting(sock: Any) -> int:
    """How many bytes wait in a socket; with TLS, about so many."""
    try:
        from fcntl import ioctl
        from termios import FIONREAD
    except ImportError:  # Windows
        return CHUNK if select([sock], [], [], 0)[0] else 0
    return int.from_bytes(ioctl(sock.fileno(), FIONREAD, b"\0\0\0\0"), sys.byteorder)


# ---------------------------------------------------------------------------------------------------------------
# Wire: text in, events out, and requests as text. No socket, thread, clock, file or print.

# OKX hosts: live, simulated trading, REST. Port 8443 closed on 2026-10-31.
REGIONS = {
    "global": ("wss://ws.okx.com", "wss://wspap.okx.com", "https://openapi.okx.com"),
    "eea": ("wss://wseea.okx.com", "wss://wseeapap.okx.com", "https://eea.okx.com"),
    "us": ("wss://wsus.okx.com", "wss://wsuspap.okx.com", "https://us.okx.com"),
}

to_json = JSONEncoder(separators=(",", ":")).encode

try:
    from orjson import loads as from_json  # three times as fast
except ImportError:
    _scan = JSONDecoder().scan_once  # type: ignore[attr-defined]

    def from_json(text: str) -> Any:  # type: ignore[misc]
        """json.loads without what is around its scanner: a third faster for a small message."""
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        return value if end == len(text) else json_loads(text)


def printable_text(text: str | bytes, most: int = 200) -> str:
    """Text from outside, fit for a terminal: no secrets, no control characters, not too long."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = mask_secrets(text[: most + 10_000])  # of no secret is a part left
    text = text[:most] + "…" * (len(text) > most)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class WireEvent(NamedTuple):
    """What a message says. What an event of its kind does not have is empty.

    data       channel, rows, action: "snapshot", "update", or "" where the exchange sends none
    confirmed  channel, id of the request: it will be sent; the channel may lack its filters
    ended      channel, id: it will not be sent any more
    refused    code, message; channel or id, if the exchange says so: a login has neither
    reply      id, code, message, rows, action: to a request `action`, a row an order
    notice     code, message; or channel, too
    unknown, malformed  message: what it is, or why it cannot be read
    login, ping, pong   nothing
    """

    kind: str
    channel: str = ""
    id: str = ""
    code: str = ""
    message: str = ""
    rows: Rows = []
    action: str = ""


new_event = functools.partial(tuple.__new__, WireEvent)  # twice as fast, of all values


class ChannelKind(NamedTuple):
    """A row of the tables of channels, which say all that depends on the kind of channel."""

    where: str  # v5: its endpoint; and whether it needs a login
    name: str  # before the colon; <bar> stands for the words of this place
    argument: str  # an example; with `=` if it must be there
    what: str  # what it carries; gone: in no document any more
    columns: str  # main values; of bare lists all, in brackets
    more: str = "SPOT SWAP FUTURES OPTION"  # of v3, v1: its heir


def table_rows(text: str) -> list[Any]:
    """The cells of each row, a line; " | " is between cells, an indented line goes on."""
    return [line.split(" | ") for line in re.sub(r"\n +", " ", text).strip().splitlines()]


class Dialect:
    """A generation of the exchange's protocol, with its channels."""

    name: str
    retired = ""  # when the exchange gave it up
    URL: str  # for a host and an endpoint, where there are several
    ping, pong = "ping", "pong"
    ping_every: float  # seconds; 30 of silence end a connection
    max_request = 4096  # bytes of arguments in one request
    snapshots = True  # whether books begin with one that says so
    _read: Callable[..., list[WireEvent]]

    def __init__(self, table: str):
        self.known = []
        self.places: Options = {}  # words that may stand in <bar>
        for first, *others in table_rows(table):
            if first.startswith("# "):
                where = first[2:]
            elif " = " in first:
                self.places.update([first.split(" = ")])
            else:
                name, _, argument = first.partition(":")
                self.known.append(ChannelKind(where, name, argument, *others))
        self.kinds = [kind for kind in self.known if kind.what != "gone"]

    @functools.lru_cache(4096)  # noqa: B019
    def find(self, name: str) -> tuple[ChannelKind | None, Options]:
        """The kind of a channel's name, and what stands in its places: {"bar": "1m"} for candle1m."""
        for kind in self.known:
            pattern = re.sub("<(.+?)>", lambda place: f"(?P{place[0]}{self.places[place[1]]})", kind.name)
            if match := re.fullmatch(pattern.replace(" ", "|").replace("…", "[a-z0-9]+"), name):
                return kind, match.groupdict()
        return None, {}

    def kind(self, channel: str) -> ChannelKind | None:
        return self.find(channel.partition(":")[0])[0]

    def names(self, kind: ChannelKind) -> Iterator[str]:
        """All names of a kind, the usual first; of coins, the usual alone."""
        parts = kind.name.replace("<", ">").split(">")
        words = (self.places.get(part, part).removesuffix(" …").split(" ") for part in parts)
        return map("".join, itertools.product(*words))

    def subscribe(self, channels: Sequence[str], id: str = "", credentials: Any = None, op: str = "subscribe") -> str:
        """A request for channels, or with the op unsubscribe to end them; v5 alone takes an id, v1 keys."""
        request = {"op": op, "args": [self.argument(channel) for channel in channels]}
        return to_json({"id": id, **request} if id and self is V5 else request)

    def unsubscribe(self, channels: Sequence[str], id: str = "") -> str:
        return self.subscribe(channels, id, op="unsubscribe")

    def argument(self, channel: str) -> Any:
        return channel

    def login(self, credentials: "Credentials", now: float) -> str:
        """A login of v3 or v5, signed for an epoch second by HMAC-SHA256 over a fixed request."""
        second = str(int(now))
        text = f"{second}GET/users/self/verify".encode()
        digest = base64.b64encode(hmac.digest(credentials.secret_key.encode(), text, "sha256"))
        values: Rows = [credentials.api_key, credentials.passphrase, second, digest.decode()]
        if self is V5:
            values = [dict(zip("apiKey passphrase timestamp sign".split(), values))]
        return to_json({"op": "login", "args": values})

    def private(self, channel: str) -> bool:
        kind = self.kind(channel)
        return bool(kind and kind.where.endswith("login"))

    def key(self, channel: str) -> str:
        """The name of a channel in events, however its user spells it."""
        return channel

    def covers(self, key: str, subscribed: str) -> bool:
        """Whether `key` can be `subscribed`: one of them may lack the argument."""
        one, other = f"{key}:", f"{subscribed}:"
        return one.startswith(other) or other.startswith(one)

    def book(self, channel: str) -> str:
        """How a channel sends order books: "whole", or "changes" of one; "" for none."""
        kind = self.kind(channel)
        if not kind or "bids" not in kind.columns or bool(kind.argument) != (":" in channel):
            return ""
        return "whole" if kind.columns == "bids asks" else "changes"

    def parse(self, text: str) -> list[WireEvent]:
        """The events in a message; what cannot be read is "malformed"."""
        try:
            return self._read(from_json(text))
        except Exception as error:  # whatever odd JSON can raise
            if text in ("ping", "pong"):
                return [WireEvent(text)]
            return [WireEvent("malformed", message=repr(error))]

    def _read_event(self, item: Row) -> WireEvent:
        """A confirmation, a refusal, an answer and the like.

        v5: {"event":"error","code":"60018","msg":"… channel:books, instId:NOPE doesn't exist.","id":"7"}
        v3: {"event":"error","errorCode":30040,"message":"Channel : spot/tickr doesn't exist"}
        """
        event, id = item.get("event"), f"{item.get('id') or ''}"
        message: Any = item.get("msg", item.get("message", ""))
        match event:
            case None if "op" in item:
                rows = list(item.get("data") or ())
                return WireEvent("reply", "", id, f"{item['code']}", f"{message}", rows, item["op"])
            case "ping" | "pong":
                return WireEvent(event)
            case "subscribe" | "unsubscribe":
                channel = V5.channel(item["arg"]) if "arg" in item else f"{item['channel']}"
                return WireEvent("confirmed" if event == "subscribe" else "ended", channel, id)
            case "login" if str(item.get("success", item.get("code"))).lower() in ("true", "0"):
                return WireEvent("login")
            case "login" | "error":
                code = str(item["code"] if "code" in item else item["errorCode"])
                # It may echo the request, its id there alone: Invalid request: {\"id\":\"o1\", …}
                id = id or re.findall(r'"id\\*"\s*:\s*\\*"([A-Za-z0-9]{1,32})\\*"|$', message)[0]
                if code in ("30042", "60031") and not id:  # we are logged in
                    return WireEvent("login")
                named = re.findall(r"[Cc]hannel ?:? ?(\S.*?) doesn't exist|$", message)[0]
                name, _, pairs = named.replace(" ", "").partition(",")
                channel = self.key(f"{name}:{pairs.replace(':', '=')}".rstrip(":"))
                return WireEvent("refused", channel, id, code, message)
            case "notice":
                return WireEvent("notice", "", "", f"{item.get('code', '')}", f"{message}")
            case "channel-conn-count" | "channel-conn-count-error":  # now dead (docs-v5)
                kind = "refused" if "error" in event else "notice"
                message = f"{item['connCount']} connections are subscribed to {item['channel']}"
                return WireEvent(kind, f"{item['channel']}", "", event, message)
        what = f"event {event}" if event else f"object with {', '.join(item)}"
        return WireEvent("unknown", message=what)


class OkexV1(Dialect):
    """OKEx v1, 2017 to 2019: named channels, arrays of objects, raw DEFLATE since 2018.

    [{"binary":0,"channel":"ok_sub_spot_bch_btc_ticker","data":{"last":"111","buy":"115", …}}]
    """

    name = "v1"
    retired = "2019"
    ping, pong = '{"event":"ping"}', '{"event":"pong"}'
    URL = "wss://real.okex.com:10441/ws/v1"
    ping_every = 30.0
    snapshots = False

    def subscribe(self, channels: Sequence[str], id: str = "", credentials: Any = None, op: str = "subscribe") -> str:
        event = "addChannel" if op == "subscribe" else "removeChannel"
        requests: Rows = [{"event": event, "channel": channel} for channel in channels]
        for request in requests:
            if credentials and op == "subscribe" and self.private(request["channel"]):
                request["parameters"] = self.signed(credentials)
        return to_json(requests)

    def login(self, credentials: "Credentials", now: float) -> str:
        return to_json({"event": "login", "parameters": self.signed(credentials)})

    def signed(self, credentials: "Credentials") -> Row:
        parameters = {"api_key": credentials.api_key}
        return parameters | {"sign": self.sign(parameters, credentials.secret_key)}

    def sign(self, parameters: dict[str, str], secret_key: str) -> str:
        """MD5 over the parameters in order and the secret, in upper case."""
        pairs = [*map("=".join, sorted(parameters.items())), f"secret_key={secret_key}"]
        return hashlib.md5("&".join(pairs).encode()).hexdigest().upper()

    def _read(self, message: Any) -> list[WireEvent]:
        events = []
        for item in message if message.__class__ is list else [message]:
            try:
                events.append(self._read_item(item))
            except Exception as error:  # a bad one costs no other
                events.append(WireEvent("malformed", message=repr(error)))
        return events

    def _read_item(self, item: Any) -> WireEvent:
        rows = item.get("data")
        if rows.__class__ is not list:
            if "data" not in item:
                return self._read_event(item)
            channel, answer = item.get("channel", ""), rows if rows.__class__ is dict else {}
            name = "" if channel == "login" else f"{answer.get('channel', channel)}"
            if item.get("success", answer.get("result")) in (False, "false", "False"):
                # {"channel":"ok_sub_a","data":{"result":false,"error_msg":"…","error_code":20103}}
                code = str(item.get("errorcode", answer.get("error_code", "")))
                return WireEvent("refused", name, "", code, f"{answer.get('error_msg', '')}")
            if kind := {"addChannel": "confirmed", "removeChannel": "ended", "login": "login"}.get(channel):
                return WireEvent(kind, name)
            # {"channel":"btc_forecast_price","timestamp":"1490341322021","data":"998.8"}: unasked for
            if rows.__class__ is not dict:
                rows = {key: item[key] for key in item if key not in ("channel", "binary")}
            for side in ("bids", "asks"):
                levels = rows.get(side)
                if levels and levels[0][0].__class__ is not str:  # in August 2018
                    rows[side] = [[*map(str, level)] for level in levels]
            rows = [rows]
        return new_event(("data", f"{item['channel']}", "", "", "", rows, ""))


class OkexV3(Dialect):
    """OKEx v3, 2018 to 2021: tables of rows, raw DEFLATE.

    {"table":"spot/trade","data":[{"instrument_id":"BCH-USDT","price":"328.74","side":"sell", …}]}
    """

    name = "v3"
    retired = "2021"
    URL = "wss://real.okex.com:8443/ws/v3"
    ping_every = 25.0
    BY_FAMILY = "option/account", "option/instruments", "option/order", "option/position", "option/summary"

    def _read(self, item: Any) -> list[WireEvent]:
        if "table" not in item:
            return [self._read_event(item)]
        action = item.get("action", "").replace("partial", "snapshot")
        by_channel: dict[str, Rows] = {}
        for row in item["data"]:
            by_channel.setdefault(self._channel(item["table"], row), []).append(row)
        return [new_event(("data", name, "", "", "", rows, action)) for name, rows in by_channel.items()]

    def _channel(self, table: str, row: Any) -> str:
        if table in ("futures/instruments", "system/status"):
            return table
        found = row.get("instrument_id") or row.get("currency") or row.get("underlying")
        if not found:  # futures/account: {"BTC":{"equity":"997.4", …}}
            found = next(iter(row), "")
        if table.startswith(self.BY_FAMILY):  # BTC-USD-190927-12500-C is of BTC-USD
            found = family_of(str(row.get("underlying", found)))
        # spot/order_algo may say ltc_usdt
        return f"{table}:{str(found).upper().replace('_', '-')}"


class OkxV5(Dialect):
    """OKX v5, since 2021, what runs today: channels and arguments are objects, frames are text.

    {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"px":"83753","sz":"0.000011", …}]}
    """

    name = "v5"
    URL = "{}/ws/v5/{}"
    ping_every = 20.0
    max_request = 64 << 10
    ORDERS = re.compile(r"((sprd-|grid-sub-)?orders(-algo)?|grid-orders-\w+|algo-[\w-]+)(:|$)")

    def argument(self, channel: str) -> Row:
        """The object that the exchange takes for a channel like orders:instType=ANY."""
        name, _, rest = channel.partition(":")
        if rest and "=" not in rest:
            rest = f"{'sprdId' if name.startswith('sprd-') else 'instId'}={rest}"
        return {"channel": name} | dict(re.findall(r"(\w+)=(.*?)(?=,\w+=|$)", rest))

    def channel(self, arg: Row) -> str:
        """The inverse of `argument`, the same for every order of the keys."""
        keys = sorted(arg.keys() - {"channel", "uid", "connId", "extraParams"})  # not in all pushes
        pairs = ",".join(f"{key}={arg[key]}" for key in keys)
        if "," not in pairs:
            pairs = pairs.removeprefix("instId=").removeprefix("sprdId=")
        return f"{arg['channel']}:{pairs}".rstrip(":")

    def key(self, channel: str) -> str:
        return self.channel(self.argument(channel))

    def covers(self, key: str, subscribed: str) -> bool:
        """The exchange may echo fewer filters: liquidation-orders loses its instFamily."""
        return self.argument(key).items() <= self.argument(subscribed).items()

    def instrument_type(self, id: str) -> str:
        """SPOT, SWAP, FUTURES, OPTION or EVENTS, by the form of a name."""
        dashes = id.count("-")
        if dashes < 2:
            return "SPOT"
        if dashes == 2:
            return "SWAP" if id.endswith("-SWAP") else "FUTURES"
        # BTC-USD-261225-80000-C, BTC-ABOVE-DAILY-260428-1600-64000
        return "OPTION" if dashes == 4 and id.endswith(("-C", "-P")) else "EVENTS"

    def _read(self, item: Any) -> list[WireEvent]:
        rows = item.get("data")
        if rows.__class__ is not list or "arg" not in item:
            return [self._read_event(item)]
        arg = item["arg"]
        if len(arg) == 2 and "instId" in arg:  # most
            channel = f"{arg['channel']}:{arg['instId']}"
        else:
            channel = self.channel(arg)
            if channel == "block-tickers":  # whose rows alone name one
                return [WireEvent("data", f"{channel}:{row['instId']}", rows=[row]) for row in rows]
        if len(item) > 2 and "action" not in item:
            # {"arg":{…},"eventType":"snapshot","curPage":1,"lastPage":true,"data":[{…}]}
            names = ("eventType", "curPage", "lastPage")
            beside = {name: item[name] for name in names if name in item}
            if beside.get("eventType") == "snapshot":
                rows = rows or [{}]  # nothing stands, and a row says so
            if beside:
                rows = [beside | row for row in rows]
        return [new_event(("data", channel, "", "", "", rows, item.get("action", "")))]


# Every documented kind of channel (v5: November 2026), by endpoint, with the cells of ChannelKind.
V5 = OkxV5("""
bar = 1m 1s 3m 5m 15m 30m 1H 2H 4H 6H 12H 1D 2D 3D 5D 1W 1M 3M
    6Hutc 12Hutc 1Dutc 2Dutc 3Dutc 5Dutc 1Wutc 1Mutc 3Mutc
longer = 1m 3m 5m 15m 30m 1H 2H 4H 6H 12H 1D 2D 3D 5D 1W 1M 3M
    6Hutc 12Hutc 1Dutc 2Dutc 3Dutc 5Dutc 1Wutc 1Mutc 3Mutc
# public
trades:BTC-USDT | trades, by order and price | tradeId px sz side
tickers:BTC-USDT | prices, 24 hours | last bidPx askPx
books:BTC-USDT | 400 levels, every 100 ms | bids asks seqId
books5:BTC-USDT | best five, every 100 ms | bids asks
bbo-tbt:BTC-USDT | best one, every 10 ms | bids asks
books-rpi:BTC-USDT | with retail orders | bids asks seqId
index-tickers:BTC-USDT | index price | idxPx | INDEX
mark-price:BTC-USDT-SWAP | mark price | markPx
price-limit:BTC-USDT-SWAP | price limits | buyLmt sellLmt
funding-rate:BTC-USDT-SWAP | funding rate | fundingRate | SWAP XPERP
open-interest:BTC-USDT-SWAP | open interest | oi | SWAP FUTURES OPTION
liquidation-orders:instType=SWAP | liquidations | details
adl-warning:instType=SWAP | auto-deleveraging | state bal
estimated-price:instType=FUTURES,instFamily=BTC-USD | delivery | settlePx
opt-summary:instFamily=BTC-USD | greeks | markVol delta gamma
option-trades:instType=OPTION,instFamily=BTC-USD | trades | px sz side
instruments:instType=SPOT | instruments | state
call-auction-details:BTC-USDT | auction | eqPx matchedSz
event-contract-markets | event contracts | state outcome
status | maintenance | title state
# business
trades-all:BTC-USDT | trades, each by itself | tradeId px sz side
candle<bar>:BTC-USDT | candles; confirm 1: final |
    [ts o h l c vol volCcy volCcyQuote confirm]
mark-price-candle<longer>:BTC-USDT-SWAP | candles | [ts o h l c confirm]
mark-price-candle1s:BTC-USDT-SWAP | gone | [ts o h l c confirm]
index-candle<longer>:BTC-USDT | candles | [ts o h l c confirm] | INDEX
index-candle1s:BTC-USDT | gone | [ts o h l c confirm] | INDEX
public-block-trades:BTC-USDT | by leg | px sz side
public-struc-block-trades | whole | legs
block-tickers:BTC-USDT | block volumes | vol24h
sprd-public-trades:BTC-USDT_BTC-USDT-SWAP | trades | px sz side | SPREAD
sprd-tickers:BTC-USDT_BTC-USDT-SWAP | prices | last vol24h | SPREAD
sprd-candle<bar>:BTC-USDT_BTC-USDT-SWAP | candles | [ts o h l c vol confirm] | SPREAD
sprd-bbo-tbt:BTC-USDT_BTC-USDT-SWAP | best one | bids asks | SPREAD
sprd-books5:BTC-USDT_BTC-USDT-SWAP | best five | bids asks | SPREAD
sprd-books-l2-tbt:BTC-USDT_BTC-USDT-SWAP | book | bids asks seqId | SPREAD
# public, login
books-l2-tbt:BTC-USDT | every 10 ms (VIP 4) | bids asks seqId
books50-l2-tbt:BTC-USDT | best 50, every 10 ms (VIP 4) | bids asks seqId
# private, login
orders:instType=ANY | orders | ordId px sz state
fills | fills (VIP 4) | fillPx fillSz side
account | balances | totalEq details
positions:instType=ANY | positions | pos avgPx upl
balance_and_position | their changes | balData posData
liquidation-warning:instType=ANY | near liquidation | pos mgnRatio
account-greeks | greeks | deltaBS gammaBS
# business, login
orders-algo:instType=ANY | algo orders | triggerPx sz state
algo-advance:instType=ANY | advanced ones | triggerPx sz state
algo-recurring-buy:instType=SPOT | buys | totalPnl
grid-orders-spot:instType=SPOT | grid bots | maxPx minPx
grid-orders-contract:instType=ANY | grid bots | maxPx minPx
grid-positions:algoId=1 | of a grid bot | pos avgPx upl
grid-sub-orders:algoId=1 | of a grid bot | px sz state
copytrading-notification:instType=SWAP | gone | infoType
copytrading-lead-notification:instType=SWAP | copiers | infoType
deposit-info | deposits | amt state
withdrawal-info | withdrawals | amt state
rfqs | requests for quotes | state legs
quotes | quotes for them | state legs
struc-block-trades | block trades | legs
sprd-orders | orders | px sz state
sprd-trades | trades | fillPx fillSz
economic-calendar | events (VIP 1) | event date
""")

V3 = OkexV3("""
market = spot futures swap option
linear = spot futures swap
contract = swap futures
held = futures swap option
depth = depth depth_l2_tbt
bar = 60 180 300 900 1800 3600 7200 14400 21600 43200 86400 604800
# public
<market>/trade:BTC-USDT | trades | price size side | trades:{id}
index/ticker:BTC-USD | index price | last | index-tickers:{id}
<market>/ticker:BTC-USDT | prices | last best_bid | tickers:{id}
index/candle<bar>s:BTC-USD | index candles | candle | index-candle{bar}:{id}
<linear>/candle<bar>s:BTC-USDT | candles | candle | candle{bar}:{id}
<market>/<depth>:BTC-USDT | order book | bids asks checksum | books:{id}
<linear>/depth5:BTC-USDT | best five levels | bids asks | books5:{id}
<contract>/price_range:BTC-USD-SWAP | limits | highest | price-limit:{id}
<contract>/mark_price:BTC-USD-SWAP | mark price | mark_price | mark-price:{id}
swap/funding_rate:BTC-USD-SWAP | funding | funding_rate | funding-rate:{id}
futures/estimated_price:BTC-USD-191227 | delivery | settlement_price |
    estimated-price:instType={type},instId={id}
futures/instruments | futures | tick_size | instruments:instType=FUTURES
<contract>/liquidation:BTC-USD-SWAP | liquidations | price | liquidation-orders:instType={type}
option/instruments | options | tick_size | instruments:instType=OPTION
option/summary:BTC-USD | greeks | mark_vol | opt-summary:instFamily={id}
system/status | maintenance | title status | status
# login
spot/account:USDT | balances | balance | account:ccy={id}
spot/margin_account:BTC-USDT | margin | currency:BTC | account
<held>/account:BTC-USD | balances | equity | account
<held>/position:BTC-USD-191227 | positions | holding | positions:instType={type},instId={id}
<market>/order:BTC-USDT | orders | side price | orders:instType={type},instId={id}
<market>/order_algo:BTC-USDT | algo orders | size | orders-algo:instType={type},instId={id}
""")

V1 = OkexV1("""
coin = btc …
quote = usdt …
when = quarter this_week next_week
levels = 5 10 20
bar = 1min 3min 5min 15min 30min 1hour 2hour 4hour 6hour 12hour day week 3day
trades = deals trades
# public
ok_sub_futureusd_<coin>_trade_<when> | trades |
    [tid price amount time type coin_amount] | trades:{id}
ok_sub_spot_<coin>_<quote>_<trades> | trades |
    [tid price amount time type coin_amount] | trades:{id}
ok_sub_futureusd_<coin>_ticker_<when> | prices | last | tickers:{id}
ok_sub_spot_<coin>_<quote>_ticker | prices | last | tickers:{id}
ok_sub_futureusd_<coin>_kline_<when>_<bar> | candles |
    [timestamp open high low close volume coin_volume] | candle{bar}:{id}
ok_sub_spot_<coin>_<quote>_kline_<bar> | candles |
    [timestamp open high low close volume coin_volume] | candle{bar}:{id}
ok_sub_futureusd_<coin>_depth_<when> | book | bids asks timestamp | books:{id}
ok_sub_futureusd_<coin>_depth_<when>_<levels> | its best | bids asks | books5:{id}
ok_sub_spot_<coin>_<quote>_depth | book | bids asks timestamp | books:{id}
ok_sub_spot_<coin>_<quote>_depth_<levels> | its best | bids asks | books5:{id}
ok_sub_futureusd_<coin>_index | price | futureIndex | index-tickers:{index}
<coin>_forecast_price | delivery | data |
    estimated-price:instType=FUTURES,instFamily={index}
# login
ok_sub_futureusd_trades | orders | price | orders:instType=FUTURES
ok_sub_futureusd_userinfo | balances | balance | account
ok_sub_futureusd_positions | positions | positions | positions:instType=FUTURES
ok_sub_spot_<coin>_<quote>_order | orders | status | orders:instType=SPOT,instId={id}
ok_sub_spot_<coin>_<quote>_balance | balances | info | account
""")


def dialect_of(channel: str) -> Dialect:
    """The generation that a channel belongs to. Raises ValueError if it cannot be a channel."""
    spelled = re.fullmatch(r"[a-z]+/[a-z][^ ]*|[a-z][\w-]*(:[^ ]+)?", channel)
    if not spelled or not channel.isprintable():
        raise ValueError(f"{channel!r} is not a channel: {misnomer(channel) or 'it is not printable'}")
    return likely_dialect(channel)


def likely_dialect(channel: str) -> Dialect:
    if re.match(r"ok_|\w+_forecast_price$", channel):
        return V1
    return V3 if re.match(r"[a-z]+/[a-z]", channel) else V5


def passwordless(url: str) -> str:
    return re.sub(r"//.*@", "//", url)


def port_of(url: str) -> int | None:
    """The port in a URL. Raises ValueError, without the password that urlsplit would show."""
    try:
        return urlsplit(url).port
    except ValueError:
        hint = "/ ? # in a password are written %2F %3F %23"
        raise ValueError(f"{passwordless(url)} has no valid port; {hint}") from None


def origin_of(url: str) -> str:
    """wss://host:port of wss://host:port/path."""
    return "{}://{}".format(*urlsplit(url))


def lines_of(channel: str, url: Urls, region: str, simulated: bool) -> list[str]:
    """All URLs of a channel's endpoint. Raises ValueError if they have not the same path."""
    if region not in REGIONS:
        raise ValueError(f"no region {region!r}: choose global, eea (the EU) or us")
    dialect = dialect_of(channel)
    kind = dialect.kind(channel)
    place = kind.where.partition(",")[0] if kind else "public"
    own = dialect.URL.format(REGIONS[region][simulated], place)
    lines = list[str]()
    for line in [url or own] if url is None or isinstance(url, str) else url:
        parts = urlsplit(line)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or port_of(line) == 0:
            raise ValueError(f"{passwordless(line)} is not a WebSocket URL, like wss://HOST")
        if not parts.path.strip("/"):
            line = parts._replace(path=urlsplit(own).path).geturl()
        lines.append(line)
    if len({urlsplit(line).path for line in lines}) != 1:
        raise ValueError(f"a URL, or the same path on all hosts: {', '.join(map(passwordless, lines))}")
    return lines


def endpoint_of(channel: str, url: Urls = None, region: str = "global", simulated: bool = False) -> str:
    """The URL to connect to for a channel, the first of several; without a path, it gets the exchange's."""
    return lines_of(channel, url, region, simulated)[0]


def columns_of(channel: str) -> tuple[str, ...]:
    """Names for the values of rows that are bare lists; () for other channels."""
    kind = likely_dialect(channel).kind(channel)
    return tuple(kind.columns.strip("[]").split()) if kind and "[" in kind.columns else ()


fields, endpoint = columns_of, endpoint_of  # a pasting script may redefine these

# What to do about error and close codes; of v1 and v3 (1xxxx to 3xxxx) the usual ones.
HINTS = {
    code: hint
    for hint, codes in table_rows("""
check the spelling | 10015 20103 30040 60012 60013 60018 60027 60033
check key, secret, passphrase, region | 10005 30006 30013 30015 60009 4001
the API key is wrong: check it, and the region | 60005 50111
the signature is wrong: check the secret key | 60007 50113
the passphrase is wrong | 60024 50105
no such API key: check --region and --simulated | 60032 50119
the key needs, or lacks, --simulated | 50101
the account is frozen, or lacks this feature | 50100 51773
this key does not allow this IP address | 50110
check the clock of this machine | 30005 30008 60004 60006
this needs a login; books and books5 do not | 30041 60011
this needs a higher fee tier; books and books5 do not | 64003
books-l2-tbt excludes books and books50-l2-tbt | 64004
it is at another endpoint | 60008 60028 64001 64002
the argument uly is gone, use instFamily | 64000
too much at once: ask less, or over more connections | 30026 50011 50061
    60014 4003 4008 4009 channel-conn-count-error
not understood, or too large | 1009 60019 4002
no such instrument, or a new instIdCode: the next order looks it up | 51001
log in once, with one key | 60023 60026 60031
it cools off: reduce-only orders alone | 54094
open USDC pairs first: /api/v5/account/activate-feature | 54109
set outcome yes or no, speedBump 1 unless post-only | 54086
identity verification of level 2 first | 59113
the limit of open interest is reached | 54031
an RPI order must be larger | 54051
an error inside the exchange | 63999 64007 4006
nothing came for 30 seconds | 4004
reading was too slow | 4005
the API key was changed or deleted | 4007
""")
    for code in codes.split()
}
MISNAMED = {"60018", "30040", "10015", "20103"}  # there is no such channel
# Refusals that pass by themselves.
TRANSIENT = set("20014 20049 30026 30043 50001 50011 50013 50026 50061 60014 63999 64007".split())


def reason_of(code: str, message: str) -> str:
    """A refusal in words: its code, its message, and what can be done."""
    hint = f" ({HINTS[code]})" if code in HINTS else ""
    return f"{code} {printable_text(message)}{hint}"


# ---------------------------------------------------------------------------------------------------------------
# Order books: pure, apart from the lock that lets other threads read them.

ODD_ROW = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # of odd JSON
Levels = list[list[str]]  # of each price and size, as sent


class BookOutOfSync(Exception):
    """The book may not be the exchange's: it must not be used until it is ready again."""


class BookSide:
    """The bids or the asks. A change costs what it has levels, however many the book has.

    Only a new price is sorted in. A deleted level stays, with size 0, until there are many.
    """

    def __init__(self, best: int, lowest: float):
        self.best = best  # index of the best price: 0 or -1
        self.lowest = lowest  # what a price may be

    def replace(self, levels: Iterable[Any]) -> None:
        self.sizes: dict[str, str] = {level[0]: level[1] for level in levels}  # by price
        "".join(self.sizes)  # TypeError if a price is no string
        self.prices = {float(price): price for price in self.sizes}
        self.order = sorted(self.prices)
        if not isfinite(sum(self.order)) or min(self.order, default=0.0) < self.lowest:
            raise ValueError("a price is no price")
        if len(self.prices) < len(self.sizes):  # 1E-8 and 0.00000001
            self.sizes = {price: self.sizes[price] for price in self.prices.values()}
        self.capacity = 200 + len(self.order) * 3 // 2  # beyond it, what is deleted goes

    def change(self, levels: Iterable[Any]) -> None:
        sizes = self.sizes
        known = len(sizes)  # what is new will stand last
        for level in levels:
            sizes[level[0]] = level[1]
        if len(sizes) == known:
            return
        for price in list(islice(reversed(sizes), len(sizes) - known))[::-1]:
            number = float("" + price)  # TypeError if it is no string
            if not self.lowest <= number < inf:
                raise ValueError("a price is no price")
            if number in self.prices:
                del sizes[self.prices[number]]  # the same price, spelled in another way
            else:
                insort(self.order, number)
            self.prices[number] = price
        if len(sizes) > self.capacity:
            self.replace(level for level in sizes.items() if float(level[1]))

    def top(self, n: int) -> Levels:
        """The best n levels, best first."""
        best: Levels = []
        prices, sizes, gone = self.prices, self.sizes, 0
        for number in reversed(self.order) if self.best else self.order:
            if len(best) == n:
                break
            price = prices[number]
            size = sizes[price]
            amount = float("" + size)
            if 0 < amount < inf:
                best.append([price, size])
            elif amount != 0:
                raise ValueError("a size is no size")
            elif not best:
                gone += 1
        for _ in range(gone):  # or the next reading would pass them again
            del sizes[prices.pop(self.order.pop(self.best))]
        return best


class OrderBook(Keeper):
    """One instrument's order book, kept from snapshots and updates. Any thread may read it.

    Reading a book that is not `ready` raises BookOutOfSync. So does `apply` when a row cannot be read,
    or does not follow: by v5's numbers, by the checksum, or as bid and ask cross, and nothing vouches
    for that. `whole`: each row is the whole book; `signed`: prices may be below 0, as of spreads.
    """

    rows = 0  # that came since the subscription, from the first snapshot on
    sequence: Any = None  # v5's seqId
    _timestamp: str | int = ""
    _open = True  # a subscription feeds the book
    _reason = "no snapshot yet"  # why the book is not ready, or ""

    def __init__(
        self, whole: bool = False, signed: bool = False, doubt: Callable[[], str] = lambda: "", depth: int | None = None
    ):
        self.whole = whole
        self.depth = depth  # levels a side that `take` returns, if not the changes
        self._doubt = doubt  # why not to trust the book now, or ""
        self._lock = threading.RLock()  # guards all: any thread may read
        lowest = -inf if signed else 0.0
        self._bids, self._asks = BookSide(-1, lowest), BookSide(0, lowest)

    def open(self) -> None:
        """Subscribed anew: the next snapshot, in v1 the next row, is the book."""
        with self._lock:
            self._open, self.rows = True, 0
            self._reason = self._reason or "no snapshot yet"

    def close(self, reason: str) -> None:
        with self._lock:
            self._open, self._reason = False, reason

    def take(self, rows: Rows, action: str) -> Rows:
        """Apply a message's rows. Returns those taken, or the best `depth` levels after each."""
        taken = []
        with self._lock:
            for row in rows:
                whole = action == "snapshot" or self.whole or not (self.rows or action)
                if not self._open or not (self.rows or whole):
                    continue
                self.rows += 1
                try:
                    self._follow(row, whole)
                    if not self.depth:
                        taken.append(row)
                    elif action != "update" or row["bids"] or row["asks"]:
                        bids, asks = self._best(self.depth)
                        taken.append({"bids": bids, "asks": asks, "ts": self._timestamp})
                except ODD_ROW as error:
                    raise self._distrust(f"unreadable row: {error!r}") from None
        return taken

    def apply(self, row: Any, action: str = "") -> None:
        """Take one row; `action` is "snapshot", "update", or "" for v1 and whole books.

        {"asks":[["83725.9","1712.41","0","92"]],"bids":[],"ts":"1791369351001","seqId":10,"prevSeqId":-1}

        A level is price, size, …; size 0 deletes it. The first row of v1 is the book. A closed book
        takes nothing, an open one no update before the first snapshot.
        """
        self.take([row], action)

    @property
    def ready(self) -> bool:
        with self._lock:  # not in the middle of a row
            return not (self._reason or self._doubt())

    @property
    def timestamp(self) -> str | int:
        """The last row's time: ms in v1 and v5, ISO 8601 in v3; "" if it had none."""
        self.top(0)  # raises unless the book is ready
        return self._timestamp

    @property
    def best_bid(self) -> tuple[str, str] | None:
        """Price and size of the highest bid, as sent; None if nobody bids."""
        for price, size in self.top(1)[0]:
            return price, size
        return None

    @property
    def best_ask(self) -> tuple[str, str] | None:
        """Price and size of the lowest ask, as sent; None if nobody asks."""
        for price, size in self.top(1)[1]:
            return price, size
        return None

    @property
    def mid(self) -> float | None:
        """Between best bid and ask, computed exactly, then rounded; None if one-sided."""
        for bid, ask in zip(*self.top(1)):
            return float((Decimal(bid[0]) + Decimal(ask[0])) / 2)
        return None

    @property
    def spread(self) -> float | None:
        """Best ask less best bid, computed exactly, then rounded; None if one-sided."""
        for bid, ask in zip(*self.top(1)):
            return float(Decimal(ask[0]) - Decimal(bid[0]))
        return None

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask, as in a call auction."""
        spread = self.spread
        return spread is not None and spread <= 0

    def top(self, n: int) -> tuple[Levels, Levels]:
        """The best n bids and asks, best first, each [price, size] as sent."""
        with self._lock:
            if reason := self._reason or self._doubt():
                raise BookOutOfSync(reason)
            try:
                return self._best(n)
            except ODD_ROW as error:
                raise self._distrust(f"unreadable row: {error!r}") from None

    def _best(self, n: int) -> tuple[Levels, Levels]:
        return self._bids.top(n), self._asks.top(n)

    def _distrust(self, why: str) -> BookOutOfSync:
        self._reason = printable_text(why)
        return BookOutOfSync(self._reason)

    def _follow(self, row: Any, whole: bool) -> None:
        """Documented (prevSeqId, seqId): (10,15) (15,15: keep-alive) (15,3: maintenance) (3,5)."""
        if whole:
            self._bids.replace(row["bids"])
            self._asks.replace(row["asks"])
        elif self._reason:
            raise BookOutOfSync(self._reason)
        elif (before := row.get("prevSeqId")) != self.sequence:
            raise self._distrust(f"sequence gap: {before} does not follow {self.sequence}")
        else:
            self._bids.change(row["bids"])
            self._asks.change(row["asks"])
        self.sequence = row.get("seqId")
        # Of v3, and v5 until June 2026, now 0: CRC32 of the best 25, bid and ask in turn.
        if checksum := int(row.get("checksum") or 0):
            flatten = itertools.chain.from_iterable
            text = ":".join(flatten(flatten(zip_longest(*self._best(25), fillvalue=()))))
            if zlib.crc32(text.encode()) != checksum & 0xFFFFFFFF:
                raise self._distrust("checksum mismatch")
        elif not whole and self.sequence is None:  # nothing vouches for it
            for (bid, _), (ask, _) in zip(*self._best(1)):
                if float(bid) >= float(ask):
                    raise self._distrust(f"crossed: bid {bid}, ask {ask}")
        self._timestamp = row.get("ts") or row.get("timestamp") or ""
        self._reason = ""


# ---------------------------------------------------------------------------------------------------------------
# Series: trades and candles find what they miss, and a thread fetches it by REST.

FILL_TRIES = 6  # useless answers in a row; 1 + 2 + 4 + 8 + 16 s
MAX_RESTORED = 500_000  # rows of one hole
NEWEST = 10**18  # beyond all numbers


class Hole(NamedTuple):
    """What is missing between two numbers."""

    after: int
    before: int
    look: "Subscription | None" = None  # of whose newest rows REST is to tell


class TradeSeries(Keeper):
    """Trades, by ids that follow one another. The reading thread alone uses it.

    {"instId":"BTC-USDT","tradeId":"123","px":"83753","sz":"0.1","side":"sell","ts":"1791369376364","count":"3"}

    123 with count 3 is 121 to 123. Ids have no gaps, in REST neither (2026-10-04).
    """

    step = 1  # from one number to the next
    patience = 0.0  # seconds that a row may be late
    final = False  # whether the handler gets final candles alone
    history = 0.0  # to be fetched yet: seconds, or, as an int, rows
    held: Any = None  # rows that wait for the history before them
    live = NEWEST  # number of the first of those, until the history came
    last: int | None = None  # number: all up to here is taken, or missing
    first = 0  # number before which nothing is known
    time: Any = 0  # of the last row, in ms, or as text
    quiet = True  # no row came since it was asked for, and no look began
    begun = 0.0  # when it was first confirmed, by the exchange's clock
    since = inf  # and when last
    looked = 0.0  # when REST last told the newest rows; inf while it is asked

    def __init__(self, channel: str, filler: Any = None):
        super().__init__(columns_of(channel))
        self.channel = channel
        self.filler = filler  # a Filler, to ask for what is missing
        *_, self.instrument = V5.argument(channel).values()
        self.path = f"history-trades?instId={self.instrument}&type=1"  # of REST, or ""
        self.counted = channel.startswith("trades:")  # a row may stand for several
        self.holes: Rows = []  # another list after each change

    def open(self) -> None:
        self.since, self.quiet = inf, True

    def take(self, rows: Rows, action: str = "") -> Rows:
        """The rows that did not come before. Nearly all just follow, at little cost."""
        try:
            last: Any = self.last
            for row in rows:
                last += 1
                if self.counted and row["count"] != "1":
                    last += int(row["count"]) - 1
                if row["tradeId"] != f"{last}":
                    break
            else:
                self.last, self.time, self.quiet = last, rows[-1]["ts"], False
                return rows
        except ODD_ROW:  # as with the first row, which follows none
            pass
        return self.judge(rows)

    def judge(self, rows: Rows) -> Rows:
        """Look at each row for itself, and ask for what it jumps over."""
        taken = []
        for row in rows:
            if self._is_new(row, self.filler):
                taken.append(row)
            elif self.filler:
                self.filler.counts["repeated rows"] += 1
            self.quiet = False
        return taken

    def _is_new(self, row: Any, filler: Any) -> bool:
        try:
            first, last, final = self.span(row)
            time = int(row["ts"])
        except ODD_ROW:
            return True  # nobody knows what it follows
        before = first - (self.step * 6 // 10 or 1)  # more than half, less than February
        if self.last is not None and last <= self.last:
            if self._was_missing(first, last, final):
                return True
            if last < self.first and self.size(Hole(last, self.first)) == 0:  # the bar before it
                self.first = first if final else self.first
                return True
            if time <= int(self.time):
                return False
            okex_log.warning(f"{self.channel}: its numbers begin anew: {first} comes after {self.last}.")
            if filler:
                filler.give_up(self, self.holes, "its numbers began anew")
            self.last = None
        if self.last is None:
            self.last, self.first = before, first
        known, self.time = self.last, time
        self.last = last if final else max(known, before)
        mixed = first <= known  # old and new trades, which REST lists one by one
        hole = Hole(known, last + 1 if mixed else first)
        self._miss(*self.holes, hole)
        if filler and hole in self.holes:
            filler.ask(self, hole, self.patience * (not self.quiet))
        return not mixed

    def _miss(self, *holes: Hole) -> None:
        self.holes = [hole for hole in holes if self.size(hole) > 0]

    def recall(self, rows: Iterable[Any]) -> None:
        """Go on behind what an earlier run kept, oldest first; ask for what it left out."""
        for row in rows:
            self._is_new(row, None)  # nothing is asked for until all are known
        if self.held is None:
            self.release()

    def hold(self, rows: Rows, action: str = "") -> Rows:
        """In place of take(), until their history is handed over."""
        self.held += Keeper.take(self, rows, action)
        with suppress(*ODD_ROW):
            self.live = self.span(self.held[0])[0]
        return []

    def release(self) -> Rows:
        """Ask for what is missing, and take the rows that were held."""
        for hole in self.holes:
            self.filler.ask(self, hole)
        vars(self).pop("take", None)
        rows, self.held = self.held or [], None
        return self.take(rows)

    def reach_back(self) -> float:
        """Seconds that the history goes back; of rows, a day, or twice as long as bars take."""
        if isinstance(self.history, float):
            return self.history
        return max(86_400.0, self.history * self.step / 500)

    def owes(self, clock: float) -> bool:
        """Whether it is not known what came before: there was no row within 5 s."""
        return self.quiet and self.since <= clock - 5

    def reach(self, hole: Hole) -> None:
        """REST has rows up to the end of a hole: what did not come is missing."""
        after, before, _ = hole
        begin = after + self.step
        if self.last is None or self.held is not None:  # the handler lacks it
            self.holes = [Hole(each.after, min(each.before, begin)) for each in self.holes]
            self.first, self.last = begin, min(self.last or after, after)
        self._miss(*self.holes, Hole(after, self.first), Hole(self.last, before))
        self.first, self.last = min(self.first, begin), max(self.last, before - self.step)

    def size(self, hole: Hole) -> int:
        """How many numbers a hole has: the next is up to 1.5 steps later, as with months."""
        return round((hole.before - hole.after) / self.step) - 1

    def _was_missing(self, first: int, last: int, final: bool) -> bool:
        """Whether these numbers are missing, until now if the row is final."""
        for hole in self.holes:
            if hole.after < first and last < hole.before:
                if final:
                    others = [other for other in self.holes if other != hole]
                    self._miss(*others, Hole(hole.after, first), Hole(last, hole.before))
                return True
        return False

    def restore(self, rows: Rows) -> Rows:
        """Rows that were fetched, but for those that came meanwhile."""
        self.time = max([int(self.time), *(int(row["ts"]) for row in rows)])
        return [row for row in rows if self._was_missing(*self.span(row))]

    def parts(self, hole: Hole) -> Rows:
        return [part for part in self.holes if hole.after <= part.after and part.before <= hole.before]

    def span(self, row: Any) -> tuple[int, int, bool]:
        """First number, last number, whether it is final. Raises one of ODD_ROW."""
        last = int(row["tradeId"])
        return last - int(row.get("count") or 1) + 1, last, True

    def describe(self, hole: Hole) -> str:
        return f"trades {hole.after + 1} to {hole.before - 1} ({self.size(hole)})"


class CandleSeries(TradeSeries):
    """v5 candles, by the time when they begin, in ms.

    {"ts":"1597026383085","o":"8533.02","h":"8553.74","l":"8527.17","c":"8548.26",…,"confirm":"0"}

    A bar is sent while it forms, then with confirm "1", which is final, as is a row without it. One
    that is not final when the next begins is missing, but may be a little late.
    """

    CHANNEL = re.compile(r"(mark-price-|index-|sprd-)?candle(\d+)([smHDWM])(utc)?")
    UNLISTED = r"(.+-)?candle5D|.+-candle1s|(mark-price|index)-candle[23]D"  # by REST (docs-v5, August 2026)
    UNITS = {"s": 1, "m": 60, "H": 3600, "D": 86_400, "W": 604_800, "M": 2_628_000}  # a month on average
    patience = 2.0

    def __init__(self, channel: str, filler: Any = None):
        super().__init__(channel, filler)
        [(market, number, self.unit, utc)] = self.CHANNEL.findall(channel)
        self.step = int(number) * self.UNITS[self.unit] * 1000
        path = "sprd-history-candles?sprdId" if market == "sprd-" else f"history-{market}candles?instId"
        self.path = f"{path}={self.instrument}&bar={number}{self.unit}{utc}"
        if re.match(self.UNLISTED, channel):
            self.path = ""

    def take(self, rows: Rows, action: str = "") -> Rows:
        taken = self.judge(Keeper.take(self, rows, action))
        return final_rows(taken) if self.final else taken

    def owes(self, clock: float) -> bool:
        """Also whether a bar of a minute or longer is not final 15 s after its end."""
        bars = 2 if self.last == self.time else 1  # from the newest beginning to the next end
        late = (self.time + bars * self.step) / 1000 + (2 * 86_400 if self.unit == "M" else 15)
        due = max(late, self.looked + max(60, self.step / 1000))
        return super().owes(clock) or (self.time and self.unit != "s" and clock >= due)

    def span(self, row: Any) -> tuple[int, int, bool]:
        begin = int(row["ts"])
        return begin, begin, row.get("confirm", "1") == "1"

    def describe(self, hole: Hole) -> str:
        size, form, end = self.size(hole), "%Y-%m-%dT%H:%M:%SZ", hole.before
        if self.unit == "M":
            form, end = "%Y-%m", end + 15 * 86_400_000  # surely in that month
        first, last = (strftime(form, gmtime((end - bars * self.step) / 1000)) for bars in (size, 1))
        return f"candles {first} to {last} ({size})"


def series_of(channel: str) -> type[TradeSeries] | None:
    """What finds holes in a channel's rows; None if they have no such numbers."""
    kind = channel.partition(":")[0]
    if kind in ("trades", "trades-all"):
        return TradeSeries
    return CandleSeries if CandleSeries.CHANNEL.fullmatch(kind) else None


def final_rows(rows: Rows) -> Rows:
    return [row for row in rows if row.__class__ is not dict or row.get("confirm") != "0"]


def give_rows(ws: OkexWS, channel: str, rows: Rows) -> None:
    """Sinks and the handler get rows: live ones, or fetched, or replayed."""
    if not rows:
        return
    try:
        if ws._recorder.writers:  # the handler may change its own rows
            ws._recorder.record(ws.replayed_at or wall_clock(), channel, from_json(to_json(rows)))
        ws.handler(channel, rows)
    except Exception as error:
        ws.counts["handler errors"] += 1
        kind = type(error).__name__
        said = f"The handler failed with {kind} on {channel}. Said once, counted each time."
        ws._say_once(said, kind, traceback=True)


def history_of(channel: str, since: str | float) -> float:
    """Seconds (7200.0, "2h") or, as an int, rows (200, "200") to fetch first; 0 if REST has none."""
    kind = series_of(channel)
    if not since or not kind or not kind(channel).path:
        return 0.0
    text = str(since)
    with suppress(ValueError):
        return int(text) if text.isdecimal() else length_of_time(text)
    raise ValueError(f"since={since!r} is neither a length of time, like 2h, nor a number of rows")


class Filler:
    """Fetches by REST what a client's series miss, on its own thread: first holes, then newest rows."""

    def __init__(self, ws: OkexWS, fill: float):
        self.ws, self.counts = ws, ws.counts
        self.fill = fill  # seconds back at most; 0 for not at all
        self._jobs: Rows = []  # whether it is a look, when its next step is due, steps
        self._fetched = deque[Iterator[bool]]()  # each hands over some rows
        self._thread = daemon_thread("filler", self._run)
        self._failing = False
        self._answered = 0.0  # when REST last did, by the exchange's clock

    def ask(self, series: TradeSeries, hole: Hole, patience: float = 0.0) -> None:
        """Have a hole filled, unless what is missing comes within so many seconds."""
        oldest = (self.ws.exchange_time() if hole.look else int(series.time) / 1000) - self.fill
        if hole.after < 0:
            oldest = series.begun - series.reach_back()
        self._jobs.append([bool(hole.look), monotonic() + patience, self._steps(series, hole, oldest)])
        if self._thread.ident is None:
            self._thread.start()

    def check(self) -> None:
        """Once a second: look where a row should have come, and fetch histories."""
        clock = self.ws.exchange_time()
        for entry in self.ws._subscriptions:
            if not isinstance(series := entry.keeper, TradeSeries) or entry.state != "confirmed":
                continue
            series.since, series.begun = min(series.since, clock), series.begun or clock
            if series.looked < inf and (series.history or (self.fill and series.owes(clock))):
                series.looked, series.quiet, self._answered = inf, False, clock
                after = -1 if series.history or not series.last else series.last
                self.ask(series, Hole(after, NEWEST, entry))
            late = clock > self._answered + 10 and not self._fetched
            if series.held is not None and (late or len(series.held) > 10_000):
                what = "its history takes long: live rows go ahead, then what no sink has of it"
                self.ws._say_once(f"{series.channel}: {what}.", "history")
                give_rows(self.ws, series.channel, series.release())

    def end(self) -> None:
        """Name what the run leaves missing. From any thread, if the reading one hangs."""
        for entry in self.ws._subscriptions:
            if not isinstance(series := entry.keeper, TradeSeries):
                continue
            self.give_up(series, series.holes, "the run ended first")
            if self.fill and (series.looked == inf or (series.quiet and series.last is not None)):
                self.counts["channels not looked up"] += 1
                CHORUS.log(f"{series.channel}: newest rows were not looked up.", "not looked up")
        self.fill = 0.0

    def _run(self) -> None:
        """Take one step at a time: of the hole that waits longest, or else of a look."""
        while not self.ws._stop.is_set():
            ready = [job for job in [*self._jobs] if job[1] <= monotonic()]
            job = min(ready, default=None, key=lambda job: job[:2])
            if not job:
                pause(0.05)
            elif (rest := next(job[2], None)) is None:
                self._jobs.remove(job)
            else:
                job[1] = monotonic() + rest

    def _steps(self, series: TradeSeries, hole: Hole, oldest: float) -> Iterator[float]:
        """Fetch a hole's rows, page by page, backwards. Yields the seconds to the next step."""
        why = "" if series.path else "REST has no such candles"
        if not hole.look:
            if not series.parts(hole):  # it was only late
                return
            self.counts["holes"] += 1
            why = why or "filling is off" * (not self.fill)
            if not why:
                CHORUS.log(f"{series.channel}: missing {series.describe(hole)}. Asking REST.", "missing")
                yield 0.0  # all holes are told of before the first is filled
        most = series.history if hole.look and isinstance(series.history, int) else MAX_RESTORED
        found, left, failures = dict[int, str](), hole, 0  # newest first, as JSON
        while not why and not series.dropped and series.size(left) > 0:
            try:
                page = self._fetch(series, left)
            except Exception as error:
                failures += 1
                trouble = explain(error, self.ws._route.url)
                odd = isinstance(error, ODD_ROW) and not isinstance(error, OSError)
                if odd and trouble.partition(" ")[0] not in TRANSIENT:
                    why = trouble * (failures >= FILL_TRIES)
                elif not self._failing:
                    self._failing = True
                    okex_log.warning(f"{series.channel}: {trouble}. Trying again.")
                yield 0.0 if why else min(MAX_RETRY, 2 ** (failures - 1))
                continue
            if not page:
                break
            if hole.before == NEWEST:
                hole = hole._replace(before=min(max(page) + series.step, series.live))
            inside = [number for number in sorted(page, reverse=True) if hole.after < number < hole.before]
            wanted = [number for number in inside if page[number][0] >= oldest * 1000][: most - len(found)]
            found |= {number: to_json(page[number][1]) for number in wanted}
            left, failures = left._replace(before=min(*page, hole.before)), 0
            if len(found) == most:
                why = f"more than {most} rows"
            elif wanted != inside:
                why = "older than is to be filled"
            if len(found) % 5000 < len(wanted):
                back = strftime("%H:%M:%S", localtime(page[wanted[-1]][0] / 1000))
                okex_log.warning(f"{series.channel}: {len(found)} missing rows fetched, back to {back}.")
            yield 0.0
        if why and hole.look and (failures or not series.path):
            self.ws._say_once(f"{series.channel}: REST does not tell its rows: {why}.")
        self._fetched.append(self._restored(series, hole, found, why))

    def _fetch(self, series: TradeSeries, hole: Hole) -> Any:
        """End in ms and row, by number, of a hole's last rows. Raises an error for a useless page.

        {"instId":"BTC-USDT","tradeId":"2972052352","px":"85073.1","sz":"0.01","side":"sell","ts":"1791102065937"}
        ["1597026383085","8533.02","8553.74","8527.17","8548.26","45247","529.58","5529.58","1"]
        """
        for _ in range(1 + ("index-" in series.path)):  # OKX takes 5 a second
            self.ws._stop.wait(FILL_PACE.turn())
        newest, found = hole.before == NEWEST, {}
        after = "" if newest else f"&after={hole.before + 1}"
        answer = self.ws._route.get(f"/api/v5/market/{series.path}{after}&limit=100")
        for row in Keeper.take(series, answer, ""):
            with suppress(*ODD_ROW):
                row = {**row, "restored": True}
                if series.counted:
                    row["count"] = "1"
                _, number, final = series.span(row)
                if final and row.get("instId") in (None, series.instrument):
                    found[number] = int(row["ts"]) + series.step, row
        below = {number: row for number, row in found.items() if number < hole.before}
        if not below and (newest or hole.after < 0):
            return below  # there was none yet, or none before a history's first
        if not below or (not newest and series.size(Hole(max(found), hole.before)) > 0):
            raise ValueError("REST does not list such rows")  # yet: servers lag
        if self._failing:
            okex_log.warning("REST answers again.")
        self._failing, self._answered = False, self.ws.exchange_time()
        return below

    def hand_over(self) -> bool:
        """Hand over some of what was fetched, on the reading thread; whether there was any."""
        while self._fetched:
            if next(self._fetched[0], False):
                return True
            self._fetched.popleft()
        return False

    def _restored(self, series: TradeSeries, hole: Hole, found: dict[int, str], why: str) -> Iterator[bool]:
        """Hand over what was fetched for a hole, lowest first; then tell what stays missing."""
        history, fetched, count = series.history if hole.look else 0, len(found), 0
        listed = next(reversed(found), hole.before)
        if hole.after < 0:
            hole = hole._replace(after=listed - series.step)
        if hole.look and hole.before < NEWEST:
            series.reach(hole)
            self.counts["holes"] += len(series.parts(hole)) * (not history)
        while found and not series.dropped:
            few = [from_json(found.popitem()[1]) for _ in range(10) if found]  # live ones wait
            rows = lost = series.restore(few)
            if hole.look and not history:  # bars may lack trades, indices a volume
                lost = [row for row in rows if str(row.get("vol", "1")).strip("0.")]
                ends = ((int(row["ts"]) + series.step) / 1000 for row in lost)
                if any(series.since + 5 <= end <= self.ws.exchange_time() - 15 for end in ends):
                    self.ws._resubscribe(hole.look, "REST has rows that did not come", late=True)
            count += len(lost)
            self.counts["rows restored"] += len(rows)
            give_rows(self.ws, series.channel, rows)
            yield True
        if series.dropped:
            return
        unlisted = [part for part in series.parts(hole) if not why or part.before > listed]  # never public
        gone = sum(map(series.size, unlisted))
        kind = "rows of history" if history else "missing rows restored"
        text = plural(count, kind)
        if isinstance(history, int) and fetched < history:
            text += f", not {history}; the others: {why or 'not listed by REST'}"
        if gone:
            text += f"; {gone} do not exist, since REST does not list them"
        if count or gone or history:
            CHORUS.log(f"{series.channel}: {text}.", kind, logging.INFO)
        self.give_up(series, unlisted)
        self.give_up(series, series.parts(hole), why)
        if hole.look:
            series.looked, series.history, series.live = self.ws.exchange_time(), 0.0, NEWEST
            if series.held is not None:
                give_rows(self.ws, series.channel, series.release())

    def give_up(self, series: TradeSeries, holes: Rows, why: str = "") -> None:
        """Wait for these no more, and say why, if they exist."""
        series.holes = [hole for hole in series.holes if hole not in holes]
        for hole in holes if why and not series.dropped else ():
            self.counts["missing"] += series.size(hole)
            text = f"{series.channel}: {series.describe(hole)} stay missing: {why}"
            okex_log.warning(f"{text}.")
            self.ws._notify(GAP, text)


# ---------------------------------------------------------------------------------------------------------------
# Account: secrets, the login, and orders.

known_secrets: list[str] = []  # in every spelling: none is printed
recent_signatures: deque[str] = deque(maxlen=16)  # one is good for 30 s


def hide_secret(secret: str) -> None:
    """Keep a secret out of what is printed, in JSON, in JSON in JSON and in a URL, too."""
    if len(secret) >= 4:  # no key is as short, and every "a" would become ***
        in_json = to_json(secret)[1:-1]
        spellings = {secret, in_json, to_json(in_json)[1:-1], quote_url(secret, safe="")}
        # The longest first, or a part of one could be left.
        known_secrets[:] = sorted(spellings.union(known_secrets), key=len, reverse=True)


def mask_secrets(text: str) -> str:
    for secret in (*known_secrets, *recent_signatures):
        text = text.replace(secret, "***")
    return text


def mask_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = mask_secrets(record.getMessage()), None
    if record.exc_info:
        record.exc_text = mask_secrets(logging.Formatter().formatException(record.exc_info))
    return True


okex_log.addFilter(mask_record)


class Credentials:
    """An API key. v1 needs no passphrase. Nothing of it shows in a repr, a log or an error."""

    VARIABLES = ("OKX_API_KEY", "OKX_SECRET_KEY", "OKX_PASSPHRASE")

    def __init__(self, api_key: str, secret_key: str, passphrase: str = ""):
        self.api_key, self.secret_key, self.passphrase = api_key, secret_key, passphrase
        for secret in vars(self).values():
            hide_secret(secret)

    def __repr__(self) -> str:
        return "Credentials(***)"

    @classmethod
    def from_environment(cls) -> "Credentials":
        """From the environment; what is not set is empty."""
        return cls(*(os.environ.get(name, "") for name in cls.VARIABLES))


class LoginError(Exception):
    """The exchange refused the first login. Trying again could lock the key out."""


class OrderError(Exception):
    """An order request failed, wholly or in part; `data` has the exchange's answer for each order.

    `code` and `message` are those of the request, or of the first order that failed.
    `unknown`: nobody knows what became of it.
    """

    def __init__(self, code: str, message: str, data: Sequence[Any] = (), unknown: bool = False):
        self.code, self.message, self.data, self.unknown = code, message, list(data), unknown
        texts = [reason_of(code, message).strip() if code else message]
        for leg in data:
            leg_code, leg_message = leg.get("sCode", "0"), leg.get("sMsg", "")
            more = f" (subCode {leg['subCode']})" if leg.get("subCode") else ""
            texts.append(reason_of(leg_code, leg_message) + more)
            if leg_code != "0" and self.code in ("", "0", "1", "2"):
                self.code, self.message = leg_code, leg_message
        fate = ": its fate is unknown, ask the exchange before sending it again" if unknown else ""
        super().__init__(mask_secrets("; ".join(filter(None, texts)) + fate))


class Login:
    """A client's login, once on each connection."""

    worked = done = False  # on an earlier connection; on this one
    pending = 0.0  # monotonic: when the login under way is late; 0 if none is
    why = "not logged in"  # why no order can leave, if none can
    wait = 0.0  # seconds from the latest refusal to the next try
    ahead = 0.0  # seconds that the exchange's clock is ahead of this one
    _unsafe = ""  # a URL over which others could read the keys

    def __init__(self, dialect: Dialect, keys: Credentials | None, lines: Options, for_orders: bool):
        self.dialect = dialect
        self.credentials = keys or Credentials.from_environment()
        self.for_orders = for_orders  # whether to log in though no channel needs it
        self.complete = threading.Event()  # orders may go
        for url, proxy in lines.items():
            parts = urlsplit(url)
            hide_secret(parts.password or "")
            inside = proxy is DIRECT and is_loopback(parts.hostname or "")
            if parts.scheme != "wss" and not inside:
                self._unsafe = passwordless(url)

    def demand(self, what: str) -> None:
        """Raise ValueError without keys, or where others could read them."""
        keys = self.credentials
        values = keys.api_key, keys.secret_key, keys.passphrase or self.dialect is V1
        missing = [name for name, value in zip(keys.VARIABLES, values) if not value]
        if missing:
            raise ValueError(f"{what} needs an API key: set {', '.join(missing)}")
        if self._unsafe:
            raise ValueError(f"{what}: keys are not sent over {self._unsafe}, use wss://")

    def reset(self) -> None:
        self.worked |= self.done
        self.done, self.pending = False, 0.0
        self.complete.clear()

    def learn_time(self, date: str) -> None:
        """How far this clock is off, by a handshake's Date."""
        from email.utils import mktime_tz, parsedate_tz  # slow to import

        parts = parsedate_tz(date)
        ahead = mktime_tz(parts) + 0.5 - wall_clock() if parts else 0.0
        before, self.ahead = self.ahead, ahead if abs(ahead) >= 5.0 else 0.0
        if self.ahead and not before:
            off = f"{abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'}"
            okex_log.warning(f"This clock is {off} the exchange's, which counts.")

    def request(self, now: float, exchange_time: float) -> str:
        text = self.dialect.login(self.credentials, exchange_time)
        recent_signatures.extend(re.findall(r'"([^"]{20,})"', text))
        self.pending = now + CONFIRM_TIMEOUT
        return text

    def refused(self, event: WireEvent) -> Exception:
        """An error that ends the run, or a reason to wait and try again."""
        sent = "\n".join((*known_secrets, *recent_signatures))
        said = mask_secrets(re.split(r"[{\[]", event.message)[0])  # no echo of it all
        said = re.sub(r"[\w+/]{4,}", lambda word: "***" if word[0] in sent else word[0], said)
        key = f"the key …{self.credentials.api_key[-4:]}"
        self.why = f"the exchange refused the login with {key}: {reason_of(event.code, said)}"
        passes = event.code in TRANSIENT
        if not passes and not self.worked:
            return LoginError(self.why)
        self.wait = min(MAX_RETRY if passes else 600.0, 2.0 * self.wait or 1.0)  # 1, 2, 4, …
        return Reconnect(self.why)


def decimal_digits(value: Any) -> str:
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"  # and not 1E-8
    raise ValueError(f"an order cannot hold {value!r}")


def sendable_orders(op: str, args: Any, expires: float | None) -> list[Row]:
    """A copy of the orders of a request. Raises ValueError for what must not be sent."""
    if "algo" in op:
        raise ValueError(f"{op}: the exchange documents it for REST alone")
    may_expire = re.fullmatch("(batch-)?(amend-)?orders?", op)
    if expires is not None and not (may_expire and 2.0 <= expires < inf):
        raise ValueError("expires is for orders and amendments, and at least 2 seconds")
    strict = JSONEncoder(allow_nan=False, default=decimal_digits)
    try:
        orders: Rows = json_loads(strict.encode([args] if isinstance(args, dict) else args))
        if any({"instId", "instIdCode"} <= {**order}.keys() for order in orders):
            raise ValueError("an order has instId or instIdCode, not both")
    except TypeError as error:
        raise ValueError(f"an order is a dict that JSON can hold: {error}") from None
    return orders


class Orders:
    """Order requests under way: a queue for the answer of each, or why there is none."""

    def __init__(self, ws: OkexWS):
        self._ws = ws
        self._ids = itertools.count(1)
        self._codes: dict[str, int] = {}  # instIdCode by instId
        self._answers: dict[str, SimpleQueue[WireEvent | str]] = {}  # by request id

    def request(self, op: str, args: Any, timeout: float, expires: float | None) -> Rows:
        """Send a request for orders while there is a login, and wait for its answer."""
        orders, began = sendable_orders(op, args, expires), monotonic()
        leave_by = began + min(timeout, expires or timeout)
        self._wait_for_login(leave_by)
        for order in orders:
            if "instId" in order:
                order["instIdCode"] = self._code(order.pop("instId"), leave_by)
        id = f"o{next(self._ids)}"
        message: Row = {"id": id, "op": op, "args": orders}
        if expires:
            end = self._ws.exchange_time() + began + expires - monotonic()
            message["expTime"] = f"{1000 * end:.0f}"
        waiting = self._answers[id] = SimpleQueue()
        try:
            self._wait_for_login(0.0)  # it may have gone meanwhile
            self._ws.send(to_json(message))
            answer = waiting.get(timeout=max(0.0, began + timeout - monotonic()))
        except Empty:
            answer = f"no answer within {timeout:g} s"
        except websocket.WebSocketConnectionClosedException as error:
            raise OrderError("", f"{error}: nothing was sent") from None
        except (OSError, websocket.WebSocketException) as error:
            answer = explain(error, self._ws._route.url)
        finally:
            self._answers.pop(id, None)
        if isinstance(answer, str):
            raise OrderError("", answer, unknown=True)
        codes = {answer.code, *(leg.get("sCode", "0") for leg in answer.rows)}
        if codes == {"0"}:
            return answer.rows
        if "51001" in codes:  # a new instIdCode? The next order looks it up
            self._codes.clear()
        unknown = bool(codes & {"50004", "51149", "64007"})  # neither success nor failure
        raise OrderError(answer.code, answer.message, answer.rows, unknown)

    def answered(self, event: WireEvent) -> bool:
        """Pass an answer on; False if nobody waits for it."""
        if waiting := self._answers.get(event.id):
            waiting.put(event)
        return bool(waiting)

    def lost(self) -> None:
        for waiting in list(self._answers.values()):
            waiting.put("the connection was lost before the answer came")

    def _wait_for_login(self, end: float) -> None:
        """Wait for the first login; later, an order leaves at once or not at all."""
        login = self._ws._login
        if not login.complete.wait(0.0 if login.worked else end - monotonic()) or not login.done:
            raise OrderError("", f"{login.why}: nothing was sent")

    def _code(self, instrument: str, end: float) -> int:
        """What an order has instead of instId since 2026. Raises OrderError."""
        if instrument not in self._codes:
            try:
                row = self._ws._route.instrument(instrument, end - monotonic())
                if monotonic() >= end:
                    raise TimeoutError
                code = int(row.get("instIdCode") or 0)
                if code <= 0:
                    raise ValueError("the exchange's answer has none")
                self._codes[instrument] = code
            except Exception as error:
                why = f"no instIdCode for {instrument}: {explain(error, self._ws._route.url)}"
                raise OrderError("", f"{why}: nothing was sent") from None
        return self._codes[instrument]


# ---------------------------------------------------------------------------------------------------------------
# Network: what went wrong in words, proxies, the exchange's REST API, and lines to the exchange.

# Or websocket-client would ask the environment; no_proxy=* does not count unless a proxy is named.
DIRECT = {"http_proxy_host": "none", "http_no_proxy": ["*"], "proxy_type": "http"}


def explain(error: BaseException, url: str, proxy: Options = DIRECT) -> str:
    """Why a connection failed: by DNS, TCP, TLS, proxy or HTTP."""
    host = next_hop = urlsplit(url).netloc.rpartition("@")[2]
    port = port_of(url)
    if port == 8443 and "/v5/" in url:  # v3 has it in its own URL
        next_hop += " (OKX closed port 8443 on 2026-10-31: leave the port out)"
    if proxy is not DIRECT:
        next_hop = f"the proxy {proxy['http_proxy_host']}:{proxy['http_proxy_port']}"
    detail = getattr(error, "strerror", "") or str(error)  # rather without [Errno 101]
    detail = printable_text(detail).rstrip(".") or type(error).__name__
    match error:
        case websocket.WebSocketAddressException():
            return f"DNS cannot resolve {next_hop}"
        case websocket.WebSocketBadStatusException(status_code=status):
            hint = {403: ": blocked?", 404: ": wrong path"}.get(status, "")
            return f"HTTP {status} from {host}{hint}"
        case _ if "Proxy" in type(error).__name__:  # websocket-client's, or python-socks'
            return f"the proxy failed: {detail}"
        case ssl.SSLError():
            detail = re.sub(r"^\[.*?\] | \(_ssl.*", "", detail)  # [SSL: X] … (_ssl.c:1006)
            plain = "; does it speak ws://?" if port not in (None, 443, 8443) else ""
            return f"TLS with {host} failed: {detail}{plain}"
        case ConnectionRefusedError():
            return f"{next_hop} refused the connection"
        case websocket.WebSocketTimeoutException() | TimeoutError():
            return f"{next_hop} did not answer in time"
    return detail


def is_loopback(host: str) -> Any:
    return re.fullmatch(r"localhost|::1|127(\.\d+){3}", host)


def proxy_options(proxy: str | None, url: str) -> Options:
    """For run_forever: the proxy asked for, or else that of the environment or the system."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if proxy is None and not is_loopback(host):
        from urllib.request import getproxies, proxy_bypass  # slow to import

        known = {} if proxy_bypass(host) else getproxies()
        proxy = known.get(parts.scheme.replace("ws", "http")) or known.get("all")
    if not proxy:
        return DIRECT
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    parts, port = urlsplit(proxy), port_of(proxy)
    if not (re.fullmatch("http|socks4a?|socks5h?", parts.scheme) and parts.hostname and port):
        raise ValueError("a proxy is written http://host:port, or with socks5:// or socks5h://")
    if parts.scheme != "http" and not websocket._http.HAVE_PYTHON_SOCKS:
        raise ImportError("a SOCKS proxy needs python-socks: pip install python-socks")
    return {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": port,
        "http_proxy_auth": (unquote(parts.username or ""), unquote(parts.password or "")),
        "http_proxy_timeout": CONNECT_TIMEOUT,
        "http_no_proxy": ["-"],  # its own idea of no_proxy does not count
        "proxy_type": parts.scheme,
    }


def connect_as_websocket(url: str, proxy: Options, timeout: float, **tls: Any) -> Any:
    """A socket connected as the WebSocket's: same proxy, same certificates; and host, port and path."""
    from websocket._http import connect, proxy_info

    options = websocket.sock_opt([], tls)
    options.timeout = timeout  # for each step
    return connect(url, options, proxy_info(**proxy), None)  # type: ignore[no-untyped-call]


class Rest:
    """The lines to a channel's endpoint, and the public REST API beside each."""

    def __init__(self, channel: str, proxy: str | None, *where: Any):
        self.where = where  # url, region and simulated, see endpoint_of
        self.lines = {line: proxy_options(proxy, line) for line in lines_of(channel, *where)}
        self.use(self.lines)

    def use(self, lines: Iterable[str]) -> None:
        """Go by the first of these lines; REST by the next, too, where one fails."""
        self.lines = {line: self.lines[line] for line in lines}
        self.url, self.proxy = next(iter(self.lines.items()))

    def get(self, path: str, timeout: float = CONNECT_TIMEOUT) -> Any:
        """GET the data of {"code":"0","msg":"","data":[…]}.

        OSError with all that failed, ValueError if it is refused, LookupError for nothing.
        """
        from http.client import HTTPConnection  # slow to import

        agent = f"okex_ws/{__version__}"  # or the exchange refuses
        headers = {"User-Agent": agent, "x-simulated-trading": f"{self.where[-1]:d}"}
        patience, troubles = min(timeout / len(self.lines), CONNECT_TIMEOUT), list[str]()
        for line, proxy in self.lines.items():
            own = origin_of(line)
            known = (f"ws{rest[4:]}" for *hosts, rest in REGIONS.values() if own in hosts)
            url = next(known, own) + path  # other hosts serve both
            try:
                sock, (host, port, target) = connect_as_websocket(url, proxy, patience)
                with closed_after(HTTPConnection(host, port)) as connection:
                    connection.sock = sock
                    connection.request("GET", target, headers=headers)
                    response = connection.getresponse()
                    text = response.read(MAX_MESSAGE + 1)
                with suppress(*ODD_ROW):  # often it is a web page
                    answer = from_json(text.decode())
                    code, message, data = answer["code"], answer["msg"], answer["data"]
                    break
                troubles.append(f"{host} answered unlike the exchange: HTTP {response.status}")
            except Exception as error:
                troubles.append(explain(error, url, proxy))
        else:
            raise OSError("; ".join(troubles))
        if code != "0":
            raise (LookupError if code == "51001" else ValueError)(f"{code} {message}")
        return data

    def instrument(self, id: str, timeout: float = CONNECT_TIMEOUT) -> Row:
        """An instrument as the exchange lists it. Raises LookupError, or what `get` raises."""
        type, series = V5.instrument_type(id), re.split(r"-\d{6}-", id)[0]  # BTC-ABOVE-DAILY
        more = {"OPTION": f"&instFamily={family_of(id)}", "EVENTS": f"&seriesId={series}"}.get(type, "")
        path = f"/api/v5/public/instruments?instType={type}{more}&instId={id}"
        with suppress(LookupError):
            for row in self.get(path, timeout) or []:
                if row["instId"] == id:
                    return dict(row)
        raise LookupError(f"the exchange lists no {id}")


class Pace:
    """Turns at least so many seconds apart, of all clients: limits are per IP."""

    _next = 0.0  # monotonic

    def __init__(self, spacing: float):
        self.spacing = spacing
        self._lock = threading.Lock()  # guards _next

    def turn(self) -> float:
        """Take the next one: the seconds until it comes."""
        with self._lock:
            now = monotonic()
            turn = max(now, self._next)
            self._next = turn + self.spacing
        return turn - now


class Route(Rest):
    """Which of its lines a client uses, and when it leaves one: one client after another."""

    every = 60.0  # seconds from one measurement of a line to the next
    # By line, its last three times to connect, the latest first, in seconds; inf without an answer.
    times = defaultdict[str, tuple[float, ...]](lambda: (inf, inf, inf))
    due = defaultdict[str, float](float)  # by line: when it may be measured again
    measuring = threading.Lock()  # guards both, of all clients
    goal = ""  # the line to go to; this one, if the exchange closes it
    leave_at = inf  # monotonic: when it may be left
    connect_at = inf  # monotonic: the turn to connect at which it is left
    moved = -inf  # monotonic: when the line last changed

    def check(self, ws: OkexWS, now: float) -> None:
        """Raise Reconnect if it is the client's turn to leave a server that closes, or is slow.

        The turn to connect is taken first, and until it comes the line is read. While an order waits
        for its answer it stays: for 5 s where the server closes, and else for ever.
        """
        orders, login = ws._orders._answers, ws._login
        closing = self.goal == self.url
        if not closing:
            self.goal = self.faster(now)
        if not self.goal or (orders and not closing):
            self.leave_at = self.connect_at = inf
        elif self.leave_at == inf:
            self.leave_at = now + LEAVE_PACE.turn()
        elif now >= self.leave_at and self.connect_at == inf:
            self.connect_at = now + CONNECT_PACE.turn()
        if now >= self.connect_at:
            login.complete.clear()  # so that no order follows
            if not orders or (closing and now >= self.connect_at + 5.0):
                upgrade = "64008: the exchange announced a service upgrade"
                raise Reconnect(upgrade if closing else "another line is faster")
            login.complete.set()

    def change(self) -> None:
        """After a connection, go to its goal, or from a line that failed to the next."""
        here, *others = self.lines
        if self.goal not in ("", here):
            line = passwordless(origin_of(self.goal))
            times = [1000 * self.times_of(line)[0] for line in (self.goal, here)]
            okex_log.info("Changing to %s (%.0f ms, here %.0f ms).", line, *times)
        self.use(sorted([*others, here], key=lambda line: line != self.goal))
        self.goal, self.leave_at, self.moved = "", inf, monotonic()

    def times_of(self, line: str) -> tuple[float, ...]:
        return self.times[origin_of(line)]

    def faster(self, now: float) -> str:
        """A line three times in a row twice as fast, and by 20 ms; "" within 10 minutes of a change."""
        here, *others = self.lines
        for line in sorted(others, key=self.times_of) if now - self.moved >= 600.0 else ():
            pairs = zip(self.times_of(line), self.times_of(here))
            if all(max(2 * there, there + 0.02) <= seconds < inf for there, seconds in pairs):
                return line
        return ""

    def begin(self, end: threading.Event) -> None:
        """Use the fastest line. All are measured until the client ends."""

        def follow() -> None:
            while not end.wait(self.every):
                self.measure()

        self.measure()
        self.use(sorted(self.lines, key=self.times_of))
        daemon_thread("lines", follow).start()

    def measure(self) -> None:
        """Connect to each line, TCP and TLS, unless another client did so within a minute."""
        for url, proxy in self.lines.items():
            line, seconds = origin_of(url), inf
            with self.measuring:
                if monotonic() < self.due[line]:
                    continue
                with suppress(Exception):
                    if proxy is DIRECT:  # no DNS counts
                        socket.getaddrinfo(urlsplit(line).hostname, None)
                    context = ssl.create_default_context(cafile=os.environ.get("WEBSOCKET_CLIENT_CA_BUNDLE"))
                    pause(CONNECT_PACE.turn())
                    began = monotonic()
                    connect_as_websocket(line, proxy, 3.0, context=context)[0].close()
                    seconds = monotonic() - began
                self.times[line] = (seconds, *self.times[line][:2])
                self.due[line] = monotonic() + self.every


CONNECT_PACE = Pace(0.34)  # OKX accepts 3 a second per IP (docs-v5, 2026)
LEAVE_PACE = Pace(1.5)  # a line of 64008 has 60 s; nearly all books stay ready
FILL_PACE = Pace(0.125)  # OKX takes 10 a second per IP (docs-v5, 2026)


# ---------------------------------------------------------------------------------------------------------------
# Finding: what there is to receive, and what somebody may have meant.

INSTRUMENT = re.compile(r"(?!.{65})[\w.+]+(-[\w.+]+)+")
SYNONYMS = dict(re.findall(r"(\w+)=(\S+)", """
deals=trades executions=trades aggtrade=trades bbo=bbo-tbt best=bbo-tbt oi=open-interest
price=tickers last=tickers quote=tickers bookticker=tickers balance=account depth=books
orderbook=books level2=books l2=books depth5=books5 depth10=books5 depth20=books5
candle60s=candle1m candle60m=candle1H
"""))  # fmt: skip
old_bars = f"{V1.places['bar']} {V3.places['bar']}".split()
BARS = dict(zip(old_bars, 2 * "1m 3m 5m 15m 30m 1H 2H 4H 6H 12H 1D 1W 3D".split()))


def did_you_mean(problem: str, meant: Any) -> str:
    question = f" Did you mean {' or '.join(meant)}?" if meant else ""
    return printable_text(f"{problem}.{question}", 600)


def misnomer(channel: str) -> str:
    """Why a channel cannot exist, by its name alone; "" if it can, whatever its instrument."""
    channel = channel[:200]
    if re.fullmatch(r"([a-z]+/)?[a-z][\w-]*:\w+=[^*?[ ]*", channel):
        return ""  # a kind in no table may be new: new:instId=BTC-USDT
    name, _, argument = channel.partition(":")
    ways = [(name, argument)] if argument else []
    for sign in re.finditer("^|[:/=.,@ _-]+", channel):  # trades-BTC-USDT, btcusdt@trade
        left, right = channel[: sign.start()], channel[sign.end() :]
        ways += [way for way in ((left, right), (right, left)) if usual_spelling(way[1])]
    ways.append((name, argument))
    if re.fullmatch(r"[A-Za-z]{2,5}|[^:]*[*?[][^:]*", channel):
        ways.append(("", channel))  # an instrument alone
    for what, about in ways:
        names = nearest_names(what)
        meant = dict.fromkeys(channel_about(name, about) for name in names)
        if meant:
            break
    if channel in meant:
        return ""
    problem = f"{name or 'nothing'} is no kind of channel: --list shows them all"
    return did_you_mean(f"{channel} does not exist" if what in names else problem, meant)


def nearest_names(name: str) -> list[str]:
    """The names most like this one, of its generation; the usual ones for ""."""
    if not name:
        return "trades tickers candle1m books".split()
    dialect = likely_dialect(name.lower())
    if dialect.kind(name):
        return [name]
    plain = functools.partial(re.sub, "[^a-z0-9]", "")
    wanted, table = plain(name.lower()), dict(SYNONYMS)
    for known in itertools.chain(*map(dialect.names, dialect.kinds)):
        table.setdefault(plain(known.lower()), known)  # 1m rather than 1M
    if candle := re.fullmatch(r"(?:candles?|klines?|ohlcv?)(\d*[a-z]*)", wanted):
        wanted = f"candle{BARS.get(candle[1], candle[1])}".lower()
    longer = [other for other in table if other.startswith(wanted) and len(wanted) > 3]
    alike = [min(longer, key=len)] if longer else get_close_matches(wanted, table, 3, 0.75)
    return [table[other] for other in alike]


def channel_about(name: str, argument: str) -> str:
    """A channel of this kind about what was written behind the colon."""
    dialect = likely_dialect(name)
    kind, argument = dialect.kind(name), re.sub(r"[\s'\"]", "", argument)
    if re.fullmatch(r"\w+=[^*?[]*" + r"|[A-Z0-9-]{1,64}" * (dialect is V3), argument):
        return f"{name}:{argument}"
    if not kind or dialect is V1:
        return name
    argument = re.sub(".*=|,.*", "", argument).upper()
    example, pair = kind.argument, usual_spelling(argument)
    if example == "instType=ANY" and pair:
        return f"{name}:instType={V5.instrument_type(pair)},instId={pair}"
    one = re.fullmatch("[^=_]+", example)  # instrument, no filter, no spread
    if one and is_pattern(argument) and dialect is V5:
        return f"{name}:{argument}"
    legs = re.split(r"_(?!UM[_-]|XPERP-)", argument)  # of BTC-USDT_BTC-USDT-SWAP
    about = pair or "_".join(usual_spelling(leg) or leg for leg in legs)
    if "=" in example or not INSTRUMENT.fullmatch(about):
        about = (one and usual_spelling(f"{argument}USDT")) or example
    if name.startswith("swap/") or (dialect is V5 and not fits(kind.more, about)):
        family = family_of(about)
        other = {"INDEX": family.removesuffix("_UM"), "SPREAD": example}
        about = other.get(kind.more, f"{family}-SWAP")
    return f"{name}:{about}".rstrip(":")


def fits(types: str, instrument: str) -> bool:
    """Whether an instrument is of one of these types; an X-Perp is a swap that is listed as a future."""
    return V5.instrument_type(re.sub("_XPERP-.*", "-SWAP", instrument)) in f"{types} EVENTS"


def joined_channels(words: Iterable[str]) -> list[str]:
    """The channels in these words: ["trades", "BTC-USDT ETH-USDT"] is trades:BTC-USDT, trades:ETH-USDT."""
    channels = list[str]()
    for word in " ".join(words).replace(", ", " ").split():
        if channels and ":" not in word and (usual_spelling(word) or is_pattern(word)):
            kind, _, argument = channels[-1].partition(":")
            if names := nearest_names(kind):
                if not argument:  # this is what it lacks
                    channels.pop()
                word = channel_about(names[0], word)
        channels.append(word)
    return channels


def is_pattern(text: str) -> Any:
    return re.search(r"[*?[]", text)


def family_of(instrument: str) -> str:
    """BTC-USD for BTC-USD-SWAP, BTC-USD_UM for BTC-USD_UM_XPERP-310404."""
    return "-".join(instrument.split("-")[:2]).removesuffix("_XPERP")


def usual_spelling(text: str) -> str:
    """A pair or a contract as the exchange has it: BTC-USDT-SWAP for btcusdt-perp; "" if it is none."""
    parts = re.fullmatch(
        "(?!SWAP|USDTUSDT)([A-Z0-9]{2,20}?)"
        r"(?:[-/_.]?(USD[TCG]?|BTC|ETH|EUR|TRY|BRL|AUD|AED|SGD)((?:_UM)?(?:_XPERP)?))?"
        r"(?:[-/_.]?(SWAP|\d{6}(?:-\d+-[CP])?))?",
        re.sub("PERP(ETUAL)?$", "SWAP", text.upper()),
    )
    if not parts or not (parts[2] or parts[4]):
        return ""
    coin, quote, margin, contract = parts.groups("")
    return f"{'BTC' if coin == 'XBT' else coin}-{quote or 'USDT'}{margin}-{contract}".rstrip("-")


def todays_channel(channel: str) -> str:
    """What carries today what a channel of v1 or v3 did, dates left open, or ""."""
    name, _, id = channel.partition(":")
    kind, places = likely_dialect(channel).find(name)
    if not kind:
        return ""
    if "coin" in places:  # v1
        id = f"{places['coin']}-{places.get('quote', 'usd-000000')}".upper()
    id = re.sub(r"-\d{6}", "-YYMMDD", id or kind.argument)
    type, bar = name.partition("/")[0].upper(), BARS.get(places.get("bar", ""))
    today = kind.more.format(id=id, index=family_of(id), type=type, bar=bar)
    today = channel_about(*today.partition(":")[::2])
    return re.sub(r"([\w-]+-)YYMMDD.*", r"\g<0> (--list \1 shows the dates)", today)


class Finder:
    """The exchange's lists of what it trades, each fetched when first needed."""

    def __init__(self, rest: Rest):
        self.patterns: Options = {}  # what a client begins with: "wanted"
        self.live = functools.cache(self._fetch)
        self._rest = rest
        self._untold: Options = {}  # refusals by channel, until they are told

    def _fetch(self, types: str) -> dict[str, str]:
        """What is traded of these types, and its index: {"BTC-USD-SWAP": "BTC-USD"}."""
        live = {}
        for type in types.split():
            with suppress(LookupError):
                for row in self._rest.get(f"/api/v5/public/instruments?instType={type}"):
                    if row["state"] == "live" and INSTRUMENT.fullmatch(row["instId"]):
                        live[row["instId"]] = row.get("uly") or row["instId"]
        return live

    def names(self, types: str, like: str) -> list[str]:
        """All of these types; or, for an option or a pattern of some, those of its family."""
        option = re.fullmatch(r"(\w+-\w+)-(?:.*-)?(?:[CP]|\[[CP]+\])", like)
        live = self.live(f"OPTION&instFamily={option[1]}" if option else "SPOT SWAP FUTURES")
        if types == "INDEX":
            return sorted({*live.values()})
        return [name for name in live if fits(types, name)]

    def matching(self, channel: str) -> list[str]:
        """The channels that trades:*-USDT-SWAP stands for now; LookupError if there are none."""
        if wrong := misnomer(channel):
            raise ValueError(wrong)
        name, _, pattern = channel.partition(":")
        kind: Any = V5.kind(name)  # no other has lists
        names = self.names(kind.more, pattern)
        found = [f"{name}:{other}" for other in names if fnmatchcase(other, pattern)]
        if not found:
            raise LookupError(f"no instrument that is traded now matches {channel} (options by family: BTC-USD-*-C)")
        okex_log.info(f"{channel} matches {len(found)} instruments; later ones are not followed.")
        return found

    def look_up(self, found: Any) -> Iterator[str]:
        """Tell `found` what each pattern stands for; yield why there is no list, and retry."""
        while waiting := [*self.patterns]:
            try:
                channels = self.matching(waiting[0])
            except (OSError, ValueError, websocket.WebSocketException) as error:
                yield explain(error, self._rest.url, self._rest.proxy)
                continue
            if self.patterns.pop(waiting[0], ""):  # nobody has given it up meanwhile
                found(channels)

    def alternatives(self, channel: str) -> list[str]:
        """What somebody may have meant by a channel that the exchange refused."""
        name, _, wanted = channel.partition(":")
        kind = V5.kind(name)
        if not kind or misnomer(channel):  # which was told before
            return []
        if not kind.argument:
            return [name]
        names, turned = self.names(kind.more, wanted), "-".join(wanted.split("-")[::-1])
        margin = functools.partial(re.findall, "_UM|_XPERP")  # or it is another contract
        alike = [other for other in names if margin(other) == margin(wanted)]
        alike = [turned] if turned in names else get_close_matches(wanted, alike, 3, 0.75)
        return [f"{name}:{other}" for other in alike if wanted not in names]

    def suggest(self, channel: str, refusal: str) -> None:
        """Log a refusal as soon as it is known what may have been meant."""
        self._untold[channel] = refusal
        if len(self._untold) == 1:  # else a thread is at it
            daemon_thread("finder", self._tell, self.alternatives).start()

    def _tell(self, look_up: Any) -> None:
        while untold := [*self._untold]:
            channel, meant = untold[0], []
            with suppress(Exception):  # nobody needs a list that cannot be had
                meant = look_up(channel)
            if refusal := self._untold.get(channel):
                self._untold[channel] = ""  # until it is told, finish() waits
                okex_log.warning(did_you_mean(refusal, meant))
            self._untold.pop(channel, None)

    def finish(self) -> None:
        """Give what is looked up 3 s, and tell what was refused without it."""
        for _ in range(150):
            if self._untold:
                pause(0.02)
        self._tell(lambda _: [])


def find_channels(
    *patterns: str, url: Urls = None, region: str = "global", simulated: bool = False, proxy: str | None = None
) -> list[str]:
    """The channels that patterns (tickers:*-USDT-SWAP) stand for now, in the exchange's order.

    Raises LookupError if one matches nothing, ValueError if it cannot, OSError without a list.
    """
    finder = Finder(Rest(patterns[0], proxy, url, region, simulated))
    return list(dict.fromkeys(itertools.chain(*map(finder.matching, patterns))))


def instrument(
    id: str, *, url: Urls = None, region: str = "global", simulated: bool = False, proxy: str | None = None
) -> Row:
    """An instrument as the exchange lists it, looked up once by REST.

    {"instId":"BTC-USDT-SWAP","instIdCode":7,"state":"live","tickSz":"0.1","lotSz":"1","minSz":"1","ctVal":"0.01",…}
    Raises LookupError if there is none of this name, OSError or ValueError without an answer.
    """
    lines = tuple(lines_of(f"trades:{id}", url, region, simulated))
    return dict(listed_instrument(id, proxy, lines, region, simulated))


@functools.cache
def listed_instrument(id: str, *where: Any) -> Row:
    return Rest(f"trades:{id}", *where).instrument(id)


# ---------------------------------------------------------------------------------------------------------------
# Lines: what a row looks like to a person. Every channel is a row of LINE_FORMATS.

ROW_COLOURS = dict(re.findall("(.+?)=(.+?) ", "buy=32 bid=32 ▲=32 sell=31 ask=31 ▼=31 dim=2 bold=1 alarm=1;31 "))
shown_headings = {""}  # that print_rows has printed

# What a value is called in v5, v3 and v1; the first that has one counts.
ROW_NAMES = {
    what: [*names.split(), what]
    for what, names in re.findall(r"(\w[\w ]*): ([^|\n]+)", """
price: px fillPx bkPx eqPx trade_px tradeUnitPrice | mark: markPx mark_price
size: sz qty amount fillSz matchedSz tradeAmount | volume: vol | delta: deltaBS
trigger: triggerPx slTriggerPx tpTriggerPx moveTriggerPx ordPx trigger_price
bid: bidPx best_bid buy | ask: askPx best_ask sell | before: open24h open_24h
open: o | high: h | low: l | close: c | 24 h volume: vol24h base_volume_24h volume_24h vol
index: idxPx last futureIndex | highest: buyLmt | lowest: sellLmt | lot: lotSz
estimate: settlePx settlement_price data | tick: tickSz tick_size
rate: fundingRate funding_rate | next: nextFundingRate estimated_rate
funded: fundingTime funding_time | expires: expTime delivery | position: pos
volatility: markVol mark_vol | bid_vol: bidVol | ask_vol: askVol | code: code failCode
filled: accFillSz filled_size filled_qty deal_amount | average: avgPx avg_cost avgprice
pnl: upl unrealized_pnl realized_pnl totalPnl | equity: eq totalEq | final: confirm
liquidation: liqPx liquidation_price | balance: cashBal | profit: profit_real
available: availBal total_avail_balance avail_margin | deposit: keep_deposit
frozen: frozenBal hold | side: side posSide type tradeType | direction: position
id: clOrdId ordId order_id orderid orderId algoClOrdId algoId | auction: state
status: state | state: status | time: ts timestamp | begin: start_time | end: end_time
""")
}  # fmt: skip
ROW_WORDS = {  # a value of the exchange in words, which may be none
    what: dict(cell.partition(" ")[::2] for cell in cells)
    for what, *cells in table_rows("""
side | bid buy | ask sell | 1 long | 2 short | 3 end long | 4 end short
direction | 1 long | 2 short
state | -2 failed | -1 cancelled | 0 open | 1 partial | 2 filled | 3 submitting
    | 4 cancelling | partially_filled partial | order_failed failed
reduceOnly | true reduce-only | false
filled | 0
code | 0
cancelSource | 1
amendResult | 0 | 2 | -1 amend | 1 amend
final | 0 | 1 final
auction | call_auction auction | continuous_trading open
""")
}
ROW_ABOUT = "instId instrument_id sprdId contract_name ccy currency symbol instFamily uly instType".split()

# A pattern for a channel, and its columns: `price:12` is 12 wide and has a heading, `at=rate` is a value
# behind a label, `lot=` one behind its name, `=mark` a word. `account.details` is a list in the rows of account.
LINE_FORMATS = table_rows(r"""
option-trades | price:12 size:14 side vol=fillVol
fills|sprd-trades | price:12 size:14 side =fill
.*futureusd_trades|(sprd-|grid-sub-)?orders|.*[/_]order |
    price:12 size:8 side id done=filled reduceOnly state
orders-algo|algo-advance | trigger:12 size:8 side id ordType reduceOnly state
\w+/order_algo | trigger:12 size:14 side status=
(public-)?struc-block-trades | blockTdId:12 =block strategy
rfqs | status:12 =request id=rfqId until=validUntil
quotes | status:12 =quote id=quoteId until=validUntil
(.*[/_-])?(trades?(-all)?|deals)|.*_trade_\w+|.*\.legs | price:12 size:14 side
index.tickers?|.*_index | index:12 =index change=
block-tickers | vol24h:12 =in =blocks coins=volCcy24h
(sprd-)?tickers|.*[/_]ticker\w* | last:12 bid:14 ask:14 change:9
.*candle\w+|.*_kline_\w+ | open:12 high:7 low:7 close:7 volume:9 final
(sprd-)?(books\S*|bbo-tbt)|.*[/_]depth\w* | bid:12 size:10 ask:10 size:10 spread:6
(\w+/)?mark.price | mark:12 =mark
(\w+/)?price.(limit|range) | highest:12 lowest:14 =limits
(\w+/)?estimated.price|\w+_forecast_price | estimate:12 =estimated
(\w+/)?funding.rate | rate:12 =funding at=funded next=
open-interest | oi:12 =contracts =open coins=oiCcy
liquidation-orders\.details|\w+/liquidation | price:12 size:14 side =liquidated
adl-warning | status:12 fund=bal
call-auction-details | price:12 size:8 auction left=unmatchedSz ends=auctionEndTime
opt-summary|option/summary | volatility:12 =vol bid=bid_vol ask=ask_vol delta=
event-[\w-]+ | status:12 floor=floorStrike cap=capStrike outcome= settled=settleValue
(\w+/)?instruments | status:12 tick= lot= ends=expires
(\w+/)?status | status:12 title begin= end=
economic-calendar | actual:12 forecast:9 previous:9 at=date event
(grid-)?positions|liquidation-warning|.*\.(posData|holding)|option/position |
    position:12 average:11 side pnl= liq=liquidation
\w+_positions\.positions | hold_amount:12 average:11 direction pnl=
futures/position | long_qty:12 long_avg_cost:14 =long short=short_qty
swap/position | margin_mode:12 =margin
account | equity:12 =dollars =in =all
account\.details|(swap|option)/account|futures/account\.[A-Z-]+ |
    equity:12 =equity available= frozen= margin=margin_mode
account-greeks | delta:12 =delta gamma=gammaBS theta=thetaBS vega=vegaBS
.*\.balData|spot/account|.*\.currency | balance:12 =balance available= hold=frozen
balance_and_position | eventType:12
spot/margin_account | liquidation:12 =liquidation risk=risk_rate
.*_userinfo(\.contracts)? | balance:12 =balance profit= deposit=
deposit-info | amt:12 =deposit status= chain
withdrawal-info | amt:12 =withdrawal status= chain
grid-orders-\w+ | pnl:12 =pnl status from=minPx to=maxPx
algo-recurring-buy | amt:12 investmentCcy period status pnl=
.*\.recurringList | price:12 ratio= average= profit=
copytrading-\S+ | infoType:12 =notice position=subPosId
""")


class LineFormat(NamedTuple):
    name: str  # a channel's instrument, where a row does not say it
    bar: str  # of candles: 1m
    parts: list[tuple[str, str, int]]  # label= or =, value or word, width
    headings: str  # "" if not known


class ShownLine(NamedTuple):
    headings: str
    text: str
    colour: str  # which of ROW_COLOURS, if it is there


@functools.lru_cache(1000)
def line_format(channel: str) -> LineFormat:
    """The format of a channel, or of a list in its rows: `account.details`."""
    kind, _, argument = channel.partition(":")
    places = likely_dialect(kind).find(kind)[1]
    v1 = "_".join(filter(None, map(places.get, ("coin", "quote", "when"))))
    name, bar = argument.rpartition("=")[2] or v1 or kind, places.get("bar", "")
    if "candle" in kind:
        bar = re.sub(r"(-price|sprd|\w+/)?-?candle", " ", kind).strip()  # mark 1m
    columns = (columns for pattern, columns in LINE_FORMATS if re.fullmatch(pattern, kind))
    found = re.findall(r"(\w*=)?(\w+|(?<=\w=))(?::(\d+))?", next(columns, ""))
    parts = [(label, what or label[:-1], int(width or 0)) for label, what, width in found]
    sizes = ("size", "volume") if in_contracts(channel, name) else ()
    heads = [("contracts" if what in sizes else what, width) for label, what, width in parts if not label]
    headings = line_text("begins" if bar else "time", "instrument", heads).replace("_", " ")
    return LineFormat(name, bar, parts, headings if parts else "")


@functools.lru_cache(1000)
def in_contracts(channel: str, name: str) -> bool:
    """Whether sizes are in contracts, not in coins."""
    types = f"{channel}={V5.instrument_type(name)}"
    return bool(re.search("futureusd|=(SWAP|FUTURES|OPTION)", types))


def line_text(clock: str, name: str, cells: Any) -> str:
    """A line of (text, its column's width or 0): each at the right of its column, if 80 are enough."""
    text, end = f"{clock:12} {name}", 26
    for value, width in cells:
        end += width + 1 if width else 0
        text += " " + value.rjust(end - len(text) if width else 0)
    if len(text) > 80:
        text = " ".join([f"{clock:12} {name}", *(value or "-" for value, _ in cells)])
    return text.rstrip()


def row_lines(channel: str, row: Any, clock: str = "", ladder: int = 1) -> list[ShownLine]:
    """The lines of a row, and of the objects in it: those in the table, or all if the row is not."""
    name, bar, parts, headings = line_format(channel)
    row = named_row(channel, row)
    name = str(next(filter(None, map(row.get, ROW_ABOUT)), name))
    bids, asks = row.get("bids"), row.get("asks")
    if bids.__class__ is asks.__class__ is list:
        view = "ts" in row and row.get("prevSeqId", -1) == -1  # or the first of all
        if not view and likely_dialect(channel).book(channel) != "whole":
            cells = [(f"{len(bids)} bids and {len(asks)} asks changed", 0)]
        elif ladder == 1:
            best = [str(value) for side in (bids, asks) for value in [*side, ("-", "-")][0][:2]]
            cells = [*zip([*best, spread_of(bids, asks)], (12, 10, 10, 10, 6))]
        else:
            return ladder_lines(name, bids[:ladder], asks[:ladder], clock)
        return [ShownLine(headings, line_text(clock, name, cells), "")]
    lines = []
    for key, value in row.items():
        if value.__class__ is str:  # nearly all
            continue
        for entry in value if value.__class__ is list else [value]:
            if entry.__class__ is not dict:
                continue
            inside = f"{channel.partition(':')[0]}.{key}".rstrip(".")
            known = line_format(inside).parts
            if ":" not in inside:  # v3 has "currency:BTC", and so is about BTC
                inside += f":{name}" if known else f":{name} {key}"
            if known or not parts:
                lines += row_lines(inside, entry, clock)
    cells = row_cells(parts, row, in_contracts(channel, name))
    if lines and not cells:
        return lines
    if not cells and "eventType" in row:  # an empty snapshot
        name, cells = channel, [(" none", 0)]
    cells = cells or [("(nothing)", 0)]
    if "restored" in row:  # it comes late, see Filler
        cells.append(("restored", 0))
    clock = (bar and row_value(row, "time")) or clock  # when a candle begins
    text = line_text(clock, f"{name} {bar}".rstrip(), cells)
    return [ShownLine(headings, text, row_value(row, "side")), *lines]


def named_row(channel: str, row: Any) -> Row:
    """A row with names for its values, "" if they are not known."""
    if row.__class__ is list:
        row = dict(zip(columns_of(channel), row)) or row
    if row.__class__ is not dict:
        return {"": row}
    candle = row.get("candle")
    if candle.__class__ is list:  # v3: {"candle":["2019-04-16T10:49:00.000Z","162.03", …]}
        return row | dict(zip("time open high low close volume".split(), candle))
    return row


def ladder_lines(name: str, bids: Rows, asks: Rows, clock: str) -> list[ShownLine]:
    """A line for each level of a book, the best in the middle."""
    headings, lines = line_format(f"trades:{name}").headings, []
    levels = [*asks[::-1], (spread_of(bids, asks), ""), *bids]
    sides = ["ask"] * len(asks) + ["spread"] + ["bid"] * len(bids)
    for (price, size, *_), side in zip(levels, sides):
        text = line_text(clock, name, [(str(price), 12), (str(size), 14), (side, 0)])
        lines.append(ShownLine(headings, text, side))
        clock = name = ""
    return lines


def spread_of(bids: Any, asks: Any) -> str:
    """The spread of a book's best levels, "-" if there is none."""
    try:
        return str(Decimal(str(asks[0][0])) - Decimal(str(bids[0][0])))
    except (ArithmeticError, LookupError):
        return "-"


def row_cells(parts: Any, row: Row, contracts: bool) -> list[Any]:
    """A row's values and their columns' widths; `key value` if its format names none."""
    cells, known = [], False
    for label, what, width in parts:
        value = what if label == "=" else row_value(row, what)
        known |= value != "" and label != "="
        if value or width:
            cells.append((f" {label[:-1]} {value}" if label[:-1] else value, width))
        if value and contracts and what in ("size", "position"):
            cells.append(("contracts", 0))
    if known:
        return cells
    hidden = {*ROW_ABOUT, *"uid user_id eventType curPage lastPage".split()}
    texts = ((key, moment_text(row[key], key)) for key in row if key not in hidden)
    shown = "  ".join(f"{key} {text}".strip() for key, text in texts if text)
    return [(shown, 0)] if shown else []


def row_value(row: Row, what: str) -> str:
    """A value of a row, by the first of its names that has one, or ""."""
    if what == "change":
        now, before = (price_number(row_value(row, name)) for name in ("index", "before"))
        return f"{now / before - 1:+.2%}" if min(now, before) > 0 else ""
    for name in ROW_NAMES.get(what, [what]):
        if text := moment_text(row.get(name), name):
            text = ROW_WORDS.get(what, {}).get(text, text)
            text = text[-6:] if what == "id" and len(text) > 12 else text
            return order_state(row, text) if what == "state" else text
    return ""


def order_state(row: Row, state: str) -> str:
    """How an order stands: `canceled by the system, 13`, by its cancelSource."""
    amend, code = row_value(row, "amendResult"), row_value(row, "code")
    if source := row_value(row, "cancelSource"):
        state += f" by the system, {source}"
    if amend or code:
        failure = f"{amend} failed {reason_of(code, row_value(row, 'msg'))}".strip()
        state = f"{state}, {failure}".removeprefix("failed, ")
    return state


def moment_text(value: Any, name: str = "ts") -> str:
    """A time in ms or ISO 8601 as one of today, or with its date; what else a value is; "" for an object."""
    if value.__class__ is list:
        texts = ("…" if item.__class__ is list else moment_text(item, name) for item in value)
        return " ".join(texts).strip()
    text = "" if value is None or value.__class__ is dict else str(value)
    times = "(?i).*(time|date|until|_at).*|ts|begin|end|delivery|listing"
    if not re.match(r"1\d{12}$|\d{4}-\d\d-\d\dT", text) or not re.fullmatch(times, name):
        return text
    try:
        iso = text.replace("Z", "+00:00")
        at = date_and_time.fromisoformat(iso).timestamp() if "T" in text else int(text) / 1000
    except ValueError:
        return text
    near = abs(at - wall_clock()) < 43200
    return strftime("%H:%M:%S" if near else "%Y-%m-%d %H:%M", localtime(at))


def is_colourful() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str, what: str) -> str:
    colour = ROW_COLOURS.get(what)
    return f"\033[{colour}m{text}\033[0m" if colour and is_colourful() else text


def plural(number: int, things: str) -> str:
    """2 rows, 1 row."""
    thing = re.sub(r"s\b", "", things, count=1)
    return f"{number} {thing if number == 1 else things}"


def print_rows(channel: str, rows: Rows, ladder: int = 1, received: float = 0.0) -> None:
    """Print rows: local time, instrument, what matters; on a terminal with colours and headings."""
    now, lines = received or wall_clock(), []
    clock = f"{strftime('%H:%M:%S', localtime(now))}.{int(now % 1 * 1000):03d}"
    width = get_terminal_size().columns if sys.stdout.isatty() else 0
    for row in rows:
        for headings, text, colour in row_lines(channel, row, clock, ladder):
            text = printable_text(text, 199)
            if width and headings not in shown_headings:
                shown_headings.add(headings)
                lines.append(coloured(headings, "dim"))
            parts = wrap(text, width, subsequent_indent=" " * 13) if 0 < width < len(text) else [text]
            lines += [coloured(part, colour) for part in parts]
    print("".join(f"{line}\n" for line in lines), end="", flush=True)


def json_line(received: float, channel: str, row: Any) -> str:
    return to_json({"received": received, "channel": channel, "row": row}) + "\n"


def json_rows(channel: str, rows: Rows, received: float) -> None:
    """Print a line per row: {"received": epoch seconds, "channel": …, "row": …}."""
    print("".join(json_line(received, channel, row) for row in rows), end="", flush=True)


# ---------------------------------------------------------------------------------------------------------------
# Sinks: where rows go, each behind a queue.

MAX_QUEUE = 50_000  # messages that wait for a sink before receiving does


class Sink:
    """Where rows go, on a thread. Derive from it; __init__ gets what RedisSink's does."""

    linger = 0.25  # seconds that rows may wait for more
    refused = 0  # rows that could not be kept

    def __init__(self, target: str, **_: Any): ...

    def recall(self, channel: str, seconds: float) -> Iterable[Any]:
        """Rows kept of so many seconds, and some from before, as they came."""
        return ()

    def write(self, received: float, channel: str, rows: Rows) -> None:
        """Take rows. A TypeError or the like drops them; after other errors they come again."""
        raise NotImplementedError

    def status(self, received: float, status: str, detail: str) -> None:
        """Take a change of the connection, in its place between rows."""

    def flush(self) -> None:
        """Persist what was taken, all or nothing: at least once a second."""

    def close(self) -> None: ...


class JsonLines(Sink):
    """append a JSON line per row to this file; - prints them"""

    def __init__(self, target: str, **_: Any):
        self.target, self.file = target, FileIO(target, "a+")
        self.waiting = bytearray()  # whole lines
        self.earlier = functools.cache(self._earlier)  # until rows are added

    def recall(self, channel: str, seconds: float) -> Iterable[Any]:
        return (json_loads(line).get("row") for line in self.earlier(seconds)[channel])

    def _earlier(self, seconds: float) -> Any:
        """Lines of so many seconds, and some from before, by channel."""
        found: Any = defaultdict(list)
        path = self.target if os.path.isfile(self.target) else os.devnull  # of a pipe
        with open(path, "rb") as file:
            for end in range(file.seek(0, os.SEEK_END), 1 << 20, -1 << 20):
                file.seek(end - (1 << 20))
                file.readline()  # it may be the end of one
                with suppress(*ODD_ROW):
                    if json_loads(file.readline())["received"] < wall_clock() - seconds:
                        break
            else:
                file.seek(0)
            for line in file:
                with suppress(*ODD_ROW):  # torn, or a note
                    channel = json_loads(line)["channel"]
                    if series_of(channel):
                        found[channel].append(line)
        return found

    def write(self, received: float, channel: str, rows: Rows) -> None:
        self.waiting += "".join([json_line(received, channel, row) for row in rows]).encode()

    def flush(self) -> None:
        """Append what waits, behind a line that a full disk or a kill tore."""
        begin = b""
        while self.waiting:
            self.earlier.cache_clear()
            old, self.file = self.file, FileIO(self.target, "a+")  # it may have been moved
            old.close()  # not before, for the reader of a named pipe
            with suppress(OSError):  # it is empty, or a pipe
                self.file.seek(-1, os.SEEK_END)
                begin = b"\n" * (self.file.read(1) != b"\n")
            written = self.file.write(begin + self.waiting) - len(begin)
            del self.waiting[: self.waiting.rfind(b"\n", 0, written + 1) + 1]
            begin = b"\n"

    def close(self) -> None:
        self.file.close()


class SQLite(Sink):
    """table `rows` (received, channel, row) in this SQLite file"""

    def __init__(self, target: str, **_: Any):
        self.target = target
        self.rows: Rows = []
        self._open().close()

    def _open(self) -> Any:
        """Open it anew: it may have been moved. ValueError for another table `rows`."""
        import sqlite3

        try:
            db = sqlite3.connect(self.target, timeout=10)
            [(columns,)] = db.execute("SELECT group_concat(name, ', ') FROM pragma_table_info('rows')")
            if columns not in (None, "received, channel, row"):
                raise ValueError(f"{self.target} has another table rows: {columns}")
            with suppress(sqlite3.OperationalError):  # another program writes
                db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
            db.executescript("""CREATE TABLE IF NOT EXISTS rows (received REAL, channel TEXT, row TEXT);
                CREATE INDEX IF NOT EXISTS rows_by_channel ON rows (channel, received)""")
        except sqlite3.Error as error:
            raise OSError(f"{self.target}: {error}") from None
        return db

    def recall(self, channel: str, seconds: float) -> Iterable[Any]:
        """Rows of so many seconds and 1,000 from before; a million at most."""
        newest = """SELECT row FROM rows WHERE channel = ?1 ORDER BY received DESC, rowid DESC
            LIMIT min(1000000, 1000 + (SELECT count(*) FROM rows WHERE channel = ?1 AND received > ?2))"""
        with closed_after(self._open()) as db:
            found = db.execute(newest, (channel, wall_clock() - seconds)).fetchall()
        return (from_json(text) for (text,) in reversed(found))

    def write(self, received: float, channel: str, rows: Rows) -> None:
        self.rows += [(received, channel, to_json(row)) for row in rows]

    def flush(self) -> None:
        if self.rows:
            with closed_after(self._open()) as db, db:  # one transaction
                db.executemany("INSERT INTO rows VALUES (?, ?, ?)", self.rows)
            self.rows.clear()


class RedisSink(Sink):
    """keep rows in Redis, redis://host:6379/0, see RedisFeed

    okex/NAME/CHANNEL           latest row as JSON; of positions, orders or many instruments,
                                a hash of those that stand, and of "". Publishes every row
    okex/NAME/@history/CHANNEL  stream of {received, row, n}, trimmed; both without candles that form
    okex/NAME/@status           last change as JSON, or GAP while a book is not ready
    okex/NAME/@event            publishes all: confirmations, refusals, gaps, disconnections
    okex/NAME/@commands         list: {"id": …, "op": "subscribe", "channels": […]}; or
                                unsubscribe, channels, quit
    okex/NAME/@answers/ID       list: {"id": …, "ok": true, "result": …}

    Books and orders are there while known; they and @status go 10 s after the process died.
    """

    linger = 0.005
    readable = False  # whether Redis was there at the start
    mark = ""  # of a batch whose answer may be lost; @batch once applied

    def __init__(self, target: str, name: str = "default", history: int = 1000, command: Any = None, clients: Any = ()):
        self.feed = RedisFeed(target, name)
        self.redis = self.feed.redis
        self.history, self.command, self.clients = history, command, clients
        self.batch: Rows = []  # Redis commands for the next flush
        self.appended = Counter[str]()  # rows so far, by channel
        self.pages: Options = {}  # of a snapshot, as far as they came
        self.books: Options = {}  # their last rows
        # By number, oldest first, what earlier runs left; read when it matters.
        self.kept = functools.cache(lambda name: dict.fromkeys(map(row_number, self.feed.get(name, history))))
        self.status(wall_clock(), DISCONNECTED, "starting")
        with suppress(Exception):  # if Redis is not there, the writer will say so
            if self.feed.status():
                okex_log.warning(f"Another okex_ws writes under {self.feed.prefix}: see --name.")
            self.redis.delete(f"{self.feed.prefix}@commands")  # of earlier times
            self.readable = True

    def recall(self, channel: str, seconds: float) -> Iterable[Any]:
        """The whole history; nothing if Redis was not there at the start."""
        with suppress(Exception):  # it went, or that is of another type
            if self.readable:
                self.kept(channel)
                yield from self.feed.get(channel, self.history)

    def write(self, received: float, channel: str, rows: Rows) -> None:
        rows = [row if isinstance(row, dict) else {"value": row} for row in rows]
        pages = self.pages.pop(channel, [])
        if rows[0].get("curPage") != 1:
            rows = pages + rows
        if "curPage" in rows[0] and not rows[-1].get("lastPage"):  # a snapshot is whole
            self.pages[channel] = rows
            return
        if len(rows) > 1 and channel.startswith("account"):
            rows = [{**rows[-1], "details": [each for row in rows for each in row.get("details", [])]}]
        if "restored" not in rows[0]:  # it would be older than the latest
            self.batch += self._latest(channel, rows)
        else:
            kept = self.kept(channel)
            oldest = next(iter(kept), -1)  # before it, all was trimmed away
            rows = [row for row in rows if oldest < row_number(row) not in kept]
        to = f"@history/{channel}", "MAXLEN", self.history, "*", "received", received
        for row in final_rows(rows):
            self.appended[channel] += 1
            text, number = to_json(row), self.appended[channel]
            self.batch += ("XADD", *to, "row", text, "n", number), ("PUBLISH", channel, text)

    def _latest(self, channel: str, rows: Rows) -> Iterator[Any]:
        """Commands that keep the last row, or a hash of what stands."""
        for book in filter(None, [client.books.get(channel) for client in self.clients]):
            if not (book.whole or book.depth):
                raise ValueError(f"{channel}: the latest row would be a change: say depth=20")
            self.books[channel] = rows[-1]
            if book.ready:
                yield "SET", channel, to_json(rows[-1]), "EX", 10
            return
        if row_subject(channel, rows[0]) is None:
            yield "SET", channel, to_json(rows[-1])
            return
        if rows[0].get("eventType") == "snapshot" or not self.appended[channel]:
            yield "DEL", channel  # it may be of another type, as 1.1.0 left it
        ends = "filled canceled mmp_canceled effective order_failed partially_failed stopped"
        for row in rows:
            key = channel, row_subject(channel, row) or ""
            ended = row.get("state") in ends.split() or not str(row.get("pos", 1)).strip("-0.")
            yield ("HDEL", *key) if ended else ("HSET", *key, to_json(row))
        yield "HSET", channel, "", ""  # so that it is there if none stands
        if V5.ORDERS.match(channel):
            yield "EXPIRE", channel, 10

    def status(self, received: float, status: str, detail: str) -> None:
        change = {"received": received, "status": status, "detail": detail}
        if status != GAP:
            self.state = change
        if status == SUBSCRIBED and V5.ORDERS.match(detail):  # others may have ended
            self.batch.append(("DEL", detail))
        self.batch.append(("PUBLISH", "@event", to_json(change)))
        self.looked = -inf  # monotonic: when _known_now was last called

    def _known_now(self) -> Iterator[Any]:
        """Commands that keep our status, and known books and orders, for 10 s more."""
        self.looked, shown = monotonic(), self.state
        for client in self.clients:
            for channel, state in client.channels.items():
                if V5.ORDERS.match(channel):
                    yield "EXPIRE", channel, 10 if state == "confirmed" else 0  # which deletes it
            for channel, book in [*client.books.items()]:
                try:
                    (bids, asks), row = book.top(1), self.books.get(channel)
                    if row and bids + asks == [level[:2] for level in row["bids"][:1] + row["asks"][:1]]:
                        yield "SET", channel, to_json(row), "EX", 10  # or its row is on the way
                except BookOutOfSync as error:
                    yield "DEL", channel
                    if self.state["status"] not in (DISCONNECTED, EXIT):
                        shown = {"received": wall_clock(), "status": GAP, "detail": f"{channel}: {error}"}
        yield "SET", "@status", to_json(shown), "EX", 10

    def flush(self) -> None:
        """Give Redis the batch, applied once and whole, and our status; take commands."""
        if self.mark and self.redis.get(f"{self.feed.prefix}@batch") == self.mark:
            self.batch.clear()  # only the answer was lost
        self.mark, pipeline, batch = os.urandom(8).hex(), self.redis.pipeline(), self.batch.copy()
        if monotonic() - self.looked > 1.0:
            batch += self._known_now()
        batch += ("SET", "@batch", self.mark), ("LRANGE", "@commands", 0, -1), ("DEL", "@commands")
        for op, name, *words in batch:
            pipeline.execute_command(op, f"{self.feed.prefix}{name}", *words)
        # It raises if nothing was applied, because Redis is full, say.
        *results, requests, _ = pipeline.execute(raise_on_error=False)
        self.mark = ""
        self.batch.clear()
        for (_, key, *_), result in zip(batch, results):
            if isinstance(result, Exception):  # the key is of another type
                if not self.refused:
                    okex_log.warning(f"--redis: lost such rows. Said once: {key}: {result}")
                self.refused += 1
        if requests and self.command:  # which may take seconds
            daemon_thread("commands", lambda: [*map(self._obey, requests)]).start()

    def _obey(self, text: str) -> None:
        answer: Row = {"id": None, "ok": True}
        try:
            request = from_json(text)
            answer["id"] = request.get("id")
            op, channels = request["op"], request.get("channels", [])
            if not isinstance(channels, list):
                raise TypeError("channels must be a list")
            answer["result"] = self.command(op, channels)
        except Exception as error:
            answer |= {"ok": False, "error": str(error)}
        okex_log.info("By Redis: %s: %s", printable_text(text), answer.get("error", "done"))
        key = f"{self.feed.prefix}@answers/{answer['id']}"
        with suppress(Exception):  # Redis is gone
            self.redis.pipeline().rpush(key, to_json(answer)).expire(key, 60).execute()

    def close(self) -> None:
        with suppress(Exception):  # it expires anyway
            self.looked = -inf
            self.flush()  # no book is ready any more
            self.redis.delete(f"{self.feed.prefix}@status")
        self.redis.close()


def row_number(row: Row) -> int:
    """A trade's id, or when a candle begins."""
    return int(row.get("tradeId") or row.get("ts") or 0)


def row_subject(channel: str, row: Row) -> str | None:
    """Which position, order or instrument a row is about; None if its channel has one alone."""
    if re.match("(grid-)?positions|liquidation-warning", channel):
        parts = [str(row.get(name, "")) for name in ("instId", "mgnMode", "posSide")]
        return row.get("posId") or " ".join(parts).strip()
    names, other = "instId instrument_id sprdId instFamily", None
    if orders := V5.ORDERS.match(channel):  # an algo order gets its ordId later
        names, other = "algoId" if "algo" in orders[0] else "ordId algoId", ""
    elif re.match("account|balance_and_position|[^:]+:([^=]+$|.*(inst|sprd)Id=)", channel):
        return None
    return next(filter(None, map(row.get, names.split())), other)


class RedisRow(dict[str, Any]):
    """A row of the history, and its `id` there, at which `RedisFeed.listen` can resume."""

    def __init__(self, id: str, entry: Row):
        super().__init__(from_json(entry["row"]))
        self.id, self.number = id, int(entry["n"])  # 0 is none


class RedisFeed:
    """What `--redis` keeps, for other programs: `RedisFeed().get("tickers:BTC-USDT")`."""

    def __init__(self, url: str = "redis://localhost", name: str = "default"):
        """Raises ValueError for what cannot be a URL or a name; connects later."""
        try:
            from redis import Redis
        except ImportError:
            raise ImportError("Redis needs the package redis: pip install redis") from None
        if not re.fullmatch(r"[\w.:-]+", name):
            raise ValueError(f"{printable_text(name)!r} is no name: use letters, digits, .:_-")
        self.prefix = f"okex/{name}/"
        port_of(url)
        hide_secret(unquote(urlsplit(url).password or ""))
        try:  # without retries of its own, which could write a batch twice
            self.redis: Any = Redis.from_url(url, decode_responses=True, socket_timeout=6, retry=None)
            self.redis.connection_pool.make_connection()  # looks at the options alone
        except (TypeError, ValueError) as error:
            raise ValueError(f"{passwordless(url)}: {mask_secrets(str(error))}") from None

    def get(self, channel: str, n: int | None = None) -> Any:
        """The latest row or None; or the last n rows of the history, oldest first, each with an `id`.

        Of many things, as with positions:instType=ANY, all rows that stand: [] if none does, None while
        that is not known; of orders, those heard of on this connection. A latest candle may still form.
        """
        if n is not None:
            entries = self.redis.xrevrange(f"{self.prefix}@history/{channel}", count=n)
            return [RedisRow(*entry) for entry in reversed(entries)]
        key = f"{self.prefix}{channel}"
        if self.redis.type(key) == "hash":
            rows = sorted(self.redis.hgetall(key).items())
            return [from_json(text) for _, text in rows if text] if rows else None
        return from_json(self.redis.get(key) or "null")

    def listen(self, channel: str, after: str | None = None) -> Iterator[RedisRow]:
        """Rows from now on, or after this `id`, "0" for all. LookupError for rows trimmed away."""
        history = f"{self.prefix}@history/{channel}"
        found = self.redis.xrevrange(history, after or "+", after or "-", count=1)
        if after and after != "0" and not found:
            raise LookupError(f"{after} was trimmed away: use a larger --history")
        [entry] = found or [("0", {"row": "{}", "n": 0})]

        def follow(last: RedisRow) -> Iterator[RedisRow]:
            while True:
                for _, entries in self.redis.xread({history: last.id}, count=1000, block=2000):
                    for row in itertools.starmap(RedisRow, entries):
                        missed = row.number - last.number - 1
                        if last.number and missed > 0:
                            raise LookupError(f"{missed} rows were trimmed away: use a larger --history")
                        yield (last := row)

        return follow(RedisRow(*entry))

    def subscribe(self, channel: str) -> str:
        """Have it subscribed to: "confirmed", "sent" or "wanted". ValueError if refused."""
        return str(self._command("subscribe", channel)[channel])

    def unsubscribe(self, channel: str) -> None:
        self._command("unsubscribe", channel)

    def channels(self) -> Any:
        """Each channel and how its subscription stands, see OkexWS.channels."""
        return self._command("channels")

    def quit(self) -> None:
        """End the program that fills Redis."""
        self._command("quit")

    def status(self) -> Any:
        """The last change, {"received", "status", "detail"}; None if nothing runs."""
        return self.get("@status")

    def servers(self) -> list[str]:
        """The names under which programs fill this Redis now."""
        return sorted({key.split("/")[1] for key in self.redis.scan_iter("okex/*/@status", count=1000)})

    def clear(self) -> None:
        """Forget everything that is kept under this name."""
        for key in self.redis.scan_iter(f"{self.prefix}*"):
            self.redis.unlink(key)

    def _command(self, op: str, *channels: str) -> Any:
        id, key = os.urandom(8).hex(), f"{self.prefix}@commands"
        request = to_json({"id": id, "op": op, "channels": channels})
        self.redis.pipeline().rpush(key, request).expire(key, 5).execute()  # for nobody later
        answered = self.redis.blpop(f"{self.prefix}@answers/{id}", timeout=5)
        if answered is None:
            raise TimeoutError(f"no answer to {op} in 5 s: is okex_ws.py --redis running?")
        answer = from_json(answered[1])
        if not answer["ok"]:
            raise ValueError(answer["error"])
        return answer["result"]


SINKS: Options = {"jsonl": JsonLines, "sqlite": SQLite, "redis": RedisSink}  # by option


class Writer:
    """A sink behind a bounded queue, on its own thread: no reader waits for a disk."""

    put_rows = written = 0  # the latter or refused
    waits = 0  # of 10 ms, for a full queue
    failing = given_up = lost = False  # nobody waits any longer; that was said

    def __init__(self, option: str, sink: Sink):
        if not isinstance(sink, Sink):
            raise TypeError(f"--{option}: {type(sink).__name__} must derive from okex_ws.Sink")
        self.option, self.sink = option, sink
        self.queue = SimpleQueue[Any]()  # arguments for _insist
        self.had: Options = {}  # by channel: numbers that others lack, newest ms
        self.ending = threading.Event()
        self.thread = daemon_thread(option, self._run)
        self.thread.start()

    @property
    def waiting(self) -> int:
        return self.put_rows - self.written

    def __str__(self) -> str:
        """5 rows written by --jsonl, 2 waiting"""
        refused = self.sink.refused
        text = plural(self.written - refused, f"rows written by --{self.option}")
        for number, what in ((self.waiting, "waiting"), (refused, "refused"), (self.waits, "waits")):
            text += f", {number} {what}" if number else ""
        return text

    def put(self, received: float, channel: str, content: Any) -> None:
        """Queue rows, or without a channel (status, detail). Waits while the queue is full."""
        while self.queue.qsize() >= MAX_QUEUE and not self.ending.wait(0.01):
            if not self.waits:
                okex_log.warning(f"--{self.option} is too slow: receiving waits. Said once.")
            self.waits += 1
        if not channel:
            self.queue.put((0, self.sink.status, received, *content))
            return
        had, newest = self.had.get(channel, ((), 0))
        with suppress(*ODD_ROW):
            if had:  # ids that begin anew come later
                content = [row for row in content if int(row["ts"]) > newest or row_number(row) not in had]
        if content:
            self.put_rows += len(content)
            self.queue.put((len(content), self.sink.write, received, channel, content))

    def _run(self) -> None:
        while self.queue.qsize() or not self.ending.is_set():
            batch: Rows = []
            with suppress(Empty):
                batch.append(self.queue.get(timeout=0.25))
                if self.queue.qsize() < 1000:  # wait for more
                    self.ending.wait(self.sink.linger)
                batch += [self.queue.get() for _ in range(min(self.queue.qsize(), 999))]
            for message in batch:
                self._insist(*message)
            self._insist(0, self.sink.flush)
            self.written += sum(rows for rows, *_ in batch)
            if self.failing:
                self.failing = False
                okex_log.warning(f"--{self.option} works again.")
        self._insist(0, self.sink.close)

    def _insist(self, rows: int, call: Any, *message: Any) -> Any:
        """Call until it succeeds. An error that would come again costs the message."""
        while True:
            try:
                return call(*message)
            except Exception as error:
                odd = isinstance(error, (*ODD_ROW, AssertionError, NameError, RuntimeError))
                if message and odd and not isinstance(error, OSError):  # some are both
                    if not self.sink.refused:
                        said = f"--{self.option} cannot take a message: dropped. Said once: {error}"
                        okex_log.error(said, exc_info=not isinstance(error, ValueError))
                    self.sink.refused += rows
                    return
                if not self.failing:
                    self.failing, why = True, printable_text(str(error) or repr(error))
                    okex_log.warning(f"--{self.option}: trying again, while rows wait: {why}")
                pause(0.5)

    def drained(self, began: float) -> bool:
        """Whether all is written 30 s after `began` (monotonic), 3 s if it fails; else say what is lost."""
        told = 2.0
        while self.thread.is_alive() and not self.lost:
            took, rows = monotonic() - began, plural(self.waiting, "rows")
            if self.failing and not self.waiting:
                return True
            if self.given_up or took > (3.0 if self.failing else 30.0):
                self.lost = True
                okex_log.error(f"--{self.option}: {rows} could not be written: lost.")
            elif took > told:
                told = took + 2.0
                said = f"--{self.option}: writing {rows}, for 30 s at most."
                okex_log.warning(f"{said} Ctrl-C again gives up.")
            self.thread.join(0.05)
        return not self.lost


def resume(series: TradeSeries, writers: list[Writer], seconds: float) -> None:
    """Have a series go on behind what all sinks have, each from its first live row on.

    What one of them lacks is a hole, and fetched; the others leave it out when it comes.
    """
    kept: Rows = []  # of each sink, where it begins, and its numbers
    for writer in writers:
        had, start, time = set[int](), NEWEST, 0
        until = monotonic() + 2.0  # wanted again, it may have rows that wait
        while series.channel in writer.had and writer.waiting and monotonic() < until:
            pause(0.01)
        for row in writer.sink.recall(series.channel, seconds):
            with suppress(*ODD_ROW):
                first, last, final = series.span(row)
                if final:
                    had.update(range(first, last + 1, series.step))
                    time = max(time, int(row["ts"]))
                    if start == NEWEST and "restored" not in row:
                        start = first
        writer.had[series.channel] = had, time
        if start == NEWEST:
            continue
        kept.append((start, had))
        series.time = max(series.time, time)
        end = max(had) if series.step == 1 else moment_text(time)
        line = f"--{writer.option} goes on: it ends with {series.channel} {end}."
        CHORUS.log(line, writer.option, logging.INFO)
    if not kept:
        return
    begin, numbers = min(kept)
    common = [n for n in sorted(numbers) if n >= begin and all(n <= start or n in had for start, had in kept)]
    if not series.history:  # which comes whole: each sink takes what it lacks
        for _, had in kept:
            had.difference_update(common)
    series.first, series.last = common[0], common[-1]
    series._miss(*map(Hole, common, common[1:]))
    series.recall(())  # from here on


class Recorder:
    """What stores the rows of some clients: a writer for each sink, one order in all."""

    def __init__(self, clients: list[OkexWS], sinks: Any = None):
        self.clients, self.writers = clients, list[Writer]()
        self.lock = threading.RLock()  # each sink has one order
        self.recalling = threading.Lock()  # held while a client reads what sinks have
        self.open(sinks or {})

    def open(self, sinks: Options, **options: Any) -> None:
        """Write into these Sinks, or into targets, for which SINKS makes some."""
        opened = dict(sinks)
        for option, target in sinks.items():
            if not isinstance(target, Sink):
                path = os.fspath(target)
                opened[option] = SINKS[option](path, clients=self.clients, **options)
        self.writers += map(Writer, opened, opened.values())  # not before all are open

    def recall(self, fill: float, keepers: Iterable[Any]) -> None:
        """Have series that know nothing yet go on behind what is kept, so many seconds back."""
        with self.recalling:
            for series in keepers:
                if isinstance(series, TradeSeries) and series.last is None:
                    resume(series, self.writers, max(fill, series.reach_back()))

    def record(self, received: float, channel: str, content: Any) -> None:
        with self.lock:
            for writer in self.writers:
                writer.put(received, channel, content)

    def leave(self) -> None:
        """A client ends, or is closed: with the last one, write what is queued."""
        if not self.writers or not all(client._stop.is_set() for client in self.clients):
            return
        for client in self.clients:
            if client._reader is threading.current_thread() and not client.ended.is_set():
                return  # in its handler: run() comes here, too
            client.ended.wait(0.5 if client._reader else 0.0)  # rows may come
        self.end(monotonic())

    def end(self, began: float) -> bool:
        """Have all written that is queued. Whether nothing is lost."""
        for writer in self.writers:
            writer.ending.set()
        lost = [writer for writer in self.writers if not writer.drained(began)]
        return not lost


# ---------------------------------------------------------------------------------------------------------------
# Board: what the clients keep, as lines; and the terminal that they are drawn on.


class BoardQuote(NamedTuple):
    """An instrument, a row of the board's table."""

    name: str
    cells: list[str]  # last price, change, bid, ask, spread, volume
    history: Sequence[float] = ()  # prices, five seconds apart
    age: str = ""  # of a price that is old


def board_rule(title: str, width: int) -> str:
    return f"── {title} ".ljust(width, "─")


def right_aligned(rows: Rows) -> list[str]:
    """A text for each row of cells: columns are as wide as their widest cell."""
    wide = [max(map(len, column)) for column in zip(*rows)]
    return [" ".join(map(str.rjust, row, wide)) for row in rows]


def table_lines(quotes: list[BoardQuote], others: list[str], width: int, most: int) -> Rows:
    """The instruments, and last rows of other channels; a line is a list of (text, its colour)."""
    heading = BoardQuote("instrument", ["last", "24 h", "bid", "ask", "spread", "volume"])
    rows = [heading, *quotes][:most]
    names = min(max(len(row.name) for row in rows), width // 3)
    lasts = max(len(row.cells[0]) for row in rows)
    for columns in (6, 5):  # a volume leaves room for a sparkline
        texts = right_aligned([row.cells[:columns] for row in rows])
        room = max(1, width - names - len(texts[0]) - 2)
        if room >= 12:
            break
    span = 5 * min(room, max(len(row.history) for row in rows)) - 5
    past = f"past {span} s" if span < 120 else f"past {span // 60} min"
    rows[0] = heading._replace(age=past if span > 0 else " ")
    lines = []
    for row, text in zip(rows if quotes else [], texts):
        dim, prices = "dim" if row.age else "", row.history[-room:]
        low = min(prices, default=0.0)
        step = (max(prices, default=0.0) - low) / 7 or 1.0
        spark = "".join("▁▂▃▄▅▆▇█"[round((price - low) / step)] for price in prices)
        last = (text[:lasts], dim or text.strip()[:1])
        lines.append([(f"{row.name:<{names}} ", dim), last, (f"{text[lasts:]} {row.age or spark}", dim)])
    lines += [[(other, "")] for other in others]
    hidden = bool(quotes) + len(quotes) + len(others) - most
    if hidden > 0:
        lines[most - 1 :] = [[(f"and {hidden + 1} more, for which there is no room", "dim")]]
    return lines


def market_lines(book: Any, tape: Any, width: int, height: int) -> Rows:
    """The order book as a ladder, the best in its middle, and beside it the latest trades."""
    (title, bids, asks), (heading, trades) = book, tape
    most, each = (height - 2) // 2, (width - 2) // 2 if title and heading else width
    bids, asks = bids[:most], asks[:most]
    levels = [*asks[::-1], (spread_of(bids, asks), "spread"), *bids]
    colours = ["ask"] * len(asks) + ["dim"] + ["bid"] * len(bids)
    sizes = [price_number(size) for _, size in levels]
    largest = max(sizes) or 1.0
    ladder = [(board_rule(title, each), "dim" if bids or asks else "alarm")]
    for text, size, colour in zip(right_aligned(levels), sizes, colours):
        bar = "█" * ceil(size / largest * (each - len(text) - 1))
        ladder.append((f"{text} {bar}", colour))
    rows = [(board_rule(heading, each), "dim")]
    rows += zip(right_aligned(trades), [side for *_, side in trades])
    panels = [ladder] * bool(title) + [rows] * bool(heading)
    lines = islice(zip_longest(*panels, fillvalue=("", "")), max(0, height))
    return [[(f"{text[:each]:<{each + 2}}", colour) for text, colour in line] for line in lines]


def price_number(text: str) -> float:
    """A price or a size for a picture of it; 0 for what is no number."""
    try:
        return float(text)
    except ValueError:
        return 0.0


class Board:
    """What the clients keep, last rows and earlier prices. Reading threads only `note`."""

    def __init__(self, clients: Sequence[OkexWS], writers: Sequence[Writer], log: Iterable[str]):
        self.clients, self.writers, self.log = clients, writers, log
        self.began = monotonic()
        self.latest: Options = {}  # by channel: when it came, a row
        self.newest: Any = 0.0, {}  # of all
        self.tape_channel, self.tape = "", deque[Row](maxlen=100)
        self.drawn = 0  # times
        self.histories: Options = {}  # by instrument: prices, 25 drawings apart
        self.counted = deque[Any](maxlen=10)  # seconds, and messages

    def note(self, channel: str, rows: Rows, received: float = 0.0) -> None:
        row = rows[-1]
        if row.__class__ is not dict or "restored" in row:  # as are all of them
            return
        self.latest[channel] = came = wall_clock(), row
        if "o" not in row:  # a candle's `ts` is when it begins
            self.newest = came
        if channel == self.tape_channel:
            self.tape.extend(rows)

    def show(self, over: threading.Event) -> bool:
        """Draw five times a second, then leave the terminal as it was. Whether q ended that."""
        shown, before, keys = set[str](), None, None
        try:
            with suppress(Exception):  # Windows, or stdin is no terminal
                import termios
                import tty

                keys = termios.tcgetattr(0)
                tty.setcbreak(0)
            write_out(sys.stdout, "\033[?1049h\033[?25l\033[?7l")  # no cursor, no wrapping
            while not over.wait(0.2):
                size = os.get_terminal_size(sys.stdout.fileno())
                drawn = {f"\033[{n};1H\033[2K{line}" for n, line in enumerate(self.draw(*size), 1)}
                write_out(sys.stdout, "".join(drawn - shown if size == before else drawn))
                shown, before = drawn, size
                if keys and select([0], [], [], 0)[0] and b"q" in os.read(0, 99):
                    return True
        except Exception:
            okex_log.exception("The board failed")
        finally:
            with suppress(Exception):  # the terminal is gone
                write_out(sys.stdout, "\033[0m\033[2J\033[?7h\033[?25h\033[?1049l")
                if keys:
                    termios.tcsetattr(0, termios.TCSANOW, keys)
        return False

    def draw(self, width: int, height: int) -> list[str]:
        """The board as `height` lines of at most `width` characters."""
        self.drawn += 1
        (quotes, others), book, tape = self.table(), self.book(), self.trades()
        shown = f"to {passwordless(origin_of(self.clients[0].url))}"  # in the first line
        log = [line.replace(shown, "to ") for line in [*self.log]]
        sinks = [(str(writer), "dim") for writer in self.writers]
        free = height - 2 - len(sinks) - min(len(log), max(1, height // 7))
        most = max(2, free - max(5, free // 3) if book[0] or tape[0] else free)
        lines = [[self.status()], *table_lines(quotes, others, width, most)]
        lines += market_lines(book, tape, width, free + 1 - len(lines))
        log = log[-max(1, height - 1 - len(sinks) - len(lines)) :]
        ends = [(board_rule("log, q leaves", width), "dim"), *((line, "") for line in log), *sinks]
        lines += [[]] * (height - len(lines) - len(ends)) + [[end] for end in ends]
        drawn = []
        for pieces in lines[:height]:
            line, left = "", width
            for text, colour in pieces:
                text = printable_text(text, left)[:left]
                left -= len(text)
                line += coloured(text, colour)
            drawn.append(line)
        return drawn

    @property
    def reconnects(self) -> int:
        return sum(max(0, ws.counts["connects"] - 1) for ws in self.clients)

    def status(self) -> tuple[str, str]:
        """The first line, and its colour: where clients are connected to, and how well."""
        first, up, delay = self.clients[0], monotonic() - self.began, ""
        source, (came, row) = urlsplit(passwordless(first.url)).netloc, self.newest
        connected = all(ws._connected or ws._subscriptions.hopeless for ws in self.clients)
        if replayed := first.replayed_at:
            source, connected = strftime("replay of %Y-%m-%d %H:%M:%S", localtime(replayed)), True
        elif (sent := str(row.get("ts"))).isdecimal():  # of v5; by this machine's clock
            delay = f"delay {came * 1000 - int(sent):.0f} ms"
        messages = sum(ws.counts["messages"] for ws in self.clients)
        self.counted.append((up, messages))
        began, before = self.counted[0]
        rate = (messages - before) / max(up - began, 1.0)
        ping = f"ping {first.latency:.1f} ms" if first.latency else ""
        parts = [source, "" if connected else "NOT CONNECTED", f"up {timedelta(seconds=int(up))}"]
        parts += [f"reconnects {self.reconnects}", ping, delay, f"{rate:,.0f} msg/s"]
        return "  ".join(filter(None, parts)), "bold" if connected else "alarm"

    def table(self) -> tuple[list[BoardQuote], list[str]]:
        """Quotes, each value of the first channel that has it, and others' last rows."""
        others, known = list[str](), defaultdict[str, Rows](list)  # by instrument
        for ws in self.clients:
            for channel in ws.channels:
                format, book = line_format(channel), ws.books.get(channel)
                when, row = self.latest.get(channel, (0.0, {}))
                names = [what for _, what, _ in format.parts]
                price = next((what for what in ("last", "close", "mark", "index") if what in names), "")
                if names == ["price", "size", "side"]:  # of trades, not of orders
                    price, self.tape_channel = "price", self.tape_channel or channel
                if book:
                    when, row = 0.0, {}
                    with suppress(BookOutOfSync, IndexError):  # it has one side
                        bids, asks = book.top(1)
                        row = {"bid": bids[0][0], "ask": asks[0][0]}
                elif not price:
                    others += [row_lines(channel, row)[0].text.strip()] if when else []
                    continue
                row, whats = named_row(channel, row), (price, "change", "bid", "ask", "24 h volume")
                values = [when, *(row_value(row, what) for what in whats)]
                known[format.name] = [old or new for old, new in zip_longest(known[format.name], values)]
        return [self.quote(name, *values) for name, values in known.items()], others

    def quote(self, name: str, when: float, *values: str) -> BoardQuote:
        last, change, bid, ask, volume = values
        price, age = price_number(last), wall_clock() - when
        history = self.histories.setdefault(name, deque(maxlen=240))
        before = history[-1] if history else price
        if last and (not history or self.drawn % 25 == 0):
            history.append(price)
        arrow = " ▲▼"[(price > before) - (price < before)]
        spread, number = spread_of([[bid]], [[ask]]), price_number(volume)
        power = min(4, (len(f"{number:.0f}") - 1) // 3)  # 12.3k for 12345.6
        short = f"{number / 1000**power:.1f}{' kMGT'[power]}".strip() if number else ""
        cells = [f"{arrow} {last}", change, bid, ask, spread, short]
        old = f"{age:.0f} s old" if when and age >= 10 else ""
        return BoardQuote(name, cells, [*history, price] if last else [], old)

    def book(self) -> tuple[str, Rows, Rows]:
        """The first order book: a heading, "" if there is none, and levels if it is in sync."""
        for channel, book in [item for ws in self.clients for item in [*ws.books.items()]][:1]:
            heading = f"{line_format(channel).name} book, "
            try:
                return f"{heading}in sync", *book.top(60)
            except BookOutOfSync as error:
                return f"{heading}not in sync: {error}", [], []
        return "", [], []

    def trades(self) -> tuple[str, Rows]:
        """A heading, "" if there are none, and the latest first: time, price, size and side."""
        names = ("time", "price", "size", "side")
        trades = [[row_value(row, name) for name in names] for row in [*self.tape][::-1]]
        bought = sum(price_number(size) for *_, size, side in trades if side == "buy")
        total = sum(price_number(size) for *_, size, _ in trades)
        share = f", {bought / total:.0%} bought" if total else ""
        heading = f"{line_format(self.tape_channel).name} trades{share}"
        return heading if self.tape_channel else "", trades


def write_out(stream: Any, text: str) -> None:
    """Write past Python, which at exit would wait for a terminal that stands still."""
    data = text.encode(stream.encoding or "utf-8", "backslashreplace")
    while data:
        data = data[os.write(stream.fileno(), data) :]


# ---------------------------------------------------------------------------------------------------------------
# Replay: what was recorded comes once more, to the same books and handlers, without a connection.


def play_recording(clients: Sequence[OkexWS], path: str, speed: float = 1.0) -> None:
    """Give clients the rows of a file that --sqlite or --jsonl wrote, unchanged and in its order.

    Each gets its channels, or all if it has none, until `close()`; v5's order books follow. `speed`
    1 is the recording's pace, 10 ten times that, 0 does not wait. ValueError for what is no recording.
    """
    if not 0 <= speed < inf or any(ws._reader for ws in clients):
        raise ValueError("a speed is 0 or more, and each client runs once")
    files = [str(getattr(writer.sink, "target", "")) for ws in clients for writer in ws._recorder.writers]
    if os.path.realpath(path) in map(os.path.realpath, files):
        raise ValueError(f"{path} is what is replayed: no sink may write into it")
    wanted = {ws: [*ws.channels] or ["*"] for ws in clients}

    @functools.cache  # a channel is subscribed to when it first comes
    def key(ws: OkexWS, channel: str) -> str:
        for each in wanted[ws]:
            if fnmatchcase(channel, each):
                ws._subscriptions.want(channel)
                ws._finder.patterns.pop(each, None)
        return ws.dialect.key(channel)

    began, first, why = monotonic(), 0.0, "closed"
    try:
        for (received, channel), records in itertools.groupby(recorded_rows(path), lambda record: record[:2]):
            first = first or received
            due = began + (received - first) / (speed or inf)
            if all(ws._stop.wait(due - monotonic()) for ws in clients):
                return
            rows = [row for *_, row in records]
            for ws in clients:
                own = rows if ws is clients[-1] else from_json(to_json(rows))
                replay_rows(ws, key(ws, channel), own, received)
        for channel in [name for ws in clients for name, state in ws.channels.items() if state == "wanted"]:
            okex_log.warning(f"{channel} is not in {path}.")
    except Exception as error:
        why = str(error)
        okex_log.error(f"Stopped: {why}.")
        raise
    finally:
        CHORUS.sum_up(0.0)
        for ws in clients:
            ws.ended.set()
            ws._notify(EXIT, why)
            ws.close()


replay = play_recording  # a public name, which a pasting script may redefine


def replay_rows(ws: OkexWS, key: str, rows: Rows, received: float) -> None:
    """Take the rows of one message; every request counts as granted."""
    table = ws._subscriptions
    entry = table.by_key.get(key)
    if entry and entry.state == "leaving":
        table.ended(key)
    if not entry or entry.state == "gone" or ws._stop.is_set():
        return
    if entry.state != "confirmed":
        ws._notify(SUBSCRIBED, table.confirmed(key))
    ws._reader, ws.replayed_at = threading.current_thread(), received
    ws.counts["messages"] += 1
    if isinstance(entry.keeper, OrderBook):
        rows = [shown for row in rows for shown in replay_book(ws, entry, entry.keeper, row)]
    give_rows(ws, entry.channel, final_rows(rows) if ws.final else rows)


def replay_book(ws: OkexWS, entry: Subscription, book: OrderBook, row: Any) -> Rows:
    """Keep a book. Returns its row, or with `depth` what that made of it."""
    if "seqId" not in row:  # it is of v1 or v3, or was recorded with a depth
        return [row]
    action = {-1: "snapshot", None: ""}.get(row.get("prevSeqId"), "update")
    try:
        views = book.take([row], action)
    except BookOutOfSync as error:
        views = []
        ws._resubscribe(entry, str(error))
    return views if ws.depth else [row]


def recorded_rows(path: str) -> Iterator[tuple[float, str, Any]]:
    """When each row of a recording was received, its channel, and the row."""
    import sqlite3

    try:
        with open(path, "rb") as file:
            if file.peek().startswith(b"SQLite format 3\0"):
                with closed_after(sqlite3.connect(path)) as db:
                    for received, channel, text in db.execute("SELECT * FROM rows ORDER BY rowid"):
                        yield float(received), str(channel), from_json(text)
                return
            for number, line in enumerate(file, 1):
                try:
                    record = from_json(line.decode().rstrip())
                    yield float(record["received"]), str(record["channel"]), record["row"]
                except ODD_ROW:
                    if number == 1 and not line.startswith(b'{"received":'):
                        raise
                    okex_log.warning(f"Line {number} of {path} is torn, and left out.")
    except (OSError, sqlite3.Error, *ODD_ROW) as error:
        raise ValueError(f"{path} is no recording: {error}") from None


# ---------------------------------------------------------------------------------------------------------------
# Command line.

HELP = """\
usage: okex_ws.py [options] [CHANNEL ...]

Print OKEx/OKX market data as it happens; all else goes to stderr.

  --list [PART]       what there is to receive
  --offline           the stand-in exchange of the tests folder
  --replay FILE       what --sqlite or --jsonl recorded, instead of an exchange
  --speed N           of a replay: 10 is ten times as fast, 0 does not wait (1)
  --url URL           connect to wss://host[/path]; of several, to the fastest
  --region REGION     global (default), eea (my.okx.com) or us (app.okx.com)
  --simulated         the exchange's hosts for simulated trading
  --proxy URL         http://, socks5:// or socks5h://[user:password@]host:port
  --depth N           order books as their best N levels a side, as a ladder
  --ping-every TIME   default: 30 for v1, 25 for v3, 20 for v5
  --seconds TIME      stop by itself after so long; 90m, 2h and 1d, too
  --count N           stop by itself after so many rows
  --fill TIME         how far back missing rows are fetched (1h; 0: not)
  --since TIME|N      first what came before: so long (2h), or so many rows
  --final             of v5's candles, the final ones alone
%s
  --name NAME         the NAME in the keys of Redis (default: default)
  --history N         rows of each channel that Redis keeps (default: 1000)
  --board             a live screen instead of lines; q leaves it
  --quiet             on stderr only what goes wrong
  --trace             on stderr every message both ways
  --version           print the version

examples:
  python okex_ws.py                                     live trades of BTC-USDT
  python okex_ws.py 'tickers:*-USDT-SWAP'               all that match
  python okex_ws.py --jsonl - --count 100 > rows.jsonl  a hundred rows as JSON
  python okex_ws.py @okex.conf                          all of it from a file
"""

LIST_LEGEND = """
Left the endpoint, and whether it needs a login (an API key); then what to ask
for; behind > the values of its rows. --list all has every kind, --list v3 and
--list v1 those of old, --list PART what has PART in it: btc, '*-SWAP', funding.
"""


def length_of_time(text: str) -> float:
    """90, 90s, 1.5m, 2h or 1d, in seconds; 0 for none. ValueError for anything else."""
    ((number, unit),) = re.findall(r"^(\d+\.?\d*|\.\d+)([smhd]?)$", text)
    return float(number) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def parse_arguments(argv: Sequence[str] | None) -> Any:
    """The options of HELP and SINKS, and the channels. Wrong ones: ValueError, OSError, SystemExit."""
    from argparse import ArgumentParser
    from shlex import split as shell_words

    words = list[str]()
    for word in sys.argv[1:] if argv is None else argv:
        words.append(word)
        if word.startswith("@"):
            with open(words.pop()[1:], encoding="utf-8") as file:
                text = re.sub(r"(?<=\S)#", "\0", file.read())  # no comment in a word
            words += [part.replace("\0", "#") for part in shell_words(text, comments=True)]
    lines = [f"  --{f'{option} TARGET':<17} {(sink.__doc__ or '-').splitlines()[0]}" for option, sink in SINKS.items()]
    text = HELP % "\n".join(lines)
    parser = ArgumentParser("okex_ws.py", "%(prog)s [options] [CHANNEL ...]", allow_abbrev=False)
    vars(parser).update(format_help=lambda: text)
    parser.add_argument("channels", nargs="*")
    kinds: Options = {"": {"action": "store_true"}, "N": {"type": int}, "TIME": {"type": length_of_time}}
    kinds |= {"[PART]": {"nargs": "?", "const": ""}, "--url": {"action": "append"}}
    kinds["--version"] = {"action": "version", "version": f"okex_ws {__version__}"}
    options = dict(re.findall(r"^  (--[\w-]+) (\S*) ", text, re.M))
    for option, value in options.items():
        parser.add_argument(option, **(kinds.get(option) or kinds.get(value) or {}))
    parser.set_defaults(region="global", speed=1, fill=3600.0, name="default", history=1000, credentials=None)
    args, unknown = parser.parse_known_intermixed_args(words)  # channels stand anywhere
    others = {"--json": ["--jsonl -", "--jsonl FILE"], "--csv": ["--sqlite FILE", "--jsonl FILE"]}
    if unknown:
        word = unknown[0].partition("=")[0]
        alike = others.get(word) or get_close_matches(word, [*options, "--help"], 1, 0.7)
        raise ValueError(did_you_mean(f"unrecognized arguments: {' '.join(unknown)}", alike))
    if (channels := joined_channels(args.channels)) != args.channels:
        raise ValueError(did_you_mean("a channel is one word", [" ".join(channels)]))
    usual = "trades:BTC-USDT"
    if args.board:
        if args.jsonl == "-" or not sys.stdout.isatty():
            raise ValueError("--board draws on a terminal: stdout has to be one")
        usual += " books:BTC-USDT tickers:BTC-USDT tickers:ETH-USDT tickers:SOL-USDT"
        usual += " tickers:XRP-USDT tickers:DOGE-USDT"
    if args.replay is None:
        args.channels = args.channels or usual.split()
    if re.fullmatch("0[smhd]?", args.since or ""):
        args.since = None
    for target in (args.jsonl, args.sqlite):
        if re.match(r"[a-z][\w-]*:\w+-\w|ok_sub_|\w+/\w+:", target or ""):
            raise ValueError(f"{target} reads like a channel: --jsonl and --sqlite want a FILE first")
    if min(args.count or 1, args.depth or 1, args.history) < 1 or args.speed < 0:
        raise ValueError("--count, --depth and --history want a number of 1 or more, --speed 0 or more")
    return args


def list_instruments(finder: Finder, pattern: str) -> list[str]:
    """The names for --list PART, a pattern or a part of them."""
    pattern = pattern.rpartition(":")[2].upper()  # tickers:BTC-USDT* will do, too
    names = finder.names("SPOT SWAP FUTURES OPTION", pattern)
    like = pattern if is_pattern(pattern) else f"*{pattern}*"
    found = [name for name in names if fnmatchcase(name, like)]
    return found or [name for name in names if (usual_spelling(pattern) or pattern) in name]


def show_list(args: Any) -> int:
    """Print what --list asks for. Exit status 1: there is nothing, or it cannot be had."""
    whole = {"all": V5, "v3": V3, "v1": V1}
    dialect, part = whole.get(args.list, V5), "" if args.list in whole else args.list
    kinds: Rows = [kind for kind in dialect.kinds if part.lower() in f"{kind.name} {kind.what}".lower()]
    if not args.list:
        usual = "trades tickers books books5 bbo-tbt candle1m funding-rate mark-price orders positions"
        kinds = [*map(dialect.kind, usual.split())]
    lines = list[str]()
    if part:
        trouble = f"Nothing that is traded matches {part} (options by family: BTC-USD-*-C)."
        rest = Rest("trades:BTC-USDT", args.proxy, args.url, args.region, args.simulated)
        try:
            lines = list_instruments(Finder(rest), part)
        except (OSError, ValueError, websocket.WebSocketException) as error:
            trouble = f"The list cannot be had: {explain(error, rest.url, rest.proxy)}."
    for kind in kinds:
        lines.append(f"{kind.where:<16} {f'{kind.name}:{kind.argument}'.rstrip(':')}")
        places = [f"<{place}>: {dialect.places[place]}" for place in re.findall("<(.+?)>", kind.name)]
        for text in [kind.what, *places, f"> {kind.columns.strip('[]')}"]:
            lines += wrap(text, 80, initial_indent=" " * 17, subsequent_indent=" " * 19)
    if not lines:
        okex_log.error(printable_text(trouble))
    with suppress(BrokenPipeError):  # | head
        write_out(sys.stdout, "\n".join([*lines, "" if args.list else LIST_LEGEND]))
    return int(not lines)


class Console(logging.Handler):
    """The log on stderr, on a thread: who logs waits for no terminal that stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        self.muted = False  # while the board is there
        self.kept = deque[str](maxlen=200)  # for the board, without routine
        self.lines = LogQueue[str]()  # to be written
        daemon_thread("console", self._run).start()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if not re.match(r"\S+ \S+ (sent|received|subscribed)\.", line):
            self.kept.append(line)
        if not self.muted:
            self.lines.put(line)

    def _run(self) -> None:
        while True:
            with suppress(AttributeError, OSError, ValueError):  # stderr is closed
                write_out(sys.stderr, f"{self.lines.get()}\n")
            self.lines.task_done()

    def drain(self) -> None:
        """Leave the end of a board's log; wait until all is written, but 2 s at most."""
        for line in [*self.kept][-10:] if self.muted else ():
            self.lines.put(line)
        self.muted, end = False, monotonic() + 2.0
        while self.lines.unfinished_tasks and monotonic() < end:
            pause(0.005)


class Run(Recorder):
    """A run of the command line: its clients, the first on the main thread, sinks, one end."""

    def __init__(self, args: Any, console: Console):
        super().__init__([])
        self.args, self.console = args, console
        self.running = False  # whether clients are started
        self.rows = 0  # received, under lock
        self.reason = "the first try did not end"  # why the last one failed
        self.ending = threading.Event()
        self.ends: Rows = []  # when, with which status; the first counts
        self.board = Board(self.clients, self.writers, console.kept)
        targets = {option: vars(args)[option] for option in SINKS if vars(args)[option] is not None}
        self.output: Any = self.board.note if args.board else None
        if args.jsonl == "-":
            self.output = json_rows
            del targets["jsonl"]
        elif not targets and not args.board:
            args.depth = args.depth or 1  # the changes of a book are nothing to print
            self.output = functools.partial(print_rows, ladder=args.depth)
        if args.replay is None:
            self.subscribe(args.channels)
            if (args.depth or 1) > 1 and not any(likely_dialect(each).book(each) for each in args.channels):
                raise ValueError("--depth has no effect without an order book")
        else:
            next(recorded_rows(args.replay), None)  # ValueError if it is no recording
            if os.path.realpath(args.replay) in map(os.path.realpath, targets.values()):
                raise ValueError(f"no sink may write into {args.replay}: it is replayed")
            ws = OkexWS([], self.handle, depth=args.depth, final=args.final)
            ws._finder.patterns = dict.fromkeys(args.channels, "wanted")  # or names
            self.clients.append(ws)
            self.hear(ws)
        demand_history(args.channels, args.since)
        if args.final and all(ws.dialect.retired for ws in self.clients):
            raise ValueError("--final has no effect: v1 and v3 do not say that a candle is final")
        self.open(targets, name=args.name, history=args.history, command=self.command)
        self.recording = targets and sys.stderr.isatty()

    def hear(self, ws: OkexWS) -> None:
        """Have a new client tell this run what happens, and start it, if the others are."""
        vars(ws).update(on_status=functools.partial(self.on_status, ws), found=self.subscribe)
        vars(ws._recorder)["recall"] = self.recall
        ws.ways = ("--proxy URL.", "--region eea.", "--offline.")
        if len(self.clients) > 1 or self.output in (None, self.board.note):
            for each in self.clients:
                each.ping_level = logging.DEBUG
        if self.running and not self.ending.is_set():
            ws.start()

    def run(self) -> int:
        """Receive until something ends that. Returns the exit status."""
        finisher = daemon_thread("end", self.finish)
        with self.signals_watched():
            finisher.start()
            self.running = True  # from now on, hear() starts clients
            first, *others = self.clients
            for ws in others:
                ws.start()
            with suppress(BaseException):  # it is logged
                if self.args.replay:
                    first.replay(self.args.replay, self.args.speed)
                else:
                    first.run()
                self.stop(0)
            finisher.join()
        return self.status

    @contextmanager
    def signals_watched(self) -> Iterator[None]:
        """End the run on a signal, and give up rows on the next, even while a name is looked up."""
        import signal

        if threading.current_thread() is not threading.main_thread():  # no signals
            yield
            return
        watched = {SIGINT, signal.SIGTERM}
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == SIG_DFL:  # no nohup
            watched.add(signal.SIGHUP)  # the window is closed
        inbox, outbox = socket.socketpair()

        def watch() -> None:
            while received := inbox.recv(16):
                for number in watched.intersection(received):  # not a script's
                    self.stop(130 if number == SIGINT else 0)
                    for writer in self.writers:
                        writer.given_up = monotonic() > self.ends[0][0] + 0.5  # no double press
            inbox.close()

        daemon_thread("signals", watch).start()
        outbox.setblocking(False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in watched}
        descriptor = signal.set_wakeup_fd(outbox.fileno())
        yield
        signal.set_wakeup_fd(descriptor)
        for handled in handlers.items():
            signal.signal(*handled)
        outbox.close()

    def subscribe(self, channels: Iterable[str]) -> None:
        """Give each channel to a client of its endpoint. ValueError for what cannot be."""
        args = self.args
        if args.replay is not None:
            raise ValueError("this is a replay: its channels were chosen at the start")
        names = "url credentials region simulated proxy depth ping_every fill final".split()
        options = {name: vars(args)[name] for name in names}
        for channel in channels:
            if wrong := misnomer(channel):
                raise ValueError(wrong)
            dialect = dialect_of(channel)
            if dialect.retired and not args.url:
                today = todays_channel(channel)
                raise ValueError(f"{channel}: OKX gave up {dialect.name} in {dialect.retired}. Today: {today}")
            if args.redis and not args.depth and dialect.book(channel) == "changes":
                raise ValueError(f"{channel}: its latest row would be a change, no book: say --depth 20")
            if ws := place_channel(channel, self.clients, args.since, handler=self.handle, **options):
                self.hear(ws)

    def command(self, op: str, channels: list[str]) -> Any:
        """Do what another program asks for: how all channels stand, or ValueError."""
        if op == "quit":
            threading.Timer(0.2, self.stop, [0]).start()  # once it is answered
        elif op == "unsubscribe":
            for ws in self.clients:
                ws.unsubscribe(*channels)  # each drops those that it has
        elif op == "subscribe":
            if any(map(is_pattern, channels)):
                raise ValueError("patterns are for the start: subscribe by names")
            self.subscribe(channels)
            end = monotonic() + 3.0
            asked = [each for ws in self.clients for each in ws._subscriptions if each.channel in channels]
            while {"wanted", "sent"} & {each.state for each in asked} and monotonic() < end:
                pause(0.02)
            for each in asked:
                if each.state == "refused":
                    raise ValueError(f"{each.channel}: {each.reason}")
        elif op != "channels":
            raise ValueError(f"no op {op!r}: there are subscribe, unsubscribe, channels and quit")
        states = {name: state for ws in self.clients for name, state in ws.channels.items()}
        return dict.fromkeys(channels, "") | states

    def on_status(self, ws: OkexWS, status: str, detail: str) -> None:
        others = self.args.redis or not all(each._subscriptions.hopeless for each in self.clients)
        if status == EXIT and ws._subscriptions.hopeless and others:
            return  # others go on
        self.record(wall_clock(), "", (status, detail))
        if status in (DISCONNECTED, EXIT) and detail != "closed":
            self.reason = detail
            if status == EXIT:
                self.stop(1)

    def handle(self, channel: str, rows: Rows) -> None:
        """Queue rows for the sinks, and print them."""
        received, count = self.clients[0].replayed_at or wall_clock(), self.args.count
        with self.lock:
            if self.ending.is_set():
                return
            rows = rows[: count - self.rows] if count else rows
            self.rows += len(rows)
            self.record(received, channel, rows)
            try:
                if self.output:
                    self.output(channel, rows, received=received)
            except OSError as error:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the exit
                if not isinstance(error, BrokenPipeError):  # | head
                    okex_log.error(f"Cannot write to stdout: {error}.")
                    self.stop(1)
                self.stop(0)
            if self.rows == count:
                self.stop(0)

    def show(self) -> None:
        """Show the board; tell a terminal what is recorded, after a minute, then every ten."""
        if self.args.board:
            left = self.board.show(self.ending)
            self.console.drain()
            if left or not self.writers:  # a board that fails leaves sinks alone
                self.stop(int(not left))
        wait = 60.0
        while self.recording and not self.ending.wait(wait):
            okex_log.warning(f"{', '.join(map(str, self.writers))}.")
            wait = 600.0

    def stop(self, status: int) -> None:
        """End the run, with this status if nothing ended it before. From any thread."""
        self.ends.append((monotonic(), status))
        self.ending.set()

    def finish(self) -> None:
        """After the end, write what is queued and sum up; exit if the main thread is stuck."""
        screen = daemon_thread("screen", self.show)
        screen.start()
        if not self.ending.wait(self.args.seconds or None):
            self.stop(0)
        ended, status = self.ends[0]
        for ws in self.clients:
            ws.close()
        for ws in self.clients:  # so that what each misses is told
            if not ws.ended.wait(ended + 0.5 - monotonic()):
                ws._filler.end()  # it connects, perhaps, and may never come back
        screen.join(1.0)
        written, first = self.end(ended), self.clients[0]
        connected = self.args.replay or any(ws.counts["connects"] for ws in self.clients)
        self.status = status or int(not (written and connected))
        self.sum_up()
        if not connected:
            okex_log.error(f"Never connected: {self.reason}.")
        if first._reader is threading.main_thread() and not first.ended.wait(ended + 1.0 - monotonic()):
            self.console.drain()
            os._exit(self.status)

    def sum_up(self) -> None:
        counts = sum((ws.counts for ws in self.clients), Counter[str]())
        received = f"{plural(self.rows, 'rows')} in {plural(counts.pop('messages', 0), 'messages')}"
        del counts["connects"]
        counts["reconnects"] = self.board.reconnects
        if "holes" in counts:
            counts["missing"] += 0  # this is told, too
        chosen = [origin_of(ws._route.url) for ws in self.clients if len(ws._route.lines) > 1]
        lines = sorted({f"line {passwordless(line)}" for line in chosen})
        parts = [*(plural(n, what) for what, n in counts.items()), *map(str, self.writers), *lines]
        level = logging.WARNING if self.recording else logging.INFO  # with --quiet, too
        took = monotonic() - self.board.began
        okex_log.log(level, f"{received} over {took:.1f} s, {', '.join(parts)}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    with suppress(KeyboardInterrupt):
        sys.stdout = sys.stdout or open(os.devnull)  # closed: writing raises OSError  # noqa: SIM115
        console = Console()
        okex_log.handlers, okex_log.propagate = [console], False
        try:
            with suppress(AttributeError):  # on a console without UTF-8, escapes
                sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            args = parse_arguments(argv)
            console.muted = args.board and sys.stderr.isatty()
            level = logging.WARNING if args.quiet else logging.INFO
            okex_log.setLevel(logging.DEBUG if args.trace else level)
            if args.offline:
                sys.path.insert(0, os.path.realpath(__file__ + "/../tests"))
                try:
                    exchange = __import__("exchange").Exchange().start()
                except ImportError:
                    raise ValueError("--offline needs the repository's tests/exchange.py") from None
                args.url, args.credentials = exchange.url, Credentials(*exchange.keys)
                okex_log.info(f"Offline: a stand-in exchange, prices made up, at {args.url}.")
            return Run(args, console).run() if args.list is None else show_list(args)
        except (ImportError, OSError, ValueError) as error:
            console.lines.put(f"okex_ws.py: {mask_secrets(str(error))}")
            return 2
        finally:
            console.drain()
    return 130


if __name__ == "__main__":
    set_signal(SIGINT, handler_of_ctrl_c)

if __name__ == "__main__":  # leave this out where you paste the file into a script of your own
    sys.exit(main())
