"""The README: every program and every command in it runs, and what it shows is what is printed.

Each runs as its reader would run it, in a process of its own. What it takes for the exchange, over TLS and under the
exchange's own names, is the stand-in: in these processes every name leads to this machine. A program that would run
for ever is ended with Ctrl-C once it has printed what it should, and must then end without a traceback.
"""

import fcntl
import json
import os
import plistlib
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import pytest
import trustme
from conftest import wait_for
from exchange import Exchange

import okex_ws
from okex_ws import RedisFeed

ROOT = Path(okex_ws.__file__).resolve().parent
README = (ROOT / "README.md").read_text()
HOSTS = [host.partition("://")[2] for hosts in okex_ws.REGIONS.values() for host in hosts]

# Imported by Python itself at the start of every process here.
EVERY_NAME_IS_THIS_MACHINE = """
import json, os, socket
ports, resolve = json.loads(os.environ["PORTS"]), socket.getaddrinfo
socket.getaddrinfo = lambda host, port, *rest, **more: resolve("127.0.0.1", ports.get(str(port), port), *rest, **more)
"""

# Runs a script cell by cell, as a notebook does, and gives each cell the time to show something.
CELLS = """
import sys, time
names = {}
for cell in open(sys.argv[1]).read().split("# %%")[1:]:
    exec("#" + cell, names)
    deadline = time.monotonic() + 10
    while not names["rows"] and time.monotonic() < deadline:
        time.sleep(0.01)
"""


def blocks(language):
    """The README's code blocks of a language: (where each begins, its code)."""
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
    return [(fence.start(), fence[2]) for fence in fences if fence[1] == language]


def commands():
    """Every command in the README that starts Python, in blocks and between words."""
    found = re.findall(r"(?:^|&& |`)python ((?:okex_ws\.py|tests/|-m )[^`\n]*|okex_ws\.py)", README, re.M)
    return list(dict.fromkeys(command.strip() for command in found))


def services():
    """What the definitions of services start."""
    (unit,), (agent,) = ([code for _, code in blocks(language)] for language in ("ini", "xml"))
    yield re.search(r"^ExecStart=(.*)", unit, re.M)[1].split()
    yield plistlib.loads(agent.encode())["ProgramArguments"]


# -- Where it runs


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*HOSTS).configure_cert(context)
    path = tmp_path_factory.mktemp("certificates") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return context, path


