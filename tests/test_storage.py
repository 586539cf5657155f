"""Model repositories in a cloud: what is fetched, when, and what becomes of faults."""

import base64
import json
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tritonclient.http as httpclient
from azure_blobs import Azure
from harness import BINARY, Server, exit_code, write_model
from models import ADD, config, python_model
from s3 import S3, SECRET, environment
from tritonclient.utils import InferenceServerException

BIG = 3 << 20

# A URL that names nothing: what is said of it tells how the server was built.
built = subprocess.run([BINARY, "check", "s3://"], capture_output=True, text=True).stderr
pytestmark = pytest.mark.skipif(
    "built without cloud storage" in built, reason="needs cargo build --release --features cloud"
)


@pytest.fixture(scope="module")
def server_of_s3():
    s3 = S3()
    yield s3
    s3.stop()


@pytest.fixture
def s3(server_of_s3, request):
    """The store with an empty bucket of its own."""
    server_of_s3.bucket = request.node.name.replace("_", "-")[:60].strip("-")
    server_of_s3.client.create_bucket(Bucket=server_of_s3.bucket)
    server_of_s3.proxy.fault = lambda request: False
    server_of_s3.proxy.seen.clear()
    return server_of_s3


class Models:
    """Models that are written here and put there."""

    def __init__(self, s3, folder):
        self.s3, self.folder = s3, folder

    def add(self, name, add=0, big=None, version=1):
        files = {"model.py": ADD % add}
        if big is not None:
            files["weights.bin"] = big
        write_model(self.folder, name, config("python", dims="[ 2 ]"), files, version)
        self.s3.upload(self.folder / name, self.s3.bucket, "models/" + name)

    def url(self):
        return self.s3.url(self.s3.bucket + "/models")


@pytest.fixture
def models(s3, tmp_path):
    return Models(s3, tmp_path / "there")


def start(url, cache, *flags, **options):
    return Server(url, *flags, environment=environment(cache), **options)


def ask(server, model, value=1.0, version=""):
    with httpclient.InferenceServerClient(server.url) as client:
        tensor = httpclient.InferInput("IN", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.float32([[value, value]]))
        return client.infer(model, [tensor], model_version=version).as_numpy("OUT")[0, 0]


def client_of(server):
    return httpclient.InferenceServerClient(server.url, network_timeout=120.0)


def kept(cache):
    """Folders of models and their files, in the cache."""
    return sorted(
        "/".join(path.relative_to(cache).parts[2:])
        for path in cache.glob("*/models/**/*")
        if path.is_file() and path.suffix != ".lock" and "__pycache__" not in path.parts
    )


def objects(cache):
    return sorted(path.name for path in cache.glob("*/objects/*"))


def test_models_are_fetched_once(models, s3, tmp_path):
    cache = tmp_path / "cache"
    models.add("add", 3)
    s3.put(s3.bucket, "models/README.md", "no model")
    s3.put(s3.bucket, "models/ensemble/config.pbtxt", """
        platform: "ensemble"
        max_batch_size: 8
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ 2 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] } ]
        ensemble_scheduling { step [ { model_name: "add" model_version: -1
          input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } } ] }
    """)
    s3.put(s3.bucket, "models/ensemble/1/", "")
    with start(models.url(), cache) as server:
        assert ask(server, "add") == 4 and ask(server, "ensemble") == 4
        assert sorted(s3.proxy.objects()) == [
            "models/add/1/model.py",
            "models/add/config.pbtxt",
            "models/ensemble/config.pbtxt",
        ]
    # Another start finds everything here.
    with start(models.url(), cache) as server:
        assert ask(server, "add") == 4
        assert s3.proxy.objects() == []


def test_only_versions_that_serve_are_fetched(models, s3, tmp_path):
    for version in (1, 2, 10):
        models.add("add", version, version=version)
    with start(models.url(), tmp_path / "cache") as server:
        assert ask(server, "add") == 11
        assert "models/add/10/model.py" in s3.proxy.objects()
        assert not any("/1/" in name or "/2/" in name for name in kept(tmp_path / "cache"))


