// The programs that draw on the graphics card, and buffers for them.
"use strict";
const shading = (function () {
  const NAMES = ["place", "colour", "normal", "other"];

  const program = (gl, vertex, fragment) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, "#version 300 es\nprecision highp float;\nprecision highp int;\n" + text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    NAMES.forEach((name, at) => gl.bindAttribLocation(made, at, name));
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
    const places = {};
    const count = gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS);
    for (let k = 0; k < count; k++) {
      const name = gl.getActiveUniform(made, k).name.replace("[0]", "");
      places[name] = gl.getUniformLocation(made, name);
    }
    return { made, places };
  };
  const buffer = (gl, array, target = gl.ARRAY_BUFFER) => {
    const made = gl.createBuffer();
    gl.bindBuffer(target, made);
    gl.bufferData(target, array, gl.STATIC_DRAW);
    return made;
  };
  // Attributes: [name, array, numbers of each, type, normalised, per instance]. An array of four
  // numbers, of which three are asked for, leaves the fourth out.
  const layout = (gl, attributes, faces) => {
    const made = gl.createVertexArray();
    gl.bindVertexArray(made);
    for (const [name, array, size, type, normalised, stride, divisor] of attributes) {
      const at = NAMES.indexOf(name);
      buffer(gl, array);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, type, normalised, stride, 0);
      gl.vertexAttribDivisor(at, divisor);
    }
    if (faces) buffer(gl, faces, gl.ELEMENT_ARRAY_BUFFER);
    gl.bindVertexArray(null);
    return made;
  };

  const SCENE = `uniform mat4 view, projection; uniform vec3 low, span;`;
  // Photo, confidence, normal or height; see viewer/colouring.js.
  const PAINT = `
    uniform int colouring; uniform vec3 palette[17]; uniform vec2 heights;
    in vec3 place, normal; in vec4 colour; out vec3 paint, at;
    vec3 shade(float share) {
      float step = clamp(share, 0.0, 1.0) * 16.0; int k = min(int(step), 15);
      return mix(palette[k], palette[k + 1], step - float(k));
    }
    vec3 painted(vec3 p) {
      if (colouring == 1) return shade(colour.a);
      if (colouring == 2) return 0.5 + 0.5 * normal;
      if (colouring == 3) return shade((p.y - heights.x) / (heights.y - heights.x));
      return colour.rgb;
    }`;
  // What lies outside the box is not drawn.
  const CUT = `
    uniform vec3 boxLow, boxHigh; in vec3 paint, at; out vec4 o;
    bool outside() { return any(lessThan(at, boxLow)) || any(greaterThan(at, boxHigh)); }`;

  const programs = (gl) => ({
    surface: program(gl,
      `${SCENE} ${PAINT} out vec3 seen;
       void main() { at = low + span * place; vec4 p = view * vec4(at, 1.0); seen = p.xyz;
         gl_Position = projection * p; paint = painted(at); }`,
      `${CUT} in vec3 seen;
       void main() { vec3 n = normalize(cross(dFdx(seen), dFdy(seen)));
         if (outside()) discard;
         o = vec4(paint * (0.72 + 0.28 * abs(dot(n, normalize(seen)))), 1.0); }`),
    dots: program(gl,
      `${SCENE} ${PAINT} uniform float size;
       void main() { at = low + span * place; gl_Position = projection * view * vec4(at, 1.0);
         gl_PointSize = clamp(size / gl_Position.w, 1.5, 40.0); paint = painted(at); }`,
      `${CUT}
       void main() { if (outside() || length(gl_PointCoord - 0.5) > 0.55) discard;
         o = vec4(paint, 1.0); }`),
    // Lines as strips that face the viewer: WebGL's own are one pixel wide.
    lines: program(gl,
      `uniform mat4 view, projection; uniform vec2 pixel; in vec3 place, other, colour;
       out vec3 paint;
       void main() {
         vec4 p = projection * view * vec4(place, 1.0), q = projection * view * vec4(other, 1.0);
         if (p.w < 0.01) p = mix(p, q, (0.01 - p.w) / (q.w - p.w));
         if (q.w < 0.01) q = mix(q, p, (0.01 - q.w) / (p.w - q.w));
         vec2 d = (q.xy / q.w - p.xy / p.w) / pixel; d /= max(length(d), 1e-6);
         vec4 r = gl_VertexID < 2 ? p : q; float s = gl_VertexID % 2 == 0 ? 1.0 : -1.0;
         r.xy += vec2(-d.y, d.x) * s * pixel * r.w; gl_Position = r; paint = colour; }`,
      "in vec3 paint; out vec4 o; void main() { o = vec4(paint, 1.0); }"),
    // A photo on a plane before its camera. The plane's places are slopes; the lens bends them.
    photo: program(gl,
      `uniform mat4 view, projection; uniform vec3 eye, right, down, forward;
       uniform vec2 from, to; uniform float ahead; out vec2 slope;
       void main() { vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
         slope = mix(from, to, corner);
         vec3 p = eye + ahead * (slope.x * right + slope.y * down + forward);
         gl_Position = projection * view * vec4(p, 1.0); }`,
      `uniform sampler2D picture; uniform vec4 lens; uniform vec2 size; uniform vec3 bend; uniform float fade;
       in vec2 slope; out vec4 o;
       void main() { float r2 = dot(slope, slope), r = sqrt(r2), t = atan(r);
         float t2 = bend.z > 0.5 ? t * t : r2;
         vec2 bent = slope * (1.0 + t2 * (bend.x + bend.y * t2));
         if (bend.z > 0.5 && r > 0.0) bent *= t / r;
         vec2 uv = (lens.xy * bent + lens.zw) / size;
         if (any(lessThan(uv, vec2(0.0))) || any(greaterThan(uv, vec2(1.0)))) discard;
         o = vec4(texture(picture, uv).rgb, fade); }`),
  });
  return { buffer, layout, programs };
})();
