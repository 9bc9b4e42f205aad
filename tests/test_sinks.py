"""The sinks: every row, in order, once, whatever happens to disks, servers and this process."""

import json
import marshal
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time

import pytest
from conftest import wait_for
from exchange import Exchange
from test_cli import finish, program, until

import okex_ws
from okex_ws import JsonLines, RedisFeed, RedisSink, Sink, SQLite, Writer

CHANNEL = "trades:BTC-USDT"


def numbered(n):
    return {"instId": "BTC-USDT", "px": f"8{n}.5", "sz": "1", "side": "buy", "tradeId": str(n)}


def message(channel, rows):
    return json.dumps({"arg": okex_ws.V5.argument(channel), "data": rows})


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(path):
    with sqlite3.connect(path) as db:
        return db.execute("SELECT received, channel, row FROM rows ORDER BY rowid").fetchall()


# -- Files


def test_json_lines_are_appended_and_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    for n in (1, 2):
        sink = JsonLines(str(path))
        sink.write(n, "é", [{"n": n}, [n]])
        sink.flush()
        sink.flush()
        sink.close()
    rows = [(line["received"], line["channel"], line["row"]) for line in json_lines(path)]
    assert rows == [(1, "é", {"n": 1}), (1, "é", [1]), (2, "é", {"n": 2}), (2, "é", [2])]


@pytest.mark.parametrize("torn", ['{"rec', '{"received":1}\n{"received":2}\n{"x":"' + "y" * 200_000, "\n\n\x00"])
def test_a_torn_line_of_an_earlier_run_is_cut_off(tmp_path, torn, caplog):
    path = tmp_path / "rows.jsonl"
    path.write_text(torn)
    sink = JsonLines(str(path))
    sink.write(3, "c", [{}])
    sink.flush()
    assert path.read_text() == torn[: torn.rfind("\n") + 1] + '{"received":3,"channel":"c","row":{}}\n'
    assert "unfinished line" in caplog.text


def test_half_a_write_is_taken_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    sink = JsonLines(str(path))
    sink.write(1, "c", [{"n": 1}])
    sink.flush()
    sink.write(2, "c", [{"n": 2}])
    real = sink.file

    class FullDisk:
        def __getattr__(self, name):
            return getattr(real, name)

        def write(self, data):
            if len(data) > 20:
                return real.write(data[:20])
            raise OSError(28, "No space left on device")

    sink.file = FullDisk()
    with pytest.raises(OSError, match="No space left"):
        sink.flush()
    assert [line["row"]["n"] for line in json_lines(path)] == [1]
    sink.file = real
    sink.flush()
    assert [line["row"]["n"] for line in json_lines(path)] == [1, 2]


def test_sqlite_is_readable_while_it_is_written(tmp_path):
    path = tmp_path / "rows.db"
    sink = SQLite(str(path))
    reader = sqlite3.connect(path)
    for n in range(3):
        sink.write(float(n), CHANNEL, [numbered(n), numbered(n)])
        reading = reader.execute("SELECT count(*) FROM rows")  # a read that is under way
        sink.flush()
        sink.flush()
        assert reading.fetchone() == (2 * n,)
        assert len(table(path)) == 2 * n + 2
    query = "SELECT json_extract(row, '$.px') FROM rows WHERE channel = ? AND received >= 1 ORDER BY received"
    assert reader.execute(query, [CHANNEL]).fetchall() == [("81.5",), ("81.5",), ("82.5",), ("82.5",)]
    assert "rows_by_channel" in str(reader.execute("EXPLAIN QUERY PLAN " + query, [CHANNEL]).fetchall())
    sink.close()
    again = SQLite(str(path))
    again.write(9.0, "c", [{}])
    again.flush()
    assert len(table(path)) == 7


