"""What an image family gets from its base: it makes encoder, quantizer, decoder and a spec, and all of this works."""

from dataclasses import dataclass

import pytest
import torch
import toy
from PIL import Image
from torch import nn

import zoo
from zoo.components.layers.patches import patchify, unpatchify
from zoo.components.quantizers import FSQConfig, build
from zoo.errors import ConfigError, InputError, TokenError
from zoo.modalities import ImageTokenizer
from zoo.spec import TokenSpec, option_names

LEVELS = FSQConfig(levels=(5, 5, 5))


@dataclass(frozen=True)
class Config:
    quantizer: FSQConfig = LEVELS
    size: int = 16
    patch: int = 4


class Patches(ImageTokenizer):
    """A family as a package of somebody else's would have it."""

    family = "test_patches"
    config_class = Config
    fast_modules = ("encoder", "decoder")

    def __init__(self, config):
        super().__init__(config)
        self.quantizer = build(config.quantizer)
        numbers, side = 3 * config.patch**2, config.size // config.patch
        self.encoder = nn.Linear(numbers, self.quantizer.input_dim)
        self.decoder = nn.Linear(self.quantizer.dim, numbers)
        self.grid = (side, side)
        self.spec = TokenSpec(
            "image",
            self.quantizer.codebook_size,
            num_tokens=side**2,
            input_size=(config.size, config.size),
            latent_dim=self.quantizer.input_dim,
        )

    def vectors(self, pixels):
        return self.encoder(patchify(pixels, (self.config.patch,) * 2))

    def pixels(self, vectors):
        return unpatchify(self.decoder(vectors), (self.config.patch,) * 2, self.grid)


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return Patches(Config()).eval()


@pytest.fixture
def images():
    return torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def clear(size=(16, 16)):
    return Image.new("RGBA", size, (200, 30, 30, 128))


class TestEncoding:
    @pytest.mark.parametrize("shape", [(1, 4, 4, 3), (1, 15, 3), (1, 3)])
    def test_what_is_no_vector_for_each_token_is_said(self, tokenizer, images, monkeypatch, shape):
        monkeypatch.setattr(tokenizer, "vectors", lambda pixels: torch.zeros(shape))
        with pytest.raises(
            ConfigError, match=r"has 16 tokens of 1 codebook.*ids made of pixels.*must make \(B, T, D\)"
        ):
            tokenizer.encode(images)

    def test_an_item_knows_no_neighbours(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        assert tokens.ids.shape == (7, 16)
        assert tokens.grid == (4, 4)
        assert len(tokens.ids.unique()) > 5
        for row, image in enumerate(images):
            assert tokenizer.encode(image).equal(tokens[row])
        assert tokenizer.encode([*images]).equal(tokens)
        assert tokenizer.encode(images.flip(0)).equal(tokens[::-1])

    def test_latents_lead_to_the_ids(self, tokenizer, images):
        latents, tokens = tokenizer.encode_latents(images), tokenizer.encode(images)
        assert torch.equal(tokenizer.quantizer.ids(latents.values), tokens.ids)
        assert latents.grid == tokens.grid
        codes = tokenizer.quantizer.codes(tokens.ids)
        assert torch.equal(tokenizer.decode_latents(codes), tokenizer.decode(tokens))

    def test_fast_mode_computes_in_its_own_dtype(self, tokenizer, images):
        exact = tokenizer.encode(images)
        tokenizer.is_exact = False
        tokenizer.to_dtype(torch.bfloat16)
        fast = tokenizer.encode(images)
        assert 0 < int((fast.ids != exact.ids).sum()) < 20
        assert tokenizer.decode(fast).dtype == torch.float32
        assert tokenizer.encode_latents(images).values.dtype == torch.float32

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (torch.rand(3, 16, 15), r"size \(H, W\) = \(16, 16\)"),
            (torch.rand(16, 16, 3), "channels are last"),
            (torch.rand(3, 16, 16) * 255, "divide by 255"),
            (torch.full((3, 16, 16), torch.nan), "NaN"),
            (Image.new("RGB", (8, 8)), r"\(16, 16\), got \(8, 8\)"),
        ],
    )
    def test_what_is_no_image_of_its_size_is_refused(self, tokenizer, x, message):
        with pytest.raises(InputError, match=message):
            tokenizer.encode(x)

    def test_every_image_is_whole(self, tokenizer, images):
        with pytest.raises(InputError, match="leave them out"):
            tokenizer.encode(images, torch.full((7,), 16))


