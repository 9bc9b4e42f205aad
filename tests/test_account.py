"""The account side: logins that are known to have happened, orders that get their own answer, secrets that stay so."""

import base64
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
from conftest import wait_for
from exchange import Exchange
from test_cli import finish, program, until

import okex_ws
from okex_ws import (
    CONNECTED,
    DISCONNECTED,
    EXIT,
    SUBSCRIBED,
    V1,
    V3,
    V5,
    Credentials,
    LoginError,
    OkexWS,
    OrderError,
    Reply,
    dialect_of,
)

PRIVATE = {
    "v1": "ok_sub_futureusd_userinfo",
    "v3": "spot/account:USDT",
    "v5": "orders:instType=ANY",
}
GENERATIONS = pytest.mark.parametrize("generation", PRIVATE)
BUY = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "1", "sz": "0.01"}


@pytest.fixture
def keys(exchange):
    return Credentials(*exchange.keys)


@pytest.fixture
def trader(exchange, connect, keys):
    client = connect("orders:instType=ANY", credentials=keys)
    wait_for(lambda: client.saw(SUBSCRIBED))
    return client


def in_thread(call, *args):
    """Start call(*args) on a thread; returns a function that waits for its result, or raises what it raised."""
    outcome = []

    def run():
        try:
            outcome.append((call(*args), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join(15)
        value, error = outcome[0]
        if error:
            raise error
        return value

    return result


def spoken(exchange, number=None):
    """What clients asked for, in order: op and event names, without pings."""
    names = []
    for connection, text in list(exchange.requests):
        if number in (None, connection) and text not in ("ping", '{"event":"ping"}'):
            message = json.loads(text)
            for request in message if isinstance(message, list) else [message]:
                names.append(request.get("op") or request["event"])
    return names


# -- Signing, against vectors computed elsewhere


def test_v1_signs_with_md5():
    keys = Credentials("c821db84-6fbd-11e4-a9e3-c86000d26d7c", "SECRET0123456789")
    sign = "03C713CC12A207535118B286B606F6EE"
    parameters = {"api_key": keys.api_key, "sign": sign}
    assert json.loads(V1.login(keys, 0.0)) == {"event": "login", "parameters": parameters}
    order = {"api_key": keys.api_key, "symbol": "bch_btc", "type": "buy", "price": "50", "amount": "0.02"}
    assert V1.sign(order, keys.secret_key) == "15C5FE8D67A501B39C936C1B0877945D"
    private, public = "ok_sub_spot_btc_usdt_order", "ok_sub_spot_btc_usdt_ticker"
    assert json.loads(V1.subscribe([private, public], "", keys)) == [
        {"event": "addChannel", "channel": private, "parameters": parameters},
        {"event": "addChannel", "channel": public},
    ]


def test_v3_and_v5_sign_with_hmac_sha256():
    keys = Credentials("key", "22582BD0CFF14C41EDBF1AB98506286D", "pass")
    v3 = ["key", "pass", "1538054050", "+LdIr8lkkvhr5hoA3g9TMC0+uQJ849ftAcocA/ouu4M="]
    assert json.loads(V3.login(keys, 1538054050.9)) == {"op": "login", "args": v3}
    sign = "5/36BgGV6m/6pmdc20zdqk0mzF5ZalmzzPD2fo3wavU="
    v5 = {"apiKey": "key", "passphrase": "pass", "timestamp": "1704876947", "sign": sign}
    assert json.loads(V5.login(keys, 1704876947.2)) == {"op": "login", "args": [v5]}


@pytest.mark.parametrize(
    ("channel", "private"),
    [
        ("account", True),
        ("account:ccy=BTC", True),
        ("positions:instType=ANY", True),
        ("balance_and_position", True),
        ("liquidation-warning:instType=ANY", True),
        ("orders-algo:instType=ANY", True),
        ("grid-positions:algoId=1", True),
        ("deposit-info", True),
        ("books-l2-tbt:BTC-USDT", True),
        ("books:BTC-USDT", False),
        ("candle1m:BTC-USDT", False),
        ("trades-all:BTC-USDT", False),
        ("public-block-trades:BTC-USDT", False),
        ("liquidation-orders:instType=SWAP", False),
        ("spot/account:USDT", True),
        ("spot/margin_account:BTC-USDT", True),
        ("futures/position:BTC-USD-191227", True),
        ("swap/order_algo:BTC-USD-SWAP", True),
        ("spot/ticker:BTC-USDT", False),
        ("ok_sub_futureusd_trades", True),
        ("ok_sub_futureusd_btc_trade_quarter", False),
        ("ok_sub_spot_btc_usdt_order", True),
        ("ok_sub_spot_btc_usdt_deals", False),
    ],
)
def test_knows_which_channels_need_a_login(channel, private):
    assert dialect_of(channel).private(channel) is private


# -- Login


@GENERATIONS
def test_logs_in_before_it_subscribes(exchange, connect, keys, generation):
    client = connect(PRIVATE[generation], credentials=keys)
    wait_for(lambda: client.channels[PRIVATE[generation]] == "confirmed" and len(spoken(exchange)) > 1)
    assert spoken(exchange)[:2] == ["login", "addChannel" if generation == "v1" else "subscribe"]


@GENERATIONS
def test_private_rows_arrive(exchange, connect, keys, generation):
    client = connect("account" if generation == "v5" else PRIVATE[generation], credentials=keys)
    channel, row = wait_for(lambda: client.rows)[0]
    shown = {"v1": ("balance", 0.2567), "v3": ("balance", "2.21"), "v5": ("totalEq", "10000")}
    name, value = shown[generation]
    assert channel in client.channels and row[name] == value


@pytest.mark.parametrize("order", ["trades first", "private first"])
def test_one_login_serves_public_and_private_channels_alike(exchange, connect, keys, order):
    channels = ["books:BTC-USDT", "books-l2-tbt:ETH-USDT"]
    client = connect(*(channels if order == "trades first" else channels[::-1]), credentials=keys)
    wait_for(lambda: list(client.channels.values()) == ["confirmed", "confirmed"])
    assert spoken(exchange) == ["login", "subscribe", "subscribe"]


def test_a_private_channel_that_is_wanted_later_brings_the_login(exchange, connect, keys):
    client = connect("books:BTC-USDT", credentials=keys)
    wait_for(lambda: client.rows)
    assert "login" not in spoken(exchange)
    client.subscribe("books50-l2-tbt:ETH-USDT")
    wait_for(lambda: list(client.channels.values()) == ["confirmed", "confirmed"])
    assert spoken(exchange) == ["subscribe", "login", "subscribe"]


def test_public_channels_are_read_without_showing_the_key(exchange, connect, keys):
    client = connect("trades:BTC-USDT", credentials=keys)
    wait_for(lambda: client.rows)
    assert spoken(exchange) == ["subscribe"]


def test_fifty_reconnects_log_in_once_each_before_anything_private(exchange, connect, impatient, keys):
    client = connect("orders:instType=ANY", "account", credentials=keys)
    for turn in range(1, 51):
        wait_for(lambda: client.saw(SUBSCRIBED, 2 * turn))  # noqa: B023
        exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(SUBSCRIBED, 102))
    for number in range(1, 52):
        assert spoken(exchange, number) == ["login", "subscribe", "subscribe"]


@GENERATIONS
@pytest.mark.parametrize("wrong", ["key", "secret", "passphrase"])
def test_a_refused_login_is_final_and_says_what_to_check(exchange, connect, impatient, generation, wrong, caplog):
    values = dict(zip(("key", "secret", "passphrase"), exchange.keys))
    if generation == "v1" and wrong == "passphrase":
        pytest.skip("v1 has none")
    values[wrong] = "wrong-" + values[wrong]
    okex_ws.known_secrets.clear()
    client = connect(PRIVATE[generation], credentials=Credentials(*values.values()))
    client.thread.join(10)
    assert isinstance(client.error, LoginError)
    assert "…89ab" in str(client.error) and "region" in str(client.error) and "API key" in str(client.error)
    assert spoken(exchange) == ["login"] and exchange.handshakes == 1
    assert client.statuses[-1] == (EXIT, str(client.error))
    for text in (str(client.error), caplog.text, str(client.statuses)):
        assert not any(secret in text for secret in values.values())


def test_a_clock_that_is_off_is_named_with_the_difference(exchange, connect, keys):
    exchange.skew = 300.0
    client = connect("account", credentials=keys)
    client.thread.join(10)
    (seconds,) = re.findall(r"this machine's clock is (\d+) s behind the server's", str(client.error))
    assert 290 <= int(seconds) <= 301  # the server's date may be read a little later, and has no fractions


def test_a_close_instead_of_an_answer_is_a_refusal_too(exchange, connect, keys):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    exchange.sessions[-1].close(4001, "Login failed")
    client.thread.join(10)
    assert isinstance(client.error, LoginError)


def test_a_login_that_is_not_answered_is_tried_on_a_new_connection(exchange, connect, impatient, keys, monkeypatch):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.2)
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: client.saw(DISCONNECTED))
    assert "login was not answered" in dict(client.statuses)[DISCONNECTED]
    exchange.ignored = ""
    wait_for(lambda: client.rows)


