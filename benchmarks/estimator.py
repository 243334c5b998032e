"""How far the estimator of tokens is off, beside real tokenizers: before and after ten calls."""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any, NamedTuple

from aoskernel.drivers.llm._estimate import Estimate, Estimator
from aoskernel.drivers.llm._estimate_features import features
from aoskernel.drivers.llm._estimate_learning import Learner
from aoskernel.subsystems.llm.messages import ChatMessage, ToolCall, ToolSpec

from .case import Effort, Figures, Goal, case, cpu_us
from .estimator_providers import Template, chatml, headers, markers, provider, typescript
from .estimator_records import RECORDS

TEXTS = Path(__file__).with_name("texts")
DOCS = Path(__file__).resolve().parent.parent
OTHERS = {
    "english.microkernel": DOCS / "docs/explanation/why-a-microkernel.md",
    "chinese.readme": DOCS / "README.zh-CN.md",
    "code.heapq": "heapq",
    "code.textwrap": "textwrap",
}
"""Held out too: pages of these docs, and modules of the standard library."""

SYSTEM = ChatMessage(role="system", text="You are a careful assistant. Answer briefly.")


class Prompt(NamedTuple):
    """What is sent in one call."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()


def texts(part: str) -> dict[str, str]:
    """By "kind.name": the texts of "fit", "learn" or "held_out"."""
    files = {path.stem: path.read_text("utf-8") for path in sorted((TEXTS / part).iterdir())}
    made = {name: make(Random(part + name)) for name, make in RECORDS[part].items()}
    if part != "held_out":
        return files | made
    return files | made | {name: _other(place) for name, place in OTHERS.items()}


def _other(place: str | Path) -> str:
    if isinstance(place, Path):
        return place.read_text("utf-8")
    spec = find_spec(place)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text("utf-8")[:12_000]


def tool(name: str, description: str, **fields: str) -> ToolSpec:
    """A tool with text fields; a field's value describes it."""
    properties = {name: {"type": "string", "description": told} for name, told in fields.items()}
    schema: Any = {"type": "object", "properties": properties, "required": list(fields)[:1]}
    return ToolSpec(name=name, description=description, parameters=schema)


TOOLS = (
    tool("search", "Search the company's documents.", query="What to look for", limit="How many"),
    tool("read_file", "Read a file of the workspace.", path="Relative path", encoding="Charset"),
    tool(
        "run_query",
        "Run a read-only SQL query and return the rows as JSON.",
        sql="One SELECT statement",
        database="Which database: sales, stock or people",
    ),
)
OTHER_TOOLS = (
    tool(
        "create_ticket",
        "Open a ticket in the tracker. Use it only when the user has agreed to it.",
        title="One line, in the imperative",
        body="Markdown: what happens, what should happen, how to repeat it",
        priority="One of low, normal, high, urgent",
        assignee="The login of whoever shall work on it; leave empty if unknown",
    ),
    tool("get_weather", "Current weather and a three-day forecast.", city="City and country"),
    tool("list_directory", "Names and sizes of the files in a folder.", path="Folder", depth="0-9"),
    tool(
        "send_message",
        "Send a message to a person or a channel in the team's chat.",
        channel="Name with # or @",
        text="What to say, at most 4000 characters",
        thread="The id of the message to answer, if any",
    ),
)


def said(text: str) -> ChatMessage:
    return ChatMessage(role="user", text=text)


def ten_calls() -> Iterator[Prompt]:
    """What an agent asks in its first ten calls: of every kind, with and without tools."""
    of = texts("learn")
    yield Prompt((SYSTEM, said(of["english.request"])))
    yield Prompt((SYSTEM, said(of["chinese.request"])))
    yield Prompt((SYSTEM, said("Is this code right?\n\n" + of["code.python"])))
    talk = [SYSTEM, said("Who are our customers in Lisbon?")]
    yield Prompt(tuple(talk), TOOLS)
    talk += _called("run_query", {"sql": "SELECT * FROM people WHERE city = 'Lisbon'"})
    talk.append(ChatMessage(role="tool", text=of["json.people"], tool_call_id="1"))
    yield Prompt(tuple(talk), TOOLS)
    talk += _called("search", {"query": "slow requests last night", "limit": "8"})
    talk.append(ChatMessage(role="tool", text=of["json.events"], tool_call_id="1"))
    yield Prompt(tuple(talk), TOOLS)
    yield Prompt((SYSTEM, said(of["log.server"]), said(of["code.shell"])))
    yield Prompt((SYSTEM, said(of["mixed.chat"])))
    yield Prompt((SYSTEM, said(of["table.csv"]), said(of["chinese.answer"])))
    talk += [said(of["chinese.request"]), said(of["english.request"])]
    yield Prompt(tuple(talk), TOOLS)


def _called(name: str, arguments: dict[str, str]) -> list[ChatMessage]:
    call = ToolCall(id="1", name=name, arguments={**arguments})
    return [ChatMessage(role="assistant", text="Let me look.", tool_calls=(call,))]


