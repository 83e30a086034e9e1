"""Reading robot actions: what each format gives, and what is said when a file cannot be used."""

from __future__ import annotations

import builtins
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.actions import ActionEpisodes, chunk_episodes, chunk_starts, read_actions
from zoo.errors import InputError, MissingExtraError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SAMPLE = Path(__file__).parents[2] / "zoo" / "data" / "samples" / "metaworld_expert.npz"


def arrays(*lengths, width=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, width)).astype(np.float32) for length in lengths]


def same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


# The shipped sample


def test_sample_is_four_solved_test_episodes():
    sample = read_actions(SAMPLE)
    assert [len(episode) for episode in sample.episodes] == [91, 82, 89, 56]
    assert sample.names == ["assembly-v3.09", "door-open-v3.09", "drawer-open-v3.09", "pick-place-v3.09"]
    assert (sample.control_rate, sample.dof_names) == (80.0, ("x", "y", "z", "gripper"))
    assert max(np.abs(episode).max() for episode in sample.episodes) == 1.0
    same(read_actions(SAMPLE, split="test").episodes, sample.episodes)
    with np.load(SAMPLE) as archive:
        assert archive["success"].all()
    assert SAMPLE.stat().st_size < 50_000


# NumPy files


def test_npy_of_one_episode_and_of_several(tmp_path):
    (one,) = arrays(7)
    np.save(tmp_path / "one.npy", one)
    read = read_actions(tmp_path / "one.npy")
    same(read.episodes, [one])
    assert (read.names, read.control_rate, read.dof_names) == (["one"], None, None)
    assert (read.num_dofs, read.num_steps) == (3, 7)
    batch = np.stack(arrays(5, 5))
    np.save(tmp_path / "batch.npy", batch.astype(np.float64))
    read = read_actions(str(tmp_path / "batch.npy"))
    same(read.episodes, list(batch))
    assert read.names == ["batch.000000", "batch.000001"]


def test_folder_of_npy_in_natural_order(tmp_path):
    episodes = arrays(3, 4, 5)
    for number, episode in zip((10, 2, 1), episodes, strict=True):
        np.save(tmp_path / f"ep_{number}.npy", episode)
    (tmp_path / "notes.txt").write_text("not actions")
    read = read_actions(tmp_path)
    assert read.names == ["ep_1", "ep_2", "ep_10"]
    same(read.episodes, episodes[::-1])


def test_npz_key(tmp_path):
    first, second = arrays(4, 6)
    np.savez(tmp_path / "a.npz", left=first, right=second)
    same(read_actions(tmp_path / "a.npz", key="right").episodes, [second])
    with pytest.raises(InputError, match=r"no array 'actions'.*'left', 'right'"):
        read_actions(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"no array 'rihgt'; did you mean 'right'"):
        read_actions(tmp_path / "a.npz", key="rihgt")
    np.savez(tmp_path / "b.npz", only=first)
    same(read_actions(tmp_path / "b.npz").episodes, [first])
    np.savez(tmp_path / "c.npz", actions=first, other=second)
    same(read_actions(tmp_path / "c.npz").episodes, [first])


def archive(path, **changes):
    episodes = arrays(4, 1, 6)
    held = {
        "actions": np.concatenate(episodes),
        "offsets": np.array([0, 4, 5, 11]),
        "names": np.array(["a", "b", "c"]),
        "split": np.array(["train", "test", "train"]),
        "dof_names": np.array(["x", "y", "z"]),
        "control_rate": np.float64(20),
    } | changes
    np.savez(path, **{name: value for name, value in held.items() if value is not None})
    return episodes


