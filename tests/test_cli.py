"""The program as a person meets it: in a terminal, in a pipe, on a signal."""

import ast
import json
import os
import pty
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import SCRIPT, finish, finish_all, program, until, wait_for
from exchange import Exchange

import okex_ws

BTC = "trades:BTC-USDT"


# -- Output
def test_offline_shows_live_trades_without_a_network():
    status, out, err = finish("--offline", "--count", "5")
    assert status == 0 and len(out.splitlines()) == 5
    for line in out.splitlines():
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} BTC-USDT +[\d.]+ +[\d.]+ (buy|sell)", line) and len(line) <= 80
    assert "trades:BTC-USDT subscribed." in err and "made up" in err
    assert max(map(len, err.splitlines())) <= 80


def test_pings_are_told_where_one_connection_prints_rows_and_the_first_pong_everywhere_unless_it_is_quiet(tmp_path):
    channel, rows = "ok_sub_futureusd_btc_trade_quarter", ("--jsonl", str(tmp_path / "rows"))
    often = ["--offline", "--ping-every", "0.1"]
    process = program(*often, channel)
    until(process.stderr, "Ping sent.", "Pong received.", f"{channel} subscribed.")
    process.terminate()
    process.communicate(timeout=10)
    cases = ([BTC, *rows], [BTC, "candle1m:BTC-USDT"], [BTC, *rows, "--trace"], [BTC, "--quiet"])
    for arguments, _, _, err in finish_all([*often, "--seconds", "3", *more] for more in cases):
        quiet = "--quiet" in arguments
        assert ("Ping sent" in err) == ("--trace" in arguments) and (err == "") == quiet, arguments
        assert quiet or 1 <= err.count("Pong received") <= 2 or "--trace" in arguments, arguments
        assert ('> {"id":"r1","op":"subscribe"' in err and '< {"arg":{' in err) == ("--trace" in arguments), arguments


RECORDS = """
import sys, threading, okex_ws
wait = threading.Event.wait  # ten minutes are a second, and one is a tenth
threading.Event.wait = lambda event, seconds=None: wait(event, seconds / 600 if seconds in (60, 600) else seconds)
sys.exit(okex_ws.main(sys.argv[1:]))
"""


def test_a_recording_tells_its_terminal_how_many_rows_it_has_even_a_quiet_one(exchange, tmp_path):
    arguments = [BTC, "--url", exchange.url, "--quiet", "--jsonl", str(tmp_path / "rows"), "--seconds", "2.5"]
    ours, theirs = pty.openpty()
    process = program(*arguments, code=RECORDS, stderr=theirs)
    assert process.wait(20) == 0
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        *reports, summary = terminal.read(65536).decode().splitlines()
    assert 1 <= len(reports) <= 3 and all(re.search(r" \d+ rows? written by --jsonl[.,]", line) for line in reports)
    assert re.search(r" \d+ rows in .* rows written by --jsonl", summary)
    assert finish(*arguments, "--count", "3", code=RECORDS)[2] == ""  # into a pipe


def test_final_keeps_final_candles_alone_in_print_and_in_every_sink(tmp_path, exchange):
    arguments = ["--url", exchange.url, "--final", "--count", "3", "candle1s:BTC-USDT"]
    file, database = tmp_path / "rows.jsonl", tmp_path / "rows.db"
    sinks = ["--jsonl", str(file), "--sqlite", str(database)]
    (_, _, out, _), _ = finish_all([arguments, [*arguments, *sinks]])
    assert len(out.splitlines()) == 3 and all(line.endswith(" final") for line in out.splitlines())
    kept = [json.loads(line)["row"] for line in file.read_text().splitlines()]
    kept += [json.loads(row) for (row,) in sqlite3.connect(database).execute("SELECT row FROM rows")]
    assert [row["confirm"] for row in kept] == ["1"] * 6


