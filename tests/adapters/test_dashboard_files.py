"""What an installation has of the dashboard."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch

import pytest

from sidecar.adapters.dashboard import pages
from tests.support.repository import ROOT

FOLDER = ROOT / "sidecar" / "adapters" / "dashboard"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix not in {".py", ""})
MODULES = [path for path in FILES if path.suffix == ".js"]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_file_is_served_and_installed(file: object) -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    name = str(file).rpartition("/")[2]
    assert ("/" if name == "index.html" else f"/{name}") in pages()
    assert any(fnmatch(name, pattern) for pattern in patterns["sidecar.adapters.dashboard"])


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(file: object) -> None:
    text = pages()["/" if str(file).endswith("index.html") else f"/{str(file).rpartition('/')[2]}"][1].decode()
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}  # a name of SVG, not a place
    assert re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text) is None


def test_what_a_module_imports_is_there() -> None:
    imported = {name for path in MODULES for name in re.findall(r'from "\./([\w.]+)"', path.read_text())}
    assert imported
    assert imported <= {path.name for path in MODULES}
