// The flows of the console, one after the other, on one server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, accessible, close, newKey, open, operator, phone, seeded, server, stripe, visitor } from "./kit.js";

before(open);
after(close);

test("who has no token stays outside, and signing in leads where one wanted to go", async () => {
  const v = await visitor();
  await v.page.goto("/rates");
  assert.equal(new URL(v.page.url()).pathname, "/login");
  await accessible(v.page);
  await v.page.fill("#token", "keybrake_admin_nonsense");
  await v.page.keyboard.press("Enter");
  await v.page.getByRole("alert").waitFor();
  await v.page.fill("#token", server.admin_token);
  await v.page.keyboard.press("Enter");
  await v.page.waitForURL((u) => u.pathname === "/rates");
  await v.page.getByRole("navigation", { name: "Pages", exact: true }).getByText("Overview").click();
  await v.page.getByRole("button", { name: "Sign out" }).click();
  await v.page.waitForURL("/login");
  await v.page.goto("/keys");
  assert.equal(new URL(v.page.url()).pathname, "/login");
  await v.end();
});

test("the wizard makes a key that the SDK can use, within what was set", async () => {
  const v = await operator();
  const [mine, other] = await seeded();
  await v.page.goto("/keys");
  await v.page.getByRole("link", { name: "New key" }).first().click();
  await v.page.getByText("Refund-only support agent").click();
  await v.page.getByRole("button", { name: "Use this start" }).click();
  await v.page.getByLabel("Name", { exact: true }).fill("agent-support-refunds-wizard");
  await v.page.getByLabel("Limit").first().fill("a lot");
  await v.page.getByLabel("Customer ids, one per line").fill(mine.customer);
  await v.page.getByRole("button", { name: "Make the key" }).click();
  const link = v.page.getByRole("link", { name: /the cap on refunds/ });
  await link.waitFor();
  await accessible(v.page);
  assert.equal(await v.page.getByLabel("Limit").first().inputValue(), "a lot");
  assert.equal(await v.page.getByLabel("Customer ids, one per line").inputValue(), mine.customer);
  await link.click();
  assert.equal(await v.page.evaluate(() => location.hash), "#cv0");
  await v.page.getByLabel("Limit").first().fill("20");
  await v.page.getByRole("button", { name: "Check again" }).click();
  await v.page.getByText("$20.00 a day on refunds").waitFor();
  await v.page.getByRole("button", { name: "Make the key" }).click();
  const secret = v.page.locator("#secret");
  await secret.waitFor();
  await accessible(v.page);
  await v.page.getByRole("button", { name: "Copy" }).click();
  await v.page.getByText("Copied").waitFor();
  const key = await v.page.evaluate(() => navigator.clipboard.readText());
  assert.match(key, /^vault_key_test_/);
  assert.equal(await secret.textContent(), key);
  assert.match(await v.page.locator("#snippet-node").textContent(), new RegExp(`host: "127.0.0.1", port: ${new URL(server.gateway).port}`));

  const sdk = stripe(key);
  const refund = await sdk.refunds.create({ charge: mine.charge, amount: 1500 });
  assert.equal(refund.amount, 1500);
  await assert.rejects(sdk.refunds.create({ charge: mine.charge, amount: 600 }), /cap/i);
  await assert.rejects(sdk.refunds.create({ charge: other.charge, amount: 100 }), /customer/i);

  await v.page.getByLabel("It is in the secret store").check();
  await v.page.getByRole("button", { name: "Go to the key" }).click();
  await v.page.getByRole("heading", { name: "agent-support-refunds-wizard", level: 1 }).waitFor();
  await v.page.getByText("$5.00 left").first().waitFor();
  assert.ok(!(await v.page.content()).includes(key), "the key is shown again");
  await v.end();
});