def test_a_batch_that_sqlite_refuses_is_taken_back(tmp_path):
    sink = SQLite(str(tmp_path / "rows.db"))
    sink.write(1.0, CHANNEL, [numbered(n) for n in range(2000)])
    sink.db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        sink.flush()
    assert table(tmp_path / "rows.db") == []
    sink.db.execute("PRAGMA max_page_count = 100000")
    sink.flush()
    assert len(table(tmp_path / "rows.db")) == 2000


# -- The queue and its thread


class Memory(Sink):
    """A sink that keeps rows, fails or hangs as told."""

    linger = 0.0

    def __init__(self):
        self.rows, self.taken, self.closed = [], [], False
        self.error, self.hang = None, threading.Event()
        self.hang.set()

    def write(self, received, channel, rows):
        self.hang.wait()
        if self.error:
            raise self.error
        self.taken += rows

    def flush(self):
        if self.error:
            raise self.error
        self.rows += self.taken
        self.taken = []

    def close(self):
        self.closed = True


def test_rows_reach_a_sink_in_order_on_a_thread_of_its_own():
    sink = Memory()
    writer = Writer("memory", sink)
    for n in range(5000):
        writer.put(marshal.dumps((1.0, "c", [n])))
    assert writer.drain(time.monotonic())
    assert sink.rows == list(range(5000)) and sink.closed
    assert writer.backlog == 0


def test_a_failing_sink_is_tried_again_and_loses_nothing(caplog):
    sink = Memory()
    writer = Writer("memory", sink)
    sink.error = OSError(28, "No space left on device")
    for n in range(50):
        writer.put(marshal.dumps((1.0, "c", [n])))
    wait_for(lambda: writer.failing)
    sink.error = None
    wait_for(lambda: len(sink.rows) == 50)
    assert sink.rows == list(range(50))
    assert caplog.text.count("No space left on device") == 1 and "works again" in caplog.text
    assert writer.drain(time.monotonic())


def test_what_cannot_be_written_in_time_is_said_aloud(monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "MAX_DRAIN", 0.7)
    monkeypatch.setattr(okex_ws, "MAX_DRAIN_FAILING", 0.2)
    hanging, failing = Memory(), Memory()
    hanging.hang.clear()
    failing.error = OSError("gone")
    for name, sink in (("hanging", hanging), ("failing", failing)):
        writer = Writer(name, sink)
        for n in range(3):
            writer.put(marshal.dumps((1.0, "c", [n])))
        wait_for(lambda: len(writer.queue) == 3 and (writer.failing or sink is hanging))  # noqa: B023
        assert not writer.drain(time.monotonic())
        assert f"--{name}: 3 messages could not be written in time, and are lost" in caplog.text
    assert "for at most" in caplog.text
    hanging.hang.set()


def test_what_was_taken_but_not_made_lasting_counts_as_lost(monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "MAX_DRAIN_FAILING", 0.2)
    sink = Memory()
    sink.flush = lambda: 1 / 0
    writer = Writer("memory", sink)
    for n in range(3):
        writer.put(marshal.dumps((1.0, "c", [n])))
    wait_for(lambda: writer.failing)
    assert writer.backlog and not writer.drain(time.monotonic())
    assert "3 messages could not be written in time" in caplog.text


def test_the_time_to_write_is_for_all_sinks_together(monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "MAX_DRAIN", 0.3)
    run = okex_ws.Run(okex_ws.parse_arguments([]), None)
    sinks = [Memory(), Memory()]
    run.writers = [Writer(name, sink) for name, sink in zip(("one", "two"), sinks)]
    for sink, writer in zip(sinks, run.writers):
        sink.hang.clear()
        writer.put(marshal.dumps((1.0, "c", [1])))
    begin = time.monotonic()
    run.drain()
    assert time.monotonic() - begin < 0.55  # 0.3 each would be 0.6
    assert run.status == 1 and caplog.text.count("1 messages could not be written in time") == 2
    for sink in sinks:
        sink.hang.set()


