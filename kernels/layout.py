"""Who attends to whom, by segment: a sequence is a list of named segments and a small segment x segment table, never a dense mask.

    tokens   | language | camera 0 | readout 0 | camera 1 | readout 1 |
    language |    x     |          |           |          |           |
    camera 0 |    x     |    x     |           |          |           |
    readout 0|    x     |    x     |     x     |          |           |
    camera 1 |    x     |    x     |           |    x     |           |
    readout 1|    x     |    x     |           |    x     |     x     |

This is blockwise-causal with readouts (Octo, arXiv 2405.12213, section III-A; FuSe is built on it): a block sees itself and what came
before, a readout sees what its block sees, nobody sees a readout.

Axes: N tokens, S segments. Rows are queries, columns are keys.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """A run of `length` tokens that see, and are seen by, the same segments."""

    name: str
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"expected a segment of at least one token, got {self.name!r} of {self.length}; leave it out instead")


@dataclass(frozen=True)
class TokenLayout:
    """Segments in token order, and for each pair whether the row's tokens attend to the column's.

    Raises:
        ValueError: names that repeat, or a table that is not (S, S).
    """

    segments: tuple[Segment, ...]
    visible: tuple[tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        names = [segment.name for segment in self.segments]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"expected at least one segment and each name once, got {names}")
        if len(self.visible) != len(names) or any(len(row) != len(names) for row in self.visible):
            shape = (len(self.visible), *{len(row) for row in self.visible})
            raise ValueError(f"expected a table of ({len(names)}, {len(names)}), one row and column a segment, got {shape}")

    @property
    def num_tokens(self) -> int:
        """N, the tokens of all segments."""
        return sum(segment.length for segment in self.segments)

    @property
    def is_full(self) -> bool:
        """Whether every token attends to every token, so that no mask is needed."""
        return all(all(row) for row in self.visible)

    def span(self, name: str) -> slice:
        """Where a segment's tokens are.

        Raises:
            KeyError: no segment has this name.
        """
        ends = list(accumulate(segment.length for segment in self.segments))
        for segment, end in zip(self.segments, ends, strict=True):
            if segment.name == name:
                return slice(end - segment.length, end)
        raise KeyError(f"expected one of {[segment.name for segment in self.segments]}, got {name!r}")

    def segment_ids(self) -> tuple[int, ...]:
        """(N,) the index of each token's segment."""
        return tuple(index for index, segment in enumerate(self.segments) for _ in range(segment.length))


def full(segments: Sequence[Segment]) -> TokenLayout:
    """Every token attends to every token."""
    return TokenLayout(tuple(segments), tuple((True,) * len(segments) for _ in segments))


def blockwise_causal(blocks: Sequence[Sequence[Segment]], readouts: Sequence[Sequence[Segment]] = ()) -> TokenLayout:
    """The table in this module's docstring.

    Args:
        blocks: one sequence of segments a block, in causal order: tokens attend within their block and to all earlier ones.
        readouts: for each block, segments placed after it that attend to what the block attends to and to themselves,
            and that nothing else attends to: adding one changes no other token. Empty, or one entry a block.

    Raises:
        ValueError: `readouts` is neither empty nor as long as `blocks`.
    """
    per_block = readouts or [()] * len(blocks)
    if len(per_block) != len(blocks):
        raise ValueError(f"expected readouts for each of {len(blocks)} blocks or for none, got {len(per_block)}")
    placed = [
        (segment, index, is_readout)
        for index, (block, reads) in enumerate(zip(blocks, per_block, strict=True))
        for is_readout, group in ((False, block), (True, reads))
        for segment in group
    ]
    visible = tuple(
        tuple(key == query or (not key_reads and key_block <= query_block) for key, key_block, key_reads in placed)
        for query, query_block, _ in placed
    )
    return TokenLayout(tuple(segment for segment, _, _ in placed), visible)


@functools.lru_cache(maxsize=64)
def dense_mask(layout: TokenLayout, device: torch.device) -> Tensor:
    """(N, N) bool, True where the row attends to the column: for back ends that need one. Kept, so do not write to it."""
    # An inference tensor must not enter the cache: the next training step could not save it for its backward pass.
    with torch.inference_mode(False):
        ids = torch.tensor(layout.segment_ids(), device=device)
        return torch.tensor(layout.visible, device=device)[ids][:, ids]
