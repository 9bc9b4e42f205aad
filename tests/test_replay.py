"""Replay: what was recorded comes again, as it came, and whoever trades on it decides the same."""

import json
import signal
import sqlite3
import threading
import time

import pytest
from conftest import Client, finish, program, until, wait_for

import okex_ws
from okex_ws import JsonLines, OkexWS, SQLite, recorded_rows

BOOK, TRADES, TICKERS = "books:BTC-USDT", "trades:BTC-USDT", "tickers:ETH-USDT"


def record(path, *messages):
    """A recording of messages (received, channel, row, …), as the sinks write it."""
    sink = (SQLite if path.suffix == ".db" else JsonLines)(str(path))
    for received, channel, *rows in messages:
        sink.write(received, channel, rows)
    sink.flush()
    return str(path)


def watching(channels, **options):
    """A client, and what it sees: each message, and what the books say to it."""
    ws, seen = Client(channels, **options), []
    books = lambda: [book.top(5) if book.ready else None for book in ws.books.values()]  # noqa: E731
    ws.handler = lambda channel, rows: seen.append((channel, rows, *books()))
    return ws, seen


def test_a_strategy_decides_on_a_recording_as_it_did_live(exchange, tmp_path):
    channels = TRADES, BOOK, "books5:BTC-USDT", TICKERS
    live, expected = watching(channels, url=exchange.url)
    live.start()
    wait_for(lambda: len(expected) > 300)
    live.close()
    live.thread.join(30)
    messages = [(1e9 + n / 1e6, channel, *rows) for n, (channel, rows, *_) in enumerate(expected)]
    for name in ("rows.db", "rows.jsonl"):
        path, (ws, seen) = record(tmp_path / name, *messages), watching(channels)
        ws.replay(path, speed=0)
        assert seen == expected and None not in seen[-1] and ws.counts["messages"] == len(seen)
        assert [book.top(5) for book in ws.books.values()] == [*seen[-1][2:]], "they stand as at the end"
        assert {channel for status, channel in ws.statuses if status == "SUBSCRIBED"} == {*channels}
        assert ws.statuses[-1] == ("EXIT", "closed") and not ws.counts["gaps"]
        with pytest.raises(ValueError):  # it ran before
            ws.replay(path)


def test_rows_of_all_generations_go_out_as_they_were_recorded_and_a_gap_is_a_gap_now(tmp_path):
    numbers = [(1, 2), (-1, 5), (5, 6), (7, 8), (8, 9), (-1, 20), (20, 21)]
    rows = [{"bids": [["9", f"{n}"]], "asks": [], "seqId": n, "prevSeqId": before} for before, n in numbers]
    trades = [{"tradeId": str(id), "count": "1", "ts": "1"} for id in (7, 9, 8, 8, 1)]
    messages = [(1.0, TRADES, *trades[:2]), (1.0, TICKERS, {"last": "1"}), (0.9, TRADES, *trades[2:])]
    for name in (BOOK, "spot/depth:BTC-USDT", "ok_sub_spot_btc_usdt_depth"):
        messages.append((2.0, name, {"bids": [["9", "1"]], "asks": [["10", "1"]], "ts": "1"}))
    messages += [(3.0, "candle1m:BTC-USDT", {"ts": "6", "restored": True}), (3.0, "account", 7)]
    messages += [(4.0 + n, BOOK, row) for n, row in enumerate(rows)]
    bars = [(5.0 + n, "candle1m:BTC-USDT", {"ts": "6", "confirm": str(n)}) for n in range(2)]
    for name in ("rows.db", "rows.jsonl"):
        path, (ws, seen) = record(tmp_path / name, *messages), watching([])
        ws.replay(path, speed=0)
        assert [(channel, *got) for channel, got, *_ in seen] == [message[1:] for message in messages], name
        assert [book and book[0][0][1] for *_, book in seen[8:]] == [None, "5", "6", None, None, "20", "21"]
        gaps = [detail for status, detail in ws.statuses if status == "GAP"]
        assert ws.counts["gaps"] == 1 and gaps == [f"{BOOK}: sequence gap: 7 does not follow 6"]
    copy = SQLite(str(tmp_path / "copy.db"))
    ws, seen = watching([], final=True, sinks={"own": copy, "sqlite": tmp_path / "two.db"})
    ws.replay(record(tmp_path / "bars.db", *messages[:3], *bars), speed=0)
    assert [got for _, got, *_ in seen] == [trades[:2], [{"last": "1"}], trades[2:], [bars[1][2]]]
    recorded = [*recorded_rows(str(tmp_path / "copy.db"))]
    assert recorded == [*recorded_rows(str(tmp_path / "two.db"))], "they are written to the end"
    assert len(recorded) == 7 and recorded[-1] == bars[1]
    ws, seen = watching([BOOK], depth=1)
    ws.replay(path, speed=0)
    assert [got[0]["bids"][0][1] for _, got, *_ in seen] == ["1", "5", "6", "20", "21"]


