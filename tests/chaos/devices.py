"""What the programs reach the world by: tools of every effect, and a model."""

from chaos.wire import ask, reach

from aoskernel import IdempotencyKey, tool
from aoskernel.drivers.llm.scripted import Reply, call
from aoskernel.kernel.call import here
from aoskernel.subsystems.llm.messages import Complete
from aoskernel.subsystems.processes.messages import Origin
from aoskernel.subsystems.tools.messages import Reconciled, done, not_done


@tool(effect="none")
async def peek(item: str, key: IdempotencyKey) -> str:
    """Look at an item."""
    return await reach("tool", f"peek {item}", key, effect="none")


@tool(effect="idempotent")
async def put(item: str, key: IdempotencyKey) -> str:
    """Put an item into its place."""
    return await reach("tool", f"put {item}", key, effect="idempotent")


@tool
async def order_item(item: str, key: IdempotencyKey) -> str:
    """Order an item; nobody can tell afterwards whether it was."""
    return await reach("tool", f"order {item}", key, effect="once")


async def became(key: str) -> Reconciled:
    """What the world knows of a call."""
    result = await ask(kind="reconcile", key=key)
    return not_done if result is None else done(result)


@tool(reconcile=became)
async def reserve(item: str, key: IdempotencyKey) -> str:
    """Reserve an item; the world knows whether it was."""
    return await reach("tool", f"reserve {item}", key, effect="once")


@tool(reconcile=became, refuses_repeats=True)
async def book(item: str, key: IdempotencyKey) -> str:
    """Book an item; the world knows whether it was, and takes each key once."""
    return await reach("tool", f"book {item}", key, effect="once", refuses_repeats=True)


TOOLS = (peek, put, order_item, reserve, book)
WITH_TOOLS = "use your tools"


async def model(prompted: Complete) -> Reply:
    """Says the prompt back, or asks for tools."""
    envelope = here()
    assert envelope is not None
    assert isinstance(envelope.origin, Origin)
    key = f"{envelope.origin.pid}/{envelope.origin.key}"
    prompt = prompted.messages[-1].text
    await reach("model", prompt, key, history=[m.model_dump() for m in prompted.messages])
    if prompt == WITH_TOOLS:
        return [call("peek", item="a"), call("put", item="b"), call("book", item="c")]
    return "re: " + prompt.partition(":")[0]  # behind a colon stands what chance gave
