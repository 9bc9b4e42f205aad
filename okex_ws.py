#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["websocket-client>=1.8.0"]
# ///
"""Receive OKEx/OKX market data over WebSocket, and never be silently wrong.

    python okex_ws.py               # live trades of BTC-USDT from OKX (v5)
    python okex_ws.py --offline     # the same program against a stand-in exchange on this machine
    python okex_ws.py --offline --board   # a live screen of it

As a library, beside your script, or pasted into it:

    from okex_ws import OkexWS

    def handler(channel, rows):
        for row in rows:
            print(row["px"], row["sz"], row["side"])

    OkexWS(["trades:BTC-USDT"], handler).run()

Threads: `run()` connects, reads and calls the handler on the thread that called it; `start()` does so on a daemon
thread. One more daemon thread, `send_heartbeat`, sends the ping. `subscribe`, `unsubscribe`, `close` and the order
books may be used from any thread, the handler's included.

Sections: the client at a glance; connection; subscriptions; wire; reading; order books; series; account; network;
finding; output; command line. Each begins with a line of dashes and its name.
"""

import argparse
import base64
import concurrent.futures
import contextlib
import functools
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
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice, zip_longest
from json import JSONDecoder, JSONEncoder
from json import loads as json_loads
from math import inf, isfinite
from pathlib import Path
from random import uniform  # here and below: no modules, and no names that a script has for something else
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
    "V1", "V3", "V5", "dialect_of", "endpoint", "fields", "find_channels", "inflate", "print_rows", "main",
]  # fmt: skip
__version__ = "1.1.0"

MAX_MESSAGE = 4 << 20  # bytes of one message, inflated; the largest real one, a full book, has about 0.1 MB
INFLATE_FREELY = MAX_MESSAGE // 1032  # bytes; DEFLATE expands 1032 times at most, so these need no bound
RAW = -zlib.MAX_WBITS  # DEFLATE without a zlib header

CONNECTED, SUBSCRIBED, DISCONNECTED = "CONNECTED", "SUBSCRIBED", "DISCONNECTED"  # what on_status hears
GAP, REFUSED, EXIT = "GAP", "REFUSED", "EXIT"

okex_log = logging.getLogger("okex_ws")  # Ping, pong, subscriptions at INFO, trouble at WARNING, frames at DEBUG


# ---------------------------------------------------------------------------------------------------------------
# The client at a glance: the callbacks of the WebSocketApp, and the heartbeat's thread.


def on_open(ws: "OkexWS") -> None:
    """Connected: log in, if a channel needs it, and subscribe to everything that is wanted."""
    ws._begin()
    ws.counts["connects"] += 1
    okex_log.info("Connected to %s.", passwordless(ws.url))
    ws._notify(CONNECTED, ws.url)
    ws._send_due()


def on_message(ws: "OkexWS", message: str | bytes) -> None:
    """One message: inflate it, tell pong, confirmation and channel data apart, and act on each event in it."""
    try:
        text = ws._inflate(message).decode() if isinstance(message, bytes) else message
    except ValueError as error:
        ws.malformed(str(error), message)
        return
    if ws.tracing:
        okex_log.debug("< %s", text)
    for event in ws.dialect.parse(text):
        match event:
            case Push():
                ws._deliver(event)
            case Pong():
                ws._ponged()
            case Subscribed():
                ws._confirmed(event)
            case Unsubscribed():
                ws._unsubscribed(event)
            case Refused():
                ws._refused(event)
            case LoggedIn():
                ws._logged_in()
            case LoginRefused():
                ws._login_refused(event)
            case Reply():
                ws._answered(event)
            case Notice():
                ws._noticed(event)
            case Ping():
                ws.send(ws.dialect.pong)
            case Malformed():
                ws.malformed(event.reason, text)
            case Unknown():
                ws._ignored(event)


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


def send_heartbeat(ws: "OkexWS") -> None:
    """Send the ping every `ws.ping_every` seconds for the life of the client, and retry until the send succeeds."""
    while not ws._stop.wait(ws.ping_every):
        ws._report_lag(monotonic())
        failed = False
        while not ws._stop.is_set():
            try:
                ws._watchdog.pinging(monotonic())
                ws.send(ws.dialect.ping)
                okex_log.info("Ping sent.")
                break
            except Exception as error:
                ws._watchdog.not_pinged()
                if not failed:
                    okex_log.warning("Ping not sent, trying again every second: %s.", explain(error, ws.url))
                failed = True
                ws._stop.wait(1.0)


def on_error(ws: "OkexWS", error: BaseException) -> None:
    """The connection failed, or could not be made. What no retry can mend is kept, and `run()` raises it."""
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)  # websocket-client swallows these
    untrusted = isinstance(error, ssl.SSLCertVerificationError) and not ws.counts["connects"]
    if interrupted or untrusted:
        ws._fatal = error
    ws._hang_up(explain(error, ws.url, ws._proxy))


def on_close(ws: "OkexWS", code: int | None, reason: str | None) -> None:
    """The connection is closed; `code` and `reason` if the exchange said why."""
    if code:
        ws._closed_by_exchange(str(code), reason or "")


# ---------------------------------------------------------------------------------------------------------------
# The connection: one WebSocketApp that comes back by itself, and passes what arrives to its parts.

CONNECT_TIMEOUT = 10.0  # seconds, for each step of connecting: TCP, TLS, handshake
SILENCE_MARGIN = 10.0  # seconds beyond ping_every in which something, a pong at least, must arrive
MAX_LAG = 3.0  # seconds since the socket was last found empty, after which order books do not answer
MAX_JUMP = 3.0  # seconds by which time.time() and time.monotonic() may part between two looks, a second apart
MAX_RETRY = 30.0  # seconds between two tries to connect, at most
MAX_NAMED = 20  # channels of a client whose confirmations are logged one by one
MAX_SAID = 1000  # different lines that are said only once
CONNECT_SPACING = 0.34  # seconds; OKX accepts 3 connects a second per IP (docs-v5 overview, 2026)
FILL_BACK = 3600.0  # seconds back that missing trades and candles are fetched, unless told otherwise
UPGRADE = "the exchange announced a service upgrade"

Handler = Callable[[str, list[Any]], None]


class Reconnect(Exception):
    """Raised on the reading thread to end a connection, with the reason in words; the client makes the next one."""


class Connection(WebSocketApp):
    """A WebSocketApp that connects within limits, and ends at once. It knows nothing of the exchange's protocol."""

    def __init__(self, url: str, proxy: dict[str, Any], **callbacks: Any) -> None:
        self._proxy = proxy  # what websocket-client is told about a proxy
        self._reason = ""  # why the connection ended, in words: of several, the first, but for the exchange's own
        self._connected = threading.Event()  # the attempt that is under way has ended: its handshake needs no limit
        super().__init__(url, header=self._before_connect, **callbacks)

    def send(self, data: bytes | str, opcode: int = ABNF.OPCODE_TEXT) -> None:
        """Send one message. Raises WebSocketConnectionClosedException while there is no connection."""
        connection = self.sock  # once: the reading thread sets it to None at any moment
        if connection is None or not connection.connected:  # before that, this would be written into the handshake
            raise websocket.WebSocketConnectionClosedException("not connected")
        okex_log.debug("> %s", data)
        try:
            connection.send(data, opcode)
        except Exception:
            self._hang_up("sending failed")  # half a frame may have left: nothing can follow it
            raise

    def _connect(self) -> None:
        """One connection, from the TCP handshake to its end. What goes wrong is told to on_error."""
        self._reason = ""
        try:
            self.run_forever(**self._proxy)
        except Exception as error:  # 1.8.0 stumbles over a close frame that is not UTF-8
            self.on_error(self, error)  # type: ignore[misc]
            self.sock = None
        finally:
            self._connected.set()

    def _before_connect(self) -> list[str]:
        # websocket-client asks for the headers right before it connects: the one place to set up this connection
        # alone. setdefaulttimeout() would change every other WebSocket in the user's script.
        assert self.sock is not None
        self.sock.settimeout(CONNECT_TIMEOUT)  # for each piece that arrives; what follows is for the whole
        self._limit_handshake(self.sock)
        # A redirect could lead to any host, and the login would follow it.
        self.sock.connect = functools.partial(self.sock.connect, redirect_limit=0)  # type: ignore[method-assign]
        return []

    def _limit_handshake(self, connection: Any) -> None:
        """End this connection's handshake after CONNECT_TIMEOUT, however slowly its answer dribbles in."""
        self._connected = connected = threading.Event()

        def watch() -> None:
            while not connected.wait(CONNECT_TIMEOUT):
                if connection.sock:  # before that come DNS, TCP and TLS, which have their own limits
                    self._hang_up(explain(TimeoutError(), self.url, self._proxy))
                    return

        threading.Thread(target=watch, name="okex_ws handshake", daemon=True).start()

    def _handshake_done(self) -> str:
        """The handshake is over: take its limit away. Returns the date that the server gave in it, "" if none."""
        assert self.sock is not None
        self._connected.set()
        if self.sock.getstatus() != 101:  # 1.8.0 takes a redirect that it does not follow for a success
            raise websocket.WebSocketException("Redirect limit exhausted")
        return str((self.sock.getheaders() or {}).get("date", ""))

    def _hang_up(self, reason: str = "") -> None:
        """Make the reading thread leave the connection, from any thread: a read under way returns at once."""
        self._reason = self._reason or reason
        self.keep_running = False
        connection = self.sock  # once, see send
        sock = connection and connection.sock
        if sock:
            with suppress(OSError):  # not sock.shutdown(): SSLSocket's own would go on in plain text
                socket.socket.shutdown(sock, socket.SHUT_RD)


class OkexWS(Connection):
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
    fill        seconds back, at most, that missing trades and candles of v5 are fetched by REST; 0 for not at all.
                Their rows come late, and have "restored": true

    `books[channel]` is the live OrderBook of a book channel.
    Assign or override `on_status(status, detail)` to hear CONNECTED, SUBSCRIBED, DISCONNECTED, GAP, REFUSED and EXIT.
    `counts` counts messages, connects and what went wrong.
    """

    # Bound when the class is made: functions of the same names in a script that this is pasted into do not replace
    # them.
    receive = on_message
    _inflate = staticmethod(inflate)
    _on_open = on_open
    _on_error = on_error
    _on_close = on_close
    _send_heartbeat = send_heartbeat

    def __init__(
        self,
        channels: str | Iterable[str],
        handler: Handler | None = None,
        *,
        url: str | None = None,
        credentials: "Credentials | None" = None,
        region: str = "global",
        simulated: bool = False,
        proxy: str | None = None,
        depth: int | None = None,
        ping_every: float | None = None,
        fill: float = FILL_BACK,
    ) -> None:
        wanted = [channels] if isinstance(channels, str) else list(channels)
        first = (*wanted, "account" if credentials else "status")[0]  # it tells the endpoint
        self.dialect = dialect_of(first)
        self.handler = handler or print_rows
        self.depth = depth if handler or depth else 1  # a change of a book is nothing to print
        self.ping_every = ping_every or self.dialect.ping_every
        self.counts: Counter[str] = Counter()  # written by the reading thread, but for what is rare
        self.complaints = Complaints(self.counts)

        # The parts: each has its own lock where it needs one, and none knows the socket.
        self._endpoint_of = functools.partial(endpoint_of, url=url, region=region, simulated=simulated)
        server = self._endpoint_of(first)
        rest = Rest(server, simulated, proxy_options(proxy, server))
        self._stop = threading.Event()  # set by close(): run() ends
        self._watchdog = Watchdog(self.ping_every)
        self._subscriptions = Subscriptions(self.dialect, self._watchdog.doubt)
        self.books = self._subscriptions.books  # by channel, as its user wrote it
        self._login = Login(self.dialect, credentials, server, proxy is None, bool(credentials) and not wanted)
        self._orders = Orders(self.dialect, rest)
        self._finder = Finder(rest, self._stop, self._notify)
        self.ended = threading.Event()  # run() is over, and what is missing is told
        self._series = SeriesKeeper(rest, self._stop, fill, self.counts, self._notify)
        self._backoff = Backoff()
        # Guards _open. Held while due requests are taken from the table and sent, so that they leave in order, on the
        # connection that they were taken for. Who wants to send meanwhile waits; what arrives is read on.
        self._sending = threading.Lock()
        self._reader = 0  # ident of the thread that runs run()
        self._open = False  # between on_open and the end of the connection
        self._fatal: BaseException | None = None  # what no retry can mend; run() raises it
        self.tracing = False  # whether messages are logged; the reader looks it up for each chunk of them
        callbacks = {"on_open": OkexWS._on_open, "on_error": OkexWS._on_error, "on_close": OkexWS._on_close}
        super().__init__(server, rest.proxy, **callbacks)
        self.subscribe(*wanted)
        self.complaints.retired(self.dialect, wanted if url is None else [])

    # Public calls.

    @property
    def latency(self) -> float | None:
        """The last ping's round trip in milliseconds; None before the first pong."""
        return self._watchdog.latency

    @property
    def channels(self) -> dict[str, str]:
        """Each channel and how its subscription stands: wanted, sent, confirmed, refused or leaving."""
        patterns = dict.fromkeys(self._finder.patterns, "wanted")  # until it is known what they stand for
        return patterns | {subscription.channel: subscription.state for subscription in self._subscriptions}

    def run(self) -> None:
        """Connect, read, and reconnect until `close()`. Call it on the main thread, or use `start()`.

        Raises ssl.SSLCertVerificationError if the very first connection meets a certificate that is not valid,
        LoginError, and KeyboardInterrupt on Ctrl-C. Everything else is retried.
        """
        if self._reader:
            raise RuntimeError("this client ran before: make another one")
        self._reader = threading.get_ident()
        try:
            self._finder.look_up(self._backoff, self.found)
            if not self._stop.is_set():
                okex_log.info("Connecting to %s.", passwordless(self.url))
            threading.Thread(target=self._send_heartbeat, name="okex_ws heartbeat", daemon=True).start()
            while not self._stop.wait(self._backoff.turn(monotonic())):
                connects = self.counts["connects"]
                self._connect()
                if self._fatal:
                    raise self._fatal
                if not self._stop.is_set():
                    self._wait_to_reconnect(self.counts["connects"] > connects)
        except BaseException as error:  # asyncio.CancelledError, say, from the handler
            self._fatal = error
            raise
        finally:
            self._stop.set()
            self._finder.finish()
            self._series.finish(self._subscriptions)
            self.ended.set()
            self._notify(EXIT, explain(self._fatal, self.url) if self._fatal else "closed")

    def start(self) -> None:
        """`run()` on a daemon thread: for scripts whose main thread is busy with a strategy."""
        threading.Thread(target=self._run_in_background, name="okex_ws reader", daemon=True).start()

    def close(self, **_: Any) -> None:
        """End `run()`: at once if it reads or waits, after the attempt if it is connecting. From any thread."""
        self._stop.set()
        self._hang_up()

    def subscribe(self, *channels: str) -> None:
        """Want these channels, now and after every reconnect. One that was refused is asked for again.

        Raises ValueError for a channel of another generation or endpoint, which takes an OkexWS of its own, for a
        private channel without keys, and for a pattern once the client runs.
        """
        for channel in channels:
            where = self._endpoint_of(channel)
            if where != self.url or dialect_of(channel) is not self.dialect:
                here, there = passwordless(self.url), passwordless(where)
                raise ValueError(f"{channel} is served at {there}, this client connects to {here}: use another one")
            if self.dialect.private(channel):
                self._login.demand(channel)
            if is_pattern(channel) and self._reader:
                raise ValueError(f"{channel}: patterns are for the start; find_channels() says what one stands for")
        for channel in channels:
            if is_pattern(channel):
                self._finder.want(channel)
            else:
                self._subscriptions.want(channel)
                self.complaints.misnamed(channel)
        self.complaints.crowded(list(self.books.values()))
        self._send_due()

    def found(self, channels: list[str]) -> None:
        """Subscribe to what the patterns stand for, before the first connection. Override it to choose."""
        self.subscribe(*channels)

    def unsubscribe(self, *channels: str) -> None:
        """Want these channels, or all that match a pattern, no more. Their rows stop at once, even if on their way."""
        for channel in self._finder.drop(channels, self.channels):
            self._subscriptions.drop(channel)
        self._send_due()

    def request(self, op: str, args: dict[str, Any] | list[dict[str, Any]], timeout: float = 10.0) -> list[Any]:
        """Send an order request of v5 and return the exchange's answer, an object for each order.

        ws.request("order", {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "market", "sz": "1"})

        `op` is order, cancel-order, amend-order, batch-orders, batch-cancel-orders, batch-amend-orders or
        mass-cancel; on a client of /business, sprd-order, sprd-amend-order, sprd-cancel-order or sprd-mass-cancel.
        For `instId` the exchange wants `instIdCode` since 2026; it is looked up once. Nothing is ever sent twice.
        Raises OrderError if the exchange refuses it, even in part, or if nobody knows what became of it. Call it
        from any thread but the handler's, which has to read the answer, on a client that logs in: one that has
        private channels, or OkexWS([], credentials=…).
        """
        if threading.get_ident() == self._reader:
            raise RuntimeError("request() would wait for itself: call it from another thread than the handler's")
        self._login.demand(op)
        self.dialect.check_operation(op, self.url)
        if not self._logs_in:
            raise ValueError("this client does not log in: orders take one with private channels, or none at all")
        return self._orders.place(op, args, timeout, self._login.complete, self.send)

    def recall(self, channel: str, rows: Iterable[Any]) -> None:
        """Say what an earlier run kept of a channel, oldest first, before `run()`: what it left out is fetched."""
        subscription = self._subscriptions.find(self.dialect.key(channel))
        if subscription:
            self._series.recall(subscription, rows)

    def on_status(self, status: str, detail: str) -> None:
        """Hear what happens to the connection, from any thread. Override it, or assign a function of both."""

    def malformed(self, reason: str, message: str | bytes) -> None:
        """A message that cannot be read: it is counted, quoted and dropped."""
        self.complaints.malformed(reason, message if not self._login.pending else NOT_QUOTED)

    # The life of a connection.

    def _run_in_background(self) -> None:
        try:
            self.run()
        except BaseException as error:
            okex_log.error("Stopped for good: %s.", explain(error, self.url))

    def _begin(self) -> None:
        """What a new connection begins with."""
        self._login.reset(self._handshake_done())
        self._watchdog.start(monotonic())
        self._open = True

    def create_dispatcher(self, *args: Any, **options: Any) -> Any:
        dispatcher = super().create_dispatcher(*args, **options)
        dispatcher.read = self._read  # type: ignore[method-assign, assignment]
        return dispatcher

    def _read(self, *_: Any) -> None:
        """Read until the connection ends, and leave it: send a close frame, but do not wait for its answer."""
        connection: Any = self.sock
        if self._stop.is_set():  # since before run_forever() set keep_running
            self._hang_up()
        try:
            Reader(self, self._watchdog).run(self._tick)
        finally:
            self._end()
            if connection.connected:
                with suppress(Exception):
                    connection.send_close()
            connection.shutdown()

    def _end(self) -> None:
        """The connection is over: its books are closed, and who waits for an answer is told."""
        with self._sending:  # or what is taken from the table meanwhile would count as sent on the next connection
            self._open = False
            self._subscriptions.restart("disconnected")
        self._watchdog.stop()
        self._login.reset()
        self._orders.lost("the connection was lost before the answer came")

    def _tick(self, now: float) -> None:
        """What is due on the reading thread once a second."""
        jump = self._watchdog.jump(follow=True)  # before anything is logged, which may take its time
        lines, reason = self._subscriptions.late(now)
        for line in lines:
            okex_log.warning(line)
        reason = reason or self._subscriptions.exhausted(now)
        reason = jump or self._watchdog.silence(now) or self._login.late(now) or reason
        if reason:
            self._hang_up(reason)
        self._report_lag(now)
        self._send_due()

    def _wait_to_reconnect(self, connected: bool) -> None:
        delay = self._backoff.delay(at_once=self._reason == UPGRADE)
        reason = self._reason or "connection lost"
        if not connected and port_of(self.url) == 8443 and not self.dialect.retired:
            reason += " (OKX closed port 8443 on 2026-10-31: leave the port out)"
        self.complaints.disconnected(self.url, connected, reason, delay)
        if self._backoff.tries == 3:
            self.complaints.never_connected()
        self._notify(DISCONNECTED, reason)
        self._stop.wait(delay)

    def _closed_by_exchange(self, code: str, reason: str) -> None:
        if code == "4001" and self._login.pending and not self._fatal:
            self._fatal = LoginError(f"the exchange closed the connection instead of logging in: {HINTS[code]}")
        words = printable_text(reason or HINTS.get(code, ""))
        self._reason = f"closed by the exchange with code {code} {words}".rstrip()

    def _report_lag(self, now: float) -> None:
        """From the reader's thread, and from the ping's: a handler that blocks is noticed, too."""
        self.complaints.lag(self._watchdog.lag_change(now), self._notify)

    def _notify(self, status: str, detail: str) -> None:
        """Call the user's on_status, with no lock held: it may call anything here."""
        try:
            self.on_status(status, mask_secrets(detail))
        except Exception:
            okex_log.exception("on_status failed on %s.", status)

    # What leaves.

    def _send_due(self) -> None:
        """Send what is due: the login, where one is needed, and after it the requests for channels."""
        with self._sending:
            if not self._open:
                return
            now = monotonic()
            with suppress(OSError, websocket.WebSocketException):  # the connection is gone; the next starts afresh
                if self._logs_in and not self._login.done:
                    if not self._login.pending and self._subscriptions.may_request(now):
                        self.send(self._login.request(now))
                    return
                for op, channels, id in self._subscriptions.take_due(now):
                    if op == "subscribe":
                        self.send(self.dialect.subscribe(channels, id, self._login.credentials))
                    else:
                        self.send(self.dialect.unsubscribe(channels, id))
            if self._subscriptions.spent:
                self.complaints.once("This hour's requests are used up: what is asked for waits, a minute at most.")

    @property
    def _logs_in(self) -> bool:
        return self._login.for_orders or self._subscriptions.private

    # What arrives: on_message calls these, on the reading thread.

    def _deliver(self, event: "Push") -> None:
        """Give rows to the handler: named where they are lists, by way of the book or the series where there is one."""
        channel, rows, action = event
        subscription = self._subscriptions.by_key.get(channel) or self._subscriptions.alias(channel)
        if subscription is not None:
            if subscription.state != "confirmed" and not self._subscriptions.accepts(subscription, action):
                return
            channel = subscription.channel
            series = subscription.series
            if series is not None and series.follow(rows):
                pass  # simply the next trade, as nearly always
            elif subscription.book is not None:
                rows = self._keep_book(subscription, subscription.book, rows, action)
            else:
                if subscription.name_rows is not None:
                    rows = subscription.name_rows(rows)
                if series is not None and not (rows := self._series.take(subscription, series, rows)):
                    return
        elif self._subscriptions.gave_up(channel):
            return
        else:  # nobody asked for it, and its name is not known to be one
            channel = printable_text(channel)
        self._backoff.tries = 0
        try:
            self.handler(channel, rows)
        except Exception as error:
            self.complaints.handler_failed(channel, error)

    def give_restored(self) -> bool:
        """Give the handler some of the rows that were missing. Whether there were any."""
        if not self._series.filled:
            return False
        self._series.restore(self._restore)
        return True

    def _restore(self, channel: str, rows: list[Any]) -> None:
        """Give the handler rows that were missing."""
        try:
            self.handler(channel, rows)
        except Exception as error:
            self.complaints.handler_failed(channel, error)

    def _keep_book(self, subscription: "Subscription", book: "OrderBook", rows: list[Any], action: str) -> list[Any]:
        """Apply rows to a book. Returns what the handler gets: the rows, or a view of the book after each change."""
        book.depth = self.depth
        try:
            return book.take(rows, action)
        except BookOutOfSync as error:
            self._resubscribe(subscription, str(error))
            return []

    def _resubscribe(self, subscription: "Subscription", why: str) -> None:
        """A book is out of sync: subscribe to that one channel anew."""
        if not self._subscriptions.resubscribe(subscription, why):
            return
        self.counts["gaps"] += 1
        message = "%s: %s. The book is not valid until it is subscribed to anew."
        okex_log.warning(message, subscription.channel, why)
        self._notify(GAP, f"{subscription.channel}: {why}")
        self._send_due()

    def _ponged(self) -> None:
        self._backoff.tries = 0
        self._watchdog.ponged(monotonic())
        okex_log.info("Pong received. %.1f ms", self.latency or 0.0)

    def _confirmed(self, event: "Subscribed") -> None:
        subscription = self._subscriptions.confirmed(event.channel, event.id)
        channel = subscription.channel if subscription else printable_text(event.channel)
        okex_log.log(*self._subscriptions.said(channel))
        self._notify(SUBSCRIBED, channel)

    def _unsubscribed(self, event: "Unsubscribed") -> None:
        unasked = self._subscriptions.ended(event.channel, event.id)
        if unasked:
            okex_log.warning("%s: unsubscribed by the exchange. Asking for it again.", unasked.channel)
        else:
            okex_log.info("%s unsubscribed.", printable_text(event.channel))
        self._send_due()

    def _refused(self, event: "Refused") -> None:
        if self._orders.refused(event):
            return
        why = reason_of(self._quotable(event))
        refused = self._subscriptions.refused(event, why)
        if len(refused) > 1 and not event.channel:
            message = "The exchange refused one of %d channels: %s. Asking for each by itself."
            okex_log.warning(message, len(refused), why)
            return
        self.counts["refused"] += 1
        names = ", ".join(s.channel for s in refused) or printable_text(event.channel) or "a request"
        okex_log.warning("The exchange refused %s: %s.", names, why)
        self._finder.suggest(s.channel for s in refused if event.code in MISNAMED)
        self._notify(REFUSED, f"{names}: {why}")
        if self._login.pending and not event.channel and not event.id:
            self._hang_up(f"the login failed: {why}")  # if it was about the login, another one may help

    def _logged_in(self) -> None:
        if self._login.done:  # v1 answers a signed addChannel like this
            self._subscriptions.confirm_private()
        self._login.accepted()
        okex_log.info("Logged in.")
        self._send_due()
        self._login.complete.set()

    def _login_refused(self, event: "LoginRefused") -> None:
        why = reason_of(self._quotable(event))
        if self._login.pending:
            self._fatal = self._login.refused(event, why)
            self._hang_up(f"the login failed: {why}")
        else:
            okex_log.warning("A login was refused that nobody waits for: %s.", why)

    def _answered(self, event: "Reply") -> None:
        if not self._orders.answered(event):
            message = "An answer to %s that nobody waits for any more: %s %s"
            okex_log.warning(message, printable_text(event.op), printable_text(event.code), event.data)

    def _quotable(self, event: Any) -> Any:
        """What the exchange says while a login is under way may echo it, in ways that no mask knows."""
        return event._replace(message=f"({NOT_QUOTED})") if self._login.pending else event

    def _ignored(self, event: "Unknown") -> None:
        kind = printable_text(event.kind) if not self._login.pending else NOT_QUOTED
        self.complaints.once(f"Ignored a message of an unknown kind: {kind}.")

    def _noticed(self, event: "Notice") -> None:
        level = logging.INFO if event.code == "channel-conn-count" else logging.WARNING
        okex_log.log(level, "Notice from the exchange: %s %s", event.code, printable_text(event.message))
        if event.code == "64008":  # the connection closes within 60 s (docs-v5 overview)
            self._hang_up(UPGRADE)


NOT_QUOTED = "not quoted during a login"


