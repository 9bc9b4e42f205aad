"""The client: what it restores, what it reports, and what cannot stop it."""

import asyncio
import gc
import itertools
import json
import logging
import re
import socket
import ssl
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import inf

import pytest
import websocket
from conftest import Client, frame, wait_for
from exchange import Exchange, deflate

import okex_ws
from okex_ws import CONNECTED, DISCONNECTED, EXIT, GAP, REFUSED, SUBSCRIBED, Freshness, OkexWS, Reconnect, explain

SPACING = okex_ws.CONNECT_PACE.spacing
TRADES, TICKERS = "trades:BTC-USDT", "tickers:BTC-USDT"
V1_TRADES = "ok_sub_futureusd_btc_trade_quarter"
CHANNELS = {
    "v1": [V1_TRADES, "ok_sub_spot_ltc_btc_ticker"],
    "v3": ["spot/trade:BTC-USDT", "swap/ticker:BTC-USD-SWAP"],
    "v5": [TRADES, "tickers:ETH-USDT"],
}


def subscribed(exchange, number):
    """The channels that connection `number` asked for, in order."""
    asked = []
    for connection, text in list(exchange.requests):
        if connection != number or text in ("ping", "pong") or '"event":"ping"' in text:
            continue
        request = json.loads(text)
        if isinstance(request, list):  # v1
            asked += [r["channel"] for r in request if r["event"] == "addChannel"]
        elif request["op"] == "subscribe":
            asked += [a if isinstance(a, str) else okex_ws.V5.channel(a) for a in request["args"]]
    return asked


def reasons(client):
    """Why connections ended or were not made, in order."""
    return [detail for status, detail in client.statuses if status == DISCONNECTED]


# -- Data
def test_every_row_arrives_once_and_in_order(connect):
    clients = {channels[0]: connect(channels[0]) for channels in CHANNELS.values()}
    for channel, client in clients.items():
        wait_for(client.more_rows(50), case=channel)
        assert {name for name, _ in client.rows} == {channel}
        ids = [int(row.get("tid") or row.get("trade_id") or row.get("tradeId")) for _, row in client.rows]
        assert ids == list(range(ids[0], ids[0] + len(ids))), channel


def test_bad_frames_are_counted_and_said_and_the_stream_goes_on(exchange, streaming, caplog):
    client = streaming(V1_TRADES)
    good = '[{"channel":"X","data":[["1","2","3","4","ask"]]}]'  # what nobody subscribed to is delivered, too
    bad = [b"\x00bad", deflate("{nonsense \x1b[2J"), deflate('[{"data":1}]'), deflate(good)[:-4], deflate("[" * 9999)]
    for payload in bad:
        exchange.sessions[-1].raw(frame(payload, websocket.ABNF.OPCODE_BINARY))
    exchange.sessions[-1].raw(frame(b'"\xff\xfe"'))
    for text in ['{"event":"hello"}'] * 3 + ['{"event":"bye"}', good]:  # v1 sent plain text before 2018
        exchange.sessions[-1].raw(frame(text))
    wait_for(lambda: ("X", ["1", "2", "3", "4", "ask"]) in client.rows)
    wait_for(client.more_rows())
    assert re.findall("unknown kind.*event (hello|bye)", caplog.text) == ["hello", "bye"]  # each is said once
    lines = [r.getMessage() for r in caplog.records if "Malformed" in r.getMessage()]
    assert client.counts["malformed"] == len(lines) == len(bad) + 1
    assert not client.saw(DISCONNECTED)
    assert all(line.isprintable() and len(line) < 500 for line in lines)


def test_a_bug_in_the_handler_or_in_on_status_is_not_a_network_error(exchange, streaming, caplog):
    client = streaming(TRADES)

    def broken(*_):
        raise ZeroDivisionError

    good, client.handler, client.on_status = client.handler, broken, broken
    wait_for(lambda: client.counts["handler errors"] > 3)
    client.handler = good
    wait_for(client.more_rows())
    client.subscribe(TICKERS)
    wait_for(lambda: client.channels == {TRADES: "confirmed", TICKERS: "confirmed"})
    wait_for(client.more_rows(5))
    assert client.counts["connects"] == exchange.handshakes == 1
    assert sum("The handler failed with ZeroDivisionError" in r.getMessage() for r in caplog.records) == 1
    wait_for(lambda: "on_status failed on SUBSCRIBED" in caplog.text)
    client.close()
    wait_for(lambda: "on_status failed on EXIT" in caplog.text)


