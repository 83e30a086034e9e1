"""Data modules beside what a trainer may ask of them."""

import pytest
import torch
import training_runs as runs
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from zoo.data.datamodule import DataModule
from zoo.data.loader import OrderedSampler
from zoo.process import random as process_random

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE]

QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
QUIET |= {"enable_progress_bar": False, "enable_model_summary": False}


class Numbered(torch.utils.data.Dataset):
    """Items whose first value is their number and whose second is random."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.cat([torch.tensor([float(index)]), torch.rand(1), torch.zeros(30)])


class Data(DataModule):
    def dataset(self, split):
        return Numbered()


class Seen(BoringModel):
    def __init__(self):
        super().__init__()
        self.batches = {"train": [], "val": []}

    def training_step(self, batch, batch_idx):
        self.batches["train"].append(batch)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.batches["val"].append(batch)
        return super().validation_step(batch, batch_idx)


def trained(value, workers=0):
    with process_random.preserved():
        model = Seen()
        Trainer(max_steps=6, overfit_batches=value, num_sanity_val_steps=0, **QUIET).fit(
            model, Data(batch_size=4, num_workers=workers)
        )
    return model.batches


@pytest.mark.parametrize(("value", "batches"), [(1, 1), (2, 2), (0.125, 2)])
def test_b9_overfit_batches_are_the_same_over_and_over(value, batches):
    seen = trained(value)
    numbers = [batch[:, 0].tolist() for batch in seen["train"]]
    assert numbers == [[4.0 * (n % batches) + i for i in range(4)] for n in range(6)]
    # The random numbers of reading as well.
    assert all(torch.equal(seen["train"][n], seen["train"][n % batches]) for n in range(6))
    assert {batch[0, 0].item() for batch in seen["val"]} == {4.0 * n for n in range(batches)}


def test_b9_with_workers():
    assert torch.equal(trained(1, workers=1)["train"][0], trained(1)["train"][5])


def test_b9_without_it_training_shuffles_and_reads_anew():
    seen = trained(0.0)["train"]
    assert seen[0][:, 0].tolist() != [0.0, 1.0, 2.0, 3.0]
    assert len({batch[0, 0].item() for batch in seen}) > 2


def test_b9_ordered_items_are_dealt_out_to_processes():
    assert list(OrderedSampler(6, num_replicas=2, rank=1)) == [(0, 1), (0, 3), (0, 5)]
