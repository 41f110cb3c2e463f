// Signing in through a provider and out again, in headless Chromium.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, api, close, fits, open, phone, server, shot, visitor } from "../browser/kit.js";

before(async () => {
  await open();
  await api("POST", "operators", { name: "ines", role: "responder", email: "ines@example.com" });
});
after(close);

// atProvider is somebody with a browser who follows the link to the provider. The provider's own pages ask for a font elsewhere,
// which they do not get; what they complain of is not ours.
async function atProvider(options) {
  const v = await visitor(options);
  await v.context.route((u) => u.hostname !== "127.0.0.1", (route) => route.fulfill({ contentType: "text/css", body: "" }));
  const end = v.end;
  v.end = () => {
    v.faults.splice(0, v.faults.length, ...v.faults.filter((f) => f.startsWith(server.admin)));
    return end();
  };
  await v.page.goto("/keys?q=refunds");
  await v.page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  await accessible(v.page);
  await fits(v.page);
  await shot(v.page, `login-openid-${v.page.viewportSize().width}`);
  await v.page.getByRole("link", { name: "Sign in with Test ID" }).click();
  await v.page.locator("input[name=login]").waitFor();
  assert.notEqual(new URL(v.page.url()).origin, server.admin);
  return v;
}

// asked answers what the provider asks: who it is, and whether Keybrake may know.
async function asked(page, name) {
  await page.locator("input[name=login]").fill(name);
  await page.locator("input[name=password]").fill("anything");
  await page.locator("button[type=submit]").click();
  await page.locator("input[name=prompt][value=consent]").waitFor({ state: "attached" });
  await page.locator("button[type=submit]").click();
}

test("the provider's form leads back to the page that was asked for, in one's role, and signing out ends both sessions", async () => {
  const v = await atProvider();
  await asked(v.page, "ines");
  await v.page.waitForURL((u) => u.origin === server.admin && u.pathname + u.search === "/keys?q=refunds");
  await v.page.getByText("ines, responder").waitFor();
  assert.equal(await v.page.getByRole("link", { name: "New key" }).count(), 0);
  await accessible(v.page);
  const [session] = (await v.context.cookies()).filter((c) => c.name === "keybrake_session");
  assert.deepEqual([session.sameSite, session.httpOnly], ["Strict", true]);

  await v.page.getByRole("button", { name: "Sign out" }).click();
  await v.page.getByRole("button", { name: /yes/i }).click(); // the provider asks
  await v.page.waitForURL(server.admin + "/login");
  await v.page.goto("/keys");
  assert.equal(new URL(v.page.url()).pathname, "/login");
  await v.page.getByRole("link", { name: "Sign in with Test ID" }).click();
  await v.page.locator("input[name=login]").waitFor(); // the provider has forgotten, too
  await v.end();
});

test("whom the provider knows and Keybrake does not is told what would let them in, on a phone", async () => {
  const v = await atProvider({ viewport: phone, colorScheme: "dark" });
  await asked(v.page, "nina");
  const alert = v.page.getByRole("alert");
  await alert.getByText("keybrake operator add NAME --role ROLE --email nina@new.example").waitFor();
  assert.equal(new URL(v.page.url()).origin, server.admin);
  await accessible(v.page);
  await fits(v.page);
  await shot(v.page, "login-openid-refused-360");
  await v.page.goto("/keys");
  assert.equal(new URL(v.page.url()).pathname, "/login");
  await v.end();
});
