"""The authors' released files: one file of safetensors with encoder and decoder, and no config.

`F8C4/F8C4_S_256.safetensors`, say: tensors whose names begin with `encoder.` and `decoder.`. A file may have one of the
two alone; of a decoder alone latents are decoded and nothing is encoded. Where the encoder is Stable Diffusion's, which
is not the authors' own, it may be in the file in diffusers' names, or in a file of its own beside it, diffusers'
`diffusion_pytorch_model.safetensors`; its latents are not scaled, and its decoder is left unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.checkpoint import foreign
from zoo.checkpoint import weights as _weights
from zoo.checkpoint.diffusers import current_name
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import Gaussian, Identity
from zoo.errors import CheckpointError, ConfigError, TokenError, shown
from zoo.families.ssdd.official import names, settings
from zoo.families.ssdd.tokenizer import SSDDTokenizer
from zoo.process.fresh import fresh

__all__ = ["EXTRA_FILES", "LICENCE", "NoEncoder", "load", "recognises", "write"]

EXTRA_FILES = ()
LICENCE = "CC-BY-NC-4.0"
"""What the authors' README says of the whole project, without a version; weights are taken to be under the same."""

_VAE = "diffusion_pytorch_model.safetensors"
_MARKS = ("decoder.ada_ctx_proj.0.weight", "encoder.down.0.block.0.norm1.weight")


class NoEncoder(nn.Module):
    """Stands where an encoder would be that a released file lacks."""

    def forward(self, *_: object) -> NoReturn:
        """Raise `TokenError`."""
        raise TokenError(
            "this SSDD was released as a decoder alone, and encodes nothing: put the file of its encoder, "
            f"{_VAE} of stabilityai/sd-vae-ft-mse for the models named SDVAE, into the same folder."
        )


def recognises(folder: Path) -> bool:
    """Whether `folder` holds a released file, or is one."""
    try:
        path = _file(folder)
        with _weights.opened(path) as file:
            kinds = _weights.header(file)
    except (CheckpointError, OSError):
        return False
    return any(mark in kinds for mark in _MARKS)


def load(folder: Path, *, decoder: bool = True) -> SSDDTokenizer:
    """Build a tokenizer from a released file.

    Args:
        folder: The file, or a folder with one.
        decoder: False to read and hold the encoder alone.

    Raises:
        CheckpointError: A tensor is missing, unexpected, damaged or contradicts another, or the file's name does.
    """
    path = _file(folder)
    with _weights.opened(path) as file:
        kinds = _weights.header(file)
    has_decoder, vae = _MARKS[0] in kinds, names.vae_prefix(kinds)
    is_own = vae is None and _MARKS[1] in kinds
    is_beside = vae is None and not is_own and (path.parent / _VAE).is_file()
    has_encoder = is_own or is_beside or vae is not None
    if not has_encoder and not decoder:
        raise CheckpointError(f"{path} has no encoder, and its decoder was not asked for: there is nothing to load.")
    shown_kinds = {name: kind for name, kind in kinds.items() if is_own or name.startswith(names.DECODER)}
    other: ConvConfig | None = None
    if is_beside:
        with _weights.opened(path.parent / _VAE) as file:
            other = settings.vae_encoder(_weights.header(file), "", path.parent / _VAE)
    elif vae is not None:
        other = settings.vae_encoder(kinds, vae, path)
    config = settings.read(shown_kinds, path, other)
    with fresh("meta"):
        state = SSDDTokenizer(config, decoder=has_decoder).state_dict()
    encoders = {name: tensor for name, tensor in state.items() if name.startswith(names.ENCODER)}
    decoders = {name: tensor for name, tensor in state.items() if not name.startswith(names.ENCODER)}
    there = decoders if is_beside or not has_encoder else state
    found = _read(path, there, encoders if not decoder else there, vae)
    if is_beside:
        found |= _read(path.parent / _VAE, encoders, encoders, "")
    tokenizer = SSDDTokenizer(config, decoder=decoder and has_decoder)
    if not has_encoder:
        tokenizer.encoder = NoEncoder()  # type: ignore[assignment]
    tokenizer.load_state_dict(found)
    tokenizer.spec = replace(tokenizer.spec, licence=LICENCE)
    tokenizer.trained_on = "the authors' own files, see arXiv 2510.04961"
    return tokenizer.eval()


def write(tokenizer: SSDDTokenizer, path: Path) -> Path:
    """Write a tokenizer, or its encoder if it has no decoder, as a released file.

    Args:
        tokenizer: What to write.
        path: The file, such as `F8C4_S_256.safetensors`.

    Returns:
        The file.

    Raises:
        ConfigError: The layout has no place for its quantizer, or for its normalisation of latents.
    """
    config = tokenizer.config
    if not isinstance(tokenizer.quantizer, (Gaussian, Identity)) or config.is_variational or config.decoder.latent_mean:
        raise ConfigError(
            f"the released layout has latents as they are, and no quantizer, here {config.quantizer.kind!r}, nor their "
            "mean and deviation."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = names.released_tensors(_weights.collect(tokenizer))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    return path


def _read(path: Path, there: Mapping[str, Tensor], wanted: Mapping[str, Tensor], vae: str | None) -> dict[str, Tensor]:
    """Return the wanted tensors of a file by our names, once it has those that must be there, and no others."""
    # Names of an autoencoder without a prefix are those of SSDD's own decoder, so one of them alone can be in a file.
    unused = names.vae_unused(vae) if vae or (path.name == _VAE and vae is not None) else ()

    def known(name: str) -> str | None:
        return None if name.startswith(unused) else name if vae is None else current_name(name)

    expected = names.released_tensors(there, vae)
    asked = frozenset(names.released_tensors(wanted, vae))
    tensors = foreign.read_fitting([path], expected, str(path), name=known, wanted=asked)
    return names.our_tensors(tensors, wanted, vae)


def _file(folder: Path) -> Path:
    """Return the released file.

    Raises:
        CheckpointError: There is none, or more than one.
    """
    if folder.is_file():
        return folder
    found = sorted(path for path in folder.glob("*.safetensors") if path.name != _VAE) or sorted(
        folder.glob("*/*.safetensors")
    )
    if len(found) != 1:
        listed = [path.relative_to(folder).as_posix() for path in found]
        raise CheckpointError(
            f"{folder} has {len(found)} files of safetensors {shown(listed)}, and which is meant is not guessed: give "
            "the path of one."
        )
    return found[0]
