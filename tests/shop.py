"""A shop outside of all kernels, in the test's own process: it can be shut, and asked."""

from typing import Any

import anyio

from aoskernel import tool
from aoskernel.subsystems.tools.messages import Reconciled, unknown

PYTHON = "aoskernel.drivers.tools.python:PythonTools"


class Shop:
    """The outside world: it counts, and holds a call for as long as it is shut."""

    def __init__(self, **declared: Any) -> None:
        self.orders: list[str] = []
        self.keys: list[str] = []
        self.reached, self.open = anyio.Event(), anyio.Event()
        self.says: Reconciled = unknown

        async def buy(what: str) -> str:
            self.reached.set()
            await self.open.wait()
            self.orders.append(what)
            return f"bought {what}"

        if declared.pop("reconciles", False):
            declared["reconcile"] = self.reconcile
        self.buy = tool(**declared)(buy)

    def reconcile(self, key: str) -> Reconciled:
        self.keys.append(key)
        return self.says

    def tables(self, **more: Any) -> dict[str, dict[str, Any]]:
        python = {"driver": PYTHON, "functions": [self.buy]}
        return {"tools.shop": python, **more}
