"""``config.yaml`` as frozen sections: every key of the user's document with its default, plus ours.

``parse`` turns the text into a Config or a ConfigError naming file, line, key and what is allowed. It reads no file.
A key's ``Rule`` says what it takes; unknown keys are warnings that name the nearest known one, since a newer version's
file must still start an older daemon.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml
from attrs import Attribute, Factory, field, fields, frozen

from loopsy.errors import ConfigError
from loopsy.wire.codec import camel
from loopsy.wire.tasks import RULE_SHAPE
from loopsy.wire.trust import SCOPES

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # pragma: no cover - a PyYAML built without libyaml
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

DEFAULT_PORT = 19532
LOG_LEVELS = ("debug", "info", "warn", "error")
KEY_SHAPE = re.compile(r"[\x21-\x7e]{16,256}")
MIB = 1024 * 1024
DEPTH = 32
"""Far deeper than any section; libyaml's composer recurses on the C stack, so a deeper file could end the process."""

T = TypeVar("T")
Node = Any
"""A node of PyYAML's tree: its value and where it stands."""


@frozen
class Place:
    """Where in a file something stands, for errors."""

    source: str
    path: str = ""

    def down(self, key: object) -> Place:
        """The place of a child."""
        return Place(self.source, f"{self.path}.{key}" if self.path else str(key))

    def fault(self, node: Node, text: str) -> ConfigError:
        """The error for ``node`` standing here."""
        return ConfigError(f"{self.source}:{node.start_mark.line + 1}: {self.path or 'the file'} {text}")


@frozen
class Rule:
    """What one key takes: a reader of its node, and for a section the class it becomes."""

    read: Callable[[Node, Place], Any]
    kind: type | None = None


def setting(default: Any, rule: Rule, *, restart: bool = False, secret: bool = False) -> Any:
    """A key with its default. ``restart``: a change waits for the daemon's restart; ``secret``: never printed."""
    value = Factory(default) if callable(default) else default
    return field(default=value, repr=not secret, metadata={"rule": rule, "restart": restart})


def scalar(node: Node, place: Place, words: str) -> Any:
    """The plain value of a scalar node."""
    if not isinstance(node, yaml.ScalarNode):
        raise place.fault(node, f"must be {words}")
    maker = Loader("")
    try:
        return maker.construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):  # a tag nobody knows, a 13th month, a number of 5000 digits
        raise place.fault(node, f"must be {words}, not {shown(node)}") from None
    finally:
        maker.dispose()


def shown(node: Node) -> str:
    """What stands there, as an error quotes it."""
    return repr(node.value[:80]) if isinstance(node, yaml.ScalarNode) else f"a {node.id}"


def number(low: int, high: int, unit: str = "") -> Rule:
    """A whole number from ``low`` to ``high``."""
    words = f"a whole number from {low} to {high} {unit}".rstrip()

    def read(node: Node, place: Place) -> int:
        value = scalar(node, place, words)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise place.fault(node, f"must be {words}, not {shown(node)}")
        return value

    return Rule(read)


def text(words: str = "text", shape: re.Pattern[str] = re.compile(r"[^\0]+")) -> Rule:
    """Some text (a number written without quotes counts as its text, but for keys of letters and digits only)."""

    def read(node: Node, place: Place) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            raise place.fault(node, f"must be {words}")
        if not shape.fullmatch(node.value):
            raise place.fault(node, f"must be {words}")
        return str(node.value)

    return Rule(read)


def _read_flag(node: Node, place: Place) -> bool:
    value = scalar(node, place, "true or false")
    if not isinstance(value, bool):
        raise place.fault(node, f"must be true or false, not {shown(node)}")
    return value


FLAG = Rule(_read_flag)
TEXT = text()
KEY = text("a key of 16 to 256 printable characters without spaces", KEY_SHAPE)


BACKEND = text("sqlite, or redis://…, rediss://… or unix://…", re.compile(r"sqlite|(?:rediss?|unix)://\S+"))


def choice(*words: str) -> Rule:
    """One of some words."""

    def read(node: Node, place: Place) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.value not in words:
            raise place.fault(node, f"must be one of {', '.join(words)}, not {shown(node)}")
        return str(node.value)

    return Rule(read)


def optional(rule: Rule) -> Rule:
    """``rule``, or null."""

    def read(node: Node, place: Place) -> Any:
        return None if node.tag == "tag:yaml.org,2002:null" else rule.read(node, place)

    return Rule(read)


