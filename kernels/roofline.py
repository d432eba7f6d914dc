"""What an attention call costs at least, by counting: an arithmetic bound, not a measurement.

Forward multiplies twice (q k^T, p v), each 2 D operations a pair of query and key. Backward multiplies seven times, because the program for
dK and dV and the one for dQ each compute the scores anew (kernels/triton_backward.py). Memory: every tensor once, which is the least.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width.
"""

from dataclasses import dataclass
from typing import Final, Literal

from handsight.kernels.compile_targets import Target
from handsight.kernels.workloads import TileShares, Workload

PRODUCTS: Final = {"forward": 2, "backward": 7}
BYTES_PER_VALUE: Final = 2  # bfloat16, float16
BYTES_PER_SUM: Final = 4  # float32


@dataclass(frozen=True)
class Bound:
    """Operations, memory traffic and what follows for one device."""

    flops: float
    """Of the tiles that are visited."""
    dense_flops: float
    """Of all pairs, as a dense mask computes them."""
    bytes_moved: float
    compute_s: float
    """[s] operations at the device's peak."""
    memory_s: float
    """[s] traffic at the device's bandwidth."""

    @property
    def seconds(self) -> float:
        """[s] no less than this."""
        return max(self.compute_s, self.memory_s)

    @property
    def intensity(self) -> float:
        """[1/byte] operations a byte."""
        return self.flops / self.bytes_moved


def bound(workload: Workload, tiles: TileShares, target: Target, direction: Literal["forward", "backward"]) -> Bound:
    """The bound of one call, of whose tiles these shares are visited."""
    layout = workload.layout
    pairs = layout.num_queries * layout.num_keys
    visited = pairs * (1 - tiles.skipped)
    per_pair = PRODUCTS[direction] * 2 * workload.width * workload.batch * workload.heads
    moved = _traffic(workload, direction)
    return Bound(per_pair * visited, per_pair * pairs, moved, per_pair * visited / target.flops, moved / target.bandwidth)


def _traffic(workload: Workload, direction: str) -> float:
    """[bytes] forward reads q, k, v and writes o and lse; backward reads those and o's gradient, and writes three gradients."""
    queries = workload.batch * workload.heads * workload.layout.num_queries
    keys = workload.batch * workload.groups * workload.layout.num_keys
    wide = {"forward": (2, 2), "backward": (4, 4)}[direction]  # tensors as q is, tensors as k is
    return BYTES_PER_VALUE * workload.width * (wide[0] * queries + wide[1] * keys) + BYTES_PER_SUM * queries