def test_npz_of_many_episodes(tmp_path):
    episodes = archive(tmp_path / "a.npz")
    read = read_actions(tmp_path / "a.npz")
    same(read.episodes, episodes)
    assert (read.names, read.control_rate, read.dof_names) == (["a", "b", "c"], 20.0, ("x", "y", "z"))
    part = read_actions(tmp_path / "a.npz", split="train")
    assert part.names == ["a", "c"]
    same(part.episodes, [episodes[0], episodes[2]])
    with pytest.raises(InputError, match="no split 'val'; known: test, train"):
        read_actions(tmp_path / "a.npz", split="val")
    archive(tmp_path / "bare.npz", names=None, split=None, dof_names=None, control_rate=None)
    assert read_actions(tmp_path / "bare.npz").names == ["bare.000000", "bare.000001", "bare.000002"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0, 4, 5, 12])}, "offsets must rise from 0 to the 11 rows"),
        ({"offsets": np.array([1, 4, 5, 11])}, "offsets must rise from 0"),
        ({"offsets": np.array([0, 6, 5, 11])}, "and fall in between"),
        ({"offsets": np.array([0.0, 4, 5, 11])}, "offsets must be integers"),
        ({"offsets": np.array([0, 4, 4, 11])}, "'b' is empty"),
        ({"names": np.array(["a", "b"])}, "'names'.* must be 3 strings"),
        ({"split": np.array([1, 2, 3])}, "'split'.* must be 3 strings"),
        ({"dof_names": np.array(["x"])}, "'dof_names'.* must be 3 strings"),
        ({"control_rate": np.array([1.0, 2.0])}, "control_rate.* must be one number"),
        ({"control_rate": np.float64(-3)}, "control_rate must be a positive"),
        ({"names": np.array(["a", "b", "c"], dtype=object)}, "never unpickled"),
    ],
)
def test_npz_that_contradicts_itself(tmp_path, changes, message):
    archive(tmp_path / "a.npz", **changes)
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path / "a.npz", split="train" if "split" in changes else None)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickles_are_not_opened(tmp_path):
    mark = tmp_path / "unpickled"
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()
    mark.unlink()
    np.save(tmp_path / "o.npy", np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Bomb(mark)))
    np.savez(tmp_path / "o.npz", actions=np.array([[Bomb(mark)]], dtype=object))
    for name in ("o.npy", "p.npy", "o.npz"):
        with pytest.raises(InputError, match="never unpickled"):
            read_actions(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"shape \[5\]: write a single degree of freedom as \[steps, 1\]"),
        (np.zeros((2, 3, 4, 5)), r"got shape \[2, 3, 4, 5\]"),
        (np.zeros((0, 3)), "is empty"),
        (np.zeros((3, 0)), "is empty"),
        (np.zeros((0, 3, 2)), "no episode"),
        (np.array([["a"]]), "must be an array of numbers, got <U1"),
        (np.zeros((2, 2), dtype=np.complex64), "must be an array of numbers, got complex64"),
    ],
)
def test_unusable_arrays(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path / "x.npy")


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "inf")])
def test_value_that_is_not_finite_is_named(tmp_path, value, shown):
    batch = np.zeros((3, 4, 2))
    batch[1, 2, 1] = value
    np.save(tmp_path / "x.npy", batch)
    with pytest.raises(InputError, match=f"'x.000001' holds {shown} at step 2, DoF 1; 1 of its"):
        read_actions(tmp_path / "x.npy")
    actions = np.zeros((11, 3))
    actions[7, 1] = value
    archive(tmp_path / "x.npz", actions=actions)
    with pytest.raises(InputError, match=rf"'c' holds {shown} at step 2, DoF 1 \(y\)"):
        read_actions(tmp_path / "x.npz")


def test_files_that_are_not_what_they_say(tmp_path):
    for name, text in (("x.npy", "hello"), ("x.npz", "hello"), ("x.parquet", "hello"), ("e.npy", ""), ("e.npz", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="cannot be read as"):
            read_actions(tmp_path / name)
    np.save(tmp_path / "y.npy", np.zeros((4, 2)))
    whole = (tmp_path / "y.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    (tmp_path / "y.npz").write_bytes(whole)
    np.savez(tmp_path / "z.npz", actions=np.zeros((4, 2)))
    (tmp_path / "z.npy").write_bytes((tmp_path / "z.npz").read_bytes())
    (tmp_path / "x.bag").write_text("1,2\n")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("cut.npy", "cannot be read as"),
        ("y.npz", r"single array: name it \.npy"),
        ("z.npy", r"archive of arrays: name it \.npz"),
        ("x.bag", "not of a kind that actions are read from.*numpy.savez"),
        ("absent.npy", "does not exist"),
        ("empty", "neither .npy files nor a LeRobotDataset"),
    ):
        with pytest.raises(InputError, match=message):
            read_actions(tmp_path / name)


def test_arguments_without_meaning_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    write_table(tmp_path / "x.parquet", action=[[1.0]])
    lerobot_v3(tmp_path / "set")
    for path, argument in (
        ("x.npy", {"key": "a"}),
        ("x.npy", {"split": "train"}),
        (".", {"column": "action"}),
        ("x.parquet", {"key": "a"}),
        ("set", {"key": "a"}),
    ):
        with pytest.raises(InputError, match=f"{next(iter(argument))}=.* has no meaning for"):
            read_actions(tmp_path / path, **argument)


def test_widths_must_agree(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.save(tmp_path / "b.npy", np.zeros((2, 4)))
    with pytest.raises(InputError, match="'b' has 4 degrees of freedom and 'a' has 3"):
        read_actions(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "no episode"),
        ((arrays(2), ["a", "b"]), "1 episodes need as many names, got 2"),
        (([np.zeros((2, 2))], ["a"]), "must be a float32 array"),
        ((arrays(2), ["a"], float("nan")), "control_rate"),
        ((arrays(2), ["a"], 0), "control_rate"),
        ((arrays(2), ["a"], None, ("x",)), "3 degrees of freedom need as many dof_names"),
    ],
)
def test_episodes_check_themselves(arguments, message):
    with pytest.raises(InputError, match=message):
        ActionEpisodes(*arguments)


