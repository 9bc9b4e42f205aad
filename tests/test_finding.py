"""Who mistypes a channel, remembers another name of it, or wants all of a kind, gets what exists."""

import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import pytest
from conftest import wait_for
from exchange import Exchange, ServerV5, channel_of
from test_cli import PATIENT

import okex_ws
from okex_ws import REFUSED, V1, V3, V5, Finder, Instruments, OkexWS, find_channels, misnomer, todays_channel

SCRIPT = Path(okex_ws.__file__)


def run(*arguments, offline=True, code=None):
    command = [sys.executable, *(["-c", code] if code else [SCRIPT]), *(["--offline"] if offline else []), *arguments]
    options = {"cwd": SCRIPT.parent if code else None, "stdin": subprocess.DEVNULL}
    return subprocess.run(command, capture_output=True, text=True, timeout=50, **options)


@pytest.fixture
def started():
    """Start okex_ws.py, and end it with the test."""
    processes = []

    def start(*arguments):
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        processes.append(subprocess.Popen([sys.executable, SCRIPT, *arguments], **streams))

    yield start
    for process in processes:
        process.kill()
        process.wait()


# -- Did you mean

MISSPELLED = {
    "ticker:BTC-USDT": "tickers:BTC-USDT",
    "Tickers:BTC-USDT": "tickers:BTC-USDT",
    "TICKERS:btcusdt": "tickers:BTC-USDT",
    "tikcers:BTC-USDT": "tickers:BTC-USDT",
    "price:eth": "tickers:ETH-USDT",
    "trade:BTC-USDT": "trades:BTC-USDT",
    "trades": "trades:BTC-USDT",
    "trades:": "trades:BTC-USDT",
    "trade:": "trades:BTC-USDT",
    "trads:BTC-USDT-SWAP": "trades:BTC-USDT-SWAP",
    "trades:BTCUSDT": "trades:BTC-USDT",
    "trades:btc-usdt": "trades:BTC-USDT",
    "trades:BTC/USDT": "trades:BTC-USDT",
    "trades:btc_usdt": "trades:BTC-USDT",
    "trades:btc": "trades:BTC-USDT",
    "trades:xbtusd": "trades:BTC-USD",
    "trades:BTCUSDT-PERP": "trades:BTC-USDT-SWAP",
    "trades:btcusdtswap": "trades:BTC-USDT-SWAP",
    "trades:ETHBTC": "trades:ETH-BTC",
    "trades_all:BTC-USDT": "trades-all:BTC-USDT",
    "deals:BTC-USDT": "trades:BTC-USDT",
    "book:BTC-USDT": "books:BTC-USDT",
    "boks:BTC-USDT": "books:BTC-USDT",
    "books:btc-usdt": "books:BTC-USDT",
    "orderbook:BTC-USDT": "books:BTC-USDT",
    "depth:BTC-USDT": "books:BTC-USDT",
    "depth5:BTC-USDT": "books5:BTC-USDT",
    "books-5:BTC-USDT": "books5:BTC-USDT",
    "bbo:BTC-USDT": "bbo-tbt:BTC-USDT",
    "book-l2-tbt:BTC-USDT": "books-l2-tbt:BTC-USDT",
    "candle:BTC-USDT": "candle1m:BTC-USDT",
    "candle1h:BTC-USDT": "candle1H:BTC-USDT",
    "candle60s:BTC-USDT": "candle1m:BTC-USDT",
    "candle60m:BTC-USDT": "candle1H:BTC-USDT",
    "candles5m:BTC-USDT": "candle5m:BTC-USDT",
    "kline_1d:BTC-USDT": "candle1D:BTC-USDT",
    "klines:BTC-USDT": "candle1m:BTC-USDT",
    "candle1dutc:BTC-USDT": "candle1Dutc:BTC-USDT",
    "mark-price-candles1m:BTC-USDT-SWAP": "mark-price-candle1m:BTC-USDT-SWAP",
    "fundingrate:BTC-USDT-SWAP": "funding-rate:BTC-USDT-SWAP",
    "funding:BTC-USDT-SWAP": "funding-rate:BTC-USDT-SWAP",
    "funding-rate:BTC-USDT": "funding-rate:BTC-USDT-SWAP",
    "open_interest:BTC-USDT-SWAP": "open-interest:BTC-USDT-SWAP",
    "open-interest:BTC-USDT": "open-interest:BTC-USDT-SWAP",
    "index-tickers:BTC-USDT-SWAP": "index-tickers:BTC-USDT",
    "markprice:BTC-USDT-SWAP": "mark-price:BTC-USDT-SWAP",
    "liquidation-orders:BTC-USDT-SWAP": "liquidation-orders:instType=SWAP",
    "liquidations": "liquidation-orders:instType=SWAP",
    "status:BTC-USDT": "status",
    "balance": "account",
    "order:BTC-USDT": "orders:instType=SPOT,instId=BTC-USDT",
    "orders": "orders:instType=ANY",
    "orders:BTC-USDT-SWAP": "orders:instType=SWAP,instId=BTC-USDT-SWAP",
    "position:BTC-USDT-SWAP": "positions:instType=SWAP,instId=BTC-USDT-SWAP",
    "instrument:SPOT": "instruments:instType=SPOT",
    "tickers:*-usdt": "tickers:*-USDT",
    "tickers/BTC-USDT": "tickers:BTC-USDT",
    "trades-BTC-USDT": "trades:BTC-USDT",
    "mark-price-BTC-USDT-SWAP": "mark-price:BTC-USDT-SWAP",
    "tickers=BTC-USDT": "tickers:BTC-USDT",
    "BTC-USDT:tickers": "tickers:BTC-USDT",
    "btcusdt@trade": "trades:BTC-USDT",
    "btcusdt@kline_5m": "candle5m:BTC-USDT",
    "trade@btcusdt": "trades:BTC-USDT",
    "ticker.BTC-USDT": "tickers:BTC-USDT",
    "kline_1m-BTCUSDT": "candle1m:BTC-USDT",
    "mark_price_btc_usdt_swap": "mark-price:BTC-USDT-SWAP",
    "trades,BTC-USDT": "trades:BTC-USDT",
    "tradesBTC-USDT": "trades:BTC-USDT",
    ":BTC-USDT": "trades:BTC-USDT",
    "trades: BTC-USDT": "trades:BTC-USDT",
    "trades BTC-USDT": "trades:BTC-USDT",
    "btc_quarter": "ok_sub_futureusd_btc_trade_quarter",
    "SPOT/trade:BTC-USDT": "spot/trade:BTC-USDT",
    "spot/candle1m:BTC-USDT": "spot/candle60s:BTC-USDT",
    "OK_SUB_SPOT_BTC_USDT_TICKER": "ok_sub_spot_btc_usdt_ticker",
    "ok_sub_spotusd_btc_ticker": "ok_sub_spot_btc_usdt_ticker",
    "ok_btcusd_ticker": "ok_sub_spot_btc_usd_ticker",
    "ok_sub_spotbtc_usdt_deals": "ok_sub_spot_btc_usdt_deals",
    "ok_sub_future_btc_depth_quarter": "ok_sub_futureusd_btc_depth_quarter",
    "ok_sub_spot_X_ticker": "ok_sub_spot_btc_usdt_ticker",
    "ticker:*-USDT-SWAP": "tickers:*-USDT-SWAP",
    "spot/tickr:BTC-USDT": "spot/ticker:BTC-USDT",
    "spot/trades:btc_usdt": "spot/trade:BTC-USDT",
    "spot/candle60:BTC-USDT": "spot/candle60s:BTC-USDT",
    "swap/ticker": "swap/ticker:BTC-USD-SWAP",
    "swap/tiker:btc-usd": "swap/ticker:BTC-USD-SWAP",
    "futures/account": "futures/account:BTC-USD",
    "futures/trad": "futures/trade:BTC-USD-191227",
    "spot/ticker:*-usdt": "spot/ticker:BTC-USDT",
    "trades:BTC_USDT": "trades:BTC-USDT",
    "'tickers:*-USDT'": "tickers:*-USDT",
    '"trades:btc-usdt"': "trades:BTC-USDT",
    "trades:]": "trades:BTC-USDT",
    "trades:usdt": "trades:BTC-USDT",
    "trades:BTC-": "trades:BTC-USDT",
    "trades:BTC--USDT": "trades:BTC-USDT",
    "trades:%s{0}": "trades:BTC-USDT",
    "swap": "trades:BTC-USDT",
    "*-usdt-swap": "trades:*-USDT-SWAP",
    "funding-rate:BTC-USD-261225": "funding-rate:BTC-USD-SWAP",
    "sprdtickers:*-USDT": "sprd-tickers:BTC-USDT_BTC-USDT-SWAP",
    "event-contract-markets": "event-contract-markets:instType=EVENTS",
    "ok_sub_spot_BTC_USDT_ticker": "ok_sub_spot_btc_usdt_ticker",
    "ok_sub_spot__usdt_ticker": "ok_sub_spot_btc_usdt_ticker",
    "ok_sub_spot_b@tc_usdt_tickr": "ok_sub_spot_btc_usdt_ticker",
    "ok_sub_spot_btc_usdt_tickers": "ok_sub_spot_btc_usdt_ticker",
    "ok_sub_spot_btcusdt_ticker": "ok_sub_spot_btc_usdt_ticker",
    "ok_sub_spot_bch_btc_kline_1m": "ok_sub_spot_bch_btc_kline_1min",
    "ok_sub_futureusd_btc_trade": "ok_sub_futureusd_btc_trade_quarter",
    "ok_sub_futureusd_eth_trades_quarter": "ok_sub_futureusd_eth_trade_quarter",
}