# -- Coming back
NO_DATA = "No data received in 30s"
FAULTS = [  # what is said of a connection, and what ends it; the system decides whether it is lost or reset
    ("lost|reset by peer", lambda session: session.drop()),
    ("lost|reset by peer", lambda session: session.drop(reset=True)),
    (f"^closed by the exchange with code 4004 {NO_DATA}$", lambda session: session.close(4004, NO_DATA + ".")),
    ("^closed by the exchange with code 4008 [^ ]", lambda session: session.close(4008)),
    ("^closed by the exchange$", lambda session: session.frame(b"", websocket.ABNF.OPCODE_CLOSE)),
    ("broke the protocol", lambda session: session.raw(b"\xf1\x00")),  # reserved bits that nobody negotiated
]


def test_after_any_end_of_a_connection_it_says_why_and_subscribes_again_once(exchange, connect, impatient):
    clients = [(connect(*channels), channels) for channels in CHANNELS.values()]

    def all_flow():
        return all({channel for channel, _ in client.rows} == {*channels} for client, channels in clients)

    wait_for(all_flow)
    for times, (words, end) in enumerate(FAULTS, 1):
        for session in list(exchange.sessions):
            end(session)
        for client, channels in clients:
            wait_for(partial(client.saw, CONNECTED, times + 1), case=(words, channels))
            assert re.search(words, reasons(client)[-1]), (words, channels)
            client.rows.clear()
        wait_for(all_flow, case=words)
    asked = [subscribed(exchange, number) for number in exchange.usage]
    assert sorted(asked) == sorted([*CHANNELS.values()] * (len(FAULTS) + 1))
    assert {client.counts["connects"] for client, _ in clients} == {len(FAULTS) + 1}


def test_lines_that_the_exchange_will_close_move_one_after_another(exchange, connect, monkeypatch):
    monkeypatch.setattr(okex_ws, "LEAVE_PACE", okex_ws.Pace(0.5))
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 60.0)  # any other reason would wait for a minute
    coins = ["BTC", "ETH", "LTC", "BCH", "ETC", "EOS", "XRP", "SOL"]
    clients = [connect(f"books:{coin}-USDT", f"books5:{coin}-USDT") for coin in coins]
    trader = connect("account", credentials=okex_ws.Credentials(*exchange.keys))
    books = [book for client in clients for book in client.books.values()]
    wait_for(lambda: all(book.ready for book in books) and trader.channels == {"account": "confirmed"})
    exchange.order_answer = lambda answer: None
    order = ThreadPoolExecutor().submit(trader.request, "cancel-order", {"instIdCode": 1, "ordId": "1"}, 3.0)
    wait_for(lambda: "cancel-order" in exchange.requests[-1][1])
    monkeypatch.setattr(okex_ws, "CONNECT_PACE", okex_ws.Pace(0.5))
    assert [okex_ws.CONNECT_PACE.turn() for _ in range(6)][-1] > 2  # others connect, too: it reads until its turn
    for session in exchange.sessions:
        session.send('{"event":"notice","code":"64008","msg":"service upgrade","connId":"a"}')
    ready = []

    def moved():
        ready.append(sum(book.ready for book in books))
        return all(client.saw(CONNECTED, 2) for client in [*clients, trader])

    wait_for(moved)
    assert min(ready) >= len(books) - 4  # of one line, and of the one before, whose snapshots may be on their way
    assert "no answer within 3 s" in str(order.exception(10))  # and not that the connection was lost
    wait_for(lambda: all(book.ready for book in books))


def test_says_why_it_cannot_connect_and_what_can_be_done(exchange, connect, impatient, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "CONNECT_TIMEOUT", 0.3)
    exchange.mute = True
    client = connect(TRADES)
    wait_for(lambda: any("did not answer" in why for why in reasons(client)))
    monkeypatch.setattr(okex_ws, "CONNECT_TIMEOUT", 10.0)
    for status in (403, 404, 429, 503):
        exchange.http_status, exchange.mute = status, False
        wait_for(lambda: any(f"HTTP {status}" in why for why in reasons(client)), case=status)  # noqa: B023
    exchange.http_status = 0
    wait_for(lambda: client.rows)
    assert caplog.text.count('Blocked? proxy=. Account of my.okx.com? region="eea". Just looking? url= of') == 1


def test_waits_longer_from_try_to_try_and_starts_over_when_data_flows(connect, exchange, monkeypatch):
    waits = []
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: waits.append((low, high)) or 0.0)
    exchange.http_status = 503
    client = connect(TRADES)
    wait_for(lambda: len(waits) >= 8)
    assert waits[:8] == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (0, 30), (0, 30), (0, 30)]
    exchange.http_status = 0
    wait_for(lambda: client.rows)
    waits.clear()
    exchange.sessions[-1].drop()
    assert wait_for(lambda: waits)[0] == (0, 1)


