"""Who mistypes a channel, remembers another name of it, or wants all of a kind, gets what exists."""

import functools
import re
import shlex
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import SCRIPT, finish, finish_all, program, wait_for
from exchange import Exchange, channel_of

import okex_ws
from okex_ws import DISCONNECTED, REFUSED, V1, V3, V5, Finder, OkexWS, find_channels, misnomer, todays_channel


@pytest.fixture
def finder(exchange):
    return Finder(okex_ws.Rest("trades:BTC-USDT", None, exchange.url, "global", False))


# -- Did you mean
# The first suggestion < what it is for; between bars what has blanks in it.
MISSPELLED = """
    tickers:BTC-USDT < ticker:BTC-USDT Tickers:BTC-USDT TICKERS:btcusdt tikcers:BTC-USDT tickers/BTC-USDT
    tickers=BTC-USDT BTC-USDT:tickers ticker.BTC-USDT; tickers:ETH-USDT < price:eth; tickers:*-USDT < tickers:*-usdt
    'tickers:*-USDT' tickers:instId=*-USDT; tickers:*-USDT-SWAP < ticker:*-USDT-SWAP; trades:BTC-USDT < trade:BTC-USDT
    trades trades: trade: trades:BTCUSDT trades:btc-usdt trades:BTC/USDT trades:btc_usdt trades:btc deals:BTC-USDT
    trades-BTC-USDT btcusdt@trade trade@btcusdt trades,BTC-USDT :BTC-USDT "trades:btc-usdt" trades:] trades:BTC--USDT
    swap trades:BTC-USDT, |trades: BTC-USDT| |trades BTC-USDT| |trades:BTC USDT|; trades:*-USDT-SWAP < *-usdt-swap;
    trades:BTC-USDT-SWAP < trads:BTC-USDT-SWAP trades:BTCUSDT-PERP trades:btcusdtswap trades:btc-perp; trades:BTC-USD <
    trades:xbtusd; trades:ETH-USDT < trades:ETH-USDT,SOL-USDT; trades:ETH-BTC < trades:ETHBTC; trades:BTC-USD_UM-SWAP <
    trades:btc-usd_um-swap trades:btc_usd_um_swap; trades:BTC-USD_UM_XPERP-310404 < trades:btc-usd_um_xperp-310404;
    funding-rate:DOGE-USD_UM_XPERP-310404 < funding-rate:doge-usd_um_xperp-310404; funding-rate:*_XPERP-* <
    funding-rate:*_xperp-*; fills:LTC-USDT-SWAP < fills:ltc-usdt-swap fills:ltcusdt-perp;
    sprd-trades:LTC-USDT_LTC-USD_UM-SWAP < sprd-trades:ltc-usdt_ltc-usd_um-swap; trades:BTC-USD-261225-80000-C <
    trades:btc-usd-261225-80000-c; trades-all:BTC-USDT < trades_all:BTC-USDT; books:BTC-USDT < book:BTC-USDT
    boks:BTC-USDT books:btc-usdt orderbook:BTC-USDT depth:BTC-USDT; books5:BTC-USDT < depth5:BTC-USDT depth50:BTC-USDT
    books-5:BTC-USDT; bbo-tbt:BTC-USDT < bbo:BTC-USDT; books-l2-tbt:BTC-USDT < book-l2-tbt:BTC-USDT; candle1m:BTC-USDT <
    candle:BTC-USDT candle60s:BTC-USDT klines:BTC-USDT kline_1m-BTCUSDT; candle5m:BTC-USDT < candles5m:BTC-USDT
    btcusdt@kline_5m; candle1H:BTC-USDT < candle1h:BTC-USDT candle60m:BTC-USDT; candle1D:BTC-USDT < kline_1d:BTC-USDT;
    candle1Dutc:BTC-USDT < candle1dutc:BTC-USDT; mark-price-candle1m:BTC-USDT-SWAP < mark-price-candles1m:BTC-USDT-SWAP;
    mark-price:BTC-USDT-SWAP < markprice:BTC-USDT-SWAP mark-price-BTC-USDT-SWAP mark_price_btc_usdt_swap;
    funding-rate:BTC-USDT-SWAP < fundingrate:BTC-USDT-SWAP funding:BTC-USDT-SWAP funding-rate:BTC-USDT;
    funding-rate:BTC-USD-SWAP < funding-rate:BTC-USD-261225; funding-rate:BTC-USD_UM-SWAP <
    funding-rate:BTC-USD_UM-250808; open-interest:BTC-USDT-SWAP < open_interest:BTC-USDT-SWAP open-interest:BTC-USDT
    open:BTC-USDT-SWAP; index-tickers:BTC-USDT < index-tickers:BTC-USDT-SWAP; index-tickers:BTC-USD <
    index-tickers:BTC-USD_UM-SWAP index-tickers:BTC-USD_UM_XPERP-310404; liquidation-orders:instType=SWAP <
    liquidation-orders:BTC-USDT-SWAP liquidations; instruments:instType=SPOT < instrument:SPOT; event-contract-markets <
    event-contract-market; status < stats; account < balance account:usdt; copytrading-lead-notification:instType=SWAP <
    copytrading-notifications; orders:instType=ANY < orders orders:*; orders:instType=SPOT,instId=BTC-USDT <
    order:BTC-USDT; orders:instType=SWAP,instId=BTC-USDT-SWAP < orders:BTC-USDT-SWAP;
    positions:instType=SWAP,instId=BTC-USDT-SWAP < position:BTC-USDT-SWAP; sprd-tickers:BTC-USDT_BTC-USDT-SWAP <
    sprd-tickers:btc-usdt_btc-usdt-swap sprdtickers:*-USDT sprd-tickers:*; spot/ticker:BTC-USDT < spot/tickr:BTC-USDT
    spot/ticker:*-usdt spot/ticker:*-USDT; spot/trade:BTC-USDT < SPOT/trade:BTC-USDT spot/trades:btc_usdt;
    spot/candle60s:BTC-USDT < spot/candle60:BTC-USDT; swap/ticker:BTC-USD-SWAP < swap/tiker:btc-usd;
    swap/ticker:BTC-USDT-SWAP < swap/ticker; futures/account:BTC-USD < futures/account; ok_sub_spot_btc_usdt_ticker <
    OK_SUB_SPOT_BTC_USDT_TICKER ok_sub_spot_btc_usdt_tickers ok_sub_spot_btcusdt_ticker ok_sub_spot_*_ticker;
    ok_sub_spot_btc_usdt_kline_1min < ok_sub_spot_bch_btc_kline_1m; ok_sub_futureusd_btc_trade_quarter <
    ok_sub_futureusd_btc_trade ok_sub_futureusd_btc_trades_quarter
"""


