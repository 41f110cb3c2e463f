// What the tests of the console share: the browser, a page that notices what must not happen, and calls through the gateway.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import Stripe from "stripe";

const require = createRequire(import.meta.url);
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// The server's addresses and the token that signs in; in a store that was lived in also the texts of its keys.
const told = (name) => process.env[name] ? JSON.parse(fs.readFileSync(process.env[name])) : {};
export const server = { ...told("KEYBRAKE_READY"), ...told("KEYBRAKE_LIVED") };

// Where pictures go, if somewhere: KEYBRAKE_SHOTS names a folder.
const shots = process.env.KEYBRAKE_SHOTS;

let browser;
export const open = async () => { browser ??= await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] }); };
export const close = async () => { await browser?.close(); };

export const wide = { width: 1280, height: 900 };
export const phone = { width: 360, height: 780 };

// visitor is a page in a context of its own. faults collects errors on the console, refusals by the content policy and
// scripts that failed: there must be none.
export async function visitor(options = {}) {
  const context = await browser.newContext({ viewport: wide, baseURL: server.admin, permissions: ["clipboard-read", "clipboard-write"], ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const faults = [];
  page.on("console", (m) => { if (m.type() === "error" && !expected.test(m.text())) faults.push(`${page.url()}: ${m.text()}`); });
  page.on("pageerror", (e) => faults.push(`${page.url()}: ${e.message}`));
  return { page, context, faults, async end() { await context.close(); assert.deepEqual(faults, []); } };
}

// A refused form is answered with 4xx, which the browser notes on its console as an error; so is a stream that ends with its page.
const expected = /status of (401|403|404|412|422)|ERR_INCOMPLETE_CHUNKED_ENCODING/;

// operator is a visitor who has signed in with the server's own token.
export async function operator(options = {}) {
  const v = await visitor(options);
  await v.page.goto("/login");
  await v.page.fill("#token", server.admin_token);
  await v.page.click("button.main");
  await v.page.waitForURL((u) => u.pathname === "/");
  return v;
}

// accessible asserts that axe finds nothing at all.
export async function accessible(page) {
  const found = await page.evaluate(`${axe}; axe.run()`);
  const told = found.violations.map((v) => `${v.impact} ${v.id}: ${v.nodes.map((n) => n.html.slice(0, 160)).join(" | ")}`);
  assert.deepEqual(told, [], `${page.url()} has findings`);
}

// fits asserts that nothing sticks out to the side.
export async function fits(page) {
  const [has, shows] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(has <= shows, `${page.url()} is ${has} wide in ${shows}`);
}

export async function shot(page, name) {
  if (!shots) return;
  fs.mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: path.join(shots, name + ".png"), fullPage: true });
  await page.screenshot({ path: path.join(shots, name + "-top.png") });
}

// api asks the admin API as the server's own token.
export async function api(method, at, body) {
  const answer = await fetch(server.admin + "/admin/v1/" + at, {
    method, headers: { Authorization: "Bearer " + server.admin_token, "Content-Type": "application/json" }, body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${at}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : {};
}

// seeded are customers of the sandbox with what they paid, newest first.
export async function seeded() {
  const asked = await fetch(server.sandbox + "/v1/charges?limit=50", { headers: { Authorization: "Bearer sk_test_sandbox" } });
  return (await asked.json()).data.map((c) => ({ charge: c.id, customer: c.customer, amount: c.amount }));
}

// newKey makes a vault key by the API and returns it with its text.
export async function newKey(name, more = {}) {
  return api("POST", "keys", { name, preset: "refund-support", caps: ["refunds/day=100"], customers: ["any"], ...more });
}

// stripe is the ordinary SDK with a vault key.
export function stripe(key) {
  const at = new URL(server.gateway);
  return new Stripe(key, { host: at.hostname, port: at.port, protocol: at.protocol.slice(0, -1), maxNetworkRetries: 0, telemetry: false });
}
