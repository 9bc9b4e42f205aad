"""The client: what it restores, what it reports, and what cannot stop it."""

import asyncio
import gc
import itertools
import json
import logging
import socket
import ssl
import threading
import time
import tracemalloc
from contextlib import suppress

import pytest
import trustme
import websocket
from conftest import Client, wait_for
from exchange import Exchange, deflate

import okex_ws
from okex_ws import CONNECTED, DISCONNECTED, EXIT, REFUSED, SUBSCRIBED, OkexWS, explain

SPACING = okex_ws.CONNECT_SPACING
V1_TRADES = "ok_sub_futureusd_btc_trade_quarter"
CHANNELS = {
    "v1": ["ok_sub_futureusd_btc_trade_quarter", "ok_sub_spot_ltc_btc_ticker"],
    "v3": ["spot/trade:BTC-USDT", "swap/ticker:BTC-USD-SWAP"],
    "v5": ["trades:BTC-USDT", "tickers:ETH-USDT"],
}
GENERATIONS = pytest.mark.parametrize("generation", CHANNELS)


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


# -- Data


@GENERATIONS
def test_every_row_arrives_once_and_in_order(exchange, connect, generation):
    channel = CHANNELS[generation][0]
    client = connect(channel)
    wait_for(lambda: len(client.rows) > 50)
    assert {name for name, _ in client.rows} == {channel}
    ids = [int(row.get("tid") or row.get("trade_id") or row.get("tradeId")) for _, row in client.rows]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_list_rows_reach_the_handler_as_named_values(connect):
    v1 = connect(V1_TRADES)
    v5 = connect("candle1m:BTC-USDT")
    row = wait_for(lambda: v1.rows)[0][1]
    assert row["type"] in ("bid", "ask") and float(row["price"]) > 0
    row = wait_for(lambda: v5.rows)[0][1]
    assert float(row["l"]) <= float(row["c"]) <= float(row["h"])


def test_what_nobody_subscribed_to_is_delivered_too(exchange, connect):
    client = connect(V1_TRADES)
    wait_for(lambda: client.rows)
    exchange.sessions[-1].send('[{"channel":"btc_forecast_price","timestamp":"1490341322021","data":"998.8"}]')
    wait_for(lambda: ("btc_forecast_price", {"timestamp": "1490341322021", "data": "998.8"}) in client.rows)


def test_a_channel_keeps_the_spelling_of_its_user(connect):
    client = connect("tickers:instId=BTC-USDT")
    assert wait_for(lambda: client.rows)[0][0] == "tickers:instId=BTC-USDT"


def test_bad_frames_are_counted_and_said_and_the_stream_goes_on(exchange, connect, caplog):
    client = connect(V1_TRADES)
    wait_for(lambda: client.rows)
    session = exchange.sessions[-1]
    good = '[{"channel":"X","data":[["1","2","3","4","ask"]]}]'
    bad = [
        b"\x00garbage",
        deflate("{nonsense \x1b[2J"),
        deflate('[{"data":1}]'),
        deflate(good)[:-4],
        deflate("[" * 99999),
    ]
    for frame in bad:
        session.frame(frame, websocket.ABNF.OPCODE_BINARY)
    session.frame(b'"\xff\xfe"', websocket.ABNF.OPCODE_TEXT)
    session.frame(good.encode(), websocket.ABNF.OPCODE_TEXT)  # v1 sent plain text before 2018
    wait_for(lambda: ("X", ["1", "2", "3", "4", "ask"]) in client.rows)
    wait_for(client.more_rows())
    lines = [r.getMessage() for r in caplog.records if "Malformed" in r.getMessage()]
    assert client.counts["malformed"] == len(lines) == len(bad) + 1
    assert not client.saw(DISCONNECTED)
    assert all(line.isprintable() and len(line) < 500 for line in lines)


def test_an_unknown_kind_of_message_is_said_once(exchange, connect, caplog):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    for _ in range(3):
        exchange.sessions[-1].send('{"event":"hello"}')
    exchange.sessions[-1].send('{"event":"bye"}')
    wait_for(lambda: "event bye" in caplog.text)
    lines = [r.getMessage() for r in caplog.records if "unknown kind" in r.getMessage()]
    assert len(lines) == 2 and "hello" in lines[0] and "bye" in lines[1]


def test_a_bug_in_the_handler_is_not_a_network_error(connect, caplog):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)

    def broken(channel, rows):
        raise ZeroDivisionError

    good, client.handler = client.handler, broken
    wait_for(lambda: client.counts["handler errors"] > 3)
    client.handler = good
    wait_for(client.more_rows())
    assert not client.saw(DISCONNECTED)
    assert sum("ZeroDivisionError" in r.getMessage() for r in caplog.records) == 1


def test_a_bug_in_on_status_is_not_a_network_error(exchange, caplog):
    rows = []
    client = OkexWS(["trades:BTC-USDT"], lambda channel, new: rows.extend(new), url=exchange.url)
    client.on_status = lambda status, detail: 1 / 0
    client.start()
    wait_for(lambda: len(rows) > 3)
    client.close()
    wait_for(lambda: "on_status failed on EXIT" in caplog.text)
    assert exchange.handshakes == 1
    assert "on_status failed on CONNECTED" in caplog.text and "on_status failed on SUBSCRIBED" in caplog.text


# -- Coming back


def drop(exchange):
    exchange.sessions[-1].drop()


def reset(exchange):
    exchange.sessions[-1].drop(reset=True)


def close_frame(exchange):
    exchange.sessions[-1].close(4004, "No data received in 30s.")


def bare_close_frame(exchange):
    exchange.sessions[-1].frame(b"", websocket.ABNF.OPCODE_CLOSE)


def bad_frame(exchange):
    exchange.sessions[-1].raw(b"\xf1\x00")  # reserved bits that nobody negotiated


