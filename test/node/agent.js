// An agent with the unmodified stripe package: one call a line on standard input, what became of it a line on
// standard output. test/sdk/driver_test.go has the words of both.
const readline = require('readline');
const Stripe = require('stripe');

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

async function call(ask) {
  const at = new URL(ask.url);
  const stripe = new Stripe(ask.key, {host: at.hostname, port: at.port, protocol: 'http'});
  const options = {};
  if (ask.idempotency_key) options.idempotencyKey = ask.idempotency_key;
  if (ask.account) options.stripeAccount = ask.account;
  if (ask.version) options.apiVersion = ask.version;
  if (ask.op.includes(' ')) {
    const [method, path] = ask.op.split(' ');
    const params = method === 'POST' ? ask.params : null;
    return stripe.rawRequest(method, path, params, {...options, additionalHeaders: ask.headers || {}});
  }
  const path = ask.op.split('.').map(camel);
  const method = path.pop();
  const resource = path.reduce((at, name) => at[name], stripe);
  const args = ask.id ? [ask.id] : [];
  args.push(ask.params || {}, options);
  return resource[method === 'delete' ? 'del' : method](...args);
}

const lines = readline.createInterface({input: process.stdin});
lines.on('close', () => process.exit()); // without waiting for the SDK's timers
lines.on('line', async (line) => {
  try {
    await call(JSON.parse(line));
    console.log('{}');
  } catch (err) {
    console.log(JSON.stringify({raised: {
      class: err.constructor.name, type: err.rawType, code: err.code, message: err.message, param: err.param,
      status: err.statusCode, request_id: err.requestId, headers: err.headers,
    }}));
  }
});
