"""Writing, editing, moving and deleting files below a root."""

import os
import shutil
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from workspace import opened

from aoskernel.drivers.tools import _files_change, _files_replace
from aoskernel.drivers.tools.files import Files
from aoskernel.subsystems.tools.messages import ToolError, ToolFailed

Call = Callable[..., Awaitable[Any]]


async def change(root: Path, tool: str, under_key: str = "", **arguments: Any) -> str:
    async with opened(root, writable=True) as call:
        return str(await call(tool, under_key, **arguments))


async def refused(root: Path, tool: str, under_key: str = "", **arguments: Any) -> str:
    with pytest.raises(ToolFailed) as caught:
        await change(root, tool, under_key, **arguments)
    return str(caught.value)


def visible(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if ".aosk" not in p.parts)


async def test_nothing_can_be_changed_unless_the_config_says_so(root: Path) -> None:
    reads = [offer.spec.name for offer in await Files(root=root).offers()]
    changes = Files(root=root, writable=True)
    offers = {offer.spec.name: offer for offer in await changes.offers()}

    assert reads == ["read_file", "list_files", "search_files"]
    assert [name for name in offers if name not in reads] == [
        *("write_file", "edit_file", "move_file", "delete_file")
    ]
    assert {o.effect for name, o in offers.items() if name not in reads} == {"idempotent"}
    assert [(t.argument, t.access, t.below) for t in offers["move_file"].touches] == [
        ("source", "delete", str(root)),
        ("target", "write", str(root)),
    ]
    assert '"key"' not in offers["edit_file"].spec.model_dump_json()


# Writing


async def test_a_file_is_written_with_the_directories_above_it(root: Path) -> None:
    told = await change(root, "write_file", path="new/deep/a.txt", content="één\r\n")

    assert told == "wrote 7 bytes to 'new/deep/a.txt'"
    assert (root / "new/deep/a.txt").read_bytes() == "één\r\n".encode()
    assert not [name for name in visible(root) if ".aosk" in name]


async def test_a_file_that_is_replaced_keeps_its_mode(root: Path) -> None:
    (root / "run.sh").write_text("old")
    (root / "run.sh").chmod(0o750)

    await change(root, "write_file", path="run.sh", content="new")

    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o750
    assert (root / "run.sh").read_text() == "new"


async def test_whoever_has_the_old_file_open_reads_it_to_its_end(root: Path) -> None:
    before = os.open(root / "notes.txt", os.O_RDONLY)
    try:
        await change(root, "write_file", path="notes.txt", content="new")

        assert os.read(before, 100) == b"Monday\nFriday: tea\n"
    finally:
        os.close(before)


async def test_a_content_over_the_limit_leaves_the_file_as_it_was(root: Path) -> None:
    async with opened(root, writable=True, max_write_bytes=5) as call:
        with pytest.raises(ToolFailed, match="would have 6 bytes and the limit is 5"):
            await call("write_file", path="notes.txt", content="123456")
        await call("write_file", path="other.txt", content="12345")

    assert (root / "notes.txt").read_text() == "Monday\nFriday: tea\n"


@pytest.mark.parametrize("content", ["a\0b", "\ud800"])
async def test_what_is_no_text_is_not_written(root: Path, content: str) -> None:
    with pytest.raises(ToolError):
        await change(root, "write_file", path="new.txt", content=content)
    assert "new.txt" not in visible(root)


async def test_a_write_that_fails_leaves_nothing_behind(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = visible(root)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files_replace.os, "fsync", full)
    assert await refused(root, "write_file", path="notes.txt", content="new") == (
        "'notes.txt' does not fit on the disk"
    )
    assert visible(root) == before
    assert (root / "notes.txt").read_text() == "Monday\nFriday: tea\n"


@pytest.mark.parametrize("path", ["", ".", "sub", "sub/..", "sub/", "notes.txt/x"])
async def test_a_directory_is_not_written_to(root: Path, path: str) -> None:
    before = visible(root)
    await refused(root, "write_file", path=path, content="x")
    assert visible(root) == before


# Editing


async def test_a_text_that_stands_once_is_replaced(root: Path) -> None:
    told = await change(root, "edit_file", path="notes.txt", old="tea", new="cake")

    assert told == "edited 'notes.txt' in line 2"
    assert (root / "notes.txt").read_text() == "Monday\nFriday: cake\n"


async def test_a_text_that_stands_twice_is_replaced_only_on_demand(root: Path) -> None:
    (root / "two.txt").write_text("a\nb\na\n")

    assert await refused(root, "edit_file", path="two.txt", old="a", new="c") == (
        "'two.txt' has this text 2 times (lines 1, 3); give more of what stands around it, "
        "or set all"
    )
    told = await change(root, "edit_file", path="two.txt", old="a", new="c", all=True)
    assert told == "edited 'two.txt' in 2 places, the first in line 1"
    assert (root / "two.txt").read_text() == "c\nb\nc\n"


@pytest.mark.parametrize(
    ("old", "hint"),
    [
        ("  Friday: tea", "nearest are line 2: 'Friday: tea'"),
        ("Friday; tea", "nearest are line 2: 'Friday: tea'"),
        ("zzzzzzzz", "no line of it is like this one; read it first"),
    ],
)
async def test_a_text_that_is_not_there_shows_the_nearest_lines(
    root: Path, old: str, hint: str
) -> None:
    told = await refused(root, "edit_file", path="notes.txt", old=old, new="x")
    assert told == f"'notes.txt' does not have this text; {hint}"


