// Vectors as arrays of three, turns as arrays of three rows or as quaternions w x y z.
"use strict";
const vectors = (function () {
  const add = (a, b) => a.map((value, k) => value + b[k]);
  const subtract = (a, b) => a.map((value, k) => value - b[k]);
  const scaled = (a, factor) => a.map((value) => value * factor);
  const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);
  const cross = (a, b) => [
    a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const length = (a) => Math.hypot(...a);
  const between = (a, b, share) => a.map((value, k) => value + share * (b[k] - value));

  // Of a right-handed frame's three rows, and back (Shepperd 1978).
  const quaternion = (rows) => {
    const [[a, b, c], [d, e, f], [g, h, i]] = rows;
    const squares = [a + e + i, a - e - i, e - a - i, i - a - e];
    const k = squares.indexOf(Math.max(...squares));
    const s = Math.sqrt(1 + squares[k]);
    const made = [
      [s, (h - f) / s, (c - g) / s, (d - b) / s],
      [(h - f) / s, s, (b + d) / s, (c + g) / s],
      [(c - g) / s, (b + d) / s, s, (f + h) / s],
      [(d - b) / s, (c + g) / s, (f + h) / s, s]][k];
    return scaled(made, 0.5);
  };
  const rows = ([w, x, y, z]) => [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]];
  // The turn that is `share` of the way from one to the other, by the shorter way (slerp).
  const turnBetween = (from, to, share) => {
    const p = quaternion(from);
    let q = quaternion(to), cosine = dot(p, q);
    if (cosine < 0) { q = scaled(q, -1); cosine = -cosine; }
    const angle = Math.acos(Math.min(1, cosine));
    if (angle < 1e-6) return to;
    const weights = [Math.sin((1 - share) * angle), Math.sin(share * angle)];
    return rows(scaled(add(scaled(p, weights[0]), scaled(q, weights[1])), 1 / Math.sin(angle)));
  };
  return { add, subtract, scaled, dot, cross, length, between, turnBetween };
})();
