"""The MCP server: lists tools, resources and prompts, runs calls, and sees to it that every result may leave."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from functools import cached_property
from types import FrameType
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from loopsy._version import VERSION
from loopsy.client.local import LocalDaemon
from loopsy.errors import InvalidRequest, LoopsyError
from loopsy.mcp.outputs import Outputs

log = logging.getLogger("loopsy.mcp")
Context = ServerRequestContext[Any, Any]


class Bridge:
    """What a server does. The tools are imported when they are first asked for: before that a client wants to know that
    the server is there, and quickly."""

    def __init__(self, connect: Callable[[], LocalDaemon]) -> None:
        self._connect = connect
        self.outputs = Outputs()

    @cached_property
    def _tools(self) -> dict[str, Any]:
        from loopsy.mcp import context, detached, execution, many, messages, peers, tasks, transfer

        areas = (peers, execution, many, detached, transfer, context, messages, tasks)
        return {tool.name: tool for area in areas for tool in area.TOOLS}

    @cached_property
    def _threads(self) -> anyio.CapacityLimiter:
        from loopsy.mcp.call import THREADS

        return anyio.CapacityLimiter(THREADS)

    def _call(self, context: Context) -> Any:
        from loopsy.mcp.call import Call

        return Call(self._connect, context.session.report_progress, self._threads, self.outputs)

    # -- tools ------------------------------------------------------------------------------------------------------
    async def list_tools(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """``tools/list``."""
        return types.ListToolsResult(tools=[tool.described() for tool in self._tools.values()])

    async def call_tool(self, context: Context, asked: types.CallToolRequestParams) -> types.CallToolResult:
        """``tools/call``. What fails is a result too, which says what to do."""
        tool = self._tools.get(asked.name)
        if tool is None:
            return self._failed(
                InvalidRequest(f"there is no tool {asked.name[:100]}", hint=f"there are: {', '.join(self._tools)}")
            )
        try:
            answer = await tool.run(self._call(context), tool.arguments(asked.arguments))
        except LoopsyError as error:
            return self._failed(error)
        except Exception as error:
            return self._broken(asked.name, error)
        text = self._may_leave(answer.model_dump(mode="json", by_alias=True, exclude_none=True))
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)], structured_content=json.loads(text)
        )

    def _failed(self, error: LoopsyError) -> types.CallToolResult:
        from loopsy.mcp.results import in_words, without_keys

        text = without_keys(in_words(error), self._keys())
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)

    def _broken(self, name: str, error: Exception) -> types.CallToolResult:
        """A fault of ours, or an answer of a daemon of another version. The log has more than the model."""
        log.error("%s failed: %s", name, type(error).__name__, exc_info=error)
        kind = type(error).__name__
        return self._failed(
            LoopsyError(f"{name} failed inside loopsy ({kind})", hint="tell the user; `loopsy doctor` may say more")
        )

    def _may_leave(self, value: object) -> str:
        """As compact JSON, without keys."""
        from loopsy.mcp.results import HIDDEN, without_keys

        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return without_keys(HIDDEN.sub("\ufffd", text), self._keys())

    def _keys(self) -> set[str]:
        from loopsy.mcp.results import keys_of

        try:
            return keys_of(self._connect().layout.config.read_text("utf-8"))
        except (OSError, ValueError):
            return set()

    # -- resources and prompts --------------------------------------------------------------------------------------
    async def list_resources(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        """``resources/list``."""
        from loopsy.mcp import resources

        return types.ListResourcesResult(resources=resources.described())

    async def read_resource(self, context: Context, asked: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        """``resources/read``."""
        from loopsy.mcp import resources
        from loopsy.mcp.results import in_words, without_keys

        if asked.uri not in resources.READERS:
            raise MCPError(types.INVALID_PARAMS, f"there is no resource {asked.uri[:200]}")
        try:
            answer = await resources.READERS[asked.uri][2](self._call(context))
        except LoopsyError as error:
            raise MCPError(types.INTERNAL_ERROR, without_keys(in_words(error), self._keys())) from None
        text = self._may_leave(answer.model_dump(mode="json", by_alias=True, exclude_none=True))
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=asked.uri, mime_type=resources.MIME, text=text)]
        )

    async def list_prompts(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        """``prompts/list``."""
        from loopsy.mcp import prompts

        return types.ListPromptsResult(prompts=[prompt for prompt, _ in prompts.PROMPTS.values()])

    async def get_prompt(self, _: Context, asked: types.GetPromptRequestParams) -> types.GetPromptResult:
        """``prompts/get``."""
        from loopsy.mcp import prompts

        if asked.name not in prompts.PROMPTS:
            raise MCPError(types.INVALID_PARAMS, f"there is no prompt {asked.name[:100]}")
        prompt, text_of = prompts.PROMPTS[asked.name]
        given = asked.arguments or {}
        missing = [one.name for one in prompt.arguments or () if one.required and not given.get(one.name)]
        if missing:
            raise MCPError(types.INVALID_PARAMS, f"{asked.name} needs: {', '.join(missing)}")
        content = types.TextContent(type="text", text=text_of(given))
        return types.GetPromptResult(
            description=prompt.description, messages=[types.PromptMessage(role="user", content=content)]
        )


def make_server(bridge: Bridge) -> Server[Any]:
    """The SDK's server over a bridge."""
    from loopsy.mcp.prompts import INSTRUCTIONS

    return Server(
        "loopsy",
        title="loopsy",
        version=VERSION,
        description="Commands, files, values and messages between the user's machines",
        instructions=INSTRUCTIONS,
        on_list_tools=bridge.list_tools,
        on_call_tool=bridge.call_tool,
        on_list_resources=bridge.list_resources,
        on_read_resource=bridge.read_resource,
        on_list_prompts=bridge.list_prompts,
        on_get_prompt=bridge.get_prompt,
    )


def serve(data_dir: str | None) -> int:
    """Serve on standard input and output until that ends. ``data_dir``: as for every command; None is the default.

    The daemon need not run yet: whether it does is seen at each call.
    """
    logging.basicConfig(level=logging.WARNING, format="loopsy mcp: %(message)s")  # to stderr
    bridge = Bridge(lambda: LocalDaemon(data_dir))

    def leave(number: int, _: FrameType | None) -> None:
        bridge.outputs.remove()
        os._exit(128 + number)  # a thread waits in a read of standard input that nothing else ends

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    try:
        anyio.run(_serve_stdio, make_server(bridge))
    finally:
        bridge.outputs.remove()
    return 0


async def _serve_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
