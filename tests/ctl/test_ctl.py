"""`sidecar ctl` against a running sidecar."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.cli import main
from tests.support.origin import READ, WELL_BEHAVED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import InProcess

FAILING = (READ, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
POST = b"POST /items/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIDECAR_ADMIN", "SIDECAR_TOKEN", "SIDECAR_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "alice")


def address(sidecar: InProcess) -> str:
    host, port = sidecar.addresses["admin"][0]
    return f"{host}:{port}"


@dataclass
class Ctl:
    """Types commands."""

    capsys: pytest.CaptureFixture[str]
    sidecar: InProcess | None = None
    err: str = ""

    async def __call__(self, *argv: str, code: int = 0) -> str:
        """What the command prints."""
        where = ["--admin", address(self.sidecar)] if self.sidecar else []
        self.capsys.readouterr()

        def run() -> int:
            try:
                return main(["ctl", *argv, *where])
            except SystemExit as ended:
                return int(ended.code or 0)

        ended = await asyncio.to_thread(run)
        out, self.err = self.capsys.readouterr()
        assert ended == code, (out, self.err)
        return out

    async def json(self, *argv: str) -> Any:
        return json.loads(await self(*argv, "-o", "json"))


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Ctl:
    return Ctl(capsys)


@pytest.fixture
async def sidecar(start_origin: StartOrigin, start_sidecar: StartSidecar, ctl: Ctl) -> InProcess:
    """One whose circuit `all` has just opened."""
    upstream = {"breaker": {"failure_threshold": 2, "open_duration": "30s", "backoff": {"jitter": "0%"}}}
    running = await start_sidecar(await start_origin(FAILING, FAILING, WELL_BEHAVED), upstream=upstream)
    ctl.sidecar = running
    for _ in range(2):
        await running.exchange(POST)
    return running


# Looking


async def test_circuits_are_a_table_with_what_is_wrong(sidecar: InProcess, ctl: Ctl) -> None:
    titles, row = (await ctl("circuits")).splitlines()
    assert titles.split() == ["NAME", "STATE", "FOR", "FAILED", "NEXT", "PROBE", "WHY"]
    found = re.fullmatch(
        r"all   open   \ds   -       (29|30)s         2 consecutive failures, failure_threshold is 2", row
    )
    assert found, row
    assert await ctl.json("circuits") == await sidecar.api("GET", "/v1/circuits")


async def test_a_circuit_is_told_whole_with_the_requests_that_opened_it(sidecar: InProcess, ctl: Ctl) -> None:
    told = await ctl("circuit", "all")
    assert re.search(r"^state +open$", told, re.MULTILINE)
    assert re.search(r"^why it opened\n[-\d]+ [:\d]+  2 consecutive failures", told, re.MULTILINE)
    assert len(re.findall(r"POST    /items/1  503  \d+ ms", told)) == 2
    assert (await ctl.json("circuit", "all"))["trip"]["cause"] == "failure_threshold"
    await sidecar.api("POST", "/v1/circuits/all/reset")
    assert "the last trip, from which it recovered" in await ctl("circuit", "all")


async def test_events_are_listed_in_order_and_by_circuit(sidecar: InProcess, ctl: Ctl) -> None:
    await sidecar.api("DELETE", "/v1/cache?route=all")
    tripped, purged = (await ctl("events")).splitlines()
    assert re.fullmatch(r"[-\d]+ [:\d]+  circuit all: closed → open: .*", tripped)
    assert purged.endswith("cache: 0 entries purged by route all")
    assert (await ctl("events", "--limit", "1")).splitlines() == [purged]
    assert (await ctl("events", "--circuit", "all")).splitlines() == [tripped]
    first = (await ctl.json("events"))["events"][0]["id"]
    assert (await ctl("events", "--since", str(first))).splitlines() == [purged]


async def test_the_cache_is_told_by_route(ctl: Ctl, start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok"
    ctl.sidecar = await start_sidecar(await start_origin((READ, answer)), upstream={"cache": {"mode": "standard"}})
    for _ in range(4):
        await ctl.sidecar.get("/a")
    whole, titles, row = (await ctl("cache")).splitlines()
    assert re.fullmatch(r"1 stored answer, [\d.]+ KiB of 64 MiB", whole)
    assert titles.split() == ["ROUTE", "ENTRIES", "SIZE", "HIT", "RATIO", "RESULTS"]
    assert re.fullmatch(r"all    1        \d+ B +75%        hit 3, uri-miss 1", row), row
    assert (await ctl("purge", "/a")).splitlines() == ["1 stored answer purged", f"  {(await origin_url(ctl))}/a"]
    assert (await ctl.json("purge", "--route", "all"))["purged"] == 0


async def origin_url(ctl: Ctl) -> str:
    assert ctl.sidecar is not None
    (upstream,) = (await ctl.sidecar.api("GET", "/v1/upstreams"))["upstreams"]
    endpoint: str = upstream["endpoints"][0]
    return endpoint


async def test_top_shows_what_is_broken_and_what_clients_get(sidecar: InProcess, ctl: Ctl) -> None:
    await sidecar.exchange(POST)
    lines = (await ctl("top", "--once")).splitlines()
    assert lines[0] == "1 of 1 circuits not closed"
    assert re.fullmatch(r"requests  upstream [\d.]+/s, circuit [\d.]+/s", lines[1])
    assert re.fullmatch(r"latency   p50 [\d.]+ ms, p90 [\d.]+ ms, p99 [\d.]+ ms", lines[2])
    assert lines[3] == "cache     hit ratio -"
    assert re.fullmatch(r"all      open   \d+s +[\d.]+/s +- +\d+s +upstream 67%, circuit 33%  2 consec.*", lines[-1])


# Steering


async def test_forcing_a_circuit_and_giving_it_back(sidecar: InProcess, ctl: Ctl) -> None:
    told = await ctl("close", "all", "--ttl", "15m", "--reason", "trust me", "--actor", "bob")
    assert re.search(r"^state +forced-closed$", told, re.MULTILINE)
    assert re.search(r"^why +forced by bob until .*: trust me$", told, re.MULTILINE)
    assert re.search(r"^automatic state +open$", told, re.MULTILINE)
    assert (await sidecar.get()).status == 200
    assert (await ctl.json("auto", "all"))["override"] is None
    assert (await ctl.json("reset", "all", "--reason", "mended"))["state"] == "closed"
    assert "reset by alice: mended" in await ctl("events", "--limit", "1")
    override = (await ctl.json("open", "all"))["override"]
    assert (override["mode"], override["actor"]) == ("forced_open", "alice")
    assert (await sidecar.get()).status == 503
    assert (await ctl.json("observe", "all", "--ttl", "never"))["override"]["expires_at"] is None


async def test_reloading_says_what_changed_or_what_is_wrong(ctl: Ctl, tmp_path: Path, launch_sidecar: Any) -> None:
    process = await launch_sidecar(
        'proxy: {listen: "127.0.0.1:0"}\nadmin: {listen: "127.0.0.1:0"}\ntelemetry: {listen: "127.0.0.1:0"}\n'
        "upstreams: {a: {url: http://127.0.0.1:9}}\n"
    )
    ctl.sidecar = await process.ready()
    file = tmp_path / "sidecar0.yaml"
    file.write_text(file.read_text() + "defaults: {breaker: {failure_threshold: 3}}\n")
    checked = await ctl("reload", "--check")
    assert checked.splitlines() == ["changed: a", "unchanged: nothing", "needs restart: nothing"]
    assert await ctl("reload") == checked
    file.write_text(file.read_text() + "nonsense: 1\n")
    await ctl("reload", code=1)
    assert re.search(r"nothing was changed\n  line 6: .*nonsense", ctl.err)


async def test_faults_go_to_the_api_or_are_said_not_to_be_there(sidecar: InProcess, ctl: Ctl) -> None:
    calls = {(each["method"], each["path"]) for each in (await sidecar.api("GET", "/v1"))["calls"]}
    there = ("PUT", "/v1/faults/{route}") in calls
    told = await ctl("fault", code=0 if there else 1)
    assert "no faults" in told if there else "there is no call /v1/faults" in ctl.err
    await ctl("fault", "all", code=64)
    assert "say what the fault is" in ctl.err


# What goes wrong


async def test_an_unknown_circuit_exits_1_with_a_suggestion(sidecar: InProcess, ctl: Ctl) -> None:
    for command in ("circuit", "open", "close", "auto", "reset"):
        assert await ctl(command, "al", code=1) == ""
        assert ctl.err == "sidecar ctl: there is no circuit 'al'; did you mean 'all'?\n"
    await ctl("events", "--circuit", "al", code=1)
    await ctl("purge", "--route", "al", code=1)
    assert "did you mean 'all'?" in ctl.err
    assert sidecar.permits() == 0


@pytest.mark.parametrize("where", ["127.0.0.1:1", "http://127.0.0.1:1", "unix:/nowhere/admin.sock"])
async def test_when_nobody_listens_that_is_said(ctl: Ctl, where: str) -> None:
    await ctl("circuits", "--admin", where, code=1)
    assert f"nobody listens at {where}" in ctl.err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["circuit"],
        ["open"],
        ["open", "all", "--ttl", "soon"],
        ["circuits", "extra"],
        ["circuits", "-o", "xml"],
        ["purge"],
        ["purge", "/a", "--route", "all"],
        ["events", "--limit", "many"],
        ["events", "--limit", "0"],
        ["fault", "all", "--share", "50%"],
        ["completion", "fish"],
        ["circuits", "--token-file", "/nowhere/token"],
    ],
    ids=" ".join,
)
async def test_wrong_usage_exits_64(sidecar: InProcess, ctl: Ctl, argv: list[str]) -> None:
    assert await ctl(*argv, code=64) == ""
    assert ctl.err
    assert (await sidecar.api("GET", "/v1/circuits/all"))["override"] is None


@pytest.mark.parametrize("where", ["nowhere", "https://127.0.0.1:1", "127.0.0.1:x", "http://:1", ""])
async def test_what_is_no_address_is_wrong_usage(ctl: Ctl, where: str) -> None:
    await ctl("circuits", "--admin", where, code=64)
    assert "is no address" in ctl.err


def test_no_library_is_loaded_for_it() -> None:
    heavy = {"aiohttp", "asyncio", "httptools", "prometheus_client", "uvloop", "yaml"}
    program = f"""
