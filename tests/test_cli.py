"""The program as a person meets it: in a terminal, in a pipe, on a signal."""

import json
import logging
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import wait_for
from exchange import Exchange

import okex_ws

SCRIPT = Path(okex_ws.__file__)
COLOUR = "\033["

# Waits at its end for as long as a slow machine takes to look up what may have been meant.
PATIENT = "import sys, okex_ws; okex_ws.LOOK_UP_PATIENCE = 30.0; sys.exit(okex_ws.main(sys.argv[1:]))"


def program(*arguments, code=None, **options):
    """Start okex_ws.py as a user does, or code that does; stdout and stderr are pipes unless the options differ."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | options.pop("env", {})
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = ["-c", code] if code else [SCRIPT]
    where = SCRIPT.parent if code else None
    return subprocess.Popen([sys.executable, *command, *arguments], env=environment, text=True, cwd=where, **streams)


def finish(*arguments, **options):
    """Run okex_ws.py to its end: (exit status, stdout, stderr)."""
    process = program(*arguments, **options)
    try:
        out, err = process.communicate(timeout=50)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def until(stream, *texts, within=30.0):
    """Read what has been printed until it holds all these texts, in any order; return it."""
    end, read = time.monotonic() + within, ""
    while not all(text in read for text in texts):
        assert time.monotonic() < end and select.select([stream], [], [], within)[0], f"not all {texts} in {read!r}"
        data = os.read(stream.fileno(), 65536)  # not readline, whose buffer select knows nothing of
        assert data, f"the stream ended without all of {texts}: {read!r}"
        read += data.decode()
    return read


# -- Output


def test_offline_shows_prices_of_the_demo_channel_without_a_network():
    status, out, err = finish("--offline", "--count", "5")
    assert status == 0
    assert len(out.splitlines()) == 5
    for line in out.splitlines():
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} btc_quarter +[\d.]+ +[\d.]+ (buy|sell)", line)
        assert len(line) <= 80
    assert "ok_sub_futureusd_btc_trade_quarter subscribed." in err and "made up" in err
    assert max(map(len, err.splitlines())) <= 80


def test_the_demo_words_are_there():
    process = program("--offline", "--ping-every", "1", "--quiet", "--seconds", "1.5")
    assert "Ping sent." not in process.communicate(timeout=20)[1]
    process = program("--offline", "--ping-every", "0.2")
    until(process.stderr, "Ping sent.", "Pong received.", "ok_sub_futureusd_btc_trade_quarter subscribed.")
    process.terminate()
    process.communicate(timeout=10)


@pytest.mark.parametrize(
    ("channel", "line"),
    [
        ("trades:BTC-USDT", r"BTC-USDT +[\d.]+ +[\d.]+ (buy|sell)"),
        ("swap/trade:BTC-USD-SWAP", r"BTC-USD-SWAP +[\d.]+ +[\d.]+ (buy|sell)"),
        ("ok_sub_spot_ltc_btc_deals", r"ltc_btc +[\d.]+ +[\d.]+ (buy|sell)"),
        ("tickers:BTC-USDT", r"BTC-USDT( +[\d.]+){3}.*"),
        ("candle1m:BTC-USDT", r"BTC-USDT 1m( +[\d.]+){5}"),
        ("books:BTC-USDT", r"BTC-USDT( +[\d.]+){5}"),
        ("spot/depth:BTC-USDT", r"BTC-USDT( +[\d.]+){5}"),
        ("funding-rate:BTC-USDT-SWAP", r"BTC-USDT-SWAP +0.0001 funding.*"),
    ],
)
def test_one_readable_line_a_row(exchange, channel, line):
    status, out, _ = finish(channel, "--url", exchange.url, "--count", "1")
    assert status == 0
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}} {line}\n", out) and len(out) <= 81


def test_depth_prints_a_ladder(exchange):
    _, out, _ = finish("books:BTC-USDT", "--url", exchange.url, "--count", "1", "--depth", "3")
    assert [line.split()[-1] for line in out.splitlines()] == [*["ask"] * 3, "spread", *["bid"] * 3]


def test_the_library_prints_the_same(capsys, connect, exchange):
    okex_ws.print_rows("trades:BTC-USDT", [{"px": "83753", "sz": "0.000011", "side": "sell"}, {"odd": "\x1b[2J"}, None])
    out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\S+ BTC-USDT +83753 +0.000011 sell", out[0])
    assert [line[13:] for line in out[1:]] == ["BTC-USDT odd \\x1b[2J", "BTC-USDT -"]
    assert okex_ws.OkexWS(["books:BTC-USDT"]).depth == 1  # a change of a book is nothing to print


def test_json_lines_are_what_was_sent_in_order_from_every_endpoint():
    names = ["trades:BTC-USDT", "candle1m:BTC-USDT", "spot/trade:ETH-USDT", "ok_sub_futureusd_btc_trade_quarter"]
    with Exchange(every=None) as exchange:
        process = program(*names, "--url", exchange.url, "--jsonl", "-")
        wait_for(lambda: len(exchange.sessions) == 4 and all(s.feeds for s in list(exchange.sessions)))
        sent = {name: [] for name in names}
        by_path = {s.path: s for s in exchange.sessions}
        for n in range(50):
            trade = {"instId": "BTC-USDT", "px": f"8375{n}.1", "sz": "1E-8", "seqId": 82083114838 + n, "x": [None, "é"]}
            sent[names[0]].append(trade)
            arg = {"channel": "trades", "instId": "BTC-USDT"}
            by_path["/ws/v5/public"].send(json.dumps({"arg": arg, "data": [trade]}))
            candle = [str(n), "1", "2", "0.5", "1.5", "10", "11", "12", "1"]
            sent[names[1]].append(candle)
            arg = {"channel": "candle1m", "instId": "BTC-USDT"}
            by_path["/ws/v5/business"].send(json.dumps({"arg": arg, "data": [candle]}))
            trade = {"instrument_id": "ETH-USDT", "price": "146.2", "side": "buy", "trade_id": str(n)}
            sent[names[2]].append(trade)
            by_path["/ws/v3"].send(json.dumps({"table": "spot/trade", "data": [trade]}))
            trade = [str(n), "999.49", "12.0", "15:25:03", "ask", "1.2006"]
            sent[names[3]].append(trade)
            by_path["/ws/v1"].send(json.dumps([{"channel": names[3], "data": [trade]}]))
        got = {name: [] for name in names}
        while any(values(got[name][-1:]) != values(sent[name][-1:]) for name in names):
            line = json.loads(process.stdout.readline())
            assert set(line) == {"received", "channel", "row"} and abs(line["received"] - time.time()) < 60
            got[line["channel"]].append(line["row"])
        process.terminate()
        process.communicate(timeout=10)
    for name in names:
        assert values(got[name][-50:]) == values(sent[name])
    assert got[names[0]][-50:] == sent[names[0]] and got[names[2]][-50:] == sent[names[2]]


def values(rows):
    return [list(row.values()) if isinstance(row, dict) else row for row in rows]


def in_terminal(*arguments, stream="stdout", code=None, **environment):
    """What a person sees: the output of okex_ws.py on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    process = program(*arguments, code=code, **{stream: theirs}, env={"TERM": "xterm", **environment})
    os.close(theirs)
    process.communicate(timeout=50)
    seen = b""
    while select.select([ours], [], [], 0)[0]:
        try:
            seen += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    return seen.decode()


