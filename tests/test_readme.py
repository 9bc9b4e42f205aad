"""The README: every program and every command in it runs, and what it shows is what is printed.

Each runs as its reader would run it, in a process of its own. What it takes for the exchange, over TLS and under the
exchange's own names, is the stand-in: in these processes every name leads to this machine. A program that would run
for ever is ended with Ctrl-C once it has printed what it should, and must then end without a traceback.
"""

import json
import os
import re
import shlex
import signal
import sqlite3
import ssl
import subprocess
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
import trustme
from conftest import Terminal, finish, wait_for
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


def blocks(language):
    """The README's code blocks of a language: (where each begins, its code)."""
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
    return [(fence.start(), fence[2]) for fence in fences if fence[1] == language]


def commands():
    """Every command in the README that starts Python, in blocks and between words."""
    found = re.findall(r"(?:^|&& |`)python ((?:okex_ws\.py|tests/|-m )[^`\n]*|okex_ws\.py)", README, re.M)
    return list(dict.fromkeys(command.strip() for command in found))


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
        keys = dict(zip(okex_ws.Credentials.VARIABLES, exchange.keys))
        paths = {"SSL_CERT_FILE": str(certificate), "PYTHONPATH": str(folder / "site"), "PYTHONUNBUFFERED": "1"}
        self.environment = {n: v for n, v in os.environ.items() if "proxy" not in n.lower()} | keys | paths

    def start(self, *arguments):
        """Start Python. What it prints goes to files, so that no pipe fills up."""
        number = len(self.processes)
        with open(self.folder / f"out{number}", "wb") as out, open(self.folder / f"err{number}", "wb") as err:
            environment = self.environment | {"PORTS": json.dumps(self.ports)}
            options = {"cwd": self.folder, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
            process = subprocess.Popen([sys.executable, *arguments], env=environment, **options)
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
def redis_url(desk, redis_server):
    """A Redis server that is at redis://localhost for what runs at the desk; its URL for the test itself."""
    desk.ports["6379"] = redis_server.port
    yield redis_server.url
    desk.stop()


def rows_in(path):
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as db:  # the table may not be there yet
        return db.execute("SELECT count(*) FROM rows").fetchone()[0]


# -- Programs
TRADE = r"^[\d.]+ [\d.]+ (buy|sell)$"
SHOWN = {  # what a program prints, by a text that is in no other one
    "# Ctrl-C": TRADE,
    "book.best_bid, book.best_ask": r"^\('[\d.]+', '[\d.]+'\) \('[\d.]+', '[\d.]+'\) [\d.]+ [\d.]+ \(\[\[",
    "account.request": r"(?s)placed: \[{.ordId.: .1000.",
    "okex_ws.SINKS": r"",
    "def orders(path)": r"^the same orders twice: True$",
    "for row in RedisFeed(": r"^[\d.]+ [\d.]+$",
    "print(RedisFeed(": r"'last': '[\d.]+'",
    "pandas": r"^ts +o +h +l +c +vol|^ +o +h +l +c +vol",
    "prices = deque(": r"^\aBTC-USDT [+-]\d[\d.]*% within \d+ trades: [\d.]+$",
    "since=50": r"^the mean of 50 bars is [\d.]+$",
    "import asyncio": r"^trades:BTC-USDT [\d.]+$",
    "import clients": r"(?s)(?=.*^trades:BTC-USDT \{)(?=.*^candle1m:BTC-USDT \{)",
    "sinks=": r"^[\d.]+$",
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


def test_each_program_of_the_readme_runs_and_ends_on_ctrl_c(desk):
    examples = ("# Ctrl-C", "since=50", "import asyncio", "book.best_bid, book.best_ask", "import clients", "sinks=")
    for text in examples:
        run_example(desk, text)
    assert rows_in(desk.folder / "rows.db")


def test_each_market_order_of_the_examples_says_what_its_size_counts():
    for text in (README, okex_ws.OkexWS.request.__doc__):
        said = re.findall(r'"market".*\n.*"tgtCcy": "base_ccy".*# without tgtCcy', text)
        assert said and len(said) == text.count('"market"')


def test_the_file_can_be_pasted_as_the_readme_says(desk):
    code = blocks("python")[0][1]
    above = (ROOT / "okex_ws.py").read_text().rstrip().splitlines()[:-2]
    mine = [line for line in code.splitlines() if "import OkexWS" not in line]
    assert len(mine) == len(code.splitlines()) - 1
    (desk.folder / "okex_ws.py").unlink()
    (desk.folder / "pasted.py").write_text("\n".join([*above, *mine]))
    desk.run("pasted.py", shows=re.compile(TRADE, re.M).search)


def test_the_pandas_program_of_the_readme_reads_what_its_command_recorded(desk):
    pytest.importorskip("pandas")
    run = desk.start("okex_ws.py", "--offline", "--count", "20", "--sqlite", "rows.db", "candle1s:BTC-USDT")
    run.wait(60)
    with sqlite3.connect(desk.folder / "rows.db") as db:  # sooner than of a minute, bars of a second are final
        db.execute("UPDATE rows SET channel = 'candle1m:BTC-USDT'")
    run_example(desk, "pandas", ends=True)


def test_the_alert_of_the_readme_tells_of_a_jump(desk):
    def jump():
        with desk.exchange.lock:
            if "trades" in str(desk.exchange.requests):
                desk.exchange.instrument("BTC-USDT").middle += 300

    run_example(desk, "prices = deque(", meanwhile=jump)


def test_the_readme_places_an_order_orders_the_same_twice_and_has_a_sink_that_counts(desk):
    run_example(desk, "account.request", ends=True)
    assert [order["instId"] for order in desk.exchange.account.orders.values()] == ["BTC-USDT"]
    run_example(desk, "def orders(path)", ends=True)
    command = re.search(r"# python mine\.py (.*)", example("okex_ws.SINKS")[1])
    run_example(desk, "okex_ws.SINKS", after=shlex.split(command[1]), ends=True)
    assert (desk.folder / "FILE").read_text() == "20\n"


def test_the_programs_of_the_readme_read_what_the_command_above_them_keeps_in_redis(desk, redis_url):
    (command,) = (command for command in commands() if "--redis" in command)
    desk.start(*shlex.split(command))
    feed = RedisFeed(redis_url)
    wait_for(lambda: feed.get("tickers:BTC-USDT"))
    run_example(desk, "for row in RedisFeed(")
    run_example(desk, "print(RedisFeed(", ends=True)


# -- Commands
NOT_RUN = {"-m pytest tests", "tests/bench.py"}  # which runs this; which takes minutes, and other clients


def test_each_command_of_the_readme_runs_and_ends_on_ctrl_c(desk, redis_url):
    assert set(commands()) > NOT_RUN
    for command in commands():
        if command not in NOT_RUN:
            run_command(desk, shlex.split(command, comments=True), redis_url)


def test_the_service_of_the_readme_runs(desk, redis_url):
    ((_, unit),), ((_, options),) = blocks("ini"), blocks("conf")
    starts = "/opt/okex_ws/.venv/bin/python /opt/okex_ws/okex_ws.py @/opt/okex_ws/okex.conf"
    assert re.search(r"^ExecStart=(.*)", unit, re.M)[1] == starts
    run_command(desk, ["okex_ws.py", *shlex.split(options, comments=True)], redis_url)


def run_command(desk, arguments, redis_url):
    if "--board" in arguments:
        return run_board(desk, arguments)
    ends = bool({"--count", "--list", "--replay", "tests/bench_book.py"} & set(arguments))
    shows = bool  # something on stdout
    if "--redis" in arguments:
        feed = RedisFeed(redis_url)
        channel = next(word for word in arguments if ":BTC" in word)
        shows = lambda _: feed.get(channel)  # noqa: E731
    elif "--sqlite" in arguments:
        shows = lambda _: rows_in(desk.folder / "rows.db")  # noqa: E731
    elif "--jsonl" in arguments:
        file = desk.folder / "book.jsonl"
        shows = lambda _: file.exists() and file.read_text()  # noqa: E731
    if "--port" in arguments:
        arguments[arguments.index("--port") + 1] = "0"
    desk.run(*arguments, shows=shows, ends=ends, status=130 if "okex_ws.py" in arguments and not ends else 0)


def run_board(desk, arguments):
    """Run a command on a terminal of 80x24 until its board shows trades, and end it with Ctrl-C."""
    screen = Terminal(*arguments[1:], cwd=desk.folder, **desk.environment, PORTS=json.dumps(desk.ports))
    desk.processes.append(screen.process)
    screen.until("% bought")
    assert "Traceback" not in screen.end(signal.SIGINT) and screen.process.returncode == 130


# -- What it says
def test_the_readme_has_the_options_as_help_prints_them_and_files_that_are_there():
    assert all((ROOT / requirements).exists() for requirements in re.findall(r"-r (\S+\.txt)", README))
    printed = finish("--help")[1].splitlines()
    listed = [line[2:] for line in printed if line.startswith("  --") and "--version" not in line]
    assert listed and "\n".join(listed) in README
