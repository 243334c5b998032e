"""Reading, listing and searching files below a root."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from workspace import TOOLS, opened, read, refusal

from aoskernel.drivers.tools.files import Files
from aoskernel.kernel import ConfigError
from aoskernel.kernel.config import build
from aoskernel.subsystems.tools.messages import BadArguments, ToolFailed, UnknownTool

# Reading


async def test_a_file_is_read_as_it_is(root: Path) -> None:
    (root / "crlf.txt").write_bytes("één\r\nzwei\r\n三".encode())

    assert await read(root, "crlf.txt") == "één\r\nzwei\r\n三"
    assert await read(root, "./sub//deep/../plan.md") == "# Plan\n\nbuy tea\n"


async def test_an_absolute_path_of_a_file_inside_is_read(root: Path) -> None:
    assert await read(root, str(root / "notes.txt")) == "Monday\nFriday: tea\n"


@pytest.mark.parametrize(
    ("start_line", "max_lines", "text"),
    [
        (1, 1, "one\n"),
        (2, 2, "two\nthree\n"),
        (3, None, "three\nfour"),
        (4, 9, "four"),
        (1, 10**12, "one\ntwo\nthree\nfour"),
    ],
)
async def test_a_part_is_read_by_lines(
    root: Path, start_line: int, max_lines: int | None, text: str
) -> None:
    (root / "lines.txt").write_text("one\ntwo\nthree\nfour")

    assert await read(root, "lines.txt", start_line=start_line, max_lines=max_lines) == text


async def test_a_line_past_the_end_is_refused_and_says_how_many_there_are(root: Path) -> None:
    assert await refusal(root, "notes.txt", start_line=3) == (
        "'notes.txt' has 2 lines; there is no line 3"
    )
    (root / "empty.txt").touch()
    assert await read(root, "empty.txt") == await read(root, "empty.txt", max_lines=3) == ""


async def test_a_file_over_the_limit_says_its_size_the_limit_and_how_to_read_a_part(
    root: Path,
) -> None:
    (root / "log.txt").write_text("0123456\n" * 200)

    async with opened(root, max_bytes=1000) as call:
        with pytest.raises(ToolFailed) as caught:
            await call("read_file", path="log.txt")
        part = await call("read_file", path="log.txt", start_line=100, max_lines=2)

    assert str(caught.value) == (
        "'log.txt' has 1,600 bytes and the limit is 1,000; "
        "read a part of it with start_line and max_lines"
    )
    assert part == "0123456\n" * 2


async def test_a_file_of_exactly_the_limit_is_read(root: Path) -> None:
    (root / "log.txt").write_text("x" * 1000)

    async with opened(root, max_bytes=1000) as call:
        assert len(await call("read_file", path="log.txt")) == 1000


async def test_a_part_over_the_limit_is_refused_too(root: Path) -> None:
    (root / "log.txt").write_text("0123456\n" * 200)

    async with opened(root, max_bytes=1000) as call:
        with pytest.raises(ToolFailed, match=r"have 1,592 bytes and the limit is 1,000; ask for f"):
            await call("read_file", path="log.txt", start_line=2)


async def test_what_lies_beyond_the_scanned_part_is_refused_and_never_cut_short(
    root: Path,
) -> None:
    (root / "log.txt").write_text("0123456\n" * 200)

    async with opened(root, max_bytes=1000, max_scan_bytes=1000) as call:
        for start_line, max_lines in ((150, 1), (120, 50), (120, None)):
            with pytest.raises(ToolFailed, match="not within its first 1,000 bytes"):
                await call("read_file", path="log.txt", start_line=start_line, max_lines=max_lines)
        assert await call("read_file", path="log.txt", start_line=120, max_lines=1) == "0123456\n"


@pytest.mark.parametrize("data", [b"GIF89a\0\1", b"\xff\xfehello", b"caf\xe9", b"\xed\xa0\x80"])
async def test_what_is_not_text_is_refused_and_says_so(root: Path, data: bytes) -> None:
    (root / "data").write_bytes(data)

    assert await refusal(root, "data") == "'data' is not text in UTF-8; only text can be read"


async def test_a_directory_is_refused_and_says_what_shows_it(root: Path) -> None:
    assert await refusal(root, "sub") == "'sub' is a directory; list_files shows what is in it"
    assert "is a file; read_file reads it" in await refusal(root, "notes.txt", "list_files")


async def test_what_is_not_there_is_refused_by_its_relative_path(root: Path) -> None:
    assert await refusal(root, "sub/none.txt") == "'sub/none.txt' does not exist"
    assert "is not a directory" in await refusal(root, "notes.txt/x")


async def test_a_wrong_argument_is_named(root: Path) -> None:
    async with opened(root) as call:
        with pytest.raises(BadArguments, match="start_line: Input should be greater than or equal"):
            await call("read_file", path="notes.txt", start_line=0)
        with pytest.raises(UnknownTool, match="did you mean 'read_file'"):
            await call("readfile", path="notes.txt")


async def test_every_tool_is_a_read() -> None:
    assert [offer.effect for offer in await Files().offers()] == ["none"] * 3


# Listing


async def list_files(root: Path, config: dict[str, Any] | None = None, **arguments: Any) -> Any:
    async with opened(root, **(config or {})) as call:
        return await call("list_files", **arguments)


async def test_a_list_has_every_file_by_its_path_from_the_root(root: Path) -> None:
    assert await list_files(root) == {
        "files": ["notes.txt", "sub/plan.md", "sub/deep/last.txt"],
        "note": "",
    }
    assert (await list_files(root, path="sub/deep"))["files"] == ["sub/deep/last.txt"]
    assert (await list_files(root, path=str(root / "sub")))["files"][0] == "sub/plan.md"


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.txt", ["notes.txt", "sub/deep/last.txt"]),
        ("sub/*", ["sub/plan.md", "sub/deep/last.txt"]),
        ("**/*.md", ["sub/plan.md"]),
        ("**/notes.*", ["notes.txt"]),
        ("NOTES.TXT", []),
    ],
)
async def test_a_pattern_is_of_the_name_or_of_the_path(
    root: Path, pattern: str, files: list[str]
) -> None:
    assert (await list_files(root, pattern=pattern))["files"] == files


async def test_hidden_files_and_version_control_are_passed_over_unless_asked_for(
    root: Path,
) -> None:
    for name in (".env", ".git/config", "node_modules/x.js", "sub/__pycache__/x.pyc"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("tea")

    assert len((await list_files(root))["files"]) == 3
    assert len((await list_files(root, {"hidden": True}))["files"]) == 7
    assert (await list_files(root, path=".git"))["files"] == [".git/config"]
    async with opened(root) as call:
        found = await call("search_files", query="tea")
    assert [path for path, _, _ in found["matches"]] == ["notes.txt", "sub/plan.md"]


async def test_a_list_that_is_cut_says_so_and_a_full_one_does_not(root: Path) -> None:
    full = await list_files(root, {"max_results": 3})
    cut = await list_files(root, {"max_results": 2})

    assert (len(full["files"]), full["note"]) == (3, "")
    assert cut["files"] == ["notes.txt", "sub/plan.md"]
    assert cut["note"] == "These are the first 2; narrow it with path or pattern."


async def test_links_are_not_listed_and_not_followed(root: Path) -> None:
    (root / "link.txt").symlink_to("notes.txt")
    (root / "round").symlink_to(".")
    (root / "out").symlink_to("..")

    assert len((await list_files(root))["files"]) == 3


async def test_a_name_that_is_not_utf_8_is_listed_escaped(root: Path) -> None:
    (root / "sub" / os.fsdecode(b"caf\xe9.txt")).touch()

    assert "sub/caf\\xe9.txt" in (await list_files(root))["files"]


# Searching


async def search(root: Path, query: str, config: dict[str, Any] | None = None, **more: Any) -> Any:
    async with opened(root, **(config or {})) as call:
        return await call("search_files", query=query, **more)


@pytest.mark.parametrize(("query", "regex"), [("tea", False), ("t[e]a$", True)])
async def test_a_search_finds_lines_with_their_place(root: Path, query: str, regex: bool) -> None:
    assert await search(root, query, regex=regex) == {
        "matches": [["notes.txt", 2, "Friday: tea"], ["sub/plan.md", 3, "buy tea"]],
        "note": "",
    }
    below = await search(root, query, regex=regex, path="sub")
    in_one = await search(root, query, regex=regex, path="sub/plan.md")
    assert below["matches"] == in_one["matches"] == [["sub/plan.md", 3, "buy tea"]]


async def test_plain_text_is_no_regular_expression(root: Path) -> None:
    (root / "sums.txt").write_text("a.c\nabc\n")

    assert (await search(root, "a.c"))["matches"] == [["sums.txt", 1, "a.c"]]
    assert len((await search(root, "a.c", regex=True))["matches"]) == 2


async def test_a_search_passes_over_binary_files(root: Path) -> None:
    (root / "data.bin").write_bytes(b"tea\0tea")
    (root / "latin.txt").write_bytes(b"tea caf\xe9")

    assert len((await search(root, "tea"))["matches"]) == 2


async def test_a_long_line_is_clipped_around_its_match(root: Path) -> None:
    (root / "long.txt").write_text("a" * 5000 + "needle" + "b" * 5000)

    ((_, _, line),) = (await search(root, "needle"))["matches"]

    assert "needle" in line
    assert len(line) == 242
    assert line.startswith("…a")
    assert line.endswith("b…")


async def test_a_search_that_is_cut_says_so(root: Path) -> None:
    (root / "many.txt").write_text("tea\n" * 100)

    for regex in (False, True):
        found = await search(root, "tea", {"max_results": 10}, regex=regex)
        assert len(found["matches"]) == 10
        assert found["note"].startswith("These are the first 10; narrow it with path")


async def test_a_search_says_which_part_it_had_no_room_for(root: Path) -> None:
    (root / "a_big.txt").write_text("tea\n" * 1000)

    found = await search(root, "tea", {"max_scan_bytes": 1000})

    assert len(found["matches"]) == 2
    assert found["note"] == (
        "1 files were left out: one search looks through 1,000 bytes; narrow it with path."
    )


async def test_a_regular_expression_that_never_ends_is_stopped_and_stops_nobody(
    root: Path,
) -> None:
    (root / "trap.txt").write_text("a" * 40 + "!")
    turns = 0

    async def live() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0.01)
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        with pytest.raises(ToolFailed, match=r"takes longer than 0\.5 s; simplify it"):
            await search(root, "(a+)+$", {"search_s": 0.5}, regex=True)
        tasks.cancel_scope.cancel()

    assert turns > 10


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "*", "(?P<x>a)(?P<x>b)"])
async def test_what_is_no_regular_expression_is_a_bad_argument(root: Path, pattern: str) -> None:
    with pytest.raises(BadArguments, match="query: this is no regular expression: "):
        await search(root, pattern, regex=True)


async def test_a_query_is_one_line(root: Path) -> None:
    with pytest.raises(BadArguments, match="cannot hold a line break"):
        await search(root, "Monday\nFriday")
    with pytest.raises(BadArguments, match="query: String should have at least 1 character"):
        await search(root, "")


# Life


async def test_a_root_that_is_not_there_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for name in ("none", "file"):
        with pytest.raises(ConfigError, match="create that directory, or set root to another"):
            await Files(root=tmp_path / name).start()


async def test_stop_is_safe_after_a_failed_start_and_lets_the_root_go(root: Path) -> None:
    def is_held() -> bool:
        numbers = os.listdir("/proc/self/fd")
        return str(root) in (os.path.realpath(f"/proc/self/fd/{number}") for number in numbers)

    await Files(root=root / "none").stop()
    files = Files(root=root)
    await files.start()
    held = is_held()
    await files.stop()
    await anyio.to_thread.run_sync(int)  # the thread that opened it has let go of it now

    assert held
    assert not is_held()
    with pytest.raises(ToolFailed, match="the workspace is closed"):
        await files.call("read_file", {"path": "notes.txt"}, "")


async def test_no_call_leaves_a_descriptor_open(root: Path) -> None:
    (root / "out").symlink_to("..")
    os.mkfifo(root / "pipe")

    async with opened(root) as call:
        before = len(os.listdir("/proc/self/fd"))
        for path in ("notes.txt", "sub/deep/../plan.md", "out/x", "sub/none", "pipe", "sub", ".."):
            for tool, more in TOOLS.items():
                with suppress(ToolFailed):
                    await call(tool, path=path, **more)

        assert len(os.listdir("/proc/self/fd")) == before


def test_limits_are_checked_where_they_are_configured() -> None:
    table = {
        "use": "aoskernel.subsystems.tools.service:Toolset",
        "driver": "aoskernel.drivers.tools.files:Files",
    }

    build("tools.files", {**table, "root": "/tmp", "max_bytes": 10})
    with pytest.raises(ConfigError, match=r"services\.tools\.files\.max_bytes"):
        build("tools.files", {**table, "max_bytes": 0})
