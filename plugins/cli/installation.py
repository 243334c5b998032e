"""What is installed: the version, the drivers."""

import platform
from importlib.metadata import entry_points
from importlib.metadata import version as version_of
from typing import Any

from . import output

DRIVERS = "aoskernel.drivers."


def version(*, as_json: bool) -> None:
    """Of the library, and of the Python it runs on."""
    told = {"aoskernel": version_of("aoskernel"), "python": platform.python_version()}
    if as_json:
        output.document({"ok": True, **told})
    else:
        print(f"aoskernel {told['aoskernel']} (Python {told['python']})")


def drivers(*, as_json: bool) -> None:
    """Every installed driver, loaded to see that it can be."""
    groups = sorted(group for group in entry_points().groups if group.startswith(DRIVERS))
    found = [
        _driver(group, point.name, point.value)
        for group in groups
        for point in sorted(entry_points(group=group))
    ]
    if as_json:
        output.document({"ok": True, "drivers": found})
        return
    rows = [(d["kind"], d["name"], d["class"], d["error"] or d["about"]) for d in found]
    output.table(("kind", "driver", "class", "about"), rows)


def _driver(group: str, name: str, value: str) -> dict[str, Any]:
    from ...kernel import ConfigError
    from ...kernel.config import load

    about, error = "", None
    try:
        doc = load(group, name, "driver").__doc__ or ""
        about = doc.strip().partition("\n")[0]
    except ConfigError as problem:
        error = str(problem)
    kind = group.removeprefix(DRIVERS)
    return {"kind": kind, "name": name, "class": value, "about": about, "error": error}