def test_a_late_login_is_waited_for(exchange, connect, keys):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    session = exchange.sessions[-1]
    session.logged_in = True
    exchange.ignored = ""
    session.send('{"event":"login","code":"0","msg":"","connId":"a4d3ae55"}')
    wait_for(lambda: client.rows)
    assert spoken(exchange) == ["login", "subscribe"]


def test_many_logins_do_not_wear_the_mask_off(keys, exchange):
    okex_ws.recent_signatures.extend(okex_ws.secret_pattern(f"signature {n}") for n in range(99))
    assert okex_ws.mask_secrets(" ".join(exchange.keys)) == "*** *** ***"


def test_a_connection_lost_during_the_login_starts_afresh(exchange, connect, impatient, keys):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    exchange.ignored = ""
    exchange.sessions[-1].drop()
    wait_for(lambda: client.rows)
    assert spoken(exchange, 2) == ["login", "subscribe"]


@pytest.mark.parametrize("code", ["60014", "64007"])
def test_a_passing_refusal_of_the_login_is_tried_again(exchange, connect, impatient, keys, code):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    exchange.ignored = ""
    exchange.sessions[-1].send(json.dumps({"event": "error", "code": code, "msg": "try again"}))
    wait_for(lambda: client.saw(CONNECTED, 2) and client.rows)


