"""The page: everything in one file, readable numbers, unfinished and foreign folders handled."""

import re
from pathlib import Path

import pytest

from handsight.launch import report, rollout
from handsight.launch.episodes import ResultFolder
from handsight.launch.metrics import EpisodeResult
from handsight.sensors.errors import HandsightError


def folder(path: Path, successes: list[bool], policy: str = "random", task: str = "fake/reach", zeroed: tuple[str, ...] = ()) -> Path:
    identity = {"policy": policy, "fingerprint": policy, "env": {"task": task}, "zeroed": list(zeroed), "seed": 0}
    results = ResultFolder(path, identity)
    for seed, success in enumerate(successes):
        results.add(EpisodeResult(seed, f"take the <b>{seed}</b>", success, reached=True, wrong_object=not success, steps=seed))
    return path


def test_one_page_without_external_resources(tmp_path: Path) -> None:
    page_path = tmp_path / "page.html"
    report.write_report([folder(tmp_path / "a", [True, False, True])], page_path)
    page = page_path.read_text()
    assert not re.search(r"(src|href)=\"(?!data:|videos/)|https?://|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert "66.7%" in page
    assert "take the &lt;b&gt;1&lt;/b&gt;" in page
    assert "This rollout was interrupted" in page  # no metrics.json


def test_paired_difference_over_shared_seeds(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", [True] * 20)
    second = folder(tmp_path / "second", [False] * 15, zeroed=("TOUCH",))
    other = folder(tmp_path / "other", [True] * 20, task="fake/digest")
    [comparison] = report.compare(report.load_runs([first, second, other], tmp_path))
    assert (comparison.difference.mean, comparison.difference.n) == (-1.0, 15)
    assert comparison.difference.excludes_zero
    assert comparison.label == "random without touch on fake/reach"
    assert report.main([str(first), str(second), f"--out={tmp_path / 'both.html'}"]) == 0
    assert "-100.0" in (tmp_path / "both.html").read_text()


def test_equal_labels_are_told_apart_by_folder(tmp_path: Path) -> None:
    runs = report.load_runs([folder(tmp_path / "a", [True]), folder(tmp_path / "b", [True])], tmp_path)
    assert [run.label for run in runs] == [f"random ({tmp_path / 'a'})", f"random ({tmp_path / 'b'})"]


def test_large_videos_are_referred_to_and_small_ones_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "a", [True])
    ResultFolder(path, report.read_json(path / "run.json")).add(EpisodeResult(1, "", True, True, False, 3, "videos/seed_1.mp4"))
    (path / "videos" / "seed_1.mp4").write_bytes(b"0123")
    assert [film.source for film in report.load_runs([path], path)[0].films] == ["data:video/mp4;base64,MDEyMw=="]
    monkeypatch.setattr(report, "EMBED_LIMIT", 3)
    assert [film.source for film in report.load_runs([path], tmp_path)[0].films] == ["a/videos/seed_1.mp4"]


@pytest.mark.parametrize(("words", "message"), [([], "at least one folder"), (["nowhere"], "expected run.json in nowhere")])
def test_misuse_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(HandsightError, match=message):
        report.main(words)


def test_a_gif_of_an_episode_that_was_not_filmed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HandsightError, match=r"expected --gif to be a seed that was filmed .* \(none\), got 0"):
        report.main([str(folder(tmp_path, [True])), "--gif=0"])


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HandsightError, match="expected finished episodes"):
        report.main([str(folder(tmp_path, []))])


def test_the_command_leaves_out_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fakes"))
    given = ["--policy.path=random", "--env.task=fake/reach", "--env.maker=fake_env:make", "--episodes=2", "--videos=0"]
    assert rollout.main([*given, "--workers=0", f"--out={tmp_path}"]) == 0
    [run] = report.load_runs([tmp_path], tmp_path)
    assert set(run.command.split()) == {"handsight", "rollout", *given, "--workers=0"}
