"""Agents for the commands that tell them something."""

from tests.agents.conftest import fake, home

__all__ = ["fake", "home"]
