"""Several clients in one call, and sinks in code: what a strategy receives is stored while it runs."""

import copy
import json
import time
from functools import partial

import pytest
from conftest import wait_for
from test_sinks import table

import okex_ws
from okex_ws import CONNECTED, EXIT, OkexWS, RedisFeed, clients

TRADES, BARS, BEST = "trades:BTC-USDT", "candle1s:BTC-USDT", "books5:BTC-USDT"
DEEP = [f"books:C{n:04}-USDT" for n in range(1, 63)]


def in_a_row(ids):
    return ids == list(range(ids[0], ids[0] + len(ids)))


class Slow(okex_ws.Sink):
    """A sink that keeps what it is given in its own time."""

    linger = 0.3

    def __init__(self):
        self.rows, self.statuses, self.closed = [], [], 0

    def write(self, received, channel, rows):
        time.sleep(0.001)
        self.rows += [(channel, row) for row in rows]

    def status(self, received, status, detail):
        self.statuses.append(status)

    def close(self):
        self.closed += 1


@pytest.fixture
def begin(exchange):
    """Make clients of the stand-in and start them; `seen` is what their handler got before it took it apart."""
    made, seen = [], []

    def handler(channel, rows):
        seen.extend((channel, copy.deepcopy(row)) for row in rows)
        for row in rows:
            row.get("bids", []).clear()
            row.clear()
        rows.clear()

    def begin(channels, sinks, handler=handler):
        made[:] = clients(channels, handler, url=exchange.url, sinks=sinks)
        for ws in made:
            ws.start()
        return made

    begin.seen, begin.handler = seen, handler
    begin.has = lambda *channels: wait_for(lambda: {*channels} <= {channel for channel, _ in seen})
    begin.close = lambda: [ws.close() for ws in made]
    yield begin
    begin.close()


def test_channels_go_to_as_many_clients_as_they_take(exchange):
    exchange.more_coins = len(DEEP)
    first, second, third = DEEP[:30], DEEP[30:60], DEEP[60:]
    for channels, expected in [
        ([], []),
        (TRADES, [[TRADES]]),
        ([TRADES, BARS, BEST, TRADES], [[TRADES, BEST], [BARS]]),
        ([BARS, "candle1m:*-USDT", TRADES, "trades:ETH-*"], [["candle1m:*-USDT", BARS], ["trades:ETH-*", TRADES]]),
        ([TRADES, "spot/trade:BTC-USDT"], [[TRADES], ["spot/trade:BTC-USDT"]]),
        ([*DEEP, TRADES, DEEP[0]], [[*first, TRADES], second, third]),
        (["books:C00*-USDT", TRADES], [[*first, TRADES], second, third]),
    ]:
        made = clients(channels, url=exchange.url, depth=3)
        assert [list(ws.channels) for ws in made] == expected
        assert {ws.depth for ws in made} <= {3}
    assert [ws.since for ws in clients([BEST, BARS], url=exchange.url, since="2h")] == ["2h", "2h"]
    with pytest.raises(ValueError, match="since has no effect"):
        clients([BEST], url=exchange.url, since=20)


def test_sinks_get_rows_as_they_came_whatever_the_handler_does_to_them(exchange, tmp_path, begin):
    path, mine = tmp_path / "rows.jsonl", Slow()
    (ws,) = begin([TRADES, BEST], {"sqlite": tmp_path / "rows.db", "jsonl": str(path), "mine": mine})
    begin.has(TRADES, BEST)
    exchange.lost[TRADES] = 2
    wait_for(lambda: ws.counts["rows restored"])
    ws.close()
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert table(tmp_path / "rows.db") == [tuple(line.values()) for line in lines]
    assert mine.rows == [(line["channel"], line["row"]) for line in lines] == begin.seen
    assert all(row for _, row in mine.rows) and not ws.counts["handler errors"]