@GENERATIONS
@pytest.mark.parametrize("fault", [drop, reset, close_frame, bare_close_frame, bad_frame])
def test_subscribes_again_once_after_a_lost_connection(exchange, connect, impatient, generation, fault):
    client = connect(*CHANNELS[generation])
    wait_for(lambda: len({channel for channel, _ in client.rows}) == 2)
    for times in (1, 2):
        fault(exchange)
        wait_for(lambda: client.saw(CONNECTED, times + 1))  # noqa: B023
        client.rows.clear()
        wait_for(lambda: {channel for channel, _ in client.rows} == set(CHANNELS[generation]))
        assert subscribed(exchange, times + 1) == CHANNELS[generation]
    assert client.counts["connects"] == 3


def test_says_why_the_exchange_closed(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    exchange.sessions[-1].close(4004, "No data received in 30s.")
    wait_for(lambda: client.saw(DISCONNECTED))
    why = "closed by the exchange with code 4004 No data received in 30s."
    assert dict(client.statuses)[DISCONNECTED] == why


def test_drops_a_connection_that_is_open_but_silent(exchange, connect, impatient, monkeypatch):
    monkeypatch.setattr(okex_ws, "SILENCE_MARGIN", 0.2)
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.2)  # the next connection's request may be swallowed, too
    monkeypatch.setattr(okex_ws, "MAX_CHANNEL_RETRY", 1.0)
    client = connect("trades:BTC-USDT", ping_every=0.2)
    wait_for(lambda: client.rows)
    exchange.silent = True  # a pong may have been so late that this ended the connection before
    wait_for(lambda: any("nothing arrived" in detail for status, detail in client.statuses if status == DISCONNECTED))
    exchange.silent = False
    wait_for(client.more_rows())


def test_keeps_a_quiet_connection_whose_pongs_arrive(exchange, connect, monkeypatch):
    ahead = 0.0
    monkeypatch.setattr(okex_ws, "monotonic", lambda: time.monotonic() + ahead)
    monkeypatch.setattr(okex_ws, "MAX_JUMP", 1000.0)  # this clock goes on in steps, however slow the machine is
    monkeypatch.setattr(okex_ws.Backoff, "_next", 0.0)  # which no later test is to take from this clock
    exchange.ignored = "subscribe"
    client = connect("trades:BTC-USDT", ping_every=0.05)
    wait_for(lambda: client.latency)
    for _ in range(5):
        ahead += 6.0  # of the 10 in which something must arrive
        now = okex_ws.monotonic()
        wait_for(lambda: client._watchdog.heard > now and client.latency < 5000)  # noqa: B023 (a ping sent since)
    assert not client.saw(DISCONNECTED)


def test_reconnects_at_once_when_an_upgrade_is_announced(exchange, connect, monkeypatch):
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 60.0)  # any other reason would wait for a minute
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    exchange.sessions[-1].send('{"event":"notice","code":"64008","msg":"service upgrade","connId":"a"}')
    wait_for(lambda: client.saw(CONNECTED, 2))
    wait_for(client.more_rows())


def test_says_once_what_can_be_done_when_there_is_no_connection_at_all(exchange, connect, impatient, caplog):
    exchange.http_status = 503
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.saw(DISCONNECTED, 6), within=30)
    assert caplog.text.count("There was no connection yet: --offline") == 1
    assert "Trying again now." in caplog.text and "in 0.0 s" not in caplog.text
    exchange.http_status = 0
    wait_for(lambda: client.rows)


def test_a_trace_that_is_turned_on_later_shows_both_ways(exchange, connect, caplog):
    client = connect("trades:BTC-USDT", ping_every=0.1)
    wait_for(lambda: client.rows)
    caplog.set_level(logging.DEBUG)
    wait_for(lambda: "> ping" in caplog.text and '< {"arg":' in caplog.text)


def test_comes_back_when_the_server_does(kept_port, connect, impatient):
    with Exchange(every=0.02, port=kept_port) as first:
        client = connect("trades:BTC-USDT", url=first.url)
        wait_for(lambda: client.rows)
    wait_for(lambda: client.saw(DISCONNECTED, 3))
    assert any("refused the connection" in detail for _, detail in client.statuses)
    with Exchange(every=0.02, port=kept_port) as second:
        wait_for(lambda: second.sessions)
        wait_for(client.more_rows())
        assert subscribed(second, 1) == ["trades:BTC-USDT"]


@pytest.mark.parametrize("status", [403, 404, 429, 503])
def test_tells_the_http_status_and_tries_again(exchange, connect, impatient, status):
    exchange.http_status = status
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.saw(DISCONNECTED, 2))
    assert f"HTTP {status}" in dict(client.statuses)[DISCONNECTED]
    exchange.http_status = 0
    wait_for(lambda: client.rows)


def test_gives_up_on_a_peer_that_never_answers_the_handshake(exchange, connect, impatient, monkeypatch):
    monkeypatch.setattr(okex_ws, "CONNECT_TIMEOUT", 0.3)
    exchange.mute = True
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.saw(DISCONNECTED))
    assert "did not answer" in dict(client.statuses)[DISCONNECTED]
    monkeypatch.setattr(okex_ws, "CONNECT_TIMEOUT", 10.0)
    exchange.mute = False
    wait_for(lambda: client.rows)


@pytest.fixture
def dribbling():
    """A server that sends its answer to each connection a byte at a time; `dribbling(bytes, pause)` is where."""
    stop, accepting = threading.Event(), []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(data, pause):
        def answer(peer):
            with suppress(OSError):
                peer.recv(65536)
                for byte in data:
                    if stop.wait(pause):
                        return
                    peer.sendall(bytes([byte]))

        def accept():
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        accepting.append(threading.Thread(target=accept, daemon=True))
        accepting[-1].start()
        return f"//127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    stop.set()
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)  # or accept() would go on, with another test's socket of the same number
    for thread in accepting:
        thread.join(10)
    listener.close()


