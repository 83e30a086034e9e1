"""Runs of the toy recipe in processes of their own, which may be killed, for the tests of training.

A process is forked from a server that has imported everything already, so that it starts in a moment. It is as real as
any: it has its own memory, and SIGKILL ends it.
"""

import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import warnings
from pathlib import Path

import pytest
import torch
import toy_training
from lightning.pytorch import Trainer, seed_everything

from zoo import registry
from zoo.cli import main
from zoo.process import random as process_random
from zoo.training import EMA, LAST, Checkpoints, ExactResume, OptimizerConfig

VQ = {"kind": "vq", "codebook_size": 32, "dim": 4, "ema_decay": 0.9, "revive_below": 0.1}

# Lightning calls something of torch that will change, and gives advice about speed that runs of a second do not need.
ADVICE = (
    "The '.*_dataloader' does not have many workers",
    "The number of training batches .* is smaller than the logging interval",
    ".isinstance.treespec, LeafSpec.. is deprecated",
    "Using .DistributedSampler. with the dataloaders",
)


def train(
    root,
    resume=False,
    kill_at=None,
    signal_at=None,
    every=3,
    decay=0.9,
    batch_size=16,
    workers=0,
    data=None,
    model=None,
    kind="ToyTraining",
    **trainer,
):
    """Make one run.

    `kill_at` is the number of the batch after which the process is killed, `signal_at` that of the batch during which
    it gets a signal, and which; `kind` is what of `toy_training` is trained.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    for text in ADVICE:
        warnings.filterwarnings("ignore", text)
    if toy_training.ToyChunks.family not in registry.families():
        registry.register(toy_training.ToyChunks, replace=True)
    seed_everything(1, verbose=False)
    module = getattr(toy_training, kind)(
        **{"config": {"quantizer": VQ}, "optimizer": OptimizerConfig(lr=3e-3, total_steps=30), **(model or {})}
    )
    callbacks = [ExactResume(), Checkpoints(every_n_steps=every)]
    if kill_at is not None:
        callbacks.append(toy_training.SignalAt(kill_at + 1))
    if signal_at is not None:
        callbacks.append(toy_training.SignalAt(*signal_at))
    if decay:
        callbacks.insert(0, EMA(decay))
    runner = Trainer(
        default_root_dir=root,
        accelerator="cpu",
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "max_steps": 15, **trainer},
    )
    loader = toy_training.ToyData(batch_size=batch_size, num_workers=workers, **(data or {}))
    path = Path(root, "checkpoints", LAST)
    runner.fit(module, loader, ckpt_path=path if resume else None)
    return runner, module


def _worker(arguments, environment):
    os.environ.update(environment)
    # A data loader's workers are forked from here; another server would have to import everything.
    multiprocessing.set_start_method("fork", force=True)
    train(**arguments)


def start(environment=None, **arguments):
    """Start `train` in a new process."""
    return _start(_worker, (arguments, environment or {}))


def _start(target, arguments):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zoo.training", "zoo.data.datamodule"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def _command(arguments, paths, log):
    sys.path[:0] = paths
    sys.argv[1:] = arguments
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    runpy.run_module("zoo.cli", run_name="__main__", alter_sys=True)


def start_command(*arguments, paths, log):
    """Start `python -m zoo.cli` in a new process that also imports from `paths` and writes its messages to `log`."""
    return _start(_command, (arguments, list(map(str, paths)), str(log)))


def finish(*processes):
    """Wait for processes, and return their exit codes."""
    for process in processes:
        process.join(60)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes]


def run(**arguments):
    """Run `train` in a process of its own and return the exit code."""
    return finish(start(**arguments))[0]


def run_pair(**arguments):
    """The same as two processes of one distributed run."""
    arguments = {"devices": 2, "strategy": "ddp", **arguments}
    return finish(*(start(environment, **arguments) for environment in _ranks()))


def _ranks():
    """Return the environments of the two processes of a run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    return [{**shared, "LOCAL_RANK": str(rank)} for rank in range(2)]


