"""What a row looks like to a person: a line for each, of every channel that the exchange has documented."""

import random
import re

import pytest

import okex_ws

CLOCK = r"\d\d:\d\d:\d\d\.\d{3} "
NOW = "1795269878588"

# Channel, a row as the exchange sends it, and its line without the time (samples of recordings, and the
# field lists of the exchange's documentation for what was in none). None: a line of `key value`.
V5 = [
    (
        "tickers:BTC-USDT",
        {"instType": "SPOT", "instId": "BTC-USDT", "last": "63707.3", "lastSz": "0.00164251", "askPx": "63707.3",
         "askSz": "0.15", "bidPx": "63707.2", "bidSz": "1.70", "open24h": "63958.9", "high24h": "64496.9",
         "low24h": "63309.4", "sodUtc0": "63484.7", "volCcy24h": "229576048", "vol24h": "3601", "ts": "1786613174873"},
        "BTC-USDT            63707.3        63707.2        63707.3    -0.39%",
    ),
    (
        "trades:BTC-USDT",
        {"instId": "BTC-USDT", "tradeId": "1067468269", "px": "83000.3", "sz": "4.6943", "side": "buy",
         "ts": "1791369376364", "count": "1", "source": "0", "seqId": 82083114838},
        "BTC-USDT            83000.3         4.6943 buy",
    ),
    (
        "trades-all:BTC-USDT",
        {"instId": "BTC-USDT", "tradeId": "1", "px": "83000.3", "sz": "1E-8", "side": "sell", "ts": NOW},
        "BTC-USDT            83000.3           1E-8 sell",
    ),
    (
        "option-trades:instType=OPTION,instFamily=BTC-USD",
        {"fillVol": "0.5", "fwdPx": "26233", "idxPx": "26201.3", "instFamily": "BTC-USD",
         "instId": "BTC-USD-230224-18000-C", "markPx": "0.04", "optType": "C", "px": "0.0495", "side": "sell",
         "sz": "1", "tradeId": "1", "ts": NOW},
        "BTC-USD-230224-18000-C 0.0495            1 sell  vol 0.5  mark 0.04",
    ),
    (
        "bbo-tbt:BCH-USDT-SWAP",
        {"asks": [["111.06", "55154", "0", "2"]], "bids": [["111.05", "57745", "0", "2"]], "ts": "1670324386802",
         "seqId": 363996337},
        "BCH-USDT-SWAP        111.05      57745     111.06      55154   0.01",
    ),
    (
        "books5:BTC-USDT",
        {"asks": [["8.4", "7", "0", "1"]] * 5, "bids": [["8.3", "2", "0", "1"]] * 5, "instId": "BTC-USDT", "ts": NOW},
        "BTC-USDT                8.3          2        8.4          7    0.1",
    ),
    (
        "books:BTC-USDT-SWAP",
        {"asks": [["83725.9", "1712.41", "0", "92"]], "bids": [], "ts": "1791369351001", "seqId": 3, "prevSeqId": -1},
        "BTC-USDT-SWAP             -          -    83725.9    1712.41      -",
    ),
    (
        "books:BTC-USDT-SWAP",
        {"asks": [["83725.9", "0", "0", "0"]] * 3, "bids": [], "ts": "1791369351001", "seqId": 5, "prevSeqId": 3},
        "BTC-USDT-SWAP 0 bids and 3 asks changed",
    ),
    (
        "index-tickers:BTC-USDT",
        {"instId": "BTC-USDT", "idxPx": "110", "high24h": "0.5", "low24h": "0.1", "open24h": "100", "ts": NOW},
        "BTC-USDT                110 index  change +10.00%",
    ),
    (
        "mark-price:LTC-USD-190628",
        {"instType": "FUTURES", "instId": "LTC-USD-190628", "markPx": "0.1", "ts": NOW},
        "LTC-USD-190628          0.1 mark",
    ),
    (
        "price-limit:BTC-USDT-SWAP",
        {"instId": "BTC-USDT-SWAP", "buyLmt": "84000.1", "sellLmt": "82000", "ts": NOW, "enabled": True},
        "BTC-USDT-SWAP       84000.1          82000 limits",
    ),
    (
        "funding-rate:BTC-USD-SWAP",
        {"instType": "SWAP", "instId": "BTC-USD-SWAP", "fundingRate": "0.018", "nextFundingRate": "", "method": "x",
         "fundingTime": "1597026383085", "nextFundingTime": "1597055183085", "ts": NOW, "premium": ""},
        r"BTC-USD-SWAP          0.018 funding  at 2020-08-10 DAY",
    ),
    (
        "open-interest:LTC-USD-SWAP",
        {"instType": "SWAP", "instId": "LTC-USD-SWAP", "oi": "5000", "oiCcy": "555.55", "ts": NOW},
        "LTC-USD-SWAP           5000 open interest  coins 555.55",
    ),
    (
        "estimated-price:instType=FUTURES,instFamily=XRP-USDT",
        {"instType": "FUTURES", "instId": "XRP-USDT-170310", "settlePx": "200", "settleType": "delivery", "ts": NOW},
        "XRP-USDT-170310         200 estimated",
    ),
    (
        "liquidation-orders:instType=SWAP",
        {"details": [{"bkLoss": "0", "bkPx": "0.01968", "ccy": "", "posSide": "short", "side": "buy", "sz": "42",
                      "ts": "1692266434010"}] * 2,
         "instFamily": "IOST-USDT", "instId": "IOST-USDT-SWAP", "instType": "SWAP", "uly": "IOST-USDT"},
        "IOST-USDT-SWAP      0.01968             42 buy liquidated\n"
        "IOST-USDT-SWAP      0.01968             42 buy liquidated",
    ),
    (
        "opt-summary:instFamily=BTC-USD",
        {"instType": "OPTION", "instId": "BTC-USD-200103-5500-C", "uly": "BTC-USD", "delta": "0.7494", "gamma": "0.",
         "markVol": "0.6", "bidVol": "0.59", "askVol": "0.61", "realVol": "", "fwdPx": "0.1", "ts": NOW},
        "BTC-USD-200103-5500-C   0.6 vol  bid 0.59  ask 0.61  delta 0.7494",
    ),
    (
        "instruments:instType=SWAP",
        {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "ctVal": "0.01", "tickSz": "0.1",
         "lotSz": "1", "state": "live", "instIdCode": 10459, "expTime": ""},
        "BTC-USDT-SWAP          live  tick 0.1  lot 1  code 10459",
    ),
    (
        "status",
        {"title": "Spot System Upgrade", "state": "scheduled", "begin": "1610019546000", "end": "1610019946000",
         "href": "", "serviceType": "1", "ts": NOW},
        "status            scheduled Spot System Upgrade  begin 2021-01-07 DAY  end 2021-01-07 DAY",
    ),
    (
        "account",
        {"uTime": NOW, "totalEq": "41624.32", "details": [
            {"ccy": "BTC", "cashBal": "1", "availBal": "0.9", "eq": "1", "frozenBal": "0.1"}, {"ccy": "USDT"}]},
        "account            41624.32 dollars in all\n"
        "BTC                       1 equity  available 0.9  frozen 0.1\n"
        "USDT (nothing)",
    ),
    (
        "positions:instType=ANY",
        {"instId": "ETH-USD-210430", "instType": "FUTURES", "mgnMode": "isolated", "posSide": "long", "pos": "1",
         "avgPx": "2566.31", "upl": "0.12", "lever": "10", "liqPx": "2352.83", "posId": "30", "uTime": NOW},
        "ETH-USD-210430            1     2566.31 long  pnl 0.12  liq 2352.83",
    ),
    (
        "orders:instType=ANY",
        {"instId": "BTC-USDT", "ordId": "312269865356374016", "clOrdId": "b1", "px": "999", "sz": "3", "side": "buy",
         "ordType": "limit", "state": "partially_filled", "accFillSz": "1", "avgPx": "998", "fee": "", "uTime": NOW},
        "BTC-USDT                999              3 buy partial  filled 1",
    ),
    (
        "orders-algo:instType=ANY",
        {"instId": "BTC-USDT", "algoId": "5", "slTriggerPx": "900", "sz": "3", "side": "sell", "ordType": "oco",
         "state": "live", "tpTriggerPx": "", "ordPx": ""},
        "BTC-USDT                900              3 sell live  type oco",
    ),
    (
        "fills",
        {"instId": "BTC-USDT", "fillSz": "100", "fillPx": "70000", "side": "buy", "ts": NOW, "ordId": "6808",
         "tradeId": "12345", "execType": "T", "count": "10"},
        "BTC-USDT              70000            100 buy fill",
    ),
    (
        "balance_and_position",
        {"pTime": NOW, "eventType": "snapshot", "balData": [{"ccy": "BTC", "cashBal": "1", "uTime": NOW}],
         "posData": [{"posId": "1", "instId": "BTC-USDT-SWAP", "pos": "10", "avgPx": "3320", "posSide": "short"}]},
        "balance_and_position pTime MOMENT  eventType snapshot\n"
        "BTC                       1 balance\n"
        "BTC-USDT-SWAP            10        3320 short",
    ),
    (
        "candle1D:BTC-USDT",
        ["1597026383085", "8533.02", "8553.74", "8527.17", "8548.26", "45247", "529.58", "5529.58", "0"],
        "BTC-USDT 1D         8533.02   8553.74   8527.17  8548.26      45247",
    ),
    (
        "mark-price-candle1m:BTC-USDT-SWAP",
        [NOW, "8533.02", "8553.74", "8527.17", "8548.26", "0"],
        "BTC-USDT-SWAP mark 1m 8533.02 8553.74   8527.17  8548.26",
    ),
    ("sprd-tickers:BTC-USDT_BTC-USDT-SWAP",
     {"sprdId": "BTC-USDT_BTC-USDT-SWAP", "last": "4", "bidPx": "3", "askPx": "5"},
     "BTC-USDT_BTC-USDT-SWAP    4              3              5"),
    ("sprd-trades", {"sprdId": "A_B", "fillPx": "4", "fillSz": "1", "side": "buy", "state": "filled"},
     "A_B                       4              1 buy fill"),
    ("sprd-orders", {"sprdId": "A_B", "px": "4", "sz": "1", "side": "buy", "state": "live"},
     "A_B                       4              1 buy live"),
    ("liquidation-warning:instType=ANY", {"instId": "A-B", "pos": "5", "avgPx": "2", "posSide": "long"},
     "A-B                       5           2 long"),
    ("account-greeks", {"ccy": "BTC", "deltaBS": "0.1", "deltaPA": "", "thetaBS": "-7", "ts": NOW},
     "BTC deltaBS 0.1  thetaBS -7  ts MOMENT"),
    ("deposit-info", {"ccy": "USDT", "amt": "1", "chain": "USDT-TRC20", "state": "2", "ts": NOW, "pTime": NOW},
     "USDT amt 1  chain USDT-TRC20  state 2  ts MOMENT  pTime MOMENT"),
    ("rfqs",
     {"rfqId": "22534", "state": "active", "counterparties": ["T", "U"], "legs": [{"instId": "A-B", "sz": "25"}]},
     "rfqs rfqId 22534  state active  counterparties T/U\nA-B sz 25"),
    ("event-contract-markets:instType=EVENTS",
     {"instId": "BTC-ABOVE-DAILY-260428-1600-64000", "px": "", "outcome": "YES"},
     "BTC-ABOVE-DAILY-260428-1600-64000 outcome YES"),
    ("a-channel-of-tomorrow:X", {"instId": "X", "deep": {"a": {"b": [[1, 2]]}}, "n": None, "e": [], "yes": True},
     "X yes True\nX b 1 x"),
]  # fmt: skip

