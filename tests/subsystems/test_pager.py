"""A prompt is a pure view of the pages, kept up as they come."""

from collections.abc import Sequence
from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from aoskernel.kernel.testing import Bench
from aoskernel.subsystems.llm.messages import (
    ChatMessage,
    Completion,
    Count,
    Describe,
    ModelCard,
    ToolCall,
    Usage,
)
from aoskernel.subsystems.pager.messages import Prompt, Render
from aoskernel.subsystems.pager.service import Pager
from aoskernel.subsystems.storage.messages import Page, Pid, ReadPages

PID = Pid(1)
IDS = st.sampled_from(["a", "b", "c"])


def asks(*ids: str) -> Page:
    """An assistant's page that asks for these calls."""
    reply = Completion(
        text="",
        tool_calls=tuple(ToolCall(id=name, name="add", arguments={}) for name in ids),
        finish="tool_calls",
        usage=Usage(prompt=1, completion=1),
        model="m",
    )
    return Page(role="assistant", entry="0:0", text=reply.model_dump_json())


def result(of: str, text: str) -> Page:
    return Page(role="tool", text=text, tool_call_id=of)


PAGES = st.lists(
    st.one_of(
        st.builds(Page, role=st.just("user"), text=st.text(max_size=5), pinned=st.booleans()),
        st.builds(Page, role=st.just("system"), text=st.text(max_size=5), pinned=st.booleans()),
        st.lists(IDS, max_size=3).map(lambda ids: asks(*ids)),
        st.builds(result, IDS, st.text(max_size=5)),
    ),
    max_size=12,
)


def bench(pages: Sequence[Page], window: int = 10**6) -> Bench:
    """A pager over a list of pages, which may grow, and a model that counts letters."""
    bench = Bench(Pager())

    def read(query: ReadPages) -> tuple[Page, ...]:
        for number, page in enumerate(pages, 1):
            page.number = number
        return tuple(pages[query.after :])

    def count(ask: Count) -> int:
        return sum(len(message.text) for message in ask.messages)

    bench.answer(ReadPages, read)
    bench.answer(Describe, ModelCard(model="m", driver="test", context_window=window))
    bench.answer(Count, count)
    return bench


async def rendered(pages: Sequence[Page], *new: Page) -> Prompt:
    """By a pager that has never seen them."""
    async with bench(pages) as fresh:
        return await fresh.request(Render(pid=PID, new=new))


@given(pages=PAGES, new=PAGES)
@settings(max_examples=60, deadline=None)
def test_a_prompt_kept_up_page_by_page_is_the_one_made_at_once(
    pages: list[Page], new: list[Page]
) -> None:
    async def main() -> None:
        there: list[Page] = []
        async with bench(there) as kept:
            for page in pages:
                await kept.request(Render(pid=PID, new=(page,)))  # and is not committed
                there.append(page)
                await kept.request(Render(pid=PID))
            prompt = await kept.request(Render(pid=PID, new=tuple(new)))
        assert prompt == await rendered([*pages, *new])

    anyio.run(main)


@given(pages=PAGES)
@settings(max_examples=60, deadline=None)
def test_behind_each_call_stands_its_one_result(pages: list[Page]) -> None:
    prompt = anyio.run(rendered, pages)
    waiting: list[str] = []
    for message in prompt.messages:
        if message.role == "tool":
            assert message.tool_call_id == waiting.pop(0)
        else:
            assert not waiting
            waiting = [call.id for call in message.tool_calls]
    assert not waiting


async def test_a_result_that_comes_late_is_put_behind_its_call() -> None:
    late = [asks("a", "b"), result("b", "2"), Page(role="user", text="go on"), result("a", "1")]
    prompt = await rendered(late)
    assert [message.text for message in prompt.messages] == ["", "1", "2", "go on"]


async def test_an_id_that_recurs_is_answered_where_it_was_asked_last() -> None:
    twice = [asks("a"), result("a", "1"), asks("a"), result("a", "2")]
    prompt = await rendered(twice)
    assert [message.text for message in prompt.messages] == ["", "1", "", "2"]


async def test_the_bound_of_a_small_prompt_is_never_less_than_its_bytes() -> None:
    pages = [Page(role="user", text="中" * 100), asks("a"), result("a", "x" * 50)]
    assert (await rendered(pages)).tokens >= 100 * 3 + 50


async def test_near_the_window_each_page_is_counted_once() -> None:
    pages: list[Page] = []
    async with bench(pages, window=2000) as pager:
        for n in range(30):
            pages.append(Page(role="user", text=f"{n:010}"))
            prompt = await pager.request(Render(pid=PID))
            assert len(prompt.messages) == n + 1
        counted: list[Any] = pager.asked(Count)
        assert (await pager.request(Render(pid=PID))).tokens == 300
    assert [ask.messages for ask in counted] == [
        (ChatMessage(role="user", text=page.text),) for page in pages
    ]