def test_connects_at_most_three_times_a_second_however_many_clients(exchange, connect, monkeypatch):
    assert SPACING > 1 / 3
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 0.0)
    monkeypatch.setattr(okex_ws, "CONNECT_PACE", okex_ws.Pace(SPACING))
    exchange.http_status = 503
    begin = time.monotonic()
    for _ in range(3):
        connect(TRADES)
    wait_for(lambda: exchange.handshakes >= 8)
    assert time.monotonic() - begin > 7 * SPACING - 0.01


def test_fifty_reconnects_leave_nothing_behind(exchange, connect, impatient, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws.FILL_PACE, "spacing", 0.0)
    caplog.set_level(logging.ERROR, "okex_ws")  # what is said of each reconnect is kept here, and is no leak
    monkeypatch.setattr(okex_ws, "CHUNK", 1 << 12)  # which a read holds at some moments and not at others
    client = connect(TRADES, TICKERS)
    tracemalloc.start()

    def used():
        client.rows.clear()
        gc.collect()
        mine = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, okex_ws.__file__)])
        return sum(s.size for s in mine.statistics("filename"))

    for turn in range(1, 51):
        wait_for(partial(client.saw, SUBSCRIBED, 2 * turn))
        if turn == 10:
            threads, memory = threading.active_count(), used()
        if turn == 50:
            # Once the missing trades are delivered. The stand-in's last thread may be there still.
            wait_for(lambda: threading.active_count() <= threads + 1 and used() < memory + 20_000)  # noqa: B023
        client.rows.clear()
        exchange.sessions[-1].drop()
    tracemalloc.stop()
    wait_for(lambda: client.saw(SUBSCRIBED, 102))
    for number in range(1, 52):
        assert subscribed(exchange, number) == [TRADES, TICKERS]


def test_its_repr_tells_where_it_is_and_how_each_channel_stands(exchange, streaming):
    url = exchange.url.replace("//", "//me:secret@")
    told = f"<OkexWS {exchange.url}/ws/v5/public not connected, trades:BTC-USDT wanted>"
    assert repr(OkexWS(TRADES, url=url)) == told
    client = streaming(TRADES, url=url)
    wait_for(lambda: repr(client) == told.replace("not ", "").replace("wanted", "confirmed"))
    client.subscribe(*(f"trades:X{n}-USDT" for n in range(50)))
    assert re.search(r"trades:X7-USDT \w+ and 42 more>$", repr(client))
    client.close()
    assert "/public closed, " in repr(client)


# -- Subscriptions
def test_subscribes_and_unsubscribes_at_any_time_from_any_thread(exchange, connect):
    client = connect(TRADES)
    client.subscribe(TICKERS)  # perhaps before the connection is open
    wait_for(lambda: TICKERS in {channel for channel, _ in client.rows})
    client.unsubscribe(TRADES)
    wait_for(lambda: client.channels == {TICKERS: "confirmed"})  # none is on its way to the handler
    client.rows.clear()
    wait_for(client.more_rows(20))
    assert {channel for channel, _ in client.rows} == {TICKERS}
    exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(SUBSCRIBED, 3))
    assert subscribed(exchange, 2) == [TICKERS]


def test_what_is_taken_while_the_connection_ends_is_asked_for_on_the_next(exchange, streaming, monkeypatch):
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 0.3)
    client = streaming(TRADES)
    me, ends = threading.get_ident(), []

    def monotonic():
        if threading.get_ident() == me and not ends:  # it is about to take what is due: the worst moment to end
            ends.append(exchange.sessions[-1].drop())
            with suppress(AssertionError):
                wait_for(lambda: client.saw(DISCONNECTED), within=0.5)
        return time.monotonic()

    monkeypatch.setattr(okex_ws, "monotonic", monotonic)
    client.subscribe(TICKERS)
    wait_for(lambda: client.saw(CONNECTED, 2))
    wait_for(lambda: client.channels == {TRADES: "confirmed", TICKERS: "confirmed"})
    assert ends


def test_asking_for_the_same_twice_asks_once_and_again_waits_for_nothing(exchange, streaming, caplog):
    mine = "trades:instId=BTC-USDT"  # a channel keeps the spelling of its user
    client = streaming(mine, mine)
    client.subscribe(TRADES)
    wait_for(client.more_rows())
    assert subscribed(exchange, 1) == [TRADES]
    for _ in range(5):  # as failures, these would wait for 0 + 1 + 3 + 7 + 15 seconds
        with exchange.lock:  # nothing is answered meanwhile
            client.unsubscribe(TRADES)
            client.unsubscribe(mine)
            client.subscribe(mine)
        wait_for(lambda: client.channels == {mine: "confirmed"}, within=10)
        wait_for(client.more_rows())
    assert sum("unsubscribe" in text for _, text in exchange.requests) == 5
    assert {channel for channel, _ in client.rows} == {mine} and "by the exchange" not in caplog.text


