"use strict";
// The numbers under the pointer. The page is whole without it.
(function () {
  var figure = document.getElementById("timeline"), out = document.getElementById("readout");
  if (!figure || !out) { return; }
  var axis = figure.dataset.axis.split(" ").map(Number), buckets = figure.dataset.buckets.split(";");
  var svg = figure.querySelector("svg"), cursor = svg.querySelector(".cursor"), width = svg.viewBox.baseVal.width;
  function wait(us) { return us >= 1e6 ? (us / 1e6).toFixed(2) + " s" : (us / 1e3).toFixed(us >= 1e4 ? 0 : 1) + " ms"; }
  function hide() { cursor.style.visibility = "hidden"; out.textContent = ""; }
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", function (event) {
    var box = svg.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width - axis[0]) / (axis[1] - axis[0]);
    if (!(at >= 0 && at <= 1)) { hide(); return; }
    var i = Math.min(Math.floor(at * axis[2] / axis[3]), buckets.length - 1);
    var length = i === buckets.length - 1 ? Math.max(axis[2] - i * axis[3], axis[3] / 2) : axis[3];
    var n = (buckets[i] || "0,0,0,0,0,0,0,0").split(",").map(Number), x = (axis[0] + at * (axis[1] - axis[0])) * width;
    cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.style.visibility = "visible";
    out.textContent = (i * axis[3]).toFixed(1) + " s: " + Math.round(n[0] / length) + " ok/s, " +
      Math.round(n[1] / length) + " failed/s, " + Math.round(n[2] / length) + " unknown/s came; of those due, " +
      n[3] + " failed, " + n[4] + " unknown" + (n[7] > 0 ? ", p50 " + wait(n[5]) + ", p99 " + wait(n[6]) + ", longest " + wait(n[7]) : ", none was answered");
  });
})();
