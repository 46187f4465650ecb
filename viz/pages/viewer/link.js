// The view as the end of the page's address, so that a link shows the same.
"use strict";
const link = (function () {
  const packed = (numbers) => numbers.map((value) => Number(value.toFixed(4))).join(",");
  const numbers = (text, count) => {
    const read = (text || "").split(",").map(Number);
    return read.length === count && read.every(Number.isFinite) ? read : null;
  };
  const groups = (flat, size) => Array.from(
    { length: flat.length / size }, (_, k) => flat.slice(size * k, size * (k + 1)));

  const written = (state) => {
    const { target, distance, yaw, pitch, roll, reach, shift } = state.view;
    const entries = {
      view: packed([...target, distance, yaw, pitch, roll, ...reach, ...shift]),
      show: Object.keys(state.shown).filter((part) => state.shown[part]).join(","),
    };
    if (state.colour !== "photo") entries.colour = state.colour;
    if (state.cut) entries.box = packed(state.box.flat());
    if (state.section) entries.section = `${state.section},${packed([state.depth])}`;
    if (state.photo !== null) entries.photo = packed([state.photo, state.blend]);
    if (state.measures.length) entries.length = packed(state.measures.flat(2));
    return "#" + Object.entries(entries).map(([key, value]) => `${key}=${value}`).join("&");
  };

  // Changes `state` to what the address says; what makes no sense there is left as it is.
  const read = (hash, data, state) => {
    const entries = new Map(hash.slice(1).split("&").map((part) => part.split("=")));
    const place = numbers(entries.get("view"), 11);
    if (!place) return;
    if (place[3] > 0 && place[7] > 0 && place[8] > 0) {
      const [x, y, z, distance, yaw, pitch, roll] = place;
      state.view = {
        target: [x, y, z], distance, yaw, pitch, roll,
        reach: place.slice(7, 9), shift: place.slice(9),
      };
    }
    if (entries.has("show")) {
      const parts = entries.get("show").split(",");
      Object.keys(state.shown).forEach((part) => { state.shown[part] = parts.includes(part); });
    }
    if (colouring.names.includes(entries.get("colour"))) state.colour = entries.get("colour");
    const box = numbers(entries.get("box"), 6);
    if (box) [state.cut, state.box] = [true, groups(box, 3)];
    const [section, depth] = (entries.get("section") || "").split(",");
    if (cutting.names.includes(section) && Number.isFinite(Number(depth))) {
      [state.cut, state.section, state.depth] = [true, section, Number(depth)];
    }
    const photo = numbers(entries.get("photo"), 2);
    if (photo && photos.order(data).includes(photo[0])) {
      state.photo = photo[0];
      state.blend = state.fade = Math.max(0, Math.min(1, photo[1]));
    }
    const count = (entries.get("length") || "").split(",").length;
    const measures = count % 6 === 0 ? numbers(entries.get("length"), count) : null;
    if (measures) state.measures = groups(groups(measures, 3), 2);
  };
  return { written, read };
})();
