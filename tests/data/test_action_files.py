"""Files of actions as robots' software writes them: what is read, where episodes end, and what is refused."""

import io
import json
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from zoo.data import _hdf5
from zoo.data.actions import read_actions
from zoo.errors import InputError, MissingExtraError


def episodes(*lengths, dofs=2, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(length, dofs)).astype(np.float32) for length in lengths]


def same(read, expected):
    assert [len(each) for each in read.episodes] == [len(each) for each in expected]
    for one, other in zip(read.episodes, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# -------------------------------------------------------------------------------------------------- B8: LeRobot 0.4.0

LENGTHS = (5, 6, 7, 8)


def lerobot(root, written_to=(0, 0, 1, 1), said=(0, 0, 0, 1), **info):
    """Write a dataset 3.0 whose episodes may lie in another file than its metadata say."""
    starts = np.cumsum([0, *LENGTHS])
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    features = {"action": {"dtype": "float32", "shape": [2], "names": None}}
    facts = {"codebase_version": "v3.0", "fps": 30, "total_episodes": 4, "total_frames": 26, "features": features}
    (root / "meta/info.json").write_text(json.dumps({**facts, **info}))
    listing = {
        "episode_index": range(4), "length": LENGTHS, "data/chunk_index": [0] * 4, "data/file_index": said,
        "dataset_from_index": starts[:-1], "dataset_to_index": starts[1:],
    }  # fmt: skip
    pq.write_table(
        pa.table({k: list(v) for k, v in listing.items()}), root / "meta/episodes/chunk-000/file-000.parquet"
    )
    for number in sorted(set(written_to)):
        rows = [(e, i) for e in range(4) if written_to[e] == number for i in range(LENGTHS[e])]
        table = {
            "action": [[float(e), float(i)] for e, i in rows],
            "episode_index": [e for e, _ in rows],
            "frame_index": [i for _, i in rows],
        }
        pq.write_table(pa.table(table), root / f"data/chunk-000/file-{number:03d}.parquet")


@pytest.mark.parametrize(
    ("written_to", "said"),
    [
        ((0, 0, 1, 1), (0, 0, 0, 1)),  # as the converter wrote them
        ((0, 1, 2, 2), (0, 0, 1, 2)),  # at every border
        ((0, 0, 1, 1), (0, 0, 0, 0)),  # all are said to be in the first
        ((1, 1, 0, 0), (1, 1, 1, 0)),  # in the file before
    ],
)
def test_b8_episodes_are_found_in_the_next_file(tmp_path, written_to, said):
    lerobot(tmp_path, written_to, said)
    read = read_actions(tmp_path)
    assert [len(each) for each in read.episodes] == [5, 6, 7, 8]
    for number, each in enumerate(read.episodes):
        assert each[:, 0].tolist() == [number] * LENGTHS[number]
        assert each[:, 1].tolist() == list(range(LENGTHS[number]))


def test_b8_rows_that_are_nowhere_are_counted(tmp_path):
    lerobot(tmp_path)
    path = tmp_path / "data/chunk-000/file-001.parquet"
    pq.write_table(pq.read_table(path).slice(3), path)
    with pytest.raises(InputError, match=r"Episode 2 has 7 frames .* 0 rows in .*; of its rows there are 4 in 'data"):
        read_actions(tmp_path)


@pytest.mark.parametrize("splits", [5, True, "train", ["train"]])
def test_lerobot_splits_that_are_none(tmp_path, splits):
    lerobot(tmp_path, splits=splits)
    with pytest.raises(InputError, match="splits"):
        read_actions(tmp_path, split="train")


def test_r4_lerobot_actions_in_several_columns(tmp_path):
    features = {"action.arm": {"dtype": "float32"}, "action.grip": {"dtype": "float32"}, "observation": {}}
    lerobot(tmp_path, said=(0, 0, 1, 1), features=features)
    for path in (tmp_path / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        table = table.rename_columns(["action.arm", *table.column_names[1:]])
        pq.write_table(table.append_column("action.grip", pa.array([0.5] * len(table))), path)
    read = read_actions(tmp_path)
    assert read.dof_names == ("action.arm.0", "action.arm.1", "action.grip")
    assert read.episodes[3][7].tolist() == [3.0, 7.0, 0.5]
    assert read.unread == ("observation",)


# ------------------------------------------------------------------------------------------------- B15: hidden files


def test_b15_files_of_file_systems_are_left_out(tmp_path):
    apple = bytes([0, 5, 22, 7]) + bytes(60)
    np.save(tmp_path / "a.npy", np.zeros((5, 2)))
    (tmp_path / "._a.npy").write_bytes(apple)
    assert read_actions(tmp_path).names == ["a"]
    lerobot(tmp_path / "set")
    (tmp_path / "set/meta/episodes/chunk-000/._file-000.parquet").write_bytes(apple)
    (tmp_path / "set/data/chunk-000/._file-000.parquet").write_bytes(apple)
    assert len(read_actions(tmp_path / "set").episodes) == 4
    (tmp_path / "parts/.Trashes").mkdir(parents=True)
    (tmp_path / "parts/sub").mkdir()
    for name in (".Trashes/b.npy", "sub/._b.npy"):
        (tmp_path / "parts" / name).write_bytes(apple)
    np.save(tmp_path / "parts/sub/b.npy", np.zeros((5, 2)))
    assert read_actions(tmp_path / "parts").names == ["b"]


def test_b15_advice_of_numpy_is_not_passed_on(tmp_path):
    (tmp_path / "x.npy").write_bytes(bytes([0, 5, 22, 7]) + bytes(60))
    np.savez(tmp_path / "x.npz", actions=np.array([object()]))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InputError, match="never unpickled") as caught:
            read_actions(tmp_path / name)
        assert "allow_pickle" not in str(caught.value)


# ---------------------------------------------------------------------------------------- R3: where episodes end

A, B, C = episodes(4, 3, 5)
ALL = np.concatenate([A, B, C])
BORDERS = {
    "offsets": [0, 4, 7, 12],
    "lengths": [4, 3, 5],
    "episode_lengths": [4, 3, 5],
    "episode_ends": [4, 7, 12],
    "episode_index": [3] * 4 + [1] * 3 + [2] * 5,
    "episode": [0] * 4 + [1] * 3 + [2] * 5,
    "dones": [0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1],
    "terminals": [False] * 3 + [True] + [False] * 2 + [True] + [False] * 5,
}


@pytest.mark.parametrize("name", BORDERS)
def test_r3_usual_names_of_borders(tmp_path, name):
    np.savez(tmp_path / "x.npz", actions=ALL, **{name: np.array(BORDERS[name])}, images=np.zeros(3))
    read = read_actions(tmp_path / "x.npz")
    same(read, [A, B, C])
    assert read.unread == ("images",)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["actions"], file[name], file["images"] = ALL, np.array(BORDERS[name]), np.zeros(3)
    read = read_actions(tmp_path / "x.h5")
    same(read, [A, B, C])
    assert read.unread == ("images",)


def test_r3_timeouts_end_episodes_too(tmp_path):
    ends = np.zeros((12, 1)), np.zeros(12)
    ends[0][3], ends[1][6] = 1, 1
    np.savez(tmp_path / "x.npz", actions=ALL, terminals=ends[0], timeouts=ends[1])
    same(read_actions(tmp_path / "x.npz"), [A, B, C])


@pytest.mark.parametrize("name", ["episode_bounds", "traj", "demo_starts", "ends_of_rollouts", "EpisodeLen"])
def test_r3_what_may_be_borders_is_not_passed_over(tmp_path, name):
    np.savez(tmp_path / "x.npz", actions=ALL, **{name: np.array([4, 7, 12])})
    with pytest.raises(InputError, match=f"one long episode, and '{name}'"):
        read_actions(tmp_path / "x.npz")
    pq.write_table(pa.table({"action": ALL.tolist(), name: [0] * 12}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=f"one long episode, and '{name}'"):
        read_actions(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("borders", "message"),
    [
        ({"lengths": [4, 3]}, "add up to the 12 rows"),
        ({"lengths": [13, -1]}, "0 or more"),
        ({"lengths": [2**62, 2**62, 2**63 - 2**62]}, "add up to"),
        ({"episode_ends": [4, 3, 12]}, "fall in between"),
        ({"episode_index": [0, 1]}, "one number for each of the 12 rows"),
        ({"episode_index": [0, 1] * 6}, "scattered"),
        ({"dones": [True]}, "one flag for each row"),
        ({"offsets": [0.0, 12.0]}, "integers"),
    ],
)
def test_r3_borders_that_do_not_fit(tmp_path, borders, message):
    np.savez(tmp_path / "x.npz", actions=ALL, **{name: np.array(values) for name, values in borders.items()})
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["episode_index", "episode", "episode_id", "traj_id"])
def test_r3_parquet_names_of_episodes(tmp_path, name):
    table = {"action": ALL.tolist(), name: [0] * 4 + [1] * 3 + [5] * 5, "state": [0.0] * 12}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    read = read_actions(tmp_path / "x.parquet")
    same(read, [A, B, C])
    assert read.names[-1] == "episode_000005"
    assert read.unread == ("state",)


# -------------------------------------------------------------------------------------------------------- R4: formats


def test_r4_one_array_an_episode(tmp_path):
    np.savez(tmp_path / "x.npz", **{f"ep_{number}": each for number, each in enumerate(episodes(*range(1, 13)))})
    read = read_actions(tmp_path / "x.npz")
    same(read, episodes(*range(1, 13)))
    assert read.names[10] == "x.ep_10"
    np.savez(tmp_path / "y.npz", *[A, B], control_rate=20.0)
    assert read_actions(tmp_path / "y.npz").control_rate == 20
    np.savez(tmp_path / "z.npz", q_1=A, q_2=B[:, 0])
    with pytest.raises(InputError, match=r"'q_2' .* must be \[steps, DoFs\]"):
        read_actions(tmp_path / "z.npz")


def test_r4_aloha_is_a_file_an_episode(tmp_path):
    for number in (0, 1, 10):
        with h5py.File(tmp_path / f"episode_{number}.hdf5", "w") as file:
            file["action"], file["observations/qpos"] = np.full((4, 14), number), np.zeros((4, 14))
            file.attrs["sim"] = True
    read = read_actions(tmp_path)
    assert read.names == ["episode_0", "episode_1", "episode_10"]
    assert [each[0, 0] for each in read.episodes] == [0, 1, 10]
    assert read_actions(tmp_path / "episode_1.hdf5", key="observations/qpos").episodes[0].max() == 0


def robomimic(path):
    with h5py.File(path, "w") as file:
        for number, each in enumerate(episodes(3, 4, 5)):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"], demo["obs/eef"], demo["rewards"] = each, np.zeros((len(each), 3)), np.zeros(len(each))
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        file["mask/train"] = np.array([b"demo_2", b"demo_0"])


def test_r4_robomimic_has_demonstrations_and_splits(tmp_path):
    robomimic(tmp_path / "low_dim.hdf5")
    read = read_actions(tmp_path / "low_dim.hdf5")
    same(read, episodes(3, 4, 5))
    assert read.control_rate == 20
    assert set(read.unread) == {"obs", "rewards"}
    assert [len(each) for each in read_actions(tmp_path / "low_dim.hdf5", split="train").episodes] == [3, 5]
    assert read_actions(tmp_path / "low_dim.hdf5", key="obs/eef").num_dofs == 3
    with pytest.raises(InputError, match="no split 'valid'"):
        read_actions(tmp_path / "low_dim.hdf5", split="valid")


def test_r4_hdf5_that_cannot_be_used(tmp_path, monkeypatch):
    robomimic(tmp_path / "x.hdf5")
    with h5py.File(tmp_path / "link.hdf5", "w") as file:
        file["actions"] = h5py.ExternalLink("x.hdf5", "/data/demo_0/actions")
    with h5py.File(tmp_path / "none.hdf5", "w") as file:
        file["qpos"] = A
    (tmp_path / "cut.hdf5").write_bytes((tmp_path / "x.hdf5").read_bytes()[:500])
    for name, message in (("link", "another file"), ("none", "pass key="), ("cut", "cannot be read as HDF5")):
        with pytest.raises(InputError, match=message):
            read_actions(tmp_path / f"{name}.hdf5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"tokenizer-zoo\[hdf5\]"):
        _hdf5.read_hdf5(tmp_path / "x.hdf5", None, None)


def test_r4_csv(tmp_path):
    lines = ["t;action_x;action_y;state", *(f"{i};{x};{y};0" for i, (x, y) in enumerate(A))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    read = read_actions(tmp_path / "x.csv")
    np.testing.assert_allclose(read.episodes[0], A, atol=1e-6)
    assert read.dof_names == ("action_x", "action_y")
    assert read.unread == ("t", "state")
    (tmp_path / "y.csv").write_text("episode,step,x,y\n0,0,1,2\n0,1,3,4\n1,0,5,6\r\n")
    read = read_actions(tmp_path / "y.csv")
    assert [each.tolist() for each in read.episodes] == [[[1, 2], [3, 4]], [[5, 6]]]
    assert read_actions(tmp_path / "y.csv", column=["y"]).episodes[1].tolist() == [[6]]
    (tmp_path / "y.csv").write_text('\ufeffx,y,task\r\n1,2,"a\r\nb"\r\n3,4,c\u2028d\x0be\r\n', newline="")
    assert read_actions(tmp_path / "y.csv", column=["x", "y"]).episodes[0].tolist() == [[1, 2], [3, 4]]
    (tmp_path / "z.csv").write_text("1,2\n3,4\n")
    assert read_actions(tmp_path / "z.csv").episodes[0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("x,y\n1,2\n3\n", "row 1 of the data has 1 fields"),
        ("x,y\n1,two\n", "'two' in column 'y'"),
        ("x,y\n1,nan\n", "holds nan at step 0"),
        ("x,x\n1,2\n", "more than one column"),
        ("state,q\n1,2\n", "which columns are actions"),
        ("x,trajectory\n1,2\n", "one long episode"),
        ("x\n\xff\n", "UTF-8"),
        ('x\n"1\n', "CSV|no number"),
    ],
)
def test_r4_csv_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_actions(tmp_path / "x.csv")


def test_r4_folders_of_parquet(tmp_path):
    for number, each in enumerate((A, B)):
        path = tmp_path / "data" / f"chunk-{number:03d}" / "rows.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"action": each.tolist(), "episode_index": [0] * len(each)}), path)
    read = read_actions(tmp_path)
    same(read, [A, B])
    assert read.names == ["data/chunk-000/rows.episode_000000", "data/chunk-001/rows.episode_000000"]
    np.save(tmp_path / "data" / "chunk-000" / "x.npy", A)
    with pytest.raises(InputError, match=r"several kinds \(\.npy, \.parquet\)"):
        read_actions(tmp_path)


def test_r4_everything_that_is_read_can_be_encoded(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,c,d\n" + "0,0.5,0,1\n" * 20)
    assert zoo.load("binning").encode(tmp_path / "x.csv").ids.shape == (1, 80)


# ------------------------------------------------------------------------------------------------- damaged archives


def test_members_that_are_no_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", actions=ALL, names=np.array(["a"]))
    for bad in ("actions.npy", "names.npy", "offsets.npy"):
        with zipfile.ZipFile(tmp_path / "x.npz") as old, zipfile.ZipFile(tmp_path / "y.npz", "w") as new:
            for name in {*old.namelist(), bad}:
                new.writestr(name, b"not an array" if name == bad else old.read(name))
        with pytest.raises(InputError, match=f"'{bad[:-4]}' in .*cannot be read as a NumPy array"):
            read_actions(tmp_path / "y.npz")


def test_names_of_code_points_that_there_are_not(tmp_path):
    file = io.BytesIO()
    np.save(file, np.array(["a"]))
    spoilt = file.getvalue()[:-4] + b"\xff\xff\xff\x7f"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("names.npy", spoilt)
        whole = io.BytesIO()
        np.save(whole, ALL)
        archive.writestr("actions.npy", whole.getvalue())
    with pytest.raises(InputError, match="'names' in"):
        read_actions(tmp_path / "x.npz")
