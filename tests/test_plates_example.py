"""The number-plate example: both of its repositories, its client, `nereid demo`."""

import functools
import os
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import BINARY, ROOT, Server
from PIL import Image
from plates.repository import NETS
from tritonclient.utils import InferenceServerException

EXAMPLE = ROOT / "examples/plates"
sys.path.insert(0, str(EXAMPLE / "train"))
sys.path.insert(0, str(EXAMPLE / "models/plate_recognition/1"))

import boxes as finding  # noqa: E402
import photo as street  # noqa: E402
import scenes  # noqa: E402
import texts as reading  # noqa: E402

# Seconds of work, and always the same picture.
rendered = functools.cache(street.render)

ALL = ["coordinates", "texts", "boxes", "confidences", "text_confidences"]


@pytest.fixture(scope="module")
def server():
    with Server(EXAMPLE / "models", "--backend-config=onnxruntime,engine=rten") as running:
        yield running


@pytest.fixture(scope="module")
def article():
    pytest.importorskip("torch")
    with Server(EXAMPLE / "models-article") as running:
        yield running


@pytest.fixture(scope="module")
def photos():
    """50 rendered pictures: plates of all sizes, signs and grilles; some have no plate."""
    rng = np.random.default_rng(2024)
    return [scenes.scene(rng)[0] for _ in range(50)]


def ask_for(picture, outputs):
    image = httpclient.InferInput("input__0", picture.shape, "UINT8")
    image.set_data_from_numpy(np.ascontiguousarray(picture))
    return [image], [httpclient.InferRequestedOutput(name) for name in outputs]


def recognise(server, picture, outputs=ALL):
    client = httpclient.InferenceServerClient(server.url, network_timeout=120)
    inputs, asked = ask_for(picture, outputs)
    answer = client.infer("plate_recognition", inputs, outputs=asked)
    return {name: answer.as_numpy(name) for name in outputs}


def texts_of(found):
    return [text.decode() for text in found["texts"]]


def test_the_rendered_street_is_read(server):
    picture, written = rendered()
    found = recognise(server, picture)
    read = [text for text in texts_of(found) if text]
    assert sorted(read) == sorted(written)
    # 1280x720 to the article's 1920x1080.
    assert found["coordinates"] == pytest.approx(found["boxes"] * 1.5, rel=1e-5)
    assert (found["confidences"] >= finding.CONFIDENCE).all()
    assert found["text_confidences"].shape == found["texts"].shape


@pytest.fixture(scope="module")
def answers(server, photos):
    return [recognise(server, picture) for picture in photos]


def test_both_repositories_read_the_same(article, photos, answers):
    found = [(ours, recognise(article, picture)) for ours, picture in zip(answers, photos)]
    assert [texts_of(ours) for ours, _ in found] == [texts_of(theirs) for _, theirs in found]
    for ours, theirs in found:
        assert ours["boxes"] == pytest.approx(theirs["boxes"], abs=0.01)
        assert ours["coordinates"] == pytest.approx(theirs["coordinates"], abs=0.1)
        assert ours["confidences"] == pytest.approx(theirs["confidences"], abs=1e-4)
    # The pictures are worth comparing.
    assert sum(bool(text) for ours, _ in found for text in texts_of(ours)) >= 12


