"""Series: every trade and every final candle once, or named as missing."""

import json
import marshal
import os
import random
import re
import signal
import sqlite3
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import wait_for
from exchange import Exchange
from hypothesis import given
from hypothesis import strategies as st
from test_cli import program
from test_sinks import redis_server  # noqa: F401

import okex_ws
from okex_ws import CandleSeries, HoleFilling, TradeSeries, series_of

TRADES, CANDLES = "trades:BTC-USDT", "candle1m:BTC-USDT"
MINUTE = 60_000
T0 = 1_791_369_360_000  # the beginning of a minute


def trade(id, count=1, ts=None):
    ts = str(T0 + id if ts is None else ts)
    row = {"instId": "BTC-USDT", "tradeId": str(id), "px": "1", "sz": "1", "side": "buy", "ts": ts}
    return row | {"count": str(count), "source": "0", "seqId": id}


def candle(n, confirm="1", step=MINUTE):
    names = okex_ws.fields(CANDLES)
    return dict(zip(names, [str(T0 + n * step), "1", "2", "0", "1", "9", "9", "9", confirm]))


def ids(rows):
    """All ids that rows stand for, in their order."""
    return [n for row in rows for n in range(int(row["tradeId"]) - int(row["count"]) + 1, int(row["tradeId"]) + 1)]


def holes(series):
    return [(hole.first, hole.last) for hole in series.holes]


def take(series, *rows):
    """What the client does with a message."""
    rows = list(rows)
    return rows if series.follow(rows) else series.take(rows)


# -- Trades by their ids


def test_rows_that_follow_are_taken_as_they_are():
    series = TradeSeries(TRADES)
    for row in (trade(10), trade(11), trade(14, count=3), trade(15)):
        assert take(series, row) == [row]
    assert take(series, trade(16), trade(18, count=2)) == [trade(16), trade(18, count=2)]
    assert not series.holes and not series.news


def test_of_several_rows_in_one_message_each_is_judged():
    series = TradeSeries(TRADES)
    take(series, trade(10))
    assert take(series, trade(11), trade(150, count=139)) == [trade(11), trade(150, count=139)]
    assert take(series, trade(151), trade(151), trade(153), trade(152)) == [trade(151), trade(153), trade(152)]
    assert take(series, trade(154), trade(157), trade(156)) == [trade(154), trade(157), trade(156)]
    assert take(series) == take(series, trade(157), trade(154)) == []
    assert holes(series) == [(155, 155)] and take(series, "x", None, trade(158)) == ["x", None, trade(158)]


def test_a_jump_is_a_hole_and_a_repeat_is_dropped():
    series = TradeSeries(TRADES)
    take(series, trade(10))
    assert take(series, trade(20, count=3)) == [trade(20, count=3)]
    assert holes(series) == [(11, 17)]
    assert take(series, trade(20, count=3)) == take(series, trade(18)) == take(series, trade(10)) == []
    assert holes(series) == [(11, 17)]


def test_a_row_that_comes_late_fills_its_part_of_the_hole():
    series = TradeSeries(TRADES)
    take(series, trade(10))
    take(series, trade(20))
    assert take(series, trade(15, count=2)) == [trade(15, count=2)]
    assert holes(series) == [(11, 13), (16, 19)]
    assert take(series, trade(15)) == []


def test_of_an_aggregate_that_was_partly_there_the_rest_is_a_hole():
    series = TradeSeries(TRADES)
    take(series, trade(10))
    assert take(series, trade(12, count=3)) == []
    assert holes(series) == [(11, 12)]
    assert take(series, trade(13)) == [trade(13)]


def test_ids_that_begin_anew_are_a_new_series_and_said_once():
    series = TradeSeries(TRADES)
    take(series, trade(1000), trade(1005))
    assert take(series, trade(3, ts=T0 + 10_000)) and take(series, trade(4, ts=T0 + 10_001))
    assert not series.holes
    lines = [news for news in series.news if isinstance(news, str)]
    assert lines == ["its ids begin anew: 3 comes after 1005"]
    assert (1001, 1004) in [news[:2] for news in series.news if news[2:] == ("its numbers began anew",)]


