"""The page that strangers see where the demo asks for a password. Gradio's own tells them of models and functions."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in</title>
<style>
  body { font-family: system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; }
  form { display: grid; gap: 12px; width: 280px; }
  input, button { font: inherit; padding: 8px; }
  p { color: #b00020; min-height: 3em; }
</style>
<form method="post" action="login">
  <h1>hfvision</h1>
  <label>User <input name="username" autocomplete="username" required autofocus></label>
  <label>Password <input name="password" type="password" autocomplete="current-password" required></label>
  <button>Sign in</button>
  <p role="alert"></p>
</form>
<script>
  document.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(event.target));
    const answer = await fetch("login", { method: "POST", body });
    if (answer.ok) location.reload();
    else document.querySelector("p").textContent = (await answer.json()).detail;
  });
</script>
</html>
"""