V3 = [
    ("spot/ticker:ETH-USDT",
     {"instrument_id": "ETH-USDT", "last": "146.24", "best_bid": "146.24", "best_ask": "146.25", "open_24h": "147.17"},
     "ETH-USDT             146.24         146.24         146.25    -0.63%"),
    ("futures/trade:BTC-USD-191227",
     {"instrument_id": "BTC-USD-191227", "price": 328.74, "side": "sell", "qty": 12, "trade_id": "4"},
     "BTC-USD-191227       328.74             12 sell"),
    ("spot/depth5:ETH-USDT",
     {"asks": [["161.96", "7.37567", 3]], "bids": [["161.94", "4.552355", 1]], "instrument_id": "ETH-USDT"},
     "ETH-USDT             161.94   4.552355     161.96    7.37567   0.02"),
    ("spot/depth:WAVES-BTC",
     {"asks": [["0.000715", "100.48199596", 3]], "bids": [["0.000713", "38.9", 1]], "checksum": -131160897},
     "WAVES-BTC 1 bids and 1 asks changed"),
    ("spot/candle60s:ETH-USDT",
     {"candle": ["2019-04-16T10:49:00.000Z", "162.03", "162.04", "161.96", "161.98", "336.452694"],
      "instrument_id": "ETH-USDT"},
     "ETH-USDT 60s         162.03    162.04    161.96   161.98 336.452694"),
    ("swap/funding_rate:BCH-USD-SWAP",
     {"estimated_rate": "0.00037", "funding_rate": "0.00023534", "funding_time": "2019-08-01T04:00:00.000Z",
      "instrument_id": "BCH-USD-SWAP", "interest_rate": "0"},
     "BCH-USD-SWAP     0.00023534 funding  at 2019-08-01 DAY  next 0.00037"),
    ("swap/mark_price:BTC-USD-SWAP", {"instrument_id": "BTC-USD-SWAP", "mark_price": "10001", "timestamp": NOW},
     "BTC-USD-SWAP          10001 mark"),
    ("futures/price_range:BTC-USD-191227", {"instrument_id": "BTC-USD-191227", "highest": "8.1", "lowest": "7.9"},
     "BTC-USD-191227          8.1            7.9 limits"),
    ("futures/estimated_price:BTC-USD-191227", {"instrument_id": "BTC-USD-191227", "settlement_price": "8.1"},
     "BTC-USD-191227          8.1 estimated"),
    ("futures/liquidation:BTC-USD-191227",
     {"instrument_id": "BTC-USD-191227", "price": "8.1", "size": "4", "side": "sell", "created_at": NOW},
     "BTC-USD-191227          8.1              4 sell liquidated"),
    ("option/summary:BTC-USD",
     {"instrument_id": "BTC-USD-200207-8500-P", "mark_vol": "0.6", "bid_vol": "0.5", "ask_vol": "0.7", "delta": "-0.1"},
     "BTC-USD-200207-8500-P   0.6 vol  bid 0.5  ask 0.7  delta -0.1"),
    ("futures/instruments", {"instrument_id": "BTC-USD-191227", "tick_size": "0.01", "delivery": "2019-12-27"},
     "BTC-USD-191227               tick 0.01  expires 2019-12-27"),
    ("system/status", {"title": "Upgrade", "status": "1", "start_time": "2019-08-01T04:00:00.000Z"},
     "system/status       partial Upgrade  begin 2019-08-01 DAY"),
    ("spot/account:USDT", {"balance": "2.21", "available": "1.63", "currency": "USDT", "id": "", "hold": "0.5826"},
     "USDT                   2.21 balance  available 1.63  hold 0.5826"),
    ("futures/account:BTC",
     {"BTC": {"equity": "997.4", "margin_mode": "fixed", "total_avail_balance": "995.8", "contracts": [{"a": "1"}]}},
     "BTC                   997.4 equity  available 995.8  margin fixed"),
    ("spot/order:ETH-USDT",
     {"order_id": "9", "instrument_id": "ETH-USDT", "price": "1.5", "size": "2", "side": "buy", "state": "0",
      "status": "open", "filled_size": "0"},
     "ETH-USDT                1.5              2 buy open  filled 0"),
    ("spot/order_algo:LTC-USDT",
     {"instrument_id": "ltc_usdt", "trigger_price": "9", "size": "1", "side": "sell", "status": "1"},
     "ltc_usdt                  9              1 sell partial"),
    ("futures/position:BTC-USD-191227",
     {"instrument_id": "BTC-USD-191227", "long_qty": "2", "long_avg_cost": "8.1", "short_qty": "0"},
     "BTC-USD-191227            2            8.1 long  short 0"),
    ("swap/position:BTC-USD-SWAP",
     {"instrument_id": "BTC-USD-SWAP", "timestamp": NOW,
      "holding": [{"side": "long", "position": "1", "avg_cost": "8", "liquidation_price": "7", "realized_pnl": "0.5"}]},
     "BTC-USD-SWAP timestamp MOMENT\n"
     "BTC-USD-SWAP              1           8 long  pnl 0.5  liq 7"),
]  # fmt: skip

