"""Files in the input of a response: sent to the provider, shown as items, and sent again by what is shown."""

import pytest

from tests.openai_api.asking import RESPONSES, Asking, asked
from tests.openai_api.test_files_in_messages import RED, data_url
from tests.support.api import Api
from tests.support.provider import ScriptedProvider

LINK = "https://pictures.example/cat.png"


@pytest.fixture
def door(ada: Api, provider: ScriptedProvider) -> Asking:
    takes = {"images": True, "pdfs": True, "audio": True}
    return Asking.open(ada, provider, request_options=takes)


def test_files_are_shown_where_they_were(door: Asking) -> None:
    content = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": data_url(RED)},
        {"type": "input_image", "image_url": LINK},
        {"type": "input_file", "file_data": "data:text/plain;base64,SGVsbG8=", "filename": "a.txt"},
    ]
    first = door.response([asked(content)])
    sent = door.sent[0].json["messages"][0]["content"]
    assert [part["image_url"]["url"] for part in sent if part["type"] == "image_url"] == [data_url(RED), LINK]
    [item] = door.api.get(f"{RESPONSES}/{first['id']}/input_items").get_json()["data"]
    text, image, link, file = item["content"]
    assert text == {"type": "input_text", "text": "What is it?"}
    assert (image["type"], image["detail"]) == ("input_image", "auto")
    assert door.api.get(f"/v1/files/{image['file_id']}/content").data == RED
    assert link == {"type": "input_image", "detail": "auto", "file_id": None, "image_url": LINK}
    assert (file["type"], file["filename"]) == ("input_file", "a.txt")
    # shown items can be sent as they are
    door.response([item], store=False)
    assert door.sent[1].json["messages"][0]["content"] == sent
    door.response("And now?", previous_response_id=first["id"])
    assert door.sent[2].json["messages"][0]["content"] == sent