@pytest.mark.parametrize(
    "change",
    [
        *({"tradeId": value} for value in (None, "", "x", "-5", "1e9", "٣", 1.5, [], "9" * 5000, float("inf"), True)),
        *({"count": value} for value in ("0", "-3", "x", None, "99999999", 1e300)),
        {"tradeId": "999999999999"},
    ],
)
def test_what_no_trade_can_say_is_passed_on_and_changes_nothing(change):
    series = TradeSeries(TRADES)
    take(series, trade(10))
    for _ in range(50):
        assert take(series, trade(11) | change)
    assert len(series.news) == 1 and not series.holes
    assert take(series, trade(11)) == [trade(11)] and len(series.news) == 1


def test_a_wide_jump_counts_once_the_next_row_goes_on_from_there():
    series = TradeSeries(TRADES)
    take(series, trade(10))
    series.resume()
    far = 50_000_000
    assert take(series, trade(far)) and not series.holes
    assert take(series, trade(far + 1)) == [trade(far + 1)]
    assert holes(series) == [(11, far - 1)] and take(series, trade(far)) == []


def test_ids_that_jump_by_millions_each_time_cost_one_line_and_no_memory():
    series = TradeSeries(TRADES)
    for n in range(2000):
        assert take(series, trade(n * 5_000_000 + 10))
    assert len(series.news) == 1 and not series.holes


def test_small_jumps_of_its_own_are_left_after_some_that_held_nothing_but_not_after_a_reconnect():
    series = TradeSeries(TRADES)
    take(series, trade(10))
    series.barren = okex_ws.BARREN_HOLES
    take(series, trade(15))
    assert not series.holes and series.news[-1].why == okex_ws.OWN_JUMP
    series.resume()
    take(series, trade(20))
    assert holes(series) == [(16, 19)]
    take(series, trade(5000))
    assert holes(series) == [(16, 19), (21, 4999)]


def test_open_holes_are_bounded():
    series = TradeSeries(TRADES)
    for n in range(3 * okex_ws.MAX_HOLES):
        take(series, trade(10 * n + 10))
    assert len(series.holes) == okex_ws.MAX_HOLES
    assert {news.why for news in series.news} == {"", okex_ws.TOO_MANY}


@given(st.data())
def test_any_schedule_of_trades_ends_with_each_id_once_or_named(data):
    """Drops, repeats, late rows, pauses and restored rows, of aggregates that are cut in any way."""
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=30))
    market, id = [], 100
    for count in counts:
        id += count
        market.append(trade(id, count))
    series, got, first = TradeSeries(TRADES), [], None
    n = 0
    while n < len(market):
        act = data.draw(st.sampled_from(["send", "send", "send", "drop", "repeat", "pause", "restore", "together"]))
        if act in ("send", "together"):
            rows = market[n : n + (3 if act == "together" else 1)]
            n += len(rows)
            first = first or ids(rows)[0]
            got += take(series, *rows)
        elif act == "drop":
            n += 1
        elif act == "repeat" and n and first:
            row = market[data.draw(st.integers(0, n - 1))]
            got += take(series, row)
        elif act == "pause":
            series.resume()
        elif act == "restore" and series.holes:
            hole = data.draw(st.sampled_from(series.holes))
            some = [trade(i) for i in range(hole.first, hole.last + 1) if data.draw(st.booleans())]
            got += series.restore(some)
            assert series.restore(some) == []
    got += take(series, trade(id + 1)) if first else []
    missing = [i for hole in series.holes for i in range(hole.first, hole.last + 1)]
    have = ids(got)
    assert len(have) == len(set(have)), "an id came twice"
    if first:
        assert sorted(i for i in have + missing if i >= first) == list(range(first, id + 2))


# -- Candles by their times


