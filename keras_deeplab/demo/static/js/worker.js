// Runs the model. A classic worker, not a module: LiteRT loads its WebAssembly with importScripts.

const PADDING = 127.5; // mid-grey, as evaluation pads
const MOST_THREADS = 8;
const RUNTIME = new URL("../runtime/", self.location.href).href;

importScripts("decide.js");

let litert, model, settings, source, target;

self.onmessage = async ({ data }) => {
  try {
    if (data.kind === "load") {
      settings = data;
      self.postMessage(await load(new URL(`../${data.model}`, self.location.href)));
    } else {
      const result = await run(data);
      self.postMessage(result, [result.labels.buffer]);
    }
  } catch (error) {
    self.postMessage({ error: String(error?.message ?? error) });
  }
};

async function load(address) {
  const bytes = await fetched(address);
  const threads = await telling("LiteRT's runtime, in runtime/ beside index.html, did not start", startRuntime);
  const options = { accelerator: "wasm", ...(threads > 1 && { cpuOptions: { numThreads: threads } }) };
  model = await telling("LiteRT does not load the model", () => litert.loadAndCompile(bytes, options));
  [source] = model.getInputDetails();
  [target] = model.getOutputDetails();
  check();
  const [, height, width] = source.shape;
  return { height, width, inputType: source.dtype, bytes: bytes.length, threads };
}

async function telling(what, work) {
  try {
    return await work();
  } catch (error) {
    throw new Error(`${what}: ${error?.message ?? error}`);
  }
}

async function fetched(address) {
  const name = address.pathname.split("/").pop();
  const response = await fetch(address).catch(() => null);
  if (!response?.ok) {
    const why = response ? `the server answered ${response.status}` : "the server did not answer";
    throw new Error(`The model ${name} could not be loaded: ${why}. It belongs beside index.html.`);
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (String.fromCharCode(...bytes.subarray(4, 8)) !== "TFL3") {
    throw new Error(`${name} is not a TFLite file. Make the page again with keras-deeplab demo.`);
  }
  return bytes;
}

// Threads share memory, which browsers allow to isolated pages only; every other page computes with one.
async function startRuntime() {
  litert = await import(`${RUNTIME}index.js`);
  const threads = Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1);
  if (self.crossOriginIsolated && threads > 1 && (await litert.supportsFeature("relaxedSimd"))) {
    try {
      await start(true);
      return threads;
    } catch (error) {
      console.warn("The runtime with threads did not start, the one without does the work.", error);
    }
  }
  await start(false);
  return 1;
}

function start(threads) {
  // Without it, a runtime in a worker looks for its files beside the worker's.
  self.Module = {
    locateFile: (name) => RUNTIME + name,
    ...(threads && { mainScriptUrlOrBlob: `${RUNTIME}litert_wasm_threaded_internal.js` }),
  };
  return litert.loadLiteRt(RUNTIME, { threads });
}

function check() {
  const input = [...source.shape];
  const output = [...target.shape];
  const sameSize = output.slice(1, 3).join() === input.slice(1, 3).join();
  const fits =
    settings.output === "labels" ? target.dtype !== "float32" && sameSize : target.dtype === "float32" && output.length === 4;
  if (input.length !== 4 || input[0] !== 1 || input[3] !== 3 || !fits) {
    throw new Error(
      `The model takes ${source.dtype} (${input.join(", ")}) and returns ${target.dtype} (${output.join(", ")}); ` +
        `images (1, H, W, 3) and ${settings.output} are needed.`,
    );
  }
}

async function run({ pixels, width, height }) {
  const input = new litert.Tensor(padded(pixels, width, height), [...source.shape]);
  const begin = performance.now();
  let outputs = [];
  try {
    outputs = await model.run([input]);
    const result = await outputs[0].data();
    const milliseconds = performance.now() - begin;
    return { labels: cropped(result, width, height), milliseconds };
  } finally {
    for (const tensor of [input, ...outputs]) tensor.delete();
  }
}

// RGBA of width x height to RGB of the model's size, with mid-grey at the bottom and right.
function padded(pixels, width, height) {
  const [, rows, columns] = source.shape;
  const [low, high] = settings.inputRange;
  const whole = source.dtype === "uint8";
  const value = (pixel) => (whole ? Math.round(pixel) : low + (pixel * (high - low)) / 255);
  const image = new (whole ? Uint8Array : Float32Array)(rows * columns * 3).fill(value(PADDING));
  for (let row = 0; row < height; row++) {
    let to = row * columns * 3;
    let from = row * width * 4;
    for (let column = 0; column < width; column++) {
      image[to++] = value(pixels[from++]);
      image[to++] = value(pixels[from++]);
      image[to++] = value(pixels[from++]);
      from++;
    }
  }
  return image;
}

function cropped(result, width, height) {
  const [, rows, columns] = source.shape;
  if (settings.output === "scores") {
    const [, fromRows, fromColumns, classes] = target.shape;
    const from = { rows: fromRows, columns: fromColumns, classes };
    return decided(result, from, { rows, columns }, width, height, settings);
  }
  const labels = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) labels[row * width + column] = result[row * columns + column];
  }
  return labels;
}
