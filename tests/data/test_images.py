"""Pictures for training: batches, damaged pictures, exact resumption."""

import pickle
import warnings

import lightning.pytorch as pl
import pyarrow.parquet as pq
import pytest
import torch
from pictures import encoded, folder_of, number_of, numbers, table_of, tar_of, write
from PIL import Image

from zoo.data.images import ImageBatch, ImageData
from zoo.errors import ConfigError, InputError

SQUARE = [{"name": "RandomResizedCrop", "size": 8}]
CENTER = [{"name": "Resize", "size": 8}, {"name": "CenterCrop", "size": 8}]


def test_a_batch(tmp_path):
    data = ImageData(str(folder_of(tmp_path, 5)), transforms=SQUARE, batch_size=2)
    batches = list(data.train_dataloader())
    assert [type(batch) for batch in batches] == [ImageBatch, ImageBatch]
    assert (batches[0].images.shape, batches[0].images.dtype) == ((2, 3, 8, 8), torch.float32)
    assert (batches[0].labels.tolist(), batches[0].labels.dtype) == ([-1, -1], torch.int64)
    assert [int(name[-7:-4]) for name in batches[0].names] == numbers(batches[0])
    assert batches[0].corrupt == []


def test_pictures_of_different_sizes_need_transforms(tmp_path):
    write(tmp_path / "a.png", encoded(1))
    write(tmp_path / "b.png", encoded(2, size=(5, 9)))
    with pytest.raises(InputError, match=r"[ab]\.png is (10×12|9×5), .*[ab]\.png (10×12|9×5).*transforms"):
        next(iter(ImageData(str(tmp_path), batch_size=2).train_dataloader()))
    (batch,) = ImageData(str(tmp_path), transforms=CENTER, batch_size=2).train_dataloader()
    assert batch.images.shape == (2, 3, 8, 8)


@pytest.mark.parametrize("layout", ["folder", "tar", "parquet"])
def test_the_same_pictures_after_a_restart_with_and_without_workers(tmp_path, layout):
    if layout == "folder":
        folder_of(tmp_path, 9)
    elif layout == "tar":
        tar_of(tmp_path / "train.tar", [(f"{number}.png", encoded(number)) for number in range(9)])
    else:
        pq.write_table(table_of(9), tmp_path / "train.parquet", row_group_size=2)

    def data(workers):
        noisy = [*SQUARE, {"name": "ColorJitter", "brightness": 0.5}, {"name": "GaussianNoise"}]
        return ImageData(str(tmp_path), transforms=noisy, batch_size=2, num_workers=workers, seed=3)

    whole = list(data(0).train_dataloader())
    first = data(0).train_dataloader()
    iterator = iter(first)
    next(iterator)
    state = first.state_dict()
    iterator.close()
    for workers in (0, 2) if layout != "parquet" else (0,):  # a forked Arrow warns of its threads
        resumed = data(workers).train_dataloader()
        resumed.load_state_dict(state)
        rest = list(resumed)
        assert [batch.names for batch in rest] == [batch.names for batch in whole[1:]]
        for batch, expected in zip(rest, whole[1:], strict=True):
            assert torch.equal(batch.images, expected.images)


# Damaged pictures


def with_damaged(root):
    folder_of(root, 6)
    write(root / "train" / "002.png", encoded(2, size=(50, 50))[:60])
    write(root / "train" / "004.png", b"")
    return str(root)


def test_a_damaged_picture_is_refused_by_name(tmp_path):
    data = ImageData(with_damaged(tmp_path), batch_size=6)
    with pytest.raises(InputError, match=r"train/00[24]\.png cannot be used: .* set data.corrupt to skip"):
        list(data.train_dataloader())


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_pictures_are_replaced_counted_and_named(tmp_path, workers):
    data = ImageData(with_damaged(tmp_path), corrupt="skip", batch_size=3, num_workers=workers, seed=1)
    loader = data.train_dataloader()
    with pytest.warns(UserWarning, match=r"2 pictures could not be read, .*00[24]\.png, .*00[24]\.png\. All are in"):
        batches = list(loader)
    assert [batch.images.shape[0] for batch in batches] == [3, 3]
    lost = [name for batch in batches for name in batch.corrupt]
    assert {name[-7:] for name in lost} == {"002.png", "004.png"}
    assert data.corrupt_files == {name: lost.count(name) for name in lost}
    shown = [number for batch in batches for number in numbers(batch)]
    assert set(shown) == {0, 1, 3, 5}
    again = ImageData(str(tmp_path), corrupt="skip", batch_size=3, seed=1)
    with pytest.warns(UserWarning, match="2 pictures"):
        assert [number for batch in again.train_dataloader() for number in numbers(batch)] == shown


