"""Who attends to whom, by segment: sequences are lists of named segments and a small segment x segment table, never a dense mask.

    tokens   | language | camera 0 | readout 0 | camera 1 | readout 1 |
    language |    x     |          |           |          |           |
    camera 0 |    x     |    x     |           |          |           |
    readout 0|    x     |    x     |     x     |          |           |
    camera 1 |    x     |    x     |           |    x     |           |
    readout 1|    x     |    x     |           |    x     |     x     |

This is blockwise-causal with readouts (Octo, arXiv 2405.12213, section III-A; FuSe is built on it): a block sees itself and what came
before, a readout sees what its block sees, nobody sees a readout. Whether single tokens are there at all (padding, a missing sensor) is
not the layout's business but `attend`'s argument `present`.

Axes: N query tokens, M key tokens, S and T their segments. Rows are queries, columns are keys.
"""

import enum
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_SEGMENTS: Final = 127  # a token carries its segment as int8; -1 is a token that is not there


class Visibility(enum.IntEnum):
    """How much of a segment a query sees."""

    NONE = 0
    ALL = 1
    CAUSAL = 2  # the keys up to the query's own place in the sequence of keys


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
    """Segments of queries and of keys in token order, and for each pair how much the row's tokens see of the column's.

    In self-attention both are the same. A query segment of a key's name is that key segment: `CAUSAL` needs to know its place.

    Raises:
        ValueError: names that repeat, a table that is not (S, T), more than 127 segments, or CAUSAL for queries that are no keys.
    """

    queries: tuple[Segment, ...]
    keys: tuple[Segment, ...]
    visible: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for segments in (self.queries, self.keys):
            names = [segment.name for segment in segments]
            if not names or len(set(names)) != len(names):
                raise ValueError(f"expected at least one segment and each name once, got {names}")
            if len(names) > MAX_SEGMENTS:
                raise ValueError(f"expected at most {MAX_SEGMENTS} segments, got {len(names)}; tokens that see the same belong in one")
        if len(self.visible) != len(self.queries) or any(len(row) != len(self.keys) for row in self.visible):
            shape = (len(self.visible), *{len(row) for row in self.visible})
            raise ValueError(f"expected a table of ({len(self.queries)}, {len(self.keys)}), a row a query segment, got {shape}")
        for segment, row in zip(self.queries, self.visible, strict=True):
            if Visibility.CAUSAL in row and segment not in self.keys:
                raise ValueError(f"expected {segment} among the keys, because it sees them causally, got {self.keys}")

    @property
    def num_queries(self) -> int:
        """N, the query tokens of all segments."""
        return sum(segment.length for segment in self.queries)

    @property
    def num_keys(self) -> int:
        """M, the key tokens of all segments."""
        return sum(segment.length for segment in self.keys)

    @property
    def is_full(self) -> bool:
        """Whether every query attends to every key, so that no mask is needed."""
        return all(cell == Visibility.ALL for row in self.visible for cell in row)

    @property
    def is_causal(self) -> bool:
        """Whether any pair of segments is seen causally, so that places matter and not segments alone."""
        return any(cell == Visibility.CAUSAL for row in self.visible for cell in row)

    def query_span(self, name: str) -> slice:
        """Where a segment's tokens are among the queries.

        Raises:
            KeyError: no query segment has this name.
        """
        return _span(self.queries, name)

    def key_span(self, name: str) -> slice:
        """Where a segment's tokens are among the keys.

        Raises:
            KeyError: no key segment has this name.
        """
        return _span(self.keys, name)

    def asking(self, *names: str) -> "TokenLayout":
        """The same table with these query segments only: new tokens over a cached prefix, or the readouts of a last layer.

        Raises:
            KeyError: no query segment has this name.
        """
        known = [segment.name for segment in self.queries]
        for name in names:
            _span(self.queries, name)
        rows = [known.index(name) for name in names]
        return TokenLayout(tuple(self.queries[i] for i in rows), self.keys, tuple(self.visible[i] for i in rows))

    def seeing(self, *names: str) -> "TokenLayout":
        """The same table with these key segments only: what a cache holds, or a part that is attended to apart.

        Raises:
            KeyError: no key segment has this name.
        """
        known = [segment.name for segment in self.keys]
        for name in names:
            _span(self.keys, name)
        columns = [known.index(name) for name in names]
        visible = tuple(tuple(row[i] for i in columns) for row in self.visible)
        return TokenLayout(self.queries, tuple(self.keys[i] for i in columns), visible)

    def query_segments(self) -> NDArray[np.int8]:
        """(N,) the index of each query's segment."""
        return _segment_of_tokens(self.queries)

    def key_segments(self) -> NDArray[np.int8]:
        """(M,) the index of each key's segment."""
        return _segment_of_tokens(self.keys)

    def query_places(self) -> NDArray[np.int32]:
        """(N,) each query's place in the sequence of keys; -1 if it is no key."""
        places = [
            np.arange(self.num_keys)[self.key_span(segment.name)] if segment in self.keys else np.full(segment.length, -1)
            for segment in self.queries
        ]
        return np.concatenate(places).astype(np.int32)

    def mask(self) -> NDArray[np.bool_]:
        """(N, M) True where the row attends to the column: the dense view, for back ends that need one and for tests."""
        cells = np.array(self.visible, dtype=np.int8)[self.query_segments()][:, self.key_segments()]
        causal = np.arange(self.num_keys)[None, :] <= self.query_places()[:, None]
        return (cells == Visibility.ALL) | ((cells == Visibility.CAUSAL) & causal)