V1 = [
    ("ok_sub_futureusd_btc_ticker_this_week",
     {"limitHigh": "1030.3", "vol": 276406, "last": 998.05, "sell": 998.05, "buy": 997.61, "contractId": 20170324034},
     "btc_this_week        998.05         997.61         998.05"),
    ("ok_sub_futureusd_btc_kline_this_week_1min",
     ["1490340480000", "998.96", "998.97", "998.95", "998.96", "12.0", "1.201249299271"],
     "btc_this_week 1min   998.96    998.97    998.95   998.96       12.0"),
    ("ok_sub_futureusd_btc_depth_this_week",
     {"timestamp": 1490337551299, "asks": [["996.72", "20.0", "2.0", "85.6", "852.0"]], "bids": []},
     "btc_this_week 0 bids and 1 asks changed"),
    ("ok_sub_futureusd_btc_depth_this_week_20",
     {"timestamp": 1490337551299, "asks": [[996.72, 20.5]], "bids": [["991.67", "6.0", "0.605", "0.605", "6.0"]]},
     "btc_this_week        991.67        6.0     996.72       20.5   5.05"),
    ("ok_sub_futureusd_btc_trade_quarter", ["732916869", "83000.3", "4.6943", "15:25:03", "bid", "1.2006"],
     "btc_quarter         83000.3         4.6943 buy"),
    ("ok_sub_futureusd_btc_index", {"timestamp": "1490341322021", "futureIndex": "998.0"},
     "btc                   998.0 index"),
    ("btc_forecast_price", {"timestamp": "1490341322021", "data": "998.8"}, "btc                   998.8 estimated"),
    ("ok_sub_futureusd_trades",
     {"amount": 5, "contract_name": "LTC0331", "price": 998.5, "status": 1, "type": 4, "deal_amount": 2},
     "LTC0331               998.5              5 end short partial  filled 2"),
    ("ok_sub_futureusd_userinfo",
     {"balance": 0.2567, "symbol": "btc_usd", "keep_deposit": 0.0025, "profit_real": -0.0013},
     "btc_usd              0.2567 balance  profit -0.0013  deposit 0.0025"),
    ("ok_sub_futureusd_positions",
     {"positions": [{"position": "1", "contract_name": "BTC0630", "avgprice": "994.8", "hold_amount": "3"}],
      "symbol": "btc_usd", "user_id": 101},
     "btc_usd user_id 101\n"
     "BTC0630                   3       994.8 long"),
    ("ok_sub_spot_bch_btc_ticker", {"high": "10000", "last": "111", "buy": "115", "change": "101", "sell": "115"},
     "bch_btc                 111            115            115"),
    ("ok_sub_spot_bch_btc_depth_5", {"asks": [], "bids": [["115", "1"], ["1E-8", "0.0008792"]], "timestamp": 1},
     "bch_btc                 115          1          -          -      -"),
    ("ok_sub_spot_bch_btc_deals", ["1001", "2463.86", "0.052", "16:34:07", "ask"],
     "bch_btc             2463.86          0.052 sell"),
    ("ok_sub_spot_bch_btc_kline_1min", ["1490337840000", "995.37", "996.75", "995.36", "996.75", "9.112"],
     "bch_btc 1min         995.37    996.75    995.36   996.75      9.112"),
    ("ok_sub_spot_bch_btc_order",
     {"symbol": "bch_btc", "orderId": 1, "tradeType": "sell", "tradeUnitPrice": "5", "tradeAmount": "2", "status": 0},
     "bch_btc                   5              2 sell open"),
    ("ok_sub_spot_bch_btc_balance", {"info": {"free": {"btc": 5.8}, "freezed": {"btc": 0}}},
     "bch_btc btc 5.8\nbch_btc btc 0"),
]  # fmt: skip
SAMPLES = V5 + V3 + V1