def test_gives_up_on_a_handshake_that_dribbles(connect, impatient, dribbling, monkeypatch):
    monkeypatch.setattr(okex_ws, "CONNECT_TIMEOUT", 0.5)
    client = connect("trades:BTC-USDT", url="ws:" + dribbling(b"HTTP/1.1 101 Switching Protocols\r\n" * 100, 0.1))
    wait_for(lambda: client.saw(DISCONNECTED, 2), within=30)  # whole, it would take minutes
    assert "did not answer in time" in dict(client.statuses)[DISCONNECTED]


def test_gives_up_on_a_rest_answer_that_dribbles(dribbling):
    url = "ws:" + dribbling(b"HTTP/1.1 200 OK\r\nContent-Length: 2999\r\n\r\n" + b" " * 2999, 0.1)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        okex_ws.Rest(url, False, okex_ws.DIRECT).get("/api/v5/public/time", timeout=0.6)
    assert time.monotonic() - begin < 30  # whole, it would take minutes


def test_waits_longer_from_try_to_try_and_starts_over_when_data_flows(connect, exchange, monkeypatch):
    waits = []
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: waits.append((low, high)) or 0.0)
    exchange.http_status = 503
    client = connect("trades:BTC-USDT")
    wait_for(lambda: len(waits) >= 8, within=30)
    assert waits[:8] == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (0, 30), (0, 30), (0, 30)]
    exchange.http_status = 0
    wait_for(lambda: client.rows)
    waits.clear()
    exchange.sessions[-1].drop()
    assert wait_for(lambda: waits)[0] == (0, 1)


def test_connects_at_most_three_times_a_second_however_many_clients(exchange, connect, monkeypatch):
    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 0.0)
    monkeypatch.setattr(okex_ws, "CONNECT_SPACING", SPACING)
    monkeypatch.setattr(okex_ws.Backoff, "_next", 0.0)
    mine, turns, early = threading.local(), [], []
    draw, before = okex_ws.Backoff.turn, OkexWS._before_connect

    def turn(backoff, now):
        wait = draw(backoff, now)
        mine.turn = now + wait
        turns.append(mine.turn)
        return wait

    def before_connect(ws):  # later than its turn it may be: a thread of a busy machine can be late
        early.append(mine.turn - time.monotonic())
        return before(ws)

    monkeypatch.setattr(okex_ws.Backoff, "turn", turn)
    monkeypatch.setattr(OkexWS, "_before_connect", before_connect)
    exchange.http_status = 503
    for _ in range(3):
        connect("trades:BTC-USDT")
    wait_for(lambda: len(early) >= 8)
    turns.sort()  # two threads may have noted theirs in either order
    assert all(later - earlier > 1.0 for earlier, later in zip(turns, turns[3:]))
    assert max(early) < 0.05


def test_fifty_reconnects_leave_nothing_behind(exchange, connect, impatient, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "FILL_SPACING", 0.0)
    caplog.set_level(logging.ERROR, "okex_ws")  # what is said of each reconnect is kept here, and is no leak
    monkeypatch.setattr(
        okex_ws, "CHUNK", 1 << 12
    )  # which a read holds while it waits, at some moments and not at others
    client = connect("trades:BTC-USDT", V5_TICKER := "tickers:BTC-USDT")
    tracemalloc.start()

    def used():
        client.rows.clear()
        gc.collect()
        mine = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, okex_ws.__file__)])
        return sum(s.size for s in mine.statistics("filename"))

    for turn in range(1, 51):
        wait_for(lambda: client.saw(SUBSCRIBED, 2 * turn))  # noqa: B023
        if turn == 10:
            threads, memory = threading.active_count(), used()
        if turn == 50:
            # Once the missing trades are delivered. The stand-in's last thread may be there still.
            wait_for(lambda: threading.active_count() <= threads + 1 and used() < memory + 20_000, 30)  # noqa: B023
        client.rows.clear()
        exchange.sessions[-1].drop()
    tracemalloc.stop()
    wait_for(lambda: client.saw(SUBSCRIBED, 102))
    for number in range(1, 52):
        assert subscribed(exchange, number) == ["trades:BTC-USDT", V5_TICKER]


# -- Subscriptions


def test_subscribes_and_unsubscribes_at_any_time_from_any_thread(exchange, connect):
    client = connect("trades:BTC-USDT")
    client.subscribe("tickers:BTC-USDT")  # perhaps before the connection is open
    wait_for(lambda: "tickers:BTC-USDT" in {channel for channel, _ in client.rows})
    client.unsubscribe("trades:BTC-USDT")
    wait_for(lambda: client.channels == {"tickers:BTC-USDT": "confirmed"})  # none is on its way to the handler
    client.rows.clear()
    wait_for(lambda: len(client.rows) > 20)
    assert {channel for channel, _ in client.rows} == {"tickers:BTC-USDT"}
    exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(SUBSCRIBED, 3))
    assert subscribed(exchange, 2) == ["tickers:BTC-USDT"]


def test_what_is_taken_while_the_connection_ends_is_asked_for_on_the_next(exchange, connect, impatient):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    take, ends = client._subscriptions.take_due, []

    def take_due(now):
        if not ends:  # or the reading thread took what is due meanwhile, as it does every second
            ends.append(threading.Thread(target=client._end))  # as the reading thread would, at the worst moment
            ends[0].start()
            ends[0].join(0.3)
        return take(now)

    client._subscriptions.take_due = take_due
    client._subscriptions.want("tickers:BTC-USDT")
    client._send_due()
    client._subscriptions.take_due = take
    ends[0].join(10)
    assert client.channels == {"trades:BTC-USDT": "wanted", "tickers:BTC-USDT": "wanted"}


def test_subscribing_twice_asks_once(exchange, connect):
    client = connect("trades:BTC-USDT", "trades:BTC-USDT")
    wait_for(lambda: client.rows)
    client.subscribe("trades:BTC-USDT", "trades:instId=BTC-USDT")
    wait_for(client.more_rows())
    assert subscribed(exchange, 1) == ["trades:BTC-USDT"]


