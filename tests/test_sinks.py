"""The sinks: every row, in order, once, whatever happens to disks, servers and this process."""

import json
import marshal
import os
import re
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from conftest import wait_for
from exchange import Exchange
from test_cli import finish, interruptible, program, until
from websocket import ABNF

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


@pytest.mark.parametrize("torn", ['{"rec', '{"received":1}\n{"received":2}\n{"x":"' + "y" * 200_000])
def test_a_torn_line_of_an_earlier_run_is_ended_and_nothing_is_cut(tmp_path, torn):
    path = tmp_path / "rows.jsonl"
    path.write_text(torn)
    sink = JsonLines(str(path))
    assert path.read_text() == torn
    sink.write(3, "c", [{}])
    sink.flush()
    assert path.read_text() == torn + '\n{"received":3,"channel":"c","row":{}}\n'


OURS = '{"received":1.5,"channel":"c","row":{}}\n'


@pytest.mark.parametrize(
    "text", ["", "\n", OURS, OURS + '{"recei', '{"received":7', OURS + "\n\n", OURS + '{"received":1\n']
)
def test_a_file_of_ours_is_appended_to(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    sink = JsonLines(str(path))
    sink.write(3, "c", [{}])
    sink.flush()
    assert path.read_text().startswith(text)
    assert json.loads(path.read_text().splitlines()[-1])["received"] == 3


@pytest.mark.parametrize(
    "data",
    [
        b"remember: sell everything on Monday",
        b"a note\n",
        b"[1]\n2\n3\n",
        b'{\n "a": 1\n}\n',
        OURS.encode() + b"and a note\n",
        b"\x1f\x8b\x08\x00 zipped",
        b"SQLite format 3\x00\n[1]\n",
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_not_touched(tmp_path, data):
    path = tmp_path / "precious"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is no file of JSON lines"):
        JsonLines(str(path))
    assert path.read_bytes() == data


def test_a_database_that_is_none_of_ours_is_refused_and_not_touched(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE rows (id, price)")
    db.close()
    (tmp_path / "note.txt").write_text("remember: sell everything on Monday\n" * 100)
    for name, words in (("other.db", "id, price"), ("note.txt", "not a database")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises((OSError, ValueError), match=words):
            SQLite(str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == before
    with sqlite3.connect(tmp_path / "mine.db") as db:  # other tables, and an index of one's own, do not matter
        db.execute("CREATE TABLE notes (text)")
    SQLite(str(tmp_path / "mine.db")).close()
    SQLite(str(tmp_path / "mine.db")).close()


class FullDisk:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room, self.taken = file, room, b""

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        part = data[: self.room]
        self.room -= len(part)
        self.taken += part
        if not part:
            raise OSError(28, "No space left on device")
        return self.file.write(part)


def readable(path):
    """What a reader makes of a file: the lines that are JSON."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line)["row"]["n"])
        except ValueError:
            continue
    return rows


@pytest.mark.parametrize("room", [0, 1, 20, 40, 41, 42, 60, 82, 100])
def test_half_a_write_is_ended_and_each_row_is_there_once(tmp_path, room):
    path = tmp_path / "rows.jsonl"
    sink = JsonLines(str(path))
    sink.write(1, "c", [{"n": 1}])
    sink.flush()
    sink.write(2, "c", [{"n": 2}, {"n": 3}, {"n": 4}])
    before, real = path.read_bytes(), sink.file
    sink.file = FullDisk(real, room)
    with pytest.raises(OSError, match="No space left"):
        sink.flush()
    torn, sink.file = before + sink.file.taken, real
    sink.flush()
    assert readable(path) == [1, 2, 3, 4]
    assert path.read_bytes().startswith(torn)


def test_two_writers_of_one_file_do_not_damage_each_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    first, second = JsonLines(str(path)), JsonLines(str(path))
    first.write(1, "c", [{"n": 1}])
    first.file = FullDisk(first.file, 10)
    with pytest.raises(OSError):
        first.flush()
    second.write(1, "c", [{"n": 2}])
    second.flush()
    third = JsonLines(str(path))
    first.file.room = 1000
    for sink in (third, first):
        sink.write(1, "c", [{"n": 3}])
        sink.flush()
    assert readable(path) == [2, 3, 1, 3]


APPEND = """
import sys, okex_ws
sink = okex_ws.JsonLines(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(500):
    sink.write(1, sys.argv[2], [{"n": i, "x": "y" * (i % 999)} for i in range(10 * n, 10 * n + 10)])
    sink.flush()
"""


def test_two_programs_may_write_one_file_of_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(okex_ws.__file__)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, path, name], **pipes) for name in "ab"]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=30)
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    for name in "ab":
        assert [line["row"]["n"] for line in lines if line["channel"] == name] == list(range(5000))


def test_programs_may_create_one_sqlite_file_at_once(tmp_path):
    def create(path):
        together.wait()
        sink = SQLite(path)
        sink.write(1.0, "c", [{}])
        sink.flush()
        sink.close()

    for n in range(30):
        path, together = str(tmp_path / f"{n}.db"), threading.Barrier(4)
        threads = [threading.Thread(target=create, args=(path,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(table(path)) == 4


def test_a_new_sqlite_file_that_another_program_holds_is_waited_for(tmp_path, monkeypatch):
    """SQLite's own timeout does not hold for turning the journal into a WAL while another one writes."""
    other = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
    other.execute("CREATE TABLE theirs (x)")
    other.execute("BEGIN IMMEDIATE")
    waits = []

    def pause(seconds):
        waits.append(seconds)
        other.close() if len(waits) == 3 else None

    monkeypatch.setattr(okex_ws, "pause", pause)
    sink = SQLite(str(tmp_path / "rows.db"))
    sink.write(1.0, "c", [{}])
    sink.flush()
    assert len(waits) == 3 and len(table(tmp_path / "rows.db")) == 1


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
        self.fail()
        self.taken += rows

    def fail(self):
        error = self.error  # once: a test takes it away at any moment
        if error:
            raise error

    def flush(self):
        self.fail()
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
    monkeypatch.setattr(okex_ws, "QUIET_DRAIN", 0.0)
    monkeypatch.setattr(okex_ws, "MAX_DRAIN", 2.0)
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
        assert f"--{name}: 3 rows could not be written in time: lost" in caplog.text
    assert "s at most" in caplog.text
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
    assert "3 rows could not be written in time" in caplog.text


def test_the_time_to_write_is_for_all_sinks_together(monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "MAX_DRAIN", 1.5)
    run = okex_ws.Run(okex_ws.parse_arguments([]), None)
    sinks = [Memory() for _ in range(4)]
    run.writers = [Writer(f"sink{n}", sink) for n, sink in enumerate(sinks)]
    for sink, writer in zip(sinks, run.writers):
        sink.hang.clear()
        writer.put(marshal.dumps((1.0, "c", [1])))
    begin = time.monotonic()
    run.drain()
    assert time.monotonic() - begin < 5.5  # 1.5 each would be 6
    assert run.status == 1 and caplog.text.count("1 row could not be written in time") == 4
    for sink in sinks:
        sink.hang.set()


def test_what_waits_is_counted_in_rows_and_a_change_of_state_is_none(caplog):
    caplog.set_level("INFO", "okex_ws")
    run = okex_ws.Run(okex_ws.parse_arguments([]), None)
    sink = Memory()
    sink.hang.clear()
    sink.status = lambda *_: {}["a bug"]
    run.output, run.connected, run.writers = None, True, [Writer("sink", sink)]
    run.on_status("CONNECTED", "url")
    run.handle("c", [1, 2])
    run.handle("c", [nested(2500)])
    assert run.sink_lines() == ["--sink: 0 rows written, 3 waiting"]
    sink.hang.set()
    run.drain()
    assert run.sink_lines() == ["--sink: 2 rows written, 0 waiting"]
    assert caplog.text.count("cannot take a message") == 1 and "1 row refused by --sink" in caplog.text


def test_a_network_error_of_a_sink_is_no_bug_of_it():
    sink = Memory()
    sink.error = ssl.SSLCertVerificationError("expired")  # an OSError, and a ValueError
    writer = Writer("memory", sink)
    writer.put(marshal.dumps((1.0, "c", [1])))
    wait_for(lambda: writer.failing)
    sink.error = None
    wait_for(lambda: not writer.failing)
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
    assert sink.rows == [1, 2] and sink.refused == 2
    assert caplog.text.count("cannot take a message") == 1


def nested(depth):
    row = {"n": 0}
    for _ in range(depth):
        row = {"x": row}
    return row


def shallow_json(value):
    text = json.dumps(value, separators=(",", ":"))
    if text.count("{") > 50:
        raise RecursionError("maximum recursion depth exceeded while encoding a JSON object")
    return text


@pytest.mark.parametrize("surprise", [MemoryError(), RuntimeError("odd"), RecursionError(), AssertionError()])
def test_a_surprise_in_one_message_costs_no_other(surprise, caplog):
    sink = Memory()
    take = sink.write

    def write(received, channel, rows):
        if rows == [1]:
            raise surprise
        take(received, channel, rows)

    sink.write = write
    writer = Writer("memory", sink)
    for n in range(3):
        writer.put(marshal.dumps((1.0, "c", [n])))
    assert writer.drain(time.monotonic())
    assert sink.rows == [0, 2] and sink.refused == 1
    assert "cannot take a message" in caplog.text


@pytest.mark.parametrize("kind", [JsonLines, SQLite])
def test_a_message_that_is_nested_too_deeply_costs_no_other(tmp_path, kind, caplog, monkeypatch):
    """Deeper than the JSON encoder goes, wherever its limit is, and deeper than marshal goes."""
    monkeypatch.setattr(okex_ws, "to_json", shallow_json)
    caplog.set_level("INFO", "okex_ws")
    run = okex_ws.Run(okex_ws.parse_arguments([]), None)
    path = tmp_path / "rows"
    run.output, run.connected, run.writers = None, True, [Writer("sink", kind(str(path)))]
    for row in ({"n": 1}, nested(100), nested(2500), {"n": 2}):
        run.handle("c", [row])
    run.drain()
    rows = [json.loads(row) for _, _, row in table(path)] if kind is SQLite else [x["row"] for x in json_lines(path)]
    assert rows == [{"n": 1}, {"n": 2}]
    assert caplog.text.count("cannot take a message") == 1 and "2 rows refused by --sink" in caplog.text


def test_a_message_that_cannot_be_printed_reaches_the_sinks():
    run = okex_ws.Run(okex_ws.parse_arguments(["--count", "1"]), None)
    run.output = lambda channel, rows: shallow_json(rows)
    sink = Memory()
    run.writers, run.connected = [Writer("memory", sink)], True
    with pytest.raises(RecursionError):
        run.handle("c", [nested(100)])
    run.drain()
    assert len(sink.rows) == 1 and run.status == 0


def test_a_clock_that_is_set_back_stops_no_sink(monkeypatch):
    sink = Memory()
    writer = Writer("memory", sink)
    now = time.time()
    for n in range(3):
        monkeypatch.setattr(okex_ws, "wall_clock", lambda n=n: now - 3600 * n)
        writer.put(marshal.dumps((okex_ws.wall_clock(), "c", [n])))
        wait_for(lambda n=n: len(sink.rows) == n + 1)
    assert writer.drain(time.monotonic())


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


def test_a_foreign_file_in_the_place_of_a_moved_one_is_left_alone_and_waited_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    sink = JsonLines(str(path))
    sink.write(1, "c", [{}])
    sink.flush()
    path.rename(tmp_path / "old")
    path.write_text("a note of somebody\n")
    sink.write(2, "c", [{}])
    for _ in range(2):
        with pytest.raises(ValueError, match="no file of JSON lines"):
            sink.flush()
    assert path.read_text() == "a note of somebody\n"
    path.unlink()
    sink.flush()
    assert received_times(tmp_path / "old") == [1] and received_times(path) == [2]


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
    session = exchange.sessions[-1]  # once: a client that has as many as it counts leaves
    for n in range(first, last):
        session.send(message(CHANNEL, [numbered(n)]))


def test_every_row_reaches_every_sink_once_and_in_order(tmp_path, redis_server):
    with Exchange(every=None) as exchange:
        process = program(
            *(CHANNEL, "--url", exchange.url, "--count", "5000", "--history", "9999"),
            *("--jsonl", tmp_path / "rows.jsonl", "--sqlite", tmp_path / "rows.db", "--redis", redis_server.url),
        )
        wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
        send_rows(exchange, 0, 5000)
        out, err = process.communicate(timeout=120)
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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


@pytest.mark.parametrize("rate", [1000, 10_000])
def test_kill_minus_nine_costs_at_most_the_last_second(tmp_path, rate):
    """Of ten kills, two must show it: in the others the machine may have stood still for a moment, or be too slow."""
    jsonl, db = tmp_path / "rows.jsonl", tmp_path / "rows.db"
    first = kept = 0
    with Exchange(every=None) as exchange:
        for _ in range(10):
            process = program(CHANNEL, "--url", exchange.url, "--jsonl", jsonl, "--sqlite", db)
            wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
            wait_for(lambda: db.exists())
            sent = pour(exchange.sessions[-1], first, rate)
            process.kill()
            process.communicate(timeout=10)
            wait_for(lambda: not exchange.sessions)
            due = {n for at, n in sent if at < sent[-1][0] - 1.0}
            lines = {int(line["row"]["tradeId"]) for line in whole_lines(jsonl)}
            rows = {int(json.loads(row)["tradeId"]) for _, _, row in table(db)}
            first += len(sent)
            kept += bool(due) and due <= lines & rows
            if kept == 2:
                break
    assert kept == 2, (
        f"missing in the last file: {len(due - lines)}, in the last table: {len(due - rows)} of {len(due)}"
    )
    with sqlite3.connect(db) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def pour(session, first, rate):
    """Send so many rows a second for 1.8 seconds, numbered from the first on; when each was sent, and its number."""
    sent, begin = [], time.monotonic()
    while (now := time.monotonic() - begin) < 1.8:
        due = range(first + len(sent), first + int(now * rate))
        if due:
            session.raw(b"".join(map(frame, due)))
            sent += [(now, n) for n in due]
        else:
            time.sleep(0.001)
    return sent


def whole_lines(path):
    """The lines of JSON, without those that a kill has torn."""
    for line in path.read_text().splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def frame(n):
    return ABNF(1, 0, 0, 0, ABNF.OPCODE_TEXT, 0, message(CHANNEL, [numbered(n)]).encode()).format()


def newest_id(exchange):
    return f'"tradeId":"{exchange.instruments["BTC-USDT"].trade_id}"'


@pytest.mark.parametrize("read_later", [True, False])
def test_a_terminal_that_stands_still_does_not_stop_a_recorder(tmp_path, read_later):
    path = tmp_path / "rows.jsonl"
    with Exchange(every=None) as exchange:
        process = program(CHANNEL, "--url", exchange.url, "--trace", "--jsonl", path)
        wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
        for _ in range(3000):  # more than 64 KB, and more lines than wait
            exchange.step()
        wait_for(lambda: newest_id(exchange) in path.read_text(), within=30)
        if read_later:
            seen = until(process.stderr, "not shown: nothing read them")
            while newest_id(exchange) not in seen:  # there is room again for a line, and all before it are read
                exchange.step()
                seen += until(process.stderr, "\n")
        process.terminate()
        if read_later:
            seen += process.communicate(timeout=10)[1]
            assert "rows in" in seen
        assert process.wait(10) == 0
        process.stderr.close()
    ids = [int(line["row"]["tradeId"]) for line in json_lines(path)]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


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
        (["--jsonl", "/nowhere/rows.jsonl"], "--jsonl: /nowhere/rows.jsonl: No such file or directory"),
        (["--jsonl", okex_ws.__file__], "is no file of JSON lines"),
        (["--sqlite", "/nowhere/rows.db"], "--sqlite: /nowhere/rows.db: unable to open"),
        (["--sqlite", okex_ws.__file__], "not a database"),
        (["--redis", "nonsense"], "Redis URL"),
        (["--redis", "redis://:secret@localhost:port"], "no valid port"),
        (["--redis", "redis://localhost/one"], "a number"),
        (["--redis", "redis://localhost/0?nonsense=1"], "nonsense"),
        (["--redis", "redis://localhost", "--name", "a/b"], "is no name"),
        (["--redis", "redis://localhost", "--history", "0"], "1 or more"),
    ],
)
def test_a_sink_that_cannot_be_is_said_before_connecting(arguments, words):
    status, _, err = finish(*arguments)
    assert status == 2 and words in err.splitlines()[-1] and "Traceback" not in err
    assert "secret" not in err and "Connecting" not in err


def test_one_more_ctrl_c_gives_up_what_is_not_written(tmp_path):
    path = tmp_path / "rows.db"
    with Exchange(every=None) as exchange:
        process = program(CHANNEL, "--url", exchange.url, "--count", "3", "--sqlite", path)
        wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
        wait_for(path.exists)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        send_rows(exchange, 0, 3)
        until(process.stderr, "Ctrl-C again gives up")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        other.close()
    assert process.returncode == 130 and re.search(r"--sqlite: gave up: \d+ rows? lost", err)


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
    def __init__(self, folder, port, start=True):
        self.port = port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        if start:
            self.start()

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            ["redis-server", *options, "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL
        )
        import redis

        def answers():
            assert self.process.poll() is None, "redis-server ended: has something else its port?"
            try:
                return redis.Redis.from_url(self.url).ping()
            except redis.ConnectionError:
                return False

        wait_for(answers)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def redis_server(tmp_path, kept_port):
    if not shutil.which("redis-server") and not os.environ.get("CI"):
        pytest.skip("needs redis-server")
    server = RedisServer(tmp_path, kept_port)
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
    assert feed.get("tickers:BTC-USDT") == {"last": "14", "n": 14, "deep": [1, None]}
    assert feed.get("tickers:BTC-USDT") == feed.get("tickers:BTC-USDT", 1)[0]
    assert [row["n"] for row in feed.get("tickers:BTC-USDT", 3)] == [12, 13, 14]
    assert len(feed.get("tickers:BTC-USDT", 99)) == 10


def test_no_key_of_ours_can_be_a_channels(redis_server, sink, feed):
    names = ["status", "commands", "answers/1", "event", "history", "batch/1", "a/history", "@status"]
    channels = []
    for name in names:
        try:
            okex_ws.dialect_of(name)
            channels.append(name)
        except ValueError:
            assert "@" in name or "/" in name
    for channel in channels:
        sink.write(1.0, channel, [{"of": channel}])
    sink.status(1.0, "CONNECTED", "url")
    sink.flush()
    assert feed._command("channels") == ["channels", []]
    for channel in channels:
        assert feed.get(channel) == {"of": channel} and feed.get(channel, 9) == [{"of": channel}]
    assert feed.status()["status"] == "CONNECTED"
    ours = set(feed.redis.keys()) - {f"okex/test/{channel}" for channel in channels}
    for key in ours:
        with pytest.raises(ValueError, match="not a channel"):
            okex_ws.dialect_of(key.removeprefix("okex/test/"))


def test_rows_that_redis_refuses_are_lost_alone_and_said_once(sink, feed, caplog):
    feed.redis.set("okex/test/@history/trades:BTC-USDT", "of another type")
    feed.redis.set("okex/test/@history/candle1m:BTC-USDT", "of another type")
    writer = Writer("redis", sink)
    for n in range(3):
        writer.put(marshal.dumps((1.0, CHANNEL, [numbered(n)])))
        writer.put(marshal.dumps((1.0, "candle1m:BTC-USDT", [candle(60_000 * (n + 1), n, "1")])))
        writer.put(marshal.dumps((1.0, "trades:ETH-USDT", [numbered(n)])))
        wait_for(lambda: not writer.backlog)
    assert writer.drain(time.monotonic())
    assert feed.get("trades:ETH-USDT", 9) == [numbered(n) for n in range(3)]
    assert feed.redis.get("okex/test/@history/trades:BTC-USDT") == "of another type"
    assert sink.refused == 6
    assert caplog.text.count("WRONGTYPE") == 2
    assert "Trying again" not in caplog.text and "works again" not in caplog.text


def test_a_redis_that_is_full_is_tried_again_and_loses_nothing(sink, feed, caplog):
    feed.redis.config_set("maxmemory", 1)
    writer = Writer("redis", sink)
    for n in range(3):
        writer.put(marshal.dumps((1.0, CHANNEL, [numbered(n)])))
    wait_for(lambda: writer.failing)
    feed.redis.config_set("maxmemory", 0)
    wait_for(lambda: not writer.failing)
    assert writer.drain(time.monotonic())
    assert feed.get(CHANNEL, 9) == [numbered(n) for n in range(3)]
    assert caplog.text.count("Trying again") == caplog.text.count("works again") == 1


def test_redis_keeps_rows_of_odd_shapes(sink, feed):
    sink.write(1.0, "odd:X", [None, "text", ["x"], {}])
    sink.write(1.0, "candle1m:X", [{}, {"ts": []}, {"candle": []}, ["1", "2"]])
    sink.flush()
    assert feed.get("odd:X", 9) == [{"value": None}, {"value": "text"}, {"value": ["x"]}, {}]
    assert feed.get("candle1m:X", 9) == [{}, {"ts": []}, {"candle": []}, {"value": ["1", "2"]}]
    assert feed.get("odd:X") == {}


def test_redis_keeps_each_instrument_of_a_channel_that_has_several(sink, feed):
    sink.write(1.0, "liquidation-orders:instType=SWAP", [{"instId": "BTC-USDT-SWAP"}, {"instId": "ETH-USDT-SWAP"}])
    sink.write(1.0, "futures/instruments", [{"instrument_id": "BTC-USD-191227"}])
    sink.write(1.0, "spot/ticker:BTC-USDT", [{"instrument_id": "BTC-USDT"}])
    sink.write(1.0, "ok_sub_spot_btc_usdt_ticker", [{"last": 1}])
    sink.flush()
    for channel in ("liquidation-orders:BTC-USDT-SWAP", "liquidation-orders:ETH-USDT-SWAP"):
        assert feed.get(channel)["instId"] in channel
    assert feed.get("futures/instruments:BTC-USD-191227") and feed.get("spot/ticker:BTC-USDT")
    assert feed.get("ok_sub_spot_btc_usdt_ticker") == {"last": 1}


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
    """Listen to a channel: a function that reads what was published since it was last called."""
    pubsub = feed.redis.pubsub()
    pubsub.subscribe(feed.prefix + channel)
    wait_for(lambda: pubsub.get_message(timeout=1))  # Redis says that we have subscribed

    def read():
        feed.redis.publish(feed.prefix + channel, "the end")  # what was published before comes before
        messages = iter(lambda: wait_for(lambda: pubsub.get_message(timeout=1))["data"], "the end")
        return [json.loads(data) for data in messages]

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


def test_the_status_is_there_while_the_program_lives(redis_server, sink, feed, monkeypatch):
    read = published(feed, "@event")
    sink.flush()
    assert feed.status()["status"] == "DISCONNECTED"
    sink.status(1.0, "CONNECTED", "wss://ws.okx.com")
    sink.flush()
    assert feed.status() == {"received": 1.0, "status": "CONNECTED", "detail": "wss://ws.okx.com"}
    monkeypatch.setattr(sink, "ALIVE", 1)
    sink.status(2.0, "REFUSED", "trades:NOPE: 60018")
    sink.flush()
    wait_for(lambda: feed.status() is None)
    wait_for(lambda: sink.flush() or feed.status())  # it is flushed at least once a second
    monkeypatch.setattr(sink, "ALIVE", RedisSink.ALIVE)
    sink.status(3.0, "GAP", "books:X: lost one")
    sink.flush()
    assert feed.status() == {"received": 3.0, "status": "GAP", "detail": "books:X: lost one"}
    assert [event["status"] for event in read()] == ["CONNECTED", "REFUSED", "GAP"]
    other = RedisSink(redis_server.url, name="other", history=10, command=print)
    other.flush()
    assert feed.servers() == RedisFeed(redis_server.url, "nobody").servers() == ["other", "test"]
    other.close()
    assert feed.servers() == ["test"]


def answer_in_time(feed, channel):
    """What subscribing says: after three seconds for an exchange that does not answer, if we have not left by then."""
    try:
        return feed.subscribe(channel)
    except TimeoutError:  # a second later: the machine stood still
        return None


def test_a_subscription_is_answered_when_the_exchange_has(exchange, redis_server):
    process = program(CHANNEL, "--url", exchange.url, "--redis", redis_server.url)
    feed = RedisFeed(redis_server.url)
    wait_for(lambda: feed.get(CHANNEL))
    events = published(feed, "@event")
    assert feed.subscribe("tickers:ETH-USDT") == "confirmed" == feed.channels()["tickers:ETH-USDT"]
    with pytest.raises(ValueError, match="60018"):
        feed.subscribe("trades:NOPE-USDT")
    with pytest.raises(ValueError, match="60018"):  # again, not the answer of before
        feed.subscribe("trades:NOPE-USDT")
    seen = []

    def told(status, channel, times):
        seen.extend((event["status"], event["detail"].partition(": ")[0]) for event in events())
        return seen.count((status, channel)) == times

    wait_for(lambda: told("REFUSED", "trades:NOPE-USDT", 2))
    assert ("SUBSCRIBED", "tickers:ETH-USDT") in seen
    exchange.silent = True
    wait_for(lambda: answer_in_time(feed, "tickers:BTC-USDT") in ("wanted", "sent"), within=30)
    process.terminate()
    process.communicate(timeout=10)


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
    feed.redis.rpush("okex/mine/@commands", '{"id": 7, "op": "channels"}')  # as redis-cli would
    answer = json.loads(feed.redis.blpop("okex/mine/@answers/7", timeout=4)[1])
    assert answer["result"]["tickers:ETH-USDT"] == "confirmed"
    feed.redis.rpush("okex/mine/@commands", "nonsense")
    assert feed.status()["status"] in ("CONNECTED", "SUBSCRIBED")
    feed.quit()
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    feed.clear()
    assert feed.redis.keys("*") == []


def test_a_second_program_under_the_same_name_is_told(redis_server, sink, feed, caplog):
    sink.flush()
    assert feed.status()
    RedisSink(redis_server.url, name="test", history=10, command=print).close()
    assert "Another okex_ws writes under okex/test/" in caplog.text


def test_commands_from_before_the_start_are_not_obeyed(redis_server, feed, caplog):
    feed.redis.rpush("okex/test/@commands", json.dumps({"id": "1", "op": "quit"}))
    given = []
    sink = RedisSink(redis_server.url, name="test", history=10, command=lambda op, channels: given.append(op))
    feed._command("channels")
    sink.close()
    assert given == ["channels"] and "before this start" in caplog.text


def test_a_command_of_an_odd_shape_is_answered(sink, feed):
    for channels in ("trades:BTC-USDT", 7, None):
        feed.redis.rpush("okex/test/@commands", json.dumps({"id": "1", "op": "subscribe", "channels": channels}))
        answer = json.loads(feed.redis.blpop("okex/test/@answers/1", timeout=4)[1])
        assert not answer["ok"] and "must be a list" in answer["error"]


def test_a_command_that_nobody_answers_is_an_error(feed):
    with pytest.raises(TimeoutError, match=r"is okex_ws\.py --redis running"):
        feed._command("channels", timeout=1)
    wait_for(lambda: feed.redis.keys() == [])  # nor is it obeyed by whoever starts later


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


def test_a_reader_resumes_where_another_one_left_off(sink, feed):
    sink.write(1.0, CHANNEL, [numbered(n) for n in range(5)])
    sink.flush()
    rows = feed.get(CHANNEL, 5)
    assert json.dumps(rows[1]) == json.dumps(numbered(1))
    resumed = feed.listen(CHANNEL, after=rows[1].id)
    got = [next(resumed) for _ in range(3)]
    assert got == [numbered(n) for n in (2, 3, 4)] and [row.id for row in got] == [row.id for row in rows[2:]]
    assert next(feed.listen(CHANNEL, after="0")) == numbered(0)
    sink.write(1.0, CHANNEL, [numbered(n) for n in range(5, 15)])
    sink.flush()
    with pytest.raises(LookupError, match="trimmed away"):
        next(feed.listen(CHANNEL, after=rows[1].id))
    assert next(feed.listen(CHANNEL, after="0")) == numbered(5)


def test_ctrl_c_ends_a_listener_like_that_of_the_readme(redis_server, sink):
    code = (
        "import sys, okex_ws\n"
        "try:\n"
        "    for row in okex_ws.RedisFeed(sys.argv[1], 'test').listen('trades:BTC-USDT', after='0'):\n"
        "        print(row['px'], flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
    )
    sink.write(1.0, CHANNEL, [numbered(1)])
    sink.flush()
    process = interruptible("-c", code, redis_server.url)
    until(process.stdout, "81.5")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=5) == ("", "") and process.returncode == 0


def test_a_redis_that_is_not_there_at_the_start_is_waited_for(tmp_path, exchange, kept_port):
    if not shutil.which("redis-server") and not os.environ.get("CI"):
        pytest.skip("needs redis-server")
    server = RedisServer(tmp_path, kept_port, start=False)
    process = program(CHANNEL, "--url", exchange.url, "--redis", server.url, "--history", "9999")
    said = until(process.stderr, "Trying again")
    assert "Connection refused" in said and "Traceback" not in said
    server.start()
    said += until(process.stderr, "works again")
    feed = RedisFeed(server.url)
    wait_for(lambda: feed.get(CHANNEL, 1))
    assert feed.channels() == {CHANNEL: "confirmed"}  # commands, too
    process.terminate()
    said += process.communicate(timeout=10)[1]
    ids = [int(row["tradeId"]) for row in feed.get(CHANNEL, 9999)]
    server.stop()
    assert process.returncode == 0 and said.count("Trying again") == 1
    assert ids == list(range(ids[0], ids[0] + len(ids))) and f"{len(ids)} rows in" in said


HASTY_DNS = {"RES_OPTIONS": "timeout:1 attempts:1"}  # where no name server answers


def test_a_wrong_password_or_host_of_redis_is_said_in_words(exchange, redis_server, feed):
    feed.redis.config_set("requirepass", "open sesame")
    wrong = redis_server.url.replace("//", "//:guess@")
    try:
        for url, words in (
            (wrong, "password"),
            (redis_server.url, "authenticated"),
            ("redis://no.invalid", "no.invalid"),
        ):
            process = program(CHANNEL, "--url", exchange.url, "--redis", url, env=HASTY_DNS)
            said = until(process.stderr, "Trying again")
            process.kill()
            process.communicate(timeout=10)
            assert words in said and "guess" not in said and "Traceback" not in said
    finally:
        feed.redis.config_set("requirepass", "")


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
