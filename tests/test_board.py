"""The board: a function from a picture to lines, and a terminal that is given back as it was."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import wait_for
from exchange import Exchange

import okex_ws
from okex_ws import BoardLook, BoardPicture, BoardQuote, draw_board, text_width

SCRIPT = Path(okex_ws.__file__)
PLAIN, RICH = BoardLook(), BoardLook(colours=True, unicode=True)
SIZES = [(60, 15), (80, 24), (200, 60)]
NAMES = ["BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP", "币安人生-USDT", "\x1b[2Jevil\r\n", "e\u0301" * 30]


def picture(**other):
    """A board with something everywhere."""
    quotes = [
        BoardQuote(name, "83000.3", "up", "+1.25%", "83000.2", "83000.4", "0.2", [1.0, 3.0, 2.0], age)
        for name, age in zip(NAMES, (0, 0, 30, 0, 7000, 0))
    ]
    levels = [[f"{price}.5", f"{price % 7}.25"] for price in range(100, 150)]
    trades = [("12:00:00", "83000.3", "0.5", side) for side in ("buy", "sell") * 30]
    long = "ws.okx.com/ws/v5/public  up 0:01:00  reconnects 0  ping 12 ms  delay 40 ms  20,000 msg/s"
    whole = {"status": [long, "ws.okx.com up 0:01:00"], "quotes": quotes, "buys": "52%"}
    whole |= {"book": "BTC-USDT", "bids": levels[::-1], "asks": levels, "tape": "BTC-USDT", "trades": trades}
    whole |= {"log": [f"12:00:{n:02d} line {n} \x1b[31m" for n in range(30)], "sinks": ["--sqlite: 5 rows written"]}
    return BoardPicture(**(whole | other))


def bare(line):
    return re.sub(r"\033\[[\d;]*m", "", line)


PICTURES = {
    "whole": picture(),
    "nothing": BoardPicture(),
    "book alone": picture(quotes=(), tape="", trades=()),
    "trades alone": picture(quotes=(), book="", bids=(), asks=()),
    "no market": picture(book="", tape=""),
    "50 instruments": picture(quotes=[BoardQuote(f"COIN{n}-USDT", str(n)) for n in range(50)]),
    "others": picture(quotes=(), others=["account 10000 dollars in all"] * 40, book="", tape=""),
    "out of sync": picture(bids=(), asks=(), doubt="a gap \x1b[2J"),
    "not connected": picture(connected=False, sinks=()),
}


@pytest.mark.parametrize("look", [PLAIN, RICH, BoardLook(unicode=True)], ids=["plain", "rich", "no colour"])
@pytest.mark.parametrize("size", [*SIZES, (1, 1), (10, 3), (33, 7), (500, 10)])
@pytest.mark.parametrize("name", PICTURES)
def test_the_board_fills_every_terminal_and_wraps_on_none(name, size, look):
    width, height = size
    lines = draw_board(PICTURES[name], width, height, look)
    assert len(lines) == height
    for line in lines:
        assert text_width(bare(line)) == width and bare(line).isprintable(), line
        assert look.unicode or line.isascii()
        assert look.colours or "\033" not in line


@pytest.mark.parametrize("size", SIZES)
def test_the_board_shows_every_part_at_every_size(size):
    text = "\n".join(draw_board(PICTURES["whole"], *size, PLAIN))
    parts = ["ws.okx.com", "up 0:01:00", "BTC-USDT-SWAP", "+1.25%", "BTC-USDT book, in sync", "spread", "#", "52% b"]
    parts += ["83000.3 0.5 buy", "line 29", "--sqlite: 5 rows"]
    if size > (60, 15):
        parts += ["12:00:00 83000.3", "_#=", "30 s", "\\x1b[2Jev"]  # a trade's time, a sparkline, an age
    for part in parts:
        assert part in re.sub(" +", " ", text), part


def test_instruments_without_room_are_counted():
    lines = draw_board(PICTURES["50 instruments"], 80, 24, PLAIN)
    shown = sum(bool(re.match("COIN", line)) for line in lines)
    assert any(f"and {50 - shown} more" in line for line in lines)


def test_many_instruments_leave_room_for_the_book():
    many = picture(quotes=PICTURES["50 instruments"].quotes)
    for size in SIZES:
        lines = draw_board(many, *size, PLAIN)
        ladder = [line for line in lines if re.match(r" *\d+\.5 ", line)]
        assert len(ladder) >= size[1] // 6 - 1


def test_a_book_out_of_sync_shows_no_level_and_says_why():
    lines = draw_board(PICTURES["out of sync"], 80, 24, PLAIN)
    assert any("not in sync: a gap" in line for line in lines) and not any("100.5" in line for line in lines)


def test_the_best_of_both_sides_are_in_the_middle():
    book = picture(tape="", bids=[["9", "1"], ["8", "2"]], asks=[["10", "3"], ["11", "4"]])
    lines = [line.split()[0] for line in draw_board(book, 80, 24, PLAIN) if re.match(r" *[\d.]+ ", line)]
    assert lines == ["11", "10", "1", "9", "8"]


def test_what_is_noted_and_kept_becomes_a_picture(connect, exchange):
    board = okex_ws.Board()
    client = connect("tickers:BTC-USDT", "trades:BTC-USDT", "books:BTC-USDT", "funding-rate:BTC-USDT-SWAP")
    client.handler = board.note
    look = lambda: board.picture([client], time.monotonic() - 61, ["a line"], [])  # noqa: E731
    wait_for(lambda: look().buys and look().bids and len(board.latest) == 4)
    seen = look()
    (quote,) = seen.quotes
    assert quote.name == seen.book == seen.tape == "BTC-USDT" and seen.connected and not seen.doubt
    assert quote.last and quote.bid and quote.ask and quote.change.endswith("%") and quote.spread
    assert seen.trades[0][3] in ("buy", "sell") and "funding" in seen.others[0]
    assert re.match(
        r"127.0.0.1:\d+/ws/v5/public  up 0:01:\d\d  reconnects 0 .* delay -?\d+ ms  [\d,]+ msg/s", seen.status[0]
    )
    assert all(map(len, seen.status)) and len(seen.status[-1]) <= 60
    client.close()
    wait_for(lambda: look().doubt and "NOT CONNECTED" in look().status[-1])


def test_the_first_moments_are_not_taken_for_a_rate(exchange):
    """Five messages in five thousandths of a second are not a thousand a second."""
    board, client = okex_ws.Board(), okex_ws.OkexWS("trades:BTC-USDT", url=exchange.url)
    for now, messages, said in [(10.0, 0, "0"), (10.005, 5, "5"), (14.0, 8_000, "2,000")]:
        client.counts["messages"] = messages
        assert board.status([client], 0.0, None, now)[0].endswith(f"  {said} msg/s")


def test_generations_without_tickers_have_a_board_too(connect, exchange):
    board = okex_ws.Board()
    client = connect("ok_sub_futureusd_btc_trade_quarter", "ok_sub_futureusd_btc_depth_quarter")
    client.handler = board.note
    picture = lambda: board.picture([client], time.monotonic(), [], [])  # noqa: E731
    wait_for(lambda: picture().trades and picture().bids and picture().quotes[0].last)
    (quote,) = picture().quotes
    assert quote.name == "btc_quarter" and quote.bid and quote.ask
    client = connect("swap/candle60s:BTC-USD-SWAP")
    client.handler = board.note
    wait_for(lambda: picture().quotes[0].last)


def test_what_is_subscribed_while_a_picture_is_made_does_not_stop_it(monkeypatch):
    client = okex_ws.OkexWS(["books:BTC-USDT", "books:ETH-USDT"], lambda *_: None)
    known_format = okex_ws.known_format

    def and_subscribe(channel):
        client.subscribe(f"books:X{len(client.books)}-USDT")
        return known_format(channel)

    monkeypatch.setattr(okex_ws, "known_format", and_subscribe)
    seen = okex_ws.Board().picture([client], time.monotonic(), [], [])
    assert [quote.name for quote in seen.quotes][:2] == ["BTC-USDT", "ETH-USDT"] and len(client.books) > 2


# -- The terminal


class Terminal:
    """okex_ws.py on a pseudo-terminal."""

    def __init__(self, *arguments, size=(80, 24), code=None, **environment):
        self.ours, self.theirs = pty.openpty()
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end inside a character
        self.resize(*size)
        self.before = termios.tcgetattr(self.theirs)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LC_") and k not in ("LANG", "NO_COLOR")}
        command = [sys.executable, "-c", code] if code else [sys.executable, SCRIPT]
        self.process = subprocess.Popen(
            [*command, *arguments],
            env=inherited | {"TERM": "xterm", "LANG": "C.UTF-8"} | environment,
            cwd=SCRIPT.parent,
            **dict.fromkeys(("stdin", "stdout", "stderr"), self.theirs),
            start_new_session=True,
        )
        self.text = ""

    def resize(self, columns, rows):
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.ours], [], [], 0.01)[0]:
            self.text += self.decoder.decode(os.read(self.ours, 65536))
        return self.text

    def until(self, text):
        wait_for(lambda: text in self.read())

    def end(self, within=30):
        wait_for(lambda: self.read() is not None and self.process.poll() is not None, within)
        return self.read()

    def assert_restored(self):
        assert self.text.count(okex_ws.BoardScreen.ENTER) == self.text.count(okex_ws.BoardScreen.LEAVE) > 0
        assert termios.tcgetattr(self.theirs) == self.before
        assert okex_ws.BoardScreen.ENTER not in self.text.rpartition(okex_ws.BoardScreen.LEAVE)[2]


@pytest.fixture
def terminal():
    started = []

    def start(*arguments, **options):
        started.append(Terminal(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        os.close(one.ours)
        os.close(one.theirs)


@pytest.mark.parametrize(
    ("way", "status"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 0),
        (signal.SIGHUP, 0),
        (signal.SIGQUIT, 131),
        ("--seconds", 0),
        ("--count", 0),
    ],
    ids=str,
)
def test_every_way_out_gives_the_terminal_back(terminal, exchange, way, status):
    more = {"--seconds": ["--seconds", "5"], "--count": ["--count", "300"]}.get(way, [])
    screen = terminal("--board", "--url", exchange.url, *more)
    if not more:
        screen.until("book, in sync")
        os.kill(screen.process.pid, way)
    screen.end()
    screen.assert_restored()
    assert screen.process.returncode == status


CRASH = """
import sys, okex_ws
def fail(*_):
    raise {error}
