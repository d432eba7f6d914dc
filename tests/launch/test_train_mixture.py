"""`handsight train` on several recordings: what the trainer is given, and that a resumed run draws what an uninterrupted one would."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from handsight.launch import train
from handsight.sensors.errors import HandsightError

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

SMALL = ["--policy.condition_width=16", "--policy.head_blocks=1", "--policy.token_width=16", "--policy.touch_history=[-2, 0]"]


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from fake_episodes import record

    folder = tmp_path_factory.mktemp("mixture")
    return record(folder / "one", range(8), "png"), record(folder / "two", range(10, 18), "png")


def configuration(root: str, **options: Any) -> Any:
    from lerobot.configs.default import DatasetConfig
    from lerobot.configs.train import TrainPipelineConfig

    from handsight.policies.fuse.configuration_fuse import FuseConfig

    dataset = {"video_backend": "pyav", "use_imagenet_stats": False, **options}
    return TrainPipelineConfig(dataset=DatasetConfig("local/mixture", root=root, **dataset), policy=FuseConfig(device="cpu"))


def test_several_roots_are_one_dataset_with_held_out_episodes_of_each(roots: tuple[Path, Path]) -> None:
    from handsight.datasets_rb.mix import MixedDataset
    from handsight.launch.training_data import make_train_eval_datasets

    together = make_train_eval_datasets(configuration(f"{roots[0]},{roots[1]}:3", eval_split=0.25))
    alone = [make_train_eval_datasets(configuration(str(root), eval_split=0.25)) for root in roots]
    for i in range(2):
        assert isinstance(together[i], MixedDataset)
        assert [part.episodes for part in together[i].parts] == [pair[i].episodes for pair in alone]
    assert together[0].shares.tolist() == [0.25, 0.75]
    assert together[0].meta.camera_keys == alone[0][0].meta.camera_keys
    assert make_train_eval_datasets(configuration(f"{roots[0]},{roots[1]}"))[1] is None


def test_options_that_number_one_recordings_episodes_are_refused(roots: tuple[Path, Path]) -> None:
    from handsight.launch.training_data import make_train_eval_datasets

    with pytest.raises(HandsightError, match=re.escape("one folder in --dataset.root with --dataset.episodes")):
        make_train_eval_datasets(configuration(f"{roots[0]},{roots[1]}", episodes=[0]))


def test_the_sampler_is_the_mixtures_only_inside_the_seam(roots: tuple[Path, Path]) -> None:
    from lerobot.scripts import lerobot_train

    from handsight.datasets_rb.mixed_sampler import MixedSampler
    from handsight.launch.training_data import seam

    before = (lerobot_train.make_train_eval_datasets, lerobot_train.EpisodeAwareSampler)
    seen: list[object] = []
    with seam(lerobot_train, seen.append):
        dataset, _ = lerobot_train.make_train_eval_datasets(config := configuration(f"{roots[0]},{roots[1]}"))
        bounds = (dataset.meta.episodes["dataset_from_index"], dataset.meta.episodes["dataset_to_index"])
        sampler = lerobot_train.EpisodeAwareSampler(
            *bounds, episode_indices_to_use=None, drop_n_last_frames=0, shuffle=True, seed=1, absolute_to_relative_idx=None
        )
        assert isinstance(sampler, MixedSampler)
    assert seen == [config]
    assert (lerobot_train.make_train_eval_datasets, lerobot_train.EpisodeAwareSampler) == before


def test_a_missing_recording_of_several_is_named(roots: tuple[Path, Path]) -> None:
    with pytest.raises(HandsightError, match=r"meta/info\.json in nowhere"):
        train.main(["--policy.type=fuse", f"--dataset.root={roots[0]},nowhere:2"])
    assert "--dataset.repo_id=local/mixture" in train.complete([f"--dataset.root={roots[0]},{roots[1]}"])
    assert "--dataset.repo_id=local/one" in train.complete([f"--dataset.root={roots[0]}:2"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_resumed_run_draws_what_an_uninterrupted_one_would(
    roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames are the same, over the end of an epoch; images come pooled from the cache."""
    from handsight.policies.fuse.modeling_fuse import FusePolicy

    forward = FusePolicy.forward
    drawn: list[torch.Tensor] = []

    def noting(self: FusePolicy, batch: dict[str, Any]) -> Any:
        assert batch["observation.images.front"].shape[-1] == 16
        drawn.append(batch["action"])  # random, so they tell frames apart
        return forward(self, batch)

    monkeypatch.setattr(FusePolicy, "forward", noting)
    options = ["--policy.type=fuse", f"--dataset.root={roots[0]},{roots[1]}:2", "--batch_size=32", "--save_freq=3", "--seed=5", *SMALL]
    options.append("--policy.pooled_cache=true")
    assert train.main([*options, f"--output_dir={tmp_path / 'whole'}", "--steps=6"]) == 0
    assert train.main([*options, f"--output_dir={tmp_path / 'cut'}", "--steps=3"]) == 0
    assert train.main(["--resume=true", f"--output_dir={tmp_path / 'cut'}", "--steps=6"]) == 0
    assert len(drawn) == 12
    assert all(torch.equal(a, b) for a, b in zip(drawn[:6], drawn[6:], strict=True))
    assert not torch.equal(drawn[0], drawn[1])
