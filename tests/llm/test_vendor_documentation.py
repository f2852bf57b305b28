"""What the documents say of vendors and options is what the table and the code have."""

import re
from collections.abc import Iterable
from dataclasses import fields

import pytest

from chat_api.llm.options import LEARNED_ONLY, RequestOptions
from chat_api.llm.vendors import Vendor, vendors
from tests.support.server import REPOSITORY

PAGE = (REPOSITORY / "docs" / "providers.md").read_text()
README = (REPOSITORY / "README.md").read_text()


def rows_after(heading: str) -> list[list[str]]:
    """The cells of the first table after a line that begins so."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def row_of(vendor: Vendor) -> list[str]:
    key = f"`{vendor.auth}`" + ("" if vendor.needs_key else ", optional")
    checked = ", ".join(vendor.checked)
    return [vendor.name, f"`{vendor.id}`", f"`{vendor.api_endpoint}`", key, checked, vendor.notes]


def test_table_of_vendors_is_the_data() -> None:
    assert rows_after("| Vendor | `catalog` |") == [row_of(vendor) for vendor in vendors().values()]


def test_table_of_options_is_the_code() -> None:
    documented = {
        name.strip("`"): default.strip("`")
        for name, default, _ in rows_after("| `request_options` | Default")
    }
    expected = {
        field.name: str(field.default).lower() if isinstance(field.default, bool) else field.default
        for field in fields(RequestOptions)
        if field.name not in LEARNED_ONLY
    }
    assert documented == {name: default or "*(empty)*" for name, default in expected.items()}


def names_of(found: Iterable[Vendor]) -> list[str]:
    """Their names, each once, without what tells two ways to one vendor apart."""
    return list(dict.fromkeys(re.sub(r" \(.*\)", "", vendor.name) for vendor in found))


def enumerated(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1]


@pytest.mark.parametrize("how", ["recorded", "documents", "real server"])
def test_readme_says_how_vendors_were_checked_and_no_more(how: str) -> None:
    recorded = names_of(vendor for vendor in vendors().values() if "recorded answers" in vendor.checked)
    if how == "recorded":
        assert f"  Tested with recorded answers of {enumerated(recorded)}.\n" in README
    elif how == "documents":
        others = [name for name in names_of(vendors().values()) if name not in recorded]
        assert f"  Only compared with the documentation of {enumerated(others)}.\n" in README
    else:
        [name] = names_of(vendor for vendor in vendors().values() if "real server" in vendor.checked)
        assert f"  Tests also call a real {name} server; no other provider was called.\n" in README
