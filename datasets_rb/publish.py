"""Journal -> LeRobotDataset v3 files. Nothing here touches the dataset itself: `commit.finish` moves the result into place."""

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.feature_utils import get_hf_features_from_features
from numpy.typing import NDArray

from handsight.datasets_rb import journal
from handsight.datasets_rb.commit import READY, RECORD, STAGING
from handsight.datasets_rb.journal import PackedEpisode
from handsight.datasets_rb.schema import DatasetSpec
from handsight.datasets_rb.statistics import Statistics, column_statistics

_ROW_GROUP: Final = 1000
"""Episodes per row group of the episode table; its footer takes 80 kB a group, and LeRobot's default is 10."""
_JPEG: Final = b"\xff\xd8"  # how a JPEG begins
Location = dict[str, Any]
"""Where LeRobot's episode table says a part of an episode is: `data/chunk_index`, `data/file_index`, ..."""


def stage(root: Path, folder: Path, spec: DatasetSpec, seeds: Sequence[int], record: Mapping[str, Any]) -> None:
    """Builds everything that the journalled episodes `seeds` add to the dataset in `root`, ready to be moved into place by `commit.finish`.

    folder: the journal; record: what goes into RECORD. Raises HandsightError if the disk is full.
    """
    datasets.disable_progress_bars()  # it draws a bar for every parquet file it opens
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    with journal.full_disk_explained(root):
        try:
            _build(root, staging, folder, spec, seeds)
            (staging / RECORD).write_text(json.dumps(record))
            staging.rename(folder / READY)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # after a failure: gives the space back


def _build(root: Path, staging: Path, folder: Path, spec: DatasetSpec, seeds: Sequence[int]) -> None:
    meta = _open_metadata(root, staging, spec)
    first = meta.total_episodes
    locations = _write_data(meta, staging, folder, seeds)
    for key in meta.video_keys:
        for location, addition in zip(locations, _write_videos(meta, staging, folder, seeds, key), strict=True):
            location |= addition
        if first == 0:
            meta.update_video_info(key, video_encoder=_encoder())
    for seed, location in zip(seeds, locations, strict=True):
        _add_to_metadata(meta, journal.read(folder, seed), location)
    meta.finalize()


def _open_metadata(root: Path, staging: Path, spec: DatasetSpec) -> LeRobotDatasetMetadata:
    repo_id = f"local/{root.name}"
    if (root / "meta" / "info.json").exists():
        shutil.copytree(root / "meta", staging / "meta")
        return LeRobotDatasetMetadata(repo_id, root=staging, metadata_buffer_size=_ROW_GROUP)
    return LeRobotDatasetMetadata.create(
        repo_id, spec.fps, spec.features(), root=staging, use_videos=spec.images == "video", metadata_buffer_size=_ROW_GROUP
    )


def _encoder() -> RGBEncoderConfig:
    options = journal.CODEC_OPTIONS
    return RGBEncoderConfig(
        vcodec=journal.CODEC, pix_fmt=journal.PIXEL_FORMAT, g=int(options["g"]), crf=int(options["crf"]), preset=options["preset"]
    )


class _Files:
    """Numbers the files of one kind: a new one starts when the last one is full, and never one that is already published."""

    def __init__(self, meta: LeRobotDatasetMetadata, prefix: str, limit_in_mb: int) -> None:
        self._prefix, self._chunks_size, self._limit = prefix, meta.chunks_size, limit_in_mb * 2**20
        self._next = 0
        if meta.episodes is not None and len(meta.episodes):
            last = meta.episodes[-1]
            self._next = last[f"{prefix}/chunk_index"] * meta.chunks_size + last[f"{prefix}/file_index"] + 1

    def is_full(self, size: int) -> bool:
        return size >= self._limit

    def start(self) -> Location:
        chunk, file = divmod(self._next, self._chunks_size)
        self._next += 1
        return {f"{self._prefix}/chunk_index": chunk, f"{self._prefix}/file_index": file}


