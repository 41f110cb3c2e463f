// What somebody writes against the admin API with a client that is made from its description: types and all.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[]; exit(code: number): never };

const [, , url, token] = process.argv;
const api = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });

function sure<T>(what: string, got: { data?: T; error?: unknown; response: Response }): T {
  if (got.data === undefined) throw new Error(`${what}: ${got.response.status} ${JSON.stringify(got.error)}`);
  return got.data;
}

function equal(what: string, got: unknown, want: unknown): void {
  if (got !== want) throw new Error(`${what} is ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}

const body = { name: "agent-generated-client-1", preset: "refund-support", caps: ["refunds/day=100"], customers: ["any"] };
const once = { params: { header: { "Idempotency-Key": "once" } } };
const made = sure("create", await api.POST("/admin/v1/keys", { body, ...once }));
equal("the key's text", typeof made.key, "string");
const again = sure("create again", await api.POST("/admin/v1/keys", { body, ...once }));
equal("the id of the one that was made", again.id, made.id);
equal("its text, the second time", again.key ?? "", "");

const read = await api.GET("/admin/v1/keys/{key}", { params: { path: { key: made.id } } });
const key = sure("read", read);
equal("its name", key.name, body.name);
const etag = read.response.headers.get("ETag") ?? "";

const lower = { caps: ["refunds/day=50"] };
const edit = (match: string) => api.PATCH("/admin/v1/keys/{key}", { params: { path: { key: made.id }, header: { "If-Match": match } }, body: lower });
sure("edit", await edit(etag));
equal("an edit of what has changed", (await edit(etag)).response.status, 412);

const wrong = await api.POST("/admin/v1/keys", { body: { ...body, name: "agent-generated-client-2", caps: ["refunds/day=a lot"] } });
equal("what is wrong", wrong.error?.errors?.[0]?.location, "body.caps[0]");

const stopped = sure("stop", await api.POST("/admin/v1/kill", { body: { keys: [made.id], reason: "tried" } }));
equal("what is stopped", stopped.stopped?.[0], made.id);
equal("its brake", sure("read it stopped", await api.GET("/admin/v1/keys/{key}", { params: { path: { key: made.id } } })).brake, "stopped");
sure("resume", await api.POST("/admin/v1/resume", { body: { keys: [made.id], reason: "tried" } }));

let records = 0;
for (let after: string | undefined; ; ) {
  const page = sure("audit", await api.GET("/admin/v1/audit", { params: { query: { key: made.id, limit: 2, after } } }));
  records += page.items?.length ?? 0;
  after = page.next;
  if (!after) break;
}
equal("its records", records, 4); // made, changed, stopped, resumed
console.log("done");
