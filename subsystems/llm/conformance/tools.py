"""Calls of tools: which, with what, under which ids, and what follows them."""

from collections.abc import Sequence

from ..driver import BadPrompt, ChatMessage, Complete, Completion, Sampling, ToolCall, ToolSpec
from .check import check
from .prompts import ADD, CALLS, READ, READ_AFTER, READ_BOTH, READ_ONE, question
from .subject import Model, NotApplicable, Subject, expect

USED = ToolCall(id="call_1", name=READ.name, arguments={"path": "notes.txt"})
HISTORY = (
    ChatMessage(role="system", text="You are brief."),
    ChatMessage(role="user", text="What does notes.txt say about Friday?"),
    ChatMessage(role="assistant", tool_calls=(USED,)),
    ChatMessage(role="tool", tool_call_id="call_1", text="Friday: standup at nine."),
)


@check(calls=1, tokens=300)
async def a_call_is_of_an_offered_tool(subject: Subject) -> None:
    """With tools a reply is a call of one that was offered, or an answer."""
    async with subject.model() as model:
        ask = question(READ_ONE, most=40, tools=(READ, ADD))
        reply = await _reply(model, ask)
        _expect_sound(model, reply, (READ, ADD))
        if subject.nature == "told":
            _expect_told(reply, READ_ONE)


@check(calls=1, tokens=300)
async def calls_at_once_have_ids_of_their_own(subject: Subject) -> None:
    """Several calls in one reply each have an id and whole arguments of their own."""
    async with subject.model() as model:
        model.needs(model.card.can.parallel_tools, "parallel tools")
        reply = await _reply(model, question(READ_BOTH, most=60, tools=(READ, ADD)))
        _expect_sound(model, reply, (READ, ADD))
        if subject.nature == "told":
            _expect_told(reply, READ_BOTH)


@check(calls=1, tokens=300)
async def a_conversation_with_calls_goes_on(subject: Subject) -> None:
    """A history with a call and its result can be continued."""
    async with subject.model() as model:
        ask = Complete(messages=HISTORY, tools=(READ,), sampling=Sampling(max_tokens=24))
        reply = await _reply(model, ask)
        expect(bool(reply.text or reply.tool_calls), "the reply to a tool's result is empty")
        _expect_sound(model, reply, (READ,))


@check(calls=1, tokens=300)
async def a_later_call_has_a_new_id(subject: Subject) -> None:
    """A call's id is not that of an earlier call of the conversation."""
    async with subject.model() as model:
        more = (
            ChatMessage(role="assistant", text="At nine there is a standup."),
            ChatMessage(role="user", text=READ_AFTER),
        )
        ask = Complete(messages=HISTORY + more, tools=(READ,), sampling=Sampling(max_tokens=24))
        reply = await _reply(model, ask)
        _expect_sound(model, reply, (READ,))
        expect(USED.id not in [call.id for call in reply.tool_calls], "an id came again")
        if subject.nature == "told":
            _expect_told(reply, READ_AFTER)


async def _reply(model: Model, ask: Complete) -> Completion:
    """The reply; a model that has no tools may refuse them, with BadPrompt."""
    try:
        reply = await model.ask(ask)
    except BadPrompt as refused:
        if model.card.can.tools:
            raise
        raise NotApplicable(f"the card says: no tools, and so does the driver: {refused}") from None
    if model.card.can.counting == "exact":
        counted, reported = await model.driver.count(ask.messages, ask.tools), reply.usage.prompt
        expect(counted == reported, f"with tools, counted {counted} and reported {reported}")
    return reply


def _expect_sound(model: Model, reply: Completion, offered: Sequence[ToolSpec]) -> None:
    names, calls = {tool.name for tool in offered}, reply.tool_calls
    expect(
        (reply.finish == "tool_calls") == bool(calls),
        f"it finished with {reply.finish!r} and has {len(calls)} calls",
    )
    for call in calls:
        expect(call.name in names, f"it called {call.name!r}, which was not offered")
        expect(bool(call.id), f"the call of {call.name!r} has no id")
    expect(len({call.id for call in calls}) == len(calls), "two calls have one id")
    expect(
        model.card.can.parallel_tools or len(calls) <= 1,
        f"the card says: no parallel tools, and it made {len(calls)} calls",
    )
    expect(model.said() == reply.text, "what was emitted is not the reply's text")


def _expect_told(reply: Completion, asked: str) -> None:
    told = [(call.name, call.arguments) for call in CALLS[asked]]
    made = [(call.name, call.arguments) for call in reply.tool_calls]
    expect(made == told, f"it was told to call {told} and called {made}")
