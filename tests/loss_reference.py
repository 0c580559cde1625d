"""Every loss by its definition: loops over pixels and classes in float64, and slopes by finite differences."""

import numpy as np


def rows(labels, logits, ignore_label=255):
    """[(place, label, log-probabilities)] of the valid pixels; one logit is the second of (0, z)."""
    logits = logits.astype(np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], -1)
    found = []
    for place in np.ndindex(labels.shape):
        if labels[place] != ignore_label:
            row = logits[place] - logits[place].max()
            found.append((place, int(labels[place]), row - np.log(np.sum(np.exp(row)))))
    return found


def cross_entropy(labels, logits, weights=None, smoothing=0.0, factors=None):
    total, pixels = 0.0, rows(labels, logits)
    for place, label, logs in pixels:
        target = np.full(len(logs), smoothing / len(logs))
        target[label] += 1 - smoothing
        loss = -np.sum(target * logs)
        total += loss * (1.0 if weights is None else weights[label]) * (1.0 if factors is None else factors[place])
    return total / max(len(pixels), 1)


def focal(labels, logits, gamma, weights=None):
    total, pixels = 0.0, rows(labels, logits)
    for _, label, logs in pixels:
        others = np.delete(logs, label)
        total -= np.sum(np.exp(others)) ** gamma * logs[label] * (1.0 if weights is None else weights[label])
    return total / max(len(pixels), 1)


def hardest(losses, size, fraction):
    """The mean of the greatest losses of valid pixels, of `size` pixels in all."""
    kept = sorted(losses, reverse=True)[: max(1, int(np.float32(fraction) * np.float32(size)))]
    return sum(kept) / max(len(kept), 1)


def boundary(labels, logits, weight, radius):
    """With the distance of each pixel to the nearest one of another class by trying all."""
    factors = np.ones(labels.shape)
    for place in np.ndindex(labels.shape):
        for other in np.ndindex(labels.shape[1:]):
            there = labels[place[0], other[0], other[1]]
            if there not in (255, labels[place]) and labels[place] != 255:
                distance = max(abs(place[1] - other[0]), abs(place[2] - other[1]))
                near = max(0.0, (radius + 1 - distance) / radius)
                factors[place] = max(factors[place], 1 + weight * near)
    return cross_entropy(labels, logits, factors=factors)


def by_region(of_class, labels, logits, per_image=False):
    """The mean over the present classes, of the batch or of each image with a valid pixel."""
    regions = [slice(index, index + 1) for index in range(len(labels))] if per_image else [slice(None)]
    values = []
    for region in regions:
        pixels = rows(labels[region], logits[region])
        present = {label for _, label, _ in pixels}
        losses = []
        for each in present:
            p = [np.exp(logs[each]) for _, _, logs in pixels]
            g = [float(label == each) for _, label, _ in pixels]
            losses.append(of_class(np.array(p), np.array(g)))
        if losses:
            values.append(np.mean(losses))
    return float(np.mean(values)) if values else 0.0


def dice(p, g):
    return 1 - 2 * np.sum(p * g) / (np.sum(p) + np.sum(g))


def jaccard(p, g):
    return 1 - np.sum(p * g) / (np.sum(p) + np.sum(g) - np.sum(p * g))


def lovasz(p, g):
    """Equation 8 and 9 of Berman et al.: the sum of errors times what each adds to the set function 1 - IoU."""

    own, missing, added = np.sum(g), 0, 0
    errors, total, before = np.abs(g - p), 0.0, 0.0
    for index in np.argsort(-errors, kind="stable"):
        missing, added = missing + (g[index] == 1), added + (g[index] == 0)
        # 1 - IoU of a prediction that is wrong exactly in the pixels so far.
        after = (missing + added) / (own + added)
        total, before = total + errors[index] * (after - before), after
    return total


def kl(labels, logits, teacher, temperature):
    ours, theirs = rows(labels, logits / temperature), rows(labels, teacher / temperature)
    total = sum(np.sum(np.exp(t) * (t - o)) for (_, _, o), (_, _, t) in zip(ours, theirs, strict=True))
    return total / max(len(ours), 1)


def slopes(function, logits, step=1e-5):
    """The gradient of a function of logits, by central differences."""
    logits, found = logits.astype(np.float64), np.zeros(logits.shape)
    for place in np.ndindex(logits.shape):
        above, below = logits.copy(), logits.copy()
        above[place] += step
        below[place] -= step
        found[place] = (function(above) - function(below)) / (2 * step)
    return found
