"""Series: every trade and every final candle once, or named as missing."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import Client, program, until, wait_for
from exchange import Exchange, Refusal, bar_begin, bar_end
from hypothesis import given, settings, strategies as st

import okex_ws
from okex_ws import CandleSeries, Filler, TradeSeries, series_of

TRADES, TRADES_ALL, CANDLES = "trades:BTC-USDT", "trades-all:BTC-USDT", "candle1m:BTC-USDT"
BARS = "candle1s:BTC-USDT"
LENGTHS = ["1s", "1m", "12H", "1Dutc", "1W", "1M", "1Mutc", "3M", "3Mutc"]  # of bars
T0 = 1_791_369_360_000  # the beginning of a minute, in October 2026
AGES = 1e9  # seconds: T0 is not too old to be filled


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Try again soon, and ask often."""
    monkeypatch.setattr(okex_ws, "FILL_PACE", okex_ws.Pace(0.0))
    monkeypatch.setattr(okex_ws, "MAX_RETRY", 0.0)


def trade(id, count=1, **more):
    """A row of `trades`. Four ids have one time, as where an order meets several."""
    row = {"instId": "BTC-USDT", "tradeId": str(id), "px": "1", "sz": "1", "side": "buy", "ts": str(T0 + id // 4)}
    return row | {"count": str(count), "source": "0", "seqId": id} | more


def candle(begin, confirm="1"):
    return dict(zip(okex_ws.fields(CANDLES), [str(begin), "1", "2", "0", "1", "9", "9", "9", confirm]))


def minute(n, confirm="1"):
    return candle(T0 + n * 60_000, confirm)


def bars(length, many):
    """When the bars of one length begin, along the calendar, from the one that T0 belongs to."""
    times = [bar_begin(length, T0)]
    while len(times) < many:
        times.append(bar_end(length, times[-1]))
    return times


def ids(rows):
    """All ids that rows stand for, in their order."""
    return [n for row in rows for n in range(int(row["tradeId"]) - int(row["count"]) + 1, int(row["tradeId"]) + 1)]


def begins(rows):
    """The bars that rows are the final ones of."""
    return [int(row["ts"]) for row in rows if row["confirm"] == "1"]


def missing(series, times=None):
    """The ids, or which of these times, are missing."""
    holes = [range(hole.after + 1, hole.before) for hole in series.holes]
    inside = [n for hole in holes for n in (hole if times is None else times) if n in hole]
    assert sum(map(series.size, series.holes)) == len(inside), f"{series.holes} are not as many as {inside}"
    return inside


class Noted:
    """In place of a Filler: what a series asks for, and what it gives up."""

    def __init__(self):
        self.ws, self.asked, self.named, self.counts = self, [], [], Counter()

    def ask(self, series, hole, patience=0.0):
        self.asked.append((series.describe(hole), patience))

    def give_up(self, series, holes, why):
        self.named += [(series.describe(hole), why) for hole in holes]
        series.holes = []


# -- Trades by their ids


def test_trades_that_are_jumped_over_are_missing_and_repeats_are_dropped():
    cases = [  # messages as (id, count), the last id of each row that is handed over, and what is missing then
        ([[(10, 1)], [(11, 1)], [(14, 3)], [(15, 1), (17, 2)], []], [10, 11, 14, 15, 17], []),
        ([[(10, 1)], [(20, 3)], [(20, 3)], [(18, 1)], [(10, 1)]], [10, 20], [*range(11, 18)]),
        ([[(10, 1)], [(20, 1)], [(15, 2)], [(15, 1)]], [10, 20, 15], [11, 12, 13, 16, 17, 18, 19]),
        ([[(10, 1)], [(11, 1), (11, 1), (13, 1), (12, 1)]], [10, 11, 13, 12], []),
        ([[(10, 1)], [(11, 1), (150, 139)]], [10, 11, 150], []),
        ([[(10, 1)], [(12, 3), (13, 1)]], [10, 13], [11, 12]),  # what is new in it cannot be told apart
        ([[(10, 1)], [(20, 1)], [(12, 4)]], [10, 20], [*range(11, 20)]),
        ([[(10, 1)], [(9, 1)], [(9, 1)]], [10, 9], []),  # late, and right before the first
    ]
    for channel in (TRADES, TRADES_ALL):
        for messages, taken, left in cases:
            if channel == TRADES or all(count == 1 for rows in messages for _, count in rows):
                series, sent = TradeSeries(channel, Noted()), [[trade(*row) for row in rows] for rows in messages]
                got = [int(row["tradeId"]) for rows in sent for row in series.take(rows)]
                assert (got, missing(series)) == (taken, left), (channel, messages)
                repeated = sum(map(len, messages)) - len(taken)
                assert series.filler.counts["repeated rows"] == repeated, (channel, messages)


def test_ids_that_begin_anew_are_a_new_series_and_what_was_missing_is_named(caplog):
    series = TradeSeries(TRADES, Noted())
    series.take([trade(1000), trade(1005)])
    assert len(series.take([trade(3, ts=str(T0 + 10_000)), trade(4, ts=str(T0 + 10_001))])) == 2
    assert not series.holes and "trades:BTC-USDT: its numbers begin anew: 3 comes after 1005." in caplog.text
    assert series.filler.named == [("trades 1001 to 1004 (4)", "its numbers began anew")]
    assert series.take([trade(7, ts=str(T0 + 10_002))]) and missing(series) == [5, 6]


def test_a_row_that_says_no_number_is_handed_over_and_changes_nothing():
    values = (None, "", "x", "1e9", [], float("inf"))
    odd = [trade(11, tradeId=value) for value in (*values, "9" * 5000)] + [trade(11, count=value) for value in "x-"]
    cases = [(TradeSeries(TRADES), trade(10), row, trade(11)) for row in ["x", None, 7, [], {}, *odd]]
    cases += [(CandleSeries(CANDLES), minute(0), minute(1) | {"ts": value}, minute(1)) for value in values]
    for series, first, row, following in cases:
        assert len(series.take([first, row])) == 2 and not series.holes, row
        assert series.take([following, following]) == [following] and not series.holes, row


@settings(max_examples=400)
@given(st.data())
def test_any_schedule_of_trades_ends_with_each_id_once_or_named(data):
    """Drops, repeats, late rows, pauses and restored rows, of aggregates that are cut in any way, in any messages."""
    series, got, last = TradeSeries(TRADES), [], 100
    for act in data.draw(st.lists(st.sampled_from("send send send lose old pause restore".split()), max_size=30)):
        if act == "send":
            rows = []
            for count in data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)):
                last += count
                rows.append(trade(last, count))
            got += series.take(data.draw(st.permutations(rows)))
        elif act == "lose":
            last += data.draw(st.integers(1, 6))
        elif act == "old":
            got += series.take([trade(data.draw(st.integers(max(90, last - 20), last)), data.draw(st.integers(1, 5)))])
        elif act == "pause":
            series.open()
        else:
            some = [trade(id) for id in missing(series) if data.draw(st.booleans())]
            assert series.restore(some) == some and series.restore(some) == []
            got += some
    got += series.take([trade(last + 1)])
    have, first = ids(got), ids(got)[0]
    assert len(have) == len(set(have)), "an id came twice"
    assert sorted([id for id in have if id >= first] + missing(series)) == list(range(first, last + 2))


