#!/usr/bin/env python3
"""Collect expert robot actions from the 50 scripted policies of MetaWorld.

    zoo data metaworld
    zoo data metaworld --out actions.npz --sample zoo/data/samples/metaworld_expert.npz

The result is ${XDG_CACHE_HOME:-~/.cache}/tokenizer-zoo/metaworld.npz unless `--out` says otherwise. The simulator wants
package versions of its own, so the script makes a virtual environment in the cache (about 400 MB), installs the pinned
packages there, and runs itself inside it. It needs Python >= 3.11 and a package index that pip can reach; it imports
nothing of this library. Collecting takes one to three minutes on one core.

The file is a plain NumPy archive that `zoo.data.actions.read_actions` reads (E episodes, N steps in all, D = 4):

    actions       float32 [N, D]   commands as sent to the robot, inside [-1, 1]: x, y, z step and gripper
    offsets       int64 [E + 1]    episode e is actions[offsets[e]:offsets[e + 1]]
    names         str [E]          task, episode number, and "noisy" where noise was added
    split         str [E]          "train" or "test", see below
    task          str [E]          the MetaWorld task
    success       bool [E]         whether the task was solved
    action_noise  float32 [E]      standard deviation of the noise added to the script's command
    control_rate  float64          80 steps a second
    dof_names     str [D]
    about         str              JSON: packages, seed, licence

**Split.** The last quarter of the episodes of every task is the test set (`split_of`). No two episodes of a task start
from the same scene or send the same commands, so no test trajectory is a copy of a training one. **Noise.** Every third
episode has Gaussian noise of 0.1 added to each command before clipping, in both splits. **Failures.** Unsolved episodes
are kept, cut at 500 steps, and flagged. **Seeds.** Scenes depend on `--seed` and the task, noise on `--seed`, the task
and the episode, so one task's episodes do not depend on the others. Two runs on one kind of machine give the same
bytes; another processor may round differently inside the simulator.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

PINS = (
    "absl-py==2.5.1",
    "cloudpickle==3.1.2",
    "etils==1.15.0",
    "Farama-Notifications==0.0.6",
    "fsspec==2026.9.0",
    "glfw==2.11.0",
    "gymnasium==1.4.0",
    "imageio==2.38.1",
    "mujoco==3.3.0",
    "numpy==2.4.6",
    "packaging==26.3",
    "pillow==13.0.0",
    "PyOpenGL==3.1.10",
    "scipy==1.17.1",
    "typing_extensions==4.16.0",
    "zipp==4.1.2",
)
METAWORLD = "metaworld==3.1.1"
METAWORLD_SHA256 = "99e25d9baf97f2f1a19ca89c0d2ca9c6a2b396d9a9be81729de64eedc683f0d3"

CONTROL_RATE = 80.0
DOF_NAMES = ("x", "y", "z", "gripper")
NOISE = 0.1
NUM_SCENES = 50  # what MetaWorld draws per task; more episodes than that would repeat scenes
MAX_STEPS = 500
SAMPLE_TASKS = ("assembly-v3", "door-open-v3", "drawer-open-v3", "pick-place-v3")


def split_of(episode: int, episodes: int) -> str:
    """Return the split of an episode, counted from 0 inside its task: the last quarter (rounded up) is the test set."""
    return "test" if episode >= episodes - (episodes + 3) // 4 else "train"


def noise_of(episode: int) -> float:
    """Return the standard deviation of the noise added in an episode: every third one has some."""
    return NOISE if episode % 3 == 2 else 0.0


def main() -> None:
    """Parse the command line; install and start over inside the environment, or collect when already there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
    parser = argparse.ArgumentParser(description="Collect expert robot actions from MetaWorld's scripted policies.")
    parser.add_argument("--out", type=Path, default=cache / "metaworld.npz", help="file to write (%(default)s)")
    parser.add_argument("--episodes", type=int, default=12, help="episodes a task, 2 to 50 (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and noise (%(default)s)")
    parser.add_argument("--env", type=Path, default=cache / "metaworld-env", help="virtual environment to make or use")
    parser.add_argument("--sample", type=Path, help="also write a small file: one test episode of four tasks")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not 2 <= args.episodes <= NUM_SCENES:
        parser.error(f"--episodes must lie in 2..{NUM_SCENES}, got {args.episodes}: a task has {NUM_SCENES} scenes.")
    if args.out.is_dir():
        parser.error(f"--out must be a file, and {args.out} is a folder.")
    if args.seed < 0:
        parser.error(f"--seed must not be negative, got {args.seed}.")
    if args.inside:
        collect(args.out, args.episodes, args.seed, args.sample)
        return
    python = prepare(args.env)
    # One thread, so that no reduction is split differently from run to run. Warnings are Gymnasium's remarks on
    # MetaWorld's observation bounds, one a task.
    settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    # -P keeps this file's folder off the path, where `import metaworld` would find this file.
    command = [str(python), "-P", __file__, "--inside", *sys.argv[1:]]
    done = subprocess.run(command, env={**os.environ, **settings}, check=False)
    raise SystemExit(done.returncode)