class TestTransparency:
    """What the errors advise is taken."""

    def test_p4_on_white_is_taken(self, tokenizer, tmp_path):
        clear().save(tmp_path / "clear.png")
        white = torch.tensor([round((200 + 255) / 2), round((30 + 255) / 2), round((30 + 255) / 2)]) / 255
        expected = tokenizer.encode(white[:, None, None].expand(3, 16, 16))
        for x in (clear(), tmp_path / "clear.png", (tmp_path / "clear.png").read_bytes(), [clear()]):
            with pytest.raises(InputError, match="on_white=True"):
                tokenizer.encode(x)
            assert tokenizer.encode(x, on_white=True).equal(expected)

    def test_p4_of_latents_too(self, tokenizer):
        with pytest.raises(InputError, match="on_white=True"):
            tokenizer.encode_latents(clear())
        assert tokenizer.encode_latents(clear(), on_white=True).values.shape == (1, 16, 3)

    def test_p4_of_the_frames_of_a_clip(self):
        tok = toy.make("video")
        with pytest.raises(InputError, match="on_white=True"):
            tok.encode([clear((8, 8))] * 2)
        assert len(tok.encode([clear((8, 8))] * 2, on_white=True)) == 1

    def test_p4_is_declared(self, tokenizer):
        assert option_names(tokenizer.encode_options) == {"on_white"}
        assert option_names(toy.make("video").encode_options) == {"on_white"}


class TestDecoding:
    def test_what_is_overshot_is_clamped_unless_it_is_asked_for(self, tokenizer, images):
        with torch.no_grad():
            tokenizer.decoder.bias.add_(0.7)
        tokens = tokenizer.encode(images)
        plain, clamped = tokenizer.decode(tokens, clamp=False), tokenizer.decode(tokens)
        assert clamped.shape == images.shape
        assert float(plain.max()) > 1
        assert torch.equal(plain.clamp(0, 1), clamped)

    def test_items_that_are_not_whole_are_refused(self, tokenizer, images):
        tokens = tokenizer.encode(images)
        for wrong in (tokens[:, :8], tokens.truncate(torch.tensor([16, 3, 16, 16, 16, 16, 16]))):
            with pytest.raises(TokenError, match="whole items of 16 tokens"):
                tokenizer.decode(wrong)

    def test_prefixes_of_ordered_ones_are_decoded_apart(self, tokenizer, images):
        class Ordered(Patches):
            def pixels(self, vectors):
                rest = 16 - vectors.shape[1]
                return super().pixels(nn.functional.pad(vectors, (0, 0, 0, rest)))

        ordered = Ordered(tokenizer.config)
        ordered.load_state_dict(tokenizer.state_dict())
        ordered.spec = TokenSpec("image", 125, num_tokens=16, input_size=(16, 16), is_ordered=True)
        tokens = ordered.encode(images[:2])
        mixed = tokens.truncate(torch.tensor([16, 3]))
        decoded = ordered.decode(mixed)
        assert torch.equal(decoded[0], ordered.decode(tokens)[0])
        assert torch.equal(decoded[1:], ordered.decode(tokens[1:, :3]))
        edited = mixed.ids.clone()
        edited[1, 3:] = 7  # what stands in the padding does not matter
        assert torch.equal(ordered.decode(edited, mixed.lengths), decoded)


class TestFamily:
    def test_it_is_stored_and_loaded_without_another_line(self, tokenizer, images, tmp_path):
        tokenizer.name = "test_patches.one"
        with toy.registered(Patches):
            again = zoo.load(zoo.save(tokenizer, tmp_path / "one"))
        assert again.encode(images).equal(tokenizer.encode(images))
        assert again.num_tokens(1) == 16
        assert again.output_lengths(again.encode(images)).tolist() == [1] * 7

    def test_without_latents_or_ids(self, tokenizer, images):
        tokenizer.spec = TokenSpec("image", 125, num_tokens=16, input_size=(16, 16))
        with pytest.raises(ConfigError, match="no latents"):
            tokenizer.encode_latents(images)
        tokenizer.spec = TokenSpec("image", None, num_tokens=16, input_size=(16, 16), latent_dim=3)
        with pytest.raises(ConfigError, match="continuous"):
            tokenizer.encode(images)
        assert tokenizer.encode_latents(images).values.shape == (7, 16, 3)

    def test_a_video_says_its_frames(self):
        tok = toy.make("video")
        assert tok.output_lengths(tok.encode(toy.signals("video"))).tolist() == [2, 2, 2]