# Parquet


def write_table(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3)])
def test_parquet_column_of_lists(tmp_path, kind):
    (one,) = arrays(5)
    write_table(tmp_path / "x.parquet", action=pa.array(one.tolist(), type=kind), action_is_pad=[False] * 5)
    same(read_actions(tmp_path / "x.parquet").episodes, [one])


def test_parquet_columns_of_numbers(tmp_path):
    (one,) = arrays(5)
    write_table(tmp_path / "x.parquet", x=one[:, 0], y=one[:, 1], grip=one[:, 2] > 0, note=["a"] * 5)
    read = read_actions(tmp_path / "x.parquet", column=["grip", "x"])
    same(read.episodes, [np.stack([one[:, 2] > 0, one[:, 0]], axis=1)])
    assert read.dof_names == ("grip", "x")
    same(read_actions(tmp_path / "x.parquet", column="y").episodes, [one[:, 1:2]])
    with pytest.raises(InputError, match=r"no column 'action'; it has 'x', 'y', 'grip', 'note'"):
        read_actions(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="must hold numbers or lists of numbers, it holds string"):
        read_actions(tmp_path / "x.parquet", column="note")
    with pytest.raises(InputError, match="name at least one column"):
        read_actions(tmp_path / "x.parquet", column=[])


def test_parquet_column_whose_name_continues_another(tmp_path):
    write_table(tmp_path / "x.parquet", **{"action.x": [9.0, 9.0], "action": [[1.0], [2.0]]})
    same(read_actions(tmp_path / "x.parquet").episodes, [np.array([[1], [2]], dtype=np.float32)])


def test_parquet_episodes(tmp_path):
    first, second = arrays(3, 2)
    rows = [*first.tolist(), *second.tolist()]
    write_table(tmp_path / "x.parquet", actions=rows, episode_index=[7, 7, 7, 2, 2], frame_index=[0, 1, 2, 0, 1])
    read = read_actions(tmp_path / "x.parquet")
    same(read.episodes, [first, second])
    assert read.names == ["episode_000007", "episode_000002"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"action": [[1.0, 2.0], [3.0]]}, "Row 1 of column 'action'.* has 1 values and row 0 has 2"),
        ({"action": [[1.0], None]}, "Row 1 of column 'action'.* is missing"),
        ({"action": [[1.0, 2.0], [1.0, None]]}, "Row 1 of column 'action'.* has a missing value"),
        ({"action": [[[1.0]], [[1.0]]]}, "must hold numbers or lists of numbers"),
        ({"action": [[1.0], [2.0], [3.0]], "episode_index": [0, 1, 0]}, "rows of episode 0 .* are scattered"),
        (
            {"action": [[1.0], [2.0]], "episode_index": [0, 0], "frame_index": [1, 0]},
            "frames of episode 0 .* out of order",
        ),
        ({"action": [[1.0]], "episode_index": ["a"]}, "must be integers, got string"),
        ({"action": pa.array([], type=pa.list_(pa.float32()))}, "is empty"),
        ({"action": [[], []]}, "must hold numbers|is empty"),
        ({"action": [[1.0], [float("nan")]]}, "holds nan at step 1, DoF 0"),
    ],
)
def test_parquet_that_cannot_be_used(tmp_path, columns, message):
    write_table(tmp_path / "x.parquet", **columns)
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path / "x.parquet")


