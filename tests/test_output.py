"""What a row looks like to a person: a line for each, of every channel that the exchange has documented."""

import random
import re

import pytest

import okex_ws
from okex_ws import V1, V3, V5

CLOCK = r"\d\d:\d\d:\d\d\.\d{3} "
NOW = "1795269878588"

LEGS = [
    {"instId": "BTC-USD-220114-25000-C", "px": "0.0023", "sz": "25.0", "side": "sell", "fee": "0.1", "tradeId": "1"},
    {"instId": "BTC-USD-220114-35000-C", "px": "0.0045", "sz": "25", "side": "buy", "tgtCcy": ""},
]
LEG_LINES = "BTC-USD-220114-25000-C 0.0023         25.0 contracts sell\n"
LEG_LINES += "BTC-USD-220114-35000-C 0.0045           25 contracts buy"

ORDER = {"instId": "BTC-USDT-SWAP", "ordId": "312269865356374016", "clOrdId": "", "px": "83000.3", "sz": "25",
         "side": "sell", "state": "live", "amendResult": "", "cancelSource": "", "reduceOnly": "false"}  # fmt: skip

# Channel, a row as the exchange sends it, by its documentation, and its line without the time.
SAMPLES = [
    ("tickers:BTC-USDT", {"instType": "SPOT", "instId": "BTC-USDT", "last": "63707.3", "lastSz": "0.00164251",
     "askPx": "63707.3", "askSz": "0.15", "bidPx": "63707.2", "open24h": "63958.9", "ts": "1786613174873"},
     "BTC-USDT            63707.3        63707.2        63707.3    -0.39%"),
    ("trades:BTC-USDT", {"instId": "BTC-USDT", "tradeId": "1067468269", "px": "83000.3", "sz": "4.6943", "side": "buy",
     "ts": "1791369376364"}, "BTC-USDT            83000.3         4.6943 buy"),
    ("option-trades:instType=OPTION,instFamily=BTC-USD", {"fillVol": "0.5", "fwdPx": "26233", "idxPx": "26201.3",
     "instFamily": "BTC-USD", "instId": "BTC-USD-230224-18000-C", "px": "0.0495", "side": "sell", "sz": "1",
     "ts": NOW}, "BTC-USD-230224-18000-C 0.0495            1 contracts sell  vol 0.5"),
    ("bbo-tbt:BCH-USDT-SWAP", {"asks": [["111.06", "55154", "0", "2"]], "bids": [["111.05", "57745", "0", "2"]],
     "ts": "1670324386802", "seqId": 363996337}, "BCH-USDT-SWAP        111.05      57745     111.06      55154   0.01"),
    ("books5:BTC-USDT", {"asks": [["8.4", "7", "0", "1"]] * 5, "bids": [["8.3", "2", "0", "1"]] * 5,
     "instId": "BTC-USDT", "ts": NOW}, "BTC-USDT                8.3          2        8.4          7    0.1"),
    ("books:BTC-USDT-SWAP", {"asks": [["83725.9", "1712.41", "0", "92"]], "bids": [], "ts": "1791369351001",
     "seqId": 3, "prevSeqId": -1}, "BTC-USDT-SWAP             -          -    83725.9    1712.41      -"),
    ("books:BTC-USDT-SWAP", {"asks": [["83725.9", "0", "0", "0"]] * 3, "bids": [], "ts": "1791369351001", "seqId": 5,
     "prevSeqId": 3}, "BTC-USDT-SWAP 0 bids and 3 asks changed"),
    ("index-tickers:BTC-USDT", {"instId": "BTC-USDT", "idxPx": "110", "high24h": "0.5", "low24h": "0.1",
     "open24h": "100", "ts": NOW}, "BTC-USDT                110 index  change +10.00%"),
    ("mark-price:LTC-USD-190628", {"instType": "FUTURES", "instId": "LTC-USD-190628", "markPx": "0.1", "ts": NOW},
     "LTC-USD-190628          0.1 mark"),
    ("price-limit:BTC-USDT-SWAP", {"instId": "BTC-USDT-SWAP", "buyLmt": "84000.1", "sellLmt": "82000", "ts": NOW,
     "enabled": True}, "BTC-USDT-SWAP       84000.1          82000 limits"),
    ("funding-rate:BTC-USD-SWAP", {"instType": "SWAP", "instId": "BTC-USD-SWAP", "fundingRate": "0.018",
     "nextFundingRate": "", "fundingTime": "1597026383085"}, "BTC-USD-SWAP          0.018 funding  at 2020-08-10 DAY"),
    ("open-interest:LTC-USD-SWAP", {"instType": "SWAP", "instId": "LTC-USD-SWAP", "oi": "5000", "oiCcy": "555.55",
     "ts": NOW}, "LTC-USD-SWAP           5000 contracts open  coins 555.55"),
    ("estimated-price:instType=FUTURES,instFamily=XRP-USDT", {"instType": "FUTURES", "instId": "XRP-USDT-170310",
     "settlePx": "200", "settleType": "delivery", "ts": NOW}, "XRP-USDT-170310         200 estimated"),
    ("liquidation-orders:instType=SWAP", {"details": [{"bkLoss": "0", "bkPx": "0.01968", "ccy": "", "posSide": "short",
     "side": "buy", "sz": "42", "ts": "1692266434010"}] * 2, "instFamily": "IOST-USDT", "instId": "IOST-USDT-SWAP",
     "instType": "SWAP", "uly": "IOST-USDT"}, "IOST-USDT-SWAP      0.01968             42 contracts buy liquidated\n"
     "IOST-USDT-SWAP      0.01968             42 contracts buy liquidated"),
    ("opt-summary:instFamily=BTC-USD", {"instType": "OPTION", "instId": "BTC-USD-200103-5500-C", "uly": "BTC-USD",
     "delta": "0.7494", "gamma": "0.", "markVol": "0.6", "bidVol": "0.59", "askVol": "0.61", "realVol": "",
     "fwdPx": "0.1", "ts": NOW}, "BTC-USD-200103-5500-C   0.6 vol  bid 0.59  ask 0.61  delta 0.7494"),
    ("instruments:instType=SWAP", {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "tickSz": "0.1", "lotSz": "1",
     "state": "live", "expTime": ""}, "BTC-USDT-SWAP          live  tick 0.1  lot 1"),
    ("status", {"title": "Spot System Upgrade", "state": "scheduled", "begin": "1610019546000", "end": "1610019946000",
     "href": "", "ts": NOW}, "status scheduled Spot System Upgrade  begin 2021-01-07 DAY  end 2021-01-07 DAY"),
    ("account", {"uTime": NOW, "totalEq": "41624.32", "details": [{"ccy": "BTC", "cashBal": "1", "availBal": "0.9",
     "eq": "1", "frozenBal": "0.1"}, {"ccy": "USDT"}]}, "account            41624.32 dollars in all\n"
     "BTC                       1 equity  available 0.9  frozen 0.1\n" "USDT (nothing)"),
    ("positions:instType=ANY", {"instId": "ETH-USD-210430", "instType": "FUTURES", "mgnMode": "isolated",
     "posSide": "long", "pos": "1", "avgPx": "2566.31", "upl": "0.12", "lever": "10", "liqPx": "2352.83",
     "posId": "30", "uTime": NOW}, "ETH-USD-210430 1 contracts 2566.31 long  pnl 0.12  liq 2352.83"),
    ("positions:instType=ANY", {"eventType": "snapshot", "curPage": 1, "lastPage": True},
     "positions:instType=ANY  none"),
    ("orders:instType=ANY", {"instId": "BTC-USDT", "ordId": "312269865356374016", "clOrdId": "b1", "px": "999",
     "sz": "3", "side": "buy", "ordType": "limit", "state": "partially_filled", "accFillSz": "1", "avgPx": "998",
     "fee": "", "uTime": NOW}, "BTC-USDT                999        3 buy b1  done 1 partial"),
    ("orders:instType=SWAP", {**ORDER, "cancelSource": "13", "state": "canceled", "clOrdId": "mine"},
     "BTC-USDT-SWAP 83000.3 25 contracts sell mine canceled by the system, 13"),
    ("orders:instType=SWAP", {**ORDER, "code": "51503", "amendResult": "-1", "msg": "It is gone."},
     "BTC-USDT-SWAP 83000.3 25 contracts sell 374016 live, amend failed 51503 It is gone."),
    ("orders:instType=SWAP", {**ORDER, "reduceOnly": "true", "code": "0", "amendResult": "0", "cancelSource": "1"},
     "BTC-USDT-SWAP 83000.3 25 contracts sell 374016 reduce-only live"),
    ("orders-algo:instType=ANY", {"instId": "BTC-USDT", "algoId": "581878926302093312", "triggerPx": "9", "sz": "3",
     "side": "sell", "state": "order_failed", "failCode": "51999", "amendResult": "", "reduceOnly": "false"},
     "BTC-USDT                  9        3 sell 093312 failed 51999"),
    ("adl-warning:instType=SWAP", {"instType": "SWAP", "instFamily": "BTC-USDT", "state": "warning",
     "bal": "280784384.9564228289548144", "ts": NOW}, "BTC-USDT            warning  fund 280784384.9564228289548144"),
    ("call-auction-details:ONDO-USDC", {"instId": "ONDO-USDC", "unmatchedSz": "9988764", "eqPx": "0.6",
     "matchedSz": "44978", "state": "continuous_trading", "auctionEndTime": NOW, "ts": NOW},
     "ONDO-USDC 0.6 44978 open  left 9988764  ends MOMENT"),
    ("fills", {"instId": "BTC-USDT", "fillSz": "100", "fillPx": "70000", "side": "buy", "ts": NOW, "ordId": "6808",
     "tradeId": "12345", "execType": "T", "count": "10"}, "BTC-USDT              70000            100 buy fill"),
    ("balance_and_position", {"pTime": NOW, "eventType": "snapshot", "balData": [{"ccy": "BTC", "cashBal": "1",
     "uTime": NOW}], "posData": [{"posId": "1", "instId": "BTC-USDT-SWAP", "pos": "10", "avgPx": "3320",
     "posSide": "short"}]}, "balance_and_position snapshot\n" "BTC                       1 balance\n"
     "BTC-USDT-SWAP            10 contracts 3320 short"),
    ("candle1D:BTC-USDT", ["1597026383085", "8533.02", "8553.74", "8527.17", "8548.26", "45247", "529.58", "5529.58",
     "0"], "2020-08-10 DAY BTC-USDT 1D     8533.02 8553.74 8527.17 8548.26     45247"),
    ("mark-price-candle1m:BTC-USDT-SWAP", [NOW, "8533.02", "8553.74", "8527.17", "8548.26", "0"],
     "BTC-USDT-SWAP mark 1m 8533.02 8553.74 8527.17 8548.26"),
    ("account-greeks", {"ccy": "BTC", "deltaBS": "0.1", "deltaPA": "", "thetaBS": "-7", "ts": NOW},
     "BTC                     0.1 delta  theta -7"),
    ("deposit-info", {"ccy": "USDT", "amt": "1", "chain": "USDT-TRC20", "state": "2", "ts": NOW, "pTime": NOW},
     "USDT                      1 deposit  status 2 USDT-TRC20"),
    ("rfqs", {"rfqId": "22534", "state": "active", "traderCode": "DSK2", "validUntil": NOW, "counterparties": ["DSK4",
     "DSK5"], "legs": [{"instId": "BTC-USD-220114-25000-C", "tdMode": "cross", "sz": "25.0", "side": "buy"}]},
     "rfqs                 active request  id 22534  until MOMENT\n"
     "BTC-USD-220114-25000-C                25.0 contracts buy"),
    ("event-contract-markets", {"seriesId": "BTC-ABOVE-DAILY", "eventId": "BTC-ABOVE-DAILY-260428-1600",
     "listTime": NOW, "expTime": NOW, "instId": "BTC-ABOVE-DAILY-260428-1600-64000", "state": "live", "outcome": "0",
     "floorStrike": "64000"}, "BTC-ABOVE-DAILY-260428-1600-64000 live  floor 64000  outcome 0"),
    ("quotes", {"quoteId": "25092", "rfqId": "18753", "state": "canceled", "quoteSide": "sell", "validUntil": NOW,
     "legs": LEGS}, "quotes             canceled quote  id 25092  until MOMENT\n" + LEG_LINES),
    ("public-struc-block-trades", {"cTime": NOW, "blockTdId": "180289", "strategy": "CALL_CALENDAR_SPREAD",
     "legs": LEGS}, "public-struc-block-trades 180289 block CALL_CALENDAR_SPREAD\n" + LEG_LINES),
    ("algo-recurring-buy:instType=SPOT", {"algoId": "644497312047435776", "amt": "100", "investmentCcy": "USDC",
     "period": "hourly", "state": "running", "totalPnl": "0.5", "recurringList": [{"avgPx": "36000", "ccy": "BTC",
     "profit": "1", "px": "36482", "ratio": "0.2"}]}, "SPOT                    100 USDC hourly running  pnl 0.5\n"
     "BTC                   36482  ratio 0.2  average 36000  profit 1"),
    ("grid-orders-contract:instType=ANY", {"actualLever": "1.02", "algoId": "449327675342323712",
     "algoOrdType": "contract_grid", "instId": "BTC-USDT-SWAP", "maxPx": "100000", "minPx": "10", "state": "running",
     "totalPnl": "129.419829"}, "BTC-USDT-SWAP    129.419829 pnl running  from 10  to 100000"),
    ("copytrading-lead-notification:instType=SWAP", {"infoType": "3", "instId": "BTC-USDT-SWAP",
     "maxLeadTraderNum": "3", "subPosId": "6676950354"}, "BTC-USDT-SWAP             3 notice  position 6676950354"),
    ("economic-calendar", {"actual": "49.2", "calendarId": "319275", "category": "PMI", "date": NOW,
     "event": "Manufacturing PMI", "forecast": "49.3", "importance": "2", "previous": "47.3", "refDate": NOW,
     "region": "US", "ts": NOW}, "economic-calendar 49.2 49.3 47.3  at MOMENT Manufacturing PMI"),
    ("candle1m:BTC-USDT", {"ts": "1597026383085", "o": "1", "h": "2", "l": "0", "c": "1", "vol": "9", "confirm": "1",
     "restored": True}, "2020-08-10 DAY BTC-USDT 1m 1 2 0 1 9 final restored"),
    ("trades:BTC-USDT", {"instId": "BTC-USDT", "px": "1", "sz": "2", "side": "buy", "count": "1", "restored": True},
     "BTC-USDT                  1              2 buy restored"),
    ("a-channel-of-tomorrow:X", {"instId": "X", "deep": {"a": {"b": [[1, 2]]}}, "n": None, "e": [], "yes": True},
     "X yes True\nX deep a b …"),
    ("spot/ticker:ETH-USDT", {"instrument_id": "ETH-USDT", "last": "146.24", "best_bid": "146.24",
     "best_ask": "146.25", "open_24h": "147.17"},
     "ETH-USDT             146.24         146.24         146.25    -0.63%"),
    ("futures/trade:BTC-USD-191227", {"instrument_id": "BTC-USD-191227", "price": 328.74, "side": "sell", "qty": 12,
     "trade_id": "4"}, "BTC-USD-191227       328.74             12 contracts sell"),
    ("spot/depth5:ETH-USDT", {"asks": [["161.96", "7.37567", 3]], "bids": [["161.94", "4.552355", 1]],
     "instrument_id": "ETH-USDT"}, "ETH-USDT             161.94   4.552355     161.96    7.37567   0.02"),
    ("spot/depth:WAVES-BTC", {"asks": [["0.000715", "100.48199596", 3]], "bids": [["0.000713", "38.9", 1]],
     "instrument_id": "WAVES-BTC", "checksum": -131160897}, "WAVES-BTC 1 bids and 1 asks changed"),
    ("spot/candle60s:ETH-USDT", {"candle": ["2019-04-16T10:49:00.000Z", "162.03", "162.04", "161.96", "161.98",
     "336.452694"], "instrument_id": "ETH-USDT"},
     "2019-04-16 DAY ETH-USDT 60s     162.03  162.04  161.96  161.98 336.452694"),
    ("swap/funding_rate:BCH-USD-SWAP", {"estimated_rate": "0.00037", "funding_rate": "0.00023534",
     "funding_time": "2019-08-01T04:00:00.000Z", "instrument_id": "BCH-USD-SWAP", "interest_rate": "0"},
     "BCH-USD-SWAP 0.00023534 funding  at 2019-08-01 DAY  next 0.00037"),
    ("option/summary:BTC-USD", {"instrument_id": "BTC-USD-200207-8500-P", "mark_vol": "0.6", "bid_vol": "0.5",
     "ask_vol": "0.7", "delta": "-0.1"}, "BTC-USD-200207-8500-P   0.6 vol  bid 0.5  ask 0.7  delta -0.1"),
    ("futures/instruments", {"instrument_id": "BTC-USD-191227", "tick_size": "0.01", "delivery": "2019-12-27"},
     "BTC-USD-191227               tick 0.01  ends 2019-12-27"),
    ("system/status", {"title": "Upgrade", "status": "1", "start_time": "2019-08-01T04:00:00.000Z"},
     "system/status             1 Upgrade  begin 2019-08-01 DAY"),
    ("spot/account:USDT", {"balance": "2.21", "available": "1.63", "currency": "USDT", "id": "", "hold": "0.5826"},
     "USDT                   2.21 balance  available 1.63  hold 0.5826"),
    ("futures/account:BTC", {"BTC": {"equity": "997.4", "margin_mode": "fixed", "total_avail_balance": "995.8",
     "contracts": [{"a": "1"}]}}, "BTC                   997.4 equity  available 995.8  margin fixed"),
    ("spot/order:ETH-USDT", {"order_id": "9", "instrument_id": "ETH-USDT", "price": "1.5", "size": "2", "side": "buy",
     "state": "0", "status": "open", "filled_size": "0"}, "ETH-USDT                1.5        2 buy 9 open"),
    ("spot/order_algo:LTC-USDT", {"instrument_id": "ltc_usdt", "trigger_price": "9", "size": "1", "side": "sell",
     "status": "1"}, "ltc_usdt                  9              1 sell  status 1"),
    ("futures/position:BTC-USD-191227", {"instrument_id": "BTC-USD-191227", "long_qty": "2", "long_avg_cost": "8.1",
     "short_qty": "0"}, "BTC-USD-191227            2            8.1 long  short 0"),
    ("swap/position:BTC-USD-SWAP", {"instrument_id": "BTC-USD-SWAP", "timestamp": NOW, "margin_mode": "crossed",
     "holding": [{"side": "long", "position": "1", "avg_cost": "8", "liquidation_price": "7", "realized_pnl": "0.5"}]},
     "BTC-USD-SWAP        crossed margin\nBTC-USD-SWAP              1 contracts 8 long  pnl 0.5  liq 7"),
    ("option/position:BTC-USD", {"instrument_id": "BTC-USD-190927-12500-C", "position": "2", "avg_cost": "0.05",
     "realized_pnl": "0", "unrealized_pnl": "0.02"}, "BTC-USD-190927-12500-C    2 contracts 0.05  pnl 0.02"),
    ("option/account:BTC-USD", {"underlying": "BTC-USD", "currency": "BTC", "equity": "1.5", "avail_margin": "1",
     "margin_balance": "1.4"}, "BTC                     1.5 equity  available 1"),
    ("spot/margin_account:BTC-USDT", {"instrument_id": "BTC-USDT", "liquidation_price": "0", "risk_rate": "",
     "tiers": "1", "currency:BTC": {"available": "0.1", "balance": "0.1", "borrowed": "0", "hold": "0"},
     "currency:USDT": {"available": "100", "balance": "120.5", "borrowed": "0", "hold": "20.5"}},
     "BTC-USDT                  0 liquidation\n" "BTC                     0.1 balance  available 0.1  hold 0\n"
     "USDT                  120.5 balance  available 100  hold 20.5"),
    ("futures/order:BTC-USD-191227", {"instrument_id": "BTC-USD-191227", "price": "8001.1", "size": "3",
     "filled_qty": "1", "state": "2", "type": "4"}, "BTC-USD-191227 8001.1 3 contracts end short  done 1 filled"),
    ("ok_sub_futureusd_btc_ticker_this_week", {"limitHigh": "1030.3", "vol": 276406, "last": 998.05, "sell": 998.05,
     "buy": 997.61, "contractId": 20170324034}, "btc_this_week        998.05         997.61         998.05"),
    ("ok_sub_futureusd_btc_depth_this_week", {"timestamp": 1490337551299, "asks": [["996.72", "20.0", "2.0", "85.6",
     "852.0"]], "bids": []}, "btc_this_week 0 bids and 1 asks changed"),
    ("ok_sub_futureusd_btc_depth_this_week_20", {"timestamp": 1490337551299, "asks": [["996.72", "20.5"]],
     "bids": [["991.67", "6.0", "0.605", "0.605", "6.0"]]},
     "btc_this_week        991.67        6.0     996.72       20.5   5.05"),
    ("ok_sub_futureusd_btc_trade_quarter", ["732916869", "83000.3", "4.6943", "15:25:03", "bid", "1.2006"],
     "btc_quarter         83000.3         4.6943 contracts buy"),
    ("ok_sub_futureusd_btc_index", {"timestamp": "1490341322021", "futureIndex": "998.0"},
     "btc                   998.0 index"),
    ("btc_forecast_price", {"timestamp": "1490341322021", "data": "998.8"}, "btc                   998.8 estimated"),
    ("ok_sub_futureusd_trades", {"amount": 5, "contract_name": "LTC0331", "price": 998.5, "status": 1, "type": 4,
     "deal_amount": 2}, "LTC0331 998.5 5 contracts end short  done 2 partial"),
    ("ok_sub_futureusd_userinfo", {"balance": 0.2567, "symbol": "btc_usd", "keep_deposit": 0.0025,
     "profit_real": -0.0013}, "btc_usd              0.2567 balance  profit -0.0013  deposit 0.0025"),
    ("ok_sub_futureusd_positions", {"positions": [{"position": "1", "contract_name": "BTC0630", "avgprice": "994.8",
     "hold_amount": "3"}], "symbol": "btc_usd", "user_id": 101}, "BTC0630                   3       994.8 long"),
    ("ok_sub_spot_bch_btc_deals", ["1", "2.5", "5", "9", "ask"], "bch_btc                 2.5              5 sell"),
    ("ok_sub_spot_bch_btc_kline_1min", ["1490337840000", "995.37", "996.75", "995.36", "996.75", "9.112"],
     "2017-03-24 DAY bch_btc 1min     995.37  996.75  995.36  996.75     9.112"),
    ("ok_sub_spot_bch_btc_order", {"symbol": "bch_btc", "orderId": 1, "tradeType": "sell", "tradeUnitPrice": "5",
     "tradeAmount": "2", "status": 0}, "bch_btc                   5        2 sell 1 open"),
    ("ok_sub_spot_bch_btc_balance", {"info": {"free": {"btc": 5.8}, "freezed": {"btc": 0}}},
     "bch_btc info free btc 5.8\nbch_btc info freezed btc 0"),
]  # fmt: skip
WORDY = ("status", "orders", "economic-calendar")  # longer than 80 by their words


