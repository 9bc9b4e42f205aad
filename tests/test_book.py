"""The order book: right, or not ready. Never wrong."""

import json
import random
import re
import threading
import zlib
from functools import partial
from itertools import pairwise

import pytest
import websocket
from conftest import wait_for
from hypothesis import given
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
    assert book.top(9) == ([["2E-8", 7]], [["3e-8", 1]])
    book.apply(row([(2e-8, 0), (1e-8, 0.5)], []), "update")
    assert book.top(9) == ([[1e-8, 0.5]], [["3e-8", 1]])


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
    assert len(book._bids.levels) == len(book._bids.order) == len(book._bids.prices)


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


@pytest.mark.parametrize("crossing", [([("101", "1")], []), ([], [("99", "1")]), ([("200", "1")], [("98.5", "2")])])
def test_a_crossed_book_is_distrusted(crossing):
    book = ready_book()
    with pytest.raises(BookOutOfSync, match="crossed"):
        book.apply(v5(10, 11, *crossing), "update")
    assert not book.ready


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


@pytest.mark.parametrize("size", ["", "nan", "-1", None, []])
def test_a_size_that_is_none_is_not_handed_out(size):
    book = ready_book()
    book.apply(v5(10, 11, [("98", size)]), "update")
    with pytest.raises(BookOutOfSync, match="unreadable"):
        book.top(2)
    assert not book.ready


def test_a_checksum_of_zero_or_none_says_nothing():
    book = ready_book(checksum=0)
    book.apply(v5(10, 11, checksum=0), "update")
    book.apply(v5(11, 12), "update")
    assert book.ready


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


def test_a_book_is_not_ready_while_the_handler_blocks(exchange, connect, monkeypatch):
    monkeypatch.setattr(okex_ws, "SILENCE_MARGIN", 0.2)
    block = threading.Event()
    client = connect("books:BTC-USDT", ping_every=0.05)
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    client.handler = lambda channel, rows: block.wait()
    try:
        wait_for(lambda: client.saw(GAP))
        assert "does the handler block" in dict(client.statuses)[GAP] and not book.ready
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
