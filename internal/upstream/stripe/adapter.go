package stripe

import (
	"fmt"
	"io/fs"
)

// Adapter is Stripe as the data plane sees it (upstream.Adapter). It is immutable after New, but for the
// cache of edges that never change, and safe for concurrent use.
type Adapter struct {
	catalog *Catalog
	edges   edgeCache
}

// New loads the tables. An error means that a row does not parse or names something that does not exist: the
// program must not start with it.
func New() (*Adapter, error) { return newFrom(tableFiles) }

func newFrom(files fs.FS) (*Adapter, error) {
	c, err := loadCatalog(files)
	if err != nil {
		return nil, fmt.Errorf("load Stripe's catalog: %w", err)
	}
	return &Adapter{catalog: c}, nil
}

// Catalog returns every operation with its rules.
func (a *Adapter) Catalog() *Catalog { return a.catalog }
