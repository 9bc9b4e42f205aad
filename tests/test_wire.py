"""The wire: every message shape of the three generations, read and written, and nothing that can break them."""

import json
import zlib

import pytest
from exchange import deflate
from hypothesis import example, given, strategies as st
from test_output import SAMPLES

import okex_ws
from okex_ws import V1, V3, V5, Keeper, WireEvent, dialect_of, endpoint, fields, inflate, printable_text


def data(channel, *rows, action=""):
    return WireEvent("data", channel, rows=list(rows), action=action)


def refused(code, message="", channel="", id=""):
    return WireEvent("refused", channel, id, code, message)


def v1(channel, data, **more):
    return {"binary": 0, "channel": channel, "data": data, **more}


PING, PONG, LOGIN = map(WireEvent, ("ping", "pong", "login"))
NO_SUCH_V1 = "The subscription event type is invalid."
REFUSED_V1 = {"result": False, "error_msg": NO_SUCH_V1, "error_code": 20103}
NO_SUCH_V3 = "Channel : spot/tickr doesn't exist"
NO_SUCH_FUTURE = "Channel spot/trade:BTC-USD-200626 doesn't exist"
NO_SUCH_V5 = "Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist."
# How 60018 may name a channel, and which one it means.
SPELLED = [
    ("Wrong URL or channel:index-tickers, instId:LTC-USD doesn't exist. Please use …", "index-tickers:LTC-USD"),
    ("channel: trades-all , instId: B.X-USDT doesn't exist", "trades-all:B.X-USDT"),
    ("channel:tickers,instType:SWAP doesn't exist.", "tickers:instType=SWAP"),
    ("channel:orders,instType:SWAP, instFamily:A-B_UM doesn't exist.", "orders:instFamily=A-B_UM,instType=SWAP"),
    ("channel:sprd-tickers,sprdId:LTC-USDT_LTC-USDT-SWAP doesn't exist.", "sprd-tickers:LTC-USDT_LTC-USDT-SWAP"),
]
ECHO = 'Invalid request: {\\"id\\":\\"o1\\",\\"op\\":\\"subscribe\\"}'
UPGRADE = "The connection will soon be closed for a service upgrade. Please reconnect."
COUNT = {"channel": "orders", "connCount": "30", "connId": "a4d3ae55"}
NUMBERS = {"asks": [[996.72, 20, 2.5]], "bids": []}
STRINGS = {"asks": [["996.72", "20", "2.5"]], "bids": []}
FORECAST = {"timestamp": "1490341322021", "data": "998.8"}
DEPTH_3 = {"instrument_id": "WAVES-BTC", "asks": [["0.000715", "100.48199596", 3]], "bids": [], "checksum": -131160897}
OPTION_3 = {"instrument_id": "BTC-USD-190927-12500-C", "underlying": "BTC-USD"}
BOOK_5 = {"asks": [["83725.9", "1712.41", "0", "92"]], "bids": [], "ts": "1", "seqId": 344430848984, "prevSeqId": -1}
POSITIONS = {"channel": "positions", "instType": "ANY", "uid": "7"}
BOOKS = {"channel": "books", "instId": "BTC-USDT"}
DONE = {"ordId": "12345689", "clOrdId": "b15", "ts": "1", "sCode": "0", "sMsg": ""}

