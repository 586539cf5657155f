"""The page for people in a headless Chromium; who is no browser never sees it."""

import shutil
import struct
import urllib.error
import urllib.request
import zlib

import pytest
from harness import Server, write_model
from models import config, python_model

BROWSER = shutil.which("chromium"), shutil.which("chromedriver")
# It runs as whoever runs the tests, and talks to nobody but the server.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)

# Finds "boxes" in an image: one around everything that is not black.
BOXES_MODEL = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                image = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
                rows, columns = np.nonzero(image.sum(axis=2))
                box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
                answers.append(pb_utils.InferenceResponse([
                    pb_utils.Tensor("boxes", np.array(box, np.float32)),
                    pb_utils.Tensor("labels", np.array([b"a plate"], np.object_)),
                ]))
            return answers
"""

BOXES_CONFIG = """
    backend: "python"
    input [ { name: "IMAGE" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
    output [
      { name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] },
      { name: "labels" data_type: TYPE_STRING dims: [ -1 ] }
    ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "boxes", BOXES_CONFIG, {"model.py": BOXES_MODEL})
    python_model(repository, "broken", "nonsense")
    for datatype in ("FP32", "STRING", "INT64"):
        write_model(repository, datatype.lower(), config("identity", datatype))
    with Server(repository, "--exit-on-error=false") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not all(BROWSER):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER[0]
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.add_argument("--user-data-dir=%s" % tmp_path_factory.mktemp("browser"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=BROWSER[1])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60, poll_frequency=0.05).until(lambda _: condition())


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def rows(browser):
    """Names, states and marks in the table of models, all at once: the page makes its rows anew."""
    return browser.execute_script("""
        return [...document.querySelectorAll("#models tbody tr")].map(row => [
            row.querySelector("th").innerText.trim(),
            row.querySelector(".pill").innerText.trim(),
            row.getAttribute("aria-current"),
        ]);
    """)


def choose(browser, server, model):
    browser.get("http://%s/" % server.url)
    wait(browser, lambda: [b for b in find(browser, "button.name") if b.text == model])
    browser.execute_script("location.hash = '%s/1'" % model)
    wait(browser, lambda: find(browser, "#detail-name")[0].text == "%s, version 1" % model)


def answer(browser):
    find(browser, "#run")[0].click()
    wait(browser, lambda: find(browser, "#answer pre, #answer .error"))
    return [part.text for part in find(browser, "#answer pre, #answer .error")]


def test_only_browsers_see_it(server):
    def ask(path, **headers):
        request = urllib.request.Request("http://%s%s" % (server.url, path), headers=headers)
        try:
            with urllib.request.urlopen(request) as reply:
                return reply.status, reply.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    assert ask("/", Accept="text/html,*/*;q=0.8") == (200, "text/html; charset=utf-8")
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert ask("/", **headers) == (404, b'{"error":"Not Found"}')
    assert ask("/index.html", Accept="text/html") == (404, b'{"error":"Not Found"}')


def test_models_and_their_figures(browser, server):
    choose(browser, server, "fp32")
    states = {name: state for name, state, _ in rows(browser)}
    assert states.pop("broken") == "unavailable"
    assert set(states) == {"boxes", "fp32", "string", "int64"} and set(states.values()) == {"ready"}
    assert find(browser, "#tile-models")[0].text == "4 / 5"
    assert answer(browser) == ["1"]
    wait(browser, lambda: "1×" in find(browser, "#batches")[0].text)
    # p50, p99: measured.
    assert [name for name, _, current in rows(browser) if current == "true"] == ["fp32"]
    wait(browser, lambda: "µs" in find(browser, "tr[aria-current=true]")[0].text)


@pytest.mark.parametrize(
    ("model", "values", "expected"),
    [
        ("string", "first\nsecond one", '"first", "second one"'),
        ("int64", "-9223372036854775808, 7", "-9223372036854775808, 7"),
        ("fp32", "[0.5, -2]", "0.5, -2"),
        ("fp32", "x, 1", "IN: 'x' is no number"),
        ("fp32", "1, 2, 3", "IN: 3 values for 2 elements"),
    ],
)
def test_trying_a_model(browser, server, model, values, expected):
    choose(browser, server, model)
    dims = find(browser, ".dims input")
    dims[-1].clear()
    dims[-1].send_keys("2")
    text = find(browser, "#inputs textarea")[0]
    text.clear()
    text.send_keys(values)
    assert answer(browser) == [expected]


def test_an_image_with_its_boxes(browser, server, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(png(64, 48, lambda x, y: 255 if 10 <= x < 30 and 20 <= y < 40 else 0))
    choose(browser, server, "boxes")
    find(browser, "#inputs input[type=file]")[0].send_keys(str(file))
    wait(browser, lambda: [d.get_attribute("value") for d in find(browser, ".dims input")]
         == ["48", "64", "3"])
    assert answer(browser) == ["10, 20, 30, 40", '"a plate"']
    (canvas,) = find(browser, "#answer canvas")
    assert canvas.get_attribute("aria-label") == "The image with 1 box"
    # The left edge of the box is drawn, its middle still is the image.
    red, white = browser.execute_script(
        "const pen = arguments[0].getContext('2d');"
        "return [[10, 35], [20, 30]].map(at => [...pen.getImageData(...at, 1, 1).data]);",
        canvas,
    )
    assert red[0] > 200 and red[1] < 150 and white[:3] == [255, 255, 255]


def test_nothing_went_wrong_and_nothing_came_from_elsewhere(browser, server):
    choose(browser, server, "fp32")
    # The server is not ready, which the page asks for: no problem of the page's.
    entries = [entry for entry in browser.get_log("browser") if entry["source"] != "network"]
    problems = [entry for entry in entries if entry["level"] == "SEVERE"]
    assert not problems, problems
    urls = browser.execute_script("return performance.getEntries().map(e => e.name)")
    assert all(server.url in url for url in urls if url.startswith("http"))


def png(width, height, pixel):
    """A grey image as a file."""
    rows = b"".join(b"\0" + bytes(pixel(x, y) for x in range(width)) for y in range(height))

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
