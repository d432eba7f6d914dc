"""The command `handsight <verb> --key=value ...`.

Only the standard library is imported at the top: listing the verbs must not wait for torch.
"""

import errno
import importlib
import sys
from typing import Final

# verb -> (module with `main(argv: list[str]) -> int`, what it does)
VERBS: Final = {
    "doctor": ("handsight.launch.doctor", "what is installed, what renders, what is missing and the command that fixes it"),
    "collect": ("handsight.launch.collect", "scripted expert -> LeRobotDataset v3"),
    "convert": ("handsight.launch.convert", "the public FuSe data -> LeRobotDataset v3"),
    "train": ("handsight.launch.train", "LeRobot's trainer with our policies, environments and cached reader"),
    "rollout": ("handsight.launch.rollout", "simulated rollouts of a checkpoint: success, videos, report"),
    "remember": ("handsight.launch.remember", "a checkpoint that reads every phrasing as the closest meaning of its training"),
    "export": ("handsight.launch.export", "a checkpoint for ONNX Runtime, compared with torch; 8-bit weights checked on the task"),
    "report": ("handsight.launch.report", "one HTML page that compares runs"),
    "bench": ("handsight.launch.bench", "regenerates a results table"),
}
EXIT_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it

# Operating system errors that the user can mend; any other is a bug and keeps its traceback.
_MENDABLE: Final = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission denied; choose a file or folder that you may use",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code: 0 well, 1 a check failed, 2 wrong input, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(_version())
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        return _fail(f"expected a verb ({', '.join(VERBS)}), got {verb!r}{_did_you_mean(verb)}")
    return _run(verb, rest)


def usage() -> str:
    """The list of verbs."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items()]
    return "\n".join(["usage: handsight <verb> --key=value ...", "", *lines, "", "`handsight <verb> --help` lists a verb's options."])


def _run(verb: str, argv: list[str]) -> int:
    try:
        code: int = importlib.import_module(VERBS[verb][0]).main(argv)
    except KeyboardInterrupt:
        _fail("interrupted; what was already written is kept")
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(where + _MENDABLE[error.errno])
    except _user_errors() as error:
        return _fail(str(error))
    return code


def _user_errors() -> tuple[type[BaseException], ...]:
    """What a user can cause. Looked up only once something was raised: a library that is not loaded cannot have raised."""
    from handsight.sensors.errors import HandsightError

    draccus = sys.modules.get("draccus.utils")
    return (HandsightError,) if draccus is None else (HandsightError, draccus.DraccusException)


def _fail(message: str) -> int:
    print("handsight: error: " + " ".join(message.split()), file=sys.stderr)
    return EXIT_ERROR


def _did_you_mean(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, VERBS, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; see `handsight --help`"


def _version() -> str:
    from importlib.metadata import version

    return f"handsight {version('lerobot_policy_handsight')}"


if __name__ == "__main__":
    sys.exit(main())
