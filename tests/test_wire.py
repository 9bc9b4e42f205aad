"""The wire: every message shape of the three generations, read and written, and nothing that can break them."""

import json
import zlib

import pytest
from exchange import deflate
from hypothesis import given
from hypothesis import strategies as st

import okex_ws
from okex_ws import (
    V1,
    V3,
    V5,
    LoggedIn,
    LoginRefused,
    Malformed,
    Notice,
    Ping,
    Pong,
    Push,
    Refused,
    Subscribed,
    Unknown,
    Unsubscribed,
    dialect_of,
    endpoint,
    fields,
    inflate,
    printable_text,
    row_namer,
)

BTC_TICKER = {"high": "10000", "last": "111", "buy": "115", "sell": "115", "timestamp": 1500444626000}
BTC_DEPTH = {"timestamp": 1490337551299, "asks": [["996.72", "20.0", "2.0065", "85.654", "852.0"]], "bids": []}
TRADES_1 = [["732916869", "999.49", "12.0", "15:25:03", "ask", "1.2006"]]
TRADE_3 = {"instrument_id": "BCH-USDT", "price": "328.74", "side": "sell", "size": "0.12", "trade_id": "423886239"}
DEPTH_3 = {"instrument_id": "WAVES-BTC", "asks": [["0.000715", "100.48199596", 3]], "bids": [], "checksum": -131160897}
TRADE_5 = {"instId": "BTC-USDT", "tradeId": "1067468269", "px": "83753", "sz": "0.000011", "side": "sell", "count": "1"}
BOOK_5 = {"asks": [["83725.9", "1712.41", "0", "92"]], "bids": [], "ts": "1", "seqId": 344430848984, "prevSeqId": -1}
NO_SUCH_V1 = "The subscription event type is invalid."
NO_SUCH_V5 = "Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist."
UPGRADE = "The connection will soon be closed for a service upgrade. Please reconnect."


def v1(channel, data, **more):
    return {"binary": 0, "channel": channel, "data": data, **more}


def confirmed_v1(channel):
    return [v1("addChannel", {"result": True, "channel": channel})]