def full(segments: Sequence[Segment]) -> TokenLayout:
    """Every token attends to every token."""
    return cross(segments, segments)


def cross(queries: Sequence[Segment], keys: Sequence[Segment]) -> TokenLayout:
    """Every query attends to every key: cross-attention."""
    return TokenLayout(tuple(queries), tuple(keys), tuple((Visibility.ALL,) * len(keys) for _ in queries))


def causal(segments: Sequence[Segment]) -> TokenLayout:
    """Every token attends to itself and to what came before: a language model's decoder."""
    return TokenLayout(tuple(segments), tuple(segments), tuple((Visibility.CAUSAL,) * len(segments) for _ in segments))


def prefix_lm(prefix: Sequence[Segment], suffix: Sequence[Segment]) -> TokenLayout:
    """The prefix sees all of itself, the suffix the prefix and causally itself (PaliGemma, arXiv 2407.07726, section 3.2).

    pi0's variant, whose suffix segments see all of themselves, is `blockwise_causal([prefix, [state], [actions]])`.
    """
    rows = [(Visibility.ALL,) * len(prefix) + (Visibility.NONE,) * len(suffix)] * len(prefix)
    rows += [(Visibility.ALL,) * len(prefix) + (Visibility.CAUSAL,) * len(suffix)] * len(suffix)
    segments = (*prefix, *suffix)
    return TokenLayout(segments, segments, tuple(rows))


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
        tuple(Visibility(key == query or (not key_reads and key_block <= query_block)) for key, key_block, key_reads in placed)
        for query, query_block, _ in placed
    )
    segments = tuple(segment for segment, _, _ in placed)
    return TokenLayout(segments, segments, visible)


def with_prompt(layout: TokenLayout, prompt: Segment) -> TokenLayout:
    """A layer's deep prompt before its keys: keys and values that every query sees and that ask nothing themselves (VPT-deep,
    arXiv 2203.12119; prefix tuning, arXiv 2101.00190). `kernels/prompt.py` attends to prompts that the batch shares."""
    return TokenLayout(layout.queries, (prompt, *layout.keys), tuple((Visibility.ALL, *row) for row in layout.visible))


def layout_of_mask(mask: NDArray[np.bool_]) -> TokenLayout:
    """The layout whose `mask()` is this (N, M) mask: neighbours that see and are seen alike are one segment.

    Raises:
        ValueError: more than 127 runs of queries or of keys: this mask is no small table.
    """
    rows, columns = _runs(mask), _runs(mask.T)
    table = mask[[start for start, _ in rows]][:, [start for start, _ in columns]]
    queries = tuple(Segment(f"queries {start}", length) for start, length in rows)
    keys = tuple(Segment(f"keys {start}", length) for start, length in columns)
    return TokenLayout(queries, keys, tuple(tuple(Visibility(bool(cell)) for cell in row) for row in table))


def dense_mask(layout: TokenLayout, device: torch.device) -> Tensor:
    """`layout.mask()` as a tensor. Kept, so do not write to it."""
    if torch.compiler.is_dynamo_compiling():  # embeds the result in its graph; it could not trace NumPy
        return _constant_mask(plain(layout), device)
    if torch.compiler.is_compiling():  # what an export sees is no real tensor, and must not enter the cache
        return torch.from_numpy(layout.mask()).to(device)
    return _kept_mask(layout, device)


def plain(layout: TokenLayout) -> tuple[Any, ...]:
    """The layout as nested tuples: torch.compile hands no other objects to a function whose result it takes for a constant."""
    queries, keys = (tuple((segment.name, segment.length) for segment in segments) for segments in (layout.queries, layout.keys))
    return queries, keys, layout.visible


def from_plain(nested: tuple[Any, ...]) -> TokenLayout:
    """The inverse of `plain`."""
    queries, keys, visible = nested
    return TokenLayout(tuple(Segment(*segment) for segment in queries), tuple(Segment(*segment) for segment in keys), visible)


@torch.compiler.assume_constant_result
def _constant_mask(nested: tuple[Any, ...], device: torch.device) -> Tensor:
    return _kept_mask(from_plain(nested), device)


@functools.lru_cache(maxsize=64)
def _kept_mask(layout: TokenLayout, device: torch.device) -> Tensor:
    # An inference tensor must not enter the cache: the next training step could not save it for its backward pass.
    with torch.inference_mode(False):
        return torch.from_numpy(layout.mask()).to(device)


def _span(segments: Iterable[Segment], name: str) -> slice:
    segments = tuple(segments)
    ends = list(accumulate(segment.length for segment in segments))
    for segment, end in zip(segments, ends, strict=True):
        if segment.name == name:
            return slice(end - segment.length, end)
    raise KeyError(f"expected one of {[segment.name for segment in segments]}, got {name!r}")


def _segment_of_tokens(segments: Sequence[Segment]) -> NDArray[np.int8]:
    return np.repeat(np.arange(len(segments), dtype=np.int8), [segment.length for segment in segments])


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and length of each run of equal rows."""
    starts = [0, *(np.flatnonzero((mask[1:] != mask[:-1]).any(axis=1)) + 1).tolist()]
    return [(start, end - start) for start, end in zip(starts, [*starts[1:], len(mask)], strict=True)]