def test_explicit_mode_fetches_what_is_loaded(models, s3, tmp_path):
    models.add("one", 1)
    models.add("two", 2)
    flags = "--model-control-mode=explicit", "--load-model=one"
    with start(models.url(), tmp_path / "cache", *flags) as server, client_of(server) as client:
        assert {row["name"] for row in client.get_model_repository_index()} == {"one", "two"}
        assert not any("two" in name for name in s3.proxy.objects())
        client.load_model("two")
        assert ask(server, "two") == 3
        # Loading again what is the same fetches nothing; a new version is fetched, and only that.
        s3.proxy.objects()
        client.load_model("two")
        assert s3.proxy.objects() == []
        s3.put(s3.bucket, "models/two/1/model.py", (ADD % 5).replace("\n    ", "\n"))
        client.load_model("two")
        assert ask(server, "two") == 6
        assert s3.proxy.objects() == ["models/two/1/model.py"]


def test_polling_fetches_what_has_changed_and_tidies_up(models, s3, tmp_path):
    cache = tmp_path / "cache"
    models.add("add", 1, big=b"w" * BIG)
    models.add("gone", 1)
    flags = "--model-control-mode=poll", "--repository-poll-secs=1"
    with start(models.url(), cache, *flags) as server:
        assert ask(server, "add") == 2
        before = kept(cache)
        s3.proxy.objects()
        s3.put(s3.bucket, "models/add/1/model.py", (ADD % 10).replace("\n    ", "\n"))
        s3.delete(s3.bucket, "models/gone/")
        server.wait_for(lambda: ask(server, "add") == 11)
        # The weights are linked, not fetched again.
        assert s3.proxy.objects() == ["models/add/1/model.py"]
        server.wait_for(lambda: server.get("/v2/models/gone/ready")[0] != 200)
        server.wait_for(lambda: len(kept(cache)) == 3)
        assert not set(before) & set(kept(cache))
        server.wait_for(lambda: len(objects(cache)) == 3)


def test_a_half_written_upload_is_not_loaded(models, s3, tmp_path):
    models.add("add", 1)
    flags = "--model-control-mode=poll", "--repository-poll-secs=1"
    with start(models.url(), tmp_path / "cache", *flags) as server:
        lists = lambda: sum("list-type" in path for path in s3.proxy.seen)
        loads = lambda: server.log().count("successfully loaded 'add'")
        assert loads() == 1
        # The second listing of a change always differs from the first: somebody is writing.
        pieces = iter(range(100))

        def writing(request):
            if "list-type" in request.path:
                s3.put(s3.bucket, "models/add/1/part", str(next(pieces)))
            return False

        s3.proxy.fault = writing
        seen = lists()
        server.wait_for(lambda: lists() > seen + 6)
        assert loads() == 1
        s3.proxy.fault = lambda request: False
        server.wait_for(lambda: loads() == 2)
        assert ask(server, "add") == 2


def test_a_store_that_is_down_stops_nothing(models, s3, tmp_path):
    models.add("add", 1)
    flags = "--model-control-mode=explicit", "--load-model=add"
    with start(models.url(), tmp_path / "cache", *flags) as server, client_of(server) as client:

        def down(request):
            request.refuse(503, "SlowDown")
            return True

        # For a moment: nobody notices.
        answers = iter([down] * 2)
        s3.proxy.fault = lambda request: next(answers, lambda request: False)(request)
        client.load_model("add")
        # For good: an error that says so, and the model serves.
        s3.proxy.fault = down
        s3.proxy.seen.clear()
        with pytest.raises(InferenceServerException) as failure:
            client.load_model("add")
        assert "failed to list s3://%s/models" % s3.bucket in str(failure.value)
        assert "503" in str(failure.value)
        assert len(s3.proxy.seen) > 3
        assert ask(server, "add") == 2
        assert client.get_model_repository_index()[0]["state"] == "READY"


def test_an_object_that_cannot_be_read_leaves_the_old_version(models, s3, tmp_path):
    models.add("add", 1)
    flags = "--model-control-mode=explicit", "--load-model=add"
    with start(models.url(), tmp_path / "cache", *flags) as server, client_of(server) as client:
        models.add("add", 5)

        def down(request):
            if "model.py" in request.path:
                request.refuse(503, "SlowDown")
                return True
            return False

        s3.proxy.fault = down
        with pytest.raises(InferenceServerException) as failure:
            client.load_model("add")
        assert "s3://%s/models/add/1/model.py" % s3.bucket in str(failure.value)
        assert ask(server, "add") == 2
        s3.proxy.fault = lambda request: False
        client.load_model("add")
        assert ask(server, "add") == 6


