// Parity in the visitor's own browser: the conformance kit holds images, and what the trained model makes of them.

import { fetched } from "./model.mjs";
import { decoded, detections, iou, letterbox } from "./yolox.mjs";

const SAME_OBJECT = 0.5; // IoU

/** Run the kit's images through a model. Returns {passed, problem, images, figures}: figures are sums of detections,
 *  missed and extra ones, and the largest differences of a box, a score, and any value of the network's output. */
export async function checkKit(model) {
  const kit = await (await fetched("kit/kit.json")).json();
  const { score, nms } = kit.thresholds;
  const limit = kit.tolerances[model.spec.precision];
  const found = [];
  for (const { name, files, ratio } of kit.cases) {
    const load = async (step, type) => new type(await (await fetched(`kit/${files[step].file}`)).arrayBuffer());
    const given = async () => decoded(await load(kit.spec.decoded ? "decoded" : "output", Float32Array), kit.spec);
    const expected = rowsOf(await load("detections", Float32Array));
    if (files.image) {
      const [height, width] = files.image.shape;
      const image = { width, height, data: await load("image", Uint8Array) };
      const off = largestDifference(letterbox(image, model.spec).data, await load("letterbox", Uint8Array));
      const resize = off > kit.tolerances.letterbox ? `its pixels are off by up to ${off}` : null;
      const { output } = await model.infer(image);
      const values = compareOutputs(await given(), decoded(output, model.spec), limit);
      const rows = detections(output, ratio, model.spec, score, nms);
      const boxes = compareRows(expected, rows, limit, nms);
      found.push({ ...boxes, ...values, name, problem: resize ?? values.problem ?? boxes.problem, image: true });
    } else {
      const rows = detections(await given(), ratio, { ...kit.spec, decoded: true }, score, nms);
      found.push({ ...compareRows(expected, rows, kit.tolerances.exact, null), name, image: false });
    }
  }
  return summary(found);
}

function summary(found) {
  const bad = found.find((one) => one.problem);
  const images = found.filter((one) => one.image);
  const largest = (figure) => Math.max(...images.map((one) => one[figure] ?? 0));
  const sum = (figure) => images.reduce((total, one) => total + one[figure], 0);
  return {
    passed: !bad,
    problem: bad ? `${bad.name}: ${bad.problem}` : null,
    images: images.length,
    figures: {
      detections: sum("detections"),
      missed: sum("missed"),
      extra: sum("extra"),
      box: largest("box"),
      score: largest("score"),
      value: largest("value"),
    },
  };
}

/** Compare all that a network gave, relative to max(1, |expected|); what is not a number is infinitely far. */
export function compareOutputs(expected, found, limit) {
  let value = expected.length === found.length ? 0 : Infinity;
  let total = 0;
  for (let i = 0; i < expected.length && Number.isFinite(value); i++) {
    const error = Math.abs(expected[i] - found[i]) / Math.max(1, Math.abs(expected[i]));
    value = Number.isFinite(error) ? Math.max(value, error) : Infinity;
    total += error;
  }
  const mean = total / Math.max(1, expected.length);
  const over = (figure, allowed) => allowed !== null && !(figure <= allowed);
  const problem =
    over(value, limit.tensor) || over(mean, limit.mean) || value === Infinity
      ? `the network's output differs by up to ${value.toPrecision(2)}`
      : null;
  return { value, problem };
}

function rowsOf(values) {
  return Array.from({ length: values.length / 6 }, (_, index) => values.subarray(index * 6, index * 6 + 6));
}

function largestDifference(one, other) {
  if (one.length !== other.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < one.length; i++) largest = Math.max(largest, Math.abs(one[i] - other[i]));
  return largest;
}

/** Compare lists of boxes as `yolox-deploy kit-score` does. limit: the kit's tolerance. nmsThreshold: where the lists
 *  come from different networks, which may choose between equals differently; null where they may not. */
export function compareRows(expected, found, limit, nmsThreshold) {
  const left = expected.filter((row) => row[4] >= limit.min_score);
  const right = found.filter((row) => row[4] >= limit.min_score);
  const pairs = pair(left, right);
  const boxes = pairs.map(([i, j]) => Math.max(...[0, 1, 2, 3].map((k) => Math.abs(left[i][k] - right[j][k]))));
  const scores = pairs.map(([i, j]) => Math.abs(left[i][4] - right[j][4]));
  const figures = {
    detections: left.length,
    missed: alone(left, right, new Set(pairs.map(([i]) => i)), limit, nmsThreshold),
    extra: alone(right, left, new Set(pairs.map(([, j]) => j)), limit, nmsThreshold),
    box: Math.max(0, ...boxes),
    score: Math.max(0, ...scores),
    mean_box: mean(pairs.map(([i, j]) => 1 - iou(left[i], right[j]))),
    mean_score: mean(scores),
  };
  const counted = [...left, ...right].filter((row) => row[4] > limit.alone_score).length;
  return { ...figures, problem: problemOf(figures, counted, limit) };
}

function problemOf(figures, counted, limit) {
  const { missed, extra } = figures;
  if (missed + extra > limit.alone_share * counted) return `${missed} boxes are missed and ${extra} are extra`;
  for (const name of ["box", "score", "mean_box", "mean_score"]) {
    const allowed = limit[name];
    if (allowed !== null && !(figures[name] <= allowed)) {
      return `${name.replace("_", " ")} differs by ${figures[name].toPrecision(2)} (tolerance ${allowed})`;
    }
  }
  return null;
}

function mean(values) {
  return values.length ? values.reduce((one, other) => one + other) / values.length : 0;
}

// Those of the same class with the largest IoU first; of equal ones, those with the closest ranks.
function pair(left, right) {
  const all = [];
  left.forEach((one, i) =>
    right.forEach((other, j) => {
      const overlap = one[5] === other[5] ? iou(one, other) : 0;
      if (overlap >= SAME_OBJECT) all.push([i, j, overlap]);
    }),
  );
  all.sort((one, other) => other[2] - one[2] || Math.abs(one[0] - one[1]) - Math.abs(other[0] - other[1]));
  const taken = [new Set(), new Set()];
  return all.filter(([i, j]) => {
    if (taken[0].has(i) || taken[1].has(j)) return false;
    taken[0].add(i);
    taken[1].add(j);
    return true;
  });
}

// Rows of one list without a counterpart. A score on the threshold may fall to either side.
function alone(own, other, paired, limit, nmsThreshold) {
  const allowed = limit.score ?? 0;
  const excused = (row) =>
    nmsThreshold !== null && other.some((one) => Math.abs(one[4] - row[4]) <= allowed && iou(one, row) > nmsThreshold);
  return own.filter((row, i) => row[4] > limit.alone_score + allowed && !paired.has(i) && !excused(row)).length;
}