# (dialect, message as the exchange sends it, the events that are in it)
CASES = [
    (V1, {"channel": "X", "success": "false", "errorcode": "10001", "data": {}}, [Refused("10001", "", "X", "")]),
    (V1, [{"channel": "X", "success": "true", "data": {"order_id": 1}}], [Push("X", [{"order_id": 1}], "")]),
    (
        V3,
        {"event": "error", "message": "Channel spot/trade:BTC-USD-200626 doesn't exist", "errorCode": 30040},
        [Refused("30040", "Channel spot/trade:BTC-USD-200626 doesn't exist", "spot/trade:BTC-USD-200626", "")],
    ),
    (
        V3,
        {"table": "option/position", "data": [{"instrument_id": "BTC-USD-190927-12500-C"}]},
        [Push("option/position:BTC-USD", [{"instrument_id": "BTC-USD-190927-12500-C"}], "")],
    ),
    (
        V3,
        {"table": "option/order", "data": [{"instrument_id": "X-USD-1-2-C", "underlying": "BTC-USD"}]},
        [Push("option/order:BTC-USD", [{"instrument_id": "X-USD-1-2-C", "underlying": "BTC-USD"}], "")],
    ),
    (
        V3,
        {"table": "option/trade", "data": [{"instrument_id": "BTC-USD-190927-12500-C"}]},
        [Push("option/trade:BTC-USD-190927-12500-C", [{"instrument_id": "BTC-USD-190927-12500-C"}], "")],
    ),
    (
        V3,
        {"table": "spot/order_algo", "data": [{"instrument_id": "ltc_usdt"}]},
        [Push("spot/order_algo:LTC-USDT", [{"instrument_id": "ltc_usdt"}], "")],
    ),
    (
        V5,
        {
            "arg": {"channel": "account", "uid": "7"},
            "eventType": "snapshot",
            "lastPage": True,
            "data": [{"uTime": "1"}],
        },
        [Push("account", [{"eventType": "snapshot", "lastPage": True, "uTime": "1"}], "")],
    ),
    (
        V5,
        {"arg": {"channel": "sprd-books5", "sprdId": "A_B"}, "data": [{}]},
        [Push("sprd-books5:A_B", [{}], "")],
    ),
    (V1, {"event": "pong"}, [Pong()]),
    (V1, confirmed_v1("ok_sub_spot_usd_btc_ticker"), [Subscribed("ok_sub_spot_usd_btc_ticker")]),
    (V1, [v1("removeChannel", {"result": True, "channel": "ok_sub_a"})], [Unsubscribed("ok_sub_a")]),
    (V1, [v1("ok_sub_spot_bch_btc_ticker", BTC_TICKER)], [Push("ok_sub_spot_bch_btc_ticker", [BTC_TICKER], "")]),
    (
        V1,
        [v1("ok_sub_futureusd_btc_trade_quarter", TRADES_1)],
        [Push("ok_sub_futureusd_btc_trade_quarter", TRADES_1, "")],
    ),
    (V1, [{"data": BTC_DEPTH, "channel": "ok_sub_d"}], [Push("ok_sub_d", [BTC_DEPTH], "")]),
    (V1, [v1("a", [1]), v1("b", {"x": 2})], [Push("a", [1], ""), Push("b", [{"x": 2}], "")]),
    (
        V1,
        [v1("a", {"result": False, "error_msg": NO_SUCH_V1, "error_code": 20103})],
        [Refused("20103", NO_SUCH_V1, "a", "")],
    ),
    (
        V1,
        v1("a", {"result": False, "error_msg": NO_SUCH_V1, "error_code": 20103}),
        [Refused("20103", NO_SUCH_V1, "a", "")],
    ),
    (V1, [v1("addChannel", {"result": False, "channel": "a", "error_code": 10001})], [Refused("10001", "", "a", "")]),
    (V1, [{"data": {"result": False, "error_msg": "auth", "error_code": 10005}}], [Refused("10005", "auth", "", "")]),
    (V1, [v1("login", {"result": True})], [LoggedIn()]),
    (V1, [v1("login", {"result": "true"})], [LoggedIn()]),
    (V1, [v1("login", {"result": "false", "error_code": 10005})], [LoginRefused("10005", "")]),
    (
        V1,
        [{"channel": "btc_forecast_price", "timestamp": "1490341322021", "data": "998.8"}],
        [Push("btc_forecast_price", [{"timestamp": "1490341322021", "data": "998.8"}], "")],
    ),
    (V1, {"event": "resumed"}, [Unknown("event resumed")]),
    (V3, "pong", [Pong()]),
    (V3, {"event": "subscribe", "channel": "spot/ticker:ETH-USDT"}, [Subscribed("spot/ticker:ETH-USDT")]),
    (V3, {"event": "unsubscribe", "channel": "spot/ticker:ETH-USDT"}, [Unsubscribed("spot/ticker:ETH-USDT")]),
    (V3, {"event": "login", "success": True}, [LoggedIn()]),
    (V3, {"event": "login", "success": "true"}, [LoggedIn()]),
    (V3, {"event": "login", "success": False, "errorCode": 30013}, [LoginRefused("30013", "")]),
    (
        V3,
        {"event": "error", "message": "Channel : spot/tickr doesn't exist", "errorCode": 30040},
        [Refused("30040", "Channel : spot/tickr doesn't exist", "spot/tickr", "")],
    ),
    (
        V3,
        {"event": "error", "message": "Invalid sign", "errorCode": "30013"},
        [LoginRefused("30013", "Invalid sign")],
    ),
    (V3, {"table": "spot/trade", "data": [TRADE_3]}, [Push("spot/trade:BCH-USDT", [TRADE_3], "")]),
    (
        V3,
        {"table": "spot/ticker", "data": [{"instrument_id": "A", "last": "1"}, {"instrument_id": "B", "last": "2"}]},
        [
            Push("spot/ticker:A", [{"instrument_id": "A", "last": "1"}], ""),
            Push("spot/ticker:B", [{"instrument_id": "B", "last": "2"}], ""),
        ],
    ),
    (
        V3,
        {"table": "spot/depth", "action": "partial", "data": [DEPTH_3]},
        [Push("spot/depth:WAVES-BTC", [DEPTH_3], "snapshot")],
    ),
    (
        V3,
        {"table": "spot/depth", "action": "update", "data": [DEPTH_3]},
        [Push("spot/depth:WAVES-BTC", [DEPTH_3], "update")],
    ),
    (
        V3,
        {"table": "spot/account", "data": [{"currency": "USDT"}]},
        [Push("spot/account:USDT", [{"currency": "USDT"}], "")],
    ),
    (
        V3,
        {"table": "futures/account", "data": [{"BTC": {"equity": "997.4"}}]},
        [Push("futures/account:BTC", [{"BTC": {"equity": "997.4"}}], "")],
    ),
    (V3, {"table": "system/status", "data": [{"title": "x"}]}, [Push("system/status", [{"title": "x"}], "")]),
    (
        V3,
        {"table": "option/summary", "data": [{"instrument_id": "BTC-USD-200207-8500-P", "underlying": "BTC-USD"}]},
        [Push("option/summary:BTC-USD", [{"instrument_id": "BTC-USD-200207-8500-P", "underlying": "BTC-USD"}], "")],
    ),
    (V3, {"event": "hello"}, [Unknown("event hello")]),
    (V5, "pong", [Pong()]),
    (V5, "ping", [Ping()]),
    (
        V5,
        {"id": "1512", "event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}, "connId": "a4d3ae55"},
        [Subscribed("books:BTC-USDT", "1512")],
    ),
    (V5, {"event": "unsubscribe", "arg": {"channel": "status"}, "connId": "a4d3ae55"}, [Unsubscribed("status")]),
    (
        V5,
        {"event": "error", "msg": NO_SUCH_V5, "code": "60018", "connId": "5e1f2fe5", "id": "ob1"},
        [Refused("60018", NO_SUCH_V5, "books:NOPE-USDT", "ob1")],
    ),
    (
        V5,
        {"event": "error", "msg": "Please log in", "code": "60011", "id": "7"},
        [Refused("60011", "Please log in", "", "7")],
    ),
    (V5, {"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"}, [LoggedIn()]),
    (V5, {"event": "error", "code": "60009", "msg": "Login failed."}, [LoginRefused("60009", "Login failed.")]),
    (V5, {"event": "notice", "code": "64008", "msg": UPGRADE, "connId": "a"}, [Notice("64008", UPGRADE)]),
    (
        V5,
        {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "abcd1234"},
        [Notice("channel-conn-count", "2 connections are subscribed to orders")],
    ),
    (
        V5,
        {"event": "channel-conn-count-error", "channel": "orders", "connCount": "30", "connId": "a4d3ae55"},
        [Refused("channel-conn-count-error", "30 connections are subscribed", "orders", "")],
    ),
    (
        V5,
        {"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [TRADE_5]},
        [Push("trades:BTC-USDT", [TRADE_5], "")],
    ),
    (
        V5,
        {"arg": {"channel": "books", "instId": "BTC-USDT-SWAP"}, "action": "snapshot", "data": [BOOK_5]},
        [Push("books:BTC-USDT-SWAP", [BOOK_5], "snapshot")],
    ),
    (
        V5,
        {"arg": {"channel": "orders", "instType": "ANY", "uid": "77982378738415879"}, "data": [{"ordId": "1"}]},
        [Push("orders:instType=ANY", [{"ordId": "1"}], "")],
    ),
    (V5, {"arg": {"channel": "account", "uid": "7"}, "data": [{}]}, [Push("account", [{}], "")]),
    (
        V5,
        {"arg": {"instType": "SWAP", "instFamily": "BTC-USD", "channel": "positions"}, "data": []},
        [Push("positions:instFamily=BTC-USD,instType=SWAP", [], "")],
    ),
    (V5, {"hello": 1, "world": 2}, [Unknown("object with hello, world")]),
]


@pytest.mark.parametrize(("dialect", "message", "events"), CASES)
def test_no_message_of_the_exchange_is_taken_for_something_else(dialect, message, events):
    assert dialect.parse(message if isinstance(message, str) else json.dumps(message)) == events


@pytest.mark.parametrize(
    ("dialect", "text", "good"),
    [
        (V1, "", 0),
        (V1, "{", 0),
        (V1, "[" * 100_000, 0),
        (V1, "null", 0),
        (V1, "[1]", 0),
        (V1, '["text"]', 0),
        (V1, '[{"data":[1]}]', 0),
        (V1, '[{"data":[1]},{"channel":"a","data":[1]}]', 1),
        (V3, '{"table":"spot/trade","data":null}', 0),
        (V3, '{"table":"spot/trade","data":[{}]} trailing', 0),
        (V3, '{"event":"error"}', 0),
        (V5, '{"arg":null,"data":[]}', 0),
        (V5, '{"arg":{},"data":[]}', 0),
        (V5, '{"arg":{"channel":"trades"},"data":{}}', 0),
        (V5, '{"event":["x"],"code":1}', 0),
        (V5, '{"event":"error","code":"1","msg":null}', 0),
    ],
)
def test_one_bad_item_costs_only_itself(dialect, text, good):
    events = dialect.parse(text)
    assert len([e for e in events if isinstance(e, Malformed | Unknown)]) == 1
    assert len([e for e in events if isinstance(e, Push)]) == good


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from("event channel data arg table code msg id op".split()), inner
        )
    ),
    max_leaves=12,
)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["subscribe", "error", "login", "notice", "channel-conn-count"]) | ANYTHING,
        "channel": st.sampled_from(["addChannel", "login"]) | ANYTHING,
        "data": ANYTHING,
        "arg": st.dictionaries(st.sampled_from(["channel", "instId"]), ANYTHING) | ANYTHING,
        "table": ANYTHING,
        "code": ANYTHING,
        "msg": ANYTHING,
        "message": ANYTHING,
        "errorCode": ANYTHING,
        "id": ANYTHING,
    },
)


