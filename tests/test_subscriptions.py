"""The table of subscriptions, without a server: what is asked for, and what each answer changes."""

import logging
from time import monotonic

import pytest
from hypothesis import given, strategies as st

import okex_ws
from okex_ws import V1, V3, V5, OrderBook, Reconnect, Subscriptions, WireEvent

TRADES, BOOK, V1_BOOK = "trades:BTC-USDT", "books:BTC-USDT", "ok_sub_spot_bch_btc_depth"
FILTERED = "liquidation-orders:instFamily=BTC-USDT,instType=SWAP"
OTHER_FILTER = FILTERED.replace("BTC", "ETH")
UNFILTERED = "liquidation-orders:instType=SWAP"
SNAPSHOT = {"bids": [["1", "1"]], "asks": [["2", "1"]], "seqId": 1, "prevSeqId": -1}
LATER = 1e9  # when everything is due


def sent(*channels, dialect=V5, book=OrderBook):
    subscriptions = Subscriptions(dialect, lambda channel: book() if dialect.book(channel) else None)
    for channel in channels:
        subscriptions.want(channel)
    return subscriptions, subscriptions.take_due(0.0)


def confirmed(*channels, **options):
    subscriptions, _ = sent(*channels, **options)
    for channel in channels:
        subscriptions.confirmed(channel)
    return subscriptions


def refusal(code, message="", channel="", id=""):
    return WireEvent("refused", channel, id, code, message)


def states(subscriptions):
    return {s.channel: s.state for s in subscriptions}


def asked(requests):
    return [(op, channels) for op, channels, _ in requests]


def test_each_channel_is_asked_for_once_by_itself_if_there_are_few_and_within_the_limits_of_requests():
    subscriptions, requests = sent(TRADES, BOOK)
    assert asked(requests) == [("subscribe", [TRADES]), ("subscribe", [BOOK])]
    assert len({id for *_, id in requests}) == 2 and all(id.isalnum() for *_, id in requests)
    assert subscriptions.take_due(LATER) == []
    assert subscriptions.confirmed(TRADES) == TRADES
    assert subscriptions.admit(subscriptions.by_key[BOOK])  # its first row confirms it, too
    assert states(subscriptions) == {TRADES: "confirmed", BOOK: "confirmed"}
    assert subscriptions.check(okex_ws.CONFIRM_TIMEOUT) == subscriptions.take_due(LATER) == []
    channels = [f"spot/ticker:C{n}-USDT" for n in range(8000)]
    _, requests = sent(*channels, dialect=V3)
    assert [channel for _, batch, _ in requests for channel in batch] == channels
    assert 100 < len(requests) < okex_ws.REQUESTS_PER_HOUR
    assert all(len(V3.subscribe(batch)) <= V3.max_request for _, batch, _ in requests)


def test_what_still_comes_of_a_dropped_channel_is_not_taken_and_known_for_that():
    subscriptions = confirmed(TRADES)
    subscriptions.drop(TRADES)
    assert not subscriptions.admit(subscriptions.by_key[TRADES])
    subscriptions.take_due(0.0)
    subscriptions.ended(TRADES)
    assert subscriptions.dropped == {TRADES} and states(subscriptions) == {}
    assert subscriptions.find(TRADES) is None
    subscriptions.want(TRADES)
    assert not subscriptions.dropped
    subscriptions.take_due(0.0)
    assert subscriptions.admit(subscriptions.by_key[TRADES])


def test_the_rows_of_a_subscription_before_never_become_the_book_of_the_next_one():
    subscriptions = confirmed(BOOK)
    subscription, book = subscriptions.by_key[BOOK], subscriptions.books[BOOK]
    book.take([SNAPSHOT], "snapshot")
    assert subscriptions.resubscribe(subscription, "a gap") and not book.ready
    assert not subscriptions.admit(subscription)
    assert not subscriptions.resubscribe(subscription, "a gap")  # once is enough
    subscriptions.take_due(LATER)
    subscriptions.ended(BOOK)
    book.take([SNAPSHOT], "snapshot")
    assert not book.ready
    subscriptions.take_due(LATER + 2)
    book.take([{**SNAPSHOT, "seqId": 2, "prevSeqId": 1}], "update")
    assert subscriptions.admit(subscription) and not book.ready
    book.take([SNAPSHOT], "snapshot")
    assert book.ready and states(subscriptions) == {BOOK: "confirmed"}
    subscriptions.drop(BOOK)
    assert not book.ready and not subscriptions.books
    subscriptions.want(BOOK)
    assert subscriptions.books[BOOK] is not book  # the user begins anew


