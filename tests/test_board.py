"""The board: what it is made of, how that is drawn, and a terminal that is given back as it was."""

import os
import re
import signal
import threading
import time

from conftest import finish_all, wait_for
from exchange import Exchange

import okex_ws
from okex_ws import Board, BoardQuote

SIZES = [(60, 15), (80, 24), (200, 60)]
NAMES = ["BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP", "币安人生-USDT", "\x1b[2Jevil\r\n", "e\u0301" * 30]


def quote(name, last="", age="", history=()):
    return BoardQuote(name, [last, "+1.25%", "83000.2", "83000.4", "0.2", "1.2k"], history, age)


def picture(**other):
    """A board with something everywhere, or what is given instead."""
    levels = [[f"{price}.5", f"{price % 7 + 1}.25"] for price in range(100, 150)]
    whole = {
        "status": ("ws.okx.com  up 0:01:00  reconnects 0  ping 12 ms  delay 40 ms  20,000 msg/s", "bold"),
        "quotes": [quote(name, "▲ 83000.3", age, [1, 3, 2]) for name, age in zip(NAMES, ("", "", "30 s old", *"   "))],
        "others": ["account 10000 dollars in all"],
        "book": ("BTC-USDT book, in sync", levels[::-1], levels),
        "trades": (
            "BTC-USDT trades, 52% bought",
            [("12:00:00", "83000.3", "0.5", side) for side in ("buy", "sell") * 30],
        ),
        "log": [f"12:00:{n:02d} line {n} \x1b[31m" for n in range(30)],
        "writers": ["5 rows written by --sqlite"],
    } | other
    whole["table"] = whole.pop("quotes"), whole.pop("others")
    board = Board([okex_ws.OkexWS("status")], whole.pop("writers"), whole.pop("log"))
    for part, value in whole.items():
        setattr(board, part, lambda value=value: value)
    return board


def bare(line):
    return re.sub(r"\033\[[\d;]*m", "", line)


def plain(picture, width, height):
    """The board without colours, and with one space where there are several."""
    return [re.sub(" +", " ", line) for line in picture.draw(width, height)]


NO_BOOK, NO_TAPE = {"book": ("", [], [])}, {"trades": ("", [])}
PICTURES = {
    "whole": picture(),
    "nothing": picture(quotes=[], others=[], log=[], writers=[], **NO_BOOK, **NO_TAPE),
    "book alone": picture(quotes=[], **NO_TAPE),
    "trades alone": picture(quotes=[], **NO_BOOK),
    "no market": picture(**NO_BOOK, **NO_TAPE),
    "50 instruments": picture(quotes=[quote(f"COIN{n}-USDT") for n in range(50)], others=[]),
    "other rows": picture(quotes=[], others=["account 10000 dollars in all"] * 40, **NO_BOOK, **NO_TAPE),
    "out of sync": picture(book=("BTC-USDT book, not in sync: a gap \x1b[2J", [], [])),
    "odd numbers": picture(book=("X book", [["-", "0"]], [["", "x"]]), quotes=[quote("X", "x", "", [0.0])]),
}


def test_the_board_fills_every_terminal_and_wraps_on_none(monkeypatch):
    for name, shown in PICTURES.items():
        for width, height in [*SIZES, (0, 0), (1, 1), (10, 3), (33, 7), (500, 10)]:
            for colours in (True, False):
                monkeypatch.setattr(okex_ws, "is_colourful", lambda colours=colours: colours)
                lines, case = shown.draw(width, height), (name, width, height, colours)
                assert len(lines) == height, case
                for line in lines:
                    assert len(bare(line)) <= width and bare(line).isprintable(), (case, line)
                    assert colours or "\033" not in line, (case, line)


def test_the_board_shows_every_part_at_every_size():
    for size in SIZES:
        text = "\n".join(plain(PICTURES["whole"], *size))
        parts = ["ws.okx.com up 0:01:00", "BTC-USDT-SWAP", "▲ 83000.3", "+1.25%", "BTC-USDT book, in sync", "spread"]
        parts += ["█", "52% b", "12:00:00 83000.3 0.5 buy", "line 29", "5 rows written by --sqlite"]
        parts += ["▁█▅", "30 s old", "\\x1b[2Jev"] if size > (60, 15) else []
        assert not [part for part in parts if part not in text], (size, text)


def test_instruments_without_room_are_counted_and_leave_room_for_the_book():
    for width, height in SIZES:
        lines = plain(PICTURES["50 instruments"], width, height)
        shown = sum(line.startswith("COIN") for line in lines)
        assert any(f"and {50 - shown} more" in line for line in lines), (width, height)
        assert sum(bool(re.match(r" ?\d+\.5 ", line)) for line in lines) >= height // 6 - 1, (width, height)