# The generation, a message as the exchange sends it, and what it says.
MESSAGES = [
    (V1, {"event": "pong"}, PONG),
    (V1, [v1("addChannel", {"result": True, "channel": "ok_sub_a"})], WireEvent("confirmed", "ok_sub_a")),
    (V1, [v1("removeChannel", {"result": True, "channel": "ok_sub_a"})], WireEvent("ended", "ok_sub_a")),
    (V1, [v1("ok_sub_a", REFUSED_V1)], refused("20103", NO_SUCH_V1, "ok_sub_a")),
    (V1, [{"data": {"result": False, "error_msg": "auth", "error_code": 10005}}], refused("10005", "auth")),
    (V1, {"channel": "X", "success": "false", "errorcode": "10001", "data": {}}, refused("10001", "", "X")),
    (V1, [{"channel": "X", "success": "true", "data": {"order_id": 1}}], data("X", {"order_id": 1})),
    (V1, [v1("ok_spot_order", {"result": True, "id": 1})], data("ok_spot_order", {"result": True, "id": 1})),
    (V1, [v1("login", {"result": True})], LOGIN),
    (V1, [v1("login", {"result": "false", "error_code": 10005})], refused("10005")),
    (V1, {"channel": "login", "success": "false", "errorcode": "10005", "data": {}}, refused("10005")),
    (V1, [v1("a", [1]), v1("b", {"x": 2})], data("a", 1), data("b", {"x": 2})),
    (V1, [{"channel": "btc_forecast_price", **FORECAST}], data("btc_forecast_price", FORECAST)),
    (V1, [v1("ok_sub_futureusd_btc_depth_this_week", NUMBERS)], data("ok_sub_futureusd_btc_depth_this_week", STRINGS)),
    (V1, {"event": "resumed"}, WireEvent("unknown", message="event resumed")),
    (V3, "pong", PONG),
    (V3, {"event": "subscribe", "channel": "spot/ticker:ETH-USDT"}, WireEvent("confirmed", "spot/ticker:ETH-USDT")),
    (V3, {"event": "unsubscribe", "channel": "spot/ticker:ETH-USDT"}, WireEvent("ended", "spot/ticker:ETH-USDT")),
    (V3, {"event": "login", "success": "true"}, LOGIN),
    (V3, {"event": "login", "success": False, "errorCode": 30013}, refused("30013")),
    (V3, {"event": "error", "message": "Invalid sign", "errorCode": "30013"}, refused("30013", "Invalid sign")),
    (V3, {"event": "error", "message": "Already logged in", "errorCode": 30042}, LOGIN),
    (V3, {"event": "error", "message": NO_SUCH_V3, "errorCode": 30040}, refused("30040", NO_SUCH_V3, "spot/tickr")),
    (V3, {"event": "error", "message": NO_SUCH_FUTURE, "errorCode": "30040"},
     refused("30040", NO_SUCH_FUTURE, "spot/trade:BTC-USD-200626")),
    (V3, {"table": "spot/ticker", "data": [{"instrument_id": "A"}, {"instrument_id": "B"}, {"instrument_id": "A"}]},
     data("spot/ticker:A", {"instrument_id": "A"}, {"instrument_id": "A"}),
     data("spot/ticker:B", {"instrument_id": "B"})),
    (V3, {"table": "spot/depth", "action": "partial", "data": [DEPTH_3]},
     data("spot/depth:WAVES-BTC", DEPTH_3, action="snapshot")),
    (V3, {"event": "hello"}, WireEvent("unknown", message="event hello")),
    (V5, "pong", PONG),
    (V5, "ping", PING),
    (V5, {"id": "1", "event": "subscribe", "arg": BOOKS, "connId": "a"}, WireEvent("confirmed", "books:BTC-USDT", "1")),
    *((V5, {"event": "subscribe", "arg": {"channel": "account", **more}}, WireEvent("confirmed", "account"))
      for more in ({"extraParams": "{}", "uid": "7"}, {"connId": "a4d3ae55"})),
    (V5, {"event": "unsubscribe", "arg": {"channel": "status"}, "connId": "a4d3ae55"}, WireEvent("ended", "status")),
    (V5, {"event": "error", "msg": NO_SUCH_V5, "code": "60018", "connId": "5e1f2fe5", "id": "ob1"},
     refused("60018", NO_SUCH_V5, "books:NOPE-USDT", "ob1")),
    *((V5, {"event": "error", "code": "60018", "msg": text}, refused("60018", text, key)) for text, key in SPELLED),
    (V5, {"event": "error", "msg": ECHO, "code": "60012"}, refused("60012", ECHO, "", "o1")),
    (V5, {"event": "channel-conn-count-error", **COUNT},
     refused("channel-conn-count-error", "30 connections are subscribed to orders", "orders")),
    (V5, {"event": "channel-conn-count", **COUNT},
     WireEvent("notice", "orders", code="channel-conn-count", message="30 connections are subscribed to orders")),
    (V5, {"event": "notice", "code": "64008", "msg": UPGRADE}, WireEvent("notice", code="64008", message=UPGRADE)),
    (V5, {"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"}, LOGIN),
    *((V5, {"event": event, "code": "60009", "msg": text}, refused("60009", text))
      for event in ("login", "error") for text in ("", "Login failed.")),
    (V5, {"event": "error", "code": "60031", "msg": "Repeated login"}, LOGIN),
    (V5, {"event": "error", "code": "60005", "msg": "Bad key", "id": "r1"}, refused("60005", "Bad key", "", "r1")),
    *((V5, {"id": "1", "op": "order", "code": code, "msg": text, "data": data, "inTime": "1"},
       WireEvent("reply", "", "1", code, text, data or [], "order"))
      for code, text, data in (("0", "", [DONE]), ("60013", "Invalid args", None))),
    (V5, {"arg": BOOKS, "action": "snapshot", "data": [BOOK_5]}, data("books:BTC-USDT", BOOK_5, action="snapshot")),
    (V5, {"arg": {"channel": "account", "uid": "7"}, "eventType": "snapshot", "lastPage": True, "data": [{"ts": "1"}]},
     data("account", {"eventType": "snapshot", "lastPage": True, "ts": "1"})),
    (V5, {"arg": POSITIONS, "eventType": "snapshot", "curPage": 1, "lastPage": True, "data": []},
     data("positions:instType=ANY", {"eventType": "snapshot", "curPage": 1, "lastPage": True})),
    (V5, {"arg": POSITIONS, "eventType": "event_update", "data": []}, data("positions:instType=ANY")),
    (V5, {"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": [{"uly": "LTC-USD"}], "id": "r1",
          "connId": "a", "eventType": "update", "curPage": 2},
     data("liquidation-orders:instType=SWAP", {"eventType": "update", "curPage": 2, "uly": "LTC-USD"})),
    (V5, {"arg": {"channel": "block-tickers"}, "data": [{"instId": "LTC-USDT"}, {"instId": "BTC-USD_UM_XPERP-310404"}]},
     data("block-tickers:LTC-USDT", {"instId": "LTC-USDT"}),
     data("block-tickers:BTC-USD_UM_XPERP-310404", {"instId": "BTC-USD_UM_XPERP-310404"})),
    (V5, {"hello": 1, "world": 2}, WireEvent("unknown", message="object with hello, world")),
]  # fmt: skip