def meant_by(channel):
    question = misnomer(channel).partition(" Did you mean ")[2]
    return question.removesuffix("?").split(" or ") if question else []


def test_the_nearest_channel_that_exists_is_suggested_and_four_for_an_instrument_alone():
    missed = []
    for right, texts in ((text.strip() for text in entry.split("<")) for entry in MISSPELLED.split(";")):
        wrongs = [barred or plain for barred, plain in re.findall(r"\|([^|]+)\||(\S+)", texts)]
        missed += [(wrong, right, meant_by(wrong)) for wrong in wrongs if meant_by(wrong)[:1] != [right]]
        missed += [right] if misnomer(right) else []
    assert not missed
    for name in ("btc", "BTC-USDT", "btcusdt", "BTC/USDT", "btc_usdt", ":BTC-USDT"):
        assert meant_by(name) == [f"{kind}:BTC-USDT" for kind in ("trades", "tickers", "candle1m", "books")], name


def every_name():
    for dialect in (V5, V3, V1):
        for kind in dialect.kinds:
            for name in dialect.names(kind):
                yield f"{name}:{kind.argument}".rstrip(":")


def test_what_may_exist_is_not_held_up():
    passing = """trades:NOPE-USDT trades:BTC-ABOVE-DAILY-260428-1600-64000 trades:ALGO-USD_UM-261225 trades:W-USDT
    trades:SWAP-USDT trades:XBTX-USDT trades:币安人生-USDT books:BTC-USD-261225-80000-C mark-price:BTC-USDT
    sprd-tickers:BTC-USDT_BTC-USDT-SWAP sprd-books5:BTC-USD_UM-SWAP_BTC-USD_UM-261225 account:ccy=BTC
    funding-rate:BTC-USD_UM_XPERP-310404 brand-new:instId=BTC-USDT spot/account:BTC futures/account:BTC
    option/instruments:BTC-USD fills:LTC-USDT-SWAP fills:LTC-ABOVE-260428-1600-64 sprd-trades:LTC-USD_LTC-USD-261225
    sprd-orders:LTC-USD_LTC-USD-SWAP copytrading-notification:instType=SWAP mark-price-candle1s:BTC-USDT-SWAP
    index-candle1s:BTC-USD event-contract-markets:instType=EVENTS""".split()
    assert [wrong for wrong in map(misnomer, [*passing, *every_name()]) if wrong] == []