def test_a_terminal_that_stands_still_stops_neither_rows_nor_the_end(exchange, tmp_path):
    ours, theirs = pty.openpty()  # nobody reads it
    rows, market = tmp_path / "rows", exchange.instrument("BTC-USDT")
    for arguments, stuck, number, status in (
        (["--trace", "--jsonl", rows], "stderr", signal.SIGTERM, 0),
        (["--jsonl", "-", "books:BTC-USDT"], "stdout", signal.SIGINT, 130),
    ):
        process = program(BTC, "--url", exchange.url, *arguments, **{stuck: theirs})
        seen = market.sequence
        wait_for(lambda seen=seen: market.sequence > seen + 200)
        process.send_signal(number)
        assert process.wait(15) == status, stuck
        assert stuck == "stderr" or "reconnects" in process.stderr.read()
    assert len(rows.read_text().splitlines()) > 50
    os.close(ours)
    os.close(theirs)


# -- Ending
def test_stops_by_itself_after_so_many_rows_or_so_long(exchange):
    status, out, err = finish(BTC, "--url", exchange.url, "tickers:BTC-USDT", "--count", "20", "books5:BTC-USDT")
    assert (status, len(out.splitlines())) == (0, 20)
    assert re.search(r" 20 rows in \d+ messages over [\d.]+ s, 0 reconnects\.", err)
    assert all(f"{name}:BTC-USDT subscribed" in err for name in ("trades", "tickers", "books5"))
    assert re.search(r" 1 row in \d+ messages? over ", finish(BTC, "--url", exchange.url, "--count", "1")[2])
    status, out, err = finish(BTC, "--url", exchange.url, "--seconds", "1.5")
    assert status == 0 and out and float(re.search(r"over ([\d.]+) s", err)[1]) >= 1.5


@pytest.fixture
def busy_port():
    """A port whose server accepts nobody: the backlog is full, so that connecting hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as filler:
        filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("state", ["streaming", "silent", "retrying", "handshake", "connecting"])
def test_a_signal_ends_it_in_every_state(exchange, busy_port, state):
    exchange.mute = state == "handshake"
    exchange.http_status = 503 if state == "retrying" else 0
    url = f"ws://127.0.0.1:{busy_port}" if state == "connecting" else exchange.url
    processes = {number: program(BTC, "candle1m:BTC-USDT", "--url", url) for number in (signal.SIGINT, signal.SIGTERM)}
    for process in processes.values():
        if state in ("streaming", "silent"):
            until(process.stdout, "BTC-USDT")
        else:
            until(process.stderr, "Next try" if state == "retrying" else "Connecting to")
    exchange.silent = state == "silent"
    wait_for(lambda: state != "handshake" or exchange.handshakes == 4)
    for number, process in processes.items():
        process.send_signal(number)
        _, err = process.communicate(timeout=15)
        connected = state in ("streaming", "silent")
        assert process.returncode == (130 if number == signal.SIGINT else int(not connected)), number
        assert "reconnects" in err and "Traceback" not in err
        assert connected or "Never connected: " in err.splitlines()[-1]


def test_nohup_keeps_it_alive_when_the_window_is_closed(exchange):
    ignore = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    for how, status in ((ignore, None), (None, 0)):
        process = program(BTC, "--url", exchange.url, "--ping-every", "0.1", preexec_fn=how)
        until(process.stdout, "BTC-USDT")
        process.send_signal(signal.SIGHUP)
        if status is None:
            seen = len(exchange.requests)
            wait_for(lambda seen=seen: len(exchange.requests) > seen + 2)  # it still pings
            assert process.poll() is None
            process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0


WAYS = ((signal.SIGINT, 130), (signal.SIGTERM, 1))  # and the status where it never connected
SLOW_TO_END = """
import sys, time, okex_ws
sum_up = okex_ws.Run.sum_up
okex_ws.Run.sum_up = lambda run: (time.sleep(2), sum_up(run))
sys.exit(okex_ws.main(sys.argv[1:]))
"""


def test_a_double_press_on_a_slow_machine_leaves_the_whole_summary(busy_port):
    cases = {interruptible("-c", SLOW_TO_END, BTC, "--url", f"ws://127.0.0.1:{busy_port}"): way for way in WAYS}
    for process, (number, _) in cases.items():
        until(process.stderr, "Connecting to")
        for _ in range(3):
            process.send_signal(number)
            time.sleep(0.1)
    for process, (_, status) in cases.items():
        _, err = process.communicate(timeout=20)
        assert process.returncode == status and "reconnects" in err and "Never connected" in err.splitlines()[-1]


LOOKS_UP_FOR_EVER = """
import ctypes, runpy, socket, sys