def test_no_message_of_the_exchange_is_taken_for_something_else():
    for dialect, message, *events in MESSAGES:
        text = message if isinstance(message, str) else json.dumps(message)
        assert dialect.parse(text) == events, f"{dialect.name}: {text}"


def test_the_rows_of_no_channel_are_lost_changed_or_given_to_another_one():
    more = [("option/trade:BTC-USD-190927-12500-C", OPTION_3), ("option/summary:BTC-USD", OPTION_3)]
    more.append(("option/order:BTC-USD", {"instrument_id": "X-USD-1-2-C", "underlying": "BTC-USD"}))
    for channel, row, *_ in [*SAMPLES, *more]:
        dialect, rows = dialect_of(channel), [row, row]
        arg = V5.argument(channel)
        messages = [{"arg": arg, "data": rows}, {"arg": arg | {"uid": "77982378738415879"}, "data": rows}]
        if dialect is V3:
            messages = [{"table": channel.partition(":")[0], "data": rows}]
        elif dialect is V1 and isinstance(row, list):
            messages = [[v1(channel, rows)]]
        elif dialect is V1:
            messages, rows = [[v1(channel, row)]], [row]
        for message in messages:
            assert dialect.parse(json.dumps(message)) == [data(dialect.key(channel), *rows)], channel


