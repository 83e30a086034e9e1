"""StableToken's training: losses, who sees the noise, recipes, exact resume, swapped quantizers."""

import json
import math
import os
import signal
import socket
import warnings
from pathlib import Path

import pytest
import tiny_stabletoken as tiny
import torch
import training_runs as runs
import yaml
from lightning.pytorch import Trainer, seed_everything
from speech_corpus import write_corpus, write_whisper
from tiny_stabletoken import TINY
from training_runs import differences

import zoo
from zoo import config as configs
from zoo.cli import main
from zoo.data.speech import SpeechData, read_manifest
from zoo.errors import CheckpointError, ConfigError, InputError
from zoo.families.stabletoken.start import start_from_speech
from zoo.families.stabletoken.training import StableTokenTraining
from zoo.metrics.tokens.edits import unit_edit_distance
from zoo.process import random as process_random
from zoo.training import EMA, Checkpoints, ExactResume, OptimizerConfig, tokenizer_of

CONFIG = configs.to_dict(TINY)
RECIPES = Path(__file__).parents[3] / "recipes/stabletoken"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    write_whisper(folder / "whisper")
    write_corpus(folder / "corpus")
    return folder


def make(place, config=CONFIG, **changes):
    seed_everything(0, verbose=False)
    settings = {"loss_weights": {"distillation": 1.0}, "optimizer": OptimizerConfig(lr=3e-3, total_steps=50)}
    return StableTokenTraining(config, str(place / "whisper"), **{**settings, **changes})


def a_batch(place, size=6, noise=True):
    data = SpeechData(str(place / "corpus"), noise=noise, text_languages=["en"], batch_size=size)
    return next(iter(data.train_dataloader()))


def quiet(module):
    """Let a module log nothing."""
    module._log = lambda *_, **__: None
    return module


