"""The attachments of a message, listed; one of them read and deleted."""

import pytest
from flask import Flask

from tests.support.api import Api
from tests.support.tables import owned_rows


@pytest.mark.happy_path("list_attachments")
def test_attachments_are_listed_in_the_order_of_their_creation(ada: Api, bob: Api) -> None:
    conversation = ada.conversation()["id"]
    message, other = ada.message(conversation)["id"], ada.message(conversation)["id"]
    made = [ada.attachment(message, f"uploads/{name}.png") for name in "cab"]
    ada.attachment(other)
    response = ada.get(f"/chat/messages/{message}/attachments")
    assert (response.status_code, response.get_json()) == (200, made)
    assert bob.get(f"/chat/messages/{message}/attachments").status_code == 404


@pytest.mark.happy_path("get_attachment")
def test_an_attachment_is_read_by_its_id(ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    for attachment in [ada.attachment(message, f"uploads/{name}.png") for name in "ab"]:
        response = ada.get(f"/chat/attachments/{attachment['id']}")
        assert (response.status_code, response.get_json()) == (200, attachment)
        assert bob.get(f"/chat/attachments/{attachment['id']}").status_code == 404


@pytest.mark.happy_path("delete_attachment")
def test_a_deleted_attachment_is_gone_and_the_others_stay(app: Flask, ada: Api, bob: Api) -> None:
    message = ada.message(ada.conversation()["id"])["id"]
    kept, deleted = ada.attachment(message), ada.attachment(message)
    path = f"/chat/attachments/{deleted['id']}"
    assert bob.delete(path).status_code == 404
    response = ada.delete(path)
    assert (response.status_code, response.get_data()) == (204, b"")
    assert ada.get(path).status_code == 404
    assert ada.delete(path).status_code == 404
    assert ada.get(f"/chat/messages/{message}/attachments").get_json() == [kept]
    assert owned_rows(app, ada.user_id)["attachments"] == 1