def test_one_bad_item_costs_only_itself():
    cases = [
        (V1, '[{"data":[1]},{"channel":"a","data":[1]},7]', ["malformed", "data", "malformed"]),
        *((V1, text, ["malformed"]) for text in ("", "{", "[" * 100_000, "null", "[1]", '["text"]', '[{"data":[1]}]')),
        (V3, '{"table":"spot/trade","data":null}', ["malformed"]),
        (V3, '{"table":"spot/trade","data":[{}]} trailing', ["malformed"]),
        (V3, '{"event":"error"}', ["malformed"]),
        (V5, '{"arg":null,"data":[]}', ["malformed"]),
        (V5, '{"arg":{},"data":[]}', ["malformed"]),
        (V5, '{"arg":{"channel":"trades"},"data":{}}', ["unknown"]),
        (V5, '{"event":["x"],"code":1}', ["unknown"]),
        (V5, '{"event":"error","code":"1","msg":null}', ["malformed"]),
        (V5, '{"event":"subscribe"}', ["malformed"]),
        (V5, '{"op":"order","data":[]}', ["malformed"]),
    ]
    for dialect, text, kinds in cases:
        assert [event.kind for event in dialect.parse(text)] == kinds, f"{dialect.name}: {text[:80]}"


KINDS = "data,pong,ping,confirmed,ended,refused,login,reply,notice,unknown,malformed".split(",")
KEYS = "event op channel data arg table code msg message errorCode id action instId instrument_id result".split()
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.sampled_from(KEYS), inner),
    max_leaves=5,
)
EVENTS = "subscribe unsubscribe error login notice channel-conn-count channel-conn-count-error pong".split()
CODES = st.sampled_from([0, "0", 30013, "30042", 30040, "60009", 60018, "60031", 20103]) | ANYTHING
LIKELY = dict.fromkeys(KEYS, ANYTHING) | {
    "event": st.sampled_from(EVENTS) | ANYTHING,
    "channel": st.sampled_from(["addChannel", "removeChannel", "login"]) | ANYTHING,
    "arg": st.dictionaries(st.sampled_from(["channel", "instId"]), ANYTHING) | ANYTHING,
    "data": st.lists(st.dictionaries(st.sampled_from(KEYS), ANYTHING), max_size=3) | ANYTHING,
    **dict.fromkeys(("code", "errorCode"), CODES),
}
SHAPES = st.fixed_dictionaries({}, optional=LIKELY)


@given(st.sampled_from([V1, V3, V5]), st.text() | (SHAPES | st.lists(SHAPES, max_size=3)).map(json.dumps))
@example(V1, '[{"channel":"a","data":' + '{"a":[' * 400 + "]}" * 400 + "}]")
@example(V3, '{"event":' + "[" * 100_000)
@example(V5, '{"event":"error","code":"60018","msg":"\ud800"}')
@example(V5, "9" * 5000)
@example(V3, '{"event":"error","errorCode":30013,"message":null}')
def test_no_message_can_break_the_reader_or_what_comes_after_it(dialect, text):
    for event in dialect.parse(text):
        assert event.kind in KINDS and isinstance(event.rows, list), event
        words = (event.channel, event.id, event.code, event.message)
        assert all(isinstance(word, str) for word in words), event


@given(st.binary(), st.integers(0, 9))
def test_inflate_gives_back_what_was_deflated(data, level):
    stream = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    assert inflate(stream.compress(data) + stream.flush()) == data


def test_the_compressed_pongs_that_the_exchange_sent_are_read():
    assert V1.parse(inflate(bytes.fromhex("ab564a2d4bcd2b51b2522ac8cf4b57aa0500")).decode()) == [PONG]
    assert V3.parse(inflate(bytes.fromhex("2bc8cf4b0700")).decode()) == [PONG]


