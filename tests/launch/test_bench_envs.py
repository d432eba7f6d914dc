"""`handsight bench envs`: its table, its budget, and peers that fail without stopping it. No peer is installed here."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from handsight.launch import bench_envs, peers
from handsight.launch.bench_envs import PARTS, SIZES, EnvsArguments
from handsight.launch.peers import PEERS, PeerError, Worker
from handsight.launch.step_costs import OURS, Cell, Measurements, Sample
from handsight.sensors.errors import HandsightError

PEER = PEERS["metaworld"]
DESCRIPTION = {
    "package": "metaworld 0",
    "task": "reach",
    "acts": "nobody",
    "senses": "nothing",
    "control_hz": 80.0,
    "substeps": 5,
    "timestep_ms": 2.5,
    "degrees_of_freedom": 15,
    "geoms": 3,
    "versions": {"mujoco": "3.3.0"},
}
PLAYER = f"""
import json, sys
print(json.dumps({DESCRIPTION!r}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "size" in request:
        print(json.dumps({{"ready": True}}), flush=True)
    else:
        print(json.dumps({{"cpu_ms": {{"physics": 1.0, "total": 4.0}}, "steps_per_second": 50.0}}), flush=True)
"""


def sample(total: float, alone: float, together: float) -> Sample:
    return Sample(dict.fromkeys(PARTS, total / 4) | {"total": total}, {1: alone, 2: together})


def measured(total: float = 2.0, together: float = 800.0) -> Measurements:
    measurements = Measurements()
    for size in SIZES:
        measurements.add(Cell(OURS, "same", size), sample(total, together / 2, together))
    return measurements


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the peers' workers run, in our Python: PLAYER, until a test writes something else there."""
    path = tmp_path / "program.py"
    path.write_text(PLAYER)
    monkeypatch.setattr(peers, "SCRIPT", path)
    monkeypatch.setattr(peers, "environment", lambda peer, root: Path(sys.executable))
    return path


@pytest.fixture
def ours_without_simulating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_envs, "ours", lambda arguments, size, turn: sample(2.0, 400.0, 800.0))
    monkeypatch.setattr(bench_envs, "start_of_workers", lambda arguments, workers: 0.5)
    monkeypatch.setattr(bench_envs, "versions", dict)


def lines_of(output: str, start: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(start)]


def test_ratios_are_taken_within_a_turn() -> None:
    measurements = Measurements()
    for mine, theirs in ((1.0, 3.0), (10.0, 30.0), (2.0, 40.0)):  # the second turn was slow for both
        measurements.add(Cell(OURS, "same", 84), sample(mine, 1 / mine, 2 / mine))
        measurements.add(Cell("metaworld", "own", 84), sample(theirs, 1 / theirs, 2 / theirs))
    ours, peer = measurements.rows()
    assert (ours["simulator"], peer["simulator"]) == (OURS, "metaworld")
    assert peer["cpu_ms"]["total"] / ours["cpu_ms"]["total"] == 15.0
    assert peer["cpu_times_ours"] == 3.0
    assert peer["steps_per_second_times_ours"]["2"] == pytest.approx(1 / 3)
    assert ours["cpu_times_ours"] == 1.0
    assert peer["turns"]["cpu_ms"] == [3.0, 30.0, 40.0]


def test_rows_go_by_size_and_ours_comes_first() -> None:
    measurements = Measurements()
    for simulator in ("abacus", OURS):
        for size in (224, 84):
            measurements.add(Cell(simulator, "same", size), sample(1.0, 1.0, 1.0))
    found = [(row["size"], row["simulator"]) for row in measurements.rows()]
    assert found == [(84, OURS), (84, "abacus"), (224, OURS), (224, "abacus")]


@pytest.mark.parametrize(
    ("total", "together", "problem"),
    [(8.0, 250.0, ""), (8.01, 250.0, "at most 8 CPU ms"), (8.0, 249.0, "at least 250 steps a second")],
)
def test_the_budget_is_that_of_128_px(total: float, together: float, problem: str) -> None:
    rows = measured(total, together).rows()
    assert all(row["size"] == 128 or row.update(cpu_ms={}, steps_per_second={}) is None for row in rows)
    lines = bench_envs.over_budget(rows)
    assert len(lines) == bool(problem)
    assert problem in "".join(lines)


def test_table_of_a_result_that_was_read_back() -> None:
    measurements = measured()
    measurements.add(Cell("metaworld", "own", 84), Sample({"physics": 1.0, "total": 4.0}, {1: 100.0, 2: 200.0}))
    machine = {"cores": 2, "load_before": 0.06}
    rest = {"simulators": {"metaworld": DESCRIPTION}, "start_of_two_workers_s": 0.44, "machine": machine}
    result = {"rows": measurements.rows()} | rest
    lines = bench_envs.table(json.loads(json.dumps(result))).splitlines()
    assert "| 2 x 84 px | metaworld, own pictures | 1.00 |  |  |  |  |  | 4.00 | 100 | 200 | 2.0 | 0.25 |" in lines
    assert "| 2 x 224 px | handsight | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 2.00 | 400 | 800 |  |  |" in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert (
        "- metaworld 0 with MuJoCo 3.3.0: reach by nobody; a step is 5 x 2.5 ms at 80 Hz; 15 degrees of freedom, 3 geoms; nothing" in lines
    )
    assert lines[-1].endswith("up in 0.4 s. Measured on 2 cores, on which 0.1 processes ran before.")


def test_peers_are_chosen_by_name() -> None:
    assert [peer.name for peer in peers.chosen("gymnasium-robotics, metaworld,metaworld")] == ["gymnasium-robotics", "metaworld"]
    assert peers.chosen("") == []
    with pytest.raises(HandsightError, match="expected --peers among metaworld, gymnasium-robotics, got metaword"):
        peers.chosen("metaword")


@pytest.mark.usefixtures("program")
def test_two_workers_play_at_once_and_their_speeds_add_up(tmp_path: Path) -> None:
    with peers.crew_of(PEER, tmp_path) as crew:
        assert crew.description == DESCRIPTION
        found = crew.measure(128, "own", 0.0)
    assert found == Sample({"physics": 1.0, "total": 4.0}, {1: 50.0, 2: 100.0})


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise ImportError('no such library')", "ended with 1: ImportError: no such library"),
        ("import os; os.abort()", "ended with -6: it said nothing"),
        ("print('hello')", "expected JSON, got 'hello'"),
        ("import sys; sys.exit('first\\nexpected top to see the robot move')", "ended with 1: expected top to see the robot move"),
    ],
)
def test_how_a_worker_failed_is_one_line(program: str, message: str) -> None:
    worker = Worker([sys.executable, "-c", program])
    try:
        with pytest.raises(PeerError) as caught:
            worker.hear()
    finally:
        worker.close()
    assert str(caught.value) == message