def test_logged_in_already_is_no_refusal(exchange, connect, keys):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    exchange.sessions[-1].logged_in = True
    exchange.ignored = ""
    exchange.sessions[-1].send('{"event":"error","code":"60031","msg":"Repeated login","connId":"a"}')
    wait_for(lambda: client.rows)


@pytest.mark.parametrize("channel", PRIVATE.values())
def test_a_private_channel_without_keys_is_refused_before_connecting(monkeypatch, channel):
    for name in Credentials.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    needed = "OKX_API_KEY, OKX_SECRET_KEY" + ("" if channel.startswith("ok_") else ", OKX_PASSPHRASE")
    with pytest.raises(ValueError, match=re.escape(f"{channel} needs an API key: set {needed}") + "$"):
        OkexWS([channel])
    monkeypatch.setenv("OKX_API_KEY", "k")
    with pytest.raises(ValueError, match="set OKX_SECRET_KEY"):
        OkexWS([channel])


def test_keys_come_from_the_environment(exchange, connect, monkeypatch):
    for name, value in zip(Credentials.VARIABLES, exchange.keys):
        monkeypatch.setenv(name, value)
    client = connect("account")
    wait_for(lambda: client.rows)


def test_keys_are_not_sent_in_the_clear(keys):
    with pytest.raises(ValueError, match="use wss://"):
        OkexWS(["account"], url="ws://example.com", credentials=keys)


def test_no_redirect_is_followed_and_no_key_sent_after_one(exchange, connect, impatient, keys):
    with Exchange() as elsewhere:
        exchange.redirect = f"{elsewhere.url}/ws/v5/private"
        client = connect("account", credentials=keys)
        wait_for(lambda: client.saw(DISCONNECTED, 2))
        assert "Redirect" in dict(client.statuses)[DISCONNECTED] and not client.saw(CONNECTED)
        assert elsewhere.handshakes == 0 and elsewhere.requests == exchange.requests == []


# -- Orders


def test_an_order_is_placed_amended_and_cancelled(exchange, trader):
    (placed,) = trader.request("order", {**BUY, "clOrdId": "b15"})
    assert placed["sCode"] == "0" and placed["clOrdId"] == "b15"
    same = {"instId": "BTC-USDT", "ordId": placed["ordId"]}
    assert trader.request("amend-order", {**same, "newPx": "2"})[0]["ordId"] == placed["ordId"]
    assert trader.request("cancel-order", same)[0]["sCode"] == "0"
    wait_for(lambda: len(trader.rows) >= 3)
    assert [(row["state"], row["px"]) for _, row in trader.rows] == [("live", "1.0"), ("live", "2"), ("canceled", "2")]


def test_a_marketable_order_fills_and_is_told_on_every_private_channel(exchange, connect, keys):
    client = connect("orders:instType=SPOT", "positions:instType=ANY", "balance_and_position", credentials=keys)
    wait_for(lambda: client.saw(SUBSCRIBED, 3))
    client.request("order", {**BUY, "ordType": "market"})
    wait_for(lambda: {"filled"} & {row.get("state") for _, row in client.rows})
    wait_for(lambda: {channel for channel, _ in client.rows} == set(client.channels))
    assert ("positions:instType=ANY", "0.01") in [(channel, row.get("pos")) for channel, row in client.rows]


