"""The README.md of a conformance kit: each step with its formula, for whoever writes a runtime in another language."""

from __future__ import annotations

from .steps import Settings

CHANNELS = {"BGR": "blue, green, red", "RGB": "red, green, blue: the letterbox's, reversed"}

NORMALIZATION = {
    None: "the bytes as floats, 0 to 255.",
    "imagenet": "(byte / 255 - mean) / std, for red, green, blue:\n\n"
    "    mean = 0.485, 0.456, 0.406    std = 0.229, 0.224, 0.225\n",
}

OUTPUT = """**output** (A, 5 + C) float32, A = {anchors}, C = {classes}: what the network gives. 4 raw box
values, objectness, C class scores; the scores are after the sigmoid. Anchors stand in the order of strides {strides},
each level row by row.

"""

RAW = """Of the
anchor in column x and row y of the level with stride s:

    cx = (output[0] + x) * s    cy = (output[1] + y) * s    w = exp(output[2]) * s    h = exp(output[3]) * s

x and y are whole numbers; no half is added. All else is output's."""

IN_GRAPH = """This is what the
network gives: its graph decodes the boxes. Anchors stand in the order of strides {strides}, each level row by row;
A = {anchors}, C = {classes}; the scores are after the sigmoid."""

README = """# Conformance kit of {name}

For runtimes in C++, Rust, JavaScript or anything else: every intermediate result, for images of awkward sizes. Compute
the steps that you have, write files of the same names, and have them scored:

    yolox-deploy kit-score THIS_FOLDER YOUR_FOLDER

`kit.json` lists the cases, the ratio of each, and every file with shape, dtype and sha256. A `.bin` file holds nothing
but the numbers: row-major, little-endian, uint8 or float32. Any subset of steps and cases is scored. Each step is
judged by what it should make of the step before it: of your file if you wrote one, else of the kit's. So begin
anywhere, and mend the first step that fails first. The detections are judged from end to end as well.

The case `made` has no image: begin with the network's output as given. Its boxes overlap more than a model's would.

## Steps

H x W = {height} x {width}. Score threshold {score}, NMS threshold {nms}.

**image** (h, w, 3) uint8, BGR: `image.png`, and the same pixels in `image.bin`.

**letterbox** (H, W, 3) uint8, BGR:

    ratio = min(H / h, W / w)                                 in double precision
    size  = max(int(h * ratio), 1) x max(int(w * ratio), 1)   int truncates: 639.99 is 639

The image, scaled to that size (bilinear, pixel centres at one half, no antialiasing; OpenCV's INTER_LINEAR, which
rounds to bytes), lies in the top-left corner of a canvas of {pad}. Small images are enlarged. A value may be
off by 1; but what the network makes of such a canvas differs by more than rounding, so feed it the kit's.

**input** {shape}: {normalization}
Channels: {channels}.

{output}**decoded** (A, 5 + C) float32: boxes as cx, cy, w, h in input pixels. {decoded}

**candidates** (n, 6) float32, best first: left, top, right, bottom in input pixels, score, class index.

    class = the one with the largest score    score = objectness * its score >= {score}
    left = cx - w / 2    top = cy - h / 2    right = cx + w / 2    bottom = cy + h / 2

One class an anchor; boxes that are not finite are dropped, none is clipped.

**nms** (n, 6): candidates, best first; one is dropped if a better one *of its class* stays whose IoU with it is over
{nms}. Areas are (right - left) * (bottom - top), without + 1. Nothing caps their number.

**detections** (n, 6): the same, with the boxes divided by ratio: pixels of the image, neither rounded nor clipped.

**clipped** (n, 6): the same, cut at the edges of the image: left and right within 0 and w, top and bottom within 0 and
h; those without any area left are dropped.

## Tolerances

In `kit.json`: `letterbox` and `input`, the largest difference; `exact`, of a step that is judged by your own step
before it; `fp32`, `fp16` and `int8`, across the network (--precision says which; {precision} if you do not).
`tensor` and `mean` are relative to max(1, |expected|); `box` is in pixels, `mean_box` of 1 - IoU. Rows from confidence
`alone_score` on must be in both lists, but for a share of `alone_share`.
"""


def kit_readme(settings: Settings) -> str:
    spec = settings.spec
    sizes = {"anchors": spec.num_anchors, "classes": spec.num_classes, "strides": ", ".join(map(str, spec.strides))}
    return README.format(
        name=spec.name,
        height=spec.input_size[0],
        width=spec.input_size[1],
        score=settings.score_threshold,
        nms=settings.nms_threshold,
        pad=spec.pad_value,
        shape="(H, W, 3) uint8" if spec.uint8_input else "(3, H, W) float32",
        normalization="the bytes; the graph normalises." if spec.uint8_input else NORMALIZATION[spec.normalization],
        channels=CHANNELS[spec.channel_order],
        output="" if spec.decoded else OUTPUT.format(**sizes),
        decoded=IN_GRAPH.format(**sizes) if spec.decoded else RAW,
        precision=spec.precision,
    )
