package stripe

// Catalog is every operation that Keybrake knows. Immutable.
type Catalog struct {
	rows []*Row
}