def test_a_resting_order_fills_when_the_market_comes_to_it(exchange, trader):
    book = exchange.instrument("BTC-USDT")
    px = book.price(book.middle - 2)
    trader.request("order", {**BUY, "px": px})
    wait_for(lambda: trader.rows and trader.rows[-1][1]["state"] == "filled")


def test_orders_need_no_channel(exchange, connect, keys):
    client = connect(credentials=keys)
    assert client.request("order", BUY)[0]["sCode"] == "0"
    assert spoken(exchange) == ["login", "order"]


def test_the_integer_for_an_instrument_is_looked_up_once(exchange, trader):
    for _ in range(3):
        trader.request("order", BUY)
    trader.request("batch-orders", [BUY, {**BUY, "instId": "ETH-USDT-SWAP"}])
    assert exchange.fetched == [
        "/api/v5/public/instruments?instType=SPOT&instId=BTC-USDT",
        "/api/v5/public/instruments?instType=SWAP&instId=ETH-USDT-SWAP",
    ]
    assert all(
        "instId" not in order
        for _, text in exchange.requests
        if "order" in text
        for order in json.loads(text)["args"]
        if "px" in order
    )
    with pytest.raises(OrderError, match=r"no instIdCode for NOPE-USDT.*nothing was sent"):
        trader.request("order", {**BUY, "instId": "NOPE-USDT"})


@pytest.mark.parametrize(
    ("id", "path"),
    [
        ("BTC-USDT", "SPOT"),
        ("BTC-USDT-SWAP", "SWAP"),
        ("BTC-USD-261225", "FUTURES"),
        ("BTC-ABOVE-DAILY-260428-1600-64000", "EVENTS"),
    ],
)
def test_knows_where_an_instrument_is_listed(id, path):
    assert V5.instrument(id) == f"/api/v5/public/instruments?instType={path}&instId={id}"


def test_an_option_is_looked_up_in_its_family():
    path = "/api/v5/public/instruments?instType=OPTION&instFamily=BTC-USD&instId=BTC-USD-261225-80000-C"
    assert V5.instrument("BTC-USD-261225-80000-C") == path


def test_a_refused_order_raises_with_code_and_reason(trader):
    with pytest.raises(OrderError, match="51000 Parameter side or sz error") as caught:
        trader.request("order", {**BUY, "side": "hold"})
    assert (caught.value.code, caught.value.data[0]["sCode"], caught.value.unknown) == ("1", "51000", False)
    with pytest.raises(OrderError, match="51400"):
        trader.request("cancel-order", {"instId": "BTC-USDT", "ordId": "404"})


def test_one_bad_leg_of_a_batch_raises_with_every_leg(trader):
    with pytest.raises(OrderError, match=r"^2; 0 ; 51000 Parameter") as caught:
        trader.request("batch-orders", [BUY, {**BUY, "side": "hold"}])
    assert [leg["sCode"] for leg in caught.value.data] == ["0", "51000"]


def test_two_orders_answered_in_swapped_order_get_their_own_answers(exchange, trader):
    trader.request("order", BUY)  # so that nothing has to be looked up
    exchange.ignored = '"op":"order"'
    first = in_thread(trader.request, "order", {**BUY, "clOrdId": "first"})
    second = in_thread(trader.request, "order", {**BUY, "clOrdId": "second"})
    waiting = wait_for(
        lambda: (
            [json.loads(t) for _, t in exchange.requests if "first" in t or "second" in t][1:]
            and exchange.requests[-2:]
        )
    )
    for _, text in reversed(waiting):
        request = json.loads(text)
        leg = {"ordId": "1", "clOrdId": request["args"][0]["clOrdId"], "sCode": "0", "sMsg": ""}
        reply = {"id": request["id"], "op": "order", "code": "0", "msg": "", "data": [leg]}
        exchange.sessions[-1].send(json.dumps(reply))
    assert (first()[0]["clOrdId"], second()[0]["clOrdId"]) == ("first", "second")


def test_an_error_that_carries_the_id_of_an_order_is_its_answer(exchange, trader):
    trader.request("order", BUY)
    exchange.sessions[-1].logged_in = False
    with pytest.raises(OrderError, match="60011 Please log in"):
        trader.request("order", BUY)


