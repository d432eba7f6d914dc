"""`handsight bench envs [--quick]`: what a control step of the simulation costs, part by part, and how many steps a second come out.

    handsight bench envs                      # next to Meta-World and Gymnasium-Robotics, each in an environment of its own
    handsight bench envs --peers=             # ours alone

CPU time of one process for the parts, wall time for one and two workers and for their start. The scripted expert acts, so that there is
contact. The peers (launch/peers.py) are measured in the same turns, with as many pictures a step. Writes launch/results/envs.json and
prints the table in Markdown. Exits with 1 if a step with two pictures of 128 px costs too much or two workers make too few of them.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

from handsight.envs.env import HandsightEnv, make
from handsight.envs.observe import Camera
from handsight.envs.pool import EnvPool
from handsight.envs.sound import ContactSound
from handsight.envs.touch import TaxelSensor
from handsight.launch import peers
from handsight.launch.arguments import parse
from handsight.launch.episodes import write_json
from handsight.launch.peers import Crew, PeerError
from handsight.launch.rollout import versions
from handsight.launch.step_costs import OURS, WORKERS, Cell, Measurements, Sample
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import CONTROL_HZ

RESULT: Final = Path("launch/results/envs.json")
BUDGET_MS: Final = 8.0  # CPU time of a step with two pictures of 128 px
LEAST_SPEED: Final = 250.0  # steps a second of two workers with two pictures of 128 px, on two idle cores
JUDGED: Final = 128  # px
SIZES: Final = (84, 128, 224)
PARTS: Final = ("physics", "render", "touch", "audio", "IK", "rest", "total")


@dataclass(frozen=True)
class EnvsArguments:
    """Arguments of `handsight bench envs`."""

    task: str = "sense/tabletop_grasp"
    """The task that is simulated."""
    episodes: int = 5
    """Expert episodes of each cell in each turn, by worker."""
    turns: int = 5
    """How often everything is measured, in turn."""
    peers: str = ",".join(peers.PEERS)
    """Simulators to measure next to ours."""
    peer_seconds: float = 2.0
    """How long a peer plays in each of its cells in each turn."""
    folder: Path = Path("outputs/bench/peers")
    """Where the peers' environments are kept."""
    quick: bool = False
    """One short turn, no result file."""

    def __post_init__(self) -> None:
        if self.turns < 1 or self.episodes < 1:
            raise HandsightError(f"expected --turns and --episodes of at least 1, got {self.turns} and {self.episodes}")


def main(argv: list[str]) -> int:
    """Measures, prints, writes; 1 if a step with two pictures of 128 px exceeds its budget."""
    arguments = parse(EnvsArguments, argv, "handsight bench envs", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, episodes=2, turns=1, peer_seconds=1.0)
    measurements, load = Measurements(), os.getloadavg()[0]
    simulators, missing = measure(arguments, measurements)
    rows = measurements.rows()
    result = {
        "command": " ".join(["handsight bench envs", *argv]),
        "args": asdict(arguments) | {"folder": str(arguments.folder)},
        "rows": rows,
        "simulators": simulators,
        "missing": missing,
        "start_of_two_workers_s": start_of_workers(arguments, 2),
        "machine": {"cores": os.cpu_count(), "load_before": load},
        "budget": {"cpu_ms": BUDGET_MS, "steps_per_second": LEAST_SPEED, "size": JUDGED},
        "versions": versions(),
    }
    print(table(result))
    if not arguments.quick:
        write_json(RESULT, result)
    excess = over_budget(rows)
    for line in excess:
        print(line)
    return 1 if excess else 0


def over_budget(rows: list[dict[str, Any]]) -> list[str]:
    """What is wrong with our row of 128 px, a line each."""
    [row] = [row for row in rows if (row["simulator"], row["size"]) == (OURS, JUDGED)]
    cost, speed, lines = row["cpu_ms"]["total"], row["steps_per_second"]["2"], []
    if cost > BUDGET_MS:
        lines.append(f"expected at most {BUDGET_MS:g} CPU ms a step with two pictures of {JUDGED} px, got {cost:.2f}")
    if speed < LEAST_SPEED:
        lines.append(
            f"expected at least {LEAST_SPEED:g} steps a second of two workers at {JUDGED} px, got {speed:.0f}; is the machine idle?"
        )
    return lines


