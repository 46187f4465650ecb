// Draws the scene: surface or points, cameras, the box that cuts, and a photo over the model.
"use strict";
const makePainter = (gl, data) => {
  const made = shading.programs(gl);
  const levels = [];  // of the surface, coarse to fine
  let cloud = null;

  const uploaded = (solid) => ({
    ...solid,
    array: shading.layout(gl, [
      ["place", solid.positions, 3, gl.UNSIGNED_SHORT, true, 8, 0],
      ["colour", solid.colours, 4, gl.UNSIGNED_BYTE, true, 4, 0],
      ["normal", solid.normals, 3, gl.BYTE, true, 4, 0]], solid.faces),
  });
  const outlines = (edges) => ({
    count: edges.length,
    array: shading.layout(gl, [
      ["place", new Float32Array(edges.flatMap((edge) => edge[0])), 3, gl.FLOAT, false, 0, 1],
      ["other", new Float32Array(edges.flatMap((edge) => edge[1])), 3, gl.FLOAT, false, 0, 1],
      ["colour", new Float32Array(edges.flatMap((edge) => edge[2])), 3, gl.FLOAT, false, 0, 1]]),
  });
  const ORANGE = [1, 0.62, 0.1];
  const cameras = outlines(data.cameras.flatMap(({ outline, colour }) => data.edges.map(
    ([i, j]) => [outline[i], outline[j], colour.map((value) => value / 255)])));
  const boxEdges = (low, high) => {
    const corner = (k) => [0, 1, 2].map((axis) => (k >> axis & 1 ? high : low)[axis]);
    const pairs = [];
    for (let k = 0; k < 8; k++) {
      for (const bit of [1, 2, 4]) if (!(k & bit)) pairs.push([corner(k), corner(k | bit), ORANGE]);
    }
    return pairs;
  };

  // Lines that change: made anew when what they depend on has.
  const remade = (edges) => {
    let known = null, lines = null;
    return (...what) => {
      const key = JSON.stringify(what);
      if (key !== known) {
        if (lines) gl.deleteVertexArray(lines.array);
        [known, lines] = [key, outlines(edges(...what))];
      }
      return lines;
    };
  };
  const boxLines = remade((box) => boxEdges(...box));
  const contour = remade((axis, level, limits, number) => sections.contour(levels[number], axis, level)
    .filter((edge) => edge.every((end) => end.every((value, k) => (
      k === axis || (value >= limits[0][k] && value <= limits[1][k])))))
    .map(([from, to]) => [from, to, ORANGE]));
  const sectionLines = (state) => {
    const { axis, level } = cutting.plane(data, state);
    return contour(axis, level, cutting.limits(data, state), levels.length - 1);
  };

  const draw = (state, width, height, { quick }) => {
    const { view, projection, perPixel } = viewpoint.matrices(state.view, width, height);
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    gl.viewport(0, 0, width, height);
    gl.clearColor(...data.background.map((value) => value / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const use = (program, part) => {
      gl.useProgram(program.made);
      const { places } = program;
      gl.uniformMatrix4fv(places.view, false, view);
      gl.uniformMatrix4fv(places.projection, false, projection);
      if (part && part.low) {
        gl.uniform3fv(places.low, part.low);
        gl.uniform3fv(places.span, part.span);
        gl.uniform1i(places.colouring, colouring.number(state.colour));
        gl.uniform3fv(places.palette, colouring.palette(data, state.colour));
        gl.uniform2fv(places.heights, data.heights);
        const [low, high] = cutting.limits(data, state);
        gl.uniform3fv(places.boxLow, low);
        gl.uniform3fv(places.boxHigh, high);
      }
      if (part) gl.bindVertexArray(part.array);
      return places;
    };
    const stroke = (lines) => {
      const places = use(made.lines, lines);
      gl.uniform2f(places.pixel, 1.6 * ratio / width, 1.6 * ratio / height);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, lines.count);
    };
    if (state.shown.mesh && levels.length) {
      const level = levels[quick ? 0 : levels.length - 1];
      use(made.surface, level);
      gl.enable(gl.CULL_FACE);  // opens the near walls of a room seen from outside
      gl.drawElements(gl.TRIANGLES, level.faces.length, gl.UNSIGNED_INT, 0);
      gl.disable(gl.CULL_FACE);
    }
    if (state.shown.cloud && cloud) {
      // Points are in an order of which every beginning covers the whole.
      const count = quick ? Math.min(cloud.count, 40000) : cloud.count;
      const places = use(made.dots, cloud);
      const spacing = cloud.spacing * Math.sqrt(cloud.count / count);
      gl.uniform1f(places.size, spacing / perPixel);
      gl.drawArrays(gl.POINTS, 0, count);
    }
    if (state.shown.cameras && cameras.count) stroke(cameras);
    if (state.cut) stroke(boxLines(state.box));
    if (state.section && state.shown.mesh && levels.length) stroke(sectionLines(state));
    if (state.photo !== null && photos.standing(data, state)) overlay(use(made.photo), state);
  };

  const textures = new Map();
  const overlay = (places, state) => {
    const camera = data.cameras.find((one) => one.index === state.photo);
    const texture = textures.get(state.photo);
    if (!texture || state.fade <= 0) return;
    const { fx, fy, cx, cy, width, height, bend } = camera.lens;
    const [right, down, forward] = camera.axes;
    Object.entries({ eye: camera.eye, right, down, forward }).forEach(
      ([name, value]) => gl.uniform3fv(places[name], value));
    // A bent photo's edge lies a little beyond or within its straight one.
    const margin = 1 + 2 * Math.abs(bend[0]) + 2 * bend[2];
    gl.uniform2f(places.from, -margin * cx / fx, -margin * cy / fy);
    gl.uniform2f(places.to, margin * (width - cx) / fx, margin * (height - cy) / fy);
    gl.uniform1f(places.ahead, camera.ahead);
    gl.uniform4f(places.lens, fx, fy, cx, cy);
    gl.uniform2f(places.size, width, height);
    gl.uniform3fv(places.bend, bend);
    gl.uniform1f(places.fade, state.fade);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.bindVertexArray(null);
    gl.disable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.disable(gl.BLEND);
  };
  const hold = (index, picture) => {
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, picture);
    gl.generateMipmap(gl.TEXTURE_2D);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    textures.set(index, texture);
    // A few are kept: the way back is quick, and hundreds don't fill the memory.
    if (textures.size > 8) {
      const [oldest] = textures.keys();
      gl.deleteTexture(textures.get(oldest));
      textures.delete(oldest);
    }
  };

  return {
    draw, hold,
    holds: (index) => textures.has(index),
    addLevel: (solid) => levels.push(uploaded(solid)),
    setCloud: (solid) => { cloud = uploaded(solid); },
    // What can be pointed at: the finest there is.
    surface: () => levels[levels.length - 1] || null,
    cloud: () => cloud,
  };
};
