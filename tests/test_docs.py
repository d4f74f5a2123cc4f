"""What the documents show is what happens: their commands are run, their files are read, their links lead somewhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sidecar.adapters.config_file import load
from sidecar.adapters.demo_origin import Schedule
from sidecar.cli import main
from sidecar.demo.outage import Ports, introduction
from sidecar.pipeline.stack import STAGES
from tests.support.configured import LISTENERS, Configured
from tests.support.demo import BRIEFLY_HEALTHY, DEMO, Demo

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(ROOT.glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^## ", re.MULTILINE)
ANYTHING = "…"
PATIENCE = 30.0
FREE_PORTS = "".join(f"{name}: {json.dumps(said)}\n" for name, said in LISTENERS.items())
VARYING = re.compile(r"\d+")
MAKE = re.compile(r"(?:`|^)make ([a-z-]+)", re.MULTILINE)


STAGES_IN_WORDS = {
    "observe_stage": "count, log",
    "deadline_stage": "`timeouts.total`, deadline",
    "fallback_stage": "`fallback`",
    "fault_stage": "`fault`",
    "cache.stage": "`cache`",
    "rate_limit_stage": "`rate_limit`",
    "bulkhead_stage": "`bulkhead`",
    "retry_stage": "`retry`",
    "fleet.lease_stage": "`fleet`",
    "breaker_stage": "`breaker`",
    "trace_stage": "`tracing`",
}


@dataclass(frozen=True)
class Example:
    """A command of a console block, and the lines that it is shown to print."""

    command: str
    output: tuple[str, ...]

    def matches(self, printed: str) -> bool:
        """Whether the lines shown come in this order, digits aside, with more between only where `…` stands."""
        pattern = "".join(self._line(line) for line in self.output)
        return re.fullmatch(pattern, printed.replace("\r", "")) is not None

    def _line(self, line: str) -> str:
        if line == ANYTHING:
            return r"(?:.*\n)*?"
        return VARYING.sub(r"\\d+", re.escape(line)) + r"[ ]*\n"


def section(title: str) -> str:
    (text,) = [part for part in SECTION.split(README) if part.startswith(f"{title}\n")]
    return text


def blocks(language: str, text: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def examples(text: str) -> list[Example]:
    found = []
    for block in blocks("console", text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            found.append(Example(command, tuple(output)))
    return found


async def shell(command: str) -> str:
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    return printed.decode()


async def test_the_five_minutes_go_as_the_readme_tells() -> None:
    story = examples(section("Five minutes"))
    assert len(story) == 7
    demo = await Demo.start(*DEMO, BRIEFLY_HEALTHY)
    try:
        await demo.ready()
        for example in story:
            await shown(demo, example)
    finally:
        await demo.stop()


async def shown(demo: Demo, example: Example) -> None:
    """Run the command, again while the circuits have not come that far, until it prints what the README shows."""
    command = example.command
    for default, actual in (("4100", demo.proxy), ("4101", demo.admin), ("4102", demo.telemetry)):
        command = command.replace(f"http://127.0.0.1:{default}", actual)
    printed = await shell(command)
    async with asyncio.timeout(PATIENCE):
        while not example.matches(printed):
            seen = demo.output
            await demo.printed(re.escape(seen) + r"(?s:.+)")
            printed = await shell(command)


def test_the_demo_introduces_the_commands_that_the_readme_shows() -> None:
    introduced = introduction(Ports(), 8080, Schedule()).replace(" \\\n     ", "")
    for example in examples(section("Five minutes")):
        command = re.sub(r"curl (-s -X|-X)", "curl -X", example.command.split(" | ")[0])
        assert command in introduced


def test_the_commands_of_the_configure_section_print_what_it_shows(tmp_path: Path) -> None:
    text = section("Configure")
    (config,) = blocks("yaml", text)
    (tmp_path / "sidecar.yaml").write_text(config)
    (tmp_path / ".venv").symlink_to(sys.prefix)  # where the Makefile makes it, beside the file that the reader saved
    for example in examples(text):
        done = subprocess.run(
            ["sh", "-c", example.command],
            cwd=tmp_path,
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            check=True,
        )
        assert example.matches(done.stdout), done.stdout


@pytest.mark.parametrize("target", sorted({name for text in DOCUMENTS for name in MAKE.findall(text.read_text())}))
def test_make_knows_the_targets_that_the_documents_name(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


CTL = [line for line in "\n".join(blocks("sh", README)).splitlines() if "sidecar ctl " in line]


@pytest.mark.parametrize("line", CTL)
def test_the_commands_of_ctl_that_are_shown_are_commands(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = re.sub(r"^source <\((.*)\)", r"\1", line.partition("#")[0].strip())
    # Without a sidecar each of them fails, but none of them for how it was typed.
    code = main([*shlex.split(command)[1:], "--admin", "127.0.0.1:1"])
    assert code == (0 if "completion" in command else 1), capsys.readouterr().err


@pytest.mark.parametrize("heading", ["Configure", "Retries", "Deadlines and limits"])
def test_the_configuration_shown_is_without_errors_and_warnings(tmp_path: Path, heading: str) -> None:
    (config,) = blocks("yaml", section(heading))
    file = tmp_path / "sidecar.yaml"
    file.write_text(config)
    assert list(load(file, {}).problems) == []


def test_the_fallbacks_shown_are_without_errors_and_warnings(tmp_path: Path) -> None:
    (config,) = blocks("yaml", section("Fall back, and rehearse failure"))
    file = tmp_path / "sidecar.yaml"
    file.write_text(config)
    assert list(load(file, {}).problems) == []


async def test_the_faults_shown_are_injected_listed_and_ended(tmp_path: Path) -> None:
    text = section("Fall back, and rehearse failure")
    (config,) = blocks("yaml", text)
    sidecar = await Configured.begin(tmp_path / "sidecar.yaml", f"{config}{FREE_PORTS}")
    try:
        host, port = sidecar.addresses["admin"][0]
        printed = [
            json.loads(
                await shell(example.command.replace("127.0.0.1:4101", f"{host}:{port}").replace("curl", "curl -s"))
            )
            for example in examples(text)
        ]
        assert printed[1]["faults"][0].items() >= {"route": "shop", "actor": "me", "reason": "drill"}.items()
        assert printed[0]["abort"] == {"status": 503, "share": 0.5}
        assert printed[2] == {"route": "shop", "ended": True}
    finally:
        await sidecar.stop()


def test_the_fleet_shown_is_without_errors(tmp_path: Path) -> None:
    (config,) = blocks("yaml", section("Many sidecars as one: a fleet over Redis"))
    secret = tmp_path / "redis"
    secret.write_text("sesame")
    file = tmp_path / "sidecar.yaml"
    file.write_text("upstreams: {a: {url: http://a}}\n" + config.replace("/run/secrets/redis", str(secret)))
    assert list(load(file, {}).problems) == []


def test_the_manifest_shown_is_the_one_in_deploy() -> None:
    (shown,) = blocks("yaml", section("Put it beside a service"))
    assert shown in (ROOT / "deploy" / "kubernetes" / "base" / "shop.yaml").read_text()


@pytest.mark.parametrize("metric", sorted(set(re.findall(r"`(sidecar_\w+)\{?", README))))
def test_every_metric_named_is_exposed(metric: str) -> None:
    sources = [path.read_text() for path in (ROOT / "sidecar" / "adapters" / "metrics").rglob("*.py")]
    assert any(f'"{metric.removesuffix("_total")}' in source for source in sources)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_make_target_exists(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#][^)]*)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in anchors(text)


def anchors(text: str) -> set[str]:
    """The fragments that a document's headings get when it is rendered."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


FILES_NAMED = re.findall(r"`((?:sidecar|tests|deploy|config)/[\w./]+)`", "".join(map(Path.read_text, DOCUMENTS)))


@pytest.mark.parametrize("path", FILES_NAMED)
def test_every_file_named_in_the_documents_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_stages_are_told_in_their_order() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", section("All policies together"), re.MULTILINE)
    modules = [wrap.__module__.removeprefix("sidecar.pipeline.") for wrap in reversed(STAGES)]
    assert rows[1:] == [STAGES_IN_WORDS[module] for module in modules]
