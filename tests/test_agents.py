"""Repository agents: the checksum agent, as Triton's documentation has it."""

import hashlib
import json
import subprocess

from harness import BINARY, Server, exit_code, write_model
from models import config

AGENTS = """
    model_repository_agents {
        agents [ { name: "checksum" parameters { key: "MD5:1/weights" value: "%s" } } ]
    }
"""


def write(repository, md5):
    write_model(repository, "m", config("identity", more=AGENTS % md5), {"weights": "one"})


def test_a_model_whose_sums_are_right_serves(tmp_path):
    write(tmp_path, hashlib.md5(b"one").hexdigest())
    with Server(tmp_path) as server:
        agents = json.loads(server.get("/v2/models/m/config")[1])["model_repository_agents"]
        assert agents["agents"][0]["name"] == "checksum"
    assert subprocess.run([BINARY, "check", tmp_path]).returncode == 0


def test_a_model_whose_file_is_another_one_does_not(tmp_path):
    write(tmp_path, "d726e132f91d16422703d70f403f50f5")
    code, output = exit_code(tmp_path)
    assert code != 0
    assert (
        "Mismatched MD5 hash for file 1/weights, expect: d726e132f91d16422703d70f403f50f5, "
        "got: %s" % hashlib.md5(b"one").hexdigest()
    ) in output


def test_an_agent_that_nobody_has_is_refused(tmp_path):
    write_model(
        tmp_path,
        "m",
        config("identity", more='model_repository_agents { agents [ { name: "relocate" } ] }'),
    )
    code, output = exit_code(tmp_path)
    assert code != 0 and "unable to find repo agent 'relocate' of model 'm'" in output
