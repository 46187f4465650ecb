// Mouse, touch and keyboard on the canvas, as what they mean: turn, move, zoom, press.
"use strict";
const listen = (canvas, { turn, move, zoom, press, focus, keys }) => {
  const fingers = new Map();
  let active = false, moved = 0;
  const spread = () => {
    const [p, q] = [...fingers.values()];
    return Math.hypot(p[0] - q[0], p[1] - q[1]);
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size > 1) moved = Infinity;
    active = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const before = fingers.size === 2 ? spread() : 0;
    const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
    moved += Math.hypot(dx, dy);
    if (moved < 4) return;  // a hand that presses shakes a little
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) {
      move(dx / 2, dy / 2);
      zoom(before / Math.max(spread(), 1));
    } else if (event.buttons & 2 || event.shiftKey || event.ctrlKey) move(dx, dy);
    else turn(dx, dy);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (fingers.delete(event.pointerId) && moved < 4 && event.button === 0) press(place(event));
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { active = fingers.size > 0; });
  // The wheel scrolls the page until the view has been touched.
  canvas.addEventListener("wheel", (event) => {
    if (!active && !event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(Math.exp(Math.max(-0.3, Math.min(0.3, event.deltaY * 0.0015))));
  }, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", (event) => focus(place(event)));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const arrows = { ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20] };
    if (arrows[event.key]) (event.shiftKey ? move : turn)(...arrows[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(0.85);
    else if (event.key === "-") zoom(1.18);
    else if (event.key === "Enter") press([canvas.clientWidth / 2, canvas.clientHeight / 2]);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
};
