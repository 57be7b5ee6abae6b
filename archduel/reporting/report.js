(function () {
  var root = document.documentElement, button = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  function stored() { try { return localStorage.getItem("archduel-theme"); } catch (e) { return null; } }
  function show(theme) {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light theme" : "Dark theme";
  }
  show(stored() || (system.matches ? "dark" : "light"));
  system.addEventListener("change", function () { if (!stored()) show(system.matches ? "dark" : "light"); });
  button.addEventListener("click", function () {
    var next = root.dataset.theme === "dark" ? "light" : "dark";
    show(next);
    try { localStorage.setItem("archduel-theme", next); } catch (e) { /* private window: the choice lasts until reload */ }
  });
})();
