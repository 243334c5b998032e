"""Writes docs/reference/api from the docstrings: `python docs/reference.py [FOLDER]`."""

import argparse
import ast
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import aoskernel
from aoskernel import kernel
from aoskernel.subsystems.llm import conformance

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference" / "api"
NOTE = "<!-- written by docs/reference.py from the docstrings; `make docs` writes it anew -->"
SUBSYSTEMS = sorted(path.parent.name for path in ROOT.glob("subsystems/*/__init__.py"))

EXAMPLE = re.compile(r" {4}|class \w|async |@\w|\[")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(folder: Path) -> None:
    """Write every page; one of ours that is no longer written is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.read_text("utf-8").startswith(NOTE):
            old.unlink()
    for name, (title, words, parts) in pages().items():
        text = "\n\n".join([NOTE, f"# {title}", words, *parts]) + "\n"
        (folder / f"{name}.md").write_text(text, "utf-8")


def pages() -> dict[str, tuple[str, str, Iterable[str]]]:
    programs = [name for name in aoskernel.__all__ if name not in kernel.__all__]
    return {
        "kernel": (
            "Kernel",
            "`from aoskernel.kernel import ...`; the commonest also from `aoskernel`.",
            map(named, [kernel] * len(kernel.__all__), kernel.__all__),
        ),
        "programs": (
            "Programs and processes",
            "`from aoskernel import ...`",
            map(named, [aoskernel] * len(programs), programs),
        ),
        "testing": (
            "Testing",
            "`from aoskernel.kernel.testing import ...`",
            of_modules(["aoskernel.kernel.testing"], "##"),
        ),
        "messages": (
            "Messages",
            "What may be said to each subsystem, and what it tells.",
            of_modules([f"aoskernel.subsystems.{name}.messages" for name in SUBSYSTEMS], "###"),
        ),
        "drivers": (
            "Drivers",
            "What a driver implements, and what it may raise.",
            of_modules([f"aoskernel.subsystems.{name}.driver" for name in SUBSYSTEMS], "###"),
        ),
        "conformance": (
            "Conformance of model drivers",
            "[How to run it](../../how-to/model-driver.md#run-the-kit).",
            map(named, [conformance] * len(conformance.__all__), conformance.__all__),
        ),
        "services": (
            "Services and drivers, by name",
            "What `use` and `driver` may say in aosk.toml, with the keys of each table.",
            installed(),
        ),
    }


def named(package: ModuleType, name: str) -> str:
    """The entry of a public name, wherever it is defined."""
    thing = getattr(package, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return entry(source(thing), "##", name)
    for path in sorted(Path(str(package.__file__)).parent.glob("*.py")):
        for node, after in pairs(ast.parse(path.read_text("utf-8")).body):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                return alias(node, after, "##")
    return f"## {name}\n\n{inspect.getdoc(thing) or ''}".rstrip()


def of_modules(names: Iterable[str], level: str) -> Iterator[str]:
    """The entries of everything public that a module itself defines."""
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        door, *rooms = map(parsed, files(Path(spec.origin)))
        if level == "###":
            yield f"## {name}\n\n{ast.get_docstring(door)}"
        for node, after in chain.from_iterable(pairs(module.body) for module in (door, *rooms)):
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                yield entry(node, level, node.name)
            elif isinstance(node, ast.Assign) and sentence(after):
                yield alias(node, after, level)


def files(origin: Path) -> list[Path]:
    """A module's; of a package those behind its door too."""
    beside = sorted(origin.parent.glob("*.py")) if origin.name == "__init__.py" else []
    return [origin, *(path for path in beside if path != origin)]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def pairs(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    """Each statement with the one under it."""
    return zip(body, [*body[1:], ast.Pass()], strict=True)


def source(thing: Any) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def alias(node: ast.Assign, after: ast.stmt, level: str) -> str:
    title = ast.unparse(node.targets[0])
    return f"{level} {title}\n\n{code(ast.unparse(node))}\n\n{sentence(after)}".rstrip()


def installed() -> Iterator[str]:
    """The services and drivers of this distribution, as pyproject.toml names them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for group, points in sorted(project["entry-points"].items()):
        yield f"## {group.removeprefix('aoskernel.').replace('.', ': ')}"
        for name, place in points.items():
            module, _, title = place.partition(":")
            yield "\n\n".join(overview(source(getattr(import_module(module), title)), name))


def entry(node: ast.stmt, level: str, title: str) -> str:
    if isinstance(node, Function):
        return function(node, level, title)
    assert isinstance(node, ast.ClassDef)
    return "\n\n".join(filter(None, of_class(node, level, title)))


def function(node: Function, level: str, title: str) -> str:
    decorated = "".join(f"@{ast.unparse(d)}\n" for d in node.decorator_list[:1])
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    shown = decorated if decorated in ("@property\n", "@classmethod\n") else ""
    head = code(f"{shown}{kind} {node.name}({ast.unparse(node.args)}){returns}")
    return f"{level} {title}\n\n{head}\n\n{words(node)}".rstrip()


def overview(node: ast.stmt, name: str) -> Iterator[str]:
    """A class without its methods: what it is, and what can be configured."""
    assert isinstance(node, ast.ClassDef)
    yield f"### {name}"
    if text := words(node):
        yield text
    if keys := "\n".join(fields(node)):
        yield keys


def of_class(node: ast.ClassDef, level: str, title: str) -> Iterator[str]:
    inherits = ", ".join(map(ast.unparse, [*node.bases, *node.keywords]))
    yield f"{level} {title}"
    yield code(f"class {node.name}({inherits})" if inherits else f"class {node.name}")
    yield words(node)
    yield "\n".join(fields(node))
    for method in node.body:
        if isinstance(method, Function) and is_told(method):
            yield function(method, f"{level}#", f"{title}.{method.name}")


def words(node: Function | ast.ClassDef) -> str:
    """The docstring, its examples fenced."""
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    shown, example = [], False
    for paragraph in paragraphs:
        example = EXAMPLE.match(paragraph) or (example and paragraph[:4] == "    ")
        shown.append(code(textwrap.dedent(paragraph)) if example else paragraph)
    return "\n\n".join(shown)


def is_told(method: Function) -> bool:
    """Public, with a docstring: an override without one says nothing new."""
    overloads = any("overload" in ast.unparse(mark) for mark in method.decorator_list)
    return bool(ast.get_docstring(method)) and method.name[0] != "_" and not overloads


def fields(node: ast.ClassDef) -> Iterator[str]:
    """The annotated fields; for a class without any, what its constructor takes."""
    declared = [
        (statement, after)
        for statement, after in pairs(node.body)
        if isinstance(statement, ast.AnnAssign)
        and not ast.unparse(statement.target).startswith("_")
        and "ClassVar" not in ast.unparse(statement.annotation)
    ]
    for statement, after in declared:
        yield f"- `{ast.unparse(statement)}` {sentence(after)}".rstrip()
    if declared:
        return
    for method in node.body:
        if isinstance(method, Function) and method.name == "__init__":
            taken = ast.unparse(method.args).removeprefix("self").removeprefix(", ")
            if taken:
                yield code(f"{node.name}({taken})")


def sentence(node: ast.AST) -> str:
    """The string that stands under a field and says what it means."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


def code(text: str) -> str:
    return f"```py\n{text}\n```"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    main(parser.parse_args().folder)
