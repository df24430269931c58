"""config.yaml: defaults, what is refused, and where the error points."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from attrs import evolve, fields
from hypothesis import example, given
from hypothesis import strategies as st

from loopsy import config
from loopsy.config import SECTIONS, Config, compare, parse
from loopsy.errors import ConfigError
from loopsy.wire.codec import camel

KEY = "0123456789abcdef" * 4
MINIMAL = f"auth:\n  apiKey: {KEY}\n"


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yaml")
    return caught.value.message


def test_a_file_with_only_a_key_means_every_default() -> None:
    parsed = parse(MINIMAL)
    assert parsed.warnings == ()
    assert parsed.config == evolve(Config(), auth=config.Auth(api_key=KEY))


def test_the_documented_defaults() -> None:
    c = Config()
    assert (c.server.port, c.server.host, c.discovery.enabled, c.logging.level) == (19532, "0.0.0.0", True, "info")
    assert c.execution.denylist == ("rm", "rmdir", "format", "mkfs", "dd", "shutdown", "reboot")
    assert (c.execution.max_concurrent, c.execution.default_timeout) == (10, 300_000)
    assert (c.transfer.allowed_paths, c.transfer.denied_paths) == (("~",), ("~/.ssh", "~/.gnupg"))
    assert (c.transfer.max_file_size, c.rate_limits) == (2**30, config.RateLimits(execute=30, transfer=10, context=60))


def test_every_key_of_every_section_can_be_written_and_is_read_back() -> None:
    def written(value: Any) -> Any:
        if isinstance(value, tuple):
            return [written(item) for item in value]
        return (
            {camel(f.name): written(getattr(value, f.name)) for f in fields(type(value))}
            if is_section(value)
            else value
        )

    def is_section(value: Any) -> bool:
        return type(value).__module__ == config.__name__

    full = Config(
        auth=config.Auth(api_key=KEY, allowed_keys={"kai": KEY}, peer_keys={"kai": KEY}, scopes={"kai": ("execute",)}),
        rate_limits=config.RateLimits(execute=1, transfer=2, context=3, local=True),
        discovery=config.Discovery(manual_peers=(config.ManualPeer(address="10.0.0.2", port=1, hostname="kai"),)),
        execution=config.Execution(allowlist=("git",), max_output=2048),
    )
    parsed = parse(yaml.safe_dump(written(full)))
    assert parsed.config == full
    assert parsed.warnings == ()


REFUSED = [
    ("server:\n  port: 0", 2, "server.port must be a whole number from 1 to 65535, not '0'"),
    ("server:\n  port: '1'", 2, "server.port must be a whole number"),
    ("server:\n  port: true", 2, "server.port must be a whole number"),
    ("server:\n  port: 1.5", 2, "server.port must be a whole number"),
    ("server:\n  port: [1]", 2, "server.port must be a whole number"),
    ("server:\n  port: 2001-13-45", 2, "server.port must be a whole number"),
    ("server:\n  port: !!int x", 2, "server.port must be a whole number"),
    ("server:\n  port: !mine 5", 2, "server.port must be a whole number"),
    ("server:\n  port: 0b_", 2, "server.port must be a whole number"),
    ("server:\n  port: " + "9" * 5000, 2, "server.port must be a whole number"),
    (
        "execution:\n  maxOutput: 5",
        2,
        "execution.maxOutput must be a whole number from 1024 to 268435456 bytes, not '5'",
    ),
    ("execution:\n  denylist: rm", 2, "execution.denylist must be a list"),
    ("execution:\n  denylist: [rm, [x]]", 2, "execution.denylist.1 must be text"),
    ("tls:\n  enabled: 'yes'", 2, "tls.enabled must be true or false, not 'yes'"),
    ("logging:\n\n  level: loud", 3, "logging.level must be one of debug, info, warn, error, not 'loud'"),
    ("logging:\n  level: [info]", 2, "logging.level must be one of debug, info, warn, error, not a sequence"),
    ("auth:\n  apiKey: short", 2, "auth.apiKey must be a key of 16 to 256 printable characters"),
    ("auth:\n  allowedKeys:\n    kai: short", 3, "auth.allowedKeys.kai must be a key"),
    (f"auth:\n  allowedKeys:\n    kai: {KEY}\n    kai: {KEY}", 4, "auth.allowedKeys.kai stands here twice"),
    ("auth:\n  scopes:\n    kai: [exec]", 3, "auth.scopes.kai.0 must be one of execute, transfer"),
    ("server: {}\nserver: {}", 2, "server stands here twice"),
    ("discovery:\n  manualPeers:\n    - port: 5", 3, "discovery.manualPeers.0 needs an address"),
    ("- a", 1, "the file must be a section"),
    ("server: 5", 1, "server must be a section"),
    ("x: y: z", 1, "not YAML"),
    ("a: 'b", 1, "not YAML"),
    ("a: b\n---\nc: d", 2, "not YAML"),
    ("é: é\nserver:\n  host: \x01", 3, "not YAML: it may not hold #x01"),
    ("a: 5", 1, "auth.apiKey is missing"),
    ("", 1, "auth.apiKey is missing"),
]


@pytest.mark.parametrize(("text", "line", "words"), REFUSED, ids=[words[:40] for _, _, words in REFUSED])
def test_a_refusal_names_file_line_key_and_what_is_allowed(text: str, line: int, words: str) -> None:
    assert fault(text).startswith(f"c.yaml:{line}: {words}")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "a: " + "{a: " * 100_000, "auth: " + "[" * 40])
def test_a_file_of_any_depth_is_an_error_and_not_the_end_of_the_process(text: str) -> None:
    assert fault(text).startswith("c.yaml:1: ")


def test_unknown_keys_are_warnings_that_name_the_nearest_known_one() -> None:
    parsed = parse(MINIMAL + "serverr: 1\nexecution:\n  maxConcurent: 5\n", "c.yaml")
    assert parsed.warnings == (
        "c.yaml:3: unknown key serverr (did you mean server?)",
        "c.yaml:5: unknown key execution.maxConcurent (did you mean maxConcurrent?)",
    )


def test_null_means_the_default() -> None:
    text = MINIMAL + "server:\nexecution:\n  denylist:\n  allowlist: null\n  maxConcurrent: ~\n"
    assert parse(text).config == parse(MINIMAL).config


def test_keys_are_never_shown_by_repr() -> None:
    assert KEY not in repr(parse(MINIMAL + f"  allowedKeys: {{kai: {KEY}}}\n  peerKeys: {{kai: {KEY}}}\n").config)


WORDS = st.sampled_from(
    [
        "server",
        "port",
        "auth",
        "apiKey",
        KEY,
        "execution",
        "denylist",
        "rateLimits",
        "transfer",
        "context",
        "tls",
        "logging",
        "level",
        "discovery",
        "manualPeers",
        "address",
        "scopes",
        "null",
        "5",
        "-1",
        "true",
        "0x_",
        "1e5",
        "2001-99-99",
        "~",
        "&a",
        "*a",
        "<<",
        "!x",
        "!!int",
        "!!binary",
        "? ",
        "|",
        ">",
        "'",
        '"',
        "%",
        "@",
        "\t",
        "é",
        "\x00",
        "\x85",
        "\ufeff",
        ": ",
        ":\n  ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "#",
        "---\n",
        "...",
    ]
)


@given(st.lists(WORDS, max_size=25).map("".join) | st.text(max_size=60))
@example("auth: &a [*a]")
@example("logging: {level: &a [*a]}")
@example("? [a, b]\n: c")
@example("auth: {allowedKeys: {? [a] : b}}")
def test_any_text_is_a_config_or_a_config_error_that_starts_with_file_and_line(text: str) -> None:
    try:
        parse(text, "c.yaml")
    except ConfigError as error:
        assert re.match(r"c\.yaml:\d+: ", error.message)
        assert KEY not in error.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*map(camel, SECTIONS), "port", "level", "denylist", "allowedKeys", "x"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_yaml_value_is_a_config_or_a_config_error(value: object) -> None:
    try:
        parse(yaml.safe_dump(value), "c.yaml")
    except ConfigError as error:
        assert re.match(r"c\.yaml:\d+: ", error.message)


def test_compare_names_what_changed_and_what_waits_for_a_restart() -> None:
    old = parse(MINIMAL).config
    new = parse(MINIMAL + "server: {port: 5}\nrateLimits: {transfer: 99}\n").config
    assert compare(old, new) == config.Changes(("rateLimits.transfer",), ("server.port",))
    assert compare(new, new) == config.Changes((), ())
