"""A SmolVLM2 of a few thousand weights, untrained, as a folder that SmolVLA takes for `vlm_model_name`: no hub, no network."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

SPECIAL = ("<pad>", "<unk>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
WORDS = ("pick", "up", "the", "red", "blue", "green", "soft", "hard", "cube", "ball", "can", "one")
IMAGE_SIZE = 32

OPTIONS: dict[str, Any] = {
    "chunk_size": 4,
    "n_action_steps": 4,
    "num_steps": 2,
    "num_vlm_layers": 2,
    "max_state_dim": 16,
    "max_action_dim": 8,
    "resize_imgs_with_padding": (IMAGE_SIZE, IMAGE_SIZE),
}
"""For SmolVLAConfig, beside `vlm_model_name`."""


def save(folder: Path) -> Path:
    """Saves the configuration and the processor; SmolVLA draws the weights itself."""
    _configuration().save_pretrained(folder)
    _processor().save_pretrained(folder)
    return folder


def _configuration() -> SmolVLMConfig:
    text = {
        "model_type": "llama",
        "vocab_size": len(SPECIAL) + len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
    }
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": IMAGE_SIZE}
    vision |= {"patch_size": 8}
    return SmolVLMConfig(text_config=text, vision_config=vision, image_token_id=SPECIAL.index("<image>"), scale_factor=2, pad_token_id=0)


def _processor() -> SmolVLMProcessor:
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )
    return SmolVLMProcessor(SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor(), image_seq_len=4)
