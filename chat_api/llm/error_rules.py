"""Which code an error of a provider gets: a table of rules, the first one that matches decides.

A rule looks at the words with which a provider classifies its error (`type`, `code`, `status`, `reason` …), at phrases
in its message, or at the HTTP status. Words are compared without case and without anything but letters and digits, so
"RateLimitReached" is "rate_limit_reached". A number is a word only together with its field, as "error_code:17", because
each vendor has its own. Phrases are in lower case.

The exact words of a vendor come first. Then phrases, because many servers use one word, such as
"invalid_request_error", for everything. Then the status, and last the words that say no more than a status does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .error_codes import (
    ATTACHMENT_REFUSED,
    CONTEXT_TOO_LONG,
    FAILED,
    INVALID_REQUEST,
    KEY_REFUSED,
    MODEL_NOT_FOUND,
    NOT_ALLOWED,
    OVERLOADED,
    QUOTA_EXCEEDED,
    RATE_LIMITED,
)

_NOT_IN_WORDS = re.compile(r"[^0-9a-z:]+")


def normalized(word: str) -> str:
    """A word as rules compare it."""
    return _NOT_IN_WORDS.sub("", word.lower())


@dataclass(frozen=True, slots=True)
class Rule:
    """Errors with one of these words, or one of these phrases, or one of these statuses, have this code."""

    code: str
    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None  # for a phrase with something in the middle
    statuses: tuple[int, ...] = ()
    only: tuple[int | None, ...] = ()  # the words or phrases count with these statuses alone

    def matches(self, status: int | None, words: frozenset[str], message: str) -> bool:
        """Whether the rule is about this error. The message is in lower case."""
        if self.only and status not in self.only:
            return False
        return (
            status in self.statuses
            or not words.isdisjoint(self.words)
            or any(phrase in message for phrase in self.phrases)
            or (self.pattern is not None and self.pattern.search(message) is not None)
        )


def _words(code: str, words: str, *, only: tuple[int | None, ...] = ()) -> Rule:
    return Rule(code, words=frozenset(map(normalized, words.split())), only=only)


def _phrases(code: str, *phrases: str, only: tuple[int | None, ...] = ()) -> Rule:
    return Rule(code, phrases=phrases, only=only)


def _pattern(code: str, pattern: str, *, only: tuple[int | None, ...] = ()) -> Rule:
    return Rule(code, pattern=re.compile(pattern), only=only)


def _statuses(code: str, *statuses: int) -> Rule:
    return Rule(code, statuses=statuses)


RULES = (
    # -- words of one meaning --
    _words(NOT_ALLOWED, "model_not_found", only=(403,)),  # OpenAI: the project has no access to it
    _words(
        CONTEXT_TOO_LONG,
        "context_length_exceeded exceed_context_size_error context_window_exceeded context_too_long prompt_too_long "
        "request_too_large context_length_exceeded_error model_context_window_exceeded tokens_limit_reached "
        "ContextWindowExceededError code:1261 status_code:1039",
    ),
    _words(
        QUOTA_EXCEEDED,
        "insufficient_quota insufficient_balance insufficient_credits insufficient_funds billing_error "
        "billing_not_active billing_hard_limit_reached exceeded_current_quota exceeded_current_quota_error "
        "quota_exceeded credit_limit_exceeded payment_required Arrearage AllocationQuota.FreeTierOnly "
        "free_quota_exceeded AccountOverdueError budget_exceeded error_code:17 error_code:19 code:1113 code:1304 "
        "code:1308 status_code:1008",
    ),
    _words(
        RATE_LIMITED,
        "rate_limit rate_limited rate_limit_error rate_limit_exceeded rate_limit_exceeded_error rate_limit_reached "
        "rate_limit_reached_error RateLimitReached RateLimitError model_rate_limit too_many_requests "
        "TooManyRequestsException too_many_requests_error ThrottlingException Throttling "
        "Throttling.RateQuota Throttling.BurstRate Throttling.AllocationQuota "
        "limit_requests LimitRequests limit_burst_rate request_limit_exceeded "
        "concurrency_limit_exceeded error_code:4 error_code:18 error_code:336501 error_code:336502 code:1302 "
        "code:1303 status_code:1002 status_code:1041",
    ),
    _words(
        KEY_REFUSED,
        "invalid_api_key incorrect_api_key_provided api_key_invalid authentication_error AuthenticationError "
        "invalid_authentication_error invalid_authentication unauthenticated InvalidApiKey invalid_key "
        "UnrecognizedClientException InvalidSignatureException ExpiredTokenException MissingAuthenticationToken "
        "api_key_expired token_expired access_token_expired invalid_token account_deactivated api_key_disabled "
        "error_code:14 error_code:110 error_code:111 error_code:336002 "
        "code:10000 code:1000 code:1001 code:1002 code:1003 "
        "status_code:1004 status_code:2049",
    ),
    _words(
        NOT_ALLOWED,
        "request_forbidden access_denied "
        "AccessDeniedException AccessDenied Model.AccessDenied Workspace.AccessDenied model_access_denied "
        "unsupported_country_region_territory content_filter content_filtered content_policy_violation "
        "ResponsibleAIPolicyViolation data_inspection_failed DataInspectionFailed moderation_blocked "
        "moderation_error content_moderation cyber_policy_violation image_content_policy_violation "
        "organization_restricted ip_not_authorized model_permission_blocked_org model_permission_blocked_project "
        "unsafe_content SensitiveContentDetected InputTextSensitiveContentDetected "
        "safety sensitive prohibited_content blocklist spii recitation image_safety error_code:6 error_code:336003 "
        "code:1301 code:1220 status_code:1026 status_code:1027",
    ),
    _words(
        MODEL_NOT_FOUND,
        "model_not_found ModelNotFound model_not_available model_not_exist model_decommissioned invalid_model "
        "unknown_model no_such_model unknown_model_error model_unloaded ModelNotOpen InvalidEndpointOrModel.NotFound "
        "DeploymentNotFound deployment_not_found Model.NotExist error_code:336004 code:1211",
    ),
    _words(
        OVERLOADED,
        "overloaded overloaded_error engine_overloaded engine_overloaded_error server_overloaded ServerOverloaded "
        "model_overloaded service_unavailable service_unavailable_error ServiceUnavailableException "
        "ServiceUnavailableError unavailable unavailable_error ModelNotReadyException model_not_ready "
        "service_tier_capacity_exceeded capacity_exceeded slow_down NoCapacity model_loading "
        "insufficient_system_resource error_code:2 "
        "error_code:336100 code:1305 code:1312 status_code:1013",
    ),
    # -- phrases in messages --
    _phrases(
        ATTACHMENT_REFUSED,
        "not support image",
        "not support vision",
        "not support audio",
        "not support file",
        "not support pdf",
        "not support document",
        "not support multimodal",
        "support image input",
        "support audio input",
        "support file input",
        "image input is not supported",
        "image inputs are not supported",
        "image input is disabled",
        "images are not supported",
        "audio input is not supported",
        "image_url is not supported",
        "image_url is only supported",
        "unknown variant `image_url`",
        "unknown variant `input_audio`",
        "unknown variant `file`",
        "invalid value: 'image_url'",
        "invalid value: 'input_audio'",
        "invalid value: 'file'",
        "is not a multimodal model",
        "multimodal data provided",
        "image(s) may be provided",
        "audio(s) may be provided",
        "mmproj",
        "could not process image",
        "could not process pdf",
        "could not process document",
        "failed to process image",
        "failed to load image",
        "failed to decode image",
        "unable to process input image",
        "does not represent a valid image",
        "invalid image",
        "unsupported image",
        "image exceeds",
        "image dimensions exceed",
        "image is too large",
        "image size",
        "too many images",
        "unsupported mime type",
        "invalid mime type",
        "unsupported mimetype",
        "unsupported file type",
        "invalid file data",
        "invalid base64",
        "failed to decode audio",
        "invalid audio",
        "unsupported audio",
        "the pdf specified",
        "pdf pages",
        "pdf is password",
        "the document has no pages",
        "content must be a string",
        "content should be a string",
        "content: input should be a valid string",
    ),
    _phrases(RATE_LIMITED, "tokens per minute", "tokens per min", "requests per minute", "requests per min",
             "token rate limit", "call rate limit"),
    _phrases(
        QUOTA_EXCEEDED,
        "exceeded your current quota",
        "insufficient balance",
        "insufficient credit",
        "insufficient funds",
        "insufficient account balance",
        "insufficient quota",
        "balance is insufficient",
        "balance is not enough",
        "credit balance is too low",
        "not enough credit",
        "requires more credits",
        "out of credits",
        "no credits",
        "doesn't have any credits",
        "any credits or licenses",
        "used all available credits",
        "exceeded your monthly included credits",
        "credits have been exhausted",
        "monthly spending limit",
        "spending limit",
        "spend limit",
        "billing hard limit",
        "check your plan and billing",
        "billing details",
        "account is not active",
        "usage limits",
        "daily request limit",
        "daily limit",
        "free-models-per-day",
        "quota has been exhausted",
        "quota exhausted",
        "free quota",
        "daily free allocation",
        "api calls / month",
        "余额不足",
        "欠费",
    ),
    _phrases(
        CONTEXT_TOO_LONG,
        "context length",
        "context window",
        "context size",
        "maximum context",
        "exceed context limit",
        "exceeds the context",
        "context limit",
        "prompt is too long",
        "prompt too long",
        "prompt length",
        "input is too long",
        "input too long",
        "input length",
        "input token count",
        "too many tokens",
        "too many input tokens",
        "number of input tokens",
        "maximum number of tokens allowed",
        "reduce the length of the messages",
        "reduce the length of your prompt",
        "reduce your prompt",
    ),
    _phrases(
        KEY_REFUSED,
        "incorrect api key",
        "invalid api key",
        "invalid api-key",
        "invalid x-api-key",
        "invalid api_key",
        "invalid key",
        "api key is invalid",
        "api key is not valid",
        "api key not valid",
        "api key not found",
        "api key expired",
        "api key has expired",
        "api key is required",
        "api key was reported",
        "api key has been",
        "no api key",
        "missing api key",
        "missing authentication",
        "missing authorization",
        "no auth credentials",
        "no cookie auth",
        "unregistered callers",
        "invalid authentication",
        "invalid credentials",
        "authentication failed",
        "authentication required",
        "security token included in the request is",
    ),
    # before the rule for models: a model may be there, but not for this request
    _phrases(INVALID_REQUEST, "no endpoints found that support", "does not support tools", "not support tool"),
    _phrases(
        NOT_ALLOWED,
        "country, region",
        "location is not supported",
        "region is not supported",
        "not supported in your region",
        "not available in your region",
        "not available in your country",
        "unsupported region",
        "does not have access to model",
        "don't have access to the model",
        "not have permission",
        "no permission",
        "lacks permission",
        "permission denied on",
        "not authorized to",
        "is not authorized",
        "must be verified",
        "content management policy",
        "content policy",
        "content filter",
        "content_filter",
        "usage policy",
        "usage policies",
        "safety system",
        "data policy",
        "guardrail",
        "moderation",
        "was flagged",
        "flagged as",
        "been flagged",
        "inappropriate content",
        "sensitive content",
        "prohibited content",
        "敏感",
        "不安全",
    ),
    _phrases(
        OVERLOADED,
        "overloaded",
        "model is loading",
        "loading model",
        "currently loading",
        "still loading",
        "no capacity",
        "at capacity",
        "over capacity",
        "capacity exceeded",
        "capacity temporarily exceeded",
        "temporarily unavailable",
        "currently unavailable",
        "service unavailable",
        "server is busy",
        "servers are busy",
        "system is busy",
        "high demand",
        "no available server",
        "no healthy upstream",
        "try again when the model",
    ),
    _phrases(
        MODEL_NOT_FOUND,
        "unknown model",
        "invalid model",
        "no such model",
        "not a valid model",
        "not find the model",
        "not found the model",
        "unable to access model",
        "model identifier is invalid",
        "invalid model identifier",
        "no models loaded",
        "no model loaded",
        "failed to load model",
        "has been decommissioned",
        "has been deprecated and",
        "no endpoints found",
        "try pulling it",
        "deployment for this resource does not exist",
        "模型不存在",
    ),
    _pattern(
        MODEL_NOT_FOUND,
        r"(?<![/\w])model\b[^.]{0,120}(?:does not exist|doesn't exist|not exist|not found|not loaded|not available"
        r"|is not supported|not deployed)",
    ),
    # not the path of a request, such as /v1/models
    _pattern(MODEL_NOT_FOUND, r"(?<![/\w])model", only=(404, 410)),
    # -- what the status says --
    _statuses(KEY_REFUSED, 401),
    _statuses(QUOTA_EXCEEDED, 402),
    _statuses(NOT_ALLOWED, 403, 451),
    _statuses(CONTEXT_TOO_LONG, 413),
    _statuses(RATE_LIMITED, 429),
    _statuses(OVERLOADED, 503, 529),
    _statuses(INVALID_REQUEST, 400, 422),
    # -- words that say no more than a status: for errors inside a response with status 200 --
    _words(KEY_REFUSED, "unauthorized"),
    _words(NOT_ALLOWED, "permission_error permission_denied PermissionDeniedError"),
    _words(RATE_LIMITED, "resource_exhausted"),
    _words(
        INVALID_REQUEST,
        "invalid_request_error invalid_request invalid_argument invalid_parameter InvalidParameter bad_request "
        "BadRequestError ValidationException ValidationError validation_error unprocessable_entity "
        "invalid_prompt error_code:336001 code:1210 code:1214 status_code:2013",
        only=(None,),
    ),
)  # fmt: skip


def code_of(status: int | None, words: Iterable[str], message: str) -> str:
    """The code of an error with this HTTP status (None: it is said inside a response that succeeded)."""
    known, text = frozenset(map(normalized, words)), message.lower()
    for rule in RULES:
        if rule.matches(status, known, text):
            return rule.code
    return FAILED