def test_what_is_like_nothing_is_told_without_a_suggestion():
    for channel in ("xyzzy:BTC-USDT", "xyzzy:*-USDT", "a" * 5000, "ok_sub_nothing", "a/b", "new:id=*", "\x1b[2J:"):
        wrong = misnomer(channel)
        assert "no kind of channel" in wrong and not meant_by(channel) and len(wrong) < 300, channel


HOSTILE_ARGUMENTS = [
    *"- = , : _ [ ] ? * ' \\ % {0} -- SWAP -SWAP a= =b a=* BTC- -BTC BTC--USDT A-B-C-D-E-C '*' $(x) ;rm".split(),
    *("\u00df", "\u0130", "\ufb01"),  # whose upper case is longer, or not that of their lower case
    *(" ", "a=b c", "\x1b[2J"),
    *("A" * 10_000, "A-" * 5_000, "*" * 10_000, "USDT" * 2_500, "[a-" * 3_000, "BTC-USDT/ETH-USDT", ""),
]


def test_what_is_suggested_can_exist_is_short_and_is_named_once():
    kinds = "trades trade depth50 orders sprd-ticker sprd-tickers index-candle1m spot/tick ok_sub_spot_btc_depth x"
    channels = [f"{kind}:{argument}" for kind in kinds.split() for argument in HOSTILE_ARGUMENTS] + HOSTILE_ARGUMENTS
    for channel in channels:
        meant = meant_by(channel) if channel.isprintable() else []
        assert len(misnomer(channel)) < 700 and misnomer(channel).isprintable(), channel
        assert [name for name in meant if misnomer(name)] == [] and len(set(meant)) == len(meant), channel


def test_a_channel_that_cannot_be_has_a_reason_why():
    wrong = "trades:a=b c|Trades:instId=X-Y|spot/trade:BTC USDT|trades:|spot/foo bar:a=b||a b|BTC-USDT|:x|\x1b[2J"
    for channel in [*wrong.split("|"), "trades:BTC-USDT\n"]:
        with pytest.raises(ValueError, match=r"is not a channel: .+"):
            okex_ws.dialect_of(channel)
            pytest.fail(repr(channel))


def test_what_the_tables_show_is_taken_by_the_exchange():
    listed = Exchange().listed
    for kind in V5.kinds:
        arg = V5.argument(f"{next(V5.names(kind))}:{kind.argument}".rstrip(":"))
        served = channel_of(arg["channel"])
        assert served.takes(arg, listed), arg
        assert f"{served.endpoint}{', login' * served.login}" == kind.where, arg


def test_a_channel_that_cannot_exist_ends_the_program_before_it_connects(exchange):
    status, _, told = finish("--url", exchange.url, "ticker:btcusdt", "trades:ETH-USDT")
    assert status == 2 and exchange.handshakes == 0
    problem = "ticker is no kind of channel: --list shows them all"
    assert told == f"okex_ws.py: {problem}. Did you mean tickers:BTC-USDT?\n"
    told = "okex_ws.py: spot/candle60s:BTC-USDT: OKX gave up v3 in 2021. Today: candle1m:BTC-USDT\n"
    assert finish("spot/candle60s:BTC-USDT") == (2, "", told)


def test_in_code_it_is_told_once_and_asked_for_all_the_same(exchange, connect, caplog):
    client = connect("ticker:BTC-USDT", "trades:BTCUSDT", "index-tickers:USDT-BTC", "status:BTC-USDT")
    wait_for(lambda: client.saw(REFUSED, 4))
    for refused, meant in (("index-tickers:USDT-BTC", "index-tickers:BTC-USDT"), ("status:BTC-USDT", "status")):
        told = rf"The exchange refused {refused}: 60018 .*\. Did you mean {meant}\?"
        wait_for(lambda told=told: re.search(told, caplog.text))
    for right in ("tickers:BTC-USDT", "trades:BTC-USDT"):
        assert caplog.text.count(f"Did you mean {right}?") == 1, right


