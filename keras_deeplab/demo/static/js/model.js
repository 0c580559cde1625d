// The model, in a worker of its own so that the page answers while it computes.

/**
 * Starts the worker and loads the model; settings are those of demo.json.
 *
 * Returns {facts, segment}: facts as the worker tells them, and segment(pixels, width, height), a promise of
 * {labels: Uint8Array, milliseconds}. A worker that ran out of memory is replaced at the next call.
 */
export async function openModel(settings) {
  let [ask, facts] = await started(settings);
  let broken = false;
  let last = Promise.resolve();
  async function run(pixels, width, height) {
    if (broken) {
      [ask, facts] = await started(settings);
      broken = false;
    }
    try {
      return await ask({ kind: "run", pixels, width, height }, [pixels.buffer]);
    } catch (error) {
      broken = true;
      throw error;
    }
  }
  // One after another: the worker's answers don't say which question they belong to.
  function segment(...picture) {
    last = last.catch(() => {}).then(() => run(...picture));
    return last;
  }
  return { facts, segment };
}

async function started(settings) {
  const worker = new Worker("js/worker.js");
  const ask = (message, transfer = []) =>
    new Promise((resolve, reject) => {
      const fail = (text) => {
        worker.terminate();
        reject(new Error(text));
      };
      worker.onmessage = ({ data }) => (data.error === undefined ? resolve(data) : fail(data.error));
      worker.onerror = (event) => fail(event.message || "The worker js/worker.js could not be started.");
      worker.postMessage(message, transfer);
    });
  const facts = await ask({ ...settings, kind: "load" });
  return [ask, facts];
}
