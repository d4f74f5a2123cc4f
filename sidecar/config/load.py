"""From a document to a configuration or a list of problems: read by schema, build, lint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.config import keys
from sidecar.config.build import build
from sidecar.config.document import Mapping
from sidecar.config.keys import Block
from sidecar.config.lint import lint
from sidecar.config.problem import START, Position, Problem, Problems, Severity
from sidecar.config.reader import Reader
from sidecar.config.sections import values_of
from sidecar.config.tls_files import tls_findings
from sidecar.core.config import Config, TelemetrySettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as Environ

    from sidecar.config.build import Built
    from sidecar.config.document import Node
    from sidecar.config.problem import Finding
    from sidecar.config.reader import Fault
    from sidecar.config.tls_files import TlsJudge

SMALLEST = "the smallest configuration is: upstreams: {catalog: {url: http://127.0.0.1:8080}}"


TELEMETRY = next(key for key in keys.PROCESS if key.name == "telemetry")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a text: a configuration unless an error is among `problems`. `text` is for showing lines."""

    config: Config | None
    problems: tuple[Problem, ...]
    source: str
    text: str
    files: tuple[str, ...] = ()
    """Those that it names and that were looked at."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep it from being used."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


@dataclass(frozen=True, slots=True)
class References:
    """What a configuration refers to: variables, and files, which are only asked for what is wrong with them."""

    environ: Environ[str, str]
    fault: Fault
    tls_fault: TlsJudge | None = None
    """None: nobody looks."""


def read_document(document: Node | None, references: References, problems: Problems, source: str, text: str) -> Loaded:
    """The configuration in `document`, every problem of it collected."""
    config = None
    if document is None:
        problems.error(START, "the configuration is empty", SMALLEST)
    else:
        root = Reader(references.environ, references.fault, problems).document(keys.ROOT, document)
        if root:
            built = build(root, problems, source)
            # Beside values that could not be read, defaults stand in their places: nothing to be warned of.
            _note_findings(lint(built.config), built, problems, errors_only=problems.failed)
            if references.tls_fault is not None and not problems.failed:
                _note_findings(tls_findings(built.config, references.tls_fault), built, problems, errors_only=True)
            config = None if problems.failed else built.config
    return Loaded(config, problems.listed(), source, text)


def read_telemetry(document: Node | None, environ: Environ[str, str]) -> TelemetrySettings:
    """What the document says of the telemetry listener, whatever is wrong with the rest; the default where it says
    nothing that can be used.
    """
    problems = Problems()
    if not isinstance(document, Mapping) or TELEMETRY.name not in document.entries:
        return TelemetrySettings()
    alone = Mapping({TELEMETRY.name: document.entries[TELEMETRY.name]}, document.at)
    root = Reader(environ, lambda _, __: "", problems).document(Block("configuration", Config, (TELEMETRY,)), alone)
    found: TelemetrySettings | None = values_of((TELEMETRY,), root, problems).get(TELEMETRY.name)
    return found or TelemetrySettings()


def _note_findings(findings: Iterator[Finding], built: Built, problems: Problems, *, errors_only: bool) -> None:
    for finding in findings:
        if errors_only and finding.severity is not Severity.ERROR:
            continue
        note = problems.error if finding.severity is Severity.ERROR else problems.warning
        note(_place(finding, built), finding.message, finding.hint)


def _place(finding: Finding, built: Built) -> Position:
    """Where the setting stands, or the nearest block around it that the file has."""
    places = {"route": built.routes, "upstream": built.upstreams}.get(finding.kind, {"": built.root})[finding.name]
    setting = finding.setting
    while setting and setting not in places:
        setting = setting.rpartition(".")[0]
    return places.get(setting, START)
