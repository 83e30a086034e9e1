"""Pictures for training: every layout, whole and damaged."""

import json
import pickle
import tarfile
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import IMAGE, encoded, everything, number_of, table_of, tar_of, write

from zoo.data.images import ImageData
from zoo.data.images.layouts import find_pictures
from zoo.data.images.shards import TarPictures
from zoo.errors import ConfigError, InputError


def test_a_folder_is_read_recursively_in_the_order_of_names(tmp_path):
    write(tmp_path / "b" / "c" / "2.webp", encoded(2, kind="WEBP"))
    write(tmp_path / "a.PNG", encoded(1))
    write(tmp_path / "notes.txt", b"no picture")
    write(tmp_path / ".thumbnails" / "3.png", encoded(3))
    data = ImageData(str(tmp_path))
    assert everything(data) == [(1, -1, ""), (2, -1, "")]
    assert data.dataset("val") is None
    assert data.dataset("test") is None


def test_class_folders_give_the_labels_of_the_training_classes(tmp_path):
    for name, number in (("train/n01/a", 1), ("train/n02/b", 2), ("train/n03/c", 3), ("val/n03/d", 4), ("test/e", 5)):
        write(tmp_path / f"{name}.png", encoded(number))
    data = ImageData(str(tmp_path))
    assert everything(data) == [(1, 0, ""), (2, 1, ""), (3, 2, "")]
    assert everything(data, "val") == [(4, 2, "")], "counted among the classes of train, not of val"
    assert everything(data, "test") == [(5, -1, "")]
    assert list(data.dataset("val").pictures.classes) == ["n01", "n02", "n03"]
    write(tmp_path / "val/n3/x.png", encoded(6))
    with pytest.raises(InputError, match=r"n3 is no class of the training data.*did you mean 'n0"):
        data.dataset("val")


def test_a_text_beside_a_picture_is_its_caption(tmp_path):
    for name, number in (("train/n01/a", 1), ("train/n02/b", 2), ("val/c", 3)):
        write(tmp_path / f"{name}.png", encoded(number))
    write(tmp_path / "train/n01/a.txt", b" a cat\n")
    write(tmp_path / "val/c.txt", "ein Hund über dem Gras".encode())
    data = ImageData(str(tmp_path))
    assert everything(data) == [(1, 0, "a cat"), (2, 1, "")]
    assert everything(data, "val") == [(3, -1, "ein Hund über dem Gras")]
    write(tmp_path / "val/c.txt", b"\xff\xfe")
    with pytest.raises(InputError, match=r"c\.txt"):
        everything(data, "val")


class TestCoco:
    def write(self, folder, split="train2017", **changes):
        told = {
            "images": [{"id": 7, "file_name": "1.png"}, {"id": 9, "file_name": "2.png"}],
            "annotations": [
                {"image_id": 9, "id": 1, "caption": "A dog.\n"},
                {"image_id": 7, "id": 2, "caption": "A  cat."},
                {"image_id": 9, "id": 3, "caption": "Still a dog."},
            ],
        } | changes
        for number in (1, 2):
            write(folder / split / f"{number}.png", encoded(number))
        write(folder / "annotations" / f"captions_{split}.json", json.dumps(told).encode())

    def test_each_caption_is_an_item(self, tmp_path):
        self.write(tmp_path)
        self.write(tmp_path, "val2017", annotations=[{"image_id": 7, "caption": "One."}])
        data = ImageData(str(tmp_path))
        assert everything(data) == [(2, -1, "A dog."), (1, -1, "A cat."), (2, -1, "Still a dog.")]
        assert everything(data, "val") == [(1, -1, "One.")]
        assert data.dataset("test") is None
        named = ImageData(str(tmp_path), splits={"train": "annotations/captions_val2017.json"})
        assert everything(named) == [(1, -1, "One.")]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"annotations": []}, "lists no captions"),
            ({"annotations": [{"image_id": 1, "caption": "x"}]}, "image 1, which is not listed"),
            ({"annotations": [{"image_id": 7}]}, r"annotations\[0\] must have a caption"),
            ({"annotations": [3]}, "must have a caption"),
            ({"images": [{"id": 7}]}, r"images\[0\] must have an id and a file_name"),
            (
                {"images": [{"id": 7, "file_name": "x.png"}, {"id": 9, "file_name": "y.png"}]},
                "is in none",
            ),
        ],
        ids=str,
    )
    def test_what_contradicts_itself_is_refused(self, tmp_path, changes, message):
        self.write(tmp_path, **changes)
        with pytest.raises(InputError, match=message):
            everything(ImageData(str(tmp_path)))


