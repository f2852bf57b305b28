"""What a provider takes of files: by its protocol, what is known of its server, and what its list says of the model."""

from collections.abc import Collection
from dataclasses import dataclass

from ..documents.images import ImageLimits
from .openai.dialects import dialect_of
from .request import Endpoint

AUDIO_TYPES = ("audio/wav", "audio/mpeg")
# Anthropic scales larger ones down, refuses larger ones among many, and counts 5 MiB of Base64
_ANTHROPIC_IMAGES = ImageLimits(longest_side=2000, max_bytes=5 * 1024 * 1024 * 3 // 4)


@dataclass(frozen=True, slots=True)
class Takes:
    """What can be sent to a model besides text."""

    images: bool
    image_limits: ImageLimits
    pdfs: bool
    audio: bool


def abilities_of(endpoint: Endpoint, lacks: Collection[str] = ()) -> Takes:
    """What can be sent to this endpoint, whose list of models says that the model `lacks` some abilities."""
    options, is_anthropic = endpoint.options, endpoint.api_format == "anthropic"
    return Takes(
        images=options.images and "images" not in lacks,
        image_limits=_ANTHROPIC_IMAGES if is_anthropic else dialect_of(options.dialect).image_limits,
        pdfs=options.pdfs and "files" not in lacks,
        audio=options.audio and not is_anthropic and "audio" not in lacks,
    )
