"""Pasted into a trading script, the file must survive what the script defines and imports, and leave it alone."""

import builtins
import dis
import re
import types
from pathlib import Path
from typing import get_origin

from conftest import wait_for

import okex_ws

FILE = Path(okex_ws.__file__)
PASTED = compile("".join(FILE.read_text().splitlines(keepends=True)[:-2]), FILE.name, "exec")
CHANNELS = ["ok_sub_futureusd_btc_kline_quarter_1min", "trades:BTC-USDT", "books:BTC-USDT", "candle1m:BTC-USDT"]
BUY = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "1", "sz": "0.01"}

NAMES = """
    count log logger port price side size data url fields endpoint secrets mask handler on_ticker on_trade symbol
    symbols channel channels ws client row rows book books trades orders order position positions balance api_key
    secret_key passphrase timestamp now ts message msg result queue thread lock event events signal stat state status
    args config name key value text debug host random time datetime json decode encode compact describe moved deleted
    partial LONG SHORT number chain closing Future Timer results amount sleep login sign subscribe namer masked hide
    bare printable open_orders last bid ask high low close volume PRICE SIZE SIDE BID ASK LAST OPEN HIGH LOW CLOSE
    VOLUME TRADE TICKER GREEN RED SYMBOL CHANNEL URL HOST PORT TIMEOUT wait run fill rest stop start end entry retry
    backoff spread fee pnl equity margin leverage strategy bot mid best_bid best_ask buy sell cancel place_order
    params headers request response session candles bars ticker tick history cache connected running timeout interval
    delay connection reader writer parser error levels level snapshot update coin coins pair base token instrument
    instruments market exchange account on_status on_order Order Trade Candle Ticker Position Side Book Level Bar
    Strategy Bot Trader Exchange Account Config Status State API_KEY SECRET_KEY PASSPHRASE INTERVAL WINDOW LEVERAGE
    FEE QTY LIMIT MARKET DEPTH CHANNELS SYMBOLS WS_URL MAX_RETRIES clients
""".split()
# The file's own names, too.
FUNCTIONS = "on_open on_message on_error on_close inflate send_heartbeat main replay".split()
IMPORTS = """
    import datetime; from datetime import datetime; from time import time, sleep; import time; import json
    import random; from random import random, choice; from math import log, floor; from asyncio import sleep, Queue
    from threading import Thread, Lock, Timer; from queue import Queue, Empty; from decimal import *
    from collections import deque, Counter, defaultdict; from dataclasses import dataclass, field, fields
    from typing import *; from math import *; from time import *
    import signal, stat, queue, logging, hmac, base64, socket, websocket
"""

# BREAKS TODAY: what okex_ws.py calls like this has to be called otherwise; move each into NAMES once it is.
#   looked up by every client: Reader Orders Login Rest Frames Filler Finder Subscription OrderBook Credentials pause
#       explain to_json from_json socket websocket CONNECTED DISCONNECTED SUBSCRIBED EXIT GAP CHUNK MAX_RETRY MAX_LAG
#       CONNECT_TIMEOUT Recorder; where it is needed: OrderError LoginError quote plural REFUSED INSTRUMENT TRANSIENT
#   taken from a script above it: Console Board Writer Run MAX_QUEUE Connection Handler Pace
# and in IMPORTS: "from threading import Event", "from asyncio import Event"


def looked_up(code):
    """The names that functions look up in the script when they are called: for each, the functions."""
    found = {}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for instruction in dis.get_instructions(inner):
                if instruction.opname == "LOAD_GLOBAL":
                    found.setdefault(instruction.argval, set()).add(inner.co_name)
            for name, where in looked_up(inner).items():
                found.setdefault(name, set()).update(where)
    return found


def clashes(piece, pasted, lookups):
    """Names that a piece of a script and the pasted file both have, for different things."""
    script = {}
    exec(piece, script)
    public = {*okex_ws.__all__, *FUNCTIONS}
    for name, value in script.items():
        ours = pasted.get(name, getattr(builtins, name, None))
        if name == "__builtins__" or ours is (get_origin(value) or value):
            continue  # typing.Counter does as collections.Counter
        if name in lookups:
            yield f"{piece}: {name} is looked up by {', '.join(sorted(lookups[name]))}"
        elif name in pasted and name not in public:
            yield f"{piece}: {name} is taken from a script that has it above the paste"


def pieces():
    """What a script may have, each by itself."""
    functions = [f"def {name}(*_):\n    raise AssertionError('{name} of the script was called')" for name in FUNCTIONS]
    return [*(f"{name} = 7" for name in NAMES), *map(str.strip, re.split("[;\n]", IMPORTS.strip())), *functions]


def works(exchange, above=(), below=()):
    """Paste the file among pieces of a script: each kind of channel has a row, a book, and an order its answer."""
    script = {"__name__": "script"}
    exec("\n".join(above), script)
    exec(PASTED, script)
    client, credentials = script["OkexWS"], script["Credentials"]
    script["CONNECT_PACE"].spacing = 0.0
    exec("\n".join(below), script)
    clients = []
    try:
        for channel in CHANNELS:
            printed = []
            ws = client([channel], url=exchange.url, ping_every=0.06)
            clients.append(ws)
            show = ws.handler
            ws.handler = lambda channel, rows, show=show, printed=printed: (show(channel, rows), printed.extend(rows))
            ws.start()
            wait_for(lambda ws=ws, printed=printed: printed and ws.latency)
            assert not ws.counts["handler errors"] and not ws.counts["malformed"]
            assert all(isinstance(row, dict) for row in printed)
            assert all(book.best_bid for book in ws.books.values())
        trader = client([], url=exchange.url, credentials=credentials(*exchange.keys))
        clients.append(trader)
        trader.start()
        assert trader.request("order", BUY, 30.0)[0]["sCode"] == "0"
    finally:
        for ws in clients:
            ws.close()


def test_no_name_of_a_script_means_something_else_to_the_pasted_file():
    pasted, lookups = {"__name__": "script"}, looked_up(PASTED)
    exec(PASTED, pasted)
    assert "send_heartbeat" in lookups["monotonic"]
    found = [clash for piece in pieces() for clash in clashes(piece, pasted, lookups)]
    assert not found, "\n".join(found)


def test_clients_run_with_everything_that_a_script_has_below_the_paste_or_above(exchange):
    works(exchange, below=pieces())
    works(exchange, above=pieces())