import sys
from sidecar.cli import main
assert main(["ctl", "circuits", "--admin", "127.0.0.1:1"]) == 1
print(sorted({heavy!r} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_an_answer_of_something_else_is_no_traceback(ctl: Ctl, start_origin: StartOrigin) -> None:
    origin = await start_origin(WELL_BEHAVED)
    await ctl("circuits", "--admin", origin.url, code=1)
    assert "the answer is not the admin API's: 200 OK" in ctl.err


@pytest.mark.usefixtures("sidecar")
async def test_what_a_terminal_would_obey_is_not_printed(ctl: Ctl) -> None:
    told = await ctl("open", "all", "--reason", "\x1b[2J\x07gone")
    assert "\x1b" not in told
    assert "�[2J�gone" in told
    assert "\x1b" not in await ctl("circuits") + await ctl("events")


# Where the sidecar is, and who may ask


async def test_the_environment_says_where_the_sidecar_is(
    sidecar: InProcess, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECAR_ADMIN", f"http://{address(sidecar)}")
    ctl.sidecar = None
    assert "all" in await ctl("circuits")


async def test_a_unix_socket_can_be_asked(
    ctl: Ctl, start_origin: StartOrigin, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    where = f"unix:{tmp_path}/admin.sock"
    await start_sidecar(await start_origin(), top={"admin": {"listen": where}})
    assert "all" in await ctl("circuits", "--admin", where)


async def test_a_token_comes_from_a_file_or_the_environment(
    ctl: Ctl, start_origin: StartOrigin, start_sidecar: StartSidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = {"listen": "127.0.0.1:0", "token_file": str(tmp_path / "token")}
    ctl.sidecar = await start_sidecar(await start_origin(), top={"admin": settings})
    await ctl("circuits", code=1)
    assert "token" in ctl.err
    assert "all" in await ctl("circuits", "--token-file", str(tmp_path / "token"))
    monkeypatch.setenv("SIDECAR_TOKEN_FILE", str(tmp_path / "token"))
    assert "all" in await ctl("circuits")
    monkeypatch.delenv("SIDECAR_TOKEN_FILE")
    monkeypatch.setenv("SIDECAR_TOKEN", "s3cret")
    assert "all" in await ctl("circuits")


# Live


async def typed(sidecar: InProcess, *argv: str) -> asyncio.subprocess.Process:
    """A process of its own."""
    environment = {**os.environ, "SIDECAR_ADMIN": address(sidecar)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidecar", "ctl", *argv, stdout=asyncio.subprocess.PIPE, env=environment
    )


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(10):
        return (await process.stdout.readline()).decode()


async def interrupted(process: asyncio.subprocess.Process) -> int:
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


async def test_events_are_followed_until_interrupted(sidecar: InProcess) -> None:
    process = await typed(sidecar, "events", "--follow")
    assert "closed → open" in await line(process)
    await sidecar.api("POST", "/v1/circuits/all/reset", {"actor": "bob"})
    assert "reset by bob" in await line(process)
    assert await interrupted(process) == 0


async def test_events_of_one_circuit_are_followed_as_lines_of_json(sidecar: InProcess) -> None:
    process = await typed(sidecar, "events", "-f", "-o", "json", "--circuit", "all", "--limit", "1")
    first = json.loads(await line(process))
    await sidecar.api("DELETE", "/v1/cache?route=all")
    await sidecar.api("POST", "/v1/circuits/all/reset")
    second = json.loads(await line(process))
    assert (first["details"]["to"], second["details"]["to"], second["circuit"]) == ("open", "closed", "all")
    assert await interrupted(process) == 0


async def test_a_stream_that_ends_with_the_sidecar_is_a_failure(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(await start_origin())
    await sidecar.api("POST", "/v1/circuits/all/reset")
    process = await typed(sidecar, "events", "--follow")
    assert "reset" in await line(process)
    assert sidecar.app is not None
    await sidecar.app.control.end_orders()
    async with asyncio.timeout(10):
        assert await process.wait() == 1


@pytest.mark.parametrize("argv", [["top"], ["circuits", "--watch"], ["cache", "-w"]], ids=" ".join)
async def test_live_views_come_again_until_interrupted(sidecar: InProcess, argv: list[str]) -> None:
    process = await typed(sidecar, *argv)
    first = await line(process)
    while await line(process) != first:
        pass
    assert await interrupted(process) == 0


async def test_colours_are_for_terminals(sidecar: InProcess) -> None:
    def on_terminal(**more: str) -> str:
        primary, secondary = os.openpty()
        environment = {**os.environ, "SIDECAR_ADMIN": address(sidecar), "COLUMNS": "60", **more}
        environment.pop("NO_COLOR", None) if not more else None
        command = [sys.executable, "-m", "sidecar", "ctl", "circuits"]
        subprocess.run(command, stdout=secondary, env=environment, check=True)
        os.close(secondary)
        told = os.read(primary, 65536).decode()
        os.close(primary)
        return told

    coloured = await asyncio.to_thread(on_terminal)
    assert "\x1b[31mopen" in coloured
    assert max(len(re.sub(r"\x1b\[\d+m", "", each)) for each in coloured.splitlines()) == 60
    assert "\x1b" not in await asyncio.to_thread(lambda: on_terminal(NO_COLOR="1"))


# Completion

SHELLS = {
    "bash": (
        'COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _sidecar; printf "%s\\n" "${{COMPREPLY[@]}}"'
    ),
    "zsh": 'compadd() {{ shift; print -l -- "$@" }}; words=({words}); CURRENT=${{#words}}; _sidecar',
}


@pytest.mark.parametrize("shell", SHELLS)
async def test_shells_complete_commands_options_and_names(
    sidecar: InProcess, ctl: Ctl, shell: str, tmp_path: Path
) -> None:
    script = await ctl("completion", shell)
    (tmp_path / "sidecar").write_text(f'#!/bin/sh\nexec {sys.executable} -m sidecar "$@"\n')
    (tmp_path / "sidecar").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SIDECAR_ADMIN": address(sidecar),
    }

    async def offered(words: str) -> list[str]:
        command = f"{script}\n{SHELLS[shell].format(words=words)}"
        flags = ["-f"] if shell == "zsh" else ["--norc"]
        process = await asyncio.create_subprocess_exec(
            shell, *flags, "-c", command, stdout=asyncio.subprocess.PIPE, env=environment
        )
        printed, _ = await process.communicate()
        return printed.decode().split()

    assert {"run", "check", "ctl"} <= set(await offered('sidecar ""'))
    assert {"circuits", "open", "purge", "top"} <= set(await offered('sidecar ctl ""'))
    assert {"--ttl", "--reason", "--admin"} <= set(await offered("sidecar ctl open -"))
    assert await offered('sidecar ctl open ""') == ["all"]
