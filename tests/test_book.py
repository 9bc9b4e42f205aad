"""The order book: right, or not ready. Never wrong."""

import json
import threading
import time
import zlib
from functools import partial
from itertools import pairwise
from math import inf

import pytest
from conftest import frame, wait_for
from exchange import ServerV1
from hypothesis import given, settings, strategies as st

import okex_ws
from okex_ws import CONNECTED, DISCONNECTED, GAP, V5, BookOutOfSync, OrderBook


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


def out_of_sync(book, *applied, match=None):
    """That applying this, or reading the book then, raises; and that it stays so."""
    with pytest.raises(BookOutOfSync, match=match):
        book.apply(*applied)
        book.top(9)
    assert not book.ready
    with pytest.raises(BookOutOfSync):
        _ = book.best_bid


# -- Keeping it
def test_reads_best_first_in_the_exchanges_own_strings_however_prices_are_written():
    book = OrderBook()
    levels = [("83725.8", "7.69", "0", "5"), ("83725.90", "1E-8", "0", "1"), ("9", "1.000", "0", "1")]
    book.apply(v5(-1, 1, levels, [("83726.5", "2", "0", "1"), ("90000", "0.10", "0", "1")]), "snapshot")
    assert book.ready and book.timestamp == "1" and not book.crossed
    assert book.best_bid == ("83725.90", "1E-8")
    assert book.best_ask == ("83726.5", "2")
    assert book.top(2) == ([["83725.90", "1E-8"], ["83725.8", "7.69"]], [["83726.5", "2"], ["90000", "0.10"]])
    assert (book.mid, book.spread) == (83726.2, 0.6)
    book = OrderBook()
    book.apply(row([("1E-8", "5"), ("0.00000002", "6"), ("2e-8", "7")], [("3e-8", "1")]), "snapshot")
    assert book.top(9) == ([["2e-8", "7"], ["1E-8", "5"]], [["3e-8", "1"]])  # one of two spellings, the later one
    book.apply(row([("0.00000001", "0.000"), ("2E-8", "8")], []), "update")
    assert book.top(9) == ([["2E-8", "8"]], [["3e-8", "1"]])


def test_one_sided_and_empty_books_are_books_and_each_snapshot_or_whole_book_replaces_everything():
    book = OrderBook()
    book.apply(row([], []), "snapshot")
    assert (book.ready, book.best_bid, book.best_ask, book.mid, book.spread) == (True, None, None, None, None)
    book.apply(row([("1", "1")], []), "update")
    assert (book.best_bid, book.best_ask, book.mid, book.spread, book.crossed) == (("1", "1"), None, None, None, False)
    book = ready_book()
    book.apply(v5(-1, 99, [("50", "1")], []), "snapshot")
    assert book.top(9) == ([["50", "1"]], [])
    book.apply(v5(99, 100, [("51", "1")], []), "update")
    assert book.best_bid == ("51", "1")
    book = OrderBook(whole=True)
    for price in ("5", "4"):
        book.apply(row([(price, "1")], [("9", "1")], ts="7", seqId=1), "")
    assert book.top(9) == ([["4", "1"]], [["9", "1"]])


def test_in_v1_the_first_message_is_the_book_and_the_rest_are_changes():
    book = OrderBook()
    book.apply(row([("5", "1"), ("4", "1")], [("9", "1")], timestamp=1490337551299))
    book.apply(row([("5", "0"), ("3", "1")], []))
    assert book.top(9) == ([["4", "1"], ["3", "1"]], [["9", "1"]])
    for close in (book.close, str):  # it begins anew without a close, too
        close("disconnected")
        book.open()
        with pytest.raises(BookOutOfSync):
            book.top(1)
        book.apply(row([("2", "1")], []))
        assert book.top(9) == ([["2", "1"]], [])


