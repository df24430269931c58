"""What a tool is: its name and words for a model, what it takes and gives, and what it does to the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from attrs import frozen
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from loopsy.errors import InvalidRequest
from loopsy.mcp.call import Call


def wire_name(name: str) -> str:
    """``exit_code`` → ``exitCode``; ``from_`` (a word of Python's) → ``from``."""
    return to_camel(name.rstrip("_"))


class Arguments(BaseModel):
    """What a tool takes. An argument that it doesn't know is refused: a model that writes ``peerName`` for ``peer``
    must not run its command on this machine."""

    model_config = ConfigDict(alias_generator=wire_name, extra="forbid", defer_build=True)


class Answer(BaseModel):
    """What a tool gives; None is left out."""

    model_config = ConfigDict(alias_generator=wire_name, populate_by_name=True, defer_build=True)


@frozen(kw_only=True)
class Effect:
    """MCP's annotations: what a call may do."""

    reads_only: bool = False
    destroys: bool = False
    """It may overwrite or remove something."""
    repeatable: bool = False
    """The same call again changes nothing more."""
    reaches_out: bool = True
    """Other machines take part."""


@frozen(kw_only=True)
class Tool:
    """One of the tools."""

    name: str
    title: str
    description: str
    takes: type[Arguments]
    gives: type[Answer]
    effect: Effect
    run: Callable[[Call, Any], Awaitable[Answer]]

    def described(self) -> types.Tool:
        """As ``tools/list`` shows it."""
        return types.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=schema(self.takes),
            output_schema=schema(self.gives),
            annotations=types.ToolAnnotations(
                title=self.title,
                read_only_hint=self.effect.reads_only,
                destructive_hint=self.effect.destroys,
                idempotent_hint=self.effect.repeatable or self.effect.reads_only,
                open_world_hint=self.effect.reaches_out,
            ),
        )

    def arguments(self, given: dict[str, Any] | None) -> Arguments:
        """What the model gave, checked.

        :raises InvalidRequest: names each argument that is missing, wrong or unknown.
        """
        try:
            return self.takes.model_validate(given or {})
        except ValidationError as error:
            known = ", ".join(wire_name(name) for name in self.takes.model_fields) or "none"
            faults = "; ".join(fault(one["loc"], one["msg"], one["type"]) for one in error.errors(include_url=False))
            raise InvalidRequest(faults, hint=f"{self.name} takes: {known}") from None


def fault(place: tuple[int | str, ...], message: str, kind: str) -> str:
    """One thing that is wrong: ``timeoutSeconds: input should be …``."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
    if kind == "extra_forbidden":
        return f"there is no argument {path}"
    return f"{path}: {message[:1].lower()}{message[1:]}"


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """Its JSON schema, without what only costs a model tokens."""
    tidy: dict[str, Any] = _tidy(model.model_json_schema())
    return tidy


def _tidy(value: Any) -> Any:
    """Without titles (they repeat the names) and with ``X or null`` as an optional X: None is left out both ways."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if not (key == "title" and isinstance(item, str))}
    kinds = kept.get("anyOf")
    if isinstance(kinds, list) and {"type": "null"} in kinds:
        (kind,) = [item for item in kinds if item != {"type": "null"}]
        kept = {**{key: item for key, item in kept.items() if key not in ("anyOf", "default")}, **kind}
    return {key: _names(item) if key in ("properties", "$defs") else _tidy(item) for key, item in kept.items()}


def _names(value: dict[str, Any]) -> dict[str, Any]:
    return {name: _tidy(item) for name, item in value.items()}