def measure(arguments: EnvsArguments, measurements: Measurements) -> tuple[dict[str, Any], dict[str, str]]:
    """Fills in every turn; returns what each simulator does in a step, and why a peer is missing."""
    wanted, missing = peers.chosen(arguments.peers), {}
    with ExitStack() as stack:
        crews: list[Crew] = []
        for peer in wanted:
            try:
                crews.append(stack.enter_context(peers.crew_of(peer, arguments.folder)))
            except PeerError as error:
                missing[peer.name] = _without(peer.name, error)
        for turn, size in product(range(arguments.turns), SIZES):
            measurements.add(Cell(OURS, "same", size), ours(arguments, size, turn))
            for crew in list(crews):
                try:
                    measure_peer(crew, arguments, size, measurements)
                except PeerError as error:
                    missing[crew.peer.name] = _without(crew.peer.name, error)
                    measurements.drop(crew.peer.name)
                    crews.remove(crew)
    return {OURS: describe(arguments)} | {crew.peer.name: crew.description for crew in crews}, missing


def _without(name: str, error: PeerError) -> str:
    print(f"without {name}: {error}", flush=True)
    return str(error)


def measure_peer(crew: Crew, arguments: EnvsArguments, size: int, measurements: Measurements) -> None:
    """One peer's cells of one size, in one turn."""
    for pictures in peers.PICTURES:
        measurements.add(Cell(crew.peer.name, pictures, size), crew.measure(size, pictures, arguments.peer_seconds))


def ours(arguments: EnvsArguments, size: int, turn: int) -> Sample:
    """Our cell of one turn; each turn has episodes of its own."""
    first = 1 + turn * arguments.episodes * max(WORKERS)
    cost = cost_of_a_step(arguments, size, first)
    return Sample(cost, {workers: steps_per_second(arguments, size, workers, first) for workers in WORKERS})


def describe(arguments: EnvsArguments) -> dict[str, Any]:
    """What a step of ours is, in the words of launch/peer_steps.py."""
    env = make(arguments.task)
    model = env.world.model
    step = {"control_hz": CONTROL_HZ, "substeps": env.world.substeps, "timestep_ms": float(model.opt.timestep) * 1e3}
    size = {"degrees_of_freedom": int(model.nv), "geoms": int(model.ngeom)}
    env.close()
    return {"task": arguments.task, "package": OURS, "acts": "its scripted expert", "senses": "touch and sound"} | step | size


def play(env: HandsightEnv, seed: int) -> int:
    """One undisturbed episode of the scripted expert; its steps."""
    observation, _ = env.reset(seed=seed)
    expert, steps, done = env.make_expert(), 0, False
    while not done:
        observation, _, terminated, truncated, _ = env.step(expert.act(observation))
        steps, done = steps + 1, terminated or truncated
    return steps


def cost_of_a_step(arguments: EnvsArguments, size: int, first: int) -> dict[str, float]:
    """CPU time [ms] of a control step and of its parts; the rest is everything else, the expert included."""
    env = make(arguments.task, image_size=size)
    play(env, 0)  # compiles shaders, fills caches
    steps, spent = 0, 0.0
    with timed(env) as cost:
        for seed in range(first, first + arguments.episodes):
            start = time.process_time()
            steps += play(env, seed)
            spent += time.process_time() - start
    env.close()
    parts = cost | {"rest": spent - sum(cost.values()), "total": spent}
    return {name: parts.get(name, 0.0) / steps * 1e3 for name in PARTS}


