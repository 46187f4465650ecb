// The handles of the box that cuts: one in the middle of each of its faces, to drag.
"use strict";
const makeHandles = (stage, faces, state, { size, stretch }) => {
  const handles = faces.map((face) => {
    const handle = document.createElement("span");
    handle.className = "handle";
    stage.append(handle);
    const middle = () => vectors.between(...state.box, 0.5).map(
      (value, axis) => (axis === face[0] ? state.box[face[1]][axis] : value));
    const ahead = () => middle().map((value, axis) => value + (axis === face[0] ? 0.05 : 0));
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const [x, y] = viewpoint.seen(state.view, ...size(), middle());
      const [u, v] = viewpoint.seen(state.view, ...size(), ahead());
      const square = (u - x) ** 2 + (v - y) ** 2;
      if (square < 1) return;  // it points at the eye
      const along = (event.movementX * (u - x) + event.movementY * (v - y)) / square;
      stretch(face, state.box[face[1]][face[0]] + 0.05 * along);
    });
    return { handle, middle };
  });
  return () => handles.forEach(({ handle, middle }) => {
    const [x, y, depth] = viewpoint.seen(state.view, ...size(), middle());
    handle.hidden = !state.cut || depth <= 0;
    handle.style.transform = `translate(${x}px, ${y}px)`;
  });
};
