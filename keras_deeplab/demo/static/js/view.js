// What is seen of a result: the tint over the photograph and the legend beside it.

/** Labels to [{label, pixels, share}], the classes that occur, most pixels first. */
export function classesFound(labels) {
  const counts = new Uint32Array(256);
  for (const label of labels) counts[label]++;
  return [...counts]
    .map((pixels, label) => ({ label, pixels, share: pixels / labels.length }))
    .filter(({ pixels }) => pixels)
    .sort((one, other) => other.pixels - one.pixels);
}

export function className(settings, label) {
  if (label === settings.ignored) return "no class";
  return settings.classes[label] ?? `class ${label}`;
}

export function percent(share) {
  return share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/** Paints the colours of labels on a canvas of their size; those of `hidden` labels stay transparent. */
export function paint(canvas, labels, width, height, palette, hidden) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const colours = new Uint32Array(palette.map(([red, green, blue]) => red | (green << 8) | (blue << 16) | (255 << 24)));
  for (const label of hidden) colours[label] = 0;
  const pixels = new Uint32Array(image.data.buffer);
  for (let index = 0; index < labels.length; index++) pixels[index] = colours[labels[index]];
  context.putImageData(image, 0, 0);
}

/** Fills the legend; `toggle(label, shown)` is called when the user shows or hides a class. */
export function fillLegend(list, found, settings, hidden, toggle) {
  const rows = new Map([...list.children].map((row) => [Number(row.dataset.label), row]));
  // Rows are moved, not made anew: the camera fills the legend many times a second, and one of them may have the focus.
  const kept = found.map(({ label, share }) => {
    const row = rows.get(label) ?? legendRow(label, settings, toggle);
    row.querySelector("input").checked = !hidden.has(label);
    row.querySelector(".share").textContent = percent(share);
    row.querySelector(".bar").style.setProperty("--share", share);
    return row;
  });
  if (kept.length !== list.children.length || kept.some((row, index) => list.children[index] !== row)) {
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    list.replaceChildren(...kept);
    focused?.focus();
  }
}

function legendRow(label, settings, toggle) {
  const row = document.createElement("li");
  row.dataset.label = label;
  const box = document.createElement("input");
  box.type = "checkbox";
  box.addEventListener("change", () => toggle(label, box.checked));
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  row.style.setProperty("--colour", `rgb(${settings.palette[label].join(" ")})`);
  const [name, share] = ["name", "share"].map((kind) => {
    const part = document.createElement("span");
    part.className = kind;
    return part;
  });
  name.textContent = className(settings, label);
  const bar = document.createElement("span");
  bar.className = "bar";
  const line = document.createElement("label");
  line.append(box, swatch, name, share, bar);
  row.append(line);
  return row;
}