def test_rows_stop_at_once_though_the_exchange_goes_on(exchange, connect):
    client = connect("tickers:BTC-USDT")
    wait_for(lambda: client.rows)
    exchange.ignored = "unsubscribe"
    client.unsubscribe("tickers:BTC-USDT")
    wait_for(lambda: "unsubscribe" in exchange.requests[-1][1])
    seen, messages = len(client.rows), client.counts["messages"]
    wait_for(lambda: client.counts["messages"] > messages + 5)
    assert len(client.rows) <= seen + 1  # one message, of one row, could have been on its way to the handler


def test_unsubscribing_twice_does_not_hit_the_next_subscription(exchange, connect, caplog):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    with exchange.lock:  # nothing is answered meanwhile
        client.unsubscribe("trades:BTC-USDT")
        client.unsubscribe("trades:BTC-USDT")
        client.subscribe("trades:BTC-USDT")
    wait_for(lambda: client.channels == {"trades:BTC-USDT": "confirmed"})
    wait_for(client.more_rows())
    assert sum("unsubscribe" in text for _, text in exchange.requests) == 1
    assert "by the exchange" not in caplog.text


def test_rows_do_not_come_back_when_nobody_confirms_that_they_end(exchange, connect, monkeypatch, caplog):
    client = connect("candle1m:BTC-USDT", url=exchange.url)
    wait_for(lambda: client.rows)
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.0)
    exchange.ignored = "unsubscribe"
    client.unsubscribe("candle1m:BTC-USDT")
    wait_for(lambda: "not confirmed to be unsubscribed" in caplog.text)
    seen, messages = len(client.rows), client.counts["messages"]
    wait_for(lambda: client.counts["messages"] > messages + 5)
    assert len(client.rows) == seen
    exchange.ignored = ""
    client.subscribe("candle1m:BTC-USDT")
    wait_for(client.more_rows())
    assert all(isinstance(row, dict) for _, row in client.rows)


def test_a_channel_that_was_never_confirmed_can_be_given_up(exchange, connect, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.0)
    exchange.ignored = '"subscribe"'
    client = connect("trades:BTC-USDT")
    wait_for(lambda: "not confirmed" in caplog.text)
    client.unsubscribe("trades:BTC-USDT")  # the exchange may have taken the request all the same
    wait_for(lambda: '"unsubscribe"' in exchange.requests[-1][1])
    wait_for(lambda: client.channels == {})


def test_a_channel_dropped_and_wanted_again_flows_again(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    client.unsubscribe("trades:BTC-USDT")
    client.subscribe("trades:BTC-USDT")
    wait_for(lambda: client.channels == {"trades:BTC-USDT": "confirmed"})
    wait_for(client.more_rows())


@GENERATIONS
def test_a_refused_channel_neither_hides_nor_harms_the_others(exchange, connect, impatient, generation, caplog):
    good = CHANNELS[generation][0]
    bad = good.lower().replace("btc", "nope")
    client = connect(bad, good)
    wait_for(lambda: client.rows and client.saw(REFUSED))
    assert client.channels == {bad: "refused", good: "confirmed"}
    assert bad in dict(client.statuses)[REFUSED] and "spelling" in dict(client.statuses)[REFUSED]
    exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(SUBSCRIBED, 2))
    assert subscribed(exchange, 2) == [good]
    client.subscribe(bad)  # the user asks again
    wait_for(lambda: client.saw(REFUSED, 2))


def test_a_refusal_finds_its_channel_among_hundreds(exchange, connect):
    exchange.every = 1.0  # and need not wait for 5,000 rows a second
    exchange.more_coins = 210
    names = [f"trades:{name}" for name in exchange.listed if name.startswith("C0") and name.endswith("-SWAP")]
    client = connect(*names, "trades:NOPE-USDT", "orders-history")
    wait_for(lambda: "confirmed" in client.channels.values() and "sent" not in client.channels.values(), within=30)
    assert {c for c, state in client.channels.items() if state == "refused"} == {"trades:NOPE-USDT", "orders-history"}
    requests = [text for _, text in exchange.requests if "subscribe" in text]
    assert len(requests) < 120
    assert max(map(len, requests)) < 64 << 10


def test_a_shared_refusal_that_names_nobody_is_sorted_out_one_by_one(exchange, connect, monkeypatch):
    monkeypatch.setattr(okex_ws, "REQUESTS_PER_OPEN", 1)  # all channels in one request
    unnamed = exchange.unnamed = "index-tickers:BTC-USDT"
    client = connect("trades:BTC-USDT", unnamed, "tickers:BTC-USDT")
    wait_for(lambda: "refused" in client.channels.values() and "sent" not in client.channels.values())
    assert client.channels == {
        "trades:BTC-USDT": "confirmed",
        unnamed: "refused",
        "tickers:BTC-USDT": "confirmed",
    }


def test_a_dead_subscription_is_reported_though_it_was_confirmed(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    exchange.sessions[-1].send('{"event":"channel-conn-count-error","channel":"trades","connCount":"30","connId":"a"}')
    wait_for(lambda: client.saw(REFUSED))
    assert client.channels == {"trades:BTC-USDT": "refused"}
    assert "30 connections" in dict(client.statuses)[REFUSED]


def test_a_channel_whose_filter_the_exchange_drops_is_confirmed_and_delivered(exchange, connect):
    channel = "liquidation-orders:instFamily=BTC-USDT,instType=SWAP"
    exchange.drops_filters = True
    client = connect(channel)
    wait_for(lambda: client.channels == {channel: "confirmed"})
    assert {name for name, _ in wait_for(lambda: client.rows)} == {channel}
    client.unsubscribe(channel)
    wait_for(lambda: client.channels == {})


def test_what_others_are_subscribed_to_is_no_trouble(exchange, connect, caplog):
    caplog.set_level(logging.INFO)
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    exchange.sessions[-1].send('{"event":"channel-conn-count","channel":"orders","connCount":"2","connId":"a"}')
    wait_for(lambda: "2 connections" in caplog.text)
    assert [r.levelname for r in caplog.records if "2 connections" in r.getMessage()] == ["INFO"]


def test_says_which_channel_nobody_confirms_and_asks_again(exchange, connect, monkeypatch, caplog):
    exchange.ignored = "tickers"
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.1)
    client.subscribe("tickers:BTC-USDT")
    wait_for(lambda: "tickers:BTC-USDT is not confirmed" in caplog.text)
    exchange.ignored = ""
    wait_for(lambda: client.channels == {"trades:BTC-USDT": "confirmed", "tickers:BTC-USDT": "confirmed"})
    assert "trades:BTC-USDT is not confirmed" not in caplog.text


