"""The table of subscriptions, without a server: what is asked for, and what each answer changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import okex_ws
from okex_ws import V1, V3, V5, Refused, Subscriptions

TRADES, BOOK, LATE_BOOK = "trades:BTC-USDT", "books:BTC-USDT", "ok_sub_spot_bch_btc_depth"


def table(*channels, dialect=V5):
    subscriptions = Subscriptions(dialect)
    for channel in channels:
        subscriptions.want(channel)
    return subscriptions


def sent(*channels, dialect=V5, now=0.0):
    subscriptions = table(*channels, dialect=dialect)
    requests = subscriptions.take_due(now)
    return subscriptions, requests


def confirmed(*channels, dialect=V5):
    subscriptions, _ = sent(*channels, dialect=dialect)
    for channel in channels:
        subscriptions.confirmed(channel)
    return subscriptions


def states(subscriptions):
    return {s.channel: s.state for s in subscriptions}


def asked(requests):
    return [(op, channels) for op, channels, _ in requests]


def test_each_channel_is_asked_for_once_and_by_itself():
    subscriptions, requests = sent(TRADES, BOOK)
    assert asked(requests) == [("subscribe", [TRADES]), ("subscribe", [BOOK])]
    assert len({id for *_, id in requests}) == 2 and all(id.isalnum() for *_, id in requests)
    assert subscriptions.take_due(1.0) == []
    assert states(subscriptions) == {TRADES: "sent", BOOK: "sent"}


def test_many_channels_share_requests_within_the_limit_of_their_size():
    channels = [f"spot/ticker:C{n}-USDT" for n in range(2000)]
    _, requests = sent(*channels, dialect=V3)
    assert [channel for _, channels, _ in requests for channel in channels] == channels
    assert 100 <= len(requests) < okex_ws.REQUESTS_PER_HOUR
    assert all(len(V3.subscribe(channels)) <= V3.max_request for _, channels, _ in requests)


def test_an_end_leaves_before_a_beginning():
    subscriptions = confirmed(TRADES)
    subscriptions.want(BOOK)
    subscriptions.drop(TRADES)
    assert asked(subscriptions.take_due(0.0)) == [("unsubscribe", [TRADES]), ("subscribe", [BOOK])]


@pytest.mark.parametrize("confirm", [True, False], ids=["confirmation", "data"])
def test_a_confirmation_or_the_first_row_confirms(confirm):
    subscriptions, _ = sent(TRADES)
    if confirm:
        subscriptions.confirmed(TRADES)
    else:
        assert subscriptions.accepts(subscriptions.by_key[TRADES])
    assert states(subscriptions) == {TRADES: "confirmed"}
    assert subscriptions.late(99.0) == ([], "")


def test_a_book_is_open_only_while_its_channel_is_sent_or_confirmed():
    subscriptions = table(BOOK)
    book = subscriptions.by_key[BOOK].book
    snapshot = {"bids": [["1", "1"]], "asks": [["2", "1"]], "seqId": 1, "prevSeqId": -1}

    def takes_a_snapshot():
        book.apply(snapshot, "snapshot")
        return book.ready

    assert not takes_a_snapshot()  # wanted
    subscriptions.take_due(0.0)
    assert takes_a_snapshot()  # sent
    subscriptions.confirmed(BOOK)
    assert book.ready and takes_a_snapshot()
    assert subscriptions.resubscribe(subscriptions.by_key[BOOK], "a gap")
    assert not book.ready and not takes_a_snapshot()  # leaving
    subscriptions.take_due(0.0)
    subscriptions.ended(BOOK)
    assert not takes_a_snapshot()  # wanted again
    subscriptions.take_due(1e9)
    assert not takes_a_snapshot()  # sent, but what comes may be of the subscription before
    subscriptions.confirmed(BOOK)
    assert takes_a_snapshot()
    subscriptions.refused(Refused("channel-conn-count-error", "30 connections", "books", ""), "too many")
    assert not book.ready and not takes_a_snapshot()  # refused
    subscriptions.want(BOOK)
    subscriptions.take_due(0.0)
    subscriptions.confirmed(BOOK)
    assert takes_a_snapshot()
    subscriptions.restart("disconnected")
    assert not book.ready and not takes_a_snapshot()
    subscriptions.drop(BOOK)
    assert not takes_a_snapshot()


def test_rows_of_a_channel_that_was_given_up_are_known_until_it_is_wanted_again():
    subscriptions = confirmed(TRADES)
    subscriptions.drop(TRADES)
    assert not subscriptions.accepts(subscriptions.by_key[TRADES])
    subscriptions.take_due(0.0)
    subscriptions.ended(TRADES)
    assert subscriptions.gave_up(TRADES) and states(subscriptions) == {}
    subscriptions.want(TRADES)
    assert not subscriptions.gave_up(TRADES)
    subscriptions.take_due(0.0)
    assert not subscriptions.accepts(subscriptions.by_key[TRADES])  # perhaps of the subscription before
    subscriptions.confirmed(TRADES)
    assert subscriptions.accepts(subscriptions.by_key[TRADES])


def test_the_names_of_what_was_given_up_are_bounded(monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_GIVEN_UP", 3)
    subscriptions = Subscriptions(V5)
    for n in range(5):
        subscriptions.want(f"trades:C{n}")
        subscriptions.drop(f"trades:C{n}")
    assert [subscriptions.gave_up(f"trades:C{n}") for n in range(5)] == [False, False, True, True, True]


def test_a_channel_that_is_not_confirmed_is_asked_for_again_and_said():
    subscriptions, _ = sent(TRADES)
    assert subscriptions.late(okex_ws.CONFIRM_TIMEOUT - 1) == ([], "")
    (line,), reason = subscriptions.late(okex_ws.CONFIRM_TIMEOUT)
    assert line == "trades:BTC-USDT is not confirmed after 10 s. Asking again in 0 s." and reason == ""
    assert asked(subscriptions.take_due(okex_ws.CONFIRM_TIMEOUT)) == [("subscribe", [TRADES])]


def test_a_v1_book_whose_end_nobody_confirms_costs_the_connection():
    subscriptions = confirmed(LATE_BOOK, dialect=V1)
    subscriptions.resubscribe(subscriptions.by_key[LATE_BOOK], "crossed")
    subscriptions.take_due(0.0)
    assert subscriptions.late(okex_ws.CONFIRM_TIMEOUT) == ([], f"{LATE_BOOK} was not unsubscribed within 10 s")


def test_a_refusal_hits_the_request_that_its_id_names_and_no_other():
    subscriptions, requests = sent(TRADES, "trades:NOPE")
    event = Refused("60018", "doesn't exist", "", requests[1].id)
    assert [s.channel for s in subscriptions.refused(event, "why")] == ["trades:NOPE"]
    assert states(subscriptions) == {TRADES: "sent", "trades:NOPE": "refused"}
    assert subscriptions.take_due(1e9) == []


def test_an_error_about_nothing_refuses_nothing():
    subscriptions, _ = sent(TRADES)
    assert subscriptions.refused(Refused("50001", "Service temporarily unavailable", "", ""), "why") == []
    assert states(subscriptions) == {TRADES: "sent"}


def test_of_a_shared_request_that_is_refused_each_channel_is_asked_for_by_itself(monkeypatch):
    monkeypatch.setattr(okex_ws, "REQUESTS_PER_OPEN", 1)
    subscriptions, requests = sent(TRADES, BOOK)
    assert asked(requests) == [("subscribe", [TRADES, BOOK])]
    subscriptions.refused(Refused("60003", "No", "", requests[0].id), "why")
    assert asked(subscriptions.take_due(1e9)) == [("subscribe", [TRADES]), ("subscribe", [BOOK])]


def test_a_lost_connection_keeps_what_is_wanted_and_nothing_else():
    subscriptions = confirmed(TRADES, BOOK, "tickers:BTC-USDT", "trades:NOPE")
    subscriptions.drop(BOOK)
    subscriptions.drop("tickers:BTC-USDT")
    subscriptions.want("tickers:BTC-USDT")
    subscriptions.refused(Refused("60018", "", "trades:NOPE", ""), "why")
    subscriptions.restart("disconnected")
    assert states(subscriptions) == {TRADES: "wanted", "tickers:BTC-USDT": "wanted", "trades:NOPE": "refused"}
    assert asked(subscriptions.take_due(0.0)) == [("subscribe", [TRADES]), ("subscribe", ["tickers:BTC-USDT"])]


CHANNELS = [TRADES, BOOK, "books5:BTC-USDT"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from("want drop take confirm left refuse resubscribe late restart row".split()),
        st.sampled_from(CHANNELS),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_a_book_is_open_exactly_while_its_rows_count(steps):
    subscriptions, now = table(*CHANNELS), 0.0
    for step, channel in steps:
        now += 3.0
        subscription = subscriptions.by_key.get(channel)
        match step:
            case "want":
                subscriptions.want(channel)
            case "drop":
                subscriptions.drop(channel)
            case "take":
                subscriptions.take_due(now)
            case "confirm":
                subscriptions.confirmed(channel)
            case "left":
                subscriptions.ended(channel)
            case "refuse":
                subscriptions.refused(Refused("60018", "", channel, ""), "why")
            case "resubscribe" if subscription:
                subscriptions.resubscribe(subscription, "gap")
            case "late":
                subscriptions.late(now)
            case "restart":
                subscriptions.restart("disconnected")
            case "row" if subscription:
                subscriptions.accepts(subscription)
        for s in subscriptions:
            assert not subscriptions.gave_up(s.key)
            counts = s.state in ("sent", "confirmed") and not s.stale
            assert s.flows == counts
            if s.book:
                s.book.apply({"bids": [["1", "1"]], "asks": [["2", "1"]], "seqId": 1, "prevSeqId": -1}, "snapshot")
                assert s.book.ready == counts
                s.book.invalidate("for the next step")


def test_the_users_requests_keep_a_reserve_when_books_use_up_the_hour(monkeypatch):
    monkeypatch.setattr(okex_ws, "REQUESTS_PER_HOUR", 100)
    subscriptions, now = confirmed(BOOK), 1000.0
    while subscriptions.may_request(now, okex_ws.REQUESTS_RESERVED):
        pass  # whatever the program asked for by itself
    subscriptions.resubscribe(subscriptions.by_key[BOOK], "gap")
    assert subscriptions.take_due(now) == []
    subscriptions.want(TRADES)
    assert asked(subscriptions.take_due(now)) == [("subscribe", [TRADES])]
    assert subscriptions.exhausted(50.0) == ""  # too early to connect for this reason again
    assert "requests an hour" in subscriptions.exhausted(now)
    subscriptions.restart("a new connection")
    assert subscriptions.exhausted(now) == ""
    assert asked(subscriptions.take_due(now)) == [("subscribe", [BOOK]), ("subscribe", [TRADES])]


def test_five_hundred_gaps_at_once_cost_two_requests():
    channels = [f"books:C{n}-USDT" for n in range(500)]
    subscriptions = confirmed(*channels)
    for channel in channels:
        assert subscriptions.resubscribe(subscriptions.by_key[channel], "gap")
    assert [(op, len(batch)) for op, batch, _ in subscriptions.take_due(0.0)] == [("unsubscribe", 500)]
    for channel in channels:
        subscriptions.ended(channel)
    assert [(op, len(batch)) for op, batch, _ in subscriptions.take_due(1e9)] == [("subscribe", 500)]


def test_gaps_that_come_one_after_the_other_share_requests():
    channels = [f"books:C{n}-USDT" for n in range(50)]
    subscriptions, requests = confirmed(*channels), []
    for n, channel in enumerate(channels):
        subscriptions.resubscribe(subscriptions.by_key[channel], "gap")
        requests += subscriptions.take_due(100 + n / 50)
    requests += subscriptions.take_due(101.5)
    assert [len(batch) for _, batch, _ in requests] == [1, 49]


FILTERED = "liquidation-orders:instFamily=BTC-USDT,instType=SWAP"


def test_a_confirmation_that_lost_its_filter_is_known_by_its_id():
    subscriptions, requests = sent(FILTERED, "liquidation-orders:instFamily=ETH-USDT,instType=SWAP")
    assert subscriptions.confirmed("liquidation-orders:instType=SWAP", requests[0].id).channel == FILTERED
    assert list(states(subscriptions).values()) == ["confirmed", "sent"]


def test_rows_that_lost_their_filter_belong_to_the_one_subscription_that_they_fit():
    subscriptions = confirmed(FILTERED, TRADES)
    assert subscriptions.alias("liquidation-orders:instType=SWAP").channel == FILTERED
    assert subscriptions.alias("liquidation-orders:instType=FUTURES") is None
    subscriptions.want("liquidation-orders:instFamily=ETH-USDT,instType=SWAP")
    assert subscriptions.alias("liquidation-orders:instType=SWAP") is None  # whose are they now?
    subscriptions.drop("liquidation-orders:instFamily=ETH-USDT,instType=SWAP")
    assert subscriptions.alias("liquidation-orders:instType=SWAP").channel == FILTERED


def test_an_end_that_lost_its_filter_ends_the_channel():
    subscriptions = confirmed(FILTERED)
    subscriptions.drop(FILTERED)
    (request,) = subscriptions.take_due(0.0)
    assert subscriptions.ended("liquidation-orders:instType=SWAP", request.id) is None
    assert states(subscriptions) == {}


@pytest.mark.parametrize("wanted", ["option/instruments", "option/instruments:BTC-USD"])
def test_instruments_of_options_are_known_with_and_without_a_filter(wanted):
    subscriptions = confirmed(wanted, dialect=V3)
    (push,) = V3.parse('{"table":"option/instruments","data":[{"instrument_id":"BTC-USD-190927-12500-C"}]}')
    found = subscriptions.by_key.get(push.channel) or subscriptions.alias(push.channel)
    assert found.channel == wanted


def test_a_snapshot_confirms_as_well_as_a_confirmation_after_an_earlier_subscription():
    subscriptions = confirmed(BOOK)
    subscriptions.resubscribe(subscriptions.by_key[BOOK], "gap")
    subscriptions.take_due(0.0)
    subscriptions.ended(BOOK)
    subscriptions.take_due(1e9)
    subscription = subscriptions.by_key[BOOK]
    assert not subscriptions.accepts(subscription, "update")  # of the one before
    assert subscriptions.accepts(subscription, "snapshot")
    assert states(subscriptions) == {BOOK: "confirmed"}


def test_a_v1_book_whose_whole_may_have_been_dropped_is_begun_on_a_new_connection():
    subscriptions = confirmed(LATE_BOOK, dialect=V1)
    subscriptions.resubscribe(subscriptions.by_key[LATE_BOOK], "crossed")
    subscriptions.take_due(0.0)
    subscriptions.ended(LATE_BOOK)
    subscriptions.take_due(1e9)
    subscription = subscriptions.by_key[LATE_BOOK]
    assert not subscriptions.accepts(subscription)
    subscriptions.confirmed(LATE_BOOK)
    assert not subscription.flows
    assert subscriptions.late(0.0) == ([], f"rows of {LATE_BOOK} came before its confirmation")
    subscriptions.restart("a new connection")
    assert subscriptions.late(0.0) == ([], "")
