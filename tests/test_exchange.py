"""The stand-in exchange lists, refuses and limits as the exchange does."""

import json
from contextlib import closing
from datetime import date, timedelta
from http.client import HTTPConnection

import pytest
import websocket
from conftest import wait_for
from exchange import expiries

import okex_ws


def instruments(exchange, **query):
    """What REST answers: the rows, or the code of the refusal."""
    path = "/api/v5/public/instruments?" + "&".join(f"{name}={value}" for name, value in query.items())
    with closing(HTTPConnection("127.0.0.1", exchange.port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = json.load(connection.getresponse())
    return answer["data"] or answer["code"]


def talk(exchange, endpoint="public"):
    return closing(websocket.create_connection(f"{exchange.url}/ws/v5/{endpoint}", timeout=10))


def ask(ws, *args, op="subscribe"):
    """Send a request and read until each argument is answered: what was confirmed or refused, in order."""
    ws.send(json.dumps({"id": "1", "op": op, "args": args}))
    answers = []
    while len(answers) < len(args):
        message = json.loads(ws.recv())
        if "event" in message:
            answers.append(message.get("code") or message["event"])
    return answers


def argument(text):
    """'orders instType=ANY' as the exchange has it."""
    name, *pairs = text.split()
    return {"channel": name, **dict(pair.split("=") for pair in pairs)}


def push(ws):
    """The next push: its channel, its event or action, and its rows."""
    while True:
        message = json.loads(ws.recv())
        if "data" in message and "op" not in message:
            return message["arg"]["channel"], message.get("eventType") or message.get("action"), message["data"]


def said_by(ws):
    """All that has been sent until now."""
    ws.send("ping")
    return [json.loads(text) for text in iter(ws.recv, "pong")]


def log_in(exchange, ws):
    ws.send(okex_ws.V5.login(okex_ws.Credentials(*exchange.keys), exchange.now()))
    answer = json.loads(ws.recv())
    return answer.get("code"), answer.get("msg")


def check(exchange, endpoint, cases, login=False):
    """Ask one endpoint for everything, and compare what it said to each."""
    with talk(exchange, endpoint) as ws:
        if login:
            assert log_in(exchange, ws) == ("0", "")
        answers = ask(ws, *(argument(text) for _, text in cases))
    assert [(answer, text) for answer, (_, text) in zip(answers, cases)] == cases


def test_lists_instruments_by_kind_family_and_name(exchange):
    spot = {row["instId"]: row for row in instruments(exchange, instType="SPOT")}
    assert spot["BTC-USDT"]["state"] == "live" and spot["HALT-USDT"]["state"] == "suspend"
    assert not {"BTC-BTC", "NOPE-USDT", "C0001-USDT"} & set(spot)
    assert instruments(exchange, instType="OPTION") == "50015"
    assert instruments(exchange) == "50014"
    assert {row["uly"] for row in instruments(exchange, instType="OPTION", instFamily="BTC-USD")} == {"BTC-USD"}
    futures = instruments(exchange, instType="FUTURES", uly="BTC-USD")
    assert instruments(exchange, instType="FUTURES", instId=futures[0]["instId"]) == futures[:1]
    assert len({row["instIdCode"] for row in spot.values()}) == len(spot)


@pytest.mark.parametrize(
    ("today", "fridays"),
    [
        ("2026-11-22", "2026-11-27 2026-12-04 2026-12-25 2027-03-26"),
        ("2026-12-18", "2026-12-25 2027-01-01 2027-01-29 2027-03-26 2027-06-25"),  # delivered at 08:00: of next week
    ],
)
def test_futures_expire_on_the_fridays_of_the_exchange(today, fridays):
    assert [str(day) for day in expiries(date.fromisoformat(today))] == fridays.split()


def test_futures_are_those_of_any_day():
    for n in range(800):
        today = date(2026, 1, 1) + timedelta(days=n)
        days = expiries(today)
        assert days[0] - today <= timedelta(days=7) and all(day > today and day.weekday() == 4 for day in days)


def test_what_is_not_listed_is_refused_and_more_can_be_listed(exchange):
    args = [{"channel": "tickers", "instId": name} for name in ("C0001-USDT", "C0900-USDT-SWAP", "BTC-BTC")]
    with talk(exchange) as ws:
        assert ask(ws, *args) == ["60018"] * 3
        exchange.more_coins = 1000
        assert ask(ws, *args) == ["subscribe", "subscribe", "60018"]
    assert set(exchange.instruments) == {"C0001-USDT", "C0900-USDT-SWAP"}  # no others walk


def test_a_thousand_markets_take_turns(exchange):
    exchange.more_coins = 1000
    names = {name for name in exchange.listed if name.startswith("C") and name.endswith("-SWAP")}
    with talk(exchange) as ws:
        assert set(ask(ws, *({"channel": "tickers", "instId": name} for name in names))) == {"subscribe"}
        moved = set()
        while moved != names:
            moved.add(json.loads(ws.recv())["arg"]["instId"])


def test_holds_a_client_to_the_limits(exchange):
    exchange.requests_an_hour = 3
    book = {"channel": "books", "instId": "BTC-USDT"}
    with talk(exchange) as ws:
        assert ask(ws, book, {**book, "channel": "books5"}) == ["subscribe", "subscribe"]
        assert ask(ws, book, op="unsubscribe") == ["unsubscribe"]
        assert ask(ws, book) == ["subscribe"]
        assert ask(ws, book) == ["60014"]
    (usage,) = exchange.usage.values()
    assert (usage.endpoint, usage.requests, usage.channels, usage.books) == ("public", 4, 2, 1)
    with talk(exchange) as ws:
        ws.send(json.dumps({"op": "subscribe", "args": [book] * 2000}))
        opcode, data = ws.recv_data()
        assert (opcode, int.from_bytes(data[:2], "big")) == (websocket.ABNF.OPCODE_CLOSE, 1009)


def test_admits_so_many_connections_a_second(exchange):
    exchange.connects_a_second = 0
    with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
        talk(exchange)
    exchange.connects_a_second = None
    with talk(exchange):
        wait_for(lambda: exchange.sessions)


def test_each_channel_has_its_endpoint_its_login_and_its_arguments(exchange):
    future = next(name for name, i in exchange.listed.items() if i.kind == "FUTURES")
    option = next(name for name, i in exchange.listed.items() if i.kind == "OPTION")
    cases = [
        ("public", "subscribe", "price-limit instId=BTC-USDT"),
        ("public", "subscribe", f"mark-price instId={option}"),
        ("public", "subscribe", f"open-interest instId={future}"),
        ("public", "60018", "open-interest instId=BTC-USDT"),
        ("public", "subscribe", "funding-rate instId=BTC-USDT-SWAP"),
        ("public", "60018", f"funding-rate instId={future}"),
        ("public", "subscribe", "index-tickers instId=BTC-USD"),
        ("public", "60018", "index-tickers instId=BTC-USD-SWAP"),
        ("public", "subscribe", "instruments instType=SWAP"),
        ("public", "60018", "instruments"),
        ("public", "subscribe", "opt-summary instFamily=BTC-USD"),
        ("public", "64000", "opt-summary uly=BTC-USD"),
        ("public", "60018", "option-trades instType=OPTION"),
        ("public", "subscribe", f"option-trades instType=OPTION instId={option}"),
        ("public", "subscribe", "estimated-price instType=FUTURES instFamily=BTC-USD"),
        ("public", "subscribe", "liquidation-orders instType=FUTURES instFamily=ETH-USD"),
        ("public", "60018", "liquidation-orders instType=SPOT"),
        ("public", "subscribe", "event-contract-markets"),
        ("public", "64001", "block-tickers instId=BTC-USDT"),
        ("public", "60011", "books-l2-tbt instId=BTC-USDT"),
        ("public", "64001", "sprd-tickers sprdId=BTC-USDT_BTC-USDT-SWAP"),
        ("public", "subscribe", "call-auction-details instId=BTC-USDT"),
        ("business", "subscribe", "block-tickers instId=BTC-USDT"),
        ("business", "subscribe", "index-candle1m instId=BTC-USD"),
        ("business", "60018", "trades instId=BTC-USDT"),
        ("business", "subscribe", "sprd-tickers sprdId=BTC-USDT_BTC-USDT-SWAP"),
        ("business", "60018", "sprd-tickers sprdId=BTC-USDT"),
        ("business", "60018", "sprd-tickers instId=BTC-USDT_BTC-USDT-SWAP"),
        ("business", "60018", "trades-all instId=BTC-USDT_BTC-USDT-SWAP"),
        ("business", "60011", "sprd-orders"),
        ("business", "60011", "deposit-info"),
        ("private", "60011", "fills"),
    ]
    for endpoint in ("public", "business", "private"):
        check(exchange, endpoint, [(answer, text) for at, answer, text in cases if at == endpoint])


def test_with_a_login_private_channels_are_confirmed(exchange):
    private = ["fills", "account-greeks ccy=BTC", "liquidation-warning instType=ANY", "orders instType=SPOT"]
    business = ["orders-algo instType=ANY", "algo-advance instType=SPOT", "grid-positions algoId=1", "deposit-info"]
    bad = [("60018", "orders"), ("60018", "positions instType=NONE"), ("60018", "orders instType=ANY algoId=1")]
    check(exchange, "private", [*(("subscribe", text) for text in private), *bad], login=True)
    bad = [("60018", "orders-algo"), ("60018", "grid-positions"), ("60018", "account")]
    check(exchange, "business", [*(("subscribe", text) for text in business), *bad], login=True)


def test_what_is_listed_later_is_pushed(exchange):
    with talk(exchange) as ws:
        assert ask(ws, {"channel": "instruments", "instType": "SWAP"}) == ["subscribe"]
        exchange.more_coins = 1
        assert [row["instId"] for row in json.loads(ws.recv())["data"]] == ["C0001-USDT-SWAP"]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("opt-summary instFamily=BTC-USD", "instId delta markVol fwdPx"),
        ("option-trades instType=OPTION instFamily=BTC-USD", "instId px sz side markPx optType"),
        ("liquidation-orders instType=FUTURES", "instId details instFamily"),
        ("price-limit instId=BTC-USDT", "instId buyLmt sellLmt enabled"),
        ("books-rpi instId=BTC-USDT", "asks bids seqId prevSeqId"),
        ("sprd-public-trades sprdId=BTC-USDT_BTC-USDT-SWAP", "sprdId tradeId px sz side ts"),
        ("sprd-tickers sprdId=BTC-USDT_BTC-USDT-SWAP", "sprdId last lastSz bidPx askPx vol24h"),
        ("sprd-books-l2-tbt sprdId=BTC-USDT_BTC-USDT-SWAP", "asks bids seqId prevSeqId checksum"),
        ("sprd-books5 sprdId=BTC-USDT_BTC-USDT-SWAP", "asks bids ts seqId"),
    ],
)
def test_rows_have_the_fields_of_the_exchange(exchange, text, fields):
    with talk(exchange, "business" if text.startswith("sprd-") else "public") as ws:
        assert ask(ws, argument(text)) == ["subscribe"]
        assert set(fields.split()) <= set(json.loads(ws.recv())["data"][0])