@given(st.sampled_from([V1, V3, V5]), st.text() | (SHAPES | st.lists(SHAPES)).map(json.dumps))
def test_no_message_can_break_the_reader_or_what_comes_after_it(dialect, text):
    for event in dialect.parse(text):
        if isinstance(event, Push):
            assert isinstance(event.channel, str) and isinstance(event.rows, list)
        else:
            assert all(isinstance(value, str) for value in event)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (V1, "[" + "{}," * 1_000_000 + "{}]"),
        (V1, '[{"channel":"X","data":[' + "[]," * 1_000_000 + "[]]}]"),
        (V3, '{"table":"spot/trade","data":[' + "{}," * 1_000_000 + "{}]}"),
        (V5, '{"arg":{"channel":"trades","instId":"X"},"data":[' + "{}," * 1_000_000 + "{}]}"),
    ],
    ids=["v1", "v1 rows", "v3", "v5"],
)
def test_a_message_of_a_million_rows_is_one_malformed_message(dialect, text):
    (event,) = dialect.parse(text)
    assert isinstance(event, Malformed) and "1000001 rows" in event.reason


@given(st.binary(), st.integers(0, 9))
def test_inflate_gives_back_what_was_deflated(data, level):
    stream = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    assert inflate(stream.compress(data) + stream.flush()) == data


