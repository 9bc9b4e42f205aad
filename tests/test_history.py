"""History first: what came before a channel's first live row, in order, each row once, also in files."""

import json
import random
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import suppress
from functools import partial

import pytest
from conftest import Client, finish, program, wait_for
from exchange import Exchange
from test_series import BARS, CANDLES, TRADES, numbers, rows_of, steps, walk, whole

import okex_ws

CHANNELS = {TRADES: [TRADES], CANDLES: [CANDLES, BARS, "mark-price-candle1m:BTC-USDT", "trades-all:BTC-USDT"]}


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(okex_ws.FILL_PACE, "spacing", 0.0)


def history_first(channel, rows, since):
    """Whether the oldest rows come first, then all that are live, and none is missing or there twice."""
    live = [n for n, row in enumerate(rows) if "restored" not in row]
    assert live and whole(channel, rows), channel
    history = numbers(channel, rows[: live[0]])
    assert history == sorted(history) and len(history) == since, channel
    return [row for row in rows[live[0] :] if "restored" not in row]


@pytest.mark.parametrize("channel", CHANNELS)
def test_history_comes_before_live_rows_without_a_hole_or_a_repeat(exchange, connect, channel):
    """Though REST is slow, fails, and its pages are short or overlap."""
    rng, exchange.aggregates, exchange.rest_delay = random.Random(channel), True, 0.2

    def unruly(path, query, rows):
        overlap = query | {"after": str(int(query["after"]) + rng.choice([0, 10]))} if "after" in query else query
        return exchange.rest(path, overlap)[: rng.choice([20, 50, 100])]

    exchange.rest_rows = unruly
    client = connect(*CHANNELS[channel], since=300)
    for name in CHANNELS[channel]:
        wait_for(lambda name=name: any("restored" not in row for row in rows_of(client, name)))
        wait_for(lambda name=name: whole(name, rows_of(client, name)))
        assert history_first(name, rows_of(client, name), 300)
    assert not client.counts["missing"] and not client.saw(okex_ws.GAP)


def test_history_goes_back_so_long_for_every_channel_of_a_pattern(exchange, connect):
    client = connect("candle1m:B*-USDT", "trades-all:BTC-USDT", since="3h", fill=0.0)
    channels = wait_for(
        lambda: len(client.channels) > 2 and "candle1m:B*-USDT" not in client.channels and client.channels
    )
    for name in channels:
        wait_for(lambda name=name: any("restored" not in row for row in rows_of(client, name)), case=name)
        rows = [row for row in rows_of(client, name) if "restored" in row]
        oldest = (int(rows[0]["ts"]) + steps(name)) / 1000
        assert 0 <= oldest - (time.time() - 3 * 3600) < 120 and whole(name, rows), name


def test_without_an_answer_of_rest_live_rows_go_ahead_and_history_follows(exchange, connect, caplog):
    exchange.rest_status, began = 503, time.monotonic()
    clients = {name: connect(name, since=150) for name in (TRADES, CANDLES)}
    wait_for(lambda: all(client.rows for client in clients.values()))
    assert time.monotonic() - began > 9.5 and caplog.text.count("live rows go ahead") == 2
    exchange.rest_status = 0
    for name, client in clients.items():
        assert "restored" not in client.rows[0][1]
        wait_for(lambda client=client: client.counts["rows restored"] >= 150)
        wait_for(lambda name=name, client=client: whole(name, rows_of(client, name)))


def test_more_than_ten_thousand_rows_do_not_wait_for_history(exchange, connect, caplog):
    exchange.every, exchange.rest_delay = 0.0001, 5.0
    client = connect(TRADES, since=100)
    wait_for(lambda: client.rows)
    assert "its history takes long" in caplog.text and "restored" not in client.rows[0][1]
    exchange.every, exchange.rest_delay = None, 0.0
    wait_for(lambda: client.counts["rows restored"] and whole(TRADES, rows_of(client, TRADES)))


def rows_in(path):
    """The rows of an SQLite file, by channel; of candles those that are final."""
    rows = {TRADES: [], CANDLES: []}
    with suppress(sqlite3.OperationalError), sqlite3.connect(path) as db:
        for channel, text in db.execute("SELECT channel, row FROM rows ORDER BY rowid"):
            row = json.loads(text)
            rows[channel] += [row] if row.get("confirm", "1") == "1" else []
    return rows


def test_a_file_gets_of_a_history_what_it_lacks(tmp_path):
    path = tmp_path / "rows.db"

    def has(trades, candles):
        rows = rows_in(path)
        enough = len(rows[TRADES]) >= trades and len(rows[CANDLES]) >= candles
        return enough and all(whole(name, rows[name]) for name in rows)

    with Exchange(every=0.02) as exchange:
        for since, more in ((100, 100), (150, 40), (2000, 1500), (100, 1)):
            trades, fewest = len(rows_in(path)[TRADES]), max(since, len(rows_in(path)[CANDLES]))
            options = ("--url", exchange.url, "--sqlite", path, "--since", str(since))
            process = program(TRADES, CANDLES, *options, stdout=subprocess.DEVNULL)
            wait_for(partial(has, trades + more, fewest))
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=20)
            assert process.returncode == 0 and not re.search("stay missing|do not exist", err), err
            walk(exchange, 300)  # more trades than the next history has


def test_a_length_of_history_is_a_time_or_rows_and_ctrl_c_ends_the_wait_for_it(exchange):
    for since in ("soon", "-5", -5, "2 h", float("nan")):
        with pytest.raises(ValueError, match="neither a length of time"):
            Client([TRADES], url=exchange.url, since=since)
    for channel in ("tickers:BTC-USDT", "books:BTC-USDT", "candle5D:BTC-USDT", "tickers:*"):
        with pytest.raises(ValueError, match="no effect"):
            Client([channel], url=exchange.url, since="2h")
        status, _, err = finish(channel, "--url", exchange.url, "--since", "2h")
        assert status == 2 and "no effect" in err, channel
    exchange.rest_delay = 60.0
    process = program("tickers:BTC-USDT", TRADES, CANDLES, "--url", exchange.url, "--since", "2h")
    wait_for(lambda: len(exchange.fetched) == 2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and time.monotonic() - began < 3 and "2 channels not looked up" in err