async def test_many_edits_of_one_file_at_once_are_all_in_it(root: Path) -> None:
    (root / "many.txt").write_text("".join(f"<{n}>\n" for n in range(20)))

    async with opened(root, writable=True) as call:
        async with anyio.create_task_group() as tasks:
            for n in range(20):

                async def edit(n: int = n) -> None:
                    await call("edit_file", path="many.txt", old=f"<{n}>", new=f"[{n}]")

                tasks.start_soon(edit)

    assert (root / "many.txt").read_text() == "".join(f"[{n}]\n" for n in range(20))


async def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = _files_replace._write

    def slow(*arguments: Any) -> None:
        written(*arguments)
        (root / "notes.txt").write_text("a human was here")

    monkeypatch.setattr(_files_replace, "_write", slow)
    told = await refused(root, "edit_file", path="notes.txt", old="tea", new="cake")

    assert "changed by somebody else meanwhile" in told
    assert (root / "notes.txt").read_text() == "a human was here"


# Moving and deleting


async def test_a_file_or_a_directory_moves(root: Path) -> None:
    await change(root, "move_file", source="notes.txt", target="kept/notes.md")
    await change(root, "move_file", source="sub", target="kept/sub")

    assert (root / "kept/notes.md").read_text() == "Monday\nFriday: tea\n"
    assert (root / "kept/sub/deep/last.txt").read_text() == "the end"
    assert not (root / "notes.txt").exists()
    assert not (root / "sub").exists()


@pytest.mark.parametrize("target", ["sub/plan.md", "sub/deep", "notes.txt"])
async def test_a_move_replaces_nothing(root: Path, target: str) -> None:
    assert "exists already" in await refused(root, "move_file", source="notes.txt", target=target)
    assert (root / "notes.txt").exists()
    assert (root / "sub/plan.md").read_text() == "# Plan\n\nbuy tea\n"


async def test_a_directory_does_not_move_into_itself(root: Path) -> None:
    told = await refused(root, "move_file", source="sub", target="sub/deep/sub")
    assert "cannot be moved into itself" in told


async def test_a_file_or_an_empty_directory_is_deleted_and_no_tree_is(root: Path) -> None:
    assert "only an empty one" in await refused(root, "delete_file", path="sub/deep")
    await change(root, "delete_file", path="sub/deep/last.txt")
    await change(root, "delete_file", path="sub/deep")
    assert visible(root) == ["notes.txt", "sub", "sub/plan.md"]
    assert "does not exist" in await refused(root, "delete_file", path="nothing")


# Repeated after a crash

REPEATED: list[tuple[str, dict[str, Any]]] = [
    ("write_file", {"path": "notes.txt", "content": "new"}),
    ("edit_file", {"path": "notes.txt", "old": "tea", "new": "tea, tea"}),
    ("move_file", {"source": "notes.txt", "target": "moved.txt"}),
    ("move_file", {"source": "sub", "target": "moved"}),
    ("delete_file", {"path": "notes.txt"}),
]


class Killed(BaseException):
    """The program ends here."""


@pytest.mark.parametrize(("tool", "arguments"), REPEATED)
async def test_a_call_that_is_repeated_is_done_once_and_says_the_same(
    root: Path, tool: str, arguments: dict[str, Any]
) -> None:
    first = await change(root, tool, "7/3", **arguments)
    then = visible(root), (root / "notes.txt").exists() and (root / "notes.txt").read_text()

    assert await change(root, tool, "7/3", **arguments) == first
    assert (
        visible(root),
        (root / "notes.txt").exists() and (root / "notes.txt").read_text(),
    ) == then


@pytest.mark.parametrize("step", ["fsync", "rename", "link", "unlink"])
@pytest.mark.parametrize(("tool", "arguments"), REPEATED)
async def test_a_call_cut_at_any_step_is_finished_by_its_repetition(
    root: Path, monkeypatch: pytest.MonkeyPatch, tool: str, arguments: dict[str, Any], step: str
) -> None:
    plain = root.parent / "plain"
    shutil.copytree(root, plain)
    await change(plain, tool, **arguments)

    for nth in range(6):
        calls = 0
        real = getattr(os, step)

        def cut(*some: Any, nth: int = nth, real: Any = real, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth + 1:
                raise Killed
            return real(*some, **more)

        monkeypatch.setattr(os, step, cut)
        with suppress(Killed):
            await change(root, tool, "7/3", **arguments)
        monkeypatch.undo()
    await change(root, tool, "7/3", **arguments)

    assert [n for n in visible(root) if ".aosk" not in n] == visible(plain)
    for path in plain.rglob("*.txt"):
        assert (root / path.relative_to(plain)).read_text() == path.read_text()


async def test_a_repeated_call_that_finds_another_file_does_not_touch_it(root: Path) -> None:
    await change(root, "delete_file", "7/3", path="notes.txt")
    await change(root, "edit_file", "7/4", path="sub/plan.md", old="tea", new="cake")
    (root / "notes.txt").write_text("somebody's new file")
    (root / "sub" / "plan.md").write_text("tea again")

    doubt = await refused(root, "delete_file", "7/3", path="notes.txt")
    assert "nobody can say" in doubt
    assert "nobody can say" in await refused(
        root, "edit_file", "7/4", path="sub/plan.md", old="tea", new="cake"
    )
    assert (root / "notes.txt").read_text() == "somebody's new file"
    assert (root / "sub" / "plan.md").read_text() == "tea again"


async def test_what_calls_meant_to_do_is_hidden_bounded_and_not_for_tools(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files_change.intents, "KEPT", 10)
    async with opened(root, writable=True) as call:
        for n in range(30):
            await call("edit_file", f"1/{n}", path="notes.txt", old="Friday", new=" Friday")
        listed = (await call("list_files"))["files"]

    assert len(os.listdir(root / ".aosk")) <= 11
    assert (root / ".aosk" / ".gitignore").read_text() == "*\n"
    assert not [path for path in listed if "aosk" in path]