def test_refuses_what_it_is_told_to(exchange):
    exchange.refusals = {"trades:BTC-USDT": ("60029", "Not for you"), "orders:ANY": ("64003", "Fee tier too low")}
    exchange.refusals["account"] = ("64007", "Try again")
    trades = argument("trades instId=BTC-USDT")
    with talk(exchange) as ws:
        assert ask(ws, trades, argument("trades instId=ETH-USDT")) == ["60029", "subscribe"]
        del exchange.refusals["trades:BTC-USDT"]
        assert ask(ws, trades) == ["subscribe"]
        exchange.refusals["trades:BTC-USDT"] = ("60029", "Not for you")
        assert ask(ws, trades, op="unsubscribe") == ["unsubscribe"]
    exchange.login_refusal = ("50101", "APIKey does not match current environment.")
    with talk(exchange, "private") as ws:
        assert log_in(exchange, ws) == exchange.login_refusal
        exchange.login_refusal = None
        assert log_in(exchange, ws) == ("0", "")
        private = ("orders instType=ANY", "orders instType=SPOT", "account")
        assert ask(ws, *map(argument, private)) == ["64003", "subscribe", "64007"]


def test_repeats_books_on_which_nothing_happens_but_not_what_is_lost(exchange):
    exchange.every, exchange.lost = None, {"books:ETH-USDT": 1}
    names = ["books", "books5", "bbo-tbt", "tickers"]
    with talk(exchange) as ws:
        ask(ws, *(argument(f"{name} instId=BTC-USDT") for name in names), argument("books instId=ETH-USDT"))
        exchange.repeats = 0.0
        pushes = [push(ws) for _ in range(7)][1:]  # the first is of ETH-USDT
    assert [channel for channel, _, _ in pushes] == ["books", "books5", "bbo-tbt"] * 2
    empty, five = pushes[0][2][0], pushes[1][2][0]
    sequence = exchange.instrument("BTC-USDT").sequence
    assert pushes[0][1] == "update" and empty["asks"] == empty["bids"] == [] and len(five["asks"]) == 5
    assert {empty["seqId"], empty["prevSeqId"], five["seqId"]} == {sequence}


