// What a line of sight meets: the surface, or a point of the cloud.
"use strict";
const picking = (function () {
  const { add, subtract, scaled, length } = vectors;

  const within = (point, [low, high]) => point.every(
    (value, axis) => value >= low[axis] && value <= high[axis]);

  // How far ahead a line of sight meets something, in lengths of `along`: Infinity where nothing.
  // The nearest triangle that faces the eye (Möller and Trumbore 1997), as what is drawn.
  const surface = (solid, { eye, along }, limits) => {
    const [ex, ey, ez] = eye, [dx, dy, dz] = along;
    const { positions, faces, low, span } = solid;
    const s = span.map((value) => value / 65535);
    let best = Infinity;
    for (let k = 0; k < faces.length; k += 3) {
      const a = 4 * faces[k], b = 4 * faces[k + 1], c = 4 * faces[k + 2];
      const ax = low[0] + s[0] * positions[a], ay = low[1] + s[1] * positions[a + 1];
      const az = low[2] + s[2] * positions[a + 2];
      const ux = s[0] * (positions[b] - positions[a]), uy = s[1] * (positions[b + 1] - positions[a + 1]);
      const uz = s[2] * (positions[b + 2] - positions[a + 2]);
      const vx = s[0] * (positions[c] - positions[a]), vy = s[1] * (positions[c + 1] - positions[a + 1]);
      const vz = s[2] * (positions[c + 2] - positions[a + 2]);
      const px = dy * vz - dz * vy, py = dz * vx - dx * vz, pz = dx * vy - dy * vx;
      const volume = ux * px + uy * py + uz * pz;
      if (volume <= 1e-18) continue;  // seen from behind, or from the side
      const tx = ex - ax, ty = ey - ay, tz = ez - az;
      const u = tx * px + ty * py + tz * pz;
      if (u < 0 || u > volume) continue;
      const qx = ty * uz - tz * uy, qy = tz * ux - tx * uz, qz = tx * uy - ty * ux;
      const v = dx * qx + dy * qy + dz * qz;
      if (v < 0 || u + v > volume) continue;
      const ahead = (vx * qx + vy * qy + vz * qz) / volume;
      if (ahead > 1e-4 && ahead < best && within(add(eye, scaled(along, ahead)), limits)) best = ahead;
    }
    return best;
  };

  // The nearest point whose dot the line meets.
  const point = (solid, { eye, along }, limits) => {
    const { positions, low, span, spacing } = solid;
    const [ex, ey, ez] = subtract(low, eye), s = span.map((value) => value / 65535);
    const [dx, dy, dz] = scaled(along, 1 / length(along)), reach = 0.7 * spacing;
    let best = Infinity;
    for (let k = 0; k < solid.count; k++) {
      const x = ex + s[0] * positions[4 * k], y = ey + s[1] * positions[4 * k + 1];
      const z = ez + s[2] * positions[4 * k + 2];
      const ahead = x * dx + y * dy + z * dz;
      if (ahead <= 1e-4 || ahead >= best) continue;
      if (x * x + y * y + z * z - ahead * ahead > reach * reach) continue;
      const place = add(eye, [x, y, z]);
      if (within(place, limits)) best = ahead;
    }
    return best / length(along);
  };

  // What is seen at a place of the picture. Just beside an edge it is the near side that is meant:
  // the place itself, as far ahead as that side is.
  const EDGES = [[3, 0.97], [7, 0.9]];  // so many pixels off, at most so much of the way
  const at = (painter, data, state, width, height, [x, y]) => {
    const limits = cutting.limits(data, state);
    const sight = (place) => viewpoint.ray(state.view, width, height, place);
    const ahead = (ray) => {
      if (state.shown.mesh && painter.surface()) return surface(painter.surface(), ray, limits);
      return state.shown.cloud && painter.cloud() ? point(painter.cloud(), ray, limits) : Infinity;
    };
    const middle = sight([x, y]);
    let best = ahead(middle);
    for (const [off, share] of EDGES) {
      const beside = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => k * Math.PI / 4).map(
        (angle) => ahead(sight([x + off * Math.cos(angle), y + off * Math.sin(angle)])));
      const nearest = Math.min(...beside);
      if (nearest < share * best) {
        best = nearest;
        break;
      }
    }
    return best < Infinity ? add(middle.eye, scaled(middle.along, best)) : null;
  };

  // The camera whose outlined photo covers a place of the picture: the nearest, or null.
  const camera = (data, view, width, height, [x, y]) => {
    let best = null, nearest = Infinity;
    for (const one of data.cameras) {
      const corners = one.outline.slice(1).map((corner) => viewpoint.seen(view, width, height, corner));
      const sides = corners.map(([ax, ay], k) => {
        const [bx, by] = corners[(k + 1) % 4];
        return (bx - ax) * (y - ay) - (by - ay) * (x - ax);
      });
      const ahead = corners[0][2];
      const inside = sides.every((side) => side > 0) || sides.every((side) => side < 0);
      if (corners.every((corner) => corner[2] > 0) && inside && ahead < nearest) {
        best = one.index;
        nearest = ahead;
      }
    }
    return best;
  };
  return { at, camera };
})();
