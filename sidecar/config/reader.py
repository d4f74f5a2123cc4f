"""A configuration document read by the schema: every scalar as the type that its key wants, every error noted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from sidecar.config.document import NULLS, Mapping, Node, Scalar, Sequence, kind_of
from sidecar.config.keys import Block, Key, Later, Listed, Named
from sidecar.config.sections import Section, Setting
from sidecar.config.substitution import SubstitutionFailed, substitute
from sidecar.config.suggest import FEW, VERY_LIKE, closest, did_you_mean
from sidecar.config.units import BadValue, quoted
from sidecar.config.value_types import IDENTIFIER, LARGEST_FILE, ListType, MapType, ScalarType

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as Environ

    from sidecar.config.document import Entry
    from sidecar.config.problem import Position, Problems

EXTENSION = "x-"


class _Failed(Exception):
    """The value is unusable and the problem is noted."""


Fault: TypeAlias = "Callable[[str, int | None], str]"
"""What is wrong with the file at a path, in words that follow it; "" when nothing is. The number is how many octets it
may have, None where that makes no difference.
"""


class Reader:
    """Reads blocks out of a document; `${VAR}` comes from `environ`, `fault` knows the files that it names, findings
    go to `problems`.
    """

    def __init__(self, environ: Environ[str, str], fault: Fault, problems: Problems) -> None:
        self._environ = environ
        self._fault = fault
        self._problems = problems

    def document(self, block: Block[Any], node: Node) -> Section | None:
        """What the whole document says about `block`; None, with an error, when it is no mapping."""
        try:
            return self._block(block, node, node.at, open_ended=True)
        except _Failed:
            return None

    def _block(
        self, block: Block[Any], node: Node, at: Position, *, open_ended: bool = False, nullable: bool = False
    ) -> Section:
        """What `node` says about `block`; with `open_ended`, keys that start with x- are skipped."""
        section = Section(at)
        if self._is_null(node):
            return section
        for name, entry in self._mapping(block.name, node, _keys_of(block, nullable=nullable)).entries.items():
            if self._problems.full:
                break
            if key := block.by_name.get(name):
                self._key(key, entry, section)
            elif not (open_ended and name.startswith(EXTENSION)):
                self._unknown(block, entry.key)
        return section

    def _unknown(self, block: Block[Any], name: Scalar) -> None:
        supported = _supported(block)
        meant = closest(name.text, supported, VERY_LIKE)
        home = next((k.name for k in block.keys if isinstance(k.type, Block) and name.text in k.type.by_name), None)
        hint = f"it goes under {home!r}" if home and not meant else did_you_mean(name.text, supported)
        self._problems.error(name.at, f"unknown key {quoted(name.text)} in {block.name}", hint)

    def _key(self, key: Key, entry: Entry, section: Section) -> None:
        try:
            said = self._value(key, entry)
        except _Failed:
            section.failed.add(key.name)
        else:
            if said is not None:
                section.settings[key.name] = said

    def _value(self, key: Key, entry: Entry) -> Setting | Section | None:
        """What the key is set to; None where null says nothing."""
        node, kind = entry.value, key.type
        if self._is_null(node):
            return self._null(key, entry)
        if isinstance(kind, Later):
            message = f"{key.name} is not supported yet: this version has no {kind.feature}"
            raise self._fail(entry.key.at, message, "remove it, or set it to null")
        if isinstance(kind, Block):
            return self._block(kind, node, entry.key.at, nullable=key.nullable)
        return Setting(self._plain_value(key, kind, node), node.at, entry.key.at)

    def _null(self, key: Key, entry: Entry) -> Setting | None:
        if key.nullable:
            return Setting(None, entry.value.at, entry.key.at)
        kind = key.type.item if isinstance(key.type, ListType) else key.type
        if isinstance(kind, ScalarType):
            hint = f"write {kind.label}" + ("" if key.required else ", or remove the key")
            raise self._fail(entry.value.at, f"{key.name} needs a value", hint)
        return None

    def _plain_value(self, key: Key, kind: ScalarType | ListType | MapType | Named | Listed, node: Node) -> object:
        if isinstance(kind, ScalarType):
            return self._scalar(key.name, kind, node)
        if isinstance(kind, ListType):
            return self._list(key.name, kind, node)
        if isinstance(kind, MapType):
            return self._map(key.name, kind, node)
        return self._named(key.name, kind, node) if isinstance(kind, Named) else self._listed(key.name, kind, node)

    def _scalar(self, name: str, kind: ScalarType, node: Node) -> object:
        if not isinstance(node, Scalar):
            raise self._fail(node.at, f"{name} must be {kind.label}, not {kind_of(node)}")
        if self._is_null(node):
            raise self._fail(node.at, f"{name} needs a value", f"write {kind.label}")
        text = self._text(node)
        try:
            value = kind.parse(text)
        except BadValue as bad:
            origin = f" (from {node.text})" if text != node.text else ""
            raise self._fail(node.at, f"{name}: {bad}{origin}", bad.hint or f"write {kind.label}") from None
        if kind in LARGEST_FILE and (wrong := self._fault(text, LARGEST_FILE[kind])):
            raise self._fail(node.at, f"{name}: {text!r} {wrong}", "name a file that the sidecar can read")
        return value

    def _list(self, name: str, kind: ListType, node: Node) -> object:
        items = node.items if isinstance(node, Sequence) else (node,)
        if not items and not kind.may_be_empty:
            raise self._fail(node.at, f"{name} must not be empty", f"write {kind.item.label}, or a list")
        found, failed = [], False
        for item in items:
            try:
                found.append(self._scalar(name, kind.item, item))
            except _Failed:
                failed = True
        if failed:
            raise _Failed
        return kind.collect(found)

    def _map(self, name: str, kind: MapType, node: Node) -> object:
        pairs = []
        for entry in self._mapping(name, node).entries.values():
            value = None if self._is_null(entry.value) else self._scalar(name, kind.value, entry.value)
            pairs.append((self._scalar(name, kind.key, entry.key), value))
        return tuple(pairs)

    def _named(self, name: str, kind: Named, node: Node) -> dict[str, Section]:
        blocks: dict[str, Section] = {}
        failed = False
        for text, entry in self._mapping(name, node).entries.items():
            if self._problems.full:
                break
            try:
                self._scalar(name, IDENTIFIER, entry.key)
                blocks[text] = self._block(kind.block, entry.value, entry.key.at)
            except _Failed:
                failed = True
        if failed and not blocks:
            raise _Failed
        return blocks

    def _listed(self, name: str, kind: Listed, node: Node) -> list[Section]:
        if not isinstance(node, Sequence) and not kind.one_will_do:
            raise self._fail(node.at, f"{name} must be a list, not {kind_of(node)}", "start each item with a dash")
        blocks = []
        for item in node.items if isinstance(node, Sequence) else (node,):
            with suppress(_Failed):
                blocks.append(self._block(kind.block, item, item.at))
        return blocks

    def _mapping(self, name: str, node: Node, hint: str = "") -> Mapping:
        if not isinstance(node, Mapping):
            raise self._fail(node.at, f"{name} must be a mapping, not {kind_of(node)}", hint)
        return node

    def _is_null(self, node: Node) -> bool:
        """Whether the node stands for nothing; a reference to a variable may turn out to."""
        if not isinstance(node, Scalar) or not node.plain:
            return False
        try:
            return substitute(node.text, self._environ) in NULLS
        except SubstitutionFailed:
            return False

    def _text(self, node: Scalar) -> str:
        try:
            return substitute(node.text, self._environ)
        except SubstitutionFailed as failed:
            raise self._fail(node.at, str(failed)) from None

    def _fail(self, at: Position, message: str, hint: str = "") -> _Failed:
        self._problems.error(at, message, hint)
        return _Failed()


def _supported(block: Block[Any]) -> list[str]:
    return [key.name for key in block.keys if not isinstance(key.type, Later)]


def _keys_of(block: Block[Any], *, nullable: bool) -> str:
    """A hint for who wrote something else than a mapping."""
    names = _supported(block)
    return f"its keys: {', '.join(names)}" + ("; null: none" if nullable else "") if len(names) <= FEW else ""
