"""The article's pipeline: its nets, its configurations, its client."""

import sys
import types

import cv2
import numpy as np
import pytest
import tritonclient.http as httpclient
from harness import Server
from plates import repository

pytestmark = pytest.mark.skipif(
    not repository.NETS.is_dir(),
    reason="the article's nets are not in %s (NEREID_PLATES names their folder)" % repository.NETS,
)

# The article's boxes on car.jpg, in the 1920x1080 picture.
BOXES = [
    [232.44186, 814.19446, 324.64374, 841.9125],
    [1097.4425, 661.41547, 1141.9923, 674.0388],
    [1520.4563, 639.6942, 1567.8191, 653.18317],
    [1286.0554, 636.13745, 1317.4097, 645.0998],
]
SCORES = [-315.03, -37.86, -59.51, 32.22]
TEXTS = ["B840CK197", "", "", ""]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plates")
    repository.build(folder)
    with Server(folder) as running:
        assert running.get("/v2/health/ready")[0] == 200, running.log()
        yield running


@pytest.fixture(scope="module")
def models():
    """Functions of the two model files, imported outside the server."""
    present = sys.modules.get("triton_python_backend_utils")
    sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
    from plates import plate_recognition, yolo

    yield yolo, plate_recognition
    if present is None:
        del sys.modules["triton_python_backend_utils"]


def test_the_articles_boxes_read_as_in_the_article(server, models):
    yolo, pipeline = models
    image = yolo.prepare(cv2.imread(str(repository.NETS / "car.jpg")))
    crops = np.array([yolo.crop(image, box) for box in BOXES], dtype=np.float32)
    client = httpclient.InferenceServerClient(url=server.url)
    features = run(client, "stn", crops)
    logits = run(client, "lprnet", features)
    decoded = [pipeline.decode(plate) for plate in logits]
    assert [text for text, _ in decoded] == TEXTS
    assert [score for _, score in decoded] == pytest.approx(SCORES, abs=1e-2)


def run(client, model, array):
    tensor = httpclient.InferInput("input__0", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor]).as_numpy("output__0")


def recognise(url, img_path):
    """The article's client, as it stands."""
    triton_client = httpclient.InferenceServerClient(url=url)
    model_name = "plate_recognition"
    image = cv2.imread(img_path)
    inputs, outputs = [], []
    inputs.append(httpclient.InferInput("input__0", image.shape, "UINT8"))
    inputs[0].set_data_from_numpy(image)
    outputs.append(httpclient.InferRequestedOutput("coordinates", binary_data=False))
    outputs.append(httpclient.InferRequestedOutput("texts", binary_data=False))
    results = triton_client.infer(
        model_name=model_name,
        inputs=inputs,
        outputs=outputs,
    )
    coordinates = results.as_numpy("coordinates")
    texts = results.as_numpy("texts")
    return coordinates, texts


def executions(server, model):
    client = httpclient.InferenceServerClient(url=server.url)
    return client.get_inference_statistics(model)["model_stats"][0]["execution_count"]


def test_the_readable_plate_is_found(server, models):
    yolo, _ = models
    coordinates, texts = recognise(server.url, str(repository.NETS / "car.jpg"))
    assert coordinates.shape[1] == 4 and len(texts) == len(coordinates)
    overlaps = [yolo.overlap(np.array(box), np.array(BOXES[0])) for box in coordinates]
    best = int(np.argmax(overlaps))
    assert overlaps[best] >= 0.5
    assert texts[best]


def test_without_a_plate_the_pipeline_stops_early(server):
    before = executions(server, "stn")
    coordinates, texts = recognise(server.url, str(repository.NETS / "cat.jpeg"))
    assert coordinates.size == 0 and texts.size == 0
    assert executions(server, "stn") == before
