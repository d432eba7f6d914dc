"""`handsight convert`: what it prints, and one line for what is wrong."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from fake_rlds import NAME, write_split

from handsight.launch import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_split(write_split(tmp_path / "fuse", "train", [[0], [1]]), "val", [[2]])


def test_says_what_is_left_out_and_what_was_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "out"
    arguments = [f"--source={folder}", f"--root={root}", "--split=val", "--skip=[imu, digit_0_background]", "--image_size=16"]
    assert cli.main(["convert", "fuse", *arguments]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "left out:"
    left_out = [line.split(":")[0].strip() for line in printed if line.startswith("  steps/")]
    assert left_out == [
        "steps/is_first",
        "steps/is_last",
        "steps/observation/digit_0_background",
        "steps/observation/imu",
        "steps/observation/words",
    ]
    assert f"{root}: 1 episodes; this run converted 5 frames" in printed
    assert (root / "meta" / "info.json").exists()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ("", ["fuse", "--root=OUT"], "expected --source=DIR and --root=DIR"),
        ("", ["rlds", "--source=IN", "--root=OUT"], "expected `handsight convert fuse --key=value ...`, got 'rlds'"),
        ("", ["--source=IN", "--root=OUT"], "expected `handsight convert fuse --key=value ...`, got ''"),
        ("", ["fuse", "--source=IN", "--root=OUT", "--limit=-1"], "expected --limit of at least 0, got -1"),
        ("", ["fuse", "--source=IN", "--root=OUT", "--language=IN"], "expected --language=FILE and --rephrasings=FILE together"),
        ("", ["fuse", "--source=IN", "--root=OUT", "--size=3"], "expected an option of handsight convert, got --size"),
        ("", ["fuse", "--source=IN/none", "--root=OUT"], "expected --source to be a folder with features.json"),
        ("", ["fuse", "--source=IN", "--root=IN"], "expected --root to be a new folder"),
        ("features.json", ["fuse", "--source=IN", "--root=OUT"], "expected features.json in"),
        (f"{NAME}-train.tfrecord-00001-of-00002", ["fuse", "--source=IN", "--root=OUT"], "convert what is there with --partial"),
    ],
)
def test_errors_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, arguments: list[str], message: str
) -> None:
    if change:
        (folder / change).unlink()
    filled = [word.replace("IN", str(folder)).replace("OUT", str(tmp_path / "out")) for word in arguments]
    assert cli.main(["convert", *filled]) == cli.EXIT_ERROR
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "meta").exists()