@pytest.fixture
def shown(capsys, monkeypatch):
    """What print_rows prints at NOW, as lines without their time, and with the hours of other days left out."""
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: int(NOW) / 1000)

    def show(channel, *rows, **options):
        okex_ws.print_rows(channel, list(rows), **options)
        lines = capsys.readouterr().out.splitlines()
        return [re.sub(r"(\d{4}-\d\d-\d\d) \d\d:\d\d", r"\1 DAY", re.sub(f"^({CLOCK}| {{13}})", "", x)) for x in lines]

    return show


@pytest.mark.parametrize(("channel", "row", "line"), SAMPLES, ids=[channel for channel, _, _ in SAMPLES])
def test_each_channel_has_a_line_that_a_person_reads(shown, channel, row, line):
    lines = shown(channel, row)
    moment = okex_ws.moment_text(NOW)
    assert [one.replace(moment, "MOMENT") for one in lines] == line.replace("MOMENT", moment).replace(
        moment, "MOMENT"
    ).splitlines()
    assert not any(c in one for one in lines for c in '{}[]"')
    assert channel in ("status", "ok_sub_futureusd_trades") or "DAY" in line or max(map(len, lines)) <= 80 - 13


def test_a_trade_has_the_exact_line_of_the_readme(capsys):
    okex_ws.print_rows("trades:BTC-USDT", [{"px": "83000.3", "sz": "4.6943", "side": "buy"}])
    line = capsys.readouterr().out
    assert re.fullmatch(CLOCK + "BTC-USDT            83000.3         4.6943 buy\n", line)