def test_damaged_pictures_are_reported_by_a_trainer(tmp_path):
    class Counting(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, _):
            return batch.images.mean() * self.weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data = ImageData(with_damaged(tmp_path), corrupt="skip", batch_size=3)
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pl.Trainer(max_epochs=2, accelerator="cpu", **options).fit(Counting(), data)
    reports = [str(warning.message) for warning in caught if "could not be read" in str(warning.message)]
    assert len(reports) == 2, "one an epoch"
    assert {name[-7:] for name in data.corrupt_files} == {"002.png", "004.png"}


def test_when_nothing_can_be_read_it_ends(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png", b"not a picture")
    with pytest.raises(InputError, match=r"100 pictures of .* in a row cannot be read"):
        ImageData(str(tmp_path), corrupt="skip").dataset("train")[0]


@pytest.mark.parametrize(
    "member",
    [("x.cls", b"cat"), ("x.cls", b"1" * 40), ("x.json", b"{"), ("x.txt", b"\xff\xfe"), ("x.json", b'{"label": "a"}')],
)
def test_what_belongs_to_a_picture_may_be_damaged_too(tmp_path, member):
    tar_of(tmp_path / "train.tar", [("x.png", encoded(1)), member, ("y.png", encoded(2)), ("z.txt", b"no picture")])
    items = ImageData(str(tmp_path)).dataset("train")
    for index, name in ((0, "x"), (2, "z")):
        with pytest.raises(InputError, match=rf"train\.tar/{name}"):
            items[index]
    skipping = ImageData(str(tmp_path), corrupt="skip").dataset("train")
    assert {number_of(skipping[index].image) for index in range(3)} == {2}
    assert skipping[0].corrupt[0].endswith("train.tar/x")


def test_transparent_and_animated_pictures_are_refused_as_everywhere(tmp_path):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.save(tmp_path / "clear.png")
    with pytest.raises(InputError, match=r"clear\.png cannot be used: .*on_white"):
        ImageData(str(tmp_path)).dataset("train")[0]
    assert ImageData(str(tmp_path), on_white=True).dataset("train")[0].image.min() == 1
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "clear.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="2 frames"):
        ImageData(str(tmp_path)).dataset("train")[0]


def test_a_file_that_vanishes_is_a_damaged_picture(tmp_path):
    folder_of(tmp_path, 3)
    data = ImageData(str(tmp_path), corrupt="skip")
    items = data.dataset("train")
    (tmp_path / "train" / "001.png").unlink()
    assert items[1].corrupt[0].endswith("001.png")
    assert number_of(items[1].image) in (0, 2)


def test_wrong_settings_are_refused(tmp_path):
    for settings in ({"corrupt": "ignore"}, {"eval_items": 0}, {"repeat": {"a": 0}}, {"batch_size": 0}):
        with pytest.raises(ConfigError, match="data: "):
            ImageData(str(tmp_path), **settings)


def test_spawned_workers_get_everything_they_need(tmp_path):
    tar_of(tmp_path / "train.tar", [(f"{number}.png", encoded(number)) for number in range(4)])
    pq.write_table(table_of(3), tmp_path / "val.parquet")
    data = ImageData(str(tmp_path), transforms=SQUARE)
    for split in ("train", "val"):
        items = data.dataset(split)
        expected = items[1].image if split == "val" else None
        copied = pickle.loads(pickle.dumps(items))
        assert len(copied) == len(items)
        assert expected is None or torch.equal(copied[1].image, expected)
    assert pickle.loads(pickle.dumps(data)).collate([data.dataset("train")[0]]).images.shape == (1, 3, 8, 8)
