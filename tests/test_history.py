"""History first: what came before a channel's first live row, in order, each row once, also in files."""

import random
import re
import signal
import subprocess
import time
from functools import partial

import pytest
from conftest import Client, finish, program, until, wait_for
from exchange import Exchange
from test_series import BARS, CANDLES, TRADES, kept, numbers, rows_of, steps, walk, whole

import okex_ws


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(okex_ws.FILL_PACE, "spacing", 0.0)


@pytest.mark.parametrize("channels", [[TRADES], [CANDLES, BARS, "mark-price-candle1m:BTC-USDT", "trades-all:BTC-USDT"]])
def test_history_comes_before_live_rows_without_a_hole_or_a_repeat(exchange, connect, channels):
    """Though REST is slow, and its pages are short or overlap; it goes back from the first live row."""
    rng, exchange.aggregates, exchange.rest_delay = random.Random(13), True, 0.4

    def unruly(path, query, rows):
        overlap = query | {"after": str(int(query["after"]) + rng.choice([0, 10]))} if "after" in query else query
        return exchange.rest(path, overlap)[: rng.choice([20, 50, 100])]

    exchange.rest_rows = unruly
    client = connect(*channels, since=300)
    for name in channels:
        wait_for(lambda name=name: any("restored" not in row for row in rows_of(client, name)))
        wait_for(lambda name=name: whole(name, rows_of(client, name)))
        live = ["restored" not in row for row in rows_of(client, name)].index(True)
        first = numbers(name, rows_of(client, name)[:live])
        assert first == sorted(first) and len(first) == 300, name
    assert not client.counts["missing"] and not client.saw(okex_ws.GAP) and client.counts["repeated rows"] < 9


def test_a_history_is_handed_over_before_live_rows_though_it_takes_long_and_says_that_it_is_short(
    exchange, connect, monkeypatch, caplog
):
    def slow(self, channel, rows):
        time.sleep(0.05 * len(rows))
        self.rows += [(channel, row) for row in rows]

    now = time.time()
    caplog.set_level("INFO", "okex_ws")
    monkeypatch.setattr(Client, "remember", slow)
    monkeypatch.setattr(okex_ws.OkexWS, "exchange_time", lambda self: 20 * time.time() - 19 * now)  # it takes 40 s
    exchange.rest_rows, exchange.every = lambda path, query, rows: [] if "after" in query else rows[:40], 0.2
    client = connect(TRADES, since=100)
    wait_for(lambda: any("restored" not in row for row in rows_of(client, TRADES)))
    [many] = re.findall(r"(\d+) rows of history, not 100; the others: not listed by REST\.", caplog.text)
    assert ["restored" in row for row in rows_of(client, TRADES)].index(False) == int(many) > 20


def test_history_goes_back_so_long_for_every_channel_of_a_pattern(exchange, connect):
    client = connect("candle1m:B*-USDT", "trades-all:BTC-USDT", since="3h", fill=0.0)
    wait_for(lambda: len(client.channels) > 2 and "candle1m:B*-USDT" not in client.channels)
    for name in client.channels:
        wait_for(lambda name=name: any("restored" not in row for row in rows_of(client, name)), case=name)
        rows = [row for row in rows_of(client, name) if "restored" in row]
        oldest = (int(rows[0]["ts"]) + steps(name)) / 1000
        assert abs(oldest - (time.time() - 3 * 3600)) < 120 and whole(name, rows), name  # it was asked for a moment ago


def test_without_an_answer_of_rest_live_rows_go_ahead_and_history_follows(exchange, connect, caplog):
    exchange.rest_status, began = 503, time.monotonic()
    clients = {name: connect(name, since=150) for name in (TRADES, CANDLES)}
    known = Client([TRADES], url=exchange.url, since=150)  # as if a sink had rows
    kept = exchange.rest("/api/v5/market/history-trades", {"instId": "BTC-USDT", "type": "1", "limit": "50"})[::-1]
    known.recall(TRADES, [row | {"count": "1"} for row in kept])
    walk(exchange, 200)
    known.start()
    wait_for(lambda: all(client.rows for client in [known, *clients.values()]))
    assert time.monotonic() - began > 9.5
    wait_for(lambda: caplog.text.count("live rows go ahead") == 2)  # each channel's
    exchange.lost[TRADES] = 4  # which is a hole, and no history
    wait_for(lambda: not exchange.lost[TRADES])
    exchange.rest_status = 0
    wait_for(lambda: whole(TRADES, rows_of(known, TRADES)) and known.counts["rows restored"] > 200)
    assert min(numbers(TRADES, rows_of(known, TRADES))) == int(kept[-1]["tradeId"]) + 1
    known.close()
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


def test_a_file_gets_of_a_history_what_it_lacks(tmp_path):
    path, have = tmp_path / "rows.db", {TRADES: [], BARS: []}

    def has(more):
        rows = kept(path)
        return all(len(rows[name]) >= len(have[name]) + more and whole(name, rows[name]) for name in rows)

    with Exchange(every=0.02) as exchange:
        for since, more in (("100", 100), ("150", 40), ("2000", 1500), ("100", 1)):
            options = ("--url", exchange.url, "--sqlite", path, "--since", since)
            process = program(TRADES, BARS, *options, stdout=subprocess.DEVNULL)
            said = until(process.stderr, f"{TRADES}: {since} rows of history", f"{BARS}: {since} rows of history")
            wait_for(partial(has, more))
            process.send_signal(signal.SIGTERM)
            said += process.communicate(timeout=20)[1]
            assert process.returncode == 0 and not re.search("stay missing|do not exist", said), said
            have = kept(path)
            walk(exchange, 300)  # more trades than the next history has


def test_a_channel_that_is_wanted_again_gives_a_file_what_it_lacks(tmp_path, exchange, connect):
    path = tmp_path / "rows.db"
    client = connect(TRADES, since=50, sinks={"sqlite": path})
    for _ in range(3):
        wait_for(lambda: client.rows and "restored" not in client.rows[-1][1])
        live = int(client.rows[-1][1]["tradeId"])
        wait_for(lambda live=live: whole(TRADES, rows := kept(path)[TRADES]) and live in numbers(TRADES, rows))
        client.unsubscribe(TRADES)
        wait_for(lambda: not client.channels)
        walk(exchange, 100)  # more than its history
        client.rows.clear()
        client.subscribe(TRADES)


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
