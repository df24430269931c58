"""The dashboard's files: what there is, how it is sent, and what they never hold."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from loopsy.web import dashboard
from loopsy.web.dashboard import POLICY, assets

OURS = sorted(name for name in assets() if not name.startswith("vendor/"))
FIRST = ("index.html", "style.css", "app.js", "net.js", "ui.js", "vendor/preact.js", "views/overview.js")
"""What the first view loads."""


def text(name: str) -> str:
    return assets()[name].plain.decode()


def test_every_view_has_its_module() -> None:
    views = re.findall(r"^  (\w+): \"", text("app.js"), re.MULTILINE)
    assert len(views) == 8
    assert {f"views/{view}.js" for view in views} == {name for name in assets() if name.startswith("views/")}


def test_the_first_load_is_small() -> None:
    assert sum(len(assets()[name].packed) for name in FIRST) < 60_000
    assert sum(len(asset.packed) for asset in assets().values()) < 300_000  # even all of it


def test_packed_is_plain() -> None:
    for name, asset in assets().items():
        assert gzip.decompress(asset.packed) == asset.plain, name


def test_tags_tell_contents_apart() -> None:
    assert len({asset.tag for asset in assets().values()}) == len({asset.plain for asset in assets().values()})


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith(".html")])
def test_pages_have_no_script_of_their_own(name: str) -> None:
    page = text(name)
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert re.findall(r"\son\w+=|javascript:", page) == []


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith(".js")])
def test_scripts_make_no_markup_of_text(name: str) -> None:
    """Text is only ever shown by Preact, as text."""
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerously|eval\(", text(name)) == []


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    assert re.findall(r"(?:src|href|from|import|url)\W{1,3}(?:https?:)?//", text(name)) == []


def test_every_import_is_there() -> None:
    for name in OURS:
        for found in re.findall(r"(?:from|import\()\s*[\"'](\.[^\"'$]*)[\"']", text(name)):
            folder = name.rpartition("/")[0]
            path = found[2:] if found.startswith("./") else found.removeprefix("../")
            target = f"{folder}/{path}" if folder and found.startswith("./") else path
            assert target in assets(), (name, found)


def test_what_is_vendored_says_its_version_and_licence() -> None:
    versions = json.loads((dashboard.files("loopsy.web") / "pages" / "vendor" / "versions.json").read_text())
    assert set(versions) == {"preact", "htm", "@xterm/xterm", "@xterm/addon-fit"}
    for name in ("preact", "htm", "xterm", "fit"):
        assert f"vendor/{name}.LICENSE.txt" in assets()


def test_the_policy_lets_in_no_script_but_our_files() -> None:
    rules = dict(part.strip().partition(" ")[::2] for part in POLICY.decode().split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
