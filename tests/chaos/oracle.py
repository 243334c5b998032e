"""What must be true of a trial whose program has ended, however often it was killed."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from chaos.trial import Trial
from chaos.world import World

UNDISTURBED = [
    *("re: hello", "re: and now"),
    *("peek 1: done", "put 2: done", "book 3: done", "reserve 4: done", "order 5: done"),
    "re: after the devices",
    *("peek ten 0: done", "put ten 1: done", "book ten 2: done", "order ten 3: done", "re: ten 4"),
    *("peek ten 5: done", "put ten 6: done", "book ten 7: done", "order ten 8: done", "re: ten 9"),
    *("re: wins", "put race: done", "re: in time", "not done within 0.1 s"),
    "[[0, 1, 2], [0, 1, 2], [0, 1, 2]]",
    *(f"re: child {n}, thanks {n}" for n in range(3)),
    *("re: drawn", "re: clock"),
    *("child 0", "child 1", "child 2", "the end", "we talked"),
]


def spoken(program: str, *prompts: str) -> list[str]:
    """What the model was asked, and said."""
    return [
        line
        for prompt in prompts
        for line in (f"{program} user {prompt}", f"{program} assistant re: {prompt}")
    ]


TRANSCRIPT = [
    "job system You are tested.",
    *("job user use your tools", "job assistant peek put book"),
    *("job tool peek a: done", "job tool put b: done", "job tool book c: done"),
    *spoken("job", "hello", "and now", "after the devices", "ten 4", "ten 9", "wins", "in time"),
    *spoken("job", "drawn", "clock"),
    *spoken("child", "child 0", "child 1", "child 2"),
]
MEMORIES = ["child 0", "child 1", "child 2", "the end", "we talked"]
PROCESSES = ["child", "child", "child", "job"]

SENT_AFTER_ITS_OUTCOME = """
select pid, step, path, entry.kind from intent join entry using (pid, step, path)
where intent.epoch > entry.epoch and pid in (select pid from process where namespace = $1)
"""
ATTEMPTS = """
select pid || '/' || intent.step || ':' || path as key, attempts
from intent join process using (pid) where namespace = $1
"""
PAGES = """
select
    program, page.role,
    coalesce(page.text, '') || coalesce(page.rest, '') as text,
    coalesce(entry.body, '') || coalesce(entry.rest, '') as said
from page
join process using (pid)
left join entry on entry.pid = page.pid and entry.step = page.step and entry.path = page.path
where namespace = $1
"""


async def ends_well(tried: Trial) -> None:
    """Run its main until its program has ended, and look at everything."""
    life = await tried.run_to_the_end()
    assert life.result == UNDISTURBED
    assert life.facts["leaked"] == 0
    await judge(tried)


async def judge(trial: Trial) -> None:
    """Raise AssertionError, saying what is not as it must be."""
    connection = await trial.ground.connect(server_settings={"search_path": "aoskernel, public"})
    try:
        await _processes(trial, connection)
        await _attempts(trial, connection)
        await _letters_and_memories(trial, connection)
        await _transcript(trial, connection)
    finally:
        await connection.close()
    effects(trial.world)
    for call in trial.world.calls:
        if call.kind == "model":
            assert (wrong := history_fault(call.history)) is None, (call.name, wrong)


async def _processes(trial: Trial, connection: Any) -> None:
    """One process for the key, its children once, and none that has not ended."""
    rows = await connection.fetch(
        "select program, state from process where namespace = $1", trial.namespace
    )
    assert sorted(row["program"] for row in rows) == PROCESSES
    assert {row["state"] for row in rows} == {"exited"}


async def _attempts(trial: Trial, connection: Any) -> None:
    """Nothing is sent without an intent, twice in one life of the process, or after its outcome."""
    again = await connection.fetch(SENT_AFTER_ITS_OUTCOME, trial.namespace)
    assert not again, again
    intents = {r["key"]: r["attempts"] for r in await connection.fetch(ATTEMPTS, trial.namespace)}
    calls = [call for call in trial.world.calls if call.effect != "none" and call.kind != "pause"]
    for key, sent in Counter(call.key for call in calls).items():
        assert sent <= intents.get(key, 0), key
        assert sent <= 1 + trial.kills, key
    for (_, key), sent in Counter((call.application, call.key) for call in calls).items():
        assert sent == 1, key


async def _letters_and_memories(trial: Trial, connection: Any) -> None:
    left = await connection.fetch(
        "select letter.* from letter join process using (pid) where namespace = $1",
        trial.namespace,
    )
    assert not left, left
    rows = await connection.fetch("select text from memory where namespace = $1", trial.namespace)
    assert sorted(row["text"].decode() for row in rows) == MEMORIES


async def _transcript(trial: Trial, connection: Any) -> None:
    """Each page once, and no other; in an order, history_fault sees to that, that is valid."""
    pages = await connection.fetch(PAGES, trial.namespace)
    assert sorted(map(_line, pages)) == sorted(TRANSCRIPT)


def _line(page: Any) -> str:
    """A page without what chance gave."""
    text: str = page["text"].decode()
    if page["said"]:
        said: Any = json.loads(page["said"])
        reply = said if page["role"] == "assistant" else {"text": said}
        text = reply["text"] or " ".join(call["name"] for call in reply["tool_calls"])
    kept = text.partition(":")[0] if text.startswith(("drawn: ", "clock: ")) else text
    return f"{page['program']} {page['role']} {kept}"


def effects(world: World) -> None:
    """What may happen once has not happened twice."""
    once = {call.key: call.name for call in world.calls if call.effect == "once"}
    twice = {name: world.effects[key] for key, name in once.items() if world.effects[key] > 1}
    assert not twice, twice


def history_fault(history: Sequence[dict[str, Any]]) -> str | None:
    """Why a provider would refuse this conversation; None if it would not.

    Behind the system's messages the user begins; each tool call has one result, and the results
    stand right behind the message that asked for them; the assistant never has the last word.
    """
    roles = [message["role"] for message in history]
    start = next((n for n, role in enumerate(roles) if role != "system"), len(roles))
    if "system" in roles[start:]:
        return "a system message stands behind others"
    if roles[start : start + 1] != ["user"]:
        return "the user does not begin"
    if roles[-1] == "assistant":
        return "the assistant has the last word"
    owed: list[str] = []
    for place, message in enumerate(history):
        if message["role"] == "tool":
            if message["tool_call_id"] not in owed:
                return f"message {place} answers no call right before it"
            owed.remove(message["tool_call_id"])
            continue
        if owed:
            return f"calls {owed} have no result before message {place}"
        owed = [call["id"] for call in message["tool_calls"]]
        if len(set(owed)) < len(owed):
            return f"message {place} uses an id twice"
    return f"calls {owed} have no result at the end" if owed else None
