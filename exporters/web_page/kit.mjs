// Parity in the visitor's own browser: the conformance kit holds images, and what the trained model makes of them.

import { detections, iou, letterbox } from "./yolox.mjs";

const SAME_OBJECT = 0.5; // IoU

/** Run the kit's images through a model. Returns {passed, problem, images, figures}; see `compareRows`. */
export async function checkKit(model, folder = new URL("kit/", import.meta.url)) {
  const kit = await (await fetch(new URL("kit.json", folder))).json();
  const { score, nms } = kit.thresholds;
  const load = async (name, step, type) => {
    const response = await fetch(new URL(kit.cases.find((one) => one.name === name).files[step].file, folder));
    if (!response.ok) throw new Error(`the conformance kit holds no ${step} of ${name}.`);
    return new type(await response.arrayBuffer());
  };
  const found = [];
  for (const { name, files, ratio } of kit.cases) {
    const expected = rowsOf(await load(name, "detections", Float32Array));
    if (files.image) {
      const [height, width] = files.image.shape;
      const image = { width, height, data: await load(name, "image", Uint8Array) };
      const off = largestDifference(letterbox(image, model.spec).data, await load(name, "letterbox", Uint8Array));
      const { rows } = await model.detect(image, score, nms);
      const compared = compareRows(expected, rows, kit.tolerances[model.spec.precision], nms);
      const resize = off > kit.tolerances.letterbox ? `its pixels are off by up to ${off}` : null;
      found.push({ ...compared, name, problem: resize ?? compared.problem, image: true });
    } else {
      const output = await load(name, kit.spec.decoded ? "decoded" : "output", Float32Array);
      const rows = detections(output, ratio, kit.spec, score, nms);
      found.push({ ...compareRows(expected, rows, kit.tolerances.exact, null), name, image: false });
    }
  }
  return summary(found);
}

function summary(found) {
  const bad = found.find((one) => one.problem);
  const images = found.filter((one) => one.image);
  const largest = (figure) => Math.max(...images.map((one) => one[figure]));
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
    },
  };
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