def test_colours_on_a_terminal_that_wants_them_and_nowhere_else(exchange):
    arguments = ("trades:BTC-USDT", "--url", exchange.url, "--count", "20")
    seen = in_terminal(*arguments)
    assert "\033[32m" in seen and "\033[31m" in seen and seen.count("\033[0m") == 20 + 1  # one of them the headings
    assert all("buy" in line for line in seen.splitlines() if "\033[32m" in line)
    assert COLOUR not in in_terminal(*arguments, NO_COLOR="1")
    assert COLOUR not in in_terminal(*arguments, TERM="dumb")
    assert COLOUR not in finish(*arguments)[1]


def test_a_suggestion_stands_out_on_a_terminal_that_wants_colours(exchange):
    arguments = ("--url", exchange.url, "ticker:btcusdt")
    command = f"  python okex_ws.py --url {exchange.url} tickers:BTC-USDT"
    assert f"\033[1m{command}\033[0m" in in_terminal(*arguments, stream="stderr").splitlines()
    assert command in in_terminal(*arguments, stream="stderr", NO_COLOR="1").splitlines()


def test_a_log_line_with_a_suggestion_is_shown_on_a_terminal_that_wants_colours(exchange):
    seen = in_terminal("--url", exchange.url, "trades:BTC-USDT-SWP", stream="stderr", code=PATIENT)
    assert re.search(r"trades:BTC-USDT-SWP was refused\. Did you mean \033\[1m.*BTC-USDT-SWAP.*\033\[0m\?", seen)


