// What operators do on a working day, beside keys, caps and the audit: rotation, the end of a key, an upstream's stop and its next
// secret, alerts, sessions. And what would have to be noticed if it went wrong.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, api, close, newKey, open, operator, phone, seeded, server, stripe, visitor } from "./kit.js";

before(open);
after(close);

const secretShown = async (page) => {
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByText("Copied").waitFor();
  return page.evaluate(() => navigator.clipboard.readText());
};

test("a rotated key has two texts and one cap, its history says so, and its end is for good", async () => {
  const k = await newKey("agent-support-refunds-rotated");
  const [paid] = await seeded();
  const v = await operator({ viewport: phone });
  await v.page.goto(`/keys/${k.id}`);
  await v.page.getByLabel("The present text works on for").selectOption("1h");
  await v.page.getByRole("button", { name: "Rotate", exact: true }).click();
  await v.page.getByRole("heading", { level: 1, name: "Copy the vault key now" }).waitFor();
  await accessible(v.page);
  const second = await secretShown(v.page);
  assert.match(second, /^vault_key_test_/);
  assert.notEqual(second, k.key);
  const [before, now] = [stripe(k.key), stripe(second)];
  await before.refunds.create({ charge: paid.charge, amount: 6000 });
  await assert.rejects(now.refunds.create({ charge: paid.charge, amount: 6000 }), /cap/i);
  await now.refunds.create({ charge: paid.charge, amount: 4000 });

  await v.page.getByLabel("It is in the secret store").check();
  await v.page.getByRole("button", { name: "Go to the key" }).click();
  await v.page.getByRole("heading", { level: 1, name: "agent-support-refunds-rotated" }).waitFor();
  assert.ok(!(await v.page.content()).includes(second), "the text is shown again");
  const history = v.page.locator("section", { has: v.page.getByRole("heading", { name: "History" }) });
  await history.getByText("key.rotate").waitFor();
  await v.page.getByLabel("It cannot be brought back").check();
  await v.page.getByRole("button", { name: "End this key" }).click();
  await v.page.getByText("revoked").first().waitFor();
  await accessible(v.page);
  for (const sdk of [before, now]) await assert.rejects(sdk.charges.list({ limit: 1 }), (e) => e.statusCode === 401 && e.code === "keybrake_key_revoked");
  await v.end();
});

test("two presses stop one upstream, and its page gives it another secret", async () => {
  const other = "flows-second";
  await api("POST", "upstreams", { name: other, secret: "sk_test_sandbox", base_url: server.sandbox, allow_unrestricted: true });
  const mine = await newKey("agent-support-refunds-apart", { upstream: other });
  const theirs = await newKey("agent-support-refunds-beside", { upstream: server.upstream });
  const v = await operator();
  await v.page.goto("/upstreams");
  await v.page.getByRole("link", { name: other }).first().click();
  await v.page.getByRole("button", { name: "Stop this upstream" }).click();
  await v.page.locator("#stop").getByRole("button", { name: /Stop upstream flows-second/ }).click();
  await v.page.getByText("In effect after").waitFor();
  await accessible(v.page);
  await assert.rejects(stripe(mine.key).charges.list({ limit: 1 }), (e) => e.code === "keybrake_key_killed");
  await stripe(theirs.key).charges.list({ limit: 1 });
  await v.page.getByLabel("Reason", { exact: true }).fill("it was a drill");
  await v.page.getByRole("radio", { name: other }).check();
  await v.page.locator("form[action='/resume'] button").click();
  await v.page.getByRole("heading", { level: 1, name: "Nothing is stopped." }).waitFor();
  await stripe(mine.key).charges.list({ limit: 1 });

  await v.page.goto("/upstreams/" + other);
  const rotation = v.page.locator("form", { has: v.page.getByRole("button", { name: "Rotate", exact: true }) });
  await rotation.getByLabel("Restricted key").fill("rk_live_not_of_this_mode");
  await rotation.getByRole("button").click();
  await rotation.getByRole("alert").first().waitFor();
  await accessible(v.page);
  await rotation.getByLabel("Restricted key").fill("sk_test_another");
  await rotation.getByRole("button").click();
  await v.page.getByRole("status").first().waitFor();
  await accessible(v.page);
  await stripe(mine.key).charges.list({ limit: 1 });
  await v.end();
});

