"""Errors as vendors, gateways and frameworks answer them: each gets its code, and its words reach the user."""

import json
import time
from typing import Any

import pytest

from chat_api.llm.error_codes import (
    ATTACHMENT_REFUSED,
    CONTEXT_TOO_LONG,
    ERROR_CODES,
    FAILED,
    INVALID_REQUEST,
    KEY_REFUSED,
    MODEL_NOT_FOUND,
    NOT_ALLOWED,
    OVERLOADED,
    QUOTA_EXCEEDED,
    RATE_LIMITED,
)
from chat_api.llm.error_rules import RULES
from chat_api.llm.errors import ProviderError
from tests.support.asking import AskingMaker
from tests.support.provider import Reply, ScriptedProvider, json_answer, sse


def openai(message: str, type: str | None = "invalid_request_error", code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def anthropic(type: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}


def google(status: int, word: str, message: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"error": {"code": status, "message": message, "status": word, "details": list(details)}}]


def openrouter(status: int, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "metadata": metadata}, "user_id": "user_1"}


NO_CREDIT = "Your credit balance is too low to access the Anthropic API."
QUOTA = "You exceeded your current quota, please check your plan and billing details."
PER_MINUTE = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "21s"}
PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}

# vendor and case -> (status, body, code, words that reach the user)
ANSWERS: dict[str, tuple[int, Any, str, str]] = {
    "OpenAI: no pictures": (400, openai("Invalid content type. image_url is only supported by certain models."),
                            ATTACHMENT_REFUSED, "only supported by certain models"),
    "OpenAI: broken picture": (400, openai("The image data you provided does not represent a valid image. Please check "
                                           "your input and try again.", code="invalid_image_format"),
                               ATTACHMENT_REFUSED, "does not represent a valid image"),
    "OpenAI: type": (400, openai("Invalid MIME type. Only image types are supported.", code="invalid_image_format"),
                     ATTACHMENT_REFUSED, "Only image types"),
    "Anthropic: large picture": (400, {"type": "error", "error": {"type": "invalid_request_error", "message":
                                 "messages.0.content.1.image.source: image exceeds 5 MB maximum: 6291456 bytes"}},
                                 ATTACHMENT_REFUSED, "image exceeds 5 MB"),
    "Anthropic: picture": (400, {"type": "error", "error": {"type": "invalid_request_error",
                                                            "message": "Could not process image"}},
                           ATTACHMENT_REFUSED, "Could not process image"),
    "DeepSeek: no pictures": (400, openai("Failed to deserialize the JSON body into the target type: messages[0]: "
                                          "unknown variant `image_url`, expected `text` at line 1 column 9"),
                              ATTACHMENT_REFUSED, "expected `text`"),
    "OpenRouter: no pictures": (404, {"error": {"message": "No endpoints found that support image input",
                                                "code": 404}}, ATTACHMENT_REFUSED, "support image input"),
    "Groq: no parts": (400, openai("messages[0].content must be a string"), ATTACHMENT_REFUSED, "must be a string"),
    "vLLM: no pictures": (400, {"object": "error", "message": "At most 0 image(s) may be provided in one prompt.",
                                "type": "BadRequestError", "param": None, "code": 400}, ATTACHMENT_REFUSED,
                          "At most 0 image"),
    "llama.cpp: no pictures": (500, {"error": {"code": 500, "message": "image input is not supported - hint: you may "
                                               "need to provide the mmproj", "type": "server_error"}},
                               ATTACHMENT_REFUSED, "mmproj"),
    "OpenAI: key": (401, openai("Incorrect API key provided: sk-a***b.", code="invalid_api_key"), KEY_REFUSED,
                    "Incorrect API key provided: ****"),
    "OpenAI: quota": (429, openai(QUOTA, "insufficient_quota", "insufficient_quota"), QUOTA_EXCEEDED, QUOTA),
    "OpenAI: not paid": (429, openai("Your account is not active, please check your billing details on our website.",
                                     "billing_not_active", "billing_not_active"), QUOTA_EXCEEDED, "not active"),
    "OpenAI: rate": (429, openai("Rate limit reached for gpt-x on requests per min (RPM): Limit 3, Used 3. Please try "
                                 "again in 20s.", "requests", "rate_limit_exceeded"), RATE_LIMITED, "Limit 3, Used 3"),
    "OpenAI: region": (403, {"error": {"code": "unsupported_country_region_territory", "param": None,
                                       "message": "Country, region, or territory not supported",
                                       "type": "request_forbidden"}}, NOT_ALLOWED, "territory not supported"),
    "OpenAI: project": (403, openai("Project `p` does not have access to model `gpt-x`", code="model_not_found"),
                        NOT_ALLOWED, "does not have access"),
    "OpenAI: model": (404, openai("The model `gpt-9` does not exist or you do not have access to it.",
                                  code="model_not_found"), MODEL_NOT_FOUND, "`gpt-9` does not exist"),
    "OpenAI: context": (400, openai("This model's maximum context length is 8192 tokens.",
                                    code="context_length_exceeded"), CONTEXT_TOO_LONG, "is 8192 tokens"),
    "OpenAI: parameter": (400, openai("Unsupported value: 'temperature' does not support 0 with this model.",
                                      code="unsupported_value"), INVALID_REQUEST, "'temperature' does not support 0"),
    "OpenAI: moderation": (400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage "
                                       "policy.", code="invalid_prompt"), NOT_ALLOWED, "was flagged"),
    "OpenAI: verification": (400, openai("Your organization must be verified to stream this model.",
                                         code="unsupported_value"), NOT_ALLOWED, "must be verified"),
    "OpenAI: overloaded": (503, openai("The engine is currently overloaded, please try again later", "server_error"),
                           OVERLOADED, "engine is currently overloaded"),
    "OpenAI: fault": (500, openai("The server had an error while processing your request.", "server_error"), FAILED,
                      "The server had an error"),
    "Azure: key": (401, {"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, or expired."},
                   KEY_REFUSED, "Access token is missing"),
    "Azure: filter": (400, {"error": {"message": "The response was filtered due to the prompt triggering the content "
                                      "management policy.", "type": None, "param": "prompt", "code": "content_filter",
                                      "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation",
                                                                    "content_filter_result": {}}}},
                      NOT_ALLOWED, "content management policy"),
    "Azure: only inner": (400, {"error": {"code": "BadRequest", "message": "Bad request",
                                          "innererror": {"code": "X", "message": "The prompt has no words"}}},
                          INVALID_REQUEST, "The prompt has no words"),
    "Azure: deployment": (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this "
                                          "resource does not exist."}}, MODEL_NOT_FOUND, "API deployment"),
    "Azure: rate": (429, {"error": {"code": "429", "message": "Requests have exceeded call rate limit of your current "
                                    "pricing tier. Please retry after 26 seconds."}}, RATE_LIMITED, "26 seconds"),
    "Anthropic: key": (401, anthropic("authentication_error", "invalid x-api-key"), KEY_REFUSED, "invalid x-api-key"),
    "Anthropic: permission": (403, anthropic("permission_error", "Your key may not use this resource"), NOT_ALLOWED,
                              "may not use this"),
    "Anthropic: credit": (400, anthropic("invalid_request_error", NO_CREDIT), QUOTA_EXCEEDED, NO_CREDIT),
    "Anthropic: budget": (400, anthropic("invalid_request_error", "You have reached your specified API usage limits. "
                                         "You will regain access on 2026-08-01."), QUOTA_EXCEEDED, "2026-08-01"),
    "Anthropic: billing": (402, anthropic("billing_error", "There is an issue with your payment"), QUOTA_EXCEEDED,
                           "issue with your payment"),
    "Anthropic: context": (400, anthropic("invalid_request_error", "prompt is too long: 208310 tokens > 200000"),
                           CONTEXT_TOO_LONG, "208310 tokens > 200000"),
    "Anthropic: limit": (400, anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: "
                                        "190000 + 20000 > 200000"), CONTEXT_TOO_LONG, "190000 + 20000"),
    "Anthropic: size": (413, anthropic("request_too_large", "Request exceeds the maximum size"), CONTEXT_TOO_LONG,
                        "maximum size"),
    "Anthropic: model": (404, anthropic("not_found_error", "model: claude-9"), MODEL_NOT_FOUND, "model: claude-9"),
    "Anthropic: overloaded": (529, anthropic("overloaded_error", "Overloaded"), OVERLOADED, "Overloaded"),
    "Anthropic: invalid": (400, anthropic("invalid_request_error", "messages.0: all messages must have content"),
                           INVALID_REQUEST, "must have content"),
    "Gemini: key": (400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
                                {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}), KEY_REFUSED, "not valid"),
    "Gemini: leaked": (403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked."),
                       KEY_REFUSED, "reported as leaked"),
    "Gemini: location": (400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
                         NOT_ALLOWED, "User location"),
    "Gemini: rate": (429, google(429, "RESOURCE_EXHAUSTED", QUOTA, PER_MINUTE), RATE_LIMITED, QUOTA),
    "Gemini: day": (429, google(429, "RESOURCE_EXHAUSTED", QUOTA, PER_DAY, PER_MINUTE), QUOTA_EXCEEDED, QUOTA),
    "Gemini: plan": (429, google(429, "RESOURCE_EXHAUSTED", QUOTA), QUOTA_EXCEEDED, QUOTA),
    "Gemini: context": (400, google(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum "
                                    "number of tokens allowed (1048576)."), CONTEXT_TOO_LONG, "(1200000)"),
    "Gemini: model": (404, google(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1main"),
                      MODEL_NOT_FOUND, "models/gemini-9"),
    "Gemini: demand": (503, google(503, "UNAVAILABLE", "This model is currently experiencing high demand."), OVERLOADED,
                       "high demand"),
    "Vertex: JSON in a text": (400, {"error": {"code": 400, "message": json.dumps(google(400, "INVALID_ARGUMENT",
                                                                                         "top_k is wrong")[0])}},
                               INVALID_REQUEST, "400: top_k is wrong"),
    "Mistral: fields": (422, {"object": "error", "message": {"detail": [{"loc": ["body", "top_p"], "input": "SECRET",
                                                                         "type": "x", "msg": "must be positive"}]},
                              "type": "invalid_request_error"}, INVALID_REQUEST, "422: body.top_p: must be positive"),
    "Mistral: detail": (400, {"detail": "Must be positive: top_p"}, INVALID_REQUEST, "Must be positive"),
    "Mistral: key": (401, {"detail": "Unauthorized"}, KEY_REFUSED, "Unauthorized"),
    "Mistral: model": (400, {"object": "error", "message": "Invalid model: foo", "type": "invalid_model",
                             "code": "1500"}, MODEL_NOT_FOUND, "Invalid model: foo"),
    "Mistral: capacity": (429, {"object": "error", "message": "Service tier capacity exceeded for this model.",
                                "type": "service_tier_capacity_exceeded", "code": "3505"}, OVERLOADED, "capacity"),
    "Cohere": (400, {"id": "1", "message": "invalid request: top_k"}, INVALID_REQUEST, "invalid request: top_k"),
    "Cohere: trial": (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."},
                      QUOTA_EXCEEDED, "Trial key"),
    "Cohere: msg": (400, {"msg": "invalid model"}, MODEL_NOT_FOUND, "invalid model"),
    "Groq: rate": (413, openai("Request too large for model `x` on tokens per minute (TPM): Limit 6000", "tokens",
                               "rate_limit_exceeded"), RATE_LIMITED, "Limit 6000"),
    "Groq: old model": (400, openai("The model `x` has been decommissioned.", code="model_decommissioned"),
                        MODEL_NOT_FOUND, "decommissioned"),
    "Groq: restricted": (400, openai("Organization has been restricted.", code="organization_restricted"), NOT_ALLOWED,
                         "restricted"),
    "Groq: context": (400, openai("Please reduce the length of the messages or completion."), CONTEXT_TOO_LONG,
                      "reduce the length"),
    "Together: model": (404, openai("Unable to access model foo.", code="model_not_available"), MODEL_NOT_FOUND, "foo"),
    "Together: rate": (429, openai("Slow down", "model_rate_limit"), RATE_LIMITED, "Slow down"),
    "Fireworks: suspended": (412, {"error": {"object": "error", "message": "Account x is suspended, possibly due to "
                                             "reaching the monthly spending limit"}}, QUOTA_EXCEEDED, "suspended"),
    "OpenRouter: raw": (400, openrouter(400, "Provider returned error", provider_name="X",
                                        raw='{"error":{"message":"tool_use ids must be unique"}}'),
                        INVALID_REQUEST, "400: tool_use ids must be unique"),
    "OpenRouter: raw text": (429, openrouter(429, "Provider returned error", raw="x is rate-limited upstream"),
                             RATE_LIMITED, "429: x is rate-limited upstream"),
    "OpenRouter: raw quota": (429, openrouter(429, "Provider returned error", provider_name="OpenAI",
                                              raw=json.dumps(openai(QUOTA, "insufficient_quota"))),
                              QUOTA_EXCEEDED, QUOTA),
    "OpenRouter: credits": (402, openrouter(402, "This request requires more credits, or fewer max_tokens."),
                            QUOTA_EXCEEDED, "requires more credits"),
    "OpenRouter: moderation": (403, openrouter(403, "Your input was flagged", reasons=["violence"]), NOT_ALLOWED,
                               "input was flagged"),
    "OpenRouter: model": (400, openrouter(400, "foo/bar is not a valid model ID"), MODEL_NOT_FOUND, "foo/bar"),
    "OpenRouter: data policy": (404, openrouter(404, "No endpoints found matching your data policy."), NOT_ALLOWED,
                                "data policy"),
    "OpenRouter: tools": (404, openrouter(404, "No endpoints found that support tool use."), INVALID_REQUEST,
                          "support tool use"),
    "Perplexity: model": (400, {"error": {"message": "Invalid model 'x'. Permitted models can be found in the docs.",
                                          "type": "invalid_model", "code": 400}}, MODEL_NOT_FOUND, "Permitted models"),
    "DeepSeek: balance": (402, openai("Insufficient Balance", "unknown_error", "invalid_request_error"), QUOTA_EXCEEDED,
                          "Insufficient Balance"),
    "DeepSeek: model": (400, openai("Model Not Exist"), MODEL_NOT_FOUND, "Model Not Exist"),
    "Moonshot: quota": (429, openai("Your account is suspended", "exceeded_current_quota_error"), QUOTA_EXCEEDED,
                        "is suspended"),
    "Moonshot: overloaded": (429, openai("The engine is currently overloaded", "engine_overloaded_error"), OVERLOADED,
                             "currently overloaded"),
    "Moonshot: model": (404, openai("Not found the model x or Permission denied", "resource_not_found_error"),
                        MODEL_NOT_FOUND, "Not found the model x"),
    "xAI: key": (400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: ab***yz"},
                 KEY_REFUSED, "Incorrect API key provided"),
    "xAI: credits": (403, {"code": "The caller does not have permission to execute the specified operation",
                           "error": "Your newly created team doesn't have any credits or licenses yet."},
                     QUOTA_EXCEEDED, "doesn't have any credits"),
    "xAI: context": (400, {"code": "Client specified an invalid argument", "error": "This model's maximum prompt "
                           "length is 131072 but the request contains 140000 tokens."}, CONTEXT_TOO_LONG, "131072"),
    "Z.ai: arrears": (429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, QUOTA_EXCEEDED,
                      "余额不足"),
    "Z.ai: sensitive": (400, {"error": {"code": "1301", "message": "Unsafe"}}, NOT_ALLOWED, "Unsafe"),
    "Z.ai: concurrency": (429, {"error": {"code": "1302", "message": "High concurrency"}}, RATE_LIMITED, "concurrency"),
    "DashScope: key": (401, {"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "1"},
                       KEY_REFUSED, "Invalid API-key"),
    "DashScope: arrears": (400, {"code": "Arrearage", "message": "Access denied, account is not in good standing."},
                           QUOTA_EXCEEDED, "good standing"),
    "DashScope: inspection": (400, openai("Output data may contain bad content.", code="data_inspection_failed"),
                              NOT_ALLOWED, "may contain bad content"),
    "DashScope: length": (400, openai("Range of input length should be [1, 30720]"), CONTEXT_TOO_LONG, "30720"),
    "Volcengine": (404, {"error": {"code": "InvalidEndpointOrModel.NotFound", "message": "The endpoint ep-1 does not "
                                   "exist", "type": "NotFound"}}, MODEL_NOT_FOUND, "ep-1"),
    "Bedrock: model": (400, {"Message": "The provided model identifier is invalid."}, MODEL_NOT_FOUND, "identifier"),
    "Bedrock: access": (403, {"__type": "AccessDeniedException", "Message": "You don't have access to this."},
                        NOT_ALLOWED, "don't have access"),
    "Bedrock: throttled": (429, {"message": "Too many requests, please wait", "__type": "ThrottlingException"},
                           RATE_LIMITED, "Too many requests"),
    "Bedrock: length": (400, {"message": "Input is too long for requested model."}, CONTEXT_TOO_LONG, "too long"),
    "Bedrock: key": (403, {"message": "The security token included in the request is invalid."}, KEY_REFUSED,
                     "security token"),
    "Ollama": (404, {"error": "model 'x' not found"}, MODEL_NOT_FOUND, "model 'x' not found"),
    "Ollama: tools": (400, {"error": "registry/x does not support tools"}, INVALID_REQUEST, "does not support tools"),
    "vLLM: model": (404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError",
                          "code": 404}, MODEL_NOT_FOUND, "`x` does not exist"),
    "vLLM: context": (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens.",
                            "type": "BadRequestError", "code": 400}, CONTEXT_TOO_LONG, "4096"),
    "vLLM: fields": (422, {"detail": [{"loc": ["body", "messages", 0], "msg": "Input should be a valid string",
                                       "type": "string_type"}]}, INVALID_REQUEST, "body.messages.0: Input should be"),
    "llama.cpp: loading": (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
                           OVERLOADED, "Loading model"),
    "llama.cpp: context": (400, {"error": {"code": 400, "message": "the request exceeds the available size",
                                           "type": "exceed_context_size_error", "n_ctx": 4096}}, CONTEXT_TOO_LONG,
                           "available size"),
    "LM Studio": (400, {"error": "No models loaded. Please load a model."}, MODEL_NOT_FOUND, "No models loaded"),
    "TGI": (503, {"error": "Model x is currently loading", "estimated_time": 20.0}, OVERLOADED, "currently loading"),
    "TGI: several": (400, {"error": ["Error in `parameters`: top_k", "Error in `inputs`"]}, INVALID_REQUEST,
                     "Error in `parameters`: top_k; Error in `inputs`"),
    "Hugging Face": (402, {"error": "You have exceeded your monthly included credits"}, QUOTA_EXCEEDED, "monthly"),
    "NVIDIA": (404, {"type": "urn:x", "title": "Not Found", "status": 404, "detail": "Function not found for account"},
               FAILED, "Function not found"),
    "Cloudflare": (400, {"success": False, "errors": [{"code": 5007, "message": "No such model x"}], "messages": [],
                         "result": None}, MODEL_NOT_FOUND, "No such model x"),
    "Cloudflare: key": (400, {"success": False, "errors": [{"code": 10000, "message": "No"}]}, KEY_REFUSED, "No"),
    "Databricks": (429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Exceeded workspace limit"}, RATE_LIMITED,
                   "workspace limit"),
    "Writer": (400, {"tpe": "invalid_request", "errors": [{"description": "top_p: too large", "key": "x"}]},
               INVALID_REQUEST, "top_p: too large"),
    "LiteLLM": (500, {"error": {"message": "litellm.RateLimitError: slow down", "type": None, "code": "429"}},
                RATE_LIMITED, "slow down"),
    "Kong": (401, {"message": "No API key found in request"}, KEY_REFUSED, "No API key found"),
    "Spring": (400, {"timestamp": 1, "status": 400, "error": "Bad Request", "message": "top_p is wrong", "path": "/"},
               INVALID_REQUEST, "top_p is wrong"),
    "a path that names models": (404, {"detail": "Cannot POST /v1/models/chat, resource not found"}, FAILED,
                                "Cannot POST"),
    "a model in other words": (404, {"detail": "Nothing here by the name of that model"}, MODEL_NOT_FOUND,
                               "Nothing here"),
    "a bare 403": (403, {"message": "Forbidden"}, KEY_REFUSED, "Forbidden"),
    "an empty 403": (403, {}, KEY_REFUSED, "403"),
    "a 403 with a reason": (403, {"message": "Your IP is on our list"}, NOT_ALLOWED, "IP is on our list"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_of_a_vendor(asking: AskingMaker, provider: ScriptedProvider, name: str) -> None:
    status, body, code, words = ANSWERS[name]
    for media_type in ("application/json", "text/plain", "text/html"):
        provider.script(Reply(json.dumps(body).encode(), status=status, content_type=media_type))
        error = asking().error()
        assert (error.code, words in error.detail) == (code, True), error.detail
        assert "SECRET" not in error.detail


# what a 200 reports instead of a reply
REPORTS: dict[str, tuple[Any, str, str]] = {
    "MiniMax: balance": ({"status_code": 1008, "status_msg": "insufficient balance"}, QUOTA_EXCEEDED,
                         "insufficient balance"),
    "MiniMax: key": ({"status_code": 2049, "status_msg": "wrong"}, KEY_REFUSED, "wrong"),
    "MiniMax: rate": ({"status_code": 1002, "status_msg": "too fast"}, RATE_LIMITED, "too fast"),
    "MiniMax: sensitive": ({"status_code": 1026, "status_msg": "no"}, NOT_ALLOWED, "no"),
    "Baidu: day": ({"error_code": 17, "error_msg": "Open api daily request limit reached"}, QUOTA_EXCEEDED, "daily"),
    "Baidu: rate": ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, RATE_LIMITED, "qps"),
    "Baidu: key": ({"error_code": 110, "error_msg": "Access token invalid"}, KEY_REFUSED, "token invalid"),
    "FastChat": ({"text": "NETWORK ERROR DUE TO HIGH TRAFFIC", "error_code": 50004}, FAILED, "HIGH TRAFFIC"),
    "a text": ("model is loading", OVERLOADED, "model is loading"),
    "a code that is a status": ({"code": 503, "message": "It broke"}, OVERLOADED, "It broke"),
    "a word alone": ({"type": "invalid_request_error"}, INVALID_REQUEST, "invalid_request_error"),
    "deep": ({"error": {"error": {"error": {"message": "It broke"}}}}, FAILED, "It broke"),
    "LM Studio": ({"message": "Model unloaded", "code": "model_unloaded"}, MODEL_NOT_FOUND, "Model unloaded"),
    "llama.cpp": ({"code": 500, "message": "failed to decode, try again", "type": "server_error"}, FAILED, "decode"),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_report_inside_a_success(asking: AskingMaker, provider: ScriptedProvider, name: str) -> None:
    report, code, words = REPORTS[name]
    for reply in (json_answer({"error": report}), Reply(sse({"error": report}))):
        provider.script(reply)
        error = asking().error()
        assert (error.code, words in error.detail) == (code, True), error.detail


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"Model foo is not loaded", "400: Model foo is not loaded"),
        (b"  upstream said:\n no \r\n", "400: upstream said: no"),
        (b'data: {"error":{"message":"in an event"}}\n\ndata: [DONE]\n\n', "400: in an event"),
        (b'event: error\ndata: {"message":"in a named event"}\n\n', "400: in a named event"),
        (b"{'error': 'not quite JSON'}", "400: {'error': 'not quite JSON'}"),
        (b"\x1f\x8b\x08\x00\xff\xfe\x00\x01" * 20, "The provider answered 400."),
        (b"null", "The provider answered 400."),
        (b"", "The provider answered 400."),
    ],
)
def test_body_that_is_no_json(
    asking: AskingMaker, provider: ScriptedProvider, body: bytes, detail: str
) -> None:
    provider.script(Reply(body, status=400, content_type="text/plain"))
    assert asking().error().detail.endswith(detail)


