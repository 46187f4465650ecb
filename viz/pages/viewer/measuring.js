// Distances between two points, drawn over the picture and listed below it.
"use strict";
const measuring = (function () {
  // Three or four digits, in a unit that reads well.
  const text = (value, unit) => {
    const digits = (number) => {
      if (number === 0) return "0";
      return number.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.abs(number)))));
    };
    if (unit !== "m") return `${digits(value)} units`;
    const size = Math.abs(value);
    if (size >= 1000) return `${digits(value / 1000)} km`;
    if (size >= 1 || size === 0) return `${digits(value)} m`;
    return size >= 0.01 ? `${digits(100 * value)} cm` : `${digits(1000 * value)} mm`;
  };
  const distance = ({ radius, unit }, [p, q]) => text(
    radius * vectors.length(vectors.subtract(q, p)), unit);

  // The ends of a line as seen, cut where it passes behind the eye; null where all of it does.
  const ends = (view, width, height, p, q) => {
    const near = 0.01, seen = (point) => viewpoint.seen(view, width, height, point);
    const [a, b] = [seen(p)[2], seen(q)[2]];
    if (a < near && b < near) return null;
    const cut = (from, to, here, there) => (
      here >= near ? from : vectors.between(from, to, (near - here) / (there - here)));
    return [seen(cut(p, q, a, b)), seen(cut(q, p, b, a))];
  };
  const element = (overlay, name, attributes) => {
    const made = document.createElementNS(overlay.namespaceURI, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  };
  const dot = (overlay, [x, y]) => element(overlay, "circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 4 });

  const draw = (overlay, data, state, width, height) => {
    const parts = [];
    for (const pair of state.measures) {
      const line = ends(state.view, width, height, ...pair);
      if (!line) continue;
      const [[x1, y1], [x2, y2]] = line.map((end) => end.map((value) => Number(value.toFixed(1))));
      parts.push(element(overlay, "line", { x1, y1, x2, y2 }), dot(overlay, line[0]), dot(overlay, line[1]));
      const label = element(overlay, "text", { x: (x1 + x2) / 2, y: (y1 + y2) / 2 - 8 });
      label.textContent = distance(data.frame, pair);
      parts.push(label);
    }
    if (state.start) {
      const place = viewpoint.seen(state.view, width, height, state.start);
      if (place[2] > 0) parts.push(dot(overlay, place));
    }
    if (state.measuring) {
      // The keyboard's place to measure at.
      const [x, y] = [width / 2, height / 2];
      parts.push(element(overlay, "path", { class: "cross", d: `M${x - 9} ${y}h18M${x} ${y - 9}v18` }));
    }
    overlay.replaceChildren(...parts);
  };
  const list = (place, data, state, remove) => {
    place.replaceChildren(...state.measures.map((pair, number) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      item.textContent = distance(data.frame, pair);
      button.textContent = "Remove";
      button.setAttribute("aria-label", `Remove the distance ${item.textContent}`);
      button.addEventListener("click", () => remove(number));
      item.append(" ", button);
      return item;
    }));
  };
  return { text, distance, draw, list };
})();