@pytest.fixture
def shown(capsys, monkeypatch):
    """What print_rows prints at NOW, as lines without their time, and with the hours of other days left out."""
    monkeypatch.setattr(okex_ws, "wall_clock", lambda: int(NOW) / 1000)

    def show(channel, *rows, **options):
        okex_ws.print_rows(channel, list(rows), **options)
        lines = capsys.readouterr().out.splitlines()
        times = f"^({CLOCK}|{okex_ws.moment_text(NOW):13}| {{13}})"
        return [re.sub(r"(\d{4}-\d\d-\d\d) \d\d:\d\d", r"\1 DAY", re.sub(times, "", x)) for x in lines]

    return show


def test_each_channel_has_a_line_that_a_person_reads(shown):
    wrong = []
    for channel, row, line in SAMPLES:
        lines = shown(channel, row)
        right = lines == line.replace("MOMENT", okex_ws.moment_text(NOW)).splitlines()
        plain = not any(c in one for one in lines for c in '{}[]"')
        wordy = channel.partition(":")[0] in WORDY or "DAY" in line
        if not right or not plain or (not wordy and max(map(len, lines)) > 80 - 13):
            wrong.append((channel, lines))
    assert not wrong


# What looks like another but for a number or a market, and what is shown as `key value` or by the objects in it.
LIKE_OTHERS = """trades-all sprd-public-trades public-block-trades sprd-candle<bar> grid-sub-orders grid-positions
    books-rpi books-l2-tbt books50-l2-tbt sprd-bbo-tbt sprd-books-l2-tbt grid-orders-spot liquidation-warning
    algo-advance withdrawal-info sprd-orders sprd-trades <contract>/liquidation index/ticker index-candle<longer>
    block-tickers sprd-tickers sprd-books5 struc-block-trades option/instruments <contract>/price_range
    <contract>/mark_price futures/estimated_price ok_sub_spot_<coin>_<quote>_ticker index/candle<bar>s
    ok_sub_futureusd_<coin>_kline_<when>_<bar> ok_sub_spot_<coin>_<quote>_depth_<levels>
    <market>/depth_l2_tbt ok_sub_spot_<coin>_<quote>_trades ok_sub_spot_<coin>_<quote>_depth"""