def test_a_download_that_is_cut_goes_on_where_it_was(models, s3, tmp_path):
    models.add("add", 1, big=bytes(range(256)) * (BIG >> 8))
    cuts = iter([1 << 20, 1 << 19])

    def cut(request):
        at = next(cuts, None) if request.path.endswith("weights.bin") else None
        if at is None:
            return False
        request.pass_on(cut=at)
        return True

    s3.proxy.fault = cut
    s3.proxy.sent = 0
    with start(models.url(), tmp_path / "cache") as server:
        assert ask(server, "add") == 2
        assert BIG <= s3.proxy.sent < BIG + 100_000
        [weights] = tmp_path.glob("cache/*/models/add/*/1/weights.bin")
        assert weights.read_bytes() == bytes(range(256)) * (BIG >> 8)


def test_a_download_goes_on_after_a_restart(models, s3, tmp_path):
    models.add("add", 1, big=b"w" * BIG)
    flags = "--model-control-mode=explicit", "--exit-on-error=false"

    def never_more(request):
        """One part comes, and then nothing."""
        if not request.path.endswith("weights.bin"):
            return False
        if request.headers.get("Range"):
            request.refuse(503, "SlowDown")
        else:
            request.pass_on(cut=2 << 20)
        return True

    s3.proxy.fault = never_more
    with start(models.url(), tmp_path / "cache", *flags) as server, client_of(server) as client:
        with pytest.raises(InferenceServerException):
            client.load_model("add")
    s3.proxy.fault = lambda request: False
    s3.proxy.sent = 0
    with start(models.url(), tmp_path / "cache", *flags) as server, client_of(server) as client:
        client.load_model("add")
        assert ask(server, "add") == 2
        assert s3.proxy.sent < 2 << 20


def test_what_arrives_damaged_is_fetched_again(models, s3, tmp_path):
    models.add("add", 1, big=b"w" * 100_000)
    times = iter([True])

    def spoil(request):
        if not (request.path.endswith("weights.bin") and next(times, False)):
            return False
        request.pass_on(spoil=True)
        return True

    s3.proxy.fault = spoil
    with start(models.url(), tmp_path / "cache") as server:
        assert "weights.bin arrived damaged" in server.log()
        [weights] = tmp_path.glob("cache/*/models/add/*/1/weights.bin")
        assert weights.read_bytes() == b"w" * 100_000


def test_wrong_credentials_are_named_but_no_secret(models, s3, tmp_path):
    models.add("add", 1)

    def refuse(request):
        request.refuse(403, "SignatureDoesNotMatch")
        return True

    s3.proxy.fault = refuse
    code, output = exit_code(models.url(), environment=environment(tmp_path))
    assert code != 0
    assert "failed to list s3://%s/models: the credentials do not allow it" % s3.bucket in output
    assert "SignatureDoesNotMatch" in output and SECRET not in output

    def refuse_objects(request):
        return "list-type" not in request.path and refuse(request)

    s3.proxy.fault = refuse_objects
    code, output = exit_code(models.url(), environment=environment(tmp_path))
    assert code != 0 and SECRET not in output
    assert "s3://%s/models/add/config.pbtxt" % s3.bucket in output


def test_a_full_disk_is_named(models, s3, tmp_path):
    models.add("add", 1)
    flags = "--model-control-mode=explicit", "--load-model=add"
    cache = tmp_path / "cache"
    with start(models.url(), cache, *flags, ignore_file_limit=True) as server:
        with client_of(server) as client:
            models.add("add", 5, big=b"w" * BIG)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1 << 20, -1))
            with pytest.raises(InferenceServerException) as failure:
                client.load_model("add")
            assert "failed to keep s3://%s/models/add/1/weights.bin" % s3.bucket in str(failure.value)
            assert "too large" in str(failure.value)
            assert ask(server, "add") == 2
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
            client.load_model("add")
            assert ask(server, "add") == 6


def test_a_bucket_that_is_deleted_takes_no_model_with_it(models, s3, tmp_path):
    models.add("add", 1)
    flags = "--model-control-mode=poll", "--repository-poll-secs=1"
    with start(models.url(), tmp_path / "cache", *flags) as server, client_of(server) as client:
        # Nobody is to see it empty before it is gone.
        s3.proxy.fault = lambda request: request.refuse(503, "SlowDown") or True
        s3.delete(s3.bucket, "")
        s3.client.delete_bucket(Bucket=s3.bucket)
        s3.proxy.fault = lambda request: False
        server.wait_for(lambda: "NoSuchBucket" in server.log())
        assert "failed to look at the repository" in server.log()
        assert ask(server, "add") == 2
        assert client.get_model_repository_index()[0]["state"] == "READY"
        assert client.is_server_ready()