def test_error_class_in_a_header_counts(asking: AskingMaker, provider: ScriptedProvider) -> None:
    header = {"x-amzn-ErrorType": "ThrottlingException:http://internal.amazon.example/doc/"}
    provider.script(json_answer({"message": "Slow down"}, 400, header))
    assert asking().error().code == RATE_LIMITED


SLOW = openai("Slow down", None, "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        pytest.param(429, {"Retry-After": "7"}, SLOW, 7, id="seconds"),
        pytest.param(503, {"Retry-After": "7"}, {}, 7, id="503"),
        pytest.param(529, {"Retry-After": "7"}, {}, 7, id="529"),
        pytest.param(429, {"Retry-After-Ms": "1200", "Retry-After": "9"}, SLOW, 2, id="milliseconds"),
        pytest.param(429, {"x-ms-retry-after-ms": "250"}, SLOW, 1, id="azure"),
        pytest.param(
            429,
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s",
             "x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "9h"},
            SLOW, 63, id="reset-of-what-is-used-up",
        ),
        pytest.param(429, {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "9"}, SLOW, None, id="nothing-used-up"),
        pytest.param(429, {}, google(429, "RESOURCE_EXHAUSTED", QUOTA, PER_MINUTE), 21, id="gemini"),
        pytest.param(429, {}, openai("Limit. Please try again in 7m12.5s. See docs"), 433, id="groq"),
        pytest.param(429, {}, openai("Limit. Please try again in 6ms."), 1, id="openai"),
        pytest.param(429, {}, openai("Limit. Please retry after 26 seconds."), 26, id="azure-text"),
        pytest.param(429, {}, {"message": "x", "retry_after": 12}, 12, id="retry_after"),
        pytest.param(503, {}, {"error": "Model x is currently loading", "estimated_time": 20.4}, 21, id="tgi"),
        pytest.param(429, {}, openai("Wait 999999999 hours"), 86400, id="a-day-at-most"),
        pytest.param(429, {}, SLOW, None, id="nothing-said"),
        pytest.param(429, {}, openai(QUOTA, "insufficient_quota"), None, id="quota"),
    ],
)  # fmt: skip
def test_when_to_try_again(
    asking: AskingMaker,
    provider: ScriptedProvider,
    status: int,
    headers: dict[str, str],
    body: Any,
    expected: int,
) -> None:
    provider.script(json_answer(body, status, headers))
    error = asking().error()
    assert isinstance(error, ProviderError)
    assert error.retry_after_s == expected


