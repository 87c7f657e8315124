// The page: a picture is chosen, dropped or taken by the camera; boxes are drawn, and listed in words.

import { checkKit } from "./kit.mjs";
import { hasWebGPU, openModel, pixelsOf, usableThreads } from "./model.mjs";

const LONGEST_SIDE = 4096; // pixels of a picture; larger ones are scaled down before they are looked at
const SHOWN = 100; // objects in the list
const PATIENCE = 5000; // milliseconds for a service worker

const at = (id) => document.getElementById(id);
let model = null;
let shown = null; // {source, image, rows}: what is drawn, its pixels, and what was found in it
let camera = null; // its stream, or "asking" while the browser asks whether it may be used
let turn = 0; // counts pictures: what an older one brings is not shown

function say(text, isError = false) {
  const status = at("status");
  if (status.textContent !== text) status.textContent = text; // else a screen reader would say it again
  status.classList.toggle("error", isError);
}

function explain(error) {
  say(`${error.message || error}`, true);
}

async function useBackend(name) {
  say("Loading the model …");
  at("backend").disabled = true;
  try {
    const opened = await openModel(name);
    const former = model;
    model = opened;
    await former?.close();
    describe(model);
    await prove(model);
    if (shown && !camera) await detect();
  } catch (error) {
    explain(error);
    if (model) at("backend").value = model.backend; // which goes on
  } finally {
    at("backend").disabled = false;
  }
}

function describe({ spec, backend }) {
  const [height, width] = spec.input_size;
  document.title = at("name").textContent = spec.name;
  at("about").textContent =
    `${spec.class_names.length} classes, ${width} × ${height}, ${spec.precision}. Pictures stay on this device.`;
  const threads = usableThreads();
  const alone = "1 thread, since this browser or server allows no more";
  say(`Ready: ${backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads > 1 ? `${threads} threads` : alone}`}.`);
}

async function prove(opened) {
  const [badge, verdict, figures] = [at("parity"), at("parity-verdict"), at("parity-figures")];
  badge.dataset.state = "waiting";
  verdict.textContent = "Parity: checking …";
  try {
    const found = await checkKit(opened);
    const { detections, missed, extra, box, score, value } = found.figures;
    badge.dataset.state = found.passed ? "passed" : "failed";
    verdict.textContent = found.passed ? "Parity proven in this browser" : "No parity in this browser";
    figures.textContent =
      `${found.images} images, ${detections} detections of the trained model: ${missed} missed, ${extra} extra, boxes ` +
      `within ${box.toPrecision(2)} px, scores within ${score.toPrecision(2)}, all that the network gives within ` +
      `${value.toPrecision(2)}.${found.problem ? ` ${found.problem}.` : ""}`;
  } catch (error) {
    badge.dataset.state = "failed";
    verdict.textContent = "Parity: cannot be checked";
    figures.textContent = error.message;
  }
}

async function openPicture(file) {
  stopCamera();
  const mine = ++turn;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    if (mine === turn) say(`${file.name} is no picture that this browser can read.`, true);
    return;
  }
  if (mine !== turn) return bitmap.close();
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  shown?.source.close?.();
  shown = { source: bitmap, image: pixelsOf(bitmap, width, height), rows: [] };
  show();
  await detect().catch(explain);
}

async function detect() {
  if (!model) return; // once it is loaded, it does
  const [mine, picture] = [turn, shown];
  const { rows, ms } = await model.detect(picture.image, 0.01);
  if (mine !== turn) return;
  picture.rows = rows;
  describe(model);
  at("times").textContent =
    `${Math.round(ms.prepare + ms.network + ms.boxes)} ms: ${ms.prepare.toFixed(1)} to scale, ` +
    `${ms.network.toFixed(1)} for the network, ${ms.boxes.toFixed(1)} for the boxes`;
  show();
}

function show() {
  if (!shown) return;
  const threshold = at("threshold").value / 100;
  const rows = shown.rows.filter((row) => row[4] >= threshold);
  draw(shown, rows);
  const counts = new Map();
  for (const row of rows) counts.set(nameOf(row), (counts.get(nameOf(row)) ?? 0) + 1);
  const words = [...counts].map(([name, count]) => `${count} ${name}`).join(", ");
  at("picture").setAttribute("aria-label", words || "No objects");
  at("found").textContent = rows.length === 1 ? "1 object" : `${rows.length || "No"} objects`;
  at("objects").replaceChildren(...rows.slice(0, SHOWN).map(entry));
}

const nameOf = (row) => model.spec.class_names[row[5]];
const colourOf = (row) => `hsl(${(row[5] * 137.5) % 360} 75% 25%)`; // neighbouring classes far apart

function entry(row) {
  const item = document.createElement("li");
  item.innerHTML = '<svg viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" rx="2"/></svg><span></span><span></span>';
  item.querySelector("rect").setAttribute("fill", colourOf(row));
  const [name, score] = item.querySelectorAll("span");
  name.textContent = nameOf(row);
  score.textContent = `${Math.round(row[4] * 100)} %`;
  return item;
}

function draw({ source, image }, rows) {
  const canvas = at("picture");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.hidden = false;
  at("drop").hidden = true;
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0, image.width, image.height);
  const unit = Math.max(image.width, image.height) / (canvas.clientWidth || image.width); // one pixel of the screen
  context.lineWidth = 2.5 * unit;
  context.font = `600 ${14 * unit}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const row of [...rows].reverse()) {
    const [left, top, right, bottom] = row;
    const text = `${nameOf(row)} ${Math.round(row[4] * 100)} %`;
    context.strokeStyle = context.fillStyle = colourOf(row);
    context.strokeRect(left, top, right - left, bottom - top);
    const high = 19 * unit;
    const y = top >= high ? top - high : Math.max(top, 0);
    const wide = context.measureText(text).width + 8 * unit;
    const x = Math.max(Math.min(left, image.width - wide), 0);
    context.fillRect(x, y, wide, high);
    context.fillStyle = "#fff";
    context.fillText(text, x + 4 * unit, y + 2.5 * unit);
  }
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    say("The camera needs https, or a page of this machine (localhost).", true);
    return;
  }
  camera = "asking";
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    if (camera === "asking") camera = null;
    say(`The camera cannot be used: ${error.message}`, true);
    return;
  }
  if (camera !== "asking") return stop(stream); // a picture was chosen meanwhile
  camera = stream;
  turn++;
  at("camera").textContent = "Stop camera";
  at("camera").setAttribute("aria-pressed", "true");
  at("objects").setAttribute("aria-live", "off"); // it would never stop talking
  try {
    await look(stream);
  } finally {
    if (camera === stream) stopCamera();
  }
}

