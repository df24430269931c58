"""The real agent CLIs (claude, codex, gemini) for tests, driven by the scripted model API."""

from loopsy.testing.agents.packages import PACKAGES, Package, Unavailable, find, install
from loopsy.testing.agents.real import Ran, RealAgent, real_agent

AGENTS = tuple(PACKAGES)

__all__ = ["AGENTS", "PACKAGES", "Package", "Ran", "RealAgent", "Unavailable", "find", "install", "real_agent"]