def test_what_is_not_confirmed_or_ends_by_itself_is_said_and_asked_for_again(caplog):
    caplog.set_level(logging.WARNING, "okex_ws")
    subscriptions, _ = sent(TRADES)
    assert subscriptions.check(okex_ws.CONFIRM_TIMEOUT - 1) == [] and not caplog.messages
    assert subscriptions.check(okex_ws.CONFIRM_TIMEOUT) == []
    assert caplog.messages == [f"{TRADES} is not confirmed after 10 s. Asking again in 0 s."]
    assert asked(subscriptions.take_due(LATER)) == [("subscribe", [TRADES])]
    subscriptions.confirmed(TRADES)
    assert subscriptions.ended(TRADES).channel == TRADES
    assert asked(subscriptions.take_due(LATER + 2)) == [("subscribe", [TRADES])]
    subscriptions.drop(TRADES)
    subscriptions.take_due(0.0)
    subscriptions.check(okex_ws.CONFIRM_TIMEOUT)
    assert caplog.messages[1:] == [f"{TRADES}: not confirmed to be unsubscribed. What still comes is dropped."]


def test_what_fails_again_and_again_is_asked_for_more_and_more_rarely():
    subscriptions, now = confirmed(BOOK), LATER
    subscription = subscriptions.by_key[BOOK]
    for wait in (0, 1, 3, 7, 15, 31, 60, 60):
        subscriptions.resubscribe(subscription, "gap")
        subscriptions.take_due(now := now + 2)
        begin = monotonic()
        subscriptions.ended(BOOK)
        assert begin + wait <= subscription.due <= monotonic() + wait, wait
        subscriptions.take_due(now)
        subscriptions.confirmed(BOOK)


def test_a_book_whose_snapshot_does_not_come_is_reported_once():
    for channel, dialect in ((BOOK, V5), ("spot/depth:BTC-USDT", V3), (V1_BOOK, V1)):
        subscriptions = confirmed(channel, "trades:X", dialect=dialect)
        end = monotonic() + okex_ws.CONFIRM_TIMEOUT
        assert subscriptions.check(end - 5) == [], channel
        assert subscriptions.check(end) == [(subscriptions.by_key[channel], "no snapshot within 10 s")], channel
        assert subscriptions.check(LATER) == [], channel
    subscriptions = confirmed(BOOK)
    subscriptions.books[BOOK].take([SNAPSHOT], "snapshot")
    assert subscriptions.check(LATER) == []


@pytest.fixture
def clock(monkeypatch):
    """The time by monotonic(), as a list of one."""
    clock = [1000.0]
    monkeypatch.setattr(okex_ws, "monotonic", lambda: clock[0])
    return clock


def late_after(clock, subscriptions):
    """Let seconds pass until a book is late: how many did, and why it is."""
    for second in range(1000):
        if late := subscriptions.check(clock[0]):
            return second, late[0][1]
        clock[0] += 1.0


