"""The yardstick of ``loopsy mcp serve``: the smallest server that the SDK's own documentation would have one write."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="WARNING")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b


if __name__ == "__main__":
    server.run()