def test_a_repository_that_is_down_does_not_stop_the_others(models, s3, tmp_path):
    models.add("there", 1)
    here = tmp_path / "here"
    python_model(here, "near", ADD % 1, dims="[ 2 ]")
    flags = "--model-control-mode=poll", "--repository-poll-secs=1"
    with start(here, tmp_path / "cache", *flags, repositories=[models.url()]) as server:
        s3.proxy.fault = lambda request: request.refuse(403, "AccessDenied") or True
        server.wait_for(lambda: "failed to look at the repository" in server.log())
        python_model(here, "near", ADD % 7, dims="[ 2 ]")
        server.wait_for(lambda: ask(server, "near") == 8)
        assert ask(server, "there") == 2


def test_credentials_come_from_a_file_by_the_longest_name(models, s3, tmp_path):
    models.add("add", 1)
    named = {"key_id": "AKIANAMED", "secret_key": "s", "region": "eu-west-1"}
    everybody = {"key_id": "AKIAEVERYBODY", "secret_key": "s", "region": "us-east-1"}
    (tmp_path / "keys.json").write_text(
        json.dumps({"s3": {"": everybody, models.url()[:30]: named}})
    )
    seen = []
    s3.proxy.fault = lambda request: seen.append(request.headers["Authorization"])
    more = environment(tmp_path, TRITON_CLOUD_CREDENTIAL_PATH=str(tmp_path / "keys.json"))
    with Server(models.url(), environment=more) as server:
        assert ask(server, "add") == 2
    assert seen and all("AKIANAMED" in line and "eu-west-1" in line for line in seen)
    (tmp_path / "keys.json").write_text(json.dumps({"s3": {"s3://other": named}}))
    code, output = exit_code(models.url(), environment=more)
    assert code != 0 and "Cannot match credential for path" in output


def test_google_storage_without_credentials(models, s3, tmp_path):
    """The same protocol, spoken to a server that is named by the environment."""
    s3.bucket = "public"  # moto does not understand Google's way to write hyphens.
    s3.client.create_bucket(Bucket=s3.bucket, ACL="public-read")
    models.add("add", 1)
    for key in s3.client.list_objects_v2(Bucket=s3.bucket)["Contents"]:
        s3.client.put_object_acl(Bucket=s3.bucket, Key=key["Key"], ACL="public-read")
    base = "http://127.0.0.1:%d" % s3.proxy.server_port
    more = environment(tmp_path, GOOGLE_BASE_URL=base)
    with Server("gs://%s/models" % s3.bucket, environment=more) as server:
        assert ask(server, "add") == 2


def test_azure_storage_with_a_key(tmp_path):
    """Azure's protocol as far as it is needed, spoken by a few lines of ours."""
    blobs = {
        "models/add/config.pbtxt": textwrap.dedent(config("python", dims="[ 2 ]")).encode(),
        "models/add/1/model.py": textwrap.dedent(ADD % 3).encode(),
    }
    with Azure(blobs) as azure:
        more = environment(
            tmp_path,
            AZURE_STORAGE_ENDPOINT=azure.url,
            AZURE_STORAGE_ACCOUNT="account",
            AZURE_STORAGE_KEY=base64.b64encode(b"hush").decode(),
            TRITON_AZURE_MOUNT_DIRECTORY=str(tmp_path),
        )
        with Server("as://account/box/models", environment=more) as server:
            assert ask(server, "add") == 4
        assert azure.asked and all(line.startswith("SharedKey account:") for line in azure.asked)


def test_check_reads_a_repository_in_a_cloud(models, s3, tmp_path):
    models.add("add", 1)
    s3.put(s3.bucket, "models/bad/config.pbtxt", 'backend: "identity" max_batch_sise: 8')
    s3.put(s3.bucket, "models/bad/1/", "")
    done = subprocess.run(
        [BINARY, "check", models.url(), "--backend-config=python,python=" + sys.executable],
        capture_output=True,
        text=True,
        env=environment(tmp_path / "cache"),
    )
    assert done.returncode == 1 and "max_batch_size" in done.stdout
    assert "[add]" not in done.stdout, done.stdout
