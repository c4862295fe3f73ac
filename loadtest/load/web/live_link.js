"use strict";
// Puts a link to the live page beside the tabs of Locust's page. React may redraw the tabs at any time.

(() => {
  const link = document.createElement("a");
  link.href = "workflow";
  link.target = "workflow-api";
  link.textContent = "Workflow API, live ↗";
  link.style.cssText = "font: 500 0.875rem/1.25 Roboto, Helvetica, Arial, sans-serif; color: inherit; padding: 12px 16px; margin-left: auto; align-self: center; white-space: nowrap;";
  const place = () => {
    const tabs = document.querySelector("[role=tablist]")?.closest(".MuiTabs-root");
    if (tabs && link.parentElement !== tabs) tabs.append(link);
  };
  place();
  new MutationObserver(place).observe(document.body, { childList: true, subtree: true });
})();