def test_a_book_that_nothing_comes_for_is_late_and_waits_longer_until_it_changes(clock):
    steps = [  # numbers that come, the seconds until it is late, the minutes until it is asked for again
        ([1, 2], 75, 0), ([2], 150, 1), ([2, 2], 300, 2), ([2], 600, 4), ([2], 600, 8), ([3, 3], 600, 10),
        ([4], 600, 10), ([5, 6], 600, 0), ([6], 600, 1), ([], 10, 2), ([7, 8], 600, 0), ([], 10, 1), ([], 10, 2),
    ]  # fmt: skip
    for channel in (BOOK, "books-l2-tbt:BTC-USDT", "books50-l2-tbt:BTC-USDT", "books5:BTC-USDT", "bbo-tbt:BTC-USDT"):
        subscriptions = confirmed(channel)
        entry = subscriptions.by_key[channel]
        for step, (numbers, seconds, minutes) in enumerate(steps):
            for before, number in zip([-1, *numbers], numbers):
                row = {**SNAPSHOT, "seqId": number, "prevSeqId": before}
                entry.keeper.take([row], "snapshot" if before == -1 else "update")
                clock[0] += 1.0
                assert subscriptions.check(clock[0]) == []
            why = f"nothing came on the channel for {seconds} s" if numbers else "no snapshot within 10 s"
            assert late_after(clock, subscriptions) == (seconds, why), (channel, step)
            assert subscriptions.resubscribe(entry, "why", late=True) and not entry.keeper.ready
            clock[0] += 20.0
            assert asked(subscriptions.take_due(clock[0])) == [("unsubscribe", [channel])]
            subscriptions.ended(channel)
            assert entry.due == clock[0] + 60 * minutes, (channel, step)
            clock[0] += 60 * minutes + 20
            assert asked(subscriptions.take_due(clock[0])) == [("subscribe", [channel])]
            assert subscriptions.check(clock[0]) == [] and entry.due == clock[0] + okex_ws.CONFIRM_TIMEOUT
            subscriptions.confirmed(channel)
    subscriptions = confirmed("books-rpi:BTC-USDT", "sprd-books-l2-tbt:A_B", "tickers:BTC-USDT")
    for book in subscriptions.books.values():
        book.take([SNAPSHOT], "snapshot")
    assert late_after(clock, subscriptions) is None  # nobody promised that these are repeated


def test_quiet_books_do_not_cost_the_requests_of_an_hour(clock, monkeypatch):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 100.0)
    channels = [f"books5:C{n}-USDT" for n in range(200)]
    subscriptions = confirmed(*channels, book=lambda: OrderBook(whole=True))
    requests = []
    for channel in channels:  # each has its snapshot at another time
        subscriptions.books[channel].take([SNAPSHOT], "")
        assert subscriptions.check(clock[0]) == []
        clock[0] += 0.3
    for _ in range(3600):
        clock[0] += 1.0
        for entry, why in subscriptions.check(clock[0]):
            subscriptions.resubscribe(entry, why, late=True)
        for op, batch, _ in subscriptions.take_due(clock[0]):
            requests.append(len(batch))
            for channel in batch:
                (subscriptions.ended if op == "unsubscribe" else subscriptions.confirmed)(channel)
                subscriptions.books[channel].take([SNAPSHOT], "")
    assert len(requests) < 380 and sum(requests) > 1000


def test_what_was_confirmed_and_is_refused_is_asked_for_again(clock):
    subscriptions = confirmed(TRADES)
    subscriptions.want("trades:NOPE")
    subscriptions.take_due(clock[0])
    subscriptions.refused(refusal("60018", channel="trades:NOPE"), "why")
    for minutes in (1, 2, 4, 8, 10, 10, "reconnect", "want"):
        subscriptions.refused(refusal("60029", channel=TRADES), "why")
        assert states(subscriptions) == {TRADES: "refused", "trades:NOPE": "refused"} and not subscriptions.hopeless
        if minutes == "reconnect":
            subscriptions.restart()
        elif minutes == "want":  # the user does not wait
            subscriptions.want(TRADES)
        else:
            assert subscriptions.take_due(clock[0] + 60.0 * minutes - 0.1) == []
            clock[0] += 60.0 * minutes
        assert asked(subscriptions.take_due(clock[0])) == [("subscribe", [TRADES])], minutes


def test_of_what_is_wanted_again_and_its_end_not_confirmed_only_a_v1_book_costs_the_connection():
    for channel, dialect in ((BOOK, V5), ("ok_sub_spot_bch_btc_deals", V1), (V1_BOOK, V1)):
        subscriptions = confirmed(channel, dialect=dialect)
        subscriptions.drop(channel)
        subscriptions.take_due(0.0)
        subscriptions.check(LATER)
        subscriptions.want(channel)
        if channel == V1_BOOK:
            with pytest.raises(Reconnect, match=f"{V1_BOOK} was not unsubscribed within 10 s"):
                subscriptions.check(LATER)
        else:
            assert subscriptions.check(LATER) == []
            assert asked(subscriptions.take_due(LATER)) == [("subscribe", [channel])]


