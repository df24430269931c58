"""A model API that says what a scenario says: the real agent CLIs run against it, without a network or an account."""

from loopsy.testing.model_api.scenario import (
    McpTool,
    OwnTool,
    Scenario,
    ShellCommand,
    Turn,
    load,
    mcp,
    say,
    scenario,
    shell,
)
from loopsy.testing.model_api.server import ModelApi, ModelRequest

__all__ = [
    "McpTool",
    "ModelApi",
    "ModelRequest",
    "OwnTool",
    "Scenario",
    "ShellCommand",
    "Turn",
    "load",
    "mcp",
    "say",
    "scenario",
    "shell",
]