def test_a_manifest_gives_labels_captions_and_sources(tmp_path):
    for number in range(4):
        write(tmp_path / "pictures" / f"{number}.png", encoded(number))
    lines = [
        {"image_filepath": "pictures/0.png", "source": "sky", "text": "null\u2028zwei", "width": 12},
        {"image_filepath": str(tmp_path / "pictures/1.png"), "label": 7},
        {"image_filepath": "pictures/2.png", "source": "sea", "caption": "two"},
        {"image_filepath": "pictures/3.png", "source": "sea"},
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "val.jsonl").write_text(text, encoding="utf-8")
    assert everything(ImageData(str(tmp_path))) == [(0, -1, "null\u2028zwei"), (1, 7, ""), (2, -1, "two"), (3, -1, "")]
    some = ImageData(str(tmp_path), sources=["sea", "sky"], repeat={"sky": 2}, eval_sources=["sky"], eval_items=1)
    assert [number for number, *_ in everything(some)] == [0, 0, 2, 3]
    assert [number for number, *_ in everything(some, "val")] == [0]
    with pytest.raises(ConfigError, match="no source 'see'; did you mean 'sea'"):
        ImageData(str(tmp_path), sources=["see"]).dataset("train")
    with pytest.raises(ConfigError, match="no source 'moon'"):
        ImageData(str(tmp_path), repeat={"moon": 2}).dataset("train")
    renamed = ImageData(str(tmp_path), columns={"caption": "source"})
    assert everything(renamed)[0] == (0, -1, "sky")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "image_filepath must be the path"),
        ('{"image_filepath": 3}', "image_filepath must be the path"),
        ('{"image_filepath": "a\\u0000b"}', "image_filepath must be the path"),
        ('{"image_filepath": "a.png", "label": "cat"}', "label must be an integer"),
        ('{"image_filepath": "a.png", "label": true}', "label must be an integer"),
        ('{"image_filepath": "a.png", "label": -2}', "label must be an integer"),
        ('{"image_filepath": "a.png", "text": ["a"]}', "caption must be text"),
        ('{"image_filepath": "a.png", "source": 3}', "source must be text"),
        ("[1]", "line 1"),
        ("", "lists nothing"),
    ],
)
def test_bad_manifests_are_refused_with_the_line(tmp_path, line, message):
    (tmp_path / "train.jsonl").write_text(line)
    with pytest.raises(InputError, match=message):
        ImageData(str(tmp_path)).dataset("train")