def read(root):
    """Return the last checkpoint of a run."""
    return torch.load(Path(root, "checkpoints", LAST), weights_only=True)


def differences(first, second, where=""):
    """Return where two checkpoints differ, bit for bit."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) and first.dtype == second.dtype else [where]
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        return [at for key in first for at in differences(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        return [
            at for i, pair in enumerate(zip(first, second, strict=True)) for at in differences(*pair, f"{where}/{i}")
        ]
    return [] if first == second else [where]


def essence(root):
    """Return all that a checkpoint determines the future by: not how much was validated so far."""
    checkpoint = read(root)
    del checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    return checkpoint


def compare(tmp_path, run, kills, **settings):
    """Make one run without stops, and for each series of kills one that is killed and resumed after each."""
    assert run(root=tmp_path / "whole", **settings) in (0, [0, 0])
    whole = essence(tmp_path / "whole")
    assert whole["callbacks"]["zoo_ema"]["average"].keys() <= {
        name.removeprefix("tokenizer.") for name in whole["state_dict"]
    }
    for series in kills:
        root = tmp_path / "-".join(map(str, series))
        for i, batch in enumerate(series):
            assert run(root=root, kill_at=batch, resume=i > 0, **settings) in (-signal.SIGKILL, [-signal.SIGKILL] * 2)
            assert read(root)["global_step"] < whole["global_step"]
        assert run(root=root, resume=True, **settings) in (0, [0, 0])
        assert differences(whole, essence(root)) == [], series
    return whole


def fit_recipe(recipe, folder, **more):
    """Make three steps of a recipe by `zoo fit`, here and quietly; `more` are overrides; return the exit code."""
    values = {
        "trainer.accelerator": "cpu",
        "trainer.max_steps": "3",
        "trainer.val_check_interval": "2",
        "trainer.log_every_n_steps": "1",
        "trainer.default_root_dir": str(folder),
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        **more,
    }
    arguments = [part for key, value in values.items() for part in (f"--{key}", value)]
    # What Lightning and jsonargparse say by the environment is to be forgotten.
    with pytest.MonkeyPatch.context() as environment, process_random.preserved():
        for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            environment.setenv(variable, "0")
        environment.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        return main(["fit", "--config", str(recipe), *arguments])


def require_resumes(fit, tmp_path):
    """Fail unless `fit(folder, **overrides)`, killed before its fifth batch and resumed, ends with the same bits."""
    steps = {"trainer.max_steps": "5", "checkpoints.every_n_steps": "1"}
    assert fit(tmp_path / "whole", **steps) == 0
    child = os.fork()
    if not child:
        killer = json.dumps([{"class_path": "toy_training.SignalAt", "init_args": {"batch": 4, "number": 9}}])
        fit(tmp_path / "killed", **steps, **{"trainer.callbacks": killer})
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert read(tmp_path / "killed")["global_step"] < read(tmp_path / "whole")["global_step"]
    assert fit(tmp_path / "killed", **steps, ckpt_path="last") == 0
    found = differences(essence(tmp_path / "whole"), essence(tmp_path / "killed"))
    assert not found, found


def require_two_processes(fit, tmp_path, apart=()):
    """Fail unless `fit(folder, **overrides)` as two processes trains one model, which both end with.

    `apart` are the names of what each process has for itself.
    """
    kept = json.dumps([{"class_path": "toy_training.KeepWeights", "init_args": {"folder": str(tmp_path)}}])
    both = {"trainer.devices": "2", "trainer.strategy": "ddp_find_unused_parameters_true"}
    options = {"trainer.callbacks": kept}
    children = []
    for environment in _ranks():
        child = os.fork()
        if not child:
            os.environ.update(environment)
            code = 1
            try:
                code = fit(tmp_path / "two", **options, **both)
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    found = differences(first, second)
    assert found == [f"/{name}" for name in apart], found
    assert fit(tmp_path / "one", **options) == 0
    alone = torch.load(tmp_path / "rank-0.pt", weights_only=True)
    assert differences(first, alone), "the second process had other items"
