package contract

// gaps are the operations that Keybrake does not answer as Stripe does, each with its reason. An entry whose
// operation passes fails the test.
var gaps = map[string]string{}
