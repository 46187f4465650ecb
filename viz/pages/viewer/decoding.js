// The scene's numbers out of the page: base64, deflated, column by column as viz/pages/packing.py
// writes them.
"use strict";
const decoding = (function () {
  const inflated = async (text) => {
    const raw = atob(text), packed = new Uint8Array(raw.length);
    for (let k = 0; k < raw.length; k++) packed[k] = raw.charCodeAt(k);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  // Each column holds the steps from one number to the next, their lowest bytes first.
  const column = (bytes, start, count, width) => {
    const values = new Uint32Array(count);
    let last = 0;
    for (let k = 0; k < count; k++) {
      let step = 0;
      for (let b = 0; b < width; b++) step |= bytes[start + b * count + k] << (8 * b);
      last = (last + ((step >>> 1) ^ -(step & 1))) | 0;
      values[k] = last;
    }
    return values;
  };
  const columns = (bytes, count, widths) => {
    let start = 0;
    return widths.map((width) => {
      const values = column(bytes, start, count, width);
      start += width * count;
      return values;
    });
  };
  // Rows of `size` numbers, of which the columns fill the first.
  const rows = (array, size, columns) => {
    columns.forEach((values, at) => {
      for (let k = 0; k < values.length; k++) array[size * k + at] = values[k];
    });
    return array;
  };

  // Positions are shares of the part's box in 16 bits; a colour's fourth value is the confidence.
  const solid = async (part) => {
    const { count, low, span } = part;
    const read = columns(await inflated(part.points), count, [2, 2, 2, 1, 1, 1, 1, 1, 1, 1]);
    const made = {
      count, low, span, spacing: part.spacing,
      positions: rows(new Uint16Array(4 * count), 4, read.slice(0, 3)),
      colours: rows(new Uint8Array(4 * count), 4, read.slice(3, 7)),
      normals: rows(new Int8Array(4 * count), 4, read.slice(7, 10)),
    };
    if (part.triangles) {
      const corners = columns(await inflated(part.faces), part.triangles, [4, 4, 4]);
      made.faces = rows(new Uint32Array(3 * part.triangles), 3, corners);
    }
    return made;
  };
  return { solid };
})();