class Desk:
    """A folder with okex_ws.py and tests in it, and what is started there."""

    def __init__(self, folder, exchange, certificate):
        self.folder, self.exchange, self.processes = folder, exchange, []
        self.ports = {"443": exchange.port}
        for name in ("okex_ws.py", "tests"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(EVERY_NAME_IS_THIS_MACHINE)
        (folder / "cells.py").write_text(CELLS)
        keys = zip(okex_ws.Credentials.VARIABLES, exchange.keys)
        self.environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | {
            **dict(keys),
            "SSL_CERT_FILE": str(certificate),
            "PYTHONPATH": str(folder / "site"),
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments):
        """Start Python. What it prints goes to files, so that no pipe fills up."""
        number = len(self.processes)
        with open(self.folder / f"out{number}", "wb") as out, open(self.folder / f"err{number}", "wb") as err:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self.environment | {"PORTS": json.dumps(self.ports)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        process.printed = lambda what="out": (self.folder / f"{what}{number}").read_text()
        self.processes.append(process)
        return process

    def run(self, *arguments, shows, ends=False, status=0, meanwhile=lambda: None):
        """Run Python until the function `shows` is true of what it prints, then end it with Ctrl-C.

        What `ends` by itself is left to do so. Nothing may end with a traceback, or before it has shown that.
        """
        process = self.start(*arguments)

        def done():
            meanwhile()
            return process.poll() is not None or (not ends and shows(process.printed()))

        wait_for(done)
        if not ends:
            process.send_signal(signal.SIGINT)
            process.wait(20)
        said = process.printed("err")
        assert "Traceback" not in said, said
        assert process.returncode == status, said
        assert shows(process.printed()), f"{process.printed()}\n{said}"

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def desk(tmp_path, certificates):
    with Exchange(every=0.02, tls=certificates[0]) as exchange:
        desk = Desk(tmp_path, exchange, certificates[1])
        yield desk
        desk.stop()


@pytest.fixture
def redis_url(desk, kept_port):
    """A Redis server that is at redis://localhost for what runs at the desk; its URL for the test itself."""
    pytest.importorskip("redis")
    if not shutil.which("redis-server") and not os.environ.get("CI"):
        pytest.skip("needs redis-server")
    options = ("--port", str(kept_port), "--save", "", "--dir", str(desk.folder), "--bind", "127.0.0.1")
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL) as server:
        desk.ports["6379"] = kept_port
        wait_for(partial(listening, kept_port))
        yield f"redis://127.0.0.1:{kept_port}"
        desk.stop()
        server.terminate()


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def rows_in(path):
    if not path.exists():
        return 0
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT count(*) FROM rows").fetchone()[0]
    except sqlite3.OperationalError:  # the table is not there yet
        return 0
    finally:
        db.close()


# -- Programs

TRADE = r"^[\d.]+ [\d.]+ (buy|sell)$"
SHOWN = {  # what a program prints, by a text that is in no other one
    "# Ctrl-C": TRADE,
    "import pandas": r"^ +open +high +low +close +sz$",
    "import asyncio": r"^trades:BTC-USDT [\d.]+$",
    "# %%": r"^\d+ rows, the last at [\d.]+$",
    "PERCENT": r"^\aBTC-USDT [+-]\d[\d.]* % in 60 s: [\d.]+$",
    "exchange_ahead": r"^-?\d+ ms old; the last ping took [\d.]+ ms$",
    "for row in RedisFeed(": r"^[\d.]+ [\d.]+$",
    "feed.status(), feed.get(": r"'status': 'SUBSCRIBED'.*'last': '[\d.]+'",
    "book.best_bid, book.best_ask": r"^\('[\d.]+', '[\d.]+'\) \('[\d.]+', '[\d.]+'\) [\d.]+ [\d.]+ \(\[\[",
    # Two threads print, and what one print() writes in pieces may have the other's line in it.
    "account.request": r"(?s)(?=.*placed:)(?=.*\[{.ordId.: .1000.)(?=.*\S+ BTC-USDT +[\d.]+ +0.001 buy (live|filled))",
    "exchange.keys": r"(?s)answer:.*'ordId': '1000'.*'sCode': '0'",
    "okex_ws.SINKS": r"",
    "feed.subscribe(": r"(?s)'confirmed'.*'confirm': '0'.*^[\d-]+ [\d.]+ [\d.]+$",
}


def example(text):
    """The one program that has this text in it, and where it begins."""
    found = [(position, code) for position, code in blocks("python") if text in code]
    assert len(found) == 1, f"{len(found)} programs have {text!r}"
    return found[0]


def test_it_is_known_what_each_program_of_the_readme_prints():
    assert sorted(example(text)[1] for text in SHOWN) == sorted(code for _, code in blocks("python"))


def run_example(desk, text, *, before=(), after=(), **options):
    (desk.folder / "mine.py").write_text(example(text)[1])
    shows = re.compile(SHOWN[text], re.M).search
    desk.run(*before, "mine.py", *after, shows=shows, **options)


@pytest.mark.parametrize("text", ["# Ctrl-C", "import asyncio", "exchange_ahead", "book.best_bid, book.best_ask"])
def test_a_program_of_the_readme_runs_and_ends_on_ctrl_c(desk, text):
    run_example(desk, text)


def test_the_program_that_starts_a_stand_in_gets_an_answer_to_its_order(desk):
    run_example(desk, "exchange.keys", ends=True)


def test_the_file_can_be_pasted_as_the_readme_says(desk):
    code = blocks("python")[0][1]
    above = (ROOT / "okex_ws.py").read_text().rstrip().splitlines()[:-2]
    mine = [line for line in code.splitlines() if "import OkexWS" not in line]
    assert len(mine) == len(code.splitlines()) - 1
    (desk.folder / "okex_ws.py").unlink()
    (desk.folder / "pasted.py").write_text("\n".join([*above, *mine]))
    desk.run("pasted.py", shows=re.compile(TRADE, re.M).search)


def test_the_notebook_of_the_readme_shows_rows_in_its_second_cell(desk):
    run_example(desk, "# %%", before=["cells.py"], ends=True)


def test_the_pandas_program_of_the_readme_reads_what_its_command_recorded(desk):
    pytest.importorskip("pandas")
    recorded = desk.start("okex_ws.py", "--offline", "--count", "20", "--sqlite", "rows.db", "trades:BTC-USDT")
    recorded.wait(30)
    run_example(desk, "import pandas", ends=True)


def test_the_alert_of_the_readme_tells_of_a_jump(desk):
    def jump():
        with desk.exchange.lock:
            if "trades" in str(desk.exchange.requests):
                desk.exchange.instrument("BTC-USDT").middle += 300

    run_example(desk, "PERCENT", meanwhile=jump)


def test_the_strategy_of_the_readme_places_its_order(desk):
    def fall():  # so that the order is filled, if it came to rest before anybody was told
        with desk.exchange.lock:
            told = [name for session in desk.exchange.sessions for name in session.feeds if '"orders"' in name]
            if told and desk.exchange.account.orders:
                desk.exchange.instrument("BTC-USDT").middle -= 1

    run_example(desk, "account.request", meanwhile=fall)
    assert [order["instId"] for order in desk.exchange.account.orders.values()] == ["BTC-USDT"]


def test_the_sink_of_the_readme_becomes_an_option_and_counts_the_rows(desk):
    _, code = example("okex_ws.SINKS")
    arguments = shlex.split(re.search(r"# python mine\.py (.*)", code)[1])
    run_example(desk, "okex_ws.SINKS", after=arguments, ends=True)
    assert (desk.folder / "FILE").read_text() == "20\n"


@pytest.mark.parametrize("text", ["for row in RedisFeed(", "feed.status(), feed.get(", "feed.subscribe("])
def test_a_program_of_the_readme_reads_what_the_command_above_it_keeps_in_redis(desk, redis_url, text):
    position, _ = example(text)
    *_, command = (c for c in commands() if "--redis" in c and README.index(f"python {c}") < position)
    desk.start(*shlex.split(command))
    feed = RedisFeed(redis_url)
    wanted = [word for word in command.split() if ":BTC" in word]
    wait_for(lambda: all(feed.get(channel) for channel in wanted))
    run_example(desk, text)


# -- Commands

NOT_RUN = {
    "-m pytest tests": "it is what runs this",
    "tests/bench.py": "takes minutes, and other clients to compare with",
}


@pytest.mark.parametrize("command", [command for command in commands() if command not in NOT_RUN])
def test_a_command_of_the_readme_runs_and_ends_on_ctrl_c(desk, command, request):
    run_command(desk, shlex.split(command), request)


@pytest.mark.parametrize("service", list(services()), ids=["systemd", "launchd"])
def test_a_service_of_the_readme_runs(desk, service, request):
    assert service[:2] == ["/opt/okex_ws/venv/bin/python", "/opt/okex_ws/okex_ws.py"]
    run_command(desk, ["okex_ws.py", *service[2:]], request)


def run_command(desk, arguments, request):
    if "--board" in arguments:
        return run_board(desk, arguments)
    ends = bool({"--count", "--list", "tests/bench_book.py"} & set(arguments))
    shows = bool  # something on stdout
    if "--redis" in arguments:
        feed = RedisFeed(request.getfixturevalue("redis_url"))
        channel = next(word for word in arguments if ":BTC" in word)
        shows = lambda _: feed.get(channel)  # noqa: E731
    elif "--sqlite" in arguments:
        shows = lambda _: rows_in(desk.folder / "rows.db")  # noqa: E731
    if "--port" in arguments:
        arguments[arguments.index("--port") + 1] = "0"
    desk.run(*arguments, shows=shows, ends=ends, status=130 if "okex_ws.py" in arguments and not ends else 0)


def run_board(desk, arguments, shows=("% bought",)):
    """Run a command on a terminal of 80x24 until its board shows all of this, end it with Ctrl-C; what it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = desk.environment | {"PORTS": json.dumps(desk.ports), "TERM": "xterm", "LANG": "C.UTF-8"}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen([sys.executable, *arguments], cwd=desk.folder, env=environment, **streams)
    desk.processes.append(process)
    written = []

    def read(ours=ours):
        while select.select([ours], [], [], 0.01)[0]:
            written.append(os.read(ours, 65536))
        return b"".join(written).decode(errors="replace")

    wait_for(lambda: process.poll() is not None or all(re.search(pattern, read()) for pattern in shows))
    process.send_signal(signal.SIGINT)
    wait_for(lambda: [read(), process.poll()][1] is not None)
    text = read()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130 and "Traceback" not in text, text
    return re.sub(r"\033\[[\d;?]*[a-zA-Z]", "\n", text)


def test_the_board_that_the_readme_shows_is_what_is_drawn(desk):
    (shown,) = [code for _, code in blocks("") if "book, in sync" in code]
    assert len(shown.splitlines()) == 24 and max(map(len, shown.splitlines())) <= 80
    kinds = (r"instrument +last .*spread", "── BTC-USDT book, in sync ─", r"── trades, \d+% bought", "── log ─")
    drawn = run_board(desk, ["okex_ws.py", "--offline", "--board"], shows=kinds)
    for kind in kinds:
        assert re.search(kind, shown) and re.search(kind, drawn), kind
    names = set(re.findall(r"^[A-Z]+-USDT", shown, re.M))
    assert len(names) == 5 and names <= set(re.findall(r"^[A-Z]+-USDT", drawn, re.M))


def test_the_commands_that_are_not_run_are_there():
    assert NOT_RUN.keys() < set(commands())
    for requirements in re.findall(r"-r (\S+\.txt)", README):
        assert (ROOT / requirements).exists()


def alike(text):
    """Lines without what differs from run to run."""
    text = re.sub(r"\b(buy|sell)\b", "SIDE", re.sub(r"\d[\d.:]*", "N", text))
    return {" ".join(line.split()) for line in text.splitlines()}


def test_the_first_thing_that_the_readme_shows_is_what_is_printed(desk):
    shown = next(code for _, code in blocks("") if "trade_quarter subscribed." in code)
    shown = re.sub(r"^time .*\n", "", shown, flags=re.M)  # which names the columns on a terminal alone
    process = desk.start("okex_ws.py", "--offline")
    wait_for(lambda: process.printed().count("\n") >= 3 and "subscribed." in process.printed("err"))
    assert alike(shown) <= alike(process.printed("err") + process.printed())


@pytest.mark.parametrize("code", [code for _, code in blocks("") if code.startswith("$ ")])
def test_what_the_readme_shows_below_its_commands_is_what_they_print(desk, code):
    printed = []
    for line in code.splitlines():
        if not line.startswith("$ "):
            continue
        if line.startswith("$ sqlite3") and not shutil.which("sqlite3"):
            pytest.skip("needs sqlite3")
        line = line.removeprefix("$ ").replace("python ", f"{shlex.quote(sys.executable)} ", 1)
        run = subprocess.run(
            line, shell=True, cwd=desk.folder, env=desk.environment | {"PORTS": "{}"}, capture_output=True, text=True
        )
        refused = "Did you mean" in run.stderr
        assert refused or run.returncode == 0, run.stderr
        printed.append(run.stderr if refused else run.stdout)
    shown = "\n".join(line for line in code.splitlines() if not line.startswith("$ "))
    assert alike(shown) == alike("".join(printed))


# -- What it says


def test_every_option_is_in_the_readme_and_no_other():
    printed = subprocess.run(
        [sys.executable, ROOT / "okex_ws.py", "--help"], capture_output=True, text=True, timeout=20
    ).stdout.partition("\nchannels:")[0]
    (listed,) = [code for _, code in blocks("") if code.startswith("--offline")]
    named = re.compile(r"--[a-z][a-z-]*")
    assert set(named.findall(listed)) == set(named.findall(printed)) - {"--help", "--version"}
