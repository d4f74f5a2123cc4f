#!/usr/bin/env python3
"""Executes the Dockerfile without a container engine, and then what it built.

Each stage is a scratch root (Debian's Python in place of the base image, fetched by debootstrap); RUN happens in a
chroot of it, COPY obeys .dockerignore. The result is started as the image says, as its user, on a read-only root,
until its health check is satisfied, and stopped by its stop signal. An instruction that this file does not know is an
error. Needs Linux, root and debootstrap.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
OF_THE_NETWORK = re.compile(
    r"PIP_(INDEX_URL|EXTRA_INDEX_URL|CERT|DEFAULT_TIMEOUT|RETRIES)|(HTTPS?|NO)_PROXY", re.IGNORECASE
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEPLOYED_CONFIG = "etc/sidecar/sidecar.yaml"
PATIENCE = 20.0
"""Seconds for the image to become healthy, and again for it to stop."""
UNCHECKED_HASH = 0b01


class CheckFailed(Exception):
    """The image is not what it should be."""


@dataclass(frozen=True)
class Instruction:
    """One line of the Dockerfile, continuations joined."""

    word: str
    rest: str


@dataclass
class Stage:
    """What a FROM began: its root, and what the image says about running it."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": SYSTEM_PATH})
    directory: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stop_signal: signal.Signals = signal.SIGTERM

    def inside(self, path: str) -> Path:
        """Where `path` of the image lies here."""
        return self.root / os.path.normpath(Path("/", self.directory, path)).lstrip("/")

    def argv(self, command: list[str], more: dict[str, str] | None = None, *, read_only: bool = False) -> list[str]:
        """The host's command line that runs `command` in this stage, as its user, with `more` in its environment."""
        settings = [f"{name}={value}" for name, value in {**self.environment, **(more or {})}.items()]
        enter = ["chroot", f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i", *settings]
        inside = [*enter, "/bin/sh", "-c", f'cd {shlex.quote(self.directory)} && exec "$@"', "sh", *command]
        if not read_only:
            return inside
        bind = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bind, str(self.root), *inside]


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile."""
    without_comments = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", without_comments).splitlines()
    return [Instruction(*(line.split(None, 1))) for line in lines if line.strip()]


class Builder:
    """Executes instructions one after another; `stages` holds what they built, by name."""

    def __init__(self, base: Path, scratch: Path, context: Path) -> None:
        self._base = base
        self._scratch = scratch
        self._context = context
        self._ignored = (context / ".dockerignore").read_text().split("\n")
        self._arguments: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}

    @property
    def stage(self) -> Stage:
        """The stage being built."""
        return list(self.stages.values())[-1]

    def execute(self, instruction: Instruction) -> None:
        """Do what one instruction says."""
        method = getattr(self, f"_{instruction.word.lower()}", None)
        if method is None:
            raise CheckFailed(f"unknown instruction {instruction.word}")
        started = time.monotonic()
        method(instruction.rest)
        say(f"{instruction.word} {instruction.rest[:90]}  ({time.monotonic() - started:.1f} s)")

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self._arguments[name] = default

    def _from(self, rest: str) -> None:
        image, *alias = re.split(r"\s+AS\s+", rest, flags=re.IGNORECASE)
        if not self._expand(image, self._arguments).startswith("python:3.11"):
            raise CheckFailed(f"the scratch root stands in for a python:3.11 image only, not for {image}")
        name = alias[0] if alias else str(len(self.stages))
        root = self._scratch / name
        shutil.copytree(self._base, root, symlinks=True, ignore=shutil.ignore_patterns("dev"))
        make_devices(root)
        self.stages[name] = Stage(root)

    def _run(self, rest: str) -> None:
        network = {name: value for name, value in os.environ.items() if OF_THE_NETWORK.fullmatch(name)}
        subprocess.run(self.stage.argv(["/bin/sh", "-c", rest], network), check=True, stdin=subprocess.DEVNULL)

    def _copy(self, rest: str) -> None:
        words = rest.split()
        source = self._context
        if words[0].startswith("--from="):
            source = self.stages[words.pop(0).removeprefix("--from=")].root
        *names, target = words
        for name in names:
            self._copy_one(source / name.lstrip("./"), target, is_directory=target.endswith("/"))

    def _copy_one(self, source: Path, target: str, *, is_directory: bool) -> None:
        destination = self.stage.inside(target)
        if source.is_dir():
            shutil.copytree(source, destination, symlinks=True, dirs_exist_ok=True, ignore=self._not_in_context)
            return
        if source.name not in self._wanted():
            raise CheckFailed(f"{source.name} is not in the build context: see .dockerignore")
        destination = destination / source.name if is_directory else destination
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, destination)

    def _wanted(self) -> set[str]:
        return {line.removeprefix("!") for line in self._ignored if line.startswith("!")}

    def _not_in_context(self, folder: str, names: list[str]) -> set[str]:
        if not Path(folder).is_relative_to(self._context):
            return set()
        if Path(folder).relative_to(self._context).parts[0] not in self._wanted():
            raise CheckFailed(f"{folder} is not in the build context: see .dockerignore")
        patterns = [line.removeprefix("**/") for line in self._ignored if line.startswith("**/")]
        return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}

    def _workdir(self, rest: str) -> None:
        self.stage.directory = str(Path(self.stage.directory, rest))
        self.stage.inside(".").mkdir(parents=True, exist_ok=True)

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.stage.environment[name] = self._expand(value, self.stage.environment)

    def _expand(self, text: str, values: dict[str, str]) -> str:
        return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found[1]], text)

    def _user(self, rest: str) -> None:
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", rest):
            raise CheckFailed(f"USER {rest} is not a numeric user and group other than root")
        self.stage.user = rest

    def _expose(self, rest: str) -> None:
        if not all(port.isdigit() for port in rest.split()):
            raise CheckFailed(f"EXPOSE {rest}")

    def _stopsignal(self, rest: str) -> None:
        self.stage.stop_signal = signal.Signals[rest]

    def _healthcheck(self, rest: str) -> None:
        self.stage.health = self._exec_form(re.sub(r"^(--\S+\s+)*CMD\s+", "", rest))

    def _entrypoint(self, rest: str) -> None:
        self.stage.entrypoint = self._exec_form(rest)

    def _cmd(self, rest: str) -> None:
        self.stage.command = self._exec_form(rest)

    def _exec_form(self, rest: str) -> list[str]:
        try:
            return [str(word) for word in json.loads(rest)]
        except ValueError:
            raise CheckFailed(f"{rest} would need a shell: write it as a JSON list") from None


def make_base(root: Path) -> None:
    """Unpack Debian's Python into `root`; unpacked is enough to run it, so nothing is configured."""
    command = ["debootstrap", "--foreign", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as debootstrap:
        printed, _ = debootstrap.communicate()
    if debootstrap.returncode:
        raise CheckFailed(f"debootstrap failed:\n{printed}")
    packages = root / "var/cache/apt/archives"
    for package in sorted(packages.glob("*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as archive:
            unpack = ["tar", "--extract", "--keep-directory-symlink", "--directory", str(root)]
            subprocess.run(unpack, stdin=archive.stdout, check=True)
    for unneeded in (packages, root / "debootstrap", root / "usr/share/doc", root / "usr/share/locale"):
        shutil.rmtree(unneeded)
    for shared in (AUTHORITIES, "etc/resolv.conf", "etc/hosts"):
        with contextlib.suppress(FileNotFoundError):
            (root / shared).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path("/", shared), root / shared)


def make_devices(root: Path) -> None:
    """The devices that every container has."""
    (root / "dev").mkdir(exist_ok=True)
    for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
        os.mknod(root / "dev" / name, 0o666 | 0o020000, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)


def check(stage: Stage) -> None:
    """The image starts as it says, gets healthy, answers, and stops when it is told."""
    check_bytecode(stage.root / "opt/sidecar/lib")
    ports = free_ports(3)
    config = stage.root / DEPLOYED_CONFIG
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(configuration(*ports))
    started = time.monotonic()
    process = subprocess.Popen(stage.argv([*stage.entrypoint, *stage.command], read_only=True))
    try:
        wait_until_healthy(stage, process)
        say(f"healthy as user {stage.user} on a read-only root after {time.monotonic() - started:.1f} s")
        process.send_signal(stage.stop_signal)
        if code := process.wait(PATIENCE):
            raise CheckFailed(f"exit code {code} after {stage.stop_signal.name}")
        say(f"{stage.stop_signal.name}: exit code 0")
    finally:
        process.kill()
        process.wait()
    if subprocess.run(stage.argv(stage.health), check=False, capture_output=True).returncode != 1:
        raise CheckFailed("the health check does not notice that nothing runs")


def wait_until_healthy(stage: Stage, process: subprocess.Popen[bytes]) -> None:
    """Ask the image's own health check until it is content."""
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(stage.argv(stage.health), check=False, capture_output=True).returncode:
        if process.poll() is not None:
            raise CheckFailed(f"the image ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise CheckFailed(f"not healthy within {PATIENCE:g} s")


def check_bytecode(library: Path) -> None:
    """Every module has bytecode that is used without a look at its source's time (PEP 552)."""
    sources = [path for path in library.rglob("*.py") if "site-packages" in path.parts]
    for source in sources:
        cached = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        if not cached.exists() or cached.read_bytes()[4] != UNCHECKED_HASH:
            raise CheckFailed(f"{source} has no unchecked-hash bytecode")
    say(f"{len(sources)} modules, all with unchecked-hash bytecode")


def configuration(proxy: int, admin: int, telemetry: int) -> str:
    """A configuration for this machine, on ports that are free."""
    return f"""\
proxy: {{listen: "127.0.0.1:{proxy}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
telemetry: {{listen: "127.0.0.1:{telemetry}"}}
upstreams:
  nowhere: {{url: "http://127.0.0.1:9"}}
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def say(line: str) -> None:
    """Print one line now."""
    print(line, flush=True)


def main() -> int:
    """Exit code 0 when the image could be built and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a root with Python 3.11 to start from, instead of debootstrap's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        scratch = Path(folder)
        base = options.base or scratch / "base"
        try:
            if options.base is None:
                make_base(base)
                say("scratch root made")
            builder = Builder(base, scratch, REPOSITORY)
            for instruction in parse((REPOSITORY / "Dockerfile").read_text()):
                builder.execute(instruction)
            check(builder.stage)
        except (CheckFailed, subprocess.CalledProcessError) as error:
            say(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
