"""Any model of timm as a frozen network: VGG for a perceptual loss, DINOv2 to align representations with, and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo.components.features.base import FeatureNetwork, ImageInput, captured, require_modules
from zoo.components.features.files import fill, read_safetensors
from zoo.errors import ConfigError, HubError, InputError, UnknownNameError, near_matches
from zoo.process.fresh import fresh

__all__ = ["LOGITS", "POOLED", "TimmNetwork"]

POOLED = "pooled"
"""The layer before the classifier, pooled as the model pools: (B, C)."""

LOGITS = "logits"
"""What the classifier says: (B, classes)."""

_WEIGHTS = "model.safetensors"
# Inputs of pre-training that stand in some files; features do not use them.
_UNUSED = ("mask_token",)


class TimmNetwork(FeatureNetwork):
    """Layers of a model of timm (`pip install timm`), on pictures (B, 3, H, W) in 0…1.

    A layer is a module's name as `named_modules()` of the model gives it (`features.3`, `layer2`, `blocks.11`, `norm`),
    or `pooled`, or `logits`. Features are (B, C, H, W), with the tokens of a transformer laid out as the grid of their
    patches and class and register tokens left out; `pooled`, `logits` and other layers without positions are (B, C).

    Pictures are resized to `size` and normalised with the mean and standard deviation that belong to the weights. A
    model that takes any size, as a convolutional one does, leaves pictures as they are unless `size` is given. One with
    a fixed grid of positions gets them in its own size, or has its positions interpolated to `size` as timm does it:
    DINOv2 with patches of 14 and size 224 returns a 16 × 16 grid.

    Args:
        model: timm's name, with a tag for particular weights: `vit_base_patch14_dinov2.lvd142m`.
        layers: Which to return.
        file: Weights in timm's names, safetensors; None takes those of the Hub that the name means.
        pretrained: False leaves the weights random, the same for the same seed, whatever was drawn before.
        size: Height and width, or one number for both.
        revision: Of the Hub's repository: a commit, tag or branch.
        licence: Of the weights in `file`; for those of the Hub timm knows it.
        seed: Of random weights.

    Raises:
        UnknownNameError: timm has no such model or no such weights.
        ConfigError: The model has no such layer, or arguments contradict each other.
        CheckpointError: The file is missing, damaged, or of another model.
        HubError: The weights cannot be downloaded.
    """

    def __init__(
        self,
        model: str,
        layers: Sequence[str],
        *,
        file: str | Path | None = None,
        pretrained: bool = True,
        size: int | tuple[int, int] | None = None,
        revision: str | None = None,
        licence: str | None = None,
        seed: int = 0,
    ) -> None:
        if file is not None and (revision is not None or not pretrained):
            raise ConfigError("weights come from a file, or from a revision of the Hub, or are random: choose one.")
        network, facts = _built(model, LOGITS in layers, seed)
        require_modules(network, [layer for layer in layers if layer not in (POOLED, LOGITS)], model)
        if isinstance(size, int):
            size = (size, size)
        where = "random weights"
        if file is not None or pretrained:
            path, where = (Path(file), Path(file).name) if file is not None else _downloaded(model, facts, revision)
            classifier = facts.classifier or ()
            heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
            heads = () if LOGITS in layers else tuple(f"{head}." for head in heads)
            fill(network, read_safetensors(path), str(path), unused=(*_UNUSED, *heads))
            licence = licence or (None if file is not None else facts.license)
        else:
            licence = licence or "none needed: random weights"
        fixed = getattr(network, "patch_embed", None) is not None and hasattr(network, "set_input_size")
        if size is not None and fixed:
            _resize(network, size, model)
        elif size is None and (fixed or facts.fixed_input_size):
            size = (int(facts.input_size[-2]), int(facts.input_size[-1]))
        super().__init__(network, f"timm/{model} ({where})", licence or "not stated", layers)
        self.input = ImageInput(tuple(facts.mean), tuple(facts.std), size)

    def _prepared(self, x: Tensor) -> Tensor:
        return self.input(x)

    def _features(self, x: Tensor) -> Mapping[str, Tensor]:
        network: Any = self.network
        inner = [layer for layer in self.layers if layer not in (POOLED, LOGITS)]
        with captured(network, inner) as found:
            try:
                last = network.forward_features(x)
            except (RuntimeError, AssertionError) as error:
                raise InputError(
                    f"{self.name} cannot take pictures of {list(x.shape[2:])} ({error}): give size=."
                ) from error
        for layer in inner:
            if layer not in found:
                raise ConfigError(f"{self.name}: {layer!r} is not run before the pooling; choose a layer that is.")
            found[layer] = self._laid_out(found[layer], layer, x)
        if POOLED in self.layers:
            found[POOLED] = network.forward_head(last, pre_logits=True)
        if LOGITS in self.layers:
            found[LOGITS] = network.forward_head(last)
        return found

    def _laid_out(self, output: Any, layer: str, x: Tensor) -> Tensor:
        """Return a layer's output with its channels second and its tokens as a grid."""
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            raise ConfigError(f"{self.name}: {layer!r} returns no map, tokens or vector; choose another layer.")
        if output.ndim == 4:
            order = getattr(self.network, "output_fmt", "NCHW")
            order = getattr(self.network.get_submodule(layer), "output_fmt", order)
            return output.permute(0, 3, 1, 2) if order == "NHWC" else output
        if output.ndim == 2:
            return output
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", None)
        height, width = (0, 0) if patch is None else (x.shape[2] // patch[0], x.shape[3] // patch[1])
        extra = int(getattr(self.network, "num_prefix_tokens", 0))
        if patch is None or output.shape[1] not in (height * width, extra + height * width):
            raise ConfigError(
                f"{self.name}: the {output.shape[1]} tokens of {layer!r} are not {extra} and a grid of "
                f"{height} × {width}; choose a layer that keeps one token a patch."
            )
        # Before the class token joins them there are none to leave out.
        return output[:, -height * width :].transpose(1, 2).reshape(len(output), -1, height, width)


def _built(model: str, with_classifier: bool, seed: int) -> tuple[nn.Module, Any]:
    """Return a model with random weights, and what timm knows of trained ones."""
    import timm

    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise UnknownNameError(f"timm has no model {architecture!r}; {_near(architecture, timm.list_models())}")
    tagged = timm.list_pretrained(f"{architecture}.*") if tag else []
    if tag and model not in tagged:
        raise UnknownNameError(f"timm has no weights {model!r}; {near_matches(model, tagged)}")
    arguments: dict[str, Any] = {} if with_classifier else {"num_classes": 0}
    with fresh(seed=seed):
        network: nn.Module = timm.create_model(model, pretrained=False, **arguments)
    return network, timm.get_pretrained_cfg(model) or network.pretrained_cfg


def _near(name: str, candidates: Sequence[str]) -> str:
    """Return near matches, but not all of a thousand names if there are none."""
    found = near_matches(name, candidates)
    return found if len(found) < 300 else "timm.list_models() lists those there are."


def _downloaded(model: str, facts: Any, revision: str | None) -> tuple[Path, str]:
    """Return the file of the Hub's weights in the local cache, and what to call them."""
    repository = facts.hf_hub_id
    if not repository:
        raise UnknownNameError(f"timm knows no weights of {model!r} on the Hub: give file=, or pretrained=False.")
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repository, facts.hf_hub_filename or _WEIGHTS, revision=revision)
    except Exception as error:  # the client raises its own, those of its HTTP library, and plain Python ones
        raise HubError(
            f"{_WEIGHTS} of {repository} cannot be had ({' '.join(str(error).split())}): check the network and "
            "HF_HUB_OFFLINE, or give the file as file=."
        ) from error
    return Path(path), f"hf://{repository}" + (f"@{revision}" if revision else "")


def _resize(network: Any, size: tuple[int, int], model: str) -> None:
    """Interpolate a transformer's positions to another size of picture."""
    patch = getattr(network.patch_embed, "patch_size", (1, 1))
    if size[0] % patch[0] or size[1] % patch[1] or min(size) < 1:
        raise ConfigError(f"size of {model} must be multiples of its patches, {tuple(patch)}, got {size}.")
    network.set_input_size(img_size=size)