test("an edit shows what changes, and what widens asks why", async () => {
  const k = await newKey("agent-support-refunds-edited");
  const v = await operator();
  await v.page.goto(`/keys/${k.id}`);
  await v.page.getByRole("link", { name: "Edit policy" }).click();
  await v.page.getByLabel("Limit").first().fill("250");
  await v.page.getByRole("button", { name: "Save" }).click();
  await v.page.getByText("which needs a reason").first().waitFor();
  await v.page.locator("del", { hasText: "100" }).waitFor();
  assert.equal(await v.page.getByLabel("Limit").first().inputValue(), "250");
  await accessible(v.page);
  await v.page.getByLabel(/^Reason(?! \(optional)/).first().fill("the season begins");
  await v.page.getByRole("button", { name: "Save" }).click();
  await v.page.waitForURL(`/keys/${k.id}`);
  await v.page.getByText("the season begins").waitFor();
  assert.match((await api("GET", `keys/${k.id}`)).policy, /250/);
  await v.end();
});

test("an edit is tried on the calls of the last days before it is saved", async () => {
  const k = await newKey("agent-support-refunds-tried");
  const [paid] = await seeded();
  const sdk = stripe(k.key);
  for (const amount of [900, 900, 900]) await sdk.refunds.create({ charge: paid.charge, amount });
  const v = await operator();
  await v.page.goto(`/keys/${k.id}/edit`);
  await v.page.getByLabel("Limit").first().fill("20");
  await v.page.getByRole("button", { name: "Try it on the last 30 days" }).click();
  await v.page.getByText("1 call that passed would be refused, $9.00.").waitFor();
  await accessible(v.page);
  assert.equal((await api("GET", `keys/${k.id}`)).view.caps[0].limit, "100.00");
  await v.end();
});

test("a call is on the page within a second of its answer", async () => {
  const k = await newKey("agent-support-refunds-live");
  const [paid] = await seeded();
  const v = await operator();
  await v.page.goto(`/keys/${k.id}`);
  await v.page.getByText("This key has made no call yet.").waitFor();
  await v.page.locator("#pulse", { hasText: "Live" }).waitFor();
  const sdk = stripe(k.key);
  const took = [];
  for (let i = 1; i <= 5; i++) {
    await sdk.refunds.create({ charge: paid.charge, amount: 100 });
    const begin = Date.now();
    await v.page.getByText(`$${100 - i}.00 left`).first().waitFor();
    await v.page.locator("#calls tbody tr").nth(i - 1).waitFor();
    took.push(Date.now() - begin);
  }
  took.sort((a, b) => a - b);
  console.log(`shown after ${took.join(", ")} ms`);
  assert.ok(took[2] < 1000, `the median is ${took[2]} ms`); // the median: another program may take the machine for a while
  await v.end();
});

test("a part with the focus is left alone while the page is live", async () => {
  const k = await newKey("agent-support-refunds-focus");
  const [paid] = await seeded();
  const v = await operator();
  await v.page.goto(`/keys/${k.id}`);
  const reason = v.page.getByLabel(/Reason to end it for good/);
  await reason.fill("half a sent");
  await stripe(k.key).refunds.create({ charge: paid.charge, amount: 100 });
  await v.page.getByText("$99.00 left").first().waitFor();
  assert.equal(await reason.inputValue(), "half a sent");
  assert.ok(await reason.evaluate((e) => e === document.activeElement));
  await v.end();
});

test("the audit is searched by a link, a record stands between its neighbours, and the chain is verified", async () => {
  const k = await newKey("agent-support-refunds-audit");
  const [paid] = await seeded();
  const sdk = stripe(k.key);
  await sdk.refunds.create({ charge: paid.charge, amount: 300 });
  await assert.rejects(sdk.payouts.create({ amount: 100, currency: "usd" }));
  const v = await operator();
  await v.page.goto(`/audit?key=${k.id}&verdict=denied`);
  const rows = v.page.locator("table.folds tbody tr");
  await rows.first().waitFor();
  assert.equal(await rows.count(), 1);
  await v.page.getByRole("link", { name: "payouts.create" }).click();
  await v.page.getByRole("heading", { name: "Why it was refused" }).waitFor();
  await accessible(v.page);
  const here = v.page.url();
  await v.page.locator(".chain a").first().click();
  await v.page.waitForURL((u) => u.href !== here);
  await v.page.goto("/audit");
  await v.page.getByRole("button", { name: /Verify/ }).click();
  await v.page.getByText(/whole/i).first().waitFor();
  await accessible(v.page);
  await v.page.goto(`/audit?key=${k.id}`);
  const [file] = await Promise.all([v.page.waitForEvent("download"), v.page.getByRole("link", { name: /Export/ }).first().click()]);
  assert.equal(await file.failure(), null);
  await v.end();
});

test("upstreams and rates are changed, and what was typed stays when it is refused", async () => {
  const v = await operator();
  await v.page.goto("/rates");
  await v.page.getByLabel("Currency").fill("XYZ");
  await v.page.getByLabel("Dollars for one unit").fill("1.5");
  await v.page.getByRole("button", { name: "Set", exact: true }).last().click();
  await v.page.getByRole("alert").waitFor();
  assert.equal(await v.page.getByLabel("Currency").inputValue(), "XYZ");
  await accessible(v.page);
  await v.page.getByLabel("Currency").fill("CHF");
  await v.page.getByRole("button", { name: "Set", exact: true }).last().click();
  await v.page.getByRole("rowheader", { name: "CHF" }).waitFor();
  await v.page.goto("/upstreams");
  await v.page.getByLabel("Name", { exact: true }).fill("second");
  await v.page.getByLabel("Restricted key").fill("sk_test_sandbox");
  await v.page.getByText("Another address or version").click();
  await v.page.getByLabel("Base URL").fill(server.sandbox);
  await v.page.getByRole("button", { name: "Add" }).click();
  await v.page.getByRole("heading", { level: 1, name: "second" }).waitFor();
  await accessible(v.page);
  assert.ok((await api("GET", "upstreams")).items.some((u) => u.name === "second"));
  await v.page.getByRole("button", { name: "Remove this upstream" }).click();
  await v.page.waitForURL("/upstreams");
  await v.end();
});

test("two presses stop everything while 32 agents call, and the next call is refused", async () => {
  const k = await newKey("agent-support-reads-crowd");
  const v = await operator({ viewport: phone });
  await v.page.goto("/");
  const sdk = stripe(k.key);
  let pressed = false, stopped = false, hammering = true;
  const after = { passed: 0, refused: 0 };
  let before = 0;
  const agents = Array.from({ length: 32 }, async () => {
    while (hammering) {
      const sent = stopped; // the stop had been answered before this call left
      const passed = await sdk.charges.list({ limit: 1 }).then(() => true, () => false);
      if (sent) passed ? after.passed++ : after.refused++;
      else if (!pressed && passed) before++;
    }
  });
  await new Promise((done) => setTimeout(done, 500));
  await v.page.locator(".dock").getByRole("button", { name: "Stop" }).click();
  await v.page.locator("#stop").waitFor({ state: "visible" });
  pressed = true;
  await v.page.locator("#stop").getByRole("button", { name: /Stop everything/ }).click();
  await v.page.getByRole("heading", { level: 1, name: "Everything is stopped." }).waitFor();
  stopped = true;
  await new Promise((done) => setTimeout(done, 500));
  hammering = false;
  await Promise.all(agents);
  console.log(`${before} calls passed before the press; ${after.refused} were sent after the stop, ${after.passed} of them passed`);
  assert.ok(before > 0 && after.refused > 0);
  assert.equal(after.passed, 0);
  await v.page.getByText("In effect after").waitFor();
  await v.page.locator("#refused").getByText(/[1-9][\d,]* calls? refused since, 0 passed/).waitFor(); // by itself: the page is live
  await accessible(v.page);
  await v.page.getByRole("link", { name: "Stopped" }).first().waitFor();
  await v.page.getByLabel("Reason", { exact: true }).fill("it was a drill");
  await v.page.getByRole("radio", { name: "Everything" }).check();
  await v.page.locator("form[action='/resume'] button").click();
  await v.page.getByRole("heading", { level: 1, name: "Nothing is stopped." }).waitFor();
  await sdk.charges.list({ limit: 1 });
  await v.end();
});

test("by keyboard alone: the stop panel opens on its title, Escape closes it, and Enter stops only what it is on", async () => {
  const k = await newKey("agent-support-refunds-keyboard");
  const v = await operator();
  await v.page.goto(`/keys/${k.id}`);
  const press = async (...keys) => { for (const one of keys) await v.page.keyboard.press(one); };
  const on = () => v.page.evaluate(() => document.activeElement.textContent.trim().replace(/\s+/g, " "));
  await press("Tab");
  assert.equal(await on(), "Skip to the page");
  const reach = async (words) => {
    for (let i = 0; i < 80 && !(await on()).startsWith(words); i++) await press("Tab");
    assert.ok((await on()).startsWith(words), `nothing with ${words} is reached; last was ${await on()}`);
  };
  await reach("Stop");
  await press("Enter");
  await v.page.locator("#stop").waitFor({ state: "visible" });
  assert.equal(await on(), "What should stop?");
  await press("Enter", "Escape");
  await v.page.locator("#stop").waitFor({ state: "hidden" });
  assert.ok((await on()).startsWith("Stop"), "the focus is not back on the button");
  assert.equal((await api("GET", "brakes")).items.length, 0);
  await press("Enter");
  await reach("Stop this key");
  await press("Enter");
  await v.page.getByRole("heading", { level: 1, name: "agent-support-refunds-keyboard is stopped." }).waitFor();
  await reach("Resume");
  assert.equal((await api("GET", "brakes")).items.length, 1);
  await v.page.getByLabel("Reason", { exact: true }).focus();
  await v.page.keyboard.type("done");
  await press("Enter"); // no brake is chosen, so the browser leads there and nothing is sent
  assert.equal(await v.page.evaluate(() => document.activeElement.name), "target");
  assert.equal((await api("GET", "brakes")).items.length, 1);
  await press("Space", "Tab");
  assert.equal(await v.page.evaluate(() => document.activeElement.id), "why");
  await press("Enter");
  await v.page.getByRole("heading", { level: 1, name: "Nothing is stopped." }).waitFor();
  await v.end();
});

test("without a script every page is whole, and stop and resume work", async () => {
  const v = await operator({ javaScriptEnabled: false });
  const k = await newKey("agent-support-refunds-plain");
  await v.page.goto(`/stop?key=${k.id}`);
  await v.page.locator("main").getByRole("button", { name: /Stop this key/ }).click();
  await v.page.getByRole("heading", { level: 1, name: "agent-support-refunds-plain is stopped." }).waitFor();
  await v.page.getByLabel("Reason", { exact: true }).fill("done");
  await v.page.locator("form[action='/resume'] input[name=target]").check();
  await v.page.locator("form[action='/resume'] button").click();
  await v.page.getByRole("heading", { level: 1, name: "Nothing is stopped." }).waitFor();
  await v.end();
});
