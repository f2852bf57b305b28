"""What a page of a list says: its items and the pages it links to."""

import re
from typing import Any

from werkzeug.test import TestResponse

from tests.support.api import Api


def ids(response: TestResponse) -> list[Any]:
    """The ids of the items on a page."""
    assert response.status_code == 200, response.get_data(as_text=True)
    return [item["id"] for item in response.get_json()]


def links(response: TestResponse) -> dict[str, str]:
    """The URLs in the Link header, by their relation."""
    return {
        relation: url
        for url, relation in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers.get("Link", ""))
    }


def walk(user: Api, path: str, relation: str) -> list[list[Any]]:
    """The pages that one gets by following a relation to its end."""
    response = user.get(path)
    pages = [ids(response)]
    while relation in links(response):
        response = user.get(links(response)[relation])
        pages.append(ids(response))
        assert len(pages) < 100, "The links never end."
    return pages


def recency_of(conversation: dict[str, Any]) -> str:
    """The cursor of a conversation in the list of conversations."""
    return f"{conversation['updated_at']}_{conversation['id']}"