@pytest.fixture(scope="module")
def crops(photos, answers):
    """32 crops of what was found, some of them more than once."""
    found = [finding.crops(p, answer["boxes"]) for p, answer in zip(photos, answers)]
    found = np.concatenate(found)
    return np.concatenate([found] * (32 // len(found) + 1))[:32]


# For each repository the models from a crop to its logits: name, input, output.
READING = {
    "server": [("reading", "crops", "logits")],
    "article": [("stn", "input__0", "output__0"), ("lprnet", "input__0", "output__0")],
}


@pytest.mark.parametrize("which", ["server", "article"])
def test_texts_do_not_depend_on_the_batch(which, crops, request):
    client = httpclient.InferenceServerClient(request.getfixturevalue(which).url)

    def read(size):
        texts = []
        for first in range(0, len(crops), size):
            values = crops[first : first + size]
            for model, input_name, output_name in READING[which]:
                tensor = httpclient.InferInput(input_name, values.shape, "FP32")
                tensor.set_data_from_numpy(values)
                values = client.infer(model, [tensor]).as_numpy(output_name)
            texts += [reading.read(logits)[0] for logits in values]
        return texts

    alone = read(1)
    assert sum(map(bool, alone)) >= 12
    assert read(8) == alone and read(32) == alone


@pytest.mark.parametrize("which", ["server", "article"])
def test_requests_that_run_together_are_read_as_alone(which, photos, answers, request):
    url = request.getfixturevalue(which).url
    client = httpclient.InferenceServerClient(url, concurrency=8, network_timeout=120)
    running = []
    for picture in photos[:16]:
        inputs, outputs = ask_for(picture, ["texts"])
        running.append(client.async_infer("plate_recognition", inputs, outputs=outputs))
    together = [[t.decode() for t in r.get_result().as_numpy("texts")] for r in running]
    assert together == [texts_of(alone) for alone in answers[:16]]


def test_outputs_beyond_the_articles_are_made_on_request(server):
    picture, _ = rendered()
    assert set(recognise(server, picture, ["texts", "boxes"])) == {"texts", "boxes"}
    client = httpclient.InferenceServerClient(server.url)
    inputs, outputs = ask_for(picture, ["coordinates", "texts"])
    answer = client.infer("plate_recognition", inputs, outputs=outputs).get_response()
    assert [output["name"] for output in answer["outputs"]] == ["coordinates", "texts"]


# The readable plate of car.jpg, in pixels. It is 36 wide: not every character can be told.
CAR, WRITTEN = [94.4, 331.0, 131.9, 342.2], "B840CK197"


@pytest.mark.skipif(not NETS.is_dir(), reason="the real photos are not in %s" % NETS)
@pytest.mark.parametrize("which", ["server", "article"])
def test_real_photos(which, request):
    running = request.getfixturevalue(which)
    found = recognise(running, cv2.imread(str(NETS / "car.jpg")))
    overlaps = [finding.overlap(box, np.float32(CAR)) for box in found["boxes"]]
    assert max(overlaps) >= 0.5
    read = texts_of(found)[int(np.argmax(overlaps))]
    assert sum(a == b for a, b in zip(read, WRITTEN)) >= 7, read
    found = recognise(running, cv2.imread(str(NETS / "cat.jpeg")))
    assert found["boxes"].shape == (0, 4) and found["texts"].shape == (0,)


@pytest.mark.parametrize("which", ["server", "article"])
@pytest.mark.parametrize(
    "picture",
    [
        np.full((1, 1, 3), 200, np.uint8),
        np.full((2000, 2, 3), 200, np.uint8),
        np.full((480, 640, 3), 127, np.uint8),
    ],
    ids=["1x1", "2x2000", "plain"],
)
def test_a_picture_without_plates(which, picture, request):
    found = recognise(request.getfixturevalue(which), picture)
    assert found["coordinates"].shape == (0, 4) and found["boxes"].shape == (0, 4)
    assert found["texts"].shape == (0,) and found["confidences"].shape == (0,)


@pytest.mark.parametrize("which", ["server", "article"])
@pytest.mark.parametrize(
    "shape, message",
    [((40, 60), "expected"), ((40, 60, 4), "expected"), ((0, 0, 3), "no pixels")],
    ids=["grey", "rgba", "empty"],
)
def test_what_is_no_picture_is_refused(which, shape, message, request):
    with pytest.raises(InferenceServerException, match=message):
        recognise(request.getfixturevalue(which), np.zeros(shape, np.uint8))


def test_a_picture_of_100_megapixels(server):
    picture = np.full((10000, 10000, 3), 90, np.uint8)
    street_picture, written = rendered()
    picture[: 720 * 8, : 1280 * 7] = cv2.resize(street_picture, (1280 * 7, 720 * 8))
    found = recognise(server, picture, ["boxes", "texts"])
    assert len(found["boxes"]) == len(found["texts"]) >= 1
    assert set(texts_of(found)) & set(written)


def test_a_plate_cut_by_the_border(server):
    picture, _ = rendered()
    found = recognise(server, picture)
    xmin, _, xmax, _ = found["boxes"][np.argmin(found["boxes"][:, 0])]
    for cut in (0.3, 0.6, 0.9):
        rest = picture[:, int(xmin + cut * (xmax - xmin)) :]
        found = recognise(server, rest)
        assert (found["boxes"] >= 0).all() and (found["boxes"][:, 2] <= rest.shape[1]).all()
        assert len(found["texts"]) == len(found["boxes"])


def test_no_more_boxes_than_one_batch_of_the_reader():
    places = np.arange(40, dtype=np.float32)
    rows = [[25 * x + 15, 50, 20, 8, 0.99 - x / 100] for x in places[::-1]]
    picture = np.zeros((100, 1200, 3), np.uint8)
    boxes, confidences = finding.keep_best([(np.float32(rows), 1.0)], picture)
    assert len(boxes) == len(confidences) == finding.MOST
    # Those of which the detector is surest, at the left.
    assert (boxes[:, 0] == 25 * places[: finding.MOST] + 5).all()


def client(server, *arguments):
    command = [sys.executable, str(EXAMPLE / "client.py"), "--url", server.url]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def test_the_client_reads_a_folder(server, tmp_path):
    picture, written = rendered()
    cv2.imwrite(str(tmp_path / "colour.png"), picture)
    cv2.imwrite(str(tmp_path / "grey.png"), cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(tmp_path / "clear.png"), cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA))
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "out").mkdir()
    shown = client(server, "--annotated", tmp_path / "out", tmp_path)
    assert shown.returncode == 0, shown.stderr
    for text in written:
        assert shown.stdout.count(text) >= 2
    for name in ("colour", "grey", "clear"):
        assert cv2.imread(str(tmp_path / "out" / (name + "-plates.png"))).shape == picture.shape