PLAIN = "liquidation-orders <held>/account ok_sub_futureusd_positions ok_sub_spot_<coin>_<quote>_balance"


def test_every_kind_of_channel_has_a_sample_here_and_a_format_of_its_own():
    named = [channel for channel, _, _ in SAMPLES]
    for dialect in (V5, V3, V1):
        sampled = [kind.name for kind in map(dialect.kind, named) if kind]
        for kind in dialect.kinds:
            assert kind.name in [*sampled, *LIKE_OTHERS.split(), *PLAIN.split()], kind.name
            for name in dialect.names(kind):
                assert okex_ws.line_format(f"{name}:X").parts or kind.name in PLAIN.split(), name


def test_a_state_is_translated_for_orders_alone(shown):
    assert "partial" in shown("spot/order:A-B", {"state": "1", "price": "1", "size": "2"})[0]
    row = {"status": "1", "state": "1", "trigger_price": "1", "amt": "1"}
    for channel in ("system/status", "spot/order_algo:A-B", "option/instruments", "deposit-info"):
        assert "partial" not in shown(channel, row)[0], channel


def test_numbers_are_shown_as_they_were_sent_and_what_only_looks_like_a_time_is_none(shown):
    volume = {"instId": "PEPE-USDT", "vol24h": "1795269878588", "fillTime": "1795269878588123", "uTime": "0"}
    assert shown("new:X", volume) == ["PEPE-USDT vol24h 1795269878588  fillTime 1795269878588123  uTime 0"]
    assert okex_ws.moment_text("2019-13-45T00:00:00Z") == "2019-13-45T00:00:00Z"
    for sent in ("0.10000000000000000001", "1E-8", "00.50", "123456789012345678901234567890.5"):
        assert f" {sent} " in shown("trades:X", {"px": "1", "sz": sent, "side": "buy"})[0]


