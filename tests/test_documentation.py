"""The documents agree with each other: links lead somewhere, and the architecture's layers are those of the tests."""

import re
from pathlib import Path

import pytest

from tests.test_house_rules import LAYERS, ROOT

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "bench").glob("*.md"),
        ROOT / "examples" / "README.md",
    ],
    key=lambda page: page.as_posix(),
)


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}, which is not there."
        if anchor:
            assert anchor in anchors_of(linked), f"{page.name} links to {target}: no such heading."


def test_the_changelog_says_how_to_upgrade_to_each_release() -> None:
    """Whoever upgrades reads the first lines: those of the newest release name the last migration."""
    text = (ROOT / "CHANGELOG.md").read_text()
    titles = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    sections = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    assert len(titles) > 1
    for number, section in enumerate(sections[:-1]):  # nothing is older than the first release
        previous = next(title for title in titles[number + 1 :] if title != "Unreleased")
        lead = section.partition("\n### ")[0]
        assert f"Upgrading from {previous}" in lead, f"{titles[number]}: say first what an upgrade takes."
    newest = max(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))
    assert f" to {newest})" in sections[0].partition("\n### ")[0], f"Say that it migrates up to {newest}."


def test_architecture_has_the_layers_of_the_tests() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    layers = {int(number): tuple(re.findall(r"`(\w+)`", packages)) for number, packages in rows}
    assert layers == dict(enumerate(LAYERS, start=1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_exist(page: Path) -> None:
    """Those that are named with a folder; what a changelog names may be gone."""
    if page.name == "CHANGELOG.md":
        return
    for name in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|md|sh|service|conf|toml|txt))`", page.read_text()):
        homes = (ROOT, ROOT / "chat_api", ROOT / "tests", page.parent)
        assert any((home / name).exists() for home in homes), f"{page.name} names {name}, which is not there."
