"""The order book: right, or not ready. Never wrong."""

import json
import random
import re
import threading
import zlib
from contextlib import suppress
from functools import partial
from itertools import pairwise
from math import inf

import pytest
import websocket
from conftest import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

import okex_ws
from okex_ws import CONNECTED, DISCONNECTED, GAP, V1, V3, V5, BookOutOfSync, OrderBook


def row(bids, asks, **more):
    return {"bids": [list(level) for level in bids], "asks": [list(level) for level in asks], **more}


def v5(previous, sequence, bids=(), asks=(), **more):
    return row(bids, asks, ts="1", prevSeqId=previous, seqId=sequence, **more)


def snapshot(sequence=10, **more):
    return v5(-1, sequence, [("99", "1"), ("98", "2")], [("101", "3"), ("102", "4")], **more)


def crc(bids, asks):
    """The exchange's checksum, written down a second time: by rank, one list after the other, no cleverness."""
    parts = []
    for rank in range(25):
        for side in (bids, asks):
            if rank < len(side):
                parts += side[rank][:2]
    unsigned = zlib.crc32(":".join(parts).encode())
    return unsigned - 2**32 if unsigned >= 2**31 else unsigned


def ready_book(**more):
    book = OrderBook()
    book.apply(snapshot(**more), "snapshot")
    return book


# -- Keeping it


def test_reads_best_first_in_the_exchanges_own_strings():
    book = OrderBook()
    levels = [("83725.8", "7.69", "0", "5"), ("83725.90", "1E-8", "0", "1"), ("9", "1.000", "0", "1")]
    book.apply(v5(-1, 1, levels, [("83726.5", "2", "0", "1"), ("90000", "0.10", "0", "1")]), "snapshot")
    assert book.ready and book.timestamp == "1"
    assert book.best_bid == ("83725.90", "1E-8")
    assert book.best_ask == ("83726.5", "2")
    assert book.top(2) == ([["83725.90", "1E-8"], ["83725.8", "7.69"]], [["83726.5", "2"], ["90000", "0.10"]])
    assert (book.mid, book.spread) == (83726.2, 0.6)


def test_an_update_inserts_replaces_and_deletes():
    book = ready_book()
    book.apply(v5(10, 11, [("99", "0"), ("98", "5"), ("97.5", "6"), ("1", "0")], [("100", "7")]), "update")
    assert book.top(9) == ([["98", "5"], ["97.5", "6"]], [["100", "7"], ["101", "3"], ["102", "4"]])


def test_prices_are_numbers_however_they_are_written():
    book = OrderBook()
    book.apply(row([("1E-8", "5"), ("0.00000002", "6")], [("3e-8", 1)]), "snapshot")
    book.apply(row([("0.00000001", "0.000"), ("2E-8", 7)], []), "update")
    assert book.top(9) == ([["2E-8", "7"]], [["3e-8", "1"]])
    book.apply(row([(2e-8, 0), (1e-8, 0.5)], []), "update")
    assert book.top(9) == ([["1e-08", "0.5"]], [["3e-8", "1"]])


def test_one_sided_and_empty_books_are_books():
    book = OrderBook()
    book.apply(row([], []), "snapshot")
    assert (book.ready, book.best_bid, book.best_ask, book.mid, book.spread) == (True, None, None, None, None)
    book.apply(row([("1", "1")], []), "update")
    assert (book.best_bid, book.best_ask, book.mid, book.spread) == (("1", "1"), None, None, None)
    assert book.top(3) == ([["1", "1"]], [])


def test_a_snapshot_replaces_everything():
    book = ready_book()
    book.apply(v5(-1, 99, [("50", "1")], []), "snapshot")
    assert book.top(9) == ([["50", "1"]], [])
    book.apply(v5(99, 100, [("51", "1")], []), "update")
    assert book.best_bid == ("51", "1")


def test_whole_books_replace_each_other():
    book = OrderBook(whole=True)
    for price in ("5", "4"):
        book.apply(row([(price, "1")], [("9", "1")], ts="7", seqId=1), "")
    assert book.top(9) == ([["4", "1"]], [["9", "1"]])


def test_in_v1_the_first_message_is_the_book_and_the_rest_are_changes():
    book = OrderBook()
    book.apply(row([("5", "1"), ("4", "1")], [("9", "1")], timestamp=1490337551299))
    book.apply(row([("5", 0), ("3", "1")], []))
    assert book.top(9) == ([["4", "1"], ["3", "1"]], [["9", "1"]])
    book.close("disconnected")
    book.open()
    book.apply(row([("2", "1")], []))
    assert book.top(9) == ([["2", "1"]], [])


@pytest.mark.parametrize(
    ("dialect", "channel", "kind"),
    [
        (V1, "ok_sub_futureusd_btc_depth_quarter", "changes"),
        (V1, "ok_sub_futureusd_btc_depth_this_week", "changes"),
        (V1, "ok_sub_futureusd_btc_depth_this_week_20", "whole"),
        (V1, "ok_sub_spot_bch_btc_depth", "changes"),
        (V1, "ok_sub_spot_bch_btc_depth_5", "whole"),
        (V1, "ok_sub_spot_bch_btc_deals", ""),
        (V3, "spot/depth:ETH-USDT", "changes"),
        (V3, "swap/depth_l2_tbt:BTC-USD-SWAP", "changes"),
        (V3, "futures/depth5:BTC-USD-191227", "whole"),
        (V3, "spot/trade:ETH-USDT", ""),
        (V5, "books:BTC-USDT", "changes"),
        (V5, "books-l2-tbt:BTC-USDT", "changes"),
        (V5, "books50-l2-tbt:BTC-USDT", "changes"),
        (V5, "books-rpi:BTC-USDT", "changes"),
        (V5, "books5:BTC-USDT", "whole"),
        (V5, "bbo-tbt:BTC-USDT", "whole"),
        (V5, "trades:BTC-USDT", ""),
    ],
)
def test_knows_which_channels_are_books(dialect, channel, kind):
    assert dialect.book(channel) == kind


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 2)), max_size=600))
def test_a_price_that_goes_and_comes_back_is_neither_lost_nor_doubled(changes):
    book, levels = OrderBook(), {}
    book.apply(row([], []), "snapshot")
    for n in range(0, len(changes), 7):
        book.apply(row([(str(p), str(s)) for p, s in changes[n : n + 7]], []), "update")
        levels.update(changes[n : n + 7])
        expected = [[str(p), str(s)] for p, s in sorted(levels.items(), reverse=True) if s]
        assert book.top(3) == (expected[:3], [])
    assert book.top(999) == ([[str(p), str(s)] for p, s in sorted(levels.items(), reverse=True) if s], [])
    assert len(book._bids.sizes) == len(book._bids.order) == len(book._bids.prices)


# -- Distrusting it


