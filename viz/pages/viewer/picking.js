// What a line of sight meets: the surface, or a point of the cloud.
"use strict";
const picking = (function () {
  const { add, subtract, scaled, cross, length } = vectors;

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

  // The triangles that come within `reach`, a slope, of a line of sight: few, of which the lines
  // beside it can be asked, too.
  const around = (solid, { eye, along }, reach) => {
    const { positions, faces, low, span, count } = solid;
    const forward = scaled(along, 1 / length(along));
    const aside = cross(forward, Math.abs(forward[1]) < 0.9 ? [0, 1, 0] : [1, 0, 0]);
    const right = scaled(aside, 1 / length(aside)), up = cross(right, forward);
    const [ex, ey, ez] = subtract(low, eye), s = span.map((value) => value / 65535);
    const across = new Float32Array(count), above = new Float32Array(count);  // NaN: behind the eye
    for (let k = 0; k < count; k++) {
      const x = ex + s[0] * positions[4 * k], y = ey + s[1] * positions[4 * k + 1];
      const z = ez + s[2] * positions[4 * k + 2];
      const ahead = x * forward[0] + y * forward[1] + z * forward[2];
      across[k] = ahead > 1e-6 ? (x * right[0] + y * right[1] + z * right[2]) / ahead : NaN;
      above[k] = ahead > 1e-6 ? (x * up[0] + y * up[1] + z * up[2]) / ahead : NaN;
    }
    const kept = [];
    for (let k = 0; k < faces.length; k += 3) {
      const a = faces[k], b = faces[k + 1], c = faces[k + 2];
      if (across[a] > reach && across[b] > reach && across[c] > reach) continue;
      if (across[a] < -reach && across[b] < -reach && across[c] < -reach) continue;
      if (above[a] > reach && above[b] > reach && above[c] > reach) continue;
      if (above[a] < -reach && above[b] < -reach && above[c] < -reach) continue;
      if (Number.isNaN(across[a]) && Number.isNaN(across[b]) && Number.isNaN(across[c])) continue;
      kept.push(a, b, c);
    }
    return { ...solid, faces: kept };
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
  // the place itself, as far ahead as that side is at its edge. The nearest edge counts, and as one
  // a step of more than STEP of the way for each pixel: floors seen at a low angle have none.
  const RINGS = [1, 2, 3, 5, 7], STEP = 0.013, DIRECTIONS = 16;
  const at = (painter, data, state, width, height, [x, y]) => {
    const limits = cutting.limits(data, state);
    const sight = (place) => viewpoint.ray(state.view, width, height, place);
    const beside = (off) => Array.from({ length: DIRECTIONS }, (_, k) => {
      const angle = 2 * Math.PI * k / DIRECTIONS;
      return sight([x + off * Math.cos(angle), y + off * Math.sin(angle)]);
    });
    const middle = sight([x, y]), wholly = state.shown.mesh ? painter.surface() : null;
    let ahead = () => Infinity;
    if (wholly) {
      const farthest = Math.max(...beside(RINGS[RINGS.length - 1]).map(
        ({ along }) => length(subtract(along, middle.along)))) / length(middle.along);
      const solid = around(wholly, middle, 1.1 * farthest);
      ahead = (ray) => surface(solid, ray, limits);
    } else if (state.shown.cloud && painter.cloud()) {
      ahead = (ray) => point(painter.cloud(), ray, limits);
    }
    let best = ahead(middle);
    for (const off of RINGS) {
      const found = beside(off).map(ahead), nearest = Math.min(...found), step = STEP * off;
      if (nearest < (1 - step) * best) {
        const end = Math.min((1 + 2 * step) * nearest, (1 - step) * best);
        best = Math.max(...found.filter((value) => value <= end));
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