def test_trace_shows_every_message_both_ways(exchange):
    _, _, err = finish("trades:BTC-USDT", "--url", exchange.url, "--count", "3", "--trace")
    assert '> {"id":"r1","op":"subscribe","args":[{"channel":"trades","instId":"BTC-USDT"}]}' in err
    assert '< {"id":"r1","event":"subscribe"' in err and '< {"arg":{"channel":"trades"' in err


# -- Ending


def test_stops_by_itself_after_so_many_rows_or_so_long(exchange):
    status, out, err = finish("trades:BTC-USDT", "tickers:ETH-USDT", "--url", exchange.url, "--count", "7")
    assert (status, len(out.splitlines())) == (0, 7)
    assert re.search(r"\d+ rows in \d+ messages over [\d.]+ s, 0 reconnects\.", err)
    status, out, err = finish("trades:BTC-USDT", "--url", exchange.url, "--seconds", "5")
    assert status == 0 and out
    assert float(re.search(r"over ([\d.]+) s", err)[1]) >= 5


@pytest.fixture
def busy_port():
    """A port whose server accepts nobody: the backlog is full, so that connecting hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as filler:
        filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.parametrize("state", ["streaming", "silent", "retrying", "handshake", "connecting"])
def test_a_signal_ends_it_in_every_state(exchange, busy_port, state, number, status):
    url = f"ws://127.0.0.1:{busy_port}" if state == "connecting" else exchange.url
    exchange.mute = state == "handshake"
    exchange.http_status = 503 if state == "retrying" else 0
    process = program("trades:BTC-USDT", "candle1m:BTC-USDT", "--url", url)
    if state == "retrying":
        until(process.stderr, "Next try")
    elif state == "connecting":
        wait_for(lambda: f":{busy_port:04X}" in Path("/proc/net/tcp").read_text() and caught(process))
    elif state == "handshake":
        wait_for(lambda: exchange.handshakes == 2)
    else:
        until(process.stdout, "BTC-USDT")
        exchange.silent = state == "silent"
    process.send_signal(number)
    _, err = process.communicate(timeout=15)
    assert process.returncode == (status or state not in ("streaming", "silent"))  # 1 if it never connected
    assert "reconnects" in err and "Traceback" not in err


def test_nohup_keeps_it_alive_when_the_window_is_closed(exchange):
    ignore = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    process = program("trades:BTC-USDT", "--url", exchange.url, "--ping-every", "0.1", preexec_fn=ignore)
    until(process.stdout, "BTC-USDT")
    process.send_signal(signal.SIGHUP)
    seen = len(exchange.requests)
    wait_for(lambda: len(exchange.requests) > seen + 2)  # it still pings
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_one_is_one_in_the_summary(exchange):
    _, _, err = finish("trades:BTC-USDT", "--url", exchange.url, "--count", "1")
    assert re.search(r" 1 row in \d+ messages? over [\d.]+ s, 0 reconnects\.", err)
    told = [okex_ws.plural(n, "rows refused by --jsonl") for n in (0, 1, 2)]
    assert told == ["0 rows refused by --jsonl", "1 row refused by --jsonl", "2 rows refused by --jsonl"]


def caught(process):
    """Whether the process has installed its own signal handlers; Python itself catches SIGINT, but not SIGTERM."""
    mask = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[1]
    return int(mask, 16) & 1 << (signal.SIGTERM - 1)


SLOW_TO_END = """
import sys, time, okex_ws
sum_up = okex_ws.Run.sum_up
okex_ws.Run.sum_up = lambda run: (time.sleep(0.6), sum_up(run))
sys.exit(okex_ws.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_signal_ends_it_with_a_summary_on_a_slow_machine_too(busy_port, number, status):
    process = interruptible("-c", SLOW_TO_END, "trades:BTC-USDT", "--url", f"ws://127.0.0.1:{busy_port}")
    until(process.stderr, "Connecting to")
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status and "reconnects" in err and "Never connected" in err.splitlines()[-1]


NEVER_ENDS = """
import sys, time, okex_ws
okex_ws.LAST_GRACE = 0.1
okex_ws.Run.sum_up = lambda run: time.sleep(60)
sys.exit(okex_ws.main(sys.argv[1:]))
"""


def test_a_run_that_is_cut_off_at_its_end_has_the_status_that_it_would_have_had(busy_port):
    process = interruptible("-c", NEVER_ENDS, "trades:BTC-USDT", "--url", f"ws://127.0.0.1:{busy_port}")
    until(process.stderr, "Connecting to")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 1  # it never connected


LOOKS_UP_FOR_EVER = """
import ctypes, runpy, socket, sys

def getaddrinfo(*_, **__):
    print("looking up", flush=True)
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    while True:  # in C, where no signal is noticed: a mutex is locked twice
        libc.pthread_mutex_lock(mutex)

socket.getaddrinfo = getaddrinfo
sys.argv = ["okex_ws.py", "trades:BTC-USDT", "--url", "ws://exchange.test"]
runpy.run_path({path!r}, run_name="__main__")
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_signal_ends_it_while_a_name_is_looked_up(number, status):
    process = interruptible("-c", LOOKS_UP_FOR_EVER.format(path=str(SCRIPT)))
    until(process.stdout, "looking up")
    process.send_signal(number)
    _, err = process.communicate(timeout=15)
    assert process.returncode == status and "reconnects" in err and "Traceback" not in err


def test_the_last_line_is_shown_though_the_thread_that_writes_it_is_late(monkeypatch):
    written, console = [], okex_ws.Console()
    monkeypatch.setattr(console, "_write", lambda line: (time.sleep(0.6), written.append(line)))
    console.emit(logging.makeLogRecord({"msg": "5 rows in 3 messages", "levelno": logging.INFO}))
    console.flush()
    assert [line[9:] for line in written] == ["5 rows in 3 messages\n"]


def test_a_signal_of_the_scripts_own_does_not_end_the_run(tmp_path, exchange):
    script = tmp_path / "mine.py"
    script.write_text(
        "import signal, sys, okex_ws\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('mine', flush=True))\n"
        "sys.exit(okex_ws.main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    command = [sys.executable, script, "trades:BTC-USDT", "--url", exchange.url]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(process.stderr, "subscribed")
    process.send_signal(signal.SIGUSR1)
    until(process.stdout, "mine")
    seen = exchange.instrument("BTC-USDT").sequence
    wait_for(lambda: exchange.instrument("BTC-USDT").sequence > seen + 50)
    assert process.poll() is None
    process.terminate()
    assert process.wait(15) == 0


def test_a_second_signal_does_not_hurt(exchange):
    process = program("trades:BTC-USDT", "--url", exchange.url)
    until(process.stdout, "BTC-USDT")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == 130


def test_a_pipe_that_closes_ends_it_quietly(exchange):
    process = program("trades:BTC-USDT", "--url", exchange.url, "--quiet")
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=10) == 0
    assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_not_silent(exchange):
    with open("/dev/full", "w") as full:
        status, _, err = finish("trades:BTC-USDT", "--url", exchange.url, "--quiet", stdout=full)
    assert status == 1 and "Cannot write to stdout" in err and "Traceback" not in err


def test_a_run_that_never_connected_fails_with_the_reason(kept_port, busy_port):
    for port, seconds, reason in ((kept_port, "5", "refused"), (busy_port, "0.5", "first try")):
        url = f"ws://127.0.0.1:{port}"
        status, out, err = finish("trades:BTC-USDT", "--url", url, "--seconds", seconds, "--quiet")
        assert (status, out) == (1, "")
        assert "Never connected: " in err.splitlines()[-1] and reason in err.splitlines()[-1]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("90m", 5400), ("2h", 7200), (".5d", 43200)])
def test_lengths_of_time_have_units(text, seconds):
    assert okex_ws.parse_arguments(["--seconds", text]).seconds == seconds


def test_ends_when_every_channel_was_refused(exchange):
    status, out, err = finish("trades:NOPE-USDT", "candle1m:NOPE-USDT", "--url", exchange.url)
    assert (status, out) == (1, "")
    assert "60018" in err and "check the spelling" in err and "Every channel was refused" in err


def test_ends_on_a_certificate_that_is_not_valid(tmp_path):
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Exchange(tls=context) as exchange:
        for channels in (["trades:BTC-USDT"], ["trades:BTC-USDT", "candle1m:BTC-USDT"]):
            status, _, err = finish(*channels, "--url", exchange.url)
            assert status == 1 and "certificate" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trades: BTC-USDT"], "python okex_ws.py trades:BTC-USDT"),
        (["--count", "0"], "--count: 0 is not a whole number of 1 or more"),
        (["--count", "1e3"], "1e3 is not a whole number"),
        (["--seconds", "-1"], "-1 is not a length of time"),
        (["--seconds", "soon"], "--seconds: soon is not a length of time"),
        (["--seconds", "0s"], "0s is not a length of time"),
        (["--seconds", "9" * 99], "is not a length of time"),
        (["--ping-every", "nan"], "nan is not a length of time"),
        (["--depth", "5"], "--depth has no effect without an order book"),
        (["--depth", "5", "--url", "ws://127.0.0.1:1", "tickers:BTC-USDT"], "--depth has no effect"),
        (["--sqlite", "trades:BTC-USDT"], "want a FILE first"),
        (["--jsonl", "ok_sub_spot_btc_usdt_ticker"], "want a FILE first"),
        (["--name", "x"], "--name has no effect without --redis"),
        (["--history", "9", "--jsonl", "-"], "--history has no effect without --redis"),
        (["--jsonl", "a", "--jsonl", "b"], "--jsonl: given twice"),
        (["--fill", "1h", "trades:BTC-USDT", "--fill", "1h"], "--fill: given twice"),
        (["--simulated", "--offline"], "--simulated has no effect with --offline"),
        (["--simulated", "--url", "ws://127.0.0.1:1"], "--simulated has no effect with --url"),
        (["--region", "mars"], "invalid choice"),
        (["--url", "example.com"], "is not a WebSocket URL"),
        (["--url", "ws://127.0.0.1:1/ws/v1", "trades:BTC-USDT"], "speaks v1, and trades:BTC-USDT is of v5"),
        (["--json", "rows.jsonl"], "unrecognized arguments: --json"),
        (["--list", "btc", "--board"], "--list takes one pattern"),
        (["--proxy", "ftp://x:1"], "a proxy is written"),
        (["--offline", "--url", "ws://127.0.0.1:1"], "leave --url out"),
        (["--nonsense"], "unrecognized"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments, words):
    status, out, err = finish(*arguments)
    assert (status, out) == (2, "")
    assert words in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize("effect", [["--simulated"], ["--region", "eea"], ["--proxy", "http://127.0.0.1:1"]])
def test_an_option_without_effect_on_the_stand_in_is_wrong_usage(effect):
    status, _, err = finish("--offline", *effect)
    assert status == 2 and f"{effect[0]} has no effect with --offline" in err.splitlines()[-1]


def test_two_files_that_are_one_are_wrong_usage(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    status, _, err = finish("--offline", "--jsonl", tmp_path / "rows", "--sqlite", tmp_path / "link")
    assert status == 2 and "name the same file" in err.splitlines()[-1]
    assert not (tmp_path / "rows").exists()


def test_channels_may_stand_between_options(exchange):
    arguments = ("trades:BTC-USDT", "--url", exchange.url, "tickers:BTC-USDT", "--count", "20", "books5:BTC-USDT")
    status, _, err = finish(*arguments)
    assert status == 0
    assert all(f"{name}:BTC-USDT subscribed" in err for name in ("trades", "tickers", "books5"))


def test_help_and_version_can_be_acted_on():
    status, out, _ = finish("--help")
    assert status == 0 and "--offline" in out and "python okex_ws.py tickers:ETH-USDT" in out
    assert finish("--version")[1] == f"okex_ws {okex_ws.__version__}\n"


# -- What is missing


def test_the_file_alone_works_and_offline_says_what_it_needs(tmp_path, exchange):
    copy = tmp_path / "okex_ws.py"
    copy.write_bytes(SCRIPT.read_bytes())
    run = [sys.executable, copy, "trades:BTC-USDT", "--count", "1"]
    assert subprocess.run([*run, "--url", exchange.url], capture_output=True, timeout=30).returncode == 0
    lost = subprocess.run([*run, "--offline"], capture_output=True, text=True, timeout=30)
    assert lost.returncode == 2 and "tests/exchange.py" in lost.stderr.splitlines()[-1]


def test_the_file_can_be_pasted_into_a_script(tmp_path, exchange):
    above, guard = SCRIPT.read_text().rstrip().rsplit("\n\n\n", 1)
    assert len(guard.splitlines()) == 2 and "__main__" in guard
    script = tmp_path / "mine.py"
    script.write_text(
        f"""import os
PAIR = os.environ["PAIR"]
{above}
def handler(channel, rows):
    print(channel, rows[0]["px"])
    ws.close()
ws = OkexWS(["trades:" + PAIR], handler, url="{exchange.url}")
ws.run()
"""
    )
    environment = {**os.environ, "PAIR": "BTC-USDT"}
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=30)
    assert re.fullmatch(r"trades:BTC-USDT [\d.]+\n", run.stdout), run.stderr


@pytest.mark.parametrize("shadow", [None, "def enableTrace(): pass\n"])
def test_a_missing_websocket_client_is_told_in_one_line(tmp_path, shadow):
    if shadow:  # the other package called websocket
        (tmp_path / "websocket.py").write_text(shadow)
    hide = "import sys; sys.modules['websocket'] = None; " if not shadow else "import sys; "
    code = f"{hide}sys.argv = ['okex_ws.py']; import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    options = {"capture_output": True, "text": True, "timeout": 30}
    lost = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, **options)
    assert lost.returncode == 1
    assert len(lost.stderr.splitlines()) == 1 and "pip install websocket-client" in lost.stderr


def test_a_missing_socks_package_is_told_in_one_line():
    code = (
        "import sys; sys.modules['python_socks'] = None; sys.argv = ['okex_ws.py', '--proxy', 'socks5://127.0.0.1:1'];"
        f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    lost = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert lost.returncode == 2
    assert len(lost.stderr.splitlines()) == 1 and "pip install python-socks" in lost.stderr


def interruptible(*command):
    """Start Python in the folder of okex_ws.py. What a shell starts in the background ignores SIGINT; this does not."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, *command], cwd=SCRIPT.parent, preexec_fn=restore, **pipes)


def test_ctrl_c_reaches_a_script_that_calls_run(exchange):
    code = f"import okex_ws; okex_ws.OkexWS(['trades:BTC-USDT'], url={exchange.url!r}).run()"
    process = interruptible("-c", code)
    until(process.stdout, "BTC-USDT")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert "KeyboardInterrupt" in err.splitlines()[-1]


def test_the_stand_in_runs_by_itself():
    process = interruptible("tests/exchange.py")
    urls = [process.stdout.readline().strip() for _ in range(7)]
    try:
        url = next(url for url in urls if url.endswith("/ws/v5/public"))
        assert finish("trades:BTC-USDT", "--url", url, "--count", "1")[0] == 0
        export, *variables = shlex.split(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert err == ""
    assert export == "export" and [v.partition("=")[2] for v in variables] == list(Exchange.keys)