def test_a_book_that_is_not_ready_does_not_answer():
    book = OrderBook()
    for read in ("best_bid", "best_ask", "mid", "spread", "timestamp"):
        with pytest.raises(BookOutOfSync, match="no snapshot yet"):
            getattr(book, read)
    with pytest.raises(BookOutOfSync):
        book.top(1)
    book.apply(snapshot(), "snapshot")
    book.invalidate("disconnected")
    assert not book.ready
    with pytest.raises(BookOutOfSync, match="disconnected"):
        _ = book.mid


def test_the_documented_run_of_sequence_numbers_is_accepted():
    book = ready_book()
    for previous, sequence in [(10, 15), (15, 15), (15, 3), (3, 5)]:
        book.apply(v5(previous, sequence, [] if previous == sequence else [("97", "1")]), "update")
    assert book.ready


@pytest.mark.parametrize(
    "update",
    [
        v5(11, 12),  # one message is missing
        v5(9, 10),  # stale: what came before the snapshot
        v5(7, 3),  # a reset that does not follow
        v5(-1, 11),
        v5(10, 10, [("97", "1")]),  # held, but with levels
        {"bids": [], "asks": [], "seqId": 11},
    ],
)
def test_what_does_not_follow_is_a_gap(update):
    book = ready_book()
    with pytest.raises(BookOutOfSync):
        book.apply(update, "update")
    assert not book.ready
    with pytest.raises(BookOutOfSync):
        _ = book.best_bid
    book.apply(snapshot(50), "snapshot")
    assert book.best_bid == ("99", "1")


CROSSINGS = [([("101", "1")], []), ([], [("99", "1")]), ([("200", "1")], [("98.5", "2")])]


@pytest.mark.parametrize("crossing", CROSSINGS)
def test_a_crossed_book_is_distrusted_where_nothing_vouches_for_it(crossing):
    book = OrderBook()
    book.apply(row([("99", "1"), ("98", "2")], [("101", "3"), ("102", "4")]))  # v1
    with pytest.raises(BookOutOfSync, match="crossed"):
        book.apply(row(*crossing))
    assert not book.ready
    for read in ("crossed", "best_bid"):
        with pytest.raises(BookOutOfSync, match="crossed"):
            getattr(book, read)


@pytest.mark.parametrize("crossing", CROSSINGS)
def test_a_crossed_book_whose_sequence_holds_is_the_exchanges_own(crossing):
    book = ready_book()
    assert book.crossed is False
    book.apply(v5(10, 11, *crossing), "update")
    assert book.crossed is True and book.spread <= 0
    book.apply(v5(11, 11), "update")
    assert book.crossed and book.best_bid == (crossing[0] or [("99", "1")])[0]
    assert book.best_ask == (crossing[1] or [("101", "3")])[0]
    gone = [[(price, "0") for price, _ in side] for side in crossing]
    book.apply(v5(11, 12, *gone), "update")  # what crossed has traded
    assert book.crossed is False and (book.best_bid, book.best_ask) == (("99", "1"), ("101", "3"))


@pytest.mark.parametrize("book", [OrderBook(), OrderBook(whole=True)])
@pytest.mark.parametrize("action", ["snapshot", ""])
def test_a_crossed_book_that_comes_whole_is_the_exchanges_own(book, action):
    book.open()
    book.apply(row([("5", "1")], [("4", "1")]), action)
    assert book.crossed and (book.mid, book.spread) == (4.5, -1.0)


def test_a_crossed_book_is_vouched_for_by_its_checksum_alone():
    bids, asks = [("99", "1"), ("98", "2")], [("101", "3")]
    book = OrderBook()
    book.apply(row(bids, asks, checksum=crc(bids, asks)), "snapshot")
    crossing = [("102", "1")]
    book.apply(row(crossing, [], checksum=crc(crossing + bids, asks)), "update")
    assert book.crossed
    with pytest.raises(BookOutOfSync, match="crossed"):
        book.apply(row([("97", "1")], []), "update")


def test_deleted_levels_do_not_cross():
    book = OrderBook()
    book.apply(row([("99", "1"), ("98", "2")], [("101", "3"), ("102", "4")]))
    book.apply(row([("99", "0")], [("98.5", "1")]))
    book.apply(row([], [("98.5", "0.00"), ("99", "1")]))
    assert not book.crossed and (book.best_bid, book.best_ask) == (("98", "2"), ("99", "1"))


def test_a_one_sided_book_is_not_crossed():
    book = OrderBook(whole=True)
    book.apply(row([("5", "1")], []))
    assert book.crossed is False


@pytest.mark.parametrize(
    "odd",
    [
        None,
        7,
        [],
        {},
        {"bids": []},
        row([], []) | {"asks": None},
        row([()], []),
        row([("x", "1")], []),
        row([("nan", "1")], []),
        row([("inf", "1")], []),
        row([], [], checksum="no number"),
    ],
)
@pytest.mark.parametrize("action", ["snapshot", "update", ""])
def test_an_odd_row_is_distrusted_and_nothing_worse(odd, action):
    book = OrderBook()
    book.apply(row([("1", "1")], []), "snapshot")
    with pytest.raises(BookOutOfSync):
        book.apply(odd, action)
    assert not book.ready


@pytest.mark.parametrize("level", [("101",), ("101", "x"), ("101", None)])
def test_a_level_that_cannot_be_read_is_no_quote_and_what_follows_no_book(level):
    book = OrderBook()
    book.apply(row([("99", "1")], [("102", "1")]))  # v1
    with pytest.raises(BookOutOfSync):
        book.apply(row([], [level]))
        book.top(5)
    with pytest.raises(BookOutOfSync):
        book.apply(row([("97", "1")], []))
    assert not book.ready
    book.close("out of sync")
    book.open()
    book.apply(row([("97", "1")], []))
    assert book.top(5) == ([["97", "1"]], [])


@pytest.mark.parametrize(
    ("bids", "asks", "checksum"),
    [
        ([("3366.1", "7"), ("3366", "6")], [("3366.8", "9"), ("3368", "8")], -1881014294),
        ([("3366.1", "7")], [("3366.8", "9"), ("3368", "8"), ("3372", "8")], 831078360),
    ],
)
def test_the_checksums_that_the_exchange_documented(bids, asks, checksum):
    book = OrderBook()
    book.apply(row(bids, asks, checksum=checksum), "snapshot")
    assert book.ready and crc(bids, asks) == checksum
    with pytest.raises(BookOutOfSync, match="checksum"):
        book.apply(row(bids, asks, checksum=checksum + 1), "snapshot")