class Complaints:
    """What goes wrong is counted each time and said: only once where it could come again and again."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self._said: set[str] = set()  # bounded, since a server could fill it

    def once(self, message: str) -> bool:
        """Log a warning, unless it was logged before. Whether it was not."""
        if message in self._said or len(self._said) >= MAX_SAID:
            return False
        self._said.add(message)
        okex_log.warning(message)
        return True

    def malformed(self, reason: str, message: str | bytes) -> None:
        self.counts["malformed"] += 1
        okex_log.warning("Malformed message, dropped: %s: %s", printable_text(reason), printable_text(message))

    def disconnected(self, url: str, connected: bool, reason: str, delay: float) -> None:
        what = "Disconnected from" if connected else "Cannot connect to"
        when = f"Next try in {delay:.1f} s" if delay >= 0.05 else "Trying again now"
        okex_log.warning("%s %s: %s. %s.", what, passwordless(url), reason, when)

    def never_connected(self) -> None:
        if not self.counts["connects"]:
            ways = "--offline needs none, --proxy goes through a proxy, --region eea or us to other hosts"
            okex_log.warning("There was no connection yet: %s.", ways)

    def lag(self, change: str, notify: Callable[[str, str], None]) -> None:
        """Say it once when the reader falls behind, and when it has caught up.

        on_status gets a thread of its own: it may want what a handler that blocks is holding, and pings must go on.
        """
        if change == "behind":
            self.counts["times behind"] += 1
            why = f"more than {MAX_LAG:.0f} s late: a slow handler, or a slow way; no book answers meanwhile"
            okex_log.warning("Reading is %s.", why)
            threading.Thread(target=notify, args=(GAP, why), daemon=True).start()
        elif change:
            okex_log.warning("Reading has caught up.")

    def handler_failed(self, channel: str, error: Exception) -> None:
        self.counts["handler errors"] += 1
        if self.once(f"The handler failed with {type(error).__name__}. Said once, counted each time."):
            okex_log.warning("It was on a message of %s.", channel, exc_info=error)

    def misnamed(self, channel: str) -> None:
        """Say that a channel cannot exist, as far as is known. The exchange is asked for it all the same."""
        wrong = misnomer(channel)
        if wrong:
            self.once(f"{channel}: {wrong}")

    def crowded(self, books: "list[OrderBook]") -> None:
        """Say that there are more order books on this connection than the exchange advises."""
        if sum(not book.whole for book in books) > MAX_DEEP_BOOKS:
            many = f"More than {MAX_DEEP_BOOKS} incremental order books on one connection"
            self.once(f"{many}: the exchange advises to spread them over several, so over several clients.")

    def retired(self, dialect: "Dialect", channels: list[str]) -> None:
        """Say that nobody answers, if it is the exchange itself that is asked in the words of the past."""
        if dialect.retired and channels:
            message = (
                "The exchange retired %s in %s: use the URL of a server that still speaks it, the stand-in, or %s."
            )
            today = ", ".join(filter(None, map(todays_channel, channels))) or "a channel of v5"
            okex_log.warning(message, dialect.name, dialect.retired, today)


class Backoff:
    """When to connect: after growing waits, and never too often for the exchange, over all clients of the process."""

    _next = 0.0  # monotonic: when the next client may connect; shared, since the limit is per IP address
    _lock = threading.Lock()  # guards _next

    def __init__(self) -> None:
        self.tries = 0  # connections since data or a pong last arrived

    def turn(self, now: float) -> float:
        """Take the next turn to connect: the seconds until it comes."""
        with Backoff._lock:
            at = max(now, Backoff._next)
            Backoff._next = at + CONNECT_SPACING
        return at - now

    def delay(self, at_once: bool) -> float:
        """Seconds to wait before the next try: a random part of 1, 2, 4, … 30; none at first if `at_once`."""
        tries = self.tries
        self.tries += 1
        if at_once and tries == 0:
            return 0.0
        return uniform(0, min(MAX_RETRY, 2.0 ** min(tries, 5)))


class Watchdog:
    """Knows whether what was read is what the exchange says now. Times are monotonic, in seconds.

    A connection can be open and dead. A reader can be late: because the handler is slow, which shows in the time since
    everything that had arrived was read, or because of something on the way, which shows in pings that are answered
    late. A machine can have slept, and time.monotonic() stood still with it.
    """

    def __init__(self, ping_every: float) -> None:
        self.ping_every = ping_every
        self.heard = 0.0  # when a message last arrived and was handled; a piece of one is nothing yet
        self.drained = inf  # everything that had arrived by then was read
        self.behind = False  # whether it is said that reading is late
        self.latency: float | None = None  # milliseconds
        self._answers_pings = False  # whether this connection's other end does at all
        # When the pings left that are not answered yet. The heartbeat's thread adds at one end, the reader's takes from
        # the other.
        self._pings: deque[float] = deque(maxlen=100)
        self._clock_offset = 0.0  # seconds that time.time() was ahead of time.monotonic() when last looked at
        self._lock = threading.Lock()  # guards behind, so that one thread alone says each change

    def start(self, now: float) -> None:
        """A new connection begins."""
        self.heard = self.drained = now
        self._answers_pings = False
        self._pings.clear()
        self._clock_offset = wall_clock() - monotonic()

    def stop(self) -> None:
        """There is no connection, and nothing to be late of."""
        self.drained = inf

    def pinging(self, now: float) -> None:
        self._pings.append(now)

    def not_pinged(self) -> None:
        """The ping that was about to leave did not."""
        with suppress(IndexError):  # another connection began meanwhile
            self._pings.pop()

    def ponged(self, now: float) -> None:
        """A pong arrived: it answers the oldest ping that waits."""
        with suppress(IndexError):  # a pong that nobody asked for
            self.latency = (now - self._pings.popleft()) * 1000
            self._answers_pings = True

    def silence(self, now: float) -> str:
        """Why to reconnect, "" while the connection lives: a quiet one is not dead while pongs arrive."""
        limit = self.ping_every + SILENCE_MARGIN
        if now - self.heard > limit:
            return f"nothing arrived for {limit:.0f} s"
        if self._answers_pings and (self.latency or 0.0) > 1000 * max(self.ping_every, SILENCE_MARGIN):
            # So late is what arrives, or a pong was lost, and all later ones would be taken for others.
            return f"a ping was answered after {self.latency or 0.0:.0f} ms, when the next had left"
        return ""

    def jump(self, follow: bool = False) -> str:
        """Why to reconnect, "" while both clocks go on together; then the reading thread follows their slow drift.

        Nobody does after a jump, or books would be trusted again before the connection is gone.
        """
        offset = wall_clock() - monotonic()  # once: what happens after this look, the next one sees
        jump = offset - self._clock_offset
        if abs(jump) > MAX_JUMP:
            return f"the clock jumped by {jump:+.0f} s: was this machine asleep?"
        if follow:
            self._clock_offset = offset
        return ""

    def lag(self, now: float) -> float:
        """Seconds by which what is read may be late."""
        if self.drained == inf:
            return 0.0
        lag = now - self.drained
        if self._answers_pings:
            with suppress(IndexError):  # answered meanwhile
                lag = max(lag, (self.latency or 0.0) / 1000, now - self._pings[0] if self._pings else 0.0)
        return lag

    def doubt(self) -> str:
        """Why no order book is to be trusted at this moment, "" if there is no reason. From any thread."""
        lag = self.lag(monotonic())
        return f"what is read now may have arrived {lag:.0f} s ago" if lag > MAX_LAG else self.jump()

    def lag_change(self, now: float) -> str:
        """Whether the reader has fallen behind ("behind"), or caught up ("caught up"), since this was last asked."""
        with self._lock:
            behind = self.lag(now) > MAX_LAG
            if behind == self.behind:
                return ""
            self.behind = behind
            return "behind" if behind else "caught up"


# ---------------------------------------------------------------------------------------------------------------
# Subscriptions: what is wanted of one connection, and how far each channel has come. No socket, no thread.

CONFIRM_TIMEOUT = 10.0  # seconds until a subscription, its end, or a login that nobody confirmed is reported
MAX_CHANNEL_RETRY = 60.0  # seconds between two tries to get a channel, at most
REQUESTS_PER_HOUR = 480  # subscribe + unsubscribe + login on one connection (docs-v5 overview, 2026)
REQUESTS_PER_OPEN = 100  # up to so many channels are asked for one by one, so that refusals are told apart
REQUESTS_RESERVED = 80  # of those an hour, for what the user asks for
RESUBSCRIBE_SPACING = 1.0  # seconds between two requests that nobody but this program wants
MAX_GIVEN_UP = 10_000  # names of channels that nobody wants any more, to know their late rows by


@dataclass(slots=True, eq=False)
class Subscription:
    """One channel. `Subscriptions` alone changes it, under its lock; its state may be read without."""

    channel: str  # as its user wrote it
    key: str  # as the exchange's messages name it, see Dialect.key
    private: bool = False  # whether it needs a login
    name_rows: Callable[[list[Any]], list[Any]] | None = None  # makes objects of rows that arrive as lists
    book: "OrderBook | None" = None
    series: "RowSeries | None" = None  # finds what is missing; another one each time that the user begins anew
    state: str = "wanted"
    due: float = 0.0  # monotonic: when to ask for what the state wants, or when that should have been confirmed
    request: str = ""  # id of the request that asked for it; "" while none has
    asked_alone: bool = False  # to be asked for in a request of its own, because a shared one was refused
    wanted_again: bool = False  # leaving, and then to be wanted again
    urgent: bool = True  # the user asked for it, and it may have a request of its own at once
    stale: bool = False  # an earlier subscription on this connection may still send: only a confirmation ends that
    flows: bool = False  # whether what comes is this subscription's own: its book is open
    missed: bool = False  # sent and stale, and rows were dropped
    failures: int = 0  # of late; each makes the wait for the next try longer
    failed: float = -inf  # monotonic: when the last one was


class Request(NamedTuple):
    """What to send: `op` is "subscribe" or "unsubscribe"."""

    op: str
    channels: list[str]
    id: str


class Subscriptions:
    """The table of one client's channels. Everything that changes a channel's state is a method here.

    state       means                         goes to      when
    wanted      to be asked for at `due`      sent         take_due()
    sent        asked for                     confirmed    confirmed(), or its first row: accepts()
                                              sent         late(), asked for again after a growing wait
                                              refused      refused()
                                              wanted       refused(), where another try may help
    confirmed   its rows flow                 leaving      drop(), resubscribe(); from sent, too
                                              wanted       ended(): the exchange ended it by itself
                                              refused      refused(): too many connections have it
    leaving     to be ended, or being ended   wanted       ended() or late(), if it is wanted again by then
                                              given up     ended()
    refused     the exchange said no          wanted       want()
    given up    in the table no more; what    wanted       want()
                still comes of it is dropped

    Any state but refused becomes wanted, or is given up, when the connection is lost: restart(). A book is open
    while its channel is sent or confirmed, and closed otherwise: see _enter(). Times are monotonic, in seconds.
    """

    def __init__(self, dialect: "Dialect", doubt: Callable[[], str] = str) -> None:
        self.dialect = dialect
        self.doubt = doubt  # why no book is to be trusted at this moment, see OrderBook
        self.by_key: dict[str, Subscription] = {}  # changed under the lock; one look-up needs none
        self.books: dict[str, OrderBook] = {}  # by channel, as its user wrote it; likewise
        self._aliases: dict[str, Subscription] = {}  # by other names that the exchange gives them
        self._given_up: dict[str, bool] = {}  # by key, oldest first: whether this connection may still send rows
        self.spent = False  # whether requests wait because this hour's are used up
        self._distrusted = ""  # why this connection is not to be trusted any more
        self._resubscribed: dict[str, float] = {}  # by op: when a request left last that the user did not ask for
        self._requests: deque[float] = deque()  # when this connection's requests left, of the last hour
        self._ids = itertools.count(1)
        self._lock = (
            threading.RLock()
        )  # guards all of the above, and the books' own are taken under it; never held while a request is sent

    def __iter__(self) -> Iterator[Subscription]:
        with self._lock:
            return iter(list(self.by_key.values()))

    @property
    def private(self) -> bool:
        """Whether any channel needs a login."""
        return any(subscription.private for subscription in self)

    # What the user asks for.

    def want(self, channel: str) -> Subscription:
        """Want a channel, from now on and after every reconnect; one that was refused is asked for again."""
        key = self.dialect.key(channel)
        with self._lock:
            subscription = self.by_key.get(key)
            if subscription is None:
                subscription = self.by_key[key] = self._make(channel, key)
                self._aliases.clear()  # what was clear may not be so any more
            elif subscription.state == "leaving":
                subscription.wanted_again = True
                subscription.urgent = True
                if subscription.book:
                    self.books[subscription.channel] = subscription.book
                subscription.due = min(subscription.due, monotonic() + CONFIRM_TIMEOUT)
            elif subscription.state == "refused":
                subscription.urgent = True
                self._want_at(subscription, 0.0, "not subscribed yet")
            return subscription

    def _make(self, channel: str, key: str) -> Subscription:
        kind, names = self.dialect.book(channel), columns_of(channel)
        subscription = Subscription(channel, key, self.dialect.private(channel))
        subscription.name_rows = row_namer(names) if names else None
        subscription.book = None
        if kind:
            signed = channel.startswith("sprd-")  # a spread's price may be negative
            subscription.book = OrderBook(kind == "whole", signed, doubt=self.doubt)
        subscription.series = series_of(channel)
        subscription.stale = self._given_up.pop(key, False)
        if subscription.book:
            self.books[channel] = subscription.book
        self._enter(subscription, "wanted", "not subscribed yet")
        return subscription

    def drop(self, channel: str) -> None:
        """Want a channel no more. Its rows stop at once, whatever is still on its way."""
        with self._lock:
            subscription = self.by_key.get(self.dialect.key(channel))
            if subscription is None:
                return
            self.books.pop(subscription.channel, None)
            subscription.series = series_of(subscription.channel)  # what comes until it is wanted again, is not missing
            if subscription.state in ("sent", "confirmed"):
                self._leave(subscription, again=False, reason="unsubscribed")
            elif subscription.state == "leaving":
                subscription.wanted_again = False
            else:
                self._give_up(subscription)

    # What leaves.

    def take_due(self, now: float) -> list[Request]:
        """The requests that are due, ends before beginnings; their channels count as asked."""
        requests: list[Request] = []
        with self._lock:
            for state, op in (("leaving", "unsubscribe"), ("wanted", "subscribe"), ("sent", "subscribe")):
                due = [s for s in self.by_key.values() if s.state == state and not s.request and s.due <= now]
                urgent = [s for s in due if s.urgent]
                for batch in self._batches(urgent, -(-len(urgent) // REQUESTS_PER_OPEN)):
                    if self.may_request(now):
                        requests.append(self._ask(op, batch, now))
                others = [s for s in due if not s.urgent]
                if not others or now - self._resubscribed.get(op, -inf) < RESUBSCRIBE_SPACING:
                    continue
                self._resubscribed[op] = now
                for batch in self._batches(others, len(others)):
                    if self.may_request(now, REQUESTS_RESERVED):
                        requests.append(self._ask(op, batch, now))
        return requests

    def may_request(self, now: float, reserved: int = 0) -> bool:
        """Count one more request, if the exchange takes it and that many are left for the user's own."""
        with self._lock:
            while self._requests and now - self._requests[0] >= 3600:
                self._requests.popleft()
            if len(self._requests) >= REQUESTS_PER_HOUR - reserved:
                self.spent = True
                return False
            self._requests.append(now)
            return True

    def exhausted(self, now: float) -> str:
        """Why to reconnect: a new connection has requests of its own. "" if they last, or if it is too early."""
        with self._lock:
            if not self.spent or now - self._requests[0] < 60:
                return ""
        return (
            f"too few of the {REQUESTS_PER_HOUR} requests an hour that a connection has are left: the next has its own"
        )

    def _ask(self, op: str, batch: list[Subscription], now: float) -> Request:
        id = f"r{next(self._ids)}"
        for subscription in batch:
            subscription.request = id
            subscription.due = now + CONFIRM_TIMEOUT
            subscription.missed = False
            if op == "subscribe":
                self._enter(subscription, "sent", "not confirmed yet")
        return Request(op, [subscription.channel for subscription in batch], id)

    def _batches(self, subscriptions: list[Subscription], size: int) -> Iterator[list[Subscription]]:
        """Requests of at most so many channels: few where it matters that each refusal has its own id."""
        batch: list[Subscription] = []
        length = 0
        for subscription in subscriptions:
            cost = len(self.dialect.subscribe([subscription.channel]).encode())
            full = len(batch) == size or length + cost > self.dialect.max_request
            apart = subscription.asked_alone or (batch and batch[-1].asked_alone)
            if batch and (full or apart):
                yield batch
                batch, length = [], 0
            batch.append(subscription)
            length += cost
        if batch:
            yield batch

    # What arrives.

    def accepts(self, subscription: Subscription, action: str = "") -> bool:
        """Whether a row is the subscription's own. The first one of a channel that was sent is its confirmation.

        After an earlier subscription on this connection only a snapshot says as much.
        """
        with self._lock:
            if subscription.state == "sent" and (action == "snapshot" or not subscription.stale):
                subscription.stale = False
                self._enter(subscription, "confirmed")
            elif subscription.state == "sent":
                subscription.missed = True
            # v1 pushes the account's state after a login, before it is asked for.
            early = subscription.state == "wanted" and not subscription.stale
            return subscription.state == "confirmed" or early

    def gave_up(self, key: str) -> bool:
        return key in self._given_up

    def find(self, key: str, id: str = "") -> Subscription | None:
        """The subscription that a message is about: by its request's id, by its name, or by a part of its name.

        The exchange may leave filters out of the name, and then only one subscription may be meant.
        """
        with self._lock:
            among = list(self.by_key.values())
            if id:
                among = [s for s in among if s.request == id] or among
            if id and len(among) == 1:
                return among[0]
            exact = [s for s in among if s.key == key]
            covered = exact or [s for s in among if self.dialect.covers(key, s.key)]
            return covered[0] if len(covered) == 1 else None

    def alias(self, key: str) -> Subscription | None:
        """The subscription that rows of this name belong to though it is not its own; it is remembered."""
        with self._lock:
            subscription = self._aliases.get(key)
            if subscription is None and key not in self._given_up:
                subscription = self.find(key)
                if subscription:
                    self._aliases[key] = subscription
            return subscription

    def confirmed(self, key: str, id: str = "") -> Subscription | None:
        """The exchange confirmed a channel. Returns its subscription, None if it is not known."""
        with self._lock:
            subscription = self.find(key, id)
            if subscription and subscription.state == "sent":
                if subscription.missed and subscription.book and not subscription.book.whole:
                    # In v1 it may have been the whole book, and what comes next would be taken for it.
                    self._distrusted = f"rows of {subscription.channel} came before its confirmation"
                    return subscription
                subscription.stale = False
                self._enter(subscription, "confirmed")
            return subscription

    def said(self, channel: str) -> tuple[int, str]:
        """What to log of a confirmation, and at which level: of many channels, that the last is confirmed."""
        if len(self.by_key) <= MAX_NAMED:
            return logging.INFO, f"{channel} subscribed."
        with self._lock:  # from the end: the exchange mostly confirms in order
            if any(s.state in ("wanted", "sent") for s in reversed(self.by_key.values())):
                return logging.DEBUG, f"{channel} subscribed."
            confirmed = sum(s.state == "confirmed" for s in self.by_key.values())
        return logging.INFO, f"{confirmed} of {len(self.by_key)} channels subscribed."

    def confirm_private(self) -> None:
        """v1 confirms a signed request for a private channel like a login, without a name."""
        for subscription in self:
            if subscription.private:
                self.confirmed(subscription.key)

    def ended(self, key: str, id: str = "") -> Subscription | None:
        """The exchange ended a channel. Returns the subscription if that was not asked for, else None."""
        with self._lock:
            subscription = self.find(key, id)
            if subscription is None:
                return None
            if subscription.state == "leaving":
                self._end(subscription)
                return None
            if subscription.state in ("sent", "confirmed"):
                subscription.stale = True
                self._retry(subscription, "unsubscribed by the exchange")
                return subscription
            return None

    def refused(self, event: "Refused", why: str) -> list[Subscription]:
        """The exchange refused something. Returns the channels that it was about.

        Where it was a request for several channels, and nothing says which of them is at fault, each is asked for
        by itself.
        """
        with self._lock:
            subscriptions = self._refused_by(event)
            shared = len(subscriptions) > 1 and not event.channel
            for subscription in subscriptions:
                if shared:
                    subscription.asked_alone = True
                if shared or event.code in TRANSIENT:
                    self._retry(subscription, f"refused: {why}")
                else:
                    subscription.stale = True
                    self._enter(subscription, "refused", f"refused: {why}")
            return subscriptions

    def _refused_by(self, event: "Refused") -> list[Subscription]:
        """The subscriptions that a refusal is about: by the request's id where it has one, else by name."""
        asked = [s for s in self.by_key.values() if s.state in ("sent", "confirmed")]
        if event.id:
            asked = [s for s in asked if s.state == "sent" and s.request == event.id]
        if event.id and (len(asked) == 1 or not event.channel):
            return asked
        named = [s for s in asked if s.key == event.channel]
        # v3 and channel-conn-count-error name the channel without its argument.
        return named or [s for s in asked if s.key.partition(":")[0] == event.channel]

    def resubscribe(self, subscription: Subscription, reason: str) -> bool:
        """Have a channel ended and begun anew, because its book is out of sync. False if it is on its way out."""
        with self._lock:
            if subscription.state not in ("sent", "confirmed"):
                return False
            self._leave(subscription, again=True, reason=reason)
            return True

    def restart(self, reason: str) -> None:
        """The connection is lost: on the next one, everything that is wanted is asked for anew."""
        with self._lock:
            self._requests.clear()
            self.spent = False
            self._resubscribed.clear()
            self._distrusted = ""
            self._given_up = dict.fromkeys(self._given_up, False)
            for subscription in list(self.by_key.values()):
                subscription.stale = False
                if subscription.state == "leaving" and not subscription.wanted_again:
                    self._give_up(subscription)
                elif subscription.state != "refused":
                    subscription.urgent = True
                    self._want_at(subscription, 0.0, reason)

    # What did not happen in time.

    def late(self, now: float) -> tuple[list[str], str]:
        """What was not confirmed in time: a line to log for each, and a reason to reconnect, "" if there is none."""
        lines: list[str] = []
        with self._lock:
            if self._distrusted:
                return lines, self._distrusted
            for subscription in list(self.by_key.values()):
                if now < subscription.due or not subscription.request:
                    continue
                channel = subscription.channel
                if subscription.state == "sent":
                    wait = self._failed(subscription, now)
                    subscription.due = now + wait
                    subscription.request = ""
                    lines.append(
                        f"{channel} is not confirmed after {CONFIRM_TIMEOUT:.0f} s. Asking again in {wait:.0f} s."
                    )
                elif subscription.state == "leaving" and subscription.wanted_again and subscription.book:
                    # In v1, what still comes of the old subscription could be taken for the new book.
                    return lines, f"{channel} was not unsubscribed within {CONFIRM_TIMEOUT:.0f} s"
                elif subscription.state == "leaving" and subscription.wanted_again:
                    self._end(subscription)
                elif subscription.state == "leaving":
                    subscription.due = inf
                    lines.append(f"{channel}: not confirmed to be unsubscribed. What still comes is dropped.")
        return lines, ""

    # Transitions, under the lock.

    def _enter(self, subscription: Subscription, state: str, reason: str = "") -> None:
        """Change the state. A book is open exactly while its channel may feed it; else it says the reason."""
        if subscription.series and state == "sent":
            subscription.series.resume()
        subscription.state = state
        flows = state in ("sent", "confirmed") and not subscription.stale
        if subscription.book and flows and not subscription.flows:
            subscription.book.open()
        elif subscription.book and not flows:
            subscription.book.close(reason)
        subscription.flows = flows

    def _want_at(self, subscription: Subscription, due: float, reason: str) -> None:
        subscription.due = due
        subscription.request = ""
        subscription.wanted_again = False
        self._enter(subscription, "wanted", reason)

    def _retry(self, subscription: Subscription, reason: str) -> None:
        now = monotonic()
        self._want_at(subscription, now + self._failed(subscription, now), reason)

    def _failed(self, subscription: Subscription, now: float) -> float:
        """Count a failure, and return how long to wait for the next try: 0, 1, 3, 7, … seconds, at most a minute.

        It begins with 0 again after two minutes without a failure.
        """
        recent = now - subscription.failed < 2 * MAX_CHANNEL_RETRY
        subscription.failures = subscription.failures + 1 if recent else 0
        subscription.failed = now
        subscription.urgent = False
        return min(MAX_CHANNEL_RETRY, 2.0 ** min(subscription.failures, 10) - 1)

    def _leave(self, subscription: Subscription, again: bool, reason: str) -> None:
        subscription.due = 0.0
        subscription.request = ""
        subscription.wanted_again = again
        subscription.urgent = not again
        subscription.stale = True
        self._enter(subscription, "leaving", reason)

    def _end(self, subscription: Subscription) -> None:
        if subscription.wanted_again and subscription.urgent:
            self._want_at(subscription, 0.0, "unsubscribed")
        elif subscription.wanted_again:
            self._retry(subscription, "unsubscribed")
        else:
            self._give_up(subscription)

    def _give_up(self, subscription: Subscription) -> None:
        self.by_key.pop(subscription.key, None)
        self._aliases.clear()
        self._given_up[subscription.key] = subscription.stale
        if len(self._given_up) > MAX_GIVEN_UP:
            del self._given_up[next(iter(self._given_up))]
        if subscription.book:
            subscription.book.close("unsubscribed")


# ---------------------------------------------------------------------------------------------------------------
# Wire: text in, events out, and requests as text. No socket, thread, clock, file or print.

MAX_ROWS = 20_000  # in one message

# OKX hosts by region: live, simulated trading, REST. Port 8443 closed on 2026-10-31; 443 is the default.
REGIONS = {
    "global": ("wss://ws.okx.com", "wss://wspap.okx.com", "https://openapi.okx.com"),
    "eea": ("wss://wseea.okx.com", "wss://wseeapap.okx.com", "https://eea.okx.com"),
    "us": ("wss://wsus.okx.com", "wss://wsuspap.okx.com", "https://us.okx.com"),
}

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


def printable_text(text: str | bytes, most: int = 200) -> str:
    """Text from outside made fit for a terminal or a log: without secrets, shortened, control characters escaped."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = mask_secrets(text[: most + 10_000])  # no secret is so long that a piece of it could come to the front
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
    """A channel is confirmed. Its argument may lack what was asked for; `id` is the request's, "" if it had none."""

    channel: str
    id: str = ""


class Unsubscribed(NamedTuple):
    """A channel has ended."""

    channel: str
    id: str = ""


class LoggedIn(NamedTuple):
    """The exchange accepted the login."""


class LoginRefused(NamedTuple):
    """The exchange did not accept the login."""

    code: str
    message: str


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


WireEvent = (
    Ping
    | Pong
    | Subscribed
    | Unsubscribed
    | LoggedIn
    | LoginRefused
    | Refused
    | Notice
    | Reply
    | Push
    | Unknown
    | Malformed
)


PLACE = re.compile("<(.+?)>")  # in a kind's name


class ChannelKind(NamedTuple):
    """A kind of channel: a row of the tables of channels, which say all that depends on the kind."""

    name: str  # before the colon; <bar> and the like stand for each of a list of words, see Dialect.PLACES
    argument: str  # an example of what follows the colon; with `=` if the exchange must have it; "" if it need not
    what: str  # what it carries
    columns: str  # the values of a row that matter most, in brackets if the rows arrive as bare lists
    where: str = "public"  # its endpoint, of v5, and whether it needs a login
    today: str = ""  # of v1 and v3: the channel that carries it now, see todays_channel
    trades: str = "SPOT SWAP FUTURES OPTION"  # the types of instruments that it takes, or INDEX, or SPREAD

    @property
    def login(self) -> bool:
        return self.where.endswith("login")


class Dialect:
    """One generation of the exchange's protocol, with its table of channels. Every method is a pure function."""

    name: str
    retired: str = ""  # when the exchange gave this generation up
    URL: str
    ping, pong = "ping", "pong"
    ping_every: float  # seconds; every generation drops a connection that was quiet for 30
    max_request = 4096  # bytes of arguments in one request
    passphrase = True  # whether its login takes one
    BOOKS: re.Pattern[str]  # channels that are order books
    PLACES: dict[str, str] = {}  # by the name of a place in a kind's name: the words that may stand there, any if ""

    def __init__(self, kinds: Iterable[tuple[Any, ...]]) -> None:
        self.kinds = [ChannelKind(*row) for row in kinds]
        self._find = functools.lru_cache(maxsize=4096)(self._find_kind)  # names are many, and asked for again

    def _find_kind(self, name: str) -> tuple[ChannelKind | None, dict[str, str]]:
        for kind in self.kinds:
            match = re.fullmatch(PLACE.sub(self._words, kind.name), name)
            if match:
                return kind, match.groupdict()
        return None, {}

    def _words(self, place: re.Match[str]) -> str:
        """The pattern of what may stand in a place."""
        return f"(?P<{place[1]}>{'|'.join(self.PLACES[place[1]].split()) or '[a-z0-9]+'})"

    def kind(self, channel: str) -> ChannelKind | None:
        """The row of the table for a channel, None for one that is not known."""
        return self._find(channel.partition(":")[0])[0]

    def places(self, channel: str) -> dict[str, str]:
        """What stands in the places of a known channel's name: {"bar": "1m"} for candle1m:BTC-USDT."""
        return self._find(channel.partition(":")[0])[1]

    def names(self, kind: ChannelKind, places: dict[str, str] | None = None) -> Iterator[str]:
        """Every name of a kind, the most usual first; `places` has what to put where anything may stand."""
        chosen = [
            self.PLACES[place].split() or [(places or {}).get(place, place)] for place in PLACE.findall(kind.name)
        ]
        template = PLACE.sub("{}", kind.name)
        return (template.format(*words) for words in itertools.product(*chosen))

    def url(self, channel: str, region: str = "global", simulated: bool = False) -> str:
        """The exchange's own URL for this channel."""
        return self.URL

    def subscribe(self, channels: Sequence[str], id: str = "", credentials: "Credentials | None" = None) -> str:
        """The request for these channels. Only v1 looks at the credentials, and signs for private channels."""
        return self._request("subscribe", channels, id)

    def unsubscribe(self, channels: Sequence[str], id: str = "") -> str:
        return self._request("unsubscribe", channels, id)

    def _request(self, op: str, channels: Sequence[str], id: str) -> str:
        raise NotImplementedError

    def order(self, op: str, args: list[dict[str, Any]], id: str) -> str:
        raise ValueError(f"{self.name} takes no orders over WebSocket")

    def instrument(self, id: str) -> str:
        raise ValueError(f"{self.name} takes no orders over WebSocket")

    def check_operation(self, op: str, url: str) -> None:
        raise ValueError(f"{self.name} takes no orders over WebSocket")

    def private(self, channel: str) -> bool:
        kind = self.kind(channel)
        return kind is not None and kind.login

    def login(self, credentials: "Credentials", now: float) -> str:
        """The login request, signed for this epoch second."""
        raise NotImplementedError

    def _sign(self, credentials: "Credentials", timestamp: str) -> str:
        """v3 and v5: base64 of HMAC-SHA256 over the timestamp and a fixed request."""
        text = f"{timestamp}GET/users/self/verify".encode()
        return base64.b64encode(hmac.digest(credentials.secret_key.encode(), text, "sha256")).decode()

    def key(self, channel: str) -> str:
        """The name that `parse` gives to this channel's events, however its user spells it."""
        return channel

    def covers(self, key: str, subscribed: str) -> bool:
        """Whether what the exchange calls `key` may be what was subscribed to as `subscribed`, both keys."""
        return key == subscribed

    def book(self, channel: str) -> str:
        """How a channel sends order books: "whole" each time, "changes" after a first whole one, or "" for none."""
        depth = self.BOOKS.fullmatch(channel)
        if not depth:
            return ""
        return "whole" if depth["whole"] else "changes"

    def parse(self, text: str) -> list[WireEvent]:
        """The events in one message. Never raises: what cannot be read becomes a `Malformed`."""
        try:
            return self._read(from_json(text))
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            if text in ("ping", "pong"):
                return [Ping() if text == "ping" else Pong()]
            return [Malformed(f"{type(error).__name__}: {error}")]

    def _read(self, message: Any) -> list[WireEvent]:
        raise NotImplementedError


class OkexV1(Dialect):
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
    PLACES = {
        "coin": "",
        "quote": "",
        "when": "quarter this_week next_week",
        "levels": "5 10 20",
        "bar": "1min 3min 5min 15min 30min 1hour 2hour 4hour 6hour 12hour day 3day week",
    }

    def _request(self, op: str, channels: Sequence[str], id: str) -> str:
        event = {"subscribe": "addChannel", "unsubscribe": "removeChannel"}[op]
        return to_json([{"event": event, "channel": channel} for channel in channels])

    def subscribe(self, channels: Sequence[str], id: str = "", credentials: "Credentials | None" = None) -> str:
        def request(channel: str) -> dict[str, Any]:
            signed = {"parameters": self._signed(credentials)} if credentials and self.private(channel) else {}
            return {"event": "addChannel", "channel": channel, **signed}

        return to_json([request(channel) for channel in channels])

    def sign(self, parameters: dict[str, str], secret_key: str) -> str:
        """MD5 over the parameters in order and the secret, in upper case."""
        pairs = [f"{name}={parameters[name]}" for name in sorted(parameters)]
        return hashlib.md5("&".join([*pairs, f"secret_key={secret_key}"]).encode()).hexdigest().upper()

    def login(self, credentials: "Credentials", now: float) -> str:
        return to_json({"event": "login", "parameters": self._signed(credentials)})

    def _signed(self, credentials: "Credentials") -> dict[str, str]:
        parameters = {"api_key": credentials.api_key}
        return parameters | {"sign": self.sign(parameters, credentials.secret_key)}

    def _read(self, message: Any) -> list[WireEvent]:
        if message.__class__ is not list:
            return self._read_item(message)
        if len(message) == 1:
            return self._read_item(message[0])
        bounded(message)
        # Each by itself, so that a bad one costs no other.
        return [event for item in message for event in self.parse(to_json([item]))]

    def _read_item(self, item: Any) -> list[WireEvent]:
        channel, data = item.get("channel", ""), item.get("data")
        if data.__class__ is list and channel and channel.__class__ is str:
            return [Push(channel, bounded(data), "")]
        if "data" not in item:
            return [self._read_bare(item)]
        if str(item.get("success", True)).lower() == "false":  # the template of the documentation
            return [Refused(str(item.get("errorcode", "")), "", str(channel), "")]
        if isinstance(data, dict) and str(data.get("result", True)).lower() == "false":
            return [self._read_refusal(channel, data)]
        if channel == "addChannel":
            return [Subscribed(str(data["channel"]))]
        if channel == "removeChannel":
            return [Unsubscribed(str(data["channel"]))]
        if channel == "login":
            return [LoggedIn()]
        if not channel or not isinstance(channel, str):
            raise ValueError("data without a channel")
        if isinstance(data, dict):
            for side in ("bids", "asks"):
                if (levels := data.get(side)) and levels[0][0].__class__ is not str:  # JSON numbers, in August 2018
                    data[side] = [[str(value) for value in level] for level in levels]
            return [Push(channel, [data], "")]
        # {"channel":"btc_forecast_price","timestamp":"1490341322021","data":"998.8"}: unasked for, before delivery
        return [Push(channel, [{k: v for k, v in item.items() if k not in ("channel", "binary")}], "")]

    def _read_bare(self, item: dict[str, Any]) -> WireEvent:
        """{"event":"pong"}"""
        match item.get("event"):
            case "pong":
                return Pong()
            case "ping":
                return Ping()
        return unknown(item)

    def _read_refusal(self, channel: str, data: dict[str, Any]) -> WireEvent:
        """A refusal carries the *requested* channel, so that it looks like that channel's data.

        [{"channel":"ok_sub_spot_usd_btc_depth","data":{"result":false,"error_msg":"…","error_code":20103}}]
        """
        code, message = str(data.get("error_code", "")), str(data.get("error_msg", ""))
        if channel == "login":
            return LoginRefused(code, message)
        if channel in ("addChannel", "removeChannel"):
            channel = data.get("channel", channel)
        return Refused(code, message, str(channel), "")


class OkexV3(Dialect):
    """OKEx v3, 2018 to 2021: tables of rows, raw DEFLATE.

    {"table":"spot/trade","data":[{"instrument_id":"BCH-USDT","price":"328.74","side":"sell","size":"0.12", …}]}
    """

    name = "v3"
    retired = "2021"
    URL = "wss://real.okex.com:8443/ws/v3"
    ping_every = 25.0
    BOOKS = re.compile(r"\w+/depth(?P<whole>5)?(_l2_tbt)?:.+")
    PLACES = {
        "market": "spot futures swap option",
        "linear": "spot futures swap",
        "contract": "swap futures",
        "held": "futures swap option",
        "seconds": "60 180 300 900 1800 3600 7200 14400 21600 43200 86400 604800",
    }
    UNFILTERED = {"futures/instruments", "system/status"}
    BY_UNDERLYING = {f"option/{kind}" for kind in "account instruments order order_algo position summary".split()}

    def _request(self, op: str, channels: Sequence[str], id: str) -> str:
        return to_json({"op": op, "args": list(channels)})

    def login(self, credentials: "Credentials", now: float) -> str:
        timestamp = str(int(now))
        sign = self._sign(credentials, timestamp)
        return to_json({"op": "login", "args": [credentials.api_key, credentials.passphrase, timestamp, sign]})

    def _read(self, item: Any) -> list[WireEvent]:
        if "table" in item:
            return self._read_table(item)
        match item.get("event"):
            case "subscribe":
                return [Subscribed(str(item["channel"]))]
            case "unsubscribe":
                return [Unsubscribed(str(item["channel"]))]
            case "login" if str(item["success"]).lower() == "true":
                return [LoggedIn()]
            case "login":
                return [LoginRefused(str(item.get("errorCode", "")), str(item.get("message", "")))]
            case "error":
                return [self._read_error(item)]
        return [unknown(item)]

    def covers(self, key: str, subscribed: str) -> bool:
        """option/instruments may be subscribed to without a filter, and its rows have one."""
        return subscribed in (key, key.partition(":")[0])

    def _read_table(self, item: dict[str, Any]) -> list[WireEvent]:
        """A push for each channel that the rows belong to, in the order of their first rows."""
        action = {"partial": "snapshot", "update": "update"}.get(item.get("action", ""), "")
        pushes: dict[str, Push] = {}
        for row in bounded(item["data"]):
            channel = self._channel(item["table"], row)
            pushes.setdefault(channel, Push(channel, [], action)).rows.append(row)
        return list(pushes.values())

    def _read_error(self, item: dict[str, Any]) -> WireEvent:
        """{"event":"error","message":"Channel : spot/tickr doesn't exist","errorCode":30040}"""
        code, message = str(item["errorCode"]), item["message"]
        if code in ALREADY:
            return LoggedIn()
        if code in LOGIN_CODES:
            return LoginRefused(code, message)
        named = re.search(r"Channel\s*:?\s+(\S+)", message)
        return Refused(code, message, named[1] if named else "", "")

    def _channel(self, table: str, row: Any) -> str:
        """The channel that a row answers: the filter is in the row, under a name that depends on the table."""
        if table in self.UNFILTERED:
            return table
        keys = ("instrument_id", "currency", "underlying")
        if table in self.BY_UNDERLYING:
            keys = ("underlying", "instrument_id", "currency")
        # futures/account rows are keyed by their currency: {"BTC":{"equity":"997.4", …}}
        found = next((row[key] for key in keys if key in row), None) or next(iter(row), "")
        if table in self.BY_UNDERLYING:  # BTC-USD-190927-12500-C is of BTC-USD
            found = "-".join(str(found).split("-")[:2])
        if table == "spot/order_algo":  # which may say ltc_usdt
            found = str(found).upper().replace("_", "-")
        return f"{table}:{found}"


