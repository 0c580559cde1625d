// Wires the page: what the user gives goes through the model, and what comes back is shown.

import { cameraIsOpen, closeCamera, openCamera } from "./camera.js";
import { count, decode, fit } from "./image.js";
import { openModel } from "./model.js";
import { labelPng } from "./png.js";
import { className, classesFound, fillLegend, paint, percent } from "./view.js";

const part = (id) => document.getElementById(id);
const state = { settings: null, model: null, hidden: new Set(), result: null, turn: 0, facing: "environment" };

start();

async function start() {
  part("unopened").remove();
  listen();
  busy("Loading the model …");
  try {
    state.settings = await readSettings();
    state.hidden = new Set(state.settings.untinted);
    state.model = await openModel(state.settings);
    tellFacts(state.model.facts);
    part("file").disabled = part("camera").disabled = false;
    say("The model is loaded. Choose a photograph.");
  } catch (error) {
    fail(error);
  }
  busy(null);
  const example = new URLSearchParams(location.search).get("image");
  if (example && state.model) await segmentAddress(example);
}

async function readSettings() {
  const response = await fetch("demo.json").catch(() => null);
  if (!response?.ok) {
    throw new Error("demo.json is missing beside index.html. Make the page again with keras-deeplab demo.");
  }
  return response.json();
}

function tellFacts({ width, height, bytes, inputType, threads }) {
  const { name } = state.settings;
  document.title = `${name}: DeepLab in the browser`;
  const facts = [
    name,
    `${width} × ${height} pixels, ${inputType}`,
    `${(bytes / 1e6).toFixed(1)} MB`,
    threads === 1 ? "1 thread" : `${threads} threads`,
  ];
  part("facts").replaceChildren(
    ...facts.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
  );
}

// What the user does ------------------------------------------------------------------------------------------

function listen() {
  part("file").addEventListener("change", ({ target }) => {
    if (target.files.length) segmentFile(target.files[0]);
    target.value = ""; // so that choosing the same file again counts as a change
  });
  part("camera").addEventListener("click", () => (cameraIsOpen() ? stopCamera() : startCamera()));
  part("switch").addEventListener("click", () => {
    state.facing = state.facing === "user" ? "environment" : "user";
    startCamera();
  });
  part("dismiss").addEventListener("click", () => (part("error").hidden = true));
  part("opacity").addEventListener("input", showOpacity);
  showOpacity(); // browsers keep a slider's place when a page is loaded again
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      part("stage").classList.add("over");
    });
  }
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) part("stage").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    part("stage").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) segmentFile(file);
    else if (state.model) fail(new Error("What was dropped is not a file. Save the picture first, then drop the file."));
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) segmentFile(file);
  });
}

function showOpacity() {
  const value = part("opacity").value;
  part("opacity-value").textContent = `${value} %`;
  part("tint").style.opacity = value / 100;
}

async function segmentFile(file) {
  if (!state.model) return;
  stopCamera();
  const turn = ++state.turn;
  part("error").hidden = true;
  busy("Segmenting …");
  try {
    const bitmap = await decode(file);
    const result = await segmented(bitmap, bitmap.width, bitmap.height, turn);
    bitmap.close();
    if (result) await show(result, file.name || "picture");
  } catch (error) {
    if (turn === state.turn) fail(error);
  }
  if (turn === state.turn) busy(null);
}

/** Segments a picture of this site, so that an address can show an example: ?image=examples/street.jpg */
async function segmentAddress(address) {
  const url = new URL(address, location.href);
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) {
    fail(new Error(`The picture ${address} could not be loaded from this site.`));
    return;
  }
  const name = url.pathname.split("/").pop();
  const blob = await response.blob();
  await segmentFile(new File([blob], name, { type: blob.type }));
}