# -- Candles by their times


def test_a_final_candle_comes_once_and_one_that_forms_as_often_as_it_is_sent():
    rows = [minute(0, "0")] * 3 + [minute(0)] * 3 + [minute(0, "0")]
    for sent in (rows, [list(row.values()) for row in rows]):  # bare lists are named
        assert CandleSeries(CANDLES).take(sent) == rows[:4]


def test_a_bar_that_is_not_final_when_the_next_one_begins_is_missing_but_may_be_a_little_late():
    series = CandleSeries(CANDLES, Noted())
    series.take([minute(0, "0"), minute(0), minute(1, "0")])
    assert not series.holes
    assert series.take([minute(2, "0")]) and series.take([minute(1, "0")]) and missing(series, bars("1m", 9))
    assert series.filler.asked == [("candles 2026-10-07T10:37:00Z to 2026-10-07T10:37:00Z (1)", 2.0)]
    assert series.take([minute(1)]) and not series.holes
    assert series.take([minute(1), minute(1, "0")]) == []
    series.open()  # after a reconnect, none is late: it was missed
    series.take([minute(5, "0")])
    assert series.filler.asked[1:] == [("candles 2026-10-07T10:38:00Z to 2026-10-07T10:40:00Z (3)", 0.0)]
    assert series.take([minute(7, "0")]) and series.filler.asked[2][1] == 2.0


def test_the_end_of_the_bar_before_the_first_is_handed_over_once_whatever_its_length():
    for length in LENGTHS:
        for before, first in zip(bars(length, 30), bars(length, 31)[1:]):
            series = CandleSeries(f"candle{length}:BTC-USDT")
            rows = [candle(first, "0"), candle(before, "0"), candle(before)]
            assert series.take([*rows, candle(before)]) == rows and not series.holes, (length, before)


def test_months_weeks_and_days_follow_the_calendar():
    """Bars one after another, and holes of any size, whether the bars beside them are final or form."""
    for length in LENGTHS:
        times, series = bars(length, 50), CandleSeries(f"candle{length}:BTC-USDT")
        rows = [candle(begin, confirm) for begin in times for confirm in "001"]
        assert series.take(rows) == rows and not series.holes, length
        for at in range(12 if "M" in length else 1):
            for size in range(1, 37):
                for first, last in ("10", "11", "00", "01"):
                    series = CandleSeries(f"candle{length}:BTC-USDT")
                    series.take([candle(times[at], first), candle(times[at + size], last)])
                    assert missing(series, times) == times[at + int(first) : at + size], (length, at, size, first, last)


def test_missing_bars_are_named_as_a_person_would_look_for_them():
    cases = [
        ("1H", "2026-11-21T04", "2026-11-21T06", "candles 2026-11-21T05:00:00Z to 2026-11-21T05:00:00Z (1)"),
        ("1D", "2026-11-21T16", "2026-11-25T16", "candles 2026-11-22T16:00:00Z to 2026-11-24T16:00:00Z (3)"),
        ("1W", "2026-11-15T16", "2026-12-06T16", "candles 2026-11-22T16:00:00Z to 2026-11-29T16:00:00Z (2)"),
        ("1Mutc", "2027-01-01T00", "2027-03-01T00", "candles 2027-02 to 2027-02 (1)"),
        ("1M", "2026-10-31T16", "2027-02-28T16", "candles 2026-12 to 2027-02 (3)"),
        ("1Mutc", "2020-01-01T00", "2026-01-01T00", "candles 2020-02 to 2025-12 (71)"),
        ("3Mutc", "2026-01-01T00", "2026-10-01T00", "candles 2026-04 to 2026-07 (2)"),
    ]
    for length, *ends, text in cases:
        after, before = (int(datetime.fromisoformat(f"{end}:00:00+00:00").timestamp()) * 1000 for end in ends)
        series = CandleSeries(f"candle{length}:BTC-USDT")
        series.take([candle(after), candle(before, "0")])
        assert [series.describe(hole) for hole in series.holes] == [text], length


@settings(max_examples=400)
@given(st.sampled_from(LENGTHS), st.data())
def test_any_schedule_of_candles_ends_with_each_final_one_once_or_named(length, data):
    """Bars that form or not, late ones, repeats, pauses and restored ones, of any length."""
    times, series, got, n, first = bars(length, 50), CandleSeries(f"candle{length}:BTC-USDT"), [], 5, None
    acts = st.sampled_from("forming forming final final final lose old old pause restore".split())
    for act in data.draw(st.lists(acts, max_size=40)):
        if act in ("forming", "final"):
            taken = series.take([candle(times[n], "1" if act == "final" else "0")])
            assert taken or times[n] in begins(got), "a bar that forms was dropped"
            first = n if first is None else first
            got += taken
            n += act == "final"
        elif act == "lose":
            n += 1
        elif act == "old" and first is not None:  # late, or again
            got += series.take([candle(times[n - data.draw(st.integers(0, 5))], data.draw(st.sampled_from("01")))])
        elif act == "pause":
            series.open()
        elif act == "restore":
            some = [candle(begin) for begin in missing(series, times) if data.draw(st.booleans())]
            assert series.restore(some) == some and series.restore(some) == []
            got += some
    got += series.take([candle(times[n]), candle(times[n + 3], "0")])
    first, have = n if first is None else first, begins(got)
    assert len(have) == len(set(have)), "a final candle came twice"
    assert sorted([begin for begin in have if begin >= times[first]] + missing(series, times)) == times[first : n + 3]