def test_a_network_error_of_a_sink_is_no_bug_of_it():
    sink = Memory()
    sink.error = ssl.SSLCertVerificationError("expired")  # an OSError, and a ValueError
    writer = Writer("memory", sink)
    writer.put(marshal.dumps((1.0, "c", [1])))
    wait_for(lambda: writer.failing)
    sink.error = None
    assert writer.drain(time.monotonic()) and sink.rows == [1]


def test_the_main_thread_does_not_leave_while_another_one_writes_what_is_queued():
    run = okex_ws.Run(okex_ws.parse_arguments([]), None)
    sink = Memory()
    run.writers = [Writer("memory", sink)]
    sink.hang.clear()
    run.writers[0].put(marshal.dumps((1.0, "c", [1])))
    threads = [threading.Thread(target=run.drain) for _ in range(2)]  # that of signals, and the main one
    for thread in threads:
        thread.start()
    wait_for(run.draining.is_set)
    threads[1].join(0.1)
    assert all(thread.is_alive() for thread in threads)
    sink.hang.set()
    for thread in threads:
        thread.join(10)
    assert sink.rows == [1]


def test_a_message_that_a_sink_cannot_take_costs_no_other(caplog):
    sink = Memory()
    take = sink.write

    def write(received, channel, rows):
        take(received, channel, [row["n"] for row in rows])

    sink.write = write
    writer = Writer("memory", sink)
    for row in ({"n": 1}, None, {}, {"n": 2}):
        writer.put(marshal.dumps((1.0, "c", [row])))
    assert writer.drain(time.monotonic())
    assert sink.rows == [1, 2] and writer.refused == 2
    assert caplog.text.count("cannot take a message") == 1


@pytest.mark.parametrize("kind", [JsonLines, SQLite])
def test_a_file_that_is_moved_away_is_followed_by_a_new_one(tmp_path, kind, caplog):
    path, old = tmp_path / "rows", tmp_path / "old"
    sink = kind(str(path))
    stored = (lambda path: [received for received, _, _ in table(path)]) if kind is SQLite else received_times
    sink.write(1, "c", [{}])
    sink.flush()
    path.rename(old)
    sink.write(2, "c", [{}])
    sink.flush()
    assert stored(old) == [1] and stored(path) == [2]
    tmp_path.rename(tmp_path.with_suffix(".away"))  # and a disk that is gone for a while
    sink.write(3, "c", [{}])
    with pytest.raises(OSError):
        sink.flush()
    tmp_path.with_suffix(".away").rename(tmp_path)
    sink.flush()
    sink.close()
    assert stored(path) == [2, 3]
    assert "was moved or removed" in caplog.text


def received_times(path):
    return [line["received"] for line in json_lines(path)]


def test_a_sink_needs_no_more_than_write():
    class Plain(Sink):
        def __init__(self):
            self.rows = []

        def write(self, received, channel, rows):
            self.rows += rows

    sink = Plain()
    writer = Writer("plain", sink)
    writer.put(marshal.dumps((1.0, "c", [1])))
    writer.put(marshal.dumps((1.0, "", ("CONNECTED", "url"))))
    assert writer.drain(time.monotonic())
    assert sink.rows == [1]


def test_a_sink_that_is_none_is_told_so():
    class Stranger:
        def write(self, received, channel, rows): ...

    with pytest.raises(TypeError, match=r"--mine: Stranger must derive from okex_ws\.Sink"):
        Writer("mine", Stranger())