def test_an_odd_row_has_a_line_too_that_controls_no_terminal(shown):
    rows = [None, 7, "text", [], {}, [None], [[1]], {"bids": [], "asks": []}, {"candle": []}, {"details": [None, 7]}]
    rows += [{"bids": [["x"]], "asks": [[None, None]]}, {"last": "x", "open24h": "0"}, {"ts": "9" * 13}, {"BTC": {}}]
    for channel in ("trades:X", "books5:X", "tickers:X", "status", "new", "spot/candle60s:X", "\x1b x"):
        for row in rows:
            lines = shown(channel, row)
            assert lines and all(lines), (channel, row)
    odd = {"instId": "\x1b[2J", "x" * 300: "y" * 300, "z": ["\x9b"] * 500}
    for line in shown("new:X", odd) + shown("trades:X", {"px": "9" * 400, "sz": "\x07", "side": "\r"}):
        assert len(line) < 220 and line.isprintable(), line


def test_what_is_in_a_row_that_is_a_list_or_in_a_long_list_is_all_shown(shown):
    listed = shown("futures/instruments", [{"instrument_id": "A", "tick_size": "1"}, {"instrument_id": "B"}])
    assert listed == ["A                            tick 1", "B (nothing)"]
    details = [{"ccy": f"C{n}", "eq": str(n)} for n in range(250)]
    assert len(shown("account", {"totalEq": "1", "details": details})) == 251