def test_a_drop_while_an_order_waits_says_at_once_that_its_fate_is_unknown(exchange, trader, impatient):
    trader.request("order", BUY)
    exchange.ignored = '"op":"order"'
    waiting = in_thread(trader.request, "order", BUY, 60.0)
    wait_for(lambda: spoken(exchange).count("order") == 2)
    exchange.sessions[-1].drop()
    with pytest.raises(OrderError, match="fate is unknown") as caught:
        waiting()
    assert caught.value.unknown
    wait_for(lambda: trader.saw(SUBSCRIBED, 2))
    assert spoken(exchange).count("order") == 2  # nothing is sent again


def test_an_answer_that_does_not_come_is_an_unknown_fate(exchange, trader, caplog):
    trader.request("order", BUY)
    exchange.ignored = '"op":"order"'
    with pytest.raises(OrderError, match=r"no answer within 2\.5 s: its fate is unknown") as caught:
        trader.request("order", BUY, timeout=2.5)
    assert caught.value.unknown
    wait_for(lambda: spoken(exchange).count("order") == 2)
    id = json.loads(exchange.requests[-1][1])["id"]
    exchange.sessions[-1].send(json.dumps({"id": id, "op": "order", "code": "0", "msg": "", "data": []}))
    wait_for(lambda: "nobody waits for any more" in caplog.text)


def test_an_order_that_waits_for_the_login_survives_a_lost_connection(exchange, connect, impatient, keys):
    exchange.ignored = '"op":"login"'
    client = connect(credentials=keys)
    wait_for(lambda: spoken(exchange))
    result = in_thread(client.request, "order", BUY)
    wait_for(lambda: exchange.fetched)
    exchange.ignored = ""
    exchange.sessions[-1].drop()
    assert result()[0]["sCode"] == "0" and spoken(exchange).count("order") == 1


def test_an_order_that_waits_for_the_login_does_not_overtake_the_channel_that_tells_of_it(
    exchange, connect, keys, monkeypatch
):
    exchange.ignored = '"op":"login"'
    client = connect("orders:instType=SPOT", credentials=keys)
    wait_for(lambda: spoken(exchange))
    result = in_thread(client.request, "order", {**BUY, "ordType": "market"})
    wait_for(lambda: exchange.fetched)  # the order has its code and waits for the login alone
    send_due = client._send_due
    monkeypatch.setattr(client, "_send_due", lambda: (time.sleep(0.2), send_due()))  # what an order could use
    exchange.ignored = ""
    exchange.sessions[-1].drop()
    assert result()[0]["sCode"] == "0"
    assert spoken(exchange) == ["login", "login", "subscribe", "order"]
    wait_for(lambda: {row["state"] for _, row in client.rows} == {"live", "filled"})


def test_an_order_whose_time_went_into_looking_up_is_not_sent(exchange, trader, monkeypatch):
    get = okex_ws.Rest.get

    def slow(self, path, timeout):
        found = get(self, path)
        threading.Event().wait(timeout + 0.1)
        return found

    monkeypatch.setattr(okex_ws.Rest, "get", slow)
    with pytest.raises(OrderError, match=r"took all of 0\.3 s: nothing was sent") as caught:
        trader.request("order", BUY, timeout=0.3)
    assert not caught.value.unknown and "order" not in spoken(exchange)


def test_without_a_connection_nothing_is_sent(exchange, connect, keys):
    exchange.http_status = 503
    client = connect(credentials=keys)
    with pytest.raises(OrderError, match="not logged in: nothing was sent") as caught:
        client.request("order", {"instIdCode": 1}, timeout=0.2)
    assert not caught.value.unknown


def test_the_handlers_own_thread_is_refused_instead_of_waiting_for_itself(exchange, connect, keys):
    client = connect("account", credentials=keys)
    outcome = []

    def handler(channel, rows):
        try:
            client.request("order", BUY)
        except Exception as error:
            outcome.append(error)

    client.handler = handler
    exchange.sessions and exchange.sessions[-1].drop()
    error = wait_for(lambda: outcome, within=20)[0]
    assert isinstance(error, RuntimeError) and "another thread" in str(error)


def test_orders_go_over_v5_only_and_need_keys(keys, monkeypatch):
    with pytest.raises(ValueError, match="v3 takes no orders"):
        OkexWS(["spot/ticker:BTC-USDT"], url="wss://x", credentials=keys).request("order", {"instIdCode": 1})
    for name in Credentials.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="order needs an API key"):
        OkexWS(["trades:BTC-USDT"]).request("order", BUY)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ws://127.evil.example", {}),
        ("ws://localhost.evil.example", {}),
        ("ws://localhost", {"proxy": "http://proxy.example:3128"}),
    ],
)
def test_what_only_looks_like_this_machine_gets_no_keys(keys, url, options):
    with pytest.raises(ValueError, match="not sent over"):
        OkexWS(["account"], url=url, credentials=keys, **options)


