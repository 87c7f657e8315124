// Of the page that `detect --show` writes; it is copied into it. Names go into the page as text, never as HTML.
"use strict";
{
  const PAGE = 200; // pictures at a time: a browser takes thousands of entries, not thousands of images
  const NOTHING = -1; // in place of a class: pictures in which nothing was found

  const find = (selector) => document.querySelector(selector);
  const about = JSON.parse(find("#about").textContent);
  const pictures = JSON.parse(find("#pictures").textContent);
  const name = (id) => (id === NOTHING ? "nothing found" : about.classes[id][0]);
  const score = find("#score"), dialog = find("dialog");
  const chosen = new Set();
  let shown = []; // the pictures that pass the filters
  let page = 0;
  let open = 0; // of `shown`, in the dialog

  const element = (tag, text = "", properties = {}) =>
    Object.assign(document.createElement(tag), { textContent: text }, properties);
  const found = (picture) => picture.found.filter(([, confidence]) => confidence >= score.valueAsNumber);
  const classesOf = (picture) => {
    const ids = found(picture).map(([id]) => id);
    return ids.length ? ids : [NOTHING];
  };
  const count = (ids) => {
    const counts = new Map();
    for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
    return [...counts].sort(([a, most], [b, other]) => other - most || a - b);
  };
  const many = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
  const summary = (picture) =>
    count(classesOf(picture)).map(([id, times]) => (times > 1 ? `${times} ${name(id)}` : name(id))).join(", ");

  function addClass(id) {
    const label = element("label");
    label.append(element("input", "", { type: "checkbox", value: String(id) }));
    if (id !== NOTHING) label.append(element("i", "", { style: `background: ${about.classes[id][1]}` }));
    label.append(element("span", name(id), { title: name(id) }), element("b"));
    find("#classes").append(label);
  }

  function countClasses() {
    const counts = new Map(count(pictures.flatMap(classesOf)));
    for (const label of find("#classes").querySelectorAll("label")) {
      const times = counts.get(Number(label.firstElementChild.value)) ?? 0;
      label.lastElementChild.textContent = times.toLocaleString("en");
    }
  }

  function tile(picture, index) {
    const item = element("li");
    const link = element("a", "", { href: picture.file });
    const image = element("img", "", { alt: "", loading: "lazy", decoding: "async", src: picture.thumbnail });
    link.append(image, element("span", picture.name, { title: picture.name }), element("small", summary(picture)));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab of its own, as any link
      event.preventDefault();
      enlarge(index);
    });
    item.append(link);
    return item;
  }

  function showPage(number) {
    page = number;
    const pages = Math.ceil(shown.length / PAGE) || 1;
    const first = page * PAGE;
    find("#grid").replaceChildren(...shown.slice(first, first + PAGE).map((one, index) => tile(one, first + index)));
    find("nav").hidden = pages === 1;
    find("#page").textContent = `Page ${page + 1} of ${pages}`;
    find("#previous").disabled = page === 0;
    find("#next").disabled = page === pages - 1;
  }

  function filter() {
    find("output").textContent = score.valueAsNumber.toFixed(2);
    shown = pictures.filter((picture) => !chosen.size || classesOf(picture).some((id) => chosen.has(id)));
    const boxes = shown.flatMap(found).filter(([id]) => !chosen.size || chosen.has(id)).length;
    const all = shown.length === pictures.length ? "" : ` of ${pictures.length.toLocaleString("en")}`;
    find("#status").textContent = `${many(shown.length, "picture")}${all}, ${many(boxes, "detection")}`;
    countClasses();
    showPage(0);
  }

  function enlarge(index) {
    open = index;
    const picture = shown[index];
    const image = dialog.querySelector("img");
    image.onerror = () => { image.onerror = null; image.src = picture.thumbnail; }; // a TIFF, say
    image.src = picture.file;
    image.alt = summary(picture);
    const scores = found(picture).map(([id, confidence]) => `${name(id)} ${confidence.toFixed(2)}`);
    find("#caption").textContent = `${picture.name}: ${scores.join(", ") || name(NOTHING)}`;
    dialog.querySelector("a").href = picture.file;
    find("#back").disabled = index === 0;
    find("#forward").disabled = index === shown.length - 1;
    if (!dialog.contains(document.activeElement)) find("#close").focus(); // a button that is disabled loses the keys
    if (!dialog.open) dialog.showModal();
  }

  const step = (by) => { if (by && shown[open + by]) enlarge(open + by); };
  function turn(by) {
    showPage(page + by);
    scrollTo(0, 0);
    find("#grid a").focus({ preventScroll: true });
  }

  find("#classes").addEventListener("change", ({ target }) => {
    const id = Number(target.value);
    if (target.checked) chosen.add(id); else chosen.delete(id);
    filter();
  });
  score.addEventListener("input", filter);
  find("form").addEventListener("submit", (event) => event.preventDefault());
  find("#previous").addEventListener("click", () => turn(-1));
  find("#next").addEventListener("click", () => turn(1));
  find("#back").addEventListener("click", () => step(-1));
  find("#forward").addEventListener("click", () => step(1));
  find("#close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => { if (target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", ({ key }) => step({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0));
  dialog.addEventListener("close", () => { // back to the picture that was looked at last, also on another page
    if (Math.floor(open / PAGE) !== page) showPage(Math.floor(open / PAGE));
    find("#grid").children[open % PAGE]?.firstElementChild.focus();
  });

  score.min = score.value = Math.floor(100 * about.threshold) / 100;
  if (about.video) {
    const link = find("#video a");
    link.textContent = about.video.name;
    link.href = about.video.file;
    find("#video").hidden = false;
  }
  for (const [id] of count(pictures.flatMap(classesOf))) if (id !== NOTHING) addClass(id);
  addClass(NOTHING);
  filter();
}