def test_a_sink_of_ones_own_gets_an_option(tmp_path, exchange):
    script = tmp_path / "mine.py"
    script.write_text(
        "import sys, okex_ws\n"
        "class Count(okex_ws.Sink):\n"
        '    """count the rows, into FILE"""\n'
        "    def __init__(self, target, **_): self.path, self.n = target, 0\n"
        "    def write(self, received, channel, rows): self.n += len(rows)\n"
        "    def close(self): open(self.path, 'w').write(str(self.n))\n"
        "okex_ws.SINKS['tally'] = Count\n"
        "sys.exit(okex_ws.main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(okex_ws.__file__)}
    arguments = [CHANNEL, "--url", exchange.url, "--count", "25", "--tally", tmp_path / "n"]
    subprocess.run([sys.executable, script, *arguments], env=environment, check=True, capture_output=True, timeout=30)
    assert (tmp_path / "n").read_text() == "25"


# -- In the program


def send_rows(exchange, first, last):
    for n in range(first, last):
        exchange.sessions[-1].send(message(CHANNEL, [numbered(n)]))


def test_every_row_reaches_every_sink_once_and_in_order(tmp_path, redis_server):
    with Exchange(every=None) as exchange:
        process = program(
            *(CHANNEL, "--url", exchange.url, "--count", "5000", "--history", "9999"),
            *("--jsonl", tmp_path / "rows.jsonl", "--sqlite", tmp_path / "rows.db", "--redis", redis_server.url),
        )
        wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
        send_rows(exchange, 0, 5000)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), err
    lines = json_lines(tmp_path / "rows.jsonl")
    first = next(n for n, line in enumerate(lines) if line["row"] == numbered(0))
    expected = [numbered(n) for n in range(5000 - first)]
    assert [line["row"] for line in lines[first:]] == expected
    assert [json.loads(row) for _, _, row in table(tmp_path / "rows.db")[first:]] == expected
    assert RedisFeed(redis_server.url).get(CHANNEL, 9999)[first:] == expected
    assert [line["received"] for line in lines] == [received for received, _, _ in table(tmp_path / "rows.db")]


def test_candles_reach_sinks_as_named_values(tmp_path, exchange):
    path = tmp_path / "rows.jsonl"
    finish("candle1m:BTC-USDT", "--url", exchange.url, "--count", "1", "--jsonl", path)
    assert set(json_lines(path)[0]["row"]) == {"ts", "o", "h", "l", "c", "vol", "volCcy", "volCcyQuote", "confirm"}


def test_the_recorder_writes_the_top_of_the_book(tmp_path, exchange):
    path = tmp_path / "book.jsonl"
    finish("books:BTC-USDT", "--url", exchange.url, "--count", "20", "--depth", "10", "--jsonl", path)
    rows = [line["row"] for line in json_lines(path)]
    assert len(rows) == 20 and all(len(row["bids"]) == len(row["asks"]) == 10 for row in rows)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_unwritten(tmp_path, exchange, number):
    path = tmp_path / "rows.jsonl"
    process = program(CHANNEL, "--url", exchange.url, "--jsonl", path)
    until(process.stderr, "subscribed")
    wait_for(lambda: len(exchange.requests) and path.exists() and path.stat().st_size > 2000)
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == (130 if number == signal.SIGINT else 0)
    rows = json_lines(path)
    ids = [int(line["row"]["tradeId"]) for line in rows]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert f"{len(rows)} rows in " in err


def test_kill_minus_nine_costs_at_most_the_last_second(tmp_path):
    jsonl, db = tmp_path / "rows.jsonl", tmp_path / "rows.db"
    last = -1
    with Exchange(every=None) as exchange:
        for _ in range(3):
            process = program(CHANNEL, "--url", exchange.url, "--jsonl", jsonl, "--sqlite", db)
            wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
            wait_for(lambda: db.exists())
            sent, begin = [], time.monotonic()
            while time.monotonic() - begin < 1.6:
                last += 1
                exchange.sessions[-1].send(message(CHANNEL, [numbered(last)]))
                sent.append((time.monotonic(), last))
                time.sleep(0.0005)
            process.kill()
            process.communicate(timeout=10)
            due = {n for at, n in sent if at < sent[-1][0] - 1.0}
            wait_for(lambda: not exchange.sessions)
            whole = jsonl.read_text().split("\n")[:-1]
            assert due <= {int(json.loads(line)["row"]["tradeId"]) for line in whole}
            assert due <= {int(json.loads(row)["tradeId"]) for _, _, row in table(db)}
    with sqlite3.connect(db) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sink = JsonLines(str(jsonl))
    sink.close()
    assert all(json_lines(jsonl))


