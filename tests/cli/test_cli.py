"""The `zoo` command as a whole: help, exit codes, what it prints and leaves behind; `list`, `info` and `push`."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch
import toy

import zoo
from zoo import cli, config, registry, tokenfile
from zoo.cli import COMMANDS, main
from zoo.errors import InputError, UnknownNameError

ZOO = Path(sys.executable).with_name("zoo")
SAMPLE = Path(zoo.__file__).parent / "data" / "samples" / "metaworld_expert.npz"


@pytest.fixture
def folder(tmp_path):
    """A checkpoint folder of a toy, whose families are registered meanwhile."""
    with toy.registered():
        tok = toy.make("image", seed=1)
        yield zoo.save(tok, tmp_path / "model", name="toy_image.mine", licence="MIT", trained_on="three pictures")


def run(*arguments, **options):
    """Run the installed command."""
    return subprocess.run([ZOO, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def fails(capsys, code, arguments, *parts):
    """Expect an exit code, one message on stderr that has all the parts, and nothing on stdout."""
    assert main([*map(str, arguments)]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert shown.err.startswith("zoo")
    for part in parts:
        assert part in shown.err


def helps(capsys, command):
    assert main([command, "--help"]) == 0
    return capsys.readouterr().out


# Help


def test_the_installed_command_explains_itself():
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: zoo COMMAND")
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", shown.stdout, re.M)
    assert run("--version").stdout == f"zoo {zoo.__version__}\n"


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from zoo.cli import main; [main(a.split()) for a in sys.argv[1:]]; print('torch' in sys.modules)"
    )
    arguments = ["--help", "list", *(f"{name} --help" for name in COMMANDS)]
    shown = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert shown.stdout.endswith("False\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_fits(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = helps(capsys, name)
    assert text.startswith(f"usage: zoo {name} ")
    assert f"examples:\n  zoo {name}" in text
    assert "--debug" in text
    assert "null" not in text.lower()
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["list", "info", "encode", "decode", "fit-actions", "push"])
def test_every_example_is_a_command_line_that_works(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if name == "decode":  # a model's own options are known from the file
        tokenizer = zoo.load("stabletoken", decoder=False)
        tokenfile.save("talks.zoo", tokenizer.encode(torch.zeros(1, 640)), tokenizer)
    module = import_module(COMMANDS[name].module)
    calls = []
    monkeypatch.setattr(module, COMMANDS[name].module.rpartition(".")[2], lambda **values: calls.append(values))
    examples = helps(capsys, name).partition("examples:\n")[2].splitlines()
    for line in examples:
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert len(calls) == len(examples) > 0


# Exit codes


def test_wrong_usage_is_2(capsys):
    assert main([]) == 2
    assert "usage: zoo COMMAND" in capsys.readouterr().err
    cases = {
        "encod": ["there is no command 'encod'; did you mean 'encode'"],
        "--bogus": ["there is no option '--bogus'"],
        "encode": ["MODEL and INPUT and -o OUT must be given. See `zoo encode --help`."],
        "encode beast a.npy": ["-o OUT must be given"],
        "encode beast a.npy -o out.txt": ["-o", "'out.txt'", "must end in .zoo"],
        "encode beast a.npy -o x.zoo --batch-size 0": ["--batch-size: '0' is not a whole number of 1 or more"],
        "encode beast a.npy -o x.zoo --batch-size 1.5": ["'1.5' is not a whole number"],
        "encode beast a.npy -o x.zoo --batch 3": ["unrecognized arguments: --batch"],
        "encode beast a.npy -o x.zoo --resize half": ["invalid choice: 'half' (choose from"],
        "fit-actions a.npy -o f": ["--horizon STEPS must be given"],
        "fit-actions a.npy -o f --horizon 5 --held-out 1": ["--held-out: '1' is not a share"],
        "fit-actions a.npy -o f --horizon 5 --gripper 1,x": ["'1,x' is not a list of indices"],
        "fit-actions a.npy -o f --horizon 5 --num-basis 0": ["'0' is not a whole number of 1 or more, nor auto"],
        "fit-actions a.npy -o f --horizon 5 --family fast --degree 3": ["--degree is not a setting of fast"],
        "fit-actions a.npy -o f --horizon 5 --control-rate -1": ["'-1' is not a number above 0"],
        "decode x.zoo -o d --frame-rate nan": ["'nan' is not a number above 0"],
        "push x": ["OWNER/REPO must be given"],
    }
    for line, parts in cases.items():
        fails(capsys, 2, line.split(), "error: ", *parts)


def test_an_error_of_the_library_is_1_without_a_traceback(capsys, tmp_path):
    fails(capsys, 1, ["info", "beest"], "zoo: error: there is no model 'beest'; did you mean 'beast'")
    fails(capsys, 1, ["info", tmp_path], "zoo: error: ", "config.json")
    fails(capsys, 1, ["list", "--modality", "smell"], "no modality 'smell'")
    fails(capsys, 1, ["encode", "beast", tmp_path / "no.npy", "-o", tmp_path / "x.zoo"], "no.npy' does not exist")
    with pytest.raises(UnknownNameError):
        main(["info", "beest", "--debug"])


def command(monkeypatch, function):
    """Add a command `act` that calls a function."""
    module = type(sys)("zoo_test_command")
    module.main = function
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "act", cli.Command(module.__name__, "act"))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_with_their_codes(number, code, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    cleared = []

    def act(_):
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            cleared.append(True)

    command(monkeypatch, act)
    # What was started in the background ignores Ctrl-C, and the tests may have been.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["act"]) == code
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert cleared
    assert "Traceback" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_errors_of_the_system_are_1_and_bugs_are_not_hidden(monkeypatch, capsys):
    class OutOfMemoryError(RuntimeError):
        pass

    def raising(error):
        def act(_):
            raise error

        command(monkeypatch, act)

    for error, text in [
        (OSError(28, "No space left on device", "x"), "No space left on device: 'x'"),
        (MemoryError(), "not enough memory: try a smaller --batch-size"),
        (OutOfMemoryError("CUDA"), "the device has not enough memory"),
        (InputError("too short."), "zoo: error: too short."),
    ]:
        raising(error)
        fails(capsys, 1, ["act"], text)
        with pytest.raises(type(error)):
            main(["act", "--debug"])
    raising(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["act"])


def test_a_reader_who_leaves_ends_it_quietly():
    with subprocess.Popen([ZOO, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_warnings_are_one_line_each(monkeypatch, capsys):
    command(monkeypatch, lambda _: warnings.warn("mind the gap", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["act"]) == 0
    assert capsys.readouterr().err == "zoo: warning: mind the gap\n"


def test_a_narrow_encoding_shows_escapes(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["info", "beast"]) == 0
    assert b"20 \\xd7 4" in screen.buffer.getvalue()


# list and info


def test_list(capsys):
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [registry.info(name) for name in registry.list_models()]
    assert main(["list", "--modality", "action", "--family", "beast"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "modality", "parameters", "licence", "weights", "description"]
    assert rows[0].startswith("beast.default*  action ")
    assert len(rows) == len(registry.list_models(modality="action", family="beast"))
    assert main(["list", "--modality", "video", "--family", "beast"]) == 0
    assert capsys.readouterr().out == "There are no such models.\n"
    assert main(["list", "b*.default", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == ["beast.default", "binning.default"]
    fails(capsys, 1, ["list", "beats"], "there is no model 'beats'; did you mean 'beast'")
    assert main(["list", "--generators", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == zoo.list_generators()
    fails(capsys, 1, ["list", "beast", "--generators"], "--generators lists all of them")
    assert main(["info", "larp.L_long_ar"]) == 0
    assert re.search(r"over the tokens of +larp\.L_long\n", capsys.readouterr().out)


def test_list_tells_what_ships_from_what_is_downloaded(capsys):
    assert main(["list", "stabletoken"]) == 0
    _, large, nano = (re.split("  +", line) for line in capsys.readouterr().out.splitlines())
    assert (large[0], large[3:5]) == ("stabletoken.large", ["LicenseRef-StableToken (restricted)", "download"])
    assert (nano[0], nano[3:5]) == ("stabletoken.nano*", ["MIT", "included"])
    assert main(["list", "stabletoken", "--json"]) == 0
    large, nano = json.loads(capsys.readouterr().out)
    assert (large["is_shipped"], nano["is_shipped"], nano["restriction"]) == (False, True, "")
    assert "European Union" in large["restriction"]


def test_info_of_a_shipped_model(capsys):
    tok = zoo.load("beast")
    assert main(["info", "beast", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["spec"] == tok.spec.to_dict()
    assert facts["config"] == config.to_dict(tok.config)
    assert facts["fingerprint"] == tokenfile.fingerprint(tok)
    assert {key: facts[key] for key in ("name", "licence", "trained_on", "num_parameters")} == {
        "name": tok.name,
        "licence": tok.spec.licence,
        "trained_on": tok.trained_on,
        "num_parameters": 0,
    }
    assert main(["info", "beast"]) == 0
    text = capsys.readouterr().out
    for part in (tok.name, tok.trained_on, "256 codes, 8 bits a token", "40 for every chunk", facts["fingerprint"]):
        assert part in text


def test_info_of_a_folder(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for name in (str(folder), "model", "./model"):
        assert main(["info", name]) == 0
        text = capsys.readouterr().out
        assert text.startswith("toy_image.mine\n")
        for part in ("three pictures", "MIT", "16 codes, 4 bits a token", "8 × 8 (height × width)", "parameters  2"):
            assert part in re.sub("(parameters) +", r"\1  ", text)


def test_a_folder_named_like_a_model_is_pointed_out(folder, capsys, monkeypatch):
    folder.rename(folder.with_name("beast"))
    monkeypatch.chdir(folder.parent)
    assert main(["info", "beast", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["name"] == "beast.default"
    assert shown.err == "note: 'beast' is taken for the model of that name; the folder is ./beast.\n"


def test_info_downloads_only_when_asked(folder, hub, capsys):
    assert main(["push", str(folder), "alice/toy"]) == 0
    entry = registry.ModelEntry(
        "toy_image.mine", "toy_image", "image", "hf://alice/toy", "MIT", "A toy.", "pictures", 2
    )
    registry.register(entry)
    capsys.readouterr()
    hub.requests.clear()
    assert main(["info", "toy_image.mine"]) == 0
    assert "not known before it is downloaded" in capsys.readouterr().out
    assert main(["info", "toy_image.mine", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["source"], facts["spec"], facts["description"]) == ("hf://alice/toy", None, "A toy.")
    assert hub.requests == []
    keys = set(facts)
    for arguments in (["toy_image.mine", "--download"], ["hf://alice/toy"]):
        assert main(["info", *arguments, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert set(facts) == keys
        assert re.fullmatch(r"hf://alice/toy@[0-9a-f]{40}", facts["source"])
        assert facts["spec"]["codebook_size"] == 16


def test_an_unknown_device_is_an_error(capsys, tmp_path):
    for device in ("cuda:99", "toaster"):
        arguments = ["encode", "beast", SAMPLE, "-o", tmp_path / "x.zoo", "--device", device]
        fails(capsys, 1, arguments, f"the device '{device}' cannot be used here", "Try --device cpu")


# push


def test_push_a_folder_as_it_is(folder, hub, capsys):
    assert main(["push", str(folder), "alice/toy", "--tag", "v1", "--private", "-m", "First", "--json"]) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    repo = hub.repos["alice/toy"]
    assert result == {
        "model": "toy_image.mine",
        "repo_id": "alice/toy",
        "commit": repo.branches["main"],
        "url": f"{hub.url}/alice/toy",
        "card_kept": False,
    }
    assert repo.private
    assert repo.tags == {"v1": result["commit"]}
    assert repo.messages[result["commit"]] == "First"
    files = hub.files("alice/toy")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert files[name] == (folder / name).read_bytes()
    assert f"a model card was written, {folder / 'README.md'}" in shown.err
    assert b"hf://alice/toy" in files["README.md"]
    (folder / "README.md").write_text("mine")
    assert main(["push", str(folder), "alice/toy"]) == 0
    shown = capsys.readouterr()
    assert "own model card was kept" in shown.err
    assert f"hf://alice/toy@{repo.branches['main']}" in shown.out
    assert hub.files("alice/toy")["README.md"] == files["README.md"]


def test_push_a_model_by_name(hub, capsys):
    assert main(["push", "beast", "alice/splines"]) == 0
    files = hub.files("alice/splines")
    assert {"config.json", "model.safetensors", "README.md"} <= set(files)
    assert json.loads(files["config.json"])["name"] == "beast.default"
    assert "alice/splines" in capsys.readouterr().out


def test_push_publishes_nothing_that_does_not_load(folder, hub, capsys):
    fails(capsys, 1, ["push", folder, "bob/toy"], "zoo: error: Could not push to hf://bob/toy")
    fails(capsys, 1, ["push", folder, "toy"], "'toy' is not the name of a Hub repository")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    hub.requests.clear()
    fails(capsys, 1, ["push", folder, "alice/toy"], "truncated")
    assert hub.requests == []
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
