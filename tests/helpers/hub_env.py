"""A pytest plugin: points the Hub client at a server on the loopback interface, and gives tests the `hub` fixture.

The client reads its environment when it is imported, so this module must be imported before it is; it only reserves a
port then, and starts serving when the first test asks for the Hub.
"""

import atexit
import os
import shutil
import sys
import tempfile

import pytest
from hub_server import HubServer

SERVER = HubServer(tokens={"hf_alice": "alice", "hf_bob": "bob"})
HOME = tempfile.mkdtemp(prefix="hub-home-")
SETTINGS = {
    "HF_ENDPOINT": SERVER.url,
    "HF_HOME": HOME,
    "HF_TOKEN": "hf_alice",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # else the client asks the server which programs might be running it
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
OTHERS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH")

CLIENT_CAME_FIRST = "huggingface_hub" in sys.modules
for _name in OTHERS:
    os.environ.pop(_name, None)
os.environ.update(SETTINGS)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
atexit.register(SERVER.http.server_close)

# The client uploads large files in a way that its own HTTP library deprecates.
UPLOAD_WARNING = "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"


def pytest_collection_modifyitems(items):
    for item in items:
        if "hub" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings(UPLOAD_WARNING))


@pytest.fixture(scope="session")
def _hub_server():
    assert not CLIENT_CAME_FIRST, (
        "huggingface_hub was imported before tests/hub_env.py could point it at the test server"
    )
    with SERVER as server:
        yield server


@pytest.fixture
def hub(_hub_server):
    """The Hub that the client of this process talks to, empty; alice's token is in the environment."""
    _hub_server.reset()
    return _hub_server