def test_knows_which_channels_are_books():
    changes = "ok_sub_futureusd_btc_depth_quarter ok_sub_futureusd_btc_depth_this_week ok_sub_spot_bch_btc_depth"
    changes += " spot/depth:ETH-USDT swap/depth_l2_tbt:BTC-USD-SWAP"
    changes += " books:A-B books-l2-tbt:A-B books50-l2-tbt:A-B books-rpi:A-B sprd-books-l2-tbt:A-B_A-B-SWAP"
    whole = "ok_sub_futureusd_btc_depth_this_week_20 ok_sub_spot_bch_btc_depth_5 futures/depth5:BTC-USD-191227"
    whole += " books5:BTC-USDT bbo-tbt:BTC-USDT sprd-books5:A-B_A-B-SWAP sprd-bbo-tbt:A-B_A-B-SWAP"
    none = "ok_sub_spot_bch_btc_deals spot/trade:ETH-USDT trades:BTC-USDT books5"
    for kind, names in (("changes", changes), ("whole", whole), ("", none)):
        assert {name: okex_ws.dialect_of(name).book(name) for name in names.split()} == dict.fromkeys(
            names.split(), kind
        )


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


# -- Distrusting it
def test_an_update_before_the_snapshot_is_not_taken_for_one():
    for update in (v5(9, 10), row([("1", "1")], [])):
        book = OrderBook()
        book.apply(update, "update")
        for read in ("best_bid", "best_ask", "mid", "spread", "timestamp", "crossed", "top"):
            with pytest.raises(BookOutOfSync, match="no snapshot yet"):
                book.top(1) if read == "top" else getattr(book, read)
        book.apply(snapshot(), "snapshot")
        assert book.ready


def test_the_documented_run_of_sequence_numbers_is_accepted_and_what_does_not_follow_is_a_gap():
    book = ready_book()
    for previous, sequence in [(10, 15), (15, 15), (15, 3), (3, 5)]:
        book.apply(v5(previous, sequence, [] if previous == sequence else [("97", "1")]), "update")
    assert book.ready
    for previous, sequence, why in (
        (11, 12, "one message is missing"),
        (9, 10, "what came before the snapshot"),
        (7, 3, "a reset that does not follow"),
        (-1, 11, "a snapshot that is called an update"),
        (None, 11, "no number"),
        ("10", 11, "a string"),
    ):
        book = ready_book()
        out_of_sync(book, v5(previous, sequence), "update", match="sequence gap")
        out_of_sync(book, v5(10, 11), "update")  # which would have followed
        book.apply(snapshot(50), "snapshot")
        assert book.best_bid == ("99", "1"), why
    out_of_sync(ready_book(), row([], [], seqId=11), "update")
    out_of_sync(ready_book(), row([("97", "1")], []), "update")


def test_a_crossed_book_is_distrusted_unless_its_sequence_holds():
    for bids, asks in (([("101", "1")], []), ([], [("99", "1")]), ([("200", "1")], [("98.5", "2")])):
        book = OrderBook()
        book.apply(row([("99", "1"), ("98", "2")], [("101", "3"), ("102", "4")]))  # v1
        out_of_sync(book, row(bids, asks), match="crossed")
        book = ready_book()
        book.apply(v5(10, 11, bids, asks), "update")
        assert book.crossed is True and book.spread <= 0
        book.apply(v5(11, 11), "update")
        assert book.crossed and book.best_bid == (bids or [("99", "1")])[0]
        assert book.best_ask == (asks or [("101", "3")])[0]
        gone = [[(price, "0") for price, _ in side] for side in (bids, asks)]
        book.apply(v5(11, 12, *gone), "update")  # what crossed has traded
        assert book.crossed is False and (book.best_bid, book.best_ask) == (("99", "1"), ("101", "3"))