def test_the_log_has_the_rows_that_nothing_else_wants():
    few = picture(quotes=[quote("BTC-USDT")], others=[], writers=[], book=("BTC-USDT book", [], []), trades=("BTC", []))
    for height, lines in ((24, 18), (18, 12), (15, 9)):
        drawn = [line for line in plain(few, 80, height) if re.match(r"12:00:\d\d line", line)]
        assert len(drawn) == lines and drawn[-1].startswith("12:00:29"), height
    assert sum("line" in line for line in plain(PICTURES["whole"], 80, 24)) == 3


def test_volumes_are_shown_where_there_is_room_and_sparklines_say_their_span():
    for width, volume, span in ((100, True, "past 3 min"), (80, True, "past 115 s"), (60, False, "past 50 s")):
        rows = [quote(name, "83000.3", "", range(50)) for name in ("BTC-USDT", "ETH-USDT")]
        heading, row, *_ = plain(picture(quotes=rows), width, 24)[1:]
        assert ("volume" in heading, "1.2k" in row, heading.endswith(span)) == (volume, volume, True), heading
    assert "past" not in plain(PICTURES["50 instruments"], 80, 24)[1]
    numbers = {"0.5": "0.5", "999": "999.0", "12345.6": "12.3k", "4567890": "4.6M", "": "", "x": ""}
    assert {text: Board([], [], []).quote("X", 0.0, *[text] * 5).cells[5] for text in numbers} == numbers


def test_the_best_of_both_sides_are_in_the_middle_of_the_ladder_unless_it_is_out_of_sync():
    book = picture(book=("BTC book", [["9", "1"], ["8", "2"]], [["10", "3"], ["11", "4"]]), writers=[], **NO_TAPE)
    lines = [line.split()[0] for line in plain(book, 80, 24) if re.match(r" *[\d.]+ ", line)]
    assert lines == ["11", "10", "1", "9", "8"]
    lines = plain(PICTURES["out of sync"], 80, 24)
    assert any("not in sync: a gap" in line for line in lines) and not any("100.5" in line for line in lines)


# -- What it is made of
def test_what_is_noted_and_kept_becomes_a_board(connect):
    client = connect("tickers:BTC-USDT", "trades:BTC-USDT", "books:BTC-USDT", "funding-rate:BTC-USDT-SWAP")
    board = Board([client], [], [f"Connected to {client.url}."])
    client.handler = board.note
    wait_for(lambda: board.table()[1] and board.book()[1] and "bought" in board.trades()[0])
    ((row,), others), (_, trades) = board.table(), board.trades()
    last, change, bid, ask, spread, volume = row.cells
    assert (row.name, board.book()[0], row.age) == ("BTC-USDT", "BTC-USDT book, in sync", "")
    assert float(last.strip(" ▲▼")) and float(bid) < float(ask) and float(spread) and change.endswith("%")
    assert re.fullmatch(r"\d+\.\d[kMG]?", volume)
    assert trades[0][3] in ("buy", "sell") and "funding" in others[0]
    assert "Connected to /ws/v5/public." in board.draw(80, 24)
    status = wait_for(lambda: "delay" in (status := board.status())[0] and status)
    assert re.match(r"127.0.0.1:\d+  up 0:00:\d\d  reconnects 0 .*delay -?\d+ ms  [\d,]+ msg/s", status[0])
    assert status[1] == "bold"
    client.close()
    wait_for(lambda: "not in sync" in board.book()[0] and "NOT CONNECTED" in board.status()[0])


def test_generations_without_tickers_have_a_board_too(connect):
    trade, depth = "ok_sub_futureusd_btc_trade_quarter", "ok_sub_futureusd_btc_depth_quarter"
    for channels, name in (([trade, depth], "btc_quarter"), (["spot/candle60s:BTC-USDT"], "BTC-USDT 60s")):
        client = connect(*channels)
        board = Board([client], [], [])
        client.handler = board.note

        def known(board=board, quoted=depth in channels):
            ((row,), _) = board.table()
            last, _, bid, ask, *_ = row.cells
            return last.strip() and ((bid and ask) or not quoted) and row

        assert wait_for(known).name == name.split()[0], channels


def test_a_price_says_where_it_went_and_how_old_it_is():
    board, now = Board([], [], []), time.time()
    board.drawn = 1  # the price of every 25th drawing is what later ones are compared with
    more = ["", "", "", ""]
    prices = [board.quote("BTC-USDT", now, last, *more).cells[0] for last in ("9", "10", "8.5", "9", "")]
    assert prices == ["  9", "▲ 10", "▼ 8.5", "  9", "▼ "]
    assert [board.quote("X", now - age, "1", *more).age[1:] for age in (0, 30, 7200)] == ["", "0 s old", "200 s old"]


def test_a_row_that_was_restored_is_not_taken_for_the_newest(exchange):
    channels = ["trades:BTC-USDT", "candle1m:ETH-USDT"]
    board = Board([okex_ws.OkexWS(channel, url=exchange.url) for channel in channels], [], [])
    board.table()  # the tape is of the first channel with trades
    board.note(channels[0], [{"px": "9", "sz": "1", "side": "buy"}])
    board.note(channels[1], [{"o": "7", "c": "7"}])
    for channel in channels:
        board.note(channel, [{"px": "1", "o": "1", "c": "1", "restored": True}])
    assert [quote.cells[0] for quote in board.table()[0]] == ["  9", "  7"] and len(board.trades()[1]) == 1