def test_a_candle_that_never_became_final_is_a_hole_when_the_next_but_one_begins():
    series = CandleSeries(CANDLES)
    for row in (candle(0, "0"), candle(0), candle(1, "0"), candle(2, "0")):
        assert take(series, row) == [row]
    assert not series.holes
    assert take(series, candle(1)) == [candle(1)]  # late, but in time
    take(series, candle(4, "0"))
    (hole,) = series.holes
    assert series.describe(hole) == "candles 2026-10-07T10:38:00Z to 2026-10-07T10:38:00Z (1)"
    assert take(series, candle(2)) == [candle(2)] and not series.holes
    assert take(series, candle(2)) == []


def test_after_a_reconnect_the_candle_before_the_one_that_forms_is_missing_at_once():
    series = CandleSeries(CANDLES)
    take(series, candle(0), candle(1, "0"))
    series.resume()
    take(series, candle(3, "0"))
    assert [hole.size for hole in series.holes] == [2]
    assert series.restore([candle(1), candle(2), candle(2)]) == [candle(1), candle(2)]
    assert take(series, candle(2)) == [] and not series.holes


def test_a_final_candle_comes_once_and_one_that_forms_as_often_as_it_is_sent():
    series = CandleSeries(CANDLES)
    assert len([row for row in [candle(0, "0")] * 3 + [candle(0)] * 3 if take(series, row)]) == 4
    assert take(series, candle(0, "0")) == []


@pytest.mark.parametrize("ts", ["", None, "x", "-60000", T0 + 1, "9" * 400, float("inf"), T0 + 10**13])
def test_a_candle_of_an_impossible_time_is_passed_on_and_changes_nothing(ts):
    series = CandleSeries(CANDLES)
    take(series, candle(0))
    assert take(series, candle(1) | {"ts": ts}) and len(series.news) == 1
    assert take(series, candle(1)) == [candle(1)] and not series.holes


@pytest.mark.parametrize(
    ("channel", "times"),
    [
        ("candle1M:BTC-USDT", ["2026-10-31T16", "2026-11-30T16", "2026-12-31T16", "2027-01-31T16", "2027-02-28T16"]),
        ("candle1Mutc:BTC-USDT", ["2026-11-01T00", "2026-12-01T00", "2027-01-01T00", "2027-02-01T00"]),
        ("candle3Mutc:BTC-USDT", ["2026-10-01T00", "2027-01-01T00", "2027-04-01T00"]),
        ("candle1W:BTC-USDT", ["2026-11-15T16", "2026-11-22T16", "2026-11-29T16"]),
        ("candle1Dutc:BTC-USDT", ["2026-11-21T00", "2026-11-22T00", "2026-11-23T00"]),
        ("mark-price-candle12H:BTC-USDT-SWAP", ["2026-11-21T04", "2026-11-21T16", "2026-11-22T04"]),
    ],
)
def test_months_weeks_and_days_follow_the_calendar(channel, times):
    stamps = [str(int(datetime.fromisoformat(time).replace(tzinfo=timezone.utc).timestamp() * 1000)) for time in times]
    series = CandleSeries(channel)
    for ts in stamps:
        assert take(series, {"ts": ts, "confirm": "1"}) and not series.news, ts
    places = [series.bars.place(ts) for ts in stamps]
    assert [str(series.bars.begin(place)) for place in places] == stamps
    series = CandleSeries(channel)
    take(series, {"ts": stamps[0], "confirm": "1"})
    series.resume()
    take(series, {"ts": stamps[-1], "confirm": "0"})
    assert [hole.size for hole in series.holes] == [len(times) - 2]


