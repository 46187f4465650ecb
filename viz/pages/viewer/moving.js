// Moving the eye: by hand, and in flights from view to view.
"use strict";
const makeMover = (state, { size, calm, touched }) => {
  let flight = 0;
  const halt = () => {
    cancelAnimationFrame(flight);
    flight = 0;
  };
  const animate = (duration, step, after) => {
    halt();
    const begin = performance.now();
    const next = (time) => {
      const share = calm ? 1 : Math.min(1, Math.max(0, (time - begin) / duration));
      step(share * share * (3 - 2 * share));
      flight = share < 1 ? requestAnimationFrame(next) : 0;
      touched();
      if (share === 1 && after) after();
    };
    flight = requestAnimationFrame(next);
  };
  const fly = (to, after) => {
    const from = state.view;
    animate(700, (share) => { state.view = share < 1 ? viewpoint.inBetween(from, to, share) : to; }, after);
  };
  const shift = (change) => {
    halt();
    // Whoever leaves a photo's place comes upright again, step by step.
    const { roll, shift: aside } = state.view;
    state.view = { ...state.view, roll: 0.9 * roll, shift: vectors.scaled(aside, 0.9), ...change(state.view) };
    touched();
  };
  const turn = (dx, dy) => shift(({ yaw, pitch }) => ({
    yaw: yaw - dx * 0.006, pitch: Math.max(-1.55, Math.min(1.55, pitch + dy * 0.006)),
  }));
  const move = (dx, dy) => shift((view) => {
    const [right, up] = viewpoint.axes(view);
    const step = view.distance * viewpoint.matrices(view, ...size()).perPixel;
    return { target: vectors.add(view.target, vectors.add(
      vectors.scaled(up, step * dy), vectors.scaled(right, -step * dx))) };
  });
  const zoom = (factor) => shift(({ distance }) => ({
    distance: Math.max(0.02, Math.min(30, distance * factor)),
  }));
  return { animate, fly, turn, move, zoom, flying: () => flight !== 0 };
};
