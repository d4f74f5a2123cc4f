"""argv → subcommand → exit code. Each command imports what it needs, so that the small ones start fast."""

# ruff: noqa: PLC0415 - a health check every few seconds must not load a server

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sidecar import __version__
from sidecar.adapters.early_signals import hold_signals
from sidecar.adapters.standard_streams import discard_output, open_missing
from sidecar.ctl.arguments import add_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.config.load import Loaded
    from sidecar.core.config import Config
    from sidecar.core.http.heads import Field

CLEAN = 0
FAILED = 1
USAGE = 64
ASK_AGAIN = 0.1
"""Seconds between two questions of a health check that waits."""


class _Parser(argparse.ArgumentParser):
    """argparse with the contract's exit code for usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code of contract.md §1."""
    open_missing()
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        discard_output()
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sidecar", description="HTTP reverse-proxy sidecar with circuit breakers and a cache.")
    parser.add_argument("--version", action="version", version=f"circuit-sidecar {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    run = _command(commands, "run", _run, "run the sidecar")
    _takes_config(run)
    check = _command(commands, "check", _check, "validate a configuration; exit 0 clean, 1 errors")
    _takes_config(check)
    check.add_argument("--format", choices=("text", "json", "github"), default="text")
    check.add_argument("--strict", action="store_true", help="warnings fail too")
    explain = _command(commands, "explain", _explain, "show what becomes of a request, and which line decides it")
    _takes_config(explain)
    explain.add_argument("method", metavar="METHOD")
    explain.add_argument("url", metavar="URL", help="a path, or the URL that the client asks for")
    explain.add_argument("-H", "--header", action="append", default=[], type=_field, metavar="'K: V'")
    purpose = "look at a running sidecar and steer it, through its admin API"
    add_commands(commands.add_parser("ctl", help=purpose, description=purpose))
    doctor = _command(commands, "doctor", _doctor, "look for what goes wrong in pods; exit 0, or 1 with a problem")
    _takes_config(doctor)
    doctor.add_argument(
        "--grace-period", type=_duration, default=30.0, metavar="30s", help="the pod's terminationGracePeriodSeconds"
    )
    _command(commands, "schema", _schema, "print the JSON Schema of the configuration")
    demo = _command(commands, "demo", _demo, "run a sidecar before an origin that fails")
    demo.add_argument(
        "--scenario",
        choices=("outage", "cascade"),
        default="outage",
        help="outage (default): to be watched; cascade: the policies measured in 50 s, exit 0 if they kept their goals",
    )
    demo.add_argument("--plot", type=Path, metavar="FILE", help="cascade: draw what was measured as an SVG")
    health = _command(commands, "healthcheck", _healthcheck, "ask a running sidecar whether it is ready; exit 0 or 1")
    _takes_config(health)
    health.add_argument(
        "--wait", type=_duration, default=0.0, metavar="30s", help="ask again until it is ready, for so long"
    )
    health.add_argument("--url", help="default: /readyz on the telemetry listener of the configuration")
    parser.set_defaults(all_commands=list(commands.choices))
    return parser


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, run: Callable[[argparse.Namespace], int], purpose: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose)
    parser.set_defaults(command=run, parser=parser)
    return parser


