from pathlib import Path
def write_report(folders: list[Path], out: Path) -> None:
    out.write_text("todo")
