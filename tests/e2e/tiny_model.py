"""Writes a model that llama.cpp can run: two small layers of random numbers. What it says is noise.

Noise is what a test of encodings wants: each token is one byte, so the text has control characters, quotes,
characters of several bytes and, wherever bytes make no UTF-8, replacement characters.
"""

from pathlib import Path

import gguf
import numpy as np

LAYERS = 2
WIDTH = 64
HEADS = 4
HIDDEN = 128  # width inside the feed-forward part
CONTEXT_TOKENS = 131072
UNKNOWN, BEGIN, END = 0, 1, 2  # control tokens; the 256 bytes follow
VOCABULARY = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def write_tiny_model(path: Path, seed: int = 7) -> None:
    """Write the model, about 0.5 MB; the same seed gives the same file."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer)
    for name, values in _weights(np.random.default_rng(seed)).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter) -> None:
    """Sizes and vocabulary: a SentencePiece one that knows nothing but bytes."""
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("llama")
    writer.add_add_space_prefix(False)  # a grammar is compared with the text as it is
    writer.add_token_list(VOCABULARY)
    writer.add_token_scores([0.0] * len(VOCABULARY))
    kinds = gguf.TokenType
    writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256])
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_chat_template(CHAT_TEMPLATE)


def _weights(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Random tensors by llama.cpp's names.

    The first dimension carries a constant through all layers, and the control tokens are weighed against it: the
    model never ends by itself, so a reply is exactly as long as a test asks for.
    """

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0.0, columns**-0.5, (rows, columns))

    embedding, output = random.normal(0.0, 1.0, (2, len(VOCABULARY), WIDTH))
    embedding[:, 0] = 8.0
    output[:, 0] = 0.0
    output[[UNKNOWN, BEGIN, END], 0] = -1000.0
    weights = {
        "token_embd.weight": embedding,
        "output.weight": output * 0.5,
        "output_norm.weight": np.ones(WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        weights |= {f"{block}.attn_norm.weight": np.ones(WIDTH), f"{block}.ffn_norm.weight": np.ones(WIDTH)}
        weights |= {f"{block}.attn_{part}.weight": matrix(WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        weights[f"{block}.ffn_gate.weight"] = matrix(HIDDEN, WIDTH)
        weights[f"{block}.ffn_up.weight"] = matrix(HIDDEN, WIDTH)
        weights[f"{block}.ffn_down.weight"] = matrix(WIDTH, HIDDEN)
    return weights