HUGE = 10**400
BAD_LEVELS = [
    *([["90", size]] for size in ("1:2", ":", "1:", "1\n2", "1,2", "1 2", "0x1", "٣.٣.٣")),
    *([["90", size]] for size in ("", "nan", "-1", "inf", ".", "1.2.3", "1abc", "1e999", "9" * 400, None, [], True)),
    *([[price, "1"]] for price in ("", "nan", "-1", "inf", ".", "1.2.3", "1abc", "9" * 400, None, [], {}, True, False)),
    *([["90", size]] for size in (HUGE, -1, float("nan"), float("inf"), "\ud800", "1e-999999999999999999999x")),
    *([[price, "1"]] for price in (HUGE, -1.5, float("nan"), "1e-99999999999999999999", "\ud800")),
    [["90"]], [[]], ["90"], ["9012"], [90], [None], [{"0": "90"}], [["90", "1"], "12"], [[1, "5"], [True, "6"]],
    "", {}, None, 7, True, "9012", {"90": "1"},
]  # fmt: skip


def with_level(bad, side, update):
    """An update with a bad level deep in the book."""
    good = ["97.5" if side == "bids" else "105", "1"]
    return update | {side: [good, *bad] if isinstance(bad, list) else bad}


@pytest.mark.parametrize("bad", BAD_LEVELS, ids=lambda bad: repr(bad)[:30])
@pytest.mark.parametrize("side", ["bids", "asks"])
@pytest.mark.parametrize("read", ["top", "ready"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("rows", [1, okex_ws.MAX_REMEMBERED + 1])
def test_what_cannot_be_read_deep_in_the_book_is_known_before_it_is_read(bad, side, read, whole, rows):
    book = OrderBook(whole)
    book.apply(snapshot(), "snapshot")
    assert book.ready
    with suppress(BookOutOfSync):
        book.apply(with_level(bad, side, v5(10, 11)), "" if whole else "update")
        for n in range(11, 10 + rows):
            book.apply(with_level(bad, side, v5(n, n + 1)), "" if whole else "update")
    if read == "top":
        with pytest.raises(BookOutOfSync, match="unreadable"):
            book.top(1)
    assert not book.ready
    if not whole:
        with pytest.raises(BookOutOfSync):
            book.apply(v5(11, 12), "update")  # and the client gets to know


@pytest.mark.parametrize("bad", BAD_LEVELS, ids=lambda bad: repr(bad)[:30])
@pytest.mark.parametrize("side", ["bids", "asks"])
@pytest.mark.parametrize("action", ["update", ""])
def test_a_change_without_sequence_number_that_cannot_be_read_is_out_of_sync_at_once(bad, side, action):
    book = OrderBook()
    book.apply(row([("99", "1"), ("98", "2")], [("101", "3"), ("102", "4")]), "snapshot")
    with pytest.raises(BookOutOfSync, match="unreadable"):
        book.apply(with_level(bad, side, row([], [])), action)
    assert not book.ready


@pytest.mark.parametrize("size", ["x", "-1", None, 5])
def test_sizes_that_nobody_reads_are_looked_at_in_the_end(size):
    book = ready_book()
    book.apply(v5(10, 11, [("5", size)]), "update")
    with pytest.raises(BookOutOfSync, match="unreadable"):
        for n in range(11, 12 + okex_ws.MAX_UNSEEN):
            book.apply(v5(n, n + 1, [("97", "1")]), "update")
    assert not book.ready and n < 12 + okex_ws.MAX_UNSEEN


@pytest.mark.parametrize("bad", BAD_LEVELS, ids=lambda bad: repr(bad)[:30])
def test_what_cannot_be_read_in_a_snapshot_is_known_before_it_is_read(bad):
    for update in (snapshot() | {"bids": bad}, snapshot() | {"asks": bad}):
        v1 = {side: update[side] for side in ("bids", "asks")}
        for whole, each, action in ((False, update, "snapshot"), (False, v1, ""), (True, v1, ""), (True, update, "")):
            book = OrderBook(whole)
            with pytest.raises(BookOutOfSync, match="unreadable"):
                book.apply(each, action)
                book.top(1)
            assert not book.ready
        book = OrderBook()
        with pytest.raises(BookOutOfSync, match="unreadable"):
            book.apply(update | {"prevSeqId": 10}, "update")  # which waits for a snapshot
        assert not book.waiting


@pytest.mark.parametrize("name", ["seqId", "prevSeqId"])
@pytest.mark.parametrize("value", [HUGE, "11", None, True, 11.0, [], -2])
def test_a_sequence_number_that_is_none_is_out_of_sync(name, value):
    book = ready_book()
    with pytest.raises(BookOutOfSync):
        book.apply(v5(10, 11) | {name: value}, "update")
    for action in ("snapshot", "update"):
        if (name, action, value) == ("seqId", "snapshot", None):
            continue  # v3 has none
        book = OrderBook()
        with pytest.raises(BookOutOfSync):
            book.apply(v5(10, 11) | {name: value}, action)
    with pytest.raises(BookOutOfSync):
        waiting = waiting_book(v5(20, 22))
        if name == "prevSeqId" and waiting.bridge(rest(25), waiting.waiting):
            waiting.apply(v5(24, 26) | {name: value}, "update")
        waiting.bridge(rest(25) | {name: value}, waiting.waiting)


def test_an_update_without_a_sequence_number_does_not_follow_from_one_that_has_it():
    book = ready_book()
    with pytest.raises(BookOutOfSync):
        book.apply(row([("97", "1")], []), "update")


def test_numbers_of_many_digits_are_numbers_in_a_long_row_too():
    long = "1." + "0" * 100
    book = OrderBook()
    book.apply(row([(str(n), long) for n in range(1, 100)], []), "snapshot")
    book.apply(row([(str(n), "2" * 80) for n in range(1, 100)], []), "update")
    assert book.best_bid == ("99", "2" * 80)
    with pytest.raises(BookOutOfSync):
        book.apply(row([(str(n), "2" * (80 if n < 50 else 400)) for n in range(1, 100)], []), "update")


def test_the_reason_of_an_odd_row_is_short_and_printable():
    book = OrderBook()
    with pytest.raises(BookOutOfSync) as raised:
        book.apply(row([("\x1b[31m" * 1000, "1")], []), "snapshot")
    assert len(str(raised.value)) < 250 and str(raised.value).isprintable()


def test_prices_of_spreads_may_be_negative():
    book = OrderBook(signed=True)
    book.apply(v5(-1, 1, [("-3.5", "1"), ("-4", "1")], [("-0.5", "2"), ("1", "1")]), "snapshot")
    book.apply(v5(1, 2, [("-3.4", "1")], [("-1", "2")]), "update")
    assert (book.best_bid, book.best_ask) == (("-3.4", "1"), ("-1", "2"))
    assert (book.mid, book.spread) == (-2.2, 2.4)
    with pytest.raises(BookOutOfSync):
        book.apply(v5(2, 3, [("-5", "-1")]), "update")
        book.top(1)


# -- What the book keeps is its own


@pytest.mark.parametrize("action", ["snapshot", "update", "waiting"])
def test_a_handler_that_changes_its_rows_does_not_change_the_book(action):
    rows = [snapshot(), v5(10, 11, [("97.5", "6")], [("101", "7")])]
    if action == "waiting":
        rows = [v5(20, 22, [("97.5", "6")]), v5(22, 25, [("98", "1")], [("101", "7")])]
    book = OrderBook()
    for n, each in enumerate(rows):
        book.apply(each, "update" if n or action == "waiting" else "snapshot")
    fetched = rest(20)
    if action == "snapshot":
        book.apply(rows.pop() | {"prevSeqId": -1}, "snapshot")
    expected = None if action == "waiting" else (book.top(9), book.timestamp, book.mid)
    for each in rows:
        for level in each["bids"] + each["asks"]:
            level[:] = [float(level[0]) * 2, None]
        each["bids"].clear()
        each.clear()
    if action == "waiting":
        assert book.bridge(fetched, book.waiting)
        expected = ([["99", "1"], ["98", "1"], ["97.5", "6"]], [["101", "7"]]), "1", 100.0
    assert (book.top(9), book.timestamp, book.mid) == expected


def test_what_is_read_is_the_readers_own():
    book = ready_book()
    book.top(9)[0][0][:] = ["1000", None]
    book.top(9)[0].clear()
    assert book.best_bid == ("99", "1") and len(book.top(9)[0]) == 2


# -- Numbers instead of strings, as in v1


def test_json_numbers_are_read_exactly():
    book = OrderBook()
    book.apply(row([(6406.43, 320), (6406.3, 1.5)], [(6406.53, 7)]))
    assert (book.mid, book.spread) == (6406.48, 0.1)
    assert book.top(9) == ([["6406.43", "320"], ["6406.3", "1.5"]], [["6406.53", "7"]])


def test_prices_are_found_again_as_numbers_and_as_strings():
    book = OrderBook()
    book.apply(row([(6406.43, 320), ("6406.30", "1"), (6400, 2)], []))
    book.apply(row([("6406.43", "0"), (6406.3, "5"), ("6400.0", 0)], []))
    assert book.top(9) == ([["6406.3", "5"]], [])
    book.apply(row([(6406.3, 6), (6406.3, 7), (6400, 0)], [("6407", 1), (6407.0, "2"), ("6408", "3")]))
    assert book.top(9) == ([["6406.3", "7"]], [["6407.0", "2"], ["6408", "3"]])
    assert len(book._asks.sizes) == len(book._asks.order) == len(book._asks.prices) == 2


def test_json_numbers_in_a_change_do_not_hide_what_was_wrong_before_it():
    book = OrderBook()
    book.apply(row([("99", "1"), ("98", "x")], []))
    with pytest.raises(BookOutOfSync, match="unreadable"):
        book.apply(row([(97, 1)], []))
    assert not book.ready


# -- Anything


SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 30) | st.sampled_from([HUGE, -HUGE, 0.1, float("nan"), inf])
    | st.sampled_from(["", "0", "1", "2", "3.5", "1E-8", "-1", ".", "1.2.3", "1abc", "nan", "9" * 400, "0.0", "1_0"])
    | st.text(max_size=3)
)  # fmt: skip
ANY_JSON = st.recursive(
    SCALARS, lambda any: st.lists(any, max_size=4) | st.dictionaries(st.text(max_size=3), any), max_leaves=6
)
LEVELS = st.lists(st.lists(SCALARS, max_size=4) | ANY_JSON, max_size=4) | ANY_JSON
GOOD = st.lists(st.tuples(st.integers(1, 9).map(str), st.integers(0, 2).map(str)).map(list), max_size=4)
NAMES = ("seqId", "prevSeqId", "checksum", "ts", "timestamp")
ANY_ROW = ANY_JSON | st.fixed_dictionaries(
    {"bids": GOOD | LEVELS, "asks": GOOD | LEVELS}, optional=dict.fromkeys(NAMES, SCALARS | ANY_JSON)
)


