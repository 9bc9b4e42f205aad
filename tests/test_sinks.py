"""The sinks: every row, in order, once, whatever happens to disks, servers and this process."""

import itertools
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SCRIPT, RedisServer, finish, finish_all, frame, program, until, wait_for
from exchange import Exchange, Position
from test_series import BARS, TRADES, walk, whole

import okex_ws
from okex_ws import JsonLines, RedisFeed, RedisSink, Sink, SQLite, Writer

CHANNEL = "trades:BTC-USDT"
BESIDE = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}  # the environment of a script that imports okex_ws


def numbered(n):
    """A trade; later than those of the stand-in, whose ids are higher: its ids begin anew."""
    trade = {"instId": "BTC-USDT", "px": f"8{n}.5", "sz": "1", "side": "buy", "tradeId": str(n)}
    return trade | {"ts": str(4_000_000_000_000 + n)}


def message(n):
    return json.dumps({"arg": okex_ws.V5.argument(CHANNEL), "data": [numbered(n)]})


def table(path):
    """(received, channel, row) of each row in a database, or in a file of JSON lines but for torn ones."""
    if path.read_bytes()[:6] == b"SQLite":
        with sqlite3.connect(path) as db:
            rows = db.execute("SELECT received, channel, row FROM rows ORDER BY rowid").fetchall()
        db.close()
        return [(received, channel, json.loads(row)) for received, channel, row in rows]
    rows = []
    for line in path.read_text().splitlines():
        with suppress(ValueError):
            rows.append(tuple(json.loads(line).values()))
    return rows


def numbers(path):
    return [row["n"] for *_, row in table(path)]


def killed(process):
    process.kill()
    process.communicate(timeout=10)


def store(sink, *rows, received=1.0, channel=CHANNEL):
    sink.write(received, channel, list(rows))
    sink.flush()


# -- Files of JSON lines
OURS = '{"received":1.5,"channel":"c","row":{"n":0}}\n'


def test_what_is_in_a_file_of_json_lines_is_never_cut_and_every_row_of_ours_has_its_line(tmp_path):
    texts = ["", "\n", OURS, OURS + "\n\n", "a note\n", "a note", OURS[:5], OURS[:-1], OURS + OURS[:9]]
    for text in [*texts, OURS + '{"x":"' + "y" * 200_000]:
        path = tmp_path / "rows.jsonl"
        path.write_text(text)
        sink = JsonLines(str(path))
        assert path.read_text() == text
        store(sink, {"n": 1}, [2], channel="é")
        sink.flush()
        store(sink, {"n": 3})
        lines = [("é", {"n": 1}), ("é", [2]), (CHANNEL, {"n": 3})]
        added = "".join(okex_ws.json_line(1.0, *line) for line in lines)
        torn = text and not text.endswith("\n")
        assert path.read_text() == text + "\n" * bool(torn) + added, text[-40:]


