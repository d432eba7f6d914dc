"""Decodes a LeRobotDataset once, into one .npy file per column. N frames.

Images become (N, 3, H, W) uint8, numbers keep their dtype (float64 becomes float32, as LeRobot returns it), scalars are (N,).
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, product
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDatasetMetadata
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from handsight.datasets_rb.integrity import broken
from handsight.datasets_rb.journal import full_disk_explained
from handsight.sensors.errors import HandsightError

LAYOUT: Final = 1
"""Raise it when what is written below changes."""
FOLDER: Final = ".cache_handsight"
_DTYPES: Final = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool", "image", "video")


def decoded(meta: LeRobotDatasetMetadata, root: Path, cache: Path, image_pool: int = 1) -> Path:
    """The folder `cache/<fingerprint>` with one `<key>.npy` per feature; built if it is not there.

    image_pool: images are averaged over squares of so many pixels; they are kept beside the whole ones.
    Raises HandsightError: a file that cannot be decoded, a feature that is neither number nor image, a full disk.
    """
    state = fingerprint(root)
    target = cache / (state if image_pool == 1 else f"{state}-pooled{image_pool}")
    if target.exists():
        return target
    _require_known(meta, image_pool)
    with full_disk_explained(cache), _alone(cache):
        if target.exists():
            return target
        staging = Path(tempfile.mkdtemp(dir=cache, prefix="unfinished-"))
        try:
            _decode_all(meta, root, staging, image_pool)
            for stale in cache.iterdir():
                if not stale.name.startswith((state, "unfinished-")):
                    shutil.rmtree(stale, ignore_errors=True)  # of an older state of this dataset; open maps stay valid
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process decodes; others wait, and find its work done. The kernel releases the lock when a process ends, however it ends."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def fingerprint(root: Path) -> str:
    """A hash of info.json and of the name, size and time of change of every file of the dataset."""
    digest = hashlib.sha256(f"{LAYOUT}".encode() + (root / "meta" / "info.json").read_bytes())
    for path in sorted(path for part in ("meta", "data", "videos") for path in (root / part).rglob("*") if path.is_file()):
        status = path.stat()
        digest.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _require_known(meta: LeRobotDatasetMetadata, image_pool: int) -> None:
    for key, feature in meta.features.items():
        if feature["dtype"] not in _DTYPES or key in meta.depth_keys:
            raise HandsightError(
                f"expected numbers and RGB images, got {key} of type {feature['dtype']}; read this dataset without the cache"
            )
        if feature["dtype"] in ("image", "video") and any(side % image_pool for side in feature["shape"][:2]):
            raise HandsightError(
                f"expected images of a multiple of {image_pool} pixels, got {key} of {feature['shape']}; pool by another factor"
            )


def _decode_all(meta: LeRobotDatasetMetadata, root: Path, staging: Path, image_pool: int) -> None:
    with tqdm(total=meta.total_frames * (1 + len(meta.video_keys)), unit="frame", desc="decoding once", leave=False) as bar:
        _decode_tables(meta, root, staging, image_pool, bar.update)
        for key in meta.video_keys:
            images = _create(staging, key, meta, image_pool)
            for start, frames in _videos(meta, root, key):
                images[start : start + len(frames)] = pooled(frames, image_pool)
                bar.update(len(frames))
            images.flush()
    (staging / "features.json").write_text(json.dumps({key: feature["dtype"] for key, feature in meta.features.items()}))


def pooled(images: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """(N, C, H, W) uint8 -> (N, C, H / factor, W / factor): means of squares, halves rounded up."""
    if factor == 1:
        return images
    area = factor * factor
    total = np.full((*images.shape[:2], images.shape[2] // factor, images.shape[3] // factor), area // 2, np.uint32)
    for row, column in product(range(factor), repeat=2):  # an eighth of the time of a sum over two axes
        total += images[:, :, row::factor, column::factor]
    return (total // area).astype(np.uint8)


def _create(staging: Path, key: str, meta: LeRobotDatasetMetadata, image_pool: int) -> np.memmap[Any, Any]:
    feature = meta.features[key]
    if feature["dtype"] in ("image", "video"):
        height, width, channels = feature["shape"]
        shape, dtype = (channels, height // image_pool, width // image_pool), "uint8"
    else:
        shape = () if tuple(feature["shape"]) == (1,) else tuple(feature["shape"])
        dtype = "float32" if feature["dtype"].startswith("float") else feature["dtype"]
    path = staging / f"{key}.npy"
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, "w+", dtype=dtype, shape=(meta.total_frames, *shape)
    )
    if hasattr(os, "posix_fallocate"):  # a map of a file without its space kills the process (SIGBUS) when the disk is full
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _decode_tables(meta: LeRobotDatasetMetadata, root: Path, staging: Path, image_pool: int, progress: Callable[[int], Any]) -> None:
    columns = {key: _create(staging, key, meta, image_pool) for key in meta.features if key not in meta.video_keys}
    row = 0
    for path in sorted((root / "data").glob("*/*.parquet")):
        for batch in _batches(root, path, list(columns)):
            for key, column in columns.items():
                values = _values(batch.column(key), column.shape[1:], key in meta.image_keys)
                column[row : row + len(batch)] = pooled(values, image_pool) if key in meta.image_keys else values
            row += len(batch)
            progress(len(batch))
    if not np.array_equal(columns["index"], np.arange(meta.total_frames)):
        raise broken(root, "frames in another order than their index")
    for column in columns.values():
        column.flush()


def _batches(root: Path, path: Path, keys: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from pq.ParquetFile(path).iter_batches(batch_size=256, columns=keys)
    except (pa.ArrowInvalid, KeyError) as error:
        raise broken(root, f"a damaged {path.relative_to(root)} ({' '.join(str(error).split())})") from error


def _values(column: pa.Array, shape: tuple[int, ...], is_image: bool) -> NDArray[Any]:
    if is_image:
        return np.stack([_chw(Image.open(io.BytesIO(image["bytes"]))) for image in column.to_pylist()])
    if isinstance(column, pa.ExtensionArray):  # Array2D to Array5D of the datasets library
        return np.array(column.storage.to_pylist()).reshape(len(column), *shape)
    if not shape:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), *shape)


def _chw(image: Image.Image) -> NDArray[np.uint8]:
    array = np.asarray(image)
    return array.transpose(2, 0, 1) if array.ndim == 3 else array[None]


def _videos(meta: LeRobotDatasetMetadata, root: Path, key: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(first frame, frames (T, 3, H, W)) of each episode; every file is decoded from its start, once."""
    place = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    table = meta.episodes.select_columns(["episode_index", "dataset_from_index", "length", *place])
    rows = sorted(table, key=lambda row: [row[name] for name in place])
    for _, group in groupby(rows, key=lambda row: [row[name] for name in place[:2]]):
        episodes = list(group)
        path = root / meta.get_video_file_path(episodes[0]["episode_index"], key)
        frames = _frames(root, path)
        position = 0
        for episode in episodes:
            first = round(episode[place[2]] * meta.fps)
            wanted = range(first, first + episode["length"])
            images = []
            for image in frames:
                if position in wanted:
                    images.append(image)
                position += 1
                if position == wanted.stop:
                    break
            if len(images) != episode["length"]:
                raise broken(root, f"a truncated {path.relative_to(root)} ({len(images)} of {episode['length']} frames of an episode)")
            yield episode["dataset_from_index"], np.stack(images)


def _frames(root: Path, path: Path) -> Iterator[NDArray[np.uint8]]:
    """Frames (3, H, W) of an mp4 in order, by the calls LeRobot's pyav reader makes, so with the same bytes."""
    if not path.exists():
        raise broken(root, f"no {path.relative_to(root)}")
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.video[0]):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8).transpose(2, 0, 1)
    except av.FFmpegError as error:
        raise broken(root, f"a damaged {path.relative_to(root)} ({error.strerror})") from error
