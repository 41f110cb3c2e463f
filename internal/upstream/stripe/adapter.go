package stripe

// Adapter is Stripe as the data plane sees it (upstream.Adapter). It is immutable after New, but for the
// cache of edges that never change, and safe for concurrent use.
type Adapter struct {
	catalog *Catalog
	edges   edgeCache
}
