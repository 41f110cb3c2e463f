package upstream

import "github.com/keybrake/keybrake/internal/policy"

// Probe is a call that cannot have an effect, made to find out whether an operation is open: to a vault key at the
// gateway, or to an upstream's own credential at the vendor. It is never a well-formed write: what it names does
// not exist, and what it asks for at the vendor is refused for two more reasons.
type Probe struct {
	Operation policy.OperationName
	Resource  policy.Resource
	Access    policy.Access
	// Needs are further buckets that every call of the operation needs write on.
	Needs []policy.Resource
	// Closed: nothing admits the operation, whatever a policy says (previews).
	Closed bool
	// Account: Path has "{account}" in it, for a connected account; a key needs one on its list.
	Account bool
	// Method, Path and ContentType are the call's; a read has Query.
	Method, Path, Query, ContentType string
	// Body is a write's, as the gateway gets it.
	Body []byte
	// Broken is the body or query at the vendor. Empty for a write: it is not made there at all, because nothing
	// is sure to refuse it before it does something.
	Broken string
	// Permissions are the vendor's names for what opens the operation.
	Permissions []string
}