def test_a_crossed_book_that_comes_whole_or_with_its_checksum_is_right_and_deleted_levels_do_not_cross():
    for whole, action in ((False, ""), (False, "snapshot"), (True, "")):
        book = OrderBook(whole)
        book.apply(row([("5", "1")], [("4", "1")]), action)
        assert book.crossed and (book.mid, book.spread) == (4.5, -1.0)
    bids, asks, crossing = [("99", "1"), ("98", "2")], [("101", "3")], [("102", "1")]
    book = OrderBook()
    book.apply(row(bids, asks, checksum=crc(bids, asks)), "snapshot")
    book.apply(row(crossing, [], checksum=crc(crossing + bids, asks)), "update")
    assert book.crossed
    out_of_sync(book, row([("97", "1")], []), "update", match="crossed")
    book = OrderBook()
    book.apply(row([("99", "1"), ("98", "2")], [("101", "3"), ("102", "4")]))
    book.apply(row([("99", "0")], [("98.5", "1")]))
    book.apply(row([], [("98.5", "0.00"), ("99", "1")]))
    assert not book.crossed and (book.best_bid, book.best_ask) == (("98", "2"), ("99", "1"))


ODD = [None, 7, [], {}, {"bids": []}, row([], []) | {"asks": None}, row([()], []), row([], [], checksum="no number")]
ODD += [row([(price, "1")], []) for price in ("x", "", "nan", "inf", "-1", "9" * 400, None, 7, True, [])]
ODD += [row([], [], checksum=none) for none in ("1.5", [1], {"a": 1}, "9" * 5000)]


def test_an_odd_row_is_distrusted_and_nothing_worse():
    for odd in ODD:
        for action in ("snapshot", "update", ""):
            book = OrderBook()
            book.apply(row([("1", "1")], []), "snapshot")
            out_of_sync(book, odd, action)
    with pytest.raises(BookOutOfSync) as raised:
        OrderBook().apply(row([("\x1b[31m" * 1000, "1")], []), "snapshot")
    assert len(str(raised.value)) < 250 and str(raised.value).isprintable()


def test_a_size_that_cannot_be_read_is_known_when_it_is_read():
    for size in ("x", "", "nan", "-1", "inf", "1.2.3", "1abc", "9" * 400, None, []):
        for whole in (False, True):
            book = OrderBook(whole)
            book.apply(snapshot(), "snapshot")
            out_of_sync(book, v5(10, 11, [("99.5", size)]), "" if whole else "update", match="unreadable")
            if not whole:
                with pytest.raises(BookOutOfSync):
                    book.apply(v5(11, 12), "update")  # and the client gets to know


def test_after_an_unreadable_row_only_a_new_subscription_brings_a_v1_book_back():
    for level in (("101",), ("101", "x"), ("101", None)):
        book = OrderBook()
        book.apply(row([("99", "1")], [("102", "1")]))
        out_of_sync(book, row([], [level]))
        out_of_sync(book, row([("97", "1")], []))
        book.close("out of sync")
        book.open()
        book.apply(row([("97", "1")], []))
        assert book.top(5) == ([["97", "1"]], [])
    book = OrderBook()
    out_of_sync(book, row([("x", "1")], []))
    out_of_sync(book, row([("97", "1")], []))  # a change of what was in the first


def test_prices_of_spreads_may_be_negative():
    book = OrderBook(signed=True)
    book.apply(v5(-1, 1, [("-3.5", "1"), ("-4", "1")], [("-0.5", "2"), ("1", "1")]), "snapshot")
    book.apply(v5(1, 2, [("-3.4", "1")], [("-1", "2")]), "update")
    assert (book.best_bid, book.best_ask) == (("-3.4", "1"), ("-1", "2"))
    assert (book.mid, book.spread) == (-2.2, 2.4)