def test_a_refusal_hits_what_its_id_or_its_channel_names_and_else_all_are_asked_for_one_by_one(monkeypatch):
    subscriptions, requests = sent(TRADES, "trades:NOPE", "trades:LATER")
    nope, later = (id for *_, id in requests[1:])
    assert subscriptions.refused(refusal("50001", "Service temporarily unavailable"), "why") == []
    (refused,) = subscriptions.refused(refusal("60018", channel="trades:?", id=nope), "why")
    (put_off,) = subscriptions.refused(refusal("60014", id=later), "why")
    assert (refused.channel, put_off.channel) == ("trades:NOPE", "trades:LATER")
    assert states(subscriptions) == {TRADES: "sent", "trades:NOPE": "refused", "trades:LATER": "wanted"}
    assert asked(subscriptions.take_due(LATER)) == [("subscribe", ["trades:LATER"])]
    subscriptions.want("trades:NOPE")  # the user insists
    assert asked(subscriptions.take_due(LATER)) == [("subscribe", ["trades:NOPE"])]
    subscriptions = confirmed("orders:instType=SPOT", "orders:instType=SWAP", "account")
    subscriptions.refused(refusal("channel-conn-count-error", "30 connections", "orders"), "too many")
    assert [*states(subscriptions).values()] == ["refused", "refused", "confirmed"]
    monkeypatch.setattr(okex_ws, "REQUESTS_PER_OPEN", 1)
    subscriptions, requests = sent(TRADES, BOOK)
    assert asked(requests) == [("subscribe", [TRADES, BOOK])]
    monkeypatch.undo()
    subscriptions.refused(refusal("60003", "No", "", requests[0][2]), "why")
    assert asked(subscriptions.take_due(LATER)) == [("subscribe", [TRADES]), ("subscribe", [BOOK])]


def test_once_the_requests_of_an_hour_are_spent_another_connection_asks_for_what_waits():
    subscriptions, now = confirmed(BOOK), 1000.0
    for _ in range(okex_ws.REQUESTS_PER_HOUR - 1):
        assert subscriptions.spend_request(now)
    assert subscriptions.check(now) == []
    subscriptions.want(TRADES)
    assert subscriptions.take_due(now) == []
    with pytest.raises(Reconnect, match="480 requests an hour"):
        subscriptions.check(now)
    subscriptions.restart()
    assert subscriptions.check(now) == []
    assert asked(subscriptions.take_due(now)) == [("subscribe", [BOOK]), ("subscribe", [TRADES])]


def test_gaps_share_requests_whether_they_come_at_once_or_one_after_the_other():
    channels = [f"books:C{n}-USDT" for n in range(500)]
    subscriptions = confirmed(*channels)
    for channel in channels:
        assert subscriptions.resubscribe(subscriptions.by_key[channel], "gap")
    assert [(op, len(batch)) for op, batch, _ in subscriptions.take_due(0.0)] == [("unsubscribe", 500)]
    for channel in channels:
        subscriptions.ended(channel)
    assert [(op, len(batch)) for op, batch, _ in subscriptions.take_due(LATER)] == [("subscribe", 500)]
    subscriptions, requests = confirmed(*channels[:50]), []
    for n, channel in enumerate(channels[:50]):
        subscriptions.resubscribe(subscriptions.by_key[channel], "gap")
        requests += subscriptions.take_due(100 + n / 50)
    requests += subscriptions.take_due(101.5)
    assert [len(batch) for _, batch, _ in requests] == [1, 49]