def prepare(folder: Path) -> Path:
    """Make the virtual environment if it is not there yet, and return its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = "\n".join((METAWORLD, METAWORLD_SHA256, *PINS))
    stamp = folder / "installed.txt"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    if folder.exists() and not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} holds something else than a virtual environment; give --env a new folder.")
    print(f"Making {folder} ...", flush=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"Could not make the virtual environment {folder}: {error}") from None
    run_pip(python, "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder / "wheels"), METAWORLD)
    (wheel,) = (folder / "wheels").glob("metaworld-*.whl")
    if (digest := sha256(wheel)) != METAWORLD_SHA256:
        raise SystemExit(
            f"The package index gave another {METAWORLD} than the one this script was written for:\n"
            f"  {wheel.name} has SHA-256 {digest},\n  expected {METAWORLD_SHA256}. Nothing was installed."
        )
    # --no-deps: every package is in PINS, and a resolver would take the newest mujoco, which MetaWorld cannot use.
    run_pip(python, "install", "--no-deps", *PINS, str(wheel))
    stamp.write_text(wanted, encoding="utf-8")
    return python


def run_pip(python: Path, *arguments: str) -> None:
    """Run pip in the environment, or end the script with what pip said."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(f"  {line}" for line in (done.stderr or done.stdout).strip().splitlines()[-6:])
        raise SystemExit(
            f"pip {arguments[0]} failed. If the package index did not answer, try again later or point pip at a mirror "
            f"(PIP_INDEX_URL).\nIf a pinned version is gone, see PINS in {Path(__file__).name}. pip said:\n{said}"
        )


def collect(out: Path, episodes: int, seed: int, sample: Path | None) -> None:
    """Run every script in its task and write the archive. Called inside the environment."""
    import numpy as np
    from metaworld.policies import ENV_POLICY_MAP

    tasks = sorted(ENV_POLICY_MAP)
    rows = []
    for number, task in enumerate(tasks):
        rows += run_task(task, number, ENV_POLICY_MAP[task], episodes, seed)
        steps = [len(row["actions"]) for row in rows[-episodes:]]
        solved = sum(row["success"] for row in rows[-episodes:])
        print(f"{number + 1:2}/{len(tasks)} {task:30} {solved}/{episodes} solved, {sum(steps):5} steps", flush=True)
    about = {
        "origin": "scripted expert policies of MetaWorld",
        "package": METAWORLD,
        "licence": "MIT",
        "seed": seed,
        "versions": [pin for pin in PINS if pin.split("==")[0] in ("gymnasium", "mujoco", "numpy")],
    }
    write(out, rows, about)
    lengths = np.array([len(row["actions"]) for row in rows])
    for split in ("train", "test"):
        inside = np.array([row["split"] == split for row in rows])
        noisy = sum(row["split"] == split and row["action_noise"] > 0 for row in rows)
        print(f"{split:5} {inside.sum():4} episodes ({noisy} with noise), {lengths[inside].sum():6} steps")
    solved = sum(row["success"] for row in rows)
    print(f"{len(rows)} episodes of {len(tasks)} tasks, {solved} solved; {lengths.sum()} steps at {CONTROL_RATE:g} Hz")
    print(f"length {lengths.min()} to {lengths.max()} steps, median {np.median(lengths):g}")
    print(f"{out}: SHA-256 {sha256(out)}")
    if sample is not None:
        first = [next(row for row in rows if row["task"] == task and row["split"] == "test") for task in SAMPLE_TASKS]
        write(sample, first, about)
        print(f"{sample}: SHA-256 {sha256(sample)}")


