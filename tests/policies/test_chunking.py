"""History in, chunks out."""

import pytest
import torch

from handsight.policies.chunking import ChunkQueue, HistoryRing, select_offsets


def test_queue_gives_the_head_of_each_chunk() -> None:
    queue = ChunkQueue(3)
    queue.push(torch.arange(5.0).view(1, 5, 1))
    assert [queue.pop().item() for _ in range(3)] == [0, 1, 2]
    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.pop()


def test_ring_repeats_the_first_frame_before_the_episode() -> None:
    ring = HistoryRing({"touch": (-4, -1, 0), "image": (0,)})
    windows = []
    for step in range(7):
        ring.push({"touch": torch.full((2, 1), float(step)), "image": torch.zeros(2, 1)})
        windows.append(ring.windows()["touch"][0, :, 0].tolist())
    assert windows[0] == [0, 0, 0]
    assert windows[2] == [0, 1, 2]
    assert windows[6] == [2, 5, 6]
    assert "image" not in ring.windows()


def test_select_offsets() -> None:
    x = torch.arange(4).view(1, 4)
    assert select_offsets(x, (-5, -2, -1, 0), (-5, 0)).tolist() == [[0, 3]]