def assert_sane(book):
    """A book that is ready answers, with numbers."""
    if not book.ready:
        return
    bids, asks = book.top(999)
    for price, size in bids + asks:
        assert price.__class__ is size.__class__ is str
        assert 0 <= float(price) < inf and 0 < float(size) < inf
    for side, sign in ((bids, -1), (asks, 1)):
        assert sorted(side, key=lambda level: sign * float(level[0])) == side
    assert book.best_bid == (tuple(bids[0]) if bids else None)
    for value in (book.mid, book.spread):
        assert (value is None) == (not bids or not asks)
    assert isinstance(book.timestamp, str | int) and isinstance(book.crossed, bool)
    assert book.crossed == bool(bids and asks and float(bids[0][0]) >= float(asks[0][0]))


@settings(max_examples=1500)
@given(st.lists(st.tuples(ANY_ROW, st.sampled_from(["snapshot", "update", "", "bridge"])), max_size=5), st.booleans())
def test_any_json_is_a_row_or_out_of_sync(rows, whole):
    book = OrderBook(whole)
    for each, action in rows:
        try:
            if action == "bridge":
                book.bridge(each, book.waiting)
            else:
                book.apply(each, action)
        except BookOutOfSync:
            assert not book.ready
            book.open()
        assert_sane(book)


def test_a_checksum_of_zero_or_none_says_nothing():
    book = ready_book(checksum=0)
    book.apply(v5(10, 11, checksum=0), "update")
    book.apply(v5(11, 12), "update")
    assert book.ready


@pytest.mark.parametrize("nothing", ["0", 0, "", None])
def test_a_checksum_that_says_nothing(nothing):
    book = ready_book(checksum=nothing)
    book.apply(v5(10, 11, [("97", "1")], checksum=nothing), "update")
    assert book.ready


def test_a_checksum_as_a_string_is_the_number():
    bids, asks = [("3366.1", "7"), ("3366", "6")], [("3366.8", "9"), ("3368", "8")]
    book = OrderBook()
    book.apply(row(bids, asks, checksum="-1881014294"), "snapshot")
    assert book.ready
    with pytest.raises(BookOutOfSync, match="checksum"):
        book.apply(row(bids, asks, checksum="-1881014295"), "snapshot")


@pytest.mark.parametrize("none", ["no number", "1.5", 1.5, True, [], {}, [1], HUGE, "9" * 5000])
def test_a_checksum_that_is_no_number_is_out_of_sync(none):
    with pytest.raises(BookOutOfSync):
        ready_book(checksum=none)


def test_the_checksum_takes_strings_as_sent_and_the_best_25():
    bids = [(f"{100 - n}.10", f"{n + 1}.0") for n in range(40)]
    book = OrderBook()
    book.apply(row(bids, [("101.00", "1e0")], checksum=crc(bids, [("101.00", "1e0")])), "snapshot")
    deeper = [("55.5", "3")]  # beyond the best 25
    book.apply(row(deeper, [], checksum=crc(bids, [("101.00", "1e0")])), "update")
    assert book.ready