def test_parquet_with_one_name_twice(tmp_path):
    table = pa.Table.from_arrays([pa.array([[1.0]]), pa.array([[2.0]])], names=["action", "action"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="more than one column named 'action'"):
        read_actions(tmp_path / "x.parquet")


def test_parquet_mixing_lists_and_numbers(tmp_path):
    write_table(tmp_path / "x.parquet", action=[[1.0, 2.0]], grip=[3.0])
    read = read_actions(tmp_path / "x.parquet", column=["action", "grip"])
    assert read.episodes[0].tolist() == [[1, 2, 3]]
    assert read.dof_names == ("action.0", "action.1", "grip")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write_table(tmp_path / "x.parquet", action=[[1.0]])
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    normal = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return normal(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"tokenizer-zoo\[actions\]"):
        read_actions(tmp_path / "x.parquet")
    assert read_actions(tmp_path / "x.npy").num_steps == 2


# LeRobotDataset

LENGTHS = (5, 3, 4)


def info_of(version, path, **changes):
    action = {"dtype": "float32", "shape": [3], "names": ["x", "y", "grip"]}
    return {
        "codebase_version": version,
        "robot_type": "unknown",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 1,
        "chunks_size": 2,
        "fps": 30,
        "splits": {"train": "0:2", "test": "2:3"},
        "data_path": path,
        "video_path": None,
        "features": {"action": action, "observation.state": {"dtype": "float32", "shape": [2], "names": None}},
    } | changes


def frames(episodes, first=0):
    """The columns that lerobot writes, for episodes numbered from `first`."""
    lengths = [len(episode) for episode in episodes]
    rows = np.concatenate(episodes)
    frame = np.concatenate([np.arange(length) for length in lengths])
    return {
        "action": pa.array(rows.tolist(), type=pa.list_(pa.float32(), rows.shape[1])),
        "observation.state": [[0.0, 0.0]] * len(rows),
        "timestamp": (frame / 30).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(np.arange(len(lengths)) + first, lengths),
        "index": np.arange(len(rows)),
        "task_index": np.zeros(len(rows), dtype=np.int64),
    }


def write_info(root, info):
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def lerobot_v2(root, version="v2.1", listing=None, **changes):
    episodes = arrays(*LENGTHS)
    write_info(root, info_of(version, "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", **changes))
    lines = [{"episode_index": n, "tasks": ["lift"], "length": length} for n, length in enumerate(LENGTHS)]
    text = "\n".join(map(json.dumps, lines)) + "\n" if listing is None else listing
    (root / "meta" / "episodes.jsonl").write_text(text)
    for number, episode in enumerate(episodes):
        path = root / "data" / f"chunk-{number // 2:03d}" / f"episode_{number:06d}.parquet"
        write_table(path, **frames([episode], number))
    return episodes


def lerobot_v3(root, table=None, **changes):
    episodes = arrays(*LENGTHS)
    write_info(root, info_of("v3.0", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", **changes))
    listing = {
        "episode_index": [0, 1, 2],
        "tasks": [["lift"]] * 3,
        "length": list(LENGTHS),
        "data/chunk_index": [0, 0, 0],
        "data/file_index": [0, 0, 1],
        "dataset_from_index": [0, 5, 8],
        "dataset_to_index": [5, 8, 12],
        "stats/action/min": [[0.0] * 3] * 3,
    } | (table or {})
    listing = {name: column for name, column in listing.items() if column is not None}
    write_table(root / "meta" / "episodes" / "chunk-000" / "file-000.parquet", **listing)
    write_table(root / "data" / "chunk-000" / "file-000.parquet", **frames(episodes[:2]))
    write_table(root / "data" / "chunk-000" / "file-001.parquet", **frames(episodes[2:], 2))
    return episodes


WRITERS = {
    "v2.0": lambda root, **changes: lerobot_v2(root, "v2.0", **changes),
    "v2.1": lerobot_v2,
    "v3.0": lerobot_v3,
}


@pytest.mark.parametrize("version", WRITERS)
def test_lerobot(tmp_path, version):
    episodes = WRITERS[version](tmp_path)
    read = read_actions(tmp_path)
    same(read.episodes, episodes)
    assert read.names == ["episode_000000", "episode_000001", "episode_000002"]
    assert (read.control_rate, read.dof_names) == (30.0, ("x", "y", "grip"))
    part = read_actions(tmp_path, split="test")
    same(part.episodes, episodes[2:])
    assert part.names == ["episode_000002"]
    same(read_actions(tmp_path, split="train").episodes, episodes[:2])
    assert read_actions(tmp_path, column="observation.state").num_dofs == 2


@pytest.mark.parametrize("version", WRITERS)
def test_lerobot_split_needs_only_its_files(tmp_path, version):
    WRITERS[version](tmp_path)
    kept = {"v3.0": "file-001"}.get(version, "episode_000002")
    for path in (tmp_path / "data").rglob("*.parquet"):
        if path.stem != kept:
            path.unlink()
    assert read_actions(tmp_path, split="test").num_steps == LENGTHS[2]
    with pytest.raises(InputError, match="holds episode 0, is missing: download"):
        read_actions(tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (None, None),
        (["actions"], None),
        ({"motors": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"c": 2, "a": 0, "b": 1}, ("a", "b", "c")),
        ({"left": ["a", "b"], "right": ["c"]}, ("a", "b", "c")),
        ([["a", "b", "c"]], None),
        (7, None),
    ],
)
def test_lerobot_joint_names(tmp_path, names, found):
    lerobot_v3(tmp_path, features={"action": {"dtype": "float32", "shape": [3], "names": names}})
    assert read_actions(tmp_path).dof_names == found


@pytest.mark.parametrize(
    "template",
    [
        "../outside.parquet",
        "data/../../outside.parquet",
        "data\\..\\..\\outside.parquet",
        "/etc/outside.parquet",
        "C:\\outside.parquet",
        "data/{chunk_index.__class__}.parquet",
        "data/{chunk_index!r}.parquet",
        "data/{chunk_index:0999999999d}.parquet",
        "data/{video_key}.parquet",
        "data/{0}.parquet",
        "data/{chunk_index",
        "data/\0.parquet",
        7,
    ],
)
def test_lerobot_template_stays_inside(tmp_path, template):
    root = tmp_path / "set"
    episodes = lerobot_v3(root, data_path=template)
    write_table(tmp_path / "outside.parquet", **frames(episodes))
    with pytest.raises(InputError, match="data_path"):
        read_actions(root)


def test_lerobot_overlong_template(tmp_path):
    lerobot_v3(tmp_path, data_path="data/" + "a" * 5000)
    with pytest.raises(InputError, match="cannot be read as a file of the dataset"):
        read_actions(tmp_path)


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_frames": 13}, "total_frames = 13, the list of episodes has 12"),
        ({"total_episodes": 4}, "total_episodes = 4, the list of episodes has 3"),
        ({"fps": 0}, "fps must be a positive number, got 0"),
        ({"fps": "30"}, "fps must be a positive number"),
        ({"fps": 10**400}, "fps must be a positive number"),
        ({"codebase_version": "v1.6"}, "is of version 'v1.6'; versions v2.0, v2.1, v3.0 are read"),
        ({"features": None}, "lacks 'features'"),
        ({"features": {"observation.state": {}}}, "describes no column 'action'; it has 'observation.state'"),
        ({"splits": {"test": "3"}}, "must be like '0:50'"),
        ({"splits": None}, "no split 'test'"),
        ({"splits": {"test": "9:12"}}, "no episode"),
    ],
)
def test_lerobot_metadata_that_cannot_be_used(tmp_path, version, changes, message):
    WRITERS[version](tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path, split="test" if "splits" in changes else None)