# -- What the book keeps is its own
def test_a_handler_that_changes_its_rows_does_not_change_the_book():
    book, rows = OrderBook(), [snapshot(), v5(10, 11, [("97.5", "6")], [("101", "7")])]
    for each, action in zip(rows, ("snapshot", "update")):
        assert book.take([each], action) == [each]
    before = (book.top(9), book.timestamp, book.mid)
    book.top(9)[0][0][:] = ["1000", None]  # what is read is the reader's own, too
    book.top(9)[0].clear()
    for each in rows:
        for level in each["bids"] + each["asks"]:
            level[:] = [float(level[0]) * 2, None]
        each["bids"].clear()
        each.clear()
    assert (book.top(9), book.timestamp, book.mid) == before


# -- Anything
HUGE = 10**400
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 30) | st.sampled_from([HUGE, -HUGE, 0.1, float("nan"), inf])
    | st.sampled_from(["", "0", "1", "2", "3.5", "1E-8", "-1", ".", "1.2.3", "1abc", "nan", "9" * 400, "0.0"])
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


@settings(max_examples=300)
@given(st.lists(st.tuples(ANY_ROW, st.sampled_from(["snapshot", "update", ""])), max_size=5), st.booleans())
def test_any_json_is_a_book_with_numbers_in_it_or_out_of_sync(rows, whole):
    book = OrderBook(whole)
    for each, action in rows:
        try:
            book.apply(each, action)
            bids, asks = book.top(999)
        except BookOutOfSync:
            assert not book.ready
            book.open()
            continue
        for price, size in bids + asks:
            assert price.__class__ is size.__class__ is str
            assert 0 <= float(price) < inf and 0 < float(size) < inf
        for side, sign in ((bids, -1), (asks, 1)):
            assert sorted(side, key=lambda level: sign * float(level[0])) == side
        assert book.best_bid == (tuple(bids[0]) if bids else None)
        assert (book.mid is None) == (book.spread is None) == (not bids or not asks)
        assert book.crossed == bool(bids and asks and float(bids[0][0]) >= float(asks[0][0]))


# -- The checksum
def test_the_checksum_takes_strings_as_sent_and_the_best_25():
    for bids, asks, checksum in (
        ([("3366.1", "7"), ("3366", "6")], [("3366.8", "9"), ("3368", "8")], -1881014294),
        ([("3366.1", "7")], [("3366.8", "9"), ("3368", "8"), ("3372", "8")], 831078360),
    ):
        assert crc(bids, asks) == checksum
        for spelling in (checksum, str(checksum)):
            book = OrderBook()
            book.apply(row(bids, asks, checksum=spelling), "snapshot")
            assert book.ready
        out_of_sync(book, row(bids, asks, checksum=checksum + 1), "snapshot", match="checksum")
        out_of_sync(book, row(bids, asks, checksum=str(checksum + 1)), "snapshot", match="checksum")
    bids = [(f"{100 - n}.10", f"{n + 1}.0") for n in range(40)]
    book = OrderBook()
    book.apply(row(bids, [("101.00", "1e0")], checksum=crc(bids, [("101.00", "1e0")])), "snapshot")
    deeper = [("55.5", "3")]  # beyond the best 25
    book.apply(row(deeper, [], checksum=crc(bids, [("101.00", "1e0")])), "update")
    assert book.ready
    for nothing in ("0", 0, "", None):  # which says nothing
        book = ready_book(checksum=nothing)
        book.apply(v5(10, 11, [("97", "1")], checksum=nothing), "update")
        assert book.ready


# -- A book belongs to a subscription
def test_a_closed_book_takes_nothing_however_late_it_comes():
    rows = [(snapshot(), "snapshot"), (v5(10, 11), "update"), (row([("1", "1")], []), ""), (None, "snapshot"), (7, "")]
    for whole in (False, True):
        for late, action in rows:
            book = OrderBook(whole)
            book.apply(snapshot(), "snapshot")
            book.close("unsubscribed")
            book.apply(late, action)
            assert not book.ready
            with pytest.raises(BookOutOfSync, match="unsubscribed"):
                book.top(1)
            book.open()
            with pytest.raises(BookOutOfSync, match="unsubscribed"):  # until the next snapshot
                book.top(1)
            book.apply(snapshot(), "snapshot")
            assert book.ready