def test_whatever_a_row_holds_no_json_is_shown_and_nothing_fails():
    dice = random.Random(5)
    values = ["1.5", "", "x", None, 7, 1.25, True, [], {}, [["1", "2"]], [{"a": "1", "instId": "Q"}], [None], "\x1b[2J"]
    values += [{"BTC": {"equity": "3"}}, NOW, "2019-01-01T00:00:00Z", ["a", "b"], [[["1"], {"b": "2"}]], "9" * 400]
    keys = {key for _, row, _ in SAMPLES if row.__class__ is dict for key in row} | {"candle", "details"}
    keys -= {"bids", "asks", *okex_ws.ROW_ABOUT}  # the exchange has no objects there
    for channel in dict.fromkeys(channel for channel, _, _ in SAMPLES):
        for _ in range(50):
            row = {key: dice.choice(values) for key in dice.sample(sorted(keys), dice.randint(0, 8))}
            lines = okex_ws.row_lines(channel, row, "12:00:00.000")
            assert lines and all(len(line.text) > 14 for line in lines), (channel, row)
            assert not any(c in line.text for line in lines for c in "{}'"), (channel, row)


def test_a_ladder_has_its_best_levels_in_the_middle(shown):
    row = {"bids": [["9", "1"], ["8", "2"], ["7", "3"]], "asks": [["9.5", "4"], ["10", "5"], ["11", "6"]], "ts": "1"}
    assert shown("books:BTC-USDT", row, ladder=2) == [
        "BTC-USDT                 10              5 ask",
        "                        9.5              4 ask",
        "                        0.5                spread",
        "                          9              1 bid",
        "                          8              2 bid",
    ]
    (empty,) = shown("books:BTC-USDT", {"bids": [], "asks": [], "ts": "1"}, ladder=2)
    assert empty == "BTC-USDT                  -                spread"


