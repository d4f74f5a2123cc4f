"""The configuration file: YAML events → document → `core.config`, with every problem at its place.

PyYAML's parser gives events only. Composing them here keeps scalars as source text, sees duplicate keys, and bounds
depth and what aliases multiply; nothing in a file can construct an object.
"""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from sidecar.config.document import Entry, Mapping, Node, Scalar, Sequence
from sidecar.config.document_text import LARGEST, Unreadable, decode, lines
from sidecar.config.load import Loaded, References, read_document, read_telemetry
from sidecar.config.problem import START, Position, Problems
from sidecar.config.tls_files import TlsFault, TlsFiles
from sidecar.config.units import quoted, show_size
from sidecar.core.config import TelemetrySettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping as Environ

DEEPEST = 50
"""Nesting beyond this is no configuration, and libyaml is quadratic in it."""
MOST_NODES = 1_000_000
"""Nodes in a document, those that aliases repeat counted each time."""
MERGE = "<<"
TELEMETRY = re.compile(r"^telemetry:.*\n?(?:[ \t].*\n?|\n)*", re.MULTILINE)
"""The block of the telemetry listener, in a text that may be no YAML."""
FIRST_OCTETS = 4096
"""Of a file that is named, to see whether it holds anything but white space."""


def load(path: Path, environ: Environ[str, str], *, look_at_files: bool = True) -> Loaded:
    """The configuration in the file at `path`. Never raises for what the file is or holds: see `problems`.

    `look_at_files`: whether those that it names must be there and hold something.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        problems = Problems()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.error(START, f"cannot read the file: {reason}", "name the file with -c or SIDECAR_CONFIG")
        return Loaded(None, problems.listed(), str(path), "")
    return load_text(content, environ, str(path), look_at_files=look_at_files)


def load_telemetry(path: Path, environ: Environ[str, str]) -> TelemetrySettings:
    """The telemetry listener that the file at `path` names, also when it is otherwise invalid. Raises OSError.

    A running sidecar goes on with what it had when its file becomes invalid; whether it is well can still be asked.
    """
    text = path.read_bytes()[:LARGEST].decode("utf-8", "replace")
    for part in (text, *TELEMETRY.findall(text)):
        with suppress(Unreadable):
            return read_telemetry(_Composer(part, Problems()).compose(), environ)
    return TelemetrySettings()


def load_text(
    content: str | bytes, environ: Environ[str, str], source: str = "<config>", *, look_at_files: bool = True
) -> Loaded:
    """The configuration in `content`; `source` names it in messages and references."""
    problems = Problems()
    try:
        text = decode(content)
    except Unreadable as error:
        problems.error(error.at, str(error), error.hint)
        shown = content if isinstance(content, str) else content.decode("utf-8", "replace")
        return Loaded(None, problems.listed(), source, shown.removeprefix("\ufeff"))
    try:
        document = _Composer(text, problems).compose()
    except Unreadable as error:
        problems.error(error.at, str(error), error.hint)
        return Loaded(None, problems.listed(), source, text)
    if not look_at_files:
        return read_document(document, References(environ, lambda _, __: ""), problems, source, text)
    files = NamedFiles()
    loaded = read_document(document, References(environ, files.fault, files.tls_fault), problems, source, text)
    return replace(loaded, files=tuple(files.seen))


class NamedFiles:
    """Looks at the files that a configuration names; `seen` has their paths."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}
        self._judged: dict[TlsFiles, TlsFault | None] = {}

    def fault(self, path: str, largest: int | None) -> str:
        """What is wrong with the file at `path`; "" when it can be read and holds something, but not too much."""
        self.seen[path] = None
        return fault_of_file(path, largest)

    def tls_fault(self, files: TlsFiles) -> TlsFault | None:
        """What is wrong with TLS files that can be read; each set is loaded once."""
        if files not in self._judged:
            self._judged[files] = fault_of_tls(files)
        return self._judged[files]


def fault_of_file(path: str, largest: int | None = None) -> str:
    """What is wrong with the file at `path` that a configuration names; "" when it can be read and holds something, but
    not more than `largest` octets.
    """
    try:
        found = Path(path).stat()
        mode = found.st_mode
        if stat.S_ISDIR(mode):
            return "is a directory"
        if not stat.S_ISREG(mode):
            # Reading a pipe would wait for its writer, and leave nothing for who needs it.
            return "is no regular file"
        if largest is not None and found.st_size > largest:
            return f"is larger than {show_size(largest)}"
        with Path(path).open("rb") as file:
            return "" if file.read(FIRST_OCTETS).strip() else "is empty"
    except (OSError, ValueError) as error:
        return f"cannot be read: {(error.strerror if isinstance(error, OSError) else None) or error}"