def test_data_is_as_good_as_a_confirmation(exchange, connect, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.1)
    exchange.ignored = "subscribe"
    client = connect("trades:BTC-USDT")
    wait_for(lambda: exchange.requests)
    for n in range(3):
        exchange.sessions[-1].send(f'{{"arg":{{"channel":"trades","instId":"BTC-USDT"}},"data":[{{"n":{n}}}]}}')
    wait_for(lambda: len(client.rows) == 3)
    assert client.channels == {"trades:BTC-USDT": "confirmed"}


def test_the_waits_for_a_channel_grow():
    table = okex_ws.Subscriptions(okex_ws.V5)
    table.want("trades:BTC-USDT")
    now, waits = 1000.0, []
    for _ in range(12):
        (request,) = table.take_due(now)
        now += okex_ws.CONFIRM_TIMEOUT
        ((line,), reason) = table.late(now)
        waits.append(int(line.split()[-2]))
        now += waits[-1]
    assert request.channels == ["trades:BTC-USDT"] and not reason
    assert waits == [0, 1, 3, 7, 15, 31, *[60] * 6]
    table.take_due(now + 200)  # after a while without trouble
    assert "in 0 s" in table.late(now + 300)[0][0]


def test_a_passing_refusal_is_tried_again(exchange, connect, monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_CHANNEL_RETRY", 0.0)
    exchange.ignored = "subscribe"
    client = connect("trades:BTC-USDT")
    text = wait_for(lambda: exchange.requests)[0][1]
    exchange.ignored = ""
    exchange.sessions[-1].send(f'{{"event":"error","code":"60014","msg":"busy","id":"{json.loads(text)["id"]}"}}')
    wait_for(lambda: client.rows)


def test_no_more_requests_than_the_exchange_takes(exchange, connect, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "REQUESTS_PER_HOUR", 5)
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    for coin in ("ETH", "LTC", "BCH", "ETC", "EOS", "XRP"):
        client.subscribe(f"trades:{coin}-USDT")
    wait_for(lambda: list(client.channels.values()).count("confirmed") == 5)
    wait_for(client.more_rows())
    assert list(client.channels.values()).count("wanted") == 2
    assert client.counts["connects"] == 1  # another one would use up its requests as fast
    monkeypatch.setattr(okex_ws, "REQUESTS_PER_HOUR", 50)
    client._subscriptions._requests[0] -= 61  # a minute later
    wait_for(lambda: client.saw(CONNECTED, 2) and list(client.channels.values()).count("confirmed") == 7, within=30)
    assert "requests an hour" in caplog.text


def test_a_channel_of_another_endpoint_is_an_error_at_once():
    with pytest.raises(ValueError, match=r"candle1m:BTC-USDT is served at .*/ws/v5/business"):
        OkexWS(["trades:BTC-USDT", "candle1m:BTC-USDT"])
    with pytest.raises(ValueError, match="is served at"):
        OkexWS(["trades:BTC-USDT", "spot/trade:BTC-USDT"], url="ws://127.0.0.1:1/same")


def test_unsubscribing_and_subscribing_again_waits_for_nothing(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    for _ in range(5):  # as failures, these would wait for 0 + 1 + 3 + 7 + 15 seconds
        client.unsubscribe("trades:BTC-USDT")
        client.subscribe("trades:BTC-USDT")
        wait_for(lambda: client.channels == {"trades:BTC-USDT": "confirmed"}, within=10)
        wait_for(client.more_rows())


def test_a_row_behind_the_end_of_its_channel_does_not_reach_the_handler(exchange, connect):
    client = connect("trades:BTC-USDT", "tickers:BTC-USDT")
    wait_for(lambda: len({channel for channel, _ in client.rows}) == 2)
    client.unsubscribe("trades:BTC-USDT")
    wait_for(lambda: list(client.channels) == ["tickers:BTC-USDT"])
    late = '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"px":"late"}]}'
    exchange.sessions[-1].send(late)
    wait_for(client.more_rows())
    assert not [row for _, row in client.rows if row.get("px") == "late"]
    client.subscribe("trades:BTC-USDT")
    wait_for(lambda: client.channels["trades:BTC-USDT"] == "confirmed")
    exchange.sessions[-1].send(late)
    wait_for(lambda: [row for _, row in client.rows if row.get("px") == "late"])


def test_an_error_about_nothing_refuses_no_channel(exchange, connect, caplog):
    exchange.ignored = "subscribe"
    client = connect("trades:BTC-USDT")
    wait_for(lambda: exchange.requests)
    exchange.sessions[-1].send('{"event":"error","code":"50001","msg":"Service temporarily unavailable"}')
    wait_for(lambda: client.saw(REFUSED))
    assert client.channels == {"trades:BTC-USDT": "sent"}


# -- The heartbeat


def pings(exchange, number=None):
    spoken = ("ping", '{"event":"ping"}')
    return [text for n, text in list(exchange.requests) if text in spoken and number in (None, n)]


@GENERATIONS
def test_pings_in_the_words_of_the_generation_and_measures_the_answer(exchange, connect, generation, caplog):
    caplog.set_level(logging.INFO)
    client = connect(CHANNELS[generation][0], ping_every=0.05)
    wait_for(lambda: len(pings(exchange)) >= 3 and client.latency and "Pong received." in caplog.text)
    assert set(pings(exchange)) == {'{"event":"ping"}' if generation == "v1" else "ping"}
    assert 0 < client.latency < 30_000
    assert "Ping sent." in caplog.text


def test_keeps_pinging_over_reconnects_from_one_daemon_thread(kept_port, connect, impatient, caplog):
    others = set(threading.enumerate())  # of an earlier test, which end
    with Exchange(every=0.02, port=kept_port) as first:
        client = connect(V1_TRADES, url=first.url, ping_every=0.05)
        wait_for(lambda: len(pings(first)) >= 2)
        (heartbeat,) = [t for t in threading.enumerate() if "heartbeat" in t.name and t not in others]
        caplog.clear()  # a ping may have been due before there was a connection
    wait_for(lambda: "Ping not sent" in caplog.text)
    with Exchange(every=0.02, port=kept_port) as second:
        wait_for(lambda: len(pings(second)) >= 2)
        wait_for(client.more_rows())
        assert heartbeat.is_alive() and heartbeat.daemon and heartbeat is not threading.main_thread()
        assert caplog.text.count("Ping not sent") == 1


def test_a_ping_that_cannot_be_sent_is_tried_again_every_second(caplog):
    caplog.set_level(logging.INFO)
    client = OkexWS([], url="ws://127.0.0.1:1")
    outcomes = [OSError("no"), OSError("no"), None, OSError("no"), None]
    sent, waits = [], []

    def send(text):
        sent.append(text)
        if outcome := outcomes.pop(0):
            raise outcome

    def wait(seconds):
        waits.append(seconds)
        return not outcomes

    client.send, client._stop.wait = send, wait
    okex_ws.send_heartbeat(client)
    assert waits == [20, 1, 1, 20, 1, 20] and sent == ["ping"] * 5
    mine = [record for record in caplog.records if record.thread == threading.get_ident()]
    assert [record.message.split(",")[0] for record in mine] == ["Ping not sent", "Ping sent."] * 2


def test_no_ping_slips_into_the_handshake(exchange, connect):
    exchange.mute = True
    client = connect(V1_TRADES, ping_every=0.01)
    wait_for(lambda: exchange.handshakes)
    with pytest.raises(websocket.WebSocketConnectionClosedException, match="not connected"):
        client.send("ping")


def test_answers_a_ping_of_the_exchange(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    exchange.sessions[-1].frame(b"ping", websocket.ABNF.OPCODE_TEXT)
    exchange.sessions[-1].frame(b"", websocket.ABNF.OPCODE_PING)  # control pings are websocket-client's
    wait_for(lambda: (1, "pong") in exchange.requests)


def test_the_round_trip_is_that_of_the_ping_that_is_answered():
    watchdog = okex_ws.Watchdog(20.0)
    watchdog.start(0.0)
    for at in (1.0, 21.0, 41.0):
        watchdog.pinging(at)
    watchdog.ponged(42.0)
    assert watchdog.latency == 41_000  # not the second since the last ping
    watchdog.ponged(42.5)
    assert watchdog.latency == 21_500
    watchdog.start(50.0)
    watchdog.ponged(51.0)  # of nothing
    assert watchdog.latency == 21_500


def test_a_handler_that_is_slightly_too_slow_is_noticed_and_books_wait_until_it_has_caught_up(
    exchange, connect, monkeypatch, caplog
):
    monkeypatch.setattr(okex_ws, "MAX_LAG", 1.2)
    exchange.every = 0.004
    client = connect("books:BTC-USDT", "trades:BTC-USDT")
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    quick = client.handler
    client.handler = lambda channel, rows: time.sleep(0.02)  # there are up to 500 messages a second
    wait_for(lambda: client.saw(okex_ws.GAP), within=20)
    exchange.every = 0.025  # still more than it can handle, but not so much more to catch up with

    def refuses():  # soon: what it is late by falls and rises by turns while it grows
        with suppress(okex_ws.BookOutOfSync):
            return not book.top(1)
        with pytest.raises(okex_ws.BookOutOfSync, match="may have arrived"):
            book.top(1)
        return True

    wait_for(refuses)
    client.handler = quick
    wait_for(lambda: "caught up" in caplog.text, within=30)
    wait_for(lambda: book.ready)
    said = [r.getMessage()[:14] for r in caplog.records if r.getMessage().startswith("Reading ")]
    assert all(line != before for before, line in itertools.pairwise(said))  # each change once
    assert client.counts["times behind"] >= 1
    assert client.counts["connects"] == 1 and client.counts["gaps"] == 0  # nothing was lost, nor asked for anew


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_after_a_suspend_no_book_answers_and_the_connection_is_made_anew(
    exchange, connect, impatient, monkeypatch, jump
):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 1.0)  # the next connection's request may be swallowed
    client = connect("books:BTC-USDT")
    book = client.books["books:BTC-USDT"]
    wait_for(lambda: book.ready)
    real = okex_ws.wall_clock
    exchange.silent = True  # time.monotonic() stands still while a machine sleeps, and the exchange is gone
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: real() + jump)
    assert not book.ready
    wait_for(lambda: client.saw(DISCONNECTED))
    assert "clock jumped" in dict(client.statuses)[DISCONNECTED]
    exchange.silent = False
    wait_for(lambda: book.ready, within=15)
    assert client.counts["connects"] >= 2


def test_what_is_late_on_the_way_shows_in_the_pings_and_makes_books_wait(monkeypatch):
    watchdog = okex_ws.Watchdog(20.0)
    now = okex_ws.monotonic()
    monkeypatch.setattr(okex_ws, "monotonic", lambda: now)
    watchdog.start(now - 60)
    watchdog.drained = now  # nothing waits in the socket of this machine
    watchdog.pinging(now - 59)
    watchdog.ponged(now - 58.9)
    assert watchdog.doubt() == ""
    watchdog.pinging(now - 5)
    assert "5 s ago" in watchdog.doubt()  # not answered yet
    watchdog.ponged(now)
    assert "5 s ago" in watchdog.doubt()  # answered, but late
    watchdog.pinging(now)
    watchdog.ponged(now + 0.1)
    assert watchdog.doubt() == ""


def test_a_pong_that_was_lost_does_not_spoil_the_measurement_for_good():
    watchdog = okex_ws.Watchdog(20.0)
    watchdog.start(0.0)
    for at, answered in ((10.0, True), (30.0, False), (50.0, True)):
        watchdog.pinging(at)
        if answered:
            watchdog.ponged(at + 0.1)
    watchdog.heard = 50.1
    assert "a ping was answered after 20100 ms" in watchdog.silence(50.2)  # connect anew
    watchdog.start(51.0)
    assert watchdog.silence(51.0) == "" and watchdog.lag(51.0) == 0


def test_a_peer_that_never_answers_a_ping_is_taken_by_its_data():
    watchdog = okex_ws.Watchdog(20.0)
    watchdog.start(0.0)
    for at in (10.0, 30.0, 50.0):
        watchdog.pinging(at)
    watchdog.heard = watchdog.drained = 69.0
    assert watchdog.lag(70.0) == 1 and watchdog.silence(70.0) == ""


def test_between_a_suspend_and_the_next_connection_no_book_is_trusted(monkeypatch):
    client = OkexWS([], url="ws://127.0.0.1:1")
    client._watchdog.start(okex_ws.monotonic())
    real = okex_ws.wall_clock
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: real() + 3600)
    client._tick(okex_ws.monotonic())
    assert "clock jumped" in client._watchdog.doubt()