def test_answers_orders_as_it_is_told_to(exchange):
    (listed,) = instruments(exchange, instType="SPOT", instId="BTC-USDT")
    order = {
        "instIdCode": listed["instIdCode"],
        "side": "buy",
        "ordType": "limit",
        "px": "1",
        "sz": "1",
        "tdMode": "cash",
    }
    changes = [lambda answer: None, lambda answer: answer | {"code": "50004", "data": []}]
    with talk(exchange, "private") as ws:
        log_in(exchange, ws)
        heard = []
        for exchange.order_answer in changes:
            ws.send(json.dumps({"id": "1", "op": "order", "args": [order]}))
            heard.append(said_by(ws))
    assert not heard[0] and [(answer["code"], answer["data"]) for answer in heard[1]] == [("50004", [])]
    assert len(exchange.account.orders) == 2


def test_rest_may_answer_a_web_page_and_a_handshake_no_date(exchange):
    exchange.rest_body, exchange.dateless = b"<html>Sorry</html>", True
    with closing(HTTPConnection("127.0.0.1", exchange.port, timeout=10)) as connection:
        connection.request("GET", "/api/v5/public/time")
        answer = connection.getresponse()
        said = answer.status, answer.getheader("Content-Type"), answer.read()
    assert said == (200, "text/html", exchange.rest_body)
    with talk(exchange) as ws:
        assert "date" not in ws.getheaders()
    exchange.dateless = False
    with talk(exchange) as ws:
        assert "date" in ws.getheaders()
