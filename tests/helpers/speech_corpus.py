"""A small Whisper model with random weights, written by transformers, and a small corpus, for tests of training."""

import json
from pathlib import Path

import soundfile
import torch
from tiny_stabletoken import speech
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import WhisperConfig, WhisperForConditionalGeneration

WORDS = ("one", "two", "three", "red", "green", "blue", "cat", "dog")


def write_whisper(folder, **changes):
    """Write a Whisper folder and return transformers' model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [" ".join(WORDS)], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    end = tokenizer.get_vocab_size()
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens(special)
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "num_mel_bins": 16,
        "d_model": 32,
        "encoder_layers": 3,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 48,
        "max_source_positions": 100,
        "max_target_positions": 40,
        "decoder_start_token_id": end + 1,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**{**sizes, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # transformers starts biases at zero and norms at one
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save(str(Path(folder, "tokenizer.json")))
    return model


def write_corpus(folder, counts=None, seconds=0.6):
    """Write manifests and sound files."""
    Path(folder, "audio").mkdir(parents=True)
    number = 0
    for split, count in {"train": 24, "val": 6, "test": 6, **(counts or {})}.items():
        lines = []
        for item in range(count):
            number += 1
            length = int(16000 * seconds * (0.5 + (number % 5) / 5))
            name = f"audio/{number}.flac"
            soundfile.write(Path(folder, name), speech(length, number).clamp(-1, 1).numpy(), 16000)
            has_text = item % 3 < 2
            lines.append(
                {
                    "audio_filepath": name,
                    "duration": length / 16000,
                    "text": " ".join(WORDS[(number + k) % len(WORDS)] for k in range(2)) if has_text else "",
                    "lang": "en" if item % 2 == 0 else "de",
                    "speaker": f"s{item % 3}",
                    "source": "read" if item % 4 else "game",
                }
            )
        _write(folder, f"{split}.jsonl", lines)
    for split in ("train", "test", "ood"):
        soundfile.write(Path(folder, f"noise-{split}.flac"), 0.1 * torch.randn(8000).numpy(), 16000)
        _write(folder, f"noise-{split}.jsonl", [{"audio_filepath": f"noise-{split}.flac", "duration": 0.5}])


def _write(folder, name, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    Path(folder, name).write_text(text, encoding="utf-8")
