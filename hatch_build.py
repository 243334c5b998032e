"""Editable installs only: make this checkout importable as the package `aoskernel`.

A wheel needs none of this: pyproject.toml alone lays the parts under aoskernel/.
Python gets a finder, so that tracebacks, debuggers and coverage show the real files.
Type checkers and editors run no finder; they get a folder of links.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FINDER = """\
import importlib.util
import sys


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "aoskernel":
            return importlib.util.spec_from_file_location(
                name, {init!r}, submodule_search_locations=[{root!r}]
            )


sys.meta_path.insert(0, Finder)
"""


def link(new: Path, old: Path) -> None:
    if os.path.lexists(new):
        new.unlink() if new.is_symlink() or new.is_file() else new.rmdir()
    new.parent.mkdir(parents=True, exist_ok=True)
    new.symlink_to(os.path.relpath(old, new.parent))


class EditableHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            return
        root, wheel = Path(self.root), self.build_config.target_config
        links = root / self.build_config.dev_mode_dirs[0]
        for old, new in {**wheel["sources"], **wheel["force-include"]}.items():
            link(links / new, root / old)

        finder = links / "_aoskernel_checkout.py"
        finder.write_text(FINDER.format(init=str(root / "__init__.py"), root=str(root)), "utf-8")
        start = finder.with_suffix(".pth")
        start.write_text(f"import {finder.stem}\n", "utf-8")
        build_data["force_include_editable"] = {str(f): f.name for f in (finder, start)}
