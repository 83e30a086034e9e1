"""Videos for training: clips, where they begin, lists of shots, and what cannot be used."""

import gc
import json
import resource
from pathlib import Path

import pytest
import torch
from clips import encoded, frames_of, is_mirrored, write
from pictures import tar_of

from zoo.data._clip import read_clip, video_facts
from zoo.data.media import read_video
from zoo.data.videos import VideoBatch, VideoData
from zoo.errors import ConfigError, InputError

LONG = encoded(24)
SHORT = encoded(5)


def clips_of(data, split="train"):
    items = data.dataset(split)
    return [frames_of(items[place].video) for place in range(len(items))]


# Reading from the middle


@pytest.mark.parametrize(
    ("kind", "options"), [("mp4", {"g": "8"}), ("mp4", {"g": "100", "bf": "0"}), ("mpeg", {}), ("avi", {"g": "9"})]
)
@pytest.mark.parametrize("frame_rate", [None, 4.0, 25.0])
def test_a_clip_is_a_part_of_the_whole(kind, options, frame_rate):
    content = encoded(24, kind, rate=25 if kind == "mpeg" else 10, options=options)
    whole, rate = read_video(content, frame_rate=frame_rate)
    for first in (0, 1, whole.shape[1] - 3):
        clip, length = read_clip(content, num_frames=3, start=first / rate, frame_rate=frame_rate)
        assert length == 3
        assert torch.equal(clip, whole[:, first : first + 3]), first


def test_a_clip_of_a_gif_which_cannot_be_jumped_into():
    content = encoded(9, "gif")
    assert video_facts(content).num_frames == 9
    clip, _ = read_clip(content, num_frames=3, start=0.4)
    assert torch.equal(clip, read_video(content)[0][:, 4:7])


def test_a_clip_is_resized_as_a_whole_video_is():
    content = encoded(4, size=(48, 32))
    clip, _ = read_clip(content, num_frames=2, start=0.1, size=16)
    error = (clip - read_video(content, size=16)[0][:, 1:3]).abs()
    assert error.max() < 4 / 255, "at an edge"
    assert error.mean() < 0.2 / 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0.3}, "has 2 frames from 0.30 s, a clip has 4: .*repeat_last"),
        ({"end": 0.2}, "has 2 frames from 0.00 s to 0.20 s"),
        ({"start": 7.0, "repeat_last": True}, "has no frame at 7.00 s"),
        ({"start": -1.0}, "start at least 0 s"),
    ],
)
def test_clips_that_are_not_there(options, message):
    with pytest.raises(InputError, match=message):
        read_clip(SHORT, num_frames=4, **options)


def test_reading_clips_leaves_nothing_behind(tmp_path):
    path = write(tmp_path / "a.mp4", LONG)

    def read(times):
        for start in range(times):
            read_clip(path, num_frames=2, start=start % 20 / 10)
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(list(Path("/proc/self/fd").iterdir()))

    read(10)
    memory, files = read(2)
    more_memory, more_files = read(30)
    assert more_files == files
    assert more_memory - memory < 2_000, "kB, of which a decoder that stays open takes hundreds"


# Clips of a data set