test("somebody looks after an alert, and a target gets its test message", async () => {
  const k = await newKey("agent-support-refunds-alarmed", { upstream: server.upstream });
  await api("POST", "kill", { keys: [k.id], reason: "to be told of" });
  for (let open = []; !open.some((a) => a.key === k.id); ) { // it is looked for every two seconds
    open = (await api("GET", "alerts?open=true")).items;
    await new Promise((done) => setTimeout(done, 200));
  }
  const v = await operator({ viewport: phone });
  await v.page.goto("/alerts");
  const alert = v.page.locator("#open li", { hasText: "agent-support-refunds-alarmed" });
  await alert.getByRole("button", { name: /I look after it/ }).click();
  await alert.getByText("looks after it").waitFor();
  await accessible(v.page);
  for (const [target, says] of [["pager", "pager took the test message"], ["broken", "broken did not take the test message"]]) {
    await v.page.getByRole("button", { name: `Test ${target}` }).click();
    await v.page.getByRole("heading", { name: says }).waitFor();
    await accessible(v.page);
  }
  await api("POST", "resume", { keys: [k.id], reason: "it was told" });
  await v.end();
});

test("a session is ended from elsewhere, and its page asks to sign in", async () => {
  const one = await operator();
  const others = new Set((await api("GET", "sessions")).items.map((s) => s.id));
  const two = await operator();
  const id = (await api("GET", "sessions")).items.find((s) => !others.has(s.id)).id;
  await one.page.goto("/operators");
  await one.page.getByRole("button", { name: `End the session ${id}` }).click();
  await one.page.getByRole("button", { name: `End the session ${id}` }).waitFor({ state: "detached" });
  await two.page.waitForURL((u) => u.pathname === "/login"); // by itself: the page finds out that it may look no longer
  await two.end();
  await one.end();
});

test("by keyboard alone a key is made, copied and put to work", async () => {
  const [mine] = await seeded();
  const v = await operator();
  const press = (key) => v.page.keyboard.press(key);
  const on = () => v.page.evaluate(() => {
    const e = document.activeElement;
    return (e.labels?.[0]?.textContent ?? e.textContent).trim().replace(/\s+/g, " ");
  });
  const reach = async (words) => {
    for (let i = 0; i < 150 && !(await on()).startsWith(words); i++) await press("Tab");
    assert.ok((await on()).startsWith(words), `nothing with ${words} is reached; last was ${await on()}`);
  };
  const type = async (label, text) => {
    await reach(label);
    await press("Control+a");
    await v.page.keyboard.type(text);
  };
  await v.page.goto("/keys");
  await reach("New key");
  await press("Enter");
  await v.page.waitForURL((u) => u.pathname === "/keys/new");
  await reach("Refund-only support agent");
  await press("Space");
  await reach("Use this start");
  await Promise.all([v.page.waitForEvent("load"), press("Enter")]);
  await type("Name", "agent-support-refunds-typed");
  await type("Limit", "20");
  await type("Customer ids, one per line", mine.customer);
  await reach("Make the key");
  await press("Enter");
  await v.page.getByRole("heading", { level: 1, name: "Copy the vault key now" }).waitFor();
  await reach("Copy");
  await press("Enter");
  await v.page.getByText("Copied").waitFor();
  await stripe(await v.page.evaluate(() => navigator.clipboard.readText())).charges.list({ customer: mine.customer });
  await reach("It is in the secret store");
  await press("Space");
  await reach("Go to the key");
  await press("Enter");
  await v.page.getByRole("heading", { level: 1, name: "agent-support-refunds-typed" }).waitFor();
  await v.end();
});

test("a script or a style that the content policy forbids would be noticed, and does nothing", async () => {
  const v = await visitor();
  await v.page.goto("/login");
  await v.page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "document.title = 'it ran'";
    document.body.append(script);
    const style = document.createElement("style");
    style.textContent = "body { display: none }";
    document.body.append(style);
  });
  await v.page.locator("#token").waitFor({ state: "visible" });
  assert.notEqual(await v.page.title(), "it ran");
  const [script, style] = v.faults.splice(0);
  assert.match(script, /Content Security Policy/);
  assert.match(style, /Content Security Policy/);
  await v.end();
});