# -- Streams
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


# -- In the client
BOOKS = ["books:BTC-USDT", "spot/depth:BTC-USDT", "ok_sub_futureusd_btc_depth_quarter", "ok_sub_spot_ltc_btc_depth"]
WHOLE = ["books5:BTC-USDT", "bbo-tbt:BTC-USDT", "spot/depth5:BTC-USDT", "ok_sub_spot_ltc_btc_depth_20"]
BOOK = BOOKS[0]


def truth(exchange, channel):
    """The stand-in's own best five bids and asks, or the best of each."""
    names = {"ok_sub_f": "BTC-QUARTER", "ok_sub_s": "LTC-BTC"}
    i, most = exchange.instruments[names.get(channel[:8], "BTC-USDT")], 1 if "bbo" in channel else 5
    return tuple([list(level) for level in i.levels(side, most)] for side in ("bids", "asks"))


def ready(connect, *channels, **options):
    """A client all of whose books are ready, and the first of them."""
    client = connect(*channels, **options)
    books = [client.books[channel] for channel in channels if channel in client.books]
    wait_for(lambda: all(book.ready for book in books), case=channels)
    return client, books[0]


def test_the_live_book_and_what_depth_shows_of_it_are_the_exchanges(exchange, connect):
    clients = {channel: connect(channel, depth=3) for channel in BOOKS + WHOLE}

    def same(channel):
        client, (bids, asks) = clients[channel], truth(exchange, channel)
        last = client.rows[-1][1]
        assert set(last) == {"bids", "asks", "ts"} and last["ts"], channel
        book = client.books[channel]
        return book.ready and book.top(5) == (bids, asks) and (last["bids"], last["asks"]) == (bids[:3], asks[:3])

    for _ in range(3):
        for channel, client in clients.items():
            wait_for(client.more_rows(), case=channel)
        exchange.every = None
        for channel in clients:
            wait_for(partial(same, channel), case=channel)
        exchange.every = 0.02


def test_a_keepalive_is_not_handed_out_as_a_change(exchange, connect):
    client, book = ready(connect, BOOK, depth=1)
    with exchange.lock:
        last = exchange.instruments["BTC-USDT"].sequence
        arg = {"channel": "books", "instId": "BTC-USDT"}
        exchange.sessions[-1].send(json.dumps({"arg": arg, "action": "update", "data": [v5(last, last)]}))
        wait_for(lambda: book.ready and book.timestamp == "1")
    wait_for(client.more_rows())
    assert "1" not in [view["ts"] for _, view in client.rows]


def test_a_lost_connection_empties_the_book_until_the_next_snapshot(exchange, connect, impatient):
    for channel in BOOKS:
        client, book = ready(connect, channel)
        exchange.ignored = "addChannel" if "ok_" in channel else "subscribe"  # nothing is, after the reconnect
        exchange.sessions[-1].drop()
        wait_for(partial(client.saw, CONNECTED, 2), case=channel)
        with pytest.raises(BookOutOfSync, match="disconnected"):
            _ = book.best_bid
        exchange.ignored = ""
        exchange.sessions[-1].drop()
        wait_for(lambda: book.ready, case=channel)  # noqa: B023
        assert not client.saw(GAP), channel
        client.close()


def test_a_book_whose_channel_ended_does_not_answer(exchange, connect):
    refusal = {"event": "error", "code": "60018", "msg": "channel:books,instId:BTC-USDT doesn't exist"}
    for message in (refusal, {"event": "unsubscribe", "arg": V5.argument(BOOK)}):
        client, book = ready(connect, BOOK)
        exchange.silent = True
        exchange.sessions[-1].raw(frame(json.dumps(message)))
        wait_for(lambda: not book.ready, case=message)  # noqa: B023
        exchange.silent = False
        client.close()
    client, book = ready(connect, BOOK)
    client.unsubscribe(BOOK)
    with pytest.raises(BookOutOfSync, match="unsubscribed"):
        book.top(1)
    assert client.books == {}


