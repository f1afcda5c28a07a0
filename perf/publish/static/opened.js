// A <details> with an id that #open=ID names is opened and shown; one that is opened is named there.
"use strict";
(() => {
  function show() {
    const wanted = document.getElementById(site.state.get("open") ?? "");
    if (!(wanted instanceof HTMLDetailsElement)) return;
    wanted.open = true;
    wanted.scrollIntoView();
    wanted.querySelector("summary").focus({ preventScroll: true });
  }

  document.addEventListener("DOMContentLoaded", () => {
    show();
    addEventListener("hashchange", show);
    document.addEventListener("toggle", (event) => {
      const { id, open } = event.target;
      if (!id) return;
      if (open) site.state.set({ open: id });
      else if (site.state.get("open") === id) site.state.set({ open: null });
    }, true);
  });
})();