@pytest.mark.parametrize("version", WRITERS)
def test_lerobot_rows_must_match_the_metadata(tmp_path, version):
    WRITERS[version](tmp_path)
    path = sorted((tmp_path / "data").rglob("*.parquet"))[0]
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(InputError, match="Episode 0 has 5 frames by the metadata and 4 rows"):
        read_actions(tmp_path)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("not json\n", "line 1 is not JSON"),
        ("[1]\n", "line 1 must be a JSON object"),
        ('{"episode_index": 0}\n', "length must be an integer of at least 0, got None"),
        ('{"episode_index": -1, "length": 5}\n', "episode_index must be an integer of at least 0, got -1"),
        ('{"episode_index": true, "length": 5}\n', "episode_index must be an integer"),
        ('{"episode_index": 0, "length": 5}\n' * 2, "names an episode twice"),
        ("[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_lerobot_v2_listing_that_cannot_be_used(tmp_path, listing, message):
    lerobot_v2(tmp_path, listing=listing)
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"length": [5, 3, 5]}, r"episode 2: 5 frames, but dataset_from_index to dataset_to_index is 4"),
        ({"data/file_index": None}, "no column 'data/file_index'"),
        ({"data/file_index": [0, None, 1]}, "data/file_index must be an integer of at least 0, got None"),
        ({"episode_index": [0, 1, 1]}, "names an episode twice"),
    ],
)
def test_lerobot_v3_listing_that_cannot_be_used(tmp_path, table, message):
    lerobot_v3(tmp_path, table=table)
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path)