def list_of(rule: Rule) -> Rule:
    """A list, each item by ``rule``."""

    def read(node: Node, place: Place) -> tuple[Any, ...]:
        if node.tag == "tag:yaml.org,2002:null":
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise place.fault(node, "must be a list")
        return tuple(rule.read(item, place.down(at)) for at, item in enumerate(node.value))

    return Rule(read)


def map_of(rule: Rule) -> Rule:
    """A map from names to values, each by ``rule``."""

    def read(node: Node, place: Place) -> Mapping[str, Any]:
        if node.tag == "tag:yaml.org,2002:null":
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise place.fault(node, "must be a map of names to values")
        values: dict[str, Any] = {}
        for key, item in node.value:
            name = TEXT.read(key, place)
            if name in values:
                raise place.down(name).fault(key, "stands here twice")
            values[name] = rule.read(item, place.down(name))
        return values

    return Rule(read)


def section(kind: type) -> Rule:
    """A section of keys, ``kind`` a frozen class of settings."""

    def read(node: Node, place: Place) -> Any:
        return _read_section(kind, node, place, [])

    return Rule(read, kind)


@frozen(kw_only=True)
class Server:
    """Where the daemon listens and what it calls itself."""

    port: int = setting(DEFAULT_PORT, number(1, 65535), restart=True)
    host: str = setting("0.0.0.0", TEXT, restart=True)  # noqa: S104 - a LAN daemon listens on the LAN
    hostname: str | None = setting(None, optional(TEXT), restart=True)


@frozen(kw_only=True)
class Auth:
    """Keys: our own, those that peers present to us, and those that we present to them."""

    api_key: str = setting("", KEY, secret=True)
    allowed_keys: Mapping[str, str] = setting(dict, map_of(KEY), secret=True)
    peer_keys: Mapping[str, str] = setting(dict, map_of(KEY), secret=True)
    scopes: Mapping[str, tuple[str, ...]] = setting(dict, map_of(list_of(choice(*SCOPES))))
    """What a peer may do; a peer that isn't named here may do all but approve."""


@frozen(kw_only=True)
class Tls:
    """HTTPS between machines."""

    enabled: bool = setting(False, FLAG, restart=True)
    pinned_certs: Mapping[str, str] = setting(dict, map_of(TEXT))


@frozen(kw_only=True)
class Execution:
    """Running commands."""

    denylist: tuple[str, ...] = setting(
        lambda: ("rm", "rmdir", "format", "mkfs", "dd", "shutdown", "reboot"), list_of(TEXT)
    )
    allowlist: tuple[str, ...] | None = setting(None, optional(list_of(TEXT)))
    """Where it is set, only these commands run: the one real boundary."""
    max_concurrent: int = setting(10, number(1, 1000))
    default_timeout: int = setting(300_000, number(1, 30 * 24 * 3600 * 1000, "ms"))
    max_output: int = setting(10 * MIB, number(1024, 256 * MIB, "bytes"))
    """Of each output that ``POST /execute`` answers with."""
    keep_output: int = setting(64 * MIB, number(64 * 1024, 2**40, "bytes"))
    """Of each detached job's output: the last of it."""
    keep_jobs: int = setting(100, number(1, 10_000))
    """Detached jobs that are over and still told of; the oldest go, with their output."""


@frozen(kw_only=True)
class Terminals:
    """Programs on pseudo-terminals."""

    max: int = setting(20, number(1, 1000))
    idle: int = setting(24 * 3600 * 1000, number(1000, 30 * 24 * 3600 * 1000, "ms"))
    """One that nobody watches and that prints nothing is ended after this."""
    record: bool = setting(False, FLAG)
    """Whether all are recorded, in ``recordings/`` of the data directory."""


@frozen(kw_only=True)
class Transfer:
    """What peers may read and write."""

    allowed_paths: tuple[str, ...] = setting(lambda: ("~",), list_of(TEXT))
    denied_paths: tuple[str, ...] = setting(lambda: ("~/.ssh", "~/.gnupg"), list_of(TEXT))
    max_file_size: int = setting(1024 * MIB, number(1, 2**53, "bytes"))