@pytest.mark.parametrize(("wrong", "right"), MISSPELLED.items())
def test_the_nearest_channel_that_exists_is_suggested(wrong, right):
    assert misnomer(wrong).meant[0] == right
    assert misnomer(right) is None


@pytest.mark.parametrize("name", ["btc", "BTC-USDT", "btcusdt", "BTC/USDT", "btc_usdt"])
def test_an_instrument_alone_gets_the_four_commands_that_one_would_want(name):
    told = run(name)
    assert told.returncode == 2 and told.stdout == ""
    assert [line.split()[3] for line in told.stderr.splitlines()[2:]] == [
        "trades:BTC-USDT",
        "tickers:BTC-USDT",
        "candle1m:BTC-USDT",
        "books:BTC-USDT",
    ]
    assert told.stderr.endswith("books:BTC-USDT --depth 5\n")


def every_name():
    for dialect in (V5, V3, V1):
        for kind in dialect.kinds:
            for name in dialect.names(kind, {"coin": "btc", "quote": "usdt"}):
                yield f"{name}:{kind.argument}".rstrip(":")


def test_every_channel_of_the_tables_is_taken_as_it_is():
    assert [name for name in every_name() if misnomer(name)] == []


@pytest.mark.parametrize(
    "channel",
    [
        "trades:NOPE-USDT",
        "trades:BTC-ABOVE-DAILY-260428-1600-64000",
        "trades:ALGO-USD_UM-261225",
        "books:BTC-USD-261225-80000-C",
        "sprd-tickers:BTC-USDT_BTC-USDT-SWAP",
        "mark-price:BTC-USDT",
        "account:ccy=BTC",
        "brand-new:instId=BTC-USDT",
        "spot/account:BTC",
        "futures/account:BTC",
        "option/instruments:BTC-USD",
    ],
)
def test_what_may_exist_is_not_held_up(channel):
    assert misnomer(channel) is None