class OkxV5(Dialect):
    """OKX v5, since 2021: what runs today. Channels and their arguments are objects; text frames, uncompressed.

    {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"px":"83753","sz":"0.000011","side":"sell", …}]}
    """

    name = "v5"
    ping_every = 20.0
    max_request = 64 << 10

    BOOKS = re.compile(r"(sprd-)?((books(50)?(-l2-tbt|-elp|-rpi(-tbt)?)?(-all)?)|(?P<whole>books5|bbo-tbt)):.+")
    PLACES = {
        "bar": "1m 1s 3m 5m 15m 30m 1H 2H 4H 6H 12H 1D 2D 3D 5D 1W 1M 3M 6Hutc 12Hutc 1Dutc 2Dutc 3Dutc 5Dutc 1Wutc"
        " 1Mutc 3Mutc"
    }
    NOT_IDENTITY = ("channel", "uid", "extraParams")  # the exchange adds uid to a push, and may leave extraParams out
    OPERATIONS = {  # where each is taken; the exchange says what it thinks of others
        "private": "order batch-orders cancel-order batch-cancel-orders amend-order batch-amend-orders mass-cancel",
        "business": "sprd-order sprd-amend-order sprd-cancel-order sprd-mass-cancel",
    }

    def url(self, channel: str, region: str = "global", simulated: bool = False) -> str:
        if region not in REGIONS:
            raise ValueError(f"no region {region!r}: choose one of {', '.join(REGIONS)}")
        kind = self.kind(channel)
        return f"{REGIONS[region][simulated]}/ws/v5/{kind.where.split(',')[0] if kind else 'public'}"

    def argument(self, channel: str) -> dict[str, str]:
        """`trades:BTC-USDT` and `orders:instType=ANY` as the object that the exchange takes."""
        name, _, rest = channel.partition(":")
        if "=" in rest:
            pairs = (pair.partition("=") for pair in re.split(r",(?=\w+=)", rest))
            return {"channel": name} | {key: value for key, _, value in pairs}
        return {"channel": name, self._instrument_key(name): rest} if rest else {"channel": name}

    def _instrument_key(self, name: str) -> str:
        return "sprdId" if name.startswith("sprd-") else "instId"

    def channel(self, arg: dict[str, str]) -> str:
        """The inverse of `argument`, the same for every order of the keys."""
        pairs = ",".join(f"{key}={arg[key]}" for key in sorted(arg) if key not in self.NOT_IDENTITY)
        if "," not in pairs:
            pairs = pairs.removeprefix(f"{self._instrument_key(arg['channel'])}=")
        return f"{arg['channel']}:{pairs}".rstrip(":")

    def key(self, channel: str) -> str:
        return self.channel(self.argument(channel))

    def covers(self, key: str, subscribed: str) -> bool:
        """The exchange drops filters from the arguments that it echoes: liquidation-orders loses its instFamily."""
        if key.partition(":")[0] != subscribed.partition(":")[0]:
            return False
        return self.argument(key).items() <= self.argument(subscribed).items()

    def _request(self, op: str, channels: Sequence[str], id: str) -> str:
        request = {"op": op, "args": [self.argument(channel) for channel in channels]}
        return to_json({"id": id, **request} if id else request)

    def login(self, credentials: "Credentials", now: float) -> str:
        timestamp = str(int(now))
        arg = {"apiKey": credentials.api_key, "passphrase": credentials.passphrase, "timestamp": timestamp}
        return to_json({"op": "login", "args": [arg | {"sign": self._sign(credentials, timestamp)}]})

    def order(self, op: str, args: list[dict[str, Any]], id: str) -> str:
        """An order operation, see OPERATIONS."""
        return to_json({"id": id, "op": op, "args": args})

    def check_operation(self, op: str, url: str) -> None:
        """Raise ValueError for an operation that is taken at another endpoint than this URL's."""
        home = next((path for path, ops in self.OPERATIONS.items() if op in ops.split()), "")
        here = urlsplit(url).path.rpartition("/")[2]
        if home and here in ("public", "private", "business") and here != home:
            raise ValueError(f"{op} is taken at …/{home}, this client connects to …/{here}")

    def instrument_type(self, id: str) -> str:
        """SPOT, SWAP, FUTURES, OPTION or EVENTS, by the form of an instrument's name."""
        dashes = id.count("-")
        if dashes < 2:
            return "SPOT"
        if dashes == 2:
            return "SWAP" if id.endswith("-SWAP") else "FUTURES"
        return "OPTION" if dashes == 4 and id.endswith(("-C", "-P")) else "EVENTS"  # BTC-ABOVE-DAILY-260428-1600-64000

    def instrument(self, id: str) -> str:
        """The REST path of what the exchange says about an instrument."""
        type = self.instrument_type(id)
        family = f"&instFamily={'-'.join(id.split('-')[:2])}" if type == "OPTION" else ""
        return f"/api/v5/public/instruments?instType={type}{family}&instId={id}"

    def _read(self, item: Any) -> list[WireEvent]:
        rows = item.get("data")
        if rows.__class__ is list and "arg" in item:
            arg = item["arg"]
            common = len(arg) == 2 and "instId" in arg
            channel = f"{arg['channel']}:{arg['instId']}" if common else self.channel(arg)
            if len(item) > 2 and "action" not in item:
                rows = self._with_page(item)
            return [Push(channel, bounded(rows), item.get("action", ""))]
        if "op" in item and "event" not in item:
            data = rows if isinstance(rows, list) else []
            return [Reply(str(item["id"]), str(item["op"]), str(item["code"]), str(item.get("msg", "")), data)]
        return [self._read_event(item)]

    def _with_page(self, item: dict[str, Any]) -> list[Any]:
        """Rows of account and positions, which say beside them whether they are a snapshot, and its last page.

        {"arg":{"channel":"account",…},"eventType":"snapshot","curPage":1,"lastPage":true,"data":[{…}]}

        The handler gets rows alone, so each takes along what is said beside it.
        """
        beside = {name: value for name, value in item.items() if name not in ("arg", "data")}
        return [{**beside, **row} if isinstance(row, dict) else row for row in item["data"]]

    def _read_event(self, item: Any) -> WireEvent:
        event = item.get("event")
        match event:
            case "subscribe":
                return Subscribed(self.channel(item["arg"]), str(item.get("id", "")))
            case "unsubscribe":
                return Unsubscribed(self.channel(item["arg"]), str(item.get("id", "")))
            case "login" if str(item["code"]) == "0":
                return LoggedIn()
            case "login":
                return LoginRefused(str(item["code"]), str(item["msg"]))
            case "error":
                return self._read_error(item)
            case "notice":
                return Notice(str(item["code"]), str(item["msg"]))
            case "channel-conn-count":
                return Notice(event, f"{item['connCount']} connections are subscribed to {item['channel']}")
            case "channel-conn-count-error":
                # The subscription had been confirmed; it is dead all the same (docs-v5 overview).
                return Refused(event, f"{item['connCount']} connections are subscribed", str(item["channel"]), "")
        return unknown(item)

    def _read_error(self, item: dict[str, Any]) -> WireEvent:
        """{"id":"ob1","event":"error","code":"60018","msg":"… channel:books,instId:NOPE-USDT doesn't exist."}"""
        code, message = str(item["code"]), item["msg"]
        # An error may echo the request, and give its id there alone: Invalid request: {\"id\":\"o1\", …}
        echoed = re.search(r'"id\\*"\s*:\s*\\*"([A-Za-z0-9]{1,32})\\*"', message)
        id = str(item.get("id") or (echoed[1] if echoed else ""))
        named = re.search(r"channel:([\w-]+)(?:,instId:([\w-]+))? doesn't exist", message)
        channel = ":".join(filter(None, named.groups())) if named else ""
        if not id and code in ALREADY:
            return LoggedIn()
        if not id and code in LOGIN_CODES:
            return LoginRefused(code, message)
        return Refused(code, message, channel, id)


def bounded(rows: list[Any]) -> list[Any]:
    """Refuse what no real message has so many of: a few KB can inflate to a million empty objects."""
    if len(rows) > MAX_ROWS:
        raise ValueError(f"{len(rows)} rows in one message")
    return rows


def unknown(item: dict[str, Any]) -> Unknown:
    event = item.get("event")
    return Unknown(f"event {event}" if event else f"object with {', '.join(item)}")


# Every kind of channel that the exchange documents (v5: as of November 2026), see ChannelKind. One row serves the
# endpoint, the login, the names of columns, --list, the README, and who mistypes a name.
V5_BOOK = "bids asks ts seqId"
V5_CANDLE = "[ts o h l c vol volCcy volCcyQuote confirm]"  # v1 and v5 futures count in contracts, and then in coins
V5_PLAIN_CANDLE = "[ts o h l c confirm]"
V5_TRADE = "instId tradeId px sz side ts"
V5_TICKER = "last lastSz bidPx bidSz askPx askSz open24h high24h low24h vol24h ts"
V5_LEGS = "blockTdId legs (instId px sz side) ts"
V5_ORDER = "ordId clOrdId instId side px sz state accFillSz avgPx fee uTime"
V5_ALGO = "algoId instId side ordType triggerPx sz state"
V5_GRID = "algoId instId state gridNum maxPx minPx totalPnl pTime"
V5_BALANCES = "details (ccy cashBal availBal eq)"

V5 = OkxV5([
    ("trades", "BTC-USDT", "trades; those of one order at one price are one row, of `count` trades",
     f"{V5_TRADE} count"),
    ("trades-all", "BTC-USDT", "trades, each by itself", V5_TRADE, "business"),
    ("tickers", "BTC-USDT", "last price, best bid and ask, 24 hours", V5_TICKER),
    ("candle<bar>", "BTC-USDT", "candles; final where `confirm` is 1", V5_CANDLE, "business"),
    ("mark-price-candle<bar>", "BTC-USDT-SWAP", "candles of the mark price", V5_PLAIN_CANDLE, "business"),
    ("index-candle<bar>", "BTC-USDT", "candles of an index", V5_PLAIN_CANDLE, "business", "", "INDEX"),
    ("books", "BTC-USDT", "order book, 400 levels, every 100 ms", f"{V5_BOOK} prevSeqId"),
    ("books5", "BTC-USDT", "its best five levels, every 100 ms", V5_BOOK),
    ("bbo-tbt", "BTC-USDT", "its best bid and ask, every 10 ms", V5_BOOK),
    ("books-rpi", "BTC-USDT", "order book with retail orders; levels are price, all, without them, orders",
     f"{V5_BOOK} prevSeqId"),
    ("books-l2-tbt", "BTC-USDT", "order book, 400 levels, every 10 ms (fee tier VIP 4)", f"{V5_BOOK} prevSeqId",
     "public, login"),
    ("books50-l2-tbt", "BTC-USDT", "order book, 50 levels, every 10 ms (fee tier VIP 4)", f"{V5_BOOK} prevSeqId",
     "public, login"),
    ("index-tickers", "BTC-USDT", "index price", "instId idxPx open24h high24h low24h ts", "public", "", "INDEX"),
    ("mark-price", "BTC-USDT-SWAP", "mark price", "instId markPx ts"),
    ("price-limit", "BTC-USDT-SWAP", "price limits", "instId buyLmt sellLmt ts"),
    ("funding-rate", "BTC-USDT-SWAP", "funding rate",
     "instId fundingRate fundingTime nextFundingRate nextFundingTime ts", "public", "", "SWAP"),
    ("open-interest", "BTC-USDT-SWAP", "open interest", "instId oi oiCcy ts", "public", "", "SWAP FUTURES OPTION"),
    ("liquidation-orders", "instType=SWAP", "liquidations", "instId details (side sz bkPx ts)"),
    ("adl-warning", "instType=SWAP", "auto-deleveraging: what the insurance fund holds",
     "instType instFamily state bal maxBal ts"),
    ("estimated-price", "instType=FUTURES,instFamily=BTC-USD", "estimated delivery price, in the hour before",
     "instId settlePx ts"),
    ("opt-summary", "instFamily=BTC-USD", "greeks and volatilities of options",
     "instId markVol bidVol askVol delta gamma theta vega ts"),
    ("option-trades", "instType=OPTION,instFamily=BTC-USD", "trades of options",
     "instId tradeId px sz side fillVol markPx idxPx ts"),
    ("instruments", "instType=SPOT", "instruments that change", "instId state tickSz lotSz"),
    ("call-auction-details", "BTC-USDT", "a call auction", "instId eqPx matchedSz unmatchedSz auctionEndTime state ts"),
    ("event-contract-markets", "instType=EVENTS", "event contracts", "instId state"),
    ("status", "", "maintenance", "title state begin end"),
    ("public-block-trades", "BTC-USDT", "block trades, by leg", f"{V5_TRADE}", "business"),
    ("public-struc-block-trades", "", "block trades, whole", V5_LEGS, "business"),
    ("block-tickers", "BTC-USDT", "volumes of block trades", "instId vol24h volCcy24h ts", "business"),
    ("sprd-public-trades", "BTC-USDT_BTC-USDT-SWAP", "trades of spreads", "sprdId tradeId px sz side ts", "business",
     "", "SPREAD"),
    ("sprd-tickers", "BTC-USDT_BTC-USDT-SWAP", "tickers of spreads", f"sprdId {V5_TICKER}", "business", "", "SPREAD"),
    ("sprd-candle<bar>", "BTC-USDT_BTC-USDT-SWAP", "candles of spreads", "[ts o h l c vol confirm]", "business",
     "", "SPREAD"),
    ("sprd-bbo-tbt", "BTC-USDT_BTC-USDT-SWAP", "best bid and ask of spreads", V5_BOOK, "business", "", "SPREAD"),
    ("sprd-books5", "BTC-USDT_BTC-USDT-SWAP", "best five levels of spreads", V5_BOOK, "business", "", "SPREAD"),
    ("sprd-books-l2-tbt", "BTC-USDT_BTC-USDT-SWAP", "order books of spreads", f"{V5_BOOK} prevSeqId", "business",
     "", "SPREAD"),
    ("orders", "instType=ANY", "your orders", V5_ORDER, "private, login"),
    ("fills", "", "your fills (fee tier VIP 4)", "instId tradeId ordId fillPx fillSz side ts", "private, login"),
    ("account", "", "your balances", f"totalEq {V5_BALANCES} uTime", "private, login"),
    ("positions", "instType=ANY", "your positions", "instId posSide pos avgPx upl lever liqPx uTime", "private, login"),
    ("balance_and_position", "", "both at each change", "eventType balData posData pTime", "private, login"),
    ("liquidation-warning", "instType=ANY", "your positions that may be liquidated", "instId posSide pos mgnRatio",
     "private, login"),
    ("account-greeks", "", "the greeks of what you hold", "ccy deltaBS gammaBS thetaBS vegaBS ts", "private, login"),
    ("orders-algo", "instType=ANY", "your algo orders", V5_ALGO, "business, login"),
    ("algo-advance", "instType=ANY", "your advanced algo orders", V5_ALGO, "business, login"),
    ("algo-recurring-buy", "instType=SPOT", "your recurring buys", "algoId state investmentAmt totalPnl pTime",
     "business, login"),
    ("grid-orders-spot", "instType=SPOT", "your grid bots, spot", V5_GRID, "business, login"),
    ("grid-orders-contract", "instType=ANY", "your grid bots, contracts", V5_GRID, "business, login"),
    ("grid-positions", "algoId=1", "a grid bot's positions", "algoId instId pos avgPx upl liqPx pTime",
     "business, login"),
    ("grid-sub-orders", "algoId=1", "a grid bot's orders", f"algoId {V5_ORDER}", "business, login"),
    ("copytrading-notification", "instType=SWAP", "copy trading", "infoType instId side pos avgPx",
     "business, login"),
    ("copytrading-lead-notification", "instType=SWAP", "copy trading, as the one who leads",
     "infoType instId side maxLeadTraderNum", "business, login"),
    ("deposit-info", "", "your deposits", "ccy amt state txId ts", "business, login"),
    ("withdrawal-info", "", "your withdrawals", "ccy amt state txId ts", "business, login"),
    ("rfqs", "", "your requests for quotes", "rfqId state legs cTime", "business, login"),
    ("quotes", "", "quotes for them", "quoteId rfqId state quoteSide legs cTime", "business, login"),
    ("struc-block-trades", "", "your block trades", V5_LEGS, "business, login"),
    ("sprd-orders", "", "your orders in spreads", V5_ORDER.replace("instId", "sprdId"), "business, login"),
    ("sprd-trades", "", "your trades of spreads", "sprdId tradeId ordId fillPx fillSz side state ts",
     "business, login"),
    ("economic-calendar", "", "economic events (fee tier VIP 1)", "event region date actual forecast previous",
     "business, login"),
])  # fmt: skip

V3_TRADE = "instrument_id trade_id price size side timestamp"  # spot has `size`, the others have `qty`
V3_TICKER = "instrument_id last best_bid best_ask high_24h low_24h timestamp"
V3_CANDLE = "candle (time open high low close volume)"
V3_BOOK = "instrument_id bids asks timestamp"
V3_ORDER = "order_id client_oid instrument_id side price size filled_size state timestamp"

V3 = OkexV3([
    ("<market>/trade", "BTC-USDT", "trades; not spot: `qty`", V3_TRADE, "public", "trades:{id}"),
    ("index/ticker", "BTC-USD", "index price", V3_TICKER, "public", "index-tickers:{id}"),
    ("<market>/ticker", "BTC-USDT", "last price, best bid and ask, 24 hours", V3_TICKER, "public", "tickers:{id}"),
    ("index/candle<seconds>s", "BTC-USD", "candles of an index", V3_CANDLE, "public", "index-candle{bar}:{id}"),
    ("<linear>/candle<seconds>s", "BTC-USDT", "candles", V3_CANDLE, "public", "candle{bar}:{id}"),
    ("<market>/depth", "BTC-USDT", "order book", f"{V3_BOOK} checksum", "public", "books:{id}"),
    ("<linear>/depth5", "BTC-USDT", "its best five levels", V3_BOOK, "public", "books5:{id}"),
    ("<market>/depth_l2_tbt", "BTC-USDT", "order book, tick by tick", f"{V3_BOOK} checksum", "public", "books:{id}"),
    ("<contract>/price_range", "BTC-USD-SWAP", "price limits", "instrument_id highest lowest timestamp", "public",
     "price-limit:{id}"),
    ("<contract>/mark_price", "BTC-USD-SWAP", "mark price", "instrument_id mark_price timestamp", "public",
     "mark-price:{id}"),
    ("swap/funding_rate", "BTC-USD-SWAP", "funding rate",
     "instrument_id funding_rate estimated_rate funding_time", "public", "funding-rate:{id}"),
    ("futures/estimated_price", "BTC-USD-191227", "estimated delivery price",
     "instrument_id settlement_price timestamp", "public", "estimated-price:instType=FUTURES,instId={id}"),
    ("futures/instruments", "", "futures that change", "instrument_id underlying tick_size delivery", "public",
     "instruments:instType=FUTURES"),
    ("<contract>/liquidation", "BTC-USD-SWAP", "liquidations", "instrument_id price size type", "public",
     "liquidation-orders:instType={type}"),
    ("option/instruments", "", "options that change", "instrument_id underlying tick_size delivery", "public",
     "instruments:instType=OPTION"),
    ("option/summary", "BTC-USD", "greeks and volatilities of options",
     "instrument_id mark_vol bid_vol ask_vol delta gamma theta vega", "public", "opt-summary:instFamily={id}"),
    ("system/status", "", "maintenance", "title status start_time end_time", "public", "status"),
    ("spot/account", "USDT", "your balances", "currency balance available hold", "login", "account:ccy={id}"),
    ("spot/margin_account", "BTC-USDT", "your margin balances", "instrument_id currency:BTC", "login", "account"),
    ("<held>/account", "BTC-USD", "your balances", "equity margin_mode total_avail_balance", "login", "account"),
    ("<held>/position", "BTC-USD-191227", "your positions", "instrument_id holding", "login",
     "positions:instType={type},instId={id}"),
    ("<market>/order", "BTC-USDT", "your orders", V3_ORDER, "login", "orders:instType={type},instId={id}"),
    ("<market>/order_algo", "BTC-USDT", "your algo orders", "algo_id instrument_id size status timestamp", "login",
     "orders-algo:instType={type},instId={id}"),
])  # fmt: skip

V1_TRADE = "[tid price amount time type coin_amount]"  # the time is HH:MM:SS; all others are ms
V1_CANDLE = "[timestamp open high low close volume coin_volume]"
V1_FUTURE, V1_SPOT = "ok_sub_futureusd_<coin>", "ok_sub_spot_<coin>_<quote>"
V1_BOOK = "bids asks timestamp"

V1 = OkexV1([
    (f"{V1_FUTURE}_trade_<when>", "", "trades of a future", V1_TRADE, "public", "trades:{future}"),
    (f"{V1_SPOT}_deals", "", "trades", V1_TRADE, "public", "trades:{pair}"),
    (f"{V1_SPOT}_trades", "", "trades, by another name", V1_TRADE, "public", "trades:{pair}"),
    (f"{V1_FUTURE}_ticker_<when>", "", "ticker of a future", "last buy sell high low vol hold_amount", "public",
     "tickers:{future}"),
    (f"{V1_SPOT}_ticker", "", "ticker", "last buy sell high low vol timestamp", "public", "tickers:{pair}"),
    (f"{V1_FUTURE}_kline_<when>_<bar>", "", "candles of a future", V1_CANDLE, "public", "candle{bar}:{future}"),
    (f"{V1_SPOT}_kline_<bar>", "", "candles", V1_CANDLE, "public", "candle{bar}:{pair}"),
    (f"{V1_FUTURE}_depth_<when>", "", "order book of a future", V1_BOOK, "public", "books:{future}"),
    (f"{V1_FUTURE}_depth_<when>_<levels>", "", "its best levels", V1_BOOK, "public", "books5:{future}"),
    (f"{V1_SPOT}_depth", "", "order book", V1_BOOK, "public", "books:{pair}"),
    (f"{V1_SPOT}_depth_<levels>", "", "its best levels", V1_BOOK, "public", "books5:{pair}"),
    (f"{V1_FUTURE}_index", "", "index price", "futureIndex timestamp", "public", "index-tickers:{index}"),
    ("<coin>_forecast_price", "", "estimated delivery price, unasked for", "timestamp data", "public",
     "estimated-price:instType=FUTURES,instFamily={index}"),
    ("ok_sub_futureusd_trades", "", "your orders in futures", "orderid contract_name type price amount status", "login",
     "orders:instType=FUTURES"),
    ("ok_sub_futureusd_userinfo", "", "your balances in futures", "symbol balance profit_real keep_deposit", "login",
     "account"),
    ("ok_sub_futureusd_positions", "", "your positions in futures", "positions (contract_name position avgprice)",
     "login", "positions:instType=FUTURES"),
    (f"{V1_SPOT}_order", "", "your orders", "orderId symbol tradeType tradeUnitPrice tradeAmount status", "login",
     "orders:instType=SPOT,instId={pair}"),
    (f"{V1_SPOT}_balance", "", "your balances", "info", "login", "account"),
])  # fmt: skip


def dialect_of(channel: str) -> Dialect:
    """The generation that a channel's name belongs to. Raises ValueError for what cannot be a channel."""
    if not channel.isprintable():
        raise ValueError(f"{printable_text(channel)} is not a channel: it has a control character")
    dialect = likely_dialect(channel)
    if dialect is None or " " in channel:
        raise ValueError(f"{channel!r} is not a channel: {misnomer(channel)}")
    return dialect


def likely_dialect(channel: str) -> Dialect | None:
    if re.match(r"ok_|\w+_forecast_price$", channel):
        return V1
    if re.match(r"[a-z]+/[a-z]", channel):
        return V3
    return V5 if re.match(r"[a-z][\w-]*(:.+)?$", channel) else None


def passwordless(url: str) -> str:
    """A URL without user and password."""
    return re.sub(r"//.*@", "//", url)


def port_of(url: str, default: int = 0) -> int:
    """The port in a URL. Raises ValueError, without the password that urlsplit would show."""
    try:
        number = urlsplit(url).port
    except ValueError:
        hint = "/ ? # in a password are written %2F %3F %23"
        raise ValueError(f"{passwordless(url)} has no valid port; {hint}") from None
    return default if number is None else number


def endpoint_of(channel: str, url: str | None = None, region: str = "global", simulated: bool = False) -> str:
    """The URL to connect to for a channel. A `url` without a path is a host, and gets the exchange's path."""
    own = dialect_of(channel).url(channel, region, simulated)
    if url is None:
        return own
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not port_of(url, 443):
        hint = "it must start with ws:// or wss:// and name a host"
        raise ValueError(f"{passwordless(url)} is not a WebSocket URL: {hint}")
    return url if parts.path.strip("/") else parts._replace(path=urlsplit(own).path).geturl()


def columns_of(channel: str) -> tuple[str, ...]:
    """Names for the columns of a channel whose rows arrive as bare lists; () where rows name their values."""
    try:
        kind = dialect_of(channel).kind(channel)
    except ValueError:
        return ()
    return tuple(kind.columns[1:-1].split()) if kind and kind.columns.startswith("[") else ()


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
        "too many requests or channels: ask less often, or spread them over connections": "20049 30026 50011 50061"
        " 60014 4003 4008 4009 channel-conn-count-error",
        "the exchange did not understand the request": "30039 60019 4002",
        "something that the request must have is missing": "50014",
        "no such instrument, or its instIdCode has changed: the next order looks it up again": "51001",
        "log in once with one key on each connection": "60023 60026",
        "orders in event contracts need more: see the exchange's documentation": "54094 54109",
        "the exchange is not available for the moment": "50001 50013 50026",
        "the request was too large": "1009",
        "an error inside the exchange": "20014 30043 63999 64007 4006",
        "nothing was exchanged for 30 seconds": "4004",
        "this program or its network reads too slowly": "4005",
        "the API key was changed or deleted": "4007",
    }.items()
    for code in codes.split()
}
MISNAMED = {"60018", "30040", "10015", "20103"}  # refusals because there is no such channel
CLOCK = {"30005", "30008", "60004", "60006"}  # refusals because of a timestamp
ALREADY = {"30042", "60031"}  # "refusals" that say that we are logged in
LOGIN_CODES = set(
    "30001 30002 30004 30005 30006 30008 30013 30015 30016 30027"
    " 60004 60005 60006 60007 60009 60024 60032 63999".split()
)  # errors that are about the login, and say so by nothing but their code
TRANSIENT = set(
    "20014 20049 30026 30043 50001 50011 50013 50026 50061 60014 63999 64007".split()
)  # refusals that are worth another try


def reason_of(event: Refused | LoginRefused) -> str:
    """A refusal in words: its code, what the exchange says, and what can be done."""
    reason = f"{event.code} {printable_text(event.message)}"
    hint = HINTS.get(event.code)
    return f"{reason} ({hint})" if hint else reason


# ---------------------------------------------------------------------------------------------------------------
# Frames: bytes in, messages out (RFC 6455), and the loop that reads.

CHUNK = 1 << 16  # bytes to receive at once, at most


class Frames:
    """Cuts messages out of the bytes that a server sends. No socket; fast, because a message is a slice of a chunk.

    >>> frames = Frames()
    >>> list(frames.take(b"\\x81\\x05hel"))  # the beginning of a text
    []
    >>> list(frames.take(b"lo\\x89\\x00"))  # its end, and a ping
    [(1, b'hello'), (9, b'')]
    """

    def __init__(self) -> None:
        self._rest = b""  # a frame that has not arrived whole
        self._opcode = 0  # of the message whose fragments arrive; 0 between two messages
        self._fragments = bytearray()

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The opcode and the payload of each message that is whole by now: text, binary, close, ping or pong.

        A message in fragments comes once, under the opcode of the first. Raises ValueError for what a server must not
        send, and for a message of more than MAX_MESSAGE bytes.
        """
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        while end - at >= 2:
            head, length, begin = buffer[at], buffer[at + 1], at + 2
            if length == 126:
                if end - at < 4:
                    break
                length, begin = buffer[at + 2] << 8 | buffer[at + 3], at + 4
            elif length == 127:
                if end - at < 10:
                    break
                length, begin = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            elif length > 127:
                raise ValueError("the server sent a masked frame")
            if length + len(self._fragments) > MAX_MESSAGE:
                raise ValueError(f"a message of more than {MAX_MESSAGE} bytes")
            if begin + length > end:
                break
            at = begin + length
            if (head == 0x81 or head == 0x82) and not self._opcode:  # whole, text or binary, as nearly always
                yield head & 0x0F, buffer[begin:at]
            elif message := self._other(head, buffer[begin:at]):
                yield message
        self._rest = buffer[at:]

    def _other(self, head: int, payload: bytes) -> tuple[int, bytes] | None:
        """A control frame, or the message that a fragment completes; None while others are missing."""
        final, opcode = head & 0x80, head & 0x7F
        if opcode in (ABNF.OPCODE_CLOSE, ABNF.OPCODE_PING, ABNF.OPCODE_PONG) and final and len(payload) < 126:
            return opcode, payload
        begins = opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY) and not self._opcode
        continues = opcode == ABNF.OPCODE_CONT and self._opcode
        if not begins and not continues:
            raise ValueError(f"the server broke the protocol: a frame that begins with {head:#x}")
        self._opcode = self._opcode or opcode
        self._fragments += payload
        if not final:
            return None
        message = self._opcode, bytes(self._fragments)
        self._opcode, self._fragments = 0, bytearray()
        return message


class Reader:
    """The loop that reads one connection. It ends by an exception: Reconnect, or what a socket or a handler raises."""

    def __init__(self, ws: OkexWS, watchdog: Watchdog) -> None:
        assert ws.sock is not None
        self.ws = ws
        self.watchdog = watchdog
        self.sock: Any = ws.sock.sock
        self.frames = Frames()
        self.received = 0  # bytes
        self.noted = monotonic()  # when it was last noted what waited
        self.noted_bytes = 0  # how many will have been received once that was read

    def run(self, tick: Callable[[float], None]) -> None:
        """Read until the connection ends, and call `tick(now)` every second, whether something arrives or not."""
        self.sock.settimeout(1.0)
        ticked = 0.0
        while True:
            self.ws.tracing = okex_log.isEnabledFor(logging.DEBUG)
            now = monotonic()
            if now - self.watchdog.drained > 0.25:
                self.follow_arrivals(now)
            restored = self.ws.give_restored()  # while nothing live waits, more of it follows at once
            if not restored or bytes_waiting(self.sock):
                self.step()
            if now - ticked >= 1.0:
                ticked = now
                tick(monotonic())

    def follow_arrivals(self, now: float) -> None:
        """Find out by when everything that had arrived was read: note what waits now, and when so much has been read.

        That the socket is empty at one moment would be too much to ask of a busy reader that is hardly late.
        """
        waiting = bytes_waiting(self.sock)
        if not waiting:
            self.noted = now
        elif self.received < self.noted_bytes:
            return
        self.watchdog.drained = self.noted
        self.noted = now
        self.noted_bytes = self.received + waiting

    def step(self) -> None:
        """Receive something, if it comes within a second, and pass its messages on."""
        ws = self.ws
        try:
            chunk = self.sock.recv(CHUNK)
        except TimeoutError:
            return
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pause(0.001)  # TLS on Python 3.13 says so under load, while other threads send
            return
        if not chunk:
            raise Reconnect("the connection was lost")
        self.received += len(chunk)
        messages = 0
        for opcode, payload in self.frames.take(chunk):
            if not ws.keep_running:
                raise Reconnect("the connection was lost")
            if opcode <= 2:  # text or binary
                messages += 1
                try:
                    message = payload.decode() if opcode == 1 else payload
                except UnicodeDecodeError as error:
                    ws.malformed(str(error), payload)
                else:
                    ws.receive(message)
            elif opcode == ABNF.OPCODE_PING:
                ws.send(payload, ABNF.OPCODE_PONG)
            elif opcode == ABNF.OPCODE_CLOSE:
                ws.counts["messages"] += messages
                ws._on_close(int.from_bytes(payload[:2], "big") or None, payload[2:].decode("utf-8", "replace"))
                raise Reconnect("closed by the exchange")
        ws.counts["messages"] += messages
        if messages:  # control frames of a peer that sends nothing else do not count
            self.watchdog.heard = monotonic()


def bytes_waiting(sock: Any) -> int:
    """How many bytes wait to be read from a socket; with TLS, about so many."""
    try:
        import fcntl
        import termios
    except ImportError:  # Windows: nothing, or as much as may be read at once
        from select import select

        return CHUNK if select([sock], [], [], 0)[0] else 0
    waiting = fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(waiting, sys.byteorder)


# ---------------------------------------------------------------------------------------------------------------
# Order books: pure, apart from the lock that lets other threads read them.

ODD_ROW = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what a row of odd JSON can raise


class BookOutOfSync(Exception):
    """The book is not known to be the exchange's, and must not be used until it is ready again."""


class BookSide:
    """The bids or the asks. A change costs what it has levels, however many there are in the book.

    Levels are kept by their price as sent, and so nearly every change is one assignment: only a price that is new is
    parsed and sorted in. A deleted level stays, with its size of 0, until enough of them have come together. Sizes are
    looked at when they are read. Prices are compared as numbers: 1E-8 is 0.00000001.
    """

    __slots__ = ("capacity", "lowest", "order", "prices", "sign", "sizes")

    def __init__(self, sign: int, levels: Iterable[Any], lowest: float) -> None:
        self.sign = sign  # -1 for bids, so that the smallest key is the best
        self.lowest = lowest  # what a price may be
        self.sizes: dict[str, str] = {level[0]: level[1] for level in levels}  # by price, both as sent
        "".join(self.sizes)  # TypeError if a price is no string
        self.prices = {sign * float(price): price for price in self.sizes}  # by key
        self.order = sorted(self.prices)  # keys
        if not isfinite(sum(self.order)) or sign * (self.order or [inf * sign])[-1 if sign < 0 else 0] < lowest:
            raise ValueError("a price is no price")
        if len(self.prices) < len(self.sizes):  # one of them is spelled in two ways
            self.sizes = {price: self.sizes[price] for price in self.prices.values()}
        self.capacity = 200 + len(self.order) * 3 // 2  # with more levels, the deleted ones are cleared away

    def change(self, levels: Iterable[Any]) -> None:
        """Apply changed levels, [price, size, …]."""
        sizes = self.sizes
        known = len(sizes)
        for level in levels:
            sizes[level[0]] = level[1]
        if len(sizes) > known:  # what is new stands last in a dict
            for price in list(islice(reversed(sizes), len(sizes) - known))[::-1]:
                self._insert(price)
            if len(sizes) > self.capacity:
                self._clear()

    def _insert(self, price: str) -> None:
        key = self.sign * level_number(price, self.lowest)
        if key in self.prices:
            del self.sizes[self.prices[key]]  # the same price, spelled in another way until now
        else:
            insort(self.order, key)
        self.prices[key] = price

    def _clear(self) -> None:
        """Forget the deleted levels."""
        sizes = self.sizes
        self.order = [key for key in self.order if level_number(sizes[self.prices[key]])]
        self.prices = {key: self.prices[key] for key in self.order}
        self.sizes = {price: sizes[price] for price in self.prices.values()}
        self.capacity = 200 + len(self.order) * 3 // 2

    def top(self, n: int) -> list[list[str]]:
        """The best n levels, best first. Only the sizes that begin with no digit but 0 are looked at."""
        best: list[list[str]] = []
        gone = 0
        for key in self.order:
            if len(best) == n:
                break
            price = self.prices[key]
            size = self.sizes[price]
            if "1" <= size < ":" or float(size) > 0:  # what begins with another digit than 0 is more than 0
                best.append([price, size])
            elif level_number(size) == 0 and not best:
                gone += 1
        if gone:  # or each later reading would pass them again
            for key in self.order[:gone]:
                del self.sizes[self.prices.pop(key)]
            del self.order[:gone]
        return best


def level_number(text: str, lowest: float = 0.0) -> float:
    """A price or a size as a number. Raises TypeError or ValueError for what is none."""
    value = float(text)
    if not lowest <= value < inf or text.__class__ is not str:
        raise ValueError(f"{text!r} is no price or size")
    return value