def test_only_these_channels_are_series():
    kinds = ["trades", "trades-all", "candle1s", "mark-price-candle1m", "index-candle1Dutc", "sprd-candle1H"]
    others = ["tickers:X-Y", "books:X-Y", "option-trades:instType=OPTION,instFamily=BTC-USD", "status"]
    others += ["spot/trade:BTC-USDT", "spot/candle60s:BTC-USDT", "ok_sub_futureusd_btc_trade_quarter"]
    assert all(series_of(f"{kind}:X-Y") for kind in kinds) and not any(map(series_of, others))


def test_what_an_earlier_run_left_out_is_asked_for_and_what_it_kept_is_not_repeated():
    series = TradeSeries(TRADES, Noted())
    series.recall([trade(10), trade(14), trade(20), *(trade(n) for n in (11, 12, 15, 16, 17, 18, 19))])
    assert series.filler.asked == [("trades 13 to 13 (1)", 0.0)]
    assert series.take([trade(20), trade(22)]) == [trade(22)] and missing(series) == [13, 21]
    series = CandleSeries(CANDLES, Noted())
    series.recall([minute(0), minute(1, "0"), minute(2, "0"), minute(1)])
    series.take([minute(4, "0")])
    assert series.filler.asked == [("candles 2026-10-07T10:38:00Z to 2026-10-07T10:39:00Z (2)", 0.0)]


# -- Filling holes, with a REST that is the test


class Rest:
    """A filler, and the client and the REST that it has. The test gives each answer, and rows may arrive before it."""

    url, _recorder, replayed_at = "http://127.0.0.1", okex_ws.Recorder([]), 0.0

    def __init__(self, fill):
        self._stop, self.counts, self.asked, self.told, self.pieces = threading.Event(), Counter(connects=1), [], [], []
        self._subscriptions, self._route, self.exchange_time = [], self, time.time
        self.paths, self.answers = SimpleQueue(), SimpleQueue()
        self.filler = Filler(self, fill)

    def _notify(self, status, detail):
        self.told.append(detail)

    def handler(self, channel, rows):
        self.pieces.append(rows)

    def get(self, path):
        """Called by the filler."""
        self.asked.append(path)
        self.paths.put(path)
        answer = ValueError("the test is over") if self._stop.is_set() else self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, answer, within=30.0):
        """Wait until the filler asks for rows below a number, and give it answer(number)."""
        path = self.paths.get(timeout=within)
        self.answers.put(answer(int(dict(parse_qsl(urlsplit(path).query)).get("after", 0))))
        return path

    def fill(self, series, answer, within=30.0):
        """Answer whatever is asked, until nothing is missing any more: the rows that were restored."""
        end = time.monotonic() + within
        while series.holes:
            with suppress(Empty):
                self.answer(answer, within=0.002)
            self.hand_over()
            assert time.monotonic() < end, f"{series.holes} were neither filled nor named"
        return self.hand_over()

    def hand_over(self):
        """What the reading thread does while nothing live waits: the rows that were restored so far."""
        while self.filler.hand_over():
            pass
        return [row for rows in self.pieces for row in rows]


@contextmanager
def resting(fill=AGES):
    rest = Rest(fill)
    yield rest
    rest._stop.set()
    rest.answers.put(ValueError("the test is over"))


@pytest.fixture
def rest():
    with resting() as rest:
        yield rest


def trades_listed(first, last, **more):
    """Trades as REST has them, by id."""
    return {id: trade(id, **more) | {"count": None} for id in range(first, last + 1)}


def page(listed, before, most=100):
    """What REST answers: the newest rows below a number, of those that it lists."""
    return [listed[number] for number in sorted(listed, reverse=True) if number < before][:most]


def unruly(seed):
    """What REST may answer for each `before`, the fourth time at the latest as it should: short pages at any rate."""
    times = Counter()

    def answer(listed, before):
        rng = random.Random(f"{seed} {before} {times[before]}")
        times[before] += 1
        fault = rng.choice(["", "overlapping", "behind", "down"] if times[before] < 4 else [""])
        rows = page(listed, before, most=rng.randint(2, 9))
        if fault == "down":
            return OSError("no route to host")
        if fault == "behind":  # another server, which does not know the newest yet
            return page(dict(sorted(listed.items())[: -rng.randint(1, 9)]), before - rng.randint(0, 60), 9)
        if fault == "overlapping":
            return [*(listed[number] for number in sorted(listed) if before <= number < before + 4), None, *rows, *rows]
        return rows

    return answer


STREAM = st.lists(st.sampled_from("send send send lose skip old pause answer answer".split()), max_size=60)


@settings(max_examples=400)
@given(STREAM, st.integers(0, 2**32))
def test_any_schedule_of_trades_and_pages_ends_with_each_trade_once(acts, seed):
    """REST is behind, down, short or overlapping for a while, and skips ids that never were; rows arrive meanwhile."""
    rng, answer, market, got = random.Random(seed), unruly(seed), trades_listed(100, 100), []
    with resting() as rest:
        series, last = TradeSeries(TRADES, rest.filler), 100
        got += series.take([trade(last)])

        def listed(before):
            return answer(market, before)

        for act in [*acts, "send"]:
            if act in ("send", "lose"):
                count = rng.randint(1, 4 if act == "send" else 30)
                market |= trades_listed(last + 1, last + count)
                last += count
                got += series.take([trade(last, count)] if act == "send" else [])
            elif act == "skip":
                last += rng.randint(1, 2)
            elif act == "old":
                row = trade(rng.choice(list(market)), rng.randint(1, 4))
                got += series.take([row] if set(ids([row])) <= set(market) else [])
            elif act == "pause":
                series.open()
            elif series.holes:
                with suppress(Empty):
                    rest.answer(listed, within=0.01)
                rest.hand_over()
        got += rest.fill(series, listed)
    have = ids(got)
    assert len(have) == len(set(have)), "a trade came twice"
    assert not rest.told and not rest.counts["missing"], "what REST lists was given up"
    assert sorted(have) == sorted(market), "a trade was lost in silence"


@settings(max_examples=400)
@given(st.sampled_from(LENGTHS), STREAM, st.integers(0, 2**32))
def test_any_schedule_of_candles_and_pages_ends_with_each_final_candle_once(length, acts, seed):
    rng, answer, times, n, got = random.Random(seed), unruly(seed), bars(length, 400), 0, []
    with resting() as rest:
        series = CandleSeries(f"candle{length}:BTC-USDT", rest.filler)
        series.patience = 0.0

        def send(n, confirm):
            got.extend(series.take([list(candle(times[n], confirm).values())]))

        def listed(before):
            return answer({begin: list(candle(begin).values()) for begin in times[:n]}, before)

        send(0, "0")
        for act in acts:
            if act == "send":
                for confirm in "0" * rng.randint(0, 2) + "1":
                    send(n, confirm)
                n += 1
            elif act == "lose":
                n += rng.randint(1, 5)
            elif act == "old" and n:
                send(rng.randint(max(0, n - 9), n - 1), rng.choice("01"))
            elif act == "pause":
                series.open()
            elif act == "answer" and series.holes:
                with suppress(Empty):
                    rest.answer(listed, within=0.01)
                rest.hand_over()
        send(n, "0")
        got += rest.fill(series, listed)
    have = begins(got)
    assert len(have) == len(set(have)), "a final candle came twice"
    assert not rest.told and not rest.counts["missing"], "what REST lists was given up"
    assert sorted(have) == times[:n], "a final candle was lost in silence"


