// Drives Keybrake with the unmodified stripe package and prints one JSON line a step. Every step tells how
// many requests the SDK sent for it.
const Stripe = require('stripe');
const input = JSON.parse(process.argv[2]);
const at = new URL(input.url);

let calls = 0;
function client(key) {
  const stripe = new Stripe(key, {host: at.hostname, port: at.port, protocol: 'http'});
  stripe.on('request', () => { calls++; });
  return stripe;
}

async function step(name, f) {
  calls = 0;
  const line = {step: name};
  try {
    line.detail = String(await f());
    line.ok = true;
  } catch (err) {
    line.ok = false;
    line.detail = err.message;
  }
  line.calls = calls;
  console.log(JSON.stringify(line));
}

(async () => {
  const stripe = client(input.key);
  let intent;

  await step('create', async () => {
    intent = await stripe.paymentIntents.create({
      amount: 2500, currency: 'usd', customer: input.customer, payment_method: 'pm_card_visa', confirm: true, off_session: true,
    });
    if (intent.status !== 'succeeded' || intent.client_secret) throw new Error(JSON.stringify(intent));
    return intent.id;
  });
  await step('list', async () => {
    let n = 0;
    for await (const charge of stripe.charges.list({customer: input.customer, limit: 4})) {
      if (charge.customer !== input.customer) throw new Error(charge.customer);
      n++;
    }
    if (n < 11 || n > 12) throw new Error(`${n} charges`);
    return n;
  });
  let refund;
  await step('refund', async () => {
    refund = await stripe.refunds.create({payment_intent: intent.id, amount: 1000}, {idempotencyKey: 'refund-1'});
    return refund.id;
  });
  await step('retry', async () => {
    const again = await stripe.refunds.create({payment_intent: intent.id, amount: 1000}, {idempotencyKey: 'refund-1'});
    if (again.id !== refund.id) throw new Error(again.id);
    return again.id;
  });
})();