/** Detect in what the camera sees, until another stream or none takes its place. */
async function look(stream) {
  const video = at("video");
  video.srcObject = stream;
  await video.play();
  shown?.source.close?.();
  while (camera === stream) {
    shown = { source: video, image: pixelsOf(video, video.videoWidth, video.videoHeight), rows: [] };
    await detect();
    await new Promise(requestAnimationFrame);
  }
}

const stop = (stream) => stream.getTracks().forEach((track) => track.stop());

function stopCamera() {
  if (camera && camera !== "asking") stop(camera);
  camera = null;
  turn++;
  at("camera").textContent = "Use camera";
  at("camera").setAttribute("aria-pressed", "false");
  at("objects").setAttribute("aria-live", "polite");
}

/** Reload once, served by isolation.js, where that allows threads. Returns whether the page goes away for it. */
async function isolate() {
  try {
    if (crossOriginIsolated || !navigator.serviceWorker || sessionStorage.getItem("isolation")) return false;
    sessionStorage.setItem("isolation", "tried");
    await navigator.serviceWorker.register("isolation.js");
    const late = new Promise((_, fail) => setTimeout(fail, PATIENCE));
    await Promise.race([navigator.serviceWorker.ready, late]);
    location.reload();
    return true;
  } catch {
    return false; // one thread, then: no cookies, or no service workers
  }
}

function listen() {
  at("choose").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", ({ target }) => target.files[0] && openPicture(target.files[0]));
  at("camera").addEventListener("click", () => (camera ? stopCamera() : startCamera().catch(explain)));
  at("backend").addEventListener("change", ({ target }) => useBackend(target.value));
  at("threshold").addEventListener("input", ({ target }) => {
    at("threshold-value").textContent = `${target.value} %`;
    show();
  });
  const stage = at("stage");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      stage.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) openPicture(event.dataTransfer.files[0]);
    });
  }
}

if (!(await isolate())) {
  listen();
  if (!(await hasWebGPU())) {
    const option = at("backend").querySelector("[value=webgpu]");
    option.disabled = true;
    option.textContent = "WebGPU: not in this browser";
  }
  await useBackend("wasm");
}