@pytest.mark.parametrize(
    "name, content", [("text.jpg", b"hello"), ("empty.png", b""), ("cut.jpg", None)]
)
def test_the_client_names_the_file_that_is_no_photo(server, tmp_path, name, content):
    if content is None:
        content = (EXAMPLE / "photo.jpg").read_bytes()[:3000]
    (tmp_path / name).write_bytes(content)
    shown = client(server, tmp_path / name)
    assert shown.returncode == 1
    assert shown.stderr.startswith("error: ") and name in shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_client_refuses_a_picture_too_large_to_send(server, tmp_path):
    # A few kilobytes that become 600 MB.
    Image.new("1", (15000, 15000)).save(tmp_path / "huge.png")
    shown = client(server, tmp_path / "huge.png")
    assert shown.returncode == 1 and "Traceback" not in shown.stderr
    assert shown.stderr.startswith("error: ") and "huge.png" in shown.stderr


def test_the_client_turns_a_photo_upright(server, tmp_path):
    picture, written = rendered()
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(picture)[:, :, ::-1]))
    exif = Image.Exif()
    exif[0x0112] = 6  # The top of the scene is on the right.
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = client(server, tmp_path / "turned.jpg")
    assert shown.returncode == 0, shown.stderr
    assert "(1280x720)" in shown.stdout
    assert all(text in shown.stdout for text in written)


def logits(*columns):
    """Certain columns, a blank after each; a column of two characters is nearly a tie."""
    rows = []
    for characters in columns:
        column = np.full(reading.BLANK + 1, -20, np.float32)
        for place, character in enumerate(characters):
            column[reading.ALPHABET.index(character)] = -0.3 * place
        blank = np.full(reading.BLANK + 1, -20, np.float32)
        blank[reading.BLANK] = 0
        rows += [column, blank]
    return np.array(rows).T


@pytest.mark.parametrize(
    "columns, text",
    [
        (["A", "1", "2", "3", "B", "C", "37", "7", "7"], "A123BC777"),
        (["A", "1", "2", "3", "B", "C", "46", "9", "7"], "A123BC497"),
        (["0O", "0", "0", "18", "K", "K", "1", "7", "7"], "O001KK177"),
        (["0O", "08", "0", "0", "K", "K", "7", "7"], "O800KK77"),
    ],
    ids=["a code in use", "another code all the same", "a letter", "not three zeros"],
)
def test_a_text_is_written_as_plates_are(columns, text):
    read, probability = reading.read(logits(*columns))
    assert read == text and probability > reading.READABLE


def test_the_client_says_that_a_file_is_missing(server, tmp_path):
    shown = client(server, tmp_path / "nowhere.jpg")
    assert shown.returncode == 1 and "nowhere.jpg: No such file" in shown.stderr


@pytest.fixture
def prepared(tmp_path):
    """A cache in which the demo finds its packages: those of the tests."""
    folder = tmp_path / "cache/nereid/demo-venv"
    (folder / "bin").mkdir(parents=True)
    (tmp_path / "cache/nereid").chmod(0o700)
    python = folder / "bin/python"
    python.write_text('#!/bin/sh\nexec "%s" "$@"\n' % sys.executable)
    python.chmod(0o755)
    (folder / "installed.txt").write_text((EXAMPLE / "requirements.txt").read_text())
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def demo(environment, port, *arguments):
    command = [
        str(BINARY),
        "demo",
        "--once",
        "--engine=rten",
        "--http-port=%d" % port,
        *map(str, arguments),
    ]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def test_the_demo_answers_and_ends(prepared, tmp_path, free_port):
    shown = demo(prepared, free_port, "--annotated", tmp_path)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    _, written = rendered()
    for text in written:
        assert text in shown.stdout
    assert "request" in shown.stdout and "detector" in shown.stdout
    assert cv2.imread(str(tmp_path / "photo-plates.png")).shape == (720, 1280, 3)


def test_the_demo_says_what_is_wrong(prepared, tmp_path, free_port):
    (tmp_path / "empty.jpg").write_bytes(b"")
    shown = demo(prepared, free_port, "--image", tmp_path / "empty.jpg", "--annotated", tmp_path)
    assert shown.returncode == 1 and "empty.jpg: not a photo" in shown.stderr
    shown = demo(prepared, free_port, "--image", tmp_path / "nowhere.jpg")
    assert shown.returncode == 1 and "nowhere.jpg" in shown.stderr
    shown = demo(prepared, free_port, "--example", tmp_path)
    assert shown.returncode == 1 and "plate_recognition" in shown.stderr