def test_restored_rows_are_marked_and_come_in_order_a_few_at_a_time(rest, caplog):
    series = TradeSeries(TRADES, rest.filler)
    series.take([trade(1000), trade(7000)])
    rows = rest.fill(series, lambda before: page(trades_listed(900, 7060), before))
    assert ids(rows) == list(range(1001, 7000)) and all(row["restored"] is True for row in rows)
    assert max(map(len, rest.pieces)) <= 10, "live rows wait too long"
    assert rest.counts["rows restored"] == 5999 and rest.counts["holes"] == 1
    assert re.search(r"trades:BTC-USDT: \d+ missing rows fetched, back to \d\d:\d\d:\d\d\.", caplog.text)


def test_what_rest_does_not_list_was_never_public_wherever_its_pages_end(rest, caplog):
    caplog.set_level("INFO", "okex_ws")
    for gone in range(1001, 1101):
        series = TradeSeries(TRADES, rest.filler)
        series.take([trade(1000), trade(1101)])
        listed = trades_listed(900, 1160)
        del listed[gone]
        rest.pieces.clear()
        rows = rest.fill(series, lambda before, listed=listed: [None, 7, {"tradeId": "x"}, *page(listed, before)])
        assert set(ids(rows)) == {*range(1001, 1101)} - {gone} and not rest.told, f"{gone} is not listed"
    assert "99 missing rows restored; 1 do not exist, since REST does not list them." in caplog.text


def test_what_a_server_that_is_behind_leaves_out_or_has_as_forming_is_asked_for_again(rest):
    series = TradeSeries(TRADES, rest.filler)
    series.take([trade(1000), trade(1300)])
    newest = iter([1350, 1180, 1180])
    rows = rest.fill(series, lambda before: page(trades_listed(900, next(newest, 1350)), before))
    assert ids(rows) == list(range(1001, 1300)) and not rest.told
    rest.pieces.clear()
    series = CandleSeries(CANDLES, rest.filler)
    series.patience, forming = 0.0, iter("00")
    series.take([minute(0), minute(3, "0")])
    rows = rest.fill(series, lambda before: [minute(2, next(forming, "1")), minute(1), minute(0)])
    assert [(row["ts"], row["confirm"]) for row in rows] == [(minute(n)["ts"], "1") for n in (1, 2)] and not rest.told


def test_what_is_too_old_or_too_much_is_named_and_the_rest_restored(monkeypatch):
    now = int(time.time() * 1000)
    listed = {id: trade(id, ts=str(now - (2000 - id) * 60_000)) for id in range(900, 2050)}  # one a minute
    del listed[1990]  # which does not exist, and so is not missing
    cases = [  # seconds to fill, rows at most, where the rest may begin, and why
        (400.5 * 60, 10**6, [1600], "older than is to be filled"),
        (AGES, 250, range(1640, 1751), "more than 250 rows"),
    ]
    for fill, most, lowest, why in cases:
        monkeypatch.setattr(okex_ws, "MAX_RESTORED", most)
        with resting(fill) as rest:
            series = TradeSeries(TRADES, rest.filler)
            series.take([trade(1000), trade(2000, ts=str(now))])
            got = ids(rest.fill(series, lambda before: page(listed, before)))
        assert got == [*range(got[0], 1990), *range(1991, 2000)] and got[0] in lowest, why
        size = got[0] - 1001
        assert rest.told == [f"trades:BTC-USDT: trades 1001 to {got[0] - 1} ({size}) stay missing: {why}"]
        assert rest.counts["missing"] == size, why


def test_what_rest_does_not_give_is_named_after_some_tries(rest):
    others = page(trades_listed(900, 1099, instId="ETH-USDT"), 1099)
    answers = [[], {}, None, 7, [None], [{}], ["x"], [["1"]], others, [trade(9_999_999)] * 5]
    answers += [page(trades_listed(900, 1047), 1050), ValueError("51001 No such instrument.")]
    for n, answer in enumerate(answers, 1):
        series = TradeSeries(TRADES, rest.filler)
        series.take([trade(1000), trade(1050)])
        assert rest.fill(series, lambda before, answer=answer: answer) == []
        assert len(rest.asked) == okex_ws.FILL_TRIES * n and rest.counts["missing"] == 49 * n, answer
        assert rest.told[-1].startswith("trades:BTC-USDT: trades 1001 to 1049 (49) stay missing: "), answer


def test_what_stays_missing_is_named_right_after_the_last_try(rest, monkeypatch):
    real = time.monotonic
    monkeypatch.setattr(okex_ws, "monotonic", lambda: real() / 1000)  # no wait for another try ends
    monkeypatch.setattr(okex_ws, "MAX_RETRY", 30.0)
    monkeypatch.setattr(okex_ws, "FILL_TRIES", 1)
    series = TradeSeries(TRADES, rest.filler)
    series.take([trade(1000), trade(1050)])
    assert rest.fill(series, lambda before: [], within=10.0) == [] and len(rest.told) == 1


def test_a_bar_that_is_only_a_little_late_is_neither_told_nor_asked_for(rest, caplog):
    late, other = (CandleSeries(f"candle1m:{name}-USDT", rest.filler) for name in ("LATE", "OTHER"))
    late.patience, other.patience = 0.3, 0.4
    began = time.monotonic()
    late.take([minute(0), minute(2, "0"), minute(1)])
    other.take([minute(0), minute(2, "0")])
    assert "OTHER-USDT" in rest.answer(lambda before: []) and time.monotonic() - began >= 0.4, "no patience"
    assert "LATE-USDT" not in caplog.text and rest.counts["holes"] == 1


