"""Asks the quickstart repository a question with the stock Triton client."""

import sys
import time

import numpy as np
import tritonclient.http as httpclient

LINES = ["one small binary", "serves a Triton model repository", "as it is"]


def main(url):
    client = httpclient.InferenceServerClient(url)
    for _ in range(600):
        try:
            if client.is_server_ready():
                break
        except ConnectionError:
            pass
        time.sleep(0.1)
    lines = httpclient.InferInput("LINES", [len(LINES)], "BYTES")
    lines.set_data_from_numpy(np.array(LINES, dtype=np.object_))
    counts = client.infer("word_count", [lines]).as_numpy("COUNTS")
    for line, count in zip(LINES, counts):
        print("%d words: %s" % (count, line))


if __name__ == "__main__":
    main(*sys.argv[1:])