def test_a_sink_that_is_too_slow_makes_the_reader_wait_and_drops_nothing(exchange, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "MAX_QUEUE", 6000)
    sink = Memory()
    sink.hang.clear()
    monkeypatch.setitem(okex_ws.SINKS, "slow", lambda target, **_: sink)
    args = okex_ws.parse_arguments([CHANNEL, "--slow", "x", "--count", "150", "--url", exchange.url])
    run = okex_ws.Run(args, exchange.url)
    status = []
    thread = threading.Thread(target=lambda: status.append(run.run()))
    thread.start()
    wait_for(lambda: run.waits["slow"])
    assert run.writers[0].backlog < 12_000
    sink.hang.set()
    thread.join(30)
    assert status == [0]
    ids = [int(row["tradeId"]) for row in sink.rows]
    assert ids == list(range(ids[0], ids[0] + 150))
    assert caplog.text.count("receiving waits for it") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jsonl", "/nowhere/rows.jsonl"], "No such file"),
        (["--sqlite", "/nowhere/rows.db"], "unable to open"),
        (["--redis", "nonsense"], "Redis URL"),
        (["--history", "0"], "1 or more"),
    ],
)
def test_a_sink_that_cannot_be_is_said_before_connecting(arguments, words):
    status, _, err = finish(*arguments)
    assert status == 2 and words in err.splitlines()[-1] and "Traceback" not in err


