"""An alias: an address that stands for several models."""

from ...kernel.call import Call, here
from ...kernel.errors import ConfigError, KernelError, Unavailable, Unroutable, nearest
from ...kernel.service import Service, handles
from ..llm.messages import Capabilities, Complete, Completion, Count, Describe, ModelCard


class Alias(Service, name="alias", needs=[Describe, Count]):
    """Stands for `models`, addresses in the order in which they are tried.

        [services."llm.smart"]
        use = "alias"
        models = ["llm.claude", "llm.gpt"]

    It has the smallest of their windows, and of what they can do what all of them can. The
    guard `failover` chooses who answers; an alias itself answers nothing.
    """

    def __init__(self, models: tuple[str, ...]) -> None:
        """Raises ValueError where there is nothing to choose from."""
        if not models or len(set(models)) < len(models):
            raise ValueError("models must name at least one model, and each once")
        self._models = models
        self._cards: dict[str, ModelCard] = {}

    async def start(self) -> None:
        """Raises ConfigError for a model that is not there."""
        known = [address for address in self.addresses(Complete) if address != self.address]
        where = f"services.{self.address}.models"
        for model in self._models:
            if model == self.address:
                raise ConfigError(f"{where}: an alias cannot stand for itself; name models")
            if model not in known:
                raise ConfigError(f"{where}: there is no model {model!r}; {nearest(model, known)}")

    @handles(Complete)
    async def complete(self, ask: Complete) -> Completion:
        raise Unroutable(
            f"{self.address} is an alias, and no guard chooses a model for it; put 'failover' "
            'into the guards of [routes."llm.complete"]'
        )

    @handles(Describe)
    async def describe(self, request: Describe) -> ModelCard:
        call, failure = here(), None
        assert isinstance(call, Call)
        if call.parent is not None and isinstance(call.parent.message, Describe):
            raise ConfigError(
                f"services.{call.parent.address}.models: {self.address!r} is an alias itself; "
                f"name the models it stands for: {', '.join(self._models)}"
            )
        for model in self._models:
            try:
                self._cards[model] = await self.request(Describe(), to=model)
            except Unavailable as error:  # what it said last still holds
                failure = error
        cards = [self._cards[model] for model in self._models if model in self._cards]
        if failure is not None and not cards:
            raise failure
        return _common(self._models, cards)

    @handles(Count)
    async def count(self, ask: Count) -> int:
        """The most that any model counts; one that cannot count now is left out."""
        counts, failure = list[int](), None
        for model in self._models:
            try:
                counts.append(await self.request(ask, to=model))
            except KernelError as error:
                failure = error
        if failure is not None and not counts:
            raise failure
        return max(counts)

    def hand_over(self, successor: "Alias") -> None:
        successor._cards = self._cards


def _common(models: tuple[str, ...], cards: list[ModelCard]) -> ModelCard:
    """What can be relied on, whichever of them answers."""
    outputs = [card.max_output for card in cards]
    flags = {
        name: all(getattr(card.can, name) for card in cards)
        for name, field in Capabilities.model_fields.items()
        if field.annotation is bool
    }
    countings = {card.can.counting for card in cards}
    counting = countings.pop() if len(countings) == 1 else "estimated"
    return ModelCard(
        model=", ".join(card.model for card in cards),
        driver="alias",
        context_window=min(card.context_window for card in cards),
        max_output=None if None in outputs else min(filter(None, outputs)),
        slots=sum(card.slots for card in cards),
        can=Capabilities(**flags, counting=counting),
        note=" ".join(dict.fromkeys(card.note for card in cards if card.note)),
        members=models,
    )