def test_mixed_channels_align():
    ends = {
        re.search(r"\d\d(\d)\.\d", line[13:]).start()
        for channel in ("trades:A-B", "tickers:A-B", "mark-price:A-B", "candle1m:A-B")
        for row in [dict.fromkeys(("px", "last", "markPx", "o"), "83000.3")]
        for _, line, _ in okex_ws.row_lines(channel, row, "12:00:00.000")
    }
    assert len(ends) == 1


def test_nothing_is_longer_than_200_characters_and_nothing_controls_the_terminal(shown):
    odd = {"instId": "\x1b[2J" * 9, "x" * 300: "y" * 300, "z": ["\x9b"] * 500}
    for line in shown("new:X", odd) + shown("trades:X", {"px": "9" * 400, "sz": "\x07", "side": "\r"}):
        assert len(line) <= 200 - 13 and line.isprintable()


@pytest.mark.parametrize("row", [None, 7, "text", [], {}, [None], [[1]], {"bids": [], "asks": []}, {"candle": []},
                                 {"details": [None, 7, {}]}, {"bids": [["x"]], "asks": [[None, None]]},
                                 {"last": "x", "open24h": "0"}, {"ts": "9" * 13}])  # fmt: skip
@pytest.mark.parametrize(
    "channel", ["trades:X", "books5:X", "tickers:X", "status", "new", "spot/candle60s:X", "\x1b x"]
)
def test_an_odd_row_has_a_line_too(shown, channel, row):
    lines = shown(channel, row)
    assert lines and all(lines)


