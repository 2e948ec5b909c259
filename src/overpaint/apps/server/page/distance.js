// Growing, shrinking and feathering by distance: exact, in time proportional to the area.

const FAR = 1e12;

/** Squared distances (Float64Array) to the nearest pixel where `marked`, in a plane of w x h. */
function squared(marked, w, h) {
  // Felzenszwalb and Huttenlocher 2012: lower envelopes of parabolas, columns and then rows.
  const plane = new Float64Array(w * h);
  for (let i = 0; i < plane.length; i += 1) plane[i] = marked[i] ? 0 : FAR;
  const longest = Math.max(w, h);
  const work = {
    line: new Float64Array(longest),
    at: new Int32Array(longest),
    from: new Float64Array(longest + 1),
  };
  for (let x = 0; x < w; x += 1) envelope(plane, x, w, h, work);
  for (let y = 0; y < h; y += 1) envelope(plane, y * w, 1, w, work);
  return plane;
}

function envelope(plane, start, step, count, { line, at, from }) {
  for (let i = 0; i < count; i += 1) line[i] = plane[start + i * step];
  let top = 0;
  at[0] = 0;
  from[0] = -Infinity;
  from[1] = Infinity;
  for (let i = 1; i < count; i += 1) {
    let meet = crossing(line, i, at[top]);
    while (meet <= from[top]) {
      top -= 1;
      meet = crossing(line, i, at[top]);
    }
    top += 1;
    at[top] = i;
    from[top] = meet;
    from[top + 1] = Infinity;
  }
  top = 0;
  for (let i = 0; i < count; i += 1) {
    while (from[top + 1] < i) top += 1;
    plane[start + i * step] = (i - at[top]) ** 2 + line[at[top]];
  }
}

const crossing = (line, i, j) => (line[i] + i * i - (line[j] + j * j)) / (2 * i - 2 * j);

const unit = (value) => Math.min(1, Math.max(0, value));

/** Values (Uint8ClampedArray, w x h) spread by `radius` pixels; below 0 they shrink. */
export function grown(values, w, h, radius) {
  const out = new Uint8ClampedArray(values);
  const inside = radius > 0;
  const away = squared(values.map((value) => ((value >= 128) === inside ? 1 : 0)), w, h);
  for (let i = 0; i < out.length; i += 1) {
    // Distances are between centres, edges half a pixel from them: the part of a pixel within reach.
    const near = 255 * unit(Math.abs(radius) + 1 - Math.sqrt(away[i]));
    out[i] = inside ? Math.max(out[i], near) : Math.min(out[i], 255 - near);
  }
  return out;
}

/** Values whose edge rises from 0 to their own over `radius` pixels, inwards. */
export function feathered(values, w, h, radius) {
  const away = squared(values.map((value) => (value < 128 ? 1 : 0)), w, h);
  return values.map((value, i) => value * unit(Math.sqrt(away[i]) / (radius + 1)));
}