def _write_data(meta: LeRobotDatasetMetadata, staging: Path, folder: Path, seeds: Sequence[int]) -> list[Location]:
    """The parquet files, one row group per episode."""
    files = _Files(meta, "data", meta.data_files_size_in_mb)
    schema = get_hf_features_from_features(meta.features).arrow_schema
    locations: list[Location] = []
    writer: pq.ParquetWriter | None = None
    sink: BinaryIO | None = None
    frame, location = meta.total_frames, {}
    for offset, seed in enumerate(seeds):
        if sink is None or files.is_full(sink.tell()):
            _close(writer, sink)
            location = files.start()
            path = staging / meta.data_path.format(chunk_index=location["data/chunk_index"], file_index=location["data/file_index"])
            path.parent.mkdir(parents=True, exist_ok=True)
            sink = path.open("wb")
            writer = pq.ParquetWriter(sink, schema, compression="snappy")
        assert writer is not None
        packed = journal.read(folder, seed)
        meta.save_episode_tasks(packed.tasks)
        columns = packed.columns | _index_columns(meta, packed, meta.total_episodes + offset, frame)
        writer.write_table(_table(schema, columns, packed))
        locations.append(dict(location))
        frame += packed.length
    _close(writer, sink)
    return locations


def _close(writer: pq.ParquetWriter | None, sink: BinaryIO | None) -> None:
    if writer is not None and sink is not None:
        writer.close()
        sink.close()


def _index_columns(meta: LeRobotDatasetMetadata, packed: PackedEpisode, episode: int, frame: int) -> dict[str, NDArray[Any]]:
    """The five columns LeRobot adds to every dataset."""
    steps = np.arange(packed.length)
    return {
        "timestamp": (steps / meta.fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(packed.length, episode),
        "index": frame + steps,
        "task_index": np.array([meta.get_task_index(task) for task in packed.task_at()]),
    }


def _table(schema: pa.Schema, columns: Mapping[str, NDArray[Any]], packed: PackedEpisode) -> pa.Table:
    arrays = []
    for field in schema:
        if field.name in packed.encoded:
            rows = [{"bytes": image, "path": _file_name(image, step)} for step, image in enumerate(packed.encoded[field.name])]
            arrays.append(pa.array(rows, type=field.type))
        elif columns[field.name].ndim == 1:
            arrays.append(pa.array(columns[field.name], type=field.type))
        else:
            flat = pa.array(columns[field.name].ravel(), type=field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _file_name(image: bytes, step: int) -> str:
    return f"frame-{step:06d}.{'jpg' if image.startswith(_JPEG) else 'png'}"


def _write_videos(meta: LeRobotDatasetMetadata, staging: Path, folder: Path, seeds: Sequence[int], key: str) -> Iterator[Location]:
    """The mp4 files of one camera: the episodes' packets, joined without decoding them."""
    files = _Files(meta, f"videos/{key}", meta.video_files_size_in_mb)
    batch: list[bytes] = []
    frames, location = 0, files.start()

    def save_batch() -> None:
        path = staging / str(meta.video_path).format(
            video_key=key, chunk_index=location[f"videos/{key}/chunk_index"], file_index=location[f"videos/{key}/file_index"]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(join_videos(batch, meta.fps))

    for seed in seeds:
        packed = journal.read(folder, seed)
        if files.is_full(sum(map(len, batch))):
            save_batch()
            batch, frames, location = [], 0, files.start()
        batch.append(packed.encoded[key][0])
        start, frames = frames, frames + packed.length
        yield {**location, f"videos/{key}/from_timestamp": start / meta.fps, f"videos/{key}/to_timestamp": frames / meta.fps}
    save_batch()


def join_videos(videos: Sequence[bytes], fps: int) -> bytes:
    """Mp4s of one codec without B-frames -> one mp4, frame i at i / `fps` seconds."""
    journal.quiet_libav()
    buffer = io.BytesIO()
    frame = 0
    with av.open(buffer, "w", format="mp4") as output:
        stream = None
        for video in videos:
            with av.open(io.BytesIO(video), "r") as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(source.streams.video[0]):
                    if packet.pts is None:  # the flushing packet at the end
                        continue
                    packet.time_base = Fraction(1, fps)
                    packet.pts = packet.dts = frame
                    packet.duration = 1
                    packet.stream = stream
                    output.mux(packet)
                    frame += 1
    return buffer.getvalue()


def _add_to_metadata(meta: LeRobotDatasetMetadata, packed: PackedEpisode, location: Location) -> None:
    episode, frame = meta.total_episodes, meta.total_frames
    statistics: dict[str, Statistics] = dict(packed.statistics)
    statistics |= {key: column_statistics(key, column) for key, column in _index_columns(meta, packed, episode, frame).items()}
    meta.save_episode(episode, packed.length, packed.tasks, statistics, location | packed.attributes)
