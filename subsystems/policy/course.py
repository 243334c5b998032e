"""What is known of all calls of one name before one comes, and how one is decided then."""

from typing import NamedTuple

from anyio import to_thread

from ..tools.messages import Tool, resources
from .clause import Case
from .judge import Layer, strictest
from .messages import Decision, JsonObject
from .places import Places


class Course(NamedTuple):
    """The layers that are asked, or the only decision there can be."""

    constant: Decision | None
    layers: tuple[Layer, ...]
    tool: Tool | None
    asks_touches: bool
    asks_places: bool

    @classmethod
    def of(cls, layers: tuple[Layer, ...], tool: Tool | None) -> "Course":
        each = [layer.constant for layer in layers]
        known = [decision for decision in each if decision is not None]
        rules = [clause.rule for layer in layers for clause in layer.clauses]
        return cls(
            strictest(known) if len(known) == len(layers) else None,
            layers,
            tool,
            any(rule.touches for rule in rules),
            any(rule.places for rule in rules),
        )

    def case(self, arguments: JsonObject, workspace: str) -> Case:
        """One call, with what it touches."""
        touched = () if self.tool is None else resources(self.tool, arguments)
        return arguments, touched, Places(workspace)

    async def decide(self, arguments: JsonObject, workspace: str) -> Decision:
        """Where paths must be followed, in a thread: a network's disk may not answer."""
        if not self.asks_touches:
            return self._decided((arguments, (), Places(workspace)))
        case = self.case(arguments, workspace)
        if self.asks_places and any(one.kind == "path" for one in case[1]):
            return await to_thread.run_sync(self._decided, case)
        return self._decided(case)

    def _decided(self, case: Case) -> Decision:
        if len(self.layers) == 1:
            return self.layers[0].decide(case)
        return strictest(layer.decide(case) for layer in self.layers)


def asks_tool(layers: tuple[Layer, ...]) -> bool:
    """Does any of them ask what a tool declares, or a human, who is shown it?"""
    clauses = [clause for layer in layers for clause in layer.clauses]
    decisions = [*(c.decision for c in clauses), *(layer.otherwise for layer in layers)]
    asks = any(decision.verdict == "ask" for decision in decisions)
    return asks or any(clause.rule.effect or clause.rule.touches for clause in clauses)
