"""The small part of kustomize that deploy/kubernetes uses, so that its overlays can be rendered without the tool.

Anything else in a kustomization is refused rather than ignored.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

if TYPE_CHECKING:
    from pathlib import Path

Resource: TypeAlias = "dict[str, Any]"
KNOWN = {"apiVersion", "kind", "resources", "configMapGenerator", "replicas", "patches"}

HASH = 10
"""Characters of the hash at the end of a generated name."""


def render(folder: Path) -> list[Resource]:
    """The resources of the kustomization in `folder`."""
    (kustomization,) = load(folder / "kustomization.yaml")
    assert kustomization.keys() <= KNOWN, kustomization.keys() - KNOWN
    resources = [resource for name in kustomization["resources"] for resource in _resources(folder / name)]
    for generator in kustomization.get("configMapGenerator", []):
        _generate(resources, generator, folder)
    for replicas in kustomization.get("replicas", []):
        _find(resources, "Deployment", replicas["name"])["spec"]["replicas"] = replicas["count"]
    for patch in kustomization.get("patches", []):
        for change in load(folder / patch["path"]):
            _patch(resources, change, patch.get("target"))
    for generated in [one["metadata"]["name"] for one in resources if one["kind"] == "ConfigMap"]:
        for resource in resources:
            _rename_volumes(resource, generated[: -HASH - 1], generated)
    return resources


def _patch(resources: list[Resource], change: Any, target: dict[str, str] | None) -> None:
    if target is not None:
        found = _find(resources, target["kind"], target["name"])
        for operation in change:
            _operate(found, operation)
        return
    found = _find(resources, change["kind"], change["metadata"]["name"])
    if change.get("$patch") == "delete":
        resources.remove(found)
    else:
        _merge(found, change)


def _operate(resource: Any, operation: dict[str, Any]) -> None:
    """`add` and `remove` of JSON Patch (RFC 6902 §4)."""
    *way, last = operation["path"].removeprefix("/").split("/")
    for key in way:
        resource = resource[int(key) if isinstance(resource, list) else key]
    if operation["op"] == "remove":
        del resource[last]
    else:
        assert operation["op"] == "add"
        assert isinstance(resource, list)
        resource.insert(int(last), operation["value"])


def load(file: Path) -> list[Resource]:
    return list(yaml.safe_load_all(file.read_text()))


def _resources(path: Path) -> list[Resource]:
    return render(path) if path.is_dir() else load(path)


def _find(resources: list[Resource], kind: str, name: str) -> Resource:
    (found,) = [one for one in resources if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def _generate(resources: list[Resource], generator: dict[str, Any], folder: Path) -> None:
    pairs = [entry.split("=") for entry in generator["files"]]
    data = {key: (folder / file).read_text() for key, file in pairs}
    name = f"{generator['name']}-{hashlib.sha256(repr(data).encode()).hexdigest()[:HASH]}"
    resources.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def _rename_volumes(resource: Resource, old: str, new: str) -> None:
    for volume in resource.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", []):
        if volume.get("configMap", {}).get("name") == old:
            volume["configMap"]["name"] = new


def _merge(target: Any, change: Any) -> Any:
    """A strategic merge: mappings by key, lists of named things by name, everything else replaced."""
    if isinstance(target, dict) and isinstance(change, dict):
        for key, value in change.items():
            target[key] = _merge(target[key], value) if key in target else value
        return target
    if isinstance(target, list) and all(isinstance(one, dict) and "name" in one for one in [*target, *change]):
        by_name = {one["name"]: one for one in target}
        return list(_merge(by_name, {one["name"]: one for one in change}).values())
    return change
