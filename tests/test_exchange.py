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


def get(exchange, path="public/instruments", **query):
    """What REST answers: the rows, or the code of the refusal."""
    path = f"/api/v5/{path}?" + "&".join(f"{name}={value}" for name, value in query.items())
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
    return dict(pair.split("=") for pair in f"channel={text}".split())


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
    spot = {row["instId"]: row for row in get(exchange, instType="SPOT")}
    assert spot["BTC-USDT"]["state"] == "live" and spot["HALT-USDT"]["state"] == "suspend"
    assert not {"BTC-BTC", "NOPE-USDT", "C0001-USDT"} & set(spot)
    assert get(exchange, instType="OPTION") == "50015"
    assert get(exchange) == "50014"
    assert {row["uly"] for row in get(exchange, instType="OPTION", instFamily="BTC-USD")} == {"BTC-USD"}
    futures = get(exchange, instType="FUTURES", uly="BTC-USD")
    assert get(exchange, instType="FUTURES", instId=futures[0]["instId"]) == futures[:1]
    assert len({row["instIdCode"] for row in spot.values()}) == len(spot)


def test_futures_expire_on_the_fridays_of_the_exchange():  # on a Friday, what is delivered at 08:00 is gone
    assert " ".join(map(str, expiries(date(2026, 12, 18)))) == "2026-12-25 2027-01-01 2027-01-29 2027-03-26 2027-06-25"
    for n in range(800):
        today = date(2026, 1, 1) + timedelta(days=n)
        days = expiries(today)
        assert days[0] - today <= timedelta(days=7) and all(day > today and day.weekday() == 4 for day in days)


def test_what_is_not_listed_is_refused_and_more_can_be_listed(exchange):
    args = [{"channel": "tickers", "instId": name} for name in ("C0001-USDT", "C0900-USDT-SWAP", "BTC-BTC")]
    with talk(exchange) as ws:
        assert ask(ws, *args, {"channel": "instruments", "instType": "SWAP"}) == [*["60018"] * 3, "subscribe"]
        exchange.more_coins = 1
        assert [row["instId"] for row in json.loads(ws.recv())["data"]] == ["C0001-USDT-SWAP"]
        exchange.more_coins = 1000
        assert ask(ws, *args) == ["subscribe", "subscribe", "60018"]
    assert set(exchange.instruments) - {"BTC-USDT"} == {"C0001-USDT", "C0900-USDT-SWAP"}  # no others walk


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

    exchange.connects_a_second = 0
    with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
        talk(exchange)
    exchange.connects_a_second = None
    with talk(exchange):
        wait_for(lambda: exchange.sessions)


def test_each_channel_has_its_endpoint_its_login_and_its_arguments(exchange):
    future = next(name for name, i in exchange.listed.items() if i.kind == "FUTURES")
    option = next(name for name, i in exchange.listed.items() if i.kind == "OPTION")
    answers = {  # of an endpoint to channels
        ("public", "subscribe"): f"mark-price instId={option}, open-interest instId={future}, "
        f"option-trades instType=OPTION instId={option}, liquidation-orders instType=FUTURES instFamily=ETH-USD",
        ("public", "60018"): f"open-interest instId=BTC-USDT, funding-rate instId={future}, instruments, "
        "index-tickers instId=BTC-USD-SWAP, option-trades instType=OPTION, liquidation-orders instType=SPOT",
        ("public", "64000"): "opt-summary uly=BTC-USD",
        ("public", "64001"): "block-tickers instId=BTC-USDT, sprd-tickers sprdId=BTC-USDT_BTC-USDT-SWAP",
        ("public", "60011"): "books-l2-tbt instId=BTC-USDT",
        ("business", "subscribe"): "index-candle1m instId=BTC-USD, sprd-tickers sprdId=BTC-USDT_BTC-USDT-SWAP",
        ("business", "60018"): "trades instId=BTC-USDT, sprd-tickers sprdId=BTC-USDT, "
        "sprd-tickers instId=BTC-USDT_BTC-USDT-SWAP, trades-all instId=BTC-USDT_BTC-USDT-SWAP",
        ("business", "60011"): "sprd-orders, deposit-info",
        ("private", "60011"): "fills",
    }
    for (endpoint, answer), texts in answers.items():
        check(exchange, endpoint, [(answer, text) for text in texts.split(", ")])
    private = ["fills", "account-greeks ccy=BTC", "liquidation-warning instType=ANY", "orders instType=SPOT"]
    business = ["orders-algo instType=ANY", "algo-advance instType=SPOT", "grid-positions algoId=1", "deposit-info"]
    bad = [("60018", "orders"), ("60018", "positions instType=NONE"), ("60018", "orders instType=ANY algoId=1")]
    check(exchange, "private", [*(("subscribe", text) for text in private), *bad], login=True)
    bad = [("60018", "orders-algo"), ("60018", "grid-positions"), ("60018", "account")]
    check(exchange, "business", [*(("subscribe", text) for text in business), *bad], login=True)


