// A certified OpenID provider with three people, for the tests. It prints where it is, reads from its standard input where
// the client wants its answers, and then serves until it is ended.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

// The login name is the subject; anything is the password.
const people = {
  ines: { email: "Ines@example.com", email_verified: true },
  mallory: { email: "ines@example.com", email_verified: false },
  nina: { email: "nina@new.example", email_verified: true },
  twin: { email: "ines@example.com", email_verified: true },
};

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  createInterface({ input: process.stdin }).once("line", (redirect) => {
    const provider = new Provider(issuer, {
      clients: [{ client_id: "keybrake", client_secret: "a-secret-of-the-client", redirect_uris: [redirect], post_logout_redirect_uris: [redirect.replace("/openid/return", "")], response_types: ["code"], grant_types: ["authorization_code"] }],
      claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
      conformIdTokenClaims: true, // what the email is must be asked for
      pkce: { required: () => true },
      cookies: { keys: ["of the tests alone"] },
      features: { devInteractions: { enabled: true } },
      findAccount: (_, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
    });
    answer = provider.callback();
    console.log("ready");
  });
  console.log(issuer);
});
