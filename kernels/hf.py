"""`attend` for any model of the transformers library, by its public registries: nothing of the library is changed.

    from handsight.kernels import hf
    hf.register()
    model = AutoModel.from_pretrained(name, attn_implementation="handsight")     # or model.set_attn_implementation("handsight")

A model then makes no dense mask where its mask is causal (also over a cache) or bidirectional, with or without padding: it hands its layers
a token layout. All other masks (sliding windows, packed sequences, images that see each other in a text) stay dense and go to PyTorch's
scaled dot product. Whoever knows better passes a layout of its own:

    model(input_ids, token_layout=layout, token_present=present)

It replaces the mask in every layer; without `token_present`, padding is that of `attention_mask`. Queries without any key, which only
padding has, give zeros, where eager attention averages everything. "handsight_triton", "handsight_sdpa", "handsight_flex" and
"handsight_reference" force a back end.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width.
"""

import functools
from typing import Any, Final, get_args

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, prepare_padding_mask, sdpa_mask

from handsight.kernels.attention import Backend, attend
from handsight.kernels.dense import DenseMask
from handsight.kernels.given_mask import LayoutMask
from handsight.kernels.layout import Segment, TokenLayout, Visibility, cross

NAME: Final = "handsight"
REFUSED: Final = {
    "softcap": "soft-capped scores",
    "position_bias": "a bias by position",
    "s_aux": "attention sinks",
    "cache": "a paged cache",
    "output_attentions": "returning attention weights",
    "head_mask": "masked heads",
}
"""Keywords of transformers that change the result, and what each asks for."""


def register() -> None:
    """Makes `attn_implementation="handsight"`, and one name a back end, known to transformers. Twice is once."""
    for backend in get_args(Backend):
        name = NAME if backend == "auto" else f"{NAME}_{backend}"
        AttentionInterface.register(name, functools.partial(attention_forward, backend=backend))
        AttentionMaskInterface.register(name, mask_for_layers)


def mask_for_layers(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    **others: Any,
) -> LayoutMask | Tensor | None:
    """What a model hands its layers as their mask: a layout where one says it all, or else a dense (B, 1, N, M) boolean mask.

    Args:
        q_offset: tokens in the cache, before the queries; a tensor where the cache is static.
        kv_offset: tokens that the cache has dropped.
        attention_mask: (B, at most kv_offset + M) bool, False for padding.
    """
    layout = None
    if mask_function is bidirectional_mask_function:
        layout = _bidirectional(q_length, kv_length)
    elif mask_function is causal_mask_function and isinstance(q_offset, int) and kv_offset == 0:
        layout = _causal(q_offset, q_length, kv_length)
    if layout is None:
        skips = dict.fromkeys(("allow_is_causal_skip", "allow_is_bidirectional_skip"), False)
        return sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, mask_function, attention_mask, **{**others, **skips})
    present = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    return LayoutMask(layout, None if present is None else _unless_all(present[:, kv_offset : kv_offset + kv_length].bool()))


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: LayoutMask | Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    token_layout: TokenLayout | None = None,
    token_present: Tensor | None = None,
    *,
    backend: Backend = "auto",
    **others: Any,
) -> tuple[Tensor, None]:
    """What a layer calls: query (B, H, N, D), key and value (B, G, M, D) -> (B, N, H, D), and no attention weights.

    Args:
        attention_mask: of `mask_for_layers`, or a dense (1 or B, 1 or H, N, at least M) mask, boolean or added to the scores. Without one,
            attention is causal if `is_causal` or else the module says so, as in transformers' own implementations.
        token_layout, token_present: replace the mask, see above.

    Raises:
        ValueError: something is asked for that `attend` does not compute, or a back end other than PyTorch's for a dense mask.
    """
    _refuse(dropout, others)
    if token_layout is not None:
        attention_mask = LayoutMask(token_layout, _padding(attention_mask) if token_present is None else token_present)
    elif token_present is not None:
        raise ValueError("expected token_layout=... beside token_present=..., got none; padding alone belongs in attention_mask")
    elif attention_mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        sizes = (query.shape[2], key.shape[2])
        attention_mask = LayoutMask(_causal(0, *sizes) if causal and sizes[0] > 1 else _bidirectional(*sizes), None)
    if isinstance(attention_mask, LayoutMask):
        out = attend(query, key, value, attention_mask.layout, present=attention_mask.present, scale=scaling, backend=backend)
    elif backend in ("auto", "sdpa"):
        out = DenseMask.of(attention_mask[..., : key.shape[2]]).attend(query, key, value, scaling)
    else:
        raise ValueError(f"expected a token layout for '{NAME}_{backend}', got a dense mask; use '{NAME}' or pass token_layout=...")
    return out.transpose(1, 2).contiguous(), None


def _refuse(dropout: float, others: dict[str, Any]) -> None:
    if dropout > 0:
        raise ValueError(f"expected attention dropout 0 in training with '{NAME}', got {dropout}; set it to 0 in the model's configuration")
    for name, meaning in REFUSED.items():
        if others.get(name) is not None and others[name] is not False:
            raise ValueError(f"expected nothing that '{NAME}' does not compute, got {meaning} ({name}); use attn_implementation='eager'")


def _padding(mask: LayoutMask | Tensor | None) -> Tensor | None:
    """(B, M) the padding in a mask that a layout replaces."""
    if isinstance(mask, Tensor):
        raise ValueError("expected token_present=... beside token_layout=..., because padding cannot be read off this model's dense mask")
    return None if mask is None else mask.present


def _unless_all(present: Tensor) -> Tensor | None:
    """None if every key is there, which needs no mask at all. torch.compile cannot look."""
    return present if torch.compiler.is_compiling() or not bool(present.all()) else None


@functools.lru_cache(maxsize=256)
def _causal(past: int, queries: int, keys: int) -> TokenLayout:
    """`queries` tokens after `past` ones, in a cache with room for `keys`."""
    lengths = {"past": past, "new": queries, "unwritten": keys - past - queries}
    # One token sees all of itself, so that no mask is needed when tokens are generated one by one.
    sees = {"past": Visibility.ALL, "new": Visibility.CAUSAL if queries > 1 else Visibility.ALL, "unwritten": Visibility.NONE}
    segments = {name: Segment(name, length) for name, length in lengths.items() if length > 0}
    return TokenLayout((segments["new"],), tuple(segments.values()), (tuple(sees[name] for name in segments),))


@functools.lru_cache(maxsize=256)
def _bidirectional(queries: int, keys: int) -> TokenLayout:
    return cross([Segment("queries", queries)], [Segment("keys", keys)])
