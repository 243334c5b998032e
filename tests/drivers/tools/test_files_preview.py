"""What a change of a file would be, shown to whoever is to approve it."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from one_storage import OneStorage, until

from aoskernel import assistant, spawn
from aoskernel.drivers.llm.scripted import call
from aoskernel.drivers.tools.files import Files
from aoskernel.subsystems.processes.messages import Answer, ListQuestions
from aoskernel.subsystems.tools.messages import ToolFailed


async def shown(root: Path, name: str, **arguments: Any) -> str:
    files = Files(root=root, writable=True)
    await files.start()
    try:
        with anyio.fail_after(20):
            return await files.preview(name, arguments)
    finally:
        await files.stop()


async def test_an_edit_is_shown_as_a_diff_and_not_made(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\nthree\n")
    told = await shown(tmp_path, "edit_file", path="a.py", old="two", new="2")
    assert told.splitlines() == [
        *("--- a.py", "+++ a.py", "@@ -1,3 +1,3 @@", " one", "-two", "+2", " three"),
    ]
    assert (tmp_path / "a.py").read_text() == "one\ntwo\nthree\n"


async def test_a_new_file_is_shown_whole(tmp_path: Path) -> None:
    told = await shown(tmp_path, "write_file", path="new/b.py", content="hello\n")
    assert told.splitlines() == ["--- /dev/null", "+++ new/b.py", "@@ -0,0 +1 @@", "+hello"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("write_file", {"path": "../b", "content": ""}, "outside"),
        ("edit_file", {"path": "a.py", "old": "x", "new": "y"}, "does not have this text"),
        ("edit_file", {"path": "b.py", "old": "x", "new": "y"}, "does not exist"),
        ("write_file", {"path": "binary", "content": ""}, "no text"),
    ],
)
async def test_what_cannot_be_shown_says_why(
    tmp_path: Path, name: str, arguments: Any, told: str
) -> None:
    (tmp_path / "a.py").write_text("one")
    (tmp_path / "binary").write_bytes(b"\0\xff")
    with pytest.raises(ToolFailed, match=told):
        await shown(tmp_path, name, **arguments)


async def test_a_long_diff_is_cut(tmp_path: Path) -> None:
    told = await shown(tmp_path, "write_file", path="b", content="line\n" * 10_000)
    assert told.endswith("... (10,003 lines in all)")
    assert len(told) < 9_000


async def test_a_question_shows_the_diff_of_what_would_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x = 1\n")

    def script(ask: Any) -> Any:
        asked = call("edit_file", path="a.toml", old="x = 1", new="x = 2")
        return "done" if ask.messages[-1].role == "tool" else asked

    rules = {"mode": "standard", "workspace": str(tmp_path), "ask": ["tools.call:* path=*.toml"]}
    files = {"root": str(tmp_path), "writable": True}
    tables = {"tools.files": files, "policy": rules}
    async with OneStorage().kernel(script, **tables) as kernel:
        agent = await spawn(kernel, assistant(task="Set x."))

        async def asked() -> Any:
            return await kernel.request(ListQuestions())

        (question,) = await until(asked)
        assert "  @@ -1 +1 @@\n  -x = 1\n  +x = 2\n" in question.text
        assert (tmp_path / "a.toml").read_text() == "x = 1\n"
        await kernel.request(Answer(number=question.number, text="approve"))
        with anyio.fail_after(20):
            assert await agent == "done"
    assert (tmp_path / "a.toml").read_text() == "x = 2\n"