@frozen(kw_only=True)
class RateLimits:
    """Requests a minute, for each peer."""

    execute: int = setting(30, number(1, 10**9, "requests a minute"))
    transfer: int = setting(10, number(1, 10**9, "requests a minute"))
    context: int = setting(60, number(1, 10**9, "requests a minute"))
    messages: int = setting(120, number(1, 10**9, "messages a minute"))
    """What the agents of this machine may send together."""
    local: bool = setting(False, FLAG)
    """Whether they hold for this machine's own key too."""


@frozen(kw_only=True)
class ContextLimits:
    """Where the context is kept, and how much it takes."""

    backend: str = setting("sqlite", BACKEND, restart=True, secret=True)
    """``sqlite``: in this machine's database. An address of Redis or Valkey: shared by all machines that name it; a
    password may stand in it."""

    max_entries: int = setting(1000, number(1, 10**6))
    max_value_bytes: int = setting(MIB, number(1, 64 * MIB, "bytes"))


@frozen(kw_only=True)
class Messages:
    """The inbox and the outbox."""

    max_body_bytes: int = setting(64 * 1024, number(1, 128 * 1024, "bytes"))
    """At most 128 KiB: where each byte takes six in JSON, one message still fits into a delivery of 1 MiB."""
    queue_days: int = setting(7, number(1, 90, "days"))
    keep_days: int = setting(30, number(1, 3650, "days"))
    max_kept: int = setting(20_000, number(100, 10**6))
    max_unread: int = setting(20_000, number(4, 10**6))
    """… a quarter of which may be of one peer."""
    max_replies: int = setting(30, number(1, 10**6))


@frozen(kw_only=True)
class Notify:
    """Where to tell that an approval waits."""

    url: str | None = setting(None, optional(text("an http or https URL", re.compile(r"https?://[\x21-\x7e]+"))))
    after: int = setting(10, number(0, 3600, "seconds"))
    """Seconds that it waits first."""
    format: str = setting("json", choice("json", "ntfy"))
    details: bool = setting(False, FLAG)
    """Whether the command or path is told too."""


@frozen(kw_only=True)
class AiTasks:
    """Running agents."""

    max_concurrent: int = setting(3, number(1, 100))
    timeout: int = setting(1_800_000, number(1000, 7 * 24 * 3600 * 1000, "ms"))
    approval_timeout: int = setting(300_000, number(1000, 7 * 24 * 3600 * 1000, "ms"))
    keep_days: int = setting(30, number(1, 3650, "days"))
    keep_bytes: int = setting(256 * MIB, number(MIB, 2**40, "bytes"))
    """Of the events of tasks that are over."""
    max_events: int = setting(100_000, number(100, 8_000_000))
    """Of one task."""
    rules: tuple[str, ...] = setting(tuple, list_of(text("a rule: allow|deny [agent:]Tool(pattern)", RULE_SHAPE)))
    notify: Notify = setting(Notify, section(Notify))


@frozen(kw_only=True)
class ManualPeer:
    """A peer that is where the user says."""

    address: str = setting("", TEXT)
    port: int = setting(DEFAULT_PORT, number(1, 65535))
    hostname: str | None = setting(None, optional(TEXT))
    """The name its key is filed under in ``auth``."""


@frozen(kw_only=True)
class Discovery:
    """Finding peers."""

    enabled: bool = setting(True, FLAG, restart=True)
    manual_peers: tuple[ManualPeer, ...] = setting(tuple, list_of(section(ManualPeer)))
    share_peers: bool = setting(True, FLAG)
    """Whether paired peers are told whom else this machine is paired with."""


@frozen(kw_only=True)
class Audit:
    """``logs/audit.jsonl``."""

    max_file_bytes: int = setting(10 * MIB, number(4096, 2**40, "bytes"), restart=True)
    keep_files: int = setting(10, number(1, 1000), restart=True)


@frozen(kw_only=True)
class Logging:
    """``logs/daemon.log``."""

    level: str = setting("info", choice(*LOG_LEVELS))


@frozen(kw_only=True)
class Config:
    """The whole file."""

    server: Server = setting(Server, section(Server))
    auth: Auth = setting(Auth, section(Auth))
    tls: Tls = setting(Tls, section(Tls))
    execution: Execution = setting(Execution, section(Execution))
    terminals: Terminals = setting(Terminals, section(Terminals))
    transfer: Transfer = setting(Transfer, section(Transfer))
    rate_limits: RateLimits = setting(RateLimits, section(RateLimits))
    context: ContextLimits = setting(ContextLimits, section(ContextLimits))
    messages: Messages = setting(Messages, section(Messages))
    ai_tasks: AiTasks = setting(AiTasks, section(AiTasks))
    discovery: Discovery = setting(Discovery, section(Discovery))
    audit: Audit = setting(Audit, section(Audit))
    logging: Logging = setting(Logging, section(Logging))