class OrderBook:
    """One instrument's order book, kept from snapshots and updates. Any thread may read it.

    Reading a book that is not `ready` raises BookOutOfSync, and so does `apply` when a message cannot be read, or does
    not follow from the one before: by v5's sequence numbers, by the checksum where there is one, or because bid and
    ask cross and nothing vouches for that. `whole` is for channels of which every message is the whole book, `signed`
    for instruments whose prices may be negative, as those of spreads are (sprd-…).

    A book belongs to a subscription. `close` ends it: whatever still comes of it, late and from any thread, is not
    taken. `open` begins the next one. A book made by itself is open.
    """

    def __init__(
        self, whole: bool = False, signed: bool = False, doubt: Callable[[], str] = lambda: "", depth: int | None = None
    ) -> None:
        self.whole = whole
        self.depth = depth  # levels a side that `take` shows after each change, if not the change itself
        self._lowest = -inf if signed else 0.0
        self._doubt = doubt  # asked at each reading: why not to trust the book now, though it is in sync; "" is trust
        self._lock = threading.RLock()  # guards all below: one thread applies, another may close, any may read
        self._open = True  # whether there is a subscription that feeds the book
        self._reason = "no snapshot yet"  # why the book is not ready; "" when it is
        self._first = True  # nothing came since the subscription but, perhaps, updates without a snapshot
        self._timestamp: Any = ""  # of the last row
        self._sequence: int | None = None
        self._bids, self._asks = BookSide(-1, (), 0.0), BookSide(1, (), 0.0)

    def take(self, rows: list[Any], action: str) -> list[Any]:
        """Apply the rows of a message. Returns them, or the best levels after each, as `depth` has it.

        Raises BookOutOfSync if one of them cannot be applied.
        """
        views = []
        for row in rows:
            self.apply(row, action)
            if self.depth and not self._reason and (action != "update" or row["bids"] or row["asks"]):
                views.append(self.view(self.depth))
        return [view for view in views if view] if self.depth else rows

    def apply(self, row: Any, action: str = "") -> None:
        """Take one row of a book channel; `action` is "snapshot", "update", or "" for v1 and whole-book channels.

        {"asks":[["83725.9","1712.41","0","92"]],"bids":[],"ts":"1791369351001","seqId":10,"prevSeqId":-1}

        A level starts with price and size; size 0 deletes it. In v1 the first row since subscribing is the book.
        Updates before the first snapshot are not taken, and neither is anything by a closed book.
        """
        with self._lock:
            try:
                if not self._open:
                    return
                if action == "snapshot" or self.whole or (self._first and not action):
                    self._replace(row)
                elif not self._reason:
                    self._change(row)
                elif not self._first:
                    raise BookOutOfSync(self._reason)
            except (BookOutOfSync, *ODD_ROW) as error:
                raise self._distrust(error) from None

    def invalidate(self, reason: str) -> None:
        """Distrust the book until its next snapshot."""
        with self._lock:
            if self._open:
                self._reason = reason

    def close(self, reason: str) -> None:
        """End the subscription: the book is out of sync, and takes nothing until `open`."""
        with self._lock:
            self._open, self._reason = False, reason

    def open(self) -> None:
        """Begin a new subscription: the next snapshot, in v1 the next row, will be the book."""
        with self._lock:
            self._open = self._first = True
            self._reason = self._reason or "no snapshot yet"

    @property
    def ready(self) -> bool:
        with self._lock:  # not in the middle of a row, which may yet turn out wrong
            return not (self._reason or self._doubt())

    @property
    def timestamp(self) -> str | int:
        """The exchange's time of the last message: ms in v1 and v5, ISO 8601 in v3; "" if it had none."""
        with self._lock:
            self._demand_ready()
            return self._timestamp if isinstance(self._timestamp, str | int) else ""

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask, as happens in a call auction, and the exchange says so."""
        spread = self.spread
        return spread is not None and spread <= 0

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
        """The middle between best bid and best ask, computed exactly and then rounded; None for a one-sided book."""
        bids, asks = self.top(1)
        return float((Decimal(bids[0][0]) + Decimal(asks[0][0])) / 2) if bids and asks else None

    @property
    def spread(self) -> float | None:
        """Best ask less best bid, computed exactly: 0.1, not 0.0999999. Below 0 if `crossed`, None if one-sided."""
        bids, asks = self.top(1)
        return float(Decimal(asks[0][0]) - Decimal(bids[0][0])) if bids and asks else None

    def top(self, n: int) -> tuple[list[list[str]], list[list[str]]]:
        """The best n bids and the best n asks, each [price, size], best first, in the exchange's own strings.

        The lists are the caller's.
        """
        with self._lock:
            self._demand_ready()
            return self._best(n)

    def view(self, n: int) -> dict[str, Any] | None:
        """The best n levels a side as of the last row, for who handles that row; None if the book is out of sync."""
        with self._lock:
            if self._reason:
                return None
            bids, asks = self._best(n)
            return {"bids": bids, "asks": asks, "ts": self._timestamp}

    # Under the lock.

    def _best(self, n: int) -> tuple[list[list[str]], list[list[str]]]:
        try:
            bids, asks = self._bids.top(n), self._asks.top(n)
            if not sum(map(float, [size for _, size in bids + asks])) < inf:
                raise ValueError("a size is no size")
            return bids, asks
        except ODD_ROW as error:
            raise self._distrust(error) from None

    def _demand_ready(self) -> None:
        reason = self._reason or self._doubt()
        if reason:
            raise BookOutOfSync(reason)

    def _distrust(self, error: Exception) -> BookOutOfSync:
        """The book is out of sync because of a row; what to raise."""
        what = str(error) if isinstance(error, BookOutOfSync) else f"unreadable row: {error!r}"
        self._reason, self._first = printable_text(what), False
        return BookOutOfSync(self._reason)

    def _replace(self, row: Any) -> None:
        self._bids, self._asks = BookSide(-1, row["bids"], self._lowest), BookSide(1, row["asks"], self._lowest)
        self._sequence, self._first = row.get("seqId"), False
        self._check_sum(row)
        self._timestamp = row.get("ts") or row.get("timestamp") or ""
        self._reason = ""

    def _change(self, row: Any) -> None:
        """Apply an update, if it follows.

        A documented run of (prevSeqId, seqId): (-1,10) (10,15) (15,15) (15,3) (3,5). The third is a keep-alive,
        without levels; the fourth a reset for maintenance.
        """
        vouched, last = "seqId" in row or self._sequence is not None, self._sequence
        if vouched:
            if row["prevSeqId"] != last:
                raise BookOutOfSync(f"sequence gap: an update follows {row['prevSeqId']}, the book is at {last}")
            self._sequence = row["seqId"]
        self._bids.change(row["bids"])
        self._asks.change(row["asks"])
        if not self._check_sum(row) and not vouched:
            bids, asks = self._bids.top(1), self._asks.top(1)
            if bids and asks and float(bids[0][0]) >= float(asks[0][0]):
                raise BookOutOfSync(f"crossed: bid {bids[0][0]}, ask {asks[0][0]}")
        self._timestamp = row.get("ts") or row.get("timestamp") or ""

    def _check_sum(self, row: Any) -> bool:
        """Whether a row has a checksum, and it is right. Raises BookOutOfSync if it is wrong.

        v3's, and v5's until June 2026, when it became 0: CRC32 of the best 25 a side, bid and ask in turn, as sent.
        """
        checksum = row.get("checksum")
        if checksum in (None, 0, "", "0"):
            return False
        pairs = zip_longest(self._bids.top(25), self._asks.top(25), fillvalue=())
        text = ":".join([":".join((*bid, *ask)) for bid, ask in pairs])
        if zlib.crc32(text.encode()) != int(checksum) & 0xFFFFFFFF:
            raise BookOutOfSync("checksum mismatch")
        return True


# ---------------------------------------------------------------------------------------------------------------
# Series: trades and candles without holes. Each finds what is missing, a thread fetches it by REST, and the reading
# thread hands it over.

FILL_SPACING = 0.125  # seconds between two requests; OKX takes 10 of each of these a second per IP (docs-v5, 2026)
FILL_PAGE = 100  # rows to ask for; history-trades and index-candles give no more
FILL_TRIES = 6  # times that an answer may be of no use, one after another; 1 + 2 + 4 + 8 + 16 s
FILL_SAID_EVERY = 5.0  # seconds between two lines about a hole that takes long
MAX_RESTORED = 500_000  # rows of one hole
MAX_HOLES = 1000  # open ones in one series
MAX_RECALLED = 1_000_000  # rows of an earlier run that are looked at, of one channel
RECALLED_BEFORE = 1000  # of them from before the time that is filled
BARREN_HOLES = 3  # after so many in a row that held nothing, an instrument's own small jumps are left alone
SMALL_JUMP = 1000  # ids, or candles
MAX_COUNT = 10_000  # trades in one row
USUAL_COUNTS = {str(n): n for n in range(1, 100)}  # looked up at a quarter of the cost of int()
RESTORED_AT_ONCE = 10  # rows for the handler between two chunks of what is live, which wait for so many at most
SERIES_COUNTS = ("holes", "rows restored", "missing")
OWN_JUMP, TOO_MANY = "its own", "too many holes"  # why a hole is not asked for


class SeriesHole(NamedTuple):
    """Numbers that are missing: trades' ids, or candles by their place in time. `why` they are not asked for, or ""."""

    first: int
    last: int
    why: str = ""

    @property
    def size(self) -> int:
        return self.last - self.first + 1


class RowSeries:
    """What must come one after another, by number. It knows what came last, and which numbers are missing.

    A row stands for the numbers first … last. Where it follows, it is taken; where it jumps, there is a hole; what
    came already is dropped. No socket, thread or clock. One thread uses it, but for `resume`.
    """

    LEAP = 1_000_000  # numbers; a jump as wide counts only once the next row goes on from there
    beyond = 1  # by how much REST must know what came after a hole: nothing but that shows that it is up to date

    def __init__(self, channel: str) -> None:
        self.last: int | None = None  # number; what came up to here is taken, or missing. None before the first row
        self.first = 0  # number of the first row; nothing is known of what came before
        self.time: Any = ""  # of the last row, in ms
        self.holes: list[SeriesHole] = []  # open, lowest first
        self.news: list[SeriesHole | str] = []  # what was found, for who tells and fills: holes, and lines
        self.barren = 0  # holes in a row that held nothing
        self._resumed = True  # no row came yet since it was subscribed to
        self._paused: int | None = None  # what `last` was then
        self._leap: SeriesHole | None = None  # a row that is too far away to be believed by itself
        self._said: set[str] = set()
        argument = V5.argument(channel)
        self.kind, self.instrument = argument["channel"], argument.get("instId") or argument.get("sprdId") or ""
        self.counted = self.kind == "trades"  # whether a row may stand for several trades

    def resume(self) -> None:
        """Rows begin again after a pause: whatever they jump over then was missed."""
        if not self._resumed:
            self._resumed, self._paused, self.last = True, self.last, None

    def follow(self, rows: list[Any]) -> bool:
        """Take rows that are simply the next ones, at little cost. False, and nothing happened, if they may not be."""
        return False

    def take(self, rows: list[Any]) -> list[Any]:
        """The rows of a message without those that came before."""
        if self.last is None:
            self.last = self._paused
        return [row for row in rows if self._takes(row)]

    def restore(self, rows: list[Any]) -> list[Any]:
        """Rows that were fetched, but for those that came, or were given up, meanwhile."""
        return [row for row in rows if self._fill(*self.span(row))]

    def close(self, first: int, last: int) -> list[SeriesHole]:
        """Give up what is missing between these numbers; what that was."""
        inside = []
        for hole in [hole for hole in self.holes if hole.first <= last and hole.last >= first]:
            part = SeriesHole(max(first, hole.first), min(last, hole.last))
            self._cut(hole, part.first, part.last)
            inside.append(part)
        return inside

    def span(self, row: Any) -> tuple[int, int]:
        """The numbers that a row stands for. Raises one of ODD_ROW where it does not say so."""
        raise NotImplementedError

    def _takes(self, row: Any) -> bool:
        if self.follow([row]):
            self._resumed = False
            return True
        try:
            first, last = self.span(row)
        except ODD_ROW:
            self.say_once("a row has no usable number: what is missing around it cannot be known")
            return True
        return self._judge(row, first, last)

    def _judge(self, row: Any, first: int, last: int) -> bool:
        raise NotImplementedError

    def _follows_leap(self, row_first: int, row_last: int) -> bool:
        """Whether a row is far beyond the last one, and not confirmed by its neighbour: then it changes nothing."""
        assert self.last is not None
        if row_first - self.last <= self.LEAP:
            self._leap = None
            return False
        leap, self._leap = self._leap, SeriesHole(row_first, row_last)
        if leap and row_first == leap.last + 1:
            self._leap = None
            self._open(self.last + 1, leap.first - 1, asked=True)
            self.last = leap.last
            return False
        self.say_once(f"its numbers jump: {row_first} comes after {self.last}")
        return True

    def _open(self, first: int, last: int, asked: bool = False) -> None:
        """Something is missing. An instrument's own small jumps are not asked for again and again."""
        hole = SeriesHole(first, last)
        if self.barren >= BARREN_HOLES and hole.size <= SMALL_JUMP and not (asked or self._resumed):
            self.news.append(hole._replace(why=OWN_JUMP))
        elif len(self.holes) >= MAX_HOLES:
            self.news.append(hole._replace(why=TOO_MANY))
        else:
            self.holes.append(hole)
            self.news.append(hole)

    def _fill(self, first: int, last: int) -> bool:
        """Whether all these numbers were missing until now."""
        for hole in self.holes:
            if hole.first <= first and last <= hole.last:
                self._cut(hole, first, last)
                return True
        return False

    def _cut(self, hole: SeriesHole, first: int, last: int) -> None:
        n = self.holes.index(hole)
        parts = (SeriesHole(hole.first, first - 1), SeriesHole(last + 1, hole.last))
        self.holes[n : n + 1] = [part for part in parts if part.size > 0]

    def _begin_anew(self, line: str) -> None:
        self.say_once(line)
        for hole in self.holes:
            self.news.append(hole._replace(why="its numbers began anew"))
        self.holes = []

    def say_once(self, line: str) -> None:
        if line.partition(":")[0] not in self._said and len(self._said) < 10:
            self._said.add(line.partition(":")[0])
            self.news.append(line)

    # Over REST.

    def page(self, before: int) -> str:
        """The path of rows with numbers below this one, newest first."""
        raise NotImplementedError

    def read(self, row: Any) -> tuple[int, int, Any]:
        """A row of such a page: its number, its time in ms, and the row as the handler gets it.

        Raises one of ODD_ROW for what is no such row.
        """
        raise NotImplementedError

    def describe(self, hole: SeriesHole) -> str:
        raise NotImplementedError


def whole_number(value: Any, most: int = 10**18) -> int:
    """A number from 0 on, as the exchange writes it. Raises ValueError for anything else."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise ValueError("no such number")
    return int(text)


class TradeSeries(RowSeries):
    """v5 `trades` and `trades-all`, by tradeId. In `trades`, 123 with count 3 stands for 121, 122 and 123.

    {"instId":"BTC-USDT","tradeId":"123","px":"83753","sz":"0.1","side":"sell","ts":"1791369376364","count":"3"}

    Ids come one after another (71 of 71 messages in a recording of 2022), and are the same over REST (2026-10-04).
    """

    def follow(self, rows: list[Any]) -> bool:
        row: Any = None
        last: Any = self.last
        counted = self.counted
        try:
            for row in rows:  # one, as nearly always
                last += 1
                if counted and (count := row["count"]) != "1":
                    last += USUAL_COUNTS[count] - 1
                if row["tradeId"] != f"{last}":  # cheaper than int(), and proves more
                    return False
            self.time = row["ts"]
            self.last = last
            return True
        except ODD_ROW:  # the first row, too, for which there is no last one
            return False

    def span(self, row: Any) -> tuple[int, int]:
        last, count = whole_number(row["tradeId"]), 1
        if self.counted:
            count = whole_number(row.get("count", "1"), MAX_COUNT)
        if not 0 < count <= last + 1:
            raise ValueError("no such count")
        return last - count + 1, last

    def _judge(self, row: Any, first: int, last: int) -> bool:
        """Whether a row is new."""
        time = row.get("ts")
        if self.last is None:
            self.first = first
        elif last <= self.last:
            if self._fill(first, last):
                return True
            later = False
            with suppress(*ODD_ROW):
                later = int(time) > int(self.time)
            if not later and (time or last >= self.first):
                self._came_to(self.last)
                return False
            self._begin_anew(f"its ids begin anew: {last} comes after {self.last}")
            self.first = first
        elif first <= self.last:  # what is new in it cannot be told apart: REST has each trade by itself
            self._open(self.last + 1, last, asked=True)
            self._came_to(last)
            return False
        elif self._follows_leap(first, last):
            return True
        elif first > self.last + 1:
            self._open(self.last + 1, first - 1)
        self.time = time
        self._came_to(last)
        return True

    def _came_to(self, last: int) -> None:
        self.last, self._resumed = last, False

    def page(self, before: int) -> str:
        return f"/api/v5/market/history-trades?instId={self.instrument}&type=1&after={before}&limit={FILL_PAGE}"

    def read(self, row: Any) -> tuple[int, int, Any]:
        """{"instId":"BTC-USDT","tradeId":"2972052352","px":"85073.1","sz":"0.01","side":"sell","ts":"…"}"""
        if row["instId"] != self.instrument:
            raise ValueError("a trade of another instrument")
        counted = {"count": "1"} if self.counted else {}
        return whole_number(row["tradeId"]), whole_number(row["ts"]), {**row, **counted, "restored": True}

    def describe(self, hole: SeriesHole) -> str:
        return f"trades {hole.first} to {hole.last} ({hole.size})"


CANDLE_CHANNEL = re.compile(r"(mark-price-|index-|sprd-)?candle(\d+)([smHDWM])(utc)?")
CANDLE_PATHS = {  # of REST, by market; spreads: docs-v5, spread trading, "Get candlesticks history", 2026-01
    "": "history-candles?instId",
    "mark-price-": "mark-price-candles?instId",
    "index-": "index-candles?instId",
    "sprd-": "sprd-history-candles?sprdId",
}
BAR_SECONDS = {"s": 1, "m": 60, "H": 3600, "D": 86_400, "W": 7 * 86_400}
HONG_KONG = 8 * 3600 * 1000  # ms; days, weeks and months begin at its midnight, but for the utc forms


class CandleBars:
    """The bars of one length, numbered along the calendar: 5m, 1Dutc, 3M."""

    def __init__(self, number: int, unit: str, utc: bool) -> None:
        self.months = number if unit == "M" else 0
        self.step = number * BAR_SECONDS.get(unit, 0) * 1000  # ms
        self.shift = 0 if utc else HONG_KONG
        self.phase: int | None = None  # ms (or months) by which the first bar seen is off the multiples of a step

    def place(self, ts: Any) -> int:
        """The number of the bar that begins at this time, in ms. Raises ValueError if none does."""
        begin = whole_number(ts, 10**14)
        value, step = (self._month(begin), self.months) if self.months else (begin, self.step)
        if self.phase is None:
            self.phase = value % step
        if value % step != self.phase:
            raise ValueError("no bar begins then")
        return value // step

    def begin(self, place: int) -> int:
        """When a bar begins, in ms."""
        if not self.months:
            return place * self.step + (self.phase or 0)
        from datetime import datetime, timezone  # here, since a script may have another datetime

        month = place * self.months + (self.phase or 0)
        first = datetime(month // 12, month % 12 + 1, 1, tzinfo=timezone.utc)
        return int(first.timestamp()) * 1000 - self.shift

    def _month(self, begin: int) -> int:
        from datetime import datetime, timezone

        at = datetime.fromtimestamp((begin + self.shift) / 1000, timezone.utc)
        if (at.day, at.hour, at.minute, at.second, at.microsecond) != (1, 0, 0, 0, 0):
            raise ValueError("no month begins then")
        return at.year * 12 + at.month - 1


class CandleSeries(RowSeries):
    """v5 candles, by their time. A bar is sent while it forms, then once more with confirm "1", which is final.

    {"ts":"1597026383085","o":"8533.02","h":"8553.74","l":"8527.17","c":"8548.26",…,"confirm":"0"}

    A bar that was not seen as final before the next one but one began is a hole; right after a reconnect, so is the
    one before the bar that forms then. A row without confirm counts as final.
    """

    LEAP = 1000
    beyond = 0  # the bar after it may form still, and not be listed

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        match = CANDLE_CHANNEL.fullmatch(self.kind)
        assert match is not None
        self.market, number, unit, utc = match.groups(default="")
        self.bars = CandleBars(int(number), unit, bool(utc))
        self.bar = f"{number}{unit}{utc}"
        self._early = -1  # a bar that was final before the one before it
        self._name_rows = row_namer(columns_of(channel))

    def span(self, row: Any) -> tuple[int, int]:
        place = self.bars.place(row["ts"])
        return place, place

    def _judge(self, row: Any, first: int, last: int) -> bool:
        """Whether a row is new: a final one comes once, one of a bar that forms as often as it is sent."""
        place, final = last, row.get("confirm", "1") == "1"
        if self.last is None:
            self.last, self.first = place - 1, place
        if place < self.first:
            return True
        if place > self.last and self._follows_leap(place, place - 1):
            return True
        missed = place - 1 if self._resumed else place - 2
        if missed > self.last:
            self._miss(missed)
        self._resumed = False
        if not final:
            return place > self.last or any(hole.first <= place <= hole.last for hole in self.holes)
        if place <= self.last:
            return self._fill(place, place)
        if place == self._early:
            return False
        self._pass(place)
        return True

    def _miss(self, last: int) -> None:
        """The bars up to here that were not seen as final are a hole, or two around one that was."""
        assert self.last is not None
        first, early = self.last + 1, self._early
        if first <= early <= last:
            self._open(first, early - 1)
            first = early + 1
        if first <= last:
            self._open(first, last)
        self.last = last
        self._pass(self.last)

    def _pass(self, place: int) -> None:
        """A bar is final, or given up: if all before it are so, the series has come this far."""
        assert self.last is not None
        if place > self.last + 1:
            self._early = place
            return
        self.last = max(self.last, place)
        if self._early == self.last + 1:
            self.last = self._early

    def page(self, before: int) -> str:
        what = f"{CANDLE_PATHS[self.market]}={self.instrument}&bar={self.bar}"
        return f"/api/v5/market/{what}&after={self.bars.begin(before)}&limit={FILL_PAGE}"

    def read(self, row: Any) -> tuple[int, int, Any]:
        """["1597026383085","8533.02","8553.74","8527.17","8548.26","45247","529.58","5529.58","1"]

        Its time is when it ended. One that is not final is no such row.
        """
        (named,) = self._name_rows([row])
        place = self.bars.place(named["ts"])
        if named.get("confirm", "1") != "1":
            raise ValueError("not final")
        return place, self.bars.begin(place + 1), {**named, "restored": True}

    def describe(self, hole: SeriesHole) -> str:
        from datetime import datetime, timezone

        first, last = (
            datetime.fromtimestamp(self.bars.begin(place) / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            for place in (hole.first, hole.last)
        )
        return f"candles {first} to {last} ({hole.size})"


def series_of(channel: str) -> RowSeries | None:
    """What finds holes in a channel's rows; None for a channel that has no such numbers, or is of v1 or v3."""
    if dialect_of(channel) is not V5:
        return None
    kind = channel.partition(":")[0]
    if kind in ("trades", "trades-all"):
        return TradeSeries(channel)
    return CandleSeries(channel) if CANDLE_CHANNEL.fullmatch(kind) else None


class HoleFilling:
    """One hole that is being filled: page after page of REST, backwards from its end. No socket, thread or clock."""

    def __init__(self, subscription: Subscription, hole: SeriesHole, oldest: float) -> None:
        assert subscription.series is not None
        self.subscription, self.series, self.hole = subscription, subscription.series, hole
        self.oldest = oldest  # ms; rows from before are not wanted
        self.before = hole.last + 2  # what to ask for; the row behind the hole shows that REST has come so far
        self.current = False  # whether REST is known to have come so far
        self.known_from = hole.last + 1  # what REST lists is known from this number on
        self.rows: dict[int, bytes] = {}  # the hole's rows, by number; marshalled, as in Writer.queue
        self.done = False
        self.why = ""  # why it is done though it is not whole
        self.failures = 0  # answers of no use since the last one of use
        self.due = 0.0  # monotonic: when to ask
        self.began = 0.0  # monotonic: when it was first asked for
        self.newest = self.reached = 0.0  # ms: times of the first and the last row so far
        self.order: list[int] = []  # numbers of the rows that are still to be handed over, highest first
        self.restored = 0  # rows handed over

    def path(self) -> str:
        return self.series.page(self.before)

    def take(self, answer: Any) -> None:
        """Take one page: rows below `before`, newest first. Raises ValueError if it is of no use."""
        found = {}
        for row in answer[:1000]:
            with suppress(*ODD_ROW):
                number, time, whole = self.series.read(row)
                if number < self.before:
                    found[number] = (time, whole)
        if not found:
            raise ValueError("REST lists no such rows")
        if not self.current and max(found) < self.hole.last + self.series.beyond:
            self.before = self.hole.last + 52  # something that came later will do
            raise ValueError("REST has not come so far yet")
        self.current = True
        self.newest = self.newest or max(time for time, _ in found.values())
        self.reached = min(time for time, _ in found.values())
        self._keep(found, min(found))

    def _keep(self, found: dict[int, tuple[int, Any]], lowest: int) -> None:
        first, last, _ = self.hole
        inside = {number: pair for number, pair in found.items() if first <= number <= last}
        too_old = [number for number, (time, _) in inside.items() if time < self.oldest]
        self.rows |= {number: marshal.dumps(row) for number, (time, row) in inside.items() if time >= self.oldest}
        self.before, self.known_from = lowest, max(first, lowest)
        if too_old:
            self.known_from = max(too_old) + 1
            self.give_up("older than is to be filled")
        elif lowest <= first:
            self.done = True
        elif len(self.rows) >= MAX_RESTORED:
            self.give_up(f"more than {MAX_RESTORED} rows")

    def give_up(self, why: str) -> None:
        self.done, self.why = True, why

    def next_rows(self) -> list[Any]:
        """Some of the rows, lowest first, each once."""
        numbers = self.order[: -RESTORED_AT_ONCE - 1 : -1]
        del self.order[-RESTORED_AT_ONCE:]
        return [marshal.loads(self.rows.pop(number)) for number in numbers]

    def progress(self, now: float) -> str:
        """How far it is, of how much, and how long it may still take."""
        asked = max(self.newest - self.oldest, 1.0)
        by_time = len(self.rows) * asked / max(self.newest - self.reached, 1.0)
        whole = max(len(self.rows), int(min(self.hole.size, by_time)))
        left = (now - self.began) * (whole - len(self.rows)) / max(len(self.rows), 1)
        return f"{len(self.rows)} of about {whole} missing rows fetched, some {left:.0f} s to go"


class HoleFiller:
    """Fetches by REST what is missing, on one thread, which begins with the first hole. It knows no handler."""

    _next = 0.0  # monotonic: when the next request may leave; shared, since the limit is per IP address
    _pace = threading.Lock()  # guards _next

    def __init__(self, rest: "Rest", stop: threading.Event) -> None:
        self.rest = rest
        self.stop = stop  # set when the client ends
        self.filled: deque[HoleFilling] = deque()  # done; appended by the thread, taken by who reads
        self._waiting: list[HoleFilling] = []
        self._lock = threading.Lock()  # guards _waiting and _thread
        self._wake = threading.Event()  # another hole waits
        self._thread: threading.Thread | None = None
        self._failing = False
        self._said = 0.0  # monotonic: when progress was last told

    def fill(self, filling: HoleFilling) -> None:
        with self._lock:
            self._waiting.append(filling)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="okex_ws filler", daemon=True)
                self._thread.start()
        self._wake.set()

    @classmethod
    def turn(cls, now: float) -> float:
        """Take the next turn to ask: the seconds until it comes."""
        with cls._pace:
            at = max(now, cls._next)
            cls._next = at + FILL_SPACING
        return at - now

    def _run(self) -> None:
        while not self.stop.is_set():
            self._wake.clear()
            filling = self._first()
            wait = filling.due - monotonic() if filling else 1.0
            if wait > 0:
                self._wake.wait(min(wait, 1.0))
            elif filling and not self.stop.wait(self.turn(monotonic())):
                self._ask(filling)

    def _first(self) -> HoleFilling | None:
        """What to ask for next: of each channel its oldest hole, so that rows come in order; channels in turn."""
        with self._lock:
            self._waiting = [f for f in self._waiting if not f.done and f.subscription.series is f.series]
            oldest = {id(filling.series): filling for filling in reversed(self._waiting)}
        return min(oldest.values(), key=lambda filling: filling.due, default=None)

    def _ask(self, filling: HoleFilling) -> None:
        """One request, and what comes of it."""
        now = monotonic()
        filling.began = filling.began or now
        try:
            filling.take(self.rest.get(filling.path()))
            filling.failures, filling.due = 0, now
            if self._failing:
                okex_log.warning("REST answers again.")
            self._failing = False
        except Exception as error:
            self._failed(filling, error)
        if filling.done:
            filling.order = sorted(filling.rows, reverse=True)
            self.filled.append(filling)
        elif now - filling.began > FILL_SAID_EVERY < now - self._said:
            self._said = now
            okex_log.warning("%s: %s.", filling.subscription.channel, filling.progress(now))

    def _failed(self, filling: HoleFilling, error: Exception) -> None:
        """Try again after a growing wait: for ever if it was the network, else FILL_TRIES times."""
        why = explain(error, self.rest.server)
        filling.failures += 1
        lasting = isinstance(error, ODD_ROW) and why.partition(" ")[0] not in TRANSIENT
        if lasting and filling.failures >= FILL_TRIES:
            filling.give_up(why)
            return
        wait = min(MAX_RETRY, 2.0 ** min(filling.failures - 1, 10))
        filling.due = monotonic() + wait
        if not self._failing and not lasting:
            self._failing = True
            channel = filling.subscription.channel
            okex_log.warning("%s: what is missing cannot be fetched yet: %s. Trying again.", channel, why)


class SeriesKeeper:
    """Looks after the series of one client, on its reading thread: has holes filled, and tells what stays missing."""

    def __init__(
        self,
        rest: "Rest",
        stop: threading.Event,
        fill: float,
        counts: "Counter[str]",
        notify: Callable[[str, str], None],
    ) -> None:
        self.fill = fill  # seconds back at most; 0 for not at all
        self.counts = counts
        self.notify = notify  # OkexWS.on_status, guarded
        self.filler = HoleFiller(rest, stop)
        self.filled = self.filler.filled

    def recall(self, subscription: Subscription, rows: Iterable[Any]) -> None:
        """Go on behind what an earlier run kept, oldest first, and fetch what it left out. Before the client runs."""
        series = subscription.series
        if series is None:
            return
        for row in rows:
            series.take([row])
            series.news.clear()
        for hole in series.holes:
            self._opened(subscription, series, hole)

    def take(self, subscription: Subscription, series: RowSeries, rows: list[Any]) -> list[Any]:
        """The rows that are new, of some that do not simply follow. What is found missing is told, and filled."""
        taken = series.take(rows)
        if len(taken) < len(rows):
            self.counts["repeated rows"] += len(rows) - len(taken)
        if series.news:
            self._heed(subscription, series)
        return taken

    def _heed(self, subscription: Subscription, series: RowSeries) -> None:
        while series.news:  # saying something once adds to it
            item = series.news.pop(0)
            if isinstance(item, str):
                okex_log.warning("%s: %s. Said once.", subscription.channel, item)
            elif item.why == OWN_JUMP:
                self.counts["jumps left alone"] += 1
                why = f"REST had nothing for the last {BARREN_HOLES} holes, and small ones are left alone now"
                series.say_once(f"its numbers jump by themselves: {why}")
            elif item.why == TOO_MANY:
                self.counts["holes"] += 1
                series.say_once(f"more than {MAX_HOLES} holes wait: others stay missing, and on_status names them")
                self._missing(subscription, series, item, TOO_MANY, logging.DEBUG)
            elif item.why:
                self._missing(subscription, series, item, item.why)
            else:
                self._opened(subscription, series, item)

    def _opened(self, subscription: Subscription, series: RowSeries, hole: SeriesHole) -> None:
        self.counts["holes"] += 1
        if not self.fill:
            series.close(hole.first, hole.last)
            self._missing(subscription, series, hole, "filling is off")
            return
        okex_log.warning("%s: missing are %s. Asking REST.", subscription.channel, series.describe(hole))
        self.filler.fill(HoleFilling(subscription, hole, (wall_clock() - self.fill) * 1000))

    def restore(self, deliver: Handler) -> None:
        """Hand over some of what was fetched: so few rows that live ones do not wait."""
        filling = self.filled[0]
        subscription, series = filling.subscription, filling.series
        if subscription.series is not series:  # the user gave it up meanwhile
            self.filled.popleft()
            return
        rows = series.restore(filling.next_rows())
        if rows:
            self.counts["rows restored"] += len(rows)
            filling.restored += len(rows)
            deliver(subscription.channel, rows)
        if not filling.order:
            self.filled.popleft()
            self._close(filling)

    def _close(self, filling: HoleFilling) -> None:
        """A hole is filled, as far as it can be: what REST does not list was never public."""
        series, (first, last, _) = filling.series, filling.hole
        unlisted = sum(hole.size for hole in series.close(filling.known_from, last))
        series.barren = 0 if filling.restored or filling.why else series.barren + 1
        if filling.restored or unlisted:
            others = f"; {unlisted} do not exist, since REST does not list them" if unlisted else ""
            restored = plural(filling.restored, "missing rows restored")
            okex_log.info("%s: %s%s.", filling.subscription.channel, restored, others)
        for hole in series.close(first, filling.known_from - 1):
            self._missing(filling.subscription, series, hole, filling.why)

    def finish(self, subscriptions: Iterable[Subscription]) -> None:
        """The client ends: what is missing now stays so."""
        for subscription in subscriptions:
            series = subscription.series
            if series is None:
                continue
            for hole in series.close(0, sys.maxsize):
                self._missing(subscription, series, hole, "the run ended first")

    def _missing(
        self, subscription: Subscription, series: RowSeries, hole: SeriesHole, why: str, level: int = logging.WARNING
    ) -> None:
        self.counts["missing"] += hole.size
        text = f"{series.describe(hole)} stay missing: {why}"
        okex_log.log(level, "%s: %s.", subscription.channel, text)
        self.notify(GAP, f"{subscription.channel}: {text}")


# ---------------------------------------------------------------------------------------------------------------
# Account: secrets, the login, and orders.

known_secrets: dict[str, re.Pattern[str]] = {}  # keys and passwords, to be kept out of everything that is printed
recent_signatures: deque[re.Pattern[str]] = deque(maxlen=16)  # the latest; one is good for 30 s


def hide_secret(secret: str) -> None:
    """Keep a secret out of what is printed."""
    if len(secret) >= 4:  # no key of the exchange is as short, and every "a" would become ***
        known_secrets[secret] = secret_pattern(secret)


def secret_pattern(secret: str) -> re.Pattern[str]:
    """Finds a secret however an echo of the login spells it: in JSON, in JSON in JSON, in a URL, in base64.

    Each character may stand as it is, behind backslashes, or as its code. No text can be read in two ways, and the
    backslashes have a bound, so that finding none takes no longer than reading the text.
    """

    def spellings(c: str) -> str:
        in_url = "".join(f"%{byte:02x}" for byte in c.encode())
        forms = [rf"\\{{1,4}}u{ord(c):04x}", in_url]
        if c == "\\":
            forms.append(r"\\{1,4}")
        elif c.isalnum():
            forms.append(c)
        else:
            forms.append(r"\\{0,4}" + re.escape(c))
            in_json = to_json(c)[1:-1]
            if in_json not in (c, "\\" + c):  # a line's end is \n
                forms.append(r"\\{1,4}" + re.escape(in_json.lstrip("\\")))
        if c == " ":
            forms.append(r"\+")
        return f"(?:{'|'.join(forms)})"

    in_base64 = base64.b64encode(secret.encode()).decode().rstrip("=")
    return re.compile("".join(map(spellings, secret)) + "|" + re.escape(in_base64), re.IGNORECASE)


def mask_secrets(text: str) -> str:
    for pattern in (*known_secrets.values(), *recent_signatures):
        text = pattern.sub("***", text)
    return text


