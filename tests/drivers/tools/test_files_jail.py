"""No path leads out of the root: corpus, races, and any path at all."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from escapes import PATHS, make_links, right_before_opening
from hypothesis import given, settings
from hypothesis import strategies as st
from workspace import SECRET, TOOLS, opened, read, refusal

from aoskernel.drivers.tools.files import Files
from aoskernel.subsystems.tools.messages import ToolFailed

# Every known trick


@pytest.mark.parametrize("path", PATHS)
async def test_no_path_leads_out(root: Path, path: str) -> None:
    make_links(root)
    path = path.replace("{root}", str(root))

    async with opened(root) as call:
        for tool, more in TOOLS.items():
            with pytest.raises(ToolFailed) as caught:
                await call(tool, path=path, **more)
            told = str(caught.value).replace(path, "")
            assert SECRET not in told
            assert str(root.parent) not in told


async def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "now").symlink_to("sub/deep")
    (root / "sub" / "top.txt").symlink_to("../now/../../notes.txt")
    (root / "full.txt").symlink_to(root / "now" / "last.txt")

    assert await read(root, "now/last.txt") == "the end"
    assert await read(root, "sub/top.txt") == "Monday\nFriday: tea\n"
    assert await read(root, "full.txt") == "the end"


async def test_a_root_that_is_itself_a_link_is_a_root(root: Path) -> None:
    link = root.parent / "workspace"
    link.symlink_to(root)

    assert await read(link, "notes.txt") == "Monday\nFriday: tea\n"
    assert await read(link, str(link / "notes.txt")) == "Monday\nFriday: tea\n"
    assert "leads outside" in await refusal(link, "../secret.txt")


async def test_the_root_stays_where_it_was_opened(root: Path) -> None:
    async with opened(root) as call:
        root.rename(root.parent / "moved")
        root.symlink_to(root.parent / "root-x")

        assert await call("read_file", path="notes.txt") == "Monday\nFriday: tea\n"
        with pytest.raises(ToolFailed, match="does not exist"):
            await call("read_file", path="secret.txt")


async def test_a_tree_too_deep_to_hold_open_is_refused_or_left_out(root: Path) -> None:
    (root / "/".join(["d"] * 100)).mkdir(parents=True)
    (root / "/".join(["d"] * 100) / "x.txt").touch()

    assert "more than 64 directories deep" in await refusal(root, "d/" * 99)
    async with opened(root) as call:
        listing = await call("list_files", path="d")
    assert listing == {"files": [], "note": "1 directories more than 64 deep were left out."}


async def test_a_path_without_end_is_not_repeated_to_the_model(root: Path) -> None:
    assert await refusal(root, "../" * 2000) == "a path has at most 4096 characters, this one 6000"


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("make", [make_pipe, make_socket])
async def test_what_is_no_file_is_refused_and_does_not_hang(
    root: Path, make: Callable[[Path], None]
) -> None:
    make(root / "odd")

    assert "is a device, pipe or socket" in await refusal(root, "odd")
    async with opened(root) as call:
        assert "odd" not in (await call("list_files"))["files"]
        assert (await call("search_files", query="tea"))["note"] == ""


# Races: whoever can write inside swaps what was checked for a link, right before it is opened.


def replace(path: Path, make: Callable[[Path], None]) -> None:
    path.rename(path.with_name("replaced"))
    make(path)


async def test_a_directory_swapped_for_a_link_does_not_lead_out(root: Path) -> None:
    (root / "sub" / "secret.txt").write_text("harmless")

    def swap() -> None:
        replace(root / "sub", lambda path: path.symlink_to(root.parent))

    with right_before_opening("sub", swap):
        assert "is not a directory" in await refusal(root, "sub/secret.txt")


async def test_a_file_swapped_for_a_link_does_not_lead_out(root: Path) -> None:
    def swap() -> None:
        replace(root / "notes.txt", lambda path: path.symlink_to(root.parent / "secret.txt"))

    with right_before_opening("notes.txt", swap):
        await refusal(root, "notes.txt")


async def test_a_file_swapped_for_a_pipe_does_not_hang(root: Path) -> None:
    with right_before_opening("notes.txt", lambda: replace(root / "notes.txt", make_pipe)):
        assert "pipe" in await refusal(root, "notes.txt")


@pytest.mark.parametrize("name", ["notes.txt", "sub"])
async def test_a_search_does_not_go_through_what_was_swapped(root: Path, name: str) -> None:
    target = root.parent / ("secret.txt" if name == "notes.txt" else "")

    with right_before_opening(name, lambda: replace(root / name, lambda p: p.symlink_to(target))):
        async with opened(root) as call:
            findings = await call("search_files", query="what nobody")

    assert findings["matches"] == []


async def test_a_directory_moved_out_while_it_is_walked_gives_no_way_up(root: Path) -> None:
    def move_out() -> None:
        (root / "sub").rename(root.parent / "elsewhere")

    with right_before_opening("deep", move_out):
        text = await read(root, "sub/deep/../../notes.txt")

    assert text == "Monday\nFriday: tea\n"


# Any path


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree full of links, next to secrets. All that is inside says that it is."""
    outside = tmp_path_factory.mktemp("maze")
    for place in (outside, outside / "a", outside / "root-b"):
        place.mkdir(exist_ok=True)
        (place / "f").write_text(SECRET)
    root = outside / "root"
    (root / "a" / "b").mkdir(parents=True)
    for number, place in enumerate((root, root / "a", root / "a" / "b")):
        (place / "f").write_text(f"inside {number}")
        (place / "up").symlink_to("..")
        (place / "out").symlink_to(outside)
        (place / "abs").symlink_to(root)
        (place / "far").symlink_to("../../..")
        (place / "in").symlink_to("a/b" if number == 0 else "f")
        (place / "sly").symlink_to("in/../../f")
        (place / "loop").symlink_to("loop/a")
    return root