def test_an_instrument_that_is_merely_unknown_is_answered_from_the_list_of_instruments(exchange):
    status, _, told = finish("--url", exchange.url, "trades:BTC-USTD")
    assert status == 1 and exchange.handshakes == 1
    *_, refusal, end, _ = told.splitlines()
    assert re.search(r" The exchange refused trades:BTC-USTD: 60018 .*\. Did you mean .*trades:BTC-USDT", refusal)
    assert "Stopped for good: every channel was refused" in end and told.count("refused trades:") == 1


def test_a_refusal_does_not_wait_for_a_list_that_cannot_be_had(exchange, connect, caplog):
    exchange.rest_status = 503
    client = connect("trades:NOPE-USDT", "trades:BTC-USDT")
    wait_for(lambda: client.saw(REFUSED) and client.rows)
    client.close()
    wait_for(lambda: not client.thread.is_alive())
    assert "Did you mean" not in caplog.text and caplog.text.count("refused trades:NOPE-USDT: 60018") == 1


def test_the_last_refusal_is_told_before_the_end(finder, monkeypatch):
    told = []
    monkeypatch.setattr(okex_ws.okex_log, "warning", lambda line: [time.sleep(0.1), told.append(line)])
    finder.suggest("trades:NOPE-USDT", "refused")
    finder.finish()
    assert len(told) == 1


def test_refusals_are_looked_up_by_one_thread_in_lists_that_are_fetched_once(exchange, finder, caplog):
    exchange.rest_delay = 0.1
    for n in range(50):
        finder.suggest(f"trades:NOPE{n}-USDT", "refused")
    # What is listed though it was refused is not suggested, nor what has another margin.
    meant = dict.fromkeys(("trades:BTC-USDT", "trades:BTC-USD_UM-SWAP"), "")
    perpetuals = " or ".join(f"trades:{coin}-USD_UM_XPERP-310404" for coin in ("ETH", "BTC"))
    meant["trades:ETH-USD_UM_XPERP-310405"] = f" Did you mean {perpetuals}?"
    for channel in meant:
        finder.suggest(channel, f"{channel} was refused")
    assert [thread.name for thread in threading.enumerate()].count("okex_ws finder") == 1
    finder.finish()
    assert 1 <= len(exchange.fetched) == len(set(exchange.fetched)) <= 5
    said = [message for message in caplog.messages if "was refused" in message]
    assert sorted(said) == sorted(f"{channel} was refused.{more}" for channel, more in meant.items())


# -- Names of yesterday
YESTERDAY = {
    "ok_sub_spot_bch_btc_deals": "trades:BCH-BTC",
    "ok_sub_spot_btc_usdt_depth_5": "books5:BTC-USDT",
    "ok_sub_spot_btc_usdt_kline_day": "candle1D:BTC-USDT",
    "ok_sub_spot_btc_usdt_order": "orders:instType=SPOT,instId=BTC-USDT",
    "ok_sub_futureusd_eth_trade_quarter": "trades:ETH-USD-YYMMDD (--list ETH-USD- shows the dates)",
    "ok_sub_futureusd_btc_kline_next_week_4hour": "candle4H:BTC-USD-YYMMDD (--list BTC-USD- shows the dates)",
    "ok_sub_futureusd_btc_index": "index-tickers:BTC-USD",
    "btc_forecast_price": "estimated-price:instType=FUTURES,instFamily=BTC-USD",
    "spot/candle60s:BTC-USDT": "candle1m:BTC-USDT",
    "futures/trade:BTC-USD-191227": "trades:BTC-USD-YYMMDD (--list BTC-USD- shows the dates)",
    "index/candle3600s:BTC-USD": "index-candle1H:BTC-USD",
    "option/summary:BTC-USD": "opt-summary:instFamily=BTC-USD",
    "spot/account:USDT": "account:ccy=USDT",
    "index/ticker:BTC-USD-SWAP": "index-tickers:BTC-USD",
    "swap/funding_rate:BTC-USD-191227": "funding-rate:BTC-USD-SWAP",
    "spot/trade:%S" + "A" * 5000: "trades:BTC-USDT",
}