def mask_record(record: logging.LogRecord) -> bool:
    """A filter that keeps secrets out of whatever this program logs."""
    if known_secrets or recent_signatures:
        record.msg = mask_secrets(record.getMessage())
        record.args = None
        if record.exc_info:
            record.exc_text = mask_secrets(logging.Formatter().formatException(record.exc_info))
    return True


okex_log.addFilter(mask_record)


class Credentials:
    """An API key of the exchange. v1 needs no passphrase. Nothing of it shows in a repr, a log or an error."""

    VARIABLES = ("OKX_API_KEY", "OKX_SECRET_KEY", "OKX_PASSPHRASE")

    def __init__(self, api_key: str, secret_key: str, passphrase: str = "") -> None:
        self.api_key = api_key
        self.secret_key = secret_key
        self.passphrase = passphrase
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


class LoginError(Exception):
    """The exchange refused the login. Trying again would not help, and could lock the key out."""


class OrderError(Exception):
    """An order request failed, wholly or in part.

    `code` and `message` are the exchange's, `data` its answer for each order (see sCode and sMsg in them). `unknown`
    is true where nobody knows what became of the order: ask the exchange before you send it again.
    """

    def __init__(self, code: str, message: str, data: Sequence[Any] = (), unknown: bool = False) -> None:
        self.code = code
        self.message = message
        self.data = list(data)
        self.unknown = unknown
        legs = (f"{leg.get('sCode')} {leg.get('sMsg')}" for leg in self.data if isinstance(leg, dict))
        super().__init__(mask_secrets("; ".join(filter(None, [f"{code} {message}".strip(), *legs]))))


class Login:
    """The login of a client, once on each connection: asked for, then accepted or refused. It knows no socket."""

    def __init__(
        self, dialect: Dialect, credentials: Credentials | None, url: str, direct: bool, for_orders: bool = False
    ) -> None:
        self.dialect = dialect
        self.credentials = credentials or Credentials.from_environment()
        self.url = url
        self.for_orders = for_orders  # whether to log in though no channel needs it
        self.done = False  # accepted on this connection
        self.complete = threading.Event()  # and the channels are asked for: no order overtakes the one that tells of it
        self.due = 0.0  # monotonic: when the login under way should have been answered; 0 if none is
        self.server_clock = ("", 0.0)  # when the connection was made: by the server's handshake, and by this clock
        self._encrypted = url.startswith("wss:")
        self._local = direct and is_loopback(urlsplit(url).hostname or "")  # nobody else is on the way
        hide_secret(urlsplit(url).password or "")

    @property
    def pending(self) -> bool:
        return self.due > 0

    def demand(self, what: str) -> None:
        """Raise ValueError unless there are keys for what needs them, and a way to send them that nobody can read."""
        missing = self.credentials.missing(self.dialect.passphrase)
        if missing:
            raise ValueError(f"{what} needs an API key: set {', '.join(missing)}")
        if not self._encrypted and not self._local:
            raise ValueError(f"{what} needs an API key, which is not sent over {passwordless(self.url)}: use wss://")

    def reset(self, server_date: str = "") -> None:
        """Another connection, or none: nothing is asked for."""
        self.done = False
        self.complete.clear()
        self.due = 0.0
        self.server_clock = (server_date, wall_clock())

    def request(self, now: float) -> str:
        """The signed request, to be sent now."""
        text = self.dialect.login(self.credentials, wall_clock())
        recent_signatures.extend(map(secret_pattern, re.findall(r'"([^"]{20,})"', text)))
        self.due = now + CONFIRM_TIMEOUT
        return text

    def late(self, now: float) -> str:
        """Why to reconnect, "" while there is still time."""
        late = self.pending and now > self.due
        return f"the login was not answered within {CONFIRM_TIMEOUT:.0f} s" if late else ""

    def accepted(self) -> None:
        self.due = 0.0
        self.done = True

    def refused(self, event: LoginRefused, why: str) -> LoginError | None:
        """What a refusal means: an error that no retry can mend, or None."""
        if event.code in TRANSIENT:
            return None
        checks = "check the region, and live or simulated trading"
        if event.code in CLOCK:
            checks = clock_difference(*self.server_clock)
        key = f"…{self.credentials.api_key[-4:]}"
        return LoginError(mask_secrets(f"the exchange refused the login with the key {key}: {why}; {checks}"))


UNKNOWN_INSTRUMENT = "51001"


class Orders:
    """Order requests under way: a Future for each, which gets the answer, or an OrderError. It knows no socket."""

    def __init__(self, dialect: Dialect, rest: "Rest") -> None:
        self.dialect = dialect
        self._rest = rest
        self._ids = itertools.count(1)
        self._instrument_codes: dict[str, int] = {}  # instIdCode by instId
        self._answers: dict[str, concurrent.futures.Future[list[Any]]] = {}  # by request id
        self._lock = threading.Lock()  # guards _answers: user threads expect, the reading thread answers

    def place(
        self,
        op: str,
        args: dict[str, Any] | list[dict[str, Any]],
        timeout: float,
        logged_in: threading.Event,
        send: Callable[[str], None],
    ) -> list[Any]:
        """Send an order request once there is a login, and wait for its answer; `timeout` is for all of it."""
        end = monotonic() + timeout
        orders = [self._with_code(order, end) for order in ([args] if isinstance(args, dict) else args)]
        if not logged_in.wait(end - monotonic()):
            raise OrderError("", "not logged in: nothing was sent")
        if monotonic() >= end:
            raise OrderError("", f"looking up the instIdCode took all of {timeout:g} s: nothing was sent")
        id, answer = self.expect()
        try:
            send(self.dialect.order(op, orders, id))
            return answer.result(max(0.0, end - monotonic()))
        except concurrent.futures.TimeoutError:
            raise OrderError("", f"no answer within {timeout:g} s: its fate is unknown", unknown=True) from None
        except websocket.WebSocketConnectionClosedException as error:
            raise OrderError("", f"{error}: nothing was sent") from None
        except (OSError, websocket.WebSocketException) as error:
            raise OrderError("", f"{explain(error, self._rest.server)}: its fate is unknown", unknown=True) from None
        finally:
            self.forget(id)

    def expect(self) -> tuple[str, "concurrent.futures.Future[list[Any]]"]:
        """A new request's id, and where its answer will be."""
        id = f"o{next(self._ids)}"
        answer: concurrent.futures.Future[list[Any]] = concurrent.futures.Future()
        with self._lock:
            self._answers[id] = answer
        return id, answer

    def forget(self, id: str) -> None:
        with self._lock:
            self._answers.pop(id, None)

    def answered(self, reply: Reply) -> bool:
        """Pass an answer on to who waits for it. False if nobody does."""
        with self._lock:
            answer = self._answers.pop(reply.id, None)
        if answer is None:
            return False
        failed = [leg for leg in reply.data if isinstance(leg, dict) and str(leg.get("sCode", "0")) != "0"]
        if UNKNOWN_INSTRUMENT in (reply.code, *(str(leg.get("sCode")) for leg in failed)):
            self._instrument_codes.clear()  # an instIdCode may change: the next order looks it up again
        if reply.code != "0" or failed:
            answer.set_exception(OrderError(reply.code, reply.message, reply.data))
        else:
            answer.set_result(reply.data)
        return True

    def refused(self, event: Refused) -> bool:
        """The same for an error that carries a request's id."""
        with self._lock:
            answer = self._answers.pop(event.id, None)
        if answer is None:
            return False
        answer.set_exception(OrderError(event.code, event.message))
        return True

    def lost(self, reason: str) -> None:
        """The connection is gone: nobody knows what became of the orders whose answer has not come."""
        with self._lock:
            answers = list(self._answers.values())
            self._answers.clear()
        for answer in answers:
            answer.set_exception(OrderError("", f"{reason}: its fate is unknown", unknown=True))

    def _with_code(self, order: dict[str, Any], end: float) -> dict[str, Any]:
        """An order with the integer that the exchange wants since 2026 in the place of instId; looked up until `end`.

        Raises OrderError if the instrument has no such integer.
        """
        if "instId" not in order:
            return order
        instrument = order["instId"]
        if instrument not in self._instrument_codes:
            try:
                (found,) = self._rest.get(self.dialect.instrument(instrument), max(0.1, end - monotonic()))
                self._instrument_codes[instrument] = int(found["instIdCode"])
            except Exception as error:
                why = f"no instIdCode for {instrument}: {explain(error, self._rest.server)}: nothing was sent"
                raise OrderError("", why) from None
        others = {name: value for name, value in order.items() if name != "instId"}
        return {"instIdCode": self._instrument_codes[instrument], **others}


# ---------------------------------------------------------------------------------------------------------------
# Network: what went wrong in words, proxies, and the exchange's REST API.


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


def call_later(seconds: float, act: Callable[[], None]) -> threading.Timer:
    """Call `act` after so long, on a thread of its own, unless the timer is cancelled before."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer


def fetch_json(url: str, headers: dict[str, str], proxy: dict[str, Any], timeout: float) -> Any:
    """GET a JSON document. The connection is made as the WebSocket's is: same proxy, same certificates."""
    from http.client import HTTPConnection, HTTPException  # slow to import, and most runs never need it

    from websocket._http import connect, proxy_info

    options = websocket.sock_opt([], {})
    options.timeout = timeout  # for each step of connecting
    sock, (host, port, path) = connect(f"ws{url[4:]}", options, proxy_info(**proxy), None)  # type: ignore[no-untyped-call]
    # For the whole of the answer, however it dribbles.
    end = monotonic() + timeout  # first: the timer may be early, but not by this clock
    deadline = call_later(timeout, functools.partial(socket.socket.shutdown, sock, socket.SHUT_RDWR))
    try:
        with contextlib.closing(HTTPConnection(host, port)) as connection:
            connection.sock = sock
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read(MAX_MESSAGE + 1)
    except Exception as error:
        if monotonic() >= end:
            raise TimeoutError("the answer took too long") from None
        if isinstance(error, HTTPException):
            raise OSError(f"{host} did not answer as HTTP has it: {error}") from None
        raise
    finally:
        deadline.cancel()
    if response.status != 200:
        refused = 400 <= response.status < 500 and response.status != 429  # by which no retry gets any further
        raise (ValueError if refused else OSError)(f"{host} answered HTTP {response.status}")
    return from_json(body.decode())


class Rest:
    """The public REST API of the exchange that a client is connected to."""

    def __init__(self, url: str, simulated: bool, proxy: dict[str, Any]) -> None:
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        known = (rest for *hosts, rest in REGIONS.values() if host in hosts)
        self.server = next(known, f"http{host[2:]}")  # of another host than the exchange's: the same
        self.headers = {"User-Agent": f"okex_ws/{__version__}"}  # the exchange refuses clients without one
        if simulated:
            self.headers["x-simulated-trading"] = "1"
        self.proxy = proxy

    def get(self, path: str, timeout: float = CONNECT_TIMEOUT) -> Any:
        """GET a resource: its data. Raises OSError, ValueError, or what websocket-client raises on connecting."""
        try:
            answer = fetch_json(self.server + path, self.headers, self.proxy, min(timeout, CONNECT_TIMEOUT))
            if answer["code"] == "0":
                return answer["data"]
            refusal = f"{answer['code']} {answer['msg']}"
        except (KeyError, RecursionError, TypeError):
            raise ValueError("the answer is not the exchange's") from None
        raise ValueError(refusal)


# ---------------------------------------------------------------------------------------------------------------
# Finding: what there is to receive, and what somebody may have meant.

MAX_DEEP_BOOKS = 30  # incremental order books on one connection (docs-v5, January 2026, advise fewer)
MAX_LOOK_UPS = 20  # refused channels of one client that are looked up in the lists of instruments
LOOK_UP_PATIENCE = 3.0  # seconds at the end for one that is under way
INSTRUMENT = re.compile(r"(?!.{65})[A-Z0-9][\w.+]*(-[\w.+]+)+", re.ASCII | re.IGNORECASE)  # what a list may name
PATTERN = re.compile(r"[A-Z0-9*?![\]_.+-]{1,100}", re.ASCII | re.IGNORECASE)  # what may match such a name
MAX_NAME = 100  # characters of a channel's name that is compared with all that there are
OPTIONS = re.compile(r"(\w+-\w+)-(?:.*-)?(?:[CP]|\[[CP]+\])", re.ASCII)  # options, or a pattern of them: the family
COINS = re.compile(r"(?!ok_)[A-Z0-9]{2,20}([-_/][A-Z0-9]{2,20}){0,2}", re.IGNORECASE)  # btc, or what names a pair
LISTED = ("SPOT", "SWAP", "FUTURES")  # the types of instruments that are listed as a whole; options by their family
QUOTES = "'\"`\u2018\u2019\u201c\u201d"  # of a shell that takes none, or of a text processor
V3_EXAMPLES = {"swap": "BTC-USD-SWAP", "futures": "BTC-USD-191227"}  # by market, where the table has that of another
USUAL_KINDS = ("trades", "tickers", "candle1m", "books")
QUOTE_COINS = "USDT USDC USDG USD BTC ETH EUR TRY BRL AUD AED SGD"
SYNONYMS = {
    name: kind
    for kind, names in {
        "trades": "deals fills executions tape aggtrade",
        "tickers": "price prices last quote bookticker",
        "books": "depth orderbook level2 l2",
        "books5": "depth5 depth10 depth20",
        "bbo-tbt": "bbo best",
        "candle1m": "candle candles kline klines ohlc ohlcv bars",
        "funding-rate": "funding",
        "mark-price": "mark",
        "index-tickers": "index",
        "open-interest": "oi",
        "liquidation-orders": "liquidations",
        "account": "balance balances wallet",
        "status": "maintenance",
    }.items()
    for name in names.split()
}


class Misnomer(NamedTuple):
    """A channel that cannot exist."""

    problem: str
    meant: list[str]  # what can, the nearest first

    def __str__(self) -> str:
        return f"{self.problem}. {did_you_mean(self.meant)}".strip()


def did_you_mean(names: Sequence[str]) -> str:
    """Did you mean a, b or c?"""
    *others, last = names or [""]
    return f"Did you mean {' or '.join(filter(None, [', '.join(others), last]))}?" if last else ""


def misnomer(channel: str) -> Misnomer | None:
    """Why a channel cannot exist, by its name alone; None if it can, though its instrument may be unknown.

    A kind that is not in the tables may be newer than they are: it passes if it names its argument
    (new-channel:instId=BTC-USDT).
    """
    if " " in channel:
        joined = channel.replace(" ", "" if ":" in channel else ":")
        wrong = misnomer(joined)
        return Misnomer("a channel has no spaces", wrong.meant if wrong else [joined])
    dialect = likely_dialect(channel) or likely_dialect(channel.lower()) or V5
    name, _, argument = channel.removeprefix(":").partition(":")
    kind = dialect.kind(channel)
    if kind:
        return misnamed_argument(dialect, kind, name, argument)
    if re.match(r"\w+=", argument):
        return None
    meant = differently_divided(channel)
    meant = meant or [with_argument(dialect, known, argument) for known in nearest_names(dialect, name)]
    if not meant and not argument and is_pattern(name) and PATTERN.fullmatch(name):
        what = "names instruments, and a channel says what to receive"
    elif not meant and not argument and COINS.fullmatch(name) and (len(name) <= 5 or "-" in usual_pair(name)):
        what = "names an instrument, and a channel says what to receive"
    else:
        return Misnomer(f"{printable_text(name) or 'nothing'} is no kind of channel: --list shows them all", meant)
    return Misnomer(f"{name} {what}", [with_argument(V5, usual, name) for usual in USUAL_KINDS])


def differently_divided(channel: str) -> list[str]:
    """The channel that has something else than a colon in it, its halves the other way round, or but its short name.

    trades/BTC-USDT, trades-BTC-USDT, tradesBTC-USDT, BTC-USDT:trades, btcusdt@trade; btc_quarter, as lines of v1 begin.
    """
    future = re.fullmatch(r"([a-z0-9]+)_(this_week|next_week|quarter)", channel)
    if future:
        return [f"ok_sub_futureusd_{future[1]}_trade_{future[2]}"]
    for sign in re.finditer(r"[:/=.,@_-]|(?<=[a-z0-9])(?=[A-Z])", channel[:MAX_NAME]):
        left, right = channel[: sign.start()], channel[sign.end() :]
        if sign[0] != ":" and "-" in usual_pair(right) and (kinds := nearest_names(V5, left)):
            return [with_argument(V5, kinds[0], right)]
        if "-" in usual_pair(left) and sign[0] in ":/=.@" and (V5.kind(right) or sign[0] in "@:"):
            return [with_argument(V5, kind, left) for kind in nearest_names(V5, right)[:1]]
    return []


def misnamed_argument(dialect: Dialect, kind: ChannelKind, name: str, argument: str) -> Misnomer | None:
    """The same for what follows the name of a kind that there is."""
    if re.match(r"\w+=", argument) or dialect is V1:
        return None
    meant = with_argument(dialect, name, argument)
    if "=" in kind.argument:
        return Misnomer(f"{name} needs {kind.argument.partition('=')[0]}", [meant])
    if not kind.argument:
        return None if not argument or dialect is V3 else Misnomer(f"{name} is about no instrument", [meant])
    if not argument:
        return Misnomer(f"{name} needs an instrument", [meant])
    if "," in argument:
        return Misnomer("a channel has one instrument: write a channel for each", [meant])
    foreign = not is_instrument(argument) or argument.endswith("PERP")
    if argument != argument.upper() or (dialect is V5 and foreign):
        return Misnomer(f"{printable_text(argument, 64)} is not how the exchange writes an instrument", [meant])
    if dialect is V5 and not is_pattern(argument) and not fits_kind(kind, argument):
        return Misnomer(f"{name} is not about {argument}", [meant])
    return None


def fits_kind(kind: ChannelKind, instrument: str) -> bool:
    """Whether an instrument is of a type that a kind of channel of v5 takes, as far as its name tells."""
    type = V5.instrument_type(instrument)
    if kind.trades == "INDEX":
        return type == "SPOT"  # they are written alike
    return kind.trades == "SPREAD" or type == "EVENTS" or type in kind.trades.split()


def with_argument(dialect: Dialect, name: str, argument: str) -> str:
    """A channel of a known kind, about what somebody wrote behind a colon, or else an example."""
    kind = dialect.kind(name)
    if kind is None or not kind.argument or dialect is V1:
        return name
    pattern = is_pattern(argument)
    instrument = argument.strip(QUOTES).upper() if pattern else usual_spelling(argument)
    market = name.partition("/")[0]
    if "," in argument:
        return " ".join(dict.fromkeys(with_argument(dialect, name, one) for one in argument.split(",")[:20]))
    if not argument or not is_instrument(instrument) or (pattern and (dialect is not V5 or kind.trades == "SPREAD")):
        own = V3_EXAMPLES.get(market) if kind.argument != "BTC-USD" else ""
        return f"{name}:{own or kind.argument}"
    if kind.argument == "instType=ANY" and "-" in argument and not pattern:
        return f"{name}:instType={V5.instrument_type(instrument)},instId={instrument}"
    if "=" in kind.argument:
        return f"{name}:{kind.argument}"
    if dialect is V5 and kind.trades == "INDEX":
        instrument = family_of(instrument)
    elif dialect is V5 and not pattern and not fits_kind(kind, instrument):
        instrument = f"{family_of(instrument)}-SWAP"
    elif market == "swap":
        instrument = f"{instrument.removesuffix('-SWAP')}-SWAP"
    return f"{name}:{instrument}"


def is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def is_instrument(text: str) -> bool:
    """Whether an instrument may be called so, or a pattern match it, upper or lower case."""
    return bool((PATTERN if is_pattern(text) else INSTRUMENT).fullmatch(text))


def family_of(instrument: str) -> str:
    """BTC-USD for BTC-USD-SWAP: what its future, options and index are named by."""
    return "-".join(instrument.split("-")[:2])


def usual_pair(text: str) -> str:
    """The same for what has two coins in it; "" for one coin alone, or any other word."""
    name = text.strip(QUOTES).upper()
    quotes = "|".join(QUOTE_COINS.split())
    pair = re.fullmatch(rf"[A-Z0-9]{{2,20}}([-/_]?({quotes})([-/_]?(SWAP|PERP|[-\d]+[CP]?))?|[-_]PERP)", name)
    return usual_spelling(name) if pair else ""


def usual_spelling(text: str) -> str:
    """How the exchange would write an instrument: BTC-USDT for btcusdt, BTC/USDT, btc_usdt or btc alone."""
    name = re.sub(r"[/_]", "-", text.strip(QUOTES).upper())
    name = re.sub(r"[-.:]?(PERP|PERPETUAL|SWAP)$", "-SWAP", name)
    swap = "-SWAP" if name.endswith("-SWAP") else ""
    name = re.sub(r"^XBT", "BTC", name.removesuffix("-SWAP"))
    if "-" not in name:
        joined = re.fullmatch(rf"(.+?)({'|'.join(QUOTE_COINS.split())})", name)
        name = f"{joined[1]}-{joined[2]}" if joined else f"{name.replace('USDT', 'BTC')}-USDT"
    return name + swap


def nearest_names(dialect: Dialect, name: str) -> list[str]:
    """The names of kinds that are most like this one, the nearest first; none if nothing is like it."""
    from difflib import SequenceMatcher  # slow to import, and most runs never need it

    if len(name) > MAX_NAME:
        return []

    def plain(text: str) -> str:
        return re.sub(r"[-_/. ]", "", text.lower())

    known: dict[str, str] = {}
    for kind in dialect.kinds:
        for other in dialect.names(kind, coins_of(name)):
            known.setdefault(plain(other), other)
    wanted = plain(name)
    candle = re.fullmatch(r"(?:candles?|candlesticks?|klines?|ohlcv?|bars?)(\d+[a-z]+)", wanted)
    if wanted in known:
        return [known[wanted]]
    seconds = re.fullmatch(r"(\w+)/candles?(\d*[a-z]+)", name)
    if dialect is V3 and seconds and dialect.kind(f"{seconds[1]}/candle{seconds_of(seconds[2])}s"):
        return [f"{seconds[1]}/candle{seconds_of(seconds[2])}s"]
    if dialect is V5 and (wanted in SYNONYMS or (candle and bar_of(candle[1]))):
        return [SYNONYMS.get(wanted) or f"candle{bar_of(candle[1])}"]  # type: ignore[index]
    likeness = {other: SequenceMatcher(None, wanted, other).ratio() for other in known}
    best = sorted(known, key=lambda other: (not other.startswith(wanted), -likeness[other]))[:3]
    return [known[other] for other in best if likeness[other] > max(0.7, likeness[best[0]] - 0.05)]


def coins_of(name: str) -> dict[str, str]:
    """The coins in a name that is meant to be v1's: {"coin": "btc", "quote": "usdt"}."""
    plain = re.sub(r"[^a-z0-9_]", "", name.lower())
    known = {word for kind in V1.kinds for word in re.findall(r"[a-z]+", PLACE.sub("", kind.name))}
    known |= {word for words in V1.PLACES.values() for word in re.findall(r"\w+", words)} | {
        "spotusd",
        "future",
        "tickers",
    }
    words = [word for word in re.findall(r"[a-z0-9]{2,}", plain) if word not in known]
    first = re.sub(r"^(spot|future(usd)?)", "", words[0]) if words else "btc"
    coin, quote, *_ = usual_spelling(first or "btc").lower().split("-")
    if words[1:] and words[1].upper() in QUOTE_COINS.split():
        coin, quote = first, words[1]
    return {"coin": coin, "quote": quote}


def bar_of(text: str) -> str:
    """The bar of v5 for a length of time in other words, such as 60s, 1min, 4hour or day; "" if there is none."""
    bars = [bar for bar in V5.PLACES["bar"].split() if not bar.endswith(("M", "utc"))]
    return next((bar for bar in bars if seconds_of(text) and seconds_of(bar) == seconds_of(text)), "")


def seconds_of(text: str) -> int:
    """A length of time in such words; 0 if it is none."""
    match = re.fullmatch(r"(\d*)([smhdw])[a-z]*", text.lower())
    return int(match[1] or 1) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]] if match else 0


def todays_channel(channel: str, future: Callable[[str, str], str] = "{}-YYMMDD".format) -> str:
    """What carries today what a channel of v1 or v3 did; "" for a channel that never was.

    `future(index, when)` names the future of an index, BTC-USD, that ends this_week, next_week or in the quarter.
    """
    dialect = dialect_of(channel)
    kind, places = dialect.kind(channel), dialect.places(channel)
    if kind is None:
        return ""
    market, id = channel.partition("/")[0], channel.partition(":")[2]
    if kind.argument == "USDT":
        id = id if re.fullmatch(r"[A-Z0-9]{1,20}", id) else kind.argument
    else:
        id = usual_spelling(id)
        id = id if is_instrument(id) else kind.argument
    if market in ("index", "swap"):
        id = f"{family_of(id)}{'-SWAP' * (market == 'swap')}"
    dated = re.fullmatch(r"(\w+-\w+)-\d{6}", id)
    coin, when = places.get("coin", "").upper(), places.get("when", "")
    return kind.today.format(
        id=future(dated[1], "quarter") if dated else id,
        type=market.upper(),
        bar=bar_of(places.get("bar", places.get("seconds", "") + "s")),
        pair=f"{coin}-{places.get('quote', '').upper()}",
        index=f"{coin}-USD",
        future=future(f"{coin}-USD", when) if when else "",
    )


def pattern_kind(channel: str) -> ChannelKind:
    """The kind of channel that a pattern is for. Raises ValueError for a pattern that no list can answer."""
    kind, wrong = V5.kind(channel), misnomer(channel)
    if kind is None or not kind.argument or "=" in kind.argument or kind.trades == "SPREAD":
        raise ValueError(f"{channel}: patterns are for channels of v5 that take an instrument, such as tickers:*-USDT")
    if wrong:
        raise ValueError(f"{channel}: {wrong}")
    pattern = channel.partition(":")[2]
    if OPTIONS.fullmatch(f"A-B-{pattern}") and not OPTIONS.fullmatch(pattern):
        raise ValueError(f"{channel}: the exchange lists options by family, name it: BTC-USD-*-C")
    return kind