def test_a_refused_channel_neither_hides_nor_harms_the_others(exchange, connect, impatient):
    for generation, (good, _) in CHANNELS.items():
        bad = good.lower().replace("btc", "nope")
        client = connect(bad, good)
        wait_for(lambda: client.rows and client.saw(REFUSED), case=generation)  # noqa: B023
        assert client.channels == {bad: "refused", good: "confirmed"}
        assert bad in dict(client.statuses)[REFUSED] and "spelling" in dict(client.statuses)[REFUSED]
        exchange.sessions[-1].drop()
        wait_for(partial(client.saw, SUBSCRIBED, 2), case=generation)
        assert subscribed(exchange, exchange.sessions[-1].number) == [good]
        client.subscribe(bad)  # the user asks again
        wait_for(partial(client.saw, REFUSED, 2), case=generation)
        client.close()


def test_a_refusal_finds_its_channel_among_hundreds_even_if_it_names_none(exchange, connect):
    exchange.every = 1.0  # and need not wait for 5,000 rows a second
    exchange.more_coins = 210
    names = [f"trades:{name}" for name in exchange.listed if name.startswith("C0") and name.endswith("-SWAP")]
    bad = ["trades:NOPE-USDT", "orders-history", names[50]]
    exchange.unnamed = names[50]
    client = connect(*names, *bad[:2])
    wait_for(lambda: {*client.channels.values()} == {"confirmed", "refused"})
    assert [channel for channel, state in client.channels.items() if state == "refused"] == [names[50], *bad[:2]]
    requests = [text for _, text in exchange.requests if "subscribe" in text]
    assert len(requests) < 120
    assert max(map(len, requests)) < 64 << 10


def test_a_channel_of_another_endpoint_is_an_error_at_once():
    with pytest.raises(ValueError, match=r"candle1m:BTC-USDT is served at .*/ws/v5/business.*: use clients\(\)"):
        OkexWS([TRADES, "candle1m:BTC-USDT"])
    with pytest.raises(ValueError, match="is served at"):
        OkexWS([TRADES, "spot/trade:BTC-USDT"], url="ws://127.0.0.1:1/same")


def test_a_drop_of_many_channels_is_a_handful_of_lines(exchange, connect, impatient, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws.FILL_PACE, "spacing", 0.0)
    caplog.set_level(logging.INFO, "okex_ws")
    monkeypatch.setattr(okex_ws.Chorus.sum_up, "__defaults__", (0.5,))
    exchange.more_coins, exchange.every = 40, 0.2
    client = connect("trades:C0*-USDT")

    def told(what):
        return sum(1 + int(more or 0) for more in re.findall(rf"{what}(?:.*and (\d+) more like it)?", caplog.text))

    wait_for(lambda: len({channel for channel, _ in client.rows}) == 40)
    exchange.lost = dict.fromkeys(client.channels, 1)
    wait_for(lambda: client.counts["holes"] >= 40)
    exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(SUBSCRIBED, 80) and told("missing trades") == told("missing rows? restored") >= 40)
    assert len([message for message in caplog.messages if not re.match("Ping|Pong", message)]) <= 3 + 2 * 9
    client.close()
    unfilled = connect("trades:C0*-USDT", fill=0)
    wait_for(lambda: len({channel for channel, _ in unfilled.rows}) == 40)
    exchange.lost = dict.fromkeys(unfilled.channels, 1)
    named = r"(trades:C0\d+-USDT): trades .* stay missing: filling is off"
    wait_for(lambda: len({*re.findall(named, caplog.text)}) == 40)


# -- The heartbeat
def pings(exchange):
    return [text for _, text in list(exchange.requests) if text in ("ping", '{"event":"ping"}')]


def test_pings_in_the_words_of_the_generation_and_measures_the_answer(exchange, connect, caplog):
    caplog.set_level(logging.INFO)
    for generation, (channel, _) in CHANNELS.items():
        exchange.requests.clear()
        client = connect(channel, ping_every=0.05)
        wait_for(lambda: len(pings(exchange)) >= 3 and client.latency, case=generation)  # noqa: B023
        client.close()
        client.thread.join(30)
        assert set(pings(exchange)) == {'{"event":"ping"}' if generation == "v1" else "ping"}, generation
        assert 0 < client.latency < 30_000, generation
    assert "Ping sent." in caplog.text and "Pong received." in caplog.text


