"""What can be typed after `sidecar ctl`, and running it."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sidecar.ctl.client import Admin

    Run: TypeAlias = Callable[[Admin, argparse.Namespace], Iterable[str]]

CLEAN = 0
FAILED = 1
USAGE = 64
DEFAULT_ADDRESS = "127.0.0.1:4101"
INTERVAL = 2.0
"""Seconds between two pictures of --watch and top."""
HOME_AND_CLEAR = "\x1b[H\x1b[J"
WITH_NAME = ("circuit", "open", "close", "observe", "auto", "reset")


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take the commands of ctl; `arguments.command` is then `run`."""
    parser.set_defaults(command=run, parser=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command_name", parser_class=type(parser))

    def command(name: str, purpose: str, *, watch: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=purpose, description=purpose)
        _add_common(added)
        if watch:
            added.add_argument("-w", "--watch", action="store_true", help=f"again every {INTERVAL:g} s")
        if name in WITH_NAME:
            added.add_argument("name", metavar="NAME", help="the circuit's, which is its route's")
        return added

    command("circuits", "list the circuits, the worst first", watch=True)
    command("circuit", "show one circuit, and why it opened", watch=True)
    for name, purpose in (
        ("open", "force a circuit open: no request reaches the upstream"),
        ("close", "force a circuit closed: every request reaches the upstream"),
        ("observe", "let a circuit only count what it would have refused"),
    ):
        _add_words(command(name, purpose)).add_argument(
            "--ttl", metavar="DURATION", help="such as 15m, or never; default 1h"
        )
    command("auto", "end what was forced on a circuit")
    _add_words(command("reset", "close a circuit, with an empty window"))
    events = command("events", "show what happened")
    events.add_argument("-f", "--follow", action="store_true", help="and what happens from now on")
    events.add_argument("--limit", type=int, metavar="N", help="at most so many; default 50")
    events.add_argument("--since", type=int, metavar="ID", help="those after this id")
    events.add_argument("--circuit", metavar="NAME", help="those of one circuit")
    command("cache", "show what the cache holds and what it answered", watch=True)
    _add_purge(command("purge", "forget stored answers"))
    _add_fault(command("fault", "list injected faults; with ROUTE inject one, or end it", watch=True))
    command("reload", "use the configuration file as it is now").add_argument(
        "--check", action="store_true", help="only show what that would change"
    )
    command("top", "watch what is broken and what clients get").add_argument(
        "--once", action="store_true", help="print one picture"
    )
    completion = commands.add_parser(
        "completion", help="print what makes a shell complete: source <(sidecar ctl completion bash)"
    )
    _add_common(completion)
    completion.add_argument("shell", choices=("bash", "zsh", "names"), help="names: of the circuits, one per line")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument(
        "--admin",
        metavar="ADDRESS",
        default=os.environ.get("SIDECAR_ADMIN") or DEFAULT_ADDRESS,
        help=f"host:port or unix:/path; default: $SIDECAR_ADMIN or {DEFAULT_ADDRESS}",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        default=os.environ.get("SIDECAR_TOKEN_FILE") or None,
        help="default: $SIDECAR_TOKEN_FILE; $SIDECAR_TOKEN is the token itself",
    )


def _add_words(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--reason", metavar="TEXT")
    parser.add_argument("--actor", metavar="NAME", default=_user(), help="default: you")
    return parser


def _user() -> str | None:
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        return getpass.getuser()
    return None


def _add_purge(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("url", nargs="?", metavar="URL", help="a URL or path, as clients or the upstream know it")
    what.add_argument("--prefix", metavar="URL", help="all that begins so")
    what.add_argument("--route", metavar="NAME")
    what.add_argument("--tag", metavar="TAG")


def _add_fault(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("route", nargs="?", metavar="ROUTE")
    parser.add_argument("--abort", type=int, metavar="STATUS", help="answer with it")
    parser.add_argument("--delay", metavar="DURATION", help="let requests wait so long")
    parser.add_argument("--reset", action="store_true", help="reset the client's connection")
    parser.add_argument("--slow-body", metavar="RATE", help="let answers trickle, such as 1KiB per second")
    parser.add_argument("--share", default="100%", metavar="SHARE", help="of the requests, such as 50%%; default all")
    parser.add_argument("--ttl", metavar="DURATION", default="5m", help="it ends by itself; default 5m")
    parser.add_argument("--force", action="store_true", help="also while the circuit is open")
    parser.add_argument("--off", action="store_true", help="end it")
    _add_words(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what was typed; the exit code of contract.md §1."""
    from sidecar.ctl.client import Admin, Failed  # noqa: PLC0415 - whoever only wants help waits for less
    from sidecar.ctl.tables import plain  # noqa: PLC0415 - see above

    try:
        admin = Admin(arguments.admin, _token(arguments.token_file))
        for line in _lines(admin, arguments):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except Failed as failed:
        sys.stderr.write("".join(f"{plain(line)}\n" for line in f"sidecar ctl: {failed}".splitlines()))
        return USAGE if failed.misused else FAILED
    except KeyboardInterrupt:
        pass  # how a live view is left
    return CLEAN


def _token(file: str | None) -> str | None:
    from sidecar.ctl.client import Failed  # noqa: PLC0415 - see above

    if file is None:
        return os.environ.get("SIDECAR_TOKEN") or None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Failed(f"the token file {file} cannot be read: {error}", misused=True) from None


def _lines(admin: Admin, arguments: argparse.Namespace) -> Iterator[str]:
    from sidecar.ctl import commands, top  # noqa: PLC0415 - see above

    name = arguments.command_name
    if name == "completion":
        return _completion(admin, arguments)
    if name == "top":
        return iter(top.frame(admin)) if arguments.once else _live(lambda: top.frame(admin))
    does: dict[str, Run] = {
        "circuits": commands.circuits, "circuit": commands.circuit, "events": commands.events,
        "open": commands.force, "close": commands.force, "observe": commands.force,
        "auto": commands.automatic, "reset": commands.reset, "reload": commands.reload,
        "cache": commands.cache, "purge": commands.purge, "fault": commands.fault,
    }  # fmt: skip
    if getattr(arguments, "watch", False):
        return _live(lambda: does[name](admin, arguments))
    return iter(does[name](admin, arguments))


def _live(picture: Callable[[], Iterable[str]]) -> Iterator[str]:
    """One picture after the other; on a terminal each in place of the one before."""
    from sidecar.ctl.tables import on_terminal  # noqa: PLC0415 - see above

    while True:
        lines = list(picture())
        yield (HOME_AND_CLEAR if on_terminal() else "") + "\n".join(lines)
        time.sleep(INTERVAL)


def _completion(admin: Admin, arguments: argparse.Namespace) -> Iterator[str]:
    from sidecar.ctl.completion import script  # noqa: PLC0415 - see above

    if arguments.shell == "names":
        yield from (each["name"] for each in admin.call("GET", "/v1/circuits")["circuits"])
        return
    parser: argparse.ArgumentParser = arguments.parser
    options = {name: _options(each) for name, each in _choices(parser).items()}
    yield script(arguments.shell, arguments.all_commands, options, WITH_NAME).rstrip("\n")


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a parser, by name."""
    (those,) = [each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)]  # noqa: SLF001 - argparse tells no other way
    return dict(those)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]  # noqa: SLF001 - see above