# -- The gate: a book belongs to a subscription

ROWS = [(snapshot(), "snapshot"), (v5(10, 11), "update"), (row([("1", "1")], []), ""), (None, "snapshot"), (7, "")]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("late", "action"), ROWS)
def test_a_closed_book_takes_nothing_however_late_it_comes(late, action, whole):
    book = OrderBook(whole)
    book.apply(snapshot(), "snapshot")
    book.close("unsubscribed")
    book.apply(late, action)
    assert not book.ready and not book.waiting
    with pytest.raises(BookOutOfSync, match="unsubscribed"):
        book.top(1)


def test_a_snapshot_by_rest_does_not_bring_a_closed_book_back():
    book = waiting_book(v5(20, 22))
    waiting = book.waiting
    book.close("unsubscribed")
    assert not book.bridge(rest(25), waiting) and not book.bridge(None, waiting) and not book.ready
    book.open()
    assert not book.bridge(rest(25), waiting) and not book.ready


def test_a_closed_book_says_why_until_the_next_snapshot():
    book = ready_book()
    book.close("disconnected")
    book.invalidate("the handler blocked")
    book.open()
    with pytest.raises(BookOutOfSync, match="disconnected"):
        _ = book.best_bid
    book.apply(snapshot(), "snapshot")
    assert book.ready


def test_opening_begins_anew_even_without_a_close():
    book = OrderBook()
    book.apply(row([("5", "1")], [("9", "1")]))
    book.open()
    with pytest.raises(BookOutOfSync, match="no snapshot yet"):
        _ = book.best_bid
    book.apply(row([("2", "1")], []))
    assert book.top(9) == ([["2", "1"]], [])


def test_a_first_row_that_cannot_be_read_does_not_make_the_next_one_the_book():
    book = OrderBook()
    with pytest.raises(BookOutOfSync):
        book.apply(row([("x", "1")], []))
    with pytest.raises(BookOutOfSync):
        book.apply(row([("97", "1")], []))  # v1: a change of what was in the first
    assert not book.ready