def test_a_channel_of_yesterday_has_one_of_today_that_exists():
    assert {channel: todays_channel(channel) for channel in YESTERDAY} == YESTERDAY
    for name in every_name():
        if okex_ws.dialect_of(name).retired:
            today = todays_channel(name).partition(" ")[0].replace("YYMMDD", "261225")
            assert today and not misnomer(today), name


# -- Lists
def test_the_list_of_kinds_fits_a_terminal_and_names_them_all():
    commands = ["--list"], ["--list", "all"], ["--list", "v3"], ["--list", "v1"]
    lists = {arguments[-1]: out.splitlines() for arguments, _, out, _ in finish_all(commands)}
    for dialect, word in ((V5, "all"), (V3, "v3"), (V1, "v1")):
        listed = [line.split()[-1] for line in lists[word] if line[0] != " "]
        assert listed == [f"{kind.name}:{kind.argument}".rstrip(":") for kind in dialect.kinds]
    assert max(len(line) for lines in lists.values() for line in lines) <= 80
    usual = "trades tickers books books5 bbo-tbt candle<bar> funding-rate mark-price orders positions".split()
    assert re.findall(r"^\w+(?:, \w+)?  +([^\s:]+)", "\n".join(lists["--list"]), re.M) == usual
    assert {"public           trades:BTC-USDT", "private, login   orders:instType=ANY"} <= set(lists["--list"])
    assert all(f"--list {more}" in "".join(lists["--list"]) for more in ("all", "v3", "v1", "PART"))
    everything = "\n".join(lists["all"])
    seconds = re.findall(r"candle<(\w+)>.*\n.*\n +<\w+>: 1m (1s)?", everything)
    assert seconds == [("bar", "1s"), ("longer", ""), ("longer", ""), ("bar", "1s")]
    assert "copytrading-lead-notification" in everything and "copytrading-notification" not in everything


def test_a_list_takes_instruments_as_a_channel_does(finder):
    for pattern in ("BTC-USDT", "btcusdt", "BTC/USDT", "tickers:BTC-USDT*", "btc-usdt-swap"):
        assert "BTC-USDT-SWAP" in okex_ws.list_instruments(finder, pattern), pattern
    dated = okex_ws.list_instruments(finder, "BTC-USD-")
    assert [name for name in dated if re.fullmatch(r"BTC-USD-\d{6}", name)]  # as todays_channel promises
    swaps = okex_ws.list_instruments(finder, "*-usdt-swap")
    assert swaps and all(re.fullmatch(r"\w+-USDT-SWAP", name) for name in swaps)
    calls = okex_ws.list_instruments(finder, "BTC-USD-*-C")
    assert okex_ws.list_instruments(finder, calls[0].lower()) == calls[:1]
    assert set(calls) < set(okex_ws.list_instruments(finder, "BTC-USD-*-[CP]"))
    for pattern in ("NOPE-USD-*-C", "nope-nope", "\x1b[2J"):
        assert okex_ws.list_instruments(finder, pattern) == [], pattern


def test_a_list_has_a_line_each_or_a_line_that_says_why_there_is_none(exchange):
    listed = functools.partial(finish, "--url", exchange.url, "--list")
    status, lines, _ = listed("*-USDT-SWAP")
    assert status == 0 and "BTC-USDT-SWAP" in lines.splitlines()
    for exchange.rest_status, arguments, words in (
        (0, ["\x1b[2J"], "Nothing that is traded"),
        (503, ["btc"], "HTTP 503"),
        (503, ["btc", "--proxy", "http://127.0.0.1:1"], "the proxy 127.0.0.1:1 refused"),
    ):
        status, lines, told = listed(*arguments)
        assert (status, lines) == (1, "") and told.count("\n") == 1 and words in told and "\x1b" not in told, told
    status, lines, _ = listed("funding")  # a kind, for which nobody needs to be asked
    assert status == 0 and "public           funding-rate:BTC-USDT-SWAP" in lines.splitlines()
    for where, words in ((">/dev/full", "No space left"), (">&-", "")):
        command = f"{shlex.join([sys.executable, str(SCRIPT), '--list'])} {where}"
        told = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30)
        assert told.returncode and words in told.stderr and told.stderr.count("\n") == 1, where


