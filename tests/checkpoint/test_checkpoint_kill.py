"""A save that is killed, and a load while another process saves: the old checkpoint, the new one, or a clear error."""

import json
import os
from pathlib import Path

import children
import pytest
import toy
from checkpoint_tools import WEIGHTS, refused_load, same

import zoo
from zoo.checkpoint import weights
from zoo.errors import CheckpointError


@pytest.fixture(autouse=True)
def toys():
    with toy.registered():
        yield


def test_a_file_that_is_replaced_while_it_is_read_is_noticed(tmp_path, monkeypatch):
    old, new = toy.make("image", seed=1), toy.make("image", seed=2)
    zoo.save(old, tmp_path)
    read = weights.read

    def interrupted(file, names):
        zoo.save(new, tmp_path, overwrite=True)
        return read(file, names)

    monkeypatch.setattr(weights, "read", interrupted)
    refused_load(tmp_path, CheckpointError, WEIGHTS, "was replaced while it was being read: load it again")
    monkeypatch.undo()
    assert same(zoo.load(tmp_path), new)


DRIVER = """
    import json, os, random, signal, sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    folder = Path(sys.argv[2])
    import toy, torch, zoo
    from checkpoint_tools import same
    from zoo.errors import CheckpointError
    torch.set_num_threads(1)
    for cls in toy.CLASSES.values():
        zoo.register(cls)
    old, new = toy.make("image", seed=1), toy.make("image", seed=2, codebook_size=32)

    def outcome():
        try:
            tok = zoo.load(folder)
        except CheckpointError as error:
            return str(error)
        model = {"toy_image.s1": old, "toy_image.s2": new}[tok.name]
        return tok.name if same(tok, model) else "MIXTURE"

    def child(work):
        pid = os.fork()
        if not pid:
            work()
            os._exit(0)
        return pid

    def killed(pid):
        status = os.waitpid(pid, 0)[1]
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def kill_at(step):
        '''Save, and be killed before the n-th replacement of a file.'''
        replace, left = Path.replace, [step]
        def counted(self, target):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return replace(self, target)
        Path.replace = counted
        zoo.save(new, folder, overwrite=True)

    results = {"steps": [], "times": [], "reads": []}
    for step in range(3):
        zoo.save(old, folder, overwrite=True)
        was_killed = killed(child(lambda: kill_at(step)))
        results["steps"].append([was_killed, outcome()])
    zoo.save(new, folder, overwrite=True)
    results["after"] = outcome()

    parent = os.getpid()

    def overwrite_forever():
        while os.getppid() == parent:
            zoo.save(old, folder, overwrite=True)
            zoo.save(new, folder, overwrite=True)

    chance = random.Random(0)
    for _ in range(15):
        pid = child(overwrite_forever)
        time.sleep(0.02 + chance.random() * 0.03)
        os.kill(pid, signal.SIGKILL)
        results["times"].append([killed(pid), outcome()])
    zoo.save(new, folder, overwrite=True)
    pid = child(overwrite_forever)
    for _ in range(80):
        results["reads"].append(outcome())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print(json.dumps(results))
"""

CLEAR = ("is damaged", "truncated", "larger than it should be", "was replaced while", "replaced it just now")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_save_leaves_the_old_or_the_new_checkpoint_or_a_clear_error(tmp_path):
    """Real processes, killed at every step of the replacement, at random times, and while another process reads."""
    done = children.run(DRIVER, Path(toy.__file__).parent, tmp_path)
    assert not done.returncode, done.stderr
    results = json.loads(done.stdout)
    before_weights, before_config, finished = results["steps"]
    assert before_weights == [True, "toy_image.s1"]
    assert before_config[0] is True
    assert f"{tmp_path / WEIGHTS} is larger than it should be" in before_config[1]
    assert "A save into this folder was interrupted, or is still running: save it again." in before_config[1]
    assert finished == [False, "toy_image.s2"]
    assert results["after"] == "toy_image.s2"
    assert len(results["times"]) == 15
    assert all(was_killed for was_killed, _ in results["times"])
    outcomes = [outcome for _, outcome in results["times"]] + results["reads"]
    assert len({outcome for outcome in outcomes if outcome.startswith("toy_image.")}) == 2
    for outcome in outcomes:
        assert outcome in ("toy_image.s1", "toy_image.s2") or any(part in outcome for part in CLEAR), outcome