def held_out() -> dict[str, list[Prompt]]:
    """By kind: prompts that nothing was learned from."""
    kinds: dict[str, list[Prompt]] = {}
    whole = texts("held_out")
    for name, text in whole.items():
        prompt = Prompt((SYSTEM, said(text)))
        kinds.setdefault(name.partition(".")[0], []).append(prompt)
    everything = [said(text) for text in whole.values()]
    kinds["tools"] = [Prompt((SYSTEM, said("What is the weather in Porto?")), OTHER_TOOLS)]
    kinds["conversation"] = [Prompt((SYSTEM, *everything), OTHER_TOOLS)]
    return kinds


class Outcome(NamedTuple):
    """Of one kind, in per cent: the worst text's error, and the mean's, before and after.

    `reserve` is the mean reserve after ten calls. `beyond` is by how much a truth was more than
    estimate and reserve together, before or after; 0 when none was.
    """

    worst_before: float
    worst: float
    mean_before: float
    mean: float
    reserve: float
    beyond: float


def outcomes(tokenizer: str, template: Template, model: str) -> dict[str, Outcome]:
    """By kind of text held out."""
    report = provider(tokenizer, template)
    fresh, taught = Estimator(model), Estimator(model)
    for prompt in ten_calls():
        taught.learn(*prompt, report(*prompt))
    return {
        kind: _outcome([(report(*p), fresh.prompt(*p), taught.prompt(*p)) for p in prompts])
        for kind, prompts in held_out().items()
    }


def _outcome(rows: Sequence[tuple[int, Estimate, Estimate]]) -> Outcome:
    before = [100 * abs(fresh.tokens / true - 1) for true, fresh, _ in rows]
    after = [100 * abs(taught.tokens / true - 1) for true, _, taught in rows]
    beyond = [100 * (true / guess.at_most - 1) for true, *guesses in rows for guess in guesses]
    return Outcome(
        worst_before=max(before),
        worst=max(after),
        mean_before=mean(before),
        mean=mean(after),
        reserve=mean(100 * (taught.at_most / taught.tokens - 1) for _, _, taught in rows),
        beyond=max(0.0, *beyond),
    )


PROVIDERS: dict[str, tuple[str, Template, str]] = {
    "o200k": ("o200k_base", typescript, "gpt-4o"),
    "llama3": ("llama3", headers, "llama-3.3-70b"),
    "qwen3": ("qwen3", chatml, "qwen3-max"),
    "deepseek": ("deepseek", markers, "deepseek-chat"),
    "o200k, unknown": ("o200k_base", typescript, "new-1"),
    "cl100k, unknown": ("cl100k_base", headers, "new-1"),
    "qwen3, unknown": ("qwen3", chatml, "new-1"),
    "deepseek, unknown": ("deepseek", markers, "new-1"),
}
"""By case: tokenizer, template, and the model's name; an unknown one begins with the mean's
weights. Of cl100k nothing was fitted."""

PROMISED = ("english", "chinese", "code", "json")


def _measured(name: str) -> Figures:
    kinds = outcomes(*PROVIDERS[name])
    figures: Figures = {}
    for kind, outcome in kinds.items():
        figures[f"{kind}_before_pct"] = outcome.worst_before
        figures[f"{kind}_pct"] = outcome.worst
    figures["reserve_pct"] = mean(outcome.reserve for outcome in kinds.values())
    figures["beyond_reserve_pct"] = max(outcome.beyond for outcome in kinds.values())
    return figures


def _measure(name: str) -> None:
    most = 15 if "unknown" in name else 10
    goals = [Goal(f"{kind}_pct", value=most) for kind in PROMISED]

    @case("estimator", name, goals=[*goals, Goal("beyond_reserve_pct", value=0)])
    async def run(effort: Effort) -> Figures:
        return _measured(name)


for _name in PROVIDERS:
    _measure(_name)


@case("estimator", "cost", goals=[Goal("learn_us", value=50)])
async def cost(effort: Effort) -> Figures:
    """Of scanning 10,000 characters, of a prompt whose texts are known, and of learning it."""
    text = "\n".join(texts("held_out").values()).encode()[:10_000].decode("utf-8", "ignore")
    learner = Learner([1.0] * 12, [0.3] * 12, [0.1] * 12, [9.0] * 12, spread=0.05)
    quantities = [100.0 + 7 * n for n in range(12)]
    estimator, prompt = Estimator("gpt-4o"), held_out()["conversation"][0]

    async def scan(times: int) -> None:
        for _ in range(times):
            features(text)

    async def estimate(times: int) -> None:
        for _ in range(times):
            estimator.prompt(*prompt)

    async def learn(times: int) -> None:
        for n in range(times):
            learner.learn(quantities, 1600 + 100 * (n % 7))

    return {
        "scan_us": await cpu_us(scan, effort, batch=20),
        "estimate_us": await cpu_us(estimate, effort, batch=20),
        "learn_us": await cpu_us(learn, effort, batch=100),
    }


def main() -> None:
    """Print every provider's and kind's outcome as JSON."""
    table = {
        name: {kind: outcome._asdict() for kind, outcome in outcomes(*how).items()}
        for name, how in PROVIDERS.items()
    }
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