def test_bars_are_asked_for_where_rest_has_all_of_them_and_not_at_all_where_it_has_none(rest, caplog):
    caplog.set_level("INFO", "okex_ws")
    paths = {
        "history-candles?instId=A-B": "candle1s candle2D candle3Mutc",
        "history-mark-price-candles?instId=A-B": "mark-price-candle1m mark-price-candle1Mutc",
        "history-index-candles?instId=A-B": "index-candle1W index-candle12Hutc",
        "sprd-history-candles?sprdId=A-B": "sprd-candle2D sprd-candle3Dutc",
        "": "candle5D candle5Dutc mark-price-candle1s mark-price-candle2D mark-price-candle3Dutc mark-price-candle5D"
        " index-candle1s index-candle2Dutc index-candle3D index-candle5Dutc sprd-candle1s sprd-candle5D",
    }
    for kind, path in ((kind, path) for path, kinds in paths.items() for kind in kinds.split()):
        series, length = CandleSeries(f"{kind}:A-B", rest.filler), kind.partition("candle")[2]
        series.patience, times = 0.0, bars(length, 4)
        series.take([candle(times[0]), candle(times[3], "0")])
        if path:
            listed = {begin: candle(begin) for begin in times}
            asked = rest.answer(lambda before, listed=listed: page(listed, before))
            assert asked.startswith(f"/api/v5/market/{path}&bar={length}&after="), kind
        rest.fill(series, pytest.fail)
        okex_ws.CHORUS.sum_up(0.0)
        said = [line for line in caplog.messages if line.startswith(f"{kind}:A-B: ")]
        assert said[0].endswith("Asking REST." if path else "(2) stay missing: REST has no such candles."), kind
        assert len(said) == 1 + bool(path), kind


def test_without_filling_nothing_is_asked_and_holes_are_named():
    with resting(fill=0.0) as rest:
        trades, months = TradeSeries(TRADES, rest.filler), CandleSeries("candle1Mutc:X-Y", rest.filler)
        months.patience = 0.0
        trades.take([trade(10), trade(13)])
        months.take([candle(begin) for begin in bars("1Mutc", 4)[::3]])
        silent(rest, 3)
        rest.filler.check()
        assert rest.fill(trades, pytest.fail) == rest.fill(months, pytest.fail) == [] and rest.paths.empty()
    texts = ["trades:BTC-USDT: trades 11 to 12 (2)", "candle1Mutc:X-Y: candles 2026-11 to 2026-12 (2)"]
    assert rest.told == [f"{text} stay missing: filling is off" for text in texts] and rest.counts["missing"] == 4


def test_nothing_is_handed_over_or_told_of_a_channel_that_the_user_gave_up(rest, caplog):
    caplog.set_level("INFO", "okex_ws")
    listed = trades_listed(1, 1359)
    for answers in ([page(listed, 1350)], [OSError("down")], [ValueError("51001")] * okex_ws.FILL_TRIES):
        gone, other = TradeSeries("trades:GONE-USDT", rest.filler), TradeSeries(TRADES, rest.filler)
        asked = sum("GONE" in path for path in rest.asked)
        gone.take([trade(1000), trade(1300)])
        for answer in answers[:-1]:
            rest.answer(lambda before, answer=answer: answer)
        rest.answer(lambda before, gone=gone, answer=answers[-1]: setattr(gone, "dropped", True) or answer)
        other.take([trade(1000), trade(1002)])  # which is filled after it
        rest.fill(other, lambda before: page(listed, before))
        assert sum("GONE" in path for path in rest.asked) == asked + len(answers), "it was still asked for"
        rest.filler.give_up(gone, gone.holes, "the run ended first")  # as the end of the run has it
    assert ids(rest.hand_over()) == [1001] * 3 and not rest.told and not rest.counts["missing"]
    said = [line for line in caplog.text.splitlines() if "GONE" in line]
    assert all("Asking REST" in line or "Trying again" in line for line in said), said


def test_all_clients_together_ask_no_more_often_than_the_exchange_takes(rest, monkeypatch):
    monkeypatch.setattr(okex_ws, "FILL_PACE", okex_ws.Pace(0.05))
    with resting() as other:
        began = time.monotonic()
        for each in (rest, other):
            TradeSeries(TRADES, each.filler).take([trade(1000), trade(1002)])
        for each in (rest, other) * 3:
            each.answer(lambda before: ValueError("nothing yet"))
    assert time.monotonic() - began >= 5 * 0.05
    with resting() as index:
        series, began = CandleSeries("index-candle1m:LTC-USD", index.filler), time.monotonic()
        series.patience = 0.0
        series.take([minute(0), minute(2, "0")])
        for _ in range(4):
            index.answer(lambda before: ValueError("nothing yet"))
    assert time.monotonic() - began >= 3 * 2 * 0.05, "REST takes half as many of these"


# -- Looks: what should have come, and did not