def test_when_the_server_comes_back_so_do_rows_and_pings(kept_port, connect, impatient, caplog):
    others = set(threading.enumerate())  # of an earlier test, which end
    with Exchange(every=0.02, port=kept_port) as first:
        client = connect(V1_TRADES, url=first.url, ping_every=0.05)
        wait_for(lambda: client.rows and len(pings(first)) >= 2)
        (heartbeat,) = [t for t in threading.enumerate() if "heartbeat" in t.name and t not in others]
        caplog.clear()  # a ping may have been due before there was a connection
    wait_for(lambda: "Ping not sent" in caplog.text)
    client.ping_every = 600.0  # only trying again lets a ping leave from now on
    wait_for(lambda: client.saw(DISCONNECTED, 3))
    assert any("refused the connection" in why for why in reasons(client))
    with Exchange(every=0.02, port=kept_port) as second:
        wait_for(lambda: pings(second))
        wait_for(client.more_rows())
        assert subscribed(second, 1) == [V1_TRADES]
        assert heartbeat.is_alive() and heartbeat.daemon
        assert caplog.text.count("Ping not sent") == 1


def test_no_ping_slips_into_the_handshake_and_the_exchanges_own_is_answered(exchange, connect, streaming):
    exchange.mute = True
    client = connect(TRADES, ping_every=0.01)
    wait_for(lambda: exchange.handshakes)
    with pytest.raises(websocket.WebSocketConnectionClosedException, match="not connected"):
        client.send("ping")
    exchange.mute = False
    client = streaming(TRADES)
    exchange.sessions[-1].send("ping")
    wait_for(lambda: "pong" in [text for _, text in exchange.requests])


# -- Late, silent, or asleep
def test_while_a_handler_is_slightly_too_slow_no_book_answers(exchange, streaming, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "MAX_LAG", 1.2)  # more than the second in which a reader of nothing wakes up
    monkeypatch.setattr(okex_ws, "CHUNK", 200)  # a message or so, and a look at what waits behind each
    client = streaming("books5:BTC-USDT")
    book = client.books["books5:BTC-USDT"]
    exchange.every = None
    arrived, ages, answered = {}, [], []

    def slow(channel, rows):
        time.sleep(0.015)
        if (number := rows[0].get("number")) in arrived:
            ages.append(time.monotonic() - arrived[number])  # at least: it may have arrived before that was noted
            answered.append(book.ready)

    client.handler = slow
    row = {"bids": [["99", "1"]], "asks": [["101", "1"]]}
    for number in range(300):  # up to 200 a second, of which it can handle a third
        message = {"arg": {"channel": "books5", "instId": "BTC-USDT"}, "data": [row | {"number": number}]}
        exchange.sessions[-1].send(json.dumps(message))
        arrived[number] = time.monotonic()
        time.sleep(0.005)
    wait_for(lambda: "in time again" in caplog.text)
    wait_for(lambda: book.ready)
    late = [ready for age, ready in zip(ages, answered) if age > okex_ws.MAX_LAG]
    assert late and not any(late)
    said = [r.getMessage()[:14] for r in caplog.records if r.getMessage().startswith("Reading ")]
    assert all(line != before for before, line in itertools.pairwise(said))  # each change once
    assert client.counts["times behind"] >= 1 and client.saw(GAP)
    assert client.counts["connects"] == 1 and client.counts["gaps"] == 0  # nothing was lost, nor asked for anew


