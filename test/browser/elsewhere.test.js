// Links to the console in other sites' pages, as alerts and messages have them.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { close, open, operator, server, visitor } from "./kit.js";

let elsewhere, at;
before(async () => {
  await open();
  elsewhere = createServer((request, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end(`<!doctype html><title>Elsewhere</title><link rel="icon" href="data:,">
      <a href="${server.admin}/keys?limit=5">to the keys</a>
      <form method="post" action="${server.admin}/stop"><input type="hidden" name="target" value="all"><button>press here</button></form>`);
  });
  await new Promise((listening) => elsewhere.listen(0, "127.0.0.1", listening));
  at = `http://localhost:${elsewhere.address().port}/`; // another site than 127.0.0.1
});
after(async () => { elsewhere.close(); await close(); });

test("who is signed in and follows a link from elsewhere is where it leads", async () => {
  const v = await operator();
  const cookie = (await v.context.cookies()).find((c) => c.name === "keybrake_session");
  assert.equal(cookie.sameSite, "Strict");
  assert.ok(cookie.httpOnly);
  await v.page.goto(at);
  await v.page.getByText("to the keys").click();
  await v.page.getByRole("heading", { level: 1 }).waitFor();
  await v.page.getByRole("button", { name: "Sign out" }).waitFor();
  assert.equal(new URL(v.page.url()).pathname, "/keys");
  await v.end();
});

test("who is not is asked to sign in, and then is where it leads", async () => {
  const v = await visitor();
  await v.page.goto(at);
  await v.page.getByText("to the keys").click();
  await v.page.fill("#token", server.admin_token);
  await v.page.keyboard.press("Enter");
  await v.page.waitForURL((u) => u.pathname === "/keys" && u.search === "?limit=5");
  await v.end();
});

test("a form elsewhere stops nothing", async () => {
  const v = await operator();
  await v.page.goto(at);
  const answered = v.page.waitForResponse((r) => r.url() === server.admin + "/stop");
  await v.page.getByText("press here").click();
  assert.equal((await answered).status(), 403);
  await v.page.goto("/stopped");
  assert.equal(await v.page.getByText("Everything is stopped").count(), 0);
  await v.end();
});