def test_refuses_as_it_is_told_to(exchange):
    exchange.refusals = {"trades:BTC-USDT": ("60029", "No"), "orders:ANY": ("64003", "No")}
    check(exchange, "public", [("60029", "trades instId=BTC-USDT"), ("subscribe", "trades instId=ETH-USDT")])
    orders = [("64003", "orders instType=ANY"), ("subscribe", "orders instType=SPOT")]
    check(exchange, "private", orders, login=True)


def test_repeats_books_on_which_nothing_happens_but_not_what_is_lost(exchange):
    exchange.every, exchange.lost = None, {"books:ETH-USDT": 1}
    names = ["books instId=ETH-USDT", "books instId=BTC-USDT", "books5 instId=BTC-USDT", "tickers instId=BTC-USDT"]
    with talk(exchange) as ws:
        ask(ws, *map(argument, names))
        assert len(said_by(ws)) == 1  # the first ticker
        exchange.repeats = 0.0
        book, five = wait_for(lambda: said_by(ws)[:2])
    assert (book["arg"]["channel"], book["action"], five["arg"]["channel"]) == ("books", "update", "books5")
    (empty,), sequence = book["data"], exchange.instrument("BTC-USDT").sequence
    assert (empty["asks"], empty["seqId"], empty["prevSeqId"]) == ([], sequence, sequence)


def trade(exchange, what, op="order", **more):
    """Order something, as in "BTC-USDT buy 100": the code of the refusal, or what became of the order."""
    name, *values = what.split()
    arg = {"instIdCode": exchange.listed[name].code, "ordType": "market", "tdMode": "cross", **more}
    exchange.codes[arg["instIdCode"]] = name
    answer = exchange.account.operate(op, arg | dict(zip(("side", "sz"), values)))
    exchange.account.tell()
    return exchange.account.orders[answer["ordId"]] if answer["sCode"] == "0" else answer["sCode"]


def funds(exchange, ccy="USDT"):
    """What there is of a currency, and how much of it is frozen."""
    row = exchange.account.balance(ccy)
    return float(row["cashBal"]), float(row["frozenBal"])


def test_spot_is_paid_for_and_sold_again_less_fees(exchange):
    bought = trade(exchange, "BTC-USDT buy 830")
    price, size = float(bought["avgPx"]), float(bought["accFillSz"])
    assert 829.99 < price * size <= 830 and (bought["tgtCcy"], bought["feeCcy"]) == ("quote_ccy", "BTC")
    assert funds(exchange, "BTC") == (pytest.approx(1 + size * 0.999), 0)
    sold = trade(exchange, "BTC-USDT sell 0.5")
    assert funds(exchange)[0] == pytest.approx(10_000 - price * size + float(sold["avgPx"]) * 0.5 * 0.999)
    assert (sold["tgtCcy"], sold["feeCcy"], exchange.account.positions) == ("base_ccy", "USDT", {})
    assert trade(exchange, "BTC-USDT buy 0.01", tgtCcy="base_ccy")["accFillSz"] == "0.01"