def run_task(task: str, number: int, policy: type, episodes: int, seed: int) -> list[dict]:
    """Return the episodes of one task, each from a scene of its own, ended by success or after `MAX_STEPS`."""
    import gymnasium as gym
    import metaworld  # noqa: F401  (registers the environments)
    import numpy as np

    # "pseudorandom" goes through the 50 scenes in shuffled order; the default draws with replacement, so that a test
    # episode could be the exact copy of a training one. Resetting goes through the wrapper, which sets the scene.
    scenes = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    env = gym.make("Meta-World/MT1", env_name=task, seed=scenes, task_select="pseudorandom")
    env.get_wrapper_attr("toggle_sample_tasks_on_reset")(True)
    rows: list[dict] = []
    sent = set()
    for _ in range(NUM_SCENES):
        if (episode := len(rows)) == episodes:
            break
        noise, rng = noise_of(episode), np.random.default_rng([seed, number, episode])
        observation, _ = env.reset()
        expert = policy()  # several scripts keep a state
        actions, success = [], False
        while not success and len(actions) < MAX_STEPS:
            command = np.asarray(expert.get_action(observation), dtype=np.float64)
            command = command + noise * rng.standard_normal(command.shape)
            action = np.clip(command, -1, 1).astype(np.float32)  # some scripts leave the box
            observation, _, _, truncated, info = env.step(action)
            actions.append(action)
            success = bool(info["success"])
            if truncated:
                break
        # A script that saturates sends the same commands in scenes that differ little: take the next scene then.
        if (commands := np.stack(actions).tobytes()) in sent:
            continue
        sent.add(commands)
        rows.append(
            {
                "actions": np.stack(actions),
                "names": f"{task}.{episode:02}" + (".noisy" if noise else ""),
                "split": split_of(episode, episodes),
                "task": task,
                "success": success,
                "action_noise": noise,
            }
        )
    env.close()
    if len(rows) < episodes:
        raise SystemExit(f"{task} has only {len(rows)} different episodes; ask for fewer than --episodes {episodes}.")
    return rows


def write(path: Path, rows: list[dict], about: dict) -> None:
    """Write episodes as an archive whose bytes depend on its contents only."""
    import numpy as np

    arrays = {
        "actions": np.concatenate([row["actions"] for row in rows]),
        "offsets": np.cumsum([0] + [len(row["actions"]) for row in rows], dtype=np.int64),
        "names": np.array([row["names"] for row in rows]),
        "split": np.array([row["split"] for row in rows]),
        "task": np.array([row["task"] for row in rows]),
        "success": np.array([row["success"] for row in rows]),
        "action_noise": np.array([row["action_noise"] for row in rows], dtype=np.float32),
        "control_rate": np.float64(CONTROL_RATE),
        "dof_names": np.array(DOF_NAMES),
        "about": np.array(json.dumps(about, sort_keys=True)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # not compressed: what zlib writes differs between versions
    part.replace(path)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