@given(st.text(min_size=1, max_size=200), st.data(), st.booleans())
def test_a_frame_that_is_damaged_or_cut_short_is_a_value_error_and_nothing_else(text, data, bounded):
    whole = deflate(text)
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.MonkeyPatch.context() as patch:
        if bounded:  # as a frame that might inflate to too much
            patch.setattr(okex_ws, "MAX_MESSAGE", 1032)
        try:
            assert isinstance(inflate(bytes(damaged)), bytes)  # there is no checksum: some damage goes unseen
        except ValueError as error:
            assert "DEFLATE" in str(error) or bounded
        with pytest.raises(ValueError, match="DEFLATE"):
            inflate(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_a_bomb_is_an_error_and_not_memory(monkeypatch):
    monkeypatch.setattr(okex_ws, "MAX_MESSAGE", 1 << 20)
    with pytest.raises(ValueError, match="inflates to more"):
        inflate(deflate("0" * (1 << 20) + "0"))
    assert len(inflate(deflate("0" * (1 << 20)))) == 1 << 20


def test_channels_are_asked_for_and_ended_as_the_exchange_expects():
    for dialect, request in (
        (V1, '[{"event":"addChannel","channel":"A"},{"event":"addChannel","channel":"B"}]'),
        (V3, '{"op":"subscribe","args":["A","B"]}'),
        (V5, '{"id":"r1","op":"subscribe","args":[{"channel":"A"},{"channel":"B"}]}'),
    ):
        assert dialect.subscribe(["A", "B"], "r1") == request
        undo = request.replace("addChannel", "removeChannel").replace("subscribe", "unsubscribe")
        assert dialect.subscribe(["A", "B"], "r1", op="unsubscribe") == undo


def test_a_v5_channel_is_sent_as_it_is_spelled_and_recognised_however_it_is():
    for key, spelling, argument in (
        ("account", 'account:extraParams={"updateInterval":"0"}', {"extraParams": '{"updateInterval":"0"}'}),
        ("trades:BTC-USDT", "trades:BTC-USDT", {"instId": "BTC-USDT"}),
        ("trades:BTC-USDT", "trades:instId=BTC-USDT", {"instId": "BTC-USDT"}),
        ("status", "status", {}),
        ("sprd-trades:A_B", "sprd-trades:A_B", {"sprdId": "A_B"}),
        ("sprd-trades:A_B", "sprd-trades:sprdId=A_B", {"sprdId": "A_B"}),
        ("orders:instFamily=A,instType=B", "orders:instType=B,instFamily=A", {"instType": "B", "instFamily": "A"}),
        ("account:ccy=BTC", "account:ccy=BTC", {"ccy": "BTC"}),
    ):
        assert (V5.key(key), V5.key(spelling)) == (key, key), spelling
        assert V5.argument(spelling) == {"channel": key.partition(":")[0], **argument}, spelling


# Where channels are served, and whether it needs a login; the rest of v5's is compared with the stand-in.
HOMES = {
    "wss://real.okex.com:10441/ws/v1": "btc_forecast_price ok_sub_futureusd_btc_trade_quarter ok_sub_spot_a_b_depth_5",
    "wss://real.okex.com:10441/ws/v1 login": "ok_sub_futureusd_trades ok_sub_futureusd_userinfo"
    " ok_sub_futureusd_positions ok_sub_spot_bch_btc_order ok_sub_spot_bch_btc_balance",
    "wss://real.okex.com:8443/ws/v3": "spot/ticker:X system/status option/summary:X index/candle60s:X",
    "wss://real.okex.com:8443/ws/v3 login": "spot/account:X spot/margin_account:X swap/position:X futures/order:X"
    " option/order_algo:X",
    "wss://ws.okx.com/ws/v5/public": "trades new-channel",
    "wss://ws.okx.com/ws/v5/public login": "books-l2-tbt",
    "wss://ws.okx.com/ws/v5/private login": "orders",
    "wss://ws.okx.com/ws/v5/business": "candle1s candle3M candle6Hutc mark-price-candle1s index-candle1s sprd-candle1m",
    "wss://ws.okx.com/ws/v5/business login": "orders-algo copytrading-notification",
}


def test_no_channel_is_asked_for_at_another_endpoint_or_without_its_login():
    for home, channels in HOMES.items():
        url, _, login = home.partition(" ")
        for channel in channels.split():
            channel = f"{channel}:X" if "/v5/" in url else channel
            assert dialect_of(channel).name in url and endpoint(channel) == url, channel
            assert dialect_of(channel).private(channel) == bool(login), channel


def test_ones_own_url_gets_the_path_of_the_exchange_only_if_it_has_none():
    path = "/ws/v5/business"
    for own, whole in (("", path), ("/", path), ("?x=1", f"{path}?x=1"), ("/mine?x=1", "/mine?x=1")):
        assert endpoint("candle1m:BTC-USDT", f"ws://127.0.0.1:9000{own}") == f"ws://127.0.0.1:9000{whole}", own
    for url in ("127.0.0.1:9000", "http://127.0.0.1", "ws://", "wss:///ws/v5/public", "ws://a:0"):
        with pytest.raises(ValueError, match="is not a WebSocket URL"):
            endpoint("trades:BTC-USDT", url)
            pytest.fail(url)


def test_no_region_and_no_simulation_connects_to_the_hosts_of_another():
    for region, live, demo in (("global", "ws", "wspap"), ("eea", "wseea", "wseeapap"), ("us", "wsus", "wsuspap")):
        assert endpoint("trades:A", region=region) == f"wss://{live}.okx.com/ws/v5/public"
        assert endpoint("trades:A", region=region, simulated=True) == f"wss://{demo}.okx.com/ws/v5/public"
    with pytest.raises(ValueError, match="choose global, eea"):
        endpoint("trades:A", region="mars")


def test_list_rows_get_the_names_of_their_columns_and_keep_every_value():
    candle, trade = "timestamp open high low close volume coin_volume", "tid price amount time type coin_amount"
    for channels, names in {
        "ok_sub_futureusd_btc_trade_this_week ok_sub_spot_bch_btc_deals ok_sub_spot_bch_btc_trades": trade,
        "ok_sub_futureusd_btc_kline_quarter_1min ok_sub_spot_bch_btc_kline_day": candle,
        "candle1m:A candle1Dutc:A": "ts o h l c vol volCcy volCcyQuote confirm",
        "mark-price-candle1m:A index-candle1m:A mark-price-candle1s:A index-candle1s:A": "ts o h l c confirm",
        "sprd-candle1m:A_B": "ts o h l c vol confirm",
        "trades:A sprd-books5:A_B ok_sub_futureusd_trades spot/candle60s:A no.such": "",
    }.items():
        for channel in channels.split():
            assert fields(channel) == tuple(names.split()), channel
    keeper = Keeper(fields("ok_sub_futureusd_btc_trade_quarter"))
    odd = [{"already": "named"}, None]
    short, long, *rest = keeper.take([["1", "999.49", "12.0"], list(range(8)), *odd], "")
    assert short == {"tid": "1", "price": "999.49", "amount": "12.0"}
    assert list(long) == [*trade.split(), "column6", "column7"] and list(long.values()) == list(range(8))
    assert rest == odd


@given(st.text() | st.binary())
def test_quoted_text_cannot_touch_the_terminal(text):
    quoted = printable_text(text * 1000, 50)
    assert quoted.isprintable()
    assert len(quoted) <= 51 * 10


def test_a_refusal_has_a_hint_of_its_own():
    said = {"60018": "spelling", "60005": "API key", "50101": "--simulated", "60014": "ask less", "64003": "fee tier"}
    said |= {"54094": "reduce-only", "54109": "USDC", "54086": "outcome", "59113": "identity", "54031": "open interest"}
    assert all(word in okex_ws.HINTS[code] for code, word in said.items()) and not {"60029", "60030"} & {*okex_ws.HINTS}