class Instruments:
    """The exchange's lists of what it trades, each fetched when it is first needed, and kept.

    Not for the reading thread: all methods may take seconds. They raise OSError or ValueError, or what
    websocket-client raises on connecting, if a list cannot be had.
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._lists: dict[str, list[tuple[str, str]]] = {}  # by query: names, and what they are about
        self._lock = threading.Lock()  # held while a list is fetched, so that it is fetched once

    def live(self, type: str, family: str = "") -> list[tuple[str, str]]:
        """What is traded now of a type, and the index that each is about: [("BTC-USDT-SWAP", "BTC-USDT"), …]."""
        query = f"instType={type}" + (f"&instFamily={family}" if family else "")
        with self._lock:
            if query not in self._lists:
                self._lists[query] = self._fetch(query)
            return self._lists[query]

    def _fetch(self, query: str) -> list[tuple[str, str]]:
        try:
            rows = self._rest.get(f"/api/v5/public/instruments?{query}")
            live = {str(row["instId"]): str(row.get("uly", "")) for row in rows if row["state"] == "live"}
        except (AttributeError, KeyError, TypeError):
            raise ValueError("the exchange's answer is no list of instruments") from None
        except ValueError as error:
            if str(error).startswith("51001 "):  # there are none
                return []
            raise
        known = [(name, index) for name, index in live.items() if INSTRUMENT.fullmatch(name)]
        if len(known) < len(live):
            okex_log.warning("%d odd names in the list of instruments are left out.", len(live) - len(known))
        return known

    def names(self, types: Iterable[str], like: str) -> list[str]:
        """All of these types. Options only of one family, where `like`, a name or a pattern, tells which."""
        if "INDEX" in types:
            indices = [index for type in LISTED for _, index in self.live(type) if INSTRUMENT.fullmatch(index)]
            return sorted({*indices, *(name for name, _ in self.live("SPOT"))})
        option = OPTIONS.fullmatch(like)
        if option and "OPTION" in types:
            return [name for name, _ in self.live("OPTION", option[1])]
        if like.endswith("-SWAP"):
            types = {"SWAP"} & set(types)
        return list(dict.fromkeys(name for type in LISTED if type in types for name, _ in self.live(type)))

    def matching(self, channel: str) -> list[str]:
        """The channels that a pattern such as trades:*-USDT-SWAP stands for now; LookupError if there are none."""
        from fnmatch import fnmatchcase

        kind = pattern_kind(channel)
        name, _, pattern = channel.partition(":")
        instruments = self.names(kind.trades.split(), pattern)
        found = [f"{name}:{instrument}" for instrument in instruments if fnmatchcase(instrument, pattern)]
        if not found:
            swaps = any(fnmatchcase(instrument, f"{pattern}-SWAP") for instrument in instruments)
            hint = f". {did_you_mean([f'{channel}-SWAP'])}" if swaps else ""
            raise LookupError(f"no instrument that is traded now matches {channel}{hint}")
        okex_log.info("%s matches %d instruments. What is listed later is not followed.", channel, len(found))
        return found

    def nearest(self, channel: str) -> list[str]:
        """Channels of the same kind about instruments that are named alike; none if its own is there."""
        from difflib import get_close_matches

        kind, _, wanted = channel.partition(":")
        known = V5.kind(kind)
        if known is None or not wanted or "=" in wanted or known.trades == "SPREAD":
            return []
        names = self.names(known.trades.split(), wanted)
        if wanted in names:
            return []
        turned = "-".join(reversed(wanted.split("-")))  # USDT-BTC
        alike = [name for name in (usual_spelling(wanted), turned) if name in names]
        alike = alike or get_close_matches(wanted, names, 3, 0.75)
        return [f"{kind}:{instrument}" for instrument in alike]

    def future(self, index: str, when: str) -> str:
        """The future of an index that ends this_week, next_week, or in the quarter after those."""
        names = sorted(name for name, _ in self.live("FUTURES") if re.fullmatch(rf"{re.escape(index)}-\d{{6}}", name))
        if when == "quarter":
            names = [name for name in names[2:] if name[-4:-2] in ("03", "06", "09", "12")] or names[-1:]
        elif when == "next_week":
            names = names[1:]
        return names[0] if names else f"{index}-YYMMDD"


class Finder:
    """What a client looks up: the patterns that it begins with, and what may have been meant by what was refused."""

    def __init__(self, rest: Rest, stop: threading.Event, notify: Callable[[str, str], None]) -> None:
        self.instruments = Instruments(rest)
        self.patterns: list[str] = []
        self._rest = rest
        self._stop = stop
        self._notify = notify
        self._asked: set[str] = set()  # refused channels
        self._threads: list[threading.Thread] = []

    def want(self, channel: str) -> None:
        """Note a pattern. Raises ValueError for one that no list can answer."""
        pattern_kind(channel)
        self.patterns.append(channel)

    def drop(self, channels: Iterable[str], known: Iterable[str]) -> Iterator[str]:
        """Forget patterns. The channels themselves, and of those that are known, what the patterns match."""
        from fnmatch import fnmatchcase

        for channel in channels:
            if is_pattern(channel):
                self.patterns = [pattern for pattern in self.patterns if pattern != channel]
                yield from (name for name in known if fnmatchcase(name, channel))
            else:
                yield channel

    def look_up(self, backoff: Backoff, found: Callable[[list[str]], None]) -> None:
        """Tell `found` what the patterns stand for. A list that cannot be had is asked for until the client stops."""
        while self.patterns and not self._stop.is_set():
            try:
                channels = [name for pattern in self.patterns for name in self.instruments.matching(pattern)]
            except (OSError, ValueError, websocket.WebSocketException) as error:
                delay = backoff.delay(at_once=False)
                why = f"the list of instruments cannot be had: {explain(error, self._rest.server, self._rest.proxy)}"
                okex_log.warning("Cannot begin: %s. Next try in %.1f s.", why, delay)
                self._notify(DISCONNECTED, why)
                self._stop.wait(delay)
            else:
                found(channels)
                self.patterns = []

    def suggest(self, channels: Iterable[str]) -> None:
        """Say what may have been meant by channels that were refused, as soon as it is known."""
        for channel in channels:
            if channel not in self._asked and len(self._asked) < MAX_LOOK_UPS:
                self._asked.add(channel)
                thread = threading.Thread(target=self._suggest, args=(channel,), name="okex_ws finder", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _suggest(self, channel: str) -> None:
        if misnomer(channel):
            return  # that was said when it was asked for
        try:
            meant = self.instruments.nearest(channel)
        except Exception as error:  # a list that cannot be had helps nobody, but harms nothing
            okex_log.debug("No suggestion for %s: %s", channel, error)
            return
        if meant:
            okex_log.warning("%s was refused. %s", channel, did_you_mean(meant))

    def finish(self) -> None:
        """Give what is being looked up a little time."""
        end = monotonic() + LOOK_UP_PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))


def find_channels(
    *patterns: str,
    url: str | None = None,
    region: str = "global",
    simulated: bool = False,
    proxy: str | None = None,
) -> list[str]:
    """The channels that patterns such as tickers:*-USDT-SWAP stand for now, in the exchange's order.

    Raises LookupError if one matches nothing, ValueError for one that cannot, OSError if the exchange's list cannot
    be had.
    """
    server = endpoint_of(patterns[0], url, region, simulated)
    instruments = Instruments(Rest(server, simulated, proxy_options(proxy, server)))
    found = [name for pattern in patterns for name in instruments.matching(pattern)]
    return list(dict.fromkeys(found))


def list_kinds(dialect: Dialect, part: str = "") -> Iterator[str]:
    """The lines of --list: where each kind of channel lives, what it carries, and the values of its rows.

    Only those that have this part in their names, or in what they carry.
    """
    from textwrap import wrap

    for kind in dialect.kinds:
        if part.lower() not in f"{kind.name} {kind.what}".lower():
            continue
        yield f"{kind.where:<16} {f'{kind.name}:{kind.argument}'.rstrip(':')}"
        places = [f"<{place}>: {dialect.PLACES[place] or 'any'}" for place in PLACE.findall(kind.name)]
        for text in [kind.what, *places, f"> {kind.columns.strip('[]')}"]:
            yield from wrap(text, 80, initial_indent=" " * 17, subsequent_indent=" " * 19)


def list_instruments(instruments: Instruments, pattern: str) -> list[str]:
    """The names for --list PATTERN: those that match, or without a wildcard, have it somewhere in them."""
    from fnmatch import fnmatchcase

    name, _, rest = pattern.partition(":")
    pattern = rest.upper() if V5.kind(name) and rest else pattern.upper()
    names = instruments.names((*LISTED, "OPTION"), pattern)
    if is_pattern(pattern):
        return [name for name in names if fnmatchcase(name, pattern)]
    return [name for name in names if pattern in name] or [name for name in names if usual_spelling(pattern) in name]


# ---------------------------------------------------------------------------------------------------------------
# Output: what a row looks like to a person, and where rows go.

MAX_QUEUE = 128 << 20  # bytes that wait for one sink before the reading threads wait for it
MAX_BATCH = 1000  # messages that a sink takes between two flushes
MAX_DRAIN = 30.0  # seconds at the end for a sink to write what is queued
MAX_DRAIN_FAILING = 3.0  # the same for a sink that fails
REDIS_TIMEOUT = 5  # seconds for Redis to answer
CONFIRM_PATIENCE = 3.0  # seconds to wait for the exchange before another program's subscribe is answered

# Lines: what a row looks like to a person. Every channel is a row of LINE_FORMATS.

MAX_LINE = 200  # characters
PLURAL = re.compile(r"s\b")
MAX_ROW_LINES = 100  # of one row
MAX_ROW_DEPTH = 3  # of lists and objects in a row that have lines of their own
NAME_WIDTH = 14  # columns for the instrument, which begins at column 13, after the time
ROW_SIDES = {"buy": "buy", "bid": "buy", "sell": "sell", "ask": "sell"}
ROW_COLOURS = {"buy": "\033[32m", "sell": "\033[31m", "bid": "\033[32m", "ask": "\033[31m"}
ROW_COLOURS |= {"heading": "\033[2m", "suggestion": "\033[1m"}
NARROW_TEXT = re.compile("[ -~…─█▁-▇▲▼]*")  # ASCII and what the board draws with: a column for each character

# What a value is called in v5, v3 and v1; the first name that a row has a value for counts.
ROW_NAMES = {
    "price": ("px", "price", "fillPx", "bkPx", "trade_px", "tradeUnitPrice"),
    "trigger": ("triggerPx", "slTriggerPx", "tpTriggerPx", "moveTriggerPx", "ordPx", "trigger_price", "algo_price"),
    "size": ("sz", "size", "qty", "amount", "fillSz", "tradeAmount"),
    "bid": ("bid", "bidPx", "best_bid", "buy"),
    "ask": ("ask", "askPx", "best_ask", "sell"),
    "open": ("o", "open"),
    "high": ("h", "high"),
    "low": ("l", "low"),
    "close": ("c", "close"),
    "volume": ("vol", "volume"),
    "last 24h ago": ("open24h", "open_24h"),
    "index": ("idxPx", "last", "futureIndex"),
    "mark": ("markPx", "mark_price"),
    "estimate": ("settlePx", "settlement_price", "estimated_price", "data"),
    "highest": ("buyLmt", "highest"),
    "lowest": ("sellLmt", "lowest"),
    "rate": ("fundingRate", "funding_rate"),
    "next": ("nextFundingRate", "estimated_rate"),
    "funded": ("fundingTime", "funding_time"),
    "coins": ("oiCcy",),
    "volatility": ("markVol", "mark_vol"),
    "bid_vol": ("bidVol", "bid_vol"),
    "ask_vol": ("askVol", "ask_vol"),
    "vol": ("fillVol",),
    "tick": ("tickSz", "tick_size"),
    "lot": ("lotSz", "size_increment", "trade_increment"),
    "expires": ("expTime", "delivery"),
    "status": ("status", "state"),
    "begin": ("begin", "start_time"),
    "end": ("end", "end_time"),
    "filled": ("accFillSz", "filled_size", "filled_qty", "deal_amount", "completedTradeAmount", "actualSz"),
    "position": ("pos", "position"),
    "held": ("hold_amount",),
    "average": ("avgPx", "avg_cost", "avgprice", "fillPx"),
    "pnl": ("upl", "unrealized_pnl", "realized_pnl", "realized", "profitreal", "totalPnl"),
    "delta": ("delta", "deltaBS", "deltaPA"),
    "liquidation": ("liqPx", "liquidation_price", "forcedprice"),
    "equity": ("eq", "equity", "totalEq"),
    "balance": ("cashBal", "balance"),
    "available": ("availBal", "availEq", "available", "total_avail_balance", "avail_margin"),
    "frozen": ("frozenBal", "hold", "freeze", "bondfreez"),
    "profit": ("profit_real", "profit"),
    "deposit": ("keep_deposit", "bond"),
}
ROW_INSTRUMENTS = (
    *("instId", "instrument_id", "sprdId", "contract_name", "ccy", "currency", "symbol", "instFamily", "underlying"),
    "uly",
)
NOT_LISTED = {*ROW_INSTRUMENTS, "instType", "uid", "user_id"}  # said by a line's name, or of no use to a person
TIME_NAMES = re.compile(r".*([Tt][Ii]me(stamp)?|Date|Until|_date|_at)|ts|begin|end|date|delivery|listing", re.S)

ORDER_STATES = {"-2": "failed", "-1": "cancelled", "0": "open", "1": "partial", "2": "filled", "3": "submitting"}
ORDER_STATES |= {"4": "cancelling", "partially_filled": "partial", "part_filled": "partial"}
POSITION_SIDES = {"1": "long", "2": "short", "3": "end long", "4": "end short"}

# A channel's lines: a pattern for its name without the argument, and the columns. `price:12` is a column of that width,
# named by its heading; `next=rate` a value below its label, left out if there is none; `=mark` a word; `side` a value.
# A list or an object in a row becomes lines of its own where its name after a dot is here: `account.details`.
LINE_FORMATS = [
    (r"option-trades", "price:12 size:14 side vol=vol"),
    (r"fills|sprd-trades", "price:12 size:14 side =fill"),
    (r"ok_sub_futureusd_trades|(sprd-|grid-sub-)?orders|\w+/order|ok_sub_spot_\w+_order", "price:12 size:14 side state"
     " done=filled"),
    (r"orders-algo|algo-advance", "trigger:12 size:14 side status ordType"),
    (r"\w+/order_algo", "trigger:12 size:14 side status=status"),
    (r"(public-)?struc-block-trades", "blockTdId:12 =block strategy"),
    (r"rfqs", "status:12 =request id=rfqId until=validUntil"),
    (r"quotes", "status:12 =quote id=quoteId until=validUntil"),
    (r"(rfqs|quotes|(public-)?struc-block-trades)\.legs", "price:12 size:14 side"),
    (r"(.*[/_-])?(trades?|trades-all|deals)|.*_trade_\w+", "price:12 size:14 side"),
    (r"index-tickers|index/ticker", "index:12 =index change=change"),
    (r"block-tickers", "vol24h:12 =in =blocks coins=volCcy24h"),
    (r"(sprd-)?tickers|\w+/ticker|.*_ticker(_\w+)?", "last:12 bid:14 ask:14 change:9"),
    (r"\S*candle\w+|.*_kline_\w+", "open:12 high:9 low:9 close:8 volume:10"),
    (r"(sprd-)?(books\S*|bbo-tbt)|\w+/depth\w*|.*_depth(_\w+)?", "bid:12 size:10 ask:10 size:10 spread:6"),
    (r"mark-price|\w+/mark_price", "mark:12 =mark"),
    (r"ok_sub_\w+_index", "index:12 =index"),
    (r"price-limit|\w+/price_range", "highest:12 lowest:14 =limits"),
    (r"estimated-price|\w+/estimated_price|\w+_forecast_price", "estimate:12 =estimated"),
    (r"funding-rate|\w+/funding_rate", "rate:12 =funding at=funded next=next"),
    (r"open-interest", "oi:12 =open =interest coins=coins"),
    (r"liquidation-orders\.details|\w+/liquidation", "price:12 size:14 side =liquidated"),
    (r"opt-summary|option/summary", "volatility:12 =vol bid=bid_vol ask=ask_vol delta=delta"),
    (r"event-contract-markets", "status:12 floor=floorStrike cap=capStrike outcome=outcome settled=settleValue"),
    (r"instruments|\w+/instruments", "status:12 tick=tick lot=lot ends=expires"),
    (r"status|system/status", "status:12 title begin=begin end=end"),
    (r"economic-calendar", "actual:12 forecast:9 previous:9 at=date event"),
    (r"(grid-)?positions|liquidation-warning|balance_and_position\.posData|swap/position\.holding|option/position",
     "position:12 average:11 side pnl=pnl liq=liquidation"),
    (r"\w+_positions\.positions", "held:12 average:11 direction pnl=pnl liq=liquidation"),
    (r"futures/position", "long_qty:12 long_avg_cost:14 =long short=short_qty at=short_avg_cost"),
    (r"swap/position", "margin_mode:12 =margin"),
    (r"account", "equity:12 =dollars =in =all"),
    (r"account\.details", "equity:12 =equity available=available frozen=frozen"),
    (r"account-greeks", "delta:12 =delta gamma=gammaBS theta=thetaBS vega=vegaBS"),
    (r"(swap|option)/account|futures/account\.[A-Z-]+", "equity:12 =equity available=available margin=margin_mode"),
    (r"balance_and_position\.balData|spot/account|spot/margin_account\.currency",
     "balance:12 =balance available=available hold=frozen"),
    (r"balance_and_position", "eventType:12"),
    (r"spot/margin_account", "liquidation:12 =liquidation risk=risk_rate"),
    (r".*_userinfo(\.contracts)?", "balance:12 =balance profit=profit deposit=deposit"),
    (r"deposit-info", "amt:12 =deposit status=status chain"),
    (r"withdrawal-info", "amt:12 =withdrawal status=status chain"),
    (r"grid-orders-\w+", "pnl:12 =pnl status from=minPx to=maxPx"),
    (r"algo-recurring-buy", "amt:12 investmentCcy period status pnl=pnl"),
    (r"algo-recurring-buy\.recurringList", "price:12 ratio=ratio average=average profit=profit"),
    (r"copytrading-\S+", "infoType:12 =notice position=subPosId"),
]  # fmt: skip


class LineFormat(NamedTuple):
    """How the lines of one channel look."""

    kind: str  # the channel without its argument
    name: str  # its instrument, where a row does not say it
    bar: str  # of candles: 1m
    parts: list[tuple[str, str, int]]  # (label, value's name, width of its column); [] for what has no row in the table
    headings: str


def line_format(channel: str) -> LineFormat:
    """The format of a channel's lines, or of a list in its rows: `account.details`."""
    kind, _, argument = channel.partition(":")
    name = argument.rpartition("=")[2] or kind
    v1 = re.fullmatch(
        r"(?:ok_sub_(?:futureusd|spot)_)?(\w+?)_(?:ticker|trade|deals|depth|kline|index|order|balance|forecast_price)"
        r"(?:_(this_week|next_week|quarter))?(?:_(\w+))?", kind
    )  # fmt: skip
    if v1 and not argument:
        name = "_".join(filter(None, v1.groups()[:2]))
    bar = v1[3] if v1 and "_kline_" in kind else ""
    candle = re.fullmatch(r"(?:(mark|index)-(?:price-)?|sprd-|\w+/)?candle(\w+)", kind)
    if candle:
        bar = " ".join(filter(None, candle.groups()))
    columns = next((columns for pattern, columns in LINE_FORMATS if re.fullmatch(pattern, kind)), "")
    parts = [line_part(part) for part in columns.split()]
    headings = RowLine("time", "instrument")
    for label, value, width in parts:
        if width or not label:
            headings.add(value.replace("_", " "), width)
    return LineFormat(kind, name, bar, parts, headings.text)


def line_part(text: str) -> tuple[str, str, int]:
    """price:12, side, label=value or =word."""
    label, equals, value = text.rpartition("=")
    if equals:
        return (label, value, 0) if label else (value, "", 0)
    value, _, width = text.partition(":")
    return "", value, int(width or 0)


line_formats: dict[str, LineFormat] = {}  # by channel, as far as they were needed


def known_format(channel: str) -> LineFormat:
    if channel not in line_formats:
        if len(line_formats) >= MAX_SAID:
            line_formats.clear()
        line_formats[channel] = line_format(channel)
    return line_formats[channel]


class RowLine:
    """A line that is being written. Its columns are below those of other lines, unless a long value pushes them on."""

    def __init__(self, clock: str, name: str) -> None:
        self.text = f"{clock:12} {name}"
        self.end = 13 + NAME_WIDTH  # where the column ends that was written last

    def add(self, value: str, width: int = 0) -> None:
        """A value, to the right of a column of this width, or as it comes."""
        self.end += width + 1 if width else 0
        free = self.end - text_width(self.text) - text_width(value) if width else 0
        self.text += " " * max(1, free) + value


def text_width(text: str) -> int:
    """Columns that a text takes on a terminal: two for a wide character, none for one that joins the one before."""
    if text.isascii() or NARROW_TEXT.fullmatch(text):
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def row_value(row: dict[str, Any], what: str) -> Any:
    """A value of a row under whichever of its names the row has one for; "" if it has none."""
    for name in ROW_NAMES.get(what) or (what,):
        value = row.get(name, "")
        if value not in ("", None) and value.__class__ not in (list, dict):
            return moment_text(value) if TIME_NAMES.fullmatch(name) else value
    return ""


def row_side(row: dict[str, Any]) -> str:
    """buy or sell; of positions and futures orders long or short."""
    for name in ("side", "posSide", "type", "tradeType"):
        value = "" if row.get(name).__class__ in (list, dict) else str(row.get(name) or "")
        if value:
            return ROW_SIDES.get(value) or POSITION_SIDES.get(value) or value
    return ""


def row_change(row: dict[str, Any]) -> str:
    """The change in 24 h in percent, "" if the row does not say from where to where."""
    try:
        now, before = Decimal(str(row_value(row, "index"))), Decimal(str(row_value(row, "last 24h ago")))
        return f"{(now / before - 1) * 100:+.2f}%" if before > 0 else ""  # a spread may be negative
    except (ArithmeticError, ValueError):
        return ""


def row_direction(row: dict[str, Any]) -> str:
    """long or short, as v1's futures number it."""
    number = str(row_value(row, "position"))
    return POSITION_SIDES.get(number, number)


def row_state(row: dict[str, Any]) -> str:
    """What has become of an order."""
    state = row.get("status", row.get("state", ""))  # v3 has both, and one of them in words
    return "" if state is None or state.__class__ in (list, dict) else ORDER_STATES.get(str(state), str(state))


ROW_COMPUTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "side": row_side, "change": row_change, "direction": row_direction, "state": row_state,
}  # fmt: skip


def moment_text(value: Any) -> Any:
    """A time in ms or by ISO 8601 as a time of day, with the date if it is another day; anything else as it is."""
    text = str(value)
    if not re.fullmatch(r"1\d{12}|\d{4}-\d\d-\d\dT\d\d:\d\d\S*", text):
        return value
    try:
        from datetime import datetime  # here, since a script may have another datetime

        iso = "T" in text
        at = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if iso else int(text) / 1000
    except (OverflowError, ValueError):
        return value
    near = abs(at - wall_clock()) < 86400 / 2
    return strftime("%H:%M:%S" if near else "%Y-%m-%d %H:%M", localtime(at))


def book_best(row: dict[str, Any]) -> dict[str, Any]:
    """The best level of each side of a whole order book, and what lies between them, as a row."""
    (bid, bid_size), (ask, ask_size) = (
        map(str, (*side[0], "-", "-")[:2] if side and side[0].__class__ is list else ("-", "-"))
        for side in (row["bids"], row["asks"])
    )
    try:
        spread = str(Decimal(ask) - Decimal(bid))
    except ArithmeticError:
        spread = "-"
    return {"bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size, "spread": spread}


def is_whole_book(channel: str, row: dict[str, Any]) -> bool:
    """Whether a row of a book channel is the whole book, or its best levels, and no change of it."""
    if row.keys() == {"bids", "asks", "ts"} or row.get("prevSeqId") == -1:  # see OkexWS.depth
        return True
    try:
        return dialect_of(channel).book(channel) == "whole"
    except ValueError:
        return False


class ShownLine(NamedTuple):
    """A line of a row, without its time."""

    format: LineFormat
    text: str
    colour: str = ""  # which of ROW_COLOURS


def named_row(channel: str, row: Any) -> Any:
    """A row with a name for each value, where they are known."""
    if row.__class__ is list and columns_of(channel):
        return dict(zip(columns_of(channel), row))
    candle = row.get("candle") if row.__class__ is dict else None
    if candle.__class__ is list:  # v3: {"candle":["2019-04-16T10:49:00.000Z","162.03", …]}
        return row | dict(zip(("time", "open", "high", "low", "close", "volume"), candle))
    return row


def row_lines(channel: str, row: Any, clock: str = "", ladder: int = 1) -> list[ShownLine]:
    """The lines for one row, at this time of day; of order books up to `ladder` levels a side."""
    format = known_format(channel)
    row = named_row(channel, row)
    if row.__class__ is list and any(entry.__class__ is dict for entry in row):
        lines = (line for entry in row if entry.__class__ is dict for line in row_lines(channel, entry, clock, ladder))
        return list(islice(lines, MAX_ROW_LINES))
    if row.__class__ is not dict:
        row = {"": " ".join(map(str, row)) if row.__class__ is list else "-" if row is None else row}
    bids, asks = row.get("bids"), row.get("asks")
    if bids.__class__ is list and asks.__class__ is list:
        return book_lines(channel, format, row, clock, ladder)
    return list(islice(plain_row_lines(format, row, clock, format.name), MAX_ROW_LINES))


def book_lines(channel: str, format: LineFormat, row: dict[str, Any], clock: str, ladder: int) -> list[ShownLine]:
    """An order book: one line with the best of both sides, or a ladder with the best in the middle."""
    line = RowLine(clock, row_name(row, format.name))
    if not is_whole_book(channel, row):
        line.add(f"{len(row['bids'])} bids and {len(row['asks'])} asks changed")
        return [ShownLine(format, line.text)]
    best = book_best(row)
    if ladder == 1:
        widths = [width for _, _, width in format.parts] or [12, 10, 10, 10, 6]
        for value, width in zip(best.values(), widths):
            line.add(str(value), width)
        return [ShownLine(format, line.text)]
    levels = [(level, "ask") for level in row["asks"][:ladder][::-1]]
    levels += [([best["spread"], ""], "spread")]
    levels += [(level, "bid") for level in row["bids"][:ladder]]
    lines = []
    for level, side in levels:
        price, size, *_ = map(str, level if level.__class__ is list and len(level) > 1 else ("-", "-"))
        line.add(price, 12)
        line.add(size, 14)
        line.add(side)
        lines.append(ShownLine(known_format("trades"), line.text, side))
        line = RowLine("", "")
    return lines


def row_name(row: dict[str, Any], default: str) -> str:
    """The instrument, or what else a row is about."""
    return next((row[name] for name in ROW_INSTRUMENTS if row.get(name) and row[name].__class__ is str), default)


def plain_row_lines(format: LineFormat, row: dict[str, Any], clock: str, name: str) -> Iterator[ShownLine]:
    """The line of a row that is no book, and those of the lists and objects in it."""
    name = row_name(row, name)
    line = RowLine(clock, f"{name} {format.bar}".rstrip())
    said = format_row_values(line, format, row) or list_row_values(line, row)
    if row.get("restored") is True:  # it comes late, see HoleFilling
        line.add("restored")
    inner = [(key, known_format(f"{format.kind}.{key}:{name}")) for key, value in row.items() if is_inner(key, value)]
    inner = [(key, inside) for key, inside in inner if inside.kind.count(".") <= MAX_ROW_DEPTH]
    if format.parts:  # it says what matters
        inner = [(key, inside) for key, inside in inner if inside.parts]
    if said or not inner:
        if not said:
            line.add("(nothing)")
        yield ShownLine(format, line.text, row_side(row) if format.parts else "")
    for key, inside in inner:
        if row[key].__class__ is dict:
            # v3: {"BTC":{"equity":"997.4", …}} and {"currency:BTC":{…}}; v1: {"free":{"btc":5.8}}
            own = re.fullmatch(r"(?:currency:)?([A-Z-]+)", key)
            named = own[1] if own else name if inside.parts else f"{name} {key}"
            yield from plain_row_lines(inside, row[key], clock, named)
            continue
        for entry in row[key]:
            if entry.__class__ is dict:
                yield from plain_row_lines(inside, entry, clock, name)


def is_inner(key: str, value: Any) -> bool:
    """Whether a value of a row may have lines of its own."""
    objects = value.__class__ is list and any(entry.__class__ is dict for entry in value)
    return key != "candle" and (objects or (value.__class__ is dict and bool(value)))


def format_row_values(line: RowLine, format: LineFormat, row: dict[str, Any]) -> bool:
    """Write a row's values as its format says, if it has any of them. Whether it has."""
    values = [(part, shown_value(row, part[1])) for part in format.parts]
    if not any(value for _, value in values):
        return False
    for (label, what, width), value in values:
        if not what:
            line.add(label)
        elif value and label:
            line.add(f" {label} {value}")
        elif value or width:
            line.add(value, width)
    line.text = line.text.rstrip()
    return True


def shown_value(row: dict[str, Any], what: str) -> str:
    """A value of a row as text; "" if it has none."""
    compute = ROW_COMPUTED.get(what)
    return str(compute(row) if compute else row_value(row, what)) if what else ""


def list_row_values(line: RowLine, row: dict[str, Any]) -> bool:
    """Write what a row of an unknown kind says: key value  key value. Whether it said anything."""
    values = []
    for key, value in row.items():
        if value.__class__ is list:  # of objects, each has a line of its own
            plain = [str(item) for item in value if item.__class__ not in (list, dict)]
            value = "/".join(plain) or (f"{len(value)} x" if value and value[0].__class__ is list else "")
        if value in ("", None) or value.__class__ is dict or key in NOT_LISTED:
            continue
        values.append(f"{key} {moment_text(value) if TIME_NAMES.fullmatch(key) else value}".strip())
    if values:
        line.add("  ".join(values))
    return bool(values)


def is_colourful(stream: Any = None) -> bool:
    """Whether stdout, or another stream, is a terminal that shows colours, and its owner wants them."""
    return (stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def clock_text(now: float) -> str:
    return f"{strftime('%H:%M:%S', localtime(now))}.{int(now % 1 * 1000):03d}"


class RowPrinter:
    """Prints lines for rows, and on a terminal the names of the columns above the first row of each kind."""

    def __init__(self) -> None:
        self.headed: set[str] = set()  # the headings that were printed

    def __call__(self, channel: str, rows: list[Any], ladder: int = 1) -> None:
        """Print the rows of one message: local time, instrument, and what matters. In colour where that is wanted."""
        terminal, colourful = sys.stdout.isatty(), is_colourful()
        clock = clock_text(wall_clock())
        lines = []
        for row in rows:
            for format, text, colour in row_lines(channel, row, clock, ladder):
                if terminal and format.parts and format.headings not in self.headed:
                    self.headed.add(format.headings)
                    lines.append(coloured(format.headings, "heading" if colourful else ""))
                lines.append(coloured(cut_line(printable_text(text, sys.maxsize)), colour if colourful else ""))
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()


def coloured(text: str, what: str) -> str:
    return f"{ROW_COLOURS[what]}{text}\033[0m" if what in ROW_COLOURS else text


def cut_line(line: str) -> str:
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 3] + "..."


def plural(number: int, things: str) -> str:
    """2 rows, 1 row."""
    return f"{number} {things}" if number != 1 else f"1 {PLURAL.sub('', things, count=1)}"


print_rows = RowPrinter()


def json_rows(channel: str, rows: list[Any]) -> None:
    """Print a JSON line per row: {"received": epoch seconds, "channel": …, "row": …}."""
    received = wall_clock()
    sys.stdout.write("".join(json_line(received, channel, row) for row in rows))
    sys.stdout.flush()


def json_line(received: float, channel: str, row: Any) -> str:
    return to_json({"received": received, "channel": channel, "row": row}) + "\n"


class Sink:
    """Where rows go. Derive from it; the methods are called on a thread of the sink's own.

    A sink is made with what its option was given, and with the keywords name, history and command (see RedisSink).
    """

    linger = 0.25  # seconds that rows may wait for more, to be written together
    refused = 0  # rows that could not be kept, for the summary

    def __init__(self, target: str, **_: Any) -> None: ...

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        """Take the rows of one message, received at this epoch second.

        If it raises, it is called again after a pause; but an error that would come again (see SAME_AGAIN) costs the
        message.
        """
        raise NotImplementedError

    def status(self, received: float, status: str, detail: str) -> None:
        """Take a change of the connection's state, in its place between the rows."""

    def flush(self) -> None:
        """Persist what was taken, all or nothing. Called after each batch, and at least once a second."""

    def close(self) -> None: ...


def was_moved(path: str, opened: os.stat_result) -> bool:
    """Whether a path leads to another file by now, or to none, as it does after a log was rotated."""
    try:
        return not os.path.samestat(os.stat(path), opened)
    except FileNotFoundError:
        return True


class JsonLines(Sink):
    """append a JSON line per row to FILE; - prints them"""

    def __init__(self, target: str, **_: Any) -> None:
        self.target = target
        self.waiting = bytearray()  # whole lines
        self._open()

    def _open(self) -> None:
        file = open(self.target, "ab+", buffering=0)  # noqa: SIM115
        stat = os.fstat(file.fileno())
        regular = S_ISREG(stat.st_mode)
        if regular and not self._is_ours(file):
            file.close()
            raise ValueError(f"{self.target} is no file of JSON lines: nothing was written to it")
        self.file, self.stat = file, stat  # not before: what was open stays open if this file is refused
        self.regular = regular

    @staticmethod
    def _is_ours(file: Any) -> bool:
        """Whether a file is empty, or its last whole line is JSON, or begins as ours do but was torn."""
        file.seek(0)
        if re.search(rb"[\x00-\x08\x0e-\x1f]", file.read(4096)):
            return False  # binary
        file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_MESSAGE))  # no line is longer
        text = file.read()
        last = (text[: text.rfind(b"\n") + 1] or text).rstrip().rpartition(b"\n")[2]
        if last[:12] == b'{"received":'[: len(last)]:
            return True
        with suppress(ValueError, RecursionError):
            return isinstance(json_loads(last), (dict, list))
        return False

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        self.waiting += "".join([json_line(received, channel, row) for row in rows]).encode()

    def flush(self) -> None:
        """Append what waits, in one write where possible.

        Nothing is ever cut off. A line that is torn, by a full disk, by an earlier run that was killed, or by another
        program that writes to this file now, is ended with a newline, and what was torn of ours is written once more:
        readers skip what is no JSON.
        """
        if self.waiting and self.regular and was_moved(self.target, self.stat):
            old = self.file
            self._open()
            old.close()
            okex_log.warning("%s was moved or removed: going on with a new file.", self.target)
        while self.waiting:
            begin = b"\n" if self._is_torn() else b""
            written = self.file.write(begin + self.waiting) - len(begin)
            if self.regular:
                written = self.waiting.rfind(b"\n", 0, max(written + 1, 0)) + 1  # all of a line but its end will do
            del self.waiting[:written]

    def _is_torn(self) -> bool:
        """Whether the file ends within a line."""
        if not self.regular or not self.file.seek(0, os.SEEK_END):
            return False
        self.file.seek(-1, os.SEEK_END)
        return self.file.read(1) != b"\n"

    def close(self) -> None:
        self.file.close()


class SQLite(Sink):
    """insert rows into the table `rows` (received, channel, row) of an SQLite FILE"""

    def __init__(self, target: str, **_: Any) -> None:
        self.target, self.rows = target, list[tuple[float, str, str]]()
        self._open()

    def _open(self) -> None:
        import sqlite3

        deadline = monotonic() + 10
        while True:
            try:
                self.db = self._connect()
                self.stat = os.stat(self.target)  # of the file that was opened
                return
            except sqlite3.Error as error:
                # To turn the journal of a new file into a WAL, SQLite does not wait for others, whatever its timeout.
                if "locked" not in str(error) or monotonic() > deadline:
                    raise OSError(f"{self.target}: {error}") from None
            pause(0.02)

    def _connect(self) -> Any:
        import sqlite3

        db = sqlite3.connect(self.target, timeout=5, check_same_thread=False)
        try:
            columns = [column[1] for column in db.execute("PRAGMA table_info(rows)")]
            if columns not in ([], ["received", "channel", "row"]):  # asked before anything is written
                raise ValueError(f"{self.target} has a table rows of other columns: {', '.join(columns)}")
            db.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                "PRAGMA wal_autocheckpoint=1;"  # so that the file holds nearly everything, wherever it is moved
                "CREATE TABLE IF NOT EXISTS rows (received REAL, channel TEXT, row TEXT);"
                "CREATE INDEX IF NOT EXISTS rows_by_channel ON rows (channel, received);"
            )
        except (sqlite3.Error, ValueError):
            db.close()
            raise
        return db

    def recall(self, channel: str, seconds: float) -> Iterator[Any]:
        """The rows of a channel of the last so many seconds, and some from before, in the order in which they came."""
        nth = "SELECT received FROM rows WHERE channel = ? AND received < ? ORDER BY received DESC LIMIT 1 OFFSET ?"
        with contextlib.closing(self._connect()) as db:  # its own: the writer's thread may use the other already
            before = db.execute(nth, (channel, wall_clock() - seconds, RECALLED_BEFORE)).fetchone()
            most = db.execute(nth, (channel, inf, MAX_RECALLED)).fetchone()
            since = max(before[0] if before else 0.0, most[0] if most else 0.0)
            rows = "SELECT row FROM rows WHERE channel = ? AND received >= ? ORDER BY received, rowid"
            for (text,) in db.execute(rows, (channel, since)):
                with suppress(ValueError):
                    yield from_json(text)

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        self.rows += [(received, channel, to_json(row)) for row in rows]

    def flush(self) -> None:
        if self.rows:
            if was_moved(self.target, self.stat):
                old = self.db
                self._open()
                old.close()
                okex_log.warning("%s was moved or removed: going on with a new file.", self.target)
            with self.db:  # one transaction
                self.db.executemany("INSERT INTO rows VALUES (?, ?, ?)", self.rows)
            self.rows.clear()

    def close(self) -> None:
        self.db.close()


def connect_redis(url: str) -> Any:
    """A client of Redis, not connected yet. Raises ValueError for what cannot be its URL."""
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ImportError("Redis needs the package redis: pip install redis") from None
    port_of(url)
    parts = urlsplit(url)
    hide_secret(unquote(parts.password or ""))
    if parts.scheme in ("redis", "rediss") and not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError(f"{passwordless(url)}: a database of Redis is a number, as in redis://localhost:6379/0")
    # Its own retries could write a batch twice.
    timeouts = {"socket_connect_timeout": 3, "socket_timeout": REDIS_TIMEOUT, "retry": Retry(NoBackoff(), 0)}
    client = redis.Redis.from_url(url, decode_responses=True, encoding_errors="backslashreplace", **timeouts)
    try:
        client.connection_pool.make_connection()  # which does not connect yet
    except TypeError as error:
        raise ValueError(f"{passwordless(url)}: {error}") from None
    return client


def redis_prefix(name: str) -> str:
    """What the keys under a name begin with. Raises ValueError for what cannot be a name."""
    if not re.fullmatch(r"[\w.:-]+", name):
        raise ValueError(f"{printable_text(name)!r} is no name: it takes letters, digits and . : _ -")
    return f"okex/{name}/"


class StoredCandle(NamedTuple):
    """A candle as RedisSink keeps it."""

    begin: int  # ms
    received: float  # epoch seconds
    text: str  # JSON