def test_a_book_that_is_closed_while_others_write_and_bridge_stays_closed():
    book, done = OrderBook(), threading.Event()

    def write():
        while not done.is_set():
            book.apply(snapshot(), "snapshot")

    def bridge():
        while not done.is_set():
            book.bridge(rest(25), book.waiting)

    threads = [threading.Thread(target=each) for each in (write, bridge)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            book.open()
            book.close("unsubscribed")
            assert not any(book.ready for _ in range(50))
    finally:
        done.set()
        for thread in threads:
            thread.join()


# -- Streams

PRICES = st.integers(1, 60)


@st.composite
def streams(draw, most=60):
    """A stream of v5 or v3 and the true book after each of its messages: [(row, action, bids, asks)]."""
    generation = draw(st.sampled_from(["v3", "v5"]))
    touch = draw(st.integers(5, 20))  # bids stay below it, asks do not
    book, sequence, messages = {}, draw(st.integers(0, 9)), []
    for n in range(draw(st.integers(2, 12))):
        changes = draw(st.dictionaries(st.integers(1, 24), st.integers(0, 3), max_size=4 if n else 20))
        book.update(changes)
        book = {price: size for price, size in book.items() if size}
        bids = [(str(p), str(book[p])) for p in sorted(book, reverse=True) if p < touch]
        asks = [(str(p), str(book[p])) for p in sorted(book) if p >= touch]
        told = {str(p): str(size) for p, size in (changes.items() if n else book.items())}
        message = row(
            [level for level in told.items() if int(level[0]) < touch],
            [level for level in told.items() if int(level[0]) >= touch],
        )
        if generation == "v3":
            message["checksum"] = crc(bids, asks)
        else:
            following = sequence + draw(st.integers(1, 5)) if changes or not n else sequence
            message |= {"prevSeqId": sequence if n else -1, "seqId": following}
            sequence = following
        messages.append((message, "update" if n else "snapshot", bids, asks))
    return messages


@given(streams())
def test_a_snapshot_with_its_changes_is_the_book_of_the_final_state(stream):
    book = OrderBook()
    for message, action, bids, asks in stream:
        book.apply(message, action)
        assert book.top(99) == ([list(level) for level in bids], [list(level) for level in asks])


@given(streams(), st.sampled_from(["drop", "double", "swap"]), st.data())
def test_a_lost_doubled_or_swapped_message_is_never_read_from(stream, fault, data):
    at = data.draw(st.integers(0, len(stream) - 2), "at")
    damaged = list(stream)
    if fault == "drop":
        del damaged[at]
    elif fault == "double":
        damaged.insert(at, damaged[at])
    else:
        damaged[at], damaged[at + 1] = damaged[at + 1], damaged[at]
    book = OrderBook()
    for message, action, bids, asks in damaged:
        try:
            book.apply(message, action)
        except BookOutOfSync:
            assert not book.ready
            continue
        if book.ready and message["bids"] + message["asks"]:
            assert book.top(99) == ([list(level) for level in bids], [list(level) for level in asks])


# -- A snapshot by REST


def waiting_book(*updates):
    book = OrderBook()
    for update in updates:
        book.apply(update, "update")
    assert book.waiting and not book.ready
    return book


def rest(sequence, bids=(("99", "1"),), asks=(("101", "1"),)):
    return row(bids, asks, ts="2", seqId=sequence)


def test_waits_for_a_snapshot_and_bridges_to_it():
    book = waiting_book(v5(20, 22, [("97", "1")]), v5(22, 25, [("98", "1")]), v5(25, 30, [("96", "1")]))
    assert book.bridge(rest(25), book.waiting)
    assert book.top(9)[0] == [["99", "1"], ["96", "1"]]  # 22 and 25 are in the snapshot already
    book.apply(v5(30, 31, [("95", "1")]), "update")
    assert book.ready


def test_a_snapshot_older_than_the_first_update_is_not_taken():
    book = waiting_book(v5(20, 22))
    assert not book.bridge(rest(19), book.waiting)
    assert not book.ready and book.waiting
    assert book.bridge(rest(20), book.waiting)
    assert book.ready


def test_a_snapshot_in_the_middle_of_an_update_is_bridged_once():
    book = waiting_book(v5(20, 22))
    assert book.bridge(rest(24), book.waiting)
    book.apply(v5(22, 23, [("1", "1")]), "update")  # older than the snapshot
    book.apply(v5(23, 27, [("98", "1")]), "update")  # spans it
    book.apply(v5(27, 28), "update")
    assert book.top(9)[0] == [["99", "1"], ["98", "1"]]
    with pytest.raises(BookOutOfSync):
        book.apply(v5(27, 28), "update")


def test_a_gap_behind_the_snapshot_is_a_gap():
    book = waiting_book(v5(20, 22), v5(23, 25))
    with pytest.raises(BookOutOfSync, match="gap"):
        book.bridge(rest(21), book.waiting)
    assert not book.ready and not book.waiting


def test_a_late_snapshot_does_not_disturb_a_book_that_is_ready():
    book = ready_book()
    assert not book.bridge(rest(5), book.waiting)
    assert book.best_bid == ("99", "1") and book.ready


def test_a_snapshot_for_updates_of_an_earlier_subscription_is_not_taken():
    book = waiting_book(v5(20, 22))
    earlier = book.waiting
    book.close("disconnected")
    book.open()
    book.apply(v5(3, 5), "update")  # numbered anew
    assert not book.bridge(rest(25), earlier) and not book.ready


@pytest.mark.parametrize("bids", [[("100", "0")], []])
def test_a_maintenance_reset_right_behind_the_snapshot_is_taken(bids):
    book = waiting_book(v5(10, 15))
    assert book.bridge(rest(15), book.waiting)
    book.apply(v5(15, 3, bids), "update")
    book.apply(v5(3, 5, [("98", "2")]), "update")
    assert book.ready and ["98", "2"] in book.top(9)[0]


@pytest.mark.parametrize(("previous", "sequence"), [(20, 3), (12, 3)])
def test_a_reset_that_does_not_follow_from_the_snapshot_is_a_gap(previous, sequence):
    book = waiting_book(v5(10, 15))
    assert book.bridge(rest(15), book.waiting)
    with pytest.raises(BookOutOfSync, match="gap"):
        book.apply(v5(previous, sequence), "update")


def test_a_reset_before_there_is_a_snapshot_is_out_of_sync():
    book = waiting_book(v5(10, 15))
    with pytest.raises(BookOutOfSync, match="reset"):
        book.apply(v5(15, 3), "update")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def is_bridging(book):
    """Whether the book waits for updates to reach its snapshot, and says so."""
    with pytest.raises(BookOutOfSync) as caught:
        book.top(1)
    return not book.ready and "have not reached the snapshot by REST yet" in str(caught.value)


def bridged_book(clock=None, at=5000, ts="2"):
    """A book with a snapshot by REST that lies far ahead of the updates."""
    book = OrderBook(clock=clock or Clock())
    book.apply(v5(20, 22), "update")
    assert book.bridge(rest(at) | {"ts": ts}, book.waiting)
    assert is_bridging(book)
    return book


def test_a_snapshot_far_ahead_is_distrusted_after_many_updates():
    book = bridged_book()
    with pytest.raises(BookOutOfSync, match="another time"):
        for n in range(okex_ws.MAX_BRIDGED + 1):
            assert is_bridging(book)
            book.apply(v5(22 + n, 23 + n), "update")
    assert n == okex_ws.MAX_BRIDGED and not book.ready


def test_a_snapshot_far_ahead_is_distrusted_after_some_time():
    clock = Clock()
    book = bridged_book(clock)
    clock.now += okex_ws.MAX_BRIDGING
    book.apply(v5(22, 23), "update")
    assert is_bridging(book)
    clock.now += 0.1
    with pytest.raises(BookOutOfSync, match="within 10 s"):
        book.apply(v5(23, 24), "update")
    assert not book.ready


def test_a_snapshot_that_no_update_reaches_is_not_read_for_ever():
    clock = Clock()
    book = bridged_book(clock)
    clock.now += okex_ws.MAX_BRIDGING + 0.1
    with pytest.raises(BookOutOfSync, match="within 10 s"):
        _ = book.best_bid
    assert not book.ready
    with pytest.raises(BookOutOfSync):
        book.apply(v5(22, 23), "update")  # and the client gets to know


def test_a_snapshot_with_a_higher_number_and_an_earlier_time_is_distrusted_at_once():
    book = bridged_book(ts="1000")
    book.apply(v5(22, 23) | {"ts": "1000"}, "update")
    with pytest.raises(BookOutOfSync, match="another time"):
        book.apply(v5(23, 24) | {"ts": "1001"}, "update")
    book = waiting_book(v5(20, 22), v5(22, 24) | {"ts": "1001"})
    with pytest.raises(BookOutOfSync, match="another time"):
        book.bridge(rest(5000) | {"ts": "1000"}, book.waiting)
    assert not book.ready


@pytest.mark.parametrize("ts", [None, "", "soon", [], {}, float("inf"), "2026-11-21T00:00:00.000Z"])
def test_a_time_that_cannot_be_read_decides_nothing(ts):
    book = bridged_book(ts="1000")
    book.apply(v5(22, 23) | {"ts": ts}, "update")
    assert is_bridging(book)


def test_bridging_ends_when_the_updates_reach_the_snapshot():
    clock = Clock()
    book = OrderBook(clock=clock)
    book.apply(v5(20, 22), "update")
    assert book.bridge(rest(25), book.waiting)
    book.apply(v5(22, 25) | {"ts": "2"}, "update")
    clock.now += 1000
    assert book.ready
    book.apply(v5(25, 26), "update")
    with pytest.raises(BookOutOfSync, match="gap"):
        book.apply(v5(20, 22), "update")


def test_updates_that_waited_for_a_snapshot_do_not_count_against_it(monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_BRIDGED", 3)
    book = waiting_book(*(v5(20 + n, 21 + n) for n in range(9)))
    assert book.bridge(rest(5000), book.waiting)
    book.apply(v5(29, 30), "update")
    assert is_bridging(book)


def test_updates_do_not_pile_up_for_ever(monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_PENDING", 3)
    book = waiting_book(v5(20, 22), v5(22, 23), v5(23, 24))
    with pytest.raises(BookOutOfSync, match="no snapshot"):
        book.apply(v5(24, 25), "update")


def test_without_sequence_numbers_an_update_before_the_snapshot_is_out_of_sync():
    with pytest.raises(BookOutOfSync, match="no snapshot"):
        OrderBook().apply(row([("1", "1")], []), "update")


# -- In the client

BOOKS = ["books:BTC-USDT", "spot/depth:BTC-USDT", "ok_sub_futureusd_btc_depth_quarter", "ok_sub_spot_ltc_btc_depth"]
WHOLE = ["books5:BTC-USDT", "bbo-tbt:BTC-USDT", "spot/depth5:BTC-USDT", "ok_sub_spot_ltc_btc_depth_20"]


def truth(exchange, channel):
    """The stand-in's own best five bids and asks."""
    ours = {
        "books": "BTC-USDT",
        "spot/": "BTC-USDT",
        "ok_sub_f": "BTC-QUARTER",
        "ok_sub_s": "LTC-BTC",
        "bbo": "BTC-USDT",
    }
    name = next(name for start, name in ours.items() if channel.startswith(start))
    i = exchange.instruments[name]
    return [list(level) for level in i.levels("bids", 5)], [list(level) for level in i.levels("asks", 5)]


@pytest.mark.parametrize("channel", BOOKS + WHOLE)
def test_the_live_book_is_the_exchanges(exchange, connect, channel):
    client = connect(channel)
    book = client.books[channel]
    most = 1 if "bbo" in channel else 5
    for _ in range(3):
        wait_for(client.more_rows())
        exchange.every = None
        wait_for(lambda: book.ready and book.top(5) == tuple(side[:most] for side in truth(exchange, channel)))
        exchange.every = 0.02


@pytest.mark.parametrize("channel", BOOKS)
def test_a_lost_connection_empties_the_book_until_the_next_snapshot(exchange, connect, impatient, channel):
    client = connect(channel)
    book = client.books[channel]
    wait_for(lambda: book.ready)
    exchange.ignored = "addChannel" if "ok_" in channel else "subscribe"  # nothing is, after the reconnect
    exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(CONNECTED, 2))
    with pytest.raises(BookOutOfSync, match="disconnected"):
        _ = book.best_bid
    exchange.ignored = ""
    exchange.sessions[-1].drop()
    wait_for(lambda: book.ready)
    assert not client.saw(GAP)


@pytest.mark.parametrize(
    "message",
    [
        {"event": "error", "code": "60018", "msg": "channel:books,instId:BTC-USDT doesn't exist"},
        {"event": "unsubscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}},
    ],
)
def test_a_book_that_the_exchange_gives_up_does_not_answer(exchange, connect, message):
    client = connect("books:BTC-USDT")
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    exchange.silent = True
    exchange.sessions[-1].frame(json.dumps(message).encode(), websocket.ABNF.OPCODE_TEXT)
    wait_for(lambda: not book.ready)


def test_a_book_is_not_ready_while_the_handler_blocks(exchange, connect):
    block = threading.Event()
    client = connect("books:BTC-USDT", ping_every=0.05)
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    client.handler = lambda channel, rows: block.wait()
    try:
        wait_for(lambda: client.saw(GAP))
        assert (
            "late: a slow handler" in dict(client.statuses)[GAP]
            and not book.ready
            and client.counts["times behind"] == 1
        )
        with pytest.raises(BookOutOfSync, match="may have arrived"):
            book.top(1)
        client.handler = lambda channel, rows: None
    finally:
        block.set()
    wait_for(lambda: book.ready)


def test_a_book_that_was_blocked_comes_back_without_rest(exchange, connect):
    exchange.rest_status = 404
    client = connect("books:BTC-USDT")
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    with exchange.lock:
        book.invalidate("the handler blocked")
        assert not book.ready
    wait_for(lambda: book.ready)
    assert exchange.fetched == []


def test_a_book_without_levels_in_a_row_costs_no_connection(exchange, connect):
    exchange.snapshots = False
    client = connect("books:BTC-USDT", depth=1)
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    subscription = client._subscriptions.by_key["books:BTC-USDT"]
    stale = {"seqId": book._sequence - 1, "prevSeqId": book._sequence - 2}
    book._bridging = True
    assert client._keep_book(subscription, book, [stale], "update") == []


def test_a_book_given_up_while_a_snapshot_arrives_is_not_ready(exchange, connect):
    client = connect("books:BTC-USDT")
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    subscription = client._subscriptions.by_key["books:BTC-USDT"]
    client.unsubscribe("books:BTC-USDT")
    # The reading thread had looked at the state just before:
    client._keep_book(subscription, book, [row([["1", "1"]], [["2", "1"]], seqId=1, prevSeqId=-1)], "snapshot")
    assert not book.ready


def test_a_push_behind_the_end_of_its_channel_brings_no_book_to_life(exchange, connect):
    exchange.snapshots = False
    client = connect("books:BTC-USDT", "trades:ETH-USDT")
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    fetched = len(exchange.fetched)
    push = {"arg": V5.argument("books:BTC-USDT"), "action": "update", "data": [v5(10, 11)]}
    refusal = {"event": "channel-conn-count-error", "channel": "books", "connCount": "30", "connId": "a4d3ae55"}
    with exchange.lock:
        exchange.sessions[-1].feeds.clear()
        for message in (refusal, push, push):
            exchange.sessions[-1].send(json.dumps(message))
        exchange.sessions[-1].send('{"arg":{"channel":"trades","instId":"ETH-USDT"},"data":[{"px":"last"}]}')
    wait_for(lambda: ("trades:ETH-USDT", {"px": "last"}) in client.rows)
    assert client.channels["books:BTC-USDT"] == "refused"
    assert not book.ready and not book.waiting and len(exchange.fetched) == fetched


COINS = ["BTC", "ETH", "LTC", "BCH", "ETC", "EOS", "XRP"]


def test_a_burst_of_gaps_is_mended_in_a_few_requests(exchange, connect):
    channels = [f"books:{coin}-{quote}" for coin in COINS for quote in ("USDT", "USD-SWAP", "USDT-SWAP")]
    client = connect(*channels)
    wait_for(lambda: all(book.ready for book in client.books.values()))
    asked = len(exchange.requests)
    with exchange.lock:
        for instrument in exchange.instruments.values():
            instrument.step()  # an event that nobody is told
    wait_for(lambda: client.counts["gaps"] >= len(channels))
    wait_for(lambda: all(book.ready for book in client.books.values()))
    ops = [json.loads(text)["op"] for _, text in exchange.requests[asked:] if text != "ping"]
    assert ops.count("unsubscribe") <= 6 and ops.count("subscribe") <= 6  # 3 each, if nothing stands still meanwhile
    assert client.counts["connects"] == 1


def test_a_gap_costs_only_the_channel_that_has_it(exchange, connect, caplog):
    coins = ["BTC", "ETH", "LTC", "BCH", "ETC", "EOS", "XRP"]
    channels = [f"books:{coin}-{quote}" for coin in coins for quote in ("USDT", "USD-SWAP", "USDT-SWAP")][:20]
    client = connect(*channels)
    wait_for(lambda: all(book.ready for book in client.books.values()))
    with exchange.lock:
        exchange.instruments["LTC-USDT"].step()  # an event that nobody is told
    wait_for(lambda: client.saw(GAP))
    assert dict(client.statuses)[GAP].startswith("books:LTC-USDT: sequence gap")
    wait_for(lambda: client.books["books:LTC-USDT"].ready)
    asked = [text for _, text in exchange.requests if "subscribe" in text]
    assert [text for text in asked[20:] if "LTC-USDT" not in text or "SWAP" in text] == []
    assert len(asked) == 22 and client.counts["gaps"] == 1
    wait_for(client.more_rows())
    for channel in channels:
        rows = [r for c, r in client.rows if c == channel]
        gaps = [b for a, b in pairwise(rows) if b["prevSeqId"] != a["seqId"]]
        assert len(gaps) == (channel == "books:LTC-USDT")
    assert caplog.text.count("sequence gap") == 1


def test_an_unreadable_level_costs_only_its_channel(exchange, connect):
    client = connect("books:BTC-USDT", depth=5)
    wait_for(lambda: client.rows)
    with exchange.lock:
        sequence = client.books["books:BTC-USDT"]._sequence
        update = v5(sequence, sequence + 1, [("1", "x")])
        exchange.sessions[-1].send(
            json.dumps({"arg": V5.argument("books:BTC-USDT"), "action": "update", "data": [update]})
        )
        exchange.sessions[-1].send(
            json.dumps({"arg": V5.argument("books:BTC-USDT"), "action": "update", "data": [v5(1, 2)]})
        )
    wait_for(lambda: client.saw(GAP))
    wait_for(client.more_rows())
    assert client.counts["connects"] == 1


def test_a_v1_book_that_was_not_unsubscribed_is_not_taken_for_a_new_one(exchange, connect, impatient, monkeypatch):
    client = connect("ok_sub_spot_bch_btc_depth")
    book = client.books["ok_sub_spot_bch_btc_depth"]
    wait_for(lambda: book.ready)
    exchange.ignored = "removeChannel"
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.0)
    client._resubscribe(client._subscriptions.by_key["ok_sub_spot_bch_btc_depth"], "for a test")
    wait_for(lambda: client.saw(CONNECTED, 2))
    assert "was not unsubscribed" in dict(client.statuses)[DISCONNECTED]
    wait_for(lambda: book.ready)


def test_a_book_that_never_comes_right_is_not_asked_for_in_a_storm(exchange, connect, monkeypatch):
    monkeypatch.setattr(exchange.instrument("BTC-USDT").random, "randint", lambda low, high: high)
    client = connect("spot/depth:BTC-USDT")
    wait_for(lambda: client.rows)
    send = exchange.sessions[-1].send
    spoilt = partial(re.sub, r'"checksum":-?\d+', '"checksum":1')
    monkeypatch.setattr(exchange.sessions[-1], "send", lambda text: send(spoilt(text)), raising=False)
    wait_for(lambda: client.saw(GAP, 3))
    subscription = client._subscriptions.by_key["spot/depth:BTC-USDT"]
    wait_for(lambda: subscription.failures >= 2)
    assert len([text for _, text in exchange.requests if '"subscribe"' in text]) <= 4


def test_a_snapshot_that_the_updates_have_not_reached_is_not_read():
    book = waiting_book(v5(20, 22))
    assert book.bridge(row([["1", "1"]], [["2", "1"]], seqId=30, prevSeqId=-1), book.waiting)
    assert not book.ready and book.view(1) is None
    with pytest.raises(BookOutOfSync, match="have not reached the snapshot"):
        book.top(1)
    book.apply(v5(22, 30), "update")
    assert book.ready and book.best_bid == ("1", "1")


def test_without_snapshots_the_book_comes_by_rest(exchange, connect):
    exchange.snapshots = False
    client = connect("books:BTC-USDT", "books:ETH-USDT")
    wait_for(lambda: all(book.ready for book in client.books.values()))
    assert sorted(exchange.fetched) == [f"/api/v5/market/books?instId={coin}-USDT&sz=400" for coin in ("BTC", "ETH")]
    book = client.books["books:BTC-USDT"]
    wait_for(client.more_rows())
    exchange.every = None
    wait_for(lambda: book.top(5) == truth(exchange, "books:BTC-USDT"))
    assert not client.saw(GAP) and not client.saw(DISCONNECTED)


def test_a_stale_or_failing_rest_answer_is_fetched_again(exchange, connect, caplog):
    exchange.snapshots = False
    exchange.stale_books = [row([], [], seqId=1, ts="1"), {"odd": 1}]
    client = connect("books:BTC-USDT")
    wait_for(lambda: client.books["books:BTC-USDT"].ready)
    assert len(exchange.fetched) == 3
    assert "older than the first update" in caplog.text


def test_a_dead_rest_api_is_said_and_the_stream_goes_on(exchange, connect, caplog):
    exchange.snapshots, exchange.rest_status = False, 503
    client = connect("books:BTC-USDT", "trades:BTC-USDT")
    wait_for(lambda: "answered HTTP 503" in caplog.text)
    wait_for(client.more_rows())
    assert not client.books["books:BTC-USDT"].ready
    exchange.rest_status = 0
    wait_for(lambda: client.books["books:BTC-USDT"].ready)


def test_an_unsubscribed_book_is_gone(exchange, connect):
    client = connect("books:BTC-USDT")
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    client.unsubscribe("books:BTC-USDT")
    with pytest.raises(BookOutOfSync, match="unsubscribed"):
        book.top(1)
    assert client.books == {}


@pytest.mark.parametrize("channel", BOOKS + WHOLE)
def test_depth_gives_the_handler_the_top_of_the_book(exchange, connect, channel):
    client = connect(channel, depth=3)
    wait_for(lambda: len(client.rows) > 5)
    for _, view in client.rows:
        assert set(view) == {"bids", "asks", "ts"} and view["ts"]
        assert len(view["bids"]) == len(view["asks"]) == (1 if "bbo" in channel else 3)
        assert all(len(level) == 2 for level in view["bids"] + view["asks"])
        bids, asks = ([float(price) for price, _ in view[side]] for side in ("bids", "asks"))
        assert bids == sorted(bids, reverse=True) and asks == sorted(asks) and bids[0] < asks[0]


def test_a_keepalive_is_not_handed_out_as_a_change(exchange, connect):
    client = connect("books:BTC-USDT", depth=1)
    wait_for(lambda: client.rows)
    with exchange.lock:
        last = exchange.instruments["BTC-USDT"].sequence
        body = '{{"arg":{{"channel":"books","instId":"BTC-USDT"}},"action":"update","data":[{{"asks":[],"bids":[],'
        exchange.sessions[-1].send((body + '"ts":"1","seqId":{0},"prevSeqId":{0}}}]}}').format(last))
        wait_for(lambda: client.books["books:BTC-USDT"].timestamp == "1")
    wait_for(client.more_rows())
    assert "1" not in [view["ts"] for _, view in client.rows]


def test_a_reader_never_sees_half_an_update():
    book, done = OrderBook(), threading.Event()
    rng = random.Random(7)
    book.apply(row([("1", "1")], [("2", "1")]), "snapshot")

    def write():
        for n in range(3, 3000):  # the only bid and the only ask move together, at a spread of 1
            book.apply(row([(str(n - 2), "0"), (str(n - 1), "1")], [(str(n - 1), "0"), (str(n), "1")]), "update")
            if not rng.randrange(500):
                book.apply(row([(str(n - 1), "1")], [(str(n), "1")]), "snapshot")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        bids, asks = book.top(9)
        assert len(bids) == len(asks) == 1 and int(asks[0][0]) - int(bids[0][0]) == 1
        assert book.spread == 1.0
    thread.join()
