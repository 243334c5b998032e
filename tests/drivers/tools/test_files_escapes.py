"""No change reaches out of the root: the corpus, links of both kinds, races, any path at all."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from escapes import PATHS, make_links, right_before_opening
from hypothesis import given, settings
from hypothesis import strategies as st
from workspace import SECRET, opened

from aoskernel.drivers.tools.files import Files
from aoskernel.subsystems.tools.messages import ToolError, ToolFailed

CHANGES: list[Callable[[str], tuple[str, dict[str, Any]]]] = [
    lambda path: ("write_file", {"path": path, "content": "mine"}),
    lambda path: ("edit_file", {"path": path, "old": "what", "new": "mine"}),
    lambda path: ("move_file", {"source": path, "target": "taken"}),
    lambda path: ("move_file", {"source": "notes.txt", "target": path}),
    lambda path: ("delete_file", {"path": path}),
]


def outside(root: Path) -> dict[str, str]:
    """All that lies beside the root, links as they are."""
    found = {}
    for path in sorted(root.parent.iterdir()):
        if path != root:
            below = [path, *path.rglob("*")] if path.is_dir() else [path]
            found |= {str(p): p.read_text() if p.is_file() else "" for p in below}
    return found


async def refused(root: Path, tool: str, under_key: str = "", **arguments: Any) -> str:
    async with opened(root, writable=True) as call:
        with pytest.raises(ToolError) as caught:
            await call(tool, under_key, **arguments)
    return str(caught.value)


STAYS_INSIDE = {"NOTES.TXT", "~root", "loop", "out.txt", "sibling", "zero"}
"""Names like any other to a file system that minds case; and links, which have a test below."""


ODD = ("~", "$", "file:", "%2e", "..%2f", "....", "sub//")
"""How paths begin that are odd and lie inside all the same."""


@pytest.mark.parametrize("path", [path for path in PATHS if path not in STAYS_INSIDE])
async def test_no_change_follows_a_path_that_leads_out(root: Path, path: str) -> None:
    make_links(root)
    path = path.replace("{root}", str(root))
    before = outside(root)

    async with opened(root, writable=True) as call:
        for change in CHANGES:
            tool, arguments = change(path)
            try:
                await call(tool, **arguments)
            except ToolFailed as error:
                told = str(error).replace(path, "")
                assert SECRET not in told
                assert str(root.parent) not in told
            else:
                assert path.startswith(ODD)

    assert outside(root) == before
    assert not (root / "taken").exists() or (root / "taken").read_text() == "mine"


@pytest.mark.parametrize("name", ["out.txt", "out", "zero", "loop", "sibling", "sub/up"])
async def test_a_link_is_not_changed_and_not_changed_through(root: Path, name: str) -> None:
    make_links(root)
    before = outside(root)

    for change in (*CHANGES[:3], CHANGES[4]):
        tool, arguments = change(name)
        assert "is a link" in await refused(root, tool, **arguments)

    assert outside(root) == before
    assert (root / name).is_symlink()


async def test_a_hard_link_is_not_written_through(root: Path) -> None:
    os.link(root.parent / "secret.txt", root / "hard.txt")

    for change in CHANGES[:2]:
        tool, arguments = change("hard.txt")
        assert "is a hard link: 1 more names" in await refused(root, tool, **arguments)
    async with opened(root, writable=True) as call:
        await call("delete_file", path="hard.txt")

    assert (root.parent / "secret.txt").read_text() == SECRET


@pytest.mark.parametrize(
    "path",
    [
        ".git/hooks/pre-commit",
        ".GIT/config",
        ".ｇit/config",
        "sub/.hg/hgrc",
        ".aosk/0",
        ".git",
        "vc/hooks/pre-commit",
    ],
)
async def test_version_control_and_the_tools_own_notes_are_not_changed(
    root: Path, path: str
) -> None:
    (root / ".git" / "hooks").mkdir(parents=True)
    (root / "vc").symlink_to(".git")

    for change in CHANGES:
        tool, arguments = change(path)
        assert "is not to be changed by tools" in await refused(root, tool, **arguments)
    assert os.listdir(root / ".git" / "hooks") == []


@pytest.mark.parametrize(
    "name", ["．．", "．", "‥", "a／b", "..\\x", "a\nb", "a\x1b[2J", "a\u202eb", "\u200b"]
)
async def test_a_name_that_only_looks_like_a_path_is_refused(root: Path, name: str) -> None:
    for path in (name, f"{name}/x", f"sub/{name}"):
        told = await refused(root, "write_file", path=path, content="mine")
        assert "only looks like another path" in told


async def test_two_spellings_of_one_name_are_two_files_and_neither_is_lost(root: Path) -> None:
    async with opened(root, writable=True) as call:
        for name in ("café.txt", "cafe\u0301.txt"):
            await call("write_file", path=name, content=name)
        texts = [await call("read_file", path=name) for name in ("café.txt", "cafe\u0301.txt")]
    assert texts == ["café.txt", "cafe\u0301.txt"]


# Races


async def test_a_directory_swapped_for_a_link_is_not_written_into(root: Path) -> None:
    def swap() -> None:
        (root / "sub").rename(root / "replaced")
        (root / "sub").symlink_to(root.parent)

    before = outside(root)
    with right_before_opening("sub", swap):
        await refused(root, "write_file", path="sub/secret.txt", content="mine")
    assert outside(root) == before


async def test_a_file_swapped_for_a_link_right_before_the_rename_is_itself_replaced(
    root: Path,
) -> None:
    def swap() -> None:
        (root / "notes.txt").unlink()
        (root / "notes.txt").symlink_to(root.parent / "secret.txt")

    with right_before_opening("", swap, event="os.rename"):
        async with opened(root, writable=True) as call:
            await call("write_file", path="notes.txt", content="mine")

    assert (root.parent / "secret.txt").read_text() == SECRET
    assert not (root / "notes.txt").is_symlink()
    assert (root / "notes.txt").read_text() == "mine"


async def test_a_file_swapped_for_a_link_while_it_is_edited_is_left_alone(root: Path) -> None:
    def swap() -> None:
        (root / "notes.txt").rename(root / "replaced")
        (root / "notes.txt").symlink_to(root.parent / "secret.txt")

    with right_before_opening("notes.txt", swap):
        await refused(root, "edit_file", path="notes.txt", old="what", new="mine")
    assert (root.parent / "secret.txt").read_text() == SECRET


async def test_a_directory_moved_out_while_it_is_walked_takes_no_file_up(root: Path) -> None:
    def move_out() -> None:
        (root / "sub").rename(root.parent / "elsewhere")

    with right_before_opening("deep", move_out):
        async with opened(root, writable=True) as call:
            await call("write_file", path="sub/deep/../../new.txt", content="mine")
    assert (root / "new.txt").read_text() == "mine"
    assert not (root.parent / "new.txt").exists()


# Any path

PARTS = ["a", "b", "f", "..", ".", "", "up", "out", "abs", "far", "in", "new", "．．"]


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree full of links that lead out, next to secrets."""
    beside = tmp_path_factory.mktemp("maze")
    (beside / "a").mkdir()
    for place in (beside, beside / "a"):
        (place / "f").write_text(SECRET)
    root = beside / "root"
    (root / "a" / "b").mkdir(parents=True)
    for place in (root, root / "a", root / "a" / "b"):
        for name, target in [("up", ".."), ("out", str(beside)), ("abs", str(root))]:
            (place / name).symlink_to(target)
        (place / "far").symlink_to("../../..")
        (place / "in").symlink_to("a/b")
    return root


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.sampled_from(PARTS), max_size=7),
    start=st.sampled_from(["", "/", "root"]),
    which=st.integers(0, 4),
)
def test_no_change_through_a_maze_of_links_reaches_out(
    maze: Path, parts: list[str], start: str, which: int
) -> None:
    path = (f"{maze}/" if start == "root" else start) + "/".join(parts)
    before = outside(maze)
    (maze / "notes.txt").write_text("what")
    files = Files(root=maze, writable=True)

    async def run() -> None:
        await files.start()
        tool, arguments = CHANGES[which](path)
        with suppress(ToolError):
            await files.call(tool, arguments, "")
        await files.stop()

    asyncio.run(run())
    assert outside(maze) == before