def test_a_book_is_not_ready_while_the_handler_blocks(connect):
    block = threading.Event()
    client, book = ready(connect, BOOK, ping_every=0.05)
    client.handler = lambda channel, rows: block.wait()
    try:
        wait_for(lambda: client.saw(GAP) and not book.ready)
        assert "late: a slow handler" in dict(client.statuses)[GAP]
        with pytest.raises(BookOutOfSync, match="may have arrived"):
            book.top(1)
        client.handler = lambda channel, rows: None
    finally:
        block.set()
    wait_for(lambda: book.ready)


# -- Gaps
COINS = ["BTC", "ETH", "LTC", "BCH", "ETC", "EOS", "XRP"]
MANY = [f"books:{coin}-{quote}" for coin in COINS for quote in ("USDT", "USD-SWAP", "USDT-SWAP")]


def test_a_burst_of_gaps_is_mended_in_a_few_requests_and_said_in_a_few_lines(exchange, connect, caplog):
    client, _ = ready(connect, *MANY)
    asked = len(exchange.requests)
    with exchange.lock:
        for instrument in exchange.instruments.values():
            instrument.step()  # an event that nobody is told
    wait_for(lambda: client.counts["gaps"] >= len(MANY))
    wait_for(lambda: all(book.ready for book in client.books.values()))
    ops = [json.loads(text)["op"] for _, text in exchange.requests[asked:] if text != "ping"]
    assert ops.count("unsubscribe") <= 6 and ops.count("subscribe") <= 6  # 3 each, if nothing stands still meanwhile
    assert client.counts["connects"] == 1
    wait_for(lambda: caplog.text.count(f"(and {len(MANY) - 2} more like it)") == 2)
    assert caplog.text.count("is not valid until") == 2 == caplog.text.count("in sync again")


def test_a_gap_costs_only_the_channel_that_has_it(exchange, connect, caplog):
    client, _ = ready(connect, *MANY[:20])
    with exchange.lock:
        exchange.instruments["LTC-USDT"].step()  # an event that nobody is told

    wait_for(lambda: client.saw(GAP))
    assert dict(client.statuses)[GAP].startswith("books:LTC-USDT: sequence gap")
    wait_for(lambda: client.books["books:LTC-USDT"].ready)
    asked = [text for _, text in exchange.requests if "subscribe" in text]
    assert [text for text in asked[20:] if "LTC-USDT" not in text or "SWAP" in text] == []
    assert len(asked) == 22 and client.counts["gaps"] == 1
    wait_for(client.more_rows())
    for channel in MANY[:20]:
        rows = [r for c, r in client.rows if c == channel]
        gaps = [b for a, b in pairwise(rows) if b["prevSeqId"] != a["seqId"]]
        assert len(gaps) == (channel == "books:LTC-USDT"), channel
    wait_for(lambda: "books:LTC-USDT is in sync again." in caplog.text)
    assert caplog.text.count("sequence gap") == 1


def test_a_crossed_book_of_v1_costs_the_connection(exchange, connect, impatient):
    channel = BOOKS[-1]
    client, book = ready(connect, channel)
    with exchange.lock:
        crossed = {"asks": [["0.00000001", "1"]], "bids": [], "timestamp": 1}
        exchange.sessions[-1].send(json.dumps([{"binary": 0, "channel": channel, "data": crossed}]))
    wait_for(lambda: client.saw(CONNECTED, 2))
    assert dict(client.statuses)[GAP].startswith(f"{channel}: crossed")
    assert "out of sync" in dict(client.statuses)[DISCONNECTED]
    wait_for(lambda: book.ready)
    assert client.counts["gaps"] == 1 and not any("removeChannel" in text for _, text in exchange.requests)