@pytest.mark.parametrize(
    ("channel", "op", "home"),
    [
        ("trades:BTC-USDT", "order", "private"),
        ("orders-algo:instType=ANY", "batch-orders", "private"),
        ("orders:instType=ANY", "sprd-order", "business"),
        ("sprd-orders", "mass-cancel", "private"),
    ],
)
def test_an_operation_that_is_taken_elsewhere_is_said_before_it_is_sent(keys, channel, op, home):
    with pytest.raises(ValueError, match=rf"{op} is taken at …/{home}, this client connects to …/"):
        OkexWS([channel], credentials=keys).request(op, {})


@pytest.mark.parametrize("op", ["sprd-order", "sprd-amend-order", "sprd-cancel-order", "sprd-mass-cancel"])
def test_spreads_are_traded_where_they_live(exchange, connect, keys, op):
    client = connect("sprd-orders", credentials=keys)
    exchange.ignored = f'"op":"{op}"'
    result = in_thread(client.request, op, {"sprdId": "BTC-USDT_BTC-USDT-SWAP", "sz": "1"})
    text = wait_for(lambda: [text for _, text in exchange.requests if f'"op":"{op}"' in text])[0]
    assert json.loads(text)["args"] == [{"sprdId": "BTC-USDT_BTC-USDT-SWAP", "sz": "1"}]
    answer = {"id": json.loads(text)["id"], "op": op, "code": "0", "msg": "", "data": [{"ordId": "1", "sCode": "0"}]}
    exchange.sessions[-1].send(json.dumps(answer))
    assert result() == [{"ordId": "1", "sCode": "0"}]


@pytest.mark.parametrize(
    "answer",
    [
        '{{"id":"{id}","op":"order","code":"60013","msg":"Invalid args"}}',
        '{{"id":"{id}","op":"order","code":"60013","msg":"Invalid args","data":null}}',
        '{{"event":"error","code":"60013","msg":"Invalid args: {{\\"id\\":\\"{id}\\",\\"op\\":\\"order\\"}}"}}',
    ],
    ids=["no data", "null", "id in the message"],
)
def test_an_answer_of_another_shape_still_reaches_who_waits_for_it(exchange, trader, answer):
    exchange.ignored = '"op":"order"'
    result = in_thread(trader.request, "order", {"instIdCode": 1})
    text = wait_for(lambda: [text for _, text in exchange.requests if '"op":"order"' in text])[0]
    exchange.sessions[-1].send(answer.format(id=json.loads(text)["id"]))
    with pytest.raises(OrderError, match="60013 Invalid args") as caught:
        result()
    assert caught.value.code == "60013" and not caught.value.unknown


def test_a_code_that_has_changed_is_looked_up_again_and_nothing_sent_twice(exchange, trader):
    trader.request("order", BUY)
    exchange.codes.clear()  # the exchange gave its instruments new ones
    with pytest.raises(OrderError, match="51001"):
        trader.request("order", BUY)
    assert spoken(exchange).count("order") == 2
    assert trader.request("order", BUY)[0]["sCode"] == "0"
    assert len(exchange.fetched) == 2


def test_a_leg_that_failed_is_a_failure_whatever_the_code_says(exchange, trader):
    exchange.ignored = '"op":"batch-orders"'
    result = in_thread(trader.request, "batch-orders", [{**BUY}, {**BUY}])
    text = wait_for(lambda: [text for _, text in exchange.requests if "batch-orders" in text])[0]
    legs = [{"sCode": "0", "sMsg": ""}, {"sCode": "51000", "sMsg": "Parameter px error"}]
    exchange.sessions[-1].send(
        json.dumps({"id": json.loads(text)["id"], "op": "batch-orders", "code": "0", "msg": "", "data": legs})
    )
    with pytest.raises(OrderError, match="51000 Parameter px error"):
        result()


def test_an_answer_of_an_odd_shape_is_handed_out_as_it_is(exchange, trader):
    exchange.ignored = '"op":"order"'
    result = in_thread(trader.request, "order", {"instIdCode": 1})
    text = wait_for(lambda: [text for _, text in exchange.requests if '"op":"order"' in text])[0]
    answer = {"id": json.loads(text)["id"], "op": "order", "code": "0", "msg": "", "data": ["odd", None]}
    exchange.sessions[-1].send(json.dumps(answer))
    assert result() == ["odd", None]


