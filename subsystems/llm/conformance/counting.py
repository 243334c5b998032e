"""Tokens: counted beforehand, too many for the window, read from a cache."""

from ..driver import BadPrompt, ChatMessage, Complete, PromptTooLong, Sampling
from .check import check
from .prompts import ADD, CHINESE, CODE, ENGLISH, HELLO, READ, question
from .subject import Model, NotApplicable, Subject, expect

CLOSE = {"exact": 0.0, "provider": 0.1, "estimated": 0.25}
"""How far a count may be from what is reported then, as a share of that."""
FAR = 3
"""A count before anything was learned is less than so many times too much or too little."""
TEMPLATE = 40
"""Tokens that a provider's own template may add to a prompt unseen."""
LEAST_TOKENS = 50
"""Of the English text, in whatever tokenizer."""
MOST_WINDOW = 32_768
"""A larger window is not overflowed: a provider might take the prompt, and the money."""


@check(calls=6, tokens=900)
async def a_count_is_near_what_is_reported(subject: Subject) -> None:
    """What is counted beforehand is what the usage then says, as near as the card promises."""
    async with subject.model() as model:
        counting = model.card.can.counting
        for text in (ENGLISH, CHINESE, CODE):
            counted, reported = await _both(model, text)
            if reported is None:
                continue
            if counting != "estimated":
                _expect_near(counted, reported, CLOSE[counting])
            far = max(counted, reported) - TEMPLATE > FAR * min(counted, reported)
            expect(not far, f"counted {counted}, reported {reported}: {text[:30]!r}...")
        if counting == "estimated":
            for _ in range(3):
                counted, reported = await _both(model, ENGLISH)
        if reported is None:
            raise NotApplicable("its provider reports no usage to compare with")
        _expect_near(counted, reported, CLOSE[counting])


@check(calls=0, tokens=0)
async def tools_cost_tokens_and_their_order_does_not(subject: Subject) -> None:
    """A count includes the tools, and is the same in whatever order they are offered."""
    async with subject.model() as model:
        messages, count = question(HELLO, most=6).messages, model.driver.count
        try:
            one = await count(messages, (READ,))
        except BadPrompt as refused:
            model.needs(model.card.can.tools, f"tools, and so does the driver: {refused}")
            raise
        none = await count(messages, ())
        expect(none < one, f"{none} tokens without a tool, {one} with one")
        two, turned = await count(messages, (READ, ADD)), await count(messages, (ADD, READ))
        expect(two == turned, f"{two} tokens, and {turned} in another order")


@check(calls=1, tokens=0)
async def a_prompt_beyond_the_window_is_refused(subject: Subject) -> None:
    """A prompt that does not fit raises PromptTooLong, with the numbers where they are known."""
    async with subject.model(subject.small_window) as model:
        window = model.card.context_window
        if window > MOST_WINDOW:
            raise NotApplicable(f"the window has {window} tokens; give Subject a `small_window`")
        try:
            await model.ask(question("many words " * window, most=6))
        except PromptTooLong as error:
            _expect_numbers(error, model)
        else:
            expect(False, f"{2 * window} words were answered with a window of {window} tokens")
        expect(not model.heard, "a refused prompt was answered in part")
        expect(not model.meter, f"a refused prompt was metered: {dict(model.meter)}")


@check(calls=2, tokens=3500)
async def a_repeated_beginning_is_read_from_the_cache(subject: Subject) -> None:
    """Where the card says prefix cache, a repeated prompt's usage says what was read from it."""
    async with subject.model() as model:
        model.needs(model.card.can.prefix_cache, "prefix cache")
        text = ENGLISH * (1 + subject.cache_from // LEAST_TOKENS)
        messages = (ChatMessage(role="system", text=text), ChatMessage(role="user", text=HELLO))
        ask = Complete(messages=messages, sampling=Sampling(max_tokens=2))
        usage = (await model.ask_warm(ask)).usage
        expect(usage.cached > 0, f"nothing of a repeated prompt came from the cache: {usage}")
        expect(usage.cached <= usage.prompt, f"more cached than sent: {usage}")


async def _both(model: Model, text: str) -> tuple[int, int | None]:
    """Tokens of a prompt as counted, and as reported with its answer, if they were."""
    ask = question(text, most=2)
    counted = await model.driver.count(ask.messages, ask.tools)
    usage = (await model.ask(ask)).usage
    return counted, None if usage.estimated else usage.prompt


def _expect_near(counted: int, reported: int, close: float) -> None:
    near = abs(counted - reported) <= close * reported
    expect(near, f"counted {counted}, reported {reported}; at most {close:.0%} apart is promised")


def _expect_numbers(error: PromptTooLong, model: Model) -> None:
    window, tokens = model.card.context_window, error.tokens
    if error.window is not None and tokens is not None:
        expect(tokens > error.window, f"{tokens} tokens were too many for {error.window}")
    if model.card.can.counting == "exact":
        known = error.window == window and tokens is not None
        expect(known, f"the card says {window}; the error says {error.window} and {tokens} tokens")