def test_a_line_that_dies_is_noticed_and_one_that_is_quiet_stays(exchange, connect, impatient, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(okex_ws, "SILENCE_MARGIN", 5.0)
    channel, v1 = "bbo-tbt:BTC-USDT", "ok_sub_spot_ltc_btc_depth"
    with Exchange(every=None) as quiet:
        dead, calm, old = connect(channel), connect(channel, url=quiet.url), connect(v1, url=quiet.url)
        books = [client.books[name] for client, name in ((dead, channel), (calm, channel), (old, v1))]
        wait_for(lambda: all(book.ready for book in books))
        sent, send = [], dead.send
        dead.send = lambda data, *more: (sent.append(data), send(data, *more))
        exchange.silent = True
        begin = time.monotonic()
        wait_for(lambda: not books[0].ready, within=8)  # before its first pong
        wait_for(lambda: len(pings(quiet)) >= 2)
        wait_for(lambda: reasons(dead) == ["nothing arrived for 5 s"])
        assert 4 < time.monotonic() - begin < 9
        assert sent == ["ping"] and len([status for status, _ in dead.statuses if status == GAP]) == 1
        assert not any("Ping" in line or "in time again" in line for line in caplog.messages)
        assert set(pings(quiet)) == {"ping"} and "times behind" not in calm.counts + old.counts
        assert not calm.saw(DISCONNECTED) and not old.saw(DISCONNECTED)
        assert all(book.ready for book in books[1:])
        quiet.silent = True
        wait_for(lambda: not books[1].ready, within=8)  # after many pongs
        assert books[2].ready


def test_neither_what_the_handler_takes_nor_a_pending_ping_is_silence():
    freshness = Freshness(20.0, {"books:BTC-USDT": okex_ws.OrderBook()})
    freshness.start(0.0)
    for heard, drained, silent in ((0.0, 1.9, False), (0.0, 2.0, True), (2.5, 4.4, False), (0.0, inf, False)):
        freshness.heard, freshness.drained = heard, drained
        assert freshness.suspects() == silent, (heard, drained)
        freshness.check()
    freshness.heard, freshness.drained = 5.0, 9.0
    freshness.pinging(7.0)
    assert not freshness.suspects() and freshness.lag(9.0) == 2
    freshness.drained = 15.1
    with pytest.raises(Reconnect, match="nothing arrived for 10 s"):
        freshness.check()


def test_after_a_suspend_no_book_answers_and_the_connection_is_made_anew(exchange, connect, impatient, monkeypatch):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 1.0)  # the next connection's request may be swallowed
    client = connect("books:BTC-USDT")
    book = client.books["books:BTC-USDT"]
    ahead = 0.0
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: time.time() + ahead)
    for jump in (3600.0, -3600.0):
        wait_for(lambda: book.ready, case=jump)
        client.statuses.clear()
        exchange.silent = True  # time.monotonic() stands still while a machine sleeps, and the exchange is gone
        ahead += jump
        assert not book.ready, jump
        wait_for(lambda: client.saw(DISCONNECTED), case=jump)
        assert "clock jumped" in reasons(client)[0], jump
        exchange.silent = False
    wait_for(lambda: book.ready)


def test_a_jump_of_the_clock_is_doubted_until_the_next_connection_and_its_drift_is_followed(monkeypatch):
    ahead = 0.0
    monkeypatch.setattr(okex_ws, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: 5000.0 + ahead)
    freshness = Freshness(20.0, {})
    freshness.start(1000.0)
    for _ in range(100):
        ahead += 0.5
        freshness.check()
        assert freshness.doubt() == ""
    for _ in range(10):
        ahead += 0.5
        freshness.doubt()  # by who reads a book: the reading thread has not seen it yet
    for _ in range(2):
        with pytest.raises(Reconnect, match="clock jumped"):
            freshness.check()
        assert "clock jumped" in freshness.doubt()
    freshness.start(1000.0)
    freshness.check()
    assert freshness.doubt() == ""


def test_pings_tell_how_late_what_is_read_is_and_a_missing_pong_spoils_nothing_for_good():
    freshness = Freshness(20.0, {})
    freshness.start(0.0)
    freshness.drained = 60.0  # nothing waits in the socket of this machine
    freshness.pinging(1.0)
    freshness.ponged(1.1)
    assert freshness.lag(60.0) < 1
    freshness.pinging(55.0)
    assert freshness.lag(60.0) == 5  # not answered yet
    freshness.ponged(60.0)
    assert freshness.lag(60.0) == 5  # answered, but late
    freshness.pinging(60.0)
    freshness.ponged(60.1)
    assert freshness.lag(60.1) < 1
    freshness.start(0.0)
    for at in (10.0, 30.0, 50.0):
        freshness.pinging(at)
    freshness.heard = freshness.drained = 69.0
    freshness.check()
    assert freshness.lag(70.0) == 1  # a peer that answers no ping is taken by its data
    freshness.ponged(70.1)
    assert freshness.latency == pytest.approx(60_100)  # the first one's, and not the second since the last ping
    with pytest.raises(Reconnect, match="a ping was answered after 60100 ms"):  # or one was lost
        freshness.check()
    freshness.start(71.0)
    freshness.ponged(71.5)  # of nothing
    freshness.check()
    assert freshness.latency == pytest.approx(60_100) and freshness.lag(72.0) == 1


