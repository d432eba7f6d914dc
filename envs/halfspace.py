"""Contact pressure between a grid of taxels and a rigid surface: the pad is an elastic half-space, without friction.

A pressure on one rectangle of a half-space pushes in the whole surface around it (A. E. H. Love, Phil. Trans. R. Soc. A 228, 1929; K. L.
Johnson, Contact Mechanics, 1985, section 3.6), so the displacements at the taxel centres are u = S p / E*, with one matrix S [mm] per pad.
With the gap g [mm] to the surface and the approach delta [mm], p and delta follow from

    w = S p / E* + g - delta,    p >= 0,    w >= 0,    p_i w_i = 0,    sum(p) A = F.

A sphere then feels like Hertz's, an edge presses hardest (Boussinesq's punch), and a texture finer than the contact shows.

The inverse of S has no positive entry off its diagonal and positive row sums (tested for taxels of several shapes). With such a matrix,
letting go of the taxels that pull makes the others press less at the same delta, but carry more in all than F: delta goes down, and those
let go stay out of contact. So "start with every taxel, let go of those that pull, repeat" ends in the solution: the slow path here. The
fast path starts with a guess and moves taxels both ways (the primal-dual active set of Hintermueller, Ito and Kunisch, SIAM J. Optim. 13,
2002). Both solve their last linear system directly, so neither start nor path shows in the result.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

KPA_MM2: Final = 1.0e3  # 1 N = 1000 kPa mm^2
MAX_MOVES: Final = 10  # of the fast path, which needs 2 to 5
OVERLAP: Final = 1.0e-9  # of the approach: a smaller overlap is rounding
SMALL: Final = 0.55  # share of taxels in contact below which their own system is smaller than that of the others with the inverse


def compliance(rows: int, columns: int, height: float, width: float) -> Floats:
    """S (N, N) [mm], N = rows x columns row by row: E* times the displacement at taxel i per pressure on taxel j.

    height, width: of a taxel [mm]. Love's solution at (x, y) from the centre of a rectangle, summed over its four corners (u, v):
    S = sum +-(u asinh(v / |u|) + v asinh(u / |v|)) / pi.
    """
    x, y = np.meshgrid(np.arange(columns) * width, np.arange(rows) * height)
    influence = np.zeros((rows, columns))
    for right in (1.0, -1.0):
        for up in (1.0, -1.0):
            u, v = x + right * width / 2, y + up * height / 2
            influence += right * up * (u * np.arcsinh(v / np.abs(u)) + v * np.arcsinh(u / np.abs(v)))
    row, column = np.divmod(np.arange(rows * columns), columns)
    matrix: Floats = influence[np.abs(row[:, None] - row), np.abs(column[:, None] - column)] / np.pi
    return matrix


class HalfSpace:
    """One pad's surface.

    Args:
        rows: of taxels.
        columns: of taxels.
        height: of a taxel [mm].
        width: of a taxel [mm].
    """

    def __init__(self, rows: int, columns: int, height: float, width: float) -> None:
        self.area = height * width
        """Of one taxel [mm^2]."""
        self.compliance = compliance(rows, columns, height, width)
        self._stiffness = np.linalg.inv(self.compliance)
        self._punch = self._stiffness.sum(axis=1)  # under a flat punch that covers the pad

    def press(self, gap: Floats, force: float, modulus: float, *, fast: bool = True) -> Floats:
        """Pressures (N,) [kPa] that carry `force` [N] over gaps (N,) [mm]; contact modulus E* [kPa]. `fast` does not change the result."""
        load = force * KPA_MM2 / self.area
        shape = (gap - gap.min()) * modulus  # E* g
        if fast:
            pressure = self._from_guess(shape, load)
            if pressure is not None:
                return pressure
        return self._from_all(shape, load)

    def _from_guess(self, shape: Floats, load: float) -> Floats | None:
        """The fast path; None if taxels still move after MAX_MOVES."""
        touching = self._guess(shape, load)
        for _ in range(MAX_MOVES):
            pressure, approach = self._carry(touching, shape, load)
            opening = self.compliance @ pressure + shape - approach
            moved = np.where(touching, pressure > 0.0, opening < -OVERLAP * abs(approach))
            if np.array_equal(moved, touching):
                return pressure
            touching = moved
        return None

    def _from_all(self, shape: Floats, load: float) -> Floats:
        """The slow path. A taxel further away than the approach of the lowest taxel, were it alone, cannot touch."""
        touching = shape <= self.compliance[0, 0] * load
        while True:
            pressure, _ = self._carry(touching, shape, load)
            if not (pressure < 0.0).any():
                return pressure
            touching &= pressure > 0.0

    def _guess(self, shape: Floats, load: float) -> Flags:
        """Where independent springs touch whose stiffness makes the contact circle under a sphere Hertz's.

        Springs k under a sphere of radius R touch within a^4 = 4 F R / (pi k), Hertz has a^3 = 3 F R / (4 E*): k = 16 E* / (3 pi a).
        With gaps in ascending order, spring m touches exactly if the load exceeds k (m g_m - (g_1 + ... + g_m)).
        """
        ascending = np.sort(shape)
        needed = np.arange(1, len(shape) + 1) * ascending - np.cumsum(ascending)
        count = len(shape)
        for _ in range(3):
            radius = np.sqrt(count * self.area / np.pi)
            count = max(int(np.count_nonzero(needed < load * radius * (3.0 * np.pi / 16.0))), 1)
        touching: Flags = shape <= ascending[count - 1]
        return touching

    def _carry(self, touching: Flags, shape: Floats, load: float) -> tuple[Floats, float]:
        """Pressure (N,) and E* times the approach if exactly these taxels touch, pull as they may."""
        punch, sunk = self._respond(touching, shape)
        approach = (load + sunk.sum()) / punch.sum()
        pressure: Floats = approach * punch - sunk
        return pressure, float(approach)

    def _respond(self, touching: Flags, shape: Floats) -> tuple[Floats, Floats]:
        """Pressures (N,) on the touching taxels that displace them by 1 and by `shape`; the others carry none."""
        inside, outside = np.flatnonzero(touching), np.flatnonzero(~touching)
        response = np.zeros((2, len(shape)))
        if len(inside) <= SMALL * len(shape):
            right = np.stack([np.ones(len(inside)), shape[inside]], axis=1)
            response[:, inside] = np.linalg.solve(self.compliance[inside[:, None], inside], right).T
            return response[0], response[1]
        response[:] = self._punch, self._stiffness @ shape
        if len(outside):  # lift the others until they carry nothing
            rows = self._stiffness[outside]
            lift = np.linalg.solve(rows[:, outside], response[:, outside].T)
            response -= lift.T @ rows
            response[:, outside] = 0.0
        return response[0], response[1]