def test_tar_shards_are_grouped_by_key(tmp_path):
    tar_of(
        tmp_path / "train-000.tar",
        [
            ("a/0001.jpg.txt", b"not a caption of 0001: its suffix is jpg.txt"),
            ("a/0001.PNG", encoded(1)),
            ("a/0001.cls", b"12\n"),
            ("a/0001.txt", b" ein Vogel\n"),
            ("a/0001.seg.png", encoded(99)),
            ("b/0001.webp", encoded(2, kind="WEBP")),
            ("b/0001.json", b'{"caption": "b", "label": 3}'),
        ],
    )
    tar_of(tmp_path / "train-001.tar", [("./c.json", b'{"text": "c"}'), ("./c.png", encoded(3))])
    tar_of(tmp_path / "val.tar", [("v.png", encoded(4)), ("v.json", b'{"words": "v"}')])
    data = ImageData(str(tmp_path), columns={})
    assert everything(data) == [(1, 12, "ein Vogel"), (2, 3, "b"), (3, -1, "c")]
    assert everything(ImageData(str(tmp_path), columns={"caption": "words"}), "val") == [(4, -1, "v")]
    only = ImageData(str(tmp_path), splits={"train": "train-*1.tar"})
    assert everything(only) == [(3, -1, "c")]
    assert only.dataset("val") is None
    with pytest.raises(ConfigError, match="does not tell sources"):
        ImageData(str(tmp_path), sources=["a"]).dataset("train")


def test_a_tar_is_read_where_the_pictures_are_and_not_kept(tmp_path):
    large = encoded(5, size=(64, 64)) + bytes(400_000)  # PNG decoders stop at its end
    shard = tar_of(tmp_path / "train.tar", [(f"{number:04}.png", large) for number in range(60)])
    assert shard.stat().st_size > 20_000_000
    tracemalloc.start()
    pictures = TarPictures([shard], {})
    for index in (59, 0, 31):
        assert len(pictures.read(index).content) == len(large)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000, "a shard of 24 MB was taken into memory"
    tracemalloc.stop()
    assert len(pickle.dumps(pictures)) < 20_000


CUTS = {"in a picture": 1600, "in a header": 1124, "between members": 1024}


@pytest.mark.parametrize("kind", [*CUTS, "header", "gzip", "noise", "double", "joined", "no pictures"])
def test_damaged_shards_are_refused_by_name(tmp_path, kind):
    shard = tar_of(tmp_path / "train.tar", [("a.png", encoded(1)), ("b.png", encoded(2, size=(300, 300)))])
    content = shard.read_bytes()
    if kind in CUTS:
        shard.write_bytes(content[: CUTS[kind]])
    elif kind == "header":
        shard.write_bytes(content[:1024] + b"?" + content[1025:])
    elif kind == "joined":
        shard.write_bytes(content + content)
    elif kind == "gzip":
        with tarfile.open(shard, "w:gz") as tar:
            tar.add(__file__, "a.png")
    elif kind == "noise":
        shard.write_bytes(bytes(range(256)) * 20)
    elif kind == "double":
        tar_of(shard, [("a.png", encoded(1)), ("a.jpg", encoded(1, kind="JPEG"))])
    else:
        tar_of(shard, [("a.txt", b"a")])
    with pytest.raises(InputError, match=r"train\.tar"):
        ImageData(str(tmp_path)).dataset("train")


