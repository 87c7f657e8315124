// From pixels to detections, as spec.json says: letterbox, network input, decoding, NMS. Nothing here knows of a page.
//
// Images are {width, height, data}: data holds blue, green and red bytes, row by row. Rows of boxes are Float32Arrays
// [left, top, right, bottom, score, class index].

/** Scale an image into the top-left corner of a padded canvas, keeping its aspect ratio. spec.input_size: [H, W].
 *  Returns {data, ratio}: H * W * 3 bytes; boxes on the canvas, divided by ratio, are boxes on the image. */
export function letterbox(image, spec) {
  const [height, width] = spec.input_size;
  const ratio = Math.min(height / image.height, width / image.width);
  const rows = Math.max(Math.trunc(image.height * ratio), 1);
  const columns = Math.max(Math.trunc(image.width * ratio), 1);
  const data = new Uint8Array(height * width * 3).fill(spec.pad_value);
  resizeInto(data, width, image, rows, columns);
  return { data, ratio };
}

// Bilinear, pixel centres at one half, no antialiasing: OpenCV's INTER_LINEAR, in whole numbers of 1/2048 as there.
function resizeInto(target, stride, image, rows, columns) {
  const { width, height, data } = image;
  const across = weights(width, columns);
  const down = weights(height, rows);
  const scaled = new Map(); // rows of the image, scaled across
  const scaleRow = (row) => {
    if (!scaled.has(row)) {
      const line = new Int32Array(columns * 3);
      for (let x = 0; x < columns; x++) {
        const left = (row * width + across.first[x]) * 3;
        const right = (row * width + across.second[x]) * 3;
        for (let c = 0; c < 3; c++) {
          line[x * 3 + c] = data[left + c] * (2048 - across.weight[x]) + data[right + c] * across.weight[x];
        }
      }
      scaled.set(row, line);
    }
    return scaled.get(row);
  };
  for (let y = 0; y < rows; y++) {
    const top = scaleRow(down.first[y]);
    const bottom = scaleRow(down.second[y]);
    for (const row of scaled.keys()) if (row < down.first[y]) scaled.delete(row);
    const weight = down.weight[y];
    const start = y * stride * 3;
    for (let i = 0; i < columns * 3; i++) {
      const value = (((2048 - weight) * (top[i] >> 4)) >> 16) + ((weight * (bottom[i] >> 4)) >> 16);
      target[start + i] = (value + 2) >> 2;
    }
  }
}

function weights(from, to) {
  const first = new Int32Array(to);
  const second = new Int32Array(to);
  const weight = new Int32Array(to); // of the second, in 1/2048
  for (let i = 0; i < to; i++) {
    const place = Math.fround((i + 0.5) * (from / to) - 0.5);
    const whole = Math.floor(place);
    first[i] = Math.min(Math.max(whole, 0), from - 1);
    second[i] = Math.min(Math.max(whole + 1, 0), from - 1);
    weight[i] = roundHalfToEven(Math.fround(Math.fround(place - whole) * 2048));
  }
  return { first, second, weight };
}

function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

const MEAN = [0.485, 0.456, 0.406]; // ImageNet's, of red, green and blue in 0..1
const STD = [0.229, 0.224, 0.225];

/** What the network takes for a canvas of `letterbox`: {type, dims, data}, dims with a batch of 1. */
export function networkInput(canvas, spec) {
  const [height, width] = spec.input_size;
  const size = height * width;
  const channel = spec.channel_order === "RGB" ? [2, 1, 0] : [0, 1, 2];
  if (spec.uint8_input) {
    const data = new Uint8Array(canvas.length);
    for (let i = 0; i < size; i++) for (let c = 0; c < 3; c++) data[i * 3 + c] = canvas[i * 3 + channel[c]];
    return { type: "uint8", dims: [1, height, width, 3], data };
  }
  const data = new Float32Array(size * 3);
  for (let c = 0; c < 3; c++) {
    const colour = 2 - channel[c]; // red is 0 in the lists above
    for (let i = 0; i < size; i++) {
      const value = canvas[i * 3 + channel[c]];
      data[c * size + i] = spec.normalization === "imagenet" ? (value / 255 - MEAN[colour]) / STD[colour] : value;
    }
  }
  return { type: "float32", dims: [1, 3, height, width], data };
}

