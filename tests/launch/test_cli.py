"""The command line: verbs, exit codes and one-line errors."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from handsight.launch import cli
from handsight.launch.arguments import parse
from handsight.sensors.errors import HandsightError


@dataclass(frozen=True)
class PolicyArgs:
    path: str = ""
    """A checkpoint folder."""


@dataclass(frozen=True)
class VerbArgs:
    policy: PolicyArgs = PolicyArgs()
    episodes: int = 20
    """How many episodes."""
    out: Path | None = None
    """Where results go."""
    runs: tuple[str, ...] = ()
    """Folders of runs."""
    wandb: bool = False
    """Track."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise HandsightError(f"expected at least one episode, got {self.episodes}; set --episodes")


def parsed(*argv: str, positional: str = "") -> VerbArgs:
    return parse(VerbArgs, argv, "handsight verb", "Does a thing.", positional=positional)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], int]:
    """Runs the command line on a verb that does what it is given."""

    def run(action: Callable[[], int]) -> int:
        module = ModuleType("handsight_test_verb")
        module.__dict__["main"] = lambda argv: action()
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cli, "VERBS", {"act": (module.__name__, "acts")})
        return cli.main(["act"])

    return run


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_verbs_are_listed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.VERBS)


def test_listing_the_verbs_loads_no_library() -> None:
    program = "import sys; from handsight.launch.cli import main; main([]); print(*sys.modules, file=sys.stderr)"
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONSAFEPATH": "1"}
    )
    loaded = {name.partition(".")[0] for name in child.stderr.split()}
    foreign = loaded - sys.stdlib_module_names - {"__main__", "handsight", "sitecustomize", "usercustomize"}
    assert not {name for name in foreign if not name.startswith(("_", "distutils"))}


def test_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rolout"]) == 2
    assert capsys.readouterr().err.endswith("got 'rolout'; did you mean 'rollout'?\n")


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("handsight 0.")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (HandsightError("expected a\n  cup, got a hat; bring a cup"), 2, "expected a cup, got a hat; bring a cup"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x.parquet"), 2, "data/x.parquet: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/etc/x"), 2, "/etc/x: permission denied"),
    ],
)
def test_what_a_user_can_cause_is_one_line(
    error: BaseException, code: int, says: str, verb: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    def action() -> int:
        raise error

    assert verb(action) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("handsight: error: ")
    assert says in err


def test_draccus_errors_are_one_line(verb: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]) -> None:
    import draccus

    assert verb(lambda: bool(draccus.parse(VerbArgs, args=["--episodes=many"], exit_on_error=False))) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_bugs_keep_their_traceback(verb: Callable[[Callable[[], int]], int]) -> None:
    with pytest.raises(ZeroDivisionError):
        verb(lambda: 1 // 0)


def test_exit_code_of_a_verb_is_passed_on(verb: Callable[[Callable[[], int]], int]) -> None:
    assert verb(lambda: 1) == 1


def test_arguments_are_parsed() -> None:
    assert parsed() == VerbArgs()
    assert parsed("--policy.path=zoo/x", "--episodes", "3", "--out=o", "--wandb") == VerbArgs(PolicyArgs("zoo/x"), 3, Path("o"), (), True)
    assert parsed("--runs=[a, b]").runs == ("a", "b")
    assert parsed("a", "b c", "--episodes=2", positional="runs") == VerbArgs(episodes=2, runs=("a", "b c"))
    assert parsed("--wandb", "false").wandb is False


def test_a_file_is_read_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "args.yaml"
    file.write_text("episodes: 5\npolicy: {path: here}\n")
    assert parsed(f"--config_path={file}", "--episodes=7") == VerbArgs(PolicyArgs("here"), 7)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--episods=3"], "did you mean --episodes?"),
        (["--path=x"], "did you mean --policy.path?"),
        (["--xyz=1"], "see `handsight verb --help`"),
        (["--episodes=many"], "expected int for --episodes: Couldn't parse 'many'"),
        (["--episodes=1.5"], "expected int for --episodes"),
        (["--episodes"], "expected a value, got --episodes alone"),
        (["--episodes=0"], "expected at least one episode"),
        (["stray"], "expected --key=value, got 'stray'"),
        (["--out=["], "expected values that YAML can read"),
        (["--config_path=/no/such/file"], "does not exist"),
    ],
)
def test_wrong_arguments_say_what_was_expected(argv: list[str], says: str) -> None:
    with pytest.raises(HandsightError) as raised:
        parsed(*argv)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_help_shows_every_option_with_its_docstring_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed("--episodes=1", "--help")
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for part in ("usage: handsight verb", "Does a thing.", "--policy.path=str", "A checkpoint folder.", "How many episodes. (default: 20)"):
        assert part in out
