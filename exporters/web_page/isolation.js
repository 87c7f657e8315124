// A service worker. It adds the two headers by which a browser allows threads, since `python -m http.server`, and
// most hosts of files, send none. It keeps nothing, and asks no other host.

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  if (new URL(event.request.url).origin !== location.origin) return;
  event.respondWith(isolated(event.request));
});

async function isolated(request) {
  // Asked for anew each time: a model that was exported again must not meet the spec of the old one.
  const response = await fetch(request, request.mode === "navigate" ? {} : { cache: "no-cache" });
  if (response.type === "opaque" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