# -- Ending
def test_start_keeps_no_program_alive_and_says_what_ended_it(exchange, caplog):
    rows, statuses, fatal = [], [], []

    def handler(channel, new):
        rows.extend(new)
        if fatal:
            raise asyncio.CancelledError

    client = OkexWS(TRADES, handler, url=exchange.url)
    client.on_status = lambda *status: statuses.append(status)
    client.start()
    wait_for(lambda: rows)
    with pytest.raises(RuntimeError, match="make another one"):
        client.run()
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("okex_ws"))
    fatal.append(True)
    wait_for(lambda: statuses[-1] == (EXIT, "CancelledError"))
    wait_for(lambda: "Stopped for good: CancelledError" in caplog.text)


def test_close_ends_run_at_once_whatever_it_does(exchange, monkeypatch):
    def ended(client):
        client.close()
        client.thread.join(15)  # a busy machine may take its time, but all that could be waited for takes a minute
        return not client.thread.is_alive() and client.statuses[-1] == (EXIT, "closed") and client.error is None

    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 60.0)
    monkeypatch.setattr(websocket.WebSocket.close, "__defaults__", (1000, b"", 60))  # until the answer to its farewell
    streaming = Client([TRADES], url=exchange.url).start()
    wait_for(lambda: streaming.rows)
    assert ended(streaming)
    connecting = Client([TRADES], url=exchange.url)
    connecting.run_forever = lambda **proxy: connecting.close() or OkexWS.run_forever(connecting, **proxy)
    connecting.start().thread.join(15)
    assert ended(connecting) and not connecting.rows
    silent = Client([TRADES], url=exchange.url).start()
    wait_for(lambda: silent.rows)
    silent.sock.sock.settimeout(60.0)  # of the reads that follow
    wait_for(silent.more_rows(2))
    exchange.silent = True
    assert ended(silent)
    exchange.http_status = 503
    waiting = Client([TRADES], url=exchange.url).start()
    wait_for(lambda: waiting.saw(DISCONNECTED))
    assert ended(waiting)
    handshakes, turns = exchange.handshakes, []
    monkeypatch.setattr(okex_ws.CONNECT_PACE, "turn", lambda: turns.append(60.0) or 60.0)
    queued = Client([TRADES], url=exchange.url).start()
    wait_for(lambda: turns)
    assert ended(queued)
    never = Client([TRADES], url=exchange.url)
    never.close()
    assert ended(never.start())
    assert exchange.handshakes == handshakes


