"""A folder as the kubelet mounts a ConfigMap: links through `..data`, which leads elsewhere after each change."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "sidecar.yaml"


class ConfigMap:
    """The mounted folder at `folder`, with one file."""

    def __init__(self, folder: Path, text: str) -> None:
        self._folder = folder
        self._versions: Iterator[int] = count()
        folder.mkdir()
        self.file = folder / NAME
        self.change(text)
        self.file.symlink_to(Path("..data", NAME))

    def change(self, text: str) -> None:
        """Swap as the kubelet does: a new folder, then the link by one rename, then the old folder goes."""
        data, draft = self._folder / "..data", self._folder / "..data_tmp"
        before = data.readlink() if data.is_symlink() else None
        name = f"..2026_11_28_{next(self._versions):02}"
        (self._folder / name).mkdir()
        (self._folder / name / NAME).write_text(text)
        draft.symlink_to(name)
        draft.replace(data)
        if before is not None:
            shutil.rmtree(self._folder / before)