def test_answers_that_lost_their_filter_are_known_by_their_id_and_rows_if_one_subscription_fits():
    subscriptions, requests = sent(UNFILTERED, FILTERED)
    assert subscriptions.confirmed(UNFILTERED, requests[1][2]) == FILTERED
    assert states(subscriptions) == {UNFILTERED: "sent", FILTERED: "confirmed"}
    subscriptions, requests = sent(FILTERED, OTHER_FILTER)
    assert subscriptions.confirmed(UNFILTERED) == UNFILTERED  # of which one?
    assert states(subscriptions) == {FILTERED: "sent", OTHER_FILTER: "sent"}
    assert subscriptions.confirmed(UNFILTERED, requests[1][2]) == OTHER_FILTER
    assert states(subscriptions) == {FILTERED: "sent", OTHER_FILTER: "confirmed"}
    subscriptions.drop(OTHER_FILTER)
    (request,) = subscriptions.take_due(0.0)
    assert subscriptions.ended(UNFILTERED, request[2]) is None
    assert states(subscriptions) == {FILTERED: "sent"}
    subscriptions = confirmed(FILTERED, TRADES)
    assert subscriptions.find(UNFILTERED).channel == FILTERED
    assert subscriptions.find("liquidation-orders:instType=FUTURES") is None
    subscriptions.want(OTHER_FILTER)
    assert subscriptions.find(UNFILTERED) is None  # whose are they now?
    subscriptions.drop(OTHER_FILTER)
    assert subscriptions.find(UNFILTERED).channel == FILTERED
    subscriptions = confirmed("option/instruments", dialect=V3)  # whose rows say BTC-USD
    assert subscriptions.find("option/instruments:BTC-USD").channel == "option/instruments"


class Watched(OrderBook):
    fed = False

    def open(self):
        assert not self.fed, "a subscription began within another one"
        self.fed = True

    def close(self, reason):
        self.fed = False


CHANNELS = [(V5, [TRADES, BOOK, "books5:BTC-USDT"]), (V1, ["ok_sub_spot_a_b_deals", V1_BOOK, f"{V1_BOOK}_5"])]
STEPS = "want drop take confirm end refuse retry resubscribe row check restart".split()


@given(st.sampled_from(CHANNELS), st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2)), min_size=15))
def test_no_channel_is_forgotten_or_kept_and_none_is_open_but_while_its_rows_count(begin, steps):
    (dialect, channels), now = begin, monotonic()
    subscriptions, wanted = confirmed(*channels, dialect=dialect, book=Watched), set(channels)

    def take():
        requests = subscriptions.take_due(now)
        assert [op for op, *_ in requests] == sorted((op for op, *_ in requests), reverse=True)  # ends come first
        assert subscriptions.take_due(now) == []
        return requests

    def restart():
        refused = {s for s in subscriptions if s.state == "refused" and s.key not in subscriptions.proven}
        subscriptions.restart()
        assert {*subscriptions.by_key} == wanted
        assert all(s.state == ("refused" if s in refused else "wanted") for s in subscriptions)

    def check():
        try:
            subscriptions.check(now)
        except Reconnect:
            restart()

    def row(subscription):
        assert not subscriptions.admit(subscription) or subscription.channel in wanted

    act = {
        "want": lambda channel: (subscriptions.want(channel), wanted.add(channel)),
        "drop": lambda channel: (subscriptions.drop(channel), wanted.discard(channel)),
        "take": lambda channel: take(),
        "confirm": subscriptions.confirmed,
        "end": subscriptions.ended,
        "refuse": lambda channel: subscriptions.refused(refusal("60018", channel=channel), "why"),
        "retry": lambda channel: subscriptions.refused(refusal("60014", channel=channel), "why"),
        "resubscribe": lambda channel: subscriptions.resubscribe(subscriptions.by_key[channel], "gap"),
        "row": lambda channel: row(subscriptions.by_key[channel]),
        "check": lambda channel: check(),
        "restart": lambda channel: restart(),
    }
    for step, n in steps:
        now += 3.0
        if channels[n] in subscriptions.by_key or step not in ("resubscribe", "row"):
            act[step](channels[n])
        assert wanted <= {*subscriptions.by_key} and not subscriptions.dropped & {*subscriptions.by_key}
        for s in subscriptions:
            assert s.keeper is None or s.keeper.fed == (s.state == "confirmed"), (s.channel, s.state)
            assert (s.channel in subscriptions.books) == (s.keeper is not None and s.channel in wanted)
    for _ in range(5):  # and when the exchange answers everything again, all that is wanted comes
        now += 100.0
        check()
        for op, batch, _id in take():
            for channel in batch:
                act["confirm" if op == "subscribe" else "end"](channel)
        for channel in [s.channel for s in subscriptions if s.state == "leaving" and s.request]:
            subscriptions.ended(channel)
    assert {*subscriptions.by_key} == wanted and {*states(subscriptions).values()} <= {"confirmed", "refused"}