@pytest.mark.parametrize("channel", ["xyzzy:BTC-USDT", "a" * 5000, "ok_sub_nothing", "ok_sub_spot_", "a/b"])
def test_what_is_like_nothing_is_told_without_a_suggestion(channel):
    wrong = misnomer(channel)
    assert "no kind of channel" in wrong.problem and len(wrong.problem) < 300


KINDS = ["trades", "trade", "orders", "sprd-ticker", "index-candle1m", "spot/tick", "ok_sub_spot_btc_depth", "x"]
HOSTILE_ARGUMENTS = [
    *"- = , : _ [ ] ? * ' \\ % {0} -- SWAP -SWAP a= =b BTC- -BTC BTC--USDT A-B-C-D-E-C '*' $(x) ;rm".split(),
    *("\u00df", "\u0130", "\ufb01"),  # whose upper case is longer, or not that of their lower case
    *("A" * 10_000, "A-" * 5_000, "*" * 10_000, "USDT" * 2_500, "[a-" * 3_000, "BTC-USDT/ETH-USDT", ""),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_suggested_can_exist_and_is_short(kind):
    for channel in [f"{kind}:{argument}" for argument in HOSTILE_ARGUMENTS] + HOSTILE_ARGUMENTS[:-1]:
        wrong = misnomer(channel)
        meant = wrong.meant if wrong else []
        assert len(str(wrong)) < 700 and str(wrong).isprintable()
        assert [name for name in meant if misnomer(name)] == [], channel
        assert [name for name in meant if okex_ws.is_pattern(name) and not okex_ws.pattern_kind(name)] == []


def test_a_name_of_any_length_is_not_compared_for_long(monkeypatch):
    monkeypatch.setattr("difflib.SequenceMatcher", None)
    assert misnomer("tickers" * 1400).meant == []


def test_what_the_tables_show_is_taken_by_the_exchange():
    listed = Exchange().listed
    for kind in V5.kinds:
        arg = V5.argument(f"{next(V5.names(kind))}:{kind.argument}".rstrip(":"))
        served = channel_of(arg["channel"])
        if served:  # the stand-in has no spreads
            assert served.takes(arg, listed), arg
            assert f"{served.endpoint}{', login' * served.login}" == kind.where


def test_a_channel_that_cannot_exist_ends_the_program_before_it_connects(exchange):
    told = run("--url", exchange.url, "ticker:BTC-USDT", offline=False)
    assert told.returncode == 2 and told.stderr.splitlines() == [
        "okex_ws.py: ticker is no kind of channel: --list shows them all.",
        "Did you mean:",
        f"  python okex_ws.py --url {exchange.url} tickers:BTC-USDT",
    ]
    assert exchange.handshakes == 0


def test_the_suggested_command_is_the_whole_of_what_was_typed():
    told = run("--jsonl", "a b.jsonl", "ticker:btcusdt", "--count", "3", "trades:ETH-USDT", "book:ethusdt")
    assert told.returncode == 2 and told.stderr.splitlines()[-1] == (
        "  python okex_ws.py --offline --jsonl 'a b.jsonl' tickers:BTC-USDT --count 3 trades:ETH-USDT books:ETH-USDT"
    )


def test_several_instruments_become_several_channels():
    told = run("trades:BTC-USDT,eth-usdt")
    assert told.stderr.splitlines()[-1] == "  python okex_ws.py --offline trades:BTC-USDT trades:ETH-USDT"


def test_the_name_of_an_option_is_taken_for_one():
    assert run("board").stderr.splitlines() == [
        "okex_ws.py: board is an option, and begins with --.",
        "Did you mean:",
        "  python okex_ws.py --offline --board",
    ]
    assert run("offline").stderr == "okex_ws.py: offline is an option, and begins with --.\n"


def test_in_code_it_is_told_and_asked_for_all_the_same(exchange, connect, caplog):
    client = connect("ticker:BTC-USDT")
    wait_for(lambda: client.saw(REFUSED))
    assert "Did you mean tickers:BTC-USDT?" in caplog.text


@pytest.mark.parametrize("unknown", ["BTC-USTD", "USDT-BTC"])
def test_an_instrument_that_is_merely_unknown_is_answered_from_the_list_of_instruments(exchange, unknown):
    told = run("--url", exchange.url, f"trades:{unknown}", offline=False, code=PATIENT)
    assert told.returncode == 1 and exchange.handshakes == 1
    assert re.search(rf"trades:{unknown} was refused\. Did you mean .*trades:BTC-USDT", told.stderr)


def test_a_refusal_does_not_wait_for_a_list_that_cannot_be_had(exchange, connect, caplog):
    exchange.rest_status = 503
    client = connect("trades:NOPE-USDT", "trades:BTC-USDT")
    wait_for(lambda: client.saw(REFUSED) and client.rows)
    client.close()
    wait_for(lambda: not client.thread.is_alive())
    assert "Did you mean" not in caplog.text


def test_a_flood_of_refusals_looks_up_only_so_many(exchange, caplog):
    finder = Finder(okex_ws.Rest(exchange.url, False, okex_ws.DIRECT), Event(), print)
    finder.suggest([f"trades:NOPE{n}-USDT" for n in range(1000)])
    finder.finish()
    assert len(finder._threads) == okex_ws.MAX_LOOK_UPS
    assert len(exchange.fetched) <= 3  # a list for each type of instrument, once


# -- Names of yesterday

YESTERDAY = {
    "ok_sub_spot_btc_usdt_ticker": "tickers:BTC-USDT",
    "ok_sub_spot_bch_btc_deals": "trades:BCH-BTC",
    "ok_sub_spot_btc_usdt_depth": "books:BTC-USDT",
    "ok_sub_spot_btc_usdt_depth_5": "books5:BTC-USDT",
    "ok_sub_spot_btc_usdt_kline_1min": "candle1m:BTC-USDT",
    "ok_sub_spot_btc_usdt_kline_day": "candle1D:BTC-USDT",
    "ok_sub_spot_btc_usdt_order": "orders:instType=SPOT,instId=BTC-USDT",
    "ok_sub_futureusd_btc_trade_quarter": "trades:BTC-USD-<quarter>",
    "ok_sub_futureusd_btc_ticker_this_week": "tickers:BTC-USD-<this_week>",
    "ok_sub_futureusd_eth_kline_next_week_4hour": "candle4H:ETH-USD-<next_week>",
    "ok_sub_futureusd_btc_depth_quarter": "books:BTC-USD-<quarter>",
    "ok_sub_futureusd_btc_index": "index-tickers:BTC-USD",
    "ok_sub_futureusd_positions": "positions:instType=FUTURES",
    "btc_forecast_price": "estimated-price:instType=FUTURES,instFamily=BTC-USD",
    "spot/candle60s:BTC-USDT": "candle1m:BTC-USDT",
    "spot/trade:BTC-USDT": "trades:BTC-USDT",
    "swap/funding_rate:BTC-USD-SWAP": "funding-rate:BTC-USD-SWAP",
    "futures/trade:BTC-USD-191227": "trades:BTC-USD-<quarter>",
    "futures/order:BTC-USD-191227": "orders:instType=FUTURES,instId=BTC-USD-<quarter>",
    "index/candle3600s:BTC-USD": "index-candle1H:BTC-USD",
    "option/summary:BTC-USD": "opt-summary:instFamily=BTC-USD",
    "system/status": "status",
    "spot/account:USDT": "account:ccy=USDT",
    "spot/account:%S": "account:ccy=USDT",
    "index/ticker:BTC-USD-SWAP": "index-tickers:BTC-USD",
    "index/ticker:BTC-USD-191227": "index-tickers:BTC-USD",
    "swap/funding_rate:BTC-USD-191227": "funding-rate:BTC-USD-SWAP",
    "spot/trade:%S": "trades:BTC-USDT",
    "spot/trade:" + "A" * 5000: "trades:BTC-USDT",
}


@pytest.mark.parametrize(("channel", "today"), YESTERDAY.items())
def test_a_channel_of_yesterday_has_one_of_today(channel, today):
    assert todays_channel(channel, "{}-<{}>".format) == today


def test_every_channel_of_yesterday_has_one_of_today_that_exists():
    for name in every_name():
        if okex_ws.dialect_of(name).retired:
            today = todays_channel(name, "{}-{}".format).replace("quarter", "261225").replace("this_week", "261127")
            assert misnomer(today.replace("next_week", "261204")) is None, name


def test_a_channel_of_yesterday_is_answered_with_the_command_of_today_and_not_replaced():
    told = run("spot/candle60s:BTC-USDT", offline=False)
    assert told.returncode == 2 and told.stderr.splitlines() == [
        "okex_ws.py: spot/candle60s:BTC-USDT is of v3, which OKX gave up in 2021.",
        "What carries the same today:",
        "  python okex_ws.py candle1m:BTC-USDT",
    ]
    assert run("spot/depth_l2:BTC-USDT", offline=False).stderr.count(" books:BTC-USDT") == 1


def test_the_futures_of_yesterday_have_the_dates_of_the_list(exchange):
    future = Instruments(okex_ws.Rest(exchange.url, False, okex_ws.DIRECT)).future
    this_week, next_week, *later = sorted(name for name in exchange.listed if re.fullmatch(r"BTC-USD-\d{6}", name))
    quarter = next(name for name in later if int(name[-4:-2]) % 3 == 0)
    assert [future("BTC-USD", when) for when in ("this_week", "next_week", "quarter")] == [
        this_week,
        next_week,
        quarter,
    ]
    assert future("NOPE-USD", "quarter") == "NOPE-USD-YYMMDD"


# -- Lists


def test_the_list_of_kinds_fits_a_terminal_and_names_them_all():
    told = run("--list", offline=False)
    assert told.returncode == 0 and max(map(len, told.stdout.splitlines())) <= 80
    listed = [line for line in told.stdout.splitlines() if line[0] != " "]
    assert len(listed) == len(V5.kinds)
    assert {"public           trades:BTC-USDT", "private, login   orders:instType=ANY"} <= set(listed)
    older = run("--list", "v3", offline=False).stdout + run("--list", "v1", offline=False).stdout
    assert "<market>/trade:BTC-USDT" in older and "ok_sub_futureusd_<coin>_trade_<when>" in older


def test_a_part_of_the_name_of_a_kind_lists_that_kind_with_and_without_a_list_of_instruments(exchange):
    for status in (0, 503):
        exchange.rest_status = status
        told = run("--url", exchange.url, "--list", "funding", offline=False)
        assert told.returncode == 0 and "public           funding-rate:BTC-USDT-SWAP" in told.stdout.splitlines()


@pytest.mark.parametrize("pattern", ["BTC-USDT", "btcusdt", "BTC/USDT", "tickers:BTC-USDT*"])
def test_a_list_takes_instruments_as_a_channel_does(pattern):
    assert "BTC-USDT-SWAP" in run("--list", pattern).stdout.split()


def test_a_pattern_lists_instruments_a_line_each():
    told = run("--list", "*-USDT-SWAP")
    assert told.returncode == 0 and "BTC-USDT-SWAP" in told.stdout.split()
    assert all(re.fullmatch(r"\w+-USDT-SWAP", name) for name in told.stdout.split())
    assert set(told.stdout.split()) < set(run("--list", "usdt").stdout.split())


def test_nothing_that_matches_is_status_1():
    told = run("--list", "nope-nope")
    assert (told.returncode, told.stdout) == (1, "") and "No instrument" in told.stderr
    assert "\x1b" not in run("--list", "\x1b[2J").stderr


def test_a_list_that_cannot_be_had_is_told_in_one_line(exchange):
    exchange.rest_status = 503
    told = run("--url", exchange.url, "--list", "btc", offline=False)
    assert (told.returncode, told.stdout) == (1, "") and told.stderr.count("\n") == 1 and "HTTP 503" in told.stderr


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        *(b"HTTP/1.1 200 OK\r\n\r\n" + body for body in (b"[]", b"7", b"{}", b'{"code":"0"}', b"[" * 100_000, b"\xff")),
    ],
)
def test_an_answer_that_is_not_the_exchanges_is_no_surprise(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        Thread(target=serve, daemon=True).start()
        with pytest.raises((OSError, ValueError)):
            find_channels("tickers:*-USDT", url=f"ws://127.0.0.1:{server.getsockname()[1]}")


def test_an_option_is_listed_by_its_name_too(exchange):
    instruments = Instruments(okex_ws.Rest(exchange.url, False, okex_ws.DIRECT))
    calls = okex_ws.list_instruments(instruments, "BTC-USD-*-C")
    assert okex_ws.list_instruments(instruments, calls[0].lower()) == calls[:1]
    assert set(calls) < set(okex_ws.list_instruments(instruments, "BTC-USD-*-[CP]"))
    assert okex_ws.list_instruments(instruments, "NOPE-USD-*-C") == []


@pytest.mark.parametrize(
    ("arguments", "where", "status", "words"),
    [
        (["--list"], ">&-", 2, "stdout is closed"),
        (["--list"], ">/dev/full", 1, "Cannot write to stdout"),
        (["--list", "btc", "--proxy", "http://127.0.0.1:1"], "", 1, "the proxy 127.0.0.1:1 refused"),
    ],
)
def test_what_keeps_a_list_from_being_shown_is_told_in_a_line(arguments, where, status, words):
    command = shlex.join([sys.executable, str(SCRIPT), *arguments])
    told = subprocess.run(f"{command} {where}", shell=True, capture_output=True, text=True, timeout=30)
    assert told.returncode == status and words in told.stderr and told.stderr.count("\n") == 1


# -- Patterns


def test_a_pattern_subscribes_to_all_that_is_traded_now(exchange, connect, caplog):
    caplog.set_level("INFO", "okex_ws")
    client = connect("tickers:*-USDT-SWAP", "trades:BTC-USDT")
    wait_for(lambda: len(client.channels) > 2 and set(client.channels.values()) == {"confirmed"})
    names = [
        f"tickers:{i.name}"
        for i in exchange.listed.values()
        if (i.kind, i.state) == ("SWAP", "live") and i.name.endswith("-USDT-SWAP")
    ]
    assert sorted(client.channels) == sorted([*names, "trades:BTC-USDT"])
    assert f"tickers:*-USDT-SWAP matches {len(names)} instruments" in caplog.text


def test_a_thousand_instruments_are_subscribed_to_within_the_limits(exchange, connect, caplog):
    caplog.set_level("INFO", "okex_ws")
    exchange.more_coins, exchange.every = 1000, None
    client = connect("tickers:C*-USDT")
    wait_for(lambda: list(client.channels.values()).count("confirmed") >= 1000, within=50)
    assert not client.saw(REFUSED) and client.counts["connects"] == 1
    lines = wait_for(lambda: [r.getMessage() for r in caplog.records if "subscribed" in r.getMessage()])
    assert lines == ["1000 of 1000 channels subscribed."]
    requests = [text for _, text in exchange.requests if text != "ping"]
    assert len(requests) <= 100 and max(map(len, requests)) < 64 << 10


def test_order_books_are_split_over_connections(exchange, started):
    exchange.more_coins = 70
    started("--url", exchange.url, "--depth", "1", "books:C*-USDT")
    wait_for(lambda: sorted(usage.books for usage in list(exchange.usage.values())) == [10, 30, 30])


def test_in_code_more_order_books_than_the_exchange_advises_on_a_connection_are_told(caplog):
    client = OkexWS([f"books:C{n}-USDT" for n in range(30)] + ["books5:BTC-USDT"], url="ws://127.0.0.1:1")
    assert "order books" not in caplog.text
    client.subscribe("books:C30-USDT", "books:C31-USDT")
    assert caplog.text.count("More than 30 incremental order books on one connection") == 1


def test_a_pattern_that_matches_nothing_is_status_1(exchange):
    for pattern in ("tickers:NOPE-*", "tickers:NOPE-USD-*-C"):
        told = run("--url", exchange.url, pattern, offline=False)
        assert told.returncode == 1 and f"no instrument that is traded now matches {pattern}" in told.stderr
    assert exchange.handshakes == 0


def test_a_list_that_cannot_be_had_is_tried_again(exchange, connect, impatient, caplog):
    exchange.rest_status = 503
    client = connect("tickers:BTC-USD*")
    wait_for(lambda: client.saw(okex_ws.DISCONNECTED, 2))
    assert "the list of instruments cannot be had" in caplog.text and exchange.handshakes == 0
    exchange.rest_status = 0
    wait_for(lambda: client.rows)


def test_a_client_that_waits_for_its_list_closes_at_once(exchange, connect):
    exchange.rest_status = 503
    client = connect("tickers:BTC-USD*")
    wait_for(lambda: client.saw(okex_ws.DISCONNECTED))
    client.close()
    wait_for(lambda: not client.thread.is_alive())
    assert client.error is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("status:*", "take an instrument"),
        ("sprd-tickers:*", "take an instrument"),
        ("spot/ticker:*-USDT", "take an instrument"),
        ("trades:*-C", "by family"),
        ("trades:BTC-*-[CP]", "by family"),
    ],
)
def test_a_pattern_that_no_list_can_answer_is_an_error(pattern, words):
    with pytest.raises(ValueError, match=words):
        OkexWS([pattern], url="ws://127.0.0.1:1")


