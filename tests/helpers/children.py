"""Processes of their own that need not import torch for seconds: forked from a server that has done nothing else.

Such a process is as real as any: it has its own memory, modules, streams, folder, arguments and environment, imports
this package anew, and a signal ends it. What must not find torch imported (whether `import zoo` is light) is no matter
for it.
"""

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path


def run(code, *arguments, cwd=None, env=None, strict=False):
    """Run code in a process of its own, as `python -c` does, and return a `subprocess.CompletedProcess` of texts.

    After a quarter of an hour, which is for busy machines, it is ended by SIGALRM.

    Args:
        code: Python, which may be indented.
        arguments: What `sys.argv[1:]` is.
        cwd: Folder to run in; this process's by default.
        env: The whole environment; this process's by default.
        strict: Make warnings errors, as `python -W error` does.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "code": textwrap.dedent(code),
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "strict": strict,
            "streams": [f"{folder}/out", f"{folder}/err"],
        }
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = json.loads(server.stdout.readline())
        out, err = (Path(path).read_text(encoding="utf-8") for path in request["streams"])
    return subprocess.CompletedProcess(code, status, out, err)


def run_module(name, *arguments, **options):
    """Run a module as `python -m` does."""
    code = f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    return run(code, *arguments, **options)


_servers = []


def _server():
    if not _servers:
        _servers.append(subprocess.Popen([sys.executable, __file__], stdin=-1, stdout=-1, text=True, cwd="/"))
        atexit.register(_servers[0].communicate)
    return _servers[0]


def _serve():
    """Fork for each request, and return it in the new process."""
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if not pid:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    sys.exit()


def _become(request):
    """Make this process what was asked for."""
    signal.alarm(900)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    write = os.O_WRONLY | os.O_CREAT
    for number, path in enumerate([os.devnull, *request["streams"]]):
        file = os.open(path, write if number else os.O_RDONLY)
        os.dup2(file, number)
        os.close(file)
    paths = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = ["", *filter(None, paths), *sys.path[1:]]
    sys.argv[:] = ["-c", *request["arguments"]]
    if request["strict"]:
        warnings.simplefilter("error")
    return compile(request["code"], "<string>", "exec")


if __name__ == "__main__":
    import torch  # noqa: F401

    gc.freeze()  # else each process that collects garbage copies the memory of what is imported
    code = _become(_serve())
    exec(code, {"__name__": "__main__", "__builtins__": __builtins__})
