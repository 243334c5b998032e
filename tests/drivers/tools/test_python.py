"""Python functions as tools."""

import datetime
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import pytest
from pydantic import BaseModel, Field, JsonValue

from aoskernel.drivers.tools.python import PythonTools
from aoskernel.subsystems.tools.messages import BadArguments, ToolFailed, UnknownTool
from aoskernel.subsystems.tools.tool import IdempotencyKey, tool


class Item(BaseModel):
    name: str
    price: float


class Order(BaseModel):
    items: list[Item]


@dataclass
class Receipt:
    total: float
    day: datetime.date


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    The second paragraph is for people.
    """
    return a + b


async def call(function: Callable[..., Any], /, key: str = "", **arguments: Any) -> JsonValue:
    with anyio.fail_after(20):
        return await PythonTools(functions=(function,)).call(function.__name__, arguments, key)


# What the model sees


async def test_a_signature_becomes_a_json_schema() -> None:
    def weather(
        city: Annotated[str, Field(description="a city's name")],
        unit: Literal["C", "F"] = "C",
    ) -> str:
        """What the weather
        is like."""
        return ""

    (offer,) = await PythonTools(functions=(weather,)).offers()

    assert offer.spec.name == "weather"
    assert offer.spec.description == "What the weather is like."
    assert offer.spec.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "a city's name"},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


async def test_only_the_first_paragraph_of_the_docstring_is_the_description() -> None:
    (offer,) = await PythonTools(functions=(add,)).offers()

    assert offer.spec.description == "Add two numbers."


async def test_an_undeclared_effect_is_once() -> None:
    @tool(effect="none")
    def look(at: str) -> str:
        return at

    @tool
    def push(at: str) -> str:
        return at

    offers = await PythonTools(functions=(add, look, push)).offers()

    assert [offer.effect for offer in offers] == ["once", "none", "once"]


async def test_a_declared_tool_is_still_the_function_it_was() -> None:
    assert tool(add) is add
    assert tool(effect="once")(add)(1, 2) == 3


async def test_an_argument_may_be_named_like_anything() -> None:
    def odd(json: str, copy: int, model_dump: bool, _private: str = "p") -> list[Any]:
        return [json, copy, model_dump, _private]

    assert await call(odd, json="j", copy=1, model_dump=True) == ["j", 1, True, "p"]
    assert await call(odd, json="j", copy=1, model_dump=True, _private="q") == ["j", 1, True, "q"]


async def test_a_default_that_json_cannot_show_is_left_to_the_function() -> None:
    nothing = object()

    def look(at: Any = nothing) -> bool:
        return at is nothing

    assert await call(look) is True


async def test_a_default_may_stand_in_a_field() -> None:
    def look(at: int = Field(default=3, description="where")) -> int:
        return at

    (offer,) = await PythonTools(functions=(look,)).offers()

    assert offer.spec.parameters["properties"] == {
        "at": {"type": "integer", "default": 3, "description": "where"}
    }
    assert await call(look) == 3


async def test_a_call_cannot_change_the_default_of_the_next() -> None:
    def append(word: str, words: list[str] = []) -> list[str]:  # noqa: B006 - as users write it
        words.append(word)
        return words

    assert await call(append, word="a") == ["a"]
    assert await call(append, word="b") == ["b"]


# What is refused at declaration


def test_an_argument_without_a_type_is_refused_and_says_what_to_write() -> None:
    def mix(a: int, b) -> int:  # type: ignore[no-untyped-def]
        return a

    with pytest.raises(TypeError, match=r"tool 'mix': argument 'b' has no type; write .* b: str"):
        tool(mix)


def test_arguments_without_names_are_refused() -> None:
    def many(*values: int) -> int:
        return 0

    def more(**values: int) -> int:
        return 0

    with pytest.raises(TypeError, match=r"\*values: int has no schema; name each argument"):
        PythonTools(functions=(many,))
    with pytest.raises(TypeError, match=r"\*\*values: int has no schema"):
        PythonTools(functions=(more,))


def test_a_type_that_json_cannot_fill_is_refused_by_the_argument_s_name() -> None:
    def wait(lock: threading.Event) -> None: ...

    with pytest.raises(TypeError, match=r"argument 'lock' has a type that JSON cannot fill"):
        tool(wait)


def test_a_lambda_has_no_name_that_a_model_could_call() -> None:
    with pytest.raises(TypeError, match="write it with def"):
        PythonTools(functions=(lambda: 1,))


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two are named 'add'"):
        PythonTools(functions=(add, add))


async def test_a_bound_method_is_a_tool_and_an_unbound_one_is_not() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        @tool(effect="idempotent")
        def raise_to(self, count: int) -> int:
            self.count = count
            return count

    counter = Counter()
    (offer,) = await PythonTools(functions=(counter.raise_to,)).offers()

    assert offer.effect == "idempotent"
    assert await call(counter.raise_to, count=3) == counter.count == 3
    with pytest.raises(TypeError, match=r"pass it bound, as thing\.raise_to"):
        PythonTools(functions=(Counter.raise_to,))


# Functions by name


async def test_a_function_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "my_own_tools.py"
    module.write_text(
        "class Math:\n    def twice(number: int) -> int:\n        return 2 * number\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    tools = PythonTools(functions=("my_own_tools:Math.twice", add))

    assert await tools.call("twice", {"number": 4}, "") == 8
    assert await tools.call("add", {"a": 4}, "") == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("json.dumps", "write 'json.dumps' as package.module:function"),
        ("no_such_package:add", "cannot load 'no_such_package:add': No module named"),
        ("json:no_such_function", "cannot load 'json:no_such_function'"),
    ],
)
def test_a_function_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PythonTools(functions=(name,))


# Arguments


async def test_an_error_names_the_path_of_the_argument() -> None:
    def book(orders: list[Order]) -> None: ...

    orders = [{"items": [{"name": "tea", "price": 1}, {"name": "ink", "price": "much"}]}]

    with pytest.raises(BadArguments, match=r"orders\[0\]\.items\[1\]\.price: Input should be a"):
        await call(book, orders=orders)


async def test_every_error_is_named() -> None:
    with pytest.raises(BadArguments) as caught:
        await call(add, b="x", c=1)

    assert str(caught.value) == (
        "add cannot take these arguments: a: Field required; b: Input should be a valid "
        "integer, unable to parse string as an integer; c: no such argument; there are: a, b"
    )


async def test_a_field_that_is_missing_deep_inside_is_named() -> None:
    def book(order: Order) -> None: ...

    with pytest.raises(BadArguments, match=r"order\.items\[0\]\.price: Field required"):
        await call(book, order={"items": [{"name": "tea"}]})


async def test_a_path_names_places_and_not_the_branches_of_a_union() -> None:
    def put(at: dict[str, int | list[int]]) -> None: ...

    with pytest.raises(BadArguments) as caught:
        await call(put, at={"a b": ["x"]})

    assert 'at["a b"]: Input should be a valid integer' in str(caught.value)
    assert 'at["a b"][0]: Input should be a valid integer' in str(caught.value)


async def test_a_flood_of_errors_is_cut() -> None:
    def put(numbers: list[int]) -> None: ...

    with pytest.raises(BadArguments) as caught:
        await call(put, numbers=["x"] * 1000)

    assert str(caught.value).endswith("; and 980 more")
    assert len(str(caught.value)) < 3000


async def test_text_that_reads_as_a_number_is_a_number() -> None:
    assert await call(add, a="2", b="3") == 5


async def test_a_number_is_not_text() -> None:
    def shout(word: str) -> str:
        return word.upper()

    with pytest.raises(BadArguments, match="word: Input should be a valid string"):
        await call(shout, word=1)


async def test_json_text_fills_the_types_that_json_lacks() -> None:
    def tomorrow(day: datetime.date) -> datetime.date:
        return day + datetime.timedelta(days=1)

    assert await call(tomorrow, day="2026-05-01") == "2026-05-02"


async def test_a_tool_cannot_change_the_arguments_of_its_caller() -> None:
    def empty(numbers: list[int]) -> int:
        numbers.clear()
        return 0

    given = [1, 2]
    await call(empty, numbers=given)

    assert given == [1, 2]


async def test_a_positional_only_argument_is_filled_too() -> None:
    def halve(number: float, /, digits: int = 1, *, up: bool = False) -> float:
        return round(number / 2, digits) + up

    assert await call(halve, number=5) == 2.5
    assert await call(halve, number=5, up=True) == 3.5


async def test_the_call_s_key_is_given_and_not_asked_of_the_model() -> None:
    def buy(what: str, key: IdempotencyKey) -> str:
        return f"{what} {key}"

    (offer,) = await PythonTools(functions=(buy,)).offers()

    assert offer.spec.parameters["properties"] == {"what": {"type": "string"}}
    assert await call(buy, key="7/0:2", what="tea") == "tea 7/0:2"
    with pytest.raises(BadArguments, match="key: no such argument; there are: what"):
        await PythonTools(functions=(buy,)).call("buy", {"what": "tea", "key": "mine"}, "7/0:2")


async def test_an_unknown_tool_names_the_nearest() -> None:
    with pytest.raises(UnknownTool, match="no tool 'ad'; did you mean 'add'"):
        await PythonTools(functions=(add,)).call("ad", {}, "")


# Running


async def test_a_plain_function_runs_in_a_thread_and_an_async_one_on_the_loop() -> None:
    def plain() -> int:
        return threading.get_ident()

    async def native() -> int:
        return threading.get_ident()

    assert await call(plain) != threading.get_ident()
    assert await call(native) == threading.get_ident()


async def test_a_plain_function_that_returns_an_awaitable_is_awaited() -> None:
    async def native(word: str) -> str:
        return word

    def wrapped(word: str) -> Any:
        return native(word)

    assert await call(wrapped, word="tea") == "tea"


@pytest.mark.parametrize("effect", ["none", "once"])
async def test_a_cancelled_call_leaves_a_read_behind_and_waits_for_the_rest(
    effect: Literal["none", "once"],
) -> None:
    begun, done = anyio.Event(), threading.Event()

    @tool(effect=effect)
    def slow() -> None:
        anyio.from_thread.run_sync(begun.set)
        done.wait(5)

    async def cancel_it() -> None:
        with scope:
            await call(slow)
        left.set()

    scope, left, still_inside = anyio.CancelScope(), anyio.Event(), False
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_it)
            await begun.wait()
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            still_inside = not left.is_set()
            done.set()

    assert still_inside is (effect == "once")


async def test_an_exception_becomes_the_tool_s_failure_with_its_cause() -> None:
    def divide(a: int, b: int) -> float:
        return a / b

    with pytest.raises(ToolFailed, match="divide failed: ZeroDivisionError: division") as caught:
        await call(divide, a=1, b=0)

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_tool_that_exits_does_not_take_the_program_with_it() -> None:
    def leave() -> None:
        raise SystemExit("usage: leave")

    with pytest.raises(ToolFailed, match="leave failed: SystemExit: usage: leave"):
        await call(leave)


async def test_a_tool_may_choose_the_words_of_its_failure() -> None:
    async def fetch() -> None:
        raise ToolFailed("the shop is closed until Monday")

    with pytest.raises(ToolFailed, match=r"^the shop is closed until Monday$"):
        await call(fetch)


# Results


async def test_a_result_is_json() -> None:
    async def pay(order: Order) -> Receipt:
        return Receipt(sum(i.price for i in order.items), datetime.date(2026, 5, 1))

    assert await call(pay, order={"items": [{"name": "tea", "price": 2.5}]}) == {
        "total": 2.5,
        "day": "2026-05-01",
    }


@pytest.mark.parametrize(
    ("value", "json"),
    [(None, None), ((1, 2), [1, 2]), ({1: "a"}, {"1": "a"}), (float("nan"), "NaN"), (b"a", "a")],
)
async def test_what_json_can_say_is_said(value: Any, json: JsonValue) -> None:
    async def give() -> Any:
        return value

    assert await call(give) == json


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("value", [object(), b"\xff", "\ud800", endless()])
async def test_a_result_that_is_not_json_is_a_failure_that_says_so(value: Any) -> None:
    async def give() -> Any:
        return value

    with pytest.raises(ToolFailed, match=f"give returned a {type(value).__name__} that is not JSO"):
        await call(give)


async def test_a_generator_s_values_are_the_result() -> None:
    def count(to: int) -> Iterator[int]:
        yield from range(to)

    assert await call(count, to=3) == [0, 1, 2]
