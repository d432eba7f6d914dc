"""Episodes of the scripted expert, as demonstrations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handsight.envs.affordance import Affordance, waypoints
from handsight.envs.env import HandsightEnv
from handsight.envs.expert import Expert
from handsight.envs.pinhole import Pinhole
from handsight.sensors.types import STATE, Observation


@dataclass(frozen=True)
class Episode:
    """One demonstration of T steps; arrays are stacked over time."""

    seed: int
    instruction: str
    success: bool
    observations: dict[str, NDArray[np.generic]]
    """key -> (T, ...), what was seen before each action."""
    actions: NDArray[np.float32]
    """(T, 7), what the expert wanted, without the injected noise."""
    phases: NDArray[np.int64]
    """(T,) index into phase_names."""
    phase_names: tuple[str, ...]
    grounding: NDArray[np.int16]
    """(T, 10), before each action the label of what was last touched or heard (sensors/referent.py)."""
    commands: tuple[tuple[int, str], ...] = ()
    """What the expert's own words replaced the instruction with, each with the first step at which it did."""
    affordance: Affordance | None = None
    """Contact points and trajectory, of activities that make contact somewhere (`Expert.touches`)."""


@dataclass(frozen=True)
class Disturbance:
    """Noise injected into the executed action while the label stays the expert's, so that recoveries are demonstrated.

    Source: Laskey et al., "DART: noise injection for robust imitation learning" (CoRL 2017).
    """

    share: float = 0.75
    """Share of episodes that are disturbed."""
    sigma: float = 0.4
    """Standard deviation on dx, dy, dz and dyaw [action units]."""
    kick: float = 0.06
    """Chance that a kick begins at a step."""
    kick_steps: tuple[int, int] = (3, 6)
    """Shortest and longest kick [steps]."""
    slip: float = 0.01
    """Chance that the gripper begins to do the opposite at a step: it closes too early or drops what it holds, and the expert mends it."""
    slip_steps: tuple[int, int] = (3, 10)
    """Shortest and longest slip [steps]."""


MOVES = np.array([0, 1, 2, 5])  # action components that noise and kicks disturb
GRIPPER = 6


class _Noise:
    def __init__(self, disturbance: Disturbance, rng: np.random.Generator) -> None:
        self._disturbance, self._rng = disturbance, rng
        self._active = rng.random() < disturbance.share
        self._left = 0
        self._slip_left = 0
        self._kick: NDArray[np.float64] = np.zeros(len(MOVES))

    def apply(self, action: NDArray[np.float32], expert: Expert) -> NDArray[np.float32]:
        if not self._active or expert.phase in expert.fragile:
            self._left = self._slip_left = 0
            return action
        if self._left == 0 and self._rng.random() < self._disturbance.kick:
            low, high = self._disturbance.kick_steps
            self._left = int(self._rng.integers(low, high + 1))
            self._kick = self._rng.uniform(-1, 1, len(MOVES))
        noise = self._rng.normal(0, self._disturbance.sigma, len(MOVES))
        if self._left > 0:
            noise, self._left = noise + self._kick, self._left - 1
        noisy = action.copy()
        noisy[MOVES] += noise
        self._slip_left = 0 if expert.phase in expert.firm else self._slip_left
        if self._slip_left == 0 and expert.phase not in expert.firm and self._rng.random() < self._disturbance.slip:
            low, high = self._disturbance.slip_steps
            self._slip_left = int(self._rng.integers(low, high + 1))
        if self._slip_left > 0:
            noisy[GRIPPER], self._slip_left = -noisy[GRIPPER], self._slip_left - 1
        return np.clip(noisy, -1.0, 1.0)


def expert_episode(env: HandsightEnv, seed: int, *, noise: bool, disturbance: Disturbance | None = None) -> Episode:
    """Runs the scripted expert from `seed`; with `noise` most episodes are disturbed."""
    observation, info = env.reset(seed=seed)
    expert, camera = env.make_expert(), Pinhole.of(env.world, "front", env.image_size)
    rng = np.random.default_rng((seed, 1))
    disturb = _Noise(disturbance or Disturbance(), rng) if noise else None
    observations: list[Observation] = []
    instruction = env.task_description
    commands: list[tuple[int, str]] = []
    actions: list[NDArray[np.float32]] = []
    phases, labels = [], []
    done = False
    while not done:
        action = expert.act(observation)
        if expert.words and expert.words != env.task_description:
            env.instruct(expert.words)
            commands.append((len(actions), expert.words))
        observations.append(observation)
        actions.append(action)
        phases.append(expert.phases.index(expert.phase))
        labels.append(info["privileged"]["grounding"])
        observation, _, terminated, truncated, info = env.step(disturb.apply(action, expert) if disturb else action)
        done = terminated or truncated
    seen = {key: np.stack([step[key] for step in observations]) for key in observations[0]}
    return Episode(
        seed=seed,
        instruction=instruction,
        commands=tuple(commands),
        success=bool(info["is_success"]),
        observations=seen,
        actions=np.stack(actions),
        phases=np.array(phases, np.int64),
        phase_names=expert.phases,
        grounding=np.stack(labels),
        affordance=_affordance(expert, camera, seen, np.stack(actions)),
    )


def _affordance(
    expert: Expert, camera: Pinhole, observations: dict[str, NDArray[np.generic]], actions: NDArray[np.float32]
) -> Affordance | None:
    if not expert.touches or STATE not in observations:
        return None
    points = np.stack(expert.touches)
    return Affordance(points, camera.project(points), waypoints(observations[STATE].astype(np.float32), actions))