def test_a_pattern_is_for_the_start(exchange, connect):
    client = connect("trades:BTC-USDT")
    wait_for(lambda: client.rows)
    with pytest.raises(ValueError, match="for the start"):
        client.subscribe("tickers:*-USDT")


def test_a_pattern_that_waits_for_its_list_is_wanted_and_can_be_given_up(exchange, connect, impatient):
    exchange.rest_status = 503
    client = connect("tickers:BTC-USD*", "trades:BTC-USDT")
    wait_for(lambda: client.saw(okex_ws.DISCONNECTED))
    assert client.channels == dict.fromkeys(("tickers:BTC-USD*", "trades:BTC-USDT"), "wanted")
    client.unsubscribe("tickers:BTC-USD*")
    wait_for(lambda: client.rows)
    assert client.channels == {"trades:BTC-USDT": "confirmed"}


def test_all_that_match_a_pattern_are_unsubscribed(exchange, connect):
    client = connect("tickers:BTC-USD*", "tickers:ETH-USDT")
    wait_for(lambda: len(client.channels) > 2 and set(client.channels.values()) == {"confirmed"})
    client.unsubscribe("tickers:BTC-*")
    wait_for(lambda: client.channels == {"tickers:ETH-USDT": "confirmed"})


@pytest.fixture
def make_run(exchange):
    """A Run of the command line, with these arguments, whose clients are closed with the test."""
    runs = []

    def make(*arguments):
        args = okex_ws.parse_arguments([*map(str, arguments), "--url", exchange.url])
        runs.append(okex_ws.Run(args, exchange.url))
        return runs[-1]

    yield make
    for run in runs:
        run.hang_up(0)
        run.drain()


