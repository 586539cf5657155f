"""Sends photos to `plate_recognition` and shows what it finds.

client.py [--url HOST:PORT] [--annotated FOLDER] PHOTO...
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import tritonclient.http as httpclient
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

KINDS = (".jpg", ".jpeg", ".png")
OUTPUTS = ("coordinates", "texts", "boxes", "confidences", "text_confidences")
# What runs behind `plate_recognition`, in either repository.
STEPS = ("detector", "yolo", "stn", "lprnet", "plate_recognition")
# The largest photo that is worth sending; Pillow refuses more than twice as many by itself.
Image.MAX_IMAGE_PIXELS = 100_000_000


def photos(paths):
    """The files named, and those in the folders named."""
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in KINDS)
            if not found:
                raise ValueError("%s: no photos here (%s)" % (path, ", ".join(KINDS)))
            yield from found
        else:
            yield path


def load(path):
    """A photo as the model wants it: rows, columns, BGR. Grey ones become colour.

    Those that a camera held upright turned on their side are put up again, as OpenCV does.
    """
    try:
        with Image.open(path) as photo:
            rgb = np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError("%s: not a photo (JPEG and PNG are)" % path) from None
    except Image.DecompressionBombError as error:
        raise ValueError("%s: %s" % (path, error)) from None
    except OSError as error:
        raise ValueError("%s: %s" % (path, error.strerror or error)) from None
    return np.ascontiguousarray(rgb[:, :, ::-1])


def recognise(client, picture):
    """The model's outputs by name."""
    image = httpclient.InferInput("input__0", picture.shape, "UINT8")
    image.set_data_from_numpy(picture)
    outputs = [httpclient.InferRequestedOutput(name) for name in OUTPUTS]
    answer = client.infer("plate_recognition", [image], outputs=outputs)
    return {name: answer.as_numpy(name) for name in OUTPUTS}


def show(found):
    """One line for each plate."""
    if not len(found["boxes"]):
        print("  no plates")
    texts = [text.decode() for text in found["texts"]]
    for text, box, sure, text_sure in zip(
        texts, found["boxes"], found["confidences"], found["text_confidences"]
    ):
        xmin, ymin, xmax, ymax = box
        print(
            "  %-10s plate %3.0f %%, text %3.0f %%, x %.0f..%.0f, y %.0f..%.0f"
            % (text or "(unread)", sure * 100, text_sure * 100, xmin, xmax, ymin, ymax)
        )


def annotate(picture, found, path):
    """Draws boxes and texts into a copy of the photo."""
    photo = Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1]))
    pen = ImageDraw.Draw(photo)
    size = max(photo.width // 50, 14)
    font = ImageFont.load_default(size)
    for box, text in zip(found["boxes"].tolist(), found["texts"]):
        pen.rectangle(box, outline=(0, 230, 0), width=max(photo.width // 500, 2))
        if text:
            place = (box[0], max(box[1] - size * 1.35, 0))
            area = pen.textbbox(place, text.decode(), font=font)
            pen.rectangle((area[0] - 3, area[1] - 3, area[2] + 3, area[3] + 3), fill=(0, 90, 0))
            pen.text(place, text.decode(), fill=(255, 255, 255), font=font)
    photo.save(path)


def spent(client):
    """Milliseconds that each model has computed so far: {name: (milliseconds, executions)}."""
    models = client.get_inference_statistics()["model_stats"]
    times = {m["name"]: m["inference_stats"]["compute_infer"] for m in models}
    return {
        name: (times[name]["ns"] / 1e6, times[name]["count"]) for name in STEPS if name in times
    }


def look_at(client, path, folder):
    """Does all that is to do for one photo."""
    clock = time.perf_counter()
    picture = load(path)
    decoded = time.perf_counter()
    before = spent(client)
    clock, decoding = time.perf_counter(), decoded - clock
    found = recognise(client, picture)
    took = time.perf_counter() - clock
    print("%s (%dx%d)" % (path, picture.shape[1], picture.shape[0]))
    show(found)
    steps = ["decode %.1f" % (decoding * 1e3), "request %.1f" % (took * 1e3)]
    for name, (total, count) in spent(client).items():
        if count > before[name][1]:
            steps.append("%s %.1f" % (name, total - before[name][0]))
    print("  ms: " + ", ".join(steps))
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / (path.stem + "-plates.png")
        annotate(picture, found, path)
        print("  annotated: %s" % path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG or PNG files, or folders")
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--annotated", metavar="FOLDER", help="where to write annotated copies")
    options = parser.parse_args()
    client = httpclient.InferenceServerClient(options.url)
    failed = False
    try:
        for path in photos(options.photos):
            try:
                look_at(client, path, options.annotated)
            except (ValueError, httpclient.InferenceServerException) as error:
                failed = True
                print("error: %s" % error, file=sys.stderr)
    except (ValueError, ConnectionError) as error:
        sys.exit("error: %s" % error)
    sys.exit(failed)


if __name__ == "__main__":
    main()