def test_reset_times_are_moments(asking: AskingMaker, provider: ScriptedProvider) -> None:
    moment = time.time() + 100
    iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    repeated = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{moment * 1000:.0f}"}
    answers = (
        json_answer(SLOW, 429, {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": iso}),
        json_answer(SLOW, 429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{moment:.0f}"}),
        json_answer(openrouter(429, "Rate limit exceeded", headers=repeated), 429),
    )  # fmt: skip
    for answer in answers:
        provider.script(answer)
        error = asking().error()
        assert isinstance(error, ProviderError)
        assert error.retry_after_s in range(60, 102)


HOSTILE = [
    '{"error":' * 400 + "1" + "}" * 400,
    json.dumps({"errors": [{"errors": [{"message": "x" * 100}] * 40}] * 40}),
    json.dumps(
        {"message": json.dumps({"message": json.dumps({"message": json.dumps({"message": "deep"})})})}
    ),
    json.dumps(
        {"error": {"code": 10**30, "status": -1, "type": [], "retry_after": "9" * 400, "message": {"a": 1}}}
    ),
    json.dumps({"error": {"message": "model " * 4000 + "<a " * 4000 + "try again in 1" * 4000}}),
    json.dumps([[[[{"error": "x"}]]]]),
    "<" * 60_000,
    "[" * 60_000,
    "try again in " + "1.1" * 20_000,
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_errors_cost_little(asking: AskingMaker, provider: ScriptedProvider, body: str) -> None:
    provider.script(*[Reply(body.encode(), status=429, content_type="application/json")] * 10)
    ask = asking()
    begin = time.process_time()
    for _ in range(10):
        assert len(ask.error().detail) < 700
    assert time.process_time() - begin < 1.5


def test_rules_name_known_codes_alone() -> None:
    assert {rule.code for rule in RULES} <= ERROR_CODES.keys()
    for rule in RULES:
        assert all(phrase == phrase.lower() for phrase in rule.phrases)
