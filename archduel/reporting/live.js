(function () {
  var head = document.getElementById("head"), gone = document.getElementById("gone"), version = "", failed = 0, shown = {};
  function replace(place, html) {
    var open = [], across = [], i, found;
    found = place.querySelectorAll("details"); for (i = 0; i < found.length; i++) open.push(found[i].open);
    found = place.querySelectorAll(".scroll"); for (i = 0; i < found.length; i++) across.push(found[i].scrollLeft);
    place.innerHTML = html;
    found = place.querySelectorAll("details"); for (i = 0; i < found.length; i++) if (open[i]) found[i].open = true;
    found = place.querySelectorAll(".scroll"); for (i = 0; i < found.length; i++) if (across[i]) found[i].scrollLeft = across[i];
  }
  function take(answer) {
    failed = 0; gone.hidden = true;
    document.title = answer.title;
    replace(head, answer.head);
    Object.keys(answer.parts || {}).forEach(function (name) {
      var place = document.getElementById("part-" + name);
      if (place && shown[name] !== answer.parts[name]) { replace(place, answer.parts[name]); shown[name] = answer.parts[name]; }
    });
    version = answer.version;
    document.documentElement.dataset.version = version;
    setTimeout(ask, answer.wait);
  }
  function lost() {
    failed += 1;
    if (failed > 2) gone.hidden = false;
    setTimeout(ask, Math.min(1000 * failed, 10000));
  }
  function ask() {
    if (document.hidden) { setTimeout(ask, 1000); return; }
    var screen = matchMedia("(max-width: 640px)").matches ? "narrow" : matchMedia("(max-width: 940px)").matches ? "middle" : "wide";
    fetch("live?have=" + encodeURIComponent(version) + "&screen=" + screen, {cache: "no-store"})
      .then(function (r) { if (!r.ok) throw new Error(r.status); return r.json(); })
      .then(take, lost);
  }
  ask();
})();