/** An output with its boxes as cx, cy, w, h in input pixels, whether or not the graph decoded them. */
export function decoded(output, spec) {
  if (spec.decoded) return output;
  const values = Float32Array.from(output);
  let start = 0;
  for (const stride of spec.strides) {
    const across = spec.input_size[1] / stride;
    const cells = (spec.input_size[0] / stride) * across;
    for (let cell = 0; cell < cells; cell++, start += 5 + spec.class_names.length) {
      values[start] = Math.fround(values[start] + (cell % across)) * stride;
      values[start + 1] = Math.fround(values[start + 1] + Math.floor(cell / across)) * stride;
      values[start + 2] = Math.fround(Math.exp(values[start + 2])) * stride;
      values[start + 3] = Math.fround(Math.exp(values[start + 3])) * stride;
    }
  }
  return values;
}

/** The candidates in an output (A * (5 + C) numbers), best first: one class an anchor, none below the threshold, and
 *  none that is not finite in pixels of the image. */
export function candidates(output, ratio, spec, scoreThreshold) {
  const values = decoded(output, spec);
  const columns = 5 + spec.class_names.length;
  const threshold = Math.fround(scoreThreshold); // compared with numbers of 32 bits
  const rows = [];
  for (let start = 0; start < values.length; start += columns) {
    if (!(values[start + 4] >= threshold)) continue;
    const best = bestClass(values.subarray(start + 5, start + columns));
    const score = Math.fround(values[start + 4] * values[start + 5 + best]);
    if (!(score >= threshold)) continue;
    const [x, y, w, h] = values.subarray(start, start + 4);
    const row = Float32Array.of(x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, best);
    if (scaledBack(row, ratio).every(Number.isFinite)) rows.push(row);
  }
  return rows.sort((one, other) => other[4] - one[4]); // stable: of equals, the earlier anchor is first
}

// The first of the largest; or the first that is not a number, by which the row is dropped.
function bestClass(scores) {
  let best = 0;
  for (let c = 0; c < scores.length; c++) {
    if (Number.isNaN(scores[c])) return c;
    if (scores[c] > scores[best]) best = c;
  }
  return best;
}

function scaledBack(row, ratio) {
  const divisor = Math.fround(ratio);
  return row.map((value, i) => (i < 4 ? value / divisor : value));
}

/** Drop each row that overlaps a better one of its class, which stays, by an IoU over the threshold. */
export function nonMaximumSuppression(rows, threshold) {
  const kept = [];
  for (const row of rows) {
    if (!kept.some((better) => better[5] === row[5] && iou(better, row) > threshold)) kept.push(row);
  }
  return kept;
}

export function iou(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const both = Math.max(width, 0) * Math.max(height, 0);
  const areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]);
  return areas > 0 ? both / (areas - both) : 1; // two boxes without an area are one
}

/** Rows of candidates, after NMS, in pixels of the image; not clipped to it. */
export function detections(output, ratio, spec, scoreThreshold, nmsThreshold) {
  const kept = nonMaximumSuppression(candidates(output, ratio, spec, scoreThreshold), nmsThreshold);
  return kept.map((row) => scaledBack(row, ratio));
}

/** The rows cut at the edges of an image {width, height}; those without any area in it are dropped. */
export function clipped(rows, { width, height }) {
  const within = (row) => row.map((value, i) => (i < 4 ? Math.min(Math.max(value, 0), i % 2 ? height : width) : value));
  return rows.map(within).filter((row) => row[2] > row[0] && row[3] > row[1]);
}
