// A scene to turn: points, surface and cameras in WebGL2, without a library.
// Coordinates are the scene's upright frame: x right, y up, z towards the viewer, radius 1.
"use strict";
(function () {
  const figure = document.getElementById("viewer");
  const data = JSON.parse(document.getElementById("scene-data").textContent);
  const canvas = figure.querySelector("canvas");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
  if (!gl) return;  // the still picture stays

  const bytes = (text) => {
    const raw = atob(text), made = new Uint8Array(raw.length);
    for (let k = 0; k < raw.length; k++) made[k] = raw.charCodeAt(k);
    return made;
  };
  const buffer = (array, target) => {
    const made = gl.createBuffer();
    gl.bindBuffer(target || gl.ARRAY_BUFFER, made);
    gl.bufferData(target || gl.ARRAY_BUFFER, array, gl.STATIC_DRAW);
    return made;
  };
  const program = (vertex, fragment) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, "#version 300 es\nprecision highp float;\n" + text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    ["a", "b", "c"].forEach((name, at) => gl.bindAttribLocation(made, at, name));
    gl.linkProgram(made);
    // The still picture then stays in the view's place.
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
    return made;
  };
  // Attributes: [location, buffer, type, normalised, per instance].
  const layout = (attributes, faces) => {
    const made = gl.createVertexArray();
    gl.bindVertexArray(made);
    for (const [at, source, type, normalised, divisor] of attributes) {
      gl.bindBuffer(gl.ARRAY_BUFFER, source);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, type, normalised, 0, 0);
      gl.vertexAttribDivisor(at, divisor);
    }
    if (faces) gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, faces);
    gl.bindVertexArray(null);
    return made;
  };

  const place = "uniform mat4 view, projection; uniform vec3 low, span;";
  const dots = program(
    `${place} in vec3 a, c; uniform float size; out vec3 colour;
     void main() { vec4 p = view * vec4(low + span * a, 1.0); gl_Position = projection * p;
       gl_PointSize = clamp(size / gl_Position.w, 1.5, 40.0); colour = c; }`,
    `in vec3 colour; out vec4 o;
     void main() { if (length(gl_PointCoord - 0.5) > 0.55) discard; o = vec4(colour, 1.0); }`);
  const surface = program(
    `${place} in vec3 a, c; out vec3 colour, at;
     void main() { vec4 p = view * vec4(low + span * a, 1.0); at = p.xyz; gl_Position = projection * p; colour = c; }`,
    `in vec3 colour, at; out vec4 o;
     void main() { vec3 n = normalize(cross(dFdx(at), dFdy(at)));
       o = vec4(colour * (0.72 + 0.28 * abs(dot(n, normalize(at)))), 1.0); }`);
  // Lines as strips that face the viewer: WebGL's own are one pixel wide.
  const lines = program(
    `${place} in vec3 a, b, c; uniform vec2 pixel; out vec3 colour;
     void main() { vec4 p = projection * view * vec4(a, 1.0), q = projection * view * vec4(b, 1.0);
       if (p.w < 0.01) p = mix(p, q, (0.01 - p.w) / (q.w - p.w));
       if (q.w < 0.01) q = mix(q, p, (0.01 - q.w) / (p.w - q.w));
       vec2 d = (q.xy / q.w - p.xy / p.w) / pixel; d /= max(length(d), 1e-6);
       vec4 r = gl_VertexID < 2 ? p : q; float s = gl_VertexID % 2 == 0 ? 1.0 : -1.0;
       r.xy += vec2(-d.y, d.x) * s * pixel * r.w; gl_Position = r; colour = c; }`,
    "in vec3 colour; out vec4 o; void main() { o = vec4(colour, 1.0); }");

  const solid = (part) => part && {
    count: part.count, low: part.low, span: part.span,
    array: layout([[0, buffer(new Uint16Array(bytes(part.positions).buffer)), gl.UNSIGNED_SHORT, true, 0],
      [2, buffer(bytes(part.colours)), gl.UNSIGNED_BYTE, true, 0]],
      part.faces && buffer(bytes(part.faces), gl.ELEMENT_ARRAY_BUFFER)),
  };
  const cloud = solid(data.cloud), mesh = solid(data.mesh);
  const from = [], to = [], paint = [];
  for (const camera of data.cameras) {
    for (const [i, j] of data.edges) {
      from.push(...camera.outline[i]); to.push(...camera.outline[j]); paint.push(...camera.colour);
    }
  }
  const outlines = { count: from.length / 3, array: layout([
    [0, buffer(new Float32Array(from)), gl.FLOAT, false, 1], [1, buffer(new Float32Array(to)), gl.FLOAT, false, 1],
    [2, buffer(new Uint8Array(paint)), gl.UNSIGNED_BYTE, true, 1]]) };

  // The eye circles the target: yaw and pitch in radians, distance, vertical field of view.
  const orbit = (eye, target, fov) => {
    const d = eye.map((value, k) => value - target[k]), distance = Math.hypot(...d);
    return { target: [...target], distance, fov, yaw: Math.atan2(d[0], d[2]), pitch: Math.asin(d[1] / distance) };
  };
  const home = orbit(data.view.eye, data.view.target, data.view.fov);
  let now = { ...home, target: [...home.target] };
  const shown = { mesh: !!mesh, cloud: !mesh, cameras: true };

  const axes = () => {
    const [sy, cy, sp, cp] = [Math.sin(now.yaw), Math.cos(now.yaw), Math.sin(now.pitch), Math.cos(now.pitch)];
    return [[cy, 0, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]];
  };
  const draw = () => {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    // A tall canvas (a phone) keeps the scene's width in view.
    const scale = Math.min(1, width / height / 1.2) / Math.tan(now.fov / 2);
    const eye = axes(), centre = now.target.map((value, k) => value + now.distance * eye[2][k]);
    const view = new Float32Array(16);
    for (let r = 0; r < 3; r++) {
      for (let k = 0; k < 3; k++) view[4 * k + r] = eye[r][k];
      view[12 + r] = -eye[r].reduce((sum, value, k) => sum + value * centre[k], 0);
    }
    view[15] = 1;
    const near = Math.max(0.01, 0.02 * now.distance), far = now.distance + 30;
    const projection = new Float32Array([scale * height / width, 0, 0, 0, 0, scale, 0, 0,
      0, 0, (far + near) / (near - far), -1, 0, 0, 2 * far * near / (near - far), 0]);
    gl.viewport(0, 0, width, height);
    gl.clearColor(...data.background.map((value) => value / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const use = (made, part) => {
      gl.useProgram(made);
      gl.uniformMatrix4fv(gl.getUniformLocation(made, "view"), false, view);
      gl.uniformMatrix4fv(gl.getUniformLocation(made, "projection"), false, projection);
      if (part.low) gl.uniform3fv(gl.getUniformLocation(made, "low"), part.low);
      if (part.span) gl.uniform3fv(gl.getUniformLocation(made, "span"), part.span);
      gl.bindVertexArray(part.array);
    };
    if (shown.mesh && mesh) {
      use(surface, mesh);
      gl.enable(gl.CULL_FACE);  // opens the near walls of a room seen from outside
      gl.drawElements(gl.TRIANGLES, data.mesh.corners, gl.UNSIGNED_INT, 0);
      gl.disable(gl.CULL_FACE);
    }
    if (shown.cloud && cloud) {
      use(dots, cloud);
      gl.uniform1f(gl.getUniformLocation(dots, "size"), data.cloud.spacing * scale * height / 2);
      gl.drawArrays(gl.POINTS, 0, cloud.count);
    }
    if (shown.cameras && outlines.count) {
      use(lines, outlines);
      gl.uniform2f(gl.getUniformLocation(lines, "pixel"), 1.6 * ratio / width, 1.6 * ratio / height);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, outlines.count);
    }
    canvas.dataset.drawn = Number(canvas.dataset.drawn || 0) + 1;
  };
  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };

  const turn = (dx, dy) => {
    now.yaw -= dx * 0.006;
    now.pitch = Math.max(-1.55, Math.min(1.55, now.pitch + dy * 0.006));
    redraw();
  };
  const move = (dx, dy) => {
    const eye = axes(), step = 2 * now.distance * Math.tan(now.fov / 2) / canvas.clientHeight;
    for (let k = 0; k < 3; k++) now.target[k] += step * (dy * eye[1][k] - dx * eye[0][k]);
    redraw();
  };
  const zoom = (factor) => { now.distance = Math.max(0.02, Math.min(30, now.distance * factor)); redraw(); };

  const fingers = new Map();
  let active = false;
  const spread = () => { const [p, q] = [...fingers.values()]; return Math.hypot(p[0] - q[0], p[1] - q[1]); };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    active = true;
    figure.classList.add("used");
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const before = fingers.size === 2 ? spread() : 0;
    const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) { move(dx / 2, dy / 2); zoom(before / Math.max(spread(), 1)); }
    else if (event.buttons & 2 || event.shiftKey || event.ctrlKey) move(dx, dy);
    else turn(dx, dy);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => { active = fingers.size > 0; });
  // The wheel scrolls the page until the view has been touched.
  canvas.addEventListener("wheel", (event) => {
    if (!active && !event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    zoom(Math.exp(Math.max(-0.3, Math.min(0.3, event.deltaY * 0.0015))));
  }, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20] };
    if (keys[event.key]) turn(...keys[event.key]);
    else if (event.key === "+") zoom(0.85);
    else if (event.key === "-") zoom(1.18);
    else return;
    event.preventDefault();
  });

  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const buttons = [...figure.querySelectorAll("button[data-show]")];
  const refresh = () => { buttons.forEach((b) => press(b, shown[b.dataset.show])); redraw(); };
  buttons.forEach((button) => button.addEventListener("click", () => {
    const part = button.dataset.show;
    shown[part] = !shown[part];
    // Surface and points lie on each other: one replaces the other.
    if (shown[part] && part === "mesh") shown.cloud = false;
    if (shown[part] && part === "cloud") shown.mesh = false;
    refresh();
  }));
  const goto = (place) => { now = { ...place, target: [...place.target] }; redraw(); };
  figure.querySelector("button[data-home]").addEventListener("click", () => goto(home));
  canvas.addEventListener("dblclick", () => goto(home));
  document.querySelectorAll("button[data-camera]").forEach((button) => button.addEventListener("click", () => {
    const camera = data.cameras.find((one) => one.index === Number(button.dataset.camera));
    goto(orbit(camera.eye, camera.target, camera.fov));
    figure.scrollIntoView({ behavior: "smooth", block: "center" });
  }));

  figure.classList.add("live");
  new ResizeObserver(draw).observe(canvas);  // at once: no frame is shown stretched
  refresh();
})();