def test_the_compressed_pongs_that_the_exchange_sent_are_read():
    assert inflate(bytes.fromhex("ab564a2d4bcd2b51b2522ac8cf4b57aa0500")) == b'{"event":"pong"}'
    assert inflate(bytes.fromhex("2bc8cf4b0700")) == b"pong"


@given(st.text(min_size=1), st.data())
def test_a_damaged_frame_is_a_value_error_or_bytes(text, data):
    frame = bytearray(deflate(text))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert isinstance(inflate(bytes(frame)), bytes)  # there is no checksum: some damage goes unseen
    except ValueError as error:
        assert "DEFLATE" in str(error)


@given(st.text(min_size=1), st.data(), st.booleans())
def test_inflate_refuses_a_stream_that_is_cut_short(text, data, long):
    whole = deflate(text)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(okex_ws, "INFLATE_FREELY", 0 if long else 1 << 20)
        with pytest.raises(ValueError, match="DEFLATE"):
            inflate(whole[:cut])


def test_a_bomb_is_an_error_and_not_memory(monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_MESSAGE", 1 << 20)
    monkeypatch.setattr(okex_ws, "INFLATE_FREELY", (1 << 20) // 1032)
    with pytest.raises(ValueError, match="inflates to more"):
        inflate(deflate("0" * (1 << 20) + "0"))
    assert len(inflate(deflate("0" * (1 << 20)))) == 1 << 20


@pytest.mark.parametrize(
    ("dialect", "request_"),
    [
        (V1, '[{"event":"addChannel","channel":"A"},{"event":"addChannel","channel":"B"}]'),
        (V3, '{"op":"subscribe","args":["A","B"]}'),
        (V5, '{"id":"r1","op":"subscribe","args":[{"channel":"A"},{"channel":"B"}]}'),
    ],
)
def test_asks_for_channels_as_the_exchange_expects(dialect, request_):
    assert dialect.subscribe(["A", "B"], "r1") == request_
    undo = request_.replace("addChannel", "removeChannel").replace("subscribe", "unsubscribe")
    assert dialect.unsubscribe(["A", "B"], "r1") == undo


@pytest.mark.parametrize(
    ("channel", "argument"),
    [
        ("status", {"channel": "status"}),
        ("trades:BTC-USDT", {"channel": "trades", "instId": "BTC-USDT"}),
        ("orders:instType=ANY", {"channel": "orders", "instType": "ANY"}),
        ("option-trades:instType=OPTION,instId=X", {"channel": "option-trades", "instType": "OPTION", "instId": "X"}),
        (
            'account:extraParams={"updateInterval":"0","x":"a=b"}',
            {"channel": "account", "extraParams": '{"updateInterval":"0","x":"a=b"}'},
        ),
    ],
)
def test_a_v5_channel_is_the_argument_that_the_exchange_takes(channel, argument):
    assert V5.argument(channel) == argument


def test_a_v5_channel_is_recognised_however_it_is_spelled():
    assert V5.key("trades:instId=BTC-USDT") == V5.key("trades:BTC-USDT") == "trades:BTC-USDT"
    assert V5.key("positions:instType=SWAP,instFamily=A") == V5.key("positions:instFamily=A,instType=SWAP")
    assert V5.key('account:extraParams={"updateInterval":"0"}') == "account"


@pytest.mark.parametrize(
    ("channel", "dialect", "path"),
    [
        ("ok_sub_futureusd_btc_trade_quarter", V1, "/ws/v1"),
        ("btc_forecast_price", V1, "/ws/v1"),
        ("spot/ticker:ETH-USDT", V3, "/ws/v3"),
        ("system/status", V3, "/ws/v3"),
        ("trades:BTC-USDT", V5, "/ws/v5/public"),
        ("books-l2-tbt:BTC-USDT", V5, "/ws/v5/public"),
        ("liquidation-orders:instType=SWAP", V5, "/ws/v5/public"),
        ("orders:instType=ANY", V5, "/ws/v5/private"),
        ("balance_and_position", V5, "/ws/v5/private"),
        ("candle1m:BTC-USDT", V5, "/ws/v5/business"),
        ("mark-price-candle1D:BTC-USDT", V5, "/ws/v5/business"),
        ("trades-all:BTC-USDT", V5, "/ws/v5/business"),
        ("orders-algo:instType=ANY", V5, "/ws/v5/business"),
        ("sprd-bbo-tbt:sprdId=X", V5, "/ws/v5/business"),
    ],
)
def test_each_channel_goes_to_its_own_endpoint(channel, dialect, path):
    assert dialect_of(channel) is dialect
    assert endpoint(channel).endswith(path)
    assert endpoint(channel, "ws://127.0.0.1:9000") == "ws://127.0.0.1:9000" + path
    assert endpoint(channel, "ws://127.0.0.1:9000/") == "ws://127.0.0.1:9000" + path
    assert endpoint(channel, "ws://127.0.0.1:9000/mine?x=1") == "ws://127.0.0.1:9000/mine?x=1"
    assert endpoint(channel, "ws://127.0.0.1:9000?x=1") == f"ws://127.0.0.1:9000{path}?x=1"


def test_v5_hosts_follow_region_and_simulation_and_name_no_port():
    assert endpoint("trades:A") == "wss://ws.okx.com/ws/v5/public"
    assert endpoint("trades:A", simulated=True) == "wss://wspap.okx.com/ws/v5/public"
    assert endpoint("trades:A", region="eea") == "wss://wseea.okx.com/ws/v5/public"
    assert endpoint("trades:A", region="us", simulated=True) == "wss://wsuspap.okx.com/ws/v5/public"
    with pytest.raises(ValueError, match="choose one of global, eea, us"):
        endpoint("trades:A", region="mars")


@pytest.mark.parametrize(
    "channel", ["", "BTC-USDT", "trades: BTC-USDT", "trades:BTC-USDT\n", "trades:", ":x", "\x1b[2J"]
)
def test_what_cannot_be_a_channel_is_said_before_connecting(channel):
    with pytest.raises(ValueError, match="is not a channel"):
        dialect_of(channel)


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "http://127.0.0.1", "ws://", "wss:///ws/v5/public"])
def test_what_cannot_be_a_url_is_said_before_connecting(url):
    with pytest.raises(ValueError, match="is not a WebSocket URL"):
        endpoint("trades:BTC-USDT", url)