@given(st.lists(st.sampled_from(["send", "send", "send", "drop", "pause", "repeat", "forming"]), max_size=60))
def test_any_schedule_of_candles_ends_with_each_final_one_once_or_named(acts):
    series, got, n, began = CandleSeries(CANDLES), [], 0, None
    for act in acts:
        if act == "send":
            began = n if began is None else began
            got += take(series, candle(n))
        elif act == "forming":
            began = n if began is None else began
            take(series, candle(n, "0"))
            continue
        elif act == "pause":
            series.resume()
            continue
        elif act == "repeat" and began is not None and began < n:
            got += take(series, candle(n - 1))  # late, or a repeat
            continue
        n += 1
    if began is None:
        return
    got += take(series, candle(n))
    take(series, candle(n + 3, "0"))
    places = [int(row["ts"]) // MINUTE for row in got]
    missing = [place for hole in series.holes for place in range(hole.first, hole.last + 1)]
    assert len(places) == len(set(places))
    begin = T0 // MINUTE
    assert sorted(places + missing) == list(range(begin + began, begin + n + 2))


def test_only_these_channels_are_series():
    kinds = ["trades", "trades-all", "candle1s", "mark-price-candle1m", "index-candle1Dutc", "sprd-candle1H"]
    assert all(series_of(f"{kind}:X-Y") for kind in kinds)
    others = ["tickers:X-Y", "books:X-Y", "option-trades:instType=OPTION,instFamily=BTC-USD", "status"]
    assert not any(map(series_of, [*others, "spot/trade:BTC-USDT", "ok_sub_futureusd_btc_trade_quarter"]))


# -- Filling a hole, without a thread


def filling(series, *rows, oldest=0):
    """The filling of the one hole that these rows leave."""
    take(series, *rows)
    subscription = okex_ws.Subscription(TRADES, TRADES)
    subscription.series = series
    (hole,) = series.holes
    return HoleFilling(subscription, hole, oldest)


def page(path, market, most=100):
    """What REST answers: trades of the market before an id, newest first."""
    after = int(dict(parse_qsl(urlsplit(path).query))["after"])
    return [market[id] for id in sorted(market, reverse=True) if id < after][:most]


def whole_market(first, last):
    return {id: {k: v for k, v in trade(id).items() if k != "count"} for id in range(first, last + 1)}


@given(st.integers(1, 400), st.data())
def test_short_and_overlapping_pages_fill_a_hole_once_and_in_order(size, data):
    work = filling(TradeSeries(TRADES), trade(1000), trade(1001 + size))
    market = whole_market(800, 1100 + size)
    unlisted = data.draw(st.sets(st.integers(1001, 1000 + size), max_size=20))
    market = {id: row for id, row in market.items() if id not in unlisted}
    asked = 0
    while not work.done:
        answer = page(work.path(), market, data.draw(st.sampled_from([1, 7, 100])))
        overlap = [market[id] for id in sorted(market) if id >= work.before][:5]
        asked += 1
        if data.draw(st.booleans()):
            answer = overlap + answer + answer[:3]
        with suppress(ValueError):
            work.take(answer)
        assert asked < 2 * size + 10
    rows = [marshal.loads(work.rows[id]) for id in sorted(work.rows)]
    assert [int(row["tradeId"]) for row in rows] == [id for id in range(1001, 1001 + size) if id not in unlisted]
    assert all(row["restored"] is True and row["count"] == "1" for row in rows) and not work.why


def test_what_is_too_old_is_not_filled():
    series = TradeSeries(TRADES)
    work = filling(series, trade(1000), trade(2000), oldest=T0 + 1900)
    while not work.done:
        work.take(page(work.path(), whole_market(900, 2000)))
    assert (min(work.rows), work.known_from, work.why) == (1900, 1900, "older than is to be filled")


@pytest.mark.parametrize(
    "answer",
    [[], {}, None, [None], [{}], ["x"], [["1"]], [trade(1020) | {"instId": "ETH-USDT"}] * 100, [trade(999_999)] * 5],
)
def test_an_answer_of_no_use_changes_nothing(answer):
    work = filling(TradeSeries(TRADES), trade(1000), trade(1050))
    for _ in range(3):
        with pytest.raises(okex_ws.ODD_ROW):
            work.take(answer)
    assert not work.rows and not work.done


def test_rest_that_has_not_come_so_far_is_asked_again():
    work = filling(TradeSeries(TRADES), trade(1000), trade(1050))
    with pytest.raises(ValueError, match="not come so far"):
        work.take(page(work.path(), whole_market(900, 1030)))
    work.take(page(work.path(), whole_market(900, 1060)))
    assert work.done and len(work.rows) == 49


def test_all_clients_together_ask_eight_times_a_second(monkeypatch):
    monkeypatch.setattr(okex_ws, "FILL_SPACING", 0.125)
    monkeypatch.setattr(okex_ws.HoleFiller, "_next", 0.0)
    due = [100.0 + okex_ws.HoleFiller.turn(100.0) for _ in range(17)]
    assert due[0] == 100.0 and due[-1] == 102.0


# -- The whole of it, against the stand-in


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Try again soon, and ask often."""
    monkeypatch.setattr(okex_ws, "FILL_SPACING", 0.0)
    monkeypatch.setattr(okex_ws, "MAX_RETRY", 0.05)


def drop(exchange):
    """Lose the newest connection, and wait until the exchange knows."""
    session = exchange.sessions[-1]
    session.drop()
    wait_for(lambda: session not in exchange.sessions)


def walk(exchange, steps):
    """The market goes on though nobody is connected."""
    with exchange.lock:
        for _ in range(steps):
            exchange.ahead += exchange.hurry or 0.0
            exchange.instrument("BTC-USDT").step()


def subscribed(exchange, connections=1):
    return lambda: len(exchange.sessions) == connections and all(s.feeds for s in list(exchange.sessions))


def trades_of(client, channel=TRADES):
    return [row for name, row in client.rows if name == channel]


def market_ids(exchange, name="BTC-USDT"):
    with exchange.lock:  # the market goes on
        return [t["id"] for t in exchange.instruments[name].history]


def complete(client, exchange, channel=TRADES):
    """Whether the client has everything from its first trade to the market's last one, each once."""
    have = [n for row in trades_of(client, channel) for n in ids([{"count": "1", **row}])]
    with exchange.lock:
        listed = market_ids(exchange)
    assert len(have) == len(set(have)), "a trade came twice"
    return have and sorted(have) == list(range(min(have), max(have) + 1)) and max(have) >= listed[-1] - 50


@pytest.mark.parametrize("channel", [TRADES, "trades-all:BTC-USDT"])
def test_what_a_reconnect_or_a_lost_message_costs_is_restored(exchange, connect, impatient, channel):
    exchange.aggregates = True
    client = connect(channel)
    wait_for(lambda: len(client.rows) > 5)
    for _ in range(3):
        drop(exchange)
        walk(exchange, 30)
        wait_for(subscribed(exchange))
        exchange.lost[channel] = 2
        wait_for(client.more_rows())
    exchange.every = None
    wait_for(lambda: client.counts["holes"] >= 3 and not client._subscriptions.by_key[channel].series.holes)
    exchange.step()
    wait_for(lambda: complete(client, exchange, channel))
    restored = [row for row in trades_of(client, channel) if row.get("restored")]
    assert len(restored) == client.counts["rows restored"] and client.counts["missing"] == 0
    assert not client.saw(okex_ws.GAP)


def test_rest_that_fails_for_a_while_is_waited_for(exchange, connect, caplog):
    client = connect(TRADES)
    wait_for(lambda: len(client.rows) > 2)
    exchange.rest_status = 503
    exchange.lost[TRADES] = 1
    wait_for(lambda: len(exchange.fetched) > 10)  # more often than refusals would be forgiven
    seen = len(client.rows)
    wait_for(lambda: len(client.rows) > seen)  # live rows go on
    exchange.rest_status = 0
    wait_for(lambda: client.counts["rows restored"] and not client._subscriptions.by_key[TRADES].series.holes)
    assert "HTTP 503. Trying again" in caplog.text and "REST answers again" in caplog.text


@pytest.mark.parametrize("fault", ["404", "nothing", "others"])
def test_what_rest_does_not_give_is_named(exchange, connect, caplog, fault):
    client = connect(TRADES)
    wait_for(lambda: len(client.rows) > 2)
    if fault == "404":
        exchange.rest_status = 404
    others = {"nothing": [], "others": [{"instId": "ETH-USDT", "tradeId": "5", "ts": "5"}]}
    exchange.rest_rows = lambda path, query, rows: others.get(fault, rows)
    exchange.lost[TRADES] = 1
    wait_for(lambda: client.saw(okex_ws.GAP))
    ((_, detail),) = [status for status in client.statuses if status[0] == okex_ws.GAP]
    first, last, n = map(int, re.search(r"trades (\d+) to (\d+) \((\d+)\) stay missing: ", detail).groups())
    assert client.counts["missing"] == n == last - first + 1 and detail in caplog.text.replace("\n", " ")
    have = set(ids(trades_of(client)))
    assert not have & set(range(first, last + 1)) and {first - 1, last + 1} <= have
    assert len(exchange.fetched) == okex_ws.FILL_TRIES


def test_without_filling_holes_are_named_and_rest_is_not_asked(exchange, connect):
    client = connect(TRADES, fill=0.0)
    wait_for(lambda: len(client.rows) > 2)
    exchange.lost[TRADES] = 1
    wait_for(lambda: client.saw(okex_ws.GAP))
    assert not exchange.fetched and client.counts["missing"] > 0


@pytest.mark.parametrize("market", ["", "mark-price-", "index-", "sprd-"])
def test_candles_are_whole_after_a_reconnect(exchange, connect, impatient, market):
    channel = f"{market}candle1s:{'BTC-USDT_BTC-USDT-SWAP' if market == 'sprd-' else 'BTC-USDT'}"
    exchange.hurry = 0.5
    client = connect(channel)
    wait_for(lambda: len(client.rows) > 5)
    drop(exchange)
    walk(exchange, 20)
    wait_for(subscribed(exchange))
    exchange.lost[channel] = 5
    wait_for(lambda: client.counts["holes"] > 1 and not client._subscriptions.by_key[channel].series.holes)
    exchange.every = None

    def whole_and_once():
        final = [int(row["ts"]) for _, row in client.rows if row["confirm"] == "1"]
        return sorted(final) == list(range(min(final), max(final) + 1, 1000))

    wait_for(whole_and_once)  # a hole is closed right before its rows are handed over
    assert client.counts["rows restored"] == sum("restored" in row for _, row in client.rows) > 0


def test_a_hole_that_the_user_gave_up_is_not_filled(exchange, connect):
    client = connect(TRADES)
    wait_for(lambda: len(client.rows) > 2)
    exchange.rest_status = 503
    exchange.lost[TRADES] = 1
    wait_for(lambda: exchange.fetched)
    client.unsubscribe(TRADES)
    exchange.rest_status = 0
    wait_for(lambda: not client.channels)
    client.subscribe(TRADES)
    wait_for(client.more_rows())
    assert not client.counts["rows restored"] and not client.counts["missing"]


def test_an_instruments_own_jumps_are_left_alone_but_what_follows_a_reconnect_is_asked_for(
    exchange, connect, impatient, caplog
):
    client = connect(TRADES)
    wait_for(lambda: client.rows)
    series = client._subscriptions.by_key[TRADES].series

    def jump():
        with exchange.lock:
            exchange.instruments["BTC-USDT"].trade_id += 3

    for n in range(1, okex_ws.BARREN_HOLES + 1):
        jump()
        wait_for(lambda n=n: series.barren == n)  # REST was asked, and has nothing
    asked = len(exchange.fetched)
    for n in (1, 2):
        jump()
        wait_for(lambda n=n: client.counts["jumps left alone"] == n)
        wait_for(lambda: "small ones are left alone now" in caplog.text)
    assert len(exchange.fetched) == asked and caplog.text.count("small ones are left alone now") == 1
    with exchange.lock:  # so that the client is not back before
        exchange.sessions[-1].drop()
        walk(exchange, 5)
    wait_for(lambda: client.counts["rows restored"])
    assert client.counts["holes"] == okex_ws.BARREN_HOLES + 1 and not client.saw(okex_ws.GAP)
    wait_for(lambda: not series.holes and series.barren == 0)  # and small jumps are asked for again
    jump()
    wait_for(lambda: series.barren == 1)


def test_what_the_end_of_the_run_leaves_is_named(exchange, connect):
    client = connect(TRADES)
    wait_for(lambda: len(client.rows) > 2)
    exchange.rest_status = 503
    exchange.lost[TRADES] = 1
    wait_for(lambda: exchange.fetched)
    client.close()
    wait_for(lambda: client.saw(okex_ws.EXIT))
    assert any("the run ended first" in detail for status, detail in client.statuses if status == okex_ws.GAP)


SEED = int(os.environ.get("SERIES_SEED", "13"))  # to play other markets
LIVES = int(os.environ.get("SERIES_LIVES", "4"))  # of the program; to play longer: 40 take five minutes
BARS = "candle1s:BTC-USDT"


def kept(path):
    """The rows of trades, and of final candles, in an SQLite file, in their order of arrival."""
    with sqlite3.connect(path) as db:
        rows = [(name, json.loads(row)) for name, row in db.execute("SELECT channel, row FROM rows ORDER BY rowid")]
    trades = [row for channel, row in rows if channel == TRADES]
    return trades, [row for channel, row in rows if channel == BARS and row["confirm"] == "1"]


def times(candles):
    return [int(row["ts"]) // 1000 for row in candles]


def named_as_missing(err):
    """The ids of trades, and the times of candles, that the lines of a run name."""
    text = " ".join(err.split())  # lines are folded
    trades = re.findall(r"trades (\d+) to (\d+) \(\d+\) stay missing", text)
    candles = re.findall(r"candles (\S+)Z to (\S+)Z \(\d+\) stay missing", text)
    spans = [[int(datetime.fromisoformat(f"{end}+00:00").timestamp()) for end in pair] for pair in candles]
    return [
        {number for first, last in pairs for number in range(int(first), int(last) + 1)} for pairs in (trades, spans)
    ]


def unruly(exchange, rng):
    """Pages that are short, or begin with rows of the page before."""

    def answer(path, query, rows):
        step = 1 if path.endswith("trades") else 1000
        overlap = query | {"after": str(int(query["after"]) + rng.choice([0, 10]) * step)}
        return exchange.rest(path, overlap)[: rng.choice([20, 50, 100])]

    exchange.rest_rows = answer


def trouble(exchange, rng):
    """Lose some messages and the connections, while the market goes on and REST may be slow, or fail."""
    seen = len(market_ids(exchange))
    wait_for(lambda: len(market_ids(exchange)) > seen + 40)
    exchange.lost[rng.choice([TRADES, BARS])] = rng.randint(1, 3)
    exchange.rest_status = rng.choice([0, 503])
    exchange.rest_delay = rng.choice([0.0, 0.3])
    drop(exchange)
    walk(exchange, rng.randint(0, 60))
    wait_for(subscribed(exchange, 2), within=30)


@pytest.mark.timeout(300 + 30 * LIVES)
def test_after_kills_drops_losses_and_failing_rest_the_file_holds_everything_once(tmp_path, monkeypatch):
    """A market is played to the program; connections, messages, REST and the program itself come and go."""
    for bound in ("KEPT_TRADES", "KEPT_BARS"):
        monkeypatch.setattr(f"exchange.{bound}", 10**6)
    path, rng = tmp_path / "rows.db", random.Random(SEED)
    with Exchange(every=0.01) as exchange:
        exchange.aggregates = True
        exchange.hurry = 0.05
        unruly(exchange, rng)
        arguments = (TRADES, BARS, "--url", exchange.url, "--sqlite", path, "--fill", "2h")
        for life in range(LIVES):
            process = program(*arguments, stdout=subprocess.DEVNULL)
            wait_for(subscribed(exchange, 2), within=30)
            for _ in range(3):
                trouble(exchange, rng)
            exchange.rest_status, exchange.rest_delay = 0, 0.0
            exchange.lost.clear()
            if life < LIVES - 1:
                process.kill()
                process.communicate(timeout=10)
                wait_for(lambda: not exchange.sessions)
                walk(exchange, rng.randint(0, 300))
        exchange.every = None  # or its end could come before a hole is filled
        wait_for(lambda: whole(*kept(path)), within=15 * LIVES)  # REST is asked 8 times a second
        exchange.rest_status = 503
        leave_holes(exchange, path)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        check_what_is_kept(*kept(path), exchange.instruments["BTC-USDT"], *named_as_missing(err))
    assert re.search(r"\d+ holes, \d+ rows? restored, \d+ missing", err)


def whole(trades, candles):
    """Whether nothing is missing between the first and the last."""
    have, bars = ids(trades), times(candles)
    return len(have) == max(have) - min(have) + 1 and len(bars) == max(bars) - min(bars) + 1 > 5


def leave_holes(exchange, path):
    """Holes in both channels that REST does not give any more, with rows behind them in the file."""
    exchange.lost |= {TRADES: 2, BARS: 60}
    for _ in range(200):
        exchange.step()
    market = exchange.instruments["BTC-USDT"]
    newest = market.trade_id, market.bars["1s"][-2][0] // 1000

    def written():
        trades, candles = kept(path)
        return (max(ids(trades)), max(times(candles))) == newest

    wait_for(written)


def check_what_is_kept(trades, candles, market, missing, missing_bars):
    """Exactly the market's trades and final candles, each once, but for those that are named as missing."""
    have, listed = ids(trades), {t["id"]: t for t in market.history}
    assert len(have) == len(set(have))
    assert set(have) | missing == set(range(min(have), max(have) + 1)) and not missing & set(have)
    for row in trades:
        parts = [listed[id] for id in ids([row])]
        assert {(t["price"], t["side"]) for t in parts} == {(row["px"], row["side"])}
        assert sum(float(t["size"]) for t in parts) == pytest.approx(float(row["sz"]), abs=0.001)
    bars = times(candles)
    assert len(bars) == len(set(bars)) and missing and missing_bars
    assert set(bars) | missing_bars == set(range(min(bars), max(bars) + 1)) and not missing_bars & set(bars)
    final = {str(begin): [market.price(ticks) for ticks in prices] for begin, *prices, _ in market.bars["1s"]}
    assert all([row[name] for name in "ohlc"] == final[row["ts"]] for row in candles)


def test_a_long_hole_is_filled_in_small_pieces_and_its_progress_is_told(
    exchange, connect, impatient, monkeypatch, caplog
):
    monkeypatch.setattr(okex_ws, "FILL_SAID_EVERY", 0.0)
    caplog.set_level("INFO", "okex_ws")
    client = connect(TRADES)
    wait_for(lambda: len(client.rows) > 2)
    pieces = []
    client.handler = lambda channel, rows: (pieces.append(rows), client.remember(channel, rows))
    with exchange.lock:
        exchange.lost[TRADES] = 1000
        for _ in range(1000):
            exchange.step()
    wait_for(lambda: client.counts["rows restored"] > 1000 and complete(client, exchange))
    restored = [int(row["tradeId"]) for row in trades_of(client) if row.get("restored")]
    most = max(len(rows) for rows in pieces if "restored" in rows[0])
    assert restored == sorted(restored) and most == okex_ws.RESTORED_AT_ONCE
    assert re.search(r"trades:BTC-USDT: \d+ of about \d+ missing rows fetched, some \d+ s to go", caplog.text)


@pytest.mark.parametrize("channel", [TRADES, "candle1m:BTC-USDT"])
def test_redis_keeps_restored_rows_in_the_history_and_not_as_the_latest(redis_server, channel):  # noqa: F811
    sink = okex_ws.RedisSink(redis_server.url, name="series", history=100, command=lambda *_: None)
    rows = [trade(5), trade(7)] if channel == TRADES else [candle(5), candle(7)]
    late = (trade(6) if channel == TRADES else candle(6)) | {"restored": True}
    sink.write(1.0, channel, rows)
    sink.write(2.0, channel, [late])
    sink.flush()
    feed = okex_ws.RedisFeed(redis_server.url, name="series")
    assert feed.get(channel) == rows[-1]
    assert feed.get(channel, 10) == [*rows, late]
    sink.close()


def test_fill_takes_a_length_of_time_or_none():
    for text, seconds in (("0", 0.0), ("0s", 0.0), ("90", 90.0), ("2h", 7200.0)):
        assert okex_ws.parse_arguments(["--fill", text]).fill == seconds
    assert okex_ws.parse_arguments([]).fill == 3600.0
    with pytest.raises(SystemExit):
        okex_ws.parse_arguments(["--fill", "soon"])
