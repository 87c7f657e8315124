// A model of this folder, ready to detect: spec.json, model.onnx and onnxruntime-web.

import { clipped, detections, letterbox, networkInput } from "./yolox.mjs";

const MODULES = { wasm: "./ort/ort.wasm.min.mjs", webgpu: "./ort/ort.webgpu.min.mjs" };

/** Whether this browser has a GPU for us. */
export async function hasWebGPU() {
  return Boolean(navigator.gpu && (await navigator.gpu.requestAdapter()));
}

/** Threads are allowed only on pages that share no process with others; see isolation.js. */
export function usableThreads() {
  return globalThis.crossOriginIsolated ? Math.max(1, Math.min(navigator.hardwareConcurrency || 1, 8)) : 1;
}

/** Load the model. backend: "wasm" or "webgpu". */
export async function openModel(backend) {
  const spec = await (await fetched("spec.json")).json();
  const bytes = new Uint8Array(await (await fetched("model.onnx")).arrayBuffer());
  const ort = await import(MODULES[backend]);
  ort.env.wasm.numThreads = usableThreads();
  ort.env.logLevel = "error"; // some operators run on the processor also with WebGPU, which it warns of
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [backend] });
  return new Model(spec, ort, session, backend);
}

/** A file of this folder, never an older one from a cache: spec, model and kit belong together. */
export async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status} ${response.statusText}).`);
  return response;
}

class Model {
  constructor(spec, ort, session, backend) {
    Object.assign(this, { spec, ort, session, backend });
  }

  /** The network's output for an image, as one row of numbers, and the ratio of its letterbox; ms as `detect`. */
  async infer(image) {
    const start = performance.now();
    const canvas = letterbox(image, this.spec);
    const { type, dims, data } = networkInput(canvas.data, this.spec);
    const prepared = performance.now();
    const feeds = { [this.session.inputNames[0]]: new this.ort.Tensor(type, data, dims) };
    await this.running; // one at a time
    const work = this.session.run(feeds).then((results) => results[this.session.outputNames[0]].getData());
    this.running = work.catch(() => {});
    const output = await work;
    const ms = { prepare: prepared - start, network: performance.now() - prepared };
    return { output, ratio: canvas.ratio, ms };
  }

  /** Detect in an image {width, height, data}, data in BGR. Returns {rows, ms}: rows [left, top, right, bottom, score,
   *  class index] in pixels of the image and within it, best first; ms: milliseconds of {prepare, network, boxes}. */
  async detect(image, scoreThreshold = 0.25, nmsThreshold = 0.65) {
    const { output, ratio, ms } = await this.infer(image);
    const computed = performance.now();
    const rows = clipped(detections(output, ratio, this.spec, scoreThreshold, nmsThreshold), image);
    return { rows, ms: { ...ms, boxes: performance.now() - computed } };
  }

  async close() {
    await this.running;
    await this.session.release();
  }
}

/** The pixels of whatever a canvas can draw, in BGR, as `Model.detect` takes them. */
export function pixelsOf(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from + 2];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from];
  }
  return { width, height, data };
}
