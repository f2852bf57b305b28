"""What of files is sent to a server: as it is known, as its list of models says, and as it has complained."""

import pytest

from chat_api.egress.errors import EgressError
from chat_api.llm.abilities import abilities_of
from chat_api.llm.errors import ProviderError
from chat_api.llm.events import Corrected
from chat_api.llm.file_complaints import changes_for_files
from chat_api.llm.history import provider_history, rules_of
from chat_api.llm.model_lists import ModelList
from chat_api.llm.options import RequestOptions
from chat_api.llm.parts import NOT_TAKEN, Part, TextPart, note_of
from chat_api.llm.request import ChatMessage, ChatRequest, Endpoint
from chat_api.llm.vendors import options_of, vendors
from tests.llm.test_parts import IMAGE, PDF, part, user
from tests.support.asking import AskingMaker
from tests.support.provider import ScriptedProvider, error_answer, openai_stream

AUDIO = part("audio", "audio/wav", name="a.wav")
NOTE = note_of("a.bin", "image/png", NOT_TAKEN)
NO_IMAGES = "This model does not support image input."


def endpoint(vendor: str = "", api_format: str = "openai", **changes: bool) -> Endpoint:
    return Endpoint(
        api_format, "https://p.example/v1", "k", options=options_of(vendors().get(vendor), changes)
    )


def test_what_vendors_take() -> None:
    found = {
        name: (takes.images, takes.pdfs, takes.audio)
        for name in ("openai", "anthropic", "openrouter", "gemini", "groq", "")
        if (takes := abilities_of(endpoint(name, "anthropic" if name == "anthropic" else "openai")))
    }
    assert found == {
        "openai": (True, True, True),
        "anthropic": (True, True, False),
        "openrouter": (True, True, True),
        "gemini": (True, False, True),
        "groq": (True, False, False),
        "": (True, False, True),
    }


def test_options_and_lists_of_models_take_abilities_away() -> None:
    assert not abilities_of(endpoint(images=False)).images
    assert abilities_of(endpoint(pdfs=True)).pdfs
    lacking = abilities_of(endpoint("openai"), {"images", "audio", "files"})
    assert (lacking.images, lacking.pdfs, lacking.audio) == (False, False, False)
    assert not abilities_of(endpoint(api_format="anthropic", audio=True)).audio, "The protocol has none."


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({}, set()),
        ({"supported_parameters": ["tools"]}, set()),
        ({"capabilities": {"vision": False}}, {"images"}),
        ({"capabilities": {"image_input": {"supported": False}}}, {"images"}),
        ({"capabilities": {"pdf_input": {"supported": False}}}, {"files"}),
        ({"architecture": {"input_modalities": ["text"]}}, {"audio", "images"}),
        ({"architecture": {"input_modalities": ["text", "image"]}}, {"audio"}),
        ({"input_modalities": []}, set()),
        ({"architecture": {"input_modalities": ["text"]}, "supports_vision": True}, {"audio"}),
    ],
)  # fmt: skip
def test_only_a_plain_no_of_a_list_counts(fields: dict[str, object], lacks: set[str]) -> None:
    found = ModelList("https://p.example/v1/models", "openai")
    found.add_page({"data": [{"id": "m", **fields}]})
    assert found.models[0].lacks == lacks


def request_with(*parts: Part) -> ChatRequest:
    return ChatRequest("m", (user(*parts),))


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (NO_IMAGES, {"images": False}),
        ("No endpoints found that support image input", {"images": False}),
        ("image_url is only supported by certain models.", {"images": False}),
        ("messages[0]: unknown variant `image_url`, expected `text`", {"images": False}),
        ("m is not a multimodal model", {"images": False}),
        ("image input is not supported - hint: you may need to provide the mmproj", {"images": False}),
        ("This model does not support audio", {"audio": False}),
        ("Invalid value: 'input_audio'. Supported values are: 'text'", {"audio": False}),
        ("Invalid value: 'file'. Supported values are: 'text', 'image_url'", {"pdfs": False}),
        ("The model does not support PDF input", {"pdfs": False}),
        ("We do not support image/tiff", {}),
        ("does not support image formats other than PNG", {}),
        ("Could not process image", {}),
        ("Invalid image", {}),
        ("image exceeds 5 MB maximum", {}),
        ("Unsupported image", {}),
        ("does not support images larger than 10 MB", {}),
    ],
)  # fmt: skip
def test_complaints_about_the_model_are_told_from_those_about_a_file(
    words: str, changes: dict[str, bool]
) -> None:
    assert changes_for_files(words.lower(), request_with(IMAGE, AUDIO, PDF)) == changes
    assert changes_for_files(words.lower(), request_with(TextPart("Hello"))) == {}


def test_refused_kinds_become_notes() -> None:
    rules = rules_of("openai", RequestOptions(images=False), "m", {})
    [text_only, mixed] = provider_history(
        [user(TextPart("See"), IMAGE), ChatMessage("assistant", "ok"), user(IMAGE, PDF)], rules, {}
    )[::2]
    assert (text_only.content, text_only.parts) == (f"See\n\n{NOTE.text}", ())
    assert mixed.parts == (NOTE, PDF)


def test_recordings_never_become_documents_of_anthropic(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    list(asking("anthropic").send(user(AUDIO)))
    [block] = provider.last.json["messages"][0]["content"]
    assert block == {"type": "text", "text": note_of("a.wav", "audio/wav", NOT_TAKEN).text}


@pytest.mark.parametrize("status", [400, 404, 422])
def test_refused_images_of_older_messages_are_left_out_at_once(
    asking: AskingMaker, provider: ScriptedProvider, status: int
) -> None:
    provider.script(error_answer(status, NO_IMAGES), openai_stream("ok"))
    history = (user(TextPart("See"), IMAGE), ChatMessage("assistant", "Yes"), ChatMessage("user", "Go on"))
    events = [event for read in asking().send(*history) for event in read]
    [corrected] = [event for event in events if isinstance(event, Corrected)]
    assert (corrected.of_server, corrected.of_caller) == ({}, {"images": False})
    assert corrected.warnings == (
        "attachments: The model takes no pictures; a line stands in place of each.",
    )
    assert provider.last.json["messages"][0]["content"] == f"See\n\n{NOTE.text}"


def test_refused_images_of_the_newest_message_are_a_lesson(
    asking: AskingMaker, provider: ScriptedProvider
) -> None:
    provider.script(error_answer(400, NO_IMAGES), openai_stream("ok"))
    with pytest.raises(EgressError) as raised:
        list(asking().send(user(TextPart("See"), IMAGE)))
    assert isinstance(raised.value, ProviderError)
    assert raised.value.code == "provider_refused_attachment"
    assert raised.value.lesson == Corrected({}, {"images": False}, ())
    assert len(provider.requests) == 1
