// The page: a picture is chosen, dropped or taken by the camera; boxes are drawn, and listed in words.

import { checkKit } from "./kit.mjs";
import { hasWebGPU, openModel, pixelsOf, usableThreads } from "./model.mjs";

const LONGEST_SIDE = 4096; // pixels of a picture; larger ones are scaled down before they are looked at
const SHOWN = 100; // objects in the list

const at = (id) => document.getElementById(id);
let model = null;
let shown = null; // {source, image}: what is drawn, and its pixels
let camera = null; // its stream
let turn = 0; // counts pictures and models: what an older one found is not shown

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", isError);
}

function explain(error) {
  say(`${error.message || error}`, true);
}

async function useBackend(name) {
  stopCamera(); // its loop would end with this turn, and leave it switched on
  const mine = ++turn;
  say("Loading the model …");
  at("backend").disabled = true;
  try {
    const opened = await openModel(name);
    await model?.close();
    model = opened;
    describe(model);
    await prove(model);
    if (shown && mine === turn) await detect();
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
    const { detections, missed, extra, box, score } = found.figures;
    badge.dataset.state = found.passed ? "passed" : "failed";
    verdict.textContent = found.passed ? "Parity proven in this browser" : "No parity in this browser";
    figures.textContent =
      `${found.images} images, ${detections} detections of the trained model: ${missed} missed, ${extra} extra, boxes ` +
      `within ${box.toPrecision(2)} px, scores within ${score.toPrecision(2)}.${found.problem ? ` ${found.problem}.` : ""}`;
  } catch (error) {
    badge.dataset.state = "failed";
    verdict.textContent = "Parity: cannot be checked";
    figures.textContent = error.message;
  }
}

async function openPicture(file) {
  stopCamera();
  const mine = ++turn;
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    if (mine !== turn) return;
    shown = { source: bitmap, image: pixelsOf(bitmap, width, height) };
  } catch {
    say(`${file.name} is no picture that this browser can read.`, true);
    return;
  }
  await detect().catch(explain);
}

async function detect() {
  if (!model) return;
  const mine = turn;
  const { rows, ms } = await model.detect(shown.image, 0.01);
  if (mine !== turn) return;
  shown.rows = rows;
  describe(model);
  at("times").textContent =
    `${Math.round(ms.prepare + ms.network + ms.boxes)} ms: ${ms.prepare.toFixed(1)} to scale, ` +
    `${ms.network.toFixed(1)} for the network, ${ms.boxes.toFixed(1)} for the boxes`;
  show();
}

function show() {
  if (!shown?.rows) return;
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
const colourOf = (row) => `hsl(${(row[5] * 137.5) % 360} 75% 27%)`; // neighbouring classes far apart

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
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`, true);
    return;
  }
  const mine = ++turn;
  at("camera").textContent = "Stop camera";
  at("camera").setAttribute("aria-pressed", "true");
  at("objects").setAttribute("aria-live", "off"); // it would never stop talking
  const video = at("video");
  video.srcObject = camera;
  await video.play();
  while (camera && mine === turn) {
    shown = { source: video, image: pixelsOf(video, video.videoWidth, video.videoHeight) };
    await detect();
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  turn++;
  at("camera").textContent = "Use camera";
  at("camera").setAttribute("aria-pressed", "false");
  at("objects").setAttribute("aria-live", "polite");
}

/** Reload once, served by isolation.js, where that allows threads. Returns whether the page goes away for it. */
async function isolate() {
  if (crossOriginIsolated || !navigator.serviceWorker || sessionStorage.getItem("isolation")) return false;
  sessionStorage.setItem("isolation", "tried");
  try {
    await navigator.serviceWorker.register("isolation.js");
    await navigator.serviceWorker.ready;
    location.reload();
    return true;
  } catch {
    return false; // one thread, then
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
