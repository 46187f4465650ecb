// Where the viewer stands: an eye that circles a target. In the page's frame: x right, y up, z
// towards the viewer. Angles in radians.
//
// A view is { target, distance, yaw, pitch, roll, reach, shift }: `reach` are the slopes across and
// up that must fit into the picture, `shift` the slopes at its middle, which is not (0, 0) where a
// photo's optical axis is off its middle.
"use strict";
const viewpoint = (function () {
  const { add, subtract, scaled, dot, length, between, turnBetween } = vectors;

  // Rows: right, up and back.
  const axes = ({ yaw, pitch, roll }) => {
    const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
    const right = [cy, 0, -sy], up = [-sy * sp, cp, -cy * sp], back = [sy * cp, sp, cy * cp];
    const [sr, cr] = [Math.sin(roll), Math.cos(roll)];
    return [add(scaled(right, cr), scaled(up, sr)), add(scaled(up, cr), scaled(right, -sr)), back];
  };
  const eye = (view) => add(view.target, scaled(axes(view)[2], view.distance));

  const fromAxes = (place, [right, , back], distance, reach, shift) => {
    const yaw = Math.atan2(back[0], back[2]);
    const pitch = Math.asin(Math.max(-1, Math.min(1, back[1])));
    const level = axes({ yaw, pitch, roll: 0 });
    const roll = Math.atan2(dot(right, level[1]), dot(right, level[0]));
    const target = subtract(place, scaled(back, distance));
    return { target, distance, yaw, pitch, roll, reach, shift };
  };
  const looking = (from, target, fov) => {
    const back = subtract(from, target), distance = length(back), t = Math.tan(fov / 2);
    const [yaw, pitch] = [Math.atan2(back[0], back[2]), Math.asin(back[1] / distance)];
    // A tall picture (a phone) keeps the scene's width in view.
    return { target, distance, yaw, pitch, roll: 0, reach: [1.2 * t, t], shift: [0, 0] };
  };
  // What a photo's camera saw, all of it. Its axes are right, down, forward, as in cameras.json.
  const ofCamera = ({ eye, axes: [right, down, forward], lens, ahead }) => {
    const { fx, fy, cx, cy, width, height } = lens;
    return fromAxes(eye, [right, scaled(down, -1), scaled(forward, -1)], ahead,
      [width / 2 / fx, height / 2 / fy],
      [(width / 2 - cx) / fx, -(height / 2 - cy) / fy]);
  };
  const inBetween = (from, to, share) => fromAxes(
    between(eye(from), eye(to), share), turnBetween(axes(from), axes(to), share),
    Math.exp((1 - share) * Math.log(from.distance) + share * Math.log(to.distance)),
    between(from.reach, to.reach, share), between(from.shift, to.shift, share));

  const slopes = ({ reach }, width, height) => {
    const up = Math.max(reach[1], reach[0] * height / width);
    return [up * width / height, up];
  };
  // WebGL's matrices, column by column, of a picture of so many pixels.
  const matrices = (now, width, height) => {
    const rows = axes(now), place = eye(now), view = new Float32Array(16);
    for (let r = 0; r < 3; r++) {
      for (let k = 0; k < 3; k++) view[4 * k + r] = rows[r][k];
      view[12 + r] = -dot(rows[r], place);
    }
    view[15] = 1;
    const [across, up] = slopes(now, width, height);
    const near = Math.max(0.005, 0.02 * now.distance), far = now.distance + 30;
    const projection = new Float32Array([
      1 / across, 0, 0, 0, 0, 1 / up, 0, 0,
      now.shift[0] / across, now.shift[1] / up, (far + near) / (near - far), -1,
      0, 0, 2 * far * near / (near - far), 0]);
    return { view, projection, eye: place, perPixel: 2 * up / height, near };
  };
  // The line of sight through a place of the picture, in pixels from its top left.
  const ray = (now, width, height, [x, y]) => {
    const rows = axes(now), [across, up] = slopes(now, width, height);
    const right = now.shift[0] + across * (2 * x / width - 1);
    const above = now.shift[1] + up * (1 - 2 * y / height);
    const along = add(add(scaled(rows[0], right), scaled(rows[1], above)), scaled(rows[2], -1));
    return { eye: eye(now), along };
  };
  // Where a point is seen, [x, y] in pixels and how far ahead: not above 0 behind the eye.
  const seen = (now, width, height, point) => {
    const rows = axes(now), [across, up] = slopes(now, width, height);
    const [x, y, z] = rows.map((row) => dot(row, subtract(point, eye(now))));
    return [
      (((x / -z - now.shift[0]) / across + 1) * width) / 2,
      ((1 - (y / -z - now.shift[1]) / up) * height) / 2, -z];
  };
  return { axes, eye, looking, ofCamera, inBetween, matrices, ray, seen };
})();
