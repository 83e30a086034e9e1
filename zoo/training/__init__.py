"""Training: what every family's recipe is made of. Importing it imports Lightning, which nothing else here does.

    class MyTraining(TokenizerModule):
        family = "my_family"
        default_weights = {"reconstruction": 1.0}

        def losses(self, batch):
            quantized = self.tokenizer.quantizer(self.tokenizer.encoder(batch))
            error = (self.tokenizer.decoder(quantized.codes) - batch).square().mean()
            return {"reconstruction": error, **self.quantizer_losses(quantized)}

That is of a family whose encoder and decoder are functions of one tensor; an image family's are `vectors` and `pixels`.
`AdversarialModule` adds a discriminator with an optimiser of its own.

A run that is stopped anywhere and resumed ends with the very weights of one that was never stopped, given the callbacks
`ExactResume` and `Checkpoints` (`zoo fit` has them always) and a `zoo.data.datamodule.DataModule`; on a GPU also with
`Trainer(deterministic=True)`.
"""

from zoo.training.adversarial import AdversarialModule, Reconstruction
from zoo.training.checkpoint_file import read_checkpoint
from zoo.training.checkpoints import LAST, Checkpoints
from zoo.training.ema import EMA, EMAConfig
from zoo.training.export import parts_of, tokenizer_of
from zoo.training.history import History
from zoo.training.media import Audio, Clip, Figure, Media, Picture
from zoo.training.module import TokenizerModule
from zoo.training.optim import OptimizerConfig
from zoo.training.progress import ProgressLines
from zoo.training.state import ExactResume

__all__ = [
    "EMA",
    "LAST",
    "AdversarialModule",
    "Audio",
    "Checkpoints",
    "Clip",
    "EMAConfig",
    "ExactResume",
    "Figure",
    "History",
    "Media",
    "OptimizerConfig",
    "Picture",
    "ProgressLines",
    "Reconstruction",
    "TokenizerModule",
    "parts_of",
    "read_checkpoint",
    "tokenizer_of",
]
