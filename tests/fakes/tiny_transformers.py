"""Untrained models of the transformers library with a few thousand weights, built offline."""

from typing import Any

import torch
import transformers

TEXT: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "max_position_embeddings": 64,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
IMAGE_TOKEN = 30


def build(name: str, **overrides: Any) -> Any:
    """The model of this name in evaluation mode; weights from seed 0, large enough for attention to matter."""
    kind, config = _CONFIGS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, kind)(config(overrides)).eval()
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.data.normal_(std=0.3)
    return model


def _text(kind: str) -> Any:
    return lambda overrides: getattr(transformers, kind)(**(TEXT | overrides))


def _smolvlm(overrides: dict[str, Any]) -> Any:
    text = TEXT | {"model_type": "llama"} | overrides
    return transformers.SmolVLMConfig(text_config=text, vision_config=VISION, image_token_id=IMAGE_TOKEN, scale_factor=2, pad_token_id=0)


def _paligemma(overrides: dict[str, Any]) -> Any:
    text, vision = TEXT | {"model_type": "gemma"} | overrides, VISION | {"projection_dim": 32, "model_type": "siglip_vision_model"}
    return transformers.PaliGemmaConfig(text_config=text, vision_config=vision, image_token_id=IMAGE_TOKEN, projection_dim=32)


def _bert(overrides: dict[str, Any]) -> Any:
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertConfig(**(TEXT | dropout | overrides))


def _bart(overrides: dict[str, Any]) -> Any:
    sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))}
    tokens = {"vocab_size": 32, "d_model": 32, "dropout": 0.0, "max_position_embeddings": 64, "decoder_start_token_id": 1}
    return transformers.BartConfig(**(sizes | tokens | {"pad_token_id": 0, "eos_token_id": 31, "forced_eos_token_id": None} | overrides))


def _t5(overrides: dict[str, Any]) -> Any:
    sizes = {"vocab_size": 32, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return transformers.T5Config(**(sizes | {"pad_token_id": 0, "decoder_start_token_id": 1, "dropout_rate": 0.0} | overrides))


_CONFIGS: dict[str, tuple[str, Any]] = {
    "gemma": ("GemmaForCausalLM", _text("GemmaConfig")),
    "gemma2": ("Gemma2ForCausalLM", _text("Gemma2Config")),
    "gemma3": ("Gemma3ForCausalLM", _text("Gemma3TextConfig")),
    "llama": ("LlamaForCausalLM", _text("LlamaConfig")),
    "bert": ("BertModel", _bert),
    "bart": ("BartForConditionalGeneration", _bart),
    "smolvlm": ("SmolVLMForConditionalGeneration", _smolvlm),
    "paligemma": ("PaliGemmaForConditionalGeneration", _paligemma),
    "siglip": ("SiglipVisionModel", lambda overrides: transformers.SiglipVisionConfig(**(VISION | overrides))),
    "t5": ("T5ForConditionalGeneration", _t5),
}