def test_a_suspend_between_two_looks_at_the_clock_is_not_taken_for_its_drift(monkeypatch):
    client = OkexWS([], url="ws://127.0.0.1:1")
    client._watchdog.start(okex_ws.monotonic())
    real, looks = okex_ws.wall_clock, []
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: looks.append(1) or real() + 3600 * (len(looks) > 1))
    client._tick(okex_ws.monotonic())
    assert "clock jumped" in client._watchdog.doubt()


def test_a_clock_that_is_set_right_slowly_is_no_suspend():
    watchdog = okex_ws.Watchdog(20.0)
    now = okex_ws.monotonic()
    watchdog.start(now)
    for _ in range(100):
        watchdog._clock_offset -= 0.5  # as if the wall clock had gained half a second
        assert watchdog.jump(follow=True) == ""
    for _ in range(100):
        watchdog._clock_offset -= 0.5
        watchdog.jump()  # by who reads a book: the reading thread has not seen it yet
    assert "clock jumped" in watchdog.jump(follow=True)


# -- Ending


def test_what_no_handler_should_raise_ends_a_client_with_its_reason(exchange, caplog):
    client = OkexWS("trades:BTC-USDT", url=exchange.url)
    statuses = []
    client.on_status = lambda status, detail: statuses.append((status, detail))

    def handler(channel, rows):
        raise asyncio.CancelledError

    client.handler = handler
    client.start()
    wait_for(lambda: statuses and statuses[-1][0] == EXIT)
    assert statuses[-1] == (EXIT, "CancelledError")
    wait_for(lambda: "Stopped for good: CancelledError" in caplog.text)