def test_a_bar_is_owed_15_s_after_its_end_whatever_its_length():
    for length in LENGTHS:
        times = [begin // 1000 for begin in bars(length, 30)]
        for n, confirm in ((n, confirm) for n in range(28) for confirm in "01"):
            series, end = CandleSeries(f"candle{length}:X-Y"), times[n + 1 + int(confirm)]
            series.take([candle(times[n] * 1000, confirm)])
            owed = [series.owes(clock) for clock in (end + 14, end + 15 + 5 * 86_400 * ("M" in length))]
            assert owed == [False, length != "1s"], (length, n, confirm)


def silent(rest, many):
    """So many channels of candles that had a row long ago, and are confirmed."""
    for n in range(many):
        series = CandleSeries(f"candle1m:C{n}-USDT", rest.filler)
        series.take([minute(0)])
        rest._subscriptions.append(SimpleNamespace(state="confirmed", keeper=series))


def test_a_thousand_silent_channels_are_asked_for_once_each_and_after_holes(rest):
    now = [T0 / 1000 + 300]
    rest.exchange_time = lambda: now[0]
    silent(rest, 1000)
    for _ in range(3):
        rest.filler.check()
        now[0] += 300
    rest.answer(lambda before: [])
    TradeSeries(TRADES, rest.filler).take([trade(1000), trade(1002)])
    paths = [rest.answer(lambda before: [trade(1001)] if before else [[*minute(1).values()]]) for _ in range(1000)]
    assert any("history-trades" in path for path in paths[:3]), "a hole had to wait"
    assert len(set(paths)) == 1000, "a channel was asked for twice"
    with pytest.raises(Empty):
        rest.answer(lambda before: [], within=0.2)


def test_what_is_too_old_is_measured_from_when_it_was_missed():
    with resting(fill=3600.0) as rest:
        missed = rest.exchange_time()
        busy, late = TradeSeries(TRADES_ALL, rest.filler), TradeSeries(TRADES, rest.filler)
        for series in (busy, late):
            series.take([trade(1000), trade(1050)])
        listed = trades_listed(900, 1060, ts=str(int(missed * 1000) - 60_000))
        rest.exchange_time = lambda: missed + 7200
        assert all(len(rest.fill(series, lambda before: page(listed, before))) for series in (busy, late))
        assert not rest.told


# -- The whole of it, against the stand-in


@pytest.fixture
def hurrying(exchange, monkeypatch):
    """Clients go by the time of a market that may hurry."""
    monkeypatch.setattr(okex_ws.OkexWS, "exchange_time", lambda self: exchange.market_time())
    return exchange


def walk(exchange, steps):
    """The market goes on though nobody is connected."""
    with exchange.lock:
        for _ in range(steps):
            exchange.ahead += exchange.hurry or 0.0
            for instrument in exchange.instruments.values():
                instrument.step()


def drop(exchange, sessions, steps):
    """Lose connections; the market takes so many steps before anybody can be back."""
    with exchange.lock:
        for session in sessions:
            session.drop()
        walk(exchange, steps)
    wait_for(lambda: not set(sessions) & set(exchange.sessions))


def rows_of(client, channel):
    return [row for name, row in client.rows if name == channel]


def steps(channel):
    """From one number to the next: of ids, or of candles of a second or a minute."""
    return 1 if channel.startswith("trades") else 1000 if "1s" in channel else 60_000


def numbers(channel, rows):
    return ids({"count": "1", **row} for row in rows) if steps(channel) == 1 else begins(rows)


def whole(channel, rows, newest=None):
    """Whether these are all trades, or all final candles, from the first to the last, or to the newest."""
    have = numbers(channel, rows)
    assert len(have) == len(set(have)), f"{channel}: a row came twice"
    return have and sorted(have) == list(range(min(have), (newest or max(have)) + 1, steps(channel)))


def lose_one(exchange, client):
    """Lose one message of trades, and wait until REST is asked for them, if it is."""
    wait_for(lambda: len(client.rows) > 2)
    asked = len(exchange.fetched)
    exchange.lost[TRADES] = 1
    wait_for(lambda: len(exchange.fetched) > asked or client.counts["missing"])


def test_what_a_reconnect_or_a_lost_message_costs_is_restored_on_every_channel(exchange, connect, impatient):
    exchange.aggregates, exchange.hurry = True, 30.0
    names = ["candle1m:BTC-USDT", "mark-price-candle1m:BTC-USDT", "index-candle1m:BTC-USDT"]
    names += ["sprd-candle1m:BTC-USDT_BTC-USDT-SWAP", TRADES_ALL]
    channels = {TRADES: connect(TRADES), **dict.fromkeys(names, connect(*names))}

    def more_of_each():
        seen = {channel: len(rows_of(client, channel)) for channel, client in channels.items()}
        wait_for(lambda: all(len(rows_of(client, name)) > seen[name] + 3 for name, client in channels.items()))

    for _ in range(2):
        more_of_each()
        drop(exchange, list(exchange.sessions), steps=20)
        more_of_each()
        exchange.lost |= dict.fromkeys(channels, 5)
        wait_for(lambda: not any(exchange.lost.values()))
    more_of_each()
    exchange.every = None
    exchange.step()
    newest = exchange.instruments["BTC-USDT"].trade_id
    for channel, client in channels.items():
        last = newest if steps(channel) == 1 else None
        wait_for(lambda name=channel, client=client, last=last: whole(name, rows_of(client, name), last))
        assert sum("restored" in row for row in rows_of(client, channel)) >= 18, channel
    for client in set(channels.values()):
        assert sum("restored" in row for _, row in client.rows) == client.counts["rows restored"]
        assert not client.counts["missing"] and not client.saw(okex_ws.GAP)


def test_with_final_the_handler_gets_final_candles_alone_and_none_is_missing(exchange, connect):
    exchange.hurry = 30.0
    names = ["candle1m:BTC-USDT", "mark-price-candle1m:BTC-USDT", TRADES_ALL]
    client = connect(*names, final=True)
    wait_for(lambda: all(len(rows_of(client, name)) > 3 for name in names))
    exchange.lost |= dict.fromkeys(names, 5)
    wait_for(lambda: client.counts["rows restored"] > 5 and all(whole(name, rows_of(client, name)) for name in names))
    assert all(row.get("confirm", "1") == "1" for _, row in client.rows)
    series = CandleSeries(CANDLES)
    series.final = True
    assert series.take([minute(0, "0"), None, list(minute(0).values()), minute(1, "0")]) == [None, minute(0)]


def test_while_rest_is_down_live_rows_go_on_and_what_the_end_leaves_is_named(exchange, connect, caplog):
    client = connect(TRADES)
    exchange.rest_status = 503
    lose_one(exchange, client)
    wait_for(lambda: len(exchange.fetched) > 10)  # more often than refusals would be forgiven
    wait_for(client.more_rows())
    exchange.rest_status = 0
    wait_for(lambda: client.counts["rows restored"] and whole(TRADES, rows_of(client, TRADES)))
    assert caplog.text.count("HTTP 503. Trying again") == caplog.text.count("REST answers again") == 1
    exchange.rest_status = 503
    lose_one(exchange, client)
    client.close()
    wait_for(lambda: client.saw(okex_ws.EXIT))
    assert any("the run ended first" in detail for status, detail in client.statuses if status == okex_ws.GAP)


def test_what_stays_missing_is_told_and_is_exactly_what_is_not_there(exchange, connect, caplog):
    def refuse(*_):
        raise Refusal("51001", "No such instrument")

    # and why the trades stay missing
    cases = [({"fill": 0.0}, None, "filling is off"), ({}, refuse, "51001 No such instrument")]
    for options, exchange.rest_rows, why in cases:
        exchange.fetched.clear()
        client = connect(TRADES, **options)
        lose_one(exchange, client)
        wait_for(lambda client=client: client.saw(okex_ws.GAP))
        ((_, detail),) = [status for status in client.statuses if status[0] == okex_ws.GAP]
        first, last, n = map(int, re.search(r"trades (\d+) to (\d+) \((\d+)\) stay missing: ", detail).groups())
        assert detail.endswith(why) and detail in caplog.text, why
        assert client.counts["missing"] == n == last - first + 1, why
        have = set(ids(rows_of(client, TRADES)))
        assert not have & set(range(first, last + 1)) and {first - 1, last + 1} <= have, why
        assert len(exchange.fetched) == (okex_ws.FILL_TRIES if exchange.rest_rows else 0), why
        client.close()
        wait_for(lambda: not exchange.sessions)


def test_a_hole_that_the_user_gave_up_is_not_filled(exchange, connect):
    client = connect(TRADES)
    exchange.rest_status = 503
    lose_one(exchange, client)
    client.unsubscribe(TRADES)
    exchange.rest_status = 0
    wait_for(lambda: not client.channels)
    client.subscribe(TRADES)
    wait_for(client.more_rows())
    assert not client.counts["rows restored"] and not client.counts["missing"]


def test_trades_of_an_outage_are_restored_though_no_more_come(hurrying, connect, impatient):
    """Where no trade came before, those that are newer than the subscription."""
    exchange, market = hurrying, hurrying.instrument("BTC-USDT")
    for before, status in (("rows", 0), ("none", 0), ("none", 503), ("soon", 0)):
        exchange.lost[TRADES], exchange.rest_status = 10**9 * (before != "rows"), status
        client, asked = connect(TRADES), len(exchange.fetched)
        wait_for(lambda client=client: client.rows or client.saw(okex_ws.SUBSCRIBED))
        exchange.lost[TRADES], newest, exchange.every = 10**9, market.trade_id, None
        if before != "rows":
            exchange.ahead += 2
            time.sleep(1.1)  # until the client has looked at its clock
        if before == "none":
            exchange.ahead += 6
            wait_for(lambda asked=asked: len(exchange.fetched) > asked)
        drop(exchange, exchange.sessions[-1:], steps=200)
        wait_for(lambda client=client: client.saw(okex_ws.SUBSCRIBED, 2))
        exchange.rest_status = 0

        def restored(client=client):
            exchange.ahead += 0.1
            return whole(TRADES, rows_of(client, TRADES), market.trade_id)

        wait_for(restored, case=before)
        assert before == "rows" or min(numbers(TRADES, rows_of(client, TRADES))) == newest + 1, before
        client.close()
        wait_for(lambda: not exchange.sessions)


def test_a_run_that_ends_right_after_a_reconnect_counts_what_it_did_not_look_up(exchange, streaming, impatient):
    client = streaming(TRADES)
    exchange.lost[TRADES] = 10**9
    drop(exchange, exchange.sessions[-1:], steps=1)
    wait_for(lambda: client.saw(okex_ws.SUBSCRIBED, 2))
    client.close()
    wait_for(lambda: client.saw(okex_ws.EXIT))
    assert client.counts["channels not looked up"] == 1 and not client.counts["missing"]


def test_candles_that_do_not_come_are_restored_and_a_channel_that_lost_trades_begins_anew(hurrying, connect):
    exchange = hurrying
    exchange.hurry = 2.0  # a minute in 0.6 s

    def without_trades(path, query, rows):
        return [[*row[:5], "0", "0", "0", row[-1]] for row in rows]

    cases = [(CANDLES, None, True), (CANDLES, without_trades, False), ("mark-price-candle1m:BTC-USDT", None, True)]
    for channel, exchange.rest_rows, anew in cases:
        client, requests = connect(channel), len(exchange.requests)
        wait_for(lambda client=client: any(row["confirm"] == "1" for _, row in client.rows))
        exchange.lost[channel] = 10**9
        wait_for(lambda client=client: client.counts["rows restored"] > 2)
        wait_for(lambda n=requests, anew=anew: ("unsubscribe" in str(exchange.requests[n:])) == anew, case=channel)
        assert client.saw(okex_ws.GAP) == anew, channel
        with exchange.lock:  # it counts down
            exchange.lost[channel] = 0
        wait_for(lambda client=client: "restored" not in client.rows[-1][1])
        wait_for(lambda client=client, channel=channel: whole(channel, rows_of(client, channel)))
        client.close()
        wait_for(lambda: not exchange.sessions)


def test_a_clock_that_is_an_hour_off_fills_as_any_other(exchange, connect):
    for exchange.skew in (-3601.0, 3601.0):
        client = connect(TRADES, fill=60.0)
        wait_for(lambda client=client: len(client.rows) > 20)
        lose_one(exchange, client)
        wait_for(lambda client=client: client.counts["rows restored"] and whole(TRADES, rows_of(client, TRADES)))
        later = Client([TRADES], url=exchange.url, fill=60.0)
        later.recall(TRADES, [row for n, row in enumerate(rows_of(client, TRADES)) if n != 9])
        later.start()
        wait_for(lambda later=later: later.counts["rows restored"])
        for each in (client, later):
            each.close()
        wait_for(lambda: not exchange.sessions)


def test_candles_of_a_second_are_restored_after_more_than_1000_s(exchange, connect, impatient):
    exchange.hurry = 1.0
    client = connect(BARS, fill=7200.0)
    wait_for(lambda: len(client.rows) > 5)
    drop(exchange, exchange.sessions[-1:], steps=1500)
    wait_for(lambda: client.counts["rows restored"] >= 1500 and whole(BARS, rows_of(client, BARS)))


def test_a_rest_that_answers_with_web_pages_is_waited_for(exchange, connect, caplog):
    client = connect(TRADES)
    for status, body in ((403, b""), (404, b""), (0, b"<html>Welcome to the hotel</html>"), (0, b'{"a":1}')):
        caplog.clear()
        exchange.rest_status, exchange.rest_body = status, body
        lose_one(exchange, client)
        asked = len(exchange.fetched)
        wait_for(lambda asked=asked: len(exchange.fetched) > asked + 2 * okex_ws.FILL_TRIES)
        exchange.rest_status, exchange.rest_body = 0, b""
        wait_for(lambda: whole(TRADES, rows_of(client, TRADES)))
        assert client.counts["missing"] == 0 and caplog.text.count("Trying again") == 1, (status, body)


HANGS = """
import runpy, socket, sys, threading, time
from websocket import WebSocket

def connect(*_, **__):
    if connected:
        print("hanging", flush=True)
        time.sleep(60)
    connected.append(real(*_, **__))

connected, real, WebSocket.connect = [], WebSocket.connect, connect
sys.argv[0] = "okex_ws.py"
runpy.run_path("okex_ws.py", run_name="__main__")
"""


def test_the_summary_counts_what_is_still_asked_for_though_a_client_hangs_in_connecting(exchange):
    exchange.rest_status = 503
    process = program(TRADES, "--url", exchange.url, "--jsonl", os.devnull, code=HANGS)
    wait_for(lambda: exchange.sessions and exchange.sessions[0].feeds)
    exchange.lost[TRADES] = 1
    wait_for(lambda: exchange.fetched)
    exchange.sessions[-1].drop()
    until(process.stdout, "hanging")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    [(gone, total)] = re.findall(r"\((\d+)\) stay missing: the run ended first.* (\d+) missing", " ".join(err.split()))
    assert gone == total != "0"


SEED = int(os.environ.get("SERIES_SEED", "13"))  # to play other markets
LIVES = int(os.environ.get("SERIES_LIVES", "4"))  # of the program; to play longer: 40 take five minutes


def kept(path):
    """The rows of each channel, of candles the final ones, in an SQLite file, in their order of arrival."""
    rows = {TRADES: [], BARS: []}
    with sqlite3.connect(path) as db:
        for channel, text in db.execute("SELECT channel, row FROM rows ORDER BY rowid"):
            row = json.loads(text)
            rows[channel] += [row] if row.get("confirm", "1") == "1" else []
    return rows


def named_as_missing(err):
    """The ids of trades, and the times of candles in ms, that the lines of a run name."""
    named = {TRADES: set(), BARS: set()}
    for kind, *ends in re.findall(r"(trades|candles) (\S+) to (\S+) \(\d+\) stay missing", " ".join(err.split())):
        channel = TRADES if kind == "trades" else BARS
        if channel == BARS:
            ends = [datetime.fromisoformat(end.replace("Z", "+00:00")).timestamp() * 1000 for end in ends]
        first, last = map(int, ends)
        named[channel] |= set(range(first, last + 1, steps(channel)))
    return named


def trouble(exchange, rng):
    """Lose some messages and a connection, while the market goes on and REST may be slow, or fail."""
    market = exchange.instruments["BTC-USDT"]
    seen = market.trade_id
    wait_for(lambda: market.trade_id > seen + 40)
    exchange.lost[rng.choice([TRADES, BARS])] = rng.randint(1, 3)
    exchange.rest_status, exchange.rest_delay = rng.choice([0, 503]), rng.choice([0.0, 0.3])
    drop(exchange, exchange.sessions[-1:], steps=rng.randint(0, 60))
    wait_for(lambda: sum(len(session.feeds) for session in list(exchange.sessions)) == 2)


@pytest.mark.timeout(300 + 30 * LIVES)
def test_after_kills_drops_losses_and_failing_rest_the_file_holds_everything_once(tmp_path, monkeypatch):
    """A market is played to the program; connections, messages, REST and the program itself come and go."""
    for bound in ("KEPT_TRADES", "KEPT_BARS"):
        monkeypatch.setattr(f"exchange.{bound}", 10**6)
    path, rng = tmp_path / "rows.db", random.Random(SEED)

    def answer(path, query, rows):
        """Pages are short, or begin with rows of the page before."""
        step = 1 if path.endswith("trades") else 1000
        overlap = query | {"after": str(int(query["after"]) + rng.choice([0, 10]) * step)}
        return exchange.rest(path, overlap)[: rng.choice([20, 50, 100])]

    with Exchange(every=0.01) as exchange:
        exchange.aggregates, exchange.hurry, exchange.rest_rows = True, 0.05, answer
        for life in range(LIVES):
            options = ("--url", exchange.url, "--sqlite", path, "--fill", "2h")
            process = program(TRADES, BARS, *options, stdout=subprocess.DEVNULL)
            wait_for(lambda: sum(len(session.feeds) for session in list(exchange.sessions)) == 2)
            for _ in range(2):
                trouble(exchange, rng)
            exchange.rest_status, exchange.rest_delay = 0, 0.0
            exchange.lost.clear()
            if life < LIVES - 1:
                process.kill()
                process.communicate(timeout=10)
                wait_for(lambda: not exchange.sessions)
                walk(exchange, rng.randint(0, 300))
        exchange.every = None  # or its end could come before a hole is filled
        # REST is asked 8 times a second.
        wait_for(lambda: all(len(r) > 5 and whole(name, r) for name, r in kept(path).items()), within=15 * LIVES)

        # Two holes that REST does not give any more, with rows behind them.
        exchange.rest_status = 503
        exchange.lost |= {TRADES: 2, BARS: 60}
        for _ in range(200):
            exchange.step()
        market = exchange.instruments["BTC-USDT"]
        newest = {TRADES: market.trade_id, BARS: market.bars["1s"][-2][0]}
        wait_for(lambda: {channel: max(numbers(channel, rows)) for channel, rows in kept(path).items()} == newest)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)

    assert re.search(r"\d+ holes, \d+ rows? restored, \d+ missing", err)
    rows, named = kept(path), named_as_missing(err)
    for channel in (TRADES, BARS):
        have = numbers(channel, rows[channel])
        assert len(have) == len(set(have)) and named[channel] and not named[channel] & set(have), channel
        assert set(have) | named[channel] == set(range(min(have), max(have) + 1, steps(channel))), channel
    listed = {t["id"]: t for t in market.history}
    for row in rows[TRADES]:
        parts = [listed[id] for id in ids([row])]
        assert {(t["price"], t["side"]) for t in parts} == {(row["px"], row["side"])}
        assert sum(float(t["size"]) for t in parts) == pytest.approx(float(row["sz"]), abs=0.001)
    final = {str(begin): [market.price(ticks) for ticks in prices] for begin, *prices, _ in market.bars["1s"]}
    assert all([row[name] for name in "ohlc"] == final[row["ts"]] for row in rows[BARS])


def test_redis_keeps_restored_rows_in_the_history_and_not_as_the_latest(redis_server):
    sink = okex_ws.RedisSink(redis_server.url, name="series", history=100, command=lambda *_: None)
    feed = okex_ws.RedisFeed(redis_server.url, name="series")
    for channel, rows in ((TRADES, [trade(n) for n in (5, 7, 6)]), (CANDLES, [minute(n) for n in (5, 7, 6)])):
        *live, late = rows
        late["restored"] = True
        sink.write(1.0, channel, live)
        sink.write(2.0, channel, [late])
        sink.flush()
        assert feed.get(channel) == live[-1] and feed.get(channel, 10) == [*live, late], channel
    sink.close()


def test_fill_takes_a_length_of_time_or_none():
    for text, seconds in (("0", 0.0), ("0s", 0.0), ("90", 90.0), ("2h", 7200.0)):
        assert okex_ws.parse_arguments(["--fill", text]).fill == seconds, text
    assert okex_ws.parse_arguments([]).fill == 3600.0
    with pytest.raises(SystemExit):
        okex_ws.parse_arguments(["--fill", "soon"])
