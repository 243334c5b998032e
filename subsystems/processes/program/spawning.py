"""How an application starts a program."""

from collections.abc import Sequence
from typing import Any, TypeVar

from ...policy.messages import Bounds, Mode, Written
from ...quota.messages import Quota
from ...storage.messages import ProcessClass
from ..messages import Spawn
from .classes import Program
from .definition import Invocation
from .reference import ProcessRef, Requester

T = TypeVar("T")


def state_of(what: Invocation[Any] | Program[Any]) -> str:
    """What it begins with, as JSON."""
    state = what if isinstance(what, Program) else what.state
    return state.model_dump_json()


async def spawn(
    kernel: Requester,
    what: Invocation[T] | Program[T],
    /,
    *,
    key: str | None = None,
    name: str = "",
    role: str = "",
    tags: Sequence[str] = (),
    process_class: ProcessClass = "normal",
    priority: int = 50,
    tenant: str = "default",
    user: str = "",
    quota: Quota | None = None,
    mode: Mode | None = None,
    capabilities: Sequence[Written] | None = None,
) -> ProcessRef[T]:
    """Start a process. With a `key` it is started once: again gives the same process.

        agent = await spawn(kernel, brief(topic="friday"), priority=10)
        print(await agent)

    Class (interactive before normal before batch), then priority (0 first) decide who is
    served first; tenant is who pays, and user for whom of its users the process works. The
    `quota` is for it and all its descendants, as are the `mode` of the policy ("read_only",
    "standard", "trusted"; the configured one if None) and the `capabilities`, rules as the
    policy's `allow` has them: what none of them allows is refused.
    Raises ValueError for what is no mode or no rule.
    """
    request = Spawn(
        program=what.definition,
        state_json=state_of(what),
        key=key,
        name=name,
        role=role,
        tags=tuple(tags),
        process_class=process_class,
        priority=priority,
        tenant=tenant,
        user=user,
        quota=quota,
        bounds=Bounds.of(mode, capabilities),
    )
    record = await kernel.request(request)
    return ProcessRef(kernel, record.pid, what.definition.result)