async function startCamera() {
  const video = part("video");
  const turn = ++state.turn;
  part("error").hidden = true;
  try {
    const cameras = await openCamera(video, state.facing);
    part("camera").textContent = "Stop the camera";
    part("switch").hidden = cameras < 2;
    part("download").hidden = true;
    say("The camera is open.");
    while (turn === state.turn && cameraIsOpen()) {
      const result = await segmented(video, video.videoWidth, video.videoHeight, turn);
      if (result) display(result, "camera");
      await new Promise(requestAnimationFrame); // hidden pages have no frames: the camera then waits
    }
  } catch (error) {
    if (turn === state.turn) {
      stopCamera();
      fail(error);
    }
  }
}

function stopCamera() {
  if (!cameraIsOpen()) return;
  closeCamera(part("video"));
  state.turn++;
  part("camera").textContent = "Open the camera";
  part("switch").hidden = true;
  if (state.result) offerDownload(state.result, "camera");
  say("The camera is closed.");
}

// Results -----------------------------------------------------------------------------------------------------

/** An image to its labels, or null if something newer was asked for meanwhile. */
async function segmented(image, width, height, turn) {
  const fitted = fit(image, width, height, state.model.facts);
  const { labels, milliseconds } = await state.model.segment(fitted.pixels, fitted.width, fitted.height);
  if (turn !== state.turn) return null;
  return { ...fitted, labels, milliseconds, from: [width, height] };
}

async function show(result, name) {
  display(result, name);
  await offerDownload(result, name);
  say(`Done: ${summary(result)}.`);
}

function display(result, name) {
  state.result = result;
  const { width, height, from, shown, milliseconds } = result;
  const photo = part("photo");
  photo.width = shown.width;
  photo.height = shown.height;
  photo.getContext("2d").drawImage(shown, 0, 0);
  const picture = part("picture");
  picture.style.setProperty("--width", from[0]);
  picture.style.setProperty("--height", from[1]);
  picture.classList.toggle("small", Math.max(...from) < 64);
  part("welcome").hidden = true;
  picture.hidden = part("panel").hidden = false;
  part("stage").classList.add("filled");
  part("milliseconds").textContent = `${Math.round(milliseconds)} ms`;
  part("size").textContent = `${width} × ${height}`;
  const scaled = width !== from[0] || height !== from[1];
  part("scaled").hidden = !scaled;
  part("scaled").textContent = scaled
    ? `The photograph, ${count(from[0])} × ${count(from[1])}, was scaled down to fit the model.`
    : "";
  result.found = classesFound(result.labels);
  repaint();
  part("tint").setAttribute("aria-label", `Segmentation of ${name}: ${summary(result)}`);
}

function repaint() {
  const { labels, width, height, found } = state.result;
  paint(part("tint"), labels, width, height, state.settings.palette, state.hidden);
  fillLegend(part("legend"), found, state.settings, state.hidden, (label, shown) => {
    if (shown) state.hidden.delete(label);
    else state.hidden.add(label);
    repaint();
  });
}

async function offerDownload({ labels, width, height }, name) {
  const png = await labelPng(labels, width, height, state.settings.palette);
  const link = part("download");
  // A data address needs no clearing away, and what the link holds can be read by whoever drives the page.
  link.href = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(png);
  });
  link.download = `${name.replace(/\.[^.]*$/, "")}_labels.png`;
  link.hidden = false;
}

function summary({ found }) {
  return found.map(({ label, share }) => `${className(state.settings, label)} ${percent(share)}`).join(", ");
}

// Messages ----------------------------------------------------------------------------------------------------

function busy(text) {
  part("busy").hidden = text === null;
  part("busy-text").textContent = text ?? "";
  document.body.dataset.state = text === null ? "ready" : "busy"; // for whoever drives the page
  if (text) say(text);
}

function say(text) {
  part("status").textContent = text;
}

function fail(error) {
  console.error(error);
  part("error-text").textContent = error.message;
  part("error").hidden = false;
  say(""); // the message speaks for itself
}
