"""Answers that are held to a JSON schema."""

import json
from typing import Any

from ..driver import BadPrompt
from .check import check
from .prompts import GREETING, HELLO, PERSON, READ, WELCOME, question
from .subject import Nonconforming, Subject, expect


@check(calls=1, tokens=200)
async def a_schema_makes_the_answer_json(subject: Subject) -> None:
    """With a schema the whole answer is JSON that fits it."""
    async with subject.model() as model:
        model.needs(model.card.can.json_schema, "JSON schema")
        answer = await model.ask(question("Anna is 31.", most=100, json_schema=PERSON))
        expect(answer.finish == "stop", f"it finished with {answer.finish!r}: {answer.text!r}")
        person = _parsed(answer.text)
        fits = person.keys() == {"name", "age"} and isinstance(person["age"], int)
        expect(fits and person["name"] in ("Anna", "Ben"), f"it does not fit: {answer.text!r}")
        expect(model.said() == answer.text, "what was emitted is not the answer's text")


@check(calls=1, tokens=120)
async def a_schema_does_not_lift_the_token_limit(subject: Subject) -> None:
    """With a schema, too, the token limit ends an answer."""
    async with subject.model() as model:
        model.needs(model.card.can.json_schema, "JSON schema")
        answer = await model.ask(question("Anna is 31.", most=3, json_schema=PERSON))
        expect(answer.finish == "length", f"it finished with {answer.finish!r}")
        expect(answer.usage.completion <= 3, f"3 tokens asked, {answer.usage.completion} used")


@check(calls=1, tokens=220)
async def characters_of_many_tokens_come_out_whole(subject: Subject) -> None:
    """No piece has half a character, whatever the tokens are."""
    async with subject.model() as model:
        model.needs(model.card.can.json_schema, "JSON schema")
        answer = await model.ask(question("问候世界 🎉", most=120, json_schema=WELCOME))
        told = _parsed(answer.text).get("greeting")
        expect(told == GREETING, f"the schema allows {GREETING!r} only, it said {told!r}")
        expect(model.said() == answer.text, f"emitted: {model.said()!r}; told: {answer.text!r}")


@check(calls=0, tokens=0)
async def tools_and_a_schema_exclude_each_other(subject: Subject) -> None:
    """A request with tools and a schema is refused with BadPrompt before anything is sent."""
    async with subject.model() as model:
        try:
            await model.ask(question(HELLO, most=6, tools=(READ,), json_schema=PERSON))
        except BadPrompt:
            expect(not model.meter, f"the refused request was metered: {dict(model.meter)}")
        else:
            expect(False, "a request with tools and a schema was answered")


def _parsed(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise Nonconforming(f"the answer is no JSON: {text!r}") from error
    expect(isinstance(told, dict), f"the answer is no JSON object: {text!r}")
    return dict(told)