def test_without_the_redis_package_the_rest_works(tmp_path, exchange):
    def run(*arguments):
        code = (
            "import sys; sys.modules['redis'] = None; sys.argv = ['okex_ws.py', *sys.argv[1:]];"
            f"import runpy; runpy.run_path({okex_ws.__file__!r}, run_name='__main__')"
        )
        command = [sys.executable, "-c", code, CHANNEL, "--url", exchange.url, "--count", "3", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert run("--sqlite", tmp_path / "rows.db").returncode == 0 and len(table(tmp_path / "rows.db")) == 3
    lost = run("--redis", "redis://127.0.0.1")
    assert lost.returncode == 2
    assert len(lost.stderr.splitlines()) == 1 and "pip install redis" in lost.stderr


# -- Redis


class RedisServer:
    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        self.start()

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            ["redis-server", *options, "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL
        )
        import redis

        def answers():
            try:
                return redis.Redis.from_url(self.url).ping()
            except redis.ConnectionError:
                return False

        wait_for(answers)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def redis_server(tmp_path):
    if not shutil.which("redis-server") and not os.environ.get("CI"):
        pytest.skip("needs redis-server")
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def sink(redis_server):
    sink = RedisSink(redis_server.url, name="test", history=10, command=lambda op, channels: [op, channels])
    yield sink
    sink.close()


@pytest.fixture
def feed(redis_server):
    return RedisFeed(redis_server.url, "test")


def test_redis_keeps_the_latest_row_and_a_trimmed_history(sink, feed):
    assert feed.get("tickers:BTC-USDT") is None and feed.get("tickers:BTC-USDT", 3) == []
    sink.write(1.5, "tickers:BTC-USDT", [{"last": "1", "gone": "x"}])
    sink.flush()
    sink.write(1.5, "tickers:BTC-USDT", [{"last": str(n), "n": n, "deep": [1, None]} for n in range(2, 15)])
    sink.flush()
    assert feed.get("tickers:BTC-USDT") == {"last": "14", "n": "14", "deep": "[1,null]"}
    assert [row["n"] for row in feed.get("tickers:BTC-USDT", 3)] == [12, 13, 14]
    assert len(feed.get("tickers:BTC-USDT", 99)) == 10


def test_redis_keeps_rows_of_odd_shapes(sink, feed):
    sink.write(1.0, "odd:X", [None, "text", ["x"], {}])
    sink.write(1.0, "candle1m:X", [{}, {"ts": []}, {"candle": []}, ["1", "2"]])
    sink.flush()
    assert feed.get("odd:X", 9) == [{"value": None}, {"value": "text"}, {"value": ["x"]}, {}]
    assert feed.get("candle1m:X", 9) == [{}, {"ts": []}, {"candle": []}, {"value": ["1", "2"]}]
    assert feed.get("odd:X") is None


def test_redis_keeps_each_instrument_of_a_channel_that_has_several(sink, feed):
    sink.write(1.0, "liquidation-orders:instType=SWAP", [{"instId": "BTC-USDT-SWAP"}, {"instId": "ETH-USDT-SWAP"}])
    sink.write(1.0, "futures/instruments", [{"instrument_id": "BTC-USD-191227"}])
    sink.write(1.0, "spot/ticker:BTC-USDT", [{"instrument_id": "BTC-USDT"}])
    sink.write(1.0, "ok_sub_spot_btc_usdt_ticker", [{"last": 1}])
    sink.flush()
    for channel in ("liquidation-orders:BTC-USDT-SWAP", "liquidation-orders:ETH-USDT-SWAP"):
        assert feed.get(channel)["instId"] in channel
    assert feed.get("futures/instruments:BTC-USD-191227") and feed.get("spot/ticker:BTC-USDT")
    assert feed.get("ok_sub_spot_btc_usdt_ticker") == {"last": "1"}


def lose_an_answer(monkeypatch, sink):
    """Let Redis apply the next transaction, but lose its answer."""
    kind = type(sink.redis.pipeline())
    execute = kind.execute

    def lossy(self, *args, **options):
        monkeypatch.setattr(kind, "execute", execute)
        execute(self, *args, **options)
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr(kind, "execute", lossy)


def test_a_final_candle_is_in_the_history_once_though_an_answer_was_lost(sink, feed, monkeypatch):
    sink.write(1.0, "candle1m:X", [candle(60_000, 1, "1")])
    lose_an_answer(monkeypatch, sink)
    with pytest.raises(ConnectionError):
        sink.flush()
    sink.flush()
    sink.write(1.0, "candle1m:X", [candle(60_000, 1, "1"), candle(120_000, 2, "1")])
    sink.flush()
    assert [row["ts"] for row in feed.get("candle1m:X", 9)] == ["60000", "120000"]


def test_a_candle_of_the_far_future_shuts_out_no_other(sink, feed):
    sink.write(1.0, "candle1m:X", [candle(10**26, 1, "1"), candle(60_000, 2), candle(60_000, 3, "1")])
    sink.flush()
    assert [row["c"] for row in feed.get("candle1m:X", 9)] == ["1", "3"]


def candle(begin, close, confirm="0"):
    return {"ts": str(begin), "o": "1", "h": "9", "l": "1", "c": str(close), "confirm": confirm}


def published(feed, channel):
    pubsub = feed.redis.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(feed.prefix + channel)
    pubsub.get_message(timeout=1)

    def read():
        messages = iter(lambda: pubsub.get_message(timeout=0.2), None)
        return [json.loads(m["data"]) for m in messages]

    return read


def test_the_history_of_candles_holds_those_that_are_final_once(sink, feed):
    read = published(feed, "candle1m:BTC-USDT")
    for batch in ([(60, 2), (60, 3)], [(60, 4)], [(60, 5, "1"), (120, 6)], [(60, 99, "1"), (120, 7)]):
        sink.write(1.0, "candle1m:BTC-USDT", [candle(*values) for values in batch])
        sink.flush()
    assert [(row["ts"], row["c"]) for row in feed.get("candle1m:BTC-USDT", 9)] == [("60", "5")]
    assert feed.get("candle1m:BTC-USDT")["c"] == "7"
    assert [row["c"] for row in read()] == ["5"]


def test_a_later_run_does_not_repeat_a_final_candle(redis_server, sink, feed):
    sink.write(1.0, "candle1m:BTC-USDT", [candle(60, 2), candle(60, 3, "1"), candle(120, 4)])
    sink.flush()
    sink.close()
    again = RedisSink(redis_server.url, name="test", history=10, command=print)
    again.write(1.0, "candle1m:BTC-USDT", [candle(60, 3, "1"), candle(120, 5), candle(120, 6, "1")])
    again.flush()
    again.close()
    assert [row["c"] for row in feed.get("candle1m:BTC-USDT", 9)] == ["3", "6"]


@pytest.mark.parametrize(
    ("channel", "rows"),
    [
        (
            "spot/candle60s:ETH-USDT",
            [{"candle": [f"2019-04-16T10:{m}:00.000Z", "1", "1", "1", c]} for m, c in ((49, 1), (49, 2), (50, 3))],
        ),
        (
            "ok_sub_spot_bch_btc_kline_1min",
            [{"timestamp": str(t), "close": c} for t, c in ((60, 1), (60, 2), (120, 3))],
        ),
    ],
)
def test_where_candles_are_not_called_final_the_next_one_says_so(sink, feed, channel, rows):
    read = published(feed, channel)
    sink.write(1.0, channel, rows)
    sink.flush()
    assert feed.get(channel, 9) == rows[1:2]
    assert read() == rows[1:2]
    sink.status(2.0, "DISCONNECTED", "reset")  # so that nobody knows how the third one ended
    sink.write(1.0, channel, [rows[0]])
    sink.write(1.0, channel, [rows[2]])
    sink.flush()
    assert feed.get(channel, 9) == rows[1:2]


def test_a_batch_whose_answer_is_lost_is_not_written_twice(sink, feed, monkeypatch):
    sink.write(1.0, CHANNEL, [numbered(1), numbered(2)])
    lose_an_answer(monkeypatch, sink)
    with pytest.raises(ConnectionError):
        sink.flush()
    sink.flush()
    sink.write(1.0, CHANNEL, [numbered(3)])
    sink.flush()
    assert [row["tradeId"] for row in feed.get(CHANNEL, 9)] == ["1", "2", "3"]


def test_the_status_is_there_while_the_program_lives(sink, feed, monkeypatch):
    read = published(feed, "status")
    monkeypatch.setattr(sink, "ALIVE", 1)
    sink.status(1.0, "CONNECTED", "wss://ws.okx.com")
    sink.flush()
    assert feed.status() == {"received": 1.0, "status": "CONNECTED", "detail": "wss://ws.okx.com"}
    assert read() == [feed.status()]
    wait_for(lambda: feed.status() is None)
    sink.flush()  # at least once a second
    assert feed.status()["status"] == "CONNECTED"


def test_other_programs_give_commands(tmp_path, exchange, redis_server):
    arguments = (CHANNEL, "--url", exchange.url, "--redis", redis_server.url, "--name", "mine")
    process = program(*arguments)
    feed = RedisFeed(redis_server.url, "mine")
    wait_for(lambda: feed.get(CHANNEL))
    feed.subscribe("tickers:ETH-USDT")
    feed.subscribe("candle1m:BTC-USDT")  # from another endpoint
    wait_for(lambda: feed.get("tickers:ETH-USDT") and feed.get("candle1m:BTC-USDT"))
    wait_for(lambda: feed.channels() == dict.fromkeys((CHANNEL, "tickers:ETH-USDT", "candle1m:BTC-USDT"), "confirmed"))
    feed.unsubscribe(CHANNEL)
    wait_for(lambda: CHANNEL not in feed.channels())
    with pytest.raises(ValueError, match="is not a channel"):
        feed.subscribe("BTC-USDT")
    with pytest.raises(ValueError, match="no op"):
        feed._command("dance")
    feed.redis.rpush("okex/mine/commands", '{"id": 7, "op": "channels"}')  # as redis-cli would
    answer = json.loads(feed.redis.blpop("okex/mine/answers/7", timeout=4)[1])
    assert answer["result"]["tickers:ETH-USDT"] == "confirmed"
    feed.redis.rpush("okex/mine/commands", "nonsense")
    assert feed.status()["status"] in ("CONNECTED", "SUBSCRIBED")
    feed.quit()
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    feed.clear()
    assert feed.redis.keys("*") == []


def test_commands_from_before_the_start_are_not_obeyed(redis_server, feed, caplog):
    feed.redis.rpush("okex/test/commands", json.dumps({"id": "1", "op": "quit"}))
    given = []
    sink = RedisSink(redis_server.url, name="test", history=10, command=lambda op, channels: given.append(op))
    feed._command("channels")
    sink.close()
    assert given == ["channels"] and "before this start" in caplog.text


def test_a_command_of_an_odd_shape_is_answered(sink, feed):
    for channels in ("trades:BTC-USDT", 7, None):
        feed.redis.rpush("okex/test/commands", json.dumps({"id": "1", "op": "subscribe", "channels": channels}))
        answer = json.loads(feed.redis.blpop("okex/test/answers/1", timeout=4)[1])
        assert not answer["ok"] and "must be a list" in answer["error"]


def test_a_command_that_nobody_answers_is_an_error(feed):
    with pytest.raises(TimeoutError, match=r"is okex_ws\.py --redis running"):
        feed._command("channels", timeout=1)


FOLLOW = """
import sys, okex_ws
rows = okex_ws.RedisFeed(sys.argv[1], "test").listen("trades:BTC-USDT")
print("listening", flush=True)
for n, row in enumerate(rows):
    assert row["tradeId"] == str(n), (n, row)
    if n == 2999:
        break
"""


def test_readers_in_other_processes_see_every_row(redis_server, feed):
    sink = RedisSink(redis_server.url, name="test", history=5000, command=print)
    command = [sys.executable, "-c", FOLLOW, redis_server.url]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(okex_ws.__file__)}
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "listening\n"
    for first in range(0, 3000, 100):
        sink.write(1.0, CHANNEL, [numbered(n) for n in range(first, first + 100)])
        sink.flush()
    assert [reader.wait(30) for reader in readers] == [0, 0]
    sink.close()


