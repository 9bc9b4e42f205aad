"""The account side: logins that are known to have happened, orders that get their own answer, secrets that stay so."""

import json
import logging
import re
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from unittest.mock import Mock

import pytest
from conftest import finish, program, until, wait_for
from exchange import Exchange

import okex_ws
from okex_ws import CONNECTED, DISCONNECTED, EXIT, SUBSCRIBED, V1, V3, V5, Credentials, LoginError, OkexWS, OrderError

PRIVATE = {"v1": "ok_sub_futureusd_userinfo", "v3": "spot/account:USDT", "v5": "account"}
BUY = {"instId": "BTC-USDT", "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "1", "sz": "0.01"}
SWAP = {**BUY, "instId": "BTC-USDT-SWAP", "tdMode": "cross", "sz": "1"}
RAW = {"instIdCode": 1}  # an order for which nothing has to be looked up


@pytest.fixture
def keys(exchange):
    return Credentials(*exchange.keys)


@pytest.fixture
def trader(exchange, connect, keys):
    client = connect("orders:instType=ANY", credentials=keys)
    wait_for(lambda: client.saw(SUBSCRIBED))
    return client


@pytest.fixture
def in_login(exchange, connect, keys):
    """Start a client whose login is not answered until the test does: (client, its session)."""

    def start(*channels):
        exchange.ignored = '"op":"login"'
        before = len(spoken(exchange))
        client = connect(*channels, credentials=keys)
        wait_for(lambda: len(spoken(exchange)) > before)
        exchange.ignored = ""
        return client, exchange.sessions[-1]

    return start


def in_thread(call, *args):
    """Start call(*args) on a thread; returns a function that waits for its result, or raises what it raised."""
    return partial(ThreadPoolExecutor(1).submit(call, *args).result, 15)


def unanswered(exchange, client, op, args, timeout=10.0):
    """Send an order that the stand-in does not answer: what was sent, and a function that waits for the result."""
    exchange.ignored = f'"op":"{op}"'
    before = len(exchange.requests)
    result = in_thread(client.request, op, args, timeout)
    sent = wait_for(lambda: [text for _, text in exchange.requests[before:] if exchange.ignored in text])
    return json.loads(sent[0]), result


def answer(exchange, request, *legs):
    """Answer such an order after all."""
    reply = {"id": request["id"], "op": request["op"], "code": "0", "msg": "", "data": legs}
    exchange.sessions[-1].send(json.dumps(reply))


def refusal(call):
    """What call() says against it, without doing anything."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return "nothing"


def spoken(exchange, number=None):
    """What clients asked for, in order: op and event names, without pings."""
    names = []
    for connection, text in list(exchange.requests):
        if number in (None, connection) and text not in ("ping", '{"event":"ping"}'):
            message = json.loads(text)
            for request in message if isinstance(message, list) else [message]:
                names.append(request.get("op") or request["event"])
    return names


# -- Login
def test_logins_are_signed_as_the_documentation_has_it():
    keys = Credentials("c821db84-6fbd-11e4-a9e3-c86000d26d7c", "SECRET0123456789")
    parameters = {"api_key": keys.api_key, "sign": "03C713CC12A207535118B286B606F6EE"}
    assert json.loads(V1.login(keys, 0.0)) == {"event": "login", "parameters": parameters}
    order = {"api_key": keys.api_key, "symbol": "bch_btc", "type": "buy", "price": "50", "amount": "0.02"}
    assert V1.sign(order, keys.secret_key) == "15C5FE8D67A501B39C936C1B0877945D"
    private, public = "ok_sub_spot_btc_usdt_order", "ok_sub_spot_btc_usdt_ticker"
    assert json.loads(V1.subscribe([private, public], "", keys)) == [
        {"event": "addChannel", "channel": private, "parameters": parameters},
        {"event": "addChannel", "channel": public},
    ]
    keys = Credentials("key", "22582BD0CFF14C41EDBF1AB98506286D", "pass")
    v3 = ["key", "pass", "1538054050", "+LdIr8lkkvhr5hoA3g9TMC0+uQJ849ftAcocA/ouu4M="]
    assert json.loads(V3.login(keys, 1538054050.9)) == {"op": "login", "args": v3}
    sign = "5/36BgGV6m/6pmdc20zdqk0mzF5ZalmzzPD2fo3wavU="
    v5 = {"apiKey": "key", "passphrase": "pass", "timestamp": "1704876947", "sign": sign}
    assert json.loads(V5.login(keys, 1704876947.2)) == {"op": "login", "args": [v5]}


def test_every_generation_logs_in_before_it_subscribes_and_gets_private_rows(exchange, connect, keys):
    shown = {"v1": '"balance": 0.2567', "v3": '"balance": "2.21"', "v5": '"cashBal": "10000"'}
    for number, (generation, wanted) in enumerate(PRIVATE.items(), 1):
        client = connect(wanted, credentials=keys)
        channel, row = wait_for(lambda: client.rows)[0]  # noqa: B023
        assert channel == wanted and shown[generation] in json.dumps(row), generation
        wait_for(lambda: len(spoken(exchange, number)) > 1)  # noqa: B023
        assert spoken(exchange, number)[:2] == ["login", "addChannel" if generation == "v1" else "subscribe"]


def test_the_key_is_shown_only_once_a_private_channel_is_wanted_and_serves_public_ones_too(exchange, connect, keys):
    client = connect("books:BTC-USDT", credentials=keys)
    wait_for(lambda: client.rows)
    assert spoken(exchange) == ["subscribe"]
    client.subscribe("books50-l2-tbt:ETH-USDT")
    wait_for(lambda: list(client.channels.values()) == ["confirmed", "confirmed"])
    assert spoken(exchange) == ["subscribe", "login", "subscribe"]


def test_fifty_reconnects_log_in_once_each_before_anything_private(exchange, connect, impatient, keys):
    client = connect("orders:instType=ANY", "account", credentials=keys)
    for turn in range(1, 51):
        wait_for(lambda: client.saw(SUBSCRIBED, 2 * turn))  # noqa: B023
        exchange.sessions[-1].drop()
    wait_for(lambda: client.saw(SUBSCRIBED, 102))
    for number in range(1, 52):
        assert spoken(exchange, number) == ["login", "subscribe", "subscribe"]


def test_a_refused_login_is_final_and_says_what_to_check(exchange, connect, impatient, caplog):
    right = dict(zip(("key", "secret", "passphrase"), exchange.keys))
    cases = [(generation, wrong) for generation in PRIVATE for wrong in right]
    cases.remove(("v1", "passphrase"))  # v1 has none
    for number, (generation, wrong) in enumerate(cases, 1):
        values = right | {wrong: "wrong-" + right[wrong]}
        okex_ws.known_secrets.clear()
        client = connect(PRIVATE[generation], credentials=Credentials(*values.values()))
        client.thread.join(10)
        case, said = f"wrong {wrong} of {generation}", str(client.error)
        assert isinstance(client.error, LoginError), case
        assert "…89ab" in said and wrong in said.rpartition("(")[2], case
        assert spoken(exchange, number) == ["login"] and exchange.handshakes == number, case
        assert client.statuses[-1] == (EXIT, said), case
        assert not any(value in said + caplog.text + str(client.statuses) for value in values.values()), case


def test_a_login_is_refused_by_any_code_and_orders_hear_which_part_is_wrong(exchange, connect, keys, in_login):
    wrong = {"60005": "API key is wrong", "60007": "secret key", "60024": "passphrase", "60032": "no such API key"}
    wrong |= {"50111": "API key is wrong", "50113": "secret key", "50105": "passphrase", "50119": "no such API key"}
    wrong |= {"50101": "--simulated", "50110": "IP address", "98765": "Not today."}
    for code, part in wrong.items():
        exchange.login_refusal = (code, "Not today.")
        client = connect(credentials=keys)
        early = in_thread(client.request, "order", RAW, 60.0)
        client.thread.join(10)
        assert isinstance(client.error, LoginError) and client.counts["connects"] == 1, code
        assert f"{code} Not today." in str(client.error) and part in str(client.error), code
        for call in (early, partial(client.request, "order", RAW, 60.0)):
            with pytest.raises(OrderError, match=re.escape(f"{client.error}: nothing was sent")):
                call()
    client, session = in_login("account")
    session.close(4001, "Login failed")  # instead of an answer
    client.thread.join(10)
    assert isinstance(client.error, LoginError)


def test_where_a_login_worked_before_each_refusal_is_tried_again_after_a_longer_wait(exchange, trader, caplog):
    for turn, waits in (1, [1, 2]), (2, [1]):  # what works in between ends the row
        caplog.clear()
        exchange.login_refusal = ("60006", "Expired.")
        exchange.sessions[-1].drop()
        for wait in waits:
            said = f"60006 Expired. (check the clock of this machine). Next try in {wait}.0 s."
            wait_for(lambda: said in caplog.text)  # noqa: B023
        with pytest.raises(OrderError, match=r"60006 Expired.*: nothing was sent"):
            trader.request("order", BUY)
        exchange.login_refusal = None
        wait_for(lambda: trader.saw(SUBSCRIBED, 1 + turn))  # noqa: B023


def test_logins_go_by_the_exchanges_clock_and_a_line_says_so_once(exchange, connect, impatient, keys, caplog):
    for skew, said in ((300.0, "300 s behind"), (-61.0, "61 s ahead of"), (3.0, "")):
        exchange.skew = skew
        caplog.clear()
        client = connect("orders:instType=ANY", credentials=keys)
        for turn in (1, 2):
            wait_for(lambda: client.saw(SUBSCRIBED, turn))  # noqa: B023
            assert abs(client.exchange_time() - time.time() - (skew if said else 0.0)) < 1.6, skew
            exchange.sessions[-1].drop()
        client.close()
        assert caplog.text.count(f"This clock is {said}") == bool(said), skew
    exchange.skew, exchange.dateless = 20.0, True
    client = connect("account", credentials=keys)
    wait_for(lambda: client.rows)
    assert abs(client.exchange_time() - time.time()) < 1.0


def test_a_login_that_is_not_answered_is_tried_on_a_new_connection(exchange, connect, impatient, keys, monkeypatch):
    monkeypatch.setattr(okex_ws, "CONFIRM_TIMEOUT", 0.2)
    exchange.ignored = "login"
    client = connect("account", credentials=keys)
    wait_for(lambda: client.saw(DISCONNECTED))
    assert "login was not answered" in dict(client.statuses)[DISCONNECTED]
    exchange.ignored = ""
    wait_for(lambda: client.rows)


def test_an_answer_to_the_login_counts_though_it_is_late_or_says_already(exchange, in_login):
    for answer in (
        '{"event":"login","code":"0","msg":"","connId":"a4d3ae55"}',
        '{"event":"error","code":"60031","msg":"Repeated login","connId":"a"}',
    ):
        client, session = in_login("account")
        session.logged_in = True
        session.send(answer)
        wait_for(lambda: client.rows)  # noqa: B023
        assert client.counts["connects"] == 1, answer


def test_what_passes_during_a_login_is_tried_again_and_ends_nothing(exchange, in_login, impatient, caplog, monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_RETRY", 0.01)
    troubles = [("error", code) for code in ("50001", "60014", "64007")]  # 50001 is about nothing in particular
    troubles += [("login", code) for code in ("50001", "50011", "50013", "50026", "50061", "60014", "64007")]
    for event, code in [("drop", ""), *troubles]:
        caplog.clear()
        client, session = in_login("account")
        if event == "drop":
            session.drop()
        else:
            session.send(json.dumps({"event": event, "code": code, "msg": "try again", "connId": "a"}))
        wait_for(lambda: client.rows or not client.thread.is_alive())  # noqa: B023
        assert client.rows and client.counts["connects"] == 2, f"{event} {code}: {client.error}"
        assert code in caplog.text and spoken(exchange)[-2:] == ["login", "subscribe"], f"{event} {code}"
        client.close()


def test_keys_come_from_the_environment_and_those_that_are_missing_are_named(exchange, connect, monkeypatch):
    for name in Credentials.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for channel in PRIVATE.values():
        needed = "OKX_API_KEY, OKX_SECRET_KEY" + ("" if channel.startswith("ok_") else ", OKX_PASSPHRASE")
        assert refusal(partial(OkexWS, [channel])) == f"{channel} needs an API key: set {needed}"
    assert "order needs an API key" in refusal(partial(OkexWS(["trades:BTC-USDT"]).request, "order", BUY))
    monkeypatch.setenv("OKX_API_KEY", exchange.keys[0])
    assert "set OKX_SECRET_KEY, OKX_PASSPHRASE" in refusal(partial(OkexWS, ["account"]))
    for name, value in zip(Credentials.VARIABLES, exchange.keys):
        monkeypatch.setenv(name, value)
    client = connect("account")
    wait_for(lambda: client.rows)


def test_no_key_is_sent_where_anybody_can_read_it(keys):
    for url, options in (
        ("ws://example.com", {}),
        ("ws://127.evil.example", {}),
        ("ws://localhost.evil.example", {}),
        ("ws://localhost", {"proxy": "http://proxy.example:3128"}),
    ):
        said = refusal(partial(OkexWS, ["account"], url=url, credentials=keys, **options))
        assert "not sent over" in said and "use wss://" in said, (url, options)


def test_no_redirect_is_followed_and_no_key_sent_after_one(exchange, connect, impatient, keys):
    with Exchange() as elsewhere:
        exchange.redirect = f"{elsewhere.url}/ws/v5/private"
        client = connect("account", credentials=keys)
        wait_for(lambda: client.saw(DISCONNECTED, 2))
        assert "Redirect" in dict(client.statuses)[DISCONNECTED] and not client.saw(CONNECTED)
        assert elsewhere.handshakes == 0 and elsewhere.requests == exchange.requests == []


# -- Orders
def test_an_order_is_placed_amended_and_cancelled_and_each_gets_its_own_answer(exchange, trader):
    (placed,) = trader.request("order", {**BUY, "clOrdId": "b15"})
    assert placed["sCode"] == "0" and placed["clOrdId"] == "b15"
    same = {"instId": "BTC-USDT", "ordId": placed["ordId"]}
    assert trader.request("amend-order", {**same, "newPx": "2"})[0]["ordId"] == placed["ordId"]
    assert trader.request("cancel-order", same)[0]["sCode"] == "0"
    wait_for(lambda: len(trader.rows) >= 3)
    assert [(row["state"], row["px"]) for _, row in trader.rows] == [("live", "1"), ("live", "2"), ("canceled", "2")]
    sent = [unanswered(exchange, trader, "order", {**RAW, "clOrdId": name}) for name in ("first", "second")]
    for request, _ in reversed(sent):
        answer(exchange, request, {"clOrdId": request["args"][0]["clOrdId"], "sCode": "0", "sMsg": ""})
    assert [result()[0]["clOrdId"] for _, result in sent] == ["first", "second"]


def test_orders_fill_at_market_or_when_it_comes_to_them_and_every_private_channel_tells(exchange, connect, keys):
    client = connect("orders:instType=ANY", "positions:instType=ANY", "balance_and_position", credentials=keys)
    wait_for(lambda: client.saw(SUBSCRIBED, 3))
    client.request("order", {**SWAP, "ordType": "market", "clOrdId": "market"})
    book = exchange.instrument("BTC-USDT")
    client.request("order", {**BUY, "px": book.price(book.middle - 2), "clOrdId": "rests"})
    filled = {("market", "filled"), ("rests", "filled")}
    wait_for(lambda: filled <= {(row.get("clOrdId"), row.get("state")) for _, row in client.rows})
    wait_for(lambda: {channel for channel, _ in client.rows} == set(client.channels))
    assert ("positions:instType=ANY", "1") in [(channel, row.get("pos")) for channel, row in client.rows]


def test_orders_need_no_channel_and_the_integer_for_an_instrument_is_looked_up_once(exchange, connect, keys):
    client = connect(credentials=keys)
    for _ in range(3):
        assert client.request("order", BUY)[0]["sCode"] == "0"
    client.request("batch-orders", [BUY, {**SWAP, "instId": "ETH-USDT-SWAP"}])
    assert spoken(exchange) == ["login", "order", "order", "order", "batch-orders"]
    assert exchange.fetched == [
        "/api/v5/public/instruments?instType=SPOT&instId=BTC-USDT",
        "/api/v5/public/instruments?instType=SWAP&instId=ETH-USDT-SWAP",
    ]
    assert '"instId"' not in str([text for _, text in exchange.requests])
    with pytest.raises(OrderError, match=r"no instIdCode for NOPE-USDT.*nothing was sent"):
        client.request("order", {**BUY, "instId": "NOPE-USDT"})


def test_knows_where_an_instrument_is_listed():
    rest = okex_ws.Rest("trades:BTC-USDT", None, "wss://ws.example", "global", False)
    for instrument, listed in {
        "BTC-USDT": "instType=SPOT",
        "BTC-USDT-SWAP": "instType=SWAP",
        "BTC-USD-261225": "instType=FUTURES",
        "BTC-USD-261225-80000-C": "instType=OPTION&instFamily=BTC-USD",
        "BTC-ABOVE-DAILY-260428-1600-64000": "instType=EVENTS&seriesId=BTC-ABOVE-DAILY",
    }.items():
        rest.get = Mock(return_value=[{"instId": "BTC"}, {"instId": instrument, "state": "live"}])
        assert rest.instrument(instrument)["state"] == "live"
        assert rest.get.call_args[0][0].endswith(f"instruments?{listed}&instId={instrument}")


def test_a_code_that_has_changed_is_looked_up_again_and_nothing_sent_twice(exchange, trader):
    trader.request("order", BUY)
    exchange.codes.clear()  # the exchange gave its instruments new ones
    with pytest.raises(OrderError, match="51001"):
        trader.request("order", BUY)
    assert spoken(exchange).count("order") == 2
    assert trader.request("order", BUY)[0]["sCode"] == "0"
    assert len(exchange.fetched) == 2


def test_a_refused_order_raises_with_code_reason_and_every_leg(exchange, trader):
    with pytest.raises(OrderError, match="51000 Parameter side or sz error") as caught:
        trader.request("order", {**BUY, "side": "hold"})
    error = caught.value
    assert (error.code, error.message, error.unknown) == ("51000", "Parameter side or sz error", False)
    with pytest.raises(OrderError, match="51400"):
        trader.request("cancel-order", {"instId": "BTC-USDT", "ordId": "404"})
    with pytest.raises(OrderError, match=r"^2; 0 ; 51000 Parameter") as caught:
        trader.request("batch-orders", [BUY, {**BUY, "side": "hold"}])
    assert [leg["sCode"] for leg in caught.value.data] == ["0", "51000"]
    exchange.sessions[-1].logged_in = False
    with pytest.raises(OrderError, match="60011 Please log in"):
        trader.request("order", BUY)


def test_an_answer_of_any_shape_reaches_who_waits_for_it(exchange, trader):
    legs = [{"sCode": "0", "sMsg": ""}, {"sCode": "51000", "sMsg": "Parameter px error"}]
    refused = {"id": "$id", "op": "order", "code": "60013", "msg": "Invalid args"}
    echo = {"event": "error", "code": "60013", "msg": 'Invalid args: {"id":"$id","op":"order"}'}
    done = {"id": "$id", "op": "order", "code": "0", "msg": ""}
    for answer, expected in (
        (refused, "60013 Invalid args"),
        (refused | {"data": None}, "60013 Invalid args"),
        (echo, "60013 Invalid args: "),
        (done | {"op": "batch-orders", "data": legs}, "0; 0 ; 51000 Parameter px error"),
        (done | {"data": legs[:1]}, legs[:1]),
    ):
        request, result = unanswered(exchange, trader, "order", RAW)
        exchange.sessions[-1].send(json.dumps(answer).replace("$id", request["id"]))
        try:
            outcome = result()
        except OrderError as error:
            outcome = str(error)
            assert error.code in (answer["code"], "51000") and not error.unknown, answer
        assert outcome == expected or str(outcome).startswith(expected), answer


def test_an_order_of_unknown_fate_is_not_said_to_have_failed(exchange, trader):
    failed = {"sCode": "51008", "sMsg": "Insufficient balance.", "subCode": "1000"}
    late = {"sCode": "51149", "sMsg": "Order timed out.", "subCode": ""}
    for change, code, message, unknown, text in (
        ({"code": "50004", "msg": "Timeout.", "data": []}, "50004", "Timeout.", True, "fate is unknown"),
        ({"code": "1", "data": [late]}, "51149", "Order timed out.", True, "fate is unknown"),
        ({"code": "2", "data": [{"sCode": "0", "sMsg": ""}, late]}, "51149", "Order timed out.", True, "51149"),
        ({"code": "1", "data": [failed, {"sCode": "64007"}]}, "51008", "Insufficient balance.", True, "64007"),
        ({"event": "error", "code": "64007", "msg": "Failed."}, "64007", "Failed.", True, "64007 Failed."),
        ({"code": "1", "data": [failed]}, "51008", "Insufficient balance.", False, "subCode 1000"),
        ({"code": "", "data": [{"sCode": "51001", "sMsg": "No."}]}, "51001", "No.", False, "a new instIdCode"),
        ({"code": "60011", "msg": "Log in.", "data": [failed]}, "60011", "Log in.", False, "51008"),
    ):
        exchange.order_answer = lambda answer: answer | change  # noqa: B023
        with pytest.raises(OrderError, match=text) as caught:
            trader.request("order", RAW)
        error = caught.value
        assert (error.code, error.message, error.unknown) == (code, message, unknown), change


def test_what_must_not_be_sent_is_a_value_error(exchange, trader):
    both = {"instId": "BTC-USDT", "instIdCode": 1}
    for op, args, expires, why in (
        ("order", {**RAW, "px": float("nan")}, None, "nan|JSON"),
        ("batch-orders", [RAW, {**RAW, "sz": float("-inf")}], None, "inf|JSON"),
        ("order", {**RAW, "px": Decimal("NaN")}, None, "NaN"),
        ("amend-order", {**RAW, "at": {1, 2}}, None, "cannot hold"),
        ("order", {**RAW, (1, 2): 3}, None, "keys must be"),
        ("order", [1], None, "is a dict"),
        ("cancel-order", both, None, "not both"),
        ("order-algo", RAW, None, "REST"),
        ("cancel-algos", [RAW], None, "REST"),
        ("order", RAW, 1.9, "2 seconds"),
        ("order", RAW, float("nan"), "2 seconds"),
        ("cancel-order", RAW, 5.0, "orders and amendments"),
    ):
        with pytest.raises(ValueError, match=why):
            trader.request(op, args, expires=expires)
    assert spoken(exchange) == ["login", "subscribe"]


def test_an_order_says_when_it_expires_and_its_decimals_as_digits(exchange, connect, keys):
    exchange.skew = 300.0
    exchange.order_answer = lambda answer: answer | {"code": "0", "data": []}
    client = connect(credentials=keys)
    for op in ("order", "batch-orders", "amend-order", "batch-amend-orders"):
        client.request(op, {**RAW, "px": Decimal("0.10"), "sz": Decimal("1E-8")}, expires=2)
        request = json.loads(exchange.requests[-1][1])
        assert request["args"] == [{**RAW, "px": "0.10", "sz": "0.00000001"}], op
        assert abs(int(request["expTime"]) / 1000 - exchange.now() - 2) < 1.5, op


def test_no_order_goes_to_an_instrument_that_was_not_asked_for(exchange, trader):
    other, code = {"instId": "BTC-USDC", "instIdCode": 777}, {"instId": "BTC-USDT", "instIdCode": 0}
    for rows in ([other], [code], [code | {"instIdCode": "-5"}], [code | {"instIdCode": None}], [], None):
        exchange.rest_rows = lambda path, query, listed: rows  # noqa: B023
        with pytest.raises(OrderError, match=r"no instIdCode for BTC-USDT: the exchange.*nothing was sent"):
            trader.request("order", BUY)
    exchange.rest_rows = lambda path, query, listed: [other, *listed]
    assert trader.request("order", BUY)[0]["sCode"] == "0"
    assert spoken(exchange) == ["login", "subscribe", "order"]


def test_spreads_are_traded_where_they_live(exchange, connect, keys):
    client = connect("sprd-orders", credentials=keys)
    order, leg = {"sprdId": "BTC-USDT_BTC-USDT-SWAP", "sz": "1"}, {"ordId": "1", "sCode": "0"}
    for op in ("sprd-order", "sprd-amend-order", "sprd-cancel-order", "sprd-mass-cancel"):
        request, result = unanswered(exchange, client, op, order)
        assert request["args"] == [order], op
        answer(exchange, request, leg)
        assert result() == [leg], op


def test_a_drop_while_an_order_waits_says_at_once_that_its_fate_is_unknown(exchange, trader, impatient):
    _, result = unanswered(exchange, trader, "order", RAW, 60.0)
    exchange.ignored, exchange.http_status = "", 503
    exchange.sessions[-1].drop()
    with pytest.raises(OrderError, match="fate is unknown") as caught:
        result()
    assert caught.value.unknown
    wait_for(lambda: trader.saw(DISCONNECTED))
    began = time.monotonic()
    with pytest.raises(OrderError, match=r"^not connected: nothing was sent$") as caught:
        trader.request("order", BUY)  # it is not held until it is too late
    assert not caught.value.unknown and time.monotonic() - began < 5.0
    exchange.http_status = 0
    wait_for(lambda: trader.saw(SUBSCRIBED, 2))
    assert trader.request("order", BUY)[0]["sCode"] == "0"
    assert spoken(exchange).count("order") == 2  # none was sent twice


def test_an_answer_that_does_not_come_is_an_unknown_fate(exchange, trader, caplog):
    request, result = unanswered(exchange, trader, "order", RAW, 2.5)
    with pytest.raises(OrderError, match=r"no answer within 2\.5 s: its fate is unknown") as caught:
        result()
    assert caught.value.unknown and spoken(exchange).count("order") == 1
    answer(exchange, request)
    wait_for(lambda: "nobody waits for any more" in caplog.text)


def test_an_order_waits_for_the_login_and_for_the_channel_that_tells_of_it(exchange, in_login, monkeypatch):
    client, session = in_login("orders:instType=SPOT")
    result = in_thread(client.request, "order", {**BUY, "ordType": "market", "tgtCcy": "base_ccy"})
    subscribe = client.dialect.subscribe
    late = lambda *args: (time.sleep(0.2), subscribe(*args))[1]  # noqa: E731 - which an order could use to overtake
    monkeypatch.setattr(client.dialect, "subscribe", late)
    session.drop()  # nor does an order that was not sent yet mind
    assert result()[0]["sCode"] == "0"
    assert spoken(exchange) == ["login", "login", "subscribe", "order"]
    wait_for(lambda: {row["state"] for _, row in client.rows} == {"live", "filled"})


def test_an_order_that_cannot_leave_in_time_is_not_sent_at_all(exchange, trader, connect, keys, monkeypatch):
    get = okex_ws.Rest.get
    late = lambda self, path, timeout: (get(self, path), time.sleep(timeout + 0.1))[0]  # noqa: E731
    monkeypatch.setattr(okex_ws.Rest, "get", late)
    with pytest.raises(OrderError, match="did not answer in time: nothing was sent") as caught:
        trader.request("order", BUY, timeout=0.3)
    assert not caught.value.unknown
    exchange.http_status = 503
    with pytest.raises(OrderError, match="not logged in: nothing was sent") as caught:
        connect(credentials=keys).request("order", RAW, timeout=0.2)
    assert not caught.value.unknown and "order" not in spoken(exchange)


def test_an_order_whose_sending_fails_says_whether_it_may_have_left():
    ready = threading.Event()
    ready.set()
    for error, unknown, why in (
        (okex_ws.websocket.WebSocketConnectionClosedException("not connected"), False, "nothing was sent"),
        (TimeoutError("timed out"), True, "its fate is unknown"),
    ):
        client = Mock(send=Mock(side_effect=error), **{"_login.complete": ready, "_route.url": "https://ws.example"})
        orders = okex_ws.Orders(client)
        with pytest.raises(OrderError, match=why) as caught:
            orders.request("order", RAW, 10.0, None)
        assert caught.value.unknown is unknown, error


def test_the_handlers_own_thread_is_refused_instead_of_waiting_for_itself(trader):
    refused = threading.Event()

    def handler(channel, rows):
        with pytest.raises(RuntimeError, match="another thread"):
            trader.request("cancel-order", RAW)
        refused.set()

    trader.handler = handler
    trader.request("order", BUY)
    assert refused.wait(10)


def test_an_order_that_this_client_cannot_place_is_refused_before_it_is_sent(keys):
    for channel, url, op, why in (
        ("spot/ticker:BTC-USDT", "wss://x", "order", "v3 takes no orders"),
        ("ok_sub_spot_btc_usdt_order", "wss://x", "order", "v1 takes no orders"),
        ("trades:BTC-USDT", None, "order", "does not log in"),
    ):
        client = OkexWS([channel], url=url, credentials=keys)
        assert why in refusal(partial(client.request, op, RAW, 0.1)), (channel, op)


# -- Secrets
def test_secrets_are_hidden_however_they_are_written(caplog):
    caplog.set_level(logging.DEBUG)
    secrets = ["Ab/cd", "Ab/cd+ef==gh secret/", 'pass"word\\é with quotes']  # one may begin like another
    Credentials(*secrets)
    once = [json.dumps(secret)[1:-1] for secret in secrets]
    spellings = {"as they are": secrets, "in JSON": once}
    spellings["in a URL"] = [urllib.parse.quote(secret, safe="") for secret in secrets]
    for how, spelled in spellings.items():
        for text in spelled:
            assert okex_ws.printable_text(f"Invalid request: {text}!") == "Invalid request: ***!", f"{text} {how}"
            okex_ws.okex_log.warning("%s", text)
    okex_ws.okex_log.warning(okex_ws.printable_text("x" * 190 + secrets[1]))
    assert not re.search("Ab/|Ab%2F|ef=|pass", caplog.text)


def test_a_signature_is_hidden_after_many_logins_and_though_the_keys_are_too_short_to_be(exchange, keys, caplog):
    for credentials in (keys, Credentials("k", "s", "p")):
        login = okex_ws.Login(V5, credentials, {}, for_orders=False)
        for second in range(99):
            request = login.request(0.0, 1542153600.0 + second)
        okex_ws.okex_log.warning("sent %s", request)
        assert json.loads(request)["args"][0]["sign"] not in caplog.text
    assert caplog.text.count("***") >= 4 and not any(secret in caplog.text for secret in exchange.keys)


def test_no_piece_of_what_a_login_sent_is_quoted(exchange, in_login, caplog):
    client, session = in_login("account")
    for text in ("nonsense with a piece of the key", '{"event":"a piece of the key"}'):
        session.send(text)
    wait_for(lambda: caplog.text.count("not quoted") == 2)
    assert "piece" not in caplog.text
    login = exchange.requests[-1][1]
    sign = json.loads(login)["args"][0]["sign"]
    key, secret, _ = exchange.keys
    for said in (login, login[:90], key[:13], "stand-in pass", sign[:30], secret[5:], f"apiKey: {key}"):
        client, session = in_login("account")
        session.send(json.dumps({"event": "error", "code": "60009", "msg": f"No good: {said}"}))
        client.thread.join(10)
        assert isinstance(client.error, LoginError) and "60009 No good: " in str(client.error), said
        printed = f"{client.error}{caplog.text}{client.statuses}"
        assert not any(piece in printed for piece in (key[:8], key[9:], secret[5:12], "stand", sign[:8])), printed


def test_no_status_url_repr_or_traceback_shows_a_secret(exchange, connect, keys, impatient, caplog):
    client = connect("trades:BTC-USDT", credentials=keys)
    wait_for(lambda: client.rows)
    exchange.sessions[-1].close(4003, f"too many of {exchange.keys[1]}")
    wait_for(lambda: client.saw(DISCONNECTED))
    assert dict(client.statuses)[DISCONNECTED] == "closed by the exchange with code 4003 too many of ***"
    OkexWS([], url="wss://me:hunter22@ws.example/private")
    okex_ws.okex_log.warning("to %s", "wss://me:hunter22@ws.example/private")
    try:
        raise ValueError(f"oh no {exchange.keys[1]}")
    except ValueError:
        okex_ws.okex_log.exception("with %s", exchange.keys[0])
    text = f"{caplog.text}{keys!r}{keys}{OkexWS(['account'], credentials=keys)!r}"
    assert "oh no ***" in text and "with ***" in text
    assert not any(secret in text for secret in (*exchange.keys, "hunter22"))


# -- On the command line
def test_offline_has_an_account():
    status, out, err = finish("--offline", "account", "orders:instType=ANY", "--count", "1", "--jsonl", "-")
    assert status == 0 and [ccy["cashBal"] for ccy in json.loads(out)["row"]["details"]] == ["1", "10000"]
    assert "Logged in." in err


def test_a_program_or_script_that_cannot_log_in_ends_and_says_why(exchange):
    wrong = dict(zip(Credentials.VARIABLES, ("wrong-key", "wrong-secret", "wrong-pass")))
    script = f"import okex_ws; okex_ws.OkexWS(['account'], url={exchange.url!r}).run()"
    command = partial(program, "account", "trades:BTC-USDT", "--url", exchange.url)
    cases = (
        ("program", command, wrong, 1, "refused the login"),
        ("script", partial(program, code=script), wrong, 1, "LoginError: the exchange refused the login"),
        ("no keys", command, dict.fromkeys(wrong, ""), 2, "set OKX_API_KEY, OKX_SECRET_KEY, OKX_PASSPHRASE"),
    )
    processes = [start(env=keys) for _, start, keys, *_ in cases]
    for process, (case, _, keys, ends, why) in zip(processes, cases):
        _, err = process.communicate(timeout=50)
        assert process.returncode == ends
        assert why in (err if case == "program" else err.splitlines()[-1]), f"{case}: {err}"
        assert ("Traceback" in err) == (case == "script"), f"{case}: {err}"
        assert not any(secret and secret in err for secret in keys.values()), f"{case}: {err}"


def test_no_secret_is_printed_whatever_is_asked_for(exchange, tmp_path):
    exchange.keys = (*exchange.keys[:2], 'with"quirk')  # which is spelled in another way in JSON
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
    for secret in (*exchange.keys, "quirk", json.loads(login)["args"][0]["sign"]):
        assert secret not in said