def test_a_book_without_a_snapshot_is_said_to_be_out_of_sync_and_begun_anew(exchange, connect, impatient, monkeypatch):
    def check(channel, other, connects):
        client = connect(other)
        wait_for(lambda: client.rows, case=channel)
        session, readable = exchange.sessions[-1], []
        send = session.send
        exchange.snapshots = channel != BOOK  # v5 sends changes alone, the others nothing of the book
        session.send = lambda text: (exchange.snapshots and '"asks"' in text) or send(text)

        def hear(status, detail):
            client.statuses.append((status, detail))
            if status == GAP:
                readable.append(client.books[channel].ready)
                exchange.snapshots, session.send = True, send

        client.on_status = hear
        client.subscribe(channel)
        wait_for(partial(client.saw, GAP), case=channel)
        assert dict(client.statuses)[GAP] == f"{channel}: no snapshot within 1 s" and readable[0] is False
        wait_for(lambda: client.books[channel].ready, case=channel)
        assert client.counts["connects"] == connects, channel
        client.close()

    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 1.0)
    check(BOOK, "trades:BTC-USDT", connects=1)
    check("ok_sub_spot_ltc_btc_depth", "ok_sub_spot_ltc_btc_deals", connects=2)


def test_a_channel_that_dies_inside_a_living_connection_is_said_and_begun_anew(exchange, connect, monkeypatch):
    ahead = 0.0
    monkeypatch.setattr(okex_ws, "monotonic", lambda: time.monotonic() + ahead)
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: time.time() + ahead)
    monkeypatch.setattr(okex_ws, "CONNECT_PACE", okex_ws.Pace(0.0))  # no later test is to take its turn by this clock
    client, book = ready(connect, BOOK, "books5:ETH-USDT", "trades:BTC-USDT", ping_every=0.2)
    exchange.lost = {BOOK: 10**6}
    while not client.saw(GAP):
        assert ahead < 90
        ahead += 1.0
        wait_for(client.more_rows(4))
    assert ahead > 70 and dict(client.statuses)[GAP] == f"{BOOK}: nothing came on the channel for 75 s"
    exchange.lost = {}
    wait_for(lambda: book.ready and client.books["books5:ETH-USDT"].ready)
    assert client.counts["gaps"] == client.counts["connects"] == 1


def test_a_reader_never_sees_half_an_update():
    book, done = OrderBook(), threading.Event()
    book.apply(row([("1", "1")], [("2", "1")]), "snapshot")

    def write():
        for n in range(3, 3000):  # the only bid and the only ask move together, at a spread of 1
            book.apply(row([(str(n - 2), "0"), (str(n - 1), "1")], [(str(n - 1), "0"), (str(n), "1")]), "update")
            if n % 500 == 0:
                book.apply(row([(str(n - 1), "1")], [(str(n), "1")]), "snapshot")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        bids, asks = book.top(9)
        assert len(bids) == len(asks) == 1 and int(asks[0][0]) - int(bids[0][0]) == 1
        assert book.spread == 1.0
    thread.join()


def test_a_book_of_v1_that_never_comes_right_costs_no_connection_a_second(connect, impatient, monkeypatch):
    spoilt = lambda self, name, first, *_: {"asks": [["101" if first else "1", "1"]], "bids": [["99", "1"]]}  # noqa: E731
    monkeypatch.setattr(ServerV1, "depth", spoilt)
    client, gaps = connect("ok_sub_spot_ltc_btc_depth", "ok_sub_spot_ltc_btc_deals"), []
    client.on_status = lambda status, detail: gaps.append(time.monotonic()) if status == GAP else None
    wait_for(lambda: len(gaps) == 3)
    assert gaps[2] - gaps[1] >= 1
    wait_for(client.more_rows())
