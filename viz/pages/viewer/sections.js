// The line along which a plane cuts the surface.
"use strict";
const sections = (function () {
  // Edges [from, to], in the page's frame, of the plane at `level` along `axis`.
  const contour = ({ positions, faces, low, span }, axis, level) => {
    const cut = (level - low[axis]) / span[axis] * 65535, edges = [];
    const place = (corner, k) => low[k] + span[k] * positions[corner + k] / 65535;
    const crossing = (a, b) => {
      const share = (cut - positions[a + axis]) / (positions[b + axis] - positions[a + axis]);
      return [0, 1, 2].map((k) => place(a, k) + share * (place(b, k) - place(a, k)));
    };
    for (let f = 0; f < faces.length; f += 3) {
      const corners = [4 * faces[f], 4 * faces[f + 1], 4 * faces[f + 2]];
      const above = corners.map((corner) => positions[corner + axis] > cut);
      if (above[0] === above[1] && above[1] === above[2]) continue;
      const ends = [];
      for (let k = 0; k < 3; k++) {
        if (above[k] !== above[(k + 1) % 3]) ends.push(crossing(corners[k], corners[(k + 1) % 3]));
      }
      edges.push(ends);
    }
    return edges;
  };
  return { contour };
})();