def test_headings_come_once_for_each_kind_and_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setattr(okex_ws, "shown_headings", set())
    trade, ticker = {"px": "1", "sz": "2", "side": "buy"}, {"last": "1"}

    def headings():
        for channel, row in (("trades:A", trade), ("trades:B", trade), ("tickers:A", ticker), ("trades-all:A", trade)):
            okex_ws.print_rows(channel, [row, row])
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("time")]

    assert headings() == []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert headings() == [
        "time         instrument            price           size side",
        "time         instrument             last            bid            ask    change",
    ]


def test_sizes_are_headed_contracts_where_they_are_no_coins_and_candles_begin():
    futures = "trades:BTC-USDT-SWAP books5:BTC-USD-261225 option-trades:instType=OPTION,instFamily=BTC-USD"
    futures += " candle1m:BTC-USD_UM_XPERP-310404 futures/trade:BTC-USD-191227 ok_sub_futureusd_btc_trade_quarter"
    coins = "trades:BTC-USDT books5:BTC-USDT candle1m:BTC-USDT spot/trade:BTC-USDT orders:instType=ANY"
    coins += " sprd-trades:BTC-USDT_BTC-USDT-SWAP ok_sub_spot_ltc_btc_deals"
    for channel in (futures + " " + coins).split():
        line = okex_ws.line_format(channel).headings
        assert ("contracts" in line) == (channel in futures.split()), channel
        assert bool(re.search("size|volume", line)) == (channel in coins.split()), channel
        assert line.startswith("begins" if "candle" in channel else "time") and len(line) <= 80
    row = {"bids": [["9", "1"]], "asks": [["10", "2"]], "ts": "1"}
    ladder = okex_ws.row_lines("books:BTC-USDT-SWAP", row, ladder=2)
    assert all("contracts" in line.headings for line in ladder)


