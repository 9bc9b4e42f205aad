"""Pasted into a trading script, the file must survive what the script defines and imports, and leave it alone."""

import sys
import types
from pathlib import Path

import pytest
from conftest import wait_for

import okex_ws

FILE = Path(okex_ws.__file__)
PASTED = compile("".join(FILE.read_text().splitlines(keepends=True)[:-2]), FILE.name, "exec")

CALLBACKS = ["on_open", "on_message", "on_error", "on_close"]  # the card's own names: the script's come below it
NAMES = """
    count log logger port price side size data url fields secrets mask handler on_ticker on_trade symbol symbols
    channel channels ws client row rows book books trades orders order position positions balance api_key secret_key
    passphrase timestamp now ts message msg result queue thread lock event events signal stat state status args config
    name key value text debug endpoint host random time datetime json decode encode compact describe moved deleted
    partial LONG SHORT number chain closing Future Timer result results amount
    sleep login sign subscribe namer masked hide bare printable open_orders last bid ask high low close volume
    PRICE SIZE SIDE BID ASK LAST OPEN HIGH LOW CLOSE VOLUME TRADE TICKER GREEN RED SYMBOL CHANNEL URL HOST PORT TIMEOUT
""".split()
IMPORTS = [
    "import datetime",
    "from datetime import datetime",
    "from time import time, sleep",
    "import time",
    "import json",
    "import random",
    "from random import random, choice",
    "from math import log, floor",
    "from asyncio import sleep, Event, Queue",
    "from threading import Event, Thread, Lock",
    "from queue import Queue, Empty",
    "from collections import deque, Counter, defaultdict",
    "from decimal import *",
    "from typing import *",
    "import signal, stat, queue, logging, hmac, base64",
]
CHANNELS = ["ok_sub_futureusd_btc_kline_quarter_1min", "trades:BTC-USDT", "books:BTC-USDT", "candle1m:BTC-USDT"]


@pytest.fixture
def script():
    """A module that is empty but for its name."""
    module = types.ModuleType("script")
    sys.modules["script"] = module
    yield vars(module)
    del sys.modules["script"]


def receives_rows(script, exchange):
    """Run a client of the pasted file for each kind of channel, until it has printed a row and kept a book."""
    script["CONNECT_SPACING"] = 0.0
    clients = []
    try:
        for channel in CHANNELS:
            printed = []
            ws = script["OkexWS"]([channel], url=exchange.url, ping_every=0.06)
            clients.append((ws, printed))
            show = ws.handler
            ws.handler = lambda channel, rows, show=show, printed=printed: (show(channel, rows), printed.extend(rows))
            ws.start()
        for ws, printed in clients:
            wait_for(lambda ws=ws, printed=printed: printed and ws.latency)
            assert not ws.counts["handler errors"] and not ws.counts["malformed"]
            assert all(isinstance(row, dict) for row in printed)
            if ws.books:
                assert ws.books[CHANNELS[2]].best_bid
    finally:
        for ws, _ in clients:
            ws.close()


def neighbours():
    cases = {name: f"{name} = 7" for name in NAMES} | {line: line for line in IMPORTS}
    cases |= {
        name: f"def {name}(*arguments):\n    raise AssertionError('{name} of the script was called')"
        for name in CALLBACKS
    }
    cases["inflate"] = "def inflate(data):\n    raise AssertionError('inflate of the script was called')"
    cases["send_heartbeat"] = "def send_heartbeat(ws):\n    raise AssertionError('that of the script was called')"
    cases["everything at once"] = "\n".join(cases.values())
    return cases


@pytest.mark.parametrize("code", neighbours().values(), ids=neighbours())
def test_what_a_script_has_below_the_paste_does_not_stop_the_client(script, exchange, code):
    exec(PASTED, script)
    exec(code, script)
    receives_rows(script, exchange)


def test_the_paste_takes_no_name_away_from_the_script_above_it(script, exchange):
    lines = [f"{name} = 7" for name in NAMES if name not in ("fields", "endpoint")]  # these two are public
    exec("\n".join(lines), script)
    before = dict(script)
    exec(PASTED, script)
    assert {name: value for name, value in script.items() if name in before and name in NAMES} == {
        name: before[name] for name in before if name in NAMES
    }
    receives_rows(script, exchange)
