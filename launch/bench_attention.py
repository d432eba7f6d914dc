"""`handsight bench attention [--quick]`: attention on a CPU as LeRobot, transformers, PyTorch and handsight compute it, in one run.

    handsight bench attention

Process CPU time on one thread, contestants in turns within a round, at the shapes of published policies; forward, and forward with
backward where it exists. Ratios are taken within a round: the median over rounds, with the bootstrap interval of that median. Every output
is compared with float64. Writes launch/results/attention.json and prints the table in Markdown. FlexAttention needs a C++ compiler, and
compiles for up to a minute a case.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from handsight.launch.arguments import parse
from handsight.launch.attention_peers import FLEX, LEROBOT, OURS, Case, cases, contestants, exact
from handsight.launch.episodes import write_json
from handsight.sensors.errors import HandsightError

RESULT: Final = Path("launch/results/attention.json")
DIRECTIONS: Final = ("forward", "forward and backward")
CLOSE: Final = 1e-4
"""How far from float64 an output of unit normal numbers may be."""


@dataclass(frozen=True)
class AttentionArguments:
    """Arguments of `handsight bench attention`."""

    rounds: int = 21
    """Samples of each contestant, in turns."""
    sample_ms: float = 20.0
    """CPU time of one sample [ms], about: as many calls as fit, at least one."""
    only: str = ""
    """Part of the names of the cases that are measured; all of them without it."""
    flex: bool = True
    """Measure FlexAttention too."""
    out: str = ""
    """The JSON file with the result; launch/results/attention.json, or none after --quick."""
    quick: bool = False
    """3 rounds of two cases."""


def main(argv: list[str]) -> int:
    """Measures, writes and prints; 1 if an output is far from float64."""
    arguments = parse(AttentionArguments, argv, "handsight bench attention", __doc__ or "")
    chosen = [case for case in cases() if arguments.only in case.name]
    if not chosen:
        raise HandsightError(f"expected --only=... to be part of one of {[case.name for case in cases()]}, got {arguments.only!r}")
    if arguments.quick:
        arguments, chosen = replace(arguments, rounds=3, sample_ms=1.0), chosen[:1] + chosen[2:3]
    if arguments.flex and shutil.which(os.environ.get("CXX", "g++")) is None:
        print("without FlexAttention: expected a C++ compiler (g++, or the variable CXX), got none")
        arguments = replace(arguments, flex=False)
    torch.set_num_threads(1)
    rows = [row for case in tqdm(chosen, unit="case") for row in measure(case, arguments)]
    result = {
        "command": " ".join(["handsight bench attention", *argv]),
        "what": "CPU time of the process on one thread [ms], float32; ratio is LeRobot's time divided by this one's, within rounds",
        "versions": {name: version(name) for name in ("lerobot_policy_handsight", "torch", "lerobot", "transformers")},
        "args": asdict(arguments),
        "rows": rows,
        "load_average": os.getloadavg()[0],
    }
    print(table(result))
    if arguments.out or not arguments.quick:
        out = Path(arguments.out or RESULT)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)
    return 1 if any(row["max_difference"] > CLOSE for row in rows) else 0


def measure(case: Case, arguments: AttentionArguments) -> Iterator[dict[str, Any]]:
    """One row a contestant and direction."""
    torch.compiler.reset()  # PyTorch compiles a function for a few shapes only
    q, k, v = case.inputs(torch.Generator().manual_seed(0))
    entered = {name: run for name, run in contestants(case).items() if arguments.flex or name != FLEX}
    with torch.no_grad():
        expected = exact(case, q, k, v)
        differences = {name: float((run(q, k, v) - expected).abs().max()) for name, run in entered.items()}  # compiles FlexAttention
    sizes = {"queries": case.layout.num_queries, "keys": case.layout.num_keys, "heads": [case.heads, case.groups], "width": case.width}
    for direction in DIRECTIONS:
        calls = {name: _call(run, direction, q, k, v) for name, run in entered.items() if direction == DIRECTIONS[0] or name != FLEX}
        samples = in_turns(calls, arguments.rounds, arguments.sample_ms)
        for name, times in samples.items():
            row: dict[str, Any] = {"case": case.name, "batch": case.batch, **sizes, "direction": direction, "contestant": name}
            row |= {"cpu_ms": {"median": float(np.median(times)), "min": float(times.min())}}
            yield row | {"ratio": interval(samples[LEROBOT] / times), "max_difference": differences[name]}


def _call(run: Callable[..., Tensor], direction: str, q: Tensor, k: Tensor, v: Tensor) -> Callable[[], object]:
    if direction == DIRECTIONS[0]:
        return torch.no_grad()(lambda: run(q, k, v))
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    weight = torch.ones(q.shape[0], q.shape[1], q.shape[2] * q.shape[3])
    return lambda: torch.autograd.grad(run(*leaves), leaves, weight)


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int, sample_ms: float) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """(rounds,) CPU time of a call [ms] of each; who begins changes from round to round."""
    repeats = {name: max(1, math.floor(sample_ms / min(_cpu_ms(call, 1) for _ in range(2)))) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        for i in range(len(names)):
            name = names[(turn + i) % len(names)]
            samples[name].append(_cpu_ms(calls[name], repeats[name]))
    return {name: np.array(times) for name, times in samples.items()}


def _cpu_ms(call: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return max(1e3 * (time.process_time() - start) / repeats, 1e-3)  # no less than what the clock can tell


def interval(ratios: np.ndarray[Any, np.dtype[np.float64]], draws: int = 2000) -> dict[str, float]:
    """The median over rounds and its 95% percentile bootstrap interval (Efron 1979)."""
    drawn = np.random.default_rng(0).choice(ratios, (draws, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def table(result: dict[str, Any]) -> str:
    """The rows in Markdown; the least median of a case is bold."""
    rows = result["rows"]
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        key = (row["case"], row["direction"])
        best[key] = min(best.get(key, math.inf), row["cpu_ms"]["median"])
    heads = ("case", "direction", "", "CPU ms, median", "least", f"times as fast as {LEROBOT}", "from float64")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        time_ms, ratio = row["cpu_ms"], row["ratio"]
        median = f"{time_ms['median']:.3g}"
        median = f"**{median}**" if time_ms["median"] == best[row["case"], row["direction"]] else median
        times = "1" if row["contestant"] == LEROBOT else f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        words = (row["case"], row["direction"], row["contestant"], median, f"{time_ms['min']:.3g}", times, f"{row['max_difference']:.0e}")
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join([*lines, "", *behind(rows)])


def summary(result: dict[str, Any]) -> str:
    """A row a case in Markdown: everybody's median, and how many times as fast as LeRobot's attention ours is."""
    rows = {(row["case"], row["direction"], row["contestant"]): row for row in result["rows"]}
    names = list(dict.fromkeys(contestant for _, _, contestant in rows))
    lines = [f"| case | direction | {' | '.join(names)} | {LEROBOT} / {OURS} |", "|---" * (len(names) + 3) + "|"]
    for case, direction in dict.fromkeys((case, direction) for case, direction, _ in rows):
        found = [rows.get((case, direction, name)) for name in names]
        times = " | ".join(f"{row['cpu_ms']['median']:.3g}" if row else "" for row in found)
        ratio = rows[case, direction, OURS]["ratio"]
        lines.append(f"| {case} | {direction} | {times} | {ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}] |")
    return "\n".join(lines)


def behind(rows: list[dict[str, Any]]) -> list[str]:
    """Where somebody else is faster than we are, a line each: nothing to hide."""
    lines = []
    for ours in (row for row in rows if row["contestant"] == OURS):
        others = [row for row in rows if (row["case"], row["direction"]) == (ours["case"], ours["direction"]) and row is not ours]
        first = min(others, key=lambda row: float(row["cpu_ms"]["median"]))
        if first["cpu_ms"]["median"] < ours["cpu_ms"]["median"]:
            longer = ours["cpu_ms"]["median"] / first["cpu_ms"]["median"] - 1
            lines.append(f"{ours['case']}, {ours['direction']}: {OURS} takes {longer:.0%} longer than {first['contestant']}")
    return lines