def _takes_config(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("SIDECAR_CONFIG") or None
    parser.add_argument("-c", "--config", metavar="FILE", default=default, help="default: $SIDECAR_CONFIG")


def _misused(arguments: argparse.Namespace, message: str) -> NoReturn:
    parser: _Parser = arguments.parser
    parser.error(message)


def _field(text: str) -> Field:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not 'Name: value'")
    return name.strip().encode(), value.strip().encode()


def _duration(text: str) -> float:
    from sidecar.config.units import BadValue, duration

    try:
        return float(text) if text.isascii() and text.isdigit() else duration(text)
    except BadValue as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _config_path(arguments: argparse.Namespace) -> Path:
    if arguments.config is None:
        _misused(arguments, "no configuration: give -c FILE or set SIDECAR_CONFIG")
    return Path(arguments.config)


def _run(arguments: argparse.Namespace) -> int:
    hold_signals()
    from sidecar.app import run

    return run(_config_path(arguments))


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.scenario == "cascade":
        from sidecar.demo.cascade import run_cascade

        return run_cascade(arguments.plot)
    from sidecar.demo.outage import run_demo

    if arguments.plot is not None:
        _misused(arguments, "--plot goes with --scenario cascade")
    return run_demo()


def _load(arguments: argparse.Namespace, *, look_at_files: bool) -> Loaded:
    from sidecar.adapters.config_file import load

    return load(_config_path(arguments), os.environ, look_at_files=look_at_files)


def _loaded_config(arguments: argparse.Namespace) -> Config | None:
    """The configuration, or None after telling what is wrong with it."""
    from sidecar.config.problem_report import as_text

    # Whoever only asks about the configuration, or for an address in it, need not have its secrets.
    loaded = _load(arguments, look_at_files=False)
    if loaded.config is None:
        sys.stderr.write(as_text(loaded.errors, loaded.source, loaded.text))
    return loaded.config


def _check(arguments: argparse.Namespace) -> int:
    from sidecar.config import problem_report

    loaded = _load(arguments, look_at_files=True)
    match arguments.format:
        case "json":
            sys.stdout.write(problem_report.as_json(loaded.problems, loaded.source))
        case "github":
            sys.stdout.write(problem_report.as_github(loaded.problems, loaded.source))
        case _:
            sys.stdout.write(problem_report.as_text(loaded.problems, loaded.source, loaded.text))
            sys.stdout.write(f"{loaded.source}: {_summary(loaded)}\n")
    return FAILED if loaded.config is None or (arguments.strict and loaded.problems) else CLEAN


def _summary(loaded: Loaded) -> str:
    errors = len(loaded.errors)
    counts = f"{_count(errors, 'error')}, {_count(len(loaded.problems) - errors, 'warning')}"
    if loaded.config is None:
        return counts
    usable = f"{_count(len(loaded.config.upstreams), 'upstream')}, {_count(len(loaded.config.routes), 'route')}"
    return f"usable ({usable}); {counts}" if loaded.problems else f"clean ({usable})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _explain(arguments: argparse.Namespace) -> int:
    from sidecar.config.request_explanation import BadMethod, BadUrl, as_lines, explain_request, request_head

    config = _loaded_config(arguments)
    if config is None:
        return USAGE
    own = [str(address) for address in config.proxy.listen]
    try:
        head = request_head(arguments.method, arguments.url, arguments.header, own)
    except (BadMethod, BadUrl) as error:
        _misused(arguments, str(error))
    explanation = explain_request(config, head)
    sys.stdout.writelines(f"{line}\n" for line in as_lines(explanation))
    return CLEAN if explanation.sent or (explanation.here or "").startswith("200") else FAILED


def _doctor(arguments: argparse.Namespace) -> int:
    from sidecar.adapters.doctor import Level, as_lines, examine

    loaded = _load(arguments, look_at_files=True)
    readable = loaded.config or _load(arguments, look_at_files=False).config
    found = list(examine(loaded, readable, arguments.grace_period))
    sys.stdout.writelines(f"{line}\n" for line in as_lines(found))
    return FAILED if any(one.level is Level.PROBLEM for one in found) else CLEAN


def _schema(_arguments: argparse.Namespace) -> int:
    from sidecar.config.json_schema import schema

    sys.stdout.write(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n")
    return CLEAN


def _healthcheck(arguments: argparse.Namespace) -> int:
    import time

    ask = _readiness(arguments)
    until = time.monotonic() + arguments.wait
    while (reason := ask()) is not None and time.monotonic() < until:
        time.sleep(ASK_AGAIN)
    if reason is not None:
        sys.stderr.write(f"not ready: {reason}\n")
    return CLEAN if reason is None else FAILED


def _readiness(arguments: argparse.Namespace) -> Callable[[], str | None]:
    """What asks a sidecar: why it is not ready, or None."""
    from sidecar.adapters.healthcheck import not_ready, not_ready_at
    from sidecar.core.config import TelemetrySettings

    if arguments.url:
        if not arguments.url.startswith("http://"):
            _misused(arguments, f"{arguments.url!r} is not an http:// URL")
        return lambda: not_ready(arguments.url)
    telemetry = TelemetrySettings()
    if arguments.config is not None:
        from sidecar.adapters.config_file import load_telemetry

        try:
            telemetry = load_telemetry(_config_path(arguments), os.environ)
        except OSError as error:
            _misused(arguments, f"{arguments.config} cannot be read: {error.strerror}")
    return lambda: not_ready_at(telemetry.listen[0])