class RedisSink(Sink):
    """keep rows in Redis (redis://host:6379/0) for other programs, see RedisFeed

    okex/NAME/CHANNEL            the latest row as JSON; where a channel has many instruments, one for each
                                 publishes every row as JSON, but candles only when they are final
    okex/NAME/@history/CHANNEL   stream of {received, row, n}, trimmed; of candles, the final ones
    okex/NAME/@status            the last change of the connection's state, as JSON; gone if the process dies
    okex/NAME/@event             publishes every such change: confirmations, refusals, gaps, disconnections
    okex/NAME/@commands          list: {"id": …, "op": "subscribe", "channels": […]}; other ops are unsubscribe,
                                 confirm, channels and quit
    okex/NAME/@answers/ID        list: {"id": …, "ok": true, "result": …}

    No channel's name begins with @, so that no key of ours can be a channel's.
    v5 says that a candle is final. v1 and v3 do not: there it is final when the next one begins, if the connection
    held until then.
    """

    linger = 0.005
    ALIVE = 10  # seconds that the status outlives the process

    def __init__(self, target: str, *, name: str, history: int, command: Callable[[str, list[str]], Any]) -> None:
        self.redis = connect_redis(target)
        self.prefix = redis_prefix(name)
        self.history = history
        self.command = command
        # What the next flush stores.
        self.commands: list[tuple[Any, ...]] = []  # as execute_command takes them
        self.latest: dict[str, str] = {}  # row as JSON, by key
        # So that a batch is applied once, though the answer to it may be lost: each leaves its number in Redis.
        self.mark = f"{self.prefix}@batch/{os.urandom(8).hex()}"
        self.number = 0
        self.uncertain = False  # whether the batch may have been applied
        self.refused_keys: set[str] = set()
        # What has been given to Redis, by key.
        self.rows: Counter[str] = Counter()
        self.final: dict[str, int] = {}  # when the last candle in the history begins, in ms
        self.forming: dict[str, StoredCandle] = {}  # v1 and v3
        self.state = status_text(wall_clock(), DISCONNECTED, "starting")
        self.state_set = -inf  # monotonic: when Redis was last given it
        self.closed = threading.Event()
        with suppress(Exception):  # if Redis is not there, the writer will say so
            if self.redis.exists(f"{self.prefix}@status"):
                message = "Another okex_ws writes under %s, or did until a moment ago: give each a --name of its own."
                okex_log.warning(message, self.prefix)
            if self.redis.delete(f"{self.prefix}@commands"):
                okex_log.warning("Commands by Redis that were given before this start are dropped.")
        commands = threading.Thread(target=self._serve_commands, args=(target,), name="okex_ws commands", daemon=True)
        commands.start()

    def write(self, received: float, channel: str, rows: list[Any]) -> None:
        objects = [row if isinstance(row, dict) else {"value": row} for row in rows]
        # Whatever may raise comes before anything is changed.
        texts = [to_json(row) for row in objects]
        keys = [self._key(channel, row) for row in objects]
        candles = is_candle(channel)
        for key in keys:
            if candles and key not in self.final:
                self.final[key] = self._last_candle(key)
        for key, row, text in zip(keys, objects, texts):
            if "restored" not in row:  # else it is older than what came meanwhile
                self.latest[key] = text
            begin = candle_begin(row) if candles else None
            if begin is None:
                self._append(key, received, text)
            elif "confirm" not in row:
                self._form(key, StoredCandle(begin, received, text))
            elif "restored" in row:  # once, as its series sees to
                self._append(key, received, text)
                self.final[key] = max(self.final[key], begin)
            elif row["confirm"] == "1":
                self._append_candle(key, StoredCandle(begin, received, text))

    def _append(self, key: str, received: float, text: str) -> None:
        self.rows[key] += 1
        entry = ("received", received, "row", text, "n", self.rows[key])
        self.commands.append(("XADD", f"{self.prefix}@history/{key}", "*", *entry))
        self.commands.append(("PUBLISH", self.prefix + key, text))

    def _append_candle(self, key: str, candle: StoredCandle) -> None:
        """Append a candle that is final, unless an earlier message or an earlier run did."""
        if candle.begin > self.final[key]:
            self.final[key] = candle.begin
            self._append(key, candle.received, candle.text)

    def _form(self, key: str, candle: StoredCandle) -> None:
        """Remember how a candle stands. If it is a new one, the one before is final."""
        last = self.forming.get(key)
        if last and last.begin < candle.begin:
            self._append_candle(key, last)
        if not last or last.begin <= candle.begin:
            self.forming[key] = candle

    def _last_candle(self, key: str) -> int:
        """When the last candle that earlier runs left in the history begins, in ms."""
        from redis import ResponseError

        try:
            entries = self.redis.xrevrange(f"{self.prefix}@history/{key}", count=10)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return 0  # what is appended will be refused, see _apply
        rows = [from_json(values["row"]) for _, values in entries]
        return max((candle_begin(row) or 0 for row in rows if row.get("confirm") != "0"), default=0)

    def status(self, received: float, status: str, detail: str) -> None:
        self.state = status_text(received, status, detail)
        self.state_set = -inf
        if status == DISCONNECTED:
            self.forming.clear()  # nobody knows how these candles end
        self.commands.append(("PUBLISH", f"{self.prefix}@event", self.state))

    def flush(self) -> None:
        if self.commands or self.latest:
            self._apply()
        if monotonic() - self.state_set > self.ALIVE / 3:
            self.redis.set(f"{self.prefix}@status", self.state, ex=self.ALIVE)
            self.state_set = monotonic()

    def _apply(self) -> None:
        """Give Redis the batch, in one transaction that is applied once."""
        if not self.uncertain or self.redis.get(self.mark) != str(self.number):
            pipeline = self.redis.pipeline(transaction=True)
            for command in self.commands:
                pipeline.execute_command(*command)
            for key, text in self.latest.items():
                pipeline.set(self.prefix + key, text)
                pipeline.xtrim(f"{self.prefix}@history/{key}", maxlen=self.history, approximate=False)
            pipeline.set(self.mark, self.number, ex=3600)
            self.uncertain = True
            # Raises what concerns the whole of it (it is full, it is a replica): then nothing was applied.
            results = pipeline.execute(raise_on_error=False)
            for command, result in zip(self.commands, results):
                if isinstance(result, Exception):
                    self._refused(command[1], result)
        self.uncertain = False
        self.number += 1
        self.commands.clear()
        self.latest.clear()

    def _refused(self, key: str, error: Exception) -> None:
        """One command of a batch was refused, because its key is of another type; the others were applied."""
        self.refused += 1
        if key not in self.refused_keys:
            self.refused_keys.add(key)
            why = printable_text(f"{key}: {error}".rstrip("."))
            okex_log.warning("--redis: %s. Such rows are lost. Said once a key, counted each time.", why)

    @staticmethod
    def _key(channel: str, row: Any) -> str:
        """Where a row belongs: its channel, or its instrument where the channel has several."""
        instrument = str(row.get("instId") or row.get("instrument_id") or "")
        several = instrument and ("=" in channel or ":" not in channel) and instrument not in channel
        return f"{channel.partition(':')[0]}:{instrument}" if several else channel

    def _serve_commands(self, url: str) -> None:
        mailbox = f"{self.prefix}@commands"
        redis = connect_redis(url)  # of its own, because it waits
        while not self.closed.is_set():
            try:
                _, text = redis.blpop([mailbox], timeout=REDIS_TIMEOUT - 1) or (None, None)
                if text and self.closed.is_set():
                    redis.lpush(mailbox, text)  # for whoever comes after us
                elif text:
                    self._obey(redis, text)
            except Exception as error:  # Redis is gone: the writer says so, and this waits for it to come back
                okex_log.debug("Commands by Redis: %s", error)
                self.closed.wait(1.0)
        redis.close()

    def _obey(self, redis: Any, text: str) -> None:
        """Do what another program asks for, and answer it."""
        answer: dict[str, Any] = {"id": None, "ok": False}
        op, channels = "", []
        try:
            request = from_json(text)
            answer["id"] = request.get("id")
            op, channels = request["op"], request.get("channels", [])
            if not isinstance(channels, list):
                raise TypeError("channels must be a list")
            answer["result"] = None if op == "quit" else self.command(op, channels)
            answer["ok"] = True
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            answer["error"] = str(error) or repr(error)
        if answer["ok"] and op == "subscribe":  # the exchange takes its time, and other commands may come meanwhile
            threading.Thread(target=self._confirm, args=(redis, text, answer, channels), daemon=True).start()
            return
        self._answer(redis, text, answer)
        if answer["ok"] and op == "quit":
            self.command(op, [])

    def _confirm(self, redis: Any, text: str, answer: dict[str, Any], channels: list[str]) -> None:
        """Answer to subscribe, once the exchange has."""
        try:
            answer["result"] = self.command("confirm", channels)
        except ValueError as error:
            answer |= {"ok": False, "error": str(error)}
        with suppress(Exception):  # Redis is gone, and with it who asked
            self._answer(redis, text, answer)

    def _answer(self, redis: Any, text: str, answer: dict[str, Any]) -> None:
        okex_log.info("Command by Redis: %s: %s", printable_text(text), "done" if answer["ok"] else answer["error"])
        key = f"{self.prefix}@answers/{answer['id']}"
        redis.pipeline().rpush(key, to_json(answer)).expire(key, 60).execute()

    def close(self) -> None:
        self.closed.set()
        with suppress(Exception):  # it is gone in ALIVE seconds anyway
            self.redis.delete(f"{self.prefix}@status")
        self.redis.close()


def status_text(received: float, status: str, detail: str) -> str:
    return to_json({"received": received, "status": status, "detail": detail})


def is_candle(channel: str) -> bool:
    return "candle" in channel or "_kline_" in channel


def candle_begin(row: dict[str, Any]) -> int | None:
    """When the candle in a row begins, in ms; None if it does not say so, or names a time that makes no sense."""
    try:
        text = str(row.get("ts") or row.get("timestamp") or row["candle"][0])
        if text.isdecimal():
            begin = int(text)
        else:
            from datetime import datetime  # here, since a script may have another datetime

            begin = int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)
    except (LookupError, TypeError, ValueError):
        return None
    return begin if begin < (wall_clock() + 86400) * 1000 else None  # after one of the far future, none would be new


class RedisRow(dict[str, Any]):
    """A row of the exchange, and its `id` in the history, at which `RedisFeed.listen` can resume."""

    def __init__(self, id: str, text: str) -> None:
        super().__init__(from_json(text))
        self.id = id


class RedisFeed:
    """What `--redis` keeps, for other programs: `RedisFeed("redis://localhost").get("tickers:BTC-USDT")`."""

    def __init__(self, url: str = "redis://localhost", name: str = "default") -> None:
        self.redis = connect_redis(url)
        self.prefix = redis_prefix(name)

    def get(self, channel: str, n: int | None = None) -> Any:
        """The latest row, None if there is none; or a list of the last n rows of the history, oldest first.

        Rows are the exchange's objects. Those of the history have an `id`, see listen. The latest row of a candle
        channel may be a candle that still forms; its history holds those that are final.
        """
        if n is None:
            text = self.redis.get(self.prefix + channel)
            return text and from_json(text)
        entries = self.redis.xrevrange(f"{self.prefix}@history/{channel}", count=n)
        return [RedisRow(id, values["row"]) for id, values in reversed(entries)]

    def listen(self, channel: str, after: str | None = None) -> Iterator[RedisRow]:
        """Every row from now on; or every row after the one whose `id` this is, after="0" for all that are kept.

        Raises LookupError when rows were trimmed away before they could be read.
        """
        history = f"{self.prefix}@history/{channel}"
        if after is None:
            exists = self.redis.exists(history)
            return self._follow(history, self.redis.xinfo_stream(history)["last-generated-id"] if exists else "0", 0)
        if after in ("0", "0-0"):
            return self._follow(history, after, 0)
        found = self.redis.xrange(history, after, after)
        if not found:
            raise LookupError(f"the row {after} was trimmed away, and perhaps rows after it: use a larger --history")
        return self._follow(history, after, int(found[0][1]["n"]))

    def _follow(self, history: str, last: str, number: int) -> Iterator[RedisRow]:
        """The rows after the one with the ID `last`, whose number among those of one run is `number`, 0 if unknown."""
        while True:
            for _, entries in self.redis.xread({history: last}, count=1000, block=2000) or []:
                for last, values in entries:
                    n = int(values["n"])
                    if number and n > number + 1:
                        raise LookupError(
                            f"{n - number - 1} rows were trimmed away unread: use a larger --history, and give each"
                            " okex_ws.py a --name of its own"
                        )
                    number = n
                    yield RedisRow(last, values["row"])

    def subscribe(self, channel: str) -> str:
        """Have the program that fills Redis subscribe to a channel. Raises ValueError if the exchange refuses it.

        Returns "confirmed"; or "sent" or "wanted" if the exchange did not answer in time: it will be asked again.
        """
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
        """The last change of the connection's state: {"received", "status", "detail"}; None if nothing runs."""
        status = self.redis.get(f"{self.prefix}@status")
        return status and from_json(status)

    def servers(self) -> list[str]:
        """The names under which programs fill this Redis now."""
        found = (key.split("/") for key in self.redis.scan_iter("okex/*/@status", count=1000))
        return sorted({parts[1] for parts in found if len(parts) == 3})

    def clear(self) -> None:
        """Forget everything that is kept under this name."""
        for key in self.redis.scan_iter(f"{self.prefix}*"):
            self.redis.unlink(key)

    def _command(self, op: str, *channels: str, timeout: int = REDIS_TIMEOUT - 1) -> Any:
        id = os.urandom(8).hex()
        mailbox = f"{self.prefix}@commands"
        request = to_json({"id": id, "op": op, "channels": channels})
        # What nobody takes in time is not to be obeyed by a program that starts later.
        self.redis.pipeline().rpush(mailbox, request).expire(mailbox, timeout).execute()
        answer = self.redis.blpop([f"{self.prefix}@answers/{id}"], timeout=timeout)
        if answer is None:
            raise TimeoutError(f"nothing answered to {op} within {timeout} s: is okex_ws.py --redis running?")
        answer = from_json(answer[1])
        if not answer["ok"]:
            raise ValueError(answer["error"])
        return answer["result"]


SINKS: dict[str, Any] = {"jsonl": JsonLines, "sqlite": SQLite, "redis": RedisSink}  # by option


# Errors that would come again, however often a message is written: bugs, and data of an impossible shape.
SAME_AGAIN = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, LookupError, MemoryError, NameError),
    *(RuntimeError, TypeError, ValueError),
)


class Writer:
    """A sink behind a bounded queue, on a thread of its own, so that no reading thread waits for a disk or a server."""

    def __init__(self, option: str, sink: Sink) -> None:
        if not isinstance(sink, Sink):
            raise TypeError(f"--{option}: {type(sink).__name__} must derive from okex_ws.Sink")
        self.option, self.sink = option, sink
        # Messages in order, marshalled: a fifth of the memory of objects, and nothing for the garbage collector.
        # The reading threads append under Run.lock, the writer's own takes away; a deque needs no lock for the two.
        self.queue: deque[bytes] = deque()
        self.put_bytes = self.put_rows = 0  # changed by the reading threads alone
        self.taken_bytes = 0  # changed by the writer's thread alone
        self.written = 0  # rows, those included that the sink refused
        self.wake = threading.Event()  # there is something to do
        self.draining = threading.Event()  # nothing more will come
        self.failing = False
        self.refuses = False  # whether the sink ever could not take something
        self.thread = threading.Thread(target=self._run, name=f"okex_ws {option}", daemon=True)
        self.thread.start()

    @property
    def backlog(self) -> int:
        """Bytes that are not written yet."""
        return self.put_bytes - self.taken_bytes

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return self.put_rows - self.written

    def put(self, item: bytes, rows: int = 1) -> None:
        """Queue what marshal made of (received, channel, rows), or of (received, "", (status, detail)), with no row."""
        self.put_bytes += len(item)  # before the writer's thread may count them as taken
        self.put_rows += rows
        self.queue.append(item)
        if not self.wake.is_set():
            self.wake.set()

    def _run(self) -> None:
        last = False
        while not last:
            self.wake.wait(1.0)
            self.draining.wait(self.sink.linger)  # what comes meanwhile is written together
            self.wake.clear()
            last = self.draining.is_set()
            while self.queue:
                self._write_batch()
            self._insist(self.sink.flush)
        self._insist(self.sink.close)

    def _write_batch(self) -> None:
        """Write what waits; it stays in the queue until it is flushed, and so counts as lost if it never is."""
        batch = min(len(self.queue), MAX_BATCH)
        rows = 0
        for i in range(batch):
            received, channel, content = marshal.loads(self.queue[i])
            self._insist(self._pass_on, received, channel, content)
            rows += (1 if content is None else len(content)) if channel else 0  # None: see Run.enqueue
        self._insist(self.sink.flush)
        self.written += rows
        for _ in range(batch):
            self.taken_bytes += len(self.queue.popleft())

    def _pass_on(self, received: float, channel: str, rows: Any) -> None:
        try:
            if rows is None:
                raise ValueError("a message was nested too deeply for the queue")
            if channel:
                self.sink.write(received, channel, rows)
            else:
                self.sink.status(received, *rows)
        except OSError:  # first, since some of these are ValueErrors, too
            raise
        except SAME_AGAIN:
            if not self.refuses:
                okex_log.exception("--%s cannot take a message: dropped. Said once, counted each time.", self.option)
            self.refuses = True
            self.sink.refused += (1 if rows is None else len(rows)) if channel else 0

    def _insist(self, call: Callable[..., None], *args: Any) -> None:
        """Call until it succeeds."""
        wait = 0.1
        while True:
            try:
                call(*args)
            except Exception as error:
                if not self.failing:
                    why = printable_text(str(error).rstrip(".") or type(error).__name__)
                    okex_log.warning("--%s: %s. Trying again; meanwhile rows wait in memory.", self.option, why)
                self.failing = True
                pause(wait)
                wait = min(2 * wait, 1.0)
            else:
                if self.failing:
                    okex_log.warning("--%s works again.", self.option)
                self.failing = False
                return

    def start_draining(self) -> None:
        """Nothing more will come: have what is queued written, and the sink closed."""
        self.draining.set()
        self.wake.set()

    def drain(self, begin: float) -> bool:
        """Wait until everything is written, for MAX_DRAIN seconds from `begin` (monotonic). Whether it was.

        A sink that fails gets MAX_DRAIN_FAILING.
        """
        self.start_draining()
        tell_at = QUIET_DRAIN  # seconds after `begin`
        while self.thread.is_alive() and monotonic() - begin < self._patience():
            self.thread.join(0.05)
            if monotonic() - begin > tell_at:
                tell_at += TELL_DRAIN
                message = "--%s: writing %s, for %.0f s at most. Ctrl-C again gives up."
                left = self._patience() - (monotonic() - begin)
                okex_log.warning(message, self.option, plural(self.waiting, "more rows"), max(0.0, left))
        if self.thread.is_alive():
            okex_log.error("--%s: %s could not be written in time: lost.", self.option, plural(self.waiting, "rows"))
        return not self.thread.is_alive()

    def _patience(self) -> float:
        return MAX_DRAIN_FAILING if self.failing else MAX_DRAIN


# The board: what the client keeps, as a picture; the picture as lines; and the little that a terminal needs for them.

BOARD_CHANNELS = [f"tickers:{coin}-USDT" for coin in ("BTC", "ETH", "SOL", "XRP", "DOGE")]
BOARD_CHANNELS += ["books:BTC-USDT", "trades:BTC-USDT"]
BOARD_EVERY = 0.2  # seconds between two pictures, at least
DUMB_BOARD_EVERY = 5.0  # the same on a terminal that cannot go back, and gets one picture below the other
SPARK_EVERY = 5.0  # seconds for each column of a sparkline
STALE_AFTER = 10.0  # seconds after which the age of a price is shown
MAX_SHOWN = 60  # levels a side, and trades: what the tallest terminals have room for
MAX_TAPE = 200  # trades of which the share of buys is told
MAX_HISTORY = 240  # columns of a sparkline
BOARD_COLOURS = {"up": "\033[32m", "down": "\033[31m", "dim": "\033[2m", "bold": "\033[1m", "alarm": "\033[1;31m"}
GLYPHS = {  # with Unicode, and without
    "spark": ("▁▂▃▄▅▆▇█", "_.-~=+*#"), "bar": ("█", "#"), "rule": ("─", "-"),
    "up": ("▲", "^"), "down": ("▼", "v"), "": (" ", " "), "…": ("…", "~"),
}  # fmt: skip
QUOTED_AS = {"last": "last", "trade": "price", "open": "close", "mark": "mark", "index": "index"}  # the best one first

BoardSpan = tuple[str, str]  # a piece of a line, and which of BOARD_COLOURS it has


class BoardQuote(NamedTuple):
    """One instrument of the board's table; "" is what is not known."""

    name: str
    last: str = ""
    direction: str = ""  # up, down or ""
    change: str = ""
    bid: str = ""
    ask: str = ""
    spread: str = ""
    history: Sequence[float] = ()  # prices, SPARK_EVERY seconds apart
    age: float = 0.0  # seconds


class BoardPicture(NamedTuple):
    """What the board shows."""

    status: Sequence[str] = ("",)  # the first line, for wide terminals and for narrow ones
    connected: bool = True
    quotes: Sequence[BoardQuote] = ()
    others: Sequence[str] = ()  # the last rows of channels that have no price
    book: str = ""  # whose order book it is
    doubt: str = ""  # why the book is not to be trusted; "" while it is in sync
    bids: Sequence[Sequence[str]] = ()
    asks: Sequence[Sequence[str]] = ()
    tape: str = ""  # whose trades they are
    trades: Sequence[tuple[str, str, str, str]] = ()  # time, price, size, side; the latest one first
    buys: str = ""  # their share
    log: Sequence[str] = ()
    sinks: Sequence[str] = ()


class BoardLook(NamedTuple):
    """What a terminal can show, and how a text is made to fit it."""

    colours: bool = False
    unicode: bool = False

    def glyph(self, what: str) -> str:
        return GLYPHS[what][not self.unicode]

    def clean(self, text: str) -> str:
        """Without control characters, and without what the terminal's encoding lacks."""
        if NARROW_TEXT.fullmatch(text) and (self.unicode or text.isascii()):
            return text
        text = printable_text(text, MAX_LINE)
        return text if self.unicode else text.encode("ascii", "backslashreplace").decode()

    def cut(self, text: str, width: int) -> str:
        """As much of a text as fits, with a mark if that is not all."""
        if text_width(text) <= width:
            return text
        shown, free = "", width - 1
        for c in text:
            free -= text_width(c)
            if free < 0:
                break
            shown += c
        return shown + self.glyph("…") if width > 0 else ""

    def cell(self, text: str, width: int, right: bool = True) -> str:
        text = self.cut(self.clean(text), width)
        space = " " * (width - text_width(text))
        return space + text if right else text + space

    def paint(self, spans: Iterable[BoardSpan], width: int) -> str:
        """A line of exactly this width."""
        line = ""
        for text, colour in spans:
            text = self.cut(self.clean(text), width)
            width -= text_width(text)
            line += f"{BOARD_COLOURS[colour]}{text}\033[0m" if self.colours and colour and text else text
        return line + " " * width