def test_an_answer_that_is_not_the_exchanges_is_no_surprise():
    bodies = b"[]", b"7", b"{}", b'{"code":"0"}', b"[" * 100_000, b"\xff"
    answers = [b"HTTP/1.1 200 OK\r\n\r\n" + body for body in bodies]
    answers += [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]
    answers += [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n"]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        for answer in answers:
            with pytest.raises((OSError, ValueError)):
                find_channels("tickers:*-USDT", url=f"ws://127.0.0.1:{server.getsockname()[1]}")
                pytest.fail(f"taken for a list: {answer[:50]}")


# -- Patterns
def test_a_pattern_subscribes_to_all_that_is_traded_now(exchange, connect, caplog):
    caplog.set_level("INFO", "okex_ws")
    client = connect("tickers:*-USDT-SWAP", "trades:BTC-USDT")
    wait_for(lambda: len(client.channels) > 2 and set(client.channels.values()) == {"confirmed"})
    swaps = [i for i in exchange.listed.values() if i.kind == "SWAP" and i.name.endswith("-USDT-SWAP")]
    names = [f"tickers:{i.name}" for i in swaps if i.state == "live"]
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


def test_a_pattern_that_matches_nothing_is_an_end_with_a_reason(exchange):
    status, _, told = finish("--url", exchange.url, "tickers:NOPE-*")
    assert status == 1 and "no instrument that is traded now matches tickers:NOPE-*" in told
    for pattern in ("tickers:NOPE-USD-*-C", "trades:*-C", "funding-rate:BTC-USD-*-C"):
        with pytest.raises(LookupError, match=rf"matches {re.escape(pattern)} \(options by family: BTC-USD-\*-C\)"):
            OkexWS([pattern], url=exchange.url).run()
    for pattern in ("status:*", "sprd-tickers:*", "spot/ticker:*-USDT", "liquidation-orders:*", "trades:instId=BTC-*"):
        with pytest.raises(ValueError, match=rf"{re.escape(pattern)} does not exist"):
            OkexWS([pattern], url=exchange.url)
    assert exchange.handshakes == 0


def test_a_list_that_cannot_be_had_is_tried_again_unless_the_client_is_closed(exchange, connect, impatient, caplog):
    exchange.rest_status = 503
    client, closed = connect("tickers:BTC-USD*", "trades:BTC-USDT"), connect("tickers:BTC-USD*")
    wait_for(lambda: client.saw(DISCONNECTED, 2) and closed.saw(DISCONNECTED))
    closed.close()
    wait_for(lambda: not closed.thread.is_alive())
    assert "No list yet: 127.0.0.1" in caplog.text and exchange.handshakes == 0
    assert client.channels == dict.fromkeys(("tickers:BTC-USD*", "trades:BTC-USDT"), "wanted")
    exchange.rest_status = 0
    wait_for(lambda: client.rows and "tickers:BTC-USDT" in client.channels)
    assert closed.error is None and exchange.handshakes == 1


def test_patterns_can_be_given_up_before_and_after_they_are_looked_up(exchange, connect, impatient):
    exchange.rest_status = 503
    client = connect("index-tickers:*", "tickers:BTC-USD*", "books5:*-USDT", "tickers:ETH-USDT")
    wait_for(lambda: client.saw(DISCONNECTED))
    client.unsubscribe("books5:*-USDT")
    exchange.rest_status, exchange.rest_delay = 0, 0.5
    asked = len(exchange.fetched)
    wait_for(lambda: len(exchange.fetched) > asked)
    client.unsubscribe("index-tickers:*")  # while its list is on its way
    exchange.rest_delay = 0.0
    wait_for(lambda: len(client.channels) > 2 and set(client.channels.values()) == {"confirmed"})
    client.unsubscribe("tickers:BTC-*")
    wait_for(lambda: client.channels == {"tickers:ETH-USDT": "confirmed"})
    with pytest.raises(ValueError, match="for the start"):
        client.subscribe("tickers:*-USDT")


def test_a_refusal_ends_no_run_whose_patterns_are_still_looked_up(exchange):
    exchange.rest_status = 503
    process = program("trades:NOPE-USDT", "candle1m:BTC-*", "--url", exchange.url, stderr=subprocess.STDOUT)
    assert next(line for line in process.stdout if "refused trades:NOPE-USDT" in line)
    exchange.rest_status = 0
    assert next(line for line in process.stdout if re.search(r"BTC-\w+ 1m", line))
    process.terminate()
    process.communicate(timeout=30)


def test_commands_keep_a_book_on_its_connection_and_take_patterns_back_but_give_none(exchange, monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_DEEP_BOOKS", 2)
    channels = "books:BTC-USDT books:ETH-USDT books:LTC-USDT tickers:BTC-USDT tickers:ETH-USDT".split()
    run = okex_ws.Run(okex_ws.parse_arguments([*channels, "--url", exchange.url]), okex_ws.Console())
    run.command("unsubscribe", ["books:BTC-USDT"])
    run.subscribe(["books:LTC-USDT"])  # it is on the second, and the first has room
    for pattern in ("tickers:*-USDT", "candle1m:*-USDT"):
        with pytest.raises(ValueError, match="for the start"):
            run.command("subscribe", [pattern])
    run.command("unsubscribe", ["tickers:B*"])
    first, second = ({*client.channels} for client in run.clients)
    assert (first, second) == ({"books:ETH-USDT", "tickers:ETH-USDT"}, {"books:LTC-USDT"})
    for client in run.clients:
        client.close()


def test_options_are_found_by_their_family_and_indices_by_what_they_are_about(exchange):
    found = find_channels("trades:BTC-USD-*-C", "trades:BTC-USD-*", "trades:BTC-*", url=exchange.url)
    assert len(found) == len(set(found)) and "trades:BTC-USD-SWAP" in found
    calls = [name for name in found if name.endswith("-C")]
    assert calls and all(re.fullmatch(r"trades:BTC-USD-\d{6}-\d+-C", name) for name in calls)
    indices = find_channels("index-tickers:BTC-*", url=exchange.url)
    assert {"index-tickers:BTC-USD", "index-tickers:BTC-USDT"} <= set(indices)
    assert not [name for name in indices if name.endswith("SWAP")]


def test_perpetuals_that_are_listed_as_futures_have_funding_by_name_and_by_pattern(exchange, connect):
    perpetuals = [i.name for i in exchange.listed.values() if "_XPERP-" in i.name]
    assert len(perpetuals) > 1 and {exchange.listed[name].kind for name in perpetuals} == {"FUTURES"}
    assert find_channels("funding-rate:*_XPERP-*", url=exchange.url) == [f"funding-rate:{name}" for name in perpetuals]
    bitcoin = find_channels("funding-rate:BTC-*", url=exchange.url)
    assert bitcoin == [f"funding-rate:BTC-{end}" for end in "USDT-SWAP USD-SWAP USDC-SWAP USD_UM_XPERP-310404".split()]
    client = connect("funding-rate:*_XPERP-*")
    wait_for(lambda: {channel for channel, _ in client.rows} == {f"funding-rate:{name}" for name in perpetuals})
    assert {row["instType"] for _, row in client.rows} == {"FUTURES"}


def test_an_instrument_is_looked_up_once_and_never_another_one(exchange):
    row = okex_ws.instrument("BTC-USDT-SWAP", url=exchange.url)
    assert (row["instId"], row["state"], row["ctVal"]) == ("BTC-USDT-SWAP", "live", "0.01")
    assert {"tickSz", "lotSz", "minSz", "instIdCode"} <= set(row)
    row["tickSz"] = "mine"
    assert okex_ws.instrument("BTC-USDT-SWAP", url=exchange.url)["tickSz"] != "mine" and len(exchange.fetched) == 1
    exchange.rest_rows = lambda path, query, rows: [r | {"instId": "ETH-USDT"} for r in rows]
    for name in ("NOPE-USDT", "BTC-USDT"):
        with pytest.raises(LookupError, match=f"lists no {name}"):
            okex_ws.instrument(name, url=exchange.url)


def test_hostile_names_in_a_list_are_left_out(exchange, caplog):
    caplog.set_level("INFO", "okex_ws")
    hostile = ["\x1b[2J", "A,instId=B-C", "*-USDT", "A:B", "", "X" * 10_000, 'A"B', "A B-USDT"]
    good = ["GOOD-USDT", "币安人生-USDT"]
    rows = [{"instId": name, "state": "live", "uly": name} for name in [*hostile, *good, good[0]]]
    exchange.rest_rows = lambda path, query, _: rows
    for kind in ("tickers", "index-tickers"):
        assert find_channels(f"{kind}:*", url=exchange.url) == [f"{kind}:{name}" for name in good]
    assert "tickers:* matches 2 instruments" in caplog.text