def test_secrets_are_hidden_however_they_are_written(caplog):
    caplog.set_level(logging.DEBUG)
    secret = 'pass"word\\é with quotes'
    Credentials("key-key-key", "secret-secret", secret)
    once = json.dumps(secret, ensure_ascii=True)
    for text in (secret, once, json.dumps({"msg": once}), okex_ws.printable_text("x" * 190 + "secret-secret")):
        okex_ws.okex_log.warning("%s", text)
    assert "word" not in caplog.text and "secre" not in caplog.text


@pytest.mark.parametrize(
    "spell",
    [
        lambda secret: secret.replace("/", "\\/"),
        lambda secret: (
            secret.replace("=", "\\u003d").replace("/", "\\u002F").replace("+", "\\u002b").replace(" ", "\\u0020")
        ),
        str.upper,
        urllib.parse.quote,
        lambda secret: urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus,
        lambda secret: base64.b64encode(secret.encode()).decode(),
    ],
)
def test_secrets_are_hidden_in_an_echo_that_escapes_them_in_its_own_way(spell):
    secret = "Ab/cd+ef==gh secret/"
    Credentials("key-key-key", secret)
    assert okex_ws.printable_text(f"Invalid request: {spell(secret)}!") in (
        "Invalid request: ***!",
        "Invalid request: ***=!",  # the padding of base64
    )


def test_a_signature_is_hidden_though_the_keys_are_too_short_to_be(caplog):
    login = okex_ws.Login(V5, Credentials("k", "s", "p"), "wss://ws.example", direct=True)
    sign = json.loads(login.request(0.0))["args"][0]["sign"]
    okex_ws.okex_log.warning("sent %s", sign)
    assert sign not in caplog.text and "sent ***" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "a0f3c1d2-5b77-4f0e-9d3c-0123456789a****",
        "\\" * 200_000,
        "a0f3c1d2-" * 50_000,
        "STANDIN5ECRET0123456789ABCDEF01 " * 9999,
    ],
    ids=["starred out", "backslashes", "beginnings", "nearly"],
)
def test_looking_for_secrets_takes_no_longer_than_reading_the_text(keys, text):
    begin = time.thread_time()
    assert okex_ws.printable_text(text) and okex_ws.mask_secrets(text)
    assert time.thread_time() - begin < 5  # it was minutes, and for ever


@pytest.mark.parametrize("code", ["50001", "50011", "50013", "50026", "50061"])
def test_a_passing_trouble_of_the_exchange_is_no_refused_login(exchange, connect, impatient, keys, code):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    exchange.ignored = ""
    exchange.sessions[-1].send(json.dumps({"event": "login", "code": code, "msg": "try later"}))
    wait_for(lambda: client.saw(CONNECTED, 2) and client.rows)


def test_what_the_exchange_says_during_a_login_is_not_quoted(exchange, connect, keys, caplog):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    exchange.sessions[-1].send(json.dumps({"event": "error", "code": "60009", "msg": "half a passphr"}))
    client.thread.join(10)
    assert isinstance(client.error, LoginError) and "60009" in str(client.error)
    assert "passphr" not in str(client.error).replace("check the API key, secret and passphrase", "")
    assert "half a" not in caplog.text + str(client.statuses)


def test_nothing_that_cannot_be_read_is_quoted_while_a_login_is_under_way(exchange, connect, keys, caplog):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    for text in ("nonsense with a piece of the key", '{"event":"a piece of the key"}'):
        exchange.sessions[-1].send(text)
    wait_for(lambda: caplog.text.count("not quoted") == 2)
    assert "piece" not in caplog.text and client.counts["malformed"] == 1


def test_an_error_about_nothing_does_not_end_a_login(exchange, connect, impatient, keys, caplog):
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: spoken(exchange))
    exchange.ignored = ""
    error = {"event": "error", "code": "50001", "msg": "Service temporarily unavailable", "connId": "a"}
    exchange.sessions[-1].send(json.dumps(error))
    wait_for(lambda: client.rows)
    assert "50001" in caplog.text and client.counts["connects"] == 2


def test_what_status_says_holds_no_secret(keys):
    heard = []
    client = OkexWS([], credentials=keys)
    client.on_status = lambda status, detail: heard.append(detail)
    client._notify(DISCONNECTED, f"closed with {keys.secret_key}")
    assert heard == ["closed with ***"]


