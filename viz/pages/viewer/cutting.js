// A box that keeps what is inside it, and sections that take away what stands before a plane.
"use strict";
const cutting = (function () {
  // The plane's axis in the page's frame, which side goes, and where one then looks from.
  const SECTIONS = {
    floor: { axis: 1, from: "above", yaw: 0, pitch: 1.55 },
    front: { axis: 2, from: "before", yaw: 0, pitch: 0 },
    side: { axis: 0, from: "the right", yaw: Math.PI / 2, pitch: 0 },
  };
  const END = 1e3;  // beyond everything

  // Where the section's plane lies along its axis.
  const level = (data, { section, depth }) => {
    const { axis } = SECTIONS[section], [low, high] = data.bounds;
    return high[axis] + depth * (low[axis] - high[axis]);
  };
  const limits = (data, state) => {
    const [low, high] = state.cut ? state.box.map((corner) => [...corner]) : [[-END, -END, -END], [END, END, END]];
    if (state.section) {
      const { axis } = SECTIONS[state.section];
      high[axis] = Math.min(high[axis], level(data, state));
    }
    return [low, high];
  };
  const plane = (data, state) => ({
    axis: SECTIONS[state.section].axis, level: level(data, state),
  });
  const view = (data, section) => {
    const { axis, yaw, pitch } = SECTIONS[section], [low, high] = data.bounds;
    const size = high.map((value, k) => value - low[k]), t = 0.25;
    const [across, up] = [[size[2], size[1]], [size[0], size[2]], [size[0], size[1]]][axis];
    // Narrow and from far: nearly as in a plan.
    const distance = 0.55 * Math.max(across / 1.5, up) / t + size[axis] / 2;
    const target = vectors.between(low, high, 0.5);
    return { target, distance, yaw, pitch, roll: 0, reach: [1.2 * t, t], shift: [0, 0] };
  };

  // A corner of the box in the scene's own coordinates, as `pointmap export --crop` takes it.
  const inScene = ({ centre, axes, radius }, corner) => centre.map(
    (value, k) => value + radius * axes.reduce((sum, axis, row) => sum + axis[k] * corner[row], 0));
  const corners = (data, [low, high]) => {
    const [p, q] = [inScene(data.frame, low), inScene(data.frame, high)];
    return [p.map((value, k) => Math.min(value, q[k])), p.map((value, k) => Math.max(value, q[k]))];
  };
  // Moves one face, [axis, 0 low or 1 high], and keeps the box open.
  const moved = (data, box, [axis, side], to) => {
    const made = box.map((corner) => [...corner]), [low, high] = data.bounds;
    const thin = 0.005 * (high[axis] - low[axis]);
    const ends = side ? [made[0][axis] + thin, high[axis]] : [low[axis], made[1][axis] - thin];
    made[side][axis] = Math.max(ends[0], Math.min(ends[1], to));
    return made;
  };
  const whole = (data) => data.bounds.map((corner) => [...corner]);
  return { limits, plane, view, corners, moved, whole, names: Object.keys(SECTIONS) };
})();