def test_whatever_a_row_holds_no_json_is_shown_and_nothing_fails():
    dice = random.Random(5)
    values = ["1.5", "", "x", None, 7, 1.25, True, [], {}, [["1", "2"]], [{"a": "1", "instId": "Q"}], [None], "\x1b[2J"]
    values += [{"BTC": {"equity": "3"}}, NOW, "2019-01-01T00:00:00Z", ["a", "b"], [[["1"], {"b": "2"}]], "9" * 400]
    keys = {key for _, row, _ in SAMPLES if row.__class__ is dict for key in row} | {
        "bids",
        "asks",
        "candle",
        "details",
    }
    for channel in dict.fromkeys(channel for channel, _, _ in SAMPLES):
        for _ in range(50):
            row = {key: dice.choice(values) for key in dice.sample(sorted(keys), dice.randint(0, 8))}
            lines = okex_ws.row_lines(channel, row, "12:00:00.000", ladder=dice.choice((1, 3)))
            assert lines and all(len(line.text) > 14 for line in lines)
            assert "bids" in row or not any(c in line.text for line in lines for c in "{}'"), (channel, row)


def test_numbers_are_shown_as_they_were_sent(shown):
    for sent in ("0.10000000000000000001", "1E-8", "00.50", "123456789012345678901234567890.5"):
        assert f" {sent} " in shown("trades:X", {"px": "1", "sz": sent, "side": "buy"})[0]


def test_a_ladder_has_its_best_levels_in_the_middle(shown):
    row = {"bids": [["9", "1"], ["8", "2"], ["7", "3"]], "asks": [["9.5", "4"], ["10", "5"], ["11", "6"]], "ts": "1"}
    assert shown("books:BTC-USDT", row, ladder=2) == [
        "BTC-USDT                 10              5 ask",
        "                        9.5              4 ask",
        "                        0.5                spread",
        "                          9              1 bid",
        "                          8              2 bid",
    ]


def test_headings_come_once_for_each_kind_and_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    show = okex_ws.RowPrinter()
    trade, ticker = {"px": "1", "sz": "2", "side": "buy"}, {"last": "1"}
    for channel, row in (("trades:A", trade), ("trades:B", trade), ("tickers:A", ticker), ("trades-all:A", trade)):
        show(channel, [row, row])
    headings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("time")]
    assert headings == [
        "time         instrument            price           size side",
        "time         instrument             last            bid            ask    change",
    ]


def test_every_example_of_the_help_has_a_format_of_its_own():
    for channel in re.findall(r"(?<!\S)(?:[a-z][\w/-]*:[\w=-]+|ok_sub_\w+)", okex_ws.EXAMPLES):
        channel = channel.replace("liquidation-orders:", "liquidation-orders.details:")
        assert okex_ws.line_format(channel).parts, channel