def test_list_rows_get_names_and_keep_every_value():
    names = fields("ok_sub_futureusd_btc_trade_quarter")
    (row,) = row_namer(names)(TRADES_1)
    assert (row["price"], row["amount"], row["type"]) == ("999.49", "12.0", "ask")
    short, long, named_already, odd = row_namer(names)([[1, 2, 3], list(range(9)), {"already": "named"}, None])
    assert list(short.values()) == [1, 2, 3]
    assert list(long.values()) == list(range(9))
    assert (named_already, odd) == ({"already": "named"}, None)
    assert fields("candle1m:BTC-USDT")[-1] == "confirm"
    assert fields("index-candle1m:BTC-USDT") == ("ts", "o", "h", "l", "c", "confirm")
    assert fields("ok_sub_spot_bch_btc_kline_1min")[:5] == ("timestamp", "open", "high", "low", "close")
    assert fields("ok_sub_spot_bch_btc_deals") == fields("ok_sub_futureusd_btc_trade_this_week")
    assert fields("trades:BTC-USDT") == fields("ok_sub_futureusd_trades") == fields("spot/candle60s:BTC-USDT") == ()


@given(st.text() | st.binary())
def test_quoted_text_cannot_touch_the_terminal(text):
    quoted = printable_text(text, 50)
    assert quoted.isprintable()
    assert len(quoted) <= 51 * 10


