"""Which tokenizer a model is taken to have before anything is learned of it."""

import re
from typing import NamedTuple

from ._estimate_features import FEATURES
from ._estimate_priors import PRIORS, WORTH


class Family(NamedTuple):
    """Models of one maker, known by how a part of their name begins.

    `prior` names the fitted tokenizer; where it is not their `own`, it is the nearest at hand.
    """

    name: str
    marks: tuple[str, ...]
    prior: str
    own: bool
    note: str = ""


FAMILIES = (
    Family("deepseek", ("deepseek",), "deepseek", True, "DeepSeek V4"),
    Family("qwen", ("qwen", "qwq", "qvq"), "qwen", True, "Qwen 2.5 and 3"),
    Family("kimi", ("kimi", "moonshot"), "qwen", False, "not at hand; as good at Chinese"),
    Family("glm", ("glm", "chatglm"), "qwen", False, "not at hand; as good at Chinese"),
    Family("minimax", ("minimax", "abab"), "gpt", False, "not at hand; of about that size"),
    Family("gemini", ("gemini", "gemma"), "gpt", False, "not at hand; of about that size"),
    Family("claude", ("claude",), "claude", False, "the published one, of Claude 2"),
    Family(
        "mistral",
        ("mistral", "mixtral", "ministral", "codestral", "devstral", "magistral", "pixtral"),
        "mistral",
        True,
        "Tekken",
    ),
    Family("llama", ("llama", "codellama"), "llama", True, "Llama 3"),
    Family("gpt", ("gpt", "chatgpt", "o1", "o3", "o4", "codex", "davinci"), "gpt", True, "o200k"),
)
DEFAULT = Family("default", (), "default", False, "the mean of all")


def family_of(model: str) -> Family:
    """The family that a model's name tells, whoever serves it."""
    parts = re.split(r"[^a-z0-9]+", model.lower().rpartition("/")[2])
    marked = (f for f in FAMILIES if any(part.startswith(f.marks) for part in parts))
    return next(marked, DEFAULT)


def weights_of(family: Family) -> tuple[float, ...]:
    """Tokens that each feature is worth at first."""
    at = PRIORS.index(family.prior)
    return tuple(WORTH[feature][at] for feature in FEATURES)