def test_a_batch(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.mp4", LONG)
    data = VideoData(str(tmp_path), num_frames=4, size=16, batch_size=3)
    loader = data.train_dataloader()
    batches = list(loader)
    assert [type(batch) for batch in batches] == [VideoBatch] * 4, "6 clips of 4 frames fit into each of two files"
    batch = batches[0]
    assert (batch.videos.shape, batch.videos.dtype) == ((3, 3, 4, 16, 16), torch.float32)
    assert batch.lengths.tolist() == [4, 4, 4]
    starts = {
        name: frames_of(clip)[0] for batch in batches for name, clip in zip(batch.names, batch.videos, strict=True)
    }
    assert all(name.endswith(f".mp4, frame {start}") for name, start in starts.items())
    for clip in batch.videos:
        first = frames_of(clip)[0]
        assert frames_of(clip) == list(range(first, first + 4))
    loader.order.set_epoch(1)
    assert {name for batch in loader for name in batch.names} != set(starts), "other starts in another epoch"


def test_the_same_clips_after_a_restart_and_with_workers(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.mp4", LONG)
    data = VideoData(str(tmp_path), num_frames=4, flip=True, batch_size=1, sampling="shot", seed=3)
    whole = list(data.train_dataloader())
    data = VideoData(str(tmp_path), num_frames=4, flip=True, batch_size=1, sampling="shot", seed=3, num_workers=1)
    resumed = data.train_dataloader()
    resumed.load_state_dict({**resumed.state_dict(), "batches": 1})
    rest = list(resumed)
    assert [batch.names for batch in rest] == [batch.names for batch in whole[1:]]
    assert all(torch.equal(a.videos, b.videos) for a, b in zip(rest, whole[1:], strict=True))


def test_evaluation_is_on_a_grid_and_never_mirrored(tmp_path):
    write(tmp_path / "val" / "a.mp4", LONG)
    write(tmp_path / "val" / "b.mp4", encoded(10))
    data = VideoData(str(tmp_path), num_frames=8, stride=6, flip=True)
    starts = [0, 6, 12, 0]
    assert clips_of(data, "val") == [list(range(first, first + 8)) for first in starts]
    assert not any(is_mirrored(item.video) for item in map(data.dataset("val").__getitem__, range(4)))
    assert len(VideoData(str(tmp_path), num_frames=8, stride=6, eval_items=2).dataset("val")) == 2
    assert data.dataset("train") is None


def test_training_clips_are_mirrored_half_of_the_time(tmp_path):
    write(tmp_path / "a.mp4", SHORT)
    items = VideoData(str(tmp_path), num_frames=4, flip=True, sampling="shot").dataset("train")
    torch.manual_seed(0)
    assert {is_mirrored(items[0].video) for _ in range(12)} == {True, False}


def test_training_clips_are_cut_to_random_rectangles(tmp_path):
    write(tmp_path / "train" / "a.mp4", encoded(4, size=(32, 64)))
    write(tmp_path / "val" / "a.mp4", encoded(4, size=(32, 64)))
    data = VideoData(str(tmp_path), num_frames=4, size=16, random_crop=[0.25, 0.5], seed=1)
    items = data.dataset("train")
    torch.manual_seed(0)
    clips = [items[0].video for _ in range(8)]
    assert {clip.shape for clip in clips} == {(3, 4, 16, 16)}
    corners = [(clip[:, 1] > 0.9).float().mean() for clip in clips]
    assert len(set(map(float, corners))) > 2, "other rectangles hold more or less of the white corner"
    assert max(corners) > 0, "which is at the left edge, that the middle never has"
    for clip in clips:
        assert torch.equal(clip[:, 1] > 0.9, clip[:, 3] > 0.9), "one rectangle in all frames"
        assert clip.min() >= 0
        assert clip.max() <= 1
    middle = data.dataset("val")[0].video
    assert torch.equal(middle, VideoData(str(tmp_path), num_frames=4, size=16).dataset("val")[0].video)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"random_crop": [0.5, 1.0]}, "random_crop needs the size"),
        ({"random_crop": [0.0, 1.0], "size": 16}, "above 0 and up to 1"),
        ({"random_crop": [0.8, 0.5], "size": 16}, "smallest and the largest share"),
    ],
)
def test_rectangles_that_cannot_be(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        VideoData(str(tmp_path), **values)


def test_frames_are_dropped_for_a_lower_rate(tmp_path):
    write(tmp_path / "a.mp4", LONG)
    data = VideoData(str(tmp_path), splits={"test": "a.mp4"}, num_frames=3, frame_rate=5.0)
    assert clips_of(data, "test") == [[0, 2, 4], [6, 8, 10], [12, 14, 16], [18, 20, 22]]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_manifest_of_shots(tmp_path, kind):
    write(tmp_path / "films" / "a.mp4", LONG)
    rows = [
        {"path": "films/a.mp4", "start": 0.4, "end": 0.8, "label": 3, "source": "x", "split": "train"},
        {"path": "films/a.mp4", "start": 1.0, "duration": 0.9, "caption": "grey", "source": "y", "split": "train"},
        {"path": "films/a.mp4", "start": 2.0, "end": 2.4, "split": "validation", "frame_rate": 10},
    ]
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        keys = ("path", "start", "end", "duration", "frame_rate", "label", "caption", "source", "split")
        lines = [",".join(str(row.get(key, "")) for key in keys) for row in rows]
        text = "\r\n".join([",".join(keys), *lines, ""])
    write(tmp_path / f"manifest.{kind}", text.encode())
    for frame_rate in (None, 10.0):
        data = VideoData(str(tmp_path), num_frames=4, frame_rate=frame_rate)
        train = data.dataset("train")
        assert len(train) == 3
        assert (train[0].label, train[1].label, train[0].caption, train[1].caption) == (3, -1, "", "grey")
        assert frames_of(train[0].video) == [4, 5, 6, 7]
        firsts = {frames_of(train[1].video)[0] for _ in range(9)}
        assert firsts <= set(range(10, 16))
        assert len(firsts) > 1
        assert clips_of(data, "val") == [[20, 21, 22, 23]]
        assert data.dataset("test") is None
    only = VideoData(str(tmp_path / f"manifest.{kind}"), num_frames=4, sources=["y"], repeat={"y": 2})
    assert len(only.dataset("train")) == 4
    with pytest.raises(ConfigError, match="no source 'z'"):
        VideoData(str(tmp_path), sources=["z"]).dataset("train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "must be the path of a video"),
        ('{"path": "a.mp4", "start": "soon"}', "start must be a number of seconds"),
        ('{"path": "a.mp4", "start": 2, "end": 1}', "ends at 1 s, but begins at 2 s"),
        ('{"path": "a.mp4", "label": "cat"}', "label must be an integer"),
        ('{"path": "a.mp4", "source": 1}', "source must be text"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path, line, message):
    write(tmp_path / "train.jsonl", line.encode())
    with pytest.raises(InputError, match=rf"train\.jsonl', line 1: .*{message}"):
        VideoData(str(tmp_path)).dataset("train")


def test_classes_and_shards(tmp_path):
    for name in ("run", "walk"):
        write(tmp_path / "classes" / "train" / name / "a.mp4", SHORT)
    items = VideoData(str(tmp_path / "classes"), num_frames=4).dataset("train")
    assert ([items[0].label, items[1].label], items.shots.classes) == ([0, 1], ["run", "walk"])
    members = [("a.mp4", SHORT), ("a.txt", b"grey"), ("b.avi", encoded(9, "avi", first=3)), ("b.cls", b"2")]
    tar_of(tmp_path / "shards" / "train-0.tar", members)
    data = VideoData(str(tmp_path / "shards"), num_frames=4)
    items = data.dataset("train")
    assert [items[i].label for i in range(3)] == [-1, 2, 2]
    assert items[0].caption == "grey"
    assert items[0].name.startswith(f"{tmp_path}/shards/train-0.tar/a, frame ")


# What cannot be used


def test_shots_that_are_too_short(tmp_path):
    write(tmp_path / "train" / "a.mp4", SHORT)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be used: .* has 5 frames .* a clip has 8: .*repeat_last"):
        VideoData(str(tmp_path), num_frames=8).dataset("train")[0]
    batch = next(iter(VideoData(str(tmp_path), num_frames=8, repeat_last=True, batch_size=1).train_dataloader()))
    assert batch.lengths.tolist() == [5]
    assert frames_of(batch.videos[0]) == [0, 1, 2, 3, 4, 4, 4, 4]


def test_damaged_videos_are_replaced_counted_and_named(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.mp4", SHORT)
    write(tmp_path / "bad.mp4", SHORT[:-200])
    write(tmp_path / "empty.mp4", b"")
    with pytest.raises(InputError, match=r"(bad|empty)\.mp4 cannot be used: .* set data.corrupt to skip"):
        list(VideoData(str(tmp_path), num_frames=4, batch_size=5).train_dataloader())
    data = VideoData(str(tmp_path), num_frames=4, batch_size=5, corrupt="skip")
    with pytest.warns(UserWarning, match=r"2 videos could not be read, .*(bad|empty)\.mp4, .*All are in"):
        (batch,) = list(data.train_dataloader())
    assert {name.rsplit("/")[-1] for name in batch.corrupt} == {"bad.mp4", "empty.mp4"}
    assert data.corrupt_files == {name: batch.corrupt.count(name) for name in batch.corrupt}


def test_a_header_that_says_too_much(tmp_path):
    lines = {"path": "a.mp4", "duration": 9.0}
    write(tmp_path / "a.mp4", SHORT)
    write(tmp_path / "train.jsonl", json.dumps(lines).encode())
    items = VideoData(str(tmp_path), num_frames=4, frame_rate=10.0).dataset("train")
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be used: .*it is shorter than it says"):
        items[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "all"}, "sampling must be shot or start"),
        ({"num_frames": 0}, "num_frames must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"frame_rate": -1.0}, "frame_rate must be"),
        ({"size": [3, 0]}, "size must be"),
        ({"corrupt": "hide"}, "corrupt must be refuse or skip"),
        ({"columns": {"film": "x"}}, "columns has the key 'film'"),
    ],
)
def test_settings_that_cannot_be(tmp_path, options, message):
    write(tmp_path / "a.mp4", SHORT)
    with pytest.raises(ConfigError, match=message):
        VideoData(str(tmp_path), **options).dataset("train")


def test_videos_of_different_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.mp4", SHORT)
    write(tmp_path / "b.mp4", encoded(5, size=(32, 48)))
    with pytest.raises(InputError, match=r"is 32×(32|48), .* 32×(32|48)\. Set data\.size"):
        next(iter(VideoData(str(tmp_path), num_frames=4, batch_size=2).train_dataloader()))
    batch = next(iter(VideoData(str(tmp_path), num_frames=4, batch_size=2, size=16).train_dataloader()))
    assert batch.videos.shape == (2, 3, 4, 16, 16)