@frozen
class Parsed:
    """A good file, and what in it nobody reads."""

    config: Config
    warnings: tuple[str, ...]


def parse(text: str, source: str = "config.yaml") -> Parsed:
    """The text of a config file as sections.

    :raises ConfigError: it can't be used; names ``source``, the line, the key and what is allowed.
    """
    node = compose(text, source)
    warnings: list[str] = []
    place = Place(source)
    config: Config = Config() if node is None else _read_section(Config, node, place, warnings)
    if not config.auth.api_key:
        line = node.start_mark.line + 1 if node is not None else 1
        raise ConfigError(
            f"{source}:{line}: auth.apiKey is missing: this machine's own key, 64 hex digits",
            hint="make one with: loopsy key generate",
        )
    return Parsed(config, tuple(warnings))


def compose(text: str, source: str) -> Node:
    """The text as YAML nodes (None: it is empty), of bounded depth.

    :raises ConfigError: it is not YAML.
    """
    try:
        _check_depth(text, source)
        return yaml.compose(text, Loader)
    except yaml.reader.ReaderError as error:
        line = text.encode("utf-8", "replace").count(b"\n", 0, error.position) + 1
        raise ConfigError(f"{source}:{line}: not YAML: it may not hold #x{error.character:02x}") from None
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark)
        raise ConfigError(f"{source}:{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: not YAML: {error}") from None


def _line(mark: Any) -> int:
    return mark.line + 1 if mark is not None else 1


def _check_depth(text: str, source: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH:
                raise ConfigError(f"{source}:{_line(event.start_mark)}: is nested deeper than {DEPTH} levels")


def _read_section(kind: type[T], node: Node, place: Place, warnings: list[str]) -> T:
    if node.tag == "tag:yaml.org,2002:null":
        return kind()
    if not isinstance(node, yaml.MappingNode):
        raise place.fault(node, "must be a section (keys with values, indented)")
    known: dict[str, Attribute[Any]] = {camel(f.name): f for f in fields(kind)}  # type: ignore[arg-type,unused-ignore]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if key not in known:
            warnings.append(_unknown(key_node, place.down(key), key, known))
            continue
        if known[key].name in values:
            raise place.down(key).fault(key_node, "stands here twice")
        values[known[key].name] = _read_value(known[key], value_node, place.down(key), warnings)
    if kind is ManualPeer and not values.get("address"):
        raise place.fault(node, "needs an address")
    return kind(**values)


def _read_value(spec: Attribute[Any], node: Node, place: Place, warnings: list[str]) -> Any:
    """A section reads with our list of warnings; any other key reads by its rule. An empty key means its default."""
    rule: Rule = spec.metadata["rule"]
    if rule.kind is not None:
        return _read_section(rule.kind, node, place, warnings)
    if node.tag == "tag:yaml.org,2002:null":
        default: Any = spec.default
        return default.factory() if isinstance(default, MADE_ANEW) else default
    return rule.read(node, place)


MADE_ANEW: Any = type(Factory(dict))
"""attrs' own class for such defaults."""


def _unknown(node: Node, place: Place, key: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{place.source}:{node.start_mark.line + 1}: unknown key {place.path} ({guess})"


SECTIONS: Mapping[str, type] = {
    "server": Server, "auth": Auth, "tls": Tls, "execution": Execution, "transfer": Transfer,
    "rate_limits": RateLimits, "context": ContextLimits, "messages": Messages, "ai_tasks": AiTasks,
    "discovery": Discovery, "audit": Audit,
    "logging": Logging,
}  # fmt: skip


@frozen
class Changes:
    """What differs between two configs, as paths (``rateLimits.execute``)."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


def compare(old: Config, new: Config) -> Changes:
    """Which keys changed, and which of them wait for a restart."""
    applied: list[str] = []
    waiting: list[str] = []
    for name, kind in SECTIONS.items():
        for spec in fields(kind):
            if getattr(getattr(old, name), spec.name) != getattr(getattr(new, name), spec.name):
                target = waiting if spec.metadata["restart"] else applied
                target.append(f"{camel(name)}.{camel(spec.name)}")
    return Changes(tuple(applied), tuple(waiting))
