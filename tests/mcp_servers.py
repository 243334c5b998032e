"""MCP servers that nobody here wrote, as tables of the configuration."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SERVERS = (
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
    "@playwright/mcp@0.0.83",
)
CONFORMANCE = ("@modelcontextprotocol/conformance@0.2.0-alpha.12",)
INSTALL_S = 400


def python_server(name: str, *arguments: str) -> dict[str, Any]:
    """One from PyPI, of this environment."""
    return {"driver": "mcp", "command": [str(Path(sys.executable).with_name(name)), *arguments]}


def node_server(script: str, *arguments: str) -> dict[str, Any]:
    """One from npm. Skips without Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    program = installed("mcp-servers", SERVERS) / script
    return {"driver": "mcp", "command": [node, str(program), *arguments]}


def installed(folder: str, packages: tuple[str, ...]) -> Path:
    """Where npm has put them, below .venv; the first time they are brought. Skips without npm."""
    home = ROOT / ".venv" / "node" / folder
    home.mkdir(parents=True, exist_ok=True)
    with (home / "installing").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # another worker may be at it
        stamp = home / "installed"
        if not stamp.exists() or stamp.read_text("utf-8") != "\n".join(packages):
            _install(home, packages)
            stamp.write_text("\n".join(packages), "utf-8")
    return home / "node_modules"


def _install(home: Path, packages: tuple[str, ...]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(home), *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        pytest.skip(f"npm could not install {packages}: {done.stderr[-300:]}")