def test_lerobot_v2_listing_may_have_empty_lines(tmp_path):
    lines = [json.dumps({"episode_index": n, "length": length}) for n, length in enumerate(LENGTHS)]
    episodes = lerobot_v2(tmp_path, listing="\n\n".join(lines))
    same(read_actions(tmp_path).episodes, episodes)


def test_lerobot_columns_that_cannot_be_chosen(tmp_path):
    lerobot_v3(tmp_path)
    with pytest.raises(InputError, match="name at least one column"):
        read_actions(tmp_path, column=[])
    for path in (tmp_path / "data").rglob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns("episode_index"), path)
    with pytest.raises(InputError, match="holds 2 episodes and no column 'episode_index'"):
        read_actions(tmp_path)


def test_lerobot_missing_listings(tmp_path):
    lerobot_v2(tmp_path / "two")
    (tmp_path / "two" / "meta" / "episodes.jsonl").unlink()
    write_info(tmp_path / "three", info_of("v3.0", ""))
    for name, file in (("two", "episodes.jsonl"), ("three", "file-000.parquet")):
        with pytest.raises(InputError, match=f"{file}' is missing: the folder is not a complete LeRobotDataset"):
            read_actions(tmp_path / name)


def test_lerobot_of_one_degree_of_freedom(tmp_path):
    """Features of one number are stored as numbers, not as lists."""
    lerobot_v3(tmp_path, features={"gripper": {"dtype": "float32", "shape": [1], "names": ["gripper"]}})
    for path in (tmp_path / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.append_column("gripper", pa.array([0.5] * len(table), type=pa.float32())), path)
    read = read_actions(tmp_path, column="gripper")
    assert (read.num_dofs, read.dof_names) == (1, ("gripper",))


# Chunks


def test_chunks_by_hand():
    first, second = np.arange(5, dtype=np.float32)[:, None], np.array([[9]], dtype=np.float32)
    chunks, lengths = chunk_episodes([first, second], 2)
    assert chunks[..., 0].tolist() == [[0, 1], [2, 3], [4, 4], [9, 9]]
    assert lengths.tolist() == [2, 2, 1, 1]
    assert chunk_starts([5, 1], 2).tolist() == [[0, 0], [0, 2], [0, 4], [1, 0]]
    chunks, lengths = chunk_episodes([first], 3, stride=1)
    assert chunks[..., 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert (chunks.dtype, lengths.dtype) == (np.float32, np.int64)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 12), st.data())
@settings(max_examples=60, deadline=None)
def test_chunks_hold_every_step_and_repeat_the_last(lengths, horizon, data):
    stride = data.draw(st.integers(1, horizon))
    episodes = arrays(*lengths, width=2)
    chunks, valid = chunk_episodes(episodes, horizon, stride)
    starts = chunk_starts(lengths, horizon, stride)
    assert chunks.shape == (len(starts), horizon, 2)
    seen = [np.zeros(length, dtype=bool) for length in lengths]
    for chunk, count, (episode, start) in zip(chunks, valid, starts, strict=True):
        assert 1 <= count <= horizon
        np.testing.assert_array_equal(chunk[:count], episodes[episode][start : start + count])
        np.testing.assert_array_equal(chunk[count:], np.broadcast_to(episodes[episode][-1], (horizon - count, 2)))
        assert count == horizon or start + count == lengths[episode]
        seen[episode][start : start + count] = True
    assert all(part.all() for part in seen)
    if stride == horizon:
        assert valid.sum() == sum(lengths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((arrays(4), 0), "horizon must be at least 1"),
        ((arrays(4), 2, 3), "stride must lie in 1..2"),
        ((arrays(4), 2, 0), "stride must lie in 1..2"),
        (([], 2), "no episode"),
        (([np.zeros((0, 2), dtype=np.float32)], 2), "is empty"),
        ((["a"], 2), "must be an array of numbers"),
    ],
)
def test_chunks_that_cannot_be_cut(arguments, message):
    with pytest.raises(InputError, match=message):
        chunk_episodes(*arguments)
