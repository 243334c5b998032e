"""What an MCP server answers, as values: structured where it is, text, and what is neither."""

from typing import Any

import mcp_types as types
from pydantic import JsonValue

from ...subsystems.tools import driver as d

Content = types.TextContent | types.ImageContent | types.AudioContent | Any


def result(name: str, reply: types.CallToolResult) -> JsonValue:
    """A tool's. Raises ToolFailed where the tool says that it has failed."""
    if reply.is_error:
        raise d.ToolFailed(_told(reply.content) or f"{name} has failed and does not say why")
    blocks = [block for block in reply.content if not isinstance(block, types.TextContent)]
    if reply.structured_content is not None and not blocks:
        structured: JsonValue = reply.structured_content
        return structured
    return _together([_value(block) for block in reply.content])


def resource(reply: types.ReadResourceResult) -> JsonValue:
    return _together([_contents(part) for part in reply.contents])


def message(said: types.PromptMessage) -> d.ChatMessage:
    value = _value(said.content)
    text = value if isinstance(value, str) else f"[{said.content.type}]"
    return d.ChatMessage(role=said.role, text=text)


def _together(parts: list[JsonValue]) -> JsonValue:
    if all(isinstance(part, str) for part in parts):
        return "\n".join(map(str, parts))
    return parts[0] if len(parts) == 1 else parts


def _told(content: list[Any]) -> str:
    return "\n".join(block.text for block in content if isinstance(block, types.TextContent))


def _value(block: Content) -> JsonValue:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return d.binary(block.mime_type, block.data)
        case types.EmbeddedResource():
            return _contents(block.resource)
        case types.ResourceLink():
            return f"[{block.name}: {block.uri}]"
        case _:
            return str(block)


def _contents(part: types.TextResourceContents | types.BlobResourceContents) -> JsonValue:
    if isinstance(part, types.TextResourceContents):
        return part.text
    return d.binary(part.mime_type or "application/octet-stream", part.blob)