def test_no_line_is_wider_than_the_terminal_and_none_loses_a_word(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    for channel, row, _ in SAMPLES:
        okex_ws.print_rows(channel, [row])
        printed = capsys.readouterr().out.splitlines()
        words = " ".join(line[13:] for line in printed if not re.match("time|begins", line)).split()
        assert max(map(len, printed)) <= 80, channel
        whole = " ".join(line.text[13:] for line in okex_ws.row_lines(channel, row, "12:00:00.000")).split()
        assert words == whole, channel


def test_buys_and_sells_have_colours_on_a_terminal_that_wants_them_and_nowhere_else(monkeypatch, capsys):
    ways = (1, "TERM", "xterm"), (1, "TERM", "dumb"), (1, "NO_COLOR", "1"), (0, "TERM", "xterm")
    for terminal, name, value in ways:
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: bool(terminal), raising=False)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv(name, value)
        okex_ws.print_rows("trades:A", [{"px": "1", "sz": "2", "side": side} for side in ("buy", "sell")])
        *_, buy, sell = capsys.readouterr().out.splitlines()
        coloured = "\033[32m" in buy and "\033[31m" in sell and sell.endswith("\033[0m")
        assert coloured == (bool(terminal) and value == "xterm") == ("\033" in buy + sell), (terminal, name, value)