def fault_of_tls(files: TlsFiles) -> TlsFault | None:
    """The first fault of these files, which can be read; None when they can be used."""
    import ssl  # noqa: PLC0415 - a configuration without TLS is checked without it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, path in (("authorities", files.authorities), ("cert", files.cert)):
        if path is not None and not _holds_certificates(context, path):
            return TlsFault(name, "holds no certificate")
    if files.cert is None:
        return None
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(files.cert, files.key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return TlsFault("key", "is not the key of the certificate")
        return TlsFault("key", "holds no private key that can be read without a password")
    except OSError as error:
        return TlsFault("key", f"cannot be read: {error.strerror}")
    return None


def _holds_certificates(context: ssl.SSLContext, path: str) -> bool:
    try:
        context.load_verify_locations(path)
    except OSError:  # ssl.SSLError is one
        return False
    return True


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    is_mapping: bool
    at: Position
    anchor: str | None
    children: list[Node] = field(default_factory=list)
    nodes: int = 1


class _Composer:
    """Builds the document from events, with its own stack."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._root: Node | None = None
        self._documents = 0
        self._nodes = 0

    def compose(self) -> Node | None:
        """The one document, None when there is nothing in the text. Raises Unreadable where reading must stop."""
        try:
            for event in yaml.parse(self._text, Loader=yaml.CSafeLoader):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            raise _syntax_error(error, self._text) from None
        return self._root

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event)
            self._add(Scalar(event.value, event.implicit[0], _place(event)), event.anchor, 1)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._refuse_tag(event)
            self._start(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise Unreadable(_place(event), "a second document starts here", "a configuration is one YAML document")

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            self._problems.error(_place(event), "YAML tags are not supported", "remove the tag: types are known here")

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        at = _place(event)
        if len(self._open) >= DEEPEST:
            raise Unreadable(at, f"nested deeper than {DEEPEST} levels")
        self._open.append(_Open(isinstance(event, yaml.MappingStartEvent), at, event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        node: Node = self._mapping(done) if done.is_mapping else Sequence(tuple(done.children), done.at)
        self._add(node, done.anchor, done.nodes)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise Unreadable(_place(event), f"the alias *{event.anchor} has no anchor before it")
        node, nodes = self._anchors[event.anchor]
        self._add(node, None, nodes, _place(event))

    def _add(self, node: Node, anchor: str | None, nodes: int, at: Position | None = None) -> None:
        self._nodes += nodes if at else 1
        if self._nodes > MOST_NODES:
            raise Unreadable(at or node.at, f"more than {MOST_NODES} values", "aliases multiply what they repeat")
        if anchor is not None:
            self._anchors[anchor] = (node, nodes)
        if self._open:
            self._open[-1].children.append(node)
            self._open[-1].nodes += nodes
        else:
            self._root = node

    def _mapping(self, done: _Open) -> Mapping:
        entries: dict[str, Entry] = {}
        merged: list[Node] = []
        for key, value in zip(done.children[::2], done.children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._problems.error(key.at, "a key must be a single value")
            elif key.plain and key.text == MERGE:
                merged += value.items if isinstance(value, Sequence) else (value,)
            elif key.text in entries:
                first = entries[key.text].key.at
                self._problems.error(key.at, f"duplicate key {quoted(key.text)}", f"it stands in line {first.line} too")
            else:
                entries[key.text] = Entry(key, value)
        return Mapping(self._merge(entries, merged, done), done.at)

    def _merge(self, entries: dict[str, Entry], merged: list[Node], done: _Open) -> dict[str, Entry]:
        """`entries` and, where they say nothing, those of the mappings that `<<` names."""
        for node in merged:
            if isinstance(node, Mapping):
                entries = {**node.entries, **entries}
                done.nodes += len(node.entries)
                self._nodes += len(node.entries)
            else:
                self._problems.error(node.at, "<< takes an alias of a mapping, or a list of them")
        return entries


def _place(event: yaml.Event) -> Position:
    start, end = event.start_mark, event.end_mark
    if start is None or end is None:
        return START
    length = end.column - start.column if end.line == start.line else 1
    return Position(start.line + 1, start.column + 1, max(1, length))


HINTS = (
    ("${", "a value with ${…} inside { } or [ ] goes in quotes"),
    ("[::", "an IPv6 address goes in quotes: '[::1]:4100'"),
    ("*:", "an address with * goes in quotes; for every interface write 0.0.0.0"),
    ("\t", "indent with spaces: YAML allows no tabs there"),
    ("%", "a value that starts with % goes in quotes"),
)


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    at = Position(mark.line + 1, mark.column + 1) if mark else START
    rows = lines(text)
    row = rows[at.line - 1] if at.line <= len(rows) else ""
    hint = next((hint for trace, hint in HINTS if trace in row), "")
    if not hint and "mapping values" in (error.problem or ""):
        hint = "a value with ': ' in it goes in quotes"
    return Unreadable(at, f"not valid YAML: {error.problem}", hint)