def test_a_password_in_the_url_is_not_printed(caplog):
    OkexWS([], url="wss://me:hunter22@ws.example/private")
    okex_ws.okex_log.warning("to %s", "wss://me:hunter22@ws.example/private")
    assert "hunter22" not in caplog.text


def test_a_client_that_does_not_log_in_says_so_instead_of_waiting(keys):
    client = OkexWS(["trades:BTC-USDT"], url="wss://ws.example/my/own/path", credentials=keys)
    with pytest.raises(ValueError, match="does not log in"):
        client.request("order", {"instIdCode": 1})


def test_the_answer_to_a_batch_keeps_its_id_and_what_became_of_each_order():
    text = (
        '{"id":"1512","op":"batch-orders","code":"2","msg":"","data":[{"ordId":"12345689","clOrdId":"b15","ts":"1",'
        '"sCode":"0","sMsg":""},{"ordId":"","clOrdId":"b16","ts":"1","sCode":"51008","sMsg":"Insufficient balance"}],'
        '"inTime":"1695190491421339","outTime":"1695190491423240"}'
    )
    done = {"ordId": "12345689", "clOrdId": "b15", "ts": "1", "sCode": "0", "sMsg": ""}
    failed = {"ordId": "", "clOrdId": "b16", "ts": "1", "sCode": "51008", "sMsg": "Insufficient balance"}
    assert V5.parse(text) == [Reply("1512", "batch-orders", "2", "", [done, failed])]


# -- On the command line


def test_offline_has_an_account():
    status, out, err = finish("--offline", "account", "orders:instType=ANY", "--count", "1", "--jsonl", "-")
    assert status == 0 and json.loads(out)["row"]["totalEq"] == "10000"
    assert "Logged in." in err


def test_a_refused_login_is_exit_status_1(exchange):
    wrong = dict(zip(Credentials.VARIABLES, ("wrong-key", *exchange.keys[1:])))
    status, _, err = finish("account", "trades:BTC-USDT", "--url", exchange.url, env=wrong)
    assert status == 1 and "refused the login" in err and "Traceback" not in err
    assert not any(secret in err for secret in wrong.values())


def test_missing_keys_are_wrong_usage(exchange):
    status, _, err = finish("account", "--url", exchange.url, env=dict.fromkeys(Credentials.VARIABLES, ""))
    assert status == 2 and "set OKX_API_KEY, OKX_SECRET_KEY, OKX_PASSPHRASE" in err.splitlines()[-1]


def test_no_secret_is_printed_whatever_is_asked_for(exchange, tmp_path, impatient):
    environment = dict(zip(Credentials.VARIABLES, exchange.keys))
    arguments = ("account", "orders:instType=ANY", "--url", exchange.url, "--trace", "--jsonl", tmp_path / "rows")
    process = program(*arguments, env=environment)
    said = until(process.stderr, "account subscribed")
    session = exchange.sessions[-1]
    login = next(text for _, text in exchange.requests if "login" in text)
    session.send(json.dumps({"event": "error", "code": "60012", "msg": f"Invalid request: {login}"}))
    session.send(f"nonsense {login}")
    session.send(json.dumps({"event": login}))
    said += until(process.stderr, "unknown kind")
    process.terminate()
    out, err = process.communicate(timeout=10)
    said += out + err + (tmp_path / "rows").read_text()
    assert said.count("***") >= 8
    for secret in (*exchange.keys, json.loads(login)["args"][0]["sign"]):
        assert secret not in said


def test_no_secret_is_in_a_repr_or_a_traceback(keys, exchange, caplog):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    okex_ws.okex_log.addHandler(handler)
    try:
        raise ValueError(f"oh no {exchange.keys[1]}")
    except ValueError:
        okex_ws.okex_log.exception("with %s", exchange.keys[0])
    finally:
        okex_ws.okex_log.removeHandler(handler)
    text = stream.getvalue() + repr(keys) + str(keys) + f"{keys}" + repr(OkexWS(["account"], credentials=keys))
    assert "oh no ***" in text and "with ***" in text
    assert not any(secret in text for secret in exchange.keys)


def test_a_script_that_reads_its_keys_from_the_environment_ends_with_the_login_error(exchange):
    code = f"import okex_ws; okex_ws.OkexWS(['account'], url={exchange.url!r}).run()"
    environment = os.environ | dict(zip(Credentials.VARIABLES, ("wrong", "wrong-secret", "wrong-pass")))
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(okex_ws.__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 1 and "LoginError: the exchange refused the login" in run.stderr.splitlines()[-1]
    assert "wrong-secret" not in run.stderr and "wrong-pass" not in run.stderr