def test_close_ends_run_at_once_whatever_it_does(exchange, monkeypatch):
    def ended(client):
        client.close()
        client.thread.join(15)  # a busy machine may take its time, but all that could be waited for takes a minute
        return not client.thread.is_alive()

    monkeypatch.setattr(okex_ws, "uniform", lambda low, high: 60.0)
    monkeypatch.setattr(websocket.WebSocket.close, "__defaults__", (1000, b"", 60))  # until the answer to its farewell
    streaming = Client(["trades:BTC-USDT"], url=exchange.url).start()
    wait_for(lambda: streaming.rows)
    assert ended(streaming) and streaming.statuses[-1] == (EXIT, "closed") and streaming.error is None

    silent = Client(["trades:BTC-USDT"], url=exchange.url).start()
    wait_for(lambda: silent.rows)
    exchange.silent = True
    assert ended(silent)

    exchange.http_status = 503
    waiting = Client(["trades:BTC-USDT"], url=exchange.url).start()
    wait_for(lambda: waiting.saw(DISCONNECTED))
    assert ended(waiting)

    never = Client(["trades:BTC-USDT"], url=exchange.url)
    never.close()
    assert ended(never.start())


def test_close_while_it_waits_for_its_turn_connects_no_more(exchange, connect, monkeypatch):
    monkeypatch.setattr(okex_ws.Backoff, "_next", 0.0)
    monkeypatch.setattr(okex_ws, "CONNECT_SPACING", 60.0)
    first = connect("trades:BTC-USDT")
    wait_for(lambda: first.rows)
    second = connect("trades:BTC-USDT")
    wait_for(lambda: okex_ws.Backoff._next > time.monotonic() + 60)  # it has drawn its number
    second.close()
    second.thread.join(15)
    assert not second.thread.is_alive() and second.error is None
    assert exchange.handshakes == 1


def test_a_client_runs_once(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    with pytest.raises(RuntimeError, match="make another one"):
        client.run()
    wait_for(client.more_rows())


def test_close_works_from_the_handler(exchange):
    client = Client(["trades:BTC-USDT"], url=exchange.url)
    calls = []
    client.handler = lambda channel, rows: calls.append(exchange.step()) or client.close()  # there is more to read
    client.start()
    client.thread.join(15)
    assert not client.thread.is_alive()
    assert len(calls) == 1


def test_start_returns_at_once_and_does_not_keep_the_program_alive(exchange):
    rows = []
    ws = OkexWS("trades:BTC-USDT", lambda channel, new: rows.extend(new), url=exchange.url)
    ws.start()
    wait_for(lambda: rows)
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("okex_ws"))
    ws.close()


