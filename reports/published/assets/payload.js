// Unpacks the data of a page: base64 of zlib-compressed JSON becomes JSON in the same place, which
// the event `pagedata` then announces. Packed, a page is a third of the size.
"use strict";

document.addEventListener("DOMContentLoaded", async () => {
  const unpack = async (script) => {
    const bytes = Uint8Array.from(atob(script.textContent.trim()), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    script.textContent = await new Response(unpacked).text();
  };
  await Promise.all([...document.querySelectorAll("script[data-packed]")].map(unpack));
  document.dispatchEvent(new CustomEvent("pagedata"));
});