okex_ws.{what} = fail
sys.exit(okex_ws.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("what", ["draw_board", "Subscriptions.late"])
def test_a_crash_gives_the_terminal_back(terminal, exchange, what):
    error = "ValueError('a bug')" if what == "draw_board" else "SystemExit(3)"
    screen = terminal("--board", "--url", exchange.url, code=CRASH.format(what=what, error=error))
    screen.end()
    screen.assert_restored()
    assert screen.process.returncode != 0
    assert what != "draw_board" or "a bug" in screen.text.rpartition(okex_ws.BoardScreen.LEAVE)[2]


def test_ctrl_z_gives_the_terminal_back_until_the_program_goes_on(terminal, exchange):
    screen = terminal("--board", "--url", exchange.url)
    screen.until("book, in sync")
    os.kill(screen.process.pid, signal.SIGTSTP)
    state = Path(f"/proc/{screen.process.pid}/stat")
    wait_for(lambda: screen.read() and state.read_text().rpartition(")")[2].split()[0] == "T")
    screen.read()
    screen.assert_restored()
    os.kill(screen.process.pid, signal.SIGCONT)
    wait_for(lambda: screen.read().count(okex_ws.BoardScreen.ENTER) == 2)
    os.kill(screen.process.pid, signal.SIGTERM)
    screen.end()
    screen.assert_restored()


def test_a_server_that_dies_and_comes_back_is_told_on_the_board(terminal, kept_port):
    with Exchange(every=0.02, port=kept_port) as exchange:
        screen = terminal("--board", "--url", exchange.url)
        screen.until("book, in sync")
    screen.until("NOT CONNECTED")
    screen.until("not in sync")
    seen = len(screen.text)
    with Exchange(every=0.02, port=kept_port):
        wait_for(lambda: "book, in sync" in screen.read()[seen:])
        os.kill(screen.process.pid, signal.SIGINT)
        screen.end()
    screen.assert_restored()


def test_the_log_of_the_board_has_trouble_and_no_routine(terminal, exchange):
    channels = (
        "trades:NOPE-USDT",
        "books:BTC-USDT",
        *(f"tickers:{coin}-USDT" for coin in ("BTC", "ETH", "LTC", "EOS")),
    )
    screen = terminal("--board", "--url", exchange.url, "--ping-every", "0.1", *channels)
    screen.until("ping ")
    screen.until("book, in sync")
    screen.until("The exchange refused trades:NOPE-USDT")
    assert "subscribed." not in screen.text and "Pong" not in screen.text


def test_a_window_of_another_size_is_filled(terminal, exchange):
    screen = terminal("--board", "--url", exchange.url, NO_COLOR="1")
    screen.until("\033[24;1H")
    assert "\033[32m" not in screen.text
    screen.resize(60, 30)
    screen.until("\033[30;1H")
    rows = lambda: re.findall(r"\033\[\d+;1H([^\033]*)", screen.read().rpartition("\033[2J")[2])  # noqa: E731
    wait_for(lambda: {len(row) for row in rows()} == {60})  # a read may end inside a row
    assert len(rows()) >= 30


@pytest.mark.parametrize("environment", [{"LANG": "C"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}], ids=str)
def test_without_unicode_the_board_is_ascii(terminal, exchange, environment):
    screen = terminal("--board", "--url", exchange.url, **environment)
    screen.until("book, in sync")
    assert screen.read().isascii()


def test_a_dumb_terminal_gets_pictures_without_any_escape_sequence(terminal, exchange):
    screen = terminal("--board", "--url", exchange.url, TERM="dumb")
    screen.until("instrument")
    os.kill(screen.process.pid, signal.SIGTERM)
    assert "\033" not in screen.end()


def test_the_board_goes_together_with_a_sink(terminal, exchange, tmp_path):
    screen = terminal("--board", "--url", exchange.url, "--jsonl", str(tmp_path / "rows"))
    wait_for(lambda: re.search(r"--jsonl: [1-9]\d* rows? written", screen.read()))
    os.kill(screen.process.pid, signal.SIGTERM)
    received, written = re.search(r"(\d+) rows? in .* (\d+) rows? written by --jsonl", screen.end()).groups()
    assert len((tmp_path / "rows").read_text().splitlines()) == int(received) == int(written)


@pytest.mark.parametrize("arguments", [["--board"], ["--board", "--jsonl", "-"], ["--board", "--offline"]])
def test_a_board_without_a_terminal_is_wrong_usage(arguments):
    run = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=20)
    assert run.returncode == 2 and "--board draws on a terminal" in run.stderr


