"""The gallery: which tasks a word means, one page about all of them, and rollouts that continue."""

import re
from pathlib import Path
from typing import Any

import pytest

from handsight.envs.env import task_names
from handsight.launch import cli
from handsight.launch import rollout as verb
from handsight.launch.episodes import read_episodes
from handsight.launch.gallery import chosen_tasks, write_gallery
from handsight.launch.timeline import MOMENTS
from handsight.sensors.errors import HandsightError

FAKE = ["--policy.path=expert", "--env.maker=fake_env:make", "--workers=0"]
TWO = "--env.task=fake/reach,fake/digest"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fakes"))


def test_words_that_mean_several_tasks() -> None:
    sense = [task for task in task_names() if task.startswith("sense/")]
    assert len(sense) > 1
    assert chosen_tasks("all") == task_names()
    assert chosen_tasks("sense") == sense
    assert chosen_tasks("sense/tabletop_grasp, sense/bag_stiff") == ["sense/tabletop_grasp", "sense/bag_stiff"]
    assert chosen_tasks("sense/bag_stiff,sense") == ["sense/bag_stiff", *(task for task in sense if task != "sense/bag_stiff")]
    assert chosen_tasks("fake/a,fake/b", "fake_env:make") == ["fake/a", "fake/b"]
    for one in ("sense/tabletop_grasp", "sense/nothing"):  # the environment says what is wrong with it
        assert chosen_tasks(one) == []
    assert chosen_tasks("mine", "fake_env:make") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sens", r"all, assist, sense or among .*sense/tabletop_grasp.*; got 'sens'; did you mean sense\?"),
        ("sense/tabletop_grasp,sense/bag_stif", r"got 'sense/bag_stif'; did you mean sense/bag_stiff\?"),
        ("everything", r"got 'everything'"),
    ],
)
def test_unknown_words_name_the_known_ones_in_one_line(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rollout", "--policy.path=expert", f"--env.task={words}", f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_one_page_about_every_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.main([*FAKE, TWO, "--episodes=3", f"--out={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "fake/reach" in printed
    assert f"gallery: {tmp_path / 'gallery.html'}" in printed
    page = (tmp_path / "gallery.html").read_text()
    assert page.count("<article") == page.count("<video") == 2
    assert not re.search(r"(src|href)=\"(?!data:|#|fake/\w+/report.html\")|https?://|@import", page)
    images = re.findall(r"<img[^>]*>", page)
    frames = [read_episodes(tmp_path / task)[0].steps + 1 for task in ("fake/reach", "fake/digest")]
    assert len(images) == sum(3 * min(count, MOMENTS) + 1 for count in frames)  # scene and two pads of each moment, and a spectrogram
    assert all(' alt="' in image for image in images)
    assert "handsight rollout --policy.path=expert --env.task=fake/reach,fake/digest --env.maker=fake_env:make --episodes=3" in page
    assert "go to the red goal" in page
    for task in ("fake/reach", "fake/digest"):
        assert [episode.seed for episode in read_episodes(tmp_path / task)] == [1000, 1001, 1002]
        assert (tmp_path / task / "report.html").read_text().count("<video") == 1


def test_a_finished_gallery_is_not_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*FAKE, TWO, "--episodes=2", f"--out={tmp_path}"]
    verb.main(arguments)
    monkeypatch.setattr(verb, "_play", lambda *_: pytest.fail("everything was finished"))
    (tmp_path / "gallery.html").unlink()
    assert verb.main(arguments) == 0
    assert (tmp_path / "gallery.html").exists()


def test_several_tasks_are_played_shorter(tmp_path: Path) -> None:
    verb.main([*FAKE, TWO, "--videos=0", f"--out={tmp_path}"])
    assert len(read_episodes(tmp_path / "fake/reach")) == verb.GALLERY_EPISODES
    assert "No episode was filmed" in (tmp_path / "gallery.html").read_text()


def test_the_page_shows_the_first_episode_even_if_it_failed(tmp_path: Path) -> None:
    verb.main([*FAKE, "--policy.path=random", TWO, "--episodes=3", "--videos=3", f"--out={tmp_path}"])
    write_gallery([tmp_path / "fake/reach"], tmp_path / "again.html")
    page = (tmp_path / "again.html").read_text()
    first: Any = read_episodes(tmp_path / "fake/reach")[0]
    assert page.count("<video") == 1
    assert re.search(rf"{first.outcome} &middot; seed 1000, {first.steps} steps", page)


def test_sensors_that_are_zeroed_show_so(tmp_path: Path) -> None:
    verb.main([*FAKE, TWO, "--sensors.zero=touch", "--episodes=1", f"--out={tmp_path}"])
    page = (tmp_path / "gallery.html").read_text()
    assert "expert without touch" in page
    assert page.count("nothing was felt") == 2


def test_an_unfinished_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HandsightError, match=r"expected run.json in"):
        write_gallery([tmp_path / "nowhere"], tmp_path / "page.html")
