"""Asks the quickstart repository two questions with the stock Triton client."""

import sys
import time

import numpy as np
import tritonclient.http as httpclient

LINES = ["one small binary", "serves a Triton model repository", "as it is"]


def wait_until_ready(client):
    for _ in range(600):
        try:
            if client.is_server_ready():
                return
        except ConnectionError:
            pass
        time.sleep(0.1)
    sys.exit("the server does not become ready")


def count_words(client):
    """A Python model that calls another one for each line."""
    lines = httpclient.InferInput("LINES", [len(LINES)], "BYTES")
    lines.set_data_from_numpy(np.array(LINES, dtype=np.object_))
    counts = client.infer("word_count", [lines]).as_numpy("COUNTS")
    for line, count in zip(LINES, counts):
        print("%d words: %s" % (count, line))


def find_edges(client):
    """An ONNX model: the outline of a bright box in a dark picture."""
    picture = np.zeros((7, 24), np.uint8)
    picture[2:5, 5:19] = 255
    image = httpclient.InferInput("IMAGE", picture.shape, "UINT8")
    image.set_data_from_numpy(picture)
    edges = client.infer("edges", [image]).as_numpy("EDGES")
    for row in edges:
        print("".join(" .+#"[int(strength // 300)] for strength in row))


def main(url):
    client = httpclient.InferenceServerClient(url)
    wait_until_ready(client)
    count_words(client)
    find_edges(client)


if __name__ == "__main__":
    main(*sys.argv[1:])