@contextmanager
def timed(env: HandsightEnv) -> Iterator[dict[str, float]]:
    """Adds up the CPU time [s] of each part of a step while it is open."""
    cost: dict[str, float] = defaultdict(float)
    measured: tuple[tuple[Any, str, str], ...] = (
        (env.world, "simulate", "physics"),
        (env.arm, "command", "IK"),
        (Camera, "picture", "render"),
        (TaxelSensor, "read", "touch"),
        (ContactSound, "step", "audio"),
    )
    original = [(owner, method, vars(owner).get(method)) for owner, method, _ in measured]
    for owner, method, part in measured:
        setattr(owner, method, _timing(getattr(owner, method), part, cost))
    try:
        yield cost
    finally:
        for owner, method, function in original:
            if function is None:  # it was the class's, seen through the instance
                delattr(owner, method)
            else:
                setattr(owner, method, function)


def _timing(function: Callable[..., Any], part: str, cost: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            cost[part] += time.process_time() - start

    return call


def steps_per_second(arguments: EnvsArguments, size: int, workers: int, first: int) -> float:
    """Steps a second of wall time with the scripted expert, resets included."""
    with EnvPool(arguments.task, slots=workers, workers=workers, image_size=size) as pool:
        seeds = iter(range(first, first + arguments.episodes * workers))
        start, steps, playing = time.perf_counter(), 0, workers
        for slot in range(workers):
            pool.reset(slot, next(seeds), expert=True)
        while playing:
            for transition in pool.receive():
                if transition.expert_action is not None:
                    pool.step(transition.slot, transition.expert_action)
                    steps += 1
                elif (seed := next(seeds, None)) is not None:
                    pool.reset(transition.slot, seed, expert=True)
                else:
                    playing -= 1
        return steps / (time.perf_counter() - start)


def start_of_workers(arguments: EnvsArguments, workers: int) -> float:
    """Wall time [s] until every worker has built its environment and delivered its first observation."""
    start = time.perf_counter()
    with EnvPool(arguments.task, slots=workers, workers=workers) as pool:
        for slot in range(workers):
            pool.reset(slot, slot)
        arrived = 0
        while arrived < workers:
            arrived += len(pool.receive())
        return time.perf_counter() - start


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    heads = ["pictures", "simulator", *PARTS, "1 worker", "2 workers", "CPU, times ours", "speed, times ours"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in result["rows"]]
    lines += [
        "",
        "Parts and total: CPU ms a step; a peer's rest holds its resets and what acts. Workers: steps a second; speed: with two workers.",
        "Own pictures: as the peer draws them by default. Same pictures: without shadows and multisampling, as handsight.",
        "",
    ]
    lines += [f"- {_described(simulator)}" for simulator in result["simulators"].values()]
    machine = f"{result['machine']['cores']} cores, on which {result['machine']['load_before']:.1f} processes ran before"
    return "\n".join([*lines, "", f"Two workers of handsight are up in {result['start_of_two_workers_s']:.1f} s. Measured on {machine}."])


def _cells(row: dict[str, Any]) -> list[str]:
    mine = row["simulator"] == OURS
    name = OURS if mine else f"{row['simulator']}, {row['pictures']} pictures"
    parts = [f"{row['cpu_ms'][part]:.2f}" if part in row["cpu_ms"] else "" for part in PARTS]
    speeds = [f"{row['steps_per_second'][str(workers)]:.0f}" for workers in WORKERS]
    ratios = ["", ""] if mine else [f"{row['cpu_times_ours']:.1f}", f"{row['steps_per_second_times_ours']['2']:.2g}"]
    return [f"2 x {row['size']} px", name, *parts, *speeds, *ratios]


def _described(simulator: dict[str, Any]) -> str:
    versions = simulator.get("versions")
    package = simulator["package"] + (f" with MuJoCo {versions['mujoco']}" if versions else "")
    step = f"{simulator['substeps']} x {simulator['timestep_ms']:g} ms at {simulator['control_hz']:g} Hz"
    size = f"{simulator['degrees_of_freedom']} degrees of freedom, {simulator['geoms']} geoms"
    return f"{package}: {simulator['task']} by {simulator['acts']}; a step is {step}; {size}; {simulator['senses']}"