V1_CODES = (
    "10000 10001 10002 10003 10004 10005 10008 10015 10017 10100 10216 20001 20002 20003 20004 20005 20006 20007 20014"
    " 20019 20020 20024 20026 20028 20049 20103 20116"
)
V3_CODES = "30000 30001 30002 30004 30005 30006 30008 30013 30015 30016 30026 30027 30039 30040 30041 30042 30043"
V5_CODES = (
    "60004 60005 60006 60007 60008 60009 60011 60012 60013 60014 60018 60019 60024 60027 60028 60031 60032 60033 63999"
    " 64000 64001 64002 64003 64004 64007 channel-conn-count-error"
)
CLOSE_CODES = "1009 4001 4002 4003 4004 4005 4006 4007 4008 4009"


@pytest.mark.parametrize("code", f"{V1_CODES} {V3_CODES} {V5_CODES} {CLOSE_CODES}".split())
def test_a_refusal_that_the_exchange_documents_never_comes_without_a_hint(code):
    assert len(okex_ws.HINTS[code]) > 10


# Every channel of the documentation's list, with its endpoint and whether it needs a login (docs-v5, July 2026).
DOCUMENTED = {
    "public": "tickers trades books books5 bbo-tbt books-rpi index-tickers mark-price price-limit funding-rate"
    " open-interest instruments liquidation-orders status option-trades opt-summary estimated-price"
    " event-contract-markets",
    "public with a login": "books-l2-tbt books50-l2-tbt",
    "private with a login": "account positions balance_and_position orders fills liquidation-warning account-greeks",
    "business": "candle1s candle1m candle3M candle6Hutc mark-price-candle1m index-candle1D trades-all"
    " public-block-trades public-struc-block-trades block-tickers sprd-bbo-tbt sprd-books5 sprd-books-l2-tbt"
    " sprd-public-trades sprd-tickers sprd-candle1m",
    "business with a login": "orders-algo algo-advance algo-recurring-buy grid-orders-spot grid-orders-contract"
    " grid-positions grid-sub-orders deposit-info withdrawal-info rfqs quotes struc-block-trades sprd-orders"
    " sprd-trades copytrading-notification copytrading-lead-notification economic-calendar",
}


@pytest.mark.parametrize(("home", "channels"), DOCUMENTED.items(), ids=DOCUMENTED)
def test_no_channel_of_the_documentation_is_asked_for_at_another_endpoint_or_without_its_login(home, channels):
    path, _, login = home.partition(" ")
    for channel in channels.split():
        assert V5.url(f"{channel}:X") == f"wss://ws.okx.com/ws/v5/{path}", channel
        assert V5.private(f"{channel}:X") == bool(login), channel


@pytest.mark.parametrize(
    ("channel", "argument", "columns"),
    [
        ("sprd-books5:A_B", {"channel": "sprd-books5", "sprdId": "A_B"}, ()),
        (
            "sprd-candle1m:A_B",
            {"channel": "sprd-candle1m", "sprdId": "A_B"},
            ("ts", "o", "h", "l", "c", "vol", "confirm"),
        ),
    ],
)
def test_a_spread_is_asked_for_by_its_own_key(channel, argument, columns):
    assert V5.argument(channel) == argument and V5.channel(argument) == channel
    assert fields(channel) == columns
    assert V5.key(f"{channel.partition(':')[0]}:sprdId=A_B") == channel


def test_v1_trades_by_their_other_name_have_columns():
    assert fields("ok_sub_spot_btc_usdt_trades") == fields("ok_sub_spot_btc_usdt_deals") != ()
    assert fields("ok_sub_futureusd_trades") == ()  # one's own, which are objects