def test_what_is_subscribed_while_it_is_drawn_does_not_stop_it():
    client = okex_ws.OkexWS("books:BTC-USDT", lambda *_: None)
    board = Board([client], [], [])
    names = [f"books:X{n}-USDT" for n in range(300)]
    thread = threading.Thread(target=lambda: [client.subscribe(name) for name in names])
    thread.start()
    while thread.is_alive():
        board.draw(80, 24)
    assert len(board.table()[0]) == len(client.books) == 301


# -- The terminal
def test_every_way_out_gives_the_terminal_back_and_leaves_the_summary_on_it(terminal, exchange):
    ways = {signal.SIGINT: 130, signal.SIGTERM: 0, signal.SIGHUP: 0, "--seconds": 0, "--count": 0, "q": 0}
    more = {"--seconds": ["--seconds", "3"], "--count": ["--count", "300"]}
    screens = {way: terminal("--board", "--url", exchange.url, *more.get(way, [])) for way in ways}
    for way, screen in screens.items():
        if way not in more:
            screen.until("book, in sync")
        os.write(screen.ours, b"xq" if way == "q" else b"x")
        left = screen.end(way if way.__class__ is not str else None)
        assert screen.process.returncode == ways[way], way
        assert "rows in" in left and "reconnects" in left, (way, left)


CRASH = """
import sys, okex_ws
def fail(*_):
    raise {error}
okex_ws.{what} = fail
sys.exit(okex_ws.main(sys.argv[1:]))
"""


def test_a_crash_gives_the_terminal_back_and_is_told_there(terminal, exchange, tmp_path):
    for what, error in (("Board.draw", "ValueError('a bug')"), ("Subscriptions.check", "SystemExit('a bug')")):
        screen = terminal("--board", "--url", exchange.url, code=CRASH.format(what=what, error=error))
        assert "a bug" in screen.end() and screen.process.returncode == 1, what
    code = CRASH.format(what="Board.draw", error="ValueError('a bug')")
    screen = terminal("--board", "--url", exchange.url, "--jsonl", str(tmp_path / "rows"), code=code)
    screen.until("a bug")
    assert screen.process.poll() is None  # the sink goes on
    screen.end(signal.SIGTERM)


def test_a_server_that_dies_and_comes_back_is_told_on_the_board(terminal, kept_port):
    with Exchange(every=0.02, port=kept_port) as exchange:
        screen = terminal("--board", "--url", exchange.url)
        screen.until("book, in sync")
    screen.until("NOT CONNECTED")
    screen.until("not in sync")
    seen = len(screen.read())
    with Exchange(every=0.02, port=kept_port):
        wait_for(lambda: "book, in sync" in screen.read()[seen:])
        screen.end(signal.SIGINT)


def test_the_log_of_the_board_has_trouble_and_no_routine(terminal, exchange):
    channels = ("trades:NOPE-USDT", "books:BTC-USDT", *(f"tickers:{coin}-USDT" for coin in ("BTC", "ETH", "LTC")))
    screen = terminal("--board", "--url", exchange.url, "--ping-every", "0.1", *channels)
    for text in ("ping ", "book, in sync", "The exchange refused trades:NOPE-USDT"):
        screen.until(text)
    assert "The exchange refused trades:NOPE-USDT" in screen.end(signal.SIGTERM)
    assert "subscribed." not in screen.read() and "Pong" not in screen.read()


def test_a_window_of_another_size_is_filled(terminal, exchange):
    screen = terminal("--board", "--url", exchange.url, NO_COLOR="1")

    def drawn():  # the last of each row
        return dict(re.findall(r"\033\[(\d+);1H\033\[2K([^\033]*)", screen.read()))

    wait_for(lambda: len(drawn()) == 24)
    screen.resize(60, 30)
    wait_for(lambda: {len(row) <= 60 for row in drawn().values()} == {True} and len(drawn()) == 30)
    assert "\033[32m" not in screen.read()


def test_the_board_goes_together_with_a_sink(terminal, exchange, tmp_path):
    screen = terminal("--board", "--url", exchange.url, "--jsonl", str(tmp_path / "rows"))
    wait_for(lambda: re.search(r"[1-9]\d* rows? written by --jsonl", screen.read()))
    received, written = re.search(
        r"(\d+) rows? in .* (\d+) rows? written by --jsonl", screen.end(signal.SIGTERM)
    ).groups()
    assert len((tmp_path / "rows").read_text().splitlines()) == int(received) == int(written)


def test_a_board_without_a_terminal_is_wrong_usage():
    for arguments, status, _, err in finish_all([["--board"], ["--board", "--jsonl", "-"], ["--board", "--offline"]]):
        assert status == 2 and "--board draws on a terminal" in err, arguments
