// Exchanges the launch token, which stands behind "#", for a cookie. The token leaves the address bar and the history first.
const token = location.hash.slice(1);
history.replaceState(null, "", "/dashboard/enter");
const word = document.getElementById("word");

async function enter() {
  const answer = await fetch("/api/v1/dashboard/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  await answer.text();
  if (answer.ok) location.replace("/dashboard/");
  else word.textContent = "This address was used already, or is too old. Run “loopsy dashboard” again.";
}

if (token) enter().catch(() => (word.textContent = "The daemon does not answer. Is it running? Try “loopsy status”."));
else word.textContent = "Run “loopsy dashboard” in a terminal: it opens this page for you.";