# -- Long work says so

PROGRESS = "import sys, okex_ws; okex_ws.TELL_PROGRESS = 0.3; sys.exit(okex_ws.main(sys.argv[1:]))"


def test_a_quiet_recording_tells_on_a_terminal_how_it_goes(terminal, exchange, tmp_path):
    options = ("--quiet", "--url", exchange.url, "--jsonl", str(tmp_path / "rows"), "trades:BTC-USDT")
    screen = terminal(*options, code=PROGRESS)
    wait_for(lambda: re.search(r"[1-9]\d* rows so far, [\d.]+ a second, \d+ waiting", screen.read()))
    command = [sys.executable, "-c", PROGRESS, *options, "--count", "150"]  # takes more than a second
    run = subprocess.run(command, cwd=SCRIPT.parent, capture_output=True, timeout=30)
    assert run.stderr == b""


def test_draining_tells_how_far_it_is(monkeypatch, caplog):
    class Slow(okex_ws.Sink):
        """Takes every tenth message once something more was told."""

        linger = 0.0

        def __init__(self):
            self.taken = 0

        def write(self, *_):
            told = len(caplog.records)
            wait_for(lambda: self.taken % 10 or len(caplog.records) > told)
            self.taken += 1

    monkeypatch.setattr(okex_ws, "QUIET_DRAIN", 0.1)
    monkeypatch.setattr(okex_ws, "TELL_DRAIN", 0.1)
    monkeypatch.setattr(okex_ws, "MAX_BATCH", 5)
    writer = okex_ws.Writer("slow", Slow())
    for _ in range(40):
        writer.put(okex_ws.marshal.dumps((0.0, "c", [1])))
    assert writer.drain(time.monotonic())
    told = [int(n) for n in re.findall(r"writing (\d+) more", caplog.text)]
    assert len(told) >= 3 and told == sorted(told, reverse=True) and told[0] > told[-1]
