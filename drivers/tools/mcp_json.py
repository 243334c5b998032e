"""The MCP servers of a file as other clients write it: `.mcp.json`."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio

from ...kernel.secrets import keep
from ...subsystems.tools import driver as d
from .mcp import Mcp

VARIABLE = re.compile(r"\$\{(?:env:)?(\w+)(?::-([^}]*))?\}")
NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
SECRET = {"env", "headers"}
KINDS = {"http": "http", "streamable-http": "http", "streamableHttp": "http", "sse": "sse"}

T = TypeVar("T")


@dataclass(kw_only=True)
class McpJson:
    """All servers of a file together; each tool is named `SERVER_TOOL`.

    `${NAME}` and `${NAME:-default}` stand for variables of the environment. A server that the
    file marks as disabled is left out, and so are those that `servers` does not name. `effects`
    and `touches` go by the whole names. What else `mcp` takes has no place in such a file: give
    that server a table of its own.
    """

    file: Path = Path(".mcp.json")
    servers: tuple[str, ...] | None = None
    effects: dict[str, d.Effect] = field(default_factory=dict)
    touches: dict[str, dict[str, str]] = field(default_factory=dict)
    trust_hints: tuple[str, ...] = ()
    required: bool = True
    _servers: dict[str, Mcp] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a file, or an entry of it, that cannot be used."""
        entries = _entries(self.file)
        for name in self.servers or ():
            if name not in entries:
                raise ValueError(f"servers: {self.file} has no {name!r}; it has {sorted(entries)}")
        prefixes = {name: NO_NAME.sub("_", name) + "_" for name in entries}
        effects = _own("effects", self.effects, prefixes.values())
        touches = _own("touches", self.touches, prefixes.values())
        for name, entry in sorted(entries.items()):
            wanted = self.servers is None or name in self.servers
            if wanted and not entry.get("disabled"):
                prefix = prefixes[name]
                own = {"effects": effects[prefix], "touches": touches[prefix], "prefix": prefix}
                self._servers[name] = self._server(name, entry, own)

    def _server(self, name: str, entry: Mapping[str, Any], own: Mapping[str, Any]) -> Mcp:
        trusted = name in self.trust_hints
        try:
            options = {**_options(_filled(entry)), **own}
            return Mcp(**options, required=self.required, trust_hints=trusted)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.file}: {name}: {error}") from error

    async def start(self) -> None:
        for server in self._servers.values():
            await server.start()

    async def stop(self) -> None:
        for server in self._servers.values():
            await server.stop()

    async def keep(self, host: d.Host) -> None:
        """Each in a task of its own; none ends with another."""
        async with anyio.create_task_group() as tasks:
            for name, server in self._servers.items():
                tasks.start_soon(server.keep, host, name=f"mcp.{name}")

    async def ready(self) -> None:
        for server in self._servers.values():
            await server.ready()

    def standing(self) -> d.Standing:
        """Away if any is."""
        each = {name: server.standing() for name, server in self._servers.items()}
        states = {standing.state for standing in each.values()}
        left_out = {tool: why for one in each.values() for tool, why in one.left_out.items()}
        about = "; ".join(f"{name}: {one.about}" for name, one in each.items())
        state = next((s for s in ("away", "starting") if s in states), "up")
        return d.Standing.model_validate({"state": state, "about": about, "left_out": left_out})

    async def offers(self) -> tuple[d.Offer, ...]:
        return tuple([offer for s in self._servers.values() for offer in await s.offers()])

    async def call(self, name: str, arguments: d.JsonObject, key: str) -> d.JsonValue:
        for server in self._servers.values():
            if any(offer.spec.name == name for offer in await server.offers()):
                return await server.call(name, arguments, key)
        raise d.UnknownTool.among(name, [offer.spec.name for offer in await self.offers()])

    async def prompts(self) -> tuple[d.Prompt, ...]:
        named = [
            prompt.model_copy(update={"name": f"{server.prefix}{prompt.name}"})
            for server in self._servers.values()
            for prompt in await server.prompts()
        ]
        return tuple(named)

    async def prompt(self, name: str, arguments: dict[str, str]) -> tuple[d.ChatMessage, ...]:
        for server in self._servers.values():
            if name.startswith(server.prefix):
                return await server.prompt(name.removeprefix(server.prefix), arguments)
        raise d.UnknownTool(f"no prompt {name!r}")


def _own(option: str, of: Mapping[str, T], prefixes: Iterable[str]) -> dict[str, dict[str, T]]:
    """What is said of each server's tools, by prefix. Raises ValueError for a tool of none."""
    own: dict[str, dict[str, T]] = {prefix: {} for prefix in prefixes}
    for name, said in of.items():
        prefix = max(filter(name.startswith, own), key=len, default=None)
        if prefix is None:
            raise ValueError(f"{option}: {name!r} is no tool of {', '.join(own) or 'any server'}")
        own[prefix][name.removeprefix(prefix)] = said
    return own


def _entries(file: Path) -> dict[str, Mapping[str, Any]]:
    try:
        read = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"file: cannot read {file}: {error}") from error
    entries = read.get("mcpServers", read.get("servers")) if isinstance(read, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise ValueError(f'file: {file} must hold an object "mcpServers", with one for each server')
    return entries


def _options(entry: Mapping[str, Any]) -> dict[str, Any]:
    if "url" in entry:
        transport = KINDS[entry.get("type", "http")]
        headers = dict(entry.get("headers", {}))
        return {"url": entry["url"], "headers": headers, "transport": transport}
    cwd = Path(entry["cwd"]) if "cwd" in entry else None
    command = (entry["command"], *entry.get("args", ()))
    return {"command": command, "env": dict(entry.get("env", {})), "cwd": cwd}


def _filled(value: Any, *, secret: bool = False) -> Any:
    """With the environment's values; raises ValueError for a variable that is not set.

    Those in `env` and `headers` are secrets, which no log shows.
    """
    match value:
        case str():
            filled = VARIABLE.sub(_variable, value)
            return keep(filled) if secret and filled != value else filled
        case dict():
            return {
                key: _filled(item, secret=secret or key in SECRET) for key, item in value.items()
            }
        case list():
            return [_filled(item, secret=secret) for item in value]
        case _:
            return value


def _variable(found: re.Match[str]) -> str:
    value = os.environ.get(found[1], found[2])
    if value is None:
        raise ValueError(f"the environment variable {found[1]} is not set")
    return value
