import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar import __version__
from sidecar.cli import main

GOOD = "upstreams: {a: {url: http://a}}\n"
WARNED = "upstreams: {a: {url: http://a, breaker: {open_duration: 1s}}}\n"
BAD = "upstreams: {a: {url: ftp://a}}\nproxi: 1\n"


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """`sidecar run` holds signals to its end, which here is not the end of the process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def written(folder: Path, text: str) -> str:
    file = folder / "sidecar.yaml"
    file.write_text(text)
    return str(file)


def exit_code(*argv: str) -> int:
    try:
        return main(argv)
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize(
    ("text", "flags", "code"),
    [(GOOD, [], 0), (GOOD, ["--strict"], 0), (WARNED, [], 0), (WARNED, ["--strict"], 1), (BAD, [], 1)],
)
@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_check_exits_by_the_worst_finding(tmp_path: Path, text: str, flags: list[str], code: int, form: str) -> None:
    assert exit_code("check", "-c", written(tmp_path, text), "--format", form, *flags) == code


def test_check_shows_every_error_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, BAD)
    main(["check", "-c", file])
    shown = capsys.readouterr().out
    assert f"{file}:1:22: error: url: the scheme 'ftp' is not supported\n" in shown
    assert "\n    proxi: 1\n    ^^^^^\n    hint: did you mean 'proxy'?\n" in shown
    assert shown.endswith(f"{file}: 2 errors, 0 warnings\n")


@pytest.mark.parametrize(
    ("text", "summary"),
    [(GOOD, "clean (1 upstream, 1 route)"), (WARNED, "usable (1 upstream, 1 route); 0 errors, 1 warning")],
)
def test_check_sums_up(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, summary: str) -> None:
    file = written(tmp_path, text)
    main(["check", "-c", file])
    assert capsys.readouterr().out.endswith(f"{file}: {summary}\n")


def test_check_speaks_json_and_github(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, BAD)
    main(["check", "-c", file, "--format", "json"])
    assert [each["line"] for each in json.loads(capsys.readouterr().out)["problems"]] == [1, 2]
    main(["check", "-c", file, "--format", "github"])
    assert capsys.readouterr().out.startswith(f"::error file={file},line=1,col=22,")


def test_the_environment_names_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_CONFIG", written(tmp_path, BAD))
    assert exit_code("check") == 1
    assert exit_code("check", "-c", written(tmp_path, GOOD)) == 0


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["check"],
        ["run"],
        ["explain", "GET", "/"],
        ["check", "-c", "x", "--format", "xml"],
        ["explain", "-c", "x", "GET"],
        ["explain", "-c", "x", "GET", "/", "-H", "no colon"],
        ["healthcheck", "--url", "nowhere"],
        ["schema", "extra"],
        ["demo", "--scenario", "unheard-of"],
        ["demo", "--plot", "x.svg"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_64_and_says_why(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*argv) == 64
    assert "usage: sidecar" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_an_error_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("check", "-c", "/nowhere/sidecar.yaml") == 1
    assert "/nowhere/sidecar.yaml:1:1: error: cannot read the file" in capsys.readouterr().out
    assert exit_code("explain", "-c", "/nowhere/sidecar.yaml", "GET", "/") == 64


def test_check_looks_at_the_files_that_the_configuration_names(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, GOOD + "admin: {token_file: /nowhere/token}\n")
    assert exit_code("check", "-c", file) == 1
    assert f"{file}:2:21: error: token_file: '/nowhere/token' cannot be read: " in capfd.readouterr().out
    assert exit_code("run", "-c", file) == 64
    assert f"{file}:2:21: error: token_file" in capfd.readouterr().err
    assert exit_code("explain", "-c", file, "GET", "/a/") == 0


def test_explain_shows_route_target_and_origin_of_each_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, GOOD + "routes: [{name: r, match: {prefix: /x, headers: {k: v}}, upstream: a}]\n")
    assert exit_code("explain", "-c", file, "GET", "/x/1?q=2", "-H", "K: v") == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["route", "r", f"{file}:2"] in shown
    assert ["sends", "GET", "http://a/x/1?q=2", f"{file}:2"] in shown


def test_explain_exits_1_without_a_route(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("explain", "-c", written(tmp_path, GOOD), "GET", "/none") == 1
    assert "nearest routes: a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "fields", "code", "said"),
    [
        ("LIST", [], 0, "LIST http://a/1"),
        ("TRACE", [], 1, "the answer is 501"),
        ("OPTIONS", ["-H", "Max-Forwards: 0"], 0, "the answer is 200"),
        ("G T", [], 64, "the answer is 400"),
    ],
)
def test_explain_says_what_becomes_of_any_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, fields: list[str], code: int, said: str
) -> None:
    assert exit_code("explain", "-c", written(tmp_path, GOOD), method, "/a/1", *fields) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def test_explain_refuses_a_bad_configuration_or_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("explain", "-c", written(tmp_path, BAD), "GET", "/") == 64
    assert "error: url:" in capsys.readouterr().err
    assert exit_code("explain", "-c", written(tmp_path, GOOD), "GET", "a b") == 64


def test_schema_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("schema") == 0
    assert json.loads(capsys.readouterr().out)["required"] == ["upstreams"]


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"circuit-sidecar {__version__}\n"


def test_healthcheck_asks_the_configured_listener(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, GOOD + f"telemetry: {{listen: 'unix:{tmp_path}/t.sock'}}\n")
    assert exit_code("healthcheck", "-c", file) == 1
    shown = capsys.readouterr().err
    assert shown == f"not ready: [Errno 2] No such file or directory (asked unix:{tmp_path}/t.sock for /readyz)\n"


BROKEN = {
    "a bad value": "upstreams: {{a: {{url: 17}}}}\n{telemetry}",
    "no upstream": "{telemetry}",
    "no YAML, before": "upstreams: {{a: [\n{telemetry}",
    "no YAML, behind": "{telemetry}upstreams: {{a: [\n",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_healthcheck_finds_the_listener_in_a_file_that_has_become_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setenv("TELEMETRY_PORT", "1")
    file = written(tmp_path, broken.format(telemetry="telemetry:\n  listen: 127.0.0.1:${TELEMETRY_PORT}\n"))
    assert exit_code("check", "-c", file) == 1
    assert exit_code("healthcheck", "-c", file) == 1
    assert capsys.readouterr().err.endswith(" (asked http://127.0.0.1:1/readyz)\n")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/readyz"),
        ("http://127.0.0.1:1/livez?x=1", "http://127.0.0.1:1/livez?x=1"),
        ("0.0.0.0:1", "http://127.0.0.1:1/readyz"),
        ("[::]:1", "http://[::1]:1/readyz"),
    ],
)
def test_a_failed_healthcheck_names_what_it_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, asked: str
) -> None:
    where = ["--url", given]
    if "://" not in given:
        where = ["-c", written(tmp_path, GOOD + f'telemetry: {{listen: "{given}"}}\n')]
    assert exit_code("healthcheck", *where) == 1
    assert capsys.readouterr().err.endswith(f" (asked {asked})\n")


def loaded_by(*argv: str) -> set[str]:
    script = (
        f"import sys; from sidecar.cli import main\ntry: main({list(argv)!r})\nfinally: print('\\n'.join(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("argv", "heavy"),
    [
        (["healthcheck", "--url", "http://127.0.0.1:1"], {"aiohttp", "uvloop", "httptools", "asyncio", "yaml"}),
        (["check", "-c", "/nowhere"], {"aiohttp", "uvloop", "httptools", "asyncio"}),
    ],
)
def test_small_commands_load_no_server(argv: list[str], heavy: set[str]) -> None:
    loaded = loaded_by(*argv)
    assert "sidecar.cli" in loaded
    assert loaded & heavy == set()


def test_the_package_runs_as_a_module() -> None:
    ran = subprocess.run([sys.executable, "-m", "sidecar", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"circuit-sidecar {__version__}\n"


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m sidecar schema | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("stream", "argv", "code"),
    [("stdout", ["schema"], 1), ("stderr", ["healthcheck", "--url", "http://127.0.0.1:1"], 1)],
)
def test_a_stream_that_nobody_reads_leaves_the_exit_code_alone(stream: str, argv: list[str], code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    where: dict[str, Any] = {stream: writing}
    ran = subprocess.run([sys.executable, "-m", "sidecar", *argv], check=False, **where)
    os.close(writing)
    assert ran.returncode == code


def test_a_healthcheck_may_wait_until_it_is_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.sock"
    file = written(tmp_path, GOOD + f"telemetry: {{listen: 'unix:{path}'}}\n")
    assert exit_code("healthcheck", "-c", file, "--wait", "200ms") == 1
    assert str(path) in capsys.readouterr().err

    def answer_late() -> None:
        time.sleep(0.2)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            call, _ = server.accept()
            with call:
                call.recv(4096)
                call.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    answering = threading.Thread(target=answer_late)
    answering.start()
    assert exit_code("healthcheck", "-c", file, "--wait", "30s") == 0
    answering.join()