def test_a_reader_is_told_when_rows_were_trimmed_away_unread(sink, feed):
    sink.write(1.0, CHANNEL, [numbered(0)])
    sink.flush()
    rows = feed.listen(CHANNEL)
    sink.write(1.0, CHANNEL, [numbered(1)])
    sink.flush()
    assert next(rows)["tradeId"] == "1"
    sink.write(1.0, CHANNEL, [numbered(n) for n in range(2, 40)])
    sink.flush()
    with pytest.raises(LookupError, match="28 rows were trimmed"):
        next(rows)


def test_redis_may_go_and_come_back(tmp_path, redis_server):
    with Exchange(every=None) as exchange:
        arguments = (CHANNEL, "--url", exchange.url, "--redis", redis_server.url, "--history", "9999")
        process = program(*arguments, "--jsonl", tmp_path / "rows.jsonl")
        wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
        feed = RedisFeed(redis_server.url)
        send_rows(exchange, 0, 300)
        wait_for(lambda: feed.get(CHANNEL, 1) == [numbered(299)])
        redis_server.stop()
        send_rows(exchange, 300, 600)
        path = tmp_path / "rows.jsonl"
        wait_for(lambda: '"tradeId":"599"' in path.read_text())  # the other sink goes on, in whatever pieces
        said = until(process.stderr, "Trying again")
        redis_server.start()
        send_rows(exchange, 600, 900)
        wait_for(lambda: feed.get(CHANNEL, 1) == [numbered(899)], within=20)
        assert feed.get(CHANNEL, 900) == [numbered(n) for n in range(900)]
        process.terminate()
        _, err = process.communicate(timeout=10)
    assert process.returncode == 0 and "--redis works again" in said + err