def getaddrinfo(*_, **__):
    print("looking up", flush=True)
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    while True:  # in C, where no signal is noticed: a mutex is locked twice
        libc.pthread_mutex_lock(mutex)

socket.getaddrinfo = getaddrinfo
sys.argv[0] = "okex_ws.py"
runpy.run_path("okex_ws.py", run_name="__main__")
"""


def test_a_name_that_is_looked_up_for_ever_holds_nobody_up():
    arguments = ("-c", LOOKS_UP_FOR_EVER, BTC, "--url", "ws://exchange.test")
    ways = [(*way, ()) for way in WAYS] + [(None, 1, ("--seconds", "2"))]
    for process, (number, status, _) in {interruptible(*arguments, *way[2]): way for way in ways}.items():
        until(process.stdout, "looking up")
        if number:
            process.send_signal(number)
        _, err = process.communicate(timeout=15)
        assert process.returncode == status and "reconnects" in err and "Traceback" not in err, number


NEVER_WRITES = """
import sys, threading, okex_ws
class Stuck(okex_ws.Sink):
    def write(self, *_):
        print("stuck", flush=True)
        threading.Event().wait()
okex_ws.SINKS["stuck"] = Stuck
sys.exit(okex_ws.main(sys.argv[1:]))
"""


def test_one_more_ctrl_c_gives_up_what_a_sink_does_not_write(exchange):
    arguments = (BTC, "--url", exchange.url, "--stuck", "x")
    for process, (first, status) in {program(*arguments, code=NEVER_WRITES): way for way in WAYS}.items():
        until(process.stdout, "stuck")
        process.send_signal(first)
        until(process.stderr, "Ctrl-C again gives up")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
        assert process.returncode == status, first
        assert re.search(r"--stuck: \d+ rows? could not be written", err) and " 0 rows written by --stuck" in err


GOES_ON = """
import signal, sys, threading, time, okex_ws
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
assert okex_ws.main([*sys.argv[1:], "--count", "1"]) == 0
threads = []
thread = threading.Thread(target=lambda: threads.append(okex_ws.main([*sys.argv[1:], "--seconds", "1"])))
thread.start()
thread.join()
assert threads == [0] and before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
time.sleep(2)
print("goes on", flush=True)
time.sleep(60)
"""


def test_what_calls_main_goes_on_after_it_and_has_its_signals_back_as_has_what_calls_run(exchange):
    runs = f"import okex_ws; okex_ws.OkexWS([{BTC!r}], url={exchange.url!r}).run()"
    processes = {"goes on": interruptible("-c", GOES_ON, BTC, "--url", exchange.url)}
    processes["BTC-USDT"] = interruptible("-c", runs)
    for said, process in processes.items():
        until(process.stdout, said)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=15)[1].splitlines()[-1], said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_pipe_that_closes_ends_it_quietly_and_a_full_disk_and_a_closed_stdout_do_not(exchange):
    for arguments in ([BTC, "--url", exchange.url, "--quiet"], ["--list", "all"]):
        process = program(*arguments, env={"PYTHONUNBUFFERED": ""})
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=10) == 0 and process.stderr.read() == "", arguments
    command = f"{sys.executable} {SCRIPT} {BTC} --url {exchange.url} --quiet"
    for where in (">/dev/full", ">&-"):
        run = subprocess.run(f"{command} {where}", shell=True, stderr=subprocess.PIPE, text=True, timeout=50)
        assert run.returncode == 1 and "Cannot write to stdout" in run.stderr and "Traceback" not in run.stderr, where


def test_a_run_that_never_connected_fails_with_the_reason(kept_port, busy_port):
    for port, seconds, reason in ((kept_port, "2", "refused"), (busy_port, "0.5", "first try")):
        status, out, err = finish(BTC, "--url", f"ws://127.0.0.1:{port}", "--seconds", seconds, "--quiet")
        assert (status, out) == (1, "")
        assert "Never connected: " in err.splitlines()[-1] and reason in err.splitlines()[-1]


def test_each_try_without_a_network_is_one_line_and_after_three_it_says_what_may_help(kept_port):
    process = program(BTC, "--url", f"wss://a-long-name.{'x' * 16}.invalid:{kept_port}")
    err = until(process.stderr, "--offline.", within=40)
    process.terminate()
    process.communicate(timeout=15)
    tries = [line[9:] for line in err.splitlines() if "Next try" in line]
    assert tries and len(tries) == 3
    ways = "Blocked? --proxy URL. Account of my.okx.com? --region eea. Just looking? --offline."
    assert err.splitlines()[-1][9:] == ways


def test_ends_when_every_channel_was_refused(exchange):
    status, out, err = finish("trades:NOPE-USDT", "candle1m:NOPE-USDT", "--url", exchange.url)
    assert (status, out) == (1, "")
    assert "60018" in err and "check the spelling" in err and "every channel was refused" in err
    status, out, err = finish("trades:NOPE-USDT", "candle1m:BTC-USDT", "--url", exchange.url, "--count", "3")
    assert status == 0 and len(out.splitlines()) == 3, err  # the other client goes on


def test_a_depth_has_an_effect_on_books_that_a_pattern_stands_for(exchange):
    status, out, err = finish("books:BTC-*-SWAP", "--depth", "2", "--url", exchange.url, "--count", "1")
    assert (status, len(out.splitlines())) == (0, 5), err


# -- What it is told
def test_wrong_usage_is_told_in_a_line_that_names_it(tmp_path, capsys):
    wrong = {
        "--count -1": "want a number of 1 or more",
        "--count 1e3": "--count: invalid int value: '1e3'",
        "--seconds soon": "--seconds: invalid length_of_time value: 'soon'",
        "--ping-every nan": "--ping-every: invalid length_of_time value: 'nan'",
        "--depth 5": "--depth has no effect without an order book",
        "--final --url ws://127.0.0.1:9 spot/candle60s:A-B ok_sub_spot_a_b_ticker": "--final has no effect",
        "--sqlite trades:BTC-USDT": "want a FILE first",
        "--jsonl ok_sub_spot_btc_usdt_ticker": "want a FILE first",
        "--region eu": "no region 'eu': choose global, eea (the EU) or us",
        "--ofline": "Did you mean --offline?",
        "-board": "Did you mean --board?",
        "--json=x": "Did you mean --jsonl - or --jsonl FILE?",
        "--csv rows.csv": "Did you mean --sqlite FILE or --jsonl FILE?",
        "trades BTC-USDT": "Did you mean trades:BTC-USDT?",
        "trade ethusdt btc-perp": "Did you mean trades:ETH-USDT trades:BTC-USDT-SWAP?",
        "tickers:BTC-USDT *-USDC status": "Did you mean tickers:BTC-USDT tickers:*-USDC status?",
        "--url example.com": "is not a WebSocket URL",
        "--json rows.jsonl": "unrecognized arguments: --json",
        "--proxy ftp://x:1": "a proxy is written",
        "--nonsense": "unrecognized arguments: --nonsense",
        "trades:BTC-USDT, ETH-USDT": "Did you mean trades:BTC-USDT trades:ETH-USDT?",
        "ticker:btcusdt": "tickers:BTC-USDT",
        "spot/ticker:BTC-USDT": "tickers:BTC-USDT",
        f"--jsonl {tmp_path}/no/rows": "No such file",
    }
    runs, parsed = [], []
    for text in wrong:
        try:
            okex_ws.parse_arguments(text.split())
            parsed.append(text.split())  # and is refused later
        except ValueError:
            parsed.append(text.split())
        except SystemExit as end:
            runs.append((text.split(), end.code, *capsys.readouterr()))
    for arguments, status, out, err in [*runs, *finish_all(parsed)]:
        told = err.splitlines()[-1]
        assert "--nonsense" not in arguments or "Did you mean" not in told
        assert (status, out) == (2, "") and wrong[" ".join(arguments)] in told and "Traceback" not in err, arguments
    for text, seconds in {"90": 90, "1.5s": 1.5, "90m": 5400, "2h": 7200, ".5d": 43200, "0": 0}.items():
        args = okex_ws.parse_arguments(["--seconds", text, "--since", text])
        assert args.seconds == seconds and bool(args.since) == bool(seconds), text


def test_options_and_channels_may_stand_in_a_file(tmp_path, exchange):
    file, rows = tmp_path / "okex.conf", tmp_path / "desk#1.jsonl"
    text = f"# what's mine\n--url '{exchange.url}' --count 3 --jsonl {rows}  # rows\n\ntrades:ETH-USDT\n"
    file.write_text(text)
    status, _, err = finish(f"@{file}", "--quiet")
    assert (status, rows.read_text().count("trades:ETH-USDT")) == (0, 3), err
    file.write_text(f"{text}@{file}")  # itself
    for name in (str(file), "nowhere.conf"):
        status, _, err = finish(f"@{name}")
        assert status == 2 and name in err and "Traceback" not in err, err
    assert finish("--version")[1] == f"okex_ws {okex_ws.__version__}\n"


# -- What is missing
def test_the_file_alone_works_and_offline_says_what_it_needs(tmp_path, exchange):
    copy = tmp_path / "okex_ws.py"
    copy.write_bytes(SCRIPT.read_bytes())
    run = partial(subprocess.run, capture_output=True, text=True, timeout=30)
    assert run([sys.executable, copy, BTC, "--count", "1", "--url", exchange.url]).returncode == 0
    lost = run([sys.executable, copy, "--offline"])
    assert lost.returncode == 2 and "tests/exchange.py" in lost.stderr.splitlines()[-1]


def test_what_is_not_installed_is_told_in_one_line_with_its_command(tmp_path):
    (tmp_path / "websocket.py").write_text("def enableTrace(): pass\n")  # the other package called websocket
    run = f"runpy.run_path({str(SCRIPT)!r}, None, '__main__')"
    for hidden, path, status, told in (
        ("websocket", "", 1, "pip install websocket-client"),
        ("nothing", str(tmp_path), 1, "pip install websocket-client"),
        ("python_socks", "", 2, "pip install python-socks"),
    ):
        code = f"import runpy, sys; sys.modules[{hidden!r}] = None; {run}"
        command = [sys.executable, "-c", code, "--proxy", "socks5://127.0.0.1:1"]
        environment = {**os.environ, "PYTHONPATH": path}
        lost = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
        assert lost.returncode == status, (hidden, lost.stderr)
        assert len(lost.stderr.splitlines()) == 1 and told in lost.stderr, (hidden, lost.stderr)


def test_a_python_that_is_too_old_meets_a_sentence():
    """Its SyntaxError prints the line of the first `match` statement, with its comment."""
    source = SCRIPT.read_text()
    first = min(node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Match))
    assert "# a SyntaxError here? okex_ws needs Python 3.10 or later" in source.splitlines()[first - 1]


STOPPED_WHILE_IT_IMPORTS = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "websocket":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
runpy.run_path("okex_ws.py", run_name="__main__")
"""


def test_ctrl_c_before_all_is_imported_leaves_no_traceback():
    process = interruptible("-c", STOPPED_WHILE_IT_IMPORTS)
    assert process.communicate(timeout=15) == ("", "") and process.returncode == -signal.SIGINT


def test_ctrl_c_at_any_moment_of_the_start_has_its_status(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    for what in ("Console", "parse_arguments", "Console.drain"):
        with monkeypatch.context() as patch:
            patch.setattr(f"okex_ws.{what}", interrupt)
            assert okex_ws.main(["--list", "v1"]) == 130, what


def interruptible(*command):
    """Start Python in the folder of okex_ws.py. What a shell starts in the background ignores SIGINT; this does not."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, *command], cwd=SCRIPT.parent, preexec_fn=restore, **pipes)


def test_the_stand_in_runs_by_itself():
    process = interruptible("tests/exchange.py")
    urls = [process.stdout.readline().strip() for _ in range(7)]
    try:
        url = next(url for url in urls if url.endswith("/ws/v5/public"))
        assert finish(BTC, "--url", url, "--count", "1")[0] == 0
        export, *variables = shlex.split(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert err == ""
    assert export == "export" and [v.partition("=")[2] for v in variables] == list(Exchange.keys)
