// Files and camera frames to pixels of a size that the model takes.

const MOST_PIXELS = 100e6;
const LONGEST_SHOWN = 1600;
const HEADER_BYTES = 1 << 20; // a JPEG's frame may stand behind a preview and a colour profile

/** A file to an ImageBitmap, upright and with the pixels as stored; rejects with a message for the user. */
export async function decode(file) {
  const name = file.name || "The pasted picture";
  const [width, height] = (await sizeInHeader(file, name)) ?? (await sizeAsShown(file, name));
  if (width * height > MOST_PIXELS) {
    throw new Error(
      `${name} has ${count(width)} × ${count(height)} pixels, more than the 100 million that browsers decode safely. ` +
        "Scale it down first.",
    );
  }
  try {
    // Colour management and multiplication by alpha would change the numbers that the model is given.
    return await createImageBitmap(file, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error(`${name} could not be decoded: it is damaged or cut short.`);
  }
}

// A picture too large for the browser fails like a damaged one, so the common formats are asked first. Null: another one.
async function sizeInHeader(file, name) {
  const view = new DataView(await file.slice(0, HEADER_BYTES).arrayBuffer());
  if (view.byteLength >= 25 && view.getUint32(0) === 0x89504e47 && view.getUint32(4) === 0x0d0a1a0a) {
    // A canvas would take the high byte, whatever range the numbers have.
    if (view.getUint8(24) === 16) {
      throw new Error(
        `${name} has 16 bits a channel, and browsers show 8. Save it with 8 bits, or use keras-deeplab predict.`,
      );
    }
    return [view.getUint32(16), view.getUint32(20)];
  }
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return null;
  // JPEG: segments, each a marker and its length, up to a start of frame (C0 to CF but C4, C8 and CC).
  for (let at = 2; at + 9 <= view.byteLength; at += 2 + view.getUint16(at + 2)) {
    const marker = view.getUint16(at);
    if (marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker)) {
      return [view.getUint16(at + 7), view.getUint16(at + 5)];
    }
  }
  return null;
}

// An <img> knows its size before anything is decoded.
async function sizeAsShown(file, name) {
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = address;
    });
    return [image.naturalWidth, image.naturalHeight];
  } catch {
    const kind = file.type ? ` (${file.type})` : "";
    throw new Error(
      `${name}${kind} is not a picture that this browser reads. JPEG, PNG, WebP, GIF and BMP files work everywhere.`,
    );
  } finally {
    URL.revokeObjectURL(address);
  }
}

/**
 * An image (anything that a canvas draws) to what the model sees of it and a canvas to show.
 *
 * Larger images are scaled down to fit, smaller ones are left as they are: the worker pads them.
 * Returns {pixels: Uint8ClampedArray RGBA, width, height, shown: canvas}.
 */
export function fit(image, width, height, most) {
  const scale = Math.min(1, most.width / width, most.height / height);
  const size = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  const canvas = resized(image, width, height, ...size);
  const pixels = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, ...size).data;
  const show = Math.min(1, LONGEST_SHOWN / Math.max(width, height));
  const shown = resized(image, width, height, Math.max(1, width * show), Math.max(1, height * show));
  return { pixels, width: size[0], height: size[1], shown };
}

// By halves: browsers that take four pixels for each new one, however far the way, would skip most of a large photo.
function resized(image, width, height, newWidth, newHeight) {
  let from = image;
  while (width > 2 * newWidth && height > 2 * newHeight) {
    const half = [Math.ceil(width / 2), Math.ceil(height / 2)];
    from = drawn(from, width, height, ...half);
    [width, height] = half;
  }
  return drawn(from, width, height, Math.round(newWidth), Math.round(newHeight));
}

function drawn(image, width, height, newWidth, newHeight) {
  const canvas = document.createElement("canvas");
  canvas.width = newWidth;
  canvas.height = newHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // under transparent parts
  context.fillRect(0, 0, newWidth, newHeight);
  context.imageSmoothingEnabled = width !== newWidth || height !== newHeight;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height, 0, 0, newWidth, newHeight);
  return canvas;
}

export function count(number) {
  return number.toLocaleString("en");
}