def test_parquet_rows_of_all_files_and_row_groups(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(table_of(5), tmp_path / "data" / "train-00000-of-00002.parquet", row_group_size=2)
    pq.write_table(table_of(3, start=5), tmp_path / "data" / "train-00001-of-00002.parquet", row_group_size=2)
    pq.write_table(table_of(1, start=9), tmp_path / "data" / "validation-00000-of-00001.parquet")
    data = ImageData(str(tmp_path))
    assert everything(data) == [(number, number, f"picture {number}") for number in range(8)]
    assert everything(data, "val") == [(9, 9, "picture 9")]
    items = data.dataset("train")
    assert [number_of(items[index].image) for index in (7, 0, 3)] == [7, 0, 3]
    assert items[6].name.endswith("train-00001-of-00002.parquet, row 1")
    assert [number for number, *_ in everything(ImageData(str(tmp_path), sources=["odd"]))] == [1, 3, 5, 7]


def test_parquet_of_bytes_and_of_paths_and_of_other_columns(tmp_path):
    write(tmp_path / "pictures" / "1.png", encoded(1))
    rows = [{"bytes": encoded(0), "path": "elsewhere.png"}, {"bytes": None, "path": "pictures/1.png"}]
    pq.write_table(pa.table({"photo": pa.array(rows, IMAGE), "label": ["cat", "dog"]}), tmp_path / "train.parquet")
    assert [number for number, *_ in everything(ImageData(str(tmp_path)))] == [0, 1]
    pq.write_table(pa.table({"x": [encoded(3)], "y": [1]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"no column of pictures.*'x', 'y'"):
        ImageData(str(tmp_path)).dataset("train")
    assert everything(ImageData(str(tmp_path), columns={"image": "x", "label": "y"})) == [(3, 1, "")]
    with pytest.raises(InputError, match="no column 'z'"):
        ImageData(str(tmp_path), columns={"image": "z"}).dataset("train")
    with pytest.raises(InputError, match=r"column 'y'.*must hold encoded pictures"):
        ImageData(str(tmp_path), columns={"image": "y"}).dataset("train")
    with pytest.raises(ConfigError, match="'imgae'; did you mean 'image'"):
        ImageData(str(tmp_path), columns={"imgae": "x"}).dataset("train")


def test_a_folder_that_datasets_saved(tmp_path):
    """As `DatasetDict.save_to_disk` writes it: streams of Arrow, named in `state.json`."""
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for split, start in (("train", 0), ("test", 6)):
        files = [f"data-0000{number}-of-00002.arrow" for number in range(2)]
        for number, name in enumerate(files):
            table = table_of(3, start + 3 * number)
            (tmp_path / split).mkdir(exist_ok=True)
            with pa.ipc.new_stream(tmp_path / split / name, table.schema) as stream:
                stream.write_table(table, max_chunksize=2)
        state = {"_data_files": [{"filename": name} for name in files], "_split": split}
        (tmp_path / split / "state.json").write_text(json.dumps(state))
    data = ImageData(str(tmp_path))
    assert everything(data) == [(number, number, f"picture {number}") for number in range(6)]
    assert [number for number, *_ in everything(data, "test")] == [6, 7, 8, 9, 10, 11]
    alone = ImageData(str(tmp_path / "train"))
    assert everything(alone) == everything(data)
    hostile = {"_data_files": [{"filename": "../test/data-00000-of-00002.arrow"}]}
    (tmp_path / "train" / "state.json").write_text(json.dumps(hostile))
    with pytest.raises(InputError, match="files of the data set beside it"):
        data.dataset("train")


@pytest.mark.parametrize("name", ["train.parquet", "train/data.arrow"])
@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda _: b"x" * 99]
)
def test_damaged_tables_are_refused_by_name(tmp_path, name, damage):
    (tmp_path / "train").mkdir()
    path, table = tmp_path / name, table_of(2)
    if path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
        (tmp_path / "train" / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    else:
        pq.write_table(table, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=path.name):
        ImageData(str(tmp_path)).dataset("train")


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        ImageData(str(tmp_path / "nothing")).dataset("train")
    with pytest.raises(InputError, match="has no pictures"):
        ImageData(str(tmp_path)).dataset("train")
    with pytest.raises(ConfigError, match="no file fits it as a pattern"):
        ImageData(str(tmp_path), splits={"train": "a-*.tar"}).dataset("train")
    with pytest.raises(ConfigError, match="'tarin'; did you mean 'train'"):
        ImageData(str(tmp_path), splits={"tarin": "x"}).dataset("train")
    write(tmp_path / "x.zip", b"")
    with pytest.raises(ConfigError, match="must be a folder, a manifest"):
        ImageData(str(tmp_path), splits={"train": "x.zip"}).dataset("train")
    assert find_pictures(tmp_path, "val", {}, {"train": "x"}) is None


def test_the_default_folder_is_what_the_recipe_makes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"zoo data images"):
        ImageData().dataset("train")
    write(tmp_path / "tokenizer-zoo" / "images" / "a.png", encoded(1))
    assert everything(ImageData()) == [(1, -1, "")]
