// What colour the scene is drawn in, and the legend that says what the colours mean.
"use strict";
const colouring = (function () {
  const NUMBERS = { photo: 0, confidence: 1, normal: 2, height: 3 };
  const palette = (data, name) => (data.palettes[name] || data.palettes.height).flat();

  const legend = (data, name) => {
    const colours = data.palettes[name];
    if (!colours) return null;
    const { radius, unit, floor } = data.frame;
    const ends = name === "height"
      ? data.heights.map((value) => measuring.text(value * radius + floor, unit))
      : ["unsure", "sure"];
    const stops = colours.map((colour) => `rgb(${colour.map((value) => Math.round(255 * value))})`);
    return { ends, gradient: `linear-gradient(90deg,${stops.join(",")})` };
  };
  return { number: (name) => NUMBERS[name], palette, legend, names: Object.keys(NUMBERS) };
})();