def test_what_is_not_covered_or_has_no_right_size_is_refused_and_resting_orders_freeze(exchange):
    refused = ["BTC-USDT buy 10001", "BTC-USDT sell 1.1", "BTC-USDT-SWAP buy 200", "BTC-USD-SWAP sell 9000"]
    refused += ["BTC-USDT buy 0.1", "BTC-USDT sell 0.000001", "BTC-USDT-SWAP sell 0.5", "BTC-USDT-SWAP sell 1.5"]
    assert [trade(exchange, order) for order in refused] == ["51008"] * 4 + ["51020"] * 3 + ["51121"]
    id = trade(exchange, "BTC-USDT buy 0.1", ordType="limit", px="50000")["ordId"]
    assert funds(exchange) == (10_000, 5_000) and trade(exchange, "BTC-USDT buy 5001") == "51008"
    assert trade(exchange, "BTC-USDT", "amend-order", ordId=id, newSz="0.3") == "51008"
    assert trade(exchange, "BTC-USDT", "amend-order", ordId=id, newPx="60000")["px"] == "60000"
    assert funds(exchange) == (10_000, 6_000)
    assert trade(exchange, "BTC-USDT", "cancel-order", ordId=id)["cancelSource"] == "1" and funds(exchange)[1] == 0
    assert trade(exchange, "BTC-USDT", "amend-order", ordId=id, newPx="6") == "51503"


def test_positions_open_reduce_hedge_and_flip_and_are_there_after_a_reconnect(exchange):
    assert trade(exchange, "BTC-USDT-SWAP sell 2", reduceOnly=True)["cancelSource"] == "17"
    entry = float(trade(exchange, "BTC-USDT-SWAP buy 3")["avgPx"])
    assert funds(exchange) == pytest.approx((10_000 - 0.03 * entry * 0.0005, 0.03 * entry / 10))
    exchange.instrument("BTC-USDT-SWAP").middle += 1000
    exchange.instrument("BTC-USDT-SWAP").step()
    cash, flipped = funds(exchange)[0], trade(exchange, "BTC-USDT-SWAP sell 5")
    price, pnl = float(flipped["avgPx"]), float(flipped["pnl"])
    assert pnl == pytest.approx(0.03 * (price - entry))
    assert funds(exchange) == pytest.approx((cash + pnl + float(flipped["fee"]), 0.02 * price / 10))
    assert trade(exchange, "BTC-USDT-SWAP buy 9", reduceOnly=True)["sz"] == "2" and funds(exchange)[1] == 0
    for order, side in ("buy 5", "long"), ("sell 7", "short"), ("buy 9", "short"), ("sell 2", "short"):
        trade(exchange, f"BTC-USD-SWAP {order}", posSide=side)  # the third buys 7
    with talk(exchange, "private") as ws:
        log_in(exchange, ws)
        ask(ws, argument("positions instType=ANY"))
        (snapshot,) = said_by(ws)
    assert (snapshot["eventType"], snapshot["lastPage"]) == ("snapshot", True)
    assert [(row["posSide"], row["pos"]) for row in snapshot["data"]] == [("long", "5"), ("short", "2")]


def all_pages(exchange, resource, key):
    """Everything that REST lists of BTC-USDT, page by page, newest first."""
    rows, where = [], {"instId": "BTC-USDT"}
    while (page := get(exchange, f"market/{resource}", **where)) != "0":
        rows += page
        where["after"] = page[-1][key]
    return rows


def test_rest_lists_the_past_of_the_walk_whose_candles_are_those_of_its_trades(exchange):
    exchange.every = None
    trades, minutes = all_pages(exchange, "history-trades", "tradeId"), all_pages(exchange, "candles", 0)
    assert [int(trades[0]["tradeId"]) - int(row["tradeId"]) for row in trades] == list(range(len(trades)))
    assert len(trades) > 5400 and len(minutes) >= 3 * 1440
    for begin, opened, high, low, close, *_ in minutes[:180]:
        prices = [row["px"] for row in trades if 0 <= int(row["ts"]) - int(begin) < 60_000]
        assert [prices[-1], max(prices), min(prices), prices[0]] == [opened, high, low, close]
    assert all(abs(float(minutes[n][1]) - float(minutes[n + 1][4])) < 10 for n in range(4000))  # from close to open
    for bar in ("5m", "15m", "1H", "1D"):
        assert len(get(exchange, "market/candles", instId="BTC-USDT", bar=bar, limit=300)) == 300
    assert len(all_pages(exchange, "mark-price-candles", 0)) == 1440
    assert len(all_pages(exchange, "history-mark-price-candles", 0)) > 1440