def test_whichever_way_a_client_ends_all_that_is_queued_is_written(exchange, begin):
    def close_by_handler(channel, rows):
        begin.handler(channel, rows)
        if len(begin.seen) > 50:
            ws.close()

    def close_from_outside(ws):
        ws.start()
        wait_for(lambda: len(begin.seen) > 50)
        ws.close()

    for end, channel, handler in [
        (OkexWS.run, TRADES, close_by_handler),
        (close_from_outside, TRADES, begin.handler),
        (partial(pytest.raises, LookupError, OkexWS.run), "trades:NOPE-USDT", begin.handler),
        (OkexWS.close, TRADES, begin.handler),
    ]:
        sink = Slow()
        begin.seen.clear()
        ws = OkexWS(channel, handler, url=exchange.url, sinks={"mine": sink})
        end(ws)
        assert (sink.rows, sink.closed) == (begin.seen, 1), end
        ws.close()
        assert sink.closed == 1, end


def test_clients_of_one_call_share_a_writer_which_the_last_one_closes(begin):
    sink = Slow()
    first, second = begin([TRADES, BARS], {"mine": sink})
    begin.has(TRADES, BARS)
    first.close()
    known = len(begin.seen)
    wait_for(lambda: len(begin.seen) > known + 5)
    assert not sink.closed
    second.close()
    assert sink.closed == 1 and sorted(map(str, sink.rows)) == sorted(map(str, begin.seen))
    assert sink.statuses.count(CONNECTED) == 2 and EXIT not in sink.statuses


def test_the_next_run_goes_on_where_the_files_end(exchange, tmp_path, begin):
    def ids(channel):
        return [int(row["tradeId"]) for _, name, row in table(tmp_path / "rows.db") if name == channel]

    known = 0
    for _ in range(3):
        begin([TRADES, "trades:ETH-B*"], {"sqlite": tmp_path / "rows.db"})
        for channel in (TRADES, "trades:ETH-BTC"):
            wait_for(lambda channel=channel, known=known: len(ids(channel)) > known and in_a_row(sorted(ids(channel))))
        begin.close()
        known = max(len(ids(TRADES)), len(ids("trades:ETH-BTC"))) + 30
        with exchange.lock:
            for name in ["BTC-USDT", "ETH-BTC"] * 40:
                exchange.instrument(name).step()


def test_sinks_that_cannot_be_are_an_error_at_once(tmp_path):
    for sinks, error in [
        ({"sqllite": "rows.db"}, KeyError),
        ({"jsonl": str(tmp_path / "no" / "rows.jsonl")}, OSError),
        ({"mine": Slow}, TypeError),
    ]:
        for make in (OkexWS, clients):
            with pytest.raises(error):
                make(TRADES, sinks=sinks)


def test_without_a_handler_rows_are_stored_whole_and_not_printed(begin, capsys):
    sink = Slow()
    begin("books:BTC-USDT", {"mine": sink}, None)
    wait_for(lambda: len(sink.rows) > 5)
    assert all("seqId" in row for _, row in sink.rows) and not capsys.readouterr().out


def test_redis_in_code_has_no_change_for_a_book_and_takes_no_commands(begin, redis_server, caplog):
    redis_server.start()
    feed = RedisFeed(redis_server.url)
    (ws,) = begin([TRADES, BEST, "books:ETH-USDT"], {"redis": redis_server.url})
    wait_for(lambda: feed.get(BEST) and feed.get(TRADES) and "say depth=20" in caplog.text)
    assert "Traceback" not in caplog.text
    assert feed.get("books:ETH-USDT") is None and not feed.get("books:ETH-USDT", 10)
    feed.redis.rpush("okex/default/@commands", '{"id": "1", "op": "quit"}')
    wait_for(lambda: not feed.redis.llen("okex/default/@commands"))
    assert not ws.ended.is_set()
    ws.close()
    assert feed.status() is None and feed.get(BEST) is None