# -- TLS, proxies, and words for what went wrong


@pytest.fixture
def tls_exchange():
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Exchange(every=0.02, tls=context) as exchange:
        yield exchange, authority


def test_streams_over_tls(tls_exchange, connect, impatient, monkeypatch, tmp_path):
    exchange, authority = tls_exchange
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    client = connect("trades:BTC-USDT", url=exchange.url, ping_every=0.1)
    wait_for(lambda: len(client.rows) > 20 and client.latency)
    exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(CONNECTED, 2))
    wait_for(client.more_rows())


def test_a_certificate_that_is_not_valid_ends_the_first_connect(tls_exchange, connect):
    client = connect("trades:BTC-USDT", url=tls_exchange[0].url)
    client.thread.join(10)
    assert isinstance(client.error, ssl.SSLCertVerificationError)
    assert client.statuses[-1][0] == EXIT and "certificate" in client.statuses[-1][1]
    assert not tls_exchange[0].requests


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


def test_goes_through_an_http_proxy(exchange, connect):
    seen = []

    def greet(client):
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += client.recv(4096)
        seen.append(request.decode())
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return "127.0.0.1", exchange.port

    client = connect("trades:BTC-USDT", proxy=f"http://me:secret@127.0.0.1:{serve_proxy(greet)}")
    wait_for(lambda: client.rows)
    assert seen[0].startswith(f"CONNECT 127.0.0.1:{exchange.port} ")
    assert "Proxy-Authorization: Basic" in seen[0]


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_goes_through_a_socks_proxy_that_resolves_the_name(exchange, connect, monkeypatch, how):
    seen = []

    def greet(client):
        client.recv(64)
        client.sendall(b"\x05\x00")
        request = client.recv(256)
        seen.append(request[5 : 5 + request[4]].decode())
        client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return "127.0.0.1", exchange.port

    proxy = f"socks5h://127.0.0.1:{serve_proxy(greet)}"
    url = f"ws://exchange.invalid:{exchange.port}"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", proxy if how == "environment" else "")
    client = connect("trades:BTC-USDT", url=url, proxy=proxy if how == "argument" else None)
    wait_for(lambda: client.rows)
    assert seen == ["exchange.invalid"]


def test_this_machine_is_never_reached_through_the_proxy_of_the_environment(connect, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "http://127.0.0.1", "socks5://:1080", "http://h:99999"])
def test_a_proxy_that_cannot_be_is_an_error_at_once(proxy):
    with pytest.raises(ValueError, match=r"proxy|port"):
        OkexWS(["trades:BTC-USDT"], proxy=proxy)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (websocket.WebSocketAddressException("[Errno -2] Name or service not known"), "DNS cannot resolve"),
        (ConnectionRefusedError(111, "Connection refused"), "refused the connection"),
        (TimeoutError("timed out"), "did not answer"),
        (websocket.WebSocketTimeoutException("timed out"), "did not answer"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS with"),
        (websocket.WebSocketBadStatusException("Handshake status 403 Forbidden", 403), "HTTP 403"),
        (websocket.WebSocketProxyException("failed CONNECT via proxy status: 407"), "the proxy failed"),
        (ConnectionResetError(104, "Connection reset by peer"), "reset by peer"),
        (ValueError(), "ValueError"),
    ],
)
def test_says_in_words_what_failed(error, words):
    line = explain(error, "wss://me:secret@ws.okx.com/ws/v5/public")
    assert words in line and "secret" not in line


def test_names_the_proxy_that_failed(kept_port, connect, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{kept_port}")
    for options in ({}, {"proxy": f"http://127.0.0.1:{kept_port}"}):
        client = connect("trades:BTC-USDT", url="wss://ws.example", **options)
        wait_for(lambda: client.saw(DISCONNECTED))  # noqa: B023
        assert dict(client.statuses)[DISCONNECTED] == f"the proxy 127.0.0.1:{kept_port} refused the connection"


@pytest.mark.parametrize(
    ("without", "direct"),
    [("", False), ("other", False), ("ws.example", True), ("a, .example", True), ("ample", False), ("*", True)],
)
def test_no_proxy_of_the_environment_counts(monkeypatch, without, direct):
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", without)
    assert (okex_ws.proxy_options(None, "wss://ws.example") is okex_ws.DIRECT) == direct
    assert okex_ws.proxy_options("http://127.0.0.1:1", "wss://ws.example") is not okex_ws.DIRECT


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": "http://bob:s3cretpw/x@proxy:8080"},
        {"url": "wss://bob:s3cretpw#z@host"},
        {"url": "http://bob:s3cretpw@host"},
        {"url": "wss://bob:s3cretpw@host:99999"},
        {"url": "ws://bob:s3cretpw@host", "credentials": okex_ws.Credentials("k", "s", "p")},
    ],
)
def test_a_password_is_in_no_error(options):
    with pytest.raises(ValueError) as caught:
        OkexWS(["account"], **options)
    assert "s3cretpw" not in str(caught.value)


def test_says_that_the_exchange_closed_port_8443(connect, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "CONNECT_TIMEOUT", 1.0)  # whatever listens there on this machine
    client = connect("trades:BTC-USDT", url="ws://127.0.0.1:8443")
    wait_for(lambda: client.saw(DISCONNECTED))
    assert "leave the port out" in caplog.text


def test_says_that_a_generation_is_retired(caplog):
    OkexWS([V1_TRADES])
    OkexWS(["spot/trade:BTC-USDT"])
    OkexWS(["trades:BTC-USDT"])
    OkexWS([V1_TRADES], url="ws://127.0.0.1:1")
    mine = [record for record in caplog.records if record.thread == threading.get_ident()]
    assert [r.getMessage()[:24] for r in mine] == ["The exchange retired v1 ", "The exchange retired v3 "]