@contextmanager
def room(path, size):
    """A disk that has room for so many bytes more in this file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_is_full_in_the_middle_of_a_row_costs_no_row_and_doubles_none(tmp_path):
    for size in (0, 1, 20, 46, 47, 48, 60, 94, 95, 100):
        path = tmp_path / f"{size}.jsonl"
        sink = JsonLines(str(path))
        store(sink, {"n": 1})
        sink.write(2.0, CHANNEL, [{"n": n} for n in (2, 3, 4)])
        with room(path, size):
            for _ in range(3):
                with pytest.raises(OSError, match="File too large"):
                    sink.flush()
        torn = path.read_bytes()
        sink.flush()
        assert numbers(path) == [1, 2, 3, 4], size
        assert path.read_bytes().startswith(torn), size


APPEND = """
import sys, okex_ws
sink = okex_ws.SINKS[sys.argv[1]](sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for n in range(100):
    sink.write(1.0, sys.argv[3], [{"n": i, "x": "y" * (i % 999)} for i in range(10 * n, 10 * n + 10)])
    sink.flush()
"""


def test_two_programs_may_write_one_file(tmp_path):
    for option in ("jsonl", "sqlite"):
        path = tmp_path / option
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": BESIDE, "text": True}
        writers = [subprocess.Popen([sys.executable, "-c", APPEND, option, path, name], **pipes) for name in "ab"]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            writer.communicate(timeout=60)
            assert writer.returncode == 0, option
        for name in "ab":
            rows = [row["n"] for _, channel, row in table(path) if channel == name]
            assert rows == list(range(1000)), (option, name)


def test_a_file_that_is_moved_away_is_followed_by_a_new_one(tmp_path):
    for kind in (JsonLines, SQLite):
        path, old = tmp_path / "disk" / "rows", tmp_path / "old"
        path.parent.mkdir()
        sink = kind(str(path))
        store(sink, {"n": 1})
        path.rename(old)
        store(sink, {"n": 2})
        assert (numbers(old), numbers(path)) == ([1], [2]), kind
        path.unlink()
        path.parent.rename(tmp_path / "away")  # a disk that is gone for a while
        sink.write(3.0, "c", [{"n": 3}])
        with pytest.raises(OSError):
            sink.flush()
        (tmp_path / "away").rename(path.parent)
        store(sink, {"n": 4})
        assert numbers(path) == [3, 4], kind
        shutil.rmtree(path.parent)


def test_the_reader_of_a_named_pipe_gets_every_row_and_no_early_end(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    code = """if True:
        import sys, okex_ws
        sink = okex_ws.JsonLines(sys.argv[1])
        for first in range(0, 6000, 2000):  # more than the 64 KB that a pipe holds
            sink.write(1.0, "c", [{"n": n} for n in range(first, first + 2000)])
            sink.flush()
    """
    process = subprocess.Popen([sys.executable, "-c", code, path], env=BESIDE)
    with open(path) as pipe:
        wait_for(lambda: select.select([pipe], [], [], 0)[0])
        for number in (signal.SIGSTOP, signal.SIGCONT):  # as by Ctrl-Z: half of what is written now is written
            time.sleep(0.2)
            process.send_signal(number)
        text = pipe.read()
    assert process.wait(30) == 0
    rows = [json.loads(line)["row"]["n"] for line in text.splitlines() if line.endswith("}}")]
    assert rows == list(range(6000))


# -- SQLite
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
    with sqlite3.connect(tmp_path / "mine.db") as db:  # other tables do not matter
        db.execute("CREATE TABLE notes (text)")
    for _ in range(2):
        store(SQLite(str(tmp_path / "mine.db")), {})
    assert len(table(tmp_path / "mine.db")) == 2


def test_sqlite_can_be_read_while_it_is_written_and_a_long_select_delays_no_row(tmp_path):
    path = tmp_path / "rows.db"
    sink = SQLite(str(path))
    reader = sqlite3.connect(path)
    for n in range(3):
        sink.write(float(n), CHANNEL, [numbered(n), numbered(n)])
        reading = reader.execute("SELECT count(*) FROM rows")  # a SELECT that is under way
        begin = time.monotonic()
        sink.flush()
        assert time.monotonic() - begin < 9.0  # SQLite would have waited for ten
        assert len(table(path)) == 2 * n + 2
        assert reading.fetchone() == (2 * n,)
    query = "SELECT json_extract(row, '$.px') FROM rows WHERE channel = ? AND received >= 1 ORDER BY received"
    assert reader.execute(query, [CHANNEL]).fetchall() == [("81.5",), ("81.5",), ("82.5",), ("82.5",)]
    assert "rows_by_channel" in str(reader.execute("EXPLAIN QUERY PLAN " + query, [CHANNEL]).fetchall())
    reader.close()
    store(sink, numbered(3))
    shutil.copy(path, tmp_path / "copy.db")  # alone: nothing stands beside it that would belong to it
    assert len(table(tmp_path / "copy.db")) == 7


def test_programs_may_create_one_sqlite_file_at_once_and_one_that_is_written_to_is_waited_for(tmp_path):
    def create(path):
        together.wait()
        store(SQLite(path), {})

    for n in range(10):
        path, together = str(tmp_path / f"{n}.db"), threading.Barrier(4)
        threads = [threading.Thread(target=create, args=(path,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(table(Path(path))) == 4
    other = sqlite3.connect(tmp_path / "rows.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE theirs (x)")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, other.execute, ["COMMIT"]).start()
    store(SQLite(str(tmp_path / "rows.db")), {})
    assert len(table(tmp_path / "rows.db")) == 1


def test_a_batch_that_sqlite_has_no_room_for_is_taken_back(tmp_path):
    path = tmp_path / "rows.db"
    sink = SQLite(str(path))
    sink.write(1.0, CHANNEL, [{"n": n, "x": "y" * 100} for n in range(2000)])
    with room(path, 100_000):
        for _ in range(2):
            with pytest.raises((OSError, sqlite3.Error), match="disk"):
                sink.flush()
    assert numbers(path) == []
    sink.flush()
    assert numbers(path) == list(range(2000))


def test_what_an_earlier_run_kept_comes_back_in_the_order_in_which_it_came(tmp_path):
    sink, now = SQLite(str(tmp_path / "rows.db")), time.time()
    for n, age in enumerate([900.0] * 1500 + [100.0, 100.0, 50.0]):
        sink.write(now - age, CHANNEL, [{"n": 2 * n}, {"n": 2 * n + 1}])
        sink.write(now - age, "trades:ETH-USDT", [{"n": -1}])
    sink.flush()
    assert [row["n"] for row in sink.recall(CHANNEL, 300.0)] == list(range(2000, 3006))
    assert [row["n"] for row in sink.recall(CHANNEL, 3600.0)] == list(range(3006))
    assert list(sink.recall("trades:SOL-USDT", 300.0)) == []


def test_files_of_json_lines_tell_what_an_earlier_run_kept(tmp_path):
    now, path = time.time(), tmp_path / "rows.jsonl"
    sink = JsonLines(str(path))
    for n in range(30_000):  # each of 200 bytes
        store_in = CHANNEL if n % 2 else "tickers:BTC-USDT"
        sink.write(now - (30_000 - n), store_in, [{"n": n, "x": "y" * 100}])
    sink.flush()
    with path.open("a") as file:  # torn lines, notes, and a whole row
        file.write(OURS[:9] + "\n5\n{}\n" + okex_ws.json_line(now, CHANNEL, {"n": -1})[:-1])
    cases = [(0.0, 100, 4_000), (9_000.0, 4_500, 8_000), (1e9, 15_000, 15_000)] * 2
    sink = JsonLines(str(path))
    with ThreadPoolExecutor() as pool:  # each client asks on its own thread
        found = [pool.submit(lambda seconds: [*sink.recall(CHANNEL, seconds)], seconds) for seconds, *_ in cases]
    for rows, (seconds, least, most) in zip(found, cases):
        kept = [row["n"] for row in rows.result()]
        assert least <= len(kept) - 1 <= most and kept == [*range(kept[0], 30_000, 2), -1], seconds
    assert not [*JsonLines(str(path)).recall("tickers:BTC-USDT", 1e9)]
    assert not [*JsonLines(str(tmp_path / "new.jsonl")).recall(CHANNEL, 1e9)]


# -- The queue and its thread
class Memory(Sink):
    """A sink that keeps rows, fails or hangs as told."""

    linger = 0.0

    def __init__(self):
        self.rows, self.taken, self.closed, self.error = [], [], False, None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def write(self, received, channel, rows):
        self.may_go_on.wait()
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


def start(sink, *messages):
    """A writer that was given these messages, each a list of rows."""
    writer = Writer("memory", sink)
    for rows in messages:
        writer.put(1.0, "c", rows)
    return writer


def ended(writer, left=30.0):
    """End a writer that has so many seconds left; whether it wrote everything."""
    writer.ending.set()
    return writer.drained(time.monotonic() - 30.0 + left)


def test_a_failing_sink_is_tried_again_and_loses_nothing(caplog):
    # The second is a ValueError, too.
    errors = [OSError(28, "No space left on device"), ssl.SSLCertVerificationError("expired")]
    for error in [*errors, sqlite3.OperationalError("database is locked")]:
        caplog.clear()
        sink = Memory()
        sink.error = error
        writer = start(sink, *([n] for n in range(50)))
        wait_for(lambda: writer.failing)  # noqa: B023
        assert writer.waiting == 50
        sink.error = None
        assert ended(writer) and sink.rows == list(range(50)), error
        assert caplog.text.count(str(error)) == caplog.text.count("works again") == 1, caplog.text


def test_a_message_that_a_sink_cannot_take_costs_no_other(tmp_path, caplog):
    for error in (TypeError("odd"), KeyError("px"), RecursionError(), AssertionError(), ZeroDivisionError()):
        caplog.clear()
        sink = Memory()
        take = sink.write

        def write(received, channel, rows, error=error, take=take):
            if "odd" in rows:
                raise error
            take(received, channel, rows)

        sink.write, sink.status = write, lambda *_: {}["a bug"]
        writer = start(sink, [1], ["odd", "odd"], [2], ["odd"])
        writer.put(1.0, "", ("CONNECTED", "url"))
        assert ended(writer) and sink.rows == [1, 2], error
        assert (sink.refused, writer.written) == (3, 5), error
        assert caplog.text.count("cannot take a message") == 1, error
    deep = {}
    for _ in range(100_000):
        deep = {"x": deep}
    for kind in (JsonLines, SQLite):
        sink = kind(str(tmp_path / kind.__name__))
        assert ended(start(sink, [{"n": 1}], [deep], [{"n": 2}]))
        assert numbers(tmp_path / kind.__name__) == [1, 2] and sink.refused == 1, kind


def test_what_cannot_be_written_in_time_is_said_to_be_waiting(caplog):
    hanging, failing, forgetful = Memory(), Memory(), Memory()
    hanging.may_go_on.clear()
    failing.error = OSError("gone")
    forgetful.flush = lambda: 1 / 0  # what was taken, but not made lasting
    writers = [start(sink, [1], [2], [3]) for sink in (hanging, failing, forgetful)]
    wait_for(lambda: writers[1].failing and writers[2].failing)
    begin = time.monotonic()
    assert [ended(writer, left=28.5) for writer in writers[1:]] == [False, False]  # of three seconds, 1.5 are left
    assert time.monotonic() - begin < 20.0
    assert [ended(writers[0], left=1.0) for _ in range(2)] == [False, False]  # run() and close() end it
    assert [writer.waiting for writer in writers] == [3, 3, 3] and caplog.text.count("lost") == 3
    begin, idle = time.monotonic(), start(failing)
    wait_for(lambda: idle.failing and ended(idle))  # without rows nothing is lost
    assert time.monotonic() - begin < 3.0 and "0 rows" not in caplog.text
    assert "writing 3 rows, for" in caplog.text and "Ctrl-C again gives up" in caplog.text
    hanging.may_go_on.set()


def test_a_row_that_some_sinks_lack_goes_to_them_alone_though_it_comes_as_a_live_one():
    sinks = {"full": Memory(), "short": Memory()}
    for sink, kept in zip(sinks.values(), (6, 3)):
        sink.recall = lambda *_, kept=kept: [numbered(n) for n in range(kept)]
    recorder = okex_ws.Recorder([], sinks)
    recorder.recall(0.0, [okex_ws.series_of(CHANNEL)(CHANNEL)])
    again = numbered(3) | {"ts": "9000000000000"}  # ids that begin anew
    for row in (numbered(5), numbered(4), numbered(6), again):
        recorder.record(1.0, CHANNEL, [row])
    assert recorder.end(time.monotonic())
    rows = [[row["tradeId"] for row in sink.rows] for sink in sinks.values()]
    assert rows == [["6", "3"], ["5", "4", "6", "3"]]


def test_a_sink_that_is_too_slow_makes_who_reads_wait_until_the_run_ends_and_drops_nothing(monkeypatch, caplog):
    monkeypatch.setattr(okex_ws, "MAX_QUEUE", 10)
    for ends in (False, True):
        caplog.clear()
        sink = Memory()
        sink.may_go_on.clear()
        writer = start(sink)
        reader = threading.Thread(target=lambda: [writer.put(1.0, "c", [n]) for n in range(2000)])  # noqa: B023
        reader.start()
        wait_for(lambda: writer.waits)  # noqa: B023
        reader.join(0.1)
        assert reader.is_alive() and writer.waiting < 1100
        writer.ending.set() if ends else sink.may_go_on.set()
        reader.join(30)
        assert not reader.is_alive()
        sink.may_go_on.set()
        assert ended(writer) and sink.closed and sink.rows == list(range(2000))
        assert (writer.written, writer.waiting) == (2000, 0)
        assert caplog.text.count("receiving waits") == 1


# -- In the program
@contextmanager
def recording(*arguments, **options):
    """The program, subscribed to trades of a stand-in that sends nothing by itself: (exchange, process)."""
    with Exchange(every=None) as exchange:
        process = program(CHANNEL, "--url", exchange.url, *arguments, **options)
        try:
            wait_for(lambda: exchange.sessions and exchange.sessions[-1].feeds)
            yield exchange, process
        finally:
            killed(process)


def send_rows(exchange, first, last):
    session = exchange.sessions[-1]  # once: a client that has as many as it counts leaves
    for n in range(first, last):
        session.send(message(n))


def test_every_row_reaches_every_sink_once_and_in_order(tmp_path, redis_server):
    files = ("--jsonl", tmp_path / "rows.jsonl", "--sqlite", tmp_path / "rows.db", "--redis", redis_server.url)
    with recording("--count", "5000", "--history", "9999", *files) as (exchange, process):
        send_rows(exchange, 0, 5000)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, ""), err
    rows = table(tmp_path / "rows.jsonl")
    assert rows == table(tmp_path / "rows.db")  # with one time, too
    first = [row for *_, row in rows].index(numbered(0))
    expected = [numbered(n) for n in range(5000 - first)]
    assert [row for *_, row in rows[first:]] == expected
    assert RedisFeed(redis_server.url).get(CHANNEL, 9999)[first:] == expected
    assert all(f"5000 rows written by --{option}" in err for option in ("jsonl", "sqlite", "redis"))


def test_after_a_reconnect_positions_are_told_anew_and_orders_are_said_to_be_unknown(exchange, connect, impatient):
    exchange.account.positions["BTC-USDT-SWAP", "net"] = Position(Decimal(1), Decimal(83000))
    names = ("positions:instType=ANY", "orders:instType=ANY", "fills", "trades:BTC-USDT")
    client = connect(*names[:3], credentials=okex_ws.Credentials(*exchange.keys))
    other = connect(names[3])
    wait_for(lambda: client.rows and other.rows)
    for reconnects in (1, 2):
        exchange.account.positions.clear()
        seen = len(client.rows)
        for session in list(exchange.sessions):
            session.drop()
        wait_for(lambda: client.rows[seen:] and other.saw("CONNECTED", reconnects + 1))  # noqa: B023
        assert client.rows[seen:] == [(names[0], {"eventType": "snapshot", "curPage": 1, "lastPage": True})]
        gaps = [detail for status, detail in client.statuses if status == okex_ws.GAP]
        assert len(gaps) == reconnects and gaps[-1].startswith("orders:instType=ANY, fills: "), gaps
        assert "ask the exchange" in gaps[-1] and not other.saw(okex_ws.GAP)


def test_what_a_file_lacks_is_asked_for_once(tmp_path, exchange):
    path = tmp_path / "rows.jsonl"
    command = (CHANNEL, "--url", exchange.url, "--jsonl", path)
    assert finish(*command, "--count", "50")[0] == 0
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:20] + lines[25:]))
    exchange.rest_delay = 0.5
    _, _, err = finish(*command, "--seconds", "3")
    assert err.count(f"{CHANNEL}: missing") == err.count("missing rows restored") == 1, err


def test_a_signal_leaves_nothing_unwritten(tmp_path, exchange):
    ways = {signal.SIGTERM: 0, signal.SIGINT: 130, signal.SIGHUP: 0}
    arguments = (CHANNEL, "--url", exchange.url, "--jsonl")
    processes = [program(*arguments, tmp_path / number.name) for number in ways]
    for process, (number, status) in zip(processes, ways.items()):
        path = tmp_path / number.name
        until(process.stderr, "subscribed")
        wait_for(lambda: path.exists() and path.stat().st_size > 2000)  # noqa: B023
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == status, number
        ids = [int(row["tradeId"]) for *_, row in table(path)]
        assert ids == list(range(ids[0], ids[0] + len(ids))) and f"{len(ids)} rows in " in err, number


@pytest.mark.parametrize("rate", [1000, 10_000])
def test_kill_minus_nine_costs_at_most_the_last_second(tmp_path, rate):
    """Of ten kills, two must show it: in the others the machine may have stood still for a moment, or be too slow."""
    jsonl, db = tmp_path / "rows.jsonl", tmp_path / "rows.db"
    first = kept = 0
    while kept < 2 and first < 20 * rate:
        with recording("--jsonl", jsonl, "--sqlite", db) as (exchange, process):
            reader = sqlite3.connect(db)
            reading = reader.execute("SELECT count(*) FROM rows")  # a SELECT that is under way
            sent = pour(exchange.sessions[-1], first, rate)
            process.kill()
            process.wait(10)
            del reading
            reader.close()
        due = {n for at, n in sent if at < sent[-1][0] - 1.0}
        lines, rows = ({int(row["tradeId"]) for *_, row in table(path)} for path in (jsonl, db))
        first += len(sent)
        kept += bool(due) and due <= lines & rows
    assert kept == 2, f"missing at last: {len(due - lines)} lines and {len(due - rows)} rows of {len(due)}"
    with sqlite3.connect(db) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def pour(session, first, rate):
    """Send so many rows a second for 1.8 seconds, numbered from the first on; when each was sent, and its number."""
    sent, begin = [], time.monotonic()
    while (now := time.monotonic() - begin) < 1.8:
        due = range(first + len(sent), first + int(now * rate))
        session.raw(b"".join(frame(message(n)) for n in due))
        sent += [(now, n) for n in due]
        time.sleep(0.001)
    return sent


def test_a_sink_that_cannot_be_is_said_before_connecting():
    words = {
        "--jsonl /nowhere/rows.jsonl": "No such file or directory: '/nowhere/rows.jsonl'",
        f"--sqlite {okex_ws.__file__}": "not a database",
        "--redis redis://:secret@localhost:port": "no valid port",
        "--redis redis://localhost/0?nonsense=1": "nonsense",
        "--redis redis://localhost --name a/b": "is no name",
        "--redis redis://localhost --history 0": "1 or more",
    }
    for arguments, status, _, err in finish_all(map(str.split, words)):
        assert status == 2 and words[" ".join(arguments)] in err.splitlines()[-1], err
        assert not re.search("secret|Connecting|Traceback", err), err


def test_rows_that_could_not_be_written_at_the_end_are_said_and_cost_the_status(kept_port):
    with recording("--count", "3", "--redis", f"redis://127.0.0.1:{kept_port}") as (exchange, process):
        send_rows(exchange, 0, 3)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and "--redis: 3 rows could not be written: lost." in err
    assert err.count("trying again") == 1 and "0 rows written by --redis" in err


def test_without_the_redis_package_the_rest_works(tmp_path, exchange):
    code = (
        "import sys; sys.modules['redis'] = None; sys.argv = ['okex_ws.py', *sys.argv[1:]];"
        f"import runpy; runpy.run_path({okex_ws.__file__!r}, run_name='__main__')"
    )
    arguments = (CHANNEL, "--url", exchange.url, "--count", "3")
    assert finish(*arguments, "--sqlite", tmp_path / "rows.db", code=code)[0] == 0
    assert len(table(tmp_path / "rows.db")) == 3
    status, _, err = finish(*arguments, "--redis", "redis://127.0.0.1", code=code)
    assert status == 2 and len(err.splitlines()) == 1 and "pip install redis" in err


# -- Redis
@pytest.fixture
def make_sink(redis_server):
    """Make a sink of Redis that answers with what it was asked; `make_sink(history=5000)`."""
    sinks = []

    def make(name="test", history=10, command=lambda op, channels: [op, channels], clients=()):
        sinks.append(RedisSink(redis_server.url, name=name, history=history, command=command, clients=clients))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


@pytest.fixture
def sink(make_sink):
    return make_sink()


@pytest.fixture
def feed(redis_server):
    return RedisFeed(redis_server.url, "test")


def ask(feed, *requests):
    """Ask as redis-cli would; the answers to those requests that have an id."""
    texts = [json.dumps(request) for request in requests]
    feed.redis.rpush(f"{feed.prefix}@commands", *texts)
    ids = [request["id"] for request in requests if isinstance(request, dict) and "id" in request]
    return [json.loads(feed.redis.blpop(f"{feed.prefix}@answers/{id}", timeout=5)[1]) for id in ids]


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


def candle(begin, close, confirm="0"):
    return {"ts": str(begin), "o": "1", "h": "9", "l": "1", "c": str(close), "confirm": confirm}


def closes(rows):
    return [row["c"] for row in rows]


def test_redis_keeps_the_latest_row_and_a_trimmed_history(sink, feed):
    assert feed.get("tickers:BTC-USDT") is None and feed.get("tickers:BTC-USDT", 3) == []
    store(sink, {"last": "1", "gone": "x"}, channel="tickers:BTC-USDT")
    rows = [{"last": str(n), "n": n, "deep": [1, None]} for n in range(2, 15)]
    store(sink, *rows, channel="tickers:BTC-USDT")
    assert feed.get("tickers:BTC-USDT") == rows[-1]
    assert feed.get("tickers:BTC-USDT", 3) == rows[-3:]
    assert feed.get("tickers:BTC-USDT", 99) == rows[-10:]
    store(sink, *({"odd": n, "restored": True} for n in range(20)), channel="tickers:BTC-USDT")
    assert feed.get("tickers:BTC-USDT") == rows[-1] and len(feed.get("tickers:BTC-USDT", 99)) == 10


def test_restored_rows_that_redis_has_or_trimmed_away_are_not_appended(make_sink, feed):
    store(make_sink(), *(numbered(n) for n in range(20)))
    for number in (20, 21):
        sink = make_sink()
        if number == 20:  # the other one's Redis is not there when it is asked
            assert len([*sink.recall(CHANNEL, 3600.0)]) == 10
        store(sink, *(numbered(n) | {"restored": True} for n in (5, 13, number)))
    assert [int(row["tradeId"]) for row in feed.get(CHANNEL, 99)] == [*range(12, 22)]


def test_redis_keeps_each_row_under_its_channel_and_of_each_instrument_the_latest(sink, feed):
    bars = [{"candle": [f"2019-04-16T10:{m}:00.000Z", "1", "1", "1", c]} for m, c in ((49, 1), (49, 2), (50, 3))]
    many, two = object(), [{"instId": "BTC-USDT"}, {"instId": "X"}]
    for channel, rows, latest in [
        ("odd:X", [None, "text", ["x"], {}], {}),
        ("candle1m:X", [{}, {"ts": []}, {"candle": []}, ["1", "2"]], {"value": ["1", "2"]}),
        ("spot/candle60s:X", bars, bars[-1]),  # which are not said to be final
        ("spot/ticker:BTC-USDT", [{"instrument_id": "BTC-USDT"}], {"instrument_id": "BTC-USDT"}),
        ("futures/instruments", [{"instrument_id": "BTC-USD-191227"}], many),
        ("orders:instType=ANY", [{"ordId": "1"}, {"ordId": "2"}], many),
        ("orders:instType=SPOT,instId=X", [{"instId": "X", "ordId": "1"}], many),
        ("orders-algo:instType=ANY", [{"instId": "X", "ordId": "", "algoId": n} for n in "12"], many),
        ("grid-sub-orders:algoId=1", [{"ordId": n, "algoId": "1", "instId": "X"} for n in "12"], many),
        *((channel, two, many) for channel in ("opt-summary:instFamily=BTC-USD", "fills")),
        ("sprd-trades", [{"sprdId": "A_B"}, {"sprdId": "A_C"}], many),
        ("option-trades:instType=OPTION,instId=X", [{"instId": "X", "n": n} for n in (1, 2)], {"instId": "X", "n": 2}),
        ("trades:OLD-USDT", [{"instId": "NEW-USDT"}], {"instId": "NEW-USDT"}),  # it was renamed
        ("status", [{"title": "1"}, {"title": "2"}], {"title": "2"}),
    ]:
        feed.redis.set(f"okex/test/{channel}", "of another type")
        store(sink, *rows, channel=channel)
        expected = [row if isinstance(row, dict) else {"value": row} for row in rows]
        assert feed.get(channel) == (expected if latest is many else latest), channel
        assert feed.get(channel, 9) == expected, channel


def test_redis_tells_what_stands_of_positions_and_orders_and_nothing_else(make_sink, feed):
    long, short = ({"instId": "X", "mgnMode": "cross", "posSide": side, "pos": "5"} for side in ("long", "short"))
    btc, eth = ({"posId": n, "instId": "X", "pos": "1"} for n in "12")
    closed, more = {"pos": "0"}, {"pos": "7"}
    order, algo = {"ordId": "1", "state": "live"}, {"algoId": "8", "ordId": "", "state": "live"}
    ends = ("filled", "canceled", "mmp_canceled")

    def page(number, last, *rows):
        beside = {"eventType": "snapshot", "curPage": number, "lastPage": last}
        return [beside | row for row in rows] or [beside], beside

    one, beside = page(1, True, long, short)
    first, begin = page(1, False, btc)
    second, end = page(2, True, eth)
    balances = end | {"details": [1, 2]}
    positions, orders, algos = "positions:instType=ANY", "orders:instType=ANY", "orders-algo:instType=ANY"
    for sink, channel, steps in [
        (make_sink(), positions, [(one, one), ([short | closed], [beside | long]), ([long | more], [long | more])]),
        (make_sink(), positions, [([btc], [btc]), (page(1, True)[0], []), ([eth], [eth]), ([eth | closed], [])]),
        (make_sink(), positions, [([long], [long]), (first, [long]), (second, first + second)]),
        (make_sink(), positions, [(first, None), ([btc | closed], None), (second, second), (first, second)]),
        *((make_sink(), orders, [([order], [order]), ([order | {"state": state}], [])]) for state in ends),
        (make_sink(), algos, [([algo], [algo]), ([algo | {"ordId": "9", "state": "effective"}], [])]),
        (make_sink(), "account", [([begin | {"details": [1]}], None), ([end | {"details": [2]}], balances)]),
    ]:
        feed.clear()
        assert feed.get(channel) is None
        for rows, stand in steps:
            store(sink, *rows, channel=channel)
            assert feed.get(channel) == stand, (channel, rows)
    assert feed.get("account", 9) == [balances]
    store(sink := make_sink(), order, channel=orders)
    sink.status(1.0, "SUBSCRIBED", orders)
    sink.flush()
    assert feed.get(orders) is None


def test_redis_has_a_book_while_it_is_ready_and_orders_while_they_are_known(make_sink, feed):
    doubt, book, orders, other = [""], "books:X", "orders:instType=ANY", "tickers:X"
    kept = okex_ws.OrderBook(doubt=lambda: doubt[0], depth=1)
    states = dict.fromkeys([book, orders, other], "confirmed")
    sink = make_sink(clients=[SimpleNamespace(books={book: kept}, channels=states)])

    def levels(price):
        return {"bids": [[str(price), "1", "0", "1"]], "asks": [[str(price + 1), "1"]], "ts": "1"}

    def told(status="SUBSCRIBED", detail=other):
        sink.status(1.0, status, detail)  # then it looks at once
        sink.flush()
        return [feed.get(key) is not None for key in (book, orders, other)] + [feed.status()["status"]]

    assert told() == [False, False, False, "GAP"] and "no snapshot yet" in feed.status()["detail"]
    rows = kept.take([levels(5)], "snapshot")
    for channel, row in ((book, rows[0]), (orders, {"ordId": "1", "state": "live"}), (other, {"last": "5"})):
        store(sink, row, channel=channel)
    assert told() == [True, True, True, "SUBSCRIBED"] and feed.get(book)["bids"] == [["5", "1"]]
    for key in (book, orders):
        feed.redis.expire(f"okex/test/{key}", 2)
    sink.looked -= 1.0  # as a second later
    sink.flush()
    assert {feed.redis.ttl(f"okex/test/{key}") for key in (book, orders)} == {10}
    doubt[0] = "the line is dead"
    assert told("GAP", f"{book}: the line is dead") == [False, True, True, "GAP"]
    store(sink, {"bids": [], "asks": []}, channel=book)  # which came late
    assert feed.get(book) is None and feed.status()["detail"] == "books:X: the line is dead"
    store(sink, rows[0], channel=book)
    doubt[0] = ""
    assert told() == [True, True, True, "SUBSCRIBED"], "it is the same book as before"
    kept.close("disconnected")
    states[orders] = "wanted"
    assert told("DISCONNECTED", "gone") == [False, False, True, "DISCONNECTED"]
    kept.open()
    kept.take([levels(6)], "snapshot")
    assert told("CONNECTED") == [False, False, True, "CONNECTED"], "its row is on the way"
    assert told("GAP", "trades:X: lost") == [False, False, True, "CONNECTED"]


def test_an_incremental_book_goes_into_redis_with_a_depth_alone(exchange, redis_server):
    where = ("--url", exchange.url, "--redis", redis_server.url)
    for book in ("books:BTC-USDT", "books:*-USDT"):
        status, _, err = finish(CHANNEL, book, *where)
        assert status == 2 and "say --depth 20" in err and len(err.splitlines()) == 1, err
    process = program("books5:BTC-USDT", *where)
    feed = RedisFeed(redis_server.url)
    wait_for(lambda: feed.get("books5:BTC-USDT"))
    with pytest.raises(ValueError, match="say --depth 20"):
        feed.subscribe("books:BTC-USDT")
    assert 0 < feed.redis.ttl("okex/default/books5:BTC-USDT") <= 10
    exchange.http_status = 503
    exchange.sessions[-1].drop()
    wait_for(lambda: feed.get("books5:BTC-USDT") is None and feed.status()["status"] == "DISCONNECTED")
    exchange.http_status = 0
    wait_for(lambda: feed.get("books5:BTC-USDT") and feed.status()["status"] == "SUBSCRIBED")
    killed(process)
    assert all(0 < feed.redis.ttl(f"okex/default/{key}") <= 10 for key in ("@status", "books5:BTC-USDT"))


def kept_by(option, target):
    """The rows of each channel that a sink has, of candles the final ones."""
    if option == "redis":
        return {channel: target.get(channel, 10**6) for channel in (TRADES, BARS)}
    found = table(target)
    return {name: [r for _, c, r in found if c == name and r.get("confirm") != "0"] for name in (TRADES, BARS)}


def lose(option, target, n):
    """Take away some of the last rows, as if the kill had come before they were written."""
    if option == "redis":
        for key in (f"{target.prefix}@history/{channel}" for channel in (TRADES, BARS)):
            target.redis.xdel(key, *(id for id, _ in target.redis.xrevrange(key, count=n)))
    elif option == "sqlite":
        with sqlite3.connect(target) as db:
            db.execute("DELETE FROM rows WHERE rowid > (SELECT max(rowid) FROM rows) - ?", [n])
        db.close()
    else:
        os.truncate(target, target.stat().st_size - 299 * n)


@pytest.mark.timeout(240)
def test_after_kills_each_sink_of_every_set_holds_everything_once(tmp_path, redis_server):
    rng, runs = random.Random(19), []
    for name in ("jsonl", "redis", "jsonl-sqlite-redis"):
        targets = {option: tmp_path / f"{name}.{option}" for option in name.split("-")}
        where = [text for item in targets.items() for text in (f"--{item[0]}", item[1])]
        if "redis" in targets:
            where[-1:], targets["redis"] = [redis_server.url, "--name", name], RedisFeed(redis_server.url, name)
        runs.append((targets, where))
    with Exchange(every=0.01) as exchange:
        exchange.hurry, market = 0.1, exchange.instrument("BTC-USDT")
        for life in range(3):
            options = (TRADES, BARS, "--url", exchange.url, "--history", "99999")
            processes = [program(*options, *where) for _, where in runs]
            wait_for(lambda: sum(len(session.feeds) for session in list(exchange.sessions)) == 2 * len(runs))
            seen = market.trade_id
            wait_for(lambda: market.trade_id > seen + 150)  # noqa: B023
            if life < 2:
                for process, (targets, _) in zip(processes, runs):
                    killed(process)
                    for option, target in targets.items():
                        lose(option, target, rng.randint(1, 4))  # of some seven bars
                walk(exchange, rng.randint(0, 100))
        exchange.every = None
        newest = {TRADES: market.trade_id, BARS: market.bars["1s"][-2][0]}
        for (targets, _), process in zip(runs, processes):
            for case in itertools.product(targets.items(), newest.items()):
                (option, target), (name, last) = case
                wait_for(lambda: whole(name, kept_by(option, target)[name], last), case=case)  # noqa: B023
            process.terminate()
            _, err = process.communicate(timeout=20)
            told = re.findall(r"--(\w+) goes on: it ends with trades:BTC-USDT \d+", err)
            assert told == [*targets] and ", 0 missing" in err, err


def test_rows_whose_key_has_another_type_are_lost_alone_and_said_but_none_of_a_redis_that_is_full(sink, feed, caplog):
    for channel in (CHANNEL, "candle1m:BTC-USDT"):
        feed.redis.set(f"okex/test/@history/{channel}", "of another type")
    feed.redis.rpush("okex/test/candle1m:BTC-USDT", "of another type")
    writer = Writer("redis", sink)
    for n in range(3):
        writer.put(1.0, CHANNEL, [numbered(n)])
        writer.put(1.0, "candle1m:BTC-USDT", [candle(60_000 * (n + 1), n, "1")])
        writer.put(1.0, "trades:ETH-USDT", [numbered(n)])
    assert ended(writer)
    assert feed.get("trades:ETH-USDT", 9) == [numbered(n) for n in range(3)]
    assert feed.redis.get("okex/test/@history/trades:BTC-USDT") == "of another type"
    assert (sink.refused, writer.written) == (6, 9)
    assert caplog.text.count("WRONGTYPE") == 1 and "trying again" not in caplog.text
    feed.redis.config_set("maxmemory", 1)
    writer = Writer("redis", sink)
    writer.put(1.0, "trades:ETH-USDT", [numbered(3)])
    wait_for(lambda: writer.failing)
    feed.redis.config_set("maxmemory", 0)
    assert ended(writer) and feed.get("trades:ETH-USDT", 9) == [numbered(n) for n in range(4)]
    assert caplog.text.count("trying again") == caplog.text.count("works again") == 1


def test_a_batch_whose_answer_is_lost_is_written_once(sink, feed, monkeypatch):
    read = published(feed, CHANNEL)
    kind = type(sink.redis.pipeline())
    execute = kind.execute

    def lose(self, *args, **options):
        execute(self, *args, **options)
        raise ConnectionError("the answer was lost")

    def refuse(self, *args, **options):
        raise ConnectionError("not even sent")

    sink.write(1.0, CHANNEL, [numbered(1), numbered(2)])
    sink.write(1.0, "candle1m:X", [candle(60_000, 1, "1")])
    for trouble in (refuse, lose):
        monkeypatch.setattr(kind, "execute", trouble)
        with pytest.raises(ConnectionError):
            sink.flush()
    monkeypatch.setattr(kind, "execute", execute)
    sink.flush()
    sink.write(1.0, CHANNEL, [numbered(3)])
    store(sink, candle(120_000, 2, "1"), channel="candle1m:X")
    assert [row["tradeId"] for row in feed.get(CHANNEL, 9)] == [row["tradeId"] for row in read()] == ["1", "2", "3"]
    assert closes(feed.get("candle1m:X", 9)) == ["1", "2"]


def test_the_history_of_candles_holds_those_that_are_final(make_sink, feed):
    """Each comes once: the client sees to that, over restarts, too, since it is told what is kept."""
    read, sink = published(feed, "candle1m:BTC-USDT"), make_sink()
    for batch in ([(60, 2), (60, 3)], [(60, 4)], [(60, 5, "1"), (120, 6)], [(120, 7)]):
        store(sink, *(candle(*values) for values in batch), channel="candle1m:BTC-USDT")
    assert closes(feed.get("candle1m:BTC-USDT", 9)) == closes(read()) == ["5"]
    assert feed.get("candle1m:BTC-USDT")["c"] == "7"
    for batch in ([(120, 8), (120, 9, "1")], [(180, 1, "1")], [(240, 2)]):
        store(make_sink(), *(candle(*values) for values in batch), channel="candle1m:BTC-USDT")
    assert closes(feed.get("candle1m:BTC-USDT", 9)) == ["5", *closes(read())] == ["5", "9", "1"]
    assert closes(make_sink().recall("candle1m:BTC-USDT", 3600.0)) == ["5", "9", "1"]
    for rows in ([candle(60, 1)], [candle(120, 2)], [candle(60, 3, "1"), candle(120, 4, "1")]):  # it ends late
        store(sink, *rows, channel="candle1m:X")
    assert closes(feed.get("candle1m:X", 9)) == ["3", "4"]


def test_the_status_is_there_while_the_program_lives(make_sink, redis_server, feed, caplog):
    read, sink = published(feed, "@event"), make_sink()
    sink.flush()
    assert feed.status()["status"] == "DISCONNECTED"
    sink.status(1.0, "CONNECTED", "wss://ws.okx.com")
    sink.status(3.0, "GAP", "books:X: lost one")
    sink.flush()
    assert feed.status()["status"] == "CONNECTED"  # no book is known here that is not ready
    assert [event["status"] for event in read()] == ["DISCONNECTED", "CONNECTED", "GAP"]
    feed.redis.expire("okex/test/@status", 1)
    sink.looked -= 1.0  # as a second later
    sink.flush()
    assert 5 < feed.redis.ttl("okex/test/@status") <= 10
    make_sink("other").flush()
    assert not caplog.records and make_sink() and "Another okex_ws writes under okex/test/" in caplog.text
    assert feed.servers() == RedisFeed(redis_server.url, "nobody").servers() == ["other", "test"]
    sink.close()
    assert feed.servers() == ["other"] and feed.status() is None


def test_other_programs_give_commands(exchange, redis_server):
    process = program(CHANNEL, "--url", exchange.url, "--redis", redis_server.url, "--name", "mine")
    feed = RedisFeed(redis_server.url, "mine")
    wait_for(lambda: feed.get(CHANNEL))
    events = published(feed, "@event")
    assert feed.subscribe("tickers:ETH-USDT") == "confirmed"
    with pytest.raises(ValueError, match="60018"):
        feed.subscribe("candle1m:NOPE-USDT")  # from another endpoint, by a client that ends with it
    feed.unsubscribe("candle1m:NOPE-USDT")
    assert feed.subscribe("candle1m:BTC-USDT") == "confirmed"
    wait_for(lambda: feed.get("tickers:ETH-USDT") and feed.get("candle1m:BTC-USDT"))
    assert feed.channels() == dict.fromkeys((CHANNEL, "tickers:ETH-USDT", "candle1m:BTC-USDT"), "confirmed")
    for _ in range(2):  # the second time, too, it is the exchange's answer to this request
        with pytest.raises(ValueError, match="60018"):
            feed.subscribe("trades:NOPE-USDT")
    with pytest.raises(ValueError, match="Did you mean"):
        feed.subscribe("BTC-USDT")
    told = [(event["status"], event["detail"].partition(": ")[0]) for event in events()]
    assert told.count(("REFUSED", "trades:NOPE-USDT")) == 2 and ("SUBSCRIBED", "tickers:ETH-USDT") in told
    feed.unsubscribe(CHANNEL)
    wait_for(lambda: CHANNEL not in feed.channels())
    dance, channels = ask(feed, {"id": 1, "op": "dance"}, {"id": 2, "op": "channels"})
    assert not dance["ok"] and channels["result"] == feed.channels()
    exchange.silent = True

    def answer():
        with suppress(TimeoutError):  # the machine stood still
            return feed.subscribe("tickers:BTC-USDT")

    assert wait_for(answer) in ("wanted", "sent")  # after three seconds
    feed.quit()
    _, err = process.communicate(timeout=15)
    assert process.returncode == 0, err
    feed.clear()
    assert feed.redis.keys("*") == []


def test_commands_of_an_odd_shape_and_bugs_are_answered(make_sink, feed):
    writer = Writer("redis", make_sink(command=lambda op, channels: 1 / 0 if op == "divide" else None))
    feed.redis.rpush("okex/test/@commands", "{", "")
    cases = [
        ({"op": "subscribe", "channels": "trades:BTC-USDT"}, "must be a list"),
        ({"op": "subscribe", "channels": None}, "must be a list"),
        ({"channels": []}, "op"),
        ({"op": "divide"}, "division by zero"),
    ]
    requests = [{"id": n, **request} for n, (request, _) in enumerate(cases)]
    *answers, last = ask(feed, *requests, [], 7, "text", {"op": "channels"}, {"id": "x", "op": "channels"})
    for answer, (request, words) in zip(answers, cases):
        assert not answer["ok"] and words in answer["error"], request
    assert last == {"id": "x", "ok": True, "result": None}
    assert ended(writer)


def test_a_command_that_takes_long_holds_up_no_row_and_those_from_before_the_start_are_not_obeyed(make_sink, feed):
    def command(op, channels):
        given.append(op)
        may_go_on.wait(30)

    given, may_go_on = [], threading.Event()
    feed.redis.rpush("okex/test/@commands", json.dumps({"id": "0", "op": "quit"}))
    writer = Writer("redis", make_sink(command=command))
    feed.redis.rpush("okex/test/@commands", json.dumps({"id": "1", "op": "subscribe", "channels": [CHANNEL]}))
    wait_for(lambda: not feed.redis.exists("okex/test/@commands"))
    writer.put(1.0, CHANNEL, [numbered(1)])
    wait_for(lambda: feed.get(CHANNEL))
    may_go_on.set()
    assert json.loads(feed.redis.blpop("okex/test/@answers/1", timeout=5)[1])["ok"]
    assert ended(writer) and given == ["subscribe"]
    with pytest.raises(TimeoutError, match=r"is okex_ws\.py --redis running"):
        feed.quit()
    wait_for(lambda: not feed.redis.exists("okex/test/@commands"))  # nor is that obeyed by whoever starts later


def test_readers_see_every_row_in_its_order(make_sink, redis_server):
    sink = make_sink(history=5000)
    readers = [RedisFeed(redis_server.url, "test").listen(CHANNEL) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        seen = [pool.submit(lambda rows: [next(rows) for _ in range(3000)], rows) for rows in readers]
        for first in range(0, 3000, 100):
            store(sink, *(numbered(n) for n in range(first, first + 100)))
        assert [rows.result(60) for rows in seen] == [[numbered(n) for n in range(3000)]] * 2


def test_a_reader_is_told_when_rows_were_trimmed_away_unread(make_sink, sink, feed):
    empty = feed.listen(CHANNEL)
    store(sink, numbered(0))
    rows = feed.listen(CHANNEL)
    store(sink, numbered(1))
    assert next(rows) == numbered(1) and next(empty) == numbered(0)
    store(sink, *(numbered(n) for n in range(2, 40)))
    with pytest.raises(LookupError, match="28 rows were trimmed"):
        next(rows)
    rows = feed.listen(CHANNEL)
    store(sink, *(numbered(n) for n in range(40, 60)))
    with pytest.raises(LookupError, match="10 rows were trimmed"):  # those of the first look, too
        next(rows)
    rows = feed.listen(CHANNEL)
    store(make_sink(), numbered(60), numbered(61))  # a later run, whose numbers begin anew
    assert [next(rows)["tradeId"] for _ in range(2)] == ["60", "61"]


def test_a_reader_resumes_where_another_one_left_off(sink, feed):
    store(sink, *(numbered(n) for n in range(5)))
    rows = feed.get(CHANNEL, 5)
    assert json.dumps(rows[1]) == json.dumps(numbered(1))
    got = list(itertools.islice(feed.listen(CHANNEL, after=rows[1].id), 3))
    assert got == [numbered(n) for n in (2, 3, 4)] and [row.id for row in got] == [row.id for row in rows[2:]]
    assert next(feed.listen(CHANNEL, after="0")) == numbered(0)
    store(sink, *(numbered(n) for n in range(5, 15)))
    with pytest.raises(LookupError, match="trimmed away"):
        feed.listen(CHANNEL, after=rows[1].id)
    assert next(feed.listen(CHANNEL, after="0")) == numbered(5)


@pytest.mark.skipif(not shutil.which("redis-server") and not os.environ.get("CI"), reason="needs redis-server")
def test_a_redis_that_is_not_there_or_goes_is_waited_for_and_gets_every_row_once(tmp_path, kept_port):
    server, path = RedisServer(tmp_path, kept_port, start=False), tmp_path / "rows.jsonl"
    feed = RedisFeed(server.url)
    with recording("--redis", server.url, "--history", "9999", "--jsonl", path) as (exchange, process):
        said = until(process.stderr, "trying again")
        assert "Connection refused" in said and "Traceback" not in said
        for first in (0, 300):
            send_rows(exchange, first, first + 200)
            wait_for(lambda: f'"tradeId":"{first + 199}"' in path.read_text())  # noqa: B023  the other sink goes on
            server.start()
            said += until(process.stderr, "works again")
            send_rows(exchange, first + 200, first + 300)
            wait_for(lambda: feed.get(CHANNEL, 1) == [numbered(first + 299)])  # noqa: B023
            assert feed.channels() == {CHANNEL: "confirmed"}  # commands, too
            server.stop()
            said += until(process.stderr, "trying again")
        server.start()
        until(process.stderr, "works again")
        process.terminate()
        assert process.wait(15) == 0
    assert feed.get(CHANNEL, 600) == [numbered(n) for n in range(600)]
    server.stop()


def test_a_wrong_password_or_host_of_redis_is_said_in_words(exchange, redis_server, feed):
    feed.redis.config_set("requirepass", "open sesame")
    wrong = redis_server.url.replace("//", "//:guess@")
    hasty = {"RES_OPTIONS": "timeout:1 attempts:1"}  # where no name server answers
    cases = [(wrong, "password"), (redis_server.url, "uthentica"), ("redis://no.invalid", "no.invalid")]
    processes = [program(CHANNEL, "--url", exchange.url, "--redis", url, env=hasty) for url, _ in cases]
    for process, (_, words) in zip(processes, cases):
        said = until(process.stderr, "trying again")
        killed(process)
        assert words in said and "guess" not in said and "Traceback" not in said, said
