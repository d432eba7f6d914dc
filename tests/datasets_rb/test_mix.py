"""A mixture is the concatenation of its recordings, drawn from with a share for each, in an order that can be resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_episodes import SIZE, episode, record
from lerobot.datasets.aggregate import aggregate_datasets
from scipy.stats import chisquare
from torch.utils.data import DataLoader

from handsight.datasets_rb.cache import CachedDataset
from handsight.datasets_rb.mix import MixedDataset
from handsight.datasets_rb.mixed_sampler import MixedSampler, apportion
from handsight.datasets_rb.mixture import Ingredient, parse_mixture
from handsight.datasets_rb.record import Recorder
from handsight.datasets_rb.schema import RecordingSpec
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, FRONT, GROUNDING, GROUNDING_SIZE, STATE, TOUCH

HISTORY = {STATE: [-0.1, 0.0], TOUCH: [-0.05, 0.0], ACTION: [0.0, 0.05, 0.1]}
NUMBERED = ("index", "episode_index", "task_index")
SEEDS = (range(4), range(20, 23), range(5, 9))  # of three recordings: 4, 3 and 3 successes


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("mix")
    return [record(folder / name, seeds, "png") for name, seeds in zip("abc", SEEDS, strict=True)]


def read(root: Path, **options: Any) -> CachedDataset:
    return CachedDataset(f"local/{root.name}", root, **options)


def mixed(roots: list[Path], *shares: float, **options: Any) -> MixedDataset:
    return MixedDataset([read(root, **options) for root in roots], shares or None)


def require_same(a: dict[str, Any], b: dict[str, Any], leave_out: tuple[str, ...] = ()) -> None:
    assert set(a) == set(b)
    for key in set(a) - set(leave_out):
        same = a[key] == b[key]
        assert same.all() if isinstance(same, torch.Tensor) else same, key


@pytest.mark.parametrize("options", [{}, {"delta_timestamps": HISTORY}])
def test_items_are_those_of_the_parts(roots: list[Path], options: dict[str, Any]) -> None:
    mixture, parts = mixed(roots, **options), [read(root, **options) for root in roots]
    expected = [item for part in parts for item in part[:]]
    order = np.random.default_rng(0).permutation(len(mixture))
    for place, item in zip(order, mixture.__getitems__(order.tolist()), strict=True):
        require_same(item, expected[place], NUMBERED)
    require_same(mixture[-1], expected[-1], NUMBERED)
    with pytest.raises(IndexError):
        mixture[len(mixture)]


def test_it_is_what_lerobot_makes_by_copying(roots: list[Path], tmp_path: Path) -> None:
    aggregate_datasets(["local/a", "local/b", "local/c"], "local/abc", roots=roots, aggr_root=tmp_path / "abc")
    copied, mixture = read(tmp_path / "abc"), mixed(roots)
    assert (len(mixture), mixture.num_episodes, mixture.fps) == (len(copied), copied.num_episodes, copied.fps)
    assert list(mixture.meta.tasks.index) == list(copied.meta.tasks.index)
    assert (mixture.meta.total_frames, mixture.meta.total_episodes) == (copied.meta.total_frames, copied.meta.total_episodes)
    for name in ("dataset_from_index", "dataset_to_index"):
        np.testing.assert_array_equal(mixture.meta.episodes[name], copied.meta.episodes[name])
    for a, b in zip(mixture.__getitems__(range(len(mixture))), copied[:], strict=True):
        require_same(a, b)


def test_statistics_are_those_of_all_frames(roots: list[Path]) -> None:
    statistics = mixed(roots, 5, 1, 1).meta.stats  # shares decide what is drawn, not how it is normalised
    made = [episode(seed) for seeds in SEEDS for seed in seeds if seed % 5 != 4]
    states = np.concatenate([e.observations[STATE] for e in made])
    touch = np.concatenate([e.observations[TOUCH].reshape(-1, 1) for e in made])
    for key, values in ((STATE, states), (TOUCH, touch)):
        exact = values.astype(np.float64)
        for name in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(statistics[key][name], getattr(exact, name)(axis=0), rtol=1e-12, atol=1e-12)
    assert statistics[STATE]["count"] == len(states)


def test_each_part_has_its_share_and_its_frames_come_equally_often(roots: list[Path]) -> None:
    mixture = mixed(roots, 1, 2, 1)
    order = np.array(list(MixedSampler(mixture)))
    times = np.bincount(order, minlength=len(mixture))
    ends = np.cumsum([len(part) for part in mixture.parts])
    parts = np.split(times, ends[:-1])
    assert [part.sum() for part in parts] == apportion(np.array([0.25, 0.5, 0.25]), len(mixture)).tolist()
    assert all(np.ptp(part) <= 1 for part in parts)


def test_draws_of_many_epochs_are_uniform(roots: list[Path]) -> None:
    """Chi-square: parts by their weights anywhere in an epoch, frames within a part."""
    mixture, epochs = mixed(roots, 1, 2, 1), 200
    sampler = MixedSampler(mixture, seed=3)
    orders = np.array([list(sampler) for _ in range(epochs)])
    ends = np.cumsum([len(part) for part in mixture.parts])
    first = np.searchsorted(ends, orders[:, :10].ravel(), side="right")
    assert chisquare(np.bincount(first), 10 * epochs * mixture.shares).pvalue > 1e-3
    inside = np.bincount(orders[orders < ends[0]])
    assert chisquare(inside).pvalue > 1e-3


def test_encounters_are_drawn_more_often(roots: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HandsightError, match="handsight collect"):
        MixedSampler(mixed(roots), encounter_weight=4)  # these recordings have no grounding labels
    monkeypatch.setattr(CachedDataset, "encounters", property(lambda part: np.arange(len(part)) % 5 == 0))
    mixture = mixed(roots, 1, 2, 1)
    sampler = MixedSampler(mixture, encounter_weight=4)
    order = np.array([index for _ in range(40) for index in sampler])
    assert len(order) == 40 * len(sampler)
    ends = np.cumsum([len(part) for part in mixture.parts])
    parts = np.split(np.bincount(order, minlength=len(mixture)), ends[:-1])
    np.testing.assert_allclose([part.sum() / len(order) for part in parts], mixture.shares, atol=0.01)
    for times in parts:
        met = np.arange(len(times)) % 5 == 0
        np.testing.assert_allclose(times[met].mean() / times[~met].mean(), 4, rtol=0.05)


def test_a_resumed_order_continues_exactly(roots: list[Path]) -> None:
    mixture = mixed(roots)
    whole = MixedSampler(mixture, seed=7)
    epochs = [list(whole) for _ in range(3)]
    assert epochs[0] != epochs[1]
    resumed = MixedSampler(mixture, seed=7)
    resumed.load_state_dict({"epoch": 1, "start_index": 11})
    assert list(resumed) == epochs[1][11:]
    assert list(resumed) == epochs[2]
    assert resumed.state_dict() == {"epoch": 3, "start_index": 0}
    assert list(MixedSampler(mixture, seed=8)) != epochs[0]


def test_chosen_episodes_and_dropped_frames_are_never_drawn(roots: list[Path]) -> None:
    parts = [read(roots[0], episodes=[3, 1]), read(roots[1])]
    mixture = MixedDataset(parts)
    assert mixture.num_episodes == 5
    drawn = {int(item["index"]) for item in mixture.__getitems__(list(MixedSampler(mixture, drop_n_last_frames=2)))}
    frames = read(roots[0])[:]
    last = {int(item["episode_index"]): int(item["index"]) for item in frames}
    allowed = {
        int(item["index"])
        for item in frames
        if int(item["episode_index"]) in (1, 3) and int(item["index"]) < last[int(item["episode_index"])] - 1
    }
    assert {index for index in drawn if index < len(frames)} == allowed
    with pytest.raises(HandsightError, match="frames to draw in every recording"):
        MixedSampler(mixture, drop_n_last_frames=100)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_makes_batches_across_parts(roots: list[Path], workers: int) -> None:
    mixture = mixed(roots, delta_timestamps=HISTORY, uint8_images=True)
    batch = next(iter(DataLoader(mixture, batch_size=16, sampler=MixedSampler(mixture), num_workers=workers)))
    assert batch[FRONT].shape == (16, 3, SIZE, SIZE)
    assert batch[TOUCH].shape == (16, 2, 1536)
    assert len(set(batch["task"])) > 1


def test_labels_that_one_part_lacks_are_left_out_and_other_columns_must_agree(roots: list[Path], tmp_path: Path) -> None:
    spec = RecordingSpec("fake/good", image_size=SIZE, images="png", grounding=True)
    made = episode(0)
    with Recorder(tmp_path / "labelled", spec) as recorder:
        recorder.add(replace(made, grounding=np.zeros((len(made.actions), GROUNDING_SIZE), np.int16)))
    mixture = mixed([tmp_path / "labelled", roots[0]])
    assert GROUNDING not in mixture.features
    assert all(GROUNDING not in item for item in mixture.__getitems__([0, len(mixture) - 1]))
    with Recorder(tmp_path / "small", replace(spec, image_size=16, grounding=False)) as recorder:
        recorder.add(episode(0, 16))
    with pytest.raises(HandsightError, match=r"same columns, got observation.images.front as image \(32, 32, 3\)"):
        mixed([roots[0], tmp_path / "small"])


def test_mixtures_are_written_as_folders_with_weights(tmp_path: Path) -> None:
    assert parse_mixture("a") == (Ingredient(Path("a")),)
    assert parse_mixture("a, b:2.5,c:3") == (Ingredient(Path("a")), Ingredient(Path("b"), 2.5), Ingredient(Path("c"), 3.0))
    (tmp_path / "odd,name:2").mkdir()
    assert parse_mixture(str(tmp_path / "odd,name:2")) == (Ingredient(tmp_path / "odd,name:2"),)
    for wrong in ("a,", "a:0", "a:-1", "a:inf", "a:nan", ""):
        with pytest.raises(HandsightError, match=r"expected --dataset\.root=DIR"):
            parse_mixture(wrong)
    with pytest.raises(HandsightError, match="twice"):
        parse_mixture("a,./a:2")


def test_counts_sum_to_the_total_and_stay_within_one(rng: np.random.Generator) -> None:
    for _ in range(100):
        shares, total = rng.dirichlet(np.ones(7)), int(rng.integers(1, 1000))
        counts = apportion(shares, total)
        assert counts.sum() == total
        assert (np.abs(counts - shares * total) < 1).all()