def test_a_python_that_is_gone_is_a_peer_error(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="No such file"):
        Worker([str(tmp_path / "bin/python")])


def test_a_hanging_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_ANSWER_SECONDS", 0.05)
    worker = Worker([sys.executable, "-c", "import sys; sys.stdin.read()"])
    try:
        with pytest.raises(PeerError, match="no answer within"):
            worker.hear()
    finally:
        worker.close()


@pytest.mark.usefixtures("ours_without_simulating")
def test_a_peer_that_cannot_be_installed_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def crew_of(peer: peers.Peer, folder: Path) -> Any:
        raise PeerError(f"no network for {peer.name}")

    monkeypatch.setattr(peers, "crew_of", crew_of)
    assert bench_envs.main(["--quick"]) == 0
    output = capsys.readouterr().out
    assert lines_of(output, "without") == [f"without {name}: no network for {name}" for name in PEERS]
    assert len(lines_of(output, "| 2 x")) == len(SIZES)


@pytest.mark.usefixtures("ours_without_simulating")
def test_a_peer_that_fails_midway_leaves_no_rows(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.write_text(PLAYER.replace('if "size" in', 'assert request.get("size") != 224, "too large"\n    if "size" in'))
    assert bench_envs.main(["--quick", "--peers=metaworld"]) == 0
    output = capsys.readouterr().out
    assert lines_of(output, "without") == ["without metaworld: ended with 1: AssertionError: too large"]
    assert len(lines_of(output, "| 2 x")) == len(SIZES)
    assert not lines_of(output, "- metaworld")


@pytest.mark.usefixtures("ours_without_simulating", "program")
def test_a_full_run_measures_turn_by_turn_and_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_envs, "RESULT", tmp_path / "envs.json")
    assert bench_envs.main(["--turns=2", "--peers=metaworld"]) == 0
    result = json.loads((tmp_path / "envs.json").read_text())
    assert len(result["rows"]) == len(SIZES) * 3
    assert {len(row["turns"]["cpu_ms"]) for row in result["rows"]} == {2}
    assert set(result["simulators"]) == {OURS, "metaworld"}
    assert (result["simulators"][OURS]["substeps"], result["missing"]) == (25, {})


@pytest.mark.parametrize("option", ["--turns=0", "--episodes=0"])
def test_nothing_to_measure_is_refused(option: str) -> None:
    with pytest.raises(HandsightError, match="expected --turns and --episodes of at least 1"):
        bench_envs.main([option, "--peers="])


class Installer:
    """Stands for uv: makes the Python, or fails while it installs."""

    def __init__(self) -> None:
        self.installed: list[tuple[str, ...]] = []
        self.network = True

    def __call__(self, *command: str) -> str:
        if command[1] == "venv":
            python = Path(command[-1]) / "bin/python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
        elif not self.network:
            raise PeerError("no network")
        else:
            self.installed.append(command[command.index("--python") + 2 :])
        return ""


def test_an_environment_is_made_once_and_finished_if_it_was_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uv = Installer()
    monkeypatch.setattr(peers, "_run", uv)
    monkeypatch.setattr(peers, "_uv", lambda: "uv")
    uv.network = False
    with pytest.raises(PeerError, match="no network"):
        peers.environment(PEER, tmp_path)
    uv.network = True
    for _ in range(2):
        assert peers.environment(PEER, tmp_path) == tmp_path / "metaworld/bin/python"
    assert uv.installed == [PEER.requirements]
    peers.environment(peers.Peer("metaworld", ("metaworld==3.0.0",)), tmp_path)
    assert uv.installed == [PEER.requirements, ("metaworld==3.0.0",)]


def test_what_uv_says_becomes_one_line_without_addresses(tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\nprintf 'error: Failed to fetch: https://index.example/simple/x\\n  cause: refused\\n\\nhint: retry\\n' >&2\nexit 2\n"
    )
    uv.chmod(0o755)
    with pytest.raises(PeerError) as caught:
        peers._run(str(uv), "pip", "install")
    assert str(caught.value) == f"{uv} pip install ended with 2: error: Failed to fetch: (an address) cause: refused"


def test_our_own_cell_has_every_part_and_adds_up() -> None:
    cost = bench_envs.cost_of_a_step(EnvsArguments(episodes=1), 84, first=1)
    assert tuple(cost) == PARTS
    assert all(cost[part] > 0 for part in PARTS)
    assert sum(cost[part] for part in PARTS[:-1]) == pytest.approx(cost["total"])