def draw_board(picture: BoardPicture, width: int, height: int, look: BoardLook) -> list[str]:
    """The board as `height` lines of `width` columns."""
    log = picture.log[-max(1, height // 7) :]
    bottom: list[list[BoardSpan]] = [[(line, "")] for line in log]
    if height >= 18:
        bottom.insert(0, rule_spans("log", width, look))
    bottom += [[(line, "dim")] for line in picture.sinks]
    market = bool(picture.book or picture.tape)
    free = height - 1 - len(bottom)
    table = table_lines(picture, width, max(2, free - max(5, free // 3)) if market else free, look)
    lines = [status_spans(picture, width), *table]
    if market:
        lines += market_lines(picture, width, free - len(table), look)
    lines += [[] for _ in range(height - len(lines) - len(bottom))]
    return [look.paint(spans, width) for spans in [*lines, *bottom][:height]]


def rule_spans(title: str, width: int, look: BoardLook) -> list[BoardSpan]:
    rule = look.glyph("rule")
    title = f"{rule * 2} {title} " if title else ""
    return [(title + rule * max(0, width - text_width(look.clean(title))), "dim")]


def status_spans(picture: BoardPicture, width: int) -> list[BoardSpan]:
    text = next((text for text in picture.status if text_width(text) <= width), picture.status[-1])
    return [(text, "bold" if picture.connected else "alarm")]


def table_lines(picture: BoardPicture, width: int, most: int, look: BoardLook) -> list[list[BoardSpan]]:
    """The instruments, below the names of the columns, and the last rows of other channels."""
    columns, spark = quote_columns(picture.quotes[:most], width, look)
    lines: list[list[BoardSpan]] = [quote_spans(quote, columns, spark, look) for quote in picture.quotes[:most]]
    if lines:
        lines.insert(
            0, [("".join(look.cell(title, wide, title != "instrument") + " " for title, wide in columns), "dim")]
        )
    lines += [[(other, "")] for other in picture.others[:most]]
    hidden = len(picture.quotes) + len(picture.others) + bool(picture.quotes) - most
    if hidden > 0:
        lines[most - 1 :] = [[(f"and {hidden + 1} more, for which there is no room", "dim")]]
    return lines


QUOTE_COLUMNS = ("instrument", "last", "24 h", "bid", "ask", "spread", "age")
DROPPED_COLUMNS = ("spread", "age", "ask", "bid", "24 h")  # where the terminal is narrow, in this order


def quote_columns(quotes: Sequence[BoardQuote], width: int, look: BoardLook) -> tuple[list[tuple[str, int]], int]:
    """The table's columns with their widths, and the width that is left for the sparkline."""
    texts = {title: [quote_text(quote, title) for quote in quotes] for title in QUOTE_COLUMNS}
    wide = {title: max(map(text_width, map(look.clean, [title, *column]))) for title, column in texts.items()}
    wide["last"] += 2  # for the arrow
    wide["instrument"] = min(wide["instrument"], max(12, width // 3))
    titles = [title for title in QUOTE_COLUMNS if title in ("instrument", "last") or any(texts[title])]
    for title in DROPPED_COLUMNS:
        if sum(wide[title] + 1 for title in titles) + 8 > width and title in titles:
            titles.remove(title)
    used = sum(wide[title] + 1 for title in titles)
    return [(title, wide[title]) for title in titles], max(0, min(width - used, MAX_HISTORY))


def quote_text(quote: BoardQuote, title: str) -> str:
    match title:
        case "instrument":
            return quote.name
        case "24 h":
            return quote.change
        case "age":
            return age_text(quote.age) if quote.age >= STALE_AFTER else ""
    return str(getattr(quote, title))


def age_text(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else ">1 h"


def quote_spans(quote: BoardQuote, columns: list[tuple[str, int]], spark: int, look: BoardLook) -> list[BoardSpan]:
    spans: list[BoardSpan] = []
    for title, wide in columns:
        text = quote_text(quote, title)
        colour = "down" if title == "24 h" and text.startswith("-") else "up" if title == "24 h" else ""
        if title == "last":
            text, colour = f"{look.glyph(quote.direction)} {text}", quote.direction
        colour = "dim" if quote.age >= STALE_AFTER else colour
        spans.append((look.cell(text, wide, title != "instrument") + " ", colour))
    return [
        *spans,
        (spark_text(quote.history[-spark:] if spark else [], look), "dim" if quote.age >= STALE_AFTER else ""),
    ]


def spark_text(values: Sequence[float], look: BoardLook) -> str:
    """Prices as a row of bars, from the lowest of them to the highest."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    levels = look.glyph("spark")
    step = (high - low) / (len(levels) - 1)
    return "".join(levels[round((value - low) / step) if step else 0] for value in values)


def market_lines(picture: BoardPicture, width: int, height: int, look: BoardLook) -> list[list[BoardSpan]]:
    """The order book as a ladder, and beside it the latest trades."""
    left = width if not picture.tape else (width - 2) * 11 // 20 if picture.book else 0
    right = width - left - (2 if left else 0)
    levels = max(0, height - 2) // 2
    state = f"not in sync: {picture.doubt}" if picture.doubt else "in sync"
    title = rule_spans(f"{picture.book} book, {state}", left, look)[0][0] if left else ""
    trades = "trades" if picture.tape == picture.book else f"{picture.tape} trades"
    buys = f", {picture.buys} bought" if picture.buys else ""
    tape_title = rule_spans(f"{trades}{buys}", right, look)[0][0] if picture.tape else ""
    gap = "  " if left and picture.tape else ""
    head = [(look.cell(title, left, False), "alarm" if picture.doubt else "dim"), (f"{gap}{tape_title}", "dim")]
    ladder = ladder_lines(picture, left, levels, look) if left else []
    tape = trade_lines(picture.trades[: max(0, height - 1)], right, look) if picture.tape else []
    lines: list[list[BoardSpan]] = [head]
    for level, trade in islice(zip_longest(ladder, tape), max(0, height - 1)):
        lines.append([*(level or [(" " * left, "")]), (gap, ""), *(trade or [])])
    return lines


def ladder_lines(picture: BoardPicture, width: int, levels: int, look: BoardLook) -> list[list[BoardSpan]]:
    """Asks above bids, the best of both in the middle; bars show the sizes."""
    bids, asks = picture.bids[:levels], picture.asks[:levels]
    sizes = [float(level[1]) for level in (*bids, *asks)]
    largest = max(sizes, default=0.0) or 1.0
    price_width = max((len(level[0]) for level in (*bids, *asks)), default=0)
    size_width = max((len(level[1]) for level in (*bids, *asks)), default=0)
    bar_width = max(0, width - price_width - size_width - 2)
    lines: list[list[BoardSpan]] = []
    for side, colour in ((asks[::-1], "down"), (bids, "up")):
        if colour == "up" and (bids or asks):
            spread = book_best({"bids": bids[:1], "asks": asks[:1]})["spread"]
            lines.append([(look.cell(f"{look.cell(spread, price_width)} spread", width, False), "dim")])
        for price, size, *_ in side:
            bar = look.glyph("bar") * max(1, round(float(size) / largest * bar_width)) if bar_width else ""
            text = f"{look.cell(price, price_width)} {look.cell(size, size_width)} {bar}"
            lines.append([(look.cell(text, width, False), colour)])
    return lines


def trade_lines(trades: Sequence[tuple[str, ...]], width: int, look: BoardLook) -> list[list[BoardSpan]]:
    """The latest trades: time, where there is room for it, price, size and side."""
    clocks, prices, sizes, _ = (max((len(trade[n]) for trade in trades), default=0) for n in range(4))
    timed = width >= clocks + prices + sizes + 7
    lines: list[list[BoardSpan]] = []
    for clock, price, size, side in trades:
        text = f"{look.cell(price, prices)} {look.cell(size, sizes)} {side}"
        text = f"{look.cell(clock, clocks)} {text}" if timed else text
        lines.append([(look.cut(text, width), {"buy": "up", "sell": "down"}.get(side, ""))])
    return lines


def is_connected(client: OkexWS) -> bool:
    sock = client.sock  # once: the reading thread sets it to None at any moment
    return bool(sock and sock.connected)


class Board:
    """What the board shows beyond what the clients keep: last rows, the latest trades, prices of the last minutes.

    `note` is called on the reading threads, and does next to nothing; all else on the thread that draws.
    """

    def __init__(self) -> None:
        self.latest: dict[str, tuple[float, Any]] = {}  # by channel: when its last row came, and the row
        self.tape_channel = ""
        self.tape: deque[Any] = deque(maxlen=MAX_TAPE)
        self.histories: dict[str, deque[float]] = {}  # by instrument
        self.directions: dict[str, tuple[str, str]] = {}  # by instrument: the last price, and where it went
        self.sampled = 0.0  # monotonic: when histories got their last prices
        self.counted: deque[tuple[float, int]] = deque(maxlen=10)  # monotonic, messages until then: of 2 s

    def note(self, channel: str, rows: list[Any]) -> None:
        """Remember the rows of a message."""
        if rows:
            self.latest[channel] = wall_clock(), rows[-1]
            if channel == self.tape_channel:
                self.tape.extend(rows)

    def picture(
        self, clients: Sequence[OkexWS], began: float, log: Sequence[str], sinks: Sequence[str]
    ) -> BoardPicture:
        """What is to be seen now."""
        now = monotonic()
        channels = [channel for client in clients for channel in client.channels]
        self.tape_channel = self.tape_channel or next(filter(is_trade_channel, channels), "")
        # Copied first, since other threads may subscribe to more meanwhile.
        books = dict(item for client in clients for item in list(client.books.items()))
        book_channel, book = next(iter(books.items()), ("", None))
        bids, asks, doubt = book_levels(book, MAX_SHOWN)
        latest = self.latest.copy()
        pause(0)  # the reading thread may go first
        quotes, others = self.quotes(channels, latest, books)
        if now - self.sampled >= SPARK_EVERY:
            self.sampled = now
            for quote in quotes:
                if quote.last:
                    self.histories.setdefault(quote.name, deque(maxlen=MAX_HISTORY)).append(price_number(quote.last))
        status = self.status(clients, now - began, newest_delay(latest), now)
        trades = list(self.tape)
        tape = [trade_texts(row) for row in trades[:-MAX_SHOWN:-1] if row.__class__ is dict]
        return BoardPicture(
            status, all(map(is_connected, clients)), quotes, others,
            known_format(book_channel).name if book else "", doubt, bids, asks,
            known_format(self.tape_channel).name if self.tape_channel else "", tape, buy_share(trades), log, sinks,
        )  # fmt: skip

    def quotes(
        self, channels: list[str], latest: dict[str, tuple[float, Any]], books: dict[str, OrderBook]
    ) -> tuple[list[BoardQuote], list[str]]:
        """The table of instruments, and a line for the last row of each channel that is not in it."""
        sources: dict[str, dict[str, tuple[float, Any]]] = {}
        others = []
        for channel in channels:
            quoted = quoted_as(channel)
            when, row = latest.get(channel, (0.0, None))
            if quoted:
                sources.setdefault(known_format(channel).name, {})[quoted] = (when, named_row(channel, row))
            elif row is not None and not is_book_channel(channel):
                others += [line.text.strip() for line in row_lines(channel, row)[:1]]
        named = {known_format(channel).name: book for channel, book in books.items()}
        names = dict.fromkeys([*sources, *named])
        return [self.quote(name, sources.get(name, {}), named.get(name)) for name in names], others

    def quote(self, name: str, sources: dict[str, tuple[float, Any]], book: OrderBook | None) -> BoardQuote:
        when, last = 0.0, ""
        ticker: dict[str, Any] = {}
        for quoted, what in QUOTED_AS.items():
            at, row = sources.get(quoted, (0.0, None))
            if row.__class__ is dict:
                ticker = ticker or row
                last, when = last or str(row_value(row, what)), max(when, at)
        price, direction = self.directions.get(name, ("", ""))
        if last and last != price:
            direction = price_move(price, last)
            self.directions[name] = last, direction
        bid, ask = str(row_value(ticker, "bid")), str(row_value(ticker, "ask"))
        if book and not bid:
            bids, asks, _ = book_levels(book, 1)
            bid, ask = bids[0][0] if bids else "", asks[0][0] if asks else ""
        spread = book_best({"bids": [[bid]], "asks": [[ask]]})["spread"] if bid and ask else ""
        age = max(0.0, wall_clock() - when) if when else 0.0
        prices = [*self.histories.get(name, ()), price_number(last)]
        return BoardQuote(name, last, direction, row_change(ticker), bid, ask, spread, prices, age)

    def status(self, clients: Sequence[OkexWS], up: float, delay: float | None, now: float) -> list[str]:
        """The first line, and shorter forms of it."""
        server = urlsplit(passwordless(clients[0].url))
        more = f" +{len(clients) - 1}" if len(clients) > 1 else ""
        reconnects = sum(max(0, client.counts["connects"] - 1) for client in clients)
        ping = next((client.latency for client in clients if client.latency is not None), None)
        self.counted.append((now, sum(client.counts["messages"] for client in clients)))
        (begin, before), (end, after) = self.counted[0], self.counted[-1]
        rate = (after - before) / max(end - begin, 1.0)  # the first moments tell of no more than themselves
        parts = [] if all(map(is_connected, clients)) else ["NOT CONNECTED"]
        parts += [f"up {int(up) // 3600}:{int(up) // 60 % 60:02d}:{int(up) % 60:02d}", f"reconnects {reconnects}"]
        parts += [f"ping {ping:.1f} ms"] if ping is not None else []
        parts += [f"delay {delay:.0f} ms"] if delay is not None else []
        parts += [f"{rate:,.0f} msg/s"]
        long = "  ".join([f"{server.netloc}{server.path}{more}", *parts])
        shorter = "  ".join([f"{server.netloc}{more}", *parts])
        return [long, shorter, shorter.replace("  ", " ").replace("reconnects", "re").replace(" msg/s", "/s")]


def is_trade_channel(channel: str) -> bool:
    """Whether a channel has public trades."""
    return [what for _, what, _ in known_format(channel).parts] == ["price", "size", "side"]


def is_book_channel(channel: str) -> bool:
    return bool(dialect_of(channel).book(channel))


def quoted_as(channel: str) -> str:
    """Which of QUOTED_AS a channel's rows are; "" if they have no price."""
    parts = known_format(channel).parts
    first = parts[0][1] if parts else ""
    return "trade" if is_trade_channel(channel) else first if first in QUOTED_AS else ""


def book_levels(book: OrderBook | None, most: int) -> tuple[list[list[str]], list[list[str]], str]:
    """The best levels of both sides, and why there are none."""
    if book is None:
        return [], [], ""
    try:
        return *book.top(most), ""
    except BookOutOfSync as error:
        return [], [], str(error)


def trade_texts(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Time, price, size and side of a trade."""
    clock = row.get("time") or moment_text(row.get("ts") or row.get("timestamp", ""))
    return str(clock), str(row_value(row, "price")), str(row_value(row, "size")), row_side(row)


def buy_share(trades: list[Any]) -> str:
    """How much of the volume of these trades was bought; "" without any."""
    sizes = [(row_side(row), price_number(str(row_value(row, "size")))) for row in trades if row.__class__ is dict]
    total = sum(size for _, size in sizes)
    return f"{sum(size for side, size in sizes if side == 'buy') / total:.0%}" if total > 0 else ""


def price_number(text: str) -> float:
    """A price for a picture of it; 0 for what is no number."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if isfinite(value) else 0.0


def price_move(before: str, now: str) -> str:
    if not before or price_number(before) == price_number(now):
        return ""
    return "up" if price_number(now) > price_number(before) else "down"


def newest_delay(latest: dict[str, tuple[float, Any]]) -> float | None:
    """Milliseconds from the exchange's time of the newest row to its arrival, by this machine's clock."""
    rows = [(at, row) for channel, (at, row) in latest.items() if row.__class__ is dict and not is_candle(channel)]
    at, row = max(rows, key=lambda pair: pair[0], default=(0.0, {}))
    sent = candle_begin(row)  # which reads the time of any row
    return at * 1000 - sent if sent else None


def terminal_look() -> BoardLook:
    """What the terminal of stdout can show, by its encoding and the user's variables."""
    variables = os.environ
    named = variables.get("LC_ALL") or variables.get("LC_CTYPE") or variables.get("LANG") or "UTF-8"
    if named == "C.UTF-8" and not variables.get("LC_ALL") and variables.get("LANG") in ("C", "POSIX"):
        named = "C"  # Python itself has set LC_CTYPE (PEP 538)
    try:
        "".join(both[0] for both in GLYPHS.values()).encode(sys.stdout.encoding or "ascii")
        encodable = "UTF" in named.upper()
    except (LookupError, UnicodeError):
        encodable = False
    return BoardLook(colours=is_colourful(), unicode=encodable)


class BoardScreen:
    """The terminal while the board is on it: drawn, and left as it was, by a thread of its own."""

    ENTER = "\033[?1049h\033[?25l\033[?7l\033[2J"  # the alternate screen, no cursor, no wrapping
    LEAVE = "\033[0m\033[2J\033[?7h\033[?25h\033[?1049l"

    def __init__(self, draw: Callable[[int, int], list[str]], failed: Callable[[], None]) -> None:
        self.draw = draw  # columns, rows -> lines
        self.failed = failed  # called if drawing fails, when the terminal is as it was
        self.dumb = os.environ.get("TERM", "dumb") == "dumb"
        self.number = sys.stdout.fileno()
        self.encoding = sys.stdout.encoding or "ascii"
        self.closing = threading.Event()
        self.thread: threading.Thread | None = None
        self.shown: list[str] = []  # the lines on the screen
        self.size = (0, 0)
        self.settings: list[Any] = []  # the terminal's own

    def open(self) -> None:
        self.closing.clear()
        self.shown, self.size = [], (0, 0)
        self.thread = threading.Thread(target=self._run, name="okex_ws board", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Leave the terminal as it was, if it takes that within a second. From any thread, and more than once."""
        self.closing.set()
        thread = self.thread
        if thread and thread is not threading.current_thread():
            thread.join(1.0)

    def _run(self) -> None:
        failed = False
        try:
            self._enter()
            while not self.closing.wait(DUMB_BOARD_EVERY if self.dumb and self.shown else BOARD_EVERY):
                self._show(*os.get_terminal_size(self.number))
        except Exception:
            okex_log.exception("The board failed")
            failed = True
        finally:
            with suppress(Exception):  # the terminal is gone
                self._leave()
        if failed:
            self.failed()

    def _enter(self) -> None:
        if self.dumb:
            return
        with suppress(Exception):  # no termios here, or no terminal that has settings
            import termios

            self.settings = termios.tcgetattr(self.number)
            silent = termios.tcgetattr(self.number)
            silent[3] &= ~termios.ECHO  # keys would be drawn over the board
            termios.tcsetattr(self.number, termios.TCSANOW, silent)
        self._write(self.ENTER)

    def _leave(self) -> None:
        if self.dumb:
            return
        if self.settings:
            import termios

            termios.tcsetattr(self.number, termios.TCSAFLUSH, self.settings)
        self._write(self.LEAVE)

    def _show(self, columns: int, rows: int) -> None:
        """Draw what has changed since the last time, all of it on a terminal of another size."""
        lines = self.draw(columns, rows)
        if self.dumb:
            self._write("\n".join(line.rstrip() for line in lines) + "\n")
        else:
            anew = (columns, rows) != self.size
            old = [""] * len(lines) if anew else self.shown
            changed = [f"\033[{n};1H{line}" for n, line in enumerate(lines, 1) if line != old[n - 1]]
            self._write(("\033[2J" if anew else "") + "".join(changed))
        self.shown, self.size = lines, (columns, rows)

    def _write(self, text: str) -> None:
        data = text.encode(self.encoding, "backslashreplace")
        while data:
            data = data[os.write(self.number, data) :]


# ---------------------------------------------------------------------------------------------------------------
# Command line.

OFFLINE_CHANNEL = "ok_sub_futureusd_btc_trade_quarter"  # that of the original demo
EXIT_GRACE = 0.7  # seconds for the threads to end by themselves after a signal
LAST_GRACE = 3.0  # seconds after that, and after what is queued is written, until it exits whatever goes on
MAX_LOG_LINES = 1000  # that wait for a terminal that stands still
QUIET_DRAIN = 0.5  # seconds of writing at the end after which that is said, and Ctrl-C gives up
TELL_DRAIN = 2.0  # seconds after which it is said anew how much is left to write
TELL_PROGRESS = 60.0  # seconds between two lines on what was received, with --quiet and a sink
LOG_PATIENCE = 2.0  # seconds at the end for log lines to be shown
MAX_KEPT = 200  # log lines that the board can show
ROUTINE_LOG = re.compile(r"Ping sent|Pong received|\S+ subscribed\.$")  # those that it does not

OPTION_WORDS = ("--help", "--list", "--board", "--offline", "--version", "--quiet", "--trace", "--simulated")

EXAMPLES = """\
channels:
  v5  trades:BTC-USDT  tickers:BTC-USDT  candle1m:BTC-USDT  books:BTC-USDT-SWAP
  v3  spot/trade:BTC-USDT  swap/ticker:BTC-USD-SWAP  (retired by the exchange)
  v1  ok_sub_futureusd_btc_trade_quarter             (retired by the exchange)
  --list shows every kind, --list btc the instruments with BTC in their names

examples:
  python okex_ws.py                                     live trades of BTC-USDT
  python okex_ws.py --offline                           without a network
  python okex_ws.py --offline --board                   that on a live screen
  python okex_ws.py tickers:ETH-USDT candle1m:ETH-USDT  several channels
  python okex_ws.py 'tickers:*-USDT-SWAP'               all that match
  python okex_ws.py --jsonl - --count 100 > rows.jsonl  a hundred rows as JSON
  python okex_ws.py --proxy socks5h://127.0.0.1:1080    pip install python-socks
"""


def length_of_time(text: str) -> float:
    """90, 90s, 1.5m, 2h or 1d, in seconds."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)([smhd]?)", text)
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a length of time, like 90, 90s, 1.5m, 2h or 1d")
    return seconds


def length_or_none(text: str) -> float:
    """The same, or 0."""
    return 0.0 if re.fullmatch(r"0+[smhd]?", text) else length_of_time(text)


def positive_integer(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d{0,17}", text):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


class OneValue(argparse.Action):
    """An option that takes one value: of two, the first would be lost in silence."""

    def __call__(self, _parser: Any, args: argparse.Namespace, value: Any, option: str | None = None) -> None:
        if getattr(args, self.dest) is not self.default:
            raise argparse.ArgumentError(self, "given twice")
        setattr(args, self.dest, value)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="okex_ws.py",
        usage="%(prog)s [options] [CHANNEL ...]",
        allow_abbrev=False,
        description="Print OKEx/OKX market data as it happens.\nData goes to stdout, everything else to stderr.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.register("action", None, OneValue)  # for each option without another action
    add = parser.add_argument
    what = "what to receive (default: trades:BTC-USDT)"
    add("channels", action="store", nargs="*", metavar="CHANNEL", help=what)
    listing = "the kinds of channels (of v3, of v1); with a pattern or a part of a name, instruments"
    add("--list", nargs="?", const="", metavar="PATTERN", help=listing)
    add("--offline", action="store_true", help="use the stand-in exchange of the tests folder (default channel: v1)")
    add("--url", help="connect here; a host alone (wss://host) gets the exchange's own path")
    add("--region", choices=REGIONS, help="the account's: my.okx.com is eea, app.okx.com is us")
    add("--simulated", action="store_true", help="the exchange's hosts for simulated trading")
    add("--proxy", metavar="URL", help="http://, socks5:// or socks5h://[user:password@]host:port")
    depth = "order books as rows of their best N levels a side; printed, as a ladder"
    add("--depth", type=positive_integer, metavar="N", help=depth)
    add("--ping-every", type=length_of_time, metavar="SECONDS", help="default: 30 for v1, 25 for v3, 20 for v5")
    add("--seconds", type=length_of_time, metavar="N", help="stop by itself after so long; 90m, 2h and 1d, too")
    fill = "fetch trades and candles that are missing from so far back; 0 for none (default: 1h)"
    add("--fill", type=length_or_none, metavar="N", default=FILL_BACK, help=fill)
    add("--count", type=positive_integer, metavar="N", help="stop by itself after so many rows")
    for option, sink in SINKS.items():
        help = (sink.__doc__ or option).splitlines()[0]
        add(f"--{option}", metavar="URL" if "://" in help else "FILE", help=help)
    add("--name", help="with --redis: the NAME in its keys (default: default)")
    history = "with --redis: rows kept of each channel (default: 1000)"
    add("--history", type=positive_integer, metavar="N", help=history)
    board = "a live screen instead of lines (default channels: tickers of five instruments, a book and its trades)"
    add("--board", action="store_true", help=board)
    add("--quiet", action="store_true", help="on stderr only what goes wrong")
    add("--trace", action="store_true", help="on stderr every message both ways")
    add("--version", action="version", version=f"okex_ws {__version__}")
    args = parser.parse_intermixed_args(argv)  # channels may stand between options
    check_arguments(args, parser.error)
    return args


def check_arguments(args: argparse.Namespace, error: Callable[[str], Any]) -> None:
    """Fill in what depends on other arguments, and tell those that have no effect."""
    if args.list is not None and (args.channels or args.board or any(getattr(args, option) for option in SINKS)):
        error("--list takes one pattern, in quotes, and nothing that goes with channels")
    default_channels = BOARD_CHANNELS if args.board else [OFFLINE_CHANNEL if args.offline else "trades:BTC-USDT"]
    args.channels = list(dict.fromkeys(args.channels)) or default_channels
    if args.board and not (sys.stdout and sys.stdout.isatty()):
        error("--board draws on a terminal, and stdout is none")
    if args.board and args.jsonl == "-":
        error("--board and --jsonl - both want the terminal: give --jsonl a file")
    files = [os.path.realpath(target) for target in (args.jsonl, args.sqlite) if target not in (None, "-")]
    for file in filter(None, (args.jsonl, args.sqlite)):
        if re.match(r"[a-z][\w-]*:\w+-\w|ok_sub_|\w+/\w+:", file):
            error(f"{file} reads like a channel: --jsonl and --sqlite want a FILE first")
    if args.board and args.depth and not (files or args.redis):
        error("--depth has no effect on the board, which shows as many levels as there is room for")
    if len(set(files)) < len(files):
        error(f"--jsonl and --sqlite name the same file: {args.sqlite}")
    if args.offline and args.url:
        error("--offline brings its own server: leave --url out")
    for own, effect in (
        ("offline", "simulated"),
        ("offline", "region"),
        ("offline", "proxy"),
        ("url", "simulated"),
        ("url", "region"),
    ):
        if getattr(args, own) and getattr(args, effect):
            error(f"--{effect} has no effect with --{own}")
    args.region = args.region or "global"
    for option, default in (("name", "default"), ("history", 1000)):
        if getattr(args, option) is None:
            setattr(args, option, default)
        elif not args.redis:
            error(f"--{option} has no effect without --redis")


def watch_signals(act: Callable[[int], None], *more: int) -> None:
    """Call `act(number)`, on a thread of its own, for each SIGINT, SIGTERM and SIGHUP from now on, and each of `more`.

    A Python handler, and so KeyboardInterrupt, would wait for the main thread to run Python code again, which may
    take minutes while it is in getaddrinfo, looking up a name. The signal module's wakeup socket does not wait.
    """
    import signal

    inbox, outbox = socket.socketpair()
    outbox.setblocking(False)
    signal.set_wakeup_fd(outbox.fileno())
    watched = {signal.SIGINT, signal.SIGTERM, *more}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not after nohup
        watched.add(signal.SIGHUP)  # the terminal's window was closed
    for number in watched:
        signal.signal(number, lambda *_: None)

    def watch() -> None:
        with outbox:  # kept here: the signal module holds on to the number alone
            while True:
                for number in inbox.recv(16):
                    if number in watched:  # those that a script handles itself come here, too
                        act(number)

    threading.Thread(target=watch, name="okex_ws signals", daemon=True).start()


SUGGESTION = re.compile(r"(?<=Did you mean ).+(?=\?)|^  python okex_ws\.py .+", re.M)


def highlighted(text: str) -> str:
    """A text for stderr, with what it suggests in colour where that is wanted."""
    if not sys.stderr or not is_colourful(sys.stderr):
        return text
    return SUGGESTION.sub(lambda found: coloured(found[0], "suggestion"), text)


class Console(logging.Handler):
    """Log lines on stderr, written by a thread of their own.

    Nobody who logs waits for a terminal that stands still (Ctrl-S, a pipe that nobody reads). What is more than it can
    hold is counted, and said when it moves again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        self.lines: deque[str] = deque()
        self.dropped = 0
        self.kept: deque[str] = deque(maxlen=MAX_KEPT)  # for the board: lines without ROUTINE_LOG
        self.muted = False  # while the board is where the lines would go
        self.muted_trouble: deque[str] = deque(maxlen=20)  # to be shown when it has gone
        self.changed = threading.Condition()  # guards lines and dropped; never held while a line is written
        threading.Thread(target=self._run, name="okex_ws console", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = highlighted(self.format(record)) + "\n"
        except Exception:
            self.handleError(record)
            return
        if record.levelno > logging.INFO or not ROUTINE_LOG.match(record.getMessage()):
            self.kept.append(line.splitlines()[0])
        with self.changed:
            if self.muted:
                if record.levelno > logging.INFO:
                    self.muted_trouble.append(line)
            elif len(self.lines) < MAX_LOG_LINES:
                self.lines.append(line)
                self.changed.notify_all()
            else:
                self.dropped += 1

    def mute(self, muted: bool) -> None:
        """Keep lines off a terminal that the board is drawn on; show those of trouble when it is gone."""
        with self.changed:
            self.muted = muted and sys.stderr is not None and sys.stderr.isatty()
            if not self.muted:
                self.lines += self.muted_trouble
                self.muted_trouble.clear()
                self.changed.notify_all()

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.lines)
                line = self.lines[0]
            self._write(line)
            with self.changed:
                self.lines.popleft()
                if self.dropped:
                    self.lines.appendleft(f"{plural(self.dropped, 'lines')} not shown: nothing read them.\n")
                    self.dropped = 0
                self.changed.notify_all()

    @staticmethod
    def _write(line: str) -> None:
        with suppress(AttributeError, OSError, ValueError):  # stderr is closed, or there is none
            encoding, number = sys.stderr.encoding or "utf-8", sys.stderr.fileno()
            data = line.encode(encoding, "backslashreplace")
            while data:
                # Past sys.stderr, whose lock Python wants at exit, and does not get while this stands still.
                data = data[os.write(number, data) :]

    def flush(self) -> None:
        """Wait until everything is written, for a while."""
        with self.changed:
            self.changed.wait_for(lambda: not self.lines, LOG_PATIENCE)


def board_signals() -> tuple[int, ...]:
    """Signals of the keyboard that would leave the terminal with the board on it."""
    import signal

    return tuple(getattr(signal, name) for name in ("SIGTSTP", "SIGQUIT") if hasattr(signal, name))


def exit_now(status: int) -> None:
    """Exit whatever the other threads do, the main one included."""
    for handler in okex_log.handlers:
        handler.flush()
    os._exit(status)


class Run:
    """One run of the command line: its clients, the first of them on the main thread, and its sinks.

    It ends in two steps. `hang_up` notes the exit status and closes the clients, after which no row is taken; `drain`
    writes what is queued, and sums up. `shut_down` does both, for signals and timers.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        url: str | None,
        credentials: Credentials | None = None,
        console: Console | None = None,
    ) -> None:
        self.args, self.url, self.credentials = args, url, credentials
        self.console = console
        self.began = monotonic()
        self.running = False  # whether run() has started the clients
        self.clients: dict[tuple[Any, ...], OkexWS] = {}  # by URL, generation and number
        self.clients_lock = threading.Lock()  # so that run() or subscribe() starts a new client, and never both
        # Held while a message is printed and queued: one after another from all reading threads, so that each sink
        # gets them in the same order. While a queue is full, all of them wait here. Guards rows and waits.
        self.lock = threading.Lock()
        self.rows = 0
        self.waits: Counter[str] = Counter()  # how often a sink's queue was full
        self.connected = False  # whether any client ever was
        self.reason = ""  # why the last connection ended, or did not come about
        self.refusals: dict[str, str] = {}  # by channel, in the exchange's words
        self.status: int | None = None  # the exit status, once something has ended the run
        self.first_signal = 0.0  # monotonic
        self.draining = threading.Event()  # drain() has begun
        self.drain_began = 0.0  # monotonic
        self.drain_lock = threading.Lock()  # held for all of drain(), so that who comes second waits for it
        targets = {option: getattr(args, option) for option in SINKS if getattr(args, option) is not None}
        self.output: Handler | None = None
        self.depth = args.depth
        self.board = Board()
        self.screen: BoardScreen | None = None
        if targets.get("jsonl") == "-":
            self.output = json_rows
            del targets["jsonl"]
        elif args.board:
            self.output = self.board.note
            self.screen = BoardScreen(self.draw, self.board_failed)
        elif not targets:
            self.output = functools.partial(print_rows, ladder=args.depth or 1)
            self.depth = args.depth or 1  # the changes of a book are nothing to print
        if self.output and not sys.stdout:
            raise ValueError("stdout is closed: there is nothing to print to")
        self.subscribe(args.channels)
        if args.depth and not args.redis and not any(dialect_of(c).book(c) for c in args.channels):
            raise ValueError("--depth has no effect without an order book such as books:BTC-USDT")
        sinks = {option: self.make_sink(option, target) for option, target in targets.items()}
        self.writers = [Writer(option, sink) for option, sink in sinks.items()]
        self.recall(args.channels)

    def make_sink(self, option: str, target: str) -> Any:
        """Raises ValueError, in words, if a sink cannot be."""
        try:
            return SINKS[option](target, name=self.args.name, history=self.args.history, command=self.command)
        except OSError as error:
            why = f"{target}: {error.strerror}" if error.strerror else error
            raise ValueError(f"--{option}: {why}") from None
        except ValueError as error:
            raise ValueError(f"--{option}: {error}") from None

    def recall(self, channels: Iterable[str]) -> None:
        """Tell the clients what an earlier run kept of these channels, so that they go on there."""
        for kept in (writer.sink for writer in self.writers if isinstance(writer.sink, SQLite)):
            for channel in filter(series_of, channels):
                self.clients[self.place(channel)].recall(channel, kept.recall(channel, self.args.fill))

    def run(self) -> int:
        if threading.current_thread() is threading.main_thread():
            watch_signals(self.on_signal, *(board_signals() if self.screen else ()))
        if self.args.quiet and self.writers and sys.stderr and sys.stderr.isatty() and not self.screen:
            threading.Thread(target=self.tell_progress, name="okex_ws progress", daemon=True).start()
        if self.args.seconds:
            call_later(self.args.seconds, functools.partial(self.shut_down, 0))
        with self.clients_lock:
            first, *others = self.clients.values()
            self.running = True
        self.show_board()
        for client in others:
            client.start()
        try:
            first.run()
        except Exception as error:
            okex_log.error("Stopped: %s.", explain(error, first.url))
        self.hang_up(1)
        end = monotonic() + EXIT_GRACE
        for client in list(self.clients.values()):
            client.ended.wait(max(0.0, end - monotonic()))  # so that what it misses is told
        self.drain()
        return self.status or 0

    # Clients.

    def subscribe(self, channels: Iterable[str]) -> None:
        for channel in channels:
            self.refusals.pop(channel, None)
            with self.clients_lock:
                where = self.place(channel)
                known = self.clients.get(where)
                client = self.clients[where] = known or self.make_client(channel)
                running = self.running
            if known:
                known.subscribe(channel)
            elif running:
                client.start()

    def make_client(self, channel: str) -> OkexWS:
        names = ("region", "simulated", "proxy", "ping_every", "fill")
        options = {name: getattr(self.args, name) for name in names} | {"depth": self.depth}
        client = OkexWS(channel, self.handle, url=self.url, credentials=self.credentials, **options)
        client.on_status = self.on_status  # type: ignore[method-assign]
        client.found = self.found  # type: ignore[method-assign]
        return client

    def found(self, channels: list[str]) -> None:
        """Subscribe to what a client's patterns stand for, before it connects."""
        self.subscribe(channels)
        self.recall(channels)

    def place(self, channel: str) -> tuple[Any, ...]:
        """Which client has a channel, or is to have it: one for each endpoint, and one for each 30 order books."""
        dialect = dialect_of(channel)
        where = endpoint_of(channel, self.url, self.args.region, self.args.simulated), dialect
        if dialect.book(channel) != "changes" or is_pattern(channel):
            return *where, 0
        places = [place for place in self.clients if place[:2] == where]
        for place in places:
            if channel in self.clients[place].books:
                return place
        for place in places:
            if sum(not book.whole for book in list(self.clients[place].books.values())) < MAX_DEEP_BOOKS:
                return place
        return *where, len(places)

    def channels(self) -> dict[str, str]:
        """Each channel and how its subscription stands, see OkexWS.channels."""
        states: dict[str, str] = {}
        for client in list(self.clients.values()):
            states |= client.channels
        return states

    def command(self, op: str, channels: list[str]) -> Any:
        """What other programs may ask for, see RedisSink."""
        if op == "subscribe":
            if any(map(is_pattern, channels)):
                raise ValueError("patterns are for the start: subscribe to channels by their names")
            self.subscribe(channels)
        elif op == "unsubscribe":
            for client in list(self.clients.values()):
                client.unsubscribe(*channels)  # each drops those that it has, however they are spelled
        elif op == "confirm":
            return self.confirm(channels)
        elif op == "channels":
            return self.channels()
        elif op == "quit":
            self.shut_down(0)
        else:
            raise ValueError(f"no op {op!r}: there are subscribe, unsubscribe, confirm, channels and quit")
        return None

    def confirm(self, channels: list[str]) -> dict[str, str]:
        """How these channels stand once the exchange has answered, or after a while.

        Raises ValueError, with what the exchange said, if it refused one.
        """
        deadline = monotonic() + CONFIRM_PATIENCE
        while True:
            states = self.channels()
            asked = {channel: states.get(channel, "") for channel in channels}
            for channel in channels:
                if asked[channel] == "refused" and channel in self.refusals:
                    raise ValueError(self.refusals[channel])
            if set(asked.values()) <= {"confirmed", ""} or monotonic() > deadline:
                return asked
            pause(0.02)

    def on_status(self, status: str, detail: str) -> None:
        """What a client says of its connection."""
        with self.lock:
            self.enqueue("", (status, detail))
        if status == CONNECTED:
            self.connected = True
        if status in (DISCONNECTED, EXIT) and detail != "closed":
            self.reason = detail
        if status == REFUSED:  # "trades:A, trades:B: 60018 …"
            self.refusals |= dict.fromkeys(detail.partition(": ")[0].split(", "), detail)
        if status == REFUSED and set(self.channels().values()) == {"refused"} and not self.args.redis:
            okex_log.error("Every channel was refused: nothing to wait for.")
            self.hang_up(1)
        if status == EXIT and detail != "closed":
            self.hang_up(1)

    # Rows.

    def handle(self, channel: str, rows: list[Any]) -> None:
        with self.lock:
            if self.status is not None:
                return
            if self.args.count:
                rows = rows[: self.args.count - self.rows]
            self.rows += len(rows)
            if self.writers:
                self.enqueue(channel, rows)
            try:
                if self.output:
                    self.print(self.output, channel, rows)
            finally:
                if self.rows == self.args.count:
                    self.hang_up(0)

    def print(self, output: Handler, channel: str, rows: list[Any]) -> None:
        try:
            output(channel, rows)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                okex_log.error("Cannot write to stdout: %s.", error)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            self.hang_up(0 if isinstance(error, BrokenPipeError) else 1)

    def enqueue(self, channel: str, rows: Any) -> None:
        """Queue for every sink, waiting for one whose queue is full. Under the lock."""
        received = wall_clock()
        count = len(rows) if channel else 0
        try:
            item = marshal.dumps((received, channel, rows))
        except ValueError:  # nested too deeply: the writer says so, and counts it as a row
            item, count = marshal.dumps((received, channel, None)), 1
        for writer in self.writers:
            if writer.backlog > MAX_QUEUE:
                self.wait_for_room(writer)
            writer.put(item, count)

    def wait_for_room(self, writer: Writer) -> None:
        if not self.waits[writer.option]:
            message = "--%s is too slow, and its queue is full: receiving waits for it. Said once, counted each time."
            okex_log.warning(message, writer.option)
        self.waits[writer.option] += 1
        while writer.backlog > MAX_QUEUE and self.status is None:
            pause(0.01)

    # What a person sees.

    def draw(self, columns: int, rows: int) -> list[str]:
        """The lines of the board."""
        log = list(self.console.kept) if self.console else []
        picture = self.board.picture(list(self.clients.values()), self.began, log, self.sink_lines())
        return draw_board(picture, columns, rows, terminal_look())

    def sink_lines(self) -> list[str]:
        """What each sink has written."""
        lines = []
        for writer in self.writers:
            written, trouble = writer.written - writer.sink.refused, ", and it fails" if writer.failing else ""
            lines.append(f"--{writer.option}: {plural(written, 'rows')} written, {writer.waiting} waiting{trouble}")
        return lines

    def show_board(self) -> None:
        if self.screen:
            if self.console:
                self.console.mute(True)
            self.screen.open()

    def leave_board(self) -> None:
        """Give the terminal back. From any thread, and more than once."""
        if self.screen:
            self.screen.close()
            if self.console:
                self.console.mute(False)

    def board_failed(self) -> None:
        """There is no board any more: without a sink, there is nothing left to do."""
        if self.console:
            self.console.mute(False)
        if not self.writers:
            self.hang_up(1)

    def tell_progress(self) -> None:
        """With --quiet and a sink, a line a minute for who watches a terminal."""
        before = 0
        while not self.draining.wait(TELL_PROGRESS):
            waiting = sum(writer.waiting for writer in self.writers)
            rate = (self.rows - before) / TELL_PROGRESS
            before = self.rows
            okex_log.warning("%s so far, %.1f a second, %d waiting.", plural(before, "rows"), rate, waiting)

    # The end.

    def hang_up(self, status: int) -> None:
        """Note the exit status, unless there is one, and close the clients. From any thread, at once."""
        if self.status is None:
            self.status = status
        for client in list(self.clients.values()):
            client.close()

    def drain(self) -> None:
        """Once: write what is queued, and sum up."""
        with self.drain_lock:
            if self.draining.is_set():
                return
            self.draining.set()
            self.leave_board()
            if self.lock.acquire(timeout=0.1):  # a message that is being handled is still queued
                self.lock.release()
            self.drain_began = monotonic()
            for writer in self.writers:
                writer.start_draining()  # all of them, before one is waited for
            lost = [writer for writer in self.writers if not writer.drain(self.drain_began)]
            if not self.status and (lost or not self.connected):
                self.status = 1
            self.sum_up()
            if not self.connected:
                okex_log.error("Never connected: %s.", self.reason or "the first try did not come to an end")

    def shut_down(self, status: int) -> None:
        """Hang up, drain and exit, even if the main thread is stuck in a write that nobody reads."""
        self.hang_up(status)
        if not self.draining.wait(EXIT_GRACE):
            self.drain()
            self.exit_now(self.status or 0)

    def on_signal(self, number: int) -> None:
        """End the run; at once if rows are written after its end already. On the thread of watch_signals."""
        import signal

        if number in board_signals():
            self.interrupt_board(number)
            return
        status = 130 if number == signal.SIGINT else 0
        if self.drain_began and monotonic() - self.drain_began > QUIET_DRAIN:
            self.give_up(status or 1)
        if self.first_signal:
            return  # a double press
        self.first_signal = monotonic()
        with suppress(RuntimeError):  # since Python 3.12, when the main thread has ended: then there is nothing to do
            patience = EXIT_GRACE + (MAX_DRAIN if self.writers else 0.0) + LAST_GRACE
            call_later(patience, lambda: self.exit_now(status or int(not self.connected)))
            threading.Thread(target=self.shut_down, args=(status,), daemon=True).start()

    def give_up(self, status: int) -> None:
        for writer in self.writers:
            if writer.thread.is_alive():
                okex_log.error("--%s: gave up: %s lost.", writer.option, plural(writer.waiting, "rows"))
        self.exit_now(status)

    def exit_now(self, status: int) -> None:
        self.leave_board()
        exit_now(status)

    def interrupt_board(self, number: int) -> None:
        """Ctrl-Z and Ctrl-\\ do what they do to every program, but on the terminal's own screen."""
        import signal

        self.leave_board()
        if number == signal.SIGQUIT:
            self.exit_now(128 + number)
        os.kill(os.getpid(), signal.SIGSTOP)  # here it goes on with SIGCONT
        self.show_board()

    def sum_up(self) -> None:
        clients = list(self.clients.values())
        counts = sum((client.counts for client in clients), Counter[str]())
        reconnects = counts["connects"] - sum(1 for client in clients if client.counts["connects"])
        known = ("messages", "connects", *SERIES_COUNTS)
        parts = [plural(reconnects, "reconnects")]
        parts += [plural(n, what) for what, n in counts.items() if what not in known]
        if counts["holes"]:
            parts += [plural(counts[what], what) for what in SERIES_COUNTS]
        parts += [plural(n, f"waits for --{option}") for option, n in self.waits.items()]
        refused = {writer.option: writer.sink.refused for writer in self.writers}
        parts += [f"{plural(w.written - w.sink.refused, 'rows')} written by --{w.option}" for w in self.writers]
        parts += [plural(n, f"rows refused by --{option}") for option, n in refused.items() if n]
        received = f"{plural(self.rows, 'rows')} in {plural(counts['messages'], 'messages')}"
        okex_log.info("%s over %.1f s, %s.", received, monotonic() - self.began, ", ".join(parts))


def start_stand_in() -> tuple[str, Credentials]:
    """Start the stand-in exchange of the tests folder on a free port of this machine; its URL and its key."""
    folder = Path(__file__).resolve().parent / "tests"
    if not (folder / "exchange.py").exists():
        raise ValueError("--offline needs tests/exchange.py from the repository beside okex_ws.py")
    sys.path.insert(0, str(folder))
    exchange = importlib.import_module("exchange").Exchange().start()
    okex_log.info("Offline: a stand-in exchange, prices made up, at %s.", exchange.url)
    return exchange.url, Credentials(*exchange.keys)


def rest_of(args: argparse.Namespace, url: str | None) -> Rest:
    """The REST API that goes with the arguments."""
    server = endpoint_of("trades:BTC-USDT", url, args.region, args.simulated)
    return Rest(server, args.simulated, proxy_options(args.proxy, server))


def check_channels(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Raise ValueError for channels that cannot exist, or that OKX has given up, with the commands that can be run."""
    problems, meant, question = [], {}, "Did you mean"
    for channel in args.channels:
        wrong = misnomer(channel)
        names = wrong.meant if wrong else [channel]
        dialect = dialect_of(names[0].split()[0]) if names else V5
        if dialect.retired and not args.offline and not args.url:
            future = functools.partial(future_or_form, Instruments(rest_of(args, None)))
            names = list(dict.fromkeys(filter(None, (todays_channel(name, future) for name in names))))
            question = "What carries the same today"
            wrong = Misnomer(
                f"{printable_text(channel)} is of {dialect.name}, which OKX gave up in {dialect.retired}", names
            )
        speaks = re.search(r"/ws/(v[135])(/|$)", args.url or "")
        if speaks and speaks[1] != dialect.name and not wrong:
            raise ValueError(f"{passwordless(args.url)} speaks {speaks[1]}, and {channel} is of {dialect.name}")
        if wrong:
            problems.append(f"{wrong.problem}.")
            meant[channel] = names
    options = [channel for channel in meant if f"--{channel}" in OPTION_WORDS]
    if options:
        problems = [f"{channel} is an option, and begins with --." for channel in options]
        meant = {channel: [f"--{channel}"] for channel in options if f"--{channel}" not in words}
    if problems:
        commands = suggested_commands(args, words, meant)
        raise ValueError("\n".join([*problems, *([f"{question}:", *commands] if commands else [])]))


def suggested_commands(args: argparse.Namespace, words: Sequence[str], meant: dict[str, list[str]]) -> list[str]:
    """The command lines that were meant: one for each name that the first channel may have, others with their first."""
    from shlex import join

    if not meant or not all(meant.values()):
        return []
    lines = []
    prints = not args.depth and not args.board and not any(getattr(args, option) for option in SINKS)
    first, *others = meant
    for name in meant[first]:
        corrected = {first: name} | {other: meant[other][0] for other in others}
        line = [part for word in words for part in (corrected[word].split() if word in corrected else [word])]
        deep = not name.startswith("-") and dialect_of(name.split()[0]).book(name) == "changes"
        lines.append("  python okex_ws.py " + join([*line, *(["--depth", "5"] if prints and deep else [])]))
    if "YYMMDD" in str(meant):
        lines.append("The dates could not be looked up: --list BTC-USD- shows them.")
    return lines


def future_or_form(instruments: Instruments, index: str, when: str) -> str:
    try:
        return instruments.future(index, when)
    except (OSError, ValueError, websocket.WebSocketException):
        return f"{index}-YYMMDD"


def show_list(args: argparse.Namespace, url: str | None) -> int:
    """Print what --list asks for. The exit status: 1 if there is nothing, or if it cannot be had."""
    rest = rest_of(args, url)
    if not sys.stdout:
        raise ValueError("stdout is closed: there is nothing to print to")
    generation = {"": V5, "v5": V5, "v3": V3, "v1": V1}.get(args.list)
    sought = printable_text(args.list)
    trouble = f"No instrument that is traded now matches {sought}; options are listed by family: 'BTC-USD-*-C'."
    try:
        lines = list_instruments(Instruments(rest), args.list) if not generation else list(list_kinds(generation))
    except (OSError, ValueError, websocket.WebSocketException) as error:
        lines, trouble = [], f"The list cannot be had: {explain(error, rest.server, rest.proxy)}."
    if not lines and not is_pattern(args.list):
        lines = list(list_kinds(V5, args.list))  # for which nobody needs to be asked
    if not lines:
        okex_log.error(trouble)
        return 1
    try:
        print("\n".join(lines), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        if isinstance(error, BrokenPipeError):  # | head
            return 0
        okex_log.error("Cannot write to stdout: %s.", error)
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    console = Console()
    logging.raiseExceptions = False  # a log line that cannot be written is no reason for a traceback
    okex_log.handlers = [console]
    okex_log.propagate = False
    okex_log.setLevel(logging.WARNING if args.quiet else logging.INFO)
    if args.trace:
        okex_log.setLevel(logging.DEBUG)
    with suppress(AttributeError):  # a console without UTF-8 gets escapes, not an exception
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        check_channels(args, sys.argv[1:] if argv is None else argv)
        url, credentials = start_stand_in() if args.offline else (args.url, None)
        if args.list is not None:
            console.flush()
            return show_list(args, url)
        run = Run(args, url, credentials, console)
    except (ImportError, OSError, ValueError) as error:
        console.flush()  # so that this comes last
        print(highlighted(f"okex_ws.py: {mask_secrets(str(error))}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    try:
        return run.run()
    finally:
        run.leave_board()


if __name__ == "__main__":  # leave this out where you paste the file into a script of your own
    sys.exit(main())