def test_clients_get_their_channels_and_patterns_in_the_one_order_of_the_file(tmp_path, caplog):
    names = [BOOK, TRADES, TICKERS, "tickers:BTC-USDT", "tickers:X-USD"]
    path, order = record(tmp_path / "rows.db", *((1.0, names[n % 5], {"n": n}) for n in range(15))), []

    def handler(channel, rows):
        order.append(rows[0].pop("n"))  # which is no other client's row
        if order[-1] == 6:
            clients[0].unsubscribe(TRADES)
            clients[1].subscribe("tickers:X-USD")

    wanted = [TRADES], ["tickers:*-USDT", "tickers:?"], [TICKERS, "tickers:NO-USDT"]
    clients = [OkexWS(channels, handler) for channels in wanted]
    okex_ws.replay(clients, path, 0)
    assert order == [1, 2, 2, 3, 6, 7, 7, 8, 9, 12, 12, 13, 14]
    missing = [name for names in wanted for name in names if f"{name} is not in" in caplog.text]
    assert missing == ["tickers:?", "tickers:NO-USDT"]


def test_rows_come_at_the_pace_of_the_recording_until_somebody_closes(tmp_path):
    path = record(tmp_path / "rows.db", *((5.0 + n, TRADES, {"n": n}) for n in (0.0, 0.4, 0.2, 0.8, 99_999)))

    def seen_at(speed):
        def handler(channel, rows):
            times.append((rows[0]["n"], time.monotonic() - began))
            if speed and len(times) == 4:  # while the next row is waited for
                threading.Timer(0.1, ws.close).start()

        times, began, ws = [], time.monotonic(), OkexWS([TRADES], handler)
        ws.replay(path, speed=speed)
        assert time.monotonic() - began < 20 and ws.replayed_at == 5.0 + times[-1][0]
        return times

    assert [n for n, _ in seen_at(0)] == [0.0, 0.4, 0.2, 0.8, 99_999]
    for speed in (1, 2):
        times = seen_at(speed)
        assert [n for n, _ in times] == [0.0, 0.4, 0.2, 0.8] and all(at >= n / speed for n, at in times)


def test_what_is_no_recording_is_refused_and_torn_lines_are_left_out(tmp_path, caplog):
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE trades (id)")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "list.json").write_text("[1, 2]")
    for name in ("nothing", ".", "other.db", "rows.csv", "list.json"):
        with pytest.raises(ValueError, match="is no recording"):
            OkexWS([]).replay(str(tmp_path / name))
    path, link = tmp_path / "rows.jsonl", tmp_path / "link"
    record(path, *((1.0, TRADES, {"n": n}) for n in range(3)))
    link.symlink_to(path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0][:25], *lines[:2], lines[1][:30], lines[2], b'{"received":\xff']))
    ws = Client([TRADES])
    ws.replay(str(path), 0)
    assert [row["n"] for _, row in ws.rows] == [0, 1, 2]
    assert [n for n in range(1, 7) if f"Line {n} of {path} is torn" in caplog.text] == [1, 4, 6]
    with pytest.raises(ValueError, match="no sink may write into it"):
        Client([TRADES], sinks={"jsonl": str(link)}).replay(str(path))
    for arguments in ([tmp_path / "no"], [path, "--jsonl", link], [path, "--sqlite", path], [path, "--speed", "-1"]):
        status, out, err = finish("--replay", *arguments)
        assert (status, out) == (2, "") and "Traceback" not in err, arguments
    path = record(tmp_path / "rows.db", (1e9, TRADES, {"px": "1"}), (1e9, TRADES, {"px": "2"}))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE rows SET row = '{' WHERE rowid = 2")
    status, _, err = finish("--replay", path, "--speed", "0")
    assert status == 1 and "is no recording" in err and "reconnects" in err, err


def test_the_command_replays_to_lines_sinks_and_the_board_without_keys_and_ends_with_0(tmp_path):
    rows = [(1e9 + n, name, {"instId": "BTC-USDT", "n": n}) for n, name in enumerate([TRADES, "account", TICKERS] * 2)]
    path, copy = record(tmp_path / "rows.db", *rows), tmp_path / "copy.db"
    status, out, err = finish("--replay", path, "--speed", "0", "--jsonl", "-", "--sqlite", copy)
    assert status == 0 and "6 rows in 6 messages" in err, err
    assert [tuple(json.loads(line).values()) for line in out.splitlines()] == rows
    assert len({str(sqlite3.connect(file).execute("SELECT * FROM rows").fetchall()) for file in (path, copy)}) == 1
    status, out, err = finish("--replay", path, "tickers:*", "account", "--speed", "20")
    assert status == 0 and len(out.splitlines()) == 4, err
    process = program("--replay", record(tmp_path / "rows.jsonl", rows[0], (2e9, *rows[1][1:])))
    until(process.stdout, "BTC-USDT")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    board, drawn = okex_ws.Board([ws := Client([])], [], []), []
    ws.handler = lambda *_: drawn.append(board.status())
    ws.replay(path, 0)
    assert drawn[0][0].startswith("replay of 2001-09-0") and drawn[0][1] == "bold"
