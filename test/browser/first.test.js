// Somebody's first start: the link that the server printed, an account, a token, and what others may do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, close, fits, open, phone, server, shot, visitor } from "./kit.js";

before(open);
after(close);

const link = process.env.KEYBRAKE_PRINTED.match(/http:\/\/\S+\/welcome\?link=\S+/)?.[0];

test("the first admin comes in by the link, makes a token, and invites a responder who may stop and not widen", async () => {
  assert.ok(link, "no link was printed: " + process.env.KEYBRAKE_PRINTED);
  const v = await visitor({ viewport: phone });
  await v.page.goto(link);
  await accessible(v.page);
  await fits(v.page);
  await shot(v.page, "welcome-360");
  await v.page.getByLabel("Your name").fill("ines");
  await v.page.getByRole("button", { name: "Make my account and sign in" }).click();
  await v.page.getByRole("heading", { name: "Welcome, ines" }).waitFor();
  await accessible(v.page);
  await v.page.getByRole("link", { name: "To the overview" }).click();
  await v.page.getByRole("heading", { level: 1 }).waitFor();
  await accessible(v.page);
  await shot(v.page, "overview-first-360");

  await v.page.goto("/operators");
  await v.page.getByRole("heading", { name: "Make a token" }).waitFor();
  const form = v.page.locator("form", { has: v.page.getByRole("button", { name: "Make a token" }) });
  await form.getByLabel("Name").fill("ines-laptop");
  await form.getByLabel("Of").selectOption("ines");
  await form.getByRole("button").click();
  const token = await v.page.locator("#secret").textContent();
  assert.match(token, /^keybrake_admin_/);
  await accessible(v.page);
  const asked = await fetch(server.admin + "/admin/v1/operators", { headers: { Authorization: "Bearer " + token } });
  assert.equal(asked.status, 200);

  await v.page.goto("/operators");
  const add = v.page.locator("form", { has: v.page.getByRole("button", { name: "Add", exact: true }) });
  await add.getByLabel("Name").fill("oncall");
  await add.getByRole("button").click();
  await v.page.getByRole("heading", { level: 1, name: "oncall" }).waitFor();
  await accessible(v.page);
  await fits(v.page);
  await v.page.getByRole("button", { name: "Make a link" }).click();
  const invite = await v.page.locator("#secret").textContent();

  const other = await visitor();
  await other.page.goto(invite);
  await other.page.getByRole("button", { name: "Sign in as oncall" }).click();
  await other.page.getByRole("heading", { name: "Welcome, oncall" }).waitFor();
  await other.page.goto("/keys");
  assert.equal(await other.page.getByRole("link", { name: "New key" }).count(), 0);
  await other.page.goto("/upstreams");
  await other.page.getByText("Your role, responder, sees this.").waitFor();
  await other.page.goto("/operators");
  await accessible(other.page);
  await shot(other.page, "operators-1280");
  await other.page.locator("[popovertarget=stop]:visible").first().click();
  await other.page.locator("#stop").getByRole("button", { name: /Stop everything/ }).click();
  await other.page.getByRole("heading", { level: 1, name: "Everything is stopped." }).waitFor();

  const once = await visitor();
  await once.page.goto(invite);
  await once.page.getByRole("heading", { name: "This link does not work" }).waitFor();
  await accessible(once.page);
  await once.end();

  await v.page.goto("/operators");
  await accessible(v.page);
  await fits(v.page);
  await shot(v.page, "operators-360");
  await v.page.getByRole("link", { name: "oncall" }).first().click();
  await v.page.getByRole("button", { name: "Disable the account" }).click();
  await v.page.getByText("disabled").first().waitFor();
  await other.page.waitForURL((u) => u.pathname === "/login"); // by itself: the page finds out that it may look no longer
  await other.end();
  await v.end();
});