class TestData:
    def test_manifest(self, place):
        utterances = read_manifest(place / "corpus/train.jsonl")
        assert len(utterances) == 24
        assert utterances[0].path.is_file()
        assert {u.language for u in utterances} == {"en", "de"}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("", "lists nothing"),
            ("{", "line 1 is not valid JSON"),
            ("[]", "object"),
            ('{"duration": 1}', "audio_filepath"),
            ('{"audio_filepath": "a.wav", "duration": 0}', "above 0"),
            ('{"audio_filepath": "a.wav", "duration": NaN}', "above 0"),
            ('{"audio_filepath": 3, "duration": 1}', "audio_filepath"),
            ('{"audio_filepath": "a.wav", "duration": 1, "text": 3}', "text"),
        ],
    )
    def test_bad_manifests(self, tmp_path, line, message):
        (tmp_path / "x.jsonl").write_text(line + "\n")
        with pytest.raises(InputError, match=message):
            read_manifest(tmp_path / "x.jsonl")

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            read_manifest(tmp_path / "x.jsonl")
        with pytest.raises(ConfigError, match="zoo data speech"):
            SpeechData(str(tmp_path)).train_dataloader()

    def test_batches(self, place):
        batch = a_batch(place)
        assert batch.waves.shape == batch.noisy.shape
        inside = torch.arange(batch.waves.shape[1]) < batch.lengths[:, None]
        assert not batch.waves[~inside].any()
        assert not batch.noisy[~inside].any()
        assert not torch.equal(batch.waves, batch.noisy)
        again = a_batch(place)
        assert torch.equal(batch.noisy, again.noisy)
        plain = a_batch(place, noise=False)
        assert torch.equal(plain.waves, batch.waves)
        assert plain.noisy is plain.waves

    def test_noise_differs_from_epoch_to_epoch(self, place):
        items = SpeechData(str(place / "corpus"), batch_size=2).train_dataloader().dataset
        first, second, again = items[0, 3][1], items[1, 3][1], items[0, 3][1]
        assert torch.equal(items[0, 3][0], items[1, 3][0])
        assert not torch.equal(first, second)
        assert torch.equal(first, again)

    def test_transcripts_of_chosen_languages(self, place):
        items = SpeechData(str(place / "corpus"), text_languages=["en"]).dataset("train")
        for i, utterance in enumerate(items.utterances):
            assert items[i][2] == (utterance.text if utterance.language == "en" else "")
        assert SpeechData(str(place / "corpus")).dataset("train")[1][2] == items.utterances[1].text != ""

    def test_sources_repeat_or_stay_out(self, place):
        items = SpeechData(str(place / "corpus"), sources=["read"], repeat={"read": 2}).dataset("train")
        assert {u.source for u in items.utterances} == {"read"}
        assert len(items) == 36
        for options, message in (
            ({"repeat": {"film": 2}}, "film"),
            ({"sources": ["film"]}, "film"),
            ({"repeat": {"read": 0}}, "at least 1"),
        ):
            with pytest.raises(ConfigError, match=message):
                SpeechData(str(place / "corpus"), **options).dataset("train")

    def test_sources_to_measure_on(self, place):
        data = SpeechData(str(place / "corpus"), eval_sources=["game"])
        assert {u.source for u in data.dataset("test").utterances} == {"game"}
        assert {u.source for u in data.dataset("train").utterances} == {"game", "read"}
        data = SpeechData(str(place / "corpus"), eval_speakers=["s1"])
        assert {u.speaker for u in data.dataset("test").utterances} == {"s1"}
        assert len({u.speaker for u in data.dataset("train").utterances}) == 3
        with pytest.raises(ConfigError, match="no speaker 's9'"):
            SpeechData(str(place / "corpus"), eval_speakers=["s9"]).dataset("val")
        with pytest.raises(ConfigError, match="film"):
            SpeechData(str(place / "corpus"), eval_sources=["film"]).dataset("val")

    def test_long_speech_is_cut_and_loses_its_transcript(self, place):
        items = SpeechData(str(place / "corpus"), max_seconds=0.4).dataset("train")
        assert max(len(items[i][0]) for i in range(len(items))) == 6400
        assert all(items[i][2] == "" for i in range(len(items)) if items.utterances[i].duration > 0.4)
        assert any(items[i][2] for i in range(len(items)))

    def test_even_choice_for_validation(self, place):
        data = SpeechData(str(place / "corpus"), eval_items=3)
        chosen = data.dataset("val").utterances
        assert [u.path.stem for u in chosen] == [u.path.stem for u in read_manifest(data.folder / "val.jsonl")[::2]]
        assert len(SpeechData(str(place / "corpus"), eval_items=9).dataset("val")) == 6

    @pytest.mark.parametrize(("changes", "message"), [({"max_seconds": 0}, "max_seconds"), ({"eval_items": 0}, "eval")])
    def test_bad_values(self, changes, message):
        with pytest.raises(ConfigError, match=message):
            SpeechData(**changes)

    def test_another_rate(self, place, tmp_path):
        import soundfile

        soundfile.write(tmp_path / "a.wav", torch.zeros(800).numpy(), 8000)
        (tmp_path / "test.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 0.1}\n')
        with pytest.raises(InputError, match="8000 Hz"):
            SpeechData(str(tmp_path), noise=False).dataset("test")[0]


class TestLosses:
    def test_names_and_gradients(self, place):
        module = quiet(make(place))
        losses = module.losses(a_batch(place))
        assert losses.keys() == {
            "asr",
            "distillation",
            "quantizer_consensus",
            "quantizer_commitment",
            "quantizer_entropy",
        }
        assert losses["asr"].item() == pytest.approx(math.log(module.recognizer.text.config.vocabulary), rel=0.3)
        sum(losses.values()).backward()
        without = {name for name, p in module.named_parameters() if p.requires_grad and p.grad is None}
        assert without == set()
        assert not any(p.requires_grad for p in module.teacher.parameters())
        frozen = make(place, train_text_decoder=False)
        assert not any(p.requires_grad for p in frozen.recognizer.text.parameters())

    def test_asr_is_the_cross_entropy_of_the_transcripts(self, place):
        module = quiet(make(place)).eval()
        batch = a_batch(place)
        quantized, mask = module._encode(batch)
        states = module.recognizer(quantized.codes, mask)
        spelling, end = module.spelling, module.recognizer.text.config.end_id
        terms = []
        for row, text in enumerate(batch.texts):
            if text:
                prompt = spelling.prompt()
                ids = [*prompt, *spelling.encode(text), end]
                logits = module.recognizer.text(torch.tensor([ids]), states[row : row + 1], mask[row : row + 1])[0]
                log = logits.log_softmax(1)
                terms += [-log[i - 1, ids[i]] for i in range(len(prompt), len(ids))]
        assert 0 < len([text for text in batch.texts if text]) < len(batch.texts)
        torch.testing.assert_close(module.losses(batch)["asr"], torch.stack(terms).mean())

    def test_without_any_transcript(self, place):
        module = quiet(make(place))
        losses = module.losses(a_batch(place)._replace(texts=[""] * 6))
        assert losses["asr"].item() == 0
        losses["asr"].backward()
        assert all(p.grad is not None for p in module.recognizer.text.parameters())

    def test_padding_changes_no_loss(self, place):
        module = quiet(make(place)).eval()
        batch = a_batch(place)
        plain = module.losses(batch)
        padded = batch._replace(waves=torch.nn.functional.pad(batch.waves, (0, 5000), value=9.0))
        torch.testing.assert_close(module.losses(padded), plain)

    def test_distillation_of_the_teacher_itself_is_nothing(self, place):
        module = quiet(make(place))
        batch = a_batch(place)
        target = module.teacher_norm(module.teacher(*module.tokenizer.features(batch.waves, batch.lengths))[0])
        module.recognizer.forward = lambda codes, mask: target
        assert module.losses(batch)["distillation"].item() == 0
        module.recognizer.forward = lambda codes, mask: target[mask].mean(0).expand_as(target)
        assert module.losses(batch)["distillation"].item() == pytest.approx(1)

    def test_only_a_minority_hears_the_noise_and_only_in_training(self, place):
        module = quiet(make(place))
        batch = a_batch(place)
        heard = []
        forward = module.tokenizer.quantizer.forward

        def listen(z, mask, **options):
            heard.append((z, options.get("noisy")))
            return forward(z, mask, **options)

        module.tokenizer.quantizer.forward = listen
        module.losses(batch)
        clean, noisy = heard[0]
        mel = module.tokenizer.features(batch.noisy, batch.lengths)
        torch.testing.assert_close(noisy, module.tokenizer.encoder(*mel)[0])
        assert not torch.allclose(clean, noisy)
        for other in (module.eval(), make(place, noise=False)):
            other.tokenizer.quantizer.forward = listen
            quiet(other).losses(batch)
            assert heard[-1][1] is None

    def test_each_transcript_starts_with_its_language(self, place, monkeypatch):
        module = quiet(make(place))
        asked = []
        prompt = module.spelling.prompt
        monkeypatch.setattr(module.spelling, "prompt", lambda language="en": asked.append(language) or prompt())
        module.losses(a_batch(place)._replace(texts=["one", "", "two", "", "cat", "dog"], languages=["de", *[""] * 5]))
        assert asked == ["de", "en", "en", "en"]

    def test_without_distillation_there_is_no_teacher(self, place):
        module = quiet(make(place, loss_weights=None))
        assert module.teacher is None
        assert "distillation" not in module.losses(a_batch(place))

    def test_a_checkpoint_from_before_a_setting_was_there(self, place):
        module = make(place)
        config = {name: value for name, value in CONFIG.items() if name != "stored_positions"}
        module.on_load_checkpoint({"zoo_tokenizer": {"family": "stabletoken", "config": config}})
        with pytest.raises(ConfigError, match="another tokenizer"):
            module.on_load_checkpoint({"zoo_tokenizer": {"family": "stabletoken", "config": {**config, "num_mel": 8}}})

    def test_weights_of_another(self, place, tmp_path):
        trained = make(place)
        with torch.no_grad():
            trained.tokenizer.quantizer.branches.weight.add_(1)
        zoo.save(trained.tokenizer, tmp_path / "x", name="stabletoken.tiny")
        with pytest.warns(UserWarning, match="recognizer.positions, recognizer.layers.* which start afresh"):
            again = make(place, weights=str(tmp_path / "x"))
        assert differences(trained.tokenizer.state_dict(), again.tokenizer.state_dict()) == []


class TestRandomPlace:
    """Views begin anywhere in the position table, so that tokens do not learn where speech began."""

    def test_an_item_that_begins_later_gets_the_rows_from_there(self):
        encoder = tiny.make().encoder
        mel, frames = torch.randn(2, 16, 40), torch.tensor([40, 21])
        assert encoder.slack(frames).tolist() == [80, 88]
        places = torch.tensor([7, 88])
        with torch.no_grad():
            moved, mask = encoder(mel, frames, places)
            torch.testing.assert_close(encoder(mel, frames, torch.zeros(2).long()), encoder(mel, frames))
            for row, (place, count) in enumerate(zip(places, (10, 6), strict=True)):
                other = tiny.make().encoder
                other.load_state_dict(encoder.state_dict())
                other.positions = encoder.positions.roll(-int(place), 0)
                alone = other(mel[row : row + 1], frames[row : row + 1])[0][0]
                torch.testing.assert_close(moved[row, :count], alone[:count])
                assert int(mask[row].sum()) == count

    def test_a_share_of_both_views_moves_and_only_in_training(self, place):
        module = quiet(make(place, random_place=0.75))
        frames = torch.full((4000,), 101)
        rows = module._places(frames)
        assert float((rows == 0).float().mean()) == pytest.approx(0.25 + 0.75 / 49, abs=0.03)
        assert sorted(rows.unique().tolist()) == list(range(49))  # 26 tokens leave 48 rows of 100
        torch.manual_seed(3)
        first = module._places(frames)
        torch.manual_seed(3)
        assert torch.equal(module._places(frames), first)
        seen, forward = [], module.tokenizer.encoder.forward
        module.tokenizer.encoder.forward = lambda mel, frames, places=None: (
            seen.append(places) or forward(mel, frames, places)
        )
        taught = module.teacher.forward
        module.teacher.forward = lambda *inputs: seen.append(len(inputs)) or taught(*inputs)
        module.losses(a_batch(place))
        assert len(seen[0]) == 12
        assert len(seen[0].unique()) > 2
        assert seen[1] == 2  # the teacher is told of no place
        module.eval().losses(a_batch(place))
        quiet(make(place)).losses(a_batch(place))
        assert seen[2] is None
        with pytest.raises(ConfigError, match="random_place must be from 0 to 1"):
            make(place, random_place=1.5)

    def test_the_consensus_of_the_voters_is_over_places_as_well(self, place):
        batch = a_batch(place, noise=False)  # both views are the same speech
        apart = {}
        for share in (0.0, 1.0):
            module = quiet(make(place, random_place=share))
            forward = module.tokenizer.quantizer.forward

            def listen(z, mask, noisy, share=share, forward=forward):
                apart[share] = float((z - noisy).detach()[mask].abs().max())
                return forward(z, mask, noisy=noisy)

            module.tokenizer.quantizer.forward = listen
            module.losses(batch)
        assert apart[0.0] < 1e-5
        assert apart[1.0] > 0.1


class TestStart:
    """The quantizer and the positions behind it start from what Whisper makes of speech."""

    def start(self, place, **quantizer):
        config = {**CONFIG, "quantizer": {**CONFIG["quantizer"], "bias": True, **quantizer}}
        seed_everything(0, verbose=False)
        module = quiet(StableTokenTraining(config, str(place / "whisper"), loss_weights={"distillation": 1.0}))
        items = SpeechData(str(place / "corpus")).dataset("train")
        before = module.eval().losses(a_batch(place))["distillation"].item()
        start_from_speech(module.tokenizer, module.recognizer, items, 12)
        return module, items, before

    def test_it_is_nearer_to_the_untouched_encoder(self, place):
        module, _, before = self.start(place)
        assert module.losses(a_batch(place))["distillation"].item() < 0.9 * before

    def test_of_other_quantizers_distances_alone_start(self, place):
        quantizer = {"kind": "fsq", "levels": [5, 5]}
        module = make(place, {**CONFIG, "quantizer": quantizer, "attention_reach": 4})
        start_from_speech(module.tokenizer, module.recognizer, SpeechData(str(place / "corpus")).dataset("train"), 4)
        assert module.tokenizer.encoder.biases[1].table.abs().max() > 0
        assert not module.recognizer.positions.any()

    def test_codes_and_positions_add_up_to_the_states(self, place):
        module, items, _ = self.start(place, num_voters=1, num_clean=1)
        tokenizer, positions = module.tokenizer, module.recognizer.positions
        rest, left, spread = [], [], []
        for number in range(len(items)):
            wave = items.wave(number)
            hidden, mask = tokenizer.encoder(*tokenizer.features(wave[None], torch.tensor([len(wave)])))
            hidden = hidden[mask]
            spread.append(hidden)
            rest.append(hidden - positions[: len(hidden)])
            left.append(rest[-1] - tokenizer.quantizer(hidden).codes)
        spread, rest, left = (torch.cat(rows) for rows in (spread, rest, left))
        total = (spread - spread.mean(0)).square().mean()
        # Part of what varies is the place, and the codes say part of the remainder.
        assert rest.square().mean() < 0.98 * total
        assert left.square().mean() < 0.97 * rest.square().mean()

    def test_a_run_starts_so_and_one_that_goes_on_does_not(self, place, tmp_path, quiet_lightning):
        quantizer = {**CONFIG["quantizer"], "bias": True}
        options = {"model": {"start_utterances": 4}, "config": {**CONFIG, "quantizer": quantizer}}
        train(place, tmp_path, max_steps=2, **options)
        assert runs.read(tmp_path)["state_dict"]["recognizer.positions"].abs().max() > 0.1
        _, module = train(place, tmp_path, resume=True, max_steps=4, **options)
        assert module.global_step == 4
        # The recipe's quantizer is swapped by one line, and another one has no such start.
        for number, other in enumerate((CONFIG["quantizer"], {"kind": "fsq", "levels": [5, 5]})):
            options["config"] = {**CONFIG, "quantizer": other}
            _, module = train(place, tmp_path / f"{number}", max_steps=1, **options)
            assert module.recognizer.positions.abs().max() < 0.1

    def test_distances_say_what_positions_said(self, place):
        near = {**CONFIG, "quantizer": {**CONFIG["quantizer"], "bias": True}, "attention_reach": 4}
        data = SpeechData(str(place / "corpus"), text_languages=["en"]).dataset("train")
        module, table = make(place, near), make(place).tokenizer.encoder
        encoder = module.tokenizer.encoder
        assert not any(bias.table.any() for bias in encoder.biases)
        start_from_speech(module.tokenizer, module.recognizer, data, 8)
        assert module.recognizer.positions.abs().max() > 0.1
        assert torch.equal(encoder.offset, table.positions[len(table.positions) // 2])
        # Where speech stands in the middle of the table, the first layer attends much as with the table.
        mel, _ = module.tokenizer.features(data.wave(1)[None], torch.tensor([len(data.wave(1))]))
        mask = torch.ones(1, mel.shape[2] // 2, dtype=torch.bool)
        wanted = table.layers[0](table.stem(mel, None, torch.tensor([len(table.positions) // 2])))
        found = encoder.layer(0, encoder.stem(mel), mask)
        with torch.no_grad():
            encoder.biases[0].table.zero_()
        unset = encoder.layer(0, encoder.stem(mel), mask)
        assert (found - wanted).square().mean() < (unset - wanted).square().mean()

    def test_no_place_to_move_without_positions(self, place):
        with pytest.raises(ConfigError, match="random_place moves speech in a position table"):
            make(place, {**CONFIG, "attention_reach": 4}, random_place=0.5)
        with pytest.raises(ConfigError, match="attention_reach must be at least pooling_kernel = 2"):
            make(place, {**CONFIG, "attention_reach": 1})
        with pytest.raises(ConfigError, match="stored_positions is of a position table"):
            make(place, {**CONFIG, "attention_reach": 4, "stored_positions": True})


class TestLaterStages:
    """A run that starts from the training checkpoint of another takes over all of it."""

    def test_the_recogniser_as_well(self, place, tmp_path, quiet_lightning):
        _, first = train(place, tmp_path, max_steps=3, model={"optimizer": OptimizerConfig(lr=1e-2)})
        last = tmp_path / "checkpoints/last.ckpt"
        before, fresh = runs.read(tmp_path), make(place)
        later = make(place, weights=str(last))
        names = {name for name, _ in first.named_parameters() if name.startswith("recognizer.")}
        assert names
        state = later.state_dict()
        assert all(torch.equal(state[name], before["state_dict"][name]) for name in names)
        assert any(not torch.equal(fresh.state_dict()[name], state[name]) for name in names)
        # Of the tokenizer the average.
        average = before["callbacks"]["zoo_ema"]["average"]
        assert all(torch.equal(state[f"tokenizer.{name}"], tensor) for name, tensor in average.items())

    def test_nothing_is_set_from_speech_again(self, place, tmp_path, quiet_lightning):
        quantizer = {**CONFIG["quantizer"], "bias": True}
        options = {"config": {**CONFIG, "quantizer": quantizer}}
        train(place, tmp_path / "a", max_steps=1, model={"start_utterances": 4}, **options)
        last = str(tmp_path / "a/checkpoints/last.ckpt")
        wanted = runs.read(tmp_path / "a")["state_dict"]["recognizer.positions"]
        model = {"start_utterances": 4, "weights": last, "optimizer": OptimizerConfig(lr=1e-12)}
        _, module = train(place, tmp_path / "b", max_steps=1, model=model, **options)
        assert torch.allclose(module.recognizer.positions, wanted, atol=1e-6)

    def test_positions_are_taken_out(self, place, tmp_path, quiet_lightning):
        table = {**CONFIG, "quantizer": {**CONFIG["quantizer"], "bias": True}}
        _, first = train(place, tmp_path / "a", max_steps=2, config=table, model={"start_utterances": 4})
        near = {**table, "attention_reach": 8}
        last = str(tmp_path / "a/checkpoints/last.ckpt")
        with pytest.raises(ConfigError, match="Set start_utterances"):
            make(place, near, weights=last)
        still = OptimizerConfig(lr=1e-12)
        model = {"start_utterances": 4, "weights": last, "optimizer": still}
        _, later = train(place, tmp_path / "b", max_steps=1, config=near, model=model)
        assert later.tokenizer.encoder.positions is None
        assert all(bias.table.abs().max() > 0 for bias in later.tokenizer.encoder.biases)
        assert torch.allclose(later.recognizer.positions, first.recognizer.positions, atol=1e-6)
        average = runs.read(tmp_path / "a")["callbacks"]["zoo_ema"]["average"]["quantizer.branches.weight"]
        assert torch.allclose(later.tokenizer.quantizer.branches.weight, average, atol=1e-6)

    def test_a_recogniser_starts_behind_a_trained_tokenizer(self, place, tmp_path, quiet_lightning):
        config = {**CONFIG, "quantizer": {**CONFIG["quantizer"], "bias": True}, "attention_reach": 8}
        tokenizer = make(place, config).tokenizer.eval()
        zoo.save(tokenizer, tmp_path / "model")
        wave = SpeechData(str(place / "corpus")).dataset("train").wave(0)
        model = {"start_utterances": 4, "weights": str(tmp_path / "model"), "optimizer": OptimizerConfig(lr=1e-12)}
        with pytest.warns(UserWarning, match=r"training needs of recognizer.positions.*start afresh"):
            make(place, config, **model)
        _, module = train(place, tmp_path, max_steps=1, config=config, model=model, told=("weights: .* start afresh",))
        assert module.recognizer.positions.abs().max() > 0
        assert not torch.allclose(module.tokenizer.quantizer.out.weight, tokenizer.quantizer.out.weight, atol=1e-3)
        assert torch.equal(module.tokenizer.eval().encode(wave).ids, tokenizer.encode(wave).ids)

    def test_another_tokenizers_is_refused(self, place, tmp_path):
        other = make(place, {**CONFIG, "quantizer": {"kind": "fsq", "levels": [5, 5]}})
        torch.save({"state_dict": other.state_dict(), "zoo_tokenizer": other._identity()}, tmp_path / "x.ckpt")
        with pytest.raises(ConfigError, match=r"does not fit the model: .*quantizer\.kind is"):
            make(place, weights=str(tmp_path / "x.ckpt"))
        with pytest.raises(CheckpointError, match="no training checkpoint"):
            make(place, weights=str(tmp_path / "y.ckpt"))


def train(place, root, resume=False, kill_at=None, model=None, data=None, config=CONFIG, told=(), **trainer):
    """Make one run of a few steps, in which `told` are no errors; see `training_runs.train`."""
    from toy_training import SignalAt

    torch.set_num_threads(1)
    warnings.simplefilter("error")
    for text in (*runs.ADVICE, *told):
        warnings.filterwarnings("ignore", text)
    module = make(place, config, **(model or {}))
    callbacks = [EMA(0.9), ExactResume(), Checkpoints(every_n_steps=2)]
    if kill_at is not None:
        callbacks.append(SignalAt(kill_at + 1))
    runner = Trainer(
        default_root_dir=root,
        accelerator="cpu",
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "max_steps": 7, "num_sanity_val_steps": 0, **trainer},
    )
    loader = SpeechData(str(place / "corpus"), **{"text_languages": ["en"], "batch_size": 6, **(data or {})})
    runner.fit(module, loader, ckpt_path=Path(root, "checkpoints/last.ckpt") if resume else None)
    return runner, module


def _start(place, root, environment=None, **options):
    """Run `train` in a forked process; return its number."""
    child = os.fork()
    if not child:
        try:
            os.environ.update(environment or {})
            train(place, root, **options)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    return child


def _run(place, root, **options):
    """Run `train` in a process of its own; return its exit code."""
    return _wait(_start(place, root, **options))


def _wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_and_resumed_to_the_same_bits(place, tmp_path):
    # Four batches an epoch: within the first, at the start of the second, and within it.
    options = {"model": {"random_place": 0.75}}
    assert _run(place, tmp_path / "whole", **options) == 0
    for series in ((2, 4, 5),):
        root = tmp_path / "-".join(map(str, series))
        for i, batch in enumerate(series):
            assert _run(place, root, kill_at=batch, resume=i > 0, **options) == -signal.SIGKILL
        assert _run(place, root, resume=True, **options) == 0
        whole, resumed = runs.read(tmp_path / "whole"), runs.read(root)
        for checkpoint in (whole, resumed):
            del checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
        assert differences(whole, resumed) == []


def test_two_processes(place, tmp_path):
    """Every parameter has a gradient on both, also where one of them has no transcript, and both end alike."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    options = {"devices": 2, "strategy": "ddp", "max_steps": 4, "data": {"batch_size": 2, "text_languages": ["de"]}}
    pair = [_start(place, tmp_path / "x", {**shared, "LOCAL_RANK": str(rank)}, **options) for rank in range(2)]
    assert [_wait(child) for child in pair] == [0, 0]
    start, end = make(place).tokenizer.state_dict(), tokenizer_of(tmp_path / "x/checkpoints/last.ckpt").state_dict()
    moved = {name for name, tensor in end.items() if not torch.equal(tensor, start[name])}
    assert {name.split(".")[0] for name in moved} == {"encoder", "quantizer"}


@pytest.mark.parametrize(
    "quantizer",
    [
        CONFIG["quantizer"],
        {**CONFIG["quantizer"], "num_voters": 1, "num_clean": 1},
        {"kind": "fsq", "levels": [5, 5, 5]},
        {"kind": "vq", "codebook_size": 64, "dim": 8, "ema_decay": 0.9},
        {"kind": "lfq", "num_bits": 6},
        {"kind": "residual", "num_stages": 2, "stage": {"kind": "vq", "codebook_size": 16, "dim": 8}},
    ],
    ids=lambda quantizer: f"{quantizer['kind']}{quantizer.get('num_voters', '')}",
)
def test_any_quantizer_learns_and_is_exported(place, tmp_path, quantizer):
    config = {**CONFIG, "quantizer": quantizer}
    seed_everything(0, verbose=False)
    module = quiet(StableTokenTraining(config, str(place / "whisper"), loss_weights={"distillation": 1.0}))
    batch = a_batch(place)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 3e-3)

    def loss():
        losses = module.losses(batch)
        return losses["asr"] + losses["distillation"], sum(losses.values())

    first = loss()[0].item()
    for _ in range(8):
        optimizer.zero_grad()
        loss()[1].backward()
        optimizer.step()
    assert loss()[0].item() < 0.9 * first


def test_validation_counts_what_changes_and_what_is_misheard(place, tmp_path, quiet_lightning):
    runner, _module = train(
        place, tmp_path, model={"transcribe": True}, max_steps=4, val_check_interval=4, data={"eval_batch_size": 4}
    )
    metrics = {name: float(value) for name, value in runner.callback_metrics.items()}
    assert 0 < metrics["val/changed"] <= 1
    assert 0 < metrics["val/changed_by_place"] <= 1
    assert metrics["val/wer"] > 0
    assert metrics["val/cer"] > 0
    assert 0 < metrics["val/usage"] <= 1
    (measured,) = runner.test(_module, SpeechData(str(place / "corpus"), eval_batch_size=4), verbose=False)
    assert measured.keys() >= {"test/wer", "test/cer", "test/wer_untouched", "test/cer_untouched", "test/changed"}
    # The exported average gives the ids that were measured.
    tokenizer = tokenizer_of(tmp_path / "checkpoints/last.ckpt")
    data = SpeechData(str(place / "corpus"), eval_batch_size=4)
    clean, noisy, counts = [], [], 0
    for batch in data.val_dataloader():
        clean += tokenizer.encode(batch.waves, batch.lengths).tolist()
        noisy += tokenizer.encode(batch.noisy, batch.lengths).tolist()
    changed = sum(a != b for x, y in zip(clean, noisy, strict=True) for a, b in zip(x, y, strict=True))
    counts = sum(map(len, clean))
    assert changed / counts == pytest.approx(metrics["val/changed"], abs=0.1)
    assert float(unit_edit_distance(noisy, clean)) <= 100 * changed / counts + 1e-3


def test_h2_figures_do_not_depend_on_the_batch(place, tmp_path, quiet_lightning):
    model = {"transcribe": True, "loss_weights": {"distillation": 1.0}}
    runner, module = train(place, tmp_path, model=model, max_steps=1)
    found = []
    for size in (1, 4, 6):
        data = SpeechData(str(place / "corpus"), text_languages=["en"], eval_batch_size=size)
        found += runner.test(module, data, verbose=False)
    names = ("asr", "loss", "wer", "cer", "distillation", "usage", "perplexity", "quantizer_entropy")
    names += ("changed", "changed_by_place")
    assert {f"test/{name}" for name in names} <= set(found[0])
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-3, abs=1e-5)


def test_picture(place):
    batch = a_batch(place)
    (figure,) = make(place).eval().media(batch).values()
    labels = [axis.get_ylabel() for axis in figure.figure.axes]
    assert labels[0].startswith("clean")
    assert "changed" in labels[3]


@pytest.mark.parametrize("name", ["nano", "nano_more", "nano_near", "base", "paper"])
def test_recipes_train(name, place, tmp_path, capsys, monkeypatch, quiet_lightning):
    """Every recipe's tokenizer can be built as it is, and a small one takes the recipe's steps and is exported."""
    path = RECIPES / f"{name}.yaml"
    values = yaml.safe_load(path.read_text())
    with torch.device("meta"):
        tokenizer = zoo.registry.family("stabletoken").from_config(values["model"]["init_args"]["config"])
    assert tokenizer.spec.token_rate == 25
    # What Lightning's CLI leaves in the environment, and a name of jsonargparse's that has changed.
    for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    quantizer = {**values["model"]["init_args"]["config"]["quantizer"], "dim": 32, "num_bits": 6}
    overrides = {
        "trainer.strategy": "auto",
        "trainer.accelerator": "cpu",
        "trainer.max_steps": "3",
        "trainer.val_check_interval": "2",
        "trainer.log_every_n_steps": "1",
        "trainer.default_root_dir": str(tmp_path),
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "data.folder": str(place / "corpus"),
        "data.batch_size": "4",
        "data.num_workers": "0",
        "data.pin_memory": "false",
        "data.sources": "null",
        "data.repeat": "null",
        "model.whisper": str(place / "whisper"),
        "model.config": json.dumps({**CONFIG, "quantizer": quantizer}),
        "model.optimizer.warmup_steps": "1",
        "model.start_utterances": str(min(4, values["model"]["init_args"].get("start_utterances", 0))),
    }
    if "weights" in values["model"]["init_args"]:  # of an earlier stage
        module, checkpoint = make(place, {**CONFIG, "quantizer": quantizer}), tmp_path / "before.ckpt"
        torch.save(
            {"state_dict": module.state_dict(), "zoo_tokenizer": module._identity(), "global_step": 1}, checkpoint
        )
        overrides["model.weights"] = str(checkpoint)
    arguments = [part for key, value in overrides.items() for part in (f"--{key}", value)]
    with process_random.preserved():
        assert main(["fit", "--config", str(path), *arguments]) == 0, capsys.readouterr().err
    folder = tmp_path / "model"
    last = str(tmp_path / "checkpoints/last.ckpt")
    assert main(["export", last, "-o", str(folder), "--name", "stabletoken.mine", "--dtype", "float16"]) == 0
    assert zoo.load(folder).encode(torch.rand(6400)).lengths.tolist() == [10]