def test_a_book_stays_on_its_connection(make_run, monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_DEEP_BOOKS", 2)
    run = make_run(*(f"books:{coin}-USDT" for coin in ("BTC", "ETH", "LTC")))
    run.command("unsubscribe", ["books:BTC-USDT"])
    run.command("subscribe", ["books:LTC-USDT"])  # it is on the second, and the first has room
    assert [list(client.channels) for client in run.clients.values()] == [["books:ETH-USDT"], ["books:LTC-USDT"]]


def test_a_refusal_ends_no_run_whose_patterns_are_still_looked_up(make_run):
    run = make_run("trades:NOPE-USDT", "candle1m:BTC-*")
    plain, _ = run.clients.values()
    plain._subscriptions.take_due(0.0)
    plain._refused(okex_ws.Refused("60018", "no", "trades:NOPE-USDT", ""))
    assert set(plain.channels.values()) == {"refused"} and run.status is None


def test_other_programs_can_take_patterns_back_but_not_give_them(make_run):
    run = make_run("tickers:BTC-USDT", "tickers:ETH-USDT")
    for pattern in ("tickers:*-USDT", "candle1m:*-USDT"):
        with pytest.raises(ValueError, match="for the start"):
            run.command("subscribe", [pattern])
    run.command("unsubscribe", ["tickers:B*"])
    assert run.channels() == {"tickers:ETH-USDT": "wanted"} and len(run.clients) == 1


def test_what_an_earlier_run_left_out_of_a_pattern_is_fetched(exchange, make_run, tmp_path):
    market = exchange.instrument("BTC-USDT")
    with exchange.lock:
        kept = okex_ws.SQLite(str(tmp_path / "rows.db"))
        kept.write(time.time(), "trades:BTC-USDT", ServerV5().trades(market, False))
        kept.flush()
        kept.close()
        for _ in range(20):
            market.step()
    (client,) = make_run("trades:BTC-US*", "--sqlite", tmp_path / "rows.db").clients.values()
    client.start()
    wait_for(lambda: client.counts["rows restored"] >= 20)
    assert client.counts["holes"] == 1


def test_options_are_found_by_their_family(exchange):
    found = find_channels("trades:BTC-USD-*-C", url=exchange.url)
    assert found and all(re.fullmatch(r"trades:BTC-USD-\d{6}-\d+-C", name) for name in found)


def test_indices_are_what_instruments_are_about(exchange):
    found = find_channels("index-tickers:BTC-*", url=exchange.url)
    assert "index-tickers:BTC-USD" in found and "index-tickers:BTC-USDT" in found
    assert not [name for name in found if name.endswith("SWAP")]


HOSTILE = ["\x1b[2J", "A,instId=B-C", "*-USDT", "A:B", "", "X" * 10_000, 'A"B', None, 7, ["A-B"], "é-USDT", "A B-USDT"]


def test_hostile_names_in_a_list_are_left_out_and_that_is_said(exchange, caplog):
    caplog.set_level("INFO", "okex_ws")
    rows = [{"instId": name, "state": "live", "uly": name} for name in [*HOSTILE, "GOOD-USDT", "GOOD-USDT"]]
    exchange.rest_rows = lambda path, query, _: rows
    assert find_channels("tickers:*", url=exchange.url) == ["tickers:GOOD-USDT"]
    assert "tickers:* matches 1 instruments" in caplog.text and f"{len(HOSTILE)} odd names" in caplog.text


@pytest.mark.parametrize("rows", [[1], [{}], [{"state": "live"}], [None], {"a": 1}, "text", [[]], None])
def test_what_is_no_list_is_an_error_of_the_exchange(exchange, rows):
    exchange.rest_rows = lambda path, query, _: rows
    with pytest.raises(ValueError, match="no list of instruments"):
        find_channels("tickers:*-USDT", url=exchange.url)


# -- The table and the README

README = (SCRIPT.parent / "README.md").read_text()


def readme_rows(dialect):
    """The README's table of a generation, made of its table of channels."""
    for kind in dialect.kinds:
        example = next(dialect.names(kind, {"coin": "btc", "quote": "usdt"}))
        columns = re.sub(r"[\w:]+", r"`\g<0>`", kind.columns.strip("[]"))
        yield f"| {kind.what} | `{f'{example}:{kind.argument}'.rstrip(':')}` | {columns} | {kind.where} |"


@pytest.mark.parametrize("dialect", [V5, V3, V1], ids=["v5", "v3", "v1"])
def test_the_readme_has_the_table_of_channels(dialect):
    rows = list(readme_rows(dialect))
    assert "\n".join(rows) in README, "the README's table should be:\n" + "\n".join(rows)


def test_the_first_table_of_the_readme_has_rows_of_the_whole_one():
    first = README[README.index("## Channels") : README.index("**Find your channel.**")]
    shown = [line for line in first.splitlines() if line.startswith("| ") and "`" in line]
    assert len(shown) >= 8 and set(shown) <= set(readme_rows(V5))
