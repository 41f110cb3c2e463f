package store

import (
	"time"

	"github.com/keybrake/keybrake/internal/money"
)

// Changed is what nodes that share a store keep of it in memory, as far as it has changed since a node looked last.
type Changed struct {
	// Control is the number of changes so far. If it is what the node knows, nothing has changed, and all lists but the
	// brakes are empty.
	Control int64
	// Height is the number of the last record.
	Height int64
	// At is when the last record was written, by the store's clock.
	At time.Time
	// Brakes are all that are pulled, freezes included.
	Brakes []BrakeRow
	// Keys are those that have changed, oldest first. A key is never deleted.
	Keys []KeyRow
	// The others are whole: what is not there has been deleted.
	Upstreams []UpstreamRow
	Rates     []money.Rate
	Operators []OperatorRow
	Tokens    []TokenRow
	Passes    []PassRow
}