# -- TLS, proxies, and words for what went wrong
@pytest.fixture
def no_proxies(monkeypatch):
    """No proxy of the environment that the tests run in."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_bad_certificate_ends_it_and_sending_while_reading_over_tls_costs_no_connection(
    tls_exchange, connect, monkeypatch
):
    client = connect(TRADES, "books:BTC-USDT", url=tls_exchange.url, ping_every=0.1)
    wait_for(lambda: client.rows and client.latency)
    tls_exchange.every = 0.005
    with suppress(websocket.WebSocketException):
        for _ in range(15_000):
            client.send("ping")
    wait_for(client.more_rows())
    assert client.counts["connects"] == 1, reasons(client)
    monkeypatch.delenv("SSL_CERT_FILE")
    asked, client = len(tls_exchange.usage), connect(TRADES, url=tls_exchange.url)
    client.thread.join(10)
    assert isinstance(client.error, ssl.SSLCertVerificationError) and len(tls_exchange.usage) == asked
    assert client.statuses[-1][0] == EXIT and "certificate" in client.statuses[-1][1]


def serve_proxy(greet):
    """A proxy for one connection: `greet(client) -> (host, port)` speaks its protocol, then bytes are relayed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def relay(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass

    def serve():
        client, _ = listener.accept()
        server = socket.create_connection(greet(client))
        threading.Thread(target=relay, args=(server, client), daemon=True).start()
        relay(client, server)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def test_goes_through_proxies_of_http_and_socks_which_resolve_the_name(exchange, connect, monkeypatch, no_proxies):
    seen = []

    def greet_http(client):
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += client.recv(4096)
        seen.append(request.decode())
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return "127.0.0.1", exchange.port

    def greet_socks(client):
        client.recv(64)
        client.sendall(b"\x05\x00")
        request = client.recv(256)
        seen.append(request[5 : 5 + request[4]].decode())
        client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return "127.0.0.1", exchange.port

    url = f"ws://exchange.invalid:{exchange.port}"
    for greet, scheme in ((greet_http, "http://me:secret@"), (greet_socks, "socks5h://")):
        for variable in ("", "all_proxy"):
            proxy = f"{scheme}127.0.0.1:{serve_proxy(greet)}"
            monkeypatch.setenv("all_proxy", proxy if variable else "")
            client = connect(TRADES, url=url, proxy=None if variable else proxy)
            wait_for(lambda: client.rows, case=(scheme, variable))  # noqa: B023
    assert all(request.startswith(f"CONNECT exchange.invalid:{exchange.port} ") for request in seen[:2])
    assert all("Proxy-Authorization: Basic" in request for request in seen[:2])
    assert seen[2:] == ["exchange.invalid"] * 2


def test_neither_this_machine_nor_a_host_of_no_proxy_is_reached_through_a_proxy(streaming, monkeypatch, no_proxies):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    streaming(TRADES)
    cases = {"": False, "other": False, "ws.example": True, "a, .example": True, "ample": False, "*": True}
    for without, direct in cases.items():
        monkeypatch.setenv("no_proxy", without)
        assert (okex_ws.proxy_options(None, "wss://ws.example") is okex_ws.DIRECT) == direct, without
        assert okex_ws.proxy_options("http://127.0.0.1:1", "wss://ws.example") is not okex_ws.DIRECT, without


def test_a_proxy_or_url_that_cannot_be_is_an_error_at_once_without_its_password():
    def said(channel, **options):
        try:
            OkexWS(channel, **options)
        except ValueError as error:
            return str(error)

    proxies = "ftp://bob:s3cretpw@h:1 http://bob:s3cretpw@h socks5://bob:s3cretpw@:1080 http://bob:s3cretpw@h:99999"
    urls = "wss://bob:s3cretpw#z@host http://bob:s3cretpw@host wss://bob:s3cretpw@host:99999"
    lines = {proxy: said(TRADES, proxy=proxy) for proxy in [*proxies.split(), "http://bob:s3cretpw/x@proxy:8080"]}
    lines |= {url: said(TRADES, url=url) for url in urls.split()}
    keys = okex_ws.Credentials("k", "s", "p")
    lines["not TLS"] = said("account", url="ws://bob:s3cretpw@host", credentials=keys)
    for case, line in lines.items():
        assert line and "s3cretpw" not in line, f"{case}: {line}"


def test_says_in_words_what_failed():
    for error, words in (
        (websocket.WebSocketAddressException("[Errno -2] Name or service not known"), "DNS cannot resolve"),
        (ConnectionRefusedError(111, "Connection refused"), "refused the connection"),
        (TimeoutError("timed out"), "did not answer"),
        (websocket.WebSocketTimeoutException("timed out"), "did not answer"),
        (ssl.SSLError(1, "[SSL: WRONG] wrong number (_ssl.c:1)"), "TLS with ws.okx.com failed: wrong number"),
        (websocket.WebSocketBadStatusException("Handshake status 403 Forbidden", 403), "HTTP 403"),
        (websocket.WebSocketProxyException("failed CONNECT via proxy status: 407"), "the proxy failed"),
        (ConnectionResetError(104, "Connection reset by peer"), "reset by peer"),
        (ValueError(), "ValueError"),
    ):
        line = explain(error, "wss://me:secret@ws.okx.com/ws/v5/public")
        assert words in line and "secret" not in line and "ws://" not in line, repr(error)
        assert len(line) <= 35 or re.match("TLS|the proxy", line), f"{line} makes a line of more than 80 columns"
        assert explain(error, "wss://real.okex.com:8443/ws/v3") == line.replace("ws.okx.com", "real.okex.com:8443")
    line = explain(ssl.SSLError(1, "wrong version number"), "wss://127.0.0.1:8000/ws/v5/public")
    assert line == "TLS with 127.0.0.1:8000 failed: wrong version number; does it speak ws://?"


def test_names_the_proxy_that_failed_and_says_that_port_8443_was_closed(kept_port, connect, monkeypatch, caplog):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{kept_port}")
    for options in ({}, {"proxy": f"http://127.0.0.1:{kept_port}"}):
        client = connect(TRADES, url="wss://ws.example", **options)
        wait_for(partial(client.saw, DISCONNECTED), case=options)
        assert reasons(client)[0] == f"the proxy 127.0.0.1:{kept_port} refused the connection", options
    monkeypatch.setattr(okex_ws, "CONNECT_TIMEOUT", 1.0)  # whatever listens there on this machine
    client = connect(TRADES, url="ws://127.0.0.1:8443")
    wait_for(lambda: client.saw(DISCONNECTED))
    assert "leave the port out" in caplog.text


def test_says_that_a_generation_is_retired(caplog):
    for channel in (V1_TRADES, "spot/trade:BTC-USDT", TRADES):
        OkexWS([channel])
    OkexWS([V1_TRADES], url="ws://127.0.0.1:1")
    mine = threading.get_ident()  # clients of other tests may still be ending
    lines = [record.getMessage()[:24] for record in caplog.records if record.thread == mine]
    assert lines == ["The exchange gave up v1 ", "The exchange gave up v3 "]
