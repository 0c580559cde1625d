// From scores to labels, as the model's record says. A classic script: the worker loads it with importScripts.

/**
 * Scores, rows x columns x classes, to the labels of the top left width x height pixels of images of the model's size.
 *
 * `to` is {rows, columns} of those images: coarser scores are enlarged bilinearly, by the `resize` "align_corners" corner
 * pixel centre on corner pixel centre, by "half_pixel_centers" edge on edge, by "asymmetric" neither. A `threshold` is the score above which a class is there: one class
 * alone gives labels 0 and 1, several the best of those that are there, or `ignored`. Null: the largest score.
 */
function decided(scores, from, to, width, height, { resize, threshold, ignored }) {
  const { rows, columns, classes } = from;
  const labels = new Uint8Array(width * height);
  const down = places(rows, to.rows, resize);
  const across = places(columns, to.columns, resize);
  const values = new Float32Array(classes);
  for (let row = 0; row < height; row++) {
    const [above, below, y] = down[row];
    for (let column = 0; column < width; column++) {
      const [left, right, x] = across[column];
      const topLeft = (above * columns + left) * classes;
      const topRight = (above * columns + right) * classes;
      const bottomLeft = (below * columns + left) * classes;
      const bottomRight = (below * columns + right) * classes;
      for (let index = 0; index < classes; index++) {
        const top = mixed(scores[topLeft + index], scores[topRight + index], x);
        values[index] = mixed(top, mixed(scores[bottomLeft + index], scores[bottomRight + index], x), y);
      }
      labels[row * width + column] = label(values, threshold, ignored);
    }
  }
  return labels;
}

/** Where each of `count` pixels lies between two of `length`: [before, behind, share of the one behind]. */
function places(length, count, resize) {
  const ways = {
    align_corners: (index) => (count > 1 ? (index * (length - 1)) / (count - 1) : 0),
    half_pixel_centers: (index) => Math.max(0, ((index + 0.5) * length) / count - 0.5),
    asymmetric: (index) => (index * length) / count,
  };
  return Array.from({ length: count }, (_, index) => {
    const at = ways[resize](index);
    const before = Math.min(Math.floor(at), length - 1);
    return [before, Math.min(before + 1, length - 1), at - before];
  });
}

function mixed(one, other, share) {
  return share === 0 ? one : one + (other - one) * share;
}

function label(values, threshold, ignored) {
  if (values.length === 1) return values[0] > threshold ? 1 : 0;
  let best = 0;
  for (let index = 1; index < values.length; index++) if (values[index] > values[best]) best = index;
  return threshold === null || values[best] > threshold ? best : ignored;
}