@pytest.fixture(scope="module")
def in_maze(maze: Path) -> Iterator[Callable[[str], str]]:
    """Read a file in the maze; gives the text, or the words of the refusal."""
    files = Files(root=maze)
    asyncio.run(files.start())

    def read_or_refuse(path: str) -> str:
        try:
            return files.read_file(path)
        except ToolFailed as error:
            return f"refused: {error}"

    yield read_or_refuse
    asyncio.run(files.stop())


PARTS = ["a", "b", "f", "..", ".", "", "up", "out", "abs", "far", "in", "sly", "loop", "root-b"]


@settings(max_examples=250)
@given(parts=st.lists(st.sampled_from(PARTS), max_size=8), start=st.sampled_from(["", "/", "root"]))
def test_no_path_through_a_maze_of_links_leads_out(
    maze: Path, in_maze: Callable[[str], str], parts: list[str], start: str
) -> None:
    path = (str(maze) + "/" if start == "root" else start) + "/".join(parts)

    text = in_maze(path)

    assert SECRET not in text
    if not text.startswith("refused"):
        assert text == (maze / path).read_text()


@settings(max_examples=250)
@given(path=st.text(max_size=40) | st.text(alphabet="./\\~\0abfinup ", max_size=20))
def test_no_text_at_all_is_a_way_out(in_maze: Callable[[str], str], path: str) -> None:
    assert in_maze(path).startswith(("inside", "refused"))


def test_every_path_that_stays_inside_is_read(maze: Path, in_maze: Callable[[str], str]) -> None:
    names = ("a", "b", "up", "abs", "in", "sly")
    walks = [walk for length in range(5) for walk in product(names, repeat=length)]
    read = 0

    for walk in walks:
        path = maze.joinpath(*walk, "f")
        steps = [maze.joinpath(*walk[: n + 1]).resolve() for n in range(len(walk))]
        if path.is_file() and all(step.is_relative_to(maze) for step in steps):
            assert in_maze("/".join([*walk, "f"])) == path.read_text()
            read += 1

    assert read > 50
