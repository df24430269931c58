"""The bridge for agents: an MCP server on standard input and output, over this machine's daemon."""
